# SPDX-License-Identifier: ISC
#
# chaos.py - 200 clients of 100 tenants while something goes wrong every two seconds: foreign rows, lost
# and doubled writes, clients that hang, memory and descriptors afterwards.
#
# Played in rounds (test/integration/turmoil.py), with shared pools and with dedicated ones in turn.  What
# a round has shown is written down, so that a run that was stopped goes on where it was: PGT_STATE names
# the file, which `rm` forgets.  Run it against a build with AddressSanitizer too: PGTURNSTILE=…
"""PGT_SECONDS of mishaps in all, PGT_ROUND in a round, PGT_SEED, PGT_KINDS: a comma list of mishaps.

With failpoints as well where the build has them: PGT_FAILPOINTS of those that nobody may notice (send_short,
send_again, send_nobufs, recv_short, recv_again, mail_late), and of peer_malloc, which is told as 53200, or ends a
connection without a word where its client was being sent a message.
"""
import json
import os
import sys
from collections import Counter
from pathlib import Path

import psycopg

from stage import Stage, Table

import restless
from mishaps import MISHAPS
from turmoil import Terms, add, play_round
from turnstile import Turnstile

SECONDS = int(os.environ.get("PGT_SECONDS", "1800"))
ROUND = int(os.environ.get("PGT_ROUND", "300"))
SEED = os.environ.get("PGT_SEED", "1")
KINDS = list(filter(None, os.environ.get("PGT_KINDS", "").split(","))) or list(MISHAPS)
STATE = Path(os.environ.get("PGT_STATE", "chaos.state"))

STARVES = "peer_malloc:" in os.environ.get("PGT_FAILPOINTS", "")
STARVED = "53200: |08006: connection lost: closed after (?!0 of 5 bytes)"
ASKS = 30  # times, where each may be refused memory


class Patient(Turnstile):
    """Whose console is asked again when memory was refused to that connection."""

    def admin(self, *command, **kwargs):
        for _ in range(ASKS):
            try:
                return super().admin(*command, **kwargs)
            except psycopg.OperationalError as error:
                if "out of memory" not in str(error):
                    raise
                refused = error
        raise refused


def terms(number):
    return Terms(f"{SEED}.{number}", ROUND, number % 2 == 0, kinds=KINDS, pooler=Patient if STARVES else Turnstile,
                 excused=STARVED if STARVES else "")


def report(state):
    table = Table()
    for text, count in Counter(state["errors"]).most_common(25):
        print(f"{count:6} {text}")
    table.add("seconds with mishaps, their kinds", f">= {SECONDS}, >= 20",
              f"{state['seconds']}, {len(state['kinds'])}; {sum(state['kinds'].values())} mishaps",
              state["seconds"] >= SECONDS * 0.95 and (len(state["kinds"]) >= 20 or len(KINDS) < 20))
    for key, what in [("failures", "mishaps that went wrong themselves"), ("foreign", "foreign rows"),
                      ("lost", "acknowledged writes lost"), ("twice", "rows written twice"),
                      ("undead", "rows that were refused or taken back, and are there"),
                      ("hung", f"clients hung for more than {restless.PATIENCE:g} s"),
                      ("other", "answers that nothing excuses"), ("late", "errors while all is well")]:
        for each in state[key][:10]:
            print("  ", each)
        table.add(what, 0, len(state[key]), not state[key])
    table.add("checks of rows, writes acknowledged, not known", "> 0",
              f"{state['checks']}, {state['written']}, {state['unknown']}",
              state["checks"] and state["written"])
    growth = max((after / before if before else 1) for before, after in state["kib"])
    table.add("memory, without histograms, afterwards against before", "<= 1.10", f"{growth:.2f}; KiB: {state['kib']}",
              growth <= 1.10)
    table.add("descriptors before, and afterwards", "the same", state["descriptors"],
              all(after <= before for before, after in state["descriptors"]))
    return table.finish()


def main():
    state = json.loads(STATE.read_text()) if STATE.exists() else {}
    number = len(state.get("kib", []))
    if number:
        print(f"goes on after {state['seconds']} seconds, as {STATE} says", flush=True)
    while state.get("seconds", 0) < SECONDS * 0.95:
        with Stage() as stage:
            add(state, play_round(stage, terms(number)))
        number += 1
        STATE.write_text(json.dumps(state))
        print(f"{state['seconds']} seconds, {sum(state['kinds'].values())} mishaps", flush=True)
    return report(state)


if __name__ == "__main__":
    sys.exit(main())
