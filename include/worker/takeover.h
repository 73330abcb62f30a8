/* SPDX-License-Identifier: ISC
 *
 * takeover.h - a process takes over from another one, and another one from it.
 *
 * Whoever comes to the socket of takeovers is offered what this process listens on (offer.h).  When
 * it says that it serves, this one takes no more clients, and ends when its last one has left.  If
 * it dies before that, nothing has happened; if it dies later, this one is back.
 *
 * All on the control thread.
 */
#ifndef PGT_WORKER_TAKEOVER_H
#define PGT_WORKER_TAKEOVER_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct control;
struct peer_request;
struct takeover;

/* Listens for a successor, as takeover_socket says; what is wrong is logged. */
struct takeover *takeover_new(struct control *c);
/* This process serves instead of the one that it takes over from, if there is one. */
void takeover_begin(struct takeover *t);
/* This process ends: the one before it, if it still lives, does not come back in its place. */
void takeover_leave(struct takeover *t);
/* Something is still to come or to go: of the one before this, to the one behind. */
bool takeover_goes_on(const struct takeover *t);
/* How many sessions have come, or come back, so far: who asked the workers before does not know of
 * all of them. */
unsigned takeover_arrivals(const struct takeover *t);

/* A session goes to the successor, or comes back here when there is none any more.  Takes the
 * socket and the bytes. */
void takeover_send_session(struct takeover *t, int fd, struct buf *passport);
/* The same of a server that nobody uses, which does not come back.  False: it does not go.  Both
 * stay the caller's. */
bool takeover_send_server(struct takeover *t, int fd, struct slice passport);

/* The processes on both sides of this one. */
enum neighbour { NEIGHBOUR_BEFORE, NEIGHBOUR_BEHIND };

/* A cancel request whose key nobody has here: asks a neighbour.  over() follows. */
void takeover_cancel(struct takeover *t, enum neighbour whom, struct peer_request *r);
/* One that a neighbour has asked for has been delivered, or cannot be. */
void takeover_answer_cancel(struct takeover *t, enum neighbour whom, uint64_t number);
void takeover_free(struct takeover *t);

#endif
