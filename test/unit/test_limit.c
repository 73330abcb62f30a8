/* SPDX-License-Identifier: ISC
 *
 * test_limit.c - buckets and quotas: bursts, waits that are exact, debts, hours that begin anew,
 * and many threads at once.
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

static const struct limit_rules ten_a_second = {
	.rate = {10, SECOND, 0}
};

static void test_burst_then_rate(void **state)
{
	struct limit_state s = { 0 };
	usec_t now = 1000 * SECOND;
	struct limit_refusal why;

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_true(limit_take(&s, &ten_a_second, 1, NOW(now), &why));
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(now), &why));
	assert_int_equal(why.wait, SECOND / 10);
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(now + why.wait - 1), &why));
	assert_int_equal(why.wait, 1);
	assert_true(limit_take(&s, &ten_a_second, 1, NOW(now + SECOND / 10), &why));
	assert_int_equal(why.wait, 0);
	/* However long it rests, it saves up no more than a burst. */
	now += 100 * SECOND;
	assert_int_equal(limit_tokens(s.full_at, &ten_a_second.rate, now), 10);
}

static void test_burst_of_its_own(void **state)
{
	struct limit_rules rules = {
		.rate = {1, 60 * SECOND, 3}
	};
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	assert_int_equal(why.wait, 60 * SECOND);
}

static void test_debt_is_repaid(void **state)
{
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	limit_charge(&s, &ten_a_second, 25, NOW(SECOND));
	assert_int_equal(limit_tokens(s.full_at, &ten_a_second.rate, SECOND), -15);
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(SECOND), &why));
	assert_int_equal(why.wait, SECOND + 6 * SECOND / 10);
	assert_true(limit_take(&s, &ten_a_second, 1, NOW(SECOND + why.wait), &why));
}

static void test_many_at_once_need_one_token(void **state)
{
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &ten_a_second, 30, NOW(SECOND), &why));
	assert_int_equal(limit_tokens(s.full_at, &ten_a_second.rate, SECOND), -20);
}

static void test_quota_of_a_fixed_hour(void **state)
{
	struct limit_rules rules = { .quota = { [LIMIT_PER_HOUR] = 5 } };
	struct limit_state s = { 0 };
	struct limit_now now = { .wall = 10 * HOUR + HOUR / 2 };
	struct limit_refusal why;

	(void)state;
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 5);
	for (int i = 0; i < 5; i++)
		assert_true(limit_take(&s, &rules, 1, now, &why));
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 0);
	assert_false(limit_take(&s, &rules, 1, now, &why));
	assert_int_equal(why.wait, HOUR / 2);
	now.wall = 11 * HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 5);
	assert_true(limit_take(&s, &rules, 1, now, &why));
}

static void test_refusal_by_rate_leaves_the_quota(void **state)
{
	struct limit_rules rules = {
		.rate = {1,  SECOND, 0 },
                  .quota = { [LIMIT_PER_HOUR] = 5}
	};
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	assert_int_equal(limit_quota_left(&s, &rules, HOUR), 4);
}

static void test_hours_become_a_day(void **state)
{
	struct limit_rules rules = { .quota = { [LIMIT_PER_HOUR] = 5 } };
	struct limit_now now = { .wall = 1000 * 24 * HOUR + 10 * HOUR };
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_true(limit_take(&s, &rules, 1, now, &why));
	/* A reload: what was used counts for the day, and the next day begins at midnight. */
	rules = (struct limit_rules){ .quota = { [LIMIT_PER_DAY] = 5 } };
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 1);
	assert_true(limit_take(&s, &rules, 1, now, &why));
	assert_false(limit_take(&s, &rules, 1, now, &why));
	assert_int_equal(why.wait, 14 * HOUR);
	now.wall += 14 * HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 5);
	/* And back. */
	assert_true(limit_take(&s, &rules, 5, now, &why));
	rules = (struct limit_rules){ .quota = { [LIMIT_PER_HOUR] = 5 } };
	now.wall += HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 5);
}

static void test_a_refund_of_the_hour_before(void **state)
{
	struct limit_rules rules = {
		.rate = {1,  SECOND, 0 },
                  .quota = { [LIMIT_PER_HOUR] = 5}
	};
	struct limit_now before = { .wall = 11 * HOUR - 1 }, after = { .wall = 11 * HOUR };
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &rules, 3, after, &why));
	/* A thread that has read the clock earlier, and is refused by the rate. */
	assert_false(limit_take(&s, &rules, 1, before, &why));
	assert_in_range(limit_quota_left(&s, &rules, after.wall), 1, 2);
}

