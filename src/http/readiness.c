/* SPDX-License-Identifier: ISC
 *
 * readiness.c - whether clients should be sent here: a primary can be reached for each database.
 *
 * Known are the roles that the monitor has been told, and how the last attempt of each pool to
 * connect has ended.  Nothing is probed: a database that nobody has asked for yet is ready.
 */
#include "http/parts.h"
#include "route/nodes.h"
#include "worker/sets.h"

#include <stdlib.h>

#define READINESS_COLUMNS(X)                                                                       \
	X(TEXT, KEY, database, "Database; pgturnstile: the whole process.")                        \
	X(INT, MAX, reached, "1: somebody has a connection to its primary.")                       \
	X(INT, MAX, lost, "1: it has no primary.")                                                 \
	X(TEXT, FIRST, trouble, "Why not.")
LAYOUT_DEFINE(readiness, READINESS_COLUMNS);

static void group_state(struct group *group, struct table *t)
{
	int primary = node_set_primary(group->nodes);
	const struct pool *pool = primary < 0 ? NULL : &group->pools[primary];
	bool has_failed = pool && pool->retry_at && !pool->login_failed;

	if (pool)
		table_add(t, &(struct readiness_row){
				 .database = group->name,
				 .reached = pool_size_ready(pool) > 0 || pool->login_failed,
				 .trouble = has_failed ? pool->error.text : NULL });
}

static void readiness_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_state, t);
}

static void readiness_local(struct control *c, struct table *t)
{
	unsigned n;
	struct node_set **sets = node_sets_list(c->node_sets, &n);

	for (unsigned i = 0; i < n; i++) {
		if (node_set_primary(sets[i]) < 0)
			table_add(t, &(struct readiness_row){ .database = sets[i]->database,
							      .lost = 1,
							      .trouble = "there is no primary" });
		node_set_unref(sets[i]);
	}
	free(sets);
	if (c->shutdown != SHUTDOWN_NOT || c->suspended)
		table_add(t, &(struct readiness_row){ .database = PACKAGE_NAME,
						      .lost = 1,
						      .trouble = c->suspended ? "suspended"
									      : "shutting down" });
}

#define COLUMN(field) (offsetof(struct readiness_row, field) / 8)

static void readiness_derive(struct control *c PGT_UNUSED, const struct table *gathered,
			     struct table *shown)
{
	for (unsigned row = 0; row < gathered->nrows; row++)
		if (table_number(gathered, row, COLUMN(lost)) == 1 ||
		    (table_text(gathered, row, COLUMN(trouble)) &&
		     !table_number(gathered, row, COLUMN(reached))))
			table_copy_row(shown, gathered, row);
}

const struct show show_readiness = { .shown = &readiness_layout,
				     .visit = readiness_visit,
				     .local = readiness_local,
				     .derive = readiness_derive };

void readiness_put(struct buf *out, const struct table *t, bool with_names)
{
	buf_printf(out, "%s\n", t->nrows ? "not ready" : "ready");
	for (unsigned row = 0; with_names && row < t->nrows; row++)
		buf_printf(out, "%s: %s\n", table_text(t, row, COLUMN(database)),
			   table_text(t, row, COLUMN(trouble)));
}
