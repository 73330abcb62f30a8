# SPDX-License-Identifier: ISC
#
# shared.py - I1 in shared pools: 10,000 tenants on 20 server connections, and everything that goes
# wrong at once.
"""Processes of raw clients, each checking every row; beside them cancels, kills and RELOADs.

The clients run on the same cores as what they test: what they send again and again is built once,
what comes is read in large pieces, and rows are compared as the bytes that they are.
"""
import multiprocessing
import os
import random
import struct
import sys
import threading
import time
from collections import Counter

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

SECONDS = int(os.environ.get("PGT_SECONDS", "60"))
TENANTS, SERVERS, CLIENTS, PROCESSES, THREADS = 10_000, 20, 500, 2, 4
ROWS_EACH = 2
CHOOSER = "chooser"
CHECK = ("SELECT current_setting('app.current_business_id'), count(*), min(business_id),"
         " max(business_id) FROM ledger")
# A session is as long as this many requests on average; then another tenant's begins.
SESSION_REQUESTS = 12


def id_of(tenant):
    return f"id-{tenant * 7919 % 1_000_003}"


# --- requests: the bytes, the ReadyForQuery they end with, the checks among them ----------------
def batch(text, *values):
    return raw.parse("", text) + raw.bind("", "", values) + raw.execute()


QUERY, BATCH, SYNC = raw.query(CHECK), batch(CHECK), raw.sync()
SEVERAL = raw.query(f"{CHECK}; {CHECK}; SELECT 2")
BEGIN, COMMIT, ROLLBACK = raw.query("BEGIN"), raw.query("COMMIT"), raw.query("ROLLBACK")
FAILING, SLOW = raw.query("SELECT 1/0"), raw.query("SELECT pg_sleep(0.01)") + QUERY
NAMED = [raw.close("S", name) + raw.parse(name, CHECK) + raw.bind("", name) + raw.execute() + SYNC
         for name in ("s0", "s1", "s2")]
FAILURES = [(FAILING + QUERY, 2, 1), (batch("SELECT 1/0") + BATCH + SYNC + QUERY, 2, 1),
            (BEGIN + FAILING + QUERY + ROLLBACK + QUERY, 5, 1)]
SETTINGS = [raw.query(text) + QUERY for text in (
    "RESET ALL", "DISCARD ALL", "SET work_mem = '5MB'", "SET search_path = public",
    "DO $$ BEGIN PERFORM 2; END $$")]
FORGERIES = [raw.query(text) + QUERY for text in (
    "SET app.current_business_id = 'id-7919'", "RESET ALL; SELECT * FROM ledger",
    "SELECT set_config('app.current_business_id', 'id-7919', false)",
    "SET LOCAL app.\"current_business_id\" = 'id-7919'")]


def simple(_):
    return QUERY, 1, 1


def several(_):
    return SEVERAL, 1, 2


def extended(_):
    return BATCH + SYNC, 1, 1


def named(rng):
    return rng.choice(NAMED), 1, 1


def pipeline(rng):
    n = rng.randrange(4, 16)
    return (BATCH + SYNC) * n, n, n


def pipelined_queries(rng):
    n = rng.randrange(2, 8)
    return QUERY * n, n, n


def block(rng):
    return BEGIN + QUERY + BATCH + SYNC + rng.choice([COMMIT, ROLLBACK]), 4, 2


def failing(rng):
    return rng.choice(FAILURES)


def settings(rng):
    return rng.choice(SETTINGS), 2, 1


def forging(rng):
    return rng.choice(FORGERIES), 2, 1


def slow(_):
    return SLOW, 2, 1


# --- of a session that chooses its tenant: also whose each check has to be ----------------------
CALL = "SELECT set_config('app.current_business_id', $1, true)"


def said_locally(rng, _):
    """What applications do today, in both protocols."""
    own, end = id_of(rng.randrange(TENANTS)), rng.choice([COMMIT, ROLLBACK])
    choose = batch(CALL, own) + SYNC if rng.random() < 0.5 else \
        raw.query(f"SET LOCAL app.current_business_id = '{own}'")
    return BEGIN + choose + QUERY + BATCH + SYNC + end, 5, [own, own]


