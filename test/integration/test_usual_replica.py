# SPDX-License-Identifier: ISC
#
# test_usual_replica.py - what is kept of the choice of a replica is void as soon as it would be made
# otherwise (I4).
#
# The monitor asks once and then not for long, so nothing but the cause itself can be why.
"""A real primary and a real replica; `port` tells who answered."""
import contextlib
import time

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, wait_nodes
from tenancy import TENANTS, errors
from turnstile import merge
from waiting import wait_until

WHERE = "SELECT current_setting('test.port'), usual_function()"
WRITE = "INSERT INTO usual_written VALUES (1)"
OTHER_USER = "usual_other"
FUNCTION = ("CREATE OR REPLACE FUNCTION usual_function() RETURNS int {} LANGUAGE plpgsql AS"
            " 'BEGIN RETURN 1; END'")


@pytest.fixture(scope="module")
def pair(primary, replica):
    if not primary.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", [OTHER_USER]):
        primary.role(OTHER_USER, APP_PASSWORD)
    for statement in ("CREATE TABLE usual_written (n int)", FUNCTION.format("STABLE"),
                      f"GRANT ALL ON usual_written TO {APP_USER}, {OTHER_USER}",
                      f"ALTER FUNCTION usual_function OWNER TO {APP_USER}"):
        primary.sql(statement, dbname=APP_DATABASE)
    replica.wait_caught_up(primary)
    yield primary, replica
    primary.sql("DROP TABLE usual_written; DROP FUNCTION usual_function", dbname=APP_DATABASE)


def routed(pair, settings=None):
    primary, replica = pair
    return shop(primary, {"monitor_user": APP_USER, "monitor_interval": "10min",
                          "max_replica_lag": 0, "default_pool_size": 4, "auto_prepare_after": 2,
                          **(settings or {})},
                {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"})


WAYS = {
    "simple": raw.query(WHERE),
    "named": raw.bind("", "where") + raw.describe("P") + raw.execute() + raw.sync(),
    "unnamed": raw.parse("", WHERE) + raw.bind() + raw.describe("P") + raw.execute() + raw.sync(),
}


class Reader:
    """A session that asks in one way where its read runs."""

    def __init__(self, stack, t, way, user=APP_USER):
        self.client = stack.enter_context(log_in(t, user, APP_PASSWORD))
        self.way = way
        self.client.send(raw.parse("where", WHERE), raw.sync())
        assert not errors(self.client.until("Z"))

    def asks(self):
        self.client.send(WAYS[self.way])
        messages = self.client.until("Z")
        assert not errors(messages), raw.find(messages, "E")[0].fields
        return int(raw.find(messages, "D")[-1].row[0])

    def settle(self, node):
        """What is kept is used from then on."""
        wait_until(lambda: self.asks() == node.port, 60, "reads reach the node")
        assert [self.asks() for _ in range(4)] == [node.port] * 4


def rests(t):
    """The monitor asks more often at first."""
    return all((row["seen"] or 0) > 1_000_000 for row in t.admin("SHOW NODES"))


def says_route(t):
    rows = t.admin(f"SHOW ROUTE DATABASE shop {WHERE}")
    return next(row["value"] for row in rows if row["fact"] == "route")


def reload(t, changes):
    """Until the monitor, which begins anew, has asked both, reads go to the primary as they are
    not covered; and functions are what they were until it has read the catalog."""
    began = time.monotonic()

    def is_asked(row):
        return row["seen"] is not None and row["seen"] < (time.monotonic() - began) * 1e6

    t.reload({"pgturnstile": changes})
    wait_until(lambda: all(map(is_asked, t.admin("SHOW NODES"))), 60, "the monitor asks again")
    wait_until(lambda: rests(t), 120, "the monitor rests")


@contextlib.contextmanager
def readers(t, pair, users=(APP_USER,)):
    with contextlib.ExitStack() as stack:
        wait_nodes(t, "primary", "replica")
        all_ = [Reader(stack, t, way, user) for way in WAYS for user in users]
        for reader in all_:
            reader.settle(pair[1])
        wait_until(lambda: rests(t), 120, "the monitor rests")
        for reader in all_:
            reader.settle(pair[1])
        yield all_


def by_another_session(t, _):
    with log_in(t) as other:
        assert not errors(other.query(WRITE))


def by_the_session_of_one(_, reader):
    assert not errors(reader.client.query(WRITE))


def by_a_function_that_is_volatile_now(t, _):
    with log_in(t) as other:
        assert not errors(other.query(FUNCTION.format("VOLATILE")))


def by_its_weight(t, _):
    node = next(row for row in t.admin("SHOW NODES") if row["role"] == "replica")
    t.admin(f"SET NODE {node['host']}:{node['port']} weight = 0")


@pytest.mark.tsan
@pytest.mark.parametrize("cause", [by_another_session, by_the_session_of_one,
                                   by_a_function_that_is_volatile_now, by_its_weight])
def test_i4_the_next_read_goes_to_the_primary(pair, turnstile, cause):
    primary, replica = pair
    t = turnstile(routed(pair))
    with readers(t, pair) as all_:
        replica.pause_replay()
        try:
            cause(t, all_[0])
            assert {r.way: r.asks() for r in all_} == {r.way: primary.port for r in all_}
        finally:
            replica.resume_replay()
            primary.sql(FUNCTION.format("STABLE"), dbname=APP_DATABASE)
            replica.wait_caught_up(primary)


@pytest.mark.tsan
def test_i4_what_another_worker_writes_is_read(pair, turnstile):
    """One tenant's sessions of two users may live on two."""
    primary, replica = pair
    t = turnstile(merge(routed(pair, {"tenant_by": "user_suffix", "workers": 4}), {
        "tiers": {"basic": {"weight": 1}},
        "tenants": {name: {"tier": "basic", "business_id": business_id}
                    for name, business_id in TENANTS.items()}}), {OTHER_USER: APP_PASSWORD})
    users = [f"{user}.acme" for user in (APP_USER, OTHER_USER)]
    with readers(t, pair, users) as all_:
        replica.pause_replay()
        try:
            assert not errors(all_[0].client.query(WRITE))
            assert [r.asks() for r in all_] == [primary.port] * len(all_)
        finally:
            replica.resume_replay()


@pytest.mark.parametrize("changes", [
    {"route": "primary"}, {"route_mode": "observe"}, {"write_functions": "usual_function"}],
    ids=str)
def test_i4_after_a_reload_reads_go_by_what_it_says(pair, turnstile, changes):
    primary, _ = pair
    t = turnstile(routed(pair))
    with readers(t, pair) as all_:
        reload(t, changes)
        wait_until(lambda: says_route(t).endswith(f":{primary.port}"), 60, lambda: says_route(t))
        for reader in all_:
            wait_until(lambda r=reader: r.asks() == primary.port, 60, reader.way)
            assert [reader.asks() for _ in range(3)] == [primary.port] * 3


def test_i4_after_a_reload_writes_are_fenced(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"read_your_writes": "off"}))
    with readers(t, pair) as all_:
        replica.pause_replay()
        try:
            by_another_session(t, None)
            assert [r.asks() for r in all_] == [replica.port] * len(all_)
            t.reload({"pgturnstile": {"read_your_writes": "tenant"}})

            def is_fenced(reader):
                by_another_session(t, None)
                return reader.asks() == primary.port

            for reader in all_:
                wait_until(lambda r=reader: is_fenced(r), 60, reader.way)
        finally:
            replica.resume_replay()
