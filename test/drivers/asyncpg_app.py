# SPDX-License-Identifier: ISC
#
# asyncpg_app.py - an application of asyncpg; prints what it sees.
"""Connects as the PG* environment says.  With the argument `changes`: that scene alone."""
import asyncio
import datetime
import decimal
import io
import json
import sys
import uuid

import asyncpg

SCHEMA = "_".join(["drv_asyncpg", *sys.argv[1:]])


def show(label, *values):
    print(f"{label}:", *map(repr, values))


async def attempt(label, act):
    """Show the result of a coroutine, or the error that it raises."""
    try:
        show(label, await act)
    except asyncpg.PostgresError as error:
        show(label, error.sqlstate, error.args[0], type(error).__name__)


async def statements(one, two):
    print("# statements, cached and prepared")
    for n in range(12):
        show(n, await one.fetchval("SELECT $1::int + 1", n),
             await two.fetchval("SELECT $1::text || '!'", str(n)),
             await one.fetchrow("SELECT note FROM t WHERE id = $1", n))
    mine = await one.prepare("SELECT g, 'row ' || g FROM generate_series(1, $1) g")
    show("parameters", [p.name for p in mine.get_parameters()],
         [a.name for a in mine.get_attributes()], mine.get_statusmsg())
    show("prepared", await mine.fetch(3), await mine.fetchval(1, column=1), mine.get_statusmsg())
    await attempt("wrong", one.prepare("SELECT nothing"))
    print("# more of them than are kept")
    small = await connect(statement_cache_size=5)
    for turn in range(3):
        show(turn, sum([await small.fetchval(f"SELECT {n} + $1", turn) for n in range(12)]))
    await small.close()
    none = await connect(statement_cache_size=0)
    show("none kept", [await none.fetchval("SELECT $1::int", n) for n in range(3)])
    await none.close()


async def types(connection):
    print("# types, always binary")
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads,
                                    schema="pg_catalog")
    show("row", *await connection.fetchrow(
        "SELECT $1::int8, $2::numeric, $3::bytea, $4::text, $5::int[], $6::jsonb, $7::bool, $8::date,"
        " $9::timestamptz, $10::interval, $11::float8, $12::uuid, int4range($13, $13 + 4)",
        -7, decimal.Decimal("123456789012.000100"), b"\0\xff\x10", None, [1, None, 3],
        {"k": [1, "ü"]}, True, datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, datetime.timezone.utc),
        datetime.timedelta(days=1, hours=2), 1.5e-10, uuid.UUID(int=42), 1))
    await connection.execute("CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, m mood)")
    show("own types", await connection.fetchrow(
        "SELECT $1::mood, $2::mood[], ROW(1, 'sad')::pair AS pair", "glad", ["sad", "glad"]))
    await connection.executemany("INSERT INTO t VALUES ($1, $2)",
                                 [(n, f"note {n}") for n in range(1, 251)])
    show("inserted", await connection.fetchval("SELECT count(*) FROM t"))
    await attempt("one of many", connection.executemany(
        "INSERT INTO t VALUES ($1, $2)", [(n, "again") for n in (251, 252, 1, 253)]))
    show("all or none", await connection.fetchval("SELECT count(*) FROM t"))


async def transactions(one, two):
    print("# transactions")
    async with one.transaction():
        await one.execute("UPDATE t SET note = 'mine' WHERE id = 1")
        show("before the commit", await two.fetchval("SELECT note FROM t WHERE id = 1"))
        try:
            async with one.transaction():
                await one.execute("INSERT INTO t VALUES (1, 'again')")
        except asyncpg.UniqueViolationError as error:
            show("in a savepoint", error.sqlstate, error.constraint_name, error.detail)
        show("count", await one.fetchval("SELECT count(*) FROM t"))
    show("after it", await two.fetchval("SELECT note FROM t WHERE id = 1"))
    transaction = one.transaction(isolation="serializable", readonly=True)
    await transaction.start()
    show("characteristics", await one.fetchval("SHOW transaction_isolation"))
    await attempt("read only", one.execute("DELETE FROM t"))
    await attempt("then", one.fetchval("SELECT 1"))
    await transaction.rollback()
    await attempt("several", one.execute("SELECT 1; INSERT INTO t VALUES (300, 'x'); SELECT 1/0"))
    show("count", await one.fetchval("SELECT count(*) FROM t"), one.is_in_transaction())


async def changes(one, two):
    print("# a table that changes under a cached statement")
    await one.execute("CREATE TABLE changing AS SELECT 1 AS id")
    for _ in range(3):
        rows = await one.fetch("SELECT * FROM changing")
    await two.execute("ALTER TABLE changing ADD COLUMN added text DEFAULT 'new'")
    show("rows", rows, await one.fetch("SELECT * FROM changing"))
    await two.execute("ALTER TABLE changing ALTER COLUMN id TYPE text")
    show("rows", await one.fetch("SELECT * FROM changing"))


async def cursors(connection):
    print("# cursors: portals left open between messages")
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("SELECT g FROM generate_series(1, $1) g", 1000, prefetch=100):
            total += row["g"]
        show("iterated", total)
        cursor = await connection.cursor("SELECT g FROM generate_series(1, 1000) g")
        other = await connection.cursor("SELECT -g FROM generate_series(1, 1000) g")
        show("fetched", await cursor.fetch(2), await other.fetch(2), await cursor.forward(100),
             await cursor.fetchrow(), await other.fetchrow())
    show("limited", await connection.fetchrow("SELECT generate_series(1, 1000)"))


