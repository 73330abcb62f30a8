# SPDX-License-Identifier: ISC
#
# indistinguishable.py - I2 as a property: a session through the pooler is a session of its own.
#
# Runs sessions of sessions.py one by one on direct connections and writes down every answer; then
# runs all of them at once through a pooler that has fewer servers than there are sessions, step by
# step in an order drawn from the seed, and compares.  Knows nothing of what is right.
"""Scene.play(seed) raises Difference; shrink() makes it small."""
import contextlib
import copy
import random
import re
import select
import socket
import struct
import time
from dataclasses import dataclass, field

import psycopg

import raw
import sessions
from sessions import CLEANING, OWN_OBJECTS, ROLES, SHARED_OBJECTS, random_sessions
from waiting import wait_until

CLIENTS, POOL = 8, 2
USER, PASSWORD = "app", "app-password"
POOLED, TWIN = "indist", "indist_twin"
PATIENCE = 20.0  # seconds without any answer to anybody before it counts as hanging


# --- what may differ ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Allowance:
    """What is left out of a comparison, and why that is honest.  change(body, peer) is the rest."""

    kinds: str
    what: str
    why: str
    change: object = None  # None: the message is not compared where it stands


def _without_sources(fields, _):
    return {key: value for key, value in fields.items() if key not in "FLR"}


def _without_server_names(fields, _):
    return {**fields, "M": re.sub('prepared statement "[^"]*"', "prepared statement", fields["M"])}


def _without_table_oid(columns, _):
    return tuple((name, bool(table), *rest) for name, table, *rest in columns)


def _own_pid(notification, peer):
    pid, *rest = notification
    return ("own" if pid == peer.pid else "another's", *rest)


ALLOWANCES = [
    Allowance("S", "the place of a ParameterStatus among other messages",
              "settings are brought along when a client gets a server; what a client has been told"
              " by a ReadyForQuery is compared instead"),
    Allowance("EN", "source file, line and routine", "the pooler's own messages have none",
              _without_sources),
    Allowance("E", "the name of a prepared statement in a message",
              "the server knows it under a name of our own", _without_server_names),
    Allowance("T", "the OID of a column's table", "tables of the twin database have other OIDs",
              _without_table_oid),
    Allowance("A", "the pid of a notification, if it is the session's own",
              "a client of a pooler has a pid of its own", _own_pid),
]
# In a failed transaction, what is wrong with a message whatever else is, and the failure itself: a
# message that its server has not got is answered by the failure.  ERRCODEs that count as one there.
FAILED_ANYWAY = ("25P02", "08P01", "42P05", "26000")
# What is not asked at all, with the reason; see PROBES and `when` in sessions.py.
NOT_COMPARED = [
    ("whether a custom setting that is empty was ever set: NULL or ''",
     "the first use of its name makes a placeholder on a server for good, whoever used it"),
    ("custom settings that a function sets under a name put together at run time",
     "such settings are in no list of the server's: nobody else sees them, and they are lost"),
    ("settings of extensions, such as plpgsql.check_asserts",
     "they are there once a server has loaded the extension, for whomever"),
    ("prepared statements of the protocol in pg_prepared_statements",
     "a server has those of all clients, under names of our own; they are left out"),
    ("app.x = '' in a session with settings in its startup packet",
     "what code has taken back is set again by a query behind it, which cannot tell it from that; see"
     " ADR 11"),
    ("statements of the protocol described or bound for the first time in a failed transaction",
     "a server that lacks one cannot be given it until the transaction has ended"),
    ("what a session says when its server hangs up, and what comes behind that",
     "it does when a COPY begins where the session goes on with something else"),
    ("whether pg_temp is in current_schemas()",
     "once a server has had a temporary table it has a schema for such, empty or not"),
]


def _columns(body):
    """A RowDescription: (name, table, number, type, size, modifier, format) of each column."""
    columns, at = [], 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        end = body.index(b"\0", at)
        columns.append((body[at:end], *struct.unpack_from("!ihihih", body, end + 1)))
        at = end + 19
    return columns


def _decode(message):
    if message.kind in "EN":
        return {part[:1].decode(): part[1:].decode(errors="backslashreplace")
                for part in message.body.split(b"\0") if part}
    if message.kind == "T":
        return _columns(message.body)
    if message.kind == "A":
        return (message.number, message.body[4:])
    return message.body


