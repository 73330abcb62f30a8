/* SPDX-License-Identifier: ISC
 *
 * supply.c - server connections of a pool: opened for those who wait, and what becomes of those who
 * wait for one, or have it, when it is refused or lost.
 *
 * Knows whom a connection was for and whom it is taken from; who gets one that is free is
 * attach.c's.
 */
#include "base/log.h"
#include "net/mailbox.h"
#include "relay/early.h"
#include "relay/hub.h"
#include "relay/parts.h"
#include "relay/promote.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "route/nodes.h"
#include "server/backends.h"
#include "sql/leaving.h"

/* The default statement_timeout of a role is asked for again after this time. */
#define DEFAULT_TIMEOUT_TTL (300 * USEC_PER_SEC)
/* A login that we had no memory for is tried again after this time; the reserve is there again by
 * then, if memory is. */
#define STARVED_RETRY (250 * USEC_PER_MSEC)
/* Servers that a client may lose within a second before they have got anything of its request. */
#define LOSSES_MAX 10

static usec_t now_of(const struct server *s)
{
	return loop_now(s->conn.net->loop);
}

/* ---- connections ------------------------------------------------------------------------------
 */

bool supply_must_cap(const struct pool *pool, usec_t now, bool *ask)
{
	const struct group *group = pool->group;
	const struct shared *login = group->login_shared;
	usec_t cap = pool_session_cap(pool);
	int64_t dflt = login->default_timeout_ms;

	*ask = (cap || group->is_shared) &&
	       (dflt < 0 || now - login->default_timeout_at > DEFAULT_TIMEOUT_TTL);
	return cap && !*ask && (dflt == 0 || dflt * USEC_PER_MSEC > cap);
}

const char *supply_host(const struct group *group, const struct node *node)
{
	return *node->host ? node->host : group->config->global.unix_socket_dir;
}

struct server_target supply_target(struct pool *pool, bool caps_timeout, struct buf *options)
{
	struct group *group = pool->group;
	struct relay *r = group->owner;
	struct node *node = &group->nodes->nodes[pool->node];

	session_options(pool, caps_timeout, options);
	return (struct server_target){
		.config = group->config,
		.dial = {.host = supply_host(group, node),
                         .port = node->port,
                         .set = &group->set,
                         .tls = r->server_tls,
                         .resolver = r->resolver,
                         .mailbox = r->mailbox},
		.node = node,
		.dbname = group->dbname,
		.user = group->user,
		.replication = group->replication,
		.credential = &group->credential,
		.database = group->database_conf,
		.options = buf_cstr(options),
		.application_name = group->database_conf->application_name
	};
}

bool supply_open(struct pool *pool, const struct client *c, const struct server_events *on,
		 struct server **made, usec_t now)
{
	struct group *group = pool->group;
	struct server *s;
	struct buf options = { 0 };
	struct server_target target;

	if (pool->awaits_login)
		return false;
	s = server_new(pool, group->net, on);
	if (!pool_reserve(pool, &s->slot, now)) {
		server_discard(s);
		return false;
	}
	if (c) {
		s->made_for = c->id;
		param_set_assign(&s->applied, c->wanted);
	}
	s->defaults = supply_defaults(group);
	s->caps_timeout = supply_must_cap(pool, now, &s->asks_default_timeout);
	target = supply_target(pool, s->caps_timeout, &options);
	*made = s;
	server_connect(s, &target);
	buf_fini(&options);
	return true;
}

static bool open_server(struct pool *pool, usec_t now)
{
	struct server *made;

	return supply_open(pool, NULL, &relay_server_events, &made, now);
}

void supply_serve_waiters(struct pool *pool, usec_t now)
{
	if (attach_is_paused(pool) || pool == &pool->group->limbo || failover_is_shut(pool) ||
	    now < pool->retry_at)
		return;
	if (pool->group->replication) {
		replicate_serve(pool, now);
		return;
	}
	while (pool->count[SLOT_LOGIN] + pool->count[SLOT_TESTED] < pool_ready_waiters(pool) &&
	       now >= pool->retry_at && pool_has_room(pool, now))
		if (!open_server(pool, now))
			return;
}

