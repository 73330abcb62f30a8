# SPDX-License-Identifier: ISC
#
# test_unseen_code.py - what is left behind by code that no text spells (I2): triggers, rules, views,
# defaults, checks, operators, casts and what they call.
"""Two clients on one server: the second sees nothing of what such code has done for the first."""
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import clients, log_in, pid_of, shop, sqlstate
from waiting import wait_until

SCHEMA = """
CREATE FUNCTION uc_set() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('work_mem', '1234kB', false); END $$;
CREATE FUNCTION uc_int(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM uc_set(); RETURN $1; END $$;
CREATE FUNCTION uc_trigger() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM uc_set(); RETURN coalesce(NEW, OLD); END $$;
CREATE FUNCTION uc_locks() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_lock(4713); RETURN NEW; END $$;
CREATE FUNCTION uc_makes() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN CREATE TEMP TABLE IF NOT EXISTS uc_made (a int); RETURN NEW; END $$;
CREATE FUNCTION uc_local() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('work_mem', (1000 + 1)::text, true); RETURN NEW; END $$;
CREATE FUNCTION uc_passes() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO uc_triggered VALUES (1); RETURN NEW; END $$;

CREATE TABLE uc_plain (a int, at timestamptz DEFAULT now(), n serial);
CREATE TABLE uc_triggered (a int);
CREATE TRIGGER t BEFORE INSERT ON uc_triggered FOR EACH ROW EXECUTE FUNCTION uc_trigger();
CREATE TABLE uc_locked (a int);
CREATE TRIGGER t BEFORE INSERT ON uc_locked FOR EACH ROW EXECUTE FUNCTION uc_locks();
CREATE TABLE uc_making (a int);
CREATE TRIGGER t BEFORE INSERT ON uc_making FOR EACH ROW EXECUTE FUNCTION uc_makes();
CREATE TABLE uc_locally (a int);
CREATE TRIGGER t BEFORE INSERT ON uc_locally FOR EACH ROW EXECUTE FUNCTION uc_local();
CREATE TABLE uc_passing (a int);
CREATE TRIGGER t AFTER INSERT ON uc_passing FOR EACH ROW EXECUTE FUNCTION uc_passes();
CREATE TABLE uc_truncated (a int);
CREATE TRIGGER t BEFORE TRUNCATE ON uc_truncated EXECUTE FUNCTION uc_trigger();
CREATE TABLE uc_deferred (a int);
CREATE CONSTRAINT TRIGGER t AFTER INSERT ON uc_deferred DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION uc_trigger();
CREATE TABLE uc_parent (id int PRIMARY KEY);
INSERT INTO uc_parent SELECT generate_series(1, 50);
CREATE TABLE uc_child (a int REFERENCES uc_parent ON DELETE CASCADE);
INSERT INTO uc_child SELECT generate_series(1, 50);
CREATE TRIGGER t BEFORE DELETE ON uc_child FOR EACH ROW EXECUTE FUNCTION uc_trigger();
CREATE TABLE uc_parted (a int) PARTITION BY RANGE (a);
CREATE TABLE uc_part PARTITION OF uc_parted FOR VALUES FROM (0) TO (10);
CREATE TRIGGER t BEFORE INSERT ON uc_part FOR EACH ROW EXECUTE FUNCTION uc_trigger();
CREATE TABLE uc_default (a int DEFAULT uc_int(1), b int);
CREATE TABLE uc_checked (a int CHECK (uc_int(a) = a));
CREATE DOMAIN uc_domain AS int CHECK (uc_int(VALUE) = VALUE);
CREATE TABLE uc_of_domain (a uc_domain);
CREATE TABLE uc_generated (a int, b int GENERATED ALWAYS AS (uc_int(a)) STORED);
CREATE TABLE uc_ruled (a int);
CREATE RULE r AS ON INSERT TO uc_ruled DO ALSO SELECT uc_set();
CREATE TABLE uc_indexed (a int); CREATE INDEX ON uc_indexed (uc_int(a));
CREATE TABLE uc_guarded (a int); INSERT INTO uc_guarded VALUES (1);
ALTER TABLE uc_guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON uc_guarded USING (uc_int(a) = a);
CREATE VIEW uc_view AS SELECT uc_int(1) AS v;
CREATE VIEW uc_through AS SELECT * FROM uc_triggered;
CREATE VIEW uc_settings AS SELECT name, setting FROM pg_settings;
CREATE FUNCTION uc_add(int, int) RETURNS int LANGUAGE sql AS $$ SELECT uc_int($1) + $2 $$;
CREATE OPERATOR @+@ (LEFTARG = int, RIGHTARG = int, FUNCTION = uc_add);
CREATE TYPE uc_pair AS (x int);
CREATE FUNCTION uc_to_pair(int) RETURNS uc_pair LANGUAGE sql AS
    $$ SELECT ROW(uc_int($1))::uc_pair $$;
CREATE CAST (int AS uc_pair) WITH FUNCTION uc_to_pair(int);
CREATE FUNCTION "uc Odd ""Name"() RETURNS int LANGUAGE sql AS $$ SELECT uc_int(1) $$;
CREATE FUNCTION uc_atomic() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT uc_int(1); END;
CREATE FUNCTION uc_field(uc_plain) RETURNS int LANGUAGE sql AS $$ SELECT uc_int(1) $$;
CREATE AGGREGATE uc_sum(int) (SFUNC = uc_add, STYPE = int, INITCOND = '0');
CREATE FUNCTION uc_defaults(int DEFAULT uc_int(1)) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION uc_defaults_to(int DEFAULT length(set_config('work_mem', '1234kB', false))) RETURNS int
    LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION uc_comments() RETURNS int LANGUAGE sql AS 'SELECT uc_int /* ( */ -- (
    (1)';
CREATE VIEW uc_hidden AS SELECT uc_int(1) AS v;
CREATE FUNCTION uc_reads() RETURNS xml LANGUAGE sql AS $$ SELECT table_to_xml('uc_hidden', true, false, '') $$;
CREATE EXTENSION tablefunc;
CREATE FUNCTION uc_table(text) RETURNS SETOF tablefunc_crosstab_2 LANGUAGE c STABLE STRICT
    AS '$libdir/tablefunc', 'crosstab';
CREATE EXTENSION pg_trgm;
CREATE FUNCTION uc_limit() RETURNS real LANGUAGE plpgsql AS $$ BEGIN RETURN set_limit(0.75); END $$;
CREATE SCHEMA uc_small; CREATE VIEW uc_small.v AS SELECT uc_int(1) AS v;
GRANT USAGE ON SCHEMA uc_small TO PUBLIC; GRANT SELECT ON uc_small.v TO PUBLIC;
INSERT INTO uc_plain VALUES (1);
"""
SHOW = "SHOW work_mem"
# What is run, what tells it, what somebody else sees, what the one who did it sees.
FORMS = {
    "trigger": "INSERT INTO uc_triggered VALUES (1)",
    "trigger of what a trigger writes": "INSERT INTO uc_passing VALUES (1)",
    "trigger by COPY": "COPY uc_triggered FROM STDIN",
    "trigger by a view": "INSERT INTO uc_through VALUES (1)",
    "trigger in WITH": "WITH i AS (INSERT INTO public . \"uc_triggered\" VALUES (1) RETURNING a)"
                       " SELECT * FROM i",
    "trigger of TRUNCATE": "TRUNCATE uc_truncated",
    "trigger at COMMIT": "INSERT INTO uc_deferred VALUES (1)",
    "trigger of a cascade": "DELETE FROM uc_parent WHERE id = (SELECT min(id) FROM uc_parent)",
    "trigger of a partition": "INSERT INTO uc_parted VALUES (1)",
    "default": "INSERT INTO uc_default (b) VALUES (1)",
    "check": "INSERT INTO uc_checked VALUES (1)",
    "check of a domain": "INSERT INTO uc_of_domain VALUES (1)",
    "domain": "SELECT 1::uc_domain",
    "generated column": "INSERT INTO uc_generated VALUES (1)",
    "rule": "INSERT INTO uc_ruled VALUES (1)",
    "index": "INSERT INTO uc_indexed VALUES (1)",
    "policy": "SELECT * FROM uc_guarded",
    "view": "SELECT v FROM UC_VIEW",
    "view of pg_settings": "UPDATE uc_settings SET setting = '1234' WHERE name = 'work_mem'",
    "operator": "SELECT 1 @+@ 2",
    "cast": "SELECT 1::uc_pair",
    "function of an odd name": "SELECT \"uc Odd \"\"Name\"()",
    "function without a source": "SELECT uc_atomic()",
    "function of a row": "SELECT p.uc_field FROM uc_plain p",
    "aggregate": "SELECT uc_sum(1)",
    "call with a comment": "SELECT uc_comments()",
    "default of an argument": "SELECT uc_defaults()",
    "default of an argument that sets": "SELECT uc_defaults_to()",
    "relation that is read by its name": "SELECT table_to_xml('uc_hidden', true, false, '')",
    "relation that is read by its name in a body": "SELECT uc_reads()",
    "schema that is read": "SELECT schema_to_xml('uc_small', true, false, '')",
    "text that is run": "SELECT * FROM crosstab('SELECT ''r''::text, ''c''::text, uc_int(1)::text')"
                        " AS t(a text, b text)",
    "text that is run by a number": "SELECT * FROM crosstab2('SELECT ''r''::text, ''c''::text, uc_int(1)::text')",
    "text that is run by another name": "SELECT * FROM uc_table('SELECT ''r''::text, ''c''::text, uc_int(1)::text')",
}


