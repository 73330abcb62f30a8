# SPDX-License-Identifier: ISC
#
# strays.py - whether anything that writes has run on a replica (I4).
#
# Plays sessions of random_sql.py through a pooler before a pair, and each request first on a connection
# of its own to the primary, in a twin of the database: what takes a transaction id there is a write.
# What ran on the replica is asked of the primary too, for the same rows.
# Knows nothing of how the pooler decides.
"""Watch(primary, replica, pooler).play(seed): raises Stray; what was seen is counted."""
import contextlib

import raw
from conftest import APP_PASSWORD, APP_USER
from random_sql import OBJECTS, SCHEMA, Author
from rig import log_in, wait_nodes
from turnstile import ADMIN_USER
from waiting import wait_until

DATABASE, TWIN = "random_sql", "random_sql_twin"
RECOVERY = ("25006", "0A000", "55000", "XX000", "40001", "40P01")
# What other requests of the session decide about, or what is not asked of two servers at once.
SILENT = ("f_locks(", "#!", "pg_advisory", "pg_try_advisory", "set_config(")


# What a text has in it that may tell something else each time, or that settings of its session decide.
FICKLE = ("now(", "random", "EXPLAIN", "SHOW", "SET ", "current_setting", "TABLESAMPLE", "BEGIN", "START", "pg_class",
          "f_own_setting")

# Where it runs, and its transaction may have been there already.
TELLS = ("f_node", "in_hot_standby", "pg_is_in_recovery")


class Stray(AssertionError):
    """A write that ran on a replica, or failed there and was not asked again; or an answer that is not the
    primary's."""


def prepare(primary):
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    for name in (DATABASE, TWIN):
        primary.sql(f"CREATE DATABASE {name} OWNER {APP_USER}")
        primary.sql(f"ALTER DATABASE {name} SET search_path = {SCHEMA}, public")
        primary.sql(f"ALTER DATABASE {name} SET TimeZone = 'UTC'")  # as sessions set it
        with primary.connect(name, APP_USER, password=APP_PASSWORD) as connection:
            connection.execute(OBJECTS)
        primary.sql(f"CREATE EXTENSION dblink SCHEMA {SCHEMA}", dbname=name)


def config(primary, replica, settings=None):
    """Reads are not fenced, so that as many as can be go to the replica."""
    return {"pgturnstile": {"pool_mode": "transaction", "server_tls_sslmode": "disable",
                            "default_pool_size": 3, "monitor_user": APP_USER, "max_replica_lag": 0,
                            "read_your_writes": "off", "workers": 1, **(settings or {})},
            "databases": {DATABASE: {"host": f"{primary.host},{replica.host}",
                                     "port": f"{primary.port},{replica.port}"}}}


def messages_of(request):
    """The bytes of a request, which one ReadyForQuery answers."""
    if request.way == "simple":
        return raw.query(request.texts[0])
    name = "named" if request.way == "named" else ""
    values = ["7"] if request.has_param else []
    parts = [raw.close("S", name)] if name else []
    for i, text in enumerate(request.texts):
        if not name or i == 0:
            parts.append(raw.parse(name, text))
        parts += [raw.bind("", name, values), raw.execute()]
    return b"".join(parts) + raw.sync()


class Peer:
    """A session somewhere, begun anew when it was ended."""

    def __init__(self, server, dbname):
        self.server, self.dbname, self.client, self.state, self.rows = server, dbname, None, "I", []

    def ask(self, request):
        """The first error's fields, or None."""
        if not self.client:
            self.client = log_in(self.server, dbname=self.dbname, timeout=30.0)
        self.client.send(messages_of(request))
        got = []
        while not got or got[-1].kind != "Z":
            try:
                got.append(self.client.message())
            except (EOFError, ConnectionError):
                self.leave()
                break
            if got[-1].kind == "G":
                self.client.send(raw.copy_data(b"copied\n"), raw.copy_done())
        self.state = got[-1].body.decode() if got and got[-1].kind == "Z" else "I"
        self.rows = sorted(m.body for m in got if m.kind in "Dd")
        errors = raw.find(got, "E")
        return errors[0].fields if errors else None

    def reads_only(self):
        """Whether it is in a transaction that says READ ONLY, whose settings and locks are its node's."""
        return self.state == "T" and self.client.rows("SHOW transaction_read_only") == [("on",)]

    def leave(self):
        if self.client:
            self.client.close()
        self.client = None


