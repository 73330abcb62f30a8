# SPDX-License-Identifier: ISC
#
# test_hba.py - auth_type = hba: rules say who may come from where, and how it proves who it is.
#
# What each part of a rule means is tested in test/unit/test_hba.c.
import os
import pwd
import socket
import ssl

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from certificates import issue, make_authority
from machine import give_to_service_user, scratch_dir
from rig import log_in, shop
from test_login import conversation
from test_channel_binding import over_tls
from test_tls import Resuming, another_authority, certificates, connect, secured  # noqa: F401
from turnstile import ADMIN_USER
from waiting import wait_until

CONSOLE = (f"host pgturnstile {ADMIN_USER} 127.0.0.1/32 scram-sha-256\n"
           f"local pgturnstile {ADMIN_USER} scram-sha-256")
ME = pwd.getpwuid(os.geteuid()).pw_name


class Rules:
    """Files beside a pooler."""

    def __init__(self):
        self.dir = scratch_dir("hba")
        self.dir.chmod(0o755)

    def put(self, name, *lines):
        path = self.dir / name
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o644)
        give_to_service_user(path)
        return path

    def settings(self, *lines, ident=()):
        return {"auth_type": "hba", "auth_hba_file": self.put("hba.conf", CONSOLE, *lines),
                "auth_ident_file": self.put("ident.conf", *ident)}


@pytest.fixture
def rules():
    return Rules()


@pytest.fixture
def start(primary, turnstile, rules):
    def start_with(*lines, ident=(), users=None, **settings):
        return turnstile(shop(primary, {**rules.settings(*lines, ident=ident), **settings},
                              {"user": APP_USER, "password": APP_PASSWORD}),
                         {APP_USER: APP_PASSWORD, **(users or {})})
    return start_with


def asked(pooler, user=APP_USER, dbname=APP_DATABASE, **parameters):
    """The first message to who says so: a number of what is asked, or an SQLSTATE."""
    with raw.RawClient(pooler.port) as client:
        client.send(raw.startup({"user": user, "database": dbname, **parameters}))
        first = client.message()
        return first.fields["C"] if first.kind == "E" else first.number


def local(pooler, user, dbname=APP_DATABASE, **kwargs):
    """By its Unix socket."""
    return psycopg.connect(host=str(pooler.dir), port=pooler.port, user=user, dbname=dbname,
                           **kwargs)


@pytest.mark.parametrize(("method", "number"), [("trust", 0), ("password", 3), ("md5", 5),
                                                ("scram-sha-256", 10), ("reject", "28000")])
def test_the_rule_says_how(start, method, number):
    t = start(f"host all all 127.0.0.1/32 {method}")
    assert asked(t) == number
    if method != "reject":
        with log_in(t) as client:
            assert client.rows("SELECT 2") == [("2",)]


def test_the_first_rule_that_fits_decides(start):
    t = start(f"host {APP_DATABASE} anna all reject", f"host {APP_DATABASE} all all password",
              "host all all all scram-sha-256", users={"anna": "x", "bert": "x"})
    assert [asked(t, "anna"), asked(t, "bert"), asked(t, "bert", "other")] == ["28000", 3, 10]


def test_the_console_is_one_whatever_it_is_called(start):
    """Neither its other name nor a request for replication gets around its rules."""
    t = start("host pgbouncer clerk all reject", "host replication clerk all trust",
              "host all all all scram-sha-256", users={"clerk": "x"},
              admin_users=f"{ADMIN_USER}, clerk")
    assert asked(t, "clerk") == 10
    for console in "pgbouncer", "pgturnstile":
        for kind in "false", "true", "database":
            assert asked(t, "clerk", console, replication=kind) == "28000"


def test_without_a_rule_nobody_comes_in(start):
    t = start("local all all trust", "hostssl all all all trust", "host all all 10.99.0.0/16 trust")
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t)
    assert refused.value.fields["C"] == "28000"
    assert refused.value.fields["M"] == (
        f'no rule of auth_hba_file for host "127.0.0.1", user "{APP_USER}",'
        f' database "{APP_DATABASE}", no TLS')


@pytest.mark.parametrize("method", ["password", "md5", "scram-sha-256"])
def test_strangers_hear_the_same_as_wrong_passwords(start, method):
    t = start(f"host all all samehost {method}")
    known = conversation(t, APP_USER, APP_DATABASE)
    assert str(conversation(t, "apq", APP_DATABASE)).replace("apq", APP_USER) == str(known)


