/* SPDX-License-Identifier: ISC
 *
 * failover.c - the primary goes, and another one comes.
 *
 * While no primary is known, or SWITCHOVER says that the one there is retires, who needs one waits
 * in the group's limbo, a pool without servers; the sweep sends those who wait in vain to choose
 * again.  A node in whose place another is the primary is used no more: its connections go, those
 * under way too, so that nothing is acknowledged there.  Knows roles, not how they were found out.
 */
#include "base/log.h"
#include "relay/parts.h"
#include "route/nodes.h"

#include <stdio.h>

/* A login that has lasted so long when its node comes back began before it went. */
#define HANGING USEC_PER_SEC

/* Somebody would send who waits here away again, or who waits here would come back at once. */
static bool waits_in_vain(const struct pool *pool)
{
	const struct node_set *nodes = pool->group->nodes;

	if (!nodes->monitored || (int)pool->node == node_set_primary(nodes))
		return false;
	return nodes->nodes[pool->node].role != NODE_REPLICA || pool->login_failed;
}

static bool is_in_transaction_on(const struct server *s)
{
	return s->client &&
	       (s->replies.n || s->tx != 'I' || s->client->in_batch || s->client->stream_left);
}

static struct server *server_of(struct list *link)
{
	return container_of(container_of(link, struct slot, link), struct server, slot);
}

/* Of a node that starts no more transactions; those under way come to their end. */
static void drop_unused(struct pool *pool)
{
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_LOGIN])
		server_drop(server_of(at));
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_IDLE])
		server_drop(server_of(at));
}

static void evict(struct pool *pool)
{
	const struct node *node = &pool->group->nodes->nodes[pool->node];
	char text[200];

	drop_unused(pool);
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_TESTED])
		server_drop(server_of(at));
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_CANCELED])
		server_drop(server_of(at));
	if (!pool->count[SLOT_ACTIVE])
		return;
	snprintf(text, sizeof(text), "terminating connection: %s:%u is not the primary any more",
		 node->host, node->port);
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_ACTIVE])
		supply_evict(server_of(at), text);
}

/* What failed before its node was the primary, or was heard again, says nothing of now. */
static void welcome(struct pool *pool)
{
	pool->retry_at = 0;
	pool->login_failed = false;
}

/* A login that hung when the node went may never hear of it. */
static void drop_hanging(struct pool *pool)
{
	usec_t now = loop_now(pool->group->net->loop);

	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_LOGIN])
		if (now - container_of(at, struct slot, link)->since > HANGING)
			server_drop(server_of(at));
}

static void follow(struct pool *pool)
{
	const struct node *node = &pool->group->nodes->nodes[pool->node];
	unsigned comebacks = atomic_load_explicit(&node->comebacks, memory_order_relaxed);

	if (comebacks != pool->comebacks) {
		pool->comebacks = comebacks;
		welcome(pool);
		drop_hanging(pool);
	}
	if (pool->nwaiting && waits_in_vain(pool))
		supply_scatter_waiters(pool);
	if (node->service == NODE_DEPOSED)
		evict(pool);
	else if (failover_is_shut(pool))
		drop_unused(pool);
}

void failover_follow(struct group *group)
{
	int primary = node_set_primary(group->nodes);

	if (group->npools > 1)
		GROUP_FOREACH_POOL (pool, group)
			follow(pool);
	if (primary < 0 || !group->limbo.nwaiting)
		return;
	GROUP_FOREACH_POOL (pool, group)
		if ((int)pool->node == primary)
			welcome(pool);
	supply_scatter_waiters(&group->limbo);
}

static unsigned count_busy(const struct pool *pool)
{
	unsigned n = pool->count[SLOT_TESTED] + pool->count[SLOT_CANCELED];

	LIST_FOREACH (at, &pool->slots[SLOT_ACTIVE])
		n += is_in_transaction_on(server_of(at));
	return n;
}

unsigned failover_count_busy(const struct group *group)
{
	const struct node *nodes = group->nodes->nodes;
	unsigned n = 0;

	/* A stream has no end but that of its server. */
	if (group->replication)
		return 0;
	GROUP_FOREACH_POOL (pool, group)
		if (nodes[pool->node].service == NODE_RETIRES)
			n += count_busy(pool);
	return n;
}

void failover_refuse(const struct client *c, struct err *e)
{
	err_set(e, "57P03", "no primary of database \"%.100s\" is known, after %lld s of waiting",
		c->group->name, (long long)(c->group->set.failover_wait / USEC_PER_SEC));
	err_hint(e, "Nothing of it has run. SHOW NODES on the console tells what each node is.");
}
