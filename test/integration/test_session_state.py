# SPDX-License-Identifier: ISC
#
# test_session_state.py - what a session leaves on a server is nobody else's to see (I2).
"""Settings follow their client; what cannot be carried keeps the server, until it is gone."""
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import clients, essence, log_in, pid_of, pool_of, shop, sqlstate, wait_backends
from waiting import wait_until

# How to leave it, how to look for it, and what a fresh session sees.
SETTINGS = {
    "SET": ("SET work_mem = '1234kB'", "SHOW work_mem", [("4MB",)]),
    "SET of our own": ("SET app.secret = '42'", "SELECT coalesce(current_setting('app.secret', true),"
                       " '') = ''", [("t",)]),
    "set_config": ("SELECT set_config('app.secret', '42', false)",
                   "SELECT coalesce(current_setting('app.secret', true), '') = ''", [("t",)]),
    "search_path": ("SET search_path = pg_catalog", "SHOW search_path", [('"$user", public',)]),
    "SET ROLE": ("SET ROLE app", "SHOW role", [("none",)]),
    "SESSION CHARACTERISTICS": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SHOW default_transaction_read_only", [("off",)]),
    "TIME ZONE": ("SET TIME ZONE 'Asia/Tokyo'", "SHOW timezone", [("Etc/UTC",)]),
    "NAMES": ("SET NAMES 'LATIN1'", "SHOW client_encoding", [("UTF8",)]),
    "SCHEMA": ("SET SCHEMA 'pg_catalog'", "SHOW search_path", [('"$user", public',)]),
    "by a function's body": (
        "DO $$ BEGIN PERFORM set_config('work_mem', '1234', false); END $$", "SHOW work_mem",
        [("4MB",)]),
}
PINNED = {
    "PREPARE": ("PREPARE mine AS SELECT 1",
                "SELECT name FROM pg_prepared_statements WHERE from_sql", []),
    "temporary table": ("CREATE TEMP TABLE mine ()", "SELECT to_regclass('mine')", [(None,)]),
    "temporary view": ("CREATE TEMP VIEW mine AS SELECT 1", "SELECT to_regclass('mine')", [(None,)]),
    "SELECT INTO": ("SELECT 1 INTO TEMP mine", "SELECT to_regclass('mine')", [(None,)]),
    "temporary sequence": ("CREATE TEMP SEQUENCE mine", "SELECT to_regclass('mine')", [(None,)]),
    "LISTEN": ("DO $$ BEGIN LISTEN mine; END $$", "SELECT pg_listening_channels()", []),
    "advisory lock": ("SELECT pg_advisory_lock(4711)", "SELECT count(*) FROM pg_locks WHERE"
                      " locktype = 'advisory' AND pid = pg_backend_pid()", [("0",)]),
    "WITH HOLD": ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", 
                  "SELECT name FROM pg_cursors WHERE name <> ''", []),
    "BEGIN": ("BEGIN READ ONLY", "SHOW transaction_read_only", [("off",)]),
}
STATE = {**SETTINGS, **PINNED}
# What ends it, for those that a pin is for.
RELEASE = {
    "PREPARE": "DEALLOCATE mine",
    "temporary table": "DROP TABLE mine",
    "temporary view": "DISCARD TEMP",
    "temporary sequence": "DROP SEQUENCE mine",
    "LISTEN": "UNLISTEN mine",
    "advisory lock": "SELECT pg_advisory_unlock(4711)",
    "WITH HOLD": "CLOSE mine",
    "SELECT INTO": "DISCARD ALL",
}


def both_protocols(client, sql, extended):
    """Run a statement one way or the other; its rows."""
    messages = client.prepared(sql) if extended else client.query(sql)
    assert not sqlstate(messages), raw.find(messages, "E")[0].fields
    return [m.row for m in raw.find(messages, "D")]


@pytest.mark.tsan
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_i2_settings_follow_their_client(primary, turnstile, kind, extended):
    leave, look, fresh = SETTINGS[kind]
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        both_protocols(client, leave, extended)
        for _ in range(3):
            assert pid_of(other) == pid and pid_of(client) == pid
            assert both_protocols(other, look, extended) == fresh
            assert both_protocols(client, look, extended) != fresh
        client.close()
        assert both_protocols(other, look, extended) == fresh
        with log_in(t) as later:
            assert both_protocols(later, look, extended) == fresh
            assert pid_of(later) == pid


@pytest.mark.tsan
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("kind", PINNED)
def test_i2_state_is_ones_own_and_ends(primary, turnstile, kind, extended):
    leave, look, fresh = PINNED[kind]
    t = turnstile(shop(primary))
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        both_protocols(client, leave, extended)
        pid = pid_of(client)
        # The server is its own from now on, and nobody else sees what is on it.
        for _ in range(3):
            assert pid_of(other) != pid and pid_of(client) == pid
            assert both_protocols(other, look, extended) == fresh
        assert both_protocols(client, look, extended) != fresh
        client.close()
        with clients(t, 2) as later:
            for c in later:  # in transactions, so that both servers are looked at
                c.query("" if kind == "BEGIN" else "BEGIN")
                assert both_protocols(c, look, extended) == fresh


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("kind", RELEASE)
def test_pin_ends_with_its_reason(primary, turnstile, kind, extended):
    leave, look, fresh = PINNED[kind]
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        both_protocols(client, leave, extended)
        wait_until(lambda: pins(t))  # the survey may still be under way
        both_protocols(client, RELEASE[kind], extended)
        assert pid_of(other) == pid
        assert both_protocols(other, look, extended) == fresh
        assert not pins(t)


