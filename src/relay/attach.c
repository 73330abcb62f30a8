/* SPDX-License-Identifier: ISC
 *
 * attach.c - which client has which server, from when to when.
 *
 * A server goes from its pool to a client and back when it has answered everything, is in no
 * transaction and holds nothing of the session.  What is not certain is not given on: the
 * connection is closed instead (I2).  Knows states and queues, not what messages say.
 */
#include "relay/early.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/promote.h"
#include "relay/repeat.h"
#include "relay/rescue.h"
#include "relay/settle.h"
#include "relay/statement.h"
#include "route/nodes.h"
#include "server/backends.h"
#include "server/signature.h"
#include "sql/timeout.h"

/* A server with a shorter statement_timeout than this has it reset before the next client. */
#define HASTY_TIMEOUT_MS 100

static usec_t now_of(const struct server *s)
{
	return loop_now(s->conn.net->loop);
}

/* Who pays for a turn of its. */
static struct tenant *payer(const struct client *c)
{
	struct relay *r = relay_of(c);

	return c->tenant ? c->tenant : &r->tenants.unclear;
}

/* ---- giving and taking ------------------------------------------------------------------------
 */

void attach_record(struct pool *pool, struct tenant *tenant, enum latency_part part, usec_t took)
{
	if (pool->times)
		latency_record(pool->times, tenant ? &tenant->times : NULL, part, took);
}

static void count_wait(struct client *c, struct pool *pool, usec_t waited)
{
	c->group->counters.wait_time += (uint64_t)waited;
	attach_record(pool, c->tenant, LATENCY_WAITED, waited);
}

static void count_in_lane(struct pool *pool, uint64_t waited)
{
	pool->given_count++;
	pool->wait_time += waited;
}

static inline void begin_turn(struct server *s, struct client *c, usec_t now)
{
	if (c->waiter || s->pool->turns)
		slot_begin_turn(&s->slot, &c->waiter, payer(c), now);
}

static PGT_INLINE void give(struct server *s, struct client *c)
{
	usec_t now = now_of(s);
	uint64_t waited = c->waiter ? (uint64_t)(now - c->waiter->since) : 0;

	if (c->waiter)
		count_wait(c, s->pool, (usec_t)waited);
	begin_turn(s, c, now);
	s->client = c;
	s->early_run = 0;
	c->server = s;
	sequence_on_given(c, s);
	s->request_at = now;
	s->xact_at = now;
	s->writes = false;
	/* Else it gets its number on it once nothing that the last one sent is on its way any more:
	 * listen_take_server(). */
	if (!c->rare->listening && !s->has_notified)
		backend_hold(s->backend, c->pid);
	c->group->counters.server_assignment_count++;
	if (s->pool->lane)
		count_in_lane(s->pool, waited);
	if (c->rare->was_sent_on)
		client_make_rare(c)->was_sent_on = false;
	atomic_fetch_add_explicit(&s->node->active, 1, memory_order_relaxed);
}

/* What is to be done of attach_take_away() even where nothing is unusual. */
static inline void part(struct server *s, struct client *c)
{
	if (c->statements)
		statement_leave_made(c);
	if (s->unnamed_id == UNNAMED_PASSED)
		s->unnamed_id = UNNAMED_UNKNOWN;
	slot_end_turn(&s->slot, now_of(s));
	rescue_forget(s);
	if (s->timed)
		repeat_forget_time(s);
	s->client = NULL;
	c->server = NULL;
	c->chosen = NULL;
	c->lane = NULL;
	c->covered_by = 0;
	c->reads = READS_NOT;
	c->only_reads = false;
	c->prepaid = 0;
	atomic_fetch_sub_explicit(&s->node->active, 1, memory_order_relaxed);
	conn_resume(&s->conn);
}

void attach_take_away(struct server *s)
{
	struct client *c = s->client;

	c->has_cut_answer = s->stream_left && !s->stream_swallow;
	s->carry_due = s->carried = s->is_settling = s->commits_early = false;
	s->carrying = 0;
	context_check_again(s);
	move_note(c);
	if (c->rare->begun)
		promote_forget(c);
	c->was_rescued = c->reads_sequence = false;
	admit_leave(c);
	part(s, c);
}

/* A client that waits to be welcomed has seen enough of its server, which is nobody's then
 * (STEP_CLOSED). */
static PGT_NOINLINE enum step welcome(struct client *c, struct server *s)
{
	if (c->group->replication) {
		replicate_begin(c, s);
		return STEP_DONE;
	}
	param_set_assign(&c->wanted->welcome, s->params);
	attach_take_away(s);
	client_welcome(c, c->wanted->welcome);
	return STEP_CLOSED;
}

