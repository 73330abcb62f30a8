/* SPDX-License-Identifier: ISC
 *
 * gate.c - what a text may do and where it goes: tenant guard, ceilings, route.
 *
 * Decides by the facts that sql/ reads off a text and by the settings of the client's group.  Sends
 * nothing but notices.  What cannot be decided is refused where a tenant's id is at stake (I1) and
 * goes to the primary where only the route is (I4).
 */
#include "base/mem.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/reason.h"
#include "relay/rescue.h"
#include "relay/statement.h"
#include "route/nodes.h"
#include "sql/classify.h"
#include "sql/leaving.h"
#include "sql/lex.h"
#include "sql/shape.h"
#include "sql/stream_guard.h"
#include "sql/timeout.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

static bool has_tenant(const struct client *c)
{
	return c->group->has_tenants;
}

/* ---- how the server reads the client's texts ---------------------------------------------------
 */

/* Encodings in which bytes below 0x80 occur inside characters. */
static bool is_ascii_safe(struct slice encoding)
{
	static const char *const unsafe[] = { "SJIS", "SHIFT_JIS_2004", "BIG5", "GBK",
					      "UHC",  "GB18030",        "JOHAB" };

	for (size_t i = 0; i < PGT_NELEMS(unsafe); i++)
		if (slice_is_equal_nocase(encoding, slice_str(unsafe[i])))
			return false;
	return true;
}

/* What names of tables and literals mean to the client's session, as far as another's may share it:
 * who has temporary tables, or is changing it, shares it with nobody. */
static uint64_t add_path(const struct client *c, uint64_t key)
{
	for (size_t i = 0; sql_meaning_settings[i]; i++) {
		const char *value = param_set_get(c->wanted, slice_str(sql_meaning_settings[i]));

		if (value)
			key = hash_more(key + i, value, strlen(value) + 1);
	}
	if (c->path_unsure || (c->pins & PIN_BIT(PIN_TEMP))) {
		key = hash_more(key, &c->id, sizeof(c->id));
		key = hash_more(key, &c->rare->path_changes, sizeof(c->rare->path_changes));
	}
	return key;
}

static PGT_NOINLINE void renew_catalog(struct group *group, unsigned version)
{
	sql_catalog_unref(group->catalog);
	sql_leaving_unref(group->leaving);
	group->catalog = node_set_catalog(group->nodes);
	group->leaving = node_set_leaving(group->nodes);
	group->plans_tell =
	    group->nodes->leaving_is_old || sql_leaving_has_suspects(group->leaving);
	if (sql_leaving_is_empty(group->leaving)) {
		sql_leaving_unref(group->leaving);
		group->leaving = NULL;
	}
	group->catalog_version = version;
}

static void follow_catalog(struct group *group)
{
	unsigned version = atomic_load_explicit(&group->nodes->version, memory_order_relaxed);

	if (version != group->catalog_version)
		renew_catalog(group, version);
}

static const struct sql_catalog *catalog_of(struct group *group)
{
	follow_catalog(group);
	return group->catalog;
}

static const struct sql_leaving *leaving_of(struct group *group)
{
	follow_catalog(group);
	return group->leaving;
}

bool gate_plans_tell_anew(struct group *group)
{
	follow_catalog(group);
	return group->plans_tell;
}

/* What is set for the transaction only nobody else has, whatever code has done it. */
static bool may_set_locally(const struct client *c)
{
	return is_in_transaction(c) || c->touched || c->sets_locally;
}

uint64_t gate_plan_key(const struct client *c)
{
	uint64_t key;

	if (!gate_plans_tell(c->group))
		return 0;
	key = c->wanted->link.hash;
	if (c->tenant)
		key = hash_more(key, c->tenant->business_id, strlen(c->tenant->business_id));
	if (may_set_locally(c))
		key = hash_more(key, &c->id, sizeof(c->id));
	return key | 1;
}

static inline uint64_t meaning_of(const struct client *c)
{
	uint64_t ddl = atomic_load_explicit(&c->group->nodes->ddl, memory_order_relaxed);
	const struct sql_leaving *leaving = leaving_of(c->group);

	return (leaving ? sql_leaving_id(leaving) * 2 : 0) + node_set_is_learned(c->group->nodes) +
	       (ddl << 32);
}

uint64_t gate_meaning(struct client *c)
{
	return meaning_of(c);
}

