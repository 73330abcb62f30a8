# SPDX-License-Identifier: ISC
#
# test_pooling.py - which client gets a server, when, and how many servers there are.
"""Pool modes, sizes, queue, lifetimes; I5: never more server connections than configured."""
import resource
import threading

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import (backends, clients, log_in, pid_of, pool_of, shop, sqlstate, wait_backends)
from waiting import wait_until


class Watch:
    """Counts the application's sessions on the server as often as it can.

    A look is no moment: one may have gone while another came.  Who is there in two looks, one after
    the other, was there between them.
    """

    def __init__(self, primary):
        self._primary, self._stop, self.most, self.samples = primary, threading.Event(), 0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        before = set()
        with self._primary.connect() as connection:
            while not self._stop.is_set():
                now = set(connection.execute(
                    "SELECT pid, backend_start FROM pg_stat_activity WHERE backend_type ="
                    " 'client backend' AND usename LIKE 'app%'").fetchall())
                self.most, self.samples = max(self.most, len(now & before)), self.samples + 1
                before = now

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)


def in_threads(count, function):
    """Run function(i) in `count` threads; the first failure is raised again."""
    failures = []

    def guarded(i):
        try:
            function(i)
        except BaseException as failure:  # whatever it is, the test has to hear of it
            failures.append(failure)

    threads = [threading.Thread(target=guarded, args=[i], daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


# --- modes ---------------------------------------------------------------------------------------
def test_session_mode(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "session"}))
    with log_in(t) as client, log_in(t) as other:
        pid = pid_of(client)
        assert pid_of(other) != pid
        client.query("CREATE TEMP TABLE mine (); PREPARE s AS SELECT 1; SET work_mem = '1MB'")
        client.send(raw.parse("named", "SELECT 'named'"), raw.sync())
        client.until("Z")
        client.send(raw.bind("", "named"), raw.execute(), raw.sync())
        assert raw.find(client.until("Z"), "D")[0].row == ("named",)
        assert client.rows("EXECUTE s") == [("1",)] and client.rows("SELECT FROM mine") == []
        assert pid_of(client) == pid
        with log_in(t) as third:
            third.send(raw.query("SELECT pg_backend_pid()"))
            wait_until(lambda: pool_of(t, "cl_waiting") == 1)
            client.close()
            assert raw.find(third.until("Z"), "D")[0].row == (str(pid),)
            assert third.rows("SHOW work_mem") == [("4MB",)]
            assert third.rows("SELECT count(*) FROM pg_prepared_statements") == [("0",)]
            assert third.rows("SELECT to_regclass('mine')") == [(None,)]


def test_transaction_mode(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client, log_in(t) as other:
        assert pid_of(client) == pid_of(other)
        client.query("BEGIN; SELECT 2")
        other.send(raw.query("SELECT 'waited'"))
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        assert client.rows("SELECT 2") == [("2",)]
        client.query("COMMIT")
        assert raw.find(other.until("Z"), "D")[0].row == ("waited",)


def test_statement_mode(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "statement"}))
    with log_in(t) as client, log_in(t) as other:
        assert client.rows("SELECT 1; SELECT 2") == [("1",), ("2",)]
        client.send(raw.query("BEGIN"))
        assert raw.find(client.until_closed(), "E")[-1].fields["S"] == "FATAL"
        assert other.rows("SELECT 3") == [("3",)]


def test_mode_of_a_database(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "session", "default_pool_size": 1},
                       {"pool_mode": "transaction"}))
    with clients(t, 3) as all_clients:
        assert len({pid_of(client) for client in all_clients}) == 1


# --- sizes ---------------------------------------------------------------------------------------
@pytest.mark.tsan
@pytest.mark.slow
def test_i5_never_more_servers_than_the_pool(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 5}))

    def client(i):
        for round_ in range(6):
            with log_in(t, timeout=30) as c:
                for _ in range(10):
                    assert c.rows(f"SELECT {i}") == [(str(i),)]
                if (i + round_) % 3 == 0:
                    c.send(raw.query("SELECT pg_sleep(10)"))  # and away: its server is closed
                elif (i + round_) % 3 == 1:
                    c.query("BEGIN; CREATE TEMP TABLE mine ()")

    with Watch(primary) as watch:
        in_threads(60, client)
    assert watch.most <= 5 and watch.samples > 20
    assert watch.most > 1
    # A cancel may come before its query, which sleeps to its end then.
    wait_backends(primary, 0, "state = 'active'", 30)


def test_i5_a_slot_is_free_when_its_backend_is_gone(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1, "server_lifetime": 0}))
    with Watch(primary) as watch, log_in(t) as client:
        pids = {pid_of(client) for _ in range(30)}
        client.query("BEGIN; SELECT 2")
        wait_until(lambda: watch.most)
    assert len(pids) == 30 and watch.most == 1


