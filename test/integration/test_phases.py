# SPDX-License-Identifier: ISC
#
# test_phases.py - every message that a server can send, wherever it makes no sense.
#
# Logins have a file of their own: test_hostile_server.py.  What clients send: test_protocol.py.
"""Who is lied to may be told so; everybody else is served, and sees no byte of it."""
import os
import re

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from hostile import CUT, LIE, LIES, MESSAGES, Honest
from rampage import config, rampage, rogue_login, rogue_session
from rig import log_in, pool_of, shop
from tenancy import enter, tenants
from turnstile import TOP, merge
from waiting import wait_until

OTHER = "other"
MINE, NEXT = "SELECT 'mine'", "SELECT 'next'"


def test_messages_are_those_of_the_table():
    table = (TOP / "include/wire/msgs.def").read_text()
    declared = re.findall(r"X\(\w+, '.', +\"(\w+)\"\)", table[table.index("BACKEND_MESSAGES(X)"):])
    assert len(declared) > 20 and set(declared) == set(MESSAGES)


class Liar:
    """A script: an honest session, but for one lie before part `at` of the answer to what `asked`
    says is the one; all of an answer is one write, as when it comes in one segment."""

    def __init__(self, asked, at):
        self.asked, self.at = asked, at
        self.lie = None  # the name of the lie that is to be told; None: it has been
        self.told = []   # lies

    def arm(self, lie):
        self.lie = lie

    def __call__(self, session):
        honest = Honest()
        try:
            while (got := session.message()).kind != "X":
                parts = honest.answer(got)
                lie = self.lie if self.asked(got) else None
                if lie:
                    self.lie = None
                    self.told.append(lie)
                    parts.insert(self.at, LIES[lie])
                session.send(*(parts[:self.at + 1] if lie in CUT else parts))
                if lie in CUT:
                    return
        except (EOFError, ConnectionError):
            pass


def of_kind(kind):
    return lambda got: got.kind == kind


def of_text(words):
    return lambda got: got.kind in "QP" and words in str(got.strings)


BATCH = raw.parse("", MINE) + raw.bind() + raw.describe("P") + raw.execute() + raw.sync()
# What the client sends; to which message of it the answer holds the lie; how many parts that has;
# and in which pool mode.
PHASES = {
    "query": (raw.query(MINE), of_text("mine"), 4, "transaction"),
    "command": (raw.query("BEGIN") + raw.query(MINE) + raw.query("COMMIT"), of_text("COMMIT"), 2,
                "transaction"),
    "parse": (BATCH, of_kind("P"), 1, "transaction"),
    "bind": (BATCH, of_kind("B"), 1, "transaction"),
    "describe": (BATCH, of_kind("D"), 1, "transaction"),
    "execute": (BATCH, of_kind("E"), 2, "transaction"),
    "sync": (BATCH, of_kind("S"), 1, "transaction"),
    "close": (raw.parse("", MINE) + raw.bind() + raw.close("P", "") + raw.sync(), of_kind("C"), 1,
              "transaction"),
    "copy in": (raw.query("COPY x FROM STDIN") + raw.copy_data(b"x\n") + raw.copy_done(),
                of_text("COPY"), 1, "transaction"),
    "end of copy in": (raw.query("COPY x FROM STDIN") + raw.copy_data(b"x\n") + raw.copy_done(),
                       of_kind("c"), 2, "transaction"),
    "copy out": (raw.query("COPY x TO STDOUT"), of_text("COPY"), 5, "transaction"),
    "function call": (raw.message("F", b"\0\0\0\1\0\0\0\0\0\0"), of_kind("F"), 2, "session"),
    "reset": (raw.query(MINE), of_text("DISCARD"), 2, "session"),
}
CASES = [(name, at) for name, (_, _, parts, _) in PHASES.items() for at in range(parts + 1)]


def hear(client, readies):
    """What it is told, up to the last ReadyForQuery that it waits for, or to the end."""
    heard = []
    try:
        while len(raw.find(heard, "Z")) < readies:
            heard.append(client.message())
    except (EOFError, ConnectionError):
        pass
    return heard


def has_a_place(heard):
    """Nothing that a session never hears, such as a request for its password."""
    return not set(raw.kinds(heard)) & set("RKv?\0")


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "at"), CASES, ids=lambda v: str(v).replace(" ", "-"))
def test_i2_every_message_at_every_place(turnstile, phase, at):
    request, asked, parts, mode = PHASES[phase]
    liar = Liar(asked, at)
    readies = request.count(b"Q\0\0") + request.count(b"S\0\0\0\4") + (request[:1] == b"F")
    with raw.FakeServer(liar) as server, raw.FakeServer() as honest:
        t = turnstile(merge(
            shop(server, {"auth_type": "trust", "workers": 1, "default_pool_size": 1, "pool_mode": mode,
                          "server_login_retry": "20ms", "query_wait_timeout": 5, "auto_prepare": 0}),
            {"databases": {OTHER: {"host": honest.host, "port": honest.port}}}))
        with log_in(t, dbname=OTHER, timeout=5) as bystander:
            for lie in LIES:
                liar.arm(lie)
                with log_in(t, timeout=5) as victim:
                    victim.send(request)
                    heard = hear(victim, readies)
                    assert has_a_place(heard), (lie, heard)
                assert bystander.rows("still") == [("still",)], lie
                with log_in(t, timeout=8) as following:
                    try:
                        answer = following.query(NEXT)
                    except EOFError:
                        assert at == parts, lie
                    # What is said behind the end is said to whoever has the server by then.
                    if at == parts:
                        continue
                    assert [m.row for m in raw.find(answer, "D")] == [(NEXT,)], (lie, answer)
                    assert LIE.encode() not in b"".join(m.body for m in answer if m.kind not in "SN"), lie
        assert len(liar.told) >= len(LIES) - 1, liar.told


