/* SPDX-License-Identifier: ISC
 *
 * slow.h - the last statements that took too long, as many as there is room for.
 *
 * One thread.
 */
#ifndef PGT_STATS_SLOW_H
#define PGT_STATS_SLOW_H

#include "base/clock.h"

#include <stdint.h>

/* That a thread remembers. */
#define SLOW_KEPT 128

struct slow {
	usec_t at; /* when it had ended, of the wall clock */
	usec_t took;
	uint64_t client, rows, bytes;
	unsigned node;
	char id[17];
	const char *database, *user, *tenant, *text;
	const char *as_sent; /* with its literals; "": it was not kept */
	char *room;          /* of the strings */
};

struct slow_log {
	struct slow ring[SLOW_KEPT];
	uint64_t n; /* so far */
};

void slow_log_fini(struct slow_log *log);
/* Copies it, its strings too. */
void slow_log_add(struct slow_log *log, const struct slow *slow);
/* The i-th from the last; NULL: there are no more. */
const struct slow *slow_log_at(const struct slow_log *log, unsigned i);

#endif
