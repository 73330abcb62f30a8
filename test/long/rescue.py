# SPDX-License-Identifier: ISC
#
# rescue.py - a replica that is killed, restarted, lags, and cancels what stands in the way of its
# recovery, under load: who sees an error, whose request could have been asked again (I3).
"""PGT_SECONDS of load (300), PGT_CLIENTS who read (20)."""
import os
import sys
import threading
import time

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from waiting import wait_until

SECONDS = float(os.environ.get("PGT_SECONDS", "300"))
CLIENTS = int(os.environ.get("PGT_CLIENTS", "20"))
LAG = 0.5  # a replica that is farther behind gets no reads
SHORT = "SELECT count(*), current_setting('test.port') FROM rows WHERE i % 7 = {0}"
# Its snapshot is old enough to stand in the way of recovery; its answer is one row, at the end.
LONG = "SELECT count(*), current_setting('test.port') FROM pg_sleep(0.3), rows WHERE i % 7 = {0}"
LONG_EVERY = 6


def simple(client, sql):
    return client.query(sql)


def extended(client, sql):
    client.send(raw.parse("", sql), raw.bind(), raw.describe("P"), raw.execute(), raw.sync())
    return client.until("Z")


def named(client, sql):
    """Each time anew, so that its Parse may be what fails."""
    client.send(raw.close("S", "mine"), raw.parse("mine", sql), raw.bind("", "mine"), raw.execute(),
                raw.sync())
    return client.until("Z")


def apart(client, sql):
    """As drivers do it that prepare first and run later."""
    client.send(raw.close("S", "apart"), raw.parse("apart", sql), raw.describe("S", "apart"), raw.sync())
    return client.until("Z") + bound(client)


def bound(client):
    client.send(raw.bind("", "apart"), raw.execute(), raw.sync())
    return client.until("Z")


def transaction(client, sql):
    """Up to its COMMIT, which nobody asks twice."""
    return client.query("BEGIN READ ONLY") + client.query(sql)


def string(client, sql):
    """Nothing of it is told before all of it has run."""
    return client.query(f"{sql}; SELECT FROM rows WHERE i < 0")


def listening(client, sql):
    return client.query("LISTEN mine") + client.query(sql) + client.query("UNLISTEN *")


TOO_MUCH = 20000 * "x"  # to be kept


def long_text(client, sql):
    return client.query(f"/* {TOO_MUCH} */ {sql}")


def long_value(client, sql):
    client.send(raw.parse("", f"{sql} AND $1::text IS NOT NULL"), raw.bind("", "", [TOO_MUCH]), raw.execute(),
                raw.sync())
    return client.until("Z")


FORMS = simple, extended, named, apart, transaction, string, listening, long_text, long_value


class Reader(threading.Thread):
    """Reads in all forms that can be asked again; whatever is an error is written down."""

    def __init__(self, pooler, number, stopped):
        super().__init__(daemon=True)
        self.pooler, self.number, self.stopped = pooler, number, stopped
        self.done, self.errors, self.wrong, self.ends = 0, [], [], []

    def log_in(self):
        return raw.RawClient(self.pooler.port, self.pooler.host, 90.0).login(USER, DATABASE, PASSWORD)

    def run(self):
        client = self.log_in()
        while not self.stopped.is_set():
            form = FORMS[self.done % len(FORMS)]
            try:
                self.step(client, form)
                ended = form is not transaction or self.end(client)
            except (OSError, EOFError) as error:
                self.errors.append((form.__name__, repr(error)))
                ended = False
            if not ended:
                client.close()
                client = self.log_in()
        client.close()

    def step(self, client, form):
        sql = (LONG if self.done % LONG_EVERY == self.number % LONG_EVERY else SHORT).format(self.number % 7)
        got = form(client, sql)
        self.done += 1
        errors = [m.fields for m in raw.find(got, "E")]
        self.errors += [(form.__name__, fields) for fields in errors]
        rows = [m.row[0] for m in raw.find(got, "D")]
        if not errors and rows != [str(expected(self.number % 7))]:
            self.wrong.append((form.__name__, rows))

    def end(self, client):
        """The COMMIT of what has only read: where its server has gone meanwhile, that is told."""
        try:
            errors = raw.find(client.query("COMMIT"), "E")
        except (OSError, EOFError) as error:
            errors = [repr(error)]
        self.ends += errors
        return not errors


ROWS = 3000


def expected(rest):
    return sum(i % 7 == rest for i in range(1, ROWS + 1))


