# SPDX-License-Identifier: ISC
#
# test_faults.py - servers that refuse, die and lie; clients that vanish.
"""After each fault the next client works, and whoever was hit has been told as PostgreSQL would."""
import signal
import time

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import backends, clients, log_in, pid_of, pool_of, shop, sqlstate, wait_backends
from waiting import wait_until

SLEEP = raw.query("SELECT pg_sleep(30)")


def terminate(primary, where):
    primary.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'"
                f" AND {where}")


def fake_shop(server, **settings):
    return shop(server, {"server_login_retry": "100ms", **settings})


# --- the server dies -----------------------------------------------------------------------------
@pytest.mark.tsan
def test_server_killed_in_a_query(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.send(SLEEP)
        wait_until(lambda: backends(primary, "wait_event = 'PgSleep'"))
        other.send(raw.query("SELECT 'waited'"))
        terminate(primary, "wait_event = 'PgSleep'")
        messages = client.until_closed()
        assert raw.kinds(messages) == "TE" and messages[1].fields["S"] == "FATAL"
        assert sqlstate(messages) == "57P01"
        assert raw.find(other.until("Z"), "D")[0].row == ("waited",)


def test_server_killed_between_the_statements_of_a_transaction(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("BEGIN; SELECT 2")
        terminate(primary, "state = 'idle in transaction'")
        assert sqlstate(client.until_closed()) == "57P01"
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def test_idle_servers_killed(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        for _ in range(3):
            pid = pid_of(client)
            terminate(primary, "true")
            wait_until(lambda: pool_of(t, "sv_idle") == 0)
            assert pid_of(client) != pid


def test_server_restarts(primary, turnstile):
    t = turnstile(shop(primary, {"server_login_retry": "100ms"}))
    with clients(t, 3) as all_clients:
        for client in all_clients:
            client.query("SELECT 2")
        primary.restart()
        for client in all_clients:
            assert client.rows("SELECT 'again'") == [("again",)]


def test_server_that_is_down_is_waited_for(primary, turnstile):
    t = turnstile(shop(primary, {"server_login_retry": "100ms"}))
    with log_in(t, timeout=60) as client:
        primary.stop()
        try:
            client.send(raw.query("SELECT 'patience'"))
            t.wait_log("cannot log in")
        finally:
            primary.start()
        assert raw.find(client.until("Z"), "D")[0].row == ("patience",)


# --- logins to the server ------------------------------------------------------------------------
def test_wrong_server_password(primary, turnstile):
    t = turnstile(shop(primary, database={"user": APP_USER, "password": "wrong"}))
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t)
    assert refused.value.fields["C"] == "28P01"
    with pytest.raises(raw.LoginRefused):  # at once, not after another try
        log_in(t)


def test_wrong_startup_setting_is_refused_in_the_servers_words(primary, turnstile):
    t = turnstile(shop(primary))
    for parameters in ({"options": "-c work_mem=much"}, {"TimeZone": "Nowhere/Land"},
                       {"options": "-c nonsense=1"}, {"client_encoding": "nonsense"}):
        states = []
        for server in primary, t:
            with pytest.raises(raw.LoginRefused) as refused:
                log_in(server, **parameters)
            states.append(refused.value.fields["C"])
        assert states[0] == states[1], parameters
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def refuse(session):
    session.send(raw.error("53300", "sorry, too many clients already", "FATAL"))
    raise EOFError("refused")


def hang_up(session):
    raise EOFError("hung up")


def half_a_message(session):
    session.send(raw.auth_ok()[:6])
    raise EOFError("hung up")


def wants_kerberos(session):
    session.send(raw.message("R", b"\0\0\0\2"))
    session.until_closed()


def talks_nonsense(session):
    session.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    session.until_closed()


def ready_before_auth(session):
    session.send(raw.ready())
    session.until_closed()


def scram_without_proof(session):
    session.send(raw.auth_sasl())
    session.message()
    session.send(raw.auth_ok(), raw.ready())
    session.until_closed()


@pytest.mark.parametrize("login", [refuse, hang_up, half_a_message, wants_kerberos, talks_nonsense,
                                   ready_before_auth, scram_without_proof],
                         ids=lambda f: f.__name__)
def test_server_that_lets_nobody_in(turnstile, login):
    with raw.FakeServer(login=login) as server:
        t = turnstile(fake_shop(server, **({} if login is refuse else {"query_wait_timeout": "1s"})))
        with pytest.raises(raw.LoginRefused) as refused:
            log_in(t)
        # In the server's own words, or after query_wait_timeout with ours as its hint.
        assert refused.value.fields["C"] in (["53300"] if login is refuse else ["08P01", "08001"])
        t.wait_log("cannot log in")


def test_server_that_lets_in_the_second_time(turnstile):
    def login(session):
        if session.number == 0:
            raise EOFError("hung up")
        server._login_trust(session)

    with raw.FakeServer(login=login) as server:
        t = turnstile(fake_shop(server))
        with log_in(t) as client:
            assert client.rows("SELECT 2") == [("SELECT 2",)]


@pytest.mark.parametrize("how", ["client_idle_timeout", "shutdown_timeout", "KILL"])
def test_i3_who_is_refused_because_another_leaves(turnstile, how, tmp_path):
    """Whoever is looked at with all the others, and closed, may take the next one with it."""
    def login(session):
        if refuses:
            session.send(raw.error("28000", "not now", "FATAL"))
            session.until_closed()
        else:
            server._login_trust(session)

    refuses = []
    with raw.FakeServer(login=login, directory=tmp_path) as server:
        t = turnstile(shop(server, {"pool_mode": "session", "server_reset_query": "", "workers": 1,
                                    "server_login_retry": "10ms", "client_idle_timeout": "0",
                                    "shutdown_timeout": "1s"}))
        with log_in(t) as keeps, log_in(t) as waits:
            keeps.query("SELECT 1")
            refuses.append(True)
            waits.send(raw.query("SELECT 2"))
            t.wait_log("not now")
            server.stop_listening()
            t.wait_log("cannot log in: .*Connection refused")
            if how == "KILL":
                t.admin(f"KILL {APP_DATABASE}")
            elif how == "client_idle_timeout":
                t.reload({"pgturnstile": {how: "100ms"}})
            else:
                t.signal(signal.SIGTERM)
            keeps.until_closed()
            waits.until_closed()
        if how == "shutdown_timeout":
            t.wait_exit(10)
        else:
            assert not pool_of(t, "cl_waiting")


def test_server_that_never_answers_a_login(turnstile):
    with raw.FakeServer(login=lambda session: session.until_closed()) as server:
        t = turnstile(fake_shop(server, server_connect_timeout="200ms", query_wait_timeout="1s"))
        with pytest.raises(raw.LoginRefused, match="query_wait_timeout"):
            log_in(t)
        t.wait_log("server_connect_timeout")


def test_i3_a_server_that_is_gone_is_sought_without_a_pause(turnstile, tmp_path):
    with raw.FakeServer(directory=tmp_path) as server:
        server.stop_listening()
        t = turnstile(fake_shop(server, server_login_retry="0", query_wait_timeout="1s"))
        with pytest.raises(raw.LoginRefused, match="query_wait_timeout"):
            log_in(t)
        assert pool_of(t, "cl_waiting") == 0


@pytest.mark.parametrize("login", ["trust", "plain", "md5", "scram"])
def test_ways_to_log_in_to_a_server(turnstile, login):
    with raw.FakeServer(login=login, secret=APP_PASSWORD) as server:
        t = turnstile(fake_shop(server))
        with log_in(t) as client:
            assert client.rows("hello") == [("hello",)]


# --- answers that end too early ------------------------------------------------------------------
WHOLE_ANSWER = (raw.row_description("n") + raw.data_row("x" * 100) + raw.command_complete("SELECT 2")
                + raw.ready())


def is_well_formed(data):
    """Whether the bytes are whole messages, up to a message cut short by the end."""
    while len(data) >= 5:
        size = int.from_bytes(data[1:5], "big") + 1
        if not 5 <= size < 1000 or data[:1] not in b"TDCZEN":
            return False
        data = data[size:]
    return True


@pytest.mark.parametrize("cut", range(0, len(WHOLE_ANSWER), 7))
@pytest.mark.parametrize("how", ["close", "reset"])
def test_server_dies_in_an_answer(turnstile, cut, how):
    def script(session):
        assert session.message().kind == "Q"
        if session.number:
            session.send(WHOLE_ANSWER)
            session.until_closed()
        else:
            session.send(WHOLE_ANSWER[:cut])
            getattr(session, how)()

    with raw.FakeServer(script) as server:
        t = turnstile(fake_shop(server, default_pool_size=1))
        with log_in(t) as client, log_in(t) as other:
            client.send(raw.query("SELECT 2"))
            got = b""
            try:
                while piece := client.sock.recv(65536):
                    got += piece
            except ConnectionError:
                pass
            assert is_well_formed(got), got
            assert WHOLE_ANSWER[:cut].startswith(got) or b"C08006\0" in got
            assert raw.kinds(other.query("SELECT 2")) == "TDCZ"


@pytest.mark.parametrize("lie", [
    raw.message("Z", b"I"), raw.parse_complete(), raw.bind_complete(), raw.message("?", b""),
    b"D\0\0\0\0", raw.message("W", b"\0\0\0"),
    raw.error("57P01", "bye", "FATAL"), raw.data_row("unasked"), raw.command_complete("SELECT 0")],
    ids=range(9))
def test_idle_server_that_speaks_unasked(turnstile, lie):
    """It is dropped, and the next client does not hear of it."""
    def script(session):
        assert session.message().kind == "Q"
        session.send(WHOLE_ANSWER)
        if not session.number:
            session.send(lie)
        while session.message().kind == "Q":
            session.send(WHOLE_ANSWER)

    with raw.FakeServer(script) as server:
        t = turnstile(fake_shop(server))
        with clients(t, 2) as (client, other):
            client.send(raw.query("SELECT 2"))
            assert raw.kinds(client.until("Z")) == "TDCZ"
            client.close()
            wait_until(lambda: pool_of(t, "sv_idle") == 0)
            assert raw.kinds(other.query("SELECT 2")) == "TDCZ"
            assert len(server.startups) == 2


CRASH = raw.notice("57P02", "terminating connection because of crash of another server process")


@pytest.mark.parametrize("goodbye", [raw.error("57P01", "bye", "FATAL"), CRASH], ids=["FATAL", "WARNING"])
@pytest.mark.parametrize("status", "ITE")
@pytest.mark.parametrize("asks", [raw.query, lambda text: raw.parse("", text) + raw.bind() + raw.execute() + raw.sync()],
                         ids=["Query", "batch"])
def test_goodbye_with_the_end_of_an_answer(turnstile, asks, status, goodbye):
    """Who is owed nothing is not told, and goes on with another server; who is in a transaction is."""
    def script(session):
        last = None
        while not last or last.kind not in "QS":
            last = session.message()
        ahead = b"" if last.kind == "Q" else raw.parse_complete() + raw.bind_complete()
        session.send(ahead + raw.command_complete("SELECT 0")
                     + (raw.ready() if session.number else raw.ready(status) + goodbye))
        if session.number:
            session.until_closed()

    with raw.FakeServer(script) as server:
        t = turnstile(fake_shop(server, default_pool_size=1))
        with log_in(t) as client:
            client.send(asks("SELECT 2"))
            answer = raw.kinds(client.until("Z"))
            if status == "I":
                client.send(asks("SELECT 3"))
                assert raw.kinds(client.until("Z")) == answer
                assert len(server.startups) == 2
            else:
                *told, end = client.until_closed()
                assert raw.kinds(told) == ("N" if goodbye == CRASH else "")
                assert end.fields["C"] == ("08006" if goodbye == CRASH else "57P01")
                assert end.fields["H"] == "The transaction under way has been rolled back."


@pytest.mark.parametrize("keeps", [False, True])
def test_server_dies_of_a_question_of_ours(turnstile, keeps):
    """Who has had its answer is not told, unless the server is its session's."""
    def script(session):
        session.message()
        session.send(raw.command_complete("SELECT 0"), raw.ready())
        if not session.number:
            while "default_transaction_isolation" not in session.message().text:
                session.send(raw.command_complete("SELECT 0"), raw.ready())
            session.send(raw.error("57P01", "bye", "FATAL"))
        else:
            session.until_closed()

    with raw.FakeServer(script) as server:
        t = turnstile(fake_shop(server, default_pool_size=1, early_commit=1))
        with log_in(t) as client:
            client.query("LOAD 'x'" if keeps else "SELECT 2")
            wait_until(lambda: not t.admin("SHOW SERVERS"))
            if keeps:
                assert client.until_closed()[-1].fields["C"] == "08006"
            else:
                assert raw.kinds(client.query("SELECT 3")) == "CZ"


def test_i3_servers_that_die_of_settings_are_not_sought_for_ever(turnstile):
    """One after the other, each a while after it was given out: all of it counts as one wait."""
    def script(session):
        session.message()
        time.sleep(1.2)

    with raw.FakeServer(script) as server:
        t = turnstile(fake_shop(server, default_pool_size=1, pool_mode="session", query_wait_timeout=3))
        began = time.monotonic()
        with pytest.raises(raw.LoginRefused, match="08006"):
            log_in(t, timeout=12, application_name="mine")
        assert 3 <= time.monotonic() - began < 9 and len(server.startups) >= 3


def test_idle_server_may_tell_of_parameters(turnstile):
    def script(session):
        while session.message().kind == "Q":
            session.send(WHOLE_ANSWER, raw.parameter_status("in_hot_standby", "on"),
                         raw.notice("00000", "hello"), raw.notification(1, "channel"))

    with raw.FakeServer(script) as server:
        t = turnstile(fake_shop(server, default_pool_size=1))
        with clients(t, 2) as pair:
            for client in [*pair, *pair]:
                messages = client.query("SELECT 2")
                assert [m.kind for m in messages if m.kind not in "NAS"] == list("TDCZ")
            told = [m.strings[:2] for m in raw.find(pair[0].query("SELECT 2"), "S")]
            assert all(pair_ == ["in_hot_standby", "on"] for pair_ in told)


# --- the client vanishes -------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("request_", [
    SLEEP, raw.query("BEGIN; CREATE TEMP TABLE mine ()"), raw.query("SELECT 2")[:8],
    raw.parse("", "SELECT 2") + raw.bind(), raw.parse("s", "SELECT 2") + raw.flush(),
    raw.bind("", "", ["x" * 100_000])[:50_000], raw.query("LISTEN channel"), raw.query("SELECT 1/0"),
    raw.query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"),
    raw.query("SELECT '" + "x" * (2 << 20) + "'")[:1 << 20]], ids=range(10))
