/* SPDX-License-Identifier: ISC
 *
 * show_stats.c - SHOW STATS, STATS_TOTALS, STATS_AVERAGES, TOTALS, SAVINGS, and the samples behind
 * averages.
 *
 * All of them are made of one gathered table, the counters of each database.  Averages are over the
 * time since the sample before last, so between one and two stats_periods, as in PgBouncer.
 */
#include "admin/parts.h"
#include "base/log.h"

#include <inttypes.h>

/* The first counters of counters.def are PgBouncer's, in the order of its columns. */
#define NSTATS                          (COUNTER_bind_count + 1)

#define COUNTER_ENTRY(name, unit, help) { #name, COLUMN_NUMERIC, MERGE_SUM, help },
static const struct column counters_columns[] = {
	{"database", COLUMN_TEXT, MERGE_KEY, "Database, as clients say it."},
	COUNTERS(COUNTER_ENTRY)
};
static const struct layout counters_layout = { counters_columns, PGT_NELEMS(counters_columns) };

static void add_counters(struct table *t, const char *database, const struct counters *counters)
{
	unsigned row = table_add_empty(t);

	table_set_text(t, row, 0, database);
	for (unsigned i = 0; i < NCOUNTERS; i++)
		table_set_number(t, row, 1 + i, (int64_t)counter_get(counters, &counters_table[i]));
}

static void counters_visit(struct worker *w, struct table *t)
{
	show_each_count(w, add_counters, t);
}

static void counters_local(struct control *c, struct table *t)
{
	add_counters(t, CONSOLE_NAME, &c->console->counters);
}

const struct show show_counters = { .shown = &counters_layout,
				    .visit = counters_visit,
				    .local = counters_local };

/* ---- averages ---------------------------------------------------------------------------------
 */

/* By what an average is divided: a counter, or the seconds that have passed. */
#define PER_SECOND -1
static const int average_per[NSTATS] = {
	[COUNTER_server_assignment_count] = PER_SECOND,
	[COUNTER_xact_count] = PER_SECOND,
	[COUNTER_query_count] = PER_SECOND,
	[COUNTER_bytes_received] = PER_SECOND,
	[COUNTER_bytes_sent] = PER_SECOND,
	[COUNTER_xact_time] = COUNTER_xact_count,
	[COUNTER_query_time] = COUNTER_query_count,
	[COUNTER_wait_time] = COUNTER_server_assignment_count,
	[COUNTER_client_parse_count] = PER_SECOND,
	[COUNTER_server_parse_count] = PER_SECOND,
	[COUNTER_bind_count] = PER_SECOND,
};

/* Totals and averages of one database, or of all. */
struct figures {
	int64_t total[NSTATS];
	int64_t average[NSTATS];
};

/* Adds the row's counters to sum. */
static void add_row(const struct table *t, unsigned row, int64_t sum[NSTATS])
{
	for (unsigned i = 0; i < NSTATS; i++)
		sum[i] += table_number(t, row, 1 + i);
}

static void add_database(const struct table *t, const char *database, int64_t sum[NSTATS])
{
	for (unsigned row = 0; row < t->nrows; row++)
		if (!strcmp(table_text(t, row, 0), database))
			add_row(t, row, sum);
}

/* A counter that went down belonged to a group that is gone. */
static int64_t growth(const struct figures *f, const int64_t old[NSTATS], unsigned i)
{
	return f->total[i] > old[i] ? f->total[i] - old[i] : 0;
}

static void set_averages(struct figures *f, const int64_t old[NSTATS], usec_t passed)
{
	for (unsigned i = 0; i < NSTATS; i++) {
		int64_t grown = growth(f, old, i);
		int64_t per = average_per[i] == PER_SECOND
				  ? passed
				  : growth(f, old, (unsigned)average_per[i]);

		if (average_per[i] == PER_SECOND)
			f->average[i] = per > 0 ? (int64_t)((double)grown * 1e6 / (double)per) : 0;
		else
			f->average[i] = per > 0 ? grown / per : 0;
	}
}

static usec_t since_sample(const struct console *console)
{
	return loop_now(console->control->loop) - console->older.at;
}

static void database_figures(const struct console *console, const struct table *now, unsigned row,
			     struct figures *f)
{
	int64_t old[NSTATS] = { 0 };

	*f = (struct figures){ 0 };
	add_row(now, row, f->total);
	add_database(&console->older.counters, table_text(now, row, 0), old);
	set_averages(f, old, since_sample(console));
}

