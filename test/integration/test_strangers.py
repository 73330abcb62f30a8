# SPDX-License-Identifier: ISC
#
# test_strangers.py - what one who is not let in can do to us and to those who are; and that each
# row of docs/security-checklist.md has tests.
"""Long names, floods, timing: a stranger costs little, learns little and hurts nobody."""
import contextlib
import re
import struct
import threading
import time

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from named import missing_tests, named_tests
from rig import log_in, shop, sqlstate
from tenancy import enter, make_ledger, tenants
from turnstile import TOP, merge
from waiting import wait_until

CHECKLIST = TOP / "docs/security-checklist.md"


# --- the list -------------------------------------------------------------------------------------
def test_every_row_of_the_checklist_has_tests_that_exist():
    text = CHECKLIST.read_text()
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", text, re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 21))
    for number, row in rows:
        assert named_tests(row), f"row {number} has no test"
        assert not missing_tests(CHECKLIST, row), f"row {number}"


# --- long names -----------------------------------------------------------------------------------
LONG = "n" * 9_000


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "plain", "any"])
@pytest.mark.parametrize("names", [
    {"user": LONG}, {"database": LONG}, {"user": LONG[:4000], "database": LONG[:4000]},
    {"application_name": LONG}, {LONG: "x"}, {"options": f"-c search_path={LONG}"},
    {"options": f"-c {LONG}=x"}, {"options": "-c " * 3000}, {"options": "\\" * 8999},
    {f"p{i}": "" for i in range(1000)}, {"replication": LONG}, {"client_encoding": LONG}],
    ids=lambda names: "+".join(f"{k[:12]}" for k in list(names)[:2]))
def test_names_that_fill_a_packet_stop_nobody(primary, turnstile, auth_type, names):
    """PgBouncer's CVE-2012-4575: a long name from the network ended the process."""
    config = shop(primary, {"auth_type": auth_type, "query_wait_timeout": "2s"})
    t = turnstile(merge(config, {"databases": {"*": {"host": primary.host, "port": primary.port}}}))
    with log_in(t) as client:
        with raw.RawClient(t.port) as stranger:
            stranger.send(raw.startup({"user": APP_USER, "database": APP_DATABASE, **names}))
            with contextlib.suppress(EOFError, ConnectionError):
                stranger.message()
        assert client.rows("SELECT 2") == [("2",)]
    assert t.is_running()
    for table in "CLIENTS", "POOLS", "DATABASES", "STATS", "SOCKETS":
        t.admin(f"SHOW {table}")


# --- in one segment with a proof that is wrong ----------------------------------------------------
def test_nothing_behind_a_wrong_proof_is_run(turnstile):
    queries = []

    def script(session):
        while (got := session.message()).kind != "X":
            queries.append(got)
            session.send(raw.command_complete("SELECT 0"), raw.ready())

    with raw.FakeServer(script) as server:
        t = turnstile(shop(server, {"auth_type": "plain"}))
        for proof in raw.password("wrong"), b"", raw.sync(), raw.password(APP_PASSWORD)[:-1] + b"x":
            with raw.RawClient(t.port) as client:
                client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}), proof,
                            raw.query("DELETE"), raw.parse("", "DELETE"), raw.bind(), raw.execute(),
                            raw.sync())
                assert client.until_closed()[-1].fields["C"] in ("28P01", "08P01")
        with log_in(t) as client:
            client.query("SELECT 2")
        assert [got.text for got in queries] == ["SELECT 2"]


# --- time -----------------------------------------------------------------------------------------
def time_of(t, user):
    """Seconds from the startup packet to the refusal of a wrong proof."""
    scram = raw.Scram("wrong")
    with raw.RawClient(t.port) as client:
        began = time.perf_counter()
        client.send(raw.startup({"user": user, "database": APP_DATABASE}))
        client.message()
        hello = scram.client_first().encode()
        client.send(raw.message("p", "SCRAM-SHA-256", struct.pack("!i", len(hello)) + hello))
        said = client.message().body[4:].decode()
        spent = time.perf_counter() - began
        final = scram.client_final(said).encode()  # costs us as much, and is not the pooler's time
        began = time.perf_counter()
        client.send(raw.message("p", final))
        client.until_closed()
        return spent + time.perf_counter() - began


