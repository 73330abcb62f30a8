/* SPDX-License-Identifier: ISC
 *
 * request.c - what a client sends, message by message, to the server that it has or gets.
 *
 * Each message has one row that says who handles it and whether it may come while an error waits
 * for its Sync.  A handler either passes the message on and notes what will be answered, or leaves
 * it where it is (STEP_AGAIN) until there are more bytes, a server, or a token.  Handlers may run
 * again for the same message, so they change nothing before they are sure.
 *
 * Source: PostgreSQL manual, "Message Flow".
 */
#include "base/log.h"
#include "base/mem.h"
#include "relay/batch.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/replan.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "sql/stream_guard.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>

/* ---- small steps -------------------------------------------------------------------------------
 */

/* The message was handled here; what of it has not come yet is thrown away when it does. */
static enum step skip(struct client *c, const struct frame *f)
{
	conn_consume(&c->conn, f->have);
	c->stream_left = f->len - f->have;
	c->stream_discard = true;
	return STEP_DONE;
}

/* Passes on what is here of the message; the rest follows as it comes. */
static enum step pass(struct client *c, const struct frame *f)
{
	conn_send(&c->server->conn, f->start, f->have);
	conn_consume(&c->conn, f->have);
	c->stream_left = f->len - f->have;
	c->stream_discard = false;
	return STEP_DONE;
}

static void expect(struct client *c, enum reply_kind kind)
{
	replies_push(&c->server->replies,
		     (struct reply){ .kind = (uint8_t)kind, .way = REPLY_PASS });
}

/* Of the statement that was asked for last. */
static void expect_bind(struct client *c)
{
	struct server *s = c->server;

	replies_push(&s->replies,
		     (struct reply){ .kind = REPLY_BIND, .way = REPLY_PASS, .serial = s->bound });
}

static enum step protocol_error(struct client *c, const char *text)
{
	struct err e;

	err_set(&e, "08P01", "%s", text);
	client_close(c, &e, text);
	return STEP_CLOSED;
}

/* A request that may start a transaction is decided on for itself (limits, route), so it has to
 * wait until the one before has been answered.  Without either, pipelines just flow. */
static bool must_wait_its_turn(struct client *c)
{
	const struct server *s = c->server;

	if (!s || !s->replies.n || c->in_batch)
		return false;
	c->turn_missed = admit_is_gated(c) || (gate_has_choice(c) && !c->pins) ||
			 (c->whose && whose_is_pending(c));
	return c->turn_missed;
}

/* ---- refusals -----------------------------------------------------------------------------------
 */

/* Makes the server fail in our place, so that the transaction is as failed as the client is told.
 */
static void refuse_on_server(struct client *c, uint8_t type, const struct err *e)
{
	struct server *s = c->server;
	struct buf *out = conn_output(&s->conn);
	struct err *kept = xnew(struct err);
	struct reply r = {
		.kind = REPLY_QUERY, .way = REPLY_PASS, .note = NOTE_REFUSED, .subject = kept
	};

	*kept = *e;
	if (type == MSG_QUERY || type == MSG_FUNCTION_CALL) {
		msg_put_query(out, REFUSED_TEXT);
	} else {
		msg_put_parse(out, "", REFUSED_TEXT);
		r.kind = REPLY_PARSE;
		c->in_batch = true;
	}
	s->unnamed_id = UNNAMED_UNKNOWN;
	replies_push(&s->replies, r);
}

static void refuse_here(struct client *c, uint8_t type, const struct err *e)
{
	msg_put_error(conn_output(&c->conn), "ERROR", e);
	if (c->begin)
		local_fail(c);
	if (type != MSG_QUERY && type != MSG_FUNCTION_CALL) {
		c->skips_to_sync = true;
		return;
	}
	if (c->whose && !c->begin)
		whose_end(c, false);
	local_ready(c);
}

void request_refuse(struct client *c, uint8_t type, const struct err *e)
{
	if (c->host->config->global.log_pooler_errors)
		log_info("C-%llu: %s: %s", (unsigned long long)c->id, c->user, e->text);
	if (c->server && (!is_at_start(c) || c->server->carrying)) {
		refuse_on_server(c, type, e);
		return;
	}
	refuse_here(c, type, e);
	/* It has got a server for nothing. */
	if (c->server)
		attach_settle(c->server);
}

static enum step refuse(struct client *c, const struct frame *f, const struct err *e)
{
	request_refuse(c, f->type, e);
	if (!c->server) {
		c->chosen = NULL;
		admit_leave(c);
	}
	c->prepaid = 0;
	return skip(c, f);
}

/* ---- a server for the request -------------------------------------------------------------------
 */

/* STEP_DONE: c->server is there, alone with the client's messages, and has been sent the BEGIN that
 * waited for one of this type. */
static inline enum step acquire(struct client *c, uint8_t type, struct pool *pool)
{
	enum step step = STEP_DONE;

	if (!c->server) {
		if (!c->begin)
			c->chosen = pool;
		else if (!c->chosen)
			c->chosen = local_pool(c);
		c->request_at = relay_now(c);
		step = attach_acquire(c, c->chosen);
	}
	if (step == STEP_DONE && (c->listening || c->server->has_notified))
		step = listen_take_server(c);
	if (step == STEP_DONE && c->server->carry_due)
		carry_send(c);
	if (step == STEP_DONE && c->begin)
		local_send_begin(c, type);
	return step;
}

static bool knows_whose(const struct client *c, const struct frame *f, struct err *e)
{
	if (f->type != MSG_QUERY)
		c->whose->is_apart = false;
	return whose_may_run(c, e);
}

/* The same, within the limits.  n: statements that the request costs; a BEGIN that waits is the one
 * that is asked for, and they are within its transaction. */
