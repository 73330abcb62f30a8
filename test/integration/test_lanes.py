# SPDX-License-Identifier: ISC
#
# test_lanes.py - heavy work in lanes: pools, nodes and a ceiling of its own (docs/adr/0021-lanes.md).
#
# Every pool has one server, so the process that answers says in which lane a statement ran.
import contextlib

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import backends, log_in, pid_of, shop, wait_nodes
from tenancy import ROWS_EACH, TENANTS, both_pools, enter, errors, show, tenants
from turnstile import merge
from waiting import wait_until

PID = "SELECT pg_backend_pid()"
WHERE = "SELECT current_setting('test.port')"
IN_REPORTS = "/*lane='reports'*/ "
WRITE = "INSERT INTO lane_log VALUES (current_setting('test.port')) RETURNING port"
WRITER = "INSERT INTO lane_log VALUES ('') RETURNING pg_backend_pid()"
LEDGER = "lane_ledger"


@pytest.fixture(scope="module")
def tables(primary):
    primary.role("reporter", "reporter-password")
    with primary.connect(APP_DATABASE) as connection:
        for statement in [
                "CREATE TABLE lane_log (port text)", f"GRANT ALL ON lane_log TO {APP_USER}",
                f"CREATE TABLE {LEDGER} (business_id text NOT NULL)",
                f"INSERT INTO {LEDGER} SELECT b FROM unnest(ARRAY['42', '7', '1001']) AS b,"
                f" generate_series(1, {ROWS_EACH})",
                f"ALTER TABLE {LEDGER} ENABLE ROW LEVEL SECURITY",
                f"CREATE POLICY own ON {LEDGER}"
                " USING (business_id = current_setting('app.current_business_id', true))",
                f"GRANT ALL ON {LEDGER} TO {APP_USER}"]:
            connection.execute(statement)
    return primary


def laned(server, lane=None, settings=None, changes=None):
    """A shop with pools of one server, and a lane `reports` that its user may choose."""
    return merge(shop(server, {"default_pool_size": 1, **(settings or {})}),
                 merge({"lanes": {"reports": {"pool_size": 1, **(lane or {})}},
                        "users": {APP_USER: {"lane_switch": "yes"}}}, changes or {}))


def lanes(t, column, lane="reports"):
    return [row[column] for row in t.admin("SHOW LANES") if row["lane"] == lane]


def one(client, sql, extended=False):
    messages = client.prepared(sql) if extended else client.query(sql)
    assert not errors(messages), raw.find(messages, "E")[0].fields
    return raw.find(messages, "D")[-1].row[0]


@contextlib.contextmanager
def blocked(server, client, sql):
    """A statement of the client is under way, and ends with the block."""
    with server.connect(APP_DATABASE) as holder:
        holder.execute("SELECT pg_advisory_lock(2114)")
        client.send(raw.query(sql.replace("SELECT", "SELECT pg_advisory_xact_lock(2114),", 1)))
        wait_until(lambda: backends(server, "wait_event = 'advisory'"))
        yield
        holder.execute("SELECT pg_advisory_unlock(2114)")
    client.until("Z")


# --- in which lane ------------------------------------------------------------------------------
def test_reports_do_not_stand_before_the_shop(tables, turnstile):
    t = turnstile(laned(tables))
    with log_in(t) as report, log_in(t) as shopper, log_in(t) as other:
        with blocked(tables, report, IN_REPORTS + "SELECT 2"):
            for _ in range(3):
                assert one(shopper, "SELECT 2") == "2"
            other.send(raw.query(IN_REPORTS + "SELECT 3"))
            wait_until(lambda: lanes(t, "cl_waiting") == [1])
            assert lanes(t, "sv_active") == [1]
            assert one(shopper, "SELECT 2") == "2"
        assert raw.find(other.until("Z"), "D")[0].row[0] == "3"


def test_the_shop_does_not_stand_before_reports(tables, turnstile):
    t = turnstile(laned(tables))
    with log_in(t) as shopper, log_in(t) as report, \
            blocked(tables, shopper, "SELECT 2"):
        assert one(report, IN_REPORTS + "SELECT 2") == "2"


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("text", ["/*lane='reports'*/ SELECT pg_backend_pid()",
                                  "SELECT pg_backend_pid() /*lane='reports'*/",
                                  "SELECT pg_backend_pid() /*action='x',lane='reports'*/;",
                                  "/*lane='%72eports'*/ SELECT pg_backend_pid()"])