@pytest.mark.parametrize("where", ["samehost", "samenet", "all", "127.0.0.1/32",
                                   "127.0.0.1 255.255.255.255"])
def test_addresses(start, where):
    assert asked(start(f"host all all {where} scram-sha-256")) == 10


def test_users_of_a_file(start, rules):
    rules.put("users", "# ours", APP_USER)
    t = start("host all @users all scram-sha-256")
    assert (asked(t), asked(t, "other")) == (10, "28000")


def test_auth_query_with_rules(primary, start):
    """Who is not in auth_file is looked up, unless the rule needs no user."""
    primary.sql("DROP ROLE IF EXISTS hba_asker")
    primary.role("hba_asker", "asks", "SUPERUSER LOGIN")
    try:
        t = start("host all app all reject", "host all all all scram-sha-256", auth_user="hba_asker",
                  users={"hba_asker": "asks", APP_USER: ""})
        assert t.admin("SHOW AUTH_QUERY") == []
        assert asked(t, "nobody") == 10
        assert t.admin("SHOW AUTH_QUERY")[0]["lookups"] == 1
        assert asked(t, APP_USER) == "28000"
        assert t.admin("SHOW AUTH_QUERY")[0]["lookups"] == 1
    finally:
        primary.sql("DROP ROLE hba_asker")


# --- peer -----------------------------------------------------------------------------------------
def test_peer(start):
    t = start("local all all peer", users={ME: "x", "other": "x"})
    with local(t, ME) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (APP_USER,)
    with pytest.raises(psycopg.OperationalError, match='peer authentication failed for user "other"'):
        local(t, "other")
    assert asked(t) == "28000"


def test_peer_with_a_map(start):
    t = start("local all all peer map=us", ident=(f"us /^({ME[0]}).*$ \\1_app", f"us {ME} other",
                                                   f"them {ME} third"),
              users={f"{ME[0]}_app": "x", "other": "x", "third": "x"})
    for user in f"{ME[0]}_app", "other":
        local(t, user).close()
    for user in "third", ME:
        with pytest.raises(psycopg.OperationalError, match="peer authentication failed"):
            local(t, user)


def test_a_peer_has_to_be_a_user(start):
    t = start("local all all peer")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        local(t, ME)


# --- certificates ---------------------------------------------------------------------------------
def with_certificate(pooler, where, **kwargs):
    return connect(pooler, **{"sslmode": "require", "sslcert": where / "client.crt",
                              "sslkey": where / "client.key", **kwargs})


@pytest.fixture
def start_tls(start, certificates):  # noqa: F811
    def start_with(*lines, **kwargs):
        return start(*lines, **secured(certificates, "verify-ca",
                                       client_tls_ca_file=certificates / "ca.crt"), **kwargs)
    return start_with


def test_cert(start_tls, certificates):  # noqa: F811
    """The certificate is APP_USER's."""
    t = start_tls("hostssl all all all cert", users={"other": "x"})
    with with_certificate(t, certificates, password="") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        with_certificate(t, certificates, user="other")


def test_cert_with_a_map(start_tls, certificates):  # noqa: F811
    t = start_tls("hostssl all all all cert map=m", ident=("m /^(.*)$ \\1_too",),
                  users={f"{APP_USER}_too": "x"})
    with_certificate(t, certificates, user=f"{APP_USER}_too", password="").close()
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        with_certificate(t, certificates)


@pytest.fixture
def start_beside(start, certificates):  # noqa: F811
    """Where certificates are looked at if they are shown, and nobody has to use TLS."""
    def start_with(*lines, mode="allow", **kwargs):
        return start(*lines, **secured(certificates, mode, client_tls_ca_file=certificates / "ca.crt"), **kwargs)
    return start_with


