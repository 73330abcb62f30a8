/* SPDX-License-Identifier: ISC
 *
 * show_advice.c - SHOW ADVICE: habits of applications that cost much, and what would save it.
 *
 * Made of what is counted for each shape of statement when it is asked for; nothing is kept here.
 */
#include "admin/parts.h"

#include <inttypes.h>

/* Fewer statements of a tenant or database say nothing of its habits. */
#define STATEMENTS_MIN 100

#define ADVICE_COLUMNS(X)                                                                          \
	X(TEXT, KEY, tenant, "Tenant; empty without one.")                                         \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(TEXT, KEY, advice, "Of what kind it is: docs/insight.md.")                               \
	X(TEXT, KEY, id, "Of the statement's text, as in SHOW QUERIES; empty: of none.")           \
	X(BIGINT, SUM, times, "How often that was seen.")                                          \
	X(BIGINT, SUM, count, "Statements, or rows of no_limit, in all of these.")                 \
	X(NUMERIC, SUM, time, "Microseconds that all of it took.")                                 \
	X(NUMERIC, SUM, saves, "Microseconds of them that could be saved; NULL: nobody knows.")    \
	X(TEXT, FIRST, query, "The statement, each literal as a question mark.")                   \
	X(TEXT, FIRST, what, "What to do about it.")
LAYOUT_DEFINE(advice, ADVICE_COLUMNS);

#define COLUMN_OF(field) ((unsigned)(offsetof(struct advice_row, field) / 8))

/* How much of the time would be saved. */
enum saving { SAVES_UNKNOWN, SAVES_ALL, SAVES_REPEATS };

struct kind {
	const char *name;
	enum saving saving;
	const char *what;
};

static const struct kind n_plus_one = { "n_plus_one", SAVES_REPEATS,
					"A session runs it again and again with other values. A "
					"join, or one statement with IN (...) "
					"or = ANY($1), asks once." };
static const struct kind repeated_read = { "repeated_read", SAVES_REPEATS,
					   "A session asks the same again and again with the same "
					   "values. Who remembers the answer asks "
					   "once." };
static const struct kind idle_transaction = {
	"idle_transaction", SAVES_ALL,
	"Behind it a transaction stands still and keeps a server. Do other work before BEGIN or "
	"after "
	"COMMIT; idle_transaction_timeout ends such sessions."
};
static const struct kind no_limit = {
	"no_limit", SAVES_UNKNOWN,
	"It has no LIMIT and gives very many rows at once. Ask for pages, or FETCH from a cursor."
};
static const struct kind tenant_here = {
	"set_tenant_here", SAVES_UNKNOWN,
	"SET of the tenant's id, answered here without a server. With user_suffix or startup in "
	"tenant_by a connection says it once, and not before each query."
};
static const struct kind set_kinds[] = {
	[QUERY_SETS_TENANT] = {"set_tenant",   SAVES_ALL,
                               "The tenant's id is sent to the server with each query. tenant_by "
				"= set "
				"and tenant_switch = yes answer it here; with user_suffix or "
				"startup in "
				"tenant_by it need not be sent at all."        },
	[QUERY_SETS_TIMEOUT] = { "set_timeout", SAVES_ALL,
                               "statement_timeout of a tier, tenant or lane needs no "
				 "statement."                                  },
	[QUERY_SETS_OTHER] = { "set_often",   SAVES_ALL,
			       "Settings follow a session from server to server: once for each "
			       "session, or in its startup options, is enough."},
};

static int64_t saved(const struct kind *kind, int64_t times, int64_t count, int64_t time)
{
	if (kind->saving == SAVES_UNKNOWN)
		return NUMBER_NULL;
	return kind->saving == SAVES_ALL ? time : time - time / count * times;
}

static void add(struct table *t, const struct query *x, const struct kind *kind, int64_t times,
		int64_t count, int64_t time)
{
	table_add(t, &(struct advice_row){ .tenant = x->about.tenant,
					   .database = x->about.database,
					   .advice = kind->name,
					   .id = x->about.look->normal.id,
					   .times = times,
					   .count = count,
					   .time = time,
					   .saves = saved(kind, times, count, time),
					   .query = x->about.look->text,
					   .what = kind->what });
}

static void add_habit(struct table *t, const struct query *x, const struct kind *kind,
		      const struct query_habit *habit)
{
	if (habit->times)
		add(t, x, kind, (int64_t)habit->times, (int64_t)habit->count, habit->time);
}

/* Statements of whoever's it is. */
static uint64_t calls_of(const struct queries *q, uint64_t whose)
{
	uint64_t calls = 0;

	for (unsigned i = 1; i <= q->n; i++)
		calls += q->at[i].key.whose == whose ? q->at[i].calls : 0;
	return calls;
}

static bool is_share(const struct settings *set, uint64_t part, uint64_t all)
{
	return part >= STATEMENTS_MIN && part * 100 >= all * set->advice_set_share;
}

static void query_rows(struct relay *r, struct query *x, struct table *t)
{
	const struct settings *set = &r->config->global;

	query_settle(&r->queries, x);
	add_habit(t, x, &n_plus_one, &x->loops);
	add_habit(t, x, &repeated_read, &x->repeats);
	add_habit(t, x, &idle_transaction, &x->idles);
	if (set->advice_rows && x->about.reads && !x->about.look->normal.is_limited &&
	    x->most_rows >= set->advice_rows)
		add(t, x, &no_limit, (int64_t)x->calls, (int64_t)x->rows, x->time);
	if (x->about.sets && is_share(set, x->calls, calls_of(&r->queries, x->key.whose)))
		add(t, x, &set_kinds[x->about.sets], (int64_t)x->calls, (int64_t)x->calls, x->time);
}

static void group_rows(struct group *group, struct table *t)
{
	const struct counters *n = &group->counters;
	uint64_t all = n->query_count + n->tenant_set_count;

	if (is_share(&group->config->global, n->tenant_set_count, all))
		table_add(t, &(struct advice_row){ .tenant = tenant_name(group->tenant),
						   .database = group->name,
						   .advice = tenant_here.name,
						   .id = "",
						   .times = (int64_t)n->tenant_set_count,
						   .count = (int64_t)n->tenant_set_count,
						   .saves = NUMBER_NULL,
						   .query = "",
						   .what = tenant_here.what });
}

static void advice_visit(struct worker *w, struct table *t)
{
	struct relay *r = &w->relay;

	if (!r->has_insight)
		return;
	for (unsigned i = 1; i <= r->queries.n; i++)
		query_rows(r, &r->queries.at[i], t);
	show_each_group(w, group_rows, t);
}

/* What costs most first. */
static void advice_derive(struct control *c PGT_UNUSED, const struct table *gathered,
			  struct table *shown)
{
	table_absorb(shown, gathered);
	table_order(shown, COLUMN_OF(time));
}

static void advice_arrange(const struct command *cmd, struct table *t)
{
	show_of_tenant(cmd, t, COLUMN_OF(tenant));
}

const struct show show_advice = { .shown = &advice_layout,
				  .visit = advice_visit,
				  .derive = advice_derive,
				  .arrange = advice_arrange };
