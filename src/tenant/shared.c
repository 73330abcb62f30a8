/* SPDX-License-Identifier: ISC
 *
 * shared.c - the registry of records that span worker threads.
 *
 * Knows names and counts, not what a tenant may do.
 */
#include "tenant/shared.h"

#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>

_Atomic unsigned shared_clients;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hmap records[SHARED_NKINDS];

static struct list strangers = { &strangers, &strangers }; /* the one that left last at the end */
static size_t nstrangers;

static void become_stranger(struct shared *s)
{
	s->is_stranger = true;
	list_push_back(&strangers, &s->stranger);
	nstrangers++;
}

static void cease_to_be_stranger(struct shared *s)
{
	list_del(&s->stranger);
	nstrangers--;
	s->is_stranger = false;
	s->starved_at = 0;
	s->served = 0;
}

static struct shared *ref_locked(struct shared *s)
{
	if (s->is_stranger)
		cease_to_be_stranger(s);
	s->refs++;
	return s;
}

static void free_locked(struct shared *s)
{
	hmap_remove(&records[s->kind], &s->link);
	if (!records[s->kind].count)
		hmap_fini(&records[s->kind]);
	if (s->kind == SHARED_TENANT)
		free(atomic_load(&s->tally));
	free(s);
}

static void forget_strangers(void)
{
	while (nstrangers > SHARED_STRANGERS) {
		struct list *oldest = list_first(&strangers);

		list_del(oldest);
		nstrangers--;
		free_locked(container_of(oldest, struct shared, stranger));
	}
}

static struct shared *find_locked(enum shared_kind kind, struct slice name, uint64_t hash)
{
	for (struct hlink *l = hmap_first(&records[kind], hash); l; l = hmap_next(l)) {
		struct shared *s = container_of(l, struct shared, link);

		if (slice_is_equal(slice_str(s->name), name))
			return ref_locked(s);
	}
	return NULL;
}

struct shared *shared_find(enum shared_kind kind, struct slice name)
{
	struct shared *s;

	pthread_mutex_lock(&lock);
	s = find_locked(kind, name, hash_bytes(name.p, name.n));
	pthread_mutex_unlock(&lock);
	return s;
}

/* No two pairs have the same, and no NUL is in it. */
void shared_name_login(struct buf *out, const char *database, const char *user)
{
	buf_printf(out, "%zu:%s%s", strlen(database), database, user);
}

void shared_name_fence(struct buf *out, const char *cluster, const char *dbname, const char *user)
{
	buf_printf(out, "%s/", cluster);
	shared_name_login(out, dbname, user);
}

struct shared *shared_get(enum shared_kind kind, struct slice name)
{
	uint64_t hash = hash_bytes(name.p, name.n);
	struct shared *s;

	pthread_mutex_lock(&lock);
	s = find_locked(kind, name, hash);
	if (!s) {
		s = xcalloc(1, sizeof(*s) + name.n + 1);
		s->kind = (uint8_t)kind;
		s->refs = 1;
		memcpy(s->name, name.p, name.n);
		if (kind == SHARED_LOGIN)
			s->default_timeout_ms = -1;
		hmap_insert(&records[kind], &s->link, hash);
	}
	pthread_mutex_unlock(&lock);
	return s;
}

void shared_put(struct shared *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&lock);
	/* A tenant's record outlives its sessions: leaving and coming back must not refill a bucket
	 * or a quota. */
	if (--s->refs == 0 && s->kind != SHARED_TENANT) {
		free_locked(s);
	} else if (!s->refs && !s->is_known) {
		become_stranger(s);
		forget_strangers();
	}
	pthread_mutex_unlock(&lock);
}

void shared_visit(enum shared_kind kind, void (*visit)(void *arg, struct shared *s), void *arg)
{
	pthread_mutex_lock(&lock);
	for (struct hlink *l = hmap_walk(&records[kind], NULL); l; l = hmap_walk(&records[kind], l))
		visit(arg, container_of(l, struct shared, link));
	pthread_mutex_unlock(&lock);
}

struct shared **shared_pick(enum shared_kind kind,
			    bool (*wants)(const void *arg, const struct shared *s), const void *arg,
			    size_t *n)
{
	struct shared **list;

	*n = 0;
	pthread_mutex_lock(&lock);
	list = xcalloc(records[kind].count + 1, sizeof(struct shared *));
	for (struct hlink *l = hmap_walk(&records[kind], NULL); l;
	     l = hmap_walk(&records[kind], l)) {
		struct shared *s = container_of(l, struct shared, link);

		if (wants(arg, s))
			list[(*n)++] = ref_locked(s);
	}
	pthread_mutex_unlock(&lock);
	return list;
}

struct limit_tally *shared_tally(struct shared *s)
{
	struct limit_tally *seen = atomic_load(&s->tally), *fresh;

	if (seen)
		return seen;
	fresh = xnew(struct limit_tally);
	if (atomic_compare_exchange_strong(&s->tally, &seen, fresh))
		return fresh;
	free(fresh);
	return seen;
}

bool slot_take(_Atomic unsigned *count, unsigned max)
{
	unsigned seen = atomic_load(count);

	do {
		if (max && seen >= max)
			return false;
	} while (!atomic_compare_exchange_weak(count, &seen, seen + 1));
	return true;
}

void slot_give_back(_Atomic unsigned *count)
{
	atomic_fetch_sub(count, 1);
}
