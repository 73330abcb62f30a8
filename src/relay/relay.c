/* SPDX-License-Identifier: ISC
 *
 * relay.c - a thread's groups: made when a client enters, swept for timeouts, reconfigured, ended.
 *
 * Knows no message; what a session does is in request.c and answer.c.
 */
#include "relay/relay.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/tls.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "sql/classify.h"
#include "sql/shape.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <stdlib.h>

/* Shapes of statements that a thread remembers. */
#define CLASSIFIER_ENTRIES 8192
/* How often clients that wait for a limit are looked at. */
#define LIMIT_TICK (5 * USEC_PER_MSEC)
/* And servers that are kept idle for a moment. */
#define HOLD_TICK USEC_PER_MSEC
/* How far a statement may be beyond its ceiling, which is the server's to keep. */
#define CEILING_GRACE (2 * USEC_PER_SEC)

static usec_t now_of(const struct relay *r)
{
	return loop_now(r->net->loop);
}

void relay_init(struct relay *r, struct net *net, struct config *config,
		struct tls_context *server_tls, struct resolver *resolver, struct mailbox *mailbox)
{
	*r = (struct relay){ .net = net,
			     .config = config_ref(config),
			     .server_tls = server_tls ? tls_context_ref(server_tls) : NULL,
			     .resolver = resolver,
			     .mailbox = mailbox };
	r->classifier = sql_classifier_new(CLASSIFIER_ENTRIES, config->global.parse_max_size);
	r->shapes = sql_shapes_new();
	latency_clock_init(&r->latency_clock, now_of(r));
	tenants_init(&r->tenants, &r->latency_clock);
	list_init(&r->limited);
	list_init(&r->deferred);
	list_init(&r->holding);
}

/* ---- groups -------------------------------------------------------------------------------------
 */

static struct group *find_group(const struct relay *r, const struct group_key *key)
{
	for (struct hlink *l = hmap_first(&r->groups, group_key_hash(key)); l; l = hmap_next(l)) {
		struct group *group = container_of(l, struct group, link);

		if (!group->gone && group_is_for(group, key))
			return group;
	}
	return NULL;
}

/* The groups of one login that differ in replication share its pool_size. */
static void join_others(const struct relay *r, struct group *group, struct group_key key)
{
	for (unsigned kind = 0; kind < REPLICATION_NKINDS; kind++) {
		struct group *other;

		key.replication = kind;
		other = find_group(r, &key);
		if (other && other->npools == group->npools) {
			group_join(group, other);
			return;
		}
	}
}

static struct group *make_group(struct relay *r, const struct group_key *key,
				const struct identity *id, struct tenant *tenant,
				struct node_set *nodes)
{
	struct group *group =
	    group_new(r->net, r->config, id->database_conf, key, id->shares_pools ? NULL : tenant,
		      nodes, node_times_get(&r->node_times, &r->latency_clock, nodes));

	group->owner = r;
	join_others(r, group, *key);
	hmap_insert(&r->groups, &group->link, group->key_hash);
	return group;
}

/* Calls visit for each group of a database; name NULL: all. */
static void each_group(struct relay *r, const char *database,
		       void (*visit)(struct group *group, void *arg), void *arg)
{
	HMAP_FOREACH_SAFE (l, &r->groups) {
		struct group *group = container_of(l, struct group, link);

		if (!database || !strcmp(group->name, database))
			visit(group, arg);
	}
}

static bool refuse_full(struct err *e, const char *what)
{
	return err_set(e, "53300", "no more connections allowed (%s)", what);
}

/* A slot in each count, or in none. */
static bool count_client(struct client *c, struct group *group, struct tenant *tenant,
			 struct err *e)
{
	const struct settings *set = &group->set;