def essence(messages, peer):
    """What has to be the same: (kind, body) of each message, less the allowances."""
    result = []
    for message in messages:
        body = _decode(message)
        for allowance in ALLOWANCES:
            if message.kind in allowance.kinds:
                body = allowance.change(body, peer) if allowance.change else None
        if body is not None:
            result.append((message.kind, body))
    for at, (kind, body) in enumerate(result[:-1]):
        if kind == "E" and body["C"] in FAILED_ANYWAY and _is_in_failed(result, at, peer):
            result[at] = ("E", {"C": "25P02"})
    return result


def _is_in_failed(result, at, peer):
    """Whether the transaction had failed before this error."""
    before = [body for kind, body in result[:at] if kind == "Z"]
    return (before[-1].decode() if before else peer.state) == "E"


# --- one side of a conversation -----------------------------------------------------------------
class Peer:
    """A logged-in client that never blocks: what it was told, and what has not been looked at."""

    def __init__(self, client):
        self.sock, self.pid, self.told = client.sock, client.pid, dict(client.parameters)
        self._bytes, self.messages, self.closed = bytearray(), [], False
        self.state = "I"  # as of the last ReadyForQuery that was taken

    def fileno(self):
        return self.sock.fileno()

    def send(self, data):
        with contextlib.suppress(ConnectionError):  # its last words are still to be read
            self.sock.sendall(data)

    def pump(self):
        """Take in what is there."""
        try:
            piece = self.sock.recv(1 << 18, socket.MSG_DONTWAIT)
            self.closed = not piece
            self._bytes += piece
        except BlockingIOError:
            return
        except ConnectionError:
            self.closed = True
        at, data = 0, self._bytes
        while len(data) - at >= 5:
            end = at + 1 + int.from_bytes(data[at + 1:at + 5], "big")
            if end > len(data):
                break
            message = raw.Message(chr(data[at]), bytes(data[at + 5:end]))
            if message.kind == "S":
                self.told.update([message.strings[:2]])
            self.messages.append(message)
            at = end
        del data[:at]

    def take(self):
        """What has come since the last time."""
        messages, self.messages = self.messages, []
        return messages

    def note_state(self, messages):
        """After an exchange."""
        if messages[-1].kind == "Z":
            self.state = messages[-1].body.decode()

    def leave(self, how):
        if how == "resets":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "terminates":
            self.send(raw.terminate())
        self.sock.close()


@dataclass(frozen=True)
class Until:
    """When an exchange is over."""

    ready: int = 1
    ends: int = 0
    copies: bool = False

    def is_met(self, peer):
        kinds = raw.kinds(peer.messages)
        if peer.closed:
            return True
        if self.copies and "G" in kinds:
            return True
        if self.ready:
            return kinds.count("Z") >= self.ready
        return "E" in kinds or sum(kinds.count(kind) for kind in "123TnCIs") >= self.ends


@dataclass
class Turn:
    """One exchange: what was sent, and what a direct connection said to it."""

    step: int
    send: bytes
    until: Until
    expected: list
    told: dict  # after a ReadyForQuery; None: there was none


@dataclass
class Transcript:
    """A session on a connection of its own."""

    refused: str = None  # the SQLSTATE, when it could not log in
    welcome: dict = field(default_factory=dict)
    turns: list = field(default_factory=list)


class Difference(AssertionError):
    """An answer that a direct connection would not have given."""

    def __init__(self, number, step, what, expected, got):
        self.number, self.step = number, step
        self.what, self.expected, self.got = what, expected, got
        super().__init__(f"session {number}, step {step}: {what}\n  direct:  {_show(expected)}\n"
                         f"  through: {_show(got)}")


def _show(answer):
    if isinstance(answer, list):
        return " | ".join(f"{kind} {_show(body)}" for kind, body in answer)
    if isinstance(answer, bytes):
        return repr(answer if len(answer) < 300 else answer[:300] + b"...")
    return repr(answer)


def _answer_what(step, expected, got):
    """The first words of a Difference; a long answer is cut down to where it differs."""
    if not step.probe:
        return "another answer", expected, got
    if "settings" in step.probe and len(expected) == len(got):
        both = [[body for kind, body in answer if kind == "D"] for answer in (expected, got)]
        left, right = ([v for body in bodies for v in body.split(b"; ")] for bodies in both)
        return (f"another {step.probe}", b"; ".join(v for v in left if v not in right),
                b"; ".join(v for v in right if v not in left))
    return f"other {step.probe}", expected, got