def test_i2_client_vanishes(primary, turnstile, how, request_):
    """Its server is cleaned or closed, never handed on dirty."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.send(request_)
        if request_ == SLEEP:  # a cancel that comes before its statement is ignored by the server
            wait_until(lambda: backends(primary, "wait_event = 'PgSleep'"))
        getattr(client, how)()
        assert other.rows("SELECT to_regclass('mine'), count(*) FROM pg_prepared_statements"
                          " WHERE name NOT LIKE 'pgt%'") == [(None, "0")]
        assert other.rows("SELECT count(*) FROM pg_listening_channels()") == [("0",)]
        assert raw.kinds(other.prepared("SELECT 2")) == "12TDCZ"
    wait_backends(primary, 0, "state <> 'idle'")


def test_terminate_in_the_middle_of_a_transaction(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query("BEGIN")
        client.send(raw.terminate())
        assert client.until_closed() == []
        assert other.rows("SELECT pg_current_xact_id_if_assigned()") == [(None,)]


def test_half_closed_client_still_gets_its_answer(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.send(raw.query("SELECT 2"))
        client.sock.shutdown(1)
        client.until_closed()  # as PostgreSQL: an answer or none, but an end
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


# --- who may come in -----------------------------------------------------------------------------
@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_unknown_user_and_wrong_password_look_the_same(primary, turnstile, auth_type):
    t = turnstile(shop(primary, {"auth_type": auth_type}))
    seen = set()
    for user, secret in ("nobody", "x"), (APP_USER, "wrong"), (APP_USER, ""):
        with pytest.raises(raw.LoginRefused) as refused:
            log_in(t, user, secret)
        seen.add((refused.value.fields["C"], refused.value.fields["M"].replace(user, "U")))
    assert len(seen) == 1 and seen.pop()[0] == "28P01"
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def test_unknown_database(primary, turnstile):
    t = turnstile(shop(primary))
    with pytest.raises(psycopg.OperationalError, match="nowhere"):
        t.connect("nowhere", APP_USER)


def test_client_login_timeout(primary, turnstile):
    t = turnstile(shop(primary, {"client_login_timeout": "300ms"}))
    for preface in b"", raw.startup({"user": APP_USER, "database": APP_DATABASE})[:9]:
        with raw.RawClient(t.port) as client:
            client.send(preface)
            assert raw.kinds(client.until_closed()) in ("", "E")


def test_pool_exhausted_by_sessions(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "session"}))
    with clients(t, 2) as pair:
        assert len({pid_of(client) for client in pair}) == 2
        with log_in(t) as third:
            t.reload({"pgturnstile": {"query_wait_timeout": "300ms"}})
            third.send(raw.query("SELECT 2"))
            assert sqlstate(third.until_closed()) == "08P01"


# --- more than is read while a client waits ------------------------------------------------------
BIG = raw.bind("", "", [b"x" * 200_000])


@pytest.mark.parametrize("text", ["CREATE TEMP TABLE faults_big ()", "PREPARE faults_big AS SELECT 2",
                                  "SELECT 2"])
def test_what_is_sent_behind_a_statement_is_read_when_it_is_over(primary, turnstile, text):
    """Also when the server is asked something in between, and the client is not read meanwhile."""
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.send(raw.query(text) + raw.parse("", "SELECT length($1)") + BIG[:100_000])
        client.until("Z")
        client.send(BIG[100_000:] + raw.execute() + raw.sync())
        assert [m.row for m in raw.find(client.until("Z"), "D")] == [("200000",)]


def test_who_waits_with_that_much_and_hangs_up_leaves_the_queue(primary, turnstile):
    def waiting():
        return [p["cl_waiting"] for p in t.admin("SHOW POOLS") if p["database"] == APP_DATABASE]

    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client:
        client.send(SLEEP)
        with log_in(t) as other:
            other.send(raw.parse("", "SELECT length($1)") + BIG[:100_000])
            wait_until(lambda: waiting() == [1], what="one waits")
        wait_until(lambda: waiting() == [0], what=lambda: t.admin("SHOW CLIENTS"))
