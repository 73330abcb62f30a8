# SPDX-License-Identifier: ISC
"""scenarios.py - what is measured: a table of what clients ask, and of whom.

A new scenario is a row of SCENARIOS; what stands before the server is a row of TARGETS in
targets.py.  Starts and measures nothing.
"""

import pathlib
import typing

import targets

EVERYBODY = ("direct", "floor", "pgbouncer", "pgturnstile")
POOLERS = ("pgbouncer", "pgturnstile")
ONE_ACCOUNT = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711"
# What an ORM says for one request of its application, its look at the connection ahead of it.
CHATTER = """\\set aid random(1, 100000)
SELECT 1;
BEGIN;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
SELECT bbalance FROM pgbench_branches WHERE bid = 1;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
COMMIT;
ROLLBACK;
"""
# Hardly ever is the tenant of a transaction the one before's on the same server.
ANY_TENANT = f"""\\set aid random(1, 100000)
\\set tenant random(1, {targets.TENANTS})
SELECT abalance FROM pgbench_accounts WHERE aid = :aid /*business_id=':tenant'*/;
"""
ACCOUNTS = "SELECT aid, bid, abalance, filler FROM pgbench_accounts LIMIT 200000"


class Pgbench(typing.NamedTuple):
    """A load by pgbench, whose clients are one thread."""
    arguments: tuple
    script: str | None = None

    def options(self, directory, name):
        """Those of pgbench; a script is put into the directory."""
        if not self.script:
            return self.arguments
        path = pathlib.Path(directory) / f"{name}.sql"
        path.write_text(self.script)
        return (*self.arguments, "-f", path)


class Load(typing.NamedTuple):
    """A load by load.c, each client of which is a thread."""
    arguments: tuple


class Scenario(typing.NamedTuple):
    """clients and per_client (transactions, where instructions are counted), if given, instead of
    what the run asks for."""
    load: Pgbench | Load
    targets: tuple = EVERYBODY
    access: str = "trust"
    clients: int | None = None
    per_client: int | None = None
    counts_server: bool = False  # its CPU time is of interest too


SCENARIOS = {
    "simple": Scenario(Pgbench(("-S", "-M", "simple")), (*EVERYBODY, "routed")),
    "extended": Scenario(Pgbench(("-S", "-M", "extended")), counts_server=True),
    "prepared": Scenario(Pgbench(("-S", "-M", "prepared"))),
    "pipeline": Scenario(Pgbench(("-M", "extended"), "\\startpipeline\n" + 100 * "SELECT 2;\n"
                                 + "\\endpipeline\n"), clients=8, per_client=10,
                         counts_server=True),
    "tpcb": Scenario(Pgbench(("-b", "tpcb-like", "-M", "simple"))),
    "chatter": Scenario(Pgbench(("-M", "simple"), CHATTER), ("direct", *POOLERS)),
    "tenants": Scenario(Pgbench(("-M", "simple"), ANY_TENANT), (*POOLERS, "switching")),
    "connect": Scenario(Pgbench(("-S", "-M", "simple", "-C"))),
    "latency": Scenario(Pgbench(("-S", "-M", "simple")), clients=1),
    "crowd": Scenario(Pgbench(("-S", "-M", "simple")), ("pgturnstile", "crowded")),
    "rows": Scenario(Load(("-q", ACCOUNTS)), clients=2, per_client=2),
    "values": Scenario(Load(("-q", "SELECT repeat('x', 8000000)")), clients=2, per_client=5),
    "copy_out": Scenario(Load(("-q", f"COPY ({ACCOUNTS}) TO STDOUT")), clients=2, per_client=2),
    "copy_in": Scenario(Load(("-m", "20000000", "-q", "COPY sink FROM STDIN WHERE false")),
                        clients=2, per_client=2),
    "login_scram": Scenario(Load(("-C",)), POOLERS, "scram"),
    "connect_scram": Scenario(Pgbench(("-S", "-M", "simple", "-C")), POOLERS, "scram", clients=8,
                              per_client=5),
    "login_plain": Scenario(Load(("-C",)), POOLERS, "scram_plain", clients=8, per_client=5),
    "login_tls": Scenario(Load(("-C", "-s")), POOLERS, "tls", clients=8, per_client=20),
    "login_resumed": Scenario(Load(("-C", "-r")), POOLERS, "tls", clients=8, per_client=20),
    "simple_tls": Scenario(Load(("-s", "-q", ONE_ACCOUNT)), POOLERS, "tls"),
    "simple_tls_both": Scenario(Load(("-s", "-q", ONE_ACCOUNT)), POOLERS, "tls_both"),
    "stub_many": Scenario(Load(("-b", "100", "-n", str(targets.MANY))), ("many_1", "many_2")),
    "stub_one": Scenario(Load(("-b", "100", "-n", "1")), ("one_1", "one_2")),
}
