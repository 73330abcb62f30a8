/* SPDX-License-Identifier: ISC
 *
 * test_queries.c - shapes of statements in bounded room: who stays, what is watched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"
#include "stats/queries.h"

#define WITHIN  (1000 * USEC_PER_MSEC)
#define REPEATS 20
#define PLACE   7

static struct query_key key_of(uint64_t shape, uint64_t whose)
{
	struct query_key key = { .whose = whose };

	hash_more128(key.fingerprint, &shape, sizeof(shape));
	return key;
}

/* A reference. */
static struct query_look *share_look(struct queries *q, const struct query_key *key, uint64_t place)
{
	const struct sql_normal normal = { .id = "0123456789abcdef" };
	struct query_look *look =
	    query_look_new(key->fingerprint, place, &normal, SLICE("SELECT ?"));

	queries_share_look(q, look);
	return look;
}

static struct query_look *look_of(struct queries *q, const struct query_key *key)
{
	struct query_look *look = queries_look(q, key->fingerprint, PLACE);

	if (!look)
		return share_look(q, key, PLACE);
	look->refs++;
	return look;
}

static struct query *meet(struct queries *q, uint64_t shape, uint64_t whose)
{
	struct query_key key = key_of(shape, whose);
	struct query *x = queries_find(q, &key);
	struct query_about about = { .database = "shop", .tenant = "acme", .reads = true };

	if (x)
		return x;
	about.look = look_of(q, &key);
	x = queries_add(q, &key, &about, 0);
	query_look_unref(about.look);
	return x;
}

/* One call. */
static void spend(struct queries *q, uint64_t shape, usec_t time)
{
	struct query *x = meet(q, shape, 1);

	x->calls++;
	x->time += time;
}

static void test_each_owner_has_its_own(void **state)
{
	struct queries q;

	queries_init(&q, 100);
	for (uint64_t whose = 1; whose <= 10; whose++)
		for (uint64_t shape = 0; shape < 10; shape++)
			meet(&q, shape, whose)->calls += whose * 100 + shape;
	for (uint64_t whose = 1; whose <= 10; whose++)
		for (uint64_t shape = 0; shape < 10; shape++)
			assert_int_equal(meet(&q, shape, whose)->calls, whose * 100 + shape);
	assert_int_equal(q.n, 100);
	assert_int_equal(q.replaced, 0);
	queries_fini(&q);
}

/* What has taken more than its share of all time is there, and what it may lack is told. */
static void test_what_takes_most_stays(void **state)
{
	enum { SIZE = 50, SHAPES = 1000 };
	uint64_t true_time[SHAPES] = { 0 }, all = 0;
	struct queries q;

	queries_init(&q, SIZE);
	srandom(1);
	for (unsigned i = 0; i < 100000; i++) {
		uint64_t shape =
		    random() % 3 ? (uint64_t)(random() % SHAPES) : (uint64_t)(random() % 10);
		usec_t took = 1 + random() % 1000;

		spend(&q, shape, took);
		true_time[shape] += (uint64_t)took;
		all += (uint64_t)took;
		assert_true(q.n <= SIZE);
	}
	for (uint64_t shape = 0; shape < SHAPES; shape++) {
		struct query_key key = key_of(shape, 1);
		struct query *x = queries_find(&q, &key);

		if (!x) {
			assert_true(true_time[shape] <= all / SIZE);
			continue;
		}
		assert_true((uint64_t)x->time <= true_time[shape]);
		assert_true((uint64_t)x->time + x->missed >= true_time[shape]);
	}
	assert_true(q.replaced > 0);
	queries_fini(&q);
}

static void test_who_has_left_is_not_found_in_its_place(void **state)
{
	struct query_ref ref;
	struct queries q;

	queries_init(&q, 1);
	ref = queries_ref(&q, meet(&q, 1, 1));
	assert_non_null(queries_get(&q, ref));
	assert_null(queries_get(&q, (struct query_ref){ 0 }));
	meet(&q, 2, 1);
	assert_null(queries_get(&q, ref));
	ref = queries_ref(&q, meet(&q, 2, 1));
	queries_clear(&q);
	assert_null(queries_get(&q, ref));
	meet(&q, 2, 1);
	assert_null(queries_get(&q, ref));
	queries_fini(&q);
}

