# SPDX-License-Identifier: ISC
#
# test_hostile_tenants.py - tenants of shared pools that mean harm, byte by byte.
#
# What is right is what a direct connection says, or a refusal; never another's rows, and never the
# end of the process.
"""I1, I3 and I6 where tenants share servers and choose within a session."""
import os
import random
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import log_in, sqlstate
from tenancy import SETTING, TENANTS, enter, errors, make_ledger, show, tenants
from test_tenant_switch import SYNC, ask, exact, run, switching

ACME, GLOBEX, INITECH = TENANTS["acme"], TENANTS["globex"], TENANTS["initech"]
TABLE = "hostile_ledger"
BURSTS = int(os.environ.get("PGT_BURSTS", 100))
ROWS = f"SELECT DISTINCT business_id FROM {TABLE}"

q, p, b, d, e = raw.query, raw.parse, raw.bind, raw.describe, raw.execute


@pytest.fixture(scope="module")
def ledger(primary):
    make_ledger(primary, table=TABLE)
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


@pytest.mark.parametrize("reset", ["RESET statement_timeout", "RESET ALL"])
def test_i1_no_portal_behind_a_reset(ledger, turnstile, reset):
    """One that was bound before would run without the ceiling."""
    t = turnstile(tenants(ledger, {"tenant_pool": "shared"},
                          {"basic": {"statement_timeout": "500ms"}}))
    with enter(t, "acme") as client:
        client.query(ROWS)
        got = ask(client, p("s", "SELECT pg_sleep(2)") + b("u", "s") + run(reset) + e("u") + SYNC)[0]
        assert sqlstate(got) == "42501"
        assert client.rows(ROWS) == [(ACME,)]


@pytest.mark.parametrize("reset", ["RESET ALL", "RESET statement_timeout", f"RESET {SETTING}",
                                   "SET work_mem TO DEFAULT; RESET ALL"])
@pytest.mark.parametrize("is_extended", [False, True])
def test_i1_a_reset_of_a_session_that_began_with_settings(ledger, turnstile, reset, is_extended):
    t = turnstile(tenants(ledger, {"tenant_pool": "shared"},
                          {"basic": {"statement_timeout": "5s"}}))
    with enter(t, "acme", options="-c work_mem=5MB -c statement_timeout=3s") as client:
        client.query(ROWS)
        ask(client, run(reset) + SYNC if is_extended else q(reset))
        assert show(client, SETTING) == ACME and client.rows(ROWS) == [(ACME,)]
        assert show(client, "statement_timeout") == "3s"


# --- a session's tenant --------------------------------------------------------------------------
def test_i3_an_error_behind_a_commit_undoes_nothing(ledger, pooler):
    with log_in(ledger) as direct, log_in(pooler) as through:
        for request in [q(f"SET {SETTING} = '7'"), q("BEGIN"), q(f"SET {SETTING} = '42'"), q(ROWS),
                        run("COMMIT") + p("", "syntax error") + SYNC, q(ROWS)]:
            expected, got = ask(direct, request)[0], ask(through, request)[0]
            assert exact(got) == exact(expected), request


def test_a_ceiling_is_not_passed_by_what_another_tenant_has_prepared(ledger, turnstile):
    t = turnstile(switching(ledger, tiers={"basic": {"statement_timeout": "60s"}}))
    with log_in(t) as client:
        ask(client, q(f"SET {SETTING} = '42'"))
        text = "PREPARE x AS SELECT set_config('statement_timeout', '50s', false)"
        for request in (q(text), run(text) + SYNC):
            assert sqlstate(ask(client, request)[0]) == "42501"


# --- limits --------------------------------------------------------------------------------------
@pytest.mark.parametrize("begin", [[], [q("BEGIN"), q(ROWS)]])
def test_each_statement_of_a_text_too_long_to_be_looked_at_costs(ledger, turnstile, begin):
    t = turnstile(tenants(ledger, {"tenant_pool": "shared"},
                          {"basic": {"rate": "1/h", "burst": "200"}}))
    text = ";".join(["SELECT 2"] * 150) + " /*" + "x" * 1048576 + "*/"
    with enter(t, "acme") as client:
        ask(client, *begin)
        assert not errors(ask(client, q(text))[0])
        used = [row["used"] for row in t.admin("SHOW LIMITS")
                if row["tenant"] == "acme" and row["limit"] == "rate"]
        assert used == [150 + len(begin)]


