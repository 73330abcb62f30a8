# SPDX-License-Identifier: ISC
#
# test_understudy.py - takeovers in which the other process is another version, hostile, or dies.
"""Either side, played by the test: no session is lost, and none is in two processes."""
import contextlib
import ctypes
import os
import pathlib
import re
import select
import signal
import socket
import struct

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, wait_nodes
from turnstile import Turnstile
from understudy import CLIENTS, LIFE, TAKEOVER, Predecessor, Successor, offered, takeover_socket
from waiting import wait_until


def text(number, value):
    """A field of a passport."""
    return struct.pack("!BI", number, len(value)) + value


def numbered(number):
    return struct.pack("!Q", number)


def ended(process):
    assert process.wait(30) == 0


# --- a session on its way -------------------------------------------------------------------------
@pytest.mark.tsan
def test_i3_who_was_sent_and_not_taken_comes_back(turnstile, primary):
    """The successor dies with all that it was given."""
    pooler = turnstile(shop(primary))
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(log_in(pooler)) for _ in range(80)]
        for number, client in enumerate(many):
            client.query(f"SET work_mem = '{number + 100}kB'")
            client.prepared("SELECT 2 + $1::int", ["3"], name="sum")
        with Successor(pooler) as successor:
            successor.hello()
            successor.ready()
            for _ in range(10):
                assert successor.session()[2] is not None
            many[0].send(raw.query("SHOW work_mem"))
        pooler.wait_log("serves again")
        assert raw.find(many[0].until("Z"), "D")[0].row == ("100kB",)
        for number, client in enumerate(many):
            assert client.rows("SHOW work_mem") == [(f"{number + 100}kB",)]
            client.send(raw.bind("", "sum", ["40"]), raw.execute(), raw.sync())
            assert raw.find(client.until("Z"), "D")[0].row == ("42",)
    ended(pooler.take_over())


