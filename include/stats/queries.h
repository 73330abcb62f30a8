/* SPDX-License-Identifier: ISC
 *
 * queries.h - what statements of each shape cost, in a bounded table.
 *
 * There is room for so many shapes; when it is used up, a new one takes the place of that which has
 * taken least time, and inherits its time as what may have been missed (Metwally, Agrawal, El
 * Abbadi: "Efficient computation of frequent and top-k elements in data streams").  So whatever has
 * taken more than its share of all time is in the table.
 *
 * What a shape looks like is made once for all owners in one place that send it, as the first of
 * them spelt it.
 *
 * Each shape watches one session at a time for what it does again and again.  Knows no clock, no
 * client and no server.  One thread.
 */
#ifndef PGT_STATS_QUERIES_H
#define PGT_STATS_QUERIES_H

#include "base/clock.h"
#include "base/slice.h"
#include "sql/normal.h"

#include <stdbool.h>
#include <stdint.h>

#define QUERIES_MAX 65535

/* Whose statement it is and what it looks like. */
struct query_key {
	uint64_t fingerprint[2];
	uint64_t whose; /* of the owner: database and tenant */
};

/* A habit: what one session did so often that it was worth a word. */
struct query_habit {
	uint64_t times; /* that a session was seen at it */
	uint64_t count; /* statements in these */
	usec_t time;    /* that they took */
};

/* What a text sets for its session. */
enum query_sets { QUERY_SETS_NOTHING, QUERY_SETS_TENANT, QUERY_SETS_TIMEOUT, QUERY_SETS_OTHER };

struct query_watch {
	uint64_t client;
	usec_t since, last_at;
	usec_t time;
	uint64_t binds; /* of the last one, digested */
	uint32_t n;
	uint32_t compared, same; /* with the one before */
};

/* What is shown of a shape. */
struct query_look {
	uint64_t fingerprint[2];
	uint64_t place;
	unsigned refs;
	struct sql_normal normal;
	char text[];
};

/* What does not change while it is there. */
struct query_about {
	const char *database, *tenant;
	struct query_look *look; /* a reference */
	bool reads;              /* it is a SELECT that leaves nothing */
	uint8_t sets;            /* enum query_sets */
};

struct query {
	struct query_key key;
	uint64_t calls, errors, rows, bytes, on_replica;
	usec_t time, longest;
	uint64_t most_rows;
	uint64_t missed; /* at most so much time was spent on it before it was followed */
	uint64_t rank;   /* .time and .missed, when its place in the heap was looked at last */
	struct query_watch watch;
	struct query_habit loops;   /* with other values each time */
	struct query_habit repeats; /* with the same ones */
	struct query_habit idles;   /* a transaction that stood still behind it */
	usec_t since;
	struct query_about about;
	char *room; /* of the names in about; it stays for who has the place next */
	size_t room_size;
	uint16_t next; /* in its bucket; 0: none */
	uint16_t life; /* how often the place was given to another */
	unsigned node; /* where it ran last */
};

/* A shape that may have left the table by the time that it is asked for. */
struct query_ref {
	uint16_t at; /* 0: none */
	uint16_t life;
};

/* When a session is worth a word. */
struct query_terms {
	uint32_t repeats; /* so often …; 0: never */
	usec_t within;    /* … in this time */
};

struct queries {
	struct query *at; /* from 1 on */
	uint16_t *heads;  /* buckets */
	uint16_t *heap;   /* from 1 on: the least rank first */
	uint64_t mask;
	struct query_look **looks; /* those that were met last, by fingerprint */
	unsigned n, size;
	uint64_t replaced; /* shapes that had to leave */
	struct query_terms terms;
};

/* size: at most QUERIES_MAX. */
void queries_init(struct queries *q, unsigned size);
void queries_fini(struct queries *q);
/* Forgets all of them. */
void queries_clear(struct queries *q);

static inline uint16_t *queries_bucket(const struct queries *q, const struct query_key *key)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);

	return &q->heads[(key->fingerprint[0] ^ ((key->whose * odd) >> 32)) & q->mask];
}

/* NULL: it is not there. */
static inline struct query *queries_find(const struct queries *q, const struct query_key *key)
{
	for (unsigned at = *queries_bucket(q, key); at; at = q->at[at].next) {
		struct query *x = &q->at[at];

		if (x->key.fingerprint[0] == key->fingerprint[0] && x->key.whose == key->whose &&
		    x->key.fingerprint[1] == key->fingerprint[1])
			return x;
	}
	return NULL;
}

/* What the shape looks like where it is, or NULL: nobody there has sent it of late. */
struct query_look *queries_look(const struct queries *q, const uint64_t fingerprint[2],
				uint64_t place);
/* A new one, with a reference that is the caller's.  One that is shared is found from now on. */
struct query_look *query_look_new(const uint64_t fingerprint[2], uint64_t place,
				  const struct sql_normal *normal, struct slice text);
void queries_share_look(struct queries *q, struct query_look *look);
void query_look_unref(struct query_look *look);

/* One that is not there; the names are copied. */
struct query *queries_add(struct queries *q, const struct query_key *key,
			  const struct query_about *about, usec_t now);

static inline struct query_ref queries_ref(const struct queries *q, const struct query *x)
{
	return (struct query_ref){ (uint16_t)(x - q->at), x->life };
}

/* NULL: another has its place by now. */
static inline struct query *queries_get(const struct queries *q, struct query_ref ref)
{
	struct query *x = &q->at[ref.at];

	return ref.at && ref.at <= q->n && x->life == ref.life ? x : NULL;
}

/* One of them is sent by this client; whether it has to be compared with the one before. */
bool query_watch_on(const struct queries *q, struct query *x, uint64_t client,
		    usec_t now); /* for what follows only */
/* A session that has not come back for this part of the time is not watched any more, if another
 * comes. */
#define QUERY_PATIENCE 16
/* Another is, and has not been away for long. */
static inline bool query_watches_another(const struct queries *q, const struct query *x,
					 uint64_t client, usec_t now)
{
	const struct query_watch *w = &x->watch;
	usec_t within = q->terms.within;

	return w->client != client && now - w->since <= within &&
	       (now - w->last_at) * QUERY_PATIENCE <= within;
}
static inline bool query_watch(const struct queries *q, struct query *x, uint64_t client,
			       usec_t now)
{
	return !query_watches_another(q, x, client, now) && query_watch_on(q, x, client, now);
}
/* binds: what tells it from others of its shape. */
void query_compare(struct query *x, struct slice binds);
/* Before habits are looked at: what is being watched counts too, if it is worth a word already. */
void query_settle(const struct queries *q, struct query *x);

#endif
