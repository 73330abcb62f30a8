/* SPDX-License-Identifier: ISC
 *
 * test_replies.c - the queue of what a server owes: order over growth, voids up to a Sync, cycles.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/replies.h"

static void push(struct replies *q, const char *kinds)
{
	static const char letters[] = "QFPBDECS.";

	for (; *kinds; kinds++) {
		struct reply r = { 0 };

		while (letters[r.kind] != *kinds)
			r.kind++;
		replies_push(q, r);
	}
}

static const char *text_of(const struct replies *q)
{
	static char text[64];
	uint32_t i;

	for (i = 0; i < q->n; i++)
		text[i] = "QFPBDECS."[replies_at(q, i)->kind];
	text[i] = '\0';
	return text;
}

static void test_order_over_growth(void **state)
{
	struct replies q = { 0 };

	(void)state;
	assert_null(replies_head(&q));
	for (int round = 0; round < 100; round++) {
		push(&q, "PBDESQ");
		assert_int_equal(replies_head(&q)->kind, REPLY_PARSE);
		replies_pop(&q);
		replies_pop(&q);
		push(&q, "F.");
		assert_string_equal(text_of(&q), "DESQF.");
		while (q.n)
			replies_pop(&q);
	}
	for (uintptr_t i = 0; i < 1000; i++)
		replies_push(&q, (struct reply){ .subject = (void *)i });
	for (uintptr_t i = 0; i < 1000; i++) {
		assert_ptr_equal(replies_head(&q)->subject, (void *)i);
		replies_pop(&q);
	}
	replies_fini(&q);
}

static void test_remove_keeps_the_order(void **state)
{
	struct replies q = { 0 };

	(void)state;
	push(&q, "PPPPPP");
	while (q.n)
		replies_pop(&q); /* so that what follows wraps around */
	push(&q, "PBDESQ");
	replies_remove(&q, 2);
	assert_string_equal(text_of(&q), "PBESQ");
	replies_remove(&q, 0);
	assert_string_equal(text_of(&q), "BESQ");
	replies_remove(&q, 3);
	assert_string_equal(text_of(&q), "BES");
	replies_fini(&q);
}

static void test_until_sync(void **state)
{
	static const struct {
		const char *queue;
		uint32_t n;
		bool has_sync;
	} cases[] = {
		{"",         0, false},
                { "S",       0, true },
                { "PBES",    3, true },
		{ "PBE",     3, false},
                { "PQS",     2, true },
                { "E.SPBES", 2, true },
	};
	bool has_sync;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct replies q = { 0 };

		push(&q, cases[i].queue);
		assert_int_equal(replies_until_sync(&q, &has_sync), cases[i].n);
		assert_int_equal(has_sync, cases[i].has_sync);
		replies_fini(&q);
	}
}

static void test_cycles(void **state)
{
	struct replies q = { 0 };

	(void)state;
	push(&q, "PBES");
	assert_int_equal(q.ncycles, 1);
	push(&q, "QF.");
	assert_int_equal(q.ncycles, 3);
	replies_remove(&q, 4);
	assert_int_equal(q.ncycles, 2);
	while (q.n)
		replies_pop(&q);
	assert_int_equal(q.ncycles, 0);
	replies_fini(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_over_growth),
		cmocka_unit_test(test_remove_keeps_the_order),
		cmocka_unit_test(test_until_sync),
		cmocka_unit_test(test_cycles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
