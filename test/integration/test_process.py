# SPDX-License-Identifier: ISC
#
# test_process.py - the process: command line, signals, reload, pidfile, background, limits.
#
# Knows sessions only as something that is there when a signal comes.
"""How pgturnstile starts, is told what to do and ends."""
import contextlib
import os
import pwd
import re
import resource
import signal
import socket
import struct
import subprocess
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg.rows import dict_row

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import SERVICE_USER, Port, give_to_service_user, listened_at, listens, scratch_dir, spawn
from rig import log_in, memory_kib, shop, sqlstate, wait_backends
from turnstile import (ADMIN_PASSWORD, ADMIN_USER, SANITIZER_OPTIONS, Turnstile, merge,
                       built_binary)
from waiting import wait_until


def run(*arguments, env=None):
    """Run to the end: exit code, stdout, stderr."""
    done = subprocess.run([built_binary(), *map(str, arguments)], capture_output=True, text=True,
                          timeout=60, check=False,
                          env={**SANITIZER_OPTIONS, **os.environ, **(env or {})})
    return done.returncode, done.stdout, done.stderr


class Wrapped(Turnstile):
    """Started by way of another program, or with options of its own."""

    before, options = (), ()

    def _command(self):
        return [*self.before, built_binary(), *self.options, self.ini]


@contextlib.contextmanager
def wrapped(config, before=(), options=()):
    t = Wrapped(config, {APP_USER: APP_PASSWORD})
    t.before, t.options = before, options
    try:
        yield t.start()
    finally:
        t.remove()


