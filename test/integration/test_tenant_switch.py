# SPDX-License-Identifier: ISC
#
# test_tenant_switch.py - sessions that say themselves whose they are: SET, set_config(), comments.
#
# What is right is what a direct connection says, whose session sets the same setting: answers, row
# descriptions, what is left after COMMIT and ROLLBACK, and the rows that its policy shows.
"""I1 and I3 where the tenant changes within a session (docs/adr/0014-choosing-a-tenant.md)."""
import contextlib
import random
import threading

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, sqlstate
from tenancy import SETTING, TENANTS, enter, errors, make_ledger, show, tenants
from waiting import wait_until

ACME, GLOBEX, INITECH = TENANTS["acme"], TENANTS["globex"], TENANTS["initech"]
TABLE = "switch_ledger"
ROWS = f"SELECT DISTINCT business_id FROM {TABLE}"

q, p, b, d, e, SYNC = raw.query, raw.parse, raw.bind, raw.describe, raw.execute, raw.sync()
CALL = f"SELECT set_config('{SETTING}', $1, true)"
CALL_BOTH = f"SELECT pg_catalog.set_config('{SETTING}', $1::text, $2) AS \"Now\""


@pytest.fixture(scope="module")
def ledger(primary):
    make_ledger(primary, table=TABLE)
    return primary


def switching(server, settings=None, tiers=None, changes=None):
    """A config in which the user may choose its tenant, and has none to begin with."""
    return tenants(server, {"tenant_by": "user_suffix, set", "tenant_pool": "shared",
                            **(settings or {})}, tiers,
                   {"users": {APP_USER: {"tenant_switch": "yes"}}, **(changes or {})})


@pytest.fixture
def pooler(ledger, turnstile):
    return turnstile(switching(ledger, {"no_tenant": "empty"}))


@pytest.fixture
def client(ledger, turnstile):
    """One that has not said yet whose it is."""
    with log_in(turnstile(switching(ledger))) as c:
        yield c


def exact(messages):
    """What has to be the same on a direct connection, byte for byte but for the source's lines."""
    return [(m.kind, {k: v for k, v in m.fields.items() if k in "SVCM"} if m.kind in "EN"
             else m.body) for m in messages if m.kind != "S"]


def ask(client, *requests):
    """The answers up to the ReadyForQuery of each request."""
    answers = []
    for request in requests:
        client.send(request)
        answers.append(client.until("Z"))
    return answers


def same(server, pooler, requests):
    with log_in(server) as direct, log_in(pooler) as through:
        for request in requests:
            expected, got = ask(direct, request)[0], ask(through, request)[0]
            assert exact(got) == exact(expected), request


def run(sql, *values, formats=(), oids=(), result=(), max_rows=0, name=""):
    """Parse, Bind, Describe and Execute of one statement."""
    return (p(name, sql, oids) + b("", name, values, formats, result) + d("P")
            + e("", max_rows))


