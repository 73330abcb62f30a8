# SPDX-License-Identifier: ISC
#
# fuzz.py - every fuzzer of test/fuzz for a while, on from its corpus, and which lines of what it reads
# with that corpus has reached.
#
# `sh test/run.sh --long fuzz` builds the fuzzers with libFuzzer ($PGT_FUZZERS) and once more with gcov
# ($PGT_COVERAGE).  The corpus is kept in PGT_STATE, a folder, which is what a next run goes on from.
"""PGT_SECONDS for each fuzzer, FUZZ: a comma list of them, PGT_LINES: the least share of lines in percent."""
import os
import re
import subprocess
import sys
from pathlib import Path

from stage import Table

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "test/fuzz"))
from seeds import write_seeds  # noqa: E402

SECONDS = int(os.environ.get("PGT_SECONDS", "120"))
LINES = float(os.environ.get("PGT_LINES", "90"))
STATE = Path(os.environ.get("PGT_STATE", "fuzz.state")).resolve()

# What each is there for: the files that read the bytes it makes up.
PARSERS = {
    "fuzz_classify": ["sql/classify.c"],
    "fuzz_command": ["admin/command.c"],
    "fuzz_config": ["config/ini.c"],
    "fuzz_frame": ["wire/report.c"],
    "fuzz_hba": ["auth/hba.c", "auth/ident.c", "auth/fields.c"],
    "fuzz_identity": ["client/identity.c"],
    "fuzz_lex": ["sql/lex.c"],
    "fuzz_roster": ["config/roster.c"],
    "fuzz_scan": ["sql/scan.c", "sql/settings.c", "sql/set_config.c", "sql/control.c", "sql/choice.c",
                  "sql/shape.c", "sql/stream_guard.c", "sql/timeout.c"],
    "fuzz_scram": ["auth/scram.c", "auth/saslprep.c"],
    "fuzz_setting": ["config/types.c"],
    "fuzz_startup": ["wire/startup.c"],
    "fuzz_userlist": ["auth/userlist.c"],
}


def fuzz(fuzzers, name, corpus, seeds):
    """What libFuzzer printed, where it has found something; None where not."""
    corpus.mkdir(parents=True, exist_ok=True)
    found = TOP / "test/fuzz/found" / name
    done = subprocess.run(
        [fuzzers / "test/fuzz" / name, f"-max_total_time={SECONDS}", "-timeout=20", "-verbosity=0",
         f"-artifact_prefix={STATE}/{name}-", corpus, seeds, *([found] if found.exists() else [])],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    return done.stdout if done.returncode else None


def replay(build, name, folders):
    """Gives a fuzzer that counts lines all that has been kept for it; forgets what was counted before."""
    for counted in build.rglob("*.gcda"):
        counted.unlink()
    files = [file for folder in folders for file in folder.glob("*")]
    for begin in range(0, len(files), 1000):
        subprocess.run([build / "test/fuzz" / name, *files[begin:begin + 1000]], check=True)


def lines_reached(build, source):
    """(reached, all) of a file of src/."""
    printed = subprocess.run(["gcov", "-n", "-o", f"src/{Path(source).parent}", f"src/{source}"],
                             cwd=build, capture_output=True, text=True, check=True).stdout
    share, count = re.search(rf"File '[^']*src/{source}'\nLines executed:([\d.]+)% of (\d+)", printed).groups()
    return round(float(share) * int(count) / 100), int(count)


def main():
    fuzzers, build = Path(os.environ["PGT_FUZZERS"]), Path(os.environ["PGT_COVERAGE"])
    names = list(filter(None, os.environ.get("FUZZ", "").split(","))) or list(PARSERS)
    table, seeds = Table(), {folder.name: folder for folder in write_seeds(STATE / "seeds")}
    assert seeds.keys() == PARSERS.keys(), "each fuzzer has its row in PARSERS"
    for name in names:
        corpus = STATE / "corpus" / name
        found = fuzz(fuzzers, name, corpus, seeds[name])
        if found:
            print(found, flush=True)
        table.add(f"{name}: findings in {SECONDS} s", 0, int(bool(found)), not found)
        replay(build, name, [corpus, seeds[name]])
        for source in PARSERS[name]:
            reached, count = lines_reached(build, source)
            table.add(f"{name}: lines of {source}", f">= {LINES:g} %", f"{100 * reached / count:.1f} % of {count}",
                      100 * reached >= LINES * count)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
