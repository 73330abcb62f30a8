# SPDX-License-Identifier: ISC
#
# test_insight.py - SHOW QUERIES, SLOW and ADVICE: what statements cost, and what habits cost too much.
"""Each piece of advice has a test that shows it, and one that it does not cry wolf."""
import re
import time
import urllib.request

import psycopg
import pytest

import raw
from conftest import APP_DATABASE
from machine import Port
from rig import log_in, shop
from tenancy import enter, make_ledger, tenants
from turnstile import ADMIN_USER
from waiting import wait_until

SECOND = 1_000_000
# What nothing that is shown may hold.
SECRET = "hunter2"


@pytest.fixture
def pooler(primary, turnstile):
    return turnstile(shop(primary, {"pool_mode": "transaction"}))


def shown(pooler, what="QUERIES", **wanted):
    """Rows of a SHOW that have these values."""
    return [row for row in pooler.admin(f"SHOW {what}")
            if all(row[name] == value for name, value in wanted.items())]


def query_row(pooler, text):
    row, = shown(pooler, query=text)
    return row


def cost(pooler, name):
    """(calls, errors, rows, bytes) of the statement that has this name in its text; zeros if there is none."""
    row = next((row for row in shown(pooler) if name in row["query"]), None)
    return tuple(row[key] for key in ("calls", "errors", "rows", "bytes")) if row else (0, 0, 0, 0)


# --- QUERIES -----------------------------------------------------------------------------------
def test_what_differs_in_literals_is_one_row(pooler):
    with log_in(pooler) as client:
        for i in range(5):
            client.rows(f"SELECT generate_series(1, {i + 1})")
        client.rows("select   generate_series( 1 , 9 ) -- and white space")
        client.query("SELECT 1 / 0")
    row = query_row(pooler, "SELECT generate_series(?, ?)")
    assert (row["calls"], row["rows"], row["errors"]) == (6, 15 + 9, 0)
    assert row["bytes"] > 24 * 7 and row["database"] == APP_DATABASE and row["tenant"] == ""
    assert row["avg"] == row["time"] // 6 and row["max"] >= row["avg"] and row["node"] == 0
    failed = query_row(pooler, "SELECT ? / ?")
    assert (failed["calls"], failed["rows"], failed["errors"]) == (1, 0, 1)


def test_time_is_what_the_client_waits(pooler):
    with log_in(pooler) as client:
        client.rows("SELECT pg_sleep(0.3)")
    assert 0.3 * SECOND <= query_row(pooler, "SELECT pg_sleep(?)")["max"] < 5 * SECOND


def test_prepared_statements(pooler):
    """Of a batch each Execute has its own rows and time; what comes behind an error has not run."""
    with log_in(pooler) as client:
        for i in range(3):
            client.prepared("SELECT generate_series(1, $1::int)", [str(i + 1)])
        client.send(raw.parse("s", "SELECT pg_sleep($1::float8)"), raw.bind("", "s", ["0.3"]), raw.execute(),
                    raw.parse("", "SELECT $1::int + 1"), raw.bind("", "", ["1"]), raw.execute(), raw.sync())
        client.until("Z")
        client.send(raw.parse("", "SELECT 1 / $1::int"), raw.bind("", "", ["0"]), raw.execute(),
                    raw.parse("", "SELECT $1::int + 1"), raw.bind("", "", ["1"]), raw.execute(), raw.sync())
        client.until("Z")
    row = query_row(pooler, "SELECT generate_series(?, $1::int)")
    assert (row["calls"], row["rows"]) == (3, 6)
    row = query_row(pooler, "SELECT $1::int + ?")
    assert (row["calls"], row["rows"], row["errors"]) == (1, 1, 0)
    assert row["time"] < 0.2 * SECOND
    assert query_row(pooler, "SELECT pg_sleep($1::float8)")["time"] >= 0.3 * SECOND
    assert query_row(pooler, "SELECT ? / $1::int")["errors"] == 1


