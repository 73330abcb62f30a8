# SPDX-License-Identifier: ISC
#
# test_flood.py - strangers that are many, from one address, and those who come from another.
import contextlib
import socket
import threading
import time

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import shop
from test_login import conversation
from waiting import wait_until

ASKER, ASKER_PASSWORD = "flood_asker", "asker-password"
USER, PASSWORD = "flood_anna", "anna's own"
HOME, ELSEWHERE, FURTHER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
HELD = "SELECT * FROM flood.held($1)"
SLOW = "SELECT * FROM flood.slow($1)"  # 50 in a second


@pytest.fixture(scope="module")
def server(primary):
    primary.role(ASKER, ASKER_PASSWORD, "SUPERUSER LOGIN")
    primary.role(USER, PASSWORD.replace("'", "''"))
    primary.sql("""
        CREATE SCHEMA flood;
        CREATE TABLE flood.asked (at serial, who text);
        CREATE FUNCTION flood.held(name text) RETURNS TABLE (u text, p text) LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_advisory_xact_lock_shared(4712);
                INSERT INTO flood.asked (who) VALUES (name);
                RETURN QUERY SELECT usename::text, passwd FROM pg_shadow WHERE usename = name;
            END $$;
        CREATE FUNCTION flood.slow(name text) RETURNS TABLE (u text, p text) LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_sleep(0.02);
                RETURN QUERY SELECT usename::text, passwd FROM pg_shadow WHERE usename = name;
            END $$""", dbname=APP_DATABASE)
    yield primary
    primary.sql("DROP SCHEMA flood CASCADE", dbname=APP_DATABASE)


@pytest.fixture
def pooler(server, turnstile):
    def start(settings=None):
        return turnstile(shop(server, {"auth_user": ASKER, "auth_query_ttl": "1h", **settings}),
                         {ASKER: ASKER_PASSWORD})
    return start


@contextlib.contextmanager
def held(server):
    """Lookups with HELD wait in the database."""
    with server.connect(APP_DATABASE) as holder:
        holder.execute("SELECT pg_advisory_lock(4712)")
        yield lambda: holder.execute("SELECT pg_advisory_unlock(4712)")


def come(t, user, source=HOME):
    """Connects and says who it is, without waiting for anything."""
    client = raw.RawClient(t.port, source=source)
    client.send(raw.startup({"user": user, "database": APP_DATABASE}))
    return client


def log_in(t, source=HOME, user=USER, secret=PASSWORD):
    with raw.RawClient(t.port, source=source) as client:
        client.login(user, APP_DATABASE, secret)


def console(t, what):
    """Over the Unix socket, where an operator gets in whoever else comes."""
    with psycopg.connect(host=str(t.dir), port=t.port, user="pgturnstile", dbname="pgturnstile",
                         autocommit=True) as connection:
        return connection.execute(what).fetchall()


def source(t):
    """(lookups so far, logins that wait)"""
    rows = [(int(row["lookups"]), int(row["waiting"])) for row in t.admin("SHOW AUTH_QUERY")]
    return rows[0] if rows else (0, 0)


# --- lookups -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_lookup_that_nobody_waits_for_is_not_made(server, pooler, how):
    t = pooler({"auth_query": HELD})
    with held(server) as let_go:
        crowd = [come(t, f"flood_{number}", ELSEWHERE) for number in range(100)]
        wait_until(lambda: source(t) == (1, 100))
        for client in crowd:
            getattr(client, how)()
        # Before their patience would have been at an end, which takes 5 s.
        wait_until(lambda: source(t) == (1, 0), 4)
        let_go()
        log_in(t)
    assert source(t) == (2, 0)


def test_one_who_waits_is_enough_for_a_lookup(server, pooler):
    t = pooler({"auth_query": HELD})
    with held(server) as let_go, come(t, "flood_first", ELSEWHERE), come(t, USER) as stays:
        come(t, USER, ELSEWHERE).close()
        wait_until(lambda: source(t) == (1, 2))
        let_go()
        assert stays.message().number == 10


def test_addresses_take_turns_in_lookups(server, pooler):
    """One with many names does not make another wait longer: it is the second that is looked up."""
    server.sql("TRUNCATE flood.asked", dbname=APP_DATABASE)
    t = pooler({"auth_query": HELD})
    with held(server) as let_go, contextlib.ExitStack() as crowd:
        for number in range(100):
            crowd.enter_context(come(t, f"flood_{number}", ELSEWHERE))
        wait_until(lambda: source(t) == (1, 100))
        client = crowd.enter_context(come(t, USER))
        third = crowd.enter_context(come(t, "flood_third", FURTHER))
        wait_until(lambda: source(t) == (1, 102))
        let_go()
        assert client.message().number == third.message().number == 10
        wait_until(lambda: source(t) == (102, 0))
    order = [who for who, in server.sql("SELECT who FROM flood.asked ORDER BY at",
                                        dbname=APP_DATABASE)]
    assert len(order) == 102
    # Either of the two may have come first, from another thread.
    assert max(order.index(USER), order.index("flood_third")) <= 3