def refuses(port):
    """Whether nobody is taken in any more."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except TimeoutError:  # it came as the socket was closed, and is not answered any more
        return False
    except ConnectionRefusedError:
        return True
    return False


# --- the command line -----------------------------------------------------------------------------
def test_help_and_version():
    code, out, _ = run("--help")
    assert code == 0 and "--upstream" in out
    code, out, _ = run("--version")
    assert code == 0 and out.startswith("pgturnstile ")


@pytest.mark.parametrize("arguments", [
    [], ["a.ini", "b.ini"], ["--no-such"], ["--listen", "127.0.0.1:1", "a.ini"],
    ["--upstream", "postgres://u@h/d", "a.ini"], ["--describe=nothing"], ["--describe=ini", "x"],
])
def test_arguments_that_make_no_sense(arguments):
    code, out, err = run(*arguments)
    assert code == 1 and not out and err


def test_check_of_a_good_file(primary):
    t = Turnstile(shop(primary), {APP_USER: APP_PASSWORD})
    code, out, err = run("--check", t.ini)
    assert (code, out, err) == (0, f"{t.ini}: OK\n", "")
    assert not listens(t.port)
    t.remove()


def test_check_says_all_that_is_wrong():
    ini = scratch_dir("check") / "bad.ini"
    ini.write_text("[pgturnstile]\npool_moed = session\nlisten_port = many\n"
                   "[databases]\nshop = host=h prot=1\n")
    code, out, err = run("--check", ini)
    assert code == 1 and not out
    assert re.search(rf"{ini}:2: .*pool_moed.*pool_mode", err)
    assert re.search(rf"{ini}:3: listen_port", err)
    assert re.search(rf"{ini}:5: .*prot", err)


def test_check_looks_at_certificates():
    ini = scratch_dir("check") / "tls.ini"
    ini.write_text("[pgturnstile]\nlisten_addr = 127.0.0.1\nauth_type = any\n"
                   "client_tls_sslmode = require\nclient_tls_key_file = /nowhere/key\n"
                   "client_tls_cert_file = /nowhere/cert\n")
    code, _, err = run("--check", ini)
    assert code == 1 and "/nowhere/" in err


def test_start_with_a_bad_file_ends_like_check():
    ini = scratch_dir("check") / "bad.ini"
    ini.write_text("[pgturnstile]\nno_such = 1\n")
    code, _, err = run(ini)
    assert code == 1 and f"{ini}:2: unknown setting \"no_such\"" in err


def test_address_in_use(turnstile, primary):
    t = turnstile(shop(primary))
    other = Turnstile(shop(primary), {APP_USER: APP_PASSWORD})
    other.config["pgturnstile"]["listen_port"] = t.port
    other.config["pgturnstile"]["unix_socket_dir"] = ""
    other.write()
    code, _, err = run(other.ini)
    assert code == 1 and f"127.0.0.1:{t.port}" in err
    other.remove()


# --- without a file -------------------------------------------------------------------------------
@contextlib.contextmanager
def upstream(uri, **env):
    """pgturnstile --upstream on a port of its own; yields the port and the process."""
    port = Port()
    log = scratch_dir("upstream") / "log"
    process = spawn([built_binary(), "--upstream", uri, "--listen", f"127.0.0.1:{port.number}"],
                    log, "KILL", {**SANITIZER_OPTIONS, **os.environ, **env}, service_user=False)
    try:
        wait_until(lambda: listens(port.number) or process.poll() is not None, 30)
        yield port.number, process
        process.send_signal(signal.SIGQUIT)
        assert process.wait(30) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
        port.release()


def connect(port, user, dbname, password=None):
    return psycopg.connect(host="127.0.0.1", port=port, user=user, dbname=dbname,
                           password=password, autocommit=True)


def test_upstream_with_a_password(primary):
    uri = f"postgres://{APP_USER}:{APP_PASSWORD}@127.0.0.1:{primary.port}/{APP_DATABASE}"
    with upstream(uri) as (port, _):
        with connect(port, APP_USER, "postgres", APP_PASSWORD) as c:
            assert c.execute("SELECT current_database()").fetchone() == ("postgres",)
        with connect(port, APP_USER, "pgturnstile", APP_PASSWORD) as c:
            assert c.execute("SHOW VERSION").fetchall()
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            connect(port, APP_USER, "postgres", "wrong")


def test_upstream_without_a_password(primary):
    with upstream(f"postgres://postgres@127.0.0.1:{primary.port}/postgres") as (port, _):
        with connect(port, "postgres", APP_DATABASE) as c:
            assert c.execute("SELECT current_user").fetchone() == ("postgres",)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            connect(port, APP_USER, APP_DATABASE, APP_PASSWORD)


def test_i9_the_password_of_a_uri_is_not_in_the_list_of_processes(primary):
    uri = f"postgres://{APP_USER}:{APP_PASSWORD}@127.0.0.1:{primary.port}/{APP_DATABASE}"
    with upstream(uri) as (port, process):
        wait_until(lambda: listens(port))
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        assert APP_PASSWORD.encode() not in b" ".join(arguments)
        # And what is no secret is there, for who looks for it.
        assert uri.replace(f":{APP_PASSWORD}", "").encode() in arguments
        with connect(port, APP_USER, APP_DATABASE, APP_PASSWORD) as c, \
                connect(port, APP_USER, "pgturnstile", APP_PASSWORD) as console:
            console.execute("RELOAD")
            assert c.execute("SELECT 2").fetchone() == (2,)


def test_i9_an_uri_that_is_refused_is_not_repeated():
    code, _, err = run("--upstream", "postgres://app:hunter2@db?target=any")
    assert code == 1 and "hunter2" not in err


@pytest.mark.parametrize("way", ["PGPASSWORD", "PGPASSFILE"])
def test_upstream_with_a_password_of_the_environment(primary, way):
    uri = f"postgres://{APP_USER}@127.0.0.1:{primary.port}/{APP_DATABASE}"
    passfile = scratch_dir("pass") / "pgpass"
    passfile.write_text(f"127.0.0.1:{primary.port}:*:{APP_USER}:{APP_PASSWORD}\n")
    passfile.chmod(0o600)
    with upstream(uri, **{way: APP_PASSWORD if way == "PGPASSWORD" else str(passfile)}) as (port, _):
        with connect(port, APP_USER, APP_DATABASE, APP_PASSWORD) as c:
            assert c.execute("SELECT current_user").fetchone() == (APP_USER,)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            connect(port, APP_USER, APP_DATABASE, "wrong")


def test_a_password_file_that_others_may_read_is_refused():
    passfile = scratch_dir("pass") / "pgpass"
    passfile.write_text("*:*:*:*:secret\n")
    passfile.chmod(0o644)
    code, _, err = run("--upstream", "postgres://app@127.0.0.1/shop", env={"PGPASSFILE": passfile})
    assert code == 1 and "PGPASSFILE" in err and "chmod 600" in err


# --- signals --------------------------------------------------------------------------------------
def test_sigquit_ends_at_once(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        client.query("BEGIN")
        t.signal(signal.SIGQUIT)
        assert t.wait_exit() == 0
        client.until_closed()


@pytest.mark.tsan
def test_sigterm_waits_for_clients(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        t.signal(signal.SIGTERM)
        wait_until(lambda: refuses(t.port))
        assert client.rows("SELECT 1") == [("1",)]
        assert t.is_running()
    assert t.wait_exit() == 0


@pytest.mark.tsan
def test_i3_who_has_connected_before_sigterm_is_served(primary, turnstile):
    """In the kernel's queue, or anywhere behind it; it would not be there before it sends, if told to defer."""
    t = turnstile(shop(primary, {"tcp_defer_accept": 0}))
    with contextlib.ExitStack() as stack:
        t.signal(signal.SIGSTOP)
        early = [stack.enter_context(raw.RawClient(t.port)) for _ in range(20)]
        t.signal(signal.SIGTERM)
        t.signal(signal.SIGCONT)
        for client in early:
            client.login(APP_USER, APP_DATABASE, APP_PASSWORD)
            assert client.rows("SELECT 2") == [("2",)]
        assert refuses(t.port)
    assert t.wait_exit() == 0