@pytest.mark.parametrize("name", ["", "s"])
def test_each_of_a_pipeline_has_its_own_rows(primary, pooler, name):
    """Their answers differ in the tag alone, or in a row more; the values are as long as each other, or not."""
    with primary.connect(APP_DATABASE) as connection:
        connection.execute("DROP TABLE IF EXISTS insight_pipelined")
        connection.execute("CREATE TABLE insight_pipelined AS SELECT generate_series(1, 40) AS i")
        connection.execute("GRANT ALL ON insight_pipelined TO PUBLIC")
    counts = [1, 1, 2, 2, 2, 1, 3, 3, 12, 12, 34, 1, 0, 0, 1, 1, 9, 9, 40, 40, 0]
    texts = ["UPDATE insight_pipelined SET i = i WHERE i <= $1", "SELECT i FROM insight_pipelined WHERE i <= $1"]
    with log_in(pooler) as client:
        for text in texts:
            for describe in (b"", raw.describe("P")) * 2:
                each = [raw.bind("", name, [str(n)]) + describe + raw.execute() for n in counts]
                if name:
                    each[0] = raw.close("S", name) + raw.parse(name, text) + each[0]
                else:
                    each = [raw.parse("", text) + one for one in each]
                client.send(*each, raw.sync())
                tags = [m.text for m in raw.find(client.until("Z"), "C")]
                assert tags == [f"{text.split()[0]} {n}" for n in counts]
    for text in texts:
        row = query_row(pooler, text)
        assert (row["calls"], row["rows"]) == (4 * len(counts), 4 * sum(counts))
    if not name:
        saved, = pooler.admin("SHOW SAVINGS")
        assert saved["auto_parses"] > 2 * len(texts) * len(counts)


def run(text, values=(), portal="", max_rows=0):
    """Parse, Bind, Describe and Execute."""
    return (raw.parse("", text) + raw.bind(portal, "", values) + raw.describe("P", portal) +
            raw.execute(portal, max_rows))


def parts(messages):
    """The bytes of each Execute of a batch, up to its end; what is behind the last is the last one's."""
    sizes = [0]
    for m in messages:
        sizes[-1] += len(m.raw)
        if m.kind in "CIsE":
            sizes.append(0)
    behind = sizes.pop()
    return sizes[:-1] + [sizes[-1] + behind]


@pytest.fixture(params=["as they come", "one by one"])
def reader(request, primary, turnstile):
    """A pooler, and a client whose answers it passes on like that: of who listens, it looks at each message."""
    pooler = turnstile(shop(primary, {"auto_prepare": "no"}))
    with log_in(pooler) as client:
        if request.param == "one by one":
            client.query("LISTEN insight_parts")
        yield pooler, client


def test_each_of_a_batch_has_its_own_bytes(reader):
    """Up to its end: of a row, of rows in many reads, a COPY, a notice, a value that is not kept whole, nothing,
    some of the rows, an error."""
    pooler, client = reader
    batch = [("small", "SELECT 1 AS small", 1),
             ("large", "SELECT repeat('x', 10000) AS large", 1),
             ("many", "SELECT generate_series(1, 5000) AS many", 5000),
             ("copied", "COPY (SELECT generate_series(1, 3000) AS copied) TO STDOUT", 3000),
             ("missing", "DROP TABLE IF EXISTS insight_missing", 0),
             ("huge", "SELECT repeat('y', 2000000) AS huge", 1),
             (None, "", 0),
             ("paged", "SELECT generate_series(1, 3) AS paged", 0),
             ("medium", "SELECT repeat('z', 100) AS medium", 1),
             ("failed", "SELECT 1 / 0 AS failed", 0)]
    client.send(*(run(text, max_rows=2 if name == "paged" else 0) for name, text, _ in batch),
                run("SELECT 2 AS skipped"), raw.sync())
    sizes = parts(client.until("Z"))
    assert len(sizes) == len(batch) and sizes[0] < 200
    for (name, _, rows), size in zip(batch, sizes):
        assert not name or cost(pooler, name) == (1, name == "failed", rows, size), name
    assert cost(pooler, "skipped") == (0, 0, 0, 0)


def test_each_query_has_its_own_bytes(reader):
    """All of its answer, with ReadyForQuery; of several statements in a text as well."""
    pooler, client = reader
    texts = {"small": "SELECT 1 AS small", "large": "SELECT repeat('x', 30000) AS large",
             "several": "SELECT 1 AS several; SELECT repeat('z', 5000); DROP TABLE IF EXISTS insight_missing",
             "failed": "SELECT 1 AS fails; SELECT 1 / 0 AS failed", "last": "SELECT 2 AS last"}
    client.send(*map(raw.query, texts.values()))
    rows = {"small": 1, "large": 1, "several": 2, "failed": 1, "last": 1}
    for name in texts:
        size = sum(len(m.raw) for m in client.until("Z"))
        assert cost(pooler, name)[:3] == (1, name == "failed", rows[name]) and cost(pooler, name)[3] == size, name


