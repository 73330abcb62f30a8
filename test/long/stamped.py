# SPDX-License-Identifier: ISC
#
# stamped.py - clients whose log says when bytes arrived, not when somebody got round to reading them.
#
# Knows how to ask and to measure; what is asked, and what comes of it, is the suites'.
"""A client that waits for its turn on a busy machine takes the wait for the server's.  The kernel's
stamp of arrival (SO_TIMESTAMPNS) has no such share, so these figures hold whatever else runs."""
import contextlib
import os
import selectors
import struct
import time
from pathlib import Path

from stage import DATABASE, PASSWORD, raw

_STAMPS = 35  # SO_TIMESTAMPNS
_READY = b"Z\0\0\0\x05"


def come_first(pid):
    """Before whatever else runs, where we may say so; niceness ends at the session, so it is no help."""
    for task in Path(f"/proc/{pid}/task").iterdir() if os.geteuid() == 0 else []:
        os.sched_setscheduler(int(task.name), os.SCHED_RR, os.sched_param(1))


@contextlib.contextmanager
def coming_first():
    """The same for this thread, for the block."""
    if os.geteuid() != 0:
        yield
        return
    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _stamp(extras):
    """Bytes that came while they were read have none."""
    if not extras:
        return time.time_ns()
    seconds, nanoseconds = struct.unpack("qq", extras[0][2])
    return seconds * 10**9 + nanoseconds


class _Client:
    """One session, which asks `steps` one after the other, again and again."""

    def __init__(self, stack, pooler, user, setup, steps):
        session = stack.enter_context(raw.RawClient(pooler.port, pooler.host, 60.0))
        session.login(user, DATABASE, PASSWORD)
        if setup:
            session.send(setup)
            session.until("Z")
        self.sock, self.steps = session.sock, steps
        self.sock.setsockopt(1, _STAMPS, 1)
        self.step, self.begun, self.came = 0, 0, b""

    def ask(self):
        if self.step == 0:
            self.begun = time.time_ns()
        self.sock.sendall(self.steps[self.step])

    def hear(self):
        """(begun, ended) in nanoseconds when the last step is answered; else None."""
        data, extras, _, _ = self.sock.recvmsg(65536, 64)
        assert data, "the pooler hung up"
        self.came += data
        assert not self.came.startswith(b"E"), self.came
        if self.came[-6:-1] != _READY:
            return None
        self.came = b""
        self.step += 1
        if self.step < len(self.steps):
            self.ask()
            return None
        self.step = 0
        return self.begun, _stamp(extras)


def run(pooler, user, steps, clients, seconds, setup=b""):
    """[(begun, ended)] of each round of the steps, in nanoseconds of the clock on the wall.

    setup, and each of steps, are the bytes of one request; what is under way at the end is waited for.
    """
    log, end = [], time.time_ns() + int(seconds * 10**9)
    with contextlib.ExitStack() as stack:
        stack.enter_context(coming_first())
        selector = stack.enter_context(selectors.EpollSelector())
        sessions = [_Client(stack, pooler, user, setup, steps) for _ in range(clients)]
        for client in sessions:
            selector.register(client.sock, selectors.EVENT_READ, client)
            client.ask()
        while sessions:
            for key, _ in selector.select(60):
                client = key.data
                done = client.hear()
                if not done:
                    continue
                log.append(done)
                if done[1] < end:
                    client.ask()
                else:
                    selector.unregister(client.sock)
                    sessions.remove(client)
    return log


def microseconds(log):
    """How long each of them took, the shortest first."""
    return sorted((ended - begun) / 1000 for begun, ended in log)