/* Nor does one that was behind forget more than the period that it made up. */
static void test_a_clock_that_was_ahead_locks_nobody_out(void **state)
{
	struct limit_rules rules = {
		.quota = {[LIMIT_PER_HOUR] = 3, [LIMIT_PER_DAY] = 5}
	};
	const usec_t right = 1000 * 24 * HOUR + 10 * HOUR, wrong = right + 365 * 24 * HOUR;
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &rules, 3, (struct limit_now){ .wall = wrong }, &why));
	assert_false(limit_take(&s, &rules, 1, (struct limit_now){ .wall = wrong }, &why));
	assert_int_equal(limit_quota_left(&s, &rules, right), 3);
	assert_true(limit_take(&s, &rules, 3, (struct limit_now){ .wall = right }, &why));
	assert_false(limit_take(&s, &rules, 1, (struct limit_now){ .wall = right }, &why));
	assert_int_equal(why.kind, LIMIT_HOUR);
	/* One hour ahead it counts on, as for threads that read the clock one after the other. */
	assert_int_equal(limit_quota_left(&s, &rules, right - HOUR), 0);
	assert_int_equal(limit_quota_left(&s, &rules, right + HOUR), 2);
}

/* Five tokens are owed at any rate. */
static void test_another_rate_finds_as_many_tokens(void **state)
{
	const struct limit_rules slow = {
		.rate = {1, HOUR, 10}
	};
	const struct limit_rules none = { 0 };
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	limit_charge(&s, &slow, 15, NOW(HOUR));
	limit_rescale(&s, &slow, &ten_a_second, HOUR);
	assert_int_equal(limit_tokens(s.full_at, &ten_a_second.rate, HOUR), -5);
	assert_false(limit_take(&s, &ten_a_second, 1, NOW(HOUR), &why));
	assert_int_equal(why.wait, 6 * SECOND / 10);
	limit_rescale(&s, &ten_a_second, &slow, HOUR);
	assert_int_equal(limit_tokens(s.full_at, &slow.rate, HOUR), -5);
	limit_rescale(&s, &slow, &none, HOUR);
	limit_rescale(&s, &none, &slow, HOUR);
	assert_int_equal(limit_tokens(s.full_at, &slow.rate, HOUR), 10);
}

/* Both periods count, and the one that is used up says so; the other has lost nothing. */
static void test_two_quotas(void **state)
{
	struct limit_rules rules = {
		.quota = {[LIMIT_PER_HOUR] = 3, [LIMIT_PER_DAY] = 5}
	};
	struct limit_now now = { .wall = 1000 * 24 * HOUR + 10 * HOUR };
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_true(limit_take(&s, &rules, 1, now, &why));
	assert_false(limit_take(&s, &rules, 1, now, &why));
	assert_int_equal(why.kind, LIMIT_HOUR);
	assert_int_equal(why.wait, HOUR);
	assert_int_equal(limit_quota_used(&s, LIMIT_PER_DAY, now.wall), 3);
	now.wall += HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 2);
	for (int i = 0; i < 2; i++)
		assert_true(limit_take(&s, &rules, 1, now, &why));
	assert_false(limit_take(&s, &rules, 1, now, &why));
	assert_int_equal(why.kind, LIMIT_DAY);
	assert_int_equal(why.wait, 13 * HOUR);
	assert_int_equal(limit_quota_used(&s, LIMIT_PER_HOUR, now.wall), 2);
	now.wall += 13 * HOUR;
	assert_int_equal(limit_quota_left(&s, &rules, now.wall), 3);
}

static void test_what_was_used_before_a_restart(void **state)
{
	struct limit_rules rules = { .quota = { [LIMIT_PER_DAY] = 5 } };
	struct limit_now now = { .wall = 1000 * 24 * HOUR + 10 * HOUR };
	uint64_t begin = limit_period_begin(LIMIT_PER_DAY, now.wall);
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_int_equal(begin, 24000);
	limit_restore(&s, LIMIT_PER_DAY, begin, 4);
	assert_true(limit_take(&s, &rules, 1, now, &why));
	assert_false(limit_take(&s, &rules, 1, now, &why));
	limit_restore(&s, LIMIT_PER_DAY, begin - 24, 5);
	assert_true(limit_take(&s, &rules, 1, now, &why));
}

/* Time and bytes are charged when they are known; what is overdrawn has to be waited for. */
static void test_debts_of_time_and_bytes(void **state)
{
	struct limit_rules rules = {
		.exec = {2 * SECOND, SECOND, 0},
                  .bytes = { 3000000,   SECOND, 0}
	};
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	limit_charge_exec(&s, &rules, 2 * SECOND - 1, HOUR);
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	limit_charge_exec(&s, &rules, 4 * SECOND + 1, HOUR);
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	assert_int_equal(why.kind, LIMIT_EXEC);
	assert_int_equal(why.wait, 2 * SECOND + 1);
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR + why.wait), &why));
	assert_int_equal(limit_tokens(s.exec_full_at, &rules.exec, HOUR + SECOND), -2 * SECOND);

	limit_charge_bytes(&s, &rules, 9000000, 2 * HOUR);
	assert_false(limit_take(&s, &rules, 1, NOW(2 * HOUR), &why));
	assert_int_equal(why.kind, LIMIT_BYTES);
	assert_int_equal(why.wait, 2 * SECOND + 1);
	/* A third of a nanosecond each, and none of it gets lost. */
	for (int i = 0; i < 1000; i++)
		limit_charge_bytes(&s, &rules, 3000, 3 * HOUR);
	assert_int_equal(limit_wait(s.bytes_full_at, &rules.bytes, 3 * HOUR), 1);
}

