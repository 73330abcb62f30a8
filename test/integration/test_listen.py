# SPDX-License-Identifier: ISC
#
# test_listen.py - LISTEN and NOTIFY in transaction mode: one connection listens for all clients.
#
# What is right is asked of the server: the same steps of the same clients are run on connections of
# their own, and every message is compared, with who sent each notification.
"""LISTEN, UNLISTEN, NOTIFY: when they count, who is told, and what becomes of listeners."""
import contextlib
import os
import random
import re
import signal
import struct

import psycopg
import pytest

import raw
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import backends, clients, essence, log_in, pool_of, shop, sqlstate, wait_backends, wait_nodes
from waiting import wait_until

ROUNDS = int(os.environ.get("PGT_ROUNDS", "40"))


# --- what is compared -------------------------------------------------------------------------
def notification(message):
    """(pid, channel, payload)"""
    pid, = struct.unpack_from("!i", message.body)
    channel, payload = message.body[4:-1].split(b"\0", 1)
    return pid, channel.decode(), payload.decode()


def told(messages):
    """(channel, payload) of each notification among the messages."""
    return [notification(m)[1:] for m in raw.find(messages, "A")]


class Party:
    """Some clients of one server or pooler, by name."""

    def __init__(self, server, names, **kwargs):
        self._stack = contextlib.ExitStack()
        self.by_name = {name: self._stack.enter_context(log_in(server, **kwargs)) for name in names}
        self._names = {client.pid: name for name, client in self.by_name.items()}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _readable(self, messages):
        for m in messages:
            if m.kind == "A":
                pid, channel, payload = notification(m)
                yield "A", (self._names.get(pid, "somebody"), channel, payload)
            else:
                yield from essence([m])

    def run(self, name, request):
        """What a client is told until it is ready again."""
        client = self.by_name[name]
        client.send(request if isinstance(request, bytes) else raw.query(request))
        return list(self._readable(client.until("Z")))


def wait_gone(primary, clients_):
    """Return once these clients of the server are there no more, so that nobody hears them."""
    pids = {client.pid for client in clients_}
    wait_until(lambda: pids.isdisjoint(backends(primary)), what="those before have gone")


def same_in_both(primary, pooler, names, steps, **kwargs):
    """Run the steps, each (client, request), directly and then through; return what was told."""
    steps = list(steps)
    with Party(primary, names) as direct:
        expected = [direct.run(*step) for step in steps]
    wait_gone(primary, direct.by_name.values())
    with Party(pooler, names, **kwargs) as through:
        for number, step in enumerate(steps):
            assert through.run(*step) == expected[number], \
                "\n".join(f"{n} {name}: {request}" for n, (name, request)
                          in enumerate(steps[:number + 1]))
    return expected


def batch(*texts):
    """Each text by Parse, Bind, Describe, Execute; one Sync."""
    return b"".join(raw.parse("", text) + raw.bind() + raw.describe("P") + raw.execute()
                    for text in texts) + raw.sync()


def has_told(answers, *expected):
    """The notifications in the answers are these."""
    assert [body for answer in answers for kind, body in answer if kind == "A"] == list(expected)


# --- outside of transactions ------------------------------------------------------------------
def test_listen_counts_once_it_is_acknowledged(primary, turnstile):
    t = turnstile(shop(primary))
    has_told(same_in_both(primary, t, "ab", [
        ("b", "NOTIFY channel, 'too early'"), ("a", "LISTEN channel"),
        ("b", "NOTIFY channel, 'first'"), ("b", "NOTIFY other, 'not asked for'"),
        ("a", "SELECT 1"), ("b", "NOTIFY channel, 'second'"), ("b", "NOTIFY channel"),
        ("a", ""), ("a", "UNLISTEN channel"), ("b", "NOTIFY channel, 'too late'"),
        ("a", "SELECT 1"),
    ]), ("b", "channel", "first"), ("b", "channel", "second"), ("b", "channel", ""))


def test_what_others_listen_on_does_not_hurry_a_newcomer(primary, turnstile):
    t = turnstile(shop(primary))
    has_told(same_in_both(primary, t, "abc", [
        ("a", "LISTEN channel"), ("c", "NOTIFY channel, '1'"), ("b", "LISTEN channel"),
        ("b", "SELECT 1"), ("c", "NOTIFY channel, '2'"), ("b", "SELECT 1"), ("a", "SELECT 1"),
    ]), ("c", "channel", "2"), ("c", "channel", "1"), ("c", "channel", "2"))


def test_an_idle_listener_is_told_at_once_and_has_no_server(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 3) as (first, second, speaker):
        for client in (first, second):
            assert raw.kinds(client.query("LISTEN channel")) == "CZ"
        speaker.query("NOTIFY channel, 'hello'")
        for client in (first, second):
            assert notification(client.message()) == (speaker.pid, "channel", "hello")
        # One connection for what clients run, one that listens for all of them.
        wait_backends(primary, 2)


@pytest.mark.parametrize("name", [
    "channel", "CHANNEL", '"CHANNEL"', '"with ""quotes"" and space"', "kanal_1$", "begin",
    'U&"d!0061t!+000061" UESCAPE \'!\'', "/* a comment */ channel ;;", '"' + "x" * 63 + '"',
    '"Grüße"', "x" * 64, '"select"', "select", '""', "a.b", "'text'", "channel now", "",
])
def test_names_of_channels(primary, turnstile, name):
    t = turnstile(shop(primary))
    same_in_both(primary, t, "ab", [
        ("a", f"LISTEN {name}"), ("b", f"NOTIFY {name.strip(';')}, 'hello'"), ("a", "SELECT 1"),
        ("a", "SELECT * FROM pg_listening_channels()"), ("a", f"UNLISTEN {name}"),
        ("a", "SELECT * FROM pg_listening_channels()"),
    ])


