# SPDX-License-Identifier: ISC
#
# test_drivers.py - programs of ../drivers see the same through the pooler as on the server.
#
# Runs and compares; what a program does and prints is its own.
"""The driver matrix: a program per driver, run directly and through a small, busy pool."""
import contextlib
import dataclasses
import functools
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import scratch_dir
from rig import log_in, shop
from test_routing import pair, routed, wait_routed  # noqa: F401 - one is a fixture
from turnstile import TOP
from waiting import wait_until

DRIVERS = TOP / "test/drivers"
# Where test/run.sh has npm put them.
NODE_MODULES = Path(os.environ.get("PGTURNSTILE_NODE_MODULES", TOP / "build/node/node_modules"))
POOL_SIZE = 3
SECONDS = 55  # for one run of one program


@dataclasses.dataclass
class Program:
    """How to run one, and how to build it first; {src} is its folder, {out} a scratch directory."""

    command: list
    build: tuple = ()
    is_slow: bool = False  # its toolchain is heavy
    settings: dict = dataclasses.field(default_factory=dict)


def python(name, *arguments):
    return Program([sys.executable, f"{{src}}/{name}_app.py", *arguments])


def jdbc(*arguments):
    classes = "{out}:/usr/share/java/postgresql.jar"
    return Program(["java", "-cp", classes, "-Xmx128m", "-XX:TieredStopAtLevel=1", "Jdbc", *arguments],
                   ("javac", "-Xlint:all", "-Werror", "-cp", classes, "-d", "{out}", "{src}/Jdbc.java"),
                   is_slow=True)


def go(name, *arguments):
    environment = ["GO111MODULE=off", "GOPATH=/usr/share/gocode", "GOCACHE={out}/cache", "CGO_ENABLED=0"]
    return Program(["{out}/app", *arguments],
                   ("env", *environment, "go", "build", "-o", "{out}/app", f"{{src}}/{name}_app.go"),
                   is_slow=True)


def node(name, *arguments):
    return Program(["node", "--no-deprecation", f"{{src}}/{name}_app.js", *arguments], is_slow=True)


# For those that ask for currval(): it must not be an error when others have had the server since.
CURRVAL = {"sequence_state": "pin"}

PROGRAMS = {
    "libpq": Program(["{out}/libpq"],
                     ("sh", "-c", "cc -Wall -Werror -o {out}/libpq {src}/libpq.c"
                      " $(pkg-config --cflags --libs libpq)"), settings=CURRVAL),
    "psql": Program(["psql", "-X", "-f", "{src}/psql.sql"]),
    "pgbench": Program(["sh", "{src}/pgbench.sh"]),
    "psycopg2": python("psycopg2"),
    "psycopg3": python("psycopg3"),
    "asyncpg": python("asyncpg"),
    "asyncpg-changes": python("asyncpg", "changes"),
    "sqlalchemy": python("sqlalchemy"),
    "django": python("django"),
    "dbd_pg": Program(["perl", "{src}/dbd_pg.pl"], settings=CURRVAL),
    "ruby_pg": Program(["ruby", "{src}/ruby_pg.rb"]),
    "jdbc-threshold-1": jdbc("1"),
    "jdbc-threshold-5": jdbc("5"),
    "jdbc-changes": jdbc("1", "changes"),
    "pgx": go("pgx"),
    "pgx-changes": go("pgx", "changes"),
    "pq": go("pq"),
    "node-postgres": node("pg"),
    "node-postgres-changes": node("pg", "changes"),
    "postgres.js": node("postgres"),
    "postgres.js-changes": node("postgres", "changes"),
}

def parameters():
    for name, program in PROGRAMS.items():
        yield pytest.param(name, marks=[pytest.mark.slow] if program.is_slow else [], id=name)


