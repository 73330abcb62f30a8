/* SPDX-License-Identifier: ISC
 *
 * cancel.h - a cancel request on its way to a server, or to another pooler.
 *
 * PostgreSQL closes the connection of a request after it has signalled the session; the signal
 * reaches the session before anything that we send later.  So until that close has been seen, the
 * server may still be hit, and must not run another's statement (I7).  A pooler closes it when it
 * has passed the request on.
 */
#ifndef PGT_SERVER_CANCEL_H
#define PGT_SERVER_CANCEL_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct cancel;
struct dial_target;
struct net;
struct server;

/* What happens to a request. */
struct cancel_events {
	/* Nobody could be connected to, and why; over() follows. */
	void (*failed)(void *arg, const char *host, const char *why);
	/* It was sent and the other side has hung up, or time is up; the last that is heard of it.
	 */
	void (*over)(void *arg, bool was_sent);
};

/* Connects to where the server is, by TLS if the server's connection uses it, sends the request and
 * waits for the close.  Calls cancel_over() of the server then, or when it could not be sent. */
struct cancel *cancel_start(struct server *s);
/* The same to anywhere; over() is never called before this returns.  Strings of the target are
 * copied. */
struct cancel *cancel_send(struct net *net, const struct dial_target *target, uint32_t pid,
			   struct slice secret, const struct cancel_events *on, void *arg);
/* Whether the request has gone, and the close is waited for. */
bool cancel_is_sent(const struct cancel *c);
/* Whoever has started it goes away; the request may still be sent, nobody is told. */
void cancel_forget(struct cancel *c);

#endif