/* ---- habits -----------------------------------------------------------------------------------
 */

static void init_watching(struct queries *q)
{
	queries_init(q, 10);
	q->terms = (struct query_terms){ REPEATS, WITHIN };
}

/* A session runs it n times, each after so long. */
static void run(const struct queries *q, struct query *x, uint64_t client, usec_t from, unsigned n,
		usec_t every, unsigned values)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned value = i % values;

		if (query_watch(q, x, client, from + i * every))
			query_compare(x, slice_of((const char *)&value, sizeof(value)));
		x->watch.time += x->watch.client == client ? 10 : 0;
	}
	query_settle(q, x);
}

static void expect_habits(const struct query *x, uint64_t loops, uint64_t repeats)
{
	assert_int_equal(x->loops.times, loops);
	assert_int_equal(x->repeats.times, repeats);
}

static void test_owners_in_one_place_share_a_look(void **state)
{
	struct query_key key = key_of(1, 1);
	struct query *one, *other;
	struct queries q;

	queries_init(&q, 2);
	one = meet(&q, 1, 1);
	other = meet(&q, 1, 2);
	assert_ptr_equal(one->about.look, other->about.look);
	assert_string_equal(other->about.look->text, "SELECT ?");
	assert_null(queries_look(&q, key.fingerprint, PLACE + 1));
	assert_null(queries_look(&q, key_of(2, 1).fingerprint, PLACE));
	/* It outlives those who have left, and other places' take its own. */
	meet(&q, 2, 1);
	meet(&q, 3, 1);
	assert_non_null(queries_look(&q, key.fingerprint, PLACE));
	query_look_unref(share_look(&q, &key, PLACE + 1));
	assert_null(queries_look(&q, key.fingerprint, PLACE));
	queries_clear(&q);
	assert_null(queries_look(&q, key.fingerprint, PLACE + 1));
	queries_fini(&q);
}

static void test_loops_and_repeats(void **state)
{
	struct queries q;
	struct query *x;

	init_watching(&q);
	x = meet(&q, 1, 1);
	run(&q, x, 7, WITHIN * 10, REPEATS - 1, 100, REPEATS);
	expect_habits(x, 0, 0);
	run(&q, x, 7, WITHIN * 20, REPEATS, 100, REPEATS);
	expect_habits(x, 1, 0);
	assert_int_equal(x->loops.count, REPEATS);
	assert_int_equal(x->loops.time, REPEATS * 10);
	run(&q, x, 7, WITHIN * 30, REPEATS, 100, 1);
	expect_habits(x, 1, 1);
	/* Too slow; longer than it is watched for. */
	run(&q, x, 7, WITHIN * 40, REPEATS * 3, WITHIN / 10, REPEATS);
	expect_habits(x, 1, 1);
	run(&q, x, 7, WITHIN * 80, REPEATS * 5, WITHIN / REPEATS / 2, 1000);
	expect_habits(x, 3, 1);
	queries_fini(&q);
}

static void test_others_do_not_break_what_is_watched(void **state)
{
	struct queries q;
	struct query *x;

	init_watching(&q);
	x = meet(&q, 1, 1);
	for (usec_t i = 0; i < REPEATS; i++) {
		run(&q, x, 7, WITHIN * 10 + i * 1000, 1, 0, 1);
		run(&q, x, 8 + (uint64_t)i, WITHIN * 10 + i * 1000 + 500, 1, 0, 1);
	}
	expect_habits(x, 0, 1);
	/* One that does not come back makes room. */
	run(&q, x, 100, WITHIN * 20, 1, 0, 1);
	run(&q, x, 101, WITHIN * 20 + WITHIN / 2, REPEATS, 100, 1);
	expect_habits(x, 0, 2);
	queries_fini(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_owner_has_its_own),
		cmocka_unit_test(test_what_takes_most_stays),
		cmocka_unit_test(test_who_has_left_is_not_found_in_its_place),
		cmocka_unit_test(test_owners_in_one_place_share_a_look),
		cmocka_unit_test(test_loops_and_repeats),
		cmocka_unit_test(test_others_do_not_break_what_is_watched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
