/* SPDX-License-Identifier: ISC
 *
 * undo.c - what became of prepared statements that were asked for.
 *
 * An answer that comes settles what its entry in the queue of replies says; an error takes back
 * what was expected of it and of all that is skipped behind it, the last first.
 */
#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/repeat.h"
#include "relay/statement_parts.h"

#include <stdlib.h>

void statement_on_reply(struct server *s, const struct reply *r)
{
	struct statement_name *n = r->subject;

	if (r->note == NOTE_NAMED) {
		if (r->kind == REPLY_PARSE)
			n->statement->is_proven = true;
		statement_name_unref(n);
	}
	if (r->note == NOTE_TEXT)
		free(r->subject);
	if (r->note == NOTE_TOLD) {
		n->is_told = true;
		n->changes = n->statement->changes;
		statement_name_unref(n);
	}
	if (r->note == NOTE_UNNAMED || r->note == NOTE_BEGIN)
		statement_unref(r->subject);
	if (r->note == NOTE_BEGIN && r->subject)
		s->begins_in_batch = false;
	if (r->note == NOTE_INJECTED && r->kind == REPLY_CLOSE)
		placed_free(r->subject);
}

/* What a later batch closes has never been there. */
static void void_being_closed(struct server *s, const struct statement_name *n)
{
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);
		struct server_statement *ss =
		    r->note == NOTE_INJECTED && r->kind == REPLY_CLOSE ? r->subject : NULL;

		if (ss && ss->subject == n->statement && (uint32_t)ss->made_in == n->made_in)
			ss->is_void = true;
	}
}

static void undo_named_parse(struct server *s, const struct reply *r)
{
	struct statement_name *n = r->subject;
	struct server_statement *ss =
	    r->way == REPLY_PASS ? placed_made_in(s, n->statement, n->made_in) : NULL;

	/* A later batch may have closed it, and made it anew. */
	if (ss) {
		placed_take_out(s, ss);
		placed_free(ss);
	} else if (r->way == REPLY_PASS) {
		void_being_closed(s, n);
	}
	if (n->is_listed) {
		statement_name_take_out(s->client, n);
		n->refs--;
	}
	statement_name_unref(n);
}

/* What was taken away is there again, and what was made is not. */
static void undo_name(struct client *c, struct statement_name *n)
{
	if (n->is_listed) {
		statement_name_take_out(c, n);
		n->refs--;
	} else {
		statement_name_list(c, n);
	}
	statement_name_unref(n);
}

/* later: what changes the unnamed statement next, or NULL: what is there now is of this one. */
static void undo_unnamed(struct server *s, const struct reply *r, struct reply *later, bool failed)
{
	struct statement *before = r->subject;

	s->unnamed_id = UNNAMED_UNKNOWN;
	if (failed && !later)
		repeat_is_void(s->client->statements->unnamed);
	/* A Parse that failed has dropped the old one before; one that was skipped has not. */
	if (failed || (later && later->note != NOTE_UNNAMED)) {
		statement_unref(before);
		before = NULL;
	}
	if (!later) {
		statement_unnamed_drop(s->client);
		statement_unnamed_set(s->client, before);
	} else if (later->note == NOTE_UNNAMED) {
		statement_unref(later->subject);
		later->subject = before;
	}
}

/* One that a later batch closes goes with the answer to that. */
static void undo_injected_parse(struct server *s, struct server_statement *ss)
{
	ss->is_void = true;
	if (!list_is_linked(&ss->lru))
		return;
	placed_take_out(s, ss);
	placed_free(ss);
}

static void undo_injected_close(struct server *s, struct server_statement *ss)
{
	if (ss->is_void)
		placed_free(ss);
	else
		placed_put_in(s, ss);
}

static void undo(struct server *s, struct reply *r, struct reply *later, bool failed)
{
	switch (r->note) {
	case NOTE_REFUSED:
		free(r->subject);
		break;
	case NOTE_NAMED:
		if (r->kind == REPLY_PARSE)
			undo_named_parse(s, r);
		else
			undo_name(s->client, r->subject);
		break;
	case NOTE_TOLD:
		statement_name_unref(r->subject);
		break;
	case NOTE_TEXT:
		free(r->subject);
		s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	case NOTE_UNNAMED:
		undo_unnamed(s, r, later, failed);
		break;
	case NOTE_INJECTED:
		if (r->kind == REPLY_CLOSE)
			undo_injected_close(s, r->subject);
		else
			undo_injected_parse(s, r->subject);
		break;
	case NOTE_INJECTED_UNNAMED:
		s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	case NOTE_PUTBACK:
		free(r->subject);
		s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	case NOTE_BEGIN:
		statement_unref(r->subject);
		break;
	default:
		/* A Query that was skipped has not dropped it. */
		if (r->kind == REPLY_QUERY)
			s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	}
}

/* The first entry from the i-th on that changes the client's unnamed statement, or NULL. */
static struct reply *next_unnamed(struct replies *q, uint32_t i)
{
	for (; i < q->n; i++) {
		struct reply *r = replies_at(q, i);

		if (r->note == NOTE_UNNAMED || r->kind == REPLY_QUERY)
			return r;
	}
	return NULL;
}

/* What of the first n the client has been told the failure of: something of ours that goes ahead
 * stands for it. */
static uint32_t first_of_client(const struct server *s, uint32_t n)
{
	uint32_t i = 0;

	while (i < n && replies_at(&s->replies, i)->way == REPLY_SWALLOW)
		i++;
	return i;
}

void statement_void(struct server *s, uint32_t n, bool failed)
{
	struct reply *later = next_unnamed(&s->replies, n);
	uint32_t first = failed ? first_of_client(s, n) : n;

	for (uint32_t i = n; i-- > 0;) {
		struct reply *r = replies_at(&s->replies, i);

		if (r->has_controls)
			listen_on_answered(s->client);
		undo(s, r, later, i == first);
		/* What it was about may be gone, and undoing the others looks at it. */
		r->note = NOTE_NONE;
	}
	replies_drop(&s->replies, n);
}
