/* SPDX-License-Identifier: ISC
 *
 * request.h - what the handlers of a client's messages share: steps of every handler, refusals, and
 * a server for the request.
 *
 * A handler says STEP_DONE when the message has been dealt with, STEP_AGAIN when it has to come
 * again later and nothing was changed, STEP_CLOSED when the client is gone.
 */
#ifndef PGT_RELAY_REQUEST_H
#define PGT_RELAY_REQUEST_H

#include "relay/insight.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/rescue.h"
#include "relay/whose.h"
#include "wire/frame.h"

/* ---- every handler ----------------------------------------------------------------------------
 */

/* The message was handled here; what of it has not come yet is thrown away when it does. */
static inline enum step request_skip(struct client *c, const struct frame *f)
{
	conn_consume(&c->conn, f->have);
	c->stream_left = f->len - f->have;
	c->stream_discard = true;
	return STEP_DONE;
}

/* Passes on what is here of the message; the rest follows as it comes. */
static inline enum step request_pass(struct client *c, const struct frame *f)
{
	conn_send(&c->server->conn, f->start, f->have);
	conn_consume(&c->conn, f->have);
	c->stream_left = f->len - f->have;
	c->stream_discard = false;
	return STEP_DONE;
}

static inline void request_expect(struct client *c, enum reply_kind kind)
{
	replies_push(&c->server->replies,
		     (struct reply){ .kind = (uint8_t)kind, .way = REPLY_PASS });
}

/* What request_get_server() said, for a handler: after a refusal the message has been dealt with.
 */
static inline enum step request_not_yet(struct client *c, enum step step)
{
	return step == STEP_CLOSED && c->phase == CLIENT_READY ? STEP_DONE : step;
}

static inline bool request_forgets_statements(uint32_t effects)
{
	return effects & (SQL_EFFECT_DISCARD_ALL | SQL_EFFECT_DEALLOCATE_ALL);
}

/* Closes the client with 08P01. */
enum step request_protocol_error(struct client *c, const char *text);

/* ---- query.c: a Query of a client that nothing else is under way for ---------------------------
 */

/* message: all that there is of the client's, a Query with its NUL.  Without a server: handles it
 * if there is nothing to it but to choose its server.  False: nothing was done. */
bool query_is_usual(struct client *c, struct slice message) PGT_MUST_USE;
/* The same of one that has waited for its server, and was looked at before. */
bool query_was_looked_at(struct client *c, struct slice message) PGT_MUST_USE;
/* extended.c: the same of the Bind, Execute and Sync of a prepared statement, whether the client
 * has a server, by which nothing is owed, or not.  False: at most, it has got one for them. */
bool extended_is_usual(struct client *c, struct slice in) PGT_MUST_USE;
/* What they end with.  n: its length. */
void request_end_waiting(struct client *c, size_t n); /* for what follows only */
static inline void request_end_query(struct client *c, enum step step, size_t n)
{
	if (step == STEP_DONE)
		c->group->counters.bytes_received += n;
	else
		request_end_waiting(c, n);
}

/* Whether the request that begins with this message has to wait until the one before has been
 * answered, since it is decided on for itself. */
bool request_must_wait_behind(struct client *c);
static inline bool request_must_wait_its_turn(struct client *c)
{
	return c->server && c->server->replies.ncycles && !c->in_batch &&
	       request_must_wait_behind(c);
}
/* Refuses the request of this message with *e, and skips the message. */
enum step request_refuse_message(struct client *c, const struct frame *f, const struct err *e);
/* A server for the request of this message, within the limits; n: statements that it costs.
 * STEP_CLOSED: it was refused, which request_not_yet() tells from a client that is gone. */
enum step request_get_server(struct client *c, const struct frame *f, struct pool *pool,
			     unsigned n) PGT_MUST_USE;
/* Sends what goes ahead of it to c->server: whose the session is, its settings, a BEGIN that has
 * waited.  STEP_CLOSED: the client is closed rather than served on a server that is not settled. */