def said_for_good(rng, session):
    before, session.chosen = session.chosen, id_of(rng.randrange(TENANTS))
    undone = rng.random() < 0.3
    data = raw.query(f"SET app.current_business_id = '{session.chosen}'") + QUERY
    if not undone:
        return data + BATCH + SYNC, 3, [session.chosen] * 2
    own, session.chosen = session.chosen, before
    data = BEGIN + data + ROLLBACK
    return data + (QUERY if before else b""), 5 if before else 4, \
        [own, before] if before else [own]


def commented(rng, _):
    owns = [id_of(rng.randrange(TENANTS)) for _ in range(rng.randrange(1, 6))]
    texts = [f"{CHECK} /*business_id='{own}'*/" for own in owns]
    return b"".join(raw.query(text) if rng.random() < 0.5 else batch(text) + SYNC
                    for text in texts), \
        len(owns), owns


def said_too_late(rng, session):
    """25001: a transaction's tenant is fixed by its first statement."""
    own, other = id_of(1), id_of(2)
    return (BEGIN + raw.query(f"SET LOCAL app.current_business_id = '{own}'") + QUERY
            + raw.query(f"SET LOCAL app.current_business_id = '{other}'") + QUERY
            + ROLLBACK), 6, [own]


CHOOSING = [said_locally, said_locally, said_for_good, commented, said_too_late]


REQUESTS = [simple, several, extended, named, pipeline, pipeline, pipelined_queries, block, failing,
            settings, forging, slow]


# --- clients ------------------------------------------------------------------------------------
HEADER = struct.Struct("!BI")  # type and length, which counts itself
READY, DATA_ROW = ord("Z"), ord("D")
# Of a DataRow with as many columns as a check has.
CHECK_ROW = struct.pack("!h", 4)


def row_of(own):
    """The DataRow, without its header, that a check of this tenant's has to give."""
    return raw.data_row(own, ROWS_EACH, own, own)[HEADER.size:]


class Client(raw.RawClient):
    """One that reads what has come, not a message at a time."""

    rest = b""  # has come, and has not been asked for

    def _read_more(self):
        piece = self.sock.recv(65536)
        if not piece:
            raise EOFError("closed in an answer")
        self.rest += piece

    def receive(self, size):
        while len(self.rest) < size:
            self._read_more()
        data, self.rest = self.rest[:size], self.rest[size:]
        return data

    def check_rows(self, cycles):
        """The DataRows of checks, up to so many ReadyForQuery."""
        at, rows = 0, []
        while cycles:
            while len(self.rest) < at + HEADER.size or \
                    len(self.rest) < at + 1 + (size := HEADER.unpack_from(self.rest, at)[1]):
                self._read_more()
            kind = self.rest[at]
            if kind == DATA_ROW and self.rest.startswith(CHECK_ROW, at + HEADER.size):
                rows.append(self.rest[at + HEADER.size:at + 1 + size])
            cycles -= kind == READY
            at += 1 + size
        self.rest = self.rest[at:]
        return rows


class Player:
    """One connection after the other, each of another tenant."""

    def __init__(self, port, rng):
        self.port, self.rng, self.client = port, rng, None
        self.own = self.chosen = None

    def log_in(self):
        """As a tenant, or as a user that says with each request whose it is."""
        tenant = self.rng.randrange(TENANTS)
        self.own = id_of(tenant) if self.rng.random() < 0.5 else None
        self.chosen = None
        self.client = Client(self.port, timeout=60.0)
        self.client.login(f"{USER}.t{tenant}" if self.own else CHOOSER, DATABASE)

    def request(self):
        """Bytes, how many ReadyForQuery they end with, and whose rows its checks may show."""
        if not self.own:
            return self.rng.choice(CHOOSING)(self.rng, self)
        data, cycles, checks = self.rng.choice(REQUESTS)(self.rng)
        return data, cycles, [self.own] * checks

    def drop(self):
        if self.client:
            self.client.close()
        self.client = None

    def play(self, count):
        """One request; its rows are counted as own or foreign."""
        if self.client and self.rng.random() < 1 / SESSION_REQUESTS:
            self.drop()
        if not self.client:
            self.log_in()
        data, cycles, owners = self.request()
        self.client.send(data)
        rows = self.client.check_rows(cycles)
        count["statements"] += len(owners)
        # A check that was cancelled or killed has none: those that came are in order.
        wanted = map(row_of, owners)
        for row in rows:
            count["own" if row in wanted else "foreign"] += 1


