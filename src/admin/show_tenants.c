/* SPDX-License-Identifier: ISC
 *
 * show_tenants.c - SHOW TENANTS and SHOW TIERS.
 *
 * What a tenant may do is said by the configuration, what it does is gathered from threads, and its
 * bucket, its quota and what threads have forgotten stand in the record that spans them.
 */
#include "admin/parts.h"
#include "base/mem.h"
#include "config/roster.h"

#include <stdlib.h>

#define TENANT_COLUMNS(X)                                                                          \
	X(TEXT, KEY, name, "Name of the tenant.")                                                  \
	X(TEXT, FIRST, business_id, "Its id, as row-level security sees it.")                      \
	X(TEXT, FIRST, tier, "Its tier, when it has one.")                                         \
	X(INT, SUM, cl_active, "Clients that do not wait.")                                        \
	X(INT, SUM, cl_waiting, "Clients that wait for a server or for the rate limit.")           \
	X(INT, SUM, sv_active, "Servers that a client has.")                                       \
	X(INT, SUM, sv_idle, "Servers ready to be given out.")                                     \
	X(BIGINT, SUM, statements, "Statements that were answered.")                               \
	X(BIGINT, SUM, on_replica, "Transactions that were sent to a replica.")                    \
	X(BIGINT, SUM, pinned, "Sessions that had to keep their server, so far.")                  \
	X(BIGINT, SUM, cancels, "Cancel requests.")                                                \
	X(BIGINT, SUM, limited, "Transactions refused by a limit; SHOW LIMITS says by which.")     \
	X(BIGINT, SUM, warned, "Statements over a limit that were let through with a notice.")     \
	X(BIGINT, SUM, refused, "Statements refused because they would change the tenant's id.")   \
	X(BIGINT, SUM, clamped, "Statements with a timeout that was lowered to the tier's.")       \
	X(TEXT, FIRST, rate, "Statements in a period that it may send; 0: no limit.")              \
	X(BIGINT, FIRST, burst, "Statements that it may send at once.")                            \
	X(BIGINT, FIRST, tokens, "Of them left; NULL: no limit.")                                  \
	X(TEXT, FIRST, quota, "Statements in an hour, in a day; 0: no limit.")                     \
	X(BIGINT, FIRST, quota_left, "Of them left, of the scarcer; NULL: no limit.")              \
	X(TEXT, FIRST, statement_timeout, "Ceiling of statement_timeout in seconds; 0: none.")     \
	X(INT, FIRST, max_client_conn, "Clients that it may have; 0: no limit.")                   \
	X(TEXT, FIRST, allow_from, "Networks that it may come from; NULL: all.")                   \
	X(INT, MAX, readonly,                                                                      \
	  "1: READONLY holds for it; not counted is that for all or a database.")                  \
	X(TEXT, FIRST, maintenance, "The message of its MAINTENANCE; NULL: it is off.")            \
	X(INT, MAX, paused, "1: PAUSE TENANT holds it.")                                           \
	X(NUMERIC, FIRST, query_p50,                                                               \
	  "Microseconds that half of its queries of the last minute did not exceed.")              \
	X(NUMERIC, FIRST, query_p95, "The same of 95 %.")                                          \
	X(NUMERIC, FIRST, query_p99, "The same of 99 %.")                                          \
	X(NUMERIC, FIRST, query_max, "The longest of them.")                                       \
	X(NUMERIC, FIRST, hour_p50, "The same of the queries of the last hour.")                   \
	X(NUMERIC, FIRST, hour_p95, "The same of 95 % of these.")                                  \
	X(NUMERIC, FIRST, hour_p99, "The same of 99 %.")                                           \
	X(NUMERIC, FIRST, hour_max, "The longest of them.")                                        \
	X(TEXT, HISTOGRAM, minute, "The queries of the last minute.")                              \
	X(TEXT, HISTOGRAM, hour, "Those of the last hour.")
LAYOUT_DEFINE(tenant, TENANT_COLUMNS);

/* The last columns are for those before them, and only gathered. */
static const struct layout shown_layout = { tenant_columns, PGT_NELEMS(tenant_columns) - 2 };

