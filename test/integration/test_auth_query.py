# SPDX-License-Identifier: ISC
#
# test_auth_query.py - users whose secrets a database knows: auth_query, auth_user, auth_dbname.
import contextlib
import hashlib
import threading
import time

import psycopg
import pytest

import raw
from conftest import APP_DATABASE
from rig import log_in, shop
from test_login import conversation
from turnstile import ADMIN_USER, merge
from waiting import wait_until

ASKER, ASKER_PASSWORD = "secret_asker", "asker-password"
USER, PASSWORD = "sq_anna", "anna's own"
LOST = "auth_query as"
SHADOW = "SELECT usename, passwd FROM pg_shadow WHERE usename=$1"
FUNCTION = "SELECT * FROM sq.secret_of($1)"
FOREVER = "1h"


@pytest.fixture(scope="module")
def server(primary):
    primary.role(ASKER, ASKER_PASSWORD, "SUPERUSER LOGIN")
    primary.role(USER, PASSWORD.replace("'", "''"))
    primary.sql("""
        CREATE SCHEMA sq;
        CREATE FUNCTION sq.secret_of(name text) RETURNS TABLE (usename text, passwd text)
            LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
            AS 'SELECT usename::text, passwd::text FROM pg_shadow WHERE usename = $1';
        """, dbname=APP_DATABASE)
    yield primary
    primary.sql("DROP SCHEMA sq CASCADE", dbname=APP_DATABASE)


@pytest.fixture
def bert(server):
    """A role that a test may do anything to."""
    server.sql("DROP ROLE IF EXISTS sq_bert")
    server.role("sq_bert", "one")
    yield "sq_bert"
    server.sql("DROP ROLE IF EXISTS sq_bert")


def config(server, settings=None, database=None):
    return shop(server, {"auth_user": ASKER, "auth_query_ttl": FOREVER, **(settings or {})}, database)


@pytest.fixture
def pooler(server, turnstile):
    def start(settings=None, database=None):
        return turnstile(config(server, settings, database), {ASKER: ASKER_PASSWORD})
    return start


def refusal(pooler, *args, **kwargs):
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(pooler, *args, **kwargs).close()
    return refused.value.fields


def gets_in(pooler, user, secret):
    try:
        log_in(pooler, user, secret).close()
    except raw.LoginRefused as refused:
        assert refused.fields["C"] == "28P01", refused
        return False
    return True


def time_to_challenge(pooler, user):
    with raw.RawClient(pooler.port) as client:
        began = time.monotonic()
        client.send(raw.startup({"user": user, "database": APP_DATABASE}))
        assert client.message().number == 10
        return time.monotonic() - began


def source(pooler):
    return pooler.admin("SHOW AUTH_QUERY")[0]


def whoami(pooler, user=USER, secret=PASSWORD, **kwargs):
    with log_in(pooler, user, secret, **kwargs) as client:
        return client.rows("SELECT current_user")[0][0]


# --- who gets in ----------------------------------------------------------------------------------
@pytest.mark.parametrize("query", [None, SHADOW, FUNCTION, SHADOW + ";"])
def test_a_user_of_the_database_gets_in(pooler, query):
    """Its SCRAM secret is all that we have: the server lets us in with the keys of its own login."""
    t = pooler({"auth_query": query} if query else {})
    assert whoami(t) == USER
    assert refusal(t, USER, "wrong")["C"] == "28P01"


@pytest.mark.parametrize("kind", ["plain", "md5", "scram"])
@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_each_secret_in_each_way(server, pooler, auth_type, kind):
    stored = {"plain": PASSWORD.replace("'", "''"),
              "md5": "md5" + hashlib.md5((PASSWORD + USER).encode()).hexdigest(),
              "scram": server.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [USER])}
    t = pooler({"auth_type": auth_type,
                "auth_query": f"SELECT usename, '{stored[kind]}' FROM pg_shadow WHERE usename=$1"},
               {"user": ASKER, "password": ASKER_PASSWORD})
    if (auth_type, kind) == ("scram-sha-256", "md5"):
        assert refusal(t, USER, PASSWORD)["C"] == "28P01"
    else:
        assert whoami(t) == ASKER
    assert refusal(t, USER, "wrong")["C"] == "28P01"


