# SPDX-License-Identifier: ISC
#
# test_console.py - the console: its tables are PgBouncer's, its commands do what they say.
"""Columns are compared with a list written from PgBouncer's manual and with PgBouncer itself."""
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row

import raw
from machine import scratch_dir
from turnstile import ADMIN_PASSWORD, ADMIN_USER, TOP
from waiting import wait_until

STATS_USER, STATS_PASSWORD = "watcher", "watcher-password"

SOCKET = ("type user database replication state addr port local_addr local_port connect_time "
          "request_time wait wait_us close_needed ptr link remote_pid tls application_name "
          "prepared_statements id")
BUFFERS = " recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail"
COUNTS = ("server_assignment_count xact_count query_count bytes_received bytes_sent xact_time "
          "query_time wait_time")
STATEMENTS = "client_parse_count server_parse_count bind_count"
TYPES = {"s": 25, "i": 23, "q": 20, "N": 1700, "b": 17}

# name: (columns, one letter of TYPES for each).  PgBouncer 1.25.2.
TABLES = {
    "STATS": ("database total_server_assignment_count total_xact_count total_query_count "
              "total_received total_sent total_xact_time total_query_time total_wait_time "
              "total_client_parse_count total_server_parse_count total_bind_count "
              "avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent "
              "avg_xact_time avg_query_time avg_wait_time avg_client_parse_count "
              "avg_server_parse_count avg_bind_count", "s" + 22 * "N"),
    "STATS_TOTALS": (f"database {COUNTS} {STATEMENTS}", "s" + 11 * "N"),
    "STATS_AVERAGES": (f"database {COUNTS} avg_client_parse_count avg_server_parse_count "
                       "avg_bind_count", "s" + 11 * "N"),
    "TOTALS": ("name value", "sN"),
    "POOLS": ("database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req "
              "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login "
              "maxwait maxwait_us pool_mode load_balance_hosts", "ssiiiiiiiiiiiiiss"),
    "PEER_POOLS": ("peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login",
                   "iiiii"),
    "PEERS": ("peer_id host port pool_size", "isii"),
    "CLIENTS": (SOCKET, "ssssssisissiiississii"),
    "SERVERS": (SOCKET, "ssssssisissiiississii"),
    "SOCKETS": (SOCKET + BUFFERS, "ssssssisissiiississii" + 7 * "i"),
    "ACTIVE_SOCKETS": (SOCKET + BUFFERS, "ssssssisissiiississii" + 7 * "i"),
    "DATABASES": ("name host port database force_user pool_size min_pool_size reserve_pool_size "
                  "server_lifetime pool_mode load_balance_hosts max_connections "
                  "current_connections max_client_connections current_client_connections paused "
                  "disabled", "ssissiiiissiiiiii"),
    "SWITCHES": ("database paused disabled readonly maintenance", "siiis"),
    "USERS": ("name pool_size reserve_pool_size pool_mode max_user_connections "
              "current_connections max_user_client_connections current_client_connections",
              "ssssiiii"),
    "LISTS": ("list items", "si"),
    "CONFIG": ("key value default changeable", "ssss"),
    "MEM": ("name size used free memtotal", "siiii"),
    "STATE": ("key value", "ss"),
    "VERSION": ("version", "s"),
    "DNS_HOSTS": ("hostname ttl addrs", "sqs"),
    "DNS_ZONES": ("zonename serial count", "sqi"),
    "FDS": ("fd task user database addr port cancel link client_encoding std_strings datestyle "
            "timezone password scram_client_key scram_server_key", "issssiqisssssbb"),
    "TENANTS": ("name business_id tier cl_active cl_waiting sv_active sv_idle statements on_replica "
                "pinned cancels limited warned refused clamped rate burst tokens quota quota_left "
                "statement_timeout max_client_conn allow_from readonly maintenance paused query_p50 "
                "query_p95 query_p99 query_max hour_p50 hour_p95 hour_p99 hour_max",
                "sssiiiiqqqqqqqqsqqsqsisisi" + 8 * "N"),
    "LIMITS": ("tenant limit allowed used left waiting refused warned next_ms changed", "sssqqiqqqi"),
    "TIERS": ("name tenants rate burst quota statement_timeout pool_size max_client_conn allow_from "
              "weight", "sisqssiisi"),
    "NODES": ("database node host port role lag_bytes lag latency servers active seen error asked "
              "lsn timeline system started weight zone failures state lock_waits lock_wait "
              "blocks_hit blocks_read deadlocks logins login_waits",
              "sisisqNNiiNsNsqssisisqNqqqii"),
}

