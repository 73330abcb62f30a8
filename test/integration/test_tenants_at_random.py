# SPDX-License-Identifier: ISC
#
# test_tenants_at_random.py - I1 on every path at once: what a session may send, and what may happen
# to it meanwhile, both at random.
#
# A short one of its kind, with more paths than test/long/shared.py, which counts.  Each statement
# says under whose id it has run, and what is written keeps that.
import contextlib
import os
import random
import struct
import threading
import time
from collections import Counter

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from tenancy import SETTING, make_ledger, tenants
from waiting import wait_until

TABLE, WRITTEN, KNOWN, WHOSE = "mixed_ledger", "mixed_written", "mixed_known", "mixed_whose"
CHOOSER, ASKER, PASSWORD = "mixed_chooser", "mixed_asker", "mixed-password"
NAMES = {f"m{n}": f"id-{n * 7919 % 1009}" for n in range(12)}
# Those of tenant_query; the others stand in the file.
ASKED = [name for name in NAMES if int(name[1:]) % 3 == 0]
ROWS_EACH = 3
# So many answers that say whose they are, with a disturbance for each five.
MARKS = int(os.environ.get("PGT_MARKS", "400"))

CHECK = f"SELECT current_setting('{SETTING}'), count(*), min(business_id), max(business_id) FROM {TABLE}"
COPY_OUT = f"COPY ({CHECK}) TO STDOUT"
COPY_IN = f"COPY {WRITTEN} (business_id) FROM STDIN"
CALL = f"SELECT set_config('{SETTING}', $1, true)"


@pytest.fixture(scope="module")
def mixed(primary):
    for role in CHOOSER, ASKER:
        primary.role(role, PASSWORD)
    make_ledger(primary, tuple(NAMES.values()), TABLE)
    with primary.connect(APP_DATABASE) as connection:
        for statement in [
                f"CREATE TABLE {WRITTEN} (business_id text, who text DEFAULT current_setting('{SETTING}'))",
                f"CREATE FUNCTION {WHOSE}() RETURNS text LANGUAGE sql STABLE AS"
                f" $$ SELECT current_setting('{SETTING}') $$",
                f"CREATE TABLE {KNOWN} (tenant text, business_id text, tier text)",
                f"GRANT ALL ON {TABLE}, {WRITTEN} TO {APP_USER}, {CHOOSER}",
                f"GRANT SELECT ON {KNOWN} TO {ASKER}"]:
            connection.execute(statement)
        for name in ASKED:
            connection.execute(f"INSERT INTO {KNOWN} VALUES (%s, %s, 'basic')", [name, NAMES[name]])
    return primary


def configuration(server, settings):
    return tenants(server, {
        "tenant_pool": "shared", "default_pool_size": 3, "workers": 2, "query_wait_timeout": "20s",
        "tenant_by": ["user_suffix", "set", "comment"], "monitor_user": ASKER,
        "monitor_password": PASSWORD, "tenant_refresh": "1h",
        "tenant_query": f"SELECT tenant, business_id, tier FROM {KNOWN}", **settings},
        tiers={"basic": {"statement_timeout": "30s"}, "other": {"statement_timeout": "20s"}},
        changes={"users": {CHOOSER: {"tenant_switch": "yes"}},
                 "tenants": {"acme": None, "globex": None, "initech": None,
                             **{name: {"tier": "basic", "business_id": NAMES[name]}
                                for name in NAMES if name not in ASKED}}})


# --- what is sent: bytes, and how many ReadyForQuery they end with ------------------------------
def batch(text, *values, portal=""):
    return raw.parse("", text) + raw.bind(portal, "", values) + raw.execute(portal)


def call(oid):
    return raw.message("F", struct.pack("!ihhh", oid, 0, 0, 0))


def copy_in(own, end=raw.copy_done()):
    return raw.query(COPY_IN) + raw.copy_data(f"{own}\n") + end


