/* SPDX-License-Identifier: ISC
 *
 * local.c - what is answered without a server, because its answer is certain.
 *
 * An empty query, SELECT 1 while a server is at hand, a SET that is in force, DISCARD ALL of a
 * session that has nothing, and transactions that run nothing.  For these a BEGIN is answered at
 * once and deferred: it goes to a server in the same write as the first statement, in such a way
 * that no statement runs when it fails (docs/adr/0008-deferred-begin.md).
 *
 * Only tags and rows of one form are made up here.  Whatever has words in it, which lc_messages may
 * change, is the server's to say, and so is a text with a byte beyond ASCII, which may not even be
 * valid in its encoding.
 */
#include "base/mem.h"
#include "relay/early.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/promote.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "sql/lex.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <ctype.h>
#include <stdlib.h>

/* A BEGIN with all the modes that anybody writes; a longer one is not deferred. */
#define BEGIN_MAX 128

/* ---- answers ----------------------------------------------------------------------------------
 */

void local_ready(struct client *c)
{
	c->group->counters.asked_count++;
	msg_put_ready(conn_output(&c->conn), local_tx(c));
}

/* The end of an answer to a Query. */
static bool answered(struct client *c)
{
	c->group->counters.query_count++;
	tenant_count(c->tenant, TENANT_STATEMENTS, 1);
	c->group->counters.xact_count += !c->begin;
	statement_forget_unnamed(c);
	if (c->whose && !c->begin)
		whose_end(c, true);
	local_ready(c);
	return true;
}

static bool answer_tag(struct client *c, const char *tag)
{
	msg_put_command_complete(conn_output(&c->conn), tag);
	return answered(c);
}

void local_answer(struct client *c, const char *tag)
{
	answer_tag(c, tag);
}

static bool answer_empty(struct client *c)
{
	msg_put_empty(conn_output(&c->conn), MSG_EMPTY_QUERY);
	c->group->counters.empty_count++;
	return answered(c);
}

/* The one row of SELECT 1, as the server describes it. */
static void put_one(struct buf *out)
{
	size_t m = msg_begin(out, MSG_ROW_DESCRIPTION);

	buf_put_u16(out, 1);
	buf_put_cstr(out, "?column?");
	buf_put_u32(out, 0); /* of no table */
	buf_put_u16(out, 0);
	buf_put_u32(out, 23); /* int4 */
	buf_put_u16(out, 4);
	buf_put_u32(out, UINT32_MAX); /* without a modifier */
	buf_put_u16(out, 0);          /* as text */
	msg_end(out, m);
	m = msg_begin(out, MSG_DATA_ROW);
	buf_put_u16(out, 1);
	buf_put_u32(out, 1);
	buf_put_u8(out, '1');
	msg_end(out, m);
}

/* ---- what a text is ---------------------------------------------------------------------------
 */

static struct lex lex_of(const struct client *c, struct slice text)
{
	struct lex lex;

	lex_init(&lex, text, &(struct lex_env){ c->env_standard_strings, c->env_ascii_safe });
	return lex;
}

/* SELECT 1, in any case, and nothing else but semicolons and comments. */
static bool is_ping(const struct client *c, struct slice text)
{
	struct lex lex = lex_of(c, text);
	struct lex_token t;

	if (!lex_next_code(&lex, &t) || !slice_is_equal_nocase(t.text, SLICE("select")) ||
	    !lex_next_code(&lex, &t) || t.kind != LEX_NUMBER || !slice_is_equal(t.text, SLICE("1")))
		return false;
	while (lex_next_code(&lex, &t))
		if (!slice_is_equal(t.text, SLICE(";")))
			return false;
	return true;
}

/* A database that is gone must be noticed, so somebody has to be there who would answer. */
static bool answer_ping(struct client *c, struct slice text, const struct sql_facts *facts)
{
	if (c->server || !is_ping(c, text) || !attach_has_idle(gate_peek(c, text, facts)))
		return false;
	put_one(conn_output(&c->conn));
	c->group->counters.ping_count++;
	return answer_tag(c, "SELECT 1");
}

static bool answer_discard(struct client *c)
{
	if (!session_is_clean(c))
		return false;
	statement_forget_names(c);
	c->group->counters.discard_count++;
	return answer_tag(c, "DISCARD ALL");
}

/* ---- a BEGIN that waits -----------------------------------------------------------------------
 */

/* Puts the words that follow, without comments, so that few texts come of many, behind the first n
 * bytes.  The new length; 0: too long. */
