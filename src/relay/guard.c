/* SPDX-License-Identifier: ISC
 *
 * guard.c - what fixes the tenant's id, its ceilings and how its texts are read stays as it is.
 *
 * Judges by the facts that sql/ reads off a text and by what a Bind gives its parameters; lowers
 * timeouts, and refuses what it cannot decide (I1).  Does not know where a text goes, nor who may
 * choose a tenant (choose.c).
 */
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/statement.h"
#include "sql/stream_guard.h"
#include "sql/timeout.h"
#include "wire/read.h"
#include "wire/write.h"

#include <ctype.h>
#include <stdio.h>

void guard_count_refused(struct client *c)
{
	c->group->counters.refused_count++;
	tenant_count(c->tenant, TENANT_REFUSED, 1);
}

static bool forbid(struct client *c, struct err *e, const char *why)
{
	guard_count_refused(c);
	err_set(e, "42501", "permission denied: %s", why);
	return err_hint(e, "The tenant of this connection is fixed (\"%s\").",
			c->group->set.tenant_setting);
}

void guard_note_clamp(struct client *c)
{
	const struct lane *lane = c->server ? c->server->pool->lane : lane_of(c);
	bool is_lane = lane && lane->timeout;
	struct err notice;

	c->group->counters.clamped_count++;
	tenant_count(c->tenant, TENANT_CLAMPED, 1);
	err_set(&notice, "01000", "statement_timeout lowered to %lld ms, the limit of %s \"%s\"",
		(long long)(lane_timeout_cap(c) / USEC_PER_MSEC), is_lane ? "lane" : "tenant",
		is_lane ? lane->name : tenant_name(c->tenant));
	msg_put_notice(conn_output(&c->conn), "NOTICE", &notice);
}

/* Whether a client's own timeout has to be lowered; values that the server refuses are left to it.
 */
static bool exceeds_cap(const struct client *c, struct slice value)
{
	usec_t cap = lane_timeout_cap(c);
	int64_t ms;

	return cap && sql_timeout_parse(value, &ms) && ms >= 0 &&
	       (ms == 0 || ms * USEC_PER_MSEC > cap);
}

/* text with the value of change replaced; in *out, which may hold an earlier replacement behind it.
 * A number stays one, because it may stand in the quotes of DO. */
static void replace_value(const struct client *c, struct slice text,
			  const struct sql_change *change, struct buf *out)
{
	struct slice from = buf_len(out) ? buf_peek(out) : text;
	const char *quote = isdigit((unsigned char)text.p[change->at]) ? "" : "'";
	struct buf next = { 0 };

	buf_put(&next, from.p, change->at);
	buf_printf(&next, "%s%lld%s", quote, (long long)(lane_timeout_cap(c) / USEC_PER_MSEC),
		   quote);
	buf_put(&next, from.p + change->at + change->len, from.n - change->at - change->len);
	buf_fini(out);
	*out = next;
}

/* What a Bind gives the parameters is seen only where statements are followed. */
static bool guard_param(struct client *c, struct err *e)
{
	return statement_is_mapped(c) ||
	       forbid(c, e, "a parameter cannot be checked with max_prepared_statements = 0");
}

/* Whether this is the id of the session's tenant. */
static bool is_id(const struct client *c, struct slice id)
{
	return c->tenant && slice_is_equal(id, slice_str(c->tenant->business_id));
}

static bool guard_tenant(struct client *c, const struct sql_change *change, struct err *e)
{
	if (change->scope == SCOPE_CATALOG)
		return forbid(
		    c, e, "the tenant's setting may not be given to a role, database or function");
	switch (change->form) {
	case VALUE_DEFAULT:
		return true; /* the server connection's own startup value: this tenant's */
	case VALUE_LITERAL:
		if (change->value_fits && is_id(c, slice_str(change->value)))
			return true;
		return forbid(c, e, "a session may not change its tenant");
	case VALUE_PARAM:
		return guard_param(c, e);
	default:
		return forbid(c, e, "the tenant's setting is given a value that cannot be checked");
	}
}

