/* SPDX-License-Identifier: ISC
 *
 * promote.c - a READ COMMITTED transaction that so far only reads runs on a replica, and goes on on
 * the primary from its first write on: with promote = first_write, and of a session whose
 * transactions are read-only unless they say otherwise.  One that says READ ONLY itself goes on
 * there only with what a standby refuses to do.
 *
 * In such a transaction each statement has a snapshot of its own, so those that only read may be
 * run anywhere that is fresh enough.  What else a transaction has (locks, settings, savepoints,
 * cursors, a time when it began) is not moved: whatever might make or ask for any of that is the
 * first write, whether it writes or not, and has a transaction on the primary that has begun for
 * it.
 *
 * Knows which statements those are; how a BEGIN waits is local.c's, how a client leaves its server
 * attach.c's.
 */
#include "relay/promote.h"

#include "base/log.h"
#include "relay/batch.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "sql/stream_guard.h"

/* What is known of a request. */
struct asked {
	bool is_plain, is_primarys;
};

/* ---- which statements ---------------------------------------------------------------------------
 */

/* Parts of what asks for the time when the transaction began, now() first of all.  That some other
 * word has them too costs nothing but the replica. */
static bool may_tell_time(struct slice text)
{
	static const char *const parts[] = { "now",       "current_d",   "current_t",
					     "localt",    "n_timestamp", "today",
					     "yesterday", "tomorrow",    "age(" };

	for (size_t i = 0; i < PGT_NELEMS(parts); i++)
		if (sql_spells(text, slice_str(parts[i])))
			return true;
	return false;
}

bool promote_is_plain(struct client *c, struct slice text, const struct sql_facts *facts)
{
	return facts->kind == SQL_KIND_SELECT && facts->statements == 1 && !facts->flags &&
	       !facts->effects && !facts->sequence && !facts->nnames &&
	       gate_is_read(c, text, facts) && !may_tell_time(text);
}

bool promote_is_primarys(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct sql_facts with_named;

	if (sql_spells(text, SLICE("advisory_xact_lock")))
		return true; /* it ends with the transaction, but keeps others out meanwhile */
	if (facts->nnames) {
		with_named = *facts;
		named_add_effects(c, &with_named);
		facts = &with_named;
	}
	return pins_may_tie(facts);
}

static bool is_end(const struct sql_facts *facts)
{
	return (facts->kind == SQL_KIND_COMMIT || facts->kind == SQL_KIND_ROLLBACK) &&
	       facts->is_exact && facts->statements == 1 && !facts->flags;
}

/* ---- which transactions -------------------------------------------------------------------------
 */

/* What sessions begin with, as the primary has told. */
static bool is_read_committed(const struct client *c, const struct statement *begin)
{
	const struct group *group = c->group;

	return group->isolation == ISOLATION_READ_COMMITTED &&
	       group->isolation_defaults == supply_defaults(group) &&
	       !param_set_get(c->wanted, SLICE(PARAM_ISOLATION)) &&
	       !sql_spells(statement_text(begin), SLICE("isolation"));
}

/* One that has come back from a replica stays on the primary. */
static bool may_begin(const struct client *c)
{
	return !c->server && !c->chosen && !c->begin_failed && !c->begin_due && !c->begin_reads &&
	       !c->begin_stays && !c->whose && !c->rare->listening && !c->pins &&
	       gate_has_choice(c) && is_read_committed(c, c->begin);
}

static bool begin_reading(struct client *c)
{
	struct pool *pool = gate_choose_known(c, true);

	if (!pool)
		return false;
	fence_begin_batch(c);
	c->chosen = pool;
	return true;
}

void promote_begin(struct client *c)
{
	if (c->is_routed && !c->begin_failed && !c->begin_reads && gate_is_replicas(c->server))
		client_make_rare(c)->begun = statement_ref(c->begin);
}

void promote_answered(struct client *c, struct statement *begin)
{
	if (!c->begin_reads || c->rare->begun || c->whose || c->rare->listening || c->pins)
		return;
	c->group->minds_isolation = true;
	if (c->asks_plainly && is_read_committed(c, begin))
		client_make_rare(c)->begun = statement_ref(begin);
}

void promote_forget(struct client *c)
{
	if (!c->rare->begun)
		return;
	statement_unref(c->rare->begun);
	client_make_rare(c)->begun = NULL;
}

/* ---- the way to the primary ---------------------------------------------------------------------
 */

