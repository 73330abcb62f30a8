# SPDX-License-Identifier: ISC
#
# fuzz.py - every fuzzer of test/fuzz for a while, on from its corpus, and how much of what it reads that
# corpus has reached: the edges, which are the two ways out of each condition.
#
# `sh test/run.sh --long fuzz` builds the fuzzers with libFuzzer ($PGT_FUZZERS) and once more for
# llvm-cov ($PGT_COVERAGE).  The corpus is kept in PGT_STATE, a folder, which is what a next run goes on
# from.
"""PGT_SECONDS for each fuzzer (0: only what its corpus reaches), FUZZ: a comma list of them, PGT_EDGES: the least
share of edges in percent, PGT_MISSES: tell those that were not reached."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from stage import Table

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/fuzz"))
from parsers import PARSERS  # noqa: E402
from seeds import write_seeds  # noqa: E402

SECONDS = int(os.environ.get("PGT_SECONDS", "120"))
EDGES = float(os.environ.get("PGT_EDGES", "90"))
STATE = Path(os.environ.get("PGT_STATE", "fuzz.state")).resolve()

# What is not there to be reached: a promise is not broken, and what says why not never says yes.
PROMISE = re.compile(r"PGT_ASSERT\(")
NEVER_TRUE = re.compile(r"(deny|find_fault|err_set|syntax_error)\(")


def fuzz(fuzzers, name, corpus, seeds):
    """What libFuzzer printed, and whether it has found something."""
    corpus.mkdir(parents=True, exist_ok=True)
    found = TOP / "test/fuzz/found" / name
    done = subprocess.run(
        [fuzzers / "test/fuzz" / name, *(["-runs=0"] if not SECONDS else [f"-max_total_time={SECONDS}"]),
         "-timeout=20", "-verbosity=0", "-print_final_stats=1", f"-dict={seeds.with_suffix('.dict')}",
         f"-artifact_prefix={STATE}/{name}-", corpus, seeds, *([found] if found.exists() else [])],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    return done.stdout, done.returncode != 0


def executions(printed):
    count = re.search(r"number_of_executed_units: (\d+)", printed)
    return int(count.group(1)) if count else 0


def replay(build, name, folders):
    """Gives a fuzzer that counts all that has been kept for it; what llvm-cov tells of files of src/."""
    program, profile = build / "test/fuzz" / name, STATE / f"{name}.profdata"
    files = [file for folder in folders for file in folder.glob("*")]
    raw = []
    for begin in range(0, len(files), 1000):
        raw.append(STATE / f"{name}.{begin}.profraw")
        done = subprocess.run([program, *files[begin:begin + 1000]], check=False,
                              env={**os.environ, "LLVM_PROFILE_FILE": str(raw[-1])})
        if done.returncode:
            sys.exit(f"{name} does not get through its corpus")
    subprocess.run(["llvm-profdata", "merge", "-sparse", "-o", profile, *raw], check=True)
    for file in raw:
        file.unlink()
    told = json.loads(subprocess.run(["llvm-cov", "export", "-instr-profile", profile, program],
                                     capture_output=True, check=True).stdout)
    return {file["filename"].split("/src/")[-1]: file for file in told["data"][0]["files"]
            if "/src/" in file["filename"]}


def edges(told):
    """(where, which way, the condition, how often) of a file, but for what is not there to be reached."""
    text = Path(told["filename"]).read_text().split("\n")
    counts = {}
    for branch in told["branches"]:  # once for each function that a static inline one is part of
        taken = counts.setdefault(tuple(branch[:4]), [0, 0])
        taken[0] += branch[4]
        taken[1] += branch[5]
    for (line, column, end_line, end), taken in sorted(counts.items()):
        condition = text[line - 1][column - 1:end - 1 if end_line == line else None]
        if PROMISE.search(text[line - 1]):
            continue
        if not NEVER_TRUE.match(condition):
            yield line, True, condition, taken[0]
        yield line, False, condition, taken[1]


def measure(name, source, told, table):
    without = PARSERS[name].without
    every = list(edges(told))
    ways = [way for way in every if not without or not re.search(without[1], way[2])]
    reached = sum(count > 0 for *_, count in ways)
    left_out = f", without {len(every) - len(ways)} of {without[0]}" if len(ways) < len(every) else ""
    table.add(f"{name}: edges of {source}", f">= {EDGES:g} %", f"{100 * reached / len(ways):.1f} % of {len(ways)}{left_out}",
              100 * reached >= EDGES * len(ways))
    if os.environ.get("PGT_MISSES"):
        for line, is_true, condition, count in ways:
            if not count:
                print(f"src/{source}:{line}: never {'true' if is_true else 'false'}: {condition}")


def main():
    fuzzers, build = Path(os.environ["PGT_FUZZERS"]), Path(os.environ["PGT_COVERAGE"])
    names = list(filter(None, os.environ.get("FUZZ", "").split(","))) or list(PARSERS)
    table, seeds = Table(), {folder.name: folder for folder in write_seeds(STATE / "seeds")}
    for name in names:
        corpus = STATE / "corpus" / name
        printed, has_found = fuzz(fuzzers, name, corpus, seeds[name])
        if has_found:
            print(printed, flush=True)
        table.add(f"{name}: findings in {SECONDS} s, {executions(printed):,} inputs", 0, int(has_found), not has_found)
        told = replay(build, name, [corpus, seeds[name], TOP / "test/fuzz/found" / name])
        for source in PARSERS[name].sources:
            measure(name, source, told[source], table)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
