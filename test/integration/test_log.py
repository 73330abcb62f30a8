# SPDX-License-Identifier: ISC
#
# test_log.py - lines of the log: whom they are about, as text and as JSON; statements in it.
"""One line each, whatever a client calls itself; statements as log_statements and log_sample say."""
import contextlib
import json
import re

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import log_in, shop
from tenancy import enter, make_ledger, tenants
from turnstile import merge
from waiting import wait_until

HOSTILE = 'a"b\\c{}:,\x01\x1b[31m\x7f\n2026-01-01 LOG forged\r\t\u2028é'


def lines(pooler):
    """All lines of a log in JSON, since it says that it is ready."""
    return [json.loads(line) for line in pooler.log.read_bytes().decode().splitlines()
            if line.startswith("{")]


def statements(pooler):
    return re.findall(r"LOG C-\d+: .*: statement: (.*)", pooler.log_text())


@pytest.fixture
def as_json(primary, turnstile):
    return turnstile(shop(primary, {"log_format": "json", "log_server_connections": 1}))


def test_json(as_json):
    with as_json.connect(APP_DATABASE, APP_USER) as client:
        client.execute("SELECT 2")
    wait_until(lambda: [x for x in lines(as_json) if "reason" in x], 10)
    found = lines(as_json)
    for line in found:
        assert {"time", "pid", "level", "message"} <= set(line), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line["time"])
    (login,) = [x for x in found if x["message"] == "login" and "client" in x
                and x["user"] == APP_USER]
    assert login["database"] == APP_DATABASE and login["address"].startswith("127.0.0.1:")
    (server,) = [x for x in found if x["message"] == "login" and "server" in x]
    assert server["database"] == APP_DATABASE and server["user"] == APP_USER and server["node"]
    assert [x["event"] for x in found if "event" in x][0] == "start"


def test_hostile_names_are_one_line_each(as_json):
    """What a stranger says of itself before anything is proven."""
    before = len(lines(as_json))
    for user, application in ((HOSTILE, "x"), ("nobody", HOSTILE)):
        with contextlib.suppress(psycopg.Error):
            as_json.connect(APP_DATABASE, user, "wrong", application_name=application)
    wait_until(lambda: len([x for x in lines(as_json)[before:] if x.get("user") == HOSTILE]) >= 1, 10,
               as_json.log_text)
    for text in as_json.log.read_bytes().split(b"\n"):
        if b"forged" in text:
            assert text.startswith(b"{") and json.loads(text)["message"]


def test_a_refusal_names_its_tenant(primary, turnstile):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"log_format": "json"}, {"basic": {"rate": "1/h"}}))
    with enter(pooler, "acme") as acme:
        acme.query("SELECT 2"), acme.query("SELECT 2")
    (refusal,) = [x for x in lines(pooler) if x.get("reason") == "53400"]
    assert (refusal["database"], refusal["tenant"]) == (APP_DATABASE, "acme") and refusal["client"]
    (event,) = [x for x in lines(pooler) if x.get("event") == "limit"]
    assert (event["tenant"], event["reason"]) == ("acme", "rate")


def test_a_flood_of_refusals_is_counted(primary, turnstile):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {}, {"basic": {"rate": "1/h"}}))
    with enter(pooler, "acme") as acme:
        for _ in range(501):
            acme.query("SELECT 2")
        wait_until(lambda: sum(map(int, re.findall(r"repeated (\d+) times: limit", pooler.log_text())))
                   + pooler.log_contains(r"LOG C-\d+: .*: limit") >= 500, 10, pooler.log_text)
        assert pooler.log_contains(r"LOG C-\d+: .*: limit") < 500


def test_clients_and_servers_apart(primary, turnstile):
    pooler = turnstile(shop(primary, {"log_connections": 0, "log_disconnections": 0,
                                      "log_server_connections": 1, "log_server_disconnections": 0}))
    with pooler.connect(APP_DATABASE, APP_USER) as client:
        client.execute("SELECT 2")
        pooler.wait_log(r"LOG S-\d+: shop/app@127\.0\.0\.1:\d+: login")
    pooler.admin("RECONNECT shop")
    pooler.wait_log(r"S-\d+: .*: closing, not needed any more")
    assert not pooler.log_contains(r"C-\d+: .*: (login|closing)")
    with pooler.run_with_config({"pgturnstile": {"log_server_connections": 0, "log_connections": 1}}):
        before = pooler.log_contains(r"S-\d+: .*: login")
        with pooler.connect(APP_DATABASE, APP_USER) as client:
            client.execute("SELECT 2")
        pooler.wait_log(r"C-\d+: shop/app@.*: login")
        assert pooler.log_contains(r"S-\d+: .*: login") == before


# --- statements ----------------------------------------------------------------------------------
TEXTS = ["SELECT 'secret' AS a", "SELECT nextval('audit_s')", "INSERT INTO audit_t VALUES (4711)",
         "CREATE TABLE audit_u (a int)", "DROP TABLE audit_u"]
NORMAL = ["SELECT ? AS a", "SELECT nextval(?)", "INSERT INTO audit_t VALUES (?)",
          "CREATE TABLE audit_u (a int)", "DROP TABLE audit_u"]


@pytest.fixture
def audited(primary, turnstile):
    primary.role("audit_asker", "audit_asker-password")
    with primary.connect(APP_DATABASE) as connection:
        for text in ("DROP TABLE IF EXISTS audit_t", "DROP SEQUENCE IF EXISTS audit_s",
                     "CREATE TABLE audit_t (a int)", "CREATE SEQUENCE audit_s",
                     "GRANT ALL ON audit_t, audit_s TO app", "GRANT ALL ON SCHEMA public TO app"):
            connection.execute(text)
    yield lambda mode, level: turnstile(shop(primary, {
        "pool_mode": mode, "log_statements": level, "monitor_user": "audit_asker",
        "monitor_password": "audit_asker-password"}))
    primary.sql("DROP ROLE audit_asker")


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("level, expected", [("none", []), ("ddl", NORMAL[3:]), ("mod", NORMAL[1:]),
                                             ("all", NORMAL)])
def test_statements(audited, mode, level, protocol, expected):
    pooler = audited(mode, level)
    with log_in(pooler) as client:
        for text in TEXTS:
            if protocol == "simple":
                client.query(text)
            else:
                client.send(raw.parse("", text), raw.bind(), raw.execute(), raw.sync())
                client.until("Z")
        found = [text for text in statements(pooler) if "nothing" not in text]
        # Without a catalog no function is known to only read.
        assert [text for text in found if text in expected] == expected
        assert level != "ddl" or found == expected
    assert not pooler.log_contains("secret|4711")


def test_a_tenant_has_its_own_and_a_sample(primary, turnstile):
    make_ledger(primary)
    pooler = turnstile(merge(tenants(primary, {"pool_mode": "transaction"}),
                             {"tenants": {"acme": {"tier": "basic", "business_id": "42",
                                                   "log_statements": "all", "log_sample": "10%"}}}))
    with enter(pooler, "acme") as acme, enter(pooler, "globex") as globex:
        for _ in range(200):
            acme.query("SELECT 2"), globex.query("SELECT 3")
    assert 15 <= len(statements(pooler)) <= 25
    assert pooler.log_contains(r"app[^ ]* \[acme\]: statement") == len(statements(pooler))
    pooler.admin("SET TENANT globex log_statements = all")
    with enter(pooler, "globex") as globex:
        globex.query("SELECT 3")
    assert pooler.log_contains(r"\[globex\]: statement: SELECT \?") == 1
