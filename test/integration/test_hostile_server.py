# SPDX-License-Identifier: ISC
#
# test_hostile_server.py - a server that lies, before and while it lets us in.
#
# What it says in a session is test_phases.py's.
"""Whatever stands where a server should be learns no secret, speaks to no client and stops nobody."""
import base64
import struct

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop
from turnstile import merge
from waiting import wait_until

OTHER = "other"
IMPATIENT = {"server_login_retry": "50ms", "query_wait_timeout": "500ms"}


def pooler_before(turnstile, liar, honest, settings=None):
    """One worker before both: the liar has database `shop`, the honest server `other`."""
    config = shop(liar, {**IMPATIENT, "workers": 1, **(settings or {})})
    return turnstile(merge(config, {"databases": {
        OTHER: {"host": honest.host, "port": honest.port, "dbname": APP_DATABASE}}}))


@pytest.fixture
def honest():
    """A server that answers each Query with its text."""
    with raw.FakeServer() as server:
        yield server


def refused(pooler):
    """The fields of the error that a client of `shop` gets."""
    with pytest.raises(raw.LoginRefused) as error:
        log_in(pooler)
    return error.value.fields


# --- the answer to SSLRequest ---------------------------------------------------------------------
SPEECH = raw.error("28000", "words of the one in the middle", "FATAL")


@pytest.mark.parametrize("mode", ["prefer", "require"])
@pytest.mark.parametrize("answer", [b"S" + raw.auth_ok() + raw.ready(), b"N" + raw.auth_ok(), SPEECH,
                                    b"G", b"s", b"\0"],
                         ids=["S and more", "N and more", "an error", "G", "s", "NUL"])
def test_what_a_server_says_before_tls_is_not_believed(turnstile, answer, mode):
    """CVE-2021-23222 and CVE-2024-10977 of PostgreSQL: no bytes from before, no words of it."""
    with raw.FakeServer(tls_answer=answer) as liar:
        t = turnstile(shop(liar, {**IMPATIENT, "server_tls_sslmode": mode}))
        said = refused(t)
        assert said["C"] == "08P01" and "in the middle" not in str(said)
        assert liar.startups == []
    assert not t.log_contains("in the middle")


# --- SCRAM ----------------------------------------------------------------------------------------
def scram_liar(first, final=None):
    """A login that answers client-first, and client-final, with what these make of the honest text."""
    def login(session):
        scram = raw.Scram(APP_PASSWORD)
        session.send(raw.auth_sasl())
        hello = session.message().body.split(b"\0", 1)[1][4:].decode()
        session.send(raw.auth_sasl_continue(first(scram.server_first(hello)).encode()))
        proof = session.message().body.decode()
        proofs.append(proof)
        honest_final = scram.server_final(proof)
        session.send(raw.auth_sasl_final((final or str)(honest_final).encode()), raw.auth_ok(),
                     raw.ready())
        session.until_closed()

    proofs = login.proofs = []
    return login


def with_iterations(count):
    return lambda text: text.rsplit(",i=", 1)[0] + f",i={count}"


SCRAM_FIRSTS = {
    "nonce of its own": lambda text: "r=" + "x" * 40 + text[text.index(",s="):],
    "nonce as it was": lambda text: text.replace(text[2:text.index(",s=")],
                                                 text[2:text.index(",s=") - 24]),
    "nonce too long": lambda text: text.replace(",s=", "x" * 10_000 + ",s="),
    "nonce that fills the message": lambda text: text.replace(",s=", "x" * 65_000 + ",s="),
    "no salt": lambda text: text[:text.index(",s=")] + text[text.index(",i="):],
    "empty salt": lambda text: text[:text.index(",s=")] + ",s=" + text[text.index(",i="):],
    "salt that is too long": lambda text: text.replace(
        ",s=", ",s=" + base64.b64encode(b"x" * 900).decode()),
    "salt that is none": lambda text: text.replace(",s=", ",s=%"),
    "no iterations": lambda text: text[:text.index(",i=")],
    "0 iterations": with_iterations(0),
    "-1 iterations": with_iterations(-1),
    "iterations beyond the bound": with_iterations(100_001),
    "iterations of years": with_iterations(2**31 - 1),
    "iterations beyond 32 bits": with_iterations(2**32 + 4096),
    "iterations beyond 64 bits": with_iterations(2**64 + 4096),
    "empty": lambda text: "",
    "NUL": lambda text: text + "\0",
    "mandatory extension": lambda text: "m=x," + text,
    "twice": lambda text: text + "," + text,
}


@pytest.mark.parametrize("lie", SCRAM_FIRSTS)
def test_lies_in_server_first(turnstile, honest, lie):
    """PgBouncer's CVE-2026-6665 and -6669: no overrun, and no thread that computes for years."""
    login = scram_liar(SCRAM_FIRSTS[lie])
    with raw.FakeServer(login=login) as liar:
        t = pooler_before(turnstile, liar, honest)
        with log_in(t, dbname=OTHER, timeout=5) as bystander:
            assert refused(t)["C"] == "08P01"
            assert bystander.rows("still") == [("still",)]
        assert login.proofs == []


@pytest.mark.parametrize("lie", ["v=" + base64.b64encode(b"x" * 32).decode(), "v=", "v=AAAA", "",
                                 "e=other-error", "e=", "x=1", "v", "\0"])
def test_lies_in_server_final(turnstile, honest, lie):
    """Who does not show that it knows the secret gets no query."""
    login = scram_liar(str, lambda text: lie)
    with raw.FakeServer(login=login) as liar:
        t = pooler_before(turnstile, liar, honest)
        assert refused(t)["C"] in ("08P01", "08001")
        assert login.proofs