@pytest.mark.parametrize("usual", ["md5", "scram"])
@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_strangers_hear_the_same_as_wrong_passwords(server, pooler, auth_type, usual):
    secret = ("md5" + hashlib.md5((PASSWORD + USER).encode()).hexdigest() if usual == "md5"
              else server.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [USER]))
    t = pooler({"auth_type": auth_type,
                "auth_query": f"SELECT usename, '{secret}' FROM pg_shadow WHERE usename=$1"})
    known = conversation(t, USER, APP_DATABASE)
    for user, dbname in (("sq_anne", APP_DATABASE), ("sq_anne", "nodb")):
        heard = conversation(t, user, dbname)
        assert str(heard).replace("sq_anne", USER) == str(known)


def test_a_plain_secret_is_of_its_user_only(server, pooler):
    """What was made of a password is not taken for that of who comes when its user has left."""
    t = pooler({"auth_query": "SELECT usename, 'of ' || usename FROM pg_shadow WHERE usename=$1",
                "workers": 1}, {"user": ASKER, "password": ASKER_PASSWORD})
    for _ in range(5):
        for user, other in (USER, "postgres"), ("postgres", USER):
            assert whoami(t, user, "of " + user) == ASKER
            assert not gets_in(t, other, "of " + user)


def test_time_does_not_tell_strangers_from_plain_secrets(pooler):
    """What is made of a plain secret at each login takes a while: with so many iterations, 50 ms."""
    t = pooler({"auth_query": "SELECT usename, 'own' FROM pg_shadow WHERE usename=$1",
                "scram_iterations": 100000}, {"user": ASKER, "password": ASKER_PASSWORD})

    soonest = {USER: 60, "sq_anne": 60}

    def are_alike():  # what else this machine does makes them longer only
        for user in soonest:
            soonest[user] = min(soonest[user], *(time_to_challenge(t, user) for _ in range(5)))
        return soonest["sq_anne"] > soonest[USER] / 2
    wait_until(are_alike, 30, lambda: soonest)


def test_auth_file_comes_first(server, turnstile):
    t = turnstile(config(server, database={"user": ASKER, "password": ASKER_PASSWORD}),
                  {ASKER: ASKER_PASSWORD, USER: "of the file"})
    assert whoami(t, USER, "of the file") == ASKER
    assert refusal(t, USER, PASSWORD)["C"] == "28P01"
    assert t.admin("SHOW AUTH_QUERY") == []


def test_trust_asks_whether_there_is_such_a_user(pooler):
    t = pooler({"auth_type": "trust"}, {"user": ASKER, "password": ASKER_PASSWORD})
    assert whoami(t, USER, "") == ASKER
    assert refusal(t, "sq_nobody", "")["C"] == "28P01"


def test_any_asks_nobody(pooler):
    t = pooler({"auth_type": "any"}, {"user": ASKER, "password": ASKER_PASSWORD})
    assert whoami(t, "sq_nobody", "") == ASKER
    assert t.admin("SHOW AUTH_QUERY") == []


def test_auth_user_is_of_the_database(server, turnstile):
    t = turnstile(shop(server, database={"auth_user": ASKER, "auth_query": SHADOW}),
                  {ASKER: ASKER_PASSWORD})
    assert whoami(t) == USER
    assert source(t)["user"] == ASKER


def test_a_role_without_a_password_is_nobody(server, pooler, bert):
    server.sql(f"ALTER ROLE {bert} PASSWORD NULL")
    t = pooler()
    for secret in "", "one":
        assert refusal(t, bert, secret)["C"] == "28P01"


