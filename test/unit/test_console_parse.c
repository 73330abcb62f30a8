/* SPDX-License-Identifier: ISC
 *
 * test_console_parse.c - the console's language, who may use it, and tables: merging and the wire.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/command.h"
#include "admin/table.h"
#include "sql/classify.h"
#include "wire/frame.h"
#include "wire/read.h"

/* ---- commands ---------------------------------------------------------------------------------
 */

static struct command parsed(const char *text)
{
	struct command cmd;
	struct err e;

	if (!command_parse(slice_str(text), &cmd, &e))
		fail_msg("%s: %s", text, e.text);
	return cmd;
}

static void expect_refusal(const char *text, const char *want)
{
	struct command cmd;
	struct err e;

	if (command_parse(slice_str(text), &cmd, &e))
		fail_msg("%s: taken", text);
	assert_string_equal(e.sqlstate, "08P01");
	assert_string_equal(e.text, want);
}

static void test_every_show_is_found_in_any_case(void **state)
{
	static const char *const forms[] = { "SHOW %s", "show %s;", " \n Select %s ; ",
					     "SHOW \"%s\"", "/* x */ show -- y\n %s -- z" };

	for (unsigned form = 0; form < PGT_NELEMS(forms); form++)
		for (int i = 0; i < NSHOWS; i++) {
			char text[128];
			size_t at = (size_t)(strstr(forms[form], "%s") - forms[form]);

			snprintf(text, sizeof(text), "%.*s%s%s", (int)at, forms[form],
				 show_specs[i].name, forms[form] + at + 2);
			assert_int_equal(parsed(text).show, i);
		}
}

static void test_arguments(void **state)
{
	assert_int_equal(parsed("PAUSE").id, COMMAND_pause);
	assert_string_equal(parsed("PAUSE").word, "");
	assert_string_equal(parsed("pause Shop").word, "Shop");
	assert_string_equal(parsed("KILL \"a \"\"b\"\"\";").word, "a \"b\"");
	assert_string_equal(parsed("KILL my-db").word, "my-db");
	assert_string_equal(parsed("KILL_CLIENT 17").word, "17");
	assert_string_equal(parsed("SHUTDOWN wait_for_clients").word, "wait_for_clients");
	assert_true(parsed("").is_empty);
	assert_true(parsed(" -- ping").is_empty);
	assert_true(parsed(" ; ").is_empty);
}

static void expect_route(const char *text, const char *database, enum owner owner,
			 const char *whose, const char *statement)
{
	struct command cmd = parsed(text);

	assert_int_equal(cmd.show, SHOW_route);
	assert_string_equal(cmd.name, database);
	assert_int_equal(cmd.owner, owner);
	assert_string_equal(cmd.word, whose);
	assert_string_equal(cmd.value, statement);
}

static void test_route(void **state)
{
	expect_route("SHOW ROUTE", "", OWNER_ALL, "", "");
	expect_route("show route;", "", OWNER_ALL, "", "");
	expect_route("SHOW ROUTE SELECT 'a; b' -- c", "", OWNER_ALL, "", " SELECT 'a; b' -- c");
	expect_route("SHOW ROUTE /* route: primary */ SELECT 2", "", OWNER_ALL, "",
		     " /* route: primary */ SELECT 2");
	expect_route("SHOW ROUTE DATABASE \"my db\" SELECT 2;", "my db", OWNER_ALL, "",
		     " SELECT 2;");
	expect_route("SHOW ROUTE database d TENANT acme SELECT 2", "d", OWNER_TENANT, "acme",
		     " SELECT 2");
	expect_route("SHOW ROUTE USER app TABLE t", "", OWNER_ALL, "app", " TABLE t");
}

static void expect_setting(const char *text, const char *name, const char *value)
{
	struct command cmd = parsed(text);

	assert_int_equal(cmd.id, COMMAND_set);
	assert_string_equal(cmd.word, name);
	assert_string_equal(cmd.value, value);
}

