/* SPDX-License-Identifier: ISC
 *
 * extended.c - Parse, Bind, Describe, Execute, Close, Flush and Sync.
 *
 * The first message of a batch gets it a server; what the others name is mapped to what that server
 * has.  How a statement comes to be on a server is statement.c's.
 *
 * Source: PostgreSQL manual, "Extended Query".
 */
#include "relay/audit.h"
#include "relay/batch.h"
#include "relay/channels.h"
#include "relay/early.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/promote.h"
#include "relay/repeat.h"
#include "relay/replan.h"
#include "relay/request.h"
#include "relay/rescue.h"
#include "relay/row.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

/* Of the statement that was asked for last. */
static void expect_bind(struct client *c)
{
	struct server *s = c->server;

	replies_push(&s->replies,
		     (struct reply){ .kind = REPLY_BIND, .way = REPLY_PASS, .serial = s->bound });
}

/* ---- batches and texts ---------------------------------------------------------------------
 */

/* What stands in the batch that begins here.  lone: the one statement that it runs
 * (batch_lone_len), or NULL. */
static inline void look_ahead(struct client *c, struct statement *lone, struct batch_view *view)
{
	if (!lone) {
		batch_look(c, conn_input(&c->conn), view);
		return;
	}
	view->executes = 1;
	view->text = statement_text(lone);
	view->replica_will_do = gate_has_choice(c) && gate_statement_is_read(c, lone);
}

/* While nobody knows what code leaves behind, any statement may take back what is guarded in a
 * shared pool, and has to be the last of its request.  So the first of several waits, which takes a
 * moment … */
static bool waits_for_proof(struct client *c)
{
	struct batch_view view;

	if (admit_has_proof(c))
		return false;
	batch_look(c, conn_input(&c->conn), &view);
	if (!view.complete && !view.flushed && conn_input(&c->conn).n < WAITING_INPUT_MAX)
		return true;
	return view.executes > 1 && admit_wait_for_proof(c);
}

/* … and so does a later one, if something was defined behind those before it. */
static bool waits_within_batch(struct client *c)
{
	return c->group->is_shared && c->in_batch && c->batch_has_bound && !c->resets &&
	       !admit_has_proof(c) && admit_wait_for_proof(c);
}

/* The first message of a batch: what the batch costs and where it may go is read ahead, up to its
 * Sync, as far as anything depends on it. */
static enum step start_batch(struct client *c, const struct frame *f, struct statement *lone)
{
	struct batch_view view = { .complete = true };
	bool says_lane = lane_may_be_said(c);
	struct err e;

	if (request_must_wait_its_turn(c) || rescue_waits_for_end(c))
		return STEP_AGAIN;
	if (c->rare->putbacks && is_at_start(c))
		putback_forget(c); /* with their transaction */
	if (c->group->is_shared && waits_for_proof(c))
		return STEP_AGAIN;
	c->batch_is_plain = c->batch_has_parsed = false;
	if (c->server || !c->chosen)
		fence_begin_batch(c);
	if (lone && !c->server && !c->chosen && !c->begin &&
	    conn_input(&c->conn).n <= c->group->usual.longest)
		c->chosen = gate_choose_usual(c, lone->proven);
	if (admit_is_gated(c))
		gate_begin(c);
	if (promote_concerns(c)) {
		batch_look(c, conn_input(&c->conn), &view);
		if (!view.complete && !view.flushed && conn_input(&c->conn).n < WAITING_INPUT_MAX)
			return STEP_AGAIN;
		if (!promote_batch(c, &view))
			return STEP_AGAIN;
	}
	/* A BEGIN that waits has said where it goes, but for the lane, and its transaction is not
	 * stopped. */
	if (is_at_start(c) &&
	    (says_lane || (!c->begin && (admit_is_gated(c) ||
					 (!c->server && !c->chosen && gate_has_choice(c)))))) {
		look_ahead(c, lone, &view);
		if (!view.complete && !view.flushed && conn_input(&c->conn).n < WAITING_INPUT_MAX)
			return STEP_AGAIN;
		if (says_lane && !lane_hear_text(c, view.text, &e)) {
			request_refuse_message(c, f, &e);
			return STEP_CLOSED;
		}
		if (!c->server && !c->chosen && !c->begin)
			c->chosen = gate_choose_known(c, view.replica_will_do);
		if (!c->server && !c->chosen && !c->begin)
			return STEP_AGAIN;
		if (!(c->xact & XACT_ADMITTED) && !c->begin)
			c->prepaid = view.executes;
	}
	return request_get_server(c, f, c->chosen ? c->chosen : gate_primary(c), view.executes);
}

