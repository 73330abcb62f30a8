# SPDX-License-Identifier: ISC
#
# test_local_answers.py - what is answered without a server is what the server would have said, and
# a BEGIN that is deferred fails closed (docs/adr/0008-deferred-begin.md).
#
# What is right is what a direct connection says, byte for byte.
"""I3 where no server is asked, and the ways of a deferred BEGIN to its server."""
import datetime
import os
import random
import socket
import struct
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import clients, essence, log_in, pool_of, shop, sqlstate, wait_backends
from tenancy import enter, errors, tenants
from turnstile import ADMIN_USER
from waiting import wait_until

q, p, b, d, e, SYNC = raw.query, raw.parse, raw.bind, raw.describe, raw.execute, raw.sync()
BATCH = p("", "SELECT 2") + b() + d("P") + e()
LO_CREAT = raw.message("F", struct.pack("!ihhhi", 957, 1, 1, 1, 4), struct.pack("!ih", 131072, 1))


def count_ready(requests):
    """Q, F and S end in a ReadyForQuery."""
    return sum(request[:1] in (b"Q", b"F") or request.endswith(SYNC) for request in requests)


def answer(client, count):
    return [m.raw for _ in range(count) for m in client.until("Z")]


def ask(client, request):
    client.send(request)
    return answer(client, count_ready([request]))


def make_table(primary, dbname):
    primary.sql("DROP TABLE IF EXISTS local_rows; CREATE TABLE local_rows (n int NOT NULL);"
                " GRANT ALL ON local_rows TO PUBLIC", dbname=dbname)


def truncate(primary, *databases):
    for dbname in databases or [APP_DATABASE]:
        primary.sql("TRUNCATE local_rows", dbname=dbname)


def direct_answer(primary, requests):
    with log_in(primary) as direct:
        direct.send(*requests)
        return answer(direct, count_ready(requests))


def savings(pooler, column):
    rows = [row for row in pooler.admin("SHOW SAVINGS") if row["database"] == APP_DATABASE]
    return rows[0][column] if rows else 0


def has_idle(pooler):
    return pool_of(pooler, "sv_idle") > 0


@pytest.fixture
def table(primary):
    make_table(primary, APP_DATABASE)
    return lambda: primary.value("SELECT count(*) FROM local_rows", dbname=APP_DATABASE)


