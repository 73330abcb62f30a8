/* SPDX-License-Identifier: ISC
 *
 * node_times.h - how long the nodes of a database take, for all groups of a thread that use them.
 *
 * One thread.
 */
#ifndef PGT_POOL_NODE_TIMES_H
#define PGT_POOL_NODE_TIMES_H

#include "base/hash.h"
#include "stats/latency.h"

struct node_set;

struct node_times {
	struct hlink link; /* of a thread's table */
	unsigned refs;
	struct node_set *nodes;
	struct latencies at[]; /* of each node */
};

/* Those of a set of nodes, made when there are none; a reference. */
struct node_times *node_times_get(struct hmap *table, struct latency_clock *clock,
				  struct node_set *nodes);
void node_times_put(struct hmap *table, struct node_times *times);

#endif
