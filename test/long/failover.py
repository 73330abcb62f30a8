# SPDX-License-Identifier: ISC
#
# failover.py - the primary goes under the load of 100 clients: who is told, what is lost, how long it
# takes.
"""Three ways to go: stopped, killed behind a synchronous standby, superseded while it lives."""
import os
import signal
import sys
import threading
import time

import psycopg

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from waiting import wait_until
from writers import INSERT, Writer, counts, told

ROUNDS = int(os.environ.get("PGT_ROUNDS", "1"))
CLIENTS, IDLE, POOL, INTERVAL = 100, 20, 10, 1.0
BEFORE, AFTER = 5.0, 8.0
UNKNOWN, ROLLED_BACK = "The outcome of the statement under way is not known.", \
    "The transaction under way has been rolled back."


class Acceptance(threading.Thread):
    """When a node that is being promoted takes its first write, asked without the pooler."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.at = node, None

    def run(self):
        with psycopg.connect(host=self.node.host, port=self.node.port, dbname=DATABASE,
                             user="postgres", autocommit=True) as connection:
            while not self.at:
                try:
                    connection.execute("INSERT INTO accepted DEFAULT VALUES")
                    self.at = time.monotonic()
                except psycopg.errors.ReadOnlySqlTransaction:
                    time.sleep(0.005)


def stop_fast(primary):
    primary.stop()


def kill_hard(primary):
    """The postmaster and all its children, as when the machine is gone."""
    postmaster = primary.pid()
    with open(f"/proc/{postmaster}/task/{postmaster}/children") as listed:
        processes = [postmaster, *map(int, listed.read().split())]
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: not primary.is_running(), what="the postmaster is gone")


def leave_alone(primary):
    pass


def pair(stage, synchronous):
    primary = stage.primary(settings={"max_connections": 200})
    primary.sql(f"GRANT pg_monitor TO {USER}")
    primary.sql("CREATE TABLE ledger (client int, serial int); CREATE TABLE accepted (id serial);"
                f" GRANT ALL ON ledger TO {USER}", dbname=DATABASE)
    replica = stage.replica_of(primary)
    replica.wait_caught_up(primary)
    if synchronous:
        primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.sql("SELECT pg_reload_conf()")
        wait_until(lambda: primary.value("SELECT sync_state FROM pg_stat_replication") == "sync")
    return primary, replica


def pooler_before(stage, *nodes):
    t = stage.turnstile({
        "pgturnstile": {"pool_mode": "transaction", "default_pool_size": POOL, "max_client_conn": 300,
                        "server_tls_sslmode": "disable", "monitor_user": USER, "workers": 2,
                        "monitor_interval": f"{INTERVAL:g}s"},
        "databases": {DATABASE: {"host": ",".join(n.host for n in nodes),
                                 "port": ",".join(str(n.port) for n in nodes)}}})
    wait_until(lambda: [n["role"] for n in t.admin("SHOW NODES")] == ["primary", "replica"], 30)
    return t


def log_in_idle(stage, pooler):
    return [stage.enter_context(raw.RawClient(pooler.port, pooler.host, 60.0))
            .login(USER, DATABASE, PASSWORD) for _ in range(IDLE)]


def errors_of_idle(clients):
    """Each writes once, for the first time since its login."""
    kinds = []
    for number, client in enumerate(clients):
        try:
            kinds.append(raw.kinds(client.query(INSERT.format(-number - 1, 1))))
        except (EOFError, OSError) as error:
            kinds.append(repr(error))
    return [kind for kind in kinds if "E" in kind]


def play(stage, go, synchronous):
    """(writers, errors of those that were idle, when it went, when it was gone, acceptance, nodes)."""
    primary, replica = pair(stage, synchronous)
    pooler = pooler_before(stage, primary, replica)
    idle = log_in_idle(stage, pooler)
    stopped = threading.Event()
    writers = [Writer(pooler, (USER, DATABASE, PASSWORD), n, stopped) for n in range(CLIENTS)]
    acceptance = Acceptance(replica)
    for writer in writers:
        writer.start()
    wait_until(lambda: all(w.acknowledged for w in writers), 60, "every client has written")
    stopped.wait(BEFORE)
    acceptance.start()
    went = time.monotonic()
    go(primary)
    gone = time.monotonic()
    replica.promote()
    acceptance.join()
    stopped.wait(AFTER)
    stopped.set()
    for writer in writers:
        writer.join()
    return writers, errors_of_idle(idle), went, gone, acceptance.at, (primary, replica, pooler)


def report_losses(table, name, writers, node, *ports):
    """Every acknowledged row of these ports is there, and none is there twice."""
    rows, acknowledged = counts(node, DATABASE), told(writers, *ports)
    lost_rows = acknowledged - rows.keys()
    table.add(f"{name}: acknowledged writes lost", 0, f"{len(lost_rows)} of {len(acknowledged)}",
              acknowledged and not lost_rows)
    twice = sum(count > 1 for count in rows.values())
    table.add(f"{name}: rows written twice", 0, f"{twice} of {len(rows)}", not twice)


def report_errors(table, name, writers, idle, gone):
    errors = [(w.number, *error) for w in writers for error in w.errors]
    table.add(f"{name}: errors of {IDLE} idle clients", 0, len(idle), not idle)
    late = [error for error in errors if error[1] > gone]
    table.add(f"{name}: errors for what was begun when the primary was gone", 0, len(late), not late)
    clear = [e for e in errors if e[3] in ("57P01", "57P02", "08006") and e[4] in (UNKNOWN, ROLLED_BACK)]
    table.add(f"{name}: errors that do not say what became of the request", 0,
              len(errors) - len(clear), len(errors) == len(clear))
    table.add(f"{name}: errors of {CLIENTS} busy clients on {POOL} servers", f"<= {POOL}", len(errors),
              len(errors) <= POOL)
    most = max(len(w.errors) for w in writers)
    table.add(f"{name}: errors of one client", "<= 1", most, most <= 1)
    for error in late + [e for e in errors if e not in clear]:
        print("  ", error)


def report_resumption(table, name, writers, port, accepted):
    first = [min((when for _, p, when in w.acknowledged if p == port), default=None) for w in writers]
    table.add(f"{name}: clients that write to the promoted node", CLIENTS,
              sum(f is not None for f in first), None not in first)
    done = [f - accepted for f in first if f is not None]
    if done:
        table.add(f"{name}: writes resume after it accepts them, first and last client", "< 2 s",
                  f"{min(done):.2f} s, {max(done):.2f} s", max(done) < 2)


def lost(table, name, go, synchronous):
    with Stage() as stage:
        writers, idle, went, gone, accepted, (primary, replica, _) = play(stage, go, synchronous)
        report_errors(table, name, writers, idle, gone)
        report_losses(table, name, writers, replica, primary.port, replica.port)
        report_resumption(table, name, writers, replica.port, accepted)
        print(f"{name}: gone after {gone - went:.2f} s, promoted node accepts after {accepted - gone:.2f} s")


def superseded(table, name):
    with Stage() as stage:
        writers, idle, _, _, accepted, (primary, replica, pooler) = play(stage, leave_alone, False)
        old = [when - accepted for w in writers for _, port, when in w.acknowledged
               if port == primary.port and when > accepted]
        limit = INTERVAL + 1
        table.add(f"{name}: writes acknowledged on the old primary end after", f"<= {limit:g} s",
                  f"{max(old, default=0):.2f} s; {len(old)} of them", max(old, default=0) <= limit)
        table.add(f"{name}: errors of {IDLE} idle clients", 0, len(idle), not idle)
        most = max(len(w.errors) for w in writers)
        table.add(f"{name}: errors of one client, and in all", f"<= 1, <= {POOL}",
                  f"{most}, {sum(len(w.errors) for w in writers)}",
                  most <= 1 and sum(len(w.errors) for w in writers) <= POOL)
        report_losses(table, name, writers, replica, replica.port)
        report_resumption(table, name, writers, replica.port, accepted)
        fenced = pooler.admin("SHOW NODES")[0]
        table.add(f"{name}: the old primary in SHOW NODES", "fenced", f"{fenced['role']}: {fenced['error']}",
                  fenced["role"] == "fenced")


def main():
    table = Table()
    for number in range(1, ROUNDS + 1):
        suffix = f", round {number}" if ROUNDS > 1 else ""
        lost(table, "(a) stopped" + suffix, stop_fast, synchronous=False)
        lost(table, "(b) killed, synchronous" + suffix, kill_hard, synchronous=True)
        superseded(table, "(c) superseded" + suffix)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
