/* SPDX-License-Identifier: ISC
 *
 * admit.c - may a transaction start now: maintenance, pauses, and the limits of its tenant.
 *
 * Asked at a transaction's first statement and never within one (I10): what a transaction uses is
 * charged, and the next one pays.  Slots (transactions at once, servers of shared pools) are
 * claimed by compare-and-swap before a server is asked for, and given back when the transaction
 * ends or the server has left.  Knows what is asked for, not what a text says.
 *
 * Who waits stands in line behind those of its tenant on its thread, newcomers too.  It is asked
 * again when there is a token or slot for it; one that comes free on another thread is seen at the
 * next tick.
 */
#include "base/mem.h"
#include "relay/admission.h"
#include "relay/parts.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "stats/event.h"
#include "tenant/shared.h"
#include "wire/write.h"

#include <stdlib.h>

/* Further than any timeout. */
#define FOREVER (INT64_MAX / 2)

/* Of admission.what, beside the limits. */
#define WAITS_FOR_SWITCH  (NLIMITS + 1)
#define WAITS_FOR_REPLICA (NLIMITS + 2)
#define WAITS_FOR_PROOF   (NLIMITS + 3)

/* How often it is looked whether there is a replica for a read, or whether the catalog is known. */
#define LOOK_AGAIN (5 * USEC_PER_MSEC)
/* Who has a server in its hands does not keep it from being asked for longer than this: once a
 * second at most somebody asks, and has to be answered. */
#define PROOF_WAIT (3 * USEC_PER_SEC)

static struct limit_now limit_now(const struct client *c)
{
	return (struct limit_now){ .monotonic = relay_now(c),
				   .wall = limit_has_quota(&c->tenant->rules) ? clock_wall() : 0 };
}

static bool is_slot(enum limit_kind kind)
{
	return kind == LIMIT_TRANSACTIONS || kind == LIMIT_SERVERS;
}

static bool waits_for(const struct client *c, unsigned what)
{
	return c->admission && c->admission->what == what;
}

static bool waits_for_limit(const struct client *c)
{
	return c->admission && c->admission->what < WAITS_FOR_SWITCH;
}

/* How long it has waited so far. */
static usec_t waited(const struct client *c)
{
	return c->admission ? relay_now(c) - c->admission->since : 0;
}

/* For what nobody tells it of, so that it looks itself. */
static bool looks_itself(const struct client *c)
{
	return waits_for(c, WAITS_FOR_REPLICA) || waits_for(c, WAITS_FOR_PROOF);
}

static bool waits_for_slot(const struct client *c)
{
	return waits_for_limit(c) && is_slot(c->admission->what - 1);
}

/* ---- who waits --------------------------------------------------------------------------------
 */

/* In the tenant that it waits for, which has to stay. */
static void count_waiting(struct client *c)
{
	struct tenant *t = c->tenant;

	if (!waits_for_limit(c))
		return;
	c->admission->at = tenant_ref(t);
	atomic_fetch_add(&shared_tally(t->shared)->waiting[c->admission->what - 1], 1);
	if (waits_for_slot(c))
		t->nqueued++;
	else
		t->nthirsty++;
}

static void uncount_waiting(struct client *c)
{
	struct tenant *t = c->admission->at;

	if (!t)
		return;
	atomic_fetch_sub(&shared_tally(t->shared)->waiting[c->admission->what - 1], 1);
	if (waits_for_slot(c))
		t->nqueued--;
	else
		t->nthirsty--;
	t->nwoken -= c->admission->is_woken;
	tenant_unref(t);
}

static void stop_waiting(struct client *c)
{
	if (!c->admission)
		return;
	uncount_waiting(c);
	list_del(&c->admission->link);
	free(c->admission);
	c->admission = NULL;
}

static enum verdict wait_for(struct client *c, unsigned what, usec_t wait)
{
	struct relay *r = relay_of(c);
	usec_t since = relay_now(c) - waited(c);

