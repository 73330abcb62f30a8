# SPDX-License-Identifier: ISC
#
# test_peers.py - several processes behind one address: a cancel request finds its own (I7).
import contextlib
import random
import signal
import socket
import threading

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import listened_at
from rig import backends, log_in, shop, sqlstate, wait_backends
from turnstile import Turnstile
from waiting import wait_until

SLEEP = raw.query("SELECT pg_sleep(30)")
SLEEPS = "wait_event = 'PgSleep'"
FRESH = 3


@contextlib.contextmanager
def fleet(primary, by="unix", settings=None):
    """Two processes on one port; each can be reached by an address of its own besides."""
    with contextlib.ExitStack() as started:
        both = []
        for number in (1, 2):
            t = Turnstile(shop(primary, settings), {APP_USER: APP_PASSWORD})
            started.callback(t.remove)
            t.host = f"127.0.0.{number + 1}"
            both.append(t)
        port = both[0].port
        peers = {str(n): {"host": t.dir if by == "unix" else t.host, "port": port}
                 for n, t in enumerate(both, 1)}
        for number, t in enumerate(both, 1):
            t.port = port
            t.config["pgturnstile"].update(listen_addr=f"127.0.0.1, {t.host}", listen_port=port,
                                           so_reuseport=1, peer_id=number)
            t.config["peers"] = peers
            t.write()
            t.start()
            t.wait_log("is ready")
        yield both


def ask(t, pid, key, host=None):
    """A cancel request; returns when the other side has hung up, with what it said."""
    with raw.RawClient(t.port, host or t.host) as asker:
        asker.send(raw.cancel_request(pid, key))
        return asker.until_closed()


def peer_pool(t, peer_id):
    return next(row for row in t.admin("SHOW PEER_POOLS") if row["peer_id"] == peer_id)


def is_idle(t):
    return all(not value for row in t.admin("SHOW PEER_POOLS")
               for name, value in row.items() if name != "peer_id")


@pytest.mark.tsan
@pytest.mark.parametrize("by", ["unix", "tcp"])
@pytest.mark.parametrize("version", [(3, 0), (3, 2)])
def test_i7_a_cancel_through_the_other_process_hits_its_own_statement(primary, by, version):
    with fleet(primary, by) as (one, two):
        with log_in(one, version=version) as client, log_in(two, version=version) as other:
            for session in (client, other):
                session.send(SLEEP)
            wait_backends(primary, 2, SLEEPS)
            assert ask(two, client.pid, client.key) == []
            assert sqlstate(client.until("Z")) == "57014"
            assert client.rows("SELECT 2") == [("2",)]
            assert len(backends(primary, SLEEPS)) == 1
            assert ask(one, other.pid, other.key) == []
            assert sqlstate(other.until("Z")) == "57014"
        assert is_idle(one) and is_idle(two)


def test_libpq_cancels_on_a_shared_port(primary):
    """Whichever process the kernel gives the second connection to."""
    with fleet(primary) as (one, _):
        for _ in range(8):
            with psycopg.connect(host="127.0.0.1", port=one.port, dbname=APP_DATABASE,
                                 user=APP_USER, password=APP_PASSWORD) as connection:
                sleeper = threading.Thread(target=lambda c=connection: pytest.raises(
                    psycopg.errors.QueryCanceled, c.execute, "SELECT pg_sleep(30)"))
                sleeper.start()
                wait_backends(primary, 1, SLEEPS)
                connection.cancel()
                sleeper.join(20)
                assert not sleeper.is_alive()
                connection.rollback()