async def copy(connection):
    print("# COPY")
    show("in", await connection.copy_records_to_table(
        "t", records=[(n, "copied") for n in range(2000, 5000)], schema_name=SCHEMA))
    out = io.BytesIO()
    show("out", await connection.copy_from_query(
        "SELECT * FROM t WHERE id >= $1 ORDER BY id", 4998, output=out, format="csv"), out.getvalue())
    show("text in", await connection.copy_to_table("t", source=io.BytesIO(b"5000\ttext\n"),
                                                   schema_name=SCHEMA))
    await attempt("duplicate", connection.copy_records_to_table("t", records=[(1, "again")],
                                                                schema_name=SCHEMA))
    await attempt("wrong type", connection.copy_to_table("t", source=io.BytesIO(b"x\ty\n"),
                                                         schema_name=SCHEMA))
    show("count", await connection.fetchval("SELECT count(*) FROM t WHERE id >= 2000"))


async def notifications(listener, speaker):
    print("# LISTEN and NOTIFY")
    heard = asyncio.Queue()
    on_notify = lambda _, pid, channel, payload: heard.put_nowait((pid, channel, payload))  # noqa: E731
    await listener.add_listener(SCHEMA, on_notify)
    async with speaker.transaction():
        for n in range(3):
            await speaker.execute("SELECT pg_notify($1, $2)", SCHEMA, f"number {n}")
    for _ in range(3):
        pid, *what = await asyncio.wait_for(heard.get(), 20)
        show("heard", *what, pid == speaker.get_server_pid())
    await listener.remove_listener(SCHEMA, on_notify)


async def sessions(one, two):
    print("# sessions")
    await one.execute("SET TimeZone = 'Asia/Tokyo'")
    await two.fetchval("SELECT set_config('TimeZone', 'America/Lima', false)")
    for _ in range(3):
        show("time zones", *[value for c in (one, two) for value in (
            c.get_settings().TimeZone, await c.fetchval("SELECT '2024-02-29 12:00+00'::timestamptz::text"))])
    notices = asyncio.Queue()
    one.add_log_listener(lambda _, message: notices.put_nowait(message))
    await one.execute("DO $$ BEGIN RAISE NOTICE 'noticed' USING HINT = 'a hint'; END $$")
    message = await asyncio.wait_for(notices.get(), 20)
    show("notice", message.severity, message.message, message.hint)
    await one.execute("CREATE TEMP TABLE own AS SELECT 1 AS n")
    await attempt("temporary", one.fetch("SELECT * FROM own"))
    await attempt("of the other", two.fetch("SELECT * FROM own"))
    await one.reset()  # closes cursors, unlistens, unlocks and resets all
    show("reset", await one.fetchval("SHOW TimeZone"), await one.fetchval("SHOW search_path"))
    await one.execute("DISCARD ALL")
    await one.reload_schema_state()
    show("discarded", await one.fetchval("SELECT $1::int + 1", 1))


async def cancels(connection):
    print("# cancels and timeouts")
    try:
        await connection.fetchval("SELECT pg_sleep(60)", timeout=1)
    except asyncio.TimeoutError:
        show("timed out", await connection.fetchval("SELECT 'usable'"))
    task = asyncio.create_task(connection.execute("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    task.cancel()
    show("cancelled", (await asyncio.gather(task, return_exceptions=True))[0].__class__.__name__,
         await connection.fetchval("SELECT 'usable'"))
    await connection.execute("SET statement_timeout = '50ms'")
    await attempt("by the server", connection.execute("SELECT pg_sleep(60)"))
    await connection.execute("RESET statement_timeout")


async def pools():
    print("# the driver's own pool, which resets what is given back")
    async with asyncpg.create_pool(min_size=1, max_size=4,
                                   server_settings={"search_path": SCHEMA}) as pool:
        await pool.execute("CREATE TABLE work (worker int, turn int)")

        async def work(n):
            total = 0
            for turn in range(20):
                async with pool.acquire() as connection:
                    total += await connection.fetchval("SELECT $1::int + $2::int", n, turn)
                    async with connection.transaction():
                        await connection.execute("INSERT INTO work VALUES ($1, $2)", n, turn)
                    await connection.execute(f"SET application_name = 'worker {n}'")
            return total

        show("totals", await asyncio.gather(*(work(n) for n in range(8))))
        show("work", await pool.fetchrow("SELECT count(*), sum(turn) FROM work"),
             await pool.fetchval("SHOW application_name"))


def connect(**kwargs):
    return asyncpg.connect(server_settings={"search_path": SCHEMA}, **kwargs)


async def main():
    one, two = await connect(), await connect()
    await one.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    await one.execute(f"CREATE SCHEMA {SCHEMA}; CREATE TABLE t (id int PRIMARY KEY, note text)")
    if sys.argv[1:] == ["changes"]:
        await changes(one, two)
    else:
        await statements(one, two)
        await types(one)
        await transactions(one, two)
        await cursors(two)
        await copy(one)
        await notifications(one, two)
        await sessions(one, two)
        await cancels(two)
        await pools()
    await one.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    await one.close()
    await two.close()


asyncio.run(main())
