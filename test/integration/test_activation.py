# SPDX-License-Identifier: ISC
#
# test_activation.py - listening sockets that a supervisor has opened before the process began.
#
# The test is the supervisor: it keeps the sockets while processes come and go.
"""Socket activation: what is handed over is served, by whichever process runs (docs/operations.md)."""
import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop
from turnstile import SANITIZER_OPTIONS, Turnstile, built_binary
from waiting import wait_until

ACTIVATOR = Path(__file__).with_name("activator.py")


class Activated(Turnstile):
    """Finds sockets open when it starts."""

    options = ()

    def __init__(self, config):
        super().__init__(config, {APP_USER: APP_PASSWORD})
        self.sockets, self.names = [], []

    def open(self, address, family=socket.AF_INET, kind=socket.SOCK_STREAM, backlog=16, **options):
        """A socket to hand over; options: SO_REUSEPORT=1 …"""
        sock = socket.socket(family, kind)
        self.sockets.append(sock)
        self.names.append(f"unit-{len(self.sockets)}")
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.pop("V6ONLY", 1))
        for name, value in {"SO_REUSEADDR": 1, **options}.items():
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
        sock.bind(address)
        if backlog:
            sock.listen(backlog)
        return sock

    def process(self):
        return self._process

    @property
    def pass_fds(self):
        return [sock.fileno() for sock in self.sockets]

    def program(self):
        """As somebody starts it who hands nothing over."""
        return [str(built_binary()), *self.options, str(self.ini)]

    def _command(self):
        return [sys.executable, ACTIVATOR, ",".join(map(str, self.pass_fds)), ",".join(self.names),
                *self.program()]

    def start(self):
        """Return self once it serves: what is handed over listens before that."""
        said = self.log_contains("is ready: ")
        super().start()
        wait_until(lambda: self.log_contains("is ready: ") > said, 30, self.log_text)
        return self

    def refusal(self, command=None):
        """What it says when it does not start."""
        done = subprocess.run(command or self._command(), capture_output=True, text=True,
                              timeout=60, check=False, pass_fds=self.pass_fds,
                              env={**SANITIZER_OPTIONS, **os.environ})
        assert done.returncode == 1 and not done.stdout
        return done.stderr

    def remove(self):
        super().remove()
        for sock in self.sockets:
            sock.close()


@contextlib.contextmanager
def activated(primary, settings=None):
    t = Activated(shop(primary, settings))
    try:
        yield t
    finally:
        t.remove()


class Early(raw.RawClient):
    """A client that connects to any address, when nobody may be there to take it in yet."""

    def __init__(self, listener):
        sock = socket.socket(listener.family)
        sock.connect(listener.getsockname())
        raw.Stream.__init__(self, sock, 30)
        self.parameters = {}
        self.pid = self.key = None

    def is_served(self):
        self.login(APP_USER, APP_DATABASE, APP_PASSWORD)
        return self.rows("SELECT 2") == [("2",)]


def socket_file(pooler):
    return pooler.dir / f".s.PGSQL.{pooler.port}"


def _ipv4(t):
    return t.open(("127.0.0.1", t.port))


def _ipv6(t):
    t.config["pgturnstile"]["listen_addr"] = "127.0.0.1, ::1"
    t.write()
    try:
        return t.open(("::1", t.port), socket.AF_INET6)
    except OSError:
        return pytest.skip("this machine has no IPv6")


def _unix(t):
    return t.open(str(socket_file(t)), socket.AF_UNIX)


def _abstract(t):
    t.config["pgturnstile"]["unix_socket_dir"] = f"@pgt-{t.port}"
    t.write()
    return t.open(f"\0pgt-{t.port}/.s.PGSQL.{t.port}", socket.AF_UNIX)


@pytest.mark.parametrize("family", [_ipv4, _ipv6, _unix, _abstract])
def test_who_comes_before_the_process_is_served(primary, family):
    """And who comes while none runs, by the next one."""
    with activated(primary) as t:
        listener = family(t)
        for _ in range(2):
            with Early(listener) as client:
                t.start()
                assert client.is_served()
            # What was not handed over is listened on as well.
            with log_in(t) as client:
                assert client.rows("SELECT 2") == [("2",)]
            t.signal(signal.SIGTERM)
            assert t.wait_exit() == 0


def test_the_file_of_a_socket_is_the_supervisor_s(primary):
    with activated(primary, {"unix_socket_mode": "0777"}) as t:
        _unix(t)
        socket_file(t).chmod(0o640)
        t.start()
        assert stat.S_IMODE(socket_file(t).stat().st_mode) == 0o640
        t.stop()
        assert socket_file(t).exists()


