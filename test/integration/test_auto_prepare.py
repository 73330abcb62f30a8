# SPDX-License-Identifier: ISC
#
# test_auto_prepare.py - unnamed statements that repeat are prepared behind their client's back, and
# nobody can tell (I2, I3).
"""Each conversation is compared with one of a direct connection; counters tell what was prepared."""
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import clients, essence, log_in, shop, sqlstate
from waiting import wait_until

SYNC = raw.sync()
SCHEMA = """
CREATE TABLE auto_rows (id int PRIMARY KEY, note text);
INSERT INTO auto_rows SELECT n, 'note ' || n FROM generate_series(1, 100) n;
CREATE TABLE auto_free (id int, note text);
"""
READ = "SELECT id, note FROM auto_rows WHERE id = $1"


@pytest.fixture(autouse=True)
def _tables(app):
    app.execute("DROP TABLE IF EXISTS auto_rows, auto_free; DROP SCHEMA IF EXISTS auto_early CASCADE")
    app.execute(SCHEMA)
    yield
    app.execute("DROP TABLE IF EXISTS auto_rows, auto_free; DROP SCHEMA IF EXISTS auto_early CASCADE")


def auto(server, settings=None, database=None):
    return shop(server, {"auto_prepare_after": 2, "default_pool_size": 1, **(settings or {})},
                database)


@pytest.fixture
def t(primary, turnstile):
    return turnstile(auto(primary))


def ask(sql, *values, oids=()):
    """What drivers send for a statement without a name."""
    return raw.parse("", sql, oids) + raw.bind("", "", values) + raw.describe("P") + raw.execute()


def counts(t):
    """Parses that were answered here; requests that were asked again."""
    rows = [r for r in t.admin("SHOW SAVINGS") if r["database"] == APP_DATABASE]
    return (rows[0]["auto_parses"], rows[0]["auto_again"]) if rows else (0, 0)


