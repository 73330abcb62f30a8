# SPDX-License-Identifier: ISC
#
# test_routing.py - which node answers: reads a replica, all else the primary (I4).
"""A real primary and a real streaming replica; `port` tells who answered."""
import itertools

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from machine import Port
from rig import clients, log_in, shop
from tenancy import enter, errors, tenants
from test_http import samples, value
from waiting import wait_until

WHERE = "SELECT current_setting('test.port')"
WRITE = "INSERT INTO routed VALUES (current_setting('test.port')) RETURNING port"


@pytest.fixture(scope="module")
def pair(primary, replica):
    primary.sql("CREATE TABLE IF NOT EXISTS routed (port text)", dbname=APP_DATABASE)
    primary.sql(f"GRANT ALL ON routed TO {APP_USER}", dbname=APP_DATABASE)
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    replica.wait_caught_up(primary)
    return primary, replica


def routed(pair, settings=None, database=None):
    primary, replica = pair
    return shop(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms",
                           "read_your_writes": "off", **(settings or {})},
                {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}",
                 **(database or {})})


def answered_by(client, sql=WHERE, extended=False, kind="D"):
    messages = client.prepared(sql) if extended else client.query(sql)
    assert not errors(messages), raw.find(messages, "E")[0].fields
    last = raw.find(messages, kind)[-1]
    return int(last.row[0] if kind == "D" else last.body)


HOW_TO_BEGIN = ["simple", "extended", "described", "prepared", "one batch", "one batch, prepared"]


def own_kinds(messages):
    """Without what another node says of itself."""
    return raw.kinds(messages).replace("S", "")


def begun(client, begin, how, sql=WHERE):
    """Who answers the first statement of a transaction that is begun in this way."""
    if "prepared" in how:
        client.send(raw.close("S", "begin"), raw.parse("begin", begin), raw.sync())
        assert own_kinds(client.until("Z")) == "31Z"
    messages = {"simple": [raw.query(begin)], "prepared": [raw.bind("", "begin"), raw.execute(), raw.sync()],
                "extended": [raw.parse("", begin), raw.bind(), raw.execute(), raw.sync()],
                "described": [raw.parse("", begin), raw.bind(), raw.describe("P"), raw.execute(), raw.sync()],
                "one batch": [raw.parse("", begin), raw.bind(), raw.execute()],
                "one batch, prepared": [raw.bind("", "begin"), raw.execute()]}[how]
    answers = {"simple": "CZ", "prepared": "2CZ", "extended": "12CZ", "described": "12nCZ", "one batch": "12C",
               "one batch, prepared": "2C"}[how]
    if "one batch" not in how:
        client.send(*messages)
        begins = client.until("Z")
        assert own_kinds(begins) == answers and begins[-1].body == b"T"
        return answered_by(client, sql, extended=how != "simple")
    client.send(*messages, raw.parse("", sql), raw.bind(), raw.describe("P"), raw.execute(), raw.sync())
    begins = client.until("Z")
    assert own_kinds(begins) == answers + "12TDCZ" and begins[-1].body == b"T"
    return int(raw.find(begins, "D")[0].row[0])


def wait_routed(client, node):
    wait_until(lambda: answered_by(client) == node.port, 30, "reads reach the node")


@pytest.fixture
def client(pair, turnstile):
    with log_in(turnstile(routed(pair))) as client:
        wait_routed(client, pair[1])
        yield client


@pytest.mark.tsan
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i4_reads_on_the_replica_writes_on_the_primary(pair, client, extended):
    primary, replica = pair
    for _ in range(3):
        assert answered_by(client, extended=extended) == replica.port
        assert answered_by(client, WRITE, extended) == primary.port


