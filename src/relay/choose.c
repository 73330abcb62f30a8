/* SPDX-License-Identifier: ISC
 *
 * choose.c - a session says whose it is: SET, RESET and set_config() of the tenant's setting, or a
 * comment.
 *
 * They are answered here, in both protocols, as long as no server runs anything for the client;
 * later they may only say what holds already.  In the extended protocol BEGIN and the end of a
 * transaction that has run nothing are answered here too, so that what is chosen in between comes
 * before the first statement.  What is none of the forms that sql/choice.h knows is the gate's to
 * judge.
 */
#include "base/mem.h"
#include "relay/early.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "relay/whose.h"
#include "sql/choice.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>

/* Statements that are kept with what they say, of a worker, and how long they may be. */
#define SAID_MAX      32
#define SAID_TEXT_MAX 4096

enum { OID_BOOL = 16, OID_TEXT = 25, OID_VARCHAR = 1043, OID_UNKNOWN = 705 };

/* ---- what a text is ---------------------------------------------------------------------------
 */

/* A text that can be answered here. */
struct local {
	enum { LOCAL_NONE, LOCAL_CHOICE, LOCAL_BEGIN, LOCAL_MODES, LOCAL_END } what;
	struct sql_choice choice;
	uint32_t types[SQL_CHOICE_PARAMS]; /* of the parameters */
};

struct portal_here {
	struct list link; /* of whose.portals */
	struct local local;
	struct statement *statement; /* a reference */
	bool is_done;
	uint16_t format; /* of the result */
	char name[];
};

/* Sets it, or may, or takes it back to what the session began with. */
static bool sets_tenant(const struct sql_facts *facts)
{
	if (facts->flags & SQL_SETCONFIG_DYNAMIC)
		return true;
	for (unsigned i = 0; i < facts->nchanges; i++)
		if (facts->changes[i].what == CHANGE_TENANT)
			return true;
	return facts->effects & SQL_EFFECT_DISCARD_ALL;
}

static bool is_value_type(uint32_t oid)
{
	return oid == OID_TEXT || oid == OID_VARCHAR || oid == OID_UNKNOWN;
}

/* Types that the client has declared, where they are those that the text asks for. */
static bool take_types(struct local *local, struct slice declared)
{
	struct reader r = reader_of(declared);
	unsigned n = read_u16(&r);

	memcpy(local->types, local->choice.types, sizeof(local->types));
	if (n > local->choice.nparams)
		return false;
	for (unsigned i = 0; i < n; i++) {
		uint32_t oid = read_u32(&r);
		bool is_bool = local->choice.local_param == i + 1;

		if (oid && !(is_bool ? oid == OID_BOOL : is_value_type(oid)))
			return false;
		if (oid && oid != OID_UNKNOWN)
			local->types[i] = oid;
	}
	return !r.failed;
}

static struct local read_local(struct client *c, struct slice text, const struct sql_facts *facts,
			       struct slice declared)
{
	struct local local = { .what = LOCAL_NONE };
	struct sql_env env = gate_env(c);
	const uint32_t unknown = ~(uint32_t)SQL_SETCONFIG_DYNAMIC;

	if (facts->statements != 1 || (facts->flags & unknown))
		return local;
	if (c->whose->by_set && sets_tenant(facts) && sql_choice_read(text, &env, &local.choice))
		local.what = LOCAL_CHOICE;
	else if (facts->kind == SQL_KIND_BEGIN && facts->is_exact)
		local.what = LOCAL_BEGIN;
	else if (facts->kind == SQL_KIND_SET_TRANSACTION)
		local.what = LOCAL_MODES;
	else if (facts->kind == SQL_KIND_COMMIT || facts->kind == SQL_KIND_ROLLBACK)
		local.what = facts->is_exact ? LOCAL_END : LOCAL_NONE;
	if (!take_types(&local, declared))
		local.what = LOCAL_NONE;
	return local;
}

/* What was found of a statement. */
struct said {
	struct statement *statement; /* a reference; NULL: nothing is kept here */
	uint64_t env_key;
	const char *setting; /* of the configuration in force */
	bool by_set, ascii_safe;
	struct local local;
	struct sql_facts facts;
};

/* These two as gate_env() has them. */
static const char *setting_of(const struct client *c)
{
	return c->group->has_tenants ? c->group->set.tenant_setting : NULL;
}