# --- the same answers ----------------------------------------------------------------------------
CONVERSATIONS = {
    "set": [q(f"SET {SETTING} = '42'"), q(ROWS), q(f"set session {SETTING.upper()} to '7';"),
            q(ROWS), q(f"SHOW {SETTING}"), q(f"SELECT current_setting('{SETTING}')")],
    "set to a number": [q(f"SET {SETTING} = 42"), q(ROWS)],
    "reset": [q(f"SET {SETTING} = '42'"), q(f"RESET {SETTING}"), q(ROWS), q(f"SHOW {SETTING}"),
              q(f"SET {SETTING} = '42'"), q(f"SET {SETTING} TO DEFAULT"), q(f"SHOW {SETTING}"),
              q(f"SET {SETTING} = '42'"), q(f"SELECT set_config('{SETTING}', NULL, false)"),
              q(f"SHOW {SETTING}")],
    "set_config": [q(f"SELECT set_config('{SETTING}', '42', false)"), q(ROWS),
                   q(f"SELECT pg_catalog.set_config('{SETTING}'::text, '7'::varchar, 'f') AS \"A b\""),
                   q(ROWS)],
    "local outside": [q(f"SET {SETTING} = '42'"), q(f"SET LOCAL {SETTING} = '7'"), q(ROWS),
                      q(f"SELECT set_config('{SETTING}', '7', true)"), q(ROWS)],
    "local": [q(f"SET {SETTING} = '7'"), q("BEGIN"), q(f"SET LOCAL {SETTING} = '42'"), q(ROWS),
              q("COMMIT"), q(ROWS)],
    "the habit": [q("BEGIN"), q(f"SELECT set_config('{SETTING}', '42', true)"), q(ROWS),
                  q("COMMIT"), q("BEGIN"), q(f"SELECT set_config('{SETTING}', '7', true)"),
                  q(ROWS), q("ROLLBACK"), q(f"SHOW {SETTING}")],
    "kept by COMMIT": [q("BEGIN"), q(f"SET {SETTING} = '42'"), q(ROWS), q("COMMIT"), q(ROWS)],
    "undone by ROLLBACK": [q(f"SET {SETTING} = '7'"), q("BEGIN"), q(f"SET {SETTING} = '42'"),
                           q(ROWS), q("ROLLBACK"), q(ROWS)],
    "undone by a failed COMMIT": [q(f"SET {SETTING} = '7'"), q("BEGIN"),
                                  q(f"SET {SETTING} = '42'"), q(ROWS), q("SELECT 1/0"),
                                  q("COMMIT"), q(ROWS)],
    "undone by ROLLBACK of nothing": [q(f"SET {SETTING} = '7'"), q("BEGIN"),
                                      q(f"SET {SETTING} = '42'"), q("ROLLBACK"), q(ROWS)],
    "kept by COMMIT of nothing": [q("BEGIN"), q(f"SET {SETTING} = '42'"),
                                  q(f"SET LOCAL {SETTING} = '7'"), q("COMMIT"), q(ROWS)],
    "both": [q("BEGIN"), q(f"SET {SETTING} = '7'"), q(f"SET LOCAL {SETTING} = '42'"), q(ROWS),
             q("COMMIT"), q(ROWS)],
    "savepoints": [q(f"SET {SETTING} = '7'"), q("BEGIN"), q(f"SET {SETTING} = '42'"),
                   q("SAVEPOINT a"), q(f"SET {SETTING} = '42'"), q("SELECT 1/0"),
                   q("ROLLBACK TO a"), q(ROWS), q("RELEASE a"), q("COMMIT"), q(ROWS)],
    "the same again": [q("BEGIN"), q(f"SET LOCAL {SETTING} = '42'"), q(ROWS),
                       q(f"SET LOCAL {SETTING} = '42'"),
                       q(f"SELECT set_config('{SETTING}', '42', true)"), q(ROWS), q("COMMIT")],
    "reset all": [q(f"SET {SETTING} = '42'"), q("RESET ALL"), q(f"SHOW {SETTING}"),
                  q(f"SET {SETTING} = '42'"), q("SELECT 2; RESET ALL"), q(f"SHOW {SETTING}"),
                  q(f"SET {SETTING} = '42'"), q("DISCARD ALL"), q(f"SET {SETTING} = '7'"), q(ROWS)],
    "reset all, undone": [q(f"SET {SETTING} = '42'"), q("BEGIN"), q("RESET ALL"), q("ROLLBACK"),
                          q(ROWS)],
    "serializable": [q("BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE"),
                     q(f"SET LOCAL {SETTING} = '42'"), q(ROWS), q("SHOW transaction_isolation"),
                     q("COMMIT")],
    "modes before the tenant": [
        q("BEGIN"), q("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"),
        q(f"SET LOCAL {SETTING} = '42'"), q(ROWS), q("SHOW transaction_isolation"), q("COMMIT"),
        p("", "BEGIN") + b() + e() + SYNC, run("SET TRANSACTION READ WRITE") + SYNC,
        p("s", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ") + d("S", "s") + b("", "s") + e()
        + SYNC, run(CALL, "7") + run(ROWS) + SYNC, q("SHOW transaction_isolation"), q("COMMIT"),
        q("BEGIN"), run("SET TRANSACTION") + SYNC, q("ROLLBACK")],
    "an error while failed": [q("BEGIN"), q(f"SET LOCAL {SETTING} = '42'"), q("SELECT 1/0"),
                              q(f"SET LOCAL {SETTING} = '42'"), q("ROLLBACK")],
    "extended": [run(f"SET {SETTING} = '42'") + SYNC, run(ROWS) + SYNC,
                 run(f"SELECT set_config('{SETTING}', $1, false)", "7") + SYNC, run(ROWS) + SYNC],
    "described": [p("s", CALL_BOTH) + d("S", "s") + SYNC,
                  b("", "s", (b"42", b"\0"), (0, 1), (1,)) + d("P") + e() + SYNC, q(ROWS),
                  b("", "s", ("7", "off"), (), (0,)) + d("P") + e() + SYNC, q(ROWS),
                  b("", "s", ("7", None)) + e() + SYNC, q(ROWS),
                  p("r", f"RESET {SETTING}") + d("S", "r") + SYNC, b("", "r") + d("P") + e() + SYNC,
                  q(f"SHOW {SETTING}"), raw.close("S", "s") + SYNC, q("SELECT 2")],
    "declared": [p("s", CALL, (1043,)) + d("S", "s") + SYNC,
                 p("t", f"SELECT set_config('{SETTING}', $1::varchar, $2)", (0, 16)) + d("S", "t")
                 + SYNC],
    "one batch": [q(f"SET {SETTING} = '7'"), run(CALL, "42") + run(ROWS) + SYNC, q(ROWS),
                  run(f"SET {SETTING} = '42'") + run(ROWS) + SYNC, q(ROWS)],
    "a batch that fails": [q(f"SET {SETTING} = '7'"),
                           run(f"SET {SETTING} = '42'") + run("SELECT 1/0") + SYNC, q(ROWS)],
    "as JDBC does": [q(f"SET {SETTING} = '7'"),
                     p("", "BEGIN") + b() + e() + run(CALL, "42") + SYNC, run(ROWS) + SYNC,
                     run("COMMIT") + SYNC, run(ROWS) + SYNC,
                     p("", "BEGIN") + b() + e() + run(CALL, "42") + run(ROWS) + SYNC,
                     run("ROLLBACK") + SYNC, run(ROWS) + SYNC],
    "extended end of nothing": [q(f"SET {SETTING} = '7'"), run("BEGIN") + SYNC,
                                run(f"SET {SETTING} = '42'") + SYNC, run("COMMIT") + SYNC,
                                run(ROWS) + SYNC, run("BEGIN") + SYNC,
                                run(f"SET {SETTING} = '7'") + SYNC, run("ROLLBACK") + SYNC,
                                run(ROWS) + SYNC],
    "several in one text": [run("BEGIN; SELECT 2") + SYNC, run("COMMIT; SELECT 2") + SYNC,
                            q("BEGIN"), run("COMMIT; SELECT 2") + SYNC, q("ROLLBACK"),
                            q(ROWS)],
    "row by row": [run(CALL, "42", max_rows=1) + e("", 1) + SYNC, run(CALL, "42", max_rows=5) + SYNC],
    "run twice": [run(f"SET {SETTING} = '42'") + e() + SYNC, q(f"SHOW {SETTING}")],
    "an empty batch": [p("", CALL) + SYNC, SYNC, b("", "", ("42",)) + SYNC],
    "a local SET in a batch": [q(f"SET {SETTING} = '7'"),
                               run(f"SET LOCAL {SETTING} = '42'") + run(ROWS) + SYNC, q(ROWS)],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_i3_as_on_a_direct_connection(ledger, pooler, name):
    same(ledger, pooler, CONVERSATIONS[name])


@pytest.mark.parametrize("name", ["the habit", "as JDBC does", "kept by COMMIT"])
def test_i3_pipelined(ledger, pooler, name):
    requests = CONVERSATIONS[name]
    with log_in(ledger) as direct, log_in(pooler) as through:
        for client in (direct, through):
            client.send(*requests)
        for request in requests:
            assert exact(through.until("Z")) == exact(direct.until("Z")), request


# --- a walk ----------------------------------------------------------------------------------
def step(rng):
    """One request, and whether it asks for rows."""
    tenant = rng.choice([ACME, GLOBEX])
    return rng.choice([
        q("BEGIN"), q("COMMIT"), q("ROLLBACK"), q(ROWS), q(ROWS), q("SELECT 1/0"),
        q(f"SET {SETTING} = '{tenant}'"), q(f"SET LOCAL {SETTING} = '{tenant}'"),
        q(f"SELECT set_config('{SETTING}', '{tenant}', true)"), q(f"RESET {SETTING}"),
        q("SAVEPOINT a"), q("ROLLBACK TO a"), q("RELEASE a"), q("RESET ALL"),
        run(f"SELECT set_config('{SETTING}', $1, $2)", tenant, rng.choice("tf")) + SYNC,
        run(CALL, tenant) + run(ROWS) + SYNC, run("BEGIN") + SYNC, run("COMMIT") + SYNC,
        run(f"SET {SETTING} = '{tenant}'") + run("SELECT 1/0") + SYNC, run(ROWS) + SYNC])


@pytest.mark.parametrize("seed", range(6))
def test_i1_a_walk_shows_the_rows_that_a_direct_connection_shows(ledger, pooler, seed):
    """Where a change would come too late (25001), both transactions are rolled back."""
    rng = random.Random(seed)
    late = 0
    with log_in(ledger) as direct, log_in(pooler) as through, log_in(pooler) as other:
        for client in (direct, through):
            ask(client, q(f"SET {SETTING} = '{INITECH}'"), q(f"RESET {SETTING}"))
        for _ in range(400):
            request = step(rng)
            expected, got = ask(direct, request)[0], ask(through, request)[0]
            if sqlstate(got) == "25001" and sqlstate(expected) != "25001":
                late += 1
                ask(direct, q("ROLLBACK"))
                ask(through, q("ROLLBACK"))
            else:
                assert exact(got) == exact(expected), request
            # Somebody else's transactions on the same servers.
            ask(other, q(f"SET {SETTING} = '{INITECH}'"))
            assert other.rows(ROWS) == [(INITECH,)]
    assert late < 150


# --- when --------------------------------------------------------------------------------------
@pytest.mark.parametrize("change", [
    q(f"SET {SETTING} = '7'"), q(f"SET LOCAL {SETTING} = '7'"), q(f"RESET {SETTING}"),
    q("RESET ALL"), q(f"SELECT set_config('{SETTING}', '7', true)"), run(CALL, "7") + SYNC,
    run(f"SET {SETTING} = '7'") + SYNC])
def test_i1_not_after_a_statement(client, change):
    ask(client, q("BEGIN"), q(f"SET {SETTING} = '42'"))
    assert client.rows(ROWS) == [(ACME,)]
    got = ask(client, change)[0]
    assert sqlstate(got) == "25001" and got[-1].body == b"E"
    ask(client, q("ROLLBACK"), change)
    assert errors(ask(client, q("SELECT 2"))[0]) in ([], ["42501"])


def test_i1_nothing_behind_the_end_of_a_transaction(client):
    ask(client, q("BEGIN"), q(f"SET LOCAL {SETTING} = '42'"), q(ROWS))
    for text in ("COMMIT AND CHAIN", "ROLLBACK AND CHAIN", f"COMMIT; {ROWS}", f"{ROWS}; COMMIT"):
        assert sqlstate(ask(client, q(text))[0]) == "0A000", text
        ask(client, q("ROLLBACK"), q("BEGIN"), q(f"SET LOCAL {SETTING} = '42'"), q(ROWS))
    got = ask(client, run("COMMIT") + run(ROWS) + SYNC)[0]
    assert sqlstate(got) == "0A000" and not raw.find(got, "D")


def test_i1_a_prepared_text_is_judged_when_it_is_bound(client):
    """What sets the id of the tenant that it was prepared under is none of the next one's."""
    odd = f"SELECT 2, set_config('{SETTING}', '42', false)"
    ask(client, q(f"SET {SETTING} = '42'"), p("odd", odd) + SYNC)
    assert not errors(ask(client, b("", "odd") + e() + SYNC)[0])
    ask(client, q(f"SET {SETTING} = '7'"))
    assert sqlstate(ask(client, b("", "odd") + e() + SYNC)[0]) == "42501"
    assert client.rows(ROWS) == [(GLOBEX,)]
    plain = f"SET {SETTING} = '42'"
    ask(client, p("plain", plain) + SYNC, q("BEGIN"), q(ROWS))
    assert sqlstate(ask(client, b("", "plain") + e() + SYNC)[0]) == "25001"


def test_i1_sql_may_not_prepare_it(client):
    ask(client, q(f"SET {SETTING} = '42'"))
    for text in (f"PREPARE x AS SELECT set_config('{SETTING}', '42', false)",
                 f"SELECT 2; PREPARE x AS SELECT set_config('{SETTING}', '42', true)"):
        assert sqlstate(ask(client, q(text))[0]) == "42501"


# --- who ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("value, state", [("13", "28000"), ("", "42501"), ("acme", "28000"),
                                          ("4" * 200, None)])