# --- the same bytes ------------------------------------------------------------------------------
INSERT = q("INSERT INTO local_rows VALUES (1)")
COPY = q("COPY local_rows FROM STDIN")
CONVERSATIONS = {
    "empty": [q(""), q(";"), q(" ; ;\n"), q("-- nothing"), q("/* ; */ ; -- x\n")],
    "modes behind BEGIN": [
        q("BEGIN"), q("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
        q("set transaction read only, not deferrable;"), q("SHOW transaction_isolation"),
        q("SHOW transaction_read_only"), INSERT, q("ROLLBACK"),
        q("BEGIN READ ONLY"), q("SET TRANSACTION READ WRITE"), INSERT, q("COMMIT"),
        q("BEGIN ISOLATION LEVEL REPEATABLE READ"),
        q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), q("SHOW transaction_isolation"),
        q("COMMIT"), q("BEGIN"), q("SET TRANSACTION READ ONLY"), q("COMMIT"),
        q("BEGIN"), q("SET TRANSACTION READ ONLY"), q("SET TRANSACTION READ WRITE"), INSERT,
        q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), q("ROLLBACK")],
    "no modes behind BEGIN": [
        q("SET TRANSACTION READ ONLY"), q("BEGIN"), q("SET TRANSACTION"), q("ROLLBACK"),
        q("BEGIN"), q("SET TRANSACTION READ SOMETIMES"), q("ROLLBACK"),
        q("BEGIN"), q("SET CONSTRAINTS ALL DEFERRED"), q("COMMIT"),
        q("BEGIN"), q("SET TRANSACTION READ ONLY; SELECT 2"), q("COMMIT"),
        q("BEGIN"), q("SET LOCAL TRANSACTION READ ONLY"), q("ROLLBACK"),
        q("BEGIN"), q("SET TRANSACTION SNAPSHOT 'x'"), q("SET TRANSACTION READ ONLY"),
        q("ROLLBACK")],
    "ping": [q("SELECT 1"), q("select 1;"), q(" SeLeCT\t1 ; "), q("SELECT 1 -- up?")],
    "not a ping": [q("SELECT 1 AS one"), q("SELECT 1, 2"), q("SELECT 01"), q("SELECT 1.0"),
                   q("SELECT -1"), q("SELECT 1; SELECT 1"), q("SELECT(1)"), q('SELECT "1"')],
    "nothing done": [q("BEGIN"), q("COMMIT"), q("begin work"), q("rollback"), q("BEGIN"), q("END"),
                     q("BEGIN TRANSACTION"), q("ABORT"), q("START TRANSACTION"), q("COMMIT WORK")],
    "modes": [q("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"), q("SHOW transaction_isolation"),
              q("SHOW transaction_read_only"), q("COMMIT"),
              q("BEGIN READ ONLY /* who */ NOT DEFERRABLE;"), INSERT, q("ROLLBACK"),
              q("BEGIN ISOLATION LEVEL SERIALIZABLE"), q("SHOW transaction_isolation"), q("COMMIT"),
              q("BEGIN READ WRITE"), q("SHOW transaction_read_only"), q("COMMIT")],
    "empty in it": [q("BEGIN"), q(""), q(";"), q("COMMIT"), q("")],
    "work": [q("BEGIN"), q("SELECT 2"), INSERT, q("COMMIT"), q("SELECT count(*) > 0 FROM local_rows")],
    "undone": [q("BEGIN"), INSERT, q("ROLLBACK"), q("SELECT count(*) FROM local_rows")],
    "syntax error first": [q("BEGIN"), q("SELEC 1"), q(""), q("SELECT 1"), q("COMMIT"), q("SELECT 2")],
    "error first": [q("BEGIN"), q("SELECT 1/0"), q("SELECT 1"), q("ROLLBACK"), q("SELECT 2")],
    "unterminated": [q("BEGIN"), q("/* x"), q("ROLLBACK"), q("'"), q("BEGIN /*"), q("SELECT 2")],
    "not a BEGIN": [q("BEGIN foo"), q("BEGIN READ"), q("START"), q("BEGIN ISOLATION LEVEL"),
                    q("SELECT 2"), q("BEGIN,"), q("BEGIN READ ONLY,,")],
    "nested": [q("BEGIN"), q("BEGIN"), INSERT, q("ROLLBACK"), q("BEGIN"), q("START TRANSACTION"),
               q("COMMIT")],
    "nothing to end": [q("COMMIT"), q("ROLLBACK"), q("END"), q("ABORT")],
    "chains": [q("BEGIN"), q("COMMIT AND CHAIN"), q("SELECT 2"), q("ROLLBACK AND CHAIN"), q("COMMIT"),
               q("BEGIN"), q("COMMIT AND NO CHAIN"), q("BEGIN"), q("ROLLBACK AND NO CHAIN")],
    "savepoint first": [q("BEGIN"), q("SAVEPOINT a"), INSERT, q("ROLLBACK TO a"), q("COMMIT")],
    "no savepoint": [q("BEGIN"), q("ROLLBACK TO a"), q("COMMIT"), q("BEGIN"), q("RELEASE a"), q("END")],
    "VACUUM first": [q("BEGIN"), q("VACUUM local_rows"), q("COMMIT"), q("VACUUM local_rows")],
    "SET TRANSACTION first": [q("BEGIN"), q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
                              q("SHOW transaction_isolation"), q("COMMIT")],
    "several at once": [q("BEGIN; SELECT 2"), q("COMMIT; SELECT 3"), q("BEGIN"), q("SELECT 2; COMMIT"),
                        q("BEGIN; COMMIT"), q("BEGIN"), q("COMMIT; BEGIN"), q("ROLLBACK")],
    "COPY first": [q("BEGIN"), COPY + raw.copy_data(b"1\n2\n") + raw.copy_done(), q("SELECT count(*) FROM local_rows"), q("ROLLBACK")],
    "COPY that fails": [q("BEGIN"), COPY + raw.copy_data(b"x\n") + raw.copy_done(), q("COMMIT")],
    "function first": [q("BEGIN"), LO_CREAT.replace(struct.pack("!i", 957), struct.pack("!i", 1397)),
                       q("ROLLBACK")],
    "batch first": [q("BEGIN"), BATCH + SYNC, q("COMMIT"), q("SELECT 3")],
    "batches": [q("BEGIN"), BATCH + SYNC, p("", "INSERT INTO local_rows VALUES (1)") + b() + e() + SYNC,
                BATCH + SYNC, p("", "COMMIT") + b() + e() + SYNC, BATCH + SYNC],
    "COPY in a batch": [q("BEGIN"), p("", "COPY local_rows FROM STDIN") + b() + e()
                        + raw.copy_data(b"1\n") + raw.copy_done() + SYNC, q("COMMIT")],
    "COPY behind a Sync": [q("BEGIN"), p("", "COPY local_rows FROM STDIN") + b() + e() + SYNC
                           + raw.copy_data(b"1\n") + raw.copy_done() + SYNC, q("COMMIT")],
    "batch that fails": [q("BEGIN"), p("", "SELECT 1/0") + b() + e() + BATCH + SYNC, SYNC, q("COMMIT")],
    "only prepared": [q("BEGIN"), p("a", "SELECT 2") + SYNC, d("S", "a") + SYNC, q("COMMIT"),
                      b("", "a") + e() + SYNC],
    "prepared before": [p("a", "SELECT $1::int + 1") + SYNC, q("BEGIN"), b("", "a", [4]) + e() + SYNC,
                        q("COMMIT")],
    "unnamed is gone": [p("", "SELECT 2") + SYNC, q("BEGIN"), b() + e() + SYNC, q("ROLLBACK"),
                        p("", "SELECT 2") + SYNC, q(""), b() + e() + SYNC,
                        p("", "SELECT 2") + SYNC, q("SELECT 1"), b() + e() + SYNC],
    "no portal": [q("BEGIN"), e() + SYNC, q("ROLLBACK"), q("BEGIN"), d("P") + SYNC, q("ROLLBACK"),
                  q("BEGIN"), raw.close("P") + p("", "SELECT name FROM pg_cursors") + b("x")
                  + e("x") + SYNC, q("COMMIT")],
    "Sync alone": [SYNC, q("BEGIN"), SYNC, q(""), SYNC, q("COMMIT"), SYNC],
    "Flush": [q("BEGIN"), raw.flush() + BATCH + raw.flush() + SYNC, q("COMMIT")],
    "extended BEGIN": [p("", "BEGIN") + b() + e() + SYNC, q("BEGIN"), p("", "COMMIT") + b() + e() + SYNC,
                       q("BEGIN"), p("", "BEGIN") + b() + e() + SYNC, q("ROLLBACK")],
    "BEGIN in a batch": [p("", "BEGIN") + b() + d("P") + e() + BATCH + SYNC, BATCH + SYNC, q("COMMIT"),
                         p("", "BEGIN") + b() + raw.execute("", 1) + p("", "SELEC") + SYNC, SYNC, q("COMMIT"),
                         p("", "BEGIN") + b() + e() + p("", "BEGIN") + b() + e() + p("", "COMMIT") + b() + e()
                         + p("", "COMMIT") + b() + e() + SYNC],
    "BEGIN by its name": [p("begin", "BEGIN") + p("", "SELECT 4") + SYNC,
                          b("", "begin") + e() + SYNC, b() + e() + SYNC, p("", "COMMIT") + b() + e() + SYNC,
                          b("", "begin") + e() + raw.close("S", "begin") + b("", "begin") + SYNC, q("ROLLBACK")],
    "BEGIN and its portal": [p("", "BEGIN") + b() + e() + SYNC, d("P") + SYNC, e() + SYNC, q("ROLLBACK"),
                             p("", "BEGIN") + b() + e() + SYNC, raw.close("P") + d("P") + SYNC, q("ROLLBACK")],
    "BEGIN behind a Close": [
        p("a", "SELECT 2") + SYNC, raw.close("S", "a") + p("", "BEGIN") + b() + e() + BATCH + SYNC,
        b("", "a") + SYNC, q("ROLLBACK"), p("a", "SELECT 3") + SYNC,
        p("", "BEGIN") + b() + e() + raw.close("S", "a") + p("a", "SELECT 4") + b("", "a") + e() + SYNC, q("COMMIT"),
        raw.close("P") + raw.close("P", "c") + p("", "BEGIN") + b() + raw.close("S") + e() + SYNC, b() + SYNC, q("ROLLBACK"),
        p("", "BEGIN") + b() + e() + raw.close("P") + d("P") + SYNC, raw.close("S", "a") + SYNC, q("COMMIT"),
        p("", "SELECT 5") + SYNC, raw.close("S") + SYNC, b() + SYNC, raw.close("S", "a") + SYNC, b("", "a") + SYNC,
        raw.close("S", "a") + p("a", "SELECT 6") + b("", "a") + e() + SYNC,
        raw.close("S", "a") + raw.flush() + raw.close("P") + SYNC, p("", "SELEC") + raw.close("S", "a") + SYNC],
    "COMMIT behind one that is skipped": [
        p("", "SELEC") + b() + e() + p("", "COMMIT") + b() + e() + SYNC, p("", "COMMIT") + b() + e() + SYNC],
    "empty batch": [q("BEGIN"), p("", "") + b() + d("P") + e() + SYNC, q("COMMIT")],
    "discard": [q("DISCARD ALL"), q("discard all;"), p("a", "SELECT 2") + SYNC, q("DISCARD ALL"),
                b("", "a") + e() + SYNC, p("a", "SELECT 3") + b("", "a") + e() + SYNC,
                q("DISCARD ALL"), q("BEGIN"), q("DISCARD ALL"), q("ROLLBACK")],
    "names first": [p("a", "SELECT 2") + SYNC, q("BEGIN"), q("EXECUTE a"), q("COMMIT"), q("BEGIN"),
                    q("DEALLOCATE a"), q("DEALLOCATE a"), q(""), q("ROLLBACK"), q("BEGIN"),
                    q("PREPARE b AS SELECT 3"), q("EXECUTE b"), q("COMMIT"), q("EXECUTE b"),
                    q("BEGIN"), q("EXECUTE nothing"), q("ROLLBACK"), q("DEALLOCATE ALL")],
    "settings first": [q("BEGIN"), q("SET TimeZone = 'Asia/Tokyo'"), q("ROLLBACK"), q("SHOW TimeZone"),
                       q("BEGIN"), q("SET LOCAL work_mem = '1MB'"), q("SHOW work_mem"), q("COMMIT"),
                       q("SHOW work_mem"), q("BEGIN"), q("SET TimeZone = 'Asia/Tokyo'"), q("COMMIT"),
                       q("BEGIN"), q("COMMIT"), q("BEGIN"), q("SHOW TimeZone"), q("RESET ALL"),
                       q("COMMIT"), q("SHOW TimeZone"), q("DISCARD ALL"), q("SHOW TimeZone")],
    "state first": [q("BEGIN"), q("CREATE TEMP TABLE mine (n int) ON COMMIT DROP"),
                    q("SELECT count(*) FROM mine"), q("COMMIT"), q("BEGIN"),
                    q("DECLARE c CURSOR FOR SELECT generate_series(1, 3)"), q("FETCH 2 FROM c"),
                    q("COMMIT"), q("BEGIN"), q("LOCK local_rows"), q("COMMIT"),
                    q("BEGIN"), q("DO $$ BEGIN RAISE NOTICE 'n'; END $$"), q("ROLLBACK")],
    "two phases": [q("BEGIN"), q("PREPARE TRANSACTION 'x'"), q("ROLLBACK PREPARED 'x'")],
    "long": [q("BEGIN"), q("SELECT length('" + "x" * 1100000 + "')"), q("COMMIT")],
}


