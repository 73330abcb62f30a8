/* SPDX-License-Identifier: ISC
 *
 * sweep.c - what time does to a thread's clients and servers: timeouts, ceilings, waits for limits.
 *
 * No client and no server has a timer of its own: all are swept, those who wait for a limit and the
 * servers that are kept for a moment more often, and thousands that rest less often: looking at
 * them costs the memory's time and a core's cache, which the others need.  Knows when something is
 * over and whom to tell; what that means for the server is attach.c's.
 */
#include "base/log.h"
#include "net/resolve.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/relay.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "wire/write.h"

/* How often clients that wait for a limit are looked at. */
#define LIMIT_TICK (5 * USEC_PER_MSEC)
/* And servers that are kept idle for a moment. */
#define HOLD_TICK USEC_PER_MSEC
/* Clients of a group that are looked at in each sweep; of more only those that wait or have a
 * server, and the others in turn, within so many sweeps. */
#define SWEPT_AT_ONCE 256u
#define SWEEPS_OF_ALL 10u
/* How far a statement may be beyond its ceiling, which is the server's to keep. */
#define CEILING_GRACE (2 * USEC_PER_SEC)

/* ---- clients that wait for a limit ----------------------------------------------------------
 */

static usec_t now_of(const struct relay *r)
{
	return loop_now(r->net->loop);
}

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

/* ---- the sweep ------------------------------------------------------------------------------
 */

void relay_close_client(struct client *c, const char *sqlstate, const char *text)
{
	const struct server *s = c->server;
	struct err e;

	err_set(&e, sqlstate, "%s", text);
	if (s && (s->replies.n || s->tx != 'I'))
		err_hint(&e, "%s", supply_outcome(s));
	client_close(c, &e, text);
}

static void notify_waiting(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;
	struct err notice;

	if (c->waiter->notified || c->phase != CLIENT_READY || !set->query_wait_notify ||
	    now - c->waiter->since < set->query_wait_notify)
		return;
	c->waiter->notified = true;
	err_set(&notice, "00000",
		"No server connection available in postgres backend, client being queued");
	msg_put_notice(conn_output(&c->conn), "NOTICE", &notice);
}

/* Who waits for a primary to be known has another patience, and stays when that is over. */
static void sweep_limbo(struct client *c, usec_t now)
{
	struct err e;

	if (now - c->waiter->since < c->group->set.failover_wait) {
		notify_waiting(c, now);
		return;
	}
	failover_refuse(c, &e);
	if (c->phase == CLIENT_READY)
		relay_end_waiting(c, &e);
	else
		client_close(c, &e, e.text);
}

static void sweep_waiting(struct client *c, usec_t now)
{
	struct pool *pool = c->waiter->pool;
	const struct settings *set = pool->set;
	struct err e;

	if (pool == &c->group->limbo) {
		sweep_limbo(c, now);
		return;
	}
	if (set->query_wait_timeout && now - c->waiter->since >= set->query_wait_timeout) {
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
	relay_close_client(c, "08P01", "query_wait_timeout");
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
	char address[LOG_ADDRESS_MAX];
	struct log_about about;

	if (!cap || c->group->replication || now - s->query_at < cap + CEILING_GRACE ||
	    now - s->overdue_at < CEILING_GRACE || !relay_has_request(c) ||
	    (uint64_t)(now - s->query_at - CEILING_GRACE) / (uint64_t)cap < under_way(s))
		return;
	about = client_about(c, address);
	log_about(LOG_LEVEL_WARNING, &about,
		  "a statement has lasted longer than its ceiling, and is cancelled");
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
	else if (s->tx != 'I')
		insight_on_idle(c, now);
	if (set->query_timeout && busy && now - s->query_at >= set->query_timeout)
		relay_close_client(c, "57014", "query_timeout");
	else if (set->idle_transaction_timeout && !busy && s->tx != 'I' &&
		 now - c->conn.active_at >= set->idle_transaction_timeout)
		relay_close_client(c, "25P03", "idle transaction timeout");
	else if (set->transaction_timeout && s->tx != 'I' &&
		 now - s->xact_at >= set->transaction_timeout)
		relay_close_client(c, "25P04", "transaction timeout");
}

/* Its transaction is as old as if a server knew of it. */
static void sweep_deferred(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;

	if (set->idle_transaction_timeout &&
	    now - c->conn.active_at >= set->idle_transaction_timeout)
		relay_close_client(c, "25P03", "idle transaction timeout");
	else if (set->transaction_timeout && now - c->begin_at >= set->transaction_timeout)
		relay_close_client(c, "25P04", "transaction timeout");
}

/* One whose group a reload has ended, or whose tenant it has taken away in a pool that stays, may
 * end its transaction.  No server would serve the next one. */
static bool has_lost_its_place(const struct client *c)
{
	return (c->group->gone || (c->tenant && c->tenant->gone)) &&
	       !(c->server && is_in_transaction(c));
}

static void sweep_client(struct client *c, usec_t now)
{
	const struct settings *set = &c->group->set;

	if (has_lost_its_place(c)) {
		relay_close_client(c, "57P01", relay_reconfigured);
		return;
	}
	/* One that has sent too much to be read on may be gone, and hold what others wait for. */
	if (c->conn.paused) {
		conn_look_for_end(&c->conn);
		if (!conn_is_usable(&c->conn))
			return;
	}
	if (c->waiter) {
		sweep_waiting(c, now);
		return;
	}
	if (c->rare->listening && sweep_listening(c, now))
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
		relay_close_client(c, "57P05", "client_idle_timeout");
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
		bool spare =
		    pool_size(pool) > group_portion(group, set->min_pool_size) || group->gone;

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

		if (now - s->slot.since >= limit)
			s->on->ended(s, "server_connect_timeout");
	}
}

