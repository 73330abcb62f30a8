/* SPDX-License-Identifier: ISC
 *
 * test_latency.c - histograms within their error, added and written; windows that move.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stats/latency.h"

#define MINUTE (60 * USEC_PER_SEC)
#define HOUR   (60 * MINUTE)
/* Not at the beginning of an hour. */
#define BEGIN (100 * HOUR + 17 * MINUTE)

/* ---- histograms -------------------------------------------------------------------------------
 */

static void test_every_value_is_in_its_bucket(void **state)
{
	unsigned last = 0;

	for (usec_t v = 0; v <= UINT32_MAX; v += 1 + v / 500) {
		unsigned bucket = histogram_bucket(v);

		assert_in_range(bucket, last, last + 1);
		assert_true(histogram_least(bucket) <= v && v < histogram_least(bucket + 1));
		last = bucket;
	}
	assert_int_equal(histogram_bucket(UINT32_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_bucket(INT64_MAX), HISTOGRAM_BUCKETS - 1);
	assert_int_equal(histogram_bucket(-5), 0);
}

static int compare(const void *a, const void *b)
{
	usec_t x = *(const usec_t *)a, y = *(const usec_t *)b;

	return (x > y) - (x < y);
}

static void count(struct histogram *h, usec_t value)
{
	h->counts[histogram_bucket(value)]++;
	if (value > h->max)
		h->max = value;
}

static void fill(struct histogram *h, usec_t *values, unsigned n, usec_t (*draw)(void))
{
	for (unsigned i = 0; i < n; i++) {
		values[i] = draw();
		count(h, values[i]);
	}
	qsort(values, n, sizeof(*values), compare);
}

static usec_t draw_even(void)
{
	return 100 + random() % 100000;
}

static usec_t draw_tail(void)
{
	return (20 + random() % 21) << random() % 18;
}

static usec_t draw_two_humps(void)
{
	return random() % 10 ? 150 + random() % 20 : 2000000 + random() % 500000;
}

static void test_quantiles_are_within_3_percent(void **state)
{
	static usec_t (*const draws[])(void) = { draw_even, draw_tail, draw_two_humps };
	static const unsigned permilles[] = { 10, 500, 900, 950, 990, 999, 1000 };
	enum { N = 20000 };
	usec_t *values = calloc(N, sizeof(*values));

	srandom(7);
	for (size_t d = 0; d < 3; d++) {
		struct histogram h = { 0 };
		usec_t sum = 0;

		fill(&h, values, N, draws[d]);
		for (size_t i = 0; i < 7; i++) {
			usec_t exact = values[permilles[i] * N / 1000 - 1];
			usec_t told = histogram_quantile(&h, permilles[i]);

			assert_in_range(told * 100, exact * 97, exact * 103);
		}
		assert_int_equal(h.max, values[N - 1]);
		for (size_t i = 0; i < N; i++)
			sum += values[i];
		assert_in_range(histogram_sum(&h) * 100, sum * 98, sum * 102);
		assert_int_equal(histogram_count(&h), N);
	}
	free(values);
}

static void test_quantiles_of_few(void **state)
{
	struct histogram h = { 0 };

	assert_int_equal(histogram_quantile(&h, 500), -1);
	count(&h, 7);
	assert_int_equal(histogram_quantile(&h, 10), 7);
	assert_int_equal(histogram_quantile(&h, 990), 7);
	count(&h, 1000001);
	assert_int_equal(histogram_quantile(&h, 500), 7);
	/* Never more than the greatest. */
	assert_in_range(histogram_quantile(&h, 510), 990000, 1000001);
}

static void test_adding_is_as_counting_together(void **state)
{
	struct histogram a = { 0 }, b = { 0 }, both = { 0 };

	for (unsigned i = 0; i < 1000; i++) {
		usec_t value = draw_tail();

		count(i % 3 ? &a : &b, value);
		count(&both, value);
	}
	histogram_add(&a, &b);
	assert_memory_equal(&a, &both, sizeof(a));
}

static void test_written_and_read(void **state)
{
	struct histogram h = { 0 }, back = { 0 }, twice = { 0 };
	struct buf text = { 0 };

	for (unsigned i = 0; i < 1000; i++)
		count(&h, draw_tail());
	h.counts[HISTOGRAM_BUCKETS - 1] = UINT64_MAX / 4;
	histogram_put(&h, &text);
	histogram_take(&back, buf_cstr(&text));
	assert_memory_equal(&h, &back, sizeof(h));
	histogram_take(&back, buf_cstr(&text));
	histogram_add(&twice, &h);
	histogram_add(&twice, &h);
	assert_memory_equal(&twice, &back, sizeof(h));
	buf_fini(&text);
}

static void test_counts_below(void **state)
{
	struct histogram h = { 0 };

	for (usec_t v = 0; v < 5000; v++)
		count(&h, v);
	assert_int_equal(histogram_count_below(&h, 0), 0);
	assert_int_equal(histogram_count_below(&h, 1024), 1024);
	assert_int_equal(histogram_count_below(&h, 1536), 1536);
	assert_int_equal(histogram_count_below(&h, HOUR), 5000);
}

/* ---- windows ----------------------------------------------------------------------------------
 */

struct rig {
	struct latency_clock clock;
	struct latencies tenant, node;
};

static void rig_init(struct rig *rig)
{
	latency_clock_init(&rig->clock, BEGIN);
	latencies_init(&rig->tenant, &rig->clock, false);
	latencies_init(&rig->node, &rig->clock, true);
}

static void rig_fini(struct rig *rig)
{
	latencies_fini(&rig->tenant);
	latencies_fini(&rig->node);
	assert_true(list_is_empty(&rig->clock.series));
	assert_int_equal(rig->clock.npages, 0);
}

static void record(struct rig *rig, enum latency_part part, usec_t took)
{
	latency_record(&rig->node, &rig->tenant, part, took);
}

static uint64_t count_of(const struct latencies *of, enum latency_kind kind,
			 enum latency_window window)
{
	struct histogram h = { 0 };

	latency_read(of, kind, window, &h);
	return histogram_count(&h);
}

static void expect(const struct rig *rig, uint64_t minute, uint64_t hour, uint64_t total)
{
	assert_int_equal(count_of(&rig->tenant, LATENCY_query, LATENCY_MINUTE), minute);
	assert_int_equal(count_of(&rig->tenant, LATENCY_query, LATENCY_HOUR), hour);
	assert_int_equal(count_of(&rig->node, LATENCY_query, LATENCY_MINUTE), minute);
	assert_int_equal(count_of(&rig->node, LATENCY_query, LATENCY_HOUR), hour);
	assert_int_equal(count_of(&rig->node, LATENCY_query, LATENCY_TOTAL), total);
}

static void test_a_minute_leaves_its_window_and_stays_in_the_hour(void **state)
{
	struct rig rig;

	rig_init(&rig);
	for (unsigned m = 0; m < 10; m++) {
		latency_clock_sweep(&rig.clock, BEGIN + m * MINUTE);
		record(&rig, LATENCY_ALONE, 500 + m);
		record(&rig, LATENCY_WITHIN, 90000);
		expect(&rig, m ? 4 : 2, 2 * m + 2, 2 * m + 2);
	}
	rig_fini(&rig);
}

static void test_windows_empty_although_nothing_comes(void **state)
{
	struct rig rig;

	rig_init(&rig);
	record(&rig, LATENCY_ALONE, 500);
	latency_clock_sweep(&rig.clock, BEGIN + MINUTE);
	expect(&rig, 1, 1, 1);
	assert_true(latency_is_any(&rig.tenant, LATENCY_query, LATENCY_MINUTE));
	latency_clock_sweep(&rig.clock, BEGIN + 2 * MINUTE);
	expect(&rig, 0, 1, 1);
	assert_false(latency_is_any(&rig.tenant, LATENCY_query, LATENCY_MINUTE));
	assert_true(latency_is_any(&rig.tenant, LATENCY_query, LATENCY_HOUR));
	latency_clock_sweep(&rig.clock, BEGIN + HOUR);
	expect(&rig, 0, 1, 1);
	latency_clock_sweep(&rig.clock, BEGIN + 2 * HOUR);
	expect(&rig, 0, 0, 1);
	rig_fini(&rig);
}

static void test_gaps(void **state)
{
	static const usec_t gaps[] = { 1, 2, 3, 43, 59, 60, 61, 103, 119, 120, 1000, 100000 };

	for (size_t i = 0; i < 12; i++) {
		struct rig rig;
		usec_t later = BEGIN + gaps[i] * MINUTE;
		bool in_minute = gaps[i] == 1, in_hour = later / HOUR - BEGIN / HOUR <= 1;

		rig_init(&rig);
		for (unsigned n = 0; n < 3; n++)
			record(&rig, LATENCY_ALONE, 70);
		latency_clock_sweep(&rig.clock, later);
		record(&rig, LATENCY_ALONE, 80);
		expect(&rig, in_minute ? 4 : 1, in_hour ? 4 : 1, 4);
		rig_fini(&rig);
	}
}

static void test_kinds(void **state)
{
	struct rig rig;

	rig_init(&rig);
	record(&rig, LATENCY_ALONE, 1);
	record(&rig, LATENCY_WITHIN, 2);
	record(&rig, LATENCY_WITHIN, 3);
	record(&rig, LATENCY_BLOCK, 9);
	record(&rig, LATENCY_WAITED, 4);
	assert_int_equal(count_of(&rig.tenant, LATENCY_query, LATENCY_MINUTE), 3);
	assert_int_equal(count_of(&rig.tenant, LATENCY_transaction, LATENCY_MINUTE), 2);
	assert_int_equal(count_of(&rig.tenant, LATENCY_wait, LATENCY_MINUTE), 1);
	assert_false(latency_is_any(&rig.tenant, LATENCY_connect, LATENCY_HOUR));
	assert_true(latency_is_any(&rig.tenant, LATENCY_wait, LATENCY_MINUTE));
	rig_fini(&rig);
}

static void test_the_longest_moves_too(void **state)
{
	struct rig rig;
	struct histogram minute = { 0 }, total = { 0 };

	rig_init(&rig);
	record(&rig, LATENCY_ALONE, 3 * HOUR);
	record(&rig, LATENCY_ALONE, 10);
	latency_clock_sweep(&rig.clock, BEGIN + 3 * HOUR);
	record(&rig, LATENCY_ALONE, 20);
	latency_read(&rig.node, LATENCY_query, LATENCY_MINUTE, &minute);
	latency_read(&rig.node, LATENCY_query, LATENCY_TOTAL, &total);
	assert_int_equal(minute.max, 20);
	assert_int_equal(total.max, 3 * HOUR);
	assert_int_equal(histogram_count(&total), 3);
	rig_fini(&rig);
}

static void test_idle_series_are_freed(void **state)
{
	struct rig rig;

	rig_init(&rig);
	record(&rig, LATENCY_ALONE, 500);
	latency_clock_sweep(&rig.clock, BEGIN + MINUTE);
	record(&rig, LATENCY_WAITED, 500);
	assert_int_equal(rig.clock.npages, 4);
	latency_clock_sweep(&rig.clock, BEGIN + 2 * HOUR);
	assert_null(rig.tenant.parts[LATENCY_ALONE]);
	assert_int_equal(rig.clock.npages, 3);
	assert_non_null(rig.tenant.parts[LATENCY_WAITED]);
	latency_clock_sweep(&rig.clock, BEGIN + 2 * HOUR + MINUTE);
	assert_null(rig.tenant.parts[LATENCY_WAITED]);
	assert_non_null(rig.node.parts[LATENCY_WAITED]);
	rig_fini(&rig);
}

static void test_nothing_is_measured_without_a_clock(void **state)
{
	struct latencies none = { 0 };

	latency_record(&none, NULL, LATENCY_ALONE, 5);
	assert_int_equal(count_of(&none, LATENCY_query, LATENCY_HOUR), 0);
	latencies_fini(&none);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_value_is_in_its_bucket),
		cmocka_unit_test(test_quantiles_are_within_3_percent),
		cmocka_unit_test(test_quantiles_of_few),
		cmocka_unit_test(test_adding_is_as_counting_together),
		cmocka_unit_test(test_written_and_read),
		cmocka_unit_test(test_counts_below),
		cmocka_unit_test(test_a_minute_leaves_its_window_and_stays_in_the_hour),
		cmocka_unit_test(test_windows_empty_although_nothing_comes),
		cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_the_longest_moves_too),
		cmocka_unit_test(test_idle_series_are_freed),
		cmocka_unit_test(test_nothing_is_measured_without_a_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
