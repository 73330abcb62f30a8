# SPDX-License-Identifier: ISC
#
# test_early_commit.py - early_commit: the COMMIT of a transaction that only read is acknowledged
# while it is on its way (docs/adr/0020-the-habit-of-today.md).
#
# Between the pooler and the primary stands a door: while it is shut, the server hears nothing, so
# that what is answered then is answered without it.
import contextlib
import itertools
import socket
import struct
import threading

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import backends, clients, log_in, pid_of, pool_of, shop, sqlstate, wait_backends
from tenancy import SETTING, TENANTS, errors, show, tenants
from waiting import wait_until

ACME, GLOBEX = TENANTS["acme"], TENANTS["globex"]
TABLE = "early_rows"
# What is a read is known from the catalog.
MONITOR = {"monitor_user": "postgres", "monitor_interval": "200ms"}
READ = f"SELECT n FROM {TABLE} WHERE n = 1"
q, p, b, e, SYNC = raw.query, raw.parse, raw.bind, raw.execute, raw.sync()


@pytest.fixture(scope="module")
def table(primary):
    primary.sql(f"DROP TABLE IF EXISTS {TABLE}", dbname=APP_DATABASE)
    primary.sql(f"CREATE TABLE {TABLE} AS SELECT 1 AS n", dbname=APP_DATABASE)
    primary.sql(f"GRANT ALL ON {TABLE} TO {APP_USER}", dbname=APP_DATABASE)
    return primary