void supply_open_spare(struct pool *pool, usec_t now)
{
	if (!attach_is_paused(pool) && !failover_is_shut(pool) && now >= pool->retry_at &&
	    !pool->count[SLOT_LOGIN] && !pool->count[SLOT_TESTED] && pool_has_room(pool, now))
		open_server(pool, now);
}

void supply_keep_minimum(struct pool *pool, usec_t now)
{
	const struct relay *r = pool->group->owner;

	if (pool->set->min_pool_size && !r->give && pool->group->nclients &&
	    (int)pool->node == node_set_primary(pool->group->nodes) && !attach_is_paused(pool) &&
	    now >= pool->retry_at &&
	    pool_size(pool) < group_portion(pool->group, pool->set->min_pool_size))
		open_server(pool, now);
}

/* ---- its turn to log in -----------------------------------------------------------------------
 */

/* What it wanted to connect for may be over: then others get its place. */
static void use_turn(struct pool *pool, usec_t now)
{
	struct hub *hub = pool->group->hub;

	pool->awaits_login = false;
	if (hub && pool == &hub->pool) {
		hub_open(hub, now);
	} else {
		supply_serve_waiters(pool, now);
		supply_keep_minimum(pool, now);
		learn_hurry(pool, now);
	}
	if (!pool->awaits_login)
		login_wait_leave(&pool->login_wait, now);
}

static void deliver_turns(struct mail *mail, void *receiver PGT_UNUSED)
{
	struct relay *r = container_of(mail, struct relay, login_mail);

	for (struct login_wait *w; (w = login_desk_next(&r->desk));)
		use_turn(container_of(w, struct pool, login_wait), loop_now(r->net->loop));
}

void supply_tell(struct login_desk *desk)
{
	struct relay *r = container_of(desk, struct relay, desk);

	mailbox_post(r->mailbox, &r->login_mail, deliver_turns);
}

/* Of each node: a standby may be configured otherwise, and one that has come from another process
 * is ready before it is known which the primary is. */
static void note_read_only(const struct server *s)
{
	const char *dflt = param_set_get(s->params, SLICE(PARAM_READ_ONLY));

	if (!s->made_for)
		s->pool->group->pools[s->pool->node].reads_by_default = dflt && !strcmp(dflt, "on");
}

/* ---- events of servers --------------------------------------------------------------------------
 */

static void log_server(const struct server *s, enum log_level level, const char *what,
		       const char *why)
{
	char node[LOG_ADDRESS_MAX];
	struct log_about about = server_about(s, node);

	about.reason = why;
	log_about(level, &about, "%s%s%s", what, *why ? ": " : "", why);
}

static void note_login(struct server *s)
{
	struct pool *pool = s->pool;

	pool->login_failed = false;
	pool->retry_at = 0;
	attach_record(pool, pool->group->tenant, LATENCY_CONNECTED, now_of(s) - s->slot.made_at);
}

static void on_ready(struct server *s)
{
	struct pool *pool = s->pool;
	struct param_set *welcome = pool->group->params.empty->welcome;

	if (pool->group->config->global.log_server_connections)
		log_server(s, LOG_LEVEL_INFO, s->is_brought ? "taken over" : "login", "");
	if (!s->is_brought)
		note_login(s);
	s->is_brought = false;
	node_set_meet(pool->group->nodes, s->node, s->process);
	note_read_only(s);
	/* A server with another version or setting than before: sessions are told when they meet
	 * it. */
	if (welcome && welcome != s->params)
		param_sets_forget_welcomes(&pool->group->params);
	attach_recycle(s);
}

static void on_drained(struct server *s)
{
	if (s->client)
		conn_resume(&s->client->conn);
}

/* Those who waited for a refused login get the refusal; those whose own session is up wait. */
static void refuse_waiters(struct pool *pool)
{
	while (pool->nwaiting && !pool_size_ready(pool)) {
		struct client *c = attach_waiting(pool_first_waiter(pool));

		client_close(c, &pool->error, pool->error.text);
	}
}

