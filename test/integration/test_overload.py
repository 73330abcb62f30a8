# SPDX-License-Identifier: ISC
#
# test_overload.py - a short sample of test/long/overload.py: ten times as many as there are places.
import pytest

from rig import log_in, shop
from storm import build_storm, overloaded, storm

SECONDS = 3
# Nobody is left without an answer.  That it comes within a second is measured by the long test, whose machine
# has nothing else to do.
MOST_US = 10_000_000


@pytest.fixture(scope="module")
def program():
    return build_storm()


@pytest.mark.parametrize("addresses", [1, 5])
def test_i3_who_is_let_in_is_served_and_the_others_are_told(primary, turnstile, program, addresses):
    t = turnstile(shop(primary, overloaded()))
    with log_in(t) as early:
        shown = storm(program, t, SECONDS, addresses=addresses)
        assert early.rows("SELECT 2") == [("2",)]
        with log_in(t) as late:
            assert late.rows("SELECT 2") == [("2",)]
    assert shown["failed"] == shown["turned_off"] == 0, shown
    assert shown["admitted"] >= shown["most_in"] > 90 and shown["served"] > 100, shown
    assert shown["refused"] > 900 and shown["refused_longest"] < MOST_US, shown
    assert shown["unanswered_longest"] < 2 * MOST_US, shown