def test_who_comes_late_is_not_waited_for(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client, socket.socket(socket.AF_UNIX) as silent:
        t.signal(signal.SIGTERM)
        wait_until(lambda: refuses(t.port))
        silent.connect(str(t.dir / f".s.PGSQL.{t.port}"))
        # Who is behind it in the queue has been taken in.
        with pytest.raises(psycopg.OperationalError, match="the pooler is shutting down"):
            psycopg.connect(host=str(t.dir), port=t.port, dbname=APP_DATABASE, user=APP_USER)
        client.close()
        # Sooner than client_login_timeout.
        assert t.wait_exit() == 0


def test_who_comes_late_by_the_unix_socket_may_look_and_cancel(primary, turnstile):
    t = turnstile(shop(primary))
    by_unix = {"host": str(t.dir), "port": t.port, "autocommit": True}
    with log_in(t) as client:
        t.signal(signal.SIGTERM)
        wait_until(lambda: refuses(t.port))
        with pytest.raises(psycopg.OperationalError, match="the pooler is shutting down"):
            psycopg.connect(**by_unix, dbname=APP_DATABASE, user=APP_USER, password=APP_PASSWORD)
        with psycopg.connect(**by_unix, dbname="pgturnstile", user=ADMIN_USER,
                             password=ADMIN_PASSWORD) as console:
            assert console.execute("SHOW CLIENTS").fetchall()
        client.send(raw.query("SELECT pg_sleep(600)"))
        wait_backends(primary, 1, "query LIKE '%pg_sleep(600)%' AND state = 'active'")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(t.dir / f".s.PGSQL.{t.port}"))
            sock.sendall(raw.cancel_request(client.pid, client.key))
            assert sock.recv(1) == b""
        assert sqlstate(client.until("Z")) == "57014"
    assert t.wait_exit() == 0


