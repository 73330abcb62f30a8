/* SPDX-License-Identifier: ISC
 *
 * survey.c - asks a server what a session has left on it, at the end of a transaction.
 *
 * The server's own answer is the only one that is right after ROLLBACK TO, set_config() in a
 * function, or a text whose settings nobody knows by heart, and it comes in canonical form.  So
 * nothing is guessed from texts but what to ask about.  The client's next request waits for the
 * answer; a transaction that touched nothing costs nothing.
 */
#include "base/log.h"
#include "base/mem.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "server/signature.h"

#include <stdlib.h>

/* What a row says, beside the number of a pin's reason. */
#define ROW_SETTING "s"
#define ROW_LACKS   "l" /* statements of ours */

struct survey {
	struct param_set *found; /* settings of the session on this server */
	uint32_t asked;
	uint32_t pins;
	enum { TIMEOUT_NONE, TIMEOUT_TENANTS, TIMEOUT_OWN } timeout;
	bool names_timeout; /* a text has, so that what there is now is the session's */
	bool unreadable;    /* a value that cannot be given to another server as it is */
};

void survey_free(struct survey *survey)
{
	if (!survey)
		return;
	param_set_unref(survey->found);
	free(survey);
}

/* ---- the question -------------------------------------------------------------------------------
 */

static void put_union(struct buf *sql)
{
	if (buf_len(sql))
		buf_printf(sql, "%s", " UNION ALL ");
}

static void put_named(struct buf *sql, const char *name)
{
	put_union(sql);
	buf_printf(sql, "%s", "SELECT '" ROW_SETTING "', ");
	session_put_literal(sql, name);
	buf_printf(sql, "%s", "::pg_catalog.text, pg_catalog.current_setting(");
	session_put_literal(sql, name);
	buf_printf(sql, "%s", ", true)");
}

/* Those of our own make are in no list of the server's. */
static bool is_custom(const char *name)
{
	return strchr(name, '.') != NULL;
}

static void put_custom_of(struct buf *sql, const struct param_set *set)
{
	for (unsigned i = 0; i < set->n; i++)
		if (is_custom(set->items[i].name))
			put_named(sql, set->items[i].name);
}

static void put_touched(struct buf *sql, const struct session_notes *notes, bool custom_only)
{
	struct slice left = notes ? buf_peek(&notes->names) : slice_of("", 0);

	while (left.n) {
		size_t n = strlen(left.p) + 1;

		if (!custom_only || is_custom(left.p))
			put_named(sql, left.p);
		left = slice_of(left.p + n, left.n - n);
	}
}

/* Whether the session has set it itself, were it to what was brought. */
static bool names_timeout(const struct session_notes *notes)
{
	struct slice left = notes ? buf_peek(&notes->names) : slice_of("", 0);

	while (left.n) {
		size_t n = strlen(left.p) + 1;

		if (!strcasecmp(left.p, "statement_timeout"))
			return true;
		left = slice_of(left.p + n, left.n - n);
	}
	return false;
}

static void put_settings(struct buf *sql, const struct client *c, const struct server *s)
{
	put_union(sql);
	buf_printf(sql, "%s",
		   "SELECT '" ROW_SETTING "', name, pg_catalog.current_setting(name) FROM "
		   "pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'");
	put_named(sql, "role");
	put_named(sql, "session_authorization");
	put_custom_of(sql, s->applied);
	put_custom_of(sql, c->base);
	put_touched(sql, c->rare->notes, true);
}

/* What code may have done to a tenant's id that no text shows is undone, also where the client
 * keeps the server (I1). */
static void put_own_id(struct buf *sql, const struct group *group)
{
	if (group->has_tenants)
		buf_printf(sql, "RESET \"%s\"; ", group->set.tenant_setting);
}

/* What code says of statements, DEALLOCATE ALL maybe, no text shows. */
static void put_statements(struct buf *sql, const struct server *s)
{
	size_t n = s->statements.count + (size_t)__builtin_popcount(s->carry_parsed);

	put_union(sql);
	buf_printf(sql,
		   "SELECT '" ROW_LACKS "', ''::pg_catalog.text, '' WHERE %zu "
		   "OPERATOR(pg_catalog.>) (SELECT pg_catalog.count(*) FROM "
		   "pg_catalog.pg_prepared_statements WHERE NOT from_sql AND "
		   "pg_catalog.left(name, %zu) OPERATOR(pg_catalog.=) '" SQL_OWN_STATEMENTS "')",
		   n, strlen(SQL_OWN_STATEMENTS));
}