static void all_figures(const struct console *console, const struct table *now, struct figures *f)
{
	const struct table *before = &console->older.counters;
	int64_t old[NSTATS] = { 0 };

	*f = (struct figures){ 0 };
	for (unsigned row = 0; row < now->nrows; row++)
		add_row(now, row, f->total);
	for (unsigned row = 0; row < before->nrows; row++)
		add_row(before, row, old);
	set_averages(f, old, since_sample(console));
}

/* ---- the four shows ---------------------------------------------------------------------------
 */

/* Calls X(type, merge, name, doc) for each of PgBouncer's counters. */
#define STAT_TOTALS(X)                                                                             \
	X(NUMERIC, SUM, total_server_assignment_count, "Times a server was given to a client.")    \
	X(NUMERIC, SUM, total_xact_count, "Transactions.")                                         \
	X(NUMERIC, SUM, total_query_count, "Queries.")                                             \
	X(NUMERIC, SUM, total_received, "Bytes from clients.")                                     \
	X(NUMERIC, SUM, total_sent, "Bytes to clients.")                                           \
	X(NUMERIC, SUM, total_xact_time, "Microseconds in transactions.")                          \
	X(NUMERIC, SUM, total_query_time, "Microseconds in queries.")                              \
	X(NUMERIC, SUM, total_wait_time, "Microseconds that clients waited for a server.")         \
	X(NUMERIC, SUM, total_client_parse_count, "Named statements that clients prepared.")       \
	X(NUMERIC, SUM, total_server_parse_count, "Statements prepared on servers for them.")      \
	X(NUMERIC, SUM, total_bind_count, "Uses of named statements.")
#define STAT_AVERAGES(X)                                                                           \
	X(NUMERIC, SUM, avg_server_assignment_count, "A second.")                                  \
	X(NUMERIC, SUM, avg_xact_count, "A second.")                                               \
	X(NUMERIC, SUM, avg_query_count, "A second.")                                              \
	X(NUMERIC, SUM, avg_recv, "A second.")                                                     \
	X(NUMERIC, SUM, avg_sent, "A second.")                                                     \
	X(NUMERIC, SUM, avg_xact_time, "A transaction.")                                           \
	X(NUMERIC, SUM, avg_query_time, "A query.")                                                \
	X(NUMERIC, SUM, avg_wait_time, "A server that was given to a client.")                     \
	X(NUMERIC, SUM, avg_client_parse_count, "A second.")                                       \
	X(NUMERIC, SUM, avg_server_parse_count, "A second.")                                       \
	X(NUMERIC, SUM, avg_bind_count, "A second.")
#define STATS_COLUMNS(X)                                                                           \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	STAT_TOTALS(X)                                                                             \
	STAT_AVERAGES(X)                                                                           \
	X(NUMERIC, SUM, total_requests, "total_query_count, by its name before PgBouncer 1.8.")
LAYOUT_DEFINE(stats, STATS_COLUMNS);
/* Without the last one, which is for older exporters. */
static const struct layout stats_now_layout = { stats_columns, 1 + 2 * NSTATS };

static void stats_derive(struct control *c, const struct table *gathered, struct table *shown)
{
	for (unsigned row = 0; row < gathered->nrows; row++) {
		unsigned at = table_add_empty(shown);
		struct figures f;

		database_figures(c->console, gathered, row, &f);
		table_set_text(shown, at, 0, table_text(gathered, row, 0));
		for (unsigned i = 0; i < NSTATS; i++) {
			table_set_number(shown, at, 1 + i, f.total[i]);
			table_set_number(shown, at, 1 + NSTATS + i, f.average[i]);
		}
		if (shown->layout == &stats_layout)
			table_set_number(shown, at, 1 + 2 * NSTATS, f.total[COUNTER_query_count]);
	}
}

#define GATHER_COUNTERS                                                                            \
	.gathered = &counters_layout, .visit = counters_visit, .local = counters_local
static const struct show older_stats = { .shown = &stats_layout,
					 GATHER_COUNTERS,
					 .derive = stats_derive };
const struct show show_stats = {
	.shown = &stats_now_layout, GATHER_COUNTERS, .derive = stats_derive, .older = &older_stats
};

/* The same columns as are gathered, as many as PgBouncer has. */
static const struct layout totals_layout = { counters_columns, 1 + NSTATS };

const struct show show_stats_totals = { .shown = &totals_layout,
					GATHER_COUNTERS,
					.derive = show_first_columns };