def test_max_db_connections_over_users(primary, turnstile):
    for name in "app_a", "app_b":
        if not primary.value("SELECT count(*) FROM pg_roles WHERE rolname = %s", [name]):
            primary.role(name, APP_PASSWORD)
    t = turnstile(shop(primary, {"default_pool_size": 5, "max_db_connections": 2}),
                  users={"app_a": APP_PASSWORD, "app_b": APP_PASSWORD})

    def client(i):
        with log_in(t, ["app_a", "app_b"][i % 2], timeout=30) as c:
            for _ in range(5):
                assert c.rows(f"SELECT {i} FROM pg_sleep(0.01)") == [(str(i),)]

    with Watch(primary) as watch:
        in_threads(12, client)
    assert 1 <= watch.most <= 2


def test_reserve_pool(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1, "reserve_pool_size": 1,
                                 "reserve_pool_timeout": "100ms"}))
    with clients(t, 2) as (first, second):
        first.query("BEGIN; SELECT 2")
        assert second.rows("SELECT 'reserve'") == [("reserve",)]
        assert len(backends(primary)) == 2


def test_min_pool_size(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 5, "min_pool_size": 3}))
    with log_in(t) as client:
        wait_backends(primary, 3)
        assert client.rows("SELECT 2") == [("2",)]


def test_max_client_conn(primary, turnstile):
    t = turnstile(shop(primary, {"max_client_conn": 2}))
    with clients(t, 2):
        with pytest.raises(raw.LoginRefused, match="53300"):
            log_in(t)
    wait_until(lambda: pool_of(t, "cl_active") == 0)
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


# --- pools that several workers share ------------------------------------------------------------
SHARED = {"workers": 2, "pool_workers": 2, "default_pool_size": 5, "pool_mode": "transaction"}


@pytest.mark.tsan
def test_i5_parts_of_a_pool_are_its_size_together(primary, turnstile):
    t = turnstile(shop(primary, SHARED))
    with clients(t, 12) as all_of_them, Watch(primary) as watch:
        for c in all_of_them:
            c.send(raw.query("BEGIN; SELECT 2"))
        # As many as there are servers get one, in whichever part they are.
        wait_until(lambda: len(backends(primary)) == 5 and pool_of(t, "sv_active") == 5)
        for c in all_of_them:
            c.send(raw.query("COMMIT"))
        for c in all_of_them:
            c.until("Z"), c.until("Z")
    assert watch.most == 5
    assert pool_of(t, "sv_active") == 0


def test_parts_have_as_many_clients(primary, turnstile):
    """An application that opens one connection to work and one to listen, in turn: of those that work
    each part gets some, and its servers too."""
    t = turnstile(shop(primary, {**SHARED, "default_pool_size": 8}))
    with clients(t, 60) as both:
        for c in both[::2]:
            c.send(raw.query("BEGIN; SELECT 2"))
        # Both halves are full: of 30 that choose by chance, four choose each.
        wait_until(lambda: pool_of(t, "sv_active") == 8)


def test_no_more_parts_than_servers(primary, turnstile):
    t = turnstile(shop(primary, {**SHARED, "workers": 4, "pool_workers": 4, "default_pool_size": 1}))
    with clients(t, 8) as all_of_them, Watch(primary) as watch:
        for c in all_of_them:
            c.send(raw.query("SELECT pg_backend_pid()"))
        assert len({tuple(raw.find(c.until("Z"), "D")[0].row) for c in all_of_them}) == 1
    assert watch.most <= 1


def test_clients_of_all_parts_are_notified(primary, turnstile):
    t = turnstile(shop(primary, SHARED))
    with clients(t, 20) as (teller, *listeners):
        for c in listeners:
            c.query("LISTEN of_all_parts")
        teller.query("NOTIFY of_all_parts, 'heard'")
        for c in listeners:
            assert c.message().kind == "A"


def test_a_reload_that_divides_anew(primary, turnstile):
    t = turnstile(shop(primary, {**SHARED, "pool_workers": 1}))
    with clients(t, 4) as (busy, *idle):
        busy.query("BEGIN; SELECT 2")
        t.reload({"pgturnstile": {"pool_workers": 2}})
        for c in idle:
            error = raw.find(c.until_closed(), "E")[0].fields
            assert (error["S"], error["C"]) == ("FATAL", "57P01")
        # Who is in a transaction ends it.
        assert busy.rows("SELECT 3") == [("3",)]
        with clients(t, 4) as fresh:
            for c in fresh:
                assert c.rows("SELECT 4") == [("4",)]
        busy.query("COMMIT")
        assert raw.find(busy.until_closed(), "E")[0].fields["C"] == "57P01"


