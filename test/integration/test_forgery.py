# SPDX-License-Identifier: ISC
#
# test_forgery.py - whatever text would change a tenant's id or its ceiling is refused before a
# server gets to know of it (I1).
"""The corpus test/sql/forgeries.txt before dedicated and shared pools, in both protocols."""
import itertools

import pytest

import forgeries
import raw
from conftest import APP_DATABASE
from rig import log_in
from tenancy import SETTING, TENANTS, errors, show, tenants
from turnstile import merge

OWN, OTHER = TENANTS["acme"], TENANTS["globex"]
FORGER, PASSWORD = "forger", "forger-password"
TABLE = "forgery_ledger"
TIMEOUT = "statement_timeout"
POOLS = ["dedicated", "shared", "switching"]

q, SYNC = raw.query, raw.sync()


@pytest.fixture(scope="module")
def ledger(primary):
    """The table, and a role of which the server's log tells each statement."""
    primary.role(FORGER, PASSWORD)
    for statement in [
            f"ALTER ROLE {FORGER} SET log_statement = 'all'",
            f"GRANT CREATE, TEMPORARY ON DATABASE {APP_DATABASE} TO {FORGER}"]:
        primary.sql(statement)
    with primary.connect(APP_DATABASE) as connection:
        for statement in [
                f"DROP TABLE IF EXISTS {TABLE}",
                f"CREATE TABLE {TABLE} (business_id text)",
                f"INSERT INTO {TABLE} VALUES ('42'), ('7'), ('1001')",
                f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
                f"CREATE POLICY own ON {TABLE}"
                f" USING (business_id = current_setting('{SETTING}', true))",
                f"GRANT ALL ON {TABLE} TO {FORGER}"]:
            connection.execute(statement)
    return primary


def config(server, pool, tier=None):
    settings = {"tenant_pool": "dedicated" if pool == "dedicated" else "shared"}
    changes = {}
    if pool == "switching":
        settings["tenant_by"] = "user_suffix, set, comment"
        changes = {"users": {FORGER: {"tenant_switch": "yes"}}}
    return tenants(server, settings, {"basic": {TIMEOUT: "15s", **(tier or {})}}, changes)


@pytest.fixture
def pooler(ledger, turnstile, request):
    return turnstile(config(ledger, request.param), {FORGER: PASSWORD})


def enter(pooler, tenant="acme", **kwargs):
    return log_in(pooler, f"{FORGER}.{tenant}", PASSWORD, **kwargs)


def ask(client, request):
    client.send(request)
    return client.until("Z")


def extended(text):
    return raw.parse("", text) + raw.bind() + raw.describe("P") + raw.execute() + SYNC


def in_a_transaction(text):
    return q(text)


WAYS = {"simple": q, "extended": extended, "in a transaction": in_a_transaction}


def try_each(client, texts, way):
    """(text, SQLSTATE or None) of each."""
    for text in texts:
        if way == "in a transaction":
            ask(client, q("BEGIN"))
        got = ask(client, WAYS[way](text))
        if got[-1].body != b"I":
            ask(client, q("ROLLBACK"))
        yield text, (errors(got) or [None])[0]


def rows(client):
    return client.rows(f"SELECT DISTINCT business_id FROM {TABLE}")


# Of a session that may choose its tenant these are choices, and no others.
def is_choice(text):
    words = text.replace(";", "").split()
    plain = {f"set {SETTING} = '7'", f"SET {SETTING} TO '7'", f"SeT {SETTING.upper()} = 7",
             f"set session {SETTING} = '7'", f"SET LOCAL {SETTING} = '7'", f"set {SETTING}='7'",
             f"set {SETTING}=7", f"set {SETTING} = E'7'", f"set {SETTING} = $$7$$",
             f"set {SETTING} = $a$7$a$", f"set session {SETTING} to '7'",
             f"set -- a comment {SETTING} = '7'", f"set {SETTING} = -- ' '7'",
             "select set_config('app.current_' 'business_id', '7', false)",
             f"/* a */ set /* b */ {SETTING} /* c */ = /* d */ '7' -- e",
             f"/* /* nested */ */ set {SETTING} = '7'",
             f"select set_config('{SETTING}', '7', false)",
             f"select set_config('{SETTING}', '7', true)",
             f"SELECT SET_CONFIG('{SETTING}', '7', FALSE)",
             f"select pg_catalog.set_config('{SETTING}', '7', false)",
             f"select pg_catalog . set_config ( '{SETTING}' , '7' , false )",
             f"select/**/set_config/**/('{SETTING}',/**/'7',false)",
             f"select set_config('{SETTING.upper()}', '7', false)",
             f"select set_config($${SETTING}$$, '7', false)",
             f"select set_config($x${SETTING}$x$, $y$7$y$, false)",
             f"select set_config('{SETTING}'::text, '7'::text, false::boolean)",
             f"select set_config(cast('{SETTING}' as text), '7', false)"}
    return " ".join(words) in plain