class Door:
    """A way to the primary; `shut` holds back what is said to it from then on, `open` lets it in."""

    def __init__(self, primary):
        self._primary, self._open, self._pairs = primary, threading.Event(), []
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self):
        self._open.clear()

    def open(self):
        self._open.set()

    def lose(self):
        """Every connection, as when a machine is gone."""
        for sock in itertools.chain(*self._pairs):
            with contextlib.suppress(OSError):  # one of them has gone already
                sock.shutdown(socket.SHUT_RDWR)
        self.open()

    def close(self):
        self.open()
        self._listener.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((self._primary.host, self._primary.port))
            self._pairs.append((near, far))
            for source, sink, waits in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._carry, args=(source, sink, waits), daemon=True).start()

    @staticmethod
    def _said(data):
        return data

    def _answered(self, data):
        return data

    def _carry(self, source, sink, waits):
        try:
            while data := source.recv(65536):
                if waits:
                    self._open.wait()
                    data = self._said(data)
                else:
                    data = self._answered(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


@pytest.fixture
def door(table):
    door = Door(table)
    yield door
    door.close()


def early(server, **settings):
    return shop(server, {"default_pool_size": 1, "workers": 1, "early_commit": "yes", **MONITOR, **settings})


def count(pooler):
    return next(r for r in pooler.admin("SHOW SAVINGS") if r["database"] == APP_DATABASE)["early_commits"]


def run(client, *texts):
    return [client.query(text) for text in texts][-1]


def read(client):
    return run(client, "BEGIN", READ, "COMMIT")


def warm_up(pooler, client):
    """The catalog is known, and a server has told what sessions begin with."""
    before = count(pooler)
    wait_until(lambda: read(client) and count(pooler) > before, what="an early COMMIT")


@pytest.fixture
def scene(door, turnstile):
    """A pooler, and a client whose COMMIT stands before a shut door, acknowledged."""
    t = turnstile(early(door))
    with log_in(t) as client:
        warm_up(t, client)
        run(client, "BEGIN", READ)
        before = count(t)
        door.shut()
        got = client.query("COMMIT")
        assert raw.kinds(got) == "CZ" and got[0].text == "COMMIT" and got[-1].body == b"I"
        assert count(t) == before + 1
        yield t, client, door
        door.open()


def test_i2_the_server_stays_its_clients_until_it_has_answered(scene):
    t, client, door = scene
    with log_in(t) as other:
        other.send(q(READ))
        wait_until(lambda: pool_of(t, "cl_waiting") == 1)
        assert pool_of(t, "sv_active") == 1
        door.open()
        assert raw.kinds(other.until("Z")) == "TDCZ"


@pytest.mark.parametrize("texts", [[READ], ["BEGIN", READ, "COMMIT"], ["BEGIN", READ, "ROLLBACK"],
                                   ["SELECT 1/0"], ["CREATE TEMP TABLE mine ()", "SELECT FROM mine"]])
def test_i3_the_next_request_goes_to_the_same_server(table, scene, texts):
    t, client, door = scene
    client.send(*(q(text) for text in texts))
    door.open()
    answers = [client.until("Z") for _ in texts]
    assert [errors(a) for a in answers] == [["22012"] if "/" in text else [] for text in texts]
    assert len(backends(table)) == 1 and answers[-1][-1].body == b"I"


def test_i3_a_write_behind_it_is_one_of_its_own(table, scene):
    t, client, door = scene
    client.send(q(f"INSERT INTO {TABLE} VALUES (2)"), q("BEGIN"), q(f"DELETE FROM {TABLE} WHERE n = 2"), q("ROLLBACK"))
    door.open()
    assert all(not errors(client.until("Z")) for _ in range(4))
    assert client.rows(f"DELETE FROM {TABLE} WHERE n = 2 RETURNING n") == [("2",)]


def test_i3_a_server_that_is_lost_then_is_nobodys_loss(scene):
    t, client, door = scene
    door.lose()
    wait_until(lambda: pool_of(t, "sv_active") == 0)
    assert client.rows(READ) == [("1",)]


def test_i3_a_server_that_is_terminated_then_is_nobodys_loss(table, scene):
    t, client, door = scene
    table.sql(f"SELECT pg_terminate_backend({backends(table)[0]})")
    wait_until(lambda: pool_of(t, "sv_active") == 0)
    door.open()
    assert client.rows(READ) == [("1",)]


def test_i3_a_server_that_is_lost_under_the_next_request(scene):
    t, client, door = scene
    client.send(q(f"INSERT INTO {TABLE} VALUES (3)"))
    wait_until(lambda: pool_of(t, "cl_active") == 1)
    door.lose()
    assert raw.find(client.until_closed(), "E")[0].fields["C"] == "08006"


def test_i7_a_cancel_meanwhile_hits_nothing(scene):
    t, client, door = scene
    client.cancel()
    client.send(q("SELECT n FROM early_rows, pg_sleep(0.2) WHERE n = 1"))
    door.open()
    assert not errors(client.until("Z"))
    assert client.rows(READ) == [("1",)]


def test_i7_a_cancel_of_the_next_request_does_not_hit_the_commit(table, scene):
    t, client, door = scene
    client.send(q("SELECT pg_sleep(30)"))
    door.open()
    wait_backends(table, 1, "wait_event = 'PgSleep'")
    client.cancel()
    assert sqlstate(client.until("Z")) == "57014"
    assert client.rows(READ) == [("1",)]


@pytest.mark.parametrize("how", ["terminate", "close", "reset"])
def test_i2_a_client_that_leaves_meanwhile_leaves_its_server(table, scene, how):
    t, client, door = scene
    pid = backends(table)
    if how == "terminate":
        client.send(raw.terminate())
        client.until_closed()
    else:
        getattr(client, how)()
    wait_until(lambda: pool_of(t, "cl_active") == 0)
    door.open()
    with log_in(t) as other:
        assert other.rows(READ) == [("1",)] and backends(table) == pid
        wait_backends(table, 1, "state = 'idle'")


# --- a COMMIT that fails -------------------------------------------------------------------------
class Spoiling(Door):
    """Spoils the name of the statement that is run as COMMIT, so that it fails and ends nothing."""

    spoils = False

    def _said(self, data):
        return data.replace(b"\0pgt_commit\0", b"\0pgt_commot\0") if self.spoils else data


@pytest.fixture
def spoiling(table):
    door = Spoiling(table)
    yield door
    door.close()


@pytest.mark.parametrize("behind", [None, [f"INSERT INTO {TABLE} VALUES (4)"],
                                    ["BEGIN", f"INSERT INTO {TABLE} VALUES (4)"]])
def test_i3_an_error_at_the_commit_is_nobodys(spoiling, turnstile, behind):
    """And nothing that was sent behind it runs in what is left of that transaction."""
    t = turnstile(early(spoiling))
    with log_in(t) as client:
        warm_up(t, client)
        pid = pid_of(client)
        run(client, "BEGIN", READ)
        spoiling.spoils = True
        spoiling.shut()
        client.send(q("COMMIT"), *(q(text) for text in behind or []))
        assert raw.kinds(client.until("Z")) == "CZ"
        spoiling.open()
        if behind:
            messages = client.until_closed()
            assert raw.find(messages, "E")[-1].fields["C"] == "08006"
        else:
            wait_until(lambda: pool_of(t, "sv_active") == 0)
        spoiling.spoils = False
        if not behind:
            assert pid_of(client) != pid
    with log_in(t) as other:
        assert other.rows(f"SELECT n FROM {TABLE} WHERE n = 4") == []


# --- which transactions --------------------------------------------------------------------------
@pytest.mark.parametrize("texts", [
    [READ], [READ, READ], ["SELECT count(*) FROM early_rows"], [f"WITH a AS ({READ}) SELECT * FROM a"]])
def test_what_only_reads(table, turnstile, texts):
    t = turnstile(early(table))
    with log_in(t) as client:
        warm_up(t, client)
        before = count(t)
        run(client, "BEGIN", *texts, "COMMIT")
        assert count(t) == before + 1


@pytest.mark.parametrize("texts", [
    ["BEGIN", f"INSERT INTO {TABLE} VALUES (5)", "COMMIT"],
    ["BEGIN", READ, f"DELETE FROM {TABLE} WHERE n = 5", READ, "COMMIT"],
    ["BEGIN", f"{READ} FOR UPDATE", "COMMIT"], ["BEGIN", f"{READ} FOR KEY SHARE", "COMMIT"],
    ["BEGIN", "SELECT pg_advisory_xact_lock(4711)", "COMMIT"], ["BEGIN", "SELECT random()", "COMMIT"],
    ["BEGIN", READ, "SET LOCAL work_mem = '5MB'", "COMMIT"], ["BEGIN", READ, "SET work_mem = '4MB'", "COMMIT"],
    ["BEGIN", READ, "SAVEPOINT a", READ, "COMMIT"], ["BEGIN", f"{READ}; {READ}", "COMMIT"],
    ["BEGIN", READ, "ROLLBACK"], ["BEGIN", READ, "SELECT 1/0", "COMMIT"], ["BEGIN", READ, "COMMIT AND CHAIN", "COMMIT"],
    ["BEGIN", READ, "COMMIT; SELECT 2"],
    ["BEGIN ISOLATION LEVEL SERIALIZABLE", READ, "COMMIT"],
    ["BEGIN ISOLATION LEVEL REPEATABLE READ", READ, "COMMIT"],
    ["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", READ, "COMMIT"],
    ["BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", READ, "COMMIT"],
    ["SET default_transaction_isolation = 'repeatable read'", "BEGIN", READ, "COMMIT",
     "RESET default_transaction_isolation"],
    ["BEGIN", "DECLARE c CURSOR FOR SELECT 2", "FETCH c", "COMMIT"], ["BEGIN", READ, "LISTEN early_news", "COMMIT"],
    ["BEGIN", "DO $$ BEGIN PERFORM 2; END $$", "COMMIT"], ["BEGIN", READ, "SELECT pg_notify('a', 'b')", "COMMIT"]])
def test_what_does_more(table, turnstile, texts):
    t = turnstile(early(table))
    with log_in(t) as client:
        warm_up(t, client)
        before = count(t)
        run(client, *texts)
        assert count(t) == before


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_role_that_begins_otherwise(table, turnstile, level):
    t = turnstile(early(table))
    with log_in(t) as client:
        warm_up(t, client)
        table.sql(f"ALTER ROLE {APP_USER} SET default_transaction_isolation = '{level}'")
        try:
            table.sql(f"SELECT pg_terminate_backend({pid_of(client)})")
            wait_until(lambda: pool_of(t, "sv_idle") == 0)
            before = count(t)
            for _ in range(3):
                read(client)
            assert count(t) == before
        finally:
            table.sql(f"ALTER ROLE {APP_USER} RESET default_transaction_isolation")


def test_off_by_default_and_by_database(table, turnstile):
    t = turnstile(early(table))
    with log_in(t) as client:
        warm_up(t, client)
        before = count(t)
        t.reload({"pgturnstile": {"early_commit": None}})
        read(client)
        assert count(t) == before
        t.reload({"databases": {APP_DATABASE: {"host": table.host, "port": table.port, "early_commit": "yes"}}})
        warm_up(t, client)


# --- sessions that choose their tenant -----------------------------------------------------------
def extended(client, text, *values):
    client.send(p("", text) + b("", "", values) + raw.describe("P") + e() + SYNC)
    return client.until("Z")


def test_i1_the_habit(door, turnstile):
    t = turnstile(tenants(door, {"tenant_by": "user_suffix, set", "tenant_pool": "shared", "workers": 1,
                                 "default_pool_size": 1, "no_tenant": "empty", "early_commit": "yes", **MONITOR},
                          None, {"users": {APP_USER: {"tenant_switch": "yes"}}}))
    who = f"SELECT current_setting('{SETTING}')"
    with log_in(t) as client, log_in(t) as nobody:
        warm_up(t, nobody)
        before = count(t)
        for business_id in (ACME, GLOBEX, ACME, GLOBEX):
            assert raw.kinds(extended(client, "BEGIN")) == "12nCZ"
            extended(client, f"SELECT set_config('{SETTING}', $1, true)", business_id)
            client.send(p("", who) + b() + e() + SYNC)
            door.open()
            assert raw.find(client.until("Z"), "D")[0].row == (business_id,)
            door.shut()
            got = extended(client, "COMMIT")
            assert raw.kinds(got) == "12nCZ" and got[-1].body == b"I"
        door.open()
        assert show(client, SETTING) == "" and show(nobody, SETTING) == ""
        assert count(t) == before + 4


def test_i1_what_is_refused_behind_it(door, turnstile):
    """It is answered while the COMMIT is on its way, in a transaction and outside of one."""
    t = turnstile(tenants(door, {"tenant_by": "user_suffix, set", "tenant_pool": "shared", "workers": 1,
                                 "default_pool_size": 1, "no_tenant": "empty", "early_commit": "yes", **MONITOR},
                          None, {"users": {APP_USER: {"tenant_switch": "yes"}}}))
    who = f"SELECT current_setting('{SETTING}')"
    forged = f"SELECT set_config(lower('{SETTING}'), '{ACME}', false)"
    with log_in(t) as client:
        warm_up(t, client)
        for begin in (None, "BEGIN"):
            extended(client, "BEGIN"), extended(client, f"SELECT set_config('{SETTING}', $1, true)", ACME)
            assert raw.find(extended(client, who), "D")[0].row == (ACME,)
            door.shut()
            assert raw.kinds(extended(client, "COMMIT")) == "12nCZ"
            if begin:
                extended(client, begin)
                extended(client, f"SELECT set_config('{SETTING}', $1, true)", GLOBEX)
            client.send(p("", forged) + b() + e() + p("", who) + b() + e() + SYNC)
            messages = client.until("Z")
            assert sqlstate(messages) == "42501" and messages[-1].body == (b"E" if begin else b"I")
            door.open()
            if begin:
                assert sqlstate(extended(client, who)) == "25P02"
                extended(client, "ROLLBACK")
            assert show(client, SETTING) == ""


# --- what a session may send behind one: no statement goes out unless its context goes ahead ------
WHO = f"SELECT current_setting('{SETTING}')"
FORGED = f"SELECT set_config(lower('{SETTING}'), '{ACME}', false)"
CHOOSERS = {"tenant_by": "user_suffix, set", "tenant_pool": "shared", "workers": 1, "default_pool_size": 1,
            "no_tenant": "empty", "early_commit": "yes", **MONITOR}
REFUSED_BATCH = p("", FORGED) + b() + e()
ASK_BATCH = p("", WHO) + b() + e() + SYNC
# Bytes, how many ReadyForQuery they end with, and whose the last answer is.
BEHIND = {
    "query": (q(WHO), 1, ""),
    "batch": (ASK_BATCH, 1, ""),
    "an empty query": (q("") + q(WHO), 2, ""),
    "a Sync": (SYNC + ASK_BATCH, 2, ""),
    "a Flush": (raw.flush() + ASK_BATCH, 1, ""),
    "a refused query": (q(FORGED) + q(WHO), 2, ""),
    "a refused batch": (REFUSED_BATCH + SYNC + ASK_BATCH, 2, ""),
    "a refused call": (raw.message("F", struct.pack("!ihhh", 2078, 0, 0, 0)) + ASK_BATCH, 2, ""),
    "what is left of a COPY": (raw.copy_data("1\n") + raw.copy_done() + ASK_BATCH, 1, ""),
    "a COPY that fails, and a refused batch": (raw.copy_fail("no") + REFUSED_BATCH + SYNC + ASK_BATCH, 2, ""),
    "the rest of a COPY, and a refused query": (raw.copy_done() + q(FORGED) + q(WHO), 2, ""),
    "a choice that stays": (q("BEGIN") + q(f"SET {SETTING} = '{GLOBEX}'") + q("COMMIT") + q(WHO), 4, GLOBEX),
    "a choice taken back": (q("BEGIN") + q(f"SET {SETTING} = '{GLOBEX}'") + q("ROLLBACK") + q(WHO), 4, ""),
    "a choice of the moment": (q(f"SET {SETTING} = '{GLOBEX}'") + q(WHO), 2, GLOBEX),
}


@pytest.mark.parametrize("what", BEHIND)
def test_i1_behind_it(door, turnstile, what):
    t = turnstile(tenants(door, CHOOSERS, None, {"users": {APP_USER: {"tenant_switch": "yes"}}}))
    sent, cycles, whose = BEHIND[what]
    for is_its_tenants in (False, True):
        with log_in(t) as client:
            warm_up(t, client)
            if is_its_tenants:
                run(client, f"SET {SETTING} = '{ACME}'", "SELECT 2", f"RESET {SETTING}")
            run(client, "BEGIN", f"SET LOCAL {SETTING} = '{ACME}'")
            assert client.rows(WHO) == [(ACME,)]
            door.shut()
            client.query("COMMIT")
            client.send(sent)
            assert count(t)  # what was sent before that has been read
            door.open()
            answers = [m for _ in range(cycles) for m in client.until("Z")]
            assert raw.find(answers, "D")[-1].row == (whose,)
            assert show(client, SETTING) == whose


def test_i1_a_choice_that_stays_on_a_server_that_stays(table, turnstile):
    """The same without an early COMMIT: a session that keeps its server."""
    t = turnstile(tenants(table, CHOOSERS | {"early_commit": "no"}, None,
                          {"users": {APP_USER: {"tenant_switch": "yes"}}}))
    with log_in(t) as client:
        run(client, "CREATE TEMP TABLE mine (n int)")
        run(client, "BEGIN", f"SET {SETTING} = '{GLOBEX}'", "COMMIT")
        assert client.rows(WHO) == [(GLOBEX,)]


class Talkative(Door):
    """Something comes behind each answer, as when a server is shut down just then."""

    NOTICE = raw.message("N", b"SNOTICE\0VNOTICE\0C00000\0Mmore\0\0")

    def _answered(self, data):
        return data + self.NOTICE if data.endswith(b"Z\0\0\0\5I") else data


def test_i1_a_server_that_says_more(table, turnstile):
    """What a session may have changed is looked at; what it asks next was here before the answer."""
    door = Talkative(table)
    t = turnstile(tenants(door, CHOOSERS))
    with log_in(t, f"{APP_USER}.acme") as client:
        for _ in range(5):
            client.send(q("DO $$ BEGIN PERFORM 2; END $$") + q(WHO))
            client.until("Z")
            assert raw.find(client.until("Z"), "D")[0].row == (ACME,)
    door.close()


def test_those_who_wait_get_their_turn(table, turnstile):
    """A client that reads on and on does not keep its server for itself."""
    t = turnstile(early(table))
    stop = threading.Event()

    def read_on():
        with log_in(t) as client:
            while not stop.is_set():
                client.send(q("BEGIN"), q(READ))
                client.until("Z"), client.until("Z")
                client.query("COMMIT")

    threads = [threading.Thread(target=read_on, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        with clients(t, 2) as pair:
            for client in pair * 5:
                assert client.rows(READ) == [("1",)]
        wait_until(lambda: count(t) > 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)
