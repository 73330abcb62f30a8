# SPDX-License-Identifier: ISC
#
# daily_life.py - clients of every kind, for as long as one likes, while operators and servers do what they
# do all the time: reloads, tenants that come and go, new certificates, logs, restarts.
#
# Unlike in turmoil.py nothing is broken on purpose.  So who is told of an error has asked for it, or was
# on a server that was restarted; and when the clients have left, all is as before they came.
"""live(): one day after the other, as numbers and sentences; whoever calls it says what is good."""
import contextlib
import os
import random
import signal
import ssl
import threading
import time
from collections import Counter
from dataclasses import dataclass

import psycopg

import raw
import restless
from certificates import issue, make_authority
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import scratch_dir
from mishaps import MISHAPS, Misfortune, Scene, mishap
from turmoil import CHOOSER, GRACE, Load, configured, descriptors, set_servers, settle, start_pooler
from turnstile import laid_over
from waiting import wait_until

OWN, SESSIONS = "own", "sessions"  # further entries for the same database
DATABASES = (APP_DATABASE, OWN, SESSIONS)
RELOADED_EVERY = 3.0
LOSS_IS_TOLD = 2.0  # seconds
LEAVES_AT_MOST = 20  # requests that who leaves has asked and not been answered


@dataclass
class Terms:
    """What a life is to be."""

    seed: str = "1"
    day: float = 120  # seconds from when the clients come to when they leave
    clients: int = 60
    tenants: int = 19
    visitors: int = 3  # of the tenants; those that are paused, killed, and taken away
    processes: int = 2
    interval: float = 4.0  # seconds from one event to the next
    choose: bool = False   # some say whose they are, which needs shared pools everywhere
    kinds: tuple = ()      # of events and reloads; empty: all

    def is_visitor(self, tenant):
        return tenant >= self.tenants - self.visitors


# --- the stage --------------------------------------------------------------------------------
def configuration(nodes, certificates, log, terms):
    own, sessions = {}, {}
    if not terms.choose:
        own = {"tenant_pool": "dedicated", "pool_size": 2}
        sessions = {"tenant_pool": "dedicated", "pool_mode": "session", "pool_size": terms.clients}
    return configured(
        nodes, terms.tenants, terms.choose,
        {"default_pool_size": 15, "tenant_pool": "shared", "client_tls_sslmode": "allow",
         "client_tls_key_file": certificates / "server.key",
         "client_tls_cert_file": certificates / "server.crt", "query_wait_timeout": 25, "failover_wait": 25,
         "server_lifetime": 5, "server_idle_timeout": 3, "logfile": log, "auto_prepare_after": 2},
        {APP_DATABASE: {}, OWN: own, SESSIONS: sessions}, "20s")


# None of them takes anything away that a client needs.  Of databases and tiers: beside what they have.
CHANGES = [
    {"pgturnstile": {"default_pool_size": 5}},
    {"pgturnstile": {"default_pool_size": 30, "max_prepared_statements": 3}},
    {"pgturnstile": {"server_lifetime": 1, "server_idle_timeout": 1}},
    {"pgturnstile": {"auto_prepare_after": 0, "log_statements": "mod"}},
    {"pgturnstile": {"log_format": "json", "log_connections": 0}},
    {"databases": {OWN: {"pool_size": 1, "route": "primary"}}},
    {"databases": {APP_DATABASE: {"read_your_writes": "session", "promote": "first_write"}}},
    {"tiers": {"standard": {"statement_timeout": "15s", "max_transactions": 2, "weight": 4}}}]


@dataclass
class Stage(Scene):
    """A scene with what changes in daily life."""

    certificates: object = None
    logfile: object = None
    guests: int = 0  # how many have come so far


def set_stage(stack, terms):
    def keep(made):
        stack.callback(made.remove)
        return made

    nodes = primary, replica = set_servers(keep, terms.tenants)
    certificates = make_authority()
    issue(certificates, "server", "localhost")
    logfile = scratch_dir("daily") / "log"
    pooler = start_pooler(keep, configuration(nodes, certificates, logfile, terms))
    visitors = [f"t{n}" for n in range(terms.tenants) if terms.is_visitor(n)]
    return Stage(pooler, primary, replica, None, None, None, restless.Orders(), visitors, APP_DATABASE,
                 [laid_over(pooler.config, change) for change in CHANGES], random.Random(terms.seed),
                 certificates=certificates, logfile=logfile)