# --- what is known of statements -----------------------------------------------------------------
def test_i3_a_statement_behind_a_begin_that_has_failed_here(pooler):
    """The BEGIN is sent with something that takes the unnamed statement along."""
    with log_in(pooler) as client:
        ask(client, q(f"SET {SETTING} = '42'"), p("begin", "BEGIN") + SYNC, p("", ROWS) + SYNC,
            b("u", "begin") + e("u") + SYNC)
        assert sqlstate(ask(client, q(f"SET {SETTING} = '13'"))[0]) == "28000"
        assert errors(ask(client, b() + e() + SYNC)[0])
        ask(client, q("ROLLBACK"))
        assert client.rows(ROWS) == [(ACME,)]


# --- the console -----------------------------------------------------------------------------------
def test_a_server_of_which_nobody_knows_whose_it_is_is_shown(pooler):
    with log_in(pooler) as client:
        ask(client, q(f"SET {SETTING} = '42'"), q("SET work_mem = '5MB'"), q("DISCARD ALL"))
        assert {row["name"] for row in pooler.admin("SHOW TENANTS")} >= {"acme"}


# --- anything goes ---------------------------------------------------------------------------------
LOOK = f"SELECT 'row', business_id, current_setting('{SETTING}') FROM {TABLE}"
# Each asks to be given this back, so that it shows where the answers end.
MARK = "SELECT 'mark ' || %d"


class Mischief:
    """A client that sends messages in any order, and the ids that it may see."""

    def __init__(self, pooler, rng, ids, tenant=None):
        self.pooler, self.rng, self.ids, self.tenant = pooler, rng, ids, tenant
        self.marks, self.rows, self.sent = 0, 0, []
        self.open()

    def open(self):
        self.client = (enter(self.pooler, self.tenant, timeout=40) if self.tenant
                       else log_in(self.pooler, timeout=40))

    def text(self):
        rng, own = self.rng, self.rng.choice(self.ids)
        return rng.choice([
            LOOK, LOOK, LOOK, LOOK + f" /*business_id='{own}'*/", "BEGIN", "COMMIT", "ROLLBACK",
            "SAVEPOINT a", "ROLLBACK TO a", "RELEASE a", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN",
            f"SET {SETTING} = '{own}'", f"SET LOCAL {SETTING} = '{own}'", f"RESET {SETTING}",
            f"SELECT set_config('{SETTING}', '{own}', true)", "RESET ALL", "DISCARD ALL",
            f"SELECT 2, set_config('{SETTING}', '{own}', false)", "SELECT 1/0", "syntax error",
            "CREATE TEMP TABLE IF NOT EXISTS hostile_pin (n int)", "DROP TABLE IF EXISTS hostile_pin",
            "SET statement_timeout = '3s'", "RESET statement_timeout", "SET work_mem = '5MB'",
            "SET application_name = 'ü'", "DO $$ BEGIN PERFORM 2; END $$", "", "SELECT 1",
            f"PREPARE x AS {LOOK}", "EXECUTE x", "DEALLOCATE x", "DEALLOCATE ALL",
            f"DECLARE c CURSOR WITH HOLD FOR {LOOK}", "FETCH c", "CLOSE c", f"BEGIN; {LOOK}",
            f"{LOOK}; COMMIT", f"BEGIN; {LOOK}; COMMIT", f"COMMIT; BEGIN; {LOOK}",
            "COPY hostile_pin FROM STDIN", f"COPY ({LOOK}) TO STDOUT", "LISTEN hostile",
            "UNLISTEN *", "NOTIFY hostile", "SELECT pg_sleep(0.01)", "BEGIN READ ONLY",
            "PREPARE TRANSACTION 'hostile'", "SET LOCAL work_mem = '6MB'", "VACUUM hostile_pin",
            "SELECT pg_advisory_lock(4242)", "SELECT pg_advisory_unlock_all()"])

    def message(self):
        rng, name = self.rng, self.rng.choice(["", "", "s", "t"])
        portal, own = rng.choice(["", "", "u"]), rng.choice(self.ids)
        if rng.random() < 0.4:
            return rng.choice([q(LOOK), q(LOOK), run(LOOK) + SYNC, run(LOOK), q("BEGIN"), q("COMMIT"),
                               q("ROLLBACK"), q(f"SET {SETTING} = '{own}'"), SYNC,
                               q(f"SET LOCAL {SETTING} = '{own}'")])
        return rng.choice([
            lambda: q(self.text()), lambda: q(self.text()), lambda: p(name, self.text()),
            lambda: p(name, self.text()), lambda: b(portal, name), lambda: b(portal, name),
            lambda: b(portal, name, (own,)), lambda: e(portal), lambda: e(portal),
            lambda: e(portal, 1), lambda: d("S", name), lambda: d("P", portal), lambda: SYNC,
            lambda: SYNC, raw.flush, lambda: raw.close("S", name), lambda: raw.close("P", portal),
            lambda: p(name, f"SELECT set_config('{SETTING}', $1, {rng.choice(['true', 'false'])})"),
            lambda: run(self.text()) + SYNC, lambda: run(self.text()) + SYNC,
            lambda: run(f"SELECT set_config('{SETTING}', $1, $2)", own, rng.choice("tf")) + SYNC,
            lambda: raw.copy_data(b"1\n"), raw.copy_done, lambda: raw.copy_fail("no"),
        ])()

    def burst(self):
        """Some messages, and the answers to all of them."""
        self.marks += 1
        self.sent = [q(f"SET {SETTING} = '{self.rng.choice(self.ids)}'")] * self.rng.randint(0, 1)
        self.sent += [self.message() for _ in range(self.rng.randint(1, 9))]
        try:
            if self.rng.random() < 0.05:
                threading.Timer(self.rng.random() / 50, self.client.cancel).start()
            if self.rng.random() < 0.5:
                self.client.send(*self.sent)
            else:
                for one in self.sent:
                    self.client.send(one)
            self.client.send(raw.copy_fail("over"), SYNC, q("ROLLBACK"))
            # Who keeps a server is not to keep it for long.
            if self.rng.random() < 0.5:
                self.client.send(q("DISCARD ALL"))
            self.client.send(q(MARK % self.marks))
            self.look(self.until_mark())
            if self.rng.random() < 0.1:
                self.client.close()
                self.open()
        except (EOFError, ConnectionError):
            self.open()

    def until_mark(self):
        """A cancel may hit the question for the mark."""
        got = []
        while True:
            got += self.client.until("Z")
            if any(m.row == (f"mark {self.marks}",) for m in raw.find(got, "D")):
                return got
            if raw.find(got[-3:], "E") and raw.find(got[-3:], "E")[0].fields["C"] in ("57014", "42501"):
                self.client.send(q("ROLLBACK"), q(f"SET {SETTING} = '{self.ids[0]}'"),
                                 q(MARK % self.marks))

    def look(self, answers):
        for row in [m.row for m in raw.find(answers, "D") if m.row[0] == 'row']:
            self.rows += 1
            assert row[1] in self.ids and row[1] == row[2], (row, self.sent)


