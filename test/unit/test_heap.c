/* SPDX-License-Identifier: ISC
 *
 * test_heap.c - the least comes first, equal ones as they came, and any may leave.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/heap.h"

#define N 200

static void test_equal_keys_leave_as_they_came(void **state)
{
	struct heap heap = { 0 };
	struct heap_link links[5] = { 0 };

	(void)state;
	for (int i = 0; i < 5; i++)
		heap_insert(&heap, &links[i], 7);
	for (int i = 0; i < 5; i++) {
		assert_ptr_equal(heap.root, &links[i]);
		heap_remove(&heap, heap.root);
	}
	assert_null(heap.root);
	heap_remove(&heap, &links[0]);
	assert_null(heap.root);
}

/* What a heap says is least, against a search. */
static void test_against_a_search(void **state)
{
	struct heap heap = { 0 };
	struct heap_link links[N] = { 0 };

	(void)state;
	srand(1);
	for (int round = 0; round < 20000; round++) {
		struct heap_link *link = &links[rand() % N], *least = NULL;

		if (link->is_linked)
			heap_remove(&heap, link);
		else
			heap_insert(&heap, link, rand() % 50);
		for (int i = 0; i < N; i++)
			if (links[i].is_linked &&
			    (!least || links[i].key < least->key ||
			     (links[i].key == least->key && links[i].order < least->order)))
				least = &links[i];
		assert_ptr_equal(heap.root, least);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_keys_leave_as_they_came),
		cmocka_unit_test(test_against_a_search),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
