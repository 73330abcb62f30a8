# SPDX-License-Identifier: ISC
#
# test_nodes.py - which of several replicas gets a read, and when a node is out and back.
#
# What is asked of nodes is test_monitor.py's, what fails over test_promotion.py's.
"""Weights, zones, draining; doubt before a node is out, and some patience before it is back."""
import contextlib
import threading

import pytest

import raw
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, wait_nodes
from switch import Switch
from tenancy import errors
from waiting import wait_until

WHERE = "SELECT current_setting('test.port')"
MONITOR, MONITOR_PASSWORD = "nodes_watcher", "nodes-password"


@pytest.fixture(scope="module")
def trio(primary, replica):
    """A primary and two replicas."""
    primary.role(MONITOR, MONITOR_PASSWORD)
    other = Postgres.replica_of(primary, "other")
    replica.wait_caught_up(primary)
    yield primary, replica, other
    other.remove()
    primary.sql(f"DROP ROLE {MONITOR}")


def routed(servers, settings=None, database=None):
    return shop(servers[0], {"monitor_user": MONITOR, "monitor_password": MONITOR_PASSWORD,
                             "monitor_interval": "100ms", "read_your_writes": "off",
                             **(settings or {})},
                {"host": ",".join(s.host for s in servers),
                 "port": ",".join(str(s.port) for s in servers), **(database or {})})


def answered_by(client):
    return int(client.rows(WHERE)[0][0])


def node(t, server):
    return next(row for row in t.admin("SHOW NODES") if row["port"] == server.port)


def shares(client, servers, reads):
    """How many of so many reads each of the servers answers."""
    answers = [answered_by(client) for _ in range(reads)]
    return [answers.count(server.port) for server in servers]


@contextlib.contextmanager
def reader_of(t, servers):
    """A client whose reads have reached a replica, so that all is known that they need."""
    wait_nodes(t, "primary", *["replica"] * (len(servers) - 1))
    with log_in(t) as client:
        wait_until(lambda: answered_by(client) != servers[0].port, 30)
        yield client


def reload_database(t, **changes):
    t.reload({"databases": {APP_DATABASE: {**t.config["databases"][APP_DATABASE], **changes}}})


def name_of(server):
    return f"{server.host}:{server.port}"


# ---- who gets a read -------------------------------------------------------------------------------

def test_idle_replicas_take_turns(trio, turnstile):
    t = turnstile(routed(trio))
    with reader_of(t, trio) as client:
        assert shares(client, trio, 40) == [0, 20, 20]


def test_weights(trio, turnstile):
    t = turnstile(routed(trio, database={"node_weight": "1,3,1"}))
    with reader_of(t, trio) as client:
        assert [row["weight"] for row in t.admin("SHOW NODES")] == [1, 3, 1]
        assert shares(client, trio, 40) == [0, 30, 10]


def test_who_is_busy_gets_less(trio, turnstile):
    """Two reads that last fill one replica; the next ones go to the other."""
    primary, replica, other = trio
    t = turnstile(routed(trio))
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(reader_of(t, trio))
        sleepers = [stack.enter_context(log_in(t)) for _ in range(2)]
        t.admin(f"SET NODE {name_of(other)} weight = 0")
        for sleeper in sleepers:
            sleeper.query("BEGIN READ ONLY")
            assert answered_by(sleeper) == replica.port
        t.admin(f"SET NODE {name_of(other)} weight = 1")
        assert node(t, replica)["active"] == 2
        assert shares(client, trio, 10) == [0, 0, 10]
        for sleeper in sleepers:
            sleeper.query("COMMIT")
        # Its server may have to tell what sessions begin with before it is free.
        wait_until(lambda: node(t, replica)["active"] == 0)
        assert shares(client, trio, 10) == [0, 5, 5]


