# SPDX-License-Identifier: ISC
#
# latency.py - the quantiles of SHOW TENANTS beside those of the clients' own log, under shapes of load.
"""Each shape is a tenant of its own, so that each has a row of its own."""
import math
import os
import sys

import stamped
from stage import DATABASE, USER, Stage, Table, raw

SECONDS = int(os.environ.get("PGT_SECONDS", "20"))
QUANTILES = (50, 95, 99)
BAR = 0.05

BOUND = raw.bind("", "s") + raw.execute() + raw.sync()
# name: (the requests of a round, clients, what goes before, the kind that a round is)
SHAPES = {
    "even": ([raw.query("SELECT pg_sleep(0.002 + 0.02 * random())")], 8, b"", "query"),
    "queue": ([raw.query("SELECT pg_sleep(0.001 + 0.004 * random())")], 60, b"", "query"),
    "tail": ([BOUND], 10, raw.parse("s", "SELECT pg_sleep(0.004 / (0.01 + random()))") + raw.sync(),
             "query"),
    "blocks": ([raw.query(text) for text in ("BEGIN", "SELECT pg_sleep(0.005 * random())",
                                             "SELECT pg_sleep(0.005)", "END")], 8, b"", "transaction"),
    "fast": ([raw.query("SELECT 2")], 16, b"", "query"),
}
# Where a trip takes less than the scheduler's turn, most of it is the wait for the pooler's own, which
# it cannot see.
UNBOUND = {"fast"}


def config(primary):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 10, "workers": 1,
                            "tenant_by": "user_suffix", "tenant_pool": "shared",
                            "log_connections": 0, "log_disconnections": 0},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}},
            "tiers": {"standard": {"statement_timeout": "60s"}},
            "tenants": {name: {"tier": "standard", "business_id": n}
                        for n, name in enumerate(SHAPES, 1)}}


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
        stamped.come_first(pooler.pid())
        for name in sys.argv[1:] or SHAPES:
            steps, clients, setup, _ = SHAPES[name]
            log = stamped.microseconds(stamped.run(pooler, f"{USER}.{name}", steps, clients, SECONDS,
                                                   setup))
            count, figures = told(pooler, name)
            # What goes before counts too, where it is not known already.
            more = clients if setup else 0
            table.add(f"{name}: how many", f"{len(log)} to {len(log) + more}", count,
                      len(log) <= count <= len(log) + more)
            for q in QUANTILES:
                exact = log[math.ceil(q / 100 * len(log)) - 1]
                off = figures[q] / exact - 1
                table.add(f"{name}: p{q} in µs", f"{exact:.0f} within {BAR:.0%}",
                          f"{figures[q]} ({off:+.1%})", abs(off) <= BAR or name in UNBOUND)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
