#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# seeds.py DIR - what fuzzers begin with: a folder in DIR for each, of what the tests send and read, and
# beside it FUZZER.dict, the words that its parser knows.
#
# Made anew from the statements of test/sql, the texts of the unit tests, the conversations of the
# integration tests, and the samples of the tree, so that nothing here can go stale; and what record.py
# has heard on the wire, which is files.
"""write_seeds(): the folders, one for every fuzzer that there is."""
import itertools
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "test/integration"))

import raw  # noqa: E402
from logins import BOUND, client_logins, key_sets, scram_end, server_logins, tokens  # noqa: E402
from parsers import PARSERS, texts, words  # noqa: E402
from recordings import seeds_of  # noqa: E402

PACKETS = [
    raw.startup({"user": "app", "database": "shop"}),
    raw.startup({"user": "app.acme", "database": "shop", "app.current_business_id": "42"}),
    raw.startup({"user": "anna", "database": "own", "options": "-c work_mem=1MB --geqo=off -c\\ a=b"},
                (3, 2)),
    raw.startup({"user": "u", "database": "x", "replication": "database", "_pq_.grease": "1",
                 "client_encoding": "UTF8", "application_name": "x", "extra_float_digits": "3"}),
    raw.startup({"user": "ops", "database": "pgturnstile"}), raw.SSL_REQUEST, raw.GSSENC_REQUEST,
    raw.startup({"user": "shop.acme", "options": "-c search_path=a\\ b -c", "replication": "yes"}),
    raw.startup({"user": "bob.nobody", "database": "unknown", "replication": "of"}),
    raw.startup({"user": ".x", "database": "own", "app.current_business_id": ""}),
    raw.startup({"user": "a.42", "database": "shop", "app.current_business_id": "acme"}),
    *(raw.startup({"user": "u", "database": "shop", "replication": r}) for r in ("true", "on", "off", "no", "0")),
    raw.startup({"user": "u"}), raw.startup({"user": "u", "database": ""}), raw.startup({"user": ""}),
    raw.startup({"user": "u", "replication": "maybe"}), raw.startup({"user": "u", "options": "-c a=b " * 70}),
    raw.startup({"database": "shop"}), raw.startup({"user": "u", **{f"s{i}": "x" for i in range(70)}}),
    raw.cancel_request(1, b"1234"), raw.cancel_request(1, b"x" * 32),
]
# Name of the host that is asked for over TLS.
HOSTS = [b"", b"acme.db.example.com", b"other.DB.example.com", b"acme"]
# The tenant that a token has, and that of a session of another process and the one that it has chosen.
WHOSE = [b"=42", b"=", b"=no", b"=acme", b"<acme", b"<", b"<no/42", b"<acme/no", b"</42", b"<acme/42"]


def statements():
    """The texts of test/sql, one a line but for comments."""
    for file in sorted((TOP / "test/sql").glob("*.txt")):
        yield from (line.encode() for line in file.read_text().splitlines()
                    if line and not line.startswith("#"))
    yield from (t.encode() for t in (
        "SET work_mem = DEFAULT; RESET ALL", "/* route:primary */ SELECT 1", "LISTEN a; UNLISTEN *",
        "SELECT 1 /*traceparent='00-1',business_id='42',lane='reports'*/", "PREPARE s AS SELECT $1",
        "SET LOCAL app.id = E'\\x41'", "SELECT set_config('app.id', $1, true)", "DEALLOCATE ALL",
        "SET statement_timeout TO '5 min'", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY; COMMIT",
        "SELECT U&'\\0041' UESCAPE '!', $tag$ '$tag$, B'1', 1.5e3 FROM \"T\" -- end"))


def samples():
    """Values of settings as the documentation has them."""
    text = (TOP / "docs/settings.md").read_text() + (TOP / "etc/pgturnstile.ini").read_text()
    yield from sorted({v.encode() for v in re.findall(r"= ?([^`\n;]+)", text)})
    yield from (b"1000/s", b"5%", b"1000/h 20000/d", b"15s", b"500ms", b"8MB", b"top:10", b"2000/s")


# A name and a text of the console that are too long.
_LONG, _TEXT = "x" * 200, "x" * 33000


def commands():
    text = (TOP / "include/admin/commands.def").read_text()
    yield from (f"SHOW {name}".encode() for name in
                re.findall(r"X\((\w+), (?:STATS|ADMIN),", text))
    yield from (b"SHOW POOLS;", b"SET a = 'b''c'", b'PAUSE "my db"', b"KILL TENANT acme", b"RELOAD -- x",
                b"SET TENANT acme rate = '5/s'", b"MAINTENANCE ON TENANT a 'soon'", b"RESET TENANT a rate",
                b"READONLY DATABASE shop", b"/* x */ SHUTDOWN WAIT_FOR_CLIENTS", b"KILL_CLIENT C-1",
            b"SHOW QUERIES BY reads", b"SHOW QUERIES TENANT acme", b"SHOW TENANTS acme", b"SHOW ROUTE SELECT 1",
            b"SHOW HELP SHOW POOLS", b"SET NODE a:1 weight = 0", b"RESUME TENANT", b"KILL", b"PAUSE 'a", b"SHOW 'a\"")
    verbs = re.findall(r"(?m)^\s*X\((\w+), [A-Z_]+,", text)
    for verb in verbs:
        for rest in ("''", "TENANT ''", "TENANT " + _LONG, _LONG, "ON " + _LONG, "a '" + "x" * 300 + "'", 'TENANT ""', f"TENANT {_LONG} a = 'b'",
                     "TENANT a b = '" + "x" * 300 + "'", "TENANT a " + _LONG, "x y z; w", "ON DATABASE x y", f"NODE {_LONG} a = b",
                     f"{_LONG} = b", "\"\" = b", "/* x", "a -- x", "\0", "a\0b"):
            yield f"{verb} {rest}".encode()
    for rest in ("QUERIES BY time", "QUERIES BY calls TENANT a", "SLOW BY time", "QUERIES BY 'x'", f"QUERIES TENANT {_LONG}", "ROUTE DATABASE ''",
                 f"ROUTE DATABASE {_LONG} SELECT 1", "ROUTE TENANT 'a' SELECT 1", 'ROUTE TENANT "" SELECT 1', f"ROUTE USER {_LONG} SELECT 1",
                 "ROUTE DATABASE a TENANT b ;", f"ROUTE SELECT '{_TEXT}'", f'HELP "{_TEXT}"'):
        yield f"SHOW {rest}".encode()
    yield from (b"\0", f"SET a = '{_TEXT}'".encode(), f"MAINTENANCE ON '{_TEXT}'".encode())


SCRAM = [b"\0n,,n=,r=x", b"\0y,,n=u,r=%", b"\1c=biws,r=x%,p=" + b"A" * 43 + b"=",
         b"\2r=%x,s=AAAA,i=4096", b"\3v=" + b"A" * 43 + b"=", b"\3e=other-error", b"\5pass\xc2\xa0word",
         b"\4SCRAM-SHA-256$4096:c2FsdA==$" + b"A" * 43 + b"=:" + b"A" * 43 + b"=",
         b"\1" + scram_end(b"x", b"xours")[0], b"\3" + scram_end(b"ours", b"oursx")[1],
         b"\0" + BOUND + b"n=,r=x", *(b"\6" + header + b"n=,r=x" for header in (BOUND, b"n,,", b"y,,", b"p=tls-unique,,", b"p=,,")),
         b"\7" + scram_end(b"x", b"xours", BOUND + b"binding")[0], b"\7" + scram_end(b"x", b"xours", BOUND + b"another")[0]]
_PROOF = b"p=" + b"A" * 43 + b"="
SCRAM += [b"\1" + text for text in (b"c=biws,r=xours,p=AAAA", b"c=biws,r=other," + _PROOF, b"c=biws,r=xours,x=1," + _PROOF, b"c=biws,r=xours," + _PROOF + b",x=1",
                                    b"c=AAAA,r=xours," + _PROOF, b"c=biws,m=1", b"1=x", b"c=x\x7f", b"x" * 70000)]
