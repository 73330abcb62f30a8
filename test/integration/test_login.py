# SPDX-License-Identifier: ISC
#
# test_login.py - who is let in, what strangers learn, and how we log in to servers.
#
# Knows logins only; what a session may do is tested elsewhere.
"""Every way to prove who one is, on both sides, and every way to get it wrong."""
import base64
import contextlib
import hashlib
import itertools
import os
import signal
import socket
import ssl
import struct
import subprocess

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import give_to_service_user, scratch_dir
from rig import backends, log_in, shop
from waiting import wait_until

PASSWORD = "sésame, ouvre-toi \\ \"'"
# How a server asks; each is the name of a role that pg_hba.conf asks in that way.
SERVER_WAYS = ("trust", "password", "md5", "scram-sha-256")


def md5_secret(user, password):
    return "md5" + hashlib.md5((password + user).encode()).hexdigest()


@pytest.fixture(scope="module")
def roles(primary):
    """Roles u_trust, u_password …, with PASSWORD, that the server lets in in their own ways."""
    names = {way: "u_" + way.split("-", maxsplit=1)[0] for way in SERVER_WAYS}
    for way, name in names.items():
        stored = "md5" if way == "md5" else "scram-sha-256"
        with primary.connect() as connection:
            connection.execute(f"SET password_encryption = '{stored}'")
            connection.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                psycopg.sql.Identifier(name), psycopg.sql.Literal(PASSWORD)))
    primary.hba(*(f"host all {name} 127.0.0.1/32 {way}" for way, name in names.items()))
    yield names
    primary.hba()
    for name in names.values():
        primary.sql(f"DROP ROLE {name}")


def stored_secret(primary, user):
    return primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [user])


# --- clients --------------------------------------------------------------------------------------
# What auth_file has for them, and what is asked for then.
CLIENT_WAYS = [
    ("trust", "plain", 0), ("any", "plain", 0),
    ("plain", "plain", 3), ("plain", "md5", 3), ("plain", "scram", 3),
    ("md5", "plain", 5), ("md5", "md5", 5), ("md5", "scram", 10),
    ("scram-sha-256", "plain", 10), ("scram-sha-256", "scram", 10),
]


def secrets(primary, user="u_trust"):
    return {"plain": PASSWORD, "md5": md5_secret(user, PASSWORD),
            "scram": stored_secret(primary, user)}


@pytest.mark.parametrize(("auth_type", "kind", "request_code"), CLIENT_WAYS)
def test_client_is_let_in(primary, roles, turnstile, auth_type, kind, request_code):
    t = turnstile(shop(primary, {"auth_type": auth_type}),
                  {"u_trust": secrets(primary)[kind]})
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": "u_trust", "database": APP_DATABASE}))
        assert client.message().number == request_code
    with t.connect(APP_DATABASE, "u_trust", PASSWORD) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("u_trust",)


@pytest.mark.parametrize(("auth_type", "kind", "request_code"),
                         [way for way in CLIENT_WAYS if way[2]])
def test_wrong_password(primary, roles, turnstile, auth_type, kind, request_code):
    t = turnstile(shop(primary, {"auth_type": auth_type}),
                  {"u_trust": secrets(primary)[kind]})
    for wrong in ("wrong", "", PASSWORD + "x", secrets(primary)[kind] + "x"):
        with raw.RawClient(t.port) as client, pytest.raises(raw.LoginRefused) as refused:
            client.login("u_trust", APP_DATABASE, wrong)
        assert refused.value.fields["C"] == "28P01"


def test_secret_of_auth_file_is_no_password(primary, roles, turnstile):
    """Who has read a stored secret cannot log in with it."""
    for auth_type, kind in (("plain", "md5"), ("plain", "scram"), ("scram-sha-256", "scram")):
        stored = secrets(primary)[kind]
        t = turnstile(shop(primary, {"auth_type": auth_type}), {"u_trust": stored})
        with raw.RawClient(t.port) as client, pytest.raises(raw.LoginRefused):
            client.login("u_trust", APP_DATABASE, stored)


