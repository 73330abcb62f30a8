# SPDX-License-Identifier: ISC
#
# test_copy.py - COPY in both directions, whole, failing in the middle, and left by its client.
import contextlib

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import (clients, essence, log_in, memory_kib, same_as_direct, shop, sqlstate,
                 wait_backends)
from turnstile import merge
from waiting import wait_until

SYNC = raw.sync()
READY = raw.message("Z", b"I")
COPY_IN = raw.query("COPY copied FROM STDIN")
BATCH_IN = raw.parse("", "COPY copied FROM STDIN") + raw.bind() + raw.describe("P") + raw.execute()


@pytest.fixture
def t(primary, turnstile):
    with contextlib.closing(primary.connect(APP_DATABASE)) as connection:
        connection.execute("DROP TABLE IF EXISTS copied")
        connection.execute("CREATE TABLE copied (n int)")
        connection.execute(f"ALTER TABLE copied OWNER TO {APP_USER}")
    return turnstile(shop(primary, {"default_pool_size": 1}))


def rows(primary):
    return primary.sql("SELECT n FROM copied ORDER BY n", dbname=APP_DATABASE)


def assert_pool_works(t):
    """Two clients get the one server after each other, and their own answers."""
    with clients(t, 2) as pair:
        for client in [*pair, *pair]:
            assert client.rows("SELECT 'after'") == [("after",)]


@pytest.mark.tsan
@pytest.mark.parametrize("request_", [
    COPY_IN + raw.copy_data(b"1\n") + raw.copy_data(b"2\n") + raw.copy_done(),
    COPY_IN + raw.copy_done(),
    COPY_IN + raw.copy_fail("changed my mind"),
    COPY_IN + raw.copy_data(b"x\n") + raw.copy_done(),
    COPY_IN + raw.copy_data(b"x\n") + raw.copy_data(b"1\n" * 100_000) + raw.copy_done(),
    COPY_IN + raw.flush() + SYNC + raw.copy_data(b"1\n") + SYNC + raw.copy_done(),
    raw.query("COPY copied FROM STDIN; SELECT 1") + raw.copy_data(b"1\n") + raw.copy_done(),
    raw.query("COPY copied FROM STDIN; COPY copied FROM STDIN") + raw.copy_data(b"1\n")
    + raw.copy_done() + raw.copy_data(b"2\n") + raw.copy_done(),
    raw.query("COPY nowhere FROM STDIN") + raw.copy_data(b"1\n") + raw.copy_done(),
    raw.query("COPY (SELECT generate_series(1, 1000)) TO STDOUT"),
    raw.query("COPY (SELECT 1/(n-3) FROM generate_series(1, 5) n) TO STDOUT"),
    BATCH_IN + raw.copy_data(b"1\n") + raw.copy_done() + SYNC,
    BATCH_IN + SYNC + raw.copy_data(b"1\n") + raw.copy_done() + SYNC,  # as libpq sends it
    BATCH_IN + SYNC + raw.copy_fail("no") + SYNC,
    BATCH_IN + SYNC + raw.copy_data(b"x\n") + raw.copy_done() + SYNC,
    BATCH_IN + raw.copy_data(b"x\n") + raw.copy_data(b"1\n") + raw.copy_done() + SYNC,
    BATCH_IN + raw.copy_fail("no") + raw.parse("", "SELECT 1") + SYNC,
    raw.parse("", "COPY (SELECT 7) TO STDOUT") + raw.bind() + raw.execute() + SYNC,
    raw.parse("", "COPY nowhere FROM STDIN") + raw.bind() + raw.execute() + raw.copy_data(b"1\n")
    + raw.copy_done() + SYNC,
    raw.copy_data(b"1\n") + raw.copy_done() + raw.copy_fail("no") + SYNC,
], ids=range(20))
def test_as_on_a_direct_connection(primary, t, request_):
    same_as_direct(primary, t, request_, raw.query("SELECT 'next'"), SYNC,
                   raw.query("BEGIN"), request_, raw.query("SELECT count(*) FROM copied"),
                   raw.query("ROLLBACK"))
    assert_pool_works(t)


def test_copy_step_by_step(primary, t):
    """The client waits for CopyInResponse before it sends data, as drivers do."""
    with log_in(t) as client, log_in(primary) as direct:
        for early in b"", SYNC:
            answers = []
            for c in client, direct:
                c.send(BATCH_IN, raw.flush(), early)
                before = c.until("G", "E")
                c.send(raw.copy_data(b"1\n"), raw.copy_done(), SYNC)
                answers.append(essence(before + c.until("Z")))
                assert c.rows("SELECT 'next'") == [("next",)]
            assert answers[0] == answers[1]
    assert rows(primary) == [(1,)] * 4
    assert_pool_works(t)


