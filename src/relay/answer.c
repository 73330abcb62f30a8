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
#include "base/log.h"
#include "base/mem.h"
#include "relay/early.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
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

static usec_t now_of(const struct server *s)
{
	return loop_now(s->conn.net->loop);
}

/* Nothing more of this message or conversation makes sense: ends both. */
static enum step broken(struct server *s, const char *why)
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

static void pop(struct server *s)
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
		pop(s);
	}
}

static bool head_is(const struct server *s, enum reply_kind kind)
{
	const struct reply *r = replies_head(&s->replies);

	return r && r->kind == kind;
}

/* Passes the message on as far as it is here. */
static enum step pass(struct server *s, const struct frame *f)
{
	s->client->group->counters.bytes_sent += f->len;
	conn_send(&s->client->conn, f->start, f->have);
	conn_consume(&s->conn, f->have);
	s->stream_left = f->len - f->have;
	s->stream_swallow = false;
	return STEP_DONE;
}

/* The same of rows and the like, as many as there are: they are what large results are made of. */
static enum step pass_run(struct server *s, const struct frame *f)
{
	struct slice in = conn_input(&s->conn);
	size_t n = frame_run(in.p, in.n, f->type);

	if (n <= f->len)
		return pass(s, f);
	s->client->group->counters.bytes_sent += n;
	conn_send(&s->client->conn, in.p, n);
	conn_consume(&s->conn, n);
	return STEP_DONE;
}

static enum step swallow(struct server *s, const struct frame *f)
{
	conn_consume(&s->conn, f->have);
	s->stream_left = f->len - f->have;
	s->stream_swallow = true;
	return STEP_DONE;
}

/* The message ends the entry at the head, which must be of this kind. */
static enum step complete(struct server *s, const struct frame *f, enum reply_kind kind)
{
	bool was_asked_by_us;

	if (!head_is(s, kind))
		return broken(s, "the server answered something that nobody asked");
	was_asked_by_us = replies_head(&s->replies)->way == REPLY_SWALLOW;
	pop(s);
	if (was_asked_by_us)
		swallow(s, f);
	else
		pass(s, f);
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
	struct frame next;

	if (head_is(s, REPLY_DESCRIBE) && replies_head(&s->replies)->way == REPLY_SWALLOW)
		return swallow(s, f);
	if (frame_is_whole(f)) {
		in = slice_of(in.p + f->len, in.n - f->len);
		if (frame_peek(in.p, in.n, &next) != FRAME_OK)
			return STEP_AGAIN;
		if (next.type == MSG_ERROR && next.len <= REPORT_MAX) {
			if (!frame_is_whole(&next))
				return STEP_AGAIN;
			if (replan_is_possible(s, &next))
				return swallow(s, f);
		}
	}
	return pass(s, f);
}

/* RowDescription answers a Describe, or comes before the rows of a simple query. */
static enum step on_description(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);

	if (head->note == NOTE_PUTBACK && putback_is_next(head->subject))
		return swallow(s, f);
	if (!head_is(s, REPLY_DESCRIBE))
		return pass(s, f);
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

/* Its transaction has ended, so all servers are replaced that began before: roles are the
 * cluster's. A tenant's user is not to trouble others, and may change its own only. */
static void note_defaults(struct server *s)
{
	struct group *group = s->pool->group;
	struct shared *whose = s->client->tenant ? group->login_shared : group->nodes->cluster;

	atomic_fetch_add_explicit(&whose->defaults, 1, memory_order_relaxed);
	s->has_defaults = false;
}

/* A text may mean other types and tables from now on, so what was prepared of it is another
 * statement.  Others see it when its transaction has ended. */
static bool is_ddl(struct slice tag)
{
	return slice_starts_with(tag, SLICE("CREATE ")) ||
	       slice_starts_with(tag, SLICE("ALTER ")) || slice_starts_with(tag, SLICE("DROP "));
}

static void note_ddl(struct server *s)
{
	struct node_set *nodes = s->pool->group->nodes;

	atomic_fetch_add_explicit(&nodes->ddl, 1, memory_order_relaxed);
	if (s->has_definition)
		atomic_fetch_add_explicit(&nodes->definitions, 1, memory_order_relaxed);
}