static PGT_NOINLINE void learn_env(struct client *c, uint64_t meaning)
{
	const char *strings =
	    c->told ? param_set_get(c->told, SLICE("standard_conforming_strings")) : NULL;
	const char *encoding = c->told ? param_set_get(c->told, SLICE("client_encoding")) : NULL;

	encoding = encoding ? encoding : "";
	c->env_standard_strings = !strings || strcmp(strings, "off") != 0;
	c->env_ascii_safe = !*encoding || is_ascii_safe(slice_str(encoding));
	c->env_is_utf8 = !strcasecmp(encoding, "UTF8");
	c->env_key = hash_more(meaning, &c->group, sizeof(c->group));
	c->env_key = hash_more(c->env_key + c->env_standard_strings, encoding, strlen(encoding));
	c->env_key = add_path(c, c->env_key);
	c->env_meaning = meaning;
	c->env_known = true;
}

static inline void know_env(struct client *c)
{
	uint64_t meaning = meaning_of(c);

	if (!c->env_known || c->env_meaning != meaning)
		learn_env(c, meaning);
}

void gate_know_env(struct client *c)
{
	know_env(c);
}

static inline bool wants_fingerprint(const struct client *c)
{
	return relay_of(c)->has_insight ||
	       ((!c->server || !c->server->writes) && gate_has_choice(c)) || c->only_reads ||
	       (c->begin && c->group->set.early_commit);
}

bool gate_expects(struct client *c, struct slice text, struct sql_facts *facts)
{
	know_env(c);
	return c->env_ascii_safe && !c->env_unsure &&
	       sql_shapes_expect(relay_of(c)->shapes, &c->last_shape, c->env_key, text,
				 has_tenant(c), wants_fingerprint(c), facts);
}

struct sql_env gate_env(struct client *c)
{
	know_env(c);
	return (struct sql_env){ .leaving = c->group->leaving,
				 .unproven = !node_set_is_learned(c->group->nodes),
				 .standard_strings = c->env_standard_strings,
				 .ascii_safe = c->env_ascii_safe && !c->env_unsure,
				 .tenant_setting =
				     has_tenant(c) ? c->group->set.tenant_setting : NULL,
				 .wants_fingerprint = wants_fingerprint(c) };
}

/* ---- the tenant's id and ceilings --------------------------------------------------------------
 */

void gate_count_refused(struct client *c)
{
	c->group->counters.refused_count++;
	tenant_count(c->tenant, TENANT_REFUSED, 1);
}

static bool forbid(struct client *c, struct err *e, const char *why)
{
	gate_count_refused(c);
	err_set(e, "42501", "permission denied: %s", why);
	return err_hint(e, "The tenant of this connection is fixed (\"%s\").",
			c->group->set.tenant_setting);
}

void gate_note_clamp(struct client *c)
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

enum verdict gate_guard(struct client *c, struct slice text, const struct sql_facts *facts,
			struct buf *rewritten, struct err *e)
{
	if (!has_tenant(c))
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

enum verdict gate_guard_bind(struct client *c, const struct statement *st, struct slice after_names,
			     struct buf *rewritten, struct err *e)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	if (!has_tenant(c))
		return VERDICT_PASS;
	sql_scan(statement_text(st), &env, &facts);
	for (unsigned i = 0; i < facts.nchanges; i++)
		if (!guard_bound(c, st, after_names, &facts.changes[i], rewritten, e))
			return VERDICT_REFUSED;
	return VERDICT_PASS;
}

bool gate_allow_behind_reset(struct client *c, struct err *e)
{
	return !c->group->is_shared || forbid(c, e, resets_come_last);
}

/* Functions that leave nothing behind but large objects: lo_create, lo_open, lo_close, loread,
 * lowrite, lo_lseek, lo_creat, lo_tell, lo_unlink, lo_truncate and those for 64 bits.  Their
 * OIDs were given by hand and have never changed (pg_proc.dat). */
bool gate_is_harmless_call(uint32_t oid)
{
	static const uint32_t known[] = { 715, 952, 953,  954,  955,  956, 957,
					  958, 964, 1004, 3170, 3171, 3172 };

	for (size_t i = 0; i < PGT_NELEMS(known); i++)
		if (oid == known[i])
			return true;
	return false;
}

enum verdict gate_guard_call(struct client *c, uint32_t oid, struct err *e)
{
	if (!has_tenant(c) || gate_is_harmless_call(oid))
		return VERDICT_PASS;
	forbid(c, e, "a function called by its OID could be set_config()");
	return VERDICT_REFUSED;
}

void gate_note_call(struct client *c, uint32_t oid)
{
	if (!gate_is_harmless_call(oid))
		pins_note_unseen(c);
}

/* ---- READONLY -------------------------------------------------------------------------------
 */