static bool is_ascii_safe(const struct client *c)
{
	return c->env_ascii_safe && !c->env_unsure;
}

/* body: of a Parse, from the text on. */
static void look_anew(struct client *c, struct slice body, struct said *x)
{
	struct sql_env env = gate_env(c);
	struct slice text = slice_str(body.p);

	env.wants_fingerprint = true;
	sql_scan(text, &env, &x->facts);
	x->local =
	    read_local(c, text, &x->facts, slice_of(body.p + text.n + 1, body.n - text.n - 1));
}

static bool is_of(const struct said *x, const struct statement *st, const struct client *c)
{
	return x->statement == st && x->env_key == c->env_key && x->setting == setting_of(c) &&
	       x->by_set == c->whose->by_set && x->ascii_safe == is_ascii_safe(c);
}

/* Of a statement that a name stands for: the same few come again and again, so that the newest are
 * kept.  room is for one that is not; good until another one is looked at. */
static const struct said *look_at(struct client *c, struct statement *st, struct said *room)
{
	struct relay *r = relay_of(c);
	struct statement *before;
	struct said *x = room;

	gate_know_env(c);
	if (st->len <= SAID_TEXT_MAX) {
		if (!r->said)
			r->said = xcalloc(SAID_MAX, sizeof(*r->said));
		x = &r->said[st->id % SAID_MAX];
		if (is_of(x, st, c))
			return x;
		before = x->statement;
		x->statement = statement_ref(st);
		statement_unref(before);
		x->env_key = c->env_key;
		x->setting = setting_of(c);
		x->by_set = c->whose->by_set;
		x->ascii_safe = is_ascii_safe(c);
	}
	look_anew(c, slice_of(st->body, st->len), x);
	return x;
}

void whose_forget_said(struct relay *r)
{
	for (unsigned i = 0; r->said && i < SAID_MAX; i++)
		statement_unref(r->said[i].statement);
	free(r->said);
	r->said = NULL;
}

/* Whether anything about the statement may concern us. */
static bool is_of_interest(const struct client *c, const struct statement *st)
{
	return st->is_guarded || c->whose->by_comment || st->kind == SQL_KIND_DISCARD ||
	       st->kind == SQL_KIND_SET_TRANSACTION ||
	       (st->effects & SQL_EFFECT_TRANSACTION_CONTROL);
}

/* ---- when -------------------------------------------------------------------------------------
 */

/* In a pipeline it is not known yet where what is under way leaves the session. */
static bool must_wait(struct client *c)
{
	const struct server *s = c->server;

	c->turn_missed = s && !c->in_batch && s->replies.n > s->carrying;
	return c->turn_missed;
}

/* Nothing of the transaction under way has been sent. */
static bool is_open(const struct client *c)
{
	return is_at_start(c) && !c->begin_failed;
}

static bool may_be_here(struct client *c, struct slice text, const struct local *local,
			const struct sql_facts *facts)
{
	switch (local->what) {
	case LOCAL_CHOICE:
		return is_open(c);
	case LOCAL_BEGIN:
		return is_open(c) && !c->begin && !c->rare->listening && local_may_begin(c, facts);
	case LOCAL_MODES:
		return is_open(c) && local_may_set_modes(c, text);
	case LOCAL_END:
		return (is_at_start(c) && c->begin) ||
		       (facts->kind == SQL_KIND_COMMIT && early_is_possible(c));
	default:
		return false;
	}
}

static enum whose_way refuse_late(struct err *e)
{
	err_set(e, "25001",
		"the tenant cannot be changed in a transaction that has run a statement");
	err_hint(e, "Set it first in the transaction, or outside of one.");
	return WHOSE_REFUSED;
}

static bool is_failed(const struct client *c)
{
	return c->begin_failed || (c->server && c->server->tx == 'E');
}

static enum whose_way refuse_failed(struct err *e)
{
	err_set(e, "25P02",
		"current transaction is aborted, commands ignored until end of transaction block");
	return WHOSE_REFUSED;
}

/* value.p NULL: back to what the session began with. */
static enum whose_way say_again(const struct client *c, struct slice value, bool is_local,
				struct err *e)
{
	const struct whose *w = c->whose;
	bool is_same = value.p
			   ? c->tenant && slice_is_equal(value, slice_str(c->tenant->business_id))
			   : c->tenant == w->base;

