# SPDX-License-Identifier: ISC
#
# fence.py - I4 by numbers: 100 clients read what they have just written, behind a replica that replays
# everything 1.5 seconds late; and with nobody writing, where reads go.
"""PGT_READS changes how many reads of each variant (20,000 over all of them), PGT_CLIENTS who reads."""
import os
import random
import sys
import threading
import time

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from waiting import wait_until

READS = int(os.environ.get("PGT_READS", "3000"))
CLIENTS = int(os.environ.get("PGT_CLIENTS", "100"))
TENANTS = 10
DELAY = "1500ms"
# One read in so many comes later, up to so many seconds: about when the replica has what was written, and behind that.
LATE, LATEST = 10, 3.0
WRITE = "UPDATE written SET n = {1} WHERE id = {0}"
READ = "SELECT n, current_setting('test.port') FROM written WHERE id = {0}"


def simple(client, sql):
    client.send(raw.query(sql))


def extended(client, sql):
    client.send(raw.parse("", sql), raw.bind(), raw.execute(), raw.sync())


def answer(client, send, sql):
    """The one row, if there is one; errors end the run."""
    send(client, sql)
    got = client.until("Z")
    errors = raw.find(got, "E")
    assert not errors, errors[0].fields
    rows = raw.find(got, "D")
    return rows[0].row if rows else None


def write_alone(client, send, row, n):
    answer(client, send, WRITE.format(row, n))


def write_in_transaction(client, send, row, n):
    answer(client, send, "BEGIN")
    answer(client, send, f"SELECT n FROM written WHERE id = {row}")
    answer(client, send, WRITE.format(row, n))
    answer(client, send, "COMMIT")


def read_alone(client, send, row):
    return answer(client, send, READ.format(row))


def read_in_transaction(client, send, row):
    answer(client, send, "BEGIN READ ONLY")
    got = answer(client, send, READ.format(row))
    answer(client, send, "COMMIT")
    return got


class Pair(threading.Thread):
    """Writes on one session and reads at once on another (or the same one), over and over."""

    def __init__(self, pooler, number, variant, reads, ports):
        super().__init__(daemon=True)
        self.pooler, self.number, self.reads, self.ports = pooler, number, reads, ports
        self.send, self.write, self.read, self.unit = variant
        self.rng = random.Random(number)
        self.stale, self.done, self.failed = [], 0, None
        self.on_replica = 0

    def user(self):
        return f"{USER}.t{self.number % TENANTS}" if self.unit == "tenant" else USER

    def log_in(self):
        return raw.RawClient(self.pooler.port, self.pooler.host, 60.0).login(self.user(), DATABASE, PASSWORD)

    def run(self):
        try:
            with self.log_in() as writer, self.log_in() as other:
                reader = writer if self.unit == "session" else other
                for n in range(self.reads):
                    self.step(writer, reader, n)
        except (AssertionError, OSError, EOFError, raw.LoginRefused) as error:
            self.failed = repr(error)

    def step(self, writer, reader, n):
        self.write(writer, self.send, self.number, n)
        if not self.rng.randrange(LATE):
            time.sleep(self.rng.uniform(0, LATEST))
        got, port = self.read(reader, self.send, self.number)
        self.done += 1
        self.on_replica += int(port) == self.ports[1]
        if int(got) != n:
            self.stale.append((self.number, n, got, port))


VARIANTS = {
    "tenant, simple": (simple, write_alone, read_alone, "tenant"),
    "tenant, extended": (extended, write_alone, read_alone, "tenant"),
    "tenant, transactions": (simple, write_in_transaction, read_in_transaction, "tenant"),
    "tenant, extended transactions": (extended, write_in_transaction, read_alone, "tenant"),
    "user, simple": (simple, write_alone, read_alone, "user"),
    "session, simple": (simple, write_alone, read_alone, "session"),
    "session, extended transactions": (extended, write_in_transaction, read_in_transaction, "session"),
}


def config(primary, replica, unit):
    tenants = {} if unit != "tenant" else {
        "pgturnstile": {"tenant_by": "user_suffix", "tenant_setting": "app.tenant"},
        "tenants": {f"t{n}": f"business_id={n}" for n in range(TENANTS)}}
    settings = {"pool_mode": "transaction", "default_pool_size": 8, "max_client_conn": 500,
                "server_tls_sslmode": "disable", "monitor_user": USER, "workers": 3,
                "monitor_interval": "200ms", "max_replica_lag": "0",
                "read_your_writes": "session" if unit == "session" else "tenant"}
    return {**tenants, "pgturnstile": {**settings, **tenants.get("pgturnstile", {})},
            "databases": {DATABASE: {"host": f"{primary.host},{replica.host}",
                                     "port": f"{primary.port},{replica.port}"}}}


def measure(table, stage, nodes, name, variant):
    pooler = stage.turnstile(config(*nodes, variant[-1]))
    wait_until(lambda: [n["role"] for n in pooler.admin("SHOW NODES")] == ["primary", "replica"], 30)
    ports = [node.port for node in nodes]
    pairs = [Pair(pooler, n, variant, -(-READS // CLIENTS), ports) for n in range(CLIENTS)]
    for pair in pairs:
        pair.start()
    for pair in pairs:
        pair.join()
    pooler.stop()
    failed = [pair.failed for pair in pairs if pair.failed]
    stale = [s for pair in pairs for s in pair.stale]
    for example in failed[:3] + stale[:5]:
        print("  ", example)
    done = sum(pair.done for pair in pairs)
    on_replica = sum(pair.on_replica for pair in pairs)
    # Where others of the same tenant write all the time, hardly a read is the replica's.
    is_shown = on_replica > 0 or variant[-1] != "session"
    table.add(f"{name}: stale reads", 0, f"{len(stale)} of {done}, of which {on_replica} on the replica",
              not stale and not failed and done >= READS and is_shown)
    return done


def measure_reads(table, stage, nodes, unit):
    """Nobody writes: the share of the replica, once it has what was written before."""
    pooler = stage.turnstile(config(*nodes, unit))
    user = f"{USER}.t1" if unit == "tenant" else USER
    with raw.RawClient(pooler.port, pooler.host, 60.0).login(user, DATABASE, PASSWORD) as client:
        wait_until(lambda: int(read_alone(client, simple, 1)[1]) == nodes[1].port, 60, "reads reach it")
        ports = [int(read_alone(client, send, 1)[1]) for send in (simple, extended) for _ in range(2000)]
    pooler.stop()
    share = 100 * ports.count(nodes[1].port) / len(ports)
    table.add(f"{unit}, nobody writes: reads on the replica", ">= 99 %", f"{share:.2f} % of {len(ports)}",
              share >= 99)


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary(settings={"max_connections": 300})
        primary.sql(f"GRANT pg_monitor TO {USER}")
        primary.sql(f"CREATE TABLE written AS SELECT id, -1 AS n FROM generate_series(0, {CLIENTS}) AS id;"
                    f" ALTER TABLE written ADD PRIMARY KEY (id); GRANT ALL ON written TO {USER}",
                    dbname=DATABASE)
        replica = stage.replica_of(primary)
        replica.wait_caught_up(primary)
        replica.sql(f"ALTER SYSTEM SET recovery_min_apply_delay = '{DELAY}'")
        replica.sql("SELECT pg_reload_conf()")
        done = sum(measure(table, stage, (primary, replica), name, VARIANTS[name]) for name in VARIANTS)
        table.add("reads in all", ">= 20000", done, done >= 20000)
        for unit in ("tenant", "user", "session"):
            measure_reads(table, stage, (primary, replica), unit)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