void promote_take_back(struct client *c, struct statement *begin)
{
	local_take_back(c, begin);
	c->begin_reads = false;
	c->begin_stays = true;
	c->owes_snapshot = true; /* of what it has read, behind which it takes no more modes */
	c->chosen = gate_primary(c);
	c->group->counters.promoted_count++;
}

static void go(struct client *c)
{
	struct statement *begin = statement_ref(c->rare->begun);

	log_debug("C-%llu: its transaction goes on on the primary", (unsigned long long)c->id);
	attach_move(c);
	promote_take_back(c, begin);
	fence_begin_batch(c);
}

/* What its tenant has written since the transaction began is there. */
static bool is_covered(const struct client *c)
{
	const struct server *s = c->server;
	struct node_wish wish;

	fence_wish(c, &wish);
	return node_set_covers(c->group->nodes, s->pool->node, s->process, &wish);
}

/* One that says READ ONLY: the replica is asked first, but for what is the primary's alone.  What
 * has run there and is not plain may have left what the primary would lack. */
static void stay_if_possible(struct client *c, const struct asked *asked)
{
	if (!c->asks_plainly) {
		promote_forget(c);
	} else if (asked->is_primarys) {
		go(c);
	} else {
		c->asks_plainly = asked->is_plain;
		c->is_routed = true;
	}
}

/* A failed transaction does nothing more but end. */
static void stay_or_go(struct client *c, const struct asked *asked)
{
	if (c->server->tx != 'T')
		return;
	if (c->begin_reads)
		stay_if_possible(c, asked);
	else if (asked->is_plain && is_covered(c))
		c->is_routed = true; /* so that it is kept, and may be asked again */
	else
		go(c);
}

/* Nothing has run in it: its BEGIN has gone to a replica alone, or what only prepares behind it. */
static bool has_just_begun(const struct client *c)
{
	const struct server *s = c->server;

	return s && s->asked_begin && s->tx == 'T' && !s->replies.n && !c->in_batch &&
	       gate_is_replicas(s);
}

/* Of a transaction that says READ ONLY the first statement is for the primary alone. */
static void begin_there(struct client *c)
{
	struct statement *begin;
	bool owes_snapshot;

	if (!c->begin && has_just_begun(c)) {
		begin = statement_ref(c->server->asked_begin);
		owes_snapshot = c->server->asked_parsed;
		attach_move(c);
		local_take_back(c, begin);
		c->owes_snapshot |= owes_snapshot;
		c->chosen = gate_primary(c);
		fence_begin_batch(c);
	}
	if (!c->begin)
		return;
	c->begin_reads = false;
	c->begin_stays = true;
}

static bool look(struct client *c, const struct asked *asked)
{
	if (c->rare->begun) {
		stay_or_go(c, asked);
		return true;
	}
	c->asks_plainly = asked->is_plain;
	if (c->begin_reads && asked->is_primarys && !c->begin_failed)
		begin_there(c);
	return !asked->is_plain || !may_begin(c) || begin_reading(c);
}

/* It could not be asked again if a replica refused it. */
static const struct asked too_long = { .is_primarys = true };

bool promote_query(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct asked asked;

	if (c->rare->begun && is_end(facts))
		return true;
	if (!rescue_has_room(c))
		return look(c, &too_long);
	asked.is_plain = promote_is_plain(c, text, facts);
	asked.is_primarys = !asked.is_plain && promote_is_primarys(c, text, facts);
	return look(c, &asked);
}

bool promote_batch(struct client *c, const struct batch_view *view)
{
	const struct asked asked = { view->is_plain, view->is_primarys };

	return look(c, rescue_has_room(c) ? &asked : &too_long);
}

void promote_unseen(struct client *c, bool is_primarys)
{
	const struct asked asked = { false, is_primarys };

	if (promote_concerns(c))
		/* What is not plain waits for no replica. */
		(void)!look(c, &asked);
	else
		c->asks_plainly = false;
}

bool promote_on_lost(struct server *s)
{
	struct client *c = s->client;
	struct statement *begin;

	if (!c->rare->begun || s->tx != 'T' || s->replies.n || c->in_batch || c->stream_left ||
	    c->phase != CLIENT_READY || (c->begin_reads && !c->asks_plainly))
		return false;
	begin = statement_ref(c->rare->begun);
	attach_withdraw(c);
	promote_take_back(c, begin);
	relay_go_on(c);
	return true;
}
