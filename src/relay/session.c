/* SPDX-License-Identifier: ISC
 *
 * session.c - the settings of a client's session, carried from server to server.
 *
 * Knows what the client asked for at startup and what a server has been told so far.  The
 * difference is asked for and answered before the client's statement is sent: a statement never
 * runs under settings that the server has refused.
 */
#include "base/mem.h"
#include "client/client.h"
#include "relay/parts.h"
#include "sql/timeout.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

struct param_set *session_wanted(const struct identity *id, struct group *group)
{
	const struct settings *set = &group->set;
	struct param_set *wanted = param_set_ref(group->params.empty);

	for (unsigned i = 0; i < id->nsettings; i++) {
		struct slice name = slice_str(id->settings[i].name);
		struct param_set *next;

		if (list_has(set->ignore_startup_parameters, name))
			continue;
		/* In a tenant's session the server connection has it from its own startup packet.
		 */
		if (*group->tenant && slice_is_equal_nocase(name, slice_str(set->tenant_setting)))
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
static void put_literal(struct buf *b, const char *s)
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

/* The ceiling of a session's own statement_timeout at startup: the tier's, or what the role or
 * the database has by default if that is less. */
static usec_t timeout_ceiling(const struct group *group)
{
	usec_t cap = group->set.statement_timeout;
	int64_t dflt = group->login_shared->default_timeout_ms;

	return dflt > 0 && dflt * USEC_PER_MSEC < cap ? dflt * USEC_PER_MSEC : cap;
}

static void put_value(struct buf *sql, const struct group *group, const struct param *want)
{
	usec_t cap = timeout_ceiling(group);
	int64_t ms;
	char clamped[32];

	if (cap && !strcasecmp(want->name, "statement_timeout") &&
	    sql_timeout_parse(slice_str(want->value), &ms) && ms >= 0 &&
	    (ms == 0 || ms * USEC_PER_MSEC > cap)) {
		snprintf(clamped, sizeof(clamped), "%lld", (long long)(cap / USEC_PER_MSEC));
		put_literal(sql, clamped);
		return;
	}
	put_literal(sql, want->value);
}

/* set_config() takes a value as a startup packet does: whole lists, no quoting of their own. */
static void put_differences(struct buf *sql, const struct group *group, const struct param_set *has,
			    const struct param_set *wants)
{
	bool first = true;

	for (unsigned i = 0; i < has->n; i++)
		if (!param_set_get(wants, slice_str(has->items[i].name))) {
			buf_printf(sql, "%s", "RESET \"");
			for (const char *p = has->items[i].name; *p; p++)
				buf_put(sql, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
			buf_printf(sql, "%s", "\"; ");
		}
	for (unsigned i = 0; i < wants->n; i++) {
		const char *there = param_set_get(has, slice_str(wants->items[i].name));

		if (there && !strcmp(there, wants->items[i].value))
			continue;
		buf_printf(sql, "%s",
			   first ? "SELECT pg_catalog.set_config(" : ", pg_catalog.set_config(");
		first = false;
		put_literal(sql, wants->items[i].name);
		buf_put(sql, ", ", 2);
		put_value(sql, group, &wants->items[i]);
		buf_printf(sql, "%s", ", false)");
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

	if (s->applied == c->wanted)
		return STEP_DONE;
	put_differences(&sql, c->group, s->applied, c->wanted);
	param_set_assign(&s->applied, c->wanted);
	server_ask(s, buf_cstr(&sql), &q);
	buf_fini(&sql);
	return STEP_AGAIN;
}

void session_tell(struct client *c, struct server *s)
{
	if (c->told == s->params)
		return;
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

void session_options(const struct group *group, bool cap_timeout, struct buf *out)
{
	char ms[32];

	if (!*group->tenant)
		return;
	options_put(out, group->set.tenant_setting, group->business_id);
	if (!cap_timeout)
		return;
	snprintf(ms, sizeof(ms), "%lld", (long long)(group->set.statement_timeout / USEC_PER_MSEC));
	options_put(out, "statement_timeout", ms);
}
