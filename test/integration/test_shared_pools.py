# SPDX-License-Identifier: ISC
#
# test_shared_pools.py - many tenants on the same few server connections (tenant_pool = shared).
#
# What holds for tenants whosever pools they use is in test_tenants.py and test_timeouts.py, which
# run both ways.
import contextlib
import resource
import threading

import psycopg
import pytest
from psycopg.rows import dict_row

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import pool_of
from tenancy import ROWS_EACH, SETTING, TENANTS, enter, errors, make_ledger, show, tenants
from turnstile import ADMIN_USER
from waiting import wait_until

CURRENT = f"SELECT current_setting('{SETTING}')"
PID = "SELECT pg_backend_pid()"
OWN = "SELECT DISTINCT business_id FROM ledger"

GLOBEX_IS_FAST = {"tenants": {"globex": {"tier": "fast", "business_id": TENANTS["globex"]}}}


@pytest.fixture(scope="module")
def ledger(primary):
    make_ledger(primary)
    return primary


def shared(server, settings=None, **kwargs):
    """All tenants on one server connection, unless told otherwise."""
    return tenants(server, {"tenant_pool": "shared", "default_pool_size": 1,
                            "backend_pid": "server", **(settings or {})}, **kwargs)


@contextlib.contextmanager
def clients(pooler, *names, **kwargs):
    """A raw client of each tenant."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(enter(pooler, name, **kwargs)) for name in names]


def test_i1_tenants_take_turns_on_one_server(ledger, turnstile):
    with clients(turnstile(shared(ledger)), *TENANTS) as sessions:
        pids = set()
        for _ in range(3):
            for client, business_id in zip(sessions, TENANTS.values()):
                assert client.rows(CURRENT) == [(business_id,)]
                assert client.rows(OWN) == [(business_id,)]
                pids.add(client.rows(PID)[0][0])
        assert len(pids) == 1


def prepared(client, text):
    """The rows of a text by Parse, Bind, Execute and Sync in one write."""
    return [message.row for message in raw.find(client.prepared(text), "D")]


@pytest.mark.parametrize("ask", [raw.RawClient.rows, prepared])
def test_i1_every_statement_of_a_transaction_is_the_tenants(ledger, turnstile, ask):
    with clients(turnstile(shared(ledger)), "acme", "globex") as (acme, globex):
        for client, business_id in ((acme, "42"), (globex, "7"), (acme, "42")):
            client.query("BEGIN")
            for _ in range(2):
                assert ask(client, OWN) == [(business_id,)]
            client.query("ROLLBACK")
            assert ask(client, CURRENT) == [(business_id,)]


def test_i1_pipelined_requests(ledger, turnstile):
    with clients(turnstile(shared(ledger)), "acme", "globex") as (acme, globex):
        globex.rows(CURRENT)
        batch = [raw.parse("", OWN), raw.bind(), raw.execute(), raw.sync()]
        acme.send(*batch, raw.query("SELECT 1/0"), *batch, raw.query(CURRENT))
        answers = [acme.until("Z") for _ in range(4)]
        assert [errors(answer) for answer in answers] == [[], ["22012"], [], []]
        assert [m.row for answer in answers for m in raw.find(answer, "D")] == [("42",)] * 3


@pytest.mark.parametrize("text", ["VACUUM", "CREATE DATABASE scratch_shared", "SELECT 1/0",
                                  "DROP DATABASE IF EXISTS scratch_shared"])
def test_statements_that_stand_alone_or_fail(ledger, turnstile, text):
    """The context has been committed before them, and none of them undoes it."""
    ledger.sql(f"ALTER ROLE {APP_USER} CREATEDB")
    with clients(turnstile(shared(ledger)), "acme", "globex") as (acme, globex):
        globex.rows(CURRENT)
        assert errors(acme.query(text)) == (["22012"] if text == "SELECT 1/0" else [])
        assert acme.rows(CURRENT) == [("42",)]
        assert globex.rows(CURRENT) == [("7",)]


@pytest.mark.parametrize("text", [
    "RESET ALL", "DISCARD ALL", f"RESET {SETTING}", f"SET {SETTING} TO DEFAULT",
    f"SELECT set_config('{SETTING}', NULL, false)", "RESET SESSION AUTHORIZATION",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$",
    "DO $$ BEGIN EXECUTE 'SET app.current_' || 'business_id = 7'; END $$"])
@pytest.mark.parametrize("block", [False, True])
def test_i1_what_resets_or_forges_is_over_with_its_request(ledger, turnstile, text, block):
    if block and text == "DISCARD ALL":
        pytest.skip("cannot run in a transaction block")
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
    with clients(t, "acme", "globex") as (acme, globex):
        if block:
            acme.query("BEGIN")
        acme.rows(OWN)
        assert errors(acme.query(text)) == []
        assert acme.rows(CURRENT) == [("42",)]
        assert acme.rows(OWN) == [("42",)]
        assert show(acme, "statement_timeout") == "15s"
        if block:
            acme.query("COMMIT")
        assert globex.rows(CURRENT) == [("7",)]
        assert acme.rows(CURRENT) == [("42",)]


@pytest.mark.parametrize("text", ["RESET ALL; SELECT 2", f"RESET {SETTING}; SELECT 2",
                                  "SET statement_timeout TO DEFAULT; SELECT pg_sleep(0)"])
def test_nothing_follows_a_reset_in_its_request(ledger, turnstile, text):
    with enter(turnstile(shared(ledger)), "acme") as acme:
        assert errors(acme.query(text)) == ["42501"]
        assert errors(acme.query("SELECT 2; RESET ALL")) == []  # as asyncpg's pool says it
        acme.send(raw.parse("", "RESET ALL"), raw.bind(), raw.execute(),
                  raw.parse("", OWN), raw.bind(), raw.execute(), raw.sync())
        assert errors(acme.until("Z")) == ["42501"]
        assert acme.rows(OWN) == [("42",)]


# ---- what code leaves is not known ----------------------------------------------------------------

ASK_TWICE = "SELECT current_setting($1), n FROM (VALUES (1), (2)) AS v (n)"


def several(n=3):
    """A batch of which each but the last statement would have to come last, if it might reset anything."""
    return raw.parse("", ASK_TWICE) + n * (raw.bind("", "", [SETTING]) + raw.execute())


def ids_told(messages):
    assert not errors(messages)
    return {m.row[0] for m in raw.find(messages, "D")}


@pytest.fixture
def doubted(ledger, turnstile):
    """A pooler, what puts in doubt what code leaves, for a second, since nobody asks more often, and a client."""
    with ledger.connect(APP_DATABASE) as connection:
        connection.execute(f"GRANT CREATE ON SCHEMA public TO {APP_USER}")
    t = turnstile(shared(ledger, {"default_pool_size": 2}))
    with clients(t, "acme", "globex") as (definer, client):
        def define():
            for _ in range(2):
                assert not errors(definer.query("CREATE OR REPLACE FUNCTION doubted() RETURNS int"
                                                " LANGUAGE sql AS 'SELECT 1'"))

        client.rows(CURRENT)
        yield t, define, client


@pytest.mark.parametrize("block", [False, True])
def test_a_batch_waits_until_it_is_known_what_code_leaves(doubted, block):
    _, define, client = doubted
    if block:
        client.query("BEGIN")
        client.rows(CURRENT)
    for _ in range(2):
        define()
        client.send(several(), raw.sync())
        assert ids_told(client.until("Z")) == {TENANTS["globex"]}


def test_what_is_defined_within_a_batch_makes_its_rest_wait(doubted):
    _, define, client = doubted
    for _ in range(2):
        client.send(several(1), raw.flush())
        client.until("C")
        define()
        client.send(several(2), raw.sync())
        assert ids_told(client.until("Z")) == {TENANTS["globex"]}


def test_a_batch_waits_where_no_server_is_left(doubted):
    t, define, client = doubted
    for _ in range(2):
        define()
        t.admin("RECONNECT")
        client.send(several(), raw.sync())
        assert ids_told(client.until("Z")) == {TENANTS["globex"]}


def test_i1_a_batch_that_has_waited_in_vain_is_refused(ledger, turnstile):
    """Its own transaction has the only server, so that none can be asked."""
    t = turnstile(shared(ledger))
    with enter(t, "acme") as client:
        client.query("BEGIN")
        assert not errors(client.query("CREATE FUNCTION pg_temp.doubted() RETURNS int LANGUAGE sql"
                                       " AS 'SELECT 1'"))
        client.send(several(), raw.sync())
        assert errors(client.until("Z")) == ["42501"]
        client.query("ROLLBACK")
        assert client.rows(CURRENT) == [(TENANTS["acme"],)]


def test_each_has_its_own_ceiling(ledger, turnstile):
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"},
                                        "fast": {"statement_timeout": "3s"}},
                         changes=GLOBEX_IS_FAST))
    with clients(t, "acme", "globex") as (acme, globex):
        for _ in range(2):
            assert show(acme, "statement_timeout") == "15s"
            assert show(globex, "statement_timeout") == "3s"
        acme.query("SET statement_timeout = '5s'")
        globex.query("SET statement_timeout = '2s'")
        for _ in range(2):
            assert show(acme, "statement_timeout") == "5s"
            assert show(globex, "statement_timeout") == "2s"
        acme.query("RESET statement_timeout")
        assert show(acme, "statement_timeout") == "15s"
        assert show(globex, "statement_timeout") == "2s"


SLY = "DO $$ BEGIN EXECUTE 'SET LOCAL statement_' || 'timeout = ''%s'''; END $$"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("own", [None, "5s", "0"])
def test_i1_a_timeout_of_the_transaction_outlives_what_may_reset_it(ledger, turnstile, own, end):
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
    with clients(t, "acme", "globex") as (acme, globex):
        if own:
            acme.query(f"SET statement_timeout = '{own}'")
        before = "5s" if own == "5s" else "15s"
        for _ in range(2):
            acme.query("BEGIN")
            acme.query("SET LOCAL statement_timeout = '2s'")
            for text, after in [("DO $$ BEGIN END $$", "2s"), ("RESET work_mem", "2s"), (SLY % "4s", "4s"),
                                (SLY % "60s", "15s"), (SLY % "0", "15s")]:
                assert errors(acme.query(text)) == []
                assert show(acme, "statement_timeout") == after, text
                assert acme.rows(OWN) == [("42",)]
            acme.query(end)
            assert show(acme, "statement_timeout") == before
            assert show(globex, "statement_timeout") == "15s"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_reset_in_a_transaction_leaves_the_ceiling(ledger, turnstile, end):
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
    with clients(t, "acme", "globex") as (acme, globex):
        for text in ("RESET ALL", "RESET statement_timeout"):
            acme.query("SET statement_timeout = '5s'")
            acme.query("BEGIN")
            assert errors(acme.query(text)) == []
            assert show(acme, "statement_timeout") == "15s"
            acme.query(end)
            assert show(acme, "statement_timeout") == ("15s" if end == "COMMIT" else "5s")
            assert show(globex, "statement_timeout") == "15s"


def test_i1_a_timeout_that_code_has_set_is_within_the_ceiling(ledger, turnstile):
    """It is found by what is asked about something else."""
    ledger.sql("CREATE FUNCTION shared_sly_timeout() RETURNS text LANGUAGE sql AS"
               " $$ SELECT set_config('statement_' || 'timeout', '60s', false) $$", dbname=APP_DATABASE)
    try:
        t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
        with enter(t, "acme") as acme:
            for text in ("BEGIN", "SET work_mem = '5MB'", "SELECT shared_sly_timeout()", "COMMIT"):
                assert errors(acme.query(text)) == []
            assert show(acme, "statement_timeout") == "15s"
            assert show(acme, "work_mem") == "5MB"
    finally:
        ledger.sql("DROP FUNCTION shared_sly_timeout()", dbname=APP_DATABASE)


def test_a_reset_in_a_transaction_goes_back_to_what_the_session_began_with(ledger, turnstile):
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
    with enter(t, "acme", statement_timeout="7s") as acme:
        acme.query("SET statement_timeout = '5s'")
        acme.query("BEGIN"), acme.query("RESET ALL")
        assert show(acme, "statement_timeout") == "7s"
        acme.query("COMMIT")
        assert show(acme, "statement_timeout") == "7s"


def test_the_roles_own_default_is_kept_when_it_is_less(ledger, turnstile):
    ledger.sql(f"ALTER ROLE {APP_USER} SET statement_timeout = '4s'")
    try:
        t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"},
                                            "fast": {"statement_timeout": "3s"}},
                             changes=GLOBEX_IS_FAST))
        with clients(t, "globex", "acme") as (globex, acme):
            for _ in range(2):
                assert show(globex, "statement_timeout") == "3s"
                assert show(acme, "statement_timeout") == "4s"
    finally:
        ledger.sql(f"ALTER ROLE {APP_USER} RESET statement_timeout")


def test_settings_of_sessions_and_tenants_travel_together(ledger, turnstile):
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
    with clients(t, "acme", "globex") as (acme, globex):
        acme.query("SET search_path = acme, public")
        globex.query("SET application_name = 'globex''s'")
        for _ in range(2):
            assert acme.rows("SELECT current_setting('search_path'), current_setting('app.current_"
                             "business_id')") == [("acme, public", "42")]
            assert globex.rows("SELECT current_setting('application_name'), current_setting('app."
                               "current_business_id')") == [("globex's", "7")]


def test_a_server_is_kept_for_its_last_tenant(ledger, turnstile):
    t = turnstile(shared(ledger, {"default_pool_size": 2}))
    with clients(t, "acme", "globex", "initech") as (acme, globex, initech):
        acme.query("BEGIN"), globex.query("BEGIN")
        pids = {c: c.rows(PID) for c in (acme, globex)}
        acme.query("COMMIT"), globex.query("COMMIT")
        for client in (acme, globex, globex, acme, globex, acme):
            assert client.rows(PID) == pids[client]
        # The one whose tenant has been away longest is given up.
        assert initech.rows(PID) == pids[globex]
        assert acme.rows(PID) == pids[acme]
        held = {row["name"]: row["sv_idle"] for row in t.admin("SHOW TENANTS")}
        assert (held["acme"], held["globex"], held["initech"]) == (1, 0, 1)


def test_who_keeps_servers_is_told_by_tenant(ledger, turnstile):
    t = turnstile(shared(ledger, {"default_pool_size": 3}))

    def counts():
        return {(row["tenant"], row["reason"]): (row["now"], row["total"])
                for row in t.admin("SHOW PIN_COUNTS")}

    with clients(t, "acme", "acme", "globex") as (first, second, globex):
        for client in (first, second, globex):
            client.query("CREATE TEMP TABLE kept_by_tenant (id int)")
        # What the last one has left is asked about behind its answer.
        wait_until(lambda: counts() == {("acme", "temp"): (2, 2), ("globex", "temp"): (1, 1)})
        first.query("DROP TABLE kept_by_tenant")
        wait_until(lambda: counts() == {("acme", "temp"): (1, 2), ("globex", "temp"): (1, 1)})


def test_no_id_can_be_read_in_the_texts_of_others(ledger, turnstile):
    """A watcher of the same role polls pg_stat_activity while ids travel."""
    secret = {"spy": "1", **{f"t{i}": f"secret-{i}-id" for i in range(8)}}
    config = shared(ledger, {"default_pool_size": 3})
    config["tenants"] = {name: {"tier": "basic", "business_id": business_id}
                         for name, business_id in secret.items()}
    t = turnstile(config)
    seen, done = [], threading.Event()

    def watch():
        with enter(t, "spy") as spy:
            while not done.is_set():
                seen.extend(row[0] for row in spy.rows(
                    "SELECT query FROM pg_stat_activity WHERE usename = current_user"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with clients(t, *(name for name in secret if name != "spy")) as sessions:
            while len(seen) < 200:
                for client in sessions:
                    client.rows(CURRENT)
                    client.query("DISCARD ALL")
                    client.query("BEGIN"), client.query("RESET ALL"), client.query("COMMIT")
    finally:
        done.set()
        watcher.join()
    assert any("set_config" in text for text in seen)
    assert [text for text in seen if "secret-" in text] == []


# --- tenant_context_check ------------------------------------------------------------------------
def define_slyly(server):
    """A function that sets the tenant's id, made behind our back: its name says nothing yet."""
    server.sql("DROP FUNCTION IF EXISTS sly()", dbname=APP_DATABASE)
    server.sql("CREATE FUNCTION sly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM "
               "set_config('app.current_' || 'business_id', '7', false); RETURN 2; END $$",
               dbname=APP_DATABASE)


