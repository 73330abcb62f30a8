# SPDX-License-Identifier: ISC
#
# tenants.py - I1 under load: 1,000 connected clients of 50 tenants, each sees only its own.
"""Raw sockets, a thread for each share of the clients; every answer is checked."""
import os
import random
import sys
import threading
import time

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

SECONDS = int(os.environ.get("PGT_SECONDS", "20"))
TENANTS, CLIENTS, THREADS = 50, 1000, 8
CHECK = ("SELECT current_setting('app.current_business_id'), count(*), min(business_id),"
         " max(business_id) FROM ledger")


class Share(threading.Thread):
    """Some of the clients: takes one at random, asks as one or the other protocol, looks."""

    def __init__(self, pooler, numbers, until):
        super().__init__()
        self.pooler, self.numbers, self.until = pooler, numbers, until
        self.checks = self.foreign = self.errors = 0
        self.clients = []

    def log_in(self):
        for number in self.numbers:
            tenant = number % TENANTS
            client = raw.RawClient(self.pooler.port, self.pooler.host, 60.0)
            client.login(f"{USER}.t{tenant}", DATABASE, PASSWORD)
            self.clients.append((client, str(1000 + tenant)))

    def check(self, client, own):
        messages = client.prepared(CHECK) if random.random() < 0.5 else client.query(CHECK)
        rows = [m.row for m in raw.find(messages, "D")]
        self.checks += 1
        if raw.find(messages, "E") or len(rows) != 1:
            self.errors += 1
        elif rows[0] != (own, "20", own, own):
            self.foreign += 1

    def run(self):
        while time.monotonic() < self.until():
            self.check(*random.choice(self.clients))


def prepare(primary):
    primary.sql("CREATE TABLE ledger (business_id text, n int)", dbname=DATABASE)
    primary.sql(f"INSERT INTO ledger SELECT (1000 + t)::text, n FROM generate_series(0, {TENANTS - 1}) t,"
                " generate_series(1, 20) n", dbname=DATABASE)
    primary.sql("ALTER TABLE ledger ENABLE ROW LEVEL SECURITY", dbname=DATABASE)
    primary.sql("CREATE POLICY own ON ledger USING (business_id ="
                " current_setting('app.current_business_id', true))", dbname=DATABASE)
    primary.sql(f"GRANT ALL ON ledger TO {USER}", dbname=DATABASE)


def main():
    table, deadline = Table(), [float("inf")]
    with Stage() as stage:
        primary = stage.primary()
        prepare(primary)
        pooler = stage.turnstile(
            {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 2, "workers": 2,
                             "max_client_conn": CLIENTS + 10, "tenant_by": "user_suffix"},
             "databases": {DATABASE: {"host": primary.host, "port": primary.port}},
             "tiers": {"standard": {"statement_timeout": "30s"}},
             "tenants": {f"t{n}": {"tier": "standard", "business_id": 1000 + n}
                         for n in range(TENANTS)}})
        shares = [Share(pooler, range(i, CLIENTS, THREADS), lambda: deadline[0])
                  for i in range(THREADS)]
        for share in shares:
            share.log_in()
        deadline[0] = time.monotonic() + SECONDS
        for share in shares:
            share.start()
        for share in shares:
            share.join()
        connected = sum(len(share.clients) for share in shares)
        checks = sum(share.checks for share in shares)
        table.add("clients connected, tenants", f"{CLIENTS}, {TENANTS}", f"{connected}, {TENANTS}",
                  connected == CLIENTS)
        foreign, errors = (sum(getattr(s, what) for s in shares) for what in ("foreign", "errors"))
        table.add("foreign rows or ids", 0, f"{foreign} in {checks} checks", not foreign and checks)
        table.add("errors", 0, errors, not errors)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
