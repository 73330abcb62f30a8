/* SPDX-License-Identifier: ISC
 *
 * lookup_queue.c - logins that wait until a database has been asked for a name.
 *
 * Knows whose turn it is, not how it is asked.
 */
#include "worker/lookup_queue.h"

#include "base/mem.h"

#include <stdlib.h>

struct lookup {
	struct hlink by_name;
	struct list askers;
	char *name;
};

/* An address, while lookups of it are still to be made. */
struct turn {
	struct hlink by_origin;
	struct list link; /* of lookup_queue.order */
	struct list askers;
	uint64_t origin;
};

struct asker {
	struct hlink by_id;
	struct list age;  /* of lookup_queue.ages */
	struct list link; /* of lookup.askers */
	struct list wait; /* of turn.askers */
	struct lookup_queue *queue;
	struct lookup *lookup;
	struct turn *turn; /* NULL: its lookup is under way */
	usec_t since;
	struct lookup_asker who;
};

/* ---- turns ------------------------------------------------------------------------------------
 */

static struct turn *turn_of(struct lookup_queue *q, uint64_t origin)
{
	uint64_t hash = hash_bytes(&origin, sizeof(origin));
	struct turn *t;

	for (struct hlink *l = hmap_first(&q->turns, hash); l; l = hmap_next(l)) {
		t = container_of(l, struct turn, by_origin);
		if (t->origin == origin)
			return t;
	}
	t = xnew(struct turn);
	t->origin = origin;
	list_init(&t->askers);
	list_push_back(&q->order, &t->link);
	hmap_insert(&q->turns, &t->by_origin, hash);
	return t;
}

static void leave_turn(struct asker *a)
{
	struct turn *t = a->turn;

	a->turn = NULL;
	if (!t)
		return;
	list_del(&a->wait);
	if (!list_is_empty(&t->askers))
		return;
	list_del(&t->link);
	hmap_remove(&a->queue->turns, &t->by_origin);
	free(t);
}

bool lookup_queue_has_next(const struct lookup_queue *q)
{
	return !list_is_empty(&q->order);
}

/* An address that has had its turn is the last again; who else waits for the same name need not
 * wait for a turn of its own. */
bool lookup_queue_begin(struct lookup_queue *q)
{
	struct turn *t;

	PGT_ASSERT(!q->asked);
	if (!lookup_queue_has_next(q))
		return false;
	t = container_of(list_first(&q->order), struct turn, link);
	list_del(&t->link);
	list_push_back(&q->order, &t->link);
	q->asked = container_of(list_first(&t->askers), struct asker, wait)->lookup;
	LIST_FOREACH (at, &q->asked->askers)
		leave_turn(container_of(at, struct asker, link));
	return true;
}

/* ---- lookups ----------------------------------------------------------------------------------
 */

static struct lookup *lookup_of(struct lookup_queue *q, struct slice name)
{
	uint64_t hash = hash_bytes(name.p, name.n);
	struct lookup *lookup;

	for (struct hlink *l = hmap_first(&q->lookups, hash); l; l = hmap_next(l)) {
		lookup = container_of(l, struct lookup, by_name);
		if (slice_is_equal(slice_str(lookup->name), name))
			return lookup;
	}
	lookup = xnew(struct lookup);
	lookup->name = xmemdup0(name.p, name.n);
	list_init(&lookup->askers);
	hmap_insert(&q->lookups, &lookup->by_name, hash);
	return lookup;
}

/* The one under way stays until its answer comes. */
static void drop_if_unwanted(struct lookup_queue *q, struct lookup *lookup)
{
	if (!list_is_empty(&lookup->askers) || lookup == q->asked)
		return;
	hmap_remove(&q->lookups, &lookup->by_name);
	free(lookup->name);
	free(lookup);
}

const char *lookup_queue_name(const struct lookup_queue *q)
{
	return q->asked->name;
}

/* Their places among those of their addresses are the first again. */
void lookup_queue_put_back(struct lookup_queue *q)
{
	struct lookup *lookup = q->asked;

	if (!lookup)
		return;
	q->asked = NULL;
	LIST_FOREACH (at, &lookup->askers) {
		struct asker *a = container_of(at, struct asker, link);

		a->turn = turn_of(q, a->who.origin);
		list_push_front(&a->turn->askers, &a->wait);
		list_del(&a->turn->link);
		list_push_front(&q->order, &a->turn->link);
	}
	drop_if_unwanted(q, lookup);
}

/* ---- those who wait ---------------------------------------------------------------------------
 */

void lookup_queue_add(struct lookup_queue *q, struct slice name, const struct lookup_asker *who,
		      usec_t now)
{
	struct asker *a = xnew(struct asker);

	a->who = *who;
	a->since = now;
	a->queue = q;
	a->lookup = lookup_of(q, name);
	list_push_back(&a->lookup->askers, &a->link);
	list_push_back(&q->ages, &a->age);
	if (a->lookup != q->asked) {
		a->turn = turn_of(q, who->origin);
		list_push_back(&a->turn->askers, &a->wait);
	}
	hmap_insert(&q->all->by_id, &a->by_id, hash_bytes(&who->id, sizeof(who->id)));
	crowd_enter(&q->all->crowd, who->origin);
	q->nwaiting++;
}

static void take_out(struct asker *a)
{
	struct lookup_queue *q = a->queue;

	leave_turn(a);
	list_del(&a->link);
	list_del(&a->age);
	hmap_remove(&q->all->by_id, &a->by_id);
	crowd_leave(&q->all->crowd, a->who.origin);
	q->nwaiting--;
	drop_if_unwanted(q, a->lookup);
}

static void tell(struct asker *a, const void *found)
{
	take_out(a);
	a->who.answer(a->who.arg, found);
	free(a);
}

void lookup_queue_answer(struct lookup_queue *q, const void *found)
{
	struct lookup *lookup = q->asked;

	LIST_FOREACH_SAFE (at, &lookup->askers)
		tell(container_of(at, struct asker, link), found);
	q->asked = NULL;
	drop_if_unwanted(q, lookup);
}

void lookup_queue_dismiss(struct lookup_queue *q, usec_t since, const void *found)
{
	LIST_FOREACH_SAFE (at, &q->ages) {
		struct asker *a = container_of(at, struct asker, age);

		if (a->since > since)
			break;
		if (a->turn)
			tell(a, found);
	}
}

void *lookup_crowd_withdraw(struct lookup_crowd *all, uint64_t id)
{
	struct hlink *l = hmap_first(&all->by_id, hash_bytes(&id, sizeof(id)));
	struct asker *a = NULL;
	void *arg;

	for (; l && !a; l = hmap_next(l))
		if (container_of(l, struct asker, by_id)->who.id == id)
			a = container_of(l, struct asker, by_id);
	if (!a)
		return NULL;
	take_out(a);
	arg = a->who.arg;
	free(a);
	return arg;
}

void lookup_crowd_fini(struct lookup_crowd *all)
{
	hmap_fini(&all->by_id);
	crowd_fini(&all->crowd);
}

/* ---- beginning and end ------------------------------------------------------------------------
 */

void lookup_queue_init(struct lookup_queue *q, struct lookup_crowd *all)
{
	*q = (struct lookup_queue){ .all = all };
	list_init(&q->order);
	list_init(&q->ages);
}

void lookup_queue_fini(struct lookup_queue *q)
{
	PGT_ASSERT(!q->nwaiting);
	lookup_queue_put_back(q);
	hmap_fini(&q->lookups);
	hmap_fini(&q->turns);
}