bool gate_is_readonly(const struct client *c)
{
	return c->group->readonly || (c->tenant && c->tenant->set.readonly);
}

void gate_begin(struct client *c)
{
	if (!is_at_start(c))
		return;
	c->xact &= XACT_ADMITTED;
	c->unnamed_is_read = false;
	/* What replicates reads. */
	if (!gate_is_readonly(c) || c->group->replication)
		return;
	c->xact |= XACT_READS;
	if (c->begin && c->begin->begin_read_only)
		c->xact |= XACT_READ_ONLY;
}

static bool refuse_write(const struct client *c, struct err *e)
{
	const bool is_wide = c->group->readonly;

	err_set(e, "25006", "%s \"%.100s\" is read-only for now, and this may write",
		is_wide ? "database" : "tenant", is_wide ? c->group->name : c->tenant->name);
	return err_hint(e,
			"READONLY was said on the console, or readonly in the configuration. What "
			"is not a plain read runs in a READ ONLY transaction.");
}

/* They change nothing, or decide about what was let run before. */
static bool is_harmless(enum sql_kind kind)
{
	const uint64_t kinds =
	    1ull << SQL_KIND_EMPTY | 1ull << SQL_KIND_BEGIN | 1ull << SQL_KIND_COMMIT |
	    1ull << SQL_KIND_ROLLBACK | 1ull << SQL_KIND_SAVEPOINT | 1ull << SQL_KIND_RELEASE |
	    1ull << SQL_KIND_ROLLBACK_TO | 1ull << SQL_KIND_SET | 1ull << SQL_KIND_SET_LOCAL |
	    1ull << SQL_KIND_SET_TRANSACTION | 1ull << SQL_KIND_RESET | 1ull << SQL_KIND_SHOW |
	    1ull << SQL_KIND_DISCARD | 1ull << SQL_KIND_PREPARE | 1ull << SQL_KIND_DEALLOCATE |
	    1ull << SQL_KIND_FETCH | 1ull << SQL_KIND_CLOSE | 1ull << SQL_KIND_LISTEN |
	    1ull << SQL_KIND_UNLISTEN;

	return kinds >> kind & 1;
}

/* What may take back that a transaction is READ ONLY, which the server allows before its first
 * query, or end it in the middle of a batch. */
static bool may_change_xact(enum sql_kind kind)
{
	return kind == SQL_KIND_SET || kind == SQL_KIND_SET_LOCAL ||
	       kind == SQL_KIND_SET_TRANSACTION || kind == SQL_KIND_RESET ||
	       kind == SQL_KIND_COMMIT || kind == SQL_KIND_ROLLBACK;
}

/* The route's proof, whatever a hint says of the route. */
bool gate_text_is_proven(struct client *c, struct slice text)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	env.wants_fingerprint = true;
	sql_scan(text, &env, &facts);
	return gate_is_proven(c, text, &facts);
}

bool gate_may_write(struct client *c, struct slice text, const struct sql_facts *facts,
		    struct err *e)
{
	bool is_single = facts->statements <= 1 && !(facts->flags & SQL_UNCLEAN);

	gate_begin(c);
	if (!(c->xact & XACT_READS))
		return true;
	if (is_single && facts->kind == SQL_KIND_BEGIN) {
		c->xact &= (uint8_t)~XACT_READ_ONLY;
		if (facts->begin_read_only && (!c->server || c->server->tx == 'I'))
			c->xact |= XACT_READ_ONLY;
	} else if (may_change_xact(facts->kind)) {
		c->xact &= (uint8_t)~XACT_READ_ONLY;
	}
	if (is_single && (is_harmless(facts->kind) || (c->xact & XACT_READ_ONLY)))
		return true;
	return gate_text_is_proven(c, text) || refuse_write(c, e);
}

bool gate_may_write_unseen(struct client *c, struct err *e)
{
	gate_begin(c);
	return (c->xact & (XACT_READS | XACT_READ_ONLY)) != XACT_READS || refuse_write(c, e);
}

/* ---- the route ------------------------------------------------------------------------------
 */

static bool is_observed(const struct client *c)
{
	return c->group->set.route_mode == ROUTE_MODE_OBSERVE;
}

/* 0: nothing is proven. */
static uint64_t era_of(const struct client *c)
{
	return sql_classifier_era(relay_of(c)->classifier, catalog_of(c->group));
}

/* That of a pair, which it is for all reads of the group; standing: before it was chosen.  While no
 * primary is known it may be either, and they take turns. */
