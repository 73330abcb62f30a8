# SPDX-License-Identifier: ISC
#
# test_fairness.py - turns at a shared pool: who is next, and how much of it a tenant may have.
#
# What is compared is the order in which one server runs statements, not how long they take; how
# much time each gets is measured by test/long/fairness.py and test/unit/test_turns.c.
import contextlib
import time

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from tenancy import enter, errors, make_ledger, tenants
from waiting import wait_until


@pytest.fixture(scope="module")
def log(primary):
    """A server with a table of who had a turn."""
    make_ledger(primary)
    with primary.connect(APP_DATABASE) as connection:
        connection.execute("CREATE TABLE fairness_turns (id serial, who text)")
        connection.execute(f"GRANT ALL ON fairness_turns, fairness_turns_id_seq TO {APP_USER}")
    return primary


def shared(server, settings=None, **kwargs):
    return tenants(server, {"tenant_pool": "shared", "default_pool_size": 1,
                            "backend_pid": "server", **(settings or {})}, **kwargs)


def waiting(t):
    return sum(row["cl_waiting"] for row in t.admin("SHOW POOLS"))


class Queue(contextlib.ExitStack):
    """Clients that stand before the only server, which another one has."""

    def __init__(self, pooler, server, holder="initech"):
        super().__init__()
        self.pooler, self.server, self.clients = pooler, server, []
        server.sql("TRUNCATE fairness_turns RESTART IDENTITY", dbname=APP_DATABASE)
        self.holder = self.enter_context(enter(pooler, holder))
        self.holder.query("BEGIN")
        self.holder.rows("SELECT 2")

    def stand(self, who, n, takes=0.01, mark=None):
        """n clients of a tenant ask, one behind the other; their statements take so long."""
        for _ in range(n):
            client = self.enter_context(enter(self.pooler, who))
            client.sock.settimeout(60)
            client.send(raw.query("INSERT INTO fairness_turns (who) SELECT"
                                  f" '{mark or who}' FROM pg_sleep({takes})"))
            self.clients.append(client)
            wait_until(lambda: waiting(self.pooler) >= len(self.clients))
        return self.clients[-n:]

    def serve(self):
        """Lets them go; who was served, in order."""
        self.holder.query("COMMIT")
        for client in self.clients:
            assert errors(client.until("Z")) == []
        with self.server.connect(APP_DATABASE) as connection:
            return [who for who, in
                    connection.execute("SELECT who FROM fairness_turns ORDER BY id").fetchall()]


def test_a_flood_of_one_tenant_does_not_stand_before_another(log, turnstile):
    with Queue(turnstile(shared(log)), log) as queue:
        queue.stand("acme", 20)
        queue.stand("globex", 1)
        assert "globex" in queue.serve()[:2]


def test_tenants_of_equal_weight_take_turns(log, turnstile):
    with Queue(turnstile(shared(log)), log) as queue:
        queue.stand("acme", 20)
        queue.stand("globex", 20)
        assert 6 <= queue.serve()[:20].count("globex") <= 14


def test_weights(log, turnstile):
    t = turnstile(shared(log, tiers={"better": {"weight": 8}}, changes={
        "tenants": {"globex": {"tier": "better", "business_id": "7"}}}))
    with Queue(t, log) as queue:
        queue.stand("acme", 18)
        queue.stand("globex", 18)
        assert queue.serve()[:18].count("globex") >= 12


def test_long_transactions_do_not_get_more(log, turnstile):
    """Turn by turn the one with the long ones would have nearly all of the time."""
    with Queue(turnstile(shared(log)), log) as queue:
        queue.stand("globex", 4, takes=0.3)
        queue.stand("acme", 20, takes=0.005)
        turns = queue.serve()
        seconds = [i for i, who in enumerate(turns) if who == "globex"][1:3]
        assert all(turns[:i].count("acme") >= 3 * turns[:i].count("globex") for i in seconds)


@pytest.mark.parametrize("pool", ["shared", "dedicated"])
def test_within_a_tenant_the_first_is_served_first(log, turnstile, pool):
    config = shared(log, {"tenant_pool": pool})
    with Queue(turnstile(config), log, holder="acme") as queue:
        for mark in range(5):
            queue.stand("acme", 1, mark=f"acme {mark}")
        assert queue.serve() == [f"acme {mark}" for mark in range(5)]


def test_cancel_in_a_fair_queue(log, turnstile):
    with Queue(turnstile(shared(log)), log) as queue:
        acme = queue.stand("acme", 3)
        queue.stand("globex", 2)
        acme[1].cancel()
        assert errors(acme[1].until("Z")) == ["57014"]
        queue.clients.remove(acme[1])
        assert waiting(queue.pooler) == 4
        assert sorted(queue.serve()) == ["acme"] * 2 + ["globex"] * 2


