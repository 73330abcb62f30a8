# SPDX-License-Identifier: ISC
#
# test_throttle.py - login_failures_max: who guesses has to wait, and nobody else.
import contextlib
import itertools
import time

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import shop
from test_flood import console
from test_login import conversation
from waiting import wait_until

HOME, ELSEWHERE = "127.0.0.1", "127.0.0.2"
TRY_AGAIN = "too many failed logins from this address"
FIRST_WAIT = 1  # seconds; each failure behind it doubles them


@pytest.fixture
def pooler(primary, turnstile):
    def start(settings=None):
        return turnstile(shop(primary, {"login_failures_max": 3, **(settings or {})}))
    return start


def log_in(t, user=APP_USER, secret=APP_PASSWORD, source=HOME, dbname=APP_DATABASE):
    """None, or the SQLSTATE and the words of the refusal."""
    with raw.RawClient(t.port, source=source) as client:
        try:
            client.login(user, dbname, secret)
        except raw.LoginRefused as refused:
            return refused.fields["C"], refused.fields["M"]
    return None


def guess(t, count=3, user=APP_USER, **kwargs):
    return [log_in(t, user, "wrong", **kwargs) for _ in range(count)]


def has_to_wait(t, user=APP_USER, source=HOME):
    return log_in(t, user, APP_PASSWORD, source) == ("57P03", TRY_AGAIN)


def is_shut_out(t, last_guess, source=HOME):
    """Behind the last guess, which is made here, a right password has to wait.  Where the machine is so
    slow that the time is over by then, it is asked again behind one guess more."""
    for number in itertools.count():
        start = time.monotonic()
        last_guess(number)
        if has_to_wait(t, source=source):
            return True
        if time.monotonic() - start < FIRST_WAIT << number:
            return False


def were_looked_at(codes, seconds):
    """Three wrong passwords, and in so long a time no more than that allows: one more after a second,
    the next one two seconds later."""
    more = codes.count("28P01") - 3
    return codes[:3] == ["28P01"] * 3 and FIRST_WAIT * (2 ** more - 1) <= seconds and {*codes[3:]} <= {"28P01", "57P03"}


def test_who_guesses_has_to_wait(pooler):
    t = pooler()
    assert [code for code, _ in guess(t, 2)] == ["28P01"] * 2
    assert log_in(t) is None
    assert is_shut_out(t, lambda _: guess(t, 1))
    wait_until(lambda: log_in(t) is None, 60, "its time is over")


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256", "trust"])
def test_it_does_not_tell_who_there_is(pooler, auth_type):
    """Failures count alike for a user who is there and one who is not; a success wipes none."""
    t = pooler({"auth_type": auth_type, "login_backoff_max": "1h"})
    for user in ("nobody_at_all", "another") if auth_type == "trust" else (APP_USER, "nobody_at_all"):
        if auth_type != "trust":
            assert log_in(t) is None or user != APP_USER
        start = time.monotonic()
        heard = guess(t, 8, user)
        assert were_looked_at([code for code, _ in heard], time.monotonic() - start)
        assert {text for code, text in heard if code == "57P03"} <= {TRY_AGAIN}


def test_a_success_wipes_nothing(pooler):
    """It would tell that somebody uses that name from there, and one's own account would free all."""
    t = pooler({"login_backoff_max": "1h"})
    guess(t, 2)
    assert log_in(t) is None
    assert is_shut_out(t, lambda _: guess(t, 1))


def test_nobody_is_locked_out_from_other_addresses(pooler):
    t = pooler({"login_backoff_max": "1h"})
    guess(t, 2, source=ELSEWHERE)
    assert is_shut_out(t, lambda _: guess(t, 1, source=ELSEWHERE), ELSEWHERE)
    assert log_in(t) is None


def test_other_users_of_the_address_get_in(pooler):
    t = pooler({"login_backoff_max": "1h"})
    guess(t, 10, "somebody_else")
    assert log_in(t) is None


def test_who_tries_many_names_has_to_wait_with_all(pooler):
    t = pooler({"login_backoff_max": "1h"})

    def guess_another(number):
        assert guess(t, 1, f"throttle_{number}", source=ELSEWHERE)[0][0] == "28P01"

    for number in range(-29, 0):
        guess_another(number)
    assert is_shut_out(t, guess_another, ELSEWHERE)
    assert log_in(t) is None


