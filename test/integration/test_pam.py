# SPDX-License-Identifier: ISC
#
# test_pam.py - auth_type = pam: a service of PAM says whether a password is right.
#
# The service is a real one, a file in /etc/pam.d whose module runs a program of the test's; only
# root can put it there.  Who is called hang… is answered when the test says so, and whose password
# is late… when it says so again.
import contextlib
import fcntl
import functools
import os
import re
import stat
import time
from pathlib import Path

import pytest

import raw
import waiting
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import scratch_dir
from rig import log_in, shop
from test_hba import Rules
from test_login import conversation
from turnstile import ADMIN_PASSWORD, ADMIN_USER

SERVICES = Path("/etc/pam.d")
THREADS = 8  # half of JURY_THREADS: what one address may have
PASSWORD = "correct horse"
WRONG = "28P01"
PATIENCE = 60  # seconds: each answer is a few programs that the machine has to find time for

wait_until = functools.partial(waiting.wait_until, timeout=PATIENCE)

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not SERVICES.is_dir(),
    reason="NOT TESTED: only root can give PAM a service to ask")

JUDGE = """#!/bin/sh
password=$(tr -d '\\0')
echo "$PAM_TYPE $PAM_SERVICE $PAM_USER $PAM_RHOST" >> {dir}/asked
case $PAM_USER in
hang*) flock -s {dir}/go true ;;
expired*) [ "$PAM_TYPE" = auth ] || exit 1 ;;
nobody*) exit 1 ;;
esac
case $password in
late*) flock -s {dir}/go_late true ;;
esac
[ "$PAM_TYPE" = account ] || grep -Fqx "$PAM_USER $password" {dir}/passwords
"""


class Gate:
    """A file that programs lock in passing.  It is open when the test has gone, however it went."""

    def __init__(self, path):
        self.file = path.open("w")
        path.chmod(0o644)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def open(self):
        self.file.close()


class Service:
    """A service of PAM, and what it was asked."""

    def __init__(self):
        self.dir = scratch_dir("pam")
        self.name = "pgturnstile-test-" + self.dir.name.replace("_", "-")
        self.others = []
        self.gate, self.late_gate = Gate(self.dir / "go"), Gate(self.dir / "go_late")
        judge = self.dir / "judge"
        judge.write_text(JUDGE.format(dir=self.dir))
        judge.chmod(0o755)
        self.asked_file = self.dir / "asked"
        self.asked_file.touch()
        self.asked_file.chmod(stat.S_IRUSR | stat.S_IWUSR | stat.S_IWOTH | stat.S_IROTH)
        self.know({"anna": PASSWORD, "expired": PASSWORD, APP_USER: APP_PASSWORD,
                   ADMIN_USER: ADMIN_PASSWORD})
        program = f"pam_exec.so quiet expose_authtok {judge}"
        self.put(self.name, f"auth required {program}", f"account required {program}")

    def know(self, passwords):
        """Nobody else gets in."""
        path = self.dir / "passwords"
        path.write_text("".join(f"{user} {password}\n" for user, password in passwords.items()))
        path.chmod(0o644)

    def put(self, name, *lines):
        (SERVICES / name).write_text("\n".join(lines) + "\n")
        self.others.append(name)
        return name

    def asked(self, kind="auth"):
        """Users, in the order in which they were asked for."""
        return [line.split()[2] for line in self.asked_file.read_text().splitlines()
                if line.startswith(kind)]

    def go(self):
        self.gate.open()

    def go_late(self):
        self.late_gate.open()

    def remove(self):
        self.go()
        self.go_late()
        for name in self.others:
            (SERVICES / name).unlink()


@pytest.fixture
def service():
    made = Service()
    yield made
    made.remove()


@pytest.fixture
def start(primary, turnstile, service):
    """PAM judges everybody but the console's operator; servers see one user."""
    def start_with(database=None, rules=None, **settings):
        rules = rules or ["host all all all pam pamservice=" + service.name]
        return turnstile(shop(primary, {**Rules().settings(*rules), **settings},
                              database or {"user": APP_USER, "password": APP_PASSWORD}))
    return start_with


@pytest.fixture
def pooler(start):
    return start()