	stop_waiting(c);
	c->admission = xnew(struct admission);
	*c->admission = (struct admission){
		.client = c, .retry_at = relay_now(c) + wait, .since = since, .what = (uint8_t)what
	};
	count_waiting(c);
	list_push_back(&r->limited, &c->admission->link);
	relay_watch_limits(r);
	return VERDICT_WAIT;
}

static void wake(struct client *c)
{
	struct admission *a = c->admission;

	list_del(&a->link);
	a->retry_at = 0;
	a->is_woken = true;
	if (a->at)
		a->at->nwoken++;
	if (!admit_is_gated(c) && !looks_itself(c))
		stop_waiting(c);
	relay_go_on(c);
	/* A statement that has come meanwhile takes its BEGIN along. */
	if (c->begin_due && conn_input(&c->conn).n)
		c->begin_due = false;
	else if (c->begin_due)
		local_hurry(c);
}

/* Whether there is a slot for one more than those that are awake already. */
static bool has_free_slot(const struct client *c)
{
	const struct tenant *t = c->admission->at;
	bool is_held = c->admission->what - 1 == LIMIT_SERVERS;
	unsigned max = is_held ? t->set.tenant_max_server_conn : t->set.max_transactions;
	unsigned used = is_held ? t->shared->held : t->shared->transactions;

	return used + t->nwoken < max;
}

/* Those of other threads wait for tokens too, and this one had the last: leaves them one tick. */
static bool must_yield(struct tenant *t, usec_t now)
{
	if (t->yielded_at == now)
		return true;
	if (t->shared->served != (uintptr_t)t ||
	    shared_tally(t->shared)->waiting[LIMIT_RATE] <= t->nthirsty)
		return false;
	t->shared->served = 0;
	t->yielded_at = now;
	return true;
}

static bool may_have_token(struct tenant *t, usec_t now)
{
	int64_t tokens = limit_tokens(t->shared->limit.full_at, &t->rules.rate, now);

	/* No more are woken than there are tokens. */
	if (tokens <= (int64_t)t->nwoken || must_yield(t, now))
		return false;
	t->shared->served = (uintptr_t)t;
	return true;
}

static bool may_try(const struct client *c, usec_t now)
{
	const struct admission *a = c->admission;
	struct tenant *t = a->at;

	if (!t)
		return now >= a->retry_at;
	if (waits_for_slot(c))
		return now >= a->retry_at || has_free_slot(c);
	if (now - a->since >= t->set.rate_limit_wait)
		return true;
	return now >= a->retry_at && (a->what - 1 != LIMIT_RATE || may_have_token(t, now));
}

void admit_wake(struct relay *r, usec_t now)
{
	LIST_FOREACH_SAFE (at, &r->limited) {
		struct client *c = container_of(at, struct admission, link)->client;

		if (may_try(c, now))
			wake(c);
	}
}

/* A slot of the tenant is free. */
static void wake_next(struct relay *r, const struct tenant *t)
{
	LIST_FOREACH (at, &r->limited) {
		struct client *c = container_of(at, struct admission, link)->client;

		if (c->admission->at != t || !waits_for_slot(c))
			continue;
		if (has_free_slot(c))
			wake(c);
		return;
	}
}

/* ---- slots ------------------------------------------------------------------------------------
 */

void admit_release(struct client *c, uint8_t claims)
{
	struct tenant *t = c->claimant;

	claims &= c->claims;
	if (!claims)
		return;
	if (claims & CLAIM_TRANSACTION)
		slot_give_back(&t->shared->transactions);
	if (claims & CLAIM_SERVER)
		slot_give_back(&t->shared->held);
	c->claims &= (uint8_t)~claims;
	if (t->nqueued)
		wake_next(relay_of(c), t);
	if (!c->claims) {
		c->claimant = NULL;
		tenant_unref(t);
	}
}

