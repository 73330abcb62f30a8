/* SPDX-License-Identifier: ISC
 *
 * fuzz_config.c - any text as a file (with includes and other files), and as --upstream.
 *
 * The input's first part is the file, what follows a zero byte every other file, and --listen.  A
 * config that loads must resolve, show every setting, and take what it shows.
 */
#include "config/config.h"

#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parts {
	struct slice first, others;
};

static bool read_part(void *arg, const char *path, bool is_secret PGT_UNUSED, struct buf *text,
		      struct err *e)
{
	const struct parts *parts = arg;

	if (strlen(path) > 8)
		return err_set(e, "58P01", "no such file");
	buf_put_slice(text, strcmp(path, "first") == 0 ? parts->first : parts->others);
	return true;
}

static void check_round_trip(const struct config *c)
{
	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++) {
		struct settings again = c->global;
		struct buf out = { 0 };

		setting_format(s, &c->global, &out);
		PGT_ASSERT(setting_parse(s, buf_cstr(&out), &again, NULL));
		PGT_ASSERT(s->type->is_secret || setting_is_equal(s, &c->global, &again));
		buf_fini(&out);
	}
}

static void check_entries(const struct config *c)
{
	struct settings s;

	for (size_t i = 0; i < c->ndatabases; i++) {
		PGT_ASSERT(config_database(c, slice_str(c->databases[i]->name)) == c->databases[i]);
		settings_resolve(c, c->databases[i], NULL, NULL, NULL, &s);
	}
	for (size_t i = 0; i < c->ntenants; i++) {
		const struct tenant_conf *t = c->tenants[i];

		PGT_ASSERT(config_tenant_by_business_id(c, slice_str(t->business_id)) == t);
		settings_resolve(c, NULL, NULL, t, NULL, &s);
	}
}

/* With a password file, and without. */
static void check_upstream(const char *uri, const char *listen, struct parts *parts)
{
	struct upstream upstream = { .uri = uri, .listen = listen };
	struct slice secret = config_upstream_secret(uri);

	PGT_ASSERT(!secret.n || (secret.p > uri && *secret.p == ':'));
	for (int i = 0; i < 2; i++) {
		struct config_problems problems = { 0 };

		config_unref(config_from_upstream(&upstream, read_part, parts, &problems));
		config_problems_fini(&problems);
		upstream.passfile = "others";
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xmemdup0((const char *)data, size);
	size_t n = strlen(text);
	struct parts parts = { slice_of(text, n),
			       n < size ? slice_of(text + n + 1, size - n - 1) : SLICE("") };
	struct config_problems problems = { 0 };
	struct config *c = config_load("first", read_part, &parts, &problems);

	PGT_ASSERT(!c == (problems.nerrors > 0));
	if (c) {
		check_round_trip(c);
		check_entries(c);
	}
	config_unref(c);
	config_problems_fini(&problems);
	check_upstream(text, n < size ? text + n + 1 : NULL, &parts);
	free(text);
	return 0;
}
