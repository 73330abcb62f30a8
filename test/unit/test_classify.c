/* SPDX-License-Identifier: ISC
 *
 * test_classify.c - which texts are proven reads: the lists of test/sql, and the cache.
 *
 * The catalog is a small one made here; the integration tests use a server's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/hash.h"
#include "sql/classify.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static const struct sql_env env = { .standard_strings = true,
				    .ascii_safe = true,
				    .tenant_setting = "app.current_business_id",
				    .wants_fingerprint = true };

/* As pg_proc has them. */
static const char *const stable_functions[] = {
	"count",
	"sum",
	"avg",
	"min",
	"max",
	"string_agg",
	"array_agg",
	"row_number",
	"lag",
	"lower",
	"upper",
	"length",
	"substr",
	"btrim",
	"substring",
	"overlay",
	"position",
	"now",
	"extract",
	"date_trunc",
	"timezone",
	"abs",
	"round",
	"generate_series",
	"unnest",
	"json_array_elements",
	"current_setting",
	"version",
	"like_escape",
	"txid_current",
	"pg_current_xact_id",
	"pg_backend_pid",
	"ts_rewrite",
	"pg_get_constraintdef",
	"has_table_privilege",
	"pg_get_userbyid",
	"format_type",
	"pg_column_size",
	"pg_typeof",
	"pg_postmaster_start_time",
	"inet_server_port",
	"pg_show_all_settings",
	"pg_current_snapshot",
	"table_to_xml",
	"crosstab3",
	"dblink",
};
/* Views that the query of the catalog finds by what they call. */
static const char *const telling_views[] = {
	"pg_config",    "pg_available_extensions", "pg_available_extension_versions",
	"pg_sequences", "pg_hba_file_rules",       "pg_file_settings",
};
static const char *const volatile_functions[] = {
	"nextval",
	"setval",
	"currval",
	"lastval",
	"random",
	"gen_random_uuid",
	"clock_timestamp",
	"pg_notify",
	"pg_advisory_lock",
	"pg_advisory_xact_lock",
	"pg_try_advisory_lock",
	"pg_try_advisory_xact_lock_shared",
	"set_config",
	"lo_create",
	"pg_is_in_recovery",
	"pg_sleep",
	"query_to_xml",
};

static const struct sql_catalog *catalog_new(void)
{
	struct sql_catalog_builder *b = sql_catalog_builder_new();
	struct slice core = SLICE("pg_catalog"), public = SLICE("public");

	for (size_t i = 0; i < PGT_NELEMS(stable_functions); i++)
		sql_catalog_builder_function(b, core, slice_str(stable_functions[i]), false);
	for (size_t i = 0; i < PGT_NELEMS(volatile_functions); i++)
		sql_catalog_builder_function(b, core, slice_str(volatile_functions[i]), true);
	for (size_t i = 0; i < PGT_NELEMS(telling_views); i++)
		sql_catalog_builder_relation(b, core, slice_str(telling_views[i]));
	sql_catalog_builder_function(b, public, SLICE("f_stable"), false);
	sql_catalog_builder_function(b, public, SLICE("f_immutable"), false);
	sql_catalog_builder_function(b, public, SLICE("f_volatile"), true);
	sql_catalog_builder_relation(b, public, SLICE("v_volatile"));
	sql_catalog_builder_relation(b, public, SLICE("t_unlogged"));
	sql_catalog_builder_relation(b, public, SLICE("seq"));
	return sql_catalog_builder_finish(b);
}

struct fixture {
	const struct sql_catalog *catalog;
	struct sql_classifier *classifier;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->catalog = catalog_new();
	f->classifier = sql_classifier_new(4, SQL_PARSE_MAX_DEFAULT);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	sql_classifier_free(f->classifier);
	sql_catalog_unref(f->catalog);
	free(f);
	return 0;
}

static enum sql_class classify(struct fixture *f, const char *text)
{
	struct sql_facts facts;

	sql_scan(slice_str(text), &env, &facts);
	return sql_classify(f->classifier, f->catalog, slice_str(text), &facts);
}

/* Reads a list of test/sql; says each line of another class than expected, twice: the second time
 * the cache answers. */
