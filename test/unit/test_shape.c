/* SPDX-License-Identifier: ISC
 *
 * test_shape.c - the shape of a text, and facts that are looked up by it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "sql/shape.h"

#include <stdio.h>
#include <stdlib.h>

static const struct sql_env plain = { .standard_strings = true, .ascii_safe = true };
static const struct sql_env guarded = { .standard_strings = true,
					.ascii_safe = true,
					.tenant_setting = "app.id" };

static const char *shape_of(const char *text, const struct sql_env *env)
{
	static char out[SQL_SHAPE_MAX + 1];

	out[sql_shape(slice_str(text), env, out)] = '\0';
	return out;
}

static void check(const struct sql_env *env, const char *text, const char *expected)
{
	const char *got = shape_of(text, env);

	if (strcmp(got, expected) != 0)
		fail_msg("%s: got %s, not %s", text, got, expected);
}

static void test_literals_are_left_out(void **state PGT_UNUSED)
{
	check(&plain, "SELECT a FROM t WHERE id = 12345;", "SELECT a FROM t WHERE id = 0;");
	check(&plain, "SELECT 1.5, 2 ,3)", "SELECT 0, 0 ,0)");
	check(&plain, "SELECT 5::int, 'a'::text", "SELECT 0::int, ''::text");
	check(&plain, "INSERT INTO t VALUES ('x', 'y z', 9)", "INSERT INTO t VALUES ('', '', 0)");
	check(&plain, "SELECT \"a'1\" FROM \"T 2\" LIMIT 3", "SELECT \"a'1\" FROM \"T 2\" LIMIT 0");
	check(&plain, "", "");
	check(&plain, "SELECT 7", "SELECT 0");
	check(&plain, "SELECT \303\244 = 'b\303\244'", "SELECT \303\244 = ''");
}

static void test_what_is_no_literal_by_itself_stays(void **state PGT_UNUSED)
{
	check(&plain, "SELECT t1.c2, a3$4, $5", "SELECT t1.c2, a3$4, $5");
	check(&plain, "SELECT 1e5, 0x1F, 1_000, 1., .5", "SELECT 1e5, 0x1F, 1_000, 1., .5");
	check(&plain, "SELECT 1-2 / 3", "SELECT 1-2 / 0");
}

static void test_texts_without_a_shape(void **state PGT_UNUSED)
{
	static const char *const texts[] = {
		"SELECT 1 -- '",      "SELECT /* 1 */ 2", "SELECT E'a'",       "SELECT N'a'",
		"SELECT U&'a'",       "SELECT U&\"a\"",   "SELECT B'1'",       "SELECT $$a$$",
		"SELECT $a$ ' $a$",   "SELECT 'a\\' b'",  "SELECT 'O''Brien'", "SELECT 'a'\n'b'",
		"SELECT 'a' \n\t'b'", "SELECT 'a",        "SELECT \"a",        "SELECT a\\b",
		"SELECT 'a'b",        "SELECT 1 --",
	};
	static char longer[SQL_SHAPE_MAX + 2];
	struct sql_env unsafe = plain;

	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		check(&plain, texts[i], "");
	memset(longer, 'a', SQL_SHAPE_MAX + 1);
	check(&plain, longer, "");
	assert_int_equal(strlen(shape_of(longer + 1, &plain)), SQL_SHAPE_MAX);
	unsafe.ascii_safe = false;
	check(&unsafe, "SELECT 1", "");
}

static void test_i1_strings_that_could_spell_the_setting_stay(void **state PGT_UNUSED)
{
	check(&guarded, "SELECT f('app.id', 5)", "SELECT f('app.id', 0)");
	check(&guarded, "SELECT f('2026-11-26 10:00:00+01', '')", "SELECT f('', '')");
	check(&guarded, "SELECT f('app.'\n'1')", "");
}