def test_i4_a_prepared_statement_is_proven_anew_by_another_catalog(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair))
    with log_in(t) as client:
        wait_routed(client, replica)
        client.send(raw.parse("where", WHERE), raw.sync())
        assert not errors(client.until("Z"))

        def runs_on(node):
            client.send(raw.bind("", "where"), raw.execute(), raw.sync())
            return raw.find(client.until("Z"), "D")[0].row[0] == str(node.port)

        assert runs_on(replica)
        for writes, node in (("current_setting", primary), ("", replica)):
            t.reload({"pgturnstile": {"write_functions": writes}})
            wait_until(lambda: runs_on(node), 30, "the statement goes by the new catalog")


def test_i4_one_write_makes_the_string_and_the_batch_the_primarys(pair, client):
    primary, _ = pair
    assert answered_by(client, f"{WHERE}; {WRITE}") == primary.port
    client.send(raw.parse("", WHERE), raw.bind(), raw.execute(), raw.parse("", WRITE), raw.bind(),
                raw.execute(), raw.sync())
    rows = [int(m.row[0]) for m in raw.find(client.until("Z"), "D")]
    assert rows == [primary.port, primary.port]


@pytest.mark.parametrize("begin, on_replica", [
    ("BEGIN READ ONLY", True), ("START TRANSACTION READ ONLY", True), ("BEGIN", False),
    ("BEGIN READ ONLY ISOLATION LEVEL SERIALIZABLE", False), ("BEGIN READ WRITE", False)])
def test_i4_transactions_stay_where_they_begin(pair, client, begin, on_replica):
    primary, replica = pair
    for how in HOW_TO_BEGIN * 2:
        seen = {begun(client, begin, how), *(answered_by(client) for _ in range(3))}
        assert not errors(client.query("COMMIT"))
        assert seen == {(replica if on_replica else primary).port}, how


def batch(sql, name=""):
    return [raw.parse(name, sql), raw.bind("", name), raw.execute()]


def test_a_begin_that_comes_in_pieces(pair, client):
    messages = b"".join(batch("BEGIN READ ONLY")) + raw.sync()
    for cut in range(1, len(messages)):
        client.send(messages[:cut])
        client.send(messages[cut:])
        assert own_kinds(client.until("Z")) == "12CZ"
        assert answered_by(client) == pair[1].port, cut
        client.query("ROLLBACK")


CLOSES = {"a statement": raw.close("S", "old"), "no statement": raw.close("S", "nothing"),
          "the unnamed statement": raw.close("S"), "a portal": raw.close("P", "old"), "the unnamed portal": raw.close("P"),
          "several": raw.close("S", "old") + raw.close("P", "old") + raw.close("S", "nothing")}


@pytest.mark.parametrize("behind", CLOSES)
def test_i4_a_begin_behind_what_its_batch_closes(pair, client, behind):
    """As of pgJDBC, which closes there what its application uses no more."""
    client.send(raw.parse("old", "SELECT 5"), raw.bind("", "old"), raw.execute(), raw.sync())
    assert own_kinds(client.until("Z")) == "12DCZ"
    client.send(CLOSES[behind], *batch("BEGIN READ ONLY"), *batch(WHERE), raw.sync())
    messages = client.until("Z")
    assert own_kinds(messages).lstrip("3") == "12C12DCZ" and messages[-1].body == b"T"
    assert int(raw.find(messages, "D")[0].row[0]) == pair[1].port
    client.send(CLOSES[behind], *batch("COMMIT"), raw.sync())
    assert own_kinds(client.until("Z")).lstrip("3") == "12CZ"
    client.send(raw.bind("", "old"), raw.sync())
    assert errors(client.until("Z")) == (["26000"] if behind in ("a statement", "several") else [])


@pytest.mark.parametrize("begin", ["BEGIN; SELECT 1", "BEGIN READ ONLY x", "BEGIN READ ONLY ISOLATION"])
def test_a_begin_in_a_batch_that_the_server_refuses(client, begin):
    client.send(*batch(begin), *batch(WHERE), raw.sync())
    messages = client.until("Z")
    assert errors(messages) == ["42601"] and messages[-1].body == b"I"