SCRAM += [b"\2" + text for text in (b"r=oursx,s=AAAA,i=0", b"r=oursx,s=AAAA,i=99999999", b"r=oursx,s=AAAA,i=x", b"r=ours,s=AAAA,i=1", b"r=nope!,s=AAAA,i=1",
                                    b"r=oursx,s=AAAA,i=1,x=1", b"r=oursx,s=AAAA,i=1,1", b"r=ours" + b"x" * 3000 + b",s=AAAA,i=1", b"r=ours\xff,s=AAAA,i=1", b"m=x,r=oursx")]
SCRAM += [b"\4SCRAM-SHA-256$" + text for text in (b"", b"1", b"1:AAAA", b"0:AAAA$A:A", b"1:AAAA$A", b"1:AAAA$AAAA:AAAA", b"1:AAAA$" + b"A" * 43 + b"=:AAAA",
                                                  b"1:AAAA$" + b"!" * 44 + b":AAAA")]
SCRAM += [b"\0" + text for text in (b"n,a=x,n=,r=x", b"n,,m=1,n=,r=x", b"n,,n=,r=x,1=y", b"n,,n=,r=x,y=1", b"n,,n=,r=" + b"x" * 2000, b"n,,n=,r=\xff", b"x", b"n,,n=")]
ROSTER = [b"\1tenant\0business_id\0" + b"".join(b"t%d\0%d\0" % (i, i) for i in range(1200)),
          b"\1tenant\0business_id\0acme\0x\0y\x0042\0" + b"x" * 1300 + b"\0x\0x\0" + b"x" * 1300 + b"\0\0x\0x\0\0",
          b"\1tenant\0business_id\0a\0x\0a\0x\0a\0y\0b\0x\0", b"\1tenant\0tenant\0", b"\2tenant\0business_id\0burst\0b\0x\x005\0b\0x\x005\0",
          b"\1tenant\0business_id\0a\0x\0" + b"a\0y\0" + b"q\0" + b"4" * 120 + b"\0", b"\1tenant\0tenan\0",
          b"\2tenant\0business_id\0tier\0a\0x\0none\0b\0y\0\0", b"\2tenant\0business_id\0lane\0a\0x\0none\0",
          b"\2tenant\0business_id\0statement_timeout\0a\0x\0x\0b\0y\0" + b"1" * 5000 + b"\0c\0z\0\1\0",
          b"\2tenant\0business_id\0tier\0a\0" b"1\0basic\0b\0" b"2\0basic\0",
          b"\4name\0business_id\0tier\0rate\0burst\0a\0" b"1\0basic\0" b"5/s\0" b"10\0",
          b"\0tenant\0", b"\0tier\0", b"\0quite-another\0", b"\2tenant\0business_id\0tier\0a\0" b"1\0basic\0b\0" b"2\0" + b"x" * 120 + b"\0"]
# Settings of tenants, with and without text, of one who comes singly and of those who stay through a reload.
ROSTER += [b"\4tenant\0business_id\0maintenance\0weight\0tier\0s\0" b"0\0" + b"".join(
    b"%s\0%s\0%s\0%s\0%s\0" % row for row in ((b"b", b"2", b"soon", b"7", tier), (b"c", b"3", b"\1", b"8", b""), (b"d", b"4", b"later", b"\1", b"\1"),
                                            (b"e", b"5", b"", b"\1", b"\1"))) for tier in (b"", b"basic")]
USERS = [b'"app" "secret"\n"b" "md5' + b"0" * 32 + b'"\n; x\n', b'"u" ""\n"q""q" "a""b" tail\n',
         b'"s" "' + next(s for s in SCRAM if s[0] == 4)[1:] + b'"\n',
         b'"' + b"u" * 130 + b'" "p"\n"u" "' + b"p" * 2050 + b'"\n"u" "a long word, but no secret"\n"u" "md5"\n']
USERS += [b"".join(b'"%d" "%s"\n' % (n, secret) for n, secret in enumerate(b"SCRAM-SHA-256$%d:c2FsdA==$%s=:%s=" % (
    iterations, b"A" * 43, b"A" * 43) if iterations else b"plain" for iterations in votes)) for votes in (
        (4096, 4096, 1), (1, 2), (1, 2, 3), (1, 2, 2), (0, 7, 7), (7, 0, 7), (7, 8, 0, 7), (0, 7))]

# Of a directory that is searched.
_SEARCH = b"ldapserver=a ldapbasedn=x"

_SIGNING = b"k 00112233445566778899AABBccddeeff"
SIGNING = [_SIGNING + b"\n" + rest for rest in (b"", b"\0id", b"\0" + b"x" * 2000, _SIGNING)]
SIGNING += [b"", b"# x\n\n; y\r\n \t", b"k\n", b"a/b 00\n", b"k" * 33 + _SIGNING[1:], _SIGNING[:-2], _SIGNING[:-1], _SIGNING + b"00" * 49,
            _SIGNING[:-2] + b"x0", _SIGNING[:-2] + b"0x", _SIGNING + b" x"]

OTHER_FILES = [b"[pgturnstile]\nauth_type = hba\nauth_hba_file = h\nauth_ident_file = h\n\0" + rules for rules in
               (b"host all all all scram-sha-256\n", b"local all all peer map=m\n")]
OTHER_FILES += [b"[pgturnstile]\nauth_type = hba\nauth_hba_file = no-such-file\nauth_ident_file = no-such-file\n",
                b"[pgturnstile]\nhttp_token_file = t\n\0" + b"0123456789abcdef\r\n",
                b"[pgturnstile]\nhttp_token_file = t\n\0" + b"short\n", b"[pgturnstile]\nhttp_token_file = no-such-file",
                b"[pgturnstile]\nauth_file = u\nlisten_addr = *\n[databases]\na = host=h\n\0\"u\" \"p\"\n",
                b"[pgturnstile]\nauth_type = trust\n[databases]\npgturnstile = host=h\n"
                b"a = host=h,i node_weight=1 node_zone=x\n%include other\n\0%include other\n",
                b"[pgturnstile]\nauth_type = trust\n[databases]\na = host=h node_zone=" + b"z" * 200 + b"\n",
                b"[lanes]\na = reserved=yes\nb = reserved=maybe\nc = reserved=yes nodes=a:1\n",
                b"[peers]\n1 = host=a port=1 pool_size=2\n0 = host=a port=x pool_size=x\n",
                b"postgres://u:p@[::1]:1,h/d?sslmode=require&x=y\0[::1]:7000", b"postgres://h\0:1", b"postgres://u@h/d\0*:1",
                b"postgres://u@h%zz/d\0localhost:x", b"postgres://u@[h]\0::1"]



def with_files(first, *files):
    """A file of the configuration, and others, each by its name."""
    return b"\0".join((first, *(name + b"\n" + text for name, text in files)))