def end_by_query(client):
    assert client.rows("SELECT sly()") == [("2",)]


def end_by_batch(client):
    assert raw.find(client.prepared("SELECT sly()"), "D")[0].row == ("2",)


def end_by_named(client):
    for _ in range(2):
        assert raw.find(client.prepared("SELECT sly()", name="s"), "D")[0].row == ("2",)
        client.send(raw.close("S", "s"), raw.sync()), client.until("Z")


def end_by_commit(client):
    client.query("BEGIN"), client.rows("SELECT sly()")
    assert raw.kinds(client.query("COMMIT")) == "CZ"


def end_by_batches(client):
    for text in ("BEGIN", "SELECT sly()", "ROLLBACK AND NO CHAIN", "BEGIN", "SELECT sly()", "COMMIT"):
        assert not errors(client.prepared(text))


def end_by_query_in_a_batch(client):
    client.send(raw.parse("", "SELECT sly()"), raw.bind(), raw.execute(), raw.query("SELECT 3"))
    assert [m.row for m in raw.find(client.until("Z"), "D")] == [("2",), ("3",)]


ENDS = [end_by_query_in_a_batch, end_by_query, end_by_batch, end_by_named, end_by_commit, end_by_batches]


@pytest.mark.parametrize("pool", ["shared", "dedicated"])
@pytest.mark.parametrize("end", ENDS)
def test_i1_what_no_text_shows_is_found_when_the_transaction_has_ended(ledger, turnstile, end, pool):
    ledger.sql("DROP FUNCTION IF EXISTS sly()", dbname=APP_DATABASE)
    t = turnstile(shared(ledger, {"tenant_context_check": "on_release", "tenant_pool": pool}))
    with enter(t, "acme") as acme:
        pid = acme.rows(PID)
        define_slyly(ledger)
        end(acme)
        assert acme.rows(CURRENT) == [("42",)]
        assert acme.rows(OWN) == [("42",)]
        assert acme.rows(PID) != pid
    assert t.log_contains("tenant_context_check")


