# SPDX-License-Identifier: ISC
#
# soak.py - hours of daily life at an accelerated pace: clients of every kind, connections that live five
# seconds, a reload every three, tenants that come and go, new certificates, new logs, restarts.
#
# Each run is one life of a pooler, of at most PGT_RUN seconds, and each life a row of days
# (test/integration/daily_life.py): the clients come, and when they have left all is to be as before.
# What a day has shown is written down, so that a run that was stopped goes on where it was: PGT_STATE
# names the file, which `rm` forgets.  In every other life some clients choose their tenant.
"""PGT_SECONDS of life in all, PGT_RUN in a run, PGT_DAY in a day; PGT_CLIENTS, PGT_SEED; PGT_KINDS: a comma
list of reloads and events (daily_life.py), an event every PGT_INTERVAL seconds."""
import contextlib
import json
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from stage import Stage, Table

from daily_life import Terms, live
from turmoil import add

SECONDS = int(os.environ.get("PGT_SECONDS", "7200"))
RUN = int(os.environ.get("PGT_RUN", "1950"))
DAY = float(os.environ.get("PGT_DAY", "100"))
CLIENTS = int(os.environ.get("PGT_CLIENTS", "60"))
SEED = os.environ.get("PGT_SEED", "1")
INTERVAL = float(os.environ.get("PGT_INTERVAL", "4"))
KINDS = tuple(filter(None, os.environ.get("PGT_KINDS", "").split(",")))
STATE = Path(os.environ.get("PGT_STATE", "soak.state"))
GROWTH = 0.05   # of the memory, from the first half of a life to its second; its first day fills caches
MOST_SHOWN = 10

NOTHING = [("failures", "events that went wrong themselves"), ("unprovoked", "errors that nobody asked for"),
           ("said", "answers that are not as they should be"), ("foreign", "foreign rows"),
           ("lost", "acknowledged writes lost"), ("twice", "rows written twice"),
           ("undead", "rows that were refused or taken back, and are there"),
           ("left", "clients, servers and requests left at the end of a day"),
           ("accounts", "counters that fell, or differ from the clients' books")]


def growth(kib):
    """Of one life: the memory behind its later days against that behind the earlier, but for the first."""
    days = kib[1:]
    if len(days) < 4 or not min(days):
        return None
    half = len(days) // 2
    return statistics.median(days[-half:]) / statistics.median(days[:half]) - 1


def report(state):
    table = Table()
    print("done:", ", ".join(f"{what} {count}" for what, count in Counter(state["done"]).most_common()))
    print("happened:", ", ".join(f"{what} {count}" for what, count in Counter(state["kinds"]).most_common()))
    table.add("seconds of life", f">= {SECONDS}", state["seconds"], state["seconds"] >= SECONDS * 0.95)
    for key, what in NOTHING:
        for each in state[key][:MOST_SHOWN]:
            print("  ", each)
        table.add(what, 0, len(state[key]), not state[key])
    table.add("requests answered, rows acknowledged", "> 0", f"{state['done']['answers']}, {state['written']}",
              state["done"]["answers"] and state["written"])
    table.add("errors excused by restarts and by what operators did", "any", state["excused"], True)
    grown = [growth(life) for life in state["kib"]]
    table.add("growth of memory in each life", f"<= {GROWTH:.0%}",
              f"{[f'{each:.1%}' for each in grown if each is not None]}; KiB: {state['kib']}",
              all(each is None or each <= GROWTH for each in grown))
    first, last = state["kept"][min(1, len(state["kept"]) - 1)], state["kept"][-1]
    table.add("what SHOW MEM has more of than behind the second day, in KiB", "any",
              {name: kib - first.get(name, 0) for name, kib in last.items() if kib != first.get(name, 0)}, True)
    table.add("descriptors before, and after each day", "no more", state["descriptors"],
              all(after <= before for before, after in state["descriptors"]))
    return table.finish()


def main():
    state = json.loads(STATE.read_text()) if STATE.exists() else {"seconds": 0, "kib": []}
    if state["kib"]:
        print(f"goes on after {state['seconds']} seconds, as {STATE} says", flush=True)
    until, number = time.monotonic() + RUN, len(state["kib"])
    terms = Terms(f"{SEED}.{number}", DAY, CLIENTS, choose=number % 2 == 1, kinds=KINDS,
                  interval=INTERVAL)
    if state["seconds"] < SECONDS * 0.95:
        state["kib"].append([])
        with Stage() as stage, contextlib.closing(live(stage, terms)) as days:
            for shown in days:
                state["kib"][-1] += shown.pop("kib")
                state.setdefault("kept", []).extend(shown.pop("kept"))
                add(state, shown)
                STATE.write_text(json.dumps(state))
                print(f"{state['seconds']} seconds, {sum(state['kinds'].values())} events,"
                      f" {state['kib'][-1][-1]} KiB", flush=True)
                # The next one is as long, with its clients' coming and leaving.
                if state["seconds"] >= SECONDS * 0.95 or time.monotonic() + 1.5 * DAY > until:
                    break
    return report(state)


if __name__ == "__main__":
    sys.exit(main())
