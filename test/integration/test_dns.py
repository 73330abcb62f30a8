# SPDX-License-Identifier: ISC
#
# test_dns.py - nodes whose names are looked up: by the name servers of resolv_conf, again and again.
#
# The system's resolver is test_resolve.c's.
"""The servers of these tests listen at 127.0.0.1; nobody does at 127.0.0.2 and .3."""
import itertools
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic as clock

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from name_server import NameServer
from rig import log_in, shop
from rough_road import RoughRoad
from tenancy import tenants
from waiting import wait_until

HERE, NOWHERE, ELSEWHERE = "127.0.0.1", "127.0.0.2", "127.0.0.4"
HOUR = 3600


@pytest.fixture
def names():
    try:
        server = NameServer()
    except PermissionError:
        pytest.skip("only root may listen at port 53")
    with server:
        yield server


@pytest.fixture
def pooler(primary, turnstile, names, tmp_path):
    """Of a primary at db.test."""
    def start(settings=None):
        return turnstile(shop(primary, {"resolv_conf": names.resolv_conf(tmp_path),
                                        "server_login_retry": "100ms",
                                        **(settings or {})}, {"host": "db.test"}))
    return start


def ask(t, timeout=10.0):
    with log_in(t, timeout=timeout) as client:
        return client.rows("SELECT 2 + 2")[0][0]


def reconnect(t):
    """The next statement needs a new connection to a server."""
    t.admin(f"RECONNECT {APP_DATABASE}")
    wait_until(lambda: not t.admin("SHOW SERVERS"))


def test_the_name_servers_of_resolv_conf_are_asked(pooler, names):
    names.addresses["db.test"] = [HERE], HOUR
    assert ask(pooler()) == "4"
    assert set(names.asked) == {"db.test"}


def test_an_address_is_kept_while_it_holds(pooler, names):
    names.addresses["db.test"] = [HERE], HOUR
    t = pooler({"dns_max_ttl": "1h"})
    assert ask(t) == "4"
    asked = len(names.asked)
    for _ in range(3):
        reconnect(t)
        assert ask(t) == "4"
    assert len(names.asked) == asked


def asked_while_it_is(wrong, names, t):
    """ask(), begun while db.test is `wrong` (None: unknown) and answered once it is right."""
    right = names.addresses.pop("db.test")
    if wrong:
        names.addresses["db.test"] = wrong
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, t, 30)
        wait_until(lambda: names.asked)
        names.addresses["db.test"] = right
        return answer.result()


@pytest.mark.parametrize("ttl, settings", [(1, {"dns_max_ttl": "1h"}), (HOUR, {"dns_max_ttl": "1s"})],
                         ids=["ttl_of_the_record", "dns_max_ttl"])
def test_a_name_that_moves_is_followed(pooler, names, ttl, settings):
    names.addresses["db.test"] = [HERE], ttl
    assert asked_while_it_is(([NOWHERE], ttl), names, pooler(settings)) == "4"


@pytest.fixture
def road(primary):
    """A way to the same server, at the same port of another address."""
    listener = socket.create_server((ELSEWHERE, primary.port), backlog=16)
    road = RoughRoad(primary, listener=listener)
    yield road
    road.remove()


@pytest.fixture
def elsewhere(road):
    return ELSEWHERE


def servers(t):
    return {row["addr"] for row in t.admin("SHOW SERVERS") if row["database"] == APP_DATABASE}


SWIFT = {"dns_max_ttl": "1s", "monitor_user": APP_USER}


def test_i4_servers_are_left_where_a_name_does_not_lead_any_more(pooler, names, elsewhere):
    """Idle ones at once, one with a transaction behind that; the monitor's and that of LISTEN, too."""
    names.addresses["db.test"] = [HERE], 1
    t = pooler(SWIFT)
    with log_in(t) as busy, log_in(t) as listens, log_in(t) as idle:
        listens.query("LISTEN moved")
        idle.query("SELECT 1")
        busy.query("BEGIN")
        busy.query("SET LOCAL search_path = pg_temp")
        assert servers(t) == {HERE}
        names.addresses["db.test"] = [elsewhere], 1
        wait_until(lambda: len([row for row in t.admin("SHOW SERVERS") if row["addr"] == HERE]) == 1)
        t.wait_log("node db.test:[0-9]+ is another address now")
        t.wait_log("the primary's name is another address now")
        assert busy.rows("SHOW search_path") == [("pg_temp",)]
        busy.query("COMMIT")
        wait_until(lambda: HERE not in servers(t))
        assert busy.rows("SELECT 2 + 2") == [("4",)]
        listens.until_closed()  # listen_lost
        assert servers(t) == {elsewhere}