def test_a_begin_whose_parse_the_server_refuses(client):
    """It says that it declares a type, and does not."""
    client.send(raw.message("P", "", "BEGIN READ ONLY", b"\0\1"), raw.bind(), raw.execute(), raw.sync())
    messages = client.until("Z")
    assert errors(messages) == ["08P01"] and messages[-1].body == b"I"


@pytest.mark.parametrize("wrong", [raw.bind("", "", [1]), raw.bind("", "", (), (0, 0))],
                         ids=["a parameter", "formats"])
def test_a_begin_whose_bind_the_server_refuses(client, wrong):
    client.send(raw.parse("", "BEGIN READ ONLY"), wrong, raw.execute(), raw.sync())
    messages = client.until("Z")
    assert errors(messages) == ["08P01"] and messages[-1].body == b"I"
    client.send(raw.bind(), raw.execute(), raw.sync())
    assert raw.kinds(client.until("Z")) == "2CZ"
    client.query("ROLLBACK")


def test_i4_what_a_batch_does_behind_its_transaction_may_write(pair, client):
    primary, _ = pair
    client.send(*batch("BEGIN READ ONLY"), *batch("COMMIT"), *batch(WRITE), raw.sync())
    messages = client.until("Z")
    assert not errors(messages) and messages[-1].body == b"I"
    assert int(raw.find(messages, "D")[0].row[0]) == primary.port


def test_i3_what_ties_in_the_batch_of_its_begin_is_the_primarys(pair, client):
    primary, _ = pair
    client.send(*batch("BEGIN READ ONLY"), *batch("SELECT pg_advisory_lock(7171)"),
                *batch("SELECT current_setting('test.port')"), raw.sync())
    messages = client.until("Z")
    assert not errors(messages)
    assert int(raw.find(messages, "D")[-1].row[0]) == primary.port
    client.query("COMMIT")
    assert client.rows("SELECT pg_advisory_unlock(7171)") == [("t",)]


def test_a_write_in_a_read_only_transaction_fails_as_by_the_server(client):
    client.query("BEGIN READ ONLY")
    assert errors(client.query(WRITE)) == ["25006"]
    client.query("ROLLBACK")


def test_i4_a_session_is_not_tied_to_a_replica(pair, client):
    primary, replica = pair
    client.query("BEGIN READ ONLY")
    assert answered_by(client, "SELECT current_setting('test.port') FROM now()") == replica.port
    assert errors(client.query("PREPARE mine AS SELECT 1")) == ["0A000"]
    client.query("ROLLBACK")
    assert answered_by(client, WRITE) == primary.port
    assert answered_by(client) == replica.port
    client.query("BEGIN READ ONLY")
    assert not errors(client.query("PREPARE mine AS SELECT 1"))
    client.query("COMMIT")
    assert answered_by(client, WRITE) == primary.port
    client.query("DEALLOCATE mine")
    assert answered_by(client) == replica.port


def test_i4_what_may_advance_a_sequence_does_not_tie_a_session_to_a_replica(pair, client):
    primary, replica = pair
    assert errors(client.query("SELECT lastval()")) == ["55000"]
    assert answered_by(client, f"COPY ({WHERE}) TO STDOUT", kind="d") == replica.port
    assert answered_by(client) == replica.port
    assert answered_by(client, WRITE) == primary.port


def test_hint_and_pins_go_to_the_primary(pair, client):
    primary, replica = pair
    assert answered_by(client, "/* route: primary */ " + WHERE) == primary.port
    assert answered_by(client) == replica.port
    client.query("PREPARE mine AS SELECT 1")
    assert answered_by(client) == primary.port
    client.query("DEALLOCATE mine")
    assert answered_by(client) == replica.port


