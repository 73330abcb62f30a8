/* SPDX-License-Identifier: ISC
 *
 * turns.c - shares, who of them is next, and what a turn costs.
 *
 * What a turn takes is not known when it begins.  So it pays at once for as long as the tenant's
 * turns usually take, and the rest, or gets it back, as it goes on and at its end: otherwise a
 * tenant could have all servers before the first of its turns has cost it anything.
 */
#include "pool/turns.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdlib.h>

/* Virtual time of a microsecond at weight 1. */
#define SCALE 1024
/* What a turn costs at least, since it occupies more than the server. */
#define LEAST 20
/* How far a tenant may be behind the others, in time of servers: so long do they go first, and no
 * longer. */
#define DEBT_MAX (30 * USEC_PER_SEC)
/* For how long a share that is not used is remembered. */
#define REST_MAX (10 * USEC_PER_SEC)
/* For how long a server is kept for a tenant that comes back at once, and what of a tenant's
 * absences counts. */
#define HOLD_MAX USEC_PER_MSEC
#define AWAY_MAX (2 * HOLD_MAX)
/* Of how many turns, about, the usual one is the mean, and what is the most of one in it: one that
 * lasts pays as it goes on. */
#define MEMORY    8
#define USUAL_MAX USEC_PER_SEC

struct turns *turns_new(void)
{
	struct turns *turns = xnew(struct turns);

	list_init(&turns->active);
	list_init(&turns->resting);
	list_init(&turns->holds);
	turns->usual = LEAST;
	return turns;
}

static struct share *share_at(struct list *state)
{
	return container_of(state, struct share, state);
}

static void end_hold(struct share *share)
{
	share->turns->nholds -= list_is_linked(&share->hold);
	list_del(&share->hold);
}

static void share_free(struct share *share)
{
	PGT_ASSERT(!share->held && !share->nwaiting);
	end_hold(share);
	list_del(&share->link);
	list_del(&share->state);
	tenant_unref(share->tenant);
	free(share);
}

void turns_free(struct turns *turns)
{
	if (!turns)
		return;
	PGT_ASSERT(list_is_empty(&turns->active));
	LIST_FOREACH_SAFE (at, &turns->resting)
		share_free(share_at(at));
	free(turns);
}

/* ---- shares -----------------------------------------------------------------------------------
 */

static struct share *find(const struct turns *turns, const struct tenant *tenant)
{
	LIST_FOREACH (at, &tenant->shares) {
		struct share *share = container_of(at, struct share, link);

		if (share->turns == turns)
			return share;
	}
	return NULL;
}

static struct share *share_of(struct turns *turns, struct tenant *tenant)
{
	struct share *share = find(turns, tenant);

	if (share)
		return share;
	share = xnew(struct share);
	share->turns = turns;
	share->tenant = tenant_ref(tenant);
	share->usual = turns->usual;
	share->away = AWAY_MAX;
	list_init(&share->hold);
	list_init(&share->waiting);
	list_push_back(&tenant->shares, &share->link);
	list_push_back(&turns->active, &share->state);
	return share;
}

/* Servers of the pool that a tenant may hold. */
static unsigned most(const struct turns *turns, const struct tenant *tenant)
{
	uint64_t n = (uint64_t)turns->pool_size * tenant->set.max_server_share / 100;

	if (!turns->pool_size || tenant->set.max_server_share == 100)
		return UINT32_MAX;
	return n ? (unsigned)n : 1;
}

static unsigned room_of(const struct share *share)
{
	unsigned max = most(share->turns, share->tenant);

	return share->held < max ? max - share->held : 0;
}

/* Time during which somebody has waited. */
static usec_t wanted_at(const struct turns *turns, usec_t now)
{
	return turns->wanted + (turns->nready ? now - turns->wanted_since : 0);
}

static void count_ready(struct turns *turns, unsigned before, unsigned after, usec_t now)
{
	turns->wanted = wanted_at(turns, now);
	turns->wanted_since = now;
	turns->nready += after - before;
}

/* Where one begins that comes anew: no further than who is next, who may have got back since the
 * clock was set what its turns did not take. */
static int64_t front(const struct turns *turns)
{
	const struct heap_link *next = turns->next.root;

	return next && next->key < turns->clock ? next->key : turns->clock;
}

/* Something of it has changed: puts it where it belongs.  Who begins to wait has no claim to what
 * it did not ask for before. */
static void settle(struct share *share, usec_t now)
{
	struct turns *turns = share->turns;
	unsigned room = room_of(share);
	unsigned nready = share->nwaiting < room ? share->nwaiting : room;

	if (nready && !share->nready && share->paid < front(turns))
		share->paid = front(turns);
	if (nready != share->nready) {
		count_ready(turns, share->nready, nready, now);
		share->nready = nready;
	}
	if (!nready) {
		heap_remove(&turns->next, &share->next);
	} else if (!share->next.is_linked || share->next.key != share->paid) {
		heap_remove(&turns->next, &share->next);
		heap_insert(&turns->next, &share->next, share->paid);
	}
}

static void learn(usec_t *usual, usec_t took)
{
	*usual += ((took < USUAL_MAX ? took : USUAL_MAX) - *usual) / MEMORY;
	if (*usual < LEAST)
		*usual = LEAST;
}

static void come_back(struct share *share, usec_t now)
{
	usec_t away = now - share->left_at;

	learn(&share->away, away < AWAY_MAX ? away : AWAY_MAX);
	share->left_at = 0;
	end_hold(share);
}

