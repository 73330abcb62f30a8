# SPDX-License-Identifier: ISC
#
# test_tls.py - TLS on both sides, with certificates of its own.
"""psycopg (libpq) towards the pooler, and a PostgreSQL that speaks TLS behind it."""
import contextlib
import random
import socket
import ssl
import struct

import psycopg
import pytest

import raw
from certificates import issue, make_authority
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import give_to_service_user
from rig import log_in, shop
from tenancy import SETTING, tenants
from turnstile import ADMIN_USER
from waiting import wait_until


@pytest.fixture(scope="module")
def certificates():
    """A CA, and certificates of it for the pooler and for `app`."""
    where = make_authority()
    for name in ("server", "client"):
        issue(where, name, APP_USER)
    return where


def secured(certificates, mode="require", **settings):
    return {"client_tls_sslmode": mode, "client_tls_key_file": certificates / "server.key",
            "client_tls_cert_file": certificates / "server.crt", **settings}


def connect(pooler, **kwargs):
    return psycopg.connect(**{"host": "localhost", "hostaddr": "127.0.0.1", "port": pooler.port,
                              "user": APP_USER, "password": APP_PASSWORD, "dbname": APP_DATABASE,
                              **kwargs})


@pytest.mark.tsan
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_clients_by_tls(primary, turnstile, certificates, mode):
    t = turnstile(shop(primary, secured(certificates)))
    with connect(t, sslmode=mode, sslrootcert=certificates / "ca.crt") as connection:
        rows = connection.execute("SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n")
        assert len(rows.fetchall()) == 20000
        row, = [r for r in t.admin("SHOW CLIENTS") if r["user"] == APP_USER]
        assert row["tls"].startswith("TLSv1.3")


def test_plain_is_refused_where_tls_is_required(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates), None))
    with pytest.raises(psycopg.OperationalError, match="TLS is required"):
        connect(t, sslmode="disable")


def test_plain_is_fine_where_tls_is_allowed(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates, "allow")))
    with log_in(t) as client:
        assert client.rows("SELECT 1") == [("1",)]


@pytest.mark.parametrize("with_certificate", [True, False])
def test_verify_ca_wants_a_certificate_of_the_client(primary, turnstile, certificates, with_certificate):
    t = turnstile(shop(primary, secured(certificates, "verify-ca",
                                        client_tls_ca_file=certificates / "ca.crt")))
    extra = {"sslcert": certificates / "client.crt", "sslkey": certificates / "client.key"}
    if with_certificate:
        with connect(t, sslmode="require", **extra) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    else:
        with pytest.raises(psycopg.OperationalError):
            connect(t, sslmode="require", sslcert="", sslkey="")


def test_bytes_in_the_clear_behind_the_request_end_the_connection(primary, turnstile, certificates):
    """CVE-2021-23214 and its like: what was sent before the handshake must not count."""
    t = turnstile(shop(primary, secured(certificates)))
    with socket.create_connection((t.host, t.port), 10) as sock:
        sock.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f" + raw.query("SELECT 1"))
        answer = b""
        while piece := sock.recv(100):
            answer += piece
    assert answer in (b"", b"S")


def client_hello():
    """The first bytes of a handshake."""
    out = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["postgresql"])
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


@pytest.mark.parametrize("seed", range(3))
def test_garbage_in_a_handshake(primary, turnstile, certificates, seed):
    """Behind an SSLRequest and at once; whoever is in does not notice, and no password is asked for."""
    rng, t = random.Random(seed), turnstile(shop(primary, secured(certificates, "allow")))
    with connect(t, sslmode="require") as connection, log_in(t) as plain:
        for _ in range(60):
            hello = bytearray(client_hello())
            for _ in range(rng.randint(0, 3)):
                hello[rng.randrange(len(hello))] ^= 1 << rng.randrange(8)
            hello = hello[:rng.randint(1, len(hello))] + rng.randbytes(rng.choice([0, 0, 5, 20_000]))
            with raw.RawClient(t.port, timeout=1) as stranger:
                if rng.random() < 0.5:
                    stranger.send(raw.SSL_REQUEST)
                    assert stranger.receive(1) == b"S"
                with contextlib.suppress(OSError):
                    stranger.send(bytes(hello))
                    if rng.random() < 0.5:
                        stranger.sock.shutdown(socket.SHUT_WR)
                    else:
                        stranger.sock.settimeout(0.02)
                    assert not stranger.sock.recv(100).startswith(b"R")
        assert connection.execute("SELECT 2").fetchone() == (2,)
        assert plain.rows("SELECT 2") == [("2",)]
    with connect(t, sslmode="verify-full", sslrootcert=certificates / "ca.crt") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)


