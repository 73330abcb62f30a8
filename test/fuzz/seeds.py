#!/usr/bin/env python3
# SPDX-License-Identifier: ISC
#
# seeds.py DIR - what fuzzers begin with: a folder in DIR for each, of what the tests send and read.
#
# Made anew from the statements of test/sql, the conversations of the integration tests, and the
# samples of the tree, so that nothing here can go stale.
"""write_seeds(): the folders, one for every fuzzer that there is."""
import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "test/integration"))

import raw  # noqa: E402

PACKETS = [
    raw.startup({"user": "app", "database": "shop"}),
    raw.startup({"user": "app.acme", "database": "shop", "app.current_business_id": "42"}),
    raw.startup({"user": "anna", "database": "own", "options": "-c work_mem=1MB --geqo=off -c\\ a=b"},
                (3, 2)),
    raw.startup({"user": "u", "database": "x", "replication": "database", "_pq_.grease": "1",
                 "client_encoding": "UTF8", "application_name": "x", "extra_float_digits": "3"}),
    raw.startup({"user": "ops", "database": "pgturnstile"}), raw.SSL_REQUEST, raw.GSSENC_REQUEST,
    raw.cancel_request(1, b"1234"), raw.cancel_request(1, b"x" * 28),
]
# The last bytes of a scan or a lexer's input are read under the settings of its first.
ENVIRONMENTS = b"\0\1\2\3"


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


def commands():
    text = (TOP / "include/admin/commands.def").read_text()
    yield from (f"SHOW {name}".encode() for name in
                re.findall(r"X\((\w+), (?:STATS|ADMIN),", text))
    yield from (b"SHOW POOLS;", b"SET a = 'b''c'", b'PAUSE "my db"', b"KILL TENANT acme", b"RELOAD -- x",
                b"SET TENANT acme rate = '5/s'", b"MAINTENANCE ON TENANT a 'soon'", b"RESET TENANT a rate",
                b"READONLY DATABASE shop", b"/* x */ SHUTDOWN WAIT_FOR_CLIENTS", b"KILL_CLIENT C-1")


SCRAM = [b"\0n,,n=,r=x", b"\0y,,n=u,r=%", b"\1c=biws,r=x%,p=" + b"A" * 43 + b"=",
         b"\2r=%x,s=AAAA,i=4096", b"\3v=" + b"A" * 43 + b"=", b"\3e=other-error", b"\5pass\xc2\xa0word",
         b"\4SCRAM-SHA-256$4096:c2FsdA==$" + b"A" * 43 + b"=:" + b"A" * 43 + b"="]
ROSTER = [b"\2tenant\0business_id\0tier\0a\0" b"1\0basic\0b\0" b"2\0basic\0",
          b"\4name\0business_id\0tier\0rate\0burst\0a\0" b"1\0basic\0" b"5/s\0" b"10\0"]
USERS = [b'"app" "secret"\n"b" "md5' + b"0" * 32 + b'"\n; x\n', b'"u" ""\n"q""q" "a""b" tail\n',
         b'"s" "' + SCRAM[-1][1:] + b'"\n']

RULES = [b"local all all peer map=m # c\nhost db,\"a b\" u 10.0.0.0/8 md5\nhostssl sameuser @f ::1/128 cert\n"
         b"hostnossl replication all samenet reject\n\0u, \"v\"\n@f w",
         b"host all +g 10.0.0.1 255.0.0.0 trust\nhostgssenc all all samehost \\\nscram-sha-256\n",
         b"hostssl all \"d\"\"b\" all password clientcert=verify-full clientname=CN map=\"m\"\n"]
MAPS = [b"m /^(.*)@example\\.com$ \\1\nm \"u@example.com\" all\n# c\nn a b"]


def server_messages():
    return (raw.error("42601", "no") + raw.notice("00000", "x"), raw.row_description("a", "b"),
            raw.data_row("a", None) + raw.command_complete("SELECT 1") + raw.ready(),
            raw.parameter_status("TimeZone", "UTC") + raw.backend_key_data(1, b"1234"),
            raw.auth_sasl() + raw.auth_md5(b"salt") + raw.notification(1, "a", "b"))


def client_messages():
    return (raw.query("SELECT 1"), raw.copy_data(b"1\n") + raw.copy_done() + raw.copy_fail("x"),
            raw.parse("s", "SELECT $1", [25]) + raw.bind("", "s", ["x", None]) + raw.describe("P")
            + raw.execute("", 2) + raw.close("S", "s") + raw.sync() + raw.flush() + raw.terminate())


def under_settings(texts):
    for number, text in enumerate(texts):
        yield ENVIRONMENTS[number % 4:number % 4 + 1] + text


SEEDS = {
    "fuzz_classify": lambda: under_settings(statements()),
    "fuzz_command": commands,
    "fuzz_config": lambda: (p.read_bytes() for p in [*(TOP / "etc").rglob("*.ini"),
                                                     TOP / "test/unit/pgbouncer.ini"]),
    "fuzz_frame": lambda: [*server_messages(), *client_messages()],
    "fuzz_hba": lambda: [*(b"\0" + t for t in RULES), *(b"\1" + t for t in MAPS)],
    "fuzz_identity": lambda: (bytes([way]) + p[4:] for p in PACKETS for way in range(5)),
    "fuzz_lex": lambda: under_settings(statements()),
    "fuzz_roster": lambda: ROSTER,
    "fuzz_scan": lambda: under_settings(statements()),
    "fuzz_scram": lambda: SCRAM,
    "fuzz_setting": lambda: (bytes([i % 256]) + v for i, v in enumerate(samples())),
    "fuzz_startup": lambda: PACKETS,
    "fuzz_userlist": lambda: USERS,
}


def write_seeds(where):
    """The folder of each fuzzer."""
    fuzzers = {p.stem for p in HERE.glob("fuzz_*.c")}
    assert fuzzers == set(SEEDS), f"seeds for {fuzzers ^ set(SEEDS)}"
    for name, make in SEEDS.items():
        folder = Path(where) / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(make()):
            (folder / f"seed-{number:04}").write_bytes(seed)
        yield folder


if __name__ == "__main__":
    for _ in write_seeds(sys.argv[1]):
        pass
