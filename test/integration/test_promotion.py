# SPDX-License-Identifier: ISC
#
# test_promotion.py - the primary goes and another node takes its place: who waits, who is told, and
# that two primaries are never both written to.
"""Each test has servers of its own, since it breaks them.  `port` tells who answered."""
import contextlib
import http.server
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import raw
from cluster import BINDIR, Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import backends, log_in, pool_of, shop, wait_backends, wait_nodes
from machine import Port, run
from rough_road import RoughRoad
from turnstile import ADMIN_PASSWORD
from waiting import wait_until
from writers import Writer, counts, told

WRITE = "INSERT INTO promoted VALUES (current_setting('test.port')) RETURNING port"
READ = "SELECT current_setting('test.port')"
SLOW = "SELECT pg_sleep(300)"  # volatile: the primary's


@pytest.fixture
def pair():
    with contextlib.ExitStack() as servers:
        primary = Postgres.primary("old")
        servers.callback(primary.remove)
        primary.role(APP_USER, APP_PASSWORD)
        primary.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
        primary.sql("CREATE TABLE promoted (port text)", dbname=APP_DATABASE, user=APP_USER,
                    password=APP_PASSWORD)
        replica = Postgres.replica_of(primary, "new")
        servers.callback(replica.remove)
        replica.wait_caught_up(primary)
        yield primary, replica


def pooler_of(turnstile, servers, settings=None):
    t = turnstile(shop(servers[0], {"monitor_user": APP_USER, "monitor_interval": "200ms",
                                    "default_pool_size": 5, **(settings or {})},
                       {"host": ",".join(s.host for s in servers),
                        "port": ",".join(str(s.port) for s in servers)}))
    wait_nodes(t, "primary", "replica")
    return t


def pooler_of_three(turnstile, servers):
    t = turnstile(shop(servers[0], {"monitor_user": APP_USER, "monitor_interval": "200ms", "max_replica_lag": 0},
                       {"host": ",".join(s.host for s in servers),
                        "port": ",".join(str(s.port) for s in servers)}))
    wait_nodes(t, "primary", "replica", "replica")
    return t


def node(pooler, number):
    return next(row for row in pooler.admin("SHOW NODES") if row["node"] == number)


def wait_role(pooler, number, role):
    wait_until(lambda: node(pooler, number)["role"] == role, 30,
               lambda: f"{role}, but {pooler.admin('SHOW NODES')}\n{pooler.log_text()}")


def written_to(messages):
    assert not raw.find(messages, "E"), raw.find(messages, "E")[0].fields
    return int(raw.find(messages, "D")[-1].row[0])


def end_of(client):
    """The only error of a session that it ends."""
    errors = raw.find(client.until_closed(), "E")
    assert len(errors) == 1, errors
    return errors[0].fields


def wait_waiting(pooler, count):
    wait_until(lambda: pool_of(pooler, "cl_waiting") == count, 20,
               lambda: f"{count} wait, but {pooler.admin('SHOW POOLS')}")


# --- the primary is lost ----------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.tsan
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_i3_what_was_not_sent_waits_for_the_next_primary(pair, turnstile, how):
    primary, replica = pair
    t = pooler_of(turnstile, pair)
    with contextlib.ExitStack() as stack:
        def client():
            return stack.enter_context(log_in(t, timeout=60))

        idle, running, between, begun = client(), client(), client(), client()
        assert written_to(idle.query(WRITE)) == primary.port
        replica.wait_caught_up(primary)
        running.send(raw.query(SLOW))
        between.rows("BEGIN")
        between.rows("SELECT pg_sleep(0)")
        begun.rows("BEGIN")  # answered here: no server knows of it
        wait_until(lambda: primary.sql(f"SELECT 1 FROM pg_stat_activity WHERE query = '{SLOW}'"))
        getattr(primary, how)()
        end = end_of(running)
        assert end["C"] == {"stop": "57P01", "kill": "08006"}[how]
        assert end["H"] == "The outcome of the statement under way is not known."
        assert end_of(between)["H"] == "The transaction under way has been rolled back."
        wait_role(t, 0, "down")

        simple, batch, late = client(), client(), client()
        simple.send(raw.query(WRITE))
        batch.send(raw.parse("", WRITE), raw.bind(), raw.execute(), raw.sync())
        late.send(raw.query("BEGIN"))
        late.until("Z")
        late.send(raw.query(WRITE))
        begun.send(raw.query(WRITE))
        wait_waiting(t, 4)
        replica.promote()
        for waiting in (simple, batch, late, begun):
            assert written_to(waiting.until("Z")) == replica.port
        for done in (late, begun):
            assert raw.kinds(done.query("COMMIT")) == "CZ"
        assert written_to(idle.query(WRITE)) == replica.port
    assert replica.value("SELECT count(*) FROM promoted WHERE port = %s", [str(replica.port)],
                         dbname=APP_DATABASE) == 5