def test_weight_0_drains(trio, turnstile):
    """No new reads; what is under way ends.  A RELOAD does not take back what the console said."""
    primary, replica, other = trio
    t = turnstile(routed(trio, database={"node_weight": "1,1,0"}))
    with reader_of(t, trio) as client, log_in(t) as reader:
        assert shares(client, trio, 10) == [0, 10, 0]
        assert node(t, other)["state"] == "gets no reads (weight 0)"
        reader.query("BEGIN READ ONLY")
        assert answered_by(reader) == replica.port
        t.admin(f"SET NODE {name_of(replica)} weight = 0")
        assert node(t, replica)["state"] == "gets no new reads (weight 0), ends those it has"
        assert answered_by(reader) == replica.port
        assert shares(client, trio, 10) == [10, 0, 0]
        reader.query("COMMIT")
        t.admin(f"SET NODE {name_of(other)} weight = 2")
        assert shares(client, trio, 10) == [0, 0, 10]
        t.admin("RELOAD")
        wait_nodes(t, "primary", "replica", "replica")
        assert [row["weight"] for row in t.admin("SHOW NODES")] == [1, 0, 2]


def test_weights_of_the_file_change_by_reload(trio, turnstile):
    t = turnstile(routed(trio))
    with reader_of(t, trio) as client:
        reload_database(t, node_weight="1,0,5")
        wait_until(lambda: [row["weight"] for row in t.admin("SHOW NODES")] == [1, 0, 5])
        assert shares(client, trio, 10) == [0, 0, 10]


@pytest.mark.parametrize("command, why", [
    ("SET NODE 192.0.2.1:1 weight = 0", "no such node"),
    ("SET NODE 127.0.0.1 weight = 1001", "is not a weight"),
    ("SET NODE 127.0.0.1 zone = a", "has no setting"),
])
def test_set_node_refuses(trio, turnstile, command, why):
    t = turnstile(routed(trio))
    with pytest.raises(Exception, match=why):
        t.admin(command)


@pytest.mark.parametrize("key, value, why", [
    ("node_weight", "1,2", "2 weights for 3 hosts"),
    ("node_weight", "1,2,x", "not a weight from 0 to 1000"),
    ("node_zone", "a,b", "2 zones for 3 hosts"),
])
def test_i8_what_does_not_fit_the_hosts_is_refused(trio, turnstile, key, value, why):
    t = turnstile(routed(trio))
    with pytest.raises(Exception, match="RELOAD failed"):
        reload_database(t, **{key: value})
    assert t.log_contains(why)


def test_ones_own_zone_comes_first(trio, turnstile):
    """As long as one of it will do, however busy."""
    primary, replica, other = trio
    t = turnstile(routed(trio, {"zone": "b", "max_replica_lag": "1s", "node_answers": 1},
                         {"node_zone": "a,a,b"}))
    with reader_of(t, trio) as client, log_in(t) as reader:
        assert [row["zone"] for row in t.admin("SHOW NODES")] == ["a", "a", "b"]
        reader.query("BEGIN READ ONLY")
        assert answered_by(reader) == other.port
        assert shares(client, trio, 10) == [0, 0, 10]
        reader.query("COMMIT")
        other.stop()
        try:
            wait_until(lambda: shares(client, trio, 3) == [0, 3, 0])
        finally:
            other.start()
        wait_until(lambda: shares(client, trio, 3) == [0, 0, 3], 30)


# ---- out, and back -----------------------------------------------------------------------------------

def end_monitors(server):
    return server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
                      [MONITOR])


@pytest.mark.parametrize("which", ["primary", "replica"])
def test_a_node_that_fails_once_is_not_out(trio, turnstile, which):
    """Somebody ends the monitor's connection.  Nobody who reads or writes hears of it."""
    primary, replica, _ = trio
    server = primary if which == "primary" else replica
    t = turnstile(routed((primary, replica), {"node_failures": 3}))
    with reader_of(t, (primary, replica)) as client:
        for times in range(1, 4):
            assert end_monitors(server)
            wait_until(lambda: t.log_contains("is asked again") == times)
            wait_until(lambda: node(t, server)["failures"] == 0)
            assert answered_by(client) == replica.port
            assert not errors(client.query("CREATE TEMP TABLE once (); DROP TABLE once"))
        assert not t.log_contains("is down") and not t.log_contains("no primary is known")