@pytest.fixture
def pooler(primary, turnstile, table):
    """One worker that lets everybody in, so that a Sync on another connection is a turn of it."""
    t = turnstile(shop(primary, {"auth_type": "any", "workers": 1},
                       {"user": APP_USER, "password": APP_PASSWORD}))
    with log_in(t) as client:
        client.rows("SELECT 2")
    wait_until(lambda: has_idle(t), what="an idle server")
    return t


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_i3_one_after_the_other(primary, pooler, table, name):
    requests = CONVERSATIONS[name]
    with log_in(primary) as direct:
        expected = [ask(direct, request) for request in requests]
    truncate(primary)
    with log_in(pooler) as through:
        for request, answers in zip(requests, expected):
            assert ask(through, request) == answers, request[:200]


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_i3_in_one_segment(primary, pooler, table, name):
    requests = CONVERSATIONS[name]
    expected = direct_answer(primary, requests)
    truncate(primary)
    with log_in(pooler) as through:
        through.send(*requests)
        assert answer(through, count_ready(requests)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(CONVERSATIONS) - {"long"}))
def test_i3_cut_at_every_byte(primary, pooler, table, name):
    requests = CONVERSATIONS[name]
    expected, joined = direct_answer(primary, requests), b"".join(requests)
    with log_in(pooler) as pinger:
        for cut in range(1, len(joined)):
            truncate(primary)
            with log_in(pooler) as through:
                through.send(joined[:cut])
                ask(pinger, SYNC)
                through.send(joined[cut:])
                assert answer(through, count_ready(requests)) == expected, cut


@pytest.mark.parametrize("text", [b"-- \xff", b"/* \xff */;", b"BEGIN /* \xff */", b"SELECT 1 -- \xff"])
def test_i3_bytes_that_are_no_text(primary, pooler, text):
    request = [raw.message("Q", text + b"\0"), q("SELECT 2")]
    with log_in(pooler) as through:
        through.send(*request)
        assert answer(through, 2) == direct_answer(primary, request)


@pytest.mark.parametrize("messages", ["de_DE.UTF-8", "C"])
def test_i3_words_are_the_servers(primary, pooler, messages):
    """Whatever its language is, warnings and errors are the server's own."""
    with log_in(pooler) as through:
        through.query(f"SET lc_messages = '{messages}'")
        for request in q("COMMIT"), q("BEGIN") + q("BEGIN"):
            through.send(request)
            notices = [m for m in through.until("N") if m.kind == "N"]
            assert notices[0].fields["C"] in ("25P01", "25001") and "F" in notices[0].fields
            through.until("Z")


# --- a server is not asked -----------------------------------------------------------------------
def test_nothing_is_asked(pooler):
    """All servers are taken: what is answered now is answered here."""
    pooler.reload({"pgturnstile": {"begin_defer_max": "1h"}})
    with clients(pooler, 2) as busy, log_in(pooler) as client:
        for other in busy:
            other.query("BEGIN")
            other.query("SELECT 2")
        for text in "", "BEGIN", "", "COMMIT", "BEGIN READ ONLY", "ROLLBACK", "DISCARD ALL", ";":
            assert not errors(client.query(text)), text
        for other in busy:
            other.query("COMMIT")


