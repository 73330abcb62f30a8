# SPDX-License-Identifier: ISC
#
# test_kept_plans.py - a plan that is kept tells no tenant of another (I1).
#
# A function that reads a setting and is declared IMMUTABLE, which it is not, is computed once for a
# plan.  Whose sessions may share statements in a database with such functions, and what those
# without them gain.
import contextlib

import pytest

import raw
from conftest import APP_PASSWORD, APP_USER
from rig import clients, shop
from tenancy import SETTING, TENANTS, enter, tenants
from waiting import wait_until

DATABASE = "kept_plans"
SYNC = raw.sync()
WHO = "SELECT kept_who()"
BODY = f"RETURNS text {{}} LANGUAGE sql AS $$ SELECT current_setting('{SETTING}', true) $$"
MAKE = "CREATE OR REPLACE FUNCTION kept_who() " + BODY


@pytest.fixture(scope="module")
def kept(primary):
    """A database of its own: in the others, tests that run meanwhile have functions."""
    primary.sql(f"CREATE DATABASE {DATABASE}")
    with primary.connect(DATABASE) as connection:
        connection.execute(f"GRANT ALL ON SCHEMA public TO {APP_USER}")
    yield primary
    primary.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def app(kept):
    """The application, past the pooler."""
    with kept.connect(DATABASE, APP_USER, password=APP_PASSWORD) as connection:
        connection.execute("DROP FUNCTION IF EXISTS kept_who()")
        yield connection
        connection.execute("DROP FUNCTION IF EXISTS kept_who()")


def shared(server, settings=None):
    """All tenants on one server connection, which is asked for what its functions do."""
    config = tenants(server, {"tenant_pool": "shared", "default_pool_size": 1,
                              "auto_prepare_after": 2, **(settings or {})})
    return in_own_database(server, config)


def in_own_database(server, config):
    return {**config, "databases": {DATABASE: {"host": server.host, "port": server.port}}}


@contextlib.contextmanager
def two(pooler, *extra):
    """A client of each of two tenants."""
    names = list(TENANTS)[:2]
    with enter(pooler, names[0], dbname=DATABASE) as ann, enter(pooler, names[1], dbname=DATABASE) as bob:
        for client in ann, bob:
            for text in extra:
                client.query(text)
        yield [(ann, TENANTS[names[0]]), (bob, TENANTS[names[1]])]


def auto_parses(t):
    return sum(row["auto_parses"] for row in t.admin("SHOW SAVINGS"))


def unnamed(client, text=WHO):
    return [m.row[0] for m in raw.find(client.prepared(text), "D")]


def bound(client, name):
    client.send(raw.bind("", name, []) + raw.execute() + SYNC)
    return [m.row[0] for m in raw.find(client.until("Z"), "D")]


def prepare(client, name, text=WHO):
    client.send(raw.parse(name, text) + SYNC)
    client.until("Z")


def execute(client, name):
    return [row[0] for row in client.rows(f"EXECUTE {name}")]


# --- where nothing is suspect ----------------------------------------------------------------------
def test_auto_prepare_where_tenants_share_pools(app, primary, turnstile):
    t = turnstile(shared(primary))
    text = f"SELECT current_setting('{SETTING}') || $1"
    with two(t) as sessions:
        wait_until(lambda: unnamed(sessions[0][0], "SELECT 7") and auto_parses(t), 10,
                   "the functions of the database are known")
        before = auto_parses(t)
        for _ in range(12):
            for client, its_id in sessions:
                client.send(raw.parse("", text) + raw.bind("", "", ["x"]) + raw.execute() + SYNC)
                rows = raw.find(client.until("Z"), "D")
                assert [m.row for m in rows] == [(its_id + "x",)]
        assert auto_parses(t) >= before + 12


