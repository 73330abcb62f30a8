# SPDX-License-Identifier: ISC
#
# test_habit.py - BEGIN; set_config(…, true); statements; COMMIT: the tenant's id goes to the server
# with the client's own BEGIN and ends with its transaction (docs/adr/0020-the-habit-of-today.md).
"""I1 on every way out of such a transaction, on one server that others use before and after."""
import contextlib
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, pool_of, sqlstate
from tenancy import SETTING, TENANTS, errors, show, tenants
from waiting import wait_until

ACME, GLOBEX = TENANTS["acme"], TENANTS["globex"]
TABLE = "habit_ledger"
ROWS = f"SELECT DISTINCT business_id FROM {TABLE}"
CHOOSE = f"SELECT set_config('{SETTING}', $1, true)"
PID = "SELECT pg_backend_pid()"

q, p, b, e, SYNC = raw.query, raw.parse, raw.bind, raw.execute, raw.sync()


@pytest.fixture(scope="module")
def ledger(primary):
    with primary.connect(APP_DATABASE) as connection:
        for statement in [
                f"DROP TABLE IF EXISTS {TABLE}, habit_late",
                f"CREATE TABLE {TABLE} (business_id text NOT NULL)",
                f"INSERT INTO {TABLE} VALUES ('{ACME}'), ('{GLOBEX}')",
                f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
                f"CREATE POLICY own ON {TABLE}"
                f" USING (business_id = current_setting('{SETTING}', true))",
                "CREATE TABLE habit_late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
                "INSERT INTO habit_late VALUES (1)",
                f"GRANT ALL ON {TABLE}, habit_late TO {APP_USER}"]:
            connection.execute(statement)
    return primary


def habit(server, settings=None, tiers=None, changes=None):
    """A config: one server, and a user that may choose its tenant."""
    return tenants(server, {"tenant_by": "user_suffix, set", "tenant_pool": "shared",
                            "default_pool_size": 1, "backend_pid": "server",
                            "no_tenant": "empty", "workers": 1, **(settings or {})}, tiers,
                   {"users": {APP_USER: {"tenant_switch": "yes"}}, **(changes or {})})


@pytest.fixture
def pooler(ledger, turnstile):
    return turnstile(habit(ledger))


def ask(client, request):
    client.send(request)
    return client.until("Z")


def simple(client, text):
    return ask(client, q(text))


def extended(client, text):
    return ask(client, p("", text) + b() + e() + SYNC)


def choose(client, business_id):
    return ask(client, p("", CHOOSE) + b("", "", [business_id]) + e() + SYNC)


def rows(messages):
    return [m.row for m in raw.find(messages, "D")]


ENDINGS = {
    "commit": ["COMMIT"], "rollback": ["ROLLBACK"], "end": ["END"],
    "failed": ["SELECT 1/0", "COMMIT"], "failed at the end": ["INSERT INTO habit_late VALUES (1)", "COMMIT"],
    "savepoint": ["SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a", ROWS, "COMMIT"],
    "two phases": ["PREPARE TRANSACTION 'habit'", "ROLLBACK PREPARED 'habit'"],
    "chain": ["COMMIT AND CHAIN", "ROLLBACK"], "chain of none": ["ROLLBACK AND CHAIN", "ROLLBACK"],
    "forgery": [f"DO $$ BEGIN EXECUTE 'SET app.current_' || 'business_id = {GLOBEX}'; END $$", ROWS,
                "COMMIT"],
    "forgery, undone": [f"DO $$ BEGIN EXECUTE 'SET app.current_' || 'business_id = {GLOBEX}'; END $$",
                        ROWS, "ROLLBACK"],
}


