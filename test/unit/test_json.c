/* SPDX-License-Identifier: ISC
 *
 * test_json.c - strings of JSON, as UTF-8 and as ASCII.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/json.h"

static void check(const char *text, const char *utf8, const char *ascii)
{
	struct buf out = { 0 };

	json_put_string(&out, text);
	assert_string_equal(buf_cstr(&out), utf8);
	buf_clear(&out);
	json_put_ascii_string(&out, text);
	assert_string_equal(buf_cstr(&out), ascii);
	buf_fini(&out);
}

static void test_strings(void **state)
{
	check("", "\"\"", "\"\"");
	check("a\"b\\c'", "\"a\\\"b\\\\c'\"", "\"a\\\"b\\\\c'\"");
	check("\n\x7f", "\"\\u000a\\u007f\"", "\"\\u000a\\u007f\"");
	check("B\xc3\xa4r", "\"B\xc3\xa4r\"", "\"B\\u00e4r\"");
	check("\xe2\x82\xac", "\"\xe2\x82\xac\"", "\"\\u20ac\"");
	check("\xe2\x80\xa8", "\"\\u2028\"", "\"\\u2028\"");
	check("\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\"");
	check("\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\"", "\"\\udbff\\udfff\"");
	check("\xff\xc3", "\"\xef\xbf\xbd\xef\xbf\xbd\"", "\"\\ufffd\\ufffd\"");
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_strings) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
