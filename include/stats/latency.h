/* SPDX-License-Identifier: ISC
 *
 * latency.h - histograms of the last minute and the last hour, for whoever something took time.
 *
 * Each owner (a tenant, a node of a database) has one series for each kind of time, made when it is
 * first needed, and in it pages for the powers of two that occur.  To record is to count in one
 * page.  A window is what happened in the current minute (hour) and the one before, so between one
 * and two of them; a minute that has passed is added to its hour, and the hour, where the owner
 * keeps a total, to that.
 *
 * A series that nothing was recorded in for as long as a window may reach back is freed.  One
 * thread.
 */
#ifndef PGT_STATS_LATENCY_H
#define PGT_STATS_LATENCY_H

#include "base/list.h"
#include "stats/histogram.h"
#include "stats/latency.def"

enum latency_kind {
#define X(name, help) LATENCY_##name,
	LATENCIES(X)
#undef X
	    NLATENCIES
};

enum latency_window { LATENCY_MINUTE, LATENCY_HOUR, LATENCY_TOTAL };

/* What is recorded.  A request outside a transaction block is a transaction too, and is counted
 * once for both. */
enum latency_part {
	LATENCY_ALONE,  /* such a one */
	LATENCY_WITHIN, /* a request within a block */
	LATENCY_BLOCK,  /* a block, from its first request to its end */
	LATENCY_WAITED,
	LATENCY_CONNECTED,
	NLATENCY_PARTS
};

/* Of a thread. */
struct latency_clock {
	unsigned minute; /* of the monotonic clock */
	struct list
	    series;      /* that may be freed, by .link: first what was recorded in longest ago */
	unsigned npages; /* of all series */
};

/* Two minutes and two hours, of which one is current. */
enum { LATENCY_SLICES = 4 };

/* Buckets of one power of two. */
struct latency_page {
	uint32_t counts[LATENCY_SLICES][HISTOGRAM_PAGE];
	uint64_t total[]; /* of what is in none of them any more, where it is kept */
};

struct latency {
	struct list link;
	struct latency **at; /* where its owner has it */
	unsigned minute;     /* the current one, when something was recorded last */
	bool keeps_total;
	usec_t max[LATENCY_SLICES];
	usec_t total_max;
	struct latency_page *pages[HISTOGRAM_PAGES];
};

/* Of one owner; must not be moved. */
struct latencies {
	struct latency_clock *clock; /* NULL: nothing is measured */
	bool keeps_total;
	struct latency *parts[NLATENCY_PARTS];
};

void latency_clock_init(struct latency_clock *clock, usec_t now);
/* Some times a minute or more often: moves windows, and frees what has become empty, not much at
 * once. */
void latency_clock_sweep(struct latency_clock *clock, usec_t now);

/* A zeroed one measures nothing. */
void latencies_init(struct latencies *of, struct latency_clock *clock, bool keeps_total);
void latencies_fini(struct latencies *of);

/* The same as latency_count(), where there may be no page yet or a minute has passed. */
void latency_count_slowly(struct latencies *of, enum latency_part part, unsigned bucket,
			  usec_t took);

/* bucket: of took, for who counts it more than once. */
static inline void latency_count(struct latencies *of, enum latency_part part, unsigned bucket,
				 usec_t took)
{
	struct latency *l = of->parts[part];
	struct latency_page *page = l ? l->pages[bucket / HISTOGRAM_PAGE] : NULL;
	unsigned slice;

	if (!page || l->minute != of->clock->minute) {
		latency_count_slowly(of, part, bucket, took);
		return;
	}
	slice = l->minute & 1;
	page->counts[slice][bucket % HISTOGRAM_PAGE]++;
	if (took > l->max[slice])
		l->max[slice] = took;
}

/* For an owner and, where it is not NULL, a second one. */
static inline void latency_record(struct latencies *of, struct latencies *too,
				  enum latency_part part, usec_t took)
{
	unsigned bucket = histogram_bucket(took);

	latency_count(of, part, bucket, took);
	if (too)
		latency_count(too, part, bucket, took);
}

/* Adds what a window has. */
void latency_read(const struct latencies *of, enum latency_kind kind, enum latency_window window,
		  struct histogram *h);
/* Whether a window may have anything: cheap, since most tenants have nothing in the last minute. */
bool latency_is_any(const struct latencies *of, enum latency_kind kind, enum latency_window window);

const char *latency_kind_name(enum latency_kind kind);

#endif