@pytest.mark.slow
def test_i3_a_request_whose_settings_were_on_their_way_waits_too(pair, turnstile):
    """The server that was to get it dies before one byte of it was sent."""
    primary, replica = pair
    t = pooler_of(turnstile, pair, {"default_pool_size": 1})
    with log_in(t, timeout=60) as client, log_in(t) as other:
        # Not plain ASCII, so that it does not go in one write with the statement.
        client.rows("SET app.mark = 'käse'")
        other.rows("SELECT pg_sleep(0)")
        replica.wait_caught_up(primary)
        for pid in backends(primary, "application_name <> 'pgturnstile monitor'"):
            os.kill(pid, signal.SIGSTOP)
        client.send(raw.query(WRITE))
        wait_until(lambda: pool_of(t, "sv_active") == 1)
        primary.kill()
        replica.promote()
        assert written_to(client.until("Z")) == replica.port
        assert client.rows("SHOW app.mark") == [("käse",)]


@pytest.mark.slow
def test_nobody_waits_longer_than_failover_wait(pair, turnstile):
    primary, replica = pair
    t = pooler_of(turnstile, pair, {"failover_wait": "1s", "read_your_writes": "off"})
    with log_in(t) as client, log_in(t) as batch, log_in(t) as begun:
        wait_until(lambda: written_to(client.query(READ)) == replica.port)
        assert written_to(client.query(WRITE)) == primary.port
        begun.rows("BEGIN")
        primary.kill()
        wait_role(t, 0, "down")
        for _ in range(2):
            messages = client.query(WRITE)
            assert raw.kinds(messages) == "EZ"
            assert messages[0].fields["C"] == "57P03" and "is known" in messages[0].fields["M"]
        batch.send(raw.parse("", WRITE), raw.bind(), raw.execute(), raw.sync())
        assert raw.kinds(batch.until("Z")) == "EZ"
        assert begun.query(WRITE)[0].fields["C"] == "57P03"
        assert raw.kinds(begun.query("COMMIT")) == "CZ"  # ROLLBACK
        # Reads need none.
        assert written_to(client.query(READ)) == replica.port
        client.send(raw.query(WRITE))
        wait_waiting(t, 1)
        client.cancel()
        assert client.until("Z")[0].fields["C"] == "57014"
        replica.promote()
        wait_role(t, 1, "primary")
        for each in (client, batch, begun):
            assert written_to(each.query(WRITE)) == replica.port


@pytest.mark.slow
def test_the_primary_comes_back(pair, turnstile):
    """Nobody was promoted: the same node goes on, and who waits does not wait for a retry."""
    primary, _ = pair
    t = pooler_of(turnstile, pair, {"server_login_retry": "300s"})
    with log_in(t, timeout=60) as client:
        assert written_to(client.query(WRITE)) == primary.port
        primary.kill()
        client.send(raw.query(WRITE))
        wait_role(t, 0, "down")
        wait_waiting(t, 1)
        primary.start()
        assert written_to(client.until("Z")) == primary.port


@pytest.mark.slow
def test_failover_under_load(pair, turnstile):
    """A short `test/long/failover.py`: who waits sees nothing, and what was acknowledged is there."""
    primary, replica = pair
    primary.sql("CREATE TABLE ledger (client int, serial int); GRANT ALL ON ledger TO " + APP_USER,
                dbname=APP_DATABASE)
    t = pooler_of(turnstile, pair)
    stopped = threading.Event()
    clients = [Writer(t, (APP_USER, APP_DATABASE, APP_PASSWORD), n, stopped) for n in range(20)]
    for writer in clients:
        writer.start()
    try:
        wait_until(lambda: all(w.serial > 20 for w in clients), 60)
        primary.stop()
        gone = time.monotonic()
        replica.promote()
        wait_until(lambda: all(w.acknowledged[-1][1] == replica.port for w in clients), 60,
                   lambda: [(w.acknowledged[-1], w.errors) for w in clients])
    finally:
        stopped.set()
        for writer in clients:
            writer.join()
    errors = [error for w in clients for error in w.errors]
    assert len(errors) <= 5, "there were five servers"
    assert all(len(w.errors) <= 1 for w in clients)
    assert all(begun < gone and state in ("57P01", "08006") and hint for begun, _, state, hint in errors)
    rows = counts(replica, APP_DATABASE)
    assert told(clients, primary.port, replica.port) <= rows.keys()
    assert set(rows.values()) == {1}


