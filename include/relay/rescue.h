/* SPDX-License-Identifier: ISC
 *
 * rescue.h - what fails on a replica, and would not have on the primary, is asked there instead.
 *
 * A request that begins a transaction on a replica is kept as the client has sent it until the
 * first byte of its answer goes out.  If it fails before that because it was a replica's (it writes
 * after all, it stood in the way of recovery, the server went away), it is put back in front of the
 * client's input, and handled anew as if it had just come, for the primary.  Once; in no
 * transaction that has run anything; never what a primary was asked.  See
 * docs/adr/0023-rescue.md.
 */
#ifndef PGT_RELAY_RESCUE_H
#define PGT_RELAY_RESCUE_H

#include "client/client.h"
#include "relay/parts.h"
#include "server/server.h"

struct frame;

/* The request at hand is about to go to the client's server, which is a replica's: keeps it, if it
 * could be asked again.  request: all of it, where its end is known; empty: that is looked for. */
void rescue_keep_any(struct client *c, struct slice request); /* for what follows only */
static inline void rescue_keep(struct client *c, struct slice request)
{
	struct server *s = c->server;
	bool is_usual = request.n && request.n <= s->asked.cap &&
			request.n <= c->group->set.rescue_max_size && s->tx == 'I' && !c->repeats &&
			!c->pins && !c->was_rescued && !c->rare->listening &&
			gate_is_usual_replicas(s);

	if (!is_usual) {
		rescue_keep_any(c, request);
		return;
	}
	c->is_routed = s->asks_primary = false;
	memcpy(s->asked.data, request.p, request.n);
	s->asked.start = 0;
	s->asked.end = request.n;
	s->may_rescue = true;
}
/* Whether the request that the input begins with is short enough to be kept.  What is not has no
 * business on a replica, whose errors would be its client's; unless nothing is to be kept at all.
 */
bool rescue_is_short(const struct client *c); /* for what follows only */
static inline bool rescue_has_room(const struct client *c)
{
	size_t max = c->group->set.rescue_max_size;

	return !max || conn_input(&c->conn).n <= max || rescue_is_short(c);
}
/* Whether the end of the batch that has begun to come is waited for, so that it can be kept: in a
 * READ ONLY transaction in which nothing has run. */
bool rescue_lacks_end(const struct client *c);
static inline bool rescue_waits_for_end(const struct client *c)
{
	return (c->begin || (c->server && c->server->asked_begin)) && rescue_lacks_end(c);
}
/* Nobody waits for its answer any more. */
void rescue_unref(struct server *s); /* for what follows only */
static inline void rescue_forget(struct server *s)
{
	s->may_rescue = s->asks_primary = s->asked_parsed = false;
	buf_clear(&s->asked);
	if (s->asked_begin || s->asked_known)
		rescue_unref(s);
}
/* It has been answered with a BEGIN ahead of it, or begun to be.  One behind which nothing has run
 * can still be taken back; what fails in the middle of its answer is learnt from. */
void rescue_answered(struct server *s); /* for what follows only */

/* So much of an answer a server keeps to itself until it has come to an end of any kind. */
#define RESCUE_SERVER_KEEPS 8192
/* Whether what has come of the answer to what is kept is a piece of what the server has sent at
 * once.  The rest is on its way, and may be the error. */
bool rescue_is_piece(const struct server *s); /* for what follows only */
static inline bool rescue_waits_for_rest(const struct server *s)
{
	return s->may_rescue && rescue_is_piece(s);
}

/* Around what the server says. */
static inline void rescue_before_answers(struct server *s)
{
	if (s->may_rescue)
		s->answer_at = conn_unsent(&s->client->conn);
}
static inline void rescue_behind_answers(struct server *s)
{
	if (!s->may_rescue || conn_unsent(&s->client->conn) <= s->answer_at)
		return;
	if (s->replies.n || s->asked_begin || s->asked_known)
		rescue_answered(s);
	else
		rescue_forget(s);
}

/* An error, a warning, the end of the connection.  True: the request has been taken back, and the
 * server is not the client's any more. */
bool rescue_on_error(struct server *s, const struct frame *f) PGT_MUST_USE;
bool rescue_on_notice(struct server *s, const struct frame *f) PGT_MUST_USE;
bool rescue_on_lost(struct server *s) PGT_MUST_USE;

#endif