def test_ids_that_are_not_known(client, value, state):
    for request in (q(f"SET {SETTING} = '{value}'"), run(CALL, value) + SYNC,
                    q(f"SELECT set_config('{SETTING}', '{value}', false)")):
        got = ask(client, request)[0]
        assert sqlstate(got) == (state or "42501") and got[-1].body == b"I"
    ask(client, q("BEGIN"))
    assert ask(client, q(f"SET LOCAL {SETTING} = '{value}'"))[0][-1].body == b"E"
    assert ask(client, q("ROLLBACK"))[0][-1].body == b"I"
    ask(client, q(f"SET {SETTING} = '42'"))
    assert client.rows(ROWS) == [(ACME,)]


def test_an_unknown_tenant_in_a_tier(ledger, turnstile):
    t = turnstile(switching(ledger, {"unknown_tenant": "guests"}, {"guests": {}}))
    with log_in(t) as client:
        ask(client, q(f"SET {SETTING} = 'visitor'"))
        assert show(client, SETTING) == "visitor"
        assert sqlstate(ask(client, q(f"SET {SETTING} = 'acme'"))[0]) == "28000"


def test_i6_who_names_ever_new_tenants_does_not_fill_the_memory(ledger, turnstile):
    t = turnstile(switching(ledger, {"unknown_tenant": "guests", "workers": 1}, {"guests": {"rate": "5/s"}}))
    with log_in(t) as client:
        for first in range(0, 12_500, 500):
            client.send(*(q(f"SET {SETTING} = 'visitor {i}'") for i in range(first, first + 500)))
            for _ in range(500):
                assert sqlstate(client.until("Z")) is None
    known = {row["name"] for row in t.admin("SHOW TENANTS")}
    assert "visitor 12499" in known and "visitor 0" not in known
    assert len(known) <= 10_000 + 1024 + len(TENANTS) + 1


