/* SPDX-License-Identifier: ISC
 *
 * admit.c - may a transaction start now: the limits of its tenant.
 *
 * Asked at a transaction's first statement and never within one (I10): what a transaction uses is
 * charged, and the next one pays.  Slots (transactions at once, servers of shared pools) are
 * claimed by compare-and-swap before a server is asked for, and given back when the transaction
 * ends or the server has left.  Knows what is asked for, not what a text says.
 *
 * Who waits for tokens is asked again when they will be there.  Who waits for a slot stands in line
 * behind those of its thread; a slot that comes free on another thread is seen at the next tick.
 */
#include "base/mem.h"
#include "relay/parts.h"
#include "tenant/shared.h"
#include "wire/write.h"

#include <stdlib.h>

/* Further than any timeout. */
#define FOREVER (INT64_MAX / 2)

static struct limit_now limit_now(const struct client *c)
{
	return (struct limit_now){ .monotonic = relay_now(c),
				   .wall = limit_has_quota(&c->tenant->rules) ? clock_wall() : 0 };
}

static bool is_slot(enum limit_kind kind)
{
	return kind == LIMIT_TRANSACTIONS || kind == LIMIT_SERVERS;
}

static bool waits_for_slot(const struct client *c)
{
	return c->waits_for && is_slot(c->waits_for - 1);
}

/* ---- who waits --------------------------------------------------------------------------------
 */

static void stop_waiting(struct client *c)
{
	if (!c->waits_for)
		return;
	atomic_fetch_sub(&shared_tally(c->tenant->shared)->waiting[c->waits_for - 1], 1);
	c->tenant->nqueued -= waits_for_slot(c);
	c->tenant->nwoken -= c->is_woken;
	c->is_woken = false;
	c->waits_for = 0;
	c->limit_since = c->retry_at = 0;
	list_del(&c->limit_link);
}

static enum verdict wait_for(struct client *c, enum limit_kind kind, usec_t wait)
{
	struct relay *r = relay_of(c);
	usec_t since = c->limit_since ? c->limit_since : relay_now(c);

	stop_waiting(c);
	c->waits_for = (uint8_t)(kind + 1);
	atomic_fetch_add(&shared_tally(c->tenant->shared)->waiting[kind], 1);
	c->tenant->nqueued += is_slot(kind);
	c->limit_since = since;
	c->retry_at = relay_now(c) + wait;
	list_push_back(&r->limited, &c->limit_link);
	relay_watch_limits(r);
	return VERDICT_WAIT;
}

static void wake(struct client *c)
{
	list_del(&c->limit_link);
	c->retry_at = 0;
	c->is_woken = true;
	c->tenant->nwoken++;
	if (!admit_is_gated(c))
		stop_waiting(c);
	conn_resume(&c->conn);
	conn_kick(&c->conn);
	/* A statement that has come meanwhile takes its BEGIN along. */
	if (c->begin_due && conn_input(&c->conn).n)
		c->begin_due = false;
	else if (c->begin_due)
		local_hurry(c);
}

/* Whether there is a slot for one more than those that are awake already. */
static bool has_free_slot(const struct client *c)
{
	const struct tenant *t = c->tenant;
	bool is_held = c->waits_for - 1 == LIMIT_SERVERS;
	unsigned max = is_held ? t->set.tenant_max_server_conn : t->set.max_transactions;
	unsigned used = is_held ? t->shared->held : t->shared->transactions;

	return used + t->nwoken < max;
}

void admit_wake(struct relay *r, usec_t now)
{
	LIST_FOREACH_SAFE (at, &r->limited) {
		struct client *c = container_of(at, struct client, limit_link);

		if (now >= c->retry_at || (waits_for_slot(c) && has_free_slot(c)))
			wake(c);
	}
}

void admit_wake_all(struct relay *r)
{
	admit_wake(r, FOREVER + FOREVER);
}

/* A slot of the tenant is free. */
static void wake_next(struct relay *r, const struct tenant *t)
{
	LIST_FOREACH (at, &r->limited) {
		struct client *c = container_of(at, struct client, limit_link);

		if (c->tenant != t || !waits_for_slot(c))
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

static void warn(struct client *c, unsigned n, const struct limit_refusal *why)
{
	const char *name = limit_name(why->kind);
	struct err notice;

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

/* ---- the question -----------------------------------------------------------------------------
 */

/* As long as for a server of a pool that is full. */
static enum verdict wait_for_slot(struct client *c, enum limit_kind kind, struct err *e)
{
	usec_t max = c->group->set.query_wait_timeout;
	usec_t waited = c->limit_since ? relay_now(c) - c->limit_since : 0;

	if (max && waited >= max)
		return refuse(c, &(struct limit_refusal){ .kind = kind }, e);
	return wait_for(c, kind, max ? max - waited : FOREVER);
}

/* Nobody waits in vain. */
static enum verdict wait_for_tokens(struct client *c, const struct limit_refusal *why,
				    struct err *e)
{
	usec_t waited = c->limit_since ? relay_now(c) - c->limit_since : 0;

	if (waited + why->wait > c->tenant->set.rate_limit_wait)
		return refuse(c, why, e);
	release_unused(c);
	return wait_for(c, why->kind, why->wait);
}

enum verdict admit_transaction(struct client *c, unsigned n, struct err *e)
{
	struct tenant *t = c->tenant;
	struct limit_refusal why;
	bool warns;

	if (c->admitted || !admit_is_gated(c))
		return VERDICT_PASS;
	warns = t->set.rate_limit_mode == RATE_LIMIT_WARN;
	if (!claim_slots(c, true, &why.kind)) {
		if (!warns)
			return wait_for_slot(c, why.kind, e);
		warn(c, n ? n : 1, &why);
		claim_slots(c, false, &why.kind);
	}
	if (n && !limit_take(&t->shared->limit, &t->rules, n, limit_now(c), &why)) {
		if (!warns)
			return wait_for_tokens(c, &why, e);
		limit_charge(&t->shared->limit, &t->rules, n, limit_now(c));
		warn(c, n, &why);
	}
	stop_waiting(c);
	c->admitted = n > 0;
	return VERDICT_PASS;
}

void admit_charge(struct client *c, unsigned n)
{
	if (n && admit_is_gated(c))
		limit_charge(&c->tenant->shared->limit, &c->tenant->rules, n, limit_now(c));
}

void admit_note_time(struct client *c, usec_t took)
{
	limit_charge_exec(&c->tenant->shared->limit, &c->tenant->rules, took, relay_now(c));
}

void admit_note_bytes(struct client *c, size_t n)
{
	limit_charge_bytes(&c->tenant->shared->limit, &c->tenant->rules, n, relay_now(c));
}

void admit_forget(struct client *c)
{
	stop_waiting(c);
	admit_leave(c);
}