def test_time_does_not_tell_who_is_known(primary, turnstile):
    """With a stored secret: whose secret is nowhere costs the same work, the first time too."""
    secret = primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [APP_USER])
    t = turnstile(shop(primary, {"scram_iterations": 100_000}), {APP_USER: secret})
    times = {user: [] for user in (APP_USER, "ppa", "nobody at all")}
    for _ in range(15):
        for user, spent in times.items():
            spent.append(time_of(t, user))
    # An iteration count of 100,000 takes tens of milliseconds, which would stand out here.
    assert max(spent[0] for spent in times.values()) < 0.5
    best = [min(spent) for spent in times.values()]
    assert max(best) < 3 * min(best), times


def time_of_a_password(t, user):
    """Seconds that a wrong one, sent as it is, takes to be refused."""
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": user, "database": APP_DATABASE}))
        assert client.message().body == struct.pack("!i", 3)
        began = time.perf_counter()
        client.send(raw.password("wrong"))
        client.until_closed()
        return time.perf_counter() - began


def test_time_does_not_tell_whose_password_is_given(primary, turnstile):
    """Where most secrets are of many iterations, nobody's is."""
    secret = f"SCRAM-SHA-256$50000:{'A' * 22}==${'A' * 43}=:{'A' * 43}="
    crowd = {user: secret for user in (APP_USER, *(f"crowd_{n}" for n in range(9)))}
    t = turnstile(shop(primary, {"auth_type": "plain"}), crowd)
    times = {user: [] for user in (APP_USER, "nobody at all")}
    for _ in range(7):
        for user, spent in times.items():
            spent.append(time_of_a_password(t, user))
    best = [min(spent) for spent in times.values()]
    assert max(best) < 3 * min(best), times


# --- cancel requests ------------------------------------------------------------------------------
def ask_to_cancel(t, pid, key):
    with raw.RawClient(t.port) as asker:
        asker.send(raw.cancel_request(pid, key))
        asker.until_closed()


def test_i7_cancels_with_wrong_keys_reach_no_server(turnstile):
    """Nor do right ones of a session that asks nothing."""
    with raw.FakeServer() as server:
        t = turnstile(shop(server))
        with log_in(t) as client:
            client.rows("SELECT 2")
            for number in range(200):
                ask_to_cancel(t, client.pid, struct.pack("!i", number))
                ask_to_cancel(t, client.pid, client.key)
            assert client.rows("still") == [("still",)]
        assert server.cancels == []


def test_a_flood_of_cancels_is_one_at_a_time(turnstile):
    """Each is a connection to the server, and to us."""
    began, over = threading.Event(), threading.Event()
    lock, at_once = threading.Lock(), []

    def script(session):
        session.message()
        began.set()
        over.wait(30)
        session.send(raw.error("57014", "canceling statement due to user request"), raw.ready())
        session.until_closed()

    def take_time():
        with lock:
            at_once.append(at_once[-1] + 1 if at_once else 1)
        time.sleep(0.2)  # the server's slowness
        with lock:
            at_once.append(at_once[-1] - 1)

    with raw.FakeServer(script, on_cancel=take_time) as server:
        t = turnstile(shop(server))
        with log_in(t) as client:
            client.send(raw.query("SELECT 2"))
            assert began.wait(10)
            askers = [threading.Thread(target=ask_to_cancel, args=(t, client.pid, client.key))
                      for _ in range(100)]
            for asker in askers:
                asker.start()
            for asker in askers:
                asker.join()
            over.set()
            assert client.until("Z")[0].fields["C"] == "57014"
            assert server.cancels and max(at_once) == 1


# --- connections that do not log in -----------------------------------------------------------------
@pytest.mark.slow
def test_those_who_have_not_logged_in_are_bounded(primary, turnstile):
    """They take no place of one who has; a bound of their own keeps descriptors for servers."""
    t = turnstile(shop(primary, {"max_client_conn": 100, "default_pool_size": 1}))
    with log_in(t) as client, contextlib.ExitStack() as crowd:
        silent = [crowd.enter_context(raw.RawClient(t.port)) for _ in range(300)]
        for stranger in silent:
            stranger.send(b"\0")  # the kernel hands over no connection that says nothing at all
        wait_until(lambda: logins(t) == 256)
        assert client.rows("SELECT 2") == [("2",)]
        assert [is_refused(s) for s in silent].count(True) == 300 - 256
        with pytest.raises(raw.LoginRefused, match="53300"):
            log_in(t)
        # An operator gets in.
        with psycopg.connect(host=str(t.dir), port=t.port, user="pgturnstile", dbname="pgturnstile",
                             autocommit=True) as console:
            assert console.execute("SHOW LISTS").fetchall()
    wait_until(lambda: t.is_running() and logins(t) == 0)
    with log_in(t) as client:
        assert client.rows("SELECT 2") == [("2",)]


