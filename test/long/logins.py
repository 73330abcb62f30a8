# SPDX-License-Identifier: ISC
#
# logins.py - a server that comes back while 200 tenants wait for it, each with a pool of its own: how long
# until they are served, and what that costs the server, by server_login_concurrency.
#
# Each login makes the server work for some milliseconds, as one does that is not as idle as a test's, and
# has two seconds for it.
"""PGT_ROUNDS for each number of logins in PGT_LOGINS, in turns; PGT_TENANTS."""
import os
import selectors
import statistics
import sys
import time

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw

from waiting import wait_until

ROUNDS = int(os.environ.get("PGT_ROUNDS", "5"))
TENANTS = int(os.environ.get("PGT_TENANTS", "200"))
LOGINS = [int(n) for n in os.environ.get("PGT_LOGINS", "0,8,32").split(",")]
WORK = "SELECT count(*) FROM generate_series(1, 150000)"
TICK = os.sysconf("SC_CLK_TCK")


def middle(values):
    return f"{statistics.median(values):.2f}"


def cpu_of(server):
    """Seconds of the postmaster and of its children that have ended."""
    with open(f"/proc/{server.pid()}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def come_back(server, clients):
    """Seconds from the server's start until each client is served, in that order."""
    server.stop()
    for client in clients:
        client.send(raw.query("SELECT 2"))
    took, began = [], time.monotonic()
    server.start()
    waiting = selectors.DefaultSelector()
    for client in clients:
        waiting.register(client.sock, selectors.EVENT_READ, client)
    while len(took) < len(clients):
        for key, _ in waiting.select(60):
            assert raw.kinds(key.data.until("Z")) == "TDCZ"
            took.append(time.monotonic() - began)
            waiting.unregister(key.fileobj)
    return took


def wait_sessions(server, count):
    wait_until(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", [USER])
               == count, 60)


def main():
    table = Table()
    half, last, cost, failed = ({n: [] for n in LOGINS} for _ in range(4))
    with Stage() as stage:
        server = stage.primary(settings={"max_connections": TENANTS + 100})
        pooler = stage.turnstile({
            "pgturnstile": {"pool_mode": "transaction", "server_tls_sslmode": "disable", "workers": 2,
                            "max_client_conn": TENANTS + 100, "tenant_by": "user_suffix",
                            "server_login_retry": "100ms", "server_connect_timeout": 2, "query_wait_timeout": 60, "query_wait_notify": 0,
                            "log_connections": 0, "log_disconnections": 0},
            "databases": {DATABASE: {"host": server.host, "port": server.port, "connect_query": WORK}},
            "tiers": {"standard": {}},
            "tenants": {f"t{n}": {"tier": "standard", "business_id": n + 1} for n in range(TENANTS)}})
        clients = [stage.enter_context(raw.RawClient(pooler.port, timeout=120)).login(
            f"{USER}.t{n}", DATABASE, PASSWORD) for n in range(TENANTS)]
        for _ in range(ROUNDS):
            for logins in LOGINS:
                pooler.reload({"pgturnstile": {"server_login_concurrency": logins}})
                logged = pooler.log_text().count("server_connect_timeout")
                took = come_back(server, clients)
                half[logins].append(took[len(took) // 2])
                last[logins].append(took[-1])
                failed[logins].append(pooler.log_text().count("server_connect_timeout") - logged)
                wait_sessions(server, TENANTS)
                server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [USER])
                wait_sessions(server, 0)
                cost[logins].append(cpu_of(server))
        pooler.stop()
    for n in LOGINS:
        table.add(f"{n or 'any number of'} logins at a time: {TENANTS} tenants served, half of them, all; logins"
                  " that took too long; CPU of the server", "0 too long" if n else "any",
                  f"{middle(half[n])} s, {middle(last[n])} s; {middle(failed[n])}; {middle(cost[n])} s",
                  not n or not any(failed[n]))
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
