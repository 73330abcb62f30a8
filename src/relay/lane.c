/* SPDX-License-Identifier: ISC
 *
 * lane.c - in which lane a client's transaction runs: its tenant's or user's, or the one that its
 * first statement says in a comment (docs/adr/0021-lanes.md).
 *
 * A transaction stays in the lane that it began in.  Knows names of lanes, not their pools.
 */
#include "relay/parts.h"
#include "relay/whose.h"
#include "sql/choice.h"

#define LANE_KEY "lane"

void lane_enter(struct client *c)
{
	const struct settings *set = &c->group->set;

	c->may_say_lane = (set->lane_switch || (c->whose && c->whose->by_comment)) &&
			  set->pool_mode != POOL_MODE_SESSION && !c->group->replication;
}

struct lane *lane_of(const struct client *c)
{
	const struct group *group = c->group;
	const char *own = c->tenant ? c->tenant->set.lane : "";

	if (!group->config->nlanes || group->replication)
		return NULL;
	if (c->lane)
		return c->lane;
	if (!*own)
		own = group->set.lane;
	return *own ? group_lane(c->group, slice_str(own)) : NULL;
}

struct pool *lane_pool_of(const struct client *c, unsigned node)
{
	const struct lane *lane = lane_of(c);

	return lane ? &lane->pools[node] : &c->group->pools[node];
}

usec_t lane_timeout_cap(const struct client *c)
{
	const struct lane *lane = c->server ? c->server->pool->lane : lane_of(c);

	return lane && lane->timeout ? lane->timeout : tenant_timeout_cap(c->tenant);
}

/* Cheaper than to read all of a text for its comments. */
static bool may_say(struct slice text)
{
	return text.n && memmem(text.p, text.n, LANE_KEY, sizeof(LANE_KEY) - 1);
}

static bool refuse_unclear(struct err *e)
{
	err_set(e, "22023", "the lane in a comment cannot be read, or stands there twice");
	return err_hint(e, "Write it as /*" LANE_KEY "='name'*/.");
}

bool lane_hear_text(struct client *c, struct slice text, struct err *e)
{
	struct sql_env env;
	char name[SQL_ID_MAX + 1];

	/* What a BEGIN has said holds until its first statement says another one. */
	if (!c->begin)
		c->lane = NULL;
	if (!may_say(text))
		return true;
	env = gate_env(c);
	switch (sql_comment_id(text, &env, SLICE(LANE_KEY), name)) {
	case SQL_COMMENT_NONE:
		return true;
	case SQL_COMMENT_WRONG:
		return refuse_unclear(e);
	case SQL_COMMENT_ID:
		break;
	}
	c->lane = group_lane(c->group, slice_str(name));
	return c->lane || config_check_lane(c->group->config, name, e);
}

void lane_leave_gone(struct group *group)
{
	LIST_FOREACH (at, &group->clients) {
		struct client *c = container_of(at, struct client, link);

		if (c->lane && c->lane->gone)
			c->lane = NULL;
		if (!c->waiter && c->chosen && c->chosen->lane && c->chosen->lane->gone)
			c->chosen = NULL;
	}
	GROUP_FOREACH_POOL (pool, group)
		if (pool->lane && pool->lane->gone)
			supply_scatter_waiters(pool);
}
