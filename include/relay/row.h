/* SPDX-License-Identifier: ISC
 *
 * row.h - statements that a batch has in a row, all of the same Parse.
 *
 * Also, in line, whether there is anything to be decided about a message of a batch, which
 * extended.c asks of single ones.
 */
#ifndef PGT_RELAY_ROW_H
#define PGT_RELAY_ROW_H

#include "relay/audit.h"
#include "relay/parts.h"
#include "relay/promote.h"
#include "relay/statement.h"

struct frame;

/* Behind the first message of a batch there is nothing to be decided any more, as a rule. */
static inline bool row_just_goes_on(const struct client *c)
{
	const struct server *s = c->server;

	return c->in_batch && s && s->replies.n > s->carrying && !s->carry_due &&
	       s->context == c->tenant && s->check != CHECK_HOLDS && !c->is_routed && !c->repeats;
}

/* Whether to run it is nothing to anybody but those who choose its server, and the session is in no
 * state in which it would be. */
static inline bool row_may_run(const struct client *c, const struct statement *st)
{
	return st->is_plain && !st->changes && !c->begin && !c->whose && !c->resets &&
	       !c->owes_snapshot && !c->only_reads && !c->rare->listening && !c->rare->named &&
	       !c->rare->putbacks && !(c->xact & XACT_READS) && !lane_may_be_said(c) &&
	       !admit_is_gated(c) && !promote_concerns(c) && !audit_is_on(c) &&
	       !c->group->set.tenant_context_check;
}

/* A Parse without a name within a batch; body: its text with the NUL, and what follows.  Where
 * something on the server stands in for it, and it is bound and run as drivers do, it is dealt with
 * at once, and so are those behind it that are the same.  False: nothing was done. */
bool row_send(struct client *c, const struct frame *parse, struct slice body) PGT_MUST_USE;

#endif
