# SPDX-License-Identifier: ISC
#
# test_monitor.py - what is known about nodes: role, lag, health, and after a failover.
#
# Looks at SHOW NODES; which statement goes where is tested elsewhere.
"""Roles are asked for, never configured, and a node that does not answer is down."""
import contextlib
import os
import signal
import threading
import time

import pytest

import raw
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in
from waiting import wait_until

MONITOR, MONITOR_PASSWORD = "watcher", "watcher-password"


def watched(*servers, settings=None, database=None):
    """A config: `shop` on these nodes, in this order, watched closely."""
    nodes = {"host": ",".join(s.host for s in servers), "port": ",".join(str(s.port) for s in servers)}
    return {"pgturnstile": {"pool_mode": "transaction", "server_tls_sslmode": "disable",
                            "monitor_user": MONITOR, "monitor_password": MONITOR_PASSWORD,
                            "monitor_interval": "100ms", **(settings or {})},
            "databases": {APP_DATABASE: {**nodes, **(database or {})}}}


@pytest.fixture(scope="module")
def watcher(primary):
    primary.role(MONITOR, MONITOR_PASSWORD)
    yield
    primary.sql(f"DROP ROLE {MONITOR}")


@pytest.fixture
def pair(primary, replica, watcher):
    replica.wait_caught_up(primary)
    return primary, replica


def nodes(t, database=APP_DATABASE):
    return [row for row in t.admin("SHOW NODES") if row["database"] == database]


def wait_roles(t, *roles, database=APP_DATABASE):
    wait_until(lambda: [n["role"] for n in nodes(t, database)] == list(roles), 15,
               lambda: f"{roles}, but {nodes(t, database)}\n{t.log_text()}")


def test_roles_in_any_order(pair, turnstile):
    primary, replica = pair
    t = turnstile(watched(primary, replica))
    wait_roles(t, "primary", "replica")
    t = turnstile(watched(replica, primary))
    wait_roles(t, "replica", "primary")
    wait_until(lambda: all(n["latency"] is not None and n["error"] is None for n in nodes(t)))
    with log_in(t) as client:
        client.query("CREATE TABLE went_to_the_primary ()")
        assert raw.kinds(client.query("DROP TABLE went_to_the_primary")) == "CZ"


def test_databases_of_the_fallback_are_watched_while_in_use(pair, turnstile):
    primary, replica = pair
    config = watched(primary, replica)
    config["databases"] = {"*": config["databases"][APP_DATABASE]}
    t = turnstile(config)
    assert nodes(t) == []
    with log_in(t):
        wait_roles(t, "primary", "replica")


def test_monitor_is_among_the_servers(pair, turnstile):
    t = turnstile(watched(*pair))
    wait_roles(t, "primary", "replica")
    seen = [(row["port"], row["user"]) for row in t.admin("SHOW SERVERS")]
    assert sorted(seen) == sorted((s.port, MONITOR) for s in pair)


def test_sample_is_the_servers_own(pair, turnstile):
    primary, replica = pair
    t = turnstile(watched(primary, replica))
    wait_roles(t, "primary", "replica")
    wait_until(lambda: nodes(t)[1]["lag_bytes"] == 0)
    for node, server in zip(nodes(t), pair):
        system, started = server.sql(
            "SELECT system_identifier::text, pg_postmaster_start_time() FROM pg_control_system()")[0]
        assert node["system"] == system
        assert node["started"].startswith(started.astimezone().strftime("%Y-%m-%d %H:%M:%S"))
        assert node["timeline"] == 1
        assert node["asked"] >= node["seen"]
        assert node["latency"] > 0
    # A server at rest writes of itself now and then.
    wait_until(lambda: nodes(t)[0]["lsn"] == nodes(t)[1]["lsn"])
    primary.sql("SELECT pg_switch_wal()")
    wait_until(lambda: nodes(t)[1]["lsn"] >= primary.value("SELECT pg_current_wal_lsn()::text"))


def test_why_the_catalog_cannot_be_read_is_told(primary, watcher, turnstile):
    """A connection that fails at once does so before anybody can be told of it."""
    socket = primary.dir / f".s.PGSQL.{primary.port}"
    t = turnstile(watched(primary, database={"host": primary.dir}))
    wait_roles(t, "primary")
    with log_in(t) as client:
        client.query("SELECT 2")
        # Connections that are there stay; that on which the catalog is read again is a new one.
        gone = socket.rename(primary.dir / "gone")
        try:
            assert raw.kinds(client.query("CREATE VIEW monitored_anew AS SELECT 1")) == "CZ"
            t.wait_log(r"the catalog cannot be read: cannot connect: No such file or directory\n")
        finally:
            gone.rename(socket)
            client.query("DROP VIEW monitored_anew")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_reads_are_on_the_replica_without_an_interval_between(pair, turnstile, order):
    """The nodes and the catalog are asked one after the other at once; then there is a rest."""
    t = turnstile(watched(*(pair[i] for i in order), settings={"monitor_interval": "60s"}))
    with log_in(t) as client:
        wait_until(lambda: client.rows("SELECT current_setting('test.port')") == [(str(pair[1].port),)], 15,
                   lambda: str(t.admin("SHOW ROUTE DATABASE shop SELECT current_setting('test.port')")))