static void note_usual(const struct client *c, struct pool *replica, unsigned standing,
		       const struct node_wish *wish)
{
	struct group *group = c->group;
	uint64_t era = era_of(c);

	size_t longest = group->set.rescue_max_size ? group->set.rescue_max_size : SIZE_MAX;

	/* Of a text its length is not looked at again. */
	if (!wish->is_only || group->config->nlanes || is_observed(c) || !era ||
	    longest < FRAME_HEADER_LEN + SQL_SHAPE_MAX + 1)
		return;
	group->usual =
	    (struct usual_replica){ .pool = replica,
				    .standing = standing,
				    .era = era,
				    .covers = wish->is_fenced ? wish->covers : UINT64_MAX,
				    .process = wish->process,
				    .longest = longest };
}

static bool begins_serializable(const struct group *group)
{
	return group->is_serializable && group->serializable_since == supply_defaults(group);
}

void gate_note_isolation(struct client *c)
{
	const char *said = param_set_get(c->wanted, SLICE(PARAM_ISOLATION));

	c->is_serializable =
	    said ? !strcasecmp(said, "serializable") : begins_serializable(c->group);
}

void gate_learn_isolation(struct client *c)
{
	struct group *group = c->group;

	if (!param_set_get(c->wanted, SLICE(PARAM_ISOLATION))) {
		group->is_serializable = true;
		group->serializable_since = supply_defaults(group);
	}
	LIST_FOREACH (at, &group->clients)
		gate_note_isolation(container_of(at, struct client, link));
}

/* What would fail on any replica, or could not be asked again when it does (I3). */
static bool is_for_primary_alone(struct client *c)
{
	if (c->is_serializable)
		gate_note_isolation(c); /* what sessions begin with may be another matter by now */
	return c->was_rescued || c->is_serializable || c->rare->listening || !rescue_has_room(c);
}

/* NULL: none will do. */
static struct pool *find_replica(struct client *c, struct node_wish *wish)
{
	unsigned standing = node_set_standing(c->group->nodes);
	struct pool *pool;
	int replica;

	fence_wish(c, wish);
	replica = node_set_replica(c->group->nodes, wish);
	pool = replica < 0 || is_for_primary_alone(c) ? NULL : lane_pool(c, (unsigned)replica);
	/* One that has just failed to connect is not asked again at once. */
	if (!pool || relay_now(c) < pool->retry_at)
		return NULL;
	if (!c->group->usual.pool || c->group->usual.standing != standing)
		note_usual(c, pool, standing, wish);
	return pool;
}

static struct pool *on_replica(struct client *c, struct pool *pool, const struct node_wish *wish)
{
	c->is_routed = true;
	c->covered_by = wish->process;
	admit_has_node(c);
	c->group->counters.replica_count++;
	tenant_count(c->tenant, TENANT_ON_REPLICA, 1);
	return pool;
}

/* lacks: a replica would have done but for what was written. */
static struct pool *on_primary(struct client *c, enum route_reason why, bool has_replica,
			       bool lacks)
{
	struct counters *counters = &c->group->counters;

	c->is_routed = false;
	c->covered_by = 0;
	if (lacks && !is_observed(c) && admit_wait_for_replica(c))
		return NULL;
	admit_has_node(c);
	counters->observed_count += has_replica;
	counters->routed_hint_count += why == ROUTED_HINT;
	counters->routed_write_count += why == ROUTED_WRITE;
	counters->routed_unfit_count += why == ROUTED_READ && !has_replica && !lacks;
	counters->routed_fenced_count += lacks;
	return gate_primary(c);
}

/* It goes to the primary; what becomes of that replica meanwhile is asked at its end. */
static void observe(struct client *c, const struct pool *replica)
{
	struct client_rare *rare = client_make_rare(c);

	rare->observed_node = replica->node;
	rare->observed_process = c->group->nodes->nodes[replica->node].process;
	c->is_observed = true;
}

void gate_note_observed(struct client *c)
{
	const struct node *node = &c->group->nodes->nodes[c->rare->observed_node];

	c->is_observed = false;
	c->group->counters.observed_lost_count +=
	    node->role != NODE_REPLICA || node->process != c->rare->observed_process;
}

static struct pool *counted(struct client *c, enum route_reason why)
{
	struct node_wish wish;
	struct pool *replica;

	if (why != ROUTED_READ)
		return on_primary(c, why, false, false);
	replica = find_replica(c, &wish);
	if (replica && is_observed(c))
		observe(c, replica);
	return replica && !is_observed(c) ? on_replica(c, replica, &wish)
					  : on_primary(c, why, replica, !replica && wish.lacks);
}