# --- on a connection of its own -----------------------------------------------------------------
def _wait(peer, until):
    deadline = time.monotonic() + PATIENCE
    while not until.is_met(peer):
        left = deadline - time.monotonic()
        assert left > 0 and select.select([peer], [], [], left)[0], \
            f"no answer on a direct connection, but {raw.kinds(peer.messages)}"
        peer.pump()


class DirectRun:
    """Runs a session and writes it down."""

    def __init__(self, server, session):
        self.session, self.transcript = session, Transcript()
        self.skips = self.hangs_up = False
        try:
            client = raw.RawClient(server.port, server.host).login(USER, TWIN, PASSWORD,
                                                                   **session.startup)
        except raw.LoginRefused as refused:
            self.transcript.refused = refused.fields["C"]
            return
        self.peer = Peer(client)
        self.transcript.welcome = dict(self.peer.told)
        with contextlib.closing(self.peer.sock):
            for number, step in enumerate(session.steps):
                if self._may_say(step) and not self.hangs_up:
                    self._say(number, step)
            self.peer.leave("terminates")

    def _may_say(self, step):
        if self.skips:  # everything up to a Sync is thrown away, unanswered
            return step.ready and step.ends_skipping() and not step.then
        return self.peer.state in step.when

    def _exchange(self, number, send, until):
        self.peer.send(send)
        _wait(self.peer, until)
        messages = self.peer.take()
        self.hangs_up = self.peer.closed or any(
            m.fields["M"].startswith("unexpected message type") for m in raw.find(messages, "E"))
        if self.hangs_up:
            return "E"
        self.transcript.turns.append(Turn(number, send, until, essence(messages, self.peer),
                                          dict(self.peer.told) if messages[-1].kind == "Z" else None))
        self.peer.note_state(messages)
        return raw.kinds(messages)

    def _say(self, number, step):
        kinds = self._exchange(number, step.send, Until(step.ready, step.ends, bool(step.then)))
        if step.ready:
            self.skips = False
        elif "E" in kinds:
            self.skips = True
        if step.then and kinds[-1] == "G":
            self._exchange(number, step.then, Until())


# --- all of them at once through the pooler -----------------------------------------------------
class PooledRun:
    """A session that follows a transcript, one turn at a time."""

    def __init__(self, pooler, session, transcript):
        self.session, self.turns, self.at = session, transcript.turns, 0
        self.peer, self.waits = None, False
        self._log_in(pooler, transcript)

    def _log_in(self, pooler, transcript):
        refused, number = None, self.session.number
        client = raw.RawClient(pooler.port, pooler.host, PATIENCE)
        try:
            client.login(USER, POOLED, PASSWORD, **self.session.startup)
        except raw.LoginRefused as refusal:
            refused = refusal.fields["C"]
        if refused != transcript.refused:
            client.close()
            raise Difference(number, -1, "login", transcript.refused, refused)
        if refused:
            client.close()
            return
        if client.parameters != transcript.welcome:
            client.close()
            raise Difference(number, -1, "ParameterStatus at login",
                             *_unlike(transcript.welcome, client.parameters))
        self.peer = Peer(client)

    def is_over(self):
        return not self.peer or self.at == len(self.turns)

    def send(self):
        self.peer.send(self.turns[self.at].send)
        self.waits = True

    def has_answer(self):
        """Takes in what has come; raises Difference when it is another answer."""
        self.peer.pump()
        turn = self.turns[self.at]
        if not turn.until.is_met(self.peer):
            return False
        self._compare(turn)
        self.waits = False
        self.at += 1
        if self.is_over():
            self.peer.leave(self.session.leaves)
        return True

    def _compare(self, turn):
        step, where = self.session.steps[turn.step], (self.session.number, turn.step)
        messages = self.peer.take()
        got = essence(messages, self.peer)
        self.peer.note_state(messages)
        if got != turn.expected:
            raise Difference(*where, *_answer_what(step, turn.expected, got))
        if turn.told is not None and self.peer.told != turn.told:
            raise Difference(*where, "ParameterStatus", *_unlike(turn.told, self.peer.told))

    def hangs(self):
        turn = self.turns[self.at]
        return Difference(self.session.number, turn.step, "no answer", turn.expected,
                          essence(self.peer.messages, self.peer))

    def abandon(self):
        if self.peer:
            self.peer.sock.close()


