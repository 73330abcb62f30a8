/* SPDX-License-Identifier: ISC
 *
 * test_config.c - loading files, finding entries, what holds for whom, reload, --upstream.
 *
 * Files are rows of a table; nothing is opened but the generated pages.
 */
#include "config/config.h"

#include "auth/userlist.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* --- helpers -------------------------------------------------------------------------------- */

struct file {
	const char *path;
	const char *text;
};

static bool read_table(void *arg, const char *path, bool is_secret, struct buf *text, struct err *e)
{
	for (const struct file *f = arg; f->path; f++)
		if (strcmp(f->path, path) == 0) {
			buf_put_slice(text, slice_str(f->text));
			return true;
		}
	return err_set(e, "58P01", "No such file or directory");
}

static struct config *load(const char *text, struct config_problems *p)
{
	const struct file files[] = {
		{"t.ini",      text				 },
		{ "users.txt", "\"app\" \"secret\"\n\"ops\" \"x\"\n"},
		{ NULL,        NULL				 }
	};

	return config_load("t.ini", read_table, (void *)files, p);
}

#define AUTH "[pgturnstile]\nauth_file = users.txt\n"

static struct config *load_good(const char *text)
{
	struct config_problems p = { 0 };
	struct config *c = load(text, &p);

	if (p.nerrors)
		fail_msg("%s", buf_cstr(&p.errors));
	assert_non_null(c);
	config_problems_fini(&p);
	return c;
}

/* All problems, in order, and nothing else. */
static void expect_errors(const char *text, const char *want)
{
	struct config_problems p = { 0 };

	assert_null(load(text, &p));
	assert_string_equal(buf_cstr(&p.errors), want);
	config_problems_fini(&p);
}

static void expect_notes(const char *text, const char *want)
{
	struct config_problems p = { 0 };
	struct config *c = load(text, &p);

	assert_non_null(c);
	assert_string_equal(buf_cstr(&p.notes), want);
	config_unref(c);
	config_problems_fini(&p);
}

/* A file of the source tree. */
static void read_tree(const char *path, struct buf *text)
{
	const char *srcdir = getenv("srcdir");
	struct buf name = { 0 };
	FILE *f;

	buf_printf(&name, "%s/%s", srcdir ? srcdir : ".", path);
	f = fopen(buf_cstr(&name), "r");
	assert_non_null(f);
	for (size_t n = 1; n; buf_produced(text, n))
		n = fread(buf_reserve(text, 4096), 1, 4096, f);
	fclose(f);
	buf_fini(&name);
}

static struct settings resolve(const struct config *c, const char *database, const char *user,
			       const char *tenant)
{
	struct settings s;

	settings_resolve(c, database ? config_database(c, slice_str(database)) : NULL,
			 user ? config_user(c, slice_str(user)) : NULL,
			 tenant ? config_tenant_by_name(c, slice_str(tenant)) : NULL, NULL, &s);
	return s;
}

/* --- reading -------------------------------------------------------------------------------- */

static void test_all_errors_at_once_with_their_lines(void **state)
{
	expect_errors(
	    "[pgturnstile]\n"
	    "pool_mod = session\n"
	    "; a comment\n"
	    "max_client_conn = many\n"
	    "auth_file = none.txt\n"
	    "  # another\n"
	    "k:ey = 1\n"
	    "no equals\n"
	    "[database]\n"
	    "ignored = x\n"
	    "[databases]\n"
	    "shop = host=a,b,c port=1,2\n"
	    "web = hots=x pool_mode=sesion\n"
	    "pgbouncer = host=x\n"
	    "[tenants]\n"
	    "acme = tier=gold business_id=42\n"
	    "globex =\n"
	    "initech = business_id=42 burst=5\n"
	    "[pgbouncer]\n"
	    "client_tls_sslmode = verify-full\n",
	    "t.ini:2: unknown setting \"pool_mod\", did you mean pool_mode?\n"
	    "t.ini:4: max_client_conn: \"many\" is not a whole number from 0 to 2147483647\n"
	    "t.ini:7: expected = after the name\n"
	    "t.ini:8: expected = after the name\n"
	    "t.ini:9: unknown section [database], did you mean [databases]?\n"
	    "t.ini:12: shop: port: 2 ports for 3 hosts: give one port for each host, or one "
	    "for all\n"
	    "t.ini:13: web: unknown setting \"hots\", did you mean host?\n"
	    "t.ini:13: web: pool_mode: \"sesion\" is not session, transaction or statement\n"
	    "t.ini:14: database \"pgbouncer\" is the console: choose another name\n"
	    "t.ini:5: auth_file: none.txt cannot be read: No such file or directory\n"
	    "t.ini:16: acme: there is no tier \"gold\": add it to [tiers]\n"
	    "t.ini:17: globex: business_id is missing: give the id that its rows carry\n"
	    "t.ini:18: initech: business_id 42 belongs to another tenant already\n"
	    "t.ini:18: initech: burst without rate: set rate too\n"
	    "t.ini:20: client_tls_sslmode: needs our private key: set client_tls_key_file\n"
	    "t.ini:20: client_tls_sslmode: needs our certificate: set client_tls_cert_file\n"
	    "t.ini:20: client_tls_sslmode: needs what to check client certificates with: set "
	    "client_tls_ca_file\n"
	    "t.ini: tenant_by: there are tenants, but no way to tell them: set it to user, "
	    "database, user_suffix or startup\n");
}

