/* SPDX-License-Identifier: ISC
 *
 * cancel.h - a cancel request on its way to a server.
 *
 * PostgreSQL closes the connection of a request after it has signalled the session; the signal
 * reaches the session before anything that we send later.  So until that close has been seen, the
 * server may still be hit, and must not run another's statement (I7).
 */
#ifndef PGT_SERVER_CANCEL_H
#define PGT_SERVER_CANCEL_H

struct cancel;
struct server;

/* Connects to where the server is, by TLS if the server's connection uses it, sends the request and
 * waits for the close.  Calls cancel_over() of the server then, or when it could not be sent. */
struct cancel *cancel_start(struct server *s);
/* The server goes away; the request may still be sent, nobody is told. */
void cancel_forget(struct cancel *c);

#endif