# --- the queue -----------------------------------------------------------------------------------
@pytest.mark.tsan
def test_first_come_first_served(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 6) as (holder, *queue):
        holder.query("BEGIN; SELECT 2")
        for place, client in enumerate(queue):
            client.send(raw.query("SELECT clock_timestamp()::text"))
            wait_until(lambda: pool_of(t, "cl_waiting") == place + 1)
        holder.query("COMMIT")
        times = [raw.find(client.until("Z"), "D")[0].row for client in queue]
    assert times == sorted(times)


def test_query_wait_timeout(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (holder, waiter):
        holder.query("BEGIN; SELECT 2")
        t.reload({"pgturnstile": {"query_wait_timeout": "300ms"}})
        waiter.send(raw.query("SELECT 2"))
        error = raw.find(waiter.until_closed(), "E")[0].fields
        assert (error["S"], error["C"]) == ("FATAL", "08P01")
        assert "query_wait_timeout" in error["M"]
        holder.query("COMMIT")
        assert holder.rows("SELECT 2") == [("2",)]


def test_timeouts_among_many(primary, turnstile):
    """Of more than 256 clients those that rest are looked at in turn."""
    t = turnstile(shop(primary, {"default_pool_size": 1, "max_client_conn": 400}))
    with clients(t, 300) as (holder, waiter, *resting):
        holder.query("BEGIN; SELECT 2")
        waiter.send(raw.query("SELECT 2"))
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        t.reload({"pgturnstile": {"query_wait_timeout": "300ms"}})
        assert raw.find(waiter.until_closed(), "E")[0].fields["M"] == "query_wait_timeout"
        t.reload({"pgturnstile": {"client_idle_timeout": "100ms"}})
        for c in resting:
            assert raw.find(c.until_closed(), "E")[0].fields["C"] == "57P05"
        t.reload({"pgturnstile": {"idle_transaction_timeout": "100ms"}})
        assert raw.find(holder.until_closed(), "E")[0].fields["C"] == "25P03"


def test_query_wait_notify(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1, "query_wait_notify": "100ms"}))
    with clients(t, 2) as (holder, waiter):
        holder.query("BEGIN; SELECT 2")
        waiter.send(raw.query("SELECT 2"))
        assert waiter.message().kind == "N"
        holder.query("COMMIT")
        assert raw.kinds(waiter.until("Z")) == "TDCZ"


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("request_", [raw.query("SELECT 2"), raw.parse("", "SELECT 2") + raw.sync()])
def test_client_vanishes_in_the_queue(primary, turnstile, how, request_):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 3) as (holder, leaver, waiter):
        holder.query("BEGIN; SELECT 2")
        leaver.send(request_)
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        waiter.send(raw.query("SELECT 'next'"))
        wait_until(lambda: pool_of(t, "cl_waiting") == 2)
        getattr(leaver, how)()
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        holder.query("COMMIT")
        assert raw.find(waiter.until("Z"), "D")[0].row == ("next",)