def configs():
    """What stands in files of their own: that is good, that is not, and what is not there or not told."""
    def global_(text):
        return b"[pgturnstile]\n" + text + b"\n[databases]\na = host=h\n"

    salt, machine, keys = b"0123456789abcdef\n", b"/etc/machine-id", next(key_sets())
    for settings, name, good, bad in (
            (b"auth_type = trust\nscram_salt_file = ", b"salt", salt, b"short"),
            (b"auth_type = trust\ncontext_signing_key_file = ", b"sign", _SIGNING + b"\n", b"k"),
            (b"auth_type = trust\njwt_key_file = ", b"keys", keys, b"[]"),
            (b"auth_type = trust\njwt_secret_file = ", b"secret", b"x" * 40, b"x"),
            (b"auth_type = trust\nhttp_token_file = ", b"token", salt, b"\r\n"),
            (b"auth_file = ", b"users", b'"u" "p"\n', b'"u'),
            (b"auth_type = trust\nauth_ident_map = m\nauth_ident_file = ", b"ident", b"m a b\n", b"m"),
            (b"auth_type = hba\nauth_hba_file = ", b"hba", b"local all @users trust\n", b"x")):
        for path in (name, b"shared", b"no-such-file"):
            yield from (with_files(global_(settings + path), (path.replace(b"no-such-", b""), text)) for text in (good, bad))
        yield with_files(global_(settings))
    yield with_files(global_(b"auth_file = shared-by-all"))
    yield with_files(global_(b"auth_type = trust\nauth_ident_file = i"), (b"i", b"m a b\n"))
    yield from (with_files(global_(b"auth_type = trust"), (machine, text)) for text in (b"0" * 32 + b"\n", b"uninitialized\n"))
    yield from (with_files(global_(b"auth_type = ldap\nauth_ldap_options = " + options)) for options in (_SEARCH, b"ldapserver", b""))
    yield with_files(global_(b"auth_type = trust\njwt_key_file = keys\njwt_secret_file = secret"), (b"keys", keys), (b"secret", b"x" * 40))
    # Files in files, one of which cannot be read.
    yield with_files(b"%include f0\n", *((b"f%d" % n, b"%%include f%d\n" % (n + 1)) for n in range(12)))
    yield with_files(b"%include f0\n%include no-such-file\n%include\n%includes x\n", (b"f0", b"[pgturnstile]\nauth_type = trust\n%include f0\n"))
    yield b"%include f\n\0[pgturnstile]\na\0b = 1\n"
    # Lines and entries that are nearly right, and sections that are not.
    yield from (b"[databases]\n" + line + b"\n" for line in (
        b"\v\"a b\"\f = host=h\r", b'"a', b'"" = host=h', b"[a", b"{a} = host=h", b"a~b = host=h", b"a = =h", b"a = host h", b"a = host", b"a = host=",
        b"a = host='h", b"a = host='h''i' port='1'", b"a = host=h,i,j node_weight=1,x", b"a = host=h,i node_weight=1,x", b"a = host=h,i,j node_zone=a,b",
        b"a = host=h port=x", b"a = host=h lane=l", b"a = host=h pool_sise=1", b"a = host=h quite_another=1", b"a = host=h pool_size=x",
        b"a = host=h load_balance_hosts=disable\nb = host=h load_balance_hosts=disable", b"* = host=h"))
    yield from (b"[peers]\n" + line + b"\n" for line in (b"x = host=a", b"1 = port=0", b"1 = host=a port=0", b"1 = host=a pool_size=7", b"70000 = host=a"))
    yield from (b"[quite-another]\na = b\n", b"[database]\n", b"a = b\n", b"[pgturnstile]\nquite_another = 1\nauth_typ = x\nsuspend_timeout = 1\n")


def upstreams():
    """--upstream, and --listen or a file of passwords behind it."""
    login = b"postgres://u@h/d"
    yield from (uri + b"\0[::1]:6432" for uri in (
        b"postgres://u:p%4z@h/d", b"postgres://u:p%g0@h/d", b"postgres://u:p%4a@h/d", b"postgres://u:%00@h/d", b"postgres://u:p@h/%zz", b"postgres://u%@h/d",
        b"postgres://u@/d", b"postgres://u@h,,i:2/d", b"postgres://u@[::1]x/d", b"postgres://u@[::1/d", b"postgresql://u@h", b"postgres://u@h?sslmode=x&y",
        b"postgres://u@h%2Ci/d", b"postgres://u@h:x/d", b"postgres://:p@h/d", b"postgres://u%22:%22@h/", b"postgre://h"))
    yield from (login + b"\0" + listen for listen in (b"[::1]", b"[::1]:6432", b"::1:6432", b"localhost", b"10.0.0.1:6432", b"localhost:0", b":1", b""))
    yield from (b"postgres://u@h,i:7/d\0" + text for text in (
        b"h:5432:d:u:p", b"i:7:d:u:p", b"#\n*:*:*:*:p\r\n", b"*:*:*:*:", b"*:*:*:o\\:ther:p", b"h:5432", b"x:*:*:*:p\n\nh:*:*:u:a\\:b\\"))


HTTP = [b"\0".join((path, authorization, accept)) for path in (b"/metrics", b"/", b"/healthz?x", b"metrics")
        for authorization in (b"Bearer 0123456789abcdef", b"bearer 0123456789abcdee", b"Bearer ", b"Basic eA==", b"\1")
        for accept in (b"application/openmetrics-text;version=1.0.0,text/plain", b"*/*", b"\1")]

RULES = [b"local all all peer map=m # c\nhost db,\"a b\" u 10.0.0.0/8 md5\nhostssl sameuser @f ::1/128 cert\n"
         b"hostnossl replication all samenet reject\n\0u, \"v\"\n@f w",
         b"host all +g 10.0.0.1 255.0.0.0 trust\nhostgssenc all all samehost \\\nscram-sha-256\n",
         b"hostssl all \"d\"\"b\" all password clientcert=verify-full clientname=CN map=\"m\"\n"]
MAPS = [b"m /x{2,3}$ u\nm /[^]a]+$ u\nm /a** u\nm /(a+)+$ u\nm /[a u\nm /a\\ u\nm /\\d u\nm /[\\] u\nm /(a)|b \\1\nm a,b u\nm a b,c\nm /"
        + b"x" * 2000 + b" u\nm /a{ u\nm /\\\\ u\nm /\\w u\nm /^u@(.*)$ \\1\nm /^(x)?u@ \\1\nm u@example.com u\n", b"m /a\\", b"m /[a", b"m /\n",
        b"#\n", b"\r\n \f\v\n", b"m a b#c", b"m /u@example.com|() \\1", b"m /^(x)?u@.* \\1", b"m \"a\0b\" c", b"m 'a b",
        b"m /^(.*)@example\\.com$ \\1\nm \"u@example.com\" all\n# c\nn a b"]


# Options of a directory, and the name of whom it is asked about, or another's.
DIRECTORIES = [options + b"\0" + user for options in (
    _SEARCH, b"ldapserver=\"a  b \" ldapprefix=cn= ldapsuffix=,dc=x", b"ldapserver=::1 ldapport=1 ldapprefix=\"D\\\"", b"ldapserver=a ldapsuffix=@x",
    b"ldapurl=ldaps://[::1]:636/dc=x?uid,cn?sub?", b"ldapurl=ldap://a/dc=%20?" b"?one?(a=$username)", b"ldapurl=ldap://a b/x", b"ldapurl=ldap://a",
    b"ldapurl=ldap://a/x?uid?base", _SEARCH + b" ldapsearchfilter=(a=$username)(b=$username)", _SEARCH + b" ldapsearchattribute=uid",
    _SEARCH + b" ldapbinddn=a ldapbindpasswd=b", _SEARCH + b" ldapscheme=ldaps ldaptls=0") for user in (
    b"anna", b"", b" a", b"a ", b"a  b", b"a b", b"a\x01", b"a\x7f", b"E\\a", b"a@b", b"a,b*(c)\\/#=", b"J\xc3\xb6", options)]
DIRECTORIES += [_SEARCH + b"\0" + _SEARCH + more for more in (
    b" ldapport=7", b" ldaptls=1", b" ldapscheme=ldaps", b" ldapbinddn=a ldapbindpasswd=b", b" ldapsearchattribute=b", b" ldapsearchfilter=$username")]
DIRECTORIES += [b"ldapserver=a ldapprefix=x\0ldapserver=a ldapprefix=" + more for more in (b"y", b"x ldapsuffix=y", b"x")]


def server_messages():
    return (*(raw.error(code, "no") for code in ("57P01", "57P02", "57P03")),
            raw.error("42601", "no") + raw.notice("00000", "x"), *(raw.message("E", said) for said in (
                b"SERROR\0VERROR\0SOTHER\0C42601\0Mno\0Hhint\0Rroutine\0Xx\0\0", b"VERROR\0SERROR\0", b"H\0R\0\0", b"C57P01", b"\0x")), raw.row_description("a", "b"),
            raw.data_row("a", None) + raw.command_complete("SELECT 1") + raw.ready(),
            raw.parameter_status("TimeZone", "UTC") + raw.backend_key_data(1, b"1234"),
            raw.auth_sasl() + raw.auth_md5(b"salt") + raw.notification(1, "a", "b"))


def client_messages():
    return (raw.query("SELECT 1"), raw.copy_data(b"1\n") + raw.copy_done() + raw.copy_fail("x"),
            raw.parse("s", "SELECT $1", [25]) + raw.bind("", "s", ["x", None]) + raw.describe("P")
            + raw.execute("", 2) + raw.close("S", "s") + raw.sync() + raw.flush() + raw.terminate())


def _records(who, messages, how=0):
    """Messages of a peer of fuzz_relay.c, each without its length."""
    while messages:
        size = 1 + int.from_bytes(messages[1:5], "big")
        yield bytes([who | 4 | how]) + messages[:1] + messages[5:size] + b"\xfe"
        messages = messages[size:]