def test_a_secret_that_is_kept_is_told_at_once(server, pooler):
    t = pooler({"auth_query": HELD})
    log_in(t)
    with held(server), contextlib.ExitStack() as crowd:
        for number in range(50):
            crowd.enter_context(come(t, f"flood_{number}", HOME))
        wait_until(lambda: source(t) == (2, 50))
        log_in(t)


def flood(t, over, stays):
    """New names from ELSEWHERE, as fast as they get in; some stay until they are answered."""
    crowd, number = [], 0
    while not over.is_set():
        number += 1
        with contextlib.suppress(OSError):
            client = come(t, f"flood_{number}", ELSEWHERE)
            if number % 2 == 0 and len(crowd) < stays:
                crowd.append(client)
            else:
                client.close()
    for client in crowd:
        client.close()
    return number


@pytest.mark.parametrize("settings", [{"max_client_conn": 1000}, {"max_client_conn": 100}], ids=["roomy", "narrow"])
def test_a_flood_of_strangers_keeps_no_user_of_another_address_out(server, pooler, settings):
    """Whether there are places for connections or not: it waits for its own lookup, and little else."""
    t = pooler({"auth_query": SLOW, "auth_query_ttl": 0, **settings})
    quiet = conversation(t, USER, APP_DATABASE)
    over = threading.Event()
    thread = threading.Thread(target=flood, args=(t, over, 600))
    thread.start()
    try:
        wait_until(lambda: dict(console(t, "SHOW LISTS"))["login_clients"] > 200)
        longest = 0
        for _ in range(10):
            began = time.monotonic()
            log_in(t)
            longest = max(longest, time.monotonic() - began)
        # The limit is client_login_timeout, a minute; a lookup waits 5 s at most.
        assert longest < 4
        for user in USER, "flood_anne":
            assert str(conversation(t, user, APP_DATABASE)).replace(user, USER) == str(quiet)
    finally:
        over.set()
        thread.join()
    assert t.is_running()
    wait_until(lambda: source(t)[1] == 0)


# --- connections --------------------------------------------------------------------------------------
def test_strangers_on_the_unix_socket_take_no_places(primary, turnstile):
    t = turnstile(shop(primary, {"max_client_conn": 100}))
    with contextlib.ExitStack() as crowd:
        for _ in range(600):
            client = crowd.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(f"{t.dir}/.s.PGSQL.{t.port}")
        wait_until(lambda: dict(console(t, "SHOW LISTS"))["login_clients"] == 600)
        log_in(t, HOME, APP_USER, APP_PASSWORD)


def test_who_is_turned_away_is_told_however_many_are(primary, turnstile):
    """256 may try, 256 take their time with reading that there are too many; the others are told in passing."""
    t = turnstile(shop(primary, {"max_client_conn": 100}))
    with contextlib.ExitStack() as crowd:
        clients = [crowd.enter_context(raw.RawClient(t.port)) for _ in range(600)]
        for client in clients:
            client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        told = [client.message() for client in clients]
        assert {m.fields["C"] for m in told if m.kind == "E"} == {"53300"}
        assert [m.kind for m in told].count("E") == 600 - 256
        # Nor has anybody's end come before the words.
        assert {m.kind for m in told} == {"E", "R"}


def test_an_address_leaves_room_for_strangers_of_others(primary, turnstile):
    """Of 512 places one may have half, the next one half of what is left."""
    t = turnstile(shop(primary, {"max_client_conn": 100}))

    def crowd_from(address, count):
        clients = [crowd.enter_context(raw.RawClient(t.port, source=address)) for _ in range(count)]
        for client in clients:
            client.send(b"\0")  # the kernel hands over no connection that says nothing at all
        return clients

    with contextlib.ExitStack() as crowd:
        first = crowd_from(ELSEWHERE, 300)
        wait_until(lambda: dict(console(t, "SHOW LISTS"))["login_clients"] == 256)
        crowd_from(FURTHER, 150)
        wait_until(lambda: dict(console(t, "SHOW LISTS"))["login_clients"] == 256 + 128)
        log_in(t, HOME, APP_USER, APP_PASSWORD)
        with pytest.raises(raw.LoginRefused, match="53300"):
            log_in(t, ELSEWHERE, APP_USER, APP_PASSWORD)
        for client in first:
            client.close()
        wait_until(lambda: dict(console(t, "SHOW LISTS"))["login_clients"] == 128)
        log_in(t, ELSEWHERE, APP_USER, APP_PASSWORD)