static unsigned count_wrong(struct fixture *f, const char *path, enum sql_class expected,
			    unsigned *lines)
{
	const char *srcdir = getenv("srcdir");
	char name[512], line[512];
	unsigned wrong = 0;
	FILE *file;

	snprintf(name, sizeof(name), "%s/%s", srcdir ? srcdir : ".", path);
	file = fopen(name, "r");
	assert_non_null(file);
	for (*lines = 0; fgets(line, sizeof(line), file);) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "--", 2) == 0)
			continue;
		++*lines;
		for (int again = 0; again < 2; again++)
			if (classify(f, line) != expected) {
				print_error("wrong: %s\n", line);
				wrong++;
			}
	}
	fclose(file);
	return wrong;
}

static enum sql_safety decided(const char *names[][2], size_t n, const char *schema)
{
	struct sql_catalog_builder *b = sql_catalog_builder_new();
	struct sql_catalog *c;
	enum sql_safety safety;

	sql_catalog_builder_function(b, SLICE("public"), SLICE("f"), true);
	sql_catalog_builder_function(b, SLICE("other"), SLICE("f"), false);
	c = sql_catalog_builder_finish(b);
	for (size_t i = 0; i < n; i++)
		sql_catalog_decide(c, slice_str(names[i][0]), *names[i][1] == 'w');
	safety = sql_catalog_function(c, slice_str(schema), SLICE("f"));
	sql_catalog_unref(c);
	return safety;
}

static void test_the_operator_decides(void **state)
{
	const char *reads[][2] = {
		{"f", "r"}
	};
	const char *one[][2] = {
		{"public.f", "r"},
                { "none.f",  "w"},
                { "g",       "w"}
	};
	const char *both[][2] = {
		{"f",        "r"},
                { "other.f", "w"}
	};

	assert_int_equal(decided(NULL, 0, ""), SQL_SAFETY_UNSAFE);
	assert_int_equal(decided(reads, 1, ""), SQL_SAFETY_SAFE);
	assert_int_equal(decided(reads, 1, "public"), SQL_SAFETY_SAFE);
	assert_int_equal(decided(one, 3, ""), SQL_SAFETY_SAFE);
	assert_int_equal(decided(both, 2, "other"), SQL_SAFETY_UNSAFE);
	assert_int_equal(decided(both, 2, "public"), SQL_SAFETY_SAFE);
	assert_int_equal(decided(both, 2, ""), SQL_SAFETY_UNSAFE);
}

#ifdef HAVE_PG_QUERY
struct hidden {
	const char *kind, *name, *function;
};

/* A catalog in which these functions are behind these names. */
static const struct sql_catalog *catalog_with(const struct hidden *hidden, size_t n)
{
	struct sql_catalog_builder *b = sql_catalog_builder_new();
	struct slice public = SLICE("public");

	sql_catalog_builder_function(b, public, SLICE("f_writes"), true);
	sql_catalog_builder_function(b, public, SLICE("f_reads"), false);
	for (size_t i = 0; i < n; i++)
		sql_catalog_builder_behind(b, slice_str(hidden[i].kind), slice_str(hidden[i].name),
					   public, slice_str(hidden[i].function));
	return sql_catalog_builder_finish(b);
}

static bool proves(const struct sql_catalog *catalog, const char *text, char why[SQL_WHY_MAX])
{
	struct sql_facts facts;

	sql_scan(slice_str(text), &env, &facts);
	return sql_classify_explain(catalog, slice_str(text), &facts, SQL_PARSE_MAX_DEFAULT, why) ==
	       SQL_CLASS_READ;
}

