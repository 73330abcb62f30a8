/* SPDX-License-Identifier: ISC
 *
 * latency.c - series of histograms in windows of time.
 *
 * Knows minutes as numbers; whose time it is and what took it, its owners know.
 */
#include "stats/latency.h"

#include "base/mem.h"

#include <stdlib.h>

#define MINUTE           (60 * USEC_PER_SEC)
#define MINUTES_PER_HOUR 60
/* Then even the hour before the current one was empty. */
#define MINUTES_KEPT (2 * MINUTES_PER_HOUR)
/* Series that one sweep frees. */
#define FREED_AT_ONCE 64

static unsigned minute_slice(unsigned minute)
{
	return minute & 1;
}

static unsigned hour_slice(unsigned minute)
{
	return 2 + (minute / MINUTES_PER_HOUR & 1);
}

const char *latency_kind_name(enum latency_kind kind)
{
	static const char *const names[] = {
#define X(name, help) #name,
		LATENCIES(X)
#undef X
	};

	return names[kind];
}

/* ---- windows that move ------------------------------------------------------------------------
 */

/* Adds a slice to a later one, or to the total, and empties it. */
static void move_counts(struct latency *l, unsigned from, unsigned to)
{
	for (unsigned i = 0; i < HISTOGRAM_PAGES; i++) {
		struct latency_page *page = l->pages[i];

		for (unsigned k = 0; page && k < HISTOGRAM_PAGE; k++) {
			if (to != LATENCY_SLICES)
				page->counts[to][k] += page->counts[from][k];
			else if (l->keeps_total)
				page->total[k] += page->counts[from][k];
			page->counts[from][k] = 0;
		}
	}
}

static void move_slice(struct latency *l, unsigned from, unsigned to)
{
	usec_t *max = to == LATENCY_SLICES ? &l->total_max : &l->max[to];

	move_counts(l, from, to);
	if (l->max[from] > *max)
		*max = l->max[from];
	l->max[from] = 0;
}

/* Makes `minute` the current one. */
static void move_to(struct latency *l, unsigned minute)
{
	unsigned hours = minute / MINUTES_PER_HOUR - l->minute / MINUTES_PER_HOUR;

	/* The minute that leaves the window; if more have passed, both do. */
	move_slice(l, minute_slice(l->minute + 1), hour_slice(l->minute));
	if (minute - l->minute > 1)
		move_slice(l, minute_slice(l->minute), hour_slice(l->minute));
	/* The hour that will be current has been the one before the last. */
	if (hours > 0)
		move_slice(l, hour_slice(l->minute + MINUTES_PER_HOUR), LATENCY_SLICES);
	if (hours > 1)
		move_slice(l, hour_slice(l->minute), LATENCY_SLICES);
	l->minute = minute;
}

static void free_series(struct latency *l, struct latency_clock *clock)
{
	*l->at = NULL;
	list_del(&l->link);
	for (unsigned i = 0; i < HISTOGRAM_PAGES; i++) {
		clock->npages -= l->pages[i] != NULL;
		free(l->pages[i]);
	}
	free(l);
}

void latency_clock_init(struct latency_clock *clock, usec_t now)
{
	*clock = (struct latency_clock){ .minute = (unsigned)(now / MINUTE) };
	list_init(&clock->series);
}

void latency_clock_sweep(struct latency_clock *clock, usec_t now)
{
	unsigned left = FREED_AT_ONCE;

	clock->minute = (unsigned)(now / MINUTE);
	LIST_FOREACH_SAFE (at, &clock->series) {
		struct latency *l = container_of(at, struct latency, link);

		if (clock->minute - l->minute < MINUTES_KEPT || !left--)
			return;
		free_series(l, clock);
	}
}

/* ---- recording --------------------------------------------------------------------------------
 */

void latencies_init(struct latencies *of, struct latency_clock *clock, bool keeps_total)
{
	*of = (struct latencies){ .clock = clock, .keeps_total = keeps_total };
}

void latencies_fini(struct latencies *of)
{
	for (unsigned i = 0; i < NLATENCY_PARTS; i++)
		if (of->parts[i])
			free_series(of->parts[i], of->clock);
}

static void touch(struct latency *l, struct latency_clock *clock)
{
	list_del(&l->link);
	if (!l->keeps_total)
		list_push_back(&clock->series, &l->link);
}

