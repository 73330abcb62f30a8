# SPDX-License-Identifier: ISC
#
# test_allow_from.py - where users and tenants may come from, and what who comes from elsewhere hears.
import psycopg
import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from rig import log_in, shop, sqlstate
from tenancy import SETTING, TENANTS, tenants
from test_login import conversation
from test_tenant_switch import switching
from turnstile import ADMIN_USER

HOME, ELSEWHERE = "127.0.0.1", "127.0.0.2"
WRONG = ("28P01", f'password authentication failed for user "{APP_USER}"')


def refusal(t, user=APP_USER, source=HOME, secret=APP_PASSWORD, dbname=APP_DATABASE):
    """None, or the SQLSTATE and the words."""
    with raw.RawClient(t.port, source=source) as client:
        try:
            client.login(user, dbname, secret)
        except raw.LoginRefused as refused:
            return refused.fields["C"], refused.fields["M"]
    return None


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain", "trust", "any"])
def test_a_user_comes_from_its_networks_only(primary, turnstile, auth_type):
    t = turnstile({**shop(primary, {"auth_type": auth_type}),
                   "users": {APP_USER: {"allow_from": "10.0.0.0/8, 127.0.0.2/32"}}})
    assert refusal(t, source=HOME) == WRONG
    assert refusal(t, source=ELSEWHERE) is None
    assert t.log_contains(f'"{APP_USER}" may not come from there: allow_from') == 1


@pytest.mark.parametrize("auth_type", ["scram-sha-256", "md5", "plain"])
def test_elsewhere_nobody_learns_who_there_is_nor_whether_a_password_is_right(
        primary, turnstile, auth_type):
    """Byte for byte what is said to a wrong one, up to the salt."""
    t = turnstile({**shop(primary, {"auth_type": auth_type}),
                   "users": {"allow_1": {"allow_from": ELSEWHERE}}},
                  {"allow_1": "secret", "allow_2": "secret"})
    barred, free, nobody = (conversation(t, user, APP_DATABASE)
                            for user in ("allow_1", "allow_2", "allow_3"))
    assert str(barred) == str(free).replace("allow_2", "allow_1") \
        == str(nobody).replace("allow_3", "allow_1")
    wrong, right = ([refusal(t, "allow_1", secret=secret)] for secret in ("wrong", "secret"))
    assert wrong == right and wrong[0][0] == "28P01"


def test_a_right_password_is_not_acknowledged_before_the_refusal(primary, turnstile):
    """A server's last word in SCRAM proves that it, and so the client, knows the secret."""
    t = turnstile({**shop(primary), "users": {APP_USER: {"allow_from": ELSEWHERE}}})
    seen = []
    with raw.RawClient(t.port) as client:
        message = client.message
        client.message = lambda: seen.append(message()) or seen[-1]
        with pytest.raises(raw.LoginRefused):
            client.login(APP_USER, APP_DATABASE, APP_PASSWORD)
    assert [m.number for m in seen if m.kind == "R"] == [10, 11]


def test_unix_sockets_are_local(primary, turnstile):
    t = turnstile({**shop(primary), "users": {APP_USER: {"allow_from": "127.0.0.0/8"},
                                              "allow_1": {"allow_from": "local"}}},
                  {"allow_1": APP_PASSWORD})
    for user, host, comes_in in ((APP_USER, t.host, True), (APP_USER, str(t.dir), False),
                                 ("allow_1", t.host, False)):
        try:
            psycopg.connect(host=host, port=t.port, user=user, password=APP_PASSWORD,
                            dbname=APP_DATABASE).close()
            assert comes_in
        except psycopg.OperationalError as e:
            assert not comes_in and "password authentication failed" in str(e)