	if (is_failed(c))
		return refuse_failed(e);
	if (!is_same || (!is_local && w->pending != c->tenant))
		return refuse_late(e);
	return WHOSE_PASSES;
}

/* ---- choices ------------------------------------------------------------------------------------
 */

static struct slice chosen_value(const struct sql_choice *choice)
{
	return choice->form == CHOICE_LITERAL ? slice_str(choice->value) : slice_of(NULL, 0);
}

static bool choose(struct client *c, const struct sql_choice *choice, struct err *e)
{
	struct slice value = chosen_value(choice);
	struct tenant *tenant = value.p ? whose_find(c, value, e) : tenant_ref(c->whose->base);
	bool ok = (tenant || !value.p) && whose_become(c, tenant, choice->is_local, e);

	tenant_unref(tenant);
	return ok;
}

/* What ends with a transaction has no effect outside of one. */
static bool run_choice(struct client *c, const struct sql_choice *choice, struct err *e)
{
	bool in_block = c->begin != NULL;
	struct err notice;

	if (choice->verb == CHOICE_SET && choice->is_local && !in_block) {
		err_set(&notice, "25P01", "SET LOCAL can only be used in transaction blocks");
		msg_put_notice(conn_output(&c->conn), "WARNING", &notice);
	}
	if (choice->is_local && !in_block && !c->whose->in_batch)
		return true;
	return choose(c, choice, e);
}

static void put_description(struct client *c, const struct sql_choice *choice, uint16_t format)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_ROW_DESCRIPTION);

	buf_put_u16(out, 1);
	buf_put_cstr(out, choice->column);
	buf_put_u32(out, 0); /* of no table */
	buf_put_u16(out, 0);
	buf_put_u32(out, OID_TEXT);
	buf_put_u16(out, UINT16_MAX); /* of any length */
	buf_put_u32(out, UINT32_MAX); /* without a modifier */
	buf_put_u16(out, format);
	msg_end(out, m);
}

/* What set_config() gives back: the value that it has set. */
static void put_result(struct client *c, const struct sql_choice *choice)
{
	const struct tenant *base = c->whose->base;
	struct slice value = chosen_value(choice);
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_DATA_ROW);

	if (!value.p)
		value = slice_str(base ? base->business_id : "");
	buf_put_u16(out, 1);
	buf_put_u32(out, (uint32_t)value.n);
	buf_put_slice(out, value);
	msg_end(out, m);
}

static const char *tag_of(const struct sql_choice *choice)
{
	if (choice->verb == CHOICE_CALL)
		return "SELECT 1";
	return choice->verb == CHOICE_RESET ? "RESET" : "SET";
}

/* ---- texts that take the tenant back with other settings --------------------------------------
 */

static bool forbid(struct client *c, struct err *e, const char *why)
{
	guard_count_refused(c);
	err_set(e, "42501", "permission denied: %s", why);
	return err_hint(e, "Set \"%s\" by a statement of its own, SET or SELECT set_config().",
			c->group->set.tenant_setting);
}

static bool goes_back(const struct sql_facts *facts)
{
	for (unsigned i = 0; i < facts->nchanges; i++)
		if (facts->changes[i].what == CHANGE_TENANT &&
		    facts->changes[i].form == VALUE_DEFAULT)
			return true;
	return facts->effects & SQL_EFFECT_DISCARD_ALL;
}

/* RESET ALL, DISCARD ALL, or a RESET among other statements, which a server runs. */
static enum whose_way go_back(struct client *c, struct err *e)
{
	struct tenant *base = c->whose->base;
	bool ok;

	if (!is_open(c) && is_in_transaction(c))
		return say_again(c, slice_of(NULL, 0), false, e);
	if (is_open(c) && (c->begin || c->whose->in_batch))
		ok = whose_become(c, base, false, e);
	else
		ok = whose_become_later(c, base, e);
	/* Behind it in its batch nobody would know whose a statement is. */
	c->whose->has_end = c->in_batch;
	return ok ? WHOSE_PASSES : WHOSE_REFUSED;
}

/* What is guarded is judged by the tenant of the moment, and EXECUTE may come at another's. */
static bool prepares_guarded(const struct sql_facts *facts)
{
	return (facts->effects & SQL_EFFECT_PREPARE) && facts->nchanges;
}

static enum whose_way refuse_prepare(struct client *c, struct err *e)
{
	forbid(c, e, "a prepared statement would set what the tenant decides when it is executed");
	return WHOSE_REFUSED;
}

