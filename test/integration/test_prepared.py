# SPDX-License-Identifier: ISC
#
# test_prepared.py - prepared statements in transaction mode: each client's names are its own.
"""Named and unnamed statements over servers that change under them."""
import pytest

import raw
from conftest import APP_DATABASE
from rig import backends, clients, essence, log_in, pid_of, same_as_direct, shop, sqlstate
from waiting import wait_until

SYNC = raw.sync()


@pytest.fixture
def t(primary, turnstile):
    return turnstile(shop(primary))


def run(client, name, values=()):
    """Bind, Execute and Sync of a statement; its rows, or the SQLSTATE."""
    client.send(raw.bind("", name, values), raw.execute(), SYNC)
    messages = client.until("Z")
    return sqlstate(messages) or [m.row for m in raw.find(messages, "D")]


def prepare(client, name, sql):
    client.send(raw.parse(name, sql), SYNC)
    return client.until("Z")


def occupy(client):
    """Have the client take a server for a transaction; returns its pid."""
    client.query("BEGIN")
    return pid_of(client)


def on_another_server(t, client, act):
    """What act() returns when `client` cannot get the server that it had."""
    before = pid_of(client)
    with clients(t, 2) as others:
        pids = [occupy(other) for other in others]
        others[1 - pids.index(before)].query("COMMIT")
        result = act()
    return result


