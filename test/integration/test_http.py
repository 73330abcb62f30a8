# SPDX-License-Identifier: ISC
#
# test_http.py - metrics, health and readiness over HTTP; rules and dashboard; PgBouncer's exporter.
"""What is served equals what SHOW says; promtool and prometheus_client read it as it should be."""
import contextlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import threading
import urllib.error
import urllib.request

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import Port, listened_at, listens, scratch_dir, spawn
from rig import log_in, shop, wait_nodes
from tenancy import enter, make_ledger, tenants
from turnstile import ADMIN_USER, TOP, merge
from waiting import wait_until

OPEN = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
TOKEN = "correct horse battery staple"
EXPORTER = "/usr/bin/prometheus-pgbouncer-exporter"


@pytest.fixture
def port():
    free = Port()
    yield free.number
    free.release()


def get(port, path, token=None, **headers):
    """(status, body, content type)"""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers["Content-Type"]


def samples(port):
    """{(name, labels): value} of /metrics."""
    parser = pytest.importorskip("prometheus_client.openmetrics.parser")
    status, body, kind = get(port, "/metrics", **OPEN)
    assert status == 200 and kind.startswith("application/openmetrics-text; version=1.0.0")
    return {(s.name, frozenset(s.labels.items())): s.value
            for family in parser.text_string_to_metric_families(body) for s in family.samples}


def value(found, name, **labels):
    return found[f"pgturnstile_{name}", frozenset((k, str(v)) for k, v in labels.items())]


def metric_names():
    """All that docs/metrics.md has, by sample name."""
    rows = re.findall(r"^\| `(pgturnstile_\w+)` \| (\w+) ", (TOP / "docs/metrics.md").read_text(), re.M)
    return {name + end for name, kind in rows
            for end in (["_bucket", "_sum", "_count"] if kind == "histogram" else [""])}


# --- metrics -----------------------------------------------------------------------------------
def test_metrics_are_what_show_says(primary, turnstile, port):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"http_listen": port}))
    with enter(pooler, "acme") as acme, enter(pooler, "globex") as globex:
        for _ in range(5):
            acme.rows("SELECT 2")
        globex.rows("SELECT pg_sleep(0.2)")
        found = samples(port)
        stats, = (r for r in pooler.admin("SHOW STATS_TOTALS") if r["database"] == APP_DATABASE)
        latency, = (r for r in pooler.admin("SHOW LATENCIES") if r["node"] == 0
                    and (r["kind"], r["period"]) == ("query", "1h"))
        rows = {r["name"]: r for r in pooler.admin("SHOW TENANTS")}
    assert value(found, "query_total", database=APP_DATABASE) == stats["query_count"] == 6
    assert value(found, "query_time_seconds_total", database=APP_DATABASE) == \
        pytest.approx(float(stats["query_time"]) / 1e6)
    assert value(found, "query_duration_seconds_count", database=APP_DATABASE, node=0) == \
        value(found, "query_duration_seconds_bucket", database=APP_DATABASE, node=0, le="+Inf") == \
        latency["count"] == 6
    assert value(found, "query_duration_seconds_bucket", database=APP_DATABASE, node=0,
                 le="0.196608") == 5
    assert value(found, "query_duration_seconds_sum", database=APP_DATABASE, node=0) == \
        pytest.approx(float(latency["avg"]) * 6 / 1e6, rel=0.05)
    assert value(found, "tenant_statements_total", tenant="acme") == rows["acme"]["statements"] == 5
    for period, columns in ("1m", "query"), ("1h", "hour"):
        for figure in "p50", "p95", "p99", "max":
            assert value(found, f"tenant_latency_{figure}_seconds", tenant="globex", kind="query",
                         period=period) == pytest.approx(float(rows["globex"][f"{columns}_{figure}"]) / 1e6)
            # A bucket is told by its middle, which is up to 1.6 % from what was in it.
            assert value(found, f"tenant_latency_{figure}_seconds", tenant="globex", kind="transaction",
                         period=period) >= 0.2 * 0.98
            assert value(found, f"latency_{figure}_seconds", database=APP_DATABASE, node=0, kind="query",
                         period=period) == value(found, f"latency_{figure}_seconds", database=APP_DATABASE,
                                                 kind="query", period=period) == \
                pytest.approx(float(latency[figure]) / 1e6)
    assert value(found, "tenant_clients_active", tenant="acme") == 1
    assert value(found, "database_pool_size", database=APP_DATABASE) == 2
    assert value(found, "items", list="used_clients") == 2


