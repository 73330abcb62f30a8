# SPDX-License-Identifier: ISC
#
# threads.py - all integration tests against the ThreadSanitizer build, with four workers.
#
# CI runs those that are marked `tsan`.  What has passed is written down, so that a run that was
# stopped goes on where it was: PGT_STATE names the file, which `rm` forgets.
"""PGT_SECONDS bounds one run.  A race ends the pooler that met it, which fails its test."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

SECONDS = os.environ.get("PGT_SECONDS", "2000")
STATE = Path(os.environ.get("PGT_STATE", "threads.state")).resolve()
TESTS = Path(__file__).resolve().parents[1] / "integration"
STOPPED = 2  # pytest's exit code


def is_watched(program):
    return b"__tsan_init" in Path(program).read_bytes()


def main():
    if not is_watched(os.environ["PGTURNSTILE"]):
        print("the program is not built with --enable-sanitizers=thread")
        return 2
    # ThreadSanitizer of this age wants addresses where it has always seen them.
    straight = ["setarch", "-R"] if shutil.which("setarch") else []
    code = subprocess.run(
        [*straight, sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "resume",
         "--rootdir", str(TESTS), "-c", str(TESTS / "pytest.ini"), "--passed", str(STATE),
         "--seconds", SECONDS],
        cwd=TESTS, env={**os.environ, "PGTURNSTILE_WORKERS": "4", "PYTHONPATH": str(TESTS)},
        check=False).returncode
    if code == STOPPED:
        print(f"stopped; {STATE} says where it goes on")
    return code


if __name__ == "__main__":
    sys.exit(main())
