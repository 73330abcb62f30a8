/* SPDX-License-Identifier: ISC
 *
 * show_auth_query.c - SHOW AUTH_QUERY: where secrets of users are asked for.
 */
#include "admin/parts.h"
#include "worker/secret_source.h"

#define AUTH_QUERY_COLUMNS(X)                                                                      \
	X(TEXT, FIRST, database, "Database that is asked.")                                        \
	X(TEXT, FIRST, user, "As whom: its auth_user.")                                            \
	X(TEXT, FIRST, state, "What its connection does.")                                         \
	X(BIGINT, FIRST, cached,                                                                   \
	  "Users that were looked up and not dropped yet, unknown ones too.")                      \
	X(BIGINT, FIRST, lookups, "Users that were looked up, so far.")                            \
	X(BIGINT, FIRST, waiting, "Logins that wait for a lookup.")                                \
	X(TEXT, FIRST, error, "Why it gives no answer; NULL: it does.")
LAYOUT_DEFINE(auth_query, AUTH_QUERY_COLUMNS);

static void add_link(void *arg, const struct secret_facts *facts)
{
	table_add(arg, &(struct auth_query_row){ .database = facts->database,
						 .user = facts->user,
						 .state = facts->state,
						 .cached = (int64_t)facts->cached,
						 .lookups = (int64_t)facts->lookups,
						 .waiting = (int64_t)facts->waiting,
						 .error = facts->error });
}

static void auth_query_local(struct control *c, struct table *t)
{
	secret_source_each(c->secret_source, add_link, t);
}

const struct show show_auth_query = { .shown = &auth_query_layout, .local = auth_query_local };