def refusal(t, user, secret=PASSWORD, dbname=APP_DATABASE):
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t, user, secret, dbname).close()
    return refused.value.fields


def judge(t):
    return next(row for row in t.admin("SHOW JUDGES") if row["judge"] == "pam")


def begin(t, user, source="127.0.0.1", secret=PASSWORD):
    """A client that has sent its password and waits."""
    client = raw.RawClient(t.port, source=source, timeout=PATIENCE)
    client.send(raw.startup({"user": user, "database": APP_DATABASE}))
    assert client.message().number == 3
    client.send(raw.password(secret))
    return client


@contextlib.contextmanager
def hanging(t, service, count=THREADS, source="127.0.0.1"):
    with contextlib.ExitStack() as stack:
        clients = []
        for n in range(count):
            clients.append(stack.enter_context(begin(t, f"hang{n}", source)))
            wait_until(lambda n=n: len(service.asked()) == n + 1, what="it is asked")
        yield clients
        service.go()


# --- who gets in ----------------------------------------------------------------------------------
@pytest.mark.tsan
def test_the_right_password_lets_in(pooler, service):
    """Whoever is not in auth_file, too."""
    with log_in(pooler, "anna", PASSWORD) as client:
        assert client.rows("SELECT current_user, 2") == [(APP_USER, "2")]
    assert service.asked() == service.asked("account") == ["anna"]
    assert judge(pooler).items() >= {"good": 1, "wrong": 0, "failed": 0, "error": None}.items()


def test_the_server_gets_the_same_password(primary, start):
    t = start(database={"auth_user": ""}, server_tls_sslmode="disable")
    with log_in(t, APP_USER, APP_PASSWORD) as client:
        assert client.rows("SELECT current_user") == [(APP_USER,)]


def test_for_all_with_auth_type(primary, turnstile, service):
    """The console's users as well; without a file of users."""
    t = turnstile(shop(primary, {"auth_type": "pam", "auth_pam_service": service.name,
                                 "auth_file": ""}, {"user": APP_USER, "password": APP_PASSWORD}))
    with log_in(t, "anna", PASSWORD) as client:
        assert client.rows("SELECT 2") == [("2",)]
    assert t.admin("SHOW VERSION")
    assert refusal(t, ADMIN_USER, "wrong", "pgturnstile")["C"] == WRONG
    assert service.asked() == ["anna", ADMIN_USER, ADMIN_USER]


def test_it_is_told_where_one_comes_from(pooler, service):
    with contextlib.suppress(raw.LoginRefused), raw.RawClient(pooler.port, source="127.0.0.3") as c:
        c.login("anna", APP_DATABASE, "wrong")
    assert service.asked_file.read_text() == f"auth {service.name} anna 127.0.0.3\n"


@pytest.mark.parametrize("user", ["nobody_at_all", "expired", APP_USER])
def test_strangers_hear_the_same_as_wrong_passwords(pooler, user):
    """So does who has an account that is not valid any more."""
    heard = conversation(pooler, user, APP_DATABASE)
    assert heard[0][:2] == ("R", 3)
    assert str(heard).replace(user, "anna") == str(conversation(pooler, "anna", APP_DATABASE))
    assert refusal(pooler, "expired")["C"] == WRONG


@pytest.mark.parametrize("secret", ["", "x" * 8192, PASSWORD + " ", PASSWORD[:-1]])
def test_other_passwords_do_not(pooler, service, secret):
    """One that is empty or endless is not even asked about: some judges take it for none at all."""
    service.know({"anna": ""} if not secret else {"anna": PASSWORD})
    assert refusal(pooler, "anna", secret)["C"] == WRONG
    assert len(service.asked()) == (secret[:1] not in ("", "x"))


def test_i9_passwords_are_in_no_log(start):
    t = start(verbose=3)
    log_in(t, "anna", PASSWORD).close()
    assert refusal(t, "anna", "battery staple")["C"] == WRONG
    assert not t.log_contains(f"{PASSWORD}|battery staple")


