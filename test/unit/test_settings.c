/* SPDX-License-Identifier: ISC
 *
 * test_settings.c - the table of settings: every row, every type, names and words.
 */
#include "config/settings.h"

#include "base/mem.h"
#include "config/types.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EACH(s)                                                                                    \
	(const struct setting *(s) = settings_table; (s) < settings_table + NSETTINGS; (s)++)

static const struct setting *global(const char *name)
{
	const struct setting *s = settings_find(slice_str(name), SCOPE_GLOBAL);

	assert_non_null(s);
	return s;
}

/* What SHOW CONFIG says after `name = text`, to be freed; NULL when the text is refused. */
static char *shown(const struct setting *setting, const char *text)
{
	struct settings s;
	struct buf out = { 0 };
	char *result = NULL;
	struct err e = { "", "", "" };

	settings_defaults(&s);
	if (setting_parse(setting, text, &s, &e)) {
		setting_format(setting, &s, &out);
		result = xstrdup(buf_cstr(&out));
	} else {
		assert_true(strlen(e.sqlstate) == 5);
		assert_true(strlen(e.text) > 0);
	}
	buf_fini(&out);
	return result;
}

static void expect_shown(const struct setting *setting, const char *text, const char *want)
{
	char *got = shown(setting, text);

	if (want)
		assert_string_equal(got ? got : "(refused)", want);
	else
		assert_null(got);
	free(got);
}

static void test_every_setting_takes_its_own_formatted_default(void **state)
{
	struct settings defaults, again;

	settings_defaults(&defaults);
	for
		EACH(s)
		{
			struct buf out = { 0 };

			settings_defaults(&again);
			setting_format(s, &defaults, &out);
			assert_true(setting_parse(s, buf_cstr(&out), &again, NULL));
			assert_true(setting_is_equal(s, &defaults, &again));
			buf_fini(&out);
		}
}

static void test_every_number_takes_its_bounds_and_nothing_beyond(void **state)
{
	char text[32];

	for
		EACH(s)
		{
			const struct setting_type *type = s->type;

			if (type->max == 0)
				continue;
			snprintf(text, sizeof(text), "%llu", (unsigned long long)type->max);
			expect_shown(s, text, text);
			snprintf(text, sizeof(text), "%llu", (unsigned long long)type->max + 1);
			expect_shown(s, text, NULL);
			snprintf(text, sizeof(text), "%llu", (unsigned long long)type->min);
			expect_shown(s, text, text);
			if (type->min) {
				snprintf(text, sizeof(text), "%llu",
					 (unsigned long long)type->min - 1);
				expect_shown(s, text, NULL);
			}
			expect_shown(s, "-1", NULL);
			expect_shown(s, "", NULL);
			expect_shown(s, "99999999999999999999999999", NULL);
		}
}

static void test_every_word_of_every_enum_is_taken_or_refused_with_a_reason(void **state)
{
	for
		EACH(s)
	for (const struct setting_word *w = s->type->words; w && w->name; w++) {
		char *got = shown(s, w->name);

		assert_int_equal(got == NULL, w->refused != NULL);
		free(got);
	}
}

/* "local7" stands for those before it. */
static void test_every_word_is_told_to_who_is_refused(void **state)
{
	for
		EACH(s)
	for (const struct setting_word *w = s->type->words; w && w->name; w++)
		if (strncmp(w->name, "local", 5) != 0 && !strstr(s->type->syntax, w->name))
			fail_msg("%s: \"%s\" does not stand in \"%s\"", s->name, w->name,
				 s->type->syntax);
}

static void test_every_row_is_whole(void **state)
{
	for
		EACH(s)
		{
			assert_true(s->scopes & (SCOPE_GLOBAL | SCOPE_DATABASE | SCOPE_USER |
						 SCOPE_TIER | SCOPE_TENANT));
			assert_true(strlen(s->doc) > 10);
			assert_true(s->type->size <= sizeof(union setting_value));
			assert_ptr_equal(&settings_table[s - settings_table], s);
		}
	assert_string_equal(settings_table[SETTING_pool_mode].name, "pool_mode");
}