def test_i4_servers_are_left_while_others_log_in(pooler, names, road):
    """A login to the new address that hangs says nothing of those at the old one."""
    names.addresses["db.test"] = [HERE], 1
    t = pooler({"dns_max_ttl": "3s", "server_connect_timeout": "10min"})
    with log_in(t) as busy, log_in(t) as waits:
        busy.query("BEGIN; SELECT 1")
        road.swallow(True)
        names.addresses["db.test"] = [ELSEWHERE], 1
        asked = len(names.asked)
        wait_until(lambda: len(names.asked) >= asked + 2)
        waits.send(raw.query("SELECT 2 + 2"))
        wait_until(lambda: ELSEWHERE in servers(t))
        busy.query("COMMIT")
        wait_until(lambda: HERE not in servers(t))


def test_i4_a_server_that_comes_from_where_a_name_does_not_lead_any_more(pooler, names, elsewhere):
    """The process of before still believes that it does."""
    names.addresses["db.test"] = [HERE], HOUR
    t = pooler({"dns_max_ttl": "1h"})
    with log_in(t) as busy, log_in(t) as idle:
        busy.query("BEGIN; SELECT 1")
        names.addresses["db.test"] = [elsewhere], HOUR
        before = t.take_over()
        idle.query("SELECT 1")
        wait_until(lambda: servers(t) == {elsewhere})
        swept = clock() + 1
        wait_until(lambda: clock() > swept)
        busy.query("COMMIT")
        assert before.wait(30) == 0
        wait_until(lambda: HERE not in servers(t))
        assert busy.rows("SELECT 2 + 2") == [("4",)]
        assert servers(t) == {elsewhere}


def test_a_name_that_tells_one_of_many_each_time_keeps_its_servers(pooler, names, elsewhere):
    names.addresses["db.test"] = [HERE], 1
    t = pooler({"dns_max_ttl": "1h"})
    with log_in(t) as client:
        pid = client.rows("SELECT pg_backend_pid()")
        for address in [elsewhere, HERE] * 2:
            asked = len(names.asked)
            names.addresses["db.test"] = [address], 1
            wait_until(lambda: len(names.asked) >= asked + 2)
        assert client.rows("SELECT pg_backend_pid()") == pid


def test_i7_a_cancel_goes_where_its_server_is(pooler, names):
    """Not where the name leads by then."""
    names.addresses["db.test"] = [HERE], HOUR
    t = pooler({"dns_max_ttl": "0"})
    with log_in(t) as client:
        names.addresses["db.test"] = [NOWHERE], HOUR
        client.send(raw.query("SELECT pg_sleep(600)"))
        wait_until(lambda: [row for row in t.admin("SHOW SERVERS") if row["state"] == "active"])
        client.cancel()
        assert raw.find(client.until("Z"), "E")[0].fields["C"] == "57014"


def test_each_address_of_a_name_is_tried(pooler, names):
    names.addresses["db.test"] = [NOWHERE, "127.0.0.3", HERE], HOUR
    t = pooler()
    for _ in range(4):
        assert ask(t) == "4"
        reconnect(t)


def test_a_name_that_nobody_knows_is_looked_up_again(pooler, names):
    names.addresses["db.test"] = [HERE], HOUR
    t = pooler({"dns_nxdomain_ttl": "1s"})
    assert asked_while_it_is(None, names, t) == "4"
    # "… Domain name not found", or "… no data" where it came to be known between the questions for its two kinds
    # of addresses.
    t.wait_log('cannot find host "db.test"')


def test_name_servers_that_are_silent_hold_up_nobody_else(pooler, names):
    names.is_silent = True
    t = pooler({"query_wait_timeout": "1s"})
    with pytest.raises((raw.LoginRefused, AssertionError), match="query_wait_timeout"):
        ask(t, 30)
    assert names.asked and t.admin("SHOW VERSION")
    t.stop()


