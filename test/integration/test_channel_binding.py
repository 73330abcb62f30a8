# SPDX-License-Identifier: ISC
#
# test_channel_binding.py - SCRAM-SHA-256-PLUS: logins that are bound to their TLS connection.
#
# libpq and PostgreSQL say what is right; somebody in between must not get through.
"""Clients of libpq and of bytes, a PostgreSQL that speaks TLS, and one who ends TLS between two."""
import contextlib
import hashlib
import shutil
import socket
import ssl
import struct
import threading

import psycopg
import pytest

import raw
from certificates import issue, issue_by_itself, make_authority
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import give_to_service_user
from rig import log_in, shop
from test_tls import connect, secured
from waiting import wait_until

PLAIN, PLUS = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
BOUND = "p=tls-server-end-point,,"
# How a certificate is signed, and with which hash it is told from others; None: with none.
KINDS = {
    "rsa": (["-newkey", "rsa:2048", "-sha256"], "sha256"),
    "rsa-sha512": (["-newkey", "rsa:2048", "-sha512"], "sha512"),
    "rsa-pss": (["-newkey", "rsa:2048", "-sha384", "-sigopt", "rsa_padding_mode:pss"], "sha384"),
    "ecdsa": (["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-sha384"], "sha384"),
    "ed25519": (["-newkey", "ed25519"], None),
}
WITH_HASH = [kind for kind in KINDS if KINDS[kind][1]]


@pytest.fixture(scope="module")
def certificates():
    """A CA's, and one of each kind; `current` is a server's, which changes."""
    where = make_authority()
    issue(where, "server", "server")
    for kind, (how, _) in KINDS.items():
        issue_by_itself(where, kind, *how)
    issue_by_itself(where, "between", *KINDS["rsa"][0])
    return where


def put_in_place(certificates, name):
    for ending in ("key", "crt"):
        give_to_service_user(shutil.copy(certificates / f"{name}.{ending}", certificates / f"current.{ending}"))


@pytest.fixture(scope="module")
def tls_primary(certificates):
    put_in_place(certificates, "server")
    server = Postgres.primary("bound", {"ssl": "on", "ssl_cert_file": certificates / "current.crt",
                                        "ssl_key_file": certificates / "current.key"})
    server.role(APP_USER, APP_PASSWORD)
    server.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    yield server
    server.remove()


@pytest.fixture(scope="module")
def secret(tls_primary):
    """What both auth_file and the server have of APP_USER."""
    return tls_primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [APP_USER])


@contextlib.contextmanager
def over_tls(server):
    """A client that has shaken hands with a pooler or a server and said nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with raw.RawClient(server.port, server.host) as client:
        client.send(raw.SSL_REQUEST)
        assert client.receive(1) == b"S"
        client.sock = context.wrap_socket(client.sock)
        yield client


def end_point(client, algorithm="sha256"):
    return hashlib.new(algorithm, client.sock.getpeercert(True)).digest()


def show(server, certificates, name):
    """Have PostgreSQL show the certificate `name`; returns when it does."""
    put_in_place(certificates, name)
    server.sql("SELECT pg_reload_conf()")
    shown = ssl.PEM_cert_to_DER_cert((certificates / f"{name}.crt").read_text())

    def is_shown():
        with over_tls(server) as client:
            return client.sock.getpeercert(True) == shown
    wait_until(is_shown)


def mechanisms(client):
    client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
    asked = client.message()
    assert (asked.kind, asked.number) == ("R", 10), asked
    return [name for name in asked.body[4:].decode().split("\0") if name]


def prove(client, mechanism, scram):
    """From the mechanisms to the end; what is said then: None, or the fields of an error."""
    first = scram.client_first().encode()
    client.send(raw.message("p", mechanism, struct.pack("!i", len(first)) + first))
    answer = client.message()
    if answer.kind == "R":
        client.send(raw.message("p", scram.client_final(answer.body[4:].decode()).encode()))
        answer = client.message()
    if answer.kind == "R":
        scram.client_verify(answer.body[4:].decode())
        assert client.message().number == 0
        return None
    return answer.fields


# --- clients --------------------------------------------------------------------------------------
@pytest.mark.tsan
@pytest.mark.parametrize("kind", WITH_HASH)
def test_clients_that_require_it_log_in(primary, turnstile, certificates, kind):
    """libpq's own idea of which hash it is."""
    t = turnstile(shop(primary, secured(certificates, client_tls_cert_file=certificates / f"{kind}.crt",
                                        client_tls_key_file=certificates / f"{kind}.key")))
    with connect(t, sslmode="require", channel_binding="require") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(t, sslmode="require", channel_binding="require", password="wrong")
    # Who cannot, need not.
    with connect(t, sslmode="require", channel_binding="disable") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_what_has_no_hash_is_not_bound_to(primary, turnstile, certificates):
    """PostgreSQL offers it then as well, and no client of libpq gets in."""
    t = turnstile(shop(primary, secured(certificates, client_tls_cert_file=certificates / "ed25519.crt",
                                        client_tls_key_file=certificates / "ed25519.key")))
    with over_tls(t) as client:
        assert mechanisms(client) == [PLAIN]
    with connect(t, sslmode="require") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_it_is_offered_over_tls_only(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates, "allow")))
    with over_tls(t) as client:
        assert mechanisms(client) == [PLUS, PLAIN]
    with raw.RawClient(t.port) as client:
        assert mechanisms(client) == [PLAIN]
        assert prove(client, PLUS, raw.Scram(APP_PASSWORD, BOUND, BOUND.encode() + bytes(32)))["C"] == "08P01"


