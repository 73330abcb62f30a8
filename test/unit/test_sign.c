/* SPDX-License-Identifier: ISC
 *
 * test_sign.c - key files, good and bad; signatures are HMAC-SHA256.
 *
 * That the database takes them is test_signed_context.py's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "auth/sign.h"
#include "base/buf.h"

#define KEY "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"

static void complain(void *arg, const char *file, int line, const char *text)
{
	buf_printf(arg, "%s:%d: %s\n", file, line, text);
}

static struct sign_keys *parse(const char *text, struct buf *faults)
{
	return sign_keys_parse(slice_str(text), "keys", complain, faults);
}

static struct sign_keys *parse_good(const char *text)
{
	struct buf faults = { 0 };
	struct sign_keys *keys = parse(text, &faults);

	if (buf_len(&faults))
		fail_msg("%s", buf_cstr(&faults));
	assert_non_null(keys);
	return keys;
}

/* By Python's hmac module, over "k1:2:42:1234:1700000000000001" and the like. */
static void test_signatures(void **state)
{
	static const struct {
		const char *file, *id;
		uint32_t pid;
		uint64_t start;
		const char *expected;
	} cases[] = {
		{"k1 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b\n",           "42",          1234,       1700000000000001,
                 "k1:866e06c71b0f061366c6b92dc87c5e9bfd284d4530cf3c5ca27cb04df114d8fa"													       },
		{ "2026-11.a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",   "caf\xc3\xa9", 4294967295,
                 0,												      "2026-11.a:72fc34fc670c3a213dc25e0fd7477fa24460b6c0eeba95503bf0f45e02cc4e70"},
		{ "k 0102030405060708090a0b0c0d0e0f10111213141516171819\n", "",            1,          2,
                 "k:9883f522a61e41aea6520034207fbf7ea1dccda8642440b2ed6a6dca6bc7890b"														},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sign_keys *keys = parse_good(cases[i].file);
		char out[SIGN_MAX];

		assert_true(
		    sign_context(keys, slice_str(cases[i].id), cases[i].pid, cases[i].start, out));
		assert_string_equal(out, cases[i].expected);
		sign_keys_free(keys);
	}
}

static void test_the_longest(void **state)
{
	char file[SIGN_KEY_ID_MAX + 2 * SIGN_KEY_MAX + 3], id[SIGN_ID_MAX + 2], out[SIGN_MAX];
	struct sign_keys *keys;

	(void)state;
	memset(file, 'a', sizeof(file));
	file[SIGN_KEY_ID_MAX] = ' ';
	file[sizeof(file) - 1] = file[sizeof(file) - 2] = '\0';
	memset(id, 'x', sizeof(id));
	id[SIGN_ID_MAX + 1] = '\0';
	keys = parse_good(file);
	assert_false(sign_context(keys, slice_str(id), UINT32_MAX, UINT64_MAX, out));
	id[SIGN_ID_MAX] = '\0';
	assert_true(sign_context(keys, slice_str(id), UINT32_MAX, UINT64_MAX, out));
	assert_int_equal(strlen(out), SIGN_MAX - 1);
	sign_keys_free(keys);
}

/* A length before the id keeps it from being read as something else. */
static void test_what_is_signed_is_unambiguous(void **state)
{
	struct sign_keys *keys = parse_good("k1 " KEY);
	char a[SIGN_MAX], b[SIGN_MAX];

	(void)state;
	assert_true(sign_context(keys, SLICE("7:1"), 23, 4, a));
	assert_true(sign_context(keys, SLICE("7"), 1, 23, b));
	assert_string_not_equal(a, b);
	assert_true(sign_context(keys, SLICE("7"), 1, 24, a));
	assert_string_not_equal(a, b);
	sign_keys_free(keys);
}

static void test_marks(void **state)
{
	struct sign_keys *a = parse_good("k1 " KEY),
			 *b = parse_good("# new\nk1 " KEY "\r\nk2 " KEY);
	struct sign_keys *c = parse_good("k2 " KEY), *d = parse_good("k1 " KEY "00");

	(void)state;
	assert_true(sign_keys_mark(a) != 0);
	assert_true(sign_keys_mark(a) == sign_keys_mark(b));
	assert_true(sign_keys_mark(a) != sign_keys_mark(c));
	assert_true(sign_keys_mark(a) != sign_keys_mark(d));
	sign_keys_free(a);
	sign_keys_free(b);
	sign_keys_free(c);
	sign_keys_free(d);
}

static void test_faults(void **state)
{
	static const struct {
		const char *file, *fault;
	} cases[] = {
		{"",					"keys:0: no key in it"                           },
		{ "# none\n\n; none\n",                     "keys:0: no key in it"                           },
		{ "k1 " KEY "\n" KEY,                       "keys:2: the line does not begin with a key's id"},
		{ "a:b " KEY,			       "keys:1: the line does not begin with a key's id"},
		{ "a2345678901234567890123456789012x " KEY,
                 "keys:1: the line does not begin with"                                                      },
		{ "\nk1",				   "keys:2: behind the id has to stand"             },
		{ "k1 4a656665",                            "keys:1: behind the id has to stand"             },
		{ "k1 " KEY "0",                            "keys:1: behind the id has to stand"             },
		{ "k1 " KEY KEY KEY KEY,                    "keys:1: behind the id has to stand"             },
		{ "k1 0g" KEY,                              "keys:1: the key is not written in hex"          },
		{ "k1 " KEY " k2",                          "keys:1: something stands behind the key"        },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf faults = { 0 };

		sign_keys_free(parse(cases[i].file, &faults));
		if (!strstr(buf_cstr(&faults), cases[i].fault))
			fail_msg("%zu: \"%s\"", i, buf_cstr(&faults));
		assert_null(strstr(buf_cstr(&faults), "0b0b"));
		buf_fini(&faults);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_signatures),
		cmocka_unit_test(test_the_longest),
		cmocka_unit_test(test_what_is_signed_is_unambiguous),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_faults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
