# SPDX-License-Identifier: ISC
#
# test_switches.py - what the console changes while it runs: limits of tenants, READONLY,
# MAINTENANCE, and PAUSE, RESUME and KILL of a tenant.
"""Each switch is tried for a tenant, a database and all; a transaction that runs is left alone."""
import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, sqlstate
from tenancy import TENANTS, enter, errors, tenants
from turnstile import merge
from waiting import wait_until

WRITE = "INSERT INTO switched VALUES (1)"
READ = "SELECT count(*) FROM switched"
MONITOR, MONITOR_PASSWORD = "switch_monitor", "monitor-password"


@pytest.fixture(scope="module")
def stage(primary):
    """A table to write to, and a role that lets the monitor prove reads."""
    primary.role(MONITOR, MONITOR_PASSWORD)
    primary.sql("CREATE TABLE switched (id int)", dbname=APP_DATABASE)
    primary.sql("GRANT ALL ON switched TO app", dbname=APP_DATABASE)
    primary.sql("CREATE FUNCTION switched_writes() RETURNS int LANGUAGE sql VOLATILE"
                " AS 'SELECT 5'", dbname=APP_DATABASE)
    return primary


@pytest.fixture
def start(stage, turnstile):
    """A pooler with tenants, once it can prove reads."""

    def begin(settings=None, changes=None):
        t = turnstile(merge(tenants(stage, {"monitor_user": MONITOR, "default_pool_size": 4,
                                            "monitor_password": MONITOR_PASSWORD,
                                            "stats_users": "app", **(settings or {})}),
                            changes or {}))
        wait_proofs(t, f"{APP_USER}.initech")
        return t

    return begin


def ask(pooler, *commands):
    for command in commands:
        pooler.admin(command)


def wait_proofs(pooler, user):
    """Return once reads are proven: the catalog has been read."""
    with log_in(pooler, user) as client:
        ask(pooler, "READONLY")
        wait_until(lambda: not errors(client.query(READ)))
        ask(pooler, "READWRITE")


def shown(pooler, what, **keys):
    """The row of a SHOW with these values."""
    rows = [row for row in pooler.admin(f"SHOW {what}")
            if all(row[key] == value for key, value in keys.items())]
    assert len(rows) == 1, rows
    return rows[0]


def refusal(pooler, command):
    with pytest.raises(psycopg.Error) as refused:
        pooler.admin(command)
    return refused.value.sqlstate, str(refused.value)



# --- SET TENANT --------------------------------------------------------------------------------
@pytest.mark.tsan
def test_a_limit_is_changed_until_it_is_reset(start):
    t = start(changes={"tiers": {"basic": {"rate": "1/h", "burst": 2}}})
    with enter(t, "acme") as client, enter(t, "globex") as other:
        for _ in range(2):
            assert not errors(client.query("SELECT 2"))
        assert errors(client.query("SELECT 2")) == ["53400"]
        ask(t, "SET TENANT acme rate = 100000/s", "SET TENANT acme burst = 1000")
        for _ in range(20):
            assert not errors(client.query("SELECT 2"))
        ask(t, "RELOAD")
        assert shown(t, "LIMITS", tenant="acme", limit="rate")["allowed"] == "100000/s"
        assert not errors(client.query("SELECT 2"))
        for _ in range(2):
            assert not errors(other.query("SELECT 2"))
        assert errors(other.query("SELECT 2")) == ["53400"]
        ask(t, "RESET TENANT acme rate")
        assert shown(t, "LIMITS", tenant="acme", limit="rate")["allowed"] == "1/h"
        ask(t, "RESET TENANT acme")
        assert shown(t, "LIMITS", tenant="acme", limit="rate")["changed"] == 0
        t.stop()
        t.start()
        assert shown(t, "TENANTS", name="acme")["rate"] == "1/h"


