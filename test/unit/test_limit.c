/* SPDX-License-Identifier: ISC
 *
 * test_limit.c - rate and quota: bursts, waits that are exact, debts, hours that begin anew, and
 * many threads at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>

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

static void test_hours_become_a_day(void **state)
{
	struct limit_rules rules = { .quota_count = 5, .quota_per = HOUR };
	struct limit_now now = { .wall = 1000 * 24 * HOUR + 10 * HOUR };
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_true(limit_take(&s, &rules, 1, now, &wait));
	/* A reload: what was used counts for the day, and the next day begins at midnight. */
	rules.quota_per = 24 * HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now), 1);
	assert_true(limit_take(&s, &rules, 1, now, &wait));
	assert_false(limit_take(&s, &rules, 1, now, &wait));
	assert_int_equal(wait, 14 * HOUR);
	now.wall += 14 * HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now), 5);
	/* And back. */
	assert_true(limit_take(&s, &rules, 5, now, &wait));
	rules.quota_per = HOUR;
	now.wall += HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now), 5);
}

static void test_a_refund_of_the_hour_before(void **state)
{
	struct limit_rules rules = {
		.rate_count = 1, .rate_per = SECOND, .quota_count = 5, .quota_per = HOUR
	};
	struct limit_now before = { .wall = 11 * HOUR - 1 }, after = { .wall = 11 * HOUR };
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	assert_true(limit_take(&s, &rules, 3, after, &wait));
	/* A thread that has read the clock earlier, and is refused by the rate. */
	assert_false(limit_take(&s, &rules, 1, before, &wait));
	assert_in_range(limit_quota_left(&s, &rules, after), 1, 2);
}

/* However much is charged and however big the bucket, nothing overflows. */
static void test_the_far_ends(void **state)
{
	struct limit_rules rules = { .rate_count = 1,
				     .rate_per = HOUR,
				     .burst = UINT32_MAX,
				     .quota_count = 10,
				     .quota_per = HOUR };
	struct limit_state s = { 0 };
	usec_t wait;

	(void)state;
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &wait));
	for (int i = 0; i < 100; i++)
		limit_charge(&s, &rules, UINT32_MAX, NOW(HOUR));
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &wait));
	assert_true(wait > 0);
	assert_int_equal(limit_quota_left(&s, &rules, NOW(HOUR)), 0);
	assert_int_equal(limit_quota_left(&s, &rules, NOW(2 * HOUR)), 10);
}

/* The same bucket as a sum that grows with time: tokens in units of one microsecond's share. */
struct model {
	int64_t level; /* tokens times rate_per */
	usec_t at;
};

static int64_t model_level(struct model *m, const struct limit_rules *r, usec_t now)
{
	int64_t full = (int64_t)(r->burst ? r->burst : r->rate_count) * r->rate_per;

	m->level += (now - m->at) * (int64_t)r->rate_count;
	m->level = m->level < full ? m->level : full;
	m->at = now;
	return m->level;
}

static void compare_with_model(struct limit_rules rules)
{
	struct model m = { (int64_t)(rules.burst ? rules.burst : rules.rate_count) * rules.rate_per,
			   0 };
	struct limit_state s = { 0 };
	usec_t now = 0, wait;

	for (int i = 0; i < 20000; i++) {
		uint64_t n = 1 + (uint64_t)rand() % 3;
		int64_t level;

		now += rand() % (2 * (int)(rules.rate_per / (usec_t)rules.rate_count) + 1);
		level = model_level(&m, &rules, now);
		if (rand() % 8 == 0) {
			limit_charge(&s, &rules, n, NOW(now));
		} else if (!limit_take(&s, &rules, n, NOW(now), &wait)) {
			assert_true(level < rules.rate_per);
			/* Nearer than a microsecond's share, it would have been taken. */
			assert_in_range(wait * (int64_t)rules.rate_count, rules.rate_per - level,
					rules.rate_per - level + 2 * (int64_t)rules.rate_count);
			continue;
		} else {
			assert_true(level >= rules.rate_per - (int64_t)rules.rate_count);
		}
		m.level -= (int64_t)n * rules.rate_per;
	}
}

static void test_as_a_simple_model(void **state)
{
	(void)state;
	srand(1);
	compare_with_model(ten_a_second);
	compare_with_model((struct limit_rules){ .rate_count = 1000, .rate_per = SECOND });
	compare_with_model(
	    (struct limit_rules){ .rate_count = 20, .rate_per = SECOND, .burst = 1 });
	compare_with_model(
	    (struct limit_rules){ .rate_count = 6, .rate_per = 60 * SECOND, .burst = 50 });
}

#define THREADS 4
#define TRIES   20000

struct crowd {
	struct limit_state *limit;
	const struct limit_rules *rules;
	unsigned taken;
};

/* Half of the tries are in one hour, half in the next. */
static void *take_many(void *arg)
{
	struct crowd *c = arg;
	usec_t wait;

	for (int i = 0; i < TRIES; i++)
		c->taken +=
		    limit_take(c->limit, c->rules, 1,
			       (struct limit_now){ .wall = (i < TRIES / 2 ? 5 : 6) * HOUR }, &wait);
	return NULL;
}

static unsigned taken_by_crowd(const struct limit_rules *rules)
{
	struct limit_state s = { 0 };
	struct crowd crowd[THREADS];
	pthread_t threads[THREADS];
	unsigned sum = 0;

	for (int i = 0; i < THREADS; i++) {
		crowd[i] = (struct crowd){ &s, rules, 0 };
		assert_int_equal(pthread_create(&threads[i], NULL, take_many, &crowd[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		sum += crowd[i].taken;
	}
	return sum;
}

static void test_threads_share_exactly(void **state)
{
	struct limit_rules rate = { .rate_count = 1, .rate_per = HOUR, .burst = 777 };
	struct limit_rules quota = { .quota_count = 777, .quota_per = HOUR };
	struct limit_rules day = { .quota_count = 777, .quota_per = 24 * HOUR };

	(void)state;
	assert_int_equal(taken_by_crowd(&rate), 777);
	assert_int_equal(taken_by_crowd(&quota), 2 * 777);
	assert_int_equal(taken_by_crowd(&day), 777);
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
		cmocka_unit_test(test_hours_become_a_day),
		cmocka_unit_test(test_a_refund_of_the_hour_before),
		cmocka_unit_test(test_the_far_ends),
		cmocka_unit_test(test_as_a_simple_model),
		cmocka_unit_test(test_threads_share_exactly),
		cmocka_unit_test(test_no_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