def _unlike(expected, got):
    names = {name for name in {*expected, *got} if expected.get(name) != got.get(name)}
    return tuple({name: told.get(name) for name in sorted(names)} for told in (expected, got))


class Interleaving:
    """Drives the runs from one thread, in an order drawn from the seed.

    Whoever gets no answer because others have all the servers is left waiting, and the others go
    on; the pooler is asked who waits.
    """

    def __init__(self, runs, seed, count_waiting):
        self.rng, self.count_waiting = random.Random(f"order {seed}"), count_waiting
        self.runs = [run for run in runs if not run.is_over()]

    def go(self):
        while self.runs:
            free = [run for run in self.runs if not run.waits]
            if free:
                run = self.rng.choice(free)
                run.send()
                self._await(run)
            self._look([run for run in self.runs if run.waits], 0 if free else PATIENCE)
            self.runs = [run for run in self.runs if not run.is_over()]

    def _look(self, waiting, timeout):
        """Answers to those that were left waiting."""
        if not waiting:
            return
        ready = select.select([run.peer for run in waiting], [], [], timeout)[0]
        if timeout and not ready:
            raise waiting[0].hangs()
        for run in waiting:
            if run.peer in ready:
                run.has_answer()

    def _await(self, run):
        """The answer, or the certainty that the client stands in the queue."""
        pause, deadline = 0.004, time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([run.peer], [], [], pause)[0]:
                if run.has_answer():
                    return
            elif self.count_waiting():
                return
            else:
                pause = min(2 * pause, 0.1)
        raise run.hangs()


# --- the scene ----------------------------------------------------------------------------------
def prepare_databases(server):
    """Roles, and two databases that are the same: for direct connections, and for the pooler."""
    server.sql("".join(f"CREATE ROLE {name}; GRANT {name} TO {USER};" for name in ROLES))
    for dbname in POOLED, TWIN:
        server.sql(f"CREATE DATABASE {dbname} OWNER {USER}")
        server.sql(SHARED_OBJECTS + "".join(OWN_OBJECTS.replace("{n}", str(n))
                                            for n in range(CLIENTS)), dbname=dbname)


def config(server, settings=None):
    """A pooler for play(): fewer servers than clients."""
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": POOL,
                            "sequence_state": "pin", "monitor_user": USER,
                            "monitor_interval": "500ms", "auto_prepare_after": 2, "server_tls_sslmode": "disable",
                            **(settings or {})},
            "databases": {POOLED: {"host": server.host, "port": server.port}}}


class Scene(contextlib.ExitStack):
    """A server, a pooler before it, and whoever looks after both."""

    def __init__(self, server, pooler):
        super().__init__()
        self.server, self.pooler = server, pooler
        self.sessions = 0  # that were played to their end
        self._console = self.enter_context(raw.RawClient(pooler.port, pooler.host))
        self._console.login("admin", "pgturnstile", "admin-password")
        self._admins = [self.enter_context(psycopg.connect(
            host=server.host, port=server.port, dbname=dbname, user="postgres", autocommit=True))
            for dbname in (POOLED, TWIN)]
        wait_until(self._knows_functions, 30, "the catalog is known")
        self.renew()

    def count_prepared(self):
        """Unnamed statements that were answered by prepared ones behind their clients' backs."""
        return self._show("SHOW SAVINGS", "auto_parses")[0]

    def _pool(self, *columns):
        """Columns of SHOW POOLS for the pool, 0 while there is none."""
        return self._show("SHOW POOLS", *columns)

    def _show(self, command, *columns):
        messages = self._console.query(command)
        names = [name.decode() for name, *_ in _columns(raw.find(messages, "T")[0].body)]
        for message in raw.find(messages, "D"):
            row = dict(zip(names, message.row))
            if row["database"] == POOLED:
                return [int(row[column]) for column in columns]
        return [0] * len(columns)

    def _knows_functions(self):
        """Until it does, it cannot tell that a function leaves something, and its next client sees."""
        for sql in "SELECT set_unseen('lock_timeout', '1s')", "SHOW lock_timeout":
            with raw.RawClient(self.pooler.port, self.pooler.host) as client:
                shown = client.login(USER, POOLED, PASSWORD).rows(sql)
        return shown == [("0",)]

    def _is_quiet(self):
        direct = self._admins[1].execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
                                         " AND usename = %s", [TWIN, USER]).fetchone()[0]
        return not direct and not any(self._pool("cl_active", "cl_waiting", "sv_active", "sv_tested"))

    def reset(self):
        """The tables as they were, and nobody on either database."""
        wait_until(self._is_quiet, 20, lambda: "all sessions have ended\n" + self.pooler.log_text())
        for admin in self._admins:
            admin.execute("".join(CLEANING.replace("{n}", str(n)) + ";" for n in range(CLIENTS)))

    def renew(self):
        """Server connections that nobody has used yet."""
        self._console.query("RECONNECT")
        self._console.query("WAIT_CLOSE")

    def play(self, seed, played):
        """Runs the sessions; Difference."""
        self.reset()
        transcripts = [DirectRun(self.server, session).transcript for session in played]
        runs = []
        try:
            for session, transcript in zip(played, transcripts):
                runs.append(PooledRun(self.pooler, session, transcript))
            Interleaving(runs, seed, lambda: self._pool("cl_waiting")[0]).go()
        finally:
            for run in runs:
                run.abandon()
        self.sessions += len(played)