def test_who_waits_goes_on_when_the_limit_is_raised(start):
    t = start(changes={"tiers": {"basic": {"rate": "1/h", "burst": 1, "rate_limit_wait": "3h"}}})
    with enter(t, "acme") as client:
        assert not errors(client.query("SELECT 2"))
        client.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "LIMITS", tenant="acme", limit="rate")["waiting"] == 1)
        ask(t, "SET TENANT acme rate = 1000/s")
        assert not errors(client.until("Z"))
        assert shown(t, "LIMITS", tenant="acme", limit="rate")["waiting"] == 0


def test_i10_a_limit_that_comes_in_the_middle_waits_for_the_end(start):
    t = start()
    with enter(t, "acme") as client:
        client.rows("BEGIN")
        assert not errors(client.query("SELECT 2"))
        batch = raw.parse("", "SELECT 2"), raw.bind(), raw.execute()
        ask(t, "SET TENANT acme rate = 1/h")
        for _ in range(5):
            assert not errors(client.query("SELECT 2"))
        assert not errors(client.query("COMMIT"))
        assert errors(client.query("SELECT 2")) == ["53400"]
        ask(t, "RESET TENANT acme")
        client.send(*batch, raw.flush())
        client.until("C")
        ask(t, "SET TENANT acme rate = 1/h")
        client.send(raw.bind(), raw.execute(), raw.sync())
        assert not errors(client.until("Z"))


@pytest.mark.parametrize("command, state, words", [
    ("SET TENANT nobody rate = 1/s", "42704", "no such tenant: nobody"),
    ("RESET TENANT nobody", "42704", "no such tenant: nobody"),
    ("PAUSE TENANT nobody", "42704", "no such tenant: nobody"),
    ("READONLY TENANT nobody", "42704", "no such tenant: nobody"),
    ("SET TENANT acme rat = 1/s", "42704", "Did you mean rate?"),
    ("RESET TENANT acme rat", "42704", "unknown setting"),
    ("SET TENANT acme rate = much", "22023", "a rate such as 100/s"),
    ("SET TENANT acme burst = 5", "22023", "burst without rate"),
    ("RESUME TENANT acme", "55000", "not paused"),
    ("READONLY acme", "08P01", "SHOW HELP"),
])
def test_what_makes_no_sense_is_refused(start, command, state, words):
    t = start()
    assert refusal(t, command)[0] == state
    assert words in refusal(t, command)[1]