/* The server is in line with the client's session.  STEP_CLOSED: of welcome(). */
static inline enum step on_in_line(struct client *c, struct server *s)
{
	if (c->phase == CLIENT_WELCOME)
		return welcome(c, s);
	session_tell(c, s);
	context_look(c);
	return STEP_DONE;
}

void attach_on_settled(struct server *s, const struct report *error)
{
	struct client *c = s->client;
	struct err e;

	s->is_settling = false;
	/* What brings settings begins no transaction, whoever says so. */
	if (!error && s->tx != 'I') {
		supply_evict(s, "the server is in a transaction that nobody has begun");
		return;
	}
	if (!error) {
		if (c->rare->losses)
			client_make_rare(c)->losses = 0;
		if (on_in_line(c, s) == STEP_CLOSED)
			attach_recycle(s);
		else if (c->phase == CLIENT_READY)
			request_process(c);
		return;
	}
	err_set(&e, "22023", "%.*s", SLICE_FMT(error->message));
	if (error->sqlstate.n == 5)
		memcpy(e.sqlstate, error->sqlstate.p, 5);
	err_hint(&e, "%.*s", SLICE_FMT(error->hint));
	s->doubtful = true;
	attach_take_away(s);
	attach_recycle(s);
	client_close(c, &e, e.text);
}

/* STEP_DONE: the client may send; its tenant's context and its settings go with what it sends.
 * STEP_AGAIN: they are on the way.  STEP_CLOSED: of welcome(). */
static PGT_INLINE enum step settle_in(struct client *c, struct server *s)
{
	if (s->applied != c->wanted && carry_is_possible(c, s)) {
		context_look(c);
		s->carry_due = true;
		return STEP_DONE;
	}
	if (s->applied != c->wanted || sequence_must_clean(c, s) ||
	    session_must_forget_plans(c, s)) {
		context_look(c);
		s->is_settling = session_apply(c, s) == STEP_AGAIN;
		if (s->is_settling)
			return STEP_AGAIN;
	}
	return on_in_line(c, s);
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
	       s->defaults != supply_defaults(s->pool->group);
}

static inline bool is_stale(const struct server *s, usec_t now)
{
	return s->doubtful || is_outdated(s) || is_old(s, now) || s->pool->group->gone ||
	       (pool_session_cap(s->pool) && !server_is_capped(s)) ||
	       s->node->service != NODE_SERVES;
}

bool attach_is_stale(const struct server *s)
{
	return is_stale(s, now_of(s));
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
	for (struct waiter *w; !attach_is_paused(pool) && (w = pool_next_waiter(pool));) {
		struct client *c = attach_waiting(w);

		if (c->phase != CLIENT_WELCOME || !c->wanted->welcome)
			return c;
		/* Another one has found out meanwhile what it waits for. */
		waiter_leave(&c->waiter, relay_now(c));
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
		relay_go_on(c);
	}
	return c;
}

/* Who has waited gets it.  A request that comes to its end in here, since it is refused, gives its
 * server to the next: that one is looked at later, or a queue of them would be as deep
 * on the stack as it is long.  False: it was only to be welcomed, and the server is nobody's. */
static PGT_NOINLINE bool serve(struct server *s, struct client *c)
{
	struct relay *r = relay_of(c);
	enum step step;

	give(s, c);
	step = settle_in(c, s);
	if (step != STEP_DONE)
		return step != STEP_CLOSED;
	if (r->is_serving) {
		c->looked_at = false; /* what was decided then may be another matter by then */
		relay_go_on(c);
		return true;
	}
	r->is_serving = true;
	request_process(c);
	r->is_serving = false;
	return true;
}

/* Puts it where the next client finds it, or gives it to one who waits.  False: of serve(). */
static bool offer(struct server *s)
{
	bool is_own = s->made_for != 0, is_held = is_held_back(s);
	struct client *c = is_own ? replicate_owner(s) : is_held ? NULL : next_client_for(s);
	usec_t now = now_of(s);

	if (is_own ? !c || attach_is_paused(s->pool)
		   : !list_is_empty(&s->pool->mates) && replicate_needs_room(s->pool, c, now)) {
		server_drop(s);
		return true;
	}
	if (!c) {
		if (s->slot.state != SLOT_IDLE)
			slot_become(&s->slot, SLOT_IDLE, now);
		if (is_held)
			relay_watch_holds(s->pool->group->owner, s->pool);
		else if (group_is_starved(s->pool->group, now))
			server_drop(s);
		return true;
	}
	if (s->slot.state != SLOT_ACTIVE) {
		if (s->slot.state != SLOT_IDLE)
			slot_become(&s->slot, SLOT_IDLE, now);
		slot_become(&s->slot, SLOT_ACTIVE, now);
	}
	return serve(s, c);
}

