/* SPDX-License-Identifier: ISC
 *
 * test_fence.c - which writes a replica has, by the answers of the primary that it has reached.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/assert.h"
#include "route/fence.h"

static const struct fence_origin origin = { .node = 0, .system = 7, .timeline = 1, .process = 9 };

static void test_a_write_is_covered_by_the_next_question(void **state PGT_UNUSED)
{
	struct fence_line line = { 0 };
	uint64_t before = fence_ask(), after;
	_Atomic uint64_t fence = 0;

	/* That question was sent before the write's answer came: its own may not count it. */
	fence_raise(&fence);
	assert_true(fence_line_add(&line, &origin, before, 100));
	assert_false(fence_line_covered(&line, 100) > fence);
	after = fence_ask();
	assert_false(fence_line_add(&line, &origin, after, 200));
	assert_false(fence_line_covered(&line, 199) > fence);
	assert_true(fence_line_covered(&line, 200) > fence);
}

static void test_a_fence_is_never_lowered(void **state PGT_UNUSED)
{
	_Atomic uint64_t fence = fence_now() + 5;
	uint64_t high = fence;

	fence_raise(&fence);
	assert_int_equal(fence, high);
	for (int i = 0; i < 6; i++)
		fence_ask();
	fence_raise(&fence);
	assert_int_equal(fence, high + 1);
}

static void test_an_idle_primary_covers_later_fences(void **state PGT_UNUSED)
{
	struct fence_line line = { 0 };

	for (uint64_t number = 1; number <= 1000; number++)
		fence_line_add(&line, &origin, number, 4096);
	assert_int_equal(line.n, 1);
	assert_int_equal(fence_line_covered(&line, 4096), 1000);
	assert_int_equal(fence_line_covered(&line, 4095), 0);
}

/* Whatever is forgotten, what is said to be covered is. */
static void test_i4_marks_that_are_left_say_nothing_too_much(void **state PGT_UNUSED)
{
	struct fence_line line = { 0 };
	const uint64_t n = 100000, recent = n - FENCE_MARKS / 4;

	for (uint64_t number = 1; number <= n; number++)
		fence_line_add(&line, &origin, number, number * 10);
	for (uint64_t position = 0; position <= n * 10; position += 7) {
		uint64_t covered = fence_line_covered(&line, position);

		assert_true(covered <= position / 10);
		assert_true(covered == position / 10 || position / 10 < recent);
	}
	assert_int_equal(fence_line_covered(&line, n * 10), n);
	assert_true(line.n <= FENCE_MARKS);
}

static void test_another_log_starts_anew(void **state PGT_UNUSED)
{
	struct fence_origin others[] = { origin, origin, origin, origin };
	struct fence_line line = { 0 };

	others[0].node = 1;
	others[1].system = 8;
	others[2].timeline = 2;
	others[3].process = 10;
	for (size_t i = 0; i < PGT_NELEMS(others); i++) {
		fence_line_add(&line, &origin, 2 * i + 1, 100);
		assert_true(fence_line_add(&line, &others[i], 2 * i + 2, 200));
		assert_int_equal(fence_line_covered(&line, 199), 0);
		assert_int_equal(fence_line_covered(&line, 200), 2 * i + 2);
	}
}

/* A crash has taken the end of it. */
static void test_a_log_that_goes_back_starts_anew(void **state PGT_UNUSED)
{
	struct fence_line line = { 0 };

	fence_line_add(&line, &origin, 1, 100);
	assert_true(fence_line_add(&line, &origin, 2, 90));
	assert_int_equal(fence_line_covered(&line, 89), 0);
	assert_int_equal(fence_line_covered(&line, 100), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_write_is_covered_by_the_next_question),
		cmocka_unit_test(test_a_fence_is_never_lowered),
		cmocka_unit_test(test_an_idle_primary_covers_later_fences),
		cmocka_unit_test(test_i4_marks_that_are_left_say_nothing_too_much),
		cmocka_unit_test(test_another_log_starts_anew),
		cmocka_unit_test(test_a_log_that_goes_back_starts_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
