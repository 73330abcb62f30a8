# SPDX-License-Identifier: ISC
#
# test_replication.py - connections that replicate: a server of their own, and a stream both ways.
#
# The tools of PostgreSQL as operators run them, and the protocol byte by byte; wherever it makes
# sense the same is asked of the server directly.
import concurrent.futures
import signal
import struct
import subprocess
import sys
import threading
import uuid

import pytest

import raw
from cluster import BINDIR, Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import run, scratch_dir, spawn
from rig import (clients, essence, log_in, memory_kib, pid_of, pool_of, shop, sqlstate,
                 wait_nodes)
from test_protocol import MESSAGES
from waiting import wait_until

MIRROR, SECRET = "mirror", "mirror-password"
IDENTIFY = raw.query("IDENTIFY_SYSTEM")
MODES = ["session", "transaction", "statement"]


@pytest.fixture(scope="module")
def source():
    """A primary whose WAL can be decoded, and a role that may replicate."""
    server = Postgres.primary("source", {"wal_level": "logical", "wal_sender_timeout": "60s"})
    server.role(APP_USER, APP_PASSWORD)
    server.role(MIRROR, SECRET, "LOGIN REPLICATION")
    server.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    server.sql("CREATE TABLE moves (n int, what text); GRANT ALL ON moves TO PUBLIC",
               dbname=APP_DATABASE)
    server.hba(f"host replication {MIRROR},{APP_USER} 127.0.0.1/32 scram-sha-256")
    yield server
    server.remove()


@pytest.fixture
def start(source, turnstile):
    """start(settings…): a pooler before `source`."""
    def start(settings=None, database=None, users=None):
        config = shop(source, settings, database)
        # The name that tools and standbys ask for, whatever they are told.
        config["databases"]["replication"] = config["databases"][APP_DATABASE]
        return turnstile(config, {MIRROR: SECRET, **(users or {})})
    return start


@pytest.fixture
def slot(source):
    """The name of a slot that does not exist yet, and will not any more."""
    name = f"slot_{uuid.uuid4().hex[:12]}"
    yield name
    source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
               " WHERE slot_name = %s", [name])


def replica_of(server, kind="true", **kwargs):
    """A raw client that may replicate."""
    return log_in(server, MIRROR, SECRET, replication=kind, **kwargs)


def prove(client, user, secret):
    """A login up to the point where it waits for a server."""
    scram, request = raw.Scram(secret), client.message()
    while request.number != 0:
        client._authenticate(request, user, secret, scram)
        request = client.message()


def ask(client, command):
    client.send(raw.query(command))
    return client.until("Z")


def position(source):
    return source.value("SELECT pg_current_wal_flush_lsn()::text")


def lsn(text):
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def stream_wal(client, source, where=None):
    client.send(raw.query(f"START_REPLICATION PHYSICAL {where or position(source)}"))
    assert client.message().kind == "W"


def status(at, reply=False):
    """A standby's status update."""
    return raw.copy_data(b"r" + struct.pack("!QQQqb", at, at, at, 0, reply))


def received(client):
    """The next piece of WAL: its start and its bytes; keepalives are passed over."""
    while True:
        got = client.message()
        assert got.kind == "d", got
        if got.body[:1] == b"w":
            return struct.unpack_from("!Q", got.body, 1)[0], got.body[25:]


def walsenders(source):
    return source.value("SELECT count(*) FROM pg_stat_activity"
                        " WHERE backend_type = 'walsender' AND usename = %s", [MIRROR])


def sessions(source):
    """Those that replicate, and the role's others."""
    return source.value("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [MIRROR])


def wait_gone(source):
    wait_until(lambda: walsenders(source) == 0, what="nobody replicates")


# --- the startup packet -----------------------------------------------------------------------------
def outcome(server, value):
    """What a value of the parameter `replication` makes of a session."""
    try:
        with replica_of(server, value) as client:
            return [essence(ask(client, command))
                    for command in ("IDENTIFY_SYSTEM", "SELECT 1", "SHOW wal_level")]
    except raw.LoginRefused as refused:
        return {field: refused.fields.get(field) for field in "SCMH"}


@pytest.mark.parametrize("value", [
    "true", "TRUE", "t", "tr", "yes", "y", "on", "1", "database", "false", "f", "no", "n", "off",
    "of", "0", "DATABASE", "data", "o", "2", "", "truely", "physical"])
def test_values_of_the_parameter_are_the_servers(source, start, value):
    def without_position(answers):
        """The server's WAL goes on, so only the shape of the first answer is compared."""
        return answers if isinstance(answers, dict) \
            else [[kind for kind, _ in answers[0]], *answers[1:]]

    assert without_position(outcome(start(), value)) == without_position(outcome(source, value))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["true", "database"])