static void drop_and_replace(struct server *s)
{
	struct pool *pool = s->pool;

	server_drop(s);
	supply_serve_waiters(pool, loop_now(pool->group->net->loop));
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

/* Behind the answer to a question of ours something else has come: whose it would be taken for is
 * not what it is. */
static bool has_said_more(struct server *s)
{
	return conn_input(&s->conn).n && !server_on_idle_bytes(s);
}

/* One turn of attach_recycle().  False: it is nobody's again. */
static bool recycle(struct server *s)
{
	usec_t now = now_of(s);

	if (is_hasty(s))
		s->tainted |= PIN_BIT(PIN_SETTING);
	if (is_stale(s, now) || has_said_more(s)) {
		drop_and_replace(s);
	} else if (s->cancel) {
		if (s->slot.state != SLOT_CANCELED)
			slot_become(&s->slot, SLOT_CANCELED, now);
	} else if (s->tainted) {
		clean(s);
	} else if (signature_is_wanted(s)) {
		sign(s);
	} else if (node_set_is_learned(s->pool->group->nodes) || !learn_begin(s)) {
		return offer(s);
	}
	return true;
}

/* Many may wait to be welcomed: each of them gives it to the next one. */
void attach_recycle(struct server *s)
{
	while (!recycle(s))
		;
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
static inline bool needs_check(const struct server *s, usec_t now)
{
	const struct settings *set = &s->pool->group->set;

	return (*set->server_check_query && now - s->slot.since >= set->server_check_delay) ||
	       signature_is_wanted(s);
}

bool attach_has_idle(const struct pool *pool)
{
	const struct slot *slot =
	    attach_is_paused(pool) || pool_ready_waiters(pool) ? NULL : pool_idle(pool);
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

/* next_client_for() in the usual case; NULL: that says. */
static inline struct client *next_plainly(const struct pool *pool, const struct server *s)
{
	struct client *c = attach_waiting(pool_first_waiter(pool));

	return c->phase == CLIENT_READY && fence_fits(c, s) && !attach_is_paused(pool) ? c : NULL;
}

/* attach_recycle() of one that is as its client got it, in the usual case: nothing is to be asked
 * or closed, and nobody waits, or the first who does may have it. */
static inline void give_back(struct server *s)
{
	const struct pool *pool = s->pool;
	struct client *next = NULL;
	usec_t now = now_of(s);
	bool is_plain = !pool->turns && !s->made_for && list_is_empty(&pool->mates) &&
			!s->applied->has_timeout && !is_stale(s, now) && !signature_is_wanted(s) &&
			node_set_is_learned(pool->group->nodes);

	if (is_plain && pool->nwaiting)
		next = next_plainly(pool, s);
	if (next)
		(void)serve(s, next);
	else if (is_plain && !pool->nwaiting && !group_is_starved(pool->group, now))
		slot_rest(&s->slot, now);
	else
		attach_recycle(s);
}

static enum step refuse_for_pool(struct client *c, struct pool *pool)
{
	client_close(c, &pool->error, pool->error.text);
	return STEP_CLOSED;
}

/* The one used last; to a client that asks for its sequences' values, the one that has them; of a
 * shared pool, the one that carries its tenant's id. */
static inline struct slot *best_idle(const struct client *c, struct pool *pool)
{
	for (;;) {
		struct slot *own = c->reads_sequence ? sequence_slot(c, pool) : NULL;
		struct slot *slot;

		if (!own && c->group->is_shared)
			own = context_slot(c, pool);
		slot = own ? own : pool_idle(pool);
		if (!slot || !is_outdated(container_of(slot, struct server, slot)))
			return slot;
		server_drop(container_of(slot, struct server, slot));
	}
}

static inline bool has_turn(const struct pool *pool, const struct client *c)
{
	return pool->turns ? pool_has_turn(pool, payer(c)) : !pool->nwaiting;
}

/* It can have no more servers, as pools where clients wait have, and no wait changes that. */
static inline bool is_full(const struct pool *pool)
{
	unsigned limit = pool_portion(pool);

	return limit && !pool->set->reserve_pool_size && pool_size(pool) >= limit;
}

enum step attach_acquire(struct client *c, struct pool *pool)
{
	usec_t now = relay_now(c);
	struct slot *slot;
	struct server *s;
	enum step step;

	/* Chosen before the primary went. */
	if (failover_is_shut(pool)) {
		c->chosen = pool = gate_primary(c);
		c->is_routed = false;
	}
	slot = !attach_is_paused(pool) && has_turn(pool, c) ? best_idle(c, pool) : NULL;
	s = slot ? container_of(slot, struct server, slot) : NULL;
	if (s && !fence_fits(c, s))
		return attach_acquire(c, fence_go_back(c));
	if (s && !needs_check(s, now)) {
		slot_give(&s->slot, now);
		give(s, c);
		step = settle_in(c, s);
		if (step != STEP_CLOSED)
			return step;
		attach_recycle(s);
		return STEP_AGAIN;
	}
	if (!s && pool->login_failed && !pool_size_ready(pool) && now < pool->retry_at)
		return refuse_for_pool(c, pool);
	pool_wait(pool, &c->waiter, c, payer(c), now);
	if (c->rare->was_sent_on)
		supply_go_on_waiting(c);
	if (s)
		check(s);
	if (!is_full(pool))
		supply_serve_waiters(pool, now);
	return STEP_AGAIN;
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
	relay_go_on(c);
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

/* Its client's request has been answered, and no other one has begun. */
static bool is_between(const struct server *s)
{
	return is_quiet(s) && !s->client->stream_left && !s->client->in_batch;
}

bool attach_owes_nothing(const struct server *s)
{
	return is_between(s) && !attach_keeps(s->client) && !survey_is_due(s->client) &&
	       !context_check_is_due(s->client);
}

void settle_usual(struct server *s, struct client *c)
{
	c->has_cut_answer = s->writes = false;
	part(s, c);
	give_back(s);
}

/* Whether it is the usual end of a transaction: of all that attach_settle() looks at there is
 * nothing. */
static inline bool ends_plainly(const struct server *s, const struct client *c)
{
	return server_is_usual(s) && client_is_usual(c) &&
	       !(s->replies.n | s->stream_left | conn_input(&s->conn).n) && !s->cancel &&
	       settle_is_usual(s, c);
}

void attach_settle(struct server *s)
{
	struct client *c = s->client;

	if (ends_plainly(s, c)) {
		settle_usual(s, c);
		return;
	}
	if (!is_between(s) || conn_input(&s->conn).n)
		return;
	if (survey_is_due(c)) {
		survey_begin(c, s);
		return;
	}
	if (!s->doubtful && early_must_ask(c)) {
		early_ask(s);
		return;
	}
	if (context_check_is_due(c)) {
		context_check(c);
		return;
	}
	c->cancel_asked = false; /* what it was meant for has ended */
	c->env_unsure = c->makes_temp = c->sets_locally = c->defines = false;
	if (c->is_observed)
		gate_note_observed(c);
	if (c->path_unsure)
		c->path_unsure = c->env_known = false;
	if (c->rare->begun)
		promote_forget(c);
	admit_end(c);
	c->prepaid = 0;
	c->chosen = NULL;
	c->reads = READS_NOT;
	s->writes = false;
	if (s->check == CHECK_CHANGED && attach_keeps(c)) {
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
			relay_go_on(c);
		return;
	}
	attach_take_away(s);
	if (s->pool->group->set.server_reset_query_always)
		s->tainted |= TAINT_SESSION;
	attach_recycle(s);
	if (c->turn_missed) {
		c->turn_missed = false;
		relay_go_on(c);
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
		relay_go_on(c);
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
	attach_take_away(s);
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

/* What the client has claimed of its limits it keeps, and its transaction its lane. */
static void take_away_for_now(struct server *s)
{
	struct client *c = s->client;
	struct lane *lane = s->pool->lane;
	uint8_t claims = c->claims, xact = c->xact;

	c->claims = 0;
	attach_take_away(s);
	c->lane = lane;
	c->claims = claims;
	c->xact = xact & XACT_ADMITTED;
	c->has_cut_answer = false;
}

void attach_withdraw(struct client *c)
{
	struct server *s = c->server;
	struct pool *pool = s->pool;

	if (admit_is_gated(c))
		admit_note_time(c, now_of(s) - s->query_at);
	statement_void(s, s->replies.n, false);
	s->doubtful = true;
	take_away_for_now(s);
	server_drop(s);
	supply_serve_waiters(pool, relay_now(c));
}

static void on_rolled_back(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	if (error || s->tx != 'I')
		s->doubtful = true;
	attach_recycle(s);
}

void attach_move(struct client *c)
{
	const struct question q = { .done = on_rolled_back };
	struct server *s = c->server;

	PGT_ASSERT(!s->replies.n && !c->in_batch && !c->stream_left);
	take_away_for_now(s);
	slot_become(&s->slot, SLOT_TESTED, now_of(s));
	server_ask(s, "ROLLBACK", &q);
	conn_kick(&s->conn);
}
