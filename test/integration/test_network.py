# SPDX-License-Identifier: ISC
#
# test_network.py - packets that are lost, late or refused, and machines that are gone without a word.
#
# Over a cable to a network namespace (network.py): the kernel's own retransmissions, probes and timeouts.
# Needs root, ip, tc and nft, and is skipped without them.
import time

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from network import Cable, unavailable
from rig import log_in, shop, sqlstate
from rough_road import RoughRoad
from test_failpoints import play
from waiting import wait_until

REASON = unavailable()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"no network of its own: {REASON}")

# Seconds and milliseconds until the kernel gives a peer up.
QUICK = {"tcp_keepidle": 1, "tcp_keepintvl": 1, "tcp_keepcnt": 2, "tcp_user_timeout": 2000,
         "server_connect_timeout": 1, "server_login_retry": "200ms"}
GIVEN_UP = 10  # more than any of them


@pytest.fixture(scope="module")
def cable():
    made = Cable()
    yield made
    made.remove()


@pytest.fixture
def road(cable, primary):
    """To the primary, by way of the far end."""
    made = RoughRoad(primary, listener=cable.listen())
    yield made
    made.remove()
    # Those whose other end has gone do not know it yet.
    primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [APP_USER])


@pytest.fixture
def pooler(road, turnstile):
    """Its server is at the far end."""
    return turnstile(shop(road, {"default_pool_size": 1, **QUICK}))


def seconds_until(function):
    began = time.monotonic()
    result = function()
    return time.monotonic() - began, result


def is_served(pooler):
    with log_in(pooler, timeout=30) as client:
        return client.rows("SELECT 2") == [("2",)]


@pytest.mark.parametrize("how", [("lose", 10), ("narrow", "20mbit"), ("delay", "20ms", "10ms")],
                         ids=lambda how: how[0])
def test_i3_nobody_sees_packets_that_are_lost_or_late(cable, pooler, how):
    with log_in(pooler, timeout=60) as client, cable.bad(*how) as done:
        if done is False:
            pytest.skip("the kernel has no netem")
        play(client)
        assert how[0] != "lose" or cable.lost() > 0
    assert is_served(pooler)


@pytest.mark.parametrize("text", ["SELECT 2", "SELECT pg_sleep(60)"], ids=["unheard", "unanswered"])
def test_i3_who_asks_a_server_that_has_gone_is_told(cable, pooler, text):
    """Whether the question did not get there any more, or the answer does not come."""
    with log_in(pooler, timeout=60) as client:
        assert client.rows("SELECT 2") == [("2",)]
        if text != "SELECT 2":
            client.send(raw.query(text))
            wait_until(lambda: [row for row in pooler.admin("SHOW SERVERS") if row["state"] == "active"])
        with cable.bad("cut"):
            if text == "SELECT 2":
                client.send(raw.query(text))
            seconds, answer = seconds_until(lambda: client.until("E"))
            assert sqlstate(answer)[:2] in ("08", "57") and seconds < GIVEN_UP
    assert is_served(pooler)


def test_i3_a_server_that_cannot_be_reached_is_waited_for(cable, pooler):
    with log_in(pooler, timeout=60) as client:
        assert client.rows("SELECT 2") == [("2",)]
        with cable.bad("cut"):
            pooler.admin("RECONNECT")
            client.send(raw.query("SELECT 3"))
            pooler.wait_log("server_connect_timeout")
        assert raw.find(client.until("Z"), "D")[0].row == ("3",)


def test_i3_a_connection_that_is_reset_on_its_way_is_told(cable, pooler):
    with log_in(pooler, timeout=60) as client:
        client.send(raw.query("SELECT pg_sleep(60)"))
        wait_until(lambda: [row for row in pooler.admin("SHOW SERVERS") if row["state"] == "active"])
        with cable.bad("refuse"):
            # Only what passes is refused: a probe, at the latest.
            seconds, answer = seconds_until(lambda: client.until("E"))
            assert sqlstate(answer)[:2] in ("08", "57") and seconds < GIVEN_UP
    assert is_served(pooler)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_i2_what_a_client_has_that_is_gone_without_a_word_is_free_again(cable, primary, turnstile, mode):
    """Its machine has lost its power: its transaction is rolled back, and its server is another's."""
    t = turnstile(shop(primary, {"default_pool_size": 1, "pool_mode": mode, **QUICK,
                                 "listen_addr": f"127.0.0.1,{cable.near}"}))

    def come():
        return raw.RawClient(t.port, cable.near).login(APP_USER, APP_DATABASE, APP_PASSWORD)

    gone = cable.inside(come)
    gone.query("BEGIN")
    gone.query("SET LOCAL my.own = 'secret'")
    assert gone.rows("SELECT 2") == [("2",)]
    with cable.bad("cut"), log_in(t, timeout=60) as client:
        seconds, rows = seconds_until(lambda: client.rows("SELECT current_setting('my.own', true) = 'secret'"))
        assert rows in ([(None,)], [("f",)]) and seconds < GIVEN_UP
        assert [row["addr"] for row in t.admin("SHOW CLIENTS") if row["user"] == APP_USER] == ["127.0.0.1"]
    gone.close()