def test_a_session_of_its_own_in_every_mode(source, start, mode, kind):
    t = start({"pool_mode": mode, "default_pool_size": 3})
    with replica_of(t, kind) as one, replica_of(t, kind) as two, log_in(t) as plain:
        for _ in range(2):
            for client in (one, two):
                assert raw.kinds(ask(client, "IDENTIFY_SYSTEM")) == "TDCZ"
        assert plain.rows("SELECT 1") == [("1",)]
        assert walsenders(source) == 2
    wait_gone(source)


def test_i4_always_the_primary(source, start):
    """Where reads go to a replica, here one that is named first, streams do not."""
    replica = Postgres.replica_of(source, "beside")
    try:
        source.sql(f"GRANT pg_monitor TO {APP_USER}")
        t = start({"monitor_user": APP_USER, "monitor_interval": "100ms"},
                  {"host": f"{replica.host},{source.host}",
                   "port": f"{replica.port},{source.port}"})
        wait_nodes(t, "replica", "primary")
        with log_in(t, MIRROR, SECRET) as plain:
            wait_until(lambda: plain.rows("SELECT current_setting('test.port')")
                       == [(str(replica.port),)], 30)
        for kind in ("true", "database"):
            with replica_of(t, kind) as client:
                answer = raw.find(ask(client, "SHOW port"), "D")
                assert answer[0].row == (str(source.port),)
    finally:
        replica.remove()
    wait_gone(source)


def test_what_it_begins_with_is_in_the_startup_packet(source, start):
    t = start(database={"application_name": "pooled", "connect_query": "SELECT no_such_thing"})
    settings = {"application_name": "mirror 1", "options": "-c work_mem=123kB -c search_path="}
    with replica_of(t, "true", **settings), \
            replica_of(t, "database", **{**settings, "application_name": "mirror 2"}) as logical:
        names = [name for name, in source.sql(
            "SELECT application_name FROM pg_stat_activity WHERE usename = %s ORDER BY 1", [MIRROR])]
        assert names == ["mirror 1", "mirror 2"]
        for _ in range(2):
            assert raw.find(ask(logical, "SHOW work_mem"), "D")[0].row == ("123kB",)
            assert raw.find(ask(logical, "SHOW search_path"), "D")[0].row == ("",)
            assert raw.kinds(ask(logical, "SET work_mem = '1MB'")) == "CZ"
            assert raw.kinds(ask(logical, "DISCARD ALL")) == "CZ"


def test_a_refusal_is_the_servers_and_only_one_clients(source, start):
    """Who may replicate is the server's to say; others of the same login are not kept waiting."""
    t = start({"server_login_retry": 30, "default_pool_size": 4})
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t, replication="true")
    assert refused.value.fields["C"] == "42501"
    with pytest.raises(raw.LoginRefused) as refused:
        replica_of(t, "true", work_mem="much")
    assert refused.value.fields["C"] == "22023"
    with replica_of(t, "true") as client, log_in(t) as plain:
        assert raw.kinds(ask(client, "IDENTIFY_SYSTEM")) == "TDCZ"
        assert plain.rows("SELECT 1") == [("1",)]


def test_unknown_database_says_what_to_do(source, turnstile):
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(turnstile(shop(source), {MIRROR: SECRET}), MIRROR, SECRET, "replication",
               replication="true")
    assert refused.value.fields["C"] == "3D000" and "[databases]" in refused.value.fields["H"]