/* What it has claimed for a transaction that does not start. */
static void release_unused(struct client *c)
{
	admit_release(c, c->server ? CLAIM_TRANSACTION : CLAIM_TRANSACTION | CLAIM_SERVER);
}

/* max 0: there is no such limit. */
static bool claim(struct client *c, uint8_t bit, _Atomic unsigned *count, unsigned max, bool ask)
{
	if (!max || (c->claims & bit))
		return true;
	if (!slot_take(count, ask ? max : 0))
		return false;
	if (!c->claims)
		c->claimant = tenant_ref(c->tenant);
	c->claims |= bit;
	return true;
}

/* All that its transaction needs, or none.  A newcomer does not pass those who stand in line. */
static bool claim_slots(struct client *c, bool ask, enum limit_kind *lacks)
{
	struct tenant *t = c->tenant;
	unsigned max_servers = c->group->tenant ? 0 : t->set.tenant_max_server_conn;

	if (c->claims && c->claimant != t)
		admit_release(c, CLAIM_TRANSACTION | CLAIM_SERVER);
	*lacks = LIMIT_TRANSACTIONS;
	if (ask && !c->claims && t->nqueued && !waits_for_slot(c))
		return false;
	if (!claim(c, CLAIM_TRANSACTION, &t->shared->transactions, t->set.max_transactions, ask))
		return false;
	*lacks = LIMIT_SERVERS;
	if (claim(c, CLAIM_SERVER, &t->shared->held, max_servers, ask))
		return true;
	release_unused(c);
	return false;
}

/* ---- what is said -----------------------------------------------------------------------------
 */

/* Seconds for a message: not less than it takes. */
static double shown_seconds(usec_t wait)
{
	const usec_t tenth = USEC_PER_SEC / 10;

	return (double)((wait + tenth - 1) / tenth) / 10;
}

/* At most once a second, so that a flood of refusals costs no more than that. */
void admit_say_limit(struct tenant *t, const struct group *group, enum limit_kind kind,
		     const char *outcome, usec_t now)
{
	if (now - t->limit_said_at < USEC_PER_SEC)
		return;
	t->limit_said_at = now;
	event_say(EVENT_limit,
		  &(struct log_about){
		      .database = group->name, .tenant = t->name, .reason = limit_name(kind) },
		  "limit \"%s\" is reached: %s", limit_name(kind), outcome);
}

static void warn(struct client *c, unsigned n, const struct limit_refusal *why)
{
	const char *name = limit_name(why->kind);
	struct err notice;

	admit_say_limit(c->tenant, c->group, why->kind,
			"transactions run nevertheless (rate_limit_mode = warn)", relay_now(c));
	c->group->counters.warned_count += n;
	atomic_fetch_add(&shared_tally(c->tenant->shared)->warned[why->kind], n);
	if (is_slot(why->kind))
		err_set(&notice, "01000",
			"tenant \"%.100s\" is over its limit \"%s\" (rate_limit_mode = warn)",
			c->tenant->name, name);
	else
		err_set(
		    &notice, "01000",
		    "tenant \"%.100s\" is over its limit \"%s\" by %.1f s (rate_limit_mode = warn)",
		    c->tenant->name, name, shown_seconds(why->wait));
	msg_put_notice(conn_output(&c->conn), "NOTICE", &notice);
}

/* The detail is for programs: docs/operations.md has its form. */
static enum verdict refuse(struct client *c, const struct limit_refusal *why, struct err *e)
{
	const char *name = limit_name(why->kind);