def test_who_hangs_up_leaves_a_fair_queue(log, turnstile):
    with Queue(turnstile(shared(log)), log) as queue:
        acme = queue.stand("acme", 3)
        queue.stand("globex", 1)
        for client in acme[:2]:
            client.close()
            queue.clients.remove(client)
        wait_until(lambda: waiting(queue.pooler) == 2)
        assert sorted(queue.serve()) == ["acme", "globex"]


def test_pause_and_resume(log, turnstile):
    with Queue(turnstile(shared(log)), log) as queue:
        queue.stand("acme", 3)
        queue.stand("globex", 2)
        queue.holder.send(raw.query("COMMIT"))
        queue.pooler.admin("PAUSE")
        queue.holder.until("Z")
        served = 5 - waiting(queue.pooler)
        assert served < 5
        queue.pooler.admin("RESUME")
        for client in queue.clients:
            assert errors(client.until("Z")) == []


def test_query_wait_timeout_and_maxwait(log, turnstile):
    with Queue(turnstile(shared(log, {"query_wait_timeout": 1})), log) as queue:
        client = queue.stand("acme", 1)[0]
        assert any(row["maxwait_us"] for row in queue.pooler.admin("SHOW POOLS"))
        assert errors(client.until_closed()) == ["08P01"]


# ---- max_server_share --------------------------------------------------------------------------

def greedy(server, settings=None, share="50%"):
    return shared(server, {"default_pool_size": 4, **(settings or {})},
                  tiers={"greedy": {"max_server_share": share}},
                  changes={"tenants": {"acme": {"tier": "greedy", "business_id": "42"}}})


def begin(client):
    client.query("BEGIN")
    client.rows("SELECT 2")


def test_max_server_share_leaves_servers_for_others(log, turnstile):
    t = turnstile(greedy(log))
    with contextlib.ExitStack() as stack:
        acme = [stack.enter_context(enter(t, "acme")) for _ in range(4)]
        for client in acme[:2]:
            begin(client)
        for client in acme[2:]:
            client.send(raw.query("SELECT 3"))
        wait_until(lambda: waiting(t) == 2)
        globex = [stack.enter_context(enter(t, "globex")) for _ in range(2)]
        # They pass those who wait, and leave idle servers behind that acme may not have.
        for client in globex:
            begin(client)
        for client in globex:
            client.query("COMMIT")
        assert waiting(t) == 2
        acme[0].query("COMMIT")
        for client in acme[2:]:
            assert errors(client.until("Z")) == []
        acme[1].query("COMMIT")


def test_a_share_comes_free_when_a_server_is_lost(log, turnstile):
    t = turnstile(greedy(log, {"default_pool_size": 2}))
    with enter(t, "acme") as first, enter(t, "acme") as second, enter(t, "globex") as other:
        begin(other)
        begin(first)
        second.send(raw.query("SELECT 3"))
        wait_until(lambda: waiting(t) == 1)
        other.query("COMMIT")
        other.rows("SELECT 4")
        assert waiting(t) == 1
        first.reset()
        assert errors(second.until("Z")) == []


@pytest.mark.parametrize("raise_it", [
    lambda t: t.reload({"tiers": {"greedy": {"max_server_share": "75%"}}}),
    lambda t: t.admin("SET TENANT acme max_server_share = 75")], ids=["reload", "console"])
def test_a_share_is_raised_while_somebody_waits(log, turnstile, raise_it):
    t = turnstile(greedy(log))
    with contextlib.ExitStack() as stack:
        acme = [stack.enter_context(enter(t, "acme")) for _ in range(3)]
        for client in acme[:2]:
            begin(client)
        acme[2].send(raw.query("SELECT 3"))
        wait_until(lambda: waiting(t) == 1)
        stack.enter_context(enter(t, "globex")).rows("SELECT 4")
        assert waiting(t) == 1
        raise_it(t)
        assert errors(acme[2].until("Z")) == []


@pytest.mark.slow
def test_who_waits_for_a_share_opens_no_reserve(log, turnstile):
    """Nor do they make the pool open connections that they may not have."""
    reserve = 2
    t = turnstile(greedy(log, {"default_pool_size": 2, "reserve_pool_size": 1,
                               "reserve_pool_timeout": reserve}))
    with contextlib.ExitStack() as stack:
        acme = [stack.enter_context(enter(t, "acme")) for _ in range(2)]
        globex, initech = (stack.enter_context(enter(t, who)) for who in ("globex", "initech"))
        begin(acme[0])
        begin(globex)
        acme[1].send(raw.query("SELECT 3"))
        wait_until(lambda: any(row["maxwait"] > reserve for row in t.admin("SHOW POOLS")))
        since = time.monotonic()
        initech.rows("SELECT 4")
        assert time.monotonic() - since >= reserve / 2
        acme[0].query("COMMIT")
        assert errors(acme[1].until("Z")) == []
