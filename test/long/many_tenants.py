# SPDX-License-Identifier: ISC
#
# many_tenants.py - 100,000 tenants, of the file and of tenant_query: start, memory, SHOW, stalls.
"""Memory is the process's resident set; a stall is the longest trip of one client meanwhile."""
import re
import select
import subprocess
import sys
import time
import types
from pathlib import Path

from stage import DATABASE, PASSWORD, USER, Stage, Table, raw
from turnstile import ADMIN_USER

TENANTS = 100_000
ASKER = "asker"
SETTING = "app.current_business_id"
QUERY = "SELECT tenant, business_id, tier FROM known"
START_BAR, BYTES_BAR = 2.0, 400
PIPELINE = 500
# As many are used before the others are measured: threads keep some of those that come back.
WARM = 5000


def config(primary, file=0, query=False):
    settings = {"pool_mode": "transaction", "workers": 2, "tenant_pool": "shared",
                "tenant_by": ["user_suffix", "set"], "log_connections": 0,
                "log_disconnections": 0, "server_tls_sslmode": "disable"}
    if query:
        settings.update({"tenant_query": QUERY, "tenant_refresh": "1h", "monitor_user": ASKER,
                         "monitor_password": PASSWORD})
    return {"pgturnstile": settings,
            "databases": {DATABASE: {"host": primary.host, "port": primary.port}},
            "users": {USER: {"tenant_switch": "yes"}},
            "tiers": {"standard": {"statement_timeout": "30s"}},
            "tenants": {f"tenant_{n}": {"tier": "standard", "business_id": 1_000_000 + n}
                        for n in range(max(file, 1))}}


def memory(pooler, what="VmRSS"):
    status = Path(f"/proc/{pooler.pid()}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+)", status).group(1)) * 1024


def forget_peak(pooler):
    Path(f"/proc/{pooler.pid()}/clear_refs").write_text("5")


def log_in(pooler):
    client = raw.RawClient(pooler.port, pooler.host, 120.0)
    return client.login(f"{USER}.tenant_0", DATABASE, PASSWORD)


def trip(client):
    begun = time.monotonic()
    assert client.rows("SELECT 2") == [("2",)]
    return time.monotonic() - begun


class Trips:
    """A process that asks all the time, and tells at its end how long the longest trip took."""

    def __init__(self, pooler):
        self.longest = None
        self.process = subprocess.Popen([sys.executable, __file__, pooler.host, str(pooler.port)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "begins\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.longest = float(self.process.communicate("")[0])

    @staticmethod
    def run(host, port):
        longest = 0.0
        with log_in(types.SimpleNamespace(host=host, port=int(port))) as client:
            trip(client)
            print("begins", flush=True)
            while not select.select([sys.stdin], [], [], 0)[0]:
                longest = max(longest, trip(client))
        print(longest)


def use(pooler, begin, end):
    """These tenants have been somebody's once."""
    with log_in(pooler) as client:
        for first in range(begin, end, PIPELINE):
            client.send(*(raw.query(f"SET {SETTING} = '{1_000_000 + n}'")
                          for n in range(first, first + PIPELINE)))
            for _ in range(PIPELINE):
                assert raw.kinds(client.until("Z")) == "CZ"


def wait_known(pooler):
    while pooler.admin("SHOW TENANT_QUERY")[0]["tenants"] < TENANTS - 1:
        time.sleep(0.01)


def start(stage, what, settings, until=None):
    pooler = stage.prepared_turnstile(settings)
    begun = time.monotonic()
    pooler.start()
    if until:
        until(pooler)
    return pooler, time.monotonic() - begun


def measure_show(table, what, pooler):
    forget_peak(pooler)
    before = memory(pooler)
    with Trips(pooler) as trips, pooler.connect(pooler.console, ADMIN_USER) as connection:
        begun = time.monotonic()
        rows = connection.pgconn.exec_(b"SHOW TENANTS").ntuples
        took = time.monotonic() - begun
    grown = (memory(pooler, "VmHWM") - before) / 2**20
    table.add(f"{what}: SHOW TENANTS, rows", TENANTS, rows, rows == TENANTS)
    table.add(f"{what}: SHOW TENANTS, seconds; MiB at its peak; longest trip meanwhile, ms",
              "<= 5; <= 4; <= 200", f"{took:.2f}; {grown:.1f}; {trips.longest * 1000:.0f}",
              took <= 5 and grown <= 4 and trips.longest <= 0.2)


def measure_change(table, what, pooler, change):
    with Trips(pooler) as trips:
        begun = time.monotonic()
        change()
        took = time.monotonic() - begun
        time.sleep(1)
    table.add(f"{what}, seconds; longest trip meanwhile, ms", "<= 2; <= 200",
              f"{took:.2f}; {trips.longest * 1000:.0f}", took <= 2 and trips.longest <= 0.2)


def measure(table, stage, what, settings, empty, until, change):
    none, _ = start(stage, what, empty)
    floor = memory(none)
    none.remove()
    pooler, took = start(stage, what, settings, until)
    cost = (memory(pooler) - floor) / TENANTS
    table.add(f"{what}: start with {TENANTS} tenants, seconds", f"< {START_BAR}", f"{took:.2f}",
              took < START_BAR)
    table.add(f"{what}: bytes for a tenant", f"<= {BYTES_BAR}", f"{cost:.0f}", cost <= BYTES_BAR)
    use(pooler, 0, WARM)
    before = memory(pooler)
    use(pooler, WARM, TENANTS)
    cost += (memory(pooler) - before) / (TENANTS - WARM)
    table.add(f"{what}: bytes for a tenant that was used once", f"<= {BYTES_BAR}", f"{cost:.0f}",
              cost <= BYTES_BAR)
    measure_show(table, what, pooler)
    measure_change(table, f"{what}: {change.__name__}", pooler, lambda: change(pooler))
    pooler.remove()


def prepare(primary):
    primary.role(ASKER, PASSWORD)
    primary.sql("CREATE TABLE known (tenant text PRIMARY KEY, business_id text UNIQUE, tier text)",
                dbname=DATABASE)
    primary.sql(f"INSERT INTO known SELECT 'tenant_' || n, (1000000 + n)::text, 'standard'"
                f" FROM generate_series(0, {TENANTS - 1}) n", dbname=DATABASE)
    primary.sql(f"GRANT SELECT ON known TO {ASKER}", dbname=DATABASE)
    primary.sql("ANALYZE known", dbname=DATABASE)


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        prepare(primary)

        def RELOAD(pooler):
            pooler.admin("RELOAD")

        def refresh(pooler):
            primary.sql("UPDATE known SET tier = NULL WHERE tenant = 'tenant_7'", dbname=DATABASE)
            primary.sql("NOTIFY pgturnstile_tenants", dbname=DATABASE)
            while pooler.admin("SHOW TIERS")[0]["tenants"] == TENANTS:
                time.sleep(0.05)

        measure(table, stage, "file", config(primary, TENANTS), config(primary), None, RELOAD)
        measure(table, stage, "query", config(primary, query=True), config(primary),
                wait_known, refresh)
    return table.finish()


if __name__ == "__main__":
    sys.exit(Trips.run(*sys.argv[1:]) if len(sys.argv) > 1 else main())