static size_t put_words(struct lex *lex, char out[BEGIN_MAX], size_t n)
{
	struct lex_token t;

	while (lex_next_code(lex, &t) && !slice_is_equal(t.text, SLICE(";"))) {
		if (n + t.text.n + 4 > BEGIN_MAX)
			return 0;
		if (n && t.kind == LEX_WORD)
			out[n++] = ' ';
		for (size_t i = 0; i < t.text.n; i++)
			out[n++] = (char)tolower((unsigned char)t.text.p[i]);
	}
	return n;
}

/* A BEGIN whose every word is known, as the statement that it is. */
static struct statement *begin_of(struct client *c, char words[BEGIN_MAX], size_t n)
{
	memset(words + n, 0, 3); /* the end of the text, and no types */
	return statement_intern(c, slice_of(words, n + 3));
}

static void on_defer_timer(struct loop_timer *timer);

/* So that the first in the list, who waits longest, is seen to in time. */
static void arm(struct relay *r)
{
	usec_t now = loop_now(r->net->loop), max = r->config->global.begin_defer_max, due;
	struct list *first = list_first(&r->deferred);

	/* While SUSPEND lasts nothing is sent. */
	if (!first || r->defer_timer_runs || r->suspended)
		return;
	due = container_of(first, struct client, begin_link)->begin_at + max;
	loop_timer_start(r->net->loop, &r->defer_timer, due > now ? due - now : 0, 0,
			 on_defer_timer);
	r->defer_timer_runs = true;
}

static void on_defer_timer(struct loop_timer *timer)
{
	struct relay *r = container_of(timer, struct relay, defer_timer);
	usec_t now = loop_now(r->net->loop), max = r->config->global.begin_defer_max;
	struct list *first;

	r->defer_timer_runs = false;
	/* Others may leave the list meanwhile, so it is asked for its first each time. */
	while (!r->suspended && (first = list_first(&r->deferred))) {
		struct client *c = container_of(first, struct client, begin_link);

		if (now < c->begin_at + max)
			break;
		list_del(&c->begin_link);
		c->begin_due = true;
		request_process(c);
	}
	arm(r);
}

void local_rearm(struct relay *r)
{
	if (r->defer_timer_runs)
		loop_timer_stop(r->net->loop, &r->defer_timer);
	r->defer_timer_runs = false;
	arm(r);
}

void local_hurry(struct client *c)
{
	list_del(&c->begin_link);
	list_push_front(&relay_of(c)->deferred, &c->begin_link);
	local_rearm(relay_of(c));
}

/* A standby may refuse what is READ WRITE or SERIALIZABLE.  A session that may still say whose the
 * transaction is waits with any. */
static bool is_worth_it(const struct client *c, const struct sql_facts *facts)
{
	const struct settings *set = &c->group->set;

	return c->whose || (set->answer_locally && set->begin_defer_max &&
			    !facts->begin_serializable && !facts->begin_read_write);
}

/* A server that listens for its client tells it of notifications between transactions only, so it
 * has to know of this one. */
bool local_may_begin(const struct client *c, const struct sql_facts *facts)
{
	return is_worth_it(c, facts) && c->group->set.pool_mode == POOL_MODE_TRANSACTION &&
	       statement_is_mapped(c) && facts->is_exact && !(c->pins & PIN_BIT(PIN_LISTEN)) &&
	       !c->group->gone;
}

/* What reads only since its session's transactions do has no write for which what it has read could
 * be too old, so nobody has to ask for it. */
static bool may_promote(const struct client *c, const struct sql_facts *facts)
{
	return c->group->set.promote != PROMOTE_NO ||
	       (!facts->begin_read_write && gate_has_choice(c) && session_reads_by_default(c));
}

/* Its tag; NULL: it cannot wait. */
const char *local_begin(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct lex lex = lex_of(c, text);
	char plain[BEGIN_MAX];
	size_t n = local_may_begin(c, facts) ? put_words(&lex, plain, 0) : 0;

	if (!n)
		return NULL;
	c->begin = begin_of(c, plain, n);
	c->begin_at = relay_now(c);
	c->begin_reads = facts->begin_read_only && facts->hint != SQL_HINT_PRIMARY;
	c->begin_stays = facts->hint == SQL_HINT_PRIMARY;
	c->begin_promotes = may_promote(c, facts);
	c->begin_failed = c->begin_due = c->begin_has_portal = false;
	/* Sent without a statement, it would be too late to say whose it is. */
	if (!c->whose) {
		list_push_back(&relay_of(c)->deferred, &c->begin_link);
		arm(relay_of(c));
	}
	c->group->counters.begin_deferred_count++;
	return *plain == 's' ? "START TRANSACTION" : "BEGIN";
}

