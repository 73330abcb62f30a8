-- SPDX-License-Identifier: ISC
--
-- psql.sql - a session of psql: psql -X -f psql.sql, as the PG* environment says.
\set ECHO all
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS drv_psql CASCADE;
RESET client_min_messages;
CREATE SCHEMA drv_psql;
SET search_path = drv_psql;
CREATE TABLE t (id serial PRIMARY KEY, note text, at timestamptz DEFAULT '2024-02-29 12:00+00');

\echo # COPY both ways, from here and from a program
COPY t (note) FROM STDIN;
one
two\ttabbed
\N
\.
\copy (SELECT id, note FROM t ORDER BY id) TO 'psql.csv' WITH (FORMAT csv, HEADER)
TRUNCATE t RESTART IDENTITY;
\copy t (id, note) FROM 'psql.csv' WITH (FORMAT csv, HEADER)
\copy t TO PSTDOUT
\copy t (id) FROM PROGRAM 'seq 11 15'
COPY t (id) FROM STDIN;
not a number
\.
SELECT count(*), sum(id) FROM t;

\echo # described, stored, executed, crossed; several statements in one message
SELECT id, note, at, 1.5::numeric(6,2) AS price FROM t \gdesc
SELECT count(*) AS rows, max(id) AS top FROM t \gset
\echo :rows :top
SELECT format('CREATE TABLE made_%s (LIKE t)', n) FROM generate_series(1, 3) n \gexec
SELECT format('SELECT %s AS n; SELECT 1/%s AS quotient', n, n - 1) FROM generate_series(1, 2) n \gexec
SELECT 'row ' || r, 'column ' || c, r * c FROM generate_series(1, 2) r, generate_series(1, 3) c \crosstabview
SELECT 1 AS one\; SELECT 2 AS two\; SELECT 1/0\; SELECT 3 AS never;
\dt
\d t
\sf pg_catalog.lpad(text, integer)

\echo # transactions, and a savepoint for every statement
BEGIN;
INSERT INTO t (id) VALUES (100);
INSERT INTO t (id) VALUES (100);
SELECT 'ignored';
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO t (id) VALUES (200);
INSERT INTO t (id) VALUES (200);
SELECT count(*) FROM t WHERE id = 200;
COMMIT;
\unset ON_ERROR_ROLLBACK
\set AUTOCOMMIT off
INSERT INTO t (id) VALUES (300);
ROLLBACK;
INSERT INTO t (id) VALUES (301);
COMMIT;
\set AUTOCOMMIT on
SELECT id FROM t WHERE id >= 100 ORDER BY id;
SELECT 1/0;
\echo :SQLSTATE :LAST_ERROR_MESSAGE

\echo # cursors behind FETCH_COUNT
\set FETCH_COUNT 2
SELECT id, note FROM t ORDER BY id LIMIT 5;
SELECT 1/(3 - n) AS quotient FROM generate_series(1, 5) n;
\unset FETCH_COUNT

\echo # prepared statements of SQL, notifications, notices
PREPARE by_id (int) AS SELECT id, note FROM t WHERE id = $1;
EXECUTE by_id(1);
EXECUTE by_id(2);
SELECT name, statement, parameter_types FROM pg_prepared_statements WHERE from_sql;
DEALLOCATE by_id;
EXECUTE by_id(3);
DO $$ BEGIN RAISE NOTICE 'noticed' USING HINT = 'a hint'; RAISE EXCEPTION 'raised' USING ERRCODE = 'P0042'; END $$;

\echo # settings
SET TimeZone = 'Asia/Kolkata';
SHOW TimeZone;
SELECT at FROM t WHERE id = 1;
\encoding LATIN1
\encoding
SHOW client_encoding;
\encoding UTF8
BEGIN;
SET LOCAL TimeZone = 'America/Lima';
SET work_mem = '1234kB';
SELECT at FROM t WHERE id = 1;
ROLLBACK;
SHOW TimeZone;
SHOW work_mem;
SET nonsense = 1;
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY;
INSERT INTO t (id) VALUES (400);
RESET ALL;
SHOW TimeZone;
SET search_path = drv_psql;
CREATE TEMP TABLE mine AS SELECT 1 AS n;
SELECT * FROM mine;
SELECT pg_advisory_lock(1), pg_advisory_unlock(1), pg_advisory_unlock(1);
DISCARD ALL;
SELECT * FROM mine;
SHOW search_path;

\echo # another session
SET application_name = 'before';
\c -
SHOW application_name;
SET client_min_messages = warning;
DROP SCHEMA drv_psql CASCADE;
