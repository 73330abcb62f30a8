/* SPDX-License-Identifier: ISC
 *
 * answer.c - what a server sends, message by message, to the client that has it.
 *
 * The head of the server's queue of replies says what a message answers: it is passed on,
 * swallowed, or ends an entry.  Messages of rows and data are passed as they come, in pieces; only
 * short ones that change a state are waited for.  What fits no entry means that we and the server
 * disagree about the state, and ends both connections.
 *
 * Source: PostgreSQL manual, "Message Flow", and docs/states.md.
 */
#include "relay/answer.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/repeat.h"
#include "relay/replan.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "route/nodes.h"
#include "server/backends.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>

/* An error or notice longer than this is passed on without being looked at. */
#define REPORT_MAX 65536

enum step answer_broken(struct server *s, const char *why)
{
	s->on->ended(s, why);
	return STEP_CLOSED;
}

/* ---- the head of the queue ----------------------------------------------------------------------
 */

/* One of its replies has come. */
static void on_carried(struct server *s)
{
	if (--s->carrying == 0 && !answer_owes_begin(s))
		s->begins_in_batch = false;
}

void answer_pop(struct server *s)
{
	struct reply r = *replies_head(&s->replies);

	replies_pop(&s->replies);
	if (r.has_controls)
		listen_on_answered(s->client);
	if (r.note == NOTE_CARRY || r.note == NOTE_EARLY)
		on_carried(s);
	else if (r.note == NOTE_REFUSED || r.note == NOTE_PUTBACK)
		free(r.subject);
	else if (r.note != NOTE_NONE)
		statement_on_reply(s, &r);
}

static void make_up(struct server *s, const struct reply *r)
{
	struct buf *out = conn_output(&s->client->conn);

	msg_put_empty(out, r->kind == REPLY_PARSE ? MSG_PARSE_COMPLETE : MSG_CLOSE_COMPLETE);
}

void answer_made_ones(struct server *s)
{
	struct reply *r;

	while ((r = replies_head(&s->replies)) &&
	       (r->way == REPLY_MAKE || r->kind == REPLY_COPY_END)) {
		if (r->way == REPLY_MAKE)
			make_up(s, r);
		answer_pop(s);
	}
}

static bool is_waiting(const struct server *s)
{
	const struct reply *r = replies_head(&s->replies);

	return r && r->way == REPLY_WAIT;
}

void answer_end_waiting(struct server *s)
{
	make_up(s, replies_head(&s->replies));
	answer_pop(s);
}

static bool head_is(struct server *s, enum reply_kind kind)
{
	if (is_waiting(s))
		answer_end_waiting(s);
	return s->replies.n && replies_head(&s->replies)->kind == kind;
}

/* The same of rows and the like, as many as there are: they are what large results are made of. */
static enum step pass_run(struct server *s, const struct frame *f)
{
	struct slice in = conn_input(&s->conn);
	size_t n = frame_run(in.p, in.n, f->type);

	if (n <= f->len)
		return answer_pass(s, f);
	s->client->group->counters.bytes_sent += n;
	s->answered += n - f->len;
	conn_send(&s->client->conn, in.p, n);
	conn_consume(&s->conn, n);
	return STEP_DONE;
}

/* The message ends the entry at the head, which must be of this kind. */
static enum step complete(struct server *s, const struct frame *f, enum reply_kind kind)
{
	bool was_asked_by_us;

	if (!head_is(s, kind))
		return answer_broken(s, "the server answered something that nobody asked");
	was_asked_by_us = replies_head(&s->replies)->way == REPLY_SWALLOW;
	answer_pop(s);
	if (was_asked_by_us)
		answer_swallow(s, f);
	else
		answer_pass(s, f);
	answer_made_ones(s);
	return STEP_DONE;
}

/* ---- one handler for each kind of message ---------------------------------------------------
 */

static enum step on_parse_complete(struct server *s, const struct frame *f)
{
	return complete(s, f, REPLY_PARSE);
}