# What console_old_columns adds at the end, of versions before.
OLD = {"STATS": ("total_requests", "N"), "DATABASES": ("reserve_pool", "i")}

# What may stand behind a command, by the kind of argument that commands.def says it has.
ARGUMENTS = {
    "NONE": [""], "DATABASE": [" shop"], "OPTIONAL_DATABASE": ["", " shop"],
    "DATABASE_OR_TENANT": ["", " shop", " TENANT acme"],
    "OWNER": ["", " DATABASE shop", " TENANT acme"],
    "SWITCH": ["", " ON", " OFF", " DATABASE shop", " TENANT acme 'soon'"],
    "CLIENT": [" 1"], "SHUTDOWN_MODE": ["", " WAIT_FOR_SERVERS", " WAIT_FOR_CLIENTS"],
    "SETTING": [" verbose = 1", " TENANT acme rate = 5/s", " NODE 127.0.0.1:1 weight = 0"],
    "TENANT_SETTING": [" TENANT acme", " TENANT acme rate"],
}


def rows_of(table, columns):
    """The first columns of a table of commands.def."""
    text = (TOP / "include/admin/commands.def").read_text()
    body = text.split(f"#define {table}(X)")[1].split("\n\n")[0]
    return re.findall(r"X\(" + ",\\s*".join([r"(\w+)"] * columns) + ",", body)


def admin_commands():
    """All that only admin_users may say."""
    for name, argument, access in rows_of("COMMANDS", 3):
        if access == "ADMIN":
            yield from (name.upper() + more for more in ARGUMENTS[argument])
    for name, access in rows_of("SHOWS", 2):
        if access == "ADMIN":
            yield from (f"SHOW {name.upper()}", f"SELECT {name}")


def config(primary, **pooler):
    return {"pgturnstile": {"pool_mode": "transaction", "backend_pid": "server",
                            "stats_users": STATS_USER, **pooler},
            "databases": {"shop": {"host": primary.host, "port": primary.port},
                          "other": {"host": primary.host, "port": primary.port,
                                    "dbname": "shop"}}}


@pytest.fixture
def t(primary, turnstile):
    return turnstile(config(primary), users={STATS_USER: STATS_PASSWORD})


@contextlib.contextmanager
def in_background(pooler, command):
    """A console command that is under way; .result(timeout) once it is answered."""
    outcome = {}

    def run():
        try:
            outcome["rows"] = pooler.admin(command)
        except psycopg.Error as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield lambda: (thread.join(10), outcome)[1], thread.is_alive
    thread.join(10)
    assert not thread.is_alive(), f"{command} is not answered"


def pool(pooler, database="shop", user="app"):
    return next((p for p in pooler.admin("SHOW POOLS")
                 if (p["database"], p["user"]) == (database, user)), None)


# --- tables ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TABLES)
def test_columns_order_and_types(t, name):
    names, letters = TABLES[name]
    with t.connect("pgturnstile", ADMIN_USER) as console:
        description = console.execute(f"SHOW {name}").description
    assert [c.name for c in description] == names.split()
    assert [c.type_code for c in description] == [TYPES[letter] for letter in letters]


def test_names_of_rows(t):
    """Of the tables that are lists."""
    sums = ("server_assignment_count xact_count query_count client_bytes server_bytes xact_time query_time "
            "wait_time ps_client_parse_count ps_server_parse_count ps_bind_count").split()
    assert [r["name"] for r in t.admin("SHOW TOTALS")] == [f"{of}_{name}" for of in ("total", "avg")
                                                           for name in sums]
    assert [r["list"] for r in t.admin("SHOW LISTS")] == (
        "databases users peers pools peer_pools free_clients used_clients login_clients free_servers "
        "used_servers dns_names dns_zones dns_queries dns_pending").split()
    assert [r["key"] for r in t.admin("SHOW STATE")] == ["active", "paused", "suspended"]


