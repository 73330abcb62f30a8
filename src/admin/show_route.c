/* SPDX-License-Identifier: ISC
 *
 * show_route.c - SHOW ROUTE: where a statement would go, and why, without running it.
 *
 * Asks the same that a statement on its way is asked, in the same order: its tokens, the grammar
 * and the catalog, the fence of who asks, and each node.  Workers are asked what they have learnt
 * of its shape.  What a session brings along, its transaction and what it keeps, is not known here.
 */
#include "admin/parts.h"
#include "admin/reasons.h"
#include "base/mem.h"
#include "relay/reason.h"
#include "route/nodes.h"
#include "sql/classify.h"
#include "sql/leaving.h"
#include "worker/sets.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUTE_COLUMNS(X)                                                                           \
	X(TEXT, FIRST, fact,                                                                       \
	  "What is told: database, tenant, statement, read, fence, node, route.")                  \
	X(TEXT, FIRST, value, "It, in a word or a number.")                                        \
	X(TEXT, FIRST, meaning, "It, in a sentence.")
LAYOUT_DEFINE(route, ROUTE_COLUMNS);

struct inquiry {
	struct command cmd;
	struct config *config; /* a reference */
	struct node_set *nodes;
	const struct sql_catalog *catalog;
	struct settings set;
	struct sql_facts facts;
	bool is_read;
	char why_not[SQL_WHY_MAX];
	show_done_fn *done;
	void *arg;
};

/* ---- which database ---------------------------------------------------------------------------
 */

static struct node_set *find_set(struct control *c, const char *database)
{
	struct node_set *found = NULL;
	unsigned n;
	struct node_set **sets = node_sets_list(c->node_sets, &n);

	for (unsigned i = 0; i < n; i++) {
		if (!found && !strcmp(sets[i]->database, database))
			found = node_set_ref(sets[i]);
		node_set_unref(sets[i]);
	}
	free(sets);
	return found;
}

/* The one that has replicas, if no other has. */
static const char *only_database(const struct config *config)
{
	const char *name = NULL;

	for (size_t i = 0; i < config->ndatabases; i++) {
		const struct database_conf *d = config->databases[i];

		if (d->nnodes < 2 || !strcmp(d->name, "*"))
			continue;
		if (name)
			return NULL;
		name = d->name;
	}
	return name;
}

static struct node_set *take_set(struct control *c, struct command *cmd, struct err *e)
{
	const char *only = *cmd->name ? cmd->name : only_database(c->config);
	struct node_set *set;

	if (!only) {
		err_set(e, "22023", "which database: SHOW ROUTE DATABASE <db> <statement>");
		return NULL;
	}
	if (!*cmd->name)
		snprintf(cmd->name, sizeof(cmd->name), "%s", only);
	set = find_set(c, cmd->name);
	if (!set)
		err_set(e, "3D000", "no such database, or nobody has used it yet: %s", cmd->name);
	return set;
}

/* ---- what is asked ----------------------------------------------------------------------------
 */

static void read_statement(struct inquiry *q)
{
	const struct sql_leaving *leaving = node_set_leaving(q->nodes);
	struct sql_env env = { .standard_strings = true,
			       .ascii_safe = true,
			       .tenant_setting = q->config->global.tenant_by.n
						     ? q->config->global.tenant_setting
						     : NULL,
			       .leaving = sql_leaving_is_empty(leaving) ? NULL : leaving,
			       .unproven = !node_set_is_learned(q->nodes),
			       .wants_fingerprint = true };
	struct slice text = slice_str(q->cmd.value);

	sql_scan(text, &env, &q->facts);
	q->is_read =
	    sql_classify_explain(q->catalog, text, &q->facts, q->config->global.parse_max_size,
				 q->why_not) == SQL_CLASS_READ;
	sql_leaving_unref(leaving);
}

/* Whose fence it is; NULL: it has none, so whoever that is has never written. */
static struct shared *find_record(const struct inquiry *q)
{
	const struct database_conf *database =
	    config_database_for(q->config, slice_str(q->cmd.name));
	struct buf fence = { 0 };
	struct shared *found;