static bool guard_timeout(struct client *c, struct slice text, const struct sql_change *change,
			  struct buf *rewritten, struct err *e)
{
	if (!lane_timeout_cap(c))
		return true;
	/* Later connections would start from it, until it is seen that they need the ceiling. */
	if (change->scope == SCOPE_CATALOG)
		return (change->form == VALUE_LITERAL && change->value_fits &&
			!exceeds_cap(c, slice_str(change->value))) ||
		       forbid(c, e, "statement_timeout is stored beyond the limit of the tenant");
	if (change->form == VALUE_UNKNOWN)
		return forbid(c, e, "statement_timeout is given a value that cannot be checked");
	if (change->form == VALUE_PARAM)
		return guard_param(c, e);
	if (change->form != VALUE_LITERAL)
		return true; /* the default is within the ceiling */
	if (!change->value_fits)
		return forbid(c, e, "statement_timeout is given a value that is too long");
	if (exceeds_cap(c, slice_str(change->value)))
		replace_value(c, text, change, rewritten);
	return true;
}

/* A client_encoding under any of the names that the server takes for one: signs and case do not
 * count.  Known by how those begin that keep ASCII bytes to themselves. */
static bool is_harmless_encoding(const char *name)
{
	static const char *const harmless[] = { "utf8",      "unicode", "sqlascii",
						"latin",     "iso8859", "win12",
						"windows12", "koi8",    "euc" };
	char plain[32] = "";
	size_t n = 0;

	for (; *name && n < sizeof(plain) - 1; name++)
		if (isalnum((unsigned char)*name))
			plain[n++] = (char)tolower((unsigned char)*name);
	for (size_t i = 0; i < PGT_NELEMS(harmless); i++)
		if (slice_starts_with(slice_of(plain, n), slice_str(harmless[i])))
			return true;
	return false;
}

/* What a session that began with "off" has sent and prepared was read so; the server would read it
 * anew. */
static const char strings_stay_off[] =
    "standard_conforming_strings must stay what the session began with";

/* What comes behind would run without the tenant's id and ceiling, which are set again between
 * requests. */
static const char resets_come_last[] =
    "what resets the tenant's setting or its timeout must be the last statement of a request";

static bool guard_lexing(struct client *c, const struct sql_change *change, struct err *e)
{
	bool is_literal = change->form == VALUE_LITERAL && change->value_fits;

	if (change->what == CHANGE_STANDARD_STRINGS && !c->env_standard_strings)
		return forbid(c, e, strings_stay_off);
	if (change->form == VALUE_DEFAULT)
		return true;
	if (change->what == CHANGE_CLIENT_ENCODING)
		return (is_literal && is_harmless_encoding(change->value)) ||
		       forbid(c, e, "this client_encoding hides parts of a statement from us");
	if (is_literal && (!strcasecmp(change->value, "on") || !strcasecmp(change->value, "true") ||
			   !strcmp(change->value, "1") || !strcasecmp(change->value, "yes")))
		return true;
	return forbid(c, e, "standard_conforming_strings must stay on");
}

static bool guard_change(struct client *c, struct slice text, const struct sql_change *change,
			 struct buf *rewritten, struct err *e)
{
	switch (change->what) {
	case CHANGE_TENANT:
		return guard_tenant(c, change, e);
	case CHANGE_STATEMENT_TIMEOUT:
		return guard_timeout(c, text, change, rewritten, e);
	case CHANGE_BY_PARAM:
		return guard_param(c, e);
	default:
		return guard_lexing(c, change, e);
	}
}

/* A text that we cannot read may pass if it does not even spell what is guarded. */
static bool guard_unclean(struct client *c, struct slice text, struct err *e)
{
	struct sql_stream_guard guard;

	sql_stream_guard_init(&guard, c->group->set.tenant_setting);
	if (!sql_stream_guard_feed(&guard, text) && !sql_spells(text, SLICE("statement_timeout")))
		return true;
	return forbid(c, e, "the statement cannot be read safely and spells a guarded setting");
}

