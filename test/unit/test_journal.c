/* SPDX-License-Identifier: ISC
 *
 * test_journal.c - what ROLLBACK TO and RELEASE leave of a transaction's LISTENs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "relay/journal.h"

#include <stdio.h>
#include <string.h>

static const struct sql_env env = { .standard_strings = true, .ascii_safe = true };

/* What is left after these commands: "x y" for LISTEN x and UNLISTEN y, savepoints as "(s)". */
static void left(const char *text, char *out, size_t size)
{
	struct sql_control items[16];
	struct journal j = { 0 };
	unsigned n;

	journal_init(&j);
	assert_true(sql_controls(slice_str(text), &env, items, PGT_NELEMS(items), &n));
	for (unsigned i = 0; i < n; i++)
		journal_run(&j, &items[i]);
	*out = '\0';
	LIST_FOREACH (at, &j.entries) {
		const struct sql_control *control = journal_at(at);
		size_t used = strlen(out);

		snprintf(out + used, size - used,
			 control->kind == CONTROL_SAVEPOINT ? "(%s)" : "%s ", control->name);
	}
	journal_clear(&j);
	assert_int_equal(j.n, 0);
	assert_true(list_is_empty(&j.entries));
}

static void test_savepoints(void **state)
{
	static const struct {
		const char *text, *left;
	} rows[] = {
		{"listen x; unlisten y",						    "x y " },
		{ "savepoint a; listen x; rollback to a",                                   ""     },
		{ "listen x; savepoint a; listen y; rollback to a",                         "x (a)"},
		{ "listen x; savepoint a; listen y; savepoint a; listen z; rollback to a",
                 "x (a)y (a)"								      },
		{ "listen x; savepoint a; listen y; savepoint b; release a",                "x y " },
		{ "listen x; savepoint a; savepoint b; listen y; rollback to a; listen z",
                 "x (a)z "									 },
		{ "listen x; savepoint a; listen y; release before",                        "x y " },
		{ "listen x; savepoint a; savepoint a; listen y; release a; rollback to a",
                 "x (a)"									   },
		{ "listen x; savepoint \"A\"; listen y; rollback to a",                     ""     },
	};
	char text[200];

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		left(rows[i].text, text, sizeof(text));
		assert_string_equal(text, rows[i].left);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_savepoints) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
