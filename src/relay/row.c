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

/* What the server gets of one: its Bind and what follows, from p on, by the name that it has there.
 */
static inline void put_again(struct buf *out, const char *p, size_t bind, size_t len,
			     const struct server_statement *ss)
{
	uint32_t body = htonl((uint32_t)(bind - 2 + ss->name_len));
	char *to = buf_reserve(out, len + sizeof(ss->name));

	*to = MSG_BIND;
	memcpy(to + 1, &body, sizeof(body));
	to[FRAME_HEADER_LEN] = '\0';
	to += FRAME_HEADER_LEN + 1;
	memcpy(to, ss->name, sizeof(ss->name)); /* what is too much of it is written over */
	memcpy(to + ss->name_len, p + BIND_NAMES, len - BIND_NAMES);
	buf_produced(out, len - 1 + ss->name_len);
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
	size_t bind, len, longest = c->host->config->global.max_packet_size;
	struct reply owed[4] = {
		{.kind = REPLY_PARSE, .way = REPLY_MAKE, .note = NOTE_UNNAMED },
		{ .kind = REPLY_BIND,                  .way = REPLY_PASS                },
		{ .kind = REPLY_DESCRIBE,                  .way = REPLY_PASS},
		{ .kind = REPLY_EXECUTE,                  .way = REPLY_PASS                 }
	};
	unsigned n = 0;

	/* What was the unnamed statement before each, with a reference. */
	owed[0].subject = statement_find(c, portal);
	while (n < most && (size_t)(end - p) > parse->len && !memcmp(p, parse->start, parse->len) &&
	       (len = batch_len_within(p + parse->len, (size_t)(end - p) - parse->len, &bind)) &&
	       bind <= longest && replies->n < PIPELINE_MAX) {
		struct frame f = { MSG_BIND, p + parse->len, bind, bind };

		put_again(out, f.start, bind, len, ss);
		if (n)
			insight_on_bind_again(c, slice_of(f.start + BIND_NAMES, bind - BIND_NAMES));
		else
			insight_on_bind(c, st, portal, &f);
		owed[3].query = c->bound;
		expect_again(replies, owed, len > bind + BATCH_EXECUTE_LEN);
		owed[0].subject = st;
		p += parse->len + len;
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

	if (!row_just_goes_on(c) || c->server->copy_in ||
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