/* A text that sets the tenant and is none of the forms that are answered here. */
static enum whose_way judge_other(struct client *c, const struct sql_facts *facts, struct err *e)
{
	return goes_back(facts) ? go_back(c, e) : WHOSE_PASSES;
}

/* ---- transactions -------------------------------------------------------------------------------
 */

/* What is behind the end of a transaction in the same text would run as another tenant than it
 * should. */
static enum whose_way judge_control(const struct client *c, const struct sql_facts *facts,
				    struct err *e)
{
	bool ends = facts->kind == SQL_KIND_COMMIT || facts->kind == SQL_KIND_ROLLBACK;

	if (!(facts->effects & SQL_EFFECT_TRANSACTION_CONTROL) || !whose_is_pending(c) ||
	    (facts->statements == 1 && !(ends && !facts->is_exact)))
		return WHOSE_PASSES;
	err_set(e, "0A000",
		"a transaction that has set the tenant has to be ended by a COMMIT or "
		"ROLLBACK of its own, without AND CHAIN");
	return WHOSE_REFUSED;
}

/* ---- comments -----------------------------------------------------------------------------------
 */

static enum whose_way take_comment(struct client *c, struct slice text, struct err *e)
{
	struct slice key = slice_str(c->group->set.tenant_comment_key);
	struct sql_env env = gate_env(c);
	char id[SQL_ID_MAX + 1];
	struct tenant *tenant;
	bool ok;

	switch (sql_comment_id(text, &env, key, id)) {
	case SQL_COMMENT_NONE:
		return WHOSE_PASSES;
	case SQL_COMMENT_WRONG:
		forbid(c, e, "the tenant's id in a comment cannot be read, or stands there twice");
		return WHOSE_REFUSED;
	case SQL_COMMENT_ID:
		break;
	}
	if (must_wait(c))
		return WHOSE_WAITS;
	if (!is_open(c))
		return say_again(c, slice_str(id), true, e);
	if (whose_must_seek(c, slice_str(id)))
		return WHOSE_WAITS;
	tenant = whose_find(c, slice_str(id), e);
	ok = tenant && whose_become(c, tenant, true, e);
	tenant_unref(tenant);
	return ok ? WHOSE_PASSES : WHOSE_REFUSED;
}

static enum whose_way judge_text(struct client *c, struct slice text, const struct sql_facts *facts,
				 struct err *e)
{
	enum whose_way way = WHOSE_PASSES;

	if (c->whose->by_comment && !c->begin_failed)
		way = take_comment(c, text, e);
	return way == WHOSE_PASSES ? judge_control(c, facts, e) : way;
}

/* ---- simple queries -----------------------------------------------------------------------------
 */

static enum whose_way answer_query(struct client *c, struct slice text,
				   const struct sql_choice *choice, struct err *e)
{
	if (!lane_hear(c, text, e))
		return WHOSE_REFUSED;
	if (whose_must_seek(c, chosen_value(choice)))
		return WHOSE_WAITS;
	if (!run_choice(c, choice, e))
		return WHOSE_REFUSED;
	if (choice->verb == CHOICE_CALL) {
		put_description(c, choice, 0);
		put_result(c, choice);
	}
	c->group->counters.tenant_set_count++;
	local_answer(c, tag_of(choice));
	return WHOSE_ANSWERED;
}

/* Commands that touch no rows. */
static bool is_apart(const struct sql_facts *facts)
{
	return facts->statements == 1 &&
	       (facts->kind == SQL_KIND_RESET || facts->kind == SQL_KIND_DISCARD ||
		facts->kind == SQL_KIND_COMMIT || facts->kind == SQL_KIND_ROLLBACK);
}

enum whose_way whose_query(struct client *c, struct slice text, const struct sql_facts *facts,
			   struct err *e)
{
	enum whose_way way = WHOSE_PASSES;
	struct local local;