def test_many_connections_are_no_more_guesses(pooler):
    """What each of them was asked for before counts when its proof comes."""
    t = pooler({"auth_type": "plain", "login_backoff_max": "1h"})
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(raw.RawClient(t.port)) for _ in range(20)]
        for client in crowd:
            client.send(raw.startup({"user": APP_USER, "database": APP_DATABASE}))
            assert client.message().number == 3
        codes = []
        start = time.monotonic()
        for client in crowd:
            client.send(raw.password("wrong"))
            codes.append(client.until_closed()[-1].fields["C"])
    assert were_looked_at(codes, time.monotonic() - start)


def test_a_trusted_address_waits_by_user_only(pooler):
    """Behind it are others who guess nothing; and a list that is changed counts at once."""
    t = pooler({"login_backoff_max": "1h", "login_trusted_from": "127.0.0.2, 10.0.0.0/8"})

    def guess_another(number, source=HOME):
        assert guess(t, 1, f"throttle_{number}", source=source)[0][0] == "28P01"

    for number in range(-30, 0):
        guess_another(number, ELSEWHERE)
    for number in range(-29, 0):
        guess_another(number)
    assert is_shut_out(t, guess_another)
    assert log_in(t, source=ELSEWHERE) is None
    guess(t, 2, source=ELSEWHERE)
    assert is_shut_out(t, lambda _: guess(t, 1, source=ELSEWHERE), ELSEWHERE)


def test_unix_sockets_never_wait(pooler):
    """An operator gets in, whoever else has failed."""
    t = pooler({"login_backoff_max": "1h"})
    guess(t, 50)
    assert console(t, "SHOW VERSION")


def test_it_is_seen_and_does_not_fill_the_log(pooler):
    t = pooler({"login_backoff_max": "1h"})
    guesses, refused = 2, 0
    guess(t, guesses, source=ELSEWHERE)
    while refused < 20:
        guesses += 1
        assert guess(t, 1, source=ELSEWHERE)[0][0] == "28P01"
        while refused < 20 and has_to_wait(t, source=ELSEWHERE):
            refused += 1
        assert guesses < 3 + 10  # the last one's time is a quarter of an hour
    rows = {row["user"]: row for row in t.admin("SHOW LOGINS")}
    assert {row["address"] for row in rows.values()} == {ELSEWHERE}
    assert (rows[APP_USER]["failures"], rows[APP_USER]["refused"]) == (guesses, refused)
    assert (rows[""]["failures"], rows[""]["refused"], rows[""]["wait"]) == (3, 0, 0)
    assert [e["kind"] for e in t.admin("SHOW EVENTS")].count("throttle") == 1
    assert t.log_text().count("further ones have to wait") == 1
    assert TRY_AGAIN not in t.log_text().replace("closing because: " + TRY_AGAIN, "")


def test_the_time_is_shown(pooler):
    t = pooler({"login_backoff_max": "1h"})

    def is_shown():
        guess(t, 1)
        return any(row["user"] == APP_USER and row["wait"] > 0 for row in t.admin("SHOW LOGINS"))

    wait_until(is_shown, 60)


def test_without_the_setting_nobody_waits(pooler):
    t = pooler({"login_failures_max": 0})
    quiet = conversation(t, APP_USER, APP_DATABASE)
    guess(t, 50)
    assert conversation(t, APP_USER, APP_DATABASE) == quiet
    assert log_in(t) is None and t.admin("SHOW LOGINS") == []


@pytest.mark.slow
def test_an_old_password_of_one_user_keeps_no_other_out(pooler):
    """However long it goes on: only many names are counted for the address."""
    t = pooler({"login_backoff_max": "100ms"})
    for _ in range(40):
        wait_until(lambda: guess(t, 1, "somebody_else")[0][0] == "28P01", 5, "it may try again")
    rows = {row["user"]: row["failures"] for row in t.admin("SHOW LOGINS")}
    assert rows["somebody_else"] == 40 and rows.get("", 0) <= 3
    assert log_in(t) is None
