/* SPDX-License-Identifier: ISC
 *
 * learn.c - asks a server of the group, between two clients, behind which names of its database
 * there is code that may leave something in the session.
 *
 * The first server connection of a database is asked before anybody gets it, any of them when a
 * command has defined something, and an idle one now and then.  Until the answer is there, all that
 * runs code counts as such (gate.c).  Where it cannot be had, nothing does.
 */
#include "base/log.h"
#include "relay/parts.h"
#include "route/nodes.h"
#include "sql/leaving.h"

/* Somebody else may define something at any time. */
#define LEARN_PERIOD (60 * USEC_PER_SEC)
/* A row of commands that define something is looked at no more often. */
#define LEARN_PAUSE USEC_PER_SEC

static bool is_of_use(const struct pool *pool)
{
	const struct group *group = pool->group;

	return !group->replication && group->set.pool_mode != POOL_MODE_SESSION && !group->gone &&
	       (int)pool->node == node_set_primary(group->nodes);
}

static bool is_due(const struct pool *pool, usec_t now)
{
	struct node_set *nodes = pool->group->nodes;
	usec_t since = now - atomic_load_explicit(&nodes->learned_at, memory_order_relaxed);
	usec_t pause = node_set_is_learned(nodes) ? LEARN_PERIOD : LEARN_PAUSE;

	return since >= pause && is_of_use(pool);
}

static void on_name(struct server *s, void *arg PGT_UNUSED, const struct slice *columns, unsigned n)
{
	if (n == 2)
		sql_leaving_add(s->learning, columns[0], columns[1]);
}

static void on_learned(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	struct node_set *nodes = s->pool->group->nodes;
	struct sql_leaving *leaving = s->learning;

	s->learning = NULL;
	if (error) {
		log_warning(
		    "database \"%s\": what its functions and triggers may leave in a session "
		    "cannot be asked: %.*s",
		    nodes->database, SLICE_FMT(error->message));
		sql_leaving_unref(leaving);
		leaving = NULL;
	}
	node_set_publish_leaving(nodes, leaving, s->learns);
	if (s->tx != 'I')
		s->doubtful = true;
	attach_recycle(s);
}

bool learn_begin(struct server *s)
{
	struct node_set *nodes = s->pool->group->nodes;
	usec_t now = loop_now(s->conn.net->loop);
	usec_t before = atomic_load_explicit(&nodes->learned_at, memory_order_relaxed);
	struct question q = { .row = on_name, .done = on_learned };

	/* Of several threads one asks. */
	if (!is_due(s->pool, now) ||
	    !atomic_compare_exchange_strong(&nodes->learned_at, &before, now))
		return false;
	s->learns = atomic_load_explicit(&nodes->definitions, memory_order_relaxed);
	s->learning = sql_leaving_new();
	if (s->slot.state != SLOT_TESTED)
		slot_become(&s->slot, SLOT_TESTED, now);
	server_ask(s, sql_leaving_query, &q);
	return true;
}

void learn_sweep(struct pool *pool, usec_t now)
{
	struct slot *slot = is_due(pool, now) && !pool_ready_waiters(pool) ? pool_idle(pool) : NULL;

	if (slot)
		(void)!learn_begin(container_of(slot, struct server, slot));
}

void learn_hurry(struct pool *pool, usec_t now)
{
	if (pool == &pool->group->limbo || !is_due(pool, now))
		return;
	if (pool_idle(pool))
		learn_sweep(pool, now);
	else
		supply_open_spare(pool, now);
}