static void test_settings(void **state)
{
	expect_setting("SET default_pool_size = 5", "default_pool_size", "5");
	expect_setting("set default_pool_size=5;", "default_pool_size", "5");
	expect_setting("SET query_timeout TO 1.5", "query_timeout", "1.5");
	expect_setting("SET stats_users = 'a, ''b'''", "stats_users", "a, 'b'");
	expect_setting("SET \"verbose\" = ''", "verbose", "");
	assert_int_equal(parsed("SET client_encoding TO 'UTF8'").fake, FAKE_client_encoding);
	assert_int_equal(parsed("SHOW DateStyle").fake, FAKE_datestyle);
}

static void expect_owner(const char *text, enum command_id id, enum owner owner, const char *name,
			 const char *value)
{
	struct command cmd = parsed(text);

	assert_int_equal(cmd.id, id);
	assert_int_equal(cmd.owner, owner);
	assert_string_equal(cmd.name, name);
	assert_string_equal(cmd.value, value);
}

static void test_tenants_and_databases_are_told_apart(void **state)
{
	expect_owner("PAUSE", COMMAND_pause, OWNER_ALL, "", "");
	expect_owner("PAUSE TENANT acme", COMMAND_pause, OWNER_TENANT, "acme", "");
	expect_owner("kill tenant \"a b\";", COMMAND_kill, OWNER_TENANT, "a b", "");
	expect_owner("PAUSE tenant", COMMAND_pause, OWNER_ALL, "", "");
	assert_string_equal(parsed("PAUSE tenant").word, "tenant");
	assert_string_equal(parsed("PAUSE \"tenant\"").word, "tenant");
	expect_owner("READONLY", COMMAND_readonly, OWNER_ALL, "", "");
	expect_owner("readonly tenant acme", COMMAND_readonly, OWNER_TENANT, "acme", "");
	expect_owner("READWRITE DATABASE tenant", COMMAND_readwrite, OWNER_DATABASE, "tenant", "");
	expect_owner("MAINTENANCE", COMMAND_maintenance, OWNER_ALL, "", "");
	expect_owner("MAINTENANCE ON 'back at ''2'' now';", COMMAND_maintenance, OWNER_ALL, "",
		     "back at '2' now");
	expect_owner("MAINTENANCE TENANT acme 'soon'", COMMAND_maintenance, OWNER_TENANT, "acme",
		     "soon");
	assert_true(parsed("maintenance off database shop").is_off);
	assert_false(parsed("maintenance on database shop").is_off);
	expect_refusal("READONLY acme", "invalid command 'READONLY acme', use SHOW HELP;");
	expect_refusal("READONLY TENANT", "invalid command 'READONLY TENANT', use SHOW HELP;");
	expect_refusal("PAUSE TENANT a b", "invalid command 'PAUSE TENANT a b', use SHOW HELP;");
	expect_refusal("MAINTENANCE OFF 'x'",
		       "invalid command 'MAINTENANCE OFF 'x'', use SHOW HELP;");
}

static void test_settings_of_tenants(void **state)
{
	struct command cmd = parsed("SET TENANT acme rate = 500/s");

	assert_int_equal(cmd.id, COMMAND_set);
	assert_int_equal(cmd.owner, OWNER_TENANT);
	assert_string_equal(cmd.name, "acme");
	assert_string_equal(cmd.word, "rate");
	assert_string_equal(cmd.value, "500/s");
	expect_owner("set tenant acme quota TO '1/h,2/d'", COMMAND_set, OWNER_TENANT, "acme",
		     "1/h,2/d");
	expect_owner("SET TENANT acme client_encoding = x", COMMAND_set, OWNER_TENANT, "acme", "x");
	assert_int_equal(parsed("SET TENANT acme client_encoding = x").fake, -1);
	expect_setting("SET tenant = x", "tenant", "x");
	expect_setting("SET tenant TO x", "tenant", "x");
	expect_owner("RESET TENANT acme", COMMAND_reset, OWNER_TENANT, "acme", "");
	assert_string_equal(parsed("RESET TENANT acme rate").word, "rate");
	expect_refusal("RESET", "invalid command 'RESET', use SHOW HELP;");
	expect_refusal("RESET rate", "invalid command 'RESET rate', use SHOW HELP;");
	expect_refusal("RESET TENANT acme rate burst",
		       "invalid command 'RESET TENANT acme rate burst', use SHOW HELP;");
	expect_refusal("SET TENANT acme rate",
		       "invalid command 'SET TENANT acme rate', use SHOW HELP;");
}