@pytest.mark.tsan
@pytest.mark.slow
def test_i7_storm_of_cancels_on_a_shared_port(primary):
    """Every statement that was cancelled was one whose client had asked."""
    failures, counts = [], {"asked": 0, "cancelled": 0}

    def client(one, seed):
        rng = random.Random(seed)
        with raw.RawClient(one.port, "127.0.0.1", 30) as c:
            c.login(APP_USER, APP_DATABASE, APP_PASSWORD)
            for _ in range(40):
                c.send(raw.query(f"SELECT {seed} FROM pg_sleep({rng.random() / 50})"))
                asked = rng.random() < 0.3
                if asked:
                    counts["asked"] += 1
                    c.cancel()
                messages = c.until("Z")
                state = sqlstate(messages)
                if state == "57014" and asked:
                    counts["cancelled"] += 1
                elif state or raw.find(messages, "D")[0].row != (str(seed),):
                    failures.append((seed, asked, messages))
                while asked and sqlstate(c.query("SELECT 2")) == "57014":
                    pass

    with fleet(primary, settings={"default_pool_size": 5}) as (one, two):
        threads = [threading.Thread(target=client, args=(one, i), daemon=True) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        assert not failures and counts["cancelled"] > 10, (failures[:3], counts)
        assert is_idle(one) and is_idle(two)


# --- a peer that is none of ours ----------------------------------------------------------------
def pid_of_peer(peer_id, rest=0x21000042):
    """As PgBouncer has it: the second byte, then the third."""
    return rest | (peer_id & 0xff) << 16 | (peer_id >> 8) << 8


def before(peers, **settings):
    """A process with these peers, and with no servers."""
    return {"pgturnstile": {"peer_id": 1, **settings}, "peers": peers,
            "databases": {APP_DATABASE: {"host": "127.0.0.1", "port": 1}}}


@pytest.mark.parametrize("key", [b"abc\xff", b"abc\x03", bytes(range(200, 228)) + b"\x07",
                                 b"x" * 255 + b"\x03"])
def test_i7_what_is_forwarded_says_so(turnstile, key):
    with raw.FakeServer() as peer:
        t = turnstile(before({"600": {"host": peer.host, "port": peer.port}},
                             server_tls_sslmode="disable"))
        pid = pid_of_peer(600)
        assert ask(t, pid, key) == []
        assert peer.cancels == [(pid, key[:-1] + bytes([key[-1] & ~FRESH]))]
        wait_until(lambda: is_idle(t))


def test_i7_what_was_forwarded_is_not_forwarded_again(turnstile):
    with raw.FakeServer() as peer:
        t = turnstile(before({"600": {"host": peer.host, "port": peer.port}}))
        for mark in (0, 1, 2):
            assert ask(t, pid_of_peer(600), b"abc" + bytes([mark])) == []
        # Nor what is of nobody, and what is our own.
        for peer_id in (601, 0, 1):
            assert ask(t, pid_of_peer(peer_id), b"abc\xff") == []
        assert peer.cancels == []


def test_without_a_number_nothing_is_forwarded(turnstile):
    with raw.FakeServer() as peer:
        t = turnstile(before({"600": {"host": peer.host, "port": peer.port}}, peer_id=0))
        assert ask(t, pid_of_peer(600), b"abc\xff") == []
        assert peer.cancels == []


class SilentPeer:
    """Takes requests and does not hang up before it is told to."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def take(self):
        self._listener.settimeout(10)
        sock, _ = self._listener.accept()
        sock.settimeout(10)
        assert len(sock.recv(100)) == 16
        return sock

    def has_more(self):
        self._listener.settimeout(0)
        try:
            self._listener.accept()
        except BlockingIOError:
            return False
        return True


def send_cancels(stack, t, count):
    askers = [stack.enter_context(raw.RawClient(t.port)) for _ in range(count)]
    for asker in askers:
        asker.send(raw.cancel_request(pid_of_peer(2), b"abc\xff"))
    return askers


def test_a_flood_to_a_peer_takes_no_more_connections_than_its_pool_has(turnstile):
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(SilentPeer())
        t = turnstile(before({"2": {"host": peer.host, "port": peer.port, "pool_size": 2}},
                             server_tls_sslmode="disable"))
        askers = send_cancels(stack, t, 10)
        taken = [peer.take(), peer.take()]
        wait_until(lambda: peer_pool(t, 2)["cl_waiting_cancel_req"] == 8)
        row = peer_pool(t, 2)
        assert row["cl_active_cancel_req"] == row["sv_active_cancel"] == 2 and row["sv_login"] == 0
        assert not peer.has_more()
        for _ in range(8):
            taken.pop(0).close()
            taken.append(peer.take())
        assert not peer.has_more()
        for sock in taken:
            sock.close()
        # Each is told, by the close, when its own has been taken.
        for asker in askers:
            assert asker.until_closed() == []
        wait_until(lambda: is_idle(t))


def test_a_connection_brings_one_request(turnstile):
    """Whatever else it says while that is on its way is not listened to."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(SilentPeer())
        t = turnstile(before({"2": {"host": peer.host, "port": peer.port}},
                             server_tls_sslmode="disable", workers=1))
        [asker] = send_cancels(stack, t, 1)
        taken = peer.take()
        for packet in (raw.cancel_request(pid_of_peer(2), b"abc\xff"),
                       raw.startup({"user": APP_USER, "database": APP_DATABASE})):
            asker.send(packet)
            # The same thread has seen the packet when it has answered this one.
            assert ask(t, pid_of_peer(1), b"abc\xff") == []
        assert peer_pool(t, 2)["cl_active_cancel_req"] == 1 and not peer.has_more()
        taken.close()
        assert asker.until_closed() == []
        wait_until(lambda: is_idle(t))


def test_the_queue_to_a_peer_is_bounded_and_shared_by_addresses(turnstile):
    """What does not fit is closed at once, as with a wrong key."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(SilentPeer())
        t = turnstile(before({"2": {"host": peer.host, "port": peer.port, "pool_size": 1}},
                             server_tls_sslmode="disable", max_client_conn=2000))
        send_cancels(stack, t, 501)
        wait_until(lambda: peer_pool(t, 2)["cl_waiting_cancel_req"] == 500)
        assert ask(t, pid_of_peer(2), b"abc\xff") == []
        other = stack.enter_context(raw.RawClient(t.port, source="127.0.0.2"))
        other.send(raw.cancel_request(pid_of_peer(2), b"abc\xff"))
        wait_until(lambda: peer_pool(t, 2)["cl_waiting_cancel_req"] == 501)


def test_who_waits_for_a_peer_waits_for_cancel_wait_timeout(turnstile):
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(SilentPeer())
        t = turnstile(before({"2": {"host": peer.host, "port": peer.port, "pool_size": 1}},
                             server_tls_sslmode="disable", cancel_wait_timeout=1))
        for asker in send_cancels(stack, t, 3):
            assert asker.until_closed() == []
        wait_until(lambda: is_idle(t))


def test_a_peer_that_is_gone_is_said_once(turnstile):
    with raw.FakeServer() as gone:
        pass
    t = turnstile(before({"2": {"host": gone.host, "port": gone.port, "pool_size": 1}}))
    for _ in range(5):
        assert ask(t, pid_of_peer(2), b"abc\xff") == []
    assert t.log_contains("peer 2: cancel requests cannot be forwarded: .*refused") == 1
    wait_until(lambda: is_idle(t))


def test_a_reload_changes_peers(turnstile):
    """Who waits for one that is taken away waits no longer."""
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(SilentPeer())
        t = turnstile(before({"2": {"host": peer.host, "port": peer.port, "pool_size": 1}},
                             server_tls_sslmode="disable"))
        askers = send_cancels(stack, t, 3)
        wait_until(lambda: peer_pool(t, 2)["cl_waiting_cancel_req"] == 2)
        with raw.FakeServer() as next_one:
            t.reload({"peers": {"2": None, "3": {"host": next_one.host, "port": next_one.port}}})
            for asker in askers:
                assert asker.until_closed() == []
            assert [row["peer_id"] for row in t.admin("SHOW PEERS")] == [3]
            assert [row["peer_id"] for row in t.admin("SHOW PEER_POOLS")] == [3]
            assert ask(t, pid_of_peer(3), b"abc\xff") == []
            assert len(next_one.cancels) == 1


def test_i9_a_key_on_its_way_is_in_no_log(turnstile):
    with raw.FakeServer() as gone:
        pass
    t = turnstile(before({"2": {"host": gone.host, "port": gone.port}}, verbose=3))
    assert ask(t, pid_of_peer(2), b"SECRETKEY\xff") == []
    assert not t.log_contains("SECRETKEY") and not t.log_contains("534543524554")


def test_a_stop_in_the_middle(turnstile):
    with contextlib.ExitStack() as stack:
        peer = stack.enter_context(SilentPeer())
        t = turnstile(before({"2": {"host": peer.host, "port": peer.port, "pool_size": 1}},
                             server_tls_sslmode="disable"))
        askers = send_cancels(stack, t, 3)
        wait_until(lambda: peer_pool(t, 2)["cl_waiting_cancel_req"] == 2)
        t.stop()
        for asker in askers:
            asker.until_closed()


# --- keys ---------------------------------------------------------------------------------------
def test_keys_name_their_process_and_differ(primary, turnstile):
    t = turnstile(shop(primary, {"peer_id": 0xabcd, "max_client_conn": 200}))
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(log_in(t, version=(3, n % 2 * 2))) for n in range(60)]
        for c in sessions:
            assert c.pid > 0 and c.pid >> 16 & 0xff == 0xcd and c.pid >> 8 & 0xff == 0xab
            assert c.key[-1] & FRESH == FRESH and len(c.key) in (4, 32)
        assert len({c.pid for c in sessions}) == 60
        assert len({c.key for c in sessions}) == 60


def test_a_number_that_has_no_room_is_refused(turnstile):
    t = turnstile(before({}))
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        t.reload({"pgturnstile": {"peer_id": 65536}})
    t.wait_log("peer_id: must be a number from 0 to 65535")


def test_i7_a_cancel_reaches_one_that_waits_for_its_last_clients(primary):
    """It takes no more clients, and its peers still reach it."""
    with fleet(primary) as (one, two), log_in(one) as client:
        client.send(SLEEP)
        wait_backends(primary, 1, SLEEPS)
        one.signal(signal.SIGTERM)
        wait_until(lambda: len(listened_at(one.port)) == 2, 30)  # of four
        assert ask(two, client.pid, client.key) == []
        assert sqlstate(client.until("Z")) == "57014"
        client.close()
        assert one.wait_exit() == 0
