/* SPDX-License-Identifier: ISC
 *
 * session.c - the settings of a client's session, carried from server to server.
 *
 * Knows what the client asked for at startup and what a server has been told so far.  The
 * difference is asked for and answered before the client's statement is sent: a statement never
 * runs under settings that the server has refused.
 */
#include "auth/sign.h"
#include "base/mem.h"
#include "client/client.h"
#include "relay/parts.h"
#include "route/nodes.h"
#include "server/signature.h"
#include "sql/choice.h"
#include "sql/timeout.h"
#include "wire/write.h"

#include <stdlib.h>

bool session_is_context(const struct group *group, struct slice name)
{
	return slice_is_equal_nocase(name, slice_str(group->set.tenant_setting)) ||
	       slice_is_equal_nocase(name, SLICE(SIGN_SETTING));
}

struct param_set *session_wanted(const struct identity *id, struct group *group)
{
	const struct settings *set = &group->set;
	struct param_set *wanted = param_set_ref(group->params.empty);

	for (unsigned i = 0; i < id->nsettings; i++) {
		struct slice name = slice_str(id->settings[i].name);
		struct param_set *next;

		if (list_has(set->ignore_startup_parameters, name))
			continue;
		/* In a tenant's session they are the server connection's. */
		if (group->has_tenants && session_is_context(group, name))
			continue;
		next = param_set_with(wanted, name, slice_str(id->settings[i].value));
		param_set_unref(wanted);
		wanted = next;
	}
	return wanted;
}

/* A string constant that means the same whatever standard_conforming_strings and client_encoding
 * are: ASCII only, since in SJIS a backslash may be half of a character and the one behind it would
 * escape the quote.  Other bytes reach the setting as they are, as in a startup packet. */
void session_put_literal(struct buf *b, const char *s)
{
	buf_printf(b, "%s", "E'");
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\' || *s & 0x80)
			buf_printf(b, "\\x%02X", (unsigned char)*s);
		else
			buf_put_u8(b, (uint8_t)*s);
	}
	buf_put_u8(b, '\'');
}

/* The ceiling of a session's own statement_timeout: the tier's; of one that its startup packet
 * asked for also what the role or the database has by default, which that would override. */
static usec_t timeout_ceiling(const struct client *c, const char *value)
{
	const struct group *group = c->group;
	const char *base = param_set_get(c->base, SLICE("statement_timeout"));
	int64_t dflt = group->login_shared->default_timeout_ms;
	usec_t cap = lane_timeout_cap(c);

	if (!base || strcmp(base, value) != 0)
		return cap;
	return dflt > 0 && dflt * USEC_PER_MSEC < cap ? dflt * USEC_PER_MSEC : cap;
}

const char *session_clamp(const struct client *c, const char *name, const char *value,
			  char room[SESSION_CLAMPED_MAX])
{
	int64_t ms;
	usec_t cap;

	if (strcasecmp(name, "statement_timeout") != 0)
		return value;
	cap = timeout_ceiling(c, value);
	if (!cap || !sql_timeout_parse(slice_str(value), &ms) || ms < 0 ||
	    (ms && ms * USEC_PER_MSEC <= cap))
		return value;
	sql_timeout_write(cap / USEC_PER_MSEC, room);
	return room;
}

/* Who the session acts as: set last, and taken back first, since it may forbid the rest. */
bool session_is_role(const char *name)
{
	return !strcasecmp(name, "role") || !strcasecmp(name, "session_authorization");
}

bool session_has_role(const struct param_set *set)
{
	return param_set_get(set, SLICE("role")) ||
	       param_set_get(set, SLICE("session_authorization"));
}

bool session_says_read_only(const struct client *c)
{
	const char *own = param_set_get(c->wanted, SLICE(PARAM_READ_ONLY));
	bool value;

	return own && sql_bool_parse(slice_str(own), &value) && value;
}

bool session_reads_by_default(const struct client *c)
{
	int primary = node_set_primary(c->group->nodes);

	if (param_set_get(c->wanted, SLICE(PARAM_READ_ONLY)))
		return session_says_read_only(c);
	return primary >= 0 && c->group->pools[primary].reads_by_default;
}