@contextlib.contextmanager
def coming_and_going(t, threads=3):
    """Clients that log in, ask and leave: how often so far, and what has gone wrong."""
    stop, logins, failures = threading.Event(), [], []

    def come_and_go():
        while not stop.is_set():
            try:
                with log_in(t, timeout=60) as client:
                    assert client.rows("SELECT 2") == [("2",)]
                logins.append(1)
            except Exception as e:  # pylint: disable=broad-except
                failures.append(repr(e))

    crowd = [threading.Thread(target=come_and_go) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    try:
        yield logins, failures
    finally:
        stop.set()
        for thread in crowd:
            thread.join()


@contextlib.contextmanager
def beside(t):
    """Another process at the same port."""
    u = Turnstile(t.config, {APP_USER: APP_PASSWORD})
    try:
        u.port = t.port
        u.config["pgturnstile"].update(listen_port=t.port, unix_socket_dir=u.dir)
        u.write()
        u.start()
        u.wait_log("is ready")
        yield u
    finally:
        u.remove()


def test_i3_a_rolling_restart_with_so_reuseport_is_nobody_s_event(primary):
    with wrapped(shop(primary, {"so_reuseport": 1})) as old, log_in(old) as stays, \
            coming_and_going(old) as (logins, failures):

        def go_on():
            before = len(logins)
            wait_until(lambda: len(logins) > before + 20 or failures, 60)
            assert not failures

        stays.query("BEGIN")
        go_on()
        with beside(old) as new:
            old.signal(signal.SIGTERM)
            wait_until(lambda: len(listened_at(old.port)) == 1, 30)
            go_on()
            served = old.log_contains(r"\blogin\n")
            go_on()
            # Whoever comes comes to the new one, and who was there goes on.
            assert old.log_contains(r"\blogin\n") == served
            assert stays.rows("SELECT 2") == [("2",)]
            assert raw.kinds(stays.query("COMMIT")) == "CZ"
            assert old.is_running()
            stays.close()
            assert old.wait_exit() == 0
            go_on()
            assert new.log_contains(r"\blogin\n") > 20


def test_second_sigterm_ends_at_once(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t):
        t.signal(signal.SIGTERM)
        t.wait_log("waiting until the last client")
        t.signal(signal.SIGTERM)
        assert t.wait_exit() == 0


@pytest.mark.tsan
def test_sigint_waits_for_transactions(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as busy, log_in(t) as idle:
        busy.query("BEGIN; SELECT 2")
        t.signal(signal.SIGINT)
        t.wait_log("waiting until the last transaction")
        assert busy.rows("SELECT 2") == [("2",)]
        # A new transaction has to wait, and there will be no server for it.
        idle.send(raw.query("SELECT 2"))
        assert raw.kinds(busy.query("COMMIT")) == "CZ"
        assert t.wait_exit() == 0
        assert raw.find(idle.until_closed(), "D") == []


# --- shutdown_timeout -----------------------------------------------------------------------------
OVERDUE = "the pooler is shutting down: shutdown_timeout is over"


def last_words(client):
    fields = raw.find(client.until_closed(), "E")[-1].fields
    return fields["S"], fields["C"], fields["M"]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT, "SHUTDOWN WAIT_FOR_CLIENTS",
                                  "SHUTDOWN WAIT_FOR_SERVERS"])
def test_shutdown_timeout_cuts_off_who_stays(primary, turnstile, told):
    t = turnstile(shop(primary, {"shutdown_timeout": "1s", "default_pool_size": 3}))
    with log_in(t) as idle, log_in(t) as open_, log_in(t) as running:
        open_.query("BEGIN; SELECT 2")
        running.send(raw.query("SELECT pg_sleep(601)"))
        wait_backends(primary, 1, "query LIKE '%pg_sleep(601)%' AND state = 'active'")
        if isinstance(told, str):
            t.admin(told)
        else:
            t.signal(told)
        for client in (idle, open_, running):
            assert last_words(client) == ("FATAL", "57P01", OVERDUE)
        assert t.wait_exit() == 0
    assert t.log_contains("shutdown_timeout is over: 3 clients cut off, 2 of them in a transaction or statement")
    # The transaction is over, and the statement, too.
    wait_backends(primary, 0)


def test_shutdown_timeout_cuts_off_who_queues_and_who_logs_in(primary, turnstile):
    t = turnstile(shop(primary, {"shutdown_timeout": "1s", "default_pool_size": 1}))
    with log_in(t) as running, log_in(t) as queued, raw.RawClient(t.port) as newcomer, raw.RawClient(t.port) as silent:
        running.send(raw.query("SELECT pg_sleep(602)"))
        wait_backends(primary, 1, "query LIKE '%pg_sleep(602)%' AND state = 'active'")
        queued.send(raw.query("SELECT 2"))
        wait_until(lambda: sum(pool["cl_waiting"] for pool in t.admin("SHOW POOLS")) == 1)
        newcomer.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert newcomer.message().kind == "R"
        wait_until(lambda: dict(map(dict.values, t.admin("SHOW LISTS")))["login_clients"] == 2)
        t.signal(signal.SIGTERM)
        for client in (running, queued, newcomer, silent):
            assert last_words(client) == ("FATAL", "57P01", OVERDUE)
        assert t.wait_exit() == 0
    assert t.log_contains("shutdown_timeout is over: 4 clients cut off, 1 of them in a transaction or statement")
    wait_backends(primary, 0)


