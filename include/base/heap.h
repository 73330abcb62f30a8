/* SPDX-License-Identifier: ISC
 *
 * heap.h - intrusive priority queue: the least key first, those with equal keys as they came.
 *
 * A pairing heap (Fredman, Sedgewick, Sleator, Tarjan): insertion takes constant time, removal of
 * any element O(log n) amortised, and nothing allocates.
 */
#ifndef PGT_BASE_HEAP_H
#define PGT_BASE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

struct heap_link {
	struct heap_link *child; /* the first of those behind it */
	struct heap_link *next;  /* among its siblings */
	struct heap_link *prev;  /* before it, or its parent for the first; NULL: the root */
	int64_t key;
	uint64_t order; /* among equal keys */
	bool is_linked;
};

/* A zeroed one is empty, and a zeroed link is in none. */
struct heap {
	struct heap_link *root; /* the least, or NULL */
	uint64_t inserted;
};

void heap_insert(struct heap *heap, struct heap_link *link, int64_t key);
/* Harmless for one that is in none. */
void heap_remove(struct heap *heap, struct heap_link *link);

#endif