SAID = [
    # What is said, and whether its repetition needs no server.
    (["SET work_mem = '1MB'"], True),
    (["SET work_mem = '1MB'", "SET search_path = public"], True),
    (["SET work_mem = '1MB'", "SET work_mem = '2MB'"], False),
    (["SET work_mem = '1MB'", "RESET work_mem"], False),
    (["SET work_mem = '1MB'", "RESET ALL"], False),
    (["SET work_mem = '1MB'", "DISCARD ALL"], False),
    (["SET work_mem = '1MB'", "SELECT set_config('work_mem', '2MB', false)"], False),
    (["SET work_mem = '1MB'", "BEGIN; SET work_mem = '2MB'; COMMIT"], False),
    (["SET work_mem = '1MB'", "BEGIN; SET work_mem = '2MB'; ROLLBACK"], False),
    (["SET work_mem = '1MB'", "DO $$ BEGIN PERFORM set_config('work_mem', '2MB', false); END $$"],
     False),
    (["SET work_mem = '1MB'", "SET standard_conforming_strings = on"], False),
    (["BEGIN", "SET work_mem = '1MB'", "ROLLBACK"], False),
    (["BEGIN; SET work_mem = '1MB'; COMMIT"], False),
]


@pytest.mark.parametrize("said, needs_none", SAID, ids=lambda value: str(value)[:60])
def test_i2_a_set_that_is_in_force_needs_no_server(primary, pooler, said, needs_none):
    again = "SET work_mem = '1MB'"
    before = savings(pooler, "sets")
    with log_in(primary) as direct, log_in(pooler) as client, log_in(pooler) as other:
        for text in said:
            assert essence(client.query(text)) == essence(direct.query(text))
            other.query("SELECT 2")
        for _ in range(2):
            assert essence(client.query(again)) == essence(direct.query(again))
            other.query("SELECT 2")
            assert client.rows("SHOW work_mem") == direct.rows("SHOW work_mem")
    assert savings(pooler, "sets") - before == (2 if needs_none else 1)


SET_1MB, SET_2MB = "SET work_mem = '1MB'", "SET work_mem = '2MB'"
BATCHES = {
    "not run": [p("", SET_1MB) + b() + SYNC],
    "not the only one": [q(SET_1MB), p("", SET_2MB) + b() + e() + p("", "SET geqo = off") + b() +
                         e() + SYNC],
    "in another order": [p("x", SET_2MB) + b("x", "x") + p("y", SET_1MB) + b("y", "y") + e("y") +
                         e("x") + SYNC],
    "before a query": [p("", SET_1MB) + b() + raw.flush() + q("SELECT 2")],
}


@pytest.mark.parametrize("kind", BATCHES)
def test_i2_a_set_in_a_batch_is_not_taken_for_in_force(primary, pooler, kind):
    with log_in(primary) as direct, log_in(pooler) as client:
        for request in BATCHES[kind] + [q(SET_1MB), q("SHOW work_mem")]:
            answers = []
            for c in direct, client:
                c.send(request)
                answers.append(essence(c.until("Z")))
            assert answers[0] == answers[1], request


def test_i2_a_set_whose_session_did_not_come_along_is_not_in_force(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    role = f"DROP ROLE IF EXISTS passing; CREATE ROLE passing; GRANT passing TO {APP_USER}"
    primary.sql(role)
    with log_in(t) as client, log_in(t) as other:
        client.query("SET ROLE passing")
        other.query("SELECT 2")
        primary.sql("DROP ROLE passing")
        assert sqlstate(client.query(SET_1MB)) == "22023"
        primary.sql(role)
        assert client.rows("SELECT 2") == [("2",)]
        client.query(SET_1MB)
        assert client.rows("SHOW work_mem") == [("1MB",)]
    primary.sql("DROP ROLE passing")


def test_savings_are_counted(pooler):
    pooler.reload({"pgturnstile": {"begin_defer_max": "1h"}})
    before = {column: savings(pooler, column) for column in
              ("asked", "begins_deferred", "begins_late", "empty_transactions", "empty_queries",
               "pings", "discards", "syncs", "saved")}
    with log_in(pooler) as client:
        for text in ("", "SELECT 1", "BEGIN", "COMMIT", "BEGIN", "SELECT 2", "COMMIT", "DISCARD ALL"):
            client.query(text)
        client.send(SYNC)
        client.until("Z")
    grown = {column: savings(pooler, column) - old for column, old in before.items()}
    assert grown == {"asked": 9, "begins_deferred": 2, "begins_late": 0, "empty_transactions": 1,
                     "empty_queries": 1, "pings": 1, "discards": 1, "syncs": 1, "saved": 7}


def test_stats_count_what_clients_ask(pooler):
    def totals():
        row = [r for r in pooler.admin("SHOW STATS") if r["database"] == APP_DATABASE][0]
        return row["total_query_count"], row["total_xact_count"]

    before = totals()
    with log_in(pooler) as client:
        for text in "BEGIN", "COMMIT", "BEGIN", "SELECT 2", "COMMIT", "", "SELECT 1":
            client.query(text)
    assert (totals()[0] - before[0], totals()[1] - before[1]) == (7, 4)


def test_it_can_be_turned_off(primary, pooler):
    with log_in(pooler) as client:
        pooler.reload({"pgturnstile": {"answer_locally": 0}})
        before = savings(pooler, "saved")
        client.query("BEGIN")
        wait_backends(primary, 1, "state = 'idle in transaction'")
        client.query("COMMIT")
        for text in "", "SELECT 1", "DISCARD ALL":
            client.query(text)
        assert savings(pooler, "saved") == before


def test_a_dead_database_is_noticed(turnstile):
    server = raw.FakeServer()
    t = turnstile(shop(server, {"server_login_retry": "1s"}))
    with log_in(t) as client:
        client.query("SELECT 2")
        wait_until(lambda: has_idle(t))
        assert not errors(client.query("SELECT 1"))
        server.close()
        wait_until(lambda: not has_idle(t))
        client.send(q("SELECT 1"))
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)


def test_a_ping_waits_while_paused(pooler):
    with log_in(pooler) as client:
        pooler.admin("PAUSE")
        client.send(q("SELECT 1"))
        wait_until(lambda: pool_of(pooler, "cl_waiting") == 1)
        pooler.admin("RESUME")
        assert raw.kinds(client.until("Z")) == "TDCZ"


