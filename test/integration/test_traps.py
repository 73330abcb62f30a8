# SPDX-License-Identifier: ISC
#
# test_traps.py - hard places of the protocol that no other file has a test of; and that each has one.
#
# The list of them, with the tests of each, is in README.md.
"""What has burnt poolers in public does not burn this one."""
import re
from pathlib import Path

import pytest

import raw
from conftest import APP_DATABASE
from named import missing_tests, named_tests
from rig import clients, essence, log_in, same_as_direct, shop, sqlstate

HERE = Path(__file__).resolve().parent
SYNC = raw.sync()


@pytest.fixture
def t(primary, turnstile):
    return turnstile(shop(primary))


# --- the list ------------------------------------------------------------------------------------
def test_every_trap_has_tests_that_exist():
    text = (HERE / "README.md").read_text()
    rows = re.findall(r"^\| (\d+) \|[^|]*\|(.*)\|$", text[text.index("## The traps"):], re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 21))
    for number, tests in rows:
        assert named_tests(tests), f"trap {number} has no test"
        assert not missing_tests(HERE / "README.md", tests), f"trap {number}"


# --- statements ----------------------------------------------------------------------------------
@pytest.fixture
def places(primary):
    """A view of the same name in two schemas."""
    primary.sql("DROP SCHEMA IF EXISTS here, there CASCADE; CREATE SCHEMA here; CREATE SCHEMA there;"
                "CREATE VIEW here.place AS SELECT 'here'::text AS name;"
                "CREATE VIEW there.place AS SELECT 'there'::text AS name;"
                "GRANT USAGE ON SCHEMA here, there TO PUBLIC;"
                "GRANT SELECT ON here.place, there.place TO PUBLIC", dbname=APP_DATABASE)


