# SPDX-License-Identifier: ISC
#
# sessions.py - random sessions: what an application may do on a connection, from a seed.
#
# Knows what may be said, not what is answered: whatever a direct connection says is right.  What a
# session names that others could see (tables, channels, lock keys) has the session's own number.
"""Session.random(seed, number): how it starts, and its steps."""
import random
import struct
from dataclasses import dataclass, field

import raw

p, b, d, e, SYNC = raw.parse, raw.bind, raw.describe, raw.execute, raw.sync()

# What the sessions of a database find there; `{n}` is the number of one.
SHARED_OBJECTS = """
CREATE FUNCTION set_unseen(text, text) RETURNS text LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('se' || 't %I = %L', $1, $2); RETURN $1; END $$;
CREATE PROCEDURE set_by_call(name text) LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE format('se' || 't %I = 77000', name); END $$;
CREATE PROCEDURE call_me(n int) LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'called %', n; END $$;
CREATE FUNCTION with_setting() RETURNS text LANGUAGE sql SET work_mem = '7MB' AS
    $$ SELECT pg_catalog.current_setting('work_mem') $$;
CREATE SCHEMA side; CREATE VIEW side.where_am_i AS SELECT 'side'::text AS place;
CREATE VIEW where_am_i AS SELECT 'public'::text AS place;
GRANT USAGE ON SCHEMA side TO PUBLIC; GRANT SELECT ON side.where_am_i, where_am_i TO PUBLIC;
"""
OWN_OBJECTS = """
CREATE TABLE rows{n} (v int NOT NULL); CREATE TABLE serial{n} (id serial, v int);
CREATE SEQUENCE seq{n};
GRANT ALL ON rows{n}, serial{n}, seq{n}, serial{n}_id_seq TO PUBLIC;
"""
CLEANING = ("TRUNCATE rows{n}, serial{n} RESTART IDENTITY; ALTER SEQUENCE seq{n} RESTART;"
            " DROP TABLE IF EXISTS again{n}; CREATE TABLE again{n} (v int, w text);"
            " INSERT INTO again{n} VALUES (1, 'one'); ALTER TABLE again{n} OWNER TO app")
ROLES = ("clerk", "auditor")  # the login role is a member of both


@dataclass(frozen=True)
class Step:
    """Bytes that go out in one write, and how to tell that they have been answered.

    ready: by so many ReadyForQuery.  0: it ends in a Flush, and is answered by so many `ends` of
    its messages.  then: what follows when it is answered with CopyInResponse.  when: the states of
    the session ("I", "T", "E") in which it is said at all.
    """

    send: bytes
    ready: int = 1
    ends: int = 0
    then: bytes = b""
    when: str = "ITE"
    probe: str = ""  # its answers are an observable of this name

    def ends_skipping(self):
        """There is a Sync in it: a server that has thrown away a batch listens again."""
        return any(kind == "S" for kind, _ in messages_of(self.send))

    def __str__(self):
        if self.probe:
            return f"? {self.probe}"
        text = " ".join(describe(kind, body) for kind, body in messages_of(self.send + self.then))
        return f"{text}  [{self.when}]" if self.when != "ITE" else text