def test_an_auth_file_that_others_may_read_is_told(primary, turnstile):
    """It is read all the same: it was before."""
    t = turnstile(shop(primary))
    words = "userlist.txt: auth_file: its group or others may read or change it"
    assert not t.log_contains(words)
    (t.dir / "userlist.txt").chmod(0o644)
    t.admin("RELOAD")
    t.wait_log(words)
    log_in(t).close()
    t.stop()
    before = t.log_text().count(words)
    t.start()
    wait_until(lambda: t.log_text().count(words) == before + 1)


def test_user_without_a_password_is_nobody(primary, turnstile):
    for auth_type in ("plain", "md5", "scram-sha-256"):
        t = turnstile(shop(primary, {"auth_type": auth_type}), {"u_trust": ""})
        with raw.RawClient(t.port) as client, pytest.raises(raw.LoginRefused) as refused:
            client.login("u_trust", APP_DATABASE, "")
        assert refused.value.fields["C"] == "28P01"


# --- strangers ------------------------------------------------------------------------------------
def conversation(t, user, dbname, attempts=2):
    """What is said to a wrong password, without what is random; the same each time."""
    heard = []
    for _ in range(attempts):
        with raw.RawClient(t.port) as client:
            client.send(raw.startup({"user": user, "database": dbname}))
            first = client.message()
            heard.append((first.kind, first.number, len(first.body)))
            scram = raw.Scram("wrong")
            if first.number == 10:
                hello = scram.client_first().encode()
                client.send(raw.message("p", "SCRAM-SHA-256", struct.pack("!i", len(hello))
                                        + hello))
                server_first = client.message()
                salt = dict(p.split("=", 1) for p in server_first.body[4:].decode().split(","))
                heard.append((server_first.kind, server_first.number, len(server_first.body),
                              len(salt["s"]), salt["i"]))
                # A salt that changes from login to login would give the unknown away.
                heard.append(("salt", salt["s"]))
                client.send(raw.message("p", scram.client_final(
                    server_first.body[4:].decode()).encode()))
            elif first.number in (3, 5):
                client.send(raw.password("md5" + "0" * 32 if first.number == 5 else "wrong"))
            heard += [(m.kind, tuple(sorted(m.fields.items()))) for m in client.until_closed()]
    half = len(heard) // attempts
    assert heard[:half] == heard[half:]
    return [entry for entry in heard[:half] if entry[0] != "salt"]


def most_with(secret):
    """Users with whom most of a list has such a secret."""
    return {f"one of most {n}": secret for n in range(4)}


@pytest.mark.parametrize("kind", ["plain", "md5", "scram"])
@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_strangers_hear_the_same_as_wrong_passwords(primary, roles, turnstile, auth_type, kind):
    secret = secrets(primary)[kind]
    t = turnstile(shop(primary, {"auth_type": auth_type}),
                  {"u_trust": secret, **most_with(secret)})
    known = conversation(t, "u_trust", APP_DATABASE)
    # Of the same length, so that messages are.
    for user, dbname in (("u_turst", APP_DATABASE), ("u_trust", "no-db"), ("u_turst", "no-db")):
        heard = conversation(t, user, dbname)
        assert str(heard).replace("u_turst", "u_trust") == str(known)


def scram_of(t, user):
    """The salt and the iterations that somebody is told; None: it is not asked for SCRAM."""
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": user, "database": APP_DATABASE}))
        if client.message().number != 10:
            return None
        first = raw.Scram("").client_first().encode()
        client.send(raw.message("p", "SCRAM-SHA-256", struct.pack("!i", len(first)) + first))
        told = dict(part.split("=", 1) for part in client.message().body[4:].decode().split(","))
        return told["s"], told["i"]