def test_a_name_that_only_the_server_can_fold(primary, turnstile):
    """What is told on it may come a statement later than directly."""
    channels = "SELECT * FROM pg_listening_channels()"
    heard = []
    for server in primary, turnstile(shop(primary)):
        with clients(server, 2) as (listener, speaker):
            listener.query("LISTEN Grüße")
            speaker.query("NOTIFY Grüße, 'hello'")
            pid, *told = notification(listener.message())
            assert pid == speaker.pid
            before = listener.rows(channels)
            listener.query("UNLISTEN Grüße")
            heard.append((told, before, listener.rows(channels)))
    assert heard[0] == heard[1] and heard[0][0] == ["grüße", "hello"]


def test_i2_a_notification_among_answers_that_no_client_sees(turnstile):
    """It comes while the client's own server is asked what LISTEN has left."""
    def script(session):
        while (got := session.message()).kind != "X":
            if got.kind == "Q" and got.text.startswith("LISTEN"):
                session.send(raw.command_complete("LISTEN"), raw.ready())
            elif got.kind == "Q":
                session.send(raw.notification(7, "x" * 63, "hello"),
                             raw.error("57014", "no answer"), raw.ready())

    with raw.FakeServer(script) as server, log_in(turnstile(shop(server))) as client:
        assert raw.kinds(client.query(f"LISTEN {'x' * 64}")) == "CZ"
        assert notification(client.message()) == (7, "x" * 63, "hello")