def test_auto_prepare_for_sessions_with_settings_of_their_own(app, primary, turnstile):
    t = turnstile(in_own_database(primary, shop(primary, {"auto_prepare_after": 2,
                                                          "default_pool_size": 1})))
    with clients(t, 2, dbname=DATABASE) as both:
        for client, name in zip(both, ("ann", "bob")):
            client.query(f"SET app.who = '{name}'")
        for _ in range(6):
            for client, name in zip(both, ("ann", "bob")):
                assert unnamed(client, "SELECT current_setting('app.who')") == [name]
        assert auto_parses(t) >= 6


# --- where something is ----------------------------------------------------------------------------
@pytest.mark.parametrize("ask", [unnamed, bound, execute])
@pytest.mark.parametrize("mode", ["auto", "force_generic_plan"])
def test_i1_a_function_that_is_not_immutable_tells_a_tenant_its_own_id(app, primary, turnstile, ask,
                                                                       mode):
    app.execute(MAKE.format("IMMUTABLE"))
    with two(turnstile(shared(primary)), f"SET plan_cache_mode = {mode}") as sessions:
        for client, _ in sessions:
            prepare(client, "who")
        for _ in range(8):
            for client, its_id in sessions:
                assert ask(client, *(["who"] if ask is not unnamed else [])) == [its_id]
    

CHANGES = [MAKE.format("IMMUTABLE"), "ALTER FUNCTION kept_who() IMMUTABLE",
           "DO $$ BEGIN END $$; ALTER ROUTINE kept_who() IMMUTABLE",
           "DO $$ BEGIN EXECUTE 'ALTER FUNCTION kept_who() IMMUTABLE'; END $$"]


@pytest.mark.parametrize("change", CHANGES, ids=["replace", "alter", "routine", "do"])
@pytest.mark.parametrize("ask", [unnamed, bound, execute])
def test_i1_it_is_made_so_while_statements_are_prepared(app, primary, turnstile, ask, change):
    app.execute(MAKE.format("STABLE"))
    t = turnstile(shared(primary))
    args = [] if ask is unnamed else ["who"]
    with two(t, "SET plan_cache_mode = force_generic_plan") as sessions:
        for client, _ in sessions:
            prepare(client, "who")
        for _ in range(4):
            for client, its_id in sessions:
                assert ask(client, *args) == [its_id]
        sessions[0][0].query(change)
        for _ in range(8):
            for client, its_id in sessions:
                assert ask(client, *args) == [its_id]


def test_i1_it_tells_no_session_of_the_settings_of_others(app, primary, turnstile):
    app.execute(MAKE.format("IMMUTABLE").replace(SETTING, "app.who"))
    t = turnstile(in_own_database(primary, shop(primary, {"auto_prepare_after": 2,
                                                          "default_pool_size": 1})))
    with clients(t, 2, dbname=DATABASE) as both:
        for client, name in zip(both, ("ann", "bob")):
            client.query("SET plan_cache_mode = force_generic_plan")
            client.query(f"SET app.who = '{name}'")
            prepare(client, "who")
        for _ in range(8):
            for client, name in zip(both, ("ann", "bob")):
                assert unnamed(client) == bound(client, "who") == [name]


@pytest.mark.parametrize("ask", [bound, execute])
def test_i1_nor_of_what_is_set_for_a_transaction(app, primary, turnstile, ask):
    app.execute(MAKE.format("IMMUTABLE").replace(SETTING, "app.who"))
    t = turnstile(in_own_database(primary, shop(primary, {"default_pool_size": 1})))
    with clients(t, 2, dbname=DATABASE) as both:
        for client in both:
            client.query("SET plan_cache_mode = force_generic_plan")
            prepare(client, "who")
        for _ in range(3):
            for client, name in zip(both, ("ann", "bob")):
                client.query(f"BEGIN; SET LOCAL app.who = '{name}'")
                assert ask(client, "who") == [name]
                client.query("COMMIT")