@pytest.mark.parametrize("alpn", [["postgresql"], None])
def test_direct_tls_needs_its_alpn(primary, turnstile, certificates, alpn):
    t = turnstile(shop(primary, secured(certificates)))
    context = ssl.create_default_context(cafile=certificates / "ca.crt")
    if alpn:
        context.set_alpn_protocols(alpn)
    with socket.create_connection((t.host, t.port), 10) as sock:
        if not alpn:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(sock, server_hostname="localhost").recv(1)
            return
        with context.wrap_socket(sock, server_hostname="localhost") as direct:
            assert direct.selected_alpn_protocol() == "postgresql"
            direct.sendall(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
            assert direct.recv(1) == b"R"


def test_certificates_are_read_again_on_reload(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates)))
    with connect(t, sslmode="verify-full", sslrootcert=certificates / "ca.crt") as before:
        with pytest.raises(psycopg.Error, match="nothing.crt"):
            t.reload({"pgturnstile": {"client_tls_cert_file": "/nothing.crt"}})
        assert before.execute("SELECT 1").fetchone() == (1,)
        with connect(t, sslmode="verify-full", sslrootcert=certificates / "ca.crt") as after:
            assert after.execute("SELECT 1").fetchone() == (1,)


def reload_by_socket(t, **settings):
    """Where it takes more by TCP than the test has."""
    t.config["pgturnstile"].update(settings)
    t.write()
    with psycopg.connect(host=str(t.dir), port=t.port, user=ADMIN_USER, password=t.users[ADMIN_USER],
                         dbname=t.console, autocommit=True) as console:
        console.execute("RELOAD")


@pytest.fixture(scope="module")
def another_authority(certificates):
    """Its CA, and a file with both."""
    where = make_authority()
    (where / "both.crt").write_bytes((where / "ca.crt").read_bytes() + (certificates / "ca.crt").read_bytes())
    give_to_service_user(where / "both.crt")
    return where


@pytest.mark.parametrize("step", ["handshake", "startup", "first"])
@pytest.mark.parametrize("file, is_let_in", [("ca.crt", False), ("both.crt", True)])
def test_a_certificate_is_judged_by_the_ca_in_force(primary, turnstile, certificates, another_authority,
                                                    step, file, is_let_in):
    """Who has shaken hands before a reload, and how far its login had come."""
    t = turnstile(shop(primary, secured(certificates, "verify-ca", client_tls_ca_file=certificates / "ca.crt")))
    scram = raw.Scram(APP_PASSWORD)
    first = scram.client_first().encode()
    steps = {"handshake": lambda: raw.startup({"user": APP_USER, "database": APP_DATABASE}),
             "startup": lambda: raw.message("p", "SCRAM-SHA-256", struct.pack("!i", len(first)) + first),
             "first": lambda: raw.message("p", scram.client_final(heard.body[4:].decode()).encode())}
    with Resuming(certificates, with_certificate=True).connected(t) as client:
        for behind, next_message in steps.items():
            if behind == step:
                reload_by_socket(t, client_tls_ca_file=another_authority / file)
            client.send(next_message())
            heard = client.message()
            if heard.kind == "E":
                break
        if heard.kind == "R":  # it is told that the proof was right
            heard = client.message()
        assert heard.kind == ("R" if is_let_in else "E")
        if not is_let_in:
            assert (heard.fields["C"], heard.fields["M"].split(" for")[0]) == (
                "28000", "connection requires a valid client certificate")


def test_tls_is_asked_for_in_the_middle_of_a_login(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates, "allow", auth_type="plain")))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert client.message().number == 3
        reload_by_socket(t, client_tls_sslmode="require")
        client.send(raw.password(APP_PASSWORD))
        assert client.message().fields["M"] == "TLS is required"


class Resuming:
    """Connections that begin with the TLS session of the one before, as Postgres drivers can."""

    def __init__(self, certificates, version=ssl.TLSVersion.TLSv1_3, with_certificate=False):
        self.context = ssl.create_default_context(cafile=certificates / "ca.crt")
        self.context.check_hostname = False
        self.context.maximum_version = version
        self.session = None
        if with_certificate:
            self.context.load_cert_chain(certificates / "client.crt", certificates / "client.key")

    @contextlib.contextmanager
    def connected(self, pooler, host="localhost"):
        """A client that has not logged in; `resumed` tells how it came to be."""
        with raw.RawClient(pooler.port) as client:
            client.send(raw.SSL_REQUEST)
            assert client.receive(1) == b"S"
            client.sock = self.context.wrap_socket(client.sock, server_hostname=host, session=self.session)
            self.resumed = client.sock.session_reused
            yield client
            self.session = client.sock.session

    def ask(self, pooler, sql="SELECT 2", **of_host):
        with self.connected(pooler, **of_host) as client:
            return client.login(APP_USER, APP_DATABASE, APP_PASSWORD).rows(sql)[0][0]

    def resumes(self, pooler):
        assert self.ask(pooler) == "2"
        return self.resumed


