/* SPDX-License-Identifier: ISC
 *
 * attach.c - which client has which server, from when to when.
 *
 * A server goes from its pool to a client and back when it has answered everything, is in no
 * transaction and holds nothing of the session.  What is not certain is not given on: the
 * connection is closed instead (I2).  Knows states and queues, not what messages say.
 */
#include "base/log.h"
#include "base/mem.h"
#include "relay/early.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "route/nodes.h"
#include "server/backends.h"
#include "server/signature.h"
#include "sql/leaving.h"
#include "sql/timeout.h"
#include "wire/write.h"

#include <stdlib.h>

/* The default statement_timeout of a role is asked for again after this time. */
#define DEFAULT_TIMEOUT_TTL (300 * USEC_PER_SEC)

/* A server with a shorter statement_timeout than this has it reset before the next client. */
#define HASTY_TIMEOUT_MS 100

/* Servers that a client may lose within a second before they have got anything of its request. */
#define LOSSES_MAX 10

static usec_t now_of(const struct server *s)
{
	return loop_now(s->conn.net->loop);
}

static struct client *client_of_waiter(struct waiter *w)
{
	return container_of(w, struct client, waiter);
}

static bool is_paused(const struct pool *pool)
{
	return pool->group->database_shared->paused;
}

/* Who pays for a turn of its. */
static struct tenant *payer(const struct client *c)
{
	struct relay *r = relay_of(c);

	return c->tenant ? c->tenant : &r->tenants.unclear;
}

/* ---- connections ------------------------------------------------------------------------------
 */

/* Whether the startup packet has to ask for the tier's timeout; *ask: the default is not known, or
 * not any more, and the new connection is to tell. */
static bool must_cap(const struct pool *pool, usec_t now, bool *ask)
{
	const struct group *group = pool->group;
	const struct shared *login = group->login_shared;
	usec_t cap = pool_session_cap(pool);
	int64_t dflt = login->default_timeout_ms;

	*ask = (cap || group->is_shared) &&
	       (dflt < 0 || now - login->default_timeout_at > DEFAULT_TIMEOUT_TTL);
	return cap && !*ask && (dflt == 0 || dflt * USEC_PER_MSEC > cap);
}

/* A number for what the group's sessions begin with now. */
static unsigned defaults_of(const struct group *group)
{
	return atomic_load_explicit(&group->login_shared->defaults, memory_order_relaxed) +
	       atomic_load_explicit(&group->nodes->cluster->defaults, memory_order_relaxed);
}

bool attach_open(struct pool *pool, const struct client *c, const struct server_events *on,
		 struct server **made, usec_t now)
{
	struct group *group = pool->group;
	struct relay *r = group->owner;
	struct node *node = &group->nodes->nodes[pool->node];
	struct server *s = server_new(pool, group->net, on);
	struct buf options = { 0 };
	struct server_target target;