/* A client that waited, or was to be served, chooses again. */
static void seek_again(struct client *c)
{
	c->looked_at = false;
	c->chosen = NULL;
	if (c->phase != CLIENT_WELCOME) {
		relay_go_on(c);
		return;
	}
	/* It has sent no request that would make it choose. */
	c->chosen = gate_primary(c);
	/* Whatever comes of it, it comes by itself. */
	(void)!attach_acquire(c, c->chosen);
}

/* Where it waits next it goes on with the time that it has waited for a server, and for a primary:
 * nodes may change their roles more often than it has patience (I3). */
static void send_on(struct client *c)
{
	struct client_rare *rare = client_make_rare(c);
	const struct waiter *w = c->waiter;
	usec_t now = relay_now(c), here = now - w->since;
	bool is_limbo = w->pool == &c->group->limbo;

	rare->was_sent_on = true;
	rare->waited = is_limbo ? w->elsewhere : here;
	rare->waited_in_limbo = is_limbo ? here : w->elsewhere;
	waiter_leave(&c->waiter, now);
	seek_again(c);
}

void supply_go_on_waiting(struct client *c)
{
	struct client_rare *rare = client_make_rare(c);
	bool is_limbo = c->waiter->pool == &c->group->limbo;

	rare->was_sent_on = false;
	c->waiter->since -= is_limbo ? rare->waited_in_limbo : rare->waited;
	c->waiter->elsewhere = is_limbo ? rare->waited : rare->waited_in_limbo;
}

void supply_scatter_waiters(struct pool *pool)
{
	struct waiter *w;

	/* Some may come to wait here again, so not until there is nobody. */
	for (unsigned n = pool->nwaiting; n && (w = pool_first_waiter(pool)); n--)
		send_on(attach_waiting(w));
}

/* Who waits here would come here again: there it stays, with the time it has waited. */
static bool is_last_resort(const struct pool *pool)
{
	return (int)pool->node == node_set_primary(pool->group->nodes);
}

/* What had to end for want of our own memory, and not by a word of the server's, says nothing of
 * that. */
static bool is_our_fault(const struct server *s, struct err *e)
{
	return !*s->refusal && conn_is_starved(&s->conn, e);
}

void supply_note_failure(struct server *s, const char *why)
{
	struct pool *pool = s->pool;
	usec_t patience = pool->group->set.server_login_retry;

	if (is_our_fault(s, &pool->error)) {
		pool->login_failed = false;
		if (patience > STARVED_RETRY)
			patience = STARVED_RETRY;
	} else if (!pool->login_failed) {
		err_set(&pool->error, "08001", "server login failed: %s", why);
	}
	/* Later at any rate: a connection that fails at once is replaced at once. */
	pool->retry_at = now_of(s) + (patience ? patience : 1);
	pool->group->usual.pool = NULL;
}

static void on_login_failed(struct server *s, const char *why)
{
	struct pool *pool = s->pool;

	/* It has told what the next one must ask for, or says nothing of what that will meet. */
	if (!why || s->is_brought) {
		server_drop(s);
		supply_serve_waiters(pool, now_of(s));
		return;
	}
	log_server(s, LOG_LEVEL_WARNING, "cannot log in", why);
	if (pool->login_failed && s->made_for) {
		replicate_refuse(s);
		return;
	}
	supply_note_failure(s, why);
	server_drop(s);
	if (!is_last_resort(pool))
		supply_scatter_waiters(pool);
	else if (pool->login_failed)
		refuse_waiters(pool);
}

const char *supply_outcome(const struct server *s)
{
	if (s->replies.n)
		return "The outcome of the statement under way is not known.";
	return s->tx != 'I' ? "The transaction under way has been rolled back."
			    : "No statement was under way.";
}

/* Whether the client has lost a server that had got nothing of its request, and may have another;
 * not for ever, if it is the client's settings that servers die of. */