def test_i1_a_tenant_may_not_see_the_rows_of_all(source, start):
    tenants = {"pgturnstile": {"tenant_by": "user"}, "tiers": {"basic": {"weight": 1}},
               "tenants": {"acme": {"tier": "basic", "business_id": 42, "user": MIRROR}}}
    t = start()
    with replica_of(t, "true") as streaming, replica_of(t, "database") as resting:
        stream_wal(streaming, source)
        t.reload(tenants)
        assert sqlstate(resting.until_closed()) == "57P01"
        assert sqlstate(streaming.until_closed()) == "57P01"
    for kind in ("true", "database"):
        with pytest.raises(raw.LoginRefused) as refused:
            replica_of(t, kind)
        assert refused.value.fields["C"] == "42501"
    wait_gone(source)


# --- the stream, byte by byte ---------------------------------------------------------------------
@pytest.mark.parametrize("mode", MODES)
def test_physical_stream_and_back_to_commands(source, start, mode):
    t = start({"pool_mode": mode})
    with replica_of(t) as client:
        for _ in range(2):
            stream_wal(client, source)
            source.sql("INSERT INTO moves VALUES (1, 'physical')", dbname=APP_DATABASE)
            at, data = received(client)
            client.send(status(at + len(data)), status(at + len(data), True))
            client.send(raw.copy_done())
            ending = [m for m in client.until("Z") if m.kind != "d"]
            assert raw.kinds(ending) == "cCCZ", ending
            assert raw.kinds(ask(client, "IDENTIFY_SYSTEM")) == "TDCZ"
    wait_gone(source)


@pytest.mark.parametrize("mode", MODES)
def test_logical_stream_and_back_to_commands(source, start, slot, mode):
    t = start({"pool_mode": mode})
    with replica_of(t, "database") as client:
        made = ask(client, f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL test_decoding")
        assert raw.kinds(made) == "TDCZ"
        source.sql("INSERT INTO moves VALUES (7, 'logical')", dbname=APP_DATABASE)
        client.send(raw.query(f"START_REPLICATION SLOT {slot} LOGICAL 0/0"))
        assert client.message().kind == "W"
        while b"'logical'" not in received(client)[1]:
            pass
        client.send(raw.copy_done())
        assert raw.kinds(m for m in client.until("Z") if m.kind != "d") == "cCCZ"
        assert raw.find(ask(client, "SELECT count(*) > 0 FROM moves"), "D")[0].row == ("t",)
        assert raw.kinds(ask(client, f"DROP_REPLICATION_SLOT {slot}")) == "CZ"


def test_what_is_sent_before_the_stream_has_begun(source, start):
    """CopyDone and the next command in the same write as START_REPLICATION."""
    def conversation(server):
        with replica_of(server) as client:
            client.send(raw.query(f"START_REPLICATION PHYSICAL {position(source)}"),
                        raw.copy_done(), IDENTIFY)
            return [m.kind for m in client.until("Z") + client.until("Z") if m.kind != "d"]

    assert "".join(conversation(start())) == "".join(conversation(source)) == "WcCCZTDCZ"


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_in_a_stream(source, start, name):
    def conversation(server):
        answer = []
        with replica_of(server) as client:
            stream_wal(client, source)
            client.send(MESSAGES[name])
            try:
                client.send(raw.copy_done(), IDENTIFY)
                while raw.kinds(answer[-4:]) != "TDCZ":
                    answer += [m for m in [client.message()] if m.kind != "d"]
            except (EOFError, ConnectionError):
                answer = [(kind, body) for kind, body in essence(answer) if kind != "c"]
                return answer + ["closed"]
        return raw.kinds(answer)

    expected, got = conversation(source), conversation(start())
    # We say why where the server just hangs up, and refuse what is no message at all.
    ours = got[-1] == "closed" and [body["C"] for _, body in got[:-1]] in (
        ["08P01"], ["08006"] if expected == ["closed"] else [])
    assert got == expected or ours
    wait_gone(source)


def test_stream_that_cannot_begin(start):
    with replica_of(start()) as client:
        for _ in range(2):
            answer = ask(client, "START_REPLICATION SLOT no_such_slot PHYSICAL 0/0")
            assert raw.kinds(answer) == "EZ" and sqlstate(answer) == "42704"
        assert raw.kinds(ask(client, "IDENTIFY_SYSTEM")) == "TDCZ"


def test_cancel_ends_the_stream_and_not_the_session(source, start):
    """The server's error comes in the middle of the stream; what the client still sends is void."""
    t = start()
    with replica_of(t) as client:
        stream_wal(client, source)
        with raw.RawClient(t.port) as asker:
            asker.send(raw.cancel_request(client.pid, client.key))
            asker.until_closed()
        ending = [m for m in client.until("Z") if m.kind != "d"]
        assert raw.kinds(ending) == "EZ" and sqlstate(ending) == "57014"
        client.send(status(0), raw.copy_done(), IDENTIFY)
        assert raw.kinds(client.until("Z")) == "TDCZ"


@pytest.mark.parametrize("how", ["close", "reset", "terminate"])
def test_client_that_goes_takes_its_server_with_it(source, start, how):
    t = start()
    for begins in (False, True):
        client = replica_of(t)
        if begins:
            stream_wal(client, source)
        if how == "terminate":
            client.send(raw.terminate())
        client.reset() if how == "reset" else client.close()
        wait_gone(source)
    wait_until(lambda: not pool_of(t, "sv_active") and not pool_of(t, "sv_idle"))


def test_client_that_goes_in_a_base_backup(source, start):
    """What nobody reads any more is not read to its end."""
    client = replica_of(start())
    client.send(raw.query("BASE_BACKUP (CHECKPOINT 'fast')"), raw.terminate())
    client.close()
    wait_gone(source)


def test_server_that_goes(source, start):
    t = start()
    with replica_of(t) as client:
        stream_wal(client, source)
        source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                   [MIRROR])
        assert sqlstate(client.until_closed()) == "57P01"
    with replica_of(t) as client:
        assert raw.kinds(ask(client, "IDENTIFY_SYSTEM")) == "TDCZ"