GATED = {"rate": "100000/s", "max_transactions": "1"}


def seeds(count):
    seed = os.environ.get("PGT_SEED")
    return [int(seed)] if seed else range(count)


@pytest.mark.parametrize("seed", seeds(4))
def test_i1_messages_in_any_order(ledger, turnstile, seed):
    """On two servers; some die, and the configuration is read again."""
    t = turnstile(switching(ledger, {"no_tenant": "empty", "tenant_by": "user_suffix, set, comment",
                                     "query_wait_timeout": "20s"},
                            {"basic": {"statement_timeout": "5s",
                                       **(GATED if seed % 2 else {})}}))
    ways = [((ACME, GLOBEX), None), ((ACME, GLOBEX), "acme"), ((INITECH,), None),
            ((INITECH,), "initech")]
    failures, rows = [], []

    def be(number, ids, tenant):
        mischief = Mischief(t, random.Random(seed * 100 + number), ids, tenant)
        try:
            for _ in range(BURSTS):
                mischief.burst()
        except BaseException as failure:
            failures.append((failure, mischief.sent))
        rows.append(mischief.rows)
        mischief.client.close()

    threads = [threading.Thread(target=be, args=(n, *way)) for n, way in enumerate(ways)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ledger.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                   f" WHERE usename = '{APP_USER}' AND random() < 0.2 LIMIT 1")
        if t.is_running():
            t.admin("RELOAD")
            t.admin("SHOW TENANTS")
        for thread in threads:
            thread.join(0.1)
    assert not failures, failures[0]
    assert sum(rows) > BURSTS
