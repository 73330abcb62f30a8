/* SPDX-License-Identifier: ISC
 *
 * audit.h - statements of clients in the log, as log_statements and log_sample say.
 *
 * Literals are left out.  Where it is off, a statement costs a comparison.
 */
#ifndef PGT_RELAY_AUDIT_H
#define PGT_RELAY_AUDIT_H

#include "relay/parts.h"
#include "relay/statement.h"
#include "tenant/tenant.h"

static inline const struct settings *audit_settings(const struct client *c)
{
	return c->tenant ? &c->tenant->set : &c->group->set;
}

static inline bool audit_is_on(const struct client *c)
{
	return audit_settings(c)->log_statements != LOG_STATEMENTS_NONE;
}

/* It is sent now. */
void audit_say(struct client *c, struct slice text, const struct sql_facts *facts);
/* The same of one whose facts are not at hand. */
void audit_look(struct client *c, struct slice text);
/* Of a prepared one. */
void audit_say_bound(struct client *c, const struct statement *st);
/* A text that nobody has looked at. */
void audit_say_unseen(struct client *c, size_t n);

static inline void audit_query(struct client *c, struct slice text, const struct sql_facts *facts)
{
	if (audit_is_on(c))
		audit_say(c, text, facts);
}

#endif