# --- other ways to lie in a login -----------------------------------------------------------------
def says(*parts):
    """A login that says this, one write for each part, with an answer awaited between them."""
    def login(session):
        for part in parts[:-1]:
            session.send(part)
            session.message()
        session.send(parts[-1])
        heard.append(session.until_closed())

    heard = login.heard = []
    return login


def short(kind, size):
    """A header that says `size` bytes."""
    return kind.encode() + struct.pack("!I", size)


SALT = b"salt"
LOGIN_LIES = {
    "error without fields": says(raw.message("E", b"\0")),
    "error that does not end": says(raw.message("E", b"SFATAL\0C28")),
    "error with an empty body": says(raw.message("E")),
    "error without SQLSTATE": says(raw.message("E", "SFATAL", "Mwithout", b"\0")),
    "error with a short SQLSTATE": says(raw.message("E", "SFATAL", "C1", "Mshort", b"\0")),
    "error with a long text": says(raw.error("28000", "x" * 60_000, "FATAL")),
    "error beyond the bound": says(raw.error("28000", "x" * 70_000, "FATAL")),
    "no mechanism": says(raw.message("R", struct.pack("!i", 10), b"\0")),
    "mechanisms without an end": says(raw.message("R", struct.pack("!i", 10), b"SCRAM-SHA-256")),
    "unknown mechanism": says(raw.auth_sasl(("SCRAM-SHA-1",))),
    "SASL twice": says(raw.auth_sasl(), raw.auth_sasl()),
    "final at once": says(raw.auth_sasl(), raw.auth_sasl_final(b"v=AAAA")),
    "final before SASL": says(raw.auth_sasl_final(b"v=AAAA")),
    "continue before SASL": says(raw.auth_sasl_continue(b"r=x,s=AAAA,i=1")),
    "in before the proof": says(raw.auth_sasl(), raw.auth_ok() + raw.ready()),
    "MD5 without salt": says(raw.message("R", struct.pack("!i", 5))),
    "MD5 with a long salt": says(raw.auth_md5(SALT * 2)),
    "Authentication without a code": says(raw.message("R", b"\0\0")),
    "unknown authentication": says(raw.message("R", struct.pack("!i", 99))),
    "length 0": says(short("R", 0)),
    "length 3": says(short("R", 3)),
    "length beyond 31 bits": says(short("R", 2**31)),
    "length beyond the bound": says(short("S", 65_536)),
    "key that is too short": says(raw.auth_ok() + raw.backend_key_data(1, b"abc")),
    "key that is too long": says(raw.auth_ok() + raw.backend_key_data(1, b"x" * 257)),
    "key without a pid": says(raw.auth_ok() + raw.message("K", b"\0")),
    "negotiation": says(raw.message("v", struct.pack("!ii", 3 << 16, 0))),
    "authentication behind its end": says(raw.auth_ok() + raw.auth_cleartext()),
    "in twice": says(raw.auth_ok() + raw.auth_ok()),
    "ready before it is in": says(raw.ready()),
    **{f"{name} in a login": says(raw.auth_ok() + text) for name, text in {
        "row": raw.data_row("x"), "description": raw.row_description("x"),
        "end of a command": raw.command_complete("SELECT 1"), "COPY": raw.message("G", b"\0\0\0"),
        "COPY of both": raw.message("W", b"\0\0\0"), "notification": raw.notification(1, "a", "b"),
        "nothing": raw.message("?")}.items()},
}


@pytest.mark.parametrize("lie", LOGIN_LIES)
def test_lies_in_a_login(turnstile, honest, lie):
    """The client hears that there is no server, in words that are well formed."""
    with raw.FakeServer(login=LOGIN_LIES[lie]) as liar:
        t = pooler_before(turnstile, liar, honest)
        with log_in(t, dbname=OTHER, timeout=5) as bystander:
            said = refused(t)
            assert len(said["C"]) == 5 and said["S"] == "FATAL" and said["M"]
            assert bystander.rows("still") == [("still",)]


@pytest.mark.parametrize("request_", [raw.auth_cleartext(), raw.auth_md5(SALT)], ids=["plain", "md5"])
def test_i6_a_password_is_sent_once(turnstile, honest, request_):
    """Or few bytes of a server that does not read would make us keep many."""
    login = says(request_ * 1000)
    with raw.FakeServer(login=login) as liar:
        t = pooler_before(turnstile, liar, honest)
        refused(t)
        wait_until(lambda: login.heard)
        assert {raw.kinds(heard) for heard in login.heard} == {"p"}


def test_i6_parameters_of_a_login_are_bounded(turnstile):
    """What a server reports while it lets us in is kept for clients, but not all of it."""
    def login(session):
        server._login_trust(session)

    with raw.FakeServer(login=login, parameters={f"p{i}": "x" * 1000 for i in range(2000)}) as server:
        t = turnstile(shop(server))
        with log_in(t) as client:
            assert 0 < len(client.parameters) < 100
            assert client.rows("in") == [("in",)]


def test_no_server_stands_for_its_clients_proof(turnstile):
    """An idle connection of the pool lets nobody in (pgpool's CVE-2025-46801)."""
    with raw.FakeServer() as server:
        t = turnstile(shop(server))
        with log_in(t) as client:
            assert client.rows("open") == [("open",)]
        for user, secret in (APP_USER, "wrong"), (APP_USER, ""), ("stranger", APP_PASSWORD):
            with raw.RawClient(t.port) as client:
                with pytest.raises(raw.LoginRefused, match="28P01"):
                    client.login(user, APP_DATABASE, secret)
        t.users[APP_USER] = "changed"
        t.reload()
        with pytest.raises(raw.LoginRefused, match="28P01"):
            log_in(t)
        with log_in(t, secret="changed") as client:
            assert client.rows("again") == [("again",)]