@pytest.mark.parametrize("run", [simple, extended])
@pytest.mark.parametrize("ending", ENDINGS)
def test_i1_the_id_ends_with_its_transaction(pooler, ending, run):
    """Whoever had the server before; it is nobody's, or again that of who comes next."""
    with log_in(pooler) as client, log_in(pooler) as other, log_in(pooler) as nobody:
        for before in (None, GLOBEX):
            if before:
                simple(other, f"SET {SETTING} = '{before}'")
                assert rows(run(other, ROWS)) == [(before,)]
            for _ in range(2):
                run(client, "BEGIN")
                choose(client, ACME)
                assert rows(run(client, ROWS)) == [(ACME,)]
                for text in ENDINGS[ending]:
                    got = run(client, text)
                    assert rows(got) in ([], [(ACME,)]), text
                if got[-1].body != b"I":
                    simple(client, "ROLLBACK")
                assert rows(run(client, ROWS)) == []
                assert rows(run(nobody, ROWS)) == []
                assert show(nobody, SETTING) == ""
            if before:
                assert rows(run(other, ROWS)) == [(before,)]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("text", [f"ROLLBACK; {ROWS}", f"COMMIT; {ROWS}"])
def test_i1_behind_the_end_in_a_text_too_long_to_be_read_it_is_nobodys(pooler, text, fails):
    with log_in(pooler) as other, log_in(pooler) as client:
        simple(other, f"SET {SETTING} = '{GLOBEX}'")
        assert rows(simple(other, ROWS)) == [(GLOBEX,)]
        simple(client, "BEGIN"), choose(client, ACME)
        assert rows(simple(client, ROWS)) == [(ACME,)]
        assert sqlstate(simple(client, "SELECT 1/0" if fails else "SELECT 2")) == (fails and "22012" or None)
        assert rows(simple(client, f"{text} -- {'x' * (1 << 20)}")) == []
        assert rows(simple(other, ROWS)) == [(GLOBEX,)]


@pytest.mark.parametrize("text", [f"COMMIT; {ROWS}", f"ROLLBACK; {ROWS}"])
def test_i1_nothing_runs_behind_the_end_in_its_text(pooler, text):
    with log_in(pooler) as client:
        simple(client, "BEGIN"), choose(client, ACME), simple(client, ROWS)
        assert sqlstate(simple(client, text)) == "0A000"


def test_i1_a_pipeline_of_such_transactions(pooler):
    with log_in(pooler) as client:
        for business_id in (ACME, GLOBEX, ACME):
            client.send(q("BEGIN"), q(f"SELECT set_config('{SETTING}', '{business_id}', true)"), q(ROWS),
                        q("COMMIT"), q(ROWS))
        answers = [rows(client.until("Z")) for _ in range(15)]
        assert answers[2::5] == [[(ACME,)], [(GLOBEX,)], [(ACME,)]]
        assert answers[4::5] == [[], [], []]


def test_i1_a_session_that_keeps_its_server(pooler):
    with log_in(pooler) as client:
        simple(client, f"SET {SETTING} = '{GLOBEX}'"), simple(client, "CREATE TEMP TABLE mine ()")
        for end in ("COMMIT", "ROLLBACK"):
            simple(client, "BEGIN"), choose(client, ACME)
            assert rows(simple(client, ROWS)) == [(ACME,)]
            simple(client, end)
            assert rows(simple(client, ROWS)) == [(GLOBEX,)]
            assert not errors(simple(client, "SELECT FROM mine"))


def test_settings_of_a_session_go_ahead_all_the_same(pooler):
    with log_in(pooler) as client, log_in(pooler) as other:
        simple(client, "SET work_mem = '5MB'")
        for c, business_id, work_mem in ((client, ACME, "5MB"), (other, GLOBEX, "4MB")) * 2:
            simple(c, "BEGIN"), choose(c, business_id)
            assert (rows(simple(c, ROWS)), show(c, "work_mem")) == ([(business_id,)], work_mem)
            simple(c, "ROLLBACK")
            assert show(c, "work_mem") == work_mem


def test_a_ceiling_is_that_of_the_transaction(ledger, turnstile):
    t = turnstile(habit(ledger, {}, {"basic": {"statement_timeout": "15s"}, "fast": {"statement_timeout": "3s"}},
                        {"tenants": {"globex": {"tier": "fast", "business_id": GLOBEX}}}))
    with log_in(t) as client, log_in(t) as nobody:
        for business_id, ceiling, end in ((ACME, "15s", "COMMIT"), (GLOBEX, "3s", "ROLLBACK")) * 2:
            simple(client, "BEGIN"), choose(client, business_id)
            assert show(client, "statement_timeout") == ceiling
            simple(client, end)
            assert show(nobody, "statement_timeout") == "0"
        simple(client, "SET statement_timeout = '5s'")
        for business_id, timeout in ((ACME, "5s"), (GLOBEX, "3s")) * 2:
            simple(client, "BEGIN"), choose(client, business_id)
            assert show(client, "statement_timeout") == timeout
            simple(client, "COMMIT")
            assert show(nobody, "statement_timeout") == "0"
        assert show(client, "statement_timeout") == "5s"


