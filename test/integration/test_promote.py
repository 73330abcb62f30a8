# SPDX-License-Identifier: ISC
#
# test_promote.py - promote = first_write: a transaction reads on a replica, and goes on on the
# primary when it does anything else.
#
# test.port tells who answered: to ask for it is a plain read, as the pooler sees it.
"""What a client sees is what READ COMMITTED on the primary could have shown it."""
import random

import pytest

import raw
import tenancy
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import clients, essence, log_in, made_on_both, shop, wait_nodes
from tenancy import SETTING, errors
from test_routing import begun, HOW_TO_BEGIN
from test_signed_context import DATABASE as SIGNED, KEY, SCRIPT
from turnstile import merge
from waiting import wait_until

WHERE = "SELECT current_setting('test.port')"
WRITE = "INSERT INTO promoted (i) VALUES (1)"
SCHEMA = f"""
CREATE TABLE promoted (i int CHECK (i >= 0), port text DEFAULT current_setting('test.port'));
CREATE FUNCTION promote_insert() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO promoted VALUES (7); RETURN 7; END $$;
-- What is run by another name, and put together, is seen by nobody but the server that runs it.
CREATE FUNCTION promote_run(text, boolean, boolean, text) RETURNS xml STABLE LANGUAGE internal AS 'query_to_xml';
CREATE FUNCTION promote_ask(what text) RETURNS text STABLE LANGUAGE sql AS
  $$ SELECT substring(promote_run('SELECT ' || what || ' AS it', true, false, '')::text FROM '<it>(.*)</it>') $$;
-- Writes, whatever it says.
CREATE FUNCTION promote_hidden() RETURNS int STABLE LANGUAGE plpgsql AS
  $$ BEGIN RETURN promote_ask('promote_' || 'insert()')::int; END $$;
CREATE FUNCTION promote_slow() RETURNS int STABLE LANGUAGE plpgsql AS
  $$ BEGIN
       IF promote_ask('pg_is_in_' || 'recovery()') = 'true' THEN PERFORM promote_ask('pg_' || 'sleep(60)'); END IF;
       RETURN current_setting('test.port')::int;
     END $$;
GRANT ALL ON promoted TO {APP_USER};
"""


@pytest.fixture(scope="module")
def pair(primary, replica):
    return made_on_both(primary, replica, SCHEMA)


@pytest.fixture(autouse=True)
def _empty(pair):
    pair[0].sql("TRUNCATE promoted", dbname=APP_DATABASE)
    pair[1].wait_caught_up(pair[0])


def promoting(pair, settings=None, database=None):
    primary, replica = pair
    return shop(primary, {"monitor_user": APP_USER, "monitor_interval": "100ms",
                          "promote": "first_write", "read_your_writes": "off", **(settings or {})},
                {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}",
                 **(database or {})})


def answered_by(client, sql=WHERE, extended=False):
    messages = client.prepared(sql) if extended else client.query(sql)
    assert not errors(messages), raw.find(messages, "E")[0].fields
    return int(raw.find(messages, "D")[-1].row[0])


def begins_on(client, begin="BEGIN"):
    """Where a transaction reads first; it is ended."""
    client.query(begin)
    try:
        return answered_by(client)
    finally:
        client.query("ROLLBACK")


def wait_promoting(client, replica):
    """All is known that it needs: roles, the catalog, what sessions begin with."""
    wait_until(lambda: begins_on(client) == replica.port, 30, "transactions begin on the replica")


def promoted(t, reason="promoted"):
    return sum(row["count"] for row in t.admin("SHOW ROUTES") if row["reason"] == reason)


def rows(primary):
    return primary.sql("SELECT i, port::int FROM promoted ORDER BY i", dbname=APP_DATABASE)


@pytest.fixture
def client(pair, turnstile):
    t = turnstile(promoting(pair))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client:
        client.pooler = t
        wait_promoting(client, pair[1])
        yield client


# ---- the way there --------------------------------------------------------------------------------

