# SPDX-License-Identifier: ISC
#
# test_protocol.py - the messages of protocol 3 through the pooler, as on a direct connection.
"""Simple and extended queries, function calls, large messages, versions, unexpected messages."""
import re
import struct
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import (backends, essence, log_in, memory_kib, pid_of, same_as_direct, shop, sqlstate,
                 wait_backends)
from turnstile import TOP
from waiting import wait_until

MIB = 1 << 20


@pytest.fixture
def t(primary, turnstile):
    return turnstile(shop(primary))


def function_call(oid, *values):
    """FunctionCall with binary arguments and a binary result."""
    arguments = b"".join(struct.pack("!i", len(v)) + v for v in values)
    return raw.message("F", struct.pack("!ihhh", oid, 1, 1, len(values)), arguments,
                       struct.pack("!h", 1))


# --- simple queries -----------------------------------------------------------------------------
@pytest.mark.tsan
def test_simple_queries_are_answered_as_by_the_server(primary, t):
    same_as_direct(primary, t, *map(raw.query, [
        "SELECT 1, NULL, 'x'", "", ";", "-- nothing", "SELECT 1; SELECT 2, 3; SELECT 'x'",
        "SELECT 1/0", "SELECT 1; SELECT 1/0; SELECT 2", "SELEC 1", "DO $$ BEGIN RAISE NOTICE 'n'; END $$",
        "BEGIN", "SELECT 1", "SELECT 1/0", "SELECT 1", "COMMIT",
        "BEGIN; SELECT 1; COMMIT; SELECT 2", "BEGIN; SELECT 1/0", "ROLLBACK",
        "ROLLBACK", "COMMIT", "SELECT generate_series(1, 1000)", "EXPLAIN (COSTS off) SELECT 1"]))


def test_commit_of_a_failed_transaction_says_rollback(t):
    with log_in(t) as client:
        client.query("BEGIN")
        client.query("SELECT 1/0")
        assert raw.find(client.query("COMMIT"), "C")[0].text == "ROLLBACK"


def test_parameter_status_in_the_middle(t):
    with log_in(t) as client:
        messages = client.query("SET TimeZone = 'Asia/Tokyo'; SELECT 1")
        assert [m.strings[:2] for m in raw.find(messages, "S")] == [["TimeZone", "Asia/Tokyo"]]
        assert raw.find(messages, "D")[0].row == ("1",)


def test_pipelined_simple_queries(primary, t):
    texts = ["SELECT 1", "BEGIN", "SELECT 2", "SELECT 1/0", "SELECT 3", "ROLLBACK", "SELECT 4"]
    with log_in(primary) as direct, log_in(t) as through:
        answers = []
        for client in direct, through:
            client.send(*map(raw.query, texts))
            answers.append([m for _ in texts for m in client.until("Z")])
        assert essence(answers[0]) == essence(answers[1])


def test_query_longer_than_what_is_looked_at(primary, t):
    text = "SELECT length('%s')" % ("x" * (3 * MIB))
    with log_in(t) as client, log_in(t) as other:
        assert client.rows(text) == [(str(3 * MIB),)]
        # Nobody has read it, so the server is asked what it has left.
        wait_until(lambda: [(row["sv_active"], row["sv_tested"]) for row in t.admin("SHOW POOLS")
                            if row["database"] == APP_DATABASE] == [(0, 0)])
        assert {pid_of(other) for _ in range(5)} == {pid_of(client)}
        text = "CREATE TEMP TABLE mine (a text DEFAULT '%s')" % ("x" * (3 * MIB))
        client.query(text)
        assert client.rows("SELECT count(*) FROM mine") == [("0",)]
        mine = pid_of(client)
        assert {pid_of(other) for _ in range(5)} == {pid_of(other)} and pid_of(other) != mine


def test_query_without_its_nul_ends_the_connection(t):
    with log_in(t) as client:
        client.send(raw.message("Q", b"SELECT 1"))
        assert sqlstate(client.until_closed()) == "08P01"