def test_i2_settings_follow_a_session_to_a_replica_and_back(pair, client):
    primary, replica = pair
    client.query("SET work_mem = '1234kB'")
    assert answered_by(client) == replica.port
    assert client.rows("SHOW work_mem") == [("1234kB",)]
    client.query("BEGIN READ ONLY")
    client.query("SET work_mem = '2345kB'")
    client.query("COMMIT")
    assert answered_by(client, WRITE) == primary.port
    assert client.rows("/* route: primary */ SHOW work_mem") == [("2345kB",)]


@pytest.mark.parametrize("where", ["settings", "database"])
def test_route_primary(pair, turnstile, where):
    primary, _ = pair
    with log_in(turnstile(routed(pair, **{where: {"route": "primary"}}))) as client:
        for _ in range(5):
            assert answered_by(client) == primary.port


def test_without_a_login_for_the_monitor_nothing_is_routed(pair, turnstile):
    primary, _ = pair
    t = turnstile(routed(pair, {"monitor_user": ""}))
    with log_in(t) as client:
        for _ in range(5):
            assert answered_by(client) == primary.port
    assert t.log_contains("monitor_user")


@pytest.mark.slow
def test_reads_survive_the_replica(pair, turnstile):
    """It goes: reads move to the primary; it comes back: it is used again."""
    primary, replica = pair
    with clients(turnstile(routed(pair)), 2) as (client, other):
        wait_routed(client, replica)
        replica.stop()
        try:
            wait_routed(other, primary)
            assert answered_by(other, WRITE) == primary.port
        finally:
            replica.start()
        wait_routed(other, replica)


@pytest.mark.slow
def test_a_replica_that_lags_too_far_gets_no_reads(pair, turnstile):
    primary, replica = pair
    with log_in(turnstile(routed(pair, {"max_replica_lag": "1s"}))) as client:
        wait_routed(client, replica)
        replica.pause_replay()
        try:
            answered_by(client, WRITE)
            wait_routed(client, primary)
        finally:
            replica.resume_replay()
        wait_routed(client, replica)


@pytest.mark.parametrize("depth", [150, 5000, 100000])
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i4_deep_texts_are_the_servers_to_judge(pair, turnstile, depth, extended):
    """Too deep, or too long, to be parsed here: they go to the primary as they are."""
    primary, replica = pair
    text = f"SELECT {'(' * depth}current_setting('test.port'){')' * depth}"
    with clients(turnstile(routed(pair)), 2) as (client, other), log_in(primary) as direct:
        wait_routed(other, replica)
        got, expected = (c.prepared(text) if extended else c.query(text) for c in (client, direct))
        assert errors(got) == errors(expected)
        if not errors(got):
            assert raw.find(got, "D")[0].row == (str((replica if depth < 200 else primary).port),)
        assert answered_by(client) == answered_by(other) == replica.port


def shapes_on(client, node, count, name):
    """How many of so many new shapes the node answers."""
    return sum(answered_by(client, f"SELECT current_setting('test.port') AS {name}_{i}") == node.port
               for i in range(count))


def test_new_shapes_get_a_share_of_the_parsers_time(pair, turnstile):
    """Beyond it they are the primary's, and those that are known are not held up."""
    primary, replica = pair
    port = Port()
    t = turnstile(routed(pair, {"parse_max_time": "200us", "http_listen": port.number, "workers": 1}))
    with log_in(t) as client:
        wait_routed(client, replica)
        assert shapes_on(client, replica, 300, "few") < 300
        assert value(samples(port.number), "unparsed_total", database=APP_DATABASE) > 0
        assert answered_by(client) == replica.port
        t.reload({"pgturnstile": {"parse_max_time": "0"}})
        wait_routed(client, replica)
        assert shapes_on(client, replica, 300, "all") == 300
    port.release()


