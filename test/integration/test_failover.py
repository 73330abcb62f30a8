# SPDX-License-Identifier: ISC
#
# test_failover.py - nodes come and go under load, and tenants and prepared statements on replicas.
"""`port` tells who answered; what fails is counted, never ignored."""
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import raw
from cluster import Postgres
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop
from tenancy import ROWS_EACH, SETTING, TENANTS, enter, errors, make_ledger, show, tenants
from waiting import wait_until

WHERE = "SELECT current_setting('test.port')"
WRITE = "INSERT INTO moved VALUES (current_setting('test.port')) RETURNING port"


def nodes(*servers):
    return {"host": ",".join(s.host for s in servers), "port": ",".join(str(s.port) for s in servers)}


MONITOR = {"monitor_user": APP_USER, "monitor_interval": "200ms", "server_login_retry": "200ms",
           "read_your_writes": "off"}


@pytest.fixture(scope="module")
def pair():
    """Servers of this module's own, since it stops them."""
    primary = Postgres.primary("first")
    primary.role(APP_USER, APP_PASSWORD)
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    primary.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    primary.sql("CREATE TABLE moved (port text)", dbname=APP_DATABASE, user=APP_USER,
                password=APP_PASSWORD)
    make_ledger(primary)
    replica = Postgres.replica_of(primary, "second")
    replica.wait_caught_up(primary)
    yield primary, replica
    replica.remove()
    primary.remove()


def pooler_of(turnstile, servers, settings=None):
    return turnstile(shop(servers[0], {**MONITOR, **(settings or {})}, nodes(*servers)))


def answered_by(messages):
    assert not errors(messages), raw.find(messages, "E")[0].fields
    return int(raw.find(messages, "D")[-1].row[0])


def wait_for(client, node, text=WHERE):
    wait_until(lambda: answered_by(client.query(text)) == node.port, 30, f"{text} on {node.name}")


# --- what goes to a replica --------------------------------------------------------------------
def test_prepared_statements_go_where_their_text_may(pair, turnstile):
    primary, replica = pair
    with log_in(pooler_of(turnstile, pair)) as client:
        wait_for(client, replica)
        client.send(raw.parse("r", WHERE), raw.parse("w", WRITE), raw.sync())
        assert not errors(client.until("Z"))
        for _ in range(3):
            for name, node in (("r", replica), ("w", primary), ("r", replica)):
                client.send(raw.bind("", name), raw.execute(), raw.sync())
                assert answered_by(client.until("Z")) == node.port
        client.rows("BEGIN READ ONLY")
        client.send(raw.bind("", "r"), raw.execute(), raw.sync())
        assert answered_by(client.until("Z")) == replica.port
        client.send(raw.bind("", "w"), raw.execute(), raw.sync())
        assert errors(client.until("Z")) == ["25006"]
        client.rows("ROLLBACK")
        client.rows("BEGIN")
        client.send(raw.bind("", "r"), raw.execute(), raw.sync())
        assert answered_by(client.until("Z")) == primary.port
        client.rows("COMMIT")


def test_more_forms_of_reads(pair, turnstile):
    _, replica = pair
    with log_in(pooler_of(turnstile, pair)) as client:
        wait_for(client, replica)
        assert answered_by(client.query(f"SELECT 1; {WHERE}; {WHERE}")) == replica.port
        copied = client.query(f"COPY ({WHERE}) TO STDOUT")
        assert raw.find(copied, "d")[0].body == b"%d\n" % replica.port
        assert answered_by(client.query("SHOW test.port")) == replica.port
        client.rows("BEGIN READ ONLY")
        client.rows(f"DECLARE c CURSOR FOR {WHERE}")
        assert answered_by(client.query("FETCH c")) == replica.port
        client.rows("COMMIT")
        client.send(*[raw.parse("", WHERE) + raw.bind() + raw.execute() + raw.sync()] * 5)
        assert {answered_by(client.until("Z")) for _ in range(5)} == {replica.port}


@pytest.mark.tsan
def test_i1_tenants_on_a_replica(pair, turnstile):
    """The context and the ceiling stand in the startup packets for every node."""
    primary, replica = pair
    config = tenants(primary, MONITOR, {"basic": {"statement_timeout": "15s"}},
                     {"databases": {APP_DATABASE: nodes(primary, replica)}})
    t = turnstile(config)
    clients = {tenant: enter(t, tenant) for tenant in TENANTS}
    for tenant, client in clients.items():
        wait_for(client, replica)
        own = [(TENANTS[tenant],)] * ROWS_EACH
        for text in ("SELECT business_id FROM ledger", "/* route: primary */ SELECT business_id FROM ledger"):
            assert client.rows(text) == own
            assert [m.row for m in raw.find(client.prepared(text), "D")] == own
        client.rows("BEGIN READ ONLY")
        assert answered_by(client.query(WHERE)) == replica.port
        assert (show(client, SETTING), show(client, "statement_timeout")) == (TENANTS[tenant], "15s")
        assert errors(client.query(f"SET LOCAL {SETTING} = 'x'")) == ["42501"]
        client.rows("ROLLBACK")
    for client in clients.values():
        client.close()


