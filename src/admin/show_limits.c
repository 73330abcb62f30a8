/* SPDX-License-Identifier: ISC
 *
 * show_limits.c - SHOW LIMITS: a row for each limit of each tenant.
 *
 * What is allowed is said by the configuration and the console, the rest by the record that spans
 * threads, so no worker is asked.
 */
#include "admin/parts.h"

#define LIMIT_COLUMNS(X)                                                                           \
	X(TEXT, KEY, tenant, "Name of the tenant.")                                                \
	X(TEXT, KEY, limit, "The limit, as refusals name it.")                                     \
	X(TEXT, FIRST, allowed, "What is allowed.")                                                \
	X(BIGINT, FIRST, used,                                                                     \
	  "Of it used now: of a quota in this hour or day, of a bucket's tokens (statements, "     \
	  "microseconds, bytes), or how many there are.")                                          \
	X(BIGINT, FIRST, left, "Of it left now; below zero: a debt.")                              \
	X(INT, FIRST, waiting, "Clients that wait for it.")                                        \
	X(BIGINT, FIRST, refused, "Transactions, or logins, that were refused so far.")            \
	X(BIGINT, FIRST, warned, "Statements that were let through with a notice.")                \
	X(BIGINT, FIRST, next_ms,                                                                  \
	  "Milliseconds until a transaction may start; 0: now; NULL: when another one ends.")      \
	X(INT, FIRST, changed, "1: SET TENANT has changed it.")
LAYOUT_DEFINE(limit, LIMIT_COLUMNS);

static const enum setting_id setting_of[NLIMITS] = {
	[LIMIT_RATE] = SETTING_rate,
	[LIMIT_HOUR] = SETTING_quota,
	[LIMIT_DAY] = SETTING_quota,
	[LIMIT_EXEC] = SETTING_exec_rate,
	[LIMIT_BYTES] = SETTING_bandwidth,
	[LIMIT_TRANSACTIONS] = SETTING_max_transactions,
	[LIMIT_SERVERS] = SETTING_tenant_max_server_conn,
	[LIMIT_CLIENTS] = SETTING_tenant_max_client_conn,
};

/* One tenant's. */
struct view {
	const char *name;
	const struct settings *set;
	struct limit_rules rules;
	const struct limit_state *state;
	const struct shared *shared; /* NULL: it has never been here */
	struct limit_now now;
};

static int64_t ms_of(usec_t t)
{
	return (t + USEC_PER_MSEC - 1) / USEC_PER_MSEC;
}

/* False: there is no such limit. */
static bool fill_bucket(const struct view *v, const struct limit_bucket *bucket, int64_t full_at,
			struct limit_row *row)
{
	if (!bucket->count)
		return false;
	row->left = limit_tokens(full_at, bucket, v->now.monotonic);
	row->used = (int64_t)(bucket->size ? bucket->size : bucket->count) - row->left;
	row->next_ms = ms_of(limit_wait(full_at, bucket, v->now.monotonic));
	return true;
}

static bool fill_quota(const struct view *v, enum limit_period period, struct limit_row *row)
{
	int64_t max = (int64_t)v->rules.quota[period];

	if (!max)
		return false;
	row->used = (int64_t)limit_quota_used(v->state, period, v->now.wall);
	row->left = row->used < max ? max - row->used : 0;
	row->next_ms = row->left ? 0 : ms_of(limit_period_left(period, v->now.wall));
	return true;
}

static bool fill_count(unsigned max, unsigned used, struct limit_row *row)
{
	if (!max)
		return false;
	row->used = used;
	row->left = (int64_t)max - used;
	row->next_ms = row->left > 0 ? 0 : NUMBER_NULL;
	return true;
}

static bool fill_use(const struct view *v, enum limit_kind kind, struct limit_row *row)
{
	const struct settings *set = v->set;
	const struct shared *s = v->shared;

	switch (kind) {
	case LIMIT_RATE:
		return fill_bucket(v, &v->rules.rate, v->state->full_at, row);
	case LIMIT_EXEC:
		return fill_bucket(v, &v->rules.exec, v->state->exec_full_at, row);
	case LIMIT_BYTES:
		return fill_bucket(v, &v->rules.bytes, v->state->bytes_full_at, row);
	case LIMIT_HOUR:
		return fill_quota(v, LIMIT_PER_HOUR, row);
	case LIMIT_DAY:
		return fill_quota(v, LIMIT_PER_DAY, row);
	case LIMIT_TRANSACTIONS:
		return fill_count(set->max_transactions, s ? s->transactions : 0, row);
	case LIMIT_SERVERS:
		return fill_count(set->tenant_max_server_conn, s ? s->servers + s->held : 0, row);
	case LIMIT_CLIENTS:
		return fill_count(set->tenant_max_client_conn, s ? s->clients : 0, row);
	default:
		return false;
	}
}

static void add_limit(struct control *c, const struct view *v, enum limit_kind kind,
		      struct table *t)
{
	struct limit_tally *tally = v->shared ? atomic_load(&v->shared->tally) : NULL;
	struct limit_row row = { .tenant = v->name, .limit = limit_name(kind) };
	struct buf allowed = { 0 };

	if (!fill_use(v, kind, &row))
		return;
	row.allowed = show_setting(setting_of[kind], v->set, &allowed);
	if (tally) {
		row.waiting = tally->waiting[kind];
		row.refused = (int64_t)tally->refused[kind];
		row.warned = (int64_t)tally->warned[kind];
	}
	row.changed = config_change_find(c->config, SCOPE_TENANT, slice_str(v->name),
					 setting_of[kind]) != NULL;
	table_add(t, &row);
	buf_fini(&allowed);
}

static void add_tenant(struct control *c, const char *name, const struct settings *set,
		       struct limit_now now, struct table *t)
{
	static const struct limit_state unused;
	struct shared *s = shared_find(SHARED_TENANT, slice_str(name));
	struct view v = { .name = name,
			  .set = set,
			  .rules = settings_limit_rules(set),
			  .state = s ? &s->limit : &unused,
			  .shared = s,
			  .now = now };

	for (unsigned kind = 0; kind < NLIMITS; kind++)
		add_limit(c, &v, kind, t);
	shared_put(s);
}

static void limits_local(struct control *c, struct table *t)
{
	show_each_tenant(c, add_tenant, t);
}

const struct show show_limits = { .shown = &limit_layout, .local = limits_local };
