/* SPDX-License-Identifier: ISC
 *
 * test_throttle.c - who has failed too often waits, and nobody else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "client/throttle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define S USEC_PER_SEC

static const struct throttle_limits limits = { .failures = 3, .backoff_max = 8 * S };

static int setup(void **state PGT_UNUSED)
{
	throttle_forget_all();
	return 0;
}

static bool guess(uint64_t origin, const char *user, usec_t now)
{
	return throttle_fail(origin, slice_str(user), &limits, now);
}

static usec_t wait_of(uint64_t origin, const char *user, usec_t now)
{
	return throttle_wait(origin, slice_str(user), &limits, now);
}

static void test_each_failure_doubles_the_wait(void **state PGT_UNUSED)
{
	static const int expected[] = { 0, 0, 1, 2, 4, 8, 8, 8 };
	usec_t now = 0;

	for (unsigned i = 0; i < PGT_NELEMS(expected); i++) {
		assert_int_equal(guess(1, "anna", now), i == 2);
		assert_int_equal(wait_of(1, "anna", now), expected[i] * S);
		now += expected[i] * S;
		assert_int_equal(wait_of(1, "anna", now), 0);
	}
}

/* Others come from there, too. */
static void test_an_address_may_be_spared(void **state PGT_UNUSED)
{
	const struct throttle_limits spared = { .failures = 3,
						.backoff_max = 8 * S,
						.spares_address = true };
	char user[] = "user a";

	for (unsigned i = 0; i < 26; i++, user[5]++)
		for (unsigned j = 0; j < 2; j++)
			assert_false(throttle_fail(1, slice_str(user), &spared, 0));
	assert_int_equal(throttle_wait(1, SLICE("anna"), &limits, 0), 0);
	for (unsigned j = 0; j < 3; j++)
		assert_int_equal(throttle_fail(1, SLICE("anna"), &spared, 0), j == 2);
	assert_int_equal(throttle_wait(1, SLICE("anna"), &spared, 0), S);
	/* What was counted before it was spared does not count. */
	user[5] = '0';
	for (; user[5] <= '9'; user[5]++)
		for (unsigned j = 0; j < 3; j++)
			guess(1, user, 0);
	assert_true(throttle_wait(1, SLICE("emil"), &limits, 0) > 0);
	assert_int_equal(throttle_wait(1, SLICE("emil"), &spared, 0), 0);
}

static void test_who_has_not_failed_for_long_is_forgotten(void **state PGT_UNUSED)
{
	guess(1, "anna", 0);
	guess(1, "anna", 0);
	assert_false(guess(1, "anna", 16 * S));
	assert_false(guess(1, "anna", 16 * S));
	assert_true(guess(1, "anna", 17 * S));
}

static void test_nobody_else_waits(void **state PGT_UNUSED)
{
	for (unsigned i = 0; i < 9; i++)
		guess(1, "anna", 0);
	assert_true(wait_of(1, "anna", 0) > 0);
	assert_int_equal(wait_of(2, "anna", 0), 0);
	assert_int_equal(wait_of(1, "bert", 0), 0);
}

static void test_an_address_that_tries_many_names_waits(void **state PGT_UNUSED)
{
	char user[16];

	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(wait_of(1, "anna", 0), 0);
		snprintf(user, sizeof(user), "u%u", i);
		assert_int_equal(guess(1, user, 0), i == 29);
	}
	assert_int_equal(wait_of(1, "anna", 0), S);
	assert_int_equal(wait_of(2, "anna", 0), 0);
}

static void test_one_user_does_not_make_the_address_wait(void **state PGT_UNUSED)
{
	for (unsigned i = 0; i < 100; i++)
		guess(1, "anna", i);
	assert_true(wait_of(1, "anna", 100) > 0);
	assert_int_equal(wait_of(1, "bert", 100), 0);
}

static void test_long_names(void **state PGT_UNUSED)
{
	char name[5000];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (unsigned i = 0; i < 3; i++)
		guess(1, name, 0);
	assert_int_equal(wait_of(1, name, 0), S);
}

static void count(void *arg, const struct throttle_facts *facts)
{
	assert_true(memchr(facts->user, '\0', sizeof(facts->user)) != NULL);
	++*(unsigned *)arg;
}

/* However many come, there is no more than the table; and who has failed most is kept in it. */
static void test_i6_many_addresses_at_random(void **state PGT_UNUSED)
{
	unsigned n = 0;

	srand(20261126);
	for (unsigned i = 0; i < 20; i++)
		guess(1, "anna", 1);
	for (unsigned i = 0; i < 200000; i++) {
		char user[100];
		uint64_t origin = ((uint64_t)rand() << 32) | (uint64_t)rand() | 2;

		snprintf(user, sizeof(user), "%0*d", rand() % 90 + 1, rand());
		guess(origin, user, 1 + i);
		assert_true(wait_of(origin, user, 1 + i) <= limits.backoff_max);
	}
	throttle_each(2, count, &n);
	assert_int_equal(n, 4096);
	assert_true(wait_of(1, "anna", 2) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_each_failure_doubles_the_wait, setup),
		cmocka_unit_test_setup(test_an_address_may_be_spared, setup),
		cmocka_unit_test_setup(test_who_has_not_failed_for_long_is_forgotten, setup),
		cmocka_unit_test_setup(test_nobody_else_waits, setup),
		cmocka_unit_test_setup(test_an_address_that_tries_many_names_waits, setup),
		cmocka_unit_test_setup(test_one_user_does_not_make_the_address_wait, setup),
		cmocka_unit_test_setup(test_long_names, setup),
		cmocka_unit_test_setup(test_i6_many_addresses_at_random, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