static bool defer(struct client *c, struct slice text, const struct sql_facts *facts)
{
	const char *tag = local_begin(c, text, facts);

	return tag && answer_tag(c, tag);
}

/* The BEGIN that waits with the modes of a SET TRANSACTION behind its own, where the last ones
 * count; its length, or 0: they are none that could wait. */
static size_t add_modes(struct client *c, struct slice text, char out[BEGIN_MAX],
			struct sql_facts *facts)
{
	struct slice begin = statement_text(c->begin);
	struct sql_env env = gate_env(c);
	struct lex lex = lex_of(c, text);
	struct lex_token t;
	size_t n;

	if (!lex_next_code(&lex, &t) || !slice_is_equal_nocase(t.text, SLICE("set")) ||
	    !lex_next_code(&lex, &t) || !slice_is_equal_nocase(t.text, SLICE("transaction")))
		return 0;
	memcpy(out, begin.p, begin.n);
	n = put_words(&lex, out, begin.n);
	if (n <= begin.n)
		return 0;
	sql_scan(slice_of(out, n), &env, facts);
	return facts->kind == SQL_KIND_BEGIN && local_may_begin(c, facts) ? n : 0;
}

bool local_may_set_modes(struct client *c, struct slice text)
{
	struct sql_facts facts;
	char modes[BEGIN_MAX];

	return c->begin && !c->begin_failed && !c->owes_snapshot &&
	       add_modes(c, text, modes, &facts);
}

bool local_set_modes(struct client *c, struct slice text)
{
	struct statement *before = c->begin;
	struct sql_facts facts;
	char modes[BEGIN_MAX];
	size_t n;

	if (!c->begin || c->begin_failed || c->owes_snapshot)
		return false;
	n = add_modes(c, text, modes, &facts);
	if (!n) {
		/* A standby may refuse what no BEGIN waits with. */
		c->begin_reads = false;
		return false;
	}
	c->begin = begin_of(c, modes, n);
	c->begin_reads = facts.begin_read_only && !c->begin_stays;
	c->begin_has_portal = false; /* this Query has ended it */
	c->group->counters.set_count++;
	statement_unref(before);
	return true;
}

void local_forget(struct client *c)
{
	list_del(&c->begin_link);
	statement_unref(c->begin);
	c->begin = NULL;
	c->lane = NULL;
	c->begin_failed = c->begin_due = c->begin_has_portal = false;
}

/* COMMIT or ROLLBACK of a transaction that no server has seen. */
const char *local_end(struct client *c, enum sql_kind kind)
{
	bool commits = kind == SQL_KIND_COMMIT && !c->begin_failed;

	local_forget(c);
	c->owes_snapshot = false;
	if (c->whose)
		whose_end(c, commits);
	c->group->counters.xact_empty_count++;
	return commits ? "COMMIT" : "ROLLBACK";
}

void local_fail(struct client *c)
{
	list_del(&c->begin_link);
	c->begin_failed = true;
	c->begin_due = false;
}

void local_take_failed(struct client *c, struct statement *begin)
{
	c->begin = begin;
	local_fail(c);
}

void local_take_back(struct client *c, struct statement *begin)
{
	c->begin = begin;
	c->begin_at = relay_now(c);
	if (c->whose)
		return;
	list_push_back(&relay_of(c)->deferred, &c->begin_link);
	arm(relay_of(c));
}

struct pool *local_pool(struct client *c)
{
	struct pool *pool = gate_choose_known(c, c->begin_reads);

	/* Nothing stops a READ ONLY transaction from becoming another one at its beginning. */
	fence_begin_batch(c);
	return pool;
}

void local_send_begin(struct client *c, uint8_t type)
{
	struct server *s = c->server;

	PGT_ASSERT(s->tx == 'I');
	if ((c->is_routed || (c->repeats && !c->begin_due)) && !c->begin_failed)
		s->asked_begin = statement_ref(c->begin);
	promote_begin(c);
	s->query_at = relay_now(c);
	s->asked_at = c->conn.received_at;
	s->xact_at = s->begun_at = c->begin_at;
	early_begin(c);
	carry_begin(c, c->begin);
	/* A Query of the client's ends its portal, which another message may name: not one of ours.
	 */
	if (c->begin_failed || (!c->begin_has_portal && (c->begin_due || type != MSG_QUERY)))
		statement_close_unseen(c);
	if (c->begin_failed)
		statement_ask_unseen(c, REFUSED_TEXT);
	else if (c->begin_due)
		statement_ask_unseen(c, "");
	s->tx = 'T'; /* a server whose BEGIN fails is not used on */
	c->group->counters.begin_late_count += c->begin_due;
	local_forget(c);
}