def test_who_leaves_before_shutdown_timeout_ends_it(primary, turnstile):
    t = turnstile(shop(primary, {"shutdown_timeout": "1h"}))
    with log_in(t) as client:
        t.signal(signal.SIGTERM)
        wait_until(lambda: refuses(t.port))
        assert client.rows("SELECT 2") == [("2",)]
    assert t.wait_exit() == 0
    assert not t.log_contains("shutdown_timeout is over")


def test_shutdown_timeout_of_a_reload_while_it_waits(primary, turnstile):
    """Without one it waits on: what the reload brings ends it."""
    t = turnstile(shop(primary))
    with log_in(t) as client:
        t.signal(signal.SIGTERM)
        wait_until(lambda: refuses(t.port))
        assert client.rows("SELECT 2") == [("2",)]
        t.config["pgturnstile"]["shutdown_timeout"] = "1us"
        t.write()
        t.signal(signal.SIGHUP)
        assert last_words(client) == ("FATAL", "57P01", OVERDUE)
        assert t.wait_exit() == 0


def test_sigusr_pauses_and_resumes(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        t.signal(signal.SIGUSR1)
        wait_until(lambda: t.admin("SHOW DATABASES")[-1]["paused"])
        client.send(raw.query("SELECT 1"))
        wait_until(lambda: t.admin("SHOW POOLS")[-1]["cl_waiting"] == 1)
        t.signal(signal.SIGUSR2)
        assert raw.kinds(client.until("Z")) == "TDCZ"


def test_signal_while_nobody_is_there(turnstile, primary):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        t = turnstile(shop(primary))
        t.signal(number)
        assert t.wait_exit() == 0


# --- reload ---------------------------------------------------------------------------------------
@pytest.mark.tsan
def test_sighup_reloads(primary, turnstile):
    t = turnstile(shop(primary))
    t.config["pgturnstile"]["default_pool_size"] = 7
    t.write()
    t.signal(signal.SIGHUP)
    t.wait_log("the new configuration is in force")
    assert t.admin("SHOW DATABASES")[-1]["pool_size"] == 7


def test_i8_reload_is_all_or_nothing(primary, turnstile):
    t = turnstile(shop(primary))
    with log_in(t) as client:
        with pytest.raises(psycopg.Error, match="RELOAD failed"):
            t.reload({"pgturnstile": {"default_pool_size": 7, "pool_moed": "session"},
                      "databases": {"other": {"host": primary.host, "port": primary.port}}})
        assert t.log_contains(rf"{t.ini}:\d+: unknown setting .pool_moed")
        assert [d["name"] for d in t.admin("SHOW DATABASES")] == ["pgbouncer", APP_DATABASE]
        assert t.admin("SHOW DATABASES")[-1]["pool_size"] == 2
        assert client.rows("SELECT 1") == [("1",)]
    t.reload({"pgturnstile": {"pool_moed": None}})
    assert t.admin("SHOW DATABASES")[-1]["pool_size"] == 7


def test_i8_reload_without_its_certificates_changes_nothing(primary, turnstile):
    t = turnstile(shop(primary))
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        t.reload({"pgturnstile": {"default_pool_size": 7, "client_tls_sslmode": "require",
                                  "client_tls_key_file": "/nowhere/key",
                                  "client_tls_cert_file": "/nowhere/cert"}})
    assert t.admin("SHOW DATABASES")[-1]["pool_size"] == 2
    with log_in(t) as client:
        assert client.rows("SELECT 1") == [("1",)]
    t.reload({"pgturnstile": {"client_tls_sslmode": None}})


def test_reload_keeps_what_only_a_start_can_change(primary, turnstile):
    t = turnstile(shop(primary))
    before = t.config["pgturnstile"]["listen_port"]
    t.reload({"pgturnstile": {"listen_port": 1}})
    assert t.log_contains("listen_port: the new value needs a restart")
    t.reload({"pgturnstile": {"listen_port": before}})


def test_i8_reload_in_the_middle_of_a_login(primary, turnstile):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert client.message().number == 10
        t.reload({"pgturnstile": {"default_pool_size": 3}})
        scram = raw.Scram(APP_PASSWORD)
        first = scram.client_first().encode()
        client.send(raw.message("p", "SCRAM-SHA-256", len(first).to_bytes(4, "big") + first))
        server_first = client.message().body[4:].decode()
        client.send(raw.message("p", scram.client_final(server_first).encode()))
        assert raw.find(client.until("Z", "E"), "E") == []
        assert client.rows("SELECT 1") == [("1",)]


def test_i8_reload_takes_the_password_that_is_being_proved(primary, turnstile):
    t = turnstile(shop(primary))
    with raw.RawClient(t.port) as client:
        client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
        assert client.message().number == 10
        t.users[APP_USER] = "another"
        t.reload()
        scram = raw.Scram(APP_PASSWORD)
        first = scram.client_first().encode()
        client.send(raw.message("p", "SCRAM-SHA-256", len(first).to_bytes(4, "big") + first))
        server_first = client.message().body[4:].decode()
        client.send(raw.message("p", scram.client_final(server_first).encode()))
        assert client.until_closed()[-1].fields["C"] == "57P01"


@pytest.mark.tsan
def test_reload_while_a_server_is_being_connected(turnstile):
    """What a connection on its way was started with lives as long as it needs it."""
    asked = []

    def login(session):
        asked.append(session)
        wait_until(lambda: len(asked) > 1)
        session.send(raw.auth_ok(), raw.backend_key_data(1, b"1234"), raw.ready())

    with raw.FakeServer(login=login) as server:
        t = turnstile(shop(server, {"auth_type": "trust"}, {"application_name": "before"}))
        with raw.RawClient(t.port) as client:
            client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
            wait_until(lambda: asked)
            t.reload({"databases": {APP_DATABASE: {"host": server.host, "port": server.port,
                                                   "application_name": "after"}}})
            asked.append(None)
            client.until("Z")


# --- pidfile and background -----------------------------------------------------------------------
def test_pidfile(primary):
    pidfile = scratch_dir("pid") / "pid"
    pidfile.write_text("999999\n")  # of one that crashed
    config = shop(primary, {"pidfile": pidfile})
    with wrapped(config) as t:
        wait_until(lambda: pidfile.read_text() == f"{t.pid()}\n", what=pidfile.read_text)
        other = Turnstile(config, {APP_USER: APP_PASSWORD})
        code, _, err = run(other.ini)
        assert code == 1 and f"process {t.pid()} runs already" in err
        assert pidfile.exists()
        other.remove()
    assert not pidfile.exists()


def test_daemon_needs_a_log(primary):
    t = Turnstile(shop(primary), {APP_USER: APP_PASSWORD})
    code, _, err = run("-d", t.ini)
    assert code == 1 and "logfile" in err and not listens(t.port)
    t.remove()


def test_daemon(primary):
    folder = scratch_dir("daemon")
    t = Turnstile(shop(primary, {"pidfile": folder / "pid", "logfile": folder / "log"}),
                  {APP_USER: APP_PASSWORD})
    assert run("-d", t.ini) == (0, "", "")
    pid = int(wait_until(lambda: (folder / "pid").read_text()))
    try:
        wait_until(lambda: listens(t.port))
        assert os.getsid(pid) == pid
        with log_in(t) as client:
            assert client.rows("SELECT 1") == [("1",)]
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not (folder / "pid").exists(), 30)
        assert "the end" in wait_until((folder / "log").read_text)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        t.remove()