def conversations():
    """What clients A (0) and B (1), the server that was asked last (2) and the other one (3) say, in this order."""
    rows = raw.row_description("a") + raw.data_row("x") + raw.command_complete("SELECT 1")
    done = raw.bind_complete() + raw.data_row("x") + raw.command_complete("SELECT 1") + raw.ready()
    prepared = raw.parse("s", "SELECT $1", [25]) + raw.describe("S", "s")
    bound = raw.bind("", "s", ["x"]) + raw.execute() + raw.sync()
    described = raw.parse_complete() + raw.message("t", b"\0\1\0\0\0\x19") + raw.row_description("a")
    idle, busy, failed = raw.ready(), raw.ready("T"), raw.error("42601", "no") + raw.ready("E")
    yield (0, raw.query("SELECT 2")), (2, rows + idle), (0, raw.query("SELECT 3")), (2, rows + idle)
    yield (0, raw.query("BEGIN")), (2, raw.command_complete("BEGIN") + busy), (0, raw.query("SELECT 2")), (2, failed), \
        (1, raw.query("SELECT 2")), (2, rows + idle), (0, raw.query("ROLLBACK")), (2, raw.command_complete("ROLLBACK") + idle)
    yield (0, prepared + bound), (2, described + done), (1, prepared + bound), (2, described + done), \
        (0, bound), (2, done), (0, raw.close("S", "s") + raw.sync()), (2, raw.message("3") + idle)
    yield (0, raw.parse("", "SELECT 2") + bound), (2, failed[:-6] + idle), (0, raw.parse("", "SELECT 2") + bound), \
        (2, raw.parse_complete() + done)
    yield (0, raw.query("COPY t FROM STDIN")), (2, raw.message("G", b"\0\0\1\0\0")), \
        (0, raw.copy_data(b"1\n") + raw.copy_done()), (2, raw.command_complete("COPY 1") + idle)
    yield (0, raw.query("COPY t TO STDOUT")), (2, raw.message("H", b"\0\0\1\0\0") + raw.copy_data(b"1\n") + raw.copy_done()
                                              + raw.command_complete("COPY 1") + idle)
    yield (0, raw.query("SET app.current_business_id = '42'; SELECT 2")), (2, raw.command_complete("SET") + rows + idle), \
        (0, raw.query("SET work_mem = '1MB'")), (2, raw.command_complete("SET") + raw.parameter_status("TimeZone", "UTC") + idle)
    yield (0, raw.query("LISTEN a")), (2, raw.command_complete("LISTEN") + idle + raw.notification(1, "a", "b")), \
        (0, raw.query("SELECT pg_advisory_lock(1); DISCARD ALL")), (2, rows + raw.command_complete("DISCARD ALL") + idle)
    yield (0, raw.query("BEGIN; SELECT 2")), (2, raw.command_complete("BEGIN") + rows + busy + raw.notice("00000", "x")), \
        (2, raw.error("57P01", "going down")), (0, raw.terminate())
    yield (0, raw.message("F", b"\0\0\1\0\0\0\0\0\0") + raw.flush() + raw.sync()), (2, raw.message("V", b"\xff" * 4) + idle)


# Texts that ask for what a session has: the pooler's own answer stands in for a part of them.
_CHANNELS = "pg_listening_channels()"
ASKING = [f"SELECT {_CHANNELS}", f"SELECT pg_catalog.{_CHANNELS}, x.{_CHANNELS}, {_CHANNELS}::text AS c", f"SELECT DISTINCT {_CHANNELS} FROM a",
          f"SELECT * FROM {_CHANNELS}", f"SELECT * FROM {_CHANNELS} AS c, {_CHANNELS} WITH ORDINALITY, LATERAL {_CHANNELS} d",
          f"SELECT a IS DISTINCT FROM b FROM a JOIN {_CHANNELS} ON a = b, {_CHANNELS} x JOIN y USING (z)", f"SELECT count({_CHANNELS}), (SELECT {_CHANNELS})",
          f"SELECT 1 WHERE x IN (SELECT {_CHANNELS}) ORDER BY {_CHANNELS}; SELECT ALL {_CHANNELS}", 'SELECT "pg_listening_channels"(), pg_listening_channels',
          "SELECT pg_listening_channels(1), pg_listening_channels('x'", f"SELECT {_CHANNELS}::", f"SELECT {_CHANNELS}::pg_catalog.text, (((({_CHANNELS}))))",
          f"INSERT INTO t SELECT {_CHANNELS} UNION VALUES ({_CHANNELS})", "SELECT " + "(" * 40 + _CHANNELS + ")" * 45, f"SELECT {_CHANNELS} || 'x', {_CHANNELS} c)",
           f"DELETE FROM t WHERE x = {_CHANNELS}", f"CREATE INDEX i ON t USING b; SELECT {_CHANNELS};", f'SELECT "x", {_CHANNELS}::\'x\'', "SELECT pg_listening_channels",
           "SELECT pg_listening_channels FROM x", f"SELECT 1 FROM {_CHANNELS} WITH"]
_VIEW = "pg_prepared_statements"
ASKING += [f"SELECT * FROM {_VIEW}", f"TABLE {_VIEW}", f"TABLE pg_catalog.{_VIEW}", f"SELECT * FROM pg_catalog.{_VIEW} p, {_VIEW} WHERE x", f'SELECT * FROM "{_VIEW}" "q"',
           f"SELECT {_VIEW}.name FROM a, b JOIN {_VIEW} ON x, x.{_VIEW} GROUP BY y, {_VIEW}", f'SELECT 1 FROM "pg_catalog".{_VIEW} UNION SELECT 2 FROM {_VIEW}.x',
           f"SELECT 1 FROM pg_catalog.x, {_VIEW} JOIN {_VIEW} USING (a)", f"SELECT '{_VIEW}'", f"{_VIEW}", f"SELECT 1 FROM pg_catalog"]


def plays():
    """Each under each configuration; some with a peer that hangs up, or is late, in between."""
    for number, conversation in enumerate(conversations()):
        records = [record for who, messages in conversation for record in _records(who, messages)]
        for way in (*range(5), 12, 128, 132):
            yield bytes([way]) + b"".join(records)
        for at in range(len(records)):
            for how in (8, 16, 32):  # together with the next one, the last one, after a long time
                changed = records[:at] + [bytes([records[at][0] | how]) + records[at][1:]] + records[at + 1:]
                yield bytes([(number + at) % 5]) + b"".join(changed)
    answer = b"".join(_records(2, raw.row_description("a") + raw.command_complete("SELECT 0") + raw.ready()))
    for number, text in enumerate([*CHOICES, *list(statements())[::3]]):
        text = text.decode("latin1").replace("app.id", "app.current_business_id")
        asked = b"".join(_records(0, raw.query(text)))
        yield bytes([number % 5]) + (asked + answer) * 2
    for text in ("SELECT 2", "BEGIN READ ONLY", "BEGIN", "SELECT 1; SELECT 2"):  # on a replica, which fails or is gone
        for end in (answer, *(b"".join(_records(2, message)) for message in server_messages()[:4]), b"\x12\xfe"):
            for hint in ("", "/* route:replica */ "):
                yield b"\x0c" + b"".join(_records(0, raw.query(hint + text))) + end + b"".join(_records(0, raw.query("SELECT 2"))) + end + answer
    listens = b"".join(b"".join(_records(0, raw.query(f"LISTEN {channel}"))) + b"".join(
        _records(2, raw.command_complete("LISTEN") + raw.ready())) for channel in ("a", '"b\'\\"', '"\u00e4"'))
    prepares = b"".join(_records(0, raw.parse("s", "SELECT 2") + raw.sync())) + b"".join(_records(2, raw.parse_complete() + raw.ready()))
    for before in (listens, prepares):
        for text in ASKING:
            yield b"\0" + before + b"".join(_records(0, raw.query(text))) + answer
            yield b"\0" + before + b"".join(_records(0, raw.parse("", text) + raw.bind() + raw.execute() + raw.sync())) + answer
            yield b"\0" + b"".join(_records(0, raw.parse("t", text) + raw.sync())) + b"".join(_records(2, raw.parse_complete() + raw.ready())) \
                + before + b"".join(_records(0, raw.bind("", "t") + raw.execute() + raw.sync())) + answer
    for packet in (*PACKETS, raw.password("x")):
        yield b"\0\x40" + packet + b"\xfe\0" + raw.query("SELECT 2")
    yield from client_logins()
    yield from server_logins()
    yield from arrivals()


