/* SPDX-License-Identifier: ISC
 *
 * repeat.c - unnamed statements that repeat, prepared on servers behind their clients' backs.
 *
 * Knows which texts may be, at which place of a conversation, and which of them have become slower
 * by it.  How a request is asked again is rescue.c's.
 */
#include "relay/repeat.h"

#include "base/mem.h"
#include "relay/parts.h"
#include "relay/rescue.h"
#include "relay/statement_parts.h"
#include "sql/steady.h"
#include "wire/frame.h"
#include "wire/read.h"

#include <limits.h>
#include <stdlib.h>

/* Texts that are counted, the newest has the place; a longer one is not. */
#define RECENT_MAX      512
#define RECENT_TEXT_MAX 4096
/* What DDL that does not come through here changes unnoticed (a table, a function that would be
 * found first) is noticed after this time. */
#define AGE_MAX USEC_PER_SEC
/* So often PostgreSQL makes a plan for the parameters before it thinks of one for all. */
#define PLANS_MADE 5
/* A statement has become slower if that was so so often in a row, a second or more apart, each time
 * by at least so many runs, and by a factor of two and so much. */
#define SLOWER_VERDICTS 3
#define GIVEN_ENOUGH    16
#define PLANNED_ENOUGH  3
#define SLOWER_BY       ((usec_t)250)
#define PATIENCE_MAX    12
#define SLOWER_COSTS    5 /* doublings of auto_prepare_after */

/* ---- texts
 * ----------------------------------------------------------------------------------------
 */

static bool is_steady_kind(enum sql_kind kind)
{
	const uint64_t kinds = 1ull << SQL_KIND_SELECT | 1ull << SQL_KIND_INSERT |
			       1ull << SQL_KIND_UPDATE | 1ull << SQL_KIND_DELETE |
			       1ull << SQL_KIND_OTHER; /* MERGE */

	return kinds >> kind & 1;
}

static enum sql_steadiness look_at(const struct client *c, const struct statement *st)
{
	struct lex_env env = { c->env_standard_strings, c->env_ascii_safe };

	if (!is_steady_kind(st->kind) || st->tells_moment || st->effects || st->flags ||
	    st->is_guarded || st->guards_params || st->has_names || st->resets || st->sets_path ||
	    (st->sequence & ~SQL_SEQUENCE_ADVANCES) || st->text_len > RECENT_TEXT_MAX)
		return SQL_UNSTEADY;
	return sql_steadiness(statement_text(st), &env);
}

static bool is_steady(const struct client *c, struct statement *st)
{
	if (st->steadiness == SQL_STEADINESS_UNKNOWN)
		st->steadiness = look_at(c, st);
	return st->steadiness != SQL_UNSTEADY;
}

/* ---- sessions
 * -----------------------------------------------------------------------------------
 */

/* No plan and no meaning depends on it, or it stands in the key of statements, or PostgreSQL itself
 * asks for it whenever a plan is used. */
static bool is_plain_setting(const char *name)
{
	static const char *const names[] = {
		"application_name",
		"client_encoding",
		"client_min_messages",
		"datestyle",
		"timezone",
		"intervalstyle",
		"bytea_output",
		"extra_float_digits",
		"statement_timeout",
		"lock_timeout",
		"search_path",
		"role",
		"plan_cache_mode",
		"synchronous_commit",
		"session_authorization",
		"idle_in_transaction_session_timeout",
		"default_transaction_read_only",
		"default_transaction_isolation",
		"standard_conforming_strings",
	};

	for (size_t i = 0; i < PGT_NELEMS(names); i++)
		if (slice_is_equal_nocase(slice_str(name), slice_str(names[i])))
			return true;
	return false;
}

/* Of param_set.plain. */
enum { PLAIN_UNKNOWN, PLAIN, PLAIN_BUT_FOR_OWN, NOT_PLAIN };

static uint8_t plainness(const struct param_set *set)
{
	uint8_t plain = PLAIN;

	for (unsigned i = 0; i < set->n; i++) {
		if (is_plain_setting(set->items[i].name))
			continue;
		if (!strchr(set->items[i].name, '.'))
			return NOT_PLAIN;
		plain = PLAIN_BUT_FOR_OWN;
	}
	return plain;
}

