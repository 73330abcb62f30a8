# SPDX-License-Identifier: ISC
#
# test_sandbox.py - the unit for systemd: it is sound, closes what can be closed, and leaves the program
# all that it needs.
#
# No systemd runs here: its filters of system calls are sandbox.py's, and whether it understands the unit
# systemd-analyze says.  What it does to files is sandbox_files.py's.
"""etc/pgturnstile.service: a day in its sandbox, in which no call is refused; and one call less is noticed."""
import contextlib
import errno
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import psycopg
import pytest

import raw
import sandbox
import sandbox_files
import test_ldap
import test_pam
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import Port, give_to_service_user, scratch_dir
from name_server import NameServer
from rig import backends, clients, log_in, shop, sqlstate
from tenancy import tenants
from test_hba import Rules
from test_http import get
from test_process import speaks_to_supervisors
from test_tls import certificates, connect, secured  # noqa: F401 - one is a fixture
from turnstile import SANITIZER_OPTIONS, TOP, Turnstile, built_binary, merge
from waiting import wait_until

UNITS = [TOP / "etc/pgturnstile.service", TOP / "etc/pgturnstile.socket"]
UNIT = UNITS[0].read_text()
ASKER, ASKER_PASSWORD = "sb_asker", "asker-password"
USER, PASSWORD = "sb_anna", "anna's own"
WORKERS = 4
OWN = RUN, LOG, STATE = [parent / "pgturnstile" for parent in sandbox_files.OWN.values()]

# A day has some seconds, and a machine that has to do other things many more.
pytestmark = pytest.mark.timeout(400)

# What of systemd's questions is answered with "open", and why.
OPEN = {
    "PrivateNetwork": "clients and servers are there",
    "IPAddressDeny": "where they are is known to whoever installs it",
    "RestrictAddressFamilies_AF_INET_INET6": "clients and servers",
    "RestrictAddressFamilies_AF_UNIX": "unix_socket_dir, the log, systemd itself",
    "RestrictAddressFamilies_AF_NETLINK": "the addresses of this machine, for names and for peers",
    "PrivateTmp": "clients look for the socket in /tmp",
    "PrivateUsers": "who is at the other end of a Unix socket has to have a name",
    "PrivateMounts": "ProtectSystem makes it a view of its own",
    "RootDirectoryOrRootImage": "libraries, certificates and names are the system's",
    "ProcSubset": "limits of the kernel are read",
    "DeviceAllow": "ProtectClock lets the clock be read",
    "SystemCallFilter_privileged": "unix_socket_group; what else is refused test_what_the_sandbox_refuses says",
    "SystemCallFilter_resources": "the limit of open files is raised",
}


