# SPDX-License-Identifier: ISC
#
# test_failpoints.py - system calls that hardly ever fail, do: each place of failpoints.def, one by one.
#
# Needs a build with --enable-failpoints.  test/run.sh also runs other files with calls that take and
# give bytes in pieces.
"""The clients see their rows and nothing else, or are told; afterwards all is as before."""
import contextlib
import re
import signal
import subprocess
import time

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, sqlstate
from tenancy import enter, tenants
from test_tls import certificates, connect, secured  # noqa: F401 - one is a fixture
from turnstile import ADMIN_PASSWORD, ADMIN_USER, TOP, Turnstile, built_binary
from waiting import wait_until

NAMES = re.findall(r"^\s+X\((\w+),", (TOP / "include/base/failpoints.def").read_text(), re.M)
LARGE = "SELECT repeat('x', 10000) FROM generate_series(1, 300)"

pytestmark = pytest.mark.skipif(
    b"failpoints" not in subprocess.run([built_binary(), "--version"], stdout=subprocess.PIPE,
                                        check=False).stdout,
    reason="a build without failpoints")


@contextlib.contextmanager
def failing(monkeypatch, primary, points, settings=None, config=None):
    """A pooler in which `points` fail; each of them has to have failed when it ends."""
    monkeypatch.setenv("PGT_FAILPOINTS", points)
    usual = {"server_login_retry": "20ms", "default_pool_size": 6, **(settings or {})}
    t = Turnstile(config or shop(primary, usual), {APP_USER: APP_PASSWORD})
    try:
        yield t.start()
        t.stop()
        for point in re.findall(r"(\w+_\w+):", points):
            counted = re.search(rf"^failpoint {point}: (\d+) of \d+$", t.log_text(), re.M)
            assert counted and int(counted[1]), f"{point} has not failed\n{t.log_text()}"
    finally:
        t.remove()


def play(client):
    """Requests of all shapes, and what they have to be answered."""
    assert client.rows("SELECT 2") == [("2",)]
    assert len(client.rows(LARGE)) == 300
    got = client.prepared("SELECT $1::text", ("x" * 50_000,))
    assert [m.row for m in raw.find(got, "D")] == [("x" * 50_000,)]
    client.send(*(raw.query(f"SELECT {n}") for n in range(2, 42)))
    assert [raw.find(client.until("Z"), "D")[0].row for _ in range(40)] == [(str(n),) for n in range(2, 42)]
    assert sqlstate(client.query("SELECT 1/0")) == "22012"
    client.query("CREATE TEMP TABLE failpoint_rows (t text)")
    client.send(raw.query("COPY failpoint_rows FROM STDIN"))
    assert client.message().kind == "G"
    client.send(*(raw.copy_data(b"y" * 5000 + b"\n") for _ in range(100)), raw.copy_done())
    assert raw.kinds(client.until("Z")) == "CZ"
    client.send(raw.query("COPY failpoint_rows TO STDOUT"))
    assert len(raw.find(client.until("Z"), "d")) == 100


def test_each_has_a_test():
    """Each failpoint is named in a test of this file."""
    with open(__file__) as text:
        written = text.read()
    assert [name for name in NAMES if f"{name}:" not in written] == []


