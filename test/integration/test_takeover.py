# SPDX-License-Identifier: ISC
#
# test_takeover.py - a process takes over from another one: sockets, and who is on them.
#
# Knows sessions as clients see them; what moves between the processes, and how, it does not.
"""--takeover: nobody is turned away, nobody is dropped (docs/reliability.md)."""
import os
import signal
import socket
import stat
import subprocess
import threading

import psycopg
import pytest

from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop
from turnstile import SANITIZER_OPTIONS, built_binary
from waiting import wait_until


def takeover_socket(pooler):
    return pooler.dir / f".s.pgturnstile.{pooler.port}.takeover"


def ended(process):
    """Wait until a process that was taken over from has ended, as it should."""
    assert process.wait(30) == 0


def attempt(pooler):
    """--takeover of what must fail: exit code and what it says."""
    done = subprocess.run([built_binary(), "--takeover", str(pooler.ini)], capture_output=True,
                          text=True, timeout=60, check=False,
                          env={**SANITIZER_OPTIONS, **os.environ})
    return done.returncode, done.stderr



# --- sockets --------------------------------------------------------------------------------------
def test_the_successor_serves_and_the_other_ends(turnstile, primary):
    pooler = turnstile(shop(primary))
    before = pooler.take_over()
    ended(before)
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    assert takeover_socket(pooler).exists()
    assert stat.S_IMODE(takeover_socket(pooler).stat().st_mode) == 0o600


def test_no_connection_is_refused_meanwhile(turnstile, primary):
    pooler = turnstile(shop(primary))
    stop, failures, logins = threading.Event(), [], []

    def come_and_go():
        while not stop.is_set():
            try:
                with log_in(pooler) as client:
                    assert client.rows("SELECT 2") == [("2",)]
                logins.append(1)
            except Exception as e:  # pylint: disable=broad-except
                failures.append(repr(e))

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            ended(pooler.take_over())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures and len(logins) > 20


def test_unix_sockets_and_the_pidfile_go_over(turnstile, primary, tmp_path):
    pidfile = tmp_path / "pid"
    pooler = turnstile(shop(primary, {"pidfile": pidfile}))
    assert int(pidfile.read_text()) == pooler.pid()
    for _ in range(2):
        ended(pooler.take_over())
        assert pidfile.read_text() == f"{pooler.pid()}\n"
        with psycopg.connect(host=str(pooler.dir), port=pooler.port, dbname=APP_DATABASE,
                             user=APP_USER, password=APP_PASSWORD) as connection:
            assert connection.execute("SELECT 2").fetchone() == (2,)
    assert (tmp_path / "pid.takeover").exists()
    pooler.stop()
    assert not pidfile.exists() and not (tmp_path / "pid.takeover").exists()
    assert not (pooler.dir / f".s.PGSQL.{pooler.port}").exists()


def test_other_addresses_of_the_new_configuration(turnstile, primary):
    pooler = turnstile(shop(primary))
    ended(pooler.take_over({"pgturnstile": {"listen_addr": "127.0.0.1, 127.0.0.2"}}))
    for host in "127.0.0.1", "127.0.0.2":
        socket.create_connection((host, pooler.port), 5).close()
    ended(pooler.take_over({"pgturnstile": {"listen_addr": "127.0.0.1"}}))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", pooler.port), 5)


# --- what goes wrong ------------------------------------------------------------------------------
def test_i8_a_bad_configuration_is_the_new_one_s_alone(turnstile, primary):
    pooler = turnstile(shop(primary))
    good = pooler.ini.read_text()
    with log_in(pooler) as client:
        pooler.ini.write_text(good + "\nno_such = 1\n")
        code, said = attempt(pooler)
        assert code == 1 and "no_such" in said
        pooler.ini.write_text(good.replace("[databases]", "http_listen = 203.0.113.1:1\n[databases]"))
        code, said = attempt(pooler)
        assert code == 1 and "http_listen" in said
        pooler.ini.write_text(good)
        assert client.rows("SELECT 2") == [("2",)]
        with log_in(pooler) as other:
            assert other.rows("SELECT 2") == [("2",)]
    assert (pooler.dir / f".s.PGSQL.{pooler.port}").exists() and takeover_socket(pooler).exists()
    ended(pooler.take_over())


def test_one_that_dies_before_it_is_ready_has_changed_nothing(turnstile, primary):
    pooler = turnstile(shop(primary))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as successor:
        successor.connect(str(takeover_socket(pooler)))
        successor.send(b"H" + (1).to_bytes(4, "big") + b"a successor that dies\0")
        assert successor.recv(65536)[:1] == b"L"
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    ended(pooler.take_over())


def test_a_successor_that_is_killed_is_replaced_by_the_one_before(turnstile, primary):
    pooler = turnstile(shop(primary))
    with psycopg.connect(host=pooler.host, port=pooler.port, dbname=APP_DATABASE, user=APP_USER,
                         password=APP_PASSWORD) as busy:
        assert busy.execute("SELECT 2").fetchone() == (2,)
        before = pooler.take_over()
        os.kill(pooler.pid(), signal.SIGKILL)
        pooler.wait_exit()
        pooler.wait_log("serves again")
        pooler._process = before  # pylint: disable=protected-access
        with log_in(pooler) as client:
            assert client.rows("SELECT 2") == [("2",)]
        assert busy.execute("SELECT 3").fetchone() == (3,)
    ended(pooler.take_over())


def test_nobody_to_take_over_from(turnstile, primary):
    pooler = turnstile(shop(primary))
    pooler.stop()
    code, said = attempt(pooler)
    assert code == 1 and "takeover" in said


def test_what_is_no_packet_of_ours_is_turned_away(turnstile, primary):
    pooler = turnstile(shop(primary))
    for packet in b"?", b"H", b"H\0\0\0\0x\0", b"Y", b"Y" + bytes(9), b"H" + bytes(60000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
            other.settimeout(10)
            other.connect(str(takeover_socket(pooler)))
            other.send(packet)
            assert other.recv(65536)[:1] in (b"", b"R")
    ended(pooler.take_over())


def test_none_while_it_is_paused(turnstile, primary):
    pooler = turnstile(shop(primary))
    pooler.admin("PAUSE")
    code, said = attempt(pooler)
    assert code == 1 and "paused" in said
    pooler.admin("RESUME")
    ended(pooler.take_over())


def test_off(turnstile, primary):
    pooler = turnstile(shop(primary, {"takeover_socket": ""}))
    assert not takeover_socket(pooler).exists()
    code, said = attempt(pooler)
    assert code == 1 and "takeover_socket" in said
