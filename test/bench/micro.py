#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""micro.py - CPU time and, by callgrind, instructions per call of the hot path's small parts.

    /usr/bin/python3 test/bench/micro.py [--quick] BUILD/test/bench/micro     (make test/bench/micro)

--quick: only whether all of it runs, by figures that say nothing; of any build, without bars and valgrind.

Knows no part by name: micro.c has the list.
"""
import re
import shutil
import subprocess
import sys

CALLS = 2000
QUICK_CALLS = 100


def instructions(micro, name, calls):
    """User instructions of a whole run."""
    run = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", micro, name, str(calls)],
        check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", run.stderr).group(1))


def main(micro, quick):
    """True: each part that has a bar holds it."""
    command = [micro, str(QUICK_CALLS)] if quick else [micro]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    good = True
    print("| part | ns | bar | instructions |\n| --- | --- | --- | --- |")
    for ns, bar, name in (line.split(" ", 2) for line in lines):
        has_bar = bar != "0" and not quick
        held = not has_bar or float(ns) <= int(bar)
        good &= held
        said = "" if not has_bar else f"≤ {bar}: {'held' if held else '**not held**'}"
        count = "" if quick else "no valgrind"
        if not quick and shutil.which("valgrind"):
            # Twice as many calls cost what these cost, without the start of the program.
            more = instructions(micro, name, 2 * CALLS) - instructions(micro, name, CALLS)
            count = f"{more / CALLS:.0f}"
        print(f"| {name} | {ns} | {said} | {count} |", flush=True)
    return good


if __name__ == "__main__":
    quick = sys.argv[1:2] == ["--quick"]
    if len(sys.argv) != 2 + quick:
        sys.exit(__doc__)
    sys.exit(not main(sys.argv[-1], quick))
