/* SPDX-License-Identifier: ISC
 *
 * micro.c - what the small parts of the hot path cost: nanoseconds of CPU time per call.
 *
 *     micro              a line "nanoseconds bar name" for each part
 *     micro COUNT        the same of rounds of COUNT calls
 *     micro NAME COUNT   COUNT calls of one part and nothing printed: for callgrind, see micro.py
 */
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "server/replies.h"
#include "sql/catalog.h"
#include "sql/classify.h"
#include "sql/scan.h"
#include "stats/latency.h"
#include "tenant/limit.h"
#include "wire/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CALLS  200000
#define ROUNDS 15 /* the least of them counts: all that disturbs makes it more */
#define QUERY  "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"

/* What is measured must look used to the compiler. */
#define KEEP(p) __asm__ volatile("" : : "r"(p) : "memory")

static void scan_with(const struct sql_env *env, long n)
{
	struct slice text = SLICE(QUERY);
	struct sql_facts facts;

	while (n-- > 0) {
		KEEP(text.p);
		sql_scan(text, env, &facts);
		KEEP(&facts);
	}
}

static void bench_scan(long n)
{
	scan_with(&(struct sql_env){ .standard_strings = true, .ascii_safe = true }, n);
}

static void bench_scan_tenant(long n)
{
	scan_with(&(struct sql_env){ .standard_strings = true,
				     .ascii_safe = true,
				     .tenant_setting = "app.current_business_id" },
		  n);
}

static void bench_scan_fingerprint(long n)
{
	scan_with(&(struct sql_env){ .standard_strings = true,
				     .ascii_safe = true,
				     .wants_fingerprint = true },
		  n);
}

static void bench_classify(long n)
{
	const struct sql_env env = { .standard_strings = true,
				     .ascii_safe = true,
				     .wants_fingerprint = true };
	struct sql_classifier *classifier = sql_classifier_new(1024, SQL_PARSE_MAX_DEFAULT);
	struct sql_catalog *catalog = sql_catalog_builder_finish(sql_catalog_builder_new());
	struct slice text = SLICE(QUERY);
	struct sql_facts facts;

	sql_scan(text, &env, &facts);
	while (n-- > 0) {
		enum sql_class class = sql_classify(classifier, catalog, text, &facts);

		KEEP(&class);
	}
	sql_catalog_unref(catalog);
	sql_classifier_free(classifier);
}

static void bench_frame(long n)
{
	static const char bytes[] = "Q\0\0\0\x3d" QUERY;
	struct frame frame;

	while (n-- > 0) {
		const char *p = bytes;

		__asm__ volatile("" : "+r"(p));
		if (frame_peek(p, sizeof(bytes), &frame) != FRAME_OK)
			abort();
		KEEP(&frame);
	}
}

static void bench_limit(long n)
{
	const struct limit_rules rules = {
		.rate = {1000000000, USEC_PER_SEC, 0 },
                  .quota = { [LIMIT_PER_HOUR] = UINT64_MAX        }
	};
	struct limit_state state = { 0 };
	struct limit_now now = { .monotonic = USEC_PER_SEC, .wall = USEC_PER_SEC };
	struct limit_refusal why;

	for (; n-- > 0; now.monotonic++, now.wall++)
		if (!limit_take(&state, &rules, 1, now, &why))
			abort();
}

static void bench_hash(long n)
{
	while (n-- > 0) {
		uint64_t hash = hash_bytes(QUERY, sizeof(QUERY) - 1);

		KEEP(&hash);
	}
}

static void bench_replies(long n)
{
	struct replies queue = { 0 };

	while (n-- > 0) {
		replies_push(&queue, (struct reply){ .kind = REPLY_QUERY, .way = REPLY_PASS });
		KEEP(replies_head(&queue));
		replies_pop(&queue);
	}
	replies_fini(&queue);
}

/* What it takes to know a text of a known shape for a read: all that routing asks of it. */
static void bench_known(long n)
{
	const struct sql_env env = { .standard_strings = true,
				     .ascii_safe = true,
				     .wants_fingerprint = true };
	struct sql_classifier *classifier = sql_classifier_new(1024, SQL_PARSE_MAX_DEFAULT);
	struct sql_catalog *catalog = sql_catalog_builder_finish(sql_catalog_builder_new());
	struct slice text = SLICE(QUERY);

	while (n-- > 0) {
		struct sql_facts facts;
		enum sql_class class;

		sql_scan(text, &env, &facts);
		class = sql_classify(classifier, catalog, text, &facts);
		KEEP(&class);
	}
	sql_catalog_unref(catalog);
	sql_classifier_free(classifier);
}

/* In a turn that has gone on, what loop_clock() costs. */
static void bench_clock(long n)
{
	while (n-- > 0) {
		usec_t now = clock_monotonic();

		KEEP(&now);
	}
}

static void bench_latency(long n)
{
	struct latency_clock clock;
	struct latencies of, too;

	latency_clock_init(&clock, 0);
	latencies_init(&of, &clock, true);
	latencies_init(&too, &clock, false);
	for (; n > 0; n--)
		latency_record(&of, &too, LATENCY_ALONE, n & 1023);
	latencies_fini(&of);
	latencies_fini(&too);
}

static const struct part {
	const char *name;
	void (*run)(long n);
	unsigned bar; /* nanoseconds that it may take; 0: any */
} parts[] = {
	{"frame_peek",                bench_frame,            0   },
	{ "sql_scan",                 bench_scan,             0   },
	{ "sql_scan, tenant",         bench_scan_tenant,      0   },
	{ "sql_scan, fingerprint",    bench_scan_fingerprint, 0   },
	{ "sql_classify, remembered", bench_classify,         0   },
	{ "a known shape classified", bench_known,            1000},
	{ "limit_take",               bench_limit,            0   },
	{ "hash_bytes, 56 bytes",     bench_hash,             0   },
	{ "replies push and pop",     bench_replies,          0   },
	{ "clock_monotonic",          bench_clock,            0   },
	{ "latency_record, for two",  bench_latency,          0   },
};

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double least_ns(const struct part *part, long calls)
{
	double least = 0;

	for (int i = 0; i < ROUNDS; i++) {
		double start = cpu_ns(), took;

		part->run(calls);
		took = (cpu_ns() - start) / (double)calls;
		if (i == 0 || took < least)
			least = took;
	}
	return least;
}

int main(int argc, char **argv)
{
	long calls = argc == 2 ? atol(argv[1]) : CALLS;

	for (size_t i = 0; i < PGT_NELEMS(parts); i++) {
		if (argc < 3)
			printf("%.1f %u %s\n", least_ns(&parts[i], calls), parts[i].bar,
			       parts[i].name);
		else if (argc == 3 && strcmp(parts[i].name, argv[1]) == 0)
			parts[i].run(atol(argv[2]));
	}
	return 0;
}