def test_i1_it_is_made_so_when_nobody_can_be_asked_any_more(app, kept, turnstile):
    """Without a monitor a server connection of the application's asks, and is refused."""
    app.execute(MAKE.format("STABLE"))
    t = turnstile(shared(kept))
    with two(t, "SET plan_cache_mode = force_generic_plan") as sessions:
        for client, its_id in sessions:
            prepare(client, "who")
            assert bound(client, "who") == [its_id]
        kept.sql("REVOKE SELECT ON pg_operator FROM public", dbname=DATABASE)
        try:
            sessions[0][0].query("ALTER FUNCTION kept_who() IMMUTABLE")
            wait_until(lambda: bound(sessions[0][0], "who") and "cannot be asked" in t.log_text(), 10,
                       "it is refused")
            for client, its_id in sessions * 3:
                assert bound(client, "who") == [its_id]
        finally:
            kept.sql("GRANT SELECT ON pg_operator TO public", dbname=DATABASE)


def test_i1_it_is_made_so_in_two_phases(app, primary, turnstile):
    app.execute(MAKE.format("STABLE"))
    with two(turnstile(shared(primary)), "SET plan_cache_mode = force_generic_plan") as sessions:
        for client, _ in sessions:
            prepare(client, "who")
        first = sessions[0][0]
        for text in ("BEGIN", "ALTER FUNCTION kept_who() IMMUTABLE", "PREPARE TRANSACTION 'kept'"):
            first.query(text)
        for client, its_id in sessions:
            assert bound(client, "who") == [its_id]
        first.query("COMMIT PREPARED 'kept'")
        for _ in range(4):
            for client, its_id in sessions:
                assert bound(client, "who") == [its_id]


IN_ONE_TEXT = ["SET LOCAL app.who = 'ann'; EXECUTE who",
               "SELECT set_config('app.who', 'ann', true); EXECUTE who",
               "BEGIN; SET LOCAL app.who = 'ann'; EXECUTE who; COMMIT"]


@pytest.mark.parametrize("text", IN_ONE_TEXT, ids=["set", "call", "block"])
def test_i1_nor_of_what_is_set_in_the_text_that_executes_it(app, primary, turnstile, text):
    app.execute(MAKE.format("IMMUTABLE").replace(SETTING, "app.who"))
    t = turnstile(in_own_database(primary, shop(primary, {"default_pool_size": 1})))
    with clients(t, 2, dbname=DATABASE) as (ann, bob):
        for client in ann, bob:
            prepare(client, "who", "SELECT coalesce(kept_who(), '')")
        for _ in range(3):
            assert [m.row for m in raw.find(ann.query(text), "D")][-1] == ("ann",)
            assert bound(bob, "who") == execute(bob, "who") == [""]


# --- plans that PL/pgSQL keeps ---------------------------------------------------------------------
PLPGSQL = """CREATE OR REPLACE FUNCTION kept_within() RETURNS text STABLE LANGUAGE plpgsql AS
             $$ BEGIN RETURN coalesce(kept_who(), ''); END $$"""
WITHIN = "SELECT kept_within()"


@pytest.mark.parametrize("ask", [unnamed, lambda client, text: [r[0] for r in client.rows(text)]],
                         ids=["extended", "simple"])
def test_i1_plans_within_functions_tell_a_tenant_its_own_id(app, primary, turnstile, ask):
    app.execute(MAKE.format("IMMUTABLE"))
    app.execute(PLPGSQL)
    with two(turnstile(shared(primary))) as sessions:
        for _ in range(4):
            for client, its_id in sessions:
                assert ask(client, WITHIN) == [its_id]


def test_i1_plans_within_functions_tell_nobody_of_settings(app, primary, turnstile):
    app.execute(MAKE.format("IMMUTABLE").replace(SETTING, "app.who"))
    app.execute(PLPGSQL)
    t = turnstile(in_own_database(primary, shop(primary, {"default_pool_size": 1})))
    with clients(t, 3, dbname=DATABASE) as sessions:
        for client, name in zip(sessions, ("ann", "bob")):
            client.query(f"SET app.who = '{name}'")
        for _ in range(4):
            for client, name in zip(sessions, ("ann", "bob", "")):
                assert unnamed(client, WITHIN) == [name]