/* Ways that need more than themselves. */
static void test_ways_to_tell_a_tenant(void **state)
{
	expect_errors(
	    "[pgturnstile]\nauth_type = any\ntenant_by = user, set\n"
	    "[databases]\nshop = host=127.0.0.1\n"
	    "[tenants]\nacme = business_id=42\n",
	    "t.ini:3: tenant_by: set and comment need tenant_pool = shared, which database "
	    "shop does not have: give it that, or take them out\n");
	expect_errors(
	    "[pgturnstile]\nauth_type = any\ntenant_by = sni\n"
	    "[databases]\nshop = host=127.0.0.1\n"
	    "[tenants]\nacme = business_id=42\n",
	    "t.ini:3: tenant_by: sni needs tenant_sni_suffix: set it to db.example.com, say\n"
	    "t.ini:3: tenant_by: sni needs TLS: set client_tls_sslmode to require, say\n");
}

static void test_lines_are_read_as_pgbouncer_reads_them(void **state)
{
	struct config *c = load_good("\n[pgbouncer] ; a comment after a section\r\n"
				     "   listen_addr=127.0.0.1 ; not a comment\r\n"
				     "\tadmin_users = a = b # c\n"
				     "auth_file = users.txt\n"
				     "listen_port = 1\nlisten_port = 2\n"
				     "[databases]\n"
				     "\"odd \"\"name\" = host=h\n"
				     "a.b-c_d* = host = h  password = 'it''s ; # x' port=77");
	const struct database_conf *d = config_database(c, SLICE("a.b-c_d*"));

	assert_string_equal(c->global.listen_addr, "127.0.0.1 ; not a comment");
	assert_string_equal(c->global.admin_users, "a = b # c");
	assert_int_equal(c->global.listen_port, 2);
	assert_non_null(config_database(c, SLICE("odd \"name")));
	assert_string_equal(d->password, "it's ; # x");
	assert_int_equal(d->nodes[0].port, 77);
	config_unref(c);
}

static void test_long_lines(void **state)
{
	static char text[300000];
	int n = snprintf(text, sizeof(text), "%s[databases]\nx = password=", AUTH);
	struct config *c;

	memset(text + n, 'p', sizeof(text) - (size_t)n - 1);
	c = load_good(text);
	assert_int_equal(strlen(c->databases[0]->password), sizeof(text) - (size_t)n - 1);
	config_unref(c);
}

static void test_includes(void **state)
{
	const struct file good[] = {
		{"a",    "[pgturnstile]\n%include b\n%include\tc d\n"},
		{ "b",   "verbose = 3\n[databases]\nx = host=h\n"    },
		{ "c d", "y = host=h\n[pgbouncer]\nauth_type = any\n"},
		{ NULL,  NULL					}
	};
	const struct file bad[] = {
		{"a",   "[pgturnstile]\n\n%include b\n%include gone\n"},
		{ "b",  "\n%include a\nfoo = 1\n"                     },
		{ NULL, NULL					  }
	};
	struct config_problems p = { 0 };
	struct config *c = config_load("a", read_table, (void *)good, &p);

	assert_non_null(c);
	assert_int_equal(c->global.verbose, 3);
	assert_int_equal(c->ndatabases, 2);
	assert_int_equal(c->global.auth_type, AUTH_TYPE_ANY);
	config_unref(c);
	assert_null(config_load("a", read_table, (void *)bad, &p));
	assert_string_equal(
	    buf_cstr(&p.errors),
	    "b:2: %include: a includes itself\n"
	    "b:3: unknown setting \"foo\"\n"
	    "a:4: gone cannot be read: No such file or directory\n"
	    "a: auth_file: nobody could log in: name a file of users and secrets\n");
	config_problems_fini(&p);
}

static bool read_secret(void *arg, const char *path, bool is_secret, struct buf *text,
			struct err *e)
{
	if (is_secret != !strcmp(path, "context.keys"))
		return err_set(e, "42501", "not the kind of file");
	return read_table(arg, path, is_secret, text, e);
}

static void test_signing_keys(void **state)
{
	const char *ini =
	    "[pgturnstile]\nauth_type = any\ncontext_signing_key_file = context.keys\n";
	struct file files[] = {
		{"t.ini",         ini							  },
		{ "context.keys", "k1 0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"},
		{ NULL,           NULL							 },
	};
	struct config_problems p = { 0 };
	struct config *c = config_load("t.ini", read_secret, files, &p);

	assert_non_null(c);
	assert_non_null(c->sign_keys);
	config_unref(c);
	files[1].text = "k1 0b";
	assert_null(config_load("t.ini", read_secret, files, &p));
	assert_non_null(strstr(buf_cstr(&p.errors), "context.keys:1: behind the id has to stand"));
	config_problems_fini(&p);
	files[1].path = NULL;
	assert_null(config_load("t.ini", read_secret, files, &p));
	assert_non_null(strstr(buf_cstr(&p.errors),
			       "t.ini:3: context_signing_key_file: context.keys cannot be read: "));
	config_problems_fini(&p);
}