def test_server_of_a_client_that_is_gone_is_nobodys(turnstile):
    """The login to the server ends when the client has left; another one is made for the next."""
    may_answer, gone = threading.Event(), threading.Event()

    class Slow(raw.FakeServer):
        def _login_trust(self, session):
            assert session.number or may_answer.wait(10)
            super()._login_trust(session)

    def script(session):
        try:
            session.until("X")
        finally:
            gone.set()

    with Slow(script) as server:
        t = turnstile(shop(server))
        with raw.RawClient(t.port) as client:
            client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE,
                                     "replication": "true"}))
            prove(client, APP_USER, APP_PASSWORD)
            wait_until(lambda: server.startups)
        wait_until(lambda: not [row for row in t.admin("SHOW CLIENTS")
                                if row["replication"] == "physical"])
        with log_in(t, replication="true"):
            may_answer.set()
            assert gone.wait(10)
            assert [words["replication"] for words in server.startups] == ["true", "true"]
            wait_until(lambda: pool_of(t, "sv_active") == 1 and not pool_of(t, "sv_idle"))


def test_copy_both_of_a_server_that_was_not_asked(turnstile):
    def script(session):
        session.message()
        session.send(raw.message("W", b"\0\0\0"))

    with raw.FakeServer(script) as server:
        with log_in(turnstile(shop(server))) as client:
            client.send(raw.query("SELECT anything"))
            assert sqlstate(client.until_closed()) == "08006"


def test_i6_slow_reader(source, start):
    """The stream stands still for a client that does not read, and nothing of it is lost."""
    t = start()
    with replica_of(t, timeout=60) as client:
        begin = position(source)
        stream_wal(client, source, begin)
        before = memory_kib(t)
        source.sql("INSERT INTO moves SELECT n, repeat('x', 1000) FROM generate_series(1, 50000) n",
                   dbname=APP_DATABASE)
        target = lsn(position(source))
        assert target - lsn(begin) > 40 << 20
        seen = []

        def stands_still():
            seen.append(source.value("SELECT sent_lsn::text FROM pg_stat_replication"))
            return len(seen) > 10 and len(set(seen[-10:])) == 1
        wait_until(stands_still)
        assert lsn(seen[-1]) < target
        assert all(row["send_remain"] < 1 << 20 and row["recv_pos"] < 1 << 20
                   for row in t.admin("SHOW SOCKETS"))
        assert not before or memory_kib(t) - before < 4096
        at = None
        while at is None or at < target:
            start_of, data = received(client)
            assert at is None or start_of == at
            at = start_of + len(data)
        client.send(raw.copy_done())
        assert raw.kinds(m for m in client.until("Z") if m.kind != "d") == "cCCZ"