# --- two primaries ----------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.tsan
def test_i4_a_read_behind_a_write_is_not_stale_across_a_promotion(pair, turnstile):
    """One replica has what was written, and becomes the primary; another never hears of it."""
    primary, replica = pair
    behind = Postgres.replica_of(primary, "behind")
    try:
        behind.wait_caught_up(primary)
        t = pooler_of_three(turnstile, (primary, replica, behind))
        with log_in(t, timeout=60) as writer, log_in(t, timeout=60) as reader:
            wait_until(lambda: written_to(reader.query(READ)) != primary.port, 30, "reads reach replicas")
            behind.pause_replay()
            seen = []

            def write_and_read(count):
                for _ in range(count):
                    written_to(writer.query(WRITE))
                    seen.append(reader.rows("SELECT count(*) FROM promoted"))

            write_and_read(3)
            replica.wait_caught_up(primary)
            primary.stop()
            reader.send(raw.query("SELECT count(*) FROM promoted"))
            wait_role(t, 0, "down")
            replica.promote()
            seen.append([m.row for m in raw.find(reader.until("Z"), "D")])
            write_and_read(3)
            wait_role(t, 1, "primary")
            seen += [reader.rows("SELECT count(*) FROM promoted") for _ in range(20)]
            assert [int(rows[0][0]) for rows in seen] == [1, 2, 3, 3, 4, 5, *[6] * 21]
    finally:
        behind.remove()


@contextlib.contextmanager
def road_to(server):
    road = RoughRoad(server)
    try:
        yield road
    finally:
        road.remove()


def listed(*servers):
    return {"host": ",".join(s.host for s in servers), "port": ",".join(str(s.port) for s in servers)}


def shop_of(*servers, name=APP_DATABASE, **settings):
    config = shop(servers[0], {"monitor_user": APP_USER, "default_pool_size": 5, **settings})
    config["databases"] = {name: listed(*servers)}
    return config


def written_on(server):
    return server.value("SELECT count(*) FROM promoted", dbname=APP_DATABASE)


@contextlib.contextmanager
def two_primaries(pair):
    """Both live; the one that was promoted answers late."""
    primary, replica = pair
    replica.wait_caught_up(primary)
    replica.promote()
    with road_to(replica) as road:
        road.slow(0.2)
        yield primary, replica, road


@pytest.mark.slow
@pytest.mark.parametrize("name", [APP_DATABASE, "*"])
def test_i4_at_the_start_nobody_is_the_primary_before_all_are_heard(pair, turnstile, name):
    with two_primaries(pair) as (primary, replica, road):
        t = turnstile(shop_of(primary, road, name=name))
        with log_in(t, timeout=60) as client:
            for _ in range(20):
                assert written_to(client.query(WRITE)) == replica.port
        wait_role(t, 0, "fenced")
    assert written_on(primary) == 0 and written_on(replica) == 20


@pytest.mark.slow
def test_i4_who_was_fenced_is_so_behind_a_reload_that_changes_the_hosts(pair, turnstile):
    with two_primaries(pair) as (primary, replica, road), road_to(replica) as third:
        third.swallow(True)
        t = turnstile(shop_of(primary, road))
        with contextlib.ExitStack() as stack:
            def write(expected):
                client = stack.enter_context(log_in(t, timeout=60))
                for _ in range(10):
                    assert written_to(client.query(WRITE)) == expected.port
                return client

            client = write(replica)
            wait_role(t, 0, "fenced")
            for servers in ((primary, road, third), (primary, road), (third, primary, road)):
                t.reload({"databases": {APP_DATABASE: listed(*servers)}})
                end_of(client)
                client = write(replica)
            assert written_on(primary) == 0
            # Without the one that is the primary there is nothing to remember: the way back.
            t.reload({"databases": {APP_DATABASE: listed(primary, third)}})
            end_of(client)
            write(primary)


