# SPDX-License-Identifier: ISC
#
# mishaps.py - what can go wrong around a pooler, one function for each kind.
#
# Each makes something go wrong up to its `yield`, and puts it right behind it.  Knows nothing of who
# suffers from it.
"""MISHAPS: all of them; Scene: what they work on; Misfortune: lets one begin every few seconds."""
import contextlib
import errno
import os
import random
import resource
import signal
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field

import psycopg

import raw
from waiting import wait_until

MISHAPS = {}
HANDS = 24  # how many may be wrong at once


@dataclass
class Mishap:
    name: str
    run: object       # a generator function of the scene
    seconds: float    # how long it stays wrong
    needs: str        # of those with the same word, one at a time; "": any number


def mishap(seconds=0.0, needs="", among=MISHAPS):
    def add(function):
        among[function.__name__] = Mishap(function.__name__, function, seconds, needs)
        return function
    return add


@dataclass
class Scene:
    """Who is there.  `changes`: of a RELOAD, a list of dicts as Pooler.reload() takes them."""

    pooler: object
    primary: object
    replica: object
    to_primary: object    # the roads that they are reached by
    to_replica: object
    to_pooler: object
    orders: object
    tenants: list
    database: str
    changes: list = field(default_factory=list)
    rng: random.Random = field(default_factory=random.Random)
    # A server dies with the thread that has started it: these live as long as the scene.
    hands: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(HANDS))

    def say(self, command):
        """To the console, which may be out of reach for a moment."""
        def said():
            try:
                self.pooler.admin(command)
                return True
            except psycopg.OperationalError as error:
                last.append(error)
                return False

        last = []
        wait_until(said, 20, lambda: f"{command}: {last[-1]}")

    def reload(self, changes):
        """Once more where another mishap has left no descriptor to read the files with (I4: nothing has changed)."""
        def reloaded():
            try:
                self.pooler.reload(changes)
                return True
            except psycopg.errors.ConfigFileError as error:
                if os.strerror(errno.EMFILE) not in str(error):
                    raise
                return False

        wait_until(reloaded, 20, "descriptors to RELOAD with")

    def backends(self):
        """Pids of the pooler's sessions on the primary, in any order."""
        def pids():
            try:
                return [pid for pid, in self.primary.sql(
                    "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    " AND usename <> 'postgres'")] or [0]
            except psycopg.OperationalError:
                return None

        found = wait_until(pids, 30, "the primary answers")
        self.rng.shuffle(found)
        return [pid for pid in found if pid]

    def on_backends(self, function, most=5):
        """pg_terminate_backend or pg_cancel_backend of some of them."""
        pids = self.backends()[:self.rng.randint(1, most)]
        self.primary.sql(f"SELECT {function}(pid) FROM unnest(%s::int[]) AS pid", [pids])


def _signal(number, *pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _family(server):
    """The postmaster and all its children."""
    postmaster = server.pid()
    with open(f"/proc/{postmaster}/task/{postmaster}/children") as listed:
        return [postmaster, *map(int, listed.read().split())]


# --- servers ----------------------------------------------------------------------------------
@mishap(needs="primary")
def backend_killed(scene):
    """The postmaster ends all the others then, and recovers."""
    _signal(signal.SIGKILL, *scene.backends()[:1])
    yield


@mishap(needs="primary")
def backends_terminated(scene):
    scene.on_backends("pg_terminate_backend")
    yield


@mishap(needs="primary")
def backends_cancelled(scene):
    scene.on_backends("pg_cancel_backend", 20)
    yield


@mishap(seconds=3, needs="primary")
def backends_stopped(scene):
    pids = scene.backends()[:scene.rng.randint(1, 8)]
    _signal(signal.SIGSTOP, *pids)
    yield
    _signal(signal.SIGCONT, *pids)


@mishap(seconds=2.5, needs="primary")
def postmaster_stopped(scene):
    """Sessions go on; new ones are neither taken in nor refused."""
    _signal(signal.SIGSTOP, scene.primary.pid())
    yield
    _signal(signal.SIGCONT, scene.primary.pid())


@mishap(seconds=3, needs="primary")
def primary_frozen(scene):
    pids = _family(scene.primary)
    _signal(signal.SIGSTOP, *pids)
    yield
    _signal(signal.SIGCONT, *pids)


@mishap(needs="primary")
def primary_restarted(scene):
    scene.primary.restart()
    yield


@mishap(seconds=1, needs="primary")
def primary_crashed(scene):
    scene.primary.kill()
    yield
    scene.primary.start()


@mishap(needs="replica")
def replica_restarted(scene):
    scene.replica.restart()
    yield


@mishap(seconds=4, needs="replica")
def replica_crashed(scene):
    scene.replica.kill()
    yield
    scene.replica.start()


@mishap(seconds=4, needs="replica")
def replica_lags(scene):
    scene.replica.pause_replay()
    yield
    scene.replica.sql("SELECT pg_wal_replay_resume()")


@mishap(seconds=3, needs="replica")
def replica_frozen(scene):
    pids = _family(scene.replica)
    _signal(signal.SIGSTOP, *pids)
    yield
    _signal(signal.SIGCONT, *pids)


# --- the console ------------------------------------------------------------------------------
@mishap(seconds=2, needs="configuration")
def settings_changed(scene):
    changes = scene.rng.choice(scene.changes)
    before = scene.pooler.config
    scene.reload(changes)
    yield
    scene.pooler.config = before
    scene.reload({})


@mishap(seconds=2, needs="configuration")
def tenants_taken_away(scene):
    gone = scene.rng.sample(scene.tenants, len(scene.tenants) // 10)
    before = scene.pooler.config
    scene.reload({"tenants": {name: None for name in gone}})
    yield
    scene.pooler.config = before
    scene.reload({})


@mishap(needs="configuration")
def reload_with_an_error(scene):
    text = scene.pooler.ini.read_text()
    scene.pooler.ini.write_text(text + "\n[pgturnstile]\npool_mode = sideways\n")
    with contextlib.suppress(psycopg.Error):
        scene.pooler.admin("RELOAD")
    scene.pooler.ini.write_text(text)
    yield


@mishap(needs="configuration")
def reloads_in_a_row(scene):
    for _ in range(20):
        scene.pooler.signal(signal.SIGHUP)
    yield


@mishap(seconds=2, needs="console")
def paused(scene):
    scene.say("PAUSE")
    yield
    scene.say("RESUME")


@mishap()
def reconnected(scene):
    scene.say("RECONNECT")
    yield


@mishap(seconds=1, needs="console")
def database_killed(scene):
    scene.say(f"KILL {scene.database}")
    yield
    scene.say(f"RESUME {scene.database}")


@mishap(seconds=1)
def tenant_killed(scene):
    tenant = scene.rng.choice(scene.tenants)
    scene.say(f"KILL TENANT {tenant}")
    yield
    scene.say(f"RESUME TENANT {tenant}")


@mishap(seconds=1)
def tenant_paused(scene):
    tenant = scene.rng.choice(scene.tenants)
    scene.say(f"PAUSE TENANT {tenant}")
    yield
    scene.say(f"RESUME TENANT {tenant}")


@mishap(seconds=1)
def readonly(scene):
    tenant = scene.rng.choice(scene.tenants)
    scene.say(f"READONLY TENANT {tenant}")
    yield
    scene.say(f"READWRITE TENANT {tenant}")


@mishap(seconds=1)
def maintenance(scene):
    tenant = scene.rng.choice(scene.tenants)
    scene.say(f"MAINTENANCE ON TENANT {tenant} 'back soon'")
    yield
    scene.say(f"MAINTENANCE OFF TENANT {tenant}")


@mishap()
def clients_killed(scene):
    for client in scene.rng.sample(scene.pooler.admin("SHOW CLIENTS"), 10):
        with contextlib.suppress(psycopg.Error):  # it has left by itself
            scene.pooler.admin(f"KILL_CLIENT {client['id']}")
    yield


# --- clients ----------------------------------------------------------------------------------
def _order(kind, count):
    def give(scene):
        scene.orders.give(kind, count)
        yield

    give.__name__ = f"clients_{kind}"
    mishap()(give)


for _kind in ("leave_in_query", "leave_in_copy", "leave_in_pipeline", "leave_in_block",
              "leave_in_message", "read_slowly"):
    _order(_kind, 20)
_order("cancel", 150)


def _connections(scene, count):
    """Connections to the pooler that have said nothing."""
    for _ in range(count):
        try:
            yield socket.create_connection((scene.pooler.host, scene.pooler.port), 5)
        except OSError:
            return


def _send(sock, data):
    with contextlib.suppress(OSError):
        sock.sendall(data)


@mishap(seconds=1)
def garbage(scene):
    begins = [b"", raw.SSL_REQUEST, raw.GSSENC_REQUEST, raw.startup({"user": "app"}),
              b"\x16\x03\x01\x02\x00\x01",
              raw.startup({"user": "app.t1", "database": scene.database}), b"GET / HTTP/1.1\r\n\r\n"]
    open_ones = []
    for sock in _connections(scene, 40):
        _send(sock, scene.rng.choice(begins) + scene.rng.randbytes(scene.rng.randint(0, 300)))
        open_ones.append(sock)
    yield
    for sock in open_ones:
        if scene.rng.random() < 0.5:
            raw.Stream(sock).reset()
        else:
            sock.close()


@mishap(seconds=3)
def silent_strangers(scene):
    """As many connections as there are, that never log in."""
    open_ones = list(_connections(scene, 150))
    yield
    for sock in open_ones:
        sock.close()


@mishap()
def wrong_passwords(scene):
    for _ in range(15):
        with contextlib.suppress(OSError, EOFError, raw.LoginRefused, AssertionError):
            with raw.RawClient(scene.pooler.port, timeout=5.0) as client:
                client.login(f"app.{scene.rng.choice(scene.tenants)}", scene.database, "wrong")
    yield


@mishap(seconds=3, needs="descriptors")
def descriptors_run_out(scene):
    pid = scene.pooler.pid()
    _, most = before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    taken = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (max(taken - 10, 30), most))
    yield
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@mishap(seconds=1.5)
def pooler_stopped(scene):
    """As when the machine swaps, or its clock jumps."""
    scene.pooler.signal(signal.SIGSTOP)
    yield
    scene.pooler.signal(signal.SIGCONT)


# --- roads ------------------------------------------------------------------------------------
def _on_roads(name, seconds, begin, end=None):
    """One mishap for each end of the pooler."""
    def make(side, needs):
        def run(scene):
            road = (scene.to_pooler if side == "clients" else
                    scene.rng.choice([scene.to_primary, scene.to_primary, scene.to_replica]))
            begin(road)
            yield
            if end:
                end(road)

        run.__name__ = f"{side}_{name}"
        mishap(seconds, needs)(run)

    make("clients", "")
    make("servers", "")


_on_roads("slow", 3, lambda road: road.slow(0.05), lambda road: road.slow(0))
_on_roads("torn", 3, lambda road: road.tear(True), lambda road: road.tear(False))
_on_roads("reset", 0, lambda road: road.cut(0.3))
_on_roads("cut_in_a_message", 1, lambda road: road.cut_within(0.3), lambda road: road.end_cut())
_on_roads("half_open", 4, lambda road: road.deafen(0.2), lambda road: road.end_deaf())
_on_roads("refused", 2, lambda road: road.refuse(True), lambda road: road.refuse(False))


@mishap(seconds=2)
def servers_taken_and_not_answered(scene):
    scene.to_primary.swallow(True)
    yield
    scene.to_primary.swallow(False)
    scene.to_primary.end_deaf()


# --- when -------------------------------------------------------------------------------------
class Misfortune:
    """Lets one of the `kinds` begin every `interval` seconds, all equally often, in any order."""

    def __init__(self, scene, kinds, interval=2.0):
        self.scene, self.interval = scene, interval
        self.kinds = list(kinds)
        self.counts, self.failures = Counter(), []
        self.spans = []  # (name, began, put right)
        self._deck, self._busy, self._lock = [], set(), threading.Lock()

    def _next(self):
        """One whose turn it is, that can begin now."""
        if not self._deck:
            self._deck = self.kinds[:]
            self.scene.rng.shuffle(self._deck)
        with self._lock:
            for kind in self._deck:
                if kind.needs not in self._busy:
                    self._deck.remove(kind)
                    if kind.needs:
                        self._busy.add(kind.needs)
                    return kind
        return None

    def _play(self, kind):
        began = time.monotonic()
        try:
            for _ in kind.run(self.scene):
                time.sleep(kind.seconds)  # how long it stays wrong
            self.counts[kind.name] += 1
        except Exception as error:  # whatever it is, the test has to hear of it
            self.failures.append(f"{kind.name}: {error!r}")
        finally:
            self.spans.append((kind.name, began, time.monotonic()))
            with self._lock:
                self._busy.discard(kind.needs)

    def run(self, seconds):
        """Returns when the last of them has been put right."""
        until, begun = time.monotonic() + seconds, []
        while time.monotonic() < until:
            began = time.monotonic()
            kind = self._next()
            if kind:
                begun.append(self.scene.hands.submit(self._play, kind))
            time.sleep(max(0, self.interval - (time.monotonic() - began)))
        wait(begun)