def test_there_are_enough():
    assert len(forgeries.visible()) >= 150 and forgeries.invisible()
    assert len(set(forgeries.visible())) == len(forgeries.visible())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pooler", POOLS, indirect=True)
def test_i1_no_text_changes_the_tenant(ledger, pooler, way, request):
    """Refused, the connection usable, and the server's log knows nothing of it."""
    may_choose = request.node.callspec.params["pooler"] == "switching"
    texts = [t for t in forgeries.visible(role=FORGER) if not (may_choose and is_choice(t))]
    begins_at = ledger.log.stat().st_size
    with enter(pooler) as client:
        passed = [(text, state) for text, state in try_each(client, texts, way)
                  if state not in ("42501", "25001" if may_choose else "42501")]
        assert passed == []
        assert show(client, SETTING) == OWN and rows(client) == [(OWN,)]
    log = ledger.log.read_bytes()[begins_at:].decode(errors="replace")
    assert "SELECT DISTINCT business_id" in log, "the log tells what is run"
    assert [text for text in texts if f": {text.strip()}" in log] == []
    refused = sum(row["refused"] for row in pooler.admin("SHOW TENANTS"))
    assert refused >= len(texts) - 40


@pytest.mark.parametrize("pooler", ["switching"], indirect=True)
def test_i1_who_may_choose_does_so_by_plain_forms_only(pooler):
    choices = [text for text in forgeries.visible(role=FORGER) if is_choice(text)]
    assert len(choices) >= 15
    with enter(pooler) as client:
        for text in choices:
            assert not errors(ask(client, q(text))), text
            assert show(client, SETTING) == (OWN if "local" in text.lower() or "true" in text
                                             else OTHER), text
            ask(client, q(f"RESET {SETTING}"))
            assert show(client, SETTING) == OWN


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pooler", POOLS, indirect=True)
def test_i1_no_text_lifts_the_ceiling(pooler, way):
    """Refused, or lowered to the tier's."""
    with enter(pooler) as client:
        for text, state in try_each(client, forgeries.visible(TIMEOUT, FORGER), way):
            assert show(client, TIMEOUT) == "15s", (text, state)


# --- how texts are read ------------------------------------------------------------------------
ENCODINGS = ["UTF8", "LATIN1", "SQL_ASCII", "EUC_JP", "KOI8R", "SJIS", "BIG5", "GBK", "UHC",
             "GB18030", "JOHAB"]
# Each ends a string for one reading and not for the other.
TRICKS = [rb"select '\'; set %s = '7'; --'", rb"select '\'; -- '; set %s = '7'",
          b"select E'\x83\\'; set %s = '7'; --'", b"select E'\x95\\', '; set %s = '7' --'",
          b"select '\x83\\'; set %s = '7'; -- '", b"select \"\x83\\\"; set %s = '7'; -- \"",
          rb"select E'\\'; set %s = '7'; --'", rb"select U&'\'; set %s = '7'; --'",
          b"set %s = '7' -- \x83\\", b"select $\x83$ $\x83$; set %s = '7'",
          b"set \xef\xbb\xbf%s = '7'", b"select '\xff'; set %s = '7'"]


@pytest.mark.parametrize("strings", ["on", "off"])
@pytest.mark.parametrize("pooler", ["dedicated", "shared"], indirect=True)
def test_i1_however_texts_are_read(pooler, strings):
    for encoding in ENCODINGS:
        with enter(pooler, client_encoding=encoding, standard_conforming_strings=strings) as client:
            for trick in TRICKS:
                ask(client, b"Q" + _sized(trick.replace(b"%s", SETTING.encode()) + b"\0"))
                assert rows(client) == [(OWN,)], (encoding, trick)


