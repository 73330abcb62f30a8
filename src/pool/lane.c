/* SPDX-License-Identifier: ISC
 *
 * lane.c - what a group has in lanes: further pools, with settings and nodes of their own.
 *
 * A lane's pools are like the group's: the same limits count them, the same sweeps look at them.
 * Knows what the configuration says of lanes, not which statements go into one
 * (docs/adr/0021-lanes.md).
 */
#include "base/mem.h"
#include "pool/pool.h"
#include "route/nodes.h"

#include <stdlib.h>

struct pool *group_next_pool(const struct group *group, struct pool *pool)
{
	const struct list *at = &group->lanes;

	if (!pool)
		return group->pools;
	if (pool->node + 1 < group->npools)
		return pool + 1;
	if (pool->lane)
		at = &pool->lane->link;
	return at->next == &group->lanes ? NULL : container_of(at->next, struct lane, link)->pools;
}

static void serve(const struct group *group, const struct lane_conf *conf, bool *serves)
{
	for (unsigned i = 0; i < group->npools; i++)
		serves[i] = lane_conf_has_node(conf, group->nodes->nodes[i].host,
					       group->nodes->nodes[i].port);
}

/* Of none of the lane's nodes: all of them serve it. */
static void serve_somewhere(const struct group *group, bool *serves)
{
	for (unsigned i = 0; i < group->npools; i++)
		if (serves[i])
			return;
	for (unsigned i = 0; i < group->npools; i++)
		serves[i] = true;
}

/* The reserve and what a pool keeps open are the group's own. */
static void lane_configure(struct lane *lane)
{
	const struct group *group = lane->group;
	const struct lane_conf *conf = config_lane(group->config, slice_str(lane->name));
	struct settings own = { 0 };
	usec_t before = lane->timeout;

	lane->gone = !conf;
	lane->set = group->set;
	lane->set.min_pool_size = lane->set.reserve_pool_size = 0;
	lane->timeout = 0;
	if (conf) {
		lane_conf_apply(conf, &lane->set);
		lane_conf_apply(conf, &own);
		lane->timeout = own.statement_timeout;
		serve(group, conf, lane->serves);
		serve_somewhere(group, lane->serves);
	}
	for (unsigned i = 0; i < group->npools; i++)
		lane->pools[i].generation += lane->gone || lane->timeout != before;
}

void lanes_configure(struct group *group)
{
	const struct config *config = group->config;

	for (unsigned i = 0; i < group->npools; i++) {
		const struct node *node = &group->nodes->nodes[i];

		group->serves[i] = true;
		for (size_t n = 0; n < config->nlanes; n++)
			group->serves[i] &=
			    !config->lanes[n]->reserved ||
			    !lane_conf_has_node(config->lanes[n], node->host, node->port);
	}
	LIST_FOREACH (at, &group->lanes)
		lane_configure(container_of(at, struct lane, link));
}

static struct lane *lane_new(struct group *group, struct slice name)
{
	struct lane *lane = xnew(struct lane);

	lane->group = group;
	lane->name = xmemdup0(name.p, name.n);
	lane->serves = xcalloc(group->npools, sizeof(*lane->serves));
	lane->pools = xcalloc(group->npools, sizeof(*lane->pools));
	for (unsigned i = 0; i < group->npools; i++) {
		pool_init(&lane->pools[i], group, i);
		lane->pools[i].lane = lane;
		lane->pools[i].set = &lane->set;
	}
	list_push_back(&group->lanes, &lane->link);
	lane_configure(lane);
	for (unsigned i = 0; i < group->npools; i++)
		pool_configure(&lane->pools[i]);
	return lane;
}

struct lane *group_lane(struct group *group, struct slice name)
{
	LIST_FOREACH (at, &group->lanes) {
		struct lane *lane = container_of(at, struct lane, link);

		if (slice_is_equal(slice_str(lane->name), name))
			return lane->gone ? NULL : lane;
	}
	return config_lane(group->config, name) ? lane_new(group, name) : NULL;
}

static void lane_free(struct lane *lane)
{
	list_del(&lane->link);
	for (unsigned i = 0; i < lane->group->npools; i++)
		pool_fini(&lane->pools[i]);
	free(lane->pools);
	free(lane->serves);
	free(lane->name);
	free(lane);
}

void lanes_free(struct group *group)
{
	LIST_FOREACH_SAFE (at, &group->lanes)
		lane_free(container_of(at, struct lane, link));
}
