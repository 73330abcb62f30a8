/* SPDX-License-Identifier: ISC
 *
 * relay.c - a thread's groups: made when a client enters, and ended.
 *
 * Knows no message; what a session does is in request.c and answer.c, what time does in sweep.c.
 */
#include "relay/relay.h"

#include "net/tls.h"
#include "relay/admission.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/repeat.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "sql/classify.h"
#include "sql/shape.h"
#include "stats/past.h"
#include "wire/frame.h"

/* Shapes of statements that a thread remembers. */
#define CLASSIFIER_ENTRIES 8192
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
	login_desk_init(&r->desk, supply_tell);
	logins_configure(config->global.server_login_concurrency, now_of(r));
	r->classifier = sql_classifier_new(CLASSIFIER_ENTRIES, config->global.parse_max_size);
	r->shapes = sql_shapes_new();
	insight_init(r);
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

struct group *relay_group(struct relay *r, const struct group_key *key,
			  const struct database_conf *database, struct tenant *tenant,
			  struct node_set *nodes)
{
	struct group *group = find_group(r, key);

	if (group)
		return group;
	group = group_new(r->net, r->config, database, key, tenant, nodes,
			  node_times_get(&r->node_times, &r->latency_clock, nodes));
	group->owner = r;
	group->desk = &r->desk;
	group->serial = ++r->last_group;
	join_others(r, group, *key);
	hmap_insert(&r->groups, &group->link, group->key_hash);
	return group;
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
		admit_say_limit(tenant, group, LIMIT_CLIENTS, "clients are refused", relay_now(c));
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
	struct tenant *tenant = tenant_of(r, id);
	struct group *group =
	    relay_group(r, &key, id->database_conf, id->shares_pools ? NULL : tenant, nodes);

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
	gate_note_isolation(c);
	if (client_passport(c)) {
		move_settle_in(c);
		return true;
	}
	if (c->wanted->welcome && !group->replication)
		client_welcome(c, c->wanted->welcome);
	else
		wait_for_welcome(c);
	return true;
}

/* The counters of a database outlast its groups; not where `*` serves any name. */
static void keep_counters(struct relay *r, const struct group *group)
{
	if (config_database(r->config, slice_str(group->name)))
		past_add(&r->pasts, group->name, &group->counters);
}

void relay_take_out_group(struct relay *r, struct group *group)
{
	struct node_times *times = group->times;

	keep_counters(r, group);
	hmap_remove(&r->groups, &group->link);
	hub_free(group->hub);
	repeat_forget(r, group);
	whose_forget_said(r);
	group_free(group);
	node_times_put(&r->node_times, times);
	/* Its address may be another one's soon, and stands in their keys. */
	sql_shapes_forget(r->shapes);
}

/* ---- cancel ---------------------------------------------------------------------------------
 */

void relay_end_waiting(struct client *c, const struct err *e)
{
	struct slice in = conn_input(&c->conn);
	enum frame_status status;
	struct frame f = { 0 };

	status = frame_peek(in.p, in.n, &f);
	if (status != FRAME_OK && c->begin_due)
		return;
	waiter_leave(&c->waiter, relay_now(c));
	if (c->rare->was_sent_on)
		client_make_rare(c)->was_sent_on = false;
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
	relay_go_on(c);
	/* One that it had got already, and was not let use yet. */
	if (c->server)
		attach_settle(c->server);
}

/* Something of the client's own is to be answered, not only what we asked in its name. */
bool relay_has_request(const struct client *c)
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

	if (c->phase != CLIENT_READY || c->waiter || admit_is_waiting(c) ||
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
	if (c->waiter || admit_is_waiting(c) || whose_is_seeking(c) ||
	    (listen_is_waiting(c) && !(s && s->replies.n))) {
		err_set(&e, "57014", "canceling statement due to user request");
		relay_end_waiting(c, &e);
	} else if (s && (s->question.done || s->replies.n)) {
		c->cancel_asked = relay_has_request(c);
		answer_late_cancel(s);
	}
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
		struct client *c;

		group->gone = true;
		while ((c = relay_next_in_turn(group)))
			client_close(c, NULL, "shutdown");
		GROUP_FOREACH_POOL (pool, group)
			end_pool(pool);
		if (group->hub) {
			hub_end(group->hub);
			end_pool(&group->hub->pool);
		}
	}
	net_turn_end(r->net);
	HMAP_FOREACH_SAFE (l, &r->groups)
		relay_take_out_group(r, container_of(l, struct group, link));
	hmap_fini(&r->groups);
	pasts_fini(&r->pasts);
	hmap_fini(&r->node_times);
	tenants_fini(&r->tenants);
	repeat_forget(r, NULL);
	whose_forget_said(r);
	hmap_fini(&r->statements);
	sql_classifier_free(r->classifier);
	sql_shapes_free(r->shapes);
	insight_fini(r);
	buf_fini(&r->leavers);
	config_unref(r->config);
	if (r->server_tls)
		tls_context_unref(r->server_tls);
}