@pytest.mark.slow
@pytest.mark.parametrize("mishap", ["swallow", "refuse"])
def test_the_first_primary_is_not_waited_for_without_end(pair, turnstile, mishap):
    """One that is deaf has its three seconds, however seldom nodes are asked; one that is gone has none."""
    primary, replica = pair
    with road_to(replica) as road:
        getattr(road, mishap)(True)
        t = turnstile(shop_of(primary, road, monitor_interval="60s"))
        with log_in(t, timeout=30) as client:
            assert written_to(client.query(WRITE)) == primary.port
        chosen = t.log_contains("the primary is chosen without node")
        assert bool(chosen) == (mishap == "swallow")


def test_who_refuses_the_monitor_is_not_waited_for_without_end(pair, turnstile):
    primary, replica = pair
    replica.hba(f"host all {APP_USER} all reject")
    t = turnstile(shop_of(primary, replica, monitor_interval="60s"))
    with log_in(t, timeout=30) as client:
        assert written_to(client.query(WRITE)) == primary.port
    assert t.log_contains("the primary is chosen without node")


def test_the_first_write_waits_for_an_answer_and_no_interval(pair, turnstile):
    """Of all nodes; where the entry is `*`, nobody has asked them before."""
    primary, _ = pair
    t = turnstile(shop_of(*pair, name="*", monitor_interval="300s"))
    with log_in(t, timeout=30) as client:
        assert written_to(client.query(WRITE)) == primary.port


def test_i4_the_old_primary_is_fenced(pair, turnstile):
    primary, replica = pair
    t = pooler_of(turnstile, pair)
    with log_in(t, timeout=60) as client, log_in(t) as running, log_in(t) as between:
        assert written_to(client.query(WRITE)) == primary.port
        running.send(raw.query(SLOW))
        between.rows("BEGIN")
        between.rows("SELECT pg_sleep(0)")
        wait_until(lambda: primary.sql(f"SELECT 1 FROM pg_stat_activity WHERE query = '{SLOW}'"))
        replica.promote()
        end = end_of(running)
        assert (end["C"], end["H"]) == ("57P01", "The outcome of the statement under way is not known.")
        assert "is not the primary any more" in end["M"]
        assert end_of(between)["H"] == "The transaction under way has been rolled back."
        wait_role(t, 0, "fenced")
        assert "is a second primary, on timeline 1; the other is on 2" in node(t, 0)["error"]
        assert t.log_contains("is fenced: is a second primary")
        for _ in range(5):
            assert written_to(client.query(WRITE)) == replica.port
        # What ran there was cancelled, and nobody is there any more but the monitor.
        wait_backends(primary, 0, "application_name <> 'pgturnstile monitor'")

        # It is no primary either when the other one is gone.
        replica.stop()
        wait_role(t, 1, "down")
        client.send(raw.query(WRITE))
        wait_waiting(t, 1)
        assert node(t, 0)["role"] == "fenced"
        assert "the last one is on 2" in node(t, 0)["error"]
        replica.start()
        assert written_to(client.until("Z")) == replica.port
    assert primary.value("SELECT count(*) FROM promoted", dbname=APP_DATABASE) == 1


def processes_of(server):
    """The postmaster and its children."""
    with open(f"/proc/{server.pid()}/task/{server.pid()}/children") as children:
        return [server.pid(), *map(int, children.read().split())]


@pytest.mark.slow
def test_i4_a_primary_that_hangs_is_left(pair, turnstile):
    """It says nothing, so nobody knows what it does; what comes of it later counts no more."""
    primary, replica = pair
    t = pooler_of(turnstile, pair)
    with log_in(t, timeout=60) as client, log_in(t, timeout=60) as running:
        assert written_to(client.query(WRITE)) == primary.port
        replica.wait_caught_up(primary)
        running.send(raw.query(SLOW))
        wait_until(lambda: primary.sql(f"SELECT 1 FROM pg_stat_activity WHERE query = '{SLOW}'"))
        frozen = processes_of(primary)
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            replica.promote()
            end = end_of(running)
            assert "is not the primary any more" in end["M"] and "not known" in end["H"]
            assert written_to(client.query(WRITE)) == replica.port
            wait_role(t, 0, "down")
        finally:
            for pid in frozen:
                with contextlib.suppress(ProcessLookupError):  # ended by one that goes on already
                    os.kill(pid, signal.SIGCONT)
        wait_role(t, 0, "fenced")
        assert written_to(client.query(WRITE)) == replica.port
    assert primary.value("SELECT count(*) FROM promoted", dbname=APP_DATABASE) == 1


