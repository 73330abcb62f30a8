/* SPDX-License-Identifier: ISC
 *
 * node_times.c - the latencies of a database's nodes, shared by the groups that use them.
 *
 * Knows who owns the measures, not what is measured.
 */
#include "pool/node_times.h"

#include "base/mem.h"
#include "route/nodes.h"

#include <stdlib.h>

struct node_times *node_times_get(struct hmap *table, struct latency_clock *clock,
				  struct node_set *nodes)
{
	uint64_t hash = hash_bytes(&nodes, sizeof(nodes));
	struct node_times *times;

	for (struct hlink *l = hmap_first(table, hash); l; l = hmap_next(l)) {
		times = container_of(l, struct node_times, link);
		if (times->nodes != nodes)
			continue;
		times->refs++;
		return times;
	}
	times = xcalloc(1, sizeof(*times) + nodes->n * sizeof(*times->at));
	times->refs = 1;
	times->nodes = node_set_ref(nodes);
	for (unsigned i = 0; i < nodes->n; i++)
		latencies_init(&times->at[i], clock, true);
	hmap_insert(table, &times->link, hash);
	return times;
}

void node_times_put(struct hmap *table, struct node_times *times)
{
	if (--times->refs)
		return;
	hmap_remove(table, &times->link);
	for (unsigned i = 0; i < times->nodes->n; i++)
		latencies_fini(&times->at[i]);
	node_set_unref(times->nodes);
	free(times);
}
