# SPDX-License-Identifier: ISC
#
# scrapes.py - what a scrape of /metrics costs the traffic: 10,000 tenants in use, under full load.
"""Rounds with and without a scraper take turns, each pair in another order, and medians count, so that
what else the machine does hits both.  Reading a scrape is not the product's cost: the scraper is niced."""
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from machine import Port, scratch_dir

SECONDS = int(os.environ.get("PGT_SECONDS", "10"))
SCRAPE_EVERY = 5
ROUNDS, TENANTS, SESSIONS, CLIENTS = 8, 10_000, 500, 16
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


class Scraper(threading.Thread):
    """Asks every five seconds until it is told to stop; Prometheus does every fifteen or so."""

    def __init__(self, port):
        super().__init__()
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.ends = threading.Event()
        self.took = []

    def run(self):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        while not self.ends.wait(SCRAPE_EVERY / 2 if not self.took else SCRAPE_EVERY):
            begun = time.monotonic()
            with urllib.request.urlopen(self.url, timeout=30) as answer:
                answer.read()
            self.took.append(time.monotonic() - begun)


def load(pooler):
    """Microseconds that 99 % of pgbench's transactions did not exceed."""
    directory = scratch_dir("scrapes")
    (directory / "script.sql").write_text("SELECT pg_sleep(0.002);")
    subprocess.run(["pgbench", "-n", "-h", pooler.host, "-p", str(pooler.port), "-U",
                    f"{USER}.tenant_1", "-c", str(CLIENTS), "-T", str(SECONDS), "-l", "-f",
                    "script.sql", DATABASE], cwd=directory, check=True,
                   env={**os.environ, "PGPASSWORD": PASSWORD}, stdout=subprocess.DEVNULL)
    log = sorted(int(line.split()[2]) for file in Path(directory).glob("pgbench_log.*")
                 for line in file.read_text().splitlines())
    return log[len(log) * 99 // 100]


def load_scraped(pooler, port, took):
    """The same while metrics are scraped; adds how long that took, in seconds."""
    scraper = Scraper(port.number)
    scraper.start()
    try:
        return load(pooler)
    finally:
        scraper.ends.set()
        scraper.join()
        took += scraper.took


def main():
    table, port = Table(), Port()
    with Stage() as stage:
        pooler = stage.turnstile(config(stage.primary(), port.number))
        use_all(stage, pooler)
        quiet, scraped, took = [], [], []
        for turn in range(ROUNDS):
            if turn % 2:
                quiet.append(load(pooler))
            scraped.append(load_scraped(pooler, port, took))
            if not turn % 2:
                quiet.append(load(pooler))
        change = statistics.median(b / a for a, b in zip(quiet, scraped)) - 1
        table.add("p99 in µs: without, with a scrape every five seconds", "<= 5 % more",
                  f"{statistics.median(quiet):.0f}, {statistics.median(scraped):.0f} ({change:+.1%})",
                  change <= 0.05)
        table.add(f"a scrape of {len(took)}, ms: median, longest", "<= 1000",
                  f"{statistics.median(took) * 1000:.0f}, {max(took) * 1000:.0f}", max(took) <= 1)
    port.release()
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
