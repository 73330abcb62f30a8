# SPDX-License-Identifier: ISC
"""rig.py - a throw-away PostgreSQL and what stands before it, for one benchmark run.

Everything lives in one temporary directory and on free loopback ports, and is a child of this
process that ends with it, whatever ends it.  Does not know what is measured.
"""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))
from machine import Port  # noqa: E402

import wire  # noqa: E402
from targets import DATABASE, TARGETS, USER, client_environment, ini, passwords, userlist  # noqa: E402

PG_BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
HERE = pathlib.Path(__file__).resolve().parent
# Programs of this folder, and what they are linked with.
PROGRAMS = {"floor": (), "stub": (), "load": ("-lssl", "-lcrypto", "-lpthread")}

# What pgbench -S runs, and the name under which pgbench -M prepared knows it.
SELECT_NAME = "P_0"
SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"


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

    def wait(self, is_served, seconds=60):
        """Returns when is_served() raises nothing any more; RigError if that takes too long."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                is_served()
                return
            except (OSError, wire.WireError, subprocess.CalledProcessError) as error:
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
    """Use with `with`.  options: scale, pool_size, idle_clients, floor and pgturnstile (paths or
    None)."""

    def __init__(self, options):
        self.options = options
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="pgt-bench."))
        self.credentials = []
        self.binaries = {"pgbouncer": pgbouncer_path()}
        self.servers = {}  # postgres, replica and stub, those that run: (process, port)

    def __enter__(self):
        with contextlib.ExitStack() as self._stack:
            self._stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            self._become_unprivileged()
            self._install_binaries()
            self._make_certificate()
            self._start_postgres()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def has(self, target):
        return target == "direct" or self.binaries.get(TARGETS[target].binary) is not None

    def postmasters(self):
        return [self.servers[name][0].pid for name in ("postgres", "replica") if name in self.servers]

    @contextlib.contextmanager
    def target(self, name, access="trust", wrapper=(), settings=""):
        """Runs what TARGETS has by this name, started by the command wrapper if given, with its
        pool filled and, where it cannot do that itself, pgbench's statement prepared.  settings:
        further lines for a pooler.  Yields (pid, port), which for "direct" is (None, the server's)."""
        if name == "direct":
            yield None, self.servers["postgres"][1]
            return
        target, port = TARGETS[name], self._free_port()
        servers = self._servers_of(target)
        process = Process(self, name, [*wrapper, self.binaries[target.binary],
                                       *self._arguments(name, target, access, settings, servers, port)])
        with contextlib.ExitStack() as stack:
            stack.callback(process.stop)
            self._wait_served(process, target, access, port)
            if target.server == "pair" and "route = primary" not in settings:
                self._wait_routed(port)
            if access == "trust" and not target.databases:
                self._fill_pool(port, prepare=target.binary != "pgturnstile")
            if target.crowd:
                self.crowd(stack, port)
            yield process.pid, port

    def crowd(self, stack, port):
        """As many clients as the run says, logged in and idle until the stack unwinds."""
        for _ in range(self.options.idle_clients):
            stack.callback(wire.Client(port, USER, DATABASE).close)

    def _servers_of(self, target):
        """Ports, the primary's first; what is not there yet is started, and stays."""
        if target.server == "stub":
            if "stub" not in self.servers:
                self._start_stub()
            return [self.servers["stub"][1]]
        if target.server == "pair" and "replica" not in self.servers:
            self._start_replica()
        names = ("postgres", "replica") if target.server == "pair" else ("postgres",)
        return [self.servers[name][1] for name in names]

    def _arguments(self, name, target, access, settings, servers, port):
        if target.binary == "floor":
            return [port, f"127.0.0.1:{servers[0]}", USER, DATABASE, self.options.pool_size]
        path = self.directory / f"{name}.ini"
        path.write_text(ini(target, access, settings, servers, port, self.directory,
                            self.options.pool_size))
        return [path]

    def _wait_served(self, process, target, access, port):
        database = f"{DATABASE}0" if target.databases else DATABASE
        process.wait((lambda: wire.Client(port, USER, database).close()) if access == "trust"
                     else lambda: is_ready(port))

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
                client.simple("SELECT 1 / CASE current_setting('test.port')"
                              f" WHEN '{self.servers['replica'][1]}' THEN 1 ELSE 0 END")
                break
            except wire.WireError as error:
                if time.monotonic() > deadline:
                    raise RigError(f"no read reaches the replica: {error}") from error
                time.sleep(1)
        client.close()

    def _free_port(self):
        """Nobody else's, of those who ask so, until the run ends."""
        port = Port()
        self._stack.callback(port.release)
        return port.number

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
        compiler = os.environ.get("CC", "cc").split()
        given = {"floor": self.options.floor, "pgturnstile": self.options.pgturnstile}
        for name, libraries in PROGRAMS.items():
            self.binaries[name] = self.directory / name
            if not given.get(name):
                subprocess.run([*compiler, "-O2", "-g", "-o", self.binaries[name],
                                HERE / f"{name}.c", *libraries], check=True)
        for name, path in given.items():
            if path:
                self.binaries[name] = self.directory / name
                shutil.copy(path, self.binaries[name])
                self.binaries[name].chmod(0o755)
        (self.directory / "userlist.txt").write_text(userlist())
        (self.directory / "passwords.txt").write_text(passwords())

    def _make_certificate(self):
        """Made as that user, whose key it has to be."""
        maker = Process(self, "openssl", ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                                          "-days", "2", "-subj", "/CN=localhost",
                                          "-keyout", "tls.key", "-out", "tls.crt"])
        if maker.child.wait(60) != 0:
            raise RigError("openssl failed\n" + maker.log())

    def _start_postgres(self):
        data, port = self.directory / "data", self._free_port()
        initdb = Process(self, "initdb", [PG_BIN / "initdb", "-D", data, "-U", USER, "-A", "trust",
                                          "-N", "--locale=C", "-E", "UTF8"])
        if initdb.child.wait(60) != 0:
            raise RigError("initdb failed\n" + initdb.log())
        self._serve("postgres", [PG_BIN / "postgres", "-D", data, *self._flags(port)], port,
                    signal.SIGINT)
        self._create_database(port)

    def _start_replica(self):
        data, port = self.directory / "replica", self._free_port()
        copy = Process(self, "pg_basebackup", [PG_BIN / "pg_basebackup", "-h", "127.0.0.1", "-p",
                                               self.servers["postgres"][1], "-U", USER, "-D", data,
                                               "-R", "-X", "stream", "-c", "fast"])
        if copy.child.wait(120) != 0:
            raise RigError("pg_basebackup failed\n" + copy.log())
        self._serve("replica", [PG_BIN / "postgres", "-D", data, *self._flags(port)], port,
                    signal.SIGINT)

    def _start_stub(self):
        port = self._free_port()
        self._serve("stub", [self.binaries["stub"], port], port, signal.SIGTERM)

    def _serve(self, name, argv, port, stop_signal):
        server = Process(self, name, argv, stop_signal)
        self._stack.callback(server.stop)
        server.wait(lambda: is_ready(port))
        self.servers[name] = (server, port)

    def _flags(self, port):
        settings = {
            "port": port, "test.port": port, "listen_addresses": "127.0.0.1", "fsync": "off",
            "unix_socket_directories": "", "autovacuum": "off", "ssl": "on",
            "ssl_key_file": self.directory / "tls.key", "ssl_cert_file": self.directory / "tls.crt",
            "max_connections": len(TARGETS) * self.options.pool_size + self.options.clients + 50,
        }
        return [word for item in settings.items() for word in ("-c", "=".join(map(str, item)))]

    def _create_database(self, port):
        environment = client_environment(port)
        subprocess.run([PG_BIN / "createdb", DATABASE], env=environment, check=True)
        subprocess.run([PG_BIN / "pgbench", "-q", "-i", "-s", str(self.options.scale)],
                       env=environment, check=True, stderr=subprocess.DEVNULL)
        client = wire.Client(port, USER, DATABASE)
        client.simple("CREATE TABLE sink (line text)")
        client.close()


def is_ready(port):
    """Raises CalledProcessError when no server answers there."""
    subprocess.run([PG_BIN / "pg_isready", "-q"], env=client_environment(port), check=True)


def pgbouncer_path():
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
