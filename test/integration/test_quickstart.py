# SPDX-License-Identifier: ISC
#
# test_quickstart.py - etc/quickstart.sh shows what it promises and leaves nothing behind.
#
# Uses the program under test instead of building one, if PGTURNSTILE names it.
import fcntl
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from machine import scratch_dir
from waiting import wait_until

SCRIPT = Path(__file__).resolve().parents[2] / "etc/quickstart.sh"


@pytest.fixture
def only_one():
    """It takes the first free ports, which two of them would take for free at the same time."""
    path = Path(tempfile.gettempdir()) / f"pgturnstile-quickstart-{os.getuid()}"
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start(tmp, *args, path=None):
    """The script in a process group of its own, all it says going to a file in tmp."""
    env = {**os.environ, "TMPDIR": str(tmp)}
    if path:
        env["PATH"] = f"{path}:{env['PATH']}"
    with open(tmp / "output", "wb") as output:
        # What a shell runs in the background ignores SIGINT, and another shell cannot undo that.
        return subprocess.Popen(["env", "--default-signal=INT", "sh", SCRIPT, *args], env=env,
                                stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT, start_new_session=True)


def output(tmp):
    return (tmp / "output").read_text(errors="replace")


def is_tidy(tmp):
    """Whether neither files nor processes of the demo are left."""
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    return not list(tmp.glob("pgturnstile-demo.*")) and \
        not any(str(tmp / "pgturnstile-demo").encode() in command for command in commands)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_check_finds_all_as_promised(only_one):
    tmp = scratch_dir("quickstart")
    code = start(tmp, "--check").wait()
    assert code == 0, output(tmp)
    assert is_tidy(tmp)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_removes_everything(only_one):
    tmp = scratch_dir("quickstart")
    process = start(tmp)
    wait_until(lambda: "Ctrl-C ends it" in output(tmp) or process.poll() is not None, 500,
               lambda: output(tmp))
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130, output(tmp)
    assert is_tidy(tmp)


def test_missing_packages_are_named_to_those_who_may_not_install_them():
    tmp = scratch_dir("quickstart")
    stubs = {"id": "echo 1000", "sudo": "exit 1", "dpkg-query": "echo not-installed",
             "apt-get": "exit 99"}
    for name, command in stubs.items():
        (tmp / name).write_text(f"#!/bin/sh\n{command}\n")
        (tmp / name).chmod(0o755)
    code = start(tmp, "--check", path=tmp).wait()
    assert code == 2, output(tmp)
    assert "sudo apt-get install --no-install-recommends" in output(tmp)
    assert "create_main_cluster = false" in output(tmp)
