# SPDX-License-Identifier: ISC
#
# network.py - a network of our own, whose packets can be lost, late and refused.
#
# A namespace and a cable to it: what passes there passes the kernel's TCP, with its retransmissions and
# timeouts, which a relay (rough_road.py) cannot show.  Needs root, ip and nft; unavailable() says what is
# missing.  Knows no protocol, and touches no network of the machine's.
"""Cable: the machine is at its .near end, sockets made by .inside() are at its .far end."""
import contextlib
import ctypes
import os
import re
import shutil
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
TABLE = """table inet cable {
    chain in { type filter hook input priority 0; }
    chain out { type filter hook output priority 0; }
}"""


def unavailable():
    """Why there can be no cable here; None: there can."""
    if os.geteuid() != 0:
        return "not root"
    missing = [program for program in ("ip", "nft", "tc") if not shutil.which(program)]
    if missing:
        return f"no {', '.join(missing)}"
    try:
        Cable().remove()
    except AssertionError as error:  # no rights, or a kernel without one of its parts
        return str(error)
    return None


def run(*words, text=None):
    done = subprocess.run(words, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}"
    return done.stdout


def attempt(*words):
    """Whether it went well."""
    return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


class Cable:
    """A good one until it is told otherwise."""

    def __init__(self):
        pid = os.getpid()
        self.name, self._end = f"pgt-{pid}", f"pgt{pid}"
        subnet = f"10.213.{pid // 64 % 256}.{{}}"
        self.near, self.far = (subnet.format(pid % 64 * 4 + n) for n in (1, 2))
        try:
            run("ip", "netns", "add", self.name)
            run("ip", "link", "add", self._end, "type", "veth", "peer", "name", "far", "netns", self.name)
            run("ip", "address", "add", f"{self.near}/30", "dev", self._end)
            run("ip", "link", "set", self._end, "up")
            run("ip", "-n", self.name, "address", "add", f"{self.far}/30", "dev", "far")
            run("ip", "-n", self.name, "link", "set", "far", "up")
            self._nft("-f", "-", text=TABLE)
        except BaseException:
            self.remove()
            raise

    def remove(self):
        attempt("ip", "netns", "delete", self.name)
        attempt("ip", "link", "delete", self._end)  # if it has not gone with the other end

    def _nft(self, *words, text=None):
        return run("ip", "netns", "exec", self.name, "nft", *words, text=text)

    def inside(self, function):
        """What it returns, called at the far end: sockets that it makes stay there."""
        result = []

        def call():
            with open(f"/run/netns/{self.name}", "rb") as namespace:
                assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0
            result.append(function())

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert result, "failed at the far end"
        return result[0]

    def listen(self):
        """A listening socket at the far end."""
        return self.inside(lambda: socket.create_server((self.far, 0), backlog=256))

    def _rule(self, chain, words):
        self._nft("add", "rule", "inet", "cable", chain, *words.split())

    def lose(self, percent):
        """Of the packets of each direction."""
        for chain in ("in", "out"):
            self._rule(chain, f"numgen random mod 100 < {percent} counter drop")

    def lost(self):
        """How many packets that was."""
        shown = self._nft("list", "table", "inet", "cable")
        return sum(map(int, re.findall(r"counter packets (\d+)", shown)))

    def cut(self):
        """Nothing passes, and nobody is told."""
        for chain in ("in", "out"):
            self._rule(chain, "counter drop")

    def refuse(self):
        """What comes is answered by a reset."""
        self._rule("in", "meta l4proto tcp reject with tcp reset")

    def narrow(self, rate):
        """Not more than so much passes to the near end, such as "2mbit"."""
        run("tc", "-n", self.name, "qdisc", "add", "dev", "far", "root", "tbf", "rate", rate, "burst", "8kb", "latency",
            "100ms")

    def delay(self, *words):
        """As tc-netem says; False: the kernel has none."""
        return attempt("tc", "-n", self.name, "qdisc", "add", "dev", "far", "root", "netem", "delay", *words)

    def mend(self):
        self._nft("flush", "chain", "inet", "cable", "in")
        self._nft("flush", "chain", "inet", "cable", "out")
        attempt("tc", "-n", self.name, "qdisc", "delete", "dev", "far", "root")

    @contextlib.contextmanager
    def bad(self, how, *arguments):
        """As the method of that name makes it, for a while; its result."""
        try:
            yield getattr(self, how)(*arguments)
        finally:
            self.mend()