static void test_include_depth_is_bounded(void **state)
{
	static char texts[20][32], names[20][16];
	struct file files[21] = {
		{NULL, NULL}
	};
	struct config_problems p = { 0 };

	for (int i = 0; i < 20; i++) {
		snprintf(names[i], sizeof(names[i]), "f%d", i);
		snprintf(texts[i], sizeof(texts[i]), "%%include f%d\n", i + 1);
		files[i] = (struct file){ names[i], texts[i] };
	}
	assert_null(config_load("f0", read_table, files, &p));
	assert_non_null(strstr(buf_cstr(&p.errors), "f10:1: %include: more than 10 files deep\n"));
	config_problems_fini(&p);
}

static void test_a_missing_file(void **state)
{
	const struct file none[] = {
		{NULL, NULL}
	};
	struct config_problems p = { 0 };

	assert_null(config_load("x.ini", read_table, (void *)none, &p));
	assert_true(strncmp(buf_cstr(&p.errors), "x.ini cannot be read: No such", 29) == 0);
	config_problems_fini(&p);
}

static void test_faults_of_the_userlist(void **state)
{
	const struct file files[] = {
		{"a",   "[pgbouncer]\nauth_file = u\n"    },
		{ "u",  "\"app\" \"hunter2\"\n\nhunter3\n"},
		{ NULL, NULL			      }
	};
	struct config_problems p = { 0 };

	assert_null(config_load("a", read_table, (void *)files, &p));
	assert_true(strncmp(buf_cstr(&p.errors), "u:3: ", 5) == 0);
	assert_null(strstr(buf_cstr(&p.errors), "hunter"));
	config_problems_fini(&p);
}

static void test_i9_no_secret_in_a_problem(void **state)
{
	expect_errors(
	    AUTH "[databases]\n"
		 "a = password=hunter2 hunter3=hunter4\n"
		 "b = password='hunter2\n"
		 "c = password=hunter2 pool_size=x\n"
		 "d = monitor_password=hunter2 hunter\n",
	    "t.ini:4: a: unknown setting after the password, not shown since it may be part "
	    "of it; a password with spaces stands in single quotes\n"
	    "t.ini:5: b: expected key=value pairs; a value with spaces stands in single "
	    "quotes, a quote in it is doubled\n"
	    "t.ini:6: c: pool_size: \"x\" is not a whole number from 0 to 2147483647\n"
	    "t.ini:7: d: expected key=value pairs; a value with spaces stands in single "
	    "quotes, a quote in it is doubled\n");
}

static void test_what_has_no_effect_yet_is_noted_once(void **state)
{
	expect_notes(AUTH "pkt_buf = 4096\n"
			  "auth_hba_file =\n"
			  "dns_zone_check_period = 1\n"
			  "dns_zone_check_period = 2\n"
			  "admin_users = ops, nobody\n"
			  "[databases]\na = load_balance_hosts=round-robin\n"
			  "b = load_balance_hosts=disable\nc = load_balance_hosts=disable\n"
			  "[peers]\n1 = host=/tmp\n2 = host=/tmp port=1 pool_size=3\n",
		     "t.ini:5: dns_zone_check_period: has no effect in this version\n"
		     "t.ini:10: load_balance_hosts: has no effect in this version\n"
		     "t.ini:7: admin_users: nobody is not in auth_file and cannot log in\n"
		     "t.ini: peer_id: cancel requests are not forwarded to the peers of [peers] "
		     "without it\n");
}

/* --- entries -------------------------------------------------------------------------------- */

static void test_nodes(void **state)
{
	struct config *c = load_good(AUTH "[databases]\n"
					  "one = host=h\n"
					  "none = dbname=x\n"
					  "three = host='a, b,/run' port=5\n"
					  "pairs = host=a,::1 port=1,2\n"
					  "* = host=z\n");
	const struct database_conf *d = config_database(c, SLICE("three"));

	assert_int_equal(d->nnodes, 3);
	assert_string_equal(d->nodes[1].host, "b");
	assert_string_equal(d->nodes[2].host, "/run");
	assert_int_equal(d->nodes[2].port, 5);
	d = config_database(c, SLICE("pairs"));
	assert_string_equal(d->nodes[1].host, "::1");
	assert_int_equal(d->nodes[1].port, 2);
	d = config_database(c, SLICE("none"));
	assert_string_equal(d->nodes[0].host, "");
	assert_int_equal(d->nodes[0].port, 5432);
	assert_string_equal(d->dbname, "x");
	assert_string_equal(config_database(c, SLICE("one"))->dbname, "one");
	assert_null(config_database(c, SLICE("other")));
	assert_string_equal(config_database_fallback(c)->nodes[0].host, "z");
	assert_string_equal(config_database_fallback(c)->dbname, "");
	config_unref(c);
	expect_errors(AUTH "[databases]\na = port=0\nb = port=x\n",
		      "t.ini:4: a: port: \"0\" is not a port from 1 to 65535\n"
		      "t.ini:5: b: port: \"x\" is not a port from 1 to 65535\n");
}

/* Whether two of [databases] are known to be on the same servers, and to have replicas there. */
static void check_cluster(const struct config *c, const char *a, const char *b, bool is_same,
			  bool has_replicas)
{
	const struct database_conf *one = config_database(c, slice_str(a));
	const struct database_conf *other = config_database(c, slice_str(b));

	assert_int_equal(!strcmp(one->cluster, other->cluster), is_same);
	assert_int_equal(one->has_replicas, has_replicas);
}