enum verdict guard_text(struct client *c, struct slice text, const struct sql_facts *facts,
			struct buf *rewritten, struct err *e)
{
	if (!c->group->has_tenants)
		return VERDICT_PASS;
	if ((facts->flags & SQL_UNCLEAN) && !guard_unclean(c, text, e))
		return VERDICT_REFUSED;
	if (facts->flags & SQL_SETCONFIG_DYNAMIC) {
		forbid(c, e, "set_config() with a name that cannot be checked");
		return VERDICT_REFUSED;
	}
	if ((facts->flags & (SQL_UPDATES_PG_SETTINGS | SQL_GUARD_UNDECIDED)) ||
	    facts->too_many_changes) {
		forbid(c, e, "the tenant's setting stands in a place that cannot be checked");
		return VERDICT_REFUSED;
	}
	if ((facts->effects & SQL_EFFECT_DISCARD_ALL) && !c->env_standard_strings) {
		forbid(c, e, strings_stay_off);
		return VERDICT_REFUSED;
	}
	if (facts->resets_early && c->group->is_shared) {
		forbid(c, e, resets_come_last);
		return VERDICT_REFUSED;
	}
	/* From the end, so that the places of the changes before stay right. */
	for (unsigned i = facts->nchanges; i-- > 0;)
		if (!guard_change(c, text, &facts->changes[i], rewritten, e))
			return VERDICT_REFUSED;
	return VERDICT_PASS;
}

/* The i-th (from 1) parameter of a Bind message after its names; *value.p NULL: SQL NULL.  False:
 * there is no such parameter. */
static bool bind_param(struct slice after_names, int i, struct slice *value)
{
	struct reader r = reader_of(after_names);
	unsigned n;

	for (unsigned formats = read_u16(&r); formats; formats--)
		read_u16(&r);
	n = read_u16(&r);
	if (i < 1 || (unsigned)i > n)
		return false;
	for (; i > 0; i--) {
		uint32_t len = read_u32(&r);

		*value = len == UINT32_MAX ? slice_of(NULL, 0) : read_bytes(&r, len);
	}
	return !r.failed;
}

/* The timeout's parameter replaced by the ceiling, as text: set_config() takes text, whose binary
 * form is the same bytes. */
static void replace_param(const struct client *c, struct slice after_names, struct slice value,
			  struct buf *rewritten)
{
	size_t at = (size_t)(value.p - after_names.p);
	char text[32];
	int n =
	    snprintf(text, sizeof(text), "%lld", (long long)(lane_timeout_cap(c) / USEC_PER_MSEC));

	buf_put(rewritten, after_names.p, at - 4);
	buf_put_u32(rewritten, (uint32_t)n);
	buf_put(rewritten, text, (size_t)n);
	buf_put(rewritten, value.p + value.n, after_names.n - at - value.n);
}

/* Types whose values the server prints as they were bound. */
static bool is_text_type(uint32_t oid)
{
	return oid == 25 || oid == 1043 || oid == 705; /* text, varchar, unknown */
}

static unsigned count_param(const struct statement *st, const struct lex_env *env, unsigned param)
{
	struct lex_token t;
	struct lex lex;
	unsigned n = 0;

	lex_init(&lex, statement_text(st), env);
	while (lex_next(&lex, &t))
		n += t.kind == LEX_PARAM && lex_param_number(&t) == param;
	return n;
}

/* Whether set_config() sees the bytes that are bound.  It takes text only, but a cast prints the
 * value of any type ('042'::int::text is 42), and the type may come from another place in the
 * statement. */