def test_only_admins_may(start):
    t = start()
    with t.connect("pgturnstile", "app") as console:
        assert console.execute("SHOW LIMITS").fetchall() == []
        for command in ("SET TENANT acme rate = 1/s", "RESET TENANT acme", "READONLY", "READWRITE",
                        "MAINTENANCE", "PAUSE TENANT acme", "RESUME TENANT acme", "KILL TENANT acme"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                console.execute(command)
    assert shown(t, "TENANTS", name="acme")["readonly"] == 0


def test_show_limits(start):
    t = start(changes={"tiers": {"basic": {
        "rate": "10/h", "quota": "100/h,1000/d", "exec_rate": "1h/h", "bandwidth": "1MB/h",
        "max_transactions": 3, "max_server_conn": 2, "max_client_conn": 5}}})
    with enter(t, "acme") as client:
        client.rows("BEGIN")
        assert not errors(client.query("SELECT 2"))
        rows = {row["limit"]: row for row in t.admin("SHOW LIMITS") if row["tenant"] == "acme"}
        used = {limit: (row["allowed"], row["used"], row["left"]) for limit, row in rows.items()}
        assert used["rate"] == ("10/h", 2, 8)
        assert used["quota/h"] == ("100/h,1000/d", 2, 98)
        assert used["quota/d"] == ("100/h,1000/d", 2, 998)
        assert used["max_transactions"] == ("3", 1, 2)
        assert used["max_client_conn"] == ("5", 1, 4)
        assert used["max_server_conn"] == ("2", 1, 1)
        assert 0 < used["bandwidth"][1] < 1000 and used["exec_rate"][1] >= 0
        assert {row["next_ms"] for row in rows.values()} == {0}
        for _ in range(8):
            client.rows("SELECT 2")
        client.rows("COMMIT")
        assert errors(client.query("SELECT 2")) == ["53400"]
        row = shown(t, "LIMITS", tenant="acme", limit="rate")
        assert (row["left"], row["refused"]) == (-1, 1) and 0 < row["next_ms"] <= 2 * 360_000
        assert shown(t, "TENANTS", name="acme")["limited"] == 1


# --- READONLY ----------------------------------------------------------------------------------
OWNERS = ["TENANT acme", f"DATABASE {APP_DATABASE}", ""]


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("way", ["query", "prepared"])
def test_readonly_refuses_writes_and_lets_reads_pass(start, owner, way):
    t = start()
    with enter(t, "acme") as client, enter(t, "globex") as other:
        run = getattr(client, way)
        ask(t, f"READONLY {owner}", "RELOAD")
        for text in (WRITE, "DELETE FROM switched", "SELECT switched_writes()", "CREATE TABLE x ()",
                     "SELECT * FROM switched FOR UPDATE", "DO 'BEGIN END'", "TRUNCATE switched",
                     "WITH x AS (DELETE FROM switched RETURNING id) SELECT * FROM x",
                     "PREPARE TRANSACTION 'x'"):
            assert errors(messages := run(text)) == ["25006"], text
            assert messages[-1].body == b"I"
            assert "read-only for now" in raw.find(messages, "E")[0].fields["M"]
        for text in (READ, "SELECT 2", "/* route: primary */ SELECT count(*) FROM switched",
                     "SHOW work_mem", "SET work_mem = '5MB'", "RESET work_mem", "EXPLAIN SELECT 2",
                     "BEGIN", READ, "SAVEPOINT a", "ROLLBACK TO a", "COMMIT"):
            assert not errors(run(text)), text
        assert errors(other.query(WRITE)) == ([] if owner.startswith("TENANT") else ["25006"])
        ask(t, f"READWRITE {owner}")
        assert not errors(run(WRITE))


@pytest.mark.tsan
def test_readonly_is_shown(start):
    t = start()

    def flags():
        return (shown(t, "TENANTS", name="acme")["readonly"],
                shown(t, "SWITCHES", database=APP_DATABASE)["readonly"])

    assert flags() == (0, 0)
    ask(t, "READONLY TENANT acme")
    assert flags() == (1, 0)
    ask(t, f"READONLY DATABASE {APP_DATABASE}", "READWRITE TENANT acme")
    assert flags() == (0, 1)
    ask(t, f"READWRITE DATABASE {APP_DATABASE}", "READONLY")
    assert flags() == (0, 1)
    ask(t, "READWRITE")
    assert flags() == (0, 0)


@pytest.mark.parametrize("way", ["query", "prepared"])
def test_i10_a_transaction_that_runs_is_left_alone(start, way):
    t = start()
    with enter(t, "acme") as client:
        run = getattr(client, way)
        assert not errors(run("BEGIN"))
        assert not errors(run("SELECT 2"))
        ask(t, "READONLY", "MAINTENANCE")
        assert not errors(run(WRITE))
        assert not errors(run("COMMIT"))
        assert errors(run("SELECT 2")) == ["57P03"]
        ask(t, "MAINTENANCE OFF")
        assert errors(run(WRITE)) == ["25006"]


@pytest.mark.parametrize("way", ["query", "prepared"])
def test_a_transaction_that_begins_under_readonly_reads_to_its_end(start, way):
    t = start()
    with enter(t, "acme") as client:
        run = getattr(client, way)
        ask(t, "READONLY TENANT acme")
        assert not errors(run("BEGIN"))
        assert not errors(run(READ))
        assert errors(messages := run(WRITE)) == ["25006"]
        assert messages[-1].body == b"E"
        assert sqlstate(run("SELECT 2")) == "25P02"
        assert not errors(run("ROLLBACK"))
        assert not errors(run("BEGIN"))
        assert not errors(run(READ))
        ask(t, "READWRITE TENANT acme")
        assert not errors(run(WRITE))
        assert not errors(run("COMMIT"))


@pytest.mark.parametrize("way", ["query", "prepared"])
def test_a_begin_that_was_sent_alone_is_bound_too(start, way):
    t = start({"begin_defer_max": "1ms"})
    with enter(t, "acme") as client:
        ask(t, "READONLY")
        assert not errors(client.query("BEGIN"))
        wait_until(lambda: shown(t, "TENANTS", name="acme")["sv_active"] == 1)
        assert errors(getattr(client, way)(WRITE)) == ["25006"]


@pytest.mark.parametrize("way", ["query", "prepared"])
def test_read_only_transactions_run_what_they_like(start, way):
    t = start()
    with enter(t, "acme") as client:
        run = getattr(client, way)
        ask(t, "READONLY")
        assert not errors(run("BEGIN READ ONLY"))
        assert not errors(run("SELECT switched_writes()"))
        assert not errors(run("DECLARE c CURSOR FOR SELECT switched_writes()"))
        assert not errors(run("FETCH c"))
        assert errors(run(WRITE)) == ["25006"]
        assert not errors(run("ROLLBACK"))


@pytest.mark.parametrize("way", ["query", "prepared"])
@pytest.mark.parametrize("trick", ["SET TRANSACTION READ WRITE", "SET transaction_read_only = off",
                                   "SET LOCAL transaction_read_only = off", "BEGIN READ WRITE",
                                   "START TRANSACTION READ WRITE", "RESET transaction_read_only"])
def test_a_read_only_transaction_that_takes_it_back(start, stage, way, trick):
    t = start()
    before = stage.value("SELECT count(*) FROM switched", dbname=APP_DATABASE)
    with enter(t, "acme") as client:
        run = getattr(client, way)
        ask(t, "READONLY")
        assert not errors(run("BEGIN READ ONLY"))
        run(trick)
        assert errors(run(WRITE)) in (["25006"], ["25P02"])
        run("COMMIT")
    assert stage.value("SELECT count(*) FROM switched", dbname=APP_DATABASE) == before


@pytest.mark.parametrize("texts", [
    ["BEGIN READ ONLY", "COMMIT", WRITE], ["BEGIN READ ONLY", "SET TRANSACTION READ WRITE", WRITE],
    [READ, WRITE], ["BEGIN", WRITE, "COMMIT"], ["BEGIN READ ONLY", "ROLLBACK AND CHAIN", WRITE]])
def test_readonly_in_one_batch_and_in_one_string(start, stage, texts):
    t = start()
    before = stage.value("SELECT count(*) FROM switched", dbname=APP_DATABASE)
    with enter(t, "acme") as client:
        ask(t, "READONLY")
        client.send(*[raw.parse("", text) + raw.bind() + raw.execute() for text in texts], raw.sync())
        assert errors(client.until("Z")) == ["25006"]
        client.query("ROLLBACK")
        assert errors(client.query("; ".join(texts))) == ["25006"]
    assert stage.value("SELECT count(*) FROM switched", dbname=APP_DATABASE) == before


def test_readonly_and_what_cannot_be_looked_at(start):
    t = start()
    with enter(t, "acme") as client:
        ask(t, "READONLY")
        assert errors(client.query(f"SELECT '{'x' * (1 << 21)}'")) == ["25006"]
        client.send(raw.parse("", f"SELECT '{'x' * (1 << 21)}'"), raw.bind(), raw.execute(), raw.sync())
        assert errors(client.until("Z")) == ["25006"]
        client.send(raw.query("COPY switched FROM STDIN"))
        assert errors(client.until("Z")) == ["25006"]
        assert not errors(client.query(READ))


@pytest.mark.parametrize("settings", [{"pool_mode": "session"}, {"max_prepared_statements": 0}], ids=str)
def test_readonly_where_statements_are_not_followed(start, settings):
    t = start(settings)
    with enter(t, "acme") as client:
        client.send(raw.parse("w", WRITE), raw.parse("r", READ), raw.sync())
        assert not errors(client.until("Z"))
        ask(t, "READONLY")
        assert not errors(client.query(READ))
        assert not errors(client.prepared(READ))
        assert errors(client.query(WRITE)) == ["25006"]
        assert errors(client.prepared(WRITE)) == ["25006"]
        client.send(raw.bind("", "w"), raw.execute(), raw.sync())
        assert errors(client.until("Z")) == ["25006"]


def test_readonly_without_tenants(stage, turnstile):
    t = turnstile(shop(stage, {"monitor_user": MONITOR, "monitor_password": MONITOR_PASSWORD,
                               "pool_mode": "session"}))
    wait_proofs(t, APP_USER)
    with log_in(t) as client:
        ask(t, f"READONLY DATABASE {APP_DATABASE}")
        assert not errors(client.query(READ))
        assert errors(client.query(WRITE)) == ["25006"]
        assert errors(client.prepared(WRITE)) == ["25006"]


# --- MAINTENANCE -------------------------------------------------------------------------------
@pytest.mark.parametrize("owner", OWNERS)
def test_maintenance_has_the_operators_words(start, owner):
    t = start()
    with enter(t, "acme") as client, enter(t, "globex") as other:
        ask(t, f"MAINTENANCE ON {owner} 'back at two o''clock'", "RELOAD")
        for run in (client.query, client.prepared):
            fields = raw.find(run("SELECT 2"), "E")[0].fields
            assert (fields["C"], fields["M"]) == ("57P03", "back at two o'clock")
        assert errors(other.query("SELECT 2")) == ([] if owner.startswith("TENANT") else ["57P03"])
        row = shown(t, "TENANTS", name="acme") if owner.startswith("TENANT") else \
            shown(t, "SWITCHES", database=APP_DATABASE)
        assert row["maintenance"] == "back at two o'clock"
        ask(t, f"MAINTENANCE {owner}")
        assert "under maintenance" in raw.find(client.query("SELECT 2"), "E")[0].fields["M"]
        ask(t, f"MAINTENANCE OFF {owner}")
        assert not errors(client.query("SELECT 2"))


def test_maintenance_may_be_waited_for(start):
    t = start({"maintenance_wait": "1h"})
    with enter(t, "acme") as client, enter(t, "acme") as impatient:
        ask(t, "MAINTENANCE TENANT acme")
        client.send(raw.query("SELECT 2"))
        impatient.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "TENANTS", name="acme")["cl_waiting"] == 2)
        impatient.cancel()
        assert errors(impatient.until("Z")) == ["57014"]
        ask(t, "MAINTENANCE OFF TENANT acme")
        assert not errors(client.until("Z"))