@pytest.mark.parametrize("points", [
    "recv_short:2", "send_short:2", "recv_again:3", "send_again:3", "send_nobufs:3", "mail_late:1",
    "recv_short:2 send_short:2 recv_again:3 send_again:3 send_nobufs:5 mail_late:2"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_i3_nobody_sees_that_calls_do_less(monkeypatch, primary, points, seed):
    with failing(monkeypatch, primary, f"seed:{seed} {points}") as t, contextlib.ExitStack() as crowd:
        for client in [crowd.enter_context(log_in(t)) for _ in range(6)]:
            play(client)


def test_short_reads_cut_short_messages(monkeypatch, primary):
    """Not only those that are about as long as what there is room for."""
    count = 50
    with failing(monkeypatch, primary, "recv_short:1") as t:
        with log_in(t) as client:
            for _ in range(count):
                assert client.rows("SELECT 2") == [("2",)]
    passed = re.search(r"^failpoint recv_short: \d+ of (\d+)$", t.log_text(), re.M)
    assert int(passed[1]) > 6 * count  # of one request and its answer, two would do


@pytest.mark.parametrize("point", ["accept_full:2", "accept_gone:2"])
def test_who_is_not_taken_in_at_once_comes_in(monkeypatch, primary, point):
    with failing(monkeypatch, primary, point) as t, contextlib.ExitStack() as crowd:
        for _ in range(10):
            assert crowd.enter_context(log_in(t)).rows("SELECT 2") == [("2",)]


@pytest.mark.parametrize("point", ["socket_full:2", "connect_fails:2"])
def test_i3_a_server_that_cannot_be_reached_is_tried_again(monkeypatch, primary, point):
    with failing(monkeypatch, primary, point) as t, log_in(t) as client:
        for _ in range(20):
            assert client.rows("SELECT 2") == [("2",)]
            t.admin("RECONNECT")


@pytest.mark.parametrize("point", ["recv_reset:60", "send_reset:60"])
def test_i3_lost_connections_are_told(monkeypatch, primary, point):
    """Either side's: who asks has its rows, an error that says so, or no connection; nothing is left."""
    with failing(monkeypatch, primary, point) as t:
        whole = lost = 0
        while whole < 20 or lost < 5:
            try:
                with log_in(t) as client:
                    play(client)
                whole += 1
            except (AssertionError, OSError, EOFError, raw.LoginRefused):
                lost += 1
        wait_until(lambda: not [c for c in _asked(t, "SHOW CLIENTS") if c["user"] == APP_USER])


def _asked(t, command):
    """The console's connection may be lost as well."""
    answers = []

    def asked():
        with contextlib.suppress(Exception):
            answers.append(t.admin(command))
        return answers

    wait_until(asked)
    return answers[0]


@pytest.mark.parametrize("seed", [1, 2])
def test_i3_nobody_sees_the_clock_jump(monkeypatch, primary, seed):
    """Whoever waits does so by a clock that does not; a quota goes by this one, and keeps out nobody who has
    not used it up."""
    config = tenants(primary, {"default_pool_size": 1, "query_wait_timeout": 20, "query_timeout": 20}, {
        "basic": {"quota": "10000/h,10000/d", "rate": "20/s", "burst": 5, "rate_limit_wait": "20s",
                  "statement_timeout": "20s"}})
    with failing(monkeypatch, primary, f"seed:{seed} clock_steps:2", config=config) as t, \
            enter(t, "acme") as holder, enter(t, "acme") as other:
        holder.query("BEGIN")
        assert holder.rows("SELECT 2") == [("2",)]
        other.send(raw.query("SELECT 3"))  # waits for the one server, and then for its turn
        for _ in range(20):
            assert holder.rows("SELECT 2") == [("2",)]
        holder.query("COMMIT")
        assert raw.find(other.until("Z"), "D")[0].row == ("3",)
        for _ in range(20):
            assert other.rows("SELECT 4") == [("4",)]
        for what in "TENANTS", "LIMITS", "CLIENTS", "SOCKETS", "EVENTS", "PINS":
            t.admin(f"SHOW {what}")


def _in_two_parts(client, message):
    """So that the first has to be kept until the other is here."""
    client.send(message[:60_000])
    client.send(message[60_000:])


LONG = "x" * 40_000
RAISED = "DO $$BEGIN RAISE %s '%%', repeat('x', 60000); END$$"
WIDE = "SELECT " + ", ".join(f"{n} AS column_of_many_{n}" for n in range(900))



def _when_it_is_idle(client, first, then):
    """What the first has left is asked for when its answer has come."""
    client.query(first)
    client.send(raw.query(then))


HUNGRY = {
    "what has come of a long request": lambda c: _in_two_parts(c, raw.query(f"SELECT 2 /* {'x' * 200_000} */")),
    "a text that is kept": lambda c: c.send(raw.parse("kept", f"SELECT 2 /* {'x' * 40_000} */"), raw.sync()),
    "a text without a name": lambda c: c.send(raw.parse("", f"SELECT 2 /* {'x' * 40_000} */"), raw.bind(),
                                              raw.execute(), raw.sync()),
    "a text that is written anew": lambda c: c.send(
        raw.query("PREPARE two AS SELECT 2"), raw.query(f"EXECUTE two /* {'x' * 40_000} */")),
    "a parameter": lambda c: c.send(raw.parse("", "SELECT $1::text"), raw.bind(values=("x" * 40_000,)),
                                    raw.execute(), raw.sync()),
    "data of a COPY": lambda c: c.send(raw.query("CREATE TEMP TABLE hungry (t text); COPY hungry FROM STDIN"),
                                       *(raw.copy_data(b"y" * 50_000 + b"\n") for _ in range(400)), raw.copy_done()),
    "an answer that is not read": lambda c: c.send(*[raw.query(LARGE)] * 40),
    "a parameter of what is kept": lambda c: c.send(raw.parse("short", "SELECT $1::text"), raw.sync(), raw.bind(
        "", "short", (LONG,)), raw.execute(), raw.sync()),
    "a name": lambda c: c.send(raw.describe("S", LONG), raw.sync()),
    "a name of a portal": lambda c: c.send(raw.query("PREPARE two AS SELECT 2"), raw.parse("", "EXECUTE two"),
                                           raw.bind(LONG), raw.sync()),
    "a name of a portal that listens": lambda c: c.send(raw.parse("", "LISTEN hungry"), raw.bind(LONG), raw.sync()),
    "a text that is read for names": lambda c: c.send(
        raw.query(f"SELECT name FROM pg_prepared_statements /* {LONG} */")),
    "a text that prepares": lambda c: c.send(raw.query(f"PREPARE two AS SELECT 2 /* {LONG} */")),
    "many statements": lambda c: c.send(*(raw.parse(f"one_of_many_{n}", f"SELECT {n}") for n in range(5000)), raw.sync()),
    "many requests at once": lambda c: c.send(*[raw.query("SELECT 2")] * 3000),
    "many executions at once": lambda c: c.send(
        *[raw.parse("", "SELECT $1::text") + raw.bind(values=("y",)) + raw.execute() + raw.sync()] * 1000),
    "a setting": lambda c: _when_it_is_idle(c, f"SET turnstile_test.hungry = '{LONG}'", "SELECT 2"),
    "a setting by its function": lambda c: _when_it_is_idle(
        c, "SELECT set_config('turnstile_test.hungry', repeat('x', 40000), false)", "SELECT 2"),
    "a long error": lambda c: c.send(*[raw.query(RAISED % "EXCEPTION")] * 50),
    "an error that is worded anew": lambda c: c.send(
        raw.query("PREPARE two AS SELECT 2"), raw.query(RAISED % "EXCEPTION" + "; EXECUTE two")),
    "a long notice": lambda c: c.send(*[raw.query(RAISED % "NOTICE")] * 50),
    "a description of many columns": lambda c: c.send(*[raw.query(WIDE)] * 50),
}


CUT = ["an answer that is not read"]


@pytest.mark.parametrize("what", HUNGRY)
def test_i6_who_wants_memory_that_is_gone_is_told_and_leaves(monkeypatch, primary, what):
    """Alone: others are served, its server is not theirs with anything of it, and nothing stays."""
    with failing(monkeypatch, primary, "peer_malloc:1") as t, log_in(t) as other:
        with log_in(t) as hungry:
            HUNGRY[what](hungry)
            heard = hungry.until_closed()
            # In the middle of a message nothing can be said.
            assert sqlstate(heard[-1:]) == "53200" or what in CUT
        assert other.rows("SELECT 2") == [("2",)]
        with log_in(t) as next_one:
            assert next_one.rows("SELECT 2") == [("2",)]
            assert sqlstate(next_one.query("EXECUTE two")) == "26000"
            assert sqlstate(next_one.query("SHOW turnstile_test.hungry")) == "42704"
        assert t.log_contains("closing because: out of memory")


@pytest.mark.parametrize("auth", ["plain", "md5", "scram-sha-256"])
def test_i6_who_wants_memory_before_it_is_let_in_is_told(monkeypatch, primary, auth):
    """By a password: a startup packet is short."""
    with failing(monkeypatch, primary, "peer_malloc:1", {"auth_type": auth}) as t, log_in(t) as other, \
            raw.RawClient(t.port) as hungry:
        hungry.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert hungry.message().kind == "R"
        hungry.send(raw.password(LONG)[:-1])
        assert sqlstate(hungry.until_closed()) == "53200"
        assert other.rows("SELECT 2") == [("2",)]


@pytest.mark.parametrize("command", [f"SHOW VERSION /* {LONG} */", "SHOW CONFIG"], ids=["asks", "is answered"])
def test_i6_an_operator_who_wants_memory_that_is_gone_is_told(monkeypatch, primary, command):
    with failing(monkeypatch, primary, "peer_malloc:1") as t, log_in(t) as other, \
            log_in(t, ADMIN_USER, ADMIN_PASSWORD, t.console) as operator:
        operator.send(raw.query(command))
        assert sqlstate(operator.until_closed()[-1:]) == "53200"
        assert other.rows("SELECT 2") == [("2",)]


def test_i3_memory_of_passports_is_nobodys(monkeypatch, primary):
    """A session moves to the next process with all that it has, one block of which was not to be had."""
    with failing(monkeypatch, primary, "peer_malloc:1") as t, log_in(t) as client:
        for n in range(20):
            client.prepared(f"SELECT {n} + $1::int /* {'x' * 5000} */", ["2"], name=f"sum{n}")
        before = t.take_over()
        assert before.wait(30) == 0
        for n in range(20):
            client.send(raw.bind("", f"sum{n}", ["2"]), raw.execute(), raw.sync())
            assert raw.find(client.until("Z"), "D")[0].row == (str(n + 2),)


def test_i6_who_does_not_read_leaves_and_not_who_has_its_server_by_then(monkeypatch, primary):
    """What a client's socket does not take comes on an event of a server, which is another's at the end of that."""
    theirs = "SELECT granted FROM pg_locks WHERE locktype = 'advisory' AND objid = 5320"
    with failing(monkeypatch, primary, "peer_malloc:1 send_short:1", {"default_pool_size": 1}) as t, \
            log_in(t) as slow, log_in(t) as other, primary.connect(dbname=APP_DATABASE) as holder:
        holder.execute("SELECT pg_advisory_lock(5320)")
        slow.send(raw.query("SELECT repeat('x', 40000), pg_advisory_xact_lock(5320)"))
        wait_until(lambda: (False,) in holder.execute(theirs).fetchall())
        other.send(raw.query("SELECT 3"))
        t.signal(signal.SIGSTOP)
        holder.execute("SELECT pg_advisory_unlock(5320)")
        wait_until(lambda: not holder.execute(theirs).fetchall())
        t.signal(signal.SIGCONT)
        assert [m.row for m in raw.find(other.until("Z", "E"), "D")] == [("3",)]
        assert sqlstate(slow.until_closed()[-1:]) == "53200"


@pytest.mark.parametrize("requests, said", [
    (["SELECT 2"], "cannot log in: out of memory"), (["SELECT 2", "LISTEN hungry"], "cannot listen: out of memory"),
], ids=["of a pool", "that listens"])
def test_i3_a_login_that_had_no_memory_is_tried_again_soon(monkeypatch, requests, said):
    """It says nothing of the server: server_login_retry is not waited for.  But there is a pause."""
    last = len(requests) - 1  # the number of the session that the last request needs
    sizes, began = {last: 20_000, last + 1: 40_000}, []

    def login(session):
        began.append(time.monotonic())
        if session.number not in sizes:
            server._login_trust(session)
            return
        session.send(raw.auth_ok(), raw.notice("00000", "x" * sizes[session.number])[:-1])
        session.until_closed()
        raise EOFError

    with raw.FakeServer(login=login) as server, \
            failing(monkeypatch, server, "peer_malloc:1", {"server_login_retry": "600s"}) as t, \
            log_in(t, timeout=30) as client:
        for request in requests:
            assert "E" not in raw.kinds(client.query(request))
        assert t.log_text().count(said) == 2
        assert [later - earlier > 0.2 for earlier, later in zip(began[last:], began[last + 1:])] == [True, True]


# The answer to a request for TLS is one byte in the clear.
@pytest.mark.parametrize("point", ["tls_write_short:2", "tls_write_again:3", "send_again:2", "send_nobufs:2"])
def test_i3_nobody_sees_that_tls_does_less(monkeypatch, primary, certificates, point):
    with failing(monkeypatch, primary, point, secured(certificates)) as t:
        for _ in range(5):
            with connect(t, sslmode="require", connect_timeout=20) as connection:
                rows = connection.execute("SELECT n, repeat('x', 1000) FROM generate_series(1, 5000) n")
                assert len(rows.fetchall()) == 5000
                row = connection.execute("SELECT %s::text", ["y" * 100_000]).fetchone()
                assert row == ("y" * 100_000,)


@pytest.mark.parametrize("point", ["tls_handshake_fails:4", "tls_read_fails:4"])
def test_a_broken_tls_ends_its_connection_only(monkeypatch, primary, certificates, point):
    with failing(monkeypatch, primary, point, secured(certificates, "allow")) as t, log_in(t) as other:
        whole = broken = 0
        while not whole or not broken:
            try:
                with connect(t, sslmode="require") as connection:
                    assert connection.execute("SELECT 2").fetchone() == (2,)
                whole += 1
            except psycopg.OperationalError:
                broken += 1
            assert other.rows("SELECT 2") == [("2",)]
