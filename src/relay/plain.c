/* SPDX-License-Identifier: ISC
 *
 * plain.c - answers that mean nothing to anybody but the client: passed on in one piece.
 *
 * They are nearly all that servers say.  While the state of a server and its client is plain, the
 * messages that have come are gone through once, the queue of replies with them, and all go out as
 * they came.  What each of them is taken for here is what its handler (answer.c, cycle.c) comes to;
 * the first that could come to anything else is left for that.
 *
 * Source: PostgreSQL manual, "Message Flow".
 */
#include "relay/answer.h"
#include "relay/insight.h"
#include "relay/parts.h"
#include "relay/rescue.h"
#include "relay/settle.h"
#include "relay/statement.h"
#include "wire/frame.h"

/* Whether the handlers have nothing to note of what the client asked and the server answers. */
static inline bool is_plain(const struct server *s, const struct client *c)
{
	return !s->stream_left && !s->copy_in && !s->loose_syncs && !s->cancel && !s->carried &&
	       !c->whose && !c->rare->listening && !c->counts_tags && !c->resets &&
	       c->group->set.pool_mode != POOL_MODE_STATEMENT;
}

/* What is noted of a Parse or Describe is only for who takes it off the queue. */
static inline bool is_plain_reply(const struct reply *r)
{
	_Static_assert(!REPLY_PASS && !NOTE_NONE, "what is plain is zero");
	return !(r->way | r->has_controls) &&
	       (!r->note || r->kind == REPLY_PARSE || r->kind == REPLY_DESCRIBE);
}

/* Whether a command of this tag changes nothing that answer.c would note. */
static inline bool is_plain_tag(struct slice tag)
{
	switch (tag.n ? *tag.p : 0) {
	case 'A': /* ALTER */
	case 'R': /* RESET */
		return false;
	case 'C': /* CREATE */
		return slice_starts_with(tag, SLICE("COMMIT"));
	case 'D': /* DISCARD, DEALLOCATE, DROP */
		return slice_starts_with(tag, SLICE("DELETE"));
	default:
		return true;
	}
}

/* Whether it is nothing to anybody: most of what an answer consists of. */
static inline bool is_row(const struct reply *head, uint8_t type)
{
	return type == MSG_DATA_ROW || (type == MSG_ROW_DESCRIPTION && head->kind == REPLY_QUERY);
}

static inline bool take_ready(struct server *s, const struct reply *head, const struct frame *f)
{
	bool is_query = head->kind == REPLY_QUERY;

	if (f->len != 6 || (!is_query && head->kind != REPLY_SYNC))
		return false;
	replies_pop(&s->replies);
	if (is_query)
		cycle_end_query(s);
	cycle_end(s, f->start[FRAME_HEADER_LEN]);
	return true;
}

/* A message that is here whole, of the answer to what stands at the head of the queue, and no row:
 * does all that it means but to pass it on.  False: nothing was done. */
static inline bool take(struct server *s, const struct reply *head, const struct frame *f)
{
	switch (f->type) {
	case MSG_READY:
		return take_ready(s, head, f);
	case MSG_ROW_DESCRIPTION:
		if (head->kind != REPLY_DESCRIBE)
			return false;
		statement_note_result(s, head, f);
		break;
	case MSG_PARSE_COMPLETE:
		if (head->kind != REPLY_PARSE)
			return false;
		break;
	case MSG_BIND_COMPLETE:
		if (head->kind != REPLY_BIND)
			return false;
		break;
	case MSG_COMMAND_COMPLETE:
		if (!is_plain_tag(frame_body(f)) ||
		    (head->kind != REPLY_QUERY && head->kind != REPLY_EXECUTE))
			return false;
		insight_on_command(s, head, f);
		if (head->kind == REPLY_QUERY)
			return true;
		answer_count_statement(s->client);
		break;
	default:
		return false;
	}
	if (head->note)
		answer_pop(s);
	else
		replies_pop(&s->replies);
	return true;
}

/* Whether an unnamed statement for which another stands in has just been bound. */
static inline bool is_bound_instead(const struct server *s, struct slice in)
{
	return s->replies.n > 1 && replies_at(&s->replies, 0)->way == REPLY_WAIT &&
	       replies_at(&s->replies, 1)->kind == REPLY_BIND && in.n >= FRAME_HEADER_LEN &&
	       *in.p == MSG_BIND_COMPLETE;
}

/* Goes through what has come of the answer to what stands at the head, up to what ends that or has
 * to be left to its handler (then *goes_on is false), and says where it has come to. */
static inline const char *take_some(struct server *s, const struct reply *head, const char *p,
				    const char *end, bool *goes_on)
{
	const char *from = p;
	size_t n;

	while ((n = frame_whole(p, (size_t)(end - p))) && is_row(head, (uint8_t)*p))
		p += n;
	s->answered += (size_t)(p - from) + n;
	*goes_on = n && take(s, head, &(struct frame){ (uint8_t)*p, p, n, n });
	if (*goes_on)
		return p + n;
	s->answered -= n;
	return p;
}

