# SPDX-License-Identifier: ISC
#
# scenes.py - what record.py has clients say: psql, pgbench and psycopg, each thing that they do once.
#
# Knows no proxy: a server is a host, a port and who the user is.
"""scenes(): of each its name, and what says it to a server."""
import contextlib
import os
import select
import subprocess
import threading

import psycopg

from conftest import APP_DATABASE, APP_PASSWORD

TABLES = """
    CREATE TABLE notes (id int PRIMARY KEY, note text, made timestamptz DEFAULT '2024-02-29 12:34:56Z');
    INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 40) n;
    CREATE TABLE ledger (business_id text, amount numeric(10, 2));
    ALTER TABLE ledger ENABLE ROW LEVEL SECURITY;
    ALTER TABLE ledger FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON ledger USING (business_id = current_setting('app.current_business_id', true));
"""
PSQL = {
    "statements": "SELECT 1;\nSELECT id, note FROM notes WHERE id < 4;\nSELEC 1;\nSELECT 1/0;\nSELECT 1 \\; SELECT 2 \\; SELECT 3;\n;\n"
                  "INSERT INTO notes VALUES (100, 'x') RETURNING id;\nUPDATE notes SET note = upper(note) WHERE id > 38;\nDELETE FROM notes WHERE id = 100;\n",
    "transactions": "BEGIN;\nSELECT 1;\nSAVEPOINT a;\nSELEC 1;\nSELECT 1;\nROLLBACK TO a;\nINSERT INTO notes VALUES (1, 'again');\nROLLBACK;\n"
                    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;\nSELECT count(*) FROM notes;\nCOMMIT;\nBEGIN \\; SELECT 1 \\; COMMIT AND CHAIN;\nROLLBACK;\nCOMMIT;\n",
    "copies": "\\copy (SELECT id, note FROM notes WHERE id < 9) TO STDOUT\n\\copy notes (id, note) FROM STDIN\n200\tx\n201\t\\N\n\\.\n"
              "\\copy notes (id, note) FROM STDIN\n200\tx\n\\.\nCOPY notes TO STDOUT (FORMAT csv, HEADER);\nCOPY nowhere FROM STDIN;\nDELETE FROM notes WHERE id > 99;\n",
    "settings": "SET work_mem = '1MB';\nSHOW work_mem;\nSET TimeZone = 'Europe/Berlin';\nSELECT made FROM notes LIMIT 1;\nBEGIN;\nSET LOCAL DateStyle = German;\n"
                "SELECT made FROM notes LIMIT 1;\nCOMMIT;\nRESET ALL;\nSET SESSION AUTHORIZATION DEFAULT;\nDISCARD ALL;\nSELECT current_setting('TimeZone');\n"
                "\\encoding LATIN1\nSELECT U&'\\00e4';\nSET search_path = pg_catalog;\nSHOW nothing;\n",
    "notices": "DO $$ BEGIN RAISE NOTICE 'told' USING HINT = 'a hint', DETAIL = 'a detail'; RAISE WARNING 'warned'; END $$;\nDROP TABLE IF EXISTS nowhere;\n"
               "DO $$ BEGIN RAISE EXCEPTION 'failed' USING ERRCODE = '23505', TABLE = 'notes', COLUMN = 'id', CONSTRAINT = 'notes_pkey', SCHEMA = 'public'; END $$;\n"
               "INSERT INTO notes VALUES (1, 'again');\nINSERT INTO notes VALUES (NULL);\nCOMMIT;\n",
    "listening": "LISTEN told;\nNOTIFY told, 'oneself';\nSELECT pg_notify('told', 'again');\nSELECT pg_listening_channels();\nUNLISTEN *;\nSELECT 1;\n",
    "statements-by-name": "PREPARE p (int) AS SELECT note FROM notes WHERE id = $1;\nEXECUTE p (1);\nSELECT name FROM pg_prepared_statements;\nEXECUTE p (2);\nPREPARE p AS SELECT 1;\n"
                          "DEALLOCATE p;\nEXECUTE p (3);\nPREPARE q AS SELECT 1;\nEXECUTE q;\nDEALLOCATE ALL;\n",
    "cursors": "BEGIN;\nDECLARE c SCROLL CURSOR FOR SELECT id FROM notes;\nFETCH 3 FROM c;\nMOVE 4 IN c;\nFETCH BACKWARD 2 FROM c;\nCLOSE c;\nDECLARE h CURSOR WITH HOLD FOR SELECT 1;\n"
               "COMMIT;\nFETCH ALL FROM h;\nCLOSE h;\n\\set FETCH_COUNT 5\nSELECT id FROM notes WHERE id < 14;\n",
    "locks": "SELECT pg_advisory_lock(1);\nSELECT 1;\nSELECT pg_advisory_unlock_all();\nCREATE TEMP TABLE t AS SELECT 1;\nSELECT * FROM t;\nDISCARD TEMP;\nLOCK notes;\n"
             "/* route:primary */ SELECT 1;\nSELECT 1 /*traceparent='00-1'*/;\n",
    "descriptions": "SELECT id, note, made FROM notes \\gdesc\nSELECT 'SELECT ' || n FROM generate_series(1, 3) n \\gexec\n\\d notes\n",
    "tenants": "SET app.current_business_id = '42';\nINSERT INTO ledger VALUES ('42', 7.50);\nSELECT * FROM ledger;\nBEGIN;\nSET LOCAL app.current_business_id = '42';\nSELECT sum(amount) FROM ledger;\n"
               "COMMIT;\nSELECT set_config('app.current_business_id', '42', false);\nSELECT amount FROM ledger;\n",
}
PGBENCH = {f"{mode}-{'select' if flags else 'tpcb'}": ("-M", mode, *flags)
           for mode in ("simple", "extended", "prepared") for flags in ((), ("-S",))}