# Strings, names and parameters with escapes of each kind, whole and cut.
ESCAPES = [b"select " + text for text in (
    *(quoted % escaped for quoted in (b"U&'%s'", b'U&"%s"', b"U&'%s' UESCAPE '!'") for escaped in (
        b"\\0041", b"\\20AC", b"\\20ac\\00e9", b"\\+01F600", b"\\+110000", b"\\d800", b"\\0000", b"\\", b"\\\\", b"\\004", b"\\00/1", b"\\00@1", b"\\00g1",
        b"\\+00", b"!0041", b"!!", b"!")),
    *(b"E'%s'" % escaped for escaped in (
        b"\\n\\b\\f\\r\\t\\q\\'", b"\\101\\7\\400", b"\\0", b"\\x41\\x4", b"\\x", b"\\xg", b"\\x0", b"\\u20ac", b"\\u20a", b"\\U0001F600", b"\\U00110000",
        b"\\U0001F60", b"\\u00e9\\u0041", b"\\u0000", b"\\\0", b"a''b", b"a'\n  'b", b"a' -- c\n'b", b"\\u00@1", b"\\u00/1")),
    b"'a\0b', E'a\0b', \"a\0b\", 'a''b' \n 'c'", b"$1, $65535, $65536, $99999999999, $0", b"$a$ b$a$, $$$$, $$x\0$$", b"E'\\", b"U&'\\", b"U&'\\' UESCAPE 'a'",
    b"U&'\\0041' UESCAPE ''", b'"a""b", "' + b"x" * 70 + b'", U&"' + b"\\20ac" * 30 + b'", ' + b"Y" * 70)]


def under_settings(texts):
    """Each under all that is usual, and under some settings of its own."""
    for number, text in enumerate(texts):
        for settings in dict.fromkeys((0b11, number % 64)):
            yield bytes([settings]) + text


# What fuzz_classify.c has in its catalog, and what the grammar is not asked about.
CATALOG = [b"SELECT writes()", b"SELECT public.writes()", b"SELECT a.b.c()", b"SELECT nextval('s')", b"SELECT 1 + 1",
           b"SELECT x::d", b"SELECT CAST(x AS public.d) FROM seq", b"SELECT * FROM u", b"SELECT (u).writes FROM t AS u",
           b"SELECT * FROM public.seq", b"SELECT lower(x), f(x), g(x) FROM t", b"SELECT a <> b, a && b, a -> 'x' FROM t",
           b'SELECT "a\\b"()', b'SELECT * FROM "a""b"', b"SHOW transaction_read_only", b"SHOW x", b"SELECT (", b"SELECT "
           + b"(" * 250 + b"1" + b")" * 250, b"SELECT " + b"1+" * 4100 + b"1", b"SELECT '" + b"x" * 21000 + b"'",
           b"SELECT " + b"ARRAY[" * 150 + b"1" + b"]" * 150, b"UPDATE t SET a = 1", b"SELECT set_config('app.id', '1', false)",
           b"SELECT a.b.c.d(1)", b'SELECT 1 OPERATOR("a\\b".+) 2', b'SELECT 1 OPERATOR("a\\bcdefgh".+) 2', b'SELECT * FROM t AS u("a\\b")',
           b'SELECT * FROM "a\\b".t', b"SELECT 1 // 2 /* x */", b"SELECT 1 " + b"/*" * 150 + b"*/" * 150, b"SELECT OPERATOR(pg_catalog.+) 1", b"SELECT 1 OPERATOR(public.<->) 2", b"COPY t TO STDOUT", b"EXPLAIN SELECT 1"]


# How a tenant is chosen, and what is nearly that.
_CALL = b"select set_config('app.id', %s)%s"
CHOICES = [
    *(_CALL % (arguments, b" as x") for arguments in (
        b"$1::varchar, $2::bool", b"cast($1 as character varying), false", b"cast('1' as text, true", b"$9, true",
        b"null, $1", b"$1, $1", b"$2, $1", b"'1', 't'", b"'1', 'x'", b"'1', 1", b"'1'::bool, true", b"cast($1 as text), 'on'")),
    *(_CALL % (b"'1', true", rest) for rest in (
        b" as \"x\"", b" as U&\"x\"", b" as \"\"", b" as 'x'", b" as " + b"x" * 70, b" as \xc3\xa4", b"; ;", b", 2", b" as x y")),
    b"set app.id = '" + b"x" * 300 + b"'", b"set local app.id to E'a\\'b'", b"set app.other = 1",
    *(b"/* business_id='%s' */ select 1" % said for said in (
        b"%41%6a%4A", b"%4", b"%zz", b"%4z", b"%00", b"x" * 300, b"a\\", b"a\\'b", b"")),
    b"/* business_id=1,business_id=1 */ select 1 /* business_id='2' */", b"/* business_id=%%%, business_id=2 */ select 1",
    b"/* business_id=1 */ select 'x"]


SHAPES = [b"select 1", b"select '1'", b"select '1', 'abc'", b"select 'id', 1", b"select 1, '" + b"x" * 5000 + b"'", b"select 1 -", b"select 1 a", b"select 1 b",
          b"select $", b"select 1 as a, 2 as b", b"select 1 as a, 2 as c", b"select ", b"select 1" + b", 2" * 11, b"select 1" + b", 2" * 12, b"select 1" + b", 2" * 20]

# Settings that are taken back, and what only begins so.
RESETS = [b"reset " + name for name in (
    b"all", b"all x", b"time zone", b"time x", b"session authorization", b"session x", b"time", b"session", b'"A".b', b"a.b.c.d", b"a.b.c.d.e", b"a.",
    b"x" * 63, b"x" * 61 + b".y", b"x" * 40 + b"." + b"y" * 40, b"U&\"\\0061\"", b"'a'", b"")]
RESETS += [b"set " + rest for rest in (
    b"a to default", b"a = default", b"a to 1", b"a default", b"local a.b = default", b"session a to default", b"session to default", b"local to to default",
    b"time zone default", b"time zone local", b"time zone 'x'", b"local time zone default", b"time x to default", b"time to default", b"names", b"names default",
    b"names 'x'", b"local names", b"session authorization default", b"session authorization 'x'", b"session authorization", b"session authorization a b",
    b"session authorization default x", b"local a.b.c.d to default", b"local a.b.c.d.e to default", b"a.b.c.d.e to default", b"local a.b.c", b"session a.b.c.d =",
    b"local " + b"x" * 70 + b" to default")]
RESETS += [b"; ".join([text] * 9) for text in (b"reset a", b"set a to default", b"select set_config('a', null, true)")]
RESETS += [b"select set_config(%s)" % arguments for arguments in (
    b"'a', null, true", b"'a', NULL, $1", b"'a', '', true", b"a, null, true", b"'a' || null, true", b"'', null, true", b"'a', null", b"'a', null)", b"'a'",
    b"'" + b"x" * 80 + b"', null, true", b"E'\\q\\xzz', null, true", b"'a' null, true,", b"x('a'), null, true")]
RESETS += [b"begin atomic; reset a; end", b"reset a; select (1; reset b)", b"reset a /* x", b";; reset a;"]

# Values of guarded settings, and where the tenant's is spelled besides.
SETS = [b"set statement_timeout = " + value for value in (
    b"1e5", b"1.5", b"0x10", b"4" * 9 + b"9", b"9" * 40, b"9" * 300, b"-5", b"+5", b"-", b"-(", b"- - 5", b"(", b"$1", b"<-> 1", b"b'1'", b"x'1f'", b"1, 2", b"default",
    b"default, 1", b"", b"local", b"a", b"'" + b"x" * 300 + b"'")]
SETS += [b"set %s = 1" % name for name in (
    b"x" * 63 + b"." + b"y" * 63, b".".join([b"x" * 52] * 3), b".".join([b"x" * 52] * 3) + b"x.y", b".".join([b"x"] * 100), b"U&\"\\zz\"", b"a.'b'", b"app.id",
    b'"app.id"', b'app."ID"', b"local app.id", b"transaction_read_only", b"transaction_isolation", b"seed", b"datestyle", b"session_authorization")]