def test_every_metric_is_documented_and_there(primary, turnstile, port):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"http_listen": port, "default_pool_size": 1,
                                         "monitor_user": "postgres",
                                         "monitor_password": "any"}))
    with enter(pooler, "acme") as acme, enter(pooler, "acme") as other:
        acme.send(raw.query("SELECT pg_sleep(0.1)"))
        other.rows("SELECT 2")
        acme.until("Z")
        _, body, _ = get(port, "/metrics")
    types = set(re.findall(r"^# TYPE (\w+) ", body, re.M))
    documented = {re.sub("_(bucket|sum|count)$", "", n) if "_duration_" in n else n
                  for n in metric_names()}
    assert types == documented
    used = set(re.findall(r"^(pgturnstile_\w+)", body, re.M))
    missing = metric_names() - used
    assert not {n for n in missing if not n.startswith("pgturnstile_node_")}
    assert not re.search("^# HELP .*_seconds Microseconds", body, re.M)
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run([promtool, "check", "metrics"], input=body, text=True,
                             capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_nodes(primary, replica, turnstile, port):
    primary.role("scrape_asker", "scrape_asker-password")
    primary.sql("GRANT pg_monitor TO scrape_asker")
    pooler = turnstile(shop(primary, {"http_listen": port, "monitor_user": "scrape_asker",
                                      "monitor_password": "scrape_asker-password",
                                      "monitor_interval": "100ms"},
                            {"host": f"{primary.host},{replica.host}",
                             "port": f"{primary.port},{replica.port}"}))
    wait_nodes(pooler, "primary", "replica")
    wait_until(lambda: all(n["blocks_hit"] for n in pooler.admin("SHOW NODES")), 20)
    with log_in(pooler) as client:
        client.rows("SELECT 2")
        found = samples(port)
    nodes = [dict(database=APP_DATABASE, node=i, host=s.host, port=s.port)
             for i, s in enumerate((primary, replica))]
    assert value(found, "node_role", role="primary", **nodes[0]) == 1
    assert value(found, "node_role", role="replica", **nodes[1]) == 1
    assert value(found, "node_lag_seconds", **nodes[1]) < 60
    assert value(found, "node_lock_waits", **nodes[0]) >= 0
    assert value(found, "node_lock_wait_seconds", **nodes[1]) >= 0
    assert value(found, "node_blocks_hit_total", **nodes[0]) > 0
    assert value(found, "node_deadlocks_total", **nodes[1]) >= 0
    assert 0 < value(found, "node_monitor_latency_seconds", **nodes[0]) < 60


def test_names_that_clients_choose_stay_text(primary, turnstile, port):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"http_listen": port, "unknown_tenant": "basic"}))
    names = ['x"} 1', "back\\slash", "two\nlines", "</script>", "Bär", "a,b={}"]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(enter(pooler, name)).rows("SELECT 2")
        found = samples(port)
        status, body, kind = get(port, "/stats.json")
    for name in names:
        assert value(found, "tenant_statements_total", tenant=name) == 1
    assert (status, kind) == (200, "application/json")
    assert {row["name"] for row in json.loads(body)["top_tenants"]} >= set(names)


