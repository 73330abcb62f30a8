/* SPDX-License-Identifier: ISC
 *
 * test_tenant.c - the tenants that a thread knows, and how long it does.
 */
#include "tenant/tenant.h"

#include "base/mem.h"
#include "config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#define INI                                                                                        \
	"[pgturnstile]\nauth_type = trust\ntenant_by = user\nunknown_tenant = t\n"                 \
	"[databases]\n* = host=127.0.0.1\n[tiers]\nt = statement_timeout=%s rate=5/s\n"

static struct tenant *get(struct tenants *table, const struct config *config, unsigned i)
{
	char name[32];

	snprintf(name, sizeof(name), "t%u", i);
	return tenant_get(table, config, slice_str(name), name, NULL);
}

static void test_kept_for_a_while(void **state PGT_UNUSED)
{
	char ini[512];
	struct config *config;
	struct latency_clock clock;
	struct tenants table;
	struct tenant *first;

	snprintf(ini, sizeof(ini), INI, "15s");
	config = config_of_text(ini);
	latency_clock_init(&clock, 0);
	tenants_init(&table, &clock);
	first = get(&table, config, 0);
	assert_ptr_equal(get(&table, config, 0), first);
	tenant_unref(first);
	tenant_count(first, TENANT_STATEMENTS, 7);
	tenant_unref(first);
	assert_ptr_equal(get(&table, config, 0), first);
	assert_int_equal(first->counts[TENANT_STATEMENTS], 7);
	tenant_unref(first);
	/* Let go of before as many others as are kept, it is forgotten, and what it counted is not.
	 */
	for (unsigned i = 1; i <= TENANTS_KEPT; i++)
		tenant_unref(get(&table, config, i));
	assert_int_equal(table.nunused, TENANTS_KEPT);
	assert_int_equal(table.by_name.count, TENANTS_KEPT);
	first = get(&table, config, 0);
	assert_int_equal(first->counts[TENANT_STATEMENTS], 0);
	assert_int_equal(first->shared->counts[TENANT_STATEMENTS], 7);
	assert_int_equal(table.nunused, TENANTS_KEPT);
	tenant_unref(first);
	tenants_fini(&table);
	assert_int_equal(table.by_name.count, 0);
	config_unref(config);
}

static bool is_remembered(const char *name)
{
	struct shared *s = shared_find(SHARED_TENANT, slice_str(name));

	shared_put(s);
	return s != NULL;
}

static void test_i6_strangers_are_forgotten(void **state PGT_UNUSED)
{
	struct tenants table;
	struct tenant *present;
	struct config *config;
	char name[32];

	config = config_of_format(INI "[tenants]\nknown = business_id=7\n", "15s");
	tenants_init(&table, NULL);
	tenant_unref(tenant_get(&table, config, SLICE("known"), "7",
				config_tenant_by_name(config, SLICE("known"))));
	present = tenant_get(&table, config, SLICE("present"), "8", NULL);
	for (unsigned i = 0; i < SHARED_STRANGERS + TENANTS_KEPT + 3; i++) {
		snprintf(name, sizeof(name), "stranger %u", i);
		tenant_unref(tenant_get(&table, config, slice_str(name), name, NULL));
		/* One that comes again is not the oldest any more. */
		assert_true(is_remembered("stranger 0"));
	}
	assert_false(is_remembered("stranger 1"));
	assert_false(is_remembered("stranger 2"));
	assert_true(is_remembered("stranger 4"));
	assert_true(is_remembered("present"));
	assert_true(is_remembered("known"));
	tenant_unref(present);
	tenants_fini(&table);
	config_unref(config);
}

static void test_another_configuration(void **state PGT_UNUSED)
{
	char ini[512];
	struct config *before, *after;
	struct latency_clock clock;
	struct tenants table;
	struct tenant *used, *unused;

	snprintf(ini, sizeof(ini), INI, "15s");
	before = config_of_text(ini);
	snprintf(ini, sizeof(ini), INI, "3s");
	after = config_of_text(ini);
	latency_clock_init(&clock, 0);
	tenants_init(&table, &clock);
	used = get(&table, before, 1);
	unused = get(&table, before, 2);
	tenant_unref(unused);
	assert_int_equal(tenant_timeout_cap(used), 15 * USEC_PER_SEC);
	tenants_configure(&table, after);
	assert_int_equal(tenant_timeout_cap(used), 3 * USEC_PER_SEC);
	assert_int_equal(tenant_timeout_cap(get(&table, after, 2)), 3 * USEC_PER_SEC);
	assert_false(used->gone);
	tenant_unref(used);
	tenant_unref(unused);
	tenants_fini(&table);
	config_unref(before);
	config_unref(after);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept_for_a_while),
		cmocka_unit_test(test_i6_strangers_are_forgotten),
		cmocka_unit_test(test_another_configuration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