def test_the_console_has_users_too(primary, turnstile):
    t = turnstile({**shop(primary), "users": {ADMIN_USER: {"allow_from": ELSEWHERE}}})
    secret = t.users[ADMIN_USER]
    assert refusal(t, ADMIN_USER, HOME, secret, "pgturnstile")[0] == "28P01"
    assert refusal(t, ADMIN_USER, ELSEWHERE, secret, "pgturnstile") is None


# --- tenants --------------------------------------------------------------------------------------
def test_a_tenant_comes_from_its_networks_only(primary, turnstile):
    """Its own list instead of its tier's; and that of its user besides."""
    t = turnstile(tenants(primary, tiers={"basic": {"allow_from": ELSEWHERE}},
                          changes={"tenants": {"globex": {"business_id": TENANTS["globex"],
                                                          "tier": "basic", "allow_from": HOME}}}))
    assert refusal(t, f"{APP_USER}.acme", HOME)[0] == "28P01"
    assert refusal(t, f"{APP_USER}.acme", ELSEWHERE) is None
    assert refusal(t, f"{APP_USER}.globex", ELSEWHERE)[0] == "28P01"
    assert refusal(t, f"{APP_USER}.globex", HOME) is None
    t.reload({"users": {APP_USER: {"allow_from": ELSEWHERE}}})
    assert refusal(t, f"{APP_USER}.globex", HOME)[0] == "28P01"
    assert {row["name"]: row["allow_from"] for row in t.admin("SHOW TENANTS")} \
        == {"acme": ELSEWHERE, "globex": HOME, "initech": ELSEWHERE}
    assert t.admin("SHOW TIERS")[0]["allow_from"] == ELSEWHERE


def test_sessions_stay_when_their_list_changes(primary, turnstile):
    """As when their password or a rule does: KILL ends them."""
    t = turnstile(tenants(primary))
    with log_in(t, f"{APP_USER}.acme") as client:
        t.admin(f"SET TENANT acme allow_from = '{ELSEWHERE}'")
        assert client.rows("SELECT 2") == [("2",)]
        assert refusal(t, f"{APP_USER}.acme", HOME)[0] == "28P01"
        t.admin("KILL TENANT acme")
        client.until_closed()
    t.admin("RESUME TENANT acme")
    t.admin("RESET TENANT acme allow_from")
    assert refusal(t, f"{APP_USER}.acme", HOME) is None


def test_i1_a_session_does_not_choose_a_tenant_that_may_not_come_from_there(primary, turnstile):
    t = turnstile(switching(primary, changes={"tenants": {
        "globex": {"business_id": TENANTS["globex"], "tier": "basic", "allow_from": ELSEWHERE}}}))
    with log_in(t) as client:
        for choice in (f"SET {SETTING} = '{TENANTS['globex']}'",
                       f"SELECT set_config('{SETTING}', '{TENANTS['globex']}', false)"):
            assert sqlstate(client.query(choice)) == "42501"
        assert sqlstate(client.query(f"SET {SETTING} = '{TENANTS['acme']}'")) is None
        assert client.rows(f"SELECT current_setting('{SETTING}'), 2") == [(TENANTS["acme"], "2")]
        assert sqlstate(client.query(f"SET {SETTING} = '{TENANTS['globex']}'")) == "42501"
        assert client.rows(f"SELECT current_setting('{SETTING}'), 3") == [(TENANTS["acme"], "3")]


# --- lists that make no sense ---------------------------------------------------------------------
@pytest.mark.parametrize("section, name", [("users", APP_USER), ("tiers", "basic")])
def test_i8_a_list_that_makes_no_sense_is_refused_with_its_line(primary, turnstile, section, name):
    t = turnstile(tenants(primary))
    with pytest.raises(psycopg.Error, match="RELOAD failed"):
        t.reload({section: {name: {"allow_from": "10.0.0.0/8, intranet"}}})
    t.wait_log(rf'pgturnstile.ini:\d+: {name}: allow_from: "intranet": names of hosts')
    assert refusal(t, f"{APP_USER}.acme") is None
