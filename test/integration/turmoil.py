# SPDX-License-Identifier: ISC
#
# turmoil.py - clients of many tenants (restless.py) while one thing after the other goes wrong
# (mishaps.py): one round of it, and what it has shown.
#
# Has servers and a pooler of its own.  Either tenants share their pools, and some clients say whose they
# are; or each has its own, in transaction or session mode.
"""play_round(): a round, as numbers and sentences; whoever calls it says what is good."""
import contextlib
import multiprocessing
import os
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg

import restless
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from mishaps import MISHAPS, Misfortune, Scene
from rig import memory_kib, wait_nodes
from rough_road import RoughRoad
from turnstile import laid_over, Turnstile
from waiting import wait_until

GRACE, CALM = 5, 10  # seconds behind the last mishap: errors may still come from it; then no more
CHOOSER = "chooser"
OTHER = "other"  # a second entry for the same database


@dataclass
class Terms:
    """What a round is to be."""

    seed: str = "1"
    seconds: float = 300
    shared: bool = True
    clients: int = 200
    tenants: int = 100
    processes: int = 4
    interval: float = 2.0  # seconds from one mishap to the next
    kinds: list = field(default_factory=lambda: list(MISHAPS))
    pooler: type = Turnstile
    excused: str = ""  # what clients may be told at any time: a pattern of "SQLSTATE: text"; "": nothing

    def excuses(self, error):
        return bool(self.excused and re.match(self.excused, f"{error.code}: {error.text}"))


# --- the scene: also of daily_life.py ----------------------------------------------------------
def set_servers(keep, tenants, **settings):
    """A primary with what the clients want of it, and its replica."""
    primary = keep(Postgres.primary(settings=settings))
    for role in (APP_USER, CHOOSER):
        primary.role(role, APP_PASSWORD)
    primary.sql(f"CREATE DATABASE {APP_DATABASE}")
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    restless.prepare(primary, APP_DATABASE, tenants, APP_USER, CHOOSER)
    return primary, keep(Postgres.replica_of(primary))


def configured(nodes, tenants, chooses, settings, entries, statement_timeout):
    """`nodes`: primary and replica, or the roads to them; `chooses`: whether some clients say whose they
    are; `settings`, `entries` of databases: beside what all have."""
    reached = {"host": ",".join(node.host for node in nodes),
               "port": ",".join(str(node.port) for node in nodes), "dbname": APP_DATABASE}
    return {
        "pgturnstile": {
            "pool_mode": "transaction", "workers": 2, "max_client_conn": 1000,
            "tenant_by": "user_suffix, set" if chooses else "user_suffix", "server_tls_sslmode": "disable",
            "server_login_retry": "200ms", "monitor_user": APP_USER, "monitor_interval": "300ms", **settings},
        "users": {CHOOSER: {"tenant_switch": "yes"}},
        "databases": {name: {**reached, **own} for name, own in entries.items()},
        "tiers": {"standard": {"statement_timeout": statement_timeout}},
        "tenants": {f"t{n}": {"tier": "standard", "business_id": restless.id_of(n)} for n in range(tenants)}}


def start_pooler(keep, config, kind=Turnstile):
    pooler = keep(kind(config, {APP_USER: APP_PASSWORD, CHOOSER: APP_PASSWORD})).start()
    for database in config["databases"]:
        wait_nodes(pooler, "primary", "replica", database=database)
    return pooler


# --- the scene of this file --------------------------------------------------------------------
def configuration(nodes, terms):
    shared, own = terms.shared, {} if terms.shared else {"pool_size": 2}
    return configured(
        nodes, terms.tenants, shared,
        {"default_pool_size": 20, "tenant_pool": "shared" if shared else "dedicated", "query_timeout": 10,
         "query_wait_timeout": 12, "failover_wait": 12, "idle_transaction_timeout": 10,
         "client_login_timeout": 5, "server_connect_timeout": 2, "server_idle_timeout": 5,
         "server_lifetime": 20, "maintenance_wait": 5, "log_connections": 0, "log_disconnections": 0,
         "log_server_disconnections": 0, "log_pooler_errors": 0, "log_stats": 0},
        {APP_DATABASE: own, OTHER: {**own, "pool_mode": "transaction" if shared else "session"}}, "8s")


# Of databases and tiers: beside what they have.
CHANGES = [
    {"pgturnstile": {"default_pool_size": 5}},
    {"pgturnstile": {"default_pool_size": 40, "max_prepared_statements": 3}},
    {"pgturnstile": {"server_lifetime": 1, "server_idle_timeout": 1}},
    {"databases": {OTHER: {"pool_size": 1}}},
    {"tiers": {"standard": {"statement_timeout": "9s", "max_transactions": 1}}},
    {"tiers": {"standard": {"rate": "5/s", "rate_limit_wait": "5s"}}}]


def place(number, scene, terms):
    """Who a client is, and which way it comes."""
    tenant, kind = number % terms.tenants, number % 10
    chooses = kind == 1 and terms.shared
    return {"number": number, "tenant": tenant, "user": CHOOSER if chooses else f"{APP_USER}.t{tenant}",
            "port": (scene.to_pooler if number % 2 else scene.pooler).port, "chooses": chooses,
            "database": OTHER if kind in (2, 3) else APP_DATABASE,
            "password": APP_PASSWORD}


def set_scene(stack, terms):
    def keep(made):
        stack.callback(made.remove)
        return made

    primary, replica = set_servers(keep, terms.tenants, max_connections=500)
    roads = [keep(RoughRoad(node, terms.seed)) for node in (primary, replica)]
    pooler = start_pooler(keep, configuration(roads, terms), terms.pooler)
    return Scene(pooler, primary, replica, *roads, keep(RoughRoad(pooler, terms.seed)),
                 restless.Orders(), [f"t{n}" for n in range(terms.tenants)], APP_DATABASE,
                 [laid_over(pooler.config, change) for change in CHANGES], random.Random(terms.seed))


