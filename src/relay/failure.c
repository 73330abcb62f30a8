/* SPDX-License-Identifier: ISC
 *
 * failure.c - errors of servers: what of the request is void by one, and what the client is told.
 *
 * Behind an error the server skips a batch to its Sync; the entries of what it skips are taken
 * back. An error of what we asked in the client's name is the answer to the client's own request.
 *
 * Source: PostgreSQL manual, "Extended Query" (error recovery), "Error and Notice Message Fields".
 */
#include "relay/answer.h"
#include "relay/early.h"
#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/replan.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>

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
		return answer_pass(s, f);
	msg_put_error(conn_output(&s->client->conn), "ERROR", e);
	replies_head(&s->replies)->note = NOTE_NONE;
	free(e);
	return answer_swallow(s, f);
}

static bool is_fatal(const struct frame *f)
{
	struct report report;

	report_parse(frame_body(f), &report);
	return slice_is_equal(report.severity, SLICE("FATAL")) ||
	       slice_is_equal(report.severity, SLICE("PANIC"));
}

bool failure_goes_unnoticed(struct server *s, const struct frame *f)
{
	struct report report;

	if (s->replies.n || !frame_is_whole(f) || !attach_owes_nothing(s))
		return false;
	report_parse(frame_body(f), &report);
	if (!is_fatal(f) && !report_is_farewell(&report))
		return false;
	s->doubtful = true;
	return true;
}

/* An error that the client gets, with names and positions as it knows them. */
static void pass_error(struct server *s, const struct frame *f)
{
	struct buf reworded = { 0 };

	if (frame_is_whole(f))
		named_reword(s, f, &reworded);
	if (!buf_len(&reworded)) {
		answer_pass(s, f);
		return;
	}
	s->client->group->counters.bytes_sent += buf_len(&reworded);
	buf_put_slice(conn_output(&s->client->conn), buf_peek(&reworded));
	buf_fini(&reworded);
	answer_replaced(s, f);
}

/* The server goes, and says nothing of what becomes of what it was asked: a hint of ours does. */
static void pass_farewell(struct server *s, const struct frame *f)
{
	struct buf *out = conn_output(&s->client->conn);
	struct slice body = frame_body(f);
	struct report report;
	size_t begun;

	if (!report_parse(body, &report) || !report_is_farewell(&report) || report.hint.n) {
		answer_pass(s, f);
		return;
	}
	begun = msg_begin(out, f->type);
	buf_put(out, body.p, body.n - 1); /* without the end of the list of fields */
	buf_put_u8(out, 'H');
	buf_put_cstr(out, supply_outcome(s));
	buf_put_u8(out, 0);
	msg_end(out, begun);
	answer_replaced(s, f);
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
	relay_go_on(c);
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

/* tenant_context_check, behind a request. */
static PGT_NOINLINE enum step check_failed(struct server *s, const struct frame *f)
{
	struct report report;

	report_parse(frame_body(f), &report);
	context_check_failed(s, &report);
	void_to_sync(s);
	return answer_swallow(s, f);
}

static void count_error(struct server *s, const struct frame *f)
{
	struct counters *counters = &s->client->group->counters;
	struct report report;

	counters->error_count++;
	report_parse(frame_body(f), &report);
	counters->timeout_count += slice_is_equal(report.sqlstate, SLICE("57014"));
	counters->lock_count += slice_is_equal(report.sqlstate, SLICE("55P03")) ||
				slice_is_equal(report.sqlstate, SLICE("40P01"));
}

enum step failure_on_error(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	bool is_simple = !head || head->kind == REPLY_QUERY || head->kind == REPLY_FUNCTION;
	bool for_query = was_for_query(s);

	s->said_fatal = frame_is_whole(f) && is_fatal(f);
	if (failure_goes_unnoticed(s, f))
		return answer_swallow(s, f);
	if (head && head->note == NOTE_BEGIN && head->kind == REPLY_QUERY && !s->said_fatal)
		return answer_swallow(s, f); /* the client has its error already */
	if (head && head->note == NOTE_CHECK && !s->said_fatal)
		return check_failed(s, f);
	if (head && head->note == NOTE_EARLY && (!s->said_fatal || early_is_all(s->client))) {
		early_failed(s);
		return answer_swallow(s, f);
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
		return answer_swallow(s, f);
	/* Whether the server has read the Syncs that came early, nobody can know now. */
	if (s->loose_syncs)
		s->doubtful = true;
	s->copy_in = false;
	if (s->client->whose)
		whose_on_error(s->client);
	if (s->client->rare->listening)
		listen_on_error(s->client);
	if (s->said_fatal)
		s->doubtful =
		    true; /* it is going, even if its end of the connection is still open */
	if (!head || head->note != NOTE_REFUSED) {
		count_error(s, f);
		insight_on_error(s);
	}
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