# --- nodes come and go ---------------------------------------------------------------------------
class Reader(threading.Thread):
    """Reads until told to stop; logs in again when its connection is closed."""

    def __init__(self, pooler):
        super().__init__(daemon=True)
        self.pooler, self.stopped = pooler, threading.Event()
        self.answered, self.errors, self.seen = 0, [], set()

    def run(self):
        while not self.stopped.is_set():
            try:
                with log_in(self.pooler) as client:
                    self.read(client)
            except (EOFError, ConnectionError, raw.LoginRefused) as error:
                self.errors.append(repr(error))

    def read(self, client):
        while not self.stopped.is_set():
            messages = client.query(WHERE)
            if state := errors(messages):
                self.errors += state
            else:
                self.seen.add(answered_by(messages))
                self.answered += 1


@contextlib.contextmanager
def reading(pooler, count):
    """`count` readers under way."""
    readers = [Reader(pooler) for _ in range(count)]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stopped.set()
        for reader in readers:
            reader.join()


def progress(readers, count=20):
    """Return once each of them has got `count` more answers."""
    before = [reader.answered for reader in readers]
    wait_until(lambda: all(r.answered >= b + count for r, b in zip(readers, before)), 30,
               lambda: f"answers {before}, {[(r.answered, r.errors) for r in readers]}")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_replica_goes_and_comes_back(pair, turnstile, how):
    """No client loses more than the statement that was under way, nobody waits for the dead."""
    primary, replica = pair
    t = pooler_of(turnstile, pair)
    with log_in(t) as client:
        wait_for(client, replica)
    with reading(t, 8) as readers:
        progress(readers)
        getattr(replica, how)()
        try:
            progress(readers)
            wait_until(lambda: "down" in [n["role"] for n in t.admin("SHOW NODES")])
            for reader in readers:
                reader.seen.clear()
            progress(readers)
            assert all(reader.seen == {primary.port} for reader in readers)
        finally:
            replica.start()
        wait_until(lambda: all(replica.port in reader.seen for reader in readers), 30)
    assert all(len(reader.errors) <= 1 for reader in readers), [r.errors for r in readers]
    told = [(e["kind"], e["level"]) for e in t.admin("SHOW EVENTS")
            if e["node"] == f"{replica.host}:{replica.port}" and e["database"] == APP_DATABASE]
    assert [told[0], told[-1]] == 2 * [("node_up", "LOG")] and ("node_down", "WARNING") in told


def write_once(pooler):
    with log_in(pooler, timeout=40) as client:
        return answered_by(client.query(WRITE))


@pytest.mark.slow
def test_a_promoted_replica_is_the_primary(turnstile):
    """Roles are asked for: writes follow the promotion, the old primary may be gone for good."""
    primary = Postgres.primary("old")
    primary.role(APP_USER, APP_PASSWORD)
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    primary.sql(f"CREATE DATABASE {APP_DATABASE} OWNER {APP_USER}")
    primary.sql("CREATE TABLE moved (port text)", dbname=APP_DATABASE, user=APP_USER,
                password=APP_PASSWORD)
    replica = Postgres.replica_of(primary, "new")
    try:
        replica.wait_caught_up(primary)
        t = pooler_of(turnstile, (primary, replica))
        with log_in(t) as client:
            wait_for(client, replica)
            assert answered_by(client.query(WRITE)) == primary.port
            replica.wait_caught_up(primary)
        primary.kill()
        with ThreadPoolExecutor(1) as waiting:
            early = waiting.submit(write_once, t)
            replica.promote()
            assert early.result() == replica.port
        with log_in(t) as client:
            for _ in range(5):
                assert answered_by(client.query(WHERE)) == replica.port
                assert answered_by(client.query(WRITE)) == replica.port
            assert client.rows(f"SELECT count(*) FROM moved WHERE port = '{primary.port}'") == [("1",)]
        told = [(e["kind"], e["node"]) for e in t.admin("SHOW EVENTS")
                if e["kind"] in ("primary", "primary_lost", "node_down")]
        old, new = (f"{server.host}:{server.port}" for server in (primary, replica))
        assert told[0] == ("primary", old) and told[-1] == ("primary", new)
        assert {("node_down", old), ("primary_lost", "")} <= {*told[1:-1]}, told
    finally:
        replica.remove()
        primary.remove()
