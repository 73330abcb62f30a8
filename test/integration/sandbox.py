# SPDX-License-Identifier: ISC
#
# sandbox.py - the system calls that a unit of systemd leaves to its program, without systemd.
#
# Run as `sandbox.py ANSWER UNIT FOLDER PROGRAM …` it becomes the program, as the unit's manager would
# have it: not root, without new rights, behind the seccomp filters that the unit's settings mean
# (systemd.exec(5)).  ANSWER is what a refused call gets: `error`, the unit's, or `kill`, which nobody
# overlooks.  FOLDER is where directories of the service's own are, for sandbox_files.py; `-`: all files
# are seen.  Knows nothing of the program.
"""settings(), unavailable(), HELD; and the program that becomes another one."""
import ctypes
import errno
import os
import pwd
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

try:
    import seccomp
except ImportError:
    seccomp = None

import sandbox_files
from machine import SERVICE_USER

PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
CLONE_NEW = {"time": 0x80, "mnt": 0x20000, "cgroup": 0x2000000, "uts": 0x4000000, "ipc": 0x8000000,
             "user": 0x10000000, "pid": 0x20000000, "net": 0x40000000}
PR_SET_PDEATHSIG, ASK_PERSONALITY = 1, 0xffffffff
# Of what it implies; systemd has it for every list of calls that are allowed.
ALWAYS = "@default"


def unavailable():
    """Why nothing can be confined here; None: it can."""
    if not seccomp:
        return "no python3-seccomp"
    try:
        _call_sets()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return f"no sets of system calls: {error}"
    # In a process of its own: what is loaded stays.
    done = subprocess.run([sys.executable, "-c", "import seccomp; seccomp.SyscallFilter(seccomp.ALLOW).load()"],
                          capture_output=True, text=True, check=False)
    return done.stderr.strip() or None


def settings(unit):
    """The [Service] section of a unit's text: (setting, value) in order."""
    section = re.search(r"^\[Service\]$(.*?)(?=^\[|\Z)", unit, re.M | re.S)[1]
    return re.findall(r"^(\w+)=(.*)$", section, re.M)


# --- what they mean -------------------------------------------------------------------------------
def _call_sets():
    """{name of a set: what is in it}, as this machine's systemd has them."""
    shown = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter"], check=True, text=True,
                           capture_output=True).stdout
    parts = re.findall(r"^(@[\w-]+)\n((?: .*\n)*)", shown, re.M)
    return {name: re.findall(r"^ +([@\w-]+)$", body, re.M) for name, body in parts}


def _calls(names):
    """Sets and calls, as calls."""
    sets, found, todo = _call_sets(), set(), list(names)
    while todo:
        name = todo.pop()
        if name.startswith("@"):
            todo += sets[name]
        else:
            found.add(name)
    return found


def _only(lines, refused):
    """SystemCallFilter=, whose first line here is of those that are allowed."""
    allowed = _calls([ALWAYS])
    for line in lines:
        if line.startswith("~"):
            allowed -= _calls(line[1:].split())
        else:
            allowed |= _calls(line.split())
    made = seccomp.SyscallFilter(refused(errno.EPERM))
    for name in allowed:
        # Calls of other architectures have numbers below zero.
        if seccomp.resolve_syscall(seccomp.Arch(), name) >= 0:
            made.add_rule(seccomp.ALLOW, name)
    return made


def _all_but(*rules):
    """Everything, but those: (answer, name, conditions…)."""
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    for answer, name, *conditions in rules:
        made.add_rule(answer, name, *conditions)
    return made


def _has(argument, bits):
    return seccomp.Arg(argument, seccomp.MASKED_EQ, bits, bits)


def _without(*names):
    """A setting that takes some calls away."""
    return lambda _, refused: _all_but(*((refused(errno.EPERM), name) for name in _calls(names)))


def _address_families(value, refused):
    allowed = {getattr(socket, name) for name in value.split()}
    answer = refused(errno.EAFNOSUPPORT)
    others = (n for n in range(max(allowed)) if n not in allowed)
    return _all_but((answer, "socket", seccomp.Arg(0, seccomp.GT, max(allowed))),
                    *((answer, "socket", seccomp.Arg(0, seccomp.EQ, n)) for n in others))


def _no_namespaces(_, refused):
    answer = refused(errno.EPERM)
    places = ("clone", 0), ("unshare", 0), ("setns", 1)
    # Its flags are in memory, where a filter does not look: callers go back to clone().
    return _all_but((seccomp.ERRNO(errno.ENOSYS), "clone3"), (answer, "setns", seccomp.Arg(1, seccomp.EQ, 0)),
                    *((answer, name, _has(n, bit)) for name, n in places for bit in CLONE_NEW.values()))