def test_only_with_permission(ledger, turnstile):
    t = turnstile(switching(ledger, changes={"users": {APP_USER: {"tenant_switch": "no"}}}))
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t)
    assert refused.value.fields["C"] == "28000"
    with enter(t, "acme") as client:
        assert sqlstate(ask(client, q(f"SET {SETTING} = '7'"))[0]) == "42501"
        assert client.rows(ROWS) == [(ACME,)]


def test_back_to_what_it_began_with(ledger, turnstile):
    t = turnstile(switching(ledger))
    with enter(t, "acme") as client:
        assert client.rows(ROWS) == [(ACME,)]
        for back in (f"RESET {SETTING}", "RESET ALL", "DISCARD ALL", f"SET {SETTING} TO DEFAULT",
                     "SELECT 2; RESET ALL"):
            ask(client, q(f"SET {SETTING} = '7'"))
            assert client.rows(ROWS) == [(GLOBEX,)], back
            ask(client, q(back))
            assert client.rows(ROWS) == [(ACME,)], back
        ask(client, q("BEGIN"), q(f"SET LOCAL {SETTING} = '7'"))
        assert ask(client, q(f"SELECT set_config('{SETTING}', NULL, true)"))[0][1].row == (ACME,)


def test_i1_a_session_that_keeps_its_server(ledger, pooler):
    """A temporary table ties it to one; its tenant changes there."""
    same(ledger, pooler, [
        q(f"SET {SETTING} = '42'"), q("CREATE TEMP TABLE switch_own (n int)"), q(ROWS),
        q(f"SET {SETTING} = '7'"), q(ROWS), run(ROWS) + SYNC, q("BEGIN"),
        q(f"SET LOCAL {SETTING} = '1001'"), q(ROWS), q("COMMIT"), q(ROWS),
        run(CALL, "42") + run(ROWS) + SYNC, run(ROWS) + SYNC, q("BEGIN"),
        run(f"SET {SETTING} = '42'") + SYNC, run(ROWS) + SYNC, q("ROLLBACK"), q(ROWS),
        q(f"SET {SETTING} = '42'"), run("SELECT 1/0") + SYNC, q(ROWS),
        q("SELECT count(*) FROM switch_own"), q("DROP TABLE switch_own"), q(ROWS)])