static void test_i4_what_no_text_names(void **state)
{
	static const struct hidden hidden[] = {
		{"operator",  "+!",       "f_writes"},
                { "operator", "<@>",      "f_writes"},
		{ "operator", "-!",       "f_reads" },
                { "type",     "checked",  "f_writes"},
		{ "function", "f_reads",  "f_writes"},
                { "relation", "boxes",    "f_writes"},
		{ "newer",    "anything", "f_writes"},
	};
	static const struct {
		const char *text, *why;
	} told[] = {
		{"SELECT a -! 1 FROM t WHERE a <> 2", ""								},
		{ "SELECT a +! 1 FROM t",             "operator +! runs f_writes(), which may write"                    },
		{ "SELECT a OPERATOR(s.+!) 1 FROM t",
                 "operator +! runs f_writes(), which may write"                                                         },
		{ "SELECT a FROM t ORDER BY a <@> 2",
                 "operator <@> runs f_writes(), which may write"                                                        },
		{ "SELECT a::checked FROM t",         "type checked runs f_writes(), which may write"                   },
		{ "SELECT CAST(a AS s.checked[])",
                 "type checked runs f_writes(), which may write"                                                        },
		{ "SELECT f_reads(1)",
                 "a type in the use of f_reads runs f_writes(), which may write"                                        },
		{ "SELECT * FROM boxes",
                 "a type in the use of boxes runs f_writes(), which may write"                                          },
		{ "SELECT f_writes()",                "f_writes() may write or tell of one node: it is volatile, "
				       "or what it runs or reads is the primary's"},
		{ "SELECT f_else()",                  "f_else() is not known to the catalog"                            },
		{ "SELECT nextval('s')",              "nextval() writes the sequence"                                   },
		{ "SELECT * FROM t FOR UPDATE",       "FOR UPDATE and FOR SHARE lock rows"                              },
		{ "INSERT INTO t VALUES (1)",         "insert is no read"                                               },
		{ "/* route: primary */ SELECT 1",    "its comment asks for the primary"                                },
		{ "SELECT FROM WHERE",
                 "the grammar does not take it: syntax error at or near \"WHERE\""                                      },
	};
	const struct sql_catalog *catalog = catalog_with(hidden, PGT_NELEMS(hidden));
	char why[SQL_WHY_MAX];

	for (size_t i = 0; i < PGT_NELEMS(told); i++) {
		assert_int_equal(proves(catalog, told[i].text, why), !*told[i].why);
		assert_string_equal(why, told[i].why);
	}
	assert_false(proves(NULL, "SELECT 1", why));
	assert_string_equal(why, "the catalog of the primary has not been read, or "
				 "not since something was defined");
	sql_catalog_unref(catalog);
}

static void test_i4_comparisons_that_no_text_spells(void **state)
{
	static const struct hidden equal = { "operator", "=", "f_writes" };
	const struct sql_catalog *catalog = catalog_with(&equal, 1);
	char why[SQL_WHY_MAX];

	assert_false(proves(catalog, "SELECT DISTINCT a FROM t", why));
	assert_string_equal(why, "operator = runs f_writes(), which may write");
	sql_catalog_decide((struct sql_catalog *)catalog, SLICE("f_writes"), false);
	assert_true(proves(catalog, "SELECT DISTINCT a FROM t", why));
	sql_catalog_unref(catalog);
}
#endif

static void test_what_is_too_long_may_become_shorter_than_the_limit(void **state)
{
	struct fixture *f = *state;

	sql_classifier_set_parse_max(f->classifier, 12);
	assert_int_equal(classify(f, "select a from t"), SQL_CLASS_WRITE_OR_UNKNOWN);
#ifdef HAVE_PG_QUERY
	sql_classifier_set_parse_max(f->classifier, 100);
	assert_int_equal(classify(f, "select a from t"), SQL_CLASS_READ);
#endif
}

static void test_i4_no_write_shape_is_a_read(void **state)
{
	unsigned lines;

	assert_int_equal(
	    count_wrong(*state, "test/sql/write_shapes.txt", SQL_CLASS_WRITE_OR_UNKNOWN, &lines),
	    0);
	assert_true(lines >= 80);
}

#ifdef HAVE_PG_QUERY
static void test_read_shapes_are_reads(void **state)
{
	unsigned lines;

	assert_int_equal(count_wrong(*state, "test/sql/read_shapes.txt", SQL_CLASS_READ, &lines),
			 0);
	assert_true(lines >= 60);
}

static void test_a_known_shape_is_not_parsed_again(void **state)
{
	struct fixture *f = *state;
	const struct sql_classifier_stats *stats = sql_classifier_stats(f->classifier);
	uint64_t parses = stats->parses;

	assert_int_equal(classify(f, "select a from t where id = 1"), SQL_CLASS_READ);
	assert_int_equal(classify(f, "SELECT a FROM t /* x */ WHERE id=2"), SQL_CLASS_READ);
	assert_int_equal(stats->parses, parses + 1);
}

static void test_the_cache_stays_bounded(void **state)
{
	struct fixture *f = *state;
	char text[64];

	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "select c%d from t", i);
		assert_int_equal(classify(f, text), SQL_CLASS_READ);
	}
	assert_true(sql_classifier_stats(f->classifier)->evictions >= 96);
}

