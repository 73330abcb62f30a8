# SPDX-License-Identifier: ISC
#
# test_sequences.py - currval() and lastval() tell a session its own values or an error (I2).
"""One pool, several clients: what each is told of sequences."""
import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import clients, log_in, pid_of, shop, sqlstate


@pytest.fixture(autouse=True)
def tables(primary):
    with primary.connect(APP_DATABASE) as connection:
        for name in ("seq_one", "seq_two"):
            connection.execute(f"DROP TABLE IF EXISTS {name}")
            connection.execute(f"CREATE TABLE {name} (id serial, note text)")
            connection.execute(f"GRANT ALL ON {name}, {name}_id_seq TO {APP_USER}")
        connection.execute("SELECT setval('seq_two_id_seq', 1000)")


def insert(client, table="seq_one"):
    return client.rows(f"INSERT INTO {table} (note) VALUES ('x') RETURNING id")[0][0]


def asked(client, sql, extended=False):
    """The value, or the SQLSTATE."""
    messages = client.prepared(sql) if extended else client.query(sql)
    rows = [m.row for m in messages if m.kind == "D"]
    return rows[0][0] if rows else sqlstate(messages)


LASTVAL = "SELECT lastval()"
CURRVAL = "SELECT currval('seq_one_id_seq')"


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
@pytest.mark.parametrize("sql", [LASTVAL, CURRVAL])
def test_i2_never_the_value_of_another(primary, turnstile, sql, extended):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        insert(client)
        assert asked(other, sql, extended) == "55000"
        assert asked(other, sql, extended) == "55000"
        insert(client)
        assert asked(other, sql, extended) == "55000"


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_first_use_is_told_where_nobody_was_since(primary, turnstile, extended):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client:
        own = insert(client)
        assert asked(client, LASTVAL, extended) == own
        assert asked(client, CURRVAL, extended) == own


def test_first_use_goes_to_the_server_of_before(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 2}))
    with clients(t, 2) as (client, other):
        other.query("BEGIN")
        other.query("SELECT 1")
        own = insert(client)
        pid = pid_of(client)
        other.query("COMMIT")  # used last, so that it would be given out next
        assert asked(client, "SELECT lastval() || ' ' || pg_backend_pid()") == f"{own} {pid}"


def test_i2_own_insert_does_not_open_the_values_of_another(primary, turnstile):
    """lastval() is one's own; currval() of a sequence that only the other has used is nobody's."""
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        insert(other, "seq_one")
        own = insert(client, "seq_two")
        assert asked(client, LASTVAL) == own
        assert asked(client, CURRVAL) == "55000"


def test_lost_values_are_an_error_with_a_hint(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with clients(t, 2) as (client, other):
        insert(client)
        insert(other)
        messages = client.query(LASTVAL)
        error = next(m for m in messages if m.kind == "E")
        assert error.fields["C"] == "55000" and "sequence_state" in error.fields["H"]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_who_has_asked_keeps_its_server_from_its_next_insert_on(primary, turnstile, extended):
    t = turnstile(shop(primary, {"default_pool_size": 2}))
    with clients(t, 2) as (client, other):
        asked(client, LASTVAL, extended)
        for _ in range(3):
            own = insert(client)
            insert(other)
            assert asked(client, LASTVAL, extended) == own
            assert asked(client, CURRVAL, extended) == own
        assert [row["reason"] for row in t.admin("SHOW PINS")] == ["sequence"]
        client.query("DISCARD SEQUENCES")
        assert not t.admin("SHOW PINS")
        assert asked(client, LASTVAL) == "55000"


def test_in_one_transaction(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(t) as client:
        for _ in range(3):
            client.query("BEGIN")
            own = insert(client)
            assert asked(client, LASTVAL) == own
            client.query("COMMIT")
    with clients(t, 2) as (client, other):
        insert(other)
        client.query("BEGIN")
        own = insert(client)
        assert asked(client, LASTVAL) == own
        client.query("COMMIT")


def test_sequence_state_pin(primary, turnstile):
    t = turnstile(shop(primary, {"default_pool_size": 3, "sequence_state": "pin"}))
    with clients(t, 3) as everybody:
        for _ in range(3):
            own = [insert(client) for client in everybody]
            assert [asked(client, CURRVAL) for client in everybody] == own
        assert len(t.admin("SHOW PINS")) == 3
    with log_in(t) as client:
        assert asked(client, LASTVAL) == "55000"
        assert asked(client, CURRVAL) == "55000"


@pytest.mark.parametrize("sql", [
    "SELECT nextval('seq_one_id_seq')", "COPY seq_one (note) FROM STDIN",
    "WITH a AS (INSERT INTO seq_one (note) VALUES ('x') RETURNING id) SELECT id FROM a",
    "DO $$ BEGIN INSERT INTO seq_one (note) VALUES ('x'); END $$",
])
def test_what_counts_as_an_advance(primary, turnstile, sql):
    t = turnstile(shop(primary))
    with clients(t, 2) as (client, other):
        asked(client, LASTVAL)
        if sql.startswith("COPY"):
            client.send(raw.query(sql), raw.copy_data(b"x\n"), raw.copy_done())
            client.until("Z")
        else:
            client.query(sql)
        pid = pid_of(client)
        assert pid_of(other) != pid and pid_of(client) == pid
        insert(other)
        value = asked(client, LASTVAL)
        assert value == client.rows("SELECT currval('seq_one_id_seq')")[0][0]
