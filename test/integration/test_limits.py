# SPDX-License-Identifier: ISC
#
# test_limits.py - limits of tenants: what costs what, what a refusal does, and that none comes in the
# middle of a transaction (I10).
"""Buckets are sized so that nothing refills while a test runs (1/h), or at once (many per second)."""
import re
import signal
import threading
import time

import psycopg
import pytest

import raw
from conftest import APP_PASSWORD
from machine import scratch_dir
from rig import log_in, sqlstate
from tenancy import connect, enter, errors, tenants
from waiting import wait_until

FIVE = {"rate": "1/h", "burst": 5}


def limited(server, tier=None, settings=None):
    return tenants(server, settings, {"basic": tier or FIVE})


def shown(pooler, column="tokens", tenant="acme"):
    """A column of SHOW TENANTS."""
    return next(row[column] for row in pooler.admin("SHOW TENANTS") if row["name"] == tenant)


@pytest.fixture
def pooler(primary, turnstile):
    return turnstile(limited(primary))


@pytest.fixture
def acme(pooler):
    with enter(pooler, "acme") as client:
        yield client


def spend(client, count):
    for _ in range(count):
        assert client.rows("SELECT 2") == [("2",)]


def seconds(messages):
    """How long the refusal says to wait."""
    fields = raw.find(messages, "E")[0].fields
    assert fields["C"] == "53400" and "acme" in fields["M"], fields
    detail = re.fullmatch(r"limit=(\S+) retry_after_ms=(\d+) tenant=acme", fields["D"])
    shown = float(re.search(r"retry after ([\d.]+) s", fields["M"]).group(1))
    assert f'"{detail[1]}"' in fields["M"] and 0 <= shown - int(detail[2]) / 1000 <= 0.1, fields
    return shown


# --- rate and burst --------------------------------------------------------------------------
@pytest.mark.tsan
@pytest.mark.parametrize("rule, most", [({"rate": "1/h", "burst": 3}, 3600), ({"rate": "3/h"}, 1200),
                                        ({"rate": "1/m", "burst": 3}, 60)], ids=str)
def test_a_burst_and_no_more(primary, turnstile, rule, most):
    with enter(turnstile(limited(primary, rule)), "acme") as client:
        began = time.monotonic()
        spend(client, 3)
        messages = client.query("SELECT 2")
        assert raw.kinds(messages) == "EZ" and messages[-1].body == b"I"
        assert most - 1 - (time.monotonic() - began) < seconds(messages) <= most
        assert sqlstate(client.query("SELECT 2")) == "53400"


def test_tokens_come_back(primary, turnstile):
    with enter(turnstile(limited(primary, {"rate": "20/s", "burst": 2})), "acme") as client:
        client.send(*[raw.query("SELECT 2")] * 200)
        answers = [client.until("Z") for _ in range(200)]
        refused = [messages for messages in answers if errors(messages)]
        assert refused and all(0 < seconds(messages) <= 0.1 for messages in refused)
        wait_until(lambda: not errors(client.query("SELECT 2")), 5)


def test_others_have_their_own(pooler, acme):
    spend(acme, 5)
    assert sqlstate(acme.query("SELECT 2")) == "53400"
    with enter(pooler, "globex") as other:
        spend(other, 5)


def test_leaving_and_coming_back_refills_nothing(pooler, acme):
    spend(acme, 5)
    acme.close()
    with enter(pooler, "acme") as again:
        assert sqlstate(again.query("SELECT 2")) == "53400"


def test_it_is_shown_and_counted(pooler, acme):
    spend(acme, 3)
    assert shown(pooler) == 2
    spend(acme, 2)
    for _ in range(4):
        acme.query("SELECT 2")
    assert (shown(pooler), shown(pooler, "limited")) == (0, 4)


