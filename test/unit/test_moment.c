/* SPDX-License-Identifier: ISC
 *
 * test_moment.c - texts whose literals are read when they are parsed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/moment.h"

static void test_i2_a_text_that_tells_a_moment_is_known(void **state)
{
	static const struct {
		const char *text;
		bool tells;
	} rows[] = {
		{"SELECT 'now'::timestamptz",              true },
		{ "SELECT timestamp ' NOW '",              true },
		{ "SELECT date 'today' + 1",               true },
		{ "SELECT '{tomorrow,yesterday}'::date[]", true },
		{ "INSERT INTO t VALUES ($1, 'Now')",      true },
		{ "SELECT $$now$$::time",                  true },
		{ "SELECT E'\\x6eow'::timestamptz",        true },
		{ "SELECT U&'\\006eow'::timestamptz",      true },
		{ "SELECT U&'!006eow' UESCAPE '!'",        true },
		{ "SELECT 'no'\n'w'::timestamptz",         true },
		{ "SELECT now()",                          false},
		{ "SELECT now FROM today",                 false},
		{ "SELECT \"now\", 1 -- 'now'",            false},
		{ "SELECT 'it''s', E'a', $1, 'epoch'",     false},
		{ "SELECT '\\n'",                          false},
		{ "",				      false},
	};
	const struct lex_env env = { .standard_strings = true, .ascii_safe = true };

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++)
		if (sql_tells_moment(slice_str(rows[i].text), &env) != rows[i].tells)
			fail_msg("%s", rows[i].text);
}

static void test_i2_an_escape_counts_where_the_session_reads_it_as_one(void **state)
{
	const struct lex_env env = { .standard_strings = false, .ascii_safe = true };

	(void)state;
	assert_true(sql_tells_moment(SLICE("SELECT '\\156ow'::timestamptz"), &env));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_i2_a_text_that_tells_a_moment_is_known),
		cmocka_unit_test(test_i2_an_escape_counts_where_the_session_reads_it_as_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
