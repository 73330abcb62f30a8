/* SPDX-License-Identifier: ISC
 *
 * test_scan.c - facts of texts, values of statement_timeout, the guard of long texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/scan.h"
#include "sql/stream_guard.h"
#include "sql/timeout.h"

#include <stdio.h>
#include <stdlib.h>

static const struct sql_env env = { .standard_strings = true,
				    .ascii_safe = true,
				    .tenant_setting = "app.current_business_id",
				    .wants_fingerprint = true };

static struct sql_facts facts_of(const char *text)
{
	struct sql_facts f;

	sql_scan(slice_str(text), &env, &f);
	return f;
}

/* --- names of prepared statements ------------------------------------------------------------ */
/* "use:name@token" of each, with spaces between. */
static void names_of(const char *text, char *out, size_t cap)
{
	struct sql_facts f = facts_of(text);
	size_t n = 0;

	*out = '\0';
	for (unsigned i = 0; i < f.nnames; i++)
		n += (size_t)snprintf(out + n, cap - n, "%s%c:%s@%.*s", i ? " " : "",
				      "PED"[f.names[i].use], f.names[i].folded, (int)f.names[i].len,
				      text + f.names[i].at);
	if (f.too_many_names)
		snprintf(out + n, cap - n, " and more");
}

static void test_names(void **state)
{
	static const struct {
		const char *text, *names;
	} rows[] = {
		{"select 1",						  ""							},
		{ "execute A",						"E:a@A"						   },
		{ "execute /* x */ \"a B\"(1); select 1",                     "E:a B@\"a B\""                                           },
		{ "execute U&\"d\\0061ta\"",                                  "E:data@U&\"d\\0061ta\""                                  },
		{ "explain execute a",					"E:a@a"						   },
		{ "explain analyze verbose execute a(1)",                     "E:a@a"                                                   },
		{ "explain (analyze, costs off) execute a",                   "E:a@a"                                                   },
		{ "explain select 1 as execute from a",                       ""                                                        },
		{ "create table t as execute a",                              "E:a@a"                                                   },
		{ "create temp table t (x) on commit drop as execute a(1)",   "E:a@a"                                                   },
		{ "create unlogged table if not exists t as execute a",       "E:a@a"                                                   },
		{ "explain create table t as execute a",                      "E:a@a"                                                   },
		{ "create table t as select 1 as execute from a",             ""                                                        },
		{ "create view v as select 1 as execute from a",              ""                                                        },
		{ "grant execute on function f to bob",                       ""                                                        },
		{ "create trigger t before insert on x execute function f()", ""                                                        },
		{ "prepare a as select 1",                                    "P:a@a"						   },
		{ "prepare a (int, text) as select $1",                       "P:a@a"                                                   },
		{ "prepare transaction 'x'",                                  ""							},
		{ "prepare transaction as select 1",                          "P:transaction@transaction"                               },
		{ "deallocate a",					     "D:a@a"						   },
		{ "deallocate prepare a",                                     "D:a@a"						   },
		{ "deallocate prepare",                                       "D:prepare@prepare"                                       },
		{ "deallocate prepare; select 1",                             "D:prepare@prepare"                                       },
		{ "deallocate all",					   ""							},
		{ "deallocate prepare all",                                   ""							},
		{ "deallocate \"all\"",                                       "D:all@\"all\""                                           },
		{ "prepare a as select 1; execute b; deallocate c",           "P:a@a E:b@b D:c@c"                                       },
		{ "do $$ begin deallocate a; end $$",                         ""                                                        },
		{ "execute a; execute b; execute c; execute d; execute e; execute f; execute g;"
		  "execute h; execute i",		    "E:a@a E:b@b E:c@c E:d@d E:e@e E:f@f E:g@g E:h@h and more"},
	};
	char names[256];

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		names_of(rows[i].text, names, sizeof(names));
		assert_string_equal(names, rows[i].names);
	}
}

/* --- kind, count, effects ------------------------------------------------------------------- */
#define E(name) SQL_EFFECT_##name
#define K(name) SQL_KIND_##name