TRIGGER = f"""CREATE TABLE copied_code (n int);
CREATE FUNCTION copied_code() RETURNS trigger LANGUAGE plpgsql 
    AS 'BEGIN PERFORM set_config(''work_mem'', ''5MB'', false); RETURN NEW; END';
CREATE TRIGGER code BEFORE INSERT ON copied_code FOR EACH ROW EXECUTE FUNCTION copied_code();
ALTER TABLE copied_code OWNER TO {APP_USER}"""


@pytest.fixture(scope="module")
def with_code(primary):
    """A table behind which there is code, which may leave something in a session."""
    primary.sql(TRIGGER, dbname=APP_DATABASE)
    yield
    primary.sql("DROP TABLE copied_code; DROP FUNCTION copied_code", dbname=APP_DATABASE)


@pytest.mark.parametrize("rest", [
    raw.copy_done() + SYNC, raw.copy_data(b"1\n") + raw.copy_done() + SYNC, raw.copy_fail("no") + SYNC,
    raw.copy_done() + raw.parse("", "SELECT 'behind'") + raw.bind() + raw.execute() + SYNC],
    ids=["nothing", "a row", "given up", "more in its batch"])
@pytest.mark.parametrize("waits_for", ["settings", "limits"])
def test_a_sync_that_a_copy_reads_is_no_end_to_wait_for(primary, turnstile, with_code, rest, waits_for):
    """It is not answered, so what comes behind it must not wait until it is: all in one write."""
    limits = {"pgturnstile": {"tenant_by": "user"}, "tiers": {"copied": {"rate": "1000/s"}},
              "tenants": {APP_USER: {"tier": "copied", "business_id": 1}}}
    settings = {"IntervalStyle": "iso_8601"} if waits_for == "settings" else {}
    t = turnstile(merge(shop(primary, {"default_pool_size": 1}), limits if waits_for == "limits" else {}))
    with log_in(primary, **settings) as direct, log_in(t, **settings) as through:
        for _ in range(3):
            for client in direct, through:
                client.send(raw.parse("", "COPY copied_code FROM STDIN") + raw.bind() + raw.execute() + SYNC
                            + rest)
            assert essence(through.until("Z")) == essence(direct.until("Z"))
            assert through.rows("SELECT 'next'") == [("next",)]


def test_failure_while_a_long_message_is_under_way(primary, t):
    """The server fails early in a message whose rest is still to be sent: nothing may be stuck."""
    data = b"x\n" + b"1\n" * 500_000
    with log_in(t) as client:
        client.send(COPY_IN)
        assert client.message().kind == "G"
        message = raw.copy_data(data)
        client.send(raw.copy_data(b"x\n"), message[:100_000])
        assert raw.kinds(client.until("Z")) == "EZ"
        client.send(message[100_000:], raw.copy_done())
        with log_in(t) as other:  # the one server is free although its last client is still here
            assert other.rows("SELECT 'free'") == [("free",)]
        assert client.rows("SELECT 'mine'") == [("mine",)]
    assert rows(primary) == []


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("before", ["RESET ALL", "DO $$BEGIN END$$; RESET work_mem"])
@pytest.mark.parametrize("behind", [b"", raw.copy_data(b"1\n") + raw.copy_done()], ids=["nothing", "more data"])
def test_i3_a_question_of_ours_is_not_within_a_message(primary, t, mode, before, behind):
    """What puts right a session behind a RESET waits for the rest of data that the server has already refused,
    and so does what its client asks next."""
    t.reload({"pgturnstile": {"pool_mode": mode}})
    data = raw.copy_data(b"1\n" * 5_000)
    with log_in(t, IntervalStyle="iso_8601") as client:
        for _ in range(2):
            client.send(raw.query(f"{before}; COPY copied FROM STDIN"))
            client.until("G")
            client.send(raw.copy_data(b"x\n"), data[:100])
            assert client.until("E")[-1].fields["C"] == "22P02"
            client.send(data[100:], behind, raw.query("SHOW IntervalStyle"))
            assert raw.kinds(client.until("Z")) == "Z"
            assert [m.row for m in raw.find(client.until("Z"), "D")] == [("iso_8601",)]
    assert rows(primary) == []


@pytest.mark.parametrize(("mode", "before"), [("transaction", "DO $$BEGIN END$$"), ("session", "RESET ALL")])
@pytest.mark.parametrize("behind", [raw.query("SHOW IntervalStyle"), raw.parse("", "SHOW IntervalStyle") + raw.bind()
                                    + raw.execute() + SYNC], ids=["simple", "extended"])
