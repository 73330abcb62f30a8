# SPDX-License-Identifier: ISC
#
# test_takeover.py - a process takes over from another one: sockets, and who is on them.
#
# Knows sessions as clients see them; what moves between the processes, and how, it does not.
"""--takeover: nobody is turned away, nobody is dropped (docs/reliability.md)."""
import contextlib
import os
import select
import signal
import socket
import stat
import subprocess
import threading

import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import Port
from rig import backends, log_in, pool_of, shop, wait_backends, wait_nodes
from test_tls import certificates, connect, secured  # noqa: F401 - one is a fixture
from turnstile import ADMIN_PASSWORD, ADMIN_USER, SANITIZER_OPTIONS, built_binary
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


@pytest.mark.tsan
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


def test_files_of_an_old_unix_socket_dir_are_taken_away(turnstile, primary, tmp_path):
    pooler = turnstile(shop(primary))
    old = pooler.dir / f".s.PGSQL.{pooler.port}", takeover_socket(pooler)
    wait_until(lambda: all(path.exists() for path in old))
    with log_in(pooler) as client:
        client.query("BEGIN")
        client.query("SELECT 2")
        # The old one is asked where the old file says.
        before = pooler.take_over({"pgturnstile": {"unix_socket_dir": tmp_path,
                                                   "takeover_socket": takeover_socket(pooler)}})
        assert (tmp_path / f".s.PGSQL.{pooler.port}").exists()
        # It may be back.
        assert old[0].exists()
        client.query("COMMIT")
        ended(before)
    wait_until(lambda: not old[0].exists())
    assert old[1].exists()
    ended(pooler.take_over())
    pooler.stop()
    assert not old[1].exists() and not (tmp_path / f".s.PGSQL.{pooler.port}").exists()


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
        # It listens for clients before it listens here.
        wait_until(lambda: successor.connect_ex(str(takeover_socket(pooler))) == 0, 30)
        successor.send(b"H" + (1).to_bytes(4, "big") + b"a successor that dies\0")
        assert successor.recv(65536)[:1] == b"L"
    with log_in(pooler) as client:
        assert client.rows("SELECT 2") == [("2",)]
    ended(pooler.take_over())


@pytest.mark.tsan
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


def test_who_is_left_when_the_successor_is_told_to_end_stays(turnstile, primary):
    """It is at rest then, and there is nobody whom it could be given to."""
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client:
        client.query("BEGIN")
        client.query("SELECT 2")
        before = pooler.take_over()
        os.kill(pooler.pid(), signal.SIGQUIT)
        pooler.wait_exit()
        client.query("COMMIT")
        with pytest.raises(subprocess.TimeoutExpired):
            before.wait(2)
        assert client.rows("SELECT 2") == [("2",)]
        moves = [line for line in pooler.log_text().splitlines() if "another process" in line]
        assert not moves
    ended(before)


def test_one_that_has_handed_on_is_not_replaced_by_the_one_before(turnstile, primary):
    """Three of them: the second one dies, and the third serves."""
    pooler = turnstile(shop(primary, {"default_pool_size": 5}))
    with log_in(pooler) as client, log_in(pooler) as other:
        client.query("BEGIN")
        client.query("SELECT 2")
        first = pooler.take_over()
        other.query("BEGIN")
        other.query("SELECT 2")
        second = pooler.take_over()
        os.kill(second.pid, signal.SIGKILL)
        second.wait()
        client.query("COMMIT")
        assert client.rows("SELECT 2") == [("2",)]
        pooler.wait_log(f"process {second.pid} has ended")
    ended(first)
    assert not pooler.log_contains("serves again")


