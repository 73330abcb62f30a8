/* SPDX-License-Identifier: ISC
 *
 * replan.h - "cached plan must not change result type".
 *
 * A table has changed, and with it what a prepared statement gives; the server refuses the plan
 * that it has.  Where the client cannot have relied on the old result, its batch is sent again
 * behind a new Parse and it sees nothing of that.  Elsewhere it gets the error, as on a connection
 * of its own.  See docs/adr/0009-changed-results.md.
 */
#ifndef PGT_RELAY_REPLAN_H
#define PGT_RELAY_REPLAN_H

#include "base/err.h"
#include "base/slice.h"
#include "relay/parts.h"

#include <stdbool.h>

struct client;
struct frame;
struct server;

/* The Sync of a batch that uses a statement parsed before it: keeps the batch until it is answered,
 * if it could be sent again. */
void replan_keep(struct server *s);
/* The error that the server answers the head of the queue with.  True: it was that one, and the
 * batch has been sent again; the error is to be swallowed. */
bool replan_on_error(struct server *s, const struct frame *f) PGT_MUST_USE;
/* Whether it will be, of an error that is to come. */
bool replan_is_possible(const struct server *s, const struct frame *error);
/* A Bind of a statement whose result has changed.  VERDICT_REFUSED: the client would take the new
 * one for the old one; *e is what the server would have said.  VERDICT_WAIT: its next message,
 * which is not here yet, tells. */
enum verdict replan_on_bind(struct client *c, const struct frame *bind, struct slice portal,
			    struct slice name, struct err *e);
/* A Bind of a statement that statement_is_unseen(), in its batch.  VERDICT_WAIT: it may not be sent
 * yet; its result is asked for, or whether that is needed depends on the next message. */
enum verdict replan_before_bind(struct client *c, const struct frame *bind, struct slice portal,
				struct slice name);

#endif
