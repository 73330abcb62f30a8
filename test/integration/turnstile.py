# SPDX-License-Identifier: ISC
#
# turnstile.py - run pgturnstile, or PgBouncer for comparison, as a test wants it.
#
# A pooler is a config (a dict of sections), a user list, a process in the foreground and its
# log.  Knows nothing of what is behind it.
"""Turnstile and PgBouncer: one pooler process each, with the same methods."""
import contextlib
import copy
import os
import re
import signal
import subprocess
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from machine import Port, give_to_service_user, listens, scratch_dir, spawn
from waiting import wait_until

TOP = Path(__file__).resolve().parents[2]
ADMIN_USER, ADMIN_PASSWORD = "admin", "admin-password"

SANITIZER_REPORT = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|SUMMARY: \w+Sanitizer")
SANITIZER_OPTIONS = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"second_deadlock_stack=1:suppressions={Path(__file__).parent / 'tsan.supp'}",
}


def built_binary():
    """$PGTURNSTILE, or what the usual build commands leave."""
    usual = [TOP / "build/pgturnstile", TOP / "pgturnstile", TOP / "build/plain/pgturnstile"]
    return os.environ.get("PGTURNSTILE") or next(filter(Path.exists, usual), usual[0])


def _format_value(value):
    """A dict becomes a connection string, a list a comma list, a bool 1 or 0."""
    if isinstance(value, dict):
        quoted = {k: str(v).replace("'", "''") for k, v in value.items()}
        return " ".join(f"{k}='{v}'" if re.search(r"[\s']|^$", v) else f"{k}={v}"
                        for k, v in quoted.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(int(value) if isinstance(value, bool) else value)


def format_ini(config):
    """The text of an ini file from {section: {key: value}}."""
    return "\n".join(f"[{section}]\n" + "".join(f"{k} = {_format_value(v)}\n"
                                                for k, v in keys.items())
                     for section, keys in config.items())


def merge(config, changes):
    """`config` with `changes` laid over it, section by section; a value None removes its key."""
    merged = copy.deepcopy(config)
    for section, keys in changes.items():
        target = merged.setdefault(section, {})
        target.update(keys)
        for key in [key for key, value in target.items() if value is None]:
            del target[key]
    return merged


def laid_over(config, change):
    """A change as Pooler.reload() takes it, of one that says a part of a database or a tier only."""
    return {section: {key: {**config[section][key], **value} if isinstance(value, dict) else value
                      for key, value in keys.items()} for section, keys in change.items()}


class Pooler:
    """What both have in common; see the subclasses for what a config looks like."""

    host = "127.0.0.1"
    section = console = None
    stop_signal, stop_code = signal.SIGQUIT, 0
    runs_as_service_user = False
    pass_fds = ()

    def __init__(self, config, users=None):
        self.dir = scratch_dir(self.section)
        self.ini = self.dir / f"{self.section}.ini"
        self.log = self.dir / "log"
        self.users = {ADMIN_USER: ADMIN_PASSWORD, **(users or {})}
        self._port = Port()
        self.port = self._port.number
        self.config = merge({self.section: self._defaults()}, config)
        self._process = None
        self.write()

    def _defaults(self):
        return {"listen_addr": self.host, "listen_port": self.port,
                "auth_type": "scram-sha-256", "auth_file": self.dir / "userlist.txt",
                "admin_users": ADMIN_USER, "unix_socket_dir": self.dir}

    def _command(self):
        raise NotImplementedError

    def write(self):
        """Write config and user list, to be read by the next start or reload."""
        users = "".join('"{}" "{}"\n'.format(*(word.replace('"', '""') for word in row))
                        for row in self.users.items())
        for path, text in ((self.ini, format_ini(self.config)),
                           (self.dir / "userlist.txt", users)):
            path.write_text(text)
            path.chmod(0o600)
            give_to_service_user(path)

    # --- the process ------------------------------------------------------------------------
    def start(self):
        """Return self once it listens."""
        env = {**SANITIZER_OPTIONS, **os.environ}
        self._process = spawn(self._command(), self.log, "KILL", env, self.runs_as_service_user,
                              self.pass_fds)
        wait_until(self._is_ready, 30, lambda: f"{self.section} listens\n{self.log_text()}")
        return self

    def _is_ready(self):
        assert self.is_running(), f"{self.section} did not start\n{self.log_text()}"
        return listens(self.port)

    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def pid(self):
        return self._process.pid

    def signal(self, number):
        self._process.send_signal(number)

    def wait_exit(self, timeout=30):
        """Its exit code (negative: the signal that ended it), once it has ended."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.section} does not end\n{self.log_text()}") from None

    def stop(self):
        """End it at once; AssertionError when it leaves as after a failure or a sanitizer complains."""
        if self.is_running():
            self.signal(self.stop_signal)
        code = self.wait_exit()
        assert code == self.stop_code and not self.log_contains(SANITIZER_REPORT), \
            f"{self.section}: exit {code}\n{self.log_text()}"

    def remove(self):
        """stop(), unless the test has ended it, and give the port back."""
        try:
            if self.is_running():
                self.stop()
            assert not self.log_contains(SANITIZER_REPORT), self.log_text()
        finally:
            self._port.release()

    # --- clients ----------------------------------------------------------------------------
    def connect(self, dbname, user, password=None, autocommit=True, **kwargs):
        """A psycopg connection; the password is looked up in the user list when not given."""
        return psycopg.connect(host=self.host, port=self.port, dbname=dbname, user=user,
                               password=self.users.get(user) if password is None else password,
                               autocommit=autocommit, **kwargs)

    def admin(self, command, user=ADMIN_USER):
        """Run a console command; its rows as dicts, [] when it has none."""
        with self.connect(self.console, user, row_factory=dict_row) as connection:
            cursor = connection.execute(command)
            return cursor.fetchall() if cursor.description else []

    # --- configuration ----------------------------------------------------------------------
    def reload(self, changes=None):
        """Lay `changes` over the config, write it and RELOAD; psycopg.Error when refused."""
        self.config = merge(self.config, changes or {})
        self.write()
        self.admin("RELOAD")

    @contextlib.contextmanager
    def run_with_config(self, changes):
        """reload(changes) for the block, then the config of before."""
        before = self.config
        try:
            self.reload(changes)
            yield self
        finally:
            self.config = before
            self.reload()

    # --- log --------------------------------------------------------------------------------
    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_contains(self, regex):
        """How often `regex` is found in the log."""
        return len(re.findall(regex, self.log_text()))

    def wait_log(self, regex, timeout=10):
        """Return once the log contains `regex`."""
        wait_until(lambda: self.log_contains(regex), timeout,
                   lambda: f"/{regex}/ in the log\n{self.log_text()}")


class Turnstile(Pooler):
    """pgturnstile: config sections pgturnstile, databases, tiers, tenants, users."""

    section = console = "pgturnstile"
    wrapper = ()  # a command line that becomes the one behind it

    def _defaults(self):
        return {**super()._defaults(), "workers": os.environ.get("PGTURNSTILE_WORKERS", 2)}

    def _command(self):
        return [*self.wrapper, built_binary(), self.ini]

    def take_over(self, changes=None, binary=None):
        """Start a successor that takes over; the process of before, once that knows of it."""
        before, env = self._process, {**SANITIZER_OPTIONS, **os.environ}
        said = self.log_contains("waiting until the last client has left")
        self.config = merge(self.config, changes or {})
        self.write()
        self._process = spawn([*self.wrapper, binary or built_binary(), "--takeover", self.ini], self.log,
                              "KILL", env, self.runs_as_service_user)

        def serves():
            assert self.is_running(), self.log_text()
            return self.log_contains("waiting until the last client has left") > said
        wait_until(serves, 30, lambda: f"the successor serves\n{self.log_text()}")
        return before


class PgBouncer(Pooler):
    """Debian's PgBouncer, to compare behaviour with: sections pgbouncer, databases, users."""

    section = console = "pgbouncer"
    stop_signal, stop_code = signal.SIGTERM, 1  # its "fast exit" up to version 1.22
    runs_as_service_user = True

    def _command(self):
        return ["/usr/sbin/pgbouncer", self.ini]