#define COLUMN_OF(field) (offsetof(struct tenant_row, field) / 8)

/* A row to which only what happens in groups is added; limits come from tenants_local(). */
static struct tenant_row row_of(const char *name)
{
	return (struct tenant_row){ .name = name,
				    .burst = NUMBER_NULL,
				    .tokens = NUMBER_NULL,
				    .quota_left = NUMBER_NULL,
				    .max_client_conn = NUMBER_NULL,
				    .query_p50 = NUMBER_NULL,
				    .query_p95 = NUMBER_NULL,
				    .query_p99 = NUMBER_NULL,
				    .query_max = NUMBER_NULL,
				    .hour_p50 = NUMBER_NULL,
				    .hour_p95 = NUMBER_NULL,
				    .hour_p99 = NUMBER_NULL,
				    .hour_max = NUMBER_NULL };
}

static void add_counts(struct tenant_row *row, const uint64_t counts[NTENANT_COUNTS])
{
	row->statements = (int64_t)counts[TENANT_STATEMENTS];
	row->on_replica = (int64_t)counts[TENANT_ON_REPLICA];
	row->pinned = (int64_t)counts[TENANT_PINNED];
	row->cancels = (int64_t)counts[TENANT_CANCELS];
	row->refused = (int64_t)counts[TENANT_REFUSED];
	row->clamped = (int64_t)counts[TENANT_CLAMPED];
}

static void add_client(const struct client *c, struct table *t)
{
	struct tenant_row row = row_of(tenant_name(c->tenant));

	if (show_client_doing(c) == CLIENT_IS_WAITING)
		row.cl_waiting = 1;
	else
		row.cl_active = 1;
	if (c->tenant)
		table_add(t, &row);
}

/* Each counts for whose id it carries. */
static void add_servers(const struct pool *pool, enum slot_state state, struct table *t)
{
	LIST_FOREACH (at, &pool->slots[state]) {
		const struct server *s =
		    container_of(container_of(at, struct slot, link), struct server, slot);
		struct tenant_row row = row_of(tenant_name(s->context));

		row.sv_active = state == SLOT_ACTIVE;
		row.sv_idle = state == SLOT_IDLE;
		if (*row.name)
			table_add(t, &row);
	}
}

static void group_rows(struct group *group, struct table *t)
{
	LIST_FOREACH (at, &group->clients)
		add_client(container_of(at, struct client, link), t);
	GROUP_FOREACH_POOL (pool, group) {
		add_servers(pool, SLOT_ACTIVE, t);
		add_servers(pool, SLOT_IDLE, t);
	}
}

/* What it did on one thread. */
static void add_tenant(const struct tenant *tenant, struct table *t)
{
	struct tenant_row row = row_of(tenant->name);
	struct buf minute = { 0 }, hour = { 0 };

	row.business_id = tenant->business_id;
	row.minute = show_histogram(&tenant->times, LATENCY_query, LATENCY_MINUTE, &minute);
	row.hour = show_histogram(&tenant->times, LATENCY_query, LATENCY_HOUR, &hour);
	add_counts(&row, tenant->counts);
	table_add(t, &row);
	buf_fini(&minute);
	buf_fini(&hour);
}

static void tenants_visit(struct worker *w, struct table *t)
{
	const struct hmap *tenants = &w->relay.tenants.by_name;

	show_each_group(w, group_rows, t);
	for (struct hlink *l = hmap_walk(tenants, NULL); l; l = hmap_walk(tenants, l))
		add_tenant(container_of(l, struct tenant, link), t);
}

static void fill_limits(const char *name, const struct settings *set, struct limit_now now,
			struct tenant_row *row)
{
	const struct limit_rules rules = settings_limit_rules(set);
	struct shared *s = shared_find(SHARED_TENANT, slice_str(name));
	struct limit_state unused = { 0 };
	struct limit_state *state = s ? &s->limit : &unused;
	struct limit_tally *tally = s ? atomic_load(&s->tally) : NULL;
	uint64_t counts[NTENANT_COUNTS];