def test_reload_changes_it(pooler, acme):
    spend(acme, 5)
    pooler.reload({"tiers": {"basic": {"rate": "1/h", "burst": 7}}})
    spend(acme, 2)
    assert sqlstate(acme.query("SELECT 2")) == "53400"
    pooler.reload({"tiers": {"basic": {"rate": "0", "burst": 0}}})
    spend(acme, 20)


# --- what costs a token ----------------------------------------------------------------------
@pytest.mark.parametrize("text, cost", [
    ("SELECT 2", 1), ("SELECT 2;", 1), ("SELECT 2; SELECT 2; SELECT 3", 3), ("SELECT 2;;; SELECT 2", 2),
    ("SELECT 'a;b' /* ; */ -- ;", 1), ("SELEC 1", 1), ("SELECT 2/0; SELECT 2", 2),
    ("BEGIN; SELECT 2; COMMIT", 3), ("", 0), (" ; ;", 0), ("-- nothing", 0)])
def test_one_for_each_statement_of_a_string(pooler, acme, text, cost):
    acme.query(text)
    assert shown(pooler) == 5 - cost


@pytest.mark.parametrize("executes", [1, 2, 4])
def test_one_for_each_execute(pooler, acme, executes):
    acme.send(raw.parse("", "SELECT 2"), *[raw.bind() + raw.execute()] * executes, raw.sync())
    assert not errors(acme.until("Z"))
    assert shown(pooler) == 5 - executes


def test_preparing_and_describing_cost_nothing(pooler, acme):
    acme.send(raw.parse("a", "SELECT $1::int"), raw.describe("S", "a"), raw.sync(), raw.sync(),
              raw.close("S", "a"), raw.sync(), raw.flush())
    for _ in range(3):
        assert not errors(acme.until("Z"))
    assert shown(pooler) == 5


def test_a_fetch_in_parts_costs_each_part(pooler, acme):
    acme.send(raw.parse("", "SELECT generate_series(1, 3)"), raw.bind(), raw.execute("", 1),
              raw.execute("", 1), raw.sync())
    assert raw.kinds(acme.until("Z")) == "12DsDsZ"
    assert shown(pooler) == 3


# --- refusals in the extended protocol --------------------------------------------------------
def test_a_refusal_skips_to_sync(acme):
    spend(acme, 5)
    acme.send(raw.parse("", "SELECT 2"), raw.bind(), raw.describe("P"), raw.execute(),
              raw.parse("b", "SELECT 2"), raw.bind("", "b"), raw.execute(), raw.sync())
    messages = acme.until("Z")
    assert raw.kinds(messages).endswith("EZ") and raw.kinds(messages).count("E") == 1
    assert sqlstate(messages) == "53400" and messages[-1].body == b"I"
    acme.send(raw.sync())
    assert raw.kinds(acme.until("Z")) == "Z"


def test_a_refused_pipeline_answers_every_sync(acme):
    spend(acme, 3)
    for _ in range(5):
        acme.send(raw.parse("", "SELECT 2"), raw.bind(), raw.execute(), raw.sync())
    answers = [errors(acme.until("Z")) for _ in range(5)]
    assert answers == [[], [], ["53400"], ["53400"], ["53400"]]


def test_a_pipeline_of_queries_is_decided_one_by_one(acme):
    acme.send(*[raw.query("SELECT 2")] * 8)
    assert [errors(acme.until("Z")) for _ in range(8)] == [[]] * 5 + [["53400"]] * 3


def test_psycopg_lives_on(pooler):
    with connect(pooler, "acme") as connection:
        for _ in range(5):
            connection.execute("SELECT %s", [1])
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            connection.execute("SELECT %s", [1])
        pooler.reload({"tiers": {"basic": {"rate": "0", "burst": 0}}})
        assert connection.execute("SELECT %s", [1]).fetchone() == (1,)


