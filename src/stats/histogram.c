/* SPDX-License-Identifier: ISC
 *
 * histogram.c - counts of durations: added, asked for quantiles, written as text.
 *
 * Knows no clock and no owner; who counts what is latency.c.
 */
#include "stats/histogram.h"

#include <stdlib.h>

void histogram_add(struct histogram *h, const struct histogram *more)
{
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		h->counts[i] += more->counts[i];
	if (more->max > h->max)
		h->max = more->max;
}

uint64_t histogram_count_below(const struct histogram *h, usec_t below)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && histogram_least(i) < below; i++)
		n += h->counts[i];
	return n;
}

uint64_t histogram_count(const struct histogram *h)
{
	return histogram_count_below(h, histogram_least(HISTOGRAM_BUCKETS));
}

static usec_t middle_of(unsigned bucket)
{
	return (histogram_least(bucket) + histogram_least(bucket + 1) - 1) / 2;
}

usec_t histogram_sum(const struct histogram *h)
{
	usec_t sum = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		sum += (usec_t)h->counts[i] * middle_of(i);
	return sum;
}

usec_t histogram_quantile(const struct histogram *h, unsigned permille)
{
	uint64_t n = histogram_count(h), seen = 0, rank;

	if (!n)
		return -1;
	rank = (n * permille + 999) / 1000;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->counts[i];
		if (!h->counts[i] || seen < rank)
			continue;
		return middle_of(i) < h->max ? middle_of(i) : h->max;
	}
	return h->max;
}

/* Thousands are written for one SHOW, on threads that serve clients. */
static void put_number(struct buf *out, uint64_t number)
{
	char digits[17];
	size_t at = sizeof(digits);

	do {
		digits[--at] = "0123456789abcdef"[number & 15];
		number >>= 4;
	} while (number);
	digits[--at] = ' ';
	buf_put(out, digits + at, sizeof(digits) - at);
}

/* " max", then " bucket count" of each that is used, in hexadecimal. */
void histogram_put(const struct histogram *h, struct buf *out)
{
	put_number(out, (uint64_t)h->max);
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		if (h->counts[i]) {
			put_number(out, i);
			put_number(out, h->counts[i]);
		}
}

static uint64_t take_number(const char **p)
{
	char *end;
	uint64_t number = strtoull(*p, &end, 16);

	*p = end;
	return number;
}

void histogram_take(struct histogram *h, const char *text)
{
	usec_t max = (usec_t)take_number(&text);

	if (max > h->max)
		h->max = max;
	while (*text) {
		uint64_t bucket = take_number(&text);
		uint64_t count = take_number(&text);

		PGT_ASSERT(bucket < HISTOGRAM_BUCKETS && count);
		h->counts[bucket] += count;
	}
}
