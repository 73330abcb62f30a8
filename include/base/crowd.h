/* SPDX-License-Identifier: ISC
 *
 * crowd.h - how many of something come from each origin, so that none of them takes all the places.
 *
 * An origin may hold as many places as are free: alone it gets half of them, the next one half of
 * what is left.  So nobody has to say what is much for one.  An origin is a number here:
 * addr_origin().  One thread, or a lock.
 */
#ifndef PGT_BASE_CROWD_H
#define PGT_BASE_CROWD_H

#include "base/hash.h"

/* A zeroed one is empty. */
struct crowd {
	struct hmap origins;
	unsigned n; /* of all */
};

/* Whether one more of an origin finds a place, of `max` for all. */
bool crowd_has_room(const struct crowd *crowd, uint64_t origin, unsigned max);
/* How many of an origin there are. */
unsigned crowd_count(const struct crowd *crowd, uint64_t origin);
/* One more, whether there was room or not; crowd_leave() for each. */
void crowd_enter(struct crowd *crowd, uint64_t origin);
void crowd_leave(struct crowd *crowd, uint64_t origin);
/* All have left. */
void crowd_fini(struct crowd *crowd);

#endif