def test_auth_dbname(server, turnstile):
    """The query runs there, and users of the console are looked up too."""
    server.sql("DROP DATABASE IF EXISTS sq_auth")
    server.sql("CREATE DATABASE sq_auth")
    t = turnstile(merge(config(server, {
        "auth_dbname": "sq_auth", "admin_users": f"{ADMIN_USER}, {USER}",
        "auth_query": "SELECT usename, passwd FROM pg_shadow"
                      " WHERE usename=$1 AND current_database() = 'sq_auth'"}),
        {"databases": {"sq_auth": {"host": server.host, "port": server.port}}}),
        {ASKER: ASKER_PASSWORD})
    assert whoami(t) == USER
    assert source(t)["database"] == "sq_auth"
    with log_in(t, USER, PASSWORD, "pgbouncer") as console:
        assert console.rows("SHOW VERSION")


def test_users_of_the_console_need_auth_dbname(pooler):
    t = pooler({"admin_users": f"{ADMIN_USER}, {USER}"})
    assert refusal(t, USER, PASSWORD, "pgbouncer")["C"] == "28P01"


def test_auth_dbname_has_to_exist(server, turnstile):
    t = turnstile(config(server), {ASKER: ASKER_PASSWORD})
    with pytest.raises(psycopg.Error):
        t.reload({"pgturnstile": {"auth_dbname": "nowhere"}})
    assert 'auth_dbname: there is no database "nowhere"' in t.log_text()


# --- VALID UNTIL ----------------------------------------------------------------------------------
@pytest.mark.parametrize("query", [None, SHADOW, FUNCTION])
def test_an_expired_password_lets_nobody_in(server, pooler, bert, query):
    server.sql(f"ALTER ROLE {bert} VALID UNTIL '2020-01-01'")
    t = pooler({"auth_query": query} if query else {})
    assert refusal(t, bert, "one")["C"] == "28P01"


@pytest.mark.parametrize("until", ["infinity", "2999-01-01"])
def test_a_password_that_has_not_expired(server, pooler, bert, until):
    server.sql(f"ALTER ROLE {bert} VALID UNTIL '{until}'")
    assert whoami(pooler(), bert, "one") == bert


@pytest.mark.slow
def test_a_password_expires_while_it_is_kept(server, pooler, bert):
    t = pooler({"auth_query": SHADOW})
    server.sql(f"DO $$ BEGIN EXECUTE format('ALTER ROLE {bert} VALID UNTIL %L',"
               " clock_timestamp() + interval '3 s'); END $$")
    assert gets_in(t, bert, "one")
    wait_until(lambda: not gets_in(t, bert, "one"), what="it has expired")
    assert server.value("SELECT rolvaliduntil < now() FROM pg_roles WHERE rolname = %s", [bert])


# --- what is kept ---------------------------------------------------------------------------------
def test_what_was_found_is_kept(pooler):
    t = pooler()
    for _ in range(5):
        assert whoami(t) == USER
        assert refusal(t, "sq_nobody", "x")["C"] == "28P01"
    assert source(t)["lookups"] == 2 and source(t)["cached"] == 2


def test_nothing_is_kept_without_a_ttl(pooler):
    t = pooler({"auth_query_ttl": 0})
    for _ in range(3):
        assert whoami(t) == USER
    assert source(t)["lookups"] == 3


@pytest.mark.parametrize("change", ["PASSWORD 'two'", "NOLOGIN", "PASSWORD NULL",
                                    "VALID UNTIL '2020-01-01'"])
def test_a_revoked_secret_opens_the_door_no_longer_than_the_ttl(server, pooler, bert, change):
    t = pooler({"auth_query_ttl": "500ms"})
    assert gets_in(t, bert, "one")
    server.sql(f"ALTER ROLE {bert} {change}")
    wait_until(lambda: not gets_in(t, bert, "one"), 5, "the old secret is of no use")


def test_a_new_password_works_at_the_second_try(server, pooler, bert):
    """Who cannot prove it with what is kept is looked up again, though not more than once a second."""
    t = pooler()
    assert gets_in(t, bert, "one")
    server.sql(f"ALTER ROLE {bert} PASSWORD 'two'")
    wait_until(lambda: gets_in(t, bert, "two"), 5, "the new password is of use")
    assert not gets_in(t, bert, "one")