/* Code may stand behind names from now on where none did before. */
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

	if (slice_is_equal(tag, SLICE("CREATE TABLE")))
		return !c->makes_temp;
	if (slice_starts_with(tag, create))
		what = slice_of(tag.p + create.n, tag.n - create.n);
	else if (slice_starts_with(tag, alter))
		what = slice_of(tag.p + alter.n, tag.n - alter.n);
	else
		return false;
	for (size_t i = 0; i < PGT_NELEMS(kinds); i++)
		if (slice_is_equal(what, slice_str(kinds[i])))
			return true;
	return slice_is_equal(tag, SLICE("ALTER TABLE"));
}

/* The server's own notifications: of clients whose connection is theirs, or listens by itself. */
static enum step on_notification(struct server *s, const struct frame *f)
{
	struct reader r = reader_of(frame_body(f));
	uint32_t pid = read_u32(&r);
	struct slice channel = read_cstr(&r), payload = read_cstr(&r);
	struct client *c = s->client;
	struct buf *out;
	size_t m;

	if (r.failed)
		return pass(s, f);
	if (c->listening && listen_hears(c, channel))
		return swallow(s, f);
	out = conn_output(&c->conn);
	m = msg_begin(out, MSG_NOTIFICATION);
	buf_put_u32(out, backend_client(s->node, pid));
	buf_put_slice(out, channel);
	buf_put_u8(out, 0);
	buf_put_slice(out, payload);
	buf_put_u8(out, 0);
	msg_end(out, m);
	c->group->counters.bytes_sent += f->len;
	return swallow(s, f);
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
		note_ddl(s);
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

static void count_statement(struct client *c)
{
	c->group->counters.query_count++;
	tenant_count(c->tenant, TENANT_STATEMENTS, 1);
}

/* CommandComplete, EmptyQueryResponse, PortalSuspended. */
static enum step on_command_end(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	bool is_ours = head->way == REPLY_SWALLOW;
	bool is_told = false;

	if (head->note == NOTE_PUTBACK && putback_takes(head->subject))
		return swallow(s, f);
	if (f->type == MSG_COMMAND_COMPLETE && frame_is_whole(f) && !is_ours) {
		note_tag(s, f);
		if (s->client->counts_tags)
			admit_count(s->client);
		is_told = s->client->listening && takes_tag(s, f);
	}
	s->copy_in = false;
	if (!s->doubtful)
		s->loose_syncs = 0; /* a COPY that came to its end has read them all */
	if (!head_is(s, REPLY_EXECUTE))
		return is_told || replies_head(&s->replies)->way == REPLY_SWALLOW ? swallow(s, f)
										  : pass(s, f);
	if (replies_head(&s->replies)->way == REPLY_PASS)
		count_statement(s->client);
	if (is_told)
		replies_head(&s->replies)->way = REPLY_SWALLOW;
	return complete(s, f, REPLY_EXECUTE);
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
	return pass(s, f);
}

/* START_REPLICATION: both sides send data until both have said CopyDone. */
static enum step on_copy_both(struct server *s, const struct frame *f)
{
	if (!s->pool->group->replication)
		return broken(s, "the server began to replicate although nobody asked");
	return on_copy_in(s, f);
}

/* What is said to a command of ours is nobody else's. */
static enum step on_notice(struct server *s, const struct frame *f)
{
	if (rescue_on_notice(s, f))
		return STEP_CLOSED;
	return s->carrying ? swallow(s, f) : pass(s, f);
}

static enum step on_parameter(struct server *s, const struct frame *f)
{
	server_on_parameter(s, frame_body(f));
	/* Whether it stays so is known when the session has back what it began with. */
	if (s->client->resets || s->carried)
		return swallow(s, f);
	rescue_forget(s);
	if (s->client->phase == CLIENT_READY) {
		param_set_assign(&s->client->told, s->params);
		s->client->env_known = false;
	}
	return pass(s, f);
}

/* What follows the failed entry is void up to the next Sync. */
static void void_to_sync(struct server *s)
{
	bool has_sync;
	uint32_t n = replies_until_sync(&s->replies, &has_sync);

	statement_void(s, n, true);
	if (!has_sync)
		s->skips_to_sync = true;
}

/* The error that we made the server raise, in our words.  It may have had a better reason. */
static enum step refuse(struct server *s, const struct frame *f)
{
	struct err *e = replies_head(&s->replies)->subject;
	struct report report;