# Mechanism, header of the first message, what the last one is bound to; {} is the right digest.
FORMS = {
    "bound": (PLUS, BOUND, BOUND + "{}"),
    "not bound": (PLAIN, "n,,", "n,,"),
    "thinks that it is not offered": (PLAIN, "y,,", "y,,"),
    "selected, but not bound": (PLUS, "n,,", "n,,"),
    "selected, but thinks that it is not offered": (PLUS, "y,,", "y,,"),
    "bound, but not selected": (PLAIN, BOUND, BOUND + "{}"),
    "another type": (PLUS, "p=tls-unique,,", "p=tls-unique,,{}"),
    "no type": (PLUS, "p=,,", "p=,,{}"),
    "a type that only begins so": (PLUS, "p=tls-server-end-point-2,,", "p=tls-server-end-point-2,,{}"),
    "another digest": (PLUS, BOUND, BOUND + "x" * 32),
    "no digest": (PLUS, BOUND, BOUND),
    "more than the digest": (PLUS, BOUND, BOUND + "{}x"),
    "another header": (PLUS, BOUND, "n,,"),
    "a digest that it is not bound to": (PLAIN, "n,,", BOUND + "{}"),
    "another mechanism": (PLUS + "-PLUS", BOUND, BOUND + "{}"),
}


def told(server, mechanism, header, bound):
    with over_tls(server) as client:
        assert mechanisms(client) == [PLUS, PLAIN]
        bound = bound.encode("latin-1").replace(b"{}", end_point(client))
        fields = prove(client, mechanism, raw.Scram(APP_PASSWORD, header, bound))
    # Which message is malformed is said by us only.
    return fields and (fields["C"], fields["M"].split(" (")[0])


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_heard_as_by_postgresql(tls_primary, turnstile, certificates, form):
    show(tls_primary, certificates, "server")
    t = turnstile(shop(tls_primary, secured(certificates)))
    expected = told(tls_primary, *FORMS[form])
    assert (expected is None) == (form in ("bound", "not bound"))
    assert told(t, *FORMS[form]) == expected


def test_a_stranger_hears_of_it_what_a_wrong_password_hears(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates)))
    heard = []
    for user in (APP_USER, "nobody"):
        with over_tls(t) as client:
            client.send(raw.startup({"user": user, "database": APP_DATABASE}))
            assert client.message().number == 10
            fields = prove(client, PLUS, raw.Scram("wrong", BOUND, BOUND.encode() + end_point(client)))
            heard.append((fields["C"], fields["M"].replace(user, "")))
    assert heard[0] == heard[1] == ("28P01", 'password authentication failed for user ""')


def test_another_certificate_in_the_middle_of_a_login(primary, turnstile, certificates):
    """It is bound to the one that the client has seen; who comes next sees the other."""
    t = turnstile(shop(primary, secured(certificates)))
    with over_tls(t) as client:
        assert mechanisms(client) == [PLUS, PLAIN]
        before = end_point(client)
        t.reload({"pgturnstile": {"client_tls_cert_file": certificates / "rsa.crt",
                                  "client_tls_key_file": certificates / "rsa.key"}})
        assert prove(client, PLUS, raw.Scram(APP_PASSWORD, BOUND, BOUND.encode() + before)) is None
    with over_tls(t) as client:
        assert end_point(client) != before
    with connect(t, sslmode="require", channel_binding="require") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)


