# SPDX-License-Identifier: ISC
#
# test_handover.py - server connections that nobody uses, in a takeover.
#
# Knows them by the pids of the server's processes; how they go over it does not.
"""A takeover costs the server no logins, and nothing of a session comes along (ADR 41)."""
import contextlib
import os
import socket
import struct

import pytest

import raw
from conftest import APP_DATABASE, APP_USER
from rig import backends, clients, log_in, pid_of, pool_of, shop, sqlstate, wait_backends
from test_tls import certificates, connect, secured  # noqa: F401 - one is a fixture
from test_understudy import later, successor_of  # noqa: F401 - one is a fixture
from understudy import Successor
from waiting import wait_until

TAKES_SERVERS = 2  # READY_TAKES_SERVERS


def at_once(those, sql="SELECT pg_backend_pid()"):
    """What each of the clients gets while the others have a server, too."""
    for client in those:
        client.query("BEGIN")
    answers = [client.rows(sql)[0][0] for client in those]
    for client in those:
        client.query("COMMIT")
    return answers


def pids_at_once(those):
    return sorted(map(int, at_once(those)))


def settled(pooler, count):
    """Return once the pool has so many servers and none of them is under way."""
    wait_until(lambda: pool_of(pooler, "sv_idle") == count and pool_of(pooler, "sv_login") == 0, 30,
               lambda: f"{pooler.admin('SHOW POOLS')}\n{pooler.log_text()}")


@pytest.mark.tsan
@pytest.mark.parametrize("workers", [1, 3])
def test_servers_that_nobody_uses_go_over(turnstile, primary, workers):
    pooler = turnstile(shop(primary, {"default_pool_size": 3, "workers": workers,
                                      "pool_workers": workers}))
    with clients(pooler, 3) as three:
        pids = pids_at_once(three)
        for _ in range(3):
            before = pooler.take_over()
            assert before.wait(30) == 0
            assert backends(primary) == pids
            settled(pooler, 3)
        assert set(pids_at_once(three)) <= set(pids)
        assert backends(primary) == pids
    with log_in(pooler) as late:  # who is told what servers report, by one that is no new login
        assert late.parameters["server_version"] and pid_of(late) in pids


@pytest.mark.tsan
def test_a_server_in_use_goes_over_when_its_transaction_has_ended(turnstile, primary):
    pooler = turnstile(shop(primary))
    with clients(pooler, 2) as both:
        for client in both:
            client.query("BEGIN")
        pids = [pid_of(client) for client in both]
        before = pooler.take_over()
        for client in both:
            client.query("COMMIT")
        assert before.wait(30) == 0
        assert backends(primary) == sorted(pids)
        assert pids_at_once(both) == sorted(pids)


def test_i2_nothing_of_a_session_comes_along(turnstile, primary):
    """The same names of statements are given again there, and what was set is not."""
    pooler = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(pooler) as one, log_in(pooler) as other:
        default = other.rows("SHOW work_mem")
        one.query("SET work_mem = '777kB'")
        assert one.prepared("SELECT 1 + $1::int", ["2"], name="sum") is not None
        other.prepared("SELECT 10 + $1::int", ["2"], name="sum")
        one.rows("SELECT set_config('my.own', 'x', false)")
        pid = pid_of(one)
        assert pooler.take_over().wait(30) == 0
        assert other.rows("SELECT current_setting('my.own', true)") in ([(None,)], [("",)])
        assert other.rows("SHOW work_mem") == default and pid_of(other) == pid
        assert one.rows("SHOW work_mem") == [("777kB",)]
        for client, expected in (other, "15"), (one, "6"):
            client.send(raw.bind("", "sum", ["5"]), raw.execute(), raw.sync())
            assert raw.find(client.until("Z"), "D")[0].row == (expected,)
        with log_in(pooler) as fresh:
            fresh.prepared("SELECT 100 + $1::int", ["2"], name="sum")
            assert fresh.rows("SHOW work_mem") == default and pid_of(fresh) == pid


def own_pools(primary, **business_ids):
    return {**shop(primary, {"tenant_by": "user_suffix"}, {"tenant_pool": "dedicated"}),
            "tiers": {"basic": "statement_timeout=20s"},
            "tenants": {name: f"tier=basic business_id={number}"
                        for name, number in business_ids.items()}}


OWN = "SELECT current_setting('app.current_business_id') || ' ' || pg_backend_pid()"


