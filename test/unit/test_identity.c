/* SPDX-License-Identifier: ISC
 *
 * test_identity.c - who a client is by its startup packet: user, database, settings, tenant.
 */
#include "client/identity.h"

#include "base/assert.h"
#include "base/mem.h"
#include "config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define TIERS "[tiers]\nbasic = weight=1\n"
#define TENANTS                                                                                    \
	"[tenants]\nacme = tier=basic business_id=42 user=anna database=acme_db\n"                 \
	"globex = tier=basic business_id=7 user=bob\n"
#define TLS                                                                                        \
	"client_tls_sslmode = allow\nclient_tls_key_file = k.pem\nclient_tls_cert_file = c.pem\n"
#define SHOP "[databases]\nshop = host=127.0.0.1\nacme_db = host=127.0.0.1 dbname=shop user=owner\n"

/* settings: of the tenants; "": there are none. */
static struct config *config_of(const char *settings)
{
	return config_of_format("[pgturnstile]\nauth_type = trust\n%s\n%s%s", settings,
				*settings ? TIERS TENANTS : "", SHOP);
}

/* packet: "name=value" words that end with NULL. */
static bool identity_of(struct identity *id, const char *const packet[], struct err *e)
{
	struct startup startup = { .kind = STARTUP_SESSION };
	struct buf params = { 0 };
	bool ok;

	for (; *packet; packet++) {
		const char *equal = strchr(*packet, '=');

		buf_put(&params, *packet, (size_t)(equal - *packet));
		buf_put_u8(&params, 0);
		buf_put_cstr(&params, equal + 1);
	}
	buf_put_u8(&params, 0);
	startup.params = buf_peek(&params);
	ok = identity_init(id, &startup, e);
	buf_fini(&params);
	return ok;
}

#define PACKET_MAX 6

