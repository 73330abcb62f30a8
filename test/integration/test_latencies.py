# SPDX-License-Identifier: ISC
#
# test_latencies.py - SHOW LATENCIES, TENANT_LATENCIES and the quantiles of SHOW TENANTS.
"""What is slow is slow because the server was told to sleep; test/long/latency.py measures."""
import pytest

import raw
from conftest import APP_DATABASE
from rig import backends, log_in, shop, wait_backends
from tenancy import enter, make_ledger, tenants
from turnstile import ADMIN_USER

# Longer than anything else takes on a busy machine.
SLEEP, LONG = "SELECT pg_sleep(1)", 1_000_000
SLEPT = range(LONG, 10 * LONG)


@pytest.fixture(params=["dedicated", "shared"])
def pooler(request, primary, turnstile):
    make_ledger(primary)
    return turnstile(tenants(primary, {"tenant_pool": request.param}))


def figures(pooler, kind, period="1m", tenant=None, node=None):
    """The row of a tenant or of a database's node; None: there is none."""
    if tenant:
        key, rows = (tenant,), pooler.admin("SHOW TENANT_LATENCIES")
    else:
        key, rows = (APP_DATABASE, node), pooler.admin("SHOW LATENCIES")
    names = ["tenant"] if tenant else ["database", "node"]
    found = [row for row in rows
             if tuple(row[n] for n in names) == key and (row["kind"], row["period"]) == (kind, period)]
    assert len(found) < 2
    return found[0] if found else None


def tenant_row(pooler, name):
    row, = (row for row in pooler.admin("SHOW TENANTS") if row["name"] == name)
    return row


def test_queries_of_a_tenant(pooler):
    with enter(pooler, "acme") as acme, enter(pooler, "globex") as globex:
        for _ in range(9):
            acme.rows("SELECT 2")
        acme.rows(SLEEP)
        globex.rows("SELECT 2")
    row, other = tenant_row(pooler, "acme"), tenant_row(pooler, "globex")
    assert row["query_p50"] < LONG and row["query_max"] in SLEPT
    assert row["query_p95"] == row["query_p99"]
    assert abs(row["query_p99"] / row["query_max"] - 1) < 0.02
    assert other["query_max"] < LONG
    assert tenant_row(pooler, "initech")["query_p50"] is None
    for period in "1m", "1h":
        told = figures(pooler, "query", period, tenant="acme")
        assert told["count"] == 10
        assert [told[n] for n in ("p50", "p95", "p99", "max")] == \
            [row[f"query_{n}"] for n in ("p50", "p95", "p99", "max")] == \
            [row[f"hour_{n}"] for n in ("p50", "p95", "p99", "max")]
    assert figures(pooler, "query", node=0)["count"] == 11
    assert figures(pooler, "query")["count"] == 11


def test_a_transaction_is_as_long_as_from_its_first_request_to_its_end(pooler):
    with enter(pooler, "acme") as acme:
        for text in "BEGIN", "SELECT 2", SLEEP, SLEEP, "COMMIT", "SELECT 2":
            acme.send(raw.query(text))
            acme.until("Z")
    told = figures(pooler, "transaction", tenant="acme")
    assert told["count"] == 2 and told["p50"] < LONG and told["max"] in range(2 * LONG, 20 * LONG)
    # BEGIN was answered here.
    assert figures(pooler, "query", tenant="acme")["count"] == 5


def test_a_wait_is_part_of_the_query_and_counted_by_itself(primary, turnstile):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"default_pool_size": 1, "tenant_pool": "shared"}))
    with enter(pooler, "acme") as acme, enter(pooler, "globex") as globex:
        acme.send(raw.query(SLEEP))
        wait_backends(primary, 1, "query LIKE '%pg_sleep%' AND state = 'active'")
        globex.rows("SELECT 2")
        acme.until("Z")
    waited = figures(pooler, "wait", tenant="globex")
    assert waited["count"] == 1
    assert waited["max"] <= figures(pooler, "query", tenant="globex")["max"]
    assert waited["max"] > 0
    # Of those who waited for the first connection, and for each other.
    assert figures(pooler, "wait")["count"] >= 1
    assert len(backends(primary)) == 1


def test_connecting_is_measured(primary, turnstile):
    pooler = turnstile(shop(primary))
    with log_in(pooler):
        told = figures(pooler, "connect")
    assert told["count"] == 1 and told["p50"] > 0


def test_an_error_is_an_answer(pooler):
    with enter(pooler, "acme") as acme:
        acme.send(raw.query("SELECT 1/0"))
        acme.until("Z")
    assert figures(pooler, "query", tenant="acme")["count"] == 1


def test_requests_in_a_pipeline_are_measured_one_by_one(pooler):
    with enter(pooler, "acme") as acme:
        acme.rows("SELECT 2")
        acme.send(raw.query(SLEEP), raw.query("SELECT 2"), raw.query("SELECT 3"))
        for _ in range(3):
            acme.until("Z")
    told = figures(pooler, "query", tenant="acme")
    assert told["count"] == 4 and told["p50"] < LONG and told["max"] in SLEPT


def test_what_is_answered_here_is_not_counted(pooler):
    with enter(pooler, "acme") as acme:
        acme.rows("SELECT 2")
        for text in "", "BEGIN", "COMMIT":
            acme.send(raw.query(text))
            acme.until("Z")
    assert figures(pooler, "query", tenant="acme")["count"] == 1


def test_threads_are_added_up(primary, turnstile):
    """Tenants of dedicated pools live on any thread; the database's row is of all of them."""
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"tenant_pool": "dedicated", "workers": 4}))
    names = "acme", "globex", "initech"
    for name in names:
        with enter(pooler, name) as client:
            client.rows("SELECT 2")
            client.rows(SLEEP if name == "globex" else "SELECT 3")
    total = figures(pooler, "query")
    assert total["count"] == 6 and total["max"] == tenant_row(pooler, "globex")["query_max"]
    assert total["p50"] < LONG < total["p95"]


def test_it_can_be_turned_off_and_on(pooler):
    pooler.reload({"pgturnstile": {"latency_histograms": "0"}})
    with enter(pooler, "acme") as acme:
        acme.rows("SELECT 2")
        assert figures(pooler, "query", tenant="acme") is None
        pooler.reload({"pgturnstile": {"latency_histograms": "1"}})
        acme.rows("SELECT 2")
    assert figures(pooler, "query", tenant="acme")["count"] == 1


def test_columns(pooler):
    with pooler.connect("pgturnstile", ADMIN_USER) as console:
        for name, keys in ("LATENCIES", ["database", "node"]), ("TENANT_LATENCIES", ["tenant"]):
            names = [c.name for c in console.execute(f"SHOW {name}").description]
            assert names == [*keys, "kind", "period", "count", "avg", "p50", "p95", "p99", "max"]