def test_i1_a_tenant_s_server_is_its_own_in_the_other_process(turnstile, primary):
    pooler = turnstile(own_pools(primary, acme=42, globex=7))
    users = f"{APP_USER}.acme", f"{APP_USER}.globex"
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(log_in(pooler, user=user)) for user in users]
        said = [client.rows(OWN) for client in both]
        assert pooler.take_over().wait(30) == 0
        assert [client.rows(OWN) for client in both] == said
        assert [client.rows("SHOW statement_timeout") for client in both] == [[("20s",)]] * 2
    # The other's id: what was connected with the one of before is nobody's.
    old = backends(primary)
    pooler.config["tenants"] = own_pools(primary, acme=7, globex=42)["tenants"]
    assert pooler.take_over().wait(30) == 0
    wait_backends(primary, 0)
    for user, number in zip(users, "7 42".split()):
        with log_in(pooler, user=user) as client:
            assert client.rows(OWN)[0][0].split()[0] == number
            assert pid_of(client) not in old


@pytest.mark.parametrize("change", [
    {"databases": {APP_DATABASE: {"application_name": "another"}}},
    {"databases": {APP_DATABASE: {"timezone": "Asia/Tokyo"}}},
    {"databases": {APP_DATABASE: {"host": "localhost"}}},
    {"pgturnstile": {"server_tls_sslmode": "prefer"}},
    {"pgturnstile": {"tenant_by": "user"}, "tiers": {"basic": ""},
     "tenants": {"acme": f"tier=basic business_id=42 user={APP_USER}"}},
], ids=["application_name", "timezone", "host", "sslmode", "tenants"])
def test_what_begins_otherwise_there_is_told_goodbye(turnstile, primary, change):
    pooler = turnstile(shop(primary))
    with clients(pooler, 2) as both:
        pids = pids_at_once(both)
    database = {**pooler.config["databases"][APP_DATABASE],
                **change.get("databases", {}).get(APP_DATABASE, {})}
    before = pooler.take_over({**change, "databases": {APP_DATABASE: database}})
    assert before.wait(30) == 0
    wait_until(lambda: not set(backends(primary)) & set(pids))
    with log_in(pooler) as client:
        assert pid_of(client) not in pids


def test_i5_no_more_go_over_than_there_is_room_for(turnstile, primary):
    pooler = turnstile(shop(primary, {"default_pool_size": 4}))
    with clients(pooler, 4) as four:
        pids = pids_at_once(four)
        assert pooler.take_over({"pgturnstile": {"default_pool_size": 2}}).wait(30) == 0
        wait_backends(primary, 2)
        assert set(backends(primary)) < set(pids)
        assert {int(client.rows("SELECT pg_backend_pid()")[0][0]) for client in four} <= set(pids)


def test_who_stays_keeps_a_server(turnstile, primary, certificates):
    """One over TLS asks now and then, for an hour: no login for each time."""
    pooler = turnstile(shop(primary, {**secured(certificates, "allow"), "default_pool_size": 3}))
    with clients(pooler, 2) as moving, connect(pooler, sslmode="require", autocommit=True) as stays:
        with stays.transaction():
            stays.execute("SELECT 2")
            pids = sorted([*pids_at_once(moving), stays.info.backend_pid])
        pids = backends(primary)
        assert len(pids) == 3
        before = pooler.take_over()
        settled(pooler, 2)
        assert backends(primary) == pids
        for _ in range(5):
            assert stays.execute("SELECT pg_backend_pid()").fetchone()[0] in pids
        assert set(pids_at_once(moving)) < set(pids)
        assert backends(primary) == pids
    assert before.wait(30) == 0
    assert set(backends(primary)) <= set(pids)  # the last one has gone over, or ended with its process


@pytest.mark.tsan
def test_i7_a_cancel_stops_what_runs_on_one_that_has_come(turnstile, primary):
    pooler = turnstile(shop(primary, {"default_pool_size": 1}))
    with log_in(pooler) as client:
        pid = pid_of(client)
        assert pooler.take_over().wait(30) == 0
        client.send(raw.query("SELECT pg_sleep(60)"))
        wait_backends(primary, 1, f"pid = {pid} AND wait_event = 'PgSleep'")
        client.cancel()
        assert sqlstate(client.until("Z")) == "57014"
        assert pid_of(client) == pid


def test_its_age_goes_along(turnstile, primary):
    pooler = turnstile(shop(primary, {"default_pool_size": 1}))

    def connected():
        return [row["connect_time"] for row in pooler.admin("SHOW SERVERS")
                if row["user"] == APP_USER]

    with log_in(pooler) as client:
        pid = pid_of(client)
        at = connected()
        assert pooler.take_over().wait(30) == 0
        settled(pooler, 1)
        assert connected() == at and pid_of(client) == pid
        # Too old by what is set there, it is closed instead.
        wait_until(lambda: primary.sql(f"""SELECT clock_timestamp() - backend_start > '2 s'
                                           FROM pg_stat_activity WHERE pid = {pid}""") == [(True,)])
        before = pooler.take_over({"pgturnstile": {"server_lifetime": "2s"}})
        assert before.wait(30) == 0
        assert pid_of(client) != pid