def test_old_columns(primary, turnstile):
    """At the end; who has asked for a description gets rows that fit it, whatever RELOAD says."""
    t = turnstile(config(primary, console_old_columns="yes"))
    with t.connect("pgturnstile", ADMIN_USER) as console:
        for name, (column, letter) in OLD.items():
            names, letters = TABLES[name]
            description = console.execute(f"SHOW {name}").description
            assert [c.name for c in description] == [*names.split(), column]
            assert [c.type_code for c in description] == [TYPES[x] for x in letters + letter]
        row = console.cursor(row_factory=dict_row).execute("SHOW STATS").fetchone()
        assert row["total_requests"] == row["total_query_count"] > 0
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        console.send(raw.parse("s", "SHOW STATS"), raw.describe("S", "s"), raw.sync())
        described, = raw.find(console.until("Z"), "T")
        t.reload({"pgturnstile": {"console_old_columns": "no"}})
        console.send(raw.bind("", "s"), raw.execute(), raw.sync())
        row = raw.find(console.until("Z"), "D")[0]
        assert described.body[:2] == row.body[:2] == (24).to_bytes(2, "big")


def test_switches(t):
    def shown():
        return {row["database"]: [*row.values()][1:] for row in t.admin("SHOW SWITCHES")}

    assert shown() == {"shop": [0, 0, 0, None], "other": [0, 0, 0, None]}
    t.admin("READONLY DATABASE shop")
    t.admin("PAUSE other")
    t.admin("DISABLE other")
    t.admin("MAINTENANCE ON 'back at two'")
    assert shown() == {"shop": [0, 0, 1, "back at two"], "other": [1, 1, 0, "back at two"]}


def test_columns_of_pgbouncer_1_18_are_there_in_its_order(primary, turnstile, pgbouncer):
    t = turnstile(config(primary, console_old_columns="yes"), users={STATS_USER: STATS_PASSWORD})
    old = pgbouncer({"pgbouncer": {"stats_users": STATS_USER},
                     "databases": {"shop": {"host": primary.host, "port": primary.port}}})
    with old.connect("pgbouncer", ADMIN_USER) as theirs, \
            t.connect("pgbouncer", ADMIN_USER) as ours:
        for name in set(TABLES) - {"TENANTS", "TIERS", "LIMITS", "NODES", "STATE", "PEERS", "PEER_POOLS"}:
            try:
                was = [(c.name, c.type_code) for c in theirs.execute(f"SHOW {name}").description]
            except psycopg.Error:
                continue
            now = [(c.name, c.type_code) for c in ours.execute(f"SHOW {name}").description]
            names = {column for column, _ in now}
            assert {column for column, _ in was} <= names
            kept = {column for column, _ in was} - {*OLD.get(name, ())}
            assert [c for c in now if c[0] in kept] == [c for c in was if c[0] in kept], name
        lists = [row[0] for row in theirs.execute("SHOW LISTS").fetchall()]
        assert [row[0] for row in ours.execute("SHOW LISTS").fetchall() if row[0] in lists] == lists


def test_rows_of_a_busy_client(primary, t):
    with t.connect("shop", "app", application_name="till") as client:
        with client.transaction():
            client.execute("SELECT 1")
            row = pool(t)
            assert (row["cl_active"], row["sv_active"], row["sv_idle"]) == (1, 1, 0)
            c, = [r for r in t.admin("SHOW CLIENTS") if r["database"] == "shop"]
            s, = [r for r in t.admin("SHOW SERVERS") if r["link"] == c["ptr"]]
            assert c["link"] == s["ptr"] and s["state"] == c["state"] == "active"
            assert c["application_name"] == "till" and s["port"] == primary.port
            assert primary.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s",
                                 [s["remote_pid"]]) == 1
            database, = [d for d in t.admin("SHOW DATABASES") if d["name"] == "shop"]
            assert database["current_client_connections"] == 1
            assert database["current_connections"] >= 1
        wait_until(lambda: pool(t)["sv_idle"] == 1)
        assert pool(t)["sv_active"] == 0
    wait_until(lambda: pool(t)["cl_active"] == 0)


def test_stats_add_up(t):
    with t.connect("shop", "app") as client, t.connect("other", "app") as other:
        for _ in range(5):
            client.execute("SELECT 1")
        other.execute("SELECT 1")
    rows = {r["database"]: r for r in t.admin("SHOW STATS")}
    assert rows["shop"]["total_query_count"] == rows["shop"]["total_xact_count"] == 5
    assert rows["other"]["total_query_count"] == 1
    assert rows["shop"]["total_received"] > 0 and rows["shop"]["avg_query_count"] >= 0
    totals = {r["name"]: r["value"] for r in t.admin("SHOW TOTALS")}
    assert totals["total_query_count"] >= 6
    assert [*totals][:11] == [n.replace("avg_", "total_") for n in [*totals][11:]]


