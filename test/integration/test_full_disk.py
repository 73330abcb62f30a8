# SPDX-License-Identifier: ISC
#
# test_full_disk.py - files that cannot grow any more: the log, and what is kept of quotas.
#
# A file that may not be longer than it is (RLIMIT_FSIZE) is written to as one on a full disk, and a
# signal comes with it; /dev/full is a full disk without the signal.
import contextlib
import resource

import pytest

from conftest import APP_DATABASE
from machine import scratch_dir
from rig import log_in, shop
from tenancy import enter, tenants
from test_process import wrapped
from waiting import wait_until

PER_DAY = 10


@contextlib.contextmanager
def no_file_longer_than(pooler, size):
    pid = pooler.pid()
    _, most = before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def is_served(pooler):
    """By a login that would be logged, and with what a worker and the console do then."""
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    return bool(pooler.admin("SHOW POOLS")) and pooler.is_running()


@pytest.fixture
def log():
    return scratch_dir("log") / "log"


def test_a_log_that_cannot_grow_stops_nobody(primary, turnstile, log):
    t = turnstile(shop(primary, {"logfile": log}))
    assert is_served(t)
    with no_file_longer_than(t, 1):
        # What was said of before, that its clients have left, may have come meanwhile.
        assert is_served(t)
        size = len(log.read_bytes())
        assert size and is_served(t)
        t.reload({"pgturnstile": {"default_pool_size": 3}})
        assert is_served(t)
        assert len(log.read_bytes()) == size
    assert is_served(t)
    wait_until(lambda: APP_DATABASE in log.read_text()[size:], what="the log goes on")


def test_it_starts_with_a_log_that_cannot_grow(primary, log):
    config = shop(primary, {"logfile": log})
    log.write_text("x" * 10_000)
    with wrapped(config, before=["prlimit", "--fsize=10000:10000", "--"]) as t:
        assert is_served(t)


def test_a_log_on_a_full_disk_stops_nobody(primary, turnstile, log):
    t = turnstile(shop(primary, {"logfile": "/dev/full"}))
    assert is_served(t) and is_served(t)
    t.reload({"pgturnstile": {"logfile": log}})
    assert is_served(t)
    wait_until(lambda: log.exists() and APP_DATABASE in log.read_text(), what="the log is elsewhere now")


def test_quotas_that_cannot_be_kept_are_counted_on(primary, turnstile):
    """The last file that was whole stays, and a new one is written when there is room again."""
    state = scratch_dir("state")
    t = turnstile(tenants(primary, {"state_dir": state}, {"basic": {"quota": f"{PER_DAY}/d"}}))
    kept = state / "quotas"

    def used():
        return [line.split()[-2] for line in kept.read_text().splitlines() if line.endswith(" acme")]

    with enter(t, "acme") as client:
        assert client.rows("SELECT 2") == [("2",)]
        wait_until(lambda: used() == ["1"], 10, "the first is kept")
        with no_file_longer_than(t, 1):
            assert client.rows("SELECT 3") == [("3",)]
            wait_until(lambda: t.admin("SHOW EVENTS") and any(
                "quotas" in str(row) for row in t.admin("SHOW EVENTS")), 10, "operators are told")
            assert used() == ["1"]
            assert client.rows("SELECT 4") == [("4",)]
        wait_until(lambda: used() == ["3"], 10, "all are kept again")
    t.stop()
    t.start()
    shown, = [row for row in t.admin("SHOW TENANTS") if row["name"] == "acme"]
    assert shown["quota_left"] == PER_DAY - 3
