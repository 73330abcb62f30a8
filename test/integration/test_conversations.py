# SPDX-License-Identifier: ISC
#
# test_conversations.py - whole conversations: cut at every byte, and made up at random.
#
# What is right is not written down here: it is what a direct connection says.
"""I2 and I3 as properties: the same requests have the same answers, whatever else goes on."""
import contextlib
import os
import random
import struct
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import clients, essence, log_in, shop, sqlstate

p, b, d, e, SYNC = raw.parse, raw.bind, raw.describe, raw.execute, raw.sync()

# --- cut at every byte ---------------------------------------------------------------------------
CONVERSATIONS = {
    "simple": raw.query("SELECT 1, 'two'; SELECT 3") + raw.query("") + raw.query("SELECT 1/0"),
    "batch": p("", "SELECT $1::int + 1") + d("S") + b("", "", [41]) + d("P") + e() + SYNC,
    "prepared": p("s", "SELECT $1::text") + SYNC + d("S", "s") + b("", "s", ["x"]) + e() + SYNC,
    "closed": p("", "SELECT 1") + b("q") + raw.close("P", "q") + d("P", "q") + SYNC,
    "error in a pipeline": p("", "SELECT 1/0") + b() + e() + p("", "SELECT 2") + b() + e() + SYNC
    + p("", "SELECT 3") + b() + e() + SYNC,
    "suspended": p("", "SELECT generate_series(1, 3)") + b() + e("", 2) + e("", 2) + SYNC,
    "COPY in": raw.query("COPY cuts FROM STDIN") + raw.copy_data(b"1\n") + raw.copy_data(b"2\n")
    + raw.copy_done(),
    "COPY in a batch": p("", "COPY cuts FROM STDIN") + b() + e() + SYNC + raw.copy_data(b"1\n")
    + raw.copy_done() + SYNC,
    "COPY that fails": raw.query("COPY cuts FROM STDIN") + raw.copy_data(b"x\n") + raw.copy_done(),
    "COPY out": raw.query("COPY (SELECT generate_series(1, 3)) TO STDOUT"),
    "function call": raw.message("F", struct.pack("!ihhhi", 1397, 1, 1, 1, 4),
                                 struct.pack("!ih", -2, 1)),
    "transaction": raw.query("BEGIN") + raw.query("SELECT 1/0") + raw.query("COMMIT"),
    "notices": raw.query("DO $$ BEGIN RAISE NOTICE 'a'; RAISE WARNING 'b'; END $$"),
    "long row": raw.query("SELECT repeat('x', 300)"),
}


# Those that change the session: behind them the server is asked what they have left on it.
CHANGING = {
    "settings": raw.query("SET work_mem = '1MB'") + raw.query("BEGIN; SET LOCAL work_mem = '2MB'")
    + p("", "SET lock_timeout = 5000") + b() + e() + SYNC + raw.query("SHOW work_mem")
    + raw.query("COMMIT") + raw.query("SHOW work_mem; SHOW lock_timeout") + raw.query("RESET ALL")
    + raw.query("SHOW work_mem"),
    "PREPARE": raw.query("PREPARE one AS SELECT $1::int") + raw.query("EXECUTE one (7)")
    + p("two", "SELECT 8") + SYNC + raw.query("EXECUTE two") + raw.query("DEALLOCATE two")
    + raw.query("DEALLOCATE one") + b("", "two") + SYNC,
    "LISTEN": raw.query("LISTEN cut") + raw.query("BEGIN; LISTEN other; ROLLBACK")
    + p("", "NOTIFY nobody") + b() + e() + SYNC + raw.query("SELECT pg_listening_channels()")
    + raw.query("UNLISTEN *"),
    "temporary table": raw.query("CREATE TEMP TABLE mine AS SELECT 1 AS v")
    + p("", "SELECT v FROM mine") + b() + e() + SYNC + raw.query("DROP TABLE mine"),
    "lock": raw.query("SELECT pg_advisory_lock(771)") + raw.query("SELECT 1")
    + raw.query("SELECT pg_advisory_unlock(771)"),
    "BEGIN alone": raw.query("BEGIN") + raw.query("COMMIT") + raw.query("BEGIN")
    + p("", "SELECT 1") + b() + e() + SYNC + raw.query("ROLLBACK") + raw.query("ROLLBACK"),
    "startup settings": raw.query("DISCARD ALL") + raw.query("SHOW work_mem") + raw.query("RESET ALL")
    + raw.query("SHOW work_mem"),
}


def count_ready(request):
    """How many ReadyForQuery a request is answered with: all but Syncs within a COPY."""
    ready, data, at = 0, request.rfind(b"d\0\0\0"), 0
    while at < len(request):
        kind, size = request[at:at + 1], struct.unpack_from("!i", request, at + 1)[0]
        ready += kind in b"QSF" and not (kind == b"S" and at < data)
        at += size + 1
    return ready


def answer(client, count):
    return [m for _ in range(count) for m in client.until("Z")]