def test_i6_answers_that_nobody_reads(pooler):
    """A client that asks on and on and reads nothing is not read on."""
    with log_in(pooler) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.settimeout(1)
        sent, piece = 0, q("SELECT 1") * 4000
        with pytest.raises(TimeoutError):
            while sent < 200_000_000:
                sent += client.sock.send(piece)
        client.sock.settimeout(10)
        for _ in range(1000):
            assert raw.kinds(client.until("Z")) == "TDCZ"


# --- on its way to the server --------------------------------------------------------------------
def test_now_does_not_move(primary, pooler):
    """A BEGIN without a statement is sent in time: the transaction is as old as the client's BEGIN."""
    with log_in(pooler) as client:
        began = primary.value("SELECT clock_timestamp()")
        client.query("BEGIN")
        wait_backends(primary, 1, "state = 'idle in transaction'")
        assert savings(pooler, "begins_late")
        is_there = primary.value("SELECT clock_timestamp()")
        now = datetime.datetime.fromisoformat(client.rows("SELECT now()")[0][0])
        assert began <= now <= is_there
        assert now == primary.value("SELECT xact_start FROM pg_stat_activity"
                                    " WHERE state = 'idle in transaction'")
        client.query("COMMIT")
        assert client.rows("SELECT 2") == [("2",)]


def test_begin_defer_max_changes_at_once(primary, pooler):
    pooler.reload({"pgturnstile": {"begin_defer_max": "1h"}})
    with log_in(pooler) as client:
        client.query("BEGIN")
        pooler.reload({"pgturnstile": {"begin_defer_max": "10ms"}})
        wait_backends(primary, 1, "state = 'idle in transaction'")
        client.query("COMMIT")
        pooler.reload({"pgturnstile": {"begin_defer_max": 0}})
        before = savings(pooler, "begins_deferred")
        client.query("BEGIN")
        client.query("COMMIT")
        assert savings(pooler, "begins_deferred") == before


@pytest.fixture
def hurried(primary, turnstile, table):
    """One server, and a BEGIN waits no longer than a millisecond."""
    return turnstile(shop(primary, {"default_pool_size": 1, "begin_defer_max": "1ms"}))


def queued(pooler):
    wait_until(lambda: pool_of(pooler, "cl_waiting") == 1, what="a BEGIN in the queue")


def test_a_late_begin_waits_like_a_request(hurried, table):
    with clients(hurried, 2) as (busy, client):
        busy.query("BEGIN")
        busy.rows("SELECT 2")
        late = savings(hurried, "begins_late")
        client.query("BEGIN")
        queued(hurried)
        client.cancel()  # there is nothing to cancel
        assert pool_of(hurried, "cl_waiting") == 1
        busy.query("COMMIT")
        wait_until(lambda: savings(hurried, "begins_late") == late + 1)
        assert not errors(client.query("INSERT INTO local_rows VALUES (1)"))
        assert client.query("ROLLBACK")[-1].body == b"I"
        assert table() == 0
        assert busy.rows("SELECT 3") == [("3",)]


def test_cancel_of_the_first_statement_in_the_queue(hurried, table):
    """It fails the transaction, although no server has seen that yet."""
    for last in "ROLLBACK", "COMMIT":
        with clients(hurried, 2) as (busy, client):
            busy.query("BEGIN")
            busy.rows("SELECT 2")
            client.query("BEGIN")
            client.send(q("INSERT INTO local_rows VALUES (1)"))
            queued(hurried)
            client.cancel()
            messages = client.until("Z")
            assert sqlstate(messages) == "57014" and messages[-1].body == b"E"
            assert raw.kinds(client.query("")) == "IZ"
            if last == "COMMIT":
                busy.query("COMMIT")
                messages = client.query("SELECT 2")
                assert sqlstate(messages) == "25P02" and "F" in raw.find(messages, "E")[0].fields
            messages = client.query(last)
            assert messages[0].text == "ROLLBACK" and messages[-1].body == b"I"
            if last == "ROLLBACK":
                busy.query("COMMIT")
            assert client.rows("SELECT 2") == [("2",)]
    assert table() == 0


def test_cancel_of_a_first_batch_in_the_queue(hurried):
    with clients(hurried, 2) as (busy, client):
        busy.query("BEGIN")
        busy.rows("SELECT 2")
        client.query("BEGIN")
        client.send(BATCH + SYNC)
        queued(hurried)
        client.cancel()
        messages = client.until("Z")
        assert raw.kinds(messages) == "EZ" and messages[-1].body == b"E"
        busy.query("COMMIT")
        client.send(BATCH + SYNC)
        assert sqlstate(client.until("Z")) == "25P02"
        assert client.query("ROLLBACK")[-1].body == b"I"


def test_i2_a_late_begin_leaves_no_portal(primary, hurried):
    """Not the one that it was run by, which a Describe or Execute without a name would find."""
    for message in raw.describe("P", ""), raw.execute():
        with log_in(hurried) as client:
            client.query("BEGIN")
            wait_backends(primary, 1, "state = 'idle in transaction'")
            client.send(message + raw.sync())
            assert sqlstate(client.until("Z")) == "34000"


def test_i3_a_late_begin_leaves_the_unnamed_statement(primary, hurried):
    """One of the extended protocol has not dropped it, as a Query does."""
    with log_in(hurried) as client:
        client.send(p("begin", "BEGIN"), p("", "SELECT 4"), SYNC)
        assert raw.kinds(client.until("Z")) == "11Z"
        client.send(b("", "begin"), e(), SYNC)
        assert raw.kinds(client.until("Z")) == "2CZ"
        wait_backends(primary, 1, "state = 'idle in transaction'")
        client.send(b(), e(), SYNC)
        assert raw.kinds(client.until("Z")) == "2DCZ"


def test_i3_the_portal_of_a_begin_tells_of_no_other_statement(pooler):
    """What was bound last on its server was another client's."""
    pooler.reload({"pgturnstile": {"begin_defer_max": "1h"}})
    sql = "SELECT 7 AS seven"
    with clients(pooler, 2) as (told, client):
        told.send(p("x", sql), d("S", "x"), SYNC)
        assert raw.kinds(told.until("Z")) == "1tTZ"
        told.query("BEGIN")
        told.rows("SELECT 2")  # keeps that server busy
        client.send(p("x", sql), b("", "x"), e(), SYNC)
        assert raw.kinds(client.until("Z")) == "12DCZ"
        client.send(p("", "BEGIN"), b(), e(), SYNC)
        assert raw.kinds(client.until("Z")) == "12CZ"
        client.send(d("P"), SYNC)
        assert raw.kinds(client.until("Z")) == "nZ"
        client.query("ROLLBACK")
        told.query("COMMIT")
        told.send(b("", "x"), e(), SYNC)
        assert raw.kinds(told.until("Z")) == "2DCZ"


