# SPDX-License-Identifier: ISC
#
# test_cancel.py - a cancel request hits the statement of the one who asked, or nobody (I7).
import contextlib
import random
import select
import threading
import time

import pytest

import raw
from conftest import APP_DATABASE
from rig import backends, clients, log_in, pool_of, shop, sqlstate, wait_backends
from waiting import wait_until

SLEEP = raw.query("SELECT pg_sleep(30)")


def sleeping(primary):
    return backends(primary, "wait_event = 'PgSleep'")


@contextlib.contextmanager
def under_way(primary, client):
    """A statement of the client's that is not over before the block is."""
    with primary.connect(APP_DATABASE) as holder:
        holder.execute("SELECT pg_advisory_lock(1207)")
        client.send(raw.query("SELECT 'slow' FROM pg_advisory_xact_lock(1207)"))
        wait_until(lambda: backends(primary, "wait_event = 'advisory'"))
        yield


def no_cancel_is_on_its_way(t):
    return not pool_of(t, "cl_active_cancel_req") and not pool_of(t, "sv_active_cancel")


@pytest.mark.tsan
@pytest.mark.parametrize("version", [(3, 0), (3, 2)])
def test_i7_cancel_hits_the_statement_of_the_asker(primary, turnstile, version):
    t = turnstile(shop(primary))
    with log_in(t, version=version) as client, log_in(t) as other:
        other.send(SLEEP)
        client.send(SLEEP)
        wait_until(lambda: len(sleeping(primary)) == 2)
        client.cancel()
        assert sqlstate(client.until("Z")) == "57014"
        assert client.rows("SELECT 2") == [("2",)]
        assert len(sleeping(primary)) == 1
        other.cancel()
        assert sqlstate(other.until("Z")) == "57014"


