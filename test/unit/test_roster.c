/* SPDX-License-Identifier: ISC
 *
 * test_roster.c - tenants of a database: what rows mean, who wins, what is found.
 */
#include "config/roster.h"

#include "base/assert.h"
#include "config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define NAMES_MAX 8
#define GOLD      "gold = rate=100/s\n"

static struct config *config_of(const char *tiers)
{
	return config_of_format("[pgturnstile]\nauth_type = trust\ntenant_by = user, user_suffix\n"
				"tenant_query = SELECT 1\nmonitor_user = m\n"
				"[databases]\nshop = host=127.0.0.1\n"
				"[tiers]\nbasic = weight=1\n%s"
				"[tenants]\nacme = tier=basic business_id=42\n",
				tiers);
}

static unsigned slices_of(const char *const texts[], struct slice out[NAMES_MAX])
{
	unsigned n = 0;

	for (; n < NAMES_MAX && texts[n]; n++)
		out[n] = slice_str(texts[n]);
	return n;
}

static struct roster_columns columns_of(const char *const names[])
{
	struct slice slices[NAMES_MAX];
	unsigned n = slices_of(names, slices);
	struct roster_columns columns;
	struct err e;

	if (!roster_read_columns(&columns, slices, n, &e))
		fail_msg("%s", e.text);
	return columns;
}

static const char *const plain[NAMES_MAX] = { "tenant", "business_id", "tier", "rate", "burst" };

/* "": NULL. */
static enum roster_verdict take(struct roster *r, const struct config *c, const char *name,
				const char *id, const char *tier, const char *rate,
				const char *burst, struct err *e)
{
	const struct roster_columns columns = columns_of(plain);
	const char *const texts[NAMES_MAX] = { name, id, tier, rate, burst };
	struct slice values[NAMES_MAX];

	slices_of(texts, values);
	for (unsigned i = 0; i < columns.n; i++)
		if (!values[i].n)
			values[i].p = NULL;
	return roster_take(r, c, &columns, values, e);
}

static void test_columns(void **state)
{
	static const struct {
		const char *names[NAMES_MAX];
		const char *complaint; /* NULL: good */
	} rows[] = {
		{{ "tenant", "business_id" },                     NULL                       },
		{ { "quota", "business_id", "weight", "tenant" }, NULL                       },
		{ { "tenant", "business_id", "max_client_conn" }, NULL                       },
		{ { "tenant" },				   "no column \"business_id\""},
		{ { "business_id", "tier" },                      "no column \"tenant\""     },
		{ { "tenant", "business_id", "tier", "tier" },    "comes twice"              },
		{ { "tenant", "business_id", "rate", "rate" },    "comes twice"              },
		{ { "tenant", "busines_id" },                     "did you mean business_id" },
		{ { "tenant", "business_id", "bursd" },           "did you mean burst"       },
		{ { "tenant", "business_id", "host" },            "unknown column"           },
		{ { "tenant", "business_id", "monitor_user" },    "unknown column"           },
	};
	struct slice names[NAMES_MAX];
	struct roster_columns columns;

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		unsigned n = slices_of(rows[i].names, names);
		struct err e = { .text = "" };

		if (roster_read_columns(&columns, names, n, &e) != !rows[i].complaint)
			fail_msg("row %zu: %s", i, e.text);
		if (rows[i].complaint && !strstr(e.text, rows[i].complaint))
			fail_msg("row %zu: %s", i, e.text);
	}
}

static void test_rows(void **state)
{
	static const struct {
		const char *name, *id, *tier, *rate, *burst;
		enum roster_verdict verdict;
		const char *complaint;
	} rows[] = {
		{"globex",  "7",  "basic", "",     "",  ROSTER_TAKEN,   NULL                      },
		{ "globex", "7",  "",      "",     "",  ROSTER_KNOWN,   NULL                      },
		{ "globex", "8",  "",      "",     "",  ROSTER_REFUSED, "has business_id 7"       },
		{ "other",  "7",  "",      "",     "",  ROSTER_REFUSED, "belongs to tenant globex"},
		{ "acme",   "42", "",      "",     "",  ROSTER_IN_FILE, NULL                      },
		{ "acme",   "9",  "",      "",     "",  ROSTER_IN_FILE, NULL                      },
		{ "other",  "42", "",      "",     "",  ROSTER_REFUSED, "tenant acme of the file" },
		{ "",       "1",  "",      "",     "",  ROSTER_REFUSED, "tenant is empty"         },
		{ "other",  "",   "",      "",     "",  ROSTER_REFUSED, "business_id is empty"    },
		{ "other",  "1",  "gold",  "",     "",  ROSTER_REFUSED, "no tier \"gold\""        },
		{ "other",  "1",  "",      "lots", "",  ROSTER_REFUSED, "rate: "                  },
		{ "other",  "1",  "",      "",     "5", ROSTER_REFUSED, "burst without rate"      },
		{ "other",  "1",  "",      "3/s",  "5", ROSTER_TAKEN,   NULL                      },
	};
	struct config *c = config_of("");
	struct roster *r = roster_new();

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct err e = { .text = "" };

		assert_int_equal(take(r, c, rows[i].name, rows[i].id, rows[i].tier, rows[i].rate,
				      rows[i].burst, &e),
				 rows[i].verdict);
		if (rows[i].complaint && !strstr(e.text, rows[i].complaint))
			fail_msg("row %zu: %s", i, e.text);
	}
	assert_int_equal(roster_count(r), 2);
	roster_unref(r);
	config_unref(c);
}