static void test_settings_of_nodes(void **state)
{
	struct command cmd = parsed("SET NODE 10.0.0.5:5432 weight = 0");

	assert_int_equal(cmd.id, COMMAND_set);
	assert_int_equal(cmd.owner, OWNER_NODE);
	assert_string_equal(cmd.name, "10.0.0.5:5432");
	assert_string_equal(cmd.word, "weight");
	assert_string_equal(cmd.value, "0");
	expect_owner("set node \"[::1]:5432\" weight to 3", COMMAND_set, OWNER_NODE, "[::1]:5432",
		     "3");
	expect_setting("SET node = x", "node", "x");
	expect_refusal("SET NODE a:1 weight",
		       "invalid command 'SET NODE a:1 weight', use SHOW HELP;");
}

static void expect_hint(const char *text, const char *hint)
{
	struct command cmd;
	struct err e;

	assert_false(command_parse(slice_str(text), &cmd, &e));
	assert_string_equal(e.hint, hint);
}

static void test_hints_say_what_there_is(void **state)
{
	static const char pools[] =
	    "The console knows no SQL: SHOW pools. SHOW HELP pools tells of it.";
	static const char none[] = "The console knows no SQL; SHOW HELP lists what it knows.";

	expect_hint("SELECT * FROM show_pools();", pools);
	expect_hint("SELECT * FROM pgbouncer.pools WHERE 'pgbouncer' = \"database\"", pools);
	expect_hint("select cl_active from SHOW_POOLS() p", pools);
	expect_hint("SHOW POOLS WHERE x", pools);
	expect_hint("SHOW POOL", "Did you mean SHOW pools?");
	expect_hint("PAWSE shop", "Did you mean pause?");
	expect_hint("RELOAD now", "SHOW HELP reload says how it is written.");
	expect_hint("SET monitor_password 'hush'", "SHOW HELP set says how it is written.");
	expect_hint("SELECT d.datname FROM pg_catalog.pg_database d", none);
	expect_hint("SHOW", none);
	expect_hint("SELECT 1", none);
	expect_hint("'", none);
	(void)state;
}

static void test_help_is_of_all_or_of_one(void **state)
{
	assert_string_equal(parsed("SHOW HELP").value, "");
	assert_string_equal(parsed("show help pools;").value, "pools");
	assert_string_equal(parsed("SHOW HELP SHOW POOLS").value, "POOLS");
	assert_string_equal(parsed("SHOW HELP SHOW").value, "SHOW");
	assert_string_equal(parsed("SHOW HELP PAUSE").value, "PAUSE");
	expect_refusal("SHOW HELP nothing", "invalid command 'SHOW HELP nothing', use SHOW HELP;");
	(void)state;
}

static void test_refusals_have_pgbouncers_words(void **state)
{
	expect_refusal("FROBNICATE", "invalid command 'FROBNICATE', use SHOW HELP;");
	expect_refusal("SHOW", "invalid command 'SHOW', use SHOW HELP;");
	expect_refusal("SHOW nothing", "invalid command 'SHOW nothing', use SHOW HELP;");
	expect_refusal("RELOAD now", "invalid command 'RELOAD now', use SHOW HELP;");
	expect_refusal("PAUSE a b", "invalid command 'PAUSE a b', use SHOW HELP;");
	expect_refusal("SET x", "invalid command 'SET x', use SHOW HELP;");
	expect_refusal("SET x = 'y", "invalid command 'SET x = 'y', use SHOW HELP;");
	expect_refusal("SET x = 1 2", "invalid command 'SET x = 1 2', use SHOW HELP;");
	expect_refusal("\"show\" stats", "invalid command '\"show\" stats', use SHOW HELP;");
	expect_refusal("DISABLE", "a database is required");
}