	if (q->cmd.owner == OWNER_TENANT)
		return shared_find(SHARED_TENANT, slice_str(q->cmd.word));
	if (!database)
		return NULL;
	shared_name_fence(&fence, database->cluster,
			  *database->dbname ? database->dbname : q->cmd.name, q->cmd.word);
	found = shared_find(SHARED_FENCE, buf_peek(&fence));
	buf_fini(&fence);
	return found;
}

static uint64_t fence_of(const struct inquiry *q)
{
	struct shared *record = find_record(q);
	uint64_t fence = 0;

	if (record)
		fence = q->cmd.owner == OWNER_TENANT ? record->fence : record->login_fence;
	if (record)
		shared_put(record);
	return fence;
}

static bool is_reserved(const struct config *config, const struct node *node)
{
	for (size_t i = 0; i < config->nlanes; i++)
		if (config->lanes[i]->reserved &&
		    lane_conf_has_node(config->lanes[i], node->host, node->port))
			return true;
	return false;
}

static struct node_wish wish_of(const struct inquiry *q, bool *serves)
{
	for (unsigned i = 0; i < q->nodes->n; i++)
		serves[i] = !is_reserved(q->config, &q->nodes->nodes[i]);
	return (struct node_wish){ .serves = serves,
				   .max_lag = q->set.max_replica_lag,
				   .max_lag_bytes = q->set.max_replica_lag_bytes,
				   .is_fenced = q->set.read_your_writes != READ_YOUR_WRITES_OFF,
				   .fence = fence_of(q) };
}

/* ---- what is told -----------------------------------------------------------------------------
 */

static void tell(struct table *t, const char *fact, const char *value, const char *meaning)
{
	table_add(t, &(struct route_row){ .fact = fact, .value = value, .meaning = meaning });
}

static void tell_whose(const struct inquiry *q, struct table *t)
{
	const bool is_tenant = q->cmd.owner == OWNER_TENANT;

	tell(t, "database", q->cmd.name, "of which this is asked");
	if (*q->cmd.word)
		tell(t, is_tenant ? "tenant" : "user", q->cmd.word, "for whom it is asked");
}

static void tell_statement(const struct inquiry *q, bool is_distrusted, struct table *t)
{
	char meaning[80];

	snprintf(meaning, sizeof(meaning), "%u statement%s, %u bytes", q->facts.statements,
		 q->facts.statements == 1 ? "" : "s", (unsigned)strlen(q->cmd.value));
	tell(t, "statement", sql_kind_name(q->facts.kind), meaning);
	tell(t, "read", q->is_read ? "yes" : "no",
	     q->is_read ? "the grammar and the primary's catalog prove it" : q->why_not);
	if (q->is_read && is_distrusted)
		tell(t, "learnt", "write", "a replica has refused what differs in literals only");
}

static void tell_fence(const struct inquiry *q, const struct node_wish *wish, struct table *t)
{
	char number[24];

	snprintf(number, sizeof(number), "%llu", (unsigned long long)wish->fence);
	if (!wish->is_fenced)
		tell(t, "fence", "off", "read_your_writes = off");
	else if (q->set.read_your_writes == READ_YOUR_WRITES_SESSION)
		tell(t, "fence", NULL, "each session has its own, which is taken for none here");
	else if (!wish->fence)
		tell(t, "fence", "none", "nothing is known to have been written");
	else
		tell(t, "fence", number,
		     "the last question to the nodes before the last write was answered");
}

static void tell_nodes(const struct inquiry *q, struct node_wish *wish, struct table *t)
{
	for (unsigned i = 0; i < q->nodes->n; i++) {
		const struct node *node = &q->nodes->nodes[i];
		const char *objection = node_set_objection(q->nodes, i, wish);
		char fact[24], value[300];

		snprintf(fact, sizeof(fact), "node %u", i);
		snprintf(value, sizeof(value), "%s %s:%u",
			 node_role_name((enum node_role)node->role), node->host, node->port);
		tell(t, fact, value, objection ? objection : "will do for a read");
	}
}

