# SPDX-License-Identifier: ISC
#
# psycopg3_app.py - an application of psycopg 3; prints what it sees.
"""Connects as the PG* environment says."""
import asyncio
import datetime
import decimal
import threading

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

SCHEMA = "drv_psycopg3"
OPTIONS = f"-c search_path={SCHEMA}"


def show(label, *values):
    print(f"{label}:", *map(repr, values))


def attempt(label, act):
    """Show what act() returns, or the error that it raises."""
    try:
        show(label, act())
    except psycopg.Error as error:
        show(label, error.sqlstate, error.diag.message_primary, type(error).__name__)


def statements(one, two):
    print("# statements that become prepared")
    for n in range(12):
        show(n, one.execute("SELECT %s::int + 1", [n]).fetchone(),
             two.execute("SELECT %s::text || '!'", [str(n)]).fetchone(),
             one.execute("SELECT note FROM t WHERE id = %s", [n], prepare=True).fetchone())
    print("# more of them than are kept")
    one.prepare_threshold, one.prepared_max = 0, 5
    for turn in range(3):
        show(turn, sum(one.execute(f"SELECT {n} + %s", [turn]).fetchone()[0] for n in range(12)))
    one.prepare_threshold, one.prepared_max = 5, 100
    one.execute("DEALLOCATE ALL")
    show("deallocated", one.execute("SELECT note FROM t WHERE id = %s", [1]).fetchone())


def types(connection):
    print("# types, as text and binary")
    values = [-7, decimal.Decimal("123456789012.000100"), b"\0\xff\x10", None, [1, None, 3],
              Jsonb({"k": [1, "ü"]}), True, datetime.date(2024, 2, 29),
              datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, datetime.timezone.utc),
              datetime.timedelta(days=1, hours=2), 1.5e-10, "it's \\ a \"text\""]
    places = ", ".join(["%s"] * len(values))
    for binary in (False, True):
        show(binary, *connection.execute(f"SELECT {places}", values, binary=binary).fetchone())
    with connection.cursor(row_factory=dict_row) as cursor:
        show("by name", cursor.execute("SELECT 1 AS one, '[1,5)'::int4range AS r").fetchone())
        cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(n, f"note {n}") for n in range(1, 251)])
        show("inserted", cursor.rowcount)
        cursor.executemany("UPDATE t SET note = upper(note) WHERE id = %s RETURNING note",
                           [(n,) for n in range(1, 4)], returning=True)
        show("returned", cursor.fetchall(), cursor.nextset(), cursor.fetchall())


def transactions(one, two):
    print("# transactions")
    with one.transaction():
        one.execute("UPDATE t SET note = 'mine' WHERE id = 1")
        show("before the commit", two.execute("SELECT note FROM t WHERE id = 1").fetchone())
        try:
            with one.transaction():
                one.execute("INSERT INTO t VALUES (1, 'again')")
        except errors.UniqueViolation as error:
            show("in a savepoint", error.sqlstate, one.info.transaction_status.name)
        with one.transaction(force_rollback=True):
            one.execute("DELETE FROM t")
        show("count", one.execute("SELECT count(*) FROM t").fetchone())
    show("after it", two.execute("SELECT note FROM t WHERE id = 1").fetchone())
    with one.transaction():
        one.execute("SELECT 1")
        attempt("fails", lambda: one.execute("SELECT 1/0"))
        attempt("then", lambda: one.execute("SELECT 1"))
        show("status", one.info.transaction_status.name)
        raise psycopg.Rollback()
    one.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    one.read_only = True
    with one.transaction():
        show("characteristics", one.execute("SHOW transaction_isolation").fetchone())
        attempt("read only", lambda: one.execute("DELETE FROM t"))
    one.isolation_level, one.read_only = None, None


def pipelines(one, two):
    print("# pipelines")
    for _ in range(3):
        with one.pipeline(), two.pipeline():
            cursors = [c.execute("SELECT %s::int * 2", [n]) for n in range(10) for c in (one, two)]
            show("results", [cursor.fetchone()[0] for cursor in cursors])
    with one.pipeline() as pipeline:
        good = one.execute("INSERT INTO t VALUES (%s, 'piped') RETURNING id", [300])
        pipeline.sync()
        show("good", good.fetchone())
        bad = one.execute("INSERT INTO t VALUES (%s, 'piped') RETURNING id", [300])
        attempt("bad", bad.fetchone)
        attempt("skipped", lambda: one.execute("INSERT INTO t VALUES (301, 'piped') RETURNING id").fetchone())
        pipeline.sync()
        with one.transaction():
            with one.cursor() as cursor:
                cursor.executemany("INSERT INTO t VALUES (%s, %s)", [(n, "") for n in range(400, 450)])
    show("count", one.execute("SELECT count(*), max(id) FROM t").fetchone())


