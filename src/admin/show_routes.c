/* SPDX-License-Identifier: ISC
 *
 * show_routes.c - SHOW ROUTES: why transactions went to the primary or to a replica.
 *
 * Only what there was a choice for is counted: databases with replicas, whose roles are known.
 */
#include "admin/parts.h"
#include "admin/reasons.h"
#include "relay/relay.h"
#include "stats/counters.h"
#include "worker/worker.h"

#define ROUTES_COLUMNS(X)                                                                          \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(TEXT, KEY, node, "Where they went: replica, or primary.")                                \
	X(TEXT, KEY, reason, "Why, in one word.")                                                  \
	X(NUMERIC, SUM, count, "How many did.")                                                    \
	X(TEXT, FIRST, meaning, "Why, in a sentence.")
LAYOUT_DEFINE(routes, ROUTES_COLUMNS);

static const struct route_text reasons[] = {
	{"replica",  "read",              COUNTER_replica_count,
         "proven to read only, or in a READ ONLY transaction"                                               },
	{ "primary", "observed",          COUNTER_observed_count,
         "would go to a replica, but route_mode = observe"                                                  },
	{ "primary", "observed: lost",    COUNTER_observed_lost_count,
         "of these, their replica was gone before the answer came"                                          },
	{ "primary", "write",             COUNTER_routed_write_count,     "not proven to read only"         },
	{ "primary", "hint",              COUNTER_routed_hint_count,      "its comment asks for the primary"},
	{ "primary", "fence",             COUNTER_routed_fenced_count,
         "reads of what no replica has replayed yet"							},
	{ "primary", "no replica",        COUNTER_routed_unfit_count,
         "reads only, but no replica will do"							       },
	{ "primary", "promoted",          COUNTER_promoted_count,
         "a transaction that read on a replica before, up to its first write (promote)"                     },
	{ "primary", "rescued: write",    COUNTER_rescued_write_count,
         "a replica refused it as a write; none of its shape, until DDL is seen"                            },
	{ "primary", "rescued: recovery", COUNTER_rescued_recovery_count,
         "not possible on a replica; none of its shape, until DDL is seen"                                  },
	{ "primary", "rescued: conflict", COUNTER_rescued_conflict_count,
         "cancelled on a replica, since it stood in the way of its recovery"                                },
	{ "primary", "rescued: lost",     COUNTER_rescued_lost_count,     "its replica went away"           },
	{ "replica", "not rescued",       COUNTER_unrescued_count,
         "failed there for one of these reasons, and could not be asked again"                              },
};

const struct route_text *route_text_of(unsigned counter)
{
	size_t i = 0;

	while (reasons[i].counter != counter)
		PGT_ASSERT(++i < PGT_NELEMS(reasons));
	return &reasons[i];
}

static void routes_row(struct table *t, const char *database, const struct counters *counters)
{
	for (size_t i = 0; i < PGT_NELEMS(reasons); i++) {
		const struct counter *counter = &counters_table[reasons[i].counter];

		table_add(t, &(struct routes_row){ .database = database,
						   .node = reasons[i].node,
						   .reason = reasons[i].reason,
						   .count = (int64_t)counter_get(counters, counter),
						   .meaning = reasons[i].meaning });
	}
}

static void routes_visit(struct worker *w, struct table *t)
{
	show_each_count(w, routes_row, t);
}

const struct show show_routes = { .shown = &routes_layout, .visit = routes_visit };