static void wake(struct share *share, usec_t now)
{
	if (share->left_at)
		come_back(share, now);
	if (share->held || share->nwaiting)
		return;
	list_del(&share->state);
	list_push_back(&share->turns->active, &share->state);
}

/* ---- who comes back at once -------------------------------------------------------------------
 */

/* Somebody waits, but the tenant would be next, if it only were there; and as a rule it is, before
 * half a turn is over. */
static bool is_worth_a_hold(const struct share *share)
{
	const struct turns *turns = share->turns;
	int64_t begin = share->paid > front(turns) ? share->paid : front(turns);

	return turns->next.root && begin <= turns->next.root->key && share->away <= HOLD_MAX &&
	       share->away * 2 <= share->usual;
}

static void leave(struct share *share, usec_t now)
{
	if (share->held || share->nwaiting)
		return;
	share->left_at = now;
	if (!is_worth_a_hold(share))
		return;
	share->hold_until = now + HOLD_MAX;
	list_push_back(&share->turns->holds, &share->hold);
	share->turns->nholds++;
}

bool turns_is_held(const struct turns *turns, const struct tenant *tenant)
{
	const struct share *share = turns->nholds ? find(turns, tenant) : NULL;

	return share && list_is_linked(&share->hold);
}

bool turns_end_holds(struct turns *turns, usec_t now)
{
	LIST_FOREACH_SAFE (at, &turns->holds) {
		struct share *share = container_of(at, struct share, hold);

		if (now < share->hold_until)
			return true;
		end_hold(share);
	}
	return false;
}

/* ---- rest -------------------------------------------------------------------------------------
 */

static void rest_if_idle(struct share *share, usec_t now)
{
	if (share->held || share->nwaiting)
		return;
	share->rests_since = now;
	list_del(&share->state);
	list_push_back(&share->turns->resting, &share->state);
}

void turns_sweep(struct turns *turns, usec_t now)
{
	LIST_FOREACH_SAFE (at, &turns->resting) {
		if (now - share_at(at)->rests_since < REST_MAX)
			return;
		share_free(share_at(at));
	}
}

void turns_configure(struct turns *turns, unsigned pool_size, usec_t now)
{
	turns->pool_size = pool_size;
	LIST_FOREACH (at, &turns->active)
		settle(share_at(at), now);
}

/* ---- who waits --------------------------------------------------------------------------------
 */

void turns_wait(struct turns *turns, struct turn_wait *w, struct tenant *tenant, usec_t now)
{
	struct share *share = share_of(turns, tenant);

	wake(share, now);
	w->share = share;
	list_push_back(&share->waiting, &w->link);
	share->nwaiting++;
	settle(share, now);
}

void turns_leave(struct turn_wait *w, usec_t now)
{
	struct share *share = w->share;

	w->share = NULL;
	list_del(&w->link);
	share->nwaiting--;
	settle(share, now);
	rest_if_idle(share, now);
}

struct turn_wait *turns_next(const struct turns *turns)
{
	if (!turns->next.root)
		return NULL;
	return container_of(
	    list_first(&container_of(turns->next.root, struct share, next)->waiting),
	    struct turn_wait, link);
}

bool turns_has_room(const struct turns *turns, const struct tenant *tenant)
{
	const struct share *share = find(turns, tenant);

	return !share || room_of(share);
}

bool turns_may_go(const struct turn_wait *w)
{
	return w->share->nready > 0;
}

/* ---- turns ------------------------------------------------------------------------------------
 */

/* Adds to what it has paid, or takes from it. */
static void charge(struct share *share, usec_t time)
{
	const struct turns *turns = share->turns;
	int64_t most_paid = turns->clock + DEBT_MAX * SCALE;

	share->paid += time * SCALE / share->tenant->set.weight;
	if (share->paid > most_paid)
		share->paid = most_paid;
}

void turns_begin(struct turns *turns, struct turn *turn, struct tenant *tenant, bool was_next,
		 usec_t now)
{
	struct share *share = share_of(turns, tenant);
	int64_t begin = was_next || share->paid > turns->clock ? share->paid : turns->clock;

	/* One that others wait for, and that was not chosen, says nothing of how far they are. */
	if ((was_next || !turns->nready) && begin > turns->clock)
		turns->clock = begin;
	wake(share, now);
	*turn = (struct turn){
		.share = share, .since = now, .wanted = wanted_at(turns, now), .paid = share->usual
	};
	share->paid = begin;
	share->held++;
	charge(share, share->usual);
	settle(share, now);
}

static void pay_up_to(struct turn *turn, usec_t cost)
{
	charge(turn->share, cost - turn->paid);
	turn->paid = cost;
}

void turn_pay(struct turn *turn, usec_t now)
{
	struct share *share = turn->share;
	usec_t cost = wanted_at(share->turns, now) - turn->wanted;

	if (cost <= turn->paid)
		return;
	pay_up_to(turn, cost);
	settle(share, now);
}

void turn_end(struct turn *turn, usec_t now)
{
	struct share *share = turn->share;
	usec_t cost = wanted_at(share->turns, now) - turn->wanted;

	pay_up_to(turn, cost > LEAST ? cost : LEAST);
	learn(&share->usual, now - turn->since);
	learn(&share->turns->usual, now - turn->since);
	turn->share = NULL;
	share->held--;
	settle(share, now);
	leave(share, now);
	rest_if_idle(share, now);
}
