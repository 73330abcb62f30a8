# SPDX-License-Identifier: ISC
#
# test_harness.py - the harness does what its README says.
#
# Tests no line of pgturnstile: a failure here says that the other failures mean nothing.
import random

import psycopg
import pytest

import raw
import restless
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from waiting import wait_until


def app_config(primary):
    return {"databases": {APP_DATABASE: {"host": primary.host, "port": primary.port}}}


def test_wait_until_names_what_did_not_come():
    with pytest.raises(AssertionError, match="not within 0.1 s: rain"):
        wait_until(lambda: False, 0.1, "rain")


def test_primary_answers(primary, app):
    assert primary.value("SELECT pg_is_in_recovery()") is False
    assert app.execute("SELECT current_user::text").fetchone() == (APP_USER,)


def test_app_needs_its_password(primary):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        primary.connect(APP_DATABASE, APP_USER, password="wrong")


def test_replica_streams(primary, replica):
    primary.sql("CREATE TABLE streamed AS SELECT 42 AS n")
    replica.wait_caught_up(primary)
    assert replica.value("SELECT n FROM streamed") == 42
    replica.pause_replay()
    primary.sql("DROP TABLE streamed")
    assert replica.value("SELECT n FROM streamed") == 42
    replica.resume_replay()
    replica.wait_caught_up(primary)
    assert replica.value("SELECT to_regclass('streamed')::text") is None


def test_replica_survives_a_crash(primary, replica):
    replica.kill()
    assert not replica.is_running()
    replica.start()
    replica.wait_caught_up(primary)


def test_raw_scram_login_and_queries(primary):
    with raw.RawClient(primary.port) as client:
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD, application_name="raw")
        assert client.parameters["application_name"] == "raw"
        assert client.rows("SELECT 1, NULL; SELECT 'x', 'y'") == [("1", None), ("x", "y")]
        assert raw.kinds(client.prepared("SELECT $1::int + 1", [41])) == "12TDCZ"
        messages = client.query("SELECT 1/0")
        assert raw.find(messages, "E")[0].fields["C"] == "22012"
        assert messages[-1].body == b"I"


def test_raw_login_is_refused(primary):
    with raw.RawClient(primary.port) as client:
        with pytest.raises(raw.LoginRefused) as refused:
            client.login(APP_USER, APP_DATABASE, "wrong")
        assert refused.value.fields["C"] == "28P01"


def test_raw_cancel(primary):
    with raw.RawClient(primary.port) as client:
        client.login(APP_USER, APP_DATABASE, APP_PASSWORD)
        client.send(raw.query("SELECT pg_sleep(60)"))
        wait_until(lambda: primary.sql(
            "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'",
            [client.pid]))
        client.cancel()
        assert raw.find(client.until("Z"), "E")[0].fields["C"] == "57014"


@pytest.mark.parametrize("login", ["trust", "plain", "md5", "scram"])
def test_fake_server_logs_in(login):
    with raw.FakeServer(login=login, secret="secret") as server:
        with raw.RawClient(server.port) as client:
            client.send(raw.SSL_REQUEST)
            assert client.receive(1) == b"N"
            client.login("somebody", "somewhere", "secret")
            assert client.rows("hello") == [("hello",)]
        assert server.startups == [{"user": "somebody", "database": "somewhere"}]
        if login != "trust":
            with raw.RawClient(server.port) as client, pytest.raises(raw.LoginRefused):
                client.login("somebody", "somewhere", "wrong")


def test_fake_server_with_libpq():
    with raw.FakeServer(login="scram", secret="secret") as server:
        with psycopg.connect(host=server.host, port=server.port, user="u", password="secret",
                             dbname="d", autocommit=True) as connection:
            assert connection.execute("SELECT 7").fetchone() == ("SELECT 7",)
            connection.cancel()
        wait_until(lambda: server.cancels == [(0, b"\0\0\0\0")])


def test_fake_server_raises_what_its_script_raises():
    def script(session):
        assert session.message().kind == "S", "wanted a Sync"

    with pytest.raises(AssertionError, match="wanted a Sync"):
        with raw.FakeServer(script) as server, raw.RawClient(server.port) as client:
            client.login("u", "d")
            client.send(raw.flush())
            assert client.until_closed() == []


@pytest.mark.parametrize("what", ["take_back", "leave_in_block", "write_block", "write_behind_savepoint"])
def test_who_is_refused_a_begin_writes_nothing(what):
    """It would be written, outside of a transaction, and the book would say that it is not."""
    asked = []

    def script(session):
        while (got := session.message()).kind != "X":
            asked.append(got.text)
            session.send(raw.error("57014", "canceling statement due to user request"), raw.ready())

    book = restless.Book(1, 0)
    with raw.FakeServer(script) as server:
        where = {"port": server.port, "user": "u", "database": "d", "password": "", "chooses": False}
        player = restless.Player(where, book, random.Random(1), restless.Orders(), {})
        player.log_in()
        getattr(player, what)()
        player.drop()
    assert asked == ["BEGIN"]
    assert len(book.refused) == book.last > 0 and not book.wrong


def test_pgbouncer_runs(primary, pgbouncer):
    bouncer = pgbouncer(app_config(primary))
    with bouncer.connect(APP_DATABASE, APP_USER) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        pools = {pool["database"]: pool for pool in bouncer.admin("SHOW POOLS")}
        assert pools[APP_DATABASE]["sv_active"] == 1

    def pool_mode():
        rows = bouncer.admin("SHOW CONFIG")
        return next(row["value"] for row in rows if row["key"] == "pool_mode")

    with bouncer.run_with_config({"pgbouncer": {"pool_mode": "transaction"}}):
        assert pool_mode() == "transaction"
    assert pool_mode() == "session"
    bouncer.wait_log("RELOAD command issued")
    bouncer.stop()
    assert not bouncer.is_running()