def test_cancel_in_a_transaction(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("BEGIN")
        client.send(SLEEP)
        wait_until(lambda: sleeping(primary))
        client.cancel()
        messages = client.until("Z")
        assert sqlstate(messages) == "57014" and messages[-1].body == b"E"
        assert sqlstate(client.query("SELECT 2")) == "25P02"
        client.query("ROLLBACK")
        assert client.rows("SELECT 2") == [("2",)]


def test_cancel_of_an_extended_batch(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.send(raw.parse("", "SELECT pg_sleep(30)"), raw.bind(), raw.execute(),
                    raw.parse("", "SELECT 2"), raw.bind(), raw.execute(), raw.sync())
        wait_until(lambda: sleeping(primary))
        client.cancel()
        assert raw.kinds(client.until("Z")) == "12EZ"


@pytest.mark.parametrize("request_, kinds", [
    (raw.query("SELECT 2"), "EZ"),
    (raw.parse("", "SELECT 2") + raw.bind() + raw.execute() + raw.sync(), "EZ"),
])
def test_cancel_in_the_queue_is_answered_here(primary, turnstile, request_, kinds):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (holder, waiter):
        holder.query("BEGIN; SELECT 2")
        waiter.send(request_)
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        waiter.cancel()
        messages = waiter.until("Z")
        assert raw.kinds(messages) == kinds and sqlstate(messages) == "57014"
        assert holder.rows("SELECT 'untouched'") == [("untouched",)]
        holder.query("COMMIT")
        assert waiter.rows("SELECT 2") == [("2",)]


def test_i7_cancel_after_the_end_hits_nobody(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query("SELECT 2")
        with under_way(primary, other):
            for _ in range(5):
                client.cancel()
            wait_until(lambda: no_cancel_is_on_its_way(t))
        assert raw.find(other.until("Z"), "D")[0].row == ("slow",)


def test_i7_keys_of_others_and_of_nobody(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client, log_in(t) as gone:
        key = gone.pid, gone.key
        gone.close()
        with under_way(primary, client):
            for pid, secret in [key, (client.pid, gone.key), (client.pid, b"\0" * 4),
                                (client.pid, client.key + b"\0"), (client.pid, client.key[:3]),
                                (client.pid + 1, client.key), (backends(primary)[0], client.key)]:
                with raw.RawClient(t.port) as asker:
                    asker.send(raw.cancel_request(pid, secret))
                    asker.until_closed()
            wait_until(lambda: no_cancel_is_on_its_way(t))
        assert raw.find(client.until("Z"), "D")[0].row == ("slow",)


def test_client_that_leaves_has_its_statement_cancelled(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.send(SLEEP)
        wait_until(lambda: sleeping(primary))
        client.reset()
        assert other.rows("SELECT 2") == [("2",)]
    wait_backends(primary, 0, "wait_event = 'PgSleep'")


def test_cancel_to_a_named_host(primary, turnstile):
    t = turnstile(shop(primary, database={"host": "localhost"}))
    with log_in(t) as client:
        client.send(SLEEP)
        wait_until(lambda: sleeping(primary))
        client.cancel()
        assert sqlstate(client.until("Z")) == "57014"


def test_cancel_over_a_unix_socket(primary, turnstile):
    t = turnstile({**shop(primary), "databases": {APP_DATABASE: {"host": primary.dir,
                                                                "port": primary.port}}})
    with log_in(t) as client:
        client.send(SLEEP)
        wait_until(lambda: sleeping(primary))
        client.cancel()
        assert sqlstate(client.until("Z")) == "57014"


@pytest.mark.tsan
@pytest.mark.slow
def test_i7_storm(primary, turnstile):
    """Every cancelled statement was one whose client had asked since it was sent."""
    t = turnstile(shop(primary, {"default_pool_size": 5, "max_client_conn": 300}))
    began = time.monotonic()
    failures, counts = [], {"asked": 0, "cancelled": 0}

    def goes_on():
        lasted = time.monotonic() - began
        return lasted < 5 or (counts["cancelled"] <= 10 and lasted < 60)

    def client(seed):
        rng = random.Random(seed)
        with log_in(t, timeout=30) as c:
            while goes_on() and not failures:
                c.send(raw.query(f"SELECT {seed} FROM pg_sleep({rng.random() / 100})"))
                asked = rng.random() < 0.3
                if asked:
                    counts["asked"] += 1
                    c.cancel()
                messages = c.until("Z")
                state = sqlstate(messages)
                if state == "57014" and asked:
                    counts["cancelled"] += 1
                elif state or raw.find(messages, "D")[0].row != (str(seed),):
                    failures.append((seed, asked, messages))
                # What was asked may come late: the next statement is still this client's own.
                while asked and sqlstate(c.query("SELECT 2")) == "57014":
                    pass

    threads = [threading.Thread(target=client, args=[i], daemon=True) for i in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not any(thread.is_alive() for thread in threads)
    assert not failures and counts["cancelled"] > 10, (failures[:3], counts)


@pytest.mark.parametrize("sql, startup", [
    ("SELECT set_config('work_mem', '1234kB', false), pg_sleep(0.002)", {}),
    ("RESET ALL", {"options": "-c work_mem=5MB"}),
], ids=["survey", "restore"])
def test_i7_a_late_cancel_does_not_hit_what_is_asked_in_its_clients_name(
        primary, turnstile, sql, startup):
    t = turnstile(shop(primary))
    moments = random.Random(1)
    with log_in(t, **startup) as client:
        for _ in range(150):
            after = threading.Timer(moments.random() * 0.006, client.cancel)
            after.start()
            assert sqlstate(client.query(sql)) in (None, "57014")
            after.join()
            assert t.admin("SHOW PINS") == []


def test_i7_a_cancel_right_behind_its_request_is_not_too_early(primary, turnstile):
    """Both have arrived when either is looked at, and may be looked at in any order.

    The server itself may get the signal before it has read the request, and then ignores it.
    """
    t = turnstile(shop(primary, {"workers": 2}))
    too_early = 0
    with log_in(t) as client:
        for _ in range(60):
            client.send(raw.query("SELECT pg_sleep(20)"))
            client.cancel()
            while not select.select([client.sock], [], [], 1)[0]:
                too_early += 1
                client.cancel()
            assert sqlstate(client.until("Z")) == "57014"
    assert too_early <= 20


@pytest.mark.tsan
def test_the_process_ends_in_a_flood_of_cancels(primary, turnstile):
    """Of keys that nobody has, which is looked for until the last thread has ended."""
    t = turnstile(shop(primary, {"workers": 4}))
    over = threading.Event()

    def flood(seed):
        rng = random.Random(seed)
        while not over.is_set():
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                for _ in range(20):
                    asker = stack.enter_context(raw.RawClient(t.port))
                    asker.send(raw.cancel_request(rng.randrange(1 << 31), b"none"))

    threads = [threading.Thread(target=flood, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: any(row["items"] for row in t.admin("SHOW LISTS")
                               if row["list"] == "login_clients"))
        t.stop()
    finally:
        over.set()
        for thread in threads:
            thread.join()