# --- what happens -----------------------------------------------------------------------------
RELOADS = {name: MISHAPS[name] for name in ("settings_changed", "reload_with_an_error", "reloads_in_a_row")}
# Not PAUSE: it waits for clients of session pools to leave, and all others wait for it.
EVENTS = {name: MISHAPS[name] for name in (
    "primary_restarted", "replica_restarted", "replica_lags", "reconnected", "tenant_paused",
    "tenant_killed", "readonly", "maintenance", "silent_strangers", "wrong_passwords", "garbage",
    "clients_cancel", *(name for name in MISHAPS if name.startswith("clients_leave")),
    "clients_read_slowly")}


@mishap(seconds=2, needs="configuration", among=RELOADS)
def tenants_exchanged(stage):
    """One that has never been there comes, and another goes; then it is the other way round."""
    stage.guests += 1
    name, gone = f"guest{stage.guests}", stage.rng.choice(stage.tenants)
    before = stage.pooler.config
    stage.reload({"tenants": {gone: None, name: {"tier": "standard", "business_id": f"id-{name}"}}})
    for database in DATABASES:
        with stage.pooler.connect(database, f"{APP_USER}.{name}", APP_PASSWORD) as guest:
            assert guest.execute(restless.CHECK).fetchone() == (f"id-{name}", 0, None, None)
    yield
    stage.pooler.config = before
    stage.reload({})