/* Servers where the node's name does not lead any more are closed when they come free. */
static void follow_name(struct pool *pool)
{
	const struct relay *relay = pool->group->owner;
	const struct node *node = &pool->group->nodes->nodes[pool->node];
	unsigned moves = node->moves;

	if (pool->moves == moves)
		return;
	/* Who logs in may have begun with what the name was before, and is looked at behind that.
	 */
	if (!pool->count[SLOT_LOGIN])
		pool->moves = moves;
	for (unsigned state = SLOT_IDLE; state < SLOT_NSTATES; state++) {
		LIST_FOREACH (at, &pool->slots[state]) {
			struct slot *slot = container_of(at, struct slot, link);
			const struct server *s = container_of(slot, struct server, slot);

			if (!resolve_leads_to(relay->resolver, node->host, &s->conn.peer))
				slot->generation = pool->generation - 1;
		}
	}
}

static void sweep_pool(struct pool *pool, usec_t now)
{
	follow_name(pool);
	sweep_idle(pool, now);
	sweep_login(pool, now);
	learn_sweep(pool, now);
	if (pool->turns)
		turns_sweep(pool->turns, now);
	attach_use_idle(pool);
	supply_serve_waiters(pool, now);
	supply_keep_minimum(pool, now);
}

/* A group that nobody uses is kept, as it will be used again, unless told otherwise. */
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

/* Whose wait is over leaves the queue, and others may leave it because of that. */
static void sweep_queue(struct pool *pool, usec_t now)
{
	bool is_changed;

	do {
		is_changed = false;
		LIST_FOREACH (at, &pool->waiting) {
			const struct waiter *w = container_of(at, struct waiter, link);
			struct client *c = w->owner;

			sweep_client(c, now);
			is_changed = c->waiter != w;
			if (is_changed)
				break;
		}
	} while (is_changed);
}

static void sweep_active(struct pool *pool, usec_t now)
{
	LIST_FOREACH_SAFE (at, &pool->slots[SLOT_ACTIVE]) {
		const struct server *s =
		    container_of(container_of(at, struct slot, link), struct server, slot);

		if (s->client)
			sweep_client(s->client, now);
	}
}

static void sweep_in_turn(struct group *group, unsigned n, usec_t now)
{
	struct client *c;

	while (n-- && (c = relay_next_in_turn(group)))
		sweep_client(c, now);
}

static void sweep_clients(struct group *group, usec_t now)
{
	unsigned n = group->nclients / SWEEPS_OF_ALL + 1;

	if (group->nclients <= SWEPT_AT_ONCE) {
		sweep_in_turn(group, group->nclients, now);
		return;
	}
	sweep_queue(&group->limbo, now);
	GROUP_FOREACH_POOL (pool, group) {
		sweep_queue(pool, now);
		sweep_active(pool, now);
	}
	sweep_in_turn(group, n > SWEPT_AT_ONCE ? n : SWEPT_AT_ONCE, now);
}

static void sweep_group(struct relay *r, struct group *group, usec_t now)
{
	sweep_clients(group, now);
	GROUP_FOREACH_POOL (pool, group)
		sweep_pool(pool, now);
	if (group->hub) {
		follow_name(&group->hub->pool);
		sweep_login(&group->hub->pool, now);
		hub_sweep(group->hub, now);
	}
	failover_follow(group);
	if (is_forgotten(group, now))
		relay_take_out_group(r, group);
}

void relay_sweep(struct relay *r, usec_t now)
{
	latency_clock_sweep(&r->latency_clock, now);
	logins_sweep(now);
	HMAP_FOREACH_SAFE (l, &r->groups)
		sweep_group(r, container_of(l, struct group, link), now);
	if (r->give)
		relay_give_on(r);
}
