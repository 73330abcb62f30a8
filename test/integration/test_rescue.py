# SPDX-License-Identifier: ISC
#
# test_rescue.py - what fails because it was asked on a replica is asked on the primary, once (I3).
"""Functions that are not what the catalog says, servers that go away, reads that recovery cancels."""
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import clients, log_in, made_on_both, shop, wait_nodes
from rough_road import RoughRoad
from tenancy import SETTING, enter, errors, tenants
from turnstile import merge
from waiting import wait_until

SCHEMA = f"""
CREATE TABLE rescued (note text DEFAULT 'x', port text DEFAULT current_setting('test.port'),
                      business_id text DEFAULT current_setting('{SETTING}', true));
CREATE TABLE rescue_rows AS SELECT generate_series(1, 1000) AS i;
CREATE UNLOGGED TABLE rescue_unlogged AS SELECT 1 AS i;
CREATE FUNCTION rescue_insert(note text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO rescued VALUES (note); RETURN current_setting('test.port'); END $$;
-- What is run by another name, and put together, is seen by nobody but the server that runs it.
CREATE FUNCTION rescue_run(text, boolean, boolean, text) RETURNS xml STABLE LANGUAGE internal AS 'query_to_xml';
CREATE FUNCTION rescue_ask(what text) RETURNS text STABLE LANGUAGE sql AS
  $$ SELECT substring(rescue_run('SELECT ' || what || ' AS it', true, false, '')::text FROM '<it>(.*)</it>') $$;
-- Writes, whatever it says.
CREATE FUNCTION rescue_hidden(note text) RETURNS text STABLE LANGUAGE plpgsql AS
  $$ BEGIN RETURN rescue_ask('rescue_' || format('insert(%L)', note)); END $$;
CREATE FUNCTION rescue_unlogged_rows() RETURNS bigint STABLE LANGUAGE plpgsql AS
  $$ BEGIN RETURN rescue_ask('(SELECT count(*) FROM rescue_' || 'unlogged)')::bigint; END $$;
-- Where it was, once it gets to the end, which it does on the primary only.
CREATE FUNCTION rescue_slow(i int DEFAULT 0) RETURNS text STABLE LANGUAGE plpgsql AS
  $$ BEGIN
       IF rescue_ask('pg_is_in_' || 'recovery()') = 'true' THEN PERFORM rescue_ask('pg_' || 'sleep(60)'); END IF;
       RETURN current_setting('test.port');
     END $$;
-- A long read of a table, on the replica only.
CREATE FUNCTION rescue_read() RETURNS text STABLE LANGUAGE plpgsql AS
  $$ BEGIN PERFORM count(*) FROM rescue_rows; RETURN rescue_slow(); END $$;
GRANT ALL ON rescued, rescue_rows, rescue_unlogged TO {APP_USER};
"""
HIDDEN = "SELECT rescue_hidden('n')"
SLOW = "SELECT rescue_slow()"


@pytest.fixture(scope="module")
def pair(primary, replica):
    return made_on_both(primary, replica, SCHEMA)


@pytest.fixture(autouse=True)
def _empty(pair):
    pair[0].sql("TRUNCATE rescued", dbname=APP_DATABASE)
    pair[1].wait_caught_up(pair[0])