def test_maintenance_is_not_waited_for_longer(start):
    t = start({"maintenance_wait": "200ms"})
    with enter(t, "acme") as client:
        ask(t, "MAINTENANCE 'soon'")
        assert not errors(client.query("BEGIN"))
        assert errors(messages := client.query("SELECT 2")) == ["57P03"]
        assert messages[-1].body == b"E"
        assert not errors(client.query("ROLLBACK"))


def test_switches_of_the_file(start):
    t = start(changes={"tenants": {
        "acme": {"tier": "basic", "business_id": TENANTS["acme"], "readonly": "yes"},
        "globex": {"tier": "basic", "business_id": TENANTS["globex"],
                   "maintenance": "closed today"}}})
    with enter(t, "acme") as reader, enter(t, "globex") as closed, enter(t, "initech") as free:
        assert errors(reader.query(WRITE)) == ["25006"]
        assert not errors(reader.query(READ))
        assert raw.find(closed.query("SELECT 2"), "E")[0].fields["M"] == "closed today"
        assert not errors(free.query(WRITE))
        ask(t, "READWRITE TENANT acme", "MAINTENANCE OFF TENANT globex", "RELOAD")
        assert not errors(reader.query(WRITE))
        assert not errors(closed.query("SELECT 2"))
        ask(t, "RESET TENANT acme")
        assert errors(reader.query(WRITE)) == ["25006"]


