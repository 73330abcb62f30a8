# SPDX-License-Identifier: ISC
#
# habit.py - what applications with tenants do today, unchanged, through us and through PgBouncer.
#
# A transaction of four round trips: BEGIN, set_config(…, true) with a parameter, a SELECT, COMMIT.
# Also with a millisecond between the poolers and the server: test/bench/delay.c, since not every
# kernel has netem.
"""pgbench in rounds that alternate; throughput as a ratio within each round."""
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from stage import DATABASE, PASSWORD, USER, Stage, Table

from machine import Port, listens
from turnstile import PgBouncer
from waiting import wait_until

BENCH = Path(__file__).resolve().parents[1] / "bench"
SECONDS = int(os.environ.get("PGT_SECONDS", "5"))
ROUNDS, SERVERS, TENANTS = 5, 20, 1000
# Of the rounds with a millisecond so few that it is round trips, not two cores, that bound them.
CLIENTS, CLIENTS_AFAR = 32, 8
HABIT = """\\set id random(1, %d)
\\set aid random(1, 100000)
BEGIN;
SELECT set_config('app.current_business_id', :id, true);
SELECT abalance FROM accounts WHERE aid = :aid;
COMMIT;
""" % TENANTS


def prepare(primary):
    for statement in ["CREATE TABLE accounts (aid int PRIMARY KEY, abalance int)",
                      "INSERT INTO accounts SELECT n, 0 FROM generate_series(1, 100000) n",
                      f"GRANT ALL ON accounts TO {USER}", "VACUUM ANALYZE accounts"]:
        primary.sql(statement, dbname=DATABASE)


def run(pooler, script, clients):
    """Transactions a second."""
    done = subprocess.run(
        ["pgbench", "-h", pooler.host, "-p", str(pooler.port), "-U", USER, "-n", "-f", str(script),
         "-M", "extended", "-c", str(clients), "-T", str(SECONDS), DATABASE],
        env={**os.environ, "PGPASSWORD": PASSWORD}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(re.search(r"tps = ([\d.]+)", done.stdout).group(1))


def poolers(stage, host, port, **settings):
    common = {"pool_mode": "transaction", "default_pool_size": SERVERS, "max_client_conn": 200}
    databases = {DATABASE: {"host": host, "port": port}}
    bouncer = PgBouncer({"pgbouncer": common, "databases": databases}, {USER: PASSWORD})
    stage.callback(bouncer.remove)
    bouncer.start()
    ours = stage.turnstile({
        "pgturnstile": {**common, "workers": 1, "tenant_by": "set", "tenant_pool": "shared",
                        **settings},
        "databases": databases, "users": {USER: {"tenant_switch": "yes"}},
        "tiers": {"standard": {"statement_timeout": "30s"}},
        "tenants": {f"t{n}": {"tier": "standard", "business_id": n}
                    for n in range(1, TENANTS + 1)}})
    return ours, bouncer


def far_away(stage, primary):
    """A port behind which the primary is a millisecond away."""
    program, port = primary.dir / "delay", Port()
    stage.callback(port.release)
    subprocess.run(["cc", "-O2", "-o", str(program), str(BENCH / "delay.c")], check=True)
    relay = subprocess.Popen([str(program), str(port.number), str(primary.port), "1000"])
    stage.callback(relay.wait)
    stage.callback(relay.kill)
    wait_until(lambda: listens(port.number), what="delay listens")
    return port.number


def compare(table, name, asked, pair, script, clients):
    ours, bouncer = pair
    rounds = [(run(ours, script, clients), run(bouncer, script, clients)) for _ in range(ROUNDS)]
    ratio = statistics.median(a / b for a, b in rounds)
    figures = " / ".join(f"{statistics.median(side):,.0f}" for side in zip(*rounds))
    table.add(f"the habit, {name}", f"≥ {asked} × PgBouncer", f"{ratio:.2f} × ({figures} tps)",
              ratio >= asked)


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        prepare(primary)
        pair = poolers(stage, primary.host, primary.port)
        script = Path(pair[0].dir) / "habit.sql"
        script.write_text(HABIT)
        compare(table, "loopback", 1.5, pair, script, CLIENTS)
        far = poolers(stage, primary.host, far_away(stage, primary))
        compare(table, "1 ms to the server", 1.9, far, script, CLIENTS_AFAR)
        # What is a read is known from the catalog.
        early = poolers(stage, primary.host, far_away(stage, primary), early_commit="yes",
                        monitor_user="postgres")
        compare(table, "1 ms to the server, early_commit", 3, early, script, CLIENTS_AFAR)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