def descriptors(pooler):
    return len(os.listdir(f"/proc/{pooler.pid()}/fd"))


class Load:
    """The clients, in processes; `with` it they play.  `kind`: of Player."""

    def __init__(self, scene, terms, places, kind=restless.Player):
        self.scene = scene
        scene.orders.__init__()
        self.results, self.hung = multiprocessing.Queue(), multiprocessing.Queue()
        self.processes = [multiprocessing.Process(
            target=restless.play,
            args=(places[n::terms.processes], terms.seed, scene.orders, self.results, self.hung, kind))
            for n in range(terms.processes)]

    def __enter__(self):
        for process in self.processes:
            process.start()
        threading.Thread(target=self.watch, daemon=True).start()
        return self

    def watch(self):
        """Says what the console says of a client that hangs; None ends it."""
        while (told := self.hung.get()) is not None:
            number, port = told
            print(f"client {number} hangs", flush=True)
            with contextlib.suppress(psycopg.Error):  # out of reach, as may be
                clients = self.scene.pooler.admin("SHOW CLIENTS")
                print("  ", Counter(c["state"] for c in clients), *(c for c in clients if c["port"] == port))
                servers = self.scene.pooler.admin("SHOW SERVERS")
                print("  ", Counter((s["port"], s["state"]) for s in servers))
                nodes = self.scene.pooler.admin("SHOW NODES")
                print("  ", *((n["node"], n["role"], n["error"]) for n in nodes), flush=True)

    def __exit__(self, *_):
        self.scene.orders.end()
        self.hung.put(None)
        self.books = [book for _ in self.processes for book in self.results.get(timeout=200)]
        for process in self.processes:
            process.join()


def histograms_kib(pooler):
    """What is known of latencies, kept for two hours: more of it, the more they have differed."""
    return sum(row["memtotal"] for row in pooler.admin("SHOW MEM") if row["name"] == "latency_cache") // 1024


def settle(pooler, most):
    """Waits until the clients' and servers' traces are gone; (KiB without histograms, descriptors)."""
    def is_quiet():
        return (not [c for c in pooler.admin("SHOW CLIENTS") if c["user"] != "admin"]
                and descriptors(pooler) <= most)

    try:
        wait_until(is_quiet, 60)
    except AssertionError:
        print("left:", *pooler.admin("SHOW SOCKETS"), sep="\n  ", flush=True)
    kib = memory_kib(pooler) and memory_kib(pooler) - histograms_kib(pooler)
    with contextlib.suppress(AssertionError):  # the console's connections of just now are on their way out
        wait_until(lambda: descriptors(pooler) <= most)
    return kib, descriptors(pooler)


def unforgiven(books, terms):
    return [f"{error.code}: {error.text}" for book in books for error in book.errors
            if not error.code.startswith(restless.FORGIVEN) and error.code != restless.ON_PURPOSE
            and not terms.excuses(error)]


def errors_behind(books, when, terms):
    """What was said when nothing was wrong any more."""
    return [f"{error.asked - when:.0f} s behind the last mishap, {error.doing}: {error.code}: {error.text}"
            for book in books for error in book.errors
            if error.asked > when + GRACE and error.code not in (restless.ON_PURPOSE, restless.IN_FAILED_BLOCK)
            and not terms.excuses(error)]


def play(scene, terms, seconds):
    """So many seconds of mishaps under load, and what they have shown."""
    scene.primary.sql("TRUNCATE ledger, intake", dbname=APP_DATABASE)
    misfortune = Misfortune(scene, [MISHAPS[name] for name in terms.kinds], terms.interval)
    with Load(scene, terms, [place(n, scene, terms) for n in range(terms.clients)]) as load:
        began = time.monotonic()
        misfortune.run(seconds)
        scene.orders.withdraw()
        ended = time.monotonic()
        time.sleep(GRACE + CALM)  # how long all is well
    books = load.books
    said = [f"client {book.number}: {text}" for book in books for text in book.wrong]
    found = restless.audit(scene.primary, APP_DATABASE, books)
    return {
        "seconds": round(ended - began), "kinds": misfortune.counts, "failures": misfortune.failures,
        **found, "foreign": found["foreign"] + [text for text in said if "foreign" in text],
        "hung": [text for text in said if "hung" in text or "its end" in text],
        "other": [text for text in said if not any(word in text for word in ("hung", "its end", "foreign"))]
        + unforgiven(books, terms),
        "late": errors_behind(books, ended, terms),
        "checks": sum(book.counts["checks"] for book in books),
        "written": sum(len(book.acknowledged) for book in books),
        "errors": Counter(f"{error.code}: {error.text}" for book in books for error in book.errors)}


def add(total, result):
    """Adds up numbers, lists and counts."""
    for key, value in result.items():
        if isinstance(value, dict):
            total[key] = Counter(total.get(key, {})) + Counter(value)
        else:
            total[key] = total.get(key, type(value)()) + value


def play_round(stack, terms):
    """A rehearsal and then the round, in one pooler: caches are full after the first, and what is more
    after the second is what grows.  Both count."""
    total, scene = {}, set_scene(stack, terms)
    idle, kib = descriptors(scene.pooler), []
    for seconds in (terms.seconds / 3, terms.seconds * 2 / 3):
        add(total, play(scene, terms, seconds))
        after = settle(scene.pooler, idle)
        kib.append(after[0])
    scene.pooler.stop()  # fails where a sanitizer has complained
    return {**total, "kib": [kib], "descriptors": [[idle, after[1]]]}