# --- transactions ----------------------------------------------------------------------------
def test_i10_never_in_the_middle(pooler, acme):
    spend(acme, 4)
    assert not errors(acme.query("BEGIN"))
    for i in range(10):
        assert not errors(acme.query("SELECT 2") if i % 2 else acme.prepared("SELECT 2"))
    assert not errors(acme.query("COMMIT"))
    assert shown(pooler) == -11
    assert 12 * 3500 < seconds(acme.query("SELECT 2")) <= 12 * 3600


def test_i10_a_transaction_that_may_not_start(acme):
    spend(acme, 5)
    messages = acme.query("BEGIN; SELECT 2")
    assert errors(messages) == ["53400"] and messages[-1].body == b"I"


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_i10_a_begin_that_waits_is_refused_with_its_first_statement(acme, protocol, end):
    """And can be ended by who has no right to another statement."""
    spend(acme, 5)
    ask = getattr(acme, protocol)
    assert not errors(ask("BEGIN"))
    messages = ask("SELECT 2")
    assert errors(messages) == ["53400"] and messages[-1].body == b"E"
    messages = ask(end)
    assert raw.find(messages, "C")[0].body == b"ROLLBACK\0" and messages[-1].body == b"I"


def test_i10_a_string_with_one_token_left(pooler, acme):
    spend(acme, 4)
    assert not errors(acme.query("SELECT 2; SELECT 2; SELECT 3"))
    assert shown(pooler) == -2


def test_i10_a_batch_with_one_token_left(pooler, acme):
    spend(acme, 4)
    acme.send(raw.parse("", "SELECT 2"), *[raw.bind() + raw.execute()] * 3, raw.sync())
    assert not errors(acme.until("Z"))
    assert shown(pooler) == -2


def test_i10_a_failed_transaction_can_be_ended(acme):
    spend(acme, 3)
    acme.rows("BEGIN")
    assert sqlstate(acme.query("SELECT 2/0")) == "22012"
    assert sqlstate(acme.query("SELECT 2")) == "25P02"
    assert not errors(acme.query("ROLLBACK"))
    assert sqlstate(acme.query("SELECT 2")) == "53400"


def test_i10_copy_in_a_transaction(acme):
    spend(acme, 3)
    acme.rows("BEGIN")
    acme.rows("CREATE TEMP TABLE limit_copy (a int)")
    acme.send(raw.query("COPY limit_copy FROM STDIN"))
    acme.until("G")
    acme.send(raw.copy_data(b"1\n2\n"), raw.copy_done())
    assert not errors(acme.until("Z"))
    assert not errors(acme.query("ROLLBACK"))


def test_debt_is_repaid(primary, turnstile):
    with enter(turnstile(limited(primary, {"rate": "50/s", "burst": 1})), "acme") as client:
        began = time.monotonic()
        client.rows("BEGIN")
        for _ in range(18):
            client.rows("SELECT 2")
        client.rows("COMMIT")
        wait_until(lambda: not errors(client.query("SELECT 2")), 5)
        assert time.monotonic() - began >= 20 / 50 - 0.02


# --- quotas ----------------------------------------------------------------------------------
@pytest.mark.parametrize("period, most", [("h", 3600), ("d", 86400)])
def test_a_quota(primary, turnstile, period, most):
    t = turnstile(limited(primary, {"quota": f"3/{period}"}))
    with enter(t, "acme") as client:
        spend(client, 3)
        answers = (client.query("SELECT 2") for _ in range(4))  # the hour may end meanwhile
        refused = next(messages for messages in answers if errors(messages))
        assert abs(seconds(refused) - (most - time.time() % most)) < 5
        assert shown(t, "quota_left") == 0


def test_two_quotas_at_once(primary, turnstile):
    t = turnstile(limited(primary, {"quota": "1000/h,3/d"}))
    with enter(t, "acme") as client:
        spend(client, 3)
        refused = client.query("SELECT 2")
        assert raw.find(refused, "E")[0].fields["D"].startswith("limit=quota/d ")
        assert seconds(refused) <= 86400 - time.time() % 86400 + 1