# --- one in between -------------------------------------------------------------------------------
class Between:
    """Ends TLS with a certificate of its own and begins it anew: passes logins on."""

    def __init__(self, server, certificates, name="between", edit=lambda body: body):
        """`edit` is given the list of mechanisms, as it stands in its message."""
        self._server, self._edit = server, edit
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[sock], daemon=True).start()

    def _serve(self, sock):
        with contextlib.suppress(OSError, EOFError), sock, over_tls(self._server) as server:
            while sock.recv(8) != raw.SSL_REQUEST:
                sock.sendall(b"N")
            sock.sendall(b"S")
            with raw.Stream(self._context.wrap_socket(sock, server_side=True)) as client:
                size = client.receive(4)
                server.send(size, client.receive(struct.unpack("!i", size)[0] - 4))
                while True:
                    self._pass_on(server, client)
                    server.send(client.message().raw)

    def _pass_on(self, server, client):
        """Up to what the client has to answer."""
        while True:
            got = server.message()
            if got.kind == "R" and got.number == 10:
                client.send(raw.message("R", got.body[:4] + self._edit(got.body[4:])))
            else:
                client.send(got.raw)
            if got.kind == "Z" or got.kind == "R" and got.number not in (0, 12):
                return


def without_plus(body):
    return body.replace(PLUS.encode() + b"\0", b"")


@pytest.mark.parametrize("edit, words", [(lambda body: body, "channel binding check failed"),
                                         (without_plus, "channel binding negotiation error")])
def test_nobody_ends_tls_before_the_pooler(primary, turnstile, certificates, edit, words):
    t = turnstile(shop(primary, secured(certificates)))
    with Between(t, certificates, edit=edit) as between:
        with pytest.raises(psycopg.OperationalError, match=words):
            connect(between, sslmode="require")
        # Who does not ask for it is passed on: the one in between is able to.
        connect(between, sslmode="require", channel_binding="disable").close()


@pytest.mark.parametrize("edit, words", [(lambda body: body, "channel binding check failed"),
                                         (without_plus, "channel binding negotiation error")])
def test_nobody_ends_tls_before_the_server(tls_primary, turnstile, certificates, edit, words):
    show(tls_primary, certificates, "server")
    with Between(tls_primary, certificates, edit=edit) as between:
        t = turnstile(shop(between, {"server_tls_sslmode": "require", "query_wait_timeout": "5s"}))
        with pytest.raises(raw.LoginRefused, match=words):
            log_in(t)


def test_a_certificate_without_a_hash_is_no_way_around_it(tls_primary, turnstile, certificates):
    """Whoever ends TLS has such a one made; our CA would not have."""
    show(tls_primary, certificates, "server")
    with Between(tls_primary, certificates, "ed25519") as between:
        t = turnstile(shop(between, {"server_tls_sslmode": "require", "query_wait_timeout": "5s"}))
        with pytest.raises(raw.LoginRefused, match="nobody vouches"):
            log_in(t)


# --- servers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", WITH_HASH)
@pytest.mark.parametrize("of_auth_file", ["password", "secret"])
def test_servers_that_offer_it(tls_primary, turnstile, certificates, secret, kind, of_auth_file):
    """With the password, and with the keys that the client's own login has shown."""
    show(tls_primary, certificates, kind)
    users = {APP_USER: APP_PASSWORD if of_auth_file == "password" else secret}
    t = turnstile(shop(tls_primary, {"server_tls_sslmode": "require", **secured(certificates)}), users)
    with connect(t, sslmode="require", channel_binding="require") as connection:
        assert connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


def test_a_server_whose_certificate_has_no_hash_and_is_vouched_for(tls_primary, turnstile, certificates):
    show(tls_primary, certificates, "ed25519")
    t = turnstile(shop(tls_primary, {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": certificates / "ed25519.crt"}))
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def test_a_server_that_changes_its_certificate(tls_primary, turnstile, certificates):
    """Each login is bound to what it has seen itself."""
    t = turnstile(shop(tls_primary, {"server_tls_sslmode": "require"}))
    for kind in ("rsa", "ecdsa", "rsa"):
        show(tls_primary, certificates, kind)
        t.admin(f"RECONNECT {APP_DATABASE}")
        with log_in(t) as client:
            assert client.rows("SELECT 2") == [("2",)]
