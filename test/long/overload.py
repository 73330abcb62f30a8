# SPDX-License-Identifier: ISC
#
# overload.py - ten times as many clients as there are places, whose queries are ten times what the pool
# can run at a time: whether those who are in are served, those who are not are told, and what is left.
#
# The clients are test/integration/storm.c: SCRAM logins that are tried again and again, from one address
# and from five.
"""PGT_SECONDS of storm for each of the two."""
import os
import sys
import threading
import time

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

from rig import memory_kib
from storm import CLIENTS, PLACES, SERVERS, SERVICE, build_storm, overloaded, storm
from turmoil import settle

SECONDS = int(os.environ.get("PGT_SECONDS", "60"))
ADDRESSES = (1, 5)
TRIES = 5           # logins right behind the storm
AT_ONCE = 0.1       # seconds for one of them with its query
GROWTH = 1.10       # of memory, from the first storm, which fills caches, to the second


def log_in(pooler):
    return raw.RawClient(pooler.port).login(USER, DATABASE, PASSWORD)


def watch(server, over, most):
    """The most sessions that the pooler ever had on the server (I5)."""
    while not over.wait(0.1):
        most.append(server.value("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [USER]))


def come_back(pooler):
    """Seconds that a login and a query take, the longest of some."""
    took = []
    for _ in range(TRIES):
        began = time.monotonic()
        with log_in(pooler) as client:
            client.rows("SELECT 2")
        took.append(time.monotonic() - began)
    return max(took)


def play(program, server, pooler, addresses, table):
    """One storm, and a row for each bar."""
    over, sessions = threading.Event(), []
    watcher = threading.Thread(target=watch, args=(server, over, sessions))
    watcher.start()
    shown = storm(program, pooler, SECONDS, CLIENTS, addresses, DATABASE, USER, PASSWORD)
    longest = come_back(pooler)
    over.set()
    watcher.join()
    for line in shown["said"]:
        print("  ", line)
    whole = PLACES / SERVERS * SERVICE  # seconds until all who are in have been served once

    def add(what, *rest):
        table.add(f"{addresses} address{'es'[:addresses * 2 - 2]}: {what}", *rest)

    add("clients in at once, let in, queries served", f"{PLACES} at most, > 0",
        f"{shown['most_in']}, {shown['admitted']}, {shown['served']}",
        shown["most_in"] <= PLACES and shown["served"])
    add("errors of those who are in", 0, shown["failed"], not shown["failed"])
    add("refused with 53300; other ends of a login", "> 0; 0", f"{shown['refused']}; {shown['turned_off']}",
        shown["refused"] and not shown["turned_off"])
    add("until one is refused, median, p99, longest", "<= 1 s",
        ", ".join(f"{shown['refused_' + which] / 1000:.0f} ms" for which in ("median", "p99", "longest")),
        shown["refused_longest"] <= 1_000_000)
    add("until one is let in, longest", "<= 1 s", f"{shown['admitted_longest'] / 1000:.0f} ms",
        shown["admitted_longest"] <= 1_000_000)
    add("until a query is served, median, p99, longest", f"{whole * 1000:.0f} ms in all fairness; p99 twice that",
        ", ".join(f"{shown['served_' + which] / 1000:.0f} ms" for which in ("median", "p99", "longest")),
        shown["served_p99"] <= 2e6 * whole)
    add("sessions on the server", f"<= {SERVERS}", max(sessions), max(sessions) <= SERVERS)
    add("login and query behind the storm, longest", f"<= {AT_ONCE * 1000:.0f} ms", f"{longest * 1000:.0f} ms",
        longest <= AT_ONCE)


def main():
    table, program = Table(), build_storm()
    with Stage() as stage:
        server = stage.primary()
        pooler = stage.turnstile({
            "pgturnstile": {"pool_mode": "transaction", "server_tls_sslmode": "disable", "workers": 2,
                            **overloaded()},
            "databases": {DATABASE: {"host": server.host, "port": server.port}}})
        come_back(pooler)
        idle, kib = settle(pooler, 10_000)[1], []
        for addresses in ADDRESSES:
            play(program, server, pooler, addresses, table)
            after = settle(pooler, idle + SERVERS)
            kib.append(after[0])
        table.add("memory behind the second storm against behind the first", f"<= {GROWTH}", f"KiB: {kib}",
                  kib[1] <= kib[0] * GROWTH)
        table.add("descriptors before, and afterwards with idle servers", f"<= {SERVERS} more",
                  f"{idle}, {after[1]}", after[1] <= idle + SERVERS)
        pooler.stop()
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
