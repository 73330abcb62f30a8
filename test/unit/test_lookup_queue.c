/* SPDX-License-Identifier: ISC
 *
 * test_lookup_queue.c - which name is asked for next, and who is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/lookup_queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct lookup_crowd all;
static struct lookup_queue queue;
static unsigned told[1000]; /* by id of the asker: how often */
static uint64_t numbers[1000];

static void on_told(void *arg, const void *found PGT_UNUSED)
{
	told[*(uint64_t *)arg]++;
}

static void add_at(uint64_t id, uint64_t origin, const char *user, usec_t now)
{
	numbers[id] = id;
	lookup_queue_add(&queue, slice_str(user),
			 &(struct lookup_asker){
			     .id = id, .origin = origin, .answer = on_told, .arg = &numbers[id] },
			 now);
}

static void add(uint64_t id, uint64_t origin, const char *user)
{
	add_at(id, origin, user, 0);
}

/* "": nobody. */
static const char *begin(void)
{
	return lookup_queue_begin(&queue) ? lookup_queue_name(&queue) : "";
}

static void answer(void)
{
	lookup_queue_answer(&queue, NULL);
}

static void expect_next(const char *user)
{
	assert_string_equal(begin(), user);
	if (*user)
		answer();
}

static int setup(void **state PGT_UNUSED)
{
	memset(told, 0, sizeof(told));
	lookup_queue_init(&queue, &all);
	return 0;
}

static int teardown(void **state PGT_UNUSED)
{
	lookup_queue_fini(&queue);
	assert_int_equal(all.by_id.count, 0);
	hmap_fini(&all.by_id);
	crowd_fini(&all.crowd);
	return 0;
}

static void test_who_waits_for_the_same_shares_a_lookup(void **state PGT_UNUSED)
{
	add(1, 1, "anna");
	add(2, 2, "anna");
	assert_string_equal(begin(), "anna");
	add(3, 3, "anna");
	assert_false(lookup_queue_has_next(&queue));
	answer();
	for (unsigned id = 1; id <= 3; id++)
		assert_int_equal(told[id], 1);
	expect_next("");
}

static void test_addresses_take_turns(void **state PGT_UNUSED)
{
	add(1, 1, "a");
	add(2, 1, "b");
	add(3, 1, "c");
	add(4, 2, "anna");
	add(5, 3, "bert");
	add(6, 2, "a");
	expect_next("a");
	expect_next("anna");
	expect_next("bert");
	expect_next("b");
	expect_next("c");
	expect_next("");
}

static void test_who_has_left_is_not_asked_for(void **state PGT_UNUSED)
{
	add(1, 1, "a");
	add(2, 1, "b");
	add(3, 2, "b");
	add(4, 1, "c");
	assert_ptr_equal(lookup_crowd_withdraw(&all, 1), &numbers[1]);
	assert_ptr_equal(lookup_crowd_withdraw(&all, 2), &numbers[2]);
	assert_null(lookup_crowd_withdraw(&all, 2));
	expect_next("c");
	expect_next("b");
	expect_next("");
	assert_int_equal(told[1] + told[2], 0);
	assert_int_equal(told[3] + told[4], 2);
	assert_null(lookup_crowd_withdraw(&all, 3));
}

static void test_who_leaves_while_it_is_asked_for(void **state PGT_UNUSED)
{
	add(1, 1, "a");
	assert_string_equal(begin(), "a");
	assert_non_null(lookup_crowd_withdraw(&all, 1));
	assert_int_equal(queue.nwaiting, 0);
	add(2, 1, "a");
	answer();
	assert_int_equal(told[1], 0);
	assert_int_equal(told[2], 1);
	add(3, 1, "b");
	assert_string_equal(begin(), "b");
	assert_non_null(lookup_crowd_withdraw(&all, 3));
	lookup_queue_put_back(&queue);
	expect_next("");
}

static void test_what_failed_is_the_next_again(void **state PGT_UNUSED)
{
	add(1, 1, "a");
	add(2, 1, "b");
	add(3, 2, "c");
	assert_string_equal(begin(), "a");
	lookup_queue_put_back(&queue);
	expect_next("a");
	expect_next("c");
	expect_next("b");
}

static void test_patience_ends_but_for_what_is_under_way(void **state PGT_UNUSED)
{
	add_at(1, 1, "a", 10);
	add_at(2, 1, "b", 11);
	add_at(3, 1, "b", 20);
	assert_string_equal(begin(), "a");
	lookup_queue_dismiss(&queue, 15, NULL);
	assert_int_equal(told[1], 0);
	assert_int_equal(told[2], 1);
	assert_int_equal(told[3], 0);
	answer();
	expect_next("b");
	assert_int_equal(told[3], 1);
}

/* Whatever comes in which order: each is told once, or gets its arg back. */
static void test_nobody_is_lost_at_random(void **state PGT_UNUSED)
{
	unsigned back = 0, once = 0;
	uint64_t next = 0;

	srand(20261126);
	for (unsigned step = 0; next < PGT_NELEMS(told); step++) {
		char user[8];

		snprintf(user, sizeof(user), "u%d", rand() % 9);
		switch (rand() % 8) {
		case 0:
		case 1:
		case 2:
			add_at(next++, (uint64_t)(rand() % 5), user, step);
			break;
		case 3:
			if (next)
				back +=
				    lookup_crowd_withdraw(&all, (uint64_t)rand() % next) != NULL;
			break;
		case 4:
			if (!queue.asked)
				lookup_queue_begin(&queue);
			break;
		case 5:
			if (queue.asked)
				answer();
			break;
		case 6:
			if (rand() % 4 == 0)
				lookup_queue_put_back(&queue);
			break;
		case 7:
			if (rand() % 8 == 0)
				lookup_queue_dismiss(&queue, (usec_t)step - 50, NULL);
			break;
		}
		assert_int_equal(queue.nwaiting, all.crowd.n);
	}
	lookup_queue_put_back(&queue);
	while (lookup_queue_begin(&queue))
		answer();
	for (unsigned id = 0; id < PGT_NELEMS(told); id++) {
		assert_true(told[id] <= 1);
		once += told[id];
	}
	assert_int_equal(once + back, PGT_NELEMS(told));
	assert_int_equal(queue.lookups.count + queue.turns.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_waits_for_the_same_shares_a_lookup, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_addresses_take_turns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_has_left_is_not_asked_for, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_who_leaves_while_it_is_asked_for, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_failed_is_the_next_again, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_patience_ends_but_for_what_is_under_way, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_nobody_is_lost_at_random, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