def test_tenants_are_bounded_to_those_that_send_most(primary, turnstile, port):
    make_ledger(primary)
    pooler = turnstile(tenants(primary, {"http_listen": port, "metrics_tenants": "top:2"}))
    for name, count in ("acme", 1), ("globex", 3), ("initech", 2):
        with enter(pooler, name) as client:
            for _ in range(count):
                client.rows("SELECT 2")

    def seen(metric):
        return {dict(labels)["tenant"] for (name, labels) in samples(port)
                if name == metric}

    for metric in "pgturnstile_tenant_statements_total", "pgturnstile_tenant_latency_p95_seconds":
        assert seen(metric) == {"globex", "initech"}
    pooler.reload({"pgturnstile": {"metrics_tenants": "none"}})
    for metric in "pgturnstile_tenant_statements_total", "pgturnstile_tenant_latency_p95_seconds":
        assert seen(metric) == set()


def test_json_has_the_tables(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"http_listen": port}))
    with log_in(pooler) as client:
        client.rows("SELECT 2")
        tables = json.loads(get(port, "/stats.json")[1])
        pools = pooler.admin("SHOW POOLS")
    assert [(r["database"], r["user"]) for r in tables["pools"]] == \
        [(r["database"], r["user"]) for r in pools]
    counters, = (r for r in tables["counters"] if r["database"] == APP_DATABASE)
    assert counters["query_count"] == 1
    assert {"query", "connect"} <= {r["kind"] for r in tables["latencies"]}


# --- who may ask -------------------------------------------------------------------------------
@pytest.fixture
def token_file():
    path = scratch_dir("token") / "token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return path


def test_a_token_is_asked_for_where_there_is_one(primary, turnstile, port, token_file):
    pooler = turnstile(shop(primary, {"http_listen": port, "http_token_file": token_file}))
    for path in "/metrics", "/stats.json":
        for wrong in None, "x", TOKEN[:-1], TOKEN + "x":
            status, body, _ = get(port, path, wrong)
            assert status == 401 and "pgturnstile_" not in body
        assert get(port, path, TOKEN)[0] == 200
    for path in "/healthz", "/readyz":
        assert get(port, path)[0] == 200
    token_file.write_text("another one of good length")
    assert get(port, "/metrics", TOKEN)[0] == 200
    pooler.reload()
    assert get(port, "/metrics", TOKEN)[0] == 401
    assert get(port, "/metrics", "another one of good length")[0] == 200
    pooler.admin("SET verbose = 1")
    assert get(port, "/metrics", TOKEN)[0] == 401


def test_i8_a_token_that_is_none_refuses_the_reload(primary, turnstile, port, token_file):
    pooler = turnstile(shop(primary, {"http_listen": port, "http_token_file": token_file}))
    for text, mode in ("short", 0o600), (TOKEN, 0o644):
        token_file.write_text(text)
        token_file.chmod(mode)
        with pytest.raises(psycopg.Error, match="http_token_file|token"):
            pooler.reload()
        assert get(port, "/metrics", TOKEN)[0] == 200
        assert get(port, "/metrics")[0] == 401


def test_i9_the_token_is_nowhere_to_be_seen(primary, turnstile, port, token_file):
    pooler = turnstile(shop(primary, {"http_listen": port, "http_token_file": token_file,
                                      "verbose": 3}))
    bodies = [get(port, path, TOKEN)[1] for path in ("/metrics", "/stats.json", "/readyz")]
    assert TOKEN not in "".join(bodies) + pooler.log_text() + str(pooler.admin("SHOW CONFIG"))


def test_it_is_on_loopback_unless_told_otherwise(primary, turnstile, port):
    turnstile(shop(primary, {"http_listen": port}))
    assert listened_at(port) == ["0100007F"]  # 127.0.0.1


def test_everybody_is_warned_of(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"http_listen": f"0.0.0.0:{port}"}))
    pooler.wait_log(r"everybody who can connect to 0\.0\.0\.0")
    assert get(port, "/healthz")[0] == 200


def test_a_port_that_is_taken_is_an_error_at_the_start(primary, port):
    from turnstile import Turnstile
    with socket.create_server(("127.0.0.1", port)):
        pooler = Turnstile(shop(primary, {"http_listen": port}))
        with pytest.raises(AssertionError, match="http_listen.*in use"):
            pooler.start()