def messages_of(data):
    """(kind, body) of each message."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at + 1:at + 5], "big")
        yield chr(data[at]), data[at + 5:at + size + 1]
        at += size + 1


def describe(kind, body):
    """A message as a human reads it."""
    words = body.split(b"\0")
    if kind == "Q":
        return f"Q {words[0].decode(errors='replace')!r}"
    if kind in "PB":
        return f"{kind}({words[0].decode()!r}, {words[1].decode(errors='replace')!r})"
    if kind in "DC":
        return f"{kind}({body[:1].decode()} {body[1:-1].decode()!r})"
    if kind == "E":
        return f"E({words[0].decode()!r}, {int.from_bytes(body[-4:], 'big')})"
    return kind if kind in "SHc" else f"{kind}({body!r})"


# --- texts, in either protocol ------------------------------------------------------------------
class Author:
    """Who makes up one session: its random numbers, its number, what it may say."""

    def __init__(self, rng, number, begins=False):
        self.rng, self.n = rng, number
        self.begins = begins  # with settings of its own, which RESET goes back to

    def pick(self, *choices):
        return self.rng.choice(choices)

    def say(self, sql, when="ITE"):
        """One statement: as a Query, or as a batch with or without a name."""
        sql = sql.replace("{n}", str(self.n))
        way = self.rng.random()
        if way < 0.6:
            return Step(raw.query(sql), when=when)
        name = self.pick("", "", "", "a", "b", "c")
        again = raw.close("S", name) if name else b""
        look = self.pick(b"", d("P"), d("P"))
        return Step(again + p(name, sql) + b("", name) + look + e() + SYNC,
                    when=when if not name else when.replace("E", ""))

    def simple(self, sql, when="ITE"):
        return Step(raw.query(sql.replace("{n}", str(self.n))), when=when)


# --- kinds --------------------------------------------------------------------------------------
# Each is a function of an author that makes up a few steps.
def plain(a):
    return [a.say(a.pick(
        "SELECT 1", "SELECT 'grüße'", "SELECT NULL, '', 'x'", "SELECT generate_series(1, 5)",
        "SELECT 1/0", "SELEC 1", "", ";", "-- nothing", "SELECT nothing", "SELECT * FROM rows{n}",
        "INSERT INTO rows{n} VALUES (1), (2)", "INSERT INTO rows{n} VALUES (NULL)",
        "UPDATE rows{n} SET v = v + 1", "DELETE FROM rows{n}", "VALUES (1, 'a'), (2, 'b')",
        "SELECT place FROM where_am_i", "INSERT INTO rows{n} VALUES (7) RETURNING v",
        "SELECT now() = transaction_timestamp(), now() = statement_timestamp()",
        "SELECT 1.0::float8 / 3", "SELECT '\\x00ff'::bytea", "SELECT '2020-02-03'::date",
        "SELECT '1 day 2 hours'::interval", "SELECT '2020-02-03 12:00+00'::timestamptz",
        "EXPLAIN (COSTS OFF) SELECT 1", "SHOW server_version"))]


def several(a):
    return [a.simple(a.pick(
        "SELECT 1; SELECT 2", "SELECT 1;; SELECT 'two'", "INSERT INTO rows{n} VALUES (3); SELECT 1/0",
        "INSERT INTO rows{n} VALUES (4); SELECT count(*) FROM rows{n}", "SELECT 1; SELEC",
        "BEGIN; INSERT INTO rows{n} VALUES (5); COMMIT", "BEGIN; SELECT 1", "SELECT 1; COMMIT",
        "BEGIN; SELECT 1/0; COMMIT", "SELECT 1; ROLLBACK; SELECT 2", "COMMIT; BEGIN; SELECT 3",
        "SELECT 1; BEGIN; SELECT 2; ROLLBACK; SELECT 3"))]


BEGINS = ("BEGIN", "BEGIN", "BEGIN WORK", "START TRANSACTION", "BEGIN READ ONLY",
          "BEGIN ISOLATION LEVEL REPEATABLE READ", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ WRITE",
          "START TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY", "begin /* so */ transaction",
          "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY DEFERRABLE")
ENDS = ("COMMIT", "COMMIT", "ROLLBACK", "END", "ABORT", "COMMIT WORK", "ROLLBACK AND NO CHAIN")


def begin(a):
    steps = [a.say(a.pick(*BEGINS), "I" if a.rng.random() < 0.9 else "ITE")]
    if a.rng.random() < 0.1:
        steps.append(a.say(a.pick(
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION READ ONLY",
            "SET transaction_read_only = on", "SHOW transaction_isolation",
            "SET TRANSACTION ISOLATION LEVEL NONSENSE")))
    return steps


def end(a):
    return [a.say(a.pick(*ENDS), "TE" if a.rng.random() < 0.9 else "ITE")]


def transaction(a):
    """Savepoints and other odd things in a transaction."""
    return [a.say(a.pick(
        "SAVEPOINT one", "SAVEPOINT two", "ROLLBACK TO one", "ROLLBACK TO SAVEPOINT two",
        "RELEASE one", "RELEASE SAVEPOINT two", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "BEGIN",
        "SELECT 1/0", "SAVEPOINT one", "ROLLBACK TO one"),
        "TE" if a.rng.random() < 0.9 else "ITE")]


VALUES = {
    "search_path": ("side, public", '"$user", public', "public, side", '"odd ""name", public'),
    "TimeZone": ("'Asia/Tokyo'", "'UTC'", "'Europe/Berlin'", "-3", "'Nowhere/None'"),
    "DateStyle": ("'German'", "ISO, DMY", "'SQL, MDY'", "ymd", "'Nonsense'"),
    "IntervalStyle": ("iso_8601", "'postgres_verbose'", "sql_standard"),
    "statement_timeout": ("'1h'", "3600000", "0", "'10min'", "'x'"),
    "lock_timeout": ("'1h'", "60000", "0"),
    "idle_in_transaction_session_timeout": ("'1h'", "0", "3600000"),
    "work_mem": ("'1MB'", "2048", "'3 MB'", "'64kB'", "1", "'banana'"),
    "application_name": ("'one'", "'it''s'", "'grüße'", "''", "two"),
    "client_encoding": ("'UTF8'", "LATIN1", "SQL_ASCII", "'nonsense'"),
    "default_transaction_isolation": ("'serializable'", "'repeatable read'", "'read committed'"),
    "default_transaction_read_only": ("on", "off", "off"),
    "extra_float_digits": ("0", "-3", "3", "1", "99"),
    "bytea_output": ("escape", "hex"),
    "enable_seqscan": ("off", "on"),
    "client_min_messages": ("warning", "notice", "error"),
    "standard_conforming_strings": ("on",),
    "max_parallel_workers_per_gather": ("0", "1"),
    "no_such_setting": ("1",),
    "max_connections": ("5",),
}


def setting(a):
    """A setting's name and a value, as in SET name = value."""
    name = a.pick(*VALUES, "work_mem", "search_path", "TimeZone", "statement_timeout")
    return name, a.rng.choice(VALUES[name])


def quoted(value):
    """The value as set_config() takes it."""
    return value if value.startswith("'") and value.count("'") % 2 == 0 else \
        "'" + value.replace("'", "''") + "'"