SETS += [b";".join([b"set statement_timeout = 1"] * 10), b";".join([b"reset all"] * 4), b";".join(b"set " + bytes([n]) * 60 + b" = 1" for n in b"abcdefghij"),
         b"set app.id from current", b"set statement_timeout from current", b"reset a.'b'"]
SETS += [b"do $$ begin %s; end $$" % body for body in (
    b"set app.id = '1'", b"perform set_config('app.id', '1', true)", b"perform current_setting('app.id')", b"perform x('app.id')", b"perform x('set app.id')",
    b"perform E'\\q app.id'", b"execute 'set app.id = 1'", b"execute x", b"set other.id = 1", b"set id = 1", b"set p.id = 1", b'set "app.id" = 1', b"set app . id = 1")]
SETS += [b"create function f() returns int language sql set %s as 'select 1'" % rest for rest in (
    b"app.id = 1", b"other.id = 1", b"app.id to default", b"id from current", b'"app.id" = 1', b"search_path = a, b")]
SETS += [b"alter role a set app.id = 1", b"alter database a reset app.id", b"select 'app.id', 'set app.id', E'app.\\151d', app.id, other.id, xapp.id from id"]


def pairs(every):
    """Two texts that come one behind the other, some of which have the same shape."""
    yield from (text + b"\0" + text + b"x" for text in every)
    yield from (text + b"\0" + text[:-1] for text in every)
    yield from (one + b"\0" + other for one, other in zip(every, every[1:]))


def sql(name):
    """The statements, and what unit tests read; the tenant's setting has a short name here."""
    every = dict.fromkeys([*statements(), *CATALOG, *CHOICES, *RESETS, *SETS, *(ESCAPES if name == "fuzz_lex" else []), *texts(name)])
    if name == "fuzz_scan":
        every.update(dict.fromkeys([*pairs(SHAPES), *pairs(list(statements())[::5])]))
    return under_settings(text.replace(b"app.current_business_id", b"app.id") for text in every)


def behind_each(numbers, every):
    """Each text behind each of the bytes."""
    return [bytes([number]) + text for text in every for number in numbers]


# A header and claims.
TOKENS = [b'{"alg":"HS256","kid":"a"}\0{"aud":["x","db"],"exp":1000100.5,"nbf":0,"iss":"u",'
          b'"role":["a","\\u00fc\\ud83d\\ude00"],"tenant":7}',
          b'{"alg":"HS256"}\0{"aud":"db","exp":1e6,"role":"a","tenant":"\\n\\"","x":[{},[],null,true]}',
          b'{"alg":"HS256","crit":[]}\0{}']


def packets(name):
    """Whole, and with a length that does not fit."""
    yield from (*PACKETS, b"\0\0", b"\0\0\0\7xxxx", PACKETS[0][:-3], b"\0\1\0\0\0\3\0\0", *texts(name))
    yield from (raw.startup({"user": "u", "options": text.decode("latin1")}) for text in texts(name))
    yield raw.startup({"user": "u", "_pq_.a": "1"}, (3, 9))
    yield raw.startup({"user": "u"}, (2, 0))


def field(number, content):
    return bytes([number]) + len(content).to_bytes(4, "big") + content


def arrivals():
    """Clients of another process, for fuzz_relay.c: by which configuration, and what it has to fit."""
    pairs_ = b"DateStyle\0German\0work_mem\0" b"7MB\0"
    body = b"SELECT $1\0\0\1\0\0\0\x17"
    statement = b"sum\0\1" + bytes(7) + b"\5" + len(body).to_bytes(4, "big") + body
    asked = b"".join(_records(0, raw.query("SELECT 2"))) + b"".join(_records(0, raw.bind("", "sum", ["1"]) + raw.execute() + raw.sync()))
    for way, user, on_server, tenant, id_ in ((0, b"app", b"app", b"", b""), (3, b"app.acme", b"app", b"acme", b"42"), (3, b"app", b"app", b"", b"42"),
                                              (5, b"plain", b"plain", b"", b""), (9, b"app.acme", b"app", b"acme", b"42"), (0, b"x", b"y", b"z", b"")):
        for key in (b"key!", b"k" * 28, b"x"):
            whole = [field(n, text + b"\0") for n, text in ((1, b"shop"), (2, user), (3, on_server), (4, tenant), (5, id_), (6, b""), (19, b"x"))]
            whole += [field(n, bytes(7) + b"\3") for n in (7, 9, 14, 15, 16)] + [field(8, key), field(17, b"k" * 32), field(18, b"k" * 32)]
            whole += [field(n, pairs_) for n in (10, 11, 12)] + [field(13, statement)]
            yield bytes([way]) + b"\x80\x10" + b"".join(whole) + b"\xfe" + asked
            yield bytes([way]) + b"\x80\x10" + b"".join(whole[:7] + whole[12:13]) + b"\xfe" + asked


def passports():
    """What a session takes along, each field of it; then the same, cut and with lengths that lie."""
    body = b"SELECT $1\0\0\1\0\0\0\x17"
    one = b"sum\0\1" + bytes(7) + b"\5" + len(body).to_bytes(4, "big") + body
    pairs_ = b"DateStyle\0German\0work_mem\0" b"7MB\0"
    whole = b"".join([*(field(n, b"shop\0") for n in (1, 2, 3, 4, 5, 6, 19)),
                      *(field(n, bytes(7) + b"\3") for n in (7, 9, 14, 15, 16)),
                      *(field(n, b"secret") for n in (8, 17, 18)),
                      *(field(n, pairs_) for n in (10, 11, 12)), field(13, one * 2)])
    yield whole
    yield from (whole[:n] for n in range(0, len(whole), 7))
    yield whole + field(20, b"") + field(0, b"x")
    yield from (field(1, b"d\0") + field(2, b"u\0") + field(8, b"k") + field(n, text)
                for n in (4, 7, 11, 13) for text in (b"", b"a", b"a\0", b"a\0b", one[:-1], one + b"x", one.replace(b"\0\1", b"\0\4", 1),
                                                     one.replace(b"\0\1\0\0\0\x17", b"\0\2\0\0\0\x17")))
    yield from (field(1, database) + field(2, user) + field(8, secret) for database, user, secret in (
        (b"\0", b"u\0", b"k"), (b"d\0", b"\0", b"k"), (b"d\0", b"u\0", b"")))
    server = b"".join([*(field(n, b"shop\0") for n in range(1, 7)), *(field(n, bytes(7) + b"\3") for n in range(7, 14)),
                       field(14, b"secret"), field(15, pairs_)])
    yield server
    yield from (server[:n] for n in range(0, len(server), 7))
    yield server + field(16, b"x")


def answered(how, *records):
    """Records of fuzz_answers.c; fields stand behind the letter, None for NULL."""
    def fields(values):
        return b"\xfd".join(b"\1" if value is None else value for value in values)
    return bytes([how]) + b"".join(letter + fields(values) + b"\xfe" for letter, *values in records)