	stop_waiting(c);
	release_unused(c);
	admit_say_limit(c->tenant, c->group, why->kind, "transactions are refused", relay_now(c));
	c->group->counters.limited_count++;
	atomic_fetch_add(&shared_tally(c->tenant->shared)->refused[why->kind], 1);
	if (is_slot(why->kind)) {
		err_set(e, "53400",
			"limit \"%s\" of tenant \"%.100s\" is reached, retry when a transaction of "
			"it has ended",
			name, c->tenant->name);
		err_detail(e, "limit=%s tenant=%.150s", name, c->tenant->name);
	} else {
		err_set(e, "53400",
			"limit \"%s\" of tenant \"%.100s\" is reached, retry after %.1f s", name,
			c->tenant->name, shown_seconds(why->wait));
		err_detail(e, "limit=%s retry_after_ms=%lld tenant=%.150s", name,
			   (long long)((why->wait + USEC_PER_MSEC - 1) / USEC_PER_MSEC),
			   c->tenant->name);
	}
	err_hint(e, "Limits are set by the tenant's tier; see SHOW LIMITS on the console.");
	return VERDICT_REFUSED;
}

/* ---- switches ---------------------------------------------------------------------------------
 */

/* Why no transaction starts, for now. */
struct closure {
	const char *message;
	usec_t patience; /* for who waits */
};

static bool is_closed(const struct client *c, struct closure *why)
{
	const struct group *group = c->group;
	const struct tenant *t = c->tenant;
	usec_t timeout = group->set.query_wait_timeout;

	if (*group->maintenance)
		*why = (struct closure){ group->maintenance, group->maintenance_wait };
	else if (t && *t->set.maintenance)
		*why = (struct closure){ t->set.maintenance, t->set.maintenance_wait };
	else if (t && t->set.paused)
		*why = (struct closure){ "the tenant is paused", timeout ? timeout : FOREVER };
	else
		return false;
	return true;
}

static enum verdict wait_for_switch(struct client *c, const struct closure *why, struct err *e)
{
	if (waited(c) < why->patience)
		return wait_for(c, WAITS_FOR_SWITCH, why->patience - waited(c));
	stop_waiting(c);
	err_set(e, "57P03", "%.500s", why->message);
	return VERDICT_REFUSED;
}

/* A session in the queue has been let pass, and asks again.  It has run nothing. */
static void send_back(struct client *c)
{
	waiter_leave(&c->waiter, relay_now(c));
	c->looked_at = false;
	c->chosen = NULL;
	admit_leave(c);
	relay_go_on(c);
	if (c->begin_due)
		local_hurry(c);
}

static void reconsider(struct client *c)
{
	struct closure why;

	/* A transaction that was to read only may go on to write. */
	if (!gate_is_readonly(c))
		c->xact &= XACT_ADMITTED;
	if (c->phase != CLIENT_READY || !admit_is_gated(c))
		return;
	if (c->waiter && (is_closed(c, &why) || gate_is_readonly(c)))
		send_back(c);
	/* Its transaction began when nobody had to be asked; it comes to its end. */
	else if (c->server && !is_at_start(c))
		c->xact |= XACT_ADMITTED;
}

void admit_reconfigure(struct relay *r)
{
	admit_wake(r, FOREVER + FOREVER);
	for (struct hlink *l = hmap_walk(&r->groups, NULL); l; l = hmap_walk(&r->groups, l))
		LIST_FOREACH (at, &container_of(l, struct group, link)->clients)
			reconsider(container_of(at, struct client, link));
}

/* ---- the question -----------------------------------------------------------------------------
 */

/* As long as for a server of a pool that is full. */
static enum verdict wait_for_slot(struct client *c, enum limit_kind kind, struct err *e)
{
	usec_t max = c->group->set.query_wait_timeout;

	if (max && waited(c) >= max)
		return refuse(c, &(struct limit_refusal){ .kind = kind }, e);
	return wait_for(c, kind + 1, max ? max - waited(c) : FOREVER);
}

/* Nobody waits in vain. */
static enum verdict wait_for_tokens(struct client *c, const struct limit_refusal *why,
				    struct err *e)
{
	if (waited(c) + why->wait > c->tenant->set.rate_limit_wait)
		return refuse(c, why, e);
	release_unused(c);
	return wait_for(c, why->kind + 1, why->wait);
}

