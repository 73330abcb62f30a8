# SPDX-License-Identifier: ISC
#
# test_jwt.py - auth_type = jwt: a signed token as password says who it is, and whose.
#
# What makes a token good is tested in test/unit/test_jwt.c.
import base64
import hashlib
import hmac
import json
import subprocess
import time

import pytest

import raw
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from machine import give_to_service_user, scratch_dir
from rig import log_in, shop
from tenancy import ROWS_EACH, SETTING, TENANTS, make_ledger, show, tenants
from test_hba import Rules
from test_login import conversation
from turnstile import merge

SECRET = "a secret that only the issuer knows"
USER = "jwt_anna"  # on no server: databases have one user
SERVER = {"user": APP_USER, "password": APP_PASSWORD}
WRONG = "28P01"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(claims=None, header=None, sign=None):
    """For USER, for an hour."""
    said = {"aud": "shop-db", "exp": int(time.time()) + 3600, "role": USER, **(claims or {})}
    text = encoded(json.dumps(header or {"alg": "HS256"}).encode()) + b"." + encoded(
        json.dumps({k: v for k, v in said.items() if v is not None}).encode())
    sign = sign or (lambda t: hmac.new(SECRET.encode(), t, hashlib.sha256).digest())
    return (text + b"." + encoded(sign(text))).decode()


class Keys:
    """Files beside a pooler."""

    def __init__(self):
        self.dir = scratch_dir("jwt")

    def put(self, name, text):
        path = self.dir / name
        path.write_text(text)
        path.chmod(0o600)
        give_to_service_user(path)
        return path

    def make_rsa(self, name="rsa"):
        """Its public key, in PEM."""
        private = self.dir / (name + ".key")
        subprocess.run(["openssl", "genrsa", "-out", private, "2048"], check=True,
                       stderr=subprocess.DEVNULL)
        return subprocess.run(["openssl", "rsa", "-in", private, "-pubout"], check=True, text=True,
                              capture_output=True).stdout

    def jwk(self, name="rsa", **members):
        modulus = subprocess.run(["openssl", "rsa", "-in", self.dir / (name + ".key"), "-noout",
                                  "-modulus"], check=True, text=True, capture_output=True).stdout
        n = bytes.fromhex(modulus.strip().split("=")[1])
        return {"kty": "RSA", "n": encoded(n).decode(), "e": "AQAB", **members}

    def rs256(self, claims=None, name="rsa", **header):
        def sign(text):
            return subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.dir / (name + ".key")],
                                  input=text, check=True, capture_output=True).stdout
        return token(claims, {"alg": "RS256", **header}, sign)


@pytest.fixture
def keys():
    return Keys()


@pytest.fixture
def settings(keys):
    """Everybody but the console's operator shows one."""
    return {**Rules().settings("host all all all jwt"), "jwt_audience": "shop-db",
            "jwt_secret_file": keys.put("secret", SECRET + "\n")}


@pytest.fixture
def pooler(primary, turnstile, settings):
    return turnstile(shop(primary, settings, SERVER))


def refusal(t, user, secret, dbname=APP_DATABASE, **parameters):
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t, user, secret, dbname, **parameters).close()
    return refused.value.fields


# --- who it is ------------------------------------------------------------------------------------
def test_a_token_lets_its_user_in(pooler):
    """And nobody else; the server never gets to see it."""
    with log_in(pooler, USER, token()) as client:
        assert client.rows("SELECT current_user, 2") == [(APP_USER, "2")]
    assert refusal(pooler, "jwt_bert", token())["C"] == WRONG
    log_in(pooler, "jwt_bert", token({"role": ["x", "jwt_bert"]})).close()


@pytest.mark.parametrize("claims", [{"exp": 1}, {"exp": None}, {"aud": "other"}, {"role": None},
                                    {"nbf": 4102444800}])
def test_other_tokens_do_not(pooler, claims):
    assert refusal(pooler, USER, token(claims))["C"] == WRONG
    pooler.wait_log("token refused: ")


def test_for_all_with_auth_type(primary, turnstile, settings):
    """Without a file of users; on the console, too."""
    t = turnstile(shop(primary, {**settings, "auth_type": "jwt", "auth_file": "", "admin_users": USER},
                       SERVER))
    with log_in(t, USER, token()) as client:
        assert client.rows("SELECT 2") == [("2",)]
    with log_in(t, USER, token(), "pgturnstile") as console:
        assert console.rows("SHOW VERSION")
    assert refusal(t, USER, "x", "pgturnstile")["C"] == WRONG


def test_strangers_hear_the_same_as_wrong_tokens(pooler):
    known = conversation(pooler, USER, APP_DATABASE)
    assert known[0][:2] == ("R", 3)
    assert str(conversation(pooler, "jwt_nobody", APP_DATABASE)).replace("jwt_nobody", USER) == str(known)
    assert refusal(pooler, USER, token(sign=lambda t: b"x" * 32))["M"] == refusal(pooler, USER, "x")["M"]


def test_who_guesses_has_to_wait(primary, turnstile, settings):
    t = turnstile(shop(primary, {**settings, "login_failures_max": 2, "login_backoff_max": "1h"}, SERVER))
    assert [refusal(t, USER, "x")["C"] for _ in range(3)] == [WRONG, WRONG, "57P03"]