/* One's own settings, and the tenant whom a shared server carries, may have been folded into a plan
 * by a function that is declared IMMUTABLE and is not: those are nobody else's (I1). */
static bool is_plain_session(const struct client *c)
{
	struct param_set *set = c->wanted;

	if (!set->plain)
		set->plain = plainness(set);
	if (set->plain == PLAIN && !c->group->is_shared)
		return true;
	return set->plain != NOT_PLAIN && !gate_plans_tell(c->group);
}

/* ---- places in a conversation -----------------------------------------------------------------
 */

/* What follows the Parse at the beginning of the input uses it: the server looks at what it has,
 * and whether that is still what it would parse now. */
static bool is_used_next(const struct client *c, const struct statement *st)
{
	struct slice in = conn_input(&c->conn);
	struct frame f;
	struct reader r;

	if (frame_peek(in.p, in.n, &f) != FRAME_OK || !frame_is_whole(&f))
		return false;
	in = slice_of(in.p + f.len, in.n - f.len);
	if (frame_peek(in.p, in.n, &f) != FRAME_OK || !frame_is_whole(&f))
		return false;
	r = reader_of(frame_body(&f));
	if (f.type == MSG_BIND) {
		read_cstr(&r);
		return !read_cstr(&r).n;
	}
	/* Without a result, nothing is looked at. */
	return f.type == MSG_DESCRIBE && st->kind == SQL_KIND_SELECT && read_u8(&r) == 'S' &&
	       !read_cstr(&r).n;
}

static unsigned due_after(const struct client *c, const struct statement *st)
{
	return c->group->set.auto_prepare_after << st->patience;
}

void repeat_look(struct client *c, struct statement *st, bool is_used)
{
	c->repeats = false;
	if (st->seen < due_after(c, st) || !c->group->set.auto_prepare || !is_at_start(c))
		return;
	/* One that others prepare by name is not parsed anew for the sake of plans. */
	c->repeats = !c->was_rescued && !c->rare->listening && !c->begin_failed && !c->begin_due &&
		     !c->path_unsure && !c->resets && !attach_keeps(c) && is_steady(c, st) &&
		     (!st->nnames || st->steadiness == SQL_STEADY) && is_plain_session(c) &&
		     (is_used || is_used_next(c, st));
}

static bool is_stale(const struct server *s, const struct server_statement *ss)
{
	const struct statement *st = ss->subject;

	return ss->is_renamed || ss->changes != st->changes || ss->setbacks != st->setbacks ||
	       loop_now(s->conn.net->loop) - ss->parsed_at >= AGE_MAX;
}

/* PostgreSQL would make no plan for its parameters any more. */
static bool has_run_out(const struct server_statement *ss)
{
	const struct statement *st = ss->subject;

	return st->steadiness == SQL_STEADY_BY_PLAN && ss->runs >= PLANS_MADE;
}

/* Behind what has been checked in the same batch, whose locks are still there. */
static bool may_stand_behind(const struct client *c, const struct statement *st,
			     const struct server_statement *ss)
{
	return c->in_batch && c->batch_is_plain && ss && st->steadiness > SQL_UNSTEADY &&
	       ss->checked_in == placed_batch(c->server) && ss->setbacks == st->setbacks &&
	       ss->changes == st->changes;
}

/* Something on the server is the client's unnamed statement. */
static void become_unnamed(struct client *c, struct statement *st, struct server_statement *ss)
{
	struct server *s = c->server;
	struct client_statements *own = c->statements;

	ss->checked_in = placed_batch(s);
	own->unnamed_server = s->id;
	own->unnamed_serial = ss->serial;
	s->unnamed_in = placed_batch(s);
	statement_unnamed_set(c, st);
}

/* Something on the server stands in for it. */
static void stand_in(struct client *c, struct statement *st, struct server_statement *ss,
		     enum reply_way way)
{
	struct server *s = c->server;
	struct statement *before = c->statements->unnamed;