def answers():
    """Who asks is what nodes are, who users are, who tenants are, and what Patroni says of a node."""
    def row(*values):
        return (b"D", *values)
    done, gone, later, denied = (b".",), (b"X",), (b"L",), (b"E", b"42501permission denied")
    state = (b"1000", None, b"1", b"8192", b"16777216", b"5")
    load = (b"1", b"0.5", b"10", b"2", b"0")
    cluster = [row(b"7", b"t"), done]
    nodes = [*cluster, *cluster, row(b"f", *state), done, row(b"t", *state), done]
    catalogs = [done, row(b""), row(b"safe", b"public", b"f", b""), row(b"unsafe", b"public", b"g", b""), row(b"one"),
                row(b"primary", b"public", b"t", b""), row(b"x"), row(b"operator", b"+", b"public", b"f"),
                row(b"type", b"d", b"public", b"g"), row(b"function", b"h", b"public", b"g"), row(b"safe", None, b"f", b""),
                row(b"strange", b"a", b"b", b"c"), done, row(b"prepares", b"f"), row(b"x"), done]
    # Two nodes say how they are loaded while a third connection reads the catalog, so what is whose is tried.
    for between in ([row(*load), done, row(*load), done], [denied, denied], [row(b"x"), done, done], []):
        yield answered(0, *nodes, *between, *catalogs, later, *nodes[4:], later)
        yield answered(0, *nodes, *catalogs[:1], *between, *catalogs[1:], later)
    for last in range(1, len(catalogs)):
        yield answered(0, *nodes, *catalogs[:last], denied, denied, denied, later)
        yield answered(0, *nodes, row(*load), done, row(*load), done, *catalogs[:last], denied, later)
    # Nobody listens any more by the time that the catalog is to be read.
    yield from (answered(0, *nodes[:at], (b"N",), *nodes[at:], later, later) for at in range(len(nodes)))
    yield from (answered(0, *cluster, *cluster, row(role, *changed), done, row(b"t", *state), done, later, row(b"f", *state),
                         done, gone, later) for role in (b"f", b"t")
                for changed in (state, (b"40", b"nan", b"0", b"8", b"100", b"1"), (b"1048", b"1e12", b"1", b"1024", b"65536", b"1"),
                                (b"x" * 50, b"1" * 50, b"ff", None, b"", b"6"), (b"1",)))
    for answer in (done, gone, denied, later, row(b"9" * 80, b"f"), (b"M", b"Axxxxtext\0\0"), (b"R", b"\0" * 9), row(None, b"t")):
        yield answered(0, answer, done, *nodes, answer, later, later, *nodes)
        yield answered(0, *cluster, answer, answer, later, *nodes)
    scram = next(s for s in SCRAM if s[0] == 4)[1:]
    asked, pinned = (b"?", b"anna"), done
    for found in ([row(b"anna", scram), row(None)], [row(b"anna", scram), row(b"3.5")], [row(b"anna", scram), row(b"-1")],
                  [row(b"anna", None), row(None)], [row(None)], [row(b"eve", b"x"), row(None)], [row(b"anna", b"x" * 3000),
                  row(b"1" * 70)], [row(b"anna", b"x"), row(b"anna", b"y"), row(None)], [row(b"anna", b"SCRAM-SHA-256$x"),
                  row(None)], [row(b"anna")], []):
        yield answered(1, asked, pinned, *found, done, asked, later, asked, *found, done)
    for error in (b"22021x", b"P0002x", b"42883no such function", b"42P01no such table", b"57P01going"):
        yield answered(1, asked, pinned, (b"E", error), asked, (b"E", error), later, asked)
        yield answered(1, asked, (b"E", error), asked, later, pinned)
    yield from (answered(1, asked, *before, gone, later, asked, later, pinned, (b"?", b"x" * 70)) for before in
                ((), (pinned,), (pinned, row(b"anna", scram)), (done, done, done)))
    yield answered(1, asked, (b"?", b"bob"), (b"?", b"eve"), pinned, later, later, (b"M", b"Z" b"I"), (b"R", b"x" * 20))
    yield answered(1, asked, pinned, row(b"anna", scram), row(b"1e9"), done, (b"?", b"bob"), (b"X",))
    columns, listening = (b"T", b"tenant", b"business_id"), done
    for rows in ([columns, row(b"a", b"1"), row(b"b", b"2")], [columns, row(b"acme", b"42"), row(b"a", b"1"), row(b"a", b"2"),
                 row(b"", b"")], [columns], [], [(b"T", b"a")], [(b"T", b"a"), row(b"x")], [columns, row(b"a")], [columns, *[row(b"t%d" % n, b"1") for n in range(24)]], [(b"T", b"business_id", b"tenant"), row(b"", b"n" * 120)]):
        yield answered(2, listening, *rows, done, (b"?", b"a"), columns, row(b"a", b"1"), done, (b"?", b"c"), columns,
                       done, (b"?", b"c"), (b"M", b"A\0\0\0\1pgturnstile_tenants\0\0"), (b"M", b"A\0\0\0\1x\0\0"), later, *rows, done)
        yield answered(2, listening, *rows, done, (b"?", b"d"), (b"E", b"22P02not a number"), (b"?", b"e"), denied,
                       (b"?", b"f" * 3000), (b"?", b"42"), (b"?", b"g\0"), later, listening, denied)
    yield answered(2, denied, columns, row(b"a", b"1"), done, (b"?", b"z"), gone, later, listening, denied, (b"?", b"z"))
    yield answered(2, (b"?", b"z"), (b"M", b"Z"), (b"R", b"x" * 20), later, gone)
    known = (listening, columns, row(b"a", b"1"), row(b"b", b"2"), done)
    yield answered(2, *known, (b"?", b"c"), columns, row(b"a", b"1"), row(b"c", b"1"), done, (b"?", b"d"), (b"M", b"EMno\0\0"), done,
                   (b"?", b"e"), columns, done, (b"?", b"f"), columns, done, (b"?", b"e"), (b"L", b"\x30"), (b"?", b"e"))
    # The answer for one who is sought tells of another who waits.
    yield answered(2, *known, (b"?", b"c"), (b"?", b"e"), (b"?", b"9"), columns, row(b"c", b"3"), row(b"e", b"9"), done)
    for primary in (b"1", b"x"):
        yield answered(2, (b"P", primary), later, *known, (b"L", b"\3"), (b"?", b"z"), later, (b"P", b"0"), (b"L", b"\3"), *known)
        yield answered(1, asked, pinned, row(b"anna", scram), row(None), done, (b"P", primary), (b"L", b"\5"), (b"?", b"bob"), pinned, later)
        yield answered(1, (b"P", primary), (b"L", b"\5"), asked, pinned, row(b"anna", scram), row(None), done, (b"P", b"0"), (b"L", b"\7"), asked)
    for refusal in (b"28P01no", b"3D000no such database", b"53300too many"):
        yield answered(0, *nodes, (b"G", refusal), gone, (b"L", b"\4"), (b"G",), (b"L", b"\4"))
        yield answered(0, (b"G", refusal), gone, gone, (b"L", b"\x28"), (b"G",), later, *nodes)
        yield answered(1, (b"G", refusal), asked, (b"?", b"other/anna"), (b"L", b"\4"), (b"G",), later, pinned)
        yield answered(2, *known, gone, (b"G", refusal), (b"L", b"\4"), (b"?", b"z"), (b"G",), later, *known)
    yield answered(0, *nodes, (b"L", b"\x3f"), (b"M", b"A\0\0\0\1x\0\0"), (b"M", b"D\0\0"), (b"L", b"\1"), *nodes)
    for said in (b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.1 503 no\r\n\r\n", b"HTTP/1.0 404 ", b"SSH-2.0-OpenSSH", b"HTTP/1.0"):
        yield answered(3, (b"R", said))
        yield answered(3, (b"R", said[:5]), (b"R", said[5:]), gone)
    yield from (answered(3, gone), answered(3, later), answered(3, (b"?",), (b"R", b"HTTP/1.0 200 OK")),
                answered(3, (b"N",), (b"?",), later), answered(0, *nodes, *catalogs, (b"N",), (b"L", b"\x3f")),
                answered(0, *nodes, (b"N",), gone, gone, gone, later), answered(1, (b"N",), asked, later),
                answered(2, *known, (b"G", b" "), gone, (b"L", b"\x3f")), answered(1, (b"G", b" "), asked, (b"L", b"\7")))


def answers_under_all():
    """Each under each configuration of its own: four kinds of who asks."""
    for seed in answers():
        yield from (seed, bytes([seed[0] + 4]) + seed[1:])


def ledgers(name):
    lines = [b"490000 17 489984 230 acme\n", b"490000 17 489984 230 a%20b%41\n", b"1 2 3 4 %00\n", b"1 2 3 4 a%2\n",
             b"1 2 3 4 %zz\n", b"1 2 3\n", b"99999999999999999999 2 3 4 x\n", b"18446744073709551615 2 3 4 x\n", b"x\n",
             b"1 2 3 4 \n", b"1 2 3 4 " + b"x" * 3100 + b"\n", b"490000 1 489984 1 x", b"1 2  4 x\n", b"1 2 3 4 %a%A0\n",
             b"18446744073709551616 2 3 4 x\n", b"1 2 489984 230 acme\n", b"490000 1 1 2 acme\n", b"1\n", b"1 x\n", b"1 2 x\n", b"1 2 3 x\n",
             *(b"1 2 3 4 %s\n" % name for name in (b"a b", b"\x7f", b"%01", b"%g0", b"%0g", b"%a", b"%"))]
    whole = [b"pgturnstile quotas 1\n" + line + b"end 0123456789abcdef\n" for line in lines]
    return [*behind_each(b"\0\1", [*lines, b"".join(lines[:2]), *texts(name)]), *behind_each(b"\1", whole)]


def offers():
    """Packets of a running process: whether a descriptor comes with it (1), then a word of offer.h and its fields."""
    def packet(passes, word, *fields):
        return bytes([passes]) + word + b"".join(fields) + b"\xfe"
    format_, pid = (1).to_bytes(4, "big"), (4711).to_bytes(4, "big")
    end = packet(0, b"O", format_, pid)
    given = [packet(1, b"L", bytes([kind]), name + b"\0") for kind, name in enumerate((b"*:6432", b"9632", b"/run/pid", b"/run/s"))]
    said = [b"", *(packet(passes, word, text) for passes in (0, 1) for word in (b"G", b"R", b"Q") for text in (b"", b"busy\0")), packet(0, b"?") + packet(0, b"G")]
    kept = [packet(1, b"L", bytes([kind]), b"x\0", how) for kind in (0, 3) for how in (b"\0", b"\1", b"\1more")]
    yield from (bytes([way]) + b"".join(given) + end + packet(0, b"G") for way in range(12))
    for offered in ([], given, given * 2, kept, *([one] for one in kept), [kept[0], kept[1]], [packet(0, b"L", b"\x63x\0"), packet(1, b"L", b"\x63x\0")]):
        yield from (bytes([way]) + b"".join(offered) + end + rest for way in (0, 6) for rest in said)
    for wrong in (packet(0, b"L", b"\0x\0"), packet(1, b"L", b"\x63x\0"), packet(1, b"L", b"\0x"), packet(1, b"L", b"\0x\0x"),
                  packet(1, b"L", b"\0" + b"x" * 300 + b"\0"), packet(0, b"L"), given[0] * 130, packet(0, b"R", b"busy\0"),
                  packet(1, b"R", b"busy"), packet(1, b"?"), packet(0, b"O", (99).to_bytes(4, "big"), pid),
                  packet(1, b"O", format_, pid), packet(0, b"O", format_), packet(0, b"O", format_, pid, b"x"), b"\1\xfe", b""):
        yield b"\0" + given[0] + wrong + end
        yield b"\0" + wrong


def console():
    """What is sent to the console: how (enum how of fuzz_console.c), and it."""
    def said(*messages, how=0):
        return b"".join(bytes([how]) + message + b"\xfe" for message in messages)

    q, p, b, d, e, sync = raw.query, raw.parse, raw.bind, raw.describe, raw.execute, raw.sync()
    yield from (said(q(text.decode())) for text in commands() if b"\0" not in text)
    for text in ("SHOW CONFIG", "SHOW VERSION", "SHOW HELP", "SHOW TENANTS", "SHOW ROUTE SELECT 1", "SET a = 1", "SET client_encoding = 'x'",
                 "SHOW client_encoding", "", ";", "RELOAD", "nonsense", "SHOW DATABASES", "SHOW LISTS"):
        batch = p("", text) + b() + d("P") + e() + sync
        yield said(batch, batch)
        yield said(p("s", text) + d("S", "s") + b("x", "s") + d("P", "x") + e("x", 2) + e("x", 1000) + e("x"), sync, raw.close("S", "s") + sync)
        yield said(*(bytes([byte]) for byte in batch))
        for formats in ((1,), (0,), (1, 0), (0, 1) * 20, (2,), (1,) * 7, (0, 2)):
            yield said(p("", text) + b(result_formats=formats) + d("P") + e() + sync)
        yield said(q(text) * 8, q(text) * 40, how=4) + said(q(""), how=0)
        yield said(batch * 8, batch, how=4) + said(b"", how=4) + said(sync)
    for wrong in (raw.message("Q", b"x"), raw.message("P", b"x"), raw.message("B", b"x"), raw.message("D", b"Sx"), d("X"), raw.message("E", b"x"),
                  raw.message("C", b"P"), raw.close("X"), b("", "no"), d("S", "no"), d("P", "no"), e("no"), b("", "", ["x"]), b"Q\0\0\0\3",
                  b"?\0\0\0\4", raw.message("F", b"x"), raw.flush(), raw.copy_data(b"x") + raw.copy_done() + raw.copy_fail("x"), raw.password("x"),
                  raw.terminate(), q("x" * 70000), p("", "x" * 70000), raw.message("B", b"\0\0\0\0\0\0")):
        yield said(wrong + p("", "SHOW USERS") + b() + e(), sync, q("SHOW USERS"))
        yield said(p("", "SHOW USERS") + wrong, b() + wrong, e() + wrong, sync)
    yield said(p("s", "SHOW USERS") + p("s", "SHOW USERS"), sync, p("", "SHOW USERS") * 2 + sync)
    yield said(*(p(f"s{n}", "SHOW USERS") for n in range(60)), how=2) + said(*(p(f"t{n}" * 2, "SET a = 1") * 2 for n in range(3)), sync)
    yield said(b"".join(p(f"s{n}", "SHOW USERS") for n in range(130)) + sync)
    yield said(p("", "SHOW USERS") + b"".join(b(f"p{n}") for n in range(9)), sync)
    yield said(p("", "SHOW USERS") + b("x") * 2 + raw.close("P", "x") * 2 + raw.close("S") + raw.close("S", "no"), sync)
    yield said(q("SHOW CONFIG") * 30 + b"x" * 70000, how=4)
    yield said(q("SHOW POOLS") + raw.terminate())


SEEDS = {
    "fuzz_answers": lambda name: answers_under_all(),
    "fuzz_classify": sql,
    "fuzz_command": lambda name: [*commands(), *texts(name)],
    "fuzz_config": lambda name: [*OTHER_FILES, *configs(), *upstreams(), *texts(name), *(p.read_bytes() for p in [*(TOP / "etc").rglob("*.ini"),
                                                                         TOP / "test/unit/pgbouncer.ini"])],
    "fuzz_console": lambda name: console(),
    "fuzz_frame": lambda name: [*server_messages(), *client_messages()],
    "fuzz_hba": lambda name: [*behind_each(b"\0\1\2", texts(name)), *behind_each(b"\0", RULES),
                              *behind_each(b"\1", MAPS), *behind_each(b"\2", DIRECTORIES),
                              *behind_each(b"\0", (b"local all all ldap " + text for text in DIRECTORIES))],
    "fuzz_http": lambda name: HTTP,
    "fuzz_identity": lambda name: (bytes([way]) + host + b"\0" + p[4:] for n, p in enumerate(PACKETS) for way in range(16)
                                   for host in dict.fromkeys((HOSTS[(n + way) % len(HOSTS)], *WHOSE[(n + way) % 2::2]))),
    "fuzz_jwt": lambda name: [*behind_each(b"\0\1\2", texts(name)), *behind_each(b"\1", TOKENS), *tokens(),
                              *behind_each(b"\2", key_sets())],
    "fuzz_ledger": ledgers,
    "fuzz_lex": sql,
    "fuzz_offer": lambda name: offers(),
    "fuzz_passport": lambda name: passports(),
    "fuzz_relay": lambda name: plays(),
    "fuzz_roster": lambda name: ROSTER,
    "fuzz_scan": sql,
    "fuzz_scram": lambda name: [*SCRAM, *behind_each(range(8), texts(name))],
    "fuzz_setting": lambda name: [*samples(), *texts(name)],
    "fuzz_sign": lambda name: [*texts(name), *SIGNING],
    "fuzz_startup": packets,
    "fuzz_userlist": lambda name: [*USERS, *texts(name)],
}


def dictionary(name):
    """As libFuzzer reads it."""
    return "".join('"{}"\n'.format("".join(f"\\x{byte:02x}" for byte in word)) for word in words(name))


def write_seeds(where):
    """The folder of each fuzzer."""
    fuzzers = {p.stem for p in HERE.glob("fuzz_*.c")}
    assert fuzzers == set(SEEDS) == set(PARSERS), f"seeds and parsers for {fuzzers}"
    for name, make in SEEDS.items():
        folder = Path(where) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(itertools.chain(make(name), seeds_of(name))):
            (folder / f"seed-{number:04}").write_bytes(seed)
        folder.with_suffix(".dict").write_text(dictionary(name))
        yield folder


if __name__ == "__main__":
    for _ in write_seeds(sys.argv[1]):
        pass