def test_averages_are_logged(primary, turnstile):
    t = turnstile(config(primary, stats_period=1))
    t.wait_log(r"stats: \d+ xacts/s, \d+ queries/s, \d+ client parses/s, \d+ server parses/s, "
               r"\d+ binds/s, in \d+ B/s, out \d+ B/s, xact \d+ us, query \d+ us, wait \d+ us")


def test_i9_no_secret_is_shown(primary, turnstile):
    secrets = ["app-password", ADMIN_PASSWORD, "monitor-secret"]
    t = turnstile(config(primary, monitor_user="postgres",
                         monitor_password="monitor-secret"))
    with t.connect("shop", "app") as client:
        client.execute("SELECT 1")
        for name in TABLES:
            shown = json.dumps(t.admin(f"SHOW {name}"), default=str)
            assert not any(secret in shown for secret in secrets), name
        for row in t.admin("SHOW FDS"):
            assert {row[c] for c in ("cancel", "password", "scram_client_key",
                                     "scram_server_key")} == {None}
    assert not any(t.log_contains(secret) for secret in secrets)


def test_i9_a_command_that_makes_no_sense_is_not_logged(t):
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        text = "SET monitor_password hush-hush"
        console.send(raw.query(text), raw.parse("", text), raw.sync(), raw.query("PAUSE nowhere"))
        for _ in range(2):
            assert "hush-hush" in console.until("Z")[0].fields["M"]
        console.until("Z")
    t.wait_log("no such database: nowhere")
    assert not t.log_contains("hush-hush")


def test_version_is_pgbouncers(t):
    assert t.admin("SHOW VERSION")[0]["version"].startswith("PgBouncer 1.25.2 (pgturnstile ")
    with t.connect("pgturnstile", ADMIN_USER) as console:
        assert console.info.server_version == 12502
        assert console.info.parameter_status("server_version") == "1.25.2/pgturnstile"
        assert console.info.parameter_status("is_superuser") == "on"


def test_psql(t):
    shown = subprocess.run(
        ["psql", "-X", f"host={t.host} port={t.port} user={ADMIN_USER} dbname=pgturnstile "
         f"password={ADMIN_PASSWORD}", "-c", "SHOW STATS", "-c", "SHOW HELP"],
        capture_output=True, text=True, timeout=20, check=True)
    assert "total_xact_count" in shown.stdout and "(1 row)" in shown.stdout
    assert "SHOW STATS_AVERAGES" in shown.stderr and "KILL [<db> | TENANT <tenant>]" in shown.stderr


@pytest.mark.skipif(not shutil.which("pgcli"), reason="Debian: pgcli")
@pytest.mark.parametrize("name", ["pgbouncer", "pgturnstile"])
def test_pgcli(t, name):
    """Knows by the code of an error that this is no database, and completes nothing."""
    shown = subprocess.run(
        ["pgcli", "--less-chatty", f"postgresql://{ADMIN_USER}:{ADMIN_PASSWORD}@{t.host}:{t.port}/{name}"],
        input="SHOW STATE;\nSHOW nothing;\nSHOW DATABASES;\n", capture_output=True, text=True, timeout=60,
        env={**os.environ, "HOME": str(scratch_dir("pgcli")), "TERM": "dumb", "PAGER": "cat"})
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for text in "suspended", "use SHOW HELP", "load_balance_hosts":
        assert text in shown.stdout, shown.stdout + shown.stderr


def test_help_of_one(t):
    with t.connect("pgturnstile", ADMIN_USER) as console:
        notices = []
        console.add_notice_handler(lambda d: notices.append(d.message_detail))
        console.execute("SHOW HELP nodes")
        console.execute("SHOW HELP PAUSE")
        with pytest.raises(errors.ProtocolViolation) as refused:
            console.execute("SELECT * FROM show_pools()")
    assert "SHOW NODES\n" in notices[0] and "lag_bytes" in notices[0]
    assert "PAUSE [<db> | TENANT <tenant>]\n" in notices[1] and "SHOW" not in notices[1]
    assert "SHOW pools" in refused.value.diag.message_hint


def test_fakes_and_select(t):
    with t.connect("pgturnstile", ADMIN_USER) as console:
        assert console.execute("SHOW client_encoding").fetchone() == ("UTF-8",)
        assert console.execute("SET datestyle TO 'ISO'").statusmessage == "SET"
        assert console.execute("SELECT version").fetchone()[0].startswith("PgBouncer")