@pytest.fixture
def scene(primary, turnstile):
    """A pooler with one worker that lets everybody in, and a client of it to wait with."""
    primary.sql("CREATE TABLE IF NOT EXISTS cuts (n int); GRANT ALL ON cuts TO PUBLIC",
                dbname=APP_DATABASE)

    def start(server, **settings):
        t = turnstile(shop(server, {"auth_type": "any", "workers": 1, **settings},
                           {"user": APP_USER, "password": APP_PASSWORD}))
        pinger = stack.enter_context(raw.RawClient(t.port))
        pinger.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        return t, pinger

    with contextlib.ExitStack() as stack:
        yield start


def ping(pinger):
    """A round trip on another connection of the worker: it has read what was sent before."""
    pinger.send(SYNC)
    pinger.until("Z")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONVERSATIONS, *CHANGING])
def test_i3_request_cut_at_every_byte(primary, scene, name):
    t, pinger = scene(primary)
    pinger.until("Z")
    request = {**CONVERSATIONS, **CHANGING}[name]
    startup = {"options": "-c work_mem=5MB"} if name == "startup settings" else {}
    count = count_ready(request)
    with log_in(primary, **startup) as direct:
        direct.send(request)
        expected = essence(answer(direct, count))
    for cut in range(1, len(request)):
        with log_in(t, **startup) as client:
            client.send(request[:cut])
            ping(pinger)
            client.send(request[cut:])
            assert essence(answer(client, count)) == expected, cut


@pytest.mark.slow
def test_i3_startup_cut_at_every_byte(primary, scene):
    t, pinger = scene(primary)
    pinger.until("Z")
    request = raw.SSL_REQUEST + raw.startup({"user": APP_USER, "database": APP_DATABASE,
                                             "options": "-c work_mem=1MB"})
    for cut in range(1, len(request)):
        with raw.RawClient(t.port) as client:
            client.send(request[:cut])
            ping(pinger)
            client.send(request[cut:])
            assert client.receive(1) == b"N"
            assert client.until("Z", "E")[-1].kind == "Z"
            assert client.rows("SHOW work_mem") == [("1MB",)], cut


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_i3_answer_cut_at_every_byte(primary, scene, name):
    request = CONVERSATIONS[name]
    count = count_ready(request)
    with log_in(primary) as direct:
        direct.send(request)
        canned = b"".join(m.raw for m in answer(direct, count))
    cuts = iter(range(1, len(canned)))
    lock = threading.Lock()

    def script(session):
        """One conversation, then the end, so that each finds the server as it was recorded."""
        seen = b""
        try:
            while count_ready(seen) < count:
                seen += session.message().raw
        except EOFError:
            return
        with lock:
            cut = next(cuts)
        session.send(canned[:cut])
        ping(pinger)
        session.send(canned[cut:])

    with raw.FakeServer(script) as server:
        # In transaction mode, what one client has prepared is not asked of the server again.
        # What is answered without a server would not be asked either.
        t, pinger = scene(server, pool_mode="session" if name == "prepared" else "transaction",
                          answer_locally=0)
        pinger.until("Z")
        for cut in range(1, len(canned)):
            with log_in(t) as client:
                client.send(request)
                got = b"".join(m.raw for m in answer(client, count))
                assert got == canned, cut
            t.admin("RECONNECT")


# --- made up at random ---------------------------------------------------------------------------
# A pool of two and somebody else who is busy.  PGT_ROUNDS=1000 makes more of them.
ROUNDS = int(os.environ.get("PGT_ROUNDS", 20))
STEPS = 40

TEXTS = ["SELECT 1", "SELECT $1::text", "SELECT generate_series(1, 5)", "SELECT 1/0", "SELEC", "",
         "INSERT INTO random_rows VALUES (1), (2)", "SELECT count(*) FROM random_rows",
         "INSERT INTO random_rows VALUES (NULL)", "DELETE FROM random_rows", "SELECT nothing"]
CONTROL = ["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "COMMIT", "ROLLBACK", "SAVEPOINT a",
           "ROLLBACK TO a", "RELEASE a", "BEGIN; SELECT 1; SELECT 1/0", "COMMIT AND CHAIN"]
SIMPLE = ["SELECT 1; SELECT 2", "DO $$ BEGIN RAISE NOTICE 'n'; END $$", "SET LOCAL work_mem = '1MB'",
          "SHOW work_mem", "DECLARE c CURSOR FOR SELECT generate_series(1, 9)", "FETCH 2 FROM c",
          "COPY (SELECT generate_series(1, 3)) TO STDOUT", "DISCARD ALL", "DEALLOCATE ALL"]
PINNING = ["SET TimeZone = 'Asia/Tokyo'", "RESET TimeZone", "CREATE TEMP TABLE mine (n int)",
           "SELECT count(*) FROM mine", "PREPARE sql_one AS SELECT 1", "EXECUTE sql_one",
           "SELECT pg_advisory_lock(1), pg_advisory_unlock(1)"]


