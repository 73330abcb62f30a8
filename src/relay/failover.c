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

/* Somebody would send who waits here away again, or who waits here would come back at once. */
static bool waits_in_vain(const struct group *group, unsigned node)
{
	int primary = node_set_primary(group->nodes);
	int role = group->nodes->nodes[node].role;

	if (!group->nodes->monitored || (int)node == primary)
		return false;
	return role != NODE_REPLICA || group->pools[node].login_failed;
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
		attach_evict(server_of(at), text);
}

void failover_follow(struct group *group)
{
	int primary = node_set_primary(group->nodes);

	for (unsigned i = 0; group->npools > 1 && i < group->npools; i++) {
		struct pool *pool = &group->pools[i];

		if (pool->nwaiting && waits_in_vain(group, i))
			attach_scatter_waiters(pool);
		if (group->nodes->nodes[i].service == NODE_DEPOSED)
			evict(pool);
		else if (failover_is_shut(pool))
			drop_unused(pool);
	}
	if (primary < 0 || !group->limbo.nwaiting)
		return;
	/* What failed before it was the primary says nothing of now. */
	group->pools[primary].retry_at = 0;
	group->pools[primary].login_failed = false;
	attach_scatter_waiters(&group->limbo);
}

unsigned failover_count_busy(const struct group *group)
{
	unsigned n = 0;

	/* A stream has no end but that of its server. */
	for (unsigned i = 0; !group->replication && i < group->npools; i++) {
		const struct pool *pool = &group->pools[i];

		if (group->nodes->nodes[i].service != NODE_RETIRES)
			continue;
		n += pool->count[SLOT_TESTED] + pool->count[SLOT_CANCELED];
		LIST_FOREACH (at, &pool->slots[SLOT_ACTIVE])
			n += is_in_transaction_on(server_of(at));
	}
	return n;
}

void failover_refuse(const struct client *c, struct err *e)
{
	err_set(e, "57P03", "no primary of database \"%.100s\" is known, after %lld s of waiting",
		c->group->name, (long long)(c->group->set.failover_wait / USEC_PER_SEC));
	err_hint(e, "Nothing of it has run. SHOW NODES on the console tells what each node is.");
}