def test_i1_a_default_timeout_of_another_database_is_not_believed(turnstile, primary):
    """What has come from there is not used, and says nothing of whether the tier's has to be asked for."""
    primary.sql(f"ALTER DATABASE {APP_DATABASE} SET statement_timeout = '3s'")
    primary.sql(f"CREATE DATABASE another OWNER {APP_USER}")
    try:
        pooler = turnstile(own_pools(primary, acme=42))
        with log_in(pooler, user=f"{APP_USER}.acme") as client:
            assert client.rows("SHOW statement_timeout") == [("3s",)]
            database = {**pooler.config["databases"][APP_DATABASE], "dbname": "another"}
            assert pooler.take_over({"databases": {APP_DATABASE: database}}).wait(30) == 0
            assert client.rows("SELECT current_database()") == [("another",)]
            assert client.rows("SHOW statement_timeout") == [("20s",)]
    finally:
        primary.sql(f"ALTER DATABASE {APP_DATABASE} RESET statement_timeout")
        primary.sql("DROP DATABASE another WITH (FORCE)")


def test_another_unix_socket_dir_is_another_server(turnstile, primary, tmp_path):
    scene = shop(primary, {"takeover_socket": tmp_path / "takeover"})
    del scene["databases"][APP_DATABASE]["host"]
    for name in "one", "two":
        (tmp_path / name).mkdir()
        there = f".s.PGSQL.{primary.port}"
        (tmp_path / name / there).symlink_to(os.path.join(primary.dir, there))
    scene["pgturnstile"]["unix_socket_dir"] = tmp_path / "one"
    pooler = turnstile(scene)
    with log_in(pooler) as client:
        pid = pid_of(client)
        assert pooler.take_over().wait(30) == 0
        assert pid_of(client) == pid
        assert pooler.take_over({"pgturnstile": {"unix_socket_dir": tmp_path / "two"}}).wait(30) == 0
        assert pid_of(client) != pid


def test_who_stays_keeps_a_server_while_others_are_busy(turnstile, primary, certificates):
    """One in a transaction leaves none behind: it is not what the other has next."""
    pooler = turnstile(shop(primary, {**secured(certificates, "allow"), "default_pool_size": 3}))
    with log_in(pooler) as busy, connect(pooler, sslmode="require", autocommit=True) as stays:
        busy.query("BEGIN")
        pid_of(busy)
        before = pooler.take_over()
        pid = stays.execute("SELECT pg_backend_pid()").fetchone()[0]
        for _ in range(3):
            idle = f"pid = {pid} AND state_change < clock_timestamp() - interval '300 ms'"
            wait_backends(primary, 1, idle)
            assert stays.execute("SELECT pg_backend_pid()").fetchone()[0] == pid
        busy.query("COMMIT")
    assert before.wait(30) == 0


def test_what_a_transaction_still_has_closes_no_other(turnstile, primary, certificates):
    """Idle ones go over while somebody who will move has one, and nobody logs in for them."""
    pooler = turnstile(shop(primary, {**secured(certificates, "allow"), "default_pool_size": 5}))
    with log_in(pooler) as busy, connect(pooler, sslmode="require", autocommit=True) as stays:
        with clients(pooler, 5) as five:
            pids_at_once(five)
        stays.execute("SELECT 1")
        busy.query("BEGIN")
        pid_of(busy)
        pids = backends(primary)
        assert len(pids) == 5
        before = pooler.take_over()
        settled(pooler, 3)
        busy.query("COMMIT")
        settled(pooler, 4)
        assert backends(primary) == pids
    assert before.wait(30) == 0


