# SPDX-License-Identifier: ISC
#
# indistinguishable.py - I2 by numbers: 20,000 random sessions, none of which can tell the pooler
# from a connection of its own.
#
# Two processes play at once, each with servers of its own.  What has been played is written down, so
# that a run that was stopped goes on where it was: PGT_STATE names the file, which `rm` forgets.
"""Progress on stdout; PGT_SESSIONS, PGT_SECONDS, PGT_KINDS and PGT_SEED change how many sessions, how
long, of what, and from which seed on."""
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path

from stage import Stage, Table

import indistinguishable as i2

SESSIONS = int(os.environ.get("PGT_SESSIONS", "20000"))
SECONDS = int(os.environ.get("PGT_SECONDS", "2100"))
KINDS = os.environ.get("PGT_KINDS", "")
FIRST = int(os.environ.get("PGT_SEED", "0"))
STATE = Path(os.environ.get("PGT_STATE", "indistinguishable.state"))
POOLERS = [{}, {"max_prepared_statements": 2, "workers": 1, "auto_prepare_after": 1}]
FAR = 1_000_000  # seeds of one process
EVERY = 50       # rounds between two lines of progress


def play(number, state, deadline, told):
    """Plays its half from where it was, and tells how far it is."""
    kinds = i2.chosen_kinds(KINDS)
    share = -(-SESSIONS // i2.CLIENTS // len(POOLERS))
    with Stage() as stage:
        primary = stage.primary()
        i2.prepare_databases(primary)
        pooler = stage.turnstile(i2.config(primary, POOLERS[number]))
        with i2.Scene(primary, pooler) as scene:
            for played in range(state["played"], share):
                if time.time() > deadline:
                    break
                state["failures"] += i2.play_seeds(scene, [FIRST + number * FAR + played], kinds)
                state["played"] = played + 1
                state["prepared"] = scene.count_prepared()
                told.put((number, dict(state)))


def guarded(number, state, deadline, told):
    """play(), and a last word."""
    try:
        play(number, state, deadline, told)
    finally:
        told.put((number, None))


def load():
    if STATE.exists():
        return json.loads(STATE.read_text())
    return [{"played": 0, "prepared": 0, "failures": []} for _ in POOLERS]


def count(states):
    return sum(state["played"] for state in states) * i2.CLIENTS


def main():
    states, began = load(), time.time()
    if count(states):
        print(f"goes on after {count(states)} sessions, as {STATE} says", flush=True)
    told = multiprocessing.Queue()
    players = [multiprocessing.Process(target=guarded, args=(n, state, began + SECONDS, told))
               for n, state in enumerate(states)]
    for player in players:
        player.start()
    running, lines = len(players), 0
    while running:
        number, state = told.get()
        if not state:
            running -= 1
            continue
        for failure in state["failures"][len(states[number]["failures"]):]:
            print(f"\n{failure}\n", flush=True)
        states[number] = state
        STATE.write_text(json.dumps(states))
        lines += 1
        if lines % EVERY == 0:
            print(f"{count(states)} sessions, {sum(len(s['failures']) for s in states)} that differ,"
                  f" {time.time() - began:.0f} s", flush=True)
    for player in players:
        player.join()
    table, failures = Table(), [f for state in states for f in state["failures"]]
    table.add(f"random sessions, {i2.CLIENTS} clients on a pool of {i2.POOL}", f">= {SESSIONS}",
              count(states), count(states) >= SESSIONS)
    table.add("differences from a direct connection", 0, len(failures), not failures)
    prepared = sum(state["prepared"] for state in states)
    table.add("unnamed statements prepared behind their backs", ">= 1 in 10 sessions", prepared,
              10 * prepared >= count(states))
    table.add("processes that played to their end", len(players),
              sum(not player.exitcode for player in players),
              not any(player.exitcode for player in players))
    return table.finish()


if __name__ == "__main__":
    sys.exit(main())
