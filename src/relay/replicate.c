/* SPDX-License-Identifier: ISC
 *
 * replicate.c - a server for each client that replicates (docs/adr/0012-replication.md).
 *
 * It is made for this client, with what that asks for in the startup packet, and goes with it.  The
 * pools of such clients share pool_size with the pool of the others, their mates, so each makes
 * room for the other.  Knows queues and limits, nothing of what is replicated.
 */
#include "relay/parts.h"
#include "relay/pins.h"
#include "server/backends.h"

static struct client *client_of(struct list *waiting)
{
	return attach_waiting(container_of(waiting, struct waiter, link));
}

static struct pool *mate_of(struct list *mates)
{
	return container_of(mates, struct pool, mates);
}

struct client *replicate_owner(const struct server *s)
{
	LIST_FOREACH (at, &s->pool->waiting)
		if (client_of(at)->id == s->made_for)
			return client_of(at);
	return NULL;
}

static bool has_one_coming(const struct pool *pool, const struct client *c)
{
	LIST_FOREACH (at, &pool->slots[SLOT_LOGIN])
		if (container_of(at, struct server, slot.link)->made_for == c->id)
			return true;
	return false;
}

static struct client *next_without(const struct pool *pool)
{
	LIST_FOREACH (at, &pool->waiting)
		if (!has_one_coming(pool, client_of(at)))
			return client_of(at);
	return NULL;
}

/* An idle connection of a mate goes, one at a time; those in use do when they come free. */
static void make_room(const struct pool *pool)
{
	struct slot *idle = NULL;

	LIST_FOREACH (at, &pool->mates) {
		if (mate_of(at)->count[SLOT_CLOSING])
			return;
		idle = idle ? idle : pool_idle(mate_of(at));
	}
	if (idle)
		server_drop(container_of(idle, struct server, slot));
}

void replicate_serve(struct pool *pool, usec_t now)
{
	const struct client *c;
	struct server *made;

	/* No more often than that, whatever comes of it. */
	for (unsigned n = pool->nwaiting; n && (c = next_without(pool)); n--) {
		if (now < pool->retry_at)
			return;
		if (!pool_has_room(pool, now)) {
			make_room(pool);
			return;
		}
		if (!supply_open(pool, c, &relay_server_events, &made, now))
			return;
	}
}

static bool waits_for_room(const struct pool *pool, usec_t now)
{
	return pool->group->replication && pool->nwaiting > pool->count[SLOT_LOGIN] &&
	       !pool_has_room(pool, now);
}

bool replicate_needs_room(const struct pool *pool, const struct client *next, usec_t now)
{
	LIST_FOREACH (at, &pool->mates) {
		const struct waiter *w = pool_first_waiter(mate_of(at));

		if (w && (!next || w->since < next->waiter->since) && !pool->count[SLOT_CLOSING] &&
		    waits_for_room(mate_of(at), now))
			return true;
	}
	return false;
}

/* That says nothing about the others, who may ask for something else. */
void replicate_refuse(struct server *s)
{
	struct client *c = replicate_owner(s);
	struct err e = s->pool->error;

	s->pool->login_failed = false;
	server_drop(s);
	if (c)
		client_close(c, &e, e.text);
}

void replicate_begin(struct client *c, struct server *s)
{
	client_welcome(c, s->params);
	backend_hold(s->backend, c->pid);
	pins_set(c, PIN_BIT(PIN_REPLICATION));
}
