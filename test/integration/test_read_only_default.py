# SPDX-License-Identifier: ISC
#
# test_read_only_default.py - sessions with default_transaction_read_only: what their transactions
# read is on a replica, and all that they are told is what the primary would have said.
"""Nobody has to say READ ONLY with each BEGIN, nor ask for `promote`, to read on a replica."""
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import essence, log_in, made_on_both, wait_nodes
from tenancy import errors
from test_promote import answered_by, begins_on, end_all, promoted, promoting, WHERE
from test_routing import begun, HOW_TO_BEGIN
from waiting import wait_until

SET = "SET default_transaction_read_only = on"
WRITE = "INSERT INTO read_by_default (i) VALUES (1)"
SCHEMA = f"""
CREATE TABLE read_by_default (i int);
CREATE UNLOGGED TABLE read_by_default_unlogged (i int);
GRANT ALL ON read_by_default, read_by_default_unlogged TO {APP_USER};
"""


@pytest.fixture(scope="module")
def pair(primary, replica):
    return made_on_both(primary, replica, SCHEMA)


@pytest.fixture
def pooler(pair, turnstile):
    t = turnstile(promoting(pair, {"promote": "no"}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client:
        wait_until(lambda: answered_by(client) == pair[1].port, 30, "the catalog is known")
    return t


def wait_reading(client, pair, begin="BEGIN"):
    """Its role's isolation is known too."""
    wait_until(lambda: begins_on(client, begin) == pair[1].port, 30, "it begins on the replica")


@pytest.fixture
def client(pair, pooler):
    with log_in(pooler) as client:
        client.pooler = pooler
        client.query(SET)
        wait_reading(client, pair)
        yield client


def rows(primary):
    return primary.value("SELECT count(*) FROM read_by_default", dbname=APP_DATABASE)


# ---- which sessions -------------------------------------------------------------------------------

@pytest.mark.parametrize("text", [
    SET, "SET default_transaction_read_only TO 'tr'", "SET SESSION default_transaction_read_only = 1",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SELECT set_config('default_transaction_read_only', 'on', false)",
    "DO $$ BEGIN PERFORM set_config('default_transaction_read_only', 'yes', false); END $$",
])
def test_a_session_that_says_so_reads_on_the_replica(pair, pooler, text):
    with log_in(pooler) as client:
        assert begins_on(client) == pair[0].port
        assert not errors(client.query(text))
        wait_reading(client, pair)
        client.query("RESET default_transaction_read_only")
        assert begins_on(client) == pair[0].port
        assert not errors(client.query("BEGIN")) and not errors(client.query(WRITE))
        client.query("ROLLBACK")


def test_however_a_transaction_is_begun(pair, client):
    for how in HOW_TO_BEGIN:
        assert begun(client, "BEGIN", how) == pair[1].port, how
        assert errors(client.prepared(WRITE)) == ["25006"]
        client.query("ROLLBACK")


@pytest.mark.parametrize("value", ["off", "0"])
def test_one_that_says_the_contrary_does_not(pair, pooler, value):
    with log_in(pooler) as client:
        client.query(SET)
        wait_reading(client, pair)
        client.query(f"SET default_transaction_read_only = {value}")
        assert begins_on(client) == pair[0].port


def test_one_whose_startup_packet_says_so_does(pair, pooler):
    options = {"options": "-c default_transaction_read_only=on"}
    with log_in(pooler, **options) as client, log_in(pooler) as other:
        wait_reading(client, pair)
        assert begins_on(other) == pair[0].port
        client.query("SET default_transaction_read_only = off")
        assert begins_on(client) == pair[0].port
        client.query("RESET ALL")
        assert begins_on(client) == pair[1].port


def test_what_a_role_begins_with_counts(pair, turnstile):
    primary, replica = pair
    primary.role("read_by_default", APP_PASSWORD)
    primary.sql("ALTER ROLE read_by_default SET default_transaction_read_only = on")
    primary.sql("GRANT SELECT, INSERT ON read_by_default TO read_by_default", dbname=APP_DATABASE)
    replica.wait_caught_up(primary)
    t = turnstile(promoting(pair, {"promote": "no"}), {"read_by_default": APP_PASSWORD})
    wait_nodes(t, "primary", "replica")
    with log_in(t, "read_by_default") as client:
        wait_until(lambda: answered_by(client) == replica.port, 30)
        wait_reading(client, pair)
        client.query("BEGIN")
        assert errors(client.query(WRITE)) == ["25006"]
        client.query("ROLLBACK")
        # Taken back elsewhere, it is seen with the next connection to the primary.  Until then a
        # transaction begins on the replica, and may write all the same.
        primary.sql("ALTER ROLE read_by_default RESET default_transaction_read_only")
        t.admin("RECONNECT")
        assert begins_on(client) == replica.port
        client.query("BEGIN")
        assert answered_by(client) == replica.port and not errors(client.query(WRITE))
        client.query("ROLLBACK")
        assert begins_on(client) == primary.port


def test_what_a_role_begins_with_counts_where_servers_have_come_from_another_process(pair, turnstile):
    """They are ready before it is known which is the primary's, and none logs in behind that."""
    primary, replica = pair
    primary.role("read_and_moved", APP_PASSWORD)
    primary.sql("ALTER ROLE read_and_moved SET default_transaction_read_only = on")
    primary.sql("GRANT SELECT ON read_by_default TO read_and_moved", dbname=APP_DATABASE)
    replica.wait_caught_up(primary)
    t = turnstile(promoting(pair, {"promote": "no"}), {"read_and_moved": APP_PASSWORD})
    wait_nodes(t, "primary", "replica")
    with log_in(t, "read_and_moved") as client:
        wait_until(lambda: answered_by(client) == replica.port, 30)
        wait_reading(client, pair)
        assert t.take_over().wait(30) == 0
        wait_nodes(t, "primary", "replica")
        wait_until(lambda: answered_by(client) == replica.port, 30)
        wait_until(lambda: begins_on(client) == replica.port)


def test_a_replica_that_is_configured_so_says_nothing_of_the_primary(pair, pooler):
    primary, replica = pair
    replica.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    replica.sql("ALTER SYSTEM SET work_mem = '4321kB'")
    replica.sql("SELECT pg_reload_conf()")
    try:
        pooler.admin("RECONNECT")
        with log_in(pooler) as client:
            wait_until(lambda: client.rows("SELECT current_setting('work_mem')") == [("4321kB",)], 30,
                       "its servers are new")
            before = rows(primary)
            assert begins_on(client) == primary.port
            client.query("BEGIN")
            assert not errors(client.query(WRITE))
            client.query("COMMIT")
            assert rows(primary) == before + 1
    finally:
        replica.sql("ALTER SYSTEM RESET default_transaction_read_only")
        replica.sql("ALTER SYSTEM RESET work_mem")
        replica.sql("SELECT pg_reload_conf()")


# ---- which transactions ---------------------------------------------------------------------------

@pytest.mark.parametrize("begin", ["BEGIN", "START TRANSACTION", "BEGIN READ ONLY",
                                   "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"])
def test_transactions_that_only_read_are_the_replicas(pair, client, begin):
    assert begins_on(client, begin) == pair[1].port


@pytest.mark.parametrize("begin", ["BEGIN READ WRITE", "BEGIN ISOLATION LEVEL SERIALIZABLE",
                                   "BEGIN ISOLATION LEVEL REPEATABLE READ",
                                   "BEGIN /* route: primary */"])
def test_i4_others_are_the_primarys(pair, client, begin):
    assert begins_on(client, begin) == pair[0].port


def test_a_set_transaction_behind_begin_counts_as_a_mode_of_it(pair, pooler):
    with log_in(pooler) as client:
        for modes, where in (("READ ONLY", 1), ("READ WRITE", 0), ("ISOLATION LEVEL SERIALIZABLE", 0)):
            client.query("BEGIN")
            client.query(f"SET TRANSACTION {modes}")
            assert answered_by(client) == pair[where].port
            client.query("ROLLBACK")
        client.query("BEGIN /* route: primary */")
        client.query("SET TRANSACTION READ ONLY")
        assert answered_by(client) == pair[0].port
        client.query("ROLLBACK")
        client.query("BEGIN READ ONLY")
        client.query("SET TRANSACTION READ WRITE")
        assert answered_by(client) == pair[0].port and not errors(client.query(WRITE))
        client.query("ROLLBACK")
        assert promoted(pooler, "rescued: recovery") == 0


# ---- that nobody can tell -------------------------------------------------------------------------

READ = "SELECT count(*) >= 0 FROM read_by_default"
CONVERSATIONS = {
    "a write": ["BEGIN", READ, WRITE, READ, "COMMIT"],
    "a write first": ["BEGIN", WRITE, "ROLLBACK"],
    "READ WRITE": ["BEGIN READ WRITE", READ, WRITE, "ROLLBACK"],
    "READ WRITE behind it": ["BEGIN", "SET TRANSACTION READ WRITE", READ, WRITE, "ROLLBACK"],
    "READ WRITE too late": ["BEGIN", READ, "SET TRANSACTION READ WRITE", READ, "ROLLBACK"],
    "as a setting": ["BEGIN", "SET LOCAL transaction_read_only = off", WRITE, "ROLLBACK"],
    "as a setting, too late": ["BEGIN", READ, "SET transaction_read_only = off", "ROLLBACK"],
    "by a function": ["BEGIN", "SELECT set_config('transaction_read_only', 'off', true)", "ROLLBACK"],
    "behind a setting": ["BEGIN", "SET LOCAL statement_timeout = '5s'", "SET TRANSACTION READ WRITE",
                         WRITE, "ROLLBACK"],
    "behind SHOW": ["BEGIN", "SHOW transaction_read_only", "SET TRANSACTION READ WRITE", WRITE,
                    "ROLLBACK"],
    "behind a savepoint": ["BEGIN", "SAVEPOINT s", "SET TRANSACTION READ WRITE", "ROLLBACK TO s",
                           "SET TRANSACTION READ WRITE", WRITE, "ROLLBACK"],
    "what it may do": ["BEGIN", READ, "NOTIFY read_by_default", "LISTEN read_by_default",
                       "SELECT pg_notify('read_by_default', 'x')", "UNLISTEN *", "ROLLBACK"],
    "a transaction's id": ["BEGIN", READ, "SELECT txid_current() > 0", READ, "COMMIT"],
    "what recovery has not": ["BEGIN", READ, "SELECT * FROM read_by_default_unlogged",
                              "LOCK TABLE read_by_default IN SHARE MODE", "COMMIT"],
    "locks": ["BEGIN", READ, "SELECT pg_advisory_xact_lock_shared(4711)",
              "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND pid = pg_backend_pid()",
              "COMMIT"],
    "rows": ["BEGIN", READ, "SELECT * FROM read_by_default LIMIT 0 FOR UPDATE", "ROLLBACK"],
    "isolation": ["BEGIN", READ, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "ROLLBACK",
                  "BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", READ,
                  "SHOW transaction_isolation", WRITE, "ROLLBACK"],
    "another default in it": ["BEGIN", READ, "SET default_transaction_read_only = off", "COMMIT",
                              "BEGIN", READ, WRITE, "ROLLBACK", SET],
    "a default that is undone": ["BEGIN", "SET default_transaction_read_only = off", "ROLLBACK",
                                 "BEGIN", READ, WRITE, "ROLLBACK"],
    "a chain": ["BEGIN", READ, "COMMIT AND CHAIN", WRITE, "ROLLBACK"],
    "without BEGIN": [READ, WRITE, "SELECT pg_notify('read_by_default', 'x')", "NOTIFY read_by_default"],
    "BEGIN READ ONLY": ["BEGIN READ ONLY", "NOTIFY read_by_default", WRITE, "ROLLBACK",
                        "BEGIN READ ONLY", "SELECT pg_notify('read_by_default', 'x')", "COMMIT"],
    "BEGIN READ ONLY, later": ["BEGIN READ ONLY", READ, READ, "NOTIFY read_by_default", READ, WRITE, "ROLLBACK",
                               "BEGIN READ ONLY", READ, "SELECT pg_notify('read_by_default', 'x')", "COMMIT"],
    "BEGIN READ ONLY and its id": ["BEGIN READ ONLY", READ, "SELECT txid_current() > 0", READ, "COMMIT"],
    "BEGIN READ ONLY, READ WRITE too late": ["BEGIN READ ONLY", READ, "SET TRANSACTION READ WRITE", "ROLLBACK"],
    "BEGIN READ ONLY and locks": ["BEGIN READ ONLY", READ, "LOCK TABLE read_by_default IN SHARE MODE",
                                  "SELECT * FROM read_by_default_unlogged", "COMMIT"],
    "BEGIN READ ONLY and LISTEN": ["BEGIN READ ONLY", READ, "LISTEN read_by_default", "UNLISTEN *", "ROLLBACK"],
    "BEGIN READ ONLY and an error": ["BEGIN READ ONLY", READ, "SELECT 1/0", "NOTIFY read_by_default", "COMMIT"],
}


def simple(client, text):
    client.send(raw.query(text))
    return client.until("Z")


def extended(client, text):
    client.send(raw.parse("", text), raw.bind(), raw.describe("P"), raw.execute(), raw.sync())
    return client.until("Z")


def told(messages):
    """But for which server it is (in_hot_standby), which all are told that go from one to another."""
    return essence([m for m in messages if m.kind != "S"])


@pytest.mark.parametrize("ask", [simple, extended])
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_i3_all_is_answered_as_by_the_primary(pair, client, name, ask):
    with log_in(pair[0]) as direct:
        direct.query(SET)
        for text in CONVERSATIONS[name]:
            how = simple if text.startswith(("BEGIN", "COMMIT", "ROLLBACK")) else ask
            assert told(how(client, text)) == told(how(direct, text)), text
    assert promoted(client.pooler, "not rescued") == 0


# ---- transactions that say it themselves ----------------------------------------------------------

@pytest.fixture
def plain_client(pair, pooler):
    """Its session says nothing.  What its role's transactions begin with is asked when somebody would know it."""
    with log_in(pooler) as client:
        client.pooler = pooler

        def notifies():
            client.query("BEGIN READ ONLY")
            client.query(READ)
            told = errors(client.query("NOTIFY read_by_default"))
            client.query("ROLLBACK")
            client.query("BEGIN READ WRITE")
            client.query(READ)
            client.query("ROLLBACK")
            return not told

        wait_until(notifies, 30, "its isolation is known")
        yield client


@pytest.mark.parametrize("texts", [
    [READ, READ], [READ, "SELECT now() > 'epoch'", READ], [READ, "SET LOCAL work_mem = '2MB'"],
    [f"DECLARE c CURSOR FOR {READ}", "FETCH c", READ], [READ, "SAVEPOINT s", "ROLLBACK TO s"]])
def test_what_a_replica_can_do_it_does(pair, plain_client, texts):
    client = plain_client
    before = promoted(client.pooler)
    client.query("BEGIN READ ONLY")
    for text in texts:
        assert not errors(client.query(text))
    assert answered_by(client) == pair[1].port
    client.query("COMMIT")
    assert promoted(client.pooler) == before


def test_what_a_standby_refuses_takes_it_to_the_primary(pair, plain_client):
    client = plain_client
    client.query("BEGIN READ ONLY")
    assert answered_by(client) == pair[1].port
    assert not errors(client.query("NOTIFY read_by_default"))
    assert answered_by(client) == pair[0].port
    assert errors(client.query(WRITE)) == ["25006"]
    client.query("ROLLBACK")
    assert begins_on(client, "BEGIN READ ONLY") == pair[1].port


@pytest.mark.parametrize("text", ["SET LOCAL work_mem = '2MB'", f"DECLARE c CURSOR FOR {READ}"])
def test_i3_what_has_left_something_on_its_replica_stays_there(pair, plain_client, text):
    """The primary would lack it."""
    client = plain_client
    client.query("BEGIN READ ONLY")
    assert not errors(client.query(text))
    assert errors(client.query("NOTIFY read_by_default")) == ["25006"]
    client.query("ROLLBACK")


def test_i3_what_was_prepared_before_is_not_what_has_run(pair, plain_client):
    client = plain_client
    client.query("BEGIN READ ONLY")
    client.send(raw.parse("s", READ), raw.sync())
    assert not errors(client.until("Z"))
    assert not errors(client.query("SET LOCAL work_mem = '2MB'"))
    assert errors(client.query("NOTIFY read_by_default")) == ["25006"]
    client.query("ROLLBACK")
    client.query("BEGIN READ ONLY")
    client.send(raw.parse("t", READ), raw.sync(), raw.bind("", "t"), raw.execute(), raw.sync())
    assert not errors(client.until("Z")) and not errors(client.until("Z"))
    assert not errors(client.query("NOTIFY read_by_default"))
    client.query("ROLLBACK")


@pytest.mark.parametrize("text", [READ, "SET LOCAL work_mem = '2MB'"])
def test_i3_a_replica_that_is_lost_between_two_reads_is_not_missed(pair, plain_client, text):
    client = plain_client
    client.query("BEGIN READ ONLY")
    assert answered_by(client) == pair[1].port
    assert not errors(client.query(text))
    end_all(pair[1])
    client.pooler.wait_log("closing because")
    if text == READ:
        assert answered_by(client) == pair[0].port
        assert client.rows("SHOW transaction_read_only") == [("on",)]
        assert raw.find(client.query("COMMIT"), "Z")[0].body == b"I"
    else:
        assert errors(client.until_closed())[0] in ("57P01", "08006")


def test_i2_a_server_that_was_left_is_nobodys_read_only_one(pair, client):
    """The setting is the session's, on the replica and on the primary that it goes on on."""
    with log_in(client.pooler) as other:
        for _ in range(3):
            client.query("BEGIN")
            assert answered_by(client) == pair[1].port
            assert errors(client.query(WRITE)) == ["25006"]
            client.query("ROLLBACK")
            assert not errors(other.query("BEGIN")) and not errors(other.query(WRITE))
            other.query("ROLLBACK")


def test_observed_it_stays_on_the_primary(pair, turnstile):
    t = turnstile(promoting(pair, {"promote": "no", "route_mode": "observe"}))
    wait_nodes(t, "primary", "replica")
    with log_in(t) as client:
        client.query(SET)
        wait_until(lambda: begins_on(client) == pair[0].port and promoted(t, "observed") > 3, 30)