def test_a_new_user_gets_in_though_it_was_nobody(server, pooler, bert):
    t = pooler()
    server.sql(f"ALTER ROLE {bert} RENAME TO sq_late")
    try:
        assert not gets_in(t, "sq_bert", "one")
        server.sql("ALTER ROLE sq_late RENAME TO sq_bert")
        wait_until(lambda: gets_in(t, "sq_bert", "one"), 5, "it is somebody now")
    finally:
        server.sql("DROP ROLE IF EXISTS sq_late")


def test_wrong_passwords_are_not_a_lookup_each(pooler):
    t = pooler()
    for _ in range(20):
        assert refusal(t, USER, "wrong")["C"] == "28P01"
    assert source(t)["lookups"] < 10


def test_a_reload_forgets_all(pooler, server, bert):
    t = pooler()
    assert gets_in(t, bert, "one")
    server.sql(f"ALTER ROLE {bert} PASSWORD 'two'")
    t.reload({"pgturnstile": {"verbose": 0}})
    assert gets_in(t, bert, "two")


# --- its session ----------------------------------------------------------------------------------
PATH = ("SELECT usename, CASE WHEN current_setting('search_path') = 'pg_catalog' THEN passwd END"
        " FROM pg_shadow WHERE usename=$1")


def test_nobody_else_says_what_names_mean(server, pooler):
    """Neither the client, by any way of its startup packet, nor a setting of the role."""
    server.sql("""
        CREATE SCHEMA IF NOT EXISTS evil;
        CREATE TABLE IF NOT EXISTS evil.pg_shadow (usename name, passwd text);
        INSERT INTO evil.pg_shadow VALUES ('sq_evil', 'open sesame');
        GRANT USAGE ON SCHEMA evil TO PUBLIC; GRANT SELECT ON evil.pg_shadow TO PUBLIC""",
               dbname=APP_DATABASE)
    server.sql(f"ALTER ROLE {ASKER} SET search_path = evil, pg_catalog")
    try:
        t = pooler({"auth_query": PATH, "auth_query_ttl": 0})
        path = "evil, pg_catalog"
        for params in ({}, {"search_path": path},
                       {"options": "-c search_path=" + path.replace(" ", "\\ ")}):
            assert refusal(t, "sq_evil", "open sesame", **params)["C"] == "28P01"
            assert whoami(t, **params) == USER
    finally:
        server.sql(f"ALTER ROLE {ASKER} RESET search_path")
        server.sql("DROP SCHEMA evil CASCADE", dbname=APP_DATABASE)


@pytest.mark.parametrize("user", ["'; DROP TABLE sq.keep; --", '"', "$1", "\\", "%s%n", "x" * 127,
                                  "x" * 5000, "é", "\U0001f600" * 15])
def test_a_name_is_only_a_name(server, pooler, user):
    server.sql("CREATE TABLE IF NOT EXISTS sq.keep ()", dbname=APP_DATABASE)
    t = pooler({"auth_query": FUNCTION})
    assert refusal(t, user, "x")["C"] == "28P01"
    assert whoami(t) == USER
    assert server.value("SELECT to_regclass('sq.keep') IS NOT NULL", dbname=APP_DATABASE)


def test_a_name_that_is_no_text_is_nobody(pooler):
    t = pooler()
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": "a", "database": APP_DATABASE}).replace(b"\0a\0", b"\0\xff\0"))
        assert client.message().number == 10
    assert whoami(t) == USER


def test_it_is_in_no_pool(pooler):
    t = pooler()
    with log_in(t, USER, PASSWORD) as client:
        client.rows("SELECT 2")
        assert [row["user"] for row in t.admin("SHOW POOLS")
                if row["database"] == APP_DATABASE] == [USER]
        names = [row["user"] for row in t.admin("SHOW SERVERS")]
        assert sorted(names) == sorted([ASKER, USER])


