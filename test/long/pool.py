# SPDX-License-Identifier: ISC
#
# pool.py - I5 under load: 60 clients on a pool of 5, never more than 5 sessions on the server.
"""pgbench in every mode, 30 s each (PGT_SECONDS for others), sampled without a pause."""
import os
import re
import subprocess
import sys
import threading

import psycopg

from stage import DATABASE, PASSWORD, USER, Stage, Table

SECONDS = int(os.environ.get("PGT_SECONDS", "30"))
CLIENTS, POOL = 60, 5
MODES = {"simple": ["-S", "-M", "simple"], "extended": ["-S", "-M", "extended"],
         "prepared": ["-S", "-M", "prepared"], "TPC-B, prepared": ["-M", "prepared"],
         "reconnecting": ["-S", "-C"]}


class Sampler(threading.Thread):
    """Counts the user's sessions on the server as fast as it answers."""

    def __init__(self, primary):
        super().__init__()
        self.connection = psycopg.connect(host=primary.host, port=primary.port, dbname="postgres",
                                          user="postgres", autocommit=True)
        self.most = self.samples = 0
        self.stopped = threading.Event()

    def run(self):
        query = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'"
        while not self.stopped.is_set():
            self.most = max(self.most, self.connection.execute(query).fetchone()[0])
            self.samples += 1

    def stop(self):
        self.stopped.set()
        self.join()
        self.connection.close()


def pgbench(server, *arguments):
    env = {**os.environ, "PGPASSWORD": PASSWORD}
    return subprocess.run(["pgbench", "-h", server.host, "-p", str(server.port), "-U", USER, "-n",
                           *arguments, DATABASE], env=env, capture_output=True, text=True)


def main():
    table = Table()
    with Stage() as stage:
        primary = stage.primary()
        pgbench(primary, "-i", "-q", "-s", "5")
        pooler = stage.turnstile({"pgturnstile": {"pool_mode": "transaction", "max_client_conn": 200,
                                                  "default_pool_size": POOL},
                                  "databases": {DATABASE: {"host": primary.host,
                                                           "port": primary.port}}})
        for name, arguments in MODES.items():
            sampler = Sampler(primary)
            sampler.start()
            done = pgbench(pooler, *arguments, "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS))
            sampler.stop()
            failed = re.search(r"failed transactions: (\d+)", done.stdout)
            errors = done.returncode or int(failed.group(1) if failed else 1)
            tps = re.search(r"tps = (\d+)", done.stdout)
            table.add(f"{name}: errors", 0, f"{errors} at {tps.group(1) if tps else '?'} tps", not errors)
            table.add(f"{name}: sessions", f"<= {POOL}",
                      f"{sampler.most} in {sampler.samples} samples", 0 < sampler.most <= POOL)
            if errors:
                print(done.stderr[-2000:])
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
