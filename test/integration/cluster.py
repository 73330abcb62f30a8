# SPDX-License-Identifier: ISC
#
# cluster.py - throw-away PostgreSQL servers, primaries and streaming replicas.
#
# Each has its own data directory and port and nothing in common with a cluster of the machine.
# Knows nothing of poolers.
"""Postgres: one server process and its data directory."""
import signal
import subprocess
from pathlib import Path

import psycopg

from machine import Port, listens, run, scratch_dir, spawn
from waiting import wait_until

SUPERUSER = "postgres"

# Nothing here has to survive a power cut; everything else is as an operator would have it.
FAST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": 300,
    "max_prepared_transactions": 20,
    "max_wal_senders": 10,
    "shared_buffers": "32MB",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "100ms",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}

HBA = f"""\
local all {SUPERUSER} trust
host all {SUPERUSER} 127.0.0.1/32 trust
host replication {SUPERUSER} 127.0.0.1/32 trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def _bindir():
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"),
                      key=lambda path: float(path.parts[4]))
    if versions:
        return versions[-1].parent
    return Path(subprocess.check_output(["pg_config", "--bindir"], text=True).strip())


BINDIR = _bindir()


class Postgres:
    """A server; make one with Postgres.primary() or Postgres.replica_of(), both running.

    The superuser is let in without a password, everybody else by scram-sha-256.
    """

    host = "127.0.0.1"

    def __init__(self, name, settings=None):
        self.name = name
        self.dir = scratch_dir(name)
        self.data = self.dir / "data"
        self.log = self.dir / "log"
        self.settings = {**FAST_SETTINGS, **(settings or {})}
        self._port = Port()
        self.port = self._port.number
        self._process = None

    @classmethod
    def primary(cls, name="primary", settings=None):
        self = cls(name, settings)
        run([BINDIR / "initdb", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "-N",
             "-E", "UTF8", "--locale=C.UTF-8"])
        (self.data / "pg_hba.conf").write_text(HBA)
        self.start()
        return self

    @classmethod
    def replica_of(cls, primary, name="replica", settings=None):
        """A hot standby that streams from `primary`."""
        self = cls(name, {**primary.settings, **(settings or {})})
        run([BINDIR / "pg_basebackup", "-D", self.data, "-h", primary.host, "-p", primary.port,
             "-U", SUPERUSER, "-X", "stream", "-c", "fast", "-N", "-R"])
        self.start()
        return self

    # --- the process ------------------------------------------------------------------------
    def start(self):
        """Return once queries are answered."""
        # By test.port a statement may ask who answers it, which a router cannot know it to do.
        settings = {"port": self.port, "test.port": self.port, "listen_addresses": self.host,
                    "unix_socket_directories": self.dir, **self.settings}
        options = [f"--{key}={value}" for key, value in settings.items()]
        self._process = spawn([BINDIR / "postgres", "-D", self.data, *options], self.log, "INT")
        wait_until(self._is_ready, 60, lambda: f"{self.name} answers\n{self.log_tail()}")

    def _is_ready(self):
        assert self.is_running(), f"{self.name} did not start\n{self.log_tail()}"
        try:
            return listens(self.port) and self.value("SELECT true")
        except psycopg.OperationalError:
            return False

    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def stop(self, how=signal.SIGINT):
        """Fast shutdown: clients are disconnected, data is written.  A stopped server may start()."""
        if self.is_running():
            self._process.send_signal(how)
            self._process.wait(60)

    def kill(self):
        """Immediate shutdown, as in a crash: clients get 57P02 or a reset, recovery follows."""
        self.stop(signal.SIGQUIT)

    def restart(self):
        self.stop()
        self.start()

    def pid(self):
        return self._process.pid

    def remove(self):
        """Stop for good and give the port back."""
        self.kill()
        self._port.release()

    def log_tail(self, lines=30):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # --- queries ----------------------------------------------------------------------------
    def connect(self, dbname="postgres", user=SUPERUSER, autocommit=True, **kwargs):
        """A psycopg connection over TCP."""
        return psycopg.connect(host=self.host, port=self.port, dbname=dbname, user=user,
                               autocommit=autocommit, **kwargs)

    def sql(self, query, params=None, dbname="postgres", user=SUPERUSER, **kwargs):
        """Rows as tuples, [] for a statement without any; a connection for this call alone."""
        with self.connect(dbname, user, **kwargs) as connection:
            cursor = connection.execute(query, params)
            return cursor.fetchall() if cursor.description else []

    def value(self, query, params=None, **kwargs):
        """The first column of the first row."""
        return self.sql(query, params, **kwargs)[0][0]

    def role(self, name, password=None, options="LOGIN"):
        """CREATE ROLE; the password is stored as a SCRAM secret."""
        self.sql(f'CREATE ROLE "{name}" {options}'
                 + (f" PASSWORD '{password}'" if password is not None else ""))

    def hba(self, *lines):
        """Put `lines` before the usual rules of pg_hba.conf (none: only those) and reload."""
        (self.data / "pg_hba.conf").write_text("\n".join([*lines, HBA]))
        self.sql("SELECT pg_reload_conf()")

    # --- replication ------------------------------------------------------------------------
    def wait_caught_up(self, primary, timeout=30):
        """Return once this replica has replayed all that `primary` has written by now."""
        target = primary.value("SELECT pg_current_wal_flush_lsn()::text")
        wait_until(lambda: self.value("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [target]),
                   timeout, f"{self.name} has replayed {target}")

    def pause_replay(self):
        """Let this replica fall behind; returns once nothing more is replayed."""
        self.sql("SELECT pg_wal_replay_pause()")
        wait_until(lambda: self.value("SELECT pg_get_wal_replay_pause_state()") == "paused")

    def resume_replay(self):
        self.sql("SELECT pg_wal_replay_resume()")

    def promote(self):
        """Make a primary of this replica."""
        assert self.value("SELECT pg_promote(wait => true, wait_seconds => 60)")
