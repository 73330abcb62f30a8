# SPDX-License-Identifier: ISC
#
# test_secrets_in_memory.py - what a login needs is gone when it has ended.
#
# Looks into the process, at all that it may write. Knows nothing of how it keeps what.
"""A secret that is sent once, or stood in a file once, is looked for in the memory of the pooler."""
import base64
import contextlib
import hashlib
import hmac
import os
import re
import secrets

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop
from test_channel_binding import over_tls
from test_jwt import SECRET, Keys, token
from test_tls import certificates, secured  # noqa: F401
from waiting import wait_until

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="looks into another process's memory: root")

USER = "reader"
SERVER = {"user": APP_USER, "password": APP_PASSWORD}
# A part of a secret is one, too: what has been overwritten at its beginning still is.
PIECE = 12
# A sanitizer's own, which is not looked at.
HUGE = 1 << 30
PAGE = os.sysconf("SC_PAGESIZE")


def stored(password):
    """What PostgreSQL stores of it."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    salt, stored_key, server_key = (base64.b64encode(part).decode() for part in (
        salt, hashlib.sha256(client_key).digest(), server_key))
    return f"SCRAM-SHA-256$4096:{salt}${stored_key}:{server_key}"


def client_key(stored_secret, password):
    """With which one logs in as who has the password, as long as that is what is stored of it."""
    rounds, salt = stored_secret.split("$")[1].split(":")
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(salt), int(rounds))
    return hmac.digest(salted, b"Client Key", "sha256")


def writable(pid):
    """The name and the bytes of each piece of memory that the process may write, and has."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory, \
            open(f"/proc/{pid}/pagemap", "rb", 0) as pages:
        for line in maps:
            place, rights, *rest = line.split()
            start, end = (int(number, 16) for number in place.split("-"))
            if "w" not in rights or end - start > HUGE:
                continue
            pages.seek(start // PAGE * 8)
            # The uppermost bit of an entry: the page is there.
            for run in re.finditer(rb"[\x80-\xff]+", pages.read((end - start) // PAGE * 8)[7::8]):
                with contextlib.suppress(OSError):
                    memory.seek(start + run.start() * PAGE)
                    yield rest[3] if len(rest) > 3 else "", memory.read(len(run[0]) * PAGE)


def traces(pooler, secret):
    """Where a part of it is: with what stands before it, for whoever mends it."""
    secret = secret.encode() if isinstance(secret, str) else secret
    pieces = [secret[at:at + PIECE] for at in range(0, len(secret) - PIECE + 1, PIECE // 2)]
    return [(name, data[max(at - 32, 0):at + PIECE + 8]) for name, data in writable(pooler.pid())
            for piece in pieces for at in [data.find(piece)] if at >= 0]


def wait_no_traces(pooler, secret):
    wait_until(lambda: not traces(pooler, secret), 10, lambda: f"no trace of it, but {traces(pooler, secret)[:6]}")


def drawn():
    return secrets.token_urlsafe(30)


# --- what clients send ----------------------------------------------------------------------------
@contextlib.contextmanager
def arrived(pooler, by_tls):
    with over_tls(pooler) if by_tls else raw.RawClient(pooler.port, pooler.host) as client:
        yield client


def say(client, secret, in_pieces):
    """The secret as it is asked for; in pieces that each arrive by themselves."""
    client.send(raw.startup({"user": USER, "database": APP_DATABASE}))
    assert client.message().number == 3
    packet = raw.password(secret)
    sizes = [3, 10, 20, len(packet)] if in_pieces else [len(packet)]
    for begin, end in zip([0, *sizes], sizes):
        client.send(packet[begin:end])
        if end < len(packet):
            client.settle()


WAYS = ["plain", "jwt"]


@pytest.fixture
def settings_of():
    """For each way: settings, and what a good secret is."""
    keys = Keys()
    jwt = {"auth_type": "jwt", "jwt_audience": "shop-db", "jwt_secret_file": keys.put("secret", SECRET + "\n")}
    return {"plain": ({"auth_type": "plain"}, drawn()), "jwt": (jwt, token({"role": USER, "salt": drawn()}))}


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("by_tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("way", WAYS)
def test_i9_what_a_client_has_sent_is_gone(primary, turnstile, certificates, settings_of,  # noqa: F811
                                           way, by_tls, in_pieces):
    """Whether it was right or not; and while the session goes on."""
    settings, good = settings_of[way]
    t = turnstile(shop(primary, {**secured(certificates, "allow"), **settings}, SERVER),
                  {USER: stored(good) if way == "plain" else "x"})
    wrong = good[::-1]
    with arrived(t, by_tls) as client:
        client.settle = lambda: wait_until(lambda: traces(t, good) is not None)
        say(client, good, in_pieces)
        client.until("Z")
        wait_no_traces(t, good)
        assert client.rows("SELECT 1") == [("1",)]
    with arrived(t, by_tls) as client:
        client.settle = lambda: None
        say(client, wrong, in_pieces)
        assert client.until_closed()[-1].fields["C"] == "28P01"
    wait_no_traces(t, wrong)


# --- what stands in files -------------------------------------------------------------------------
@pytest.mark.parametrize("place", ["database", "auth_file", "monitor_password", "auth_file, of a server"])
def test_i9_what_stood_in_a_file_is_gone_when_it_has_been_replaced(primary, turnstile, place):
    old, new = drawn(), drawn()
    role = f"memory_{place[:8]}_{len(place)}"
    primary.role(role, old)
    of_database = {"user": role} if "server" in place else SERVER
    t = turnstile(shop(primary, {}, {"user": role, "password": old} if place == "database" else of_database),
                  {APP_USER: APP_PASSWORD, role: old if "auth_file" in place else "x"})
    try:
        if place == "monitor_password":
            t.reload({"pgturnstile": {"monitor_user": role, "monitor_password": old}})
        with log_in(t) as client:
            assert client.rows("SELECT 1") == [("1",)]
        assert traces(t, old), "it is not looked for where it is"
        primary.sql(f"ALTER ROLE {role} PASSWORD '{new}'")
        if "auth_file" in place:
            t.users[role] = new
        changes = {"database": {"databases": {APP_DATABASE: {**t.config["databases"][APP_DATABASE], "password": new}}},
                   "monitor_password": {"pgturnstile": {"monitor_password": new}}}
        t.reload(changes.get(place))
        with log_in(t) as client:
            assert client.rows("SELECT 1") == [("1",)]
        wait_no_traces(t, old)
    finally:
        t.stop()
        primary.sql(f"DROP ROLE {role}")


# --- what pools log in with -----------------------------------------------------------------------
# How a client logs in, and how servers ask.
POOL_WAYS = {"password": ("plain", "scram-sha-256"), "password, in the clear": ("plain", "password"),
             "key": ("scram-sha-256", "scram-sha-256")}


@pytest.mark.parametrize("moves", [False, True], ids=["stays", "moves"])
@pytest.mark.parametrize("way", POOL_WAYS)
def test_i9_what_a_pool_logs_in_with_is_gone_with_it(primary, turnstile, way, moves):
    """In the process, too, that a session with its passport has come to."""
    of_clients, of_servers = POOL_WAYS[way]
    role, password = f"memory_pool_{len(way)}", drawn()
    primary.role(role, password)
    primary.hba(f"host all {role} 127.0.0.1/32 {of_servers}")
    kept = primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [role])
    secret = client_key(kept, password) if way == "key" else password
    config = shop(primary, {"auth_type": of_clients})
    config["databases"]["another"] = config["databases"][APP_DATABASE]
    t = turnstile(config, {role: kept})
    try:
        with log_in(t, role, password) as client:
            assert client.rows("SELECT 1") == [("1",)]
            if moves:
                before = t.take_over()
                assert before.wait(30) == 0
                assert client.rows("SELECT 1") == [("1",)]
            assert traces(t, secret), "it is not looked for where it is"
            t.reload({"databases": {APP_DATABASE: None}})
            client.until_closed()
        wait_no_traces(t, secret)
    finally:
        t.stop()
        primary.hba()
        primary.sql(f"DROP ROLE {role}")