static enum step on_bind_complete(struct server *s, const struct frame *f)
{
	return complete(s, f, REPLY_BIND);
}

static enum step on_close_complete(struct server *s, const struct frame *f)
{
	return complete(s, f, REPLY_CLOSE);
}

/* ParameterDescription, ahead of the rest of the answer to the Describe of a statement.  That may
 * be an error after which all of it comes again. */
static enum step on_parameters_described(struct server *s, const struct frame *f)
{
	struct slice in = conn_input(&s->conn);
	bool waits = is_waiting(s);
	struct frame next;

	if (!waits && head_is(s, REPLY_DESCRIBE) && replies_head(&s->replies)->way == REPLY_SWALLOW)
		return answer_swallow(s, f);
	if (frame_is_whole(f)) {
		in = slice_of(in.p + f->len, in.n - f->len);
		if (frame_peek(in.p, in.n, &next) != FRAME_OK)
			return STEP_AGAIN;
		if (next.type == MSG_ERROR && next.len <= REPORT_MAX) {
			if (!frame_is_whole(&next))
				return STEP_AGAIN;
			if (waits || replan_is_possible(s, &next))
				return answer_swallow(s, f);
		}
	}
	if (waits)
		answer_end_waiting(s);
	return answer_pass(s, f);
}

/* RowDescription answers a Describe, or comes before the rows of a simple query. */
static enum step on_description(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);

	if (head->note == NOTE_PUTBACK && putback_is_next(head->subject))
		return answer_swallow(s, f);
	if (!head_is(s, REPLY_DESCRIBE))
		return answer_pass(s, f);
	statement_note_result(s, replies_head(&s->replies), f);
	return complete(s, f, REPLY_DESCRIBE);
}

/* What a session begins with may be another from now on, and a server asks for it only once. */
static bool changes_defaults(struct slice tag)
{
	return slice_is_equal(tag, SLICE("ALTER ROLE")) ||
	       slice_is_equal(tag, SLICE("ALTER DATABASE")) ||
	       slice_is_equal(tag, SLICE("CREATE EXTENSION"));
}

/* A text may mean other types and tables from now on, so what was prepared of it is another
 * statement.  Others see it when its transaction has ended. */
static bool is_ddl(struct slice tag)
{
	return slice_starts_with(tag, SLICE("CREATE ")) ||
	       slice_starts_with(tag, SLICE("ALTER ")) || slice_starts_with(tag, SLICE("DROP ")) ||
	       slice_is_equal(tag, SLICE("IMPORT FOREIGN SCHEMA")) ||
	       slice_is_equal(tag, SLICE("COMMIT PREPARED"));
}

void answer_note_ddl(struct server *s)
{
	struct node_set *nodes = s->pool->group->nodes;

	atomic_fetch_add_explicit(&nodes->ddl, 1, memory_order_relaxed);
	if (s->has_definition)
		node_set_note_definition(nodes);
}

/* Code may stand behind names from now on where none did before.  What tags do not tell of, texts
 * may: client.defines. */
static bool is_definition(const struct client *c, struct slice tag)
{
	static const char *const kinds[] = {
		"FUNCTION",  "PROCEDURE",     "ROUTINE",
		"AGGREGATE", "TRIGGER",       "RULE",
		"POLICY",    "VIEW",          "MATERIALIZED VIEW",
		"OPERATOR",  "CAST",          "DOMAIN",
		"TYPE",      "INDEX",         "FOREIGN TABLE",
		"EXTENSION", "EVENT TRIGGER",
	};
	struct slice create = SLICE("CREATE "), alter = SLICE("ALTER ");
	struct slice what;

	if (slice_is_equal(tag, SLICE("CREATE TABLE")) ||
	    slice_is_equal(tag, SLICE("CREATE TABLE AS")))
		return !c->makes_temp;
	if (slice_is_equal(tag, SLICE("IMPORT FOREIGN SCHEMA")))
		return true;
	if (slice_starts_with(tag, create))
		what = slice_of(tag.p + create.n, tag.n - create.n);
	else if (slice_starts_with(tag, alter))
		what = slice_of(tag.p + alter.n, tag.n - alter.n);
	else /* nobody knows what that was */
		return slice_is_equal(tag, SLICE("COMMIT PREPARED"));
	for (size_t i = 0; i < PGT_NELEMS(kinds); i++)
		if (slice_is_equal(what, slice_str(kinds[i])))
			return true;
	return slice_is_equal(tag, SLICE("ALTER TABLE"));
}