NO_CERTIFICATE = {"sslcert": "", "sslkey": ""}


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_cert_beside_passwords(start_beside, certificates, mode):  # noqa: F811
    """A rule's certificate is asked of those whom the rule is for."""
    t = start_beside(f"hostssl all {APP_USER} all cert", "hostnossl all other all scram-sha-256",
                     "hostssl all other all scram-sha-256", f"hostnossl all {APP_USER} all scram-sha-256",
                     mode=mode, users={"other": "x"})
    with with_certificate(t, certificates, password="") as connection:
        assert connection.execute("SELECT 2").fetchone() == (2,)
    with pytest.raises(psycopg.OperationalError, match="FATAL: +connection requires a valid client certificate"):
        connect(t, sslmode="require", **NO_CERTIFICATE)
    connect(t, user="other", password="x", sslmode="require", **NO_CERTIFICATE).close()
    with_certificate(t, certificates, user="other", password="x").close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        with_certificate(t, certificates, user="other", password="wrong")
    for user, password in ((APP_USER, APP_PASSWORD), ("other", "x")):
        if mode == "require":
            with pytest.raises(psycopg.OperationalError, match="TLS is required"):
                connect(t, user=user, password=password, sslmode="disable")
        else:
            connect(t, user=user, password=password, sslmode="disable").close()


def test_how_one_without_a_certificate_is_refused(start_beside, certificates):  # noqa: F811
    t = start_beside("hostssl all all all scram-sha-256 clientcert=verify-ca")
    with over_tls(t) as client, pytest.raises(raw.LoginRefused) as refused:
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD)
    assert [refused.value.fields[field] for field in "SCM"] == [
        "FATAL", "28000", "connection requires a valid client certificate"]
    with_certificate(t, certificates).close()


@pytest.mark.parametrize("has_one", [False, True])
def test_direct_tls_spares_nobody_its_certificate(start_beside, certificates, has_one):  # noqa: F811
    t = start_beside(f"hostssl all {APP_USER} all cert")
    context = Resuming(certificates, with_certificate=has_one).context
    context.set_alpn_protocols(["postgresql"])
    with raw.RawClient(t.port, t.host) as client:
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        if has_one:
            assert client.login(APP_USER, APP_DATABASE, "").rows("SELECT 2")[0][0] == "2"
            return
        with pytest.raises(raw.LoginRefused, match="28000: connection requires a valid client certificate"):
            client.login(APP_USER, APP_DATABASE, "")


def test_a_certificate_that_nobody_vouches_for(start, start_beside, certificates):  # noqa: F811
    """Is refused in the handshake where certificates are asked for, and not seen where they are not."""
    strange = make_authority()
    issue(strange, "client", APP_USER)
    t = start_beside("hostssl all other all cert", "host all all all scram-sha-256")
    with pytest.raises(psycopg.OperationalError) as refused:
        with_certificate(t, strange)
    assert "FATAL" not in str(refused.value), "it had come to a login"
    with_certificate(t, certificates).close()
    t = start_beside("host all all all scram-sha-256")
    with_certificate(t, strange).close()


def test_a_map_of_those_who_prove_a_password_too(start_beside, certificates):  # noqa: F811
    t = start_beside("hostssl all all all scram-sha-256 clientcert=verify-full map=m",
                     ident=("m /^(.*)$ \\1_too",), users={f"{APP_USER}_too": "x"})
    with_certificate(t, certificates, user=f"{APP_USER}_too", password="x").close()
    for user, password, words in ((f"{APP_USER}_too", "y", "password"), (APP_USER, APP_PASSWORD, "certificate")):
        with pytest.raises(psycopg.OperationalError, match=f"{words} authentication failed"):
            with_certificate(t, certificates, user=user, password=password)


@pytest.mark.parametrize("file, is_let_in", [("ca.crt", False), ("both.crt", True)])
def test_a_certificate_of_a_rule_is_judged_by_the_ca_in_force(
        start_beside, certificates, another_authority, file, is_let_in):  # noqa: F811
    """Who has shaken hands before a reload; who comes behind it is judged in the handshake."""
    t = start_beside(f"hostssl all {APP_USER} all cert")
    with Resuming(certificates, with_certificate=True).connected(t) as client:
        t.reload({"pgturnstile": {"client_tls_ca_file": another_authority / file}})
        if is_let_in:
            client.login(APP_USER, APP_DATABASE, "")
            with_certificate(t, certificates, password="").close()
            return
        with pytest.raises(raw.LoginRefused, match="28000: connection requires a valid client certificate"):
            client.login(APP_USER, APP_DATABASE, "")
        with pytest.raises(psycopg.OperationalError):
            with_certificate(t, certificates, password="")