# --- small ones ---------------------------------------------------------------------------------
def _smaller(played):
    """Ever smaller variants: fewer sessions, then fewer steps, then a plainer start and end."""
    for i in range(len(played)):
        if len(played) > 1:
            yield played[:i] + played[i + 1:]
    for i, session in enumerate(played):
        size = len(session.steps)
        while size >= 1:
            for at in range(0, len(session.steps), size):
                fewer = copy.copy(session)
                fewer.steps = session.steps[:at] + session.steps[at + size:]
                yield played[:i] + [fewer] + played[i + 1:]
            size //= 2
        for key in session.startup:
            plainer = copy.copy(session)
            plainer.startup = {k: v for k, v in session.startup.items() if k != key}
            yield played[:i] + [plainer] + played[i + 1:]


def shrink(scene, seed, played, difference, seconds=60.0):
    """The least sessions that still differ, as found within the time; and the difference."""
    deadline = time.monotonic() + seconds

    def fails(candidate):
        scene.renew()
        try:
            scene.play(seed, candidate)
        except Difference as found:
            return found
        except AssertionError:  # as cut down, it is no session that a direct connection can have
            return None
        return None

    found = fails(played)
    if not found:
        return played, difference, "not again on new servers: what was played before matters"
    progress = True
    while progress and time.monotonic() < deadline:
        progress = False
        for candidate in _smaller(played):
            if time.monotonic() > deadline:
                break
            smaller = fails(candidate)
            if smaller:
                played, found, progress = candidate, smaller, True
                break
    return played, found, "as small as it gets" if not progress else "not wholly shrunk"


def report(seed, played, difference, remark):
    """What a human needs to see: of sessions that could not be cut down, the one that differs."""
    shown = played if sum(len(s.steps) for s in played) < 40 else \
        [s for s in played if s.number == difference.number]
    return "\n".join([f"seed {seed} ({remark}): {difference}", *map(str, shown)])


def play_seeds(scene, seeds, kinds, each=lambda seed: None, shrink_seconds=60.0, stop_at=None):
    """Plays all, or until so many differ; the reports of those that do."""
    failures = []
    for seed in seeds:
        if len(failures) == stop_at:
            break
        played = random_sessions(seed, CLIENTS, kinds)
        try:
            scene.play(seed, played)
        except Difference as difference:
            small = shrink(scene, seed, played, difference, shrink_seconds)
            failures.append(report(seed, *small))
        each(seed)
    return failures


def chosen_kinds(words):
    """All the usual kinds and "+name"; or only those named: "settings,role"."""
    named = [word for word in words.split(",") if word]
    more = [word[1:] for word in named if word.startswith("+")]
    less = [word[1:] for word in named if word.startswith("-")]
    only = [word for word in named if word[0] not in "+-"]
    unknown = {*more, *less, *only} - {*sessions.KINDS}
    assert not unknown, f"no such kinds: {unknown}"
    return [k for k in only or sessions.usual_kinds() + more if k not in less]
