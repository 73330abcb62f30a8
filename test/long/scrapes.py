# SPDX-License-Identifier: ISC
#
# scrapes.py - what a scrape of /metrics costs the traffic: 10,000 tenants in use, under full load.
"""Of one load, turns of five seconds with a scrape and without one, in an order that drift does not
favour (ABBA), are compared pair by pair.  Reading a scrape is not the product's cost: the scraper is
niced."""
import os
import statistics
import sys
import threading
import time
import urllib.request

import stamped
from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from machine import Port

# Each has two turns.
PAIRS = int(os.environ.get("PGT_PAIRS", "16"))
TURN = 5
TENANTS, SESSIONS, CLIENTS = 10_000, 500, 16
SETTING = "app.current_business_id"


def config(primary, port):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 10, "workers": 2,
                            "tenant_by": ["user_suffix", "set"], "tenant_pool": "shared",
                            "max_client_conn": 1000, "http_listen": port, "log_connections": 0,
                            "log_disconnections": 0, "server_tls_sslmode": "disable"},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}},
            "users": {USER: {"tenant_switch": "yes"}},
            "tiers": {"standard": {"statement_timeout": "30s"}},
            "tenants": {f"tenant_{n}": {"tier": "standard", "business_id": n}
                        for n in range(1, TENANTS + 1)}}


def use_all(stage, pooler):
    """Each tenant has sent one statement; sessions of some stay."""
    for first in range(SESSIONS):
        client = stage.enter_context(raw.RawClient(pooler.port, pooler.host, 120.0))
        client.login(f"{USER}.tenant_{first + 1}", DATABASE, PASSWORD)
        for n in range(first + 1, TENANTS + 1, SESSIONS):
            client.send(raw.query(f"SET {SETTING} = '{n}'"), raw.query("SELECT 2"))
            assert raw.kinds(client.until("Z")) == "CZ"
            client.until("Z")


def is_scraped(turn):
    """Of ABBA ABBA …: whether this one has a scrape."""
    return turn % 4 in (1, 2)


class Scraper(threading.Thread):
    """Asks in the middle of each turn that has a scrape; Prometheus does it three times less often."""

    def __init__(self, port):
        super().__init__()
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.begun = time.time()
        self.took, self.bytes, self.ends = [], 0, threading.Event()

    def run(self):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        for turn in range(2 * PAIRS):
            at = self.begun + (turn + 0.5) * TURN
            if self.ends.wait(max(0, at - time.time())):
                return
            if is_scraped(turn):
                begun = time.monotonic()
                with urllib.request.urlopen(self.url, timeout=30) as answer:
                    self.bytes = len(answer.read())
                self.took.append(time.monotonic() - begun)


def p99(log):
    return stamped.microseconds(log)[len(log) * 99 // 100]


def turns_of(log, begun):
    """What was asked in each turn."""
    turns = [[] for _ in range(2 * PAIRS)]
    for entry in log:
        turn = int((entry[0] / 1e9 - begun) / TURN)
        if 0 <= turn < len(turns):
            turns[turn].append(entry)
    return turns


def main():
    table, port = Table(), Port()
    with Stage() as stage:
        pooler = stage.turnstile(config(stage.primary(), port.number))
        stamped.come_first(pooler.pid())
        use_all(stage, pooler)
        scraper = Scraper(port.number)
        scraper.start()
        try:
            log = stamped.run(pooler, f"{USER}.tenant_1", [raw.query("SELECT pg_sleep(0.002)")], CLIENTS,
                              2 * PAIRS * TURN)
        finally:
            scraper.ends.set()
            scraper.join()
        figures = [p99(turn) for turn in turns_of(log, scraper.begun)]
        quiet = [f for turn, f in enumerate(figures) if not is_scraped(turn)]
        scraped = [f for turn, f in enumerate(figures) if is_scraped(turn)]
        change = statistics.median(b / a for a, b in zip(quiet, scraped)) - 1
        table.add(f"p99 in µs of {len(log)}: without, with a scrape in five seconds", "<= 5 % more",
                  f"{statistics.median(quiet):.0f}, {statistics.median(scraped):.0f} ({change:+.1%})",
                  change <= 0.05)
        took = scraper.took
        table.add(f"a scrape of {len(took)} ({scraper.bytes // 1000} kB), ms: median, longest", "<= 1000",
                  f"{statistics.median(took) * 1000:.0f}, {max(took) * 1000:.0f}", max(took) <= 1)
    port.release()
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