# --- function calls and large objects ------------------------------------------------------------
def test_function_call(primary, t):
    abs_oid = primary.value("SELECT 'int4abs(int4)'::regprocedure::oid")
    minus_two = struct.pack("!i", -2)
    answers = same_as_direct(primary, t, function_call(abs_oid, minus_two), function_call(0),
                             raw.query("BEGIN"), function_call(0),
                             function_call(abs_oid, minus_two), raw.query("ROLLBACK"))
    assert raw.kinds(answers[0]) == "VZ"
    assert answers[0][0].body == struct.pack("!ii", 4, 2)


def test_large_object(primary, t):
    lo_creat, lo_open, loread, lowrite, lo_lseek = (primary.value(
        f"SELECT oid FROM pg_proc WHERE proname = '{name}'")
        for name in ("lo_creat", "lo_open", "loread", "lowrite", "lo_lseek"))

    def number(*values):
        return [struct.pack("!i", v) for v in values]

    with log_in(t) as client:
        def call(oid, *arguments):
            client.send(function_call(oid, *arguments))
            answer = client.until("Z")
            assert raw.kinds(answer) == "VZ", answer
            return answer[0].body[4:]

        client.query("BEGIN")
        oid = call(lo_creat, *number(0x60000))
        fd = call(lo_open, oid, *number(0x60000))
        assert call(lowrite, fd, b"x" * 100_000) == struct.pack("!i", 100_000)
        call(lo_lseek, fd, *number(0, 0))
        assert call(loread, fd, *number(200_000)) == b"x" * 100_000
        client.query("COMMIT")
        client.rows(f"SELECT lo_unlink({struct.unpack('!I', oid)[0]})")


def test_i2_function_called_by_oid_keeps_its_server(primary, t):
    """No text names it, so it may leave anything behind; it is only known of large objects'."""
    lock = primary.value("SELECT 'pg_advisory_lock(bigint)'::regprocedure::oid")
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    with log_in(t) as client, log_in(t) as other:
        client.send(function_call(lock, struct.pack("!q", 4711)))
        assert raw.kinds(client.until("Z")) == "VZ"
        assert other.rows(locks) == [("1",)] and pid_of(client) != pid_of(other)
        client.close()
        wait_until(lambda: other.rows(locks) == [("0",)])


# --- the extended protocol -----------------------------------------------------------------------
@pytest.mark.tsan
def test_extended_batches_are_answered_as_by_the_server(primary, t):
    p, b, d, e, s = raw.parse, raw.bind, raw.describe, raw.execute, raw.sync()
    same_as_direct(
        primary, t,
        p("", "SELECT $1::int + 1") + d("S") + b("", "", [41]) + d("P") + e() + s,
        p("", "") + b() + d("P") + e() + s,
        p("", "CREATE TEMP TABLE IF NOT EXISTS gone () ON COMMIT DROP") + b() + d("P") + e() + s,
        s,
        p("", "SELECT 1/0") + b() + e() + p("", "SELECT 2") + b() + e() + s,
        p("", "SELEC") + b() + e() + s,
        b("", "nowhere") + s, d("S", "nowhere") + s, d("P", "nowhere") + s, e("nowhere") + s,
        raw.close("S", "nowhere") + raw.close("P", "nowhere") + s,
        p("", "SELECT generate_series(1, 5)") + b() + e("", 2) + e("", 2) + e("", 2) + s,
        p("", "BEGIN") + b() + e() + s,
        p("", "SELECT 1") + b("portal") + s,
        e("portal") + raw.close("P", "portal") + e("portal") + s,
        p("", "SELECT 1") + s, b() + e() + s,
        p("", "ROLLBACK") + b() + e() + s)


def test_flush_is_not_sync(primary, t):
    with log_in(t) as client, log_in(t) as other, log_in(t) as third:
        client.send(raw.parse("", "SELECT generate_series(1, 3)"), raw.bind(), raw.flush())
        assert raw.kinds([client.message(), client.message()]) == "12"
        client.send(raw.describe("P"), raw.execute("", 2), raw.flush())
        assert raw.kinds(client.until("s")) == "TDDs"
        # The portal lives up to the Sync, so nobody else may have its server.
        assert pid_of(other) == pid_of(third)
        client.send(raw.execute("", 2), raw.sync())
        assert raw.kinds(client.until("Z")) == "DCZ"
        assert client.rows("SELECT 1") == [("1",)]


