# SPDX-License-Identifier: ISC
#
# test_limits.py - rates and quotas of tenants: what they count, when they decide, what is left intact.
"""Buckets are sized so that nothing refills while a test runs (1/h), or at once (many per second)."""
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

import raw
from rig import sqlstate
from tenancy import enter, errors, tenants

SELECT = "SELECT 1"


def limited(primary, turnstile, settings=None, **limits):
    return turnstile(tenants(primary, settings, {"basic": {"weight": 1, **limits}}))


def batch(*sql):
    """An extended batch that runs each text."""
    return b"".join(raw.parse("", s) + raw.bind() + raw.execute() for s in sql) + raw.sync()


def ask(client, *messages):
    client.send(*messages)
    return client.until("Z")


@pytest.mark.tsan
@pytest.mark.parametrize("limits", [{"rate": "1/h", "burst": 3}, {"rate": "3/h"}, {"quota": "3/h"},
                                    {"quota": "3/d"}], ids=str)
def test_over_the_limit_is_53400_and_the_session_stays(primary, turnstile, limits):
    with enter(limited(primary, turnstile, **limits), "acme") as client:
        for _ in range(3):
            assert not errors(client.query(SELECT))
        refused = client.query(SELECT)
        assert errors(refused) == ["53400"] and raw.kinds(refused) == "EZ"
        assert re.search(r"try again in \d+\.\d s", raw.find(refused, "E")[0].fields["M"])
        assert refused[-1].text == "I"
        assert errors(client.query(SELECT)) == ["53400"]


def test_tenants_have_buckets_of_their_own(primary, turnstile):
    t = limited(primary, turnstile, rate="1/h", burst=1)
    with enter(t, "acme") as acme, enter(t, "globex") as globex:
        assert not errors(acme.query(SELECT))
        assert errors(acme.query(SELECT)) == ["53400"]
        assert not errors(globex.query(SELECT))


def test_leaving_and_coming_back_refills_nothing(primary, turnstile):
    t = limited(primary, turnstile, rate="1/h", burst=1)
    with enter(t, "acme") as client:
        assert not errors(client.query(SELECT))
    with enter(t, "acme") as client:
        assert errors(client.query(SELECT)) == ["53400"]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_each_statement_costs_one(primary, turnstile, extended):
    with enter(limited(primary, turnstile, rate="1/h", burst=3), "acme") as client:
        three = batch(SELECT, SELECT, SELECT) if extended else raw.query("SELECT 1; SELECT 2; SELECT 3;")
        assert not errors(ask(client, three))
        assert errors(client.query(SELECT)) == ["53400"]


def test_what_no_server_sees_costs_nothing(primary, turnstile):
    with enter(limited(primary, turnstile, rate="1/h", burst=1), "acme") as client:
        for _ in range(5):
            assert raw.kinds(ask(client, raw.sync())) == "Z"
        assert not errors(client.query(SELECT))


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i10_never_in_the_middle_of_a_transaction(primary, turnstile, extended):
    """The bucket goes below zero, and the next transaction has to pay."""
    with enter(limited(primary, turnstile, rate="1/h", burst=2), "acme") as client:
        for sql in ["BEGIN", SELECT, SELECT, SELECT, "COMMIT"]:
            assert not errors(ask(client, batch(sql) if extended else raw.query(sql)))
        assert errors(client.query("BEGIN")) == ["53400"]
        assert errors(ask(client, batch("BEGIN"))) == ["53400"]


def test_a_refused_batch_is_skipped_to_its_sync(primary, turnstile):
    with enter(limited(primary, turnstile, rate="1/h", burst=1), "acme") as client:
        assert not errors(client.query(SELECT))
        refused = ask(client, batch(SELECT, SELECT))
        assert raw.kinds(refused) == "EZ" and sqlstate(refused) == "53400"
        assert refused[-1].text == "I"


def test_pipelined_queries_are_decided_one_by_one(primary, turnstile):
    with enter(limited(primary, turnstile, rate="1/h", burst=2), "acme") as client:
        client.send(raw.query(SELECT) * 4)
        answers = [client.until("Z") for _ in range(4)]
        assert [bool(errors(a)) for a in answers] == [False, False, True, True]


def test_rate_limit_wait_waits_for_a_token(primary, turnstile):
    t = limited(primary, turnstile, rate="20/s", burst=1, rate_limit_wait="10s")
    with enter(t, "acme") as client:
        assert not any(errors(client.query(SELECT)) for _ in range(10))


def test_no_longer_than_rate_limit_wait(primary, turnstile):
    t = limited(primary, turnstile, rate="1/h", burst=1, rate_limit_wait="10s")
    with enter(t, "acme") as client:
        assert not errors(client.query(SELECT))
        assert errors(client.query(SELECT)) == ["53400"]


def test_warn_mode_lets_pass_and_says_so(primary, turnstile):
    t = limited(primary, turnstile, rate="1/h", burst=1, rate_limit_mode="warn")
    with enter(t, "acme") as client:
        assert raw.kinds(client.query(SELECT)).count("N") == 0
        warned = client.query(SELECT)
        assert not errors(warned) and "rate limit" in raw.find(warned, "N")[0].fields["M"]
    row, = [r for r in t.admin("SHOW TENANTS") if r["name"] == "acme"]
    assert int(row["warned"]) == 1 and int(row["limited"]) == 0


@pytest.mark.tsan
def test_the_sum_is_exact_over_workers_and_connections(primary, turnstile):
    """4 workers, 3 tenants that share nothing, and 40 connections of one that share a bucket."""
    t = limited(primary, turnstile, {"workers": 4}, rate="1/h", burst=25)

    def one(_):
        with enter(t, "acme") as client:
            return sum(not errors(client.query(SELECT)) for _ in range(2))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(one, range(40))) == 25


def test_a_reload_changes_the_limit(primary, turnstile):
    t = limited(primary, turnstile, rate="1/h", burst=1)
    with enter(t, "acme") as client:
        assert not errors(client.query(SELECT))
        assert errors(client.query(SELECT)) == ["53400"]
        t.reload({"tiers": {"basic": {"rate": "1/h", "burst": 100}}})
        assert not errors(client.query(SELECT))
