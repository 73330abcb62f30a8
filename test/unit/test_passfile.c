/* SPDX-License-Identifier: ISC
 *
 * test_passfile.c - lines of a password file, and whom they are for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/passfile.h"

#include <string.h>

/* NULL: there is none. */
static void expect(const char *text, const char *found)
{
	const struct passfile_key key = { "db.example", 5433, "sh:op", "a\\pp" };
	struct buf password = { 0 };
	bool is_found = passfile_find(slice_str(text), &key, &password);

	if (is_found != (found != NULL) || (found && strcmp(buf_cstr(&password), found) != 0))
		fail_msg("\"%s\": \"%s\"", text, is_found ? buf_cstr(&password) : "(none)");
	buf_fini(&password);
}

static void test_a_line_that_fits(void **state)
{
	expect("db.example:5433:sh\\:op:a\\\\pp:secret", "secret");
	expect("db.example:5433:sh\\:op:a\\\\pp:secret\r\n", "secret");
	expect("*:*:*:*:secret\n", "secret");
	expect("db.example:*:*:a\\\\pp:s\\:e\\\\c:more\n", "s:e\\c");
	expect("db.example:5433:*:*:", "");
}

static void test_lines_that_do_not(void **state)
{
	expect("", NULL);
	expect("\n\n", NULL);
	expect("# *:*:*:*:secret\n", NULL);
	expect("other:5433:*:*:secret\n", NULL);
	expect("db.example:5432:*:*:secret\n", NULL);
	expect("db.example:5433:sh:op:a\\\\pp:secret\n", NULL);
	expect("*x:*:*:*:secret\n", NULL);
	expect("*", NULL);
	expect("db.example", NULL);
	expect("db.example:5433:*\n", NULL);
	expect("db.example:5433:*:*\n", NULL);
	expect("db.example:5433:*:a\\\\pp\n*:*:*:*:secret\n", "secret");
	expect("\\", NULL);
}

static void test_the_first_that_fits_counts(void **state)
{
	expect("other:*:*:*:one\ndb.example:*:*:*:two\n*:*:*:*:three\n", "two");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_line_that_fits),
		cmocka_unit_test(test_lines_that_do_not),
		cmocka_unit_test(test_the_first_that_fits_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