def test_pipeline_with_several_syncs_and_an_error(primary, t):
    good = raw.parse("", "SELECT 1") + raw.bind() + raw.execute()
    bad = raw.parse("", "SELECT 1/0") + raw.bind() + raw.execute()
    request = good + raw.sync() + good + bad + good + raw.sync() + good + raw.sync()
    answers = []
    for server in primary, t:
        with log_in(server) as client:
            client.send(request)
            answers.append([m for _ in range(3) for m in client.until("Z")])
    assert raw.kinds(answers[1]) == "12DCZ" "12DC1EZ" "12DCZ"
    assert essence(answers[0]) == essence(answers[1])


def test_long_pipeline(t):
    rounds = 20_000
    with log_in(t, timeout=60) as client:
        one = raw.parse("", "SELECT 1") + raw.bind() + raw.execute() + raw.sync()
        sender = threading.Thread(target=client.send, args=[one * rounds], daemon=True)
        sender.start()
        for _ in range(rounds):
            assert raw.kinds(client.until("Z")) == "12DCZ"
        sender.join()


# --- large messages ------------------------------------------------------------------------------
def test_bind_of_tens_of_megabytes(t):
    before = memory_kib(t)
    with log_in(t, timeout=60) as client:
        value = "x" * (48 * MIB)
        messages = client.prepared("SELECT length($1), md5($1) IS NOT NULL", [value])
        assert raw.find(messages, "D")[0].row == (str(48 * MIB), "t")
        assert memory_kib(t) - before < 16 * 1024


@pytest.mark.slow
def test_i6_slow_reader_of_a_large_result_takes_no_memory(primary, t):
    with log_in(t, timeout=60) as client:
        client.query("SELECT 1")
        before, worst = memory_kib(t), 0
        client.send(raw.query("SELECT repeat('x', 1048576) FROM generate_series(1, 100)"))
        # Not read yet: the server fills what buffers there are, and waits.
        wait_until(lambda: backends(primary, "wait_event = 'ClientWrite'"))
        rows = size = 0
        while (m := client.message()).kind != "Z":
            if m.kind == "D":
                rows, size = rows + 1, size + len(m.body)
                worst = max(worst, memory_kib(t))
        assert (rows, size) == (100, 100 * (MIB + 6))
        assert worst - before < 8 * 1024


def test_message_of_a_gibibyte_is_refused(t):
    for size in 0, 3, 0x40000000, 0xffffffff:
        with log_in(t) as client:
            client.send(b"Q" + struct.pack("!I", size))
            assert sqlstate(client.until_closed()) == "08P01"


# --- versions ------------------------------------------------------------------------------------
@pytest.mark.parametrize("version, key", [((3, 0), 4), ((3, 1), 4), ((3, 2), 32), ((3, 9999), 32)])
def test_versions(t, version, key):
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE,
                                 "_pq_.test_protocol_negotiation": ""}, version))
        negotiated = client.message()
        assert negotiated.kind == "v"
        agreed, unknown = struct.unpack_from("!ii", negotiated.body)
        assert agreed == 3 << 16 | min(version[1], 2) and unknown == 1
        assert negotiated.body[8:] == b"_pq_.test_protocol_negotiation\0"
        assert client.message().kind == "R"
    with log_in(t, version=version if version[1] != 9999 else (3, 2)) as client:
        assert len(client.key) == key
        assert client.rows("SELECT 1") == [("1",)]


