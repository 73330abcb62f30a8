/* SPDX-License-Identifier: ISC
 *
 * test_leaving.c - texts that run code which may leave something, by the names in them; and where
 * texts take settings back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/leaving.h"
#include "sql/lex.h"
#include "sql/resets.h"
#include "sql/scan.h"

#include <stdio.h>
#include <string.h>

static bool counts_as_code(const char *text, const struct sql_leaving *leaving, bool unproven)
{
	struct sql_env env = { .standard_strings = true,
			       .ascii_safe = true,
			       .leaving = leaving,
			       .unproven = unproven };
	struct sql_facts f;

	sql_scan(slice_str(text), &env, &f);
	return f.effects & SQL_EFFECT_BLOCK;
}

static void test_names_make_code(void **state PGT_UNUSED)
{
	static const struct {
		const char *text;
		bool is_code;
	} rows[] = {
		{"select f(1)",                                true },
		{ "select F (1)",                              true },
		{ "select public.\"f\"(1)",                    true },
		{ "select \"F\"(1)",                           false},
		{ "select f from t",                           false},
		{ "select t.f from t",                         true },
		{ "insert into w values (1)",                  true },
		{ "with x as (delete from only s.w) select 1", true },
		{ "truncate w",				true },
		{ "copy \"w\" from stdin",                     true },
		{ "select * from w",                           false},
		{ "select 'w' from t; update t set a = 1",     false},
		{ "select * from w; update t set a = 1",       true },
		{ "select * from R",                           true },
		{ "select 1 @+@ 2",                            true },
		{ "select 1 + 2",                              false},
		{ "select U&\"\\0072\" from t",                true },
		{ "select \"odd \"\"name\" from t",            true },
		{ "select * from caf\xc3\xa9",                 true },
		{ "select * from th\xc3\xa9",                  true }, /* by another encoding */
		{ "select * from the",                         false},
	};
	struct sql_leaving *l = sql_leaving_new();

	sql_leaving_add(l, SLICE("f"), SLICE("f"));
	sql_leaving_add(l, SLICE("w"), SLICE("w"));
	sql_leaving_add(l, SLICE("r"), SLICE("r"));
	sql_leaving_add(l, SLICE("o"), SLICE("@+@"));
	sql_leaving_add(l, SLICE("t"), SLICE("odd \"name"));
	sql_leaving_add(l, SLICE("r"), SLICE("caf\xc3\xa9"));
	for (size_t i = 0; i < PGT_NELEMS(rows); i++)
		if (counts_as_code(rows[i].text, l, false) != rows[i].is_code)
			fail_msg("%s", rows[i].text);
	assert_false(counts_as_code("create table x (a int)", l, false));
	sql_leaving_add(l, SLICE("e"), SLICE(""));
	assert_true(counts_as_code("create table x (a int)", l, false));
	sql_leaving_unref(l);
}

static bool may_lock(const char *text, const struct sql_leaving *l)
{
	const struct sql_env env = { .standard_strings = true, .ascii_safe = true, .leaving = l };
	struct sql_facts facts;

	sql_scan(slice_str(text), &env, &facts);
	return facts.effects & SQL_EFFECT_CODE_LOCKS;
}

static void test_what_locks_is_known_from_what_only_leaves_something(void **state PGT_UNUSED)
{
	struct sql_leaving *l = sql_leaving_new();
	uint64_t id;

	sql_leaving_add(l, SLICE("f"), SLICE("sets"));
	sql_leaving_add(l, SLICE("f"), SLICE("locks"));
	sql_leaving_add(l, SLICE("rl"), SLICE("v"));
	id = sql_leaving_id(l);
	assert_false(may_lock("select sets(), locks()", l));
	sql_leaving_add(l, SLICE("fl"), SLICE("locks"));
	assert_true(id != sql_leaving_id(l));
	assert_true(may_lock("select sets(), locks()", l) && may_lock("table v", l));
	assert_false(may_lock("select sets(), locks from t", l));
	sql_leaving_unref(l);
}

static uint32_t carried_by_nothing(const char *text, const struct sql_leaving *l)
{
	const struct sql_env env = { .standard_strings = true, .ascii_safe = true, .leaving = l };
	struct sql_facts facts;

	sql_scan(slice_str(text), &env, &facts);
	return facts.effects & (SQL_EFFECT_SEED | SQL_EFFECT_DBLINK | SQL_EFFECT_CODE_LOCKS);
}

