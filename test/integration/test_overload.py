# SPDX-License-Identifier: ISC
#
# test_overload.py - a short sample of test/long/overload.py: ten times as many as there are places.
import time

import pytest

from rig import log_in, shop
from storm import build_storm, overloaded, storm

SECONDS = 3
# One that is turned away has to know within a second.
MOST_US = 1_000_000


@pytest.fixture(scope="module")
def program():
    return build_storm()


@pytest.mark.parametrize("addresses", [1, 5])
def test_i3_who_is_let_in_is_served_and_the_others_are_told(primary, turnstile, program, addresses):
    t = turnstile(shop(primary, overloaded()))
    with log_in(t) as early:
        shown = storm(program, t, SECONDS, addresses=addresses)
        began = time.monotonic()
        assert early.rows("SELECT 2") == [("2",)]
        with log_in(t) as late:
            assert late.rows("SELECT 2") == [("2",)]
        seconds = time.monotonic() - began
    assert shown["failed"] == shown["turned_off"] == 0, shown
    assert shown["admitted"] >= shown["most_in"] > 90 and shown["served"] > 100, shown
    assert shown["refused"] > 900 and shown["refused_longest"] < MOST_US, shown
    assert shown["unanswered_longest"] < 2 * MOST_US, shown
    assert seconds < 1
