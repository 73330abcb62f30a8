# SPDX-License-Identifier: ISC
#
# hostile.py - clients and a server that send anything, beside clients that only want their rows.
#
# Best run against a build with AddressSanitizer: PGTURNSTILE=…
"""Rounds of test/integration/rampage.py, each with a seed and a pooler of its own (PGT_SEED)."""
import os
import sys
import time

from stage import Stage, Table, raw

from rampage import STATES, config, rampage, rogue_login, rogue_session  # noqa: E402

SECONDS = int(os.environ.get("PGT_SECONDS", "300"))
ROUND = 20  # seconds


def main():
    table, rounds, rows, seen = Table(), 0, 0, set()
    seed = int(os.environ.get("PGT_SEED", "1"))
    until = time.monotonic() + SECONDS
    with Stage() as stage:
        primary = stage.primary()
        while time.monotonic() < until:
            with raw.FakeServer(rogue_session(seed), login=rogue_login(seed)) as rogue:
                pooler = stage.turnstile(config(primary, rogue))
                rows += rampage(pooler, seed, ROUND, seen)
                pooler.stop()  # fails where a sanitizer has complained
            print(f"seed {seed}: {rows} rows", flush=True)
            rounds, seed = rounds + 1, seed + 1
        table.add("foreign rows and errors of honest clients beside rogues", 0,
                  f"0 of {rows} in {rounds} rounds", rows > 20 * rounds)
        table.add("states that connections were seen in", len(STATES) + 1, f"{len(seen)}: {', '.join(sorted(seen))}",
                  len(seen) == len(STATES) + 1)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
