# SPDX-License-Identifier: ISC
#
# test_session_state.py - what a session leaves on a server is nobody else's to see (I2).
"""State that cannot be carried keeps the server; startup settings follow their client."""
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import clients, log_in, pid_of, pool_of, shop, sqlstate, wait_backends
from waiting import wait_until

# How to leave it, how to look for it, and what a fresh session sees.
STATE = {
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
    "PREPARE": ("PREPARE mine AS SELECT 1", "SELECT name FROM pg_prepared_statements", []),
    "temporary table": ("CREATE TEMP TABLE mine ()", "SELECT to_regclass('mine')", [(None,)]),
    "temporary view": ("CREATE TEMP VIEW mine AS SELECT 1", "SELECT to_regclass('mine')", [(None,)]),
    "SELECT INTO": ("SELECT 1 INTO TEMP mine", "SELECT to_regclass('mine')", [(None,)]),
    "temporary sequence": ("CREATE TEMP SEQUENCE mine", "SELECT to_regclass('mine')", [(None,)]),
    "LISTEN": ("LISTEN mine", "SELECT pg_listening_channels()", []),
    "advisory lock": ("SELECT pg_advisory_lock(4711)", "SELECT count(*) FROM pg_locks WHERE"
                      " locktype = 'advisory' AND pid = pg_backend_pid()", [("0",)]),
    "WITH HOLD": ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", 
                  "SELECT name FROM pg_cursors WHERE name <> ''", []),
    "BEGIN": ("BEGIN READ ONLY", "SHOW transaction_read_only", [("off",)]),
}


def both_protocols(client, sql, extended):
    """Run a statement one way or the other; its rows."""
    messages = client.prepared(sql) if extended else client.query(sql)
    assert not sqlstate(messages), raw.find(messages, "E")[0].fields
    return [m.row for m in raw.find(messages, "D")]


@pytest.mark.tsan
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("kind", STATE)
def test_i2_state_is_ones_own_and_ends(primary, turnstile, kind, extended):
    leave, look, fresh = STATE[kind]
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
    t = turnstile(shop(primary, {"server_reset_query": "SELECT 1/0", "default_pool_size": 1}))
    with log_in(t) as client:
        client.query("SET work_mem = '1MB'")
        pid = pid_of(client)
    with log_in(t, dbname=APP_DATABASE, user=APP_USER) as client:
        assert pid_of(client) != pid
        assert client.rows("SHOW work_mem") == [("4MB",)]
    wait_backends(primary, 1)


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i2_what_a_do_block_sets_unseen_does_not_reach_the_next_client(primary, turnstile, extended):
    """Its text spells no SET, so the client is not pinned; the server is cleaned instead."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        both_protocols(client, "DO $$ BEGIN EXECUTE 'se' || 't work_mem = 1234'; END $$", extended)
        assert pid_of(other) == pid
        assert both_protocols(other, "SHOW work_mem", extended) == [("4MB",)]