@pytest.fixture
def salt_files():
    """Two of them."""
    paths = [scratch_dir("salt") / "salt" for _ in range(2)]
    for path in paths:
        path.write_bytes(os.urandom(16))
        path.chmod(0o600)
        give_to_service_user(path)
    return paths


@pytest.mark.parametrize("kept", ["file", "machine"])
def test_a_strangers_salt_outlives_the_process(primary, turnstile, salt_files, kept):
    """As a user's does; nor do two processes differ.  Who has another file has others."""
    if kept == "machine" and (not os.path.exists("/etc/machine-id") or os.path.getsize("/etc/machine-id") < 32):
        pytest.skip("this machine has no machine-id")
    settings = {"scram_salt_file": salt_files[0]} if kept == "file" else {}
    t = turnstile(shop(primary, settings))
    before = {user: scram_of(t, user) for user in ("nobody", "noone", APP_USER)}
    assert len(set(before.values())) == 3
    t.stop()
    t.start()
    another = turnstile(shop(primary, settings))
    for pooler in t, another:
        assert {user: scram_of(pooler, user) for user in before} == before
    another.reload({"pgturnstile": {"scram_salt_file": salt_files[1]}})
    assert scram_of(another, "nobody") != before["nobody"]
    another.admin("SET verbose = 1")
    assert scram_of(another, "nobody") != before["nobody"]


@pytest.mark.parametrize("text, mode", [(b"15 bytes of salt"[:15], 0o600), (b"x" * 16, 0o644)])
def test_i8_a_salt_file_that_is_none_refuses_the_reload(primary, turnstile, salt_files, text, mode):
    t = turnstile(shop(primary, {"scram_salt_file": salt_files[0]}))
    before = scram_of(t, "nobody")
    salt_files[1].write_bytes(text)
    salt_files[1].chmod(mode)
    with pytest.raises(psycopg.Error):
        t.reload({"pgturnstile": {"scram_salt_file": salt_files[1]}})
    t.wait_log("scram_salt_file")
    assert scram_of(t, "nobody") == before


def test_strangers_are_asked_as_most_are(primary, turnstile):
    """For SCRAM if most have such secrets, with their iterations; else for MD5, or with ours."""
    iterations = "4096", "5000", "6000"
    key = base64.b64encode(bytes(32)).decode()
    few, many = (f"SCRAM-SHA-256${n}:{key[:22]}==${key}:{key}" for n in iterations[:2])
    mixed = {**most_with(many), "few": few}
    for auth_type, users, expected in (
            ("md5", mixed, "5000"), ("scram-sha-256", mixed, "5000"),
            ("md5", {"few": few}, None), ("scram-sha-256", {"few": few}, "6000"),
            ("md5", {}, None), ("scram-sha-256", {}, "6000")):
        t = turnstile(shop(primary, {"auth_type": auth_type, "scram_iterations": iterations[2]}),
                      {"plain": "x", "none": "", **users})
        for user in "nobody", "none":
            told = scram_of(t, user)
            assert (told and told[1]) == expected, (auth_type, users, user)
        if users:
            assert scram_of(t, "few")[1] == "4096"


def test_set_scram_iterations_tells_nobody_who_is_there(primary, turnstile):
    """A secret that was made with another number is made again."""
    t = turnstile(shop(primary, {"scram_iterations": "5000"}))
    for iterations in "5000", "6000":
        t.admin(f"SET scram_iterations = {iterations}")
        assert [scram_of(t, user)[1] for user in (APP_USER, "nobody")] == [iterations] * 2


def test_unknown_database_is_told_to_friends_only(primary, turnstile):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client, pytest.raises(raw.LoginRefused) as refused:
        client.login(APP_USER, "no-such", APP_PASSWORD)
    assert refused.value.fields["C"] == "3D000"


# --- servers --------------------------------------------------------------------------------------
# Whether we can log in to a server that asks in a way, with what auth_file has.
WORKS = {
    "plain": {"trust", "password", "md5", "scram-sha-256"},
    "md5": {"trust", "md5"},
    # By the keys that the client's own login has shown.
    "scram": {"trust", "scram-sha-256"},
}


