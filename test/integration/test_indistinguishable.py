# SPDX-License-Identifier: ISC
#
# test_indistinguishable.py - sessions made up at random, through the pooler and on their own (I2).
#
# PGT_SESSIONS=5000 plays more, PGT_SEED=17 begins there; PGT_KINDS=+sequences adds to what they do,
# -temp leaves out, settings,role does these alone.  test/long/indistinguishable.py plays many.
"""I2: eight clients on two servers cannot tell that they are not alone."""
import os

import pytest

import indistinguishable as i2
from indistinguishable import CLIENTS, PASSWORD, USER

SESSIONS = int(os.environ.get("PGT_SESSIONS", 500))
FIRST = int(os.environ.get("PGT_SEED", 1))
KINDS = os.environ.get("PGT_KINDS", "")
# Pools that differ: enough prepared statements for all, and fewer than a batch may use.
POOLERS = {"roomy": {}, "tight": {"max_prepared_statements": 2, "workers": 1,
                                   "auto_prepare_after": 1}}


@pytest.fixture(scope="module")
def databases(primary):
    i2.prepare_databases(primary)
    return primary


@pytest.mark.slow
@pytest.mark.tsan
@pytest.mark.parametrize("kind", POOLERS)
def test_i2_random_sessions_are_as_on_connections_of_their_own(databases, turnstile, kind):
    t = turnstile(i2.config(databases, POOLERS[kind]), users={USER: PASSWORD})
    first = FIRST + list(POOLERS).index(kind) * 100_000
    seeds = range(first, first + -(-SESSIONS // CLIENTS // len(POOLERS)))
    with i2.Scene(databases, t) as scene:
        failures = i2.play_seeds(scene, seeds, i2.chosen_kinds(KINDS), stop_at=3)
        assert not failures, "\n\n".join(failures)
        assert scene.sessions >= len(seeds) * CLIENTS
        assert scene.count_prepared()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_i2_what_differs_is_found_and_made_small(databases, turnstile):
    """The test of the test: a pooler that loses what a session has made is found out."""
    t = turnstile(i2.config(databases, {"session_state": "log"}), users={USER: PASSWORD})
    with i2.Scene(databases, t) as scene:
        failures = i2.play_seeds(scene, range(1, 60), ["temp"], shrink_seconds=200, stop_at=1)
        assert len(failures) == 1 and "as small as it gets" in failures[0], failures
        assert failures[0].count("\n") < 20, failures[0]