def test_lag(pair, turnstile):
    primary, replica = pair
    t = turnstile(watched(primary, replica))
    wait_until(lambda: nodes(t)[1]["lag"] == 0 and nodes(t)[1]["lag_bytes"] == 0)
    replica.pause_replay()
    try:
        primary.sql("CREATE TABLE lagging ()")
        wait_until(lambda: (nodes(t)[1]["lag"] or 0) > 500_000 and nodes(t)[1]["lag_bytes"] > 0)
    finally:
        replica.resume_replay()
        primary.sql("DROP TABLE lagging")
    wait_until(lambda: nodes(t)[1]["lag"] == 0)


def test_lag_is_known_once_both_have_answered(pair, turnstile):
    """Whoever is the first to do so."""
    primary, replica = pair
    os.kill(primary.pid(), signal.SIGSTOP)  # so that it lets nobody in
    try:
        t = turnstile(watched(primary, replica, settings={"monitor_interval": "60s"}))
        wait_until(lambda: nodes(t)[1]["role"] == "replica")
    finally:
        os.kill(primary.pid(), signal.SIGCONT)
    wait_roles(t, "primary", "replica")
    assert nodes(t)[1]["lag"] is not None


def test_idle_primary_behind_a_page_header_is_caught_up_with(pair, turnstile):
    """The primary's position then counts bytes that no record has and no replica replays."""
    primary, replica = pair
    primary.sql("SELECT pg_switch_wal()")
    t = turnstile(watched(primary, replica))
    wait_until(lambda: nodes(t)[1]["lag"] == 0)


@pytest.fixture
def sees_locks(primary):
    primary.role("lock_watcher", "lock-password")
    primary.sql("GRANT pg_read_all_stats TO lock_watcher")
    yield {"monitor_user": "lock_watcher", "monitor_password": "lock-password"}
    primary.sql("DROP ROLE lock_watcher")


def test_who_waits_for_a_lock_is_seen(pair, turnstile, sees_locks):
    primary, replica = pair
    t = turnstile(watched(primary, replica, settings=sees_locks))
    wait_roles(t, "primary", "replica")
    with primary.connect(APP_DATABASE) as holder, primary.connect(APP_DATABASE) as waiter:
        holder.execute("SELECT pg_advisory_lock(4711)")
        thread = threading.Thread(target=lambda: waiter.execute("SELECT pg_advisory_lock(4711)"))
        thread.start()
        try:
            wait_until(lambda: nodes(t)[0]["lock_waits"] and nodes(t)[0]["lock_wait"] > 1_000_000, 20,
                       lambda: nodes(t))
            assert nodes(t)[1]["lock_waits"] == 0  # other tests hold none there
        finally:
            holder.execute("SELECT pg_advisory_unlock(4711)")
            thread.join()


def test_cache_and_deadlocks_are_those_of_the_server(pair, turnstile):
    primary, replica = pair
    t = turnstile(watched(primary, replica))
    wait_roles(t, "primary", "replica")
    wait_until(lambda: nodes(t)[0]["blocks_hit"], 20, lambda: nodes(t))
    with primary.connect() as connection:
        hit, read, deadlocks = connection.execute(
            "SELECT sum(blks_hit), sum(blks_read), sum(deadlocks) FROM pg_stat_database").fetchone()
    wait_until(lambda: nodes(t)[0]["blocks_hit"] >= hit, 20, lambda: nodes(t))
    node, other = nodes(t)
    assert node["blocks_read"] >= read and node["deadlocks"] >= deadlocks
    # Whoever may not see what others wait for does not say that nobody does.
    assert node["lock_waits"] is node["lock_wait"] is other["lock_waits"] is None


def test_a_server_that_cannot_tell_of_locks_is_as_good(turnstile):
    """It is asked once, and not again."""
    state = raw.data_row("f", "100", None, "00000001", "8192", "16777216", "1")
    asked = []

    def script(session):
        while (got := session.message()).kind == "Q":
            asked.append(got.text)
            if "pg_locks" in got.text:
                session.send(raw.error("42703", "no such column"), raw.ready())
            else:
                rows = [state] if "pg_is_in_recovery" in got.text else []
                session.send(*rows, raw.command_complete("SELECT"), raw.ready())

    with raw.FakeServer(script) as server:
        t = turnstile(watched(server))
        wait_roles(t, "primary")
        t.wait_log("does not tell of locks and cache: no such column")
        wait_until(lambda: sum("pg_is_in_recovery" in text for text in asked) > 12)
        assert sum("pg_locks" in text for text in asked) == 1
        assert (nodes(t)[0]["role"], nodes(t)[0]["blocks_hit"]) == ("primary", None)