# --- limits -----------------------------------------------------------------------------------------
def test_i5_they_count_against_pool_size(source, start):
    """Those who replicate and those who do not share it, and give way to each other."""
    t = start({"default_pool_size": 2, "query_wait_timeout": 30})
    with clients(t, 2, user=MIRROR, secret=SECRET) as (one, two):
        one.send(raw.query("BEGIN; SELECT 2"))
        two.send(raw.query("BEGIN; SELECT 2"))
        one.until("Z"), two.until("Z")
        one.send(raw.query("COMMIT"))  # one server is idle, the other one in use
        one.until("Z")
        with replica_of(t) as physical:
            assert sessions(source) == 2
            waits = raw.RawClient(t.port)
            waits.send(raw.startup({"user": MIRROR, "database": APP_DATABASE,
                                    "replication": "database"}))
            prove(waits, MIRROR, SECRET)
            wait_until(lambda: pool_of(t, "cl_waiting") == 1)
            two.send(raw.query("COMMIT"))
            two.until("Z")  # its server comes free, and goes
            assert raw.find(waits.until("Z"), "K")
            assert sessions(source) == 2
            one.send(raw.query("SELECT 'at last'"))
            wait_until(lambda: pool_of(t, "cl_waiting") == 1)
            assert sessions(source) == 2
            waits.close()
            assert raw.find(one.until("Z"), "D")[0].row == ("at last",)
            assert raw.kinds(ask(physical, "IDENTIFY_SYSTEM")) == "TDCZ"


@pytest.mark.parametrize("limit", ["max_db_connections", "max_user_connections"])
def test_i5_they_count_against_the_sums(source, start, limit):
    t = start({limit: 2, "default_pool_size": 5})
    with replica_of(t), replica_of(t, "database"):
        with t.run_with_config({"pgturnstile": {"query_wait_timeout": 1}}):
            with pytest.raises(raw.LoginRefused) as refused:
                replica_of(t)
        assert refused.value.fields["M"].startswith("query_wait_timeout")
        assert walsenders(source) == 2
    wait_gone(source)
    with replica_of(t):
        pass


def test_i5_idle_servers_make_room_within_the_sums(start):
    t = start({"max_db_connections": 1, "default_pool_size": 5})
    with log_in(t) as plain:
        assert pid_of(plain)
        with replica_of(t) as client:
            assert raw.kinds(ask(client, "IDENTIFY_SYSTEM")) == "TDCZ"
            assert not pool_of(t, "sv_idle")


def test_i5_they_count_against_max_client_conn(start):
    t = start({"max_client_conn": 1})
    with replica_of(t):
        with pytest.raises(raw.LoginRefused) as refused:
            replica_of(t)
        assert refused.value.fields["C"] == "53300"


def test_timeouts_leave_the_stream_alone(source, start):
    t = start()
    with replica_of(t) as streaming, replica_of(t, "database") as resting, \
            log_in(t, timeout=30) as plain:
        stream_wal(streaming, source)
        plain.send(raw.query("SELECT pg_sleep(30)"))
        wait_until(lambda: pool_of(t, "sv_active") == 1)
        t.reload({"pgturnstile": {"query_timeout": 0.3, "client_idle_timeout": 0.3,
                                  "server_lifetime": 0.1, "server_idle_timeout": 0.1,
                                  "min_pool_size": 1}})
        assert sqlstate(plain.until_closed()) == "57014"
        assert sqlstate(resting.until_closed()) == "57P05"
        source.sql("INSERT INTO moves VALUES (2, 'still there')", dbname=APP_DATABASE)
        assert received(streaming)[1]