def run(program, server, out):
    """What the program prints, both outputs as one, when it is let loose on `server`."""
    where = {"src": DRIVERS, "out": out}
    environment = {"PATH": os.environ["PATH"], "HOME": str(out), "LC_ALL": "C.UTF-8", "TZ": "UTC",
                   "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": APP_USER,
                   "PGPASSWORD": APP_PASSWORD, "PGDATABASE": APP_DATABASE, "PGSSLMODE": "disable",
                   "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "NODE_PATH": str(NODE_MODULES)}
    done = subprocess.run([part.format(**where) for part in program.command], cwd=out, text=True,
                          env=environment, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}"
    assert done.stdout.strip()
    return done.stdout


@functools.cache
def build(command, name):
    """A scratch directory with what the command makes in it, if there is one."""
    out = scratch_dir(name)
    if command:
        done = subprocess.run([part.format(src=DRIVERS, out=out) for part in command], cwd=out,
                              check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
    return out


class Bystander(threading.Thread):
    """Somebody else on the same pool: takes servers in turns and finds nobody's traces there."""

    LOOK = """
        SELECT current_setting('search_path'), current_setting('TimeZone'), current_user::text,
               current_setting('application_name'), current_setting('statement_timeout'),
               (SELECT count(*) FROM pg_listening_channels()),
               (SELECT count(*) FROM pg_cursors WHERE name <> ''),
               (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
               to_regclass('own'), %s::int"""

    def __init__(self, server, name, timezone):
        super().__init__()
        self._server, self._name, self._timezone = server, name, timezone
        self._enough = threading.Event()
        self.pids, self.error = set(), None

    def run(self):
        fresh = ('"$user", public', self._timezone, APP_USER, self._name, "0", 0, 0, 0, None)
        try:
            with self._server.connect(APP_DATABASE, APP_USER, application_name=self._name,
                                      options=f"-c TimeZone={self._timezone}") as connection:
                turn = 0
                while not self._enough.is_set():
                    turn += 1
                    look = connection.execute(self.LOOK, [turn]).fetchone()
                    assert look == (*fresh, turn)
                    with connection.transaction():
                        self.pids.add(connection.execute("SELECT pg_backend_pid()").fetchone()[0])
                        connection.execute("SELECT pg_sleep(0.001)")
        except Exception as error:  # noqa: BLE001 - shown by finish()
            self.error = error

    def finish(self):
        self._enough.set()
        self.join()
        if self.error:
            raise self.error


@contextlib.contextmanager
def bystanders(server):
    """Three of them, as long as the block lasts."""
    crowd = [Bystander(server, f"bystander {zone}", zone)
             for zone in ("Asia/Tokyo", "America/Lima", "UTC")]
    for one in crowd:
        one.start()
    try:
        yield crowd
    finally:
        for one in crowd:
            one.finish()


@pytest.mark.parametrize("mode", ["transaction"])
@pytest.mark.parametrize("name", parameters())
def test_i2_same_output_as_on_a_direct_connection(primary, turnstile, name, mode):
    program = PROGRAMS[name]
    out = build(program.build, name.partition("-")[0])
    expected = run(program, primary, out)
    t = turnstile(shop(primary, {"pool_mode": mode, "default_pool_size": POOL_SIZE,
                                  **program.settings}))
    with bystanders(t) as crowd:
        assert run(program, t, out).splitlines() == expected.splitlines()
        # A program may be over before two of them have been at it at the same time.
        wait_until(lambda: any(one.error for one in crowd)
                   or len(set().union(*(one.pids for one in crowd))) > 1,
                   what="they have had more than one server")


@pytest.mark.slow
@pytest.mark.parametrize("threshold", ["1", "5"])
def test_i4_jdbc_reads_on_the_replica_where_it_says_that_it_only_reads(pair, turnstile, threshold):
    """setReadOnly(true) without autocommit: BEGIN READ ONLY in one batch with what comes behind it."""
    program = jdbc(threshold, "readonly")
    out = build(program.build, "jdbc")
    alone = run(program, pair[0], out).splitlines()
    assert sum(line.startswith("reads") for line in alone) > 1
    t = turnstile(routed(pair))
    with log_in(t) as client:
        wait_routed(client, pair[1])
    # But for pg_is_in_recovery() it is the same.
    assert run(program, t, out).splitlines() == [
        re.sub(r"\bf\b", "t", line) if line.startswith("reads") else line for line in alone]
