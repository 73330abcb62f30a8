/* SPDX-License-Identifier: ISC
 *
 * fuzz_classify.c - any text as one that a replica might run: told the same twice, and never to run
 * there with a DELETE behind it; commands that take settings back lie in it.
 *
 * The first byte says under which settings.
 */
#include "sql/classify.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "sql/lex.h"
#include "sql/resets.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sql_catalog *make_catalog(void)
{
	static const char *const safe[] = { "count", "lower", "now", "f" };
	struct sql_catalog_builder *b = sql_catalog_builder_new();

	for (size_t i = 0; i < PGT_NELEMS(safe); i++)
		sql_catalog_builder_function(b, SLICE("pg_catalog"), slice_str(safe[i]), false);
	sql_catalog_builder_function(b, SLICE("pg_catalog"), SLICE("nextval"), true);
	return sql_catalog_builder_finish(b);
}

static enum sql_class classify(struct slice text, const struct sql_env *env)
{
	static struct sql_classifier *classifier;
	static struct sql_catalog *catalog;
	struct sql_facts facts;

	if (!classifier) {
		classifier = sql_classifier_new(64, SQL_PARSE_MAX_DEFAULT);
		catalog = make_catalog();
	}
	sql_scan(text, env, &facts);
	return sql_classify(classifier, catalog, text, &facts);
}

static void check_resets(struct slice text, const struct sql_env *env)
{
	const struct lex_env lex = { .standard_strings = env->standard_strings,
				     .ascii_safe = env->ascii_safe };
	struct sql_reset items[SQL_RESETS_MAX];
	unsigned n = 0;

	if (!sql_find_resets(text, &lex, items, &n))
		return;
	PGT_ASSERT(n <= SQL_RESETS_MAX);
	for (unsigned i = 0; i < n; i++) {
		PGT_ASSERT(memchr(items[i].name, '\0', sizeof(items[i].name)));
		PGT_ASSERT(items[i].end <= text.n && items[i].at + items[i].n <= text.n);
		PGT_ASSERT(i == 0 || items[i - 1].nth <= items[i].nth);
	}
}

static void check_class(struct slice text, const struct sql_env *env)
{
	enum sql_class class = classify(text, env);
	struct buf longer = { 0 };

	PGT_ASSERT(classify(text, env) == class);
	if (class == SQL_CLASS_READ) {
		buf_put_slice(&longer, text);
		buf_put_slice(&longer, SLICE("\n; DELETE FROM t"));
		PGT_ASSERT(classify(buf_peek(&longer), env) == SQL_CLASS_WRITE_OR_UNKNOWN);
	}
	buf_fini(&longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_env env = { .ascii_safe = true, .wants_fingerprint = true };
	char *copy;

	if (size == 0)
		return 0;
	env.standard_strings = data[0] & 1;
	env.tenant_setting = data[0] & 2 ? "app.id" : NULL;
	copy = xmemdup0((const char *)data + 1, size - 1);
	/* Texts that a Query can hold. */
	if (strlen(copy) == size - 1) {
		check_resets(slice_of(copy, size - 1), &env);
		check_class(slice_of(copy, size - 1), &env);
	}
	free(copy);
	return 0;
}