#define AVERAGES_COLUMNS(X)                                                                        \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(NUMERIC, SUM, server_assignment_count, "A second.")                                      \
	X(NUMERIC, SUM, xact_count, "A second.")                                                   \
	X(NUMERIC, SUM, query_count, "A second.")                                                  \
	X(NUMERIC, SUM, bytes_received, "A second.")                                               \
	X(NUMERIC, SUM, bytes_sent, "A second.")                                                   \
	X(NUMERIC, SUM, xact_time, "Microseconds a transaction.")                                  \
	X(NUMERIC, SUM, query_time, "Microseconds a query.")                                       \
	X(NUMERIC, SUM, wait_time, "Microseconds a server that was given to a client.")            \
	X(NUMERIC, SUM, avg_client_parse_count, "A second.")                                       \
	X(NUMERIC, SUM, avg_server_parse_count, "A second.")                                       \
	X(NUMERIC, SUM, avg_bind_count, "A second.")
LAYOUT_DEFINE(averages, AVERAGES_COLUMNS);

static void averages_derive(struct control *c, const struct table *gathered, struct table *shown)
{
	for (unsigned row = 0; row < gathered->nrows; row++) {
		unsigned at = table_add_empty(shown);
		struct figures f;

		database_figures(c->console, gathered, row, &f);
		table_set_text(shown, at, 0, table_text(gathered, row, 0));
		for (unsigned i = 0; i < NSTATS; i++)
			table_set_number(shown, at, 1 + i, f.average[i]);
	}
}

const struct show show_stats_averages = { .shown = &averages_layout,
					  GATHER_COUNTERS,
					  .derive = averages_derive };

#define SUM_COLUMNS(X)                                                                             \
	X(TEXT, FIRST, name, "total_ or avg_ and the name of a counter.")                          \
	X(NUMERIC, FIRST, value, "Its value over all databases.")
LAYOUT_DEFINE(sum, SUM_COLUMNS);

/* PgBouncer calls them otherwise here. */
static const char *const sum_names[NSTATS] = {
	[COUNTER_server_assignment_count] = "server_assignment_count",
	[COUNTER_xact_count] = "xact_count",
	[COUNTER_query_count] = "query_count",
	[COUNTER_bytes_received] = "client_bytes",
	[COUNTER_bytes_sent] = "server_bytes",
	[COUNTER_xact_time] = "xact_time",
	[COUNTER_query_time] = "query_time",
	[COUNTER_wait_time] = "wait_time",
	[COUNTER_client_parse_count] = "ps_client_parse_count",
	[COUNTER_server_parse_count] = "ps_server_parse_count",
	[COUNTER_bind_count] = "ps_bind_count",
};

static void add_sums(struct table *t, const char *prefix, const int64_t values[NSTATS])
{
	struct buf name = { 0 };

	for (unsigned i = 0; i < NSTATS; i++) {
		buf_clear(&name);
		buf_printf(&name, "%s%s", prefix, sum_names[i]);
		table_add(t, &(struct sum_row){ .name = buf_cstr(&name), .value = values[i] });
	}
	buf_fini(&name);
}

static void sums_derive(struct control *c, const struct table *gathered, struct table *shown)
{
	struct figures f;

	all_figures(c->console, gathered, &f);
	add_sums(shown, "total_", f.total);
	add_sums(shown, "avg_", f.average);
}

const struct show show_totals = { .shown = &sum_layout, GATHER_COUNTERS, .derive = sums_derive };

/* ---- savings ----------------------------------------------------------------------------------
 */

#define SAVINGS_COLUMNS(X)                                                                         \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(NUMERIC, SUM, asked, "Requests of clients that ended in a ReadyForQuery.")               \
	X(NUMERIC, SUM, begins_deferred, "BEGINs that did not go to a server at once.")            \
	X(NUMERIC, SUM, begins_late, "Of these, sent by themselves after begin_defer_max.")        \
	X(NUMERIC, SUM, empty_transactions,                                                        \
	  "COMMIT or ROLLBACK of a transaction that ran nothing.")                                 \
	X(NUMERIC, SUM, early_commits,                                                             \
	  "COMMITs that were acknowledged while on their way: early_commit. They are made.")       \
	X(NUMERIC, SUM, empty_queries, "Queries without a statement.")                             \
	X(NUMERIC, SUM, pings, "SELECT 1 while a server was at hand.")                             \
	X(NUMERIC, SUM, sets,                                                                      \
	  "SET of what is in force word for word; SET TRANSACTION behind BEGIN.")                  \
	X(NUMERIC, SUM, tenant_sets, "SET or set_config() of the tenant's id.")                    \
	X(NUMERIC, SUM, discards, "DISCARD ALL of a clean session.")                               \
	X(NUMERIC, SUM, deallocates, "DEALLOCATE of one of the client's own names.")               \
	X(NUMERIC, SUM, syncs, "Batches with nothing for a server but their Sync.")                \
	X(NUMERIC, SUM, auto_parses,                                                               \
	  "Parse of unnamed statements that a server had: auto_prepare. No trips.")                \
	X(NUMERIC, SUM, auto_slower,                                                               \
	  "Such statements that were slower so, and are parsed each time for a while.")            \
	X(NUMERIC, SUM, auto_again,                                                                \
	  "Requests asked again, as they were sent, since such a statement did not fit.")          \
	X(NUMERIC, SUM, saved, "Trips to a server that were asked for and not made.")