# --- the console --------------------------------------------------------------------------------------
def test_shows(source, start):
    t = start({"default_pool_size": 3})
    with replica_of(t), replica_of(t, "database"), log_in(t, MIRROR, SECRET) as plain:
        pid_of(plain)
        for command in ("SHOW CLIENTS", "SHOW SERVERS", "SHOW SOCKETS"):
            rows = [row["replication"] for row in t.admin(command) if row["user"] == MIRROR]
            assert set(rows) == {"none", "physical", "logical"}, command
        pins = t.admin("SHOW PINS")
        assert [row["reason"] for row in pins] == ["replication"] * 2
        assert {row["now"] for row in t.admin("SHOW PIN_COUNTS")} == {2}
        row, = [row for row in t.admin("SHOW POOLS") if row["user"] == MIRROR]
        assert (row["sv_active"], row["pool_mode"]) == (2, "transaction")
    wait_until(lambda: not t.admin("SHOW PINS"))


@pytest.mark.parametrize("command", ["RECONNECT", "KILL shop"])
def test_console_ends_streams(source, start, command):
    t = start()
    with replica_of(t) as client:
        stream_wal(client, source)
        t.admin(command)
        assert sqlstate(client.until_closed()) == "57P01"
    wait_gone(source)


def test_kill_client(source, start):
    t = start()
    with replica_of(t) as client:
        stream_wal(client, source)
        row, = [row for row in t.admin("SHOW CLIENTS") if row["replication"] == "physical"]
        t.admin(f"KILL_CLIENT {row['id']}")
        assert sqlstate(client.until_closed()) == "57P01"
    wait_gone(source)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_safe_shutdown_waits_for_the_stream(source, start, stop):
    t = start()
    with replica_of(t) as client:
        stream_wal(client, source)
        t.signal(stop)
        wait_until(lambda: t.log_contains("(?i)shut"))
        source.sql("INSERT INTO moves VALUES (3, 'in the end')", dbname=APP_DATABASE)
        assert received(client)[1] and t.is_running()
    assert t.wait_exit() == 0
    wait_gone(source)


def test_pause_waits_for_the_stream_and_resume_lets_the_next_in(source, start):
    t = start()
    with concurrent.futures.ThreadPoolExecutor() as threads, replica_of(t) as client:
        stream_wal(client, source)
        paused = threads.submit(t.admin, "PAUSE")
        wait_until(lambda: any(row["paused"] for row in t.admin("SHOW DATABASES")))
        source.sql("INSERT INTO moves VALUES (9, 'before the pause')", dbname=APP_DATABASE)
        assert received(client)[1] and not paused.done()
        client.close()
        paused.result(10)
        later = threads.submit(replica_of, t)
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        assert walsenders(source) == 0
        t.admin("RESUME")
        with later.result(10) as next_one:
            assert raw.kinds(ask(next_one, "IDENTIFY_SYSTEM")) == "TDCZ"


def test_reload_leaves_the_stream_alone(source, start):
    t = start()
    with replica_of(t) as client:
        stream_wal(client, source)
        t.reload({"pgturnstile": {"pool_mode": "session", "default_pool_size": 7,
                                  "query_timeout": 0.2, "min_pool_size": 2}})
        source.sql("INSERT INTO moves VALUES (4, 'reloaded')", dbname=APP_DATABASE)
        at, data = received(client)
        client.send(status(at + len(data)), raw.copy_done())
        assert raw.kinds(m for m in client.until("Z") if m.kind != "d") == "cCCZ"


# --- the tools ----------------------------------------------------------------------------------------
def conninfo(pooler, **more):
    words = {"host": pooler.host, "port": pooler.port, "dbname": APP_DATABASE, "user": MIRROR,
             "password": SECRET, **more}
    return " ".join(f"{key}={value}" for key, value in words.items())


@pytest.fixture(params=["plain", "keys"])
def tooled(request, source, start):
    """A pooler that logs in to the server with the password, or with the keys of the client's login."""
    secret = source.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [MIRROR])
    return start({"default_pool_size": 4},
                 users={MIRROR: SECRET if request.param == "plain" else secret})


def test_pg_basebackup(source, tooled):
    into = scratch_dir("backup") / "data"
    run([BINDIR / "pg_basebackup", "-D", into, "-d", conninfo(tooled), "-X", "stream", "-c", "fast"])
    assert "successfully verified" in run([BINDIR / "pg_verifybackup", into])
    wait_gone(source)


