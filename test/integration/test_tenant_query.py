# SPDX-License-Identifier: ISC
#
# test_tenant_query.py - tenants that a database knows: at start, refreshed, notified, looked up.
import contextlib
import threading

import psycopg
import pytest

import raw
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, sqlstate
from tenancy import SETTING, TENANTS, both_pools, enter, show, tenants
from turnstile import ADMIN_PASSWORD, ADMIN_USER
from waiting import wait_until

ASKER, ASKER_PASSWORD = "tenant_asker", "asker-password"
TABLE = "known_tenants"
QUERY = f"SELECT tenant, business_id, tier, rate, pool_size FROM {TABLE}"
# What tenant_refresh is where a test wants none.
NEVER = "1h"


@pytest.fixture(scope="module")
def server(primary):
    primary.role(ASKER, ASKER_PASSWORD)
    return primary


@pytest.fixture
def known(server):
    """The table of tenants: acme (of the file too, with another id) and umbrella."""
    with server.connect(APP_DATABASE) as connection:
        connection.execute(f"DROP TABLE IF EXISTS {TABLE}")
        connection.execute(f"CREATE TABLE {TABLE} (tenant text, business_id text, tier text,"
                           " rate text, pool_size int)")
        connection.execute(f"GRANT SELECT ON {TABLE} TO {ASKER}")
        connection.execute(f"INSERT INTO {TABLE} VALUES ('umbrella', '77', 'basic', NULL, NULL)")
        yield connection


def add(connection, *values):
    row = (*values, *[None] * (5 - len(values)))
    connection.execute(f"INSERT INTO {TABLE} VALUES (%s, %s, %s, %s, %s)", row)


def config(server, settings=None, changes=None):
    return tenants(server, {"tenant_query": QUERY, "tenant_refresh": NEVER,
                            "monitor_user": ASKER, "monitor_password": ASKER_PASSWORD,
                            "tenant_unknown_ttl": "10m", **(settings or {})}, changes=changes)


def source(pooler):
    return pooler.admin("SHOW TENANT_QUERY")[0]


def wait_read(pooler):
    """Until all tenants have been read."""
    wait_until(lambda: source(pooler)["read_at"], what="tenant_query was not read")
    return pooler


def refusal(pooler, *args, **kwargs):
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(pooler, *args, **kwargs).close()
    return refused.value.fields


def knows(pooler, tenant):
    return tenant in [row["name"] for row in pooler.admin("SHOW TENANTS")]


# --- all of them ----------------------------------------------------------------------------------
@pytest.mark.usefixtures(both_pools.__name__)
def test_read_at_start(known, server, turnstile):
    add(known, "hooli", "88", None, "7/s", 3)
    t = wait_read(turnstile(config(server)))
    with enter(t, "umbrella") as client:
        assert show(client, SETTING) == "77"
        assert client.rows("SELECT current_user") == [(APP_USER,)]
    rows = {row["name"]: row for row in t.admin("SHOW TENANTS")}
    assert (rows["umbrella"]["business_id"], rows["umbrella"]["tier"]) == ("77", "basic")
    assert (rows["hooli"]["business_id"], rows["hooli"]["tier"], rows["hooli"]["rate"]) \
        == ("88", None, "7/s")
    assert source(t)["tenants"] == 2 and source(t)["lookups"] == 0
    assert {row["name"]: row["tenants"] for row in t.admin("SHOW TIERS")}["basic"] == 4


def test_the_file_wins(known, server, turnstile):
    add(known, "acme", "99")
    add(known, "impostor", "42")
    t = wait_read(turnstile(config(server)))
    with enter(t, "acme") as client:
        assert show(client, SETTING) == "42"
    assert t.log_contains('"impostor" is passed over: business_id 42 belongs to tenant acme')
    assert (source(t)["in_file"], source(t)["refused"], source(t)["tenants"]) == (1, 1, 1)
    assert refusal(t, f"{APP_USER}.impostor")["C"] == "28000"


