#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# hardening.py - the program that was built has what configure asks compiler and linker for.
#
# Reads the file with readelf: a flag that a compiler takes and does nothing with is seen here.  Runs in
# the build's directory.
"""Exit 0 when it has, 1 and one line per fault when not, 77 when it was not built to be run in earnest."""
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = Path("pgturnstile")
SKIP = 77
# Sanitizers and counters bring their own code, and none of these flags.
NOT_IN_EARNEST = re.compile(r"__(asan|tsan|ubsan|msan)_|__gcov_|__llvm_profile_")


def readelf(*options):
    return subprocess.run(["readelf", "-W", *options, PROGRAM], capture_output=True, text=True,
                          check=True).stdout


def segment_flags(headers, kind):
    """Of the first segment of that kind, as RWE; None: there is none."""
    match = re.search(rf"^\s*{kind}\s+(?:0x\w+\s+){{5}}([RWE ]{{3}})", headers, re.MULTILINE)
    return match and match[1]


def faults(symbols, wants_fortify):
    """What is missing."""
    headers, dynamic = readelf("-h", "-l"), readelf("-d")
    if not re.search(r"^\s*Type:\s+DYN", headers, re.MULTILINE) or "FLAGS_1" not in dynamic \
            or not re.search(r"FLAGS_1\).*\bPIE\b", dynamic):
        yield "it is not position-independent (-fPIE -pie)"
    if segment_flags(headers, "GNU_RELRO") is None:
        yield "nothing is read-only after relocation (-z relro)"
    if not re.search(r"\((?:FLAGS|FLAGS_1)\).*\b(?:BIND_NOW|NOW)\b", dynamic):
        yield "it binds lazily, so that its table of functions can be written (-z now)"
    if "E" in (segment_flags(headers, "GNU_STACK") or "E"):
        yield "its stack can be executed (-z noexecstack)"
    if "(TEXTREL)" in dynamic:
        yield "its code is relocated"
    if "__stack_chk_fail" not in symbols:
        yield "no function guards its stack (-fstack-protector-strong)"
    if wants_fortify and not re.search(r"\b__(?:mem\w+|str\w+|v?s?n?printf)_chk\b", symbols):
        yield "no call is checked (_FORTIFY_SOURCE)"


def main():
    symbols = readelf("--dyn-syms", "-s")
    if NOT_IN_EARNEST.search(symbols):
        print("built with sanitizers or counters: nothing to see")
        return SKIP
    found = list(faults(symbols, "_FORTIFY_SOURCE=2" in Path("Makefile").read_text()))
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