# --- quotas over a restart -------------------------------------------------------------------
@pytest.fixture
def kept(primary, turnstile):
    """A pooler with a quota that outlives it."""
    state = scratch_dir("state")
    return turnstile(limited(primary, {"quota": "1000/h,10/d"}, {"state_dir": state})), state


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_quota_is_exact_over_a_restart(kept, end):
    t, _ = kept
    with enter(t, "acme") as client:
        spend(client, 4)
    t.signal(end)
    t.wait_exit()
    t.start()
    assert (shown(t, "quota_left"), shown(t, "quota_left", "globex")) == (6, 10)
    with enter(t, "acme") as client:
        spend(client, 6)
        assert errors(client.query("SELECT 2")) == ["53400"]


def test_a_crash_forgets_at_most_what_was_not_written_yet(kept):
    t, state = kept
    with enter(t, "acme") as client:
        spend(client, 4)
        wait_until(lambda: " 4 acme\n" in (state / "quotas").read_text())
        t.signal(signal.SIGKILL)
        t.wait_exit()
    t.start()
    assert shown(t, "quota_left") == 6


@pytest.mark.parametrize("content", ["", "nonsense\n", "pgturnstile quotas 1\n1 2 3 4 acme\n"])
def test_a_corrupt_file_is_a_warning(kept, content):
    t, state = kept
    with enter(t, "acme") as client:
        spend(client, 4)
    t.stop()
    (state / "quotas").write_text(content)
    t.start()
    assert t.log_contains("quotas begin anew")
    assert (state / "quotas.bad").read_text() == content
    assert shown(t, "quota_left") == 10
    with enter(t, "acme") as client:
        spend(client, 10)


def test_without_its_directory_it_serves_on(primary, turnstile):
    t = turnstile(limited(primary, {"quota": "10/d"}, {"state_dir": "/nonexistent/state"}))
    assert t.log_contains("quotas cannot be kept")
    with enter(t, "acme") as client:
        spend(client, 3)


# --- transactions at once --------------------------------------------------------------------
def begin(client):
    assert not errors(client.query("BEGIN; SELECT 2"))


def test_max_transactions_waits_for_one_to_end(primary, turnstile):
    t = turnstile(limited(primary, {"max_transactions": 1, "pool_size": 3}))
    with enter(t, "acme") as one, enter(t, "acme") as two, enter(t, "globex") as other:
        begin(one)
        two.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        begin(other)
        assert not errors(one.query("SELECT 3"))
        assert not errors(one.query("COMMIT"))
        assert not errors(two.until("Z"))
        assert shown(t, "limited") == 0


def test_max_transactions_counts_a_batch_without_an_execute(primary, turnstile):
    t = turnstile(limited(primary, {"max_transactions": 1, "pool_size": 3}))
    with enter(t, "acme") as one, enter(t, "acme") as two:
        one.send(raw.parse("", "SELECT 2"), raw.flush())
        one.until("1")
        two.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        one.send(raw.bind(), raw.execute(), raw.sync())
        assert not errors(one.until("Z"))
        assert not errors(two.until("Z"))


def test_i10_max_transactions_refuses_at_the_first_statement(primary, turnstile):
    t = turnstile(limited(primary, {"max_transactions": 1, "pool_size": 3},
                          {"begin_defer_max": "1h"}))
    with enter(t, "acme") as one, enter(t, "acme") as two:
        begin(one)
        assert not errors(two.query("BEGIN"))
        with t.run_with_config({"pgturnstile": {"query_wait_timeout": "300ms"}}):
            refused = two.query("SELECT 2")
        fields = raw.find(refused, "E")[0].fields
        assert (fields["C"], fields["D"]) == ("53400", "limit=max_transactions tenant=acme")
        assert refused[-1].body == b"E"
        assert not errors(two.query("ROLLBACK"))
        for _ in range(3):
            assert not errors(one.query("SELECT 2"))
        assert not errors(one.query("COMMIT"))
        assert not errors(two.query("SELECT 2"))


