/* SPDX-License-Identifier: ISC
 *
 * test_part.c - pools that several workers share: how many parts, and that they are the whole.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config_rig.h"
#include "pool/pool.h"

#define INI                                                                                        \
	"[pgturnstile]\nauth_type = trust\ntenant_by = user\npool_workers = 4\n"                   \
	"default_pool_size = 20\n[databases]\nshop = host=127.0.0.1 %s\n"                          \
	"[tiers]\nsmall = pool_size=2\n[tenants]\nacme = tier=small business_id=42\n%s"

static unsigned parts_of(const char *database, const char *sections, const char *tenant)
{
	struct config *config = config_of_format(INI, database, sections);
	const struct group_key key = { SLICE("shop"), SLICE("app"), slice_str(tenant), 0, 0 };
	unsigned parts = group_parts(config, config_database(config, SLICE("shop")), &key);

	config_unref(config);
	return parts;
}

static void test_i5_each_part_has_a_server(void **state PGT_UNUSED)
{
	assert_int_equal(parts_of("", "", ""), 4);
	assert_int_equal(parts_of("pool_workers=1", "", ""), 1);
	assert_int_equal(parts_of("pool_workers=3", "", ""), 3);
	assert_int_equal(parts_of("pool_size=3", "", ""), 3);
	assert_int_equal(parts_of("pool_size=1", "", ""), 1);
	assert_int_equal(parts_of("pool_size=0", "", ""), 4);
	/* A tenant's pool is as large as its tier says. */
	assert_int_equal(parts_of("", "", "acme"), 2);
	assert_int_equal(parts_of("", "[users]\napp = pool_size=2\n", ""), 2);
	assert_int_equal(parts_of("", "[lanes]\nreports = pool_size=1\n", ""), 1);
	assert_int_equal(parts_of("", "[lanes]\nreports = statement_timeout=1h\n", ""), 4);
}

static void test_i5_portions_are_the_whole(void **state PGT_UNUSED)
{
	for (unsigned parts = 1; parts <= 9; parts++)
		for (unsigned whole = 0; whole <= 30; whole++) {
			unsigned sum = 0;

			for (unsigned part = 0; part < parts; part++) {
				const struct group group = { .part = part, .parts = parts };
				unsigned own = group_portion(&group, whole);

				assert_in_range(own, whole / parts, whole / parts + 1);
				sum += own;
			}
			assert_int_equal(sum, whole);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_i5_each_part_has_a_server),
		cmocka_unit_test(test_i5_portions_are_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
