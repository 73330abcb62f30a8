/* SPDX-License-Identifier: ISC
 *
 * pool.c - slots by state, waiters in order, and the limits.
 *
 * Knows nothing of sockets or messages.
 */
#include "pool/pool.h"

#include "base/mem.h"
#include "route/nodes.h"

#include <stdlib.h>

#define TO(state) (1u << SLOT_##state)
static const unsigned legal_next[SLOT_NSTATES] = {
	[SLOT_LOGIN] = TO(IDLE) | TO(TESTED) | TO(CLOSING) | TO(CLOSED),
	[SLOT_IDLE] = TO(ACTIVE) | TO(TESTED) | TO(CLOSING) | TO(CLOSED),
	[SLOT_ACTIVE] = TO(IDLE) | TO(TESTED) | TO(CANCELED) | TO(CLOSING) | TO(CLOSED),
	[SLOT_TESTED] = TO(IDLE) | TO(ACTIVE) | TO(CANCELED) | TO(CLOSING) | TO(CLOSED),
	[SLOT_CANCELED] = TO(IDLE) | TO(TESTED) | TO(CLOSING) | TO(CLOSED),
	[SLOT_CLOSING] = TO(CLOSED),
};
#undef TO

/* Says that somebody could not connect because of a limit that spans groups, so that groups with
 * idle connections let go of one. */
static bool starve(struct shared *s, usec_t now)
{
	atomic_store_explicit(&s->starved_at, now, memory_order_relaxed);
	return false;
}

/* Who waits longest of those that would take a server; looks for one only while some would not. */
static const struct waiter *longest(const struct pool *pool)
{
	LIST_FOREACH (at, &pool->waiting) {
		const struct waiter *w = container_of(at, struct waiter, link);

		if (!pool->turns || turns_may_go(&w->turn))
			return w;
	}
	return NULL;
}

static unsigned pool_limit(const struct pool *pool, usec_t now)
{
	const struct settings *set = pool->set;
	const struct waiter *first = set->reserve_pool_size ? longest(pool) : NULL;
	unsigned limit = pool_portion(pool);

	if (limit && set->reserve_pool_timeout && first &&
	    now - first->since >= set->reserve_pool_timeout)
		limit += group_portion(pool->group, set->reserve_pool_size);
	return limit;
}

bool pool_has_room(const struct pool *pool, usec_t now)
{
	unsigned limit = pool_limit(pool, now), n = pool_size(pool);

	LIST_FOREACH (at, &pool->mates)
		n += pool_size(container_of(at, struct pool, mates));
	return !limit || n < limit;
}

/* One more of each count that spans groups, or of none: the one that is full, or NULL. */
static struct shared *take_of_all(struct group *group)
{
	if (!slot_take(&group->database_shared->servers, group->set.max_db_connections))
		return group->database_shared;
	if (!slot_take(&group->user_shared->servers, group->set.max_user_connections)) {
		slot_give_back(&group->database_shared->servers);
		return group->user_shared;
	}
	if (group->tenant && !slot_take(&group->tenant->shared->servers,
					group->tenant->set.tenant_max_server_conn)) {
		slot_give_back(&group->database_shared->servers);
		slot_give_back(&group->user_shared->servers);
		return group->tenant->shared;
	}
	return NULL;
}

/* Whether it may log in to its node now; else its thread is told when. */
static bool has_turn_to_log_in(struct pool *pool, struct slot *slot, usec_t now)
{
	struct group *group = pool->group;

	pool->awaits_login =
	    !logins_begin(group->nodes->nodes[pool->node].logins, &slot->login, &pool->login_wait,
			  group->desk, group->database_shared, now);
	return !pool->awaits_login;
}

static void slot_prepare(struct slot *slot, struct pool *pool, usec_t now)
{
	*slot = (struct slot){ .pool = pool,
			       .state = SLOT_LOGIN,
			       .since = now,
			       .made_at = now,
			       .generation = pool->generation };
	list_init(&slot->link);
}

static void slot_enter(struct slot *slot)
{
	list_push_back(&slot->pool->slots[SLOT_LOGIN], &slot->link);
	slot->pool->count[SLOT_LOGIN]++;
}

bool pool_reserve(struct pool *pool, struct slot *slot, usec_t now)
{
	struct shared *full;

	slot_prepare(slot, pool, now);
	if (!pool_has_room(pool, now) || !has_turn_to_log_in(pool, slot, now))
		return false;
	full = take_of_all(pool->group);
	if (full) {
		login_end(&slot->login, now);
		return starve(full, now);
	}
	slot_enter(slot);
	return true;
}

bool pool_receive(struct pool *pool, struct slot *slot, usec_t now)
{
	slot_prepare(slot, pool, now);
	if (!pool_has_room(pool, now) || take_of_all(pool->group))
		return false;
	slot_enter(slot);
	return true;
}

static void give_back(struct group *group)
{
	slot_give_back(&group->database_shared->servers);
	slot_give_back(&group->user_shared->servers);
	if (group->tenant)
		slot_give_back(&group->tenant->shared->servers);
}

void slot_become(struct slot *slot, enum slot_state next, usec_t now)
{
	struct pool *pool = slot->pool;

	PGT_ASSERT(legal_next[slot->state] & (1u << next));
	login_end(&slot->login, now);
	if (next == SLOT_IDLE) {
		slot_rest(slot, now);
		return;
	}
	slot_leave(slot, next, now);
	if (next == SLOT_CLOSED) {
		PGT_ASSERT(!slot->turn.share);
		give_back(pool->group);
		return;
	}
	pool->count[next]++;
	list_push_back(&pool->slots[next], &slot->link);
}

static struct waiter *waiter_new(struct group *group)
{
	return group->nspare_waiters ? group->spare_waiters[--group->nspare_waiters]
				     : xmalloc(sizeof(struct waiter));
}

static void waiter_free(struct group *group, struct waiter *w)
{
	if (group->nspare_waiters < GROUP_SPARE_WAITERS)
		group->spare_waiters[group->nspare_waiters++] = w;
	else
		free(w);
}

void pool_wait(struct pool *pool, struct waiter **w, void *owner, struct tenant *tenant, usec_t now)
{
	struct waiter *new = waiter_new(pool->group);

	PGT_ASSERT(!*w);
	*new = (struct waiter){ .pool = pool, .owner = owner, .since = now };
	list_push_back(&pool->waiting, &new->link);
	pool->nwaiting++;
	list_init(&new->turn.link);
	if (pool->turns)
		turns_wait(pool->turns, &new->turn, tenant, now);
	*w = new;
}

void waiter_leave_queue(struct waiter **w, usec_t now)
{
	struct waiter *left = *w;
	struct pool *pool = left->pool;

	if (pool->turns)
		turns_leave(&left->turn, now);
	pool->nwaiting--;
	list_del(&left->link);
	*w = NULL;
	waiter_free(pool->group, left);
}

struct waiter *pool_first_waiter(const struct pool *pool)
{
	struct list *first = list_first(&pool->waiting);

	return first ? container_of(first, struct waiter, link) : NULL;
}

struct waiter *pool_next_waiter(const struct pool *pool)
{
	struct turn_wait *next;

	if (!pool->turns)
		return pool_first_waiter(pool);
	next = turns_next(pool->turns);
	return next ? container_of(next, struct waiter, turn) : NULL;
}
