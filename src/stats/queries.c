/* SPDX-License-Identifier: ISC
 *
 * queries.c - what statements of each shape cost: who is in the table, what its sessions do.
 *
 * What is counted on the way of a query is counted in place.  The heap is put right only when
 * somebody has to leave: ranks never sink, so the least of the old ones that is still true is the
 * least of all.
 */
#include "stats/queries.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>

/* Up to this one, values of a watched session's statements are compared; from the first on that may
 * be of a habit. */
#define COMPARED_MAX 64
/* A session that has not come back for this part of the time is not watched any more, if another
 * comes. */
#define PATIENCE 16

void queries_init(struct queries *q, unsigned size)
{
	size_t buckets = 1;

	PGT_ASSERT(size > 0 && size <= QUERIES_MAX);
	while (buckets < 2 * (size_t)size)
		buckets *= 2;
	*q = (struct queries){ .at = xcalloc(size + 1, sizeof(*q->at)),
			       .heads = xcalloc(buckets, sizeof(*q->heads)),
			       .heap = xcalloc(size + 1, sizeof(*q->heap)),
			       .mask = buckets - 1,
			       .size = size };
}

static void vacate(struct query *x)
{
	free(x->about.room);
	*x = (struct query){ .life = (uint16_t)(x->life + 1) };
}

void queries_clear(struct queries *q)
{
	for (unsigned i = 1; i <= q->n; i++)
		vacate(&q->at[i]);
	memset(q->heads, 0, (q->mask + 1) * sizeof(*q->heads));
	q->n = 0;
}

void queries_fini(struct queries *q)
{
	queries_clear(q);
	free(q->at);
	free(q->heads);
	free(q->heap);
	*q = (struct queries){ 0 };
}

/* ---- who has to leave -------------------------------------------------------------------------
 */

static uint64_t rank_at(const struct queries *q, unsigned i)
{
	return q->at[q->heap[i]].rank;
}

static void swap(struct queries *q, unsigned i, unsigned k)
{
	uint16_t was = q->heap[i];

	q->heap[i] = q->heap[k];
	q->heap[k] = was;
}

static void sink(struct queries *q, unsigned i)
{
	for (;;) {
		unsigned least = i;

		for (unsigned k = 2 * i; k <= 2 * i + 1 && k <= q->n; k++)
			if (rank_at(q, k) < rank_at(q, least))
				least = k;
		if (least == i)
			return;
		swap(q, i, least);
		i = least;
	}
}

static void rise(struct queries *q, unsigned i)
{
	for (; i > 1 && rank_at(q, i) < rank_at(q, i / 2); i /= 2)
		swap(q, i, i / 2);
}

static uint64_t rank_of(const struct query *x)
{
	return x->missed + (uint64_t)x->time;
}

static struct query *least(struct queries *q)
{
	for (;;) {
		struct query *x = &q->at[q->heap[1]];

		if (x->rank == rank_of(x))
			return x;
		x->rank = rank_of(x);
		sink(q, 1);
	}
}

static void leave_bucket(struct queries *q, const struct query *x)
{
	uint16_t *at = queries_bucket(q, &x->key);

	while (&q->at[*at] != x)
		at = &q->at[*at].next;
	*at = x->next;
}

/* A place, with the rank of whoever had it. */
static struct query *take_place(struct queries *q)
{
	struct query *x;
	uint64_t rank;

	if (q->n < q->size) {
		q->n++;
		q->heap[q->n] = (uint16_t)q->n;
		rise(q, q->n);
		return &q->at[q->n];
	}
	x = least(q);
	rank = x->rank;
	leave_bucket(q, x);
	vacate(x);
	x->missed = x->rank = rank;
	q->replaced++;
	return x;
}

static void copy_about(struct query_about *to, const struct query_about *from)
{
	size_t text = strlen(from->text) + 1, database = strlen(from->database) + 1;
	size_t tenant = strlen(from->tenant) + 1;
	char *p = xmalloc(text + database + tenant);

	*to = *from;
	to->room = p;
	to->text = memcpy(p, from->text, text);
	to->database = memcpy(p + text, from->database, database);
	to->tenant = memcpy(p + text + database, from->tenant, tenant);
}

struct query *queries_add(struct queries *q, const struct query_key *key,
			  const struct query_about *about, usec_t now)
{
	uint16_t *bucket = queries_bucket(q, key);
	struct query *x = take_place(q);

	x->key = *key;
	x->since = now;
	copy_about(&x->about, about);
	x->next = *bucket;
	*bucket = (uint16_t)(x - q->at);
	return x;
}

/* ---- what its sessions do ---------------------------------------------------------------------
 */

static void add_habit(struct query_habit *habit, const struct query_watch *w)
{
	habit->times++;
	habit->count += w->n;
	habit->time += w->time;
}

static bool is_worth_a_word(const struct queries *q, const struct query_watch *w)
{
	return q->terms.repeats && w->n >= q->terms.repeats;
}

/* Some of each is neither. */
static void close_watch(const struct queries *q, struct query *x)
{
	struct query_watch *w = &x->watch;

	if (is_worth_a_word(q, w)) {
		if (4 * w->same >= 3 * w->compared)
			add_habit(&x->repeats, w);
		else if (4 * w->same <= w->compared)
			add_habit(&x->loops, w);
	}
	*w = (struct query_watch){ 0 };
}

void query_settle(const struct queries *q, struct query *x)
{
	if (is_worth_a_word(q, &x->watch))
		close_watch(q, x);
}

bool query_watch(const struct queries *q, struct query *x, uint64_t client, usec_t now)
{
	struct query_watch *w = &x->watch;
	bool is_over = now - w->since > q->terms.within;

	if (w->client != client && !is_over && now - w->last_at <= q->terms.within / PATIENCE)
		return false;
	if (w->client != client || is_over) {
		close_watch(q, x);
		w->client = client;
		w->since = now;
	}
	w->last_at = now;
	w->n++;
	return w->n > q->terms.repeats / 4 && w->n <= COMPARED_MAX;
}

void query_compare(struct query *x, struct slice binds)
{
	struct query_watch *w = &x->watch;
	uint64_t digest = hash_bytes(binds.p, binds.n);

	if (w->binds) {
		w->compared++;
		w->same += digest == w->binds;
	}
	w->binds = digest;
}