def test_i2_one_statement_under_two_search_paths(places, primary, turnstile):
    """The server reads a statement again when names may mean something else; so it may be shared."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t, search_path="here") as one, log_in(t, search_path="there") as other:
        for client in one, other:
            client.send(raw.parse("s", "SELECT name FROM place"), SYNC)
            assert raw.kinds(client.until("Z")) == "1Z"
        for _ in range(3):
            for client, name in (one, "here"), (other, "there"):
                client.send(raw.bind("", "s"), raw.execute(), SYNC)
                assert raw.find(client.until("Z"), "D")[0].row == (name,)


SET_PATH = ["SET search_path = there", "BEGIN; SET LOCAL search_path = there", "SET ROLE app",
            "BEGIN; SELECT set_config('search_path', 'there', true)", "SET SCHEMA 'there'",
            "CREATE TEMP TABLE things (v date)", "DO $$ BEGIN SET search_path = there; END $$"]


@pytest.mark.parametrize("change", SET_PATH)
def test_i2_a_known_text_is_parsed_anew_where_its_names_mean_other_tables(places, primary, t, change):
    """Its parameters may have other types then, or it may be an error."""
    primary.sql("CREATE TABLE IF NOT EXISTS here.things (v int);"
                "CREATE TABLE IF NOT EXISTS there.things (v text);"
                "GRANT ALL ON here.things, there.things TO PUBLIC", dbname=APP_DATABASE)
    insert = raw.parse("", "INSERT INTO things VALUES ($1)") + raw.describe("S") + SYNC
    select = raw.parse("", "SELECT $1::int FROM only_here") + raw.describe("S") + SYNC
    primary.sql("CREATE TABLE IF NOT EXISTS here.only_here (); GRANT ALL ON here.only_here TO PUBLIC",
                dbname=APP_DATABASE)
    answers = []
    for server in primary, t:
        with log_in(server, search_path="here") as client:
            got = []
            for request in insert, select, raw.query(change), insert, select, raw.query("ROLLBACK"), \
                    insert, select, raw.query("RESET search_path"), insert, select:
                client.send(request)
                got.append([m for m in essence(client.until("Z")) if m[0] != "S"])
            answers.append(got)
    assert answers[0] == answers[1]


def test_i2_one_statement_under_two_roles(primary, t):
    primary.sql("DROP ROLE IF EXISTS other_role; CREATE ROLE other_role; GRANT other_role TO app")
    use = raw.bind("", "s") + raw.execute() + SYNC
    with log_in(t) as neighbour:
        neighbour.send(raw.parse("s", "SELECT current_user"), SYNC)
        neighbour.until("Z")
        same_as_direct(primary, t, raw.parse("s", "SELECT current_user") + SYNC, use,
                       raw.query("BEGIN; SET LOCAL ROLE other_role"), use, raw.query("COMMIT"), use)
        neighbour.send(use)
        assert raw.find(neighbour.until("Z"), "D")[0].row == ("app",)
    primary.sql("DROP ROLE other_role")


# --- settings ------------------------------------------------------------------------------------
SETTINGS = {
    "COMMIT": ["BEGIN", "SET work_mem = '1MB'", "COMMIT"],
    "ROLLBACK": ["SET work_mem = '1MB'", "BEGIN", "SET work_mem = '2MB'", "ROLLBACK"],
    "an error": ["BEGIN", "SET work_mem = '2MB'", "SELECT 1/0", "COMMIT"],
    "ROLLBACK TO": ["BEGIN", "SET work_mem = '1MB'", "SAVEPOINT a", "SET work_mem = '2MB'",
                    "ROLLBACK TO a", "COMMIT"],
    "RELEASE": ["BEGIN", "SAVEPOINT a", "SET work_mem = '2MB'", "RELEASE a", "COMMIT"],
    "ROLLBACK TO behind a RELEASE": ["BEGIN", "SAVEPOINT a", "SAVEPOINT b", "SET work_mem = '2MB'",
                                     "RELEASE b", "ROLLBACK TO a", "COMMIT"],
    "SET LOCAL": ["BEGIN", "SET LOCAL work_mem = '1MB'", "SHOW work_mem", "COMMIT"],
    "SET behind SET LOCAL": ["BEGIN", "SET LOCAL work_mem = '1MB'", "SET work_mem = '2MB'", "COMMIT"],
    "SET LOCAL behind SET": ["BEGIN", "SET work_mem = '2MB'", "SET LOCAL work_mem = '1MB'", "COMMIT"],
    "SET LOCAL outside": ["SET LOCAL work_mem = '1MB'"],
    "chain": ["BEGIN", "SET LOCAL work_mem = '1MB'", "COMMIT AND CHAIN", "SHOW work_mem", "ROLLBACK"],
    "a string that fails": ["SET work_mem = '1MB'; SELECT 1/0"],
    "a string with a transaction": ["BEGIN; SET work_mem = '1MB'; ROLLBACK; SET work_mem = '2MB'"],
    "what is not accepted": ["SET work_mem = '1MB'", "SET work_mem = 'much'"],
    "RESET": ["SET work_mem = '1MB'", "BEGIN", "RESET work_mem", "ROLLBACK"],
    "RESET ALL": ["SET work_mem = '1MB'", "SET search_path = here", "RESET ALL"],
    "DISCARD ALL": ["SET work_mem = '1MB'", "SET search_path = here", "DISCARD ALL"],
    "set_config": ["SELECT set_config('work_mem', '1MB', false)",
                   "SELECT set_config('work_mem', '2MB', true)"],
    "a list": ["SET search_path = here, \"There, \"\"too\"\"\", '$user'"],
    "a list in one string": ["SET search_path = 'here, there'"],
    "a list by set_config": ["SELECT set_config('search_path', 'here, \"There, too\"', false)"],
    "an empty list": ["SET search_path = ''"],
    "a value of many forms": ["SET TimeZone = -3", "SET DateStyle = 'ymd'", "SET work_mem = 2048"],
    "a quoted value": ["SET application_name = 'it''s \\ \"odd\"'"],
    "role": ["SET ROLE app", "BEGIN", "RESET ROLE", "ROLLBACK"],
    "characteristics": ["SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
}
SHOWN = ("work_mem", "search_path", "TimeZone", "DateStyle", "application_name", "role",
         "transaction_isolation")
SHOW = "SELECT " + ", ".join(f"current_setting('{name}')" for name in SHOWN)


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("name", SETTINGS)
def test_i2_settings_are_as_on_a_direct_connection(primary, t, name, extended):
    """What was set holds as long as on a direct connection, over servers, and is nobody else's."""
    def request(sql):
        if extended and ";" not in sql:
            return raw.parse("", sql) + raw.bind() + raw.execute() + SYNC
        return raw.query(sql)

    with log_in(primary) as direct, log_in(t) as through, log_in(t) as other:
        fresh = other.rows(SHOW)
        for sql in SETTINGS[name]:
            answers = []
            for client in direct, through:
                client.send(request(sql))
                messages = client.until("Z")
                answers.append((sqlstate(messages), messages[-1].body, raw.find(messages, "D")))
            assert answers[0] == answers[1], sql
            if messages[-1].body == b"I":
                for _ in range(2):  # on one server and the other, as they take turns
                    assert through.rows(SHOW) == direct.rows(SHOW), sql
                    assert other.rows(SHOW) == fresh
        assert through.rows(SHOW) == direct.rows(SHOW)