static void put_question(struct buf *sql, const struct client *c, const struct server *s)
{
	if (c->touched & TOUCHED_SETTINGS)
		put_settings(sql, c, s);
	else if (c->touched & TOUCHED_NAMED)
		put_touched(sql, c->rare->notes, false);
	for (unsigned i = 0; i < NPINS; i++) {
		if (!(c->touched & PIN_BIT(i)) || !pin_question(i))
			continue;
		put_union(sql);
		buf_printf(sql, "SELECT '%u', ''::pg_catalog.text, '' WHERE EXISTS (%s)", i,
			   pin_question(i));
	}
	if (c->touched & TAINT_UNSEEN)
		put_statements(sql, s);
}

/* ---- the answer ---------------------------------------------------------------------------------
 */

static void take(struct survey *survey, struct slice name, struct slice value)
{
	struct param_set *next = param_set_with(survey->found, name, value);

	param_set_unref(survey->found);
	survey->found = next;
}

/* The value as it is said, or nothing where it is what a server begins with: a session that began
 * with a role, and has none, has to say so. */
static struct slice without_default(const struct group *group, const struct client *c,
				    struct slice name, struct slice value)
{
	bool has_role = c && param_set_get(c->base, SLICE("role"));
	bool is_default = (!has_role && slice_is_equal_nocase(name, SLICE("role")) &&
			   slice_is_equal(value, SLICE("none"))) ||
			  (slice_is_equal_nocase(name, SLICE("session_authorization")) &&
			   slice_is_equal(value, slice_str(group->user)));

	return is_default ? slice_of(NULL, 0) : value;
}

static bool speaks_as_the_server(const struct server *s)
{
	const char *client = param_set_get(s->params, SLICE("client_encoding"));
	const char *server = param_set_get(s->params, SLICE("server_encoding"));

	return client && server && !strcmp(client, server);
}

/* False: it is the tenant's.  What stands there of the session's own may have been lowered for this
 * tenant, and is not for the next. */
static bool on_timeout(struct server *s, struct slice *value)
{
	const char *own = param_set_get(s->applied, SLICE("statement_timeout"));

	if (!context_has_brought(s, *value) || (own && s->survey->names_timeout)) {
		s->survey->timeout = TIMEOUT_OWN;
		return true;
	}
	s->survey->timeout = TIMEOUT_TENANTS;
	if (own)
		*value = slice_str(own);
	return own != NULL;
}

/* No session stays on a replica (ADR 44).  While no primary is known, the one that was it, whose
 * sessions go on, is told from one by its own word. */
static bool may_not_stay(const struct server *s)
{
	return gate_is_replicas(s) &&
	       (node_set_primary(s->pool->group->nodes) >= 0 || s->node->role == NODE_REPLICA);
}

static void on_setting(struct server *s, struct slice name, struct slice value)
{
	const struct group *group = s->pool->group;
	struct survey *survey = s->survey;

	if (!value.p || slice_starts_with(name, SLICE("transaction_")))
		return;
	if (group->has_tenants && session_is_context(group, name)) {
		if (!slice_is_equal_nocase(name, slice_str(group->set.tenant_setting)))
			signature_forget(s); /* a client's own idea of it */
		return;
	}
	if (slice_is_equal(name, SLICE("statement_timeout")) && !on_timeout(s, &value))
		return;
	if (!slice_is_ascii(value) && !speaks_as_the_server(s)) {
		survey->unreadable = true;
		if (may_not_stay(s))
			return; /* it is not kept */
	}
	take(survey, name, without_default(group, s->client, name, value));
}

/* Of a reason's number. */
static uint32_t pin_of(struct slice digits)
{
	unsigned n = 0;

	for (size_t i = 0; i < digits.n; i++)
		n = n * 10 + (unsigned)(digits.p[i] - '0');
	return n < NPINS ? PIN_BIT(n) : 0;
}

static void on_row(struct server *s, void *arg PGT_UNUSED, const struct slice *columns, unsigned n)
{
	if (n != 3 || !columns[0].p || !columns[1].p)
		return;
	if (slice_is_equal(columns[0], SLICE(ROW_SETTING)))
		on_setting(s, columns[1], columns[2]);
	else if (slice_is_equal(columns[0], SLICE(ROW_LACKS)))
		s->doubtful = true;
	else
		s->survey->pins |= pin_of(columns[0]);
}

static void put_in(struct param_set **set, const char *name, const char *value)
{
	struct param_set *next = param_set_with(*set, slice_str(name), slice_str(value));

	param_set_unref(*set);
	*set = next;
}

/* What the session wants on any server: what it has now, and what it began with.  A RESET that
 * nobody has seen goes back to that; of a setting of our own it leaves the empty string.  A timeout
 * beyond the tenant's ceiling, which only code that no text shows can have set, is lowered; in a
 * shared pool that is done for each tenant as it comes (context.c). */
static struct param_set *wanted_after(const struct client *c, struct param_set *found, bool unseen)
{
	struct param_set *wanted = param_set_ref(found);
	const char *timeout = param_set_get(found, SLICE("statement_timeout"));
	char room[SESSION_CLAMPED_MAX];

