# SPDX-License-Identifier: ISC
#
# psycopg2_app.py - an application of psycopg 2; prints what it sees.
"""Connects as the PG* environment says."""
import datetime
import decimal
import io
import select
import threading

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool

SCHEMA = "drv_psycopg2"


def show(label, *values):
    print(f"{label}:", *map(repr, values))


def attempt(label, act):
    """Show what act() returns, or the error that it raises."""
    try:
        show(label, act())
    except psycopg2.Error as error:
        show(label, error.pgcode, error.diag.message_primary, type(error).__name__)


def query(connection, sql, values=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else cursor.statusmessage


def types(connection):
    print("# types")
    psycopg2.extras.register_uuid()
    values = (-7, decimal.Decimal("123456789012.000100"), b"\0\xff\x10", None, [1, None, 3],
              psycopg2.extras.Json({"k": [1, "ü"]}), True, datetime.date(2024, 2, 29),
              datetime.datetime(2024, 2, 29, 12, 34, 56, 789000, datetime.timezone.utc),
              datetime.timedelta(days=1, hours=2), 1.5e-10, "it's \\ a \"text\"")
    row = query(connection, "SELECT %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s", values)[0]
    show("row", *(bytes(v) if isinstance(v, memoryview) else v for v in row))
    show("range", query(connection, "SELECT '[1,5)'::int4range, ARRAY[['a'],['b']], 'x'::\"char\""))
    show("many", psycopg2.extras.execute_values(
        connection.cursor(), "INSERT INTO t (id, note) VALUES %s RETURNING id",
        [(n, f"note {n}") for n in range(1, 251)], page_size=100, fetch=True)[-1])
    psycopg2.extras.execute_batch(connection.cursor(), "UPDATE t SET note = %s WHERE id = %s",
                                  [(f"changed {n}", n) for n in range(1, 251)])
    show("batch", query(connection, "SELECT count(*) FROM t WHERE note LIKE 'changed%%'"))
    connection.commit()


def transactions(one, two):
    print("# transactions")
    with one:
        query(one, "UPDATE t SET note = 'mine' WHERE id = 1")
        show("before the commit", query(two, "SELECT note FROM t WHERE id = 1"))
        show("status", one.status == psycopg2.extensions.STATUS_IN_TRANSACTION,
             one.get_transaction_status())
    two.rollback()
    show("after it", query(two, "SELECT note FROM t WHERE id = 1"))
    attempt("duplicate", lambda: query(one, "INSERT INTO t VALUES (1, 'again')"))
    attempt("then", lambda: query(one, "SELECT 1"))
    one.rollback()
    try:
        with one:
            query(one, "DELETE FROM t")
            raise ValueError("changed my mind")
    except ValueError as error:
        show("rolled back", str(error), query(one, "SELECT count(*) FROM t"))
    query(one, "SAVEPOINT s")
    attempt("division", lambda: query(one, "SELECT 1/0"))
    query(one, "ROLLBACK TO SAVEPOINT s")
    show("goes on", query(one, "SELECT 'still here'"))
    one.commit()
    one.set_session(isolation_level="SERIALIZABLE", readonly=True, deferrable=True)
    show("isolation", query(one, "SHOW transaction_isolation"),
         query(one, "SHOW transaction_read_only"), query(one, "SHOW transaction_deferrable"))
    attempt("read only", lambda: query(one, "DELETE FROM t"))
    one.rollback()
    one.set_session(isolation_level="DEFAULT", readonly=False, deferrable=False)
    two.rollback()


def two_phases(connection):
    print("# two-phase commit")
    xid = connection.xid(42, SCHEMA, "branch")
    connection.tpc_begin(xid)
    query(connection, "INSERT INTO t VALUES (1000, 'in two phases')")
    connection.tpc_prepare()
    connection.reset()
    show("pending", [(x.format_id, x.gtrid, x.bqual) for x in connection.tpc_recover()
                     if x.gtrid == SCHEMA])
    connection.rollback()
    connection.tpc_commit(xid)
    show("committed", query(connection, "SELECT note FROM t WHERE id = 1000"))
    connection.commit()


def cursors(connection):
    print("# server-side cursors")
    with connection.cursor(f"{SCHEMA}_rows") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT g FROM generate_series(1, 1000) g")
        show("iterated", sum(row[0] for row in cursor))
    with connection.cursor("scrolled", scrollable=True) as cursor:
        cursor.execute("SELECT g FROM generate_series(1, 100) g")
        cursor.scroll(50)
        show("scrolled", cursor.fetchmany(2))
        cursor.scroll(-10)
        show("back", cursor.fetchone())
    connection.commit()
    held = connection.cursor("held", withhold=True)
    held.execute("SELECT g FROM generate_series(1, 100) g")
    show("held", held.fetchmany(2))
    connection.commit()
    show("held over the commit", held.fetchmany(2))
    held.close()
    connection.commit()


def copy(connection):
    print("# COPY")
    with connection.cursor() as cursor:
        cursor.copy_from(io.StringIO("".join(f"{n}\tcopied\n" for n in range(2000, 5000))), "t",
                         columns=("id", "note"))
        show("copied", cursor.rowcount)
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM t WHERE id >= 4998 ORDER BY id) TO STDOUT"
                           " WITH (FORMAT csv, HEADER)", out)
        show("out", out.getvalue())
        connection.commit()
        attempt("duplicate", lambda: cursor.copy_from(io.StringIO("2000\tagain\n"), "t"))
        connection.rollback()
        show("count", query(connection, "SELECT count(*) FROM t WHERE id >= 2000"))
    connection.rollback()