def test_no_tls_session_carries_a_certificate_over(start_beside, rules, certificates):  # noqa: F811
    """Neither one from before certificates were asked for, nor one with a certificate."""
    t = start_beside("host all all all scram-sha-256")
    client = Resuming(certificates)
    assert [client.resumes(t) for _ in range(2)] == [False, True]
    rules.put("hba.conf", CONSOLE, "hostssl all all all scram-sha-256 clientcert=verify-ca")
    t.reload()
    with pytest.raises(raw.LoginRefused, match="connection requires a valid client certificate"):
        client.resumes(t)
    assert not client.resumed
    client = Resuming(certificates, with_certificate=True)
    assert [client.resumes(t) for _ in range(3)] == [False, False, False]


def test_auth_type_cert(primary, turnstile, rules, certificates):  # noqa: F811
    """One rule for all, with its map; who comes by any other way does not come in."""
    def settings(**more):
        return secured(certificates, "verify-ca", client_tls_ca_file=certificates / "ca.crt",
                       auth_type="cert", **more)
    users = {APP_USER: APP_PASSWORD, "other": "x", f"{APP_USER}_too": "x"}
    entry = {"user": APP_USER, "password": APP_PASSWORD}
    for more, name, wrong in (
            ({}, APP_USER, "other"),
            ({"auth_ident_map": "m", "auth_ident_file": rules.put(
                "ident.conf", "m /^(.*)$ \\1_too")}, f"{APP_USER}_too", APP_USER)):
        t = turnstile(shop(primary, settings(**more), entry), users)
        with with_certificate(t, certificates, user=name, password="") as connection:
            assert connection.execute("SELECT 2").fetchone() == (2,)
        for kwargs in ({"user": wrong}, {"user": name, "sslmode": "disable", "sslcert": None,
                                         "sslkey": None}):
            with pytest.raises(psycopg.OperationalError,
                               match="certificate authentication failed|TLS is required"):
                with_certificate(t, certificates, **kwargs)
        with pytest.raises(psycopg.OperationalError, match="requires a valid client certificate"):
            psycopg.connect(host=str(t.dir), port=t.port, user=name, dbname=APP_DATABASE)


def test_auth_type_peer(primary, turnstile, rules):
    """By a Unix socket and a map; not by TCP, whatever the password."""
    t = turnstile(shop(primary, {"auth_type": "peer", "auth_ident_map": "m",
                                 "auth_ident_file": rules.put(
                                     "ident.conf", f"m /^({ME[:2]}.*)$ {APP_USER}")},
                       {"user": APP_USER, "password": APP_PASSWORD}), {"other": "x"})
    with psycopg.connect(host=str(t.dir), port=t.port, user=APP_USER, dbname=APP_DATABASE) as c:
        assert c.execute("SELECT 2").fetchone() == (2,)
    for host, user in ((str(t.dir), "other"), (t.host, APP_USER)):
        with pytest.raises(psycopg.OperationalError, match="peer authentication failed"):
            psycopg.connect(host=host, port=t.port, user=user, password=APP_PASSWORD,
                            dbname=APP_DATABASE)


@pytest.mark.parametrize("settings, words", [
    ({"auth_type": "cert"}, "auth_type: cert wants certificates, which .*: set client_tls_sslmode to "),
    ({"auth_type": "cert", "client_tls_sslmode": "allow"}, "auth_type: cert wants certificates, which .*: set client_tls_ca_file"),
    ({"auth_type": "peer", "auth_ident_map": "m"}, "auth_ident_map: .*needs auth_ident_file"),
])
def test_i8_what_such_a_type_lacks_is_said(primary, turnstile, settings, words):
    t = turnstile(shop(primary))
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        t.reload({"pgturnstile": settings})
    t.wait_log(words)


def test_clientcert_besides_a_password(start_tls, certificates):  # noqa: F811
    t = start_tls("hostssl all all all scram-sha-256 clientcert=verify-full", users={"other": "x"})
    with_certificate(t, certificates).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        with_certificate(t, certificates, password="wrong")
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        with_certificate(t, certificates, user="other", password="x")


def test_hostssl_and_hostnossl(start, certificates):  # noqa: F811
    t = start("hostssl all all all scram-sha-256", "hostnossl all all all reject",
              **secured(certificates, "allow"))
    connect(t, sslmode="require").close()
    assert asked(t) == "28000"