/* ---- statements of a pipeline ----------------------------------------------------------------
 */

static inline bool reply_is(const struct reply *r, enum reply_kind kind, enum reply_way way,
			    enum reply_note note)
{
	const uint8_t all[4] = { (uint8_t)kind, (uint8_t)way, (uint8_t)note, false };

	return !memcmp(r, all, sizeof(all));
}

/* How many replies at the head are of a statement for which another stands in, behind the first of
 * its batch (repeat.h): Parse, Bind, Describe or not, Execute; 0: they are of something else. */
static inline uint32_t count_owed(const struct replies *q)
{
	uint32_t n = 2;

	if (q->n < 3 || !reply_is(replies_at(q, 0), REPLY_PARSE, REPLY_MAKE, NOTE_UNNAMED) ||
	    !reply_is(replies_at(q, 1), REPLY_BIND, REPLY_PASS, NOTE_NONE))
		return 0;
	n += q->n > 3 && reply_is(replies_at(q, 2), REPLY_DESCRIBE, REPLY_PASS, NOTE_NONE) &&
	     !replies_at(q, 2)->serial;
	return reply_is(replies_at(q, n), REPLY_EXECUTE, REPLY_PASS, NOTE_NONE) ? n + 1 : 0;
}

/* What the server has said to one, as far as the next is compared with it: where in it its first
 * row is, or what ends it, and where that is. */
struct told {
	const char *at;
	size_t len, row, command;
	uint32_t owed; /* what it was owed for; 0: the next is not compared */
};

/* Parts of the tag that are compared: at its beginning, and at its end. */
#define TAG_PART 8

/* Whether what the server says to that is here, and means nothing to anybody but the client. */
static inline bool is_told(struct told *told, const char *p, const char *end, uint32_t owed)
{
	static const char bound[] = { MSG_BIND_COMPLETE, 0, 0, 0, 4 };
	const char *at = p + sizeof(bound);
	unsigned rows = 0;
	size_t n;

	if ((size_t)(end - p) < sizeof(bound) || memcmp(p, bound, sizeof(bound)))
		return false;
	if (owed == 4) {
		n = frame_whole(at, (size_t)(end - at));
		if (!n || (*at != MSG_ROW_DESCRIPTION && *at != MSG_NO_DATA))
			return false;
		at += n;
	}
	told->at = p;
	told->row = (size_t)(at - p);
	while ((n = frame_whole(at, (size_t)(end - at))) && *at == MSG_DATA_ROW) {
		at += n;
		rows++;
	}
	told->command = (size_t)(at - p);
	told->len = told->command + n;
	told->owed = rows <= 1 && n >= TAG_PART && n <= 2 * TAG_PART ? owed : 0;
	return n && *at == MSG_COMMAND_COMPLETE &&
	       is_plain_tag(slice_of(at + FRAME_HEADER_LEN, n - FRAME_HEADER_LEN));
}

/* Whether it is here, all of its messages are as long as those of the one before, and its tag is
 * the same. */
static inline bool is_told_again(const struct told *told, const char *p, const char *end,
				 uint32_t owed)
{
	const char *q = told->at;

	return told->owed == owed && (size_t)(end - p) >= told->len &&
	       !memcmp(p, q, (size_t)2 * FRAME_HEADER_LEN) &&
	       !memcmp(p + told->row, q + told->row, FRAME_HEADER_LEN) &&
	       !memcmp(p + told->command, q + told->command, TAG_PART) &&
	       !memcmp(p + told->len - TAG_PART, q + told->len - TAG_PART, TAG_PART);
}

/* What one has cost, by its shape; command: in its answer.  Whether that was added up. */
static inline bool count_command(struct server *s, const struct reply *run, const struct told *told,
				 struct insight_row *row)
{
	size_t n = told->len - told->command;
	struct frame command = { MSG_COMMAND_COMPLETE, told->at + told->command, n, n };
	bool adds_up = insight_adds_up(s, run->query, frame_body(&command), told->len, row);

	if (!adds_up && row->n)
		insight_count_row(s, row);
	s->answered += told->len;
	if (!adds_up)
		insight_on_command(s, run, &command);
	return adds_up;
}

/* Passes on the answers to such statements, as many as have come one behind the other, each behind
 * the ParseComplete that is ours to say.  Up to where. */