def test_many_rows_reach_a_slow_reader(t):
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(t.connect("shop", "app"))
        with raw.RawClient(t.port) as console:
            console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
            rounds = 100
            console.send(*[raw.query("SHOW CONFIG"), raw.query("SHOW CLIENTS")] * rounds)
            for _ in range(rounds):
                assert len(raw.find(console.until("Z"), "D")) > 50
                assert len(raw.find(console.until("Z"), "D")) == 61


def test_mem_tells_of_histograms(t):
    def pages():
        return next(row["used"] for row in t.admin("SHOW MEM") if row["name"] == "latency_cache")

    assert pages() == 0
    with t.connect("shop", "app") as connection:
        connection.execute("SELECT 2")
    assert pages() > 0


# --- who may do what ----------------------------------------------------------------------------
@pytest.mark.parametrize("command", admin_commands())
def test_a_stats_user_may_not(t, command):
    with t.connect("pgturnstile", STATS_USER) as console:
        with pytest.raises(errors.InsufficientPrivilege, match="admin access needed"):
            console.execute(command)
        assert console.execute("SHOW STATE").fetchone() == ("active", "yes")


def test_a_stats_user_may_look(t):
    with t.connect("pgturnstile", STATS_USER) as console:
        for name, access in rows_of("SHOWS", 2):
            if access == "STATS" and name not in ("help", "route"):
                console.execute(f"SHOW {name}")


def test_others_may_not_come_in(t):
    with pytest.raises(psycopg.OperationalError, match="not allowed"):
        t.connect("pgturnstile", "app")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        t.connect("pgturnstile", ADMIN_USER, "wrong")


def test_the_own_user_on_the_unix_socket_is_admin(t):
    for user in ("pgbouncer", "pgturnstile"):
        with psycopg.connect(host=str(t.dir), port=t.port, user=user, dbname="pgbouncer",
                             autocommit=True) as console:
            assert console.execute("RELOAD").statusmessage == "RELOAD"


# --- protocol -----------------------------------------------------------------------------------
def test_extended_protocol(t):
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        console.send(raw.parse("s", "SHOW STATE"), raw.describe("S", "s"), raw.bind("", "s"),
                     raw.describe("P"), raw.execute(), raw.sync())
        assert raw.kinds(console.until("Z")) == "1tT2TDDDCZ"
        console.send(raw.bind("", "s"), raw.execute("", 2), raw.execute("", 2), raw.sync())
        assert raw.kinds(console.until("Z")) == "2DDsDCZ"
        console.send(raw.close("S", "s"), raw.bind("", "s"), raw.execute(), raw.sync())
        messages = console.until("Z")
        assert raw.kinds(messages) == "3EZ" and messages[1].fields["C"] == "26000"
        console.send(raw.parse("", "SHOW NOTHING"), raw.bind(), raw.execute(), raw.sync())
        messages = console.until("Z")
        assert raw.kinds(messages) == "EZ" and messages[0].fields["C"] == "08P01"
        console.send(raw.parse("", "SHOW STATE"), raw.bind(values=("x",)), raw.execute(),
                     raw.sync())
        assert raw.kinds(console.until("Z")) == "1EZ"
        console.send(raw.parse("", "RELOAD"), raw.bind(), raw.describe("P"), raw.execute(),
                     raw.sync())
        assert raw.kinds(console.until("Z")) == "12nCZ"
        console.send(raw.parse("", ""), raw.bind(), raw.execute(), raw.sync())
        assert raw.kinds(console.until("Z")) == "12IZ"


@pytest.mark.parametrize("name", ["DATABASES", "POOLS", "CLIENTS", "CONFIG", "NODES", "TENANTS"])
def test_binary_rows_are_the_same(t, name):
    """JDBC, pgx and asyncpg ask for them."""
    with t.connect("pgturnstile", ADMIN_USER) as console, t.connect("shop", "app") as client:
        client.execute("SELECT 2")
        as_text, as_binary = [console.cursor(binary=b).execute(f"SHOW {name}", prepare=True)
                              for b in (False, True)]
        columns = [c.name for c in as_text.description]
        moves = {i for i, c in enumerate(columns) if "time" in c or c in ("wait", "wait_us", "seen",
                                                                          "asked", "latency")}
        rows = [[[None if i in moves else v for i, v in enumerate(row)] for row in cursor]
                for cursor in (as_text, as_binary)]
    assert rows[0] == rows[1] and (rows[0] or name in ("NODES", "TENANTS"))
    assert {as_binary.pgresult.fformat(i) for i in range(len(columns))} == {1}