# --- PAUSE, RESUME, KILL -----------------------------------------------------------------------
def pausing(pooler, tenant="acme"):
    """A console that has asked for PAUSE TENANT and waits."""
    console = raw.RawClient(pooler.port, pooler.host, 10.0)
    console.login("admin", "pgturnstile", pooler.users["admin"])
    console.send(raw.query(f"PAUSE TENANT {tenant}"))
    wait_until(lambda: shown(pooler, "TENANTS", name=tenant)["paused"] == 1)
    return console


@pytest.mark.tsan
def test_pause_of_a_tenant_waits_for_its_transactions(start):
    t = start()
    with enter(t, "acme") as busy, enter(t, "acme") as next_one, enter(t, "globex") as other:
        assert not errors(busy.query("BEGIN; SELECT 2"))
        with pausing(t) as console:
            next_one.send(raw.query("SELECT 2"))
            wait_until(lambda: shown(t, "TENANTS", name="acme")["cl_waiting"] == 1)
            assert not errors(other.query("SELECT 2"))
            assert not errors(busy.query("SELECT 3"))
            assert not errors(busy.query("COMMIT"))
            assert raw.find(console.until("Z"), "C")[0].text == "PAUSE"
            ask(t, "RELOAD")
            busy.send(raw.query("SELECT 2"))
            wait_until(lambda: shown(t, "TENANTS", name="acme")["cl_waiting"] == 2)
            ask(t, "RESUME TENANT acme")
            assert not errors(next_one.until("Z"))
            assert not errors(busy.until("Z"))


