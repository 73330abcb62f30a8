/* SPDX-License-Identifier: ISC
 *
 * settle.h - the usual end of a transaction: whether it is one, in line.
 *
 * A part of attach.c, for who knows already that the server and its client are usual.  Does not
 * know what the answer was.
 */
#ifndef PGT_RELAY_SETTLE_H
#define PGT_RELAY_SETTLE_H

#include "relay/early.h"
#include "relay/parts.h"

/* Of a server that is usual, as its client is, and that owes nothing and has said no more: whether
 * there is nothing of all that attach_settle() looks at. */
static inline bool settle_is_usual(const struct server *s, const struct client *c)
{
	const struct group *group = c->group;

	return s->tx == 'I' && !c->stream_left && !(c->touched | c->pins | s->tainted) &&
	       !s->asked_begin && !s->question.done && !c->rare->begun &&
	       group->set.pool_mode != POOL_MODE_SESSION && !group->set.tenant_context_check &&
	       !group->set.server_reset_query_always && !early_must_ask(c) && !relay_of(c)->give;
}
/* Then: takes it from the client. */
void settle_usual(struct server *s, struct client *c);

#endif