static enum step get_server(struct client *c, const struct frame *f, struct pool *pool, unsigned n)
{
	enum verdict verdict;
	struct err e;

	if (c->whose && is_at_start(c) && !knows_whose(c, f, &e)) {
		refuse(c, f, &e);
		return STEP_CLOSED;
	}
	if (admit_is_gated(c) && is_at_start(c)) {
		verdict = admit_transaction(c, c->begin ? 1 : n, &e);
		if (verdict == VERDICT_REFUSED) {
			refuse(c, f, &e);
			return STEP_CLOSED;
		}
		if (verdict == VERDICT_WAIT)
			return STEP_AGAIN;
	}
	return acquire(c, f->type, pool);
}

/* A BEGIN has waited long enough for its first statement.  Over a limit it waits on, and its first
 * statement is told. */
static PGT_NOINLINE void send_begin_alone(struct client *c)
{
	struct err e;

	if (admit_is_gated(c))
		gate_begin(c);
	switch (admit_transaction(c, 1, &e)) {
	case VERDICT_PASS:
		/* Whatever comes of it, it comes by itself. */
		(void)!acquire(c, MSG_QUERY, NULL);
		break;
	case VERDICT_REFUSED:
		c->begin_due = false;
		break;
	case VERDICT_WAIT:
		break;
	}
}

/* What get_server() said, for a handler: after a refusal the message has been dealt with. */
static enum step not_yet(struct client *c, enum step step)
{
	return step == STEP_CLOSED && c->phase == CLIENT_READY ? STEP_DONE : step;
}

static void mark_query(struct client *c)
{
	struct server *s = c->server;
	usec_t now = relay_now(c);

	PGT_ASSERT(!s->carry_due && s->context == c->tenant); /* I1 */
	s->checked = false;
	if (s->replies.n > s->carrying)
		return;
	s->query_at = now;
	if (s->tx == 'I')
		s->xact_at = now;
}

/* Behind what ends its transaction or takes back what is guarded, a statement in the same batch
 * would run as nobody knows whom.  False: *e. */
static bool may_follow_in_batch(struct client *c, struct err *e)
{
	if (!c->in_batch)
		return true;
	if (c->resets && !gate_allow_behind_reset(c, e))
		return false;
	return !c->whose || whose_may_follow(c, e);
}

/* ---- texts too long to be looked at ---------------------------------------------------------
 */

/* Nothing is known of it, so the server is asked afterwards what it has left, and a tenant's is
 * watched for anything that could change its id.  False: it was found already. */
static bool watch_long_text(struct client *c, const struct frame *f)
{
	pins_note_unseen(c);
	c->env_unsure = true;
	if (!c->group->has_tenants)
		return true;
	c->guard = xnew(struct sql_stream_guard);
	sql_stream_guard_init(c->guard, c->group->set.tenant_setting);
	return !sql_stream_guard_feed(c->guard, slice_of(f->start, f->have));
}

static void end_watch(struct client *c)
{
	free(c->guard);
	c->guard = NULL;
}

/* The server has not run it, because it has not got all of it: the connection goes before it does.
 */
static enum step found_in_long_text(struct client *c)
{
	struct err e;

	end_watch(c);
	gate_count_refused(c);
	err_set(
	    &e, "42501",
	    "permission denied: a statement too long to be checked spells the tenant's setting");
	client_close(c, &e, e.text);
	return STEP_CLOSED;
}

/* The rest of a message of which the beginning has been dealt with. */
static enum step stream(struct client *c, struct slice in)
{
	size_t n = in.n < c->stream_left ? in.n : c->stream_left;
	bool last = n == c->stream_left;

	if (!c->stream_discard && c->guard) {
		if (sql_stream_guard_feed(c->guard, slice_of(in.p, n)))
			return found_in_long_text(c);
		if (last)
			end_watch(c);
		/* It may change how the next text has to be read, so that waits for the answer. */
		if (last && c->server && !c->in_batch)
			c->server->forgets = true;
	}
	if (!c->stream_discard && c->server)
		conn_send(&c->server->conn, in.p, n);
	conn_consume(&c->conn, n);
	c->stream_left -= n;
	/* Of data that the server had already refused. */
	if (last && c->server && !c->server->replies.n)
		attach_settle(c->server);
	return STEP_DONE;
}

/* ---- simple queries -------------------------------------------------------------------------
 */

static bool forgets_statements(uint32_t effects)
{
	return effects & (SQL_EFFECT_DISCARD_ALL | SQL_EFFECT_DEALLOCATE_ALL);
}

static void forget_on_server(struct client *c, uint32_t effects)
{
	statement_drop_unnamed(c);
	/* What comes behind it has to wait until it is known which statements there are. */
	if (forgets_statements(effects))
		c->server->forgets = true;
}

/* A statement that the server ends with a ReadyForQuery, in the middle of a batch too: it ends
 * that as a Sync does, and what comes behind waits until it has. */
static void expect_ready(struct client *c, const struct reply *r)
{
	replies_push(&c->server->replies, *r);
	c->server->forgets |= c->in_batch;
}