def test_i1_a_session_that_listens(ledger, pooler):
    """It chooses outside of transactions, which begin on the server at once."""
    with log_in(pooler) as client:
        ask(client, q("LISTEN switch_news"))
        for tenant in (ACME, GLOBEX):
            ask(client, q(f"SET {SETTING} = '{tenant}'"))
            assert client.rows(ROWS) == [(tenant,)]
        ask(client, q("BEGIN"))
        assert sqlstate(ask(client, q(f"SET LOCAL {SETTING} = '42'"))[0]) == "25001"
        ask(client, q("ROLLBACK"))
        assert client.rows(ROWS) == [(GLOBEX,)]


def test_i1_a_transaction_in_two_phases(ledger, client):
    ask(client, q(f"SET {SETTING} = '7'"), q("BEGIN"), q(f"SET {SETTING} = '42'"), q(ROWS),
        q("PREPARE TRANSACTION 'switch'"))
    assert client.rows(ROWS) == [(ACME,)]
    ask(client, q("ROLLBACK PREPARED 'switch'"))
    assert client.rows(ROWS) == [(ACME,)]


def test_i1_a_reload_takes_a_tenant_away(ledger, turnstile):
    t = turnstile(switching(ledger))
    with log_in(t) as client, log_in(t) as other:
        ask(client, q(f"SET {SETTING} = '42'"), q(ROWS), q(f"SET {SETTING} = '7'"), q(ROWS))
        ask(other, q(f"SET {SETTING} = '42'"), q(ROWS))
        t.config["tenants"].pop("acme")
        t.reload()
        assert sqlstate(ask(client, q(f"SET {SETTING} = '42'"))[0]) == "28000"
        assert client.rows(ROWS) == [(GLOBEX,)]
        assert raw.find(other.until_closed(), "E")[0].fields["C"] == "57P01"