static void test_code_leaves_what_its_text_would(void **state PGT_UNUSED)
{
	struct sql_leaving *l = sql_leaving_new();

	sql_leaving_add(l, SLICE("f"), SLICE("seeds"));
	sql_leaving_add(l, SLICE("fs"), SLICE("seeds"));
	sql_leaving_add(l, SLICE("rd"), SLICE("v"));
	sql_leaving_add(l, SLICE("ws"), SLICE("t"));
	sql_leaving_add(l, SLICE("wl"), SLICE("t"));
	assert_int_equal(carried_by_nothing("select seeds()", l), SQL_EFFECT_SEED);
	assert_int_equal(carried_by_nothing("do $$ begin perform seeds(); end $$", l),
			 SQL_EFFECT_SEED);
	assert_int_equal(carried_by_nothing("select seeds from v", l), SQL_EFFECT_DBLINK);
	assert_int_equal(carried_by_nothing("select * from t", l), 0);
	assert_int_equal(carried_by_nothing("insert into t values (1)", l),
			 SQL_EFFECT_SEED | SQL_EFFECT_CODE_LOCKS);
	sql_leaving_unref(l);
}

static void test_what_is_not_known_yet_counts_if_it_runs_code(void **state PGT_UNUSED)
{
	assert_true(counts_as_code("select 1", NULL, true));
	assert_true(counts_as_code("create table x (a int)", NULL, true));
	assert_true(counts_as_code("set a = 1; insert into t values (1)", NULL, true));
	assert_false(counts_as_code("begin", NULL, true));
	assert_false(counts_as_code("set a = 1; commit", NULL, true));
	assert_false(counts_as_code("select 1", NULL, false));
}

static void test_the_same_names_are_the_same(void **state PGT_UNUSED)
{
	struct sql_leaving *a = sql_leaving_new(), *b = sql_leaving_new();

	assert_true(sql_leaving_is_empty(a) && sql_leaving_is_empty(NULL));
	assert_true(!sql_leaving_has_suspects(a) && sql_leaving_has_suspects(NULL));
	sql_leaving_add(a, SLICE("f"), SLICE("x"));
	sql_leaving_add(a, SLICE("w"), SLICE("y"));
	sql_leaving_add(b, SLICE("w"), SLICE("y"));
	assert_true(sql_leaving_id(a) != sql_leaving_id(b));
	sql_leaving_add(b, SLICE("f"), SLICE("x"));
	sql_leaving_add(b, SLICE("f"), SLICE("x"));
	assert_true(sql_leaving_id(a) == sql_leaving_id(b));
	sql_leaving_add(b, SLICE("i"), SLICE(""));
	assert_true(sql_leaving_has_suspects(b) && sql_leaving_id(a) != sql_leaving_id(b));
	sql_leaving_unref(a);
	sql_leaving_unref(b);
}

/* "nth name place" of each, where place is what stands there, with an L for SET LOCAL. */
static void resets_of(const char *text, char *out, size_t size)
{
	struct sql_reset items[SQL_RESETS_MAX];
	size_t len = 0;
	unsigned n;

	if (!sql_find_resets(slice_str(text), &(struct lex_env){ true, true }, items, &n)) {
		snprintf(out, size, "?");
		return;
	}
	*out = '\0';
	for (unsigned i = 0; i < n; i++)
		len += (size_t)snprintf(out + len, size - len, "%u %s%s%.*s;", items[i].nth,
					items[i].name, items[i].is_local ? " L " : " ",
					(int)items[i].n, text + items[i].at);
}

static void test_resets(void **state PGT_UNUSED)
{
	static const struct {
		const char *text, *found;
	} rows[] = {
		{"reset a",							 "0 a ;"                            },
		{ "; select 1;; RESET \"A\".b -- so",                               "1 a.b ;"                          },
		{ "reset all; reset time zone",                                     "0  ;1 timezone ;"                 },
		{ "set a = default; set local B to DEFAULT",                        "0 a default;1 b L DEFAULT;"       },
		{ "set session local = default",                                    "0 local default;"                 },
		{ "set time zone local; set local time zone 'x'",                   "0 timezone local;"                },
		{ "set names; set names 'x'; set names default",
                 "0 client_encoding ;2 client_encoding default;"                                                       },
		{ "set a = 1; select (1; reset b); set b = 'default'",              ""                                 },
		{ "reset b; select set_config('a', null, false)",                   "0 b ;1 a null;"                   },
		{ "select set_config('a', 'b', false), null",                       ""                                 },
		{ "create function f() begin atomic select 1; end",                 "?"                                },
		{ "reset a; select 'x",					     "?"                                },
		{ "reset session authorization; reset role",                        "0 session_authorization ;1 role ;"},
		{ "set session authorization default; set session authorization x",
                 "0 session_authorization ;"									   },
		{ "reset a.b.c.d.e.f",					      ""                                 },
	};
	char text[200];

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		resets_of(rows[i].text, text, sizeof(text));
		assert_string_equal(text, rows[i].found);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_make_code),
		cmocka_unit_test(test_what_locks_is_known_from_what_only_leaves_something),
		cmocka_unit_test(test_code_leaves_what_its_text_would),
		cmocka_unit_test(test_what_is_not_known_yet_counts_if_it_runs_code),
		cmocka_unit_test(test_the_same_names_are_the_same),
		cmocka_unit_test(test_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