# --- what systemd says ----------------------------------------------------------------------------
def analyze(*words):
    """Exit code and what it says."""
    done = subprocess.run(["systemd-analyze", "--no-pager", *map(str, words)], text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def complaints(folder, **changed):
    """Of units with these texts, None: as they are, whose program is the one that was built."""
    for path in UNITS:
        text = changed.get(path.suffix[1:]) or path.read_text()
        (folder / path.name).write_text(text.replace("/usr/local/bin/pgturnstile", str(built_binary())))
    _, said = analyze("verify", "--man=no", *(folder / path.name for path in UNITS))
    # It says more where no systemd runs.
    return [line for line in said.splitlines() if UNITS[0].stem in line]


@pytest.fixture
def verifier(tmp_path):
    """complaints(), where systemd-analyze can say something."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("NOT TESTED: no systemd-analyze")
    sound = tmp_path / "sound.service"
    sound.write_text("[Service]\nExecStart=/bin/true\n")
    code, said = analyze("verify", sound)
    if code:
        pytest.skip(f"NOT TESTED: systemd-analyze verify does not work here: {said}")
    return functools.partial(complaints, tmp_path)


def test_the_units_are_sound(verifier):
    assert verifier() == []


@pytest.mark.parametrize("right, wrong", [
    ("ProtectSystem=", "ProtectSytem="), ("ProtectHome=yes", "ProtectHome=perhaps"),
    ("=@system-service", "=@sistem-service"), ("AF_INET6", "AF_INET7")])
def test_a_slip_in_a_unit_is_noticed(verifier, right, wrong):
    assert right in UNIT
    assert verifier(service=UNIT.replace(right, wrong))


def exposed(unit, folder):
    """{what systemd takes for open: how bad that is}"""
    if not shutil.which("systemd-analyze"):
        pytest.skip("NOT TESTED: no systemd-analyze")
    path = folder / "pgturnstile.service"
    path.write_text(unit)
    _, said = analyze("security", "--offline=true", "--json=short", path)
    return {row["json_field"]: float(row["exposure"]) for row in json.loads(said) if row["exposure"]}


def test_what_is_open_is_open_for_a_reason(tmp_path):
    assert exposed(UNIT, tmp_path).keys() <= OPEN.keys()


@pytest.mark.parametrize("line", [f"{name}={value}" for name, value in sandbox.settings(UNIT) if name.startswith((
    "NoNew", "Capability", "Protect", "PrivateDevices", "Restrict", "Lock", "Memory", "SystemCallA", "UMask"))])
def test_a_setting_less_is_noticed(tmp_path, line):
    assert not exposed(UNIT.replace(f"{line}\n", ""), tmp_path).keys() <= OPEN.keys()


def test_exposure_is_low(tmp_path):
    """1.9 by systemd 252, of which 0.2 are chown()."""
    path = tmp_path / "pgturnstile.service"
    for unit, is_low in (UNIT, True), (UNIT.replace("SystemCallFilter=@system-service\n", ""), False):
        exposed(unit, tmp_path)
        code, said = analyze("security", "--offline=true", "--threshold=20", path)
        assert (code == 0) == is_low, said


# --- what the program needs -----------------------------------------------------------------------
@functools.cache
def unavailable(what="calls"):
    return {"calls": sandbox, "files": sandbox_files}[what].unavailable()


def own_directories():
    """A folder that has them."""
    folder = scratch_dir("own")
    for path in OWN:
        made = folder / path.relative_to("/")
        made.mkdir(parents=True)
        give_to_service_user(made)
    return folder


@pytest.fixture
def confined(monkeypatch):
    """The command line that confines what stands behind it, and hides files if it knows where the service's
    own are: confined(unit's text, answer, folder)."""
    if unavailable():
        pytest.skip(f"NOT TESTED: {unavailable()}")
    # The search for leaks stops the program as a debugger would, which is refused.
    options = os.environ.get("ASAN_OPTIONS", SANITIZER_OPTIONS["ASAN_OPTIONS"])
    monkeypatch.setenv("ASAN_OPTIONS", f"{options}:detect_leaks=0")
    folder = scratch_dir("unit")

    def wrapper(unit=UNIT, answer="error", own="-"):
        path = folder / "service"
        path.write_text(unit)
        return [sys.executable, sandbox.__file__, answer, path, own]
    return wrapper


@pytest.fixture
def can_hide():
    if unavailable("files"):
        pytest.skip(f"NOT TESTED: {unavailable('files')}")


# A call of libc, what is said to it in the sandbox, and outside.
RWX, RW = "mmap(None, 4096, 7, 0x22, -1, 0)", "mmap(None, 4096, 3, 0x22, -1, 0)"
ATTEMPTS = {
    RW: (0, 0),
    RWX: (errno.EPERM, 0),
    "socket(1, 1, 0)": (0, 0),  # AF_UNIX
    "socket(17, 3, 0)": (errno.EAFNOSUPPORT, errno.EPERM),  # AF_PACKET
    "unshare(0x10000001)": (errno.EPERM, errno.EINVAL),  # a user namespace, and something that there is not
    "setns(-1, 0)": (errno.EPERM, errno.EBADF),
    "personality(0x20000)": (errno.EPERM, 0),
    "sched_setscheduler(0, 1, bytes(4))": (errno.EPERM, errno.EINVAL),  # SCHED_FIFO, at no priority
    "chmod(FILE, 0o755)": (0, 0),
    "chmod(FILE, 0o4755)": (errno.EPERM, 0),
    "setuid(os.getuid())": (errno.EPERM, 0),
    "ptrace(16, 0, None, None)": (errno.EPERM, errno.ESRCH),  # to watch nobody
    "mount(1, 1, 1, 0, None)": (errno.EPERM, errno.EFAULT),
}
ATTEMPT = """
import ctypes, os, sys
libc, FILE = ctypes.CDLL(None, use_errno=True), os.fsencode(sys.argv[1])
for call in sys.argv[2:]:
    ctypes.set_errno(0)
    eval(f"libc.{call}")
    print(ctypes.get_errno())
"""


def attempts(wrapper, calls):
    """What each of the calls was answered."""
    path = scratch_dir("attempts") / "file"
    path.touch()
    give_to_service_user(path)
    said = subprocess.run([*map(str, wrapper), "/usr/bin/python3", "-c", ATTEMPT, str(path), *calls], check=True,
                          text=True, stdout=subprocess.PIPE, cwd="/").stdout
    return dict(zip(calls, map(int, said.split())))


def test_what_the_sandbox_refuses(confined):
    """The filters are there, or the tests below would say nothing."""
    assert attempts(confined(), ATTEMPTS) == {call: inside for call, (inside, _) in ATTEMPTS.items()}
    assert attempts(confined("[Service]\n"), ATTEMPTS) == {call: outside for call, (_, outside) in ATTEMPTS.items()}


LOOKS = {
    "access(b'/tmp', os.W_OK)": (0, 0),
    "access(b'/var/tmp', os.W_OK)": (errno.EROFS, 0),
    "access(b'/home', os.R_OK)": (errno.EACCES, 0),
    "access(b'/dev/null', os.W_OK)": (0, 0),
    "access(b'/dev/pts', os.F_OK)": (errno.ENOENT, 0),
    "access(b'/proc/self', os.F_OK)": (0, 0),
    "access(b'/proc/1', os.F_OK)": (errno.ENOENT, 0),
    **{f"access(b'{path}', os.W_OK)": (0, errno.ENOENT) for path in OWN},
}


def test_what_the_sandbox_hides(confined, can_hide):
    assert attempts(confined(own=own_directories()), LOOKS) == {call: inside for call, (inside, _) in LOOKS.items()}
    assert attempts(confined(), LOOKS) == {call: outside for call, (_, outside) in LOOKS.items()}


def test_nothing_in_the_unit_is_unknown_here():
    """A setting that is new there has to be held here, or be one of these."""
    about_processes = {"Type", "ExecStart", "ExecReload", "Restart", "KillSignal", "TimeoutStopSec"}
    about_leftovers = {"RemoveIPC"}
    assert {name for name, _ in sandbox.settings(UNIT)} - sandbox.HELD == about_processes | about_leftovers


class World:
    """What a day needs around the program."""

    def __init__(self, primary, certificates):  # noqa: F811
        self.primary, self.certificates, self.own = primary, certificates, own_directories()
        self.dir, self.http = scratch_dir("sandbox"), Port()
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify = self.dir / "notify"
        self.supervisor.bind(str(self.notify))
        self.notify.chmod(0o777)
        self.names = None
        # Elsewhere the system's resolver finds the server from the beginning.
        with contextlib.suppress(PermissionError):
            self.names = NameServer({"db.test": ([primary.host], 3600)})

    def at(self, path):
        """Where a file of the service's own is."""
        return self.own / path.relative_to("/")

    def config(self, is_hidden):
        """`is_hidden`: the service finds its files where the unit has them."""
        where = (lambda path: path) if is_hidden else self.at
        settings = {**secured(self.certificates, "allow"), "workers": WORKERS, "http_listen": self.http.number,
                    "auth_user": ASKER, "state_dir": where(STATE), "syslog": 1,
                    "unix_socket_group": os.stat(self.dir).st_gid,
                    "logfile": where(LOG / "day.log"), "pidfile": where(RUN / "pid")}
        # Where this machine has IPv6.
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            settings["listen_addr"] = "127.0.0.1, ::1"
        config = tenants(self.primary, settings, {"basic": {"quota": "1000/h"}})
        if not self.names:
            return merge(config, {"databases": {APP_DATABASE: {"host": "localhost", "port": self.primary.port}}})
        return merge(config, {
            "pgturnstile": {"resolv_conf": self.names.resolv_conf(self.dir)},
            "databases": {APP_DATABASE: {"host": "db.test", "port": self.primary.port}}})

    def wait_told(self, t, *states):
        """Return once systemd would have heard them, in any order.  What nobody reads the program waits for."""
        left = list(states) if speaks_to_supervisors() else []

        def are_told():
            is_running = t.is_running()
            try:
                said = self.supervisor.recv(1000, socket.MSG_DONTWAIT).decode().split("\n")
            except BlockingIOError:
                assert is_running or not left, t.log_text()
                return not left
            for state in said:
                if state in left:
                    left.remove(state)
            return not left
        wait_until(are_told, 30, lambda: f"systemd is told {left}")

    def remove(self):
        self.http.release()
        self.supervisor.close()
        if self.names:
            self.names.close()


@pytest.fixture(scope="module")
def server(primary):
    primary.role(ASKER, ASKER_PASSWORD, "SUPERUSER LOGIN")
    primary.role(USER, PASSWORD.replace("'", "''"))
    return primary


@pytest.fixture
def world(server, certificates):  # noqa: F811
    made = World(server, certificates)
    yield made
    made.remove()


@pytest.fixture
def pooler(world, monkeypatch):
    """pooler(wrapper): not started yet."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(world.notify))
    with contextlib.ExitStack() as made:
        def make(wrapper):
            t = Turnstile(world.config(world.own in wrapper), {APP_USER: APP_PASSWORD, ASKER: ASKER_PASSWORD})
            made.callback(t.remove)
            t.wrapper = wrapper
            return t
        yield make


def statements(t, world):
    """Logins of all kinds, and what clients do."""
    with connect(t, user=f"{APP_USER}.acme", sslmode="verify-full",
                 sslrootcert=world.certificates / "ca.crt") as connection:
        rows = connection.execute("SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n")
        assert len(rows.fetchall()) == 20000
    with log_in(t, f"{USER}.globex", PASSWORD) as asked:
        assert asked.rows("SELECT 2") == [("2",)]
    with psycopg.connect(host=str(t.dir), port=t.port, dbname=APP_DATABASE, user=f"{APP_USER}.acme",
                         password=APP_PASSWORD) as local:
        assert local.execute("SELECT 2").fetchone() == (2,)
    with clients(t, 4 * WORKERS, user=f"{APP_USER}.acme") as many:
        for client in many:
            assert client.rows("SELECT 2") == [("2",)]
        listener, sleeper = many[:2]
        listener.query("LISTEN sandbox")
        many[2].query("NOTIFY sandbox, 'told'")
        assert b"told" in listener.message().body
        sleeper.send(raw.query("SELECT pg_sleep(600)"))
        wait_until(lambda: backends(world.primary, "state = 'active' AND query LIKE '%pg_sleep(600)%'"), 30)
        sleeper.cancel()
        assert sqlstate(sleeper.until("Z")) == "57014"


def operations(t, world):
    """What an operator does."""
    for path in "/metrics", "/", "/readyz":
        assert get(world.http.number, path)[0] == 200
    for table in "CLIENTS", "SERVERS", "POOLS", "NODES", "TENANTS", "SOCKETS", "LISTENERS", "CONFIG", "DNS_HOSTS":
        t.admin(f"SHOW {table}")
    t.reload({"tiers": {"basic": {"quota": "2000/h"}}})
    log = world.at(LOG / "day.log")
    log.rename(world.at(LOG / "yesterday.log"))
    t.signal(signal.SIGHUP)
    wait_until(log.exists, 30)
    world.wait_told(t, *2 * ["RELOADING=1", "READY=1"])


def end(t, world):
    t.signal(signal.SIGINT)
    world.wait_told(t, "STOPPING=1")
    assert t.wait_exit() == 0
    assert not world.at(RUN / "pid").exists() and any(world.at(STATE).iterdir())
    assert not t.log_contains("Operation not permitted")


def day(t, world):
    """From the start over a takeover to the end."""
    t.start()
    world.wait_told(t, "READY=1")
    statements(t, world)
    operations(t, world)
    # The successor has the system look names up.
    before = t.take_over({"pgturnstile": {"resolv_conf": None},
                          "databases": {APP_DATABASE: {"host": "localhost", "port": world.primary.port}}})
    world.wait_told(t, *2 * [f"MAINPID={t.pid()}"], "READY=1")
    assert before.wait(30) == 0
    statements(t, world)
    operations(t, world)
    end(t, world)


@pytest.mark.parametrize("answer", ["error", "kill"])
def test_a_day_in_the_sandbox(confined, pooler, world, answer):
    """With refusals as the unit has them, and without: then one refused call would be the end."""
    day(pooler(confined(UNIT, answer)), world)


def test_a_day_among_few_files(confined, can_hide, pooler, world):
    """Where the unit has them."""
    day(pooler(confined(UNIT, "kill", world.own)), world)


@contextlib.contextmanager
def removing(made):
    try:
        yield made
    finally:
        made.remove()


@contextlib.contextmanager
def by_pam():
    if os.geteuid() != 0 or not test_pam.SERVICES.is_dir():
        pytest.skip("NOT TESTED: only root can give PAM a service to ask")
    with removing(test_pam.Service()) as service:
        yield f"pam pamservice={service.name}"


@contextlib.contextmanager
def by_ldap():
    if not test_ldap.SLAPD:
        pytest.skip("NOT TESTED: there is no slapd to ask")
    with removing(test_ldap.Directory()) as directory:
        yield f"ldap {test_ldap.search(directory)}"


@pytest.mark.parametrize("judge, password", [(by_pam, test_pam.PASSWORD), (by_ldap, test_ldap.PASSWORD)])
def test_others_judge_in_the_sandbox(confined, primary, judge, password):
    servers_user = {"user": APP_USER, "password": APP_PASSWORD}
    with judge() as how, \
            removing(Turnstile(shop(primary, Rules().settings(f"host all all all {how}"), servers_user))) as t:
        t.wrapper = confined(UNIT, "kill")
        t.start()
        with log_in(t, "anna", password, timeout=60) as client:
            assert client.rows("SELECT 2") == [("2",)]
        with pytest.raises(raw.LoginRefused):
            log_in(t, "anna", "battery staple", timeout=60).close()


def spoilt(t, world):
    """The exit code of one whose day ends early."""
    with pytest.raises((AssertionError, OSError, EOFError, psycopg.Error)):
        day(t, world)
    return t.wait_exit()


@pytest.mark.parametrize("calls", ["listen", "accept4", "connect", "sendmsg", "chown fchownat", "recvmsg",
                                   "unlink unlinkat"])
def test_one_call_less_is_noticed(confined, pooler, world, calls):
    """At the start, by a client, at the takeover and at the end."""
    last = "SystemCallFilter=@chown\n"
    assert last in UNIT
    unit = UNIT.replace(last, f"{last}SystemCallFilter=~{calls}\n")
    assert spoilt(pooler(confined(unit, "kill")), world) == -signal.SIGSYS


@pytest.mark.parametrize("family", ["AF_UNIX", "AF_INET", "AF_NETLINK"])
def test_one_address_family_less_is_noticed(confined, pooler, world, family):
    name = "RestrictAddressFamilies"
    families = dict(sandbox.settings(UNIT))[name].split()
    less = " ".join(one for one in families if one != family)
    unit = UNIT.replace(f"{name}={' '.join(families)}\n", f"{name}={less}\n")
    assert unit != UNIT and spoilt(pooler(confined(unit, "kill")), world) == -signal.SIGSYS


@pytest.mark.parametrize("setting", sorted({*sandbox_files.OWN, "ReadWritePaths"}))
def test_one_directory_less_is_noticed(confined, can_hide, pooler, world, setting):
    unit = "".join(line for line in UNIT.splitlines(True) if not line.startswith(setting))
    assert unit != UNIT and spoilt(pooler(confined(unit, "kill", world.own)), world) >= 0
