# SPDX-License-Identifier: ISC
#
# latency.py - the quantiles of SHOW TENANTS beside those of pgbench's own log, under shapes of load.
"""Each shape is a tenant of its own, so that each has a row of its own."""
import math
import os
import subprocess
import sys
from pathlib import Path

from stage import DATABASE, PASSWORD, USER, Stage, Table
from machine import scratch_dir

SECONDS = int(os.environ.get("PGT_SECONDS", "20"))
QUANTILES = (50, 95, 99)
BAR = 0.05

# name: (script, clients, options of pgbench, kind that its log is about)
SHAPES = {
    "even": ("SELECT pg_sleep(0.002 + 0.02 * random());", 8, [], "query"),
    "queue": ("SELECT pg_sleep(0.001 + 0.004 * random());", 60, [], "query"),
    "tail": ("SELECT pg_sleep(0.004 / (0.01 + random()));", 10, ["-M", "prepared"], "query"),
    "blocks": ("BEGIN;\nSELECT pg_sleep(0.005 * random());\nSELECT pg_sleep(0.005);\nEND;", 8, [],
               "transaction"),
    "fast": ("SELECT 2;", 16, [], "query"),
}
# What else the machine does delays the client's own reading, which its log counts and nobody else can
# see: so the client, and what is measured, come first where we may say so.
FIRST = ["nice", "-n", "-15"] if os.geteuid() == 0 else []
# A trip that takes less than the scheduler's turn is longer for who waits for its turn to read it.
UNBOUND = {"fast"}


def config(primary):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 10, "workers": 1,
                            "tenant_by": "user_suffix", "tenant_pool": "shared",
                            "log_connections": 0, "log_disconnections": 0},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}},
            "tiers": {"standard": {"statement_timeout": "60s"}},
            "tenants": {name: {"tier": "standard", "business_id": n}
                        for n, name in enumerate(SHAPES, 1)}}


def come_first(pid):
    """Each thread has its own priority."""
    for task in Path(f"/proc/{pid}/task").iterdir() if FIRST else []:
        os.setpriority(os.PRIO_PROCESS, int(task.name), -15)


def run(pooler, name):
    """Microseconds of each transaction, by pgbench's log."""
    script, clients, options, _ = SHAPES[name]
    directory = scratch_dir("latency")
    (directory / "script.sql").write_text(script)
    subprocess.run([*FIRST, "pgbench", "-n", "-h", pooler.host, "-p", str(pooler.port), "-U",
                    f"{USER}.{name}", "-c", str(clients), "-j", "1", "-T", str(SECONDS), "-l",
                    "-f", "script.sql", *options, DATABASE], cwd=directory, check=True,
                   env={**os.environ, "PGPASSWORD": PASSWORD}, stdout=subprocess.DEVNULL)
    return sorted(int(line.split()[2]) for log in Path(directory).glob("pgbench_log.*")
                  for line in log.read_text().splitlines())


def told(pooler, name):
    """(how many, {quantile: microseconds}) that the console has."""
    kind = SHAPES[name][3]
    row, = (row for row in pooler.admin("SHOW TENANT_LATENCIES")
            if (row["tenant"], row["kind"], row["period"]) == (name, kind, "1m"))
    if kind == "query":
        tenant, = (t for t in pooler.admin("SHOW TENANTS") if t["name"] == name)
        assert all(tenant[f"query_p{q}"] == row[f"p{q}"] for q in QUANTILES)
    return row["count"], {q: int(row[f"p{q}"]) for q in QUANTILES}


def main():
    table = Table()
    with Stage() as stage:
        pooler = stage.turnstile(config(stage.primary()))
        come_first(pooler.pid())
        for name in sys.argv[1:] or SHAPES:
            log = run(pooler, name)
            count, figures = told(pooler, name)
            table.add(f"{name}: how many; pgbench leaves out what it ends in", len(log), count, abs(count - len(log)) <= SHAPES[name][1])
            for q in QUANTILES:
                exact = log[math.ceil(q / 100 * len(log)) - 1]
                off = figures[q] / exact - 1
                table.add(f"{name}: p{q} in µs", f"{exact} within {BAR:.0%}",
                          f"{figures[q]} ({off:+.1%})", abs(off) <= BAR or name in UNBOUND)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