static bool expect(struct sql_shapes *shapes, uint16_t *last, uint64_t meaning, struct slice text,
		   const struct sql_env *env, struct sql_facts *f)
{
	return env->ascii_safe && sql_shapes_expect(shapes, last, meaning, text,
						    env->tenant_setting, env->wants_fingerprint, f);
}

/* As query.c does it. */
static void scan(struct sql_shapes *shapes, uint16_t *last, uint64_t meaning, const char *text,
		 const struct sql_env *env, struct sql_facts *f)
{
	if (!expect(shapes, last, meaning, slice_str(text), env, f))
		sql_shapes_scan(shapes, last, meaning, slice_str(text), env, f);
}

static struct sql_facts look(struct sql_shapes *shapes, uint64_t meaning, const char *text,
			     const struct sql_env *env)
{
	struct sql_facts f;
	uint16_t last = 0;

	memset(&f, 0xa5, sizeof(f));
	scan(shapes, &last, meaning, text, env, &f);
	return f;
}

/* Facts, as far as they are filled. */
static void assert_same(const struct sql_facts *a, const struct sql_facts *b)
{
	assert_memory_equal(a, b, offsetof(struct sql_facts, changes));
	assert_int_equal(a->nchanges + a->nnames + a->settings_len, 0);
}

static void test_facts_are_those_of_a_scan(void **state PGT_UNUSED)
{
	static const char *const texts[] = {
		"SELECT a FROM t WHERE id = 1",
		"SELECT a FROM t WHERE id = 22",
		"INSERT INTO t VALUES (1, 'x')",
		"INSERT INTO t VALUES (2, 'yy')",
		"UPDATE t SET a = 1 WHERE id = ((2))",
		"UPDATE t SET a = 7 WHERE id = ((8))",
		"DELETE FROM t WHERE id = 3",
		"SELECT currval('a')",
		"SELECT currval('b')",
	};
	struct sql_shapes *shapes = sql_shapes_new();

	for (size_t i = 0; i < PGT_NELEMS(texts); i++) {
		struct sql_facts got = look(shapes, 1, texts[i], &plain), again, scanned;

		again = look(shapes, 1, texts[i], &plain);
		sql_scan(slice_str(texts[i]), &plain, &scanned);
		assert_same(&got, &scanned);
		assert_same(&again, &scanned);
	}
	sql_shapes_free(shapes);
}

/* Each text comes behind each other one, so that each is held against the shape of each: near
 * misses among them. */
static void test_a_shape_that_is_expected_is_not_taken_for_another(void **state PGT_UNUSED)
{
	static const char *const texts[] = {
		"SELECT a FROM t WHERE id = 1",
		"SELECT a FROM t WHERE id = 22",
		"SELECT a FROM t WHERE id = 22 FOR UPDATE",
		"SELECT a FROM t WHERE id = 2.5",
		"SELECT a FROM t WHERE id = 2.",
		"SELECT a FROM t WHERE id = 2a",
		"SELECT a FROM t WHERE id = ",
		"SELECT a FROM t WHERE id = x",
		"SELECT a FROM t WHERE id = 'x'",
		"SELECT a FROM t WHERE id = '2026-11-26'",
		"SELECT a FROM t WHERE id = 'x'\n'y'",
		"SELECT a FROM t WHERE id = 'it''s'",
		"SELECT a FROM t WHERE id = 'set app.id to 2'",
		"SELECT a FROM t WHERE id = '1\\'",
		"SELECT a FROM t WHERE id = 'x",
		"SELECT a FROM t WHERE id = E'x'",
		"SELECT a FROM t WHERE id = 1 AND b = nextval('s')",
		"SELECT a FROM t WHERE id = 1 AND b = 'nextval'",
		"SELECT a FROM t WHERE id = 1; DROP TABLE t",
		"SELECT a FROM t WHERE id = 1 -- ; 2",
		"SELECT set_config('a.b', 'c', false)",
		"INSERT INTO t VALUES (1, 'x', 3.5)",
		"INSERT INTO t VALUES (21, 'yy', 0)",
		"INSERT INTO t VALUES (21, 'yy', 0, 1)",
		"SELECT 'app.id' = '1'",
	};
	const struct sql_env escaping = { .ascii_safe = true };
	const struct sql_env *const envs[] = { &plain, &guarded, &escaping };
	struct sql_facts expected, got;

	for (size_t e = 0; e < PGT_NELEMS(envs); e++) {
		struct sql_shapes *shapes = sql_shapes_new();
		uint16_t last = 0;

		for (size_t i = 0; i < PGT_NELEMS(texts) * PGT_NELEMS(texts) * 2; i++) {
			size_t k = i % 2 ? i / 2 % PGT_NELEMS(texts) : i / 2 / PGT_NELEMS(texts);

			scan(shapes, &last, e + 1, texts[k], envs[e], &got);
			sql_scan(slice_str(texts[k]), envs[e], &expected);
			assert_memory_equal(&got, &expected, offsetof(struct sql_facts, changes));
		}
		sql_shapes_free(shapes);
	}
}

