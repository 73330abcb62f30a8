# SPDX-License-Identifier: ISC
#
# limits.py - limits that hold: a rate under twenty clients (I10), a quota over restarts.
"""Threads with a psycopg connection each; what was served is counted by who was served."""
import os
import re
import signal
import sys
import threading
import time

import psycopg

from stage import DATABASE, PASSWORD, USER, Stage, Table
from machine import scratch_dir

SECONDS = int(os.environ.get("PGT_SECONDS", "30"))
RATE, BURST, CLIENTS = 100, 20, 20
QUOTA, LIVES = 500, 4


def config(primary, tier, settings=None):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 10, "workers": 2,
                            "tenant_by": "user_suffix", **(settings or {})},
            "databases": {f"{DATABASE}{n}": {"host": primary.host, "port": primary.port,
                                             "dbname": DATABASE} for n in range(4)},
            "tiers": {"basic": tier},
            "tenants": {"acme": {"tier": "basic", "business_id": 42}}}


class Client(threading.Thread):
    """Asks without a pause until it is told to stop; after a refusal it waits as long as that says.

    Every fifth one asks in transactions of two statements, of which BEGIN and COMMIT cost as well.
    """

    def __init__(self, pooler, number):
        super().__init__()
        self.connection = pooler.connect(f"{DATABASE}{number % 4}", f"{USER}.acme", PASSWORD)
        self.connection.prepare_threshold = None
        self.in_transactions = number % 5 == 0
        self.served = self.refused = self.in_the_middle = 0
        self.longest = 0.0
        self.stops = False

    def ask(self, text, is_first):
        began = time.monotonic()
        try:
            self.connection.execute(text)
            self.served += 1
            self.longest = max(self.longest, time.monotonic() - began)
            return True
        except psycopg.Error as error:
            if not is_first or error.sqlstate != "53400":
                self.in_the_middle += 1
                return False
            self.refused += 1
            detail = re.match(r"limit=rate retry_after_ms=(\d+) tenant=acme$",
                              error.diag.message_detail or "")
            time.sleep(int(detail[1]) / 1000)
            return False

    def transaction(self):
        # As a simple query it is answered before it is asked for, so the next statement is the first.
        self.connection.execute("BEGIN")
        if not self.ask("SELECT 2", True):
            self.connection.execute("ROLLBACK")
            return
        self.served += 1
        for text in ("SELECT 3", "COMMIT"):
            self.ask(text, False)

    def run(self):
        while not self.stops:
            if self.in_transactions:
                self.transaction()
            else:
                self.ask("SELECT 2", True)
        self.connection.close()


def hold_rate(stage, table, primary, wait):
    how = "who waits" if wait else "who is refused and comes again"
    pooler = stage.turnstile(config(primary, {"rate": f"{RATE}/s", "burst": BURST,
                                              "rate_limit_wait": wait}))
    clients = [Client(pooler, n) for n in range(CLIENTS)]
    began = time.monotonic()
    for client in clients:
        client.start()
    time.sleep(max(0, began + SECONDS - time.monotonic()))
    served = sum(client.served for client in clients)
    took = time.monotonic() - began
    for client in clients:
        client.stops = True
    for client in clients:
        client.join()
    expected = RATE * SECONDS + BURST
    table.add(f"served at {RATE}/s, burst {BURST}, in {took:.2f} s, {CLIENTS} clients, {how}",
              f"{expected} within 1 %", f"{served} ({100 * served / expected - 100:+.2f} %)",
              abs(served - expected) <= expected / 100)
    if wait:
        # Each comes after nineteen at most, four of which cost four, and threads take turns.
        longest, refused = max(c.longest for c in clients), sum(c.refused for c in clients)
        table.add(f"longest wait, and refusals, {how}", "2 s, 0", f"{longest:.2f} s, {refused}",
                  longest <= 2 and not refused)
    table.add(f"errors in the middle of a transaction, {how}", 0,
              f"{sum(c.in_the_middle for c in clients)}, {sum(c.refused for c in clients)} refused "
              "at the start", not any(c.in_the_middle for c in clients))


def spend(pooler, most):
    """How many statements were served: eight clients ask, at most `most` of them, or until the end."""
    served, lock = [0], threading.Lock()

    def use(number):
        with pooler.connect(f"{DATABASE}{number % 4}", f"{USER}.acme", PASSWORD) as connection:
            while True:
                with lock:
                    if served[0] == most:
                        return
                    served[0] += 1
                try:
                    connection.execute("SELECT 2")
                except psycopg.errors.ConfigurationLimitExceeded:
                    with lock:
                        served[0] -= 1
                    return

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return served[0]


def hold_quota(stage, table, primary):
    """A part in each life, all that is left in the last."""
    pooler = stage.turnstile(config(primary, {"quota": f"100000/h,{QUOTA}/d"},
                                    {"state_dir": scratch_dir("state")}))
    served = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)[:LIVES - 1]:
        served.append(spend(pooler, QUOTA // LIVES))
        pooler.signal(number)
        pooler.wait_exit()
        pooler.start()
    served.append(spend(pooler, 2 * QUOTA))
    table.add(f"served of a quota of {QUOTA}/d over {LIVES - 1} restarts", QUOTA,
              f"{sum(served)} ({' + '.join(map(str, served))})", sum(served) == QUOTA)


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        hold_rate(stage, table, primary, "10s")
        hold_rate(stage, table, primary, 0)
        hold_quota(stage, table, primary)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