class Pair:
    """The same said to the server and to the pooler."""

    def __init__(self, server, pooler, **kwargs):
        self.pooler = pooler
        self.direct, self.through = log_in(server, **kwargs), log_in(pooler, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.direct.close()
        self.through.close()

    def say(self, *requests):
        """Each ends in a ReadyForQuery; the last answer."""
        for request in requests:
            self.direct.send(request)
            self.through.send(request)
            expected, got = self.direct.until("Z"), self.through.until("Z")
            assert essence(got) == essence(expected), request
        return got

    def warm(self, request, times=4):
        """Until it is answered by what was prepared."""
        before = counts(self.pooler)[0]
        self.say(*[request] * times)
        assert counts(self.pooler)[0] > before, "was not prepared"


@pytest.fixture
def pair(primary, t):
    with Pair(primary, t) as pair:
        yield pair


# --- the same answers ------------------------------------------------------------------------------
FORMS = [ask(READ, 7) + SYNC, ask(READ, 7, oids=[23]) + SYNC,
         raw.parse("", READ) + raw.bind("", "", [7], result_formats=[1]) + raw.execute() + SYNC,
         ask("/* sqlcommenter */ SELECT note FROM auto_rows WHERE id = $1", 7) + SYNC,
         ask("UPDATE auto_rows SET note = $1 WHERE id = $2", "x", 8) + SYNC,
         ask("INSERT INTO auto_rows VALUES ($1, $2) ON CONFLICT DO NOTHING", 8, "y") + SYNC,
         ask("DELETE FROM auto_rows WHERE id = $1 RETURNING *", 1000) + SYNC,
         ask("MERGE INTO auto_rows USING (SELECT $1::int AS n) AS s ON id = n "
             "WHEN MATCHED THEN UPDATE SET note = $2", 9, "z") + SYNC,
         ask("WITH a AS (SELECT 1 AS one) SELECT one FROM a") + SYNC,
         ask("VALUES ($1::int)", 5) + SYNC]


@pytest.mark.parametrize("request_", FORMS, ids=range(len(FORMS)))
def test_i3_answers_are_those_of_a_parse(pair, request_):
    pair.warm(request_, 5)


def test_i3_described_before_it_is_bound(pair):
    """As lib/pq does: two batches."""
    two = [raw.parse("", READ) + raw.describe("S") + SYNC,
           raw.bind("", "", [7]) + raw.execute() + SYNC]
    pair.say(*two * 2)
    pair.warm(two[0])
    pair.say(*two * 3)
    pair.say(two[0], ask(READ, 3) + SYNC, two[1])


NEVER = ["SELECT 'now'::timestamptz::text = $1", "SELECT 'ToDay'::date = $1",
         "SELECT E'a\\\\b' = $1", "SELECT $$now$$::date = $1",
         "SELECT note INTO TEMP auto_copy FROM auto_rows WHERE note = $1", "SHOW TimeZone",
         "SELECT set_config('a.b', $1, true)", f"SELECT {'x' * 70}.note FROM auto_rows {'x' * 70} WHERE note = $1"]


@pytest.mark.parametrize("sql", NEVER, ids=range(len(NEVER)))
def test_i3_what_depends_on_the_moment_is_parsed_each_time(pair, sql):
    with_rollback = [raw.query("BEGIN"), ask(sql, *["2020-01-01"] * ("$1" in sql)) + SYNC,
                     raw.query("ROLLBACK")]
    pair.say(*with_rollback * 4)
    assert counts(pair.pooler) == (0, 0)


def test_now_goes_on(pair):
    sql = "SELECT 'now'::timestamptz"
    answers = {pair.through.send(ask(sql) + SYNC) or raw.find(pair.through.until("Z"), "D")[0].row
               for _ in range(5)}
    assert len(answers) == 5


def test_off(primary, turnstile):
    with Pair(primary, turnstile(auto(primary, {"auto_prepare": "no"}))) as pair:
        pair.say(*[ask(READ, 1) + SYNC] * 5)
        assert counts(pair.pooler) == (0, 0)


# --- what changes between two uses -----------------------------------------------------------------
CHANGES = ["DROP TABLE auto_rows", "ALTER TABLE auto_rows DROP COLUMN note",
           "ALTER TABLE auto_rows ALTER note TYPE varchar(9)",
           "ALTER TABLE auto_rows ALTER id TYPE bigint", "ALTER TABLE auto_rows RENAME note TO no",
           "ALTER TABLE auto_rows ADD more int DEFAULT 5",
           "DROP TABLE auto_rows; CREATE TABLE auto_rows (note text, id text)",
           "REVOKE ALL ON auto_rows FROM app"]
ALL = "SELECT * FROM auto_rows WHERE id = $1"


@pytest.mark.parametrize("value", ["7", "5000000000", "nonsense"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sql", [READ, ALL], ids=["columns", "star"])
def test_i3_ddl_between_uses(app, pair, sql, change, value):
    """Made elsewhere: nobody has told the pooler."""
    pair.warm(ask(sql, 7) + SYNC)
    app.execute(change)
    pair.say(*[ask(sql, value) + SYNC] * 4)


@pytest.mark.parametrize("change", CHANGES)
def test_i3_ddl_before_a_transaction(app, pair, change):
    begin, end = raw.query("BEGIN"), raw.query("COMMIT")
    pair.say(*[begin, ask(ALL, 7) + SYNC, end] * 4)
    assert counts(pair.pooler)[0]
    app.execute(change)
    pair.say(*[begin, ask(ALL, 7) + SYNC, end] * 3)


@pytest.mark.parametrize("change", CHANGES[:-1])
def test_i3_ddl_within_a_transaction(app, pair, change):
    pair.warm(ask(ALL, 7) + SYNC)
    pair.say(raw.query("BEGIN"), ask("SELECT 1 + $1::int", 1) + SYNC)
    app.execute(change)
    pair.say(*[ask(ALL, 7) + SYNC] * 2, raw.query("COMMIT"))


@pytest.mark.parametrize("change", CHANGES)
def test_i3_ddl_before_a_describe(app, pair, change):
    describe = raw.parse("", ALL) + raw.describe("S") + SYNC
    pair.say(describe, describe)
    pair.warm(describe)
    app.execute(change)
    pair.say(*[describe, raw.bind("", "", [7]) + raw.execute() + SYNC] * 2)


def test_i3_a_temporary_table_shadows(pair):
    pair.warm(ask(READ, 7) + SYNC)
    pair.say(raw.query("CREATE TEMP TABLE auto_rows (id int, note text)"),
             *[ask(READ, 7) + SYNC] * 3, raw.query("DROP TABLE pg_temp.auto_rows"),
             *[ask(READ, 7) + SYNC] * 3)


def test_i3_a_table_found_first_shadows(pair):
    pair.through.query("CREATE SCHEMA auto_early")
    pair.say(raw.query("SET search_path = auto_early, public"))
    pair.warm(ask(READ, 7) + SYNC)
    pair.through.query("CREATE TABLE auto_early.auto_rows (id int, note text)")
    pair.say(*[ask(READ, 7) + SYNC] * 3)


def test_i3_a_function_of_better_fit(pair):
    pair.through.query("CREATE SCHEMA auto_early")
    make = "CREATE FUNCTION auto_early.f({}) RETURNS text IMMUTABLE RETURN '{}'"
    pair.through.query(make.format("bigint", "big"))
    request = ask("SELECT auto_early.f(id) FROM auto_rows WHERE id = $1", 7) + SYNC

    def is_prepared():  # once the pooler has learned that it leaves nothing
        pair.say(request)
        return counts(pair.pooler)[0]
    wait_until(is_prepared, 20, "it is prepared")
    pair.through.query(make.format("int", "small"))
    pair.say(*[request] * 3)


def test_i3_what_is_made_elsewhere_is_seen_soon(app, pair):
    """PostgreSQL itself does not notice that a plan would find another function now."""
    app.execute("CREATE SCHEMA auto_early")
    make = "CREATE FUNCTION auto_early.f({}) RETURNS text IMMUTABLE RETURN '{}'"
    app.execute(make.format("bigint", "big"))
    request = ask("SELECT auto_early.f(id) FROM auto_rows WHERE id = $1", 7) + SYNC
    pair.warm(request)
    app.execute(make.format("int", "small"))

    def is_seen():
        pair.through.send(request)
        return raw.find(pair.through.until("Z"), "D")[0].row == ("small",)
    wait_until(is_seen, 3, "the new function is found")


def test_i3_settings_of_a_session(pair):
    pair.warm(ask(READ, 7) + SYNC)
    before = counts(pair.pooler)[0]
    pair.say(raw.query("SET enable_indexscan = off"), *[ask(READ, 7) + SYNC] * 3)
    assert counts(pair.pooler)[0] == before
    pair.say(raw.query("RESET enable_indexscan"), raw.query("SET timezone = 'Asia/Tokyo'"),
             *[ask(READ, 7) + SYNC] * 5)
    assert counts(pair.pooler)[0] >= before + 2


def test_i2_literals_are_read_by_the_settings_of_now(pair):
    request = ask("SELECT '1/2/2003'::date - '2003-01-01'::date, $1::int", 7) + SYNC
    pair.warm(request)
    for style in "dmy", "mdy", "ymd":
        pair.say(raw.query(f"SET DateStyle = 'ISO, {style}'"), *[request] * 4)
    pair.say(raw.query("BEGIN"), raw.query("SET LOCAL DateStyle = 'ISO, dmy'"), *[request] * 3,
             raw.query("COMMIT"), *[request] * 3)


@pytest.mark.parametrize("sql,settings", [
    ("SELECT (0.1::float8 + 0.2::float8)::text", ["extra_float_digits = 1", "extra_float_digits = 0"]),
    ("SELECT note || 0.30000000000000004::float8::text FROM auto_rows WHERE id = 7",
     ["extra_float_digits = 1", "extra_float_digits = -5"]),
    ("SELECT decode('414200', 'hex')::text", ["bytea_output = hex", "bytea_output = escape"])])
@pytest.mark.parametrize("name", ["", "mine"])
def test_i2_constants_are_written_by_the_settings_of_now(pair, name, sql, settings):
    """A plan that is kept has computed them, by the settings of whoever ran it first."""
    request = raw.parse(name, sql) + raw.bind("", name) + raw.execute() + raw.close("S", name) + SYNC
    for setting in settings * 2:
        pair.say(raw.query(f"SET {setting}"), *[request] * 4)
    for setting in settings:
        pair.say(raw.query("BEGIN"), raw.query(f"SET LOCAL {setting}"), *[request] * 3, raw.query("COMMIT"))


@pytest.mark.parametrize("local", ["SET LOCAL DateStyle = 'ISO, dmy'", "SET LOCAL \"DateStyle\" TO dmy",
                                   "SELECT set_config('DateStyle', 'dmy', true)",
                                   "SELECT set_config('Date' || 'Style', 'dmy', true)"])
@pytest.mark.parametrize("extended", [False, True])
def test_i2_named_ones_are_read_by_the_settings_of_the_transaction(pair, local, extended):
    request = raw.parse("mine", "SELECT '1/2/2003'::date - '2003-01-01'::date") + raw.bind("", "mine") \
        + raw.execute() + raw.close("S", "mine") + SYNC
    local = ask(local) + SYNC if extended else raw.query(local)
    pair.say(raw.query("SET DateStyle = 'ISO, mdy'"), *[request] * 2, raw.query("BEGIN"), local,
             *[request] * 2, raw.query("COMMIT"), *[request] * 2)


def test_i2_nobody_sees_them(pair):
    pair.warm(ask(READ, 7) + SYNC)
    pair.say(raw.query("SELECT name, statement FROM pg_prepared_statements"),
             raw.bind("", "pgt_1", [7]) + SYNC, raw.query("DEALLOCATE ALL"),
             ask(READ, 7) + SYNC, raw.query("DISCARD ALL"), ask(READ, 7) + SYNC,
             raw.close("S") + SYNC, raw.bind("", "", [7]) + SYNC)


# --- errors ----------------------------------------------------------------------------------------
def test_i3_errors_arise_at_the_parse(pair):
    pair.say(*[ask("SELEC 1") + SYNC] * 4, *[ask("SELECT nowhere FROM auto_rows") + SYNC] * 4,
             *[ask("SELECT 1 FROM auto_nowhere") + SYNC] * 4)
    assert counts(pair.pooler) == (0, 0)


def test_i3_errors_arise_where_they_would(app, pair):
    pair.warm(ask(READ, 7) + SYNC)
    for request in (ask(READ, "x"), ask(READ), ask(READ, 1, 2),
                    raw.parse("", READ) + raw.bind("", "", [7], [1]) + raw.execute()):
        pair.say(*[request + SYNC, ask(READ, 7) + SYNC] * 3)
    app.execute("ALTER TABLE auto_rows ADD CHECK (id > 0)")
    change = "UPDATE auto_rows SET id = $1 WHERE id = 7"
    pair.warm(ask(change, 7) + SYNC)
    pair.say(*[ask(change, -1) + SYNC] * 2, ask(change, 1) + SYNC, raw.bind("", "", [7]) + SYNC)


BY_ITSELF = ask(READ, 7) + SYNC


@pytest.mark.parametrize("request_", [
    raw.parse("", READ) + raw.bind("", "auto_other", [2]) + raw.describe("P") + raw.execute() + SYNC,
    raw.parse("", READ) + raw.bind("", "auto_none", [2]) + raw.describe("P") + raw.execute() + SYNC,
    raw.parse("", READ) + raw.bind("portal", "", [2]) + raw.describe("P") + raw.execute() + SYNC,
    raw.parse("", READ) + raw.bind("", "", [2]) + raw.execute("", 1) + SYNC,
    raw.parse("", READ) + raw.bind("", "", [2]) + raw.execute() + SYNC,
    raw.parse("", READ) + raw.message("B", b"\0\0") + raw.describe("P") + raw.execute() + SYNC,
    raw.parse("", READ) + raw.message("B", b"\0\0\0\7\0") + raw.execute() + SYNC,
], ids=range(7))
def test_i3_what_looks_like_a_batch_that_is_known(pair, request_):
    """A Parse, its Bind and all behind it are told apart by their bytes where they can be."""
    pair.say(raw.parse("auto_other", "SELECT note || '!' FROM auto_rows WHERE id = $1") + SYNC)
    pair.warm(BY_ITSELF)
    pair.say(*[request_, BY_ITSELF] * 3)


def test_i3_a_known_batch_with_others_behind_it(pair):
    pair.warm(BY_ITSELF)
    pair.say(ask(READ, 8) + SYNC, raw.bind("", "", [9]) + raw.describe("P") + raw.execute() + SYNC,
             raw.describe("S") + SYNC)
    for side in pair.direct, pair.through:
        side.send(BY_ITSELF + raw.query("BEGIN") + BY_ITSELF + raw.query("COMMIT") + BY_ITSELF[:-7])
        side.send(BY_ITSELF[-7:])
    answers = [essence([m for _ in range(5) for m in side.until("Z")])
               for side in (pair.direct, pair.through)]
    assert answers[0] == answers[1]


def test_i3_one_that_fails_is_not_prepared_for_a_while(pair):
    pair.warm(ask(READ, 7) + SYNC)
    pair.say(*[ask(READ, "x") + SYNC] * 60)
    assert 1 <= counts(pair.pooler)[1] <= 5


def test_i3_in_a_failed_transaction(pair):
    pair.warm(ask(READ, 7) + SYNC)
    pair.say(raw.query("BEGIN"), ask(READ, "x") + SYNC, ask(READ, 7) + SYNC, raw.query("ROLLBACK"),
             raw.query("BEGIN"), ask(READ, 7) + SYNC, ask(READ, "x") + SYNC, ask(READ, 7) + SYNC,
             raw.query("COMMIT"), ask(READ, 7) + SYNC)


# --- pipelines -------------------------------------------------------------------------------------
def test_i3_a_hundred_in_a_batch(pair):
    batch = b"".join(ask(READ, n) for n in range(100)) + SYNC
    pair.warm(ask(READ, 7) + SYNC)
    before = counts(pair.pooler)[0]
    pair.say(batch)
    assert counts(pair.pooler)[0] >= before + 99
    pair.say(raw.query("BEGIN"), batch, batch, raw.query("COMMIT"))


def test_i3_a_hundred_batches(pair):
    pair.warm(ask(READ, 7) + SYNC)
    batch = ask(READ, 7) + SYNC
    for side in pair.direct, pair.through:
        side.send(batch * 100)
    answers = [essence([m for _ in range(100) for m in side.until("Z")])
               for side in (pair.direct, pair.through)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("between", [
    ask(READ, "x"), ask("ALTER TABLE IF EXISTS auto_nowhere ADD x int"), ask("SELEC"), ask("SET LOCAL enable_seqscan = off"),
    ask("CREATE TEMP TABLE auto_rows (id int, note text)"), ask("SELECT 1 + $1::int", 1),
    raw.close("S"), raw.bind("", "", [8]) + raw.execute(), raw.parse("n", READ),
    raw.parse("", "SELECT 5") + raw.bind() + raw.execute(), ask("ROLLBACK")], ids=range(11))
def test_i3_something_else_in_a_batch(pair, between):
    pair.warm(ask(READ, 7) + SYNC)
    pair.warm(ask(ALL, 7) + SYNC)
    pair.say(ask(READ, 7) + ask(READ, 8) + between + ask(READ, 9) + ask(ALL, 9) + SYNC,
             ask(READ, 7) + SYNC, raw.query("DROP TABLE IF EXISTS pg_temp.auto_rows"))


@pytest.mark.parametrize("row", [
    [ask(READ, n, oids=[23]) for n in range(6)],
    [ask("INSERT INTO auto_free VALUES ($1, $2)", n, "new") for n in range(200, 206)],
    [ask("INSERT INTO auto_free SELECT * FROM auto_rows WHERE id = $1", n) for n in range(6)],
    [ask("SELECT 12 / (id - 3) FROM auto_rows WHERE id = $1", n) for n in range(1, 6)],
    [ask("SELECT 1 + $1::int", n) for n in range(20)],
    [ask("SELECT id, repeat(note, 300) FROM auto_rows WHERE id < $1", 20 * n) for n in range(6)],
    [raw.parse("", READ) + raw.bind("", "", [n], result_formats=[1]) + raw.execute() for n in range(6)],
    [ask(READ, n) for n in (1, 2)] + [ask(READ, "x")] + [ask(READ, n) for n in (3, 4)],
    [ask(sql, 7) for sql in (READ, READ, ALL, ALL, READ, READ, READ)],
    [ask(READ, 1), ask(READ, 2), ask(READ.replace("id, note", "note, id"), 3), ask(READ, 4)],
    [ask(READ, 7, oids=[oid]) for oid in (23, 23, 20, 23)],
    [ask("SELECT 8 / $1::int", n) for n in (1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1)],
    [ask(READ, 1), ask(READ, 2), raw.parse("", READ) + raw.bind("", "", [3]) + raw.execute("", 1),
     ask(READ, 4), raw.parse("", READ) + raw.bind("p", "", [5]) + raw.execute("p"), ask(READ, 6),
     raw.parse("", READ) + raw.message("B", b"\0\0") + raw.execute(), ask(READ, 8)],
    [ask(READ, 1), ask(READ, 2) + raw.describe("S"), ask(READ, 3) + raw.execute(), ask(READ, 4) + raw.flush(),
     ask(READ, 5)],
], ids=range(14))
def test_i3_the_same_again_and_again(pair, row):
    """One behind the other they are sent and answered as a row, up to what is not quite the same."""
    pair.warm(row[0] + SYNC, 6)
    pair.say(b"".join(row) + SYNC, ask(READ, 7) + SYNC, row[0] + SYNC,
             raw.bind("", "", [8]) + raw.execute() + SYNC)
    pair.say(raw.query("BEGIN"), b"".join(row) + SYNC, raw.query("ROLLBACK"))
    for side in pair.direct, pair.through:
        side.send((b"".join(row) + SYNC) * 3)
    answers = [essence([m for _ in range(3) for m in side.until("Z")])
               for side in (pair.direct, pair.through)]
    assert answers[0] == answers[1]


def test_i3_what_was_known_of_a_row_does_not_fit(app, pair):
    """What fails for that is asked again as it was sent, all of it."""
    pair.warm(ask(ALL, 7) + SYNC)
    app.execute("ALTER TABLE auto_rows ADD more int DEFAULT 5")
    pair.say(b"".join(ask(ALL, n) for n in range(5)) + SYNC, ask(ALL, 7) + SYNC)
    app.execute("ALTER TABLE auto_rows RENAME id TO other")
    pair.say(b"".join(ask(ALL, n) for n in range(5)) + SYNC, ask(READ, 7) + SYNC)


def test_a_row_is_counted_as_its_statements(pair):
    def counted():
        totals = [r for r in pair.pooler.admin("SHOW STATS_TOTALS") if r["database"] == APP_DATABASE][0]
        shapes = [r for r in pair.pooler.admin("SHOW QUERIES") if r["query"].endswith("note = $1")]
        return [totals["query_count"], totals["xact_count"], shapes[0]["calls"], shapes[0]["rows"]]

    sql = "SELECT id, note FROM auto_rows WHERE id < 3 AND note = $1"
    pair.warm(ask(sql, "note 1") + SYNC)
    before = counted()
    pair.say(b"".join(ask(sql, f"note {n % 4}") for n in range(40)) + SYNC)
    assert [a - b for a, b in zip(counted(), before)] == [40, 1, 40, 20]


def test_i3_room_for_one_only(primary, turnstile):
    """What a batch needs is not taken away within it."""
    with Pair(primary, turnstile(auto(primary, {"max_prepared_statements": 1}))) as pair:
        requests = [ask(sql, 7) for sql in (READ, ALL, "SELECT $1::int")]
        for _ in range(4):
            pair.say(*[request + SYNC for request in requests])
        pair.say(b"".join(requests) * 10 + SYNC, *[request + SYNC for request in requests])


# --- others ----------------------------------------------------------------------------------------
def test_i3_a_client_that_listens(pair):
    pair.warm(ask(READ, 7) + SYNC)
    pair.say(raw.query("LISTEN auto"), *[ask(READ, 7) + SYNC] * 3, raw.query("UNLISTEN auto"),
             *[ask(READ, 7) + SYNC] * 3)


def test_i7_a_cancel_hits_what_waits_for_a_lock(app, pair):
    pair.warm(ask(READ, 7) + SYNC)
    answers = []
    for side in pair.direct, pair.through:
        with app.transaction():
            app.execute("LOCK auto_rows")
            side.send(ask(READ, 7) + SYNC)
            wait_until(lambda: app.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0],
                       10, "it waits")
            side.cancel()
            answers.append(essence(side.until("Z")))
    assert answers[0] == answers[1]
    pair.say(ask(READ, 7) + SYNC)


def test_i3_a_server_that_is_lost(primary, app, pair):
    pair.warm(ask(READ, 7) + SYNC)
    with app.transaction():
        app.execute("LOCK auto_rows")
        pair.through.send(ask("UPDATE auto_rows SET note = $1 WHERE id = $2", "lost", 7) + SYNC)
        wait_until(lambda: app.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0],
                   10, "it waits")
        primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        wait_until(lambda: not app.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0],
                   10, "it is gone")
    assert app.execute("SELECT note FROM auto_rows WHERE id = 7").fetchone() == ("note 7",)
    with log_in(pair.pooler) as client:
        client.send(ask(READ, 7) + SYNC)
        assert raw.find(client.until("Z"), "D")[0].row == ("7", "note 7")


def test_i2_several_clients_on_several_servers(primary, turnstile):
    t = turnstile(auto(primary, {"default_pool_size": 3}))
    with clients(t, 6) as all_clients:
        for n in range(20):
            for i, client in enumerate(all_clients):
                client.send(ask(READ, i + n + 1) + SYNC)
            for i, client in enumerate(all_clients):
                assert raw.find(client.until("Z"), "D")[0].row[0] == str(i + n + 1)
    assert counts(t)[0] > 60


@pytest.mark.parametrize("sql,values", [
    ("SELECT 8 / $1::int", "40"), ("SELECT id FROM auto_rows WHERE id = 0 AND id = 8 / $1::int", "40"),
    ("UPDATE auto_rows SET id = 8 / $1::int WHERE id = 0", "40"),
    ("SELECT id FROM auto_rows WHERE id = 0 AND note ~ $1", "a("), (READ, "1x")])
def test_i3_what_fails_when_it_is_planned(pair, sql, values):
    """With the parameters at hand an expression is computed ahead, and may fail there."""
    pair.warm(ask(sql, values[0]) + SYNC, 12)
    pair.say(*[ask(sql, value) + SYNC for value in values * 9])
    pair.say(*[raw.query("BEGIN"), ask(sql, values[0]) + SYNC, ask(sql, values[1]) + SYNC,
               raw.query("COMMIT")] * 7)
    pair.say(b"".join(ask(sql, values[0]) for _ in range(20)) + ask(sql, values[1]) + SYNC)


# --- plans -----------------------------------------------------------------------------------------
SKEW = """
CREATE TABLE auto_skew (id int PRIMARY KEY, kind int);
INSERT INTO auto_skew SELECT n, CASE WHEN n > 99990 THEN 1 ELSE n % 2 * 2 END
    FROM generate_series(1, 100000) n;
CREATE INDEX ON auto_skew (kind);
"""
RARE = "SELECT id FROM auto_skew WHERE kind = $1 ORDER BY id LIMIT 1"


def slower(t):
    return [r for r in t.admin("SHOW SAVINGS") if r["database"] == APP_DATABASE][0]["auto_slower"]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_plan_that_flips_is_given_up(app, pair):
    """After five runs PostgreSQL takes a plan for any parameter: what is rare is sought among all."""
    app.execute("DROP TABLE IF EXISTS auto_skew")
    app.execute(SKEW)
    app.execute("VACUUM ANALYZE auto_skew")
    try:
        request = ask(RARE, 1) + SYNC

        def is_given_up():
            # With those below fewer than are parsed each time before it is prepared again.
            pair.say(*[request] * 20)
            return slower(pair.pooler)
        wait_until(is_given_up, 100, "it is given up")
        pair.say(request)
        before = counts(pair.pooler)[0]
        pair.say(*[request] * 20)
        assert counts(pair.pooler)[0] == before
    finally:
        app.execute("DROP TABLE auto_skew")


def test_one_that_stays_as_fast_is_kept(pair):
    pair.warm(ask(READ, 7) + SYNC)
    wait_until(lambda: pair.say(*[ask(READ, 7) + SYNC] * 200) and counts(pair.pooler)[0] > 2000, 60,
               "it has run often")
    assert not slower(pair.pooler)