	if (!pool_reserve(pool, &s->slot, now)) {
		server_discard(s);
		return false;
	}
	if (c) {
		s->made_for = c->id;
		param_set_assign(&s->applied, c->wanted);
	}
	s->defaults = defaults_of(group);
	s->caps_timeout = must_cap(pool, now, &s->asks_default_timeout);
	session_options(pool, s->caps_timeout, &options);
	target = (struct server_target){
		.config = group->config,
		.dial = {.host = *node->host ? node->host : group->config->global.unix_socket_dir,
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
		.options = buf_cstr(&options),
		.application_name = group->database_conf->application_name
	};
	*made = s;
	server_connect(s, &target);
	buf_fini(&options);
	return true;
}

static bool open_server(struct pool *pool, usec_t now)
{
	struct server *made;

	return attach_open(pool, NULL, &relay_server_events, &made, now);
}

/* As many connections as clients wait for, no more than the limits allow. */
void attach_serve_waiters(struct pool *pool, usec_t now)
{
	if (is_paused(pool) || pool == &pool->group->limbo || failover_is_shut(pool) ||
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

void attach_keep_minimum(struct pool *pool, usec_t now)
{
	if (!is_paused(pool) && now >= pool->retry_at && pool_size(pool) < pool->set->min_pool_size)
		open_server(pool, now);
}

/* ---- giving and taking ------------------------------------------------------------------------
 */

static void record(struct pool *pool, struct tenant *tenant, enum latency_part part, usec_t took)
{
	if (pool->times)
		latency_record(pool->times, tenant ? &tenant->times : NULL, part, took);
}

static void count_wait(struct client *c, struct pool *pool, usec_t waited)
{
	c->group->counters.wait_time += (uint64_t)waited;
	record(pool, c->tenant, LATENCY_WAITED, waited);
}

static void count_in_lane(struct pool *pool, uint64_t waited)
{
	pool->given_count++;
	pool->wait_time += waited;
}

static void give(struct server *s, struct client *c)
{
	usec_t now = now_of(s);
	uint64_t waited = c->waiter.pool ? (uint64_t)(now - c->waiter.since) : 0;

	if (c->waiter.pool)
		count_wait(c, s->pool, (usec_t)waited);
	slot_begin_turn(&s->slot, &c->waiter, payer(c), now);
	s->client = c;
	s->early_run = 0;
	c->server = s;
	if (s->sequence_user != c->id)
		sequence_on_given(c, s);
	s->request_at = now;
	s->xact_at = now;
	s->writes = false;
	/* Else it gets its number on it once nothing that the last one sent is on its way any more:
	 * listen_take_server(). */
	if (!c->listening && !s->has_notified)
		backend_hold(s->backend, c->pid);
	c->group->counters.server_assignment_count++;
	if (s->pool->lane)
		count_in_lane(s->pool, waited);
	atomic_fetch_add_explicit(&s->node->active, 1, memory_order_relaxed);
}

static void take_away(struct server *s)
{
	struct client *c = s->client;

	c->has_cut_answer = s->stream_left && !s->stream_swallow;
	statement_leave_made(c);
	slot_end_turn(&s->slot, now_of(s));
	s->client = NULL;
	s->carry_due = s->carried = s->checking = s->is_settling = s->commits_early = false;
	s->carrying = 0;
	rescue_forget(s);
	c->server = NULL;
	c->chosen = NULL;
	c->lane = NULL;
	c->was_rescued = false;
	c->covered_by = 0;
	c->reads = READS_NOT;
	admit_leave(c);
	c->reads_sequence = c->only_reads = false;
	c->prepaid = 0;
	atomic_fetch_sub_explicit(&s->node->active, 1, memory_order_relaxed);
	conn_resume(&s->conn);
}

/* A client that waits to be welcomed has seen enough of its server. */
static void welcome(struct client *c, struct server *s)
{
	if (c->group->replication) {
		replicate_begin(c, s);
		return;
	}
	param_set_assign(&c->wanted->welcome, s->params);
	take_away(s);
	client_welcome(c, c->wanted->welcome);
	attach_recycle(s);
}

/* The server is in line with the client's session. */
static void on_in_line(struct client *c, struct server *s)
{
	if (c->phase == CLIENT_WELCOME) {
		welcome(c, s);
		return;
	}
	session_tell(c, s);
	context_look(c);
}

void attach_on_settled(struct server *s, const struct report *error)
{
	struct client *c = s->client;
	struct err e;

	s->is_settling = false;
	if (!error) {
		on_in_line(c, s);
		if (c->phase == CLIENT_READY && c->server == s)
			request_process(c);
		return;
	}
	err_set(&e, "22023", "%.*s", SLICE_FMT(error->message));
	if (error->sqlstate.n == 5)
		memcpy(e.sqlstate, error->sqlstate.p, 5);
	err_hint(&e, "%.*s", SLICE_FMT(error->hint));
	s->doubtful = true;
	take_away(s);
	attach_recycle(s);
	client_close(c, &e, e.text);
}

/* STEP_DONE: the client may send; its tenant's context and its settings go with what it sends.
 * STEP_AGAIN: they are on the way. */
static enum step settle_in(struct client *c, struct server *s)
{
	context_look(c);
	if (s->applied != c->wanted && carry_is_possible(c, s)) {
		s->carry_due = true;
		return STEP_DONE;
	}
	if (s->applied != c->wanted || s->sequence_mixed) {
		s->is_settling = session_apply(c, s) == STEP_AGAIN;
		if (s->is_settling)
			return STEP_AGAIN;
	}
	on_in_line(c, s);
	return c->server == s ? STEP_DONE : STEP_AGAIN;
}

/* A lifetime of 0 is one use. */
static bool is_old(const struct server *s, usec_t now)
{
	usec_t lifetime = s->pool->group->set.server_lifetime;

	return lifetime ? now - s->slot.made_at >= lifetime : s->request_at != 0;
}

/* A session that began there now would be another. */
static bool is_outdated(const struct server *s)
{
	return s->slot.generation != s->pool->generation ||
	       s->defaults != defaults_of(s->pool->group);
}

static bool is_stale(const struct server *s, usec_t now)
{
	return s->doubtful || is_outdated(s) || is_old(s, now) || s->pool->group->gone ||
	       !server_is_capped(s) || s->node->service != NODE_SERVES;
}

static void on_clean(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	if (error || s->tx != 'I')
		s->doubtful = true;
	s->tainted = 0;
	attach_recycle(s);
}

/* The smallest question that cleans a server for another client; false: only closing it does. */
static bool put_cleaning(const struct server *s, struct buf *sql)
{
	const char *query = s->pool->group->set.server_reset_query;

	if (!(s->tainted & TAINT_SESSION))
		return pins_put_reset(s->tainted, sql);
	buf_printf(sql, "%s", query);
	return *query;
}

static void reset(struct server *s, struct buf *sql)
{
	const uint32_t settings = TAINT_SESSION | TAINT_UNSEEN | PIN_BIT(PIN_SETTING);
	const uint32_t statements = TAINT_SESSION | PIN_BIT(PIN_PREPARED) | PIN_BIT(PIN_UNMAPPED);
	struct question q = { .done = on_clean };

	if (s->slot.state != SLOT_TESTED)
		slot_become(&s->slot, SLOT_TESTED, now_of(s));
	if (s->tainted & statements)
		server_forget_statements(s);
	if (s->tainted & settings) {
		param_set_assign(&s->applied, s->pool->group->params.empty);
		context_forget(s);
	}
	server_ask(s, buf_cstr(sql), &q);
}

static void sign(struct server *s)
{
	if (s->slot.state != SLOT_TESTED)
		slot_become(&s->slot, SLOT_TESTED, now_of(s));
	signature_bring(s, on_clean);
}

static struct client *next_client(struct pool *pool)
{
	for (struct waiter *w; !is_paused(pool) && (w = pool_next_waiter(pool));) {
		struct client *c = client_of_waiter(w);

		if (c->phase != CLIENT_WELCOME || !c->wanted->welcome)
			return c;
		/* Another one has found out meanwhile what it waits for. */
		waiter_leave(w, relay_now(c));
		client_welcome(c, c->wanted->welcome);
	}
	return NULL;
}

/* Whether it has to stay idle, although others wait, for a tenant that comes back at once. */
static bool is_held_back(const struct server *s)
{
	const struct pool *pool = s->pool;
	unsigned others = pool->count[SLOT_IDLE] - (s->slot.state == SLOT_IDLE);

	return pool_holds(pool) > others;
}

/* The one who waits and may have it; those who may not try elsewhere. */
static struct client *next_client_for(struct server *s)
{
	struct client *c;

	while ((c = next_client(s->pool)) && !fence_fits(c, s)) {
		waiter_leave(&c->waiter, relay_now(c));
		fence_go_back(c);
		conn_kick(&c->conn);
	}
	return c;
}

/* Puts it where the next client finds it, or gives it to one who waits. */
static void offer(struct server *s)
{
	bool is_own = s->made_for != 0, is_held = is_held_back(s);
	struct client *c = is_own ? replicate_owner(s) : is_held ? NULL : next_client_for(s);
	usec_t now = now_of(s);

	if (is_own ? !c || is_paused(s->pool)
		   : !list_is_empty(&s->pool->mates) && replicate_needs_room(s->pool, c, now)) {
		server_drop(s);
		return;
	}
	if (!c) {
		if (s->slot.state != SLOT_IDLE)
			slot_become(&s->slot, SLOT_IDLE, now);
		if (is_held)
			relay_watch_holds(s->pool->group->owner, s->pool);
		else if (group_is_starved(s->pool->group, now))
			server_drop(s);
		return;
	}
	if (s->slot.state != SLOT_ACTIVE) {
		if (s->slot.state != SLOT_IDLE)
			slot_become(&s->slot, SLOT_IDLE, now);
		slot_become(&s->slot, SLOT_ACTIVE, now);
	}
	give(s, c);
	if (settle_in(c, s) == STEP_DONE)
		request_process(c);
}

static void drop_and_replace(struct server *s)
{
	struct pool *pool = s->pool;

	server_drop(s);
	attach_serve_waiters(pool, loop_now(pool->group->net->loop));
}

static void clean(struct server *s)
{
	struct buf sql = { 0 };

	if (put_cleaning(s, &sql))
		reset(s, &sql);
	else
		drop_and_replace(s);
	buf_fini(&sql);
}

/* The next client's settings are brought along under the last one's statement_timeout, and must not
 * fall to one that is hardly longer than that takes. */
static bool is_hasty(const struct server *s)
{
	const char *timeout =
	    s->applied->has_timeout ? param_set_get(s->applied, SLICE("statement_timeout")) : NULL;
	int64_t ms;

	return timeout && sql_timeout_parse(slice_str(timeout), &ms) && ms > 0 &&
	       ms < HASTY_TIMEOUT_MS;
}

void attach_recycle(struct server *s)
{
	usec_t now = now_of(s);

	if (is_hasty(s))
		s->tainted |= PIN_BIT(PIN_SETTING);
	if (is_stale(s, now)) {
		drop_and_replace(s);
	} else if (s->cancel) {
		if (s->slot.state != SLOT_CANCELED)
			slot_become(&s->slot, SLOT_CANCELED, now);
	} else if (s->tainted) {
		clean(s);
	} else if (signature_is_wanted(s)) {
		sign(s);
	} else if (node_set_is_learned(s->pool->group->nodes) || !learn_begin(s)) {
		offer(s);
	}
}

void attach_use_idle(struct pool *pool)
{
	struct slot *slot;

	while (pool->count[SLOT_IDLE] > pool_holds(pool) && next_client(pool) &&
	       (slot = pool_idle(pool)))
		attach_recycle(container_of(slot, struct server, slot));
}

/* An idle server that has rested too long is asked for a sign of life first; one whose keys are not
 * those that sign any more, to take another signature. */
static bool needs_check(const struct server *s, usec_t now)
{
	const struct settings *set = &s->pool->group->set;

	return (*set->server_check_query && now - s->slot.since >= set->server_check_delay) ||
	       signature_is_wanted(s);
}

bool attach_has_idle(const struct pool *pool)
{
	const struct slot *slot =
	    is_paused(pool) || pool_ready_waiters(pool) ? NULL : pool_idle(pool);
	const struct server *s = slot ? container_of(slot, struct server, slot) : NULL;

	return s && !needs_check(s, now_of(s)) && conn_is_usable(&s->conn) && !s->doubtful;
}

static void check(struct server *s)
{
	const char *query = s->pool->group->set.server_check_query;
	struct question q = { .done = on_clean };

	if (signature_is_wanted(s)) {
		sign(s);
		return;
	}
	slot_become(&s->slot, SLOT_TESTED, now_of(s));
	server_ask(s, strcmp(query, "<empty>") ? query : "", &q);
}

static enum step refuse_for_pool(struct client *c, struct pool *pool)
{
	client_close(c, &pool->error, pool->error.text);
	return STEP_CLOSED;
}

/* The one used last; to a client that asks for its sequences' values, the one that has them; of a
 * shared pool, the one that carries its tenant's id. */
static struct slot *best_idle(const struct client *c, struct pool *pool)
{
	for (;;) {
		struct slot *own = c->reads_sequence ? sequence_slot(c, pool) : NULL;
		struct slot *slot;

		if (!own)
			own = context_slot(c, pool);
		slot = own ? own : pool_idle(pool);
		if (!slot || !is_outdated(container_of(slot, struct server, slot)))
			return slot;
		server_drop(container_of(slot, struct server, slot));
	}
}

enum step attach_acquire(struct client *c, struct pool *pool)
{
	usec_t now = relay_now(c);
	struct slot *slot;
	struct server *s;

	/* Chosen before the primary went. */
	if (failover_is_shut(pool))
		c->chosen = pool = gate_primary(c);
	slot = !is_paused(pool) && pool_has_turn(pool, payer(c)) ? best_idle(c, pool) : NULL;
	s = slot ? container_of(slot, struct server, slot) : NULL;
	if (s && !fence_fits(c, s))
		return attach_acquire(c, fence_go_back(c));
	if (s && !needs_check(s, now)) {
		slot_become(&s->slot, SLOT_ACTIVE, now);
		give(s, c);
		return settle_in(c, s);
	}
	if (!s && pool->login_failed && !pool_size_ready(pool) && now < pool->retry_at)
		return refuse_for_pool(c, pool);
	pool_wait(pool, &c->waiter, payer(c), now);
	if (s)
		check(s);
	attach_serve_waiters(pool, now);
	return STEP_AGAIN;
}

bool attach_keeps(const struct client *c)
{
	return c->pins || c->group->set.pool_mode == POOL_MODE_SESSION;
}

/* ---- the end of a request ----------------------------------------------------------------------
 */

static bool is_quiet(const struct server *s)
{
	return !s->replies.n && s->tx == 'I' && !s->copy_in && !s->stream_left &&
	       !s->skips_to_sync && !s->question.done;
}

static void on_kept_signed(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	struct client *c = s->client;

	s->doubtful |= error != NULL;
	if (!c) {
		attach_recycle(s);
		return;
	}
	context_look(c);
	conn_kick(&c->conn);
}

/* A server that its client keeps is signed by the keys that sign now. */
static enum step sign_again(struct server *s)
{
	if (s->cancel || !signature_is_wanted(s))
		return STEP_DONE;
	signature_bring(s, on_kept_signed);
	return STEP_AGAIN;
}

/* One that keeps its server has another turn, of its tenant now. */
static void pay(struct server *s, struct client *c)
{
	usec_t now = now_of(s);

	if (!s->slot.turn.share)
		return;
	slot_end_turn(&s->slot, now);
	slot_begin_turn(&s->slot, &c->waiter, payer(c), now);
}

void attach_settle(struct server *s)
{
	struct client *c = s->client;

	if (!is_quiet(s) || c->stream_left || c->in_batch || conn_input(&s->conn).n)
		return;
	if (survey_is_due(c)) {
		survey_begin(c, s);
		return;
	}
	if (early_must_ask(c)) {
		early_ask(s);
		return;
	}
	if (context_check_is_due(c)) {
		context_check(c);
		return;
	}
	c->cancel_asked = false; /* what it was meant for has ended */
	c->env_unsure = c->makes_temp = false;
	if (c->path_unsure)
		c->path_unsure = c->env_known = false;
	admit_end(c);
	c->prepaid = 0;
	c->chosen = NULL;
	c->reads = READS_NOT;
	s->writes = false;
	if (s->changed && attach_keeps(c)) {
		s->on->ended(s, "its state is not known any more");
		return;
	}
	if (attach_keeps(c)) {
		c->turn_missed = false;
		pay(s, c);
		/* DISCARD ALL has taken its startup settings too; a session of its own has them
		 * back. */
		if (session_apply(c, s) == STEP_AGAIN || sign_again(s) == STEP_AGAIN)
			return;
		context_look(c);
		if (conn_input(&c->conn).n)
			conn_kick(&c->conn);
		return;
	}
	take_away(s);
	if (s->pool->group->set.server_reset_query_always)
		s->tainted |= TAINT_SESSION;
	attach_recycle(s);
	if (c->turn_missed) {
		c->turn_missed = false;
		conn_kick(&c->conn);
	}
}

void attach_on_surveyed(struct server *s)
{
	struct client *c = s->client;

	if (!c) {
		attach_recycle(s);
		return;
	}
	attach_settle(s);
	if (conn_input(&c->conn).n)
		conn_kick(&c->conn);
}

/* The client is gone, and the survey of what it has left has not been answered yet. */
static bool leaves_in_survey(const struct client *c, const struct server *s)
{
	return s->survey && !c->in_batch && !c->stream_left && conn_is_usable(&s->conn);
}

/* Nothing but a COMMIT that it was told of is still to be answered. */
static bool leaves_early(const struct client *c, const struct server *s)
{
	return early_is_all(c) && !s->stream_left && conn_is_usable(&s->conn);
}

static void await_commit(struct server *s)
{
	const struct question q = { .done = on_clean };

	slot_become(&s->slot, SLOT_TESTED, now_of(s));
	server_await(s, &q);
	conn_kick(&s->conn);
}

void attach_abandon(struct client *c)
{
	struct server *s = c->server;
	bool clean, in_survey, is_early;

	if (!s)
		return;
	if (s->replies.n && admit_is_gated(c))
		admit_note_time(c, now_of(s) - s->query_at);
	fence_on_answer(s);
	in_survey = leaves_in_survey(c, s);
	is_early = leaves_early(c, s);
	clean = is_quiet(s) && !c->stream_left && !c->in_batch && conn_is_usable(&s->conn) &&
		!conn_input(&s->conn).n;
	s->has_cut_request = c->stream_left && !c->stream_discard;
	statement_void(s, s->replies.n, false);
	s->tainted |= c->pins;
	if (c->group->set.pool_mode == POOL_MODE_SESSION)
		s->tainted |= TAINT_SESSION;
	take_away(s);
	if (in_survey) {
		slot_become(&s->slot, SLOT_TESTED, now_of(s));
		return;
	}
	if (is_early) {
		await_commit(s);
		return;
	}
	if (clean) {
		attach_recycle(s);
		return;
	}
	/* A stream has no end, and that of a base backup is far. */
	if (c->said_goodbye && !s->made_for) {
		server_let_finish(s);
		return;
	}
	/* Its statement may still run, and nobody is there any more to see the end of it. */
	if (conn_is_usable(&s->conn) && !s->login && s->cancel_key_len)
		server_cancel(s);
	server_drop(s);
}

void attach_withdraw(struct client *c)
{
	struct server *s = c->server;
	struct pool *pool = s->pool;
	struct lane *lane = c->lane;
	uint8_t claims = c->claims, xact = c->xact;

	if (admit_is_gated(c))
		admit_note_time(c, now_of(s) - s->query_at);
	statement_void(s, s->replies.n, false);
	s->doubtful = true;
	c->claims = 0;
	take_away(s);
	c->lane = lane;
	c->claims = claims;
	c->xact = xact & XACT_ADMITTED;
	c->has_cut_answer = false;
	server_drop(s);
	attach_serve_waiters(pool, relay_now(c));
}

/* ---- events of servers --------------------------------------------------------------------------
 */

static void on_ready(struct server *s)
{
	struct pool *pool = s->pool;
	struct param_set *welcome = pool->group->params.empty->welcome;

	pool->login_failed = false;
	pool->retry_at = 0;
	record(pool, pool->group->tenant, LATENCY_CONNECTED, now_of(s) - s->slot.made_at);
	node_set_meet(pool->group->nodes, s->node, s->process);
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
		struct client *c = client_of_waiter(pool_first_waiter(pool));

		client_close(c, &pool->error, pool->error.text);
	}
}

/* A client that waited, or was to be served, chooses again. */
static void seek_again(struct client *c)
{
	c->looked_at = false;
	c->chosen = NULL;
	if (c->phase != CLIENT_WELCOME) {
		conn_kick(&c->conn);
		return;
	}
	/* It has sent no request that would make it choose. */
	c->chosen = gate_primary(c);
	/* Whatever comes of it, it comes by itself. */
	(void)!attach_acquire(c, c->chosen);
}

void attach_scatter_waiters(struct pool *pool)
{
	struct waiter *w;

	/* Some may come to wait here again, so not until there is nobody. */
	for (unsigned n = pool->nwaiting; n && (w = pool_first_waiter(pool)); n--) {
		struct client *c = client_of_waiter(w);

		waiter_leave(w, relay_now(c));
		seek_again(c);
	}
}

/* Who waits here would come here again: there it stays, with the time it has waited. */
static bool is_last_resort(const struct pool *pool)
{
	return (int)pool->node == node_set_primary(pool->group->nodes);
}

static void on_login_failed(struct server *s, const char *why)
{
	struct pool *pool = s->pool;
	usec_t now = now_of(s);
	bool refused = pool->login_failed;

	if (!why) { /* it has told what the next one must ask for */
		server_drop(s);
		attach_serve_waiters(pool, now);
		return;
	}
	log_warning("S-%llu: %s/%s@%s:%u: cannot log in: %s", (unsigned long long)s->id,
		    pool->group->name, pool->group->user, s->node->host, s->node->port, why);
	if (refused && s->made_for) {
		replicate_refuse(s);
		return;
	}
	pool->retry_at = now + pool->group->set.server_login_retry;
	if (!refused)
		err_set(&pool->error, "08001", "server login failed: %s", why);
	server_drop(s);
	if (!is_last_resort(pool))
		attach_scatter_waiters(pool);
	else if (refused)
		refuse_waiters(pool);
}

const char *attach_outcome(const struct server *s)
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
	usec_t now = now_of(s);

	if (!s->is_settling)
		return false;
	if (now - c->lost_at > USEC_PER_SEC)
		c->losses = 0;
	c->lost_at = now;
	return ++c->losses <= LOSSES_MAX;
}

/* Its client is told; e NULL: it has heard why, in the server's own words. */
static void lose(struct server *s, const struct err *e)
{
	struct client *c = s->client;
	struct pool *pool = s->pool;
	bool seeks = may_seek_again(c, s), is_told = early_is_all(c);

	s->doubtful = true;
	fence_on_answer(s);
	statement_void(s, s->replies.n, false);
	take_away(s);
	server_drop(s);
	if (seeks)
		seek_again(c);
	else if (is_told)
		conn_kick(&c->conn);
	else if (e)
		client_close(c, e, e->text);
	else
		client_close_politely(c, "server closed the connection");
	attach_serve_waiters(pool, now_of(s));
}

static void on_lost(struct server *s, const char *why)
{
	struct pool *pool = s->pool;
	struct err e;

	log_info("S-%llu: %s/%s@%s:%u: closing because: %s", (unsigned long long)s->id,
		 pool->group->name, pool->group->user, s->node->host, s->node->port, why);
	if (!s->client) {
		s->doubtful = true;
		server_drop(s);
		attach_serve_waiters(pool, now_of(s));
		return;
	}
	if (rescue_on_lost(s))
		return;
	err_set(&e, "08006", "server closed the connection unexpectedly");
	err_hint(&e, "%s", attach_outcome(s));
	lose(s, s->said_fatal ? NULL : &e);
}

void attach_evict(struct server *s, const char *text)
{
	struct err e;

	err_set(&e, "57P01", "%s", text);
	err_hint(&e, "%s", attach_outcome(s));
	if (s->replies.n && conn_is_usable(&s->conn) && s->cancel_key_len)
		server_cancel(s);
	lose(s, &e);
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

static void on_cancel_over(struct server *s)
{
	if (s->slot.state == SLOT_CANCELED) {
		attach_recycle(s);
	} else if (s->client) {
		conn_kick(&s->client->conn);
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
		attach_serve_waiters(container_of(at, struct pool, mates), now);
	/* Its tenant may have another one now. */
	attach_use_idle(s->pool);
	attach_serve_waiters(s->pool, now);
}

const struct server_events relay_server_events = { .ready = on_ready,
						   .readable = on_readable,
						   .drained = on_drained,
						   .ended = on_ended,
						   .cancel_over = on_cancel_over,
						   .statement_gone = on_statement_gone,
						   .freed = on_freed };