/* That a NUL stands in a text is not known before it is held against a shape. */
static void test_a_text_with_a_nul_has_no_shape(void **state PGT_UNUSED)
{
	static const char first[] = "SELECT a FROM t WHERE b = 'x' AND c = 1";
	static const char *const texts[] = {
		"SELECT a FROM t WHERE b = '\0' AND c = 1",
		"SELECT a FROM t WHERE b = 'x' AND c = \0",
		"SELECT a\0FROM t WHERE b = 'x' AND c = 1",
	};
	struct sql_shapes *shapes = sql_shapes_new();
	struct sql_facts f;
	uint16_t last = 0;

	scan(shapes, &last, 1, first, &plain, &f);
	scan(shapes, &last, 1, first, &plain, &f);
	assert_true(expect(shapes, &last, 1, slice_str(first), &plain, &f));
	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		assert_false(
		    expect(shapes, &last, 1, slice_of(texts[i], sizeof(first) - 1), &plain, &f));
	sql_shapes_free(shapes);
}

/* More literals than are kept account of. */
static void test_long_rows_are_found_by_their_shape(void **state PGT_UNUSED)
{
	struct sql_shapes *shapes = sql_shapes_new();
	struct sql_facts got, expected;
	char text[256];
	uint16_t last = 0;

	for (unsigned n = 1; n < 40; n++) {
		char *p = text + sprintf(text, "INSERT INTO t VALUES (1");

		for (unsigned i = 1; i < n; i++)
			p += sprintf(p, ", %u", i);
		sprintf(p, ")");
		for (unsigned twice = 0; twice < 2; twice++) {
			scan(shapes, &last, 1, text, &plain, &got);
			sql_scan(slice_str(text), &plain, &expected);
			assert_same(&got, &expected);
		}
	}
	sql_shapes_free(shapes);
}

/* A text whose facts hold something of its literals is scanned each time. */
static void test_literals_that_matter_are_seen(void **state PGT_UNUSED)
{
	struct sql_shapes *shapes = sql_shapes_new();
	struct sql_facts f;

	look(shapes, 1, "SELECT set_config('a.b', '1', false)", &plain);
	f = look(shapes, 1, "SELECT set_config('c.d', '1', false)", &plain);
	assert_string_equal(f.settings, "c.d");
	look(shapes, 1, "SELECT set_config('a.b', '1', true)", &plain);
	f = look(shapes, 1, "SELECT set_config('search_path', '1', true)", &plain);
	assert_true(f.sets_path);
	f = look(shapes, 1, "SELECT set_config('transaction_read_only', '1', true)", &plain);
	assert_true(f.flags & SQL_SETS_READ_ONLY);
	f = look(shapes, 1, "SELECT current_setting('a.b')", &plain);
	assert_false(f.effects & SQL_EFFECT_ASKS_NODE);
	f = look(shapes, 1, "SELECT current_setting('port')", &plain);
	assert_true(f.effects & SQL_EFFECT_ASKS_NODE);
	look(shapes, 1, "SELECT 'x'", &guarded);
	f = look(shapes, 1, "SELECT 'set app.id to 2'", &guarded);
	assert_true(f.flags & SQL_GUARD_UNDECIDED);
	look(shapes, 1, "SELECT 1; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
	     &plain);
	f = look(shapes, 1, "SELECT 1; DO 'BEGIN END'", &plain);
	assert_true(f.effects & SQL_EFFECT_BLOCK);
	sql_shapes_free(shapes);
}