# --- when it fails --------------------------------------------------------------------------------
BROKEN = ["SELECT usename, passwd FROM nowhere.at_all WHERE usename=$1",
          "SELECT usename, passwd FROM secret_of($1)",
          "SELECT usename FROM pg_shadow WHERE usename=$1",
          "SELECT usename, passwd FROM pg_shadow WHERE usename=$1 OR true",
          "SELEC"]


@pytest.mark.parametrize("query", BROKEN)
def test_errors_of_the_query_are_for_the_log(pooler, query):
    t = pooler({"auth_query": query})
    for _ in range(2):
        told = refusal(t, USER, PASSWORD)
        assert (told["C"], told["M"]) == ("57P03", "authentication is not possible at the moment")
    assert t.log_text().count(LOST) == 1
    assert source(t)["error"] in t.log_text()
    assert [e["kind"] for e in t.admin("SHOW EVENTS")].count("auth_query") == 1
    t.reload({"pgturnstile": {"auth_query": SHADOW}})
    assert whoami(t) == USER


def test_a_hint_for_names_without_schema(pooler):
    t = pooler({"auth_query": "SELECT usename, passwd FROM secret_of($1)"})
    refusal(t, USER, PASSWORD)
    assert "its search_path is pg_catalog: write schemas before names" in t.log_text()


def test_the_row_of_another_user_is_nobodys(server, pooler, bert):
    t = pooler({"auth_query": f"SELECT usename, passwd FROM pg_shadow WHERE usename='{bert}'"
                              " AND $1::text IS NOT NULL"})
    assert refusal(t, USER, "one")["C"] == "28P01"
    assert gets_in(t, bert, "one")


@pytest.mark.slow
def test_auth_user_is_not_let_in(server, turnstile):
    t = turnstile(config(server), {ASKER: "wrong"})
    told = refusal(t, USER, PASSWORD)
    assert told["C"] == "57P03" and ASKER not in str(told)
    assert f'password authentication failed for user "{ASKER}"' in source(t)["error"]


def test_it_is_answered_again(server, turnstile):
    t = turnstile(config(server, {"auth_query": "SELECT usename, passwd FROM sq.later"
                                                " WHERE usename=$1"}), {ASKER: ASKER_PASSWORD})
    assert refusal(t, USER, PASSWORD)["C"] == "57P03"
    server.sql("CREATE VIEW sq.later AS SELECT * FROM pg_shadow", dbname=APP_DATABASE)
    try:
        assert whoami(t) == USER
    finally:
        server.sql("DROP VIEW sq.later", dbname=APP_DATABASE)
    assert "auth_query is answered again" in t.log_text()
    assert source(t)["error"] is None


def test_a_lost_connection_is_made_anew(server, pooler):
    t = pooler({"auth_query_ttl": 0})
    assert whoami(t) == USER
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [ASKER])
    assert whoami(t) == USER


def test_a_database_that_is_not_there_has_no_users(server, turnstile):
    t = turnstile(config(server), {ASKER: ASKER_PASSWORD})
    t.reload({"databases": {"*": {"host": server.host, "port": server.port}}})
    assert refusal(t, USER, PASSWORD, "sq_nowhere")["C"] == "28P01"
    assert LOST not in t.log_text()
    assert whoami(t, dbname="postgres") == USER


def test_a_function_that_finds_no_data(server, pooler):
    """As STRICT does: there is no such user."""
    server.sql("""CREATE OR REPLACE FUNCTION sq.strict_of(name text, OUT u text, OUT p text)
        LANGUAGE plpgsql AS 'BEGIN SELECT usename, passwd INTO STRICT u, p FROM pg_catalog.pg_shadow'
                            ' WHERE usename = name; END'""", dbname=APP_DATABASE)
    t = pooler({"auth_query": "SELECT * FROM sq.strict_of($1)"})
    assert refusal(t, "sq_nobody", "x")["C"] == "28P01"
    assert whoami(t) == USER