/* One message, one command: nothing behind a semicolon is run, nor what stands before it. */
static void test_one_command_a_message(void **state)
{
	expect_refusal("SHOW STATS; SHUTDOWN",
		       "invalid command 'SHOW STATS; SHUTDOWN', use SHOW HELP;");
	expect_refusal("; SHUTDOWN", "invalid command '; SHUTDOWN', use SHOW HELP;");
	expect_refusal("SET verbose = 1; RELOAD",
		       "invalid command 'SET verbose = 1; RELOAD', use SHOW HELP;");
}

static void test_a_statement_may_be_as_long_as_one_that_is_parsed(void **state)
{
	static char text[COMMAND_MAX_VALUE + 64];
	const char *const ask = "SHOW ROUTE";
	struct command cmd;
	struct err e;

	snprintf(text, sizeof(text), "%s %0*d", ask, COMMAND_MAX_VALUE - 2, 1);
	assert_int_equal(strlen(parsed(text).value), SQL_PARSE_MAX_DEFAULT);
	snprintf(text, sizeof(text), "%s %0*d", ask, COMMAND_MAX_VALUE - 1, 1);
	assert_false(command_parse(slice_str(text), &cmd, &e));
	assert_string_equal(e.sqlstate, "54000");
}

static void test_i6_long_words_are_refused(void **state)
{
	char text[COMMAND_MAX_VALUE + 64] = "SET x = ";

	memset(text + strlen(text), 'y', COMMAND_MAX_VALUE);
	expect_refusal(text, "bad arguments");
	memcpy(text, "PAUSE   ", 8);
	expect_refusal(text, "bad arguments");
}

/* Any bytes: no crash, no reading past the end (the text is copied to be found out). */
static void test_every_cut_of_a_command(void **state)
{
	static const char *const texts[] = { "SET \"a\"\"b\" TO 'c''d' /* e */ ; -- f",
					     "SET TENANT \"a\"\"b\" c TO 'd' ; ",
					     "RESET TENANT a b ;",
					     "MAINTENANCE ON TENANT \"a\" 'b''c' ; " };

	for (unsigned i = 0; i < PGT_NELEMS(texts); i++)
		for (size_t n = 0; n <= strlen(texts[i]); n++) {
			char *copy = malloc(n ? n : 1);
			struct command cmd;
			struct err e;

			memcpy(copy, texts[i], n);
			(void)!command_parse(slice_of(copy, n), &cmd, &e);
			free(copy);
		}
}

/* The class of CVE-2026-6667: what a stats user may do is written down here a second time. */
static void test_access(void **state)
{
	assert_int_equal(command_access(&(struct command){ .is_empty = true }), ACCESS_STATS);
	for (int i = 0; i < NCOMMANDS; i++) {
		struct command cmd = { .id = (enum command_id)i, .show = -1, .fake = -1 };
		bool is_harmless = i == COMMAND_show || i == COMMAND_select || i == COMMAND_begin ||
				   i == COMMAND_commit || i == COMMAND_rollback;

		assert_int_equal(command_access(&cmd), is_harmless ? ACCESS_STATS : ACCESS_ADMIN);
	}
	for (int i = 0; i < NSHOWS; i++) {
		struct command cmd = { .id = COMMAND_show, .show = i, .fake = -1 };

		bool is_secret =
		    i == SHOW_fds || i == SHOW_pins || i == SHOW_prepared || i == SHOW_slow;

		assert_int_equal(command_access(&cmd), is_secret ? ACCESS_ADMIN : ACCESS_STATS);
	}
	for (int i = 0; i < NFAKES; i++) {
		struct command cmd = { .id = COMMAND_set, .show = -1, .fake = i };

		assert_int_equal(command_access(&cmd), ACCESS_STATS);
	}
}

/* ---- tables -----------------------------------------------------------------------------------
 */

#define FRUIT_COLUMNS(X)                                                                           \
	X(TEXT, KEY, name, "Kind.")                                                                \
	X(INT, KEY, year, "Year.")                                                                 \
	X(BIGINT, SUM, picked, "Sum.")                                                             \
	X(NUMERIC, MAX, heaviest, "Maximum.")                                                      \
	X(TEXT, FIRST, note, "First that is not NULL.")
LAYOUT_DEFINE(fruit, FRUIT_COLUMNS);