class Troubles:
    """What happens to the replica, each until it has been seen to happen."""

    def __init__(self, primary, replica, pooler):
        self.primary, self.replica, self.pooler = primary, replica, pooler
        self.came = {"vacuum": 0, "lock": 0, "lag": 0, "restart": 0, "crash": 0}
        self.conflicts = {"snapshot": 0, "lock": 0}

    def all(self):
        return self.vacuum, self.lock, self.lag, self.restart, self.crash

    def routes(self, reason):
        return next((int(row["count"]) for row in self.pooler.admin("SHOW ROUTES")
                     if row["database"] == DATABASE and row["reason"] == reason), 0)

    def wait_read(self):
        """Reads reach the replica again, from everybody."""
        before = self.routes("read")
        wait_until(lambda: self.routes("read") > before + 5 * CLIENTS, 60, "the replica is read")

    def conflict(self, kind, provoke):
        """Provokes until the replica says that it has cancelled somebody for that."""
        column = f"SELECT confl_{kind} FROM pg_stat_database_conflicts WHERE datname = '{DATABASE}'"
        before = self.replica.value(column)

        def met():
            provoke()
            return self.replica.value(column) > before

        wait_until(met, 60, f"a conflict of {kind}")
        self.conflicts[kind] += self.replica.value(column) - before

    def vacuum(self):
        def provoke():
            self.primary.sql("UPDATE rows SET i = i", dbname=DATABASE)
            self.primary.sql("VACUUM rows", dbname=DATABASE)

        self.conflict("snapshot", provoke)

    def lock(self):
        self.conflict("lock", lambda: self.primary.sql(
            "DO 'BEGIN LOCK TABLE rows IN ACCESS EXCLUSIVE MODE; END'", dbname=DATABASE))

    def lag(self):
        """Until nobody is sent there any more."""
        def is_left():
            self.primary.sql("UPDATE rows SET i = i", dbname=DATABASE)
            before = self.routes("read")
            unfit = self.routes("no replica")
            wait_until(lambda: self.routes("no replica") + self.routes("read") > before + unfit + CLIENTS)
            return self.routes("read") == before

        self.replica.pause_replay()
        wait_until(is_left, 30, "a replica that is late is left alone")
        self.replica.resume_replay()

    def restart(self):
        self.replica.restart()

    def crash(self):
        self.replica.kill()
        self.replica.start()


def config(primary, replica):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": CLIENTS // 2,
                            "max_client_conn": 300, "server_tls_sslmode": "disable", "monitor_user": USER,
                            "workers": 2, "monitor_interval": "200ms", "read_your_writes": "off",
                            "max_replica_lag": f"{LAG * 1000:.0f}ms", "read_functions": "pg_sleep"},
            "databases": {DATABASE: {"host": f"{primary.host},{replica.host}",
                                     "port": f"{primary.port},{replica.port}"}}}


def set_up(stage):
    primary = stage.primary(settings={"autovacuum": "off"})
    primary.sql(f"GRANT pg_monitor TO {USER}")
    primary.sql(f"CREATE TABLE rows AS SELECT generate_series(1, {ROWS}) AS i;"
                f" GRANT SELECT ON rows TO {USER}", dbname=DATABASE)
    replica = stage.replica_of(primary)
    replica.sql("ALTER SYSTEM SET max_standby_streaming_delay = '50ms'")
    replica.sql("SELECT pg_reload_conf()")
    replica.wait_caught_up(primary)
    pooler = stage.turnstile(config(primary, replica))
    wait_until(lambda: [n["role"] for n in pooler.admin("SHOW NODES")] == ["primary", "replica"], 30)
    return Troubles(primary, replica, pooler)


def play(troubles, stopped):
    """One trouble after the other, for as long as was asked and each at least once."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends or not all(troubles.came.values()):
        for trouble in troubles.all():
            troubles.wait_read()
            trouble()
            troubles.came[trouble.__name__] += 1
    troubles.wait_read()
    stopped.set()


def report(table, troubles, readers):
    errors = [(r.number, *e) for r in readers for e in r.errors + r.wrong]
    for error in errors[:10]:
        print("  ", error)
    table.add("troubles of the replica", "each", troubles.came, all(troubles.came.values()))
    table.add("conflicts with its recovery that the replica has counted", "> 0 each", troubles.conflicts,
              all(troubles.conflicts.values()))
    read = troubles.routes("read")
    table.add(f"requests of {CLIENTS} clients; on the replica", "> 0",
              f"{sum(r.done for r in readers)}; {read}", read > 0)
    rescued = {kind: troubles.routes(f"rescued: {kind}") for kind in ("conflict", "lost")}
    table.add("asked again", "> 0 each", rescued, all(rescued.values()))
    table.add("transactions that had read, and lost their server before or in their COMMIT", "reported",
              sum(len(r.ends) for r in readers), True)
    table.add("errors and wrong rows that clients saw", 0, len(errors), not errors)


def main():
    table, stopped = Table(), threading.Event()
    with Stage() as stage:
        troubles = set_up(stage)
        readers = [Reader(troubles.pooler, n, stopped) for n in range(CLIENTS)]
        for reader in readers:
            reader.start()
        try:
            play(troubles, stopped)
        finally:
            stopped.set()
            for reader in readers:
                reader.join()
            report(table, troubles, readers)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
