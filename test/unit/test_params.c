/* SPDX-License-Identifier: ISC
 *
 * test_params.c - interned sets: equal ones are one, changing makes another, nothing is left over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool/params.h"

static struct param_set *with(struct param_set *set, const char *name, const char *value)
{
	struct slice v = value ? slice_str(value) : slice_of(NULL, 0);

	return param_set_with(set, slice_str(name), v);
}

static void test_equal_sets_are_one(void **state)
{
	struct param_sets sets;
	struct param_set *a, *ab, *b, *ba;

	(void)state;
	param_sets_init(&sets);
	a = with(sets.empty, "a", "1");
	ab = with(a, "b", "2");
	b = with(sets.empty, "B", "2");
	ba = with(b, "A", "1");
	assert_ptr_equal(ab, ba);
	assert_ptr_not_equal(a, b);
	assert_string_equal(param_set_get(ab, SLICE("A")), "1");
	assert_string_equal(param_set_get(ab, SLICE("b")), "2");
	assert_null(param_set_get(ab, SLICE("c")));
	assert_null(param_set_get(ab, SLICE("")));
	param_set_unref(a);
	param_set_unref(ab);
	param_set_unref(b);
	param_set_unref(ba);
	param_sets_fini(&sets);
}

static void test_changes_come_and_go(void **state)
{
	struct param_sets sets;
	struct param_set *one, *two, *back, *gone, *same;

	(void)state;
	param_sets_init(&sets);
	one = with(sets.empty, "x", "1");
	two = with(one, "X", "2");
	back = with(two, "x", "1");
	gone = with(two, "x", NULL);
	same = with(gone, "y", NULL);
	assert_ptr_equal(back, one);
	assert_ptr_equal(gone, sets.empty);
	assert_ptr_equal(same, sets.empty);
	assert_string_equal(param_set_get(two, SLICE("x")), "2");
	assert_string_equal(param_set_get(one, SLICE("x")), "1");
	param_set_unref(one);
	param_set_unref(two);
	param_set_unref(back);
	param_set_unref(gone);
	param_set_unref(same);
	param_sets_fini(&sets);
}

static void test_names_stay_sorted(void **state)
{
	static const char *const names[] = { "m", "c", "z", "a", "mm", "M2", "b" };
	struct param_sets sets;
	struct param_set *set;

	(void)state;
	param_sets_init(&sets);
	set = param_set_ref(sets.empty);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct param_set *next = with(set, names[i], names[i]);

		param_set_unref(set);
		set = next;
	}
	assert_int_equal(set->n, 7);
	for (unsigned i = 1; i < set->n; i++)
		assert_true(strcasecmp(set->items[i - 1].name, set->items[i].name) < 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		assert_string_equal(param_set_get(set, slice_str(names[i])), names[i]);
	param_set_unref(set);
	param_sets_fini(&sets);
}

static void test_welcomes_are_forgotten(void **state)
{
	struct param_sets sets;
	struct param_set *wanted, *report;

	(void)state;
	param_sets_init(&sets);
	wanted = with(sets.empty, "search_path", "x");
	report = with(sets.empty, "server_version", "15");
	param_set_assign(&wanted->welcome, report);
	param_set_assign(&sets.empty->welcome, report);
	param_set_unref(report);
	param_sets_forget_welcomes(&sets);
	assert_null(wanted->welcome);
	assert_null(sets.empty->welcome);
	param_set_unref(wanted);
	param_sets_fini(&sets);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_sets_are_one),
		cmocka_unit_test(test_changes_come_and_go),
		cmocka_unit_test(test_names_stay_sorted),
		cmocka_unit_test(test_welcomes_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