@pytest.fixture(scope="module")
def forms(primary):
    """A database of its own with all of it."""
    primary.sql("CREATE DATABASE unseen OWNER app")
    with primary.connect("unseen") as connection:
        connection.execute(SCHEMA)
        connection.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;"
                           "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC")
    return primary


def pooler(forms, turnstile, **settings):
    """A pooler of this database, with one server unless told otherwise."""
    config = shop(forms, {"default_pool_size": 1, **settings})
    config["databases"][APP_DATABASE]["dbname"] = "unseen"
    return turnstile(config)


@pytest.fixture(params=["asks by itself", "asks a server of its clients"])
def t(forms, turnstile, request):
    """Both ways to know: with a login of its own, and without."""
    own = {"monitor_user": APP_USER, "monitor_interval": "200ms"}
    return pooler(forms, turnstile, **(own if request.param == "asks by itself" else {}))


def run(client, sql, extended):
    """Run it one way or the other."""
    if sql.startswith("COPY"):
        client.send(raw.query(sql))
        client.until("G")
        client.send(raw.copy_data(b"1\n"), raw.copy_done())
        messages = client.until("Z")
    else:
        messages = client.prepared(sql) if extended else client.query(sql)
    assert not sqlstate(messages), raw.find(messages, "E")[0].fields


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("form", FORMS)
def test_i2_a_setting_of_unseen_code_is_its_sessions(t, form, extended):
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        run(client, FORMS[form], extended)
        for _ in range(2):
            assert other.rows(SHOW) == [("4MB",)]
            assert client.rows(SHOW) == [("1234kB",)]
        assert pid_of(other) == pid


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("table, look, fresh, own", [
    ("uc_locked", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4713"
     " AND pid = pg_backend_pid()", "0", "1"),
    ("uc_making", "SELECT to_regclass('uc_made')", None, "uc_made"),
])
def test_i2_what_a_trigger_takes_or_makes_is_its_sessions(forms, turnstile, table, look, fresh, own,
                                                          extended):
    t = pooler(forms, turnstile, default_pool_size=2)
    with clients(t, 2) as (client, other):
        run(client, f"INSERT INTO {table} VALUES (1)", extended)
        wait_until(lambda: t.admin("SHOW PINS"))
        assert other.rows(look) == [(fresh,)]
        assert client.rows(look) == [(own,)]
    with clients(t, 2) as later:
        for c in later:
            c.query("BEGIN")
            assert c.rows(look) == [(fresh,)]