@pytest.mark.parametrize(("kind", "way"), itertools.product(WORKS, SERVER_WAYS))
def test_server_lets_us_in(primary, roles, turnstile, kind, way):
    user = roles[way]
    secret = {"plain": PASSWORD, "md5": md5_secret(user, PASSWORD),
              "scram": stored_secret(primary, user)}[kind]
    if kind == "scram" and way == "md5":
        secret = stored_secret(primary, roles["scram-sha-256"])  # the server has none
    t = turnstile(shop(primary, {"auth_type": "md5"}), {user: secret})
    with raw.RawClient(t.port) as client:
        if way in WORKS[kind]:
            client.login(user, APP_DATABASE, PASSWORD)
            assert client.rows("SELECT current_user") == [(user,)]
        else:
            with pytest.raises(raw.LoginRefused) as refused:
                client.login(user, APP_DATABASE, PASSWORD)
            assert refused.value.fields["C"].startswith("08")


def test_server_user_of_the_database(primary, roles, turnstile):
    """user= and password= of a database are the server's; the client proves something else."""
    t = turnstile(shop(primary, database={"user": roles["scram-sha-256"], "password": PASSWORD}),
                  {"bob": "bobs own"})
    with t.connect(APP_DATABASE, "bob") as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("u_scram",)


def test_scram_keys_of_another_secret_do_not_fit(primary, roles, turnstile):
    """The server's secret has another salt: it says no, and the client hears it."""
    user = roles["scram-sha-256"]
    t = turnstile(shop(primary), {user: stored_secret(primary, roles["trust"])})
    with raw.RawClient(t.port) as client, pytest.raises(raw.LoginRefused) as refused:
        client.login(user, APP_DATABASE, PASSWORD)
    assert user in refused.value.fields["M"] or refused.value.fields["C"].startswith("08")


# --- packets --------------------------------------------------------------------------------------
def test_i6_every_length_of_a_startup_packet(primary, turnstile):
    t = turnstile(shop(primary))
    lengths = [*range(0, 20), 9_999, 10_000, 10_001, 65_536, 0x7fffffff, 0x80000000, 0xffffffff]
    for length, code in itertools.product(lengths, (0x30000, 80877102, 80877103, 80877104, 0)):
        with raw.RawClient(t.port) as client:
            client.send(struct.pack("!II", length, code), b"x" * 12)
            client.sock.shutdown(socket.SHUT_WR)
            answers = []
            while piece := client.sock.recv(4096):
                answers.append(piece)
            assert b"".join(answers)[:1] in (b"", b"E", b"N"), (length, code)
    with log_in(t) as client:
        assert client.rows("SELECT 1") == [("1",)]


def test_too_long_startup_packet_is_refused_before_it_has_come(primary, turnstile):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(struct.pack("!II", 10_001, 0x30000))
        assert client.until_closed()[-1].fields["C"] == "08P01"


def test_too_long_proof_is_refused_before_it_has_come(primary, turnstile):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        client.message()
        client.send(b"p", struct.pack("!I", 1 << 30))
        assert client.until_closed()[-1].fields["C"] == "08P01"


SASL_GARBAGE = [
    b"", b"SCRAM-SHA-256\0", b"SCRAM-SHA-256\0\xff\xff\xff\xff", b"SCRAM-SHA-1\0\0\0\0\1n",
    b"SCRAM-SHA-256\0\0\0\0\5n,,n=", b"SCRAM-SHA-256\0\0\0\0\3n,,",
    b"SCRAM-SHA-256\0\0\0\0\x0an,a=,n=,r=",
    b"SCRAM-SHA-256\0\0\0\0\x0fp=tls-x,,n=,r=a", b"SCRAM-SHA-256\0\0\0\0\x0an,,m=1,n=,r=a",
]