# --- when it cannot say ---------------------------------------------------------------------------
def test_who_cannot_be_asked_lets_nobody_in(start, service):
    """In the words of a wrong password; what is wrong is for the operator."""
    broken = service.put(service.name + "-broken", "auth required pgturnstile_no_such_module.so")
    t = start(rules=["host all anna all pam pamservice=" + broken,
                     "host all all all pam pamservice=" + service.name])
    known = refusal(t, "nobody_at_all")
    assert str(refusal(t, "anna")).replace("anna", "nobody_at_all") == str(known)
    t.wait_log("pam gives no answer: ")
    assert judge(t)["failed"] == 1 and judge(t)["error"]
    assert any(row["kind"] == "judge" for row in t.admin("SHOW EVENTS"))


def test_a_failure_of_theirs_is_no_guess(start, service):
    broken = service.put(service.name + "-broken", "auth required pgturnstile_no_such_module.so")
    t = start(rules=["host all all all pam pamservice=" + broken], login_failures_max=1)
    assert [refusal(t, "anna")["C"] for _ in range(3)] == [WRONG] * 3
    assert t.admin("SHOW LOGINS") == []


@pytest.mark.tsan
def test_who_is_not_answered_is_let_go(start, service):
    """After client_login_timeout, in the words of a wrong password; others are served meanwhile."""
    t = start()
    with begin(t, "hang0") as client:
        log_in(t, "anna", PASSWORD).close()
        assert judge(t)["asked"] == 1
        with t.run_with_config({"pgturnstile": {"client_login_timeout": 2}}):
            end = client.until_closed()
    assert end[0].fields["C"] == WRONG
    assert end[0].fields["M"] == refusal(t, "nobody")["M"].replace("nobody", "hang0")
    t.wait_log("gives no answer within client_login_timeout")
    assert judge(t)["asked"] == 1 and judge(t)["longest_us"] > 1_000_000
    service.go()
    wait_until(lambda: judge(t)["asked"] == 0, what="its thread is free again")
    log_in(t, "anna", PASSWORD).close()


@pytest.mark.tsan
def test_the_process_ends_while_one_hangs(pooler, service):
    with begin(pooler, "hang0"):
        wait_until(lambda: judge(pooler)["asked"] == 1, what="it is asked")
        pooler.stop()


# --- who waits ------------------------------------------------------------------------------------
@pytest.mark.tsan
def test_who_has_left_is_not_asked_about(pooler, service):
    with hanging(pooler, service):
        with begin(pooler, "anna"):
            wait_until(lambda: judge(pooler)["waiting"] == 1, what="it waits")
        wait_until(lambda: judge(pooler)["waiting"] == 0, what="it waits no more")
    wait_until(lambda: judge(pooler)["asked"] == 0, what="all have been answered")
    assert "anna" not in service.asked()


def test_who_leaves_while_it_is_asked_about(pooler, service):
    with begin(pooler, "hang0"):
        wait_until(lambda: judge(pooler)["asked"] == 1, what="it is asked")
    service.know({"hang0": PASSWORD})
    service.go()
    wait_until(lambda: judge(pooler)["asked"] == 0, what="it was answered")
    assert judge(pooler)["good"] == 1


def test_one_address_does_not_keep_others_waiting(pooler, service):
    """It leaves threads for them, however many of its questions hang."""
    with hanging(pooler, service, THREADS - 1), contextlib.ExitStack() as stack:
        stack.enter_context(begin(pooler, "anna", secret="late, and wrong"))
        wait_until(lambda: len(service.asked()) == THREADS, what="it has all threads that it may have")
        for n in range(5):
            stack.enter_context(begin(pooler, f"hang_late{n}"))
            wait_until(lambda n=n: judge(pooler)["waiting"] == n + 1, what="it waits")
        stack.enter_context(begin(pooler, "hang_other", "127.0.0.9"))
        wait_until(lambda: service.asked()[THREADS:] == ["hang_other"], what="it is asked about at once")
        assert judge(pooler)["waiting"] == 5
        service.go_late()  # one of its threads is free then
        wait_until(lambda: service.asked()[THREADS + 1:] == ["hang_late0"], what="the next one is asked about")
        assert judge(pooler)["waiting"] == 4
    wait_until(lambda: judge(pooler)["asked"] == judge(pooler)["waiting"] == 0, what="all are answered, or gone")


