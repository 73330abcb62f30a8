/* SPDX-License-Identifier: ISC
 *
 * query.c - requests of one message: the text of a Query, a function call.
 *
 * A text is scanned once; what it is decides whether it is answered here, refused, rewritten, or
 * sent as it is, and what has to be kept of it until its answer has come.  How a message gets a
 * server is request.c's.
 *
 * Source: PostgreSQL manual, "Simple Query" and "Function Call".
 */
#include "relay/audit.h"
#include "relay/early.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/promote.h"
#include "relay/request.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "sql/shape.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

static void forget_on_server(struct client *c, uint32_t effects)
{
	statement_drop_unnamed(c);
	/* What comes behind it has to wait until it is known which statements there are. */
	if (request_forgets_statements(effects))
		c->server->forgets = true;
}

/* A statement that the server ends with a ReadyForQuery, in the middle of a batch too: it ends
 * that as a Sync does, and what comes behind waits until it has. */
static inline void expect_ready(struct client *c, struct reply r)
{
	replies_push(&c->server->replies, r);
	c->server->forgets |= c->in_batch;
}

/* subject: what has to be kept of its text, or NULL. */
static enum step send_query(struct client *c, const struct frame *f, struct buf *rewritten,
			    enum reply_note note, void *subject)
{
	request_mark_query(c, request_of(f));
	insight_on_sent(c, frame_body(f));
	expect_ready(c, (struct reply){ .kind = REPLY_QUERY,
					.way = REPLY_PASS,
					.note = subject ? note : NOTE_NONE,
					.query = c->asks,
					.subject = subject });
	if (!buf_len(rewritten))
		return request_pass(c, f);
	msg_put_query(conn_output(&c->server->conn), buf_cstr(rewritten));
	return request_skip(c, f);
}

/* A text that names prepared statements, as the server has to see it. */
static struct naming *rename_query(struct client *c, struct slice text,
				   const struct sql_facts *facts, struct buf *rewritten)
{
	struct buf renamed = { 0 };
	struct sql_env env = gate_env(c);
	struct sql_facts moved;
	struct naming *naming;

	if (buf_len(rewritten)) {
		text = buf_peek(rewritten);
		sql_scan(text, &env, &moved);
		facts = &moved;
	}
	naming = named_rewrite(c, text, facts, &renamed);
	if (buf_len(&renamed)) {
		buf_fini(rewritten);
		*rewritten = renamed;
	}
	/* What comes behind it has to wait until it is known which statements there are. */
	c->server->forgets = true;
	return naming;
}

static enum step run_deallocate(struct client *c, const struct frame *f,
				const struct sql_facts *facts)
{
	named_deallocate(c, facts);
	return request_skip(c, f);
}

/* Nothing is under way that could change what names stand for, or that has to be answered before.
 */
static bool is_quiet(const struct client *c)
{
	return !c->in_batch && !c->begin_failed &&
	       (!c->server || (!c->server->replies.n && c->server->tx != 'E'));
}

/* What names stand for is seen by the answers that are still to come. */
static bool must_wait_for_names(struct client *c)
{
	const struct server *s = c->server;

	c->turn_missed = s && s->replies.ncycles && !s->copy_in;
	return c->turn_missed;
}

/* RESET and DEFAULT go back to what the session began with, in the text itself. */
static struct putback *put_back(struct client *c, struct slice text, const struct sql_facts *facts,
				struct buf *rewritten)
{
	struct putback *back = NULL;

	if (facts->nnames || (facts->flags & SQL_UNCLEAN) ||
	    (facts->effects & SQL_EFFECT_DISCARD_ALL) ||
	    context_is_reset(c->group, facts)) /* a tenant's id is put back by session_restore() */
		return NULL;
	if (buf_len(rewritten))
		text = buf_peek(rewritten);
	/* What code takes back, which may be in the same text, is not seen here. */
	if (putback_rewrite(c, text, &back, rewritten))
		c->resets = facts->effects & SQL_EFFECT_BLOCK;
	return back;
}