def logins(t):
    """Connections that have not logged in; asked over the Unix socket."""
    with psycopg.connect(host=str(t.dir), port=t.port, user="pgturnstile", dbname="pgturnstile",
                         autocommit=True) as console:
        return dict(console.execute("SHOW LISTS").fetchall())["login_clients"]


def is_refused(stream):
    """Whether it has been told so; those who are waited for hear nothing."""
    stream.sock.settimeout(0.01)
    try:
        return stream.message().fields["C"] == "53300"
    except TimeoutError:
        return False


# --- pools and reloads ----------------------------------------------------------------------------
def told(name):
    """A script: each row says the server's name, and as whom it was logged in to.

    `in` begins a transaction.
    """
    def script(session):
        while (got := session.message()).kind != "X":
            session.send(raw.row_description("text"), raw.data_row(name, session.parameters["user"]),
                         raw.command_complete("SELECT 1"), raw.ready("T" if got.text == "in" else "I"))
    return script


def test_i1_a_pool_is_of_the_server_that_it_was_made_for(turnstile):
    """Databases change their servers under clients: what begins later is asked of the new one."""
    with raw.FakeServer(told("left")) as left, raw.FakeServer(told("right")) as right:
        def databases(one, other):
            return {"databases": {"one": {"host": one.host, "port": one.port},
                                  "other": {"host": other.host, "port": other.port}}}

        t = turnstile(merge(merge(shop(left), {"databases": {APP_DATABASE: None}}),
                            databases(left, right)))
        now, names = [left, right], ["left", "right"]
        for _ in range(10):
            with log_in(t, dbname="one") as one, log_in(t, dbname="other") as other, \
                    log_in(t, dbname="one") as busy:
                assert [c.rows("SELECT 2")[0][0] for c in (one, other)] == names
                assert busy.rows("in")[0][0] == names[0]
                now.reverse()
                names.reverse()
                t.reload(databases(*now))
                assert busy.rows("SELECT 2")[0][0] == names[1]  # its transaction ends where it began
                for client in one, other, busy:
                    assert raw.kinds(client.until_closed()) == "E"


@pytest.mark.parametrize("users", [({"user": "owner"}, {}), ({}, {"user": "owner"}),
                                   ({"user": "owner"}, {"user": "another"})], ids=str)
def test_i1_a_pool_is_of_the_user_that_it_was_made_for(turnstile, users):
    """A reload changes as whom a database is used: nobody goes on as the one of before."""
    with raw.FakeServer(told("left")) as server:
        t = turnstile(shop(server, database=users[0]))
        with log_in(t) as client:
            assert client.rows("SELECT 2") == [("left", users[0].get("user", APP_USER))]
            t.reload({"databases": {APP_DATABASE: {"host": server.host, "port": server.port,
                                                   **users[1]}}})
            client.send(raw.query("SELECT 2"))
            answer = client.until_closed()
            assert [m.row for m in raw.find(answer, "D")] in (
                [], [("left", users[1].get("user", APP_USER))])
        with log_in(t) as client:
            assert client.rows("SELECT 2") == [("left", users[1].get("user", APP_USER))]


# --- our own questions under names of the session's -----------------------------------------------
SHADOW = """
DROP SCHEMA IF EXISTS shadow CASCADE; CREATE SCHEMA shadow; CREATE TABLE shadow.told (what text);
GRANT ALL ON SCHEMA shadow TO PUBLIC; GRANT ALL ON shadow.told TO PUBLIC;
CREATE FUNCTION shadow.tell(text, text) RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO shadow.told VALUES ($1); RETURN true; END $$
"""
FUNCTIONS = """
SELECT proname, array_to_string(ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) t), ', '),
       CASE WHEN proretset THEN 'SETOF ' ELSE '' END || format_type(prorettype, NULL)
  FROM pg_proc WHERE proname = ANY(%s) AND prokind = 'f' AND NOT provariadic > 0
   AND pronamespace = 'pg_catalog'::regnamespace AND proallargtypes IS NULL
   AND NOT EXISTS (SELECT FROM pg_type t WHERE typtype = 'p' AND t.oid = ANY(proargtypes || prorettype))
"""
RELATIONS = """
SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relkind IN ('r', 'v') AND relname <> 'pg_attribute'
   AND relnamespace = 'pg_catalog'::regnamespace
"""