def test_without_a_login_the_first_node_is_the_primary(primary, replica, turnstile):
    t = turnstile(watched(primary, replica, settings={"monitor_user": None,
                                                      "monitor_password": None}))
    t.wait_log("is ready")
    assert t.log_contains("nobody to ask the nodes as") == 1
    assert [n["role"] for n in nodes(t)] == ["unknown", "unknown"]
    with log_in(t) as client:
        assert client.rows("SELECT current_setting('test.port')") == [(str(primary.port),)]


def test_wrong_password_of_the_monitor_is_said(pair, turnstile):
    t = turnstile(watched(*pair, settings={"monitor_password": "wrong"}))
    wait_roles(t, "down", "down")
    assert all("authentication failed" in n["error"] for n in nodes(t))
    assert not t.log_contains("wrong")


@pytest.mark.slow
def test_node_that_never_answers_is_down(pair, turnstile):
    with raw.FakeServer(login=lambda session: session.receive(1)) as silent:
        t = turnstile(watched(pair[0], silent))
        wait_roles(t, "primary", "down")
        assert "no answer" in nodes(t)[1]["error"]


@pytest.mark.slow
def test_node_is_not_down_because_we_were_stopped(turnstile):
    """What it has answered meanwhile is read before it is said to be silent."""
    asked, may_answer = threading.Event(), threading.Event()
    answers = {"pg_control_system": [raw.data_row("1", "t")],
               "pg_is_in_recovery": [raw.data_row("f", "100", None, "00000001", "8192", "16777216",
                                                  "1700000000000000")]}

    def script(session):
        count = 0
        while (got := session.message()).kind == "Q":
            row = next((answers[name] for name in answers if name in got.text), [])
            count += row == answers["pg_is_in_recovery"]
            if count == 3 and not asked.is_set():
                asked.set()
                assert may_answer.wait(20)
            session.send(*row, raw.command_complete("SELECT"), raw.ready())

    with raw.FakeServer(script) as server:
        t = turnstile(watched(server))
        assert asked.wait(10)
        t.signal(signal.SIGSTOP)
        since = time.monotonic()
        try:
            may_answer.set()
            wait_until(lambda: time.monotonic() > since + 4, what="longer than a node may be silent")
        finally:
            t.signal(signal.SIGCONT)
        wait_until(lambda: nodes(t)[0]["seen"] < 1_000_000)
        assert not t.log_contains("is down")


def test_reload_takes_and_gives_nodes(pair, turnstile):
    primary, replica = pair
    t = turnstile(watched(primary, replica))
    wait_roles(t, "primary", "replica")
    t.reload({"databases": watched(primary)["databases"]})
    assert len(nodes(t)) == 1
    t.reload({"databases": watched(replica, primary)["databases"]})
    wait_roles(t, "replica", "primary")


@contextlib.contextmanager
def pair_of_our_own():
    """A primary and a replica that may be broken for good."""
    with contextlib.ExitStack() as servers:
        primary = Postgres.primary()
        servers.callback(primary.remove)
        primary.role(MONITOR, MONITOR_PASSWORD)
        primary.role(APP_USER, APP_PASSWORD)
        primary.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
        replica = Postgres.replica_of(primary)
        servers.callback(replica.remove)
        yield primary, replica


@pytest.mark.slow
@pytest.mark.tsan
def test_failover(turnstile):
    with pair_of_our_own() as (primary, replica):
        t = turnstile(watched(primary, replica))
        wait_roles(t, "primary", "replica")
        primary.kill()
        wait_roles(t, "down", "replica")
        replica.promote()
        wait_roles(t, "down", "primary")
        with log_in(t) as client:
            client.query("CREATE TABLE after_failover ()")
            # The old primary comes back and believes that it still is one.
            primary.start()
            wait_roles(t, "fenced", "primary")
            assert "second primary" in nodes(t)[0]["error"]
            assert client.rows("SELECT count(*) FROM after_failover") == [("0",)]


@pytest.mark.slow
def test_i4_node_of_another_cluster_gets_nothing(pair, turnstile):
    with pair_of_our_own() as (_, stranger):
        t = turnstile(watched(pair[0], stranger))
        wait_roles(t, "primary", "down")
        assert "another cluster" in nodes(t)[1]["error"]
