/* SPDX-License-Identifier: ISC
 *
 * audit.c - statements of clients in the log.
 *
 * Said when a statement is sent: what is answered without a server, or refused, is not among them.
 * A statement that is prepared is said each time that it is bound.
 */
#include "relay/audit.h"

#include "base/log.h"
#include "sql/normal.h"

#include <stdio.h>

/* Of a text that may hold several statements the first one is known. */
static bool is_ddl(const struct sql_facts *facts)
{
	return facts->kind == SQL_KIND_OTHER || facts->statements > 1 ||
	       (facts->flags & SQL_UNCLEAN);
}

static bool is_asked_for(struct client *c, struct slice text, const struct sql_facts *facts)
{
	switch ((enum log_statements)audit_settings(c)->log_statements) {
	case LOG_STATEMENTS_NONE:
		return false;
	case LOG_STATEMENTS_DDL:
		return is_ddl(facts);
	case LOG_STATEMENTS_MOD:
		return is_ddl(facts) || !gate_text_is_proven(c, text);
	case LOG_STATEMENTS_ALL:
		return true;
	}
	return true;
}

/* Steps of the golden ratio: spread evenly, whatever pattern statements come in. */
static bool is_in_sample(const struct client *c)
{
	struct relay *r = relay_of(c);

	r->audit_turn += UINT32_C(2654435769);
	return (uint64_t)r->audit_turn * 100 >> 32 < audit_settings(c)->log_sample;
}

static void say(const struct client *c, enum sql_kind kind, const char *text)
{
	char address[LOG_ADDRESS_MAX];
	struct log_about about = client_about(c, address);

	about.reason = sql_kind_name(kind);
	log_about(LOG_LEVEL_INFO, &about, "statement: %s", text);
}

void audit_say(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct lex_env env = { c->env_standard_strings, c->env_ascii_safe && !c->env_unsure };
	struct buf shown = { 0 };
	struct sql_normal normal;

	if (!is_asked_for(c, text, facts) || !is_in_sample(c))
		return;
	sql_normalise(text, &env, &normal, &shown);
	say(c, facts->kind, buf_cstr(&shown));
	buf_fini(&shown);
}

void audit_look(struct client *c, struct slice text)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	sql_scan(text, &env, &facts);
	audit_say(c, text, &facts);
}

void audit_say_bound(struct client *c, const struct statement *st)
{
	struct sql_facts facts;

	statement_facts(st, &facts);
	audit_say(c, statement_text(st), &facts);
}

void audit_say_unseen(struct client *c, size_t n)
{
	char text[80];

	snprintf(text, sizeof(text), "%zu bytes, which were not looked at", n);
	say(c, SQL_KIND_OTHER, text);
}