static void test_a_lie_is_remembered(void **state)
{
	struct fixture *f = *state;
	struct sql_facts facts;

	assert_int_equal(classify(f, "select f_stable(1)"), SQL_CLASS_READ);
	sql_scan(SLICE("select f_stable(9)"), &env, &facts);
	sql_classifier_remember_write(f->classifier, f->catalog, &facts);
	assert_int_equal(classify(f, "select f_stable(1)"), SQL_CLASS_WRITE_OR_UNKNOWN);
}

static void test_i4_a_proof_holds_as_long_as_its_catalog_and_no_lie_is_found(void **state)
{
	struct fixture *f = *state;
	struct sql_catalog_builder *b = sql_catalog_builder_new();
	const struct sql_catalog *other = sql_catalog_builder_finish(b);
	uint64_t era = sql_classifier_era(f->classifier, f->catalog);
	struct sql_facts facts;

	assert_true(era);
	assert_false(sql_classifier_era(f->classifier, NULL));
	assert_true(era != sql_classifier_era(f->classifier, other));
	assert_int_equal(classify(f, "select f_stable(1)"), SQL_CLASS_READ);
	assert_true(era == sql_classifier_era(f->classifier, f->catalog));
	sql_scan(SLICE("select f_stable(1)"), &env, &facts);
	sql_classifier_remember_write(f->classifier, f->catalog, &facts);
	assert_true(era != sql_classifier_era(f->classifier, f->catalog));
	assert_false(sql_classifier_era(f->classifier, NULL));
	sql_catalog_unref(other);
}

static void test_another_catalog_gives_its_own_answer(void **state)
{
	struct fixture *f = *state;
	struct sql_catalog_builder *b = sql_catalog_builder_new();
	const struct sql_catalog *first = f->catalog;

	assert_int_equal(classify(f, "select lower(b) from t"), SQL_CLASS_READ);
	sql_catalog_builder_function(b, SLICE("pg_catalog"), SLICE("lower"), false);
	sql_catalog_builder_function(b, SLICE("public"), SLICE("lower"), true);
	f->catalog = sql_catalog_builder_finish(b);
	assert_int_equal(classify(f, "select lower(b) from t"), SQL_CLASS_WRITE_OR_UNKNOWN);
	assert_int_equal(classify(f, "select pg_catalog.lower(b) from t"), SQL_CLASS_READ);
	sql_catalog_unref(f->catalog);
	f->catalog = first;
	assert_int_equal(classify(f, "select lower(b) from t"), SQL_CLASS_READ);
}

/* As people decorate them. */
static void test_comments_may_have_signs_in_them(void **state)
{
	struct fixture *f = *state;
	const struct sql_classifier_stats *stats = sql_classifier_stats(f->classifier);
	char text[1200] = "select ";

	for (unsigned i = 0; i < 30; i++)
		strcat(text, "/************ a + b ************/\n");
	assert_int_equal(classify(f, strcat(text, "a from t")), SQL_CLASS_READ);
	assert_int_equal(classify(f, "select /*+ /*+ /*+ */ */ */ b from t"), SQL_CLASS_READ);
	assert_int_equal(stats->parses, 2);
}

static void test_deep_and_long_texts_are_not_parsed(void **state)
{
	struct fixture *f = *state;
	uint64_t parses = sql_classifier_stats(f->classifier)->parses;
	/* clang-format off */
	static const struct {
		const char *begin, *unit, *end;
		size_t times;
	} rows[] = {
		{ "select ", "(", "1", 300 },
		{ "select 1", "+1", "", 4001 },
		{ "select 1", ",1", "", SQL_PARSE_MAX_DEFAULT },
		/* The scanner takes quadratic time for comments in a row, nested or not. */
		{ "select 1 ", "/**/", "", 4000 },
		{ "select 1 /*", "/**/", "*/", 4000 },
	};
	/* clang-format on */

	for (size_t i = 0; i < PGT_NELEMS(rows); i++) {
		size_t unit = strlen(rows[i].unit);
		char *text = calloc(1, unit * rows[i].times + 32);

		strcpy(text, rows[i].begin);
		for (size_t k = 0; k < rows[i].times; k++)
			memcpy(text + strlen(rows[i].begin) + k * unit, rows[i].unit, unit);
		strcat(text, rows[i].end);
		assert_int_equal(classify(f, text), SQL_CLASS_WRITE_OR_UNKNOWN);
		free(text);
	}
	assert_int_equal(sql_classifier_stats(f->classifier)->parses, parses);
}

