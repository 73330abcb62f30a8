/* SPDX-License-Identifier: ISC
 *
 * show_lanes.c - SHOW LANES: what statements of lanes have of servers, and who waits there.
 *
 * A row is a database, user, lane and node; the groups of tenants are summed.  Lanes that nobody
 * has used have none.
 */
#include "admin/parts.h"
#include "route/nodes.h"

#define LANE_COLUMNS(X)                                                                            \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(TEXT, KEY, user, "User on the server.")                                                  \
	X(TEXT, KEY, lane, "Entry of [lanes].")                                                    \
	X(TEXT, KEY, node, "host:port of the node.")                                               \
	X(TEXT, FIRST, role, "What the node is.")                                                  \
	X(INT, MAX, serves, "1: the lane's reads go there; 0: only as far as it is the primary.")  \
	X(INT, SUM, cl_waiting, "Clients that wait for a server.")                                 \
	X(INT, SUM, sv_active, "Servers that a client has.")                                       \
	X(INT, SUM, sv_idle, "Servers ready to be given out.")                                     \
	X(INT, SUM, sv_login, "Servers that are logging in.")                                      \
	X(BIGINT, SUM, server_assignment_count, "Times that a server was given to a client.")      \
	X(BIGINT, SUM, wait_time, "Microseconds that clients have waited for that.")               \
	X(INT, MAX, maxwait, "Seconds that the first client in the queue has waited.")             \
	X(INT, FIRST, pool_size, "Servers of a pool; 0: no limit.")                                \
	X(TEXT, FIRST, statement_timeout, "Its ceiling in seconds; 0: that of the tenant's tier.")
LAYOUT_DEFINE(lane, LANE_COLUMNS);

static usec_t longest_wait(const struct pool *pool, usec_t now)
{
	const struct waiter *first = pool_first_waiter(pool);

	return first ? now - first->since : 0;
}

static void pool_row(const struct pool *pool, usec_t now, struct table *t)
{
	const struct group *group = pool->group;
	const struct node *node = &group->nodes->nodes[pool->node];
	const struct settings own = { .statement_timeout = pool->lane->timeout };
	struct buf name = { 0 }, timeout = { 0 };

	buf_printf(&name, "%s:%u", node->host, node->port);
	table_add(t,
		  &(struct lane_row){
		      .database = group->name,
		      .user = group->user,
		      .lane = pool->lane->name,
		      .node = buf_cstr(&name),
		      .role = node_role_name((enum node_role)node->role),
		      .serves = pool->lane->serves[pool->node],
		      .cl_waiting = pool->nwaiting,
		      .sv_active = pool->count[SLOT_ACTIVE],
		      .sv_idle = pool->count[SLOT_IDLE],
		      .sv_login = pool->count[SLOT_LOGIN],
		      .server_assignment_count = (int64_t)pool->given_count,
		      .wait_time = (int64_t)pool->wait_time,
		      .maxwait = longest_wait(pool, now) / USEC_PER_SEC,
		      .pool_size = pool->set->default_pool_size,
		      .statement_timeout = show_setting(SETTING_statement_timeout, &own, &timeout),
		  });
	buf_fini(&name);
	buf_fini(&timeout);
}

static void group_rows(struct group *group, struct table *t)
{
	usec_t now = loop_now(group->net->loop);

	GROUP_FOREACH_POOL (pool, group)
		if (pool->lane && (!pool->lane->gone || pool_size(pool)))
			pool_row(pool, now, t);
}

static void lanes_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_rows, t);
}

const struct show show_lanes = { .shown = &lane_layout, .visit = lanes_visit };