static void add_fruit(struct table *t, const char *name, int64_t year, int64_t picked,
		      int64_t heaviest, const char *note)
{
	table_add(t, &(struct fruit_row){ name, year, picked, heaviest, note });
}

static void expect_fruit(const struct table *t, unsigned row, const char *name, int64_t year,
			 int64_t picked, int64_t heaviest, const char *note)
{
	assert_string_equal(table_text(t, row, 0), name);
	assert_int_equal(table_number(t, row, 1), year);
	assert_int_equal(table_number(t, row, 2), picked);
	assert_int_equal(table_number(t, row, 3), heaviest);
	if (note)
		assert_string_equal(table_text(t, row, 4), note);
	else
		assert_null(table_text(t, row, 4));
}

static void test_rows_of_workers_are_merged(void **state)
{
	struct table all, other;

	table_init(&all, &fruit_layout);
	table_init(&other, &fruit_layout);
	add_fruit(&all, "pear", 2, 1, 7, NULL);
	add_fruit(&all, "apple", 1, 10, NUMBER_NULL, NULL);
	add_fruit(&other, "pear", 2, 2, 3, "late");
	add_fruit(&other, "apple", 1, 20, 5, NULL);
	add_fruit(&other, "apple", 0, 4, 4, "old");
	add_fruit(&other, "pear", 2, 3, 9, "later");
	table_absorb(&all, &other);
	table_fini(&other);
	table_merge(&all);
	assert_int_equal(all.nrows, 3);
	expect_fruit(&all, 0, "apple", 0, 4, 4, "old");
	expect_fruit(&all, 1, "apple", 1, 30, 5, NULL);
	expect_fruit(&all, 2, "pear", 2, 6, 9, "late");
	add_fruit(&all, "quince", 1, 1, 1, NULL);
	table_merge(&all);
	assert_int_equal(all.nrows, 4);
	table_fini(&all);
}

#define NOTE_COLUMNS(X) X(TEXT, FIRST, note, "Text.")
LAYOUT_DEFINE(note, NOTE_COLUMNS);

static void test_without_keys_rows_stay(void **state)
{
	struct table t;

	table_init(&t, &note_layout);
	for (unsigned i = 0; i < 100; i++)
		table_add(&t, &(struct note_row){ i % 2 ? "b" : "a" });
	table_merge(&t);
	assert_int_equal(t.nrows, 100);
	assert_string_equal(table_text(&t, 99, 0), "b");
	table_fini(&t);
}