def test_waiting_client_may_send_on(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (holder, waiter):
        holder.query("BEGIN; SELECT 2")
        sender = threading.Thread(target=waiter.send, daemon=True, args=[
            b"".join(raw.query(f"SELECT '{'x' * 10_000}{i}'") for i in range(300))])
        sender.start()
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        holder.query("COMMIT")
        for i in range(300):
            assert raw.find(waiter.until("Z"), "D")[0].row[0].endswith(f"x{i}")
        sender.join(10)


# --- lifetimes -----------------------------------------------------------------------------------
def test_server_lifetime(primary, turnstile):
    t = turnstile(shop(primary, {"server_lifetime": "300ms"}))
    with log_in(t) as client:
        pid = pid_of(client)
        wait_until(lambda: pid_of(client) != pid)
    wait_backends(primary, 0)


def test_server_idle_timeout(primary, turnstile):
    t = turnstile(shop(primary, {"server_idle_timeout": "300ms"}))
    with log_in(t) as client:
        client.query("SELECT 2")
        wait_backends(primary, 0)
        assert client.rows("SELECT 2") == [("2",)]


@pytest.mark.parametrize("database, setting", [
    ("*", "autodb_idle_timeout"), (APP_DATABASE, "pool_idle_timeout"),
])
@pytest.mark.parametrize("limit", ["300ms", "0"])
def test_unused_pools_are_forgotten(primary, turnstile, database, setting, limit):
    node = {"host": primary.host, "port": primary.port}
    settings = {"server_idle_timeout": "100ms", "autodb_idle_timeout": "0", "workers": "1",
                "pool_idle_timeout": "0", "pool_mode": "transaction", setting: limit}
    t = turnstile({"pgturnstile": settings,
                   "databases": {database: node, "later": {**node, "dbname": APP_DATABASE}}})

    def is_there():
        return APP_DATABASE in [pool["database"] for pool in t.admin("SHOW POOLS")]

    for name in (APP_DATABASE, "later"):
        with log_in(t, dbname=name) as client:
            client.query("SELECT 2")
        wait_backends(primary, 0)
    # The sweeps that ended the later server have seen the first group unused.
    if limit == "0":
        assert is_there()
        assert [row["total_xact_count"] for row in t.admin("SHOW STATS")
                if row["database"] == APP_DATABASE] == [1]
    else:
        wait_until(lambda: not is_there())
        counts = [row["total_xact_count"] for row in t.admin("SHOW STATS") if row["database"] == APP_DATABASE]
        assert counts == ([] if database == "*" else [1])


UNKNOWN = "The outcome of the statement under way is not known."
ROLLED_BACK = "The transaction under way has been rolled back."


@pytest.mark.parametrize("setting, statements, state, hint", [
    ("client_idle_timeout", [], "57P05", None),
    ("idle_transaction_timeout", ["BEGIN", "SELECT 2"], "25P03", ROLLED_BACK),
    ("query_timeout", ["SELECT pg_sleep(30)"], "57014", UNKNOWN),
    ("transaction_timeout", ["BEGIN", "SELECT pg_sleep(30)"], "25P04", UNKNOWN),
])
def test_timeouts_of_clients(primary, turnstile, setting, statements, state, hint):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("SELECT 2")
        with t.run_with_config({"pgturnstile": {setting: "300ms"}}):
            for sql in statements:
                client.send(raw.query(sql))
            error, = raw.find(client.until_closed(), "E")
            assert error.fields["C"] == state and error.fields.get("H") == hint
    wait_backends(primary, 0, "state <> 'idle'")
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def test_server_check_query(primary, turnstile):
    t = turnstile(shop(primary, {"server_check_query": "SELECT 'check'", "server_check_delay": 0,
                                 "default_pool_size": 1}))
    with clients(t, 3) as all_clients:
        for client in [*all_clients, *all_clients]:
            assert client.rows("SELECT 2") == [("2",)]


def test_connect_query(primary, turnstile):
    t = turnstile(shop(primary, database={"connect_query": "SET app.greeting = 'hello'"}))
    with log_in(t) as client:
        assert client.rows("SHOW app.greeting") == [("hello",)]


def test_i2_a_connect_query_that_begins_a_transaction_is_refused(primary, turnstile):
    """The next client's BEGIN would be within it."""
    t = turnstile(shop(primary, {"server_login_retry": "50ms", "query_wait_timeout": 2},
                       database={"connect_query": "BEGIN"}))
    with pytest.raises(raw.LoginRefused):
        log_in(t)
    assert t.log_contains("in a transaction behind the login")
    t.reload({"databases": {APP_DATABASE: {**t.config["databases"][APP_DATABASE], "connect_query": "SELECT 1"}}})
    with log_in(t) as client:
        client.query("BEGIN")
        assert client.rows("SELECT 2") == [("2",)]


def test_databases_of_a_star(primary, turnstile):
    t = turnstile({**shop(primary), "databases": {"*": {"host": primary.host,
                                                       "port": primary.port}}})
    with log_in(t) as client:
        assert client.rows("SELECT current_database()") == [(APP_DATABASE,)]
    with pytest.raises(raw.LoginRefused, match="3D000"):
        log_in(t, dbname="nowhere")


def test_unix_sockets_on_both_sides(primary, turnstile):
    t = turnstile({**shop(primary), "databases": {APP_DATABASE: {"host": primary.dir,
                                                                "port": primary.port}}})
    with psycopg.connect(host=str(t.dir), port=t.port, dbname=APP_DATABASE, user=APP_USER,
                         password=APP_PASSWORD, autocommit=True) as connection:
        assert connection.execute("SELECT inet_client_addr()").fetchone() == (None,)
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_i3_a_long_queue_of_requests_that_are_refused(primary, turnstile):
    """Each gives its server to the next: they are not all on the stack at once."""
    count, small, usual = 400, 1 << 20, resource.getrlimit(resource.RLIMIT_STACK)
    config = shop(primary, {"session_state": "reject", "default_pool_size": 1, "max_client_conn": count + 20,
                            "auth_type": "trust", "workers": 1})
    resource.setrlimit(resource.RLIMIT_STACK, (small, usual[1]))
    try:
        t = turnstile(config)
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, usual)
    with log_in(t) as holder, clients(t, count) as waiting:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        for client in waiting:
            client.send(raw.query("CREATE TEMP TABLE mine ()"))
        wait_until(lambda: int(pool_of(t, "cl_waiting")) == count)
        holder.query("COMMIT")
        assert {sqlstate(client.until("Z")) for client in waiting} == {"0A000"}
        assert holder.rows("SELECT 2") == [("2",)]
