#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# record.py BUILD - writes down what real clients, pgturnstile and PostgreSQL say to each other, as
# what fuzzers begin with: recorded/FUZZER, made anew.
#
# BUILD is where fuzz_relay has been built, PGTURNSTILE the program, as for the integration tests.
# Everybody talks over a relay that keeps what passes.  What differs from run to run and decides nothing
# is made the same: keys and process ids of servers; nonces are not, proofs are made of them.
"""Roads keep what passes; Play makes inputs of fuzz_relay.c of it, the others take what they read."""
import contextlib
import dataclasses
import itertools
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import psycopg  # noqa: E402

import raw  # noqa: E402
from cluster import Postgres  # noqa: E402
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER  # noqa: E402
from logins import LAST, RAW  # noqa: E402
from machine import Port, scratch_dir  # noqa: E402
from recordings import RECORDED, is_heard, kinds, messages, replay, write_heard  # noqa: E402
from scenes import TABLES, cancel, connect, scenes, tell  # noqa: E402
from test_drivers import PROGRAMS, build, run  # noqa: E402
from turnstile import Turnstile, merge  # noqa: E402
from waiting import wait_until  # noqa: E402

RECORDS_MAX, BYTES_MAX = 64, 6000  # of an input of fuzz_relay.c: more are not played, or make it slow
RECORDS_LEAST, TRIES = 10, 4  # less is not worth a file; how often a scene is recorded that cannot be played again as a whole
MESSAGE_MAX = 1000  # of what fuzz_frame.c reads
RECORD_END = b"\xfe"
CANCEL = b"\0\0\0\x10\x04\xd2\x16\x2e"
NOT_LEARNED = 128  # what code leaves, in the first byte of an input of fuzz_relay.c
TOKEN = "0123456789abcdef"  # of fuzz_http.c


# ---- what passes -------------------------------------------------------------------------------
@dataclasses.dataclass
class Event:
    """Bytes of a connection on their way; none: whoever sends them has hung up."""

    side: str  # "client" or "server", whom the proxy talks to on it
    number: int
    to_proxy: bool
    said: bytes


class Journal:
    """All that passes on some roads, each thing after what it is an answer to."""

    def __init__(self):
        self.events = []
        self._lock = threading.Lock()

    def note(self, *what):
        with self._lock:
            self.events.append(Event(*what))

    def streams(self, side):
        """Of each connection, what was said to the proxy and what by it."""
        streams = {}
        for e in self.events:
            if e.side == side:
                streams.setdefault(e.number, ([], []))[not e.to_proxy].append(e.said)
        for to_proxy, by_proxy in streams.values():
            yield b"".join(to_proxy), b"".join(by_proxy)