def test_a_query_in_a_batch_is_told_apart(reader):
    """It ends the batch, as a Sync would."""
    pooler, client = reader
    client.send(run("SELECT repeat('x', 5000) AS executed"), raw.query("SELECT 1 AS queried"))
    executed, queried = parts(client.until("Z"))
    assert cost(pooler, "executed") == (1, 0, 1, executed)
    assert cost(pooler, "queried") == (1, 0, 1, queried)


def test_what_is_not_followed_costs_nobody(reader):
    """Of portals the last that was bound is known; what the others do is not another's, neither is their error."""
    pooler, client = reader
    for unknown in "SELECT repeat('x', 10000) AS unknown", "SELECT 1 / length(repeat('', 9)) AS unknown":
        client.send(run("SELECT 1 AS before"), raw.parse("", unknown), raw.bind("p"), raw.parse("", "SELECT 2 AS after"),
                    raw.bind("q"), raw.execute("p"), raw.execute("q"), raw.sync())
        sizes = parts(client.until("Z"))
    assert cost(pooler, "unknown") == (0, 0, 0, 0)
    assert cost(pooler, "after")[:3] == (1, 0, 1) and cost(pooler, "after")[3] < 100
    assert cost(pooler, "before") == (2, 0, 2, 2 * sizes[0])


def test_each_of_a_pipeline_has_its_own_bytes(pooler):
    """Where auto_prepare answers most Parses, which is not counted; answers as long as the one before, or not."""
    texts = {"first": "SELECT repeat('x', $1::int) AS first", "second": "SELECT repeat('y', $1::int) AS second"}
    batch = [("first", 10)] * 4 + [("second", 900)] * 3 + [("second", 7)] + [("first", 10)] * 2 + [("second", 50)]
    expected, parses = dict.fromkeys(texts, 0), dict.fromkeys(texts, 0)
    with log_in(pooler) as client:
        for _ in range(5):
            client.send(*(raw.parse("", texts[name]) + raw.bind("", "", [str(n)]) + raw.execute() for name, n in batch),
                        raw.sync())
            for (name, _), size in zip(batch, parts(client.until("Z"))):
                expected[name] += size
                parses[name] += len(raw.parse_complete())
    assert pooler.admin("SHOW SAVINGS")[0]["auto_parses"] > len(batch)
    for name in texts:
        calls, _, rows, size = cost(pooler, name)
        assert calls == rows == 5 * sum(1 for one, _ in batch if one == name)
        assert expected[name] - parses[name] <= size <= expected[name]


def test_each_of_a_batch_has_its_own_time(primary, turnstile):
    """And what is slow is logged with its own bytes."""
    pooler = turnstile(shop(primary, {"slow_query_time": "200ms"}))
    with log_in(pooler) as client:
        begun = time.monotonic()
        client.send(*(run(text) + raw.flush() for text in (
            "SELECT 1 AS before", "SELECT pg_sleep(0.6), repeat('x', 3000) AS slept", "SELECT repeat('y', 500) AS after")),
            raw.sync())
        sizes = parts(client.until("Z"))
        waited = (time.monotonic() - begun) * SECOND
    times = {name: next(row["time"] for row in shown(pooler) if name in row["query"])
             for name in ("before", "slept", "after")}
    assert times["slept"] > 0.3 * SECOND and sum(times.values()) <= waited
    slow, = [row for row in shown(pooler, "SLOW") if "slept" in row["query"]]
    assert (slow["rows"], slow["bytes"]) == (1, sizes[1])


def test_pipelined_queries_are_told_apart(pooler):
    with log_in(pooler) as client:
        client.send(raw.query("SELECT generate_series(1, 2)"), raw.query("SELECT 1 / 0"),
                    raw.query("SELECT pg_sleep(0)"))
        for _ in range(3):
            client.until("Z")
    assert query_row(pooler, "SELECT generate_series(?, ?)")["rows"] == 2
    assert query_row(pooler, "SELECT ? / ?")["errors"] == 1
    assert query_row(pooler, "SELECT pg_sleep(?)")["errors"] == 0