@pytest.mark.parametrize("end", ["cancel", "reset", "terminate"])
def test_max_transactions_forgets_who_leaves(primary, turnstile, end):
    """A slot comes back however its transaction ends, and a place in the queue too."""
    t = turnstile(limited(primary, {"max_transactions": 1, "pool_size": 3}))
    with enter(t, "acme") as one, enter(t, "acme") as two, enter(t, "acme") as three:
        begin(one)
        two.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        three.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 2)
        if end == "cancel":
            two.cancel()
            assert errors(two.until("Z")) == ["57014"]
        else:
            getattr(two, end, two.reset)()
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        one.reset()
        assert not errors(three.until("Z"))
        assert not errors(three.query("SELECT 2"))


def test_max_transactions_in_session_pooling(primary, turnstile):
    t = turnstile(limited(primary, {"max_transactions": 1, "pool_size": 3},
                          {"pool_mode": "session"}))
    with enter(t, "acme") as one, enter(t, "acme") as two:
        begin(one)
        two.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        assert not errors(one.query("COMMIT"))
        assert not errors(two.until("Z"))
        assert not errors(one.query("SELECT 2"))


def test_max_transactions_in_warning_mode(primary, turnstile):
    t = turnstile(limited(primary, {"max_transactions": 1, "pool_size": 3,
                                    "rate_limit_mode": "warn"}))
    with enter(t, "acme") as one, enter(t, "acme") as two:
        begin(one)
        messages = two.query("SELECT 2")
        assert not errors(messages)
        assert ["max_transactions" in m.fields["M"] for m in raw.find(messages, "N")] == [True]
        assert shown(t, "warned") == 1


