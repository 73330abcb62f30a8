/* SPDX-License-Identifier: ISC
 *
 * show_nodes.c - SHOW NODES: what is known about the nodes of each database.
 *
 * Node sets are found through the groups that use them, so a database that nobody has connected to
 * yet is shown as the configuration has it.
 */
#include "admin/parts.h"
#include "route/nodes.h"

#define NODE_COLUMNS(X)                                                                            \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(INT, KEY, node, "Number of the node, in the order of the configuration.")                \
	X(TEXT, FIRST, host, "Its host.")                                                          \
	X(INT, FIRST, port, "Its port.")                                                           \
	X(TEXT, FIRST, role, "primary, replica, down, or unknown: nobody has asked yet.")          \
	X(BIGINT, FIRST, lag_bytes, "Bytes of WAL that a replica is behind; NULL: not known.")     \
	X(NUMERIC, FIRST, lag, "Microseconds that a replica is behind; NULL: not known.")          \
	X(NUMERIC, FIRST, latency, "Microseconds of the last answer to the monitor.")              \
	X(INT, FIRST, servers, "Server connections.")                                              \
	X(INT, FIRST, active, "Of them in use.")                                                   \
	X(NUMERIC, FIRST, seen, "Microseconds since the last answer; NULL: never.")                \
	X(TEXT, FIRST, error, "Why it is down.")
LAYOUT_DEFINE(node, NODE_COLUMNS);

static int64_t known(int64_t value)
{
	return value < 0 ? NUMBER_NULL : value;
}

static void node_row(struct node_set *set, unsigned i, usec_t now, struct table *t)
{
	struct node *node = &set->nodes[i];
	usec_t seen_at = node->seen_at;
	char error[sizeof(node->error)];

	pthread_mutex_lock(&set->lock);
	memcpy(error, node->error, sizeof(error));
	pthread_mutex_unlock(&set->lock);
	table_add(t, &(struct node_row){ .database = set->database,
					 .node = i,
					 .host = node->host,
					 .port = node->port,
					 .role = node_role_name((enum node_role)node->role),
					 .lag_bytes = known(node->lag_bytes),
					 .lag = known(node->lag_time),
					 .latency = seen_at ? node->latency : NUMBER_NULL,
					 .servers = node->servers,
					 .active = node->active,
					 .seen = seen_at ? now - seen_at : NUMBER_NULL,
					 .error = *error ? error : NULL });
}

static void group_nodes(struct group *group, struct table *t)
{
	for (unsigned i = 0; i < group->nodes->n; i++)
		node_row(group->nodes, i, loop_now(group->net->loop), t);
}

static void nodes_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_nodes, t);
}

static void nodes_local(struct control *c, struct table *t)
{
	for (size_t i = 0; i < c->config->ndatabases; i++) {
		const struct database_conf *d = c->config->databases[i];

		for (size_t n = 0; strcmp(d->name, "*") && n < d->nnodes; n++)
			table_add(t, &(struct node_row){ .database = d->name,
							 .node = (int64_t)n,
							 .host = d->nodes[n].host,
							 .port = d->nodes[n].port,
							 .role = node_role_name(NODE_UNKNOWN),
							 .lag_bytes = NUMBER_NULL,
							 .lag = NUMBER_NULL,
							 .latency = NUMBER_NULL,
							 .seen = NUMBER_NULL });
	}
}

const struct show show_nodes = { .shown = &node_layout,
				 .visit = nodes_visit,
				 .local = nodes_local };