def test_a_comment_says_the_lane_of_its_transaction(tables, turnstile, text, extended):
    with log_in(turnstile(laned(tables))) as client:
        usual = one(client, PID)
        assert one(client, text, extended) != usual
        assert one(client, PID, extended) == usual


def test_a_prepared_statement_keeps_its_lane(tables, turnstile):
    with log_in(turnstile(laned(tables))) as client:
        usual = one(client, PID)
        client.send(raw.parse("report", IN_REPORTS + PID), raw.sync())
        client.until("Z")
        for _ in range(2):
            client.send(raw.bind("", "report"), raw.execute(), raw.sync())
            assert raw.find(client.until("Z"), "D")[0].row[0] != usual
            assert one(client, PID, extended=True) == usual


@pytest.mark.parametrize("begin", ["BEGIN", "/*lane='reports'*/ BEGIN"])
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_the_first_statement_decides_for_its_transaction(tables, turnstile, begin, extended):
    with log_in(turnstile(laned(tables))) as client:
        usual = one(client, PID)
        client.query(begin)
        first = one(client, PID if "lane" in begin else IN_REPORTS + PID, extended)
        assert first != usual
        assert one(client, PID, extended) == first
        client.query("COMMIT")
        client.query("BEGIN")
        assert one(client, PID, extended) == usual
        assert one(client, IN_REPORTS + PID, extended) == usual
        client.query("COMMIT")


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("heard", ["BEGIN", "SET LOCAL app.current_business_id = '42'",
                                   "SELECT set_config('app.current_business_id', '42', true)"])
def test_what_is_answered_here_says_the_lane_too(tables, turnstile, heard, extended):
    """A session that may choose its tenant: its BEGIN waits, and what it chooses needs no server."""
    t = turnstile(tenants(tables, {"tenant_pool": "shared", "tenant_by": ["user_suffix", "set"],
                                   "default_pool_size": 1, "backend_pid": "server"},
                          changes={"lanes": {"reports": {"pool_size": 1}},
                                   "users": {APP_USER: {"lane_switch": "yes", "tenant_switch": "yes"}}}))

    def say(client, text):
        client.send(*([raw.parse("", text), raw.bind(), raw.execute(), raw.sync()] if extended
                      else [raw.query(text)]))
        return client.until("Z")

    with enter(t, "acme") as client:
        usual = one(client, PID, extended)
        texts = ["BEGIN"] if heard == "BEGIN" else ["BEGIN", heard]
        for text in texts:
            assert not errors(say(client, IN_REPORTS + text if text == heard else text))
        assert one(client, PID, extended) != usual
        say(client, "COMMIT")
        assert one(client, PID, extended) == usual
        # It ends with a transaction that has run nothing, and is refused where it is wrong.
        say(client, IN_REPORTS + "BEGIN"), say(client, "ROLLBACK")
        assert one(client, PID, extended) == usual
        assert errors(say(client, "/*lane='report'*/ BEGIN")) == ["22023"]
        assert one(client, PID, extended) == usual


def test_who_may_not_choose_is_not_heard(tables, turnstile):
    t = turnstile(laned(tables, changes={"users": {APP_USER: {"lane_switch": "no"}}}))
    with log_in(t) as client:
        assert one(client, PID) == one(client, IN_REPORTS + PID)
    assert not t.admin("SHOW LANES")


@pytest.mark.parametrize("text", ["/*lane='report'*/ SELECT 2", "/*lane='%00'*/ SELECT 2",
                                  "/*lane='reports'*/ SELECT 2 /*lane='other'*/"])
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i3_a_lane_that_is_none_is_refused(tables, turnstile, text, extended):
    with log_in(turnstile(laned(tables))) as client:
        usual = one(client, PID)
        answer = client.prepared(text) if extended else client.query(text)
        assert errors(answer) == ["22023"]
        assert one(client, PID) == usual


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_lane_of_a_user(tables, turnstile, mode):
    t = turnstile(laned(tables, settings={"pool_mode": mode},
                        changes={"users": {"reporter": {"lane": "reports"}}}),
                  {"reporter": "reporter-password"})
    with log_in(t, "reporter", "reporter-password") as client:
        assert one(client, "SELECT 2") == "2"
    rows = [row for row in t.admin("SHOW LANES") if row["user"] == "reporter"]
    assert [row["server_assignment_count"] > 0 for row in rows] == [True]
    assert [s["user"] for s in t.admin("SHOW SERVERS") if s["user"] == "reporter"] == ["reporter"]