@pytest.mark.parametrize("body", SASL_GARBAGE)
def test_garbage_instead_of_the_first_scram_message(primary, turnstile, body):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        client.message()
        client.send(raw.message("p", body))
        refused = client.until_closed()
        assert raw.kinds(refused) in ("E", "RE"), refused
    with log_in(t) as client:
        assert client.rows("SELECT 1") == [("1",)]


@pytest.mark.parametrize("final", [
    "", "c=biws", "c=biws,r={r}", "c=biws,r={r},p=", "c=biws,r={r},p=%%%", "c=biws,r={r},p=AAAA",
    "c=eSws,r={r},p=AAAA", "c=biws,r={r}x,p=AAAA", "r={r},c=biws,p=AAAA", "p=AAAA",
    "c=biws,r={r},x=1,p=AAAA", "c=biws,r={r},p=" + "A" * 60_000,
])
def test_garbage_instead_of_the_last_scram_message(primary, turnstile, final):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        client.message()
        hello = raw.Scram("x").client_first().encode()
        client.send(raw.message("p", "SCRAM-SHA-256", struct.pack("!i", len(hello)) + hello))
        nonce = client.message().body[4:].decode().split(",")[0][2:]
        client.send(raw.message("p", final.format(r=nonce).encode()))
        assert client.until_closed()[-1].fields["C"] in ("28P01", "08P01")


def test_second_startup_packet_at_every_step_of_a_login(primary, turnstile):
    """CVE-2026-107350 of PgBouncer: who has begun to log in cannot become somebody else."""
    t = turnstile(shop(primary), {"bob": "bobs own"})
    again = raw.startup({"user": "bob", "database": APP_DATABASE})
    for steps in range(2):
        with raw.RawClient(t.port) as client:
            client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
            client.message()
            scram = raw.Scram("bobs own")
            hello = scram.client_first().encode()
            if steps:
                client.send(raw.message("p", "SCRAM-SHA-256", struct.pack("!i", len(hello))
                                        + hello))
                client.message()
            client.send(again)
            assert client.until_closed()[-1].fields["C"] == "08P01"


def test_login_in_single_bytes_and_in_one_piece(primary, turnstile):
    t = turnstile(shop(primary, {"auth_type": "plain"}))
    packets = raw.startup({"user": APP_USER, "database": APP_DATABASE}) \
        + raw.password(APP_PASSWORD) + raw.query("SELECT 1")
    for pieces in ([packets], [bytes([b]) for b in packets]):
        with raw.RawClient(t.port) as client:
            for piece in pieces:
                client.send(piece)
            client.until("Z")
            assert raw.kinds(client.until("Z")) == "TDCZ"


