/* SPDX-License-Identifier: ISC
 *
 * test_crowd.c - places that those who come share by where they come from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crowd.h"

#include <stdlib.h>

#define PLACES 100

static struct crowd crowd;

/* As many of an origin as find a place. */
static unsigned fill(uint64_t origin)
{
	unsigned n = 0;

	for (; crowd_has_room(&crowd, origin, PLACES); n++)
		crowd_enter(&crowd, origin);
	return n;
}

static void leave(uint64_t origin, unsigned n)
{
	while (n--)
		crowd_leave(&crowd, origin);
}

static void test_one_alone_gets_half(void **state PGT_UNUSED)
{
	assert_int_equal(fill(1), 50);
	leave(1, 50);
	crowd_fini(&crowd);
}

static void test_whoever_comes_next_finds_some(void **state PGT_UNUSED)
{
	static const unsigned expected[] = { 50, 25, 13, 6, 3, 2, 1, 0 };

	for (uint64_t origin = 0; origin < PGT_NELEMS(expected); origin++)
		assert_int_equal(fill(origin), expected[origin]);
	for (uint64_t origin = 0; origin < PGT_NELEMS(expected); origin++)
		leave(origin, expected[origin]);
	crowd_fini(&crowd);
}

static void test_places_that_are_left_are_free_again(void **state PGT_UNUSED)
{
	unsigned first = fill(1);
	unsigned second = fill(2);

	leave(1, first);
	assert_int_equal(crowd.origins.count, 1);
	assert_true(fill(2) > 0);
	assert_int_equal(crowd.n, 50);
	assert_true(second < 50);
	leave(2, 50);
	assert_int_equal(crowd.origins.count, 0);
	crowd_fini(&crowd);
}

static void test_who_must_get_in_may_be_more(void **state PGT_UNUSED)
{
	for (unsigned i = 0; i < PLACES + 5; i++)
		crowd_enter(&crowd, UINT64_MAX);
	assert_false(crowd_has_room(&crowd, 1, PLACES));
	assert_false(crowd_has_room(&crowd, 1, PLACES + 5));
	assert_true(crowd_has_room(&crowd, 1, PLACES + 6));
	leave(UINT64_MAX, crowd.n);
	crowd_fini(&crowd);
}

/* Against counts that are kept in the simplest way. */
static void test_counts_are_right_at_random(void **state PGT_UNUSED)
{
	unsigned n[50] = { 0 };
	unsigned total = 0;

	srand(20261126);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned origin = (unsigned)rand() % PGT_NELEMS(n);

		assert_int_equal(crowd_has_room(&crowd, origin, PLACES),
				 total < PLACES && n[origin] < PLACES - total);
		if (rand() % 2 && crowd_has_room(&crowd, origin, PLACES)) {
			crowd_enter(&crowd, origin);
			n[origin]++, total++;
		} else if (n[origin]) {
			crowd_leave(&crowd, origin);
			n[origin]--, total--;
		}
		assert_int_equal(crowd.n, total);
	}
	for (unsigned origin = 0; origin < PGT_NELEMS(n); origin++)
		leave(origin, n[origin]);
	assert_int_equal(crowd.origins.count, 0);
	crowd_fini(&crowd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_alone_gets_half),
		cmocka_unit_test(test_whoever_comes_next_finds_some),
		cmocka_unit_test(test_places_that_are_left_are_free_again),
		cmocka_unit_test(test_who_must_get_in_may_be_more),
		cmocka_unit_test(test_counts_are_right_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