	c->whose->is_apart = is_apart(facts);
	if (prepares_guarded(facts))
		return refuse_prepare(c, e);
	/* Behind a BEGIN that the server has it would be too late to choose. */
	if (facts->kind == SQL_KIND_BEGIN && must_wait(c))
		return WHOSE_WAITS;
	if (sets_tenant(facts)) {
		if (must_wait(c))
			return WHOSE_WAITS;
		local = read_local(c, text, facts, SLICE("\0\0"));
		if (local.what != LOCAL_CHOICE || local.choice.nparams)
			way = judge_other(c, facts, e);
		else if (is_open(c))
			return answer_query(c, text, &local.choice, e);
		else
			way = say_again(c, chosen_value(&local.choice), local.choice.is_local, e);
	}
	return way == WHOSE_PASSES ? judge_text(c, text, facts, e) : way;
}

/* ---- portals ------------------------------------------------------------------------------------
 */

static struct portal_here *find_portal(const struct client *c, struct slice name)
{
	LIST_FOREACH (at, &c->whose->portals) {
		struct portal_here *p = container_of(at, struct portal_here, link);

		if (slice_is_equal(slice_str(p->name), name))
			return p;
	}
	return NULL;
}

static void portal_free(struct portal_here *p)
{
	list_del(&p->link);
	statement_unref(p->statement);
	free(p);
}

static void drop_portal(struct client *c, struct slice name)
{
	struct portal_here *p = find_portal(c, name);

	if (p)
		portal_free(p);
}

void whose_close_portals(struct client *c)
{
	LIST_FOREACH_SAFE (at, &c->whose->portals)
		portal_free(container_of(at, struct portal_here, link));
}

/* ---- the extended protocol ----------------------------------------------------------------------
 */

enum whose_way whose_parse(struct client *c, struct slice name, struct slice body,
			   struct statement *known, struct err *e)
{
	struct slice text = slice_str(body.p);
	enum whose_way way = WHOSE_PASSES;
	const struct local *local;
	const struct said *said;
	struct said room;

	c->whose->is_apart = false;
	if (known && !is_of_interest(c, known))
		return WHOSE_PASSES;
	said = &room;
	if (known)
		said = look_at(c, known, &room);
	else
		look_anew(c, body, &room);
	if (prepares_guarded(&said->facts))
		return refuse_prepare(c, e);
	local = &said->local;
	if (local->what != LOCAL_NONE && must_wait(c))
		return WHOSE_WAITS;
	if (may_be_here(c, text, local, &said->facts) &&
	    statement_parse_unasked(c, name, body, known)) {
		c->whose->in_batch = true;
		return WHOSE_ANSWERED;
	}
	if (local->what == LOCAL_CHOICE && local->choice.form != CHOICE_PARAM)
		way = say_again(c, chosen_value(&local->choice),
				local->choice.is_local || local->choice.local_param, e);
	if (way == WHOSE_PASSES && c->whose->by_comment && !is_failed(c))
		way = take_comment(c, text, e);
	return way;
}

/* Values and formats of a Bind; false: the server has the say about it. */
static bool take_bind(struct local *local, struct slice after_names, uint16_t *format)
{
	struct sql_choice *choice = &local->choice;
	struct reader r = reader_of(after_names);
	uint16_t formats[SQL_CHOICE_PARAMS] = { 0 };
	unsigned nformats = read_u16(&r), n;

	if (nformats > 1 && nformats != choice->nparams)
		return false;
	for (unsigned i = 0; i < nformats; i++)
		formats[i] = read_u16(&r);
	if (nformats == 1)
		formats[1] = formats[0];
	n = read_u16(&r);
	if (n != choice->nparams)
		return false;
	for (unsigned i = 0; i < n; i++) {
		uint32_t len = read_u32(&r);
		bool is_null = len == UINT32_MAX;
		struct slice value = is_null ? slice_of(NULL, 0) : read_bytes(&r, len);

		if (choice->value_param == i + 1) {
			if (value.n > SQL_ID_MAX || (value.n && memchr(value.p, '\0', value.n)))
				return false;
			choice->form = is_null ? CHOICE_DEFAULT : CHOICE_LITERAL;
			if (value.n)
				memcpy(choice->value, value.p, value.n);
			choice->value[value.n] = '\0';
		} else if (is_null) {
			choice->is_local = false;
		} else if (formats[i] == 1) {
			if (value.n != 1)
				return false;
			choice->is_local = *value.p != 0;
		} else if (!sql_bool_parse(value, &choice->is_local)) {
			return false;
		}
	}
	nformats = read_u16(&r);
	*format = 0;
	if (local->what == LOCAL_CHOICE && choice->verb == CHOICE_CALL && nformats > 1)
		return false;
	for (unsigned i = 0; i < nformats; i++)
		*format = read_u16(&r);
	return read_is_complete(&r) && *format <= 1;
}

