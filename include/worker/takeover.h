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

#include <stdbool.h>

struct control;
struct takeover;

/* Listens for a successor, as takeover_socket says; what is wrong is logged. */
struct takeover *takeover_new(struct control *c);
/* This process serves: tells the one that it takes over from, if there is one. */
void takeover_begin(struct takeover *t);
/* That one still lives: what it has left will come here. */
bool takeover_goes_on(const struct takeover *t);
void takeover_free(struct takeover *t);

#endif