def test_who_is_hard_to_parse_uses_up_its_own_share(pair, turnstile):
    """A tenant's texts take milliseconds each of the thread that all share.  Held to its share, it goes to
    the primary, and another tenant's new shapes are parsed meanwhile."""
    primary, replica = pair
    nested = ", ".join(["(" * 190 + "1" + ")" * 190] * 80)
    numbers = itertools.count()
    t = turnstile(tenants(primary, {"monitor_user": APP_USER, "monitor_interval": "200ms", "workers": 1,
                                    "read_your_writes": "off", "parse_max_time": "1ms",
                                    "tenant_pool": "shared"},
                          changes={"databases": {APP_DATABASE: {
                              "host": f"{primary.host},{replica.host}",
                              "port": f"{primary.port},{replica.port}"}}}))
    with enter(t, "acme") as hostile, enter(t, "globex") as other:
        for client in (hostile, other):
            wait_routed(client, replica)

        def new_shape():
            return f"{WHERE} AS shape_{next(numbers)}"

        def is_held_alone():
            """What the two may have had in common would not do for two more."""
            return answered_by(hostile, f"{new_shape()}, {nested}") == primary.port \
                and answered_by(other, new_shape()) == answered_by(other, new_shape()) == replica.port

        wait_until(is_held_alone, 30, "the one is held to its share, and the other is not")


# --- SHOW ROUTE --------------------------------------------------------------------------------
def told(t, rest):
    """{fact: (value, meaning)}"""
    return {row["fact"]: (row["value"], row["meaning"]) for row in t.admin(f"SHOW ROUTE {rest}")}


@pytest.mark.parametrize("sql, reason, why", [
    ("SELECT 2", "read", "the grammar and the primary's catalog prove it"),
    ("BEGIN READ ONLY", "read", "begin is no read"),
    ("/* route: primary */ SELECT 2", "hint", "its comment asks for the primary"),
    ("INSERT INTO routed VALUES ('x')", "write", "insert is no read"),
    ("SELECT nextval('s')", "write", "nextval() writes the sequence"),
    ("SELECT 2; DELETE FROM routed", "write", "DeleteStmt is in no list of what reads"),
    ("SELECT gen_random_uuid()", "write", "gen_random_uuid() may write or tell of one node: it is volatile, or what it runs or reads is the primary's"),
    ("SELECT FROM WHERE", "write", "the grammar does not take it: syntax error at or near \"WHERE\""),
    ("CALL nothing()", "write", "call is no read")])
def test_show_route_says_where_and_why(pair, client, turnstile, sql, reason, why):
    """And what it says is what is done."""
    primary, replica = pair
    t = turnstile(routed(pair))
    with log_in(t) as asker:
        wait_routed(asker, replica)
        facts = told(t, sql)
        assert facts["reason"][0] == reason and facts["read"][1] == why
        node = replica if reason == "read" else primary
        assert facts["route"][0].endswith(f":{node.port}")
        before = routes_of(t)
        asker.query(sql)
        if sql.startswith("BEGIN"):
            assert answered_by(asker) == node.port
        counted = {name for name, count in routes_of(t).items() if count != before[name]}
        assert counted == {reason}


def routes_of(t):
    return {row["reason"]: row["count"] for row in t.admin("SHOW ROUTES") if row["database"] == APP_DATABASE}


def test_show_route_knows_fences_and_nodes(pair, turnstile):
    primary, replica = pair
    t = turnstile(routed(pair, {"read_your_writes": "tenant", "monitor_interval": "100ms"}))
    asked = f"DATABASE {APP_DATABASE} USER {APP_USER} {WHERE}"
    with log_in(t) as client:
        wait_routed(client, replica)
        replica.pause_replay()
        try:
            answered_by(client, WRITE)
            facts = told(t, asked)
            assert facts["user"][0] == APP_USER and facts["reason"][0] == "fence", facts
            assert int(facts["fence"][0]) > 0
            assert facts["node 1"] == (f"replica {replica.host}:{replica.port}",
                                       "not known yet to have replayed what was written")
            assert answered_by(client) == primary.port
        finally:
            replica.resume_replay()
        wait_routed(client, replica)
        assert told(t, asked)["reason"][0] == "read"
        assert told(t, asked)["node 1"][1] == "will do for a read"
        assert told(t, f"USER nobody {WHERE}")["fence"] == ("none", "nothing is known to have been written")


