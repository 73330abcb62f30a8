/* SPDX-License-Identifier: ISC
 *
 * operate.c - what operators ask of a thread's groups: another configuration, and the console's
 * RESUME, SUSPEND, RECONNECT, KILL and what their progress is told by.
 *
 * Knows neither commands nor files; those are the control's, which sends them to each thread.
 */
#include "net/tls.h"
#include "relay/admission.h"
#include "relay/hub.h"
#include "relay/insight.h"
#include "relay/parts.h"
#include "relay/relay.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "sql/classify.h"
#include "stats/past.h"

static void each_group(struct relay *r, const char *database,
		       void (*visit)(struct group *group, void *arg), void *arg)
{
	HMAP_FOREACH_SAFE (l, &r->groups) {
		struct group *group = container_of(l, struct group, link);

		if (!database || !strcmp(group->name, database))
			visit(group, arg);
	}
}

const char relay_reconfigured[] = "the configuration of this database or tenant has changed";

/* ---- another configuration ------------------------------------------------------------------
 */

static const struct database_conf *database_in(const struct config *config, const char *name)
{
	const struct database_conf *database = config_database(config, slice_str(name));

	return database ? database : config_database_fallback(config);
}

/* The entry that a group lives by in the new version, or NULL. */
static const struct database_conf *entry_for(const struct group *group, struct config *config)
{
	const struct database_conf *database = database_in(config, group->name);
	const char *dbname;

	if (!database || !node_set_matches(group->nodes, database->nodes, database->nnodes))
		return NULL;
	dbname = *database->dbname ? database->dbname : group->name;
	/* Without a user of its own, too, clients would go on as the one that it had. */
	if (strcmp(dbname, group->dbname) || strcmp(database->user, group->database_conf->user))
		return NULL;
	return database;
}

/* Whether the new version does not know the group's tenant any more, or by another id, or tells ids
 * by another setting: servers have the old one, and texts were read with it in mind. */
static bool has_lost_tenant(const struct group *group, const struct config *config)
{
	return group->has_tenants != (config->global.tenant_by.n > 0) ||
	       (group->has_tenants &&
		strcmp(group->set.tenant_setting, config->global.tenant_setting)) ||
	       (group->tenant && group->tenant->gone);
}

/* What makes a server connection what it is: a change makes the old ones go when they come free. */
static void renew_servers(struct group *group)
{
	GROUP_FOREACH_POOL (pool, group)
		pool->generation++;
}

static void end_group(struct group *group)
{
	struct client *c;

	group->gone = true;
	group_part(group);
	for (unsigned n = group->nclients; n && (c = relay_next_in_turn(group)); n--) {
		/* Those in a transaction finish it on the connection they have.  Of one whose BEGIN
		 * still waits for a server nothing has run. */
		if (!c->server || !is_in_transaction(c))
			relay_close_client(c, "57P01", relay_reconfigured);
	}
}

/* Servers that stay with their clients may have to be given another ceiling. */
static void look_again(struct group *group)
{
	LIST_FOREACH (at, &group->clients) {
		struct client *c = container_of(at, struct client, link);

		if (c->server && is_at_start(c))
			context_look(c);
	}
}

static void reconfigure(struct group *group, struct config *config)
{
	struct settings before = group->set;
	const struct group_key key = group_key(group);
	const struct database_conf *database = entry_for(group, config);

	if (has_lost_tenant(group, config) || !database ||
	    group_parts(config, database, &key) != group->parts) {
		end_group(group);
		return;
	}
	group_configure(group, config, database);
	lane_leave_gone(group);
	look_again(group);
	if (before.statement_timeout != group->set.statement_timeout ||
	    before.server_tls_sslmode != group->set.server_tls_sslmode)
		renew_servers(group);
	if (before.pool_mode != group->set.pool_mode)
		renew_servers(group);
}

/* Of databases that are there no more. */
static void forget_pasts(struct relay *r)
{
	HMAP_FOREACH_SAFE (l, &r->pasts) {
		struct past *past = container_of(l, struct past, link);

		if (!config_database(r->config, slice_str(past->name)))
			past_forget(&r->pasts, past);
	}
}