	if (!slot_take(&shared_clients, set->max_client_conn))
		return refuse_full(e, "max_client_conn");
	if (!slot_take(&group->database_shared->clients, set->max_db_client_connections)) {
		slot_give_back(&shared_clients);
		return refuse_full(e, "max_db_client_connections");
	}
	if (!slot_take(&group->user_shared->clients, set->max_user_client_connections)) {
		slot_give_back(&shared_clients);
		slot_give_back(&group->database_shared->clients);
		return refuse_full(e, "max_user_client_connections");
	}
	if (tenant && !slot_take(&tenant->shared->clients, tenant->set.tenant_max_client_conn)) {
		slot_give_back(&shared_clients);
		slot_give_back(&group->database_shared->clients);
		slot_give_back(&group->user_shared->clients);
		atomic_fetch_add(&shared_tally(tenant->shared)->refused[LIMIT_CLIENTS], 1);
		return refuse_full(e, "max_client_conn of the tenant");
	}
	group->nclients++;
	c->counted = true;
	return true;
}

static void wait_for_welcome(struct client *c)
{
	c->chosen = gate_primary(c);
	/* Whatever comes of it, it comes by itself. */
	(void)!attach_acquire(c, c->chosen);
}

/* The tenant of a client that has proved who it is; a reference, or NULL. */
static struct tenant *tenant_of(struct relay *r, const struct identity *id)
{
	return *id->tenant ? tenant_get(&r->tenants, r->config, slice_str(id->tenant),
					id->business_id, id->tenant_conf)
			   : NULL;
}

bool relay_enter(struct relay *r, struct client *c, struct node_set *nodes, struct err *e)
{
	const struct identity *id = client_identity(c);
	const struct group_key key = identity_group_key(id);
	struct group *group = find_group(r, &key);
	struct tenant *tenant = tenant_of(r, id);

	if (!group)
		group = make_group(r, &key, id, tenant, nodes);
	if (group->database_shared->disabled)
		err_set(e, "08004", "database \"%s\" is disabled", group->name);
	else if (context_may_carry(group, tenant, e) && count_client(c, group, tenant, e))
		c->tenant = tenant_ref(tenant);
	tenant_unref(tenant);
	if (!c->counted)
		return false;
	c->group = group;
	c->on = &relay_client_events;
	if (id->may_switch)
		whose_begin(c);
	lane_enter(c);
	list_del(&c->link);
	c->host->nnewcomers--;
	list_push_back(&group->clients, &c->link);
	client_lend_secret(c, group);
	c->base = session_wanted(id, group);
	c->wanted = param_set_ref(c->base);
	if (c->wanted->welcome && !group->replication)
		client_welcome(c, c->wanted->welcome);
	else
		wait_for_welcome(c);
	return true;
}

static void take_out_group(struct relay *r, struct group *group)
{
	struct node_times *times = group->times;

	hmap_remove(&r->groups, &group->link);
	hub_free(group->hub);
	group_free(group);
	node_times_put(&r->node_times, times);
	/* Its address may be another one's soon, and stands in their keys. */
	sql_shapes_forget(r->shapes);
}

/* ---- cancel ---------------------------------------------------------------------------------
 */

/* A request in the queue never reached a server: it is answered here, with *e.  A BEGIN that has
 * been answered waits on, unless it was followed by one. */
static void end_waiting(struct client *c, const struct err *e)
{
	struct slice in = conn_input(&c->conn);
	enum frame_status status;
	struct frame f = { 0 };

	status = frame_peek(in.p, in.n, &f);
	if (status != FRAME_OK && c->begin_due)
		return;
	waiter_leave(&c->waiter, relay_now(c));
	admit_forget(c);
	if (listen_is_waiting(c))
		listen_stop_waiting(c);
	c->looked_at = false;
	c->chosen = NULL;
	if (status != FRAME_OK)
		return;
	request_refuse(c, f.type, e);
	conn_consume(&c->conn, f.have);
	c->stream_left = f.len - f.have;
	c->stream_discard = true;
	conn_resume(&c->conn);
	conn_kick(&c->conn);
	/* One that it had got already, and was not let use yet. */
	if (c->server)
		attach_settle(c->server);
}