# --- versions of the protocol ---------------------------------------------------------------------
@pytest.mark.parametrize(("version", "length"), [((3, 0), 4), ((3, 1), 4), ((3, 2), 32)])
def test_cancel_key_of_a_version(primary, turnstile, version, length):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD, version)
        assert len(client.key) == length
        client.send(raw.query("SELECT pg_sleep(30)"))
        wait_until(lambda: primary.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        client.cancel()
        assert raw.find(client.until("Z"), "E")[0].fields["C"] == "57014"


def test_cancel_keys_differ(primary, turnstile):
    t = turnstile(shop(primary, {"max_client_conn": 400}))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(log_in(t)) for _ in range(300)]
        pids, keys = [c.pid for c in clients], [c.key for c in clients]
        # Of 32 bits two may be the same, once in 10^5 times.
        assert min(pids) > 0 and len(set(pids)) == len(pids) and len(set(keys)) >= len(keys) - 1
        # Drawn, not counted: each bit is set in about half of them; in less than a fifth once in 10^25 times.
        for bit in range(8 * len(keys[0])):
            ones = sum(key[bit // 8] >> bit % 8 & 1 for key in keys)
            assert 60 < ones < 240, f"bit {bit} is set in {ones} of {len(keys)}"


@pytest.mark.parametrize("change", [
    lambda pid, key: (pid, key[:-1] + bytes([key[-1] ^ 1])), lambda pid, key: (pid, key[:2]),
    lambda pid, key: (pid, key + b"\0"), lambda pid, key: (pid ^ 1, key),
    lambda pid, key: (pid ^ 1 << 25, key), lambda pid, key: (0, key), lambda pid, key: (-1, key),
    lambda pid, key: (pid, key * 64), lambda pid, key: (pid, b""),
])
def test_i7_wrong_cancel_key_is_ignored_without_a_word(primary, turnstile, change):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.send(raw.query("SELECT pg_sleep(0.3)"))
        with raw.RawClient(t.port) as stranger:
            stranger.send(raw.cancel_request(*change(client.pid, client.key)))
            said = raw.kinds(stranger.until_closed())
            # A length that cannot be is a broken packet, whatever is in it.
            assert said in ("", "E")
        assert raw.kinds(client.until("Z")) == "TDCZ"


@pytest.mark.parametrize(("version", "extra", "newest", "options"), [
    ((3, 9999), {}, 2, []),
    ((3, 3), {}, 2, []),
    ((3, 0), {"_pq_.test_protocol_negotiation": ""}, 0, ["_pq_.test_protocol_negotiation"]),
    ((3, 2), {"_pq_.a": "1", "_pq_.b": "2"}, 2, ["_pq_.a", "_pq_.b"]),
    ((3, 9999), {"_pq_.test_protocol_negotiation": ""}, 2, ["_pq_.test_protocol_negotiation"]),
])
def test_version_is_negotiated(primary, turnstile, version, extra, newest, options):
    """Also libpq 19's grease: 3.9999 and a parameter that nobody knows."""
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE, **extra}, version))
        told = client.message()
        assert told.kind == "v"
        minor, count = struct.unpack_from("!ii", told.body)
        assert minor & 0xffff == newest
        assert told.body[8:].decode().split("\0")[:-1] == options and count == len(options)
        assert client.message().kind == "R"


def test_known_version_is_not_negotiated(primary, turnstile):
    t = turnstile(shop(primary))
    for version in ((3, 0), (3, 2)):
        with raw.RawClient(t.port) as client:
            client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}, version))
            assert client.message().kind == "R"


@pytest.mark.parametrize("version", [(2, 0), (4, 0), (0, 0), (1, 0), (1235, 0)])
def test_other_protocols_are_refused(primary, turnstile, version):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}, version))
        assert raw.kinds(client.until_closed()) == "E"


# --- TLS ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def certificate():
    """Our key and certificate for localhost, signed by itself."""
    folder = scratch_dir("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / "key", "-out",
                    folder / "cert", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                   check=True, capture_output=True)
    for name in ("key", "cert"):
        give_to_service_user(folder / name)
    return {"client_tls_key_file": folder / "key", "client_tls_cert_file": folder / "cert"}


def test_tls(primary, turnstile, certificate):
    t = turnstile(shop(primary, {"client_tls_sslmode": "require", **certificate}))
    with t.connect(APP_DATABASE, APP_USER, sslmode="verify-full",
                   sslrootcert=certificate["client_tls_cert_file"]) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        rows = connection.execute("SELECT 'x' FROM generate_series(1, 200000)").fetchall()
        assert len(rows) == 200_000
    with raw.RawClient(t.port) as client, pytest.raises(raw.LoginRefused, match="TLS is required"):
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD)