def test_a_node_that_goes_on_failing_is_out(trio, turnstile):
    primary, replica, other = trio
    t = turnstile(routed(trio, {"node_failures": 3, "node_answers": 2}))
    with reader_of(t, trio) as client:
        other.stop()
        try:
            wait_until(lambda: node(t, other)["role"] == "down")
            assert node(t, other)["failures"] >= 3 and node(t, other)["state"] == "is down"
            assert shares(client, trio, 6) == [0, 6, 0]
        finally:
            other.start()
        wait_nodes(t, "primary", "replica", "replica")
        assert t.log_contains("is asked again") >= 2


def test_a_replica_is_back_after_some_answers(trio, turnstile):
    """Not after one, as one that starts and dies again would have."""
    primary, replica, other = trio
    t = turnstile(routed(trio, {"node_answers": 100000}))
    with reader_of(t, trio) as client:
        other.stop()
        try:
            wait_until(lambda: node(t, other)["role"] == "down", 30, lambda: t.admin("SHOW NODES"))
        finally:
            other.start()
        wait_until(lambda: node(t, other)["state"] == "comes back: answers, not yet often enough", 30,
                   lambda: t.admin("SHOW NODES"))
        assert node(t, other)["role"] == "down" and "node_answers" in node(t, other)["error"]
        assert shares(client, trio, 6) == [0, 6, 0]
        # What was counted holds over a RELOAD.
        t.reload({"pgturnstile": {"node_answers": 5}})
        wait_nodes(t, "primary", "replica", "replica")
        wait_until(lambda: 0 not in shares(client, trio, 10)[1:])


def test_a_pool_tries_again_when_its_node_is_back(trio, turnstile):
    """It does not wait for server_login_retry, which is about what nobody has looked at since."""
    primary, replica, _ = trio
    t = turnstile(routed((primary, replica), {"server_login_retry": "600s", "node_answers": 1}))
    with reader_of(t, (primary, replica)) as client:
        replica.stop()
        try:
            assert answered_by(client) == primary.port
        finally:
            replica.start()
        wait_until(lambda: answered_by(client) == replica.port, 30)


# ---- roles that change ---------------------------------------------------------------------------------

def wait_role(t, i, role):
    wait_until(lambda: t.admin("SHOW NODES")[i]["role"] == role, 30,
               lambda: f"{role}, but {t.admin('SHOW NODES')}\n{t.log_text()}")


def test_i4_a_node_whose_role_goes_to_and_fro_is_not_written_to(trio, turnstile):
    """Until it has kept it for a while.  Who writes waits, and the write runs once."""
    primary, replica, other = trio
    switch = Switch(primary)
    primary.sql("CREATE TABLE to_and_fro (i int)", dbname=APP_DATABASE)
    primary.sql(f"GRANT ALL ON to_and_fro TO {APP_USER}", dbname=APP_DATABASE)
    t = turnstile(routed((switch, replica), {"node_settle_time": "600s", "failover_wait": "60s"}))
    with contextlib.closing(switch), reader_of(t, (primary, replica)) as client, log_in(t) as writer:
        switch.turn_to(other)
        wait_role(t, 0, "replica")
        switch.turn_to(primary)
        wait_role(t, 0, "fenced")
        assert "to and fro" in t.admin("SHOW NODES")[0]["error"]
        answers = []
        waits = threading.Thread(target=lambda: answers.extend(
            writer.query("INSERT INTO to_and_fro VALUES (1)")))
        waits.start()
        wait_until(lambda: [row for row in t.admin("SHOW CLIENTS") if row["state"] == "waiting"])
        assert answered_by(client) == replica.port
        assert primary.sql("SELECT * FROM to_and_fro", dbname=APP_DATABASE) == []
        # It has kept its role for long enough, if that is not long.
        t.reload({"pgturnstile": {"node_settle_time": "100ms"}})
        waits.join(30)
        assert raw.kinds(answers) == "CZ", (answers, t.log_text())
        assert primary.sql("SELECT * FROM to_and_fro", dbname=APP_DATABASE) == [(1,)]
        wait_nodes(t, "primary", "replica")
    primary.sql("DROP TABLE to_and_fro", dbname=APP_DATABASE)
