/* SPDX-License-Identifier: ISC
 *
 * promote.h - a READ COMMITTED transaction that so far only reads runs on a replica, and goes on on
 * the primary from its first write on (promote = first_write, or default_transaction_read_only).
 *
 * client.begun is the BEGIN of such a transaction, for as long as it is on a replica and may leave
 * it.  One that says READ ONLY stays there for good, but for what only a standby refuses.  See
 * docs/adr/0032-promote.md.
 */
#ifndef PGT_RELAY_PROMOTE_H
#define PGT_RELAY_PROMOTE_H

#include "client/client.h"
#include "server/server.h"
#include "sql/scan.h"

struct batch_view;

/* Whether there is anything to ask: all that it costs other transactions. */
static inline bool promote_concerns(const struct client *c)
{
	return c->rare->begun || (c->begin && c->begin_promotes) ||
	       (c->begin_reads && (c->begin || (c->server && c->server->asked_begin)));
}

/* Whether a text may run on a replica in a transaction that goes on elsewhere: it reads, leaves
 * nothing that would be missed there, and does not ask when the transaction began. */
bool promote_is_plain(struct client *c, struct slice text, const struct sql_facts *facts);

/* Whether it is for the primary alone, whatever its transaction says: what it may leave would tie
 * the session to a replica, or is a lock that has to keep others out. */
bool promote_is_primarys(struct client *c, struct slice text, const struct sql_facts *facts);

/* Before a request gets its server.  A text that follows a BEGIN which waits may go to a replica; a
 * transaction that is on one goes on on the primary, if it has to.  False: the client waits for a
 * replica that has what was written. */
bool promote_query(struct client *c, struct slice text, const struct sql_facts *facts) PGT_MUST_USE;
/* The same of a batch. */
bool promote_batch(struct client *c, const struct batch_view *view) PGT_MUST_USE;
/* The same of what nobody has looked at; is_primarys: it may be. */
void promote_unseen(struct client *c, bool is_primarys);

/* The BEGIN goes out to the client's server. */
void promote_begin(struct client *c);
/* The first request behind that BEGIN, which says READ ONLY, has been answered by a replica. */
void promote_answered(struct client *c, struct statement *begin);
/* The transaction is not on a replica any more. */
void promote_forget(struct client *c);
/* It goes on on the primary, as if nothing of it had run; begin: its reference is taken. */
void promote_take_back(struct client *c, struct statement *begin);
/* Between two statements of such a transaction its server is lost.  True: it goes on, and the
 * server is not the client's any more. */
bool promote_on_lost(struct server *s) PGT_MUST_USE;

#endif