@pytest.mark.usefixtures(both_pools.__name__)
@pytest.mark.parametrize("where", ["tenant", "tier", "console"])
def test_i1_a_tenant_in_a_lane_is_itself(tables, turnstile, where):
    acme = {"tier": "basic", "business_id": TENANTS["acme"]}
    heavy = {"tenant": {"tenants": {"acme": {**acme, "lane": "reports"}}},
             "tier": {"tiers": {"heavy": {"lane": "reports"}},
                      "tenants": {"acme": {**acme, "tier": "heavy"}}},
             "console": {}}[where]
    t = turnstile(tenants(tables, {"default_pool_size": 1, "backend_pid": "server"},
                          changes=merge({"lanes": {"reports": {"pool_size": 1}}}, heavy)))
    if where == "console":
        t.admin("SET TENANT acme lane = reports")
        with pytest.raises(psycopg.Error, match="did you mean reports"):
            t.admin("SET TENANT acme lane = report")
    with enter(t, "acme") as acme, enter(t, "globex") as globex:
        for _ in range(2):
            for client, name in ((acme, "acme"), (globex, "globex")):
                rows = client.rows(f"SELECT business_id FROM {LEDGER}")
                assert rows == [(TENANTS[name],)] * ROWS_EACH
        assert pid_of(acme) != pid_of(globex)
    assert [row["server_assignment_count"] > 0 for row in t.admin("SHOW LANES")] == [True]


# --- its ceiling --------------------------------------------------------------------------------
@pytest.mark.usefixtures(both_pools.__name__)
@pytest.mark.parametrize("timeout", ["40s", "5s"])
def test_its_ceiling_takes_the_place_of_the_tiers(tables, turnstile, timeout):
    t = turnstile(tenants(tables, {"default_pool_size": 1},
                          {"basic": {"statement_timeout": "15s"}},
                          {"lanes": {"reports": {"pool_size": 1, "statement_timeout": timeout}},
                           "users": {APP_USER: {"lane_switch": "yes"}}}))
    with enter(t, "acme") as client:
        asked = "SELECT current_setting('statement_timeout')"
        for _ in range(2):
            assert one(client, asked) == "15s"
            assert one(client, IN_REPORTS + asked) == timeout
        client.query(IN_REPORTS + "BEGIN")
        notice, = raw.find(client.query("SET LOCAL statement_timeout = '2min'"), "N")
        assert notice.fields["M"].endswith('the limit of lane "reports"')
        assert show(client, "statement_timeout") == timeout
        client.query("COMMIT")
        client.query("SET statement_timeout = '9s'")
        assert one(client, asked) == "9s"
        assert one(client, IN_REPORTS + asked) == min("9s", timeout, key=lambda s: int(s[:-1]))


def test_its_ceiling_without_tenants(tables, turnstile):
    t = turnstile(laned(tables, {"statement_timeout": "7s"}))
    with log_in(t) as client:
        asked = "SELECT current_setting('statement_timeout')"
        usual = one(client, asked)
        assert one(client, IN_REPORTS + asked) == "7s"
        assert one(client, asked) == usual != "7s"
        client.query("SET statement_timeout = '1h'")
        assert one(client, IN_REPORTS + asked) == "7s"
        assert one(client, asked) == "1h"


# --- nodes --------------------------------------------------------------------------------------
@pytest.fixture
def routed(tables, replica, turnstile):
    """Starts a pooler before both nodes whose lane has the replica; a client of it."""
    replica.wait_caught_up(tables)

    def start(lane=None, changes=None):
        lane = {"nodes": f"{replica.host}:{replica.port}", **(lane or {})}
        t = turnstile(merge(
            laned(tables, lane, {"monitor_user": APP_USER, "monitor_interval": "200ms", "read_your_writes": "off"},
                  changes),
            {"databases": {APP_DATABASE: {"host": f"{tables.host},{replica.host}",
                                          "port": f"{tables.port},{replica.port}"}}}))
        wait_nodes(t, "primary", "replica")
        return t

    return start


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i4_a_write_in_a_lane_is_the_primarys(tables, replica, routed, extended):
    t = routed()
    with log_in(t) as client:
        wait_until(lambda: one(client, IN_REPORTS + WHERE) == str(replica.port))
        usual = one(client, WRITER)
        for _ in range(2):
            assert one(client, IN_REPORTS + WHERE, extended) == str(replica.port)
            assert one(client, IN_REPORTS + WRITE, extended) == str(tables.port)
        assert one(client, IN_REPORTS + WRITER, extended) != usual
    rows = {row["role"]: row for row in t.admin("SHOW LANES")}
    assert rows["primary"]["serves"] == 0 and rows["replica"]["serves"] == 1
    assert min(row["server_assignment_count"] for row in rows.values()) >= 2