def test_what_ran_ahead_of_a_flush_is_counted(pooler):
    with log_in(pooler) as client:
        client.send(raw.parse("", "SELECT 2 AS flushed"), raw.bind(), raw.execute(), raw.flush())
        client.until("C")
        client.send(raw.parse("", "SELECT 3 AS synced"), raw.bind(), raw.execute(), raw.sync())
        client.until("Z")
    for text in "SELECT ? AS flushed", "SELECT ? AS synced":
        row = query_row(pooler, text)
        assert (row["calls"], row["rows"]) == (1, 1)


def test_rows_of_commands(pooler, primary):
    with primary.connect(APP_DATABASE) as connection:
        connection.execute("DROP TABLE IF EXISTS insight_rows")
        connection.execute("CREATE TABLE insight_rows (i int)")
        connection.execute("GRANT ALL ON insight_rows TO PUBLIC")
    with log_in(pooler) as client:
        client.query("INSERT INTO insight_rows SELECT generate_series(1, 12)")
        client.query("UPDATE insight_rows SET i = 0 WHERE i > 5")
        client.query("DELETE FROM insight_rows WHERE i = 0")
    rows = {row["query"].split()[0]: row["rows"] for row in shown(pooler) if "insight_rows" in row["query"]}
    assert rows == {"INSERT": 12, "UPDATE": 7, "DELETE": 7}


@pytest.mark.parametrize("pool", ["dedicated", "shared"])
def test_tenants_have_rows_of_their_own(primary, turnstile, pool):
    make_ledger(primary, table="insight_ledger")
    pooler = turnstile(tenants(primary, {"tenant_pool": pool}))
    with enter(pooler, "acme") as acme, enter(pooler, "globex") as globex:
        acme.rows("SELECT 2")
        globex.rows("SELECT 2")
        globex.rows("SELECT 3")
    assert {row["tenant"]: row["calls"] for row in shown(pooler, query="SELECT ?")} == {"acme": 1, "globex": 2}
    assert {row["tenant"] for row in shown(pooler, "QUERIES TENANT globex")} == {"globex"}
    assert shown(pooler, "QUERIES BY calls TENANT globex")[0]["calls"] == 2
    assert shown(pooler, "QUERIES TENANT nobody") == []


def test_order(pooler):
    with log_in(pooler) as client:
        client.rows("SELECT pg_sleep(0.2)")
        client.rows("SELECT generate_series(1, 1000)")
        for i in range(3):
            client.rows(f"SELECT {i} + 2")
        client.query("SELECT 1 / 0")
    firsts = {by: shown(pooler, f"QUERIES BY {by}")[0]["query"] for by in ("time", "calls", "rows", "errors")}
    assert firsts == {"time": "SELECT pg_sleep(?)", "calls": "SELECT ? + ?",
                      "rows": "SELECT generate_series(?, ?)", "errors": "SELECT ? / ?"}
    assert shown(pooler)[0]["query"] == firsts["time"]
    for bad in "QUERIES BY", "QUERIES BY size", "SLOW BY time", "POOLS TENANT acme", "QUERIES TENANT acme BY time":
        with pytest.raises(psycopg.errors.ProtocolViolation):
            pooler.admin(f"SHOW {bad}")


def test_no_literal_is_shown(pooler):
    """Of no spelling, not in a comment, not in what is not finished."""
    texts = ["SELECT '{}'", "SELECT E'a\\'{}'", "SELECT U&'{}' UESCAPE '!'", "SELECT $${}$$", "SELECT $a$'{}$a$",
             "SELECT 'it''s {}'", "SELECT N'{}'", "SELECT 'a'\n'{}'", "/* {} */ SELECT 4", "SELECT 5 -- {}",
             "SELECT /* /* {} */ */ 6", "SELECT 'x' || '{}'", "SET application_name = {}",
             "SET application_name TO '{}', '{}'", "SELECT set_config('app.x', '{}', false)",
             "SELECT '{}", "SELECT $a${}", "SELECT 8 /* {}", "DO $$ BEGIN PERFORM '{}'; END $$",
             "PREPARE p AS SELECT '{}'", "NOTIFY c, '{}'"]
    with log_in(pooler) as client:
        for text in texts:
            client.query(text.format(SECRET, SECRET))
        client.query("DEALLOCATE p")
        client.prepared(f"SELECT $1::text || '{SECRET}'", [SECRET])
        client.query("SELECT 4711, 47.11, 4711e3, -4711, B'1011', X'4711'")
        client.query("SET client_encoding = 'SJIS'")
        client.query(f"SELECT '\x83\x5c', '{SECRET}'")
    rows = shown(pooler)
    assert len(rows) > 12
    for row in rows + shown(pooler, "ADVICE"):
        assert SECRET not in str(row) and "4711" not in row["query"] and "1011" not in row["query"], row