def test_binary_values(t):
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        console.send(raw.parse("s", "SHOW STATE"), raw.bind("", "s", result_formats=(0, 1)),
                     raw.describe("P"), raw.execute("", 1),
                     raw.bind("", "s", result_formats=(1, 1, 1)), raw.sync())
        messages = console.until("Z")
        assert raw.kinds(messages) == "12TDsEZ" and messages[5].fields["C"] == "08P01"
        console.send(raw.bind("", "s", result_formats=(2,)), raw.sync())
        assert console.until("Z")[0].fields["C"] == "08P01"


def test_drivers_that_begin_transactions(t):
    """There are none: the state stays idle, and what was done stays done."""
    with t.connect("pgturnstile", ADMIN_USER, autocommit=False) as console:
        assert console.execute("SHOW STATE").fetchone() == ("active", "yes")
        console.execute("DISABLE shop")
        assert console.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        assert console.execute("ROLLBACK").statusmessage == "ROLLBACK"
        assert console.execute("COMMIT").statusmessage == "COMMIT"
        with pytest.raises(errors.ProtocolViolation):
            console.execute("BEGIN; PAUSE shop")
        disabled = {row["name"]: row["disabled"] for row in t.admin("SHOW DATABASES")}
        assert disabled["shop"] == 1
        console.execute("ENABLE shop")