def pins(pooler):
    """What SHOW PINS says."""
    return pooler.admin("SHOW PINS")


@pytest.mark.parametrize("sql", [
    "BEGIN; CREATE TEMP TABLE mine (a int) ON COMMIT DROP; COMMIT",
    "BEGIN; CREATE TEMP TABLE mine (a int); ROLLBACK",
    "BEGIN; SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1); COMMIT",
    "BEGIN; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; ROLLBACK",
    "BEGIN; LISTEN mine; ROLLBACK",
    "CREATE TEMP TABLE mine (a nonsense)",
    "DO $$ BEGIN CREATE TEMP TABLE mine (a int); DROP TABLE mine; END $$",
])
def test_what_left_nothing_pins_nothing(primary, turnstile, sql):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query(sql)
        assert pid_of(other) == pid_of(client)
        assert not pins(t)


def test_i2_code_that_leaves_something_unseen_pins(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (client, other):
        client.query("DO $$ BEGIN EXECUTE 'create temp ' || 'table mine (a int)'; END $$")
        wait_until(lambda: [row["reason"] for row in pins(t)] == ["temp"])
        assert pid_of(other) != pid_of(client)
        assert client.rows("SELECT count(*) FROM mine") == [("0",)]


# Transactions, and what a session has afterwards; each is compared with a direct connection.
UNDONE = [
    ["SET work_mem = '1MB'", "BEGIN", "SET work_mem = '2MB'", "ROLLBACK"],
    ["BEGIN", "SET work_mem = '1MB'", "SAVEPOINT a", "SET work_mem = '2MB'", "ROLLBACK TO a",
     "COMMIT"],
    ["BEGIN", "SET work_mem = '1MB'", "SAVEPOINT a", "RESET work_mem", "RELEASE a", "COMMIT"],
    ["SET work_mem = '1MB'", "BEGIN", "SET LOCAL work_mem = '2MB'", "COMMIT"],
    ["SET work_mem = '1MB'", "SET work_mem = 'nonsense'"],
    ["SET work_mem = '1MB'; SELECT 1/0"],
    ["SET work_mem = '1MB'", "BEGIN", "SET work_mem = '2MB'", "SELECT 1/0", "COMMIT"],
    ["SET app.x = 'a''b\\c'", "BEGIN", "SELECT set_config('app.x', 'q', false)", "ROLLBACK"],
    ["SET search_path = 'a b', \"C\", public", "SET LOCAL work_mem = '2MB'"],
    ["SET search_path = ''", "RESET ALL"],
    ["SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE", "SET DateStyle = 'German, DMY'"],
    ["SET statement_timeout = '90061ms'", "SET lock_timeout = 1500"],
    ["SET ROLE pg_monitor", "SET work_mem = '3MB'"],
    ["SET work_mem = '3MB'", "SET ROLE pg_monitor", "RESET ROLE"],
    ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
    ["SET app.x = '1'", "DISCARD ALL"],
    ["SET application_name = 'żółw'", "SELECT 1"],
    ["SELECT set_config(name, '77', false) FROM pg_settings WHERE name = 'geqo_threshold'"],
    ["SELECT set_config($1, $2, false)"],
    ["UPDATE pg_settings SET setting = '2345' WHERE name = 'work_mem'"],
]
WATCHED = ["work_mem", "search_path", "timezone", "datestyle", "statement_timeout", "lock_timeout",
           "role", "application_name", "default_transaction_isolation", "geqo_threshold"]


def observed(client):
    """What a session sees of its settings."""
    rows = [client.rows(f"SHOW {name}") for name in WATCHED]
    return rows + client.rows("SELECT coalesce(current_setting('app.x', true), '')")


@pytest.mark.parametrize("statements", UNDONE, ids=lambda statements: statements[0][:40])
def test_i2_settings_are_those_of_a_direct_connection(primary, turnstile, statements):
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    # A setting whose name no text tells keeps its server.
    is_unnamed = "name, '77'" in statements[0] or "$1" in statements[0]
    t = turnstile(shop(primary, {"default_pool_size": 2 if is_unnamed else 1}))
    startup = {"options": "-c work_mem=5MB", "TimeZone": "Europe/Berlin"}
    with log_in(primary, **startup) as direct, log_in(t, **startup) as client, log_in(t) as other:
        fresh = observed(other)
        for statement in statements:
            values = ["geqo_threshold", "78"] if "$1" in statement else []
            for c in (direct, client):
                answer = c.prepared(statement, values) if values else c.query(statement)
            if answer[-1].body == b"I":
                assert observed(other) == fresh
        assert observed(client) == observed(direct)
        assert observed(other) == fresh
        assert observed(client) == observed(direct)


def test_i2_a_client_that_leaves_behind_its_set_leaves_a_server_for_others(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as other:
        pid = pid_of(other)
        for goodbye in (True, False):
            for _ in range(5):
                client = log_in(t)
                client.send(raw.query("SET work_mem = '1MB'"))
                client.until("Z")
                client.close() if goodbye else client.reset()
                assert other.rows("SHOW work_mem") == [("4MB",)]
        assert pid_of(other) == pid


def test_i2_the_next_clients_settings_do_not_fall_to_a_hasty_timeout(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))

    def last_query():
        return primary.value("SELECT query FROM pg_stat_activity WHERE backend_type ="
                             f" 'client backend' AND usename = '{APP_USER}'")

    with log_in(t) as client, log_in(t) as other:
        client.query("SET statement_timeout = '90ms'")
        wait_until(lambda: "RESET ALL" in last_query(), what=last_query)
        assert other.rows("SHOW statement_timeout") == [("0",)]
        # Which may hit the question itself when the server is kept waiting.
        answer = wait_until(lambda: raw.find(client.query("SHOW statement_timeout"), "D"))
        assert answer[0].row == ("90ms",)
        wait_until(lambda: "RESET ALL" in last_query(), what=last_query)
        client.query("SET statement_timeout = '1s'")
        assert other.rows("SHOW statement_timeout") == [("0",)]
        assert "RESET ALL" not in last_query()


@pytest.mark.parametrize("state", ["pin", "log"])
@pytest.mark.parametrize("leave, look", [
    ("SELECT set_config('app.' || 'secret', '42', false)",
     "SELECT coalesce(current_setting('app.secret', true), '') = ''"),
    ("SELECT setseed(0.25)", "SELECT random() <> 0.19726358498438978")])
def test_i2_what_nobody_can_ask_about_is_cleared_behind_a_client_that_has_left(
        primary, turnstile, state, leave, look):
    t = turnstile(shop(primary, {"default_pool_size": 1, "session_state": state}))
    with log_in(t) as other:
        for goodbye in (True, False):
            for _ in range(5):  # it mostly leaves while its server is asked
                client = log_in(t)
                assert not sqlstate(client.query(leave))
                client.close() if goodbye else client.reset()
                assert other.rows(look) == [("t",)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("setting", [None, "SET work_mem = '1MB'"])
def test_who_is_refused_its_state_holds_no_server(primary, turnstile, setting, extended):
    t = turnstile(shop(primary, {"session_state": "reject", "default_pool_size": 1}))
    with log_in(t) as client, log_in(t) as other:
        if setting:
            client.query(setting)
            other.rows("SELECT 2")  # so that it has to be brought along
        send = client.prepared if extended else client.query
        assert sqlstate(send("CREATE TEMP TABLE mine ()")) == "0A000"
        assert other.rows("SELECT 2") == [("2",)]
        assert client.rows("SHOW work_mem") == [("1MB" if setting else "4MB",)]


@pytest.mark.parametrize("kind", sorted(set(PINNED) - {"BEGIN"}))
def test_session_state_reject(primary, turnstile, kind):
    leave, look, fresh = PINNED[kind]
    t = turnstile(shop(primary, {"session_state": "reject"}))
    with log_in(t) as client:
        refusal, = raw.find(client.query(leave), "E")
        assert refusal.fields["C"] == "0A000" and "another server" in refusal.fields["H"]
        assert sqlstate(client.prepared(leave)) == "0A000"
        client.query("BEGIN")
        answer = client.query(leave)
        assert sqlstate(answer) == "0A000" and answer[-1].body == b"E"
        client.query("ROLLBACK")
        client.query("SET work_mem = '1MB'")
        assert client.rows("SHOW work_mem") == [("1MB",)]
        assert client.rows(look) == fresh


@pytest.mark.parametrize("kind", sorted(set(PINNED) - {"BEGIN"}))
def test_session_state_log(primary, turnstile, kind):
    leave, look, fresh = PINNED[kind]
    t = turnstile(shop(primary, {"session_state": "log", "default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        assert not sqlstate(client.query(leave))
        assert other.rows(look) == fresh
        assert client.rows(look) == fresh
        assert t.log_contains("session state is lost")


def test_backend_pid_pins_by_default(primary, turnstile):
    t = turnstile(shop(primary, {"backend_pid": "pin", "default_pool_size": 2}))
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        for _ in range(3):
            assert pid_of(other) != pid and pid_of(client) == pid
        assert [row["reason"] for row in pins(t)] == ["backend_pid", "backend_pid"]
        client.query("DISCARD ALL")
        wait_until(lambda: len(pins(t)) == 1)


def test_show_pins(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("DO $$ BEGIN LISTEN a; END $$")
        client.query("CREATE TEMP TABLE mine ()")
        wait_until(lambda: len(pins(t)) == 2)
        rows = pins(t)
        assert sorted(row["reason"] for row in rows) == ["listen", "temp"]
        temp = next(row for row in rows if row["reason"] == "temp")
        assert temp["database"] == APP_DATABASE and temp["user"] == APP_USER
        assert temp["statement"] == "CREATE TEMP TABLE mine ()"
        assert 0 <= temp["age"] < 60
    wait_until(lambda: not pins(t))
    counts = {row["reason"]: (row["now"], row["total"]) for row in t.admin("SHOW PIN_COUNTS")}
    assert counts == {"listen": (0, 1), "temp": (0, 1)}


def test_notifications_reach_an_idle_listener(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN channel")
        speaker.query("NOTIFY channel, 'hello'")
        message = listener.message()
        assert message.kind == "A" and message.body[4:] == b"channel\0hello\0"


def test_set_local_and_transaction_settings_do_not_pin(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query("BEGIN; SET LOCAL work_mem = '1MB'; SET TRANSACTION READ ONLY; COMMIT")
        client.rows("SELECT pg_advisory_xact_lock(1)")
        assert other.rows("SHOW work_mem") == [("4MB",)]


def test_i2_a_text_behind_one_that_waited_for_who_notified_is_looked_at(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 3) as (notifier, client, other):
        for text in "SET work_mem = '7MB'", "SET app.waited = 'x'":
            notifier.query("BEGIN; NOTIFY waited")
            client.send(raw.query("SELECT 2") + raw.query(text))
            wait_until(lambda: pool_of(t, "cl_waiting") == 1)
            notifier.query("COMMIT")
            client.until("Z")
            client.until("Z")
            assert other.rows("SHOW work_mem") == [("4MB",)]
            assert other.rows("SELECT coalesce(current_setting('app.waited', true), '')") == [("",)]
        assert client.rows("SELECT current_setting('work_mem'), current_setting('app.waited')") \
            == [("7MB", "x")]


# --- startup settings ----------------------------------------------------------------------------
def test_startup_settings_follow_their_client(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    wishes = [
        {"application_name": "one", "TimeZone": "Asia/Tokyo", "options": "-c work_mem=1MB"},
        {"application_name": "two \\ ' \"", "client_encoding": "LATIN1"},
        {"options": "-c search_path=a,\"b\\ c\" --statement-timeout=1234 -c app.x=\\\\y"},
        {"search_path": "x", "options": "-c search_path=y -c work_mem=1MB", "work_mem": "2MB"},
        {"DateStyle": "German, DMY", "extra_float_digits": "0", "search_path": 'x, "Y z"'},
        {},
    ]
    shows = ["application_name", "TimeZone", "work_mem", "client_encoding", "search_path",
             "statement_timeout", "DateStyle", "extra_float_digits"]
    expected = []
    for wish in wishes:
        with log_in(primary, **wish) as direct:
            expected.append([direct.rows(f"SHOW {name}")[0][0] for name in shows])
    through = [log_in(t, **wish) for wish in wishes]
    try:
        for _ in range(3):
            for client, values in zip(through, expected):
                assert [client.rows(f"SHOW {name}")[0][0] for name in shows] == values
        assert through[2].rows("SHOW app.x") == [("\\y",)]
        assert through[-1].rows("SELECT coalesce(current_setting('app.x', true), '')") == [("",)]
    finally:
        for client in through:
            client.close()


def test_parameters_reported_at_login_are_as_on_a_direct_connection(primary, turnstile):
    t = turnstile(shop(primary))
    for wish in ({}, {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "application_name": "x"},
                 {"options": "-c IntervalStyle=iso_8601", "client_encoding": "LATIN1"}, {}):
        with log_in(primary, **wish) as direct, log_in(t, **wish) as through:
            assert through.parameters == direct.parameters


def test_parameters_are_told_when_a_server_differs(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client, log_in(t, TimeZone="Asia/Tokyo") as other:
        assert client.parameters["TimeZone"] != "Asia/Tokyo"
        for _ in range(3):
            assert not raw.find(client.query("SELECT 1"), "S")
            assert not raw.find(other.query("SELECT 1"), "S")


def test_pinned_settings_are_reset_to_the_startup_ones(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t, options="-c work_mem=1MB") as client:
        client.query("SET work_mem = '2MB'; SET app.x = '1'")
        assert client.rows("SHOW work_mem") == [("2MB",)]
        client.query("DISCARD ALL")
        assert client.rows("SHOW work_mem") == [("1MB",)]
    with log_in(t) as client:
        assert client.rows("SHOW work_mem") == [("4MB",)]


# What takes settings back to what the session began with: its startup packet, not the server.
BACK = ["RESET ALL", "DISCARD ALL", "RESET TimeZone", "SET TimeZone = DEFAULT", "SET TIME ZONE LOCAL",
        "SET DateStyle = 'SQL'; RESET TimeZone", "SET NAMES DEFAULT; SET application_name TO DEFAULT",
        "BEGIN; RESET ALL", "RESET app.x",
        "DO $$ BEGIN RESET ALL; END $$"]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("statement", BACK)
def test_i2_reset_goes_back_to_the_startup_packet(primary, turnstile, statement, extended):
    """Also within the transaction, and in what the client is told by its ReadyForQuery."""
    startup = {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "client_encoding": "LATIN1",
               "application_name": "it's", "options": "-c work_mem=5MB -c app.x=first"}
    request = raw.query(statement)
    if extended and ";" not in statement:
        request = raw.parse("", statement) + raw.bind() + raw.execute() + raw.sync()
    look = raw.query("SELECT current_setting('TimeZone'), current_setting('DateStyle'),"
                     " current_setting('work_mem'), current_setting('app.x')")
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    seen = []
    for server in primary, t:
        with log_in(server, **startup) as client:
            told = client.parameters
            if statement != "DISCARD ALL" or not extended:
                client.query("SET work_mem = '6MB'; SET TimeZone = 'UTC'; SET app.x = 'second'")
            # In one write: what comes behind it finds everything in its place.
            client.send(request, look, raw.query("ROLLBACK"), look)
            for _ in range(4):
                messages = client.until("Z")
                told.update(m.strings[:2] for m in raw.find(messages, "S"))
                seen.append((server is t, raw.kinds(m for m in messages if m.kind != "S"),
                             dict(told), [m.row for m in raw.find(messages, "D")]))
    assert [s[1:] for s in seen if s[0]] == [s[1:] for s in seen if not s[0]]
    with log_in(t) as other:
        assert other.rows("SELECT coalesce(current_setting('app.x', true), '')") == [("",)]


@pytest.mark.parametrize("text", [f"SELECT length('{'x' * 100_000}')", f"SELECT length('{'x' * 3_000_000}')"],
                         ids=["held", "streamed"])
@pytest.mark.parametrize("statement", ["RESET ALL", "DISCARD ALL", "RESET TimeZone"])
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_i3_a_reset_is_answered_while_a_long_text_is_under_way(primary, turnstile, mode, statement, text):
    """Nobody waits for the answer to a message of which a part is still to come."""
    t = turnstile(shop(primary, {"pool_mode": mode}))
    long = raw.query(text)
    with log_in(t, TimeZone="Asia/Tokyo") as client:
        for _ in range(2):
            client.send(raw.query(statement), long[:-1000])
            assert sqlstate(client.until("Z")) is None
            client.send(long[-1000:])
            assert sqlstate(client.until("Z")) is None
            assert client.rows("SHOW TimeZone") == [("Asia/Tokyo",)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("statement", ["RESET ALL", "DISCARD ALL", "RESET TimeZone", "BEGIN; RESET ALL"])
def test_i2_reset_in_session_mode_goes_back_to_the_startup_packet(primary, turnstile, statement,
                                                                  extended):
    """Known by its tag there, since texts are not read."""
    startup = {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "application_name": "it's",
               "options": "-c work_mem=5MB -c app.x=first"}
    t = turnstile(shop(primary, {"default_pool_size": 1, "pool_mode": "session"}))
    seen = []
    for server in primary, t:
        with log_in(server, **startup) as client:
            told = client.parameters
            client.query("SET work_mem = '6MB'; SET TimeZone = 'UTC'; SET app.x = 'second'")
            messages = client.prepared(statement) if extended and ";" not in statement \
                else client.query(statement)
            told.update(m.strings[:2] for m in raw.find(messages, "S"))
            seen.append((raw.kinds(m for m in messages if m.kind != "S"), dict(told), client.rows(
                "SELECT current_setting('TimeZone'), current_setting('DateStyle'),"
                " current_setting('work_mem'), current_setting('app.x')")))
    assert seen[1] == seen[0]
    with log_in(t) as other:
        assert other.rows("SHOW work_mem") == [("4MB",)]


@pytest.mark.parametrize("sql", ["SET max_connections = 5", "SET work_mem = '1MB'; SET port = 1",
                                 "SELECT set_config('max_connections', '5', false) WHERE false",
                                 "BEGIN; SET max_connections = 5; COMMIT"])
def test_i3_what_cannot_be_set_is_not_brought_along(primary, turnstile, sql):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query(sql)
        client.query("ROLLBACK")
        for c in (other, client, other):
            assert c.rows("SHOW max_connections") == [("300",)]


def test_ignored_startup_parameters(primary, turnstile):
    t = turnstile(shop(primary, {"ignore_startup_parameters": "extra_float_digits, nonsense"}))
    with log_in(t, extra_float_digits="3", nonsense="1") as client:
        assert client.rows("SHOW extra_float_digits") == [("1",)]


def test_sessions_of_session_mode_are_reset(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "session", "default_pool_size": 1}))
    for kind, (leave, look, fresh) in STATE.items():
        with log_in(t) as client:
            client.query(leave)
        with log_in(t) as client:
            assert client.rows(look) == fresh, kind
    wait_until(lambda: pool_of(t, "cl_active") == 0)


def test_failed_reset_closes_the_server(primary, turnstile):
    t = turnstile(shop(primary, {"server_reset_query": "SELECT 1/0", "default_pool_size": 1,
                                 "pool_mode": "session"}))
    with log_in(t) as client:
        client.query("SET work_mem = '1MB'")
        pid = pid_of(client)
    with log_in(t, dbname=APP_DATABASE, user=APP_USER) as client:
        assert pid_of(client) != pid
        assert client.rows("SHOW work_mem") == [("4MB",)]
    wait_backends(primary, 0)


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i2_what_a_do_block_sets_unseen_does_not_reach_the_next_client(primary, turnstile, extended):
    """Its text spells no SET, so the client is not pinned; the server is cleaned instead."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        both_protocols(client, "DO $$ BEGIN EXECUTE 'se' || 't work_mem = 1234'; END $$", extended)
        assert pid_of(other) == pid
        assert both_protocols(other, "SHOW work_mem", extended) == [("4MB",)]


# --- functions that leave something -------------------------------------------------------------
FUNCTIONS = {
    "leaves_temp": "BEGIN CREATE TEMP TABLE IF NOT EXISTS made (a int); END",
    "leaves_by_another": "BEGIN PERFORM leaves_temp(); END",
    "leaves_setting": "BEGIN PERFORM set_config('work_mem', '1234kB', false); END",
    "leaves_nothing": "BEGIN UPDATE pg_temp_not SET a = 1; END",
}


@pytest.fixture
def known_functions(primary, turnstile):
    """A pooler that has read the catalog with these functions in it."""
    with primary.connect(APP_DATABASE) as connection:
        for name, body in FUNCTIONS.items():
            connection.execute(f"CREATE OR REPLACE FUNCTION {name}() RETURNS void LANGUAGE plpgsql "
                               f"AS $f$ {body} $f$")
    t = turnstile(shop(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms"}))
    with log_in(t) as client:
        def is_known():
            client.query("SELECT leaves_temp()")
            return pins(t)
        wait_until(is_known, 30, "the catalog is known")
    wait_until(lambda: not pins(t))
    return t


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", ["leaves_temp", "leaves_by_another", "LEAVES_TEMP"])
def test_i2_what_a_function_leaves_is_its_callers(known_functions, name, extended):
    t = known_functions
    with clients(t, 2) as (client, other):
        both_protocols(client, f"SELECT {name}()", extended)
        wait_until(lambda: [row["reason"] for row in pins(t)] == ["temp"])
        assert both_protocols(client, "SELECT count(*) FROM made", extended) == [("0",)]
        assert both_protocols(other, "SELECT to_regclass('made')", extended) == [(None,)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i2_what_a_function_sets_follows_its_caller(known_functions, extended):
    with clients(known_functions, 3) as everybody:
        client = everybody[0]
        both_protocols(client, 'SELECT public."leaves_setting"()', extended)
        for other in everybody[1:]:
            assert other.rows("SHOW work_mem") == [("4MB",)]
        assert client.rows("SHOW work_mem") == [("1234kB",)]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("text, sets, look, fresh", [
    ("SELECT set_config('work_mem', $1, false)", "('77kB')", "SHOW work_mem", "4MB"),
    ("SELECT set_config('app.x', $1, false)", "('77')", "SELECT coalesce(current_setting('app.x', true),"
     " '')", ""),
    ("SELECT pg_advisory_lock(4712)", "", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
     " AND objid = 4712", "0"),
])
def test_i2_what_execute_does_reaches_nobody_else(primary, turnstile, extended, text, sets, look, fresh):
    """PREPARE of SQL has told what EXECUTE will do; the pin by its name ends with its name."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client:
        both_protocols(client, f"PREPARE p AS {text}", extended)
        both_protocols(client, f"EXECUTE p {sets}", extended)
        seen = client.rows(look)
        assert seen != [(fresh,)]
        client.query("DEALLOCATE p")
        assert client.rows(look) == seen
    with log_in(t) as other:
        assert other.rows(look) == [(fresh,)]


# --- in the same write as the statement ---------------------------------------------------------
@pytest.fixture
def member(primary):
    """The application may act as this role."""
    primary.sql("DROP ROLE IF EXISTS acted; CREATE ROLE acted")
    primary.sql(f"GRANT acted TO {APP_USER}")
    with primary.connect(APP_DATABASE) as connection:
        connection.execute("DROP TABLE IF EXISTS carried")
        connection.execute("CREATE TABLE carried (n int)")
        connection.execute("GRANT ALL ON carried TO PUBLIC")
    yield "acted"
    primary.sql(f"REVOKE acted FROM {APP_USER}")


@pytest.mark.parametrize("request_of", [
    lambda: raw.query("INSERT INTO carried VALUES (1)"),
    lambda: raw.query("BEGIN") + raw.query("INSERT INTO carried VALUES (1)") + raw.query("COMMIT"),
    lambda: raw.parse("", "INSERT INTO carried VALUES (1)") + raw.bind() + raw.execute()
    + raw.sync(),
    lambda: 2 * (raw.parse("", "INSERT INTO carried VALUES (1)") + raw.bind() + raw.execute()
                 + raw.sync()),
    lambda: raw.query("INSERT INTO carried VALUES (1)") * 3,
], ids=["simple", "begin", "batch", "batches", "pipeline"])
def test_i2_nothing_runs_when_its_settings_cannot_be_brought(primary, turnstile, member, request_of):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query(f"SET ROLE {member}")
        other.query("SELECT 2")
        primary.sql(f"REVOKE {member} FROM {APP_USER}")
        client.send(request_of())
        assert sqlstate(client.until("E")) == "42501"
        assert other.rows("SELECT count(*) FROM carried") == [("0",)]


# What ends, or brings back, the role that a startup packet has asked for.
ROLES = ["SET SESSION AUTHORIZATION app", "SET SESSION AUTHORIZATION DEFAULT", "RESET ROLE",
         "RESET SESSION AUTHORIZATION", "SET ROLE NONE", "SET ROLE app", "DISCARD ALL", "RESET ALL",
         "SELECT set_config('role', 'none', false)", "SELECT set_config('role', NULL, false)",
         "SET LOCAL ROLE NONE", "BEGIN; SET ROLE NONE; ROLLBACK", "SET ROLE NONE; RESET ROLE",
         "DO $$ BEGIN SET ROLE NONE; END $$"]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("text", ROLES)
def test_i2_a_role_of_the_startup_packet(primary, turnstile, member, text, extended):
    look = "SELECT current_user, session_user, current_setting('role')"
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    seen = []
    with log_in(t) as other:
        for server in primary, t:
            with log_in(server, role=member) as client:
                rows = client.rows(look)
                for again in text, text, "RESET ROLE", text:
                    client.prepared(again) if extended and ";" not in again else client.query(again)
                    rows += client.rows(look)
                    assert other.rows(look) == [(APP_USER, APP_USER, "none")]
                    rows += client.rows(look)
                client.query("BEGIN")
                for again in text, "RESET ROLE", text:
                    client.prepared(again) if extended and ";" not in again else client.query(again)
                    rows += client.rows(look) if again != "DISCARD ALL" else []
                    if again == "DISCARD ALL":
                        client.query("ROLLBACK; BEGIN")
                client.query("ROLLBACK")
                seen.append(rows + client.rows(look))
    assert seen[1] == seen[0]
    assert seen[0][0][0] == member


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_settings_and_what_must_not_be_in_a_transaction(primary, turnstile, extended):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query("SET work_mem = '1MB'")
        for sql in ("VACUUM pg_class", "SELECT 1/0", "ROLLBACK"):
            other.query("SELECT 2")
            answer = client.prepared(sql) if extended else client.query(sql)
            assert sqlstate(answer) == ("22012" if "0" in sql else None)
            assert client.rows("SHOW work_mem") == [("1MB",)]
            assert other.rows("SHOW work_mem") == [("4MB",)]


def test_i9_values_stand_in_no_text(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query("SET app.secret = 'hidden-from-others'")
        pid = pid_of(other)
        client.send(raw.query("SELECT pg_sleep(30)"))
        seen = f"SELECT query FROM pg_stat_activity WHERE pid = {pid}"
        wait_until(lambda: "pg_sleep" in primary.value(seen))
        assert "hidden" not in primary.value(seen)
        client.cancel()
        client.until("Z")


# Strings in which something comes behind what goes back.
STRINGS = [
    "RESET TimeZone; SHOW TimeZone", "RESET ALL; SHOW TimeZone; SHOW work_mem; SHOW search_path",
    "SET TimeZone = DEFAULT; SHOW TimeZone; SET search_path TO DEFAULT; SHOW search_path",
    "SET TIME ZONE LOCAL; SHOW TimeZone; RESET TIME ZONE; SHOW TimeZone -- so",
    "BEGIN; RESET ALL; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SHOW app.x; COMMIT",
    "BEGIN; SET LOCAL DateStyle TO DEFAULT; SHOW DateStyle; COMMIT; SHOW DateStyle",
    "RESET app.x; SHOW app.x; SET app.x = ''; RESET work_mem; SHOW app.x",
    "SET NAMES; SET SESSION \"search_path\" = DEFAULT; SHOW search_path",
    "RESET TimeZone; SELECT 1/0; SHOW TimeZone", "RESET nonsense; SHOW TimeZone", "RESET; SHOW TimeZone",
    "SELECT '; RESET ALL;'; RESET work_mem;; SHOW work_mem;", "SET LOCAL work_mem = DEFAULT",
    "SELECT set_config('TimeZone', NULL, false), set_config('search_path', null, true)",
    "SELECT set_config('work_mem', NULL, true); SHOW work_mem; RESET work_mem; SHOW work_mem",
    "DO $$ BEGIN END $$; RESET TimeZone; SHOW TimeZone; SELECT set_config('work_mem', NULL, false)",
]


@pytest.mark.parametrize("listens", [False, True], ids=["", "listens"])
@pytest.mark.parametrize("text, path", [
    (text, path) for path in ('"$user", side, "odd name"', 'side,"Public" , "a""b"') for text in STRINGS
    # A list that SET would show otherwise is set by a query.
    if "SET TRANSACTION" not in text or path.startswith('"$user", ')])
def test_i2_what_comes_behind_a_reset_sees_the_startup_packets_settings(primary, turnstile, text,
                                                                        path, listens):
    startup = {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "client_encoding": "LATIN1",
               "search_path": path,
               "options": "-c work_mem=5MB -c app.x=first"}
    look = "SELECT current_setting('TimeZone'), current_setting('DateStyle')," \
        " current_setting('work_mem'), current_setting('app.x'), current_setting('search_path')"
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    seen = []
    for server in primary, t:
        with log_in(server, **startup) as client:
            told = client.parameters
            client.query("LISTEN behind_a_reset" if listens else "")
            client.query("SET work_mem = '6MB'; SET TimeZone = 'UTC'; SET DateStyle = 'SQL';"
                         " SET search_path = pg_catalog; SET app.x = 'second'")
            messages = client.query(text) + client.query("BEGIN") + client.query(text) + \
                client.query("ROLLBACK") + client.query(look)
            told.update(m.strings[:2] for m in raw.find(messages, "S"))
            seen.append((essence(m for m in messages if m.kind != "S"), dict(told)))
    assert seen[1] == seen[0]


def batch_of(*texts):
    """One batch, of a statement each."""
    return b"".join(raw.parse("", text) + raw.bind() + raw.describe("P") + raw.execute()
                    for text in texts) + raw.sync()


# In the extended protocol, of a session that has begun with settings and has set them otherwise.
BATCHES = {
    "in front of others": batch_of("RESET TimeZone", "SHOW TimeZone", "RESET ALL", "SHOW work_mem",
                                   "SHOW app.x", "SHOW search_path"),
    "no query": raw.query("BEGIN") + batch_of("RESET ALL") + batch_of("RESET DateStyle", "RESET app.x")
    + raw.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE") + raw.query("COMMIT"),
    "undone": raw.query("BEGIN") + batch_of("RESET ALL") + raw.query("SAVEPOINT a; SET work_mem = '7MB'")
    + batch_of("RESET work_mem") + raw.query("SHOW work_mem") + raw.query("ROLLBACK TO a; SHOW work_mem")
    + raw.query("ROLLBACK"),
    "discard": batch_of("DISCARD ALL", "SHOW work_mem", "SHOW app.x"),
    "discard and fail": batch_of("DISCARD ALL", "SHOW work_mem", "SELECT 1/0", "SHOW work_mem"),
    "empty": batch_of("RESET ALL", "SET app.x = ''", "SHOW app.x"),
    "nothing of ours": batch_of("RESET lock_timeout", "RESET SESSION AUTHORIZATION", "SHOW work_mem"),
    "fails": batch_of("RESET nonsense", "SHOW work_mem"),
    "bound before": raw.parse("one", "RESET work_mem") + raw.parse("two", "RESET TimeZone")
    + raw.parse("show", "SHOW work_mem") + raw.bind("a", "one") + raw.bind("b", "two")
    + raw.bind("", "show") + raw.execute("a") + raw.execute("") + raw.execute("b") + raw.execute("a")
    + raw.sync(),
    "bound long before": raw.query("BEGIN") + raw.parse("", "RESET work_mem") + raw.bind("a") + raw.sync()
    + raw.query("SHOW work_mem") + raw.execute("a") + raw.sync() + raw.query("SHOW work_mem")
    + raw.query("COMMIT"),
    "closed or bound anew": raw.query("BEGIN") + raw.parse("one", "RESET work_mem") + raw.bind("a", "one")
    + raw.close("P", "a") + raw.bind("b", "one") + raw.close("P", "b")
    + raw.parse("", "SHOW work_mem") + raw.bind("b") + raw.execute("b") + raw.sync()
    + raw.query("DECLARE a CURSOR FOR SELECT 1") + raw.execute("a") + raw.sync()
    + raw.query("SHOW work_mem") + raw.query("COMMIT"),
    "gone with its transaction": raw.parse("", "RESET work_mem") + raw.bind("a") + raw.sync()
    + batch_of("BEGIN", "DECLARE a CURSOR FOR SELECT 1") + raw.execute("a") + raw.sync()
    + raw.query("SHOW work_mem") + raw.query("COMMIT"),
    "a portal left open": raw.parse("rows", "SELECT generate_series(1, 5)") + raw.bind("", "rows")
    + raw.execute("", 2) + raw.parse("one", "RESET work_mem") + raw.bind("a", "one") + raw.execute("a")
    + raw.execute("", 2) + raw.sync(),
    "the unnamed one again": raw.parse("", "RESET work_mem") + raw.bind() + raw.execute() + raw.bind()
    + raw.execute() + raw.sync() + raw.describe("S", "") + raw.bind() + raw.execute() + raw.sync(),
    "many": raw.parse("one", "RESET work_mem") + b"".join(raw.bind(f"p{i}", "one") for i in range(20))
    + b"".join(raw.execute(f"p{i}") for i in range(20)) + raw.sync(),
}


@pytest.mark.parametrize("name", BATCHES)
def test_i2_reset_in_the_extended_protocol_goes_back_at_once(primary, turnstile, name):
    startup = {"TimeZone": "Asia/Tokyo", "DateStyle": "German", "search_path": '"$user", side',
               "options": "-c work_mem=5MB -c app.x=first"}
    look = "SELECT current_setting('TimeZone'), current_setting('DateStyle')," \
        " current_setting('work_mem'), current_setting('app.x'), current_setting('search_path')"
    cycles = 1 + sum(BATCHES[name].count(end) for end in (raw.sync(), b"Q\0\0"))
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    seen = []
    for server in primary, t:
        with log_in(server, **startup) as client:
            told = client.parameters
            client.query("SET work_mem = '6MB'; SET TimeZone = 'UTC'; SET DateStyle = 'SQL';"
                         " SET search_path = pg_catalog; SET app.x = 'second'")
            client.send(BATCHES[name] + raw.query(look))
            messages = [m for _ in range(cycles) for m in client.until("Z")]
            messages += client.query(look)
            told.update(m.strings[:2] for m in raw.find(messages, "S"))
            seen.append((essence(m for m in messages if m.kind != "S"), dict(told)))
    assert seen[1] == seen[0]


def test_i2_default_in_the_extended_protocol_is_the_startup_packets(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as plain, log_in(t, TimeZone="Asia/Tokyo") as client:
        for c, zone in (plain, "Etc/UTC"), (client, "Asia/Tokyo"), (plain, "Etc/UTC"):
            c.query("SET TimeZone = 'Europe/Berlin'")
            c.query("BEGIN")
            for _ in range(2):
                assert raw.find(c.prepared("SET LOCAL TimeZone TO DEFAULT"), "C")
                assert c.rows("SHOW TimeZone") == [(zone,)]
            c.query("ROLLBACK")
            assert c.rows("SHOW TimeZone") == [("Europe/Berlin",)]
