/* SPDX-License-Identifier: ISC
 *
 * test_md5.c - md5 hashes as PostgreSQL makes them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "auth/md5.h"

/* Of PostgreSQL 15: CREATE ROLE m5 PASSWORD 'secret'; and of the PgBouncer manual. */
#define OF_POSTGRES  "md59a96608d07d97a3bb68405788126af00"
#define OF_PGBOUNCER "md545f2603610af569b6155c45067268c6b"

static const uint8_t salt[MD5_SALT_LEN] = { 0x01, 0x00, 0xfe, 0x80 };

static void test_stored_hash(void **state)
{
	char out[MD5_BUF_LEN];

	(void)state;
	assert_true(md5_hash_password(SLICE("m5"), SLICE("secret"), out));
	assert_string_equal(out, OF_POSTGRES);
	assert_true(md5_hash_password(SLICE("admin"), SLICE("1234"), out));
	assert_string_equal(out, OF_PGBOUNCER);
}

static void test_answer(void **state)
{
	char out[MD5_BUF_LEN];

	(void)state;
	assert_true(md5_answer(OF_POSTGRES, salt, out));
	assert_string_equal(out, "md5fc6d3598232c59d3dbdac6f8470556cd");
	/* What is left where a hash could not be made gives no answer that could match. */
	assert_false(md5_answer("", salt, out));
	assert_string_equal(out, "");
}

static void test_form(void **state)
{
	static const char *bad[] = {
		"",
		"md5",
		"md59a96608d07d97a3bb68405788126af0",
		"md59a96608d07d97a3bb68405788126af000",
		"md59A96608d07d97a3bb68405788126af00",
		"md59g96608d07d97a3bb68405788126af00",
		"MD59a96608d07d97a3bb68405788126af00",
	};

	(void)state;
	assert_true(md5_is_hash(SLICE(OF_POSTGRES)));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(md5_is_hash(slice_str(bad[i])));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stored_hash),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