void relay_reconfigure(struct relay *r, struct config *config, struct tls_context *server_tls)
{
	struct tls_context *old_tls = r->server_tls;
	struct config *old = r->config;

	r->config = config_ref(config);
	r->server_tls = server_tls ? tls_context_ref(server_tls) : NULL;
	sql_classifier_set_parse_max(r->classifier, config->global.parse_max_size);
	tenants_configure(&r->tenants, config);
	insight_configure(r);
	logins_configure(config->global.server_login_concurrency, loop_now(r->net->loop));
	whose_forget_said(r);
	HMAP_FOREACH_SAFE (l, &r->groups)
		reconfigure(container_of(l, struct group, link), config);
	forget_pasts(r);
	admit_reconfigure(r);
	local_rearm(r);
	config_unref(old);
	if (old_tls)
		tls_context_unref(old_tls);
}

/* ---- the console ----------------------------------------------------------------------------
 */

static void resume_group(struct group *group, void *arg PGT_UNUSED)
{
	usec_t now = loop_now(group->net->loop);

	GROUP_FOREACH_POOL (pool, group) {
		attach_use_idle(pool);
		supply_serve_waiters(pool, now);
	}
}

void relay_resume(struct relay *r, const char *database)
{
	each_group(r, database, resume_group, NULL);
}

/* What clients have sent meanwhile was left where it was. */
static void wake_clients(struct group *group, void *arg PGT_UNUSED)
{
	LIST_FOREACH (at, &group->clients) {
		struct client *c = container_of(at, struct client, link);

		if (conn_input(&c->conn).n)
			relay_go_on(c);
		if (c->begin_due)
			local_hurry(c);
		if (!c->waiter && !admit_is_waiting(c))
			conn_resume(&c->conn);
	}
}

void relay_suspend(struct relay *r, bool on)
{
	r->suspended = on;
	if (on)
		return;
	each_group(r, NULL, wake_clients, NULL);
	local_rearm(r);
}

void relay_drop_idle(struct group *group, unsigned most)
{
	GROUP_FOREACH_POOL (pool, group)
		LIST_FOREACH_SAFE (at, &pool->slots[SLOT_IDLE]) {
			struct server *s =
			    container_of(container_of(at, struct slot, link), struct server, slot);

			if (pool->count[SLOT_IDLE] + pool->count[SLOT_ACTIVE] > most &&
			    !(most && sequence_is_kept(group, s)))
				server_drop(s);
		}
}

static void drop_idle(struct group *group, void *arg PGT_UNUSED)
{
	relay_drop_idle(group, 0);
}

void relay_close_idle(struct relay *r, const char *database)
{
	each_group(r, database, drop_idle, NULL);
}

unsigned relay_retire(struct relay *r, const char *database)
{
	unsigned busy = 0;

	HMAP_FOREACH_SAFE (l, &r->groups) {
		struct group *group = container_of(l, struct group, link);

		if (strcmp(group->name, database) != 0)
			continue;
		failover_follow(group);
		busy += failover_count_busy(group);
	}
	return busy;
}

static void close_clients(struct group *group, const char *text)
{
	struct client *c;

	while ((c = relay_next_in_turn(group)))
		relay_close_client(c, "57P01", text);
}

static void reconnect_group(struct group *group, void *arg)
{
	renew_servers(group);
	/* Its servers never come free. */
	if (group->replication)
		close_clients(group, "server connections are replaced (RECONNECT)");
	drop_idle(group, arg);
	if (group->hub)
		hub_lose(group->hub, "RECONNECT");
}

void relay_reconnect(struct relay *r, const char *database)
{
	/* Also what another process still has, of databases that nobody uses here yet. */
	r->reconnected_at = loop_now(r->net->loop);
	each_group(r, database, reconnect_group, NULL);
}