static enum whose_way bind_here(struct client *c, struct slice portal, const struct local *local,
				struct statement *st, uint16_t format)
{
	struct portal_here *p = xcalloc(1, sizeof(*p) + portal.n + 1);

	p->local = *local;
	p->statement = statement_ref(st);
	p->format = format;
	memcpy(p->name, portal.p, portal.n);
	list_push_back(&c->whose->portals, &p->link);
	c->whose->in_batch = true;
	msg_put_empty(conn_output(&c->conn), MSG_BIND_COMPLETE);
	return WHOSE_ANSWERED;
}

/* One that was let pass when another tenant's it was. */
static enum whose_way guard_again(struct client *c, const struct statement *st,
				  const struct sql_facts *facts, struct err *e)
{
	struct buf rewritten = { 0 };
	enum verdict verdict = guard_text(c, statement_text(st), facts, &rewritten, e);
	bool is_lowered = buf_len(&rewritten) > 0;

	buf_fini(&rewritten);
	if (verdict != VERDICT_REFUSED && is_lowered)
		forbid(c, e, "statement_timeout is beyond the limit of the tenant by now");
	return verdict == VERDICT_REFUSED || is_lowered ? WHOSE_REFUSED : WHOSE_PASSES;
}

/* A choice that a server is to run, since it runs other things already. */
static enum whose_way bind_there(struct client *c, const struct statement *st,
				 const struct local *local, const struct sql_facts *facts,
				 struct err *e)
{
	struct whose *w = c->whose;
	enum whose_way way = WHOSE_PASSES;

	if (local->what == LOCAL_CHOICE && local->choice.form != CHOICE_PARAM)
		way = say_again(c, chosen_value(&local->choice), local->choice.is_local, e);
	else if (sets_tenant(facts))
		way = judge_other(c, facts, e);
	if (way == WHOSE_PASSES)
		way = judge_text(c, statement_text(st), facts, e);
	if (way == WHOSE_PASSES && st->is_guarded)
		way = guard_again(c, st, facts, e);
	w->has_end |= (facts->effects & SQL_EFFECT_TRANSACTION_CONTROL) &&
		      facts->kind != SQL_KIND_SAVEPOINT && facts->kind != SQL_KIND_RELEASE &&
		      facts->kind != SQL_KIND_ROLLBACK_TO && whose_is_pending(c);
	return way;
}

bool whose_may_follow(const struct client *c, struct err *e)
{
	return !c->whose->has_end ||
	       err_set(e, "0A000", "what takes the tenant back has to be the last of its batch");
}

enum whose_way whose_bind(struct client *c, struct slice portal, struct slice name,
			  struct slice after_names, struct err *e)
{
	struct statement *st = statement_find(c, name);
	const struct said *said;
	struct said room;
	struct local local;
	uint16_t format;
	bool is_whole;

	drop_portal(c, portal);
	if (c->in_batch && !whose_may_follow(c, e))
		return WHOSE_REFUSED;
	if (!st || !is_of_interest(c, st))
		return WHOSE_PASSES;
	said = look_at(c, st, &room);
	local = said->local;
	if (local.what != LOCAL_NONE && must_wait(c))
		return WHOSE_WAITS;
	is_whole = local.what != LOCAL_NONE && take_bind(&local, after_names, &format);
	if (is_whole && may_be_here(c, statement_text(st), &local, &said->facts))
		return bind_here(c, portal, &local, st, format);
	return bind_there(c, st, &local, &said->facts, e);
}

/* ---- describing and running ---------------------------------------------------------------------
 */

static void describe_result(struct client *c, const struct local *local, uint16_t format)
{
	if (local->what == LOCAL_CHOICE && local->choice.verb == CHOICE_CALL)
		put_description(c, &local->choice, format);
	else
		msg_put_empty(conn_output(&c->conn), MSG_NO_DATA);
}

static enum whose_way describe_statement(struct client *c, struct slice name)
{
	struct statement *st = statement_find(c, name);
	struct buf *out = conn_output(&c->conn);
	const struct said *said;
	struct said room;
	const struct local *local;
	size_t m;

