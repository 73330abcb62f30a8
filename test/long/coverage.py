# SPDX-License-Identifier: ISC
#
# coverage.py - how much of src/ all tests together run: lines, and branches where it hurts most.
#
# `sh test/run.sh --long coverage` builds for gcov ($PGT_COVERAGE).  A process counts when it ends by
# itself, so what the tests kill is missing here: the figures err on the low side.
"""PGT_SAMPLE: of a test with many sets of parameters, so many (--sample of the integration tests; 0: all);
PGT_TESTS: integration tests, as pytest takes them; PGT_MISSES: tell lines that no test runs; PGT_REUSE: count what an
earlier run has left."""
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from stage import Table

BUILD = Path(os.environ["PGT_COVERAGE"]).resolve()
# What it was built from.
TOP = Path(re.search(r"(?m)^abs_top_srcdir = (.+)", (BUILD / "Makefile").read_text()).group(1)).resolve()
LINES = 90
BRANCHES = {"wire": 85, "auth": 85, "tenant": 85, "relay": 85}

# What is not there to be run: a promise that is broken, and the end for want of memory, end the process.
PROMISE = re.compile(r"PGT_ASSERT\(")
FILES_LEFT_OUT = ["base/mem.c"]


def run_tests():
    """How many programs of unit tests, and of the integration tests, have failed."""
    for counted in BUILD.rglob("*.gcda"):
        counted.unlink()
    done = subprocess.run(["make", "-k", "-j2", "check"], cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False)
    units = re.search(r"# FAIL: +(\d+)", done.stdout)
    sample = os.environ.get("PGT_SAMPLE", "2")
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "2", *(["--sample", sample] if sample != "0" else []),
                           *os.environ.get("PGT_TESTS", "").split()],
                          cwd=TOP / "test/integration", stdout=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, "PGTURNSTILE": str(BUILD / "pgturnstile")})
    print(done.stdout[-4000:], flush=True)
    failed = re.search(r"(\d+) failed", done.stdout)
    return int(units.group(1)) if units else 1, int(failed.group(1)) if failed else done.returncode


def count():
    """[(file of src/, its text, its lines as gcovr has them)]"""
    told = subprocess.run(["gcovr", "-r", TOP, "--object-directory", BUILD, "-f", f"{TOP}/src/", "--json",
                           "--exclude-unreachable-branches", BUILD],
                          cwd=BUILD, stdout=subprocess.PIPE, check=True).stdout
    for file in json.loads(told)["files"]:
        name = file["file"].split("src/", 1)[1]
        if name not in FILES_LEFT_OUT:
            yield name, (TOP / "src" / name).read_text().split("\n"), file["lines"]


def main():
    table, lines, branches = Table(), [], Counter()
    if not os.environ.get("PGT_REUSE"):
        units, integration = run_tests()
        table.add("programs of unit tests that fail", 0, units, not units)
        table.add("integration tests that fail", 0, integration, not integration)
    for name, text, counted in count():
        for line in counted:
            if line.get("gcovr/noncode") or PROMISE.search(text[line["line_number"] - 1]):
                continue
            lines.append(line["count"] > 0)
            if not lines[-1] and os.environ.get("PGT_MISSES"):
                print(f"src/{name}:{line['line_number']}: {text[line['line_number'] - 1].strip()}")
            for branch in line["branches"]:
                branches[name.split("/")[0], branch["count"] > 0] += 1
    table.add("lines of src", f">= {LINES} %", f"{100 * sum(lines) / len(lines):.1f} % of {len(lines):,}",
              100 * sum(lines) >= LINES * len(lines))
    for folder in sorted({folder for folder, _ in branches}):
        taken, every = branches[folder, True], branches[folder, True] + branches[folder, False]
        least = BRANCHES.get(folder, 0)
        table.add(f"branches of {folder}/", f">= {least} %" if least else "-",
                  f"{100 * taken / every:.1f} % of {every:,}", 100 * taken >= least * every)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
