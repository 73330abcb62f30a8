# SPDX-License-Identifier: ISC
#
# test_hostile_tenants.py - tenants of shared pools that mean harm, byte by byte.
#
# What is right is what a direct connection says, or a refusal; never another's rows, and never the
# end of the process.
"""I1, I3 and I6 where tenants share servers and choose within a session."""
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import log_in, sqlstate
from tenancy import ROWS_EACH, SETTING, TENANTS, enter, errors, show, tenants
from test_tenant_switch import SYNC, ask, exact, run, switching

ACME, GLOBEX, INITECH = TENANTS["acme"], TENANTS["globex"], TENANTS["initech"]
TABLE = "hostile_ledger"
ROWS = f"SELECT DISTINCT business_id FROM {TABLE}"

q, p, b, d, e = raw.query, raw.parse, raw.bind, raw.describe, raw.execute


@pytest.fixture(scope="module")
def ledger(primary):
    with primary.connect(APP_DATABASE) as connection:
        for statement in [
                f"DROP TABLE IF EXISTS {TABLE}",
                f"CREATE TABLE {TABLE} (id serial PRIMARY KEY, business_id text NOT NULL)",
                f"INSERT INTO {TABLE} (business_id) SELECT b FROM unnest(ARRAY['42', '7', '1001'])"
                f" AS b, generate_series(1, {ROWS_EACH})",
                f"ALTER TABLE {TABLE} ENABLE ROW LEVEL SECURITY",
                f"CREATE POLICY own ON {TABLE}"
                f" USING (business_id = current_setting('{SETTING}', true))",
                f"GRANT ALL ON {TABLE}, {TABLE}_id_seq TO {APP_USER}"]:
            connection.execute(statement)
    return primary


@pytest.fixture
def pooler(ledger, turnstile):
    return turnstile(switching(ledger, {"no_tenant": "empty", "tenant_by": "user_suffix, set, comment"}))


def values(messages):
    return [m.row[0] for m in raw.find(messages, "D")]


# --- a server that its client keeps ----------------------------------------------------------------
PIN = q("CREATE TEMP TABLE IF NOT EXISTS hostile_pin (n int)")
CHANGES = {
    "SET": [q(f"SET {SETTING} = '7'"), q(ROWS)],
    "set_config": [run(f"SELECT set_config('{SETTING}', $1, false)", "7") + SYNC, run(ROWS) + SYNC],
    "a batch": [run(f"SET {SETTING} = '7'") + run(ROWS) + SYNC, q(ROWS)],
    "a local one": [run(f"SET LOCAL {SETTING} = '7'") + run(ROWS) + SYNC, q(ROWS)],
    "a failed batch": [run(f"SET {SETTING} = '7'") + p("", "SELECT 1/0 +") + SYNC, q(ROWS)],
    "a transaction": [q("BEGIN"), q(f"SET LOCAL {SETTING} = '7'"), q(ROWS), q("COMMIT"), q(ROWS)],
    "an empty transaction": [q("BEGIN"), q(f"SET {SETTING} = '7'"), q("ROLLBACK"), q(ROWS),
                             q("BEGIN"), q(f"SET {SETTING} = '7'"), q("COMMIT"), q(ROWS)],
    "RESET": [q(f"RESET {SETTING}"), q(ROWS)],
    "RESET ALL": [q("RESET ALL"), q(ROWS)],
}


@pytest.mark.parametrize("name", CHANGES)
def test_i1_of_a_server_that_is_kept(ledger, pooler, name):
    with log_in(ledger) as direct, log_in(pooler) as through:
        for request in [q(f"SET {SETTING} = '42'"), PIN, *CHANGES[name]]:
            expected, got = ask(direct, request)[0], ask(through, request)[0]
            assert exact(got) == exact(expected), request
    assert pooler.admin("SHOW VERSION")


# --- a Query in the middle of a batch --------------------------------------------------------------
MIXED = {
    "the end": [q("BEGIN"), q(f"SET LOCAL {SETTING} = '7'"), q(ROWS),
                p("", "SELECT 2") + q("COMMIT"), b() + e() + SYNC, q(ROWS)],
    "a local one": [run(f"SET LOCAL {SETTING} = '7'") + run("SELECT 2") + q(ROWS), q(ROWS), SYNC,
                    q(ROWS)],
    "answered here": [run(f"SET LOCAL {SETTING} = '7'") + q(ROWS), q(ROWS), SYNC, q(ROWS)],
    "an error before": [run("SELECT 1/0") + q(ROWS) + SYNC, q(ROWS)],
    "an error in it": [run("SELECT 2") + q("SELECT 1/0"), run(ROWS) + SYNC, q(ROWS)],
    "one after the other": [run(ROWS) + q("SELECT 2"), run("SELECT 3") + q(ROWS), SYNC, q(ROWS)],
    "in a transaction": [q("BEGIN"), run(ROWS) + q("SELECT 2"), run(ROWS) + SYNC, q("COMMIT")],
}


@pytest.mark.parametrize("name", MIXED)
def test_i1_of_a_query_in_a_batch(ledger, pooler, name):
    with log_in(ledger) as direct, log_in(pooler) as through:
        for request in [q(f"SET {SETTING} = '42'"), *MIXED[name]]:
            expected, got = ask(direct, request)[0], ask(through, request)[0]
            assert exact(got) == exact(expected), request
    assert pooler.admin("SHOW VERSION")


def test_i1_no_query_behind_what_ends_a_transaction_in_its_batch(pooler):
    with log_in(pooler) as client:
        ask(client, q(f"SET {SETTING} = '42'"), q("BEGIN"), q(f"SET LOCAL {SETTING} = '7'"), q(ROWS))
        got = ask(client, run("COMMIT") + q(ROWS))[0]
        assert sqlstate(got) == "0A000" and not raw.find(got, "D")
        ask(client, SYNC)
        assert client.rows(ROWS) == [(ACME,)]


@pytest.mark.parametrize("reset", [f"RESET {SETTING}", "RESET statement_timeout", "RESET ALL"])
def test_i1_no_query_behind_a_reset_in_its_batch(ledger, turnstile, reset):
    t = turnstile(tenants(ledger, {"tenant_pool": "shared"},
                          {"basic": {"statement_timeout": "2s"}}))
    with enter(t, "acme") as client:
        client.query(ROWS)
        got = ask(client, run(reset) + q(f"{ROWS}; SHOW statement_timeout"))[0]
        assert sqlstate(got) == "42501" and not raw.find(got, "D")
        ask(client, SYNC)
        assert client.rows(ROWS) == [(ACME,)] and show(client, "statement_timeout") == "2s"


# --- the console -----------------------------------------------------------------------------------
def test_a_server_of_which_nobody_knows_whose_it_is_is_shown(pooler):
    with log_in(pooler) as client:
        ask(client, q(f"SET {SETTING} = '42'"), q("SET work_mem = '5MB'"), q("DISCARD ALL"))
        assert {row["name"] for row in pooler.admin("SHOW TENANTS")} >= {"acme"}