def test_log_is_opened_again(primary, turnstile):
    folder = scratch_dir("log")
    t = turnstile(shop(primary, {"logfile": folder / "log"}))
    (folder / "log").rename(folder / "old")
    t.signal(signal.SIGHUP)
    wait_until(lambda: (folder / "log").exists()
               and "in force" in (folder / "log").read_text())
    assert "is ready" in (folder / "old").read_text()


def test_quiet_logs_to_the_file_only(primary):
    log = scratch_dir("log") / "log"
    with wrapped(shop(primary, {"logfile": log}), options=["-q"]) as t:
        wait_until(lambda: "is ready" in log.read_text())
        assert t.log_text() == ""


# --- user, limits, supervisor ---------------------------------------------------------------------
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("how", ["setting", "option"])
def test_becomes_another_user(primary, how):
    config = shop(primary, {"user": SERVICE_USER} if how == "setting" else None)
    with wrapped(config, options=[] if how == "setting" else ["-u", SERVICE_USER]) as t:
        uid = str(pwd.getpwnam(SERVICE_USER).pw_uid)
        with open(f"/proc/{t.pid()}/status") as status:
            uids = next(line.split()[1:] for line in status if line.startswith("Uid:"))
        assert uids == [uid] * 4
        with log_in(t) as client:
            assert client.rows("SELECT 1") == [("1",)]
        t.reload({"pgturnstile": {"default_pool_size": 3}})