def test_what_reconnect_has_replaced_does_not_come_any_more(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as busy:
        busy.query("BEGIN")
        pid = pid_of(busy)
        before = pooler.take_over()
        pooler.admin("RECONNECT")
        busy.query("COMMIT")
        assert before.wait(30) == 0
        assert pid_of(busy) != pid
        wait_backends(primary, 0, f"pid = {pid}")


def test_what_began_with_other_defaults_does_not_come_any_more(turnstile, primary):
    """The process of before has not seen them change."""
    pooler = turnstile(shop(primary))
    with log_in(pooler) as busy, log_in(pooler) as other:
        busy.query("BEGIN")
        pid = pid_of(busy)
        before = pooler.take_over()
        try:
            other.query(f"ALTER ROLE {APP_USER} SET work_mem = '777kB'")
            assert other.rows("SHOW work_mem") == [("777kB",)]
            busy.query("COMMIT")
            assert before.wait(30) == 0
            assert busy.rows("SHOW work_mem") == [("777kB",)]
            wait_backends(primary, 0, f"pid = {pid}")
        finally:
            primary.sql(f"ALTER ROLE {APP_USER} RESET work_mem")


# --- the other process is another version, or hostile ---------------------------------------------
def test_one_that_does_not_know_of_servers_gets_none(turnstile, primary):
    pooler = turnstile(shop(primary))
    with clients(pooler, 2) as both:
        pids = pids_at_once(both)
        with Successor(pooler) as successor:
            successor.hello()
            successor.ready(b"\x01")
            assert {successor.hear()[0] for _ in range(4)} <= {b"G", b"Q", b"E"}
            wait_until(lambda: not set(backends(primary)) & set(pids))


@contextlib.contextmanager
def taken_from(pooler):
    """What a process gives to who takes over from it: a passport and a socket; and the server's pid."""
    with log_in(pooler) as client, Successor(pooler) as successor:
        pid = pid_of(client)
        successor.hello()
        successor.ready(bytes([1 | TAKES_SERVERS]))
        _, passport, fd = successor.hear(b"V")
        yield passport, fd, pid


def test_what_goes_has_logged_in_and_is_at_rest(turnstile, primary):
    pooler = turnstile(shop(primary, {"default_pool_size": 1}))
    with taken_from(pooler) as (passport, fd, pid):
        assert APP_USER.encode() in passport and struct.pack("!Q", pid) in passport
        with socket.socket(fileno=os.dup(fd)) as server:
            server.settimeout(10)
            server.sendall(raw.query("SELECT pg_backend_pid()"))
            said = b""
            while not said.endswith(b"Z\0\0\0\5I"):
                said += server.recv(1000)
            assert str(pid).encode() in said


def hang_up(server):
    server.close()


def asked(server):
    """It has been asked to forget."""
    said = b""
    while not said.endswith(b"DISCARD ALL\0"):
        said += server.recv(1000)


def refuse(server):
    asked(server)
    fields = b"SERROR\0C25001\0Mnot now\0\0"
    server.sendall(b"E" + struct.pack("!I", 4 + len(fields)) + fields + b"Z\0\0\0\5I")


def stay_in_transaction(server):
    asked(server)
    server.sendall(b"C\0\0\0\x10DISCARD ALL\0Z\0\0\0\5T")


def babble(server):
    server.sendall(b"\0" * 100)


def say_nothing(server):
    asked(server)


@pytest.mark.parametrize("behave", [hang_up, refuse, stay_in_transaction, babble, say_nothing])
def test_i3_a_server_that_is_gone_or_mad_is_replaced_at_once(turnstile, primary, later, behave):
    """What becomes of it says nothing of those that would be connected now: nobody waits for that."""
    later.config["pgturnstile"] |= {"server_login_retry": "1h", "server_connect_timeout": "1s"}
    later.write()
    pooler = turnstile(shop(primary))
    with taken_from(pooler) as (passport, _, pid):
        ours, theirs = socket.socketpair()
        with ours, successor_of(later) as player:
            ours.settimeout(10)
            player.say(b"V", passport, [theirs.fileno()])
            theirs.close()
            behave(ours)
            with log_in(later) as client:
                assert pid_of(client) != pid
            if behave is not hang_up:
                while ours.recv(1000):
                    pass
    assert later.is_running() and not later.log_contains("cannot log in")


def put(passport, number, content):
    """The passport with another content of a field; None: without it."""
    made, at = [] if content is None else [(number, content)], 0
    while at < len(passport):
        has, size = struct.unpack_from("!BI", passport, at)
        was, at = passport[at + 5:at + 5 + size], at + 5 + size
        if has != number:
            made.append((has, was))
    return b"".join(struct.pack("!BI", has, len(what)) + what for has, what in made)


@pytest.mark.parametrize("number, content", [
    (1, None), (1, b"no_such\0"), (2, b"other\0"), (3, b"acme\0"), (5, b"no_such\0"), (6, b"192.0.2.1\0"),
    (7, struct.pack("!Q", 1)), (8, struct.pack("!Q", 5)), (9, struct.pack("!Q", 1)), (10, struct.pack("!Q", 1)),
    (14, None), (14, b"x" * 1000), (15, b"odd\0"), (2, b"cut"),
], ids=lambda value: value if isinstance(value, int) else "")
def test_what_is_not_as_it_would_be_here_is_told_goodbye(turnstile, primary, later, number, content):
    pooler = turnstile(shop(primary))
    with taken_from(pooler) as (passport, _, _):
        ours, theirs = socket.socketpair()
        with ours, successor_of(later) as player:
            ours.settimeout(10)
            player.say(b"V", put(passport, number, content), [theirs.fileno()])
            theirs.close()
            assert ours.recv(1000) == b"X\0\0\0\4"
            assert ours.recv(1000) == b""
            player.say(b"V", b"")
            player.say(b"V", passport)
            with log_in(later) as client:
                assert client.rows("SELECT 2") == [("2",)]
    assert later.is_running()
