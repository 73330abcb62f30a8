#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# takeover.py - one process after the other takes over, under load.
#
# Idle clients have a session that must be the same behind each takeover; busy ones never rest but
# between two transactions.  Those with TLS stay in the old process, which ends when they have left,
# and are counted apart.
"""No error, no connection dropped, over many takeovers in a row; how long busy clients wait then."""
import contextlib
import os
import resource
import select
import sys
import threading
import time

import psycopg

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from certificates import issue, make_authority  # noqa: E402 - stage.py says where

TAKEOVERS = int(os.environ.get("PGT_TAKEOVERS", "20"))
IDLE = int(os.environ.get("PGT_IDLE", "300"))
BUSY = int(os.environ.get("PGT_BUSY", "100"))
SECURED = int(os.environ.get("PGT_SECURED", "20"))
POOL, WORKERS = 20, 2
# Transactions of a busy client, in turn.
PARTS = [[raw.query("SELECT 2")],
         [raw.query("BEGIN"), raw.query("SELECT count(*) FROM pg_class"), raw.query("COMMIT")],
         [raw.bind("", "sum", ["40"]) + raw.execute() + raw.sync()]]


class Busy(threading.Thread):
    """Clients that send their next request when the last one is answered."""

    def __init__(self, clients):
        super().__init__(daemon=True)
        self._clients = {c.sock.fileno(): c for c in clients}
        self._over = threading.Event()
        self.waits, self.errors, self.dropped = [], [], 0

    def _send(self, client, turn):
        parts = PARTS[turn % len(PARTS)]
        client.send(*parts)
        return turn, len(parts), time.monotonic()

    def run(self):
        poll = select.poll()
        under_way = {}
        for number, (fd, client) in enumerate(self._clients.items()):
            poll.register(fd, select.POLLIN)
            under_way[fd] = self._send(client, number)
        while under_way:
            ready = poll.poll(30000)
            if not ready:
                self.errors.append("nobody was answered for 30 s")
                return
            for fd, _ in ready:
                client = self._clients[fd]
                turn, owed, since = under_way[fd]
                try:
                    for _ in range(owed):
                        self.errors.extend(str(e.fields) for e in raw.find(client.until("Z"), "E"))
                except (EOFError, OSError):
                    self.dropped += 1
                    poll.unregister(fd)
                    del under_way[fd]
                    continue
                now = time.monotonic()
                self.waits.append((now, now - since))
                if self._over.is_set():
                    del under_way[fd]
                else:
                    under_way[fd] = self._send(client, turn + 1)

    def stop(self):
        self._over.set()
        self.join()


def p99(waits):
    return sorted(waits)[len(waits) * 99 // 100] * 1000 if waits else float("nan")


def session_of(client):
    """What an idle client's session has, as it sees it; raises when it has been dropped."""
    client.send(raw.bind("", "sum", ["1"]), raw.execute(), raw.sync())
    answers = client.until("Z")
    return (raw.find(answers, "D")[0].row, client.rows("SHOW work_mem"),
            client.rows("SHOW application_name"))


def check(clients, expected):
    """How many have been dropped, how many are not what they were."""
    dropped = others = 0
    for client, was in zip(clients, expected):
        try:
            others += session_of(client) != was
        except (EOFError, OSError, IndexError):
            dropped += 1
    return dropped, others


class Secured:
    """Clients with TLS of one process, through its takeover and for a while behind it."""

    dropped = others = served = 0

    def __init__(self, pooler):
        self._clients = [psycopg.connect(host=pooler.host, port=pooler.port, dbname=DATABASE, user=USER,
                                         password=PASSWORD, sslmode="require", autocommit=True)
                         for _ in range(SECURED)]
        for number, client in enumerate(self._clients):
            client.execute(f"SET work_mem = '{number + 100}kB'")

    def leave(self):
        """When each has been served once more, in a transaction of its own."""
        for number, client in enumerate(self._clients):
            try:
                with client.transaction():
                    client.execute("SELECT count(*) FROM pg_class")
                    was = client.execute("SHOW work_mem").fetchone()
                Secured.others += was != (f"{number + 100}kB",)
                Secured.served += 1
            except psycopg.Error:
                Secured.dropped += 1
            client.close()


def main():
    table = Table()
    where = make_authority()
    issue(where, "server", "localhost")
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(
        resource.RLIMIT_NOFILE)[1]),) * 2)
    with Stage() as stage, contextlib.ExitStack() as clients:
        primary = stage.primary()
        t = stage.turnstile({
            "pgturnstile": {"pool_mode": "transaction", "default_pool_size": POOL,
                            "workers": WORKERS, "max_client_conn": IDLE + BUSY + SECURED + 100,
                            "server_tls_sslmode": "disable", "listen_backlog": 1024,
                            "client_tls_sslmode": "allow", "client_tls_key_file": where / "server.key",
                            "client_tls_cert_file": where / "server.crt"},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}}})

        def log_in(number):
            client = clients.enter_context(raw.RawClient(t.port, t.host, 60).login(
                USER, DATABASE, PASSWORD, application_name=f"client {number}"))
            client.send(raw.parse("sum", "SELECT 2 + $1::int"), raw.sync())
            client.until("Z")
            client.query(f"SET work_mem = '{number + 100}kB'")
            return client

        idle = [log_in(n) for n in range(IDLE)]
        expected = [session_of(c) for c in idle]
        busy = Busy([log_in(n) for n in range(BUSY)])
        busy.start()
        time.sleep(3)
        quiet = [took for _, took in busy.waits]
        spans, slow = [], 0
        for _ in range(TAKEOVERS):
            secured = Secured(t)
            began = time.monotonic()
            before = t.take_over()
            secured.leave()
            try:
                before.wait(30)
            except Exception:  # pylint: disable=broad-except
                slow += 1
            spans.append((began, time.monotonic()))
            time.sleep(0.5)
        busy.stop()
        dropped, others = check(idle, expected)
        within = [took for at, took in busy.waits if any(a <= at <= b + 1 for a, b in spans)]
        table.add("takeovers in a row", TAKEOVERS, TAKEOVERS - slow, not slow)
        table.add("errors of busy clients", 0, len(busy.errors), not busy.errors)
        table.add("busy connections dropped", 0, busy.dropped, not busy.dropped)
        table.add("idle connections dropped", 0, dropped, not dropped)
        table.add("idle sessions that are others", 0, others, not others)
        table.add("TLS connections dropped", 0, Secured.dropped, not Secured.dropped)
        table.add("TLS sessions that are others", 0, Secured.others, not Secured.others)
        table.add("TLS clients served on by the old process", TAKEOVERS * SECURED, Secured.served,
                  Secured.served == TAKEOVERS * SECURED)
        table.add("transactions of busy clients", "", len(busy.waits), len(busy.waits) > 1000)
        table.add("old process gone after, at most", "", f"{max(b - a for a, b in spans):.2f} s", True)
        table.add("p99 of busy clients before", "", f"{p99(quiet):.1f} ms", True)
        table.add("p99 within those seconds", "", f"{p99(within):.1f} ms", True)
        table.add("longest wait within them", "", f"{max(within) * 1000:.0f} ms", True)
        for error in busy.errors[:5]:
            print(error)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