static void *classify_in_thread(void *arg)
{
	struct fixture f = { .catalog = sql_catalog_ref(arg),
			     .classifier = sql_classifier_new(8, SQL_PARSE_MAX_DEFAULT) };
	char text[128];
	uintptr_t wrong = 0;

	for (int i = 0; i < 500; i++) {
		snprintf(text, sizeof(text), "select c%d, count(*) from t where a in (1, 2)", i);
		wrong += classify(&f, text) != SQL_CLASS_READ;
		snprintf(text, sizeof(text), "select c%d from t where nextval('seq') = 1", i);
		wrong += classify(&f, text) == SQL_CLASS_READ;
		snprintf(text, sizeof(text), "select c%d from from t", i);
		wrong += classify(&f, text) == SQL_CLASS_READ;
	}
	sql_classifier_free(f.classifier);
	sql_catalog_unref(f.catalog);
	return (void *)wrong;
}

static void test_threads_share_a_catalog(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[4];
	void *wrong;

	for (size_t i = 0; i < PGT_NELEMS(threads); i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, classify_in_thread, (void *)f->catalog), 0);
	for (size_t i = 0; i < PGT_NELEMS(threads); i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
}
#endif

static void test_without_a_catalog_nothing_is_a_read(void **state)
{
	struct fixture *f = *state;
	const struct sql_catalog *catalog = f->catalog;

	f->catalog = NULL;
	assert_int_equal(classify(f, "select 1"), SQL_CLASS_WRITE_OR_UNKNOWN);
	f->catalog = catalog;
}

/* Or all texts that nobody wanted a fingerprint of would share what one of them was found to be. */
static void test_i4_without_a_fingerprint_nothing_is_a_read(void **state)
{
	struct fixture *f = *state;
	struct sql_env careless = env;
	struct slice text = SLICE("select 1");
	struct sql_facts facts;

	careless.wants_fingerprint = false;
	sql_scan(text, &careless, &facts);
	assert_true(facts.fingerprint[0] == 0 && facts.fingerprint[1] == 0);
	assert_int_equal(sql_classify(f->classifier, f->catalog, text, &facts),
			 SQL_CLASS_WRITE_OR_UNKNOWN);
}

static void test_other_lexical_rules_are_no_read(void **state)
{
	struct fixture *f = *state;
	const struct sql_env off = { .ascii_safe = true, .wants_fingerprint = true };
	const struct sql_env sjis = { .standard_strings = true, .wants_fingerprint = true };
	struct slice text = SLICE("select '\\', nextval('seq') --'");
	struct sql_facts facts;

	sql_scan(text, &off, &facts);
	assert_int_equal(sql_classify(f->classifier, f->catalog, text, &facts),
			 SQL_CLASS_WRITE_OR_UNKNOWN);
	sql_scan(SLICE("select 1"), &sjis, &facts);
	assert_int_equal(sql_classify(f->classifier, f->catalog, SLICE("select 1"), &facts),
			 SQL_CLASS_WRITE_OR_UNKNOWN);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_the_operator_decides),
		T(test_what_is_too_long_may_become_shorter_than_the_limit),
		T(test_i4_no_write_shape_is_a_read),
#ifdef HAVE_PG_QUERY
		T(test_read_shapes_are_reads),
		T(test_i4_what_no_text_names),
		T(test_i4_comparisons_that_no_text_spells),
		T(test_a_known_shape_is_not_parsed_again),
		T(test_the_cache_stays_bounded),
		T(test_a_lie_is_remembered),
		T(test_i4_a_proof_holds_as_long_as_its_catalog_and_no_lie_is_found),
		T(test_another_catalog_gives_its_own_answer),
		T(test_comments_may_have_signs_in_them),
		T(test_deep_and_long_texts_are_not_parsed),
		T(test_threads_share_a_catalog),
#endif
		T(test_without_a_catalog_nothing_is_a_read),
		T(test_i4_without_a_fingerprint_nothing_is_a_read),
		T(test_other_lexical_rules_are_no_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