/* A config of the file and a roster with globex in it. */
static struct config *with_globex(const char *rate)
{
	struct config *c = config_of(""), *with;
	struct roster *r = roster_new();
	struct err e;

	assert_int_equal(take(r, c, "globex", "7", "basic", rate, "", &e), ROSTER_TAKEN);
	with = config_with_roster(c, r);
	config_unref(c);
	return with;
}

static void test_lookup(void **state)
{
	struct config *c = with_globex("3/s");
	const struct tenant_conf *globex = config_tenant_by_name(c, SLICE("globex"));
	struct settings set;

	(void)state;
	assert_non_null(globex);
	assert_string_equal(globex->business_id, "7");
	assert_string_equal(globex->tier->name, "basic");
	assert_ptr_equal(globex, config_tenant_by_business_id(c, SLICE("7")));
	assert_ptr_equal(globex, config_tenant_by_user(c, SLICE("globex")));
	assert_null(config_tenant_by_database(c, SLICE("globex"))); /* no way to tell them */
	assert_null(config_tenant_by_name(c, SLICE("7")));
	assert_non_null(config_tenant_by_name(c, SLICE("acme")));
	settings_resolve(c, NULL, NULL, globex, NULL, &set);
	assert_int_equal(set.rate.count, 3);
	config_unref(c);
}

/* A string is the roster's own. */
static void test_strings(void **state)
{
	static const char *const names[NAMES_MAX] = { "tenant", "business_id", "maintenance",
						      "readonly" };
	const struct roster_columns columns = columns_of(names);
	struct slice values[NAMES_MAX] = { SLICE("globex"), SLICE("7"), SLICE("back soon"),
					   SLICE("yes") };
	struct config *c = config_of("");
	struct roster *r = roster_new(), *copy;
	struct settings set;
	struct err e;

	(void)state;
	assert_int_equal(roster_take(r, c, &columns, values, &e), ROSTER_TAKEN);
	copy = roster_copy(r, c);
	assert_true(roster_is_equal(r, copy));
	roster_unref(r);
	settings_resolve(c, NULL, NULL, roster_at(copy, 0), NULL, &set);
	assert_string_equal(set.maintenance, "back soon");
	assert_true(set.readonly);
	roster_unref(copy);
	config_unref(c);
}

static void test_set_keeps_the_roster(void **state)
{
	struct config *c = with_globex("");
	struct err e;
	struct config *with = config_with(c, SLICE("query_timeout"), "5", &e);

	(void)state;
	assert_non_null(with);
	config_unref(c);
	assert_non_null(config_tenant_by_name(with, SLICE("globex")));
	config_unref(with);
}

static void test_reload_keeps_what_fits(void **state)
{
	struct config *old = config_of(GOLD), *c;
	struct roster *r = roster_new();
	struct err e;

	(void)state;
	take(r, old, "globex", "7", "basic", "3/s", "4", &e);
	take(r, old, "rich", "8", "gold", "", "", &e);
	c = config_with_roster(old, r);
	config_unref(old);
	old = c;
	c = config_inherit_roster(config_of(""), old);
	config_unref(old);
	assert_int_equal(roster_count(c->roster), 1);
	assert_string_equal(config_tenant_by_name(c, SLICE("globex"))->tier->name, "basic");
	assert_int_equal(config_tenant_by_name(c, SLICE("globex"))->own.n, 2);
	assert_null(config_tenant_by_name(c, SLICE("rich")));
	config_unref(c);
}

static void test_equality(void **state)
{
	struct config *c = config_of(GOLD);
	struct roster *a = roster_new(), *b = roster_new(), *other = roster_new();
	struct err e;

	(void)state;
	take(a, c, "x", "1", "basic", "3/s", "", &e);
	take(a, c, "y", "2", "gold", "", "", &e);
	take(b, c, "y", "2", "gold", "", "", &e);
	take(b, c, "x", "1", "basic", "3/s", "", &e);
	take(other, c, "x", "1", "basic", "4/s", "", &e);
	take(other, c, "y", "2", "gold", "", "", &e);
	assert_true(roster_is_equal(a, b));
	assert_false(roster_is_equal(a, other));
	/* What comes singly has changed nobody's terms yet. */
	roster_publish(a);
	take(a, c, "z", "3", "", "", "", &e);
	take(b, c, "z", "3", "", "", "", &e);
	assert_int_equal(roster_singles(a), 1);
	assert_false(roster_is_equal(a, b));
	roster_unref(a);
	roster_unref(b);
	roster_unref(other);
	config_unref(c);
}

/* Before and after others may look. */
static void test_many(void **state)
{
	enum { N = 20000 };
	struct config *c = config_of("");
	struct roster *r = roster_new();
	struct err e;

	(void)state;
	for (int i = 0; i < N; i++) {
		char name[16], id[16];

		snprintf(name, sizeof(name), "t%d", i);
		snprintf(id, sizeof(id), "i%d", i);
		assert_int_equal(take(r, c, name, id, "basic", i % 2 ? "3/s" : "", "", &e),
				 ROSTER_TAKEN);
		if (i == N / 2)
			roster_publish(r);
	}
	for (int i = 0; i < N; i++) {
		const struct tenant_conf *t = roster_at(r, (size_t)i);

		assert_ptr_equal(roster_by_name(r, slice_str(t->name)), t);
		assert_ptr_equal(roster_by_business_id(r, slice_str(t->business_id)), t);
	}
	roster_unref(r);
	config_unref(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_lookup),
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_set_keeps_the_roster),
		cmocka_unit_test(test_reload_keeps_what_fits),
		cmocka_unit_test(test_equality),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