def test_query_wait_timeout(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1, "begin_defer_max": "1ms"}))
    with clients(t, 2) as (busy, client):
        busy.query("BEGIN")
        busy.rows("SELECT 2")
        t.reload({"pgturnstile": {"query_wait_timeout": "300ms"}})
        client.query("BEGIN")
        assert raw.find(client.until_closed(), "E")[0].fields["M"] == "query_wait_timeout"


@pytest.mark.parametrize("begin_defer_max", ["100ms", "1h"])
@pytest.mark.parametrize("settings, code", [
    ({"idle_transaction_timeout": "1s"}, "25P03"), ({"transaction_timeout": "1s"}, "25P04"),
    ({"client_idle_timeout": "1s", "transaction_timeout": "3s"}, "25P04")])
def test_timeouts_run_from_the_clients_begin(primary, turnstile, settings, code, begin_defer_max):
    t = turnstile(shop(primary, {"begin_defer_max": begin_defer_max}))
    with log_in(t) as client:
        client.query("BEGIN")
        t.reload({"pgturnstile": settings})
        assert raw.find(client.until_closed(), "E")[0].fields["C"] == code


def test_pause_waits_for_no_begin_that_waits(primary, turnstile):
    t = turnstile(shop(primary, {"begin_defer_max": "1h"}))
    with log_in(t) as client:
        client.query("BEGIN")
        t.admin("PAUSE")
        client.send(q("SELECT 2"))
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        t.admin("RESUME")
        assert client.until("Z")[-1].body == b"T"
        client.query("COMMIT")


def test_suspend_holds_a_begin_back(primary, hurried):
    hurried.reload({"pgturnstile": {"begin_defer_max": "300ms"}})
    with log_in(hurried) as client, hurried.connect("pgturnstile", ADMIN_USER) as console:
        client.query("BEGIN")
        console.execute("SUSPEND")
        console.execute("RESUME")
        wait_backends(primary, 1, "state = 'idle in transaction'")
        client.query("COMMIT")


def test_a_database_that_is_gone(primary, turnstile):
    """Nothing has run, so nothing is finished on nodes that are not the database's any more."""
    t = turnstile(shop(primary, {"begin_defer_max": "1h"}))
    with log_in(t) as client:
        client.query("BEGIN")
        t.reload({"databases": {APP_DATABASE: None, "other": {"host": primary.host}}})
        assert raw.find(client.until_closed(), "E")[0].fields["C"] == "57P01"


def test_clients_that_hang_up(primary, turnstile):
    t = turnstile(shop(primary, {"begin_defer_max": "20ms"}))
    for how in "close", "reset", "terminate":
        for text in "BEGIN", "BEGIN READ ONLY":
            client = log_in(t)
            client.query(text)
            if how == "terminate":
                client.send(raw.terminate())
            getattr(client, "reset" if how == "reset" else "close")()
    client = log_in(t)
    client.query("BEGIN")
    rows = lambda: [r for r in t.admin("SHOW CLIENTS") if r["database"] == APP_DATABASE]  # noqa: E731
    wait_until(lambda: len(rows()) == 1, what="those who hung up have gone")
    row, = rows()
    assert t.admin(f"KILL_CLIENT {row['id']}") is not None
    assert raw.find(client.until_closed(), "E")[0].fields["C"] == "57P01"
    client.close()
    wait_backends(primary, 0, "state LIKE 'idle in transaction%'")
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def test_a_client_that_keeps_its_server(primary, pooler, table):
    with log_in(pooler) as client:
        client.query("SET work_mem = '1MB'")
        before = savings(pooler, "begins_deferred")
        for _ in range(3):
            client.query("BEGIN")
            client.query("INSERT INTO local_rows VALUES (1)")
            assert client.query("COMMIT")[-1].body == b"I"
        client.query("BEGIN")
        client.query("COMMIT")
        assert savings(pooler, "begins_deferred") - before == 4
        client.query("BEGIN")
        wait_backends(primary, 1, "state = 'idle in transaction'")
        client.query("ROLLBACK")
        assert client.rows("SHOW work_mem") == [("1MB",)]
    assert table() == 3


def test_statement_pooling_allows_no_transaction(primary, turnstile):
    with log_in(turnstile(shop(primary, {"pool_mode": "statement"}))) as client:
        assert raw.kinds(client.query("")) == "IZ"
        client.send(q("BEGIN"))
        assert raw.find(client.until_closed(), "E")[0].fields["C"] == "0A000"


def test_session_pooling_is_left_alone(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "session"}))
    with log_in(t) as client:
        for text in "", "SELECT 1", "BEGIN", "COMMIT", "DISCARD ALL":
            client.query(text)
    assert savings(t, "saved") == 0


# --- limits --------------------------------------------------------------------------------------
def limited(primary, burst, **settings):
    return tenants(primary, settings, {"basic": {"rate": "1/h", "burst": burst}})


def tokens(pooler):
    return {r["name"]: r for r in pooler.admin("SHOW TENANTS")}["acme"]["tokens"]


def test_i10_a_begin_costs_what_it_cost(primary, turnstile):
    t = turnstile(limited(primary, 9, begin_defer_max="1h"))
    with enter(t, "acme") as client:
        for text in "", "BEGIN", "", "COMMIT", "BEGIN", "ROLLBACK", "DISCARD ALL":
            client.query(text)
        assert tokens(t) == 9
        client.query("BEGIN")
        client.query("SELECT 2; SELECT 3")
        assert tokens(t) == 6
        client.query("COMMIT")
        client.query("BEGIN")
        client.send(BATCH + BATCH + SYNC)
        client.until("Z")
        assert tokens(t) == 2
        client.query("COMMIT")
        assert tokens(t) == 1


def test_i10_the_first_statement_decides(primary, turnstile):
    t = turnstile(limited(primary, 1, begin_defer_max="1h"))
    with enter(t, "acme") as client:
        client.query("BEGIN")
        for _ in range(3):
            assert not errors(client.query("SELECT 2"))
        client.query("COMMIT")
        for request in q("SELECT 2"), BATCH + SYNC:
            client.query("BEGIN")
            client.send(request)
            messages = client.until("Z")
            assert errors(messages) == ["53400"] and messages[-1].body == b"E"
            assert client.query("COMMIT")[0].text == "ROLLBACK"
        assert tokens(t) == -4


