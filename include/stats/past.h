/* SPDX-License-Identifier: ISC
 *
 * past.h - what was counted by those that are gone, by name.
 *
 * A sum over all that are there would fall when one of them goes, and a counter that falls is taken
 * for one that began anew.  Knows only names, not what has them.
 */
#ifndef PGT_STATS_PAST_H
#define PGT_STATS_PAST_H

#include "base/hash.h"
#include "stats/counters.h"

struct past {
	struct hlink link;
	struct counters counters;
	char name[];
};

/* Adds the counters to those of the name. */
void past_add(struct hmap *pasts, const char *name, const struct counters *counters);
/* Forgets one, which is in the table. */
void past_forget(struct hmap *pasts, struct past *past);
void pasts_fini(struct hmap *pasts);

#endif