	row->burst = (int64_t)(set->burst ? set->burst : set->rate.count);
	if (set->rate.count)
		row->tokens = limit_tokens(state->full_at, &rules.rate, now.monotonic);
	if (limit_has_quota(&rules))
		row->quota_left = (int64_t)limit_quota_left(state, &rules, now.wall);
	for (unsigned kind = 0; tally && kind < LIMIT_CLIENTS; kind++) {
		row->limited += (int64_t)tally->refused[kind];
		row->warned += (int64_t)tally->warned[kind];
	}
	row->max_client_conn = set->tenant_max_client_conn;
	row->allow_from = *set->allow_from ? set->allow_from : NULL;
	for (unsigned i = 0; s && i < NTENANT_COUNTS; i++)
		counts[i] = atomic_load(&s->counts[i]);
	if (s)
		add_counts(row, counts);
	shared_put(s);
}

static void tenant_limits(struct control *c, const char *name, const struct settings *set,
			  struct limit_now now, struct table *t)
{
	const struct tenant_conf *conf = config_tenant_by_name(c->config, slice_str(name));
	const struct tier_conf *tier = conf ? conf->tier : c->config->unknown_tenant_tier;
	struct buf rate = { 0 }, quota = { 0 }, timeout = { 0 };
	struct tenant_row row = row_of(name);

	row.business_id = conf ? conf->business_id : NULL;
	row.tier = tier ? tier->name : NULL;
	row.rate = show_setting(SETTING_rate, set, &rate);
	row.quota = show_setting(SETTING_quota, set, &quota);
	row.statement_timeout = show_setting(SETTING_statement_timeout, set, &timeout);
	row.readonly = set->readonly;
	row.maintenance = *set->maintenance ? set->maintenance : NULL;
	row.paused = set->paused;
	fill_limits(name, set, now, &row);
	table_add(t, &row);
	buf_fini(&rate);
	buf_fini(&quota);
	buf_fini(&timeout);
}

static void collect_name(void *arg, struct shared *s)
{
	buf_put_cstr(arg, s->name);
}

/* Calls visit for those of the file, then for those of the database. */
static void each_tenant(struct control *c,
			void (*visit)(struct control *c, const struct tenant_conf *tenant,
				      void *arg),
			void *arg)
{
	const struct roster *roster = c->config->roster;

	for (size_t i = 0; i < c->config->ntenants; i++)
		visit(c, c->config->tenants[i], arg);
	for (size_t i = 0; roster && i < roster_count(roster); i++)
		visit(c, roster_at(roster, i), arg);
}

static void add_one(struct control *c, const char *name, const struct tenant_conf *conf,
		    show_tenant_fn *add, struct limit_now now, struct table *t)
{
	struct settings set;

	settings_resolve(c->config, NULL, NULL, conf, conf ? NULL : c->config->unknown_tenant_tier,
			 &set);
	config_changes_apply(c->config, SCOPE_TENANT, slice_str(name), &set);
	add(c, name, &set, now, t);
}

struct adding {
	show_tenant_fn *add;
	struct limit_now now;
	struct table *t;
};

static void add_known(struct control *c, const struct tenant_conf *tenant, void *arg)
{
	const struct adding *a = arg;

	add_one(c, tenant->name, tenant, a->add, a->now, a->t);
}

/* Of a histogram that was gathered, from the column at on of the last row. */
static void set_figures(struct table *t, unsigned at, const char *histogram)
{
	int64_t figures[NFIGURES];

	show_figures_of(histogram, figures);
	for (unsigned i = 0; i < NFIGURES; i++)
		table_set_number(t, t->nrows - 1, at + i, figures[i]);
}

/* Threads have told what it does. */
static void join_gathered(const struct table *gathered, const char *name, struct table *t)
{
	unsigned row = table_search(gathered, 0, name);

	if (row == gathered->nrows)
		return;
	table_copy_row(t, gathered, row);
	set_figures(t, COLUMN_OF(query_p50), table_text(gathered, row, COLUMN_OF(minute)));
	set_figures(t, COLUMN_OF(hour_p50), table_text(gathered, row, COLUMN_OF(hour)));
}