LAYOUT_DEFINE(savings, SAVINGS_COLUMNS);

static void savings_row(struct table *t, const char *database, const struct counters *counters)
{
	struct savings_row row = { .database = database,
				   .asked = (int64_t)counters->asked_count,
				   .begins_deferred = (int64_t)counters->begin_deferred_count,
				   .begins_late = (int64_t)counters->begin_late_count,
				   .empty_transactions = (int64_t)counters->xact_empty_count,
				   .early_commits = (int64_t)counters->early_count,
				   .empty_queries = (int64_t)counters->empty_count,
				   .pings = (int64_t)counters->ping_count,
				   .sets = (int64_t)counters->set_count,
				   .tenant_sets = (int64_t)counters->tenant_set_count,
				   .discards = (int64_t)counters->discard_count,
				   .deallocates = (int64_t)counters->deallocate_count,
				   .syncs = (int64_t)counters->sync_count,
				   .auto_parses = (int64_t)counters->auto_parse_count,
				   .auto_slower = (int64_t)counters->auto_slower_count,
				   .auto_again = (int64_t)counters->auto_again_count };

	row.saved = row.begins_deferred - row.begins_late + row.empty_transactions +
		    row.empty_queries + row.pings + row.sets + row.tenant_sets + row.discards +
		    row.deallocates + row.syncs;
	table_add(t, &row);
}

static void savings_visit(struct worker *w, struct table *t)
{
	show_each_count(w, savings_row, t);
}

const struct show show_savings = { .shown = &savings_layout, .visit = savings_visit };

/* ---- samples ----------------------------------------------------------------------------------
 */

static void on_stats_timer(struct loop_timer *timer);

static void arm(struct console *console)
{
	usec_t period = console->control->config->global.stats_period;

	loop_timer_start(console->control->loop, &console->stats_timer,
			 period > USEC_PER_SEC ? period : USEC_PER_SEC, 0, on_stats_timer);
}

static void log_figures(const struct figures *f)
{
	const int64_t *a = f->average;

	log_info("stats: %" PRId64 " xacts/s, %" PRId64 " queries/s, %" PRId64
		 " client parses/s, %" PRId64 " server parses/s, %" PRId64 " binds/s, in %" PRId64
		 " B/s, out %" PRId64 " B/s, xact %" PRId64 " us, query %" PRId64
		 " us, wait %" PRId64 " us",
		 a[COUNTER_xact_count], a[COUNTER_query_count], a[COUNTER_client_parse_count],
		 a[COUNTER_server_parse_count], a[COUNTER_bind_count], a[COUNTER_bytes_received],
		 a[COUNTER_bytes_sent], a[COUNTER_xact_time], a[COUNTER_query_time],
		 a[COUNTER_wait_time]);
}

static void on_sampled(struct control *c, struct table *t, void *arg)
{
	struct console *console = arg;
	struct figures f;

	table_fini(&console->older.counters);
	console->older = console->newer;
	console->newer = (struct sample){ *t, loop_now(c->loop) };
	if (c->config->global.log_stats) {
		all_figures(console, t, &f);
		log_figures(&f);
	}
	arm(console);
}

static void on_stats_timer(struct loop_timer *timer)
{
	struct console *console = container_of(timer, struct console, stats_timer);

	show_run(console->control, &show_counters, on_sampled, console);
}

void stats_start(struct console *console)
{
	/* Before the first period is over, averages are over the second before the start too, so
	 * that the first query does not count as thousands a second. */
	console->older.at = loop_now(console->control->loop) - USEC_PER_SEC;
	console->newer.at = console->older.at;
	arm(console);
}

void stats_stop(struct console *console)
{
	loop_timer_stop(console->control->loop, &console->stats_timer);
	table_fini(&console->older.counters);
	table_fini(&console->newer.counters);
}