STATEMENTS = [
    lambda rng, own, oid: (raw.query(CHECK), 1),
    lambda rng, own, oid: (raw.query(f"{CHECK}; SELECT 2; {CHECK}"), 1),
    lambda rng, own, oid: (batch(CHECK) + raw.sync(), 1),
    lambda rng, own, oid: (batch(CHECK, portal="p") + batch(CHECK) + raw.flush() + raw.sync(), 1),
    lambda rng, own, oid: (raw.close("S", "s") + raw.parse("s", CHECK) + raw.sync()
                           + raw.bind("", "s") + raw.execute() + raw.sync(), 2),
    lambda rng, own, oid: ((batch(CHECK) + raw.sync()) * 4 + raw.query(CHECK), 5),
    lambda rng, own, oid: (call(oid), 1),
    lambda rng, own, oid: (call(oid) * 3 + raw.query(CHECK), 4),
    lambda rng, own, oid: (raw.query(COPY_OUT), 1),
    lambda rng, own, oid: (copy_in(own) + raw.query(CHECK), 2),
    lambda rng, own, oid: (copy_in(own, raw.copy_fail("no")) + raw.query(CHECK), 2),
    lambda rng, own, oid: (raw.query(f"INSERT INTO {WRITTEN} VALUES ('{own}')"), 1),
    lambda rng, own, oid: (batch(f"INSERT INTO {WRITTEN} VALUES ($1)", own) + raw.sync(), 1),
    lambda rng, own, oid: (raw.query("SELECT pg_sleep(0.005)") + raw.query(CHECK), 2),
    lambda rng, own, oid: (batch("SELECT 1/0") + batch(CHECK) + raw.sync() + raw.query(CHECK), 2),
]
# Of sessions whose tenant stays: what touches the session itself.
WITHIN = [
    "RESET ALL", "DISCARD ALL", "SET work_mem = '5MB'", "SET statement_timeout = '7s'",
    "DO $$ BEGIN PERFORM 2; END $$", f"DO $$ BEGIN EXECUTE 'RESET ' || '{SETTING}'; END $$",
    f"DO $$ BEGIN PERFORM set_config('app.current_' || 'business_id', 'id-0', false); END $$",
    "LISTEN mixed", "UNLISTEN *",
    f"SET {SETTING} = 'id-0'", f"SELECT set_config('{SETTING}', 'id-0', false)",
    f"RESET {SETTING}", "VACUUM mixed_ledger", "RESET SESSION AUTHORIZATION"]
PINS = "CREATE TEMP TABLE IF NOT EXISTS mine (n int)"


def block(rng, own, oid, begin=b"", nbegin=0):
    """A transaction: some statements, maybe a savepoint and an error, and an end."""
    data, n = raw.query("BEGIN") + begin, 1 + nbegin
    for _ in range(rng.randrange(1, 4)):
        more, cycles = rng.choice(STATEMENTS)(rng, own, oid)
        data, n = data + more, n + cycles
        if rng.random() < 0.3:
            data += raw.query("SAVEPOINT a") + raw.query("SELECT 1/0") + raw.query("ROLLBACK TO a")
            n += 3
    end = rng.choice(["COMMIT", "ROLLBACK"])
    data += rng.choice([raw.query(end), batch(end) + raw.sync()])
    return data, n + 1


class Player:
    """One session after the other, each of another tenant, or of one that says whose it is."""

    def __init__(self, pooler, rng, oid):
        self.pooler, self.rng, self.oid = pooler, rng, oid
        self.client = self.own = None

    def log_in(self):
        name = self.rng.choice(list(NAMES))
        self.own = NAMES[name] if self.rng.random() < 0.6 else None
        self.client = raw.RawClient(self.pooler.port, self.pooler.host, 40.0)
        self.client.login(f"{APP_USER}.{name}" if self.own else CHOOSER, APP_DATABASE,
                          APP_PASSWORD if self.own else PASSWORD)

    def drop(self):
        if self.client:
            self.client.close()
        self.client = None

    def request(self):
        """Bytes, how many ReadyForQuery, whose marks they may bring."""
        rng = self.rng
        own = self.own or rng.choice(list(NAMES.values()))
        if not self.own:
            if rng.random() < 0.3:
                return rng.choice([raw.query, lambda t: batch(t) + raw.sync()])(
                    f"{CHECK} /*business_id='{own}'*/"), 1, own
            choose = rng.choice([batch(CALL, own) + raw.sync(),
                                 raw.query(f"SET LOCAL {SETTING} = '{own}'")])
            return *block(rng, own, self.oid, choose, 1), own
        if rng.random() < 0.3:
            return *block(rng, own, self.oid), own
        data, n = rng.choice(STATEMENTS)(rng, own, self.oid)
        if rng.random() < 0.3:
            data, n = raw.query(rng.choice(WITHIN)) + data, n + 1
        elif rng.random() < 0.1:  # keeps its server for so long
            data, n = raw.query(PINS) + data + raw.query("DISCARD TEMP"), n + 2
        return data, n, own

    def play(self, count):
        if self.client and self.rng.random() < 0.1:
            self.drop()
        if not self.client:
            self.log_in()
        data, cycles, own = self.request()
        self.client.send(data)
        for message in (m for _ in range(cycles) for m in self.client.until("Z")):
            mark = mark_of(message)
            if mark:
                good = mark in ((own,), (own, str(ROWS_EACH), own, own))
                count["own" if good else f"foreign: {mark} for {own} after {data!r}"] += 1


