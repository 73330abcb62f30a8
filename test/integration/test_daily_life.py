# SPDX-License-Identifier: ISC
#
# test_daily_life.py - a short day of test/long/soak.py: much changes, and nothing is broken on purpose.
"""Each kind of event begins about once; the clients do what the machine lets them."""
import contextlib

import pytest

from daily_life import EVENTS, Terms, live

CLIENTS, INTERVAL = 20, 0.5
CLEAN = ("failures", "unprovoked", "said", "foreign", "lost", "twice", "undead", "left", "accounts")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_i3_nobody_is_told_of_an_error_that_it_has_not_asked_for():
    """And when the clients have left, so has all that they have had."""
    terms = Terms("short", len(EVENTS) * INTERVAL, CLIENTS, interval=INTERVAL)
    with contextlib.ExitStack() as stack, contextlib.closing(live(stack, terms)) as days:
        shown = next(days)
    assert not {key: shown[key] for key in CLEAN if shown[key]}
    # How much was done is the machine's business; that all of it was looked at is ours.
    assert shown["done"]["checks"] and shown["written"] and len(shown["kinds"]) > 1
    (idle, left), = shown["descriptors"]
    assert left <= idle