def test_one_that_ends_makes_room_for_two(pooler, service):
    """Three addresses have twelve of sixteen threads.  Behind the end of one, another address may have
    one more, and then its own again."""
    sources = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
    with contextlib.ExitStack() as stack:
        for n in range(12):
            user, secret = ("anna", "late, and wrong") if n == 11 else (f"hang{n}", PASSWORD)
            stack.enter_context(begin(pooler, user, sources[n // 4], secret))
            wait_until(lambda n=n: len(service.asked()) == n + 1, what="it is asked")
        for n, source in enumerate(sources[1:]):
            stack.enter_context(begin(pooler, f"hang_next{n}", source))
            wait_until(lambda n=n: judge(pooler)["waiting"] == n + 1, what="it waits")
        service.go_late()
        wait_until(lambda: sorted(service.asked()[12:]) == ["hang_next0", "hang_next1"], what="both are asked about")
        service.go()


def test_guesses_at_once_are_no_more_guesses(start, service):
    """What was judged when there had been enough wrong ones is told to nobody, right or wrong.

    One more is told after a second, the next after two more, then four: what was heard must have
    taken its time, however long the machine takes for all of it.
    """
    allowed, right = 3, "late, but right"
    t = start(login_failures_max=allowed, login_backoff_max="1h", workers=1)
    service.know({"hangman": right})
    with contextlib.ExitStack() as stack:
        *wrong, last = [stack.enter_context(begin(t, "hangman", secret=secret))
                        for secret in [*"abcdef", right]]
        began = time.monotonic()
        wait_until(lambda: judge(t)["asked"] == 7, what="all are asked about")
        service.go()
        heard = [client.until_closed()[0].fields["C"] for client in wrong]
        service.go_late()
        end = last.until("E", "Z")[-1]
        took = time.monotonic() - began
    heard.append(end.fields["C"] if end.kind == "E" else "in")
    assert set(heard) <= {WRONG, "57P03", "in"} and heard.count(WRONG) >= allowed
    told = len(heard) - heard.count("57P03")
    assert took >= 2 ** (told - allowed) - 1


# --- rules and reloads ----------------------------------------------------------------------------
def test_rules_name_their_services(start, service):
    t = start(rules=["host all nina all pam", "host all all all pam pamservice=" + service.name],
              auth_pam_service=service.put(service.name + "-open", "auth required pam_permit.so",
                                           "account required pam_permit.so"))
    log_in(t, "nina", "whatever").close()
    assert refusal(t, "anna", "whatever")["C"] == WRONG
    assert service.asked() == ["anna"]


def test_i8_a_reload_in_between_asks_again(start, service):
    """What was judged by one service is not taken for another's verdict."""
    service.know({"hang0": PASSWORD})
    t = start()
    with begin(t, "hang0") as client:
        wait_until(lambda: judge(t)["asked"] == 1, what="it is asked")
        strict = service.put(service.name + "-strict", "auth required pam_deny.so")
        t.reload({"pgturnstile": Rules().settings("host all all all pam pamservice=" + strict)})
        service.go()
        end = client.until_closed()
    assert end[0].fields["C"] == "57P01"


def test_i8_a_reload_that_makes_it_another_user_asks_again(start, service):
    """What was judged of hang.acme says nothing of hang, of the tenant acme."""
    service.know({"hang.acme": PASSWORD})
    t = start()
    with begin(t, "hang.acme") as client:
        wait_until(lambda: judge(t)["asked"] == 1, what="it is asked")
        t.reload({"pgturnstile": {"tenant_by": "user_suffix"}, "tenants": {"acme": {"business_id": 1}}})
        service.go()
        end = client.until_closed()
    assert end[0].fields["C"] == "57P01"


@pytest.mark.parametrize(("rule", "fault"), [
    ("host all all all pam pamservice=../shadow", "pamservice= is for pam"),
    ("host all all all md5 pamservice=x", "pamservice= is for pam"),
    ("host all all all pam pam_use_hostname=1", "names of hosts are not looked up"),
])
def test_faults_are_told(pooler, rule, fault):
    with pytest.raises(Exception, match=re.escape(fault)):
        pooler.reload({"pgturnstile": Rules().settings(rule)})


def test_passwords_in_the_clear_are_noted(start):
    """On other than loopback addresses: the password is good elsewhere, too."""
    start(listen_addr="127.0.0.1, 127.0.0.2").wait_log("come in the clear unless clients use TLS")