static void test_kinds_and_effects(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		enum sql_kind kind;
		unsigned statements;
		uint32_t effects;
	} rows[] = {
		{ "", K(EMPTY), 0, 0 },
		{ " ; -- x\n ;", K(EMPTY), 0, 0 },
		{ "select 1", K(SELECT), 1, 0 },
		{ "(select 1); values (2);; table t", K(SELECT), 3, 0 },
		{ "with x as (select 1) select * from x", K(SELECT), 1, 0 },
		{ "insert into t values (1)", K(INSERT), 1, 0 },
		{ "insert into temp values (1)", K(INSERT), 1, 0 },
		{ "create table t (a int)", K(OTHER), 1, 0 },
		{ "begin", K(BEGIN), 1, E(TRANSACTION_CONTROL) },
		{ "start transaction", K(BEGIN), 1, E(TRANSACTION_CONTROL) },
		{ "select 1; commit", K(SELECT), 2, E(TRANSACTION_CONTROL) },
		{ "end", K(COMMIT), 1, E(TRANSACTION_CONTROL) },
		{ "abort", K(ROLLBACK), 1, E(TRANSACTION_CONTROL) },
		{ "rollback to a", K(ROLLBACK_TO), 1, E(TRANSACTION_CONTROL) },
		{ "rollback work to savepoint a", K(ROLLBACK_TO), 1, E(TRANSACTION_CONTROL) },
		{ "rollback prepared 'x'", K(TWO_PHASE), 1, E(TRANSACTION_CONTROL) },
		{ "prepare transaction 'x'", K(TWO_PHASE), 1, E(TRANSACTION_CONTROL) },
		{ "savepoint a; release a", K(SAVEPOINT), 2, E(TRANSACTION_CONTROL) },
		{ "set a = 1", K(SET), 1, E(SET) },
		{ "set session a.b to 'x', 'y'", K(SET), 1, E(SET) },
		{ "set time zone 'UTC'", K(SET), 1, E(SET) },
		{ "set role bob", K(SET), 1, E(SET) },
		{ "set session authorization bob", K(SET), 1, E(SET) },
		{ "set session characteristics as transaction read only", K(SET), 1, E(SET) },
		{ "set local a = 1", K(SET_LOCAL), 1, 0 },
		{ "set local time zone 'UTC'", K(SET_LOCAL), 1, 0 },
		{ "set transaction read only", K(SET_TRANSACTION), 1, 0 },
		{ "set constraints all deferred", K(SET_TRANSACTION), 1, 0 },
		{ "reset all", K(RESET), 1, E(SET) },
		{ "select set_config('a.b', 'x', true)", K(SELECT), 1, 0 },
		{ "select set_config('a.b', 'x', false)", K(SELECT), 1, E(SET) },
		{ "select set_config('a.b', 'x', $1)", K(SELECT), 1, E(SET) },
		{ "show all", K(SHOW), 1, 0 },
		{ "discard all", K(DISCARD), 1, E(DISCARD_ALL) },
		{ "select a into b from c", K(SELECT), 1, E(DEFINES) },
		{ "with a as (select 1) select * into b from a", K(SELECT), 1, E(DEFINES) },
		{ "select a into temp b from c", K(SELECT), 1, E(DEFINES) | E(TEMP) },
		{ "with a as (select 1) insert into b select * from a", K(SELECT), 1, 0 },
		{ "insert into a values (1)", K(INSERT), 1, 0 },
		{ "merge into a using b on true when matched then delete", K(OTHER), 1, 0 },
		{ "create table a (b int generated always as (1) stored)", K(OTHER), 1, 0 },
		{ "create unlogged table a as select 1", K(OTHER), 1, E(DEFINES) },
		{ "create temp table a as select 1", K(OTHER), 1, E(DEFINES) | E(TEMP) },
		{ "create materialized view a as select 1", K(OTHER), 1, E(DEFINES) },
		{ "create schema a create view b as select 1", K(OTHER), 1, E(DEFINES) },
		{ "do 'begin create view a as select 1; end'", K(DO), 1, E(BLOCK) | E(DEFINES) },
		{ "do $$begin execute 'x'; end$$", K(DO), 1, E(BLOCK) | E(DEFINES) },
		{ "do $$declare a int; begin select 1 into a; end$$", K(DO), 1, E(BLOCK) },
		{ "create function a() returns int as 'select 1' language sql", K(OTHER), 1, 0 },
		{ "discard temp", K(DISCARD), 1, E(DISCARD_PLANS) },
		{ "prepare a as select 1", K(PREPARE), 1, E(PREPARE) },
		{ "execute a", K(EXECUTE), 1, 0 },
		{ "deallocate a", K(DEALLOCATE), 1, E(DEALLOCATE) },
		{ "deallocate prepare all", K(DEALLOCATE), 1, E(DEALLOCATE_ALL) },
		{ "listen a", K(LISTEN), 1, E(LISTEN) },
		{ "unlisten *", K(UNLISTEN), 1, E(RELEASE) },
		{ "close a", K(CLOSE), 1, E(RELEASE) },
		{ "drop table a", K(OTHER), 1, E(RELEASE) },
		{ "select pg_advisory_unlock_all()", K(SELECT), 1, E(RELEASE) },
		{ "select setseed(0.5)", K(SELECT), 1, E(SEED) },
		{ "set seed to 0.5", K(SET), 1, E(SET) | E(SEED) },
		{ "select pg_backend_pid()", K(SELECT), 1, E(BACKEND_PID) },
		{ "update pg_settings set setting = 1", K(UPDATE), 1, E(SET) },
		{ "load 'x'", K(LOAD), 1, E(LOAD) },
		{ "copy t from stdin", K(COPY), 1, E(COPY) },
		{ "create temp table x (a int)", K(OTHER), 1, E(TEMP) },
		{ "create or replace local temporary view v as select 1", K(OTHER), 1, E(TEMP) },
		{ "select 1 into temp x", K(SELECT), 1, E(TEMP) | E(DEFINES) },
		{ "create table pg_temp.x (a int)", K(OTHER), 1, E(TEMP) },
		{ "create table \"pg_temp\".x (a int)", K(OTHER), 1, E(TEMP) },
		{ "create schema s create temp table x (a int)", K(OTHER), 1, E(TEMP) | E(DEFINES) },
		{ "select temp from t", K(SELECT), 1, 0 },
		{ "select pg_catalog.pg_advisory_lock(1)", K(SELECT), 1, E(ADVISORY_LOCK) },
		{ "select \"pg_try_advisory_lock_shared\"(1)", K(SELECT), 1, E(ADVISORY_LOCK) },
		{ "select pg_advisory_xact_lock(1)", K(SELECT), 1, 0 },
		{ "declare c cursor with hold for select 1", K(DECLARE), 1, E(HOLD_CURSOR) },
		{ "declare c cursor without hold for select 1", K(DECLARE), 1, 0 },
		{ "with hold as (select 1) select * from hold", K(SELECT), 1, 0 },
		{ "do $$ begin perform pg_advisory_lock(1); set a = 1; end $$", K(DO), 1,
		  E(ADVISORY_LOCK) | E(SET) | E(BLOCK) },
		{ "do $$ begin update t set a = 1; end $$", K(DO), 1, E(BLOCK) },
		{ "do $$ begin commit; end $$", K(DO), 1, E(TRANSACTION_CONTROL) | E(BLOCK) },
		{ "do E'begin \\x73et a = 1; end'", K(DO), 1, E(SET) | E(BLOCK) },
		{ "call p(1)", K(CALL), 1, E(BLOCK) },
		{ "create function f() returns void as $$ set a = 1; $$ language sql", K(OTHER), 1,
		  0 },
		{ "create function f() returns int begin atomic select case when true then 1 end;"
		  " select 2; end; select 3",
		  K(OTHER), 2, 0 },
		{ "create rule r as on insert to t do (select 1; select 2); select 3", K(OTHER), 2,
		  0 },
		{ "explain analyze select 1", K(EXPLAIN), 1, 0 },
		{ "selec 1", K(OTHER), 1, 0 },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct sql_facts f = facts_of(rows[i].text);

		if (f.kind != rows[i].kind || f.statements != rows[i].statements ||
		    f.effects != rows[i].effects)
			fail_msg("%s: kind %s, %u statements, effects %#x", rows[i].text,
				 sql_kind_name(f.kind), f.statements, f.effects);
	}
}