/* As the counters of SHOW ROUTES would have it. */
static unsigned counter_of(const struct inquiry *q, bool is_distrusted, int replica, bool lacks)
{
	bool follows_names = q->set.max_prepared_statements > 0;
	enum route_reason why;

	if (!reason_is_said(&q->facts, follows_names, &why))
		why = q->is_read && !is_distrusted ? ROUTED_READ : ROUTED_WRITE;
	if (why != ROUTED_READ)
		return why == ROUTED_HINT ? COUNTER_routed_hint_count : COUNTER_routed_write_count;
	if (replica < 0)
		return lacks ? COUNTER_routed_fenced_count : COUNTER_routed_unfit_count;
	return q->set.route_mode == ROUTE_MODE_OBSERVE ? COUNTER_observed_count
						       : COUNTER_replica_count;
}

static void tell_route(const struct inquiry *q, bool is_distrusted, struct node_wish *wish,
		       struct table *t)
{
	int replica = node_set_replica(q->nodes, wish), node;
	const struct route_text *reason =
	    route_text_of(counter_of(q, is_distrusted, replica, wish->lacks));
	bool is_routed = q->set.route == ROUTE_AUTO && node_set_has_choice(q->nodes) &&
			 q->set.pool_mode != POOL_MODE_SESSION;
	char value[300];

	node = is_routed && !strcmp(reason->node, "replica") ? replica : node_set_primary(q->nodes);
	if (node < 0)
		snprintf(value, sizeof(value), "primary: none is known, so it waits for one");
	else
		snprintf(value, sizeof(value), "node %d, %s:%u", node, q->nodes->nodes[node].host,
			 q->nodes->nodes[node].port);
	tell(t, "route", value,
	     is_routed ? reason->meaning
		       : "nothing is routed: route = primary, session pooling, one node, or no "
			 "monitor");
	if (is_routed)
		tell(t, "reason", reason->reason, "as SHOW ROUTES counts it");
}

/* ---- from worker to worker --------------------------------------------------------------------
 */

static void on_worker(struct worker *w, void *slot, void *arg)
{
	const struct inquiry *q = arg;

	*(bool *)slot = sql_classifier_distrusts(w->relay.classifier, q->catalog, &q->facts);
}

static void on_all_asked(struct control *c, void **slots, unsigned n, void *arg)
{
	struct inquiry *q = arg;
	bool *serves = xcalloc(q->nodes->n, sizeof(*serves)), is_distrusted = false;
	struct node_wish wish = wish_of(q, serves);
	struct table t;

	for (unsigned i = 0; i < n; i++)
		is_distrusted |= *(const bool *)slots[i];
	table_init(&t, &route_layout);
	tell_whose(q, &t);
	tell_statement(q, is_distrusted, &t);
	tell_fence(q, &wish, &t);
	tell_nodes(q, &wish, &t);
	tell_route(q, is_distrusted, &wish, &t);
	q->done(c, &t, q->arg);
	free(serves);
	sql_catalog_unref(q->catalog);
	node_set_unref(q->nodes);
	config_unref(q->config);
	free(q);
}

static bool route_ask(struct control *c, const struct command *cmd, show_done_fn *done, void *arg,
		      struct err *e)
{
	struct command own = *cmd;
	struct node_set *nodes;
	struct inquiry *q;

	if (!*own.value)
		return err_set(e, "42601",
			       "a statement is required: SHOW ROUTE [DATABASE <db>] [TENANT "
			       "<tenant> | USER <user>] <statement>");
	nodes = take_set(c, &own, e);
	if (!nodes)
		return false;
	q = xnew(struct inquiry);
	*q = (struct inquiry){ .cmd = own,
			       .config = config_ref(c->config),
			       .nodes = nodes,
			       .catalog = node_set_catalog(nodes),
			       .done = done,
			       .arg = arg };
	settings_resolve(
	    q->config, config_database(q->config, slice_str(own.name)),
	    own.owner == OWNER_TENANT ? NULL : config_user(q->config, slice_str(own.word)),
	    own.owner == OWNER_TENANT ? config_tenant_by_name(q->config, slice_str(own.word))
				      : NULL,
	    NULL, &q->set);
	read_statement(q);
	control_gather(c, sizeof(bool), on_worker, on_all_asked, q);
	return true;
}

const struct show show_route = { .shown = &route_layout, .ask = route_ask };
