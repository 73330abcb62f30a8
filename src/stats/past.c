/* SPDX-License-Identifier: ISC
 *
 * past.c - what was counted by those that are gone, by name.
 */
#include "stats/past.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static struct past *find_or_make(struct hmap *pasts, const char *name)
{
	size_t n = strlen(name);
	uint64_t hash = hash_bytes(name, n);
	struct past *past;

	for (struct hlink *l = hmap_first(pasts, hash); l; l = hmap_next(l)) {
		past = container_of(l, struct past, link);
		if (!strcmp(past->name, name))
			return past;
	}
	past = xcalloc(1, sizeof(*past) + n + 1);
	memcpy(past->name, name, n + 1);
	hmap_insert(pasts, &past->link, hash);
	return past;
}

void past_add(struct hmap *pasts, const char *name, const struct counters *counters)
{
	struct past *past = find_or_make(pasts, name);

#define X(counter, unit, help) past->counters.counter += counters->counter;
	COUNTERS(X)
#undef X
}

void past_forget(struct hmap *pasts, struct past *past)
{
	hmap_remove(pasts, &past->link);
	free(past);
}

void pasts_fini(struct hmap *pasts)
{
	HMAP_FOREACH_SAFE (l, pasts)
		past_forget(pasts, container_of(l, struct past, link));
	hmap_fini(pasts);
}