/* The server's own notifications: of clients whose connection is theirs, or listens by itself. */
bool answer_notified(struct server *s, struct slice body)
{
	struct reader r = reader_of(body);
	uint32_t pid = read_u32(&r);
	struct slice channel = read_cstr(&r), payload = read_cstr(&r);
	struct client *c = s->client;
	size_t m, before;
	struct buf *out;

	if (r.failed)
		return false;
	if (c->rare->listening && listen_hears(c, channel))
		return true;
	out = conn_output(&c->conn);
	before = buf_len(out);
	m = msg_begin(out, MSG_NOTIFICATION);
	buf_put_u32(out, backend_client(s->node, pid));
	buf_put_slice(out, channel);
	buf_put_u8(out, 0);
	buf_put_slice(out, payload);
	buf_put_u8(out, 0);
	msg_end(out, m);
	c->group->counters.bytes_sent += buf_len(out) - before;
	return true;
}

static enum step on_notification(struct server *s, const struct frame *f)
{
	return answer_notified(s, frame_body(f)) ? answer_swallow(s, f) : answer_pass(s, f);
}

/* What the session has lost by a command that has been run; only its tag tells for sure. */
static void note_tag(struct server *s, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	struct slice tag = read_cstr(&r);
	bool discards = slice_is_equal(tag, SLICE("DISCARD ALL"));
	const struct reply *head = replies_head(&s->replies);

	if (s->client->whose)
		whose_on_tag(s->client, tag);
	if (head && head->note == NOTE_TEXT)
		named_on_tag(s, head->subject, tag);
	if (is_ddl(tag)) {
		s->has_definition |= is_definition(s->client, tag);
		answer_note_ddl(s);
		s->has_ddl = true;
	}
	s->has_defaults |= changes_defaults(tag);
	/* Elsewhere its text has told, before it was sent (pins.c). */
	if (s->pool->group->set.pool_mode == POOL_MODE_SESSION && s->client->base->n)
		s->client->resets |= discards || slice_is_equal(tag, SLICE("RESET"));
	if (discards || slice_is_equal(tag, SLICE("DEALLOCATE ALL")))
		statement_drop_all(s);
	if (discards) {
		s->client->has_discarded = true;
		/* What its startup packet asked for has come back by itself. */
		if (!s->made_for)
			param_set_assign(&s->applied, s->pool->group->params.empty);
		context_forget(s);
		pins_discarded(s->client, true);
	} else if (slice_is_equal(tag, SLICE("DISCARD SEQUENCES"))) {
		pins_discarded(s->client, false);
	}
}

/* A command of a client that listens.  True: it has been told another tag. */
static bool takes_tag(struct server *s, const struct frame *f)
{
	struct client *c = s->client;
	struct reader r = reader_of(frame_body(f));
	const char *tag = listen_on_tag(c, replies_head(&s->replies), read_cstr(&r));

	if (tag)
		msg_put_command_complete(conn_output(&c->conn), tag);
	return tag != NULL;
}