static PGT_NOINLINE const char *pass_again(struct server *s, const char *p, const char *end)
{
	static const char parsed[] = { MSG_PARSE_COMPLETE, 0, 0, 0, 4 };
	struct client *c = s->client;
	struct buf *out = conn_output(&c->conn);
	struct insight_row row = { 0 };
	struct told told = { .owed = 0 };
	bool is_again, adds_up = false;
	const struct reply *run;
	const char *from = p;
	unsigned n = 0;
	uint32_t owed;
	char *to;

	while ((owed = count_owed(&s->replies)) &&
	       ((is_again = is_told_again(&told, p, end, owed)) || is_told(&told, p, end, owed))) {
		run = replies_at(&s->replies, owed - 1);
		if (is_again && adds_up && insight_adds_again(s, run->query, &row))
			s->answered += told.len;
		else
			adds_up = count_command(s, run, &told, &row);
		n++;
		statement_unref(replies_head(&s->replies)->subject);
		replies_drop_within(&s->replies, owed);
		to = buf_reserve(out, sizeof(parsed) + told.len);
		memcpy(to, parsed, sizeof(parsed));
		memcpy(to + sizeof(parsed), p, told.len);
		buf_produced(out, sizeof(parsed) + told.len);
		p += told.len;
	}
	if (row.n)
		insight_count_row(s, &row);
	answer_count_statements(c, n);
	c->group->counters.bytes_sent += (size_t)(p - from);
	conn_consume(&s->conn, (size_t)(p - from));
	return p;
}

/* ---- any of them -----------------------------------------------------------------------------
 */

bool plain_pass(struct server *s)
{
	struct client *c = s->client;
	struct slice in = conn_input(&s->conn);
	const char *p = in.p, *end = in.p + in.n;
	const struct reply *head;
	bool goes_on = true;

	if (!is_plain(s, c))
		return in.n;
	if (is_bound_instead(s, in))
		answer_end_waiting(s);
	while (goes_on && (head = replies_head(&s->replies)) && is_plain_reply(head))
		p = take_some(s, head, p, end, &goes_on);
	if (p == in.p)
		return in.n;
	c->group->counters.bytes_sent += (size_t)(p - in.p);
	conn_send(&c->conn, in.p, (size_t)(p - in.p));
	conn_consume(&s->conn, (size_t)(p - in.p));
	if (p < end && s->replies.n && replies_head(&s->replies)->way == REPLY_MAKE)
		p = pass_again(s, p, end);
	if (s->replies.n)
		answer_made_ones(s);
	return p < end;
}

/* ---- the whole answer to a Query of one command ------------------------------------------------
 */

#define READY_LEN 6

/* The tag in it, if that and a ReadyForQuery are the end of what has come, behind nothing but rows.
 * False: it is another answer, or not all of it. */
static inline bool is_answer(struct slice in, struct slice *tag)
{
	const char *p = in.p, *end;
	size_t n;

	if (in.n < READY_LEN)
		return false;
	end = in.p + in.n - READY_LEN;
	if (*end != MSG_READY || frame_whole(end, READY_LEN) != READY_LEN)
		return false;
	while ((n = frame_whole_before(p, end)) &&
	       (*p == MSG_DATA_ROW || *p == MSG_ROW_DESCRIPTION))
		p += n;
	if (!n || *p != MSG_COMMAND_COMPLETE || p + n != end)
		return false;
	*tag = slice_of(p + FRAME_HEADER_LEN, n - FRAME_HEADER_LEN);
	return true;
}

/* Passes on the answer, which may be kept by somebody. */
static PGT_NOINLINE void pass_and_settle(struct server *s, struct client *c, struct slice answer)
{
	rescue_before_answers(s);
	conn_send(&c->conn, answer.p, answer.n);
	rescue_behind_answers(s);
	attach_settle(s);
}

bool plain_answer(struct server *s)
{
	struct client *c = s->client;
	struct slice in = conn_input(&s->conn), tag;
	const struct reply *head = replies_head(&s->replies);

	if (!server_is_usual(s) || !client_is_usual(c) || s->replies.n != 1 || s->stream_left ||
	    !reply_is(head, REPLY_QUERY, REPLY_PASS, NOTE_NONE) || c->conn.blocked || s->cancel ||
	    c->whose || c->rare->listening || admit_is_gated(c) ||
	    c->group->set.pool_mode == POOL_MODE_STATEMENT || s->ran.at || !is_answer(in, &tag) ||
	    !is_plain_tag(tag))
		return false;
	fence_on_answer(s);
	insight_on_tag(s, head->query, tag);
	s->answered += in.n;
	replies_pop_only(&s->replies);
	answer_count_statement(c);
	cycle_end_usual(s, in.p[in.n - 1]);
	c->group->counters.bytes_sent += in.n;
	conn_consume(&s->conn, in.n);
	if (settle_is_usual(s, c)) {
		conn_send(&c->conn, in.p, in.n);
		settle_usual(s, c);
	} else {
		pass_and_settle(s, c, in);
	}
	return true;
}
