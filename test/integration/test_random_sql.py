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
    "the default of an argument that locks": "SELECT f_default()",
    "the default of an argument that writes": "SELECT f_default_writes()",
    "a call with a comment in a body": "SELECT f_comments()",
    "a view in a body": "SELECT f_of_view()",
    "an operator in a body": "SELECT f_operates(1)",
    "a domain in a body": "SELECT f_casts(1)",
    "a function of a row in a body": "SELECT f_row_field()",
    "a sequence in a body": "SELECT f_last()",
    "a sequence in a parsed body": "SELECT f_last_new()",
    "a sequence in the body of a function in a body": "SELECT f_last_call()",
    "a sequence in a view": "SELECT * FROM v_last_over",
    "a sequence in the body of a function in a view": "SELECT * FROM v_function",
    "a sequence in a body by an escape": "SELECT f_escapes()",
    "a connection in a body": "SELECT f_pid()",
    "a connection in a view": "SELECT * FROM v_pid",
    "a transaction in a view": "SELECT * FROM v_transaction",
    "statistics in a body": "SELECT f_counts()",
    "statistics in a view": "SELECT * FROM v_activity",
    "settings in a view over a view": "SELECT * FROM v_settings_over",
    "a server in a view": "SELECT * FROM v_started",
    "a server's setting": "SELECT current_setting('in_hot_standby')",
    "a server's setting in an odd spelling": "SELECT pg_catalog . \"current_setting\" /**/ ( U&'\\0070ort' , true )",
    "a setting that is put together": "SELECT current_setting('po' || 'rt')",
    "a server's setting in a body": "SELECT f_node()",
    "a server's setting in a parsed body": "SELECT f_node_new()",
    "a server's setting as a default": "SELECT f_node_default()",
    "a server's setting in a view": "SELECT * FROM v_node",
    "a server's setting in a policy": "SELECT * FROM told",
    "a setting that only the caller knows": "SELECT f_setting('port')",
}
# And what is of the same form, and reads.
PLAIN = {
    "an operator": "SELECT n -! 1 FROM a",
    "an operator with a sign that is escaped": "SELECT '{\"k\": 1}'::jsonb @> j FROM a WHERE n <> 1 AND n >= 0",
    "a domain": "SELECT 5::small",
    "a function in SQL": "SELECT f_stable(1)",
    "rows of a function": "SELECT n FROM f_rows(3)",
    "a materialized view of a sequence": "SELECT * FROM m_last",
    "rows that a text gives their columns": "SELECT n FROM jsonb_to_record('{\"n\": 5}') AS x(n small)",
    "the session's settings in a body and a default": "SELECT f_own_setting()",
    "the session's settings in a view": "SELECT * FROM v_own_setting",
    "the session's settings in a policy": "SELECT * FROM kept",
    "the session's settings": "SELECT current_setting('app.x', true), current_setting('TimeZone'::text)",
    "a view of the server's own": "SELECT table_name FROM information_schema.tables",
    "a view of the server's own that looks like statistics": "SELECT tablename FROM pg_stats",
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


@pytest.mark.parametrize("sql", ['SELECT last_value FROM "säq"', 'SELECT r."f_schreibt_ä" FROM b r',
                                 'SELECT "f_schreibt_ä"(r) FROM b r'])
@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1"])
def test_i4_a_name_is_known_in_any_encoding(watch, sql, encoding):
    with log_in(watch.pooler, dbname=strays.DATABASE) as client:
        assert not errors(client.query(f"SET client_encoding = {encoding}"))
        before = watch.read_routes()
        client.send(b"Q" + (len(sql.encode(encoding)) + 5).to_bytes(4, "big") + sql.encode(encoding) + b"\0")
        assert not errors(client.until("Z"))
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
        if seed % 5 == 0:  # what sessions define keeps reads away from the replica
            watch.wait_routed()
        watch.play(seed, 0.3 if seed % 4 == 0 else 0.05)
    assert watch.writes > SESSIONS and watch.on_replica - watch.rescued > SESSIONS / 2
    assert watch.compared > SESSIONS / 4


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