/* Plans that code keeps (PL/pgSQL) are its server's, where nothing tells sessions apart. */
static bool has_own(const struct param_set *set)
{
	for (unsigned i = 0; i < set->n; i++)
		if (strchr(set->items[i].name, '.'))
			return true;
	return session_has_role(set);
}

/* Whom they may tell of: a tenant, or who has set the same.  What is known of the database's code
 * is in it, since by what was known before it told of nobody. */
static uint64_t plans_for(const struct client *c)
{
	const struct param_set *wants = c->wanted;
	uint64_t key = c->group->catalog_version;

	if (c->group->is_shared && c->tenant)
		key = hash_more(key, c->tenant->business_id, strlen(c->tenant->business_id));
	if (has_own(wants))
		key = hash_more(key, &wants->link.hash, sizeof(wants->link.hash));
	return key;
}

bool session_has_others_plans(const struct client *c, const struct server *s)
{
	return c->group->set.pool_mode != POOL_MODE_SESSION && !c->group->replication &&
	       s->plans_for != plans_for(c);
}

static void put_resets(struct buf *sql, const struct group *group, const struct param_set *has,
		       const struct param_set *wants)
{
	if (session_has_role(has))
		buf_printf(sql, "%s", "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; ");
	for (unsigned i = 0; i < has->n; i++) {
		const char *name = has->items[i].name;

		if (session_is_role(name) || context_brings(group, name) ||
		    param_set_get(wants, slice_str(name)))
			continue;
		buf_printf(sql, "%s", "RESET \"");
		for (const char *p = name; *p; p++)
			buf_put(sql, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
		buf_printf(sql, "%s", "\"; ");
	}
}

/* set_config() takes a value as a startup packet does: whole lists, no quoting of their own. */
static void put_setting(struct buf *sql, const struct client *c, const char *name,
			const char *value, bool *first)
{
	char room[SESSION_CLAMPED_MAX];

	buf_printf(sql, "%s",
		   *first ? "SELECT pg_catalog.set_config(" : ", pg_catalog.set_config(");
	*first = false;
	session_put_literal(sql, name);
	buf_put(sql, ", ", 2);
	session_put_literal(sql, session_clamp(c, name, value, room));
	buf_printf(sql, "%s", ", false)");
}

static void put_differences(struct buf *sql, const struct client *c, const struct param_set *has)
{
	const struct param_set *wants = c->wanted;
	static const char *const roles[] = { "session_authorization", "role" };
	bool first = true;

	if (has == wants)
		return;
	put_resets(sql, c->group, has, wants);
	for (unsigned i = 0; i < wants->n; i++) {
		const char *there = param_set_get(has, slice_str(wants->items[i].name));

		if (!session_is_role(wants->items[i].name) &&
		    !context_brings(c->group, wants->items[i].name) &&
		    !(there && !strcmp(there, wants->items[i].value)))
			put_setting(sql, c, wants->items[i].name, wants->items[i].value, &first);
	}
	for (size_t i = 0; i < PGT_NELEMS(roles); i++) {
		const char *value = param_set_get(wants, slice_str(roles[i]));

		if (value)
			put_setting(sql, c, roles[i], value, &first);
	}
}

static void on_applied(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	attach_on_settled(s, error);
}

enum step session_apply(struct client *c, struct server *s)
{
	struct question q = { .done = on_applied };
	struct buf sql = { 0 };

	bool is_mixed = s->sequence_mixed && sequence_must_clean(c, s);
	bool must_forget = session_must_forget_plans(c, s);

	if (s->applied == c->wanted && !is_mixed && !must_forget)
		return STEP_DONE;
	if (must_forget) {
		buf_printf(&sql, "%s", "DISCARD PLANS; ");
		s->plans_for = plans_for(c);
	}
	if (is_mixed) {
		buf_printf(&sql, "%s", "DISCARD SEQUENCES; ");
		s->sequence_mixed = false;
	}
	put_differences(&sql, c, s->applied);
	param_set_assign(&s->applied, c->wanted);
	context_look_again(s); /* what comes with the tenant was not brought */
	if (!buf_len(&sql))
		return STEP_DONE; /* they differ in that only */
	server_ask(s, buf_cstr(&sql), &q);
	buf_fini(&sql);
	return STEP_AGAIN;
}

/* What the session has set itself stays.  A setting of our own is empty after RESET; a role is
 * nobody's to reset but RESET ROLE's. */
#define RESTORE_WHERE                                                                              \
	") AS b (name, value) LEFT JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) "     \
	"OPERATOR(pg_catalog.=) pg_catalog.lower(b.name) WHERE CASE WHEN s.name IS NULL OR "       \
	"pg_catalog.strpos(s.name, '.') OPERATOR(pg_catalog.>) 0 THEN "                            \
	"COALESCE(pg_catalog.current_setting(b.name, true), '') OPERATOR(pg_catalog.=) '' "        \
	"ELSE s.source OPERATOR(pg_catalog.<>) 'session' END"

static void put_restoring(struct buf *sql, const struct client *c)
{
	char room[SESSION_CLAMPED_MAX];
	bool first = true;

	for (unsigned i = 0; i < c->base->n; i++) {
		const char *name = c->base->items[i].name;

		if (session_is_role(name) || context_brings(c->group, name))
			continue;
		buf_printf(
		    sql, "%s",
		    first ? "SELECT pg_catalog.set_config(b.name, b.value, false) FROM (VALUES ("
			  : ", (");
		first = false;
		session_put_literal(sql, name);
		buf_put(sql, ", ", 2);
		session_put_literal(sql, session_clamp(c, name, c->base->items[i].value, room));
		buf_put_u8(sql, ')');
	}
	if (!first)
		buf_printf(sql, "%s", RESTORE_WHERE);
	if (c->has_discarded && param_set_get(c->base, SLICE("role"))) {
		buf_printf(sql, "%s", first ? "SET ROLE " : "; SET ROLE ");
		session_put_literal(sql, param_set_get(c->base, SLICE("role")));
	}
}

static void on_restored(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	struct client *c = s->client;

	c->has_discarded = false;
	/* As with settings that cannot be brought to a server. */
	if (error) {
		attach_on_settled(s, error);
		return;
	}
	session_tell(c, s);
	msg_put_ready(conn_output(&c->conn), s->tx);
	c->turn_missed = true;
	answer_go_on(s);
}

static bool ask_for_base(struct client *c, struct server *s)
{
	struct question q = { .done = on_restored };
	struct buf sql = { 0 };

	if (!c->base->n)
		return false;
	put_restoring(&sql, c);
	server_ask(s, buf_cstr(&sql), &q);
	buf_fini(&sql);
	return true;
}

static void on_context_restored(struct server *s, void *arg, const struct report *error)
{
	if (error || !ask_for_base(s->client, s))
		on_restored(s, arg, error);
}

static bool ask_for_context(struct client *c, struct server *s)
{
	const struct question q = { .done = on_context_restored };

	if (context_restore(c, s, &q))
		return true;
	if (!signature_is_due(s))
		return false;
	signature_bring(s, on_context_restored);
	return true;
}

bool session_restore(struct client *c, struct server *s)
{
	if (s->replies.n)
		return false;
	c->resets = c->has_reset = false;
	/* What has failed is undone. */
	if (s->tx != 'E' && (ask_for_context(c, s) || ask_for_base(c, s)))
		return true;
	c->has_discarded = false;
	session_tell(c, s);
	return false;
}

bool session_is_clean(const struct client *c)
{
	return !c->pins && !c->touched && !c->sequence_server && c->wanted == c->base;
}

void session_tell_news(struct client *c, struct server *s)
{
	for (unsigned i = 0; i < s->params->n; i++) {
		struct slice name = slice_str(s->params->items[i].name);
		const char *known = c->told ? param_set_get(c->told, name) : NULL;

		if (!known || strcmp(known, s->params->items[i].value))
			msg_put_parameter_status(conn_output(&c->conn), name,
						 slice_str(s->params->items[i].value));
	}
	param_set_assign(&c->told, s->params);
	c->env_known = false;
}

void session_options(const struct pool *pool, bool cap_timeout, struct buf *out)
{
	const struct group *group = pool->group;
	char ms[SQL_TIMEOUT_MAX];

	/* Of a shared pool nobody's, so that RESET makes it so. */
	if (group->has_tenants)
		options_put(out, group->set.tenant_setting,
			    group->tenant ? group->tenant->business_id : "");
	if (!cap_timeout)
		return;
	sql_timeout_write(pool_session_cap(pool) / USEC_PER_MSEC, ms);
	options_put(out, "statement_timeout", ms);
}