# --- requests that make no sense -----------------------------------------------------------------
def test_other_pages_and_methods(primary, turnstile, port):
    turnstile(shop(primary, {"http_listen": port}))
    assert get(port, "/nothing")[0] == get(port, "/metrics/..")[0] == 404
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    client.request("POST", "/metrics", b"x" * 100_000)
    assert client.getresponse().status == 405
    client.close()
    client.request("HEAD", "/metrics")
    answer = client.getresponse()
    assert answer.status == 200 and answer.read() == b""
    client.close()
    # A body that a GET has no use for.
    client.request("GET", "/healthz", b"x" * 5000)
    assert client.getresponse().read() == b"ok\n"
    client.close()


def test_i6_hostile_requests_cost_nothing(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"http_listen": port}))
    with contextlib.ExitStack() as stack:
        for _ in range(30):  # that say nothing, or not all
            s = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")
        s = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
        with contextlib.suppress(ConnectionError):
            s.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n")
            assert not s.recv(100).startswith(b"HTTP/1.1 200")
        assert get(port, "/healthz")[0] == 200
    # Those who hang up before their answer.
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", port), 30) as s:
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    with log_in(pooler) as client:
        client.rows("SELECT 2")
    assert get(port, "/healthz")[0] == 200


# --- readiness -----------------------------------------------------------------------------------
def test_ready_is_who_has_a_primary_for_each_database(primary, turnstile, port):
    nobody = Port()
    config = merge(shop(primary, {"http_listen": port, "server_login_retry": "100ms",
                                  "query_wait_timeout": "500ms"}),
                   {"databases": {"gone": {"host": primary.host, "port": nobody.number}}})
    pooler = turnstile(config)
    with log_in(pooler) as client:
        client.rows("SELECT 2")
        assert get(port, "/readyz")[:2] == (200, "ready\n")
    with pytest.raises(psycopg.OperationalError):
        pooler.connect("gone", APP_USER, APP_PASSWORD)
    status, body, _ = get(port, "/readyz")
    assert status == 503 and body.startswith("not ready\ngone: ")
    pooler.reload({"pgturnstile": {"query_wait_timeout": "30s"},
                   "databases": {"gone": {"host": primary.host, "port": primary.port,
                                          "dbname": APP_DATABASE}}})
    with pooler.connect("gone", APP_USER, APP_PASSWORD) as connection:
        connection.execute("SELECT 2")
    wait_until(lambda: get(port, "/readyz")[0] == 200, 30, lambda: get(port, "/readyz"))
    nobody.release()


def test_a_suspended_process_is_not_ready_and_healthy(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"http_listen": port}))
    with pooler.connect(pooler.console, ADMIN_USER) as console:
        console.execute("SUSPEND")
        assert get(port, "/readyz")[:2] == (503, "not ready\npgturnstile: suspended\n")
        assert get(port, "/healthz")[0] == 200
        console.execute("RESUME")
        assert get(port, "/readyz")[0] == 200


def test_one_that_waits_for_its_clients_is_not_ready(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"http_listen": port}))
    with log_in(pooler) as client:
        client.rows("SELECT 2")
        pooler.signal(signal.SIGTERM)
        pooler.wait_log("waiting until the last client has left")
        status, body, _ = get(port, "/readyz")
        assert status == 503 and "shutting down" in body
    pooler.wait_exit()


def test_it_ends_in_the_middle_of_scrapes(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"http_listen": port}))
    ends = threading.Event()

    def scrape():
        while not ends.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                get(port, "/metrics")

    threads = [threading.Thread(target=scrape) for _ in range(6)]
    for thread in threads:
        thread.start()
    try:
        with log_in(pooler) as client:
            for _ in range(100):
                client.rows("SELECT 2")
        pooler.stop()
    finally:
        ends.set()
        for thread in threads:
            thread.join()


# --- what stands in etc/ ---------------------------------------------------------------------------
def names_in(text):
    # A recorded series is named with colons.
    return set(re.findall(r"\bpgturnstile_\w+\b(?!:)", text))


