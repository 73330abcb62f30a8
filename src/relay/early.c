/* SPDX-License-Identifier: ISC
 *
 * early.c - acknowledges the COMMIT of a transaction that only read while it is on its way
 * (early_commit).
 *
 * Such a COMMIT decides nothing that its client could still lose: it has what it read.  So the
 * client is told at once, and the COMMIT goes to the server as something ahead of the client's next
 * request, which may follow without waiting (docs/adr/0020-the-habit-of-today.md).  The server
 * stays the client's until it has answered.
 *
 * Knows which transactions these are and what a COMMIT that fails leads to, not what goes ahead
 * how.
 */
#include "relay/early.h"

#include "base/log.h"
#include "base/slice.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "relay/whose.h"

/* How many transactions in turn a client may begin behind such a COMMIT while others wait for a
 * server. */
#define RUN_MAX 16

/* ---- which transactions ------------------------------------------------------------------------
 */

void early_begin(struct client *c)
{
	const struct slice text = statement_text(c->begin);

	/* Modes of its own are read by nobody here, and what the operator has called a read may be
	 * none.  What comes behind the COMMIT goes to the same server, and may write. */
	c->only_reads = c->group->set.early_commit && !c->begin_failed && !c->begin_due &&
			!gate_is_replicas(c->server) && !*c->group->set.read_functions &&
			!memmem(text.p, text.n, "isolation", strlen("isolation"));
}

void early_look(struct client *c, struct slice text, const struct sql_facts *facts)
{
	c->only_reads = facts->kind == SQL_KIND_SELECT && facts->statements == 1 && !facts->flags &&
			!facts->effects && !facts->sequence && !facts->nnames &&
			gate_is_read(c, text, facts);
}

void early_look_at_bind(struct client *c, const struct statement *st)
{
	struct sql_facts facts;

	c->only_reads = st && !st->has_names;
	if (!c->only_reads)
		return;
	statement_facts(st, &facts);
	early_look(c, statement_text(st), &facts);
}

/* The session's own default, and that of its role and database, which the server has told. */
static bool is_read_committed(const struct server *s)
{
	return s->isolation == ISOLATION_READ_COMMITTED &&
	       !param_set_get(s->applied, SLICE(PARAM_ISOLATION));
}

/* Nothing is under way on the server, and nothing of the session is left there. */
static bool is_plain(const struct client *c, const struct server *s)
{
	return !s->replies.n && !s->stream_left && !s->question.done && !s->cancel &&
	       !s->skips_to_sync && !s->copy_in && !s->loose_syncs && !s->doubtful &&
	       !s->has_notified && !s->has_ddl && !c->in_batch && !c->stream_left && !c->touched &&
	       !c->resets && !c->rare->listening && !c->owes_snapshot && !attach_keeps(c);
}

bool early_is_possible(const struct client *c)
{
	const struct server *s = c->server;

	return c->only_reads && s && s->tx == 'T' && is_plain(c, s) && is_read_committed(s) &&
	       c->group->set.tenant_context_check == CONTEXT_CHECK_OFF;
}

/* ---- its COMMIT ---------------------------------------------------------------------------------
 */

const char *early_commit(struct client *c)
{
	struct server *s = c->server;

	carry_commit(s);
	/* Should it be another one, nothing that comes behind runs. */
	s->tx = 'I';
	s->commits_early = true;
	s->early_run += s->early_run < RUN_MAX;
	context_end(s);
	c->only_reads = false;
	c->group->counters.early_count++;
	admit_end(c);
	c->prepaid = 0;
	c->chosen = NULL;
	if (c->whose)
		whose_end(c, true);
	context_look(c);
	return "COMMIT";
}

bool early_must_yield(const struct server *s)
{
	return s->early_run == RUN_MAX && s->pool->nwaiting;
}

bool early_is_all(const struct client *c)
{
	const struct server *s = c->server;

	return s->commits_early && s->replies.n == s->carrying && !c->in_batch && !c->stream_left;
}

void early_failed(struct server *s)
{
	log_warning("S-%llu: the COMMIT of a transaction that only read has failed (early_commit)",
		    (unsigned long long)s->id);
	s->doubtful = true;
	while (replies_head(&s->replies)->kind != REPLY_SYNC) {
		replies_pop(&s->replies);
		s->carrying--;
	}
}

bool early_ended(struct server *s, char tx)
{
	struct err e;

	s->commits_early = false;
	if (tx == 'I')
		return true;
	s->doubtful = true;
	if (!s->replies.n)
		return true;
	err_set(&e, "08006", "the transaction before could not be ended on its server");
	err_hint(&e, "Nothing of what was sent behind its COMMIT has run.");
	client_close(s->client, &e, e.text);
	return false;
}

/* ---- what sessions begin with -------------------------------------------------------------------
 */

bool early_lacks_isolation(const struct client *c)
{
	const struct server *s = c->server;

	return s->isolation == ISOLATION_UNKNOWN &&
	       c->group->set.pool_mode == POOL_MODE_TRANSACTION && !c->group->replication &&
	       !param_set_get(s->applied, SLICE(PARAM_ISOLATION));
}

static void on_another(struct server *s, void *arg PGT_UNUSED,
		       const struct slice *columns PGT_UNUSED, unsigned n PGT_UNUSED)
{
	s->isolation = ISOLATION_OTHER;
}

static void on_asked(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	struct group *group = s->pool->group;

	if (error)
		s->isolation = ISOLATION_OTHER;
	if (!gate_is_replicas(s)) {
		group->isolation = s->isolation;
		group->isolation_defaults = s->defaults;
	}
	attach_on_surveyed(s);
}

bool early_is_asking(const struct server *s)
{
	return s->question.done == on_asked;
}

void early_ask(struct server *s)
{
	const struct question q = { .row = on_another, .done = on_asked };

	s->isolation = ISOLATION_READ_COMMITTED;
	server_ask(s,
		   "SELECT 1 WHERE pg_catalog.current_setting('" PARAM_ISOLATION
		   "') OPERATOR(pg_catalog.<>) 'read committed'",
		   &q);
}
