# SPDX-License-Identifier: ISC
#
# test_ldap.py - auth_type = ldap: a directory says whether a password is right.
#
# The directory is a slapd on loopback, with the people of directory.py.
import contextlib
import re
import socket
import threading
from functools import partial

import pytest

import raw
import waiting
from certificates import make_authority
from conftest import APP_DATABASE, APP_PASSWORD, APP_USER
from directory import BASE, PASSWORD, PEOPLE, SEARCHER, SEARCHER_SECRET, SLAPD, Directory
from rig import shop
from test_hba import Rules
from test_login import conversation
from turnstile import ADMIN_PASSWORD, ADMIN_USER

WRONG = "28P01"
PATIENCE = 60

wait_until = partial(waiting.wait_until, timeout=PATIENCE)
pytestmark = pytest.mark.skipif(not SLAPD, reason="NOT TESTED: there is no slapd to ask")


@pytest.fixture(scope="module")
def directory():
    made = Directory()
    yield made
    made.remove()


@pytest.fixture
def own_directory():
    """One that a test may stop, or that is not like the others."""
    with contextlib.ExitStack() as stack:
        def make(**kwargs):
            made = Directory(**kwargs)
            stack.callback(made.remove)
            return made
        yield make


def server(directory):
    return f"ldapserver=127.0.0.1 ldapport={directory.port}"


def simple(directory, more=""):
    return f'{server(directory)} ldapprefix="uid=" ldapsuffix=",{PEOPLE}" {more}'


def search(directory, more=""):
    return f'{server(directory)} ldapbasedn="{BASE}" {more}'


@pytest.fixture
def start(primary, turnstile):
    """The directory judges everybody but the console's operator; servers see one user."""
    def start_with(options, database=None, **settings):
        lines = [options] if isinstance(options, str) else options
        rules = Rules().settings(*(f"host all all all ldap {line}" for line in lines))
        return turnstile(shop(primary, {"auth_ldap_timeout": "30s", **rules, **settings},
                              database or {"user": APP_USER, "password": APP_PASSWORD}))
    return start_with


def log_in(t, user="anna", secret=PASSWORD, dbname=APP_DATABASE):
    return raw.RawClient(t.port, timeout=PATIENCE).login(user, dbname, secret)


def refusal(t, user="anna", secret=PASSWORD, dbname=APP_DATABASE):
    with pytest.raises(raw.LoginRefused) as refused:
        log_in(t, user, secret, dbname).close()
    return refused.value.fields


def is_let_in(t, user="anna", secret=PASSWORD):
    with log_in(t, user, secret) as client:
        return client.rows("SELECT current_user, 2") == [(APP_USER, "2")]


def judge(t):
    return next(row for row in t.admin("SHOW JUDGES") if row["judge"] == "ldap")


# --- who gets in ----------------------------------------------------------------------------------
@pytest.mark.tsan
@pytest.mark.parametrize("kind", [simple, search])
def test_the_right_password_lets_in(start, directory, kind):
    """Whoever is not in auth_file, too."""
    t = start(kind(directory))
    assert is_let_in(t)
    assert refusal(t, secret="battery staple")["C"] == WRONG
    assert refusal(t, "nobody_at_all")["C"] == WRONG
    assert judge(t).items() >= {"good": 1, "wrong": 2, "failed": 0, "error": None}.items()


def test_the_server_gets_the_same_password(start, directory):
    t = start(search(directory), database={"auth_user": ""}, server_tls_sslmode="disable")
    assert is_let_in(t, APP_USER, APP_PASSWORD)


def test_for_all_with_auth_type(primary, turnstile, directory):
    """The console's users as well; without a file of users."""
    t = turnstile(shop(primary, {"auth_type": "ldap", "auth_file": "", "admin_users": "anna",
                                 "auth_ldap_options": search(directory)},
                       {"user": APP_USER, "password": APP_PASSWORD}))
    assert is_let_in(t)
    with log_in(t, dbname="pgturnstile") as console:
        assert console.query("SHOW VERSION")
    assert refusal(t, ADMIN_USER, ADMIN_PASSWORD, "pgturnstile")["C"] == WRONG