/* The node is chosen where the session has none. */
static inline bool has_choice(const struct client *c)
{
	return is_at_start(c) && !c->server && !c->chosen && !c->begin;
}

/* As it came. */
static PGT_INLINE enum step send_as_it_is(struct client *c, const struct frame *f)
{
	request_mark_query(c, request_of(f));
	insight_on_sent(c, frame_body(f));
	expect_ready(c, (struct reply){ .kind = REPLY_QUERY, .way = REPLY_PASS, .query = c->asks });
	return request_pass(c, f);
}

/* Whether a text of the facts that texts of a shape have (sql/shape.h) is nothing to anybody but
 * those who choose its server, and the session is in no state in which it would be. */
static inline bool is_plain(const struct client *c, struct slice text,
			    const struct sql_facts *facts)
{
	return !facts->sequence && !local_may_know(text, facts) && !c->whose && !c->owes_snapshot &&
	       !c->rare->listening && !lane_may_be_said(c) && !admit_is_gated(c) &&
	       !promote_concerns(c) && !audit_is_on(c);
}

/* What run_query() does with such a one.  is_alone: of query_is_usual(); proven: of
 * gate_choose_shape(). */
static PGT_INLINE enum step run_plain(struct client *c, const struct frame *f, struct slice text,
				      const struct sql_facts *facts, bool is_alone,
				      uint64_t *proven)
{
	bool begins = is_alone || has_choice(c);
	enum step step;

	if (begins && !(c->chosen = gate_choose_shape(c, text, facts, proven)))
		return STEP_AGAIN;
	insight_ask(c, text, facts);
	/* There are no limits. */
	step = is_alone ? request_acquire_alone(c, c->chosen)
			: request_acquire(c, MSG_QUERY, c->chosen);
	if (step != STEP_DONE) {
		c->looked_at = c->waiter && !c->begin;
		return request_not_yet(c, step);
	}
	/* It was looked at when its node was chosen. */
	if (!begins || attach_keeps(c))
		fence_look(c, text, facts);
	forget_on_server(c, 0);
	if (c->only_reads)
		early_look(c, text, facts);
	step = send_as_it_is(c, f);
	if (c->group->set.tenant_context_check && context_ends_with(facts, c->server->tx))
		context_check_behind(c);
	return step;
}

/* Of a text that can be looked at. */
static enum step run_query(struct client *c, const struct frame *f, struct slice text,
			   struct sql_facts *facts, struct buf *rewritten)
{
	bool has_names = facts->nnames && statement_is_mapped(c);
	struct naming *naming = NULL;
	struct putback *back = NULL;
	bool is_clamped, touches, resets, ends;
	enum step step;
	struct err e;