/* gathered: what threads have told, or NULL. */
static void add_unknown(struct control *c, const struct table *gathered, const struct adding *a)
{
	struct buf names = { 0 };
	const char *name;

	shared_visit(SHARED_TENANT, collect_name, &names);
	name = buf_peek(&names).p;
	for (size_t left = buf_len(&names), n; left; left -= n, name += n) {
		n = strlen(name) + 1;
		if (config_tenant_by_name(c->config, slice_of(name, n - 1)))
			continue;
		add_one(c, name, NULL, a->add, a->now, a->t);
		if (gathered)
			join_gathered(gathered, name, a->t);
	}
	buf_fini(&names);
}

void show_each_tenant(struct control *c, show_tenant_fn *add, struct table *t)
{
	struct adding adding = {
		add, {loop_now(c->loop), clock_wall()},
                 t
	};

	each_tenant(c, add_known, &adding);
	add_unknown(c, NULL, &adding);
}

/* Rows that are made at once. */
#define BATCH 256

static const struct tenant_conf *known_at(const struct config *config, size_t i)
{
	size_t nroster = config->roster ? roster_count(config->roster) : 0;

	if (i < config->ntenants)
		return config->tenants[i];
	i -= config->ntenants;
	return i < nroster ? roster_at(config->roster, i) : NULL;
}

/* In the order of the configuration; at the end those that were let in without standing there. */
static bool tenants_more(struct control *c, struct show_rest *rest, struct table *t)
{
	struct adding adding = {
		tenant_limits, {loop_now(c->loop), clock_wall()},
                 t
	};
	const struct tenant_conf *tenant = NULL;

	for (size_t end = rest->at + BATCH; rest->at < end; rest->at++) {
		tenant = known_at(rest->config, rest->at);
		if (!tenant)
			break;
		add_known(c, tenant, &adding);
		join_gathered(&rest->gathered, tenant->name, t);
	}
	if (!tenant)
		add_unknown(c, &rest->gathered, &adding);
	table_merge(t);
	return tenant != NULL;
}

const struct show show_tenants = { .shown = &shown_layout,
				   .gathered = &tenant_layout,
				   .visit = tenants_visit,
				   .more = tenants_more };

/* ---- those that have sent most ----------------------------------------------------------------
 */

#define TOP_COLUMNS(X)                                                                             \
	X(TEXT, KEY, name, "Name of the tenant.")                                                  \
	X(BIGINT, SUM, statements, "Statements that were answered.")
LAYOUT_DEFINE(top, TOP_COLUMNS);
enum { TOP_NAME, TOP_STATEMENTS };

static void top_visit(struct worker *w, struct table *t)
{
	const struct hmap *tenants = &w->relay.tenants.by_name;

	for (struct hlink *l = hmap_walk(tenants, NULL); l; l = hmap_walk(tenants, l)) {
		const struct tenant *tenant = container_of(l, struct tenant, link);

		table_add(t, &(struct top_row){ tenant->name,
						(int64_t)tenant->counts[TENANT_STATEMENTS] });
	}
}

/* On threads that have it now, and on those that have forgotten it. */
static int64_t statements_of(const struct table *gathered, unsigned row)
{
	int64_t statements = table_number(gathered, row, TOP_STATEMENTS);
	struct shared *s =
	    shared_find(SHARED_TENANT, slice_str(table_text(gathered, row, TOP_NAME)));

	if (s)
		statements += (int64_t)atomic_load(&s->counts[TENANT_STATEMENTS]);
	shared_put(s);
	return statements;
}

/* Of tenants that a thread knows: that is, that are connected, or were not long ago. */
static void top_derive(struct control *c, const struct table *gathered, struct table *shown)
{
	for (unsigned row = 0; row < gathered->nrows; row++)
		table_add(shown, &(struct top_row){ table_text(gathered, row, TOP_NAME),
						    statements_of(gathered, row) });
	table_order(shown, TOP_STATEMENTS);
	table_cut(shown, c->config->global.metrics_tenants);
	table_merge(shown);
}

const struct show show_top_names = { .shown = &top_layout,
				     .visit = top_visit,
				     .derive = top_derive };

static bool is_top(const struct table *names, const char *name)
{
	return table_search(names, TOP_NAME, name) < names->nrows;
}