def test_a_file_of_our_own_is_still_taken_away(primary):
    with activated(primary) as t:
        _ipv4(t)
        t.start()
        with psycopg.connect(host=str(t.dir), port=t.port, dbname=APP_DATABASE, user=APP_USER,
                             password=APP_PASSWORD) as c:
            assert c.execute("SELECT 2").fetchone() == (2,)
        t.stop()
        assert not socket_file(t).exists()


def test_what_is_for_nothing_in_the_configuration_is_refused(primary):
    with activated(primary) as t:
        _ipv4(t)
        t.open(("127.0.0.2", t.port))
        said = t.refusal()
        assert f"127.0.0.2:{t.port} (unit-2)" in said and "listen_addr" in said
        assert not socket_file(t).exists()
        t.sockets.pop().close(), t.names.pop()
        t.start()


@pytest.mark.parametrize("what, why", [
    ({"kind": socket.SOCK_DGRAM, "backlog": 0}, "no stream socket"),
    ({"backlog": 0}, "no stream socket"),
    ({"family": socket.AF_INET6, "V6ONLY": 0}, "BindIPv6Only=ipv6-only"),
])
def test_what_cannot_be_listened_on_is_refused(primary, what, why):
    with activated(primary) as t:
        try:
            t.open(("::" if "family" in what else "127.0.0.1", t.port), **what)
        except OSError:
            pytest.skip("this machine has no IPv6")
        said = t.refusal()
        assert why in said and "unit-1" in said


def test_a_number_that_is_none_is_refused(primary):
    with activated(primary) as t:
        # Said by the shell: who says it is who becomes the program.
        for n in "many", "-1", "65", "3":
            said = t.refusal(["sh", "-c", f'LISTEN_PID=$$ LISTEN_FDS={n} exec "$0" "$@"',
                              *t.program()])
            assert "socket activation: " in said, (n, said)


def test_what_was_for_another_process_is_nothing_to_us(primary, turnstile, monkeypatch):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    with log_in(turnstile(shop(primary))) as client:
        assert client.rows("SELECT 2") == [("2",)]


def test_reload_leaves_it_as_it_is(primary):
    with activated(primary) as t:
        listener = _ipv4(t)
        t.start()
        t.reload({"pgturnstile": {"default_pool_size": 3}})
        t.config["pgturnstile"]["listen_addr"] = "127.0.0.2"
        t.write()
        t.admin("RELOAD")
        assert t.log_contains("listen_addr: the new value needs a restart")
        with Early(listener) as client:
            assert client.is_served()


def test_another_process_with_so_reuseport_is_beside_it(primary):
    with activated(primary, {"so_reuseport": 1}) as t, activated(primary, {"so_reuseport": 1}) as u:
        t.open(("127.0.0.1", t.port), SO_REUSEPORT=1)
        t.start()
        u.port = u.config["pgturnstile"]["listen_port"] = t.port
        u.write()
        u.start()

        def both_have_served():
            with log_in(t) as client:
                assert client.rows("SELECT 2") == [("2",)]
            return all(each.log_contains(r"\blogin\n") for each in (t, u))

        wait_until(both_have_served, 60)


def test_a_takeover_goes_on_with_what_was_handed_over(primary):
    """The new process was started by nobody who hands over; the supervisor's stays the supervisor's."""
    with activated(primary) as t:
        listeners = [_ipv4(t), _unix(t)]
        t.start()
        with Early(listeners[0]) as client:
            assert client.is_served()
            for _ in range(2):
                before = t.take_over()
                assert before.wait(30) == 0
                assert client.rows("SELECT 2") == [("2",)]
        for listener in listeners:
            with Early(listener) as client:
                assert client.is_served()
        # Who would come to what nobody takes from any more would wait for ever.
        t.config["pgturnstile"]["unix_socket_dir"] = ""
        t.config["pgturnstile"]["takeover_socket"] = t.dir / f".s.pgturnstile.{t.port}.takeover"
        t.write()
        t.options = ["--takeover"]
        assert f"{socket_file(t)} by socket activation" in t.refusal(t.program())
        t.options = []
        t.stop()
        assert socket_file(t).exists()
        with Early(listeners[1]) as client:
            t.config["pgturnstile"].update(unix_socket_dir=t.dir)
            t.write()
            t.start()
            assert client.is_served()


def test_a_takeover_may_be_handed_over_the_same(primary):
    with activated(primary) as t:
        listener = _unix(t)
        t.start()
        before = t.process()
        t.options = ["--takeover"]
        t.start()
        assert before.wait(30) == 0
        with Early(listener) as client:
            assert client.is_served()
        t.stop()
        assert socket_file(t).exists()