/* A client's name or application_name must not make a table unreadable for all drivers. */
static void test_texts_are_utf8(void **state)
{
	static const char *const pairs[][2] = {
		{"plain",				 "plain"                               },
		{ "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x98", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x90\x98"},
		{ "caf\xe9",			      "caf?"                                },
		{ "\xc3",				 "?"				   },
		{ "\xe2\x82",                             "??"                                  },
		{ "\xc0\xaf",                             "??"                                  },
		{ "\xed\xa0\x80",                         "???"                                 },
		{ "\xf5\x80\x80\x80",                     "????"                                },
		{ "\x80x\xff",                            "?x?"                                 },
	};
	struct table t;

	table_init(&t, &note_layout);
	for (unsigned i = 0; i < PGT_NELEMS(pairs); i++) {
		table_add(&t, &(struct note_row){ pairs[i][0] });
		assert_string_equal(table_text(&t, i, 0), pairs[i][1]);
	}
	table_fini(&t);
}

static void test_rows_on_the_wire(void **state)
{
	struct buf out = { 0 };
	struct table t;
	struct frame f = { 0 };
	struct reader r;

	table_init(&t, &fruit_layout);
	add_fruit(&t, "pear", -3, INT64_MAX, NUMBER_NULL, "");
	layout_put_description(&fruit_layout, FORMATS_TEXT, &out);
	assert_int_equal(frame_peek(buf_head(&out), buf_len(&out), &f), FRAME_OK);
	assert_int_equal(f.type, MSG_ROW_DESCRIPTION);
	r = reader_of(frame_body(&f));
	assert_int_equal(read_u16(&r), 5);
	assert_true(slice_is_equal(read_cstr(&r), SLICE("name")));
	read_bytes(&r, 6);
	assert_int_equal(read_u32(&r), 25);
	buf_consume(&out, f.len);
	table_put_row(&t, 0, FORMATS_TEXT, &out);
	assert_int_equal(frame_peek(buf_head(&out), buf_len(&out), &f), FRAME_OK);
	assert_true(frame_is_whole(&f));
	r = reader_of(frame_body(&f));
	assert_int_equal(read_u16(&r), 5);
	assert_true(slice_is_equal(read_bytes(&r, read_u32(&r)), SLICE("pear")));
	assert_true(slice_is_equal(read_bytes(&r, read_u32(&r)), SLICE("-3")));
	assert_true(slice_is_equal(read_bytes(&r, read_u32(&r)), SLICE("9223372036854775807")));
	assert_int_equal(read_u32(&r), UINT32_MAX);
	assert_int_equal(read_u32(&r), 0);
	assert_true(read_is_complete(&r));
	buf_fini(&out);
	table_fini(&t);
}

static void test_binary_rows(void **state)
{
	static const uint8_t numeric[] = { 0, 2, 0, 1, 0x40, 0, 0, 0, 0, 1, 0, 2 };
	static const uint8_t zero[8] = { 0 };
	struct buf out = { 0 };
	struct table t;
	struct frame f = { 0 };
	struct reader r;

	table_init(&t, &fruit_layout);
	add_fruit(&t, "pear", -3, INT64_MAX, -10002, NULL);
	add_fruit(&t, "fig", 0, 0, 0, "x");
	for (unsigned row = 0; row < 2; row++) {
		table_put_row(&t, row, ~(formats_t)1, &out);
		assert_int_equal(frame_peek(buf_head(&out), buf_len(&out), &f), FRAME_OK);
		r = reader_of(frame_body(&f));
		assert_int_equal(read_u16(&r), 5);
		assert_true(slice_is_equal(read_bytes(&r, read_u32(&r)),
					   row ? SLICE("fig") : SLICE("pear")));
		assert_int_equal(read_u32(&r), 4);
		assert_int_equal(read_u32(&r), row ? 0 : (uint32_t)-3);
		assert_int_equal(read_u32(&r), 8);
		assert_int_equal(read_u32(&r), row ? 0 : 0x7fffffff);
		assert_int_equal(read_u32(&r), row ? 0 : UINT32_MAX);
		assert_int_equal(read_u32(&r), row ? sizeof(zero) : sizeof(numeric));
		if (row)
			assert_memory_equal(read_bytes(&r, sizeof(zero)).p, zero, sizeof(zero));
		else
			assert_memory_equal(read_bytes(&r, sizeof(numeric)).p, numeric,
					    sizeof(numeric));
		if (row)
			assert_true(slice_is_equal(read_bytes(&r, read_u32(&r)), SLICE("x")));
		else
			assert_int_equal(read_u32(&r), UINT32_MAX);
		assert_true(read_is_complete(&r));
		buf_consume(&out, f.len);
	}
	buf_fini(&out);
	table_fini(&t);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_show_is_found_in_any_case),
		cmocka_unit_test(test_arguments),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_tenants_and_databases_are_told_apart),
		cmocka_unit_test(test_settings_of_tenants),
		cmocka_unit_test(test_settings_of_nodes),
		cmocka_unit_test(test_refusals_have_pgbouncers_words),
		cmocka_unit_test(test_one_command_a_message),
		cmocka_unit_test(test_a_statement_may_be_as_long_as_one_that_is_parsed),
		cmocka_unit_test(test_i6_long_words_are_refused),
		cmocka_unit_test(test_every_cut_of_a_command),
		cmocka_unit_test(test_route),
		cmocka_unit_test(test_hints_say_what_there_is),
		cmocka_unit_test(test_help_is_of_all_or_of_one),
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_rows_of_workers_are_merged),
		cmocka_unit_test(test_without_keys_rows_stay),
		cmocka_unit_test(test_texts_are_utf8),
		cmocka_unit_test(test_rows_on_the_wire),
		cmocka_unit_test(test_binary_rows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
