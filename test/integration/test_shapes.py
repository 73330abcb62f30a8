# SPDX-License-Identifier: ISC
#
# test_shapes.py - where each shape of test/sql goes, with a real catalog: no write to a replica (I4).
"""What PostgreSQL's manual describes and what object mappers emit, each as reads and as writes."""
from pathlib import Path

import pytest

import raw
from conftest import APP_PASSWORD, APP_USER
from rig import log_in, wait_nodes
from tenancy import errors
from waiting import wait_until

SHAPES = Path(__file__).resolve().parents[1] / "sql"
DATABASE = "shapes"


def shapes(*names):
    lines = [line for name in names for line in (SHAPES / name).read_text().splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("--")]


READS = shapes("read_shapes.txt", "orm_reads.txt")
WRITES = shapes("write_shapes.txt", "orm_writes.txt")


@pytest.fixture(scope="module")
def database(primary, replica):
    primary.sql(f"CREATE DATABASE {DATABASE} OWNER {APP_USER}")
    primary.sql(f"GRANT pg_monitor TO {APP_USER}")
    with primary.connect(DATABASE, APP_USER, password=APP_PASSWORD) as connection:
        connection.execute((SHAPES / "objects.sql").read_text())
    replica.wait_caught_up(primary)
    yield primary, replica
    primary.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.fixture
def pooler(database, turnstile):
    primary, replica = database
    t = turnstile({
        "pgturnstile": {"pool_mode": "transaction", "server_tls_sslmode": "disable", "workers": 1,
                        "monitor_user": APP_USER, "max_replica_lag": 0,
                        "read_your_writes": "off"},
        "databases": {DATABASE: {"host": f"{primary.host},{replica.host}",
                                 "port": f"{primary.port},{replica.port}"}}})
    with log_in(t, dbname=DATABASE) as client:
        wait_nodes(t, "primary", "replica", database=DATABASE)
        wait_until(lambda: client.rows("SELECT current_setting('test.port')") == [(str(replica.port),)],
                   30, "reads reach the replica")
    yield t


def routes(t):
    """How often a transaction was sent to the replica, and how often in vain."""
    counts = {row["reason"]: row["count"] for row in t.admin("SHOW ROUTES")
              if row["database"] == DATABASE}
    return counts["read"], sum(n for reason, n in counts.items() if "rescued" in reason)


def run(t, sql, extended):
    with log_in(t, dbname=DATABASE, timeout=30) as client:
        if extended:
            values = ["1"] * max((n for n in range(10) if f"${n}" in sql), default=0)
            client.send(raw.parse("", sql), raw.bind(values=values), raw.execute(), raw.sync())
        else:
            client.send(raw.query(sql))
        messages = client.until("Z", "G")
        while messages[-1].kind == "G":
            client.send(raw.copy_fail("no data"), *([raw.sync()] if extended else []))
            messages += client.until("Z", "G")
        return messages


def for_protocol(texts, extended):
    """A Query has no parameters, a Parse no second statement."""
    return [s for s in texts if (";" not in s.rstrip("; ") if extended else "$1" not in s)]


def run_all(t, texts, extended):
    """Those that reached the replica, those that had to be rescued, those that failed."""
    read, rescued, failed = [], [], []
    before = routes(t)
    for sql in texts:
        failed += [sql] if errors(run(t, sql, extended)) else []
        now = routes(t)
        read += [sql] if now[0] > before[0] else []
        rescued += [sql] if now[1] > before[1] else []
        before = now
    return read, rescued, failed


def test_there_are_enough_of_them():
    assert len(set(READS) | set(WRITES)) >= 400


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_nearly_every_read_goes_to_the_replica(pooler, extended):
    texts = for_protocol(READS, extended)
    read, rescued, failed = run_all(pooler, texts, extended)
    assert not rescued and not failed
    missed = [sql for sql in texts if sql not in read]
    assert len(read) >= 0.97 * len(texts), missed


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_i4_no_write_goes_to_the_replica(pooler, extended):
    read, rescued, _ = run_all(pooler, for_protocol(WRITES, extended), extended)
    assert read == rescued == []
