# SPDX-License-Identifier: ISC
#
# test_read_your_writes.py - who has written finds it in what is read next (I4).
#
# The replica's replay is stopped where it matters, so that a read that reaches it too early is
# stale for sure; `port` tells who answered.
"""A real primary and a real replica that replays when it is told to."""
import contextlib

import pytest

import raw
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import clients, log_in, shop, wait_nodes
from switch import Switch
from tenancy import TENANTS, errors
from turnstile import merge
from waiting import wait_until

WHERE = "SELECT current_setting('test.port')"
WRITE = "INSERT INTO written VALUES (1)"
OTHER_USER = "other_app"


@pytest.fixture(scope="module")
def pair(primary, replica):
    for statement in ("CREATE TABLE written (n int)", f"GRANT ALL ON written TO {APP_USER}",
                      "CREATE FUNCTION writes() RETURNS int VOLATILE LANGUAGE sql AS"
                      " 'INSERT INTO written VALUES (2) RETURNING n'",
                      "CREATE PROCEDURE commits_and_fails() LANGUAGE plpgsql AS $$ BEGIN"
                      " INSERT INTO written VALUES (3); COMMIT; RAISE 'on purpose'; END $$"):
        primary.sql(statement, dbname=APP_DATABASE)
    if not primary.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", [OTHER_USER]):
        primary.role(OTHER_USER, APP_PASSWORD)
    primary.sql(f"GRANT ALL ON written TO {OTHER_USER}", dbname=APP_DATABASE)
    replica.wait_caught_up(primary)
    yield primary, replica
    primary.sql("DROP PROCEDURE commits_and_fails; DROP FUNCTION writes; DROP TABLE written",
                dbname=APP_DATABASE)


