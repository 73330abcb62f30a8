/* SPDX-License-Identifier: ISC
 *
 * cycle.c - ReadyForQuery: the end of what was asked, counted, timed, and followed by what waited
 * for it.
 *
 * Source: PostgreSQL manual, "Message Flow", and docs/states.md.
 */
#include "relay/answer.h"
#include "relay/early.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/repeat.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "wire/frame.h"

static usec_t now_of(const struct server *s)
{
	return loop_now(s->conn.net->loop);
}

/* Its transaction has ended, so all servers are replaced that began before: roles are the
 * cluster's. A tenant's user is not to trouble others, and may change its own only. */
static void note_defaults(struct server *s)
{
	struct group *group = s->pool->group;
	struct shared *whose = s->client->tenant ? group->login_shared : group->nodes->cluster;

	atomic_fetch_add_explicit(&whose->defaults, 1, memory_order_relaxed);
	atomic_store_explicit(&whose->defaults_at, now_of(s), memory_order_relaxed);
	s->has_defaults = false;
}

static inline void count_cycle(struct server *s, struct client *c, char tx, bool is_usual)
{
	struct counters *counters = &s->pool->group->counters;
	usec_t now = now_of(s);

	counters->query_time += (uint64_t)(now - s->query_at);
	if (s->timed)
		repeat_on_ready(s, now - s->query_at);
	if (!is_usual && admit_is_gated(c))
		admit_note_time(c, now - s->query_at);
	s->query_at = now;
	if (tx == 'I') {
		if (!is_usual)
			c->owes_snapshot = false;
		counters->xact_count++;
		counters->xact_time += (uint64_t)(now - s->xact_at);
		s->xact_at = now;
	}
}

/* The request was that of the tenant whose id the server carries; its client may be another's by
 * now. */
static inline void record(struct server *s, enum latency_part part, usec_t took)
{
	latency_record(s->pool->times, s->context ? &s->context->times : NULL, part, took);
}

/* How long its client has waited for this ReadyForQuery.  before: where the one before it left the
 * session. */
static inline void measure_cycle(struct server *s, char before, char tx)
{
	usec_t now = loop_clock(s->conn.net->loop);
	bool ended = tx == 'I';

	insight_on_cycle(s, now);
	if (s->pool->times) {
		record(s, before == 'I' && ended ? LATENCY_ALONE : LATENCY_WITHIN,
		       now - s->asked_at);
		if (before != 'I' && ended)
			record(s, LATENCY_BLOCK, now - s->begun_at);
	}
	s->asked_at = now;
	if (ended)
		s->begun_at = now;
}

/* A cancel that comes late must not hit what we ask next in the client's name. */
static bool must_let_cancel_pass(const struct server *s, char tx)
{
	const struct client *c = s->client;

	return s->cancel && s->replies.n <= 1 && (c->resets || (tx == 'I' && survey_is_due(c)));
}

/* A question of ours must not come within a message of which the server has the beginning: of data
 * for a COPY that has failed.  Its client hears this when it has sent the rest. */
static bool must_have_rest(const struct server *s)
{
	const struct client *c = s->client;

	return c->resets && c->stream_left && s->replies.n <= 1;
}

/* Where a question of ours comes first, what the client says behind the message under way waits as
 * well: a COPY is over by now. */
static PGT_NOINLINE enum step hold_ready(struct server *s)
{
	if (s->client->resets)
		s->copy_in = false;
	s->holds_ready = true;
	conn_pause(&s->conn);
	return STEP_AGAIN;
}

static void note_tx(struct server *s, char tx)
{
	s->tx = tx;
	if (tx == 'I')
		context_end(s);
}

/* Of a batch that has been sent again, behind a late BEGIN, or of a COMMIT that the client knows
 * of: what it has begun since is ahead of that. */
static PGT_NOINLINE enum step on_unseen_ready(struct server *s, const struct frame *f, char tx)
{
	bool is_early = replies_head(&s->replies)->note == NOTE_EARLY;

	answer_pop(s);
	if (!is_early)
		note_tx(s, tx);
	else if (!early_ended(s, tx))
		return STEP_CLOSED;
	s->batch++;
	context_checked(s);
	answer_swallow(s, f);
	answer_made_ones(s);
	return STEP_DONE;
}

/* What else it ends. */
static PGT_NOINLINE void end_unusual(struct server *s, struct client *c, char tx)
{
	s->copy_in = false;
	if (c->whose)
		whose_on_ready(c, tx);
	if (c->defines)
		s->has_ddl = s->has_definition = true;
	if (s->has_ddl && tx == 'I') {
		answer_note_ddl(s);
		s->has_ddl = s->has_definition = false;
	}
	if (s->has_defaults && tx == 'I')
		note_defaults(s);
	if (!s->replies.n)
		s->forgets = false;
}

/* is_usual: both are, and nothing is to be looked at but times. */
static PGT_INLINE void end_cycle(struct server *s, struct client *c, char tx, bool is_usual)
{
	char before = s->tx;

	if (is_usual) {
		s->tx = tx;
	} else {
		note_tx(s, tx);
		if (c->whose || c->defines || !server_is_usual(s))
			end_unusual(s, c, tx);
	}
	s->batch++;
	if (s->sent)
		conn_give_back(&s->conn, &s->sent);
	count_cycle(s, c, tx, is_usual);
	if (s->pool->times || s->ran.at)
		measure_cycle(s, before, tx);
	s->pool->group->counters.asked_count++;
}

void cycle_end(struct server *s, char tx)
{
	end_cycle(s, s->client, tx, false);
}

void cycle_end_usual(struct server *s, char tx)
{
	end_cycle(s, s->client, tx, true);
}

enum step cycle_on_ready(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	struct client *c = s->client;
	char tx = f->len == 6 ? f->start[FRAME_HEADER_LEN] : 'E';
	bool listens = c->rare->listening;
	struct err e;

	if (head && head->way == REPLY_SWALLOW)
		return on_unseen_ready(s, f, tx);
	if (must_let_cancel_pass(s, tx) || must_have_rest(s) ||
	    (listens && tx == 'I' && listen_before_ready(c) == STEP_AGAIN))
		return hold_ready(s);
	s->holds_ready = false;
	if (head && (head->kind == REPLY_QUERY || head->kind == REPLY_FUNCTION)) {
		answer_pop(s);
		cycle_end_query(s);
	} else if (head && head->kind == REPLY_SYNC) {
		answer_pop(s);
	} else if (s->loose_syncs) {
		/* The COPY failed before the server read the Sync, so that it counts after all. */
		s->loose_syncs--;
		s->skips_to_sync = false;
	} else {
		return answer_broken(s, "the server was ready although nobody asked");
	}
	cycle_end(s, tx);
	if (listens)
		listen_on_ready(c, tx);
	if (s->carried) {
		s->carried = false;
		session_tell(c, s);
	}
	if (c->resets && session_restore(c, s))
		return answer_replaced(s, f);
	answer_pass(s, f);
	answer_made_ones(s);
	if (listens && listen_after_ready(c) == STEP_CLOSED)
		return STEP_CLOSED;
	if (s->tx != 'I' && c->group->set.pool_mode == POOL_MODE_STATEMENT) {
		err_set(&e, "0A000", "transaction blocks not allowed in statement pooling mode");
		client_close(c, &e, e.text);
		return STEP_CLOSED;
	}
	return STEP_DONE;
}
