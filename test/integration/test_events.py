# SPDX-License-Identifier: ISC
#
# test_events.py - SHOW EVENTS: what has happened, once each, with the line in the log.
"""Each kind of event comes of what makes it, names whom it is about, and repeats are counted."""
import signal

import psycopg
import pytest

from conftest import APP_DATABASE, APP_USER
from rig import log_in, shop, wait_nodes
from tenancy import enter, make_ledger, tenants
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