@pytest.mark.parametrize("options", [
    f'ldapurl="ldap://127.0.0.1:{{port}}/{BASE}?uid?sub"',
    f'ldapurl="ldap://127.0.0.1:{{port}}/{PEOPLE.replace(",", "%2C")}?uid,cn?one"',
    f'ldapurl="ldap://127.0.0.1:{{port}}/{BASE}??sub?(%26(objectClass=person)(cn=$username))"',
    f'ldapserver="127.0.0.1" ldapport={{port}} ldapbasedn="{BASE}" ldapsearchattribute=cn',
    f'ldapserver="127.0.0.1" ldapport={{port}} ldapbasedn="{BASE}" '
    'ldapsearchfilter="(|(uid=$username)(mail=$username))"',
])
def test_ways_to_say_where_to_search(start, directory, options):
    t = start(options.format(port=directory.port))
    assert is_let_in(t)
    assert refusal(t, secret="wrong")["C"] == WRONG


def test_the_scope_is_kept_to(start, directory):
    t = start(f'ldapurl="ldap://127.0.0.1:{directory.port}/{BASE}?uid?one"')
    assert refusal(t)["C"] == WRONG and judge(t)["wrong"] == 1


def test_two_entries_are_nobody(start, directory):
    """Whose password it is cannot be said, though both have it."""
    t = start(search(directory))
    assert refusal(t, "twin")["C"] == WRONG
    assert judge(t).items() >= {"wrong": 1, "failed": 0}.items()


def test_who_may_search(start, own_directory):
    closed = own_directory(searcher_only=True)
    who = f'ldapbinddn="{SEARCHER}" ldapbindpasswd="{SEARCHER_SECRET}"'
    assert is_let_in(start(search(closed, who)))
    assert closed.binds() == [SEARCHER, f"uid=anna,{PEOPLE}"]
    assert refusal(start(search(closed)))["C"] == WRONG


# --- names that mean something --------------------------------------------------------------------
@pytest.mark.parametrize("user", ["*", "ann*", "anna)(uid=*", "*)(objectClass=*", "\\61nna", "anna)(",
                                  "a*b(c)\\d*"])
