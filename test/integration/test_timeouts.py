# SPDX-License-Identifier: ISC
#
# test_timeouts.py - a tier's statement_timeout is a ceiling, whoever asks for more and however.
import contextlib
import time

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import log_in, sqlstate
from tenancy import both_pools, enter, errors, show, tenants

pytestmark = pytest.mark.usefixtures(both_pools.__name__)

MODES = ["transaction", "session"]


def tier(server, timeout="15s", **settings):
    return tenants(server, settings, {"basic": {"statement_timeout": timeout}})


@pytest.fixture(params=MODES)
def acme(primary, turnstile, request):
    """A client of a tenant whose statements may run for 15 s."""
    with enter(turnstile(tier(primary, pool_mode=request.param)), "acme") as client:
        yield client


@contextlib.contextmanager
def default_of(primary, whose, value):
    """ALTER ROLE or DATABASE … SET statement_timeout for the block."""
    primary.sql(f"ALTER {whose} SET statement_timeout = '{value}'")
    try:
        yield
    finally:
        primary.sql(f"ALTER {whose} RESET statement_timeout")


def notices(messages):
    return [m.fields["M"] for m in raw.find(messages, "N")]


# --- at the beginning ------------------------------------------------------------------------
@pytest.mark.parametrize("whose", [f"ROLE {APP_USER}", f"DATABASE {APP_DATABASE}",
                                   f"ROLE {APP_USER} IN DATABASE {APP_DATABASE}", "ROLE ALL"])
@pytest.mark.parametrize("default, least", [("7s", "7s"), ("40s", "15s"), ("0", "15s")])
def test_the_least_of_tier_and_default(primary, turnstile, whose, default, least):
    with default_of(primary, whose, default):
        with enter(turnstile(tier(primary)), "acme") as client:
            assert show(client, "statement_timeout") == least


@pytest.mark.parametrize("default, least", [("6s", "6s"), ("1h", "15s")])
def test_the_least_of_tier_and_postgresql_conf(primary, turnstile, default, least):
    primary.sql(f"ALTER SYSTEM SET statement_timeout = '{default}'")
    try:
        primary.sql("SELECT pg_reload_conf()")
        with enter(turnstile(tier(primary)), "acme") as client:
            assert show(client, "statement_timeout") == least
    finally:
        primary.sql("ALTER SYSTEM RESET statement_timeout")
        primary.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("own, least", [("3s", "3s"), ("2500", "2500ms"), ("60s", "15s"),
                                        ("0", "15s"), ("1h", "15s"), ("15001", "15s")])
def test_the_least_of_tier_and_what_the_client_asks_for(primary, turnstile, mode, own, least):
    t = turnstile(tier(primary, pool_mode=mode))
    for startup in ({"statement_timeout": own}, {"options": f"-c statement_timeout={own}"},
                    {"options": f"--statement-timeout={own}"}):
        with enter(t, "acme", **startup) as client:
            assert show(client, "statement_timeout") == least


def test_a_default_is_no_ceiling_for_what_the_client_asks_for(primary, turnstile):
    """As without us: a session may raise what its role has by default, up to the tier's."""
    with default_of(primary, f"ROLE {APP_USER}", "2s"):
        with enter(turnstile(tier(primary)), "acme") as client:
            client.rows("SET statement_timeout = '9s'")
            assert show(client, "statement_timeout") == "9s"
            client.rows("RESET statement_timeout")
            assert show(client, "statement_timeout") == "2s"


def test_neighbours_do_not_inherit_it(primary, turnstile):
    t = turnstile(tier(primary, default_pool_size=1))
    with enter(t, "acme", statement_timeout="3s") as short, enter(t, "acme") as plain:
        for _ in range(3):
            assert show(short, "statement_timeout") == "3s"
            assert show(plain, "statement_timeout") == "15s"


def test_without_a_tier_it_is_the_clients_own(primary, turnstile):
    with enter(turnstile(tenants(primary)), "acme", statement_timeout="1h") as client:
        assert show(client, "statement_timeout") == "1h"
        client.rows("SET statement_timeout = 0")
        assert show(client, "statement_timeout") == "0"


# --- later -----------------------------------------------------------------------------------
RAISED = ["SET statement_timeout = 0", "SET statement_timeout TO '0'", "SET statement_timeout = 15001",
          "SET statement_timeout = '16s'", "SET SESSION statement_timeout = '1h'",
          "SET statement_timeout = '1 d'", "SET statement_timeout = '0x7fffffff'",
          "SET statement_timeout = '15000.6'", "SET statement_timeout = '99999999us'",
          'SET "statement_timeout" = 0', "set Statement_Timeout = 0", "SET statement_timeout = $$0$$",
          "SET statement_timeout = E'\\x30'", 'SET U&"statement\\005ftimeout" = 0',
          "SET/**/statement_timeout/* */=/* */0/* */", "SELECT set_config('statement_timeout', '0', false)",
          "SELECT pg_catalog.set_config('statement_timeout'::text, '20min'::text, false)",
          "SELECT 1, set_config('statement_timeout', '16000', false)"]