	if (!st || !is_of_interest(c, st))
		return WHOSE_PASSES;
	said = look_at(c, st, &room);
	local = &said->local;
	if (!may_be_here(c, statement_text(st), local, &said->facts))
		return WHOSE_PASSES;
	m = msg_begin(out, MSG_PARAMETER_DESCRIPTION);
	buf_put_u16(out, (uint16_t)local->choice.nparams);
	for (unsigned i = 0; i < local->choice.nparams; i++)
		buf_put_u32(out, local->types[i]);
	msg_end(out, m);
	describe_result(c, local, 0);
	c->whose->in_batch = true;
	return WHOSE_ANSWERED;
}

enum whose_way whose_describe(struct client *c, uint8_t what, struct slice name)
{
	const struct portal_here *p = what == 'P' ? find_portal(c, name) : NULL;

	if (what == 'S')
		return describe_statement(c, name);
	if (!p || !(is_at_start(c) || early_is_possible(c)))
		return WHOSE_PASSES;
	describe_result(c, &p->local, p->format);
	return WHOSE_ANSWERED;
}

static const char *run_control(struct client *c, const struct portal_here *p)
{
	struct slice text = statement_text(p->statement);
	struct sql_facts facts;

	statement_facts(p->statement, &facts);
	if (p->local.what == LOCAL_END && c->begin)
		return local_end(c, facts.kind);
	if (p->local.what == LOCAL_END) {
		c->group->counters.xact_count++;
		return early_commit(c);
	}
	if (p->local.what == LOCAL_BEGIN)
		return local_begin(c, text, &facts);
	local_set_modes(c, text);
	return "SET";
}

static enum whose_way execute_here(struct client *c, struct portal_here *p, uint32_t max_rows,
				   struct err *e)
{
	const struct sql_choice *choice = &p->local.choice;
	struct buf *out = conn_output(&c->conn);
	const char *tag;

	/* A BEGIN, or what is chosen first in its transaction, may say where that goes. */
	if (p->local.what != LOCAL_END && !lane_hear(c, statement_text(p->statement), e))
		return WHOSE_REFUSED;
	if (p->local.what != LOCAL_CHOICE) {
		p->is_done = true;
		tag = run_control(c, p);
		c->group->counters.query_count++;
		msg_put_command_complete(out, tag);
		return WHOSE_ANSWERED;
	}
	if (whose_must_seek(c, chosen_value(choice)))
		return WHOSE_WAITS;
	if (!run_choice(c, choice, e))
		return WHOSE_REFUSED;
	p->is_done = true;
	if (choice->verb == CHOICE_CALL)
		put_result(c, choice);
	if (choice->verb == CHOICE_CALL && max_rows == 1)
		msg_put_empty(out, MSG_PORTAL_SUSPENDED);
	else
		msg_put_command_complete(out, tag_of(choice));
	c->group->counters.query_count++;
	c->group->counters.tenant_set_count++;
	return WHOSE_ANSWERED;
}

enum whose_way whose_execute(struct client *c, struct slice portal, uint32_t max_rows,
			     struct err *e)
{
	struct portal_here *p = find_portal(c, portal);
	struct sql_facts facts;

	if (!p)
		return WHOSE_PASSES;
	statement_facts(p->statement, &facts);
	if (!p->is_done && may_be_here(c, statement_text(p->statement), &p->local, &facts))
		return execute_here(c, p, max_rows, e);
	if (p->is_done && p->local.what == LOCAL_CHOICE && p->local.choice.verb == CHOICE_CALL) {
		msg_put_command_complete(conn_output(&c->conn), "SELECT 0");
		return WHOSE_ANSWERED;
	}
	if (!p->is_done)
		return refuse_late(e);
	err_set(e, "55000", "portal \"%s\" cannot be run", p->name);
	return WHOSE_REFUSED;
}

enum whose_way whose_close(struct client *c, uint8_t what, struct slice name)
{
	bool is_here =
	    what == 'P' && (is_at_start(c) || early_is_possible(c)) && find_portal(c, name);

	if (c->server && !is_here)
		return WHOSE_PASSES;
	if (what == 'P')
		drop_portal(c, name);
	else
		statement_forget(c, name);
	c->whose->in_batch = true;
	msg_put_empty(conn_output(&c->conn), MSG_CLOSE_COMPLETE);
	return WHOSE_ANSWERED;
}

void whose_sync(struct client *c, bool failed)
{
	c->whose->in_batch = false;
	if (!c->begin)
		whose_end(c, !failed);
}