/* Something of the client's own is to be answered, not only what we asked in its name. */
static bool has_request(const struct client *c)
{
	const struct replies *owed = &c->server->replies;

	for (uint32_t i = 0; i < owed->n; i++)
		if (replies_at(owed, i)->way != REPLY_SWALLOW)
			return true;
	return conn_input(&c->conn).n > 0;
}

/* What the client sent before it asked is here, since what it asked is, and may not have been
 * looked at yet: without it there would be nothing to cancel. */
static void catch_up(struct client *c)
{
	struct net *net = c->conn.net;

	if (c->phase != CLIENT_READY || c->waiter.pool || c->retry_at ||
	    (c->server && c->server->replies.n))
		return;
	conn_receive(&c->conn);
	net_flush(net);
}

void relay_cancel(struct client *c)
{
	struct server *s;
	struct err e;

	catch_up(c);
	if (c->phase != CLIENT_READY)
		return;
	s = c->server;
	c->group->counters.cancel_count++;
	tenant_count(c->tenant, TENANT_CANCELS, 1);
	if (c->waiter.pool || c->retry_at || whose_is_seeking(c) ||
	    (listen_is_waiting(c) && !(s && s->replies.n))) {
		err_set(&e, "57014", "canceling statement due to user request");
		end_waiting(c, &e);
	} else if (s && (s->question.done || s->replies.n)) {
		c->cancel_asked = has_request(c);
		answer_late_cancel(s);
	}
}

/* ---- clients that wait for a limit ----------------------------------------------------------
 */

static void on_limit_tick(struct loop_timer *timer)
{
	struct relay *r = container_of(timer, struct relay, limit_timer);

	admit_wake(r, now_of(r));
	if (list_is_empty(&r->limited)) {
		loop_timer_stop(r->net->loop, &r->limit_timer);
		r->limit_timer_runs = false;
	}
}

void relay_watch_limits(struct relay *r)
{
	if (r->limit_timer_runs)
		return;
	loop_timer_start(r->net->loop, &r->limit_timer, LIMIT_TICK, LIMIT_TICK, on_limit_tick);
	r->limit_timer_runs = true;
}

/* ---- servers that are kept for who comes back at once ---------------------------------------
 */

static void on_hold_tick(struct loop_timer *timer)
{
	struct relay *r = container_of(timer, struct relay, hold_timer);

	if (list_is_empty(&r->holding)) {
		loop_timer_stop(r->net->loop, &r->hold_timer);
		r->hold_timer_runs = false;
	}
	LIST_FOREACH_SAFE (at, &r->holding) {
		struct pool *pool = container_of(at, struct pool, holding);

		if (!turns_end_holds(pool->turns, now_of(r)))
			list_del(at);
		attach_use_idle(pool);
	}
}

void relay_watch_holds(struct relay *r, struct pool *pool)
{
	if (!list_is_linked(&pool->holding))
		list_push_back(&r->holding, &pool->holding);
	if (r->hold_timer_runs)
		return;
	loop_timer_start(r->net->loop, &r->hold_timer, HOLD_TICK, HOLD_TICK, on_hold_tick);
	r->hold_timer_runs = true;
}

static const char reconfigured[] = "the configuration of this database or tenant has changed";

/* ---- the sweep ------------------------------------------------------------------------------
 */

static void close_for(struct client *c, const char *sqlstate, const char *text)
{
	struct err e;

	err_set(&e, sqlstate, "%s", text);
	client_close(c, &e, text);
}

static void notify_waiting(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;
	struct err notice;

	if (c->waiter.notified || c->phase != CLIENT_READY || !set->query_wait_notify ||
	    now - c->waiter.since < set->query_wait_notify)
		return;
	c->waiter.notified = true;
	err_set(&notice, "00000",
		"No server connection available in postgres backend, client being queued");
	msg_put_notice(conn_output(&c->conn), "NOTICE", &notice);
}