static void test_tenants(void **state)
{
	static const struct {
		const char *settings;
		const char *packet[PACKET_MAX];
		const char *tenant, *business_id; /* NULL: refused */
		const char *sqlstate;
		const char *auth_user;
	} rows[] = {
  /* the ways */
		{"tenant_by = user",                                 { "user=anna", "database=shop" }, "acme", "42",    "",      "anna" },
		{ "tenant_by = database",                            { "user=x", "database=acme_db" }, "acme", "42",    "",      "x"    },
		{ "tenant_by = user_suffix",
                 { "user=app.acme", "database=shop" },
                 "acme",										       "42",
                 "",													     "app"  },
		{ "tenant_by = user_suffix",
                 { "user=a.b.globex", "database=shop" },
                 "globex",										     "7",
                 "",													     "a.b"  },
		{ "tenant_by = startup",
                 { "user=x", "database=shop", "app.current_business_id=7" },
                 "globex",										     "7",
                 "",													     "x"    },
		{ "tenant_by = startup",
                 { "user=x", "database=shop", "options=-c geqo=off -c APP.current_business_id=7" },
                 "globex",										     "7",
                 "",													     "x"    },
		{ "tenant_by = startup\ntenant_setting = my.tenant",
                 { "user=x", "database=shop", "options=--my.tenant=42" },
                 "acme",										       "42",
                 "",													     "x"    },
 /* in order */
		{ "tenant_by = user, user_suffix",
                 { "user=app.acme", "database=shop" },
                 "acme",										       "42",
                 "",													     "app"  },
		{ "tenant_by = startup, user",
                 { "user=anna", "database=shop", "app.current_business_id=7" },
                 "globex",										     "7",
                 "",													     "anna" },
		{ "tenant_by = startup, user",
                 { "user=anna", "database=shop" },
                 "acme",										       "42",
                 "",													     "anna" },
		{ "tenant_by = user, database",
                 { "user=bob", "database=acme_db" },
                 "globex",										     "7",
                 "",													     "bob"  },
 /* none */
		{ "",
                 { "user=anna", "database=shop", "app.current_business_id=7" },
                 "",											   "",
                 "",													     "anna" },
		{ "tenant_by = user",                                { "user=x", "database=shop" },    NULL,   NULL,    "28000", "x"    },
		{ "tenant_by = user_suffix",
                 { "user=app", "database=shop" },
                 NULL,											 NULL,
                 "28000",													"app"  },
		{ "tenant_by = user_suffix",
                 { "user=.acme", "database=shop" },
                 NULL,											 NULL,
                 "28000",													".acme"},
 /* empty: a violation, never a default */
		{ "tenant_by = user_suffix",
                 { "user=app.", "database=shop" },
                 NULL,											 NULL,
                 "42501",													"app"  },
		{ "tenant_by = startup",
                 { "user=x", "database=shop", "app.current_business_id=" },
                 NULL,											 NULL,
                 "42501",													"x"    },
		{ "tenant_by = startup\nunknown_tenant = basic",
                 { "user=x", "database=shop", "app.current_business_id=" },
                 NULL,											 NULL,
                 "42501",													"x"    },
 /* unknown */
		{ "tenant_by = user_suffix",
                 { "user=app.other", "database=shop" },
                 NULL,											 NULL,
                 "28000",													"app"  },
		{ "tenant_by = user_suffix\nunknown_tenant = basic",
                 { "user=app.other", "database=shop" },
                 "other",										      "other",
                 "",													     "app"  },
		{ "tenant_by = startup\nunknown_tenant = basic",
                 { "user=x", "database=shop", "app.current_business_id=99" },
                 "99",											 "99",
                 "",													     "x"    },
 /* unknown, but spelled as something of another's */
		{ "tenant_by = user_suffix\nunknown_tenant = basic",
                 { "user=app.42", "database=shop" },
                 NULL,											 NULL,
                 "28000",													"app"  },
		{ "tenant_by = startup\nunknown_tenant = basic",
                 { "user=x", "database=shop", "app.current_business_id=acme" },
                 NULL,											 NULL,
                 "28000",													"x"    },
 /* contradictions */
		{ "tenant_by = user",
                 { "user=anna", "database=shop", "app.current_business_id=42" },
                 "acme",										       "42",
                 "",													     "anna" },
		{ "tenant_by = user",
                 { "user=anna", "database=shop", "App.Current_Business_Id=7" },
                 NULL,											 NULL,
                 "42501",													"anna" },
		{ "tenant_by = user",
                 { "user=anna", "database=shop", "options=-capp.current_business_id=7" },
                 NULL,											 NULL,
                 "42501",													"anna" },
		{ "tenant_by = user",
                 { "user=anna", "database=shop", "app.current_business_id=" },
                 NULL,											 NULL,
                 "42501",													"anna" },
	};

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct config *config = config_of(rows[i].settings);
		struct identity id;
		struct err e;

		assert_true(identity_of(&id, rows[i].packet, &e));
		identity_resolve(&id, config);
		if (id.is_refused != !rows[i].tenant ||
		    (id.is_refused && strcmp(id.refusal.sqlstate, rows[i].sqlstate) != 0) ||
		    (rows[i].tenant && (strcmp(id.tenant, rows[i].tenant) != 0 ||
					strcmp(id.business_id, rows[i].business_id) != 0)) ||
		    strcmp(id.auth_user, rows[i].auth_user) != 0)
			fail_msg("row %zu: %s/%s as %s, %s", i, id.tenant, id.business_id,
				 id.auth_user, id.is_refused ? id.refusal.text : "let in");
		identity_fini(&id);
		config_unref(config);
	}
}

/* The refusal names the rule and what was said. */
static void test_messages(void **state)
{
	struct config *config = config_of("tenant_by = user_suffix");
	struct identity id;
	struct err e;

	(void)state;
	assert_true(identity_of(&id, (const char *const[]){ "user=app.other", NULL }, &e));
	identity_resolve(&id, config);
	assert_non_null(strstr(id.refusal.text, "\"other\""));
	assert_non_null(strstr(id.refusal.text, "tenant_by = user_suffix"));
	assert_non_null(strstr(id.refusal.text, "unknown_tenant = reject"));
	identity_fini(&id);
	config_unref(config);
}

static void test_users_and_databases(void **state)
{
	static const struct {
		const char *packet[PACKET_MAX];
		const char *user, *server_user, *database;
		bool is_console;
		const char *sqlstate; /* of a refusal after proof */
	} rows[] = {
		{{ "user=anna" },                               "anna", "anna",  "anna",        false, "3D000"},
		{ { "user=anna", "database=" },                 "anna", "anna",  "anna",        false, "3D000"},
		{ { "user=anna", "database=shop" },             "anna", "anna",  "shop",        false, ""     },
		{ { "user=anna", "database=acme_db" },          "anna", "owner", "acme_db",     false, ""     },
		{ { "user=anna", "user=bob", "database=shop" }, "bob",  "bob",   "shop",        false, ""     },
		{ { "user=anna", "database=*" },                "anna", "anna",  "*",           false, "3D000"},
		{ { "user=anna", "database=pgturnstile" },      "anna", NULL,    "pgturnstile", true,  ""     },
		{ { "user=anna", "database=pgbouncer" },        "anna", NULL,    "pgbouncer",   true,  ""     },
		{ { "user=anna", "database=PgBouncer" },
                 "anna",						"anna",
                 "PgBouncer",								   false,
                 "3D000"										      },
	};
	struct config *config = config_of("");

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct identity id;
		struct err e;

		assert_true(identity_of(&id, rows[i].packet, &e));
		identity_resolve(&id, config);
		identity_resolve(&id, config); /* may be repeated */
		assert_string_equal(id.user, rows[i].user);
		assert_string_equal(id.database, rows[i].database);
		assert_int_equal(id.is_console, rows[i].is_console);
		assert_int_equal(id.is_refused, *rows[i].sqlstate != '\0');
		if (id.is_refused)
			assert_string_equal(id.refusal.sqlstate, rows[i].sqlstate);
		if (rows[i].server_user)
			assert_string_equal(id.server_user, rows[i].server_user);
		identity_fini(&id);
	}
	config_unref(config);
}

