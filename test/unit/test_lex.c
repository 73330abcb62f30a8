/* SPDX-License-Identifier: ISC
 *
 * test_lex.c - tokens and values, against what a PostgreSQL 15 server did with the same texts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sql/lex.h"

#include <stdio.h>
#include <stdlib.h>

static const struct lex_env standard = { .standard_strings = true, .ascii_safe = true };
static const struct lex_env escaping = { .standard_strings = false, .ascii_safe = true };

/* One letter a token: w word, q quoted, s string, b bits, n number, $ parameter, o operator,
 * c comment, punctuation as itself; ! at the end when unclean. */
static const char *shape(const char *text, const struct lex_env *env)
{
	static const char letters[] = "?cwqsbn$o";
	static char out[256];
	struct lex l;
	struct lex_token t;
	size_t n = 0;

	lex_init(&l, slice_str(text), env);
	while (lex_next(&l, &t) && n < sizeof(out) - 2)
		out[n++] = t.kind == LEX_PUNCT ? *t.text.p : letters[t.kind];
	if (l.unclean)
		out[n++] = '!';
	out[n] = '\0';
	return out;
}

/* The value of the first token. */
static const char *value(const char *text, const struct lex_env *env)
{
	static char out[256];
	struct lex l;
	struct lex_token t;
	size_t n;

	lex_init(&l, slice_str(text), env);
	lex_next(&l, &t);
	if (!lex_decode(&t, out, sizeof(out) - 1, &n))
		return NULL;
	out[n] = '\0';
	return out;
}

static void test_shapes(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text, *shape;
	} rows[] = {
		{ "", "" },
		{ " \t\n\r\f\v", "" },
		{ "select a.b,c[1] from t;", "ww.w,w[n]ww;" },
		{ "$1$2", "$$" },
		{ "a$b$1 $1a", "w$w" },
		{ "1 1.5 .5 1. 1e5 1e+5 1e 1..2", "nnnnnnnwnon" },
		{ "0x1F 1_000", "nwnw" },
		{ "a::int :b :=c ..", "wow:wowo" },
		{ "a=-1", "woon" },
		{ "a=-+-1", "woooon" },
		{ "a@-1", "won" },
		{ "a<>b!=c>=d||e", "wowowowow" },
		{ "a+--b\nc", "wocw" },
		{ "a*/*c*/b", "wocw" },
		{ "-- only", "c" },
		{ "/* a /* b */ c */ d", "cw" },
		{ "/*/ */ */ */", "coo" },
		{ "/* a", "c!" },
		{ "/* a /* b */", "c!" },
		{ "'a''b' 'c", "ss!" },
		{ "'a'\n'b'", "s" },
		{ "'a' -- c\n -- d\n 'b'", "s" },
		{ "'a' 'b'", "ss" },
		{ "'a' /* c */\n'b'", "scs" },
		{ "E'\\'' n'x' b'1' X'F' u&'\\0041'", "ssbbs" },
		{ "E'\\", "s!" },
		{ "e 'a'", "ws" },
		{ "be'a'", "ws" },
		{ "\"a\"\"b\" U&\"c\" \"d", "qqq!" },
		{ "U&'a!0041' UESCAPE '!' x", "sw" },
		{ "U&\"a\" /* c */ uescape -- d\n '!'", "q" },
		{ "U&'a' UESCAPE x", "sww" },
		{ "$$a'b$$ $a$ $b$ $$ $a$", "ss" },
		{ "$a$ $A$ $a$", "s" },
		{ "$a$ x", "s!" },
		{ "$a b", "$ww" },
		{ "a$$b$$", "w" },
		{ "\xc3\xa9t\xc3\xa9", "w" },
		{ "\x01", "\x01" },
	};
	/* clang-format on */

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(shape(rows[i].text, &standard), rows[i].shape);
}

static void test_backslash_follows_the_setting(void **state)
{
	/* protocol trap 17: what is a comment for one is a statement for the other */
	assert_string_equal(shape("select '\\'; -- '; set a.b='x'", &standard), "ws;c");
	assert_string_equal(shape("select '\\'; -- '; set a.b='x'", &escaping), "ws;ww.wos");
	assert_string_equal(shape("n'\\''", &escaping), "s");
	assert_string_equal(shape("$$\\$$", &escaping), "s");
	assert_string_equal(value("'\\x41'", &escaping), "A");
	assert_string_equal(value("'\\x41'", &standard), "\\x41");
}