@pytest.mark.tsan
def test_max_transactions_over_workers(primary, turnstile):
    """Never more at once than the limit, over groups on several threads, and nobody starves."""
    config = limited(primary, {"max_transactions": 3, "pool_size": 4}, {"workers": 4})
    shop, = config["databases"].values()
    config["databases"] = {f"shop{n}": {**shop, "dbname": "shop"} for n in range(4)}
    t = turnstile(config)
    most, done = [], []

    def use(database):
        with t.connect(database, "app.acme", APP_PASSWORD) as connection:
            for _ in range(10):
                connection.execute("SELECT pg_sleep(0.02) -- counted here")
            done.append(database)

    def watch():
        before = set()
        with primary.connect() as connection:
            while len(done) < 16:
                now = set(connection.execute(
                    "SELECT pid, query_start FROM pg_stat_activity WHERE state = 'active'"
                    " AND query LIKE '%counted here' AND pid <> pg_backend_pid()").fetchall())
                most.append(len(now & before))  # a look is no moment, but there is one between two
                before = now

    threads = [threading.Thread(target=use, args=(name,))
               for name in config["databases"] for _ in range(4)] + [threading.Thread(target=watch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 16 and 1 <= max(most) <= 3


# --- server connections ----------------------------------------------------------------------
def test_i5_max_server_conn_over_all_pools_of_a_tenant(primary, turnstile):
    config = limited(primary, {"max_server_conn": 2, "pool_size": 5}, {"workers": 2})
    shop, = config["databases"].values()
    config["databases"] = {f"shop{n}": {**shop, "dbname": "shop"} for n in range(3)}
    t = turnstile(config)
    clients = [log_in(t, "app.acme", APP_PASSWORD, f"shop{n % 3}") for n in range(6)]
    for client in clients:
        client.send(raw.query("SELECT pg_sleep(0.05)"))
    for client in clients:
        assert not errors(client.until("Z"))
        row, = [row for row in t.admin("SHOW TENANTS") if row["name"] == "acme"]
        assert row["sv_active"] + row["sv_idle"] <= 2
    for client in clients:
        client.close()


# --- time and bytes --------------------------------------------------------------------------
def test_i10_time_of_servers_is_a_debt_of_the_next_transaction(primary, turnstile):
    t = turnstile(limited(primary, {"exec_rate": "100ms/h"}))
    with enter(t, "acme") as client:
        began = time.monotonic()
        client.rows("BEGIN")
        for _ in range(3):
            assert not errors(client.query("SELECT pg_sleep(0.1)"))
        assert not errors(client.query("COMMIT"))
        refused = client.query("SELECT 2")
        lasted = time.monotonic() - began
        assert raw.find(refused, "E")[0].fields["D"].startswith("limit=exec_rate ")
        assert 2 * 3600 - lasted <= seconds(refused) < (lasted / 0.1 - 1) * 3600


@pytest.mark.slow
def test_ten_heavy_queries_count_more_than_ten_light_ones(primary, turnstile):
    t = turnstile(limited(primary, {"exec_rate": "3s/h"}))
    with enter(t, "acme") as light, enter(t, "globex") as heavy:
        for _ in range(10):
            assert not errors(light.query("SELECT 2"))
        answers = [errors(heavy.query("SELECT pg_sleep(0.35)")) for _ in range(10)]
        allowed = answers.count([])
        assert 0 < allowed < 10 and answers == [[]] * allowed + [["53400"]] * (10 - allowed)


def test_a_query_that_nobody_waits_for_is_charged(primary, turnstile):
    t = turnstile(limited(primary, {"exec_rate": "50ms/h"}))
    with enter(t, "acme") as one, enter(t, "acme") as two:
        one.send(raw.query("SELECT pg_sleep(60)"))
        began = time.monotonic()
        wait_until(lambda: shown(t, "sv_active") == 1 and time.monotonic() - began > 0.1)
        one.reset()
        wait_until(lambda: shown(t, "cl_active") == 1)
        assert errors(two.query("SELECT 2")) == ["53400"]


def test_i10_bandwidth_is_a_debt_of_the_next_transaction(primary, turnstile):
    t = turnstile(limited(primary, {"bandwidth": "100kB/h"}))
    with enter(t, "acme") as client:
        client.rows("BEGIN")
        for _ in range(3):
            assert len(client.rows("SELECT repeat('x', 102400)")[0][0]) == 102400
        assert not errors(client.query("COMMIT"))
        refused = client.query("SELECT 2")
        assert raw.find(refused, "E")[0].fields["D"].startswith("limit=bandwidth ")
        assert 2 * 3600 <= seconds(refused) < 2.1 * 3600


def test_a_debt_is_waited_for(primary, turnstile):
    t = turnstile(limited(primary, {"bandwidth": "100kB/s", "rate_limit_wait": "5s"}))
    with enter(t, "acme") as client:
        began = time.monotonic()
        for _ in range(5):
            assert not errors(client.query("SELECT repeat('x', 51200)"))
        assert 0.9 < time.monotonic() - began < 10


# --- waiting ---------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_rate_limit_wait_waits(primary, turnstile, protocol):
    t = turnstile(limited(primary, {"rate": "20/s", "burst": 1, "rate_limit_wait": "5s"}))
    with enter(t, "acme") as client:
        began = time.monotonic()
        for _ in range(11):
            assert not errors(getattr(client, protocol)("SELECT 2"))
        assert time.monotonic() - began >= 10 / 20 - 0.02
        assert shown(t, "limited") == 0


def test_nobody_waits_in_vain(primary, turnstile):
    """Whoever would have to wait longer than rate_limit_wait is refused at once."""
    t = turnstile(limited(primary, {"rate": "1/m", "burst": 1, "rate_limit_wait": "30s"}))
    with enter(t, "acme") as client:
        spend(client, 1)
        assert seconds(client.query("SELECT 2")) > 30


def test_who_waits_can_cancel_and_leave(primary, turnstile):
    t = turnstile(limited(primary, {"rate": "1/m", "burst": 1, "rate_limit_wait": "1h"}))
    with enter(t, "acme") as client, enter(t, "acme") as gone:
        spend(client, 1)
        client.send(raw.query("SELECT 2"))
        gone.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 2)
        client.cancel()
        assert errors(client.until("Z")) == ["57014"]
        gone.reset()
        wait_until(lambda: (shown(t, "cl_waiting"), shown(t, "cl_active")) == (0, 1))


def test_who_waits_goes_on_after_a_reload(primary, turnstile):
    t = turnstile(limited(primary, {"rate": "1/h", "burst": 1, "rate_limit_wait": "2h"}))
    with enter(t, "acme") as client:
        spend(client, 1)
        client.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        t.reload({"tiers": {"basic": {"rate": "0", "burst": 0}}})
        assert not errors(client.until("Z"))


# --- warning ---------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", ["query", "prepared"])
def test_warn_lets_through(primary, turnstile, protocol):
    t = turnstile(limited(primary, {**FIVE, "rate_limit_mode": "warn"}))
    with enter(t, "acme") as client:
        spend(client, 5)
        for _ in range(3):
            messages = getattr(client, protocol)("SELECT 2")
            assert not errors(messages)
            assert ['limit "rate"' in m.fields["M"] for m in raw.find(messages, "N")] == [True]
        assert (shown(t, "warned"), shown(t, "limited"), shown(t)) == (3, 0, -3)


# --- over threads ----------------------------------------------------------------------------
@pytest.mark.tsan
@pytest.mark.parametrize("rule", [{"rate": "1/h", "burst": 200}, {"quota": "200/d"}], ids=str)
def test_the_total_is_exact_over_workers(primary, turnstile, rule):
    """Connections to several databases, so on several threads, share one bucket."""
    config = limited(primary, rule, {"workers": 4})
    shop, = config["databases"].values()
    config["databases"] = {f"shop{n}": {**shop, "dbname": "shop"} for n in range(4)}
    t = turnstile(config)
    outcomes = []

    def use(database):
        with t.connect(database, "app.acme", APP_PASSWORD) as connection:
            for _ in range(25):
                try:
                    connection.execute("SELECT 2")
                    outcomes.append(None)
                except psycopg.Error as error:
                    outcomes.append(error.sqlstate)

    threads = [threading.Thread(target=use, args=(name,))
               for name in config["databases"] for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (outcomes.count(None), outcomes.count("53400")) == (200, 200)


# --- shared pools ----------------------------------------------------------------------------
def test_i5_max_server_conn_of_a_shared_pool_is_what_a_tenant_holds(primary, turnstile):
    t = turnstile(limited(primary, {"max_server_conn": 1},
                          {"tenant_pool": "shared", "default_pool_size": 3,
                           "query_wait_timeout": "300ms"}))
    with enter(t, "acme") as one, enter(t, "acme") as two, enter(t, "globex") as other:
        begin(one)
        begin(other)
        refused = two.query("SELECT 2")
        assert raw.find(refused, "E")[0].fields["D"] == "limit=max_server_conn tenant=acme"
        assert not errors(one.query("COMMIT"))
        assert not errors(two.query("SELECT 2"))
        # A session that keeps its server holds it between transactions too.
        two.rows("CREATE TEMP TABLE held (a int)")
        assert errors(one.query("SELECT 2")) == ["53400"]
        assert not errors(two.query("SELECT 2"))
        two.rows("DROP TABLE held")
        assert not errors(one.query("SELECT 2"))


def test_limits_of_tenants_that_share_a_pool_are_their_own(primary, turnstile):
    t = turnstile(limited(primary, {"rate": "1/h", "burst": 3, "max_transactions": 1},
                          {"tenant_pool": "shared", "default_pool_size": 3}))
    with enter(t, "acme") as one, enter(t, "globex") as other, enter(t, "acme") as two:
        begin(one)
        begin(other)
        two.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "cl_waiting") == 1)
        assert not errors(one.query("COMMIT"))
        assert errors(two.until("Z")) == ["53400"]
        assert not errors(other.query("COMMIT"))