def test_memory_is_bounded_and_what_costs_most_stays(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "query_insight_size": 20, "workers": 1}))
    with log_in(pooler) as client:
        client.rows("SELECT pg_sleep(0.5)")
        for i in range(100):
            client.rows(f"SELECT 2 AS column_{i}")
    rows = shown(pooler)
    assert len(rows) <= 20 and rows[0]["query"] == "SELECT pg_sleep(?)"
    assert rows[0]["missed"] == 0 and any(row["missed"] > 0 for row in rows)


def test_it_can_be_turned_off_and_on(pooler):
    with log_in(pooler) as client:
        client.rows("SELECT 2")
        assert shown(pooler)
        pooler.reload({"pgturnstile": {"query_insight": "no"}})
        assert shown(pooler) == []
        client.rows("SELECT 2")
        assert shown(pooler) == [] and shown(pooler, "ADVICE") == []
        pooler.reload({"pgturnstile": {"query_insight": "yes"}})
        client.rows("SELECT 2")
        assert query_row(pooler, "SELECT ?")["calls"] == 1


# --- SLOW --------------------------------------------------------------------------------------
def test_slow_queries(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "slow_query_time": "200ms"}))
    with log_in(pooler) as client:
        client.rows(f"SELECT '{SECRET}', pg_sleep(0.3)")
        client.rows("SELECT pg_sleep(0.01)")
        client.prepared("SELECT pg_sleep($1::float8)", ["0.3"])
    last, first = shown(pooler, "SLOW")
    assert first["query"] == "SELECT ?, pg_sleep(?)" and last["query"] == "SELECT pg_sleep($1::float8)"
    assert 0.3 * SECOND <= first["duration"] < 5 * SECOND and first["rows"] == 1
    assert first["statement"] is None and first["id"] == query_row(pooler, first["query"])["id"]
    assert pooler.log_contains(r"WARNING .*: query took 3\d\d ms, 1 rows: SELECT \?, pg_sleep\(\?\)")
    assert SECRET not in pooler.log_text()


def test_slow_queries_with_their_literals(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "slow_query_time": "100ms",
                                      "slow_query_literals": "yes"}))
    text = "SELECT 'asked for', pg_sleep(0.2)"
    with log_in(pooler) as client:
        client.rows(text)
        client.send(raw.query("SELECT pg_sleep(0.2)"), raw.query("SELECT 'another'"))
        client.until("Z")
        client.until("Z")
    last, first = shown(pooler, "SLOW")
    assert first["statement"] == text
    assert last["statement"] is None and last["query"] == "SELECT pg_sleep(?)"
    assert pooler.log_contains(r": SELECT 'asked for', pg_sleep\(0\.2\)")


def test_slow_is_what_the_tier_says(primary, turnstile):
    make_ledger(primary, table="insight_slow")
    pooler = turnstile(tenants(primary, {"slow_query_time": "0"}, tiers={"fast": {"slow_query_time": "100ms"}},
                               changes={"tenants": {"globex": {"tier": "fast", "business_id": "7"}}}))
    for tenant in "acme", "globex":
        with enter(pooler, tenant) as client:
            client.rows("SELECT pg_sleep(0.2)")
    row, = shown(pooler, "SLOW")
    assert row["tenant"] == "globex"
    assert shown(pooler, "SLOW TENANT acme") == []


def test_many_slow_ones_do_not_fill_the_log(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "slow_query_time": "1us", "workers": 1}))
    with log_in(pooler) as client:
        for _ in range(300):
            client.rows("SELECT 2")
    assert len(shown(pooler, "SLOW")) == 128
    assert 1 <= pooler.log_text().count("query took") < 150


# --- ADVICE ------------------------------------------------------------------------------------
LONG_ENOUGH = {"advice_within": "30s"}


