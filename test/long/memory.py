# SPDX-License-Identifier: ISC
#
# memory.py - what 10,000 idle authenticated clients cost the process, each.
"""The measurement is test/bench/idle.py; here it gets a pooler and a bar."""
import re
import subprocess
import sys
from pathlib import Path

from stage import DATABASE, USER, Stage, Table

CLIENTS, BAR = 10000, 700
IDLE = Path(__file__).resolve().parents[1] / "bench" / "idle.py"


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        pooler = stage.turnstile(
            {"pgturnstile": {"pool_mode": "transaction", "auth_type": "trust", "workers": 1,
                             "max_client_conn": CLIENTS + 10, "log_connections": 0},
             "databases": {DATABASE: {"host": primary.host, "port": primary.port}}})
        done = subprocess.run([sys.executable, str(IDLE), "--port", str(pooler.port), "--pid",
                               str(pooler.pid()), "--clients", str(CLIENTS), "--user", USER,
                               "--database", DATABASE], capture_output=True, text=True, check=True)
        cost = int(re.search(r"pss_per_client\s+(\d+)", done.stdout).group(1))
        table.add(f"bytes of memory per client, {CLIENTS} idle", f"<= {BAR}", cost, 0 < cost <= BAR)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