	if (timeout && !c->group->is_shared)
		put_in(&wanted, "statement_timeout",
		       session_clamp(c, "statement_timeout", timeout, room));
	for (unsigned i = 0; i < c->base->n; i++) {
		const struct param *base = &c->base->items[i];
		const char *now = param_set_get(wanted, slice_str(base->name));

		if (!now || (unseen && is_custom(base->name) && !*now))
			put_in(&wanted, base->name, base->value);
	}
	return wanted;
}

static void log_lost(const struct client *c, uint32_t mask)
{
	for (unsigned i = 0; i < NPINS; i++)
		if (mask & PIN_BIT(i))
			log_info("C-%llu: %s: session state is lost with the transaction "
				 "(session_state = log): %s",
				 (unsigned long long)c->id, c->user, pin_name(i));
}

/* What the server holds of the session; what nothing tells is taken for there. */
static uint32_t pins_found(const struct survey *survey)
{
	uint32_t found = survey->pins;

	for (unsigned i = 0; i < NPINS; i++)
		if ((survey->asked & PIN_BIT(i)) && !pin_question(i))
			found |= PIN_BIT(i);
	return survey->unreadable ? found | PIN_BIT(PIN_SETTING) : found;
}

static void conclude(struct client *c, struct server *s, const struct survey *survey)
{
	uint32_t asked = survey->asked;
	uint32_t kept = c->pins & ~asked;
	uint32_t found = pins_found(survey);
	struct param_set *wanted = wanted_after(c, survey->found, asked & TAINT_UNSEEN);

	if (found && c->group->set.session_state == SESSION_STATE_LOG) {
		log_lost(c, found);
		s->tainted |= found;
		found = 0;
	}
	if (found && may_not_stay(s)) {
		pins_lose(c, found);
		s->tainted |= found;
		found = 0;
	}
	pins_set(c, kept | found);
	if (asked & (TOUCHED_NAMED | TOUCHED_SETTINGS))
		pins_said(c, !(asked & TOUCHED_SETTINGS));
	param_set_assign(&c->wanted, wanted);
	gate_note_isolation(c);
	c->env_known = false;
	param_set_unref(wanted);
}

/* Of a shared pool: what it says of the tenant's context. */
static void note_context(struct server *s, const struct survey *survey)
{
	const char *own = param_set_get(survey->found, SLICE("statement_timeout"));

	if (survey->asked & TAINT_UNSEEN)
		context_forget(s);
	else if (survey->timeout == TIMEOUT_OWN ||
		 (survey->timeout == TIMEOUT_NONE && (survey->asked & TOUCHED_SETTINGS)))
		context_found_timeout(s, own);
}

static void on_signed(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	s->doubtful |= error != NULL;
	attach_on_surveyed(s);
}

/* Nothing is known of what it has left, and so nobody else gets the server. */
static void fail(struct client *c, struct server *s)
{
	if (may_not_stay(s)) {
		pins_lose(c, PIN_BIT(PIN_UNKNOWN));
		s->doubtful = true;
	} else {
		pins_set(c, c->pins | PIN_BIT(PIN_UNKNOWN));
	}
	pins_said(c, false);
}

static void on_surveyed(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	struct survey *survey = s->survey;
	struct client *c = s->client;
	bool failed = error || s->tx != 'I';

	s->survey = NULL;
	s->tainted |= survey->asked & TAINT_UNSEEN;
	param_set_assign(&s->applied, survey->found);
	note_context(s, survey);
	if (!c) {
		/* It has left meanwhile. */
		s->tainted |= pins_found(survey);
		s->doubtful |= failed;
	} else if (failed) {
		fail(c, s);
	} else {
		conclude(c, s, survey);
	}
	survey_free(survey);
	if (c && !failed && signature_is_due(s))
		signature_bring(s, on_signed);
	else
		attach_on_surveyed(s);
}

void survey_begin(struct client *c, struct server *s)
{
	struct question q = { .row = on_row, .done = on_surveyed };
	struct buf sql = { 0 }, question = { 0 };

	if (c->touched & TAINT_UNSEEN)
		put_own_id(&sql, c->group);
	put_question(&question, c, s);
	buf_put_slice(&sql, buf_peek(&question));
	buf_fini(&question);
	s->survey = xnew(struct survey);
	s->survey->asked = c->touched;
	s->survey->names_timeout = names_timeout(c->rare->notes);
	s->survey->found =
	    param_set_ref(c->touched & TOUCHED_SETTINGS ? c->group->params.empty : s->applied);
	c->touched = 0;
	if (c->rare->notes)
		buf_clear(&c->rare->notes->names);
	/* With nothing to ask there is an empty query, and the same way to the end. */
	server_ask(s, buf_cstr(&sql), &q);
	buf_fini(&sql);
}