LOWERED = [("SET statement_timeout = 5000", "5s"), ("SET statement_timeout = '2min'", "15s"),
           ("SET statement_timeout = '15s'", "15s"), ("SET statement_timeout = '1500ms'", "1500ms"),
           ("SELECT set_config('statement_timeout', '4s', false)", "4s"),
           ("SET statement_timeout TO DEFAULT", "15s"), ("RESET statement_timeout", "15s"),
           ("RESET ALL", "15s"), ("DISCARD ALL", "15s"),
           ("SELECT set_config('statement_timeout', NULL, false)", "15s")]


@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_more_is_clamped(acme, protocol):
    ask = getattr(acme, protocol)
    for text in RAISED:
        messages = ask(text)
        assert not errors(messages), text
        assert ["lowered" in text for text in notices(messages)] == [True], text
        assert show(acme, "statement_timeout") == "15s", text


@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_less_is_left_alone(acme, protocol):
    ask = getattr(acme, protocol)
    for text, result in LOWERED:
        messages = ask(text)
        assert not errors(messages), text
        assert bool(notices(messages)) == ("2min" in text), text
        assert show(acme, "statement_timeout") == result, text


def test_nonsense_is_the_servers_to_refuse(acme):
    for value in ("'soon'", "-1", "'15 parsecs'", "99999999999", "'0 s s'"):
        assert sqlstate(acme.query(f"SET statement_timeout = {value}")) == "22023", value
    assert show(acme, "statement_timeout") == "15s"


def test_in_a_transaction(acme):
    acme.rows("BEGIN")
    assert notices(acme.query("SET LOCAL statement_timeout = 0"))
    assert show(acme, "statement_timeout") == "15s"
    acme.rows("SET LOCAL statement_timeout = '2s'")
    assert show(acme, "statement_timeout") == "2s"
    acme.rows("SELECT set_config('statement_timeout', '0', true)")
    assert show(acme, "statement_timeout") == "15s"
    acme.rows("SET statement_timeout = '1s'")
    acme.rows("ROLLBACK")
    assert show(acme, "statement_timeout") == "15s"


@pytest.mark.parametrize("text", [
    "SELECT 1; SET statement_timeout = 0", "SET statement_timeout = 0; SELECT 1",
    "SET statement_timeout = '1h'; SELECT ';'; SET statement_timeout = '2h'; SET statement_timeout = 0",
    "SELECT set_config('statement_timeout', '0', false), set_config('statement_timeout', '1h', false)",
    "BEGIN; SET LOCAL statement_timeout = 0; COMMIT"])
def test_in_several_statements(acme, text):
    messages = acme.query(text)
    assert not errors(messages)
    assert notices(messages)
    assert show(acme, "statement_timeout") == "15s"


@pytest.mark.parametrize("text, values, result", [
    ("SELECT set_config('statement_timeout', $1, false)", ["0"], "15s"),
    ("SELECT set_config('statement_timeout', $1, false)", ["1h"], "15s"),
    ("SELECT set_config('statement_timeout', $1::text, $2)", ["20s", "f"], "15s"),
    ("SELECT set_config('statement_timeout', $2, false), $1::text", ["a", "0"], "15s"),
    ("SELECT set_config('statement_timeout', $1, false)", ["4s"], "4s"),
    ("SELECT set_config('statement_timeout', $1, false)", [None], "15s")])
@pytest.mark.parametrize("name", ["", "named"])
def test_in_a_parameter(acme, text, values, result, name):
    messages = acme.prepared(text, values, name)
    assert not errors(messages)
    assert bool(notices(messages)) == (result == "15s" and values != [None])
    acme.send(raw.bind("", name, values), raw.execute(), raw.sync())
    assert not errors(acme.until("Z"))
    assert show(acme, "statement_timeout") == result


@pytest.mark.parametrize("text, values", [
    ("SELECT set_config($1, '0', false)", ["statement_timeout"]),
    ("SELECT set_config($1, $2, false)", ["Statement_Timeout", "0"]),
    ("SELECT set_config('statement_timeout', '0' || $1, false)", [""]),
    ("SELECT set_config('statement_timeout', (SELECT '0'), false)", []),
    ("UPDATE pg_settings SET setting = '0' WHERE name = 'statement_timeout'", []),
    ("PREPARE p AS SELECT set_config('statement_timeout', $1, false)", []),
    ("DO $$ BEGIN PERFORM set_config('statement_timeout', '0' || '', false); END $$", []),
])
def test_what_cannot_be_checked_is_refused(acme, text, values):
    assert errors(acme.prepared(text, values)) == ["42501"]
    assert show(acme, "statement_timeout") == "15s"


@pytest.mark.parametrize("text", [
    "DO $$ BEGIN SET statement_timeout = 0; END $$",
    "DO $$ BEGIN SET statement_timeout = '1h'; PERFORM 1; END $$",
    "DO 'BEGIN SET statement_timeout = 0; END'",
    "DO $$ BEGIN PERFORM set_config('statement_timeout', '0', false); END $$"])
