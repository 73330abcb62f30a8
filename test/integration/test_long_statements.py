# SPDX-License-Identifier: ISC
#
# test_long_statements.py - statements of the extended protocol whose texts are too long to be kept.
"""More than 1 MiB, as bulk INSERTs have: passed on as they come, and bound by whom they belong to."""
import pytest

import raw
from rig import clients, log_in, pid_of, shop
from tenancy import errors
from waiting import wait_until


def long(sql):
    return f"/* {'x' * (1 << 20)} */ {sql}"


def batch(name, sql):
    return [raw.parse(name, sql), raw.bind("", name), raw.execute(), raw.sync()]


def rows(messages):
    assert not errors(messages), raw.find(messages, "E")[0].fields
    return [m.row for m in raw.find(messages, "D")]


@pytest.fixture
def pooler(primary, turnstile):
    return turnstile(shop(primary, {"default_pool_size": 1}))


@pytest.mark.parametrize("before", [None, "SELECT 'another'", "SELECT 'another', 2"])
@pytest.mark.parametrize("begin", ["", "BEGIN", "BEGIN READ ONLY"])
def test_i3_an_unnamed_one_is_the_one_that_is_run(pooler, begin, before):
    with log_in(pooler) as client:
        if begin:
            client.query(begin)
        for _ in range(3):
            if before:
                client.send(*batch("", before))
                rows(client.until("Z"))
            client.send(*batch("", long("SELECT 'this'")))
            assert rows(client.until("Z")) == [("this",)]
        client.send(*batch("", "SELECT 'a short one'"))
        assert rows(client.until("Z")) == [("a short one",)]


def test_i3_within_a_transaction_it_is_there_in_the_next_batch(pooler):
    with log_in(pooler) as client:
        client.query("BEGIN")
        client.send(raw.parse("", long("SELECT 'this'")), raw.describe("S"), raw.sync())
        assert not errors(client.until("Z"))
        for _ in range(2):
            client.send(raw.bind(), raw.execute(), raw.sync())
            assert rows(client.until("Z")) == [("this",)]
        client.query("SELECT 2")  # takes it away
        client.send(raw.bind(), raw.execute(), raw.sync())
        assert errors(client.until("Z")) == ["26000"]


def test_i2_it_is_nobody_elses_and_no_other_is_taken_for_it(pooler):
    with clients(pooler, 2) as (one, other):
        one.send(*batch("", "SELECT 'before'"))
        rows(one.until("Z"))
        one.send(raw.parse("", long("SELECT 'this'")), raw.sync())
        assert not errors(one.until("Z"))
        for client in (other, one):
            client.send(raw.bind(), raw.execute(), raw.sync())
            assert errors(client.until("Z")) == ["26000"]


def test_i3_one_that_fails_has_taken_the_place_of_the_one_before(primary, pooler):
    for server in (primary, pooler):
        with log_in(server) as client:
            client.send(*batch("", "SELECT 'before'"))
            rows(client.until("Z"))
            client.send(*batch("", long("SELEKT")))
            assert errors(client.until("Z")) == ["42601"]
            client.send(raw.bind(), raw.execute(), raw.sync())
            assert errors(client.until("Z")) == ["26000"]


def test_i2_one_that_was_closed_is_gone(primary, pooler):
    for server in (primary, pooler):
        with log_in(server) as client:
            client.query("BEGIN")
            client.send(raw.parse("", long("SELECT 'this'")), raw.sync())
            assert not errors(client.until("Z"))
            client.send(raw.close("S"), raw.bind(), raw.execute(), raw.sync())
            assert errors(client.until("Z")) == ["26000"]
            client.query("ROLLBACK")
            for _ in range(2):
                client.send(*batch("s", long("SELECT 'this'")))
                assert rows(client.until("Z")) == [("this",)]
                client.send(raw.close("S", "s"), raw.sync())
                assert [m.kind for m in client.until("Z")] == ["3", "Z"]
            client.send(raw.bind("", "s"), raw.execute(), raw.sync())
            assert errors(client.until("Z")) == ["26000"]


def test_i2_a_named_one_stays_with_its_session_and_goes_with_it(pooler):
    with log_in(pooler) as other:
        with log_in(pooler) as one:
            one.send(*batch("s", long("SELECT 'this'")))
            assert rows(one.until("Z")) == [("this",)]
            one.send(raw.bind("", "s"), raw.execute(), raw.sync())
            assert rows(one.until("Z")) == [("this",)]
        wait_until(lambda: pid_of(other) > 0, 30)
        other.send(raw.bind("", "s"), raw.execute(), raw.sync())
        assert errors(other.until("Z")) == ["26000"]