static void test_settings(void **state)
{
	static const char *const packet[] = {
		"user=anna",         "application_name=a b",
		"_pq_.x=1",          "options=-c geqo=off --work-mem=8MB",
		"replication=false", NULL
	};
	struct identity id;
	struct err e;

	(void)state;
	assert_true(identity_of(&id, packet, &e));
	/* What options say comes first, since a parameter of the same name wins over it. */
	assert_int_equal(id.nsettings, 3);
	assert_string_equal(id.settings[0].name, "geqo");
	assert_string_equal(id.settings[1].name, "work_mem");
	assert_string_equal(id.settings[1].value, "8MB");
	assert_string_equal(id.settings[2].name, "application_name");
	assert_string_equal(id.settings[2].value, "a b");
	identity_fini(&id);
}

/* Refused after proof where there are tenants, who is one too. */
static void test_replication(void **state)
{
	static const char *const packet[] = { "user=anna", "database=shop", "replication=database",
					      NULL };
	static const char *const settings[] = { "", "tenant_by = user" };

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(settings); i++) {
		struct config *config = config_of(settings[i]);
		struct identity id;
		struct err e;

		assert_true(identity_of(&id, packet, &e));
		assert_int_equal(id.replication, REPLICATION_LOGICAL);
		assert_int_equal(id.nsettings, 0);
		identity_resolve(&id, config);
		assert_int_equal(id.is_refused, i > 0);
		if (id.is_refused)
			assert_string_equal(id.refusal.sqlstate, "42501");
		identity_fini(&id);
		config_unref(config);
	}
}

static void test_packets_that_make_no_sense(void **state)
{
	static const struct {
		const char *packet[PACKET_MAX];
		const char *sqlstate;
	} rows[] = {
		{{ "database=shop" },                     "28000"},
		{ { "user=", "database=shop" },           "28000"},
		{ { "user=anna", "replication=logical" }, "22023"},
		{ { "user=anna", "replication=" },        "22023"},
	};
	char *many[70] = { 0 };
	struct identity id;
	struct err e;

	(void)state;
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		assert_false(identity_of(&id, rows[i].packet, &e));
		assert_string_equal(e.sqlstate, rows[i].sqlstate);
		identity_fini(&id);
	}
	for (size_t i = 0; i < PGT_NELEMS(many) - 1; i++)
		many[i] = xstrdup(i ? "a=b" : "user=anna");
	assert_false(identity_of(&id, (const char *const *)many, &e));
	assert_string_equal(e.sqlstate, "08P01");
	identity_fini(&id);
	for (size_t i = 0; i < PGT_NELEMS(many) - 1; i++)
		free(many[i]);
}