static void test_names_of_settings(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		const char *names; /* each with a bar */
		bool many, unnamed;
	} rows[] = {
		{ "select 1", "", false, false },
		{ "set Work_Mem = 1", "work_mem|", false, false },
		{ "set \"App\".\"X\" to 1; set local b = 2; set c = 3", "app.x|c|", false, false },
		{ "set time zone 'UTC'; set names 'x'; set schema 'y'", "timezone|client_encoding|search_path|",
		  false, false },
		{ "set session authorization a; set role b", "session_authorization|role|", true, false },
		{ "set session characteristics as transaction read only", "", true, false },
		{ "set transaction_read_only = on", "", true, false },
		{ "reset a", "a|", true, false },
		{ "reset all", "", true, false },
		{ "select set_config('a.b', $1, false), set_config('c', 'd', true)", "a.b|", false, false },
		{ "select set_config($1, 'x', false)", "", false, true },
		{ "select set_config(name, 'x', false) from t", "", false, true },
		{ "do $$ begin perform set_config('a.b', 'x', false); end $$", "a.b|", false, false },
		{ "update pg_settings set setting = 1", "", true, false },
		{ "set abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc = 1;"
		  "set abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc = 1;"
		  "set abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc = 1;"
		  "set abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabc = 1",
		  NULL, false, true },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct sql_facts f = facts_of(rows[i].text);
		char names[SQL_SETTINGS_ROOM + 1] = "";

		memcpy(names, f.settings, f.settings_len);
		for (unsigned at = 0; at < f.settings_len; at++)
			names[at] = names[at] ? names[at] : '|';
		if ((rows[i].names && strcmp(names, rows[i].names)) ||
		    f.sets_many != rows[i].many || f.sets_unnamed != rows[i].unnamed)
			fail_msg("%s: %s, many %d, unnamed %d", rows[i].text, names, f.sets_many,
				 f.sets_unnamed);
	}
}

static void test_what_goes_back_to_the_beginning(void **state)
{
	static const struct {
		const char *text;
		bool resets;
	} rows[] = {
		{"reset work_mem",                        true },
		{ "select 1; reset all",                  true },
		{ "set work_mem = default",               true },
		{ "set statement_timeout to default",     true },
		{ "set time zone local",                  true },
		{ "set names default",                    true },
		{ "select set_config('a.b', null, true)", true },
		{ "set work_mem = 'default'",             false},
		{ "set local work_mem = 1",               false},
		{ "select set_config('a.b', $1, false)",  false},
		{ "insert into t values (default)",       false},
	};
	struct sql_facts f;

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		f = facts_of(rows[i].text);
		if (f.resets != rows[i].resets)
			fail_msg("%s", rows[i].text);
	}
}

