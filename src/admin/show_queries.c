/* SPDX-License-Identifier: ISC
 *
 * show_queries.c - SHOW QUERIES and SLOW: what statements cost by their shape, and which took long.
 */
#include "admin/parts.h"

/* Of those that pages show. */
#define TOP 50

#define QUERY_COLUMNS(X)                                                                           \
	X(TEXT, KEY, tenant, "Tenant; empty without one.")                                         \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(TEXT, KEY, id, "Of its text: the same in SHOW SLOW and ADVICE, and after a restart.")    \
	X(BIGINT, SUM, calls, "Times that it was run.")                                            \
	X(BIGINT, SUM, errors, "Of them, with an error.")                                          \
	X(NUMERIC, SUM, time, "Microseconds that its clients have waited, all of them.")           \
	X(NUMERIC, FIRST, avg, "The same on average.")                                             \
	X(NUMERIC, MAX, max, "The longest.")                                                       \
	X(BIGINT, SUM, rows, "Rows that it gave or changed, as the server counts them.")           \
	X(BIGINT, SUM, bytes, "Bytes of its answers; what of a batch: docs/insight.md.")           \
	X(BIGINT, SUM, on_replica, "Times that a replica ran it.")                                 \
	X(INT, FIRST, node, "Number of the node that ran it last, as in SHOW NODES.")              \
	X(NUMERIC, SUM, missed,                                                                    \
	  "Microseconds, at most, that it took while it was not followed; see "                    \
	  "query_insight_size.")                                                                   \
	X(TEXT, FIRST, query, "Its text, each literal as a question mark.")
LAYOUT_DEFINE(query, QUERY_COLUMNS);

#define COLUMN_OF(row, field) ((unsigned)(offsetof(struct row, field) / 8))

static void queries_visit(struct worker *w, struct table *t)
{
	const struct queries *q = &w->relay.queries;

	for (unsigned i = 1; i <= q->n; i++) {
		const struct query *x = &q->at[i];

		if (!x->calls)
			continue;
		table_add(t, &(struct query_row){ .tenant = x->about.tenant,
						  .database = x->about.database,
						  .id = x->about.look->normal.id,
						  .calls = (int64_t)x->calls,
						  .errors = (int64_t)x->errors,
						  .time = x->time,
						  .avg = NUMBER_NULL,
						  .max = x->longest,
						  .rows = (int64_t)x->rows,
						  .bytes = (int64_t)x->bytes,
						  .on_replica = (int64_t)x->on_replica,
						  .node = x->node,
						  .missed = (int64_t)x->missed,
						  .query = x->about.look->text });
	}
}

static void queries_derive(struct control *c PGT_UNUSED, const struct table *gathered,
			   struct table *shown)
{
	const unsigned time = COLUMN_OF(query_row, time), calls = COLUMN_OF(query_row, calls);

	table_absorb(shown, gathered);
	for (unsigned row = 0; row < shown->nrows; row++)
		table_set_number(shown, row, COLUMN_OF(query_row, avg),
				 table_number(shown, row, time) / table_number(shown, row, calls));
	table_order(shown, time);
}

static void queries_arrange(const struct command *cmd, struct table *t)
{
	show_of_tenant(cmd, t, COLUMN_OF(query_row, tenant));
	for (unsigned i = 0; *cmd->value && i < t->layout->n; i++)
		if (!strcasecmp(t->layout->columns[i].name, cmd->value))
			table_order(t, i);
}

const struct show show_queries = { .shown = &query_layout,
				   .visit = queries_visit,
				   .derive = queries_derive,
				   .arrange = queries_arrange };

static void top_derive(struct control *c, const struct table *gathered, struct table *shown)
{
	queries_derive(c, gathered, shown);
	table_cut(shown, TOP);
}

const struct show show_top_queries = { .shown = &query_layout,
				       .visit = queries_visit,
				       .derive = top_derive };

/* ---- slow ones --------------------------------------------------------------------------------
 */

#define SLOW_COLUMNS(X)                                                                            \
	X(TIME, FIRST, at, "When it had ended.")                                                   \
	X(NUMERIC, FIRST, duration, "Microseconds that its client waited.")                        \
	X(TEXT, FIRST, tenant, "Tenant; empty without one.")                                       \
	X(TEXT, FIRST, database, "Database, as clients say it.")                                   \
	X(TEXT, FIRST, user, "User, as the client said it.")                                       \
	X(BIGINT, FIRST, client, "Number of the client, as in SHOW CLIENTS.")                      \
	X(INT, FIRST, node, "Number of the node, as in SHOW NODES.")                               \
	X(BIGINT, FIRST, rows, "Rows that it gave or changed.")                                    \
	X(BIGINT, FIRST, bytes, "Bytes of its answer, as in SHOW QUERIES.")                        \
	X(TEXT, FIRST, id, "Of its text: the same in SHOW QUERIES.")                               \
	X(TEXT, FIRST, query, "Its text, each literal as a question mark.")                        \
	X(TEXT, FIRST, statement, "As it was sent; NULL without slow_query_literals.")
LAYOUT_DEFINE(slow, SLOW_COLUMNS);

/* What is not for everybody's eyes stands last. */
static const struct layout slow_public_layout = { slow_columns, PGT_NELEMS(slow_columns) - 1 };

static void slow_visit(struct worker *w, struct table *t)
{
	const struct slow *x;

	for (unsigned i = 0; (x = slow_log_at(&w->relay.slow_log, i)); i++)
		table_add(t, &(struct slow_row){ .at = x->at,
						 .duration = x->took,
						 .tenant = x->tenant,
						 .database = x->database,
						 .user = x->user,
						 .client = (int64_t)x->client,
						 .node = x->node,
						 .rows = (int64_t)x->rows,
						 .bytes = (int64_t)x->bytes,
						 .id = x->id,
						 .query = x->text,
						 .statement = *x->as_sent ? x->as_sent : NULL });
}

/* The last first. */
static void slow_derive(struct control *c PGT_UNUSED, const struct table *gathered,
			struct table *shown)
{
	table_absorb(shown, gathered);
	table_order(shown, COLUMN_OF(slow_row, at));
}

static void slow_arrange(const struct command *cmd, struct table *t)
{
	show_of_tenant(cmd, t, COLUMN_OF(slow_row, tenant));
}

const struct show show_slow = {
	.shown = &slow_layout, .visit = slow_visit, .derive = slow_derive, .arrange = slow_arrange
};

const struct show show_slow_queries = { .shown = &slow_public_layout,
					.gathered = &slow_public_layout,
					.visit = slow_visit,
					.derive = slow_derive };