def is_refused(address):
    """Whether nobody listens there; who would wait in a queue is not refused."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as sock:
        try:
            sock.connect(address if family == socket.AF_UNIX else ("127.0.0.1", address))
            return False
        except (ConnectionRefusedError, FileNotFoundError):
            return True


def test_i3_ports_are_closed_when_the_successor_waits_for_its_last_clients(turnstile, primary):
    """The one before it has them as well, and takes nobody in."""
    pooler = turnstile(shop(primary))
    with log_in(pooler) as stays, log_in(pooler) as moves:
        stays.query("LISTEN takeovers")
        before = pooler.take_over()
        assert moves.rows("SELECT 2") == [("2",)]
        pooler.signal(signal.SIGTERM)
        wait_until(lambda: is_refused(pooler.port))
        with psycopg.connect(host=str(pooler.dir), port=pooler.port, dbname="pgturnstile", user=ADMIN_USER,
                             password=ADMIN_PASSWORD, autocommit=True) as console:
            assert console.execute("SHOW VERSION").fetchone()
        assert moves.rows("SELECT 2") == stays.rows("SELECT 2") == [("2",)]
    ended(before)
    assert pooler.wait_exit() == 0


def test_i3_another_may_start_where_the_successor_has_ended(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as stays:
        stays.query("LISTEN takeovers")
        before = pooler.take_over()
        pooler.signal(signal.SIGQUIT)
        assert pooler.wait_exit() == 0
        wait_until(lambda: is_refused(pooler.port))
        pooler.start()
        with log_in(pooler) as client:
            assert client.rows("SELECT 2") == stays.rows("SELECT 2") == [("2",)]
        assert before.poll() is None
    ended(before)
    assert (pooler.dir / f".s.PGSQL.{pooler.port}").exists() and takeover_socket(pooler).exists()


def test_i3_another_may_start_where_the_one_before_ends_and_its_successor_was_killed(turnstile, primary):
    """Who is on its console stays there, and may tell it to end."""
    metrics = Port()
    pooler = turnstile(shop(primary, {"http_listen": metrics.number}))
    with log_in(pooler) as stays, pooler.connect(pooler.console, ADMIN_USER) as console:
        stays.query("LISTEN takeovers")
        before = pooler.take_over()
        console.execute("SHUTDOWN WAIT_FOR_CLIENTS")
        pooler.wait_log("SHUTDOWN: waiting until the last client has left")
        pooler.signal(signal.SIGKILL)
        pooler.wait_exit()
        wait_until(lambda: is_refused(pooler.port) and is_refused(metrics.number))
        pooler.start()
        with log_in(pooler) as client:
            assert client.rows("SELECT 2") == stays.rows("SELECT 2") == [("2",)]
        assert before.poll() is None
    ended(before)
    metrics.release()


def test_i2_who_stays_for_its_sequence_keeps_the_server_that_has_it(turnstile, primary):
    pooler = turnstile(shop(primary, {"default_pool_size": 3}))
    with log_in(pooler) as client, log_in(pooler) as one, log_in(pooler) as other:
        one.query("CREATE SEQUENCE kept_by_who_stays")
        try:
            for each in one, other:
                each.query("BEGIN")
                each.query("SELECT 2")
            value = client.rows("SELECT nextval('kept_by_who_stays')")
            wait_backends(primary, 3)
            for each in one, other:
                each.query("COMMIT")
            # Used last, it would be the first to go.
            assert client.rows("SELECT currval('kept_by_who_stays')") == value
            before = pooler.take_over()
            wait_until(lambda: pool_of(pooler, "sv_idle") == 2)
            assert client.rows("SELECT currval('kept_by_who_stays')") == value
        finally:
            one.query("DROP SEQUENCE kept_by_who_stays")
    ended(before)


def test_nobody_to_take_over_from(turnstile, primary):
    pooler = turnstile(shop(primary))
    pooler.stop()
    code, said = attempt(pooler)
    assert code == 1 and "takeover" in said


def test_what_is_no_packet_of_ours_is_turned_away(turnstile, primary):
    pooler = turnstile(shop(primary))
    pooler.wait_log("is ready")  # it listens for clients before it listens there
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


# --- sessions -------------------------------------------------------------------------------------
def test_i2_an_idle_client_moves_with_its_session(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler, application_name="mover", options="-c work_mem=7MB") as client:
        client.query("SET statement_timeout = '77s'; SET DateStyle = 'German'")
        client.prepared("SELECT 2 + $1::int", ["3"], name="sum")
        for _ in range(3):
            ended(pooler.take_over())
            assert client.rows("SHOW work_mem") == [("7MB",)]
            assert client.rows("SHOW statement_timeout") == [("77s",)]
            assert client.rows("SHOW DateStyle") == [("German, DMY",)]
            client.send(raw.bind("", "sum", ["40"]), raw.execute(), raw.sync())
            assert raw.find(client.until("Z"), "D")[0].row == ("42",)
            client.query("SET statement_timeout = '77s'")
        client.query("RESET work_mem; RESET statement_timeout")
        assert client.rows("SHOW work_mem") == [("7MB",)]
    rows = pooler.admin("SHOW CLIENTS")
    assert [r for r in rows if r["user"] == APP_USER] == []


@pytest.mark.tsan
def test_a_busy_client_moves_when_its_transaction_has_ended(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client:
        client.query("BEGIN")
        pid = client.rows("SELECT pg_backend_pid()")
        before = pooler.take_over()
        assert client.rows("SELECT pg_backend_pid()") == pid
        assert before.poll() is None
        client.query("COMMIT")
        ended(before)
        assert client.rows("SELECT 2") == [("2",)]


def test_bytes_that_come_on_the_way_are_the_successor_s(turnstile, primary):
    """Requests that are sent while nobody reads."""
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client:
        process = pooler.pid()
        os.kill(process, signal.SIGSTOP)
        client.send(raw.query("SELECT 2"))
        os.kill(process, signal.SIGCONT)
        before = pooler.take_over()
        client.until("Z")
        ended(before)
        client.send(raw.query("SELECT 3"), raw.query("SELECT 4"))
        assert [raw.find(client.until("Z"), "D")[0].row for _ in range(2)] == [("3",), ("4",)]


@pytest.mark.tsan
def test_i7_cancels_reach_who_has_moved_and_who_has_stayed(turnstile, primary):
    pooler = turnstile(shop(primary, {"client_tls_sslmode": "disable"}))
    with log_in(pooler) as moved, log_in(pooler) as stays:
        stays.send(raw.query("BEGIN"), raw.query("SELECT pg_sleep(60)"))
        stays.until("Z")
        wait_until(lambda: [r for r in pooler.admin("SHOW POOLS") if r["sv_active"]])
        before = pooler.take_over()
        stays.cancel()
        assert raw.find(stays.until("Z"), "E")[0].fields["C"] == "57014"
        assert before.poll() is None
        moved.send(raw.query("SELECT pg_sleep(60)"))
        wait_until(lambda: [r for r in pooler.admin("SHOW POOLS") if r["sv_active"]])
        moved.cancel()
        assert raw.find(moved.until("Z"), "E")[0].fields["C"] == "57014"
        stays.query("ROLLBACK")
        ended(before)
        assert stays.rows("SELECT 2") == [("2",)]


@contextlib.contextmanager
def half_a_cancel(pooler, client):
    """The process of now has accepted the connection, and read how the request for `client` begins."""
    request = raw.cancel_request(client.pid, client.key)
    with raw.RawClient(pooler.port) as asker:
        asker.send(request[:7])
        peer = "%s:%d" % asker.sock.getsockname()
        wait_until(lambda: any(f"{r['addr']}:{r['port']}" == peer and not r["recv_pos"] - 7
                               for r in pooler.admin("SHOW SOCKETS")))
        yield asker, request[7:]


def sleep(primary, client):
    """Its statement is under way on the server, and the only one of its kind."""
    client.send(raw.query("SELECT pg_sleep(60)"))
    wait_until(lambda: primary.value("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = %s",
                                     ["SELECT pg_sleep(60)"]) == 1, 30)


def sleep_over_there(pooler, primary, client):
    """The same, once the client has come to the process of now."""
    wait_until(lambda: any(r["user"] == APP_USER and r["port"] == client.sock.getsockname()[1]
                           for r in pooler.admin("SHOW CLIENTS")), 30)
    sleep(primary, client)


@pytest.mark.tsan
@pytest.mark.parametrize("workers", [1, 3])
def test_i7_a_cancel_that_the_old_process_has_accepted_reaches_who_has_moved(turnstile, primary, workers):
    pooler = turnstile(shop(primary, {"client_tls_sslmode": "disable", "workers": workers}))
    with log_in(pooler) as moved, log_in(pooler) as stays, half_a_cancel(pooler, moved) as (asker, rest):
        stays.query("BEGIN; SELECT 2")
        before = pooler.take_over()
        sleep_over_there(pooler, primary, moved)
        asker.send(rest)
        assert asker.until_closed() == []
        assert raw.find(moved.until("Z"), "E")[0].fields["C"] == "57014"
        assert stays.rows("SELECT 2") == [("2",)] == moved.rows("SELECT 2")
        stays.query("COMMIT")
        ended(before)


def test_i7_a_cancel_goes_along_the_chain_of_processes_in_both_directions(turnstile, primary):
    """Three of them, and what each has accepted may be for whoever is in another one."""
    pooler = turnstile(shop(primary, {"client_tls_sslmode": "disable", "default_pool_size": 5}))
    with contextlib.ExitStack() as stack:
        last, middle, first = (stack.enter_context(log_in(pooler)) for _ in range(3))
        to_last = [stack.enter_context(half_a_cancel(pooler, last))]
        for client in middle, first:
            client.query("BEGIN; SELECT 2")
        processes = [pooler.take_over()]
        middle.query("COMMIT")
        wait_until(lambda: sum(r["user"] == APP_USER for r in pooler.admin("SHOW CLIENTS")) == 2)
        middle.query("BEGIN; SELECT 2")
        to_others = [stack.enter_context(half_a_cancel(pooler, client)) for client in (first, middle)]
        to_last.append(stack.enter_context(half_a_cancel(pooler, last)))
        processes.append(pooler.take_over())
        for asker, rest in to_last:
            sleep_over_there(pooler, primary, last)
            asker.send(rest)
            assert asker.until_closed() == []
            assert raw.find(last.until("Z"), "E")[0].fields["C"] == "57014"
        for client, (asker, rest) in zip((first, middle), to_others):
            sleep(primary, client)
            asker.send(rest)
            assert asker.until_closed() == []
            assert raw.find(client.until("Z"), "E")[0].fields["C"] == "57014"
            client.query("ROLLBACK")
        for process in processes:
            ended(process)


@pytest.mark.parametrize("change", ["secret", "pid"])
def test_i7_a_key_that_nobody_has_ends_at_the_last_of_the_chain(turnstile, primary, change):
    pooler = turnstile(shop(primary, {"client_tls_sslmode": "disable"}))
    with log_in(pooler) as moved, log_in(pooler) as stays, contextlib.ExitStack() as stack:
        wrong = bytes([moved.key[0] ^ 1]) + moved.key[1:]
        right, moved.key, pid = moved.key, wrong if change == "secret" else moved.key, moved.pid
        moved.pid ^= 1 if change == "pid" else 0
        asker, rest = stack.enter_context(half_a_cancel(pooler, moved))
        moved.pid, moved.key = pid, right
        stays.query("BEGIN; SELECT 2")
        before = pooler.take_over()
        sleep_over_there(pooler, primary, moved)
        asker.send(rest)
        assert asker.until_closed() == []
        assert [r for r in pooler.admin("SHOW CLIENTS") if r["state"] == "active" and r["user"] == APP_USER]
        moved.cancel()
        assert raw.find(moved.until("Z"), "E")[0].fields["C"] == "57014"
        stays.query("COMMIT")
        ended(before)


def test_cancels_that_the_one_before_does_not_answer_are_bounded(turnstile, primary):
    """What does not fit is closed at once, as with a wrong key; others find a place."""
    pooler = turnstile(shop(primary, {"client_tls_sslmode": "disable", "workers": 1,
                                      "max_client_conn": 2000}))
    request = raw.cancel_request(1234567, b"none")
    with log_in(pooler) as stays, contextlib.ExitStack() as stack:
        stays.query("BEGIN; SELECT 2")
        before = pooler.take_over()
        before.send_signal(signal.SIGSTOP)
        stack.callback(before.send_signal, signal.SIGCONT)
        askers = [stack.enter_context(raw.RawClient(pooler.port)) for _ in range(510)]
        for asker in askers:
            asker.send(request)
        wait_until(lambda: len(select.select([a.sock for a in askers], [], [], 0)[0]) == 10)
        other = stack.enter_context(raw.RawClient(pooler.port, source="127.0.0.2"))
        other.send(request)
        before.send_signal(signal.SIGCONT)
        assert other.until_closed() == []
        stays.query("COMMIT")
        ended(before)


def test_i1_a_tenant_stays_its_own(turnstile, primary):
    config = {**shop(primary, {"tenant_by": "user_suffix, set"}, {"tenant_pool": "shared"}),
              "tiers": {"basic": ""},
              "tenants": {"acme": "tier=basic business_id=42", "globex": "tier=basic business_id=7"},
              "users": {APP_USER: "tenant_switch=yes"}}
    pooler = turnstile(config)
    own = "SELECT current_setting('app.current_business_id')"
    with log_in(pooler, user=f"{APP_USER}.acme") as acme, log_in(pooler) as chooser:
        chooser.query("SET app.current_business_id = '7'")
        for _ in range(2):
            assert acme.rows(own) == [("42",)] and chooser.rows(own) == [("7",)]
            ended(pooler.take_over())
        assert acme.rows(own) == [("42",)] and chooser.rows(own) == [("7",)]
        chooser.query("SET app.current_business_id = '42'")
        assert chooser.rows(own) == [("42",)]


def test_who_is_nobody_any_more_is_told(turnstile, primary):
    pooler = turnstile(shop(primary))
    pooler.reload({"databases": {"other": {**pooler.config["databases"][APP_DATABASE],
                                           "dbname": APP_DATABASE}}})
    with log_in(pooler) as client, log_in(pooler, dbname="other") as stays:
        del pooler.config["databases"][APP_DATABASE]
        pooler.take_over()
        assert raw.find(client.until_closed(), "E")[0].fields["C"] == "3D000"
        assert stays.query("SELECT 2")


def test_scram_keys_of_a_passed_through_login_go_along(turnstile, primary):
    """The pooler knows a secret only; what logs in to servers comes from the client."""
    secret = primary.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{APP_USER}'")[0][0]
    pooler = turnstile(shop(primary), {APP_USER: secret})
    with log_in(pooler) as client:
        client.query("SELECT 2")
        ended(pooler.take_over())
        assert client.rows("SELECT 3") == [("3",)]


def test_who_listens_or_pins_stays_until_it_leaves(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as listener, log_in(pooler) as pinned:
        listener.query("LISTEN takeovers")
        pinned.query("CREATE TEMP TABLE kept AS SELECT 5 AS n")
        before = pooler.take_over()
        assert pinned.rows("SELECT n FROM kept") == [("5",)]
        with log_in(pooler) as other:
            other.query("NOTIFY takeovers")
        assert listener.until("A")
        assert before.poll() is None
        listener.query("UNLISTEN *")
        pinned.query("DROP TABLE kept")
        ended(before)
        assert listener.rows("SELECT 2") == pinned.rows("SELECT 2") == [("2",)]


def test_i2_a_result_that_has_changed_is_still_refused(turnstile, primary):
    pooler = turnstile(shop(primary))
    with log_in(pooler) as client:
        client.query("CREATE TABLE moved_result AS SELECT 1 AS a")
        client.send(raw.parse("all", "SELECT * FROM moved_result"), raw.describe("S", "all"), raw.sync())
        client.until("Z")
        client.query("ALTER TABLE moved_result ADD COLUMN b text")
        ended(pooler.take_over())
        client.send(raw.bind("", "all"), raw.execute(), raw.sync())
        assert raw.find(client.until("Z"), "E")[0].fields["C"] == "0A000"
        client.query("DROP TABLE moved_result")


def test_after_takeover_timeout_who_stays_is_dropped(turnstile, primary):
    pooler = turnstile(shop(primary, {"takeover_timeout": "1s"}))
    with log_in(pooler) as client:
        client.query("BEGIN")
        client.query("SELECT 2")
        ended(pooler.take_over())
        client.until_closed()


def test_a_tls_session_stays_where_it_is_until_its_client_leaves(turnstile, primary, certificates):
    """What OpenSSL knows of it cannot be given away; the old process serves it on, cancels too."""
    pooler = turnstile(shop(primary, secured(certificates, "allow")))
    with connect(pooler, sslmode="require", autocommit=True) as stays, \
            connect(pooler, sslmode="disable", autocommit=True):
        stays.execute("SET application_name = 'it stays'")
        before = pooler.take_over()
        wait_until(lambda: any(row["user"] == APP_USER for row in pooler.admin("SHOW CLIENTS")),
                   what="the other one has moved")
        with connect(pooler, sslmode="require", autocommit=True) as late:
            assert late.execute("SELECT 2").fetchone() == (2,)
        asked = threading.Thread(target=lambda: (
            wait_until(lambda: primary.value("SELECT count(*) FROM pg_stat_activity WHERE query = %s",
                                             ["SELECT pg_sleep(59)"]), 30), stays.cancel()))
        asked.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            stays.execute("SELECT pg_sleep(59)")
        asked.join()
        assert stays.execute("SHOW application_name").fetchone() == ("it stays",)
        assert before.poll() is None
    ended(before)


def test_a_tls_session_that_stays_has_until_takeover_timeout(turnstile, primary, certificates):
    pooler = turnstile(shop(primary, {**secured(certificates, "allow"), "takeover_timeout": "1s"}))
    with connect(pooler, sslmode="require", autocommit=True) as stays:
        ended(pooler.take_over())
        with pytest.raises(psycopg.OperationalError):
            stays.execute("SELECT 2")


@pytest.mark.parametrize("minimum", [0, 4])
def test_i5_the_old_process_has_no_more_servers_than_clients(turnstile, primary, certificates, minimum):
    """What both have together is more than pool_size by that much, and no longer than it has clients."""
    pooler = turnstile(shop(primary, {**secured(certificates, "allow"), "default_pool_size": 4,
                                      "min_pool_size": minimum}))
    with contextlib.ExitStack() as stack:
        moving = [stack.enter_context(log_in(pooler)) for _ in range(4)]
        stays = stack.enter_context(connect(pooler, sslmode="require", autocommit=True))
        for client in moving:
            client.query("BEGIN")
            client.query("SELECT 2")
        wait_backends(primary, 4)
        before = pooler.take_over()
        for client in moving:
            client.query("COMMIT")
        # All of them are in the new process: nobody needs more than one server in the old one.
        wait_until(lambda: sum(row["user"] == APP_USER for row in pooler.admin("SHOW CLIENTS")) == 4)
        for client in moving:
            client.query("BEGIN")
            client.query("SELECT 2")
        wait_until(lambda: len(backends(primary)) <= 5, 30)
        for _ in range(20):
            assert stays.execute("SELECT 2").fetchone() == (2,)
            assert len(backends(primary)) <= 5
        stays.close()
        ended(before)
        wait_backends(primary, 4)


def test_i4_reads_go_to_the_primary_while_another_process_may_write(turnstile, primary, replica):
    config = shop(primary, {"monitor_user": APP_USER, "monitor_interval": "50ms",
                            "max_replica_lag": 0, "default_pool_size": 4},
                  {"host": f"{primary.host},{replica.host}", "port": f"{primary.port},{replica.port}"})
    pooler = turnstile(config)
    where = "SELECT current_setting('test.port')"
    with log_in(pooler) as writer, log_in(pooler) as reader:
        wait_nodes(pooler, "primary", "replica")
        wait_until(lambda: reader.rows(where) == [(str(replica.port),)], 30)
        writer.query("BEGIN")
        writer.query("CREATE TABLE IF NOT EXISTS taken_over ()")
        before = pooler.take_over()
        wait_nodes(pooler, "primary", "replica")
        for _ in range(20):
            assert reader.rows(where) == [(str(primary.port),)]
        writer.query("COMMIT")
        ended(before)
        wait_until(lambda: reader.rows(where) == [(str(replica.port),)], 30)
        writer.query("DROP TABLE taken_over")


@pytest.mark.tsan
def test_who_leaves_at_the_end_of_a_turn_is_gone(turnstile, primary):
    """What was behind a request is read when its answer has come, ends the client, and leaves its
    server in a transaction."""
    pooler = turnstile(shop(primary, {"default_pool_size": 5}))
    with log_in(pooler) as stays:
        leavers = [log_in(pooler) for _ in range(4)]
        for client in stays, *leavers:
            client.query("BEGIN")
            client.query("SELECT 2")
        before = pooler.take_over()
        for client in leavers:
            client.send(raw.query("DEALLOCATE ALL"), raw.terminate())
            client.until_closed()
            client.close()
        assert stays.rows("SELECT 2") == [("2",)]
        stays.query("COMMIT")
        ended(before)


def test_descriptors_that_nobody_asked_for_are_closed(turnstile, primary):
    pooler = turnstile(shop(primary))

    def how_many():
        return len(os.listdir(f"/proc/{pooler.pid()}/fd"))

    before = how_many()
    with open(os.devnull, "rb") as null:
        for packet in b"", b"?", b"H", b"H" + (1).to_bytes(4, "big") + b"some\0":
            for n in 1, 2, 200:
                # One that comes while the last is still there is turned away unread.
                with (contextlib.suppress(ConnectionError),
                      socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other):
                    other.settimeout(10)
                    other.connect(str(takeover_socket(pooler)))
                    socket.send_fds(other, [packet], [null.fileno()] * n)
                    other.recv(65536)
    wait_until(lambda: how_many() <= before, 10)
    ended(pooler.take_over())