/* To parse takes the time of all clients of this thread.  Who sends a shape nobody has seen with
 * each request gets a share of it, and is for the rest judged by tokens alone.  What is paid for
 * lies at most a second ahead, so that a burst of new shapes, after a deployment, has its share at
 * once.
 */
static enum sql_class parse_within_share(struct client *c, struct slice text,
					 const struct sql_facts *facts)
{
	usec_t *until = c->tenant ? &c->tenant->parsed_until : &c->group->parsed_until;
	usec_t share = c->group->set.parse_max_time, began = clock_monotonic();
	enum sql_class class;

	if (share && *until > began + USEC_PER_SEC) {
		c->group->counters.unparsed_count++;
		return SQL_CLASS_WRITE_OR_UNKNOWN;
	}
	class = sql_classify_parse(relay_of(c)->classifier, c->group->catalog, text, facts);
	if (*until < began)
		*until = began;
	if (share)
		*until += (clock_monotonic() - began) * USEC_PER_SEC / share;
	return class;
}

bool gate_is_read(struct client *c, struct slice text, const struct sql_facts *facts)
{
	enum sql_class class;

	if (facts->hint == SQL_HINT_PRIMARY || (facts->effects & ~SQL_HARMLESS_EFFECTS))
		return false;
	if (!sql_classify_known(relay_of(c)->classifier, catalog_of(c->group), text, facts, &class))
		class = parse_within_share(c, text, facts);
	return class == SQL_CLASS_READ;
}

static PGT_NOINLINE bool prove(struct client *c, struct statement *st)
{
	uint64_t era = era_of(c); /* the catalog may be another one behind this */
	struct sql_facts facts;

	statement_facts(st, &facts);
	if (!gate_is_read(c, statement_text(st), &facts))
		return false;
	st->proven = era;
	return true;
}

bool gate_has_proof(struct client *c, const struct statement *st)
{
	uint64_t era = era_of(c);

	return era && st->proven == era;
}

bool gate_statement_is_read(struct client *c, struct statement *st)
{
	return gate_has_proof(c, st) || prove(c, st);
}

void gate_remember_write(struct client *c, struct slice text)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	env.wants_fingerprint = true;
	sql_scan(text, &env, &facts);
	sql_classifier_remember_write(relay_of(c)->classifier, catalog_of(c->group), &facts);
	HMAP_FOREACH_SAFE (l, &relay_of(c)->groups)
		container_of(l, struct group, link)->usual.pool = NULL; /* another era */
}

bool gate_is_proven(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct sql_facts unhinted;

	if (facts->hint != SQL_HINT_PRIMARY)
		return gate_is_read(c, text, facts);
	unhinted = *facts;
	unhinted.hint = SQL_HINT_NONE;
	return gate_is_read(c, text, &unhinted);
}

static enum route_reason reason_of(struct client *c, struct slice text,
				   const struct sql_facts *facts)
{
	enum route_reason why;

	if (reason_is_said(facts, statement_is_mapped(c), &why))
		return why;
	return gate_is_read(c, text, facts) ? ROUTED_READ : ROUTED_WRITE;
}

struct pool *gate_peek(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct pool *replica = NULL;
	struct node_wish wish;

	if (gate_has_choice(c) && !is_observed(c) && reason_of(c, text, facts) == ROUTED_READ)
		replica = find_replica(c, &wish);
	return replica ? replica : gate_primary(c);
}

struct pool *gate_choose(struct client *c, struct slice text, const struct sql_facts *facts)
{
	enum route_reason why;

	c->reads = READS_NOT;
	c->covered_by = 0;
	if (!gate_has_choice(c))
		return gate_primary(c);
	why = reason_of(c, text, facts);
	if (why == ROUTED_READ || (why == ROUTED_HINT && gate_is_proven(c, text, facts)))
		fence_is_proven(c);
	return counted(c, why);
}

struct pool *gate_choose_among(struct client *c, struct slice text, const struct sql_facts *facts,
			       uint64_t *proven)
{
	uint64_t era = era_of(c);
	struct pool *pool;

	if (era && *proven == era) {
		fence_is_proven(c);
		return counted(c, ROUTED_READ);
	}
	pool = gate_choose(c, text, facts);
	if (c->reads == READS_PROVEN)
		*proven = era;
	return pool;
}

struct pool *gate_choose_known(struct client *c, bool is_read)
{
	if (!gate_has_choice(c))
		return gate_primary(c);
	if (is_read)
		fence_is_proven(c);
	return counted(c, is_read ? ROUTED_READ : ROUTED_WRITE);
}