class Road:
    """Listens on `.port` and leads to `target`, and notes what passes."""

    host = "127.0.0.1"
    user = APP_USER  # who those are that begin here

    def __init__(self, target, side, journal):
        self._target, self._side, self._journal = (target.host, target.port), side, journal
        self._port = Port()
        self.port = self._port.number
        self._listener = socket.create_server((self.host, self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        for number in itertools.count():
            try:
                near = self._listener.accept()[0]
            except OSError:
                return
            far = socket.create_connection(self._target)
            ends = (near, far) if self._side == "client" else (far, near)  # to the proxy speaks the first
            for source, target, to_proxy in ((*ends, True), (*ends[::-1], False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, target, number, to_proxy), daemon=True).start()

    def _pump(self, source, target, number, to_proxy):
        said = b"x"
        while said:
            try:
                said = source.recv(65536)
            except OSError:
                said = b""
            self._journal.note(self._side, number, to_proxy, said)
            with contextlib.suppress(OSError):
                if said:
                    target.sendall(said)
                else:
                    target.shutdown(socket.SHUT_WR)

    def remove(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._port.release()


# ---- messages ----------------------------------------------------------------------------------
def openings(said):
    """The packets without a type that a connection begins with, and how many of them ask for encryption."""
    packets, asked = [], 0
    while said:
        size = int.from_bytes(said[:4], "big")
        packets.append(said[:size])
        if packets[-1] not in (raw.SSL_REQUEST, raw.GSSENC_REQUEST):
            break
        said, asked = said[size:], asked + 1
    return packets, asked


def conversations(journal, side):
    """Of each connection: the packets that it begins with, the messages of who dialed, and of who was dialed."""
    for to_proxy, by_proxy in journal.streams(side):
        asks, answers = (to_proxy, by_proxy) if side == "client" else (by_proxy, to_proxy)
        packets, asked = openings(asks)
        yield packets, list(messages(asks[sum(map(len, packets)):])), list(messages(answers[asked:]))


# ---- fuzz_relay --------------------------------------------------------------------------------
class Play:
    """An input: who says what, in this order; and what the clients hear then."""

    def __init__(self, way):
        self.way = way
        self.records = []  # [how, said]
        self.heard = [b"", b""]
        self._peers, self._closed = {}, set()
        self._asked, self._last = 2, None  # the server that was asked last, who spoke last
        self._pids, self._server_pids = {}, {}  # as they were, and what they are here
        self._arm(2), self._arm(3)

    def _who(self, peer):
        return peer if peer < 2 else 2 + (peer != self._asked)

    def _arm(self, server):
        """It does not log anybody in by itself."""
        self.records.append([RAW | self._who(server), b""])
        self._last = None

    def _take(self, event):
        """The peer of a connection, a free one if it is new; None: all are taken."""
        key = event.side, event.number
        if key not in self._peers:
            free = [peer for peer in ((0, 1) if event.side == "client" else (2, 3)) if peer not in self._peers.values()]
            if not free:
                return None
            self._peers[key] = free[0]
        return self._peers[key]

    def _hang_up(self, event, peer):
        key = event.side, event.number
        if event.to_proxy:
            if self._last == peer:
                self.records[-1][0] |= LAST
            else:
                self.records.append([RAW | LAST | self._who(peer), b""])
        del self._peers[key]
        self._closed.add(key)
        self._last = None
        if peer >= 2:
            self._arm(peer)

    def _say(self, event, peer):
        said = event.said
        if said.startswith(CANCEL):  # of the client who is the first, or the second, to be given a key there
            said = raw.cancel_request(self._pids[said[8:12]], b"kkkk")
        elif peer >= 2:
            said = self._with_own_pid(said, peer)
        if self._last == peer:
            self.records[-1][1] += said
        else:
            self.records.append([RAW | self._who(peer), said])
        self._last = peer

    def _with_own_pid(self, said, server):
        """A server has no key worth knowing, and a number for its process; it notifies under that too."""
        if key := re.search(rb"K\0\0\0\x0c(.{4}).{4}", said, re.DOTALL):
            self._server_pids[key[1]] = server.to_bytes(4, "big")
            said = said.replace(key[0], raw.backend_key_data(server, b"kkkk"))
        for pid, own in self._server_pids.items():
            said = re.sub(rb"(A\0\0..)" + re.escape(pid), lambda m, own=own: m[1] + own, said, flags=re.DOTALL)
        return said

    def _hear(self, event, peer):
        if self._last == peer:  # what it says next may be the answer
            self._last = None
        if peer >= 2:
            self._asked = peer
            return
        self.heard[peer] += event.said
        for key in re.findall(rb"K\0\0\0\x0c(.{4})", event.said, re.DOTALL):
            self._pids.setdefault(key, len(self._pids) + 1)

    def take(self, event):
        """False: this one is too much, or cannot be said."""
        if (event.side, event.number) in self._closed or (event.side == "client" and not event.said
                                                          and (event.side, event.number) not in self._peers):
            return True
        peer = self._take(event)
        if peer is None:
            return False
        if not event.said:
            self._hang_up(event, peer)
        elif event.to_proxy:
            self._say(event, peer)
        else:
            self._hear(event, peer)
        return len(self.records) <= RECORDS_MAX and len(self.input()) <= BYTES_MAX \
            and RECORD_END not in b"".join(said for _, said in self.records)

    def input(self):
        records = list(self.records)
        while records and records[-1][1] == b"" and not records[-1][0] & LAST:
            records.pop()
        return bytes([self.way]) + b"".join(bytes([how]) + said + RECORD_END for how, said in records)


def plays_of(way, events):
    """The input of the events, and each that ends before something that a client says, when it waits for nothing; the longest first."""
    play, ends = Play(way), []
    for n, event in enumerate(events):
        if event.side == "client" and event.to_proxy and event.said:
            ends.append(n)
        if not play.take(event):
            break
    else:
        yield play
    for end in reversed(ends):
        play = Play(way)
        if all(map(play.take, events[:end])):
            yield play


def longest(program, plays):
    """The first that is heard when it is played again as it was heard then: where much comes at once, it may not be."""
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / str(number) for number in range(len(plays))]
        for file, play in zip(files, plays):
            file.write_bytes(play.input())
        heard = replay(program, files, scratch)
    return next(play for play, got in zip(plays, heard) if is_heard(got, list(map(kinds, play.heard))))


# ---- the other fuzzers ---------------------------------------------------------------------------
def startup_kind(packet):
    return {raw.SSL_REQUEST: "ssl", raw.GSSENC_REQUEST: "gssenc"}.get(packet, "cancel" if packet.startswith(CANCEL) else "session")


def startups(journal, side):
    for packets, _, _ in conversations(journal, side):
        for packet in packets:
            kind = startup_kind(packet)
            yield kind, packet[:8] + b"\0\0\0\1kkkk" if kind == "cancel" else packet


def _shape(who, message):
    """Two of the same are read alike."""
    kind, body = message[:1], message[5:]
    if who == "server" and kind in b"EN":
        fields = [field for field in body.split(b"\0") if field]
        return who, kind, b"".join(f[:1] for f in fields), next((f for f in fields if f[:1] == b"C"), b"")
    if who == "server" and kind in b"SC":
        return who, kind, re.split(rb"[ \0]", body)[0]
    return who, kind, len(body).bit_length()


class Frames:
    """Messages of either side, of each shape the first."""

    def __init__(self):
        self.told = {}  # by who said them, to whom
        self._seen = set()

    def take(self, name, journal):
        for side in ("client", "server"):
            for _, asks, answers in conversations(journal, side):
                for who, said in (("client", asks), ("server", answers)):
                    for message in said:
                        self._take(who, name, message)

    def _take(self, who, name, message):
        # Proofs are fuzz_scram's, and keys nobody's.
        if message[:1] not in (b"p", b"K") and len(message) <= MESSAGE_MAX and _shape(who, message) not in self._seen:
            self._seen.add(_shape(who, message))
            self.told[f"{who}-{name}"] = self.told.get(f"{who}-{name}", b"") + message


def scram(asks, answers):
    """The four messages of a login, by fuzz_scram.c's number; None: it was not by SCRAM."""
    asks = [m[5:] for m in asks if m[:1] == b"p"]
    answers = [m[9:] for m in answers if m[:1] == b"R" and m[5:9] in (b"\0\0\0\x0b", b"\0\0\0\x0c")]
    if len(asks) < 2 or len(answers) < 2:
        return None
    first = asks[0].split(b"\0", 1)[1][4:]
    return {"client-first": b"\0" + first, "client-final": b"\1" + asks[1], "server-first": b"\2" + answers[0],
            "server-final": b"\3" + answers[1]}


def http(said):
    """Path, Authorization and Accept of a request, as fuzz_http.c has them."""
    head = said.split(b"\r\n\r\n")[0].split(b"\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in head[1:])}
    return b"\0".join((head[0].split()[1].split(b"?")[0], *(fields.get(name, b"\1") for name in (b"authorization", b"accept"))))


# ---- the files -----------------------------------------------------------------------------------
class Files:
    """What is written down, each thing once."""

    def __init__(self):
        self.heard = {}  # of each play
        self._known = set()
        shutil.rmtree(RECORDED, ignore_errors=True)

    def write(self, fuzzer, name, said, same=None):
        """The name that it gets; None: it is there already, under whatever name, or what is the same."""
        if (fuzzer, same or said) in self._known:
            return None
        self._known.add((fuzzer, same or said))
        for here in (rf"\b{socket.gethostname()}\b" if fuzzer != "fuzz_scram" else "$^", str(HERE.parents[1]), "/tmp/", "/home/", "/root"):
            assert not re.search(here.encode(), said), f"{here} in {fuzzer}/{name}"
        folder = RECORDED / fuzzer
        folder.mkdir(parents=True, exist_ok=True)
        path = next(p for p in (folder / (name + suffix) for suffix in ("", *(f"-{n}" for n in range(2, 99)))) if not p.exists())
        path.write_bytes(said)
        return path.name

    def write_play(self, name, play):
        if len(play.records) < RECORDS_LEAST:
            print(f"{name} is left out: it cannot be played again", file=sys.stderr)
        elif stored := self.write("fuzz_relay", name, play.input()):
            self.heard[stored] = play.heard


# ---- the proxies ----------------------------------------------------------------------------------
# The number that a configuration has in fuzz_relay.c, which it is as.
SHARED = {"pgturnstile": {"pool_mode": "transaction", "tenant_by": "user_suffix, set", "tenant_pool": "shared"},
          "tiers": {"basic": "weight=1"}, "tenants": {"acme": "tier=basic business_id=42"}, "users": {APP_USER: "tenant_switch=yes"}}
OF_A_TENANT = 3
WAYS = {0: {"pgturnstile": {"pool_mode": "transaction"}},
        1: {"pgturnstile": {"pool_mode": "session", "server_reset_query": "DISCARD ALL"}},
        2: {"pgturnstile": {"pool_mode": "statement", "log_statements": "ddl"}},
        OF_A_TENANT: SHARED,
        4: {"pgturnstile": {"pool_mode": "transaction", "auto_prepare": "on", "auto_prepare_after": 2, "early_commit": "on",
                            "query_insight": "on", "log_statements": "all", "log_sample": 50}}}
# Whose scenes are told in other configurations than the first, where they are answered otherwise.
ALSO = {1: ("locks", "settings", "cursors", "in-turns"), 2: ("psql-statements", "psql-transactions", "prepared-select"), 3: ("tenants", "in-turns", "listening"),
        4: ("pgbench-simple-tpcb", "pgbench-extended", "psycopg-transactions", "pipelines", "prepared")}


@contextlib.contextmanager
def recorded(primary, changes):
    """A proxy between two roads: where clients begin, and what passes."""
    journal = Journal()
    with contextlib.ExitStack() as stack:
        behind = Road(primary, "server", journal)
        stack.callback(behind.remove)
        config = {"pgturnstile": {"default_pool_size": 2, "scram_iterations": 4096, "server_tls_sslmode": "disable", "workers": 1},
                  "databases": {APP_DATABASE: {"host": behind.host, "port": behind.port}}}
        proxy = Turnstile(merge(config, changes), {APP_USER: APP_PASSWORD})
        stack.callback(proxy.remove)
        before = Road(proxy.start(), "client", journal)
        stack.callback(before.remove)
        yield before, journal


def wait_until_quiet(journal):
    """All clients have left, and nothing more comes."""
    def left():
        clients = {(e.number, e.to_proxy): e.said for e in journal.events if e.side == "client"}
        return clients and not any(clients.values())
    wait_until(left, 30, "the clients have left")


# ---- all of it -------------------------------------------------------------------------------------
def trusted(primary):
    """The server lets the application in unasked."""
    primary.hba(f"host all {APP_USER} 127.0.0.1/32 trust")


def note_openings(files, name, journal):
    for side in ("client", "server"):
        for kind, packet in startups(journal, side):
            pairs = packet[8:].split(b"\0")  # some drivers have them in any order
            files.write("fuzz_startup", kind if kind != "session" else f"{kind}-{name if side == 'client' else 'pgturnstile'}", packet,
                        same=tuple(sorted(zip(pairs[::2], pairs[1::2]))))


def told_in_a_scene(primary, way, name, say):
    """What passes in it."""
    with recorded(primary, merge(WAYS[way], {"pgturnstile": {"auth_type": "trust"}})) as (server, journal):
        if way == OF_A_TENANT and "tenants" not in name:
            server.user = f"{APP_USER}.acme"
        say(server)
        wait_until_quiet(journal)
    return journal


def record_plays(primary, files, fuzz_relay):
    """What is said without a password, which fuzz_relay.c can say again; and the messages of it."""
    def take(name, journal):
        frames.take(name, journal)
        note_openings(files, name, journal)

    frames = Frames()
    trusted(primary)
    for way, (name, say) in itertools.product(WAYS, scenes()):
        if way and not any(part in name for part in ALSO[way]):
            continue
        for _ in range(TRIES):
            journal = told_in_a_scene(primary, way, name, say)
            plays = list(plays_of(way | NOT_LEARNED, journal.events))
            play = longest(fuzz_relay, plays)
            if play is plays[0]:
                break
        files.write_play(f"{name}-{way}" if way else name, play)
        take(name.split("-")[0], journal)
    for name, journal in told_by_programs(primary, "trust", [name for name in PROGRAMS if "changes" not in name]):
        files.write_play(f"driver-{name}", longest(fuzz_relay, list(plays_of(NOT_LEARNED, journal.events))))
        take(name, journal)
    for name, said in frames.told.items():
        files.write("fuzz_frame", name, said)


# Of ../drivers: those who each have a login of their own.
WITH_A_LOGIN = ("libpq", "asyncpg", "jdbc-threshold-1", "pgx", "pq", "node-postgres", "postgres.js")


def told_by_programs(primary, auth_type, names):
    """What passes when each of these programs runs that can be run here."""
    for name in names:
        program = PROGRAMS[name]
        if name == "ruby_pg":  # which calls itself by its path
            program = dataclasses.replace(program, command=["env", f"PGAPPNAME={name}", *program.command])
        try:
            out = build(program.build, f"record-{name}")
            with recorded(primary, {"pgturnstile": {"pool_mode": "transaction", "auth_type": auth_type, **program.settings}}) as (server, journal):
                run(program, server, out)
                wait_until_quiet(journal)
        except (AssertionError, OSError) as why:
            print(f"{name} is left out: {str(why)[:200]}", file=sys.stderr)
            continue
        yield name, journal


def record_logins(primary, files):
    """With passwords, on both sides; once more with everything that asks for encryption."""
    primary.hba()
    stored = primary.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [APP_USER])
    files.write("fuzz_scram", "postgresql-secret", b"\4" + stored.encode())
    known = set()
    for name, journal in told_by_programs(primary, "scram-sha-256", WITH_A_LOGIN):
        note_openings(files, name, journal)
        for side in ("client", "server"):
            for _, asks, answers in conversations(journal, side):
                login = scram(asks, answers)
                shape = login and (side, *(re.sub(rb"([rsvp]=)[^,]*", lambda m: m[1] + b"%d" % len(m[0]), said) for said in login.values()))
                if login and shape not in known:
                    known.add(shape)
                    for which, said in login.items():
                        files.write("fuzz_scram", f"{name.split('-threshold')[0] if side == 'client' else 'pgturnstile'}-{which}", said)
    with recorded(primary, {"pgturnstile": {"pool_mode": "transaction"}}) as (server, journal):
        for how in ("prefer", "allow"):
            tell(["psql", "-XAt"], server, "SELECT 1;", PGSSLMODE=how, PGGSSENCMODE="prefer", PGOPTIONS="-c work_mem=1MB --geqo=off", PGAPPNAME=how,
                 PGCLIENTENCODING="LATIN1", PGDATESTYLE="German", PGTZ="UTC")
        tell(["pg_receivewal", "--no-loop", "-D", "/nonexistent", "--create-slot", "-S", "recorded"], server)
        with contextlib.suppress(psycopg.Error):
            cancel(connect(server, sslmode="prefer", gssencmode="prefer"))
        note_openings(files, "libpq", journal)


def record_http(primary, files):
    """Pages that are fetched with a token and without one, by what does so."""
    port, folder = Port(), scratch_dir("record-http")
    token, journal = folder / "token", Journal()
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    proxy = Turnstile({"pgturnstile": {"http_listen": f"127.0.0.1:{port.number}", "http_token_file": token},
                       "databases": {APP_DATABASE: {"host": primary.host, "port": primary.port}}})
    road = Road(SimpleNamespace(host="127.0.0.1", port=port.number), "client", journal)
    try:
        proxy.start()
        shown, scraped = ["-H", f"Authorization: Bearer {TOKEN}"], ["-H", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"]
        page = f"http://127.0.0.1:{road.port}"
        for command in (["curl", "-s", page + "/metrics"], ["curl", "-s", *shown, page + "/metrics"], ["curl", "-s", *shown, *scraped, page + "/metrics"],
                        ["curl", "-s", *shown, page + "/stats.json"], ["curl", "-s", *shown, page + "/history.json"], ["curl", "-sI", page + "/healthz"],
                        ["curl", "-s", "-u", "who:what", page + "/readyz?verbose"], ["curl", "-s", page + "/"], ["curl", "-s", page + "/no/such"],
                        ["wget", "-qO-", page + "/readyz"],
                        [sys.executable, "-c", f"import urllib.request as r; r.urlopen('{page}/healthz')"]):
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=False)
            said = b"".join(e.said for e in journal.events if e.to_proxy)
            journal.events.clear()
            path = command[-1].split("/")[-1] if command[0] in ("curl", "wget") else "healthz"
            files.write("fuzz_http", "-".join((Path(command[0]).name, re.sub(r"\W.*", "", path) or "root")), http(said))
    finally:
        road.remove(), proxy.remove(), port.release()


def main(build_folder):
    """Everything anew."""
    primary, files = Postgres.primary(), Files()
    try:
        primary.role(APP_USER, APP_PASSWORD)
        primary.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
        trusted(primary)
        primary.sql(TABLES, dbname=APP_DATABASE, user=APP_USER)
        primary.user = APP_USER
        assert b"done" in tell(["pgbench", "-i"], primary)
        record_http(primary, files)
        record_plays(primary, files, build_folder / "test/fuzz/fuzz_relay")
        record_logins(primary, files)
    finally:
        primary.remove()
    write_heard(files.heard)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