static void test_databases_on_the_same_servers(void **state)
{
	struct config *c = load_good(AUTH "[databases]\n"
					  "pair = host=a,b\n"
					  "turned = host=b,a\n"
					  "alone = host=b dbname=pair\n"
					  "chain = host=c,b\n"
					  "end = host=c\n"
					  "port = host=a port=1\n"
					  "other = host=d\n");

	check_cluster(c, "pair", "turned", true, true);
	check_cluster(c, "alone", "pair", true, true);
	check_cluster(c, "end", "pair", true, true);
	check_cluster(c, "end", "chain", true, true);
	check_cluster(c, "port", "pair", false, false);
	check_cluster(c, "other", "port", false, false);
	config_unref(c);
	(void)state;
}

static void test_an_entry_that_comes_again_replaces_the_first(void **state)
{
	struct config *c =
	    load_good(AUTH "tenant_by = user\n"
			   "[databases]\na = host=x pool_size=3\nb =\na = host=y\n"
			   "[tiers]\nt = rate=1/s\nu = rate=2/s\nv = rate=3/s\nt = rate=9/s\n"
			   "[tenants]\nm = business_id=1 tier=t\nn = business_id=2\n"
			   "o = business_id=3\nm = business_id=4 tier=t\n");

	assert_int_equal(c->ndatabases, 2);
	assert_int_equal(c->databases[0]->index, 0);
	assert_string_equal(c->databases[0]->nodes[0].host, "y");
	assert_int_equal(resolve(c, "a", NULL, NULL).default_pool_size, 20);
	assert_int_equal(c->ntenants, 3);
	assert_int_equal(resolve(c, NULL, NULL, "m").rate.count, 9);
	assert_null(config_tenant_by_business_id(c, SLICE("1")));
	assert_non_null(config_tenant_by_business_id(c, SLICE("4")));
	config_unref(c);
}

static void test_whose_value_counts(void **state)
{
	struct config *c =
	    load_good(AUTH "tenant_by = user_suffix\n"
			   "default_pool_size = 1\nserver_lifetime = 100\n"
			   "query_timeout = 7\nrate_limit_wait = 1s\n"
			   "[databases]\nd = pool_size=2 pool_mode=transaction "
			   "server_lifetime=0\n"
			   "[users]\nu = pool_size=3 query_timeout=0\nv = pool_size=0\n"
			   "[tiers]\ngold = pool_size=4 statement_timeout=60s rate=5/s "
			   "rate_limit_wait=0\n"
			   "[tenants]\nacme = tier=gold business_id=1\n"
			   "globex = tier=gold business_id=2 pool_size=5 rate=0\n");
	struct settings s;

	assert_int_equal(resolve(c, NULL, NULL, NULL).default_pool_size, 1);
	assert_int_equal(resolve(c, "d", NULL, NULL).default_pool_size, 2);
	assert_int_equal(resolve(c, "d", "u", NULL).default_pool_size, 3);
	assert_int_equal(resolve(c, "d", "v", NULL).default_pool_size, 0);
	assert_int_equal(resolve(c, "d", "u", "acme").default_pool_size, 4);
	assert_int_equal(resolve(c, "d", "u", "globex").default_pool_size, 5);
	assert_int_equal(resolve(c, "d", "u", "acme").pool_mode, POOL_MODE_TRANSACTION);
	assert_int_equal(resolve(c, "d", "u", "acme").query_timeout, 7 * USEC_PER_SEC);
	assert_int_equal(resolve(c, "d", NULL, NULL).server_lifetime, 100 * USEC_PER_SEC);
	assert_int_equal(resolve(c, NULL, NULL, "acme").rate_limit_wait, 0);
	assert_int_equal(resolve(c, NULL, NULL, "acme").rate.count, 5);
	assert_int_equal(resolve(c, NULL, NULL, "globex").rate.count, 0);
	settings_resolve(c, NULL, NULL, NULL, config_tier(c, SLICE("gold")), &s);
	assert_int_equal(s.statement_timeout, 60 * USEC_PER_SEC);
	config_unref(c);
}

static void test_tenants_are_found(void **state)
{
	struct config *c =
	    load_good(AUTH "tenant_by = user, database\nunknown_tenant = free\n"
			   "[tenants]\n"
			   "acme = tier=free business_id=42 user='acme_app, acme_jobs'\n"
			   "globex = tier=free business_id=7 database=gdb\n"
			   "[tiers]\nfree = max_client_conn=3\n");
	const struct tenant_conf *acme = config_tenant_by_name(c, SLICE("acme"));

	assert_non_null(acme);
	assert_ptr_equal(config_tenant_by_business_id(c, SLICE("42")), acme);
	assert_ptr_equal(config_tenant_by_user(c, SLICE("acme_app")), acme);
	assert_ptr_equal(config_tenant_by_user(c, SLICE("acme_jobs")), acme);
	assert_null(config_tenant_by_user(c, SLICE("acme")));
	assert_ptr_equal(config_tenant_by_database(c, SLICE("acme")), acme);
	assert_string_equal(config_tenant_by_user(c, SLICE("globex"))->name, "globex");
	assert_string_equal(config_tenant_by_database(c, SLICE("gdb"))->name, "globex");
	assert_null(config_tenant_by_business_id(c, SLICE("")));
	assert_ptr_equal(c->unknown_tenant_tier, config_tier(c, SLICE("free")));
	assert_int_equal(resolve(c, NULL, NULL, "acme").tenant_max_client_conn, 3);
	config_unref(c);
	expect_errors(AUTH "tenant_by = user\nunknown_tenant = gold\n"
			   "[tenants]\na = business_id=1 user=x\nb = business_id=2 user=y,x\n",
		      "t.ini:7: b: user = x leads to tenant a already\n"
		      "t.ini:4: unknown_tenant: there is no tier \"gold\": use reject or a name of "
		      "[tiers]\n");
}