enum step request_bring(struct client *c, uint8_t type) PGT_MUST_USE; /* for what follows only */
static inline bool request_is_settled(const struct client *c)
{
	return !c->server->carry_due && c->server->context == c->tenant;
}
static inline enum step request_go_ahead(struct client *c, uint8_t type)
{
	return request_is_settled(c) && !c->begin ? STEP_DONE : request_bring(c, type);
}
/* The same with a server, which it may have to get first: alone with the client's messages. */
static inline enum step request_acquire(struct client *c, uint8_t type, struct pool *pool)
{
	enum step step = STEP_DONE;

	if (!c->server) {
		if (!c->begin)
			c->chosen = pool;
		else if (!c->chosen)
			c->chosen = local_pool(c);
		if (!c->chosen)
			return STEP_AGAIN;
		c->request_at = relay_now(c);
		step = attach_acquire(c, c->chosen);
	}
	if (step == STEP_DONE && (c->rare->listening || c->server->has_notified))
		step = listen_take_server(c);
	return step == STEP_DONE ? request_go_ahead(c, type) : step;
}
/* The same for a Query of a client that has no server and no BEGIN that waits, and does not listen.
 */
static inline enum step request_acquire_alone(struct client *c, struct pool *pool)
{
	enum step step;

	c->request_at = relay_now(c);
	step = attach_acquire(c, pool);
	if (step == STEP_DONE && c->server->has_notified)
		step = listen_take_server(c);
	return step == STEP_DONE ? request_go_ahead(c, MSG_QUERY) : step;
}
/* The same of request_go_ahead() for a message behind the first, ahead of which nothing can go any
 * more. */
enum step request_require_settled(struct client *c) PGT_MUST_USE;
/* What a request of this one message is to those who keep it. */
static inline struct slice request_of(const struct frame *f)
{
	return slice_of(f->start, frame_is_whole(f) ? f->len : 0);
}
/* Its first message is about to go out.  request: all of it, where its end is known and is here;
 * or empty. */
static inline void request_mark_query(struct client *c, struct slice request)
{
	struct server *s = c->server;
	usec_t now = relay_now(c);

	PGT_ASSERT(request_is_settled(c)); /* I1 */
	if (s->check == CHECK_HOLDS)
		context_check_again(s);
	if (c->is_routed || c->repeats)
		rescue_keep(c, request);
	fence_on_request(c);
	if (s->replies.n > s->carrying)
		return;
	insight_on_request(s);
	s->query_at = now;
	s->asked_at = c->conn.received_at;
	if (s->tx == 'I') {
		s->xact_at = now;
		s->begun_at = s->asked_at;
	}
}
/* Whether this may stand behind what the batch under way has sent.  False: *e. */
bool request_may_stand_behind(struct client *c, struct err *e);
static inline bool request_may_follow_in_batch(struct client *c, struct err *e)
{
	return !c->in_batch || request_may_stand_behind(c, e);
}

/* What is to be done with a message after listen.c or whose.c has had its say; STEP_CLOSED: what is
 * done with any other. */
enum step request_on_listen(struct client *c, const struct frame *f, enum listen_way way,
			    const struct err *e);
enum step request_on_whose(struct client *c, const struct frame *f, enum whose_way way,
			   const struct err *e);

/* ---- texts ------------------------------------------------------------------------------------
 */

/* What a text asks of prepared statements is answered with the client's own: *rewritten. */
void request_hide_statements(struct client *c, struct slice text, struct buf *rewritten);
/* A text too long to be looked at is watched as it streams by.  False: what must not be in it was
 * found already. */
bool request_watch_long_text(struct client *c, const struct frame *f) PGT_MUST_USE;
/* … and ends the client. */
enum step request_found_in_long_text(struct client *c);

/* ---- handlers of messages (rows of the table in request.c) -------------------------------------
 */

/* query.c */
enum step query_on_query(struct client *c, const struct frame *f);
enum step query_on_function_call(struct client *c, const struct frame *f);

/* extended.c */
enum step extended_on_parse(struct client *c, const struct frame *f);
enum step extended_on_bind(struct client *c, const struct frame *f);
enum step extended_on_describe(struct client *c, const struct frame *f);
enum step extended_on_execute(struct client *c, const struct frame *f);
enum step extended_on_close(struct client *c, const struct frame *f);
enum step extended_on_flush(struct client *c, const struct frame *f);
enum step extended_on_sync(struct client *c, const struct frame *f);

#endif
