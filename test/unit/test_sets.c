/* SPDX-License-Identifier: ISC
 *
 * test_sets.c - which node set a database has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/sets.h"

static const struct node_conf old_list[] = {
	{.host = "a",  .port = 1, .zone = ""},
        { .host = "b", .port = 1, .zone = ""}
};
static const struct node_conf new_list[] = {
	{.host = "b",  .port = 1, .zone = ""},
        { .host = "a", .port = 1, .zone = ""}
};

static void count(void *arg)
{
	++*(unsigned *)arg;
}

/* A thread that has not heard of the reload yet must not put what others have out of the registry:
 * nobody would ask its nodes any more. */
static void test_i4_a_set_is_not_replaced_by_that_of_an_older_configuration(void **state PGT_UNUSED)
{
	struct node_sets *sets = node_sets_new();
	struct node_set *first, *second, *late, *again;
	const struct claim claim = { .timeline = 3, .cluster = "7001" };
	unsigned made = 0;

	node_sets_on_made(sets, count, &made);
	first = node_sets_get(sets, "shop", old_list, 2, 1);
	node_set_pass_to(first, 1, &claim);
	second = node_sets_get(sets, "shop", new_list, 2, 2);
	assert_ptr_not_equal(second, first);
	assert_int_equal(second->reign.primary, 0);
	late = node_sets_get(sets, "shop", old_list, 2, 1);
	assert_ptr_not_equal(late, second);
	assert_int_equal(late->reign.primary, 1);
	again = node_sets_get(sets, "shop", new_list, 2, 2);
	assert_ptr_equal(again, second);
	assert_int_equal(made, 2);
	node_set_unref(again);
	/* The old list comes back with a later one, which is no reason to keep what is late. */
	again = node_sets_get(sets, "shop", old_list, 2, 3);
	assert_ptr_not_equal(again, second);
	assert_ptr_not_equal(again, late);
	assert_int_equal(again->reign.primary, 1);
	node_set_unref(first);
	node_set_unref(second);
	node_set_unref(late);
	node_set_unref(again);
	node_sets_free(sets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_i4_a_set_is_not_replaced_by_that_of_an_older_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