@pytest.fixture
def shadow(primary):
    """A schema with a double of all that our own statements ask for; who asks it, is in `told`."""
    words = {word for file in (TOP / "src").rglob("*.[ch]")
             for word in re.findall(r"\w+", file.read_text())}
    with primary.connect(APP_DATABASE) as connection:
        connection.execute(SHADOW)
        functions = connection.execute(FUNCTIONS, [sorted(words)]).fetchall()
        for name, arguments, result in functions:
            connection.execute(
                f'CREATE FUNCTION shadow."{name}"({arguments}) RETURNS {result} LANGUAGE plpgsql'
                f" AS $$ BEGIN PERFORM shadow.tell('{name}', ''); RETURN"
                f"{'' if result.startswith('SETOF') else ' NULL'}; END $$")
        relations = connection.execute(RELATIONS, [sorted(words)]).fetchall()
        for name, in relations:
            connection.execute(f"CREATE VIEW shadow.{name} AS SELECT * FROM pg_catalog.{name}"
                               f" WHERE shadow.tell('{name}', '')")
            connection.execute(f"GRANT SELECT ON shadow.{name} TO PUBLIC")
        for operator in ("=", "<>", "<", ">", "~"):
            connection.execute(f"CREATE OPERATOR shadow.{operator} (LEFTARG = text, RIGHTARG = text,"
                               " FUNCTION = shadow.tell)")
    assert len(functions) > 20 and len(relations) > 8
    yield
    primary.sql("DROP SCHEMA shadow CASCADE", dbname=APP_DATABASE)


WALKS = [
    ["SET work_mem = '3MB'", "SELECT 2", "RESET work_mem", "SET ROLE app", "RESET ROLE", "RESET ALL"],
    ["CREATE TEMP TABLE shadow_pin ()", "SELECT 2", "DROP TABLE shadow_pin", "DISCARD ALL"],
    ["DO $$ BEGIN PERFORM 2; END $$", "SELECT 2", "SET statement_timeout = '3s'", "SELECT 2"],
    ["PREPARE s AS SELECT 2", "EXECUTE s", "SELECT name FROM pg_catalog.pg_prepared_statements",
     "DEALLOCATE ALL"],
    ["LISTEN shadow", "NOTIFY shadow", "SELECT pg_catalog.pg_listening_channels()", "UNLISTEN *"],
    ["BEGIN", "DECLARE c CURSOR WITH HOLD FOR SELECT 2", "COMMIT", "FETCH c", "CLOSE c"],
    ["SELECT pg_catalog.pg_advisory_lock_shared(7)", "SELECT 2", "SELECT pg_catalog.pg_advisory_unlock_shared(7)"],
    ["BEGIN", "INSERT INTO ledger_shadow (business_id) VALUES ('42')", "COMMIT"],
]


@pytest.mark.parametrize("way", ["plain", "dedicated", "shared"])
def test_our_own_questions_are_not_asked_of_names_of_the_session(shadow, primary, turnstile, way):
    """PgBouncer's CVE-2025-12819: search_path is the client's, what we ask is not."""
    path = {"options": "-c search_path=shadow,public,pg_catalog"}
    make_ledger(primary, table="ledger_shadow")
    if way == "plain":
        t = turnstile(shop(primary))
        enter_as = [lambda: log_in(t, **path)] * 2
    else:
        t = turnstile(tenants(primary, {"tenant_pool": way},
                              {"basic": {"statement_timeout": "5s", "weight": 1}}))
        enter_as = [lambda: enter(t, "acme", **path), lambda: enter(t, "globex", **path)]
    for walk in WALKS:
        with enter_as[0]() as one, enter_as[1]() as other:
            for text in walk:
                for client in one, other:
                    answer = client.query(text)
                    assert sqlstate(answer) in (None, "42501"), (text, answer)
            one.query("SELECT 2")
    told = primary.sql("SELECT DISTINCT what FROM shadow.told", dbname=APP_DATABASE)
    assert told == []
    # And they would have told.
    with enter_as[0]() as client:
        client.query("SELECT current_setting('work_mem')")
    assert primary.sql("SELECT what FROM shadow.told", dbname=APP_DATABASE) == [("current_setting",)]