static void test_lanes_are_found(void **state)
{
	struct config *c =
	    load_good(AUTH "[databases]\nshop = host=a,b,::1 port=1,2,3\n"
			   "[tiers]\nfree = lane=reports\n"
			   "[lanes]\nreports = nodes='a:1, b, [::1]:3' statement_timeout=1h\n"
			   "jobs = pool_size=2\n");
	const struct lane_conf *reports = config_lane(c, SLICE("reports"));
	struct settings s = c->global;

	assert_true(lane_conf_has_node(reports, "a", 1));
	assert_true(lane_conf_has_node(reports, "b", 2));
	assert_true(lane_conf_has_node(reports, "::1", 3));
	assert_false(lane_conf_has_node(reports, "a", 2));
	assert_true(lane_conf_has_node(config_lane(c, SLICE("jobs")), "a", 2));
	lane_conf_apply(reports, &s);
	assert_int_equal(s.statement_timeout, 3600 * USEC_PER_SEC);
	assert_int_equal(s.default_pool_size, 20);
	assert_null(config_lane(c, SLICE("report")));
	config_unref(c);
}

static void test_what_is_wrong_with_lanes(void **state)
{
	expect_errors(AUTH "tenant_by = user\n"
			   "[databases]\nshop = host=a port=1 lane=report\n"
			   "[users]\napp = lane=exports\n"
			   "[tenants]\nacme = business_id=42 lane=Reports\n"
			   "[lanes]\nreports = nodes=a:2\n"
			   "jobs = reserved=yes\n"
			   "more = nodes=a:x rate=1/s\n",
		      "t.ini:12: jobs: reserved without nodes: say which, in nodes\n"
		      "t.ini:13: more: unknown setting \"rate\"\n"
		      "t.ini:13: more: nodes: \"x\" is not a port from 1 to 65535\n"
		      "t.ini:5: shop: lane: there is no lane \"report\", did you mean reports?\n"
		      "t.ini:7: app: lane: there is no lane \"exports\", did you mean reports?\n"
		      "t.ini:9: acme: lane: there is no lane \"Reports\", did you mean reports?\n"
		      "t.ini:11: reports: nodes: no database has a node \"a:2\": add it to its "
		      "hosts\n");
}

/* --- a pgbouncer.ini ------------------------------------------------------------------------ */

static void test_a_pgbouncer_ini_loads_as_it_is(void **state)
{
	struct buf text = { 0 };
	const struct database_conf *d;
	struct config *c;

	read_tree("test/unit/pgbouncer.ini", &text);
	c = load_good(buf_cstr(&text));
	buf_fini(&text);
	d = config_database(c, SLICE("forcedb"));

	assert_int_equal(c->global.pool_mode, POOL_MODE_TRANSACTION);
	assert_int_equal(c->global.server_idle_timeout, 600 * USEC_PER_SEC);
	assert_string_equal(d->user, "baz");
	assert_string_equal(d->connect_query, "SELECT 'x'");
	assert_string_equal(d->datestyle, "ISO");
	assert_int_equal(resolve(c, "nondefaultdb", NULL, NULL).reserve_pool_size, 10);
	assert_int_equal(resolve(c, NULL, "user1", NULL).max_user_connections, 10);
	assert_int_equal(c->npeers, 2);
	config_unref(c);
}

/* --- new configs from old ones -------------------------------------------------------------- */

static void test_set_makes_another_config(void **state)
{
	struct config *c = load_good(AUTH "[databases]\nx = host=h\n");
	struct err e;
	struct config *two = config_with(c, SLICE("query_timeout"), "5", &e), *three;

	assert_non_null(two);
	assert_int_equal(c->global.query_timeout, 0);
	config_unref(c);
	three = config_with(two, SLICE("server_check_query"), "select 1", &e);
	config_unref(two);
	assert_int_equal(three->global.query_timeout, 5 * USEC_PER_SEC);
	assert_string_equal(three->global.server_check_query, "select 1");
	assert_string_equal(three->global.auth_file, "users.txt");
	assert_non_null(config_database(three, SLICE("x")));
	assert_non_null(userlist_find(three->userlist, SLICE("app")));

	assert_null(config_with(three, SLICE("nonsense"), "1", &e));
	assert_string_equal(e.sqlstate, "42704");
	assert_null(config_with(three, SLICE("listen_port"), "1", &e));
	assert_string_equal(e.sqlstate, "55P02");
	assert_null(config_with(three, SLICE("tenant_by"), "user", &e));
	assert_string_equal(e.sqlstate, "55P02");
	assert_null(config_with(three, SLICE("pool_mode"), "x", &e));
	assert_string_equal(e.sqlstate, "22023");
	assert_null(config_with(three, SLICE("client_tls_sslmode"), "require", &e));
	assert_non_null(strstr(e.text, "client_tls_key_file"));
	config_unref(three);
}

