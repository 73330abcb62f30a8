#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# hardening.py - the program that was built has what configure asks compiler and linker for.
#
# Reads the file with readelf: a flag that a compiler takes and does nothing with is seen here.  What leaves
# nothing behind that is the same on every machine is looked for in the Makefile, if the compiler takes it.
# Runs in the build's directory.
"""Exit 0 when it has, 1 and one line per fault when not, 77 when it was not built to be run in earnest."""
import re
import shlex
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


def make_variable(makefile, name):
    """The words of a variable, with those of the variables that it names."""
    value = re.search(rf"^{name} = (.*(?:\\\n.*)*)", makefile, re.MULTILINE)
    words = shlex.split(value[1].replace("\\\n", " ")) if value else []
    inner = [re.fullmatch(r"\$\((\w+)\)", word) for word in words]
    return [part for word, named in zip(words, inner)
            for part in (make_variable(makefile, named[1]) if named else [word])]


def takes(compiler, flag):
    """Whether the compiler knows the flag; clang only warns of one that does nothing on this machine."""
    return subprocess.run([*compiler, "-Werror", flag, "-x", "c", "-c", "-o", "/dev/null", "/dev/null"],
                          capture_output=True, check=False).returncode == 0


def missing_flags(makefile):
    flag, compiler = "-fstack-clash-protection", make_variable(makefile, "CC")
    if flag not in make_variable(makefile, "AM_CFLAGS") + make_variable(makefile, "CFLAGS") and takes(compiler, flag):
        yield f"a large frame may jump over the guard page of the stack ({flag})"


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
    makefile = Path("Makefile").read_text()
    found = [*faults(symbols, "_FORTIFY_SOURCE=2" in makefile), *missing_flags(makefile)]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