static void test_durations(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"15",         "15"        },
                { "15s",       "15"        },
		{ "0.5",       "0.5"       },
                { "500ms",     "0.5"       },
		{ "500 ms",    "0.5"       },
                { "1us",       "0.000001"  },
		{ "1.5min",    "90"        },
                { "2m",        "120"       },
		{ "1h",        "3600"      },
                { "1d",        "86400"     },
		{ ".5",        "0.5"       },
                { "5.",        "5"         },
		{ "0",         "0"         },
                { "1.0000001", "1"         },
		{ "s",         NULL        },
                { ".",         NULL        },
		{ "1.2.3",     NULL        },
                { "1 week",    NULL        },
		{ "-1",        NULL        },
                { "",          NULL        },
		{ "1e3",       NULL        },
                { "36500d",    "3153600000"},
		{ "36501d",    NULL        },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++)
		expect_shown(global("query_timeout"), rows[i].text, rows[i].want);
}

static void test_sizes(void **state)
{
	expect_shown(global("parse_max_size"), "32kB", "32768");
	expect_shown(global("parse_max_size"), "1.5MB", "1572864");
	expect_shown(global("parse_max_size"), "1GB", "1073741824");
	expect_shown(global("parse_max_size"), "2GB", NULL);
	expect_shown(global("parse_max_size"), "32q", NULL);
}

static void test_the_busiest(void **state)
{
	const struct setting *s = &settings_table[SETTING_metrics_tenants];

	expect_shown(s, "top:1", "top:1");
	expect_shown(s, "top:10000", "top:10000");
	expect_shown(s, "none", "none");
	expect_shown(s, "top:0", NULL);
	expect_shown(s, "top:10001", NULL);
	expect_shown(s, "top:", NULL);
	expect_shown(s, "50", NULL);
}

static void test_rates(void **state)
{
	const struct setting *rate = settings_find(SLICE("rate"), SCOPE_TIER);
	const struct setting *quota = settings_find(SLICE("quota"), SCOPE_TENANT);
	const struct setting *exec = settings_find(SLICE("exec_rate"), SCOPE_TIER);
	const struct setting *bandwidth = settings_find(SLICE("bandwidth"), SCOPE_TENANT);

	expect_shown(rate, "1000/s", "1000/s");
	expect_shown(rate, "20/m", "20/m");
	expect_shown(rate, "20/min", "20/m");
	expect_shown(rate, "7/h", "7/h");
	expect_shown(rate, "7/d", "7/d");
	expect_shown(rate, "0", "0");
	expect_shown(quota, "1000/h,10000/d", "1000/h,10000/d");
	expect_shown(quota, " 10000/d , 1000/h", "1000/h,10000/d");
	expect_shown(quota, "0/d", "0");
	expect_shown(quota, "1/h,2/h", NULL);
	expect_shown(quota, "1/h,2/m", NULL);
	expect_shown(quota, "", NULL);
	expect_shown(exec, "2s/s", "2s/s");
	expect_shown(exec, "500ms/s", "0.5s/s");
	expect_shown(exec, "1h/d", "3600s/d");
	expect_shown(exec, "0", "0");
	expect_shown(exec, "2s", NULL);
	expect_shown(exec, "2parsecs/s", NULL);
	expect_shown(bandwidth, "10MB/s", "10485760/s");
	expect_shown(bandwidth, "100/m", "100/m");
	expect_shown(bandwidth, "0", "0");
	expect_shown(bandwidth, "10MB", NULL);
	expect_shown(rate, "0/s", "0");
	expect_shown(rate, "20", NULL);
	expect_shown(rate, "20/", NULL);
	expect_shown(rate, "/s", NULL);
	expect_shown(rate, "20/ms", NULL);
	expect_shown(rate, "20/fortnight", NULL);
	expect_shown(quota, "1000/h", "1000/h");
	expect_shown(quota, "1000/d", "1000/d");
	expect_shown(quota, "1000/s", NULL);
	assert_null(settings_find(SLICE("rate"), SCOPE_GLOBAL));
}

static void test_words_and_lists(void **state)
{
	expect_shown(global("tenant_by"), "user_suffix,startup", "user_suffix, startup");
	expect_shown(global("tenant_by"), "", "");
	expect_shown(global("tenant_by"), "user, user", NULL);
	expect_shown(global("tenant_by"), "sni,set,comment", "sni, set, comment");
	expect_shown(global("tenant_setting"), "app.tenant_2", "app.tenant_2");
	expect_shown(global("tenant_setting"), "tenant", NULL);
	expect_shown(global("tenant_setting"), "app.", NULL);
	expect_shown(global("tenant_setting"), ".app", NULL);
	expect_shown(global("tenant_setting"), "App.Tenant", NULL);
	expect_shown(global("tenant_setting"), "app.x y", NULL);
	expect_shown(global("client_tls_protocols"), "tlsv1.3,tlsv1.2", "secure");
	expect_shown(global("client_tls_protocols"), "tlsv1.3, tlsv1.1", "tlsv1.1,tlsv1.3");
	expect_shown(global("client_tls_protocols"), "legacy", "all");
	expect_shown(global("client_tls_protocols"), "ssl3", NULL);
	expect_shown(global("workers"), "auto", "auto");
	expect_shown(global("unix_socket_mode"), "770", "0770");
	expect_shown(global("unix_socket_mode"), "0780", NULL);
	expect_shown(global("log_stats"), "Off", "0");
	expect_shown(global("log_stats"), "maybe", NULL);
	expect_shown(global("pool_mode"), "Transaction", "transaction");
}