/* CommandComplete, EmptyQueryResponse, PortalSuspended. */
static enum step on_command_end(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	bool is_ours = head->way == REPLY_SWALLOW;
	bool is_told = false;

	/* Whether it reads the Syncs that came behind it as a part of the data is not known. */
	if (s->copy_in)
		return answer_broken(s, "the server ended a COPY before its data had ended");
	if (head->note == NOTE_PUTBACK && putback_takes(head->subject))
		return answer_swallow(s, f);
	if (!is_ours)
		insight_on_command(s, head, f);
	if (f->type == MSG_COMMAND_COMPLETE && frame_is_whole(f) && !is_ours) {
		note_tag(s, f);
		if (s->client->counts_tags)
			admit_count(s->client);
		is_told = s->client->rare->listening && takes_tag(s, f);
	}
	if (!s->doubtful)
		s->loose_syncs = 0; /* a COPY that came to its end has read them all */
	if (head_is(s, REPLY_EXECUTE)) {
		if (!is_ours)
			answer_count_statement(s->client);
		answer_pop(s);
	}
	if (is_ours)
		answer_swallow(s, f);
	else if (is_told)
		answer_replaced(s, f);
	else
		answer_pass(s, f);
	answer_made_ones(s);
	return STEP_DONE;
}

/* A COPY begins.  What the client sent behind its Execute is read by the server in the middle of
 * the COPY, where it ignores Sync: those up to the end of the data will not be answered. */
static enum step on_copy_in(struct server *s, const struct frame *f)
{
	uint32_t i = 1;

	s->copy_in = true;
	while (i < s->replies.n) {
		const struct reply *r = replies_at(&s->replies, i);

		if (r->kind == REPLY_COPY_END) {
			replies_remove(&s->replies, i);
			s->copy_in = false;
			break;
		}
		if (r->kind != REPLY_SYNC)
			break;
		replies_remove(&s->replies, i);
		s->loose_syncs++;
	}
	return answer_pass(s, f);
}

/* START_REPLICATION: both sides send data until both have said CopyDone. */
static enum step on_copy_both(struct server *s, const struct frame *f)
{
	if (!s->pool->group->replication)
		return answer_broken(s, "the server began to replicate although nobody asked");
	return on_copy_in(s, f);
}

/* What is said to a command of ours is nobody else's. */
static enum step on_notice(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);

	if (failure_goes_unnoticed(s, f))
		return answer_swallow(s, f);
	if (rescue_on_notice(s, f))
		return STEP_CLOSED;
	if (head && head->kind == REPLY_PARSE)
		repeat_on_notice(s, head);
	if (is_waiting(s))
		answer_end_waiting(s);
	return s->carrying ? answer_swallow(s, f) : answer_pass(s, f);
}

static enum step on_parameter(struct server *s, const struct frame *f)
{
	server_on_parameter(s, frame_body(f));
	/* Whether it stays so is known when the session has back what it began with. */
	if (s->client->resets || s->carried)
		return answer_swallow(s, f);
	rescue_forget(s);
	if (s->client->phase == CLIENT_READY) {
		param_set_assign(&s->client->told, s->params);
		s->client->env_known = false;
	}
	return answer_pass(s, f);
}

/* ---- the table ------------------------------------------------------------------------------
 */

struct answer_rule {
	enum step (*handle)(struct server *s, const struct frame *f);
	bool whole;   /* waited for, if it is not longer than REPORT_MAX */
	bool unasked; /* may come when nothing is owed */
};

static const struct answer_rule rules[256] = {
	[MSG_PARSE_COMPLETE] = {on_parse_complete,        true,  false},
	[MSG_BIND_COMPLETE] = { on_bind_complete,        true,  false},
	[MSG_CLOSE_COMPLETE] = { on_close_complete,       true,  false},
	[MSG_NOTIFICATION] = { on_notification,         true,  true },
	[MSG_COMMAND_COMPLETE] = { on_command_end,          true,  false},
	[MSG_DATA_ROW] = { pass_run,                false, false},
	[MSG_ERROR] = { failure_on_error,        true,  true },
	[MSG_COPY_IN] = { on_copy_in,              true,  false},
	[MSG_COPY_BOTH] = { on_copy_both,            true,  false},
	[MSG_COPY_OUT] = { answer_pass,             false, false},
	[MSG_EMPTY_QUERY] = { on_command_end,          true,  false},
	[MSG_NOTICE] = { on_notice,               true,  true },
	[MSG_PARAMETER_STATUS] = { on_parameter,            true,  true },
	[MSG_ROW_DESCRIPTION] = { on_description,          true,  false},
	[MSG_FUNCTION_RESULT] = { answer_pass,             false, false},
	[MSG_READY] = { cycle_on_ready,          true,  true },
	[MSG_NO_DATA] = { on_description,          true,  false},
	[MSG_PORTAL_SUSPENDED] = { on_command_end,          true,  false},
	[MSG_PARAMETER_DESCRIPTION] = { on_parameters_described, true,  false},
	[MSG_COPY_DATA] = { pass_run,                false, false},
	[MSG_COPY_DONE] = { answer_pass,             false, false},
};