/* Who waits for a primary to be known has another patience, and stays when that is over. */
static void sweep_limbo(struct client *c, usec_t now)
{
	struct err e;

	if (now - c->waiter.since < c->group->set.failover_wait) {
		notify_waiting(c, now);
		return;
	}
	failover_refuse(c, &e);
	if (c->phase == CLIENT_READY)
		end_waiting(c, &e);
	else
		client_close(c, &e, e.text);
}

static void sweep_waiting(struct client *c, usec_t now)
{
	struct pool *pool = c->waiter.pool;
	const struct settings *set = pool->set;
	struct err e;

	if (pool == &c->group->limbo) {
		sweep_limbo(c, now);
		return;
	}
	if (set->query_wait_timeout && now - c->waiter.since >= set->query_wait_timeout) {
		err_set(&e, "08P01", "query_wait_timeout");
		if (*pool->error.text && now < pool->retry_at)
			err_hint(&e, "%.200s", pool->error.text);
		client_close(c, &e, "query_wait_timeout");
		return;
	}
	notify_waiting(c, now);
}

/* One that waits for the connection that listens does not wait longer than for any other. */
static bool sweep_listening(struct client *c, usec_t now)
{
	usec_t limit = c->group->set.query_wait_timeout;

	if (listen_end_lost(c))
		return true;
	if (!limit || !listen_is_waiting(c) || now - listen_waits_since(c) < limit)
		return false;
	close_for(c, "08P01", "query_wait_timeout");
	return true;
}

/* How many statements run up to the next ReadyForQuery: each may take as long, and the server may
 * tell of none before all have ended. */
static uint64_t under_way(const struct server *s)
{
	uint64_t n = 0;

	if (s->many && s->batch <= s->many_until)
		return s->many;
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);

		n += r->kind == REPLY_EXECUTE;
		if (r->kind == REPLY_SYNC || r->kind == REPLY_QUERY || r->kind == REPLY_FUNCTION)
			break;
	}
	return n ? n : 1;
}

/* A statement that has lasted longer than its ceiling, since the session that ran it was given
 * another by code that nobody sees: the server's own timer does not stop it. */
static void hold_to_ceiling(struct client *c, usec_t now)
{
	usec_t cap = lane_timeout_cap(c);
	struct server *s = c->server;

	if (!cap || c->group->replication || now - s->query_at < cap + CEILING_GRACE ||
	    now - s->overdue_at < CEILING_GRACE || !has_request(c) ||
	    (uint64_t)(now - s->query_at - CEILING_GRACE) / (uint64_t)cap < under_way(s))
		return;
	log_warning("C-%llu: %s: a statement has lasted longer than its ceiling, and is cancelled",
		    (unsigned long long)c->id, c->user);
	c->group->counters.overdue_count++;
	s->overdue_at = now;
	c->cancel_asked = true;
	answer_late_cancel(s);
}

static void sweep_attached(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;
	struct server *s = c->server;
	bool busy = s->replies.n > 0;

	if (s->slot.turn.share)
		turn_pay(&s->slot.turn, now);
	if (busy)
		hold_to_ceiling(c, now);
	if (set->query_timeout && busy && now - s->query_at >= set->query_timeout)
		close_for(c, "57014", "query_timeout");
	else if (set->idle_transaction_timeout && !busy && s->tx != 'I' &&
		 now - c->conn.active_at >= set->idle_transaction_timeout)
		close_for(c, "25P03", "idle transaction timeout");
	else if (set->transaction_timeout && s->tx != 'I' &&
		 now - s->xact_at >= set->transaction_timeout)
		close_for(c, "25P04", "transaction timeout");
}

/* Its transaction is as old as if a server knew of it. */
static void sweep_deferred(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;

	if (set->idle_transaction_timeout &&
	    now - c->conn.active_at >= set->idle_transaction_timeout)
		close_for(c, "25P03", "idle transaction timeout");
	else if (set->transaction_timeout && now - c->begin_at >= set->transaction_timeout)
		close_for(c, "25P04", "transaction timeout");
}

