/* SPDX-License-Identifier: ISC
 *
 * replies.h - what a server still owes: one entry for each request that will be answered.
 *
 * Requests are answered in order, so the head of the queue says what the next messages of the
 * server belong to.  An entry may be one that the client never asked for (its answer is swallowed)
 * or one that the server was never asked (its answer is made up when its turn comes).
 *
 * Source: PostgreSQL manual, "Message Flow".  Pure.
 */
#ifndef PGT_SERVER_REPLIES_H
#define PGT_SERVER_REPLIES_H

#include "stats/queries.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum reply_kind {
	REPLY_QUERY,    /* … ReadyForQuery */
	REPLY_FUNCTION, /* FunctionCallResponse ReadyForQuery */
	REPLY_PARSE,    /* ParseComplete */
	REPLY_BIND,     /* BindComplete */
	REPLY_DESCRIBE, /* [ParameterDescription] RowDescription | NoData */
	REPLY_EXECUTE,  /* … CommandComplete | EmptyQueryResponse | PortalSuspended */
	REPLY_CLOSE,    /* CloseComplete */
	REPLY_SYNC,     /* ReadyForQuery */
	REPLY_COPY_END, /* no answer: marks where CopyDone or CopyFail stands among the requests */
};

enum reply_way {
	REPLY_PASS,    /* the client asked: it gets what the server says */
	REPLY_SWALLOW, /* we asked */
	REPLY_MAKE,    /* the server was not asked: we answer */
	REPLY_WAIT,    /* the same, as soon as what stands behind it has been answered well */
};

struct reply {
	uint8_t kind;           /* enum reply_kind */
	uint8_t way;            /* enum reply_way */
	uint8_t note;           /* of the relay */
	bool has_controls;      /* of the relay: listen.c waits for what becomes of this */
	struct query_ref query; /* whose cost it is, if that is counted */
	union {
		void *subject;   /* of the relay, with a note: what this is about */
		uint64_t serial; /* Bind: of the server's statement, or 0 */
	};
};

/* A ring; a zeroed one is empty. */
struct replies {
	struct reply *ring;
	uint32_t cap; /* a power of two, or 0 */
	uint32_t head;
	uint32_t n;
	uint32_t ncycles; /* entries that end in a ReadyForQuery */
};

static inline bool reply_ends_cycle(const struct reply *r)
{
	return r->kind == REPLY_QUERY || r->kind == REPLY_FUNCTION || r->kind == REPLY_SYNC;
}

void replies_fini(struct replies *q);
void replies_grow(struct replies *q);

static inline void replies_push(struct replies *q, struct reply r)
{
	if (q->n == q->cap)
		replies_grow(q);
	q->ring[(q->head + q->n++) & (q->cap - 1)] = r;
	q->ncycles += reply_ends_cycle(&r);
}

/* Several, of which none ends a cycle. */
static inline void replies_push_within(struct replies *q, const struct reply *r, uint32_t n)
{
	uint32_t at;

	while (q->cap - q->n < n)
		replies_grow(q);
	at = (q->head + q->n) & (q->cap - 1);
	if (at + n <= q->cap)
		memcpy(q->ring + at, r, n * sizeof(*r));
	else
		for (uint32_t i = 0; i < n; i++)
			q->ring[(at + i) & (q->cap - 1)] = r[i];
	q->n += n;
}

/* In front of all. */
static inline void replies_push_front(struct replies *q, struct reply r)
{
	if (q->n == q->cap)
		replies_grow(q);
	q->ring[--q->head & (q->cap - 1)] = r;
	q->n++;
	q->ncycles += reply_ends_cycle(&r);
}

/* The i-th from the head; i < n. */
static inline struct reply *replies_at(const struct replies *q, uint32_t i)
{
	return &q->ring[(q->head + i) & (q->cap - 1)];
}

static inline struct reply *replies_head(const struct replies *q)
{
	return q->n ? replies_at(q, 0) : 0;
}

static inline void replies_pop(struct replies *q)
{
	q->ncycles -= reply_ends_cycle(replies_head(q));
	q->head++;
	q->n--;
}
/* The same of the only one, which ends a cycle. */
static inline void replies_pop_only(struct replies *q)
{
	PGT_ASSERT(q->n == 1);
	q->n = 0;
	q->ncycles--;
}

/* Takes out the first n, none of which ends a cycle. */
static inline void replies_drop_within(struct replies *q, uint32_t n)
{
	q->head += n;
	q->n -= n;
}

/* Takes out the first n. */
void replies_drop(struct replies *q, uint32_t n);

/* Takes out the i-th; the order of the others stays. */
void replies_remove(struct replies *q, uint32_t i);

/* How many entries from the head on an error skips: all up to the next Sync, which is not among
 * them; all there are when none has been sent yet (the server then skips what is still to come up
 * to one).  *has_sync tells which. */
uint32_t replies_until_sync(const struct replies *q, bool *has_sync);

#endif