# --- reload ---------------------------------------------------------------------------------------
def test_i8_a_reload_with_faults_keeps_the_old_rules(start, rules):
    t = start("host all all all scram-sha-256")
    rules.put("hba.conf", CONSOLE, "host all +staff all trust", "host all all all trust",
              "host all all all nonsense")
    rules.put("ident.conf", "m /( x")
    with pytest.raises(psycopg.Error):
        t.reload()
    assert asked(t) == 10
    for line in ("hba.conf:3: +staff: groups are not supported",
                 "hba.conf:5: nonsense: there is no such method here",
                 "ident.conf:1: the regular expression makes no sense"):
        assert line in t.log_text()
    rules.put("ident.conf")
    rules.put("hba.conf", CONSOLE, "host all all all password")
    t.reload()
    assert asked(t) == 3


def test_i8_a_reload_in_the_middle_of_a_login(start, rules):
    """What was asked before is no proof by the new rules."""
    t = start("host all all all password")
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert client.message().number == 3
        rules.put("hba.conf", CONSOLE, "host all all all reject")
        t.reload()
        client.send(raw.password(APP_PASSWORD))
        assert client.message().fields["C"] == "57P01"


def test_a_session_from_before_certificates_were_asked_for(start, rules, certificates):  # noqa: F811
    """A reload asks for one while a client without one has shaken hands and said nothing yet."""
    t = start("host all all all scram-sha-256", **secured(certificates, "allow"))
    rules.put("hba.conf", CONSOLE, "hostssl all all all scram-sha-256 clientcert=verify-ca")
    with socket.create_connection((t.host, t.port), 10) as sock:
        sock.sendall(raw.SSL_REQUEST)
        assert sock.recv(1) == b"S"
        context = ssl.create_default_context(cafile=certificates / "ca.crt")
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            with local(t, ADMIN_USER, "pgturnstile", password=t.users[ADMIN_USER],
                       autocommit=True) as console:
                t.config["pgturnstile"].update(secured(
                    certificates, "verify-ca", client_tls_ca_file=certificates / "ca.crt"))
                t.write()
                console.execute("RELOAD")
            tls.sendall(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
            assert b"connection requires a valid client certificate" in tls.recv(1000)


def test_hba_needs_its_file(start):
    t = start("host all all all scram-sha-256")
    with pytest.raises(psycopg.Error):
        t.reload({"pgturnstile": {"auth_hba_file": ""}})
    assert "auth_type: hba needs its rules: set auth_hba_file" in t.log_text()


@pytest.mark.parametrize("rule", ["cert", "scram-sha-256 clientcert=verify-ca"])
@pytest.mark.parametrize("mode, words", [("disable", "client_tls_sslmode to "), ("require", "client_tls_ca_file")])
def test_what_a_rule_for_certificates_lacks_is_said(start, rules, certificates, mode, words, rule):  # noqa: F811
    t = start("host all all all scram-sha-256", **secured(certificates, mode))
    rules.put("hba.conf", CONSOLE, f"hostssl all all all {rule}")
    with pytest.raises(psycopg.Error):
        t.admin("RELOAD")
    t.wait_log(rf"pgturnstile.ini:\d+: auth_hba_file: .*hba.conf:3 wants a certificate, which .*: set {words}")


def test_the_rules_are_read_with_the_file_only(primary, turnstile, rules):
    t = turnstile(shop(primary, {**rules.settings("host all all all trust"),
                                 "auth_type": "scram-sha-256"}))
    with pytest.raises(psycopg.Error, match="write hba there"):
        t.admin("SET auth_type = 'hba'")
    assert asked(t) == 10


def test_operators_are_not_locked_out(start, rules):
    """pgturnstile's own system user gets in by the Unix socket whatever the rules say."""
    t = start("local all all reject", "host all all all reject")
    wait_until(lambda: t.log_contains("is ready"))
    if pwd.getpwuid(os.stat(f"/proc/{t.pid()}").st_uid).pw_name != ME:
        pytest.skip("the pooler runs as another user")
    with local(t, "pgturnstile", "pgturnstile", autocommit=True) as connection:
        assert connection.execute("SHOW VERSION").fetchone()
