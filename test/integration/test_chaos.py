# SPDX-License-Identifier: ISC
#
# test_chaos.py - a short round of test/long/chaos.py: everything goes wrong at once.
"""Each kind of mishap about once, one every second, under the load of a few clients."""
import contextlib

import pytest

from mishaps import MISHAPS
from turmoil import Terms, play_round

CLIENTS, TENANTS = 30, 15


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("shared", [True, False])
def test_i3_all_goes_wrong_at_once(shared):
    """Nobody sees foreign rows, nothing acknowledged is lost, nothing is done twice, nobody hangs."""
    with contextlib.ExitStack() as stack:
        shown = play_round(stack, Terms("short", len(MISHAPS), shared, CLIENTS, TENANTS, 2, 1.0))
    wrong = {key: shown[key] for key in ("failures", "foreign", "lost", "twice", "undead", "hung", "other",
                                         "late") if shown[key]}
    assert not wrong
    assert shown["checks"] > 100 and shown["written"] > 100
    (idle, left), = shown["descriptors"]
    assert left <= idle