def test_i10_a_late_begin_is_asked_for_too(primary, turnstile):
    t = turnstile(limited(primary, 1, begin_defer_max="1ms", rate_limit_wait="10h"))
    with enter(t, "acme") as client:
        client.query("SELECT 2")
        client.query("BEGIN")
        wait_until(lambda: pool_of(t, "cl_waiting") == 1, what="it waits for a token")
        client.cancel()
        t.reload({"tiers": {"basic": {"rate": 0, "burst": 0}}})
        wait_backends(primary, 1, "state = 'idle in transaction'")
        assert client.query("COMMIT")[-1].body == b"I"


# --- it fails closed (trap 18) -------------------------------------------------------------------
def test_i3_a_server_skips_a_query_behind_a_failed_message(primary, table):
    """What the construction rests on, on the real server: no Sync, no Query."""
    with log_in(primary) as direct:
        direct.send(b("", "none") + e() + INSERT + INSERT + SYNC)
        assert raw.kinds(direct.until("Z")) == "EZ"
        assert direct.rows("SELECT 2") == [("2",)]
    assert table() == 0


def test_i3_a_query_goes_on_in_the_transaction_of_an_execute(primary, table):
    with log_in(primary) as direct:
        direct.send(p("x", "BEGIN") + b("", "x") + e() + INSERT)
        messages = direct.until("Z")
        assert raw.kinds(messages) == "12CCZ" and messages[-1].body == b"T"
    assert table() == 0


def turn(pooler):
    """A turn of its worker on another connection: what it has received before has been sent on."""
    with log_in(pooler) as pinger:
        ask(pinger, SYNC)


class Scripted:
    """A server that takes BEGIN and what comes behind it, and answers as the test says."""

    def __init__(self, turnstile, on_begin, on_query=lambda text: None, **settings):
        self._on_begin, self._on_query = on_begin, on_query
        self.server = raw.FakeServer(self._script)
        self.pooler = turnstile(shop(self.server, {"workers": 1, "begin_defer_max": "1h",
                                                 **settings}))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return self.server.__exit__(*failure)

    def _script(self, session):
        try:
            while (message := session.message()).kind != "X":
                if message.kind == "P":
                    session.send(raw.parse_complete())
                elif message.kind == "B":
                    session.send(raw.bind_complete())
                elif message.kind == "C":
                    session.send(raw.close_complete())
                elif message.kind == "E":
                    self._on_begin(session)
                elif message.kind == "Q":
                    self._on_query(message.text)
                    session.send(raw.command_complete("INSERT 0 1"), raw.ready("T"))
        except EOFError:
            pass


def fail(session):
    """As the server does, for want of a Sync."""
    session.send(raw.error("53200", "out of memory"))
    while session.message().kind != "X":
        pass
    raise EOFError


def no_servers(pooler):
    wait_until(lambda: pool_of(pooler, "sv_idle") + pool_of(pooler, "sv_active") == 0)


@pytest.mark.parametrize("first", [INSERT, BATCH + SYNC, LO_CREAT], ids=["simple", "batch", "call"])
def test_i3_a_begin_that_fails_fails_the_transaction(turnstile, first):
    with Scripted(turnstile, fail) as scene, log_in(scene.pooler) as client:
        client.query("BEGIN")
        client.send(first)
        messages = client.until("Z")
        assert raw.kinds(messages) == "EZ" and messages[-1].body == b"E"
        assert messages[0].fields["S"] == "ERROR" and messages[0].fields["C"] == "53200"
        assert client.query("COMMIT")[0].text == "ROLLBACK"
        no_servers(scene.pooler)


def test_i3_a_begin_that_fails_in_a_batch_without_its_sync(turnstile):
    with Scripted(turnstile, fail) as scene, log_in(scene.pooler) as client:
        client.query("BEGIN")
        client.send(BATCH, raw.flush())
        assert client.until("E")[-1].fields["C"] == "53200"
        client.send(BATCH, SYNC, q("ROLLBACK"))
        assert [m.body for m in client.until("Z")] == [b"E"]
        assert client.until("Z")[-1].body == b"I"


def test_i3_a_begin_that_fails_before_a_pipeline(turnstile):
    """What else has been sent cannot be answered: all of it is skipped, and the session ends."""
    with Scripted(turnstile, fail) as scene, log_in(scene.pooler) as client:
        client.send(q("BEGIN"), INSERT, INSERT, q("COMMIT"))
        messages = client.until_closed()
        assert raw.kinds(messages) == "CZE" and messages[-1].fields["S"] == "FATAL"
        assert messages[-1].fields["C"] == "53200"
        no_servers(scene.pooler)


def test_i3_nothing_behind_a_sync_before_begin_is_answered(turnstile):
    """A Sync ends the skipping: what is behind it would run by itself."""
    begun = threading.Event()

    def hold(session):
        if begun.is_set():  # another connection, for what stands behind the failed batch
            raise EOFError
        begun.set()
        while session.message().kind != "S":
            pass
        for _ in range(3):
            turn(scene.pooler)
        session.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            session.message()
        session.sock.settimeout(10)
        session.send(raw.error("53200", "out of memory"), raw.ready("I"))
        raise EOFError

    with Scripted(turnstile, hold) as scene, log_in(scene.pooler) as client:
        client.send(q("BEGIN"), BATCH, SYNC, BATCH, SYNC, q("ROLLBACK"))
        client.until("Z")
        assert begun.wait(10)
        messages = client.until("Z")
        assert raw.kinds(messages) == "EZ" and messages[-1].body == b"E"


@pytest.mark.parametrize("at", ["P", "B"])
def test_i3_a_begin_that_cannot_be_prepared_ends_the_session(turnstile, at):
    def script(session):
        while session.message().kind != at:
            session.send(raw.parse_complete())
        session.send(raw.error("XX000", "no"))
        with pytest.raises((EOFError, ConnectionError)):
            while session.message().kind != "X":
                pass
            raise EOFError

    with raw.FakeServer(script) as server:
        with log_in(turnstile(shop(server, {"begin_defer_max": "1h"}))) as client:
            client.query("BEGIN")
            client.send(INSERT)
            messages = client.until("Z")
            assert raw.kinds(messages) == "EZ" and messages[-1].body == b"E"