static struct latency *make_series(struct latencies *of, enum latency_part part)
{
	struct latency *l = xnew(struct latency);

	l->at = &of->parts[part];
	l->minute = of->clock->minute;
	l->keeps_total = of->keeps_total;
	list_init(&l->link);
	touch(l, of->clock);
	of->parts[part] = l;
	return l;
}

static void make_page(struct latency *l, unsigned i, struct latency_clock *clock)
{
	size_t total = l->keeps_total ? HISTOGRAM_PAGE * sizeof(uint64_t) : 0;

	l->pages[i] = xcalloc(1, sizeof(struct latency_page) + total);
	clock->npages++;
}

void latency_count_slowly(struct latencies *of, enum latency_part part, unsigned bucket,
			  usec_t took)
{
	unsigned page = bucket / HISTOGRAM_PAGE;
	struct latency *l = of->parts[part];

	if (!of->clock)
		return;
	if (!l)
		l = make_series(of, part);
	if (l->minute != of->clock->minute) {
		move_to(l, of->clock->minute);
		touch(l, of->clock);
	}
	if (!l->pages[page])
		make_page(l, page, of->clock);
	latency_count(of, part, bucket, took);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

/* Parts of a kind, as bits. */
static const unsigned parts_of[NLATENCIES] = {
	[LATENCY_query] = 1u << LATENCY_ALONE | 1u << LATENCY_WITHIN,
	[LATENCY_transaction] = 1u << LATENCY_ALONE | 1u << LATENCY_BLOCK,
	[LATENCY_wait] = 1u << LATENCY_WAITED,
	[LATENCY_connect] = 1u << LATENCY_CONNECTED,
};

static void read_slice(const struct latency *l, unsigned slice, struct histogram *h)
{
	for (unsigned i = 0; i < HISTOGRAM_PAGES; i++)
		for (unsigned k = 0; l->pages[i] && k < HISTOGRAM_PAGE; k++)
			h->counts[i * HISTOGRAM_PAGE + k] += l->pages[i]->counts[slice][k];
	if (l->max[slice] > h->max)
		h->max = l->max[slice];
}

static void read_total(const struct latency *l, struct histogram *h)
{
	for (unsigned i = 0; i < HISTOGRAM_PAGES; i++)
		for (unsigned k = 0; l->pages[i] && k < HISTOGRAM_PAGE; k++)
			h->counts[i * HISTOGRAM_PAGE + k] += l->pages[i]->total[k];
	if (l->total_max > h->max)
		h->max = l->total_max;
}

/* Nothing is moved, since only what is recorded keeps a series. */
static void read_series(const struct latency *l, unsigned minute, enum latency_window window,
			struct histogram *h)
{
	unsigned minutes = minute - l->minute;
	unsigned hours = minute / MINUTES_PER_HOUR - l->minute / MINUTES_PER_HOUR;
	bool all = window == LATENCY_TOTAL, hour = window == LATENCY_HOUR;

	if (all || (hour ? hours <= 1 : minutes <= 1))
		read_slice(l, minute_slice(l->minute), h);
	if (all || (hour ? hours <= 1 : minutes == 0))
		read_slice(l, minute_slice(l->minute - 1), h);
	if (all || (hour && hours <= 1))
		read_slice(l, hour_slice(l->minute), h);
	if (all || (hour && hours == 0))
		read_slice(l, hour_slice(l->minute - MINUTES_PER_HOUR), h);
	if (all && l->keeps_total)
		read_total(l, h);
}

void latency_read(const struct latencies *of, enum latency_kind kind, enum latency_window window,
		  struct histogram *h)
{
	for (unsigned part = 0; part < NLATENCY_PARTS; part++)
		if (of->parts[part] && (parts_of[kind] >> part & 1))
			read_series(of->parts[part], of->clock->minute, window, h);
}

bool latency_is_any(const struct latencies *of, enum latency_kind kind, enum latency_window window)
{
	for (unsigned part = 0; part < NLATENCY_PARTS; part++) {
		const struct latency *l = of->parts[part];

		if (l && (parts_of[kind] >> part & 1) &&
		    (window != LATENCY_MINUTE || of->clock->minute - l->minute <= 1))
			return true;
	}
	return false;
}
