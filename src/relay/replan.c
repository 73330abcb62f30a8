/* SPDX-License-Identifier: ISC
 *
 * replan.c - "cached plan must not change result type", and parameters whose type is gone.
 *
 * Knows the messages of one batch: which of them failed, and what stands before and behind it.
 */
#include "relay/replan.h"

#include "relay/parts.h"
#include "relay/statement.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/report.h"

void replan_keep(struct server *s)
{
	s->reuses = false;
	/* Alone on its way, and its implicit transaction is its own. */
	if (s->tx == 'I' && s->replies.ncycles == 1 && !s->sent)
		conn_keep_sent(&s->conn, &s->sent);
}

/* Known by the place in the server's source, since the words may be in any language; or a type of
 * its parameters has been dropped, which the server knows by its OID only, and says in English. */
static bool is_changed_result(const struct frame *f)
{
	struct report report;

	report_parse(frame_body(f), &report);
	if (slice_is_equal(report.sqlstate, SLICE("XX000")))
		return slice_starts_with(report.message, SLICE("cache lookup failed for type "));
	return slice_is_equal(report.sqlstate, SLICE("0A000")) &&
	       slice_is_equal(report.routine, SLICE("RevalidateCachedQuery"));
}

/* ---- the messages of a batch ------------------------------------------------------------------
 */

static bool next_frame(struct slice *in, struct frame *f)
{
	if (frame_peek(in->p, in->n, f) != FRAME_OK || !frame_is_whole(f))
		return false;
	*in = slice_of(in->p + f->len, in->n - f->len);
	return true;
}

static bool is_describe_of(const struct frame *f, struct slice portal)
{
	struct reader r = reader_of(frame_body(f));

	return f->type == MSG_DESCRIBE && read_u8(&r) == 'P' &&
	       slice_is_equal(read_cstr(&r), portal);
}

static struct slice portal_of(const struct frame *bind)
{
	struct reader r = reader_of(frame_body(bind));

	return read_cstr(&r);
}

/* Answers that the server still has to give. */
static uint32_t count_owed(const struct replies *q)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < q->n; i++)
		n += replies_at(q, i)->way < REPLY_MAKE;
	return n;
}

/* Messages in it; 0 when it does not end with the one Sync. */
static uint32_t count_frames(struct slice in)
{
	struct frame f = { 0 };
	uint32_t n = 0;

	while (next_frame(&in, &f)) {
		n++;
		if (f.type == MSG_FLUSH || (f.type == MSG_SYNC && in.n))
			return 0;
	}
	return !in.n && f.type == MSG_SYNC ? n : 0;
}

/* The batch from the failed message on, which is as long as the queue of replies.  Nothing of it
 * may have been run yet, and the failed one must be a Describe of a statement or a Bind whose
 * portal is described next: then the client learns the new result before it gets any row of it. */
static bool find_rest(const struct server *s, struct slice *rest)
{
	uint32_t owed = count_owed(&s->replies);
	uint32_t n = count_frames(*rest);
	struct slice behind;
	struct frame f, next;

	for (; n > owed; n--)
		if (!next_frame(rest, &f) || f.type == MSG_BIND || f.type == MSG_EXECUTE)
			return false;
	behind = *rest;
	if (n != owed || !next_frame(&behind, &f))
		return false;
	if (f.type == MSG_DESCRIBE)
		return true;
	return f.type == MSG_BIND && next_frame(&behind, &next) &&
	       is_describe_of(&next, portal_of(&f));
}

/* ---- what becomes of it -----------------------------------------------------------------------
 */

/* The statement whose batch can be sent again, and from where on; or NULL. */
static struct server_statement *find_retry(const struct server *s, const struct reply *failed,
					   struct slice *rest)
{
	struct server_statement *ss = statement_of_reply(s, failed);

	if (!ss || ss->is_renamed || !s->sent || s->replies.ncycles != 1)
		return NULL;
	*rest = buf_peek(s->sent);
	return find_rest(s, rest) ? ss : NULL;
}

static bool is_about_result(const struct reply *r)
{
	return r && r->way == REPLY_PASS && (r->kind == REPLY_BIND || r->kind == REPLY_DESCRIBE);
}

bool replan_is_possible(const struct server *s, const struct frame *error)
{
	const struct reply *head = replies_head(&s->replies);
	struct slice rest;

	return is_about_result(head) && is_changed_result(error) && find_retry(s, head, &rest);
}

bool replan_on_error(struct server *s, const struct frame *f)
{
	const struct reply *head = replies_head(&s->replies);
	struct server_statement *ss;
	struct slice rest;

	if (!is_about_result(head) || !is_changed_result(f))
		return false;
	ss = find_retry(s, head, &rest);
	statement_note_changed(s, head);
	if (!ss)
		return false;
	statement_renew(s, ss);
	/* The Sync of the batch that failed is still to be answered. */
	replies_push_front(&s->replies, (struct reply){ .kind = REPLY_SYNC, .way = REPLY_SWALLOW });
	buf_put_slice(conn_output(&s->conn), rest);
	conn_give_back(&s->conn, &s->sent);
	return true;
}

/* Whether the client asks for the result of what it binds (VERDICT_PASS) or goes by the one that it
 * knows (VERDICT_REFUSED). */
static enum verdict will_be_told(const struct client *c, const struct frame *bind,
				 struct slice portal)
{
	struct slice in = conn_input(&c->conn);
	struct frame next;

	in = slice_of(in.p + bind->have, in.n - bind->have);
	if (next_frame(&in, &next))
		return is_describe_of(&next, portal) ? VERDICT_PASS : VERDICT_REFUSED;
	return bind->len < HOLD_MAX ? VERDICT_WAIT : VERDICT_REFUSED;
}

enum verdict replan_on_bind(struct client *c, const struct frame *bind, struct slice portal,
			    struct slice name, struct err *e)
{
	enum verdict verdict = VERDICT_PASS;

	if (statement_is_outdated(c, name))
		verdict = will_be_told(c, bind, portal);
	if (verdict == VERDICT_REFUSED) {
		err_set(e, "0A000", "cached plan must not change result type");
		e->routine = "RevalidateCachedQuery";
	}
	return verdict;
}

enum verdict replan_before_bind(struct client *c, const struct frame *bind, struct slice portal,
				struct slice name)
{
	enum verdict verdict = will_be_told(c, bind, portal);

	if (verdict != VERDICT_REFUSED)
		return verdict;
	statement_ask_result(c, name);
	c->turn_missed = true;
	return VERDICT_WAIT;
}