def _sized(body):
    return (len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize("strings, encoding", itertools.product(
    ["on", "off"], ["UTF8", "LATIN1", "SJIS", "GB18030"]))
@pytest.mark.parametrize("pooler", POOLS, indirect=True)
def test_i1_the_corpus_however_texts_are_read(pooler, strings, encoding, request):
    may_choose = request.node.callspec.params["pooler"] == "switching"
    with enter(pooler, client_encoding=encoding, standard_conforming_strings=strings) as client:
        for text in forgeries.visible(role=FORGER):
            if may_choose and is_choice(text):
                continue
            got = ask(client, q(text))
            assert errors(got), (text, got)
            if got[-1].body != b"I":
                ask(client, q("ROLLBACK"))
        assert rows(client) == [(OWN,)]


@pytest.mark.parametrize("text", [
    "SET standard_conforming_strings = off", "SET client_encoding = 'SJIS'", "SET NAMES 'GBK'",
    "SELECT set_config('client_encoding', 'BIG5', false)",
    "SELECT set_config('standard_conforming_strings', 'off', true)",
    "UPDATE pg_settings SET setting = 'off' WHERE name = 'standard_conforming_strings'"])
@pytest.mark.parametrize("pooler", POOLS, indirect=True)
def test_i1_how_texts_are_read_may_not_be_turned(pooler, text):
    with enter(pooler) as client:
        for way in WAYS:
            assert [state for _, state in try_each(client, [text], way)] == ["42501"], way


# --- parameters --------------------------------------------------------------------------------
@pytest.mark.parametrize("text, values, oids", [
    ("SELECT set_config($1, $2, false)", (SETTING, OTHER), ()),
    ("SELECT set_config($1, $2, $3)", (SETTING.upper(), OTHER, "f"), ()),
    ("SELECT set_config($1, $2, false)", (SETTING, OTHER), (25, 25)),
    (f"SELECT 2, set_config('{SETTING}', $1, false)", (OTHER,), ()),
    (f"SELECT set_config('{SETTING}', $1::int::text, false)", (OTHER,), ()),
    (f"SELECT set_config('{SETTING}', $1::text, false)", ("0" + OWN,), (23,)),
    (f"SELECT set_config('{SETTING}', $1 || $2, false)", ("", OTHER), ()),
    ("SELECT set_config($1 || $2, $3, false)", ("app.current_", "business_id", OTHER), ()),
    ("SELECT set_config(setting_name => $1, new_value => $2, is_local => false)",
     (SETTING, OTHER), ()),
    ("SELECT set_config($1, $2, false)", (TIMEOUT, "0"), ()),
    ("UPDATE pg_settings SET setting = $1 WHERE name = $2", (OTHER, SETTING), ())])
@pytest.mark.parametrize("pooler", POOLS, indirect=True)
def test_i1_no_parameter_changes_the_tenant(pooler, text, values, oids):
    with enter(pooler) as client:
        for formats in ((), (1,)):
            got = ask(client, raw.parse("", text, oids) + raw.bind("", "", values, formats)
                      + raw.execute() + SYNC)
            assert errors(got) == ["42501"], got
        assert show(client, SETTING) == OWN and show(client, TIMEOUT) == "15s"


# --- what no text tells ------------------------------------------------------------------------
@pytest.mark.parametrize("pooler", ["shared"], indirect=True)
def test_i1_what_no_text_tells_reaches_nobody_else(pooler):
    """The forger may see what is not its own; everybody else sees what is."""
    with enter(pooler) as forger, enter(pooler, "globex") as globex, \
            enter(pooler, "initech") as initech:
        for text in forgeries.invisible(role=FORGER):
            ask(forger, q(text))
            rows(forger)
            assert rows(globex) == [(OTHER,)], text
            assert rows(initech) == [(TENANTS["initech"],)], text


@pytest.mark.parametrize("pool", POOLS)
def test_i1_nothing_at_login_changes_the_tenant(ledger, turnstile, pool):
    t = turnstile(config(ledger, pool), {FORGER: PASSWORD})
    for parameters in ({SETTING: OTHER}, {"options": f"-c {SETTING}={OTHER}"},
                       {SETTING.upper(): OTHER}, {"options": f"--{SETTING}={OTHER}"},
                       {"options": f"-c\\ {SETTING}={OTHER}"},
                       {"options": f"-c {SETTING}={OWN} -c {SETTING}={OTHER}"}):
        try:
            with enter(t, **parameters) as client:
                assert show(client, SETTING) == OWN and rows(client) == [(OWN,)], parameters
        except raw.LoginRefused as refused:
            assert refused.fields["C"] in ("42501", "0A000", "22023", "42602", "42704"), parameters