def test_i2_custom_setting_of_another_is_empty(primary, t):
    """Where a name was used before, on a server, it is '' from then on: never another's value.

    A policy that casts must say nullif(current_setting('app.x', true), ''); a policy that takes
    empty for everything is open to every fresh session of PostgreSQL already.
    """
    with clients(t, 2) as (client, other):
        client.query("SET app.secret = '42'")
        assert client.rows("SHOW app.secret") == [("42",)]
        client.query("RESET app.secret")
        assert client.rows("SHOW app.secret") == [("",)]
        client.query("DISCARD ALL")
        client.close()
        for _ in range(3):
            assert other.rows("SELECT nullif(current_setting('app.secret', true), '')::int") \
                == [(None,)]


@pytest.mark.parametrize("change", ["ALTER ROLE app SET work_mem = '9MB'",
                                    f"ALTER ROLE app IN DATABASE {APP_DATABASE} SET work_mem = '9MB'"])
def test_i2_defaults_of_a_role_reach_the_next_session(primary, turnstile, change):
    """A server connection has asked for them once; so those from before are not used any more."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    undo = change.replace("SET", "RESET").replace(" = '9MB'", "")
    try:
        with log_in(t) as client:
            assert client.rows("SHOW work_mem") == [("4MB",)]
            assert sqlstate(client.query(change)) is None
        with log_in(t) as later:
            assert later.rows("SHOW work_mem") == [("9MB",)]
            assert sqlstate(later.query(undo)) is None
        with log_in(t) as last:
            assert last.rows("SHOW work_mem") == [("4MB",)]
    finally:
        primary.sql(undo)


@pytest.mark.parametrize("change", ["ALTER ROLE app SET work_mem = '9MB'",
                                    "BEGIN; ALTER ROLE app SET work_mem = '9MB'; COMMIT"])
def test_i2_defaults_reach_sessions_of_other_groups(primary, turnstile, change):
    """A role is the cluster's: other workers' pools, and other databases', begin anew too."""
    config = shop(primary, {"default_pool_size": 1, "workers": 2})
    for name in ("one", "two", "three"):
        config["databases"][name] = {**config["databases"][APP_DATABASE], "dbname": APP_DATABASE}
    t = turnstile(config)
    try:
        for name in config["databases"]:
            with log_in(t, dbname=name) as client:
                assert client.rows("SHOW work_mem") == [("4MB",)]
        with log_in(t) as client:
            assert sqlstate(client.query(change)) is None
        for name in config["databases"]:
            with log_in(t, dbname=name) as client:
                assert client.rows("SHOW work_mem") == [("9MB",)]
    finally:
        primary.sql("ALTER ROLE app RESET work_mem")


# --- transactions --------------------------------------------------------------------------------
def test_i3_a_begin_that_fails_begins_nothing(primary, t):
    """As on a direct connection: the statement behind it in the pipeline stands for itself."""
    primary.sql("CREATE TABLE IF NOT EXISTS begun (n int); GRANT ALL ON begun TO PUBLIC",
                dbname=APP_DATABASE)
    answers = []
    for server in primary, t:
        with log_in(server) as client:
            client.send(raw.query("BEGIN ISOLATION LEVEL NONSENSE"),
                        raw.query("INSERT INTO begun VALUES (1)"), raw.query("ROLLBACK"),
                        raw.query("SELECT count(*) FROM begun"), raw.query("TRUNCATE begun"))
            answers.append([(raw.kinds(m), sqlstate(m), [row.row for row in raw.find(m, "D")])
                            for m in (client.until("Z") for _ in range(5))])
    assert answers[0] == answers[1]
