/* SPDX-License-Identifier: ISC
 *
 * test_console_page.c - docs/admin.md is what the console's tables say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/console.h"

static void test_the_page_is_up_to_date(void **state)
{
	const char *srcdir = getenv("srcdir");
	struct buf name = { 0 }, got = { 0 }, want = { 0 };
	FILE *f;

	buf_printf(&name, "%s/docs/admin.md", srcdir ? srcdir : ".");
	f = fopen(buf_cstr(&name), "r");
	assert_non_null(f);
	for (size_t n = 1; n; buf_produced(&got, n))
		n = fread(buf_reserve(&got, 4096), 1, 4096, f);
	fclose(f);
	console_describe_markdown(&want);
	if (!slice_is_equal(buf_peek(&got), buf_peek(&want)))
		fail_msg("docs/admin.md is not what the console's tables say: make docs");
	buf_fini(&name);
	buf_fini(&got);
	buf_fini(&want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_page_is_up_to_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