static void test_what_changes_the_meaning_of_names(void **state)
{
	static const struct {
		const char *text;
		bool sets_path;
	} rows[] = {
		{"set search_path = a",						     true },
		{ "set local search_path to a",                                             true },
		{ "set local schema 'a'",						   true },
		{ "set local role a",						       true },
		{ "set session authorization a",                                            true },
		{ "select 1; select set_config('role', $1, true)",                          true },
		{ "select set_config($1, 'a', true)",                                       true },
		{ "set local \"DateStyle\" = 'dmy'",                                        true },
		{ "set time zone 'utc'",						    true },
		{ "select set_config('IntervalStyle', $1, true)",                           true },
		{ "set local bytea_output = hex",                                           true },
		{ "set local extra_float_digits = 0",                                       true },
		{ "set work_mem = 1",						       false},
		{ "select set_config('app.x', 'search_path', true)",                        false},
		{ "create function f() returns int set search_path = a language sql as ''", false},
	};
	struct sql_facts f;

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		f = facts_of(rows[i].text);
		if (f.sets_path != rows[i].sets_path)
			fail_msg("%s", rows[i].text);
	}
}

static void test_transaction_control_is_exact(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		bool exact, read_only, serializable, read_write;
	} rows[] = {
		{ "begin", true },
		{ "BEGIN TRANSACTION;", true },
		{ "begin read only", true, true },
		{ "begin read write", true, .read_write = true },
		{ "begin read only, read write", true, .read_write = true },
		{ "start transaction isolation level repeatable read, read only, not deferrable",
		  true, true },
		{ "begin isolation level serializable read only", true, true, true },
		{ "begin isolation level read uncommitted", true },
		{ "begin bad" },
		{ "begin read only," },
		{ "begin read" },
		{ "begin isolation level" },
		{ "start" },
		{ "commit", true },
		{ "end work", true },
		{ "commit and no chain", true },
		{ "commit and chain" },
		{ "commit bad" },
		{ "rollback transaction", true },
		{ "rollback to a" },
		{ "discard all", true },
		{ "discard all bad" },
		{ "select 1" },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct sql_facts f = facts_of(rows[i].text);

		if (f.is_exact != rows[i].exact || f.begin_read_only != rows[i].read_only ||
		    f.begin_read_write != rows[i].read_write ||
		    (rows[i].read_only && f.begin_serializable != rows[i].serializable))
			fail_msg("%s", rows[i].text);
	}
}

static void test_hints(void **state)
{
	assert_int_equal(facts_of("/* route: primary */ select 1").hint, SQL_HINT_PRIMARY);
	assert_int_equal(facts_of("select 1 -- app=x,ROUTE:PRIMARY").hint, SQL_HINT_PRIMARY);
	assert_int_equal(facts_of("/* route: replica */ select 1").hint, SQL_HINT_NONE);
	assert_int_equal(facts_of("select '/* route: primary */'").hint, SQL_HINT_NONE);
	assert_int_equal(facts_of("/* route: */ select 1 /* primary */").hint, SQL_HINT_NONE);
}

/* --- fingerprints --------------------------------------------------------------------------- */
static bool same_print(const char *a, const char *b)
{
	struct sql_facts fa = facts_of(a), fb = facts_of(b);

	return fa.fingerprint[0] == fb.fingerprint[0] && fa.fingerprint[1] == fb.fingerprint[1];
}

static void test_fingerprints(void **state)
{
	char longer[2][1000];

	assert_true(
	    same_print("select a from t where id = 1", "SELECT a\n FROM T WHERE id=22 -- x"));
	assert_true(same_print("select 'a'", "select $$b$$"));
	assert_true(same_print("select U&\"a\"", "select  U&\"a\""));
	assert_false(same_print("select 'a'", "select 1"));
	assert_false(same_print("select a", "select \"a\""));
	assert_false(same_print("select \"a\"", "select \"A\""));
	assert_false(same_print("select \"a\", \"b\"", "select \"a\"\", \"\"b\""));
	assert_false(same_print("select ab", "select a b"));
	assert_false(same_print("select 1 in (1)", "select 1 in (1, 2)"));
	assert_false(same_print("select 1", "select 1; select 1"));
	assert_false(same_print("select a < b", "select a <= b"));
	for (int i = 0; i < 2; i++) {
		memset(longer[i], 'x', sizeof(longer[i]) - 1);
		for (size_t k = 10; k < sizeof(longer[i]); k += 11)
			longer[i][k] = ' ';
		longer[i][sizeof(longer[i]) - 1] = '\0';
	}
	assert_true(same_print(longer[0], longer[1]));
	longer[1][600] = 'y';
	assert_false(same_print(longer[0], longer[1]));
}

/* --- guarded settings ----------------------------------------------------------------------- */
#define TENANT CHANGE_TENANT