/* The tenant by the host that is asked for over TLS. */
static void test_host_name(void **state)
{
	static const char *const packet[] = { "user=x", "database=shop", NULL };
	static const struct {
		const char *host, *tenant, *business_id; /* tenant NULL: refused */
		const char *sqlstate;
		bool in_tier; /* unknown ones are */
	} rows[] = {
		{"acme.db.example.com",       "acme",  "42",    "",      false},
		{ "Acme.DB.example.COM",      "acme",  "42",    "",      false},
		{ "other.db.example.com",     NULL,    NULL,    "28000", false},
		{ "other.db.example.com",     "other", "other", "",      true },
		{ "42.db.example.com",        NULL,    NULL,    "28000", true },
		{ "db.example.com",           NULL,    NULL,    "28000", true },
		{ ".db.example.com",          NULL,    NULL,    "28000", true },
		{ "x.acme.db.example.com",    NULL,    NULL,    "28000", true },
		{ "acme.db.example.com.evil", NULL,    NULL,    "28000", true },
		{ "acme",                     NULL,    NULL,    "28000", true },
		{ NULL,                       NULL,    NULL,    "28000", true },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct config *c = config_of(
		    rows[i].in_tier ? "tenant_by = sni\ntenant_sni_suffix = .db.example.com\n" TLS
				      "unknown_tenant = basic"
				    : "tenant_by = sni\ntenant_sni_suffix = db.example.com\n" TLS);
		struct identity id;
		struct err e;

		assert_true(identity_of(&id, packet, &e));
		if (rows[i].host)
			identity_set_host(&id, rows[i].host);
		identity_resolve(&id, c);
		assert_int_equal(id.is_refused, !rows[i].tenant);
		if (rows[i].tenant) {
			assert_string_equal(id.tenant, rows[i].tenant);
			assert_string_equal(id.business_id, rows[i].business_id);
		} else {
			assert_string_equal(id.refusal.sqlstate, rows[i].sqlstate);
		}
		identity_fini(&id);
		config_unref(c);
	}
}

/* What is asked for, one after the other; then who it is, or why it is refused. */
static void test_seeking(void **state)
{
#define SEEKS "tenant_query = SELECT 1\nmonitor_user = m\ntenant_by = "
	static const struct {
		const char *settings, *user;
		const char *sought[3];
		bool fails; /* the last lookup */
		const char *tenant, *sqlstate;
	} rows[] = {
		{SEEKS "user_suffix",                          "app.acme", { NULL },             false, "acme", NULL   },
		{ SEEKS "user_suffix",                         "app.new",  { "new" },            false, NULL,   "28000"},
		{ SEEKS "user_suffix",                         "app.new",  { "new" },            true,  NULL,   "57P03"},
		{ SEEKS "user_suffix",                         "app.",     { NULL },             false, NULL,   "42501"},
		{ SEEKS "user_suffix",                         "app",      { NULL },             false, NULL,   "28000"},
		{ SEEKS "user",				"anna",     { NULL },             false, "acme", NULL   },
		{ SEEKS "user",				"new",      { "new" },            false, NULL,   "28000"},
		{ SEEKS "user",				"new",      { "new" },            true,  NULL,   "57P03"},
		{ SEEKS "user, user_suffix",
                 "app.new",						{ "app.new", "new" },
                 false,										 NULL,
                 "28000"											       },
		{ SEEKS "user, user_suffix",                   "app.acme", { "app.acme" },       false, "acme", NULL   },
 /* It could be somebody with an id of its own. */
		{ SEEKS "user_suffix\nunknown_tenant = basic",
                 "app.new",						{ "new" },
                 true,										  NULL,
                 "57P03"											       },
		{ SEEKS "user_suffix\nunknown_tenant = basic",
                 "app.new",						{ "new" },
                 false,										 "new",
                 NULL												  },
		{ SEEKS "user_suffix\nunknown_tenant = basic",
                 "app.42",						 { "42" },
                 false,										 NULL,
                 "28000"											       },
	};
	struct err down, e;

	(void)state;
	err_set(&down, "57P03", "down");
	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct config *c = config_of(rows[i].settings);
		char user[32];
		const char *const packet[] = { user, "database=shop", NULL };
		struct identity id;
		unsigned n = 0;

		snprintf(user, sizeof(user), "user=%s", rows[i].user);
		assert_true(identity_of(&id, packet, &e));
		identity_resolve(&id, c);
		for (; n < 3 && rows[i].sought[n]; n++) {
			bool is_last = n == 2 || !rows[i].sought[n + 1];

			assert_string_equal(id.sought, rows[i].sought[n]);
			assert_true(id.is_refused);
			identity_answer(&id, is_last && rows[i].fails ? &down : NULL);
			identity_resolve(&id, c);
		}
		assert_string_equal(id.sought, "");
		if (rows[i].sqlstate)
			assert_string_equal(id.refusal.sqlstate, rows[i].sqlstate);
		else
			assert_string_equal(id.tenant, rows[i].tenant);
		assert_int_equal(id.is_refused, rows[i].sqlstate != NULL);
		identity_fini(&id);
		config_unref(c);
	}
#undef SEEKS
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_name),
		cmocka_unit_test(test_tenants),
		cmocka_unit_test(test_seeking),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_users_and_databases),
		cmocka_unit_test(test_settings),
		cmocka_unit_test(test_replication),
		cmocka_unit_test(test_packets_that_make_no_sense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