# --- none yet ----------------------------------------------------------------------------------
def test_no_tenant_reject(client):
    for request in (q(ROWS), q("SELECT 2"), run(ROWS) + SYNC):
        got = ask(client, request)[0]
        fields = raw.find(got, "E")[0].fields
        assert fields["C"] == "42501" and SETTING in fields["H"] and got[-1].body == b"I"
    ask(client, q("RESET ALL"), q("DISCARD ALL"))
    ask(client, q("BEGIN"))
    assert ask(client, q(ROWS))[0][-1].body == b"E"
    assert ask(client, q("ROLLBACK"))[0][-1].body == b"I"
    assert ask(client, q("BEGIN"), q("COMMIT"))[-1][-1].body == b"I"
    ask(client, q("BEGIN"), q(f"SET LOCAL {SETTING} = '42'"))
    assert client.rows(ROWS) == [(ACME,)]
    ask(client, q("COMMIT"))
    assert sqlstate(ask(client, q(ROWS))[0]) == "42501"


def test_no_tenant_empty(pooler):
    with log_in(pooler) as client:
        assert client.rows(ROWS) == []
        assert show(client, SETTING) == ""
        ask(client, q(f"SET {SETTING} = '42'"))
        assert client.rows(ROWS) == [(ACME,)]
        ask(client, q(f"RESET {SETTING}"))
        assert client.rows(ROWS) == []


# --- what it costs -----------------------------------------------------------------------------
def savings(pooler):
    return next(r for r in pooler.admin("SHOW SAVINGS") if r["database"] == APP_DATABASE)


def test_the_habit_costs_two_trips(pooler):
    with log_in(pooler) as client:
        ask(client, q("BEGIN"), q(f"SELECT set_config('{SETTING}', '42', true)"), q(ROWS),
            q("COMMIT"))
        before = savings(pooler)
        for _ in range(10):
            ask(client, q("BEGIN"), q(f"SELECT set_config('{SETTING}', '42', true)"), q(ROWS),
                q("COMMIT"))
    after = savings(pooler)
    assert after["tenant_sets"] - before["tenant_sets"] == 10
    assert after["asked"] - before["asked"] == 40
    assert after["saved"] - before["saved"] == 20


def clients_of(pooler):
    return {row["name"]: row["cl_active"] for row in pooler.admin("SHOW TENANTS")}


def test_a_tenant_keeps_its_limit_of_clients(ledger, turnstile):
    t = turnstile(switching(ledger, tiers={"basic": {"max_client_conn": 2}}))
    with contextlib.ExitStack() as stack:
        a, two, three = [stack.enter_context(log_in(t)) for _ in range(3)]
        for client in (a, two):
            assert not errors(ask(client, q(f"SET {SETTING} = '42'"))[0])
        assert sqlstate(ask(three, q(f"SET {SETTING} = '42'"))[0]) == "53300"
        ask(three, q("BEGIN"))
        assert sqlstate(ask(three, q(f"SET LOCAL {SETTING} = '42'"))[0]) == "53300"
        ask(three, q("ROLLBACK"), q(f"SET {SETTING} = '7'"))
        # Within a transaction it is a client of both.
        ask(two, q("BEGIN"), q(f"SET LOCAL {SETTING} = '7'"))
        assert sqlstate(ask(three, q(f"SET {SETTING} = '42'"))[0]) == "53300"
        ask(two, q("COMMIT"), q(f"SET {SETTING} = '7'"))
        assert not errors(ask(three, q(f"SET {SETTING} = '42'"))[0])
        two.close()
    with log_in(t) as client:
        assert not errors(ask(client, q(f"SET {SETTING} = '7'"))[0])


def test_limits_are_those_of_the_tenant_chosen(ledger, turnstile):
    t = turnstile(switching(ledger, tiers={"slow": {"rate": "1/h", "burst": "2"}}, changes={
        "tenants": {"globex": {"tier": "slow", "business_id": GLOBEX}}}))
    with log_in(t) as client:
        ask(client, q(f"SET {SETTING} = '7'"))
        assert [errors(ask(client, q(ROWS))[0]) for _ in range(3)] == [[], [], ["53400"]]
        ask(client, q(f"SET {SETTING} = '42'"))
        assert client.rows(ROWS) == [(ACME,)]
        ask(client, q("BEGIN"), q(f"SET LOCAL {SETTING} = '7'"))
        assert sqlstate(ask(client, q(ROWS))[0]) == "53400"