def serial_shown(pooler):
    """Of the certificate that clients get to see."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with raw.RawClient(pooler.port) as client:
        return ssl.DER_cert_to_PEM_cert(secure(client, context).getpeercert(True))


@mishap(needs="configuration", among=RELOADS)
def certificates_renewed(stage):
    """With the key: new connections see the new one at once."""
    issue(stage.certificates, "server", "localhost")
    stage.reload({})
    wanted = (stage.certificates / "server.crt").read_text()
    wait_until(lambda: serial_shown(stage.pooler).split() == wanted.split(), 10, "the new certificate is shown")
    yield


@mishap(needs="configuration", among=RELOADS)
def log_rotated(stage):
    """As logrotate does; the old file is let go of."""
    old = stage.logfile.with_suffix(".1")
    os.replace(stage.logfile, old)
    stage.pooler.signal(signal.SIGHUP)
    opened = f"/proc/{stage.pooler.pid()}/fd"

    def is_let_go():
        with contextlib.suppress(FileNotFoundError):  # a descriptor that is there no more
            return stage.logfile.exists() and str(old) not in [
                os.readlink(f"{opened}/{fd}") for fd in os.listdir(opened)]

    wait_until(is_let_go, 20, "the log is a new file")
    yield


# Whom an event may give an error: everybody, or clients of visitors only.
RESTARTS = ("primary_restarted", "replica_restarted")
OF_VISITORS = ("tenants_exchanged", "tenant_killed", "tenant_paused", "readonly", "maintenance")
CUT_OFF = ("57P0", restless.LOST)


# --- the clients ------------------------------------------------------------------------------
def secure(client, context):
    """The socket of a client that has said nothing yet, now by TLS."""
    client.send(raw.SSL_REQUEST)
    assert client.receive(1) == b"S"
    client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
    return client.sock


class Resident(restless.Player):
    """Does all that restless clients do, and what needs an undisturbed server to be told from a fault."""

    def connect(self):
        client = super().connect()
        if self.where["authority"]:
            secure(client, ssl.create_default_context(cafile=self.where["authority"]))
        return client

    def expect(self, answer, what, found):
        if not raw.find(answer, "E") and not found:
            self.book.wrong.append(f"{what}: {[(m.kind, m.body) for m in answer]}")

    def listen(self):
        """Its own notification comes before the answer, once; or the connection ends with the answer,
        since who listened for it was lost."""
        channel, payload = f"channel_{self.book.number}", str(self.rng.random())
        if not self.tell(raw.query(f"LISTEN {channel}")):
            return
        for answer in self.ask(raw.query(f"NOTIFY {channel}, '{payload}'")):
            told = [m for m in raw.find(answer, "A") if m.strings[-2] == payload]
            if not told and not raw.find(answer, "E"):
                self.hear_of_loss()
            self.expect(answer, f"notified of {payload}", len(told) == 1)

    def hear_of_loss(self):
        """It is said right behind the answer, and ends the connection; or not at all."""
        self.book.counts["notifications missed"] += 1
        self.client.sock.settimeout(LOSS_IS_TOLD)
        with contextlib.suppress(restless.Hung):
            self.answer()
        self.client.sock.settimeout(restless.PATIENCE)
        if self.rng.random() < 0.5:
            self.tell(raw.query("UNLISTEN *"))

    def prepare_in_sql(self):
        self.tell(raw.query("DEALLOCATE ALL"))
        self.names.clear()
        if self.tell(raw.query(f"PREPARE spelled AS {restless.CHECK}")):
            for answer in self.ask(raw.query("EXECUTE spelled")):
                self.look(answer)

    def copy_out(self):
        wanted = f"{self.own}\t{restless.ROWS_EACH}\t{self.own}\t{self.own}\n".encode()
        for answer in self.ask(raw.query(f"COPY ({restless.CHECK}) TO STDOUT")):
            self.expect(answer, "copied out", [m.body for m in raw.find(answer, "d")] == [wanted])

    def fetch(self):
        """By a cursor, in pieces."""
        if not self.tell(raw.query("BEGIN")):
            return
        self.tell(raw.query("DECLARE pieces CURSOR FOR SELECT n FROM stock ORDER BY n"))
        for n in range(1, restless.ROWS_EACH + 1):
            for answer in self.ask(raw.query("FETCH pieces")):
                self.expect(answer, "fetched", [m.row for m in raw.find(answer, "D")] == [(str(n),)])
        self.tell(raw.query("COMMIT"))

    def send_large(self):
        size = self.rng.randint(10_000, 300_000)
        for answer in self.ask(raw.parse("", "SELECT length($1)", [25]) + raw.bind("", "", ("x" * size,))
                               + raw.execute() + raw.sync()):
            self.expect(answer, "length", [m.row for m in raw.find(answer, "D")] == [(str(size),)])

    USUAL = restless.Player.USUAL + [listen] * 3 + [prepare_in_sql] * 2 + [copy_out] * 2 + [fetch] * 2 + [
        send_large]


def place(number, stage, terms):
    """Who a client is; one in four comes by TLS."""
    kind, tenant = number % 10, number % terms.tenants
    chooses = terms.choose and kind == 1 and not terms.is_visitor(tenant)
    return {"number": number, "tenant": tenant, "port": stage.pooler.port, "password": APP_PASSWORD,
            "user": CHOOSER if chooses else f"{APP_USER}.t{tenant}", "chooses": chooses,
            "database": {6: OWN, 7: OWN, 8: SESSIONS}.get(kind, APP_DATABASE),
            "authority": number % 4 == 0 and str(stage.certificates / "ca.crt")}


# --- what comes of it -------------------------------------------------------------------------
def is_provoked(error):
    return (error.code in (restless.ON_PURPOSE, restless.IN_FAILED_BLOCK)
            or error.code == "57014" and "user request" in error.text)


def is_excused(error, tenant, spans, terms):
    """By what was going on between question and answer, or had just ended."""
    names = {name for name, began, ended in spans if error.asked <= ended + GRACE and error.told >= began}
    if terms.is_visitor(tenant) and names.intersection(OF_VISITORS):
        return error.code.startswith(restless.FORGIVEN)
    listens = error.code == "57P01" and "reconnected" in names
    return listens or bool(names.intersection(RESTARTS)) and error.code.startswith(CUT_OFF)


def totals(pooler):
    """Counters that only grow, by database and name."""
    found = {(row["database"], key): int(value) for row in pooler.admin("SHOW STATS")
             for key, value in row.items() if key.startswith("total_")}
    found.update({(row["database"], "asked"): int(row["asked"]) for row in pooler.admin("SHOW SAVINGS")})
    return found


def accounts(before, after, books):
    """Where the pooler's counters do not agree with the clients' books: sentences."""
    wrong = [f"{name} of {database} went from {was} to {after[database, name]}"
             for (database, name), was in before.items() if after[database, name] < was]

    counts = sum((book.counts for book in books), Counter())
    left = sum(count for what, count in counts.items() if what.startswith(("leave", "read_slowly")))
    lost = sum(len(book.errors) for book in books)
    asked = sum(after[database, "asked"] - before[database, "asked"] for database in DATABASES)
    least, most = counts["answers"], counts["answers"] + LEAVES_AT_MOST * (left + lost)
    if not least <= asked <= most:
        wrong.append(f"{asked} requests, and clients have counted {least} to {most}")
    return wrong


def leftovers(stage):
    """What is there after the last client has left and its servers have aged: sentences."""
    def found():
        admin = stage.pooler.admin
        return ([f"client {row}" for row in admin("SHOW CLIENTS") if row["user"] != "admin"]
                + [f"pool {row}" for row in admin("SHOW POOLS") if row["database"] in DATABASES and any(
                    int(value) for key, value in row.items() if key.startswith(("cl_", "sv_")))])

    with contextlib.suppress(AssertionError):
        wait_until(lambda: not found(), 30)
    return found()


def spend_day(stage, terms):
    """From when the clients come to when they have left, and what it has shown."""
    stage.primary.sql("TRUNCATE ledger, intake", dbname=APP_DATABASE)
    before = Counter(totals(stage.pooler))
    both = [Misfortune(stage, [kind for kind in among.values() if kind.name in (terms.kinds or among)], interval)
            for among, interval in ((RELOADS, RELOADED_EVERY), (EVENTS, terms.interval))]
    places = [place(n, stage, terms) for n in range(terms.clients)]
    began = time.monotonic()
    with Load(stage, terms, places, Resident) as load:
        # Only who has been there is known to operators while it is exchanged for another.
        wait_until(lambda: {client["user"] for client in stage.pooler.admin("SHOW CLIENTS")}.issuperset(
            f"{APP_USER}.{name}" for name in stage.tenants), 30, "all visitors have come")
        threads = [threading.Thread(target=each.run, args=(terms.day,)) for each in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stage.orders.withdraw()
    seconds = time.monotonic() - began
    books, spans = load.books, both[0].spans + both[1].spans
    said = [f"client {book.number}: {text}" for book in books for text in book.wrong]
    errors = [(error, book) for book in books for error in book.errors if not is_provoked(error)]
    unprovoked = [f"client {book.number}, {error.doing}, asked {error.asked - began:.1f} s, told"
                  f" {error.told - began:.1f} s after the day began: {error.code}: {error.text}"
                  for error, book in errors
                  if not is_excused(error, book.tenant, spans, terms)]
    if unprovoked:
        print("events:", *(f"{name} {since - began:.1f}-{until - began:.1f}" for name, since, until in spans))
    return {
        "seconds": round(seconds), "kinds": both[0].counts + both[1].counts,
        "failures": both[0].failures + both[1].failures,
        **restless.audit(stage.primary, APP_DATABASE, books), "said": said, "unprovoked": unprovoked,
        "excused": len(errors) - len(unprovoked), "left": leftovers(stage),
        "accounts": accounts(before, Counter(totals(stage.pooler)), books),
        "done": sum((book.counts for book in books), Counter()),
        "written": sum(len(book.acknowledged) for book in books)}


def live(stack, terms):
    """Days in one pooler, as long as they are asked for.  Each has the memory behind it, what of it is kept on
    purpose (SHOW MEM), and the descriptors."""
    stage = set_stage(stack, terms)
    idle = descriptors(stage.pooler)
    try:
        while True:
            shown = spend_day(stage, terms)
            kib, open_ones = settle(stage.pooler, idle)
            kept = {row["name"]: row["memtotal"] // 1024 for row in stage.pooler.admin("SHOW MEM")}
            yield {**shown, "kib": [kib], "kept": [kept], "descriptors": [[idle, open_ones]]}
    finally:
        stage.pooler.stop()  # fails where a sanitizer has complained
