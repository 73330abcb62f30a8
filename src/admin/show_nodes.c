/* SPDX-License-Identifier: ISC
 *
 * show_nodes.c - SHOW NODES: what is known about the nodes of each database.
 *
 * A database that nobody has connected to yet, and that no monitor asks about, has no node set; it
 * is shown as the configuration has it.
 */
#include "admin/parts.h"
#include "route/logins.h"
#include "route/nodes.h"
#include "worker/sets.h"

#include <stdio.h>
#include <stdlib.h>

#define NODE_COLUMNS(X)                                                                            \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(INT, KEY, node, "Number of the node, in the order of the configuration.")                \
	X(TEXT, FIRST, host, "Its host.")                                                          \
	X(INT, FIRST, port, "Its port.")                                                           \
	X(TEXT, FIRST, role,                                                                       \
	  "primary, replica, down, fenced: a second primary; unknown: nobody has asked yet.")      \
	X(BIGINT, FIRST, lag_bytes, "Bytes of WAL that a replica is behind; NULL: not known.")     \
	X(NUMERIC, FIRST, lag, "Microseconds that a replica is behind; NULL: not known.")          \
	X(NUMERIC, FIRST, latency, "Microseconds of the last answer to the monitor.")              \
	X(INT, FIRST, servers, "Server connections.")                                              \
	X(INT, FIRST, active, "Of them in use.")                                                   \
	X(NUMERIC, FIRST, seen, "Microseconds since the last answer; NULL: never.")                \
	X(TEXT, FIRST, error, "Why it is down or fenced.")                                         \
	X(NUMERIC, FIRST, asked, "Microseconds since the question to that answer was sent.")       \
	X(TEXT, FIRST, lsn, "Of a primary: where its next WAL goes; of a replica: replayed.")      \
	X(BIGINT, FIRST, timeline, "Of its WAL; NULL: not known, or not to be seen.")              \
	X(TEXT, FIRST, system, "System identifier of its cluster; NULL: not known.")               \
	X(TIME, FIRST, started, "When its server was started.")                                    \
	X(INT, FIRST, weight, "Its share of the reads among others; 0: it gets no new ones.")      \
	X(TEXT, FIRST, zone, "Its zone (node_zone); NULL: not said.")                              \
	X(INT, FIRST, failures, "How many times in a row it has failed to answer the monitor.")    \
	X(TEXT, FIRST, state, "What it is used for, and if it is not, what that waits for.")       \
	X(BIGINT, FIRST, lock_waits,                                                               \
	  "Sessions of its server that wait for a lock; NULL: not known, or not to be seen.")      \
	X(NUMERIC, FIRST, lock_wait, "Microseconds that one of them has waited, the longest.")     \
	X(BIGINT, FIRST, blocks_hit,                                                               \
	  "Blocks that its server found in its cache; NULL: not known.")                           \
	X(BIGINT, FIRST, blocks_read, "Blocks that it did not find there.")                        \
	X(BIGINT, FIRST, deadlocks, "Deadlocks that it has seen.")                                 \
	X(INT, FIRST, logins, "Logins under way to its server, of all databases.")                 \
	X(INT, FIRST, login_waits,                                                                 \
	  "Pools that wait for their turn there (server_login_concurrency).")
LAYOUT_DEFINE(node, NODE_COLUMNS);

static int64_t known(int64_t value)
{
	return value < 0 ? NUMBER_NULL : value;
}

static const char *state_of(const struct node_set *set, unsigned i)
{
	const struct node *node = &set->nodes[i];

	if (node->service == NODE_RETIRES)
		return "starts no more transactions (SWITCHOVER)";
	switch ((enum node_role)node->role) {
	case NODE_UNKNOWN:
		return "was not asked yet";
	case NODE_DOWN:
		return node->health.answers ? "comes back: answers, not yet often enough"
					    : "is down";
	case NODE_FENCED:
		return "is not written to, and not read from";
	case NODE_PRIMARY:
		return health_is_doubtful(&node->health) ? "takes writes, in doubt: is asked again"
		       : node_set_primary(set) == (int)i ? "takes writes"
							 : "is not the primary yet";
	case NODE_REPLICA:
		break;
	}
	if (!node->weight)
		return node->active ? "gets no new reads (weight 0), ends those it has"
				    : "gets no reads (weight 0)";
	if (health_is_doubtful(&node->health))
		return "takes reads, in doubt: is asked again";
	return node->lag_time < 0 ? "waits until its lag is known" : "takes reads";
}