@pytest.fixture
def tiers(ledger, turnstile):
    """acme's ceiling is 15s, globex's 3s."""
    return turnstile(habit(ledger, {}, {"basic": {"statement_timeout": "15s"}, "fast": {"statement_timeout": "3s"}},
                           {"tenants": {"globex": {"tier": "fast", "business_id": GLOBEX}}}))


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("text", ["SET work_mem = '5MB'", "DO $$ BEGIN END $$", "CREATE TEMP TABLE t () ON COMMIT DROP",
                                  "SET LOCAL statement_timeout = '1s'"])
def test_a_lowered_timeout_is_lowered_for_its_tenant_only(tiers, text, end):
    with log_in(tiers) as client, log_in(tiers) as nobody:
        simple(client, "SET statement_timeout = '5s'")
        for _ in range(2):
            simple(client, "BEGIN"), choose(client, GLOBEX)
            assert show(client, "statement_timeout") == "3s"
            assert not errors(simple(client, text))
            simple(client, end)
            simple(client, "BEGIN"), choose(client, ACME)
            assert show(client, "statement_timeout") == "5s"
            simple(client, "COMMIT")
            assert show(nobody, "statement_timeout") == "0"
            assert show(client, "statement_timeout") == "5s"


def test_a_timeout_that_is_said_for_a_tenant_is_the_sessions(tiers):
    with log_in(tiers) as client:
        simple(client, "SET statement_timeout = '5s'")
        simple(client, "BEGIN"), choose(client, GLOBEX)
        simple(client, "SET statement_timeout = '3s'"), simple(client, "COMMIT")
        simple(client, "BEGIN"), choose(client, ACME)
        assert show(client, "statement_timeout") == "3s"


def test_a_ceiling_is_none_of_the_sessions(tiers):
    """What the session has not set is not taken for its own behind code that may have."""
    with log_in(tiers) as client:
        simple(client, "BEGIN"), choose(client, GLOBEX)
        simple(client, "DO $$ BEGIN END $$"), simple(client, "COMMIT")
        assert show(client, "statement_timeout") == "0"
        simple(client, "BEGIN"), choose(client, ACME)
        assert show(client, "statement_timeout") == "15s"


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("run", [simple, extended])
def test_i1_what_no_text_shows_is_found_when_the_transaction_has_ended(ledger, turnstile, run, end):
    ledger.sql("DROP FUNCTION IF EXISTS habit_sly()", dbname=APP_DATABASE)
    t = turnstile(habit(ledger, {"tenant_context_check": "on_release"}))
    with log_in(t) as client:
        simple(client, "BEGIN"), choose(client, ACME)
        pid = rows(run(client, PID))
        simple(client, "COMMIT")
        simple(client, "BEGIN"), choose(client, ACME)
        assert rows(run(client, PID)) == pid  # the check has found nothing
        ledger.sql("CREATE FUNCTION habit_sly() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM "
                   f"set_config('app.current_' || 'business_id', '{GLOBEX}', false); RETURN 2; END $$",
                   dbname=APP_DATABASE)
        assert rows(run(client, "SELECT habit_sly()")) == [("2",)]
        run(client, end)
        assert rows(run(client, ROWS)) == []
        assert (rows(run(client, PID)) == pid) == (end == "ROLLBACK")
    assert t.log_contains("tenant_context_check") == (end == "COMMIT")