/* Behind those who wait already. */
static const struct limit_refusal next_in_line = { LIMIT_RATE, USEC_PER_MSEC };

static enum verdict pass(struct client *c, unsigned n)
{
	stop_waiting(c);
	if (n)
		c->xact |= XACT_ADMITTED;
	return VERDICT_PASS;
}

enum verdict admit_transaction(struct client *c, unsigned n, struct err *e)
{
	struct tenant *t = c->tenant;
	struct limit_refusal why;
	struct closure closure;
	bool warns;

	if ((c->xact & XACT_ADMITTED) || !admit_is_gated(c))
		return VERDICT_PASS;
	if (is_closed(c, &closure))
		return wait_for_switch(c, &closure, e);
	if (!t || !t->is_gated)
		return pass(c, n);
	warns = t->set.rate_limit_mode == RATE_LIMIT_WARN;
	if (!claim_slots(c, true, &why.kind)) {
		if (!warns)
			return wait_for_slot(c, why.kind, e);
		warn(c, n ? n : 1, &why);
		claim_slots(c, false, &why.kind);
	}
	if (n && t->nthirsty && !c->admission && !warns)
		return wait_for_tokens(c, &next_in_line, e);
	if (n && !limit_take(&t->shared->limit, &t->rules, n, limit_now(c), &why)) {
		if (!warns)
			return wait_for_tokens(c, &why, e);
		limit_charge(&t->shared->limit, &t->rules, n, limit_now(c));
		warn(c, n, &why);
	}
	return pass(c, n);
}

void admit_charge(struct client *c, unsigned n)
{
	if (n && c->tenant && c->tenant->is_gated)
		limit_charge(&c->tenant->shared->limit, &c->tenant->rules, n, limit_now(c));
}

void admit_count(struct client *c)
{
	if (c->prepaid)
		c->prepaid--;
	else
		admit_charge(c, 1);
}

void admit_note_time(struct client *c, usec_t took)
{
	if (c->tenant)
		limit_charge_exec(&c->tenant->shared->limit, &c->tenant->rules, took, relay_now(c));
}

void admit_note_bytes(struct client *c, size_t n)
{
	if (c->tenant)
		limit_charge_bytes(&c->tenant->shared->limit, &c->tenant->rules, n, relay_now(c));
}

/* ---- what it looks for itself -----------------------------------------------------------------
 */

/* False: it has waited for max, or waits for something else, or its BEGIN is late already, which is
 * not made later. */
static bool look_again(struct client *c, unsigned what, usec_t max)
{
	usec_t left = max - waited(c);

	if (left <= 0 || c->begin_due || (c->admission && !waits_for(c, what)))
		return false;
	wait_for(c, what, left < LOOK_AGAIN ? left : LOOK_AGAIN);
	return true;
}

bool admit_wait_for_replica(struct client *c)
{
	/* What another process writes comes to no end here. */
	return fence_floor != FENCE_ALL &&
	       look_again(c, WAITS_FOR_REPLICA, c->group->set.fence_wait);
}

bool admit_has_proof(struct client *c)
{
	bool known = node_set_is_learned(c->group->nodes);

	if (known && waits_for(c, WAITS_FOR_PROOF))
		stop_waiting(c);
	return known;
}

bool admit_wait_for_proof(struct client *c)
{
	usec_t max = c->server ? PROOF_WAIT : c->group->set.query_wait_timeout;

	learn_hurry(gate_primary(c), relay_now(c));
	if (look_again(c, WAITS_FOR_PROOF, max ? max : FOREVER))
		return true;
	if (waits_for(c, WAITS_FOR_PROOF))
		stop_waiting(c);
	return false;
}

void admit_has_node(struct client *c)
{
	if (waits_for(c, WAITS_FOR_REPLICA))
		stop_waiting(c);
}

void admit_forget(struct client *c)
{
	stop_waiting(c);
	admit_leave(c);
}