static struct config *changed(struct config *c, enum setting_scope scope, const char *owner,
			      const char *name, const char *text)
{
	struct err e;
	struct config *next =
	    config_with_change(c, scope, slice_str(owner), slice_str(name), text, &e);

	if (!next)
		fail_msg("%s: %s", name, e.text);
	config_unref(c);
	return next;
}

static struct settings of_acme(const struct config *c)
{
	struct settings s = resolve(c, NULL, NULL, "acme");

	config_changes_apply(c, SCOPE_TENANT, SLICE("acme"), &s);
	return s;
}

static const char of_tenants[] = AUTH "tenant_by = user\n[databases]\nx = host=h\n"
				      "[tiers]\ngold = rate=5/s quota=7/d\n"
				      "[tenants]\nacme = tier=gold business_id=1\n";

static void test_what_the_console_changes_of_a_tenant(void **state)
{
	struct config *c = load_good(of_tenants), *next;
	struct err e;

	c = changed(c, SCOPE_TENANT, "acme", "rate", "100/s");
	c = changed(c, SCOPE_TENANT, "acme", "maintenance", "soon");
	c = changed(c, SCOPE_TENANT, "other", "rate", "1/s");
	c = changed(c, SCOPE_TENANT, "acme", "rate", "200/s");
	assert_int_equal(c->nchanges, 3);
	assert_int_equal(of_acme(c).rate.count, 200);
	assert_int_equal(of_acme(c).quota.per_day, 7);
	assert_string_equal(of_acme(c).maintenance, "soon");
	assert_int_equal(resolve(c, NULL, NULL, "acme").rate.count, 5);

	/* A reload, and SET. */
	next = load_good(of_tenants);
	config_keep_changes(next, c);
	config_unref(c);
	c = config_with(next, SLICE("query_timeout"), "5", &e);
	config_unref(next);
	assert_int_equal(of_acme(c).rate.count, 200);
	assert_string_equal(of_acme(c).maintenance, "soon");

	c = changed(c, SCOPE_TENANT, "acme", "rate", NULL);
	assert_int_equal(of_acme(c).rate.count, 5);
	assert_string_equal(of_acme(c).maintenance, "soon");
	c = changed(c, SCOPE_TENANT, "acme", "", NULL);
	assert_string_equal(of_acme(c).maintenance, "");
	assert_int_equal(c->nchanges, 1);
	config_unref(c);
}

static void test_changes_that_make_no_sense(void **state)
{
	static const struct {
		const char *name, *text, *sqlstate, *says;
	} wrong[] = {
		{"rat",          "1/s",  "42704", "unknown setting \"rat\""},
		{ "listen_port", "1",    "42704", "unknown setting"        },
		{ "rate",        "many", "22023", "a rate such as"         },
		{ "rat",         NULL,   "42704", "unknown setting"        },
	};
	struct config *c = load_good(of_tenants);
	struct err e;

	for (size_t i = 0; i < PGT_NELEMS(wrong); i++) {
		assert_null(config_with_change(c, SCOPE_TENANT, SLICE("acme"),
					       slice_str(wrong[i].name), wrong[i].text, &e));
		assert_string_equal(e.sqlstate, wrong[i].sqlstate);
		assert_non_null(strstr(e.text, wrong[i].says));
	}
	assert_null(config_with_change(c, SCOPE_TENANT, SLICE("acme"), SLICE("rat"), "1/s", &e));
	assert_string_equal(e.hint, "Did you mean rate?");
	c = changed(c, SCOPE_TENANT, "acme", "burst", "9");
	assert_null(config_with_change(c, SCOPE_TENANT, SLICE("acme"), SLICE("rate"), "0", &e));
	assert_string_equal(e.text, "burst without rate: set rate too");
	config_unref(c);
}

static void test_i8_a_reload_keeps_what_only_a_start_can_change(void **state)
{
	struct config *old =
	    load_good(AUTH "listen_port = 1\nlisten_addr = a\npool_mode=session\n");
	struct config *new = load_good(AUTH "listen_port = 2\nlisten_addr = b\nverbose=1\n"
					    "pool_mode = transaction\n");
	struct config_problems p = { 0 };

	config_keep_started(new, old, &p);
	config_unref(old);
	assert_int_equal(new->global.listen_port, 1);
	assert_string_equal(new->global.listen_addr, "a");
	assert_int_equal(new->global.pool_mode, POOL_MODE_TRANSACTION);
	assert_int_equal(new->global.verbose, 1);
	assert_string_equal(buf_cstr(&p.notes), "listen_addr: the new value needs a restart\n"
						"listen_port: the new value needs a restart\n");
	config_problems_fini(&p);
	config_unref(new);
}

/* --- --upstream ----------------------------------------------------------------------------- */

static bool read_nothing(void *arg, const char *path, bool is_secret, struct buf *text,
			 struct err *e)
{
	fail_msg("%s is read", path);
	return false;
}

static struct config *from_upstream(const char *uri, const char *listen, struct config_problems *p)
{
	const struct upstream upstream = { .uri = uri, .listen = listen };