def routed(pair, settings=None):
    primary, replica = pair
    return shop(primary, {"monitor_user": APP_USER, "monitor_interval": "50ms",
                          "max_replica_lag": 0, "default_pool_size": 4, **(settings or {})},
                {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"})


def answered_by(client, sql=WHERE):
    messages = client.query(sql)
    assert not errors(messages), raw.find(messages, "E")[0].fields
    return int(raw.find(messages, "D")[-1].row[0])


def wait_routed(client, node):
    wait_until(lambda: answered_by(client) == node.port, 30, "reads reach the node")


@contextlib.contextmanager
def stopped(replica):
    replica.pause_replay()
    try:
        yield
    finally:
        replica.resume_replay()


def settled(pooler, client, pair):
    """Reads go to the replica, and will until somebody writes."""
    wait_nodes(pooler, "primary", "replica")
    wait_routed(client, pair[1])


@pytest.mark.tsan
@pytest.mark.parametrize("write", [
    WRITE, f"BEGIN; {WRITE}; COMMIT", f"{WRITE}; COMMIT; SELECT 1/0", f"{WRITE}; SELECT 1/0", "SELECT writes()",
    "CALL commits_and_fails()", "DO $$ BEGIN INSERT INTO written VALUES (4); END $$",
    "COPY written FROM PROGRAM 'echo 5'", "EXPLAIN ANALYZE INSERT INTO written VALUES (6)",
    "SELECT 1 FROM written FOR UPDATE"])
def test_i4_what_was_written_is_read(pair, turnstile, write):
    primary, replica = pair
    t = turnstile(routed(pair))
    with clients(t, 2) as (client, other):
        settled(t, client, pair)
        with stopped(replica):
            # Whatever becomes of the write, it is behind this.
            primary.sql("INSERT INTO written VALUES (7)", dbname=APP_DATABASE)
            client.query(write)
            for _ in range(3):
                assert answered_by(client) == primary.port
                assert answered_by(other) == primary.port
        wait_routed(client, replica)
        wait_routed(other, replica)


ENTRY = "written_elsewhere"


@pytest.mark.parametrize("entry", ["the same servers", "the primary alone", "in another order"])
def test_i4_what_was_written_by_another_entry_of_the_same_database_is_read(pair, turnstile, entry):
    """Two of [databases] that are one database there share a fence, if their servers have one in common."""
    primary, replica = pair
    nodes = {"the same servers": (primary, replica), "the primary alone": (primary,),
             "in another order": (replica, primary)}[entry]

    def place(*servers):
        return {"host": ",".join(s.host for s in servers), "port": ",".join(str(s.port) for s in servers),
                "dbname": APP_DATABASE}

    t = turnstile(merge(routed(pair), {"databases": {ENTRY: place(*nodes)}}))
    with log_in(t) as client, log_in(t, dbname=ENTRY) as writer:
        settled(t, client, pair)
        with stopped(replica):
            assert not errors(writer.query(WRITE))
            assert answered_by(client) == primary.port
        wait_routed(client, replica)


def test_i4_another_database_of_the_same_servers_has_a_fence_of_its_own(pair, turnstile):
    primary, replica = pair
    t = turnstile(merge(routed(pair), {"databases": {
        ENTRY: {"host": primary.host, "port": primary.port, "dbname": "postgres"}}}))
    with log_in(t) as client, log_in(t, dbname=ENTRY) as writer:
        settled(t, client, pair)
        with stopped(replica):
            assert not errors(writer.query("SELECT txid_current()"))
            assert answered_by(client) == replica.port


def test_i4_batches_that_write_do_too(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair))
    with log_in(t) as client:
        settled(t, client, pair)
        with stopped(replica):
            client.prepared(WRITE)
            assert answered_by(client) == primary.port
        wait_routed(client, replica)
        with stopped(replica):
            client.send(raw.parse("", WHERE), raw.bind(), raw.execute(), raw.parse("", WRITE),
                        raw.bind(), raw.execute(), raw.sync())
            client.until("Z")
            assert answered_by(client) == primary.port


def answered_here(t):
    """Parses of unnamed statements."""
    return sum(row["auto_parses"] for row in t.admin("SHOW SAVINGS")
               if row["database"] == APP_DATABASE)


def test_i4_an_unnamed_statement_that_repeats_is_a_write_each_time(pair, turnstile):
    """What is prepared behind its back, and what is sent for it at once, raises the fence too."""
    primary, replica = pair
    t = turnstile(routed(pair, {"auto_prepare_after": 2}))
    request = (raw.parse("", WRITE), raw.bind(), raw.describe("P"), raw.execute(), raw.sync())
    with log_in(t) as client:
        settled(t, client, pair)

        def write():
            client.send(*request)
            client.until("Z")

        def is_answered_here():
            """Not each time: what is old is prepared anew."""
            wait_routed(client, replica)
            write()
            wait_routed(client, replica)
            before = answered_here(t)
            with stopped(replica):
                write()
                assert answered_by(client) == primary.port
            return answered_here(t) > before

        wait_until(is_answered_here, 60, "what was prepared is used")


def test_i4_a_commit_is_fenced_before_its_string_has_ended(pair, turnstile):
    """Its tag is passed on while the rest of the string still runs."""
    primary, replica = pair
    t = turnstile(routed(pair))
    with clients(t, 2) as (client, other):
        settled(t, other, pair)
        with stopped(replica):
            with primary.connect(APP_DATABASE) as holder:
                holder.execute("SELECT pg_advisory_lock(4711)")
                client.send(raw.query(f"BEGIN; {WRITE}; COMMIT;"
                                      " SELECT repeat('x', 100000); SELECT pg_advisory_xact_lock(4711)"))
                tags = 0
                while tags < 3:
                    tags += client.message().kind == "C"
                assert answered_by(other) == primary.port
            client.until("Z")


@pytest.mark.parametrize("how", ["answered", "unanswered"])
def test_i4_a_lost_connection_counts_as_a_write(pair, turnstile, how):
    primary, replica = pair
    t = turnstile(routed(pair))
    with clients(t, 2) as (client, other):
        settled(t, other, pair)
        with stopped(replica):
            client.query("BEGIN")
            client.query(WRITE)
            pid = int(client.rows("SELECT pg_backend_pid()")[0][0])
            client.send(raw.query("COMMIT; SELECT pg_sleep(60)" if how == "answered"
                                  else "SELECT pg_sleep(60)"))
            wait_until(lambda: primary.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s"
                                           " AND wait_event = 'PgSleep'", [pid]))
            primary.sql("SELECT pg_terminate_backend(%s)", [pid])
            client.until_closed()
            assert answered_by(other) == primary.port