class Watch(contextlib.ExitStack):
    def __init__(self, primary, replica, pooler):
        super().__init__()
        self.primary, self.replica, self.pooler = primary, replica, pooler
        self.statements = self.writes = self.on_replica = self.rescued = self.lost = self.compared = 0
        self.mirror = Peer(primary, DATABASE)
        self.callback(self.mirror.leave)
        wait_nodes(pooler, "primary", "replica", database=DATABASE)
        self.console = self.enter_context(pooler.connect(pooler.console, ADMIN_USER))
        self.asker = self.enter_context(primary.connect(DATABASE))
        self.counted = self.enter_context(replica.connect(DATABASE))
        self.wait_routed()
        self.tuples = self.tuples_of_replica()

    def wait_routed(self):
        with log_in(self.pooler, dbname=DATABASE) as client:
            wait_until(lambda: client.rows("SELECT current_setting('test.port')") == [(str(self.replica.port),)],
                       60, lambda: "reads reach the replica\n" + self.pooler.log_text()[-3000:])
        self.routes = self.read_routes()

    def read_routes(self):
        """Reads that went to the replica, what was rescued there, what was not."""
        count = {reason: int(n) for database, _, reason, n, _ in self.console.execute("SHOW ROUTES")
                 if database == DATABASE}
        return (count["read"], sum(n for reason, n in count.items() if reason.startswith("rescued")),
                count["not rescued"])

    def next_xid(self):
        return int(self.asker.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text").fetchone()[0])

    def tuples_of_replica(self):
        return self.counted.execute(
            "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = %s",
            [DATABASE]).fetchone()[0]

    def locks_on_replica(self):
        return self.counted.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()[0]

    def play(self, seed, odd=0.12):
        """Both sessions from their login to their end."""
        direct, pooled = Peer(self.primary, TWIN), Peer(self.pooler, DATABASE)
        try:
            for number, request in enumerate(Author(seed, odd).session()):
                self.check(f"PGT_SEED={seed}, request {number}: {request}", request, direct, pooled)
        finally:
            direct.leave()
            pooled.leave()

    def check(self, where, request, direct, pooled):
        first, in_transaction = self.next_xid(), pooled.state != "I"
        reads_only = direct.reads_only()
        expected = direct.ask(request)
        wrote = self.next_xid() > first
        self.catch_up()
        error = pooled.ask(request)
        before, self.routes = self.routes, self.read_routes()
        read, rescued, lost = (now - was for now, was in zip(self.routes, before))
        self.statements += len(request.texts)
        self.writes += wrote
        self.on_replica += read
        self.rescued += rescued
        if lost and in_transaction and error and error["C"] in ("0A000", "XX000"):
            self.lost += 1  # a READ ONLY transaction there comes upon an unlogged table, or makes a large object
            return
        if in_transaction and reads_only and error and error["C"] == "25006" and \
                ("during recovery" in error["M"] or any(word in t for t in request.texts for word in TELLS)):
            self.lost += 1  # … or wants a transaction id, or writes if it is on a replica, which it asks
            return
        if lost:
            raise Stray(f"failed on the replica and was not asked again: {where}\n{error}")
        if error and error["C"] in RECOVERY and not (expected and expected["C"] == error["C"]) \
                and ("recovery" in error["M"] or "read-only" in error["M"] or "hot standby" in error["M"]):
            raise Stray(f"was told of the replica: {where}\n{error}, but {expected}")
        if read > rescued and not error and wrote and self.writes_always(request):
            raise Stray(f"writes, and ran on the replica: {where}")
        if read > rescued and not error and not reads_only \
                and any(word in t for t in request.texts for word in SILENT):
            raise Stray(f"leaves a trace in its server, and ran on the replica: {where}")
        self.check_replica(where)
        if read > rescued and not error and not in_transaction:
            self.check_rows(where, request, pooled)

    def catch_up(self):
        target = self.asker.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()[0]
        wait_until(lambda: self.counted.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [target]).fetchone()[0],
                   30, f"the replica has replayed {target}")

    def check_rows(self, where, request, pooled):
        if any(word in t for t in request.texts for word in FICKLE):
            return
        error = self.mirror.ask(request)
        self.compared += 1
        if error or self.mirror.rows != pooled.rows:
            raise Stray(f"is answered otherwise by the primary: {where}\n{pooled.rows[:5]} … {len(pooled.rows)} rows,"
                        f" but {error or self.mirror.rows[:5]} … {len(self.mirror.rows)} rows")

    def writes_always(self, request):
        """Whether it takes an id each time it is asked: others take some too, when they clean up."""
        if "BEGIN" in str(request) or "START" in str(request):
            return False
        return all(self.takes_id(request) for _ in range(3))

    def takes_id(self, request):
        first, peer = self.next_xid(), Peer(self.primary, TWIN)
        peer.ask(request)
        peer.leave()
        return self.next_xid() > first

    def check_replica(self, where):
        if self.locks_on_replica():
            raise Stray(f"left an advisory lock on the replica: {where}")
        if self.tuples_of_replica() != self.tuples:
            raise Stray(f"the replica has counted rows that were written: {where}")
