/* SPDX-License-Identifier: ISC
 *
 * fuzz_config.c - any text as a file (with includes and other files), and as --upstream.
 *
 * The input's first part is the file, what follows a zero byte every other file, and --listen.  In
 * that, a part behind a zero byte, or the first one, is a file by itself where a name stands in its
 * first line; a name that is long is nobody's otherwise.  A config that loads must resolve, show
 * every setting, and take what it shows.
 */
#include "config/config.h"

#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct parts {
	struct slice first, others;
};

/* Takes what stands before a zero byte off the rest. */
static struct slice take_part(struct slice *rest)
{
	const char *end = memchr(rest->p, '\0', rest->n);
	struct slice part = end ? slice_of(rest->p, (size_t)(end - rest->p)) : *rest;
	size_t n = end ? part.n + 1 : part.n;

	*rest = slice_of(rest->p + n, rest->n - n);
	return part;
}

/* The file that is called so by its first line.  False: there is none. */
static bool find_named(struct slice others, const char *path, struct slice *text)
{
	size_t n = strlen(path);

	while (others.n) {
		struct slice part = take_part(&others);

		if (part.n > n && memcmp(part.p, path, n) == 0 && part.p[n] == '\n') {
			*text = slice_of(part.p + n + 1, part.n - n - 1);
			return true;
		}
	}
	return false;
}

static bool read_part(void *arg, const char *path, bool is_secret, struct buf *text, struct err *e)
{
	const struct parts *parts = arg;
	struct slice found = parts->others;

	if (is_secret && strncmp(path, "shared", 6) == 0)
		return err_set(e, "F0000", "others may read it");
	if (strcmp(path, "first") == 0)
		found = parts->first;
	else if (!find_named(parts->others, path, &found) && strlen(path) > 8)
		return err_set(e, "58P01", "no such file");
	buf_put_slice(text, found);
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

/* With a password, with password files, and without. */
static void check_upstream(const char *uri, const char *listen, struct parts *parts)
{
	static const struct {
		const char *password, *passfile;
	} ways[] = {
		{NULL,      NULL          },
                { "",       "others"      },
                { NULL,     "no-such-file"},
                { "secret", NULL          }
	};
	struct slice secret = config_upstream_secret(uri);

	PGT_ASSERT(!secret.n || (secret.p > uri && *secret.p == ':'));
	for (size_t i = 0; i < PGT_NELEMS(ways); i++) {
		struct upstream upstream = { .uri = uri,
					     .listen = listen,
					     .password = ways[i].password,
					     .passfile = ways[i].passfile };
		struct config_problems problems = { 0 };

		config_unref(config_from_upstream(&upstream, read_part, parts, &problems));
		config_problems_fini(&problems);
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