def routed(pair, settings=None):
    primary, replica = pair
    return shop(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms", "read_your_writes": "off", **(settings or {})},
                {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"})


@pytest.fixture
def start(pair, turnstile):
    def start(settings=None, config=None):
        t = turnstile(config or routed(pair, settings))
        with log_in_any(t, config) as client:
            wait_routed(client, pair[1])
        return t
    return start


def log_in_any(t, config):
    return enter(t, "acme") if config else log_in(t)


def wait_routed(client, node):
    wait_until(lambda: client.rows("SELECT current_setting('test.port')") == [(str(node.port),)], 30,
               "reads reach the node")


def rescued(t):
    """How often what was asked again, by reason; and what could not be."""
    rows = [row for row in t.admin("SHOW ROUTES") if row["database"] == APP_DATABASE]
    return {row["reason"].split(": ")[-1]: row["count"] for row in rows
            if "rescued" in row["reason"] and row["count"]}


def notes(pair):
    return [row for row in pair[0].sql("SELECT note, port FROM rescued", dbname=APP_DATABASE)]


def ask(client, how, sql):
    if how == "simple":
        return client.query(sql)
    if how == "extended":
        return client.prepared(sql)
    if how == "named":
        return client.prepared(sql, name="mine")
    client.send(raw.parse("", "SELECT 5"), raw.bind(), raw.describe("P"), raw.execute(),
                raw.parse("again", sql), raw.bind("p", "again"), raw.describe("P", "p"),
                raw.execute("p"), raw.close("S", "again"), raw.sync(), raw.query("SELECT 6"))
    return client.until("Z") + client.until("Z")


HOW = pytest.mark.parametrize("how", ["simple", "extended", "named", "pipelined"])


@pytest.mark.tsan
@HOW
def test_i3_a_hidden_write_runs_once_on_the_primary(pair, start, how):
    t = start()
    with log_in(t) as client, log_in(pair[0]) as direct:
        got, expected = ask(client, how, HIDDEN), ask(direct, how, HIDDEN)
    assert raw.kinds(got).replace("S", "") == raw.kinds(expected) and not errors(got)
    assert notes(pair) == [("n", str(pair[0].port))] * 2
    assert rescued(t) == {"write": 1}


@HOW
def test_i4_its_shape_goes_to_the_primary_from_then_on(pair, start, how):
    t = start({"workers": 1})
    with clients(t, 2) as (client, other):
        ask(client, how, HIDDEN)
        ask(other, "simple", "SELECT rescue_hidden('another literal')")
        ask(other, "extended", HIDDEN)
        assert rescued(t) == {"write": 1}
        wait_routed(client, pair[1])
    assert len(notes(pair)) == 3


@pytest.mark.parametrize("described", [(), (raw.describe("P"),)], ids=["", "described"])
def test_i4_a_prepared_statement_loses_its_proof_when_a_replica_refuses_it(pair, start, described):
    t = start({"workers": 1})
    with clients(t, 2) as both:
        for client in both:
            client.send(raw.parse("mine", HIDDEN), raw.sync())
            assert not errors(client.until("Z"))
        for client in 2 * both:
            client.send(raw.bind("", "mine"), *described, raw.execute(), raw.sync())
            assert not errors(client.until("Z"))
        assert rescued(t) == {"write": 1}
    assert notes(pair) == [("n", str(pair[0].port))] * 4


def test_i3_only_what_failed_of_a_batch_is_the_primarys(pair, start):
    t = start({"workers": 1})
    with log_in(t) as client:
        ask(client, "pipelined", HIDDEN)
        assert rescued(t) == {"write": 1}
        reads = [client.prepared("SELECT 5"), client.query("SELECT 5")]
        assert all(raw.find(m, "D")[0].row == ("5",) for m in reads)
        assert {client.rows("SELECT current_setting('test.port') WHERE 5 = 5")[0][0],
                raw.find(client.prepared("SELECT 5"), "D")[0].row[0]} == {str(pair[1].port), "5"}


@HOW
def test_i3_what_recovery_forbids_is_asked_on_the_primary(pair, start, how):
    t = start()
    with log_in(t) as client:
        messages = ask(client, how, "SELECT rescue_unlogged_rows()")
    assert not errors(messages) and ("1",) in [m.row for m in raw.find(messages, "D")]
    assert rescued(t) == {"recovery": 1}


def wait_busy(replica, count=1):
    """The replica is at work for clients."""
    wait_until(lambda: len(busy(replica)) >= count, what="the replica is at work")


def busy(replica):
    return [pid for pid, in replica.sql("SELECT pid FROM pg_stat_activity WHERE state = 'active'"
                                        f" AND usename = '{APP_USER}' AND wait_event = 'PgSleep'")]


def terminate(replica):
    replica.sql(f"SELECT pg_terminate_backend({busy(replica)[0]})")


def stop(how):
    return lambda replica: replica.stop(how)


def kill_backend(replica):
    os.kill(busy(replica)[0], signal.SIGKILL)


def kill_all(replica):
    replica.kill()


@pytest.fixture
def restarted(pair):
    yield
    if not pair[1].is_running():
        pair[1].start()
    wait_until(lambda: answers(pair[1]), 30, "the replica is back")
    pair[1].wait_caught_up(pair[0])


def answers(server):
    try:
        return server.value("SELECT 1") == 1
    except psycopg.OperationalError:
        return False


GOES = {"terminated": terminate, "fast": stop(signal.SIGINT), "immediate": stop(signal.SIGQUIT),
        "crashed": kill_backend, "killed": kill_all}


def send(client, how, sql):
    if how == "simple":
        client.send(raw.query(sql))
    elif how == "extended":
        client.send(raw.parse("", sql), raw.bind(), raw.describe("P"), raw.execute(), raw.sync())
    elif how == "named":
        client.send(raw.parse("mine", sql), raw.bind("", "mine"), raw.describe("P"), raw.execute(),
                    raw.sync())
    else:
        client.send(raw.parse("", "SELECT 5"), raw.bind(), raw.execute(), raw.parse("", sql),
                    raw.bind(), raw.execute(), raw.sync(), raw.query("SELECT 6"))


@HOW
@pytest.mark.parametrize("goes", GOES)
def test_i3_a_replica_that_goes_away_is_not_seen(pair, start, restarted, how, goes):
    primary, replica = pair
    t = start()
    with log_in(t) as client:
        send(client, how, SLOW)
        wait_busy(replica)
        GOES[goes](replica)
        messages = client.until("Z")
        assert not errors(messages), errors(messages)
        assert raw.find(messages, "D")[-1].row == (str(primary.port),)
        assert not raw.find(messages, "N")
        if how == "pipelined":
            assert raw.find(client.until("Z"), "D")[0].row == ("6",)
        assert rescued(t) == {"lost": 1}
        assert client.rows("SELECT 7") == [("7",)]


@HOW
def test_i3_a_read_that_recovery_cancels_is_asked_on_the_primary(pair, start, how):
    primary, replica = pair
    replica.sql("ALTER SYSTEM SET max_standby_streaming_delay = '10ms'")
    replica.sql("SELECT pg_reload_conf()")
    try:
        t = start()
        with log_in(t) as client:
            send(client, how, "SELECT rescue_read()")
            wait_busy(replica)
            primary.sql("TRUNCATE rescue_rows", dbname=APP_DATABASE)
            messages = client.until("Z")
            assert not errors(messages)
            assert raw.find(messages, "D")[-1].row == (str(primary.port),)
            assert rescued(t) == {"conflict": 1}
    finally:
        replica.sql("ALTER SYSTEM RESET max_standby_streaming_delay")
        replica.sql("SELECT pg_reload_conf()")


def test_i3_behind_the_first_byte_of_an_answer_nothing_is_asked_again(pair, start):
    t = start()
    with log_in(t) as client:
        # More than the server keeps to itself, less than fills what lies between.
        client.send(raw.query("SELECT repeat('x', 20000) FROM generate_series(1, 10) AS i"
                              " UNION ALL SELECT rescue_slow()"))
        wait_busy(pair[1])
        first = client.message()
        terminate(pair[1])
        messages = [first, *client.until_closed()]
        assert errors(messages) == ["57P01"] and "TD" in raw.kinds(messages)
        assert rescued(t) == {"not rescued": 1}


def test_i3_who_asked_to_read_only_gets_its_own_error(pair, start):
    t = start()
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        assert errors(client.query(HIDDEN)) == ["25006"]
        assert errors(client.query("SELECT 2")) == ["25P02"]
        client.query("ROLLBACK")
        client.query("SET default_transaction_read_only = on")
        assert errors(client.query(HIDDEN)) == ["25006"]
        client.query("RESET default_transaction_read_only")
        assert notes(pair) == [] and rescued(t) == {}
        assert not errors(client.query(HIDDEN))
        assert rescued(t) == {"write": 1}


@pytest.mark.parametrize("how", ["simple", "extended"])
def test_i3_a_read_only_transaction_begins_anew_where_nothing_has_run(pair, start, how):
    primary, replica = pair
    t = start()
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        send(client, how, SLOW)
        wait_busy(replica)
        terminate(replica)
        messages = client.until("Z")
        assert raw.find(messages, "D")[-1].row == (str(primary.port),)
        assert messages[-1].body == b"T"
        assert client.rows("SHOW transaction_read_only") == [("on",)]
        assert raw.find(client.query("COMMIT"), "Z")[0].body == b"I"
        assert rescued(t) == {"lost": 1}


def test_i3_never_in_the_middle_of_a_transaction(pair, start):
    """Whose snapshot is that of its first statement; of another one see test_read_only_default.py."""
    t = start()
    with log_in(t) as client:
        client.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        client.query("SELECT 2")
        client.send(raw.query(SLOW))
        wait_busy(pair[1])
        terminate(pair[1])
        assert errors(client.until_closed()) == ["57P01"]
        assert rescued(t) == {"not rescued": 1}


def wait_begun(replica):
    """A transaction of a client's is open there, and nothing runs in it."""
    wait_until(lambda: begun(replica), what="the replica has begun a transaction")


def begun(replica):
    return [pid for pid, in replica.sql("SELECT pid FROM pg_stat_activity WHERE usename = %s"
                                        " AND state = 'idle in transaction'", [APP_USER])]


def prepare(client, *, name, sql=SLOW):
    client.send(raw.parse(name, sql), raw.describe("S", name), raw.sync())
    assert raw.kinds(client.until("Z")).replace("S", "") == "1tTZ"


@pytest.mark.parametrize("way", ["alone", "prepared", "prepared without a name", "prepared twice"])
def test_i3_a_transaction_in_which_nothing_has_run_begins_anew(pair, start, way):
    """Its BEGIN went by itself, or with no more than a Parse."""
    primary, replica = pair
    t = start({"begin_defer_max": "1ms"})
    name = "" if "without" in way else "mine"
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        wait_begun(replica)
        if way != "alone":
            prepare(client, name=name)
        if way == "prepared twice":
            prepare(client, name="other")
        client.send(*([raw.query(SLOW)] if way == "alone" else
                      [raw.bind("", name), raw.execute(), raw.sync()]))
        wait_busy(replica)
        terminate(replica)
        messages = client.until("Z")
        assert not errors(messages)
        assert raw.find(messages, "D")[-1].row == (str(primary.port),) and messages[-1].body == b"T"
        assert client.rows("SHOW transaction_read_only") == [("on",)]
        assert raw.find(client.query("COMMIT"), "Z")[0].body == b"I"
        assert rescued(t) == {"lost": 1}


@pytest.mark.parametrize("goes", ["terminated", "fast", "immediate", "killed"])
@pytest.mark.parametrize("way", ["alone", "prepared"])
def test_i3_a_transaction_that_waits_for_its_first_statement_is_not_told(pair, start, restarted, way, goes):
    primary, replica = pair
    t = start({"begin_defer_max": "1ms"})
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        wait_begun(replica)
        if way == "prepared":
            prepare(client, name="mine", sql="SELECT current_setting('test.port')")
        if goes == "terminated":
            replica.sql(f"SELECT pg_terminate_backend({begun(replica)[0]})")
        else:
            GOES[goes](replica)
        wait_until(lambda: rescued(t) == {"lost": 1}, what="its server is missed")
        client.send(raw.bind("", "mine"), raw.execute(), raw.sync()) if way == "prepared" else \
            client.send(raw.query("SELECT current_setting('test.port')"))
        messages = client.until("Z")
        assert not errors(messages) and not raw.find(messages, "N")
        assert raw.find(messages, "D")[0].row[0] in (str(primary.port), str(replica.port))
        assert messages[-1].body == b"T"
        assert client.rows("SHOW transaction_read_only") == [("on",)]
        assert raw.find(client.query("COMMIT"), "C")[0].strings[0] == "COMMIT"


def received(t):
    return next(row["total_received"] for row in t.admin("SHOW STATS") if row["database"] == APP_DATABASE)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_i3_a_commit_that_is_lost_with_its_replica_is_not_made_up(pair, start, restarted, isolation):
    """Though it has only read: its client is told that the outcome is not known, once, and nothing else."""
    t = start()
    with log_in(t) as client:
        client.query(f"BEGIN ISOLATION LEVEL {isolation}, READ ONLY")
        assert where(client) == pair[1].port
        pid, = begun(pair[1])
        os.kill(pid, signal.SIGSTOP)
        before = received(t)
        client.send(raw.query("COMMIT"))
        wait_until(lambda: received(t) > before, what="the COMMIT is on its way")
        pair[1].kill()
        messages = client.until_closed()
        assert raw.kinds(messages) == "E"
        error = raw.find(messages, "E")[0].fields
        assert (error["C"], error["H"]) == ("08006", "The outcome of the statement under way is not known.")
        assert rescued(t) == {}
    with log_in(t) as client:
        assert where(client) in (pair[0].port, pair[1].port)


def test_i3_what_has_failed_stays_failed(pair, start):
    """A Parse that fails has failed its transaction, which does not begin anew."""
    t = start({"begin_defer_max": "1ms"})
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        wait_begun(pair[1])
        client.send(raw.parse("mine", "SELECT nothing_like_that"), raw.sync())
        assert errors(client.until("Z")) == ["42703"]
        pair[1].sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    f" WHERE state LIKE 'idle in transaction%' AND usename = '{APP_USER}'")
        assert errors(client.until_closed()) == ["57P01"]
        assert rescued(t) == {"not rescued": 1}


def test_i3_a_read_only_transaction_that_was_begun_may_still_write(pair, start):
    """As long as nothing has run in it, and a replica refuses."""
    t = start({"begin_defer_max": "1ms"})
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        wait_begun(pair[1])
        assert not errors(client.query("SET TRANSACTION READ WRITE"))
        assert not errors(client.query("INSERT INTO rescued VALUES ('w')"))
        assert not errors(client.query("COMMIT"))
    assert notes(pair) == [("w", str(pair[0].port))]


def test_i3_behind_a_parse_the_snapshot_of_a_transaction_that_begins_anew_is_taken(pair, start):
    t = start({"begin_defer_max": "1ms"})
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        wait_begun(pair[1])
        prepare(client, name="mine", sql="SELECT current_setting('test.port')")
        replica_pid = begun(pair[1])[0]
        pair[1].sql(f"SELECT pg_terminate_backend({replica_pid})")
        wait_until(lambda: rescued(t) == {"lost": 1}, what="its server is missed")
        assert errors(client.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")) == ["25001"]


@pytest.mark.slow
@pytest.mark.parametrize("before", [None, raw.parse("mine", "SELECT 1") + raw.sync(), raw.query("SELECT 1")],
                         ids=["nothing", "prepared", "read"])
def test_i3_a_client_that_leaves_its_transaction_idle_is_ended(pair, start, before):
    """It has asked for that, or its database has: it does not begin anew."""
    t = start({"begin_defer_max": "1ms"})
    with log_in(t) as client:
        client.query("SET idle_in_transaction_session_timeout = '500ms'")
        client.query("BEGIN READ ONLY")
        if before:
            client.send(before)
            client.until("Z")
        assert errors(client.until_closed()) == ["25P03"]
        assert "lost" not in rescued(t)


@pytest.mark.parametrize("begin", ["BEGIN READ ONLY", "SELECT 1"])
def test_i3_a_batch_without_an_end_keeps_nothing_from_being_heard(pair, start, begin):
    t = start()
    for end in raw.query("SELECT 3"), raw.message("X"):
        with log_in(t, timeout=5) as client:
            client.query(begin)
            client.send(raw.parse("", "SELECT 2"), raw.bind(), raw.execute(), end)
            if end[:1] == b"X":
                client.until_closed()
            else:
                assert [m.row for m in raw.find(client.until("Z"), "D")] == [("2",), ("3",)]


LOCKED = "SELECT (SELECT count(*) FROM rescue_second), count(*) FROM rescue_first"


@pytest.fixture(scope="module")
def locked(pair):
    pair[0].sql("CREATE TABLE rescue_first (i int); CREATE TABLE rescue_second (i int);"
                f" GRANT ALL ON rescue_first, rescue_second TO {APP_USER}", dbname=APP_DATABASE)
    pair[1].wait_caught_up(pair[0])


def locks(replica, granted):
    return replica.value("SELECT count(*) FROM pg_locks WHERE relation = 'rescue_second'::regclass"
                         " AND granted = %s", [granted], dbname=APP_DATABASE)


@pytest.mark.parametrize("way", ["the client's", "ours", "in a transaction"])
def test_i3_a_parse_that_recovery_cancels_is_made_on_the_primary(pair, start, locked, way):
    """It holds one table, and waits for another, which recovery has locked."""
    primary, replica = pair
    replica.sql("ALTER SYSTEM SET max_standby_streaming_delay = '10ms'")
    replica.sql("SELECT pg_reload_conf()")
    try:
        t = start()
        with log_in(t) as client, primary.connect(APP_DATABASE, autocommit=False) as holder:
            if way == "ours":  # it is the primary's where nothing is run
                client.send(raw.parse("mine", LOCKED), raw.sync())
                client.until("Z")
            elif way == "in a transaction":
                client.query("BEGIN READ ONLY")
            holder.execute("LOCK TABLE rescue_second")
            primary.sql("SELECT pg_switch_wal()")
            wait_until(lambda: locks(replica, True), what="the replica has the lock")
            if way != "ours":
                client.send(raw.parse("mine", LOCKED))
            if way != "in a transaction":
                client.send(raw.bind("", "mine"), raw.execute())
            client.send(raw.sync())
            wait_until(lambda: locks(replica, False), what="the Parse waits")
            holder.execute("LOCK TABLE rescue_first")
            primary.sql("SELECT pg_switch_wal()")
            wait_until(lambda: rescued(t) == {"conflict": 1}, what=lambda: f"it is asked again, but {rescued(t)}")
            holder.commit()
            messages = client.until("Z")
            assert not errors(messages)
            if way == "in a transaction":
                client.send(raw.bind("", "mine"), raw.execute(), raw.sync())
                messages = client.until("Z")
            assert raw.find(messages, "D")[0].row == ("0", "0")
    finally:
        replica.sql("ALTER SYSTEM RESET max_standby_streaming_delay")
        replica.sql("SELECT pg_reload_conf()")


def test_i3_settings_and_prepared_statements_come_along(pair, start):
    t = start()
    with log_in(t) as client:
        client.query("SET work_mem = '1234kB'")
        client.query(f"SET {SETTING} = '77'")
        client.send(raw.parse("kept", "SELECT rescue_hidden($1), current_setting('work_mem')"),
                    raw.sync())
        client.until("Z")
        client.send(raw.bind("", "kept", ["a"]), raw.execute(), raw.sync())
        assert raw.find(client.until("Z"), "D")[0].row[1] == "1234kB"
        client.send(raw.bind("", "kept", ["b"]), raw.execute(), raw.sync())
        client.until("Z")
        assert rescued(t) == {"write": 1}
    rows = pair[0].sql("SELECT note, business_id FROM rescued", dbname=APP_DATABASE)
    assert rows == [("a", "77"), ("b", "77")]


@pytest.mark.parametrize("pool", ["dedicated", "shared"])
def test_i1_the_tenants_context_comes_along(pair, start, pool):
    primary, replica = pair
    config = merge(
        tenants(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms",
                          "tenant_pool": pool}, {"basic": {"rate": "1000/h", "burst": 1000}}),
        {"databases": {APP_DATABASE: {"host": f"{primary.host},{replica.host}",
                                      "port": f"{primary.port},{replica.port}"}}})
    t = start(config=config)
    with enter(t, "acme") as acme, enter(t, "globex") as globex:
        globex.query(HIDDEN)
        acme.query("SELECT rescue_hidden(a, 1) FROM (SELECT 'x') AS s(a)")  # no such function
        acme.query("SELECT rescue_hidden(a) FROM (SELECT 'of acme'::text) AS s(a)")
        before = used(t, "globex")
        globex.prepared("SELECT rescue_hidden(a) FROM (VALUES ('of globex'::text)) AS s(a)")
        assert used(t, "globex") - before == 1
    rows = primary.sql("SELECT note, business_id FROM rescued ORDER BY 1", dbname=APP_DATABASE)
    assert rows == [("n", "7"), ("of acme", "42"), ("of globex", "7")]


def used(t, tenant):
    return next(r for r in t.admin("SHOW TENANTS") if r["name"] == tenant)["statements"]


def test_a_cancelled_request_is_not_asked_again(pair, start):
    t = start()
    with log_in(t) as client:
        client.send(raw.query(SLOW))
        wait_busy(pair[1])
        client.cancel()
        assert errors(client.until("Z")) == ["57014"]
        assert rescued(t) == {}


@pytest.mark.parametrize("size, outcome, counted", [("0", ["25006"], {"not rescued": 1}), ("45", [], {}),
                                                    ("16kB", [], {"write": 1})])
def test_rescue_max_size(pair, start, size, outcome, counted):
    """What is too long to be kept goes to the primary at once, unless nothing is to be kept."""
    t = start({"rescue_max_size": size})
    with log_in(t) as client:
        assert errors(client.query(HIDDEN + 20 * " ")) == outcome and rescued(t) == counted
        assert client.rows("SELECT 2") == [("2",)]


# ---- what cannot be kept ------------------------------------------------------------------------

LONG = "/* " + 20000 * "x" + " */ "  # more than is kept, less than would not be parsed


def where(client, how="simple", sql="SELECT current_setting('test.port')"):
    got = ask(client, how, sql)
    assert not errors(got), errors(got)
    return next(int(m.row[0]) for m in raw.find(got, "D") if m.row[0] not in ("5", "6"))


@HOW
def test_i3_a_text_that_is_too_long_to_be_kept_goes_to_the_primary(pair, start, how):
    t = start()
    with log_in(t) as client:
        for _ in range(2):
            assert not errors(ask(client, how, LONG + HIDDEN))
            client.query("DEALLOCATE ALL")
            assert where(client, how, LONG + "SELECT current_setting('test.port')") == pair[0].port
            client.query("DEALLOCATE ALL")
        assert rescued(t) == {}
        wait_routed(client, pair[1])


@pytest.mark.parametrize("described", [(), (raw.describe("P"),)], ids=["", "described"])
def test_i3_a_bind_that_is_too_long_to_be_kept_goes_to_the_primary(pair, start, described):
    t = start({"workers": 1})
    with log_in(t) as client:
        client.send(raw.parse("mine", "SELECT rescue_hidden($1), current_setting('test.port')"), raw.sync())
        client.until("Z")
        client.send(raw.parse("place", "SELECT current_setting('test.port') WHERE $1::text <> ''"), raw.sync())
        client.until("Z")

        def run(name, value):
            client.send(raw.bind("", name, [value]), *described, raw.execute(), raw.sync())
            got = client.until("Z")
            assert not errors(got)
            return int(raw.find(got, "D")[0].row[-1])

        wait_until(lambda: run("place", "short") == pair[1].port)
        assert run("place", 20000 * "x") == pair[0].port
        assert run("place", "short") == pair[1].port
        assert run("mine", 20000 * "x") == pair[0].port
        assert rescued(t) == {}


@HOW
def test_i3_who_listens_reads_on_the_primary(pair, start, how):
    primary, replica = pair
    t = start({"workers": 1})
    with clients(t, 2) as (client, other):
        client.query("LISTEN rescue_channel")
        for _ in range(2):
            assert not errors(ask(client, how, HIDDEN))
            client.query("DEALLOCATE ALL")
        assert where(client, how) == primary.port
        assert rescued(t) == {}
        assert where(other) == replica.port
        client.query("DEALLOCATE ALL")
        client.query("UNLISTEN *")
        assert where(client, how) == replica.port


@pytest.mark.parametrize("defer", ["1s", "1ms"], ids=["waits", "alone"])
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_i3_a_read_only_transaction_goes_to_the_primary_with_what_is_too_long(pair, start, how, defer):
    primary, replica = pair
    t = start({"begin_defer_max": defer})
    with log_in(t) as client:
        client.query("BEGIN READ ONLY")
        if defer == "1ms":
            wait_begun(replica)
        assert not errors(ask(client, how, LONG + "SELECT rescue_unlogged_rows()"))
        assert where(client) == primary.port
        assert not errors(client.query("COMMIT"))
        assert rescued(t) == {}


MUCH = "SELECT repeat('x', 20000) FROM generate_series(1, 10)"
IN_PARTS = {
    "one statement": [raw.query(MUCH + " UNION ALL SELECT rescue_hidden('n')")],
    "a string": [raw.query(MUCH + "; " + HIDDEN)],
    "a batch": [raw.parse("", MUCH), raw.bind(), raw.execute(),
                raw.parse("", HIDDEN), raw.bind(), raw.execute(), raw.sync()],
    "a batch, described": [raw.parse("", MUCH), raw.bind(), raw.describe("P"), raw.execute(),
                           raw.parse("", HIDDEN), raw.bind(), raw.describe("P"), raw.execute(), raw.sync()],
}


@pytest.mark.parametrize("what", IN_PARTS)
def test_i3_what_fails_behind_the_first_byte_fails_once(pair, start, what):
    """Its client gets the error, since the answer has begun; nobody gets it a second time."""
    t = start({"workers": 1})
    with clients(t, 2) as (client, other):
        client.send(*IN_PARTS[what])
        assert errors(client.until("Z")) == ["25006"]
        assert rescued(t) == {"not rescued": 1}
        for again in client, other:
            again.send(*IN_PARTS[what])
            assert not errors(again.until("Z"))
        assert rescued(t) == {"not rescued": 1}
        assert where(client) == pair[1].port


def test_i3_what_is_sent_behind_an_answer_that_has_begun_is_not_what_failed(pair, start):
    """Only the shape of what has failed is the primary's from then on."""
    t = start({"workers": 1})
    with log_in(t) as client:
        client.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        client.query(MUCH)
        assert errors(client.query("SELECT rescue_unlogged_rows()")) == ["0A000"]
        client.query("ROLLBACK")
        before = reasons(t)["read"]
        client.query(MUCH)
        assert reasons(t)["read"] == before + 1


# ---- sessions that no replica can serve ---------------------------------------------------------

SERIAL_USER = "rescue_serial"


def in_session(client):
    client.query("SET default_transaction_isolation = 'serializable'")


def in_characteristics(client):
    client.query("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")


@pytest.mark.parametrize("says", [in_session, in_characteristics, {"default_transaction_isolation": "SERIALIZABLE"},
                                  {"options": "-c default_transaction_isolation=serializable"}],
                         ids=["SET", "CHARACTERISTICS", "startup", "options"])
@HOW
def test_i3_a_serializable_session_reads_on_the_primary(pair, start, how, says):
    primary, replica = pair
    t = start({"workers": 1, "ignore_startup_parameters": ""})
    with log_in(t, **(says if isinstance(says, dict) else {})) as client, log_in(t) as other:
        if callable(says):
            says(client)
        for _ in range(2):
            assert where(client, how) == primary.port
            client.query("DEALLOCATE ALL")
        client.query("BEGIN READ ONLY")
        assert where(client, how) == primary.port
        client.query("COMMIT")
        assert rescued(t) == {}
        assert where(other, how) == replica.port
        client.query("SET default_transaction_isolation = 'repeatable read'")
        wait_routed(client, replica)


@pytest.fixture(scope="module")
def serial(pair):
    primary, replica = pair
    primary.role(SERIAL_USER, APP_PASSWORD)
    primary.sql(f"ALTER ROLE {SERIAL_USER} SET default_transaction_isolation = 'serializable'")
    replica.wait_caught_up(primary)
    yield SERIAL_USER
    primary.sql(f"DROP ROLE {SERIAL_USER}")


@HOW
def test_i3_a_role_whose_sessions_are_serializable_reads_on_the_primary(pair, start, turnstile, serial, how):
    """A replica has said so once; it is no matter of the statement, so others of its shape are read there."""
    primary, replica = pair
    t = turnstile(routed(pair, {"workers": 1}), {serial: APP_PASSWORD})
    with log_in(t) as other:
        wait_routed(other, replica)
        with clients(t, 2, user=serial) as (client, late):
            for each in 2 * [client, late]:
                assert where(each, how) == primary.port
                each.query("DEALLOCATE ALL")
            assert rescued(t) == {"recovery": 1}
            assert where(other, how) == replica.port
            late.query("SET default_transaction_isolation = 'read committed'")
            wait_routed(late, replica)
            client.query(f"ALTER ROLE {serial} RESET default_transaction_isolation")
            replica.wait_caught_up(primary)
            wait_routed(client, replica)
            client.query(f"ALTER ROLE {serial} SET default_transaction_isolation = 'serializable'")
            replica.wait_caught_up(primary)


# ---- what was learnt ----------------------------------------------------------------------------

def readings(primary):
    """Grows when somebody has read what the catalog says of views."""
    return primary.value("SELECT seq_scan FROM pg_stat_sys_tables WHERE relid = 'pg_rewrite'::regclass",
                         dbname=APP_DATABASE)


def wait_read_again(primary, before):
    wait_until(lambda: readings(primary) > before, 30, "the catalog is read again")
    wait_until(lambda: primary.value("SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                                     " 'pgturnstile monitor'") == 1, 30, "it has been read")


def test_i4_what_was_learnt_stays_when_the_catalog_is_read_again(pair, start):
    """As long as nothing is defined; then a replica is asked once more."""
    t = start({"workers": 1})
    with log_in(t) as client:
        client.query(HIDDEN)
        assert rescued(t) == {"write": 1}
        before = readings(pair[0])
        t.reload()
        wait_read_again(pair[0], before)
        wait_routed(client, pair[1])
        assert not errors(client.query(HIDDEN)) and rescued(t) == {"write": 1}
        client.query("DO $$ BEGIN /* might CREATE a FUNCTION */ END $$")
        wait_until(lambda: (client.query(HIDDEN), rescued(t))[1] == {"write": 2}, 30, "it is learnt anew")


def test_a_request_in_pieces_is_kept_whole(pair, start):
    t = start()
    with log_in(t) as client:
        batch = raw.parse("a", HIDDEN) + raw.bind("", "a") + raw.execute() + raw.sync()
        for i in range(len(batch)):
            client.send(batch[i:i + 1])
        assert not errors(client.until("Z"))
        client.send(raw.bind("", "a"), raw.execute(), raw.sync())
        assert not errors(client.until("Z"))
    assert len(notes(pair)) == 2


@pytest.fixture
def road(pair):
    road = RoughRoad(pair[1])
    yield road
    road.remove()


@HOW
@pytest.mark.parametrize("settings", [{}, {"auto_prepare": "no"}], ids=["", "plain"])
def test_i3_an_answer_that_comes_in_pieces_has_begun_when_its_server_means_it_to(pair, turnstile, road, how, settings):
    """What a server has said in one piece a network may bring in several."""
    t = turnstile(routed((pair[0], road), settings))
    with log_in(t) as client:
        wait_routed(client, pair[1])
        road.tear(True)
        for i in range(8):
            assert not errors(ask(client, how, f"SELECT rescue_hidden('n') AS shape_{i}"))
            client.query("DEALLOCATE ALL")
        assert rescued(t) == {"write": 8}
        road.tear(False)
        wait_routed(client, pair[1])
    assert notes(pair) == [("n", str(pair[0].port))] * 8


def test_route_mode_observe_sends_nothing_to_a_replica_and_counts(pair, start, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"route_mode": "observe"}))
    with log_in(t) as client:
        wait_nodes(t, "primary", "replica")
        wait_until(lambda: client.rows("SELECT 2") and reasons(t)["observed"], 30,
                   "what could go to a replica is counted")
        before = reasons(t)
        for sql in ["SELECT current_setting('test.port')", HIDDEN, "SELECT 2 FROM rescue_rows LIMIT 1"]:
            assert not errors(ask(client, "simple", sql)) and not errors(ask(client, "named", sql))
            client.query("DEALLOCATE ALL")
        client.query("BEGIN READ ONLY")
        assert client.rows("SELECT current_setting('test.port')") == [(str(primary.port),)]
        client.query("COMMIT")
        client.query("INSERT INTO rescued VALUES ('w')")
        after = reasons(t)
    assert after["observed"] - before["observed"] == 7
    assert after["read"] == 0 and after["write"] > before["write"]
    assert {port for _, port in notes(pair)} == {str(primary.port)}
    assert rescued(t) == {}
    t.reload({"pgturnstile": {"route_mode": "route"}})
    with log_in(t) as client:
        wait_routed(client, replica)


def test_route_mode_observe_counts_replicas_that_would_have_gone(pair, turnstile, restarted):
    """Between the choice and the answer; of what they would have refused nobody can know."""
    primary, replica = pair
    t = turnstile(routed(pair, {"route_mode": "observe"}))
    with log_in(t) as client, primary.connect(APP_DATABASE, autocommit=False) as holder:
        wait_nodes(t, "primary", "replica")
        wait_until(lambda: client.rows("SELECT 2") and reasons(t)["observed"], 30,
                   "what could go to a replica is counted")
        assert reasons(t)["observed: lost"] == 0
        holder.execute("LOCK TABLE rescue_rows")
        before = reasons(t)["observed"]
        client.send(raw.query("SELECT count(*) FROM rescue_rows"))
        wait_until(lambda: reasons(t)["observed"] == before + 1)
        replica.kill()
        wait_nodes(t, "primary", "down")
        holder.commit()
        assert not errors(client.until("Z"))
        assert reasons(t)["observed: lost"] == 1
        client.query("SELECT count(*) FROM rescue_rows")
        assert reasons(t)["observed: lost"] == 1


def reasons(t):
    return {row["reason"]: row["count"] for row in t.admin("SHOW ROUTES")
            if row["database"] == APP_DATABASE}


def test_functions_are_what_the_operator_says(pair, start):
    t = start({"read_functions": "clock_timestamp, public.rescue_insert",
               "write_functions": "rescue_hidden"})
    with log_in(t) as client:
        before = reasons(t)
        client.query("SELECT clock_timestamp()")
        assert reasons(t)["read"] == before["read"] + 1
        assert not errors(client.query(HIDDEN)) and rescued(t) == {}
        assert not errors(client.query("SELECT rescue_insert('n')"))
        assert rescued(t) == {"write": 1}
    t.reload({"pgturnstile": {"read_functions": "", "write_functions": ""}})
    with log_in(t) as client:
        wait_until(lambda: client.query("SELECT clock_timestamp()")
                   and reasons(t)["write"] > before["write"] + 3, 30, "it is a write again")


@pytest.mark.slow
def test_i3_reads_under_load_never_see_a_replica_go(pair, start, restarted):
    """Killed, stopped, its sessions terminated, and back each time, with clients at work."""
    primary, replica = pair
    t = start({"default_pool_size": 8, "server_login_retry": "100ms"})
    stop_now, wrong, counts = threading.Event(), [], [0] * 8

    def work(i):
        with log_in(t, timeout=30) as client:
            client.send(raw.parse("mine", "SELECT count(*), $1::int FROM generate_series(1, 2000)"),
                        raw.sync())
            client.until("Z")
            while not stop_now.is_set():
                if i % 2:
                    client.send(raw.query(f"SELECT count(*), {i} FROM generate_series(1, 2000)"))
                else:
                    client.send(raw.bind("", "mine", [str(i)]), raw.execute(), raw.sync())
                messages = client.until("Z")
                if raw.find(messages, "E") or raw.find(messages, "D")[0].row != ("2000", str(i)):
                    wrong.append(messages)
                counts[i] += 1

    with ThreadPoolExecutor(len(counts)) as pool:
        workers = [pool.submit(work, i) for i in range(len(counts))]
        try:
            for goes in (replica.kill, replica.stop, lambda: replica.stop(signal.SIGQUIT)):
                goes()
                seen = sum(counts)
                wait_until(lambda: sum(counts) > seen + 50, 30, "reads go on")
                replica.start()
                before = reasons(t)["read"]
                wait_until(lambda: reasons(t)["read"] > before + 50, 30, "the replica is used again")
            for _ in range(10):
                replica.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            f" WHERE usename = '{APP_USER}'")
        finally:
            stop_now.set()
        for worker in workers:
            worker.result()
    assert wrong == []
    assert rescued(t).get("lost", 0) > 0 and "not rescued" not in rescued(t), rescued(t)


