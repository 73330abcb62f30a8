/* SPDX-License-Identifier: ISC
 *
 * answer.h - what the handlers of a server's messages share.  Private to the folder.
 *
 * A handler says STEP_DONE when the message has been dealt with, STEP_AGAIN when it has to come
 * again later and nothing was changed, STEP_CLOSED when the server or its client is gone.
 */
#ifndef PGT_RELAY_ANSWER_H
#define PGT_RELAY_ANSWER_H

#include "relay/parts.h"
#include "wire/frame.h"

/* ---- every handler ----------------------------------------------------------------------------
 */

/* Passes the message on as far as it is here. */
static inline enum step answer_pass(struct server *s, const struct frame *f)
{
	s->client->group->counters.bytes_sent += f->len;
	conn_send(&s->client->conn, f->start, f->have);
	conn_consume(&s->conn, f->have);
	s->stream_left = f->len - f->have;
	s->stream_swallow = false;
	return STEP_DONE;
}

/* The client has got, or will get, another in its place. */
static inline enum step answer_replaced(struct server *s, const struct frame *f)
{
	conn_consume(&s->conn, f->have);
	s->stream_left = f->len - f->have;
	s->stream_swallow = true;
	return STEP_DONE;
}

/* It is no part of the answer. */
static inline enum step answer_swallow(struct server *s, const struct frame *f)
{
	s->answered -= f->len;
	return answer_replaced(s, f);
}

static inline void answer_count_statements(struct client *c, unsigned n)
{
	c->group->counters.query_count += n;
	tenant_count(c->tenant, TENANT_STATEMENTS, n);
}

static inline void answer_count_statement(struct client *c)
{
	answer_count_statements(c, 1);
}

/* Nothing more of this message or conversation makes sense: ends both. */
enum step answer_broken(struct server *s, const char *why);
/* What the head of the queue stands for has been answered. */
void answer_pop(struct server *s);

/* What stands behind a Parse at the head that the server was not asked is answered well. */
void answer_end_waiting(struct server *s);

/* Servers have other definitions now. */
void answer_note_ddl(struct server *s);

/* ---- failure.c: ErrorResponse -----------------------------------------------------------------
 */

enum step failure_on_error(struct server *s, const struct frame *f);
/* Whether the server says with this, an error or a notice, that it goes, between two requests of
 * its client, who would never have known had it come a moment later. */
bool failure_goes_unnoticed(struct server *s, const struct frame *f);

/* ---- cycle.c: ReadyForQuery -------------------------------------------------------------------
 */

enum step cycle_on_ready(struct server *s, const struct frame *f);
/* What it means for a Query or function call, of which the entry is gone … */
static inline void cycle_end_query(struct server *s)
{
	struct client *c = s->client;

	answer_count_statement(c);
	c->counts_tags = false;
	/* In the middle of a batch it has ended that (query.c). */
	c->in_batch = c->in_batch && s->replies.n;
}
/* … and for whatever it ends. */
void cycle_end(struct server *s, char tx);
/* The same where the server and its client are usual, and the client has no limits and no choice of
 * its tenant (plain_answer()). */
void cycle_end_usual(struct server *s, char tx);

/* ---- plain.c: what needs nothing but to be passed on ------------------------------------------
 */

/* Passes on as many messages of the client's server as nobody has to look at.  Whether it has said
 * more. */
bool plain_pass(struct server *s) PGT_MUST_USE;
/* The same of the answer to the only request under way, when all of it is here, and goes on behind
 * it: answer_on_readable() in one go.  False: it is not that plain, and nothing was done. */
bool plain_answer(struct server *s) PGT_MUST_USE;

#endif