# --- every message in every phase -------------------------------------------------------------------
MESSAGES = {
    "Bind": raw.bind(), "Close": raw.close("S"), "Describe": raw.describe("S"),
    "Execute": raw.execute(), "FunctionCall": function_call(0), "Flush": raw.flush(),
    "Parse": raw.parse("", "SELECT 1"), "Query": raw.query("SELECT 1"), "Sync": raw.sync(),
    "Terminate": raw.terminate(), "CopyDone": raw.copy_done(), "CopyData": raw.copy_data(b"7\n"),
    "CopyFail": raw.copy_fail("no"), "PasswordMessage": raw.password("x"),
    "unknown": raw.message("?"), "truncated Parse": raw.message("P", b"x"),
    "truncated Bind": raw.message("B", b"x"), "truncated Describe": raw.message("D", b"S"),
    "Describe of nothing": raw.message("D", b"x", ""), "truncated Close": raw.message("C", b"S"),
    "truncated Execute": raw.message("E", b"x"), "truncated Query": raw.message("Q", b""),
    "truncated FunctionCall": raw.message("F", b"x"), "Sync with a body": raw.message("S", b"x"),
}
PHASES = {  # what is sent, and the types of what is received, before the message
    "ready": (b"", ""),
    "in transaction": (raw.query("BEGIN"), "CZ"),
    "in failed transaction": (raw.query("BEGIN; SELECT 1/0"), "CEZ"),
    "in batch": (raw.parse("", "SELECT 1") + raw.bind() + raw.flush(), "12"),
    "in batch of a transaction": (
        raw.parse("", "BEGIN") + raw.bind() + raw.execute() + raw.flush(), "12C"),
    "skipping to Sync": (raw.parse("", "SELEC") + raw.flush(), "E"),
    "in COPY": (raw.query("COPY phases FROM STDIN"), "G"),
    "in COPY of a batch": (raw.parse("", "COPY phases FROM STDIN") + raw.bind() + raw.execute()
                           + raw.flush(), "12G"),
    "in transaction, not a Query": (
        raw.parse("", "BEGIN") + raw.bind() + raw.execute() + raw.sync(), "12CZ"),
    "in transaction that has run": (raw.query("BEGIN") + raw.query("SELECT 1"), "CZTDCZ"),
    "with settings elsewhere": (raw.query("SET work_mem = '1MB'"), "CZ"),
    "with a statement elsewhere": (raw.parse("", "SELECT 'unnamed'") + raw.sync(), "1Z"),
    "listening": (raw.query("LISTEN phases"), "CZ"),
    "pinned": (raw.query("CREATE TEMP TABLE mine (n int)"), "CZ"),
    "with a cursor": (raw.query("BEGIN; DECLARE c CURSOR FOR SELECT 1"), "CCZ"),
    "with SQL's PREPARE": (raw.query("PREPARE s AS SELECT 1"), "CZ"),
}


def conversation(server, preface, seen, request, between=lambda: None):
    """What comes of a message in a phase, up to the answer to a Query behind a Sync."""
    with log_in(server) as client:
        client.send(preface)
        assert raw.kinds([client.message() for _ in seen]) == seen
        between()
        try:
            client.send(request, raw.sync(), raw.query("ROLLBACK"), raw.query("SELECT 'last'"))
            answer = []
            while not answer or not (answer[-1].kind == "C" and raw.find(answer[-2:], "D")
                                     and answer[-2].row == ("last",)):
                answer.append(client.message())
            return essence(answer)
        except (EOFError, ConnectionError):
            return essence(answer) + ["closed"]


def may_differ(name, answer):
    """Who says goodbye need not hear more; else a FATAL 08P01, and nothing after it."""
    if name == "Terminate":
        return answer == ["closed"]
    return len(answer) > 1 and answer[-1] == "closed" and answer[-2][0] == "E" \
        and answer[-2][1]["C"] == "08P01"


def test_messages_are_those_of_the_table():
    table = (TOP / "include/wire/msgs.def").read_text()
    declared = re.findall(r"X\(\w+, '.', +\"(\w+)\"\)", table[:table.index("BACKEND_MESSAGES(X)")])
    assert len(declared) > 10 and not set(declared) - set(MESSAGES)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_every_message_in_every_phase(primary, turnstile, phase):
    primary.sql("CREATE TABLE IF NOT EXISTS phases (n int); GRANT ALL ON phases TO PUBLIC",
                dbname=APP_DATABASE)
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    preface, seen = PHASES[phase]
    wrong = {}
    with log_in(t) as bystander:
        def use_the_server():
            if "elsewhere" in phase:
                bystander.prepared("SELECT 'mine'")

        for name, request in MESSAGES.items():
            expected = conversation(primary, preface, seen, request)
            got = conversation(t, preface, seen, request, use_the_server)
            if got != expected and not may_differ(name, got):
                wrong[name] = {"direct": expected, "through": got}
            assert bystander.rows("SELECT count(*) FROM pg_cursors") == [("0",)], name
    assert not wrong, "\n".join(f"{k}: {v}" for k, v in wrong.items())