def test_jdbc(t):
    """As it is: it prepares after five times, and asks for binary rows then."""
    jar = Path("/usr/share/java/postgresql.jar")
    if not jar.exists() or not shutil.which("java"):
        pytest.skip("Debian: libpostgresql-jdbc-java, default-jdk-headless")
    done = subprocess.run(
        ["java", "-XX:TieredStopAtLevel=1", "-Xmx128m", "-cp", jar,
         Path(__file__).resolve().parents[1] / "drivers/Console.java",
         f"jdbc:postgresql://{t.host}:{t.port}/pgturnstile", ADMIN_USER, ADMIN_PASSWORD],
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == ["STATS", "CONFIG", "RELOAD", "08P01", "COMMIT"]


def test_pipelined_commands_are_answered_in_order(t):
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        console.send(raw.query("SHOW POOLS"), raw.query("FOO"), raw.query("RELOAD"),
                     raw.query("SHOW VERSION"))
        assert raw.kinds(console.until("Z")).startswith("TD")
        messages = console.until("Z")
        assert messages[0].fields["M"] == "invalid command 'FOO', use SHOW HELP;"
        assert raw.kinds(console.until("Z")) == "CZ"
        assert raw.kinds(console.until("Z")) == "TDCZ"


def test_i6_input_is_bounded(t):
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        console.send(raw.query("SHOW " + 200_000 * "x"), raw.query("SHOW STATE"))
        messages = console.until("Z")
        assert raw.kinds(messages) == "EZ" and messages[0].fields["C"] == "54000"
        assert raw.kinds(console.until("Z")) == "TDDDCZ"
        for number in range(200):
            console.send(raw.parse(f"s{number}", "SHOW STATE"))
        console.send(raw.sync())
        assert raw.kinds(console.until("Z")).endswith("EZ")


def test_unknown_messages_end_the_connection(t):
    with raw.RawClient(t.port) as console:
        console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
        console.send(raw.message("~", "?"))
        assert console.until_closed()[-1].fields["C"] == "08P01"


# --- commands -----------------------------------------------------------------------------------
def test_pause_waits_for_transactions_and_resume_ends_it(t):
    with t.connect("shop", "app") as client, t.connect("shop", "app") as waiter:
        with client.transaction():
            client.execute("SELECT 1")
            with in_background(t, "PAUSE") as (result, is_alive):
                wait_until(lambda: t.admin("SHOW STATE")[1]["value"] == "yes")
                assert is_alive() and pool(t)["sv_active"] == 1
                client.execute("SELECT 2")
                answer = threading.Thread(target=waiter.execute, args=["SELECT 3"], daemon=True)
                answer.start()
                wait_until(lambda: pool(t)["cl_waiting"] == 1)
                assert is_alive()
                client.execute("COMMIT")
                assert result() == {"rows": []}
            assert pool(t)["sv_active"] == 0 and answer.is_alive()
            with pytest.raises(psycopg.Error, match="already suspended/paused"):
                t.admin("PAUSE")
            t.admin("RESUME")
            answer.join(10)
            assert not answer.is_alive()
            client.execute("BEGIN")
        with pytest.raises(psycopg.Error, match="pooler is not paused/suspended"):
            t.admin("RESUME")


def test_pause_of_one_database_leaves_others_alone(t):
    assert t.admin("PAUSE shop") == []
    paused = {d["name"]: d["paused"] for d in t.admin("SHOW DATABASES")}
    assert (paused["shop"], paused["other"]) == (1, 0)
    with t.connect("other", "app") as client:
        client.execute("SELECT 1")
    t.admin("RESUME shop")
    with pytest.raises(psycopg.Error, match="database shop is not paused"):
        t.admin("RESUME shop")
    with t.connect("shop", "app") as client:
        client.execute("SELECT 1")


def test_resume_gives_up_a_pause_and_terminate_is_safe(t):
    with t.connect("shop", "app") as client, client.transaction():
        client.execute("SELECT 1")
        with in_background(t, "PAUSE shop") as (result, _):
            wait_until(lambda: any(d["paused"] for d in t.admin("SHOW DATABASES")))
            t.admin("RESUME shop")
            assert "PAUSE was ended by RESUME" in str(result()["error"])
        with raw.RawClient(t.port) as console:
            console.login(ADMIN_USER, "pgturnstile", ADMIN_PASSWORD)
            console.send(raw.query("PAUSE shop"))
            wait_until(lambda: any(d["paused"] for d in t.admin("SHOW DATABASES")))
            console.send(raw.terminate())
        assert any(d["paused"] for d in t.admin("SHOW DATABASES"))
        t.admin("RESUME shop")


def test_disable_and_enable(t):
    t.admin("DISABLE shop")
    with pytest.raises(psycopg.OperationalError, match="disabled"):
        t.connect("shop", "app")
    t.admin("ENABLE shop")
    t.connect("shop", "app").close()
    with pytest.raises(psycopg.Error, match="a database is required"):
        t.admin("DISABLE")


def test_reconnect_and_wait_close(primary, t):
    pid = "SELECT pg_backend_pid()"
    with t.connect("shop", "app") as client:
        with client.transaction():
            first = client.execute(pid).fetchone()
            t.admin("RECONNECT shop")
            with in_background(t, "WAIT_CLOSE shop") as (result, is_alive):
                server, = [s for s in t.admin("SHOW SERVERS") if s["state"] == "active"]
                assert server["close_needed"] == 1 and is_alive()
                assert client.execute(pid).fetchone() == first
                client.execute("COMMIT")
                assert result() == {"rows": []}
            client.execute("BEGIN")
            assert client.execute(pid).fetchone() != first


def test_kill_pauses_and_closes(t):
    with t.connect("shop", "app") as client, t.connect("other", "app") as other:
        client.execute("SELECT 1")
        t.admin("KILL shop")
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
        other.execute("SELECT 1")
    assert next(d for d in t.admin("SHOW DATABASES") if d["name"] == "shop")["paused"] == 1
    t.admin("RESUME shop")
    with t.connect("shop", "app") as client:
        client.execute("SELECT 1")


def test_kill_client(t):
    with t.connect("shop", "app") as client, t.connect("shop", "app") as other:
        before = {c["id"] for c in t.admin("SHOW CLIENTS") if c["database"] == "shop"}
        assert len(before) == 2
        t.admin(f"KILL_CLIENT {min(before)}")
        alive = []
        for connection in (client, other):
            with contextlib.suppress(psycopg.OperationalError):
                alive.append(connection.execute("SELECT 1").fetchone())
        assert alive == [(1,)]
        for wrong, text in (("999999999", "client not found"), ("x", "invalid client pointer")):
            with pytest.raises(psycopg.Error, match=text):
                t.admin(f"KILL_CLIENT {wrong}")
    with t.connect("pgturnstile", ADMIN_USER, row_factory=dict_row) as console:
        own, = [c["id"] for c in console.execute("SHOW CLIENTS") if c["database"] == "pgbouncer"]
        with pytest.raises(psycopg.Error, match="admin forced disconnect"):
            console.execute(f"KILL_CLIENT {own}")


def test_set_and_reload(t):
    def shown(key):
        return next(row["value"] for row in t.admin("SHOW CONFIG") if row["key"] == key)

    t.admin("SET default_pool_size = 7")
    assert shown("default_pool_size") == "7"
    for command, state in (("SET no_such_thing = 1", "42704"), ("SET listen_port = 1", "55P02"),
                           ("SET default_pool_size = many", "22023")):
        with pytest.raises(psycopg.Error) as refused:
            t.admin(command)
        assert refused.value.sqlstate == state
    t.admin("RELOAD")
    assert shown("default_pool_size") == "20"
    t.ini.write_text(t.ini.read_text() + "\n[pgturnstile]\npool_mode = sometimes\n")
    with pytest.raises(psycopg.Error, match="RELOAD failed, see logs") as refused:
        t.admin("RELOAD")
    assert refused.value.sqlstate == "F0000"
    assert shown("pool_mode") == "transaction"
    t.write()


def test_refusals_about_databases(t):
    for command, text in (("PAUSE nothere", "no such database: nothere"),
                          ("KILL pgbouncer", "cannot kill admin db: pgbouncer"),
                          ("RECONNECT pgturnstile", "cannot reconnect admin db: pgturnstile"),
                          ("PAUSE a b", "invalid command 'PAUSE a b', use SHOW HELP;"),
                          ("SHOW STATS; SHUTDOWN", "invalid command")):
        with pytest.raises(psycopg.Error, match=text):
            t.admin(command)


def test_suspend_and_resume(t):
    with t.connect("pgturnstile", ADMIN_USER) as console, t.connect("shop", "app") as client:
        client.execute("SELECT 1")
        console.execute("SUSPEND")
        assert console.execute("SHOW STATE").fetchall()[2] == ("suspended", "yes")
        answer = threading.Thread(target=client.execute, args=["SELECT 1"], daemon=True)
        answer.start()
        console.execute("RESUME")
        answer.join(10)
        assert not answer.is_alive()
        console.execute("SUSPEND")
    # The last admin is gone: nobody could log in to end it.
    with t.connect("shop", "app") as client:
        client.execute("SELECT 1")


def test_shutdown_waits_for_clients(t):
    with t.connect("shop", "app") as client:
        client.execute("SELECT 1")
        with t.connect("pgturnstile", ADMIN_USER) as console:
            assert console.execute("SHUTDOWN WAIT_FOR_CLIENTS").statusmessage == "SHUTDOWN"
        client.execute("SELECT 1")
        assert t.is_running()
    assert t.wait_exit() == 0


def test_shutdown_now(t):
    with t.connect("pgturnstile", ADMIN_USER) as console:
        with contextlib.suppress(psycopg.OperationalError):
            console.execute("SHUTDOWN")
    assert t.wait_exit() == 0


# --- tenants and nodes --------------------------------------------------------------------------
def test_tenants_and_tiers(primary, turnstile):
    t = turnstile({**config(primary, tenant_by="user_suffix"),
                   "tiers": {"standard": {"rate": "2/m", "quota": "100/h",
                                          "statement_timeout": "15s"}},
                   "tenants": {"acme": {"tier": "standard", "business_id": 42},
                               "globex": {"tier": "standard", "business_id": 7}}})
    with t.connect("shop", "app.acme", t.users["app"]) as client:
        for _ in range(2):
            client.execute("SELECT 2")
        with pytest.raises(psycopg.Error):
            client.execute("SELECT 2")
        rows = {r["name"]: r for r in t.admin("SHOW TENANTS")}
    acme, globex = rows["acme"], rows["globex"]
    assert (acme["business_id"], acme["tier"], acme["cl_active"]) == ("42", "standard", 1)
    assert (acme["statements"], acme["limited"], acme["tokens"]) == (2, 1, 0)
    assert (acme["quota_left"], globex["quota_left"]) == (98, 100)
    assert (globex["tokens"], globex["statements"]) == (2, 0)
    tier, = t.admin("SHOW TIERS")
    assert (tier["name"], tier["tenants"], tier["statement_timeout"]) == ("standard", 2, "15")
    # One row for a database and user, whatever the tenant.
    assert len([p for p in t.admin("SHOW POOLS") if p["database"] == "shop"]) == 1


def test_nodes(primary, replica, turnstile):
    t = turnstile({"pgturnstile": {"monitor_user": "postgres"},
                   "databases": {"shop": {"host": f"{primary.host},{replica.host}",
                                          "port": f"{primary.port},{replica.port}"}}})
    with t.connect("shop", "app") as client:
        client.execute("SELECT 1")
        wait_until(lambda: [n["role"] for n in t.admin("SHOW NODES")] == ["primary", "replica"],
                   what=lambda: t.admin("SHOW NODES"))
    nodes = t.admin("SHOW NODES")
    assert [n["port"] for n in nodes] == [primary.port, replica.port]
    assert all(n["seen"] is not None for n in nodes)
    monitors = [s["port"] for s in t.admin("SHOW SERVERS") if s["user"] == "postgres"]
    assert {primary.port, replica.port} <= {*monitors}