def test_its_nodes_may_be_its_own(tables, replica, routed):
    with log_in(routed({"reserved": "yes"})) as client:
        wait_until(lambda: one(client, IN_REPORTS + WHERE) == str(replica.port))
        for _ in range(3):
            assert one(client, WHERE) == str(tables.port)
            assert one(client, IN_REPORTS + WHERE) == str(replica.port)


def test_its_nodes_are_shared_otherwise(tables, replica, routed):
    with log_in(routed()) as client:
        wait_until(lambda: one(client, WHERE) == str(replica.port))


def test_without_a_fresh_node_it_reads_from_the_primary(tables, replica, routed):
    t = routed({"reserved": "yes", "max_replica_lag": "1s"})
    with log_in(t) as client:
        replica.pause_replay()
        try:
            client.query(WRITE)
            wait_until(lambda: one(client, IN_REPORTS + WHERE) == str(tables.port), 30)
        finally:
            replica.resume_replay()
        wait_until(lambda: one(client, IN_REPORTS + WHERE) == str(replica.port), 30)


# --- limits -------------------------------------------------------------------------------------
def test_i5_a_lanes_servers_count(tables, turnstile):
    """Both pools may hold three, and the database two."""
    t = turnstile(laned(tables, {"pool_size": 3}, {"default_pool_size": 3, "max_db_connections": 2}))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(log_in(t)) for _ in range(6)]
        wait_until(lambda: len(backends(tables)) <= 2)
        for _ in range(5):
            for i, client in enumerate(clients):
                client.send(raw.query((IN_REPORTS if i % 2 else "") + "SELECT 2 FROM pg_sleep(0.02)"))
            assert len(backends(tables)) <= 2
            for client in clients:
                assert not errors(client.until("Z"))
        assert len(backends(tables)) <= 2


def test_its_wait_may_be_another(tables, turnstile):
    t = turnstile(laned(tables, {"query_wait_timeout": "1s"}))  # a server logs in within that
    with log_in(t) as report, log_in(t) as other:
        one(other, IN_REPORTS + "SELECT 2")
        with blocked(tables, report, IN_REPORTS + "SELECT 2"):
            other.send(raw.query(IN_REPORTS + "SELECT 2"))
            messages = other.until_closed()
            assert raw.find(messages, "E")[-1].fields["M"] == "query_wait_timeout"


# --- reload -------------------------------------------------------------------------------------
def test_i3_who_waits_in_a_lane_that_goes_is_answered(tables, turnstile):
    t = turnstile(laned(tables))
    with log_in(t) as report, log_in(t) as other, blocked(tables, report, IN_REPORTS + "SELECT 2"):
        other.send(raw.query(IN_REPORTS + "SELECT 3"))
        wait_until(lambda: lanes(t, "cl_waiting") == [1])
        t.reload({"lanes": {"reports": None, "exports": {"pool_size": 1}}})
        assert errors(other.until("Z")) == ["22023"]
        assert one(other, "/*lane='exports'*/ SELECT 3") == "3"
        assert lanes(t, "sv_active") == [1]
    wait_until(lambda: not lanes(t, "sv_active"))
    t.reload({"lanes": {"reports": {"pool_size": 1}}})
    with log_in(t) as client:
        assert one(client, IN_REPORTS + "SELECT 2") == "2"


def test_another_ceiling_holds_from_the_next_transaction_on(tables, turnstile):
    t = turnstile(laned(tables, {"statement_timeout": "7s"}))
    with log_in(t) as client:
        asked = IN_REPORTS + "SELECT current_setting('statement_timeout')"
        assert one(client, asked) == "7s"
        t.reload({"lanes": {"reports": {"pool_size": 1, "statement_timeout": "8s"}}})
        wait_until(lambda: one(client, asked) == "8s")


def test_i8_a_lane_that_is_named_has_to_be_there(tables, turnstile):
    t = turnstile(laned(tables))
    with pytest.raises(psycopg.Error):
        t.reload({"users": {APP_USER: {"lane": "report"}}})
    t.wait_log('there is no lane "report", did you mean reports')