/* A statement that a pipeline has prepared, or not, some batches before: it has to be seen. */
static bool must_settle(struct client *c, struct slice name)
{
	if (!statement_is_mapped(c) || statement_is_settled(c, name))
		return false;
	c->turn_missed = true;
	return true;
}

/* len: of the batch, where that is known; or 0. */
static PGT_NOINLINE enum step begin_or_join(struct client *c, const struct frame *f,
					    struct statement *lone, size_t len)
{
	enum step step =
	    c->in_batch && c->server ? request_require_settled(c) : start_batch(c, f, lone);

	if (step != STEP_DONE)
		return step;
	request_mark_query(c, slice_of(f->start, len));
	if (!c->in_batch)
		c->batch_goes_on = c->bound_end = c->batch_ends = c->batch_has_bound = false;
	c->in_batch = true;
	return STEP_DONE;
}

/* STEP_DONE: the message may go to c->server as part of a batch.  lone: that of look_ahead(). */
static inline enum step join_batch(struct client *c, const struct frame *f, struct statement *lone)
{
	if (!row_just_goes_on(c))
		return begin_or_join(c, f, lone, 0);
	fence_on_request(c);
	return STEP_DONE;
}

/* A Parse that is too long to be kept: an unnamed one is there as long as its client has the
 * server, one with a name keeps the server with its client. */
static enum step on_long_parse(struct client *c, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	struct slice name = read_cstr(&r);
	enum step step;
	struct err e;

	if (r.failed)
		return f->have > WAITING_INPUT_MAX
			   ? request_protocol_error(c, "invalid Parse message")
			   : STEP_AGAIN;
	step = join_batch(c, f, NULL);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	if ((c->xact & XACT_READS) && !gate_may_write_unseen(c, &e))
		return request_refuse_message(c, f, &e);
	if (name.n && !pins_allow_unmapped(c, &e))
		return request_refuse_message(c, f, &e);
	if (gate_must_look(c) && !request_watch_long_text(c, f))
		return request_found_in_long_text(c);
	fence_on_unseen(c);
	c->only_reads = false;
	if (name.n || !statement_is_mapped(c))
		request_expect(c, REPLY_PARSE);
	else
		statement_parse_passed(c);
	if (name.n)
		pins_note_unmapped(c, slice_of(f->start, 0));
	return request_pass(c, f);
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
		audit_query(c, text, facts);
	}
	request_expect(c, REPLY_PARSE);
	if (!buf_len(rewritten))
		return request_pass(c, f);
	guard_note_clamp(c);
	m = msg_begin(conn_output(&c->server->conn), MSG_PARSE);
	buf_put_slice(conn_output(&c->server->conn), name);
	buf_put_u8(conn_output(&c->server->conn), 0);
	buf_put_cstr(conn_output(&c->server->conn), buf_cstr(rewritten));
	buf_put_slice(conn_output(&c->server->conn), types);
	msg_end(conn_output(&c->server->conn), m);
	return request_skip(c, f);
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
	if (guard_text(c, text, facts, rewritten, &e) != VERDICT_REFUSED)
		return true;
	*step = request_refuse_message(c, f, &e);
	return false;
}

/* Whether a Parse needs no server. */
static bool parse_here(struct client *c, struct slice name, struct slice body,
		       struct statement *known, const struct sql_facts *facts)
{
	enum sql_kind kind = known ? known->kind : facts->kind;
	bool ends = kind == SQL_KIND_COMMIT || kind == SQL_KIND_ROLLBACK;

