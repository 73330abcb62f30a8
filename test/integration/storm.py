# SPDX-License-Identifier: ISC
#
# storm.py - many more clients than there are places, as one process (storm.c).
#
# Knows what they ask and who may come in; not how much time anything may take.
"""storm(): what a storm before a pooler has shown, as numbers; overloaded(): the pooler's settings."""
import subprocess
from pathlib import Path

from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import scratch_dir

SERVERS, PLACES, CLIENTS = 10, 100, 1000  # each ten times as many as those before
SERVICE = 0.02                            # seconds that a server takes for a query
QUERIES = 20                              # that a client asks before it leaves and comes again


def overloaded(places=PLACES, servers=SERVERS):
    return {"max_client_conn": places, "default_pool_size": servers, "auth_type": "scram-sha-256",
            "log_connections": 0, "log_disconnections": 0}


def build_storm():
    program = scratch_dir("storm") / "storm"
    subprocess.run(["cc", "-O2", "-o", str(program), str(Path(__file__).with_name("storm.c")), "-lcrypto"],
                   check=True)
    return program


def storm(program, pooler, seconds, clients=CLIENTS, addresses=1, database=APP_DATABASE, user=APP_USER,
          password=APP_PASSWORD):
    """Counts and microseconds by name; `said`: what the clients complained of."""
    done = subprocess.run(
        [program, str(pooler.port), user, password, database, str(clients), str(addresses), str(seconds),
         str(QUERIES), f"SELECT pg_sleep({SERVICE})"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
    shown = {name: int(value) for name, value in map(str.split, done.stdout.splitlines())}
    return {**shown, "said": done.stderr.splitlines()}