def advised(pooler, kind, text=None):
    rows = shown(pooler, "ADVICE", advice=kind)
    return [row for row in rows if text is None or row["query"] == text]


def test_n_plus_one(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", **LONG_ENOUGH}))
    with log_in(pooler) as client:
        for i in range(30):
            client.rows(f"SELECT {i} AS order_id WHERE {i} > -1")
            client.rows(f"SELECT {i} AS other")
        for i in range(25):
            client.prepared("SELECT $1::int AS line", [str(i)])
    first, = advised(pooler, "n_plus_one", "SELECT ? AS order_id WHERE ? > -?")
    assert (first["times"], first["count"]) == (1, 30)
    assert 0 < first["saves"] < first["time"]
    assert len(advised(pooler, "n_plus_one", "SELECT ? AS other")) == 1
    assert advised(pooler, "n_plus_one", "SELECT $1::int AS line")[0]["count"] == 25
    assert not advised(pooler, "repeated_read")


def test_n_plus_one_does_not_cry_wolf(primary, turnstile):
    """Too few, too slow, by many sessions, or writes."""
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "advice_within": "500ms"}))
    with log_in(pooler) as client:
        for i in range(19):
            client.rows(f"SELECT {i} AS few")
        client.query("CREATE TEMP TABLE insight_wolf (i int)")
        for i in range(30):
            client.query(f"INSERT INTO insight_wolf VALUES ({i})")
    with log_in(pooler) as client:
        for i in range(25):
            client.rows(f"SELECT {i}, pg_sleep(0.06)")
    for i in range(25):
        with log_in(pooler) as client:
            client.rows(f"SELECT {i} AS of_many")
    assert not advised(pooler, "n_plus_one") and not advised(pooler, "repeated_read")


def test_a_session_among_others_is_seen(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "workers": 1, **LONG_ENOUGH}))
    with log_in(pooler) as one, log_in(pooler) as other:
        for i in range(30):
            one.rows(f"SELECT {i} AS among")
            if i % 10 == 5:
                other.rows(f"SELECT {i} AS among")
    assert advised(pooler, "n_plus_one", "SELECT ? AS among")[0]["count"] == 30


def test_repeated_reads(primary, turnstile):
    with primary.connect(APP_DATABASE) as connection:
        connection.execute("CREATE SEQUENCE IF NOT EXISTS insight_seq")
        connection.execute("GRANT ALL ON SEQUENCE insight_seq TO PUBLIC")
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", **LONG_ENOUGH}))
    with log_in(pooler) as client:
        for _ in range(25):
            client.rows("SELECT 17 AS the_same")
            client.prepared("SELECT $1::int AS prepared", ["9"])
        for i in range(40):
            client.rows(f"SELECT {i // 2} AS half_and_half")
        for _ in range(25):
            client.rows("SELECT nextval('insight_seq')")
    for text in "SELECT ? AS the_same", "SELECT $1::int AS prepared":
        row, = advised(pooler, "repeated_read", text)
        assert (row["times"], row["count"]) == (1, 25) and row["saves"] < row["time"]
    assert not advised(pooler, "n_plus_one")
    assert not advised(pooler, "repeated_read", "SELECT ? AS half_and_half")


def test_repeats_can_be_turned_off(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "advice_repeats": 0, **LONG_ENOUGH}))
    with log_in(pooler) as client:
        for i in range(50):
            client.rows(f"SELECT {i} AS off")
    assert not shown(pooler, "ADVICE")


def test_chatty_set_config(primary, turnstile):
    make_ledger(primary, table="insight_chatty")
    pooler = turnstile(shop(primary, {"pool_mode": "transaction"}))
    with log_in(pooler) as client:
        for i in range(110):
            client.query(f"SELECT set_config('app.current_business_id', '{i}', false)")
            client.query(f"SELECT set_config('statement_timeout', '{i + 1000}', false)")
            client.rows(f"SELECT {i} AS work")
    row, = advised(pooler, "set_tenant")
    assert row["count"] == 110 and "tenant_switch" in row["what"] and row["saves"] == row["time"]
    assert len(advised(pooler, "set_timeout")) == 1 and not advised(pooler, "set_often")