REPLACED = {
    "the unnamed statement is another": [raw.parse("", HIDDEN), raw.bind()],
    "a closed name is another": [raw.close("S", "old"), raw.parse("old", HIDDEN), raw.bind("", "old")],
    "a name is closed": [raw.close("S", "old"), raw.parse("", HIDDEN), raw.bind()],
}


@pytest.mark.parametrize("how", REPLACED)
def test_i3_a_batch_that_replaces_what_it_used_is_not_asked_again(pair, start, how):
    """The second time the name would stand for something else: for what writes, maybe."""
    t = start()
    with log_in(t) as client:
        name = "old" if "name" in how and "unnamed" not in how else ""
        client.send(raw.parse(name, "SELECT 'first'"), raw.sync())
        client.until("Z")
        client.send(raw.bind("", name), raw.execute(), *REPLACED[how], raw.execute(), raw.sync())
        messages = client.until("Z")
        assert [m.row for m in raw.find(messages, "D")] == [("first",)]
        assert errors(messages) == ["25006"]
        assert notes(pair) == [] and rescued(t) == {"not rescued": 1}
        assert not errors(client.query(HIDDEN)) and rescued(t) == {"not rescued": 1}


def test_i3_what_is_sent_behind_it_after_a_reload_is_answered_too(pair, start, restarted):
    t = start({"workers": 1})
    with clients(t, 2) as (client, other):
        client.send(raw.query(SLOW))
        wait_busy(pair[1])
        t.reload({"pgturnstile": {"route": "primary"}})
        client.send(raw.query("INSERT INTO rescued VALUES ('behind')"), raw.query("SELECT 2"))
        other.rows("SELECT 3")
        other.rows("SELECT 4")
        terminate(pair[1])
        answers = [client.until("Z") for _ in range(3)]
        assert not any(errors(messages) for messages in answers)
        assert notes(pair) == [("behind", str(pair[0].port))]
        assert rescued(t) == {"lost": 1}


def test_i1_a_batch_that_chooses_its_tenant_and_ends_comes_again_whole(pair, start, restarted):
    primary, replica = pair
    t = start(config=merge(
        tenants(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms", "read_your_writes": "off",
                          "tenant_pool": "shared", "tenant_by": "user_suffix, set"}),
        {"users": {APP_USER: {"tenant_switch": "yes"}},
         "databases": {APP_DATABASE: {"host": f"{primary.host},{replica.host}",
                                      "port": f"{primary.port},{replica.port}"}}}))
    texts = ["BEGIN READ ONLY", f"SELECT set_config('{SETTING}', '7', true)",
             f"SELECT rescue_slow(), current_setting('{SETTING}')", "COMMIT"]
    with log_in(t) as client:
        client.send(*(raw.parse("", text) + raw.bind() + raw.execute() for text in texts), raw.sync())
        wait_busy(replica)
        terminate(replica)
        messages = client.until("Z")
        assert not errors(messages), raw.find(messages, "E")[0].fields
        assert [m.row for m in raw.find(messages, "D")] == [("7",), (str(primary.port), "7")]
        assert messages[-1].body == b"I" and rescued(t) == {"lost": 1}
        assert errors(client.query("SELECT 2")) == ["42501"]