# --- what is sent ------------------------------------------------------------------------------
class Scene:
    """A server that answers each message, and does as the test says at the n-th Execute."""

    def __init__(self, turnstile, at=None, act=None, **settings):
        self.seen, self._at, self._act = [], at, act
        self.server = raw.FakeServer(self._script, login="scram", secret=APP_PASSWORD)
        self.pooler = turnstile(habit(self.server, settings))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        return self.server.__exit__(*failure)

    def _script(self, session):
        executes, names, tx = 0, {}, "I"
        bound = text = ""
        with contextlib.suppress(EOFError):
            while (message := session.message()).kind != "X":
                if message.kind == "P":
                    name, text = message.strings[:2]
                    names[name] = text
                    session.send(raw.parse_complete())
                elif message.kind == "B":
                    bound = names[message.strings[1]]
                    session.send(raw.bind_complete())
                elif message.kind == "C":
                    session.send(raw.message("3"))
                elif message.kind == "E":
                    executes += 1
                    self.seen.append(bound)
                    if executes == self._at and session.number == 0:
                        self._act(session)
                    tx = {"BEGIN": "T", "COMMIT": "I"}.get(bound.upper(), tx)
                    session.send(raw.command_complete(bound.split()[0].upper()))
                elif message.kind == "S":
                    session.send(raw.ready(tx))
                elif message.kind == "Q":
                    if "pg_settings" in message.text:  # the default of statement_timeout
                        session.send(raw.row_description("setting"), raw.data_row("0"))
                    else:
                        self.seen.append(message.text)
                    tx = {"COMMIT": "I", "ROLLBACK": "I"}.get(message.text, tx)
                    session.send(raw.command_complete("SELECT 0"), raw.ready(tx))


def test_no_transaction_of_ours_and_nothing_parsed_twice(turnstile):
    with Scene(turnstile) as scene, log_in(scene.pooler) as client:
        for business_id in (ACME, GLOBEX):
            for text in ("BEGIN", None, "SELECT 2", "COMMIT"):
                choose(client, business_id) if not text else extended(client, text)
        begin, set_, *rest = scene.seen[:4]
        assert begin == "BEGIN" and "set_config($1, $2, true)" in set_
        assert rest == ["SELECT 2", "COMMIT"] and scene.seen[4:] == scene.seen[:4]


def fail_at(session):
    session.send(raw.error("53200", "out of memory"))
    while session.message().kind != "X":
        pass
    raise EOFError


@pytest.mark.parametrize("first", [q("SELECT 2"), p("", "SELECT 2") + b() + e() + SYNC], ids=["simple", "batch"])
@pytest.mark.parametrize("at", [1, 2])
def test_i1_an_error_on_the_way_runs_nothing(turnstile, first, at):
    with Scene(turnstile, at, fail_at) as scene, log_in(scene.pooler) as client:
        simple(client, "BEGIN"), choose(client, ACME)
        messages = ask(client, first)
        assert raw.kinds(messages) == "EZ" and messages[-1].body == b"E"
        assert sqlstate(messages) == "53200" and "SELECT 2" not in scene.seen
        assert simple(client, "COMMIT")[0].text == "ROLLBACK"
        wait_until(lambda: pool_of(scene.pooler, "sv_idle") + pool_of(scene.pooler, "sv_active") == 0)
        assert ask(client, first)[-1].body == b"I" and "SELECT 2" in scene.seen


def test_i1_a_cancel_of_the_id_is_one_of_the_statement(turnstile):
    held = threading.Event()

    def hold(session):
        held.set()
        wait_until(lambda: scene.server.cancels, what="the cancel")
        session.send(raw.error("57014", "canceling statement due to user request"))
        while session.message().kind != "X":
            pass
        raise EOFError

    with Scene(turnstile, 2, hold) as scene, log_in(scene.pooler) as client:
        simple(client, "BEGIN"), choose(client, ACME)
        client.send(q("SELECT 2"))
        assert held.wait(10)
        client.cancel()
        messages = client.until("Z")
        assert sqlstate(messages) == "57014" and messages[-1].body == b"E"
        assert "SELECT 2" not in scene.seen
        assert simple(client, "ROLLBACK")[-1].body == b"I"


def test_i1_a_server_that_is_lost_on_the_way(turnstile):
    def die(session):
        session.reset()
        raise EOFError

    with Scene(turnstile, 2, die) as scene, log_in(scene.pooler) as client:
        simple(client, "BEGIN"), choose(client, ACME)
        client.send(q("SELECT 2"))
        assert raw.find(client.until_closed(), "E")[0].fields["C"] == "08006"
        assert "SELECT 2" not in scene.seen
