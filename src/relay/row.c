/* SPDX-License-Identifier: ISC
 *
 * row.c - statements that a batch has in a row, all of the same Parse, are sent as one.
 *
 * What is decided about the first holds for all of them.  What stands in for their Parse on the
 * server is repeat.c's; their answers are passed on by plain.c, and by the handlers of each message
 * where they are not what was to be expected.
 */
#include "relay/row.h"

#include "relay/batch.h"
#include "relay/insight.h"
#include "relay/repeat.h"
#include "wire/frame.h"
#include "wire/write.h"

/* Of a Bind up to what comes behind its names, of which neither is one. */
#define BIND_NAMES (FRAME_HEADER_LEN + 2)

/* What the server gets in their place. */
#define HEAD_MAX (FRAME_HEADER_LEN + 1 + SERVER_STATEMENT_NAME_MAX)

/* One of a row, from its Bind on.  What stands behind it is of the same form, as a rule. */
struct form {
	const char *at;
	size_t bind, len; /* of its Bind, and of all of it; 0: there was none yet */
	char head[HEAD_MAX];
	size_t head_len;
};

static void note_head(struct form *form, const struct server_statement *ss)
{
	uint32_t body = htonl((uint32_t)(form->bind - 2 + ss->name_len));

	form->head[0] = MSG_BIND;
	memcpy(form->head + 1, &body, sizeof(body));
	form->head[FRAME_HEADER_LEN] = '\0';
	memcpy(form->head + FRAME_HEADER_LEN + 1, ss->name, sizeof(ss->name));
	form->head_len = FRAME_HEADER_LEN + 1 + ss->name_len;
}

/* Whether what stands at p, behind its Parse, is one with a Bind that is no longer than that. */
static inline bool find_again(struct form *form, const char *p, size_t n, size_t longest,
			      const struct server_statement *ss)
{
	if (form->len && n >= form->len && !memcmp(p, form->at, BIND_NAMES) &&
	    batch_run_len(p + form->bind, n - form->bind) == form->len - form->bind) {
		form->at = p;
		return true;
	}
	form->at = p;
	form->len = batch_len_within(p, n, &form->bind);
	if (!form->len || form->bind > longest)
		return false;
	note_head(form, ss);
	return true;
}

/* What the server gets of it. */
static inline void put_again(struct buf *out, const struct form *form)
{
	char *to = buf_reserve(out, form->len + sizeof(form->head));

	memcpy(to, form->head, sizeof(form->head)); /* what is too much of it is written over */
	memcpy(to + form->head_len, form->at + BIND_NAMES, form->len - BIND_NAMES);
	buf_produced(out, form->head_len + form->len - BIND_NAMES);
}

/* … and owes for it. */
static inline void expect_again(struct replies *q, const struct reply owed[4], bool describes)
{
	if (describes) {
		replies_push_within(q, owed, 4);
	} else {
		replies_push_within(q, owed, 2);
		replies_push_within(q, owed + 3, 1);
	}
}

/* Sends statements of this Parse, as many as stand at the beginning of the input one behind the
 * other, as all the handlers of their messages would; how many. */
static unsigned send_again(struct client *c, const struct frame *parse, struct statement *st,
			   const struct server_statement *ss, unsigned most)
{
	const struct slice portal = { "", 0 };
	struct slice in = conn_input(&c->conn);
	struct buf *out = conn_output(&c->server->conn);
	struct replies *replies = &c->server->replies;
	const char *p = in.p, *end = in.p + in.n;
	size_t longest = c->host->config->global.max_packet_size;
	struct reply owed[4] = {
		{.kind = REPLY_PARSE, .way = REPLY_MAKE, .note = NOTE_UNNAMED },
		{ .kind = REPLY_BIND,                  .way = REPLY_PASS                },
		{ .kind = REPLY_DESCRIBE,                  .way = REPLY_PASS},
		{ .kind = REPLY_EXECUTE,                  .way = REPLY_PASS                 }
	};
	struct form form = { .len = 0 };
	bool is_watched = true;
	unsigned n = 0;

	/* What was the unnamed statement before each, with a reference. */
	owed[0].subject = statement_find(c, portal);
	while (n < most && (size_t)(end - p) > parse->len && !memcmp(p, parse->start, parse->len) &&
	       find_again(&form, p + parse->len, (size_t)(end - p) - parse->len, longest, ss) &&
	       replies->n < PIPELINE_MAX) {
		put_again(out, &form);
		if (!n)
			insight_on_bind(c, st, portal,
					&(struct frame){ MSG_BIND, form.at, form.bind, form.bind });
		else if (is_watched)
			is_watched = insight_on_bind_again(
			    c, slice_of(form.at + BIND_NAMES, form.bind - BIND_NAMES));
		owed[3].query = c->bound;
		expect_again(replies, owed, form.len > form.bind + BATCH_EXECUTE_LEN);
		owed[0].subject = st;
		p += parse->len + form.len;
		n++;
	}
	conn_consume(&c->conn, (size_t)(p - in.p));
	return n;
}

bool row_send(struct client *c, const struct frame *parse, struct slice body)
{
	struct server_statement *ss;
	struct statement *st;
	unsigned most, n;
	size_t bind;

	if (!c->batch_is_plain || !row_just_goes_on(c) || c->server->copy_in ||
	    (c->group->is_shared && !admit_has_proof(c)) ||
	    !batch_len_within(parse->start + parse->len, conn_input(&c->conn).n - parse->len,
			      &bind))
		return false;
	st = statement_lookup(c, body);
	if (!st || st->is_guarded || !row_may_run(c, st) || st->meaning != gate_meaning(c))
		return false;
	ss = repeat_again(c, st, &most);
	if (!ss)
		return false;
	fence_on_request(c);
	fence_look_bound(c, st);
	n = send_again(c, parse, st, ss, most);
	if (!n)
		return false;
	repeat_stood_in(c, st, ss, n);
	c->bound_end = c->batch_ends = false;
	c->batch_has_bound = true;
	c->prepaid -= c->prepaid < n ? c->prepaid : n;
	return true;
}