def test_a_resolv_conf_that_is_missing_is_told(pooler, names, tmp_path):
    t = pooler({"resolv_conf": tmp_path / "nothing", "query_wait_timeout": "1s"})
    with pytest.raises(raw.LoginRefused):
        ask(t, 30)
    t.wait_log('cannot find host "db.test": resolv_conf .*/nothing: No such file or directory')
    assert not names.asked


ASKER, USER = "dns_asker", "dns_user"


@pytest.mark.slow
def test_secrets_are_not_asked_for_where_a_name_does_not_lead_any_more(primary, turnstile, names, elsewhere,
                                                                       tmp_path):
    """However often they are asked for: what is changed on the new primary has to be seen."""
    def connection():
        log_in(t, USER, USER).close()
        return primary.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{ASKER}'")

    names.addresses["db.test"] = [HERE], 1
    primary.role(ASKER, ASKER, "SUPERUSER LOGIN")
    primary.role(USER, USER)
    try:
        t = turnstile(shop(primary, {"resolv_conf": names.resolv_conf(tmp_path), "dns_max_ttl": "1s",
                                     "auth_user": ASKER, "auth_query_ttl": 0}, {"host": "db.test"}),
                      {ASKER: ASKER})
        first = connection()
        names.addresses["db.test"] = [elsewhere], 1
        wait_until(lambda: connection() != first, 20)
    finally:
        primary.sql(f"DROP ROLE {ASKER}, {USER}")


@pytest.mark.slow
def test_i3_nobody_is_refused_while_secrets_are_asked_for_where_a_name_leads_now(primary, turnstile, names, elsewhere,
                                                                                tmp_path):
    """Though there is always somebody who waits to be looked up."""
    def asked():
        return {row["addr"] for row in t.admin("SHOW SERVERS") if row["user"] == ASKER}

    def keep_coming(stranger):
        told = set()
        while not is_over.is_set():
            with pytest.raises(raw.LoginRefused) as refused:
                log_in(t, stranger, "x", timeout=30).close()
            told.add(refused.value.fields["C"])
        return told

    names.addresses["db.test"] = [HERE], 1
    primary.role(ASKER, ASKER, "SUPERUSER LOGIN")
    is_over = threading.Event()
    try:
        t = turnstile(shop(primary, {"resolv_conf": names.resolv_conf(tmp_path), "dns_max_ttl": "1s",
                                     "auth_user": ASKER, "auth_query_ttl": 0,
                                     "auth_query": "SELECT $1::text, pg_sleep(0.2)::text"}, {"host": "db.test"}),
                      {ASKER: ASKER})
        with ThreadPoolExecutor() as pool:
            comers = [pool.submit(keep_coming, f"dns_stranger{number}") for number in range(4)]
            try:
                wait_until(lambda: asked() == {HERE})
                names.addresses["db.test"] = [elsewhere], 1
                wait_until(lambda: asked() == {elsewhere}, 20)
            finally:
                is_over.set()
        assert set().union(*(comer.result() for comer in comers)) == {"28P01"}
    finally:
        primary.sql(f"DROP ROLE {ASKER}")


def test_i3_nobody_is_refused_while_tenants_are_looked_up_where_a_name_leads_now(primary, turnstile, names, elsewhere,
                                                                                tmp_path):
    """The server there is well, and so is the one before."""
    def connection():
        return primary.sql(f"SELECT pid FROM pg_stat_activity WHERE usename = '{ASKER}' AND query ~ 'umbrella'")

    def refusal(tenant):
        with pytest.raises(raw.LoginRefused) as refused:
            log_in(t, f"{APP_USER}.{tenant}").close()
        return refused.value.fields["C"]

    names.addresses["db.test"] = [HERE], 1
    primary.role(ASKER, ASKER, "SUPERUSER LOGIN")
    try:
        t = turnstile(tenants(primary, {"resolv_conf": names.resolv_conf(tmp_path), "dns_max_ttl": "1s",
                                        "tenant_query": "SELECT 'umbrella' AS tenant, '77' AS business_id",
                                        "monitor_user": ASKER, "monitor_password": ASKER},
                              changes={"databases": {APP_DATABASE: {"host": "db.test", "port": primary.port}}}))
        first = wait_until(connection)
        told = set()
        names.addresses["db.test"] = [elsewhere], 1
        numbers = itertools.count()
        wait_until(lambda: told.add(refusal(f"nobody{next(numbers)}")) or connection() not in ([], first), 20)
        assert told == {"28000"}
    finally:
        primary.sql(f"DROP ROLE {ASKER}")
