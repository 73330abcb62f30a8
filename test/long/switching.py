# SPDX-License-Identifier: ISC
#
# switching.py - what a change of tenants costs in a shared pool: CPU of PostgreSQL and the pooler,
# against the same load without tenants.
"""Clients of many tenants, a few of them at a time; who comes next is chosen at random."""
import os
import random
import selectors
import statistics
import sys
import time
from pathlib import Path

from stage import DATABASE, USER, Stage, Table, raw

SECONDS = int(os.environ.get("PGT_SECONDS", "5"))
ROUNDS, CLIENTS, LANES, SERVERS = 5, 200, 16, 20
QUERY = raw.query("SELECT abalance FROM pgbench_accounts WHERE aid = 4711")


def cpu_ns(pid):
    """Nanoseconds that a process has used, by the scheduler's own account."""
    return sum(int((task / "schedstat").read_text().split()[0])
               for task in Path(f"/proc/{pid}/task").iterdir())


def children(pid):
    return [int(child) for child in
            Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class Load:
    """LANES requests under way; a lane stays with its client for a share of its transactions."""

    def __init__(self, pooler, repeats, users):
        self.repeats, self.rng = repeats, random.Random(1)
        self.idle = []
        for user in users:
            client = raw.RawClient(pooler.port)
            client.login(user, DATABASE)
            self.idle.append(client)

    def run(self, seconds):
        """Transactions in that time."""
        selector, done, until = selectors.DefaultSelector(), 0, time.monotonic() + seconds
        for _ in range(LANES):
            self.start(selector, self.take())
        while selector.get_map():
            for key, _ in selector.select():
                client = key.fileobj.client
                data = client.sock.recv(65536)
                assert data, "the pooler has closed a connection"
                if data[-6:-1] != b"Z\0\0\0\5":
                    continue
                assert b"ERROR" not in data, data
                done += 1
                selector.unregister(key.fileobj)
                if self.rng.random() >= self.repeats:
                    self.idle.append(client)
                    client = self.take()
                if time.monotonic() < until:
                    self.start(selector, client)
                else:
                    self.idle.append(client)
        return done

    def take(self):
        i = self.rng.randrange(len(self.idle))
        self.idle[i], self.idle[-1] = self.idle[-1], self.idle[i]
        return self.idle.pop()

    @staticmethod
    def start(selector, client):
        client.send(QUERY)
        selector.register(Lane(client), selectors.EVENT_READ)


class Lane:
    """What a selector is told of a client."""

    def __init__(self, client):
        self.client = client

    def fileno(self):
        return self.client.sock.fileno()


def measure(load, primary, pooler):
    """CPU microseconds of all servers and the pooler, each transaction."""
    before = {pid: cpu_ns(pid) for pid in children(primary.pid())}
    pooler_before = cpu_ns(pooler.pid())
    done = load.run(SECONDS)
    servers = sum(cpu_ns(pid) - at for pid, at in before.items())
    return servers / done / 1000, (cpu_ns(pooler.pid()) - pooler_before) / done / 1000


def make_accounts(primary):
    for statement in ["CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, abalance int)",
                      "INSERT INTO pgbench_accounts SELECT n, 0 FROM generate_series(1, 100000) n",
                      f"GRANT ALL ON pgbench_accounts TO {USER}"]:
        primary.sql(statement, dbname=DATABASE)


def configuration(primary, **settings):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": SERVERS, "workers": 1,
                            "auth_type": "trust", "max_client_conn": 2 * CLIENTS, **settings},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}}}


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        make_accounts(primary)
        plain = stage.turnstile(configuration(primary))
        shared = stage.turnstile({
            **configuration(primary, tenant_by="user_suffix", tenant_pool="shared"),
            "tiers": {"standard": {"statement_timeout": "30s"}},
            "tenants": {f"t{n}": {"tier": "standard", "business_id": 1000 + n}
                        for n in range(CLIENTS)}})
        tenants = [f"{USER}.t{n}" for n in range(CLIENTS)]
        # Of a client that comes again at once the server still carries the id.
        loads = {"no tenants": (plain, Load(plain, 0, [USER] * CLIENTS)),
                 "random": (shared, Load(shared, 0, tenants)),
                 "90 % repeats": (shared, Load(shared, 0.9, tenants))}
        cost = {name: [] for name in loads}
        for _ in range(ROUNDS):
            for name, (pooler, load) in loads.items():
                cost[name].append(measure(load, primary, pooler))
        for name, asked in (("random", 1.6), ("90 % repeats", 1.1)):
            ratio = statistics.median(sum(a) / sum(b) for a, b in
                                      zip(cost[name], cost["no tenants"]))
            servers, pooler = (statistics.median(c[i] for c in cost[name]) for i in (0, 1))
            base = [statistics.median(c[i] for c in cost["no tenants"]) for i in (0, 1)]
            table.add(f"CPU with {name} tenants / without", f"≤ {asked}",
                      f"{ratio:.2f} (servers {servers:.1f} / {base[0]:.1f} µs, pooler"
                      f" {pooler:.1f} / {base[1]:.1f} µs)", ratio <= asked)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