	if (c->whose) {
		step = request_on_whose(c, f, whose_query(c, text, facts, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (!lane_hear(c, text, &e))
		return request_refuse_message(c, f, &e);
	if (guard_text(c, text, facts, rewritten, &e) == VERDICT_REFUSED)
		return request_refuse_message(c, f, &e);
	if (local_may_know(text, facts) && local_query(c, text, facts))
		return request_skip(c, f);
	if (admit_is_gated(c) && !gate_may_write(c, text, facts, &e))
		return request_refuse_message(c, f, &e);
	if (promote_concerns(c) && !promote_query(c, text, facts))
		return STEP_AGAIN;
	if (has_names && must_wait_for_names(c))
		return STEP_AGAIN;
	if (c->owes_snapshot && statement_must_know(c, facts->kind))
		return STEP_AGAIN;
	if (has_names && is_quiet(c) && named_is_ours(c, facts))
		return run_deallocate(c, f, facts);
	if (facts->nnames && !named_may_run(c, facts, &e))
		return request_refuse_message(c, f, &e);
	is_clamped = buf_len(rewritten) > 0;
	if (c->rare->listening || facts->kind == SQL_KIND_LISTEN) {
		step = request_on_listen(c, f, listen_query(c, text, facts, rewritten, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (facts->asks_prepared && statement_is_mapped(c))
		request_hide_statements(c, text, rewritten);
	if (has_choice(c) && !(c->chosen = gate_choose(c, text, facts)))
		return STEP_AGAIN;
	if (facts->sequence)
		sequence_expect(c, facts->sequence);
	insight_ask(c, text, facts);
	step = request_get_server(c, f, c->chosen, facts->statements);
	if (step != STEP_DONE) {
		c->looked_at = c->waiter && !c->begin && facts->statements < 2 && !facts->effects &&
			       !facts->sequence && !facts->resets && !buf_len(rewritten) &&
			       !has_names && !c->rare->listening;
		return request_not_yet(c, step);
	}
	fence_look(c, text, facts);
	touches = facts->effects || facts->sequence || facts->sets_path || facts->sets_unnamed;
	if (touches && !pins_allow(c, facts, &e))
		return request_refuse_message(c, f, &e);
	if (!is_at_start(c))
		admit_charge(c, facts->statements);
	resets = c->resets;
	if (touches)
		pins_note(c, facts, text);
	if (facts->resets && c->base->n && !resets)
		back = put_back(c, text, facts, rewritten);
	if (is_clamped)
		guard_note_clamp(c);
	if (has_names)
		naming = rename_query(c, text, facts, rewritten);
	if (c->owes_snapshot && statement_minds_snapshot(facts->kind))
		statement_take_snapshot(c);
	forget_on_server(c, facts->effects);
	if (c->only_reads)
		early_look(c, text, facts);
	ends = c->group->set.tenant_context_check && context_ends_with(facts, c->server->tx);
	answer_note_many(c->server, facts->statements);
	audit_query(c, text, facts);
	step = back ? send_query(c, f, rewritten, NOTE_PUTBACK, back)
		    : send_query(c, f, rewritten, NOTE_TEXT, naming);
	if (ends)
		context_check_behind(c);
	if (c->rare->listening)
		listen_on_query_sent(c, text, facts);
	return step;
}

/* The same; what has to be another text is made in a buffer. */
static PGT_NOINLINE enum step run_rewriting(struct client *c, const struct frame *f,
					    struct slice text, struct sql_facts *facts)
{
	struct buf rewritten = { 0 };
	enum step step = run_query(c, f, text, facts, &rewritten);

	buf_fini(&rewritten);
	return step;
}

static PGT_NOINLINE enum step on_long_query(struct client *c, const struct frame *f)
{
	enum step step;
	struct err e;

	if (admit_is_gated(c) && !gate_may_write_unseen(c, &e))
		return request_refuse_message(c, f, &e);
	promote_unseen(c, true);
	step = request_get_server(c, f, gate_primary(c), 1);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	fence_on_unseen(c);
	insight_ask_unseen(c);
	if (gate_must_look(c) && !request_watch_long_text(c, f))
		return request_found_in_long_text(c);
	/* One is paid for; how many there are, the server tells. */
	c->counts_tags = admit_is_gated(c);
	c->prepaid = !is_at_start(c) ? 0 : c->counts_tags;
	forget_on_server(c, 0);
	if (audit_is_on(c))
		audit_say_unseen(c, f->len);
	answer_note_many(c->server, UINT32_MAX);
	c->only_reads = false;
	return send_as_it_is(c, f);
}

/* Of a Query that is here as a whole, and ends with its NUL. */
static struct slice frame_text(const struct frame *f)
{
	struct slice text = frame_body(f);

	text.n = strnlen(text.p, text.n);
	return text;
}

/* A text that was looked at, decided on and found harmless before it had to wait for its server. */
static inline enum step run_waited_query(struct client *c, const struct frame *f)
{
	enum step step = request_go_ahead(c, MSG_QUERY);

	if (step != STEP_DONE)
		return step;
	if (audit_is_on(c))
		audit_look(c, frame_text(f));
	forget_on_server(c, 0);
	(void)!send_as_it_is(c, f);
	if (c->group->set.tenant_context_check)
		context_check_behind(c);
	return STEP_DONE;
}

enum step query_on_query(struct client *c, const struct frame *f)
{
	struct sql_shapes *shapes = relay_of(c)->shapes;
	struct sql_facts facts;
	bool has_shape;
	bool looked_at = c->looked_at;
	struct sql_env env;
	struct slice text;
	struct err e;

	c->looked_at = false; /* whatever becomes of it now, the next one was not */
	if (c->host->config->global.disable_pqexec)
		return request_protocol_error(c, "simple queries are disabled (disable_pqexec)");
	if (looked_at && c->server && !c->server->has_notified)
		return run_waited_query(c, f);
	if (request_must_wait_its_turn(c))
		return STEP_AGAIN;
	if (!request_may_follow_in_batch(c, &e))
		return request_refuse_message(c, f, &e);
	if (!gate_must_look(c) || f->len > HOLD_MAX)
		return on_long_query(c, f);
	if (!frame_is_whole(f))
		return STEP_AGAIN;
	text = frame_body(f);
	if (!text.n || text.p[text.n - 1] != '\0')
		return request_protocol_error(c, "invalid Query message");
	text.n--;
	has_shape = gate_expects(c, text, &facts);
	if (!has_shape) {
		env = gate_env(c);
		text.n = strlen(text.p);
		has_shape = sql_shapes_scan(shapes, &c->last_shape, c->env_key, text, &env, &facts);
	}
	if (has_shape && is_plain(c, text, &facts))
		return run_plain(c, f, text, &facts, false, sql_shapes_note(shapes, c->last_shape));
	return run_rewriting(c, f, text, &facts);
}

static inline struct frame query_frame(struct slice message)
{
	return (struct frame){ MSG_QUERY, message.p, message.n, message.n };
}

bool query_is_usual(struct client *c, struct slice message)
{
	struct frame f = query_frame(message);
	struct slice text = frame_body(&f);
	uint16_t last = c->last_shape;
	struct sql_facts facts;
	uint64_t *note;

	if (!gate_must_look(c) || !text.n || text.p[text.n - 1] != '\0')
		return false;
	text.n--;
	if (!gate_expects(c, text, &facts))
		return false;
	if (!is_plain(c, text, &facts)) {
		c->last_shape = last; /* query_on_query() expects it anew */
		return false;
	}
	c->looked_at = false;
	note = sql_shapes_note(relay_of(c)->shapes, c->last_shape);
	request_end_query(c, run_plain(c, &f, text, &facts, true, note), message.n);
	return true;
}

bool query_was_looked_at(struct client *c, struct slice message)
{
	struct frame f = query_frame(message);

	c->looked_at = false;
	request_end_query(c, run_waited_query(c, &f), message.n);
	return true;
}

enum step query_on_function_call(struct client *c, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	uint32_t oid = read_u32(&r);
	enum step step;
	struct err e;

	if (r.failed)
		return frame_is_whole(f) ? request_protocol_error(c, "invalid FunctionCall message")
					 : STEP_AGAIN;
	if (request_must_wait_its_turn(c))
		return STEP_AGAIN;
	if (!request_may_follow_in_batch(c, &e) || guard_call(c, oid, &e) == VERDICT_REFUSED ||
	    (admit_is_gated(c) && !gate_may_write_unseen(c, &e)))
		return request_refuse_message(c, f, &e);
	promote_unseen(c, !pins_is_harmless_call(oid));
	step = request_get_server(c, f, gate_primary(c), 1);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	pins_note_call(c, oid);
	fence_on_unseen(c);
	if (!is_at_start(c))
		admit_charge(c, 1);
	c->only_reads = false;
	request_mark_query(c, request_of(f));
	expect_ready(c, (struct reply){ .kind = REPLY_FUNCTION, .way = REPLY_PASS });
	return request_pass(c, f);
}