def test_cve_2021_3935_bytes_before_the_handshake_are_not_read_as_if_behind_it(
        primary, turnstile, certificate):
    t = turnstile(shop(primary, {"client_tls_sslmode": "prefer", **certificate}))
    with raw.RawClient(t.port) as client:
        client.send(raw.SSL_REQUEST, raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        said = b""
        try:
            while piece := client.sock.recv(100):
                said += piece
        except ConnectionError:
            pass
        assert said in (b"", b"S")
    assert t.is_running()


def test_direct_tls(primary, turnstile, certificate):
    """No SSLRequest: the handshake comes at once and has to name the protocol (libpq 17)."""
    t = turnstile(shop(primary, {"client_tls_sslmode": "require", **certificate}))
    context = ssl.create_default_context(cafile=certificate["client_tls_cert_file"])
    context.set_alpn_protocols(["postgresql"])
    with raw.RawClient(t.port) as client:
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        assert client.sock.selected_alpn_protocol() == "postgresql"
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD)
        assert client.rows("SELECT 1") == [("1",)]


def test_direct_tls_without_the_protocols_name(primary, turnstile, certificate):
    t = turnstile(shop(primary, {"client_tls_sslmode": "require", **certificate}))
    context = ssl.create_default_context(cafile=certificate["client_tls_cert_file"])
    with raw.RawClient(t.port) as client, pytest.raises((ssl.SSLError, OSError, EOFError)):
        client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD)


def test_certificate_is_read_again(primary, turnstile, certificate):
    """Sessions keep the one they began with."""
    folder = scratch_dir("tls")
    mine = {}
    for key, path in certificate.items():
        mine[key] = folder / path.name
        mine[key].write_bytes(path.read_bytes())
        give_to_service_user(mine[key])
    t = turnstile(shop(primary, {"client_tls_sslmode": "require", **mine}))
    with t.connect(APP_DATABASE, APP_USER, sslmode="require") as connection:
        subprocess.run(["openssl", "req", "-x509", "-key", mine["client_tls_key_file"], "-out",
                        mine["client_tls_cert_file"], "-days", "2", "-subj", "/CN=another"],
                       check=True, capture_output=True)
        t.reload()
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        t.connect(APP_DATABASE, APP_USER, sslmode="verify-full",
                  sslrootcert=certificate["client_tls_cert_file"])


# --- what has come by the time that a client is accepted -----------------------------------------
# Its first bytes are received there, without the loop; without any, it is accepted when it has sent some,
# or told not to wait for those.
STARTUP = raw.startup({"user": APP_USER, "database": APP_DATABASE})
LOGIN = STARTUP + raw.password(APP_PASSWORD)


@contextlib.contextmanager
def all_at_once(t, *first):
    """Clients who have said, each, one of `first` before they are accepted; None: nothing."""
    with contextlib.ExitStack() as stack:
        t.signal(signal.SIGSTOP)
        clients = [stack.enter_context(raw.RawClient(t.port, timeout=30)) for _ in first]
        for client, said in zip(clients, first):
            if said is not None:
                client.send(said)
        try:
            yield clients
        finally:
            t.signal(signal.SIGCONT)


@pytest.mark.tsan
@pytest.mark.parametrize("defers", [0, 1])
def test_the_first_bytes_come_with_the_client(primary, turnstile, defers):
    """All that it has to say, a part of that, or nothing: what is missing is waited for."""
    t = turnstile(shop(primary, {"auth_type": "plain", "tcp_defer_accept": defers, "default_pool_size": 6}))
    whole = LOGIN + raw.query("SELECT 2")
    cuts = [0, 1, 4, 8, len(STARTUP) - 1, len(STARTUP), len(STARTUP) + 1, len(LOGIN), len(whole) - 1, len(whole)]
    with all_at_once(t, *(whole[:cut] or None for cut in cuts)) as clients:
        t.signal(signal.SIGCONT)
        with log_in(t) as other:  # behind them in the queue
            assert other.rows("SELECT 3") == [("3",)]
        for client, cut in zip(clients, cuts):
            client.send(whole[cut:])
            client.until("Z")
            assert raw.find(client.until("Z"), "D")[0].row == ("2",)


@pytest.mark.parametrize("garbage", [b"\0\0\0\0", b"\xff" * 8, b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\x08\0\0\0\0",
                                     b"\x16\x03\x01\0\x05hello", b"\x80" * 20_000])