static enum step dispatch(struct server *s, const struct frame *f)
{
	const struct answer_rule *rule = &rules[f->type];
	enum step step;

	if (!rule->handle)
		return answer_broken(s, "the server sent a message that we do not know");
	if (!s->replies.n && !rule->unasked)
		return answer_broken(s, "the server answered something that nobody asked");
	if (rule->whole && !frame_is_whole(f) && f->len <= REPORT_MAX)
		return STEP_AGAIN;
	/* What ends with it has it too. */
	s->answered += f->len;
	step = rule->handle(s, f);
	if (step == STEP_AGAIN)
		s->answered -= f->len;
	return step;
}

static enum step stream(struct server *s, struct slice in)
{
	size_t n = in.n < s->stream_left ? in.n : s->stream_left;

	if (!s->stream_swallow)
		conn_send(&s->client->conn, in.p, n);
	conn_consume(&s->conn, n);
	s->stream_left -= n;
	return STEP_DONE;
}

static enum step next(struct server *s)
{
	struct slice in = conn_input(&s->conn);
	struct frame f;

	if (s->stream_left)
		return stream(s, in);
	switch (frame_peek(in.p, in.n, &f)) {
	case FRAME_OK:
		return dispatch(s, &f);
	case FRAME_PARTIAL:
		return STEP_AGAIN;
	case FRAME_INVALID:
		break;
	}
	return answer_broken(s, "the server sent a message of an impossible length");
}

/* Whether what the server is at is the client's request, or stands and falls with it: no answer of
 * ours that ends by itself comes before.  The server may keep what it says to the rest until it has
 * come to the end of the request. */
static bool is_at_request(const struct server *s)
{
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);

		if (r->way != REPLY_SWALLOW)
			return true;
		if (reply_ends_cycle(r))
			return false;
	}
	return false;
}

void answer_late_cancel(struct server *s)
{
	struct client *c = s->client;

	if (c->cancel_asked && is_at_request(s)) {
		c->cancel_asked = false;
		server_cancel(s);
	}
}

void answer_go_on(struct server *s)
{
	struct client *c = s->client;

	if (s->question.done)
		return;
	if (c->turn_missed && s->replies.n <= PIPELINE_MAX / 2) {
		relay_go_on(c);
	}
	if (!s->replies.n)
		attach_settle(s);
}

static PGT_NOINLINE void handle(struct server *s)
{
	struct client *c = s->client;
	size_t before = admit_is_gated(c) ? conn_input(&s->conn).n : 0;
	enum step step = STEP_DONE;

	if (c->conn.blocked) {
		conn_pause(&s->conn);
		return;
	}
	if (rescue_waits_for_rest(s))
		return;
	fence_on_answer(s);
	/* They go out with what the server says next, in one write; nobody waits for them before.
	 */
	rescue_before_answers(s);
	answer_made_ones(s);
	while (step == STEP_DONE && plain_pass(s))
		step = next(s);
	if (step == STEP_CLOSED || s->client != c)
		return;
	rescue_behind_answers(s);
	if (before)
		admit_note_bytes(c, before - conn_input(&s->conn).n);
	if (c->whose)
		whose_settle(c);
	if (c->cancel_asked)
		answer_late_cancel(s);
	answer_go_on(s);
}

void answer_on_readable(struct server *s)
{
	if (!plain_answer(s))
		handle(s);
}
