# SPDX-License-Identifier: ISC
#
# test_prepared_sql.py - SQL texts that name prepared statements, in transaction mode: what the
# client calls a statement is not what the server calls it, and nobody may see the difference.
"""PREPARE, EXECUTE and DEALLOCATE of statements of either protocol."""
import pytest

import raw
from conftest import APP_DATABASE
from rig import clients, log_in, pid_of, shop, sqlstate

SYNC = raw.sync()
FIELDS = "SVCMDHP"  # of an error: all but where the server's source says it


@pytest.fixture
def t(primary, turnstile):
    return turnstile(shop(primary))


def exact(messages):
    """The messages with every word of an error that a client may see."""
    return [(m.kind, {k: v for k, v in m.fields.items() if k in FIELDS} if m.kind in "EN"
             else m.body) for m in messages]


def same_words(server, pooler, *requests):
    """rig.same_as_direct(), with errors word for word and positions."""
    with log_in(server) as direct, log_in(pooler) as through:
        for request in requests:
            ends = 1 if isinstance(request, bytes) else len(request)
            request = request if isinstance(request, bytes) else b"".join(request)
            direct.send(request)
            through.send(request)
            for _ in range(ends):
                assert exact(through.until("Z")) == exact(direct.until("Z")), request


def prepare(name, sql):
    return raw.parse(name, sql) + SYNC


def use(name, *values):
    return raw.bind("", name, values) + raw.execute() + SYNC


def extended(sql):
    return raw.parse("", sql) + raw.bind() + raw.describe("P") + raw.execute() + SYNC


BOTH = pytest.mark.parametrize("run", [raw.query, extended])


# --- statements of the protocol, named in SQL --------------------------------------------------------
@BOTH
def test_deallocate(primary, t, run):
    same_words(primary, t, prepare("s", "SELECT 1"), use("s"), run("DEALLOCATE s"), use("s"),
               run("DEALLOCATE s"), prepare("s", "SELECT 2"), use("s"),
               run("deallocate Prepare S"), prepare("Mixed", "SELECT 3"), run("DEALLOCATE mixed"),
               use("Mixed"), run('DEALLOCATE "Mixed"'), use("Mixed"),
               prepare("prepare", "SELECT 4"), run("DEALLOCATE PREPARE"), use("prepare"),
               prepare("data", "SELECT 5"), run('DEALLOCATE U&"d\\0061ta"'), use("data"))


@BOTH
def test_deallocate_in_a_transaction(primary, t, run):
    same_words(primary, t, prepare("s", "SELECT 1"), prepare("kept", "SELECT 'kept'"),
               run("BEGIN"), run("DEALLOCATE s"), use("s"), run("DEALLOCATE kept"), run("ROLLBACK"),
               use("s"), use("kept"), prepare("kept", "SELECT 'kept'"),
               run("BEGIN"), run("DEALLOCATE kept"), use("kept"), run("COMMIT"))


def test_deallocate_among_others(primary, t):
    both = ["a", "b"]
    same_words(primary, t, *(prepare(n, f"SELECT '{n}'") for n in both),
               raw.query("DEALLOCATE a; SELECT 1; DEALLOCATE b"), *map(use, both),
               *(prepare(n, f"SELECT '{n}'") for n in both),
               raw.query("DEALLOCATE a; SELECT 1/0; DEALLOCATE b"), *map(use, both),
               raw.query("DEALLOCATE b; DEALLOCATE b"), *map(use, both))


