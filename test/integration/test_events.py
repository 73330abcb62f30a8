# SPDX-License-Identifier: ISC
#
# test_events.py - SHOW EVENTS: what has happened, once each, with the line in the log.
"""Each kind of event comes of what makes it, names whom it is about, and repeats are counted."""
import contextlib
import json
import signal

import psycopg
import pytest
from psycopg.rows import dict_row

from conftest import APP_DATABASE, APP_USER
from rig import log_in, shop, wait_nodes
from tenancy import enter, make_ledger, tenants
from turnstile import ADMIN_USER
from waiting import wait_until


def events(pooler, kind):
    """Those of a kind, the oldest first."""
    return [e for e in pooler.admin("SHOW EVENTS") if e["kind"] == kind]


def wait_event(pooler, kind, count=1):
    wait_until(lambda: len(events(pooler, kind)) >= count, 20,
               lambda: f"{kind} in {pooler.admin('SHOW EVENTS')}")
    return events(pooler, kind)[-1]


@pytest.fixture
def pooler(primary, turnstile):
    return turnstile(shop(primary))


def test_start_and_reload(pooler):
    (start,) = events(pooler, "start")
    assert start["number"] >= 1 and start["level"] == "LOG" and "is ready" in start["event"]
    pooler.reload()
    assert len(events(pooler, "reload")) == 1
    with pytest.raises(psycopg.Error):
        pooler.reload({"pgturnstile": {"pool_mode": "nonsense"}})
    assert events(pooler, "reload_failed")[0]["level"] == "ERROR"


@pytest.mark.parametrize("command, kind, text", [
    ("PAUSE shop", "pause", "PAUSE, by admin"), ("DISABLE shop", "disable", "DISABLE, by admin"),
    ("READONLY DATABASE shop", "readonly", "READONLY, by admin"),
    ("MAINTENANCE ON DATABASE shop 'secret'", "maintenance", "MAINTENANCE, by admin"),
    ("MAINTENANCE OFF DATABASE shop", "maintenance", "MAINTENANCE OFF, by admin"),
    ("RECONNECT shop", "reconnect", "RECONNECT, by admin"),
    ("KILL shop", "kill", "KILL, by admin")])
def test_commands_about_a_database(pooler, command, kind, text):
    pooler.admin(command)
    (event,) = events(pooler, kind)
    assert (event["database"], event["tenant"], event["event"]) == ("shop", "", text)
    pooler.wait_log(f'database "shop": {text}')


def test_a_command_that_fails_is_none(pooler):
    with pytest.raises(psycopg.Error):
        pooler.admin("PAUSE nowhere; nothing")
    with pytest.raises(psycopg.Error):
        pooler.admin("RESUME shop")
    assert not events(pooler, "pause") and not events(pooler, "resume")


def test_i9_a_value_is_not_told(pooler):
    pooler.admin("SET monitor_user = 'nobody'")
    pooler.admin("SET monitor_password = 'hush-hush'")
    assert [e["event"] for e in events(pooler, "setting")] == [
        "SET monitor_user, by admin", "SET monitor_password, by admin"]
    assert not pooler.log_contains("hush-hush")


def test_signals(pooler):
    pooler.signal(signal.SIGUSR1)
    assert wait_event(pooler, "pause")["event"] == "PAUSE, by a signal"
    pooler.signal(signal.SIGUSR2)
    assert wait_event(pooler, "resume")["event"] == "RESUME, by a signal"


def test_draining(pooler):
    with log_in(pooler) as client, pooler.connect(pooler.console, ADMIN_USER, row_factory=dict_row) as console:
        client.rows("SELECT 2")
        pooler.signal(signal.SIGTERM)
        pooler.wait_log("waiting until the last client has left")
        event, = (e for e in console.execute("SHOW EVENTS").fetchall() if e["kind"] == "shutdown")
        assert "waiting until the last client has left" in event["event"]
        client.rows("SELECT 2")
    assert pooler.wait_exit() == 0


def test_a_limit_names_its_tenant_and_is_counted(primary, turnstile):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, tiers={"basic": {"rate": "1/h"}}))
    with enter(pooler, "acme") as acme:
        acme.query("SELECT 2")
        for _ in range(50):
            acme.query("SELECT 2")
        event = wait_event(pooler, "limit")
    assert (event["database"], event["tenant"]) == ("shop", "acme")
    assert event["event"] == 'limit "rate" is reached: transactions are refused'
    assert len(events(pooler, "limit")) == 1
    assert pooler.log_contains('tenant "acme": limit "rate"') == 1


def test_many_refused_logins_are_one(pooler):
    for _ in range(12):
        with pytest.raises(psycopg.OperationalError):
            pooler.connect(APP_DATABASE, APP_USER, "wrong")
    (event,) = events(pooler, "logins")
    assert event["event"].startswith("10 logins were refused within ten seconds, the last one of "
                                     '"app" from 127.0.0.1:')


def test_nodes_and_who_is_the_primary(primary, replica, turnstile):
    primary.role("event_asker", "event_asker-password")
    pooler = turnstile(shop(primary, {"monitor_user": "event_asker",
                                      "monitor_password": "event_asker-password",
                                      "monitor_interval": "100ms"},
                            {"host": f"{primary.host},{replica.host}",
                             "port": f"{primary.port},{replica.port}"}))
    wait_nodes(pooler, "primary", "replica")
    primary.sql("DROP ROLE event_asker")
    node = f"{primary.host}:{primary.port}"
    assert f"node {node} is primary" in {e["event"] for e in events(pooler, "node_up")}
    (event,) = events(pooler, "primary")
    assert (event["database"], event["node"]) == ("shop", node)