/* subject: what has to be kept of its text, or NULL. */
static enum step send_query(struct client *c, const struct frame *f, struct buf *rewritten,
			    enum reply_note note, void *subject)
{
	mark_query(c);
	expect_ready(c, &(struct reply){ .kind = REPLY_QUERY,
					 .way = REPLY_PASS,
					 .note = subject ? note : NOTE_NONE,
					 .subject = subject });
	if (!buf_len(rewritten))
		return pass(c, f);
	msg_put_query(conn_output(&c->server->conn), buf_cstr(rewritten));
	return skip(c, f);
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
	return skip(c, f);
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

/* What is to be done with a message of a client that listens, or would; STEP_CLOSED: what is done
 * with any other. */
static enum step on_listen(struct client *c, const struct frame *f, enum listen_way way,
			   const struct err *e)
{
	switch (way) {
	case LISTEN_WAITS:
		return STEP_AGAIN;
	case LISTEN_ANSWERED:
		return skip(c, f);
	case LISTEN_REFUSED:
		return refuse(c, f, e);
	case LISTEN_PASSES:
		break;
	}
	return STEP_CLOSED;
}

/* The same of a client that may say whose its statements are. */
static enum step on_whose(struct client *c, const struct frame *f, enum whose_way way,
			  const struct err *e)
{
	switch (way) {
	case WHOSE_WAITS:
		return STEP_AGAIN;
	case WHOSE_ANSWERED:
		return skip(c, f);
	case WHOSE_REFUSED:
		return refuse(c, f, e);
	case WHOSE_PASSES:
		break;
	}
	return STEP_CLOSED;
}

/* What a text asks of prepared statements is answered with the client's own. */
static void hide_statements(struct client *c, struct slice text, struct buf *rewritten)
{
	struct buf out = { 0 };

	prepared_view_rewrite(c, buf_len(rewritten) ? buf_peek(rewritten) : text, &out);
	if (buf_len(&out)) {
		buf_fini(rewritten);
		*rewritten = out;
	}
}

/* RESET and DEFAULT go back to what the session began with, in the text itself. */
static struct putback *put_back(struct client *c, struct slice text, const struct sql_facts *facts,
				struct buf *rewritten)
{
	struct putback *back = NULL;