BAD_ROWS = {
    "no id": (("bad", None), "business_id is empty"),
    "no name": (("", "5"), "tenant is empty"),
    "no such tier": (("bad", "5", "golden"), 'no tier "golden"'),
    "no rate": (("bad", "5", "basic", "lots"), "rate: "),
    "no size": (("bad", "5", "basic", None, -1), "pool_size: "),
    "the same id": (("bad", "77"), "business_id 77 belongs to tenant umbrella"),
    "the same name": (("umbrella", "5"), "has business_id 77"),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_a_bad_row_is_passed_over(known, server, turnstile, bad):
    row, words = BAD_ROWS[bad]
    add(known, *row)
    add(known, "hooli", "88")
    t = wait_read(turnstile(config(server)))
    assert t.log_contains(f"passed over: .*{words}")
    assert (source(t)["refused"], source(t)["tenants"]) == (1, 2)
    enter(t, "umbrella").close()
    enter(t, "hooli").close()


@pytest.mark.tsan
def test_refreshed(known, server, turnstile):
    t = wait_read(turnstile(config(server, {"tenant_refresh": "1s"})))
    with enter(t, "umbrella") as client:
        add(known, "hooli", "88")
        known.execute(f"UPDATE {TABLE} SET rate = '5/s' WHERE tenant = 'umbrella'")
        wait_until(lambda: knows(t, "hooli"), what="the new tenant did not come")
        rates = {row["name"]: row["rate"] for row in t.admin("SHOW TENANTS")}
        assert rates["umbrella"] == "5/s"
        assert client.rows("SELECT 2") == [("2",)]
        known.execute(f"DELETE FROM {TABLE} WHERE tenant = 'umbrella'")
        assert [m.fields["C"] for m in client.until_closed() if m.kind == "E"] == ["57P01"]

    def is_unknown():  # to all threads
        try:
            log_in(t, f"{APP_USER}.umbrella").close()
        except raw.LoginRefused as refused:
            return refused.fields["C"] == "28000"
    wait_until(is_unknown)


def test_notify(known, server, turnstile):
    t = wait_read(turnstile(config(server)))
    assert refusal(t, f"{APP_USER}.hooli")["C"] == "28000"
    add(known, "hooli", "88")
    known.execute("NOTIFY pgturnstile_tenants")
    wait_until(lambda: knows(t, "hooli"), what="the new tenant did not come")
    enter(t, "hooli").close()


def test_reload_keeps_them(known, server, turnstile):
    t = wait_read(turnstile(config(server)))
    with enter(t, "umbrella") as client:
        known.execute(f"ALTER TABLE {TABLE} RENAME TO {TABLE}_gone")
        try:
            t.reload({"pgturnstile": {"query_timeout": 77}})
            t.wait_log("tenant_query: .*does not exist")
            assert client.rows("SELECT 2") == [("2",)]
            enter(t, "umbrella").close()
            assert "does not exist" in source(t)["error"]
            t.admin("SET query_timeout = 78")
            enter(t, "umbrella").close()
        finally:
            known.execute(f"ALTER TABLE {TABLE}_gone RENAME TO {TABLE}")
        add(known, "hooli", "88")
        wait_until(lambda: knows(t, "hooli"), what="the query was not asked again")
        assert source(t)["error"] is None


def test_a_tier_that_a_reload_takes_away(known, server, turnstile):
    add(known, "hooli", "88", "gold")
    t = wait_read(turnstile(config(server, changes={"tiers": {"gold": {"rate": "9/s"}}})))
    enter(t, "hooli").close()
    t.reload({"tiers": {"gold": None}})
    wait_until(lambda: source(t)["refused"] == 1, what="the row was not refused")
    enter(t, "umbrella").close()
    assert refusal(t, f"{APP_USER}.hooli")["C"] == "28000"


def test_the_file_takes_one_over(known, server, turnstile):
    t = wait_read(turnstile(config(server)))
    with enter(t, "umbrella") as client:
        t.reload({"tenants": {"umbrella": {"tier": "basic", "business_id": "78"}}})
        assert [m.fields["C"] for m in client.until_closed() if m.kind == "E"] == ["57P01"]
    with enter(t, "umbrella") as client:
        assert show(client, SETTING) == "78"


@pytest.mark.parametrize("query, words", [
    (f"SELECT tenant, business_id, 1 AS rat FROM {TABLE}", "unknown column .rat., did you mean rate"),
    (f"SELECT tenant, 1 AS host FROM {TABLE}", "unknown column .host."),
    (f"SELECT tenant FROM {TABLE}", "no column .business_id."),
    (f"SELECT tenant, business_id, tenant FROM {TABLE}", "comes twice|ambiguous|more than once"),
    ("SELEC", "syntax error"),
    (f"SELECT tenant, business_id FROM {TABLE}; DROP TABLE {TABLE}", "syntax error"),
])
def test_a_query_that_makes_no_sense(known, server, turnstile, query, words):
    t = turnstile(config(server, {"tenant_query": query}))
    t.wait_log(f"tenant_query: .*({words})")
    enter(t, "acme").close()
    fields = refusal(t, f"{APP_USER}.umbrella")
    assert fields["C"] == "57P03" and "cannot be looked up now" in fields["M"]
    t.reload({"pgturnstile": {"tenant_query": QUERY}})
    wait_read(t)
    enter(t, "umbrella").close()


def test_a_query_with_a_comment_at_its_end(known, server, turnstile):
    t = wait_read(turnstile(config(server, {"tenant_query": QUERY + " -- all"})))
    enter(t, "umbrella").close()


@pytest.mark.parametrize("settings, words", [
    ({"tenant_database": "nowhere"}, "tenant_database: there is no such entry"),
    ({"monitor_user": None, "monitor_password": None}, "tenant_query: nobody to ask as"),
    ({"tenant_by": None}, "tenant_by: there are tenants, but no way to tell them"),
])
def test_a_configuration_that_makes_no_sense(known, server, turnstile, settings, words):
    t = turnstile(config(server))
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        t.reload({"pgturnstile": settings, "tenants": {name: None for name in TENANTS}})
    assert t.log_contains(words)


def test_shown_in_pieces(known, server, turnstile):
    """More than are made into rows at once, in both protocols."""
    known.execute(f"INSERT INTO {TABLE} SELECT 'm' || n, 'i' || n FROM generate_series(1, 700) n")
    t = wait_read(turnstile(config(server)))
    expected = {*TENANTS, "umbrella", *(f"m{n}" for n in range(1, 701))}
    with enter(t, "m600") as client, log_in(t, ADMIN_USER, ADMIN_PASSWORD, t.console) as console:
        client.rows("SELECT 2")
        rows = t.admin("SHOW TENANTS")
        assert len(rows) == len(expected) and {row["name"] for row in rows} == expected
        assert {row["name"]: row["cl_active"] for row in rows if row["cl_active"]} == {"m600": 1}
        console.send(raw.parse("", "SHOW TENANTS"), raw.bind(), *[raw.execute("", 300)] * 3,
                     raw.sync())
        messages = console.until("Z")
        assert [m.kind for m in messages if m.kind != "D"] == list("12ssCZ")
        names = [m.row[0] for m in raw.find(messages, "D")]
        assert len(names) == len(expected) and set(names) == expected


# --- one of them ----------------------------------------------------------------------------------
@pytest.fixture
def late(known, server, turnstile):
    """A pooler that has read all tenants, and one that came later."""
    t = wait_read(turnstile(config(server, changes={"users": {APP_USER: {"tenant_switch": "yes"}}})))
    add(known, "hooli", "88", None, "7/s")
    return t


def test_looked_up_at_login(known, late):
    with enter(late, "hooli") as client:
        assert show(client, SETTING) == "88"
        assert show(client, SETTING) == "88"
    enter(late, "hooli").close()
    assert (source(late)["lookups"], source(late)["single"]) == (1, 1)
    rates = {row["name"]: row["rate"] for row in late.admin("SHOW TENANTS")}
    assert rates["hooli"] == "7/s"


def test_looked_up_by_id(known, server, turnstile):
    t = wait_read(turnstile(config(server, {"tenant_by": "startup"})))
    add(known, "hooli", "88")
    with log_in(t, **{SETTING: "88"}) as client:
        assert show(client, SETTING) == "88"
    assert knows(t, "hooli")


def test_looked_up_by_user(known, server, turnstile):
    add(known, APP_USER, "99")
    t = turnstile(config(server, {"tenant_by": ["user", "user_suffix"]}))
    with log_in(t) as client:
        assert show(client, SETTING) == "99"
    with enter(t, "acme") as client:
        assert show(client, SETTING) == "42"


def test_a_negative_answer_is_remembered(known, late):
    for _ in range(3):
        assert refusal(late, f"{APP_USER}.nobody")["C"] == "28000"
    assert (source(late)["lookups"], source(late)["unknown"]) == (1, 1)
    add(known, "nobody", "13")
    assert refusal(late, f"{APP_USER}.nobody")["C"] == "28000"
    known.execute("NOTIFY pgturnstile_tenants")
    wait_until(lambda: knows(late, "nobody"), what="the new tenant did not come")
    enter(late, "nobody").close()


def test_a_negative_answer_is_forgotten_in_time(known, server, turnstile):
    t = wait_read(turnstile(config(server, {"tenant_unknown_ttl": "1s"})))
    assert refusal(t, f"{APP_USER}.hooli")["C"] == "28000"
    add(known, "hooli", "88")

    def comes_in():
        with contextlib.suppress(raw.LoginRefused):
            enter(t, "hooli").close()
            return True

    wait_until(comes_in, what="the tenant stayed unknown")


def test_unknown_ones_in_a_tier_are_looked_up_first(known, server, turnstile):
    t = wait_read(turnstile(config(server, {"unknown_tenant": "basic"})))
    add(known, "hooli", "88")
    with enter(t, "hooli") as client:
        assert show(client, SETTING) == "88"
    with enter(t, "visitor") as client:
        assert show(client, SETTING) == "visitor"
    # Named as another's id: it would see that one's rows.
    assert refusal(t, f"{APP_USER}.88")["C"] == "28000"
    add(known, "late", "66")
    assert refusal(t, f"{APP_USER}.66")["C"] == "28000"


def test_a_new_id_is_noticed(known, late):
    enter(late, "umbrella").close()
    known.execute(f"UPDATE {TABLE} SET business_id = '79' WHERE tenant = 'umbrella'")
    enter(late, "hooli").close()
    assert source(late)["tenants"] == 2
    add(known, "umbrella79", "80")
    known.execute(f"UPDATE {TABLE} SET tenant = 'other' WHERE business_id = '80'")
    enter(late, "other").close()


@pytest.mark.parametrize("name", ["x" * 2000, "caf\xe9", "a'b", "a\\b", "$1", "; DROP TABLE x; --"],
                         ids=range(6))
def test_odd_names(late, name):
    assert refusal(late, f"{APP_USER}.{name}")["C"] == "28000"
    enter(late, "umbrella").close()


def test_bytes_that_are_no_text(late):
    late.reload({"pgturnstile": {"auth_type": "trust"}})
    packet = raw.startup({"user": "app.XX", "database": APP_DATABASE}).replace(b"XX", b"\xff\xfe")
    with raw.RawClient(late.port) as client:
        client.send(packet)
        assert [b"C28000\0" in m.body for m in client.until_closed() if m.kind == "E"] == [True]
    enter(late, "hooli").close()


def come(t, tenant):
    """Says at another address who it is, without waiting for anything."""
    client = raw.RawClient(t.port, source="127.0.0.2")
    client.send(raw.startup({"user": f"{APP_USER}.{tenant}", "database": APP_DATABASE}))
    return client


@pytest.mark.tsan
def test_addresses_take_turns_in_lookups(known, server, turnstile):
    """A stranger's many names do not make a new tenant of another address wait for all of them."""
    known.execute("CREATE OR REPLACE FUNCTION slow_tenants() RETURNS TABLE (tenant text, business_id text)"
                  " LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN QUERY"
                  f" SELECT k.tenant, k.business_id FROM {TABLE} AS k; END $$")
    t = wait_read(turnstile(config(server, {"tenant_query": "SELECT * FROM slow_tenants()"})))
    add(known, "hooli", "88")
    with contextlib.ExitStack() as crowd:
        for number in range(400):
            crowd.enter_context(come(t, f"n{number}"))
        wait_until(lambda: source(t)["waiting"] > 200)
        enter(t, "hooli").close()
        assert source(t)["waiting"] > 50
    wait_until(lambda: source(t)["waiting"] == 0)
    known.execute("DROP FUNCTION slow_tenants")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_lookup_that_nobody_waits_for_is_not_made(known, late, server, how):
    with server.connect(APP_DATABASE, autocommit=False) as holder:
        holder.execute(f"LOCK TABLE {TABLE}")
        crowd = [come(late, f"n{number}") for number in range(100)]
        wait_until(lambda: source(late)["waiting"] == 100)
        for client in crowd:
            getattr(client, how)()
        wait_until(lambda: source(late)["waiting"] == 0)
    enter(late, "hooli").close()
    assert source(late)["lookups"] == 2


@pytest.mark.tsan
def test_many_at_once(known, late):
    known.execute(f"INSERT INTO {TABLE} SELECT 'm' || n, 'i' || n FROM generate_series(1, 200) n")
    seen, wrong = [], []

    def come_in(first):
        for n in range(first, 201, 8):
            with enter(late, f"m{n}") as client:
                (seen if show(client, SETTING) == f"i{n}" else wrong).append(n)

    threads = [threading.Thread(target=come_in, args=(i + 1,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(seen), wrong) == (200, [])
    assert source(late)["single"] == 200


def test_others_are_served_while_one_waits(known, server, turnstile):
    t = wait_read(turnstile(config(server, {"client_login_timeout": "2s", "workers": 1})))
    add(known, "hooli", "88")
    refused = []

    def come_in():
        refused.append(refusal(t, f"{APP_USER}.hooli"))

    with server.connect(APP_DATABASE, autocommit=False) as holder:
        holder.execute(f"LOCK TABLE {TABLE}")
        waiting = threading.Thread(target=come_in)
        waiting.start()
        wait_until(lambda: source(t)["waiting"] == 1, what="nobody waits")
        with enter(t, "acme") as client:
            assert show(client, SETTING) == "42"
        waiting.join()
    assert refused[0]["M"] == "client_login_timeout"
    enter(t, "hooli").close()


def test_its_connection_is_shown(known, server, turnstile):
    t = wait_read(turnstile(config(server)))
    pids = {str(pid) for pid, in known.execute(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE %s AND usename = %s",
        [f"%{QUERY}%", ASKER]).fetchall()}
    assert pids and pids <= {str(row["remote_pid"]) for row in t.admin("SHOW SERVERS")}


# --- chosen in a session -------------------------------------------------------------------------
@pytest.fixture
def switching(known, server, turnstile):
    t = wait_read(turnstile(config(
        server, {"tenant_by": ["user_suffix", "set", "comment"], "tenant_pool": "shared"},
        changes={"users": {APP_USER: {"tenant_switch": "yes"}}})))
    add(known, "hooli", "88")
    add(known, "pied", "89")
    with log_in(t) as client:
        client.pooler = t
        yield client


def test_looked_up_by_set(switching):
    assert raw.kinds(switching.query(f"SET {SETTING} = '88'")) == "CZ"
    assert switching.rows(f"SELECT current_setting('{SETTING}'), 2") == [("88", "2")]
    assert sqlstate(switching.query(f"SET {SETTING} = '404'")) == "28000"
    assert switching.rows(f"SELECT current_setting('{SETTING}'), 3") == [("88", "3")]
    assert switching.rows(f"SELECT set_config('{SETTING}', '89', false)") == [("89",)]
    assert source(switching.pooler)["lookups"] == 3


def test_looked_up_in_a_transaction(switching):
    switching.query("BEGIN")
    assert raw.kinds(switching.query(f"SET LOCAL {SETTING} = '88'")) == "CZ"
    assert switching.rows(f"SELECT current_setting('{SETTING}'), 2") == [("88", "2")]
    switching.query("COMMIT")


def test_looked_up_in_a_pipeline(switching):
    switching.send(raw.query(f"SET {SETTING} = '88'"),
                   raw.query(f"SELECT current_setting('{SETTING}'), 2"),
                   raw.query(f"SET {SETTING} = '404'"),
                   raw.query(f"SET {SETTING} = '89'"),
                   raw.query(f"SELECT current_setting('{SETTING}'), 3"))
    answers = [switching.until("Z") for _ in range(5)]
    assert [m.row for m in raw.find(answers[1], "D")] == [("88", "2")]
    assert sqlstate(answers[2]) == "28000"
    assert [m.row for m in raw.find(answers[4], "D")] == [("89", "3")]


def test_looked_up_by_a_bound_value(switching):
    messages = switching.prepared(f"SELECT set_config('{SETTING}', $1, false)", ["88"])
    assert [m.row for m in raw.find(messages, "D")] == [("88",)]
    assert switching.prepared("SELECT current_setting($1), 2", [SETTING])[-2].kind == "C"
    assert switching.rows(f"SELECT current_setting('{SETTING}'), 2") == [("88", "2")]


def test_looked_up_by_a_comment(switching):
    text = f"SELECT current_setting('{SETTING}'), 2 /*business_id='88'*/"
    assert switching.rows(text) == [("88", "2")]
    messages = switching.prepared(text.replace("88", "89"))
    assert [m.row for m in raw.find(messages, "D")] == [("89", "2")]
    assert sqlstate(switching.query(text.replace("88", "404"))) == "28000"


def test_i7_a_lookup_is_cancelled(switching, server):
    with server.connect(APP_DATABASE, autocommit=False) as holder:
        holder.execute(f"LOCK TABLE {TABLE}")
        switching.send(raw.query(f"SET {SETTING} = '88'"))
        wait_until(lambda: source(switching.pooler)["waiting"] == 1, what="nobody waits")
        assert [row["state"] for row in switching.pooler.admin("SHOW CLIENTS")
                if row["user"] == APP_USER] == ["waiting"]
        switching.cancel()
        assert sqlstate(switching.until("Z")) == "57014"
    assert raw.kinds(switching.query(f"SET {SETTING} = '88'")) == "CZ"
    assert switching.rows(f"SELECT current_setting('{SETTING}'), 2") == [("88", "2")]


def test_i3_a_lookup_has_its_time(switching, server):
    t = switching.pooler
    with server.connect(APP_DATABASE, autocommit=False) as holder:
        holder.execute(f"LOCK TABLE {TABLE}")
        with t.run_with_config({"pgturnstile": {"query_wait_timeout": "200ms"}}):
            switching.send(raw.query(f"SET {SETTING} = '88'"), raw.query(f"SET {SETTING} = '42'"))
            messages = switching.until("Z")
            assert sqlstate(messages) == "57P03"
            assert "query_wait_timeout" in raw.find(messages, "E")[0].fields["M"]
            assert raw.kinds(switching.until("Z")) == "CZ"
        assert source(t)["waiting"] == 1
    wait_until(lambda: source(t)["waiting"] == 0)
    assert switching.rows(f"SELECT current_setting('{SETTING}'), 2") == [("42", "2")]
    assert raw.kinds(switching.query(f"SET {SETTING} = '88'")) == "CZ"


# --- a database that does not answer -------------------------------------------------------------
@pytest.fixture
def own_server():
    """A server that may be stopped."""
    server = Postgres.primary(name="tenants")
    server.role(APP_USER, APP_PASSWORD)
    server.role(ASKER, ASKER_PASSWORD)
    server.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    with server.connect(APP_DATABASE) as connection:
        connection.execute(f"CREATE TABLE {TABLE} (tenant text, business_id text, tier text,"
                           " rate text, pool_size int)")
        connection.execute(f"GRANT SELECT ON {TABLE} TO {ASKER}")
        add(connection, "umbrella", "77")
    yield server
    server.remove()


@pytest.mark.slow
def test_down_at_start(own_server, turnstile):
    own_server.stop()
    t = turnstile(config(own_server))
    fields = refusal(t, f"{APP_USER}.umbrella")
    assert fields["C"] == "57P03" and "cannot be looked up now" in fields["M"], fields
    assert source(t)["error"]
    own_server.start()
    wait_read(t)
    with enter(t, "umbrella") as client:
        assert show(client, SETTING) == "77"


@pytest.mark.slow
def test_down_later(own_server, turnstile):
    t = wait_read(turnstile(config(own_server, {"tenant_refresh": "1s"})))
    own_server.restart()
    t.wait_log("tenant_query: .*the tenants known so far stay")
    wait_until(lambda: source(t)["error"] is None, what="it was not asked again")
    assert knows(t, "umbrella")
    enter(t, "umbrella").close()
