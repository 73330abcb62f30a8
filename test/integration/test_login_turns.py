# SPDX-License-Identifier: ISC
#
# test_login_turns.py - how many logins are under way to one server, and who is next
# (server_login_concurrency, ADR 49).
#
# The server is a fake one that lets a session in when the test says so; but for the last test, whose is
# behind a bad road.
"""A pool for each of some users, all of which want to log in at once."""
import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, wait_nodes
from rough_road import RoughRoad
from waiting import wait_until

COUNT = 12
MOST = 3
OTHER = "books"


class Porter:
    """`login` of a FakeServer: counts who is at the door, and lets in whom the test lets in."""

    def __init__(self, hangs=lambda session: False):
        self.hangs, self.server = hangs, None
        self.at_door, self.most, self.let_in = 0, 0, []
        self._lock, self._open = threading.Lock(), threading.Semaphore(0)

    def __call__(self, session):
        with self._lock:
            self.at_door += 1
            self.most = max(self.most, self.at_door)
        try:
            if self.hangs(session):
                session.until_closed()
                raise EOFError("has hung")
            assert self._open.acquire(timeout=60)
            with self._lock:
                self.let_in.append(session.parameters["user"])
        finally:
            with self._lock:
                self.at_door -= 1
        self.server._login_trust(session)

    def open(self, count=1):
        self._open.release(count)


@contextlib.contextmanager
def door(**kwargs):
    porter = Porter(**kwargs)
    with raw.FakeServer(login=porter) as server:
        porter.server = server
        yield server, porter
        porter.open(1000)


def hall(server, **settings):
    """Two databases on one server, a pool of four for each user."""
    place = {"host": server.host, "port": server.port}
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": 4, "workers": 2,
                            "server_tls_sslmode": "disable", "server_login_concurrency": MOST,
                            "query_wait_timeout": 60, "server_login_retry": "100ms", **settings},
            "databases": {APP_DATABASE: place, OTHER: place}}


USERS = {f"{APP_USER}{n}": APP_PASSWORD for n in range(COUNT)}


def node_of(pooler, database=APP_DATABASE):
    return next(row for row in pooler.admin("SHOW NODES") if row["database"] == database)


def wait_logins(pooler, under_way, waiting):
    wait_until(lambda: (node_of(pooler)["logins"], node_of(pooler)["login_waits"]) == (under_way, waiting), 60,
               lambda: f"{node_of(pooler)}")


@contextlib.contextmanager
def guests(pooler, users, dbname=APP_DATABASE):
    """Futures of clients that log in, each in its own thread."""
    with ThreadPoolExecutor(len(users)) as threads, contextlib.ExitStack() as stack:
        def come(user):
            return stack.enter_context(log_in(pooler, user, dbname=dbname, timeout=60))

        yield [threads.submit(come, user) for user in users]


@pytest.mark.tsan
def test_i5_no_more_logins_at_a_time_than_the_server_is_to_have(turnstile):
    with door() as (server, porter):
        t = turnstile(hall(server), users=USERS)
        with guests(t, USERS) as coming:
            wait_logins(t, MOST, COUNT - MOST)
            assert node_of(t, OTHER)["logins"] == MOST  # the server is the same
            for n in range(1, COUNT + 1):
                porter.open()
                wait_until(lambda n=n: len(porter.let_in) == n, 60)
            for client in coming:
                assert client.result(60).rows("hello") == [("hello",)]
            assert porter.most == MOST
            assert sorted(porter.let_in) == sorted(USERS)
        wait_logins(t, 0, 0)


def test_logins_to_a_database_that_hang_do_not_keep_others_out(turnstile):
    with door(hangs=lambda session: session.parameters["database"] == APP_DATABASE) as (server, porter):
        t = turnstile(hall(server, server_connect_timeout=60), users=USERS)
        with guests(t, USERS) as hanging:
            wait_logins(t, MOST, COUNT - MOST)
            porter.open(1000)
            with guests(t, list(USERS)[:MOST + 1], OTHER) as coming:
                for client in coming:
                    assert client.result(30).rows("hello") == [("hello",)]
            wait_logins(t, MOST, COUNT - MOST)
            assert not any(client.done() for client in hanging)
            t.admin(f"KILL {APP_DATABASE}")
            for client in hanging:
                with pytest.raises((raw.LoginRefused, EOFError, ConnectionError)):
                    client.result(60)


def test_who_is_gone_takes_no_turn(turnstile):
    *leaving, last = list(USERS)[:6]
    with door() as (server, porter):
        t = turnstile(hall(server, server_login_concurrency=1), users=USERS)
        with contextlib.ExitStack() as stack:
            threads = stack.enter_context(ThreadPoolExecutor(len(leaving)))
            for n, user in enumerate(leaving):
                client = stack.enter_context(raw.RawClient(t.port, t.host, 60))
                threads.submit(client.login, user, APP_DATABASE, APP_PASSWORD)
                stack.callback(client.sock.shutdown, socket.SHUT_RDWR)
                wait_logins(t, 1, n)
        with guests(t, [last]) as (client,):
            wait_logins(t, 1, len(leaving))
            porter.open(2)  # the one that is under way, and the last
            assert client.result(60).rows("hello") == [("hello",)]
            assert porter.let_in == [leaving[0], last]


def test_more_places_by_reload(turnstile):
    with door() as (server, porter):
        t = turnstile(hall(server), users=USERS)
        with guests(t, USERS) as coming:
            wait_logins(t, MOST, COUNT - MOST)
            t.reload({"pgturnstile": {"server_login_concurrency": 0}})
            wait_logins(t, COUNT, 0)
            porter.open(COUNT)
            for client in coming:
                client.result(60)


def test_logins_that_hung_when_a_server_went_are_tried_anew_when_it_comes_back(primary, replica, turnstile):
    road = RoughRoad(primary)
    try:
        t = turnstile(shop(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms",
                                     "server_connect_timeout": 60, "query_wait_timeout": 60,
                                     "server_login_retry": "100ms"},
                           {"host": f"{road.host},{replica.host}", "port": f"{road.port},{replica.port}"}))
        wait_nodes(t, "primary", "replica")
        with log_in(t, timeout=50) as client:
            road.swallow(True)
            road.cut(1)
            wait_until(lambda: node_of(t)["servers"] == 0, 60)
            client.send(raw.query("CREATE TEMP TABLE hung (n int)"))
            wait_logins(t, 1, 0)
            wait_until(lambda: node_of(t)["role"] == "down", 60)
            road.swallow(False)
            assert raw.kinds(client.until("Z")) == "CZ"  # long before the login's time is over
    finally:
        road.remove()