def test_i2_what_is_said_behind_a_reset_is_nobodys_answer(turnstile):
    """Of who waits for the server: it gets another one."""
    liar = Liar(of_text("DISCARD"), 0)
    liar.arm("an answer")
    with raw.FakeServer(liar) as server:
        t = turnstile(shop(server, {"auth_type": "trust", "workers": 1, "default_pool_size": 1,
                                    "pool_mode": "session", "server_login_retry": "20ms"}))
        with log_in(t) as victim:
            victim.query(MINE)
            following = raw.RawClient(t.port)
            following.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}), raw.query(NEXT))
            wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        with following:
            assert [m.row for m in raw.find(following.until("D"), "D")] == [(NEXT,)]
    assert liar.told == ["an answer"]


# --- what is asked in a client's name, and between clients -----------------------------------------
SURVEYED = raw.query("DO 'x'")
# What another client has done before, in which pools, to which of our own messages the answer holds
# the lie, and how many parts that has.
INJECTED = {
    "question about a setting": (raw.query("SET work_mem = '1MB'"), of_text("SELECT 's', E'"), 4),
    "begin of settings": (raw.query("SET work_mem = '2MB'") + raw.query(MINE), of_kind("E"), 1),
    "settings": (raw.query("SET work_mem = '2MB'") + raw.query(MINE),
                 lambda got: got.kind == "B" and b"pgt_set" in got.body, 1),
    "portal of settings": (raw.query("SET work_mem = '2MB'") + raw.query(MINE), of_kind("C"), 1),
    "survey": (SURVEYED, of_text("WHERE source"), 2),
    "cleaning": (SURVEYED + raw.query("SELECT my_function()"), of_text("DISCARD SEQUENCES"), 2),
}
INJECTIONS = [(name, at, pool) for name, (_, _, parts) in INJECTED.items()
              for at in range(parts + 1) for pool in ("plain", "shared")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at", "pool"), INJECTIONS, ids=lambda v: str(v).replace(" ", "-"))
def test_i1_every_message_to_what_is_injected(turnstile, name, at, pool):
    """Whoever comes next is served by a server of which it is known whose it is."""
    before, asked, _ = INJECTED[name]
    liar = Liar(asked, at)
    settings = {"auth_type": "trust", "workers": 1, "default_pool_size": 1,
                "server_login_retry": "20ms", "query_wait_timeout": 3}
    with raw.FakeServer(liar) as server:
        if pool == "plain":
            t = turnstile(shop(server, settings))
            come = [lambda: log_in(t, timeout=8)] * 3
        else:
            t = turnstile(tenants(server, {**settings, "tenant_pool": "shared"}))
            come = [lambda who=who: enter(t, who, timeout=8) for who in ("acme", "globex", "initech")]
        for lie in LIES:
            liar.arm(lie)
            with come[0]() as first:
                first.send(before)
                assert has_a_place(hear(first, before.count(b"Q\0\0"))), lie
                with come[1]() as second:
                    second.send(raw.query(MINE))
                    assert has_a_place(hear(second, 1)), lie
            with come[2]() as following:
                answer = following.query(NEXT)
                assert [m.row for m in raw.find(answer, "D")] == [(NEXT,)], (lie, answer)
                assert LIE.encode() not in b"".join(m.body for m in answer if m.kind not in "SN"), lie
        assert len(liar.told) >= len(LIES) - 1, liar.told


# --- connections of our own -----------------------------------------------------------------------
OURS = {
    "monitor": ({"monitor_user": "monitor", "monitor_interval": "20ms"}, "monitor",
                lambda got: got.kind in "QP"),
    "listener": ({}, APP_USER, of_text("LISTEN")),
}


@pytest.mark.slow
@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("who", OURS)
def test_every_message_to_a_connection_of_ours(turnstile, who, at):
    """The monitor's and the one that listens: they are made anew, and clients are served."""
    settings, user, asked = OURS[who]
    liar, honest = Liar(asked, at), Liar(lambda got: False, 0)

    def script(session):
        (liar if session.parameters["user"] == user else honest)(session)

    with raw.FakeServer(script) as server:
        t = turnstile(shop(server, {"auth_type": "trust", "workers": 1, "server_login_retry": "20ms",
                                    "query_wait_timeout": 5, **settings}))
        for number, lie in enumerate(LIES):
            liar.arm(lie)
            with log_in(t, timeout=8) as client:
                if who == "listener":
                    client.send(raw.query(f"LISTEN channel{number}"))
                    assert has_a_place(hear(client, 1)), lie
                wait_until(lambda lie=lie: lie in liar.told)
            with log_in(t, timeout=8) as client:
                answer = client.query(NEXT)
                assert [m.row for m in raw.find(answer, "D")] == [(NEXT,)], (lie, answer)


# --- at random ------------------------------------------------------------------------------------
def seeds(number):
    seed = os.environ.get("PGT_SEED")
    return [int(seed)] if seed else range(number)


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(3))
def test_i3_honest_clients_beside_rogues(primary, turnstile, seed):
    """In full: test/long/hostile.py."""
    with raw.FakeServer(rogue_session(seed), login=rogue_login(seed)) as rogue:
        t = turnstile(config(primary, rogue))
        assert rampage(t, seed, 5) > 3