/* However much is charged and however big the bucket, nothing overflows. */
static void test_the_far_ends(void **state)
{
	struct limit_rules rules = {
		.rate = {1,           HOUR, UINT32_MAX },
                  .quota = { [LIMIT_PER_HOUR] = 10}
	};
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	for (int i = 0; i < 100; i++)
		limit_charge(&s, &rules, UINT32_MAX, NOW(HOUR));
	assert_false(limit_take(&s, &rules, 1, NOW(HOUR), &why));
	assert_true(why.wait > 0);
	assert_int_equal(limit_quota_left(&s, &rules, HOUR), 0);
	assert_int_equal(limit_quota_left(&s, &rules, 2 * HOUR), 10);
}

/* The same bucket as a sum that grows with time: tokens in units of one microsecond's share. */
struct model {
	int64_t level; /* tokens times rate_per */
	usec_t at;
};

static int64_t model_level(struct model *m, const struct limit_rules *r, usec_t now)
{
	int64_t full = (int64_t)(r->rate.size ? r->rate.size : r->rate.count) * r->rate.per;

	m->level += (now - m->at) * (int64_t)r->rate.count;
	m->level = m->level < full ? m->level : full;
	m->at = now;
	return m->level;
}

static void compare_with_model(struct limit_rules rules)
{
	struct model m = {
		(int64_t)(rules.rate.size ? rules.rate.size : rules.rate.count) * rules.rate.per, 0
	};
	struct limit_state s = { 0 };
	struct limit_refusal why;
	usec_t now = 0;

	for (int i = 0; i < 20000; i++) {
		uint64_t n = 1 + (uint64_t)rand() % 3;
		int64_t level;

		now += rand() % (2 * (int)(rules.rate.per / (usec_t)rules.rate.count) + 1);
		level = model_level(&m, &rules, now);
		if (rand() % 8 == 0) {
			limit_charge(&s, &rules, n, NOW(now));
		} else if (!limit_take(&s, &rules, n, NOW(now), &why)) {
			assert_true(level < rules.rate.per);
			/* Nearer than a microsecond's share, it would have been taken. */
			assert_in_range(why.wait * (int64_t)rules.rate.count,
					rules.rate.per - level,
					rules.rate.per - level + 2 * (int64_t)rules.rate.count);
			continue;
		} else {
			assert_true(level >= rules.rate.per - (int64_t)rules.rate.count);
		}
		m.level -= (int64_t)n * rules.rate.per;
	}
}

static void test_as_a_simple_model(void **state)
{
	(void)state;
	srand(1);
	compare_with_model(ten_a_second);
	compare_with_model((struct limit_rules){
	    .rate = {1000, SECOND, 0}
        });
	compare_with_model((struct limit_rules){
	    .rate = {20, SECOND, 1}
        });
	compare_with_model((struct limit_rules){
	    .rate = {6, 60 * SECOND, 50}
        });
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
	struct limit_refusal why;

	for (int i = 0; i < TRIES; i++)
		c->taken +=
		    limit_take(c->limit, c->rules, 1,
			       (struct limit_now){ .wall = (i < TRIES / 2 ? 5 : 6) * HOUR }, &why);
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
	struct limit_rules rate = {
		.rate = {1, HOUR, 777}
	};
	struct limit_rules quota = { .quota = { [LIMIT_PER_HOUR] = 777 } };
	struct limit_rules day = { .quota = { [LIMIT_PER_DAY] = 777 } };

	(void)state;
	assert_int_equal(taken_by_crowd(&rate), 777);
	assert_int_equal(taken_by_crowd(&quota), 2 * 777);
	assert_int_equal(taken_by_crowd(&day), 777);
}

static void test_no_limit(void **state)
{
	struct limit_rules rules = { 0 };
	struct limit_state s = { 0 };
	struct limit_refusal why;

	(void)state;
	assert_true(limit_take(&s, &rules, 1000000, NOW(0), &why));
	assert_int_equal(limit_tokens(s.full_at, &rules.rate, 0), INT64_MAX);
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
		cmocka_unit_test(test_another_rate_finds_as_many_tokens),
		cmocka_unit_test(test_two_quotas),
		cmocka_unit_test(test_what_was_used_before_a_restart),
		cmocka_unit_test(test_a_clock_that_was_ahead_locks_nobody_out),
		cmocka_unit_test(test_debts_of_time_and_bytes),
		cmocka_unit_test(test_the_far_ends),
		cmocka_unit_test(test_as_a_simple_model),
		cmocka_unit_test(test_threads_share_exactly),
		cmocka_unit_test(test_no_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