def test_the_session_goes_on_after_listen(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client:
        for request in (raw.query("LISTEN channel"), batch("LISTEN channel"),
                        raw.query("UNLISTEN *"), raw.query("LISTEN again")):
            client.send(request)
            assert sqlstate(client.until("Z")) is None
        with log_in(t) as other:  # its server is free
            assert other.rows("SELECT 1") == [("1",)]


# --- in transactions --------------------------------------------------------------------------
TRANSACTIONS = {
    "commit": [("a", "BEGIN"), ("a", "LISTEN x"), ("b", "NOTIFY x, 'before'"), ("a", "COMMIT"),
               ("b", "NOTIFY x, 'after'"), ("a", "SELECT 1")],
    "rollback": [("a", "BEGIN"), ("a", "LISTEN x"), ("a", "ROLLBACK"), ("b", "NOTIFY x"),
                 ("a", "SELECT 1")],
    "failed": [("a", "BEGIN"), ("a", "LISTEN x"), ("a", "SELECT 1/0"), ("a", "LISTEN y"),
               ("a", "COMMIT"), ("b", "NOTIFY x"), ("b", "NOTIFY y"), ("a", "SELECT 1")],
    "commit fails": [("a", "BEGIN"), ("a", "LISTEN x"),
                     ("a", "INSERT INTO deferred VALUES (1), (1)"), ("a", "COMMIT"),
                     ("b", "NOTIFY x"), ("a", "SELECT 1")],
    "rollback to": [("a", "BEGIN"), ("a", "SAVEPOINT first"), ("a", "LISTEN w"),
                    ("a", "SAVEPOINT s"), ("a", "LISTEN x"), ("a", "SAVEPOINT s"),
                    ("a", "LISTEN y"), ("a", "ROLLBACK TO s"), ("a", "LISTEN z"),
                    ("a", "RELEASE s"), ("a", "ROLLBACK WORK TO SAVEPOINT \"s\""),
                    ("a", "COMMIT"), ("a", "SELECT pg_listening_channels()"),
                    ("b", "NOTIFY w"), ("b", "NOTIFY x"), ("b", "NOTIFY z"), ("a", "SELECT 1")],
    "rollback to what was before": [
        ("a", "BEGIN"), ("a", "SAVEPOINT s"), ("a", "LISTEN x"), ("a", "ROLLBACK TO S"),
        ("a", "LISTEN y"), ("a", "COMMIT"), ("a", "SELECT pg_listening_channels()")],
    "release": [("a", "BEGIN"), ("a", "SAVEPOINT s"), ("a", "LISTEN x"), ("a", "SAVEPOINT t"),
                ("a", "LISTEN y"), ("a", "RELEASE s"), ("a", "ROLLBACK TO t"), ("a", "ROLLBACK"),
                ("a", "SELECT pg_listening_channels()")],
    "error undone": [("a", "BEGIN"), ("a", "LISTEN x"), ("a", "SAVEPOINT s"), ("a", "SELECT 1/0"),
                     ("a", "ROLLBACK TO s"), ("a", "COMMIT"),
                     ("a", "SELECT pg_listening_channels()")],
    "unlisten": [("a", "LISTEN x"), ("a", "LISTEN y"), ("a", "BEGIN"), ("a", "UNLISTEN x"),
                 ("b", "NOTIFY x, 'while it is not committed'"), ("b", "NOTIFY y"),
                 ("a", "SELECT pg_listening_channels()"), ("a", "COMMIT"),
                 ("a", "SELECT pg_listening_channels()"), ("b", "NOTIFY x"), ("a", "SELECT 1")],
    "unlisten undone": [("a", "LISTEN x"), ("a", "BEGIN"), ("a", "UNLISTEN *"),
                        ("b", "NOTIFY x, '1'"), ("a", "ROLLBACK"), ("b", "NOTIFY x, '2'"),
                        ("a", "SELECT 1")],
    "listen and unlisten": [("a", "BEGIN"), ("a", "LISTEN x"), ("a", "UNLISTEN *"),
                            ("a", "LISTEN y"), ("a", "COMMIT"),
                            ("a", "SELECT pg_listening_channels()")],
    "chain": [("a", "BEGIN"), ("a", "LISTEN x"), ("a", "COMMIT AND CHAIN"), ("b", "NOTIFY x"),
              ("a", "LISTEN y"), ("a", "ROLLBACK AND CHAIN"), ("a", "COMMIT"), ("b", "NOTIFY x"),
              ("a", "SELECT pg_listening_channels()")],
    "several in a text": [("a", "LISTEN x"), ("a", "BEGIN; UNLISTEN x; SAVEPOINT s; UNLISTEN *; "
                                                   "ROLLBACK TO s; COMMIT"),
                          ("a", "LISTEN x"), ("a", "UNLISTEN x; SELECT 1/0"),
                          ("a", "SELECT pg_listening_channels()"), ("b", "NOTIFY x"),
                          ("a", "SELECT 1")],
    "discard": [("a", "LISTEN x"), ("b", "NOTIFY x"), ("a", "DISCARD ALL"), ("b", "NOTIFY x"),
                ("a", "SELECT pg_listening_channels()")],
    "read only": [("a", "BEGIN READ ONLY"), ("a", "LISTEN x"), ("a", "COMMIT"), ("b", "NOTIFY x"),
                  ("a", "SELECT 1")],
    "nothing within": [("a", "LISTEN x"), ("a", "BEGIN"), ("b", "NOTIFY x, '1'"), ("a", "SELECT 1"),
                       ("b", "NOTIFY x, '2'"), ("a", "SELECT 1/0"), ("a", "SELECT 1"),
                       ("a", "ROLLBACK")],
}


@pytest.fixture
def deferred(app):
    app.execute("CREATE TABLE IF NOT EXISTS deferred (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    yield
    app.execute("DROP TABLE deferred")


@pytest.mark.parametrize("name", TRANSACTIONS)
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_transactions(primary, turnstile, deferred, name, extended):
    t = turnstile(shop(primary))
    steps = TRANSACTIONS[name]
    if extended:
        # pg_listening_channels() and strings of several commands stay simple queries.
        steps = [(who, text if ";" in text or "pg_l" in text else batch(text))
                 for who, text in steps]
    same_in_both(primary, t, "ab", steps)


def test_a_transaction_that_listens_cannot_be_prepared(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        for request in raw.query("PREPARE TRANSACTION 'p'"), batch("PREPARE TRANSACTION 'p'"):
            client.query("BEGIN")
            client.query("LISTEN x")
            client.send(request)
            assert sqlstate(client.until("Z")) == "0A000"
            client.query("ROLLBACK")
            assert client.rows("SELECT pg_listening_channels()") == []


def test_i2_what_cannot_be_prepared_has_ended(primary, turnstile):
    """As the server does it, which has seen a LISTEN or none."""
    t = turnstile(shop(primary))
    same_in_both(primary, t, "a", [("a", text) for text in [
        "BEGIN", "LISTEN x", "COMMIT PREPARED 'p'", "ROLLBACK",
        "BEGIN", "LISTEN x", "SELECT 2", "PREPARE TRANSACTION 'p'", "SELECT 3",
        "ROLLBACK PREPARED 'p'", "SELECT pg_listening_channels()"]])
    prepare = batch("PREPARE TRANSACTION 'p'")
    named = raw.parse("p", "PREPARE TRANSACTION 'p'") + raw.bind("p", "p") + raw.sync()
    same_in_both(primary, t, "a", [("a", text) for text in [
        "BEGIN", "LISTEN x", batch("COMMIT PREPARED 'p'"), "ROLLBACK",
        "BEGIN", batch("LISTEN x"), "SELECT 2", prepare, "SELECT 3",
        batch("BEGIN"), batch("LISTEN y"), named, raw.execute("p") + raw.sync(), "SELECT 3",
        "BEGIN", "LISTEN x", raw.bind("p", "p") + raw.sync(), "COMMIT", "SELECT 3",
        "SELECT pg_listening_channels()"]])


@pytest.mark.parametrize("texts", [
    ["LISTEN x"], ["LISTEN x", "NOTIFY x, 'own'"], ["LISTEN x", "SELECT 1/0"],
    ["SELECT 1", "LISTEN x", "UNLISTEN *", "LISTEN y"], ["BEGIN", "LISTEN x", "COMMIT"],
    ["BEGIN", "LISTEN x", "NOTIFY x", "ROLLBACK"], ["BEGIN", "SAVEPOINT s", "LISTEN x",
                                                    "ROLLBACK TO s", "LISTEN y", "COMMIT"],
    ["BEGIN", "LISTEN x", "SAVEPOINT s", "LISTEN y", "ROLLBACK TO s", "COMMIT", "NOTIFY x, '2'"],
], ids=" ".join)
def test_batches(primary, turnstile, texts):
    t = turnstile(shop(primary))
    same_in_both(primary, t, "ab", [
        ("a", batch(*texts)), ("a", "SELECT 1"), ("b", "NOTIFY x, 'other'"), ("b", "NOTIFY y"),
        ("a", "ROLLBACK"), ("a", "SELECT pg_listening_channels()"),
    ])


def test_named_statements_and_portals(primary, turnstile):
    t = turnstile(shop(primary))
    named = (raw.parse("l", "LISTEN x") + raw.parse("u", "UNLISTEN x") + raw.describe("S", "l")
             + raw.bind("p", "l") + raw.bind("q", "u") + raw.execute("q") + raw.execute("p")
             + raw.execute("p") + raw.sync())
    again = raw.bind("p", "l") + raw.execute("p") + raw.close("P", "p") + raw.sync()
    same_in_both(primary, t, "ab", [
        ("a", named), ("a", "SELECT pg_listening_channels()"), ("a", again), ("b", "NOTIFY x"),
        ("a", raw.bind("", "u") + raw.execute() + raw.sync()), ("b", "NOTIFY x"),
        ("a", "SELECT pg_listening_channels()"),
    ])


# What was sent just before a LISTEN may still be told, when others listen in the same database: so
# not the same channel.
@pytest.mark.parametrize("requests", [
    ["LISTEN x", "NOTIFY x, 'own'"], ["NOTIFY y, 'early'", "LISTEN x", "NOTIFY x, 'own'"],
    ["BEGIN", "LISTEN x", "NOTIFY x", "COMMIT"], ["BEGIN", "LISTEN x", "SELECT 1/0", "COMMIT"],
    ["LISTEN x", "BEGIN", "NOTIFY x, '1'", "NOTIFY x, '2'", "NOTIFY x, '1'", "COMMIT", "SELECT 1"],
], ids=" ".join)
def test_pipelines(primary, turnstile, requests):
    sent = [raw.query(text) for text in requests]
    with log_in(primary) as direct:
        direct.send(*sent)
        answers = [direct.until("Z") for _ in requests]
    wait_gone(primary, [direct])
    with log_in(turnstile(shop(primary))) as through:
        through.send(*sent)
        for expected in answers:
            got = through.until("Z")
            assert told(got) == told(expected)
            assert raw.kinds(got) == raw.kinds(expected)


# --- one's own notifications, and whose they are ----------------------------------------------
def test_own_notification_comes_before_ready(primary, turnstile):
    t = turnstile(shop(primary))
    has_told(same_in_both(primary, t, "ab", [
        ("a", "LISTEN x"), ("a", "NOTIFY x, '1'"), ("a", "SELECT pg_notify('x', '2')"),
        ("a", "BEGIN"), ("a", "NOTIFY x, '3'"), ("a", "NOTIFY x, '3'"), ("a", "NOTIFY x, '4'"),
        ("a", "COMMIT"), ("a", batch("NOTIFY x, '5'")), ("a", "NOTIFY x, '6'; SELECT 1"),
        ("a", "BEGIN"), ("a", "NOTIFY x, 'undone'"), ("a", "ROLLBACK"),
    ]), *(("a", "x", str(n)) for n in range(1, 7)))


def test_pid_is_what_the_notifying_client_was_told(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 3) as (first, second, third), log_in(primary) as foreign:
        for client in (first, second):
            client.query("LISTEN x")
        for speaker in (third, first, second, third, foreign):
            messages = speaker.query(f"NOTIFY x, '{speaker.pid}'")
            for client in (first, second):
                got = raw.find(messages, "A")[0] if client is speaker else client.message()
                assert notification(got) == (speaker.pid, "x", str(speaker.pid))


@pytest.mark.tsan
def test_pid_across_workers(primary, turnstile):
    # Other users, other groups of pools, maybe another worker's.
    names = [f"talker{i}" for i in range(6)]
    for name in names:
        primary.role(name, "secret")
    t = turnstile(shop(primary, {"workers": 2}), users=dict.fromkeys(names, "secret"))
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(log_in(t, name, "secret")) for name in names]
        for client in listeners:
            client.query("LISTEN x")
        for _ in range(5):
            for speaker in listeners:
                messages = speaker.query("NOTIFY x, 'hello'")
                for client in listeners:
                    got = raw.find(messages, "A")[0] if client is speaker else client.message()
                    assert notification(got) == (speaker.pid, "x", "hello")


def test_pid_of_a_pinned_session_is_its_clients_too(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        assert raw.kinds(listener.query("SELECT 1; LISTEN x")) == "TDCCZ"
        speaker.query("NOTIFY x")
        assert notification(listener.message()) == (speaker.pid, "x", "")
        listener.query("LISTEN y")
        messages = listener.query("NOTIFY y")
        assert notification(raw.find(messages, "A")[0])[0] == listener.pid


def test_order_of_commits_and_payloads_up_to_the_limit(primary, turnstile):
    t = turnstile(shop(primary))
    payloads = ["x" * 7999, "ä€😀" * 800, "", "'quoted'", "\n"]
    steps = [("a", "LISTEN x"), ("a", "LISTEN y")]
    steps += [("b", f"SELECT pg_notify('{'xy'[n % 2]}', $${text}$$)")
              for n, text in enumerate(payloads)]
    steps += [("b", "SELECT pg_notify('x', repeat('x', 8000))"), ("b", "BEGIN"),
              ("b", "NOTIFY x, 'second'"), ("c", "NOTIFY x, 'first'"), ("b", "COMMIT"),
              ("a", "SELECT 1")]
    same_in_both(primary, turnstile(shop(primary)), "abc", steps)


# --- in the middle of something ---------------------------------------------------------------
def test_nothing_in_the_middle_of_a_copy(primary, turnstile, app):
    app.execute("CREATE TABLE IF NOT EXISTS copied_text (t text)")
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        listener.send(raw.query("COPY copied_text FROM STDIN"))
        assert listener.message().kind == "G"
        speaker.query("NOTIFY x, 'in the copy'")
        listener.send(raw.copy_data(b"row\n"), raw.copy_done())
        messages = listener.until("Z")
        assert raw.kinds(messages) == "CAZ" and told(messages) == [("x", "in the copy")]
    app.execute("DROP TABLE copied_text")


def test_nothing_between_parse_and_sync(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        listener.send(raw.parse("", "SELECT 1"), raw.bind(), raw.execute(), raw.flush())
        assert raw.kinds(listener.until("C")) == "12DC"
        speaker.query("NOTIFY x")
        listener.send(raw.sync())
        assert raw.kinds(listener.until("Z")) == "AZ"


# --- pg_listening_channels() ------------------------------------------------------------------
@pytest.mark.parametrize("text", [
    "SELECT pg_listening_channels()", "SELECT * FROM pg_listening_channels()",
    "select pg_catalog.pg_listening_channels ( )", "SELECT count(*) FROM pg_listening_channels()",
    "SELECT array_agg(c) FROM pg_listening_channels() c", "SELECT * FROM pg_listening_channels() AS t(n)",
    "SELECT * FROM pg_listening_channels() WHERE pg_listening_channels LIKE 'q%'",
    "SELECT ARRAY(SELECT pg_listening_channels())", "SELECT 'pg_listening_channels()'",
    "SELECT pg_listening_channels(), 1", "SELECT pg_listening_channels() AS n ORDER BY 1",
    "SELECT pg_listening_channels() ORDER BY pg_listening_channels()", "SELECT 'plain' = pg_listening_channels()",
    "SELECT * FROM (SELECT pg_listening_channels()) s WHERE s.pg_listening_channels = 'plain'",
    "SELECT (SELECT pg_listening_channels() LIMIT 1), 1", "SELECT 1, pg_listening_channels()",
    "SELECT 'plain' IN (SELECT pg_listening_channels())", "SELECT DISTINCT pg_listening_channels()",
    "SELECT upper(pg_listening_channels()), coalesce('x', 'y')", "SELECT pg_listening_channels()::name::text, 2",
    "SELECT * FROM generate_series(1, 2) n, pg_listening_channels()",
    "SELECT * FROM generate_series(1, 1) n LEFT JOIN pg_listening_channels() ON n = 1, pg_listening_channels() b",
    "SELECT * FROM generate_series(1, 2) CROSS JOIN LATERAL pg_catalog.pg_listening_channels()",
    "SELECT c.* FROM generate_series(1, 1) JOIN pg_listening_channels() c ON c = 'plain'",
    "SELECT * FROM pg_listening_channels() WITH ORDINALITY", "SELECT * FROM \"pg_listening_channels\"()",
    "SELECT * FROM pg_listening_channels() WITH ORDINALITY AS t(a, b)", "SELECT pg_listening_channels",
    "WITH c AS (SELECT pg_listening_channels()) SELECT * FROM c JOIN c d USING (pg_listening_channels)",
    "SELECT 'x' IS DISTINCT FROM pg_listening_channels()", "SELECT pg_listening_channels() || 'x'",
    "SELECT pg_listening_channels() UNION ALL SELECT pg_listening_channels() EXCEPT SELECT 'x'",
    "SELECT 1 WHERE EXISTS (SELECT FROM pg_listening_channels() GROUP BY 1 HAVING count(*) > 0)",
    "SELECT concat(1, (SELECT max(m) FROM (VALUES ('a'), ('b')) v(m))), pg_listening_channels() x",
    "SELECT string_agg(pg_listening_channels, ',' ORDER BY 1) FROM pg_listening_channels()",
    "SELECT 1; SELECT pg_listening_channels(); SELECT * FROM pg_listening_channels()",
    "VALUES (1), ((SELECT count(*) FROM pg_listening_channels()))",
])
def test_pg_listening_channels(primary, turnstile, text):
    t = turnstile(shop(primary))
    same_in_both(primary, t, "ab", [
        ("a", text), ("a", 'LISTEN "quo\'te\\d"'), ("a", "LISTEN plain"), ("a", text),
        ("a", batch(text)), ("b", text), ("b", "LISTEN other"), ("b", text), ("a", text),
    ])


@pytest.mark.parametrize("name", ["", "channels"])
def test_pg_listening_channels_in_a_prepared_statement(primary, turnstile, name):
    """It asks each time that it is bound, and is described as it was written."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    text = "SELECT n, pg_listening_channels() FROM generate_series(1, $1::int) n WHERE $2::text = 'x'"
    use = raw.describe("S", name) + raw.bind("", name, ["1", "x"]) + raw.describe("P") + raw.execute() \
        + raw.sync()
    seen = []
    for server in primary, t:
        with clients(server, 2) as (client, other):
            client.send(raw.parse(name, text) + use)
            seen.append(essence(client.until("Z")))
            for change in "LISTEN x", "LISTEN y", "BEGIN; LISTEN z", "COMMIT", "UNLISTEN x", "UNLISTEN *":
                client.query(change)
                other.query("LISTEN others")
                if name:
                    client.send(use + use)
                else:
                    client.send(raw.parse("", text) + use + use)
                seen += [essence(client.until("Z")), essence(client.until("Z"))]
    assert seen[len(seen) // 2:] == seen[:len(seen) // 2]


# --- those who leave --------------------------------------------------------------------------
@pytest.mark.slow
def test_i2_channels_are_gone_with_their_client(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        listener.query("LISTEN y")
        speaker.query("LISTEN x")
        listener.close()
        assert speaker.rows("SELECT pg_listening_channels()") == [("x",)]
        assert raw.kinds(speaker.query("NOTIFY y")) == "CZ"
        assert raw.kinds(speaker.query("NOTIFY x")) == "CAZ"
    wait_until(lambda: not t.admin("SHOW LISTENERS"))
    with log_in(t) as other:
        assert raw.kinds(other.query("NOTIFY x")) == "CZ"
    # Nobody listens: the connection goes too.
    wait_backends(primary, 1)


def test_nobody_wants_a_channel_nobody_hears_it(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("LISTEN x")
        client.query("LISTEN y")
        client.query("UNLISTEN x")
        wait_until(lambda: backends(primary, "query LIKE 'UNLISTEN \"x\"%'"))


# --- the connection is lost -------------------------------------------------------------------
def listening_pids(t):
    """Of the servers that are in use without a client."""
    return [row["remote_pid"] for row in t.admin("SHOW SERVERS")
            if row["user"] == APP_USER and row["state"] == "active" and not row["link"]]


def kill_hub(primary, t):
    pid, = listening_pids(t)
    primary.sql(f"SELECT pg_terminate_backend({pid})")


def test_lost_connection_closes_listeners(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 3) as (idle, busy, other):
        idle.query("LISTEN x")
        busy.query("LISTEN x")
        busy.query("BEGIN")
        kill_hub(primary, t)
        last = idle.until_closed()
        assert raw.kinds(last) == "E" and last[0].fields["C"] == "57P01"
        # A transaction may end, with what it is told, before its client is closed.
        assert busy.rows("SELECT 1") == [("1",)]
        busy.send(raw.query("COMMIT"))
        assert raw.kinds(busy.until_closed()) == "CZE"
        assert other.rows("SELECT 1") == [("1",)]
        other.query("LISTEN x")
        assert raw.kinds(other.query("NOTIFY x")) == "CAZ"


def test_lost_connection_warns_listeners(primary, turnstile):
    t = turnstile(shop(primary, {"listen_lost": "notice"}))
    with clients(t, 3) as (idle, busy, speaker):
        idle.query("LISTEN x")
        busy.query("LISTEN y")
        busy.query("BEGIN")
        kill_hub(primary, t)
        warning = idle.message()
        assert warning.kind == "N" and warning.fields["S"] == "WARNING"
        speaker.query("NOTIFY x, 'again'")
        assert notification(idle.message())[2] == "again"
        messages = busy.query("COMMIT")
        assert raw.kinds(messages) == "CNZ"
        assert raw.kinds(busy.query("NOTIFY y")) == "CAZ"
        speaker.query("LISTEN y")
        assert raw.kinds(speaker.query("SELECT 1")) == "TDCZ"  # no warning: it has missed nothing


def test_server_that_is_down_is_waited_for(turnstile):
    server = Postgres.primary()
    try:
        server.role(APP_USER, APP_PASSWORD)
        server.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
        t = turnstile(shop(server, {"server_login_retry": "100ms"}))
        with clients(t, 2) as (listener, other):
            server.stop()
            listener.send(raw.query("LISTEN x"))
            wait_until(lambda: t.log_contains("cannot listen"))
            server.start()
            assert raw.kinds(listener.until("Z")) == "CZ"
            assert raw.kinds(other.query("NOTIFY x")) == "CZ"
            assert listener.message().kind == "A"
    finally:
        server.remove()


def test_a_refused_connection_refuses_the_listen(primary, turnstile):
    primary.role("lonely", "secret", "LOGIN CONNECTION LIMIT 1")
    t = turnstile(shop(primary), users={"lonely": "secret"})
    with log_in(t, "lonely", "secret") as client:
        assert client.rows("SELECT 1") == [("1",)]
        answer = client.query("LISTEN x")
        assert raw.kinds(answer) == "EZ" and sqlstate(answer) == "53300"
        assert client.rows("SELECT 1") == [("1",)]


# --- limits -----------------------------------------------------------------------------------
def test_i5_the_connection_counts_for_database_and_user(primary, turnstile):
    t = turnstile(shop(primary, {"max_db_connections": 2, "default_pool_size": 5}))
    with clients(t, 4) as (listener, first, second, third):
        listener.query("LISTEN x")
        first.query("BEGIN; SELECT 2")
        assert len(backends(primary)) == 2
        t.reload({"pgturnstile": {"query_wait_timeout": "1s"}})
        second.send(raw.query("SELECT 2"))
        assert sqlstate(second.until_closed()) == "08P01"
        first.query("COMMIT")
        assert third.rows("SELECT 1") == [("1",)]


def test_i5_an_idle_connection_makes_room(primary, turnstile):
    t = turnstile(shop(primary, {"max_db_connections": 2}))
    with clients(t, 2) as (first, second):
        first.query("BEGIN; SELECT 2"), second.query("BEGIN; SELECT 2")
        second.query("COMMIT")
        assert raw.kinds(second.query("LISTEN x")) == "CZ"
        first.query("COMMIT")


def test_i6_a_listener_that_does_not_read_is_closed(primary, turnstile):
    t = turnstile(shop(primary, {"listen_backlog_size": "64kB"}))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        listener.query("BEGIN")
        for n in range(10):
            speaker.query(f"SELECT pg_notify('x', repeat('x', 7000) || {n})")
        last = listener.until_closed()
        assert raw.kinds(last) == "E" and last[0].fields["C"] == "54000"


def test_too_many_channels(primary, turnstile):
    t = turnstile(shop(primary, {"max_listen_channels": 2}))
    with log_in(t) as client:
        for name in "ab":
            assert raw.kinds(client.query(f"LISTEN {name}")) == "CZ"
        assert sqlstate(client.query("LISTEN c")) == "54000"
        client.query("BEGIN")
        assert sqlstate(client.query("LISTEN c")) == "54000"
        assert sqlstate(client.query("SELECT 1")) == "25P02"
        client.query("ROLLBACK")
        client.query("UNLISTEN a")
        assert raw.kinds(client.query("LISTEN c")) == "CZ"


# --- who runs it ------------------------------------------------------------------------------
def test_console_shows_listeners_and_their_server(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        speaker.query("NOTIFY x")
        listener.message()
        row, = t.admin("SHOW LISTENERS")
        assert (row["database"], row["user"], row["channel"], row["delivered"]) == \
            (APP_DATABASE, APP_USER, "x", 1)
        assert row["client"] in {c["id"] for c in t.admin("SHOW CLIENTS")}
        assert [s for s in t.admin("SHOW SERVERS") if s["state"] == "active" and not s["link"]]


@pytest.mark.parametrize("command, code", [("RECONNECT", "57P01"), ("KILL", "57P01")])
def test_console_commands_that_end_the_connection(primary, turnstile, command, code):
    t = turnstile(shop(primary))
    with log_in(t) as listener:
        listener.query("LISTEN x")
        t.admin(command)
        assert listener.until_closed()[-1].fields["C"] == code
    if command == "KILL":
        t.admin("RESUME")
    with log_in(t) as listener:
        assert raw.kinds(listener.query("LISTEN x")) == "CZ"
        assert raw.kinds(listener.query("NOTIFY x")) == "CAZ"


def test_pause_does_not_wait_for_it_and_resume_finds_it(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, other):
        listener.query("LISTEN x")
        t.admin("PAUSE")
        t.admin("RESUME")
        other.query("NOTIFY x")
        assert listener.message().kind == "A"


def test_i1_a_tenants_connection_starts_with_its_settings(turnstile):
    with raw.FakeServer(login="scram", secret=APP_PASSWORD) as server:
        t = turnstile({**shop(server, {"tenant_by": "user_suffix"}),
                       "tiers": {"standard": "rate=1000/s"},
                       "tenants": {"acme": "tier=standard business_id=42",
                                   "globex": "tier=standard business_id=7"}})
        for tenant in "acme", "globex":
            with log_in(t, f"{APP_USER}.{tenant}") as client:
                assert raw.kinds(client.query("LISTEN x")) == "CZ"
                assert [row["tenant"] for row in t.admin("SHOW LISTENERS")] == [tenant]
        wait_until(lambda: not t.admin("SHOW LISTENERS"))
        # One server each for the welcome, one each that listens; no tenant's has another's id.
        options = sorted(startup["options"] for startup in server.startups)
        assert options == ["-c app.current_business_id=42"] * 2 + \
            ["-c app.current_business_id=7"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_listener_does_not_keep_the_process(primary, turnstile, number):
    t = turnstile(shop(primary))
    with log_in(t) as listener:
        listener.query("LISTEN x")
        t.signal(number)
        if number == signal.SIGTERM:  # waits for clients, listening or not
            listener.close()
        assert t.wait_exit() == 0
    wait_backends(primary, 0)


@pytest.mark.slow
def test_a_connection_that_does_not_answer_is_lost(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (listener, other):
        listener.query("LISTEN x")
        listener.query("SELECT 1")  # it has had the one server last
        pid, = listening_pids(t)
        os.kill(pid, signal.SIGSTOP)
        try:
            listener.sock.settimeout(30)
            listener.send(raw.query("SELECT 1"))
            assert raw.kinds(listener.until_closed()) == "TDCZE"
            assert raw.kinds(other.query("LISTEN x")) == "CZ"
        finally:
            os.kill(pid, signal.SIGCONT)


# --- other encodings --------------------------------------------------------------------------
def test_a_client_in_another_encoding_has_its_own_server_listen(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 1) as (first,), clients(t, 1, client_encoding="LATIN1") as (latin,), \
            log_in(primary, client_encoding="LATIN1") as direct:
        first.query("LISTEN x")
        for client in (latin, direct):
            client.query("LISTEN x")
        first.query("NOTIFY x, 'Gr\u00fc\u00dfe'")
        assert latin.message().body[4:] == direct.message().body[4:] == b"x\0Gr\xfc\xdfe\0"
        assert [row["reason"] for row in t.admin("SHOW PINS")] == ["listen"]
        latin.query("UNLISTEN x")
        wait_until(lambda: not t.admin("SHOW PINS"))


def test_a_client_that_changes_its_encoding_is_told_what_is_the_same_in_both(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        listener.query("SET client_encoding = 'LATIN1'")
        speaker.query("NOTIFY x, 'plain'")
        assert notification(listener.message())[2] == "plain"
        speaker.query("NOTIFY x, 'Gr\u00fc\u00dfe'")
        last = listener.until_closed()
        assert raw.kinds(last) == "E" and last[0].fields["C"] == "54000"


# --- waiting ----------------------------------------------------------------------------------
def test_a_listen_that_waits_can_be_cancelled(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (client, other):
        t.admin("PAUSE")
        client.send(raw.query("LISTEN x"))
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        client.cancel()
        assert sqlstate(client.until("Z")) == "57014"
        t.admin("RESUME")
        assert client.rows("SELECT pg_listening_channels()") == []
        assert raw.kinds(client.query("LISTEN x")) == "CZ"
        other.query("NOTIFY x")
        assert client.message().kind == "A"


def test_a_first_request_that_waits_for_the_listeners_can_be_cancelled(primary, turnstile):
    # The one server's last client has notified, and the connection that listens is stopped.
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 3) as (listener, speaker, client):
        listener.query("LISTEN x")
        pid, = listening_pids(t)
        speaker.query("NOTIFY x")
        os.kill(pid, signal.SIGSTOP)
        try:
            client.send(raw.query("SELECT 2"))
            wait_until(lambda: [c for c in t.admin("SHOW CLIENTS") if c["state"] == "waiting"])
            client.cancel()
            assert sqlstate(client.until("Z")) == "57014"
            speaker.query("SELECT 2")  # the server is free again
        finally:
            os.kill(pid, signal.SIGCONT)
        assert client.rows("SELECT 1") == [("1",)]


def test_a_listen_waits_for_resume(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (client, other):
        t.admin("PAUSE")
        client.send(raw.query("LISTEN x"), raw.query("NOTIFY x"))
        other.send(raw.query("SELECT 1"))
        wait_until(lambda: [c for c in t.admin("SHOW CLIENTS") if c["state"] == "waiting"])
        t.admin("RESUME")
        assert raw.kinds(client.until("Z")) == "CZ"
        assert raw.kinds(client.until("Z")) == "CAZ"
        assert raw.kinds(other.until("Z")) == "TDCZ"


def test_i6_a_listen_waits_no_longer_than_for_a_server(primary, turnstile):
    t = turnstile(shop(primary, {"max_db_connections": 1}))
    with clients(t, 2) as (busy, client):
        busy.query("BEGIN; SELECT 2")
        t.reload({"pgturnstile": {"query_wait_timeout": "500ms"}})
        client.send(raw.query("LISTEN x"))
        assert sqlstate(client.until_closed()) == "08P01"
        assert raw.kinds(busy.query("COMMIT")) == "CZ"


# --- the server changes -----------------------------------------------------------------------
@pytest.mark.slow
def test_the_connection_is_to_the_primary(turnstile):
    first = Postgres.primary()
    first.role(APP_USER, APP_PASSWORD)
    first.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    second = Postgres.replica_of(first)
    try:
        t = turnstile({**shop(first, {"monitor_interval": "50ms", "server_login_retry": "100ms",
                                      "monitor_user": APP_USER, "read_your_writes": "off"}),
                       "databases": {APP_DATABASE: {
                           "host": f"{second.host},{first.host}",
                           "port": f"{second.port},{first.port}"}}})
        wait_nodes(t, "replica", "primary")
        with clients(t, 2) as (listener, speaker):
            listener.query("BEGIN READ ONLY")  # on the replica
            assert listener.rows("SELECT pg_is_in_recovery()") == [("t",)]
            assert raw.kinds(listener.query("LISTEN x")) == "CZ"
            listener.query("COMMIT")
            speaker.query("NOTIFY x, 'to the first'")
            assert notification(listener.message())[2] == "to the first"
            second.wait_caught_up(first)
            first.kill()
            assert listener.until_closed()[-1].fields["C"] == "57P01"
            second.promote()
        wait_nodes(t, "primary", "down")
        with clients(t, 2) as (listener, speaker):
            assert raw.kinds(listener.query("LISTEN x")) == "CZ"
            speaker.query("NOTIFY x, 'to the second'")
            assert notification(listener.message())[2] == "to the second"
    finally:
        second.remove(), first.remove()


def test_reload_changes_limits_and_what_a_loss_does(primary, turnstile):
    t = turnstile(shop(primary))
    with clients(t, 2) as (listener, speaker):
        listener.query("LISTEN x")
        t.reload({"pgturnstile": {"listen_lost": "notice", "max_listen_channels": 1}})
        assert sqlstate(listener.query("LISTEN y")) == "54000"
        kill_hub(primary, t)
        assert listener.message().kind == "N"
        speaker.query("NOTIFY x")
        assert listener.message().kind == "A"


def test_a_database_that_is_gone_takes_its_listeners_along(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as listener:
        listener.query("LISTEN x")
        t.reload({"databases": {APP_DATABASE: None, "other": {"host": primary.host}}})
        assert listener.until_closed()[-1].fields["C"] == "57P01"
    wait_backends(primary, 0)


def test_statement_mode(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "statement"}))
    has_told(same_in_both(primary, t, "ab", [
        ("a", "LISTEN x"), ("a", batch("LISTEN y")), ("b", "NOTIFY x"), ("b", "NOTIFY y"),
        ("a", "SELECT 1"), ("a", "UNLISTEN *"), ("b", "NOTIFY x"), ("a", "SELECT 1"),
    ]), ("b", "x", ""), ("b", "y", ""))


def test_session_mode_has_the_pid_right_too(primary, turnstile):
    t = turnstile(shop(primary, {"pool_mode": "session", "default_pool_size": 3}))
    has_told(same_in_both(primary, t, "ab", [
        ("a", "LISTEN x"), ("b", "NOTIFY x, '1'"), ("a", "SELECT 1"), ("a", "NOTIFY x, '2'"),
    ]), ("b", "x", "1"), ("a", "x", "2"))
    assert t.admin("SHOW LISTENERS") == []


# --- random sessions --------------------------------------------------------------------------
def random_request(dice):
    channels, savepoints = ["x", "y", '"Z"'], ["s", "t"]
    channel, savepoint, number = dice.choice(channels), dice.choice(savepoints), dice.randrange(3)
    return dice.choice([
        [f"LISTEN {channel}"], [f"LISTEN {channel}"], [f"LISTEN {channel}"],
        [f"UNLISTEN {channel}"], ["UNLISTEN *"],
        [f"NOTIFY {channel}, '{number}'"], [f"NOTIFY {channel}, '{number}'"],
        [f"SELECT pg_notify('{channel.strip(chr(34))}', '{number}')"],
        ["BEGIN"], ["BEGIN"], ["COMMIT"], ["COMMIT"], ["ROLLBACK"], ["SELECT 1"], ["SELECT 1/0"],
        [""], [f"SAVEPOINT {savepoint}"], [f"ROLLBACK TO {savepoint}"], [f"RELEASE {savepoint}"],
        ["SELECT pg_listening_channels()"], ["DISCARD ALL"],
        [f"UNLISTEN {channel}; NOTIFY x; SELECT 1/{number % 2}"],
        [f"LISTEN {channel}", f"NOTIFY {channel}"], [f"NOTIFY {channel}, 'batch'", "SELECT 1/0"],
        ["BEGIN", f"LISTEN {channel}", "COMMIT"], [f"SAVEPOINT {savepoint}", f"LISTEN {channel}"],
    ])


def random_steps(seed, names="abc", length=40):
    """Steps that each client can take at any time, also when there is nothing to commit or undo.

    Left out is what PostgreSQL leaves open: whether a transaction that LISTENs is told at its end
    what others sent to that channel before it.  (It is when its session listened on anything else.)
    """
    dice = random.Random(seed)
    asked, sent = {}, {}  # by the clients that are in a transaction: channels
    while length:
        name, texts = dice.choice(names), random_request(dice)
        found = re.findall(r"(?<!UN)(LISTEN |NOTIFY |notify\(')(\w|\"Z\")", ";".join(texts))
        listens = {c.strip('"') for verb, c in found if verb == "LISTEN "}
        notifies = {c.strip('"') for verb, c in found if verb != "LISTEN "}
        others = [other for other in asked if other != name]
        if listens & sent.get(name, set()) or any(notifies & asked[o] for o in others):
            continue
        for other in others:
            sent[other] |= notifies
        if texts[0] == "BEGIN":
            asked.setdefault(name, set()), sent.setdefault(name, set())
        if name in asked:
            asked[name] |= listens
        if texts[-1] in ("COMMIT", "ROLLBACK"):
            asked.pop(name, None), sent.pop(name, None)
        length -= 1
        yield name, texts[0] if len(texts) == 1 and dice.randrange(3) else batch(*texts)


@pytest.mark.slow
def test_random_sessions_are_told_what_they_would_be_directly(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 4}))
    for seed in range(ROUNDS):
        try:
            same_in_both(primary, t, "abc", random_steps(seed))
        except AssertionError as difference:
            raise AssertionError(f"seed {seed}: {difference}") from None


# --- as applications see it -------------------------------------------------------------------
def test_psycopg_notifies(primary, turnstile):
    t = turnstile(shop(primary))
    with t.connect(APP_DATABASE, APP_USER) as listener, t.connect(APP_DATABASE, APP_USER) as speaker:
        listener.execute("LISTEN channel")
        with speaker.transaction():
            for n in range(3):
                speaker.execute("SELECT pg_notify('channel', %s)", [str(n)])
        got = []
        for notify in listener.notifies():
            got.append((notify.pid, notify.payload))
            if len(got) == 3:
                break
        assert got == [(speaker.info.backend_pid, str(n)) for n in range(3)]


def test_i6_portals_of_a_listener_are_bounded(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("LISTEN a")
        client.query("BEGIN")
        client.send(raw.parse("u", "UNLISTEN b"), raw.sync())
        client.until("Z")
        for closes, told in (True, None), (False, "54000"):
            client.send(*(raw.bind(f"p{n}", "u") + closes * raw.close("P", f"p{n}")
                          for n in range(300)), raw.sync())
            assert sqlstate(client.until("Z")) == told
        client.query("ROLLBACK")
        assert client.rows("SELECT pg_listening_channels()") == [("a",)]
