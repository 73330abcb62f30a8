/* SPDX-License-Identifier: ISC
 *
 * fence.c - who reads finds what was written: read_your_writes.
 *
 * Whatever a client's server says may be of a write, unless all that it was sent is proven to read.
 * Then the fence of who wrote is raised before a byte of that goes out, and what is read behind it
 * asks for a replica that covers it (route/fence.h).  The fence is the tenant's (a
 * transaction is of one), else the user's in
 * this database, or the session's; only this file and parts.h know which.  What it costs is a test
 * of a flag for an answer that was read, and two loads for one that was written.
 */
#include "relay/parts.h"
#include "relay/statement.h"
#include "route/nodes.h"

/* ---- writes -----------------------------------------------------------------------------------
 */

void fence_note(struct server *s)
{
	struct client *c = s->client;

	node_set_meet(c->group->nodes, s->node, s->process);
	if (fence_is_sessions(c))
		client_make_rare(c)->fence = fence_now();
	else
		fence_raise(fence_record(c));
}

/* They change no rows by themselves; what a COMMIT makes visible was written before it. */
static bool is_harmless(const struct sql_facts *facts)
{
	const uint64_t kinds =
	    1ull << SQL_KIND_EMPTY | 1ull << SQL_KIND_BEGIN | 1ull << SQL_KIND_COMMIT |
	    1ull << SQL_KIND_ROLLBACK | 1ull << SQL_KIND_SAVEPOINT | 1ull << SQL_KIND_RELEASE |
	    1ull << SQL_KIND_ROLLBACK_TO | 1ull << SQL_KIND_SET | 1ull << SQL_KIND_SET_LOCAL |
	    1ull << SQL_KIND_SET_TRANSACTION | 1ull << SQL_KIND_RESET | 1ull << SQL_KIND_SHOW |
	    1ull << SQL_KIND_DEALLOCATE | 1ull << SQL_KIND_LISTEN | 1ull << SQL_KIND_UNLISTEN;

	return facts->statements <= 1 && !(facts->flags & SQL_UNCLEAN) &&
	       (kinds >> facts->kind & 1);
}

static bool may_still_be_clean(const struct client *c)
{
	return c->group->has_fence && gate_has_choice(c) && !c->server->writes;
}

void fence_look(struct client *c, struct slice text, const struct sql_facts *facts)
{
	/* Its first request was looked at when its node was chosen. */
	if (is_at_start(c) && !attach_keeps(c))
		return;
	c->reads = may_still_be_clean(c) && (is_harmless(facts) || gate_is_proven(c, text, facts))
		       ? READS_PROVEN
		       : READS_NOT;
}

void fence_look_bound(struct client *c, const struct statement *st)
{
	struct sql_facts facts;

	if (c->reads != READS_SO_FAR)
		return;
	if (st && may_still_be_clean(c)) {
		if (gate_has_proof(c, st))
			return;
		statement_facts(st, &facts);
		facts.statements = 1;
		if (is_harmless(&facts) || gate_is_proven(c, statement_text(st), &facts))
			return;
	}
	fence_on_unseen(c);
}

/* ---- reads ------------------------------------------------------------------------------------
 */

void fence_wish(const struct client *c, struct node_wish *wish)
{
	const struct lane *lane = c->group->config->nlanes ? lane_of(c) : NULL;
	const struct settings *set = lane ? &lane->set : &c->group->set;

	*wish = (struct node_wish){
		.serves = lane ? lane->serves : c->group->serves,
		.max_lag = set->max_replica_lag,
		.max_lag_bytes = set->max_replica_lag_bytes,
		.turn = (unsigned)(c->group->counters.replica_count + c->group->key_hash),
		.is_fenced = c->group->set.read_your_writes != READ_YOUR_WRITES_OFF
	};
	if (wish->is_fenced)
		wish->fence = fence_of(c);
}

struct pool *fence_go_back(struct client *c)
{
	c->group->counters.routed_fenced_count++;
	c->group->counters.replica_count--;
	c->is_routed = false;
	c->covered_by = 0;
	c->looked_at = false;
	c->chosen = gate_primary(c);
	return c->chosen;
}