static bool may_seek_again(struct client *c, const struct server *s)
{
	usec_t now = now_of(s), patience = c->group->set.query_wait_timeout;
	struct client_rare *rare;

	if (!s->is_settling)
		return false;
	rare = client_make_rare(c);
	/* It may have waited for this one as long as anybody may. */
	if (now - rare->lost_at > USEC_PER_SEC + patience)
		rare->losses = 0;
	if (!rare->losses)
		rare->losing_since = now;
	rare->lost_at = now;
	rare->losses++;
	return rare->losses <= LOSSES_MAX && (!patience || now - rare->losing_since < patience);
}

/* Its client is told; e NULL: it has heard why, in the server's own words. */
static void lose(struct server *s, const struct err *e)
{
	struct client *c = s->client;
	struct pool *pool = s->pool;
	bool seeks = may_seek_again(c, s);
	bool needs_none = early_is_all(c) || (early_is_asking(s) && !attach_keeps(c));

	s->doubtful = true;
	fence_on_answer(s);
	statement_void(s, s->replies.n, false);
	attach_take_away(s);
	server_drop(s);
	if (seeks)
		seek_again(c);
	else if (needs_none)
		relay_go_on(c);
	else if (e)
		client_close(c, e, e->text);
	else
		client_close_politely(c, "server closed the connection");
	supply_serve_waiters(pool, now_of(s));
}

/* One that is there yet, and may be at work for its client. */
static void evict(struct server *s, struct err *e)
{
	err_hint(e, "%s", supply_outcome(s));
	if (s->replies.n && conn_is_usable(&s->conn) && s->cancel_key_len)
		server_cancel(s);
	lose(s, e);
}

static void on_lost(struct server *s, const char *why)
{
	struct pool *pool = s->pool;
	struct err e;

	if (pool->group->config->global.log_server_disconnections)
		log_server(s, LOG_LEVEL_INFO, "closing because", why);
	if (!s->client) {
		s->doubtful = true;
		server_drop(s);
		supply_serve_waiters(pool, now_of(s));
		return;
	}
	if (rescue_on_lost(s) || promote_on_lost(s))
		return;
	if (conn_is_starved(&s->conn, &e)) {
		evict(s, &e);
		return;
	}
	err_set(&e, "08006", "server closed the connection unexpectedly");
	err_hint(&e, "%s", supply_outcome(s));
	lose(s, s->said_fatal ? NULL : &e);
}

void supply_evict(struct server *s, const char *text)
{
	struct err e;

	err_set(&e, "57P01", "%s", text);
	evict(s, &e);
}

static void on_ended(struct server *s, const char *why)
{
	if (s->slot.state == SLOT_LOGIN)
		on_login_failed(s, why);
	else
		on_lost(s, why);
}

static void on_readable(struct server *s)
{
	if (s->client)
		answer_on_readable(s);
	else if (!server_on_idle_bytes(s))
		on_lost(s, "it said goodbye, or something that makes no sense");
}

/* While it is asked what its session has left, say. */
static void on_notified(struct server *s, struct slice body)
{
	if (s->client)
		answer_notified(s, body);
}

static void on_cancel_over(struct server *s)
{
	if (s->slot.state == SLOT_CANCELED) {
		attach_recycle(s);
	} else if (s->client) {
		relay_go_on(s->client);
		/* Its last answer may have waited for this. */
		conn_resume(&s->conn);
		conn_kick(&s->conn);
	}
}

static void on_statement_gone(struct server *s PGT_UNUSED, void *subject)
{
	statement_leave_server(subject);
}

static void on_freed(struct server *s)
{
	usec_t now = now_of(s);

	survey_free(s->survey);
	sql_leaving_unref(s->learning);
	/* Its slot is free: somebody may have waited for just that. */
	LIST_FOREACH (at, &s->pool->mates)
		supply_serve_waiters(container_of(at, struct pool, mates), now);
	/* Its tenant may have another one now. */
	attach_use_idle(s->pool);
	supply_serve_waiters(s->pool, now);
}

const struct server_events relay_server_events = { .ready = on_ready,
						   .readable = on_readable,
						   .drained = on_drained,
						   .ended = on_ended,
						   .notified = on_notified,
						   .cancel_over = on_cancel_over,
						   .statement_gone = on_statement_gone,
						   .freed = on_freed };