	if ((c->begin ? ends : kind == SQL_KIND_BEGIN) && local_parse(c, name, body, known))
		return true;
	return known && !c->begin_failed && statement_parse_here(c, name, known);
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
		step = request_on_whose(c, f, whose_parse(c, name, body, known, &e), &e);
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
	if (is_mapped && (c->rare->listening || facts.kind == SQL_KIND_LISTEN)) {
		step = request_on_listen(c, f, listen_parse(c, text, &facts, rewritten, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (name.n && is_mapped && !statement_has_room(c, body.n, known, &e))
		return request_refuse_message(c, f, &e);
	if (facts.asks_prepared && is_mapped)
		request_hide_statements(c, text, rewritten);
	if (facts.resets && c->base->n && is_mapped && !buf_len(rewritten) &&
	    putback_rewrite(c, text, NULL, rewritten))
		facts.resets = context_is_reset(c->group, &facts);
	if (buf_len(rewritten))
		known = NULL;
	if (!c->server && parse_here(c, name, body, known, &facts))
		return request_skip(c, f);
	if (facts.sequence)
		sequence_expect(c, facts.sequence);
	/* Only a server may have had it, and be dropped for another. */
	if (known)
		statement_ref(known);
	if (known && !name.n)
		repeat_look(c, known, false);
	step = join_batch(c, f, NULL);
	if (step != STEP_DONE) {
		statement_unref(known);
		return request_not_yet(c, step);
	}
	if ((c->xact & XACT_READS) && !is_mapped) {
		if (!gate_may_write(c, text, &facts, &e))
			return request_refuse_message(c, f, &e);
		c->unnamed_is_read |= !name.n;
	}
	if (!is_mapped)
		return parse_unmapped(c, f, name, text, &facts, rewritten, types);
	if (is_clamped)
		guard_note_clamp(c);
	if (buf_len(rewritten)) {
		buf_put_u8(rewritten, 0);
		buf_put_slice(rewritten, types);
		body = buf_peek(rewritten);
	}
	statement_parse(c, name, body, known, &facts);
	statement_unref(known);
	return request_skip(c, f);
}

/* The first n bytes of the input, which f begins and is here of, with the name that the server has
 * instead of the one at name.p. */
static void put_renamed(struct client *c, const struct frame *f, size_t n, struct slice name,
			struct slice there)
{
	struct buf *out = conn_output(&c->server->conn);
	size_t before = (size_t)(name.p - f->start), after = before + name.n + 1;
	uint32_t len = htonl((uint32_t)(f->len - 1 - name.n - 1 + there.n));
	char *p = buf_reserve(out, n + there.n);

	memcpy(p, f->start, before);
	memcpy(p + 1, &len, sizeof(len));
	memcpy(p + before, there.p, there.n);
	memcpy(p + before + there.n, f->start + after, n - after);
	buf_produced(out, n - name.n - 1 + there.n);
}

/* A message whose statement's name stands at name.p; everything else stays as it is.  now: what is
 * meant instead, or NULL. */
static enum step pass_renamed(struct client *c, const struct frame *f, struct slice name,
			      struct statement *now)
{
	struct buf odd = { 0 };
	struct slice there =
	    now ? statement_require_other(c, now) : statement_require(c, name, &odd);

	put_renamed(c, f, f->have, name, there);
	buf_fini(&odd);
	conn_consume(&c->conn, f->have);
	c->stream_left = f->len - f->have;
	c->stream_discard = false;
	return STEP_DONE;
}

/* Ahead of the Sync of the batch that has used them. */
static inline void close_surplus(struct client *c)
{
	struct server *s = c->server;

	if (s->statements.count > c->group->set.max_prepared_statements && !s->skips_to_sync)
		statement_end_batch(s);
}

/* The Sync of the batch. */
static void expect_end(struct client *c)
{
	struct server *s = c->server;

	s->skips_to_sync = false;
	request_expect(c, REPLY_SYNC);
	s->forgets |= s->will_forget;
	s->will_forget = false;
	if (s->reuses && !s->carrying)
		replan_keep(s);
	/* Should what goes ahead fail, the server would run what comes behind the Sync. */
	s->begins_in_batch = s->carrying || answer_owes_begin(s);
}

/* Bind with parameters that set something guarded: false when it was dealt with here. */
static bool passes_guard(struct client *c, const struct frame *f, const struct statement *st,
			 struct slice name, struct buf *rewritten, enum step *step)
{
	struct slice body = frame_body(f);
	size_t at = (size_t)(name.p + name.n + 1 - body.p);
	struct err e;

	if (!frame_is_whole(f)) {
		*step = f->len > HOLD_MAX
			    ? request_protocol_error(c, "Bind message too long to be checked")
			    : STEP_AGAIN;
		return false;
	}
	if (guard_bind(c, st, slice_of(body.p + at, body.n - at), rewritten, &e) ==
	    VERDICT_REFUSED) {
		*step = request_refuse_message(c, f, &e);
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
		*step = request_refuse_message(c, f, &e);
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

	guard_note_clamp(c);
	out = conn_output(&c->server->conn);
	m = msg_begin(out, MSG_BIND);
	buf_put_slice(out, portal);
	buf_put_u8(out, 0);
	buf_put_slice(out, there);
	buf_put_slice(out, buf_peek(rewritten));
	msg_end(out, m);
	buf_fini(&odd);
	return request_skip(c, f);
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
	*step = request_on_whose(
	    c, f, whose_bind(c, portal, name, slice_of(body.p + at, body.n - at), &e), &e);
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

/* What the session may leave with it, and what it takes back. */
static void note_bind(struct client *c, struct slice portal, struct statement *st,
		      const struct sql_facts *facts)
{
	bool resets = c->resets;

	pins_note(c, facts, statement_text(st));
	if (!c->base->n || resets || !c->resets || context_is_reset(c->group, facts))
		return;
	/* DISCARD ALL has committed when what comes behind it in its batch fails. */
	if (putback_bind(c, portal, st))
		c->resets = facts->effects & (SQL_EFFECT_BLOCK | SQL_EFFECT_DISCARD_ALL);
}

/* Behind the Bind of a portal without a name: Describe, or not, and Execute, if they are there, as
 * their handlers would pass them on.  Where it is nothing to anybody that the statement runs,
 * nothing is to be decided about them. */
static inline void pass_run(struct client *c, const struct statement *st)
{
	const struct slice portal = { "", 0 };
	struct slice in = conn_input(&c->conn);
	struct server *s = c->server;
	size_t len;

	if (!st || c->stream_left || !row_just_goes_on(c) || s->copy_in || s->skips_to_sync ||
	    c->skips_to_sync || c->rare->lost || !row_may_run(c, st))
		return;
	len = batch_run_len(in.p, in.n);
	if (!len)
		return;
	fence_on_request(c);
	if (len > BATCH_EXECUTE_LEN)
		statement_expect_told_portal(c, portal);
	admit_count(c);
	replies_push(&s->replies,
		     (struct reply){ .kind = REPLY_EXECUTE, .way = REPLY_PASS, .query = c->bound });
	c->batch_ends = c->bound_end;
	conn_send(&s->conn, in.p, len);
	conn_consume(&c->conn, len);
}

/* st: NULL: there is none of the name, or names are not mapped.  is_lone: batch_lone_len(). */
static enum step run_bind(struct client *c, const struct frame *f, struct slice portal,
			  struct slice name, struct statement *st, bool is_lone,
			  struct buf *rewritten)
{
	struct statement *now = NULL;
	struct sql_facts facts;
	enum step step;
	struct err e;

	if (c->whose && !says_whose(c, f, portal, name, &step))
		return step;
	if (waits_within_batch(c))
		return STEP_AGAIN;
	if (st && st->meaning != gate_meaning(c))
		statement_look_again(c, st);
	if (c->owes_snapshot && st && statement_must_know(c, st->kind))
		return STEP_AGAIN;
	if (c->in_batch && c->resets && !guard_allow_behind_reset(c, &e))
		return request_refuse_message(c, f, &e);
	if (st && st->guards_params && !passes_guard(c, f, st, name, rewritten, &step))
		return step;
	if (st && st->changes && !goes_by_result(c, f, portal, name, &step))
		return step;
	if (st && st->sequence)
		sequence_expect(c, st->sequence);
	step = join_batch(c, f, is_lone ? st : NULL);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	if ((c->xact & XACT_READS) && !may_bind(c, st, name, &e))
		return request_refuse_message(c, f, &e);
	fence_look_bound(c, st);
	c->bound_end = false;
	c->batch_has_bound = true;
	repeat_on_bind(c, st);
	/* Before it is looked for on the server: what it may leave says as what it is there. */
	c->sets_locally |=
	    st && (st->calls_set_config || st->kind == SQL_KIND_SET_LOCAL || st->effects);
	if (!statement_is_mapped(c)) {
		c->batch_goes_on = true; /* nobody knows */
		c->group->counters.bind_count += name.n > 0;
		request_expect(c, REPLY_BIND);
		return request_pass(c, f);
	}
	if (statement_is_unseen(c, name) && replan_before_bind(c, f, portal, name) == VERDICT_WAIT)
		return STEP_AGAIN;
	c->group->counters.bind_count += name.n > 0;
	if (c->rare->named)
		named_unbind(c, portal);
	if (c->rare->putbacks)
		statement_unref(putback_unbind(c, portal));
	if (listen_minds_bind(c, st)) {
		step = request_on_listen(c, f, listen_bind(c, st, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	if (st &&
	    (st->effects || st->sets_path || st->sets_unnamed || st->sequence || st->has_names)) {
		statement_facts(st, &facts);
		if (st->has_names && !named_on_bind(c, portal, st, &facts, &e))
			return request_refuse_message(c, f, &e);
		if (!pins_allow(c, &facts, &e))
			return request_refuse_message(c, f, &e);
		note_bind(c, portal, st, &facts);
		c->bound_end = !portal.n && context_ends_with(&facts, 'T');
		c->server->will_forget |= request_forgets_statements(facts.effects);
	}
	if (c->owes_snapshot && st && statement_minds_snapshot(st->kind))
		statement_take_snapshot(c);
	if (c->only_reads)
		early_look_at_bind(c, st);
	c->batch_goes_on |= !st || (st->effects & CONTEXT_MAY_GO_ON);
	if (c->rare->listening && st)
		now = channels_statement(c, st);
	if (st && audit_is_on(c))
		audit_say_bound(c, st);
	step = buf_len(rewritten) ? send_rewritten_bind(c, f, portal, name, rewritten)
				  : pass_renamed(c, f, name, now);
	statement_unref(now);
	statement_note_portal(c, portal);
	expect_bind(c);
	insight_on_bind(c, st, portal, f);
	if (c->rare->listening)
		listen_on_bind_sent(c, portal, st);
	if (!portal.n)
		pass_run(c, st);
	return step;
}

/* The same; what has to be another message is made in a buffer. */
static PGT_NOINLINE enum step bind_rewriting(struct client *c, const struct frame *f,
					     struct slice portal, struct slice name,
					     struct statement *st, bool is_lone)
{
	struct buf rewritten = { 0 };
	enum step step = run_bind(c, f, portal, name, st, is_lone, &rewritten);

	buf_fini(&rewritten);
	return step;
}

/* ---- a BEGIN that waits, and its end ----------------------------------------------------------
 */

/* What it is bound and run by. */
struct run {
	size_t len; /* of its messages */
	bool is_described;
};

/* A Bind without parameters, as far as anybody could find fault with it. */
static bool binds_nothing(const struct frame *bind)
{
	struct reader r = reader_of(frame_body(bind));

	read_cstr(&r);
	read_cstr(&r);
	if (read_u16(&r) || read_u16(&r))
		return false;
	for (unsigned n = read_u16(&r); n && !r.failed; n--)
		read_u16(&r);
	return read_is_complete(&r);
}

/* Whether a message is the Describe or the Execute of the portal without a name. */
static bool is_of_unnamed_portal(const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	bool is_portal = f->type == MSG_EXECUTE || read_u8(&r) == 'P';
	bool is_unnamed = !read_cstr(&r).n;

	if (f->type == MSG_EXECUTE)
		read_u32(&r);
	return is_portal && is_unnamed && read_is_complete(&r);
}

/* The messages behind the Bind, which PostgreSQL, too, answers only once it is told to go on.
 * STEP_AGAIN: they are still to come; STEP_CLOSED: they are others. */
static enum step find_run(struct slice in, size_t bind_len, struct run *run)
{
	struct frame f;

	*run = (struct run){ .len = bind_len };
	for (;;) {
		switch (frame_peek(in.p + run->len, in.n - run->len, &f)) {
		case FRAME_PARTIAL:
			return STEP_AGAIN;
		case FRAME_INVALID:
			return STEP_CLOSED;
		case FRAME_OK:
			break;
		}
		if (f.type != MSG_EXECUTE && (f.type != MSG_DESCRIBE || run->is_described))
			return STEP_CLOSED;
		if (!frame_is_whole(&f))
			return f.len > WAITING_INPUT_MAX ? STEP_CLOSED : STEP_AGAIN;
		if (!is_of_unnamed_portal(&f))
			return STEP_CLOSED;
		run->len += f.len;
		if (f.type == MSG_EXECUTE)
			return STEP_DONE;
		run->is_described = true;
	}
}

/* Bind of a BEGIN, and what runs it: answered here, and sent with what comes behind it, be it in
 * the same batch or another; or of the end of one that has not been sent.  False: it is as any
 * other statement. */
static bool runs_here(struct client *c, const struct frame *f, struct slice portal,
		      struct slice name, const struct statement *st, enum step *step)
{
	struct buf *out = conn_output(&c->conn);
	struct run run;
	const char *tag;
	struct err e;

	if (portal.n || !local_may_run(c, st) || f->len > WAITING_INPUT_MAX)
		return false;
	*step = STEP_AGAIN;
	if (!frame_is_whole(f))
		return true;
	if (!binds_nothing(f))
		return false;
	*step = find_run(conn_input(&c->conn), f->len, &run);
	if (*step != STEP_DONE)
		return *step == STEP_AGAIN;
	if (!c->begin && !lane_hear(c, statement_text(st), &e)) {
		*step = request_refuse_message(c, f, &e);
		return true;
	}
	tag = local_run(c, st);
	if (!tag)
		return false;
	c->group->counters.bind_count += name.n > 0;
	msg_put_empty(out, MSG_BIND_COMPLETE);
	if (run.is_described)
		msg_put_empty(out, MSG_NO_DATA);
	msg_put_command_complete(out, tag);
	conn_consume(&c->conn, run.len);
	return true;
}

/* ---- a statement by itself -------------------------------------------------------------------
 */

/* row_may_run() of a batch that does nothing else. */
static inline bool is_plain(const struct client *c, const struct statement *st)
{
	const struct server *s = c->server;

	return row_may_run(c, st) && (!s || (!s->replies.n && !s->copy_in));
}

/* What the handlers of its messages do with such a batch, from its Bind on: len bytes, of which
 * those of name are to be others. */
static PGT_INLINE void put_plain(struct client *c, const struct frame *bind, struct slice name,
				 struct statement *st, struct slice there, size_t len)
{
	const struct slice portal = { "", 0 };

	put_renamed(c, bind, len, name, there);
	statement_note_portal(c, portal);
	expect_bind(c);
	insight_on_bind(c, st, portal, bind);
	if (len > bind->len + BATCH_EXECUTE_SYNC_LEN)
		statement_expect_told_portal(c, portal);
	admit_count(c);
	replies_push(&c->server->replies,
		     (struct reply){ .kind = REPLY_EXECUTE, .way = REPLY_PASS, .query = c->bound });
	expect_end(c);
}

/* Such a batch that begins with the Bind of a named statement, to the server that the client has.
 */
static void send_plain(struct client *c, const struct frame *f, struct slice name,
		       struct statement *st, size_t len)
{
	struct slice there;

	request_mark_query(c, slice_of(f->start, len));
	fence_look_bound(c, st);
	c->group->counters.bind_count++;
	there = statement_require_named(c, st);
	close_surplus(c);
	put_plain(c, f, name, st, there, len);
	conn_consume(&c->conn, len);
}

/* Whether its server has to be asked first what the statement's result is by now. */
static inline bool is_unseen(const struct client *c, const struct frame *f, struct slice name,
			     size_t len)
{
	return len == f->len + BATCH_EXECUTE_SYNC_LEN && statement_is_unseen(c, name);
}

/* What the handlers of its messages would do with it, one by one. */
static enum step run_plain(struct client *c, const struct frame *f, struct slice name,
			   struct statement *st, size_t len)
{
	const struct slice portal = { "", 0 };
	enum step step;

	if (st->meaning != gate_meaning(c))
		return bind_rewriting(c, f, portal, name, st, true);
	step = start_batch(c, f, st);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	if (is_unseen(c, f, name, len))
		return bind_rewriting(c, f, portal, name, st, true);
	send_plain(c, f, name, st, len);
	return STEP_DONE;
}

/* The statement of such a batch, which is all of in: *bind, *name; or NULL: it is another one, or
 * has to be looked at by somebody. */
static inline struct statement *plain_statement(struct client *c, struct slice in,
						struct frame *bind, struct slice *name)
{
	size_t n = frame_whole(in.p, in.n), names = FRAME_HEADER_LEN + 1;
	struct statement *st;

	if (n < names || in.p[FRAME_HEADER_LEN])
		return NULL;
	*bind = (struct frame){ MSG_BIND, in.p, n, n };
	*name = slice_of(in.p + names, strnlen(in.p + names, n - names));
	if (!name->n || name->n == n - names || batch_len_with(in, bind) != in.n ||
	    !statement_is_mapped(c))
		return NULL;
	st = statement_find(c, *name);
	return st && row_may_run(c, st) && st->meaning == gate_meaning(c) ? st : NULL;
}

/* The pool for it, where its client has no server; NULL: start_batch() says. */
static inline struct pool *choose_plainly(struct client *c, const struct statement *st, size_t len)
{
	struct pool *usual =
	    len <= c->group->usual.longest ? gate_choose_usual(c, st->proven) : NULL;

	return usual || gate_has_choice(c) ? usual : gate_primary(c);
}

bool extended_is_usual(struct client *c, struct slice in)
{
	enum step step = STEP_DONE;
	struct statement *st;
	struct slice name;
	struct frame f;

	if (c->group->is_shared && !node_set_is_learned(c->group->nodes))
		return false;
	st = plain_statement(c, in, &f, &name);
	if (!st)
		return false;
	c->batch_is_plain = c->batch_has_parsed = false;
	fence_begin_batch(c);
	if (c->server)
		step = request_go_ahead(c, MSG_BIND);
	else if ((c->chosen = choose_plainly(c, st, in.n)))
		step = request_acquire_alone(c, c->chosen);
	else
		return false;
	if (step == STEP_DONE) {
		if (is_unseen(c, &f, name, in.n))
			return false;
		send_plain(c, &f, name, st, in.n);
	}
	request_end_query(c, step, in.n);
	return true;
}

/* The same of one that begins with the Parse of an unnamed statement for which something on the
 * server may stand in (client.repeats), and goes on with this Bind, for len bytes.  Where nothing
 * does, only the Parse is dealt with. */
static enum step run_unnamed(struct client *c, const struct frame *f, struct slice body,
			     struct statement *st, const struct frame *bind, size_t len)
{
	const struct slice name = { bind->start + FRAME_HEADER_LEN + 1, 0 };
	const struct server_statement *ss;
	struct server *s;
	/* Only a server may have had it, and be dropped for another. */
	struct statement *held = statement_ref(st);
	enum step step = begin_or_join(c, f, st, f->len + len);

	if (step == STEP_DONE)
		statement_parse(c, name, body, st, NULL);
	statement_unref(held);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	/* What is closed for being one too many goes behind the Execute. */
	s = c->server;
	ss = s->statements.count > c->group->set.max_prepared_statements ? NULL
									 : repeat_require(c, st);
	if (!ss)
		return request_skip(c, f);
	fence_look_bound(c, st);
	repeat_on_bind(c, st);
	c->in_batch = false;
	put_plain(c, bind, name, st, slice_of(ss->name, ss->name_len), len);
	conn_consume(&c->conn, f->len + len);
	return STEP_DONE;
}

/* A Parse without a name that is here, and so is its batch, of which it is the first: whether all
 * of it was dealt with at once. */
static bool goes_by_itself(struct client *c, const struct frame *f, struct slice body,
			   enum step *step)
{
	struct frame bind;
	size_t len = batch_len_behind(conn_input(&c->conn), f, &bind);
	struct statement *st = len ? statement_lookup(c, body) : NULL;

	if (!st || st->is_guarded || !is_plain(c, st) || st->meaning != gate_meaning(c))
		return false;
	repeat_look(c, st, true);
	if (!c->repeats)
		return false;
	*step = run_unnamed(c, f, body, st, &bind, len);
	return true;
}

enum step extended_on_parse(struct client *c, const struct frame *f)
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
		return request_protocol_error(c, "invalid Parse message");
	if (name.n && must_settle(c, name))
		return STEP_AGAIN;
	if (!name.n && !c->in_batch && statement_is_mapped(c) &&
	    goes_by_itself(c, f, slice_of(text.p, text.n + 1 + read_left(&r)), &step))
		return step;
	if (!name.n && c->in_batch && statement_is_mapped(c) &&
	    row_send(c, f, slice_of(text.p, text.n + 1 + read_left(&r))))
		return STEP_DONE;
	step = run_parse(c, f, name, text, slice_of(r.p, read_left(&r)), &rewritten);
	buf_fini(&rewritten);
	return step;
}

enum step extended_on_bind(struct client *c, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	struct slice portal = read_cstr(&r), name = read_cstr(&r);
	struct statement *st;
	enum step step;
	size_t len;

	if (r.failed && (frame_is_whole(f) || f->have > WAITING_INPUT_MAX))
		return request_protocol_error(c, "invalid Bind message");
	if (r.failed || must_settle(c, name))
		return STEP_AGAIN;
	st = statement_is_mapped(c) ? statement_find(c, name) : NULL;
	if (c->in_batch || !st)
		return bind_rewriting(c, f, portal, name, st, false);
	len = batch_len_with(conn_input(&c->conn), f);
	if (len && name.n && !portal.n && is_plain(c, st))
		return run_plain(c, f, name, st, len);
	if ((st->is_sure_begin || c->begin) && runs_here(c, f, portal, name, st, &step))
		return step;
	return bind_rewriting(c, f, portal, name, st, len);
}

/* Describe and Close: a letter that says of what, and its name.  STEP_DONE: they are read. */
static enum step read_target(struct client *c, const struct frame *f, uint8_t *what,
			     struct slice *name)
{
	struct reader r = reader_of(frame_body(f));

	if (!frame_is_whole(f) && f->len <= WAITING_INPUT_MAX)
		return STEP_AGAIN;
	*what = read_u8(&r);
	*name = read_cstr(&r);
	if (frame_is_whole(f) && read_is_complete(&r) && (*what == 'S' || *what == 'P'))
		return STEP_DONE;
	return request_protocol_error(c, f->type == MSG_DESCRIBE ? "invalid Describe message"
								 : "invalid Close message");
}

enum step extended_on_describe(struct client *c, const struct frame *f)
{
	struct slice name;
	uint8_t what;
	enum step step = read_target(c, f, &what, &name);

	if (step != STEP_DONE)
		return step;
	if (what == 'S' && must_settle(c, name))
		return STEP_AGAIN;
	if (c->whose && whose_describe(c, what, name) == WHOSE_ANSWERED)
		return request_skip(c, f);
	step = join_batch(c, f, NULL);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	if (!statement_is_mapped(c) || what == 'P') {
		statement_expect_told_portal(c, name);
		return request_pass(c, f);
	}
	step = pass_renamed(c, f, name, NULL);
	statement_expect_told(c, name);
	return step;
}

enum step extended_on_close(struct client *c, const struct frame *f)
{
	struct slice name;
	uint8_t what;
	enum step step = read_target(c, f, &what, &name);

	if (step != STEP_DONE)
		return step;
	if (what == 'S' && name.n && must_settle(c, name))
		return STEP_AGAIN;
	if (c->whose && whose_close(c, what, name) == WHOSE_ANSWERED)
		return request_skip(c, f);
	if (local_close(c, what, name))
		return request_skip(c, f);
	step = join_batch(c, f, NULL);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	if (what == 'S' && statement_is_mapped(c)) {
		statement_close(c, name);
		return request_skip(c, f);
	}
	if (what == 'P' && c->rare->listening)
		listen_on_close_sent(c, name);
	if (what == 'P' && c->rare->putbacks)
		statement_unref(putback_unbind(c, name));
	request_expect(c, REPLY_CLOSE);
	return request_pass(c, f);
}

/* An Execute that its batch did not show when it began. */
static enum verdict admit_late(struct client *c, struct err *e)
{
	bool starts = c->server->tx == 'I' && !(c->xact & XACT_ADMITTED);

	if (starts && !c->prepaid)
		return admit_is_gated(c) ? admit_transaction(c, 1, e) : VERDICT_PASS;
	admit_count(c);
	return VERDICT_PASS;
}

/* A portal that was bound before would run behind what takes back what is guarded. */
static bool may_execute(struct client *c, struct err *e)
{
	if (!c->resets || !c->group->is_shared)
		return true;
	if (c->has_reset)
		return guard_allow_behind_reset(c, e);
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

enum step extended_on_execute(struct client *c, const struct frame *f)
{
	struct statement *back = NULL;
	enum step step;
	struct err e;

	if (!frame_is_whole(f))
		return f->len > WAITING_INPUT_MAX
			   ? request_protocol_error(c, "invalid Execute message")
			   : STEP_AGAIN;
	if (c->whose) {
		step = request_on_whose(c, f, execute_whose(c, f, &e), &e);
		if (step != STEP_CLOSED)
			return step;
	}
	step = join_batch(c, f, NULL);
	if (step != STEP_DONE)
		return request_not_yet(c, step);
	switch (admit_late(c, &e)) {
	case VERDICT_REFUSED:
		return request_refuse_message(c, f, &e);
	case VERDICT_WAIT:
		return STEP_AGAIN;
	case VERDICT_PASS:
		break;
	}
	if (!may_execute(c, &e))
		return request_refuse_message(c, f, &e);
	if (c->rare->listening)
		listen_before_execute(c, portal_of(f));
	if (!c->rare->named || !named_on_execute(c, portal_of(f)))
		request_expect(c, REPLY_EXECUTE);
	c->batch_ends = c->bound_end && !portal_of(f).n;
	insight_on_execute(c, f);
	if (c->rare->listening)
		listen_on_execute_sent(c, portal_of(f));
	if (c->rare->putbacks)
		back = putback_unbind(c, portal_of(f));
	step = request_pass(c, f);
	if (back)
		putback_send(c, back);
	return step;
}

enum step extended_on_flush(struct client *c, const struct frame *f)
{
	if (!c->server || (!c->in_batch && !c->server->copy_in))
		return request_skip(c, f);
	/* The server may have nothing to say to it. */
	answer_made_ones(c->server);
	return request_pass(c, f);
}

/* A Sync that no server needs to see. */
static enum step sync_here(struct client *c, const struct frame *f)
{
	if (f->len != FRAME_HEADER_LEN)
		return request_protocol_error(c, "invalid Sync message");
	c->group->counters.sync_count += !c->skips_to_sync && !(c->whose && c->whose->in_batch);
	if (c->whose)
		whose_sync(c, c->skips_to_sync);
	c->skips_to_sync = false;
	c->in_batch = false;
	local_ready(c);
	return request_skip(c, f);
}

enum step extended_on_sync(struct client *c, const struct frame *f)
{
	struct server *s = c->server;
	enum step step;

	if (!s || is_at_start(c))
		return sync_here(c, f);
	if (c->rare->listening && listen_sync(c) == LISTEN_WAITS)
		return STEP_AGAIN;
	c->skips_to_sync = false;
	c->in_batch = false;
	if (s->copy_in) {
		/* The server ignores it, unless the COPY fails before it gets there. */
		s->loose_syncs++;
		return request_pass(c, f);
	}
	close_surplus(c);
	expect_end(c);
	step = request_pass(c, f);
	/* Up to the Sync, a transaction goes on after its end only if something of the batch has
	 * failed before that, and then a check finds it as it is left: failed. */
	if (c->group->set.tenant_context_check &&
	    (c->batch_ends || (s->tx == 'I' && !c->batch_goes_on)))
		context_check_behind(c);
	return step;
}
