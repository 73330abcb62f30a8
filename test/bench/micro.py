#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
"""micro.py - CPU time and, by callgrind, instructions per call of the hot path's small parts.

    /usr/bin/python3 test/bench/micro.py BUILD/test/bench/micro     (make test/bench/micro)

Knows no part by name: micro.c has the list.
"""
import re
import shutil
import subprocess
import sys

CALLS = 2000


def instructions(micro, name, calls):
    """User instructions of a whole run."""
    run = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", micro, name, str(calls)],
        check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", run.stderr).group(1))


def main(micro):
    """True: each part that has a bar holds it."""
    lines = subprocess.run([micro], check=True, capture_output=True, text=True).stdout.splitlines()
    good = True
    print("| part | ns | bar | instructions |\n| --- | --- | --- | --- |")
    for ns, bar, name in (line.split(" ", 2) for line in lines):
        held = bar == "0" or float(ns) <= int(bar)
        good &= held
        said = "" if bar == "0" else f"≤ {bar}: {'held' if held else '**not held**'}"
        count = "no valgrind"
        if shutil.which("valgrind"):
            # Twice as many calls cost what these cost, without the start of the program.
            more = instructions(micro, name, 2 * CALLS) - instructions(micro, name, CALLS)
            count = f"{more / CALLS:.0f}"
        print(f"| {name} | {ns} | {said} | {count} |", flush=True)
    return good


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(not main(sys.argv[1]))
