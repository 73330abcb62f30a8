/* SPDX-License-Identifier: ISC
 *
 * crowd.c - how many of something come from each origin.
 *
 * Remembers origins that have some there, and no others.  Does not know what is counted.
 */
#include "base/crowd.h"

#include "base/mem.h"

#include <stdlib.h>

struct origin {
	struct hlink link;
	uint64_t number;
	unsigned n;
};

static struct origin *find(const struct crowd *crowd, uint64_t number)
{
	struct hlink *l = hmap_first(&crowd->origins, hash_bytes(&number, sizeof(number)));

	for (; l; l = hmap_next(l))
		if (container_of(l, struct origin, link)->number == number)
			break;
	return l ? container_of(l, struct origin, link) : NULL;
}

unsigned crowd_count(const struct crowd *crowd, uint64_t number)
{
	const struct origin *o = find(crowd, number);

	return o ? o->n : 0;
}

bool crowd_has_room(const struct crowd *crowd, uint64_t number, unsigned max)
{
	return crowd->n < max && crowd_count(crowd, number) < max - crowd->n;
}

void crowd_enter(struct crowd *crowd, uint64_t number)
{
	struct origin *o = find(crowd, number);

	if (!o) {
		o = xnew(struct origin);
		o->number = number;
		hmap_insert(&crowd->origins, &o->link, hash_bytes(&number, sizeof(number)));
	}
	o->n++;
	crowd->n++;
}

void crowd_leave(struct crowd *crowd, uint64_t number)
{
	struct origin *o = find(crowd, number);

	PGT_ASSERT(o);
	crowd->n--;
	if (--o->n)
		return;
	hmap_remove(&crowd->origins, &o->link);
	free(o);
}

void crowd_fini(struct crowd *crowd)
{
	PGT_ASSERT(!crowd->n);
	hmap_fini(&crowd->origins);
}