	report_parse(frame_body(f), &report);
	if (!strcmp(e->sqlstate, "42P05") && !slice_is_equal(report.sqlstate, SLICE("42P05")))
		return pass(s, f);
	msg_put_error(conn_output(&s->client->conn), "ERROR", e);
	replies_head(&s->replies)->note = NOTE_NONE;
	free(e);
	return swallow(s, f);
}

static bool is_fatal(const struct frame *f)
{
	struct report report;

	report_parse(frame_body(f), &report);
	return slice_is_equal(report.severity, SLICE("FATAL")) ||
	       slice_is_equal(report.severity, SLICE("PANIC"));
}

/* An error that the client gets, with names and positions as it knows them. */
static void pass_error(struct server *s, const struct frame *f)
{
	struct buf reworded = { 0 };

	if (frame_is_whole(f))
		named_reword(s, f, &reworded);
	if (!buf_len(&reworded)) {
		pass(s, f);
		return;
	}
	s->client->group->counters.bytes_sent += buf_len(&reworded);
	buf_put_slice(conn_output(&s->client->conn), buf_peek(&reworded));
	buf_fini(&reworded);
	swallow(s, f);
}

/* The server goes, and says nothing of what becomes of what it was asked: a hint of ours does. */
static void pass_farewell(struct server *s, const struct frame *f)
{
	struct buf *out = conn_output(&s->client->conn);
	struct slice body = frame_body(f);
	struct report report;
	size_t begun;

	if (!report_parse(body, &report) || !report_is_farewell(&report) || report.hint.n) {
		pass(s, f);
		return;
	}
	begun = msg_begin(out, f->type);
	buf_put(out, body.p, body.n - 1); /* without the end of the list of fields */
	buf_put_u8(out, 'H');
	buf_put_cstr(out, attach_outcome(s));
	buf_put_u8(out, 0);
	msg_end(out, begun);
	swallow(s, f);
}

/* What we have asked at the head of the queue was for a Query, not for a batch of the client's. */
static bool was_for_query(const struct server *s)
{
	uint32_t i = 0;

	while (i < s->replies.n && replies_at(&s->replies, i)->way == REPLY_SWALLOW)
		i++;
	return i && i < s->replies.n && replies_at(&s->replies, i)->kind == REPLY_QUERY;
}

/* It failed, so the server skips the Query too, and waits for a Sync that the client will not send.
 */
static void void_query(struct server *s)
{
	void_to_sync(s);
	s->skips_to_sync = false;
	msg_put_empty(conn_output(&s->conn), MSG_SYNC);
	replies_push(&s->replies, (struct reply){ .kind = REPLY_SYNC, .way = REPLY_PASS });
}

/* The deferred BEGIN that is under way at the head of the queue, or NULL. */
static PGT_NOINLINE struct statement *begin_owed(const struct server *s)
{
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);

		if (r->way != REPLY_SWALLOW || reply_ends_cycle(r))
			return NULL;
		if (r->note == NOTE_BEGIN && r->subject)
			return r->subject;
	}
	return NULL;
}

bool answer_owes_begin(const struct server *s)
{
	const struct reply *head = replies_head(&s->replies);

	return head && head->way == REPLY_SWALLOW && begin_owed(s);
}

/* The client has one request under way, all of which has been sent but maybe its Sync. */
static bool has_one_request(const struct server *s)
{
	const struct client *c = s->client;
	unsigned cycles = c->in_batch;

	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);

		cycles += r->way == REPLY_PASS && reply_ends_cycle(r);
	}
	return cycles == 1 && !c->stream_left;
}

/* The server ignores all that was sent behind what failed, which nobody knows of any more but we:
 * the connection goes, and the client is where an error in its statement leaves it.  begin: of its
 * transaction, or NULL. */
static enum step fail_request(struct server *s, const struct frame *f, struct statement *begin)
{
	struct client *c = s->client;
	bool in_batch = c->in_batch;

	if (begin)
		statement_ref(begin);
	buf_put(conn_output(&c->conn), f->start, f->have);
	attach_abandon(c);
	if (begin)
		local_take_failed(c, begin);
	c->in_batch = false;
	c->skips_to_sync = in_batch;
	if (!in_batch && !begin && c->whose)
		whose_end(c, false);
	if (!in_batch)
		local_ready(c);
	conn_resume(&c->conn);
	conn_kick(&c->conn);
	return STEP_CLOSED;
}

/* What was to go ahead of the client's request did not: its settings, or a BEGIN that it has been
 * told of. */