/* ---- queries ----------------------------------------------------------------------------------
 */

/* Nothing is owed, and a server that happens to be there stays whatever is said.  What a client
 * that listens is told at the end of a transaction comes with its server's answer. */
static bool may_answer(const struct client *c)
{
	const struct server *s = c->server;

	return c->group->set.pool_mode != POOL_MODE_SESSION && !c->rare->listening &&
	       is_at_start(c) && (!s || s->commits_early || (!s->stream_left && attach_keeps(c)));
}

static bool answer_set(struct client *c, struct slice text)
{
	if (!pins_has_said(c, text))
		return false;
	c->group->counters.set_count++;
	return answer_tag(c, "SET");
}

static bool answer_here(struct client *c, struct slice text, const struct sql_facts *facts)
{
	switch (facts->kind) {
	case SQL_KIND_EMPTY:
		return answer_empty(c);
	case SQL_KIND_DISCARD:
		return facts->is_exact && answer_discard(c);
	case SQL_KIND_SET:
		return answer_set(c, text);
	case SQL_KIND_SELECT:
		return answer_ping(c, text, facts);
	default:
		return false;
	}
}

bool local_query(struct client *c, struct slice text, const struct sql_facts *facts)
{
	if (facts->statements > 1 || facts->flags || !slice_is_ascii(text))
		return false;
	if (facts->kind == SQL_KIND_COMMIT && facts->is_exact && early_is_possible(c))
		return answer_tag(c, early_commit(c));
	if (!may_answer(c))
		return false;
	if (facts->kind == SQL_KIND_BEGIN)
		return !c->begin && defer(c, text, facts);
	if (facts->kind == SQL_KIND_COMMIT || facts->kind == SQL_KIND_ROLLBACK)
		return c->begin && facts->is_exact && answer_tag(c, local_end(c, facts->kind));
	if (facts->kind == SQL_KIND_SET_TRANSACTION)
		return local_set_modes(c, text) && answer_tag(c, "SET");
	if (c->begin ? facts->kind != SQL_KIND_EMPTY : !c->group->set.answer_locally)
		return false;
	return answer_here(c, text, facts);
}

/* ---- by the extended protocol -----------------------------------------------------------------
 */

/* Who may say whose its statements are is answered in choose.c. */
static bool is_mine(const struct client *c, const struct statement *st)
{
	return c->begin ? st->is_kept_end : st->is_sure_begin && !c->whose;
}

static bool may_run_batch(const struct client *c)
{
	return !c->server && !c->in_batch && may_answer(c);
}

bool local_may_run(const struct client *c, const struct statement *st)
{
	struct sql_facts facts;

	if (!is_mine(c, st) || !may_run_batch(c))
		return false;
	if (c->begin)
		return true;
	statement_facts(st, &facts);
	return local_may_begin(c, &facts);
}

bool local_parse(struct client *c, struct slice name, struct slice body, struct statement *known)
{
	struct statement *st;
	bool ok;

	if (!may_run_batch(c))
		return false;
	st = known ? statement_ref(known) : statement_intern(c, body);
	ok = local_may_run(c, st) && statement_parse_unasked(c, name, body, st);
	statement_unref(st);
	return ok;
}

/* Names of statements are kept here, and a portal ends with its transaction.  In one that waits
 * there may be that of its BEGIN. */
bool local_close(struct client *c, uint8_t what, struct slice name)
{
	if (!may_run_batch(c) || !statement_is_mapped(c) || (what == 'P' && c->begin))
		return false;
	if (what == 'S')
		statement_forget(c, name);
	msg_put_empty(conn_output(&c->conn), MSG_CLOSE_COMPLETE);
	return true;
}

static const char *run_begin(struct client *c, const struct statement *st)
{
	struct sql_facts facts;
	const char *tag;

	statement_facts(st, &facts);
	tag = local_begin(c, statement_text(st), &facts);
	if (tag)
		c->begin_has_portal = true;
	return tag;
}

const char *local_run(struct client *c, const struct statement *st)
{
	const char *tag = c->begin ? local_end(c, st->kind) : run_begin(c, st);

	if (tag) {
		c->group->counters.query_count++;
		tenant_count(c->tenant, TENANT_STATEMENTS, 1);
	}
	return tag;
}