static void test_changes(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		int what, scope, form;
		const char *tokens, *value;
	} rows[] = {
		{ "set app.current_business_id = 42", TENANT, SCOPE_SESSION, VALUE_LITERAL, "42",
		  "42" },
		{ "set app.current_business_id = 042", TENANT, SCOPE_SESSION, VALUE_LITERAL, "042",
		  "42" },
		{ "set app.current_business_id = -4", TENANT, SCOPE_SESSION, VALUE_LITERAL, "-4",
		  "-4" },
		{ "set app.current_business_id = 4.20", TENANT, SCOPE_SESSION, VALUE_LITERAL,
		  "4.20", "4.20" },
		{ "set app.current_business_id = 99999999999", TENANT, SCOPE_SESSION, VALUE_LITERAL,
		  "99999999999", "99999999999" },
		{ "set app.current_business_id to Foo", TENANT, SCOPE_SESSION, VALUE_LITERAL, "Foo",
		  "foo" },
		{ "set app.current_business_id to \"Foo\"", TENANT, SCOPE_SESSION, VALUE_LITERAL,
		  "\"Foo\"", "Foo" },
		{ "SET SESSION \"APP\" . Current_Business_Id TO 'it''s'", TENANT, SCOPE_SESSION,
		  VALUE_LITERAL, "'it''s'", "it's" },
		{ "set local \"app.current_business_id\" = E'\\x34'", TENANT, SCOPE_LOCAL,
		  VALUE_LITERAL, "E'\\x34'", "4" },
		{ "set U&\"\\0061pp\".current_business_id = '1'", TENANT, SCOPE_SESSION,
		  VALUE_LITERAL, "'1'", "1" },
		{ "set/*a*/app/*b*/./*c*/current_business_id--d\n=$$1$$", TENANT, SCOPE_SESSION,
		  VALUE_LITERAL, "$$1$$", "1" },
		{ "set app.current_business_id = 'a', 'b'", TENANT, SCOPE_SESSION, VALUE_UNKNOWN,
		  "'a', 'b'", NULL },
		{ "set app.current_business_id to default", TENANT, SCOPE_SESSION, VALUE_DEFAULT,
		  "default", NULL },
		{ "reset app.current_business_id", TENANT, SCOPE_SESSION, VALUE_DEFAULT, "", NULL },
		{ "select 1; set app.current_business_id = '2'", TENANT, SCOPE_SESSION,
		  VALUE_LITERAL, "'2'", "2" },
		{ "create rule r as on insert to t do (select 1; set app.current_business_id = 3)",
		  TENANT, SCOPE_SESSION, VALUE_LITERAL, "3", "3" },
		{ "select set_config('app.current_business_id', '7', false)", TENANT, SCOPE_SESSION,
		  VALUE_LITERAL, "'7'", "7" },
		{ "select SET_CONFIG ( 'APP.Current_Business_Id'::text , '7' , TRUE )", TENANT,
		  SCOPE_LOCAL, VALUE_LITERAL, "'7'", "7" },
		{ "select pg_catalog.\"set_config\"($$app.current_business_id$$, null, true)",
		  TENANT, SCOPE_LOCAL, VALUE_DEFAULT, "null", NULL },
		{ "select U&\"set\\005Fconfig\"(U&'app!002Ecurrent_business_id' uescape '!', a || "
		  "b,"
		  " false)",
		  TENANT, SCOPE_SESSION, VALUE_UNKNOWN, "a || b", NULL },
		{ "select set_config(E'\\x61pp.current_business_id', $2, true)", TENANT,
		  SCOPE_LOCAL, VALUE_PARAM, "$2", NULL },
		{ "select set_config('app.'\n'current_business_id', (select '1'), true)", TENANT,
		  SCOPE_LOCAL, VALUE_UNKNOWN, "(select '1')", NULL },
		{ "select set_config('a.b', set_config('app.current_business_id', '1', true), "
		  "true)",
		  TENANT, SCOPE_LOCAL, VALUE_LITERAL, "'1'", "1" },
		{ "prepare p as select set_config('app.current_business_id', $1, true)", TENANT,
		  SCOPE_LOCAL, VALUE_UNKNOWN, "$1", NULL },
		{ "do $$ begin set local app.current_business_id = 5; end $$", TENANT, SCOPE_LOCAL,
		  VALUE_LITERAL, "5", "5" },
		{ "do $$ begin perform set_config('app.current_business_id', x, true); end $$",
		  TENANT, SCOPE_LOCAL, VALUE_UNKNOWN, "x", NULL },
		{ "alter role bob set app.current_business_id = '9'", TENANT, SCOPE_CATALOG,
		  VALUE_LITERAL, "'9'", "9" },
		{ "alter role bob in database d set app.current_business_id to default", TENANT,
		  SCOPE_CATALOG, VALUE_DEFAULT, "default", NULL },
		{ "alter database d reset app.current_business_id", TENANT, SCOPE_CATALOG,
		  VALUE_DEFAULT, "", NULL },
		{ "alter function f() set app.current_business_id from current", TENANT,
		  SCOPE_CATALOG, VALUE_UNKNOWN, "", NULL },
		{ "create function f() returns int set app.current_business_id = '1' as 'select 1'"
		  " language sql",
		  TENANT, SCOPE_CATALOG, VALUE_LITERAL, "'1'", "1" },
		{ "set statement_timeout = '5s'", CHANGE_STATEMENT_TIMEOUT, SCOPE_SESSION,
		  VALUE_LITERAL, "'5s'", "5s" },
		{ "set \"Statement_Timeout\" to 0", CHANGE_STATEMENT_TIMEOUT, SCOPE_SESSION,
		  VALUE_LITERAL, "0", "0" },
		{ "set standard_conforming_strings = off", CHANGE_STANDARD_STRINGS, SCOPE_SESSION,
		  VALUE_LITERAL, "off", "off" },
		{ "set client_encoding to 'SJIS'", CHANGE_CLIENT_ENCODING, SCOPE_SESSION,
		  VALUE_LITERAL, "'SJIS'", "SJIS" },
		{ "set names 'GBK'", CHANGE_CLIENT_ENCODING, SCOPE_SESSION, VALUE_LITERAL, "'GBK'",
		  "GBK" },
		{ "set names", CHANGE_CLIENT_ENCODING, SCOPE_SESSION, VALUE_DEFAULT, "", NULL },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct sql_facts f = facts_of(rows[i].text);
		const struct sql_change *c = &f.changes[0];

		if (f.nchanges != 1 || f.flags || (int)c->what != rows[i].what ||
		    (int)c->scope != rows[i].scope || (int)c->form != rows[i].form ||
		    !slice_is_equal(slice_of(rows[i].text + (c->len ? c->at : 0), c->len),
				    slice_str(rows[i].tokens)) ||
		    c->value_fits != (rows[i].value != NULL) ||
		    (rows[i].value && strcmp(c->value, rows[i].value) != 0))
			fail_msg("%s: %u changes, flags %#x, what %d scope %d form %d [%.*s] %s",
				 rows[i].text, f.nchanges, f.flags, c->what, c->scope, c->form,
				 (int)c->len, rows[i].text + c->at, c->value);
	}
}

