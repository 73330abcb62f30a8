# SPDX-License-Identifier: ISC
#
# resume.py - a run of pytest that goes on where the one before was stopped.
#
# A plugin of test/long/threads.py: notes in a file which tests have passed, leaves those out, and
# stops when its time is over.  Knows no test.
"""--passed FILE: which have, one to a line; --seconds N: no new test begins after that time."""
import time
from pathlib import Path

import pytest


def pytest_addoption(parser):
    parser.addoption("--passed", type=Path, metavar="FILE", required=True)
    parser.addoption("--seconds", type=float, default=float("inf"), metavar="N")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    path = config.getoption("--passed")
    passed = set(path.read_text().splitlines()) if path.exists() else set()
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in passed])
    items[:] = [item for item in items if item.nodeid not in passed]


class Notes:
    """What one run has found out, in the process that hands out the tests."""

    def __init__(self, session):
        self.session = session
        self.path = session.config.getoption("--passed")
        self.deadline = time.monotonic() + session.config.getoption("--seconds")
        self.failed = set()

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when == "teardown" and report.nodeid not in self.failed:
            with self.path.open("a") as notes:
                notes.write(report.nodeid + "\n")
        if time.monotonic() > self.deadline:
            # With pytest-xdist it is not the session that is asked.
            manager = self.session.config.pluginmanager
            (manager.getplugin("dsession") or self.session).shouldstop = "its time is over"


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Notes(session))