static void test_another_meaning_is_another_text(void **state PGT_UNUSED)
{
	struct sql_shapes *shapes = sql_shapes_new();
	struct sql_env wants = plain;
	struct sql_facts f;

	look(shapes, 1, "SELECT 'set app.id to 2'", &plain);
	f = look(shapes, 2, "SELECT 'set app.id to 2'", &guarded);
	assert_true(f.flags & SQL_GUARD_UNDECIDED);
	wants.wants_fingerprint = true;
	f = look(shapes, 1, "SELECT 'set app.id to 2'", &wants);
	assert_true(f.fingerprint[0]);
	sql_shapes_forget(shapes);
	f = look(shapes, 1, "SELECT 'set app.id to 2'", &guarded);
	assert_true(f.flags & SQL_GUARD_UNDECIDED);
	sql_shapes_free(shapes);
}

static void test_what_is_forgotten_is_not_expected(void **state PGT_UNUSED)
{
	const char *const text = "SELECT 'set b.key to 2'";
	struct sql_shapes *shapes = sql_shapes_new();
	struct sql_env other = guarded;
	struct sql_facts f;

	f = look(shapes, 1, text, &guarded);
	assert_false(f.flags);
	sql_shapes_forget(shapes);
	other.tenant_setting = "b.key";
	f = look(shapes, 1, text, &other);
	assert_true(f.flags & SQL_GUARD_UNDECIDED);
	sql_shapes_free(shapes);
}

static void test_a_note_is_of_its_shape(void **state PGT_UNUSED)
{
	struct sql_shapes *shapes = sql_shapes_new();
	uint16_t last = 0, other = 0;
	struct sql_facts f;

	scan(shapes, &last, 1, "SELECT 1", &plain, &f);
	assert_int_equal(*sql_shapes_note(shapes, last), 0);
	*sql_shapes_note(shapes, last) = 7;
	scan(shapes, &other, 1, "SELECT 2", &plain, &f);
	assert_int_equal(*sql_shapes_note(shapes, other), 7);
	scan(shapes, &other, 2, "SELECT 2", &plain, &f);
	assert_int_equal(*sql_shapes_note(shapes, other), 0);
	sql_shapes_forget(shapes);
	scan(shapes, &last, 1, "SELECT 1", &plain, &f);
	assert_int_equal(*sql_shapes_note(shapes, last), 0);
	sql_shapes_free(shapes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_literals_are_left_out),
		cmocka_unit_test(test_what_is_no_literal_by_itself_stays),
		cmocka_unit_test(test_texts_without_a_shape),
		cmocka_unit_test(test_i1_strings_that_could_spell_the_setting_stay),
		cmocka_unit_test(test_facts_are_those_of_a_scan),
		cmocka_unit_test(test_a_shape_that_is_expected_is_not_taken_for_another),
		cmocka_unit_test(test_a_text_with_a_nul_has_no_shape),
		cmocka_unit_test(test_long_rows_are_found_by_their_shape),
		cmocka_unit_test(test_literals_that_matter_are_seen),
		cmocka_unit_test(test_another_meaning_is_another_text),
		cmocka_unit_test(test_what_is_forgotten_is_not_expected),
		cmocka_unit_test(test_a_note_is_of_its_shape),
	};

	return cmocka_run_group_tests_name("shape", tests, NULL, NULL);
}