def test_resume_ends_a_pause_that_waits(start):
    t = start()
    with enter(t, "acme") as busy:
        assert not errors(busy.query("BEGIN; SELECT 2"))
        with pausing(t) as console:
            ask(t, "RESUME TENANT acme")
            assert errors(console.until("Z")) == ["57014"]
        assert not errors(busy.query("COMMIT"))


def test_pause_sends_back_who_stands_in_the_queue(start):
    """A client that was let pass and waits for a server runs nothing after PAUSE was answered."""
    t = start({"default_pool_size": 1})
    with enter(t, "acme") as busy, enter(t, "acme") as queued:
        assert not errors(busy.query("BEGIN; SELECT 2"))
        queued.send(raw.query("SELECT 2"))
        wait_until(lambda: shown(t, "TENANTS", name="acme")["cl_waiting"] == 1)
        with pausing(t) as console:
            assert not errors(busy.query("COMMIT"))
            assert raw.find(console.until("Z"), "C")[0].text == "PAUSE"
        assert shown(t, "TENANTS", name="acme")["cl_waiting"] == 1
        assert shown(t, "TENANTS", name="acme")["sv_active"] == 0
        ask(t, "RESUME TENANT acme")
        assert not errors(queued.until("Z"))


def test_who_waits_too_long_for_the_end_of_a_pause(start):
    t = start({"query_wait_timeout": "300ms"})
    with enter(t, "acme") as client:
        ask(t, "PAUSE TENANT acme")
        assert errors(client.query("SELECT 2")) == ["57P03"]
        ask(t, "RESUME TENANT acme")
        assert not errors(client.query("SELECT 2"))


@pytest.mark.tsan
def test_kill_of_a_tenant_closes_its_clients_and_nobody_elses(start):
    t = start()
    with enter(t, "acme") as one, enter(t, "acme") as two, enter(t, "globex") as other:
        assert not errors(one.query("BEGIN; SELECT 2"))
        assert not errors(other.query("BEGIN; SELECT 2"))
        ask(t, "KILL TENANT acme")
        for client in (one, two):
            assert errors(client.until_closed()) == ["57P01"]
        wait_until(lambda: shown(t, "TENANTS", name="acme")["sv_idle"] == 0)
        assert not errors(other.query("COMMIT"))
        with log_in(t, "app.acme", APP_PASSWORD) as again:
            again.send(raw.query("SELECT 2"))
            wait_until(lambda: shown(t, "TENANTS", name="acme")["cl_waiting"] == 1)
            ask(t, "RESUME TENANT acme")
            assert not errors(again.until("Z"))
