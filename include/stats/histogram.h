/* SPDX-License-Identifier: ISC
 *
 * histogram.h - durations counted by size, so that quantiles can be told of any number of them.
 *
 * Log-linear: each power of two is cut into 32 buckets of one width, so a bucket's middle is within
 * 1.6 % of all that is in it, from a microsecond to 71 minutes; what took longer counts as that.
 * Below 64 microseconds each has a bucket of its own.  Histograms are added by adding counts, which
 * loses nothing.  Pure.
 */
#ifndef PGT_STATS_HISTOGRAM_H
#define PGT_STATS_HISTOGRAM_H

#include "base/buf.h"
#include "base/clock.h"

#include <stdbool.h>
#include <stdint.h>

/* Buckets of a power of two; a page of them is what latency.h allocates at once. */
#define HISTOGRAM_PAGE    32u
#define HISTOGRAM_PAGES   28u
#define HISTOGRAM_BUCKETS (HISTOGRAM_PAGE * HISTOGRAM_PAGES)

/* What is read, or added up of several threads; a zeroed one is empty. */
struct histogram {
	uint64_t counts[HISTOGRAM_BUCKETS];
	usec_t max; /* exact, while counts are not */
};

static inline unsigned histogram_bucket(usec_t value)
{
	uint32_t v = value < 0 ? 0 : value > UINT32_MAX ? UINT32_MAX : (uint32_t)value;
	unsigned shift = 26 - (unsigned)__builtin_clz(v | HISTOGRAM_PAGE);

	return shift * HISTOGRAM_PAGE + (v >> shift);
}

/* The least value of a bucket; of HISTOGRAM_BUCKETS: behind the last one. */
static inline usec_t histogram_least(unsigned bucket)
{
	unsigned shift = bucket < 2 * HISTOGRAM_PAGE ? 0 : bucket / HISTOGRAM_PAGE - 1;

	return (usec_t)(bucket - shift * HISTOGRAM_PAGE) << shift;
}

void histogram_add(struct histogram *h, const struct histogram *more);
uint64_t histogram_count(const struct histogram *h);
/* How many were less than `below`, which is the least value of a bucket. */
uint64_t histogram_count_below(const struct histogram *h, usec_t below);
/* Of all of them together, as if each were the middle of its bucket. */
usec_t histogram_sum(const struct histogram *h);
/* What so many of a thousand did not exceed, by nearest rank; -1: there are none. */
usec_t histogram_quantile(const struct histogram *h, unsigned permille);

/* Appends it as a text without NUL, short where few buckets are used … */
void histogram_put(const struct histogram *h, struct buf *out);
/* … and adds one that was written so. */
void histogram_take(struct histogram *h, const char *text);

#endif
