/* SPDX-License-Identifier: ISC
 *
 * early.h - the COMMIT of a transaction that only read, acknowledged while it is on its way
 * (early_commit).
 */
#ifndef PGT_RELAY_EARLY_H
#define PGT_RELAY_EARLY_H

#include "base/slice.h"
#include "relay/parts.h"
#include "sql/scan.h"

#include <stdbool.h>

struct client;
struct server;
struct statement;

/* ---- which transactions: client.only_reads ----
 * One begins, by the BEGIN that has waited. */
void early_begin(struct client *c);
/* A statement of one is about to be sent: whether it still does nothing but read. */
void early_look(struct client *c, struct slice text, const struct sql_facts *facts);
/* The same of a Bind; st: NULL where it is not known. */
void early_look_at_bind(struct client *c, const struct statement *st);

/* ---- the COMMIT ----
 * Whether it may be acknowledged before it has run. */
bool early_is_possible(const struct client *c);
/* Sends it; its tag.  The client has no transaction any more. */
const char *early_commit(struct client *c);
/* Others have waited long enough: the client's next request waits for the answer to its COMMIT. */
bool early_must_yield(const struct server *s);
/* Nothing of the client's is on its way but such a COMMIT. */
bool early_is_all(const struct client *c);
/* The answer: an error, behind which its ReadyForQuery is still to come; and that.  False: the
 * client has been closed. */
void early_failed(struct server *s);
bool early_ended(struct server *s, char tx);

/* ---- the isolation that sessions begin with ----
 * Asked once of each server, at the end of a transaction; attach_on_surveyed() goes on. */
bool early_lacks_isolation(const struct client *c); /* where it matters */
static inline bool early_must_ask(const struct client *c)
{
	const struct settings *set = &c->group->set;

	return (set->early_commit || set->promote || c->begin_promotes ||
		c->group->minds_isolation) &&
	       early_lacks_isolation(c);
}
/* Whether that is under way, which is nothing to the server's client. */
bool early_is_asking(const struct server *s);
void early_ask(struct server *s);

#endif