def test_unknown_user(primary):
    t = Turnstile(shop(primary), {APP_USER: APP_PASSWORD})
    code, _, err = run("-u", "no-such-user", t.ini)
    assert code == 1 and "no-such-user" in err
    t.remove()


def test_i6_out_of_descriptors(primary):
    """Who cannot be taken in waits; those who are in go on; afterwards all is as before."""
    with wrapped(shop(primary, {"max_client_conn": 500}),
                 before=["prlimit", "--nofile=80:80", "--"]) as t, log_in(t) as client:
        t.wait_log("the limit of open files is 80, but the configuration may need")
        with contextlib.ExitStack() as crowd:
            for _ in range(100):
                crowd.enter_context(raw.RawClient(t.port))
            t.wait_log("cannot accept connections")
            assert client.rows("SELECT 1") == [("1",)]
        t.wait_log("connections are accepted again")
        with log_in(t) as other:
            assert other.rows("SELECT 1") == [("1",)]


def test_i4_reload_without_a_descriptor(primary):
    """It is refused and nothing has changed; once there is one, the same files are taken."""
    with wrapped(shop(primary)) as t, t.connect(t.console, ADMIN_USER, row_factory=dict_row) as console:
        pid = t.pid()
        _, most = before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        t.config = merge(t.config, {"pgturnstile": {"max_client_conn": 77}})
        t.write()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, most))
        with pytest.raises(psycopg.errors.ConfigFileError, match="Too many open files"):
            console.execute("RELOAD")
        assert _setting(console, "max_client_conn") != "77"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        console.execute("RELOAD")
        assert _setting(console, "max_client_conn") == "77"


def _setting(console, name):
    return next(row["value"] for row in console.execute("SHOW CONFIG") if row["key"] == name)


def _kib(t, what):
    with open(f"/proc/{t.pid()}/status") as status:
        return int(re.search(rf"^{what}:\s+(\d+) kB", status.read(), re.M)[1])


def test_i6_out_of_memory(primary):
    """Who asks for what is not there is told and leaves; others are served, and afterwards there is room again."""
    settings = {"max_client_prepared_memory": "1GB", "max_prepared_memory": "1GB"}
    with wrapped(shop(primary, settings)) as t, log_in(t) as other:
        assert other.rows("SELECT 2") == [("2",)]
        if not memory_kib(t):
            pytest.skip("a sanitizer has address space of its own")
        subprocess.run(["prlimit", "--pid", str(t.pid()), f"--as={(_kib(t, 'VmSize') + 4096) * 1024}"], check=True)
        for times in 1, 2:
            with log_in(t) as hungry:
                heard = []
                for number in range(1000):
                    hungry.send(raw.parse(f"s{number}", f"SELECT {number} /* {'x' * 900_000} */"), raw.sync())
                    heard += hungry.until("Z", "E")
                    if heard[-1].kind == "E":
                        break
                assert sqlstate(heard) == "53200" and "out of memory" in heard[-1].fields["M"]
                assert hungry.until_closed() == []
            assert other.rows("SELECT 2") == [("2",)]
            wait_until(lambda times=times: t.log_text().count("memory was gone, and is there again") == times)
        assert other.prepared("SELECT $1::text", ("x" * 500_000,))