@pytest.mark.parametrize("pool", ["shared", "dedicated"])
def test_a_check_leaves_no_trace(ledger, turnstile, pool):
    t = turnstile(shared(ledger, {"tenant_context_check": "on_release", "tenant_pool": pool}))
    with clients(t, "acme", "globex") as (acme, globex):
        pids = {client: client.rows(PID) for client in (acme, globex)}
        for client, own in ((acme, "42"), (globex, "7"), (acme, "42")):
            assert raw.kinds(client.query("SELECT 2; SELECT 3")) == "TDCTDCZ"
            assert errors(client.query("SELECT 1/0")) == ["22012"]
            for text in ("BEGIN", OWN, "SAVEPOINT a", "ROLLBACK TO a", "COMMIT AND CHAIN",
                         "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "ROLLBACK"):
                assert not errors(client.query(text))
            client.query("CREATE TEMP TABLE mine ()"), client.query("DISCARD ALL")
            client.send(raw.query("COPY (SELECT 1) TO STDOUT")), client.until("Z")
            client.send(raw.parse("", OWN), raw.bind(), raw.execute(), raw.sync(),
                        raw.query(CURRENT), raw.query("SELECT 2"))
            answers = [client.until("Z") for _ in range(3)]
            assert [m.row for a in answers for m in raw.find(a, "D")] == [(own,), (own,), ("2",)]
            assert client.rows(PID) == pids[client]
    assert not t.log_contains("tenant_context_check")


class Checked:
    """A server that says what ends a transaction only when it has been asked for the id as well."""

    def __init__(self, turnstile, **settings):
        self.server = raw.FakeServer(self._script, login="scram", secret=APP_PASSWORD)
        self.pooler = turnstile(shared(self.server, {"tenant_context_check": "on_release",
                                                     "server_reset_query": "", **settings}))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return self.server.__exit__(*failure)

    def _script(self, session):
        names, bound, tx, held, is_checked = {}, "", "I", [], True
        with contextlib.suppress(EOFError):
            while (message := session.message()).kind != "X":
                if message.kind == "P":
                    names[message.strings[0]] = message.strings[1]
                    held.append(raw.parse_complete())
                elif message.kind == "B":
                    bound = names[message.strings[1]]
                    held.append(raw.bind_complete())
                elif message.kind == "C":
                    held.append(raw.close_complete())
                elif message.kind in "EQ":
                    text = bound if message.kind == "E" else message.text
                    is_check = "OPERATOR(pg_catalog./)" in text
                    is_checked = is_check or "ledger" not in text and text != "COMMIT"
                    tx = {"BEGIN": "T", "COMMIT": "I"}.get(text, tx)
                    if "pg_settings" in text:  # the default of statement_timeout
                        held += [raw.row_description("setting"), raw.data_row("0")]
                    held.append(raw.command_complete(text.split()[0]))
                if message.kind in "QS":
                    held.append(raw.ready(tx))
                if message.kind in "QS" and (is_checked or tx == "T"):
                    session.send(*held)
                    held = []


def batch(text, portal=""):
    return [raw.parse("", text), raw.bind(portal), raw.execute(portal)]


@pytest.mark.parametrize("requests", [
    [[raw.query("UPDATE ledger")]],
    [[raw.query("BEGIN")], [raw.query("UPDATE ledger")], [raw.query("COMMIT")]],
    [[*batch("UPDATE ledger"), raw.sync()]],
    [[*batch("BEGIN"), raw.sync()], [*batch("UPDATE ledger"), raw.sync()],
     [*batch("COMMIT"), raw.sync()]],
    [[raw.query("BEGIN")], [*batch("UPDATE ledger"), *batch("COMMIT"), raw.sync()]],
    [[raw.query("BEGIN")], [*batch("UPDATE ledger"), raw.sync()],
     [raw.parse("end", "COMMIT"), raw.sync()], [raw.bind("", "end"), raw.execute(), raw.sync()]],
], ids=["query", "block", "batch", "batches", "pipeline", "prepared"])
def test_the_id_is_checked_in_the_trip_that_ends_the_transaction(turnstile, requests):
    with Checked(turnstile) as scene, enter(scene.pooler, "acme") as client:
        for request in requests:
            client.send(*request)
            assert not errors(client.until("Z"))
    assert not scene.pooler.log_contains("tenant_context_check")


def test_i1_nothing_runs_between_a_verdict_and_its_end(turnstile):
    """The error of the check has come, and its ReadyForQuery has not."""
    asked, sent, after = threading.Event(), threading.Event(), []

    def script(session):
        held, is_check = [], False
        with contextlib.suppress(EOFError):
            while (message := session.message()).kind != "X":
                if asked.is_set() and session.number == 0:
                    after.append(message.kind)
                elif message.kind == "P":
                    is_check = "OPERATOR(pg_catalog./)" in message.strings[1]
                    held.append(raw.parse_complete())
                elif message.kind in "BC":
                    held.append({"B": raw.bind_complete(), "C": raw.close_complete()}[message.kind])
                elif message.kind == "E" and not is_check:
                    held.append(raw.command_complete("SELECT 0"))
                elif message.kind == "Q":
                    held += [raw.row_description("setting"), raw.data_row("0"),
                             raw.command_complete("SELECT 1")]
                if message.kind == "S" and is_check and not asked.is_set():
                    session.send(*held, raw.error("22012", "division by zero"))
                    asked.set()
                    assert sent.wait(10)
                    held = []
                if message.kind in "QS":
                    session.send(*held, raw.ready())
                    held = []

    with raw.FakeServer(script, login="scram", secret=APP_PASSWORD) as server:
        t = turnstile(shared(server, {"tenant_context_check": "on_release"}))
        with enter(t, "acme") as client:
            client.query("UPDATE ledger")
            assert asked.wait(10)
            client.send(raw.query("SELECT 2"))
            t.admin("SHOW SERVERS")
            sent.set()
            assert not errors(client.until("Z"))
            assert "Q" not in after
    assert t.log_contains("tenant_context_check")


@pytest.mark.parametrize("spoiler", ["SELECT 1/0", "NONSENSE"])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_check_behind_an_end_that_did_not_come_is_no_verdict(ledger, turnstile, spoiler, end):
    t = turnstile(shared(ledger, {"tenant_context_check": "on_release"}))
    with clients(t, "acme", "globex") as (acme, globex):
        pid = acme.rows(PID)
        acme.query("BEGIN")
        acme.send(*batch(spoiler), *batch(end), raw.sync())
        messages = acme.until("Z")
        assert errors(messages) and messages[-1].body == b"E"
        assert errors(acme.query("SELECT 2")) == ["25P02"]
        acme.send(*batch(end), raw.sync())
        assert acme.until("Z")[-1].body == b"I"
        assert globex.rows(CURRENT) == [("7",)] and acme.rows(PID) == pid
    assert not t.log_contains("tenant_context_check")


@pytest.mark.parametrize("behind", [batch("SELECT 2"), [*batch("SELECT 2", "p")],
                                    [raw.parse("", "SELECT 2"), raw.bind()], batch("BEGIN")],
                         ids=["statement", "portal", "bind", "begin"])
def test_what_follows_an_end_in_its_batch(ledger, turnstile, behind):
    t = turnstile(shared(ledger, {"tenant_context_check": "on_release"}))
    with clients(t, "acme", "globex") as (acme, globex):
        pid = acme.rows(PID)
        acme.query("BEGIN"), acme.rows(OWN)
        acme.send(*batch("COMMIT"), *behind, raw.sync())
        assert not errors(acme.until("Z"))
        # Nothing of ours has been asked in a transaction that is under way.
        assert not errors(acme.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        acme.query("ROLLBACK")
        assert globex.rows(CURRENT) == [("7",)] and acme.rows(PID) == pid
    assert not t.log_contains("tenant_context_check")


def test_a_check_asks_nothing_in_a_transaction_of_names_that_are_not_mapped(ledger, turnstile):
    t = turnstile(shared(ledger, {"tenant_context_check": "on_release", "tenant_pool": "dedicated",
                                  "max_prepared_statements": 0}))
    with enter(t, "acme") as acme:
        acme.send(*batch("BEGIN"), raw.sync())
        assert not errors(acme.until("Z"))
        assert not errors(acme.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        acme.query("ROLLBACK")
        assert acme.rows(CURRENT) == [("42",)]


def test_tenants_of_a_reload(ledger, turnstile):
    t = turnstile(shared(ledger, {"default_pool_size": 2},
                         tiers={"basic": {"statement_timeout": "15s"}}))
    with clients(t, "acme", "globex", "initech") as (acme, globex, initech):
        for client in (acme, globex, initech):
            client.rows(CURRENT)
        initech.query("BEGIN"), initech.rows(CURRENT)
        t.reload({"tiers": {"basic": {"statement_timeout": "7s"}},
                  "tenants": {"globex": None, "initech": {"tier": "basic", "business_id": "1002"}}})
        assert globex.until_closed()[-1].fields["C"] == "57P01"
        assert initech.rows(CURRENT) == [("1001",)]  # its transaction may end
        initech.query("COMMIT")
        assert initech.until_closed()[-1].fields["C"] == "57P01"
        assert acme.rows(CURRENT) == [("42",)]
        assert show(acme, "statement_timeout") == "7s"
    with enter(t, "initech") as initech:
        assert initech.rows(CURRENT) == [("1002",)]


def test_a_server_that_is_kept_gets_the_ceiling_of_a_reload(ledger, turnstile):
    t = turnstile(shared(ledger, tiers={"basic": {"statement_timeout": "15s"}}))
    with enter(t, "acme") as acme:
        acme.query("CREATE TEMP TABLE kept ()")
        assert show(acme, "statement_timeout") == "15s"
        t.reload({"tiers": {"basic": {"statement_timeout": "7s"}}})
        wait_until(lambda: [row["statement_timeout"] for row in t.admin("SHOW TIERS")] == ["7"])
        assert show(acme, "statement_timeout") == "7s"


def test_a_lost_server_is_replaced(ledger, turnstile):
    t = turnstile(shared(ledger))
    with clients(t, "acme", "globex") as (acme, globex):
        pid = acme.rows(PID)[0][0]
        ledger.sql(f"SELECT pg_terminate_backend({pid})")
        wait_until(lambda: pid not in [str(row["remote_pid"]) for row in t.admin("SHOW SERVERS")])
        assert globex.rows(OWN) == [("7",)]
        assert acme.rows(OWN) == [("42",)]


def test_what_clients_count(ledger, turnstile):
    t = turnstile(shared(ledger))
    with clients(t, "acme", "globex") as (acme, globex):
        for _ in range(3):
            acme.rows(OWN)
        globex.rows(OWN)
        assert errors(globex.query(f"SET {SETTING} = '42'")) == ["42501"]
    wait_until(lambda: not any(row["cl_active"] for row in t.admin("SHOW TENANTS")))
    counted = {row["name"]: (row["statements"], row["refused"]) for row in t.admin("SHOW TENANTS")}
    assert counted["acme"] == (3, 0) and counted["globex"] == (1, 1)


@pytest.mark.parametrize("settings, words", [
    ({"pool_mode": "session"}, ["pool_mode", "shared"]),
    ({"max_prepared_statements": 0}, ["max_prepared_statements", "shared"])])
def test_what_shared_pools_need(ledger, turnstile, settings, words):
    t = turnstile(shared(ledger))
    with pytest.raises(psycopg.Error):
        t.reload({"pgturnstile": settings})
    assert t.log_contains(f"(?i){'.*'.join(words)}")


def test_who_cannot_use_them(ledger, turnstile):
    config = shared(ledger, changes={"users": {APP_USER: {"pool_mode": "session"}}})
    with pytest.raises(raw.LoginRefused) as refused:
        enter(turnstile(config), "acme")
    assert refused.value.fields["C"] == "0A000"
    config = shared(ledger, changes={"tenants": {"acme": {"tier": "basic", "business_id": "Zürich"}}})
    with pytest.raises(raw.LoginRefused) as refused:
        enter(turnstile(config), "acme")
    assert refused.value.fields["C"] == "22023" and "ASCII" in refused.value.fields["M"]


def test_i3_a_long_queue_of_logins(ledger, turnstile):
    """Each is welcomed by the server that the one before has seen: they are not all on the stack at once."""
    count, small, usual = 900, 1 << 18, resource.getrlimit(resource.RLIMIT_STACK)
    config = shared(ledger, {"auth_type": "trust", "workers": 1})
    resource.setrlimit(resource.RLIMIT_STACK, (small, usual[1]))
    try:
        t = turnstile(config)
    finally:
        resource.setrlimit(resource.RLIMIT_STACK, usual)
    # Who asks how many wait has a descriptor that select(2), which psycopg uses, can take.
    with (t.connect(t.console, ADMIN_USER, row_factory=dict_row) as console, enter(t, "acme") as holder,
          contextlib.ExitStack() as stack):
        holder.query("BEGIN")
        holder.query("SELECT 1")
        waiting = [stack.enter_context(raw.RawClient(t.port)) for _ in range(count)]
        for i, client in enumerate(waiting):
            # No two of them ask for the same, so that none is welcomed by what another one was told.
            client.send(raw.startup({"user": f"{APP_USER}.acme", "database": APP_DATABASE,
                                     "statement_timeout": str(100000 + i)}))
        wait_until(lambda: count == sum(int(row["cl_waiting"]) for row in console.execute("SHOW POOLS")
                                        if row["database"] == APP_DATABASE))
        holder.query("COMMIT")
        assert all(raw.find(client.until("Z", "E"), "Z") for client in waiting)
        assert show(waiting[-1], "statement_timeout") == f"{100000 + count - 1}ms"


@pytest.mark.parametrize("before, mine", [("1234", None), (None, "4321"), ("1234", "4321")])
@pytest.mark.parametrize("other", [{}, {"application_name": "another"}])
def test_i1_a_session_begins_with_its_own_timeout(ledger, turnstile, before, mine, other):
    """On the server on which it was welcomed, which carries its tenant's id already."""
    def settings(timeout):
        return {"statement_timeout": timeout} if timeout else {}

    t = turnstile(shared(ledger))
    with enter(t, "acme", **settings(before)) as first:
        assert show(first, "statement_timeout") == (f"{before}ms" if before else "0")
        with enter(t, "acme", **settings(mine), **other) as second:
            assert show(second, "statement_timeout") == (f"{mine}ms" if mine else "0")
            assert show(first, "statement_timeout") == (f"{before}ms" if before else "0")