	return config_from_upstream(&upstream, read_nothing, NULL, p);
}

static void test_upstream_with_a_password(void **state)
{
	struct config_problems p = { 0 };
	struct config *c = from_upstream(
	    "postgresql://a%20pp:p%22w%40@10.0.0.1:5433,[::1],%2Frun:1/shop?sslmode=verify-full",
	    "0.0.0.0:7000", &p);
	const struct database_conf *d;

	assert_non_null(c);
	d = config_database_fallback(c);
	assert_int_equal(d->nnodes, 3);
	assert_string_equal(d->nodes[0].host, "10.0.0.1");
	assert_int_equal(d->nodes[0].port, 5433);
	assert_string_equal(d->nodes[1].host, "::1");
	assert_int_equal(d->nodes[1].port, 5432);
	assert_string_equal(d->nodes[2].host, "/run");
	assert_string_equal(c->global.listen_addr, "0.0.0.0");
	assert_int_equal(c->global.listen_port, 7000);
	assert_int_equal(c->global.auth_type, AUTH_TYPE_SCRAM);
	assert_int_equal(c->global.server_tls_sslmode, SSLMODE_VERIFY_FULL);
	assert_string_equal(userlist_find(c->userlist, SLICE("a pp"))->password, "p\"w@");
	assert_string_equal(c->global.monitor_dbname, "shop");
	assert_true(list_has(c->global.admin_users, SLICE("a pp")));
	config_unref(c);
	config_problems_fini(&p);
}

static void test_upstream_without_a_password_is_for_this_machine_only(void **state)
{
	struct config_problems p = { 0 };
	struct config *c = from_upstream("postgres://app@db", NULL, &p);

	assert_non_null(c);
	assert_int_equal(c->global.auth_type, AUTH_TYPE_TRUST);
	assert_string_equal(c->global.listen_addr, "127.0.0.1");
	assert_int_equal(c->global.listen_port, 6432);
	assert_string_equal(c->global.unix_socket_dir, "");
	assert_non_null(userlist_find(c->userlist, SLICE("app")));
	assert_null(userlist_find(c->userlist, SLICE("root")));
	config_unref(c);
	assert_null(from_upstream("postgres://app@db", "0.0.0.0:6432", &p));
	assert_non_null(strstr(buf_cstr(&p.errors), "everyone who reaches 0.0.0.0"));
	config_problems_fini(&p);
}

static bool read_passfile(void *arg, const char *path, bool is_secret, struct buf *text,
			  struct err *e)
{
	assert_true(is_secret);
	if (strcmp(path, "/home/app/.pgpass") != 0)
		return err_set(e, "58P01", "no such file");
	buf_put_slice(text, slice_str(arg));
	return true;
}

/* What --upstream finds, or NULL. */
static const char *password_of(struct config *c, const char *user)
{
	const struct userlist_entry *entry = userlist_find(c->userlist, slice_str(user));

	return entry ? entry->password : NULL;
}

static void test_upstream_with_a_password_of_the_environment(void **state)
{
	/* What the URI says, the variable, the file: the first of them counts. */
	static const struct {
		const char *uri, *password, *passfile, *found;
	} rows[] = {
		{"postgres://app:own@db/shop",    "variable", "/home/app/.pgpass", "own"      },
		{ "postgres://app@db/shop",       "variable", "/home/app/.pgpass", "variable" },
		{ "postgres://app@db/shop",       "",         "/home/app/.pgpass", "of a file"},
		{ "postgres://app@other,db/shop", NULL,       "/home/app/.pgpass", "of a file"},
		{ "postgres://app@db",            NULL,       "/home/app/.pgpass", "of app"   },
		{ "postgres://app@other/shop",    NULL,       "/home/app/.pgpass", ""         },
		{ "postgres://app@db/shop",       NULL,       "",                  ""         },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct upstream u = { .uri = rows[i].uri,
				      .password = rows[i].password,
				      .passfile = rows[i].passfile };
		struct config_problems p = { 0 };
		char lines[] = "db:5432:shop:app:of a file\ndb:*:app:*:of app\n";
		struct config *c = config_from_upstream(&u, read_passfile, lines, &p);

		assert_non_null(c);
		assert_string_equal(password_of(c, "app"), rows[i].found);
		assert_int_equal(c->global.auth_type,
				 *rows[i].found ? AUTH_TYPE_SCRAM : AUTH_TYPE_TRUST);
		assert_string_equal(c->global.monitor_password, rows[i].found);
		config_unref(c);
		config_problems_fini(&p);
	}
}

static void test_upstream_with_a_passfile_that_cannot_be_read(void **state)
{
	struct upstream u = { .uri = "postgres://app@db/shop", .passfile = "/nowhere" };
	struct config_problems p = { 0 };

	assert_null(config_from_upstream(&u, read_passfile, NULL, &p));
	assert_non_null(strstr(buf_cstr(&p.errors), "PGPASSFILE: /nowhere: no such file"));
	config_problems_fini(&p);
}