def test_no_name_is_a_filter(start, directory, user):
    t = start(search(directory))
    before = len(directory.filters())
    assert refusal(t, user)["C"] == WRONG
    assert judge(t)["wrong"] == 1
    # Asked for as it stands, with what means something spelt as \xx.
    (asked,) = directory.filters()[before:]
    assert re.sub(r"\\([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)), asked).lower() \
        == f"(uid={user})".lower()
    assert asked.count("(") == 1 and "*" not in asked


def test_odd_names_get_in_by_what_they_are(start, directory):
    both = start([search(directory)]), start([simple(directory)])
    for t in both:
        assert is_let_in(t, "smith, john")
        assert is_let_in(t, "a*b(c)\\d")
        assert is_let_in(t)


@pytest.mark.parametrize("user", ["inner,uid=anna", "inner\\,uid=anna", "anna+cn=anna", "anna,ou=people",
                                  "#616e6e61", '"anna"'])
def test_no_name_is_a_part_of_another(start, directory, user):
    """The first would be the entry `inner` below anna, and its password is right."""
    t = start(simple(directory))
    before = len(directory.binds())
    assert refusal(t, user)["C"] == WRONG
    assert judge(t)["wrong"] == 1
    assert all(name.endswith("," + PEOPLE) and name.count("=") == 4
               for name in directory.binds()[before:])


@pytest.mark.parametrize("user", ["anna", "OTHER\\anna", "anna@elsewhere", "anna/x"])
def test_domains_are_not_said_by_the_user(start, directory, user):
    """With DOMAIN\\ before it, nothing can be escaped; such names are not even asked for."""
    t = start(f'{server(directory)} ldapprefix="EXAMPLE\\"')
    before = len(directory.log.read_text())
    assert refusal(t, user)["C"] == WRONG
    if user == "anna":  # the thread that accepts may tell so behind the answer
        wait_until(lambda: "ACCEPT" in directory.log.read_text()[before:])
    else:
        assert "ACCEPT" not in directory.log.read_text()[before:]


@pytest.mark.parametrize("kind", [simple, search])
@pytest.mark.parametrize("user", [" anna", "anna ", "an\tna", "smith,  john"])
def test_blanks_that_a_directory_does_not_see_make_no_user(start, directory, kind, user):
    """They would be other names of one entry; nobody is asked about them."""
    before = len(directory.log.read_text())
    t = start(kind(directory))
    assert refusal(t, user)["C"] == WRONG and judge(t)["wrong"] == 1
    assert "ACCEPT" not in directory.log.read_text()[before:]


@pytest.mark.parametrize("secret", ["", "x" * 8192, PASSWORD + " ", PASSWORD[:-1]])
def test_other_passwords_do_not(start, directory, secret):
    """To bind without a password is to bind as nobody, and is always a success."""
    before = len(directory.binds())
    assert refusal(start(simple(directory)), secret=secret)["C"] == WRONG
    assert (len(directory.binds()) > before) == (secret[:1] not in ("", "x"))


@pytest.mark.parametrize("user", ["nobody_at_all", "twin", APP_USER, "*"])
def test_strangers_hear_the_same_as_wrong_passwords(start, directory, user):
    t = start(search(directory))
    heard = conversation(t, user, APP_DATABASE)
    assert heard[0][:2] == ("R", 3)
    assert str(heard).replace(user, "anna") == str(conversation(t, "anna", APP_DATABASE))


# --- when it cannot say ---------------------------------------------------------------------------
@contextlib.contextmanager
def silent(says=b""):
    """A port that takes connections, and says this once it was told something, then nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    kept.append(connection)
                    if says and connection.recv(1000):
                        connection.sendall(says)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in kept:
            connection.close()


# ExtendedResponse: success, to the first request.
STARTTLS_GRANTED = bytes.fromhex("300c02010178070a010004000400")


@pytest.mark.tsan
@pytest.mark.parametrize(("options", "says"), [
    ('ldapprefix="cn="', b""),
    ('ldapbasedn="dc=x"', b""),
    ('ldapprefix="cn=" ldaptls=1', b""),
    ('ldapprefix="cn=" ldaptls=1', STARTTLS_GRANTED),
    ('ldapprefix="cn=" ldapscheme=ldaps', b""),
])
def test_one_who_says_nothing_is_not_waited_for(start, options, says):
    """Not longer than auth_ldap_timeout, at whichever step it falls silent; in the words of a wrong
    password."""
    with silent(says) as port:
        t = start(f"ldapserver=127.0.0.1 ldapport={port} {options}", auth_ldap_timeout="500ms",
                  client_login_timeout=0)
        told = refusal(t)
    assert told["C"] == WRONG and told["M"] == 'password authentication failed for user "anna"'
    t.wait_log("ldap gives no answer: ldap")
    assert judge(t).items() >= {"failed": 1, "wrong": 0, "asked": 0}.items()


def test_the_next_server_is_asked(start, directory):
    t = start(f'ldapserver="127.0.0.9 127.0.0.1" ldapport={directory.port} '
              f'ldapprefix="uid=" ldapsuffix=",{PEOPLE}"')
    assert is_let_in(t)
    assert judge(t).items() >= {"good": 1, "failed": 0, "error": None}.items()
    assert refusal(t, secret="wrong")["C"] == WRONG
    assert judge(t).items() >= {"wrong": 1, "failed": 0}.items()


def test_a_failure_of_its_is_no_guess(start, own_directory):
    own = own_directory()
    t = start(simple(own), login_failures_max=1, login_backoff_max="1h")
    own.stop()
    assert [refusal(t)["C"] for _ in range(3)] == [WRONG] * 3
    assert t.admin("SHOW LOGINS") == [] and judge(t)["failed"] == 3
    own.start()
    assert is_let_in(t)
    assert refusal(t, secret="wrong")["C"] == WRONG
    assert refusal(t)["C"] == "57P03"
    assert len(own.binds()) == 2


def test_a_wrong_searcher_is_no_guess(start, directory):
    t = start(search(directory, f'ldapbinddn="{SEARCHER}" ldapbindpasswd=stale'),
              login_failures_max=1)
    assert [refusal(t)["C"] for _ in range(2)] == [WRONG] * 2
    assert judge(t).items() >= {"failed": 2, "wrong": 0}.items()
    assert "ldapbinddn" in judge(t)["error"]


# --- TLS ------------------------------------------------------------------------------------------
def over_tls(directory, how):
    where = f"ldapport={directory.port} ldaptls=1" if how == "StartTLS" \
        else f"ldapport={directory.tls_port} ldapscheme=ldaps"
    return f'ldapserver=127.0.0.1 {where} ldapprefix="uid=" ldapsuffix=",{PEOPLE}"'


@pytest.mark.parametrize("how", ["StartTLS", "ldaps"])
def test_tls(start, own_directory, monkeypatch, how):
    own = own_directory(demands_tls=True)
    monkeypatch.setenv("LDAPTLS_CACERT", str(own.ca))
    assert is_let_in(start(over_tls(own, how)))
    plain = start(simple(own))
    assert refusal(plain)["C"] == WRONG and judge(plain)["failed"] == 1


@pytest.mark.parametrize("how", ["StartTLS", "ldaps"])
def test_nothing_is_told_to_whoever_has_a_wrong_certificate(start, directory, monkeypatch, how):
    """Whatever libldap's own configuration says of that."""
    monkeypatch.setenv("LDAPTLS_CACERT", str(make_authority() / "ca.crt"))
    monkeypatch.setenv("LDAPTLS_REQCERT", "never")
    before = len(directory.binds())
    t = start(over_tls(directory, how))
    assert refusal(t)["C"] == WRONG
    assert judge(t)["failed"] == 1 and len(directory.binds()) == before


def test_a_certificate_is_of_one_host(start, directory, monkeypatch):
    """Of 127.0.0.1, and not of 127.0.0.2, where the same server listens."""
    monkeypatch.setenv("LDAPTLS_CACERT", str(directory.ca))
    assert is_let_in(start(over_tls(directory, "ldaps")))
    before = len(directory.binds())
    t = start(over_tls(directory, "ldaps").replace("127.0.0.1", "127.0.0.2", 1))
    assert refusal(t)["C"] == WRONG
    assert judge(t)["failed"] == 1 and len(directory.binds()) == before


# --- rules, reloads and secrets -------------------------------------------------------------------
def test_i8_a_reload_in_between_asks_again(start, directory):
    with silent() as port:
        t = start(f'ldapserver=127.0.0.1 ldapport={port} ldapprefix="cn="', auth_ldap_timeout="3s")
        client = raw.RawClient(t.port, timeout=PATIENCE)
        client.send(raw.startup({"user": "anna", "database": APP_DATABASE}))
        assert client.message().number == 3
        client.send(raw.password(PASSWORD))
        wait_until(lambda: judge(t)["asked"] == 1, what="it is asked")
        t.reload({"pgturnstile": Rules().settings(f"host all all all ldap {simple(directory)}")})
        assert is_let_in(t)
        assert client.until_closed()[0].fields["C"] == WRONG


@pytest.mark.parametrize(("options", "fault"), [
    ("", "ldap needs ldapserver="),
    ("ldapserver=a", "ldap needs ldapprefix= or ldapsuffix="),
    ("ldapserver=a:1 ldapprefix=cn=", "ldapserver= is names or addresses of hosts"),
    ("ldapserver=a ldapport=0 ldapprefix=cn=", "ldapport= is a number"),
    ("ldapserver=a ldapprefix=cn= ldapbasedn=dc=x", "not both"),
    ("ldapserver=a ldapbasedn=dc=x ldapsearchattribute=uid ldapsearchfilter=(cn=$username)", "not both"),
    ("ldapserver=a ldapbasedn=dc=x ldapsearchfilter=(cn=anna)", "has to have $username"),
    ("ldapserver=a ldapbasedn=dc=x ldapbinddn=cn=x", "go together"),
    ("ldapserver=a ldapscheme=http ldapbasedn=dc=x", "ldapscheme= is ldap or ldaps"),
    ("ldapurl=http://a/dc=x", "ldapurl= begins with"),
    ("ldapurl=ldap://a/dc=x?uid?tree", "the scope is"),
    ("ldapserver=a ldapbasedn=dc=x map=m", "map= is for"),
    ("ldapserver=a ldapprefix=cn= ldapbindpaswd=hunter2", "ldapbindpaswd: there is no such option"),
])
def test_i8_i9_faults_are_told_with_their_place_and_without_secrets(start, directory, options, fault):
    t = start(simple(directory))
    with pytest.raises(Exception, match=re.escape(fault)) as told:
        t.reload({"pgturnstile": Rules().settings(f"host all all all ldap {options}")})
    assert re.search(r"hba\.conf:3", str(told.value)) and "hunter2" not in str(told.value)
    assert not t.log_contains("hunter2")
    assert is_let_in(t)


def test_faults_of_auth_ldap_options_are_told(start, directory):
    t = start(simple(directory))
    for options, fault in (("", "say which servers"), ("ldapserver=a", "ldap needs ldapprefix=")):
        with pytest.raises(Exception, match=fault):
            t.reload({"pgturnstile": {"auth_type": "ldap", "auth_ldap_options": options}})


def memory_has(pid, secret):
    """Whether it stands in what a process may write to."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            area, rights = line.split()[:2]
            begin, end = (int(n, 16) for n in area.split("-"))
            if rights[:2] != "rw" or "[vvar" in line:
                continue
            with contextlib.suppress(OSError, ValueError, OverflowError):
                # A sanitizer's shadow is as large as it is empty.
                if end - begin <= 1 << 28:
                    memory.seek(begin)
                    if secret in memory.read(end - begin):
                        return True
    return False


def test_i9_secrets_are_told_to_nobody(start, directory):
    secret = "never-to-be-seen"
    t = start(search(directory, f'ldapbinddn="{SEARCHER}" ldapbindpasswd="{SEARCHER_SECRET}"'),
              verbose=3, auth_ldap_options=f"ldapserver=a ldapbasedn=dc=x ldapbinddn=cn=x "
                                           f"ldapbindpasswd={secret}")
    assert is_let_in(t)
    assert refusal(t, secret="battery staple")["C"] == WRONG
    shown = str(t.admin("SHOW CONFIG")) + str(t.admin("SHOW JUDGES"))
    for known in (secret, SEARCHER_SECRET, PASSWORD, "battery staple"):
        assert not t.log_contains(known) and known not in shown


def test_i9_a_password_is_wiped_when_it_was_judged(start, directory):
    """Libldap's copies, too."""
    wrong = "a guess that is nowhere else"
    t = start(simple(directory))
    assert refusal(t, secret=wrong)["C"] == WRONG
    wait_until(lambda: judge(t)["asked"] == 0, what="it was judged")
    assert memory_has(t.pid(), b"uid=") and not memory_has(t.pid(), wrong.encode())
