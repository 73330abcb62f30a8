# SPDX-License-Identifier: ISC
#
# understudy.py - the two sides of a takeover, played by a test instead of a process.
#
# Knows the words that are spoken (include/worker/offer.h), not what a passport says.
"""Successor and Predecessor: what another version, or one that dies, says and does."""
import os
import socket
import struct

from waiting import wait_until

PACKET_MAX = 65536
FORMAT = 1
CLIENTS, HTTP, PIDFILE, TAKEOVER, LIFE = range(5)


def takeover_socket(pooler):
    return pooler.dir / f".s.pgturnstile.{pooler.port}.takeover"


class _Player:
    """One end of the socket, and the descriptors that have come by it."""

    def __init__(self, sock):
        self.sock, self._fds = sock, []
        sock.settimeout(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.die()

    def die(self):
        """What the kernel does with all that a process has open."""
        self.sock.close()
        while self._fds:
            os.close(self._fds.pop())

    def say(self, word, body=b"", fds=()):
        socket.send_fds(self.sock, [word + body], list(fds))

    def hear(self, *words):
        """The next packet that begins with one of the words: word, body, its descriptor or None."""
        while True:
            packet, fds, _, _ = socket.recv_fds(self.sock, PACKET_MAX, 4)
            self._fds += fds
            if not packet:
                raise EOFError
            if not words or packet[:1] in words:
                return packet[:1], packet[1:], fds[0] if fds else None


class Successor(_Player):
    """Asks a running process for what it has."""

    def __init__(self, pooler):
        # It listens for clients before it listens here.
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wait_until(lambda: sock.connect_ex(str(takeover_socket(pooler))) == 0, 30)
        super().__init__(sock)
        self.offered = []

    def hello(self, form=FORMAT, more=b""):
        """The offer: (kind, name) in order."""
        self.say(b"H", struct.pack("!I", form) + b"a test\0" + more)
        while True:
            word, body, _ = self.hear()
            if word == b"O":
                return self.offered
            assert word == b"L", (word, body)
            self.offered.append((body[0], body[1:body.index(0, 1)].decode()))

    def ready(self, more=b""):
        self.say(b"Y", struct.pack("!I", os.getpid()) + more)

    def session(self):
        """The next one: its number, its passport, its socket."""
        passport = b""
        while True:
            word, body, fd = self.hear(b"S", b"E")
            if word == b"E":
                return body[:8], passport + body[8:], fd
            passport += body


class Predecessor:
    """Has what a successor asks for, and listens where that one looks."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def meet(self):
        """The successor has come, and said hello."""
        sock, _ = self._listener.accept()
        player = _Player(sock)
        word, body, _ = player.hear()
        assert word == b"H" and body[:4] == struct.pack("!I", FORMAT)
        return player


def offered(more=b"", form=FORMAT):
    """The end of an offer."""
    return struct.pack("!II", form, os.getpid()) + more