def test_it_warns_of_too_few_descriptors_for_a_flood(primary):
    """300 clients, twice as many strangers, and 300 who are being turned away."""
    with wrapped(shop(primary, {"max_client_conn": 300}), before=["prlimit", "--nofile=1200:1200", "--"]) as t:
        t.wait_log("the limit of open files is 1200, but the configuration may need")
    with wrapped(shop(primary, {"max_client_conn": 300}), before=["prlimit", "--nofile=1500:1500", "--"]) as t:
        t.wait_log("is ready")
        assert not t.log_contains("the limit of open files")


def speaks_to_supervisors():
    linked = subprocess.run(["ldd", built_binary()], capture_output=True, text=True, check=False)
    return "libsystemd" in linked.stdout


def test_supervisor_is_told(primary, monkeypatch):
    if not speaks_to_supervisors():
        pytest.skip("built without libsystemd")
    path = str(scratch_dir("notify") / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(path)
        supervisor.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        with wrapped(shop(primary)) as t:
            assert supervisor.recv(100) == b"READY=1"
            t.signal(signal.SIGHUP)
            assert supervisor.recv(100).startswith(b"RELOADING=1")
            assert supervisor.recv(100) == b"READY=1"
            t.signal(signal.SIGTERM)
            assert supervisor.recv(100) == b"STOPPING=1"
            assert t.wait_exit() == 0


def test_supervisor_is_told_who_takes_over(primary, turnstile, monkeypatch):
    """By the process that it knows, and then by the other; the end of the first is not the service's."""
    if not speaks_to_supervisors():
        pytest.skip("built without libsystemd")
    path = str(scratch_dir("notify") / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        supervisor.bind(path)
        supervisor.settimeout(30)

        def heard():
            """Who says it, and what."""
            text, said, _, _ = supervisor.recvmsg(100, socket.CMSG_SPACE(12))
            return struct.unpack("3i", said[0][2][:12])[0], text.decode()

        monkeypatch.setenv("NOTIFY_SOCKET", path)
        t = turnstile(shop(primary))
        old = t.pid()
        assert heard() == (old, "READY=1")
        before = t.take_over()
        new = t.pid()
        assert {heard() for _ in range(3)} == {(old, f"MAINPID={new}"), (new, f"MAINPID={new}"),
                                               (new, "READY=1")}
        assert before.wait(30) == 0
        t.signal(signal.SIGTERM)
        assert heard() == (new, "STOPPING=1")


# Who runs as root is root's in /proc, dumped or not.
AS_SERVICE = ["setpriv", "--reuid", SERVICE_USER, "--clear-groups", "--"] if os.getuid() == 0 else []


def is_hidden(pid):
    """A process that may not be dumped belongs to root in /proc, whoever it runs as."""
    return os.stat(f"/proc/{pid}/mem").st_uid == 0


def opened(fifo):
    """To write to, as soon as somebody waits for what is in it."""
    def try_it():
        with contextlib.suppress(OSError):
            return open(fifo, "wb", 0, opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
    return wait_until(try_it)


def skip_if_for_debuggers(t):
    t.wait_log("is ready")
    if t.log_contains("a build for debuggers"):
        pytest.skip("a build for debuggers")


def test_i9_memory_is_not_dumped(primary):
    with wrapped(shop(primary), before=AS_SERVICE) as t:
        skip_if_for_debuggers(t)
        assert is_hidden(t.pid())


@pytest.mark.parametrize("mode", ["--quiet", "--check", "--doctor"])
def test_i9_memory_is_not_dumped_while_files_are_read(primary, mode):
    """The file of users keeps it waiting, when it has the passwords of databases already."""
    with wrapped(shop(primary), before=AS_SERVICE) as t:
        skip_if_for_debuggers(t)
        t.stop()
        fifo = t.dir / "users.fifo"
        os.mkfifo(fifo, 0o600)
        give_to_service_user(fifo)
        t.config["pgturnstile"]["auth_file"] = fifo
        t.write()
        with subprocess.Popen([*AS_SERVICE, built_binary(), mode, t.ini], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            try:
                with opened(fifo):
                    assert is_hidden(process.pid)
            finally:
                process.kill()