def test_rules_and_dashboard_ask_for_metrics_that_are_there():
    rules = (TOP / "etc/prometheus/pgturnstile.rules.yml").read_text()
    board = json.loads((TOP / "etc/grafana/pgturnstile.json").read_text())
    asked = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    asked += [v["query"] for v in board["templating"]["list"]]
    for text in [rules, *asked]:
        assert names_in(text) <= metric_names(), names_in(text) - metric_names()
    alerts = set(re.findall(r"alert: (\w+)", rules))
    assert alerts == set(re.findall(r"\bPgturnstile\w+", (TOP / "docs/operations.md").read_text()))


def test_each_alert_is_seen_to_fire():
    rules = (TOP / "etc/prometheus/pgturnstile.rules.yml").read_text()
    tests = (TOP / "etc/prometheus/pgturnstile.test.yml").read_text()
    fired = set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", tests))
    assert fired == set(re.findall(r"alert: (\w+)", rules))


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian: prometheus")
def test_rules_hold_and_fire():
    for command, file in ("check", "pgturnstile.rules.yml"), ("test", "pgturnstile.test.yml"):
        done = subprocess.run(["promtool", command, "rules", file], cwd=TOP / "etc/prometheus",
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="Debian: prometheus")
def test_queries_of_the_dashboard_are_well_formed():
    board = json.loads((TOP / "etc/grafana/pgturnstile.json").read_text())
    asked = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
    rules = [{"record": f"r{i}", "expr": re.sub(r"\$__rate_interval", "5m", expr)}
             for i, expr in enumerate(asked)]
    path = scratch_dir("board") / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- PgBouncer's exporter ------------------------------------------------------------------------
@pytest.mark.skipif(not shutil.which(EXPORTER), reason="Debian: prometheus-pgbouncer-exporter")
def test_debians_exporter_finds_all_that_it_knows(primary, turnstile, port):
    pooler = turnstile(shop(primary, {"auth_type": "any", "admin_users": ADMIN_USER,
                                      "console_old_columns": "yes"}))
    log = scratch_dir("exporter") / "log"
    command = [EXPORTER, "--port", str(port), "--host", "127.0.0.1", "--pgbouncer-port",
               str(pooler.port), "--pgbouncer-host", pooler.host, "--pgbouncer-user", ADMIN_USER]
    exporter = spawn(command, log, "KILL", service_user=False)
    try:
        with log_in(pooler) as client:
            client.rows("SELECT 2")
            wait_until(lambda: exporter.poll() is not None or listens(port),
                       30, lambda: log.read_text())
            status, body, _ = get(port, "/metrics")
    finally:
        exporter.terminate()
        exporter.wait()
    text = log.read_text()
    assert status == 200 and not re.search("error|traceback|exception", text, re.I), text
    listed = subprocess.run(
        ["/usr/bin/python3", "-c", "from prometheus_pgbouncer_exporter import collectors as c\n"
         "for x in c.ListsCollector, c.StatsCollector, c.PoolsCollector, c.DatabasesCollector:\n"
         "    print(*(name for name, _ in x.metrics.values()), sep='\\n')"],
        check=True, capture_output=True, text=True).stdout.split()
    assert len(listed) == 20
    for name in listed:
        assert re.search(rf"^pgbouncer_{name}[ {{]", body, re.M), name
    assert re.search(rf'^pgbouncer_requests_total{{database="{APP_DATABASE}"}} 1\.0$', body, re.M)


def test_a_few_addresses_do_not_take_all_connections(primary, turnstile, port):
    """A health check from elsewhere is answered whatever somebody holds open."""
    turnstile(shop(primary, {"http_listen": port}))
    with contextlib.ExitStack() as held:
        for n in range(200):
            sock = held.enter_context(socket.create_connection(
                ("127.0.0.1", port), 10, source_address=(f"127.0.0.{3 + n % 4}", 0)))
            with contextlib.suppress(OSError):  # it is closed already
                sock.sendall(b"GET /heal")
        other = http.client.HTTPConnection("127.0.0.1", port, 10, source_address=("127.0.0.2", 0))
        held.callback(other.close)
        other.request("GET", "/healthz")
        assert other.getresponse().read() == b"ok\n"