static void test_i9_secrets_are_not_shown(void **state)
{
	expect_shown(global("monitor_password"), "hunter2", "****");
	expect_shown(global("monitor_password"), "", "");
}

static void test_refusals_say_why(void **state)
{
	struct settings s;
	struct err e;

	settings_defaults(&s);
	assert_false(setting_parse(global("auth_type"), "gss", &s, &e));
	assert_non_null(strstr(e.text, "pam, ldap or jwt"));
	assert_false(setting_parse(global("max_client_conn"), "many", &s, &e));
	assert_string_equal(e.text, "\"many\" is not a whole number from 0 to 2147483647");
	assert_int_equal(s.max_client_conn, 100);
}

static void test_names_depend_on_the_place(void **state)
{
	const struct setting *size = global("default_pool_size");

	assert_ptr_equal(settings_find(SLICE("pool_size"), SCOPE_DATABASE), size);
	assert_ptr_equal(settings_find(SLICE("pool_size"), SCOPE_TENANT), size);
	assert_null(settings_find(SLICE("pool_size"), SCOPE_GLOBAL));
	assert_null(settings_find(SLICE("default_pool_size"), SCOPE_DATABASE));
	assert_ptr_equal(settings_find(SLICE("reserve_pool"), SCOPE_DATABASE),
			 settings_find(SLICE("reserve_pool_size"), SCOPE_DATABASE));
	assert_ptr_equal(settings_find(SLICE("max_client_conn"), SCOPE_TIER),
			 &settings_table[SETTING_tenant_max_client_conn]);
	assert_null(settings_find(SLICE("listen_addr"), SCOPE_DATABASE));
}

static void expect_nearest(const char *name, const char *want)
{
	struct nearest n = { .wanted = slice_str(name), .distance = UINT_MAX };

	settings_nearest(&n, SCOPE_GLOBAL);
	assert_int_equal(nearest_is_near(&n), want != NULL);
	if (want)
		assert_true(slice_is_equal(n.name, slice_str(want)));
}

static void test_the_nearest_name(void **state)
{
	expect_nearest("pool_mod", "pool_mode");
	expect_nearest("Pool_Mode", "pool_mode");
	expect_nearest("max_clients_conn", "max_client_conn");
	expect_nearest("xyzzy", NULL);
	expect_nearest("a_name_that_is_far_longer_than_any_setting_that_we_have", NULL);
}

static void test_lists_of_words(void **state)
{
	struct slice rest = SLICE(" a, ,b ,,"), word;

	assert_true(list_next(&rest, &word) && slice_is_equal(word, SLICE("a")));
	assert_true(list_next(&rest, &word) && slice_is_equal(word, SLICE("b")));
	assert_false(list_next(&rest, &word));
	assert_true(list_has("ops, dev", SLICE("dev")));
	assert_true(list_has("*", SLICE("dev")));
	assert_false(list_has("", SLICE("dev")));
	assert_false(list_has("develop", SLICE("dev")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_setting_takes_its_own_formatted_default),
		cmocka_unit_test(test_every_number_takes_its_bounds_and_nothing_beyond),
		cmocka_unit_test(test_every_word_of_every_enum_is_taken_or_refused_with_a_reason),
		cmocka_unit_test(test_every_word_is_told_to_who_is_refused),
		cmocka_unit_test(test_every_row_is_whole),
		cmocka_unit_test(test_durations),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_the_busiest),
		cmocka_unit_test(test_rates),
		cmocka_unit_test(test_words_and_lists),
		cmocka_unit_test(test_i9_secrets_are_not_shown),
		cmocka_unit_test(test_refusals_say_why),
		cmocka_unit_test(test_names_depend_on_the_place),
		cmocka_unit_test(test_the_nearest_name),
		cmocka_unit_test(test_lists_of_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