@pytest.mark.slow
def test_sessions_of_session_pooling_and_listeners(pair, turnstile):
    """Who has a server of its own loses it; who listens is told; both come back."""
    primary, replica = pair
    config = shop(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms"})
    nodes = {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"}
    config["databases"] = {APP_DATABASE: nodes, "own": {**nodes, "dbname": APP_DATABASE,
                                                        "pool_mode": "session"}}
    t = turnstile(config)
    for database in (APP_DATABASE, "own"):
        wait_nodes(t, "primary", "replica", database=database)
    with log_in(t, dbname="own") as kept, log_in(t) as listener:
        kept.rows("SET work_mem = '5MB'")
        listener.rows("LISTEN promoted")
        primary.stop()
        assert end_of(kept)["H"] == "No statement was under way."
        assert end_of(listener)["C"] == "57P01"
        replica.promote()
        with log_in(t, dbname="own", timeout=60) as kept, log_in(t, timeout=60) as listener:
            assert written_to(kept.query(WRITE)) == replica.port
            listener.rows("LISTEN promoted")
            replica.sql("NOTIFY promoted", dbname=APP_DATABASE)
            assert listener.until("A")


@pytest.mark.slow
def test_a_primary_that_refuses_the_monitor_stays_one(pair, turnstile):
    """It refuses our login, and so it lives: what it was it still is."""
    primary, replica = pair
    primary.role("watcher", "watcher-password")
    replica.wait_caught_up(primary)
    t = pooler_of(turnstile, pair, {"monitor_user": "watcher",
                                    "monitor_password": "watcher-password"})
    with log_in(t) as client:
        assert written_to(client.query(WRITE)) == primary.port
        primary.sql("ALTER ROLE watcher NOLOGIN")
        primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'watcher'")
        wait_until(lambda: "not permitted to log in" in (node(t, 0)["error"] or ""), 20)
        assert node(t, 0)["role"] == "primary"
        assert written_to(client.query(WRITE)) == primary.port


# --- Patroni ------------------------------------------------------------------------------------------
class Patroni:
    """What its REST API says on two addresses of loopback, at one port: who is the leader."""

    hosts = ("127.0.0.1", "127.0.0.2")

    def __init__(self):
        self.leader, self.asked, self.port = self.hosts[0], set(), Port()
        patroni = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                host = self.server.server_address[0]
                patroni.asked.add((host, self.path))
                self.send_response(200 if host == patroni.leader else 503)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.servers = [http.server.ThreadingHTTPServer((host, self.port.number), Handler)
                        for host in self.hosts]
        for server in self.servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self):
        for server in self.servers:
            server.shutdown()
            server.server_close()
        self.port.release()


@pytest.mark.slow
def test_i4_what_patroni_does_not_call_the_leader_is_not_written_to(turnstile):
    with contextlib.ExitStack() as stack:
        primary = Postgres.primary("old")
        stack.callback(primary.remove)
        primary.role(APP_USER, APP_PASSWORD)
        primary.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
        primary.sql("CREATE TABLE promoted (port text)", dbname=APP_DATABASE, user=APP_USER,
                    password=APP_PASSWORD)
        replica = Postgres.replica_of(primary, "new",
                                      {"listen_addresses": ",".join(Patroni.hosts)})
        stack.callback(replica.remove)
        replica.wait_caught_up(primary)
        patroni = Patroni()
        stopping = stack.enter_context(contextlib.ExitStack())
        stopping.callback(patroni.stop)
        t = turnstile(shop(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms"},
                           {"host": ",".join(Patroni.hosts),
                            "port": f"{primary.port},{replica.port}",
                            "patroni_port": patroni.port.number}))
        wait_nodes(t, "primary", "replica")
        assert patroni.asked == {(host, "/primary") for host in Patroni.hosts}
        client = stack.enter_context(log_in(t, timeout=60))
        assert written_to(client.query(WRITE)) == primary.port

        # It has lost its lock, and has not noticed.
        patroni.leader = None
        wait_role(t, 0, "fenced")
        assert "is not the leader, says Patroni" in node(t, 0)["error"]
        client.send(raw.query(WRITE))
        wait_waiting(t, 1)
        # Somebody promotes by hand, and Patroni knows nothing of it.
        replica.promote()
        wait_role(t, 1, "fenced")
        assert pool_of(t, "cl_waiting") == 1
        patroni.leader = Patroni.hosts[1]
        assert written_to(client.until("Z")) == replica.port

        # Without its word, what the databases say counts.
        stopping.close()
        for _ in range(5):
            assert written_to(client.query(WRITE)) == replica.port
        wait_role(t, 1, "primary")


# --- SWITCHOVER -------------------------------------------------------------------------------------
OPERATIONS = Path(__file__).resolve().parents[2] / "docs/operations.md"


def procedure():
    """The commands of the section "Switchover", in order."""
    section = OPERATIONS.read_text().split("\n## Switchover\n")[1].split("\n## ")[0]
    return [line[4:] for line in section.splitlines() if line.startswith("    ")]


def run_as_written(command, t, primary, replica):
    """A line of the procedure, with our ports and directories in place of the operator's."""
    for there, here in (("-p 6432 -U ops", f"-h {t.host} -p {t.port} -U admin"),
                        ("/srv/old", str(primary.data)), ("/srv/new", str(replica.data)),
                        ("pg_ctl", str(BINDIR / "pg_ctl")),
                        ("psql", f"PGPASSWORD={ADMIN_PASSWORD} psql")):
        command = command.replace(there, here)
    return run(["sh", "-ec", command])


@pytest.mark.slow
@pytest.mark.tsan
def test_the_documented_switchover(pair, turnstile):
    """No client sees an error; who was in a transaction came to its end first."""
    primary, replica = pair
    t = pooler_of(turnstile, pair)
    with log_in(t, timeout=60) as idle, log_in(t, timeout=60) as busy, log_in(t, timeout=60) as late, \
            ThreadPoolExecutor(1) as console:
        assert written_to(idle.query(WRITE)) == primary.port
        busy.rows("BEGIN")
        assert written_to(busy.query(WRITE)) == primary.port
        steps = procedure()
        assert "SWITCHOVER" in steps[0]
        answer = console.submit(run_as_written, steps[0], t, primary, replica)
        wait_until(lambda: "SWITCHOVER" in (node(t, 0)["error"] or ""))
        late.send(raw.query(WRITE))
        wait_waiting(t, 1)
        assert written_to(busy.query(WRITE)) == primary.port
        assert not answer.done()
        busy.rows("COMMIT")
        assert "SWITCHOVER" in answer.result(30)
        assert backends(primary, "application_name <> 'pgturnstile monitor'") == []
        for step in steps[1:]:
            run_as_written(step, t, primary, replica)
        assert written_to(late.until("Z")) == replica.port
        wait_role(t, 1, "primary")
        for each in (idle, busy):
            assert written_to(each.query(WRITE)) == replica.port
    assert replica.value("SELECT count(*) FROM promoted", dbname=APP_DATABASE) == 6


def test_i3_a_write_that_the_primary_got_when_it_retired_is_not_run_again(pair, turnstile):
    """While none is known to be the primary, nobody takes its servers for a replica's."""
    primary, _ = pair
    t = pooler_of(turnstile, pair, {"default_pool_size": 1, "auto_prepare_after": 1})
    batch = raw.parse("", WRITE) + raw.bind() + raw.execute() + raw.sync()
    # A name that is not ASCII goes ahead of a request, and is waited for.
    at_work = "query LIKE 'INSERT%' AND state = 'active'"
    with log_in(t, application_name="\u00e4") as client, log_in(t) as other, ThreadPoolExecutor(1) as console, \
            primary.connect(dbname=APP_DATABASE, autocommit=False) as locker:
        for _ in range(4):
            other.send(batch)
            assert written_to(other.until("Z")) == primary.port
        pid, = primary.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{APP_USER}' AND query LIKE 'INSERT%'")[0]
        locker.execute("LOCK TABLE promoted")
        os.kill(pid, signal.SIGSTOP)
        client.send(batch)
        wait_until(lambda: pool_of(t, "sv_active") == 1)
        switched = console.submit(t.admin, "SWITCHOVER shop")
        wait_until(lambda: "SWITCHOVER" in (node(t, 0)["error"] or ""))
        os.kill(pid, signal.SIGCONT)
        wait_until(lambda: primary.sql(f"SELECT 1 FROM pg_stat_activity WHERE {at_work} AND wait_event_type = 'Lock'"))
        primary.sql(f"SELECT pg_terminate_backend({pid})")
        locker.rollback()
        assert end_of(client)["H"] == "The outcome of the statement under way is not known."
        switched.result(30)
        t.admin("RESUME shop")


def test_i3_what_is_left_on_a_primary_that_is_not_known_as_one_is_kept(pair, turnstile):
    """Sessions go on where nobody new is taken in, and what they leave is not a replica's."""
    primary, _ = pair
    t = pooler_of(turnstile, pair)
    with log_in(t) as client:
        client.rows("BEGIN")
        client.rows("CREATE TEMP TABLE kept_here AS SELECT 7 AS n")
        stopped = [*backends(primary, "application_name = 'pgturnstile monitor'"), primary.pid()]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            wait_role(t, 0, "down")
            client.rows("COMMIT")
            assert client.rows("SELECT n FROM kept_here") == [("7",)]
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        wait_role(t, 0, "primary")
        assert client.rows("SELECT n FROM kept_here") == [("7",)]


def test_i3_who_is_sent_from_queue_to_queue_is_told_all_the_same(pair, turnstile):
    """The primary retires and goes on, again and again: what was waited before counts."""
    t = pooler_of(turnstile, pair, {"default_pool_size": 1, "query_wait_timeout": 3, "failover_wait": 3})
    with log_in(t) as busy, log_in(t, timeout=60) as client, ThreadPoolExecutor(2) as threads:
        busy.rows("BEGIN")
        busy.rows("SELECT pg_sleep(0)")
        client.send(raw.query(WRITE))
        told, until = threads.submit(client.until, "E"), time.monotonic() + 50
        while not told.done() and time.monotonic() < until:
            switched = threads.submit(t.admin, "SWITCHOVER shop")
            wait_until(lambda: switched.done() or node(t, 0)["error"], 30)
            with contextlib.suppress(psycopg.Error):  # its time was over
                t.admin("RESUME shop")
            assert isinstance(switched.exception(30), psycopg.Error)
        assert told.done()
        assert told.result()[-1].fields["C"] in ("08P01", "57P03")


@pytest.mark.slow
def test_switchover_is_taken_back(pair, turnstile):
    """By RESUME, or by time: then the primary goes on."""
    primary, replica = pair
    t = pooler_of(turnstile, pair)
    with log_in(t, timeout=60) as client, log_in(t) as busy, ThreadPoolExecutor(1) as console:
        busy.rows("BEGIN")
        busy.rows("SELECT pg_sleep(0)")
        answer = console.submit(t.admin, "SWITCHOVER shop")
        wait_until(lambda: "SWITCHOVER" in (node(t, 0)["error"] or ""))
        client.send(raw.query(WRITE))
        wait_waiting(t, 1)
        with pytest.raises(psycopg.Error, match="under way"):
            t.admin("SWITCHOVER shop")
        t.admin("RESUME shop")
        assert written_to(client.until("Z")) == primary.port
        with pytest.raises(psycopg.Error, match="SWITCHOVER was ended by RESUME"):
            answer.result(30)
        with pytest.raises(psycopg.Error, match="not paused"):
            t.admin("RESUME shop")

        t.reload({"pgturnstile": {"failover_wait": "1s"}})
        wait_role(t, 0, "primary")
        with pytest.raises(psycopg.Error, match="still under way"):
            t.admin("SWITCHOVER shop")
        busy.rows("COMMIT")
        t.admin("SWITCHOVER shop")
        wait_until(lambda: not node(t, 0)["error"], what="nobody has taken over in a second")
        failed = [e for e in t.admin("SHOW EVENTS") if e["kind"] == "switchover_failed"]
        assert sum(e["count"] for e in failed) == 2
        assert all("no other node has become the primary in time" in e["event"] for e in failed)
        assert written_to(client.query(WRITE)) == primary.port
        primary.kill()
        wait_role(t, 0, "down")
        with pytest.raises(psycopg.Error, match="no primary"):
            t.admin("SWITCHOVER shop")