def environment(server, **more):
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC", "PGHOST": server.host, "PGPORT": str(server.port),
            "PGUSER": server.user, "PGPASSWORD": APP_PASSWORD, "PGDATABASE": APP_DATABASE, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", **more}


def tell(command, server, text="", **more):
    """Its output; it may say that a statement of it failed."""
    return subprocess.run(command, input=text.encode(), env=environment(server, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          cwd="/", timeout=60, check=False).stdout


def connect(server, **more):
    more = {"sslmode": "disable", "gssencmode": "disable", "autocommit": True, **more}
    return psycopg.connect(host=server.host, port=server.port, user=server.user, password=APP_PASSWORD, dbname=APP_DATABASE, **more)


def pipelines(one):
    with one.pipeline():
        cursors = [one.execute("SELECT note FROM notes WHERE id = %s", [n]) for n in range(1, 5)]
        assert [c.fetchone()[0] for c in cursors] == [f"note {n}" for n in range(1, 5)]
    with one.pipeline() as p:
        with one.transaction():
            one.execute("INSERT INTO notes VALUES (%s, %s)", [300, None])
            p.sync()
            one.execute("DELETE FROM notes WHERE id = %s", [300])
    with contextlib.suppress(psycopg.Error), one.pipeline():
        one.execute("SELECT 1")
        one.execute("SELECT 1 / %s", [0])
        one.execute("SELECT 2")
    one.cursor().executemany("UPDATE notes SET note = %s WHERE id = %s", [(f"note {n}", n) for n in range(30, 34)])


def copies(one):
    with one.cursor() as cursor:
        for form in "text", "binary":
            with cursor.copy(f"COPY notes (id, note) FROM STDIN (FORMAT {form})") as copy:
                if form == "binary":
                    copy.set_types(["int4", "text"])
                copy.write_row((400, "a")), copy.write_row((401, None))
            with cursor.copy(f"COPY (SELECT id, note FROM notes WHERE id > 399) TO STDOUT (FORMAT {form})") as copy:
                assert b"".join(copy)
            cursor.execute("DELETE FROM notes WHERE id > 399")
        with contextlib.suppress(psycopg.Error), cursor.copy("COPY notes FROM STDIN") as copy:
            copy.write(b"402\tx\n")
            raise psycopg.DataError("enough")
        with contextlib.suppress(psycopg.Error), cursor.copy("COPY notes FROM STDIN") as copy:
            copy.write(b"not a number\tx\n")
        assert cursor.execute("SELECT 1").fetchone()


def cursors(one):
    with one.transaction(), one.cursor("on_server") as cursor:
        cursor.execute("SELECT id, note FROM notes ORDER BY id")
        assert len(cursor.fetchmany(3)) == 3
        cursor.scroll(2)
        assert cursor.fetchone()
    with one.transaction(), one.cursor("binary_one", binary=True) as cursor:
        cursor.itersize = 7
        assert len(list(cursor.execute("SELECT id FROM notes WHERE id < 20"))) == 19


def prepared(one):
    one.prepare_threshold, one.prepared_max = 1, 2
    for n in range(1, 5):
        one.execute("SELECT note FROM notes WHERE id = %s", [n]), one.execute("SELECT %s::text || 'x'", ["a"])
    one.execute("SELECT %s + 1", [7], binary=True), one.execute("SELECT 4"), one.execute("SELECT 4"), one.execute("SELECT 4")
    with contextlib.suppress(psycopg.Error):
        one.execute("SELECT %s::int", ["x"], prepare=True)
    with contextlib.suppress(psycopg.Error):  # psycopg 3.1 takes them for prepared still, or drops them once more
        one.execute("DEALLOCATE ALL")
    one.execute("SELECT 1")


def transactions(one):
    one.autocommit = False
    one.execute("INSERT INTO notes VALUES (%s, 'x')", [500])
    with contextlib.suppress(psycopg.Error), one.transaction():
        one.execute("SELEC %s", [1])
    one.rollback()
    with one.transaction(), one.transaction():
        one.execute("SELECT 1").fetchall()
    one.read_only = True
    one.execute("SELECT note FROM notes WHERE id = 1")
    one.commit()


def listening(one):
    one.execute("LISTEN told"), one.execute("NOTIFY told, 'one'"), one.execute("UNLISTEN told"), one.execute("SELECT 1")


def cancel(one):
    """Of a statement that waits; the server tells when it does."""
    failed = []

    def wait():
        try:
            one.execute("DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM pg_sleep(60); END $$")
        except psycopg.errors.QueryCanceled as error:
            failed.append(error)

    begun = threading.Event()
    one.add_notice_handler(lambda notice: begun.set())
    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(30)
    one.cancel()
    waiter.join(30)
    assert failed
    one.execute("SELECT 1")


def in_turns(one, other):
    """Two on two servers, and then both on one after the other."""
    one.execute("BEGIN"), other.execute("BEGIN"), one.execute("SELECT 1"), other.execute("SELECT 2")
    one.execute("SELECT note FROM notes WHERE id = %s", [1], prepare=True), other.execute("SELECT note FROM notes WHERE id = %s", [2], prepare=True)
    one.execute("COMMIT"), other.execute("ROLLBACK")
    for each in (one, other, one):
        each.execute("SELECT note FROM notes WHERE id = %s", [3], prepare=True)
    one.execute("SET work_mem = '2MB'"), other.execute("SHOW work_mem"), one.execute("SHOW work_mem")


def told_by_another(one, other):
    one.execute("LISTEN told"), other.execute("NOTIFY told, 'the other'")
    assert select.select([one.fileno()], [], [], 30)[0]
    one.execute("UNLISTEN *")


ALONE = [pipelines, copies, cursors, prepared, transactions, listening, cancel]
TOGETHER = [in_turns, told_by_another]


def said_by_psycopg(scene, server):
    with contextlib.ExitStack() as stack:
        scene(*(stack.enter_context(connect(server)) for _ in range(2 if scene in TOGETHER else 1)))


def scenes():
    """Each with its name, and what says it to a server."""
    for name, text in PSQL.items():
        yield f"psql-{name}", lambda server, text=text: tell(["psql", "-XAt"], server, text)
    for name, flags in PGBENCH.items():
        yield f"pgbench-{name}", lambda server, flags=flags: tell(["pgbench", "-n", "-t", "2", *flags], server)
    for scene in ALONE + TOGETHER:
        yield "psycopg-" + scene.__name__.replace("_", "-"), lambda server, scene=scene: said_by_psycopg(scene, server)
