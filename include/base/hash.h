/* SPDX-License-Identifier: ISC
 *
 * hash.h - keyed hashing and an intrusive hash table.
 *
 * hash_bytes() is SipHash-1-3 under a key drawn at start, so peers cannot choose collisions.
 * The table holds links that live inside the objects; it compares nothing itself: the caller walks
 * the candidates of one hash value with hmap_first()/hmap_next() and compares in full.
 */
#ifndef PGT_BASE_HASH_H
#define PGT_BASE_HASH_H

#include "base/assert.h"
#include "base/list.h"
#include "base/slice.h"

#include <stdint.h>

/* Draws the process's key; call once before threads start.  Without it the key is a known one, as
 * tests and fuzzers want it. */
void hash_init(void);

uint64_t hash_bytes(const void *p, size_t n);
/* Continues: the hash of bytes under a seed, for keys of several parts. */
uint64_t hash_more(uint64_t seed, const void *p, size_t n);
/* The same in each process, for what is compared between two: no key of a table. */
uint64_t hash_stable(uint64_t seed, const void *p, size_t n);
/* The same in 128 bits, where equal hashes stand for equal keys: h is the seed, and the hash. */
void hash_more128(uint64_t h[2], const void *p, size_t n);

struct hlink {
	struct hlink *next;
	uint64_t hash;
};

/* A zeroed struct hmap is an empty one. */
struct hmap {
	struct hlink **buckets;
	size_t nbuckets; /* a power of two, or 0 */
	size_t count;
};

/* Frees the table, not what it links. */
void hmap_fini(struct hmap *m);
void hmap_insert(struct hmap *m, struct hlink *l, uint64_t hash);
/* l must be in m. */
void hmap_remove(struct hmap *m, struct hlink *l);
/* First link with this hash, or NULL; hmap_next() goes on from one. */
struct hlink *hmap_first(const struct hmap *m, uint64_t hash);
struct hlink *hmap_next(const struct hlink *l);
/* Any order; l NULL begins, NULL ends.  The table must not change meanwhile. */
struct hlink *hmap_walk(const struct hmap *m, const struct hlink *l);

/* The body may remove or free IT, and nothing else. */
#define HMAP_FOREACH_SAFE(it, map)                                                                 \
	for (struct hlink *it = hmap_walk((map), NULL), *it##_next;                                \
	     it && (it##_next = hmap_walk((map), it), 1); it = it##_next)

#endif