@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i4_reads_on_the_replica_and_from_the_first_write_on_the_primary(pair, client, extended):
    primary, replica = pair
    run = client.prepared if extended else client.query
    client.query("BEGIN")
    assert [answered_by(client, extended=extended) for _ in range(3)] == [replica.port] * 3
    messages = run(WRITE)
    assert not errors(messages) and messages[-1].body == b"T"
    assert answered_by(client, extended=extended) == primary.port
    assert not errors(run("UPDATE promoted SET i = 2"))
    assert raw.kinds(client.query("COMMIT")) == "CZ"
    assert rows(primary) == [(2, primary.port)]
    assert promoted(client.pooler) == 1


def test_i4_however_it_is_begun(pair, client):
    primary, replica = pair
    for how in HOW_TO_BEGIN:
        assert begun(client, "BEGIN", how) == replica.port, how
        assert not errors(client.prepared(WRITE))
        assert answered_by(client) == primary.port, how
        client.query("COMMIT")
        assert begun(client, "BEGIN", how, WRITE + " RETURNING port") == primary.port, how
        client.query("ROLLBACK")
    assert rows(primary) == [(1, primary.port)] * len(HOW_TO_BEGIN)


def test_off_by_default(pair, turnstile):
    primary, replica = pair
    t = turnstile(promoting(pair, {"promote": "no"}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client:
        wait_until(lambda: answered_by(client) == replica.port, 30)
        assert begins_on(client) == primary.port


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_transaction_that_only_reads_stays(pair, client, end):
    primary, replica = pair
    client.query("BEGIN")
    assert answered_by(client) == replica.port
    messages = client.query(end)
    assert raw.kinds(messages) == "CZ" and messages[0].strings[0] == end
    assert promoted(client.pooler) == 0
    assert begins_on(client) == replica.port


def test_a_write_that_is_rolled_back_is(pair, client):
    client.query("BEGIN")
    answered_by(client)
    client.query(WRITE)
    client.query("ROLLBACK")
    assert rows(pair[0]) == []


def test_many_statements_in_one_write_are_answered_in_order(pair, client):
    """Also those that follow the first write before it has been answered."""
    primary, replica = pair
    client.send(raw.query("BEGIN"), raw.query(WHERE), raw.query(WRITE), raw.query(WHERE),
                raw.query("COMMIT"), raw.query("SELECT i FROM promoted"))
    got = [client.until("Z") for _ in range(6)]
    assert [m[-1].body for m in got] == [b"T", b"T", b"T", b"T", b"I", b"I"]
    assert [int(raw.find(got[i], "D")[0].row[0]) for i in (1, 3)] == [replica.port, primary.port]
    assert rows(primary) == [(1, primary.port)]


def test_batches_in_one_write(pair, client):
    """Of which one prepares, one runs that, one runs both with a write."""
    primary, replica = pair
    client.query("BEGIN")
    client.send(raw.parse("p", WHERE), raw.describe("S", "p"), raw.sync(),
                raw.bind("", "p"), raw.execute(), raw.sync(),
                raw.bind("", "p"), raw.execute(), raw.parse("", WRITE), raw.bind(), raw.execute(),
                raw.sync(), raw.bind("", "p"), raw.execute(), raw.sync())
    got = [client.until("Z") for _ in range(4)]
    assert [m[-1].body for m in got] == [b"T"] * 4
    assert [int(raw.find(m, "D")[0].row[0]) for m in got[1:]] == [
        replica.port, primary.port, primary.port]
    client.query("COMMIT")
    assert rows(primary) == [(1, primary.port)]


def test_a_server_that_is_left_is_rolled_back_and_used_again(pair, client):
    primary, replica = pair
    for _ in range(5):
        client.query("BEGIN")
        assert answered_by(client) == replica.port
        client.query(WRITE)
        client.query("COMMIT")
    idle = "SELECT count(*), bool_and(state = 'idle') FROM pg_stat_activity WHERE usename = %s" \
           " AND datname = %s AND application_name <> 'pgturnstile monitor'"
    wait_until(lambda: replica.sql(idle, [APP_USER, APP_DATABASE]) == [(1, True)])


# ---- what may not begin there, or not stay -----------------------------------------------------------

@pytest.mark.parametrize("begin", [
    "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE",
    "BEGIN READ WRITE", "BEGIN /* route: primary */",
    "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
])
def test_i4_other_transactions_begin_on_the_primary(pair, client, begin):
    assert begins_on(client, begin) == pair[0].port


def test_i4_sessions_of_another_isolation_begin_on_the_primary(pair, client):
    client.query("SET default_transaction_isolation = 'repeatable read'")
    assert begins_on(client) == pair[0].port
    client.query("SET default_transaction_isolation = 'read committed'")
    client.query("RESET default_transaction_isolation")
    client.query("BEGIN")
    client.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    assert answered_by(client) == pair[0].port
    client.query("ROLLBACK")


def test_i4_what_a_role_begins_with_counts(pair, turnstile):
    primary, replica = pair
    primary.role("promote_repeatable", APP_PASSWORD)
    primary.sql("ALTER ROLE promote_repeatable SET default_transaction_isolation = 'repeatable read'")
    t = turnstile(promoting(pair), {"promote_repeatable": APP_PASSWORD})
    wait_nodes(t, "primary", "replica")
    with log_in(t) as known, log_in(t, "promote_repeatable") as client:
        wait_promoting(known, replica)
        wait_until(lambda: answered_by(client) == replica.port, 30)
        for _ in range(5):
            assert begins_on(client) == primary.port


@pytest.mark.parametrize("statement", [
    "SAVEPOINT s", "SET LOCAL work_mem = '1MB'", "DECLARE c CURSOR FOR SELECT 1",
    "SELECT pg_advisory_xact_lock(1)", "SELECT now()", "SELECT current_timestamp",
    "SELECT 'now'::text::timestamptz", "SELECT set_config('work_mem', '1MB', true)",
    "LOCK TABLE promoted", "SELECT * FROM promoted FOR UPDATE", "EXPLAIN SELECT 1",
    "CREATE TEMP TABLE promote_temp () ON COMMIT DROP", "SHOW work_mem", f"{WHERE}; {WHERE}",
    "COPY (SELECT 1) TO STDOUT", "DO $$ BEGIN NULL; END $$",
])
def test_i4_what_would_be_missed_is_done_on_the_primary(pair, client, statement):
    primary, replica = pair
    client.query("BEGIN")
    assert answered_by(client) == replica.port
    assert not errors(client.query(statement))
    assert answered_by(client) == primary.port
    client.query("ROLLBACK")


@pytest.mark.parametrize("batch", [
    (raw.parse("", WHERE), raw.bind("p"), raw.execute("p")),
    (raw.parse("", "SELECT generate_series(1, 3)"), raw.bind(), raw.execute("", 1)),
    (raw.parse("", WHERE), raw.bind(), raw.execute(), raw.flush()),
], ids=["a portal of its own", "a portal that goes on", "a flush"])
def test_i4_portals_that_go_on_are_the_primarys(pair, client, batch):
    primary, replica = pair
    client.query("BEGIN")
    assert answered_by(client) == replica.port
    client.send(*batch, raw.sync())
    assert not errors(client.until("Z"))
    assert answered_by(client) == primary.port
    client.query("ROLLBACK")


def test_a_function_call_and_a_long_text_are_the_primarys(pair, client):
    primary, replica = pair
    client.query("BEGIN")
    assert answered_by(client) == replica.port
    client.query("/* " + "x" * (2 << 20) + " */ " + WRITE)
    assert answered_by(client) == primary.port
    client.query("COMMIT")
    assert rows(primary) == [(1, primary.port)]


# ---- what goes wrong --------------------------------------------------------------------------------

def test_an_error_in_the_first_write_fails_the_transaction(pair, client):
    primary, replica = pair
    client.query("BEGIN")
    answered_by(client)
    messages = client.query("INSERT INTO promoted VALUES (-1)")
    assert errors(messages) == ["23514"] and messages[-1].body == b"E"
    assert errors(client.query(WHERE)) == ["25P02"]
    assert client.query("COMMIT")[0].strings[0] == "ROLLBACK"
    assert rows(primary) == [] and begins_on(client) == replica.port


def test_an_error_in_a_read_fails_it_too(pair, client):
    """And what comes then, a write or not, has failed: nothing goes to the primary for that."""
    client.query("BEGIN")
    answered_by(client)
    assert errors(client.query("SELECT 1/0")) == ["22012"]
    assert errors(client.query(WRITE)) == ["25P02"]
    assert client.query("COMMIT")[0].strings[0] == "ROLLBACK"
    assert rows(pair[0]) == [] and promoted(client.pooler) == 0


def test_a_function_that_writes_after_all_is_the_first_write(pair, client):
    primary, replica = pair
    client.query("BEGIN")
    assert answered_by(client) == replica.port
    assert client.rows("SELECT promote_hidden()") == [("7",)]
    assert answered_by(client) == primary.port
    client.query("COMMIT")
    assert rows(primary) == [(7, primary.port)]
    assert promoted(client.pooler, "rescued: write") == 1


def test_i7_a_cancel_between_hits_nothing(pair, client):
    client.query("BEGIN")
    answered_by(client)
    client.cancel()
    assert not errors(client.query(WRITE))
    client.cancel()
    client.query("COMMIT")
    assert rows(pair[0]) == [(1, pair[0].port)]


def test_i7_a_cancel_of_a_read_fails_the_transaction(pair, client):
    primary, replica = pair
    client.query("BEGIN")
    client.send(raw.query("SELECT promote_slow()"))
    wait_until(lambda: replica.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
    client.cancel()
    messages = client.until("Z")
    assert errors(messages) == ["57014"] and messages[-1].body == b"E"
    assert errors(client.query(WRITE)) == ["25P02"]
    client.query("ROLLBACK")
    assert rows(primary) == []


def end_all(server):
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
               " AND datname = %s", [APP_USER, APP_DATABASE])


@pytest.mark.parametrize("when", ["in a read", "between"])
def test_i3_a_replica_that_is_lost_before_the_first_write_is_not_missed(pair, client, when):
    """The transaction has done nothing that another server could not do again."""
    primary, replica = pair
    client.query("BEGIN")
    if when == "in a read":
        client.send(raw.query("SELECT promote_slow()"))
        wait_until(lambda: replica.sql("SELECT 1 FROM pg_stat_activity"
                                       " WHERE wait_event = 'PgSleep'"))
        end_all(replica)
        assert int(raw.find(client.until("Z"), "D")[0].row[0]) == primary.port
    else:
        assert answered_by(client) == replica.port
        end_all(replica)
        client.pooler.wait_log("closing because")
    assert not errors(client.query(WRITE))
    assert answered_by(client) == primary.port
    client.query("COMMIT")
    assert rows(primary) == [(1, primary.port)]


def test_i3_a_primary_that_is_lost_after_the_first_write_is(pair, client):
    primary, _ = pair
    client.query("BEGIN")
    answered_by(client)
    client.query(WRITE)
    end_all(primary)
    assert errors(client.until_closed())[0] in ("57P01", "08006")
    assert rows(primary) == []


def test_a_client_that_leaves_leaves_nothing(pair, client):
    primary, replica = pair
    with log_in(client.pooler) as other:
        other.query("BEGIN")
        answered_by(other)
        other.query(WRITE)
    wait_until(lambda: not primary.sql("SELECT 1 FROM pg_stat_activity WHERE usename = %s AND"
                                       " state LIKE 'idle in%%'", [APP_USER]))
    assert rows(primary) == []


def test_a_primary_that_is_away_is_waited_for(pair, client):
    """The first write waits for the primary's pool as any statement does."""
    primary, replica = pair
    with clients(client.pooler, 2) as holders:
        for holder in holders:
            holder.query("BEGIN")
            holder.query(WRITE)
        client.query("BEGIN")
        assert answered_by(client) == replica.port
        client.send(raw.query(WRITE))
        wait_until(lambda: [row for row in client.pooler.admin("SHOW CLIENTS")
                            if row["state"] == "waiting"])
        holders[0].query("COMMIT")
        messages = client.until("Z")
        assert not errors(messages) and messages[-1].body == b"T"
        client.query("COMMIT")
        holders[1].query("ROLLBACK")
    assert rows(primary) == [(1, primary.port)] * 2


# ---- who has written ------------------------------------------------------------------------------

def test_i4_a_tenants_writes_are_seen_in_the_middle_too(pair, turnstile):
    """READ COMMITTED shows each statement what was committed before it, by others as well."""
    primary, replica = pair
    t = turnstile(promoting(pair, {"read_your_writes": "tenant"}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client, log_in(t) as other:
        wait_promoting(client, replica)
        replica.pause_replay()
        try:
            client.query("BEGIN")
            assert answered_by(client) == replica.port
            assert client.rows("SELECT count(*) FROM promoted") == [("0",)]
            other.query(WRITE)
            assert client.rows("SELECT count(*) FROM promoted") == [("1",)]
            assert answered_by(client) == primary.port
            client.query("COMMIT")
        finally:
            replica.resume_replay()


def test_i1_tenants_of_shared_pools_take_their_context_along(primary, replica, turnstile, tmp_path):
    """Signed for each of the two servers, and believed by the database there."""
    primary.sql(f"CREATE DATABASE {SIGNED}_promote")
    run = lambda sql, params=None: primary.sql(sql, params, dbname=f"{SIGNED}_promote")
    run(SCRIPT)
    run("SELECT pgturnstile.add_key(%s, %s)", KEY)
    run("CREATE TABLE promote_bills (business_id integer DEFAULT pgturnstile.business_id()::int,"
        " port text DEFAULT current_setting('test.port'))")
    run("INSERT INTO promote_bills SELECT b, 'x' FROM unnest('{7, 42}'::int[]) b,"
        " generate_series(1, 3)")
    run(f"GRANT ALL ON promote_bills TO {APP_USER}")
    run("SELECT pgturnstile.protect('promote_bills', 'business_id')")
    replica.wait_caught_up(primary)
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY[0]} {KEY[1].hex()}\n")
    keys.chmod(0o600)
    nodes = {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}",
             "dbname": f"{SIGNED}_promote", "tenant_pool": "shared"}
    t = turnstile(merge(tenancy.tenants(primary, {
        "monitor_user": APP_USER, "monitor_interval": "100ms", "promote": "first_write",
        "default_pool_size": 1, "tenant_pool": "shared", "context_signing_key_file": str(keys),
    }), {"databases": {APP_DATABASE: nodes}}))
    wait_nodes(t, "primary", "replica")
    with tenancy.enter(t, "acme") as acme, tenancy.enter(t, "globex") as globex:
        for client in (acme, globex):
            wait_promoting(client, replica)
        for _ in range(3):
            for client, tenant in ((acme, "42"), (globex, "7")):
                client.query("BEGIN")
                before = client.rows("SELECT business_id FROM promote_bills")
                assert set(before) == {(tenant,)}
                assert not errors(client.query("INSERT INTO promote_bills DEFAULT VALUES"))
                assert set(client.rows("SELECT business_id FROM promote_bills")) == {(tenant,)}
                assert client.query("COMMIT")[0].strings[0] == "COMMIT"
    assert run("SELECT business_id, count(*) FROM promote_bills WHERE port = %s GROUP BY 1 ORDER BY 1",
               [str(primary.port)]) == [(7, 3), (42, 3)]


def test_i10_limits_do_not_decide_at_the_first_write(pair, turnstile):
    """The transaction has its token and its place already."""
    primary, replica = pair
    t = turnstile(merge(tenancy.tenants(primary, {
        "monitor_user": APP_USER, "monitor_interval": "100ms", "promote": "first_write",
        "read_your_writes": "off"},
        {"basic": {"max_transactions": 1, "max_server_conn": 1}}),
        {"databases": {APP_DATABASE: {
            "host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"}}}))
    wait_nodes(t, "primary", "replica")
    with tenancy.enter(t, "acme") as client, tenancy.enter(t, "acme") as other:
        wait_promoting(client, replica)
        client.query("BEGIN")
        assert answered_by(client) == replica.port
        # One that waits for the place would get it, if it were given back in between.
        other.send(raw.query(WHERE))
        wait_until(lambda: [row for row in t.admin("SHOW CLIENTS") if row["state"] == "waiting"])
        assert not errors(client.query(WRITE))
        client.query("COMMIT")
        assert not errors(other.until("Z"))
    assert rows(primary) == [(1, primary.port)]


# ---- beside early_commit ------------------------------------------------------------------------------

def test_i4_what_follows_an_early_commit_on_a_replica_may_write(pair, turnstile):
    """COMMIT of a READ ONLY transaction, and a write behind it at once."""
    primary, replica = pair
    t = turnstile(promoting(pair, {"early_commit": 1, "promote": "no"}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client:
        wait_until(lambda: begins_on(client, "BEGIN READ ONLY") == replica.port, 30)
        for _ in range(10):
            client.send(raw.query("BEGIN READ ONLY"), raw.query(WHERE), raw.query("COMMIT"),
                        raw.query("BEGIN"), raw.query(WRITE), raw.query("COMMIT"))
            assert not any(errors(client.until("Z")) for _ in range(6))
    assert rows(primary) == [(1, primary.port)] * 10


# ---- against a direct connection -------------------------------------------------------------------------

STATEMENTS = [
    ("SELECT count(*), sum(i) FROM t", 8), ("SELECT i FROM t WHERE i > 2 ORDER BY i", 6),
    ("SELECT max(i) FROM t", 4), ("INSERT INTO t SELECT coalesce(max(i), 0) + 1 FROM t", 3),
    ("UPDATE t SET i = i + 1 WHERE i < 3", 2), ("DELETE FROM t WHERE i > 6", 1),
    ("SELECT 1/0", 1), ("INSERT INTO t VALUES (-1)", 1), ("SAVEPOINT s", 1),
    ("ROLLBACK TO s", 1), ("SET LOCAL work_mem = '2MB'", 1), ("SHOW work_mem", 1),
    ("DECLARE c CURSOR FOR SELECT i FROM t ORDER BY i", 1), ("FETCH 2 FROM c", 1),
    ("SELECT i FROM t ORDER BY i FOR UPDATE", 1), ("COMMIT", 4), ("ROLLBACK", 2), ("BEGIN", 6),
    ("COMMIT AND CHAIN", 1), ("INSERT INTO t VALUES (1); SELECT count(*) FROM t", 1),
    ("BEGIN READ ONLY", 1), ("BEGIN ISOLATION LEVEL REPEATABLE READ", 1), ("", 1),
]


def told(messages):
    """All but that the server is a replica or none, which clients are told as it changes."""
    return [m for m in essence(messages) if m[0] != "S"]


def request(rng):
    """A request of one to three statements, in one of the protocol's ways."""
    sql = rng.choices([s for s, _ in STATEMENTS], [n for _, n in STATEMENTS])[0]
    way = rng.random()
    if way < 0.5 or ";" in sql:
        return raw.query(sql)
    more = rng.choice(["SELECT count(*) FROM t", "SELECT max(i) FROM t"])
    if way < 0.8:
        return b"".join([raw.parse("", sql), raw.bind(), raw.execute(), raw.sync()])
    return b"".join([raw.parse("", more), raw.bind(), raw.execute(),
                     raw.parse("", sql), raw.bind(), raw.execute(), raw.sync()])


@pytest.fixture(scope="module")
def twins(pair):
    """The same table twice, one in each schema."""
    primary, replica = pair
    for name in ("promote_a", "promote_b"):
        for statement in (f"CREATE SCHEMA {name}",
                          f"CREATE TABLE {name}.t (i int CHECK (i >= 0))",
                          f"GRANT ALL ON SCHEMA {name} TO {APP_USER}",
                          f"GRANT ALL ON {name}.t TO {APP_USER}"):
            primary.sql(statement, dbname=APP_DATABASE)
    replica.wait_caught_up(primary)
    return primary, replica


@pytest.mark.parametrize("seed", range(8))
def test_i3_any_session_is_as_on_the_primary(twins, turnstile, seed):
    primary, replica = twins
    primary.sql("TRUNCATE promote_a.t, promote_b.t", dbname=APP_DATABASE)
    rng = random.Random(seed)
    t = turnstile(promoting(twins, {"read_your_writes": "session"}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client, log_in(primary) as direct:
        wait_promoting(client, replica)
        client.query("SET search_path = promote_a")
        direct.query("SET search_path = promote_b")
        replica.wait_caught_up(primary)
        begins = [raw.query("BEGIN"), raw.query("SELECT count(*) FROM t")]
        is_idle = False
        for i in range(150):
            requests = [request(rng) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
            if is_idle and rng.random() < 0.6:
                wait_promoting(client, replica)
                requests = begins + requests
            for session in (client, direct):
                session.send(*requests)
            for sent in requests:
                expected, got = direct.until("Z"), client.until("Z")
                assert told(got) == told(expected), (seed, i, sent)
            is_idle = got[-1].body == b"I"
    assert promoted(t) > 5