def test_pg_receivewal(source, tooled, slot):
    into = scratch_dir("wal")
    common = [BINDIR / "pg_receivewal", "-d", conninfo(tooled), "--slot", slot]
    run([*common, "--create-slot"])
    tool = spawn([*common, "-D", into, "--synchronous"], into / "log", "KILL")
    try:
        wait_until(lambda: source.sql("SELECT true FROM pg_stat_replication WHERE state = 'streaming'"),
                   what=lambda: (into / "log").read_text())
        source.sql("INSERT INTO moves VALUES (5, 'received')", dbname=APP_DATABASE)
        target = position(source)
        wait_until(lambda: source.value("SELECT flush_lsn >= %s::pg_lsn FROM pg_stat_replication",
                                        [target]))
    finally:
        tool.send_signal(signal.SIGINT)
        assert tool.wait(30) == 0
    wait_gone(source)
    run([*common, "--drop-slot"])


def test_pg_recvlogical(source, tooled, slot):
    common = [BINDIR / "pg_recvlogical", "-d", conninfo(tooled), "--slot", slot]
    run([*common, "--create-slot", "-P", "test_decoding"])
    source.sql("INSERT INTO moves VALUES (6, 'decoded')", dbname=APP_DATABASE)
    text = run([*common, "--start", "-f", "-", "--no-loop", "--endpos", position(source)])
    assert "'decoded'" in text
    wait_gone(source)  # or the slot is still in use
    run([*common, "--drop-slot"])
    wait_gone(source)


def test_psql(source, tooled):
    def psql(kind, command):
        return run(["psql", "-XAtc", command, conninfo(tooled, replication=kind)]).strip()

    number = str(source.value("SELECT system_identifier FROM pg_control_system()"))
    assert psql("true", "IDENTIFY_SYSTEM").split("|")[0] == number
    assert psql("database", "IDENTIFY_SYSTEM").split("|")[3] == APP_DATABASE
    assert psql("database", "SELECT current_user") == MIRROR
    assert psql("database", "SHOW wal_level") == "logical"


PSYCOPG2 = """
import sys
import psycopg2
import psycopg2.extras
dsn, slot = sys.argv[1:]
link = psycopg2.connect(dsn, connection_factory=psycopg2.extras.LogicalReplicationConnection)
cursor = link.cursor()
cursor.create_replication_slot(slot, output_plugin="test_decoding")
sys.stdin.readline()
cursor.start_replication(slot, decode=True)
class Enough(Exception):
    pass
def consume(message):
    print(message.payload, flush=True)
    message.cursor.send_feedback(flush_lsn=message.data_start)
    if "COMMIT" in message.payload:
        raise Enough
try:
    cursor.consume_stream(consume)
except Enough:
    pass
link.close()
"""


def test_psycopg2(source, tooled, slot):
    pytest.importorskip("psycopg2")
    with subprocess.Popen([sys.executable, "-c", PSYCOPG2, conninfo(tooled), slot], text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        wait_until(lambda: source.sql("SELECT true FROM pg_replication_slots WHERE slot_name = %s"
                                      " AND confirmed_flush_lsn IS NOT NULL", [slot]))
        source.sql("INSERT INTO moves VALUES (8, 'consumed')", dbname=APP_DATABASE)
        text, _ = program.communicate("go\n", timeout=30)
    assert program.returncode == 0 and "'consumed'" in text
    wait_gone(source)


def test_standby_through_the_pooler(source, start):
    """A replica whose primary_conninfo names the pooler."""
    t = start({"default_pool_size": 4})
    standby = Postgres("standby", source.settings)
    try:
        run([BINDIR / "pg_basebackup", "-D", standby.data, "-d", conninfo(t), "-X", "stream",
             "-c", "fast", "-R"])
        standby.start()
        source.sql("CREATE TABLE IF NOT EXISTS arrived ()", dbname=APP_DATABASE)
        standby.wait_caught_up(source)
        assert standby.value("SELECT to_regclass('arrived') IS NOT NULL", dbname=APP_DATABASE)
    finally:
        standby.remove()
    wait_gone(source)
