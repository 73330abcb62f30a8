# SPDX-License-Identifier: ISC
#
# test_hostile.py - what a hostile client or server tries that nobody has thought of elsewhere.
#
# Each test is named after the hole that it keeps shut.
import struct

import pytest

import raw
from rig import clients, log_in, shop, sqlstate
from tenancy import SETTING, TENANTS, enter, errors, make_ledger, show, tenants
from waiting import wait_until

OWN, OTHER = TENANTS["acme"], TENANTS["globex"]
CAPPED = {"statement_timeout": "5s"}
LONG = " " * (1 << 20)  # a text with this in it is too long to be looked at


@pytest.fixture(scope="module")
def ledger(primary):
    make_ledger(primary)
    return primary


def raw_startup(parameters, version=(3, 0)):
    """A startup packet of bytes that are no UTF-8."""
    body = b"".join(k + b"\0" + v + b"\0" for k, v in parameters.items()) + b"\0"
    return struct.pack("!iHH", len(body) + 8, *version) + body


def parse_typed(sql, *types, name=""):
    """Parse with declared types of parameters."""
    return raw.message("P", name, sql, struct.pack(f"!h{len(types)}i", len(types), *types))


# --- settings of the startup packet -----------------------------------------------------------
def test_i1_startup_value_is_no_sql_in_any_encoding(ledger, turnstile, monkeypatch):
    """In SJIS a backslash may be half of a character, so that the one behind it escapes a quote."""
    pooler = turnstile(tenants(ledger, {"default_pool_size": 1}))
    forgery = b"\x83\\', false), set_config($$" + SETTING.encode() + b"$$, $$7$$, false); -- "
    with enter(pooler, "acme", client_encoding="SJIS", backslash_quote="on") as first:
        first.rows("SELECT 2")
    monkeypatch.setattr(raw, "startup", lambda parameters, version: raw_startup(
        {k.encode(): v.encode() if isinstance(v, str) else v for k, v in parameters.items()}))
    try:
        with enter(pooler, "acme", **{"my.x": forgery}) as second:
            second.query("SELECT 2")
    except (raw.LoginRefused, EOFError):
        pass
    monkeypatch.undo()
    with enter(pooler, "acme") as third:
        assert show(third, SETTING) == OWN


# --- the ceiling of statement_timeout ---------------------------------------------------------
@pytest.mark.parametrize("value", ["0" + " " * 65, "0" * 70, " " * 66 + "1d"])
def test_timeout_written_at_length_is_lowered(ledger, turnstile, value):
    pooler = turnstile(tenants(ledger, tiers={"basic": {"weight": 1, **CAPPED}}))
    with enter(pooler, "acme", statement_timeout=value) as client:
        assert show(client, "statement_timeout") == "5s"
        client.query(f"SET statement_timeout = '{value}'")
        assert show(client, "statement_timeout") == "5s"
        client.prepared("SELECT set_config('statement_timeout', $1, false)", (value,))
        assert show(client, "statement_timeout") == "5s"


# --- texts too long to be looked at -----------------------------------------------------------
@pytest.mark.parametrize("forgery", [
    "SET statement_timeout = 0;",
    "SET standard_conforming_strings = off;",
    "SET client_encoding = 'SJIS';",
])
def test_i1_long_text_changes_nothing_guarded(ledger, turnstile, forgery):
    pooler = turnstile(tenants(ledger, tiers={"basic": {"weight": 1, **CAPPED}}))
    with enter(pooler, "acme") as client:
        client.send(raw.query(forgery + LONG))
        assert errors(client.until_closed()) == ["42501"]


# --- standard_conforming_strings --------------------------------------------------------------
HIDDEN = "SELECT '\\'; SET U&\"app\".U&\"current_\\0062usiness_id\" = $$7$$; --'"


@pytest.mark.parametrize("text", ["SET standard_conforming_strings = on", "RESET ALL",
                                  "RESET standard_conforming_strings", "DISCARD ALL"])
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i1_strings_stay_as_they_were_read(ledger, turnstile, text, extended):
    """What is off may not be turned on, for the text behind it has been read as if it were off."""
    pooler = turnstile(tenants(ledger))
    request = raw.parse("", text) + raw.bind() + raw.execute() + raw.sync() if extended \
        else raw.query(text)
    with enter(pooler, "acme", standard_conforming_strings="off") as client:
        client.send(request, raw.query(HIDDEN))
        assert errors(client.until("Z")) == ["42501"]
        client.until("Z")
        assert show(client, SETTING) == OWN


@pytest.mark.parametrize("alias", ["mskanji", "S-J-I-S", "windows-932", "ShiftJIS", "win950"])
def test_i1_encodings_by_other_names(ledger, turnstile, alias):
    pooler = turnstile(tenants(ledger))
    with enter(pooler, "acme") as client:
        assert errors(client.query(f"SET client_encoding = '{alias}'")) == ["42501"]
        assert errors(client.query(f"SET NAMES '{alias}'")) == ["42501"]


# --- parameters -------------------------------------------------------------------------------
BPCHAR, CHAR = 1042, 18