@pytest.mark.parametrize("name", MESSAGES)
def test_message_instead_of_a_startup_packet(t, name):
    with raw.RawClient(t.port) as client:
        client.send(MESSAGES[name] + b"\0" * 8)
        assert raw.kinds(client.until_closed()) in ("", "E")
    assert t.is_running()


@pytest.mark.parametrize("name", [n for n in MESSAGES if n != "PasswordMessage"])
def test_message_instead_of_a_password(t, name):
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert client.message().kind == "R"
        client.send(MESSAGES[name])
        assert sqlstate(client.until_closed()) == "08P01"


def test_startup_packet_in_the_middle_of_a_login(t):
    packet = raw.startup({"user": APP_USER, "database": APP_DATABASE})
    with raw.RawClient(t.port) as client:
        client.send(packet)
        assert client.message().kind == "R"
        client.send(packet)
        assert sqlstate(client.until_closed()) == "08P01"


def test_bytes_behind_ssl_request(t):
    with raw.RawClient(t.port) as client:
        client.send(raw.SSL_REQUEST, raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert client.receive(1) == b"N"
        assert client.message().kind == "R"


@pytest.mark.parametrize("packet", [
    b"", b"\0", b"\0\0\0\0", b"\0\0\0\7\0\3\0", b"\0\0\0\x08\0\3\0\0", b"\0\0\0\x09\0\3\0\0\0",
    b"\xff\xff\xff\xff\0\3\0\0", b"\0\0\x27\x11\0\3\0\0", b"\0\0\0\x08\0\2\0\0", b"\0\0\0\x08\0\4\0\0",
    b"\0\0\0\x0a\0\3\0\0x\0", b"\0\0\0\x0f\0\3\0\0user\0x\0", b"GET / HTTP/1.1\r\n\r\n",
    raw.startup({"user": "", "database": "shop"}), raw.startup({"database": "shop"}),
    b"\0\0\0\x0c\x04\xd2\x16\x2e\0\0\0\1", b"\0\0\0\x09\x04\xd2\x16\x2f\0"])
def test_garbage_at_startup(t, packet):
    with raw.RawClient(t.port) as client:
        client.send(packet)
        client.sock.shutdown(1)
        assert raw.kinds(client.until_closed()) in ("", "E")
    with log_in(t) as client:
        assert client.rows("SELECT 1") == [("1",)]


def test_truncated_startup_packets(t):
    packet = raw.startup({"user": APP_USER, "database": APP_DATABASE})
    for size in range(len(packet)):
        with raw.RawClient(t.port) as client:
            client.send(packet[:size])
            client.sock.shutdown(1)
            assert client.until_closed() == []
    with log_in(t, secret=APP_PASSWORD) as client:
        assert client.rows("SELECT 1") == [("1",)]


def test_i3_what_was_asked_before_terminate_is_run_to_its_end(primary, turnstile):
    """Fire and forget: a request, Terminate, and nobody waits for the answer."""
    primary.sql("CREATE TABLE IF NOT EXISTS forgotten (n int)", dbname=APP_DATABASE)
    primary.sql("GRANT ALL ON forgotten TO PUBLIC", dbname=APP_DATABASE)
    t = turnstile(shop(primary))
    client = log_in(t)
    client.send(raw.query("INSERT INTO forgotten SELECT 1 FROM pg_sleep(0.3)") + raw.terminate())
    client.close()
    wait_until(lambda: primary.value("SELECT count(*) FROM forgotten", dbname=APP_DATABASE) == 1)