def cursors(connection):
    print("# server-side cursors, streams")
    with connection.transaction(), connection.cursor("rows") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT g FROM generate_series(1, %s) g", [1000])
        show("iterated", sum(row[0] for row in cursor))
        cursor.scroll(10, mode="absolute")
        attempt("scrolled", cursor.fetchone)
    held = connection.cursor("held", withhold=True, scrollable=True)
    held.execute("SELECT g FROM generate_series(1, 100) g")
    show("held", held.fetchmany(2), held.fetchmany(2))
    held.scroll(90, mode="absolute")
    show("scrolled", held.fetchone())
    held.close()
    with connection.cursor() as cursor:
        show("streamed", sum(n for n, in cursor.stream("SELECT generate_series(1, 1000)")))


def copy(connection):
    print("# COPY")
    with connection.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as into:
            into.set_types(["int4", "text"])
            for n in range(2000, 5000):
                into.write_row((n, "copied"))
        show("copied", cursor.rowcount, cursor.statusmessage)
        with cursor.copy("COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT") as out:
            show("out", list(out.rows()))

        def into_twice():
            with cursor.copy("COPY t FROM STDIN") as into:
                into.write_row((2000, "again"))

        def changed_my_mind():
            with cursor.copy("COPY t FROM STDIN") as into:
                into.write_row((9000, "never"))
                raise ZeroDivisionError

        attempt("duplicate", into_twice)
        attempt("aborted", changed_my_mind)
    show("count", connection.execute("SELECT count(*) FROM t WHERE id >= 2000").fetchone())


def notifications(listener, speaker):
    print("# LISTEN and NOTIFY")
    listener.execute(f"LISTEN {SCHEMA}")
    heard = []
    listener.add_notify_handler(heard.append)
    with speaker.transaction():
        for n in range(3):
            speaker.execute("SELECT pg_notify(%s, %s)", [SCHEMA, f"number {n}"])
    notifies = listener.notifies()
    heard = [next(notifies) for _ in range(3)]
    notifies.close()
    show("heard", [(n.channel, n.payload, n.pid == speaker.info.backend_pid) for n in heard])
    listener.execute("UNLISTEN *")


def sessions(one, two):
    print("# sessions")
    one.execute("SET TimeZone = 'Asia/Tokyo'")
    two.execute("SELECT set_config('TimeZone', 'America/Lima', false)")
    for _ in range(7):
        show("time zones", *(c.info.timezone.key for c in (one, two)),
             *(c.execute("SELECT '2024-02-29 12:00+00'::timestamptz::text").fetchone()[0]
               for c in (one, two)))
    one.execute("SET client_encoding = 'LATIN1'")
    show("encoding", one.info.encoding, one.execute("SELECT %s", ["ü"]).fetchone())
    one.execute("RESET ALL")
    show("reset", one.info.encoding, one.execute("SHOW TimeZone").fetchone())
    one.add_notice_handler(lambda d: show("notice", d.severity_nonlocalized, d.message_primary))
    one.execute("DO $$ BEGIN RAISE NOTICE 'noticed'; RAISE WARNING 'warned'; END $$")
    one.execute("SET ROLE none")
    one.execute("CREATE TEMP TABLE own AS SELECT 1 AS n")
    attempt("temporary", lambda: one.execute("SELECT * FROM own").fetchall())
    attempt("of the other", lambda: two.execute("SELECT * FROM own").fetchall())
    one.execute("DROP TABLE own")


def cancel_once_asleep(connection, watcher):
    asleep = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
    while not watcher.execute(asleep).rowcount:
        pass
    connection.cancel()


def cancels(connection, watcher):
    print("# cancels")
    thread = threading.Thread(target=cancel_once_asleep, args=[connection, watcher])
    thread.start()
    attempt("cancelled", lambda: connection.execute("SELECT pg_sleep(60)"))
    thread.join()
    connection.execute("SET statement_timeout = '50ms'")
    attempt("timed out", lambda: connection.execute("SELECT pg_sleep(60)"))
    connection.execute("RESET statement_timeout")
    show("usable", connection.execute("SELECT pg_sleep(0.06) IS NULL").fetchone())


async def many():
    print("# many tasks on connections of their own")

    async def work(n):
        async with await psycopg.AsyncConnection.connect("", autocommit=True, options=OPTIONS) as c:
            total = 0
            for turn in range(20):
                async with c.transaction():
                    cursor = await c.execute("SELECT %s::int + %s::int", [n, turn])
                    total += (await cursor.fetchone())[0]
                    await c.execute("INSERT INTO work VALUES (%s, %s)", [n, turn])
            return total

    show("totals", await asyncio.gather(*(work(n) for n in range(8))))


def main():
    one, two = (psycopg.connect("", autocommit=True, options=OPTIONS) for _ in range(2))
    one.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    one.execute(f"CREATE SCHEMA {SCHEMA}")
    one.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    one.execute("CREATE TABLE work (worker int, turn int)")
    statements(one, two)
    types(one)
    transactions(one, two)
    pipelines(one, two)
    cursors(two)
    copy(one)
    notifications(one, two)
    sessions(one, two)
    cancels(two, one)
    asyncio.run(many())
    show("work", one.execute("SELECT count(*), sum(turn) FROM work").fetchone())
    one.execute(f"DROP SCHEMA {SCHEMA} CASCADE")


main()