def test_a_ceiling_is_that_of_the_tenant_chosen(ledger, turnstile):
    t = turnstile(switching(ledger, tiers={"fast": {"statement_timeout": "3s"},
                                           "basic": {"statement_timeout": "60s"}}, changes={
        "tenants": {"globex": {"tier": "fast", "business_id": GLOBEX}}}))
    with log_in(t) as client:
        ask(client, q(f"SET {SETTING} = '42'"), q("SET statement_timeout = '30s'"),
            p("long", "SET statement_timeout = '50s'") + SYNC)
        assert show(client, "statement_timeout") == "30s"
        ask(client, q(f"SET {SETTING} = '7'"))
        assert show(client, "statement_timeout") == "3s"
        assert sqlstate(ask(client, b("", "long") + e() + SYNC)[0]) == "42501"
        ask(client, q(f"SET {SETTING} = '42'"))
        assert show(client, "statement_timeout") == "30s"


SWITCH_TIERS = {"tiers": {"fast": {"statement_timeout": "3s"}, "basic": {"statement_timeout": "15s"}},
                "changes": {"tenants": {"globex": {"tier": "fast", "business_id": GLOBEX}}}}


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
@pytest.mark.parametrize("text", ["SET work_mem = '5MB'", "SET LOCAL statement_timeout = '1s'", "DO $$ BEGIN END $$",
                                  "CREATE TEMP TABLE switch_temp () ON COMMIT DROP"])
def test_a_ceiling_is_not_that_of_the_tenant_before(ledger, turnstile, text, end):
    """What a transaction has left is asked about, and then the timeout stands there as it was lowered."""
    with log_in(turnstile(switching(ledger, **SWITCH_TIERS))) as client:
        ask(client, q(f"SET {SETTING} = '42'"), q("SET statement_timeout = '5s'"))
        for _ in range(2):
            ask(client, q(f"SET {SETTING} = '7'"), q("BEGIN"))
            assert show(client, "statement_timeout") == "3s"
            assert not errors(ask(client, q(text))[0])
            ask(client, q(end))
            assert show(client, "statement_timeout") == "3s"
            ask(client, q(f"SET {SETTING} = '42'"))
            assert show(client, "statement_timeout") == "5s"


def test_a_timeout_that_is_said_under_a_ceiling_is_the_sessions(ledger, turnstile):
    with log_in(turnstile(switching(ledger, **SWITCH_TIERS))) as client:
        ask(client, q(f"SET {SETTING} = '42'"), q("SET statement_timeout = '5s'"), q(f"SET {SETTING} = '7'"),
            q("BEGIN"), q("SET statement_timeout = '3s'"), q("COMMIT"), q(f"SET {SETTING} = '42'"))
        assert show(client, "statement_timeout") == "3s"


# --- comments ----------------------------------------------------------------------------------
@pytest.fixture
def commenter(ledger, turnstile):
    with log_in(turnstile(switching(ledger, {"tenant_by": "comment"}))) as c:
        yield c


@pytest.mark.parametrize("text", [
    ROWS + " /*business_id='42'*/", f"/*business_id='42'*/ {ROWS}",
    ROWS + " /*app='x',business_id='4%32',route='%2Fa'*/;"])
def test_i1_a_comment_holds_for_its_statement(commenter, text):
    for _ in range(2):
        assert commenter.rows(text) == [(ACME,)]
        assert sqlstate(ask(commenter, q(ROWS))[0]) == "42501"
        got = ask(commenter, run(text) + SYNC)[0]
        assert [m.row for m in raw.find(got, "D")] == [(ACME,)]
    ask(commenter, p("s", text) + SYNC)
    assert [m.row for m in raw.find(ask(commenter, b("", "s") + e() + SYNC)[0], "D")] == [(ACME,)]
    assert commenter.rows(ROWS + " /*business_id='7'*/") == [(GLOBEX,)]


def test_i1_a_comment_holds_for_its_transaction(commenter):
    for begin in ("BEGIN /*business_id='42'*/", "BEGIN"):
        ask(commenter, q(begin))
        assert commenter.rows(ROWS + " /*business_id='42'*/") == [(ACME,)]
        assert commenter.rows(ROWS) == [(ACME,)]
        got = ask(commenter, q(ROWS + " /*business_id='7'*/"))[0]
        assert sqlstate(got) == "25001" and got[-1].body == b"E"
        ask(commenter, q("ROLLBACK"))
        assert sqlstate(ask(commenter, q(ROWS))[0]) == "42501"


@pytest.mark.parametrize("comment, state", [
    ("/*business_id='13'*/", "28000"), ("/*business_id=''*/", "42501"),
    ("/*business_id='%zz'*/", "42501"), ("/*business_id='7',business_id='42'*/", "42501"),
    ("/*other='42'*/", "42501")])