static void test_flags(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		uint32_t flags;
	} rows[] = {
		/* reading, and data */
		{ "show app.current_business_id", 0 },
		{ "select current_setting('app.current_business_id')", 0 },
		{ "select current_setting('app.current_business_id', true)", 0 },
		{ "insert into t values ('app.current_business_id')", 0 },
		{ "insert into t values ('about app.current_business_id')", 0 },
		{ "select app.current_business_id from app", 0 },
		{ "create table t (current_business_id int)", 0 },
		{ "create view v as select t.current_business_id from t", 0 },
		{ "create policy p on t using (id = "
		  "current_setting('app.current_business_id')::int)",
		  0 },
		{ "create function f() returns text as $$ begin return"
		  " current_setting('app.current_business_id'); end $$ language plpgsql",
		  0 },
		{ "select 1 from pg_settings", 0 },
		/* undecided */
		{ "do $$ begin execute 'set app.current_business_id = 5'; end $$",
		  SQL_GUARD_UNDECIDED },
		{ "do $$ begin execute format('set %s = 5', x) using 'my app.current_business_id';"
		  " end $$",
		  SQL_GUARD_UNDECIDED },
		{ "do $$ begin execute format('set %s = 5', 'app.current_business_id'); end $$",
		  SQL_GUARD_UNDECIDED },
		{ "select query_to_xml('set app.current_business_id = 5')", SQL_GUARD_UNDECIDED | SQL_SETCONFIG_DYNAMIC },
		{ "select * from crosstab('select 1') as t(a int)", SQL_SETCONFIG_DYNAMIC },
		{ "select * from public.\"crosstab4\" /**/ ('select 1')", SQL_SETCONFIG_DYNAMIC },
		{ "select * from connectby('t', 'a', 'b', 'c', 0)", SQL_SETCONFIG_DYNAMIC },
		{ "select xpath_table('a', 'b', 't', '/x', 'true')", SQL_SETCONFIG_DYNAMIC },
		{ "with crosstab as (select 1) select * from crosstab", 0 },
		{ "create aggregate a (text) (sfunc = ts_rewrite, stype = tsquery)",
		  SQL_SETCONFIG_DYNAMIC },
		/* our statements on servers, whose parameters only a Bind may give */
		{ "execute pgt_1('5')", SQL_GUARD_UNDECIDED },
		{ "execute /* x */ U&\"pg\\0074_1\"('5')", SQL_GUARD_UNDECIDED },
		{ "explain analyze execute \"pgt_1\"('5')", SQL_GUARD_UNDECIDED },
		{ "create table t as execute PGT_1('5')", SQL_GUARD_UNDECIDED },
		{ "execute mine('pgt_1')", 0 },
		{ "grant execute on function pgt() to bob", 0 },
		{ "grant set on parameter app.current_business_id to bob", SQL_GUARD_UNDECIDED },
		{ "grant set on parameter \"app.current_business_id\" to bob",
		  SQL_GUARD_UNDECIDED },
		{ "do E'begin null; \\x65nd'", SQL_GUARD_UNDECIDED },
		/* set_config() of what? */
		{ "select set_config('app.' || 'x', '1', true)", SQL_SETCONFIG_DYNAMIC },
		{ "select set_config(name, '1', true) from t", SQL_SETCONFIG_DYNAMIC },
		{ "select set_config('a.b'::varchar(3), '1', true)", SQL_SETCONFIG_DYNAMIC },
		{ "select set_config(a => 'x', b => 'y', c => true)", SQL_SETCONFIG_DYNAMIC },
		{ "create aggregate a (text, boolean) (sfunc = set_config, stype = text)",
		  SQL_SETCONFIG_DYNAMIC },
		{ "prepare p as select set_config($1, $2, true)", SQL_SETCONFIG_DYNAMIC },
		{ "select set_config($1, $2, true)", SQL_SETCONFIG_PARAM },
		{ "do 'begin perform set_config(''a.b'', ''c'', false); end'",
		  SQL_SETCONFIG_DYNAMIC },
		/* pg_settings */
		{ "update pg_settings set setting = 'x'", SQL_UPDATES_PG_SETTINGS },
		{ "update only (pg_catalog.\"pg_settings\") set setting = 'x'",
		  SQL_UPDATES_PG_SETTINGS },
		{ "with u as (update pg_settings set setting = 'x' returning 1) select * from u",
		  SQL_UPDATES_PG_SETTINGS },
		/* the rest */
		{ "set transaction_read_only = off", SQL_SETS_READ_ONLY },
		{ "select set_config('default_transaction_read_only', 'off', false)",
		  SQL_SETS_READ_ONLY },
		{ "select 'x", SQL_UNCLEAN },
		{ "select 1 /*", SQL_UNCLEAN },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct sql_facts f = facts_of(rows[i].text);

		if (f.flags != rows[i].flags)
			fail_msg("%s: flags %#x", rows[i].text, f.flags);
	}
}