def test_a_tls_session_is_resumed(primary, turnstile, certificates):
    t = turnstile(shop(primary, secured(certificates)))
    client = Resuming(certificates)
    assert [client.resumes(t) for _ in range(3)] == [False, True, True]
    # It has proved nothing.
    with pytest.raises(raw.LoginRefused), client.connected(t) as stranger:
        assert client.resumed
        stranger.login(APP_USER, APP_DATABASE, "guessed")
    # Another certificate, maybe, and other rules.
    t.reload({"pgturnstile": {"client_tls_session_lifetime": "2h"}})
    assert [client.resumes(t) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("settings, options", [
    ({"client_tls_session_lifetime": 0}, {}),
    ({"client_tls_protocols": "tlsv1.2"}, {}),
    ({}, {"version": ssl.TLSVersion.TLSv1_2}),
    ({"client_tls_sslmode": "verify-ca"}, {"with_certificate": True})])
def test_no_tls_session_is_resumed(primary, turnstile, certificates, settings, options):
    t = turnstile(shop(primary, secured(certificates, client_tls_ca_file=certificates / "ca.crt") | settings))
    client = Resuming(certificates, **options)
    assert [client.resumes(t) for _ in range(3)] == [False, False, False]


def test_i1_a_resumed_tls_session_is_the_tenants_whose_host_it_asks_for(primary, turnstile, certificates):
    t = turnstile(by_host(primary, certificates))
    client = Resuming(certificates)
    for host, business_id in (("acme", "42"), ("globex", "7"), ("acme", "42")):
        assert client.ask(t, f"SHOW {SETTING}", host=f"{host}.db.example.com") == business_id
    assert client.resumed
    with pytest.raises(raw.LoginRefused, match="tenant"):
        client.ask(t, host="nobody.db.example.com")
    assert client.resumed


@pytest.fixture(scope="module")
def tls_primary(certificates):
    server = Postgres.primary("tls", {"ssl": "on", "ssl_cert_file": certificates / "server.crt",
                                      "ssl_key_file": certificates / "server.key"})
    server.role(APP_USER, APP_PASSWORD)
    server.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    yield server
    server.remove()


@pytest.mark.tsan
@pytest.mark.parametrize("mode, encrypted", [("disable", False), ("prefer", True), ("require", True),
                                             ("verify-ca", True), ("verify-full", True)])
def test_servers_by_tls(tls_primary, turnstile, certificates, mode, encrypted):
    t = turnstile(shop(tls_primary, {"server_tls_sslmode": mode,
                                     "server_tls_ca_file": certificates / "ca.crt"}))
    with log_in(t) as client:
        assert client.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [
            ("t" if encrypted else "f",)]
        # A cancel goes the same way as the connection that it is for.
        client.send(raw.query("SELECT pg_sleep(60)"))
        wait_until(lambda: tls_primary.value(
            "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
            " AND state = 'active'") == 1)
        client.cancel()
        assert raw.find(client.until("Z"), "E")[0].fields["C"] == "57014"


def test_a_server_whose_certificate_nobody_vouches_for_is_refused(tls_primary, turnstile, certificates):
    t = turnstile(shop(tls_primary, {"server_tls_sslmode": "verify-full",
                                     "server_tls_ca_file": certificates / "client.crt",
                                     "query_wait_timeout": "2s"}))
    with pytest.raises((raw.LoginRefused, EOFError, ConnectionError)):
        log_in(t)
    t.wait_log("certificate")


def test_a_server_without_tls_is_refused_where_it_is_required(primary, turnstile):
    t = turnstile(shop(primary, {"server_tls_sslmode": "require", "query_wait_timeout": "2s"}))
    with pytest.raises((raw.LoginRefused, EOFError, ConnectionError)):
        log_in(t)
    t.wait_log("does not support TLS")


def by_host(primary, certificates, mode="require"):
    return tenants(primary, secured(certificates, mode, tenant_by="sni",
                                    tenant_sni_suffix="db.example.com"))


@pytest.mark.parametrize("name, business_id", [("acme", "42"), ("GLOBEX", "7")])
def test_the_host_name_tells_the_tenant(primary, turnstile, certificates, name, business_id):
    t = turnstile(by_host(primary, certificates))
    with connect(t, host=f"{name}.db.example.com", sslmode="require") as connection:
        assert connection.execute(f"SHOW {SETTING}").fetchone() == (business_id,)


@pytest.mark.parametrize("host", ["nobody.db.example.com", "db.example.com", "acme.example.com",
                                  "x.acme.db.example.com", "127.0.0.1"])
def test_a_host_name_of_no_tenant_is_refused(primary, turnstile, certificates, host):
    t = turnstile(by_host(primary, certificates))
    with pytest.raises(psycopg.OperationalError, match="tenant"):
        connect(t, host=host, sslmode="require")


def test_without_tls_there_is_no_host_name(primary, turnstile, certificates):
    t = turnstile(by_host(primary, certificates, "allow"))
    with pytest.raises(psycopg.OperationalError, match="no tenant"):
        connect(t, host="acme.db.example.com", sslmode="disable")