def test_i3_a_loose_sync_that_waits_for_a_message_keeps_back_what_follows(primary, t, mode, before, behind):
    """A batch fails in its COPY; behind its Sync, which is among the data, there is a part of a message."""
    t.reload({"pgturnstile": {"pool_mode": mode}})
    data = raw.copy_data(b"1\n" * 5_000)
    with log_in(t, IntervalStyle="iso_8601") as client:
        for _ in range(2):
            client.send(raw.parse("", before) + raw.bind() + raw.execute() + BATCH_IN + raw.flush())
            client.until("G")
            client.send(raw.copy_data(b"x\n") + SYNC + data[:100])
            client.until("E")
            wait_until(lambda: any(r["type"] == "S" and r["recv_pos"] == len(READY) for r in t.admin("SHOW SOCKETS")))
            client.send(data[100:] + behind)
            assert raw.kinds(client.until("Z")) == "Z"
            assert [m.row for m in raw.find(client.until("Z"), "D")] == [("iso_8601",)]
    assert rows(primary) == []


def test_loose_sync_is_not_answered_to_the_next_client(primary, t):
    """A Sync behind the data that makes COPY fail is answered; its answer is nobody else's."""
    with log_in(t) as client:
        client.send(BATCH_IN, raw.flush())
        client.until("G")
        client.send(raw.copy_data(b"x\n"), SYNC, SYNC)
        assert raw.kinds(client.until("Z")) == "EZ"
        client.close()
        assert_pool_works(t)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", raw.copy_data(b"1\n"),
                                  raw.copy_data(b"1\n" * 50_000)[:60_000]], ids=range(3))
def test_client_vanishes_in_copy_in(primary, t, how, sent):
    with log_in(t) as client:
        client.send(COPY_IN)
        assert client.message().kind == "G"
        client.send(sent)
        getattr(client, how)()
    assert_pool_works(t)
    assert rows(primary) == []


@pytest.mark.parametrize("how", ["close", "reset"])
def test_client_vanishes_in_copy_out(primary, t, how):
    with log_in(t) as client:
        client.send(raw.query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000))"
                              " TO STDOUT"))
        assert client.message().kind == "H"
        getattr(client, how)()
    assert_pool_works(t)
    wait_backends(primary, 0, "state = 'active'")


def test_server_is_killed_in_copy(primary, t):
    with log_in(t) as client:
        client.send(COPY_IN)
        assert client.message().kind == "G"
        primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY%'")
        assert sqlstate(client.until_closed()) in ("57P01", "08006")
    assert_pool_works(t)


def test_much_data_takes_no_memory(primary, t):
    before = memory_kib(t)
    with t.connect(APP_DATABASE, APP_USER) as connection:
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            for _ in range(10):
                copy.write(b"12345\n" * 200_000)
        out = "COPY (SELECT repeat('x', 9999) FROM generate_series(1, 2000)) TO STDOUT"
        with connection.cursor().copy(out) as copy:
            assert sum(len(piece) for piece in copy) == 2000 * 10_000
    assert memory_kib(t) - before < 8 * 1024


def test_psycopg_copy_that_fails(t):
    with t.connect(APP_DATABASE, APP_USER) as connection:
        for _ in range(3):
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                with connection.cursor().copy("COPY copied FROM STDIN") as copy:
                    copy.write(b"x\n")
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_copy_behind_what_has_to_be_waited_for(primary, turnstile):
    """After DEALLOCATE ALL nothing is read until it is answered, but the data that COPY asks for."""
    with log_in(turnstile(shop(primary))) as client:
        client.rows("CREATE TEMP TABLE behind (a int)")
        client.send(raw.query("DEALLOCATE ALL; COPY behind FROM STDIN"))
        client.until("G")
        client.send(raw.copy_data(b"1\n"), raw.copy_data(b"2\n"), raw.copy_done())
        assert not raw.find(client.until("Z"), "E")
        assert client.rows("SELECT sum(a) FROM behind") == [("3",)]


def test_sync_that_waits_behind_a_copy_that_fails(primary, t):
    """What the table's trigger may have set is put back before the next message is read."""
    for statement in ("CREATE OR REPLACE FUNCTION sets_in_copy() RETURNS trigger LANGUAGE plpgsql AS $$"
                      " BEGIN PERFORM set_config('work_mem', '1MB', false); RETURN new; END $$",
                      "CREATE TRIGGER sets BEFORE INSERT ON copied EXECUTE FUNCTION sets_in_copy()"):
        primary.sql(statement, dbname=APP_DATABASE)
    with log_in(t, lock_timeout="1h") as client:
        client.send(BATCH_IN, SYNC)
        assert client.until("G")
        client.send(raw.copy_data(b"x\n"), raw.copy_done(), SYNC)
        assert sqlstate(client.until("Z")) == "22P02"
        assert client.rows("SHOW lock_timeout") == [("1h",)]
