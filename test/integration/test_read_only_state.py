# SPDX-License-Identifier: ISC
#
# test_read_only_state.py - what a READ ONLY transaction leaves in its session ties nobody to a replica:
# the writes behind it run, and it is there still.
"""Each conversation is held with the pooler and with the primary itself, which say the same."""
import struct

import pytest

import raw
import tenancy
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import essence, log_in, made_on_both, pid_of, wait_nodes
from tenancy import errors
from test_promote import answered_by, begins_on, promoted, promoting
from test_read_only_default import extended, simple
from turnstile import Turnstile, merge
from waiting import wait_until

SCHEMA = f"""
CREATE TABLE read_only_state (i int);
GRANT ALL ON read_only_state TO {APP_USER};
CREATE FUNCTION ros_locks() RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_advisory_lock_shared(9101); RETURN 1; END $$;
CREATE FUNCTION ros_calls() RETURNS int LANGUAGE sql AS 'SELECT ros_locks()';
CREATE VIEW ros_view AS SELECT ros_calls() AS v;
GRANT SELECT ON ros_view TO {APP_USER};
CREATE FUNCTION ros_sets(text) RETURNS text LANGUAGE plpgsql AS
  $$ BEGIN RETURN set_config('work_mem', $1, false); END $$;
CREATE FUNCTION ros_runs(text) RETURNS int LANGUAGE plpgsql AS
  $$ BEGIN EXECUTE $1; RETURN 1; END $$;
"""
READ = "SELECT count(*) >= 0 FROM read_only_state"
WRITE = "INSERT INTO read_only_state VALUES (1)"
RO, RR = "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
LOCK, UNLOCK = "SELECT pg_advisory_lock_shared(9101)", "SELECT pg_advisory_unlock_shared(9101)"
HELD = "/* route: primary */ SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 9101"
# Code that no text shows: it takes a lock that no source spells either.
HIDDEN = "SELECT ros_runs('SELECT pg_advisory' || '_lock_shared(9102)')"
# What nothing carries, and what takes it back.
STATES = {
    "a lock": (LOCK, UNLOCK),
    "a lock that is tried": ("SELECT pg_try_advisory_lock_shared(9101)", UNLOCK),
    "a lock by a function": ("SELECT ros_locks()", UNLOCK),
    "a lock by a function's function": ("SELECT ros_calls()", UNLOCK),
    "a lock by a view": ("SELECT v FROM ros_view", UNLOCK),
    "a lock by code": ("DO $$ BEGIN PERFORM pg_advisory_lock_shared(9101); END $$", UNLOCK),
    "a cursor WITH HOLD": ("DECLARE ros CURSOR WITH HOLD FOR SELECT 2", "SELECT 2"),
    "a statement of SQL": ("PREPARE ros AS SELECT 2", "DEALLOCATE ros"),
    "a setting whose name is made": ("SELECT set_config('app.' || 'ros', 'v', false)",
                                     "SELECT current_setting('app.ros')"),
    "SQL in a string": ("SELECT query_to_xml('SELECT set_config(''app.ros'', ''v'', false)', true, false, '')",
                        "SELECT 2"),
    "the seed of random()": ("SELECT setseed(0.5)", "SELECT random()"),
}
ASKS = pytest.mark.parametrize("ask", [simple, extended])


@pytest.fixture(scope="module")
def pair(primary, replica):
    return made_on_both(primary, replica, SCHEMA)


def is_known(client):
    """What its role's transactions begin with, which is asked when somebody would know it."""
    client.query(RO)
    client.query(READ)
    refused = errors(client.query("NOTIFY read_only_state"))
    client.query("ROLLBACK")
    client.query("BEGIN READ WRITE")
    client.query(READ)
    client.query("ROLLBACK")
    return not refused


def wait_known(client, replica):
    wait_until(lambda: answered_by(client) == replica.port, 30, "reads reach the replica")
    wait_until(lambda: is_known(client), 30, "its isolation is known")


@pytest.fixture(scope="module")
def pooler(pair):
    t = Turnstile(promoting(pair, {"promote": "no"}), {APP_USER: APP_PASSWORD})
    try:
        t.start()
        wait_nodes(t, "primary", "replica")
        with log_in(t) as client:
            wait_known(client, pair[1])
        yield t
    finally:
        t.remove()