static bool is_bound_as_text(const struct statement *st, const struct sql_env *env, int param)
{
	struct slice types = slice_of(st->body + st->text_len + 1, st->len - st->text_len - 1);
	struct reader r = reader_of(types);
	unsigned n = read_u16(&r);
	uint32_t type = 0;

	for (unsigned i = 0; i < n && i < (unsigned)param; i++)
		type = read_u32(&r);
	if ((unsigned)param <= n && type)
		return is_text_type(type);
	return count_param(st, &(struct lex_env){ env->standard_strings, env->ascii_safe },
			   (unsigned)param) == 1;
}

static bool is_own_id(const struct client *c, struct slice after_names,
		      const struct sql_change *change)
{
	struct slice value;

	if (change->form == VALUE_LITERAL)
		return change->value_fits && is_id(c, slice_str(change->value));
	return change->form == VALUE_PARAM && bind_param(after_names, change->param, &value) &&
	       value.p && is_id(c, value);
}

static bool guard_bound_name(struct client *c, struct slice after_names,
			     const struct sql_change *change, struct err *e)
{
	static const char *const guarded[] = { "statement_timeout", "standard_conforming_strings",
					       "client_encoding" };
	struct slice name;

	if (!bind_param(after_names, change->name_param, &name) || !name.p)
		return true; /* the server refuses it */
	if (slice_is_equal_nocase(name, slice_str(c->group->set.tenant_setting)))
		return is_own_id(c, after_names, change) ||
		       forbid(c, e, "a session may not change its tenant");
	for (size_t i = 0; i < PGT_NELEMS(guarded); i++)
		if (slice_is_equal_nocase(name, slice_str(guarded[i])))
			return forbid(c, e, "a guarded setting is named by a parameter");
	return true;
}

static bool guard_bound_value(struct client *c, struct slice after_names,
			      const struct sql_change *change, struct buf *rewritten, struct err *e)
{
	struct slice value;

	if (!bind_param(after_names, change->param, &value))
		return true;
	c->resets |= !value.p && c->group->is_shared;
	if (change->what == CHANGE_TENANT)
		return !value.p || is_id(c, value) ||
		       forbid(c, e, "a session may not change its tenant");
	if (change->what != CHANGE_STATEMENT_TIMEOUT)
		return forbid(c, e, "a guarded setting is given a parameter");
	if (value.p && exceeds_cap(c, value)) {
		if (buf_len(rewritten))
			return forbid(c, e, "statement_timeout is set twice by parameters");
		replace_param(c, after_names, value, rewritten);
	}
	return true;
}

static bool guard_bound(struct client *c, const struct statement *st, struct slice after_names,
			const struct sql_change *change, struct buf *rewritten, struct err *e)
{
	struct sql_env env = gate_env(c);
	bool by_param = change->what == CHANGE_BY_PARAM;

	if (!by_param && change->form != VALUE_PARAM)
		return true;
	if ((by_param && !is_bound_as_text(st, &env, change->name_param)) ||
	    (change->form == VALUE_PARAM && !is_bound_as_text(st, &env, change->param)))
		return forbid(c, e, "the parameter of set_config() is not plain text");
	return by_param ? guard_bound_name(c, after_names, change, e)
			: guard_bound_value(c, after_names, change, rewritten, e);
}

enum verdict guard_bind(struct client *c, const struct statement *st, struct slice after_names,
			struct buf *rewritten, struct err *e)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	if (!c->group->has_tenants)
		return VERDICT_PASS;
	sql_scan(statement_text(st), &env, &facts);
	for (unsigned i = 0; i < facts.nchanges; i++)
		if (!guard_bound(c, st, after_names, &facts.changes[i], rewritten, e))
			return VERDICT_REFUSED;
	return VERDICT_PASS;
}

bool guard_allow_behind_reset(struct client *c, struct err *e)
{
	return !c->group->is_shared || forbid(c, e, resets_come_last);
}

enum verdict guard_call(struct client *c, uint32_t oid, struct err *e)
{
	if (!c->group->has_tenants || pins_is_harmless_call(oid))
		return VERDICT_PASS;
	forbid(c, e, "a function called by its OID could be set_config()");
	return VERDICT_REFUSED;
}
