# SPDX-License-Identifier: ISC
"""rig.py - a throw-away PostgreSQL and the proxies in front of it, for one benchmark run.

Everything lives in one temporary directory and on free loopback ports, and is a child of this
process that ends with it, whatever ends it.  Does not know what is measured.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import wire

USER = DATABASE = "bench"
PROXIES = ("floor", "pgbouncer", "pgturnstile")
PG_BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
HERE = pathlib.Path(__file__).resolve().parent

# What pgbench -S runs, and the name under which pgbench -M prepared knows it.
SELECT_NAME = "P_0"
SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"

POOLER_INI = """\
[databases]
{database} = host=127.0.0.1 port={server_port} dbname={database} user={user}

[{section}]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/userlist.txt
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 10000
server_lifetime = 86400
server_idle_timeout = 86400
log_connections = 0
log_disconnections = 0
log_stats = 0
"""


class RigError(Exception):
    """Something could not be started; the text says what, and ends with its log."""


class Process:
    """A child in its own session that the kernel ends when we are gone (setpriv --pdeathsig)."""

    def __init__(self, rig, name, argv, stop_signal=signal.SIGTERM):
        self.name, self.stop_signal = name, stop_signal
        self.log_path = rig.directory / f"{name}.log"
        setpriv = ["setpriv", "--pdeathsig", stop_signal.name[3:], *rig.credentials, "--"]
        with open(self.log_path, "ab") as log:
            self.child = subprocess.Popen(
                setpriv + [str(word) for word in argv], cwd=rig.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        self.pid = self.child.pid

    def wait_login(self, port, seconds=60):
        """Returns when a client can log in on port; RigError if that takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                wire.Client(port, USER, DATABASE).close()
                return
            except (OSError, wire.WireError) as error:
                if self.child.poll() is not None or time.monotonic() > deadline:
                    raise RigError(f"{self.name} does not serve: {error}\n{self.log()}") from error
                time.sleep(0.05)

    def log(self):
        return self.log_path.read_text(errors="replace")[-2000:]

    def stop(self):
        """Ends the process, politely, then not."""
        self.child.send_signal(self.stop_signal)
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Rig:
    """Use with `with`.  options: scale, pool_size, floor and pgturnstile (paths or None)."""

    def __init__(self, options):
        self.options = options
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pgt-bench."))
        self.credentials = []
        self.replica_port = None
        self.binaries = {"pgbouncer": pgbouncer_path()}

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self._become_unprivileged()
            self._install_binaries()
            self.server_port = free_port()
            self._start_postgres(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def proxies(self):
        return [name for name in PROXIES if self.binaries.get(name)]

    @contextlib.contextmanager
    def proxy(self, name, wrapper=(), settings=""):
        """Runs a proxy, started by the command wrapper if given, with its pool filled and, where
        it cannot do that itself, pgbench's statement prepared.  settings: lines for pgturnstile.
        Yields (process, port)."""
        port = free_port()
        process = Process(self, name, [*wrapper, self.binaries[name],
                                       *self._arguments(name, port, settings)])
        try:
            process.wait_login(port)
            if name == "pgturnstile" and self.replica_port and "route = primary" not in settings:
                self._wait_routed(port)
            self._fill_pool(port, prepare=name != "pgturnstile")
            yield process, port
        finally:
            process.stop()

    @contextlib.contextmanager
    def replica(self):
        """A replica of the server, which pgturnstile routes reads to meanwhile."""
        data, port = self.directory / "replica", free_port()
        copy = Process(self, "pg_basebackup", [PG_BIN / "pg_basebackup", "-h", "127.0.0.1", "-p",
                                               self.server_port, "-U", USER, "-D", data, "-R", "-X",
                                               "stream", "-c", "fast"])
        if copy.child.wait(120) != 0:
            raise RigError("pg_basebackup failed\n" + copy.log())
        server = Process(self, "replica", [PG_BIN / "postgres", "-D", data, *self._flags(port)],
                         signal.SIGINT)
        self.replica_port = port
        try:
            self._wait_served(server, port)
            yield
        finally:
            self.replica_port = None
            server.stop()
            shutil.rmtree(data, ignore_errors=True)

    def _arguments(self, name, port, settings):
        if name == "floor":
            server = f"127.0.0.1:{self.server_port}"
            return [port, server, USER, DATABASE, self.options.pool_size]
        text = POOLER_INI.format(section=name, port=port, server_port=self.server_port, user=USER,
                                 database=DATABASE, directory=self.directory,
                                 pool_size=self.options.pool_size)
        if name == "pgturnstile":
            text += f"workers = 1\n{settings}"
            if self.replica_port:
                text += f"monitor_user = {USER}\nread_your_writes = off\nmonitor_interval = 60\n"
                text = text.replace(f"host=127.0.0.1 port={self.server_port}",
                                    f"host=127.0.0.1,127.0.0.1 port={self.server_port},{self.replica_port}")
        ini = self.directory / f"{name}.ini"
        ini.write_text(text)
        return [ini]

    def _fill_pool(self, port, prepare):
        """Holds every server of the pool in a transaction at once, so that each one is there."""
        clients = [wire.Client(port, USER, DATABASE) for _ in range(self.options.pool_size)]
        for client in clients:
            client.simple("BEGIN; SELECT 1")
        for client in clients:
            if prepare:
                client.prepare(SELECT_NAME, SELECT)
            client.simple("COMMIT")
            client.close()

    def _wait_routed(self, port, seconds=150):
        """Returns when a read has been answered by the replica: nothing is routed before the roles
        and, a monitor_interval later, the catalog have been read.  Asks so seldom, and on one
        connection, that it can be neglected where instructions are counted."""
        deadline = time.monotonic() + seconds
        client = wire.Client(port, USER, DATABASE)
        while True:
            try:
                client.simple("SELECT 1 / CASE current_setting('port')"
                              f" WHEN '{self.replica_port}' THEN 1 ELSE 0 END")
                break
            except wire.WireError as error:
                if time.monotonic() > deadline:
                    raise RigError(f"no read reaches the replica: {error}") from error
                time.sleep(1)
        client.close()

    def _become_unprivileged(self):
        """PostgreSQL and PgBouncer refuse to run as root: then all we start runs as postgres."""
        os.chmod(self.directory, 0o755)
        if os.getuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.directory, account.pw_uid, account.pw_gid)
            self.credentials = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}",
                                "--clear-groups"]

    def _install_binaries(self):
        """Own copies: readable for that user, and a rebuild meanwhile does not reach them."""
        floor = self.options.floor
        if not floor:
            floor = self.directory / "floor.built"
            compiler = os.environ.get("CC", "cc").split()
            subprocess.run([*compiler, "-O2", "-g", "-o", floor, HERE / "floor.c"], check=True)
        for name, path in (("floor", floor), ("pgturnstile", self.options.pgturnstile)):
            if path:
                self.binaries[name] = self.directory / name
                shutil.copy(path, self.binaries[name])
                self.binaries[name].chmod(0o755)
        (self.directory / "userlist.txt").write_text(f'"{USER}" ""\n')

    def _start_postgres(self, stack):
        data = self.directory / "data"
        initdb = Process(self, "initdb", [PG_BIN / "initdb", "-D", data, "-U", USER, "-A", "trust",
                                          "-N", "--locale=C", "-E", "UTF8"])
        if initdb.child.wait(60) != 0:
            raise RigError("initdb failed\n" + initdb.log())
        server = Process(self, "postgres", [PG_BIN / "postgres", "-D", data,
                                            *self._flags(self.server_port)], signal.SIGINT)
        stack.callback(server.stop)
        self._create_database(server)

    def _flags(self, port):
        settings = {
            "port": port, "listen_addresses": "127.0.0.1", "fsync": "off",
            "unix_socket_directories": "", "autovacuum": "off",
            "max_connections": 4 * self.options.pool_size + self.options.clients + 50,
        }
        return [word for item in settings.items() for word in ("-c", "=".join(map(str, item)))]

    def _wait_served(self, server, port):
        deadline = time.monotonic() + 30
        while subprocess.run([PG_BIN / "pg_isready", "-q"], env=pgbench_environment(port)).returncode:
            if server.child.poll() is not None or time.monotonic() > deadline:
                raise RigError("postgres does not serve\n" + server.log())
            time.sleep(0.05)

    def _create_database(self, server):
        environment = pgbench_environment(self.server_port)
        self._wait_served(server, self.server_port)
        subprocess.run([PG_BIN / "createdb", DATABASE], env=environment, check=True)
        subprocess.run([PG_BIN / "pgbench", "-q", "-i", "-s", str(self.options.scale)],
                       env=environment, check=True, stderr=subprocess.DEVNULL)


def pgbouncer_path():
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pgbench_environment(port):
    """Nothing but where to connect: no options, no TLS, from whoever calls."""
    return {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": USER, "PGDATABASE": DATABASE,
            "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PATH": os.environ["PATH"]}
