/* SPDX-License-Identifier: ISC
 *
 * show_prepared.c - SHOW PREPARED: the texts that prepared statements share.
 *
 * For admins only, since texts may hold literals.
 */
#include "admin/parts.h"
#include "relay/statement.h"
#include "sql/lex.h"

#include <stdio.h>

/* Bytes of a text that are shown. */
#define SHOWN_TEXT 256

#define PREPARED_COLUMNS(X)                                                                        \
	X(BIGINT, FIRST, id, "Number of the text; on each worker its own.")                        \
	X(TEXT, FIRST, database, "Database, as clients say it.")                                   \
	X(TEXT, FIRST, user, "User on the server.")                                                \
	X(TEXT, FIRST, tenant, "Tenant; empty without one.")                                       \
	X(INT, FIRST, names, "Names that clients have for it.")                                    \
	X(INT, FIRST, servers, "Servers that have it, each under a name of its own.")              \
	X(BIGINT, FIRST, uses, "Times that it was bound or described by name.")                    \
	X(INT, FIRST, parameters, "Its greatest $n.")                                              \
	X(INT, FIRST, changes, "Times that its result was found to have changed.")                 \
	X(BIGINT, FIRST, bytes, "Memory that it takes, once for all its names.")                   \
	X(TEXT, FIRST, query, "Beginning of the text, 256 bytes.")
LAYOUT_DEFINE(prepared, PREPARED_COLUMNS);

static int64_t count_parameters(struct slice text)
{
	struct lex_token t;
	struct lex lex;
	int64_t most = 0;

	lex_init(&lex, text, &(struct lex_env){ .standard_strings = true, .ascii_safe = true });
	while (lex_next(&lex, &t))
		if (lex_param_number(&t) > most)
			most = lex_param_number(&t);
	return most;
}

static void prepared_visit(struct worker *w, struct table *t)
{
	char text[SHOWN_TEXT + 1];

	for (struct hlink *l = hmap_walk(&w->relay.statements, NULL); l;
	     l = hmap_walk(&w->relay.statements, l)) {
		const struct statement *st = container_of(l, struct statement, link);

		snprintf(text, sizeof(text), "%s", st->body);
		table_add(
		    t, &(struct prepared_row){ .id = (int64_t)st->id,
					       .database = st->group->name,
					       .user = st->group->user,
					       .tenant = tenant_name(st->group->tenant),
					       .names = st->nnames,
					       .servers = st->nservers,
					       .uses = (int64_t)st->uses,
					       .parameters = count_parameters(statement_text(st)),
					       .changes = st->changes,
					       .bytes = (int64_t)statement_size(st),
					       .query = text });
	}
}

const struct show show_prepared = { .shown = &prepared_layout, .visit = prepared_visit };
