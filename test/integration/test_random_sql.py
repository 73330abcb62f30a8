# SPDX-License-Identifier: ISC
#
# test_random_sql.py - random SQL before a pair of nodes: no write runs on the replica (I4).
#
# PGT_SESSIONS=1000 plays more, PGT_SEED=17 begins there; test/long/random_sql.py plays many.
"""I4: and what the catalog shows of what is hidden is seen before a replica refuses it."""
import os

import pytest

import strays
from rig import log_in
from tenancy import errors
from waiting import wait_until

SESSIONS = int(os.environ.get("PGT_SESSIONS", 60))
FIRST = int(os.environ.get("PGT_SEED", 1))

# Behind each there is code that writes, or that locks on one node only.
HIDDEN = {
    "an operator": "SELECT n +! 1 FROM a",
    "an operator of a schema": "SELECT n OPERATOR(random_sql.+!) 1 FROM a",
    "an operator that locks": "SELECT n #! 1 FROM a",
    "a view over an operator": "SELECT * FROM v_operator",
    "a cast": "SELECT n::box_of FROM a",
    "a cast that is spelled out": "SELECT CAST(n AS random_sql.box_of) FROM a",
    "an array of what is cast": "SELECT array[n]::box_of[] FROM a",
    "a domain": "SELECT 5::checked",
    "a function in SQL": "SELECT f_lies_sql(1)",
    "a function in SQL with a parsed body": "SELECT f_lies_new(1)",
    "a function in PL/pgSQL": "SELECT f_lies(1)",
    "a function that locks": "SELECT f_locks(1)",
    "an aggregate": "SELECT sum_writes(n) FROM a",
    "a function of a row": "SELECT b.f_of_row FROM b",
    "a policy": "SELECT * FROM guarded",
    "a view over a view": "SELECT n FROM v_over",
}
# And what is of the same form, and reads.
PLAIN = {
    "an operator": "SELECT n -! 1 FROM a",
    "an operator with a sign that is escaped": "SELECT '{\"k\": 1}'::jsonb @> j FROM a WHERE n <> 1 AND n >= 0",
    "a domain": "SELECT 5::small",
    "a function in SQL": "SELECT f_stable(1)",
    "rows of a function": "SELECT n FROM f_rows(3)",
}


@pytest.fixture(scope="module")
def pair(primary, replica):
    primary.sql("ALTER SYSTEM SET autovacuum = off")
    primary.sql("SELECT pg_reload_conf()")
    strays.prepare(primary)
    replica.wait_caught_up(primary)
    yield primary, replica
    for name in (strays.DATABASE, strays.TWIN):
        primary.sql(f"DROP DATABASE {name} WITH (FORCE)")
    primary.sql("ALTER SYSTEM RESET autovacuum")
    primary.sql("SELECT pg_reload_conf()")


@pytest.fixture
def watch(pair, turnstile):
    with strays.Watch(*pair, turnstile(strays.config(*pair))) as watch:
        yield watch


@pytest.mark.parametrize("what", HIDDEN)
def test_i4_what_is_hidden_is_seen(watch, what):
    with log_in(watch.pooler, dbname=strays.DATABASE) as client:
        before = watch.read_routes()
        assert not errors(client.query(HIDDEN[what]))
        assert not errors(client.prepared(HIDDEN[what]))
        assert watch.read_routes() == before


@pytest.mark.parametrize("what", PLAIN)
def test_what_reads_and_looks_like_it_goes_to_the_replica(watch, what):
    with log_in(watch.pooler, dbname=strays.DATABASE) as client:
        before = watch.read_routes()
        assert not errors(client.query(PLAIN[what]))
        assert watch.read_routes() == (before[0] + 1, *before[1:])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_i4_no_random_write_strays_to_the_replica(watch):
    for seed in range(FIRST, FIRST + SESSIONS):
        watch.play(seed, 0.3 if seed % 4 == 0 else 0.05)
    assert watch.writes > SESSIONS and watch.on_replica - watch.rescued > SESSIONS


# What a command makes of something that was a read, and what it was before.
REDEFINED = {
    "an unlogged table": ("ALTER TABLE {0} SET UNLOGGED", "CREATE TABLE {0} AS SELECT 1 AS n",
                          "SELECT n FROM {0}"),
    "a function that writes": ("CREATE OR REPLACE FUNCTION {0}(int) RETURNS int STABLE LANGUAGE sql"
                               " AS 'SELECT f_writes($1)'",
                               "CREATE FUNCTION {0}(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1'",
                               "SELECT {0}(1)"),
    "a function that locks": ("CREATE OR REPLACE FUNCTION {0}(int) RETURNS int STABLE LANGUAGE sql"
                              " AS 'SELECT $1 FROM (SELECT pg_advisory_lock($1)) AS locked'",
                              "CREATE FUNCTION {0}(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1'",
                              "SELECT {0}(1)"),
    "a view that writes": ("CREATE OR REPLACE VIEW {0} AS SELECT f_writes(n) AS n FROM a",
                           "CREATE VIEW {0} AS SELECT n FROM a", "SELECT n FROM {0}"),
}


@pytest.mark.parametrize("what", REDEFINED)
def test_i4_what_is_defined_anew_is_judged_anew(watch, what):
    """Not when the catalog is read again by itself, a minute later: before any read goes there."""
    name = "anew_" + what.replace(" ", "_")
    redefine, define, ask = (sql.format(name) for sql in REDEFINED[what])
    with log_in(watch.pooler, dbname=strays.DATABASE) as client:
        assert not errors(client.query(define))
        wait_until(lambda: client.query(ask) and watch.read_routes()[0] > watch.routes[0], 30, "it is a read")
        watch.wait_routed()
        before = watch.read_routes()[1:]
        assert not errors(client.query(redefine))
        for _ in range(3):
            watch.wait_routed()
            assert not errors(client.query(ask)) and not errors(client.prepared(ask))
        assert watch.read_routes()[1:] == before
        assert watch.locks_on_replica() == 0
