# SPDX-License-Identifier: ISC
#
# sandbox_files.py - the files, devices and processes that a unit of systemd leaves to its program, without systemd.
#
# In a mount namespace of the process's own, so that the machine's stays as it is.  Needs root.  Each is as narrow as
# systemd makes it, or narrower.  Knows nothing of system calls, and nothing of the program.
"""see_only(), unavailable(), HELD."""
import ctypes
import os
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 0x20000, -100, 0x8000, 1
MS_BIND, MS_REC, MS_PRIVATE, MS_NOSUID = 0x1000, 0x4000, 0x40000, 2
# Where systemd makes directories of the service's own.
OWN = {"RuntimeDirectory": Path("/run"), "LogsDirectory": Path("/var/log"), "StateDirectory": Path("/var/lib")}
HOMES = ("/home", "/root", "/run/user")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")

# What of a unit's settings holds here.
HELD = {*OWN, "ReadWritePaths", "PrivateTmp", "ProtectSystem", "ProtectHome", "PrivateDevices", "ProtectProc",
        "ProtectKernelTunables", "ProtectControlGroups"}

libc = ctypes.CDLL(None, use_errno=True)


def unavailable():
    """Why nothing can be hidden here; None: it can."""
    if os.geteuid() != 0:
        return "not root"
    settings = {"ProtectSystem": "strict", "PrivateDevices": "yes", "ProtectProc": "invisible"}
    program = f"import sandbox_files; sandbox_files.see_only({settings}, None)"
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True,
                          check=False)
    return done.stderr.strip().split("\n")[-1] or None


def _check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source, target, kind=None, flags=0, options=None):
    _check(libc.mount(os.fsencode(source), os.fsencode(target), kind and kind.encode(), ctypes.c_ulong(flags),
                      options and options.encode()), f"mount {target}")


def _bind(source, target):
    _mount(source, target, flags=MS_BIND)


def _make_read_only(path, is_read_only, flags=0):
    on, off = (MOUNT_ATTR_RDONLY, 0) if is_read_only else (0, MOUNT_ATTR_RDONLY)
    attributes = (ctypes.c_uint64 * 4)(on, off, 0, 0)
    _check(libc.mount_setattr(AT_FDCWD, os.fsencode(path), flags, attributes, ctypes.sizeof(attributes)),
           f"mount_setattr {path}")


def _empty(path, mode):
    if os.path.isdir(path):
        _mount("none", path, "tmpfs", MS_NOSUID, f"mode={mode:o}")


def _few_devices():
    found = {name: os.open(f"/dev/{name}", os.O_PATH) for name in DEVICES}
    _empty("/dev", 0o755)
    for name, fd in found.items():
        Path("/dev", name).touch()
        _bind(f"/proc/self/fd/{fd}", f"/dev/{name}")


def see_only(values, folder):
    """For this process and those after it; `values`: the unit's settings.  Directories of the service's own, such
    as /run/NAME, are those of the `folder`, such as run/NAME."""
    _check(libc.unshare(CLONE_NEWNS), "unshare")
    _mount("none", "/", flags=MS_REC | MS_PRIVATE)
    writable = values.get("ReadWritePaths", "").split()
    for path in writable:
        _bind(path, path)
    for setting, parent in OWN.items():
        if setting in values:
            own = parent / values[setting]
            _empty(parent, 0o755)
            own.mkdir()
            _bind(folder / own.relative_to("/"), own)
            writable.append(own)
    if values.get("PrivateDevices") == "yes":
        _few_devices()
    if values.get("ProtectProc") == "invisible":
        _mount("proc", "/proc", "proc", options="hidepid=2")
    if values.get("ProtectSystem") == "strict":
        # Tunables, control groups and all else that lies below.
        _make_read_only("/", True, AT_RECURSIVE)
        for path in writable:
            _make_read_only(path, False)
    if values.get("ProtectHome") == "yes":
        for path in HOMES:
            _empty(path, 0)