def test_deallocate_needs_no_server(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client, log_in(t) as other:
        client.send(prepare("s", "SELECT 1"))
        client.until("Z")
        other.query("BEGIN")
        pid_of(other)
        assert raw.kinds(client.query("DEALLOCATE s")) == "CZ"
        assert sqlstate(other.query("DEALLOCATE s")) == "26000"


def test_i2_deallocate_is_ones_own(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as both:
        for client in both:
            client.send(prepare("s", "SELECT 'shared'") + use("s"))
            client.until("Z"), client.until("Z")
        both[0].send(raw.query("BEGIN") + extended("DEALLOCATE s") + raw.query("COMMIT"))
        assert [raw.kinds(both[0].until("Z")) for _ in range(3)] == ["CZ", "12nCZ", "CZ"]
        both[1].send(use("s"))
        assert raw.kinds(both[1].until("Z")) == "2DCZ"
        assert both[1].rows("SELECT count(*) FROM pg_prepared_statement() WHERE statement = ''") \
            == [("0",)]


def test_pipelines_with_deallocate(primary, t):
    nope = raw.bind("", "nowhere")
    same_words(primary, t, prepare("s", "SELECT 1"),
               [use("s"), raw.query("DEALLOCATE s"), use("s"), raw.query("DEALLOCATE s")],
               [prepare("s", "SELECT 2"), raw.query("DEALLOCATE s"), use("s")],
               [prepare("s", "SELECT 3"), extended("DEALLOCATE s"), prepare("s", "SELECT 4"), use("s")],
               [nope + raw.parse("", "DEALLOCATE s") + raw.bind() + raw.execute() + SYNC, use("s")],
               [raw.parse("", "DEALLOCATE s") + raw.bind() + raw.execute() + nope + SYNC, use("s")],
               raw.parse("s", "SELECT 5") + raw.parse("d", "DEALLOCATE s") + raw.bind("", "d")
               + raw.execute() + raw.parse("s", "SELECT 6") + raw.bind("", "s") + raw.execute() + SYNC,
               use("s"),
               raw.parse("x", "SELECT 7") + raw.query("DEALLOCATE x"), use("x"))


def test_psycopg_keeps_few_statements(primary, turnstile):
    """It takes away with DEALLOCATE what it has not used for long."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with t.connect(APP_DATABASE, "app") as connection, log_in(t) as other:
        connection.prepare_threshold, connection.prepared_max = 0, 2
        for turn in range(3):
            with connection.transaction():
                for i in range(5):
                    assert connection.execute(f"SELECT {i} + %s", [1]).fetchone() == (i + 1,)
            for i in range(5):
                assert connection.execute(f"SELECT {i} + %s", [1]).fetchone() == (i + 1,)
            other.query("SELECT 1")


@BOTH
def test_execute(primary, t, run):
    same_words(primary, t, prepare("s", "SELECT $1::int + 1 AS n"), run("EXECUTE s(1)"),
               run("EXPLAIN (COSTS off) EXECUTE s(2)"), run("EXPLAIN EXECUTE s(3)"),
               run("CREATE TEMP TABLE made AS EXECUTE s(4)"), run("SELECT n + 0 FROM made"),
               run("EXECUTE s"), run("EXECUTE s(1, 2)"), run("EXECUTE S(5)"), run('EXECUTE "S"(5)'),
               run("EXECUTE nowhere"), run("EXECUTE pgt_1"), run("EXECUTE s(nothing)"),
               run("/* ünïcödé */ EXECUTE s(nothing)"), run("EXECUTE /* x */ s ( 1 + 'a' )"),
               run("EXECUTE s(1"))


def test_execute_where_the_server_lacks_it(primary, t):
    with log_in(t) as client:
        client.send(prepare("s", "SELECT $1::int + 1"))
        client.until("Z")
        before = pid_of(client)
        with clients(t, 2) as others:
            for other in others:
                other.query("BEGIN")
            pids = [pid_of(other) for other in others]
            others[1 - pids.index(before)].query("COMMIT")
            assert client.rows("EXECUTE s(1)") == [("2",)]
            client.send(raw.query("EXECUTE s(2)"), raw.query("EXECUTE s(3)"), raw.query("SELECT 4"))
            assert [raw.find(client.until("Z"), "D")[0].row for _ in range(3)] \
                == [("3",), ("4",), ("4",)]


def test_i3_what_was_to_be_prepared_before_fails(primary, t):
    """The server skips the Query too; the client still gets its answer, and the next works."""
    primary.sql("CREATE TABLE IF NOT EXISTS vanishing (); GRANT ALL ON vanishing TO PUBLIC",
                dbname=APP_DATABASE)
    with log_in(t) as client:
        client.send(prepare("s", "SELECT FROM vanishing"))
        client.until("Z")
        primary.sql("DROP TABLE vanishing", dbname=APP_DATABASE)
        before = pid_of(client)
        with clients(t, 2) as others:
            for other in others:
                other.query("BEGIN")
            pids = [pid_of(other) for other in others]
            others[1 - pids.index(before)].query("COMMIT")
            client.send(raw.query("SELECT 1; EXECUTE s"), raw.query("SELECT 2"), use("s"),
                        raw.query("BEGIN"), raw.query("EXECUTE s"), raw.query("COMMIT"))
            answers = [client.until("Z") for _ in range(6)]
            assert [sqlstate(a) for a in answers] == ["42P01", None, "42P01", None, "42P01", None]
            assert raw.kinds(answers[1]) == "TDCZ"
            assert raw.find(answers[5], "C")[0].text == "ROLLBACK"


def test_a_batch_without_sync_before(primary, t):
    same_words(primary, t, prepare("s", "SELECT 's'"),
               raw.parse("", "SELECT 1") + raw.bind() + raw.execute() + raw.query("EXECUTE s"),
               raw.parse("u", "SELECT 2") + raw.query("EXECUTE u"), raw.query("EXECUTE u"))


# --- names that SQL gives ----------------------------------------------------------------------------
@BOTH
def test_prepare(primary, t, run):
    describe = raw.describe("S", "s") + SYNC
    same_words(primary, t, run("PREPARE s AS SELECT 1"), use("s"), describe, run("EXECUTE s"),
               prepare("s", "SELECT 2"), use("s"), run("PREPARE s AS SELECT 3"),
               raw.close("S", "s") + SYNC, use("s"), prepare("s", "SELECT 4"), use("s"),
               run("PREPARE s AS SELECT 5"), use("s"), run("DEALLOCATE s"), use("s"),
               run("PREPARE s AS SELECT 6"), use("s"), run("DEALLOCATE s"), use("s"),
               prepare("s", "SELECT 7"), use("s"))


def test_prepare_of_a_name_that_there_is(primary, t):
    same_words(primary, t, prepare("s", "SELECT 1"), raw.query("PREPARE s AS SELECT 2"),
               raw.query("PREPARE s AS SELECT nothing"), raw.query("PREPARE s AS SELEC"), use("s"),
               raw.query("DEALLOCATE s; PREPARE s AS SELECT 3; EXECUTE s"), use("s"),
               raw.query("DEALLOCATE ALL"), use("s"), prepare("s", "SELECT 4"), use("s"))


def test_i2_what_prepare_made_is_gone_with_its_server(primary, turnstile):
    """session_state = log: the statement is lost, and its name is free again."""
    t = turnstile(shop(primary, {"default_pool_size": 1, "session_state": "log"}))
    with log_in(t) as client, log_in(t) as other:
        assert raw.kinds(client.query("PREPARE s AS SELECT 'made'")) == "CZ"
        client.send(prepare("s", "SELECT 'mine'") + use("s"))
        assert [raw.kinds(client.until("Z")) for _ in range(2)] == ["1Z", "2DCZ"]
        other.send(use("s"))
        assert sqlstate(other.until("Z")) == "26000"
        assert raw.find(client.query("EXECUTE s"), "D")[0].row == ("mine",)


def test_names_that_look_like_ours(primary, t):
    same_words(primary, t, raw.query("PREPARE pgt_2 AS SELECT 'mine'"), prepare("s", "SELECT 1"),
               prepare("t", "SELECT 2"), use("s"), use("t"), raw.query("EXECUTE pgt_2"),
               use("pgt_2"), raw.query("EXECUTE pgt_1"), prepare("pgt_1", "SELECT 'one'"),
               use("pgt_1"), raw.query("EXECUTE pgt_1"), raw.query("DEALLOCATE pgt_2"),
               raw.query("EXECUTE pgt_2"), prepare("pgt_2", "SELECT 'again'"), use("pgt_2"))


def test_long_names_are_cut(primary, t):
    name = "n" * 62
    same_words(primary, t, prepare(name + "ab", "SELECT 1"), use(name + "ac"),
               raw.query(f"EXECUTE {name}a"), prepare(name + "ad", "SELECT 2"))


@pytest.mark.parametrize("what", ["ALL", "PLANS", "SEQUENCES", "TEMP"])
@BOTH
def test_discard(primary, t, what, run):
    same_words(primary, t, prepare("s", "SELECT 1"), run("PREPARE q AS SELECT 2"),
               run(f"DISCARD {what}"), use("s"), use("q"), run("EXECUTE s"), run("EXECUTE q"))


def test_error_of_a_bind_names_the_statement_as_its_client_does(primary, t):
    same_words(primary, t, prepare("mine", "SELECT $1::int"), use("mine"), use("mine", "1", "2"))


# --- tenants -------------------------------------------------------------------------------------------
def test_i1_execute_does_not_go_around_what_a_bind_is_asked(primary, turnstile):
    config = shop(primary, {"tenant_by": "database", "tenant_setting": "app.business_id"})
    config["tiers"] = {"standard": {}}
    config["tenants"] = {"acme": {"tier": "standard", "business_id": "42", "database": APP_DATABASE}}
    t = turnstile(config)
    with log_in(t) as client:
        assert client.rows("SELECT current_setting('app.business_id')") == [("42",)]
        client.send(prepare("s", "SELECT set_config('app.business_id', $1, false)"))
        assert sqlstate(client.until("Z")) is None
        for text in "EXECUTE s('7')", "EXPLAIN ANALYZE EXECUTE s('7')", "CREATE TEMP TABLE x AS EXECUTE s('7')":
            assert sqlstate(client.query(text)) == "42501"
            client.send(extended(text))
            assert sqlstate(client.until("Z")) == "42501"
        assert client.rows("SELECT current_setting('app.business_id')") == [("42",)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("text", [
    "SELECT name FROM pg_prepared_statements", "TABLE pg_prepared_statements",
    "SELECT p.name FROM pg_catalog . pg_prepared_statements p ORDER BY 1",
    "SELECT pg_prepared_statements.name FROM \"pg_prepared_statements\" WHERE from_sql",
    "SELECT name FROM generate_series(1, 1) g, PG_PREPARED_STATEMENTS AS q LIMIT 1",
    "SELECT name FROM generate_series(1, 1) g JOIN pg_prepared_statements ON true /* , */",
    "SELECT (SELECT count(*) FROM pg_prepared_statements), 1 FROM pg_prepared_statements;",
    "SELECT 'pg_prepared_statements'::regclass, 'FROM pg_prepared_statements'",
    "SELECT name FROM pg_prepared_statements UNION SELECT name FROM pg_prepared_statements ORDER BY 1",
    "WITH p AS (SELECT * FROM pg_prepared_statements) SELECT p.name FROM p",
])
def test_i2_statements_of_others_are_not_shown(primary, turnstile, text, extended):
    """Nor what we make of them: those of SQL's PREPARE are the client's own."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    seen = []
    for server in primary, t:
        with log_in(server) as client:
            if server is t:
                with log_in(t) as other:
                    other.send(raw.parse("theirs", "SELECT 'theirs'"), raw.sync())
                    other.until("Z")
                    other.send(raw.bind("", "theirs"), raw.execute(), raw.sync())
                    assert raw.kinds(other.until("Z")) == "2DCZ"
            client.query("PREPARE mine AS SELECT 1")
            messages = client.prepared(text) if extended else client.query(text)
            assert not sqlstate(messages), raw.find(messages, "E")[0].fields
            seen.append([m.row[:2] for m in raw.find(messages, "D")])
    assert seen[1] == seen[0]