def test_set_config_now_and_then_is_fine(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction"}))
    with log_in(pooler) as client:
        for i in range(110):
            client.query(f"SELECT set_config('app.x', '{i}', false)")
            for k in range(5):
                client.rows(f"SELECT {k} AS work")
    assert not advised(pooler, "set_often")


def test_sets_that_are_answered_here(primary, turnstile):
    make_ledger(primary, table="insight_habit")
    pooler = turnstile(tenants(primary, {"tenant_by": "set", "tenant_pool": "shared"},
                               changes={"users": {"app": {"tenant_switch": "yes"}}}))
    with log_in(pooler) as client:
        for i in range(120):
            client.query(f"SELECT set_config('app.current_business_id', '{(42, 7)[i % 2]}', false)")
            client.rows("SELECT 2")
    row, = advised(pooler, "set_tenant_here")
    assert row["count"] == 120 and "user_suffix" in row["what"]
    assert not advised(pooler, "set_tenant")


def test_idle_transactions(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "advice_idle_transaction": "300ms"}))
    with log_in(pooler) as client, log_in(pooler) as busy, log_in(pooler) as outside:
        client.query("BEGIN")
        client.rows("SELECT 2 AS before_the_pause")
        outside.rows("SELECT 2 AS outside")
        busy.query("BEGIN")
        busy.rows("SELECT pg_sleep(1.5)")
        busy.query("COMMIT")
        wait_until(lambda: advised(pooler, "idle_transaction"))
        client.query("COMMIT")
    row, = advised(pooler, "idle_transaction")
    assert row["query"] == "SELECT ? AS before_the_pause" and row["times"] == 1
    assert row["time"] >= 0.3 * SECOND and "idle_transaction_timeout" in row["what"]


def test_no_limit(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "advice_rows": 1000}))
    with log_in(pooler) as client:
        client.rows("SELECT generate_series(1, 1000) AS many")
        client.rows("SELECT generate_series(1, 999) AS fewer")
        client.rows("SELECT generate_series(1, 1000) AS limited LIMIT 1000")
        client.query("CREATE TEMP TABLE insight_many AS SELECT generate_series(1, 1000)")
    row, = advised(pooler, "no_limit")
    assert row["query"] == "SELECT generate_series(?, ?) AS many" and row["saves"] is None


def test_advice_of_a_tenant(primary, turnstile):
    make_ledger(primary, table="insight_advice")
    pooler = turnstile(tenants(primary, LONG_ENOUGH))
    for tenant in "acme", "globex":
        with enter(pooler, tenant) as client:
            for i in range(25):
                client.rows(f"SELECT {i} AS child")
    assert {row["tenant"] for row in shown(pooler, "ADVICE")} == {"acme", "globex"}
    row, = shown(pooler, "ADVICE TENANT acme")
    assert row["tenant"] == "acme" and row["advice"] == "n_plus_one"


def test_who_may_look(pooler):
    assert pooler.admin("SHOW SLOW", user=ADMIN_USER) == []


# --- metrics -----------------------------------------------------------------------------------
def test_errors_timeouts_and_locks_are_counted(primary, turnstile):
    port = Port()
    pooler = turnstile(shop(primary, {"pool_mode": "transaction", "http_listen": port.number,
                                      "slow_query_time": "50ms"}))
    with primary.connect(APP_DATABASE) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS insight_locks (i int)")
        connection.execute("GRANT ALL ON insight_locks TO PUBLIC")
    with log_in(pooler) as client, log_in(pooler) as holder:
        client.query("SELECT 1 / 0")
        client.query("BEGIN; SET LOCAL statement_timeout = 100; SELECT pg_sleep(5)")
        client.query("ROLLBACK")
        holder.query("BEGIN")
        holder.query("LOCK insight_locks")
        client.query("LOCK TABLE insight_locks NOWAIT")
        client.query("BEGIN; LOCK TABLE insight_locks NOWAIT")
        client.query("ROLLBACK")
        holder.query("ROLLBACK")
    with urllib.request.urlopen(f"http://127.0.0.1:{port.number}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    counts = {name: int(re.search(rf'pgturnstile_{name}_total{{database="{APP_DATABASE}"}} (\d+)', text)[1])
              for name in ("error", "timeout", "lock", "slow")}
    port.release()
    assert counts["timeout"] == 1 and counts["lock"] == 1 and counts["error"] == 4 and counts["slow"] >= 1
