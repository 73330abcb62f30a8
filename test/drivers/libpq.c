/* SPDX-License-Identifier: ISC
 *
 * libpq.c - an application of libpq; prints what it sees.
 *
 * Connects as the PG* environment says.  Knows nothing of poolers: what it prints is the same on
 * every connection that keeps PostgreSQL's promises.
 */
#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA       "drv_libpq"
#define CACHE_ROUNDS 20
#define WAIT_MS      20000

static void on_notice(void *who, const PGresult *result)
{
	printf("%s: notice %s %s\n", (const char *)who,
	       PQresultErrorField(result, PG_DIAG_SQLSTATE),
	       PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

static PGconn *connected(char *name)
{
	PGconn *conn = PQconnectdb("");

	if (PQstatus(conn) != CONNECTION_OK) {
		printf("%s: %s", name, PQerrorMessage(conn));
		exit(1);
	}
	PQsetNoticeReceiver(conn, on_notice, name);
	return conn;
}

static const char *transaction(const PGconn *conn)
{
	static const char *const names[] = { "idle", "active", "in transaction", "in error",
					     "unknown" };

	return names[PQtransactionStatus(conn)];
}

/* Prints a result, values of binary columns in hex, and clears it. */
static void show(const PGconn *conn, PGresult *result)
{
	ExecStatusType status = PQresultStatus(result);
	const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	printf("  %s %s", PQresStatus(status) + strlen("PGRES_"), PQcmdStatus(result));
	if (sqlstate)
		printf("%s %s", sqlstate, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
	printf(" [%s]\n", transaction(conn));
	for (int row = 0; row < PQntuples(result); row++) {
		for (int column = 0; column < PQnfields(result); column++) {
			const char *value = PQgetvalue(result, row, column);

			printf("    %s=", PQfname(result, column));
			if (PQgetisnull(result, row, column))
				printf("NULL");
			else if (PQfformat(result, column) == 0)
				printf("%s", value);
			else
				for (int i = 0; i < PQgetlength(result, row, column); i++)
					printf("%02x", (unsigned char)value[i]);
		}
		printf("\n");
	}
	PQclear(result);
}

static void run(PGconn *conn, const char *sql)
{
	printf("%s\n", sql);
	show(conn, PQexec(conn, sql));
}

static void results(PGconn *conn)
{
	PGresult *result;

	while ((result = PQgetResult(conn)))
		show(conn, result);
}

/* --- one scene each ----------------------------------------------------------------------------
 */
static void statements(PGconn *a, PGconn *b)
{
	printf("# prepared statements of two connections, same names, other texts\n");
	show(a, PQprepare(a, "mine", "SELECT $1::int + 1 AS n", 0, NULL));
	show(b, PQprepare(b, "mine", "SELECT $1::text || '!' AS t", 0, NULL));
	for (int i = 0; i < CACHE_ROUNDS; i++) {
		char number[12];
		const char *values[] = { number };

		snprintf(number, sizeof(number), "%d", i);
		show(a, PQexecPrepared(a, "mine", 1, values, NULL, NULL, i % 2));
		show(b, PQexecPrepared(b, "mine", 1, values, NULL, NULL, 0));
	}
	PGresult *described = PQdescribePrepared(a, "mine");
	printf("  %d parameter of type %u, column %s of type %u\n", PQnparams(described),
	       PQparamtype(described, 0), PQfname(described, 0), PQftype(described, 0));
	PQclear(described);
	show(a, PQprepare(a, "mine", "SELECT 2", 0, NULL));
	show(a, PQexecPrepared(a, "nobody's", 0, NULL, NULL, NULL, 0));
	run(a, "DEALLOCATE mine");
	show(a, PQdescribePrepared(a, "mine"));
	show(a, PQprepare(a, "mine", "SELECT 'anew' AS t", 0, NULL));
	show(a, PQexecPrepared(a, "mine", 0, NULL, NULL, NULL, 0));
	run(b, "EXECUTE mine('by SQL')");
	run(b, "DEALLOCATE ALL");
	run(b, "EXECUTE mine('gone')");
}

static void types(PGconn *conn)
{
	static const char *const values[] = { "-7",
					      "123456789012.000100",
					      "\\x00ff10",
					      NULL,
					      "{1,NULL,3}",
					      "{\"k\": [1, \"ü\"]}",
					      "2024-02-29 12:34:56.789+02",
					      "t" };
	static const char sql[] =
	    "SELECT $1::int8 AS i, $2::numeric AS n, $3::bytea AS b, $4::text"
	    " AS nothing, $5::int[] AS a, $6::jsonb AS j, $7::timestamptz AS ts,"
	    " $8::bool AS yes";

	printf("# types, as text and binary\n");
	run(conn, "SET TimeZone = 'UTC'");
	for (int binary = 0; binary < 2; binary++)
		show(conn, PQexecParams(conn, sql, 8, NULL, values, NULL, NULL, binary));
}

static void transactions(PGconn *a, PGconn *b)
{
	printf("# transactions, savepoints and errors\n");
	run(a, "CREATE TABLE t (id int PRIMARY KEY, note text)");
	run(a, "BEGIN");
	run(a, "INSERT INTO t VALUES (1, 'one')");
	run(b, "SELECT count(*) FROM " SCHEMA ".t");
	run(a, "SAVEPOINT s");
	run(a, "INSERT INTO t VALUES (1, 'again')");
	run(a, "SELECT 1");
	run(a, "ROLLBACK TO s");
	run(a, "COMMIT");
	run(b, "SELECT count(*) FROM " SCHEMA ".t");
	run(a, "BEGIN; INSERT INTO t VALUES (2, 'two'); SELECT 1/0; COMMIT");
	run(a, "COMMIT");
	run(a, "INSERT INTO t VALUES (3, 'three'); SELECT 1/0");
	run(a, "BEGIN");
	run(a, "BEGIN");
	run(a, "ROLLBACK");
	run(a, "ROLLBACK");
	run(a, "");
	run(a, "SELECT id, note FROM t ORDER BY id");
	printf("several statements in one string\n");
	PQsendQuery(a, "SELECT 1 AS one; BEGIN; SELECT 2 AS two; COMMIT; SELECT nothing; SELECT 3");
	results(a);
}

static void pipeline(PGconn *conn)
{
	const char *n[] = { "5" };

	printf("# pipeline mode\n");
	PQenterPipelineMode(conn);
	for (int round = 0; round < 3; round++) {
		PQsendPrepare(conn, round ? "other" : "piped", "SELECT $1::int * 2 AS n", 0, NULL);
		for (int i = 0; i < 3; i++)
			PQsendQueryPrepared(conn, "piped", 1, n, NULL, NULL, 0);
		if (round == 1)
			PQsendQueryParams(conn, "SELECT 1/($1::int - 5)", 1, NULL, n, NULL, NULL,
					  0);
		PQsendQueryParams(
		    conn, "INSERT INTO t VALUES (10 * $1::int + (SELECT count(*) FROM t), 'p')", 1,
		    NULL, n, NULL, NULL, 0);
		PQpipelineSync(conn);
	}
	PQsendQueryParams(conn, "SELECT 'flushed' AS t", 0, NULL, NULL, NULL, NULL, 0);
	PQsendFlushRequest(conn);
	PQflush(conn);
	for (int syncs = 0, nothing = 0; syncs < 3 || nothing < 2;) {
		PGresult *result = PQgetResult(conn);

		nothing = result ? 0 : nothing + 1;
		syncs += PQresultStatus(result) == PGRES_PIPELINE_SYNC;
		if (result)
			show(conn, result);
		if (syncs == 3 && result && PQntuples(result) == 1)
			break;
	}
	PQgetResult(conn);
	PQpipelineSync(conn);
	show(conn, PQgetResult(conn));
	printf("left: %d\n", PQexitPipelineMode(conn));
	run(conn, "SELECT id FROM t ORDER BY id");
}

static void rows_and_cursors(PGconn *conn)
{
	printf("# single rows, cursors\n");
	PQsendQuery(conn, "SELECT g FROM generate_series(1, 5) g");
	PQsetSingleRowMode(conn);
	results(conn);
	run(conn, "BEGIN");
	run(conn, "DECLARE c SCROLL CURSOR FOR SELECT g FROM generate_series(1, 100) g");
	PGresult *described = PQdescribePortal(conn, "c");
	printf("  %d column %s\n", PQnfields(described), PQfname(described, 0));
	PQclear(described);
	run(conn, "FETCH 2 FROM c");
	run(conn, "MOVE FORWARD 50 IN c");
	run(conn, "FETCH BACKWARD 2 FROM c");
	run(conn, "COMMIT");
	run(conn, "FETCH c");
	run(conn, "DECLARE held CURSOR WITH HOLD FOR SELECT g FROM generate_series(1, 100) g");
	run(conn, "FETCH 1 FROM held");
	run(conn, "FETCH 1 FROM held");
	run(conn, "CLOSE held");
}

static void copy(PGconn *conn)
{
	static const char data[] = "100\tcopied\n101\t\\N\n";
	char *row;

	printf("# COPY\n");
	run(conn, "COPY t FROM STDIN");
	for (size_t i = 0; i + 1 < sizeof(data); i++)
		PQputCopyData(conn, data + i, 1);
	PQputCopyEnd(conn, NULL);
	results(conn);
	run(conn, "COPY t FROM STDIN");
	PQputCopyData(conn, data, (int)sizeof(data) - 1);
	PQputCopyEnd(conn, "changed my mind");
	results(conn);
	run(conn, "COPY t FROM STDIN");
	PQputCopyData(conn, "nonsense\n", 9);
	PQputCopyEnd(conn, NULL);
	results(conn);
	run(conn, "COPY (SELECT id, note FROM t WHERE id >= 100 ORDER BY id) TO STDOUT");
	while (PQgetCopyData(conn, &row, 0) > 0) {
		printf("    %s", row);
		PQfreemem(row);
	}
	results(conn);
}

static void next_notification(PGconn *listener, const PGconn *self)
{
	struct pollfd readable = { .fd = PQsocket(listener), .events = POLLIN };
	PGnotify *notify;

	while (!(notify = PQnotifies(listener)))
		if (poll(&readable, 1, WAIT_MS) <= 0 || !PQconsumeInput(listener)) {
			printf("no notification\n");
			return;
		}
	printf("notified: %s '%s' by %s\n", notify->relname, notify->extra,
	       notify->be_pid == PQbackendPID(self) ? "whom it says" : "somebody else");
	PQfreemem(notify);
}

static void notifications(PGconn *listener, PGconn *speaker)
{
	printf("# LISTEN and NOTIFY\n");
	run(listener, "LISTEN " SCHEMA);
	run(listener, "SELECT pg_listening_channels() AS channel");
	run(speaker, "NOTIFY " SCHEMA ", 'first'");
	next_notification(listener, speaker);
	run(speaker, "BEGIN");
	run(speaker, "NOTIFY " SCHEMA ", 'second'");
	run(speaker, "SELECT pg_notify('" SCHEMA "', 'third')");
	run(speaker, "COMMIT");
	next_notification(listener, speaker);
	next_notification(listener, speaker);
	run(listener, "NOTIFY " SCHEMA ", 'to myself'");
	next_notification(listener, listener);
	run(listener, "UNLISTEN *");
	run(speaker, "NOTIFY " SCHEMA ", 'to nobody'");
	run(listener, "SELECT pg_listening_channels() AS channel");
	printf("%s\n", PQnotifies(listener) ? "notified" : "nothing more");
}

static void settings(PGconn *a, PGconn *b)
{
	static const char *const names[] = {
		"TimeZone",          "application_name", "client_encoding",
		"DateStyle",         "IntervalStyle",    "standard_conforming_strings",
		"integer_datetimes", "is_superuser",     "session_authorization",
		"server_encoding"
	};

	printf("# settings\n");
	run(a, "SET TimeZone = 'Asia/Tokyo'");
	run(a, "SET application_name = 'libpq a'");
	run(b, "SET client_encoding = 'LATIN1'");
	run(b, "SET search_path = \"Mixed Case\", " SCHEMA);
	run(b, "SET statement_timeout = '12345ms'");
	run(a, "BEGIN");
	run(a, "SET DateStyle = 'German'");
	run(a, "SET LOCAL IntervalStyle = 'iso_8601'");
	run(a, "SELECT '2024-02-29'::date AS d, '1 day 2 hours'::interval AS i");
	run(a, "ROLLBACK");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		printf("  %s: %s | %s\n", names[i], PQparameterStatus(a, names[i]),
		       PQparameterStatus(b, names[i]));
	for (int i = 0; i < 3; i++) {
		run(a, "SELECT current_setting('TimeZone') AS tz, current_setting('search_path') "
		       "AS path,"
		       " current_setting('statement_timeout') AS timeout");
		run(b, "SELECT current_setting('TimeZone') AS tz, current_setting('search_path') "
		       "AS path,"
		       " current_setting('statement_timeout') AS timeout");
	}
	run(b, "RESET ALL");
	run(b, "SHOW search_path");
	run(b, "SHOW client_encoding");
}

static void temporary(PGconn *a, PGconn *b)
{
	printf("# what belongs to one session\n");
	run(a, "CREATE TEMP TABLE own (id serial, note text)");
	run(b, "CREATE TEMP TABLE own (other int)");
	run(a, "INSERT INTO own (note) VALUES ('a') RETURNING id");
	run(b, "INSERT INTO own VALUES (7)");
	run(a, "SELECT currval('own_id_seq'), lastval()");
	run(b, "SELECT * FROM own");
	run(a, "SELECT * FROM own");
	run(a, "SELECT pg_advisory_lock(4711)");
	run(b, "SELECT pg_try_advisory_lock(4711)");
	run(a, "SELECT pg_advisory_unlock(4711)");
	run(b, "SELECT pg_try_advisory_lock(4711)");
	run(b, "SELECT pg_advisory_unlock_all()");
	run(a, "DISCARD ALL");
	run(b, "DISCARD ALL");
	run(a, "SELECT * FROM own");
	run(b, "SELECT lastval()");
}

static void large_objects(PGconn *conn)
{
	char text[32] = "";

	printf("# large objects, by function calls\n");
	run(conn, "BEGIN");
	Oid object = lo_creat(conn, INV_READ | INV_WRITE);
	int fd = lo_open(conn, object, INV_READ | INV_WRITE);
	printf("  written %d\n", lo_write(conn, fd, "a large object", 14));
	printf("  at %d\n", lo_lseek(conn, fd, 2, SEEK_SET));
	printf("  read %d", lo_read(conn, fd, text, sizeof(text) - 1));
	printf(" '%s' [%s]\n", text, transaction(conn));
	printf("  unlinked %d\n", lo_unlink(conn, object));
	run(conn, "COMMIT");
	printf("  opened %d\n", lo_open(conn, object, INV_READ));
}

static void cancels(PGconn *conn)
{
	char error[256];
	PGcancel *cancel = PQgetCancel(conn);

	printf("# cancels and timeouts\n");
	PQsendQuery(conn, "DO $$ BEGIN RAISE NOTICE 'under way'; PERFORM pg_sleep(60); END $$");
	while (!PQconsumeInput(conn) || PQisBusy(conn)) {
		struct pollfd readable = { .fd = PQsocket(conn), .events = POLLIN };

		poll(&readable, 1, WAIT_MS);
		if (cancel && PQcancel(cancel, error, sizeof(error))) {
			PQfreeCancel(cancel);
			cancel = NULL;
		}
	}
	results(conn);
	run(conn, "SET statement_timeout = '50ms'");
	run(conn, "SELECT pg_sleep(60)");
	run(conn, "RESET statement_timeout");
	run(conn, "SELECT pg_sleep(0.06) AS slept");
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	PGconn *a = connected("a");
	PGconn *b = connected("b");

	run(a, "DROP SCHEMA IF EXISTS " SCHEMA " CASCADE");
	run(a, "CREATE SCHEMA " SCHEMA);
	run(a, "SET search_path = " SCHEMA);
	run(a, "DO $$ BEGIN RAISE NOTICE 'noticed'; RAISE WARNING 'warned'; END $$");
	statements(a, b);
	types(b);
	transactions(a, b);
	pipeline(a);
	rows_and_cursors(b);
	copy(a);
	notifications(b, a);
	settings(a, b);
	temporary(a, b);
	large_objects(b);
	cancels(a);
	PQreset(b);
	run(b, "SHOW search_path");
	run(a, "DROP SCHEMA " SCHEMA " CASCADE");
	PQfinish(a);
	PQfinish(b);
	return 0;
}
