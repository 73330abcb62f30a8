# SPDX-License-Identifier: ISC
#
# waiting.py - wait for a condition, never for a time.
#
# The one place of the suite that sleeps.
"""wait_until(): poll a predicate until it holds or a deadline has passed."""
import time

_SHORTEST, _LONGEST = 0.002, 0.05


def wait_until(predicate, timeout=10.0, what=None):
    """Return predicate()'s first true value; AssertionError after timeout seconds without one.

    `what` names the condition in that error; a callable is asked then, to show the last state.
    """
    deadline = time.monotonic() + timeout
    pause = _SHORTEST
    while not (value := predicate()):
        if time.monotonic() >= deadline:
            name = what() if callable(what) else what or getattr(predicate, "__name__", predicate)
            raise AssertionError(f"not within {timeout:g} s: {name}")
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST)
    return value