def test_in_a_block(acme, text):
    assert errors(acme.query(text)) in ([], ["42501"])
    assert show(acme, "statement_timeout") == "15s"


def test_behind_a_long_text(primary, turnstile):
    with enter(turnstile(tier(primary)), "acme") as client:
        client.send(raw.query(f"SELECT length('{'x' * 2_000_000}'); SET statement_timeout = 0"))
        assert "42501" in errors(client.until_closed())


# --- it works ---------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_the_server_cancels(primary, turnstile, protocol):
    with enter(turnstile(tier(primary, "300ms")), "acme") as client:
        for prelude in ([], ["SET statement_timeout = 0"]):
            for text in prelude:
                client.rows(text)
            began = time.monotonic()
            assert sqlstate(getattr(client, protocol)("SELECT pg_sleep(10)")) == "57014"
            assert 0.25 < time.monotonic() - began < 5
        assert client.rows("SELECT 1") == [("1",)]


def test_reload_lowers_it(primary, turnstile):
    t = turnstile(tier(primary))
    with enter(t, "acme") as client:
        assert show(client, "statement_timeout") == "15s"
        t.reload({"tiers": {"basic": {"statement_timeout": "5s"}}})
        client.rows("SET statement_timeout = '10s'")
        assert show(client, "statement_timeout") == "5s"
    with enter(t, "acme") as client:
        assert show(client, "statement_timeout") == "5s"


def test_clamps_are_counted(primary, turnstile):
    t = turnstile(tier(primary))
    with enter(t, "acme") as client:
        client.rows("SET statement_timeout = 0")
        client.rows("SET statement_timeout = '1s'")
        clamped = {row["name"]: row["clamped"] for row in t.admin("SHOW TENANTS")}
        assert clamped["acme"] == 1 and not clamped.get("globex")


def test_other_pools_have_no_ceiling(primary, turnstile):
    t = turnstile(tier(primary, tenant_by=None) | {"tenants": {}, "tiers": {}})
    with log_in(t) as client:
        client.rows("SET statement_timeout = '1h'")
        assert show(client, "statement_timeout") == "1h"


def test_what_a_function_has_raised_unseen_is_lowered_when_it_is_over(primary, turnstile):
    with enter(turnstile(tier(primary)), "acme") as client:
        for raised in ("0", "1h"):
            client.query("DO $$ BEGIN EXECUTE format('set %s = %L', 'statement' || '_timeout', "
                         f"'{raised}'); END $$")
            assert show(client, "statement_timeout") == "15s"
        client.query("CREATE TEMP TABLE mine ()")  # so that it keeps its server
        client.query("DO $$ BEGIN EXECUTE format('set %s = 0', 'statement' || '_timeout'); END $$")
        assert show(client, "statement_timeout") == "15s"


def test_a_timeout_that_was_set_follows_its_session(primary, turnstile):
    with default_of(primary, f"ROLE {APP_USER}", "7s"):
        t = turnstile(tier(primary, default_pool_size=1))
        with enter(t, "acme") as client, enter(t, "acme") as other:
            client.query("SET statement_timeout = '10s'")
            for _ in range(2):
                assert show(other, "statement_timeout") == "7s"
                assert show(client, "statement_timeout") == "10s"


# --- past the server's own timer -----------------------------------------------------------------
@pytest.fixture
def slipping(primary):
    """A function of which no text says that it lifts the timeout."""
    primary.sql("CREATE OR REPLACE FUNCTION timeouts_slip() RETURNS text LANGUAGE sql AS"
                " $$SELECT set_config('statement' || '_timeout', '0', false)$$",
                dbname=APP_DATABASE)
    return primary


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_what_slips_past_is_cancelled(slipping, turnstile, protocol):
    t = turnstile(tier(slipping, "500ms", tenant_pool="dedicated"))
    with enter(t, "acme") as client:
        client.query("BEGIN")
        client.rows("SELECT timeouts_slip()")
        assert show(client, "statement_timeout") == "0"
        began = time.monotonic()
        messages = getattr(client, protocol)("SELECT pg_sleep(60)")
        assert errors(messages) == ["57014"] and messages[-1].body == b"E"
        assert 2 < time.monotonic() - began < 50
        client.query("ROLLBACK")
        assert show(client, "statement_timeout") == "500ms"
    assert t.log_contains("longer than its ceiling")


@pytest.mark.slow
def test_each_statement_of_a_string_has_its_time(primary, turnstile):
    t = turnstile(tier(primary, "2s"))
    with enter(t, "acme") as client:
        messages = client.query(";".join(["SELECT pg_sleep(0.9)"] * 6))
        assert not errors(messages)
        client.send(*[raw.parse("", "SELECT pg_sleep(0.9)"), raw.bind(), raw.execute()] * 6,
                    raw.sync())
        assert not errors(client.until("Z"))
    assert not t.log_contains("longer than its ceiling")
