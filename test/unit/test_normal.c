/* SPDX-License-Identifier: ISC
 *
 * test_normal.c - texts that may be shown: no literal, whatever it is written like.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sql/normal.h"

static const struct lex_env standard = { true, true };

static const char *normal(const char *text, const struct lex_env *env, struct sql_normal *n)
{
	static char shown[SQL_NORMAL_MAX + 1];
	struct buf out = { 0 };

	sql_normalise(slice_str(text), env, n, &out);
	assert_true(buf_len(&out) <= SQL_NORMAL_MAX);
	memcpy(shown, buf_cstr(&out), buf_len(&out) + 1);
	buf_fini(&out);
	return shown;
}

static void expect(const char *text, const char *shown)
{
	struct sql_normal n;

	assert_string_equal(normal(text, &standard, &n), shown);
}

static void test_literals_become_question_marks(void **state)
{
	expect("SELECT 1, 'x', 1.5e-3, .5", "SELECT ?, ?, ?, ?");
	expect("select  a\n\tfrom t where b=-7", "select a from t where b=-?");
	expect("SELECT E'a\\'b', U&'x!0041' UESCAPE '!', N'c', B'1', X'ff'",
	       "SELECT ?, ?, ?, ?, ?");
	expect("SELECT $$a$$, $x$ $y$ $x$, $1", "SELECT ?, ?, $1");
	expect("SELECT 'a'\n'b', 'it''s'", "SELECT ?, ?");
	expect("SELECT \"A b\", U&\"d!0061\" UESCAPE '!'", "SELECT \"A b\", U&\"d!0061\"");
	expect("SELECT 0x1F, 1_000, 0b11, 7abc", "SELECT ?, ?, ?, ?");
	expect("/* a */ SELECT 1 -- b\n+ /* c /* d */ */ 2;", "SELECT ? + ?;");
	expect("", "");
}

static void test_words_that_are_values(void **state)
{
	expect("SET a.b = secret", "SET a.b = ?");
	expect("SET LOCAL a.b TO x, 'y', 3; SELECT z", "SET LOCAL a.b TO ?; SELECT z");
	expect("ALTER ROLE r SET a.b = secret", "ALTER ROLE r SET a.b = ?");
	expect("UPDATE t SET a = b WHERE c = 1", "UPDATE t SET a = b WHERE c = ?");
}

static void test_what_is_not_certain_is_not_shown(void **state)
{
	static const char *const texts[] = { "SELECT 'secret", "SELECT $a$secret", "/* secret",
					     "SELECT \"secret", "SELECT E'secret\\'" };
	const struct lex_env unsafe = { true, false }, old = { false, true };
	struct sql_normal n;

	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		assert_null(strstr(normal(texts[i], &standard, &n), "secret"));
	assert_null(strstr(normal("SELECT secret", &unsafe, &n), "secret"));
	assert_null(strstr(normal("SELECT 'a\\' secret'", &old, &n), "secret"));
}

static void test_long_texts_are_cut(void **state)
{
	char text[4 * SQL_NORMAL_MAX];
	struct sql_normal n;
	const char *shown;

	memset(text, 'a', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_string_equal(normal(text, &standard, &n), " ...");
	for (size_t i = 1; i < sizeof(text) - 1; i += 2)
		text[i] = ',';
	shown = normal(text, &standard, &n);
	assert_string_equal(shown + strlen(shown) - 4, " ...");
}

static void test_ids(void **state)
{
	struct sql_normal a, b;

	normal("SELECT a FROM t WHERE b = 1", &standard, &a);
	normal("select A from T  where B=2 /* c */", &standard, &b);
	assert_string_equal(a.id, b.id);
	normal("SELECT a FROM t WHERE c = 1", &standard, &b);
	assert_string_not_equal(a.id, b.id);
	assert_false(a.is_limited);
	normal("SELECT a FROM t LIMIT 10", &standard, &b);
	assert_true(b.is_limited);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_literals_become_question_marks),
		cmocka_unit_test(test_words_that_are_values),
		cmocka_unit_test(test_what_is_not_certain_is_not_shown),
		cmocka_unit_test(test_long_texts_are_cut),
		cmocka_unit_test(test_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