def test_i4_transactions_that_only_read_raise_nothing(pair, turnstile):
    """On the primary, in a transaction, with BEGIN and COMMIT, or because it keeps its server."""
    primary, replica = pair
    t = turnstile(routed(pair))
    with clients(t, 2) as (client, other):
        settled(t, other, pair)
        with stopped(replica):
            client.query("BEGIN")
            assert answered_by(client) == primary.port
            client.send(raw.parse("", "SELECT count(*) FROM written"), raw.bind(), raw.execute(), raw.sync())
            assert not errors(client.until("Z"))
            assert answered_by(other) == replica.port
            client.query("COMMIT")
            assert answered_by(other) == replica.port
            client.query("/* route: primary */ SELECT 2")
            client.send(raw.parse("s", WHERE), raw.describe("S", "s"), raw.flush())
            client.until("T")
            client.send(raw.bind("", "s"), raw.execute(), raw.sync())
            client.until("Z")


def test_read_only_transactions_are_fenced_and_raise_nothing(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair))
    with clients(t, 2) as (client, other):
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            client.query("BEGIN READ ONLY")
            assert answered_by(client) == primary.port
            client.query("COMMIT")
        # Reads on the primary do not keep themselves there.
        wait_until(lambda: (client.query("BEGIN READ ONLY"), answered_by(client),
                            client.query("COMMIT"))[1] == replica.port)
        assert answered_by(other) == replica.port


def test_i4_read_only_that_becomes_read_write_is_a_write(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair))
    with log_in(t) as client:
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            wait_until(lambda: t.admin("SHOW NODES")[1]["lag_bytes"] > 0)
            client.query("BEGIN READ ONLY")
            client.query("SET TRANSACTION READ WRITE")
            client.query(WRITE)
            assert client.query("COMMIT")[0].strings[0] == "COMMIT"
            assert answered_by(client) == primary.port


def statements_of(server, pid):
    """Lines in the server's log of what one of its sessions has run."""
    return sum(f"[{pid}]" in line and (" statement: " in line or " execute " in line)
               for line in server.log_tail(100000).splitlines())


def test_no_statement_is_added_to_a_write(pair, turnstile):
    """What the primary runs for its client is what that has sent, fence or not."""
    primary, replica = pair
    primary.sql(f"ALTER ROLE {OTHER_USER} SET log_statement = 'all'")
    try:
        t = turnstile(routed(pair, {"default_pool_size": 1}), {OTHER_USER: APP_PASSWORD})
        with log_in(t, OTHER_USER) as client:
            settled(t, client, pair)
            pid = client.rows("/* route: primary */ SELECT pg_backend_pid()")[0][0]
            for fence in range(1, 4):
                before = statements_of(primary, pid)
                client.query(f"INSERT INTO written VALUES ({fence})")
                client.prepared(f"INSERT INTO written VALUES ({fence})")
                client.query("BEGIN")
                client.query(f"INSERT INTO written VALUES ({fence})")
                client.query("COMMIT")
                assert client.rows("/* route: primary */ SELECT pg_backend_pid()") == [(pid,)]
                wait_until(lambda: statements_of(primary, pid) == before + 6, 10,  # noqa: B023
                           lambda: f"{primary.log_tail(20)}")
                wait_routed(client, replica)
    finally:
        primary.sql(f"ALTER ROLE {OTHER_USER} RESET log_statement")


def test_session_is_fenced_by_its_own_writes_only(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"read_your_writes": "session"}))
    with clients(t, 2) as (client, other):
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            assert answered_by(client) == primary.port
            assert answered_by(other) == replica.port
        wait_routed(client, replica)


def test_off_fences_nothing(pair, turnstile):
    _, replica = pair
    t = turnstile(routed(pair, {"read_your_writes": "off"}))
    with log_in(t) as client:
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            assert answered_by(client) == replica.port


def test_other_users_of_the_database_are_not_fenced(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair), {OTHER_USER: APP_PASSWORD})
    with log_in(t) as client, log_in(t, OTHER_USER) as other:
        settled(t, client, pair)
        wait_routed(other, replica)
        with stopped(replica):
            client.query(WRITE)
            assert answered_by(other) == replica.port
            assert answered_by(client) == primary.port