	become_unnamed(c, st, ss);
	replies_push(&s->replies, (struct reply){ .kind = REPLY_PARSE,
						  .way = (uint8_t)way,
						  .note = NOTE_UNNAMED,
						  .subject = before });
}

static void begin_time(struct client *c, struct statement *st, bool is_planned)
{
	struct server *s = c->server;

	repeat_forget_time(s);
	if (c->batch_has_parsed || s->replies.ncycles)
		return;
	c->batch_has_parsed = true;
	s->timed = statement_ref(st);
	s->times_plan = is_planned;
}

bool repeat_parse(struct client *c, struct statement *st)
{
	struct server *s = c->server;
	bool is_first = c->repeats && s->may_rescue, is_new;
	struct server_statement *ss;

	c->repeats = false;
	if (!(is_first || c->batch_is_plain) || s->tx == 'E' || s->replies.ncycles)
		return false;
	ss = placed_find(s, st);
	if (!is_first && !(may_stand_behind(c, st, ss) && is_used_next(c, st)))
		return false;
	c->batch_is_plain |= is_first;
	if (ss && (has_run_out(ss) || (is_first && is_stale(s, ss)))) {
		placed_close(s, ss);
		ss = NULL;
	}
	is_new = !ss;
	if (is_new) {
		ss = placed_require(c, st);
		ss->runs = 0;
	} else {
		placed_touch(s, ss);
	}
	c->group->counters.auto_parse_count += !is_new;
	begin_time(c, st, ss->runs < PLANS_MADE);
	if (is_first && !is_new)
		s->asked_known = statement_ref(st);
	stand_in(c, st, ss, is_first && !is_new ? REPLY_WAIT : REPLY_MAKE);
	return true;
}

struct server_statement *repeat_again(struct client *c, struct statement *st, unsigned *most)
{
	struct server *s = c->server;
	struct server_statement *ss = placed_find(s, st);

	if (s->tx == 'E' || s->replies.ncycles || !may_stand_behind(c, st, ss) || has_run_out(ss))
		return NULL;
	*most = st->steadiness == SQL_STEADY_BY_PLAN ? PLANS_MADE - ss->runs : UINT_MAX;
	return ss;
}

void repeat_stood_in(struct client *c, struct statement *st, struct server_statement *ss,
		     unsigned n)
{
	struct server *s = c->server;

	/* The replies to all but the first, and the client. */
	st->refs += n;
	c->group->counters.auto_parse_count += n;
	placed_touch(s, ss);
	begin_time(c, st, ss->runs < PLANS_MADE);
	become_unnamed(c, st, ss);
	ss->runs += n;
	s->bound = 0;
	s->bound_portal = 0;
}

struct server_statement *repeat_find(const struct client *c, const struct statement *st)
{
	const struct client_statements *own = c->statements;
	struct server_statement *ss;

	if (!own->unnamed_serial || own->unnamed_server != c->server->id)
		return NULL;
	ss = placed_find(c->server, st);
	return ss && ss->serial == own->unnamed_serial && !has_run_out(ss) ? ss : NULL;
}

struct server_statement *repeat_require(struct client *c, const struct statement *st)
{
	struct server_statement *ss = repeat_find(c, st);

	c->server->bound = 0;
	c->server->bound_portal = 0;
	if (ss)
		ss->runs++;
	return ss;
}

void repeat_on_bind(struct client *c, const struct statement *st)
{
	c->batch_is_plain &= st && st->steadiness > SQL_UNSTEADY;
}

/* ---- counting
 * -----------------------------------------------------------------------------------
 */

static void leave_recent(struct statement **at)
{
	struct statement *st = *at;

	*at = NULL;
	if (!st)
		return;
	st->is_recent = false;
	statement_unref(st);
}