static PGT_NOINLINE enum step ahead_failed(struct server *s, const struct frame *f,
					   struct statement *begin)
{
	struct report report;
	struct err e;

	/* Up to a Sync the server ignores a goodbye too. */
	if (!s->client->stream_left)
		msg_put_empty(conn_output(&s->conn), MSG_SYNC);
	if (frame_is_whole(f) && has_one_request(s) && !attach_keeps(s->client))
		return fail_request(s, f, begin);
	report_parse(frame_body(f), &report);
	err_set(&e, "25000", "%.*s", SLICE_FMT(report.message));
	if (report.sqlstate.n == 5)
		memcpy(e.sqlstate, report.sqlstate.p, 5);
	err_hint(&e, "Nothing of what was sent has run.");
	client_close(s->client, &e, e.text);
	return STEP_CLOSED;
}

static enum step on_error(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	bool is_simple = !head || head->kind == REPLY_QUERY || head->kind == REPLY_FUNCTION;
	bool for_query = was_for_query(s);

	s->said_fatal = frame_is_whole(f) && is_fatal(f);
	if (head && head->note == NOTE_BEGIN && head->kind == REPLY_QUERY && !s->said_fatal)
		return swallow(s, f); /* the client has its error already */
	if (head && head->note == NOTE_CHECK && !s->said_fatal) {
		context_is_changed(s);
		void_to_sync(s);
		return swallow(s, f);
	}
	if (head && head->note == NOTE_EARLY && (!s->said_fatal || early_is_all(s->client))) {
		early_failed(s);
		return swallow(s, f);
	}
	/* Not everything that the texts name was set, so nothing but the settings tells what was.
	 */
	if (s->client->touched & TOUCHED_NAMED)
		s->client->touched |= TOUCHED_SETTINGS;
	if (frame_is_whole(f) && rescue_on_error(s, f))
		return STEP_CLOSED;
	if ((s->carrying || answer_owes_begin(s)) && !s->said_fatal)
		return ahead_failed(s, f, begin_owed(s));
	if (frame_is_whole(f) && replan_on_error(s, f))
		return swallow(s, f);
	/* Whether the server has read the Syncs that came early, nobody can know now. */
	if (s->loose_syncs)
		s->doubtful = true;
	s->copy_in = false;
	if (s->client->whose)
		whose_on_error(s->client);
	if (s->client->listening)
		listen_on_error(s->client);
	if (s->said_fatal)
		s->doubtful =
		    true; /* it is going, even if its end of the connection is still open */
	if (head && head->note == NOTE_REFUSED && !s->said_fatal)
		refuse(s, f);
	else if (s->said_fatal)
		pass_farewell(s, f);
	else
		pass_error(s, f);
	if (for_query)
		void_query(s);
	else if (!is_simple && head->kind != REPLY_SYNC)
		void_to_sync(s);
	return STEP_DONE;
}

static void count_cycle(struct server *s, char tx)
{
	struct counters *counters = &s->pool->group->counters;
	usec_t now = now_of(s);

	counters->query_time += (uint64_t)(now - s->query_at);
	if (admit_is_gated(s->client))
		admit_note_time(s->client, now - s->query_at);
	s->query_at = now;
	if (tx == 'I') {
		s->client->owes_snapshot = false;
		counters->xact_count++;
		counters->xact_time += (uint64_t)(now - s->xact_at);
		s->xact_at = now;
	}
}

/* The request was that of the tenant whose id the server carries; its client may be another's by
 * now. */
static void record(struct server *s, enum latency_part part, usec_t took)
{
	latency_record(s->pool->times, s->context ? &s->context->times : NULL, part, took);
}

/* How long its client has waited for this ReadyForQuery.  before: where the one before it left the
 * session. */
static void measure_cycle(struct server *s, char before)
{
	usec_t now = loop_clock(s->conn.net->loop);
	bool ended = s->tx == 'I';

	record(s, before == 'I' && ended ? LATENCY_ALONE : LATENCY_WITHIN, now - s->asked_at);
	if (before != 'I' && ended)
		record(s, LATENCY_BLOCK, now - s->begun_at);
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

	pop(s);
	if (!is_early)
		note_tx(s, tx);
	else if (!early_ended(s, tx))
		return STEP_CLOSED;
	s->batch++;
	s->checking = false;
	swallow(s, f);
	answer_made_ones(s);
	return STEP_DONE;
}