def extended_message(rng, failed):
    """One message of a batch.

    failed: in a failed transaction, where a statement that its server has not seen yet cannot be
    brought there to be described, and where PostgreSQL 15 may crash over an old portal.
    """
    name, portal = rng.choice(["", "", "a", "b"]), rng.choice(["", "", "", "q"])
    return rng.choice([
        lambda: p(name, rng.choice(TEXTS + CONTROL[:4])),
        lambda: p(name, rng.choice(TEXTS)) + b(portal, name, rng.choice([[], [], ["x"]])) + e(portal),
        lambda: b(portal, name, rng.choice([[], [], ["x"]])) + e(portal, rng.choice([0, 0, 2])),
        lambda: b(portal, name),
        lambda: d("P", portal) if failed else d("S", name),
        lambda: d("P", portal),
        lambda: d("P", portal) if failed else e(portal, rng.choice([0, 1, 2])),
        lambda: raw.close("S", name),
        lambda: raw.close("P", portal),
        raw.flush,
    ])()


def step(rng, pinning, failed=False):
    """A request that is answered with one ReadyForQuery."""
    kind = rng.random()
    if kind < 0.45:
        return b"".join(extended_message(rng, failed) for _ in range(rng.randint(1, 5))) + SYNC
    if kind < 0.50:
        rows = rng.choice([b"1\n2\n", b"x\n", b""])
        end = rng.choice([raw.copy_done(), raw.copy_done(), raw.copy_fail("no")])
        return raw.query("COPY random_rows FROM STDIN") + raw.copy_data(rows) + end
    return raw.query(rng.choice(rng.choice([TEXTS, CONTROL, SIMPLE, PINNING if pinning else CONTROL])))


@contextlib.contextmanager
def noise(pooler, seed):
    """Somebody else who does things at random, and leaves in the middle of them."""
    stop, failures = threading.Event(), []

    def run():
        rng = random.Random(seed)
        while not stop.is_set():
            with log_in(pooler) as client:
                for _ in range(rng.randint(1, 30)):
                    client.send(step(rng, True).replace(b"random_rows", b"others_rows"))
                    if rng.random() < 0.05:
                        break
                    client.until("Z")

    def guarded():
        try:
            run()
        except BaseException as failure:  # whatever it is, the test has to hear of it
            failures.append(failure)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not failures, failures


@pytest.fixture
def twins(primary, turnstile):
    """A server for direct connections and a pooler; a database of the same tables for each."""
    if not primary.value("SELECT count(*) FROM pg_database WHERE datname = 'twin'"):
        primary.sql(f"CREATE DATABASE twin OWNER {APP_USER}")
    for dbname in "twin", APP_DATABASE:
        for table in "random_rows", "others_rows":
            primary.sql(f"DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (n int NOT NULL);"
                        f" GRANT ALL ON {table} TO PUBLIC", dbname=dbname)
    return turnstile(shop(primary, {"max_prepared_statements": 3}))


def known_differences(messages):
    """essence(); in a failed transaction that is what is wrong with a Bind or Parse, whatever else is."""
    failed = messages[-1].body == b"E"
    for kind, body in (result := essence(messages)):
        if failed and kind == "E" and body["C"] in ("08P01", "42P05"):
            body["C"] = "25P02"
    return result


def play(primary, pooler, seed, pinning):
    rng = random.Random(seed)
    sent, failed = [], False
    with log_in(primary, dbname="twin") as direct, log_in(pooler) as through:
        for _ in range(STEPS):
            request = step(rng, pinning, failed)
            sent.append(request)
            direct.send(request)
            through.send(request)
            expected, got = known_differences(direct.until("Z")), \
                known_differences(through.until("Z"))
            assert got == expected, f"seed {seed}, step {len(sent)}: {sent[-4:]}"
            failed = got[-1][1] == b"E"
    for dbname in "twin", APP_DATABASE:
        primary.sql("TRUNCATE random_rows", dbname=dbname)


@pytest.mark.slow
@pytest.mark.tsan
@pytest.mark.parametrize("pinning", [False, True], ids=["carried", "pinned"])
def test_i3_random_sessions_are_answered_as_by_the_server(primary, twins, pinning):
    for seed in range(ROUNDS):
        play(primary, twins, seed, pinning)


@pytest.mark.slow
@pytest.mark.tsan
def test_i2_random_sessions_with_somebody_else_about(primary, twins):
    """The other one writes elsewhere, but uses the same names and the same servers."""
    with noise(twins, "noise"):
        for seed in range(1000, 1000 + ROUNDS):
            play(primary, twins, seed, False)
    with clients(twins, 2) as pair:
        for client in pair:
            client.query("BEGIN")
        for client in pair:
            assert client.rows("SELECT name FROM pg_cursors") == []
            assert client.rows("SELECT to_regclass('mine'), current_setting('TimeZone') ="
                               " (SELECT reset_val FROM pg_settings WHERE name = 'TimeZone')") \
                == [(None, "t")]
            assert sqlstate(client.query("ROLLBACK")) is None
