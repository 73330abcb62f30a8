/* SPDX-License-Identifier: ISC
 *
 * test_steady.c - texts that do the same each time that they are run, and by whatever plan.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/steady.h"

static const struct lex_env plain = { .standard_strings = true, .ascii_safe = true };

static void check(const char *const *texts, enum sql_steadiness expected)
{
	for (; *texts; texts++) {
		enum sql_steadiness got = sql_steadiness(slice_str(*texts), &plain);

		if (got != expected)
			fail_msg("%s: got %d, not %d", *texts, got, expected);
	}
}

static void test_steady_by_any_plan(void **state PGT_UNUSED)
{
	static const char *const texts[] = {
		"SELECT abalance FROM accounts WHERE aid = $1",
		"select 1 /* a */ -- b\n;",
		"SELECT a FROM t WHERE b = $1 AND c <> $2 ORDER BY d LIMIT $3 OFFSET $4",
		"SELECT a FROM t WHERE b IN ($1, $2, $3) AND (c >= $4 OR d = ANY($5))",
		"SELECT a FROM t WHERE b BETWEEN $1 AND $2 FOR UPDATE",
		"DELETE FROM t WHERE a = $1 RETURNING *",
		"UPDATE t SET a = a + 1",
		"INSERT INTO t SELECT a FROM u",
		"SELECT a FROM t WHERE state = 'active' AND b LIKE 'x%' AND c = $1",
		"WITH x AS (SELECT a FROM t WHERE b = $1) SELECT * FROM x",
		"VALUES (1, 'a')",
		"SELECT 8 / 0",
		"SELECT '2020-01-01'::date, E'a', U&'a', N'a''b', $$a$$, B'1'",
		NULL,
	};

	check(texts, SQL_STEADY);
}

static void test_steady_by_a_plan_of_its_own(void **state PGT_UNUSED)
{
	static const char *const texts[] = {
		"SELECT $1",
		"SELECT 8 / $1",
		"SELECT a FROM t WHERE b = 8 / $1",
		"SELECT a FROM t WHERE b = $1 / 8",
		"SELECT a FROM t WHERE b = $1::int",
		"SELECT a FROM t WHERE b = -$1",
		"SELECT a FROM t WHERE b = f($1)",
		"SELECT a FROM t WHERE b = f(1, $1)",
		"SELECT a FROM t WHERE b IN ($1, 8 / $2)",
		"SELECT a FROM t WHERE b IN ($1, f($2), $3)",
		"SELECT a FROM t WHERE b = $1[1]",
		"SELECT a FROM t WHERE b = $1 COLLATE c",
		"SELECT a FROM t WHERE b = $1 AT TIME ZONE c",
		"SELECT a FROM t WHERE b ~ $1",
		"SELECT a FROM t WHERE b LIKE $1",
		"SELECT a FROM t WHERE (b, c) = ($1, $2)",
		"INSERT INTO t VALUES ($1)",
		"INSERT INTO t SELECT a FROM u WHERE b = $1",
		"UPDATE t SET a = $1 WHERE b = $2",
		"UPDATE t SET a = 1 WHERE b = $1",
		"MERGE INTO t USING u ON a = $1 WHEN MATCHED THEN DELETE",
		"WITH x AS (UPDATE t SET a = $1) SELECT 1",
		NULL,
	};

	check(texts, SQL_STEADY_BY_PLAN);
}

static void test_unsteady(void **state PGT_UNUSED)
{
	static const char *const texts[] = {
		"",
		"-- nothing",
		"SHOW TimeZone",
		"(SELECT 1)",
		"EXPLAIN SELECT 1",
		"SELECT 'a\\b'",
		"SELECT a INTO b FROM c",
		"SELECT set_config('a.b', $1, true)",
		"SELECT \"set_config\"('a.b', $1, true)",
		"SELECT 1; SELECT 2",
		"SELECT 'a",
		"SELECT a23456789012345678901234567890123456789012345678901234567890123x",
		NULL,
	};

	check(texts, SQL_UNSTEADY);
}

static void test_deep_parentheses(void **state PGT_UNUSED)
{
	char text[512] = "SELECT a FROM t WHERE b = ";
	size_t n = strlen(text);

	memset(text + n, '(', 100);
	strcpy(text + n + 100, "a IN ($1)");
	memset(text + strlen(text), ')', 100);
	assert_int_equal(sql_steadiness(slice_str(text), &plain), SQL_STEADY_BY_PLAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_steady_by_any_plan),
		cmocka_unit_test(test_steady_by_a_plan_of_its_own),
		cmocka_unit_test(test_unsteady),
		cmocka_unit_test(test_deep_parentheses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
