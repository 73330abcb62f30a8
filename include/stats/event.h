/* SPDX-License-Identifier: ISC
 *
 * event.h - changes of state worth knowing afterwards: a line in the log, and the last of them.
 *
 * The same of the same database, tenant and node that comes again within a minute is counted and
 * not told again, and of no kind are there more than so many in a minute.  Any thread; a lock is
 * held for as long as it takes to look at those that are kept, so nothing says an event for each
 * query.
 */
#ifndef PGT_STATS_EVENT_H
#define PGT_STATS_EVENT_H

#include "base/clock.h"
#include "base/log.h"
#include "stats/events.def"

enum event_kind {
#define X(name, ...) EVENT_##name,
	EVENTS(X)
#undef X
	    NEVENTS
};

struct event_spec {
	const char *name;
	enum log_level level;
	unsigned burst;
	const char *doc;
};

extern const struct event_spec event_specs[NEVENTS];

/* One that is kept. */
struct event {
	uint64_t number; /* counts all, from 1 */
	enum event_kind kind;
	unsigned count;
	unsigned told;      /* of .count, in the log */
	usec_t first, last; /* since 1970 */
	usec_t since;       /* .first by the monotonic clock */
	const char *database, *tenant, *node, *text;
};

/* How many are kept; 0: none, and they are only logged. */
void events_keep(unsigned n);
void events_free(void);

/* Of *about counts what is said there of database, tenant and node; the event is its kind. */
void event_say(enum event_kind kind, const struct log_about *about, const char *fmt, ...)
    PGT_PRINTF(3, 4);
/* Of kinds with a burst: counts, and says it when there have been that many. */
void event_count(enum event_kind kind, const struct log_about *about, const char *fmt, ...)
    PGT_PRINTF(3, 4);
/* Tells the log what has come again since it was told.  Now and then. */
void events_sweep(void);

/* Calls see() for those above a number, the oldest first, under the lock.  Returns the number of
 * the last one. */
uint64_t events_each(uint64_t above, void (*see)(const struct event *event, void *arg), void *arg);
/* The same for the oldest one of them.  False: there is none. */
bool events_next(uint64_t above, void (*see)(const struct event *event, void *arg), void *arg);
/* The number of the last one; 0: there was none. */
uint64_t events_last(void);

#endif
