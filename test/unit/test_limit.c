/* SPDX-License-Identifier: ISC
 *
 * test_limit.c - rate and quota: bursts, waits that are exact, debts, hours that begin anew.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tenant/limit.h"

#define NOW(m) ((struct limit_now){ .monotonic = (m), .wall = (m) })
#define SECOND USEC_PER_SEC
#define HOUR   (3600 * SECOND)

static const struct limit_rules ten_a_second = { .rate_count = 10, .rate_per = SECOND };

static void test_burst_then_rate(void **state)
{
	struct limit_state s = { 0 };
	usec_t now = 1000 * SECOND, wait;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_true(limit_take(&s, &ten_a_second, 1, NOW(now), &wait));
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(now), &wait));
	assert_int_equal(wait, SECOND / 10);
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(now + wait - 1), &wait));
	assert_int_equal(wait, 1);
	assert_true(limit_take(&s, &ten_a_second, 1, NOW(now + SECOND / 10), &wait));
	assert_int_equal(wait, 0);
	/* However long it rests, it saves up no more than a burst. */
	now += 100 * SECOND;
	assert_int_equal(limit_tokens(&s, &ten_a_second, NOW(now)), 10);
}

static void test_burst_of_its_own(void **state)
{
	struct limit_rules rules = { .rate_count = 1, .rate_per = 60 * SECOND, .burst = 3 };
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &wait));
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &wait));
	assert_int_equal(wait, 60 * SECOND);
}

static void test_debt_is_repaid(void **state)
{
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	limit_charge(&s, &ten_a_second, 25, NOW(SECOND));
	assert_int_equal(limit_tokens(&s, &ten_a_second, NOW(SECOND)), -15);
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(SECOND), &wait));
	assert_int_equal(wait, SECOND + 6 * SECOND / 10);
	assert_true(limit_take(&s, &ten_a_second, 1, NOW(SECOND + wait), &wait));
}

static void test_many_at_once_need_one_token(void **state)
{
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	assert_true(limit_take(&s, &ten_a_second, 30, NOW(SECOND), &wait));
	assert_int_equal(limit_tokens(&s, &ten_a_second, NOW(SECOND)), -20);
}

static void test_quota_of_a_fixed_hour(void **state)
{
	struct limit_rules rules = { .quota_count = 5, .quota_per = HOUR };
	struct limit_state s = { 0 };
	struct limit_now now = { .wall = 10 * HOUR + HOUR / 2 };
	usec_t wait;

	(void)state;
	assert_int_equal(limit_quota_left(&s, &rules, now), 5);
	for (int i = 0; i < 5; i++)
		assert_true(limit_take(&s, &rules, 1, now, &wait));
	assert_int_equal(limit_quota_left(&s, &rules, now), 0);
	assert_false(limit_take(&s, &rules, 1, now, &wait));
	assert_int_equal(wait, HOUR / 2);
	now.wall = 11 * HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now), 5);
	assert_true(limit_take(&s, &rules, 1, now, &wait));
}

static void test_refusal_by_rate_leaves_the_quota(void **state)
{
	struct limit_rules rules = {
		.rate_count = 1, .rate_per = SECOND, .quota_count = 5, .quota_per = HOUR
	};
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &wait));
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &wait));
	assert_int_equal(limit_quota_left(&s, &rules, NOW(HOUR)), 4);
}

static void test_no_limit(void **state)
{
	struct limit_rules rules = { 0 };
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	assert_true(limit_take(&s, &rules, 1000000, NOW(0), &wait));
	assert_int_equal(limit_tokens(&s, &rules, NOW(0)), INT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_then_rate),
		cmocka_unit_test(test_burst_of_its_own),
		cmocka_unit_test(test_debt_is_repaid),
		cmocka_unit_test(test_many_at_once_need_one_token),
		cmocka_unit_test(test_quota_of_a_fixed_hour),
		cmocka_unit_test(test_refusal_by_rate_leaves_the_quota),
		cmocka_unit_test(test_no_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