@pytest.mark.parametrize("sql", ["SELECT set_limit(0.75)", "SELECT uc_limit()"])
def test_i2_a_setting_of_a_function_in_c_reaches_nobody_else(t, sql):
    look = "SELECT current_setting('pg_trgm.similarity_threshold')"
    with clients(t, 2) as (client, other):
        pid = pid_of(client)
        assert other.rows("SELECT show_limit()") == client.rows("SELECT show_limit()")
        usual = client.rows(look)
        client.query(sql)
        assert other.rows(look) == usual and pid_of(other) == pid


@pytest.mark.parametrize("sql", [
    "INSERT INTO uc_plain VALUES (2)", "UPDATE uc_plain SET a = 3", "SELECT * FROM uc_triggered",
    "SELECT * FROM uc_through", "INSERT INTO uc_locally VALUES (1)", "SELECT uc_field.a FROM uc_plain"
    " uc_field", "SELECT 1 + 2", "SELECT setting FROM uc_settings WHERE name = 'work_mem'",
])
def test_what_leaves_nothing_asks_nothing(forms, t, sql):
    """Neither the question behind it nor the cleaning is sent."""
    with log_in(t) as client:
        client.query("SELECT 2")
        with forms.connect("unseen") as watcher:
            assert not sqlstate(client.query(sql))
            last = watcher.execute("SELECT query FROM pg_stat_activity WHERE usename = 'app' AND"
                                   " application_name NOT LIKE '%monitor%' AND datname = 'unseen'")
            assert [row[0] for row in last] == [sql]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i2_code_that_has_just_been_defined_counts_at_once(forms, turnstile, extended):
    """A statement prepared before is looked at again too."""
    t = pooler(forms, turnstile)
    table = f"uc_new_{'extended' if extended else 'simple'}"
    insert = f"INSERT INTO {table} VALUES (1)"
    with clients(t, 2) as (client, other):
        client.query(f"CREATE TABLE {table} (a int)")
        client.send(raw.parse("before", insert), raw.sync())
        client.until("Z")
        run(client, insert, extended)
        client.query(f"CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW"
                     " EXECUTE FUNCTION uc_trigger()")
        if extended:
            client.send(raw.bind("", "before"), raw.execute(), raw.sync())
            assert not sqlstate(client.until("Z"))
        else:
            run(client, insert, extended)
        assert other.rows(SHOW) == [("4MB",)]
        assert client.rows(SHOW) == [("1234kB",)]