def test_garbage_that_comes_with_the_client(primary, turnstile, garbage):
    """It ends whose it is, where it is accepted; those around it come in."""
    t = turnstile(shop(primary, {"auth_type": "plain", "tcp_defer_accept": 0}))
    with all_at_once(t, LOGIN, garbage, LOGIN) as (before, wrong, behind):
        t.signal(signal.SIGCONT)
        with contextlib.suppress(ConnectionError):  # reset, where more has come than is read
            assert raw.kinds(wrong.until_closed()) in ("", "E")
        for client in before, behind:
            client.until("Z")
            assert client.rows("SELECT 2") == [("2",)]


@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("said", [None, STARTUP[:5], STARTUP, LOGIN, raw.SSL_REQUEST, raw.cancel_request(1, b"none")],
                         ids=["nothing", "a part", "startup", "login", "TLS", "cancel"])
def test_who_has_left_before_it_is_accepted(primary, turnstile, said, by_reset):
    """Nothing of it stays, and others come in."""
    t = turnstile(shop(primary, {"auth_type": "plain", "tcp_defer_accept": 0}))
    with all_at_once(t, LOGIN, said, LOGIN) as (before, gone, behind):
        (gone.reset if by_reset else gone.close)()
        t.signal(signal.SIGCONT)
        for client in before, behind:
            client.until("Z")
            assert client.rows("SELECT 2") == [("2",)]
        wait_until(lambda: len([c for c in t.admin("SHOW CLIENTS") if c["user"] == APP_USER]) == 2)


def test_a_cancel_request_comes_with_its_connection(primary, turnstile):
    t = turnstile(shop(primary, {"auth_type": "plain"}))
    with log_in(t) as client:
        client.send(raw.query("SELECT pg_sleep(600)"))
        wait_until(lambda: backends(primary, "state = 'active'"))
        with all_at_once(t, raw.cancel_request(client.pid, client.key)) as (asker,):
            t.signal(signal.SIGCONT)
            assert asker.until_closed() == []
        assert [m.fields["C"] for m in raw.find(client.until("Z"), "E")] == ["57014"]


@pytest.mark.parametrize("cut", [1, 5, None])
@pytest.mark.parametrize("direct", [False, True])
def test_tls_that_comes_with_the_client(primary, turnstile, certificate, direct, cut):
    """Its first byte, which tells a handshake from a request for one, is looked at where it is accepted."""
    t = turnstile(shop(primary, {"client_tls_sslmode": "require", **certificate}))
    context = ssl.create_default_context(cafile=certificate["client_tls_cert_file"])
    context.set_alpn_protocols(["postgresql"])
    said = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    first, answer = (said.read(), b"\x16") if direct else (raw.SSL_REQUEST, b"S")
    with all_at_once(t, first[:cut]) as (client,):
        t.signal(signal.SIGCONT)
        with t.connect(APP_DATABASE, APP_USER, sslmode="require") as other:  # behind it in the queue
            assert other.execute("SELECT 3").fetchone() == (3,)
        client.send(first[len(first[:cut]):])
        assert client.receive(1) == answer


# --- the console without a password ---------------------------------------------------------------
def test_our_own_user_on_the_unix_socket(primary, turnstile):
    t = turnstile(shop(primary))
    with psycopg.connect(host=str(t.dir), port=t.port, user="pgbouncer", dbname="pgbouncer",
                         autocommit=True) as connection:
        assert connection.execute("SHOW VERSION").fetchall()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=t.host, port=t.port, user="pgbouncer", dbname="pgbouncer")
    if os.getuid() == 0:
        tried = subprocess.run(["setpriv", "--reuid", "65534", "--clear-groups", "--", "psql", "-w",
                                "-X", "-h", t.dir, "-p", str(t.port), "-U", "pgbouncer",
                                "pgbouncer", "-c", "SHOW VERSION"],
                               capture_output=True, check=False)
        assert tried.returncode != 0
