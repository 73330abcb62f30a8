#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# replay.py - gives each fuzzer its seeds, recorded ones among them, and what was found once
# (found/FUZZER), one time each.  The clients of recorded conversations have to hear what they heard then.
#
# Run by `make check`, in the folder of the build.
"""Exit 0 when nothing finds fault with any of them."""
import subprocess
import sys
import tempfile
from pathlib import Path

from recordings import misheard
from seeds import HERE, write_seeds


def main():
    failures, fuzzers = 0, Path("test/fuzz")
    with tempfile.TemporaryDirectory() as where:
        for folder in write_seeds(where):
            files = [*folder.iterdir(), *(HERE / "found" / folder.name).glob("*")]
            failures += subprocess.run([fuzzers / folder.name, *files], check=False).returncode != 0
        for name, why in misheard(fuzzers / "fuzz_relay", where).items():
            print(f"recorded/fuzz_relay/{name}: {why} (see README.md, \"Recorded traffic\")")
            failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