@pytest.fixture
def peers(pair, pooler):
    """One at the pooler, and one at the primary itself."""
    with log_in(pooler) as client, log_in(pair[0]) as direct:
        yield client, direct


def told(messages):
    """But for which server it is, of which clients are told as it changes."""
    return [m for m in essence(messages) if m[0] != "S"]


def hold(peers, texts, ask=simple):
    """The same is told to both."""
    client, direct = peers
    for text in texts:
        how = simple if text.startswith(("BEGIN", "COMMIT", "ROLLBACK")) else ask
        got, expected = how(client, text), how(direct, text)
        if "random()" in text:
            assert not errors(got)
            continue
        assert told(got) == told(expected), (text, [m.fields for m in raw.find(got, "E")])


def locks_on(node, key=9102):
    return node.value(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = {key}")


# ---- what comes first -----------------------------------------------------------------------------

@ASKS
@pytest.mark.parametrize("begin", [RO, RR])
@pytest.mark.parametrize("state", STATES)
def test_i3_what_is_left_first_is_left_on_the_primary(peers, state, begin, ask):
    leave, use = STATES[state]
    hold(peers, [begin, leave, READ, "COMMIT", WRITE, use, WRITE], ask)


@ASKS
@pytest.mark.parametrize("state", STATES)
def test_i3_what_was_rolled_back_ties_nobody_either(peers, state, ask):
    leave, use = STATES[state]
    use = "SELECT 2" if "current_setting" in use or "DEALLOCATE" in use else use
    hold(peers, [RO, leave, "ROLLBACK", WRITE, use if "HOLD" not in leave else READ, WRITE], ask)


@ASKS
def test_i3_a_lock_is_held_where_it_excludes_others(pair, peers, ask):
    hold(peers, [RO, LOCK, "COMMIT", WRITE], ask)
    assert locks_on(pair[0], 9101) == 2 and locks_on(pair[1], 9101) == 0
    hold(peers, [UNLOCK], ask)
    assert locks_on(pair[0], 9101) == 0


@ASKS
def test_i3_one_of_the_transaction_too(pair, peers, ask):
    hold(peers, [RO, "SELECT pg_advisory_xact_lock_shared(9101)"], ask)
    assert locks_on(pair[0], 9101) == 2 and locks_on(pair[1], 9101) == 0
    hold(peers, ["COMMIT", WRITE], ask)
    assert locks_on(pair[0], 9101) == 0


def test_i3_a_statement_that_was_prepared_before_counts(peers):
    for peer in peers:
        peer.send(raw.parse("ros_lock", LOCK), raw.parse("ros_read", READ), raw.sync())
        assert not errors(peer.until("Z"))
    hold(peers, [RO, "EXECUTE ros_lock", "COMMIT", WRITE, UNLOCK])
    for peer in peers:
        for begin in (RO, RR):
            peer.query(begin)
            peer.send(raw.bind("", "ros_read"), raw.execute(), raw.bind("", "ros_lock"), raw.execute(), raw.sync())
            assert not errors(peer.until("Z"))
            peer.query("COMMIT")
            assert not errors(peer.query(WRITE))
            assert peer.rows(UNLOCK) == [("t",)]


def test_i3_all_of_it_in_one_write(peers):
    """Pipelined: as batches, and as a row of queries."""
    def batch(text):
        return raw.parse("", text) + raw.bind() + raw.execute()

    for sent, answers in (
            ((raw.query(RO), batch(READ), batch(LOCK), raw.sync(), raw.query("COMMIT"), raw.query(WRITE),
              raw.query(UNLOCK)), 5),
            ((raw.query(RO), batch(READ), raw.sync(), batch(LOCK), raw.sync(), raw.query("COMMIT"),
              raw.query(WRITE), raw.query(UNLOCK)), 6),
            (tuple(raw.query(text) for text in (RO, READ, LOCK, READ, "COMMIT", WRITE, UNLOCK)), 7),
            (tuple(raw.query(text) for text in (f"{RO}; {LOCK}; COMMIT", WRITE, UNLOCK)), 3)):
        heard = []
        for peer in peers:
            peer.send(*sent)
            heard.append([told(peer.until("Z")) for _ in range(answers)])
        assert heard[0] == heard[1]


def test_i3_a_function_called_by_its_oid(pair, peers):
    oid = int(pair[0].value("SELECT 'pg_advisory_lock_shared(bigint)'::regprocedure::oid"))
    call = raw.message("F", struct.pack("!ihhi", oid, 0, 1, 4), b"9101", struct.pack("!h", 0))
    for peer in peers:
        for before in ([], [READ]):
            peer.query(RO)
            for text in before:
                peer.query(text)
            peer.send(call)
            assert not errors(peer.until("Z"))
            peer.query("COMMIT")
            assert not errors(peer.query(WRITE))
            assert peer.rows(UNLOCK) == [("t",)]


def test_i3_a_text_too_long_to_be_looked_at(peers):
    long = f"/* {'x' * (2 << 20)} */ {LOCK}"
    hold(peers, [RO, long, "COMMIT", WRITE, UNLOCK])
    hold(peers, [RO, READ, long, "COMMIT", WRITE, UNLOCK])


# ---- what comes later -----------------------------------------------------------------------------

@ASKS
@pytest.mark.parametrize("state", STATES)
def test_i3_behind_plain_reads_it_is_left_on_the_primary_too(peers, state, ask):
    leave, use = STATES[state]
    hold(peers, [RO, READ, READ, leave, READ, "COMMIT", WRITE, use, WRITE], ask)


@ASKS
def test_i3_what_a_savepoint_takes_back(peers, ask):
    hold(peers, [RO, LOCK, "SAVEPOINT s", "SELECT 1/0", "ROLLBACK TO s", READ, "COMMIT", WRITE, UNLOCK], ask)
    hold(peers, [RO, "SAVEPOINT s", "SELECT ros_sets('3MB')", "ROLLBACK TO s", "COMMIT", "SHOW work_mem", WRITE], ask)


@ASKS
@pytest.mark.parametrize("begin", [RO, RR])
def test_i3_in_a_failed_transaction_the_server_has_the_word(peers, begin, ask):
    for leave, _ in STATES.values():
        hold(peers, [begin, "SELECT 1/0", leave, "COMMIT", WRITE], ask)
        hold(peers, [begin, READ, "SELECT 1/0", leave, "ROLLBACK", WRITE], ask)


@ASKS
@pytest.mark.parametrize("begin", [RO, RR])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_i3_settings_come_along_from_a_replica(pair, peers, begin, end, ask):
    """Code that only sets something stays there, and so does its transaction."""
    client, _ = peers
    hold(peers, [begin, READ, "SELECT ros_sets('3MB')", "SET work_mem = '4MB'", "SELECT ros_sets('5MB')"], ask)
    assert answered_by(client) == pair[1].port
    hold(peers, [end, WRITE, "SHOW work_mem", "RESET work_mem", WRITE], ask)


@ASKS
@pytest.mark.parametrize("before", [READ, "SELECT now() > 'epoch'", "DECLARE c CURSOR FOR SELECT 2"])
def test_i3_what_can_not_go_to_the_primary_any_more_is_refused(peers, before, ask):
    """A snapshot that must not change; the client is told what to do, and nothing is left."""
    client, _ = peers
    for leave in (LOCK, "SELECT ros_locks()", "DECLARE ros CURSOR WITH HOLD FOR SELECT 2", "PREPARE ros AS SELECT 2",
                  "SELECT set_config('app.' || 'ros', 'v', false)"):
        client.query(RR)
        assert not errors(ask(client, before))
        refused = raw.find(ask(client, leave), "E")[0].fields
        assert refused["C"] == "0A000" and "route: primary" in refused["H"]
        client.query("ROLLBACK")
        assert not errors(ask(client, WRITE))


@ASKS
def test_i3_sql_in_a_string_is_run_on_a_replica_and_ties_nobody(pair, peers, ask):
    client, _ = peers
    hold(peers, [RR, READ, "SELECT query_to_xml('SELECT 1 AS a', true, false, '')::text"], ask)
    assert answered_by(client) == pair[1].port
    hold(peers, ["COMMIT", WRITE], ask)


# ---- what nobody can know -------------------------------------------------------------------------

@ASKS
@pytest.mark.parametrize("next_text", [WRITE, READ, "BEGIN", "SELECT 1", ""])
def test_i3_what_is_lost_with_a_replica_is_told_once(pair, pooler, next_text, ask):
    with log_in(pooler) as client:
        client.query(RO)
        assert not errors(ask(client, HIDDEN))
        client.query("COMMIT")
        lost = raw.find(ask(client, next_text), "E")[0].fields
        assert lost["C"] == "55000" and "advisory_lock" in lost["M"] and "route: primary" in lost["H"]
        assert not errors(ask(client, WRITE)) and not errors(ask(client, READ))
        assert pooler.admin("SHOW PINS") == [] or not any(row["since"] for row in pooler.admin("SHOW PINS"))
    wait_until(lambda: locks_on(pair[1]) == 0, 30, "nobody has the lock")


def test_i3_it_is_told_to_the_first_of_those_that_have_been_sent(pooler):
    with log_in(pooler) as client:
        client.send(*(raw.query(text) for text in (RO, HIDDEN, "COMMIT", WRITE, WRITE)))
        assert [errors(client.until("Z")) for _ in range(5)] == [[], [], [], ["55000"], []]


def test_i2_it_is_nobody_elses(pair, pooler):
    with log_in(pooler) as client:
        client.query(RO)
        client.query(HIDDEN)
        client.query("COMMIT")
        wait_until(lambda: locks_on(pair[1]) == 0, 30, "its server was cleaned of it")
        assert errors(client.query(WRITE)) == ["55000"]


# ---- other sessions -------------------------------------------------------------------------------

@ASKS
def test_i3_a_session_that_reads_by_default(peers, ask):
    hold(peers, ["SET default_transaction_read_only = on", "BEGIN", READ, LOCK, "COMMIT", "BEGIN READ WRITE", WRITE,
                 "COMMIT", UNLOCK, "BEGIN", LOCK, "ROLLBACK", "BEGIN READ WRITE", WRITE, "COMMIT", UNLOCK,
                 RO, LOCK, "COMMIT", UNLOCK], ask)


@ASKS
def test_i3_a_set_transaction_says_it_too(peers, ask):
    hold(peers, ["BEGIN", "SET TRANSACTION READ ONLY", LOCK, "COMMIT", WRITE, UNLOCK], ask)


def test_i3_names_that_are_not_followed(pair, turnstile):
    """max_prepared_statements = 0: a named statement keeps its server, which is no replica's."""
    t = turnstile(promoting(pair, {"promote": "no", "max_prepared_statements": 0}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client:
        wait_until(lambda: answered_by(client) == pair[1].port, 30, "reads reach the replica")
        for begin in (RO, RR):
            client.query(begin)
            client.send(raw.parse("s" + begin, READ), raw.bind("", "s" + begin), raw.execute(), raw.sync())
            assert not errors(client.until("Z"))
            client.query("COMMIT")
            assert not errors(client.query(WRITE))


def test_i1_tenants_of_shared_pools(pair, turnstile):
    primary, replica = pair
    nodes = {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"}
    t = turnstile(merge(tenancy.tenants(primary, {
        "monitor_user": APP_USER, "monitor_interval": "100ms", "read_your_writes": "off",
        "default_pool_size": 2, "tenant_pool": "shared"}), {"databases": {APP_DATABASE: nodes}}))
    wait_nodes(t, "primary", "replica")
    with tenancy.enter(t, "acme") as acme, tenancy.enter(t, "globex") as globex:
        wait_known(acme, replica)
        for _ in range(3):
            for client, tenant in ((acme, "42"), (globex, "7")):
                for texts in ([RO, LOCK], [RO, READ, LOCK], [RR, "SELECT ros_locks()"]):
                    for text in [*texts, "COMMIT"]:
                        assert not errors(client.query(text)), text
                    assert tenancy.show(client, tenancy.SETTING) == tenant
                    assert not errors(client.query(WRITE))
                    assert client.rows(UNLOCK) == [("t",)]


# ---- what it costs --------------------------------------------------------------------------------

def test_a_transaction_that_only_reads_asks_nothing_more(pair, pooler):
    """BEGIN READ ONLY, a read, COMMIT: on the replica, which is asked for that and no more."""
    with log_in(pooler) as client:
        assert begins_on(client, RO) == pair[1].port
        before = promoted(pooler)
        client.query(RO)
        pid = pid_of(client)
        client.query(READ)
        client.query("COMMIT")
        wait_until(lambda: pair[1].value(f"SELECT query FROM pg_stat_activity WHERE pid = {pid}") == "COMMIT", 30,
                   "the last that it was asked for is the client's COMMIT")
        assert promoted(pooler) == before