static void test_unsafe_encodings_are_unclean(void **state)
{
	const struct lex_env env = { .standard_strings = true, .ascii_safe = false };

	assert_string_equal(shape("select 1", &env), "wn!");
}

static void test_a_nul_is_unclean(void **state)
{
	struct lex l;

	lex_init(&l, slice_of("a\0b", 3), &standard);
	assert_true(l.unclean);
}

static void test_values(void **state)
{
	/* clang-format off */
	static const struct {
		const char *text, *value;
	} rows[] = {
		{ "FooBar", "foobar" },
		{ "\"Foo\"\"Bar\"", "Foo\"Bar" },
		{ "U&\"co\\006Cx\"", "colx" },
		{ "U&'a!0061b' /* c */ UESCAPE '!'", "aab" },
		{ "U&'\\+000041\\\\'", "A\\" },
		{ "U&'\\004'", NULL },
		{ "U&'\\D83D\\DE00'", NULL },
		{ "U&'a' UESCAPE '+'", NULL },
		{ "'a''b\\n'", "a'b\\n" },
		{ "'a' -- it's\n -- d\n 'b'", "ab" },
		{ "E'a' -- c\r 'b\\n'", "ab\n" },
		{ "E'\\a\\b\\t\\101\\x42\\xg\\u0043\\''", "a\b\tABxgC'" },
		{ "E'\\u00e9\\U0001F600'", "\xc3\xa9\xf0\x9f\x98\x80" },
		{ "E'\\0'", NULL },
		{ "E'\\uD800'", NULL },
		{ "E'\\u12'", NULL },
		{ "$x$a''\\$x$", "a''\\" },
		{ "42", NULL },
		{ "B'1'", NULL },
		{ "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggX",
		  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg" },
		{ "\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggX\"",
		  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg" },
	};
	/* clang-format on */

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *got = value(rows[i].text, &standard);

		if (rows[i].value)
			assert_non_null(got);
		else
			assert_null(got);
		if (got)
			assert_string_equal(got, rows[i].value);
	}
}

static void test_a_value_that_does_not_fit(void **state)
{
	struct lex l;
	struct lex_token t;
	char out[3];
	size_t n;

	lex_init(&l, SLICE("'abc' 'abcd' \"abcd\" abcd"), &standard);
	lex_next(&l, &t);
	assert_true(lex_decode(&t, out, sizeof(out), &n));
	assert_int_equal(n, 3);
	while (lex_next(&l, &t)) {
		assert_false(lex_decode(&t, out, sizeof(out), &n));
		assert_int_equal(n, 3);
	}
}

static void test_params(void **state)
{
	static const struct {
		const char *text;
		unsigned n;
	} rows[] = {
		{"$1",      1    },
                { "$65535", 65535},
                { "$65536", 0    },
                { "$0",     0    },
                { "1",      0    }
	};
	struct lex l;
	struct lex_token t;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		lex_init(&l, slice_str(rows[i].text), &standard);
		lex_next(&l, &t);
		assert_int_equal(lex_param_number(&t), rows[i].n);
	}
}

/* Every unit many times over: each must end, and soon.  A quadratic lexer would take minutes. */
static void test_hostile_texts_take_linear_time(void **state)
{
	static const char *const units[] = { "(",
					     "/*",
					     "*/",
					     "--",
					     "'",
					     "''\n",
					     "$a$",
					     "$a",
					     "\"",
					     "U&''",
					     "U&\"\" uescape ",
					     "E'\\",
					     "' --",
					     "'a' -- ",
					     "+-",
					     "-",
					     "$",
					     "U&'' /*" };
	const size_t times = 200000;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i]), tokens = 0;
		char *text = malloc(n * times);
		struct lex l;
		struct lex_token t;

		for (size_t k = 0; k < times; k++)
			memcpy(text + k * n, units[i], n);
		lex_init(&l, slice_of(text, n * times), &standard);
		while (lex_next(&l, &t))
			tokens++;
		assert_true(tokens <= n * times);
		free(text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_backslash_follows_the_setting),
		cmocka_unit_test(test_unsafe_encodings_are_unclean),
		cmocka_unit_test(test_a_nul_is_unclean),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_a_value_that_does_not_fit),
		cmocka_unit_test(test_params),
		cmocka_unit_test(test_hostile_texts_take_linear_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
