# SPDX-License-Identifier: ISC
#
# rough_road.py - a way between a pooler and its peers that can be made bad: slow, torn, deaf, gone.
#
# A small TCP relay in a process of its own, told what to do over a pipe.  Knows no protocol: it counts
# bytes.
"""RoughRoad: listens on `.port`, leads to another; each method changes what is on it from then on."""
import asyncio
import multiprocessing
import random
import signal
import socket
import struct

from machine import Port

PIECE = 65536
MOST_TORN = 600  # bytes of each piece that are sent one by one, so that a large result still passes


def _reset(writer):
    """Ends a connection as a machine that has died does."""
    sock = writer.get_extra_info("socket")
    if sock is not None and not writer.transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class _Link:
    """One connection, both of its halves."""

    def __init__(self, *writers):
        self.writers = writers
        self.left = None     # bytes until it is cut
        self.is_deaf = False  # what is sent is lost, and nobody is told

    def cut(self):
        for writer in self.writers:
            _reset(writer)


class _Relay:
    """What runs in the process."""

    def __init__(self, target, pipe, rng):
        self.target, self.pipe, self.rng = target, pipe, rng
        self.links = set()
        self.delay = 0.0
        self.tears = self.refuses = self.swallows = False

    async def serve(self, listener):
        asyncio.get_running_loop().add_reader(self.pipe.fileno(), self._obey)
        server = await asyncio.start_server(self._accept, sock=listener, limit=PIECE)
        self.pipe.send("ready")
        await server.serve_forever()

    def _obey(self):
        name, *arguments = self.pipe.recv()
        getattr(self, "do_" + name)(*arguments)
        self.pipe.send(name)

    async def _accept(self, reader, writer):
        if self.refuses:
            _reset(writer)
            return
        try:
            other_reader, other_writer = await asyncio.open_connection(*self.target, limit=PIECE)
        except OSError:
            _reset(writer)
            return
        for each in (writer, other_writer):
            each.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(writer, other_writer)
        link.is_deaf = self.swallows
        self.links.add(link)
        try:
            await asyncio.gather(self._pump(link, reader, other_writer),
                                 self._pump(link, other_reader, writer))
        except OSError:
            link.cut()
        finally:
            self.links.discard(link)
            for each in link.writers:
                each.close()

    async def _pump(self, link, reader, writer):
        while data := await reader.read(PIECE):
            if self.delay:
                await asyncio.sleep(self.delay)
            if link.is_deaf:
                continue
            if link.left is not None:
                data, link.left = data[:link.left], link.left - len(data)
            await self._pass(writer, data)
            if link.left is not None and link.left <= 0:
                link.cut()
        if not link.is_deaf:
            writer.close()

    async def _pass(self, writer, data):
        if self.tears:
            at = 0
            while at < min(len(data), MOST_TORN):
                end = at + self.rng.randint(1, 7)
                writer.write(data[at:end])
                await asyncio.sleep(0)
                at = end
            data = data[at:]
        writer.write(data)
        await writer.drain()

    def _some(self, share):
        return [link for link in self.links if self.rng.random() < share]

    def do_slow(self, seconds):
        self.delay = seconds

    def do_tear(self, does):
        self.tears = does

    def do_refuse(self, does):
        self.refuses = does

    def do_swallow(self, does):
        self.swallows = does

    def do_cut(self, share):
        for link in self._some(share):
            link.cut()

    def do_cut_within(self, share, most):
        for link in self._some(share):
            link.left = self.rng.randint(1, most)

    def do_end_cut(self):
        for link in list(self.links):
            if link.left is not None:
                link.cut()

    def do_deafen(self, share):
        for link in self._some(share):
            link.is_deaf = True

    def do_end_deaf(self):
        for link in list(self.links):
            if link.is_deaf:
                link.cut()


def _run(target, listener, pipe, seed):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_Relay(target, pipe, random.Random(seed)).serve(listener))


class RoughRoad:
    """A good road until it is told otherwise."""

    def __init__(self, target, seed=0, listener=None):
        """`target` has .host and .port; `listener`: where it begins, if not on this machine."""
        self._port = Port()
        if listener is None:
            listener = socket.create_server(("127.0.0.1", self._port.number), backlog=256)
        self.host, self.port = listener.getsockname()
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(
            target=_run, args=((target.host, target.port), listener, theirs, seed), daemon=True)
        self._process.start()
        listener.close()
        self._hear()

    def _hear(self):
        assert self._pipe.poll(30), "the relay does not answer"
        return self._pipe.recv()

    def _tell(self, *words):
        self._pipe.send(words)
        self._hear()

    def slow(self, seconds):
        """What arrives is passed on so much later."""
        self._tell("slow", seconds)

    def tear(self, does):
        """Whether bytes come one to seven at a time."""
        self._tell("tear", does)

    def refuse(self, does):
        """Whether new connections are reset at once."""
        self._tell("refuse", does)

    def swallow(self, does):
        """Whether new connections are taken, and nothing on them is answered."""
        self._tell("swallow", does)

    def cut(self, share):
        """Resets a share of the connections, now."""
        self._tell("cut", share)

    def cut_within(self, share, most=2000):
        """Resets a share of the connections, each after some more bytes: in the middle of a message."""
        self._tell("cut_within", share, most)

    def end_cut(self):
        """Resets those that have not come so far."""
        self._tell("end_cut")

    def deafen(self, share):
        """A share of the connections is half open: what is sent on it gets nowhere."""
        self._tell("deafen", share)

    def end_deaf(self):
        """Resets those that are."""
        self._tell("end_deaf")

    def remove(self):
        self._process.terminate()
        self._process.join(10)
        self._port.release()