static void keep_recent(struct client *c, struct statement *st)
{
	struct relay *r = relay_of(c);
	struct statement **at;

	if (st->text_len > RECENT_TEXT_MAX || statement_is_tight(r))
		return;
	if (!r->recent)
		r->recent = xcalloc(RECENT_MAX, sizeof(*r->recent));
	at = &r->recent[st->id % RECENT_MAX];
	leave_recent(at);
	st->is_recent = true;
	*at = statement_ref(st);
}

void repeat_count(struct client *c, struct statement *st)
{
	if (!c->group->set.auto_prepare || !is_steady_kind(st->kind) || st->effects ||
	    st->tells_moment)
		return;
	st->seen += st->seen < UINT32_MAX;
	if (!st->is_recent)
		keep_recent(c, st);
	begin_time(c, st, true);
}

void repeat_forget(struct relay *r, const struct group *group)
{
	if (!r->recent)
		return;
	for (unsigned i = 0; i < RECENT_MAX; i++)
		if (r->recent[i] && (!group || r->recent[i]->group == group))
			leave_recent(&r->recent[i]);
	if (group)
		return;
	free(r->recent);
	r->recent = NULL;
}

/* It has to come so many times again before it is prepared once more. */
static void set_back(struct statement *st, unsigned doublings)
{
	st->seen = 0;
	st->setbacks++;
	st->patience = (uint8_t)(st->patience + doublings < PATIENCE_MAX ? st->patience + doublings
									 : PATIENCE_MAX);
}

void repeat_is_void(struct statement *st)
{
	if (st)
		st->seen = 0;
}

void repeat_has_failed(struct statement *st)
{
	set_back(st, 1);
}

void repeat_on_notice(struct server *s, const struct reply *r)
{
	struct statement *st = NULL;

	if (r->note == NOTE_INJECTED)
		st = ((struct server_statement *)r->subject)->subject;
	else if (r->note == NOTE_UNNAMED && s->client->statements)
		st = s->client->statements->unnamed;
	if (st)
		st->steadiness = SQL_UNSTEADY;
}

/* ---- how long it takes
 * --------------------------------------------------------------------------
 */

#define LOG_STEPS 16

/* In steps of a doubling, so that a mean of them does not follow what lasted for once. */
static unsigned log_of(usec_t took)
{
	uint64_t n = (uint64_t)(took > 0 ? took : 0) + LOG_STEPS;
	unsigned bits = 63 - (unsigned)__builtin_clzll(n);

	return bits * LOG_STEPS + (unsigned)(n >> (bits - 4) & (LOG_STEPS - 1));
}

static usec_t time_of(unsigned log)
{
	unsigned bits = log / LOG_STEPS;

	return (usec_t)(((uint64_t)(LOG_STEPS + log % LOG_STEPS) << bits) / LOG_STEPS);
}

void repeat_forget_time(struct server *s)
{
	statement_unref(s->timed);
	s->timed = NULL;
}

static bool is_slower(const struct statement *st)
{
	usec_t planned = time_of((unsigned)(st->planned / st->nplanned));
	usec_t given = time_of((unsigned)(st->given / st->ngiven));

	return given > 2 * planned && given > planned + SLOWER_BY;
}

/* Plans that are made for the parameters and those that are not come in turns, a second apart. */
static void judge(struct server *s, struct statement *st, usec_t now)
{
	st->slower = is_slower(st) ? st->slower + 1 : 0;
	st->judged_at = now;
	st->planned = st->given = 0;
	st->nplanned = st->ngiven = 0;
	if (st->slower < SLOWER_VERDICTS)
		return;
	st->slower = 0;
	set_back(st, SLOWER_COSTS);
	s->client->group->counters.auto_slower_count++;
}

void repeat_on_ready(struct server *s, usec_t took)
{
	struct statement *st = s->timed;
	usec_t now = loop_now(s->conn.net->loop);

	if (s->times_plan) {
		st->planned += log_of(took);
		st->nplanned++;
	} else {
		st->given += log_of(took);
		st->ngiven++;
	}
	if (st->ngiven >= GIVEN_ENOUGH && st->nplanned >= PLANNED_ENOUGH &&
	    now - st->judged_at >= AGE_MAX)
		judge(s, st, now);
	repeat_forget_time(s);
}
