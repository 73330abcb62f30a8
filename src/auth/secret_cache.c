/* SPDX-License-Identifier: ISC
 *
 * secret_cache.c - secrets of users that a database was asked for, for a while.
 *
 * Knows no database and no clock.
 */
#include "auth/secret_cache.h"

#include "base/mem.h"

#include <stdlib.h>

struct kept {
	struct hlink link;
	struct list lru;
	usec_t found_at, until;
	bool is_nobody;
	struct userlist_entry entry; /* of nobody with an empty secret */
};

static void drop(struct secret_cache *cache, struct kept *k)
{
	hmap_remove(&cache->secrets, &k->link);
	list_del(&k->lru);
	userlist_entry_fini(&k->entry);
	free(k);
}

static struct kept *find(const struct secret_cache *cache, struct slice user)
{
	struct hlink *l = hmap_first(&cache->secrets, hash_bytes(user.p, user.n));

	for (; l; l = hmap_next(l)) {
		struct kept *k = container_of(l, struct kept, link);

		if (slice_is_equal(slice_str(k->entry.user), user))
			return k;
	}
	return NULL;
}

void secret_cache_init(struct secret_cache *cache, unsigned max)
{
	*cache = (struct secret_cache){ .max = max };
	list_init(&cache->lru);
}

void secret_cache_clear(struct secret_cache *cache)
{
	LIST_FOREACH_SAFE (at, &cache->lru)
		drop(cache, container_of(at, struct kept, lru));
}

void secret_cache_fini(struct secret_cache *cache)
{
	secret_cache_clear(cache);
	hmap_fini(&cache->secrets);
}

bool secret_cache_keep(struct secret_cache *cache, struct slice user, struct slice secret,
		       usec_t now, usec_t until)
{
	struct kept *k = find(cache, user);
	bool makes_sense;

	if (k)
		drop(cache, k);
	else if (cache->secrets.count >= cache->max)
		drop(cache, container_of(cache->lru.prev, struct kept, lru));
	k = xnew(struct kept);
	makes_sense = secret.n <= USERLIST_MAX_PASSWORD &&
		      userlist_entry_init(&k->entry, user, secret.p ? secret : SLICE(""));
	k->is_nobody = !secret.p || !makes_sense;
	if (!makes_sense)
		k->entry = (struct userlist_entry){ .user = xmemdup0(user.p, user.n),
						    .password = xstrdup("") };
	k->found_at = now;
	k->until = until;
	list_push_front(&cache->lru, &k->lru);
	hmap_insert(&cache->secrets, &k->link, hash_bytes(user.p, user.n));
	return makes_sense;
}

bool secret_cache_find(struct secret_cache *cache, struct slice user, usec_t now,
		       const struct userlist_entry **found)
{
	struct kept *k = find(cache, user);

	if (!k)
		return false;
	if (now >= k->until) {
		drop(cache, k);
		return false;
	}
	list_del(&k->lru);
	list_push_front(&cache->lru, &k->lru);
	*found = k->is_nobody ? NULL : &k->entry;
	return true;
}

void secret_cache_forget(struct secret_cache *cache, struct slice user, usec_t before)
{
	struct kept *k = find(cache, user);

	if (k && k->found_at < before)
		drop(cache, k);
}
