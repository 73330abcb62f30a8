/* SPDX-License-Identifier: ISC
 *
 * rls.h - whether row-level security binds the role of a server connection (require_rls).
 *
 * Asked once for each connection that serves tenants, after the login.
 */
#ifndef PGT_SERVER_RLS_H
#define PGT_SERVER_RLS_H

#include "server/server.h"

/* Whether the connection's role has to be looked at. */
bool rls_is_due(const struct server *s);

/* Asks, as server_ask(): where policies do not bind the role, s->is_unbound is set when it is done,
 * and s->pool->error says why, with the SQL that mends it. */
void rls_ask(struct server *s,
	     void (*done)(struct server *s, void *arg, const struct report *error));

#endif