def settings(a):
    name, value = setting(a)
    return [a.say(a.pick(
        f"SET {name} = {value}", f"SET {name} TO {value}", f"SET SESSION {name} = {value}",
        f"set {name.upper()} = {value}", f"SET {name} = DEFAULT", f"RESET {name}", "RESET ALL",
        f"SELECT set_config('{name}', {quoted(value)}, false)", f"SET {name} = {value}",
        f"SELECT pg_catalog.set_config('{name}', {quoted(value)}, FALSE), 1",
        f"SHOW {name}", f"SELECT current_setting('{name}', true)",
        "SET TIME ZONE 'Asia/Tokyo'", "SET TIME ZONE DEFAULT", "SET TIME ZONE LOCAL",
        "SET TIME ZONE INTERVAL '+02:00' HOUR TO MINUTE", "SET NAMES 'LATIN1'", "SET NAMES DEFAULT",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE"))]


def settings_oddly(a):
    """Every other way to a setting that a text, a parameter or a name may hide."""
    name, value = a.pick(("work_mem", "1MB"), ("TimeZone", "Asia/Tokyo"), ("lock_timeout", "1h"),
                         ("search_path", "side, public"), ("application_name", "it's"))
    literal = "'" + value.replace("'", "''") + "'"
    if a.rng.random() < 0.3:
        values, scope = [name, value], a.pick("false", "true", "$3::bool")
        values += [a.pick("f", "t")] if scope[0] == "$" else []
        return [Step(p("", f"SELECT set_config($1, $2, {scope})") + b("", "", values) + e() + SYNC)]
    return [a.say(a.pick(
        f"SELECT set_config('{name[:3]}' || '{name[3:]}', {literal}, false)",
        f"SELECT set_config(name, {literal}, false) FROM pg_settings WHERE name = '{name}'",
        f"UPDATE pg_settings SET setting = {literal} WHERE name = '{name}'",
        f"WITH s AS (SELECT set_config('{name}', {literal}, false)) SELECT * FROM s",
        f"VALUES (set_config('{name}', {literal}, false))",
        f"SELECT 1 FROM set_config('{name}', {literal}, false)",
        f"SELECT \"set_config\"('{name}', {literal}, 'f')", f"SET \"{name}\" TO {literal}",
        f"SELECT set_config(setting_name => '{name}', is_local => false, new_value => {literal})",
        f"/* ; */ SeT {name.upper()} -- so\n = {literal}", f"SET {name}=E{literal}",
        f"COPY (SELECT set_config('{name}', {literal}, false)) TO STDOUT",
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT set_config('{name}', {literal},"
        " false)", f"PREPARE setter AS SELECT set_config('{name}', $1, false)",
        f"EXECUTE setter ({literal})", f"EXECUTE setter ({literal})", "DEALLOCATE setter",
        f"DECLARE setting CURSOR FOR SELECT set_config('{name}', {literal}, false)",
        "FETCH setting", f"SELECT set_config('{name}', NULL, false)",
        f"INSERT INTO rows{{n}} SELECT length(set_config('{name}', {literal}, false))",
        f"SELECT set_config('{name}', {literal}, false) WHERE false",
        f"SELECT set_config('{name}', {literal}, false), 1/0",
        f"SELECT 'SET {name} = 1; set_config(x)'", f"SELECT $$ SET {name} = {literal} $$"))]


def settings_together(a):
    """Several in one string."""
    (one, value), (other, second) = setting(a), setting(a)
    return [a.simple(a.pick(
        f"SET {one} = {value}; SET {other} = {second}", f"SET {one} = {value}; SELECT 1/0",
        f"BEGIN; SET {one} = {value}; COMMIT", f"BEGIN; SET {one} = {value}; ROLLBACK",
        f"BEGIN; SET LOCAL {one} = {value}; SET {other} = {second}; COMMIT",
        f"SET {one} = {value}; RESET {other}; SHOW work_mem",
        f"RESET {one}; SHOW {one}; SET {other} = DEFAULT; SHOW {other}; SELECT 1; RESET ALL; SHOW {one}",
        f"BEGIN; SET LOCAL {one} TO DEFAULT; SHOW {one}; RESET ALL; SHOW {other}; ROLLBACK; SHOW {one}"))]


def settings_locally(a):
    name, value = setting(a)
    return [a.say(a.pick(
        f"SET LOCAL {name} = {value}", f"SET LOCAL {name} TO DEFAULT", f"SHOW {name}",
        f"SELECT set_config('{name}', {quoted(value)}, true)", f"SET {name} = {value}",
        f"RESET {name}", "SELECT with_setting()"), "TE" if a.rng.random() < 0.8 else "ITE")]


def custom(a):
    name, value = a.pick("app.x", "app.y", '"app"."Odd Name"'), a.pick("'1'", "'two'", "''", "'é'")
    plain_name = name.replace('"', "")
    if a.begins and value == "''":  # as RESET in code leaves it
        value = "'3'"
    return [a.say(a.pick(
        f"SET {name} = {value}", f"SET {name} = {value}", f"RESET {name}", f"SET LOCAL {name} = {value}",
        f"SELECT set_config('{plain_name}', {value}, false)",
        f"SELECT set_config('{plain_name}', {value}, true)",
        f"SELECT coalesce(current_setting('{plain_name}', true), '')"))]


def role(a):
    name = a.pick(*ROLES, "none", "app", "nobody_at_all")
    return [a.say(a.pick(
        f"SET ROLE {name}", f"SET ROLE '{name}'", "RESET ROLE", f"SET LOCAL ROLE {name}",
        "SET SESSION AUTHORIZATION app", "SET SESSION AUTHORIZATION clerk",
        "SET SESSION AUTHORIZATION DEFAULT", "RESET SESSION AUTHORIZATION",
        "SELECT current_user, session_user", f"SELECT set_config('role', '{name}', false)",
        f"SET ROLE {name}"))]


def sql_prepare(a):
    name = a.pick("p1", "p2", '"Odd Name"')
    return [a.say(a.pick(
        f"PREPARE {name} AS SELECT 1", f"PREPARE {name} (int) AS SELECT $1 + 1, place FROM where_am_i",
        f"EXECUTE {name}", f"EXECUTE {name} (1)", f"EXECUTE {name}", f"DEALLOCATE {name}",
        f"DEALLOCATE PREPARE {name}", f"PREPARE {name} AS INSERT INTO rows{{n}} VALUES (1)",
        f"EXPLAIN (COSTS OFF) EXECUTE {name}", f"PREPARE {name} AS SELECT nothing")),
        *([a.say("DEALLOCATE ALL")] if a.rng.random() < 0.1 else [])]


TEXTS = ("SELECT 1", "SELECT $1::text", "SELECT generate_series(1, 5)", "SELECT 1/0", "SELEC", "",
         "INSERT INTO rows{n} VALUES (1), (2)", "SELECT count(*) FROM rows{n}", "SELECT nothing",
         "SELECT place FROM where_am_i", "SELECT current_setting('work_mem'), $1::int + 1")


def batch_messages(a, count, safe=False):
    """Messages of a batch, at random.  safe: one end for each, and none that may be skipped."""
    result, texts = [], [text.replace("{n}", str(a.n)) for text in TEXTS]
    for _ in range(count):
        name, portal = a.pick("", "", "a", "b", "c"), a.pick("", "", "", "q")
        text, values = a.rng.choice(texts), a.rng.choice(([], [], ["1"]))
        result += a.rng.choice([
            lambda: [p(name, text)],
            lambda: [raw.close("S", name), p(name, text), b(portal, name, values), e(portal)],
            lambda: [b(portal, name, values), e(portal, a.pick(0, 0, 2))],
            lambda: [b(portal, name, values), d("P", portal)],
            lambda: [d("S", name)],
            lambda: [d("P", portal), e(portal, a.pick(0, 1, 2))],
            lambda: [raw.close("S", name)],
            lambda: [raw.close("P", portal)],
            lambda: [raw.flush()] if not safe else [p("", "SELECT 5"), b(), e()],
        ])()
    return result


def batch(a):
    messages = batch_messages(a, a.rng.randint(1, 5))
    # A statement that its server has not seen yet cannot be brought there in a failed transaction.
    return [Step(b"".join(messages) + SYNC, when="IT")]


def named(a):
    """Prepared once, used again and again."""
    name, text = a.pick("a", "b", "c"), a.pick("SELECT $1::int * 2", "SELECT $1::text, place FROM"
                                              " where_am_i", "INSERT INTO rows{n} VALUES ($1)")
    text = text.replace("{n}", str(a.n))
    use = b("", name, ["3"]) + e()
    steps = [Step(raw.close("S", name) + p(name, text) + d("S", name) + SYNC)]
    for _ in range(a.rng.randint(1, 3)):
        steps.append(Step(a.pick(use, d("S", name) + use, use + use, d("S", name)) + SYNC, when="IT"))
    return steps


def flush(a):
    """A batch in pieces: each is answered before the next is sent."""
    steps = []
    for _ in range(a.rng.randint(1, 3)):
        messages = batch_messages(a, a.rng.randint(1, 3), safe=True)
        steps.append(Step(b"".join(messages) + raw.flush(), ready=0, ends=len(messages), when="IT"))
    tail = b"".join(batch_messages(a, a.rng.randint(0, 2)))
    return steps + [Step(tail + SYNC, when="IT")]


def portals(a):
    """Rows in pieces, in a transaction and across other statements."""
    size = a.rng.randint(1, 4)
    text = a.pick("SELECT generate_series(1, 7)", "SELECT 1")
    steps = [a.say("BEGIN", "I"),
             Step(p("", text) + b("q") + e("q", size) + SYNC, when="T")]
    for _ in range(a.rng.randint(1, 3)):
        steps.append(a.pick(Step(e("q", size) + SYNC, when="T"), plain(a)[0],
                            Step(raw.close("P", "q") + SYNC, when="T")))
    return steps + end(a)


def cursors(a):
    name = a.pick("c1", "c2", '"Odd Cursor"')
    return [a.say(a.pick(
        f"DECLARE {name} CURSOR FOR SELECT generate_series(1, 9)",
        f"DECLARE {name} SCROLL CURSOR FOR VALUES (1), (2), (3)",
        f"DECLARE {name} BINARY CURSOR FOR SELECT 1", f"FETCH 2 FROM {name}", f"FETCH ALL {name}",
        f"MOVE BACKWARD 1 IN {name}", f"CLOSE {name}", "CLOSE ALL", f"FETCH NEXT FROM {name}"),
        "T" if a.rng.random() < 0.85 else "ITE")]


def hold_cursors(a):
    name = a.pick("h1", "h2")
    return [a.say(a.pick(
        f"DECLARE {name} CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
        f"DECLARE {name} SCROLL CURSOR WITH HOLD FOR VALUES (1), (2), (3)", f"FETCH 2 FROM {name}",
        f"FETCH BACKWARD 1 FROM {name}", f"CLOSE {name}", "CLOSE ALL", f"FETCH {name}"))]


def temp(a):
    name = a.pick("mine", "mine", "other")
    kept = a.pick("", "", " ON COMMIT DROP", " ON COMMIT DELETE ROWS", " ON COMMIT PRESERVE ROWS")
    return [a.say(a.pick(
        f"CREATE TEMP TABLE {name} (v int){kept}", f"CREATE TEMPORARY TABLE {name}{kept} AS SELECT 1 AS v",
        f"CREATE TABLE pg_temp.{name} (v int)", f"DROP TABLE {name}", f"DROP TABLE IF EXISTS {name}",
        f"INSERT INTO {name} VALUES (1)", f"SELECT count(*) FROM {name}", f"SELECT 1 AS v INTO TEMP {name}",
        f"CREATE TEMP VIEW {name} AS SELECT 1 AS v",
        f"DROP VIEW IF EXISTS {name}", f"CREATE TEMP SEQUENCE {name}", "DISCARD TEMP",
        f"CREATE TEMP TABLE IF NOT EXISTS {name} (v int)", f"ALTER TABLE {name} ADD COLUMN w int",
        f"TRUNCATE {name}", f"SELECT * FROM {name}"))]


def locks(a):
    key = a.n * 1000 + a.rng.randint(0, 2)
    two = f"{a.n * 1000}, {a.rng.randint(0, 2)}"
    return [a.say(a.pick(
        f"SELECT pg_advisory_lock({key})", f"SELECT pg_advisory_unlock({key})",
        f"SELECT pg_advisory_lock({two})", f"SELECT pg_advisory_unlock({two})",
        f"SELECT pg_try_advisory_lock({key})", f"SELECT pg_advisory_lock_shared({key})",
        f"SELECT pg_advisory_unlock_shared({key})", f"SELECT pg_advisory_unlock({key})",
        "SELECT pg_advisory_unlock_all()", f"SELECT pg_try_advisory_lock_shared({two})",
        f"SELECT pg_advisory_lock(k), pg_advisory_lock(k) FROM generate_series({key}, {key + 1}) k",
        f"SELECT pg_advisory_xact_lock({key})", f"SELECT pg_try_advisory_xact_lock_shared({two})"))]


def locks_oddly(a):
    """Through a view, a name of another form, a prepared statement, a failed transaction."""
    key = a.n * 1000 + a.rng.randint(0, 2)
    return [a.say(a.pick(
        f"SELECT \"pg_advisory_lock\"({key})", f"SELECT pg_catalog . pg_advisory_lock ({key})",
        f"PREPARE locker AS SELECT pg_advisory_lock({key})", "EXECUTE locker", "EXECUTE locker",
        f"SELECT 1 FROM pg_advisory_lock({key})", f"SELECT pg_advisory_lock({key}), 1/0",
        f"SELECT count(pg_try_advisory_lock({key})) FROM generate_series(1, 3)",
        f"SELECT pg_advisory_unlock({key})", f"SELECT pg_advisory_unlock_shared({key})",
        f"SELECT 'pg_advisory_lock({key})'", "SELECT pg_advisory_unlock_all()",
        f"SELECT pg_try_advisory_lock({key}) WHERE false"))]


def calls(a):
    """Function calls by OID: no text tells what they do."""
    def call(oid, *values):
        body = b"".join(struct.pack("!i", len(value)) + value for value in values)
        return Step(raw.message("F", struct.pack("!ihh", oid, 1, 0), struct.pack("!h", len(values)),
                                body, struct.pack("!h", 0)))

    key = str(a.n * 1000).encode()
    return [a.pick(
        call(1397, b"-5"), call(1397, b"x"), call(2078, b"work_mem", b"1MB", b"f"),
        call(2078, b"work_mem", b"2MB", b"t"), call(2880, key), call(2884, key), call(2892),
        call(1599, b"0.5"), call(3036, f"ch{a.n}".encode(), b"called"), call(99999))]


def two_phase(a):
    name = f"'two {a.n}'"
    return [a.say("BEGIN", "I"), a.say("INSERT INTO rows{n} VALUES (9)", "T"),
            a.say(f"PREPARE TRANSACTION {name}", "TE"), *plain(a),
            a.simple(a.pick(f"COMMIT PREPARED {name}", f"ROLLBACK PREPARED {name}"), "I"),
            a.simple(f"ROLLBACK PREPARED {name}", "I")]


def listen(a):
    name = a.pick(f"ch{a.n}", f"ch{a.n}", f'"Odd {a.n}"')
    bare = name.strip('"')
    if a.rng.random() < 0.1:
        return [a.say(a.pick("SELECT pg_listening_channels() ORDER BY 1",
                             "SELECT count(c), min(c) FROM pg_listening_channels() c",
                             "SELECT * FROM (SELECT pg_listening_channels()) c ORDER BY 1"))]
    return [a.say(a.pick(
        f"LISTEN {name}", f"LISTEN {name}", f"UNLISTEN {name}", "UNLISTEN *", f"NOTIFY {name}",
        f"NOTIFY {name}, 'hello'", f"SELECT pg_notify('{bare}', 'from a function')",
        f"NOTIFY {name}, 'it''s'", f"SELECT pg_notify('{bare}', NULL)"))]


def discard(a):
    return [a.say(a.pick("DISCARD ALL", "DISCARD ALL", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP",
                         "DEALLOCATE ALL", "RESET ALL", "CLOSE ALL", "UNLISTEN *",
                         "SELECT pg_advisory_unlock_all()"))]


def cleaning(a):
    """What poolers inside of programs and frameworks send between two uses."""
    return [a.simple(a.pick(
        "ROLLBACK", "DISCARD ALL", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL",
        "SELECT 1", "", "BEGIN; ROLLBACK"))]


def sequences(a):
    return [a.say(a.pick(
        "SELECT nextval('seq{n}')", "SELECT currval('seq{n}')", "SELECT lastval()",
        "INSERT INTO serial{n} (v) VALUES (1)", "INSERT INTO serial{n} (v) VALUES (2) RETURNING id",
        "SELECT currval('serial{n}_id_seq')", "SELECT setval('seq{n}', 40)", "DISCARD SEQUENCES",
        "SELECT setval('seq{n}', 50, false)"))]


def copy(a):
    rows = a.pick(b"1\n2\n", b"x\n", b"", b"1\n\\.\n", b"3\n" * 1000)
    data = b"".join(raw.copy_data(row + b"\n") for row in rows.split(b"\n") if row)
    last = a.pick(raw.copy_done(), raw.copy_done(), raw.copy_fail("no more"))
    text = a.pick(f"COPY rows{a.n} FROM STDIN", f"COPY rows{a.n} (v) FROM STDIN WITH (FORMAT csv)",
                  "COPY nothing FROM STDIN")
    return [a.pick(
        Step(raw.query(text), then=data + last),
        Step(p("", text) + b() + e() + SYNC, then=data + last + SYNC),
        a.say(f"COPY rows{a.n} TO STDOUT"), a.say("COPY (SELECT generate_series(1, 300)) TO STDOUT"),
        a.say("COPY (SELECT 1/0) TO STDOUT"))]


def copy_at_once(a):
    """All of it in one write, without waiting for the server to ask."""
    rows = a.pick(b"1\n2\n", b"x\n", b"")
    last = a.pick(raw.copy_done(), raw.copy_done(), raw.copy_fail("no"))
    return [Step(raw.query(f"COPY rows{a.n} FROM STDIN") + raw.copy_data(rows) + last)]


def blocks(a):
    """Code that the server runs: what is in it can be seen in the text, or cannot."""
    return [a.say(a.pick(
        "DO $$ BEGIN RAISE NOTICE 'n'; END $$", "DO $$ BEGIN PERFORM 1/0; END $$",
        "DO $$ BEGIN RAISE WARNING 'w' USING ERRCODE = '01004'; END $$", "CALL call_me(1)",
        "SELECT with_setting()", "CALL call_me('x')"))]


def blocks_that_set(a):
    return [a.say(a.pick(
        "DO $$ BEGIN SET work_mem = '5MB'; END $$", "DO $$ BEGIN SET LOCAL work_mem = '5MB'; END $$",
        "DO $$ BEGIN PERFORM set_config('TimeZone', 'Asia/Tokyo', false); END $$",
        "DO $$ BEGIN EXECUTE 'se' || 't work_mem = 1234'; END $$", "CALL set_by_call('lock_timeout')",
        "DO $$ BEGIN CREATE TEMP TABLE mine (v int); END $$", "DO $$ BEGIN DROP TABLE mine; END $$",
        f"DO $$ BEGIN PERFORM pg_advisory_lock({a.n * 1000}); END $$",
        f"SELECT pg_advisory_unlock({a.n * 1000})", "SELECT count(*) FROM mine"))]


def functions_that_set(a):
    """As above, but a text calls them as if they were harmless."""
    return [a.say(a.pick(
        "SELECT set_unseen('work_mem', '6MB')", "SELECT set_unseen('TimeZone', 'Asia/Tokyo')",
        "SELECT set_unseen('work_mem', '4MB') FROM rows{n}", "SELECT public.set_unseen('role', 'clerk')",
        "INSERT INTO rows{n} SELECT length(set_unseen('search_path', 'side, public'))"))]


def chance(a):
    """The state of random(), within one transaction."""
    return [a.simple("BEGIN; SELECT setseed(0.25); SELECT random(); SELECT random(); COMMIT", "I")]


def seed_kept(a):
    """The state of random(), from one transaction to the next."""
    return [a.say(a.pick("SELECT setseed(0.5)", "SET seed = 0.25")), plain(a)[0],
            a.say("SELECT random()")]


def pipeline(a):
    """Several requests in one write.  No portal from before is used, over which PostgreSQL 15 may
    crash when something in front of it has failed the transaction."""
    parts = [part for _ in range(a.rng.randint(2, 4))
             for part in a.pick(plain, begin, end, transaction, named, settings, custom)(a)]
    return [Step(b"".join(part.send for part in parts), ready=sum(part.ready for part in parts),
                 when="IT")]


def mixed_names(a):
    """The names of prepared statements are one space, for SQL and for the protocol."""
    return [a.pick(
        Step(raw.close("S", "p1") + p("p1", "SELECT 7") + SYNC), a.simple("EXECUTE p1"),
        a.simple("DEALLOCATE p1"), a.simple("PREPARE p1 AS SELECT 8"),
        Step(b("", "p1") + e() + SYNC, when="IT"), Step(d("S", "p1") + SYNC, when="IT"))]


# (text, values that fit, values that may not)
REPEATED = (
    ("SELECT $1::int + 1", ["5"], ["x"]), ("SELECT $1::text, place FROM where_am_i", ["a"], []),
    ("SELECT v FROM rows{n} WHERE v >= $1 ORDER BY v", ["0"], ["9999999999"]),
    ("INSERT INTO rows{n} VALUES ($1)", ["8"], [None]), ("UPDATE rows{n} SET v = v + $1", ["1"], [""]),
    ("DELETE FROM rows{n} WHERE v < $1 RETURNING v", ["3"], ["0x"]),
    ("SELECT * FROM again{n} WHERE v = $1", ["1"], ["b"]),
    ("SELECT v, w FROM again{n} WHERE v = $1", ["1"], ["9999999999"]),
    ("INSERT INTO again{n} VALUES ($1, $2)", ["1", "w"], ["1"]),
    ("SELECT current_setting('work_mem'), current_user, $1::date", ["2020-02-03"], ["04.05.2020"]),
    ("SELECT 'today'::date >= $1, count(*) FROM rows{n}", ["2020-02-03"], ["yesterday"]),
    ("SELECT '1/2/2003'::date - '2003-01-01'::date, '1 2:03'::interval, $1", ["a"], []),
    ("SELECT 8 / $1", ["2"], ["0"]), ("SELECT count(*) FROM again{n}, where_am_i", [], ["1"]),
)
BETWEEN = (
    "SET search_path = side, public", "SET search_path = public", "SET ROLE clerk", "RESET ROLE",
    "SET LOCAL enable_seqscan = off", "SET plan_cache_mode = force_generic_plan",
    "SET DateStyle = German", "SET DateStyle = SQL, DMY", "SET LOCAL IntervalStyle = iso_8601",
    "BEGIN", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT again",
    "ROLLBACK TO again", "DISCARD ALL", "DEALLOCATE ALL",
)
# Behind each of these every text is another one, for all sessions.
DEFINITIONS = (
    "ALTER TABLE again{n} ADD x int DEFAULT 5", "ALTER TABLE again{n} DROP w",
    "ALTER TABLE again{n} ALTER v TYPE bigint", "DROP TABLE again{n}",
    "CREATE TABLE again{n} (w text, v int)", "CREATE TEMP TABLE again{n} (v text, w int)",
)


def repeats(a):
    """The same text again and again without a name, as drivers send it, while what it names
    changes."""
    def use(text, values, odd):
        values = values if a.rng.random() < 0.9 else odd
        return p("", text) + b("", "", values, result_formats=a.pick([], [], [1])) \
            + a.pick(d("P"), d("P"), b"") + e()

    def two(text, values, _):
        return [Step(p("", text) + d("S") + SYNC),
                Step(b("", "", values) + e() + SYNC, when="IT")]
    texts = [(text.replace("{n}", str(a.n)), *rest)
             for text, *rest in a.rng.choices(REPEATED, k=a.pick(1, 1, 2))]
    defines, steps = a.rng.random() < 0.1, []
    for _ in range(a.rng.randint(4, 10)):
        way = a.rng.random()
        if way < 0.65:
            steps.append(Step(use(*a.rng.choice(texts)) + SYNC))
        elif way < 0.75:
            steps.append(Step(b"".join(use(*a.rng.choice(texts)) for _ in range(4)) + SYNC))
        elif way < 0.85:
            steps += two(*a.rng.choice(texts))
        else:
            steps.append(a.simple(a.rng.choice(DEFINITIONS if defines else BETWEEN)))
    return steps


def startup(a):
    """Stands for the parameters of the startup packet; a step like any other comes of it."""
    return settings(a)


def narrow_paths(a):
    """Statements whose names are found, or not, by the search_path when they are parsed."""
    path = a.pick("''", "'side'", "pg_catalog, side", "DEFAULT", "public")
    return [a.say(f"SET search_path = {path}"), *named(a)]


# name: (weight, function).  Weight 0: not part of what is promised (yet); PGT_KINDS=+name asks.
KINDS = {
    "plain": (0, plain), "begin": (0, begin), "end": (0, end),  # in every session
    "several": (2, several), "transaction": (4, transaction), "two phase": (1, two_phase),
    "settings": (6, settings), "settings together": (3, settings_together),
    "settings locally": (4, settings_locally), "settings oddly": (3, settings_oddly),
    "custom": (3, custom), "role": (3, role),
    "batch": (4, batch), "named": (4, named), "flush": (2, flush), "pipeline": (3, pipeline),
    "sql prepare": (3, sql_prepare), "mixed names": (2, mixed_names), "calls": (1, calls),
    "portals": (2, portals), "cursors": (2, cursors), "hold cursors": (2, hold_cursors),
    "temp": (3, temp), "locks": (3, locks), "locks oddly": (2, locks_oddly),
    "copy": (2, copy), "copy at once": (1, copy_at_once), "blocks": (2, blocks),
    "chance": (1, chance), "seed kept": (1, seed_kept),
    "discard": (2, discard), "cleaning": (3, cleaning),
    "listen": (3, listen), "sequences": (2, sequences), "startup": (3, startup),
    "odd startup": (1, startup),
    "repeats": (6, repeats), "narrow paths": (2, narrow_paths), "blocks that set": (2, blocks_that_set),
    "functions that set": (1, functions_that_set),
}


# --- observables --------------------------------------------------------------------------------
# What a session can ask about itself.  Each is one Query with one or more results.
PROBES = {
    "settings": "SELECT pg_catalog.string_agg(name || '=' || setting, '; ' ORDER BY name COLLATE \"C\")"
                " FROM pg_catalog.pg_settings WHERE context IN ('user', 'superuser')"
                " AND name NOT LIKE '%.%'",
    "custom settings": "SELECT coalesce(pg_catalog.current_setting('app.x', true), ''),"
                       " coalesce(pg_catalog.current_setting('app.y', true), ''),"
                       " coalesce(pg_catalog.current_setting('app.Odd Name', true), '')",
    "identity": "SELECT current_user, session_user, pg_catalog.current_setting('role'),"
                " pg_catalog.current_setting('session_authorization'),"
                " pg_catalog.current_setting('is_superuser'), pg_catalog.regexp_replace("
                "pg_catalog.current_schemas(true)::text, 'pg_temp_[0-9]+,', '')",
    "prepared statements": "SELECT name, statement, parameter_types::text"
                           " FROM pg_catalog.pg_prepared_statements WHERE from_sql ORDER BY name",
    "cursors": "SELECT name, statement, is_holdable, is_binary, is_scrollable"
               " FROM pg_catalog.pg_cursors ORDER BY name",
    "temporary objects": "SELECT relname, relkind FROM pg_catalog.pg_class"
                         " WHERE relnamespace = pg_catalog.pg_my_temp_schema() ORDER BY 1",
    "locks": "SELECT classid, objid, objsubid, mode, granted FROM pg_catalog.pg_locks"
             " WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_catalog.pg_database"
             " WHERE datname = pg_catalog.current_database())"
             " AND (CASE objsubid WHEN 1 THEN objid ELSE classid END)::int8 BETWEEN {n} * 1000"
             " AND {n} * 1000 + 999 ORDER BY 1, 2, 3, 4",
    "channels": "SELECT pg_catalog.pg_listening_channels() ORDER BY 1",
    "own rows": "SELECT count(*) FROM public.rows{n}",
}


def probe(number, names):
    """Questions about the session; not in a failed transaction, where nothing can be asked."""
    return [Step(raw.query(PROBES[name].replace("{n}", str(number))), when="IT", probe=name)
            for name in names]


# --- sessions -----------------------------------------------------------------------------------
STARTUPS = {
    "application_name": ("first", "it's \\ \"odd\""), "TimeZone": ("Asia/Tokyo", "Europe/Berlin"),
    "DateStyle": ("German", "SQL, DMY"), "client_encoding": ("LATIN1", "UTF8", "SQL_ASCII"),
    "extra_float_digits": ("0", "3"), "search_path": ("side, public", '"odd name", public'),
    "statement_timeout": ("30min",), "IntervalStyle": ("iso_8601",), "role": ("clerk",),
    "idle_in_transaction_session_timeout": ("1h",), "default_transaction_read_only": ("off", "on"),
    "options": ("-c work_mem=1MB", "-c statement_timeout=1h --lock-timeout=1h", "-c app.x=start",
                "-c search_path=side,public -c bytea_output=escape",
                "-c default_transaction_isolation=repeatable\\ read"),
}


# Each is refused, or is nothing at all.
ODD_STARTUPS = (
    {"TimeZone": "Nowhere/None"}, {"no_such_setting": "1"}, {"options": "-c work_mem=banana"},
    {"options": "-c no_such_setting=1"}, {"max_connections": "5"}, {"options": "--port=1"},
    {"client_encoding": "nonsense"}, {"options": ""}, {"app.x": "1", "options": "-c app.y=2"},
    {"statement_timeout": "-5"}, {"options": "-c"}, {"options": "-c search_path"},
    {"role": "nobody_at_all"}, {"session_authorization": "clerk"},
    {"DateStyle": "Nonsense"}, {"work_mem": "1"}, {"log_statement": "all"},
)


@dataclass
class Session:
    """What one client does, from its startup packet to how it leaves."""

    number: int
    startup: dict = field(default_factory=dict)
    steps: list = field(default_factory=list)
    leaves: str = "terminates"  # or "hangs up", "resets"

    @classmethod
    def random(cls, rng, number, kinds):
        """A session that does a few of the kinds, mixed."""
        names = [name for name in kinds if name in KINDS]
        weights = [max(KINDS[name][0], 1) for name in names]
        chosen = rng.choices(names, weights, k=rng.randint(1, 4))
        wishes = rng.choice((0, 0, 0, 1, 1, 2, 3)) if "startup" in kinds else 0
        session = cls(number, {key: rng.choice(STARTUPS[key])
                               for key in rng.sample(sorted(STARTUPS), wishes)})
        if "odd startup" in kinds and rng.random() < 0.2:
            session.startup = rng.choice(ODD_STARTUPS)
        a = Author(rng, number, bool(session.startup))
        for _ in range(rng.randint(4, 16)):
            usual = rng.random()
            if usual < 0.15:
                session.steps += plain(a)
            elif usual < 0.27:
                session.steps += begin(a)
            elif usual < 0.40:
                session.steps += end(a)
            elif usual < 0.55:
                session.steps += probe(number, [rng.choice(sorted(PROBES))])
            else:
                session.steps += KINDS[rng.choice(chosen)][1](a)
        session.steps += [a.simple("ROLLBACK", "E")] + probe(number, PROBES)
        session.leaves = rng.choice(("terminates", "terminates", "hangs up", "resets"))
        return session

    def __str__(self):
        lines = [f"session {self.number}, startup {self.startup}, {self.leaves} at the end:"]
        return "\n".join(lines + [f"  {i:3} {step}" for i, step in enumerate(self.steps)])


def random_sessions(seed, count, kinds):
    """`count` sessions that are to run at the same time."""
    rng = random.Random(f"sessions {seed}")
    return [Session.random(rng, number, kinds) for number in range(count)]


def usual_kinds():
    return [name for name, (weight, _) in KINDS.items() if weight]