	if (facts->nnames || c->listening || (facts->flags & SQL_UNCLEAN) ||
	    (facts->effects & (SQL_EFFECT_BLOCK | SQL_EFFECT_DISCARD_ALL)) ||
	    context_is_reset(c->group, facts)) /* a tenant's id is put back by session_restore() */
		return NULL;
	if (buf_len(rewritten))
		text = buf_peek(rewritten);
	/* The tenant's context is no part of the text, and is brought back behind it. */
	if (putback_rewrite(c, text, &back, rewritten))
		c->resets = context_is_reset(c->group, facts);
	return back;
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
		step = on_whose(c, f, whose_query(c, text, facts, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (gate_guard(c, text, facts, rewritten, &e) == VERDICT_REFUSED)
		return refuse(c, f, &e);
	if (local_may_know(text, facts) && local_query(c, text, facts))
		return skip(c, f);
	if (admit_is_gated(c) && !gate_may_write(c, text, facts, &e))
		return refuse(c, f, &e);
	if (has_names && must_wait_for_names(c))
		return STEP_AGAIN;
	if (has_names && is_quiet(c) && named_is_ours(c, facts))
		return run_deallocate(c, f, facts);
	if (facts->nnames && !named_may_run(c, facts, &e))
		return refuse(c, f, &e);
	is_clamped = buf_len(rewritten) > 0;
	if (c->listening || facts->kind == SQL_KIND_LISTEN) {
		step = on_listen(c, f, listen_query(c, text, facts, rewritten, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (facts->asks_prepared && statement_is_mapped(c))
		hide_statements(c, text, rewritten);
	if (is_at_start(c) && !c->server && !c->chosen && !c->begin)
		c->chosen = gate_choose(c, text, facts);
	if (facts->sequence)
		sequence_expect(c, facts->sequence);
	step = get_server(c, f, c->chosen, facts->statements);
	if (step != STEP_DONE) {
		c->looked_at = c->waiter.pool && !c->begin && !facts->effects && !facts->sequence &&
			       !facts->resets && !buf_len(rewritten) && !has_names && !c->listening;
		return not_yet(c, step);
	}
	touches = facts->effects || facts->sequence;
	if (touches && !pins_allow(c, facts, &e))
		return refuse(c, f, &e);
	if (!is_at_start(c))
		admit_charge(c, facts->statements);
	resets = c->resets;
	if (touches)
		pins_note(c, facts, text);
	if (facts->resets && c->base->n && !resets)
		back = put_back(c, text, facts, rewritten);
	if (is_clamped)
		gate_note_clamp(c);
	if (has_names)
		naming = rename_query(c, text, facts, rewritten);
	forget_on_server(c, facts->effects);
	ends = c->group->set.tenant_context_check && context_ends_with(facts, c->server->tx);
	step = back ? send_query(c, f, rewritten, NOTE_PUTBACK, back)
		    : send_query(c, f, rewritten, NOTE_TEXT, naming);
	if (ends)
		context_check_behind(c);
	if (c->listening)
		listen_on_query_sent(c, text, facts);
	return step;
}

static enum step on_long_query(struct client *c, const struct frame *f)
{
	struct buf nothing = { 0 };
	enum step step;
	struct err e;

	if (admit_is_gated(c) && !gate_may_write_unseen(c, &e))
		return refuse(c, f, &e);
	step = get_server(c, f, gate_primary(c), 1);
	if (step != STEP_DONE)
		return not_yet(c, step);
	if (gate_must_look(c) && !watch_long_text(c, f))
		return found_in_long_text(c);
	/* One is paid for; how many there are, the server tells. */
	c->counts_tags = admit_is_gated(c);
	c->prepaid = !is_at_start(c) ? 0 : c->counts_tags;
	forget_on_server(c, 0);
	return send_query(c, f, &nothing, NOTE_NONE, NULL);
}

/* A text that was looked at, decided on and found harmless before it had to wait for its server. */
static enum step run_waited_query(struct client *c, const struct frame *f)
{
	struct buf nothing = { 0 };

	c->looked_at = false;
	if (c->server->carry_due)
		carry_send(c);
	forget_on_server(c, 0);
	(void)!send_query(c, f, &nothing, NOTE_NONE, NULL);
	if (c->group->set.tenant_context_check)
		context_check_behind(c);
	return STEP_DONE;
}

static enum step on_query(struct client *c, const struct frame *f)
{
	struct buf rewritten = { 0 };
	struct sql_facts facts;
	struct sql_env env;
	struct slice text;
	enum step step;
	struct err e;

	if (c->host->config->global.disable_pqexec)
		return protocol_error(c, "simple queries are disabled (disable_pqexec)");
	if (c->looked_at && c->server && !c->server->has_notified)
		return run_waited_query(c, f);
	if (must_wait_its_turn(c))
		return STEP_AGAIN;
	if (!may_follow_in_batch(c, &e))
		return refuse(c, f, &e);
	if (!gate_must_look(c) || f->len > HOLD_MAX)
		return on_long_query(c, f);
	if (!frame_is_whole(f))
		return STEP_AGAIN;
	text = frame_body(f);
	if (!text.n || text.p[text.n - 1] != '\0')
		return protocol_error(c, "invalid Query message");
	text.n = strlen(text.p);
	env = gate_env(c);
	sql_scan(text, &env, &facts);
	step = run_query(c, f, text, &facts, &rewritten);
	buf_fini(&rewritten);
	return step;
}

static enum step on_function_call(struct client *c, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	uint32_t oid = read_u32(&r);
	enum step step;
	struct err e;

	if (r.failed)
		return frame_is_whole(f) ? protocol_error(c, "invalid FunctionCall message")
					 : STEP_AGAIN;
	if (must_wait_its_turn(c))
		return STEP_AGAIN;
	if (!may_follow_in_batch(c, &e) || gate_guard_call(c, oid, &e) == VERDICT_REFUSED ||
	    (admit_is_gated(c) && !gate_may_write_unseen(c, &e)))
		return refuse(c, f, &e);
	step = get_server(c, f, gate_primary(c), 1);
	if (step != STEP_DONE)
		return not_yet(c, step);
	gate_note_call(c, oid);
	if (!is_at_start(c))
		admit_charge(c, 1);
	mark_query(c);
	expect_ready(c, &(struct reply){ .kind = REPLY_FUNCTION, .way = REPLY_PASS });
	return pass(c, f);
}

/* ---- the extended protocol ------------------------------------------------------------------
 */

/* The first message of a batch: what the batch costs and where it may go is read ahead, up to its
 * Sync, as far as anything depends on it. */
static enum step start_batch(struct client *c, const struct frame *f)
{
	struct batch_view view = { .complete = true };

	if (must_wait_its_turn(c))
		return STEP_AGAIN;
	if (admit_is_gated(c))
		gate_begin(c);
	/* A BEGIN that waits has said where it goes, and its transaction is not stopped. */
	if (is_at_start(c) && !c->begin &&
	    (admit_is_gated(c) || (!c->server && gate_has_choice(c)))) {
		batch_look(c, conn_input(&c->conn), &view);
		if (!view.complete && !view.flushed && conn_input(&c->conn).n < WAITING_INPUT_MAX)
			return STEP_AGAIN;
		if (!c->server && !c->chosen)
			c->chosen = view.replica_will_do ? gate_replica(c) : gate_primary(c);
		if (!(c->xact & XACT_ADMITTED))
			c->prepaid = view.executes;
	}
	return get_server(c, f, c->chosen ? c->chosen : gate_primary(c), view.executes);
}

/* A statement that a pipeline has prepared, or not, some batches before: it has to be seen. */
static bool must_settle(struct client *c, struct slice name)
{
	if (!statement_is_mapped(c) || statement_is_settled(c, name))
		return false;
	c->turn_missed = true;
	return true;
}

/* STEP_DONE: the message may go to c->server as part of a batch. */
static enum step join_batch(struct client *c, const struct frame *f)
{
	enum step step = c->in_batch && c->server ? STEP_DONE : start_batch(c, f);

	if (step != STEP_DONE)
		return step;
	mark_query(c);
	c->in_batch = true;
	return STEP_DONE;
}

/* A Parse that is too long to be kept. */
static enum step on_long_parse(struct client *c, const struct frame *f)
{
	enum step step = join_batch(c, f);
	struct err e;

	if (step != STEP_DONE)
		return not_yet(c, step);
	if ((c->xact & XACT_READS) && !gate_may_write_unseen(c, &e))
		return refuse(c, f, &e);
	if (gate_must_look(c) && !watch_long_text(c, f))
		return found_in_long_text(c);
	c->server->unnamed_id = UNNAMED_UNKNOWN;
	expect(c, REPLY_PARSE);
	return pass(c, f);
}

/* Parse with nothing to be kept in mind: session pooling. */
static enum step parse_unmapped(struct client *c, const struct frame *f, struct slice name,
				struct slice text, const struct sql_facts *facts,
				struct buf *rewritten, struct slice types)
{
	size_t m;

	if (gate_must_look(c)) {
		pins_note(c, facts, text);
		if (name.n)
			pins_note_unmapped(c, text);
	}
	expect(c, REPLY_PARSE);
	if (!buf_len(rewritten))
		return pass(c, f);
	gate_note_clamp(c);
	m = msg_begin(conn_output(&c->server->conn), MSG_PARSE);
	buf_put_slice(conn_output(&c->server->conn), name);
	buf_put_u8(conn_output(&c->server->conn), 0);
	buf_put_cstr(conn_output(&c->server->conn), buf_cstr(rewritten));
	buf_put_slice(conn_output(&c->server->conn), types);
	msg_end(conn_output(&c->server->conn), m);
	return skip(c, f);
}

/* A text that is not known yet: false when it was dealt with here. */
static bool look_at_parse(struct client *c, const struct frame *f, struct slice text,
			  struct sql_facts *facts, struct buf *rewritten, enum step *step)
{
	struct sql_env env = gate_env(c);
	struct err e;

	if (!gate_must_look(c))
		return true;
	/* A statement is kept for all clients and for later, when there may be a choice. */
	env.wants_fingerprint = true;
	sql_scan(text, &env, facts);
	if (gate_guard(c, text, facts, rewritten, &e) != VERDICT_REFUSED)
		return true;
	*step = refuse(c, f, &e);
	return false;
}

static enum step run_parse(struct client *c, const struct frame *f, struct slice name,
			   struct slice text, struct slice types, struct buf *rewritten)
{
	struct slice body = slice_of(text.p, text.n + 1 + types.n);
	bool is_mapped = statement_is_mapped(c);
	struct statement *known = is_mapped ? statement_lookup(c, body) : NULL;
	struct sql_facts facts;
	bool is_clamped;
	enum step step;
	struct err e;

	if (c->whose && is_mapped) {
		step = on_whose(c, f, whose_parse(c, name, body, known, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	facts.effects = facts.flags = 0;
	facts.kind = SQL_KIND_OTHER;
	facts.asks_prepared = facts.resets = false;
	/* It is another one for each of those who began with other settings. */
	if (known && known->resets && c->base->n)
		known = NULL;
	facts.sequence = known ? known->sequence : 0;
	if ((!known || known->is_guarded) && !look_at_parse(c, f, text, &facts, rewritten, &step))
		return step;
	is_clamped = buf_len(rewritten) > 0;
	if (is_mapped && (c->listening || facts.kind == SQL_KIND_LISTEN)) {
		step = on_listen(c, f, listen_parse(c, name, text, &facts, rewritten, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (name.n && is_mapped && !statement_has_room(c, body.n, known, &e))
		return refuse(c, f, &e);
	if (facts.asks_prepared && is_mapped)
		hide_statements(c, text, rewritten);
	if (facts.resets && c->base->n && is_mapped && !buf_len(rewritten) &&
	    putback_rewrite(c, text, NULL, rewritten))
		facts.resets = context_is_reset(c->group, &facts);
	if (buf_len(rewritten))
		known = NULL;
	if (!c->server && known && !c->begin_failed && statement_parse_here(c, name, known))
		return skip(c, f);
	if (facts.sequence)
		sequence_expect(c, facts.sequence);
	/* Only a server may have had it, and be dropped for another. */
	if (known)
		statement_ref(known);
	step = join_batch(c, f);
	if (step != STEP_DONE) {
		statement_unref(known);
		return not_yet(c, step);
	}
	if ((c->xact & XACT_READS) && !is_mapped) {
		if (!gate_may_write(c, text, &facts, &e))
			return refuse(c, f, &e);
		c->unnamed_is_read |= !name.n;
	}
	if (!is_mapped)
		return parse_unmapped(c, f, name, text, &facts, rewritten, types);
	if (is_clamped)
		gate_note_clamp(c);
	if (buf_len(rewritten)) {
		buf_put_u8(rewritten, 0);
		buf_put_slice(rewritten, types);
		body = buf_peek(rewritten);
	}
	statement_parse(c, name, body, known, &facts);
	statement_unref(known);
	return skip(c, f);
}

static enum step on_parse(struct client *c, const struct frame *f)
{
	struct buf rewritten = { 0 };
	struct slice name, text;
	struct reader r;
	enum step step;

	if (f->len > HOLD_MAX)
		return on_long_parse(c, f);
	if (!frame_is_whole(f))
		return STEP_AGAIN;
	r = reader_of(frame_body(f));
	name = read_cstr(&r);
	text = read_cstr(&r);
	if (r.failed)
		return protocol_error(c, "invalid Parse message");
	if (name.n && must_settle(c, name))
		return STEP_AGAIN;
	step = run_parse(c, f, name, text, slice_of(r.p, read_left(&r)), &rewritten);
	buf_fini(&rewritten);
	return step;
}

/* A message whose statement's name stands at name.p; everything else stays as it is. */
static enum step pass_renamed(struct client *c, const struct frame *f, struct slice name)
{
	struct buf odd = { 0 };
	struct slice there = statement_require(c, name, &odd);
	struct buf *out = conn_output(&c->server->conn);
	size_t before = (size_t)(name.p - f->start), after = before + name.n + 1;
	uint32_t len = htonl((uint32_t)(f->len - 1 - name.n - 1 + there.n));
	char *p = buf_reserve(out, f->have + there.n);

	memcpy(p, f->start, before);
	memcpy(p + 1, &len, sizeof(len));
	memcpy(p + before, there.p, there.n);
	memcpy(p + before + there.n, f->start + after, f->have - after);
	buf_produced(out, f->have - name.n - 1 + there.n);
	buf_fini(&odd);
	conn_consume(&c->conn, f->have);
	c->stream_left = f->len - f->have;
	c->stream_discard = false;
	return STEP_DONE;
}

/* Bind with parameters that set something guarded: false when it was dealt with here. */
static bool guard_bind(struct client *c, const struct frame *f, const struct statement *st,
		       struct slice name, struct buf *rewritten, enum step *step)
{
	struct slice body = frame_body(f);
	size_t at = (size_t)(name.p + name.n + 1 - body.p);
	struct err e;

	if (!frame_is_whole(f)) {
		*step = f->len > HOLD_MAX ? protocol_error(c, "Bind message too long to be checked")
					  : STEP_AGAIN;
		return false;
	}
	if (gate_guard_bind(c, st, slice_of(body.p + at, body.n - at), rewritten, &e) ==
	    VERDICT_REFUSED) {
		*step = refuse(c, f, &e);
		return false;
	}
	return true;
}

/* Bind of a statement whose result has changed: false when it was dealt with here. */
static bool goes_by_result(struct client *c, const struct frame *f, struct slice portal,
			   struct slice name, enum step *step)
{
	struct err e;

	switch (replan_on_bind(c, f, portal, name, &e)) {
	case VERDICT_REFUSED:
		*step = refuse(c, f, &e);
		return false;
	case VERDICT_WAIT:
		*step = STEP_AGAIN;
		return false;
	default:
		return true;
	}
}

/* A Bind with other parameters than the client's. */
static enum step send_rewritten_bind(struct client *c, const struct frame *f, struct slice portal,
				     struct slice name, struct buf *rewritten)
{
	struct buf odd = { 0 }, *out;
	struct slice there = statement_require(c, name, &odd);
	size_t m;

	gate_note_clamp(c);
	out = conn_output(&c->server->conn);
	m = msg_begin(out, MSG_BIND);
	buf_put_slice(out, portal);
	buf_put_u8(out, 0);
	buf_put_slice(out, there);
	buf_put_slice(out, buf_peek(rewritten));
	msg_end(out, m);
	buf_fini(&odd);
	return skip(c, f);
}

/* Bind of a client that may say whose its statements are: false when it was dealt with here. */
static bool says_whose(struct client *c, const struct frame *f, struct slice portal,
		       struct slice name, enum step *step)
{
	struct slice body = frame_body(f);
	size_t at = (size_t)(name.p + name.n + 1 - body.p);
	struct err e;

	*step = STEP_AGAIN;
	if (!frame_is_whole(f) && f->len <= HOLD_MAX)
		return false;
	*step =
	    on_whose(c, f, whose_bind(c, portal, name, slice_of(body.p + at, body.n - at), &e), &e);
	return *step == STEP_CLOSED;
}

/* Whether READONLY lets the statement run.  Where names are not mapped, only the unnamed one is
 * known, if it was parsed in this transaction. */
static bool may_bind(struct client *c, const struct statement *st, struct slice name, struct err *e)
{
	struct sql_facts facts;

	if (!st)
		return (!name.n && c->unnamed_is_read) || gate_may_write_unseen(c, e);
	statement_facts(st, &facts);
	return gate_may_write(c, statement_text(st), &facts, e);
}

static enum step run_bind(struct client *c, const struct frame *f, struct slice portal,
			  struct slice name, struct buf *rewritten)
{
	struct statement *st = statement_is_mapped(c) ? statement_find(c, name) : NULL;
	struct sql_facts facts;
	bool had_begin;
	enum step step;
	struct err e;

	if (c->whose && !says_whose(c, f, portal, name, &step))
		return step;
	if (st && st->meaning != gate_meaning(c))
		statement_look_again(c, st);
	if (c->in_batch && c->resets && !gate_allow_behind_reset(c, &e))
		return refuse(c, f, &e);
	if (st && st->guards_params && !guard_bind(c, f, st, name, rewritten, &step))
		return step;
	if (st && st->changes && !goes_by_result(c, f, portal, name, &step))
		return step;
	if (st && st->sequence)
		sequence_expect(c, st->sequence);
	had_begin = c->begin != NULL;
	step = join_batch(c, f);
	if (step != STEP_DONE)
		return not_yet(c, step);
	/* A BEGIN that has failed here takes the unnamed one along. */
	if (had_begin && st)
		st = statement_find(c, name);
	if ((c->xact & XACT_READS) && !may_bind(c, st, name, &e))
		return refuse(c, f, &e);
	if (!statement_is_mapped(c)) {
		c->group->counters.bind_count += name.n > 0;
		expect(c, REPLY_BIND);
		return pass(c, f);
	}
	if (statement_is_unseen(c, name) && replan_before_bind(c, f, portal, name) == VERDICT_WAIT)
		return STEP_AGAIN;
	c->group->counters.bind_count += name.n > 0;
	if (c->named)
		named_unbind(c, portal);
	if (listen_minds_bind(c, st)) {
		step = on_listen(c, f, listen_bind(c, st, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (st && (st->effects || st->sets_path || st->sequence || st->has_names)) {
		statement_facts(st, &facts);
		if (st->has_names && !named_on_bind(c, portal, st, &facts, &e))
			return refuse(c, f, &e);
		if (!pins_allow(c, &facts, &e))
			return refuse(c, f, &e);
		pins_note(c, &facts, statement_text(st));
		c->server->will_forget |= forgets_statements(facts.effects);
	}
	c->batch_goes_on |= !st || (st->effects & CONTEXT_MAY_GO_ON);
	step = buf_len(rewritten) ? send_rewritten_bind(c, f, portal, name, rewritten)
				  : pass_renamed(c, f, name);
	statement_note_portal(c, portal);
	expect_bind(c);
	if (c->listening)
		listen_on_bind_sent(c, portal, st);
	return step;
}

static enum step on_bind(struct client *c, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	struct slice portal = read_cstr(&r), name = read_cstr(&r);
	struct buf rewritten = { 0 };
	enum step step;

	if (r.failed && (frame_is_whole(f) || f->have > WAITING_INPUT_MAX))
		return protocol_error(c, "invalid Bind message");
	if (r.failed || must_settle(c, name))
		return STEP_AGAIN;
	step = run_bind(c, f, portal, name, &rewritten);
	buf_fini(&rewritten);
	return step;
}

/* Describe and Close: a letter that says of what, and its name. */
static bool read_target(const struct frame *f, uint8_t *what, struct slice *name)
{
	struct reader r = reader_of(frame_body(f));

	*what = read_u8(&r);
	*name = read_cstr(&r);
	return read_is_complete(&r) && (*what == 'S' || *what == 'P');
}

static enum step on_describe(struct client *c, const struct frame *f)
{
	struct slice name;
	enum step step;
	uint8_t what;

	if (!frame_is_whole(f))
		return f->len > WAITING_INPUT_MAX ? protocol_error(c, "invalid Describe message")
						  : STEP_AGAIN;
	if (!read_target(f, &what, &name))
		return protocol_error(c, "invalid Describe message");
	if (what == 'S' && must_settle(c, name))
		return STEP_AGAIN;
	if (c->whose && whose_describe(c, what, name) == WHOSE_ANSWERED)
		return skip(c, f);
	step = join_batch(c, f);
	if (step != STEP_DONE)
		return not_yet(c, step);
	if (!statement_is_mapped(c) || what == 'P') {
		statement_expect_told_portal(c, name);
		return pass(c, f);
	}
	step = pass_renamed(c, f, name);
	statement_expect_told(c, name);
	return step;
}

static enum step on_close(struct client *c, const struct frame *f)
{
	struct slice name;
	enum step step;
	uint8_t what;

	if (!frame_is_whole(f))
		return f->len > WAITING_INPUT_MAX ? protocol_error(c, "invalid Close message")
						  : STEP_AGAIN;
	if (!read_target(f, &what, &name))
		return protocol_error(c, "invalid Close message");
	if (what == 'S' && name.n && must_settle(c, name))
		return STEP_AGAIN;
	if (c->whose && whose_close(c, what, name) == WHOSE_ANSWERED)
		return skip(c, f);
	step = join_batch(c, f);
	if (step != STEP_DONE)
		return not_yet(c, step);
	if (what == 'S' && statement_is_mapped(c)) {
		statement_close(c, name);
		return skip(c, f);
	}
	if (what == 'P' && c->listening)
		listen_on_close_sent(c, name);
	expect(c, REPLY_CLOSE);
	return pass(c, f);
}

/* An Execute that its batch did not show when it began. */
static enum verdict admit_late(struct client *c, struct err *e)
{
	bool starts = c->server->tx == 'I' && !(c->xact & XACT_ADMITTED);

	if (starts && !c->prepaid)
		return admit_transaction(c, 1, e);
	admit_count(c);
	return VERDICT_PASS;
}

/* A portal that was bound before would run behind what takes back what is guarded. */
static bool may_execute(struct client *c, struct err *e)
{
	if (!c->resets || !c->group->is_shared)
		return true;
	if (c->has_reset)
		return gate_allow_behind_reset(c, e);
	c->has_reset = true;
	return true;
}

static struct slice portal_of(const struct frame *execute)
{
	struct reader r = reader_of(frame_body(execute));

	return read_cstr(&r);
}

static enum whose_way execute_whose(struct client *c, const struct frame *f, struct err *e)
{
	struct reader r = reader_of(frame_body(f));
	struct slice portal = read_cstr(&r);

	return whose_execute(c, portal, read_u32(&r), e);
}

static enum step on_execute(struct client *c, const struct frame *f)
{
	enum step step;
	struct err e;

	if (!frame_is_whole(f))
		return f->len > WAITING_INPUT_MAX ? protocol_error(c, "invalid Execute message")
						  : STEP_AGAIN;
	if (c->whose) {
		step = on_whose(c, f, execute_whose(c, f, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	step = join_batch(c, f);
	if (step != STEP_DONE)
		return not_yet(c, step);
	switch (admit_late(c, &e)) {
	case VERDICT_REFUSED:
		return refuse(c, f, &e);
	case VERDICT_WAIT:
		return STEP_AGAIN;
	case VERDICT_PASS:
		break;
	}
	if (!may_execute(c, &e))
		return refuse(c, f, &e);
	if (!c->named || !named_on_execute(c, portal_of(f)))
		expect(c, REPLY_EXECUTE);
	if (c->listening)
		listen_on_execute_sent(c, portal_of(f));
	return pass(c, f);
}

static enum step on_flush(struct client *c, const struct frame *f)
{
	if (!c->server || (!c->in_batch && !c->server->copy_in))
		return skip(c, f);
	/* The server may have nothing to say to it. */
	answer_made_ones(c->server);
	return pass(c, f);
}

/* A Sync that no server needs to see. */
static enum step sync_here(struct client *c, const struct frame *f)
{
	if (f->len != FRAME_HEADER_LEN)
		return protocol_error(c, "invalid Sync message");
	c->group->counters.sync_count += !c->skips_to_sync && !(c->whose && c->whose->in_batch);
	if (c->whose)
		whose_sync(c, c->skips_to_sync);
	c->skips_to_sync = false;
	c->in_batch = false;
	local_ready(c);
	return skip(c, f);
}

static enum step on_sync(struct client *c, const struct frame *f)
{
	struct server *s = c->server;
	enum step step;

	if (!s || is_at_start(c))
		return sync_here(c, f);
	if (c->listening && listen_sync(c) == LISTEN_WAITS)
		return STEP_AGAIN;
	c->skips_to_sync = false;
	c->in_batch = false;
	if (s->copy_in) {
		/* The server ignores it, unless the COPY fails before it gets there. */
		s->loose_syncs++;
		return pass(c, f);
	}
	if (s->statements.count > c->group->set.max_prepared_statements && !s->skips_to_sync)
		statement_end_batch(s);
	s->skips_to_sync = false;
	expect(c, REPLY_SYNC);
	s->forgets |= s->will_forget;
	s->will_forget = false;
	if (s->reuses && !s->carrying)
		replan_keep(s);
	/* Should what goes ahead fail, the server would run what comes behind the Sync. */
	s->begins_in_batch = s->carrying || answer_owes_begin(s);
	step = pass(c, f);
	if (c->group->set.tenant_context_check && s->tx == 'I' && !c->batch_goes_on)
		context_check_behind(c);
	c->batch_goes_on = false;
	return step;
}

/* ---- COPY, and the end ----------------------------------------------------------------------
 */

/* Without a COPY the server ignores it too. */
static enum step on_copy_data(struct client *c, const struct frame *f)
{
	return c->server && c->server->replies.n ? pass(c, f) : skip(c, f);
}

static enum step on_copy_end(struct client *c, const struct frame *f)
{
	struct server *s = c->server;

	if (!s || !s->replies.n)
		return skip(c, f);
	if (s->copy_in)
		s->copy_in = false;
	else
		expect(c, REPLY_COPY_END);
	return pass(c, f);
}

/* What was asked before it is run to its end, as on a connection of its own. */
static enum step on_terminate(struct client *c, const struct frame *f PGT_UNUSED)
{
	c->said_goodbye = true;
	client_close(c, NULL, "client close request");
	return STEP_CLOSED;
}

/* ---- the table ------------------------------------------------------------------------------
 */

struct request_rule {
	enum step (*handle)(struct client *c, const struct frame *f);
	bool ends_skip; /* counts although an error has made everything up to the Sync void */
};

static const struct request_rule rules[256] = {
	[MSG_QUERY] = {on_query,          false},
          [MSG_FUNCTION_CALL] = { on_function_call, false},
	[MSG_PARSE] = { on_parse,         false},
          [MSG_BIND] = { on_bind,          false},
	[MSG_DESCRIBE] = { on_describe,      false},
          [MSG_EXECUTE] = { on_execute,       false},
	[MSG_CLOSE] = { on_close,         false},
          [MSG_FLUSH] = { on_flush,         false},
	[MSG_SYNC] = { on_sync,          true },
          [MSG_COPY_DATA] = { on_copy_data,     false},
	[MSG_COPY_DONE] = { on_copy_end,      false},
          [MSG_COPY_FAIL] = { on_copy_end,      false},
	[MSG_TERMINATE] = { on_terminate,     true },
};

static enum step dispatch(struct client *c, const struct frame *f)
{
	const struct request_rule *rule = &rules[f->type];

	if (!rule->handle)
		return protocol_error(c, "unknown or unexpected message type");
	if (f->len > c->host->config->global.max_packet_size)
		return protocol_error(c, "message longer than max_packet_size");
	c->conn.doing = frontend_message_name(f->type);
	if (!rule->ends_skip && (c->skips_to_sync || (c->server && c->server->skips_to_sync)))
		return skip(c, f);
	return rule->handle(c, f);
}

/* What it has sent may change how the next message has to be read, or what it finds. */
static bool must_hear_first(const struct client *c)
{
	const struct server *s = c->server;

	return s->forgets || s->begins_in_batch || s->checking || (c->resets && !c->in_batch);
}

/* The client's next message has to wait for something that is not the client. */
static bool is_parked(const struct client *c)
{
	const struct server *s = c->server;

	if (c->waiter.pool || c->retry_at || relay_of(c)->suspended)
		return true;
	return s &&
	       (s->question.done || (s->cancel && !s->replies.n) ||
		(must_hear_first(c) && s->replies.n && !s->copy_in) || s->replies.n > PIPELINE_MAX);
}

/* Input that cannot be handled now is kept, within bounds. */
static void hold_back(struct client *c)
{
	bool waits = is_parked(c) || c->turn_missed;

	if (conn_input(&c->conn).n > (waits ? WAITING_INPUT_MAX : HOLD_MAX + WAITING_INPUT_MAX))
		conn_pause(&c->conn);
	else
		conn_resume(&c->conn);
}

static enum step next(struct client *c)
{
	struct slice in = conn_input(&c->conn);
	struct frame f;

	if (!in.n)
		return STEP_AGAIN;
	if (c->stream_left)
		return stream(c, in);
	switch (frame_peek(in.p, in.n, &f)) {
	case FRAME_OK:
		return dispatch(c, &f);
	case FRAME_PARTIAL:
		return STEP_AGAIN;
	case FRAME_INVALID:
		break;
	}
	return protocol_error(c, "invalid message length");
}

void request_process(struct client *c)
{
	size_t before = conn_input(&c->conn).n;
	enum step step = STEP_DONE;

	if (c->server && c->server->conn.blocked) {
		conn_pause(&c->conn);
		return;
	}
	/* Answers of ours that nobody reads must not pile up. */
	if (c->conn.blocked && conn_unsent(&c->conn) > UNSENT_MAX && is_at_start(c)) {
		conn_pause(&c->conn);
		return;
	}
	c->turn_missed = false;
	if (c->begin_due && !is_parked(c))
		send_begin_alone(c);
	while (step == STEP_DONE && c->phase == CLIENT_READY && !is_parked(c)) {
		step = next(c);
		/* A long row of them, with nothing for the server between, must not fill the queue.
		 */
		if (c->server && c->server->replies.n > PIPELINE_MAX)
			answer_made_ones(c->server);
	}
	if (c->phase != CLIENT_READY)
		return;
	if (c->listening)
		listen_flush(c);
	if (c->server && (must_hear_first(c) || c->server->replies.n > PIPELINE_MAX))
		c->turn_missed = true;
	if (c->cancel_asked && c->server)
		answer_late_cancel(c->server);
	c->group->counters.bytes_received += before - conn_input(&c->conn).n;
	hold_back(c);
}

static void on_drained(struct client *c)
{
	if (c->server)
		conn_resume(&c->server->conn);
	conn_resume(&c->conn);
	conn_kick(&c->conn);
}

static void on_leaving(struct client *c)
{
	end_watch(c);
	attach_abandon(c);
	whose_forget(c);
	admit_forget(c);
	pins_forget(c);
	listen_forget(c);
	local_forget(c);
	statement_forget_client(c);
}

const struct client_events relay_client_events = {
	.readable = request_process,
	.drained = on_drained,
	.leaving = on_leaving,
};