/* One whose tenant a reload has taken away, in a pool that stays, may end its transaction. */
static bool has_lost_its_tenant(const struct client *c)
{
	return c->tenant && c->tenant->gone && !(c->server && is_in_transaction(c));
}

static void sweep_client(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;

	if (has_lost_its_tenant(c)) {
		close_for(c, "57P01", reconfigured);
		return;
	}
	if (c->waiter.pool) {
		sweep_waiting(c, now);
		return;
	}
	if (c->listening && sweep_listening(c, now))
		return;
	if (c->whose)
		whose_sweep(c, now);
	if (c->begin)
		sweep_deferred(c, now);
	else if (c->server && c->phase == CLIENT_READY)
		sweep_attached(c, now);
	if (c->phase == CLIENT_READY && set->client_idle_timeout && !is_in_transaction(c) &&
	    (!c->server || !c->server->replies.n) &&
	    now - c->conn.active_at >= set->client_idle_timeout)
		close_for(c, "57P05", "client_idle_timeout");
}

/* Idle servers that are too old, idle too long, or needed as room elsewhere.  min_pool_size stays.
 */
static void sweep_idle(struct pool *pool, usec_t now)
{
	struct group *group = pool->group;
	const struct settings *set = pool->set;
	bool starved = group_is_starved(group, now);

	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_IDLE]) {
		struct server *s =
		    container_of(container_of(at, struct slot, link), struct server, slot);
		bool spare = pool_size(pool) > set->min_pool_size || group->gone;

		if (s->slot.generation != pool->generation || group->gone ||
		    (set->server_lifetime && now - s->slot.made_at >= set->server_lifetime) ||
		    (spare && set->server_idle_timeout &&
		     now - s->slot.since >= set->server_idle_timeout)) {
			server_drop(s);
		} else if (starved && !pool_ready_waiters(pool)) {
			server_drop(s);
			starved = false;
		}
	}
}

static void sweep_login(struct pool *pool, usec_t now)
{
	usec_t limit = pool->group->set.server_connect_timeout;

	if (!limit)
		return;
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_LOGIN]) {
		struct server *s =
		    container_of(container_of(at, struct slot, link), struct server, slot);

		if (now - s->slot.made_at >= limit)
			s->on->ended(s, "server_connect_timeout");
	}
}

static void sweep_pool(struct pool *pool, usec_t now)
{
	sweep_idle(pool, now);
	sweep_login(pool, now);
	learn_sweep(pool, now);
	if (pool->turns)
		turns_sweep(pool->turns, now);
	attach_use_idle(pool);
	attach_serve_waiters(pool, now);
	if (pool->group->nclients && (int)pool->node == node_set_primary(pool->group->nodes))
		attach_keep_minimum(pool, now);
}

/* A group that nobody uses is kept for its counters, unless told otherwise. */
static bool is_forgotten(struct group *group, usec_t now)
{
	bool from_fallback = group->database_conf == config_database_fallback(group->config);
	usec_t limit =
	    from_fallback ? group->set.autodb_idle_timeout : group->set.pool_idle_timeout;

	if (!group_is_unused(group) || hub_is_used(group->hub)) {
		group->idle_since = 0;
		return false;
	}
	if (!group->idle_since)
		group->idle_since = now;
	return group->gone || (limit && now - group->idle_since >= limit);
}

static void sweep_group(struct relay *r, struct group *group, usec_t now)
{
	LIST_FOREACH_SAFE (at, &group->clients)
		sweep_client(container_of(at, struct client, link), now);
	GROUP_FOREACH_POOL (pool, group)
		sweep_pool(pool, now);
	if (group->hub) {
		sweep_login(&group->hub->pool, now);
		hub_sweep(group->hub, now);
	}
	failover_follow(group);
	if (is_forgotten(group, now))
		take_out_group(r, group);
}

