/* SPDX-License-Identifier: ISC
 *
 * hash.c - SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF") and a table of
 * intrusive links with power-of-two buckets.
 */
#include "base/hash.h"

#include "base/mem.h"
#include "base/random.h"

#include <endian.h>
#include <stdlib.h>

static uint64_t key[2] = { 0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL };

void hash_init(void)
{
	random_bytes(key, sizeof(key));
}

static inline uint64_t rotl(uint64_t x, int b)
{
	return (x << b) | (x >> (64 - b));
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static void sip_init(uint64_t v[4], uint64_t k0, uint64_t k1)
{
	v[0] = k0 ^ 0x736f6d6570736575ULL;
	v[1] = k1 ^ 0x646f72616e646f6dULL;
	v[2] = k0 ^ 0x6c7967656e657261ULL;
	v[3] = k1 ^ 0x7465646279746573ULL;
}

static inline void sip_absorb(uint64_t v[4], const unsigned char *p, size_t n)
{
	uint64_t last = (uint64_t)n << 56, word;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&word, p, 8);
		word = le64toh(word);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)p[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	v[0] ^= last;
}

static inline uint64_t sip_squeeze(uint64_t v[4])
{
	sip_round(v);
	sip_round(v);
	sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint64_t siphash13(uint64_t k0, uint64_t k1, const void *p, size_t n)
{
	uint64_t v[4];

	sip_init(v, k0, k1);
	sip_absorb(v, p, n);
	v[2] ^= 0xff;
	return sip_squeeze(v);
}

uint64_t hash_bytes(const void *p, size_t n)
{
	return siphash13(key[0], key[1], p, n);
}

uint64_t hash_more(uint64_t seed, const void *p, size_t n)
{
	return siphash13(key[0] ^ seed, key[1], p, n);
}

uint64_t hash_stable(uint64_t seed, const void *p, size_t n)
{
	return siphash13(seed, UINT64_C(0x9e3779b97f4a7c15), p, n);
}

/* SipHash's own form with two words of output. */
void hash_more128(uint64_t h[2], const void *p, size_t n)
{
	uint64_t v[4];

	sip_init(v, key[0] ^ h[0], key[1] ^ h[1]);
	v[1] ^= 0xee;
	sip_absorb(v, p, n);
	v[2] ^= 0xee;
	h[0] = sip_squeeze(v);
	v[1] ^= 0xdd;
	h[1] = sip_squeeze(v);
}

void hmap_fini(struct hmap *m)
{
	free(m->buckets);
	*m = (struct hmap){ 0 };
}

static void hmap_grow(struct hmap *m)
{
	size_t n = m->nbuckets ? m->nbuckets * 2 : 8;
	struct hlink **fresh = xcalloc(n, sizeof(*fresh));

	for (size_t i = 0; i < m->nbuckets; i++)
		for (struct hlink *l = m->buckets[i], *next; l; l = next) {
			next = l->next;
			l->next = fresh[l->hash & (n - 1)];
			fresh[l->hash & (n - 1)] = l;
		}
	free(m->buckets);
	m->buckets = fresh;
	m->nbuckets = n;
}

void hmap_insert(struct hmap *m, struct hlink *l, uint64_t hash)
{
	struct hlink **bucket;

	if (m->count >= m->nbuckets)
		hmap_grow(m);
	bucket = &m->buckets[hash & (m->nbuckets - 1)];
	l->hash = hash;
	l->next = *bucket;
	*bucket = l;
	m->count++;
}

void hmap_remove(struct hmap *m, struct hlink *l)
{
	struct hlink **at = &m->buckets[l->hash & (m->nbuckets - 1)];

	while (*at && *at != l)
		at = &(*at)->next;
	PGT_ASSERT(*at == l);
	*at = l->next;
	l->next = NULL;
	m->count--;
}

static struct hlink *same_hash(struct hlink *l, uint64_t hash)
{
	while (l && l->hash != hash)
		l = l->next;
	return l;
}

struct hlink *hmap_first(const struct hmap *m, uint64_t hash)
{
	return m->nbuckets ? same_hash(m->buckets[hash & (m->nbuckets - 1)], hash) : NULL;
}

struct hlink *hmap_next(const struct hlink *l)
{
	return same_hash(l->next, l->hash);
}

struct hlink *hmap_walk(const struct hmap *m, const struct hlink *l)
{
	size_t i = 0;

	if (l) {
		if (l->next)
			return l->next;
		i = (l->hash & (m->nbuckets - 1)) + 1;
	}
	for (; i < m->nbuckets; i++)
		if (m->buckets[i])
			return m->buckets[i];
	return NULL;
}