def test_a_query_that_fails_for_strangers_fills_no_log(server, pooler):
    server.sql("""CREATE OR REPLACE FUNCTION sq.angry(name text, OUT u text, OUT p text)
        LANGUAGE plpgsql AS 'BEGIN SELECT usename, passwd INTO u, p FROM pg_catalog.pg_shadow'
        ' WHERE usename = name; IF u IS NULL THEN RAISE ''who?''; END IF; END'""",
               dbname=APP_DATABASE)
    t = pooler({"auth_query": "SELECT * FROM sq.angry($1)", "auth_query_ttl": 0})
    for _ in range(3):
        assert refusal(t, "sq_nobody", "x")["C"] == "57P03"
        assert whoami(t) == USER
    assert t.log_text().count(LOST) == 1


# --- while it waits -------------------------------------------------------------------------------
SLOW = SHADOW + " AND pg_advisory_xact_lock_shared(4711) IS NOT NULL"


@contextlib.contextmanager
def held(server):
    """Lookups wait in the database."""
    with server.connect(APP_DATABASE) as holder:
        holder.execute("SELECT pg_advisory_lock(4711)")
        yield holder


def test_nobody_else_waits_for_a_lookup(server, turnstile):
    """Nor is it asked twice for those who wait for the same."""
    t = turnstile(config(server, {"auth_query": SLOW, "workers": 1}),
                  {ASKER: ASKER_PASSWORD, "app": "app-password"})
    got = []

    def wait():
        got.append(whoami(t))

    with held(server) as holder:
        threads = [threading.Thread(target=wait) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: t.admin("SHOW AUTH_QUERY") and source(t)["waiting"] == 5)
        for _ in range(3):
            assert whoami(t, "app", "app-password") == "app"
        assert not got
        holder.execute("SELECT pg_advisory_unlock(4711)")
        for thread in threads:
            thread.join()
    assert got == [USER] * 5
    assert source(t)["lookups"] == 1 and source(t)["waiting"] == 0


def test_who_hangs_up_while_it_is_looked_up(server, pooler):
    t = pooler({"auth_query": SLOW})
    with held(server):
        for how in "close", "reset":
            client = raw.RawClient(t.port)
            client.send(raw.startup({"user": USER, "database": APP_DATABASE}))
            wait_until(lambda: t.admin("SHOW AUTH_QUERY") and source(t)["waiting"])
            getattr(client, how)()
    assert whoami(t) == USER


def test_a_proof_that_comes_early_waits_for_the_lookup(server, pooler):
    t = pooler({"auth_query": SLOW, "auth_type": "plain"},
               {"user": ASKER, "password": ASKER_PASSWORD})
    with held(server) as holder, raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": USER, "database": APP_DATABASE}), raw.password(PASSWORD))
        wait_until(lambda: t.admin("SHOW AUTH_QUERY") and source(t)["waiting"])
        holder.execute("SELECT pg_advisory_unlock(4711)")
        assert raw.kinds(client.until("Z"))[:2] == "RR"


def test_a_reload_while_it_is_looked_up(server, pooler):
    t = pooler({"auth_query": SLOW})
    with held(server), raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": USER, "database": APP_DATABASE}))
        wait_until(lambda: t.admin("SHOW AUTH_QUERY") and source(t)["waiting"])
        t.reload({"pgturnstile": {"auth_query": SHADOW}})
        assert client.message().number == 10


@pytest.mark.slow
def test_an_answer_that_does_not_come(server, pooler):
    t = pooler({"auth_query": SLOW})
    with held(server):
        told = refusal(t, USER, PASSWORD, timeout=30)
        assert told["C"] == "57P03"
        assert source(t)["error"] == "no answer"
    wait_until(lambda: not source(t)["waiting"])
    assert whoami(t) == USER


def test_shutdown_while_it_is_looked_up(server, pooler):
    t = pooler({"auth_query": SLOW})
    with held(server), raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": USER, "database": APP_DATABASE}))
        wait_until(lambda: t.admin("SHOW AUTH_QUERY") and source(t)["waiting"])
        t.stop()