def test_i9_tokens_are_in_no_log(primary, turnstile, settings):
    t = turnstile(shop(primary, {**settings, "verbose": 3}, SERVER))
    good, bad = token(), token({"exp": 1})
    log_in(t, USER, good).close()
    assert refusal(t, USER, bad)["C"] == WRONG
    for part in (*good.split(".")[1:], *bad.split(".")[1:], SECRET):
        assert part not in t.log_text()
    assert SECRET not in str(t.admin("SHOW CONFIG"))


# --- keys -----------------------------------------------------------------------------------------
def test_a_public_key_is_no_secret(primary, turnstile, settings, keys):
    """Who knows it (everybody) signs nothing with it."""
    pem = keys.make_rsa()
    t = turnstile(shop(primary, merge({"x": settings}, {"x": {
        "jwt_secret_file": None, "jwt_key_file": keys.put("key.pem", pem)}})["x"], SERVER))
    log_in(t, USER, keys.rs256()).close()
    for known in pem, pem.strip(), "":
        forged = token(sign=lambda text, known=known: hmac.new(known.encode(), text,
                                                               hashlib.sha256).digest())
        assert refusal(t, USER, forged)["C"] == WRONG
    for header in {"alg": "none"}, {"alg": "RS512"}, {"alg": "RS256", "crit": ["exp"]}:
        assert refusal(t, USER, token(header=header, sign=lambda t: b""))["C"] == WRONG


def test_a_reload_reads_the_keys_again(primary, turnstile, settings, keys):
    keys.make_rsa("old")
    keys.make_rsa("new")
    path = keys.put("keys.json", json.dumps({"keys": [keys.jwk("old", kid="1", use="sig"),
                                                      {"kty": "oct", "k": "AAAA"}]}))
    t = turnstile(shop(primary, {**settings, "jwt_key_file": path}, SERVER))
    log_in(t, USER, keys.rs256(name="old", kid="1")).close()
    assert refusal(t, USER, keys.rs256(name="new", kid="2"))["C"] == WRONG
    assert refusal(t, USER, keys.rs256(name="old", kid="2"))["C"] == WRONG
    keys.put("keys.json", json.dumps({"keys": [keys.jwk("new", kid="2")]}))
    t.reload()
    log_in(t, USER, keys.rs256(name="new", kid="2")).close()
    assert refusal(t, USER, keys.rs256(name="old", kid="1"))["C"] == WRONG
    keys.put("keys.json", "{}")
    with pytest.raises(Exception, match="no set of JSON Web Keys"):
        t.reload()
    log_in(t, USER, keys.rs256(name="new", kid="2")).close()


@pytest.mark.parametrize(("change", "fault"), [
    ({"jwt_audience": None}, "jwt needs it: a token for something else"),
    ({"jwt_secret_file": None}, "jwt needs keys"),
    ({"jwt_algorithms": "RS256, none"}, "none: there is no such algorithm"),
    ({"tenant_by": "token, user_suffix"}, "token goes alone"),
])
def test_faults_are_told(pooler, change, fault):
    with pytest.raises(Exception, match=fault):
        pooler.reload({"pgturnstile": change})


def test_rules_map_roles(primary, turnstile, settings):
    """As they do names of certificates."""
    t = turnstile(shop(primary, {**settings, **Rules().settings(
        "host all all all jwt map=m", ident=["m /^(.*)@example\\.com$ \\1"])}, SERVER))
    log_in(t, USER, token({"role": USER + "@example.com"})).close()
    assert refusal(t, USER, token())["C"] == WRONG


# --- tenants --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def ledger(primary):
    make_ledger(primary, table="jwt_ledger")
    yield primary
    primary.sql("DROP TABLE jwt_ledger", dbname=APP_DATABASE)


@pytest.fixture(params=["dedicated", "shared"])
def by_token(request, ledger, turnstile, settings):
    return turnstile(tenants(ledger, {**settings, "tenant_by": "token", "workers": 4,
                                      "tenant_pool": request.param},
                             changes={"databases": {APP_DATABASE: {
                                 "host": ledger.host, "port": ledger.port, **SERVER}}}))


@pytest.mark.tsan
def test_i1_the_token_says_whose_it_is(by_token):
    """Wherever that one is at home."""
    for _ in range(2):
        for number in TENANTS.values():
            for said in number, int(number):
                with log_in(by_token, USER, token({"tenant": said})) as client:
                    assert show(client, SETTING) == number
                    assert client.rows("SELECT business_id FROM jwt_ledger") == [(number,)] * ROWS_EACH


def test_i1_nothing_else_says_it(by_token):
    own, other = TENANTS["acme"], TENANTS["globex"]
    good = token({"tenant": own})
    assert refusal(by_token, USER, good, **{SETTING: other})["C"] == "42501"
    assert refusal(by_token, USER, good, options=f"-c {SETTING}={other}")["C"] == "42501"
    with log_in(by_token, USER, good, **{SETTING: own}) as client:
        assert show(client, SETTING) == own
        assert raw.find(client.query(f"SET {SETTING} = '{other}'"), "E")[0].fields["C"] == "42501"
        assert show(client, SETTING) == own


@pytest.mark.parametrize(("tenant", "state"), [(None, "28000"), ("", "42501"), ("4711", "28000"),
                                               ("acme", "28000"), (["42"], "28000")])
def test_i1_without_a_tenant_nobody_comes_in(by_token, tenant, state):
    assert refusal(by_token, USER, token({"tenant": tenant}))["C"] == state
    assert refusal(by_token, USER, token({"tenant": tenant}, sign=lambda t: b"x"))["C"] == WRONG