def test_comments_that_name_no_tenant(commenter, comment, state):
    assert sqlstate(ask(commenter, q(f"{ROWS} {comment}"))[0]) == state
    assert sqlstate(ask(commenter, run(f"{ROWS} {comment}") + SYNC)[0]) == state
    assert commenter.rows(ROWS + " /*business_id='42'*/") == [(ACME,)]


def test_without_the_way_a_setting_or_a_comment_is_not_heard(client, commenter):
    assert sqlstate(ask(client, q(ROWS + " /*business_id='42'*/"))[0]) == "42501"
    assert sqlstate(ask(commenter, q(f"SET {SETTING} = '42'"))[0]) == "42501"


# --- many at once ------------------------------------------------------------------------------
def one_transaction(client, rng, tenant):
    """The rows and the settings that a transaction of this tenant has seen."""
    asks = q(f"{ROWS}; SHOW {SETTING}")
    ways = [
        [q("BEGIN"), q(f"SELECT set_config('{SETTING}', '{tenant}', true)"), asks, q("COMMIT")],
        [q("BEGIN"), q(f"SET {SETTING} = '{tenant}'"), asks, q("ROLLBACK")],
        [q(f"SET {SETTING} = '{tenant}'"), asks, q(f"RESET {SETTING}")],
        [p("", "BEGIN") + b() + e() + run(CALL, tenant) + run(ROWS) + SYNC, asks, q("ROLLBACK")],
        [run(CALL, tenant) + run(ROWS) + SYNC],
        [q(f"{ROWS} /*business_id='{tenant}'*/")],
        [q(f"SET {SETTING} = '{tenant}'"), q("SELECT pg_sleep(0.02)"), asks, q("RESET ALL")],
    ]
    requests = rng.choice(ways)
    if rng.random() < 0.3:
        client.send(*requests)
        answers = [client.until("Z") for _ in requests]
    else:
        answers = ask(client, *requests)
    return [row for got in answers for row in raw.find(got, "D")], answers


def come_in(pooler):
    """A client; its login may be asking a server that is killed."""
    clients = []

    def logged_in():
        with contextlib.suppress(EOFError, ConnectionError, raw.LoginRefused):
            clients.append(log_in(pooler))
        return clients

    wait_until(logged_in, 20, "somebody can log in")
    return clients[0]


def be_many(pooler, seed, wrong, seen):
    rng = random.Random(seed)
    client = come_in(pooler)
    for _ in range(120):
        tenant = rng.choice(list(TENANTS.values()))
        try:
            if rng.random() < 0.1:
                threading.Timer(rng.random() / 50, client.cancel).start()
            found, answers = one_transaction(client, rng, tenant)
        except (EOFError, ConnectionError):
            client = come_in(pooler)
            continue
        values = {row.row[0] for row in found if row.row[0]}
        seen.append(len(found))
        if values - {tenant}:
            wrong.append((tenant, answers))
        if any(got[-1].body != b"I" for got in answers[-1:]):
            ask(client, q("ROLLBACK"), q(f"RESET {SETTING}"))
    client.close()


@pytest.mark.slow
def test_i1_many_sessions_that_choose(ledger, turnstile):
    """On two servers, with cancels and with servers that die."""
    t = turnstile(switching(ledger, {"tenant_by": "set, comment", "query_wait_timeout": "20s"}))
    wrong, seen = [], []
    threads = [threading.Thread(target=be_many, args=(t, seed, wrong, seen)) for seed in range(10)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ledger.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                   f" WHERE usename = '{APP_USER}' ORDER BY random() LIMIT 1")
        threads[0].join(0.3)
        for thread in threads:
            thread.join(0.01)
    assert not wrong, wrong[0]
    assert t.is_running()
    assert sum(seen) > 1000


# --- drivers -----------------------------------------------------------------------------------
@pytest.mark.parametrize("prepare_threshold", [0, None])
def test_psycopg(ledger, turnstile, prepare_threshold):
    t = turnstile(switching(ledger))
    with psycopg.connect(host=t.host, port=t.port, user=APP_USER, password=APP_PASSWORD,
                         dbname=APP_DATABASE, prepare_threshold=prepare_threshold) as connection:
        for tenant in (ACME, GLOBEX, ACME):
            with connection.transaction():
                assert connection.execute("SELECT set_config(%s::text, %s, true)".replace(
                    "%s::text", f"'{SETTING}'"), [tenant]).fetchone() == (tenant,)
                assert connection.execute(ROWS).fetchall() == [(tenant,)]
                with connection.transaction():
                    assert connection.execute(ROWS).fetchall() == [(tenant,)]