static void test_a_name_in_a_parameter(void **state)
{
	struct sql_facts f = facts_of("select set_config($2::text, $1, true)");

	assert_int_equal(f.nchanges, 1);
	assert_int_equal(f.changes[0].what, CHANGE_BY_PARAM);
	assert_int_equal(f.changes[0].name_param, 2);
	assert_int_equal(f.changes[0].form, VALUE_PARAM);
	assert_int_equal(f.changes[0].param, 1);
}

static void test_reset_all_changes_all(void **state)
{
	struct sql_facts f = facts_of("reset all");

	assert_int_equal(f.nchanges, 4);
	f = facts_of("alter role bob reset all");
	assert_int_equal(f.nchanges, 4);
	assert_int_equal(f.changes[3].what, CHANGE_TENANT);
	assert_int_equal(f.changes[3].scope, SCOPE_CATALOG);
}

static void test_more_changes_than_fit_are_told(void **state)
{
	char text[1024] = "";

	for (int i = 0; i <= SQL_CHANGES_MAX; i++)
		strcat(text, "set app.current_business_id = 1;");
	assert_true(facts_of(text).too_many_changes);
	assert_int_equal(facts_of(text).nchanges, SQL_CHANGES_MAX);
}

static void test_a_value_too_long_is_told(void **state)
{
	char text[256];
	struct sql_facts f;

	snprintf(text, sizeof(text), "set app.current_business_id = '%0100d'", 7);
	f = facts_of(text);
	assert_int_equal(f.changes[0].form, VALUE_LITERAL);
	assert_false(f.changes[0].value_fits);
}

static void test_without_a_tenant_setting_nothing_of_it_is_guarded(void **state)
{
	const struct sql_env plain = { .standard_strings = true, .ascii_safe = true };
	struct sql_facts f;

	sql_scan(SLICE("set app.current_business_id = 1; reset all"), &plain, &f);
	assert_int_equal(f.nchanges, 3);
	assert_int_equal(f.flags, 0);
}

static void test_i1_a_forged_set_behind_a_backslash_is_seen(void **state)
{
	const struct sql_env off = { .ascii_safe = true,
				     .tenant_setting = "app.current_business_id" };
	struct slice text = SLICE("select '\\'; -- '; set app.current_business_id='FORGED'");
	struct sql_facts f;

	sql_scan(text, &off, &f);
	assert_int_equal(f.nchanges, 1);
	assert_string_equal(f.changes[0].value, "FORGED");
	assert_true(f.flags & SQL_BACKSLASH);
	sql_scan(text, &env, &f);
	assert_int_equal(f.nchanges, 0);
}