static enum step on_ready(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	struct client *c = s->client;
	char tx = f->len == 6 ? f->start[FRAME_HEADER_LEN] : 'E';
	char before = s->tx;
	bool listens = c->listening;
	struct err e;

	if (head && head->way == REPLY_SWALLOW)
		return on_unseen_ready(s, f, tx);
	if (must_let_cancel_pass(s, tx) ||
	    (listens && tx == 'I' && listen_before_ready(c) == STEP_AGAIN)) {
		conn_pause(&s->conn);
		return STEP_AGAIN;
	}
	if (head && (head->kind == REPLY_QUERY || head->kind == REPLY_FUNCTION)) {
		count_statement(c);
		pop(s);
		c->counts_tags = false;
		/* In the middle of a batch it has ended that (request.c). */
		c->in_batch = c->in_batch && s->replies.n;
	} else if (head && head->kind == REPLY_SYNC) {
		pop(s);
	} else if (s->loose_syncs) {
		/* The COPY failed before the server read the Sync, so that it counts after all. */
		s->loose_syncs--;
		s->skips_to_sync = false;
	} else {
		return broken(s, "the server was ready although nobody asked");
	}
	note_tx(s, tx);
	s->copy_in = false;
	if (c->whose)
		whose_on_ready(c, tx);
	if (s->has_ddl && tx == 'I') {
		note_ddl(s);
		s->has_ddl = s->has_definition = false;
	}
	if (s->has_defaults && tx == 'I')
		note_defaults(s);
	if (!s->replies.n)
		s->forgets = false;
	s->batch++;
	if (s->sent.data)
		conn_give_back(&s->conn, &s->sent);
	count_cycle(s, s->tx);
	if (s->pool->times)
		measure_cycle(s, before);
	s->pool->group->counters.asked_count++;
	if (listens)
		listen_on_ready(c, tx);
	if (s->carried) {
		s->carried = false;
		session_tell(c, s);
	}
	if (c->resets && session_restore(c, s))
		return swallow(s, f);
	pass(s, f);
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
	[MSG_ERROR] = { on_error,                true,  true },
	[MSG_COPY_IN] = { on_copy_in,              true,  false},
	[MSG_COPY_BOTH] = { on_copy_both,            true,  false},
	[MSG_COPY_OUT] = { pass,                    false, false},
	[MSG_EMPTY_QUERY] = { on_command_end,          true,  false},
	[MSG_NOTICE] = { on_notice,               true,  true },
	[MSG_PARAMETER_STATUS] = { on_parameter,            true,  true },
	[MSG_ROW_DESCRIPTION] = { on_description,          true,  false},
	[MSG_FUNCTION_RESULT] = { pass,                    false, false},
	[MSG_READY] = { on_ready,                true,  true },
	[MSG_NO_DATA] = { on_description,          true,  false},
	[MSG_PORTAL_SUSPENDED] = { on_command_end,          true,  false},
	[MSG_PARAMETER_DESCRIPTION] = { on_parameters_described, true,  false},
	[MSG_COPY_DATA] = { pass_run,                false, false},
	[MSG_COPY_DONE] = { pass,                    false, false},
};

static enum step dispatch(struct server *s, const struct frame *f)
{
	const struct answer_rule *rule = &rules[f->type];

	if (!rule->handle)
		return broken(s, "the server sent a message that we do not know");
	if (!s->replies.n && !rule->unasked)
		return broken(s, "the server answered something that nobody asked");
	if (rule->whole && !frame_is_whole(f) && f->len <= REPORT_MAX)
		return STEP_AGAIN;
	s->conn.doing = backend_message_name(f->type);
	return rule->handle(s, f);
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

	if (!in.n)
		return STEP_AGAIN;
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
	return broken(s, "the server sent a message of an impossible length");
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
		conn_resume(&c->conn);
		conn_kick(&c->conn);
	}
	if (!s->replies.n)
		attach_settle(s);
}

void answer_on_readable(struct server *s)
{
	struct client *c = s->client;
	size_t before = admit_is_gated(c) ? conn_input(&s->conn).n : 0;
	enum step step = STEP_DONE;

	if (c->conn.blocked) {
		conn_pause(&s->conn);
		return;
	}
	fence_on_answer(s);
	/* They go out with what the server says next, in one write; nobody waits for them before.
	 */
	rescue_before_answers(s);
	answer_made_ones(s);
	while (step == STEP_DONE)
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