def mark_of(message):
    """Whose id a message tells, with the rows that were seen under it, or None."""
    if message.kind == "D" and len(message.row) == 4:
        return message.row
    if message.kind == "d":
        return tuple(message.body.decode().strip().split("\t"))
    if message.kind == "V":
        return (message.body[4:].decode(),) if message.number >= 0 else None
    return None


# --- what happens meanwhile -----------------------------------------------------------------------
class Disturber:
    def __init__(self, server, pooler, rng, players):
        self.server, self.pooler, self.rng, self.players = server, pooler, rng, players
        self.gone = set()

    def cancel(self):
        client = self.rng.choice(self.players).client
        with contextlib.suppress(OSError, EOFError, TypeError):
            if client:
                client.cancel()

    def kill(self):
        self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN"
                        f" ('{APP_USER}', '{CHOOSER}') ORDER BY random() LIMIT 1")

    def reload(self):
        name = self.rng.choice([name for name in NAMES if name not in ASKED])
        self.pooler.reload({
            "tiers": {"basic": {"statement_timeout": self.rng.choice(["25s", "30s"])}},
            "tenants": {name: {"tier": self.rng.choice(["basic", "other"]),
                               "business_id": NAMES[name]}}})

    def forget_or_learn(self):
        """tenant_query gives one tenant less, or one that it has not given any more."""
        name = self.rng.choice(ASKED)
        if name in self.gone:
            self.server.sql(f"INSERT INTO {KNOWN} VALUES ('{name}', '{NAMES[name]}', 'basic')",
                            dbname=APP_DATABASE)
        else:
            self.server.sql(f"DELETE FROM {KNOWN} WHERE tenant = '{name}'", dbname=APP_DATABASE)
        self.gone ^= {name}
        self.server.sql("NOTIFY pgturnstile_tenants", dbname=APP_DATABASE)

    def stop_tenant(self):
        """Both hold it until it is resumed.  One that nobody knows any more is not held."""
        name = self.rng.choice(list(NAMES))
        with contextlib.suppress(psycopg.Error):
            self.pooler.admin(f"{self.rng.choice(['KILL', 'PAUSE'])} TENANT {name}")
            self.pooler.admin(f"RESUME TENANT {name}")

    def one(self):
        self.rng.choice([self.cancel] * 12 + [self.kill, self.kill, self.reload,
                                              self.forget_or_learn, self.stop_tenant,
                                              self.stop_tenant])()


def play(players, rng, until, count):
    while not until.is_set():
        player = rng.choice(players)
        try:
            player.play(count)
        except TimeoutError:
            count["hangs"] += 1
            return
        except (OSError, EOFError, raw.LoginRefused):
            count["connections lost"] += 1
            player.drop()
    for player in players:
        player.drop()


VARIANTS = {
    "plain": {}, "checked": {"tenant_context_check": "on_release"}, "early": {"early_commit": "yes"},
    "hasty": {"server_lifetime": 1, "backend_pid": "server", "answer_locally": "no"}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_i1_whatever_is_sent_and_whatever_happens(mixed, turnstile, variant):
    seed = f"{variant} {time.time_ns()}"
    rng, until, count = random.Random(seed), threading.Event(), Counter()
    pooler = turnstile(configuration(mixed, VARIANTS[variant]), {CHOOSER: PASSWORD})
    wait_until(lambda: len(pooler.admin("SHOW TENANTS")) == len(NAMES))
    oid = mixed.value(f"SELECT '{WHOSE}'::regproc::oid", dbname=APP_DATABASE)
    teams = [[Player(pooler, random.Random(f"{seed} {team} {n}"), oid) for n in range(6)]
             for team in range(3)]
    threads = [threading.Thread(target=play, args=(team, random.Random(f"{seed} {n}"), until, count))
               for n, team in enumerate(teams)]
    disturber = Disturber(mixed, pooler, rng, sum(teams, []))
    for thread in threads:
        thread.start()
    try:
        for goal in range(0, MARKS, 5):
            disturber.one()
            wait_until(lambda: count["own"] >= goal or not any(t.is_alive() for t in threads),
                       timeout=60)
    finally:
        until.set()
        for thread in threads:
            thread.join()
        for name in list(disturber.gone):
            mixed.sql(f"INSERT INTO {KNOWN} VALUES ('{name}', '{NAMES[name]}', 'basic')",
                      dbname=APP_DATABASE)
    assert not [what for what in count if what.startswith("foreign")], (seed, count)
    assert not count["hangs"], (seed, count)
    assert mixed.value(f"SELECT count(*) FROM {WRITTEN} WHERE who <> business_id",
                       dbname=APP_DATABASE) == 0, seed
    assert mixed.value(f"SELECT count(*) FROM {WRITTEN}", dbname=APP_DATABASE) > 0