static void kill_group(struct group *group, void *arg PGT_UNUSED)
{
	close_clients(group, "database connections were killed by the administrator");
	renew_servers(group);
	drop_idle(group, NULL);
	if (group->hub)
		hub_end(group->hub);
}

void relay_kill(struct relay *r, const char *database)
{
	each_group(r, database, kill_group, NULL);
}

static bool is_of_tenant(const struct tenant *t, const char *name)
{
	return t && !strcmp(t->name, name);
}

unsigned relay_busy_of_tenant(const struct relay *r, const char *tenant)
{
	unsigned n = 0;

	for (struct hlink *l = hmap_walk(&r->groups, NULL); l; l = hmap_walk(&r->groups, l))
		LIST_FOREACH (at, &container_of(l, struct group, link)->clients) {
			const struct client *c = container_of(at, struct client, link);

			n += is_of_tenant(c->tenant, tenant) && c->server &&
			     ((c->xact & XACT_ADMITTED) || !is_at_start(c));
		}
	return n;
}

void relay_kill_tenant(struct relay *r, const char *tenant)
{
	for (struct hlink *l = hmap_walk(&r->groups, NULL); l; l = hmap_walk(&r->groups, l)) {
		struct group *group = container_of(l, struct group, link);
		struct client *c;

		for (unsigned n = group->nclients; n && (c = relay_next_in_turn(group)); n--)
			if (is_of_tenant(c->tenant, tenant))
				relay_close_client(
				    c, "57P01",
				    "connections of the tenant were killed by the administrator");
		if (is_of_tenant(group->tenant, tenant))
			kill_group(group, NULL);
	}
}

bool relay_kill_client(struct relay *r, uint64_t id)
{
	HMAP_FOREACH_SAFE (l, &r->groups)
		LIST_FOREACH_SAFE (at, &container_of(l, struct group, link)->clients) {
			struct client *c = container_of(at, struct client, link);

			if (c->id == id) {
				relay_close_client(c, "57P01", "admin forced disconnect");
				return true;
			}
		}
	return false;
}

unsigned relay_dismiss(struct relay *r, const char *text, unsigned *busy)
{
	unsigned n = 0;

	*busy = 0;
	HMAP_FOREACH_SAFE (l, &r->groups) {
		struct group *group = container_of(l, struct group, link);

		LIST_FOREACH (at, &group->clients) {
			const struct client *c = container_of(at, struct client, link);

			*busy += is_in_transaction(c) || !is_at_start(c);
			n++;
		}
		close_clients(group, text);
	}
	return n;
}

static unsigned sum(const struct relay *r, const char *database,
		    unsigned (*count)(const struct pool *))
{
	unsigned n = 0;

	for (struct hlink *l = hmap_walk(&r->groups, NULL); l; l = hmap_walk(&r->groups, l)) {
		const struct group *group = container_of(l, struct group, link);

		if (!database || !strcmp(group->name, database))
			GROUP_FOREACH_POOL (pool, group)
				n += count(pool);
	}
	return n;
}

static unsigned count_busy(const struct pool *pool)
{
	return pool->count[SLOT_ACTIVE] + pool->count[SLOT_TESTED] + pool->count[SLOT_CANCELED];
}

static unsigned count_stale(const struct pool *pool)
{
	unsigned n = 0;

	for (unsigned state = 0; state < SLOT_CLOSED; state++)
		LIST_FOREACH (at, &pool->slots[state])
			n += container_of(at, struct slot, link)->generation != pool->generation;
	return n;
}

unsigned relay_busy_servers(const struct relay *r, const char *database)
{
	return sum(r, database, count_busy);
}

unsigned relay_stale_servers(const struct relay *r, const char *database)
{
	return sum(r, database, count_stale);
}

unsigned relay_clients(const struct relay *r, const char *database)
{
	unsigned n = 0;

	for (struct hlink *l = hmap_walk(&r->groups, NULL); l; l = hmap_walk(&r->groups, l)) {
		const struct group *group = container_of(l, struct group, link);

		if (!database || !strcmp(group->name, database))
			n += group->nclients;
	}
	return n;
}