static void top_tenants_visit(struct worker *w, const struct table *names, struct table *t)
{
	const struct hmap *tenants = &w->relay.tenants.by_name;
	struct table doing;

	table_init(&doing, t->layout);
	show_each_group(w, group_rows, &doing);
	for (unsigned row = 0; row < doing.nrows; row++)
		if (is_top(names, table_text(&doing, row, COLUMN_OF(name))))
			table_copy_row(t, &doing, row);
	table_fini(&doing);
	for (struct hlink *l = hmap_walk(tenants, NULL); l; l = hmap_walk(tenants, l)) {
		const struct tenant *tenant = container_of(l, struct tenant, link);

		if (is_top(names, tenant->name))
			add_tenant(tenant, t);
	}
}

static void top_tenants_derive(struct control *c, const struct table *gathered, struct table *shown)
{
	struct limit_now now = { loop_now(c->loop), clock_wall() };

	for (unsigned row = 0; row < gathered->nrows; row++) {
		const char *name = table_text(gathered, row, COLUMN_OF(name));

		add_one(c, name, config_tenant_by_name(c->config, slice_str(name)), tenant_limits,
			now, shown);
		join_gathered(gathered, name, shown);
	}
	table_merge(shown);
}

const struct show show_top_tenants = { .shown = &shown_layout,
				       .gathered = &tenant_layout,
				       .first = &show_top_names,
				       .visit_of = top_tenants_visit,
				       .derive = top_tenants_derive };

/* ---- tiers ------------------------------------------------------------------------------------
 */

#define TIER_COLUMNS(X)                                                                            \
	X(TEXT, KEY, name, "Name of the tier.")                                                    \
	X(INT, SUM, tenants, "Tenants of the configuration that are in it.")                       \
	X(TEXT, FIRST, rate, "Statements in a period; 0: no limit.")                               \
	X(BIGINT, FIRST, burst, "Statements at once.")                                             \
	X(TEXT, FIRST, quota, "Statements in an hour, in a day; 0: no limit.")                     \
	X(TEXT, FIRST, statement_timeout, "Ceiling of statement_timeout in seconds; 0: none.")     \
	X(INT, FIRST, pool_size, "Servers of a pool.")                                             \
	X(INT, FIRST, max_client_conn, "Clients of a tenant; 0: no limit.")                        \
	X(TEXT, FIRST, allow_from, "Networks that it may come from; NULL: all.")                   \
	X(INT, FIRST, weight, "Share in the queue of a shared pool.")
LAYOUT_DEFINE(tier, TIER_COLUMNS);

static void tier_row(struct control *c, const struct tier_conf *tier, unsigned ntenants,
		     struct table *t)
{
	struct buf rate = { 0 }, quota = { 0 }, timeout = { 0 };
	struct tier_row row = { .name = tier->name, .tenants = ntenants };
	struct settings set;

	settings_resolve(c->config, NULL, NULL, NULL, tier, &set);
	row.rate = show_setting(SETTING_rate, &set, &rate);
	row.burst = (int64_t)(set.burst ? set.burst : set.rate.count);
	row.quota = show_setting(SETTING_quota, &set, &quota);
	row.statement_timeout = show_setting(SETTING_statement_timeout, &set, &timeout);
	row.pool_size = set.default_pool_size;
	row.max_client_conn = set.tenant_max_client_conn;
	row.allow_from = *set.allow_from ? set.allow_from : NULL;
	row.weight = set.weight;
	table_add(t, &row);
	buf_fini(&rate);
	buf_fini(&quota);
	buf_fini(&timeout);
}

static void count_tenant(struct control *c PGT_UNUSED, const struct tenant_conf *tenant, void *arg)
{
	unsigned *counts = arg;

	if (tenant->tier)
		counts[tenant->tier->index]++;
}

static void tiers_local(struct control *c, struct table *t)
{
	const struct config *config = c->config;
	unsigned *counts = xcalloc(config->ntiers + 1, sizeof(*counts));

	each_tenant(c, count_tenant, counts);
	for (size_t i = 0; i < config->ntiers; i++)
		tier_row(c, config->tiers[i], counts[i], t);
	free(counts);
}

const struct show show_tiers = { .shown = &tier_layout, .local = tiers_local };