def play_thread(port, seed, players, until, count, keys):
    rng = random.Random(seed)
    mine = [Player(port, rng) for _ in range(players)]
    while time.monotonic() < until:
        player = rng.choice(mine)
        try:
            player.play(count)
            keys[id(player)] = player.client
        except (OSError, EOFError, raw.LoginRefused):
            count["connections lost"] += 1
            player.drop()
    for player in mine:
        player.drop()


def cancel_thread(until, keys, seed, count):
    """Cancels of anybody at any time: many reach a server while it is given its id."""
    rng = random.Random(seed)
    while time.monotonic() < until:
        clients = [c for c in list(keys.values()) if c]
        time.sleep(0.002)  # a rate, and no wait for anything
        if not clients:
            continue
        try:
            rng.choice(clients).cancel()
            count["cancels"] += 1
        except (OSError, TypeError):
            pass


def process(port, seed, until, results):
    count, keys = Counter(), {}
    threads = [threading.Thread(target=play_thread, args=(
        port, f"{seed}.{i}", CLIENTS // PROCESSES // THREADS, until, count, keys))
        for i in range(THREADS)]
    threads.append(threading.Thread(target=cancel_thread, args=(until, keys, seed, count)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(dict(count))


# --- the stage ----------------------------------------------------------------------------------
def prepare(primary):
    primary.role(CHOOSER, PASSWORD)
    for statement in [
            "CREATE TABLE ledger (business_id text, n int)",
            f"INSERT INTO ledger SELECT 'id-' || (t::bigint * 7919 % 1000003), n FROM"
            f" generate_series(0, {TENANTS - 1}) t, generate_series(1, {ROWS_EACH}) n",
            "CREATE INDEX ON ledger (business_id)",
            "ALTER TABLE ledger ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY own ON ledger USING (business_id ="
            " current_setting('app.current_business_id', true))",
            f"GRANT ALL ON ledger TO {USER}, {CHOOSER}"]:
        primary.sql(statement, dbname=DATABASE)
    primary.sql("ANALYZE ledger", dbname=DATABASE)


def configuration(primary):
    return {"pgturnstile": {"pool_mode": "transaction", "default_pool_size": SERVERS, "workers": 2,
                            "max_db_connections": SERVERS,
                            "auth_type": "trust", "max_client_conn": 4 * CLIENTS,
                            "tenant_by": "user_suffix, set, comment", "tenant_pool": "shared"},
            "users": {CHOOSER: {"tenant_switch": "yes"}},
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}},
            "tiers": {"standard": {"statement_timeout": "30s"},
                      "large": {"statement_timeout": "50s"}},
            "tenants": {f"t{n}": {"tier": "large" if n % 10 == 0 else "standard",
                                  "business_id": id_of(n)} for n in range(TENANTS)}}


def disturb(primary, pooler, until, count):
    """A server process killed every 100 ms, a RELOAD now and then; the most sessions seen."""
    with primary.connect("postgres") as connection:
        while time.monotonic() < until:
            n, = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename IN (%s, %s)",
                                    [USER, CHOOSER]).fetchone()
            count["sessions"] = max(count["sessions"], n)
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                               " WHERE usename IN (%s, %s) ORDER BY random() LIMIT 1",
                               [USER, CHOOSER])
            count["kills"] += 1
            if count["kills"] % 20 == 0:
                pooler.admin("RELOAD")
                count["reloads"] += 1
            time.sleep(0.1)


def main():
    table, seed = Table(), os.environ.get("PGT_SEED", "1")
    with Stage() as stage:
        primary = stage.primary()
        prepare(primary)
        pooler = stage.turnstile(configuration(primary), {CHOOSER: PASSWORD})
        until = time.monotonic() + SECONDS
        results = multiprocessing.Queue()
        players = [multiprocessing.Process(target=process,
                                           args=(pooler.port, f"{seed}.{i}", until, results))
                   for i in range(PROCESSES)]
        for player in players:
            player.start()
        count = Counter()
        disturb(primary, pooler, until, count)
        for _ in players:
            count.update(results.get(timeout=120))
        for player in players:
            player.join()
        print(dict(count), flush=True)
        table.add("foreign rows or ids", 0,
                  f"{count['foreign']} in {count['own'] + count['foreign']} rows",
                  not count["foreign"] and count["own"])
        table.add("statements that ask", "500,000", count["statements"],
                  count["statements"] >= 500_000 * SECONDS / 60)
        table.add("sessions on the server", f"≤ {SERVERS}", count["sessions"],
                  count["sessions"] <= SERVERS)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