def test_who_was_taken_is_not_in_the_old_process(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client, Successor(pooler) as successor:
        successor.hello()
        successor.ready()
        number, passport, fd = successor.session()
        assert APP_USER.encode() in passport
        successor.say(b"T", number)
        client.send(raw.query("SELECT 2"))
        with socket.socket(fileno=os.dup(fd)) as taken:
            taken.settimeout(10)
            assert b"SELECT 2" in taken.recv(100)
        # Nobody is left there.
        assert pooler.wait_exit() == 0
        successor.die()
        with pytest.raises((EOFError, OSError)):
            client.until("Z")


def test_who_cannot_be_had_stays_and_is_not_sent_again(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client, Successor(pooler) as successor:
        successor.hello()
        successor.ready()
        successor.say(b"N", successor.session()[0])
        for _ in range(5):
            client.query("BEGIN")
            assert client.rows("SELECT 2") == [("2",)]
            client.query("COMMIT")
        successor.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            successor.session()
        client.close()
        assert pooler.wait_exit() == 0


def test_not_more_than_so_many_are_under_way(turnstile, primary):
    pooler = turnstile(shop(primary))
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(log_in(pooler))
        successor = stack.enter_context(Successor(pooler))
        successor.hello()
        successor.ready()
        numbers = [successor.session()[0] for _ in range(64)]
        successor.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            successor.session()
        for number in numbers:
            successor.say(b"T", number)
        successor.sock.settimeout(30)
        for _ in range(36):
            successor.say(b"T", successor.session()[0])
        assert pooler.wait_exit() == 0


@pytest.mark.tsan
def test_i3_a_successor_that_hangs_and_is_killed_has_taken_nobody(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client:
        client.query("BEGIN")
        assert client.rows("SELECT 2") == [("2",)]
        before = pooler.take_over()
        pooler.signal(signal.SIGSTOP)
        client.query("COMMIT")
        client.send(raw.query("SELECT 3"))
        pooler.signal(signal.SIGKILL)
        pooler.wait_exit()
        assert raw.find(client.until("Z"), "D")[0].row == ("3",)
        pooler._process = before  # pylint: disable=protected-access
    ended(pooler.take_over())


def sleeps(thread):
    """How often it has slept so far."""
    status = pathlib.Path(f"/proc/{thread}/status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.M)[1])


def system_call(thread):
    return pathlib.Path(f"/proc/{thread}/syscall").read_text().split()[0]


@contextlib.contextmanager
def held(thread, like):
    """It alone stands still, as a debugger does it, where the other one rests: not with a lock, nor
    between a letter and the ring at the door."""
    seize, interrupt, detach = 0x4206, 0x4207, 17
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

    def hold():
        if ptrace(seize, thread, None, None):
            pytest.skip(f"no thread can be held here: {os.strerror(ctypes.get_errno())}")
        ptrace(interrupt, thread, None, None)
        os.waitpid(thread, 0x40000000)  # __WALL
        if system_call(thread) == system_call(like):
            return True
        ptrace(detach, thread, None, None)
        return False

    wait_until(hold, 60)
    try:
        yield
    finally:
        ptrace(detach, thread, None, None)


def test_i3_who_comes_back_while_the_last_ones_are_counted_stays(turnstile, primary):
    """The worker that it comes to had nobody when it was asked, and another one has not answered yet."""
    pooler = turnstile(shop(primary, {"workers": 2}))
    pooler.wait_log("is ready")  # it listens before it has its threads
    control, *_, last = map(int, os.listdir(f"/proc/{pooler.pid()}/task"))  # as they were made
    with log_in(pooler) as client, Successor(pooler) as successor:
        successor.hello()
        successor.ready()
        number = successor.session()[0]
        with held(last, like=control):
            before = sleeps(control)
            wait_until(lambda: sleeps(control) > before + 5, 30)  # has begun to count
            before = sleeps(control)
            successor.say(b"N", number)
            wait_until(lambda: sleeps(control) > before, 30)  # has sent it back
            before = sleeps(last)
        wait_until(lambda: not pooler.is_running() or sleeps(last) > before + 5, 30)  # it has answered
        assert client.rows("SELECT 2") == [("2",)]


# --- what others write ----------------------------------------------------------------------------
WHERE = "SELECT current_setting('test.port')"


@contextlib.contextmanager
def reading(turnstile, primary, replica):
    """A pooler whose reads go to the replica; a session that reads."""
    pooler = turnstile(shop(primary, {"monitor_user": APP_USER, "monitor_interval": "50ms",
                                      "max_replica_lag": 0, "default_pool_size": 4},
                            {"host": f"{primary.host},{replica.host}",
                             "port": f"{primary.port},{replica.port}"}))
    with log_in(pooler) as reader:
        wait_nodes(pooler, "primary", "replica")
        wait_until(lambda: reader.rows(WHERE) == [(str(replica.port),)], 30)
        yield pooler, reader


def test_i4_the_third_knows_of_the_first_when_the_second_dies(turnstile, primary, replica):
    with reading(turnstile, primary, replica) as (pooler, reader), log_in(pooler) as writer, \
            log_in(pooler) as other:
        writer.query("BEGIN")
        writer.query("CREATE TABLE IF NOT EXISTS of_the_first ()")
        first = pooler.take_over()
        other.query("BEGIN")
        other.query("SELECT 2")
        second = pooler.take_over()
        wait_until(lambda: any(row["user"] == APP_USER for row in pooler.admin("SHOW CLIENTS")),
                   what="the reader has come")
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
        pooler.wait_log(f"process {second.pid} has ended")
        wait_nodes(pooler, "primary", "replica")
        for _ in range(20):
            assert reader.rows(WHERE) == [(str(primary.port),)]
        writer.query("COMMIT")
        writer.close()
        ended(first)
        wait_until(lambda: reader.rows(WHERE) == [(str(replica.port),)], 30)
        reader.query("DROP TABLE of_the_first")


def test_i4_who_stays_reads_what_the_successor_s_clients_write(turnstile, primary, replica):
    with reading(turnstile, primary, replica) as (pooler, _), Successor(pooler) as successor, \
            log_in(pooler) as stays:
        wait_until(lambda: stays.rows(WHERE) == [(str(replica.port),)], 30)
        # From here on it may serve.
        successor.hello()
        for _ in range(20):
            assert stays.rows(WHERE) == [(str(primary.port),)]
        successor.die()
        wait_until(lambda: stays.rows(WHERE) == [(str(replica.port),)], 30)


def test_lives_of_all_before_are_offered(turnstile, primary):
    pooler = turnstile(shop(primary, {"default_pool_size": 5}))
    with log_in(pooler) as client, log_in(pooler) as other:
        for session in client, other:
            session.query("BEGIN")
            session.query("SELECT 2")
        first = pooler.take_over()
        with Successor(pooler) as successor:
            assert [kind for kind, _ in successor.hello()].count(LIFE) == 2
        for session in client, other:
            session.query("COMMIT")
        ended(first)
        with Successor(pooler) as successor:
            assert [kind for kind, _ in successor.hello()].count(LIFE) == 1


# --- another version ------------------------------------------------------------------------------
def test_a_successor_of_a_later_version_may_say_more(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client, Successor(pooler) as successor:
        kinds = {kind for kind, _ in successor.hello(form=2, more=b"more")}
        assert {CLIENTS, TAKEOVER, LIFE} <= kinds
        successor.ready(more=b"and more")
        number, _, _ = successor.session()
        successor.say(b"x", b"a word of later")
        successor.say(b"C", b"short")
        successor.say(b"T", b"short")
        successor.say(b"N", number + b"more")
        assert client.rows("SELECT 2") == [("2",)]
        client.close()
        assert pooler.wait_exit() == 0


def test_a_successor_of_an_earlier_version_is_refused_and_told(turnstile, primary):
    pooler = turnstile(shop(primary))
    with Successor(pooler) as successor:
        successor.say(b"H", struct.pack("!I", 0) + b"of old\0")
        word, why, _ = successor.hear()
        assert word == b"R" and b"version" in why
    ended(pooler.take_over())


@contextlib.contextmanager
def successor_of(pooler, form=1, more=(), end=b""):
    """A process that has taken over from the test: the test's side, and what it listens on."""
    with Predecessor(takeover_socket(pooler)) as listener, \
            socket.create_server((pooler.host, pooler.port)) as clients, contextlib.ExitStack() as stack:
        clients.setblocking(False)
        # It finds somebody listening at once.
        pooler.start()
        player = stack.enter_context(listener.meet())
        for fd, body in more:
            player.say(b"L", body, [fd])
        player.say(b"?", b"a word of later")
        player.say(b"L", bytes([CLIENTS]) + f"{pooler.host}:{pooler.port}".encode() + b"\0" + end,
                   [clients.fileno()])
        player.say(b"O", offered(end, form))
        word, _, _ = player.hear()
        assert word == b"Y"
        player.say(b"G", end)
        clients.close()
        yield player


class Later(Turnstile):
    """Takes over from a test."""

    def _command(self):
        return [super()._command()[0], "--takeover", self.ini]


@pytest.fixture
def later(primary):
    pooler = Later(shop(primary), {APP_USER: APP_PASSWORD})
    yield pooler
    pooler.remove()


def passport(*more):
    return b"".join([text(1, APP_DATABASE.encode() + b"\0"), text(2, APP_USER.encode() + b"\0"),
                     text(3, APP_USER.encode() + b"\0"), text(7, numbered(1234)),
                     text(8, b"\1\2\3\4"), *more])


@contextlib.contextmanager
def connected():
    """A client's socket, and the pooler's end of it as a pooler has it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


def ask(sock, statement):
    sock.settimeout(20)
    sock.sendall(raw.query(statement))
    seen = b""
    while not seen.endswith(b"Z\0\0\0\5I"):
        more = sock.recv(65536)
        assert more, seen
        seen += more
    return seen


def test_a_predecessor_of_a_later_version_may_say_more(later):
    with open(os.devnull, "rb") as null, \
            successor_of(later, more=[(null.fileno(), b"\x7fof later\0")], end=b"more") as player:
        player.say(b"x", b"a word of later", [null.fileno()])
        with connected() as (ours, theirs):
            player.say(b"E", numbered(1) + passport(), [theirs.fileno()])
            word, body, _ = player.hear()
            assert (word, body) == (b"T", numbered(1))
            assert b"moved" in ask(ours, "SELECT 'moved'")
        with log_in(later) as client:
            assert client.rows("SELECT 2") == [("2",)]


def test_a_session_with_what_is_not_known_stays_where_it_is(later):
    with successor_of(later) as player:
        with connected() as (ours, theirs):
            for number, (packet, fds) in enumerate((
                    (passport(text(99, b"of later")), [theirs.fileno()]),
                    (b"", [theirs.fileno()]),
                    (b"\1\0\0\0\xffcut", [theirs.fileno()]),
                    (passport(), []))):
                player.say(b"E", numbered(number) + packet, fds)
                assert player.hear()[:2] == (b"N", numbered(number))
            # The next one is whole again.
            player.say(b"S", passport()[:20])
            player.say(b"E", numbered(9) + passport()[20:], [theirs.fileno()])
            assert player.hear()[:2] == (b"T", numbered(9))
            assert b"moved" in ask(ours, "SELECT 'moved'")


def test_a_session_of_one_that_has_ended_is_taken(later):
    """It is in the socket, and nobody else has it."""
    with successor_of(later) as player:
        with connected() as (ours, theirs):
            later.signal(signal.SIGSTOP)
            player.say(b"E", numbered(1) + passport(), [theirs.fileno()])
            player.die()
            later.signal(signal.SIGCONT)
            assert b"moved" in ask(ours, "SELECT 'moved'")


# --- cancel keys ----------------------------------------------------------------------------------
KNOWS_KEYS = b"\1"


@contextlib.contextmanager
def handed_on(turnstile, primary, more):
    """A pooler whose successor the test is: both, a session that is there, and a cancel key of which
    but the last byte has come."""
    pooler = turnstile(shop(primary, {"client_tls_sslmode": "disable"}))
    request = raw.cancel_request(1234567, b"none")
    with log_in(pooler) as stays, raw.RawClient(pooler.port) as asker, Successor(pooler) as successor:
        asker.send(request[:-1])
        wait_until(lambda: any(r["port"] == asker.sock.getsockname()[1] for r in pooler.admin("SHOW SOCKETS")))
        stays.query("BEGIN; SELECT 2")
        successor.hello()
        successor.ready(more)
        assert successor.hear()[0] == b"G"
        yield pooler, successor, asker
        assert stays.rows("SELECT 2") == [("2",)]


def test_i7_a_successor_that_does_not_know_of_keys_is_not_asked(turnstile, primary):
    with handed_on(turnstile, primary, b"") as (_, successor, asker):
        asker.send(b"e")
        assert asker.until_closed() == []
        successor.sock.settimeout(1)
        with pytest.raises(TimeoutError):
            successor.hear(b"C")


@pytest.mark.tsan
def test_i7_a_successor_that_knows_of_keys_is_waited_for(turnstile, primary):
    with handed_on(turnstile, primary, KNOWS_KEYS) as (_, successor, asker):
        asker.send(b"e")
        word, body, _ = successor.hear(b"C")
        assert (word, body[8:]) == (b"C", struct.pack("!I", 1234567) + b"none")
        successor.say(b"D", numbered(99))
        # It asks back, and is answered: nothing has been asked of it again.
        successor.say(b"C", numbered(7) + body[8:])
        assert successor.hear(b"C", b"D")[:2] == (b"D", numbered(7))
        assert not select.select([asker.sock], [], [], 0)[0]
        successor.say(b"D", body[:8])
        assert asker.until_closed() == []


def test_i7_a_successor_that_dies_owes_no_answer(turnstile, primary):
    with handed_on(turnstile, primary, KNOWS_KEYS) as (pooler, successor, asker):
        asker.send(b"e")
        assert successor.hear(b"C")
        successor.die()
        assert asker.until_closed() == []
        pooler.wait_log("serves again")


@pytest.mark.tsan
def test_i7_a_predecessor_asks_for_keys_and_is_not_asked_back(later):
    with successor_of(later) as player, connected() as (ours, theirs):
        player.say(b"E", numbered(1) + passport(), [theirs.fileno()])
        assert player.hear()[:2] == (b"T", numbered(1))
        assert b"moved" in ask(ours, "SELECT 'moved'")
        ours.sendall(raw.query("SELECT pg_sleep(60)"))
        wait_until(lambda: [r for r in later.admin("SHOW CLIENTS") if r["user"] == APP_USER and r["state"] == "active"])
        key = struct.pack("!I", 1234)
        for number, secret in enumerate((b"\1\2\3\5", b"\1\2\3", b"\1\2\3\4\0")):
            player.say(b"C", numbered(number) + key + secret)
            assert player.hear(b"C", b"D")[:2] == (b"D", numbered(number))
        assert [r for r in later.admin("SHOW CLIENTS") if r["user"] == APP_USER and r["state"] == "active"]
        for packet in b"", b"short", numbered(8) + key, numbered(9) + key + bytes(2000):
            player.say(b"C", packet)
        player.say(b"C", numbered(10) + key + b"\1\2\3\4")
        assert player.hear(b"C", b"D")[:2] == (b"D", numbered(10))
        ours.settimeout(20)
        seen = b""
        while b"57014" not in seen:
            more = ours.recv(65536)
            assert more, seen
            seen += more


# --- between the offer and its end ----------------------------------------------------------------
@pytest.mark.parametrize("command, back", [("PAUSE", "RESUME"), (f"DISABLE {APP_DATABASE}", f"ENABLE {APP_DATABASE}"),
                                           ("SUSPEND", "RESUME")])
def test_one_that_is_paused_behind_its_offer_grants_nothing(turnstile, primary, command, back):
    pooler = turnstile(shop(primary))
    with Successor(pooler) as successor, pooler.connect("pgturnstile", "admin") as console:
        successor.hello()
        console.execute(command)
        successor.ready()
        word, why, _ = successor.hear()
        assert word == b"R" and b"first" in why
        with pytest.raises(EOFError):
            successor.hear()
        console.execute(back)
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    ended(pooler.take_over())


def test_one_that_is_ready_is_granted_it_before_anybody_comes(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler), Successor(pooler) as successor:
        successor.hello()
        successor.ready()
        assert successor.hear()[0] == b"G"
        assert successor.hear(b"S", b"E")[0] == b"E"


def test_one_that_is_not_granted_it_has_served_nobody(later):
    with Predecessor(takeover_socket(later)) as listener, \
            socket.create_server((later.host, later.port)) as clients:
        clients.setblocking(False)
        later.start()
        with listener.meet() as player, contextlib.ExitStack() as stack:
            player.say(b"L", bytes([CLIENTS]) + f"{later.host}:{later.port}".encode() + b"\0",
                       [clients.fileno()])
            player.say(b"O", offered())
            assert player.hear()[0] == b"Y"
            stack.enter_context(socket.create_connection((later.host, later.port)))
            player.say(b"?", b"a word of later")
            player.say(b"R", b"it is paused\0")
            assert later.wait_exit() == 1
            assert later.log_contains("refuses a takeover: it is paused")
            # Whoever came is still there to be taken in, and nothing is left behind.
            clients.accept()[0].close()
        assert not (later.dir / f".s.PGSQL.{later.port}").exists()


# --- hostile ones ---------------------------------------------------------------------------------
def test_who_says_nothing_is_let_go(turnstile, primary):
    pooler = turnstile(shop(primary))
    with Successor(pooler) as silent:
        with pytest.raises(EOFError):
            silent.hear()
    ended(pooler.take_over())


def test_thousands_that_come_leave_room_for_the_one(turnstile, primary):
    pooler = turnstile(shop(primary))
    for _ in range(2000):
        with contextlib.suppress(OSError), Successor(pooler) as one:
            one.say(b"H", b"\0")
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    wait_until(lambda: len(os.listdir(f"/proc/{pooler.pid()}/fd")) < 100)
    ended(pooler.take_over())


def test_ready_counts_only_behind_an_offer(turnstile, primary):
    pooler = turnstile(shop(primary))
    with Successor(pooler) as one:
        one.ready()
        with pytest.raises((EOFError, OSError)):
            one.hear()
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    ended(pooler.take_over())