def test_show_route_refuses_what_it_cannot_say(pair, turnstile):
    t = turnstile(routed(pair))
    for text, state in ("", "42601"), ("DATABASE nowhere SELECT 2", "3D000"), ("SELECT " + "1," * 17000, "54000"):
        with pytest.raises(psycopg.Error) as refused:
            t.admin(f"SHOW ROUTE {text}")
        assert refused.value.sqlstate == state


# ---- definitions of which no tag tells ----------------------------------------------------------------

DEFINED = {
    "SELECT INTO": "SELECT 1 AS i INTO {0}",
    "WITH INTO": "WITH a AS (SELECT 1 AS i) SELECT * INTO UNLOGGED {0} FROM a",
    "CREATE TABLE AS": "CREATE UNLOGGED TABLE {0} AS SELECT 1 AS i",
    "no data": "CREATE TABLE {0} AS SELECT 1 AS i WITH NO DATA",
    "explained": "EXPLAIN (ANALYZE) CREATE TABLE {0} AS SELECT 1 AS i",
    "matview": "CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS i",
    "schema": "CREATE SCHEMA {0} CREATE VIEW v AS SELECT 1 AS i",
    "DO": "DO $$ BEGIN CREATE UNLOGGED TABLE {0} (i int); END $$",
    "DO EXECUTE": "DO $$ BEGIN EXECUTE 'CREATE UNLOGGED TABLE {0} (i int)'; END $$",
}


@pytest.fixture
def slow_client(pair, turnstile):
    """Of a pooler that reads the catalog when it starts, and for a minute not again."""
    with pair[0].connect(APP_DATABASE) as connection:
        connection.execute(f"GRANT CREATE ON DATABASE {APP_DATABASE} TO {APP_USER}")
    t = turnstile(routed(pair, {"monitor_interval": "60s"}))
    with log_in(t) as client:
        client.pooler = t
        wait_routed(client, pair[1])
        yield client


def drop(client, what, name):
    kind = {"matview": "MATERIALIZED VIEW", "schema": "SCHEMA"}.get(what, "TABLE")
    assert not errors(client.query(f"DROP {kind} {name} CASCADE"))


@pytest.mark.parametrize("how", ["simple", "extended", "in a transaction", "behind another"])
@pytest.mark.parametrize("what", DEFINED)
def test_i4_a_definition_that_its_tag_hides_puts_the_catalog_in_doubt(pair, slow_client, what, how):
    client, name = slow_client, "defined_" + what.lower().replace(" ", "_")
    text = DEFINED[what].format(name)
    if how == "in a transaction":
        client.query("BEGIN")
        assert not errors(client.query(text))
        client.query("COMMIT")
    elif how == "behind another":
        client.send(raw.query("SELECT 2 FROM routed LIMIT 0"), raw.query("SELECT txid_current()"),
                    raw.query(text), raw.query("SELECT 2"))
        assert not errors([m for _ in range(4) for m in client.until("Z")])
    else:
        assert not errors(client.prepared(text) if how == "extended" else client.query(text))
    try:
        assert answered_by(client) == pair[0].port
    finally:
        drop(client, what, name)


@pytest.mark.parametrize("text", [
    "INSERT INTO routed SELECT 'x' LIMIT 0", "CREATE TEMP TABLE defined_temp AS SELECT 1",
    "SELECT 1 AS i INTO TEMP defined_temp", "DO $$ DECLARE i int; BEGIN SELECT 1 INTO i; END $$",
])
def test_what_defines_nothing_for_others_does_not(pair, slow_client, text):
    with log_in(slow_client.pooler) as other:
        assert not errors(slow_client.query(text))
        assert answered_by(other) == pair[1].port