@pytest.mark.tsan
@pytest.mark.parametrize("pool", ["dedicated", "shared"])
def test_i4_tenants_are_fenced_on_whatever_worker(pair, turnstile, pool):
    """One tenant's sessions of two users may live on two; others are not fenced."""
    primary, replica = pair
    t = turnstile(merge(routed(pair, {"tenant_by": "user_suffix", "tenant_pool": pool, "workers": 4}), {
        "tiers": {"basic": {"weight": 1}},
        "tenants": {name: {"tier": "basic", "business_id": business_id}
                    for name, business_id in TENANTS.items()}}), {OTHER_USER: APP_PASSWORD})
    with contextlib.ExitStack() as stack:
        acme = [stack.enter_context(log_in(t, f"{user}.acme", APP_PASSWORD))
                for user in (APP_USER, OTHER_USER)]
        globex = stack.enter_context(log_in(t, f"{APP_USER}.globex", APP_PASSWORD))
        wait_nodes(t, "primary", "replica")
        for client in (*acme, globex):
            wait_routed(client, replica)
        with stopped(replica):
            acme[0].query(WRITE)
            assert [answered_by(c) for c in acme] == [primary.port, primary.port]
            assert answered_by(globex) == replica.port


def test_fence_wait_waits_for_the_replica(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"fence_wait": "20s"}))
    with log_in(t) as client:
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            client.send(raw.query(WHERE))
            wait_until(lambda: any(row["state"] == "waiting" for row in t.admin("SHOW CLIENTS")))
        assert int(raw.find(client.until("Z"), "D")[0].row[0]) == replica.port
        with stopped(replica):
            client.query(WRITE)
            client.send(raw.parse("", WHERE), raw.bind(), raw.execute(), raw.sync())
            wait_until(lambda: any(row["state"] == "waiting" for row in t.admin("SHOW CLIENTS")))
        assert int(raw.find(client.until("Z"), "D")[0].row[0]) == replica.port


def test_fence_wait_ends(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"fence_wait": "100ms"}))
    with log_in(t) as client:
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            assert answered_by(client) == primary.port
            client.query("BEGIN READ ONLY")
            assert answered_by(client) == primary.port
            client.query("COMMIT")


@pytest.mark.parametrize("idle", ["SELECT pg_switch_wal()", "CHECKPOINT", "SELECT txid_current()"])
def test_an_idle_primary_does_not_fence_for_ever(pair, turnstile, idle):
    """Its position may stand behind a page header, which is not replayed."""
    primary, replica = pair
    t = turnstile(routed(pair))
    with log_in(t) as client:
        settled(t, client, pair)
        client.query(WRITE)
        primary.sql(idle)
        wait_routed(client, replica)


def test_max_replica_lag_in_bytes(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"max_replica_lag_bytes": "64kB", "read_your_writes": "off"}))
    with log_in(t) as client:
        settled(t, client, pair)
        with stopped(replica):
            client.query(WRITE)
            assert answered_by(client) == replica.port
            client.query("INSERT INTO written SELECT generate_series(1, 10000)")
            wait_routed(client, primary)
        wait_routed(client, replica)


# ---- which server it is --------------------------------------------------------------------------

@pytest.fixture(scope="module")
def second(primary):
    server = Postgres.replica_of(primary, "second")
    yield server
    server.remove()


@pytest.mark.slow
def test_i4_several_servers_behind_one_name_get_no_fenced_reads(pair, second, turnstile):
    """The one that the monitor asks has all; the one that would answer has not."""
    primary, replica = pair
    second.wait_caught_up(primary)
    switch = Switch(replica)
    config = routed((primary, switch))
    t = turnstile(config)
    with contextlib.closing(switch), log_in(t) as client:
        wait_nodes(t, "primary", "replica")
        switch.target = second
        with stopped(second):
            client.query(WRITE)
            seen = set()
            wait_until(lambda: seen.add(answered_by(client)) or t.log_contains("different servers"))
            assert seen == {primary.port}
            assert "different servers" in t.admin("SHOW NODES")[1]["error"]
            assert t.admin("SHOW NODES")[1]["role"] == "replica"


@pytest.mark.slow
def test_i4_a_replica_that_was_restarted_has_to_show_anew(pair, second, turnstile):
    primary, _ = pair
    t = turnstile(routed((primary, second)))
    with log_in(t) as client:
        settled(t, client, (primary, second))
        client.query(WRITE)
        wait_routed(client, second)
        second.restart()
        wait_routed(client, second)
        with stopped(second):
            client.query(WRITE)
            assert answered_by(client) == primary.port