static void test_hostile_texts_take_linear_time(void **state)
{
	static const char *const units[] = {
		"(",
		"set_config(",
		"set ",
		"begin ",
		";",
		"set a.",
		"do $a$",
		"as '",
		"case ",
		"create function begin atomic ",
		"set_config('a', ",
		"reset ",
		"a.",
		"/*route:",
		"do $$ begin set ",
		"set a = 1, ",
	};
	const size_t times = 100000;

	for (size_t i = 0; i < PGT_NELEMS(units); i++) {
		size_t n = strlen(units[i]);
		char *text = malloc(n * times);
		struct sql_facts f;

		for (size_t k = 0; k < times; k++)
			memcpy(text + k * n, units[i], n);
		sql_scan(slice_of(text, n * times), &env, &f);
		free(text);
	}
}

/* --- statement_timeout ---------------------------------------------------------------------- */
static void test_timeouts_as_the_server_reads_them(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text;
		int64_t ms; /* -1: refused */
	} rows[] = {
		{ "0", 0 },
		{ "250", 250 },
		{ "15s", 15000 },
		{ " 1.5 s ", 1500 },
		{ "0x10", 16 },
		{ "010", 8 },
		{ "1500us", 2 },
		{ "+5", 5 },
		{ "-1", -1 },
		{ "1S", -1 },
		{ "1e3", 1000 },
		{ "0x1.8p3", 12 },
		{ ".5s", 500 },
		{ "5 0", -1 },
		{ "", -1 },
		{ "inf", -1 },
		{ "1minute", -1 },
		{ "1.0001d", 86400000 },
		{ "2min", 120000 },
		{ "1h", 3600000 },
		{ "1.5", 2 },
		{ "2.5", 2 },
		{ "-0.4", 0 },
		{ "nan", -1 },
		{ "2147483647", INT32_MAX },
		{ "2147483648", -1 },
		{ "30d", -1 },
		{ "1e99", -1 },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		int64_t ms = -1;
		bool ok = sql_timeout_parse(slice_str(rows[i].text), &ms);

		if (ok != (rows[i].ms >= 0) || (ok && ms != rows[i].ms))
			fail_msg("'%s': %d %lld", rows[i].text, ok, (long long)ms);
	}
}

static void test_timeouts_are_written_to_be_read_again(void **state)
{
	static const int64_t values[] = { 0, 7, 10, 15000, 86400000, INT32_MAX };
	char out[SQL_TIMEOUT_MAX];
	int64_t ms;

	for (size_t i = 0; i < PGT_NELEMS(values); i++) {
		sql_timeout_write(values[i], out);
		assert_true(sql_timeout_parse(slice_str(out), &ms));
		assert_int_equal(ms, values[i]);
	}
	sql_timeout_write(15000, out);
	assert_string_equal(out, "15000");
	sql_timeout_write(INT64_MAX, out);
	assert_string_equal(out, "9223372036854775807");
}

/* --- long texts ----------------------------------------------------------------------------- */
static bool guard_finds(const char *text, size_t chunk)
{
	struct sql_stream_guard g;
	size_t n = strlen(text);

	sql_stream_guard_init(&g, env.tenant_setting);
	for (size_t at = 0; at < n; at += chunk)
		sql_stream_guard_feed(&g, slice_of(text + at, n - at < chunk ? n - at : chunk));
	return g.found;
}

static void test_the_stream_guard_sees_across_every_border(void **state)
{
	static const char *const found[] = {
		"insert into t values ('xxxxxxxxxxxx'); SET App.Current_Business_ID = 'x'",
		"select SET_config('x' || 'y', 'z', false) from xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		"update pg_settings set setting = 'x' where name = 'xxxxxxxxxxxxxxxxxxxxxxxxxx'",
		"set app.U&\"current\\005Fbusiness_id\" = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'",
		"insert into t values ('xxxxxxxxxxxxxx'); set standard_conforming_strings = off",
	};

	for (size_t i = 0; i < PGT_NELEMS(found); i++)
		for (size_t chunk = 1; chunk < 100; chunk++)
			assert_true(guard_finds(found[i], chunk));
	assert_false(guard_finds("insert into t values ('current_business', 'set config')", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_kinds_and_effects),
		cmocka_unit_test(test_names_of_settings),
		cmocka_unit_test(test_what_goes_back_to_the_beginning),
		cmocka_unit_test(test_what_changes_the_meaning_of_names),
		cmocka_unit_test(test_transaction_control_is_exact),
		cmocka_unit_test(test_hints),
		cmocka_unit_test(test_fingerprints),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_a_name_in_a_parameter),
		cmocka_unit_test(test_reset_all_changes_all),
		cmocka_unit_test(test_more_changes_than_fit_are_told),
		cmocka_unit_test(test_a_value_too_long_is_told),
		cmocka_unit_test(test_without_a_tenant_setting_nothing_of_it_is_guarded),
		cmocka_unit_test(test_i1_a_forged_set_behind_a_backslash_is_seen),
		cmocka_unit_test(test_hostile_texts_take_linear_time),
		cmocka_unit_test(test_timeouts_as_the_server_reads_them),
		cmocka_unit_test(test_timeouts_are_written_to_be_read_again),
		cmocka_unit_test(test_the_stream_guard_sees_across_every_border),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
