#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# replay.py - gives each fuzzer its seeds, and what was found once (found/FUZZER), one time each.
#
# Run by `make check`, in the folder of the build.
"""Exit 0 when no fuzzer finds fault with any of them."""
import subprocess
import sys
import tempfile
from pathlib import Path

from seeds import HERE, write_seeds


def main():
    failures = 0
    with tempfile.TemporaryDirectory() as where:
        for folder in write_seeds(where):
            files = [*folder.iterdir(), *(HERE / "found" / folder.name).glob("*")]
            failures += subprocess.run([Path("test/fuzz") / folder.name, *files],
                                       check=False).returncode != 0
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