# --- the unnamed statement -------------------------------------------------------------------------
@pytest.mark.tsan
def test_i2_unnamed_statement_is_ones_own(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client, log_in(t) as other, log_in(t) as third:
        prepare(client, "", "SELECT 'mine'")
        prepare(other, "", "SELECT 'theirs'")
        assert run(third, "") == "26000"
        for _ in range(3):
            assert run(client, "") == [("mine",)]
            assert run(other, "") == [("theirs",)]


def test_unnamed_statement_follows_its_client(t):
    with log_in(t) as client:
        prepare(client, "", "SELECT 'mine'")
        assert on_another_server(t, client, lambda: run(client, "")) == "26000"  # a Query dropped it
        prepare(client, "", "SELECT 'mine'")
        with clients(t, 2) as others:
            for other in others:
                prepare(other, "", "SELECT 'theirs'")
            assert run(client, "") == [("mine",)]


def test_i3_unnamed_statement_of_the_server_ends_with_what_settings_are_asked(primary, turnstile):
    """They travel as a Query, which drops it: the next Parse of the same text has to be sent."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t, TimeZone="Asia/Tokyo") as one, log_in(t, TimeZone="America/Lima") as other:
        for _ in range(2):
            assert one.rows("SHOW TimeZone") == [("Asia/Tokyo",)]
            for client in (one, other):
                messages = client.prepared("SELECT 1")
                assert not sqlstate(messages), raw.find(messages, "E")[0].fields


def test_unnamed_statement_ends_with_a_query_or_a_failed_parse(primary, t):
    same_as_direct(primary, t, raw.parse("", "SELECT 1") + SYNC, raw.bind() + raw.execute() + SYNC,
                   raw.query("SELECT 2"), raw.bind() + raw.execute() + SYNC,
                   raw.parse("", "SELECT 1") + SYNC, raw.parse("", "SELEC") + SYNC,
                   raw.bind() + SYNC, raw.parse("", "SELECT 3") + SYNC,
                   raw.bind("", "nowhere") + raw.parse("", "SELECT 4") + SYNC,
                   raw.bind() + raw.execute() + SYNC)


# --- named statements ------------------------------------------------------------------------------
@pytest.mark.tsan
def test_i2_same_name_different_texts(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 5) as all_clients:
        for i, client in enumerate(all_clients):
            assert raw.kinds(prepare(client, "s", f"SELECT {i}, $1::text")) == "1Z"
        for _ in range(3):
            for i, client in enumerate(all_clients):
                assert run(client, "s", ["x"]) == [(str(i), "x")]
        with log_in(t) as stranger:
            assert run(stranger, "s") == "26000"
            assert run(stranger, "pgt_1") == "26000"


# --- literals, which a server reads when it parses a text ------------------------------------------
DAY = "SELECT extract(day FROM date '01/02/2003')"


@pytest.mark.parametrize("name", ["", "s"])
def test_i2_literals_are_read_by_ones_own_settings(primary, turnstile, name):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t, DateStyle="ISO, MDY") as one, log_in(t, DateStyle="ISO, DMY") as other:
        for client in (one, other):
            prepare(client, name, DAY)
        for _ in range(2):
            assert run(one, name) == [("2",)]
            assert run(other, name) == [("1",)]


def test_i2_literals_are_read_by_settings_of_the_moment(primary, turnstile):
    """A setting changed in the transaction, and back behind it."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t, DateStyle="ISO, MDY") as client:
        prepare(client, "before", DAY)
        client.query("BEGIN; SET LOCAL DateStyle = 'ISO, DMY'")
        prepare(client, "within", DAY)
        assert [run(client, name) for name in ("before", "within")] == [[("2",)], [("1",)]]
        client.query("COMMIT")
        prepare(client, "behind", DAY)
        assert [run(client, name) for name in ("before", "within", "behind")] == [
            [("2",)], [("1",)], [("2",)]]
        client.query("SET DateStyle = 'ISO, DMY'")
        prepare(client, "later", DAY)
        assert run(client, "later") == [("1",)]


@pytest.mark.parametrize("name", ["", "s", "t"])
def test_i2_a_moment_is_that_of_ones_own_parse(primary, turnstile, name):
    """'now' is a constant of the statement, as old as its Parse."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    text = "SELECT extract(epoch FROM 'now'::timestamptz)::text, extract(epoch FROM now())::text"
    told = []
    with log_in(t) as client, log_in(t) as other:
        for who, its in ((client, name), (other, name), (client, ""), (client, "u")):
            prepare(who, its, text)
            moment, now = run(who, its)[0]
            assert float(moment) <= float(now)
            told.append(float(moment))
        assert told == sorted(set(told))
        if name:
            assert float(run(client, name)[0][0]) == told[0]


def test_named_statement_follows_its_client(t):
    with log_in(t) as client:
        prepare(client, "s", "SELECT $1::int + 1")
        assert on_another_server(t, client, lambda: run(client, "s", [1])) == [("2",)]


def test_describe_of_a_statement_on_another_server(primary, t):
    with log_in(t) as client, log_in(primary) as direct:
        for c in client, direct:
            prepare(c, "s", "SELECT $1::int AS n, 'x' AS x")
            c.send(raw.describe("S", "s"), SYNC)
        expected = direct.until("Z")
        assert client.until("Z") == expected

        def describe():
            client.send(raw.describe("S", "s"), SYNC)
            return client.until("Z")

        assert on_another_server(t, client, describe) == expected


def test_names_and_errors_are_as_on_a_direct_connection(primary, t):
    p, b, e = raw.parse, raw.bind, raw.execute()
    same_as_direct(
        primary, t,
        p("a", "SELECT 1") + SYNC,
        p("a", "SELECT 2") + SYNC,                                   # there is one already
        b("", "a") + e + SYNC,
        raw.query("BEGIN"), p("a", "SELECT 2") + SYNC, b("", "a") + e + SYNC, raw.query("ROLLBACK"),
        p("bad", "SELECT nothing") + SYNC, b("", "bad") + e + SYNC,   # an error: it is not there
        b("", "nowhere") + p("c", "SELECT 3") + SYNC, b("", "c") + e + SYNC,  # skipped: neither
        p("d", "SELECT 4") + b("", "nowhere") + SYNC, b("", "d") + e + SYNC,  # before it: there
        raw.close("S", "a") + SYNC, b("", "a") + e + SYNC,
        b("", "nowhere") + raw.close("S", "d") + SYNC, b("", "d") + e + SYNC,  # not closed
        raw.close("S", "d") + p("d", "SELECT 5") + b("", "d") + e + SYNC,
        p("d", "SELECT 6") + b("", "d") + e + SYNC, b("", "d") + e + SYNC,
        raw.close("S", "never") + SYNC,
        p("f", "SELECT 1/0") + b("", "f") + e + SYNC, b("", "f") + e + SYNC)


def test_known_text_in_a_failed_transaction(primary, t):
    """The text is on the server already, so nobody need ask it; but it would have refused."""
    with log_in(t) as first, log_in(t) as second:
        for client in first, second:
            prepare(client, "known", "SELECT 42")
            run(client, "known")
    same_as_direct(primary, t, raw.query("BEGIN"), raw.query("SELECT 1/0"),
                   raw.parse("mine", "SELECT 42") + SYNC,
                   raw.bind("", "mine") + raw.execute() + SYNC, raw.query("ROLLBACK"),
                   raw.bind("", "mine") + raw.execute() + SYNC,
                   raw.parse("mine", "SELECT 42") + SYNC,
                   raw.bind("", "mine") + raw.execute() + SYNC)


def test_duplicate_in_a_failed_transaction(primary, t):
    same_as_direct(primary, t, raw.parse("a", "SELECT 1") + SYNC, raw.query("BEGIN"),
                   raw.query("SELECT 1/0"), raw.parse("a", "SELECT 2") + SYNC,
                   raw.parse("a", "ROLLBACK") + SYNC, raw.query("ROLLBACK"),
                   raw.parse("a", "SELEC") + SYNC, raw.bind("", "a") + raw.execute() + SYNC)


@pytest.mark.parametrize("statement", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("extended", [False, True])
def test_statements_end_with(primary, t, statement, extended):
    ends = raw.parse("", statement) + raw.bind() + raw.execute() + SYNC if extended \
        else raw.query(statement)
    use = raw.bind("", "a") + raw.execute() + SYNC
    same_as_direct(primary, t, raw.parse("a", "SELECT 1") + SYNC, use, ends, use,
                   raw.parse("a", "SELECT 2") + SYNC, use)


def test_discard_all_that_fails_leaves_statements(primary, t):
    use = raw.bind("", "a") + raw.execute() + SYNC
    same_as_direct(primary, t, raw.parse("a", "SELECT 1") + SYNC, raw.query("BEGIN"),
                   raw.query("DISCARD ALL"), raw.query("ROLLBACK"), use)


def test_discard_all_behind_a_statement_that_fails(primary, t):
    """What was asked of the server before still has to be sorted out after it."""
    with log_in(t) as client:
        primary.sql("CREATE TABLE IF NOT EXISTS vanishing (); GRANT ALL ON vanishing TO PUBLIC",
                    dbname=APP_DATABASE)
        prepare(client, "s", "SELECT FROM vanishing")
        primary.sql("DROP TABLE vanishing", dbname=APP_DATABASE)

        def pipeline():
            client.send(raw.bind("", "s"), raw.execute(), SYNC, raw.query("DISCARD ALL"),
                        raw.query("SELECT 1"))
            return [raw.kinds(client.until("Z")) for _ in range(3)]

        assert on_another_server(t, client, pipeline) == ["EZ", "CZ", "TDCZ"]
        assert run(client, "s") == "26000"


# --- pipelines over several Syncs: what is sent before it is known what became of the last ---------
NOPE = raw.bind("", "nowhere")  # fails, and makes the rest of its batch void
PIPELINES = {
    "skipped Parse": [NOPE, raw.parse("", "SELECT 'skipped'"), SYNC, raw.bind(), raw.execute(), SYNC],
    "skipped and again": [NOPE, raw.parse("", "SELECT 'skipped'"), SYNC, raw.parse("", "SELECT 'mine'"),
                          SYNC, raw.bind(), raw.execute(), SYNC],
    "failed Parse": [raw.parse("", "SELEC"), SYNC, raw.bind(), raw.execute(), SYNC],
    "skipped named": [NOPE, raw.parse("new", "SELECT 'skipped'"), SYNC,
                      raw.parse("new", "SELECT 'mine'"), SYNC, raw.bind("", "new"), raw.execute(), SYNC],
    "skipped Bind": [NOPE, raw.bind("", "old"), SYNC, raw.bind("", "old"), raw.execute(), SYNC],
    "skipped Bind of the unnamed": [NOPE, raw.bind(), SYNC, raw.bind(), raw.execute(), SYNC],
    "skipped Close": [NOPE, raw.close("S", ""), SYNC, raw.bind(), raw.execute(), SYNC],
    "skipped Close of a name": [NOPE, raw.close("S", "old"), SYNC, raw.bind("", "old"),
                                raw.execute(), SYNC, raw.parse("old", "SELECT 'new'"), SYNC],
    "skipped Query": [NOPE, raw.query("SELECT 1"), SYNC, raw.parse("", "SELECT 'mine'"), raw.bind(),
                      raw.execute(), SYNC],
    "two at once": [NOPE, raw.parse("", "SELECT 'skipped'"), SYNC, raw.parse("", "SELECT 'mine'"),
                    raw.bind(), raw.execute(), SYNC, raw.bind(), raw.execute(), SYNC],
}


@pytest.mark.parametrize("has_unnamed", [False, True])
@pytest.mark.parametrize("name", PIPELINES)
def test_i2_pipelines_over_a_failed_batch(primary, t, name, has_unnamed):
    """Both servers hold an unnamed statement of somebody else when the pipeline meets them."""
    answers = []
    for server in primary, t:
        with log_in(server) as client:
            prepare(client, "old", "SELECT 'old'")
            if has_unnamed:
                prepare(client, "", "SELECT 'before'")
            if server is t:
                with clients(t, 2) as others:
                    for other in others:
                        prepare(other, "begin", "BEGIN")
                        run(other, "begin")
                    for other in others:
                        prepare(other, "commit", "COMMIT")
                        prepare(other, "", "SELECT 'somebody''s secret'")
                        run(other, "commit")
            client.send(*PIPELINES[name])
            answers.append([essence(client.until("Z")) for _ in range(PIPELINES[name].count(SYNC))])
    assert answers[1] == answers[0]


# --- how many a server keeps -----------------------------------------------------------------------
def test_i2_a_close_behind_a_batch_that_fails_closes_what_came_back(primary, t):
    """The failed batch never closed the name, so the second Close is the one that counts."""
    with log_in(primary) as direct, log_in(t) as client:
        answers = []
        for c in (direct, client):
            prepare(c, "a", "SELECT 1")
            c.send(raw.bind("", "missing"), raw.close("S", "a"), SYNC,
                   raw.close("S", "a"), raw.parse("a", "SELECT 2"), SYNC,
                   raw.bind("", "a"), raw.execute(), SYNC)
            answers.append([essence(c.until("Z")) for _ in range(3)])
        assert answers[1] == answers[0]


def test_eviction(primary, turnstile):
    t = turnstile(shop(primary, {"max_prepared_statements": 2, "default_pool_size": 1}))
    with log_in(t) as client, log_in(t) as other:
        for i in range(50):
            prepare(client, f"s{i}", f"SELECT {i}")
            prepare(other, f"s{i}", f"SELECT -{i}")
        for i in [*range(50), *reversed(range(50))]:
            assert run(client, f"s{i}") == [(str(i),)]
            assert run(other, f"s{i}") == [(str(-i),)]
        count = int(client.rows("SELECT count(*) FROM pg_prepared_statement()")[0][0])
        assert count <= 2


@pytest.mark.parametrize("describes", [True, False], ids=["described", "not described"])
def test_a_statement_by_itself_ends_what_is_too_much(primary, turnstile, describes):
    """Bind, Execute and Sync at once are as good as one by one, to what their server owes too."""
    t = turnstile(shop(primary, {"max_prepared_statements": 8, "default_pool_size": 1}))
    batch = [raw.describe("P")] * describes + [raw.execute(), SYNC]
    with log_in(t) as client, log_in(t) as cut:
        for i in range(8):
            prepare(client, f"s{i}", f"SELECT {i}")
            assert run(client, f"s{i}") == [(str(i),)]
        prepare(cut, "s", "SELECT 'cut'")
        t.reload(shop(primary, {"max_prepared_statements": 2, "default_pool_size": 1}))
        for i in (7, 0, 7, 3):
            client.send(raw.bind("", f"s{i}") + b"".join(batch))
            whole = client.until("Z")
            for message in (raw.bind("", f"s{i}"), *batch):
                client.send(message)
            assert essence(whole) == essence(client.until("Z"))
            assert [m.row for m in raw.find(whole, "D")] == [(str(i),)]
            assert run(cut, "s") == [("cut",)]
        assert int(client.rows("SELECT count(*) FROM pg_prepared_statement()")[0][0]) <= 2


def test_what_a_batch_uses_is_not_evicted_in_it(primary, turnstile):
    t = turnstile(shop(primary, {"max_prepared_statements": 2, "default_pool_size": 1}))
    with log_in(t) as client:
        for i in range(10):
            prepare(client, f"s{i}", f"SELECT {i}")
        client.send(*(raw.bind(f"p{i}", f"s{i}") for i in range(10)),
                    *(raw.execute(f"p{i}") for i in range(10)), SYNC)
        messages = client.until("Z")
        assert [m.row for m in raw.find(messages, "D")] == [(str(i),) for i in range(10)]
        count = int(client.rows("SELECT count(*) FROM pg_prepared_statement()")[0][0])
        assert count <= 2


def test_one_statement_for_the_same_text(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 10) as all_clients:
        for i, client in enumerate(all_clients):
            prepare(client, f"name{i}", "SELECT 'shared'")
            assert run(client, f"name{i}") == [("shared",)]
        assert all_clients[0].rows("SELECT count(*) FROM pg_prepared_statement()") == [("1",)]
        all_clients[0].send(raw.close("S", "name0"), SYNC)
        all_clients[0].until("Z")
        assert run(all_clients[1], "name1") == [("shared",)]


def test_show_prepared(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1, "workers": 1}))
    long = "SELECT '" + "x" * 300 + "', $2::int, $1::text"
    with clients(t, 3) as all_clients:
        for i, client in enumerate(all_clients):
            prepare(client, f"name{i}", "SELECT 'shared'")
            assert run(client, f"name{i}") == [("shared",)]
        prepare(all_clients[0], "long", long)
        rows = {row["query"]: row for row in t.admin("SHOW PREPARED")}
        assert set(rows) == {"SELECT 'shared'", long[:256]}
        shared = {k: v for k, v in rows["SELECT 'shared'"].items() if k not in ("id", "bytes")}
        assert shared == {"database": APP_DATABASE, "user": "app", "tenant": "", "names": 3,
                          "servers": 1, "uses": 3, "parameters": 0, "changes": 0,
                          "query": "SELECT 'shared'"}
        assert rows[long[:256]]["parameters"] == 2
        assert rows[long[:256]]["bytes"] > len(long)
        all_clients[0].send(raw.close("S", "long"), SYNC)
        all_clients[0].until("Z")
        assert {row["query"]: row["names"] for row in t.admin("SHOW PREPARED")} \
            == {"SELECT 'shared'": 3, long[:256]: 0}
    wait_until(lambda: all(row["names"] == 0 for row in t.admin("SHOW PREPARED")))
    t.admin("RECONNECT")
    wait_until(lambda: not t.admin("SHOW PREPARED"))

def test_an_end_is_kept_by_name_with_its_semicolon_too(t):
    with log_in(t) as client:
        for sql in "COMMIT;", "ROLLBACK ;", "END", "COMMIT AND CHAIN;":
            client.query("BEGIN")
            client.query("SELECT 2")  # else no server would see the end
            client.send(raw.parse("", sql), raw.bind(), raw.execute(), SYNC)
            assert not sqlstate(client.until("Z"))
            client.query("ROLLBACK")
        kept = {row["query"] for row in t.admin("SHOW PREPARED")}
        assert kept >= {"COMMIT;", "ROLLBACK ;", "END"} and "COMMIT AND CHAIN;" not in kept
        client.send(raw.parse("", "COMMIT; SELECT 2"), SYNC)
        assert sqlstate(client.until("Z")) == "42601"


@pytest.mark.parametrize("late", ["1ms", "1h"])
@pytest.mark.parametrize("behind", [
    raw.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"), raw.query("SET transaction_read_only = off"),
    raw.query("BEGIN ISOLATION LEVEL SERIALIZABLE"), raw.query("SET TRANSACTION READ WRITE; SELECT 2"),
    raw.parse("", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE") + raw.bind() + raw.execute() + SYNC,
    raw.query("SELECT 3"), raw.query("COMMIT") + raw.query("SET TRANSACTION READ WRITE"),
    raw.parse("", "RELEASE nothing") + raw.bind() + raw.execute() + SYNC
    + 2 * raw.query("SET TRANSACTION READ WRITE") + raw.query("SHOW work_mem")
], ids=["level", "setting", "begin", "several", "batch", "query", "over", "failed"])
def test_i2_a_statement_that_is_known_counts_as_a_query_all_the_same(primary, turnstile, behind, late):
    """Parse takes a snapshot, behind which there is no SET TRANSACTION."""
    t = turnstile(shop(primary, {"begin_defer_max": late}))
    texts = "SELECT 2", "BEGIN", "INSERT INTO pg_class SELECT * FROM pg_class", "SHOW work_mem"
    seen = []
    for server in primary, t:
        for text in texts:
            for begin in "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ; SAVEPOINT a":
                with clients(server, 2) as (one, two):
                    prepare(one, "", text)
                    prepare(one, "a", text)
                    for name in "a", "b", "":
                        two.query(begin)
                        two.send(raw.close("S", name), raw.parse(name, text), SYNC)
                        two.until("Z")
                        two.send(behind + raw.query("SHOW transaction_isolation") + raw.query("ROLLBACK"))
                        messages = []
                        while not any(m.text == "ROLLBACK" for m in raw.find(messages, "C")):
                            messages += two.until("Z")
                        seen.append(essence(messages))
    assert seen[len(seen) // 2:] == seen[:len(seen) // 2]


def test_a_name_is_taken_whatever_its_statement_has_become(primary, turnstile):
    """The server has forgotten it, and could not parse it any more."""
    t = turnstile(shop(primary, {"max_prepared_statements": 1, "default_pool_size": 1}))
    seen = []
    for server in primary, t:
        primary.sql("DROP TABLE IF EXISTS taken; CREATE TABLE taken (v int); GRANT ALL ON taken TO PUBLIC",
                    dbname=APP_DATABASE)
        with log_in(server) as client:
            prepare(client, "b", "SELECT v FROM taken")
            prepare(client, "other", "SELECT 2")
            client.query("SET search_path = pg_catalog")
            for text in "SELECT 3", "SELEC", "SELECT nothing", "":
                client.send(raw.parse("b", text), raw.parse("", "SELECT 4"), SYNC)
                seen.append(sqlstate(client.until("Z")))
            client.query("BEGIN; SELECT 1/0")
            client.send(raw.parse("b", "SELECT 3"), SYNC)
            seen.append(sqlstate(client.until("Z")))
            client.query("ROLLBACK; RESET search_path")
            assert run(client, "b") == []
    assert seen == 2 * ["42P05", "42601", "42703", "42P05", "25P02"]



def test_not_mapped(primary, turnstile):
    """max_prepared_statements = 0: names go through, and the server stays with its client."""
    t = turnstile(shop(primary, {"max_prepared_statements": 0}))
    with log_in(t) as client, log_in(t) as other:
        prepare(client, "s", "SELECT 'mine'")
        prepare(other, "s", "SELECT 'theirs'")
        assert run(client, "s") == [("mine",)] and run(other, "s") == [("theirs",)]
    with log_in(t) as client:
        assert run(client, "s") == "26000"


# --- "cached plan must not change result type" ------------------------------------------------------
ALTER = "ALTER TABLE changing ADD b text DEFAULT 'new'"


@pytest.fixture
def changing(primary):
    """A table with one row and one column."""
    primary.sql("DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int);"
                " INSERT INTO changing VALUES (1); GRANT ALL ON changing TO PUBLIC", dbname=APP_DATABASE)
    yield lambda sql=ALTER: primary.sql(sql, dbname=APP_DATABASE)
    primary.sql("DROP TABLE IF EXISTS changing", dbname=APP_DATABASE)


def described(name, sync=SYNC):
    """Bind, Describe, Execute, as libpq does."""
    return raw.bind("", name) + raw.describe("P") + raw.execute() + sync


def ask(client, request):
    client.send(request)
    return client.until("Z")


def on_both_servers(t, client, request):
    """Has each server of the pool answer the request."""
    for _ in range(2):
        on_another_server(t, client, lambda: ask(client, request))


@pytest.mark.tsan
def test_changed_result_is_prepared_anew_unseen(t, changing):
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        on_both_servers(t, client, described("s"))
        changing()
        for _ in range(2):
            messages = on_another_server(t, client, lambda: ask(client, described("s")))
            assert raw.kinds(messages) == "2TDCZ"
            assert raw.find(messages, "D")[0].row == ("1", "new")
        client.send(described("s"))
        assert raw.kinds(client.until("Z")) == "2TDCZ"


def test_changed_result_of_a_statement_that_is_described(t, changing):
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        assert run(client, "s") == [("1",)]
        changing()
        client.send(raw.describe("S", "s") + SYNC)
        assert raw.kinds(client.until("Z")) == "tTZ"
        assert run(client, "s") == [("1", "new")]


def test_changed_result_behind_a_parse_of_the_same_batch(t, changing):
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        assert run(client, "s") == [("1",)]
        changing()
        client.send(raw.parse("new", "SELECT 'other'") + raw.parse("same", "SELECT * FROM changing")
                    + described("same"))
        assert raw.kinds(client.until("Z")) == "112TDCZ"


def test_changed_result_is_not_unseen_where_the_client_would_be_misled(primary, t, changing):
    """It was told the old result and does not ask again: the error, until it prepares anew."""
    requests = [described("s"), *[raw.bind("", "s") + raw.execute() + SYNC] * 3,
                raw.parse("new", "SELECT * FROM changing") + SYNC,
                raw.bind("", "new") + raw.execute() + SYNC, described("new")]
    with log_in(primary) as direct, log_in(t) as through, log_in(t) as other:
        for client in direct, through, other:
            prepare(client, "s", "SELECT * FROM changing")
            client.send(described("s"))
            client.until("Z")
        changing()
        other.send(described("s"))  # this one learns it, on the server that they share
        assert raw.kinds(other.until("Z")) == "2TDCZ"
        for request in requests[1:]:
            for client in direct, through:
                client.send(request)
            expected = direct.until("Z")
            assert essence(through.until("Z")) == essence(expected), request


def bound(name, sync=SYNC):
    """Bind and Execute by a client that goes by what it was told of the result, as JDBC and asyncpg."""
    return raw.bind("", name) + raw.execute() + sync


WAITS_FOR_IT = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'changing'::regclass"
TOLD = {"of the statement": lambda name: raw.describe("S", name) + SYNC, "of a portal": described}


@pytest.mark.parametrize("told", TOLD)
def test_changed_result_on_a_server_that_never_had_the_old_one(t, changing, told):
    """No server raises the error, and the client would read the new rows as the old ones."""
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        ask(client, TOLD[told]("s"))
        changing()
        messages = on_another_server(t, client, lambda: ask(client, bound("s")))
        assert raw.kinds(messages) == "EZ" and sqlstate(messages) == "0A000"
        # What asyncpg and postgres.js tell it by.
        assert messages[0].fields["R"] == "RevalidateCachedQuery"
        assert sqlstate(ask(client, bound("s"))) == "0A000"
        prepare(client, "new", "SELECT * FROM changing")
        ask(client, TOLD[told]("new"))
        for _ in range(2):
            messages = on_another_server(t, client, lambda: ask(client, bound("new")))
            assert raw.kinds(messages) == "2DCZ"
            assert raw.find(messages, "D")[0].row == ("1", "new")


@pytest.mark.parametrize("told", TOLD)
def test_changed_result_that_was_told_while_something_was_defined(primary, t, changing, told):
    """By the answer's time servers may keep it as another statement: what functions do is not known (I1)."""
    with log_in(t) as client, log_in(t) as other, primary.connect(APP_DATABASE) as holder:
        holder.execute("BEGIN; LOCK TABLE changing")
        client.send(raw.parse("s", "SELECT * FROM changing") + TOLD[told]("s"))
        wait_until(lambda: primary.value(WAITS_FOR_IT, dbname=APP_DATABASE))
        other.query("CREATE TABLE defined_meanwhile ()")
        holder.execute("COMMIT")
        assert "T" in raw.kinds(client.until("Z"))
        other.query("DROP TABLE defined_meanwhile")
        changing()
        assert sqlstate(on_another_server(t, client, lambda: ask(client, bound("s")))) == "0A000"


@pytest.mark.parametrize("told", TOLD)
def test_changed_result_while_it_is_not_known_what_functions_do(t, changing, told):
    with log_in(t) as client:
        client.query("CREATE TABLE defined_before ()")
        client.query("DROP TABLE defined_before")
        prepare(client, "s", "SELECT * FROM changing")
        ask(client, TOLD[told]("s"))
        changing()
        assert sqlstate(ask(client, bound("s"))) == "0A000"


@pytest.mark.parametrize("told", TOLD)
def test_result_that_has_not_changed_is_asked_for_unseen(t, changing, told):
    """Also in a pipeline, in a transaction and behind a statement that fails."""
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        ask(client, TOLD[told]("s"))
        changing("ALTER TABLE changing RENAME TO other; ALTER TABLE other RENAME TO changing")

        def pipeline():
            client.send(bound("s") + raw.query("BEGIN") + bound("s", b"") + bound("s")
                        + raw.query("SELECT 1/0") + bound("s") + raw.query("ROLLBACK") + bound("s"))
            return [raw.kinds(client.until("Z")) for _ in range(7)]

        for _ in range(2):
            assert on_another_server(t, client, pipeline) \
                == ["2DCZ", "CZ", "2DC2DCZ", "EZ", "EZ", "CZ", "2DCZ"]


def test_result_of_a_statement_that_is_not_there_any_more(primary, t, changing):
    with log_in(primary) as direct, log_in(t) as client:
        for each in direct, client:
            prepare(each, "s", "SELECT * FROM changing")
            ask(each, described("s"))
        changing("DROP TABLE changing")
        expected = ask(direct, bound("s"))
        assert essence(on_another_server(t, client, lambda: ask(client, bound("s")))) == essence(expected)
        assert raw.kinds(ask(client, raw.query("SELECT 1"))) == "TDCZ"


def test_description_of_a_portal_is_its_own_statements(t, changing):
    """Not of the one that was bound last."""
    with log_in(t) as client:
        prepare(client, "one", "SELECT 1 AS one")
        prepare(client, "two", "SELECT 1 AS two, 2 AS and_two")
        client.send(raw.bind("a", "one") + raw.bind("b", "two") + raw.describe("P", "a") + SYNC)
        assert raw.kinds(client.until("Z")) == "22TZ"
        ask(client, described("two"))
        for _ in range(2):
            for name in "one", "two":
                messages = on_another_server(t, client, lambda: ask(client, bound(name)))
                assert raw.kinds(messages) == "2DCZ"


def test_result_too_wide_to_be_compared(primary, t):
    """Its description comes in pieces: it is not known to have changed, and nobody waits for ever."""
    wide = "SELECT " + ", ".join(f"{n} AS {'c' * 50}_{n}" for n in range(1600))
    with log_in(t) as client:
        prepare(client, "s", wide)
        ask(client, described("s"))
        for _ in range(2):
            assert raw.kinds(on_another_server(t, client, lambda: ask(client, bound("s")))) == "2DCZ"


@pytest.mark.parametrize("before, after", [("BEGIN", "ROLLBACK")])
def test_changed_result_in_a_transaction(t, changing, before, after):
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        assert run(client, "s") == [("1",)]
        changing()
        client.query(before)
        client.send(described("s"))
        assert sqlstate(client.until("Z")) == "0A000"
        client.query(after)
        client.send(described("s"))  # prepared anew for the next time
        assert raw.kinds(client.until("Z")) == "2TDCZ"


def test_i3_nothing_is_run_twice_for_a_changed_result(t, changing):
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        prepare(client, "add", "INSERT INTO changing (a) VALUES (2)")
        assert run(client, "s") == [("1",)] and run(client, "add") == []
        changing()
        client.send(described("add", b"") + described("s"))
        assert raw.kinds(client.until("Z")) == "2nCEZ"
        client.send(described("s", b"") + described("add"))
        assert raw.kinds(client.until("Z")) == "2TDDC2nCZ"
        assert client.rows("SELECT count(*) FROM changing") == [("3",)]


def test_changed_result_in_a_pipeline(t, changing):
    """What is under way behind it would be overtaken."""
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        assert run(client, "s") == [("1",)]
        changing()
        client.send(described("s"), described("s"), described("s"))
        assert [raw.kinds(client.until("Z")) for _ in range(3)] == ["EZ", "EZ", "EZ"]
        assert raw.kinds(ask(client, described("s"))) == "2TDCZ"


def test_changed_result_of_what_is_not_there_any_more(t, changing):
    with log_in(t) as client:
        prepare(client, "s", "SELECT * FROM changing")
        assert run(client, "s") == [("1",)]
        changing("ALTER TABLE changing ADD b int; ALTER TABLE changing RENAME TO changed")
        client.send(described("s"))
        assert sqlstate(client.until("Z")) == "42P01"
        changing("ALTER TABLE changed RENAME TO changing")
        client.send(described("s"))
        assert raw.kinds(client.until("Z")) == "2TDCZ"


def test_changed_result_of_a_long_batch(t, changing):
    """More than is kept: the error is seen, and the next time works."""
    with log_in(t) as client:
        prepare(client, "u", "SELECT changing.*, $1::text FROM changing")
        assert len(run(client, "u", ["x" * 100000])) == 1
        changing()
        long = raw.bind("", "u", ["x" * 100000]) + raw.describe("P") + raw.execute() + SYNC
        client.send(long)
        assert sqlstate(client.until("Z")) == "0A000"
        client.send(long)
        assert raw.kinds(client.until("Z")) == "2TDCZ"


def test_psycopg_prepares_in_transaction_mode(primary, t):
    with t.connect(APP_DATABASE, "app") as a, t.connect(APP_DATABASE, "app") as b:
        for i in range(20):
            for connection in a, b:
                cursor = connection.execute("SELECT %s::int + %s::int", [i, 1], prepare=True)
                assert cursor.fetchone() == (i + 1,)
    assert len(backends(primary)) <= 2


BAD = raw.parse("", "nonsense")


@pytest.mark.parametrize("batches", [
    [BAD + raw.bind("", "a"), raw.bind("", "b") + raw.execute()],
    [BAD + raw.bind("", "a"), BAD + raw.bind("", "b") + raw.execute()],
    [BAD + raw.bind("", "a"), BAD + raw.bind("", "b"), raw.bind("", "a") + raw.execute()],
    [BAD + raw.parse("x", "SELECT 'a'"), raw.bind("", "b") + raw.execute()],
    [BAD + raw.parse("x", "SELECT 'a'"), BAD + raw.bind("", "b")],
    [BAD + raw.parse("x", "SELECT 'a'"), raw.bind("", "b") + raw.bind("", "a") + raw.execute()],
    [BAD + raw.parse("x", "SELECT 'a'"), raw.bind("", "b") + BAD + raw.bind("", "a"),
     raw.bind("", "b") + raw.execute()],
])
def test_i3_what_a_later_batch_closes_was_never_parsed(primary, turnstile, batches):
    """A pipeline behind a batch that fails, with room for one statement on the server."""
    t = turnstile(shop(primary, {"default_pool_size": 1, "max_prepared_statements": 1}))
    with log_in(primary) as direct, log_in(t) as client:
        answers = []
        for c in direct, client:
            for name in "ab":
                prepare(c, name, f"SELECT '{name}'")
                run(c, name)
            c.send(*(batch + SYNC for batch in batches))
            answers.append([essence(c.until("Z")) for _ in batches])
            assert [run(c, name) for name in "abab"] == [[("a",)], [("b",)]] * 2
        assert answers[0] == answers[1]


def test_what_was_never_parsed_is_not_asked_for_again_while_the_rest_is_taken_back(primary, t):
    """The second batch closes what the first has not made; the third, what the second has not."""
    with log_in(primary) as direct, log_in(t) as client:
        answers = []
        for c in direct, client:
            prepare(c, "old", "SELECT 'old'")
            batches = [raw.parse("a", "SELEC"),
                       NOPE + raw.parse("b", "SELECT 'b'") + raw.parse("c", "SELEC"),
                       raw.parse("d", "SELECT 'b'") + raw.bind("", "d") + raw.execute()]
            c.send(*(batch + SYNC for batch in batches))
            answers.append([essence(c.until("Z")) for _ in batches])
            assert run(c, "d") == [("b",)] and run(c, "old") == [("old",)]
        assert answers[0] == answers[1]


@pytest.mark.parametrize("name", ["", "s"])
def test_i2_a_text_is_parsed_anew_after_ddl(primary, turnstile, name):
    """Its parameter has another type of the same name, which a server's old statement cannot know."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    text = "SELECT $1::ddl_mood"
    with clients(t, 2) as (client, other), log_in(primary) as direct:
        for c in (direct, client):
            c.query("DROP TYPE IF EXISTS ddl_mood; CREATE TYPE ddl_mood AS ENUM ('good')")
        for round_ in range(2):
            for c in (direct, client, other):
                messages = c.prepared(text, ["good"], name=name)
                assert not sqlstate(messages), raw.find(messages, "E")[0].fields
                if name:
                    c.send(raw.close("S", name), SYNC)
                    c.until("Z")
            client.query("BEGIN")
            client.query("DROP TYPE ddl_mood")
            client.query("CREATE TYPE ddl_mood AS ENUM ('good')")
            client.query("COMMIT")


def test_a_type_that_others_drop_is_nobodys_error_for_long(primary, turnstile):
    """A server statement knows its parameters' types by their numbers: it is prepared anew."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    text = "SELECT $1::dropped_type::text"
    make = "CREATE TYPE dropped_type AS ENUM ('a', 'b')"
    primary.sql(make, dbname=APP_DATABASE)

    def ask(client, described=b""):
        client.send(raw.close("S", "a"), raw.parse("a", text), raw.bind("", "a", ["a"]), described,
                    raw.execute(), raw.sync())
        return client.until("Z")

    try:
        with clients(t, 2) as (client, other):
            assert raw.find(ask(client), "D")[0].row == ("a",)
            for described, first in ((raw.describe("P"), None), (b"", "XX000")):
                primary.sql("DROP TYPE dropped_type; " + make, dbname=APP_DATABASE)
                assert sqlstate(ask(other, described)) == first
                assert raw.find(ask(other), "D")[0].row == ("a",)
            assert raw.find(ask(client), "D")[0].row == ("a",)
    finally:
        primary.sql("DROP TYPE dropped_type", dbname=APP_DATABASE)
