# SPDX-License-Identifier: ISC
#
# random_sql.py - I4 by numbers: 50,000 random statements before a real pair, and none that writes runs
# on the replica unnoticed.
"""PGT_STATEMENTS, PGT_SEED and PGT_SECONDS change how many, from which seed on, and for how long."""
import os
import sys
import time

from stage import Stage, Table

import strays

STATEMENTS = int(os.environ.get("PGT_STATEMENTS", "50000"))
FIRST = int(os.environ.get("PGT_SEED", "1"))
SECONDS = int(os.environ.get("PGT_SECONDS", "3600"))
EVERY = 2000  # statements between two lines of progress
FEW, MANY = 0.05, 0.3  # how often what is written is a trap


def play(watch, failures):
    deadline, seed, told = time.monotonic() + SECONDS, FIRST, 0
    while watch.statements < STATEMENTS and time.monotonic() < deadline and len(failures) < 20:
        try:
            watch.play(seed, MANY if seed % 4 == 0 else FEW)
        except strays.Stray as stray:
            failures.append(str(stray))
            print(stray, flush=True)
        seed += 1
        if watch.statements - told >= EVERY:
            told = watch.statements
            print(f"{told} statements, {watch.writes} requests that write, {watch.on_replica} on the replica,"
                  f" {watch.compared} compared, {watch.rescued} rescued, {len(failures)} strays", flush=True)


def main():
    table, failures = Table(), []
    with Stage() as stage:
        primary = stage.primary(settings={"autovacuum": "off"})
        strays.prepare(primary)
        replica = stage.replica_of(primary)
        replica.wait_caught_up(primary)
        pooler = stage.turnstile(strays.config(primary, replica))
        with strays.Watch(primary, replica, pooler) as watch:
            play(watch, failures)
    table.add("random statements", f">= {STATEMENTS}", watch.statements, watch.statements >= STATEMENTS)
    table.add("requests that wrote", "> 0", watch.writes, watch.writes)
    table.add("transactions that the replica ran", "> 0", watch.on_replica - watch.rescued, watch.on_replica)
    table.add("writes that reached the replica and were asked again", "reported", watch.rescued, True)
    table.add("what only a primary can do, in READ ONLY transactions that were there already", "reported",
              watch.lost, True)
    table.add("answers of the replica compared with the primary's", "> 0", watch.compared, watch.compared)
    table.add("writes that reached the replica unrescued, and other answers", 0, len(failures), not failures)
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