def test_i3_a_late_begin_that_fails_ends_the_session(turnstile):
    with Scripted(turnstile, lambda s: s.send(raw.error("53200", "no")), begin_defer_max="1ms") as scene:
        with log_in(scene.pooler) as client:
            client.query("BEGIN")
            assert raw.find(client.until_closed(), "E")[0].fields["S"] == "FATAL"


def test_i3_a_server_that_dies_at_begin(turnstile):
    def die(session):
        session.reset()
        raise EOFError

    with Scripted(turnstile, die) as scene, log_in(scene.pooler) as client:
        client.query("BEGIN")
        client.send(INSERT)
        assert raw.find(client.until_closed(), "E")[0].fields["C"] == "08006"


def test_i7_a_cancel_need_not_wait_for_the_answer_to_begin(primary, pooler):
    """The server keeps that until it has run the statement."""
    for first in q("SELECT pg_sleep(30)"), p("", "SELECT pg_sleep(30)") + b() + e() + SYNC:
        with log_in(pooler) as client:
            client.query("BEGIN")
            client.send(first)
            wait_backends(primary, 1, "wait_event = 'PgSleep'")
            client.cancel()
            messages = client.until("Z")
            assert sqlstate(messages) == "57014" and messages[-1].body == b"E"
            assert client.query("ROLLBACK")[-1].body == b"I"


def test_i7_a_cancel_need_not_wait_for_a_statement_to_be_prepared(primary, pooler):
    """The same where a server is taught a statement that another one knows."""
    with clients(pooler, 2) as (busy, client):
        client.send(p("nap", "SELECT pg_sleep($1::int)"), b("", "nap", [0]), e(), SYNC)
        client.until("Z")
        busy.query("BEGIN")
        busy.rows("SELECT 2")
        for _ in range(2):  # on whatever server is free
            client.send(b("", "nap", [30]), e(), SYNC)
            wait_backends(primary, 1, "wait_event = 'PgSleep'")
            client.cancel()
            assert sqlstate(client.until("Z")) == "57014"
        busy.query("COMMIT")


def test_i7_a_late_begin_is_not_what_a_cancel_hits(turnstile):
    begun, go_on, canceled = threading.Event(), threading.Event(), threading.Event()

    def hold(session):
        begun.set()
        assert go_on.wait(10)
        session.send(raw.command_complete("BEGIN"))

    def on_query(text):
        if text:
            assert canceled.wait(10)

    with Scripted(turnstile, hold, on_query, begin_defer_max="1ms") as scene, \
            log_in(scene.pooler) as client:
        client.query("BEGIN")
        assert begun.wait(10)
        client.send(INSERT)
        turn(scene.pooler)  # the statement has been sent
        client.cancel()
        assert not scene.server.cancels
        go_on.set()
        wait_until(lambda: scene.server.cancels, what="the cancel, now that it hits the statement")
        canceled.set()
        assert raw.kinds(client.until("Z")) == "CZ"


def test_i7_a_cancel_behind_a_late_begin_hits_nothing(turnstile):
    begun, go_on = threading.Event(), threading.Event()

    def hold(session):
        begun.set()
        assert go_on.wait(10)
        session.send(raw.command_complete("BEGIN"))

    with Scripted(turnstile, hold, begin_defer_max="1ms") as scene, log_in(scene.pooler) as client:
        client.query("BEGIN")
        assert begun.wait(10)
        client.cancel()
        go_on.set()
        assert raw.kinds(client.query("INSERT INTO local_rows VALUES (1)")) == "CZ"
        assert not scene.server.cancels


@pytest.mark.slow
def test_i3_cancels_at_any_time(primary, pooler, table):
    """A statement runs in its transaction or not at all: nothing is left when all are undone."""
    stop = threading.Event()
    with log_in(pooler) as client:
        def cancel():
            while not stop.is_set():
                client.cancel()

        thread = threading.Thread(target=cancel, daemon=True)
        thread.start()
        for _ in range(300):
            client.query("BEGIN")
            client.send(INSERT)
            messages = client.until("Z")
            assert messages[-1].body in (b"T", b"E") and errors(messages) in ([], ["57014"])
            while client.query("ROLLBACK")[-1].body != b"I":
                pass
        stop.set()
        thread.join(10)
    assert table() == 0


# --- made up at random ---------------------------------------------------------------------------
ROUNDS = int(os.environ.get("PGT_ROUNDS", 150))
PIECES = [q("BEGIN"), q("BEGIN"), q("BEGIN"), q("COMMIT"), q("COMMIT"), q("ROLLBACK"), q("END"), q(""),
          q(";"), q("SELECT 1"), q("SELECT 2"), q("START TRANSACTION READ ONLY"), SYNC,
          q("INSERT INTO local_rows VALUES (1) RETURNING n + 0"), q("INSERT INTO local_rows VALUES (NULL)"),
          q("SELECT count(*) FROM local_rows"), q("SELEC"), q("SAVEPOINT a"), q("ROLLBACK TO a"),
          q("COMMIT AND CHAIN"), q("BEGIN; SELECT 3"), q("SELECT 3; COMMIT"), q("DISCARD ALL"),
          BATCH + SYNC, raw.close("S", "a") + p("a", "SELECT 4") + SYNC, b("", "a") + e() + SYNC, raw.close("S", "a") + SYNC,
          p("", "COMMIT") + b() + e() + SYNC, p("", "INSERT INTO local_rows VALUES (2)") + b() + e() + SYNC,
          p("", "SELECT 1/0") + b() + e() + BATCH + SYNC]


@pytest.mark.slow
@pytest.mark.tsan
def test_i3_random_sessions_are_answered_as_by_the_server(primary, pooler, table):
    if not primary.value("SELECT count(*) FROM pg_database WHERE datname = 'local_twin'"):
        primary.sql(f"CREATE DATABASE local_twin OWNER {APP_USER}")
    make_table(primary, "local_twin")
    pooler.reload({"pgturnstile": {"begin_defer_max": "3ms"}})
    for seed in range(ROUNDS):
        rng = random.Random(seed)
        with log_in(primary, dbname="local_twin") as direct, log_in(pooler) as through:
            for _ in range(12):
                requests = rng.choices(PIECES, k=rng.choice([1, 1, 1, 2, 5, 9]))
                direct.send(*requests)
                through.send(*requests)
                count = count_ready(requests)
                assert answer(through, count) == answer(direct, count), f"seed {seed}: {requests}"
        truncate(primary, "local_twin", APP_DATABASE)
