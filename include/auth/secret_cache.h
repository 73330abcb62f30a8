/* SPDX-License-Identifier: ISC
 *
 * secret_cache.h - secrets of users that a database was asked for, for a while.
 *
 * Who is nobody is kept in the same way, so that time tells neither from the other.  Bounded: the
 * one that was used longest ago goes first.  Takes the time as a number; one thread.
 */
#ifndef PGT_AUTH_SECRET_CACHE_H
#define PGT_AUTH_SECRET_CACHE_H

#include "auth/userlist.h"
#include "base/clock.h"
#include "base/list.h"

struct secret_cache {
	struct hmap secrets;
	struct list lru; /* the last used first */
	unsigned max;
};

/* max: how many are kept, at least 1. */
void secret_cache_init(struct secret_cache *cache, unsigned max);
/* Wipes and frees; may be used again. */
void secret_cache_clear(struct secret_cache *cache);
void secret_cache_fini(struct secret_cache *cache);

/* Keeps what was found at `now`, instead of what was kept, up to a time; secret.p NULL: nobody. A
 * secret that makes no sense is nobody's: false. */
bool secret_cache_keep(struct secret_cache *cache, struct slice user, struct slice secret,
		       usec_t now, usec_t until);
/* Whether it is known at `now`: *found is its entry, borrowed until the next call, or NULL: nobody.
 */
bool secret_cache_find(struct secret_cache *cache, struct slice user, usec_t now,
		       const struct userlist_entry **found) PGT_MUST_USE;
/* Forgets a user that was found before a time. */
void secret_cache_forget(struct secret_cache *cache, struct slice user, usec_t before);

#endif
