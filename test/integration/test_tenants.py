# SPDX-License-Identifier: ISC
#
# test_tenants.py - whose connection it is, whose rows it sees, and that it stays so (I1).
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, sqlstate
from tenancy import (ROWS_EACH, SETTING, TENANTS, both_pools, connect, enter, errors, make_ledger,
                     show, tenants)
from turnstile import merge
from waiting import wait_until

pytestmark = pytest.mark.usefixtures(both_pools.__name__)

OWN, OTHER = TENANTS["acme"], TENANTS["globex"]


@pytest.fixture(scope="module")
def ledger(primary):
    make_ledger(primary)
    return primary


@pytest.fixture
def acme(ledger, turnstile):
    """A client of acme, in transaction pooling."""
    with enter(turnstile(tenants(ledger)), "acme") as client:
        yield client


def refusal(*args, **kwargs):
    """The error that a login ends with."""
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(*args, **kwargs).close()
    return refused.value.fields


# --- who it is --------------------------------------------------------------------------------
WAYS = {
    "user": ({"tenants": {"acme": {"tier": "basic", "business_id": OWN, "user": "app"}}}, {}),
    "database": ({"tenants": {"acme": {"tier": "basic", "business_id": OWN, "database": "shop"}}},
                 {}),
    "user_suffix": ({}, {"user": "app.acme"}),
    "startup": ({}, {SETTING: OWN}),
    "startup, in options": ({}, {"options": f"-c {SETTING}={OWN}"}),
    "startup, in long options": ({}, {"options": f"--{SETTING}={OWN} -c geqo=off"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_tenant_by(ledger, turnstile, way):
    changes, login = WAYS[way]
    t = turnstile(tenants(ledger, {"tenant_by": way.split(",")[0]}, changes=changes))
    with log_in(t, **login) as client:
        assert show(client, SETTING) == OWN
        assert client.rows("SELECT DISTINCT business_id FROM ledger") == [(OWN,)]
        assert client.rows("SELECT current_user") == [(APP_USER,)]
        assert {row["name"]: row["cl_active"] for row in t.admin("SHOW TENANTS")}["acme"] == 1


def test_the_first_way_that_names_a_tenant_counts(ledger, turnstile):
    t = turnstile(tenants(ledger, {"tenant_by": ["startup", "user_suffix"]}))
    with log_in(t, **{SETTING: OWN}) as client:
        assert show(client, SETTING) == OWN
    with enter(t, "globex") as client:
        assert show(client, SETTING) == OTHER


@pytest.mark.parametrize("settings, login, state, words", [
    ({}, {"user": "app.nobody"}, "28000", ["nobody", "user_suffix", "unknown_tenant"]),
    ({"tenant_by": "startup"}, {SETTING: "13"}, "28000", ["13", "startup", "unknown_tenant"]),
    ({"tenant_by": "user"}, {}, "28000", ["tenant_by"]),
    ({"tenant_by": "startup"}, {}, "28000", ["tenant_by"]),
    ({"tenant_by": "startup"}, {SETTING: ""}, "42501", ["empty", "startup"]),
    ({"tenant_by": "startup"}, {"options": f"-c {SETTING}="}, "42501", ["empty", "startup"]),
    ({}, {"user": "app."}, "42501", ["empty", "user_suffix"]),
    ({}, {"user": "app.acme", SETTING: OTHER}, "42501", [SETTING]),
    ({}, {"user": "app.acme", "options": f"-c {SETTING.upper()}={OTHER}"}, "42501", [SETTING]),
])
def test_refused_at_login(ledger, turnstile, settings, login, state, words):
    fields = refusal(turnstile(tenants(ledger, settings)), **login)
    assert fields["C"] == state
    assert all(word in fields["M"] for word in words), fields


def test_a_stranger_learns_nothing_of_tenants(ledger, turnstile):
    t = turnstile(tenants(ledger))
    known, unknown = (refusal(t, user, "wrong") for user in ("app.acme", "app.nobody"))
    assert known["C"] == unknown["C"] == "28P01"
    assert known["M"].replace("acme", "") == unknown["M"].replace("nobody", "")


def test_an_unknown_tenant_in_a_tier(ledger, turnstile):
    t = turnstile(tenants(ledger, {"unknown_tenant": "guests"},
                          tiers={"guests": {"statement_timeout": "3s"}}))
    with log_in(t, user="app.visitor") as client:
        assert show(client, SETTING) == "visitor"
        assert show(client, "statement_timeout") == "3s"
        assert client.rows("SELECT count(*) FROM ledger") == [("0",)]


def test_own_id_at_startup_is_no_contradiction(ledger, turnstile):
    t = turnstile(tenants(ledger))
    with log_in(t, user="app.acme", **{SETTING: OWN}) as client:
        assert show(client, SETTING) == OWN


def test_a_tenant_keeps_its_limit_of_clients(ledger, turnstile):
    t = turnstile(tenants(ledger, tiers={"basic": {"max_client_conn": 2}}))
    with enter(t, "acme"), enter(t, "acme"):
        assert refusal(t, user="app.acme")["C"] == "53300"
        enter(t, "globex").close()


# --- what its servers carry ------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("command", ["RESET ALL", "DISCARD ALL", "RESET statement_timeout",
                                     f"RESET {SETTING}", f"SET {SETTING} TO DEFAULT"])
def test_context_stands_in_the_startup_packet(ledger, turnstile, mode, command):
    t = turnstile(tenants(ledger, {"pool_mode": mode}, {"basic": {"statement_timeout": "15s"}}))
    with enter(t, "acme") as client:
        assert (show(client, SETTING), show(client, "statement_timeout")) == (OWN, "15s")
        client.rows(command)
        assert (show(client, SETTING), show(client, "statement_timeout")) == (OWN, "15s")
        assert client.rows("SELECT DISTINCT business_id FROM ledger") == [(OWN,)]


def own_rows(pooler, tenant, rounds, wrong):
    """What a client of a tenant sees is its own, round after round, in both protocols."""
    with connect(pooler, tenant) as connection:
        for i in range(rounds):
            for prepare in (False, True):
                seen = connection.execute(
                    f"SELECT business_id, current_setting('{SETTING}') FROM ledger"
                    " WHERE id > %s", [0], prepare=prepare).fetchall()
                if seen != [(TENANTS[tenant],) * 2] * ROWS_EACH:
                    wrong.append((tenant, i, seen))
            simple = connection.pgconn.exec_(b"SELECT business_id FROM ledger")
            if [simple.get_value(n, 0) for n in range(simple.ntuples)] \
                    != [TENANTS[tenant].encode()] * ROWS_EACH:
                wrong.append((tenant, i, simple.status))


@pytest.mark.tsan
def test_i1_each_sees_its_own(ledger, turnstile):
    t = turnstile(tenants(ledger))
    wrong = []
    threads = [threading.Thread(target=own_rows, args=(t, tenant, 20, wrong))
               for tenant in TENANTS for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_i1_writes_are_bound_too(acme):
    assert sqlstate(acme.query(f"INSERT INTO ledger (business_id) VALUES ('{OTHER}')")) == "42501"
    assert acme.query("DELETE FROM ledger")[0].text == f"DELETE {ROWS_EACH}"
    acme.rows(f"INSERT INTO ledger (business_id) SELECT '{OWN}' FROM generate_series(1, {ROWS_EACH})")


# --- forgeries -------------------------------------------------------------------------------
FORGERIES = f"""
SELECT query_to_xml('select set_c' || 'onfig(''app.cur'' || ''rent_business_id'', ''{OTHER}'', false)', true, true, '')
SELECT pg_catalog."query_to_xml_and_xmlschema"('select set_c' || 'onfig(''app.cur'' || ''rent_business_id'', ''{OTHER}'', false)', true, true, '')
SELECT * FROM ts_stat('select to_tsvector(set_c' || 'onfig(''app.cur'' || ''rent_business_id'', ''{OTHER}'', false))')
SET {SETTING} = '{OTHER}'
SET {SETTING} TO '{OTHER}'
SET {SETTING} = {OTHER}
SET {SETTING} = ''
SET SESSION {SETTING} = '{OTHER}'
SET LOCAL {SETTING} = '{OTHER}'
set App.Current_Business_ID = '{OTHER}'
SET "{SETTING}" = '{OTHER}'
SET app."current_business_id" = '{OTHER}'
SET "app"."CURRENT_BUSINESS_ID" = '{OTHER}'
SET app . current_business_id = '{OTHER}'
SET/**/app.current_business_id/* x */=/* y */'{OTHER}'
SET app./* /* nested */ */current_business_id = '{OTHER}'
SET -- a line\\n app.current_business_id = '{OTHER}'
SET U&"app.current\\005Fbusiness_id" = '{OTHER}'
SET U&"app.current!005Fbusiness_id" UESCAPE '!' = '{OTHER}'
SET app.U&"current_business\\005f\\0069d" = '{OTHER}'
SET {SETTING} = E'\\x37'
SET {SETTING} = U&'\\0037'
SET {SETTING} = $${OTHER}$$
SET {SETTING} = $x${OTHER}$x$
SET {SETTING} = '4', '2'
SET {SETTING} = 42.0
SET {SETTING} = +{OTHER}
SET {SETTING} = '{OWN} '
SET {SETTING} FROM CURRENT; SET {SETTING} = '{OTHER}'
SELECT set_config('{SETTING}', '{OTHER}', false)
SELECT set_config('{SETTING}', '{OTHER}', true)
SELECT pg_catalog.set_config('{SETTING}', '{OTHER}', false)
SELECT "set_config"('{SETTING}', '{OTHER}', false)
SELECT U&"set\\005fconfig"('{SETTING}', '{OTHER}', false)
SELECT SET_CONFIG /* x */ ('{SETTING}', '{OTHER}', false)
SELECT set_config(E'app.current_business\\x5fid', '{OTHER}', false)
SELECT set_config(U&'app.current\\005fbusiness_id', '{OTHER}', false)
SELECT set_config($${SETTING}$$, '{OTHER}', false)
SELECT set_config('app.current'\\n'_business_id', '{OTHER}', false)
SELECT set_config('app.' || 'current_business_id', '{OTHER}', false)
SELECT set_config(concat('app', '.current_business_id'), '{OTHER}', false)
SELECT set_config(lower('APP.CURRENT_BUSINESS_ID'), '{OTHER}', false)
SELECT set_config('{SETTING}'::text, '{OTHER}'::text, false)
SELECT set_config(CAST('{SETTING}' AS text), '{OTHER}', false)
SELECT set_config('{SETTING}', '4' || '2', false), set_config('{SETTING}', '{OTHER}', false)
SELECT set_config('{SETTING}', business_id, false) FROM ledger
SELECT set_config(n, '{OTHER}', false) FROM (VALUES ('{SETTING}')) v(n)
SELECT set_config((SELECT '{SETTING}'), '{OTHER}', false)
SELECT set_config(set_config('geqo', '{SETTING}', false), '{OTHER}', false)
SELECT * FROM set_config('{SETTING}', '{OTHER}', false)
SELECT 1 FROM ledger WHERE set_config('{SETTING}', '{OTHER}', false) IS NOT NULL
SELECT count(*) FROM ledger, LATERAL set_config('{SETTING}', '{OTHER}', false)
SELECT 1 ORDER BY set_config('{SETTING}', '{OTHER}', false)
VALUES (set_config('{SETTING}', '{OTHER}', false))
TABLE ledger; SELECT set_config('{SETTING}', '{OTHER}', false)
WITH x AS (SELECT set_config('{SETTING}', '{OTHER}', false)) SELECT * FROM x
WITH x AS MATERIALIZED (SELECT set_config('{SETTING}', '{OTHER}', false)) SELECT 1 FROM x
EXPLAIN ANALYZE SELECT set_config('{SETTING}', '{OTHER}', false)
COPY (SELECT set_config('{SETTING}', '{OTHER}', false)) TO STDOUT
PREPARE p AS SELECT set_config('{SETTING}', '{OTHER}', false)
PREPARE p AS SELECT set_config('{SETTING}', $1, false)
PREPARE p AS SELECT set_config($1, $2, false)
DECLARE c CURSOR WITH HOLD FOR SELECT set_config('{SETTING}', '{OTHER}', false)
INSERT INTO ledger (business_id) VALUES (set_config('{SETTING}', '{OTHER}', false))
UPDATE ledger SET note = set_config('{SETTING}', '{OTHER}', false)
DELETE FROM ledger WHERE note = set_config('{SETTING}', '{OTHER}', false)
CREATE TEMP TABLE x AS SELECT set_config('{SETTING}', '{OTHER}', false)
CREATE TEMP VIEW x AS SELECT set_config('{SETTING}', '{OTHER}', false)
CREATE VIEW x AS SELECT set_config('{SETTING}', '{OWN}', false)
CREATE TABLE x (a text DEFAULT set_config('{SETTING}', '{OWN}', false))
CREATE TEMP TABLE x (a text DEFAULT set_config('{SETTING}', '{OTHER}', false))
CREATE OPERATOR === (leftarg = text, rightarg = text, function = set_config)
UPDATE pg_settings SET setting = '{OTHER}' WHERE name = '{SETTING}'
UPDATE pg_catalog.pg_settings SET setting = '{OTHER}' WHERE name LIKE 'app.%'
UPDATE "pg_settings" SET setting = '{OTHER}' WHERE name = '{SETTING}'
update only pg_settings as p set setting = '{OTHER}' where p.name = '{SETTING}'
WITH x AS (SELECT 1) UPDATE pg_settings SET setting = '{OTHER}' WHERE name = '{SETTING}'
ALTER ROLE app SET {SETTING} = '{OTHER}'
ALTER ROLE CURRENT_USER SET {SETTING} = '{OTHER}'
ALTER ROLE app IN DATABASE shop SET "{SETTING}" TO '{OTHER}'
ALTER USER app SET {SETTING} = '{OTHER}'
ALTER ROLE ALL SET {SETTING} = '{OWN}'
ALTER ROLE app RESET {SETTING}
ALTER DATABASE shop SET {SETTING} = '{OTHER}'
ALTER DATABASE shop RESET {SETTING}
CREATE FUNCTION f() RETURNS text LANGUAGE sql SET {SETTING} = '{OTHER}' AS 'SELECT 1::text'
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT 1::text' SET {SETTING} TO '{OWN}'
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('{SETTING}', '{OTHER}', false) $$
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT set_config('{SETTING}', '{OWN}', false) $$
CREATE FUNCTION f() RETURNS text BEGIN ATOMIC; SELECT set_config('{SETTING}', '{OTHER}', false); END
ALTER FUNCTION f() SET {SETTING} = '{OTHER}'
DO $$ BEGIN SET {SETTING} = '{OTHER}'; END $$
DO $$ BEGIN SET LOCAL "{SETTING}" = '{OTHER}'; END $$
DO LANGUAGE plpgsql $x$ BEGIN PERFORM set_config('{SETTING}', '{OTHER}', false); END $x$
DO $$ BEGIN EXECUTE 'SET {SETTING} = ''{OTHER}'''; END $$
DO $$ BEGIN EXECUTE format('SET %s = %L', '{SETTING}', '{OTHER}'); END $$
DO $$ BEGIN EXECUTE format('SET {SETTING} = %L', '{OTHER}'); END $$
DO 'BEGIN PERFORM set_config(''{SETTING}'', ''{OTHER}'', false); END'
DO E'BEGIN PERFORM set\\x5fconfig(''{SETTING}'', ''{OTHER}'', false); END'
SELECT query_to_xml('SELECT set_config(''{SETTING}'', ''{OTHER}'', false)', true, true, '')
SELECT 1; SET {SETTING} = '{OTHER}'
;;SET {SETTING} = '{OTHER}'
SELECT 'a;b' AS "c;d" /* ; */; SELECT set_config('{SETTING}', '{OTHER}', false)
SET {SETTING} = '{OWN}'; SET {SETTING} = '{OTHER}'
SELECT set_config('{SETTING}', '{OWN}', false), set_config('{SETTING}', '{OTHER}', false)
BEGIN; SET LOCAL {SETTING} = '{OTHER}'; SELECT count(*) FROM ledger; COMMIT
""".strip().splitlines()
FORGERIES = [text.replace("\\n", "\n") for text in FORGERIES]


def assert_untouched(client):
    assert show(client, SETTING) == OWN
    assert client.rows("SELECT count(*), min(business_id), max(business_id) FROM ledger") \
        == [(str(ROWS_EACH), OWN, OWN)]


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_i1_forgeries_are_refused(ledger, turnstile, mode):
    with enter(turnstile(tenants(ledger, {"pool_mode": mode})), "acme") as client:
        for text in FORGERIES:
            assert (errors(messages := client.query(text)), messages[-1].body) \
                == (["42501"], b"I"), text
            is_single = ";" not in text.rstrip(";")
            if is_single:
                assert (errors(messages := client.prepared(text)), messages[-1].body) \
                    == (["42501"], b"I"), text
        assert_untouched(client)


def test_i1_forgeries_fail_the_transaction(acme):
    for text in FORGERIES:
        for ask in (acme.query, acme.prepared):
            acme.rows("BEGIN")
            assert acme.rows("SELECT 1") == [("1",)]
            messages = ask(text)
            if ask == acme.prepared and sqlstate(messages) == "42601":
                acme.rows("ROLLBACK")
                continue  # several statements in one Parse
            assert (errors(messages), messages[-1].body) == (["42501"], b"E"), text
            assert sqlstate(acme.query("SELECT 1")) == "25P02"
            assert acme.query("COMMIT")[0].strings[0] == "ROLLBACK"
    assert_untouched(acme)


PARAMETERS = [
    ("SELECT set_config($1, $2, false)", [SETTING, OTHER]),
    ("SELECT set_config($2, $1, true)", [OTHER, SETTING.upper()]),
    (f"SELECT set_config('{SETTING}', $1, false)", [OTHER]),
    (f"SELECT set_config('{SETTING}', $1::text, false)", [OTHER]),
    (f"SELECT set_config('{SETTING}', $1, $2)", [OTHER, "false"]),
    (f"SELECT set_config($1, '{OTHER}', false)", [SETTING]),
    (f"SELECT set_config($1::text, $2::text, false)", [SETTING, OTHER]),
    (f"SELECT set_config('{SETTING}', $1 || $2, false)", [OTHER, ""]),
    (f"SELECT set_config($1 || $2, '{OTHER}', false)", [SETTING, ""]),
    (f"SELECT set_config('{SETTING}', coalesce($1, $2), false)", ["", OTHER]),
    ("UPDATE pg_settings SET setting = $1 WHERE name = $2", [OTHER, SETTING]),
]


@pytest.mark.parametrize("settings", [{}, {"pool_mode": "session"}, {"max_prepared_statements": 0},
                                      {"pool_mode": "statement"}], ids=str)
def test_i1_forgeries_in_parameters(ledger, turnstile, settings):
    with enter(turnstile(tenants(ledger, settings)), "acme") as client:
        for name in ("", "named"):
            for text, values in PARAMETERS:
                messages = client.prepared(text, values, name)
                assert errors(messages) == ["42501"], (text, name)
                assert messages[-1].body == b"I"
                client.send(raw.close("S", name), raw.sync())
                assert not errors(client.until("Z"))
        assert_untouched(client)


def test_i1_a_number_is_no_text(acme):
    """Bytes that are the own id as text, of a type that the server reads as another's."""
    text = f"SELECT set_config('{SETTING}', $1::text, false)"
    for oid, value in ((23, b"\0\0\0\x07"), (20, b"\0" * 7 + b"\x07"), (23, b" 42")):
        acme.send(raw.parse("", text, [oid]), raw.bind("", "", [value], [1]), raw.execute(),
                  raw.sync())
        assert sqlstate(acme.until("Z"))
    assert_untouched(acme)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_i1_execute_of_a_statement_of_the_protocol(ledger, turnstile, mode):
    """SQL's EXECUTE reaches statements that Parse has made, with values that no Bind shows."""
    with enter(turnstile(tenants(ledger, {"pool_mode": mode})), "acme") as client:
        client.rows("BEGIN")
        own = client.prepared(f"SELECT set_config('{SETTING}', $1, false)", [OWN], "mine")
        assert errors(own) == []
        for name, in client.rows("SELECT name FROM pg_prepared_statement()"):
            messages = client.query(f"EXECUTE \"{name}\"('{OTHER}')")
            assert errors(messages) != [] or messages[-1].body == b"I", name
            client.rows("ROLLBACK")
            client.rows("BEGIN")
        client.rows("ROLLBACK")
        assert_untouched(client)


def test_i1_function_call_by_oid(ledger, acme):
    oid = int(ledger.value("SELECT 'set_config'::regproc::oid", dbname=APP_DATABASE))
    arguments = [SETTING.encode(), OTHER.encode(), b"f"]
    body = oid.to_bytes(4, "big") + b"\0\0" + len(arguments).to_bytes(2, "big") + b"".join(
        len(a).to_bytes(4, "big") + a for a in arguments) + b"\0\0"
    acme.send(raw.message("F", body))
    messages = acme.until("Z")
    assert errors(messages) == ["42501"] and messages[-1].body == b"I"
    assert_untouched(acme)


@pytest.mark.parametrize("size", [40_000, 900_000, 2_000_000])
@pytest.mark.parametrize("forgery", [f"SET {SETTING} = '{OTHER}'",
                                     f"SELECT set_config('{SETTING}', '{OTHER}', false)",
                                     f"SELECT set_config('app.curr'||'ent_business_id', '{OTHER}', false)",
                                     f'SET U&"app.current\\005fbusiness_id" = \'{OTHER}\''])
def test_i1_forgery_behind_a_long_text(ledger, turnstile, size, forgery):
    t = turnstile(tenants(ledger))
    for request in ("simple", "extended"):
        with enter(t, "acme") as client, enter(t, "acme") as watcher:
            text = f"SELECT length('{'x' * size}'); " if request == "simple" else \
                f"/* {'x' * size} */ "
            send = raw.query(text + forgery) if request == "simple" else \
                b"".join((raw.parse("", text + forgery), raw.bind(), raw.execute(), raw.sync()))
            client.send(send)
            states = []
            try:
                while (m := client.message()).kind != "Z":
                    states += [m.fields["C"]] if m.kind == "E" else []
                assert_untouched(client)
            except (EOFError, ConnectionError):
                pass
            assert "42501" in states
            for _ in range(4):
                assert_untouched(watcher)


# --- how the server reads it -----------------------------------------------------------------
LEXING = [
    "SET standard_conforming_strings = off",
    "SET LOCAL standard_conforming_strings TO 'off'",
    "SELECT set_config('standard_conforming_strings', 'off', false)",
    "SET client_encoding = 'SJIS'",
    "SET NAMES 'SJIS'",
    "SET NAMES 'GB18030'",
    "SELECT set_config('client_encoding', 'BIG5', false)",
    "BEGIN; SET client_encoding TO 'shift_jis'; COMMIT",
]


def test_i1_a_tenant_keeps_the_server_legible(acme):
    """What would let the server see another text than we do is refused."""
    for text in LEXING:
        assert errors(acme.query(text)) == ["42501"], text
        assert errors(acme.prepared("SELECT set_config($1, $2, false)",
                                    ["standard_conforming_strings", "off"])) == ["42501"]
    assert show(acme, "standard_conforming_strings") == "on"
    assert show(acme, "client_encoding") == "UTF8"


@pytest.mark.parametrize("settings", [
    {"standard_conforming_strings": "off"}, {"options": "-c standard_conforming_strings=off"},
    {"client_encoding": "SJIS"}, {"client_encoding": "GBK"}], ids=str)
def test_i1_tricks_of_strings(ledger, turnstile, settings):
    """Texts that end a string in one reading and go on in the other."""
    t = turnstile(tenants(ledger))
    try:
        client = enter(t, "acme", **settings)
    except raw.LoginRefused as refused:
        assert refused.fields["C"] in ("42501", "0A000", "22023")
        return
    with client:
        for text in (rf"SELECT '\'; SET {SETTING} = {OTHER}; --'",
                     rf"SELECT '\\'; SET {SETTING} = {OTHER}; --'",
                     rf"SELECT 'a\'' , '; SET {SETTING} = {OTHER}; --'",
                     rf"SELECT E'\'; SET {SETTING} = {OTHER}; --'",
                     rf"SELECT $a$\'$a$; SET {SETTING} = {OTHER}; --'",
                     rf"SELECT U&'\'; SET {SETTING} = {OTHER}; --'"):
            client.send(raw.query(text))
            client.until("Z")
            assert client.rows("SELECT DISTINCT business_id FROM ledger") == [(OWN,)], text
        for lead in (b"\x81", b"\x95", b"\x83", b"\xe0"):
            client.send(raw.message("Q", b"SELECT E'" + lead + b"\\'; SET " + SETTING.encode()
                                    + b" = 7; --'\0"))
            client.until("Z")
            assert client.rows("SELECT DISTINCT business_id FROM ledger") == [(OWN,)], lead


def test_i1_a_long_text_changes_how_the_next_is_read(acme):
    """What is pipelined behind a text that nobody looked into is not read before it is answered."""
    acme.send(raw.query(f"SET NAMES /* {'x' * 2_000_000} */ 'SJIS'"),
              raw.message("Q", b"SELECT E'\x83\\' , '; SELECT set_config(chr(97) || 'pp.current_busi'"
                               b" || 'ness_id', '7', false); --'\0"))
    for _ in range(2):
        acme.until("Z")
    assert acme.rows("SELECT DISTINCT business_id FROM ledger") == [(OWN,)]


# --- what is allowed -------------------------------------------------------------------------
ALLOWED = [
    f"SET {SETTING} = '{OWN}'",
    f"SET {SETTING} = {OWN}",
    f"SET LOCAL {SETTING} TO '{OWN}'",
    f"SET \"{SETTING}\" = E'\\x34\\x32'",
    f"SELECT set_config('{SETTING}', '{OWN}', false)",
    f"SELECT pg_catalog.set_config('{SETTING}', '{OWN}', true)",
    f"SET {SETTING} TO DEFAULT",
    f"RESET {SETTING}",
    "RESET ALL",
    f"SHOW {SETTING}",
    f"SELECT current_setting('{SETTING}')",
    f"SELECT name, setting FROM pg_settings WHERE name = '{SETTING}'",
    f"SELECT '{SETTING}' AS current_business_id",
    "SELECT set_config('geqo', 'on', false)",
    "SET app.other = '1'",
    "SELECT 'set_config'",
    f"DO $$ BEGIN PERFORM current_setting('{SETTING}'); END $$",
    f"CREATE TEMP TABLE memo AS SELECT current_setting('{SETTING}') AS id",
    f"INSERT INTO ledger (business_id, note) SELECT current_setting('{SETTING}'), 'SET it' WHERE false",
    f"COMMENT ON TABLE memo IS 'of {SETTING}'",
    "DROP TABLE memo",
]


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_own_id_and_reading_it_are_allowed(ledger, turnstile, mode):
    with enter(turnstile(tenants(ledger, {"pool_mode": mode})), "acme") as client:
        for text in ALLOWED:
            for ask in (client.query, client.prepared):
                if ask == client.prepared and ("memo" in text or text.startswith("DO")):
                    continue
                messages = ask(text)
                assert not errors(messages), (text, raw.find(messages, "E")[0].fields)
        for text, values in PARAMETERS[:7]:
            own = [OWN if value == OTHER else value for value in values]
            if SETTING in text and "||" not in text and OTHER not in text:
                assert not errors(client.prepared(text, own)), text
        assert_untouched(client)


def test_own_id_again_leaves_no_trace(ledger, turnstile):
    """An application that sets its id before every statement still shares servers."""
    t = turnstile(tenants(ledger, {"default_pool_size": 1}))
    with enter(t, "acme") as one, enter(t, "acme") as two:
        for _ in range(3):
            for client in (one, two):
                client.rows(f"SET {SETTING} = '{OWN}'")
                client.rows(f"SELECT set_config('{SETTING}', '{OWN}', false)")
                assert_untouched(client)


@pytest.mark.parametrize("keeps", [False, True], ids=["shares", "pinned"])
def test_i1_an_id_that_code_has_forged_ends_with_its_transaction(ledger, turnstile, keeps):
    """What DO puts together cannot be seen; it is undone before the next statement."""
    last = SETTING.split(".")[1]
    with enter(turnstile(tenants(ledger)), "acme") as client:
        client.query("CREATE TEMP TABLE mine ()" if keeps else "SELECT 1")
        forge = f"set app.'||'{last[:4]}'||'{last[4:]} = ''{OTHER}''"
        assert not errors(client.query(f"DO $$ BEGIN EXECUTE '{forge}'; END $$"))
        assert_untouched(client)


def test_without_tenants_the_setting_is_free(ledger, turnstile):
    t = turnstile(merge(tenants(ledger, {"tenant_by": None}), {"tenants": dict.fromkeys(TENANTS)}))
    with log_in(t) as client:
        client.rows(f"SET {SETTING} = '{OTHER}'")
        assert client.rows("SELECT DISTINCT business_id FROM ledger") == [(OTHER,)]


# --- reload ----------------------------------------------------------------------------------
def test_i1_reload_gives_a_tenant_another_id(ledger, turnstile):
    """Nobody goes on under an id that the configuration no longer gives it."""
    t = turnstile(tenants(ledger))
    with enter(t, "acme") as client:
        assert show(client, SETTING) == OWN
        t.reload({"tenants": {"acme": {"tier": "basic", "business_id": "1001"}, "initech": None}})
        try:
            assert show(client, SETTING) == "1001"
        except (EOFError, ConnectionError, AssertionError):
            pass  # closed: it logs in again
    with enter(t, "acme") as client:
        assert client.rows("SELECT DISTINCT business_id FROM ledger") == [("1001",)]


def test_reload_without_the_tenant(ledger, turnstile):
    t = turnstile(tenants(ledger))
    enter(t, "acme").close()
    t.reload({"tenants": {"acme": None}})
    assert refusal(t, user="app.acme")["C"] == "28000"


def test_counters_of_a_database_outlast_its_tenants(ledger, turnstile):
    """A counter that falls is taken for one that began anew, and its last value for what has come since."""
    def counted():
        return ([row["total_query_count"] for row in t.admin("SHOW STATS") if row["database"] == APP_DATABASE],
                [row["asked"] for row in t.admin("SHOW SAVINGS") if row["database"] == APP_DATABASE])

    t = turnstile(tenants(ledger))
    for tenant in ("acme", "globex"):
        with enter(t, tenant) as client:
            client.query("SELECT 2")
    before = counted()
    t.reload({"tenants": {"acme": None}})
    wait_until(lambda: [row["items"] for row in t.admin("SHOW LISTS") if row["list"] == "pools"] == [1])
    assert counted() == before == ([2], [2])
    t.reload({"databases": {APP_DATABASE: None, "another": t.config["databases"][APP_DATABASE]}})
    wait_until(lambda: counted() == ([], []))


def test_i1_reload_tells_ids_by_another_setting(ledger, turnstile):
    """What servers have of the old one is nobody's any more."""
    t = turnstile(tenants(ledger, {"default_pool_size": 1}))
    with enter(t, "acme") as old:
        assert old.rows("SELECT DISTINCT business_id FROM ledger") == [(OWN,)]
        t.reload({"pgturnstile": {"tenant_setting": "app.other_id"}})
        with enter(t, "globex") as client:
            assert client.rows("SELECT DISTINCT business_id FROM ledger") == []
            assert show(client, "app.other_id") == OTHER
        assert errors(old.until_closed()) == ["57P01"]
