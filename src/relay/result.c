/* SPDX-License-Identifier: ISC
 *
 * result.c - results of prepared statements that change.
 *
 * A client that was told the columns of a statement goes by them.  Where another client, or DDL,
 * has made them others, the statement is parsed anew (replan.c), or the server itself is let
 * refuse.
 */
#include "relay/parts.h"
#include "relay/statement_parts.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

/* Never 0. */
static uint64_t portal_key(struct slice name)
{
	return hash_bytes(name.p, name.n) | 1;
}

/* n may be NULL: whose result it is does not matter. */
static void expect_told(struct client *c, struct statement_name *n)
{
	struct reply r = { .kind = REPLY_DESCRIBE, .way = REPLY_PASS };

	if (n && n->statement) {
		n->refs++;
		n->described = (uint32_t)c->server->bound;
		r.note = NOTE_TOLD;
		r.subject = n;
	}
	replies_push(&c->server->replies, r);
}

void statement_expect_told(struct client *c, struct slice name)
{
	expect_told(c, name.n ? statement_name_find(c, name) : NULL);
}

void statement_expect_told_portal(struct client *c, struct slice portal)
{
	struct server *s = c->server;
	struct statement_name *n = s->bound && c->statements ? c->statements->last : NULL;

	if (n)
		n->is_told = true;
	/* Once it is seen, the server itself refuses when it changes. */
	expect_told(c, s->bound_portal && s->bound_portal == portal_key(portal) ? n : NULL);
}

void statement_note_portal(struct client *c, struct slice portal)
{
	if (c->server->bound_portal)
		c->server->bound_portal = portal_key(portal);
}

bool statement_is_unseen(const struct client *c, struct slice name)
{
	const struct statement_name *n = name.n ? statement_name_find(c, name) : NULL;
	const struct server_statement *ss;

	if (!n || !n->is_told || !n->statement || n->statement->has_names)
		return false;
	ss = placed_find(c->server, n->statement);
	return !ss || !ss->is_seen || ss->changes != n->statement->changes;
}

static bool is_asked(const struct replies *q)
{
	const struct reply *last = q->n ? replies_at(q, q->n - 1) : NULL;

	return last && last->kind == REPLY_DESCRIBE && last->way == REPLY_SWALLOW;
}

void statement_ask_result(struct client *c, struct slice name)
{
	struct server *s = c->server;
	struct server_statement *ss;
	struct buf *out;

	if (is_asked(&s->replies))
		return;
	ss = placed_require(c, statement_find(c, name));
	out = conn_output(&s->conn);
	msg_put_target(out, MSG_DESCRIBE, 'S', ss->name);
	msg_put_empty(out, MSG_FLUSH);
	replies_push(
	    &s->replies,
	    (struct reply){ .kind = REPLY_DESCRIBE, .way = REPLY_SWALLOW, .serial = ss->serial });
}

/* Names and types of the columns, as the server itself compares them; of a table that was made
 * anew they are the same. */
static uint64_t digest_of_result(struct slice body)
{
	struct reader r = reader_of(body);
	uint64_t digest = 1;

	if (!body.n)
		return digest;
	for (unsigned n = read_u16(&r); n > 0; n--) {
		struct slice name = read_cstr(&r), type;

		read_bytes(&r, 6); /* where it comes from */
		type = read_bytes(&r, 10);
		read_bytes(&r, 2); /* as text or binary */
		digest = hash_stable(digest, name.p, name.n + 1);
		digest = hash_stable(digest, type.p, type.n);
	}
	return digest;
}

void statement_note_result(struct server *s, const struct reply *r, const struct frame *f)
{
	struct server_statement *ss =
	    r->note == NOTE_TOLD || r->serial ? statement_of_reply(s, r) : NULL;
	struct statement *st;
	uint64_t result;

	if (!ss || ss->is_seen)
		return;
	st = ss->subject;
	ss->is_seen = true;
	/* One that does not come whole is as good as the old one: nobody waits for it again. */
	if (ss->is_renamed || ss->changes != st->changes || !frame_is_whole(f))
		return;
	result = digest_of_result(frame_body(f));
	if (st->result && st->result != result)
		ss->changes = ++st->changes;
	st->result = result;
}

bool statement_is_outdated(const struct client *c, struct slice name)
{
	const struct statement_name *n = statement_name_find(c, name);

	return n && n->is_told && n->statement && n->changes != n->statement->changes;
}

struct server_statement *statement_of_reply(const struct server *s, const struct reply *r)
{
	const struct statement_name *n = r->note == NOTE_TOLD ? r->subject : NULL;

	return n ? placed_described(s, n) : placed_of_serial(s, r->serial);
}

void statement_note_changed(struct server *s, const struct reply *r)
{
	const struct server_statement *ss = statement_of_reply(s, r);
	struct statement *st = ss ? ss->subject : NULL;

	if (st && ss->changes == st->changes) {
		st->changes++;
		st->result = 0;
	} else if (r->note == NOTE_NONE && !r->serial) {
		s->unnamed_id = UNNAMED_UNKNOWN;
	}
}

void statement_renew(struct server *s, struct server_statement *ss)
{
	const struct statement *st = ss->subject;

	placed_send_close(s, ss->name);
	placed_send_parse(s, ss->name, st);
	ss->changes = st->changes;
	ss->is_seen = false;
	replies_push_front(&s->replies, (struct reply){ .kind = REPLY_PARSE,
							.way = REPLY_SWALLOW,
							.note = NOTE_INJECTED,
							.subject = ss });
	replies_push_front(&s->replies,
			   (struct reply){ .kind = REPLY_CLOSE, .way = REPLY_SWALLOW });
}
