# SPDX-License-Identifier: ISC
#
# machine.py - what the tests borrow from the machine: ports, scratch directories, processes.
#
# Knows nothing of PostgreSQL.  Everything borrowed is given back when its test process ends,
# however it ends: ports are locked by open files, processes die with their parent.
"""Port, scratch_dir(), spawn(): resources that cannot outlive the test process."""
import atexit
import fcntl
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

# PostgreSQL and PgBouncer refuse to run as root; their Debian packages make this user.
SERVICE_USER = "postgres"

# Below the range that Linux gives to outgoing connections, which could take a port in between.
_PORTS = range(20000, 30000)


class Port:
    """A free TCP port of 127.0.0.1, nobody else's among test processes until release()."""

    def __init__(self):
        folder = Path(tempfile.gettempdir()) / f"pgturnstile-ports-{os.getuid()}"
        folder.mkdir(exist_ok=True)
        for number in random.sample(_PORTS, len(_PORTS)):
            lock = open(folder / str(number), "w")  # noqa: SIM115 - held until release()
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                lock.close()
                continue
            self.number, self._lock = number, lock
            return
        raise RuntimeError("no free port")

    def release(self):
        self._lock.close()


def listened_at(port):
    """The addresses at which TCP `port` is listened on, in the kernel's spelling."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = (line.split() for t in tables if t.exists() for line in t.read_text().splitlines()[1:])
    ends = (row[1].rsplit(":", 1) for row in rows if row[3] == "0A")
    return [address for address, number in ends if int(number, 16) == port]


def listens(port):
    """Whether anybody listens on TCP `port`; asks the kernel, so that nobody sees a connection."""
    return listened_at(port) != []


def scratch_dir(name):
    """A new directory that SERVICE_USER can use; removed at exit unless PGT_KEEP is set."""
    path = Path(tempfile.mkdtemp(prefix=f"pgt-{name}-"))
    path.chmod(0o755)
    give_to_service_user(path)
    if not os.environ.get("PGT_KEEP"):
        atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def give_to_service_user(path):
    if os.getuid() == 0:
        user = pwd.getpwnam(SERVICE_USER)
        os.chown(path, user.pw_uid, user.pw_gid)


def as_service_user(command):
    """The command line that runs `command` as SERVICE_USER when we are root, else as ourselves."""
    if os.getuid() != 0:
        return list(command)
    switch = ["setpriv", f"--reuid={SERVICE_USER}", f"--regid={SERVICE_USER}", "--init-groups"]
    return switch + ["--", *command]


def run(command, **kwargs):
    """Run to the end as the service user; CalledProcessError shows what it printed."""
    done = subprocess.run(as_service_user(map(str, command)), cwd="/", text=True, check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **kwargs)
    if done.returncode != 0:
        raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}")
    return done.stdout


def spawn(command, log, death_signal, env=None, service_user=True, pass_fds=()):
    """Start `command` with both outputs appended to file `log`, and with descriptors of ours.

    The kernel sends it `death_signal` ("INT", "KILL" …) should this process die first.
    """
    command = ["setpriv", "--pdeathsig", death_signal, "--", *map(str, command)]
    if service_user:
        command = as_service_user(command)
    with open(log, "ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT, cwd="/", env=env, pass_fds=pass_fds)