@pytest.mark.parametrize("sql, types, values", [
    ("SELECT set_config($1, $2, false)", (BPCHAR, 25), (SETTING + " ", OTHER)),
    ("SELECT $1::bpchar, set_config($1, $2, false)", (), (SETTING + " ", OTHER)),
    (f"SELECT set_config('{SETTING}', $1, false)", (CHAR,), (OWN,)),
    (f"SELECT $1::\"char\", set_config('{SETTING}', $1, false)", (), (OWN,)),
])
def test_i1_parameter_that_a_cast_changes(ledger, turnstile, sql, types, values):
    pooler = turnstile(tenants(ledger))
    with enter(pooler, "acme") as client:
        client.send(parse_typed(sql, *types), raw.bind("", "", values), raw.execute(), raw.sync())
        answer = client.until("Z")
        assert show(client, SETTING) == OWN
        assert sqlstate(answer) == "42501"


# --- a hostile server -------------------------------------------------------------------------
def fake_pool(server, tiers=None, **settings):
    """A config: tenant acme on a FakeServer."""
    return tenants(server, settings, tiers)


@pytest.mark.parametrize("told", [None, "", "x", "9" * 18], ids=str)
def test_i6_server_that_does_not_tell_its_timeout(turnstile, told):
    """No answer to a question of ours makes us ask again and again at once."""
    def script(session):
        while (got := session.message()).kind == "Q":
            session.send(*([] if told is None else [raw.data_row(told)]),
                         raw.command_complete("SELECT 2"), raw.ready())

    with raw.FakeServer(script) as server:
        pooler = turnstile(fake_pool(server, {"basic": {"weight": 1, **CAPPED}},
                                     server_login_retry=1, query_wait_timeout=3))
        with pytest.raises(raw.LoginRefused):
            enter(pooler, "acme")
        assert len(server.startups) < 10


def test_i6_server_that_reports_ever_new_parameters(turnstile):
    """What it says is passed on, but not all of it is kept for the next client."""
    def script(session):
        while (got := session.message()).kind == "Q":
            session.send(*(raw.parameter_status(f"p{i}", "x") for i in range(1000)),
                         raw.command_complete("SELECT 2"), raw.ready())

    with raw.FakeServer(script) as server:
        pooler = turnstile(fake_pool(server))
        with enter(pooler, "acme") as client:
            assert len(raw.find(client.query("SELECT 2"), "S")) == 1000
        with enter(pooler, "acme") as client:
            assert len(raw.find(client.query("SELECT 2"), "S")) < 1100
            assert len(client.parameters) < 100


def test_i6_prepared_statements_of_a_client_are_bounded(primary, turnstile):
    """900 kB each, under ever new names: refused before they are a burden."""
    with log_in(turnstile(shop(primary))) as client:
        states = set()
        for number in range(30):
            text = f"SELECT {number} /* {'x' * 900_000} */"
            client.send(raw.parse(f"s{number}", text), raw.sync())
            states |= {m.fields["C"] for m in raw.find(client.until("Z"), "E")}
        assert states == {"53200"}
        assert client.rows("SELECT 2") == [("2",)]


def test_i6_prepared_statements_of_a_worker_are_bounded(primary, turnstile):
    """Many clients, each within its own bound; when they have left there is room again."""
    t = turnstile(shop(primary, {"workers": 1, "max_prepared_memory": "1MB",
                                 "max_client_prepared_memory": "400kB"}))

    def fill(client, number):
        client.send(b"".join(raw.parse(f"s{i}", f"SELECT {number}, '{i:0900}'") for i in range(500)),
                    raw.sync())
        messages = client.until("Z")
        return len(raw.find(messages, "1")), {m.fields["C"] for m in raw.find(messages, "E")}

    with clients(t, 6) as greedy:
        done, states = zip(*(fill(client, number) for number, client in enumerate(greedy)))
        assert 250 < done[0] < 430 and states[0] == {"53200"}  # its own bound
        assert 500 < sum(done) < 1000 and done[5] == 0 and states[5] == {"53200"}
        assert greedy[5].rows("SELECT 2") == [("2",)]
        greedy[5].send(raw.parse("", "SELECT 'unnamed'"), raw.bind(), raw.execute(), raw.sync())
        assert raw.kinds(greedy[5].until("Z")) == "12DCZ"
    wait_until(lambda: not sum(row["names"] for row in t.admin("SHOW PREPARED")))
    with log_in(t) as client:
        done, states = fill(client, 7)
        assert 250 < done < 430 and states == {"53200"}


def test_i1_a_text_too_long_to_be_read_makes_the_next_one_suspect(ledger, turnstile):
    """SET NAMES behind a megabyte of blanks, and a text that the server then reads otherwise."""
    t = turnstile(tenants(ledger))
    with enter(t, "acme", client_encoding="LATIN1", backslash_quote="on") as client:
        client.send(raw.query("SET NAMES 'SJIS';" + " " * (2 << 20)),
                    raw.message("Q", b"SELECT E'\x83\\', '; SET U&\"app\".U&\"current_\\0062usiness_id\""
                                b" = $$7$$; --'\0"))
        assert errors(client.until("Z")) in ([], ["42501"])
        assert errors(client.until("Z")) == ["42501"]
    with enter(t, "acme") as client:
        assert client.rows(f"SHOW {SETTING}") == [("42",)]