def notifications(listener, speaker):
    print("# LISTEN and NOTIFY")
    listener.autocommit = True
    query(listener, f"LISTEN {SCHEMA}")
    query(speaker, f"NOTIFY {SCHEMA}, 'rolled back'")
    speaker.rollback()
    with speaker:
        for n in range(3):
            query(speaker, "SELECT pg_notify(%s, %s)", (SCHEMA, f"number {n}"))
    while len(listener.notifies) < 3:
        if not select.select([listener], [], [], 20)[0]:
            break
        listener.poll()
    show("heard", [(n.channel, n.payload, n.pid == speaker.info.backend_pid)
                   for n in listener.notifies])
    query(listener, "UNLISTEN *")
    listener.autocommit = False


def sessions(one, two):
    print("# sessions")
    one.set_client_encoding("LATIN1")
    show("encoding", one.encoding, query(one, "SELECT 'ü', current_setting('client_encoding')"))
    query(one, "SET TimeZone = 'Asia/Tokyo'")
    one.commit()
    query(one, "SET TimeZone = 'America/Lima'")
    one.rollback()
    for _ in range(3):
        show("time zones", *(c.info.parameter_status("TimeZone") for c in (one, two)),
             *(query(c, "SELECT '2024-02-29 12:00+00'::timestamptz")[0][0] for c in (one, two)))
        one.commit()
        two.commit()
    one.notices.clear()
    query(one, "DO $$ BEGIN RAISE NOTICE 'ü noticed'; END $$")
    show("notices", one.notices)
    one.reset()
    show("reset", query(one, "SHOW TimeZone"), query(one, "SHOW client_encoding"))
    one.set_client_encoding("UTF8")


def cancel_once_asleep(connection, watcher):
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
    while query(watcher, asleep) == [(0,)]:
        watcher.rollback()  # its snapshot of the statistics is the transaction's
    connection.cancel()


def cancels(connection, watcher):
    print("# cancels")
    thread = threading.Thread(target=cancel_once_asleep, args=[connection, watcher])
    thread.start()
    attempt("cancelled", lambda: query(connection, "SELECT pg_sleep(60)"))
    thread.join()
    watcher.rollback()
    connection.rollback()
    query(connection, "SET LOCAL statement_timeout = '50ms'")
    attempt("timed out", lambda: query(connection, "SELECT pg_sleep(60)"))
    connection.rollback()
    show("usable", query(connection, "SELECT pg_sleep(0.06) IS NULL"))
    connection.rollback()


def pools():
    print("# the driver's own pool: it rolls back, or resets with what the application set")
    pool = psycopg2.pool.ThreadedConnectionPool(1, 3, "", options=f"-c search_path={SCHEMA}")

    def work(n):
        for turn in range(20):
            connection = pool.getconn()
            query(connection, "INSERT INTO work VALUES (%s, %s)", (n, turn))
            if turn % 2:
                connection.commit()
            pool.putconn(connection)

    connection = pool.getconn()
    query(connection, "CREATE TABLE work (worker int, turn int)")
    connection.commit()
    pool.putconn(connection)
    workers = [threading.Thread(target=work, args=[n]) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    connection = pool.getconn()
    show("work", query(connection, "SELECT worker, count(*), sum(turn) FROM work GROUP BY 1 ORDER BY 1"))
    pool.putconn(connection, close=True)
    pool.closeall()


def main():
    one, two = (psycopg2.connect("", options=f"-c search_path={SCHEMA}") for _ in range(2))
    query(one, f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    query(one, f"CREATE SCHEMA {SCHEMA}")
    query(one, "CREATE TABLE t (id int PRIMARY KEY, note text)")
    one.commit()
    types(one)
    transactions(one, two)
    two_phases(one)
    cursors(two)
    copy(one)
    notifications(one, two)
    sessions(one, two)
    cancels(two, one)
    pools()
    query(one, f"DROP SCHEMA {SCHEMA} CASCADE")
    one.commit()


main()