def _no_realtime(_, refused):
    answer, allowed = refused(errno.EPERM), (os.SCHED_OTHER, os.SCHED_BATCH, os.SCHED_IDLE)
    others = (n for n in range(max(allowed)) if n not in allowed)
    return _all_but((answer, "sched_setscheduler", seccomp.Arg(1, seccomp.GT, max(allowed))),
                    *((answer, "sched_setscheduler", seccomp.Arg(1, seccomp.EQ, n)) for n in others))


def _no_set_id_bits(_, refused):
    answer = refused(errno.EPERM)
    places = [("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("mkdir", 1), ("mkdirat", 2), ("mknod", 1),
              ("mknodat", 2), ("creat", 1)]
    opened = [("open", 1), ("openat", 2)]
    return _all_but(
        (seccomp.ERRNO(errno.ENOSYS), "openat2"),
        *((answer, name, _has(n, bit)) for bit in (stat.S_ISUID, stat.S_ISGID) for name, n in places),
        *((answer, name, _has(n, flag), _has(n + 1, bit)) for bit in (stat.S_ISUID, stat.S_ISGID)
          for flag in (os.O_CREAT, os.O_TMPFILE) for name, n in opened))


def _personality_stays(_, refused):
    now = ctypes.CDLL(None).personality(ASK_PERSONALITY)
    return _all_but((refused(errno.EPERM), "personality", seccomp.Arg(0, seccomp.NE, now)))


def _nothing_written_is_run(_, refused):
    answer = refused(errno.EPERM)
    return _all_but((answer, "mmap", _has(2, PROT_WRITE | PROT_EXEC)), (answer, "mprotect", _has(2, PROT_EXEC)),
                    (answer, "pkey_mprotect", _has(2, PROT_EXEC)), (answer, "shmat", _has(2, SHM_EXEC)))


# Each a filter of its own, made of the setting's value and of what a refused call gets.
_MEANINGS = {
    "RestrictAddressFamilies": _address_families,
    "RestrictNamespaces": _no_namespaces,
    "RestrictRealtime": _no_realtime,
    "RestrictSUIDSGID": _no_set_id_bits,
    "LockPersonality": _personality_stays,
    "MemoryDenyWriteExecute": _nothing_written_is_run,
    "PrivateDevices": _without("@raw-io"),
    "ProtectClock": _without("@clock"),
    "ProtectHostname": _without("sethostname", "setdomainname"),
    "ProtectKernelLogs": _without("syslog"),
    "ProtectKernelModules": _without("@module"),
}

# What of a unit's settings holds here; of the architectures the filters themselves see to it.
HELD = {*_MEANINGS, "SystemCallFilter", "SystemCallErrorNumber", "SystemCallArchitectures",
        "NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities", "User", "Group", "UMask",
        "LimitCORE", "LimitNOFILE", *sandbox_files.HELD}


def filters(unit, is_deadly):
    """Those of a unit's text, as systemd would load them."""
    def refused(number):
        return seccomp.KILL_PROCESS if is_deadly else seccomp.ERRNO(number)

    found = settings(unit)
    # Another one would have to be given to refused().
    assert {value for name, value in found if name == "SystemCallErrorNumber"} <= {"EPERM"}
    assert {value for name, value in found if name == "SystemCallArchitectures"} <= {"native"}
    made = [_MEANINGS[name](value, refused) for name, value in found if name in _MEANINGS and value != "no"]
    lines = [value for name, value in found if name == "SystemCallFilter"]
    return made + ([_only(lines, refused)] if lines else [])


# --- the program ----------------------------------------------------------------------------------
def _limit(what, text):
    """As the unit says, or the lower one that there is: not every root may raise it."""
    hard = resource.getrlimit(what)[1]
    most = int(text) if hard == resource.RLIM_INFINITY else min(int(text), hard)
    resource.setrlimit(what, (most, most))


def _become_service_user():
    if os.geteuid() == 0:
        user = pwd.getpwnam(SERVICE_USER)
        os.initgroups(SERVICE_USER, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    # It has been forgotten with the rights.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(answer, unit, folder, *command):
    text = Path(unit).read_text()
    values = dict(settings(text))
    # Whoever it becomes may not see the folder that it was built in.
    program = os.open(command[0], os.O_PATH)
    _limit(resource.RLIMIT_CORE, values.get("LimitCORE", "0"))
    _limit(resource.RLIMIT_NOFILE, values.get("LimitNOFILE", "65536"))
    os.umask(int(values.get("UMask", "0022"), 8))
    made = filters(text, answer == "kill")
    if folder != "-":
        sandbox_files.see_only(values, Path(folder))
    _become_service_user()
    # The list comes last: it does not have the call that loads one more.
    for one in made:
        one.load()
    os.execve(program, command, os.environ)


if __name__ == "__main__":
    main(*sys.argv[1:])