def test_i2_code_that_somebody_else_defines_is_known_in_time(forms, turnstile):
    t = pooler(forms, turnstile)
    with clients(t, 2) as (client, other):
        client.query("CREATE TABLE uc_theirs (a int)")
        forms.sql("CREATE TRIGGER t BEFORE INSERT ON uc_theirs FOR EACH ROW"
                  " EXECUTE FUNCTION uc_trigger()", dbname="unseen")
        client.query("CREATE VIEW uc_any AS SELECT 1")  # one of ours, so it is asked again

        def is_known():
            client.query("INSERT INTO uc_theirs VALUES (1)")
            return other.rows(SHOW) == [("4MB",)]
        wait_until(is_known, 10)


def test_a_catalog_that_cannot_be_asked_stops_nobody(turnstile):
    def script(session):
        while (got := session.message()).kind != "X":
            session.send(raw.command_complete("SELECT 0"), raw.ready())

    def login(session):
        session.send(raw.auth_ok(), raw.backend_key_data(1, b"1234"), raw.ready())
        got = raw.Stream.message(session)
        assert "pg_trigger" in got.text
        session.send(raw.error("42501", "not for you"), raw.ready())

    with raw.FakeServer(script, login=login) as server:
        t = turnstile({"databases": {APP_DATABASE: {"host": server.host, "port": server.port}},
                       "pgturnstile": {"pool_mode": "transaction"}})
        with log_in(t) as client:
            assert raw.kinds(client.query("SELECT 2")) == "CZ"
        t.wait_log("not for you")


def test_i2_code_that_deallocates_is_not_felt_by_the_next(primary, turnstile):
    """Statements that we keep, and those of others, are looked for behind what nobody sees."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        client.query("SET work_mem = '1234kB'")
        client.prepared("SELECT 5", name="mine")
        server = pid_of(client)
        other.query("DO $$ BEGIN END $$")
        assert pid_of(client) == server
        for code in ("DEALLOCATE ALL", "DEALLOCATE pgt_begin"):
            pid_of(client)  # brings work_mem
            assert not sqlstate(other.query(f"DO $$ BEGIN EXECUTE '{code}'; END $$"))
            client.send(raw.bind("", "mine"), raw.execute(), raw.sync())
            assert raw.find(client.until("Z"), "D")[0].row == ("5",)
            assert client.rows("SHOW work_mem") == [("1234kB",)]