static void test_where_the_secret_of_a_uri_is(void **state)
{
	static const struct {
		const char *uri, *secret;
	} rows[] = {
		{"postgres://app:hunter2@db/shop", ":hunter2"},
		{ "postgresql://app:a%40b:c@db",   ":a%40b:c"},
		{ "postgres://app:@db",            ""        },
		{ "postgres://app@db:5432",        ""        },
		{ "postgres://db:5432/a:b@c",      ""        },
		{ "nothing:of@all",                ""        },
	};

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		struct slice secret = config_upstream_secret(rows[i].uri);

		assert_true(slice_is_equal(secret, slice_str(rows[i].secret)));
		if (secret.n)
			assert_ptr_equal(secret.p, strstr(rows[i].uri, rows[i].secret));
	}
}

static void test_upstream_that_is_not_well_formed(void **state)
{
	static const char *const uris[] = {
		"",
		"http://app@db",
		"postgres://db/x",
		"postgres://app%zz@db",
		"postgres://app%00@db",
		"postgres://app:hunter2%4@db",
		"postgres://app@db:x",
		"postgres://app@db:99999",
		"postgres://app@db?sslmode=maybe",
		"postgres://app@db?target=any",
		"postgres://app@a%2Cb",
	};

	for (size_t i = 0; i < PGT_NELEMS(uris); i++) {
		struct config_problems p = { 0 };

		assert_null(from_upstream(uris[i], NULL, &p));
		assert_true(p.nerrors > 0);
		assert_null(strstr(buf_cstr(&p.errors), "hunter"));
		config_problems_fini(&p);
	}
	for (size_t i = 0; i < 3; i++) {
		static const char *const listens[] = { "", ":6432", "127.0.0.1:zzz" };
		struct config_problems p = { 0 };

		assert_null(from_upstream("postgres://app@db", listens[i], &p));
		config_problems_fini(&p);
	}
}

/* --- generated pages ------------------------------------------------------------------------ */

static void expect_file(const char *path, struct buf *want)
{
	struct buf got = { 0 };

	read_tree(path, &got);
	if (!slice_is_equal(buf_peek(&got), buf_peek(want)))
		fail_msg("%s is not what the settings table says: make docs", path);
	buf_fini(&got);
	buf_fini(want);
}

static void test_generated_pages_are_up_to_date(void **state)
{
	struct buf page = { 0 }, sample = { 0 };

	config_describe_settings_markdown(&page);
	expect_file("docs/settings.md", &page);
	config_describe_settings_ini(&sample);
	expect_file("etc/pgturnstile.ini", &sample);
}

/* Every commented default of the sample, uncommented, is the default. */
static void test_the_sample_says_the_defaults(void **state)
{
	struct buf sample = { 0 }, text = { 0 };
	struct config_problems p = { 0 };
	struct settings defaults;
	struct config *c;
	char *rest, *line;

	config_describe_settings_ini(&sample);
	rest = strstr((char *)buf_cstr(&sample), "[pgturnstile]");
	while ((line = strsep(&rest, "\n")))
		buf_printf(&text, "%s\n", line[0] == ';' && line[1] != ';' ? line + 1 : line);
	buf_printf(&text, "auth_type = any\n");
	c = load(buf_cstr(&text), &p);
	if (!c)
		fail_msg("%s", buf_cstr(&p.errors));
	settings_defaults(&defaults);
	defaults.auth_type = AUTH_TYPE_ANY;
	for (size_t i = 0; i < NSETTINGS; i++)
		assert_true(setting_is_equal(&settings_table[i], &c->global, &defaults));
	assert_int_equal(p.nnotes, 0);
	config_unref(c);
	config_problems_fini(&p);
	buf_fini(&sample);
	buf_fini(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_errors_at_once_with_their_lines),
		cmocka_unit_test(test_ways_to_tell_a_tenant),
		cmocka_unit_test(test_lines_are_read_as_pgbouncer_reads_them),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_includes),
		cmocka_unit_test(test_signing_keys),
		cmocka_unit_test(test_include_depth_is_bounded),
		cmocka_unit_test(test_a_missing_file),
		cmocka_unit_test(test_faults_of_the_userlist),
		cmocka_unit_test(test_i9_no_secret_in_a_problem),
		cmocka_unit_test(test_what_has_no_effect_yet_is_noted_once),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_databases_on_the_same_servers),
		cmocka_unit_test(test_an_entry_that_comes_again_replaces_the_first),
		cmocka_unit_test(test_whose_value_counts),
		cmocka_unit_test(test_tenants_are_found),
		cmocka_unit_test(test_a_pgbouncer_ini_loads_as_it_is),
		cmocka_unit_test(test_set_makes_another_config),
		cmocka_unit_test(test_what_the_console_changes_of_a_tenant),
		cmocka_unit_test(test_changes_that_make_no_sense),
		cmocka_unit_test(test_i8_a_reload_keeps_what_only_a_start_can_change),
		cmocka_unit_test(test_lanes_are_found),
		cmocka_unit_test(test_what_is_wrong_with_lanes),
		cmocka_unit_test(test_upstream_with_a_password),
		cmocka_unit_test(test_upstream_without_a_password_is_for_this_machine_only),
		cmocka_unit_test(test_upstream_with_a_password_of_the_environment),
		cmocka_unit_test(test_upstream_with_a_passfile_that_cannot_be_read),
		cmocka_unit_test(test_where_the_secret_of_a_uri_is),
		cmocka_unit_test(test_upstream_that_is_not_well_formed),
		cmocka_unit_test(test_generated_pages_are_up_to_date),
		cmocka_unit_test(test_the_sample_says_the_defaults),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