def test_how_many_are_kept(pooler):
    with pooler.run_with_config({"pgturnstile": {"events_kept": 2}}):
        for _ in range(3):
            pooler.admin("PAUSE shop")
            pooler.admin("RESUME shop")
        assert [e["kind"] for e in pooler.admin("SHOW EVENTS")] == ["pause", "resume"]
        pooler.admin("SET events_kept = 0")
        assert not pooler.admin("SHOW EVENTS")


def test_many_sessions_that_keep_servers(primary, turnstile):
    pooler = turnstile(shop(primary, {"pool_mode": "transaction"}))
    with log_in(pooler) as client:
        for i in range(100):
            client.query("SELECT pg_advisory_lock(77)")
            client.query("SELECT pg_advisory_unlock_all()")
        event = wait_event(pooler, "pins")
    assert event["event"].startswith("100 sessions have begun to keep a server")


# --- as notifications ----------------------------------------------------------------------------
@pytest.fixture
def teller(primary):
    """Settings that have events told in the database of the tests."""
    primary.role("event_teller", "teller-password")
    yield {"monitor_user": "event_teller", "monitor_password": "teller-password",
           "events_notify_database": APP_DATABASE}
    primary.sql("DROP ROLE event_teller")


@contextlib.contextmanager
def listening(server, channel):
    """A function that waits for the next event of a kind, or any, and returns what was told of it."""
    with server.connect(APP_DATABASE) as connection:
        told = []
        connection.add_notify_handler(lambda n: told.append(json.loads(n.payload)))
        connection.execute(f"LISTEN {channel}")

        def find(kind):
            connection.execute("SELECT 2")  # what has come is handled then
            return next((t for t in told if kind in (t["kind"], None)), None)

        def next_of(kind=None):
            found = wait_until(lambda: find(kind), 20, lambda: told)
            told.remove(found)
            return found

        yield next_of


def test_events_are_notified(primary, turnstile, teller):
    with listening(primary, "tell_all") as told:
        pooler = turnstile(shop(primary, {**teller, "events_channel": "tell_all"}))
        assert told("start")["number"] == 1
        pooler.admin("PAUSE shop")
        pooler.admin("RESUME shop")
        pause, resume = told("pause"), told("resume")
        shown, = events(pooler, "pause")
    assert (pause["database"], pause["event"], pause["level"], pause["number"]) == \
        ("shop", shown["event"], "LOG", shown["number"])
    assert resume["number"] > pause["number"] and "missed" not in resume
    assert pause["pid"] == pooler.pid()
    assert pause["time"][:19].replace("T", " ") == str(shown["time"])[:19]


def test_hostile_names_are_notified_as_text(primary, turnstile, teller):
    make_ledger(primary)
    name = "'); DROP TABLE x; -- \\ \"€😀" + "x" * 300
    with listening(primary, "tell_names") as told:
        pooler = turnstile(tenants(primary, {**teller, "events_channel": "tell_names",
                                             "unknown_tenant": "basic"},
                                   tiers={"basic": {"rate": "1/h"}}))
        with enter(pooler, name) as client:
            for _ in range(3):
                client.query("SELECT 2")
        assert name.startswith(told("limit")["tenant"].rstrip("\ufffd")[:150])


def test_what_nobody_could_be_told_is_counted(primary, turnstile, teller):
    """While it cannot log in, the ring forgets; none waits, and the next says how many there were."""
    primary.sql("ALTER ROLE event_teller PASSWORD 'another-one'")
    with listening(primary, "tell_late") as told:
        pooler = turnstile(shop(primary, {**teller, "events_channel": "tell_late", "events_kept": 2}))
        pooler.wait_log("is down: password authentication failed")
        for _ in range(5):
            pooler.admin("PAUSE shop")
            pooler.admin("RESUME shop")
        primary.sql("ALTER ROLE event_teller PASSWORD 'teller-password'")
        first = told()
    assert first["number"] > 10 and first["missed"] == first["number"] - 1


@pytest.mark.slow
def test_it_goes_on_where_it_was(primary, turnstile, teller):
    """Behind a lost connection, a RELOAD, and what was told meanwhile to nobody."""
    with listening(primary, "tell_on") as told:
        pooler = turnstile(shop(primary, {**teller, "events_channel": "tell_on"}))
        told("start")
        mine = [s for s in pooler.admin("SHOW SERVERS") if s["user"] == "event_teller"]
        assert len(mine) == 2  # the monitor's is the other one
        primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE usename = 'event_teller'")
        pooler.admin("PAUSE shop")
        assert told("pause")["number"] == events(pooler, "pause")[0]["number"]
        pooler.wait_log("events are not notified in database \"shop\" now: ")
        pooler.wait_log("events are notified in database \"shop\" again")
        pooler.reload()
        told("reload")
        pooler.reload({"pgturnstile": {"events_notify_database": ""}})
        pooler.admin("RESUME shop")
        pooler.reload({"pgturnstile": {"events_notify_database": APP_DATABASE}})
        pooler.admin("PAUSE shop")
        pause = told("pause")
    assert pause["number"] == events(pooler, "pause")[-1]["number"] and "missed" not in pause


@pytest.mark.parametrize("settings, complaint", [
    ({"events_notify_database": "nowhere"}, "no such entry"),
    ({"events_notify_database": APP_DATABASE}, "set monitor_user"),
    ({"events_notify_database": APP_DATABASE, "monitor_user": "x", "events_kept": 0}, "events_kept"),
    ({"events_notify_database": APP_DATABASE, "monitor_user": "x", "events_channel": "x" * 64},
     "1 to 63 bytes")])
def test_i8_settings_that_do_not_fit(pooler, settings, complaint):
    with pytest.raises(psycopg.Error, match=complaint):
        pooler.reload({"pgturnstile": settings})