static void node_row(struct node_set *set, unsigned i, usec_t now, struct table *t)
{
	struct node *node = &set->nodes[i];
	usec_t seen_at = node->seen_at;
	uint64_t position = node->position, system = node->system;
	uint32_t timeline = node->timeline;
	int64_t process = node->process;
	struct logins_count logins = logins_count(node->logins);
	char error[sizeof(node->error)], lsn[24], name[24];

	snprintf(lsn, sizeof(lsn), "%X/%X", (unsigned)(position >> 32), (unsigned)position);
	snprintf(name, sizeof(name), "%llu", (unsigned long long)system);
	pthread_mutex_lock(&set->lock);
	memcpy(error, node->error, sizeof(error));
	pthread_mutex_unlock(&set->lock);
	if (node->service == NODE_RETIRES)
		snprintf(error, sizeof(error), "starts no more transactions (SWITCHOVER)");
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
					 .error = *error ? error : NULL,
					 .asked = seen_at ? now - node->asked_at : NUMBER_NULL,
					 .lsn = seen_at ? lsn : NULL,
					 .timeline = timeline ? (int64_t)timeline : NUMBER_NULL,
					 .system = system ? name : NULL,
					 .started = process ? process : NUMBER_NULL,
					 .weight = node->weight,
					 .zone = *node->zone ? node->zone : NULL,
					 .failures = node->health.failures,
					 .state = state_of(set, i),
					 .lock_waits = known(node->lock_waits),
					 .lock_wait = known(node->lock_wait),
					 .blocks_hit = known(node->blocks_hit),
					 .blocks_read = known(node->blocks_read),
					 .deadlocks = known(node->deadlocks),
					 .logins = logins.under_way,
					 .login_waits = logins.waiting });
}

static void add_known(struct control *c, struct table *t)
{
	unsigned n;
	struct node_set **sets = node_sets_list(c->node_sets, &n);

	for (unsigned i = 0; i < n; i++) {
		for (unsigned node = 0; node < sets[i]->n; node++)
			node_row(sets[i], node, loop_now(c->loop), t);
		node_set_unref(sets[i]);
	}
	free(sets);
}

/* Rows of sets come first, so that they count and the configuration's fill in what is missing. */
static void nodes_local(struct control *c, struct table *t)
{
	add_known(c, t);
	for (size_t i = 0; i < c->config->ndatabases; i++) {
		const struct database_conf *d = c->config->databases[i];

		for (size_t n = 0; strcmp(d->name, "*") && n < d->nnodes; n++)
			table_add(t, &(struct node_row){
					 .database = d->name,
					 .node = (int64_t)n,
					 .host = d->nodes[n].host,
					 .port = d->nodes[n].port,
					 .role = node_role_name(NODE_UNKNOWN),
					 .lag_bytes = NUMBER_NULL,
					 .lag = NUMBER_NULL,
					 .latency = NUMBER_NULL,
					 .seen = NUMBER_NULL,
					 .asked = NUMBER_NULL,
					 .timeline = NUMBER_NULL,
					 .started = NUMBER_NULL,
					 .weight = d->nodes[n].weight,
					 .zone = *d->nodes[n].zone ? d->nodes[n].zone : NULL,
					 .state = "was not asked yet",
					 .lock_waits = NUMBER_NULL,
					 .lock_wait = NUMBER_NULL,
					 .blocks_hit = NUMBER_NULL,
					 .blocks_read = NUMBER_NULL,
					 .deadlocks = NUMBER_NULL });
	}
}

const struct show show_nodes = { .shown = &node_layout, .local = nodes_local };
