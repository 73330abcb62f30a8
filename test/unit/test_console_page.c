/* SPDX-License-Identifier: ISC
 *
 * test_console_page.c - docs/admin.md and docs/metrics.md are what the console's tables say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/console.h"
#include "http/http.h"

static void expect_page(const char *page, void (*describe)(struct buf *out))
{
	const char *srcdir = getenv("srcdir");
	struct buf name = { 0 }, got = { 0 }, want = { 0 };
	bool is_same;
	FILE *f;

	buf_printf(&name, "%s/docs/%s", srcdir ? srcdir : ".", page);
	f = fopen(buf_cstr(&name), "r");
	assert_non_null(f);
	for (size_t n = 1; n; buf_produced(&got, n))
		n = fread(buf_reserve(&got, 4096), 1, 4096, f);
	fclose(f);
	describe(&want);
	is_same = slice_is_equal(buf_peek(&got), buf_peek(&want));
	buf_fini(&name);
	buf_fini(&got);
	buf_fini(&want);
	if (!is_same)
		fail_msg("docs/%s is not what the tables say: make docs", page);
}

static void test_the_console_page_is_up_to_date(void **state)
{
	expect_page("admin.md", console_describe_markdown);
}

static void test_the_metrics_page_is_up_to_date(void **state)
{
	expect_page("metrics.md", metrics_describe_markdown);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_console_page_is_up_to_date),
		cmocka_unit_test(test_the_metrics_page_is_up_to_date),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