void relay_sweep(struct relay *r, usec_t now)
{
	latency_clock_sweep(&r->latency_clock, now);
	HMAP_FOREACH_SAFE (l, &r->groups)
		sweep_group(r, container_of(l, struct group, link), now);
}

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
	if (strcmp(dbname, group->dbname) ||
	    (*database->user && strcmp(database->user, group->user)))
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
	group->gone = true;
	group_part(group);
	LIST_FOREACH_SAFE (at, &group->clients) {
		struct client *c = container_of(at, struct client, link);

		/* Those in a transaction finish it on the connection they have.  Of one whose BEGIN
		 * still waits for a server nothing has run. */
		if (!c->server || !is_in_transaction(c))
			close_for(c, "57P01", reconfigured);
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
	const struct database_conf *database = entry_for(group, config);

	if (has_lost_tenant(group, config) || !database) {
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

void relay_reconfigure(struct relay *r, struct config *config, struct tls_context *server_tls)
{
	struct tls_context *old_tls = r->server_tls;
	struct config *old = r->config;

	r->config = config_ref(config);
	r->server_tls = server_tls ? tls_context_ref(server_tls) : NULL;
	tenants_configure(&r->tenants, config);
	HMAP_FOREACH_SAFE (l, &r->groups)
		reconfigure(container_of(l, struct group, link), config);
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
		attach_serve_waiters(pool, now);
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
			conn_kick(&c->conn);
		if (c->begin_due)
			local_hurry(c);
		if (!c->waiter.pool && !c->retry_at)
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

static void drop_idle(struct group *group, void *arg PGT_UNUSED)
{
	GROUP_FOREACH_POOL (pool, group)
		LIST_FOREACH_SAFE (at, &pool->slots[SLOT_IDLE])
			server_drop(
			    container_of(container_of(at, struct slot, link), struct server, slot));
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
	LIST_FOREACH_SAFE (at, &group->clients)
		close_for(container_of(at, struct client, link), "57P01", text);
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

		LIST_FOREACH_SAFE (at, &group->clients) {
			struct client *c = container_of(at, struct client, link);

			if (is_of_tenant(c->tenant, tenant))
				close_for(
				    c, "57P01",
				    "connections of the tenant were killed by the administrator");
		}
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
				close_for(c, "57P01", "admin forced disconnect");
				return true;
			}
		}
	return false;
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

/* ---- the end --------------------------------------------------------------------------------
 */

static void end_pool(struct pool *pool)
{
	for (unsigned state = 0; state < SLOT_CLOSED; state++)
		LIST_FOREACH_SAFE (at, &pool->slots[state]) {
			struct server *s =
			    container_of(container_of(at, struct slot, link), struct server, slot);

			if (state != SLOT_CLOSING)
				server_drop(s);
			net_flush(pool->group->net);
			conn_close_soon(&s->conn);
		}
}

void relay_fini(struct relay *r)
{
	r->suspended = true;
	if (r->limit_timer_runs)
		loop_timer_stop(r->net->loop, &r->limit_timer);
	if (r->defer_timer_runs)
		loop_timer_stop(r->net->loop, &r->defer_timer);
	if (r->hold_timer_runs)
		loop_timer_stop(r->net->loop, &r->hold_timer);
	HMAP_FOREACH_SAFE (l, &r->groups) {
		struct group *group = container_of(l, struct group, link);

		group->gone = true;
		LIST_FOREACH_SAFE (at, &group->clients)
			client_close(container_of(at, struct client, link), NULL, "shutdown");
		GROUP_FOREACH_POOL (pool, group)
			end_pool(pool);
		if (group->hub) {
			hub_end(group->hub);
			end_pool(&group->hub->pool);
		}
	}
	net_turn_end(r->net);
	HMAP_FOREACH_SAFE (l, &r->groups)
		take_out_group(r, container_of(l, struct group, link));
	hmap_fini(&r->groups);
	hmap_fini(&r->node_times);
	tenants_fini(&r->tenants);
	hmap_fini(&r->statements);
	sql_classifier_free(r->classifier);
	sql_shapes_free(r->shapes);
	config_unref(r->config);
	if (r->server_tls)
		tls_context_unref(r->server_tls);
}
