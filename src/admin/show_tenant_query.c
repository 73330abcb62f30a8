/* SPDX-License-Identifier: ISC
 *
 * show_tenant_query.c - SHOW TENANT_QUERY: how the tenants of the database are known.
 */
#include "admin/parts.h"
#include "config/roster.h"
#include "worker/tenant_source.h"

#define TENANT_QUERY_COLUMNS(X)                                                                    \
	X(TEXT, FIRST, database, "Database that is asked.")                                        \
	X(TEXT, FIRST, state, "What its connection does.")                                         \
	X(BIGINT, FIRST, tenants, "Tenants that are known from it.")                               \
	X(BIGINT, FIRST, single, "Of them looked up one by one, since all were read last.")        \
	X(BIGINT, FIRST, in_file, "Rows that [tenants] has too: those count.")                     \
	X(BIGINT, FIRST, refused, "Rows that make no sense; the log says why.")                    \
	X(TIME, FIRST, read_at, "When all were read last; NULL: not yet.")                         \
	X(BIGINT, FIRST, read_ms, "How long that took.")                                           \
	X(BIGINT, FIRST, lookups, "Tenants that were looked up one by one, so far.")               \
	X(BIGINT, FIRST, unknown, "Names and ids that are not looked up again for now.")           \
	X(BIGINT, FIRST, waiting, "Sessions that wait for a lookup.")                              \
	X(TEXT, FIRST, error, "Why it cannot be asked now; NULL: it can.")
LAYOUT_DEFINE(tenant_query, TENANT_QUERY_COLUMNS);

static void tenant_query_local(struct control *c, struct table *t)
{
	const struct roster *roster = c->config->roster;
	struct tenant_source_facts facts;

	if (!config_may_look_up(c->config))
		return;
	tenant_source_tell(c->tenant_source, &facts);
	table_add(t, &(struct tenant_query_row){
			 .database = config_tenant_database(c->config)->name,
			 .state = facts.state,
			 .tenants = roster ? (int64_t)roster_count(roster) : 0,
			 .single = roster ? (int64_t)roster_singles(roster) : 0,
			 .in_file = (int64_t)facts.in_file,
			 .refused = (int64_t)facts.refused,
			 .read_at = facts.read_at ? facts.read_at : NUMBER_NULL,
			 .read_ms = facts.read_at ? facts.took / USEC_PER_MSEC : NUMBER_NULL,
			 .lookups = (int64_t)facts.lookups,
			 .unknown = (int64_t)facts.unknown,
			 .waiting = (int64_t)facts.waiting,
			 .error = facts.error });
}

const struct show show_tenant_query = { .shown = &tenant_query_layout,
					.local = tenant_query_local };
