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

static struct sql_catalog *make_catalog(bool is_odd)
{
	static const char *const safe[] = { "count", "lower", "now",         "f",
					    "btrim", "round", "like_escape", "current_setting" };
	struct sql_catalog_builder *b = sql_catalog_builder_new();

	for (size_t i = 0; i < PGT_NELEMS(safe); i++)
		sql_catalog_builder_function(b, SLICE("pg_catalog"), slice_str(safe[i]), false);
	sql_catalog_builder_function(b, SLICE("pg_catalog"), SLICE("nextval"), true);
	sql_catalog_builder_function(b, SLICE("public"), SLICE("writes"), true);
	sql_catalog_builder_relation(b, SLICE("public"), SLICE("seq"));
	sql_catalog_builder_behind(b, SLICE("operator"), SLICE("+"), SLICE("public"),
				   SLICE("writes"));
	sql_catalog_builder_behind(b, SLICE("type"), SLICE("d"), SLICE("public"), SLICE("writes"));
	sql_catalog_builder_behind(b, SLICE("function"), SLICE("lower"), SLICE("public"),
				   SLICE("writes"));
	sql_catalog_builder_behind(b, SLICE("relation"), SLICE("u"), SLICE("public"),
				   SLICE("writes"));
	if (is_odd)
		sql_catalog_builder_behind(b, SLICE("operator"), SLICE("="), SLICE("public"),
					   SLICE("writes"));
	return sql_catalog_builder_finish(b);
}

/* Texts longer than this are not parsed. */
#define PARSE_MAX 20000

/* Two places only, so that one makes room for another; without a catalog nothing is a read. */
static struct sql_classifier *the_classifier(void)
{
	static struct sql_classifier *classifier;

	if (!classifier)
		classifier = sql_classifier_new(2, PARSE_MAX);
	return classifier;
}

static const struct sql_catalog *the_catalog(void)
{
	static struct sql_catalog *catalog;

	if (!catalog)
		catalog = make_catalog(false);
	return catalog;
}

/* One in which nothing is proven, because = itself may write. */
static const struct sql_catalog *the_odd_catalog(void)
{
	static struct sql_catalog *catalog;

	if (!catalog)
		catalog = make_catalog(true);
	return catalog;
}

static enum sql_class classify(struct slice text, const struct sql_env *env)
{
	struct sql_facts facts;

	sql_scan(text, env, &facts);
	return sql_classify(the_classifier(), the_catalog(), text, &facts);
}

static bool begins_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* A text counts as the first of its shape does, which may have been a shorter one; and where the
 * server does not take a literal, the error is the same on a replica. */
static bool may_differ(const char *why)
{
	return begins_with(why, "it is longer than") ||
	       begins_with(why, "the grammar does not take it");
}

/* What was read before is of another era; a second time is none of its own. */
static void check_refusal(struct sql_classifier *own, const struct sql_facts *facts)
{
	uint64_t before = sql_classifier_era(own, the_catalog());

	for (int i = 0; i < 2; i++) {
		sql_classifier_remember_write(own, the_catalog(), facts);
		PGT_ASSERT(sql_classifier_era(own, the_catalog()) > before);
		before = sql_classifier_era(own, the_catalog());
	}
	PGT_ASSERT(sql_classifier_era(own, NULL) == 0);
}

/* What counts as a read is told to be one; and what a replica has refused is none. */
static void check_told(struct slice text, const struct sql_env *env, enum sql_class class)
{
	struct sql_classifier *own = sql_classifier_new(1, PARSE_MAX);
	char why[SQL_WHY_MAX];
	struct sql_facts facts;
	enum sql_class told;

	sql_scan(text, env, &facts);
	told = sql_classify_explain(the_catalog(), text, &facts, PARSE_MAX, why);
	PGT_ASSERT((told == SQL_CLASS_READ) == !*why);
	if (class == SQL_CLASS_READ) {
		PGT_ASSERT(env->wants_fingerprint && (told == class || may_differ(why)));
		PGT_ASSERT(!sql_classifier_distrusts(the_classifier(), the_catalog(), &facts));
	}
	PGT_ASSERT(sql_classify_explain(NULL, text, &facts, PARSE_MAX, why) ==
		   SQL_CLASS_WRITE_OR_UNKNOWN);
	PGT_ASSERT(*why && sql_classify(own, NULL, text, &facts) == SQL_CLASS_WRITE_OR_UNKNOWN);
	PGT_ASSERT(!sql_classifier_distrusts(own, the_catalog(), &facts));
	check_refusal(own, &facts);
	PGT_ASSERT(sql_classifier_distrusts(own, the_catalog(), &facts) == env->wants_fingerprint);
	PGT_ASSERT(sql_classify(own, the_catalog(), text, &facts) == SQL_CLASS_WRITE_OR_UNKNOWN);
	PGT_ASSERT(sql_classify(own, the_odd_catalog(), text, &facts) ==
		   SQL_CLASS_WRITE_OR_UNKNOWN);
	sql_classifier_free(own);
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
	check_told(text, env, class);
	if (class == SQL_CLASS_READ) {
		buf_put_slice(&longer, text);
		buf_put_slice(&longer, SLICE("\n; DELETE FROM t"));
		PGT_ASSERT(classify(buf_peek(&longer), env) == SQL_CLASS_WRITE_OR_UNKNOWN);
	}
	buf_fini(&longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sql_env env = { .ascii_safe = true };
	char *copy;

	if (size == 0)
		return 0;
	env.standard_strings = data[0] & 1;
	env.tenant_setting = data[0] & 2 ? "app.id" : NULL;
	env.wants_fingerprint = !(data[0] & 32);
	copy = xmemdup0((const char *)data + 1, size - 1);
	/* Texts that a Query can hold. */
	if (strlen(copy) == size - 1) {
		check_resets(slice_of(copy, size - 1), &env);
		check_class(slice_of(copy, size - 1), &env);
	}
	free(copy);
	return 0;
}
