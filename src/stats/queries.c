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
/* Looks that are kept for whoever sends the shape next; a power of two. */
#define LOOKS 256

void queries_init(struct queries *q, unsigned size)
{
	size_t buckets = 1;

	PGT_ASSERT(size > 0 && size <= QUERIES_MAX);
	while (buckets < 2 * (size_t)size)
		buckets *= 2;
	*q = (struct queries){ .at = xcalloc(size + 1, sizeof(*q->at)),
			       .heads = xcalloc(buckets, sizeof(*q->heads)),
			       .heap = xcalloc(size + 1, sizeof(*q->heap)),
			       .looks = xcalloc(LOOKS, sizeof(struct query_look *)),
			       .mask = buckets - 1,
			       .size = size };
}

/* ---- looks -------------------------------------------------------------------------------------
 */

static struct query_look **look_at(const struct queries *q, const uint64_t fingerprint[2])
{
	return &q->looks[fingerprint[0] & (LOOKS - 1)];
}

struct query_look *queries_look(const struct queries *q, const uint64_t fingerprint[2],
				uint64_t place)
{
	struct query_look *look = *look_at(q, fingerprint);

	return look && look->place == place && look->fingerprint[0] == fingerprint[0] &&
		       look->fingerprint[1] == fingerprint[1]
		   ? look
		   : NULL;
}

struct query_look *query_look_new(const uint64_t fingerprint[2], uint64_t place,
				  const struct sql_normal *normal, struct slice text)
{
	struct query_look *look = xmalloc(sizeof(*look) + text.n + 1);

	*look = (struct query_look){
		{fingerprint[0], fingerprint[1]},
                place, 1, *normal
	};
	memcpy(look->text, text.p, text.n);
	look->text[text.n] = '\0';
	return look;
}

void query_look_unref(struct query_look *look)
{
	if (look && !--look->refs)
		free(look);
}

void queries_share_look(struct queries *q, struct query_look *look)
{
	struct query_look **at = look_at(q, look->fingerprint);

	look->refs++;
	query_look_unref(*at);
	*at = look;
}

/* ---- places ------------------------------------------------------------------------------------
 */

static void vacate(struct query *x)
{
	query_look_unref(x->about.look);
	*x = (struct query){ .life = (uint16_t)(x->life + 1),
			     .room = x->room,
			     .room_size = x->room_size };
}

void queries_clear(struct queries *q)
{
	for (unsigned i = 1; i <= q->n; i++) {
		vacate(&q->at[i]);
		free(q->at[i].room);
		q->at[i].room = NULL;
		q->at[i].room_size = 0;
	}
	for (unsigned i = 0; i < LOOKS; i++) {
		query_look_unref(q->looks[i]);
		q->looks[i] = NULL;
	}
	memset(q->heads, 0, (q->mask + 1) * sizeof(*q->heads));
	q->n = 0;
}

void queries_fini(struct queries *q)
{
	queries_clear(q);
	free(q->at);
	free(q->heads);
	free(q->heap);
	free(q->looks);
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

static void copy_about(struct query *x, const struct query_about *from)
{
	size_t database = strlen(from->database) + 1, tenant = strlen(from->tenant) + 1;

	if (x->room_size < database + tenant) {
		x->room_size = database + tenant;
		x->room = xrealloc(x->room, x->room_size);
	}
	x->about = *from;
	x->about.look->refs++;
	x->about.database = memcpy(x->room, from->database, database);
	x->about.tenant = memcpy(x->room + database, from->tenant, tenant);
}

struct query *queries_add(struct queries *q, const struct query_key *key,
			  const struct query_about *about, usec_t now)
{
	uint16_t *bucket = queries_bucket(q, key);
	struct query *x = take_place(q);

	x->key = *key;
	x->since = now;
	copy_about(x, about);
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

bool query_watch_on(const struct queries *q, struct query *x, uint64_t client, usec_t now)
{
	struct query_watch *w = &x->watch;
	bool is_over = now - w->since > q->terms.within;

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
