/* SPDX-License-Identifier: ISC
 *
 * show_latencies.c - SHOW LATENCIES and TENANT_LATENCIES: quantiles of what was measured.
 *
 * Threads hand over histograms, which are added up; quantiles are made of the sums, since those of
 * parts cannot be.
 */
#include "admin/parts.h"
#include "route/nodes.h"

static const char *const window_names[] = { [LATENCY_MINUTE] = "1m", [LATENCY_HOUR] = "1h" };

const char *show_histogram(const struct latencies *of, enum latency_kind kind,
			   enum latency_window window, struct buf *room)
{
	struct histogram h = { 0 };

	if (!latency_is_any(of, kind, window))
		return NULL;
	latency_read(of, kind, window, &h);
	if (!histogram_count(&h))
		return NULL;
	buf_clear(room);
	histogram_put(&h, room);
	return buf_cstr(room);
}

void show_figures(const struct histogram *h, int64_t figures[NFIGURES])
{
	static const unsigned permilles[] = {
		[FIGURE_P50] = 500, [FIGURE_P95] = 950, [FIGURE_P99] = 990
	};
	bool is_any = histogram_count(h) > 0;

	for (unsigned i = 0; i < PGT_NELEMS(permilles); i++)
		figures[i] = is_any ? histogram_quantile(h, permilles[i]) : NUMBER_NULL;
	figures[FIGURE_MAX] = is_any ? h->max : NUMBER_NULL;
}

void show_figures_of(const char *text, int64_t figures[NFIGURES])
{
	struct histogram h = { 0 };

	if (text)
		histogram_take(&h, text);
	show_figures(&h, figures);
}

/* Behind what a histogram is about. */
#define FIGURE_COLUMNS(X)                                                                          \
	X(BIGINT, FIRST, count, "How many there were.")                                            \
	X(NUMERIC, FIRST, avg, "How long they took on average, in microseconds.")                  \
	X(NUMERIC, FIRST, p50, "Half of them did not take longer.")                                \
	X(NUMERIC, FIRST, p95, "The same of 95 %.")                                                \
	X(NUMERIC, FIRST, p99, "The same of 99 %.")                                                \
	X(NUMERIC, FIRST, max, "The longest.")
#define KIND_COLUMNS(X)                                                                            \
	X(TEXT, KEY, kind, "query, transaction, wait (for a server) or connect (to one).")         \
	X(TEXT, KEY, period, "1m: the current minute and the one before; 1h: such hours.")

/* ---- nodes ------------------------------------------------------------------------------------
 */

#define NODE_KEYS(X)                                                                               \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(INT, KEY, node, "Number of the node, as in SHOW NODES; NULL: all of them.")
#define NODE_LATENCY_COLUMNS(X) NODE_KEYS(X) KIND_COLUMNS(X) FIGURE_COLUMNS(X)
LAYOUT_DEFINE(node_latency, NODE_LATENCY_COLUMNS);
#define NODE_PART_COLUMNS(X) NODE_KEYS(X) KIND_COLUMNS(X) X(TEXT, HISTOGRAM, histogram, "")
LAYOUT_DEFINE(node_part, NODE_PART_COLUMNS);

static void add_node_window(const struct node_times *times, unsigned node, enum latency_kind kind,
			    enum latency_window window, struct table *t)
{
	struct buf room = { 0 };
	const char *histogram = show_histogram(&times->at[node], kind, window, &room);
	struct node_part_row row = { .database = times->nodes->database,
				     .node = node,
				     .kind = latency_kind_name(kind),
				     .period = window_names[window],
				     .histogram = histogram };

	if (histogram) {
		table_add(t, &row);
		row.node = NUMBER_NULL;
		table_add(t, &row);
	}
	buf_fini(&room);
}

static void node_parts(struct worker *w, struct table *t)
{
	const struct hmap *all = &w->relay.node_times;

	for (struct hlink *l = hmap_walk(all, NULL); l; l = hmap_walk(all, l)) {
		const struct node_times *times = container_of(l, struct node_times, link);

		for (unsigned node = 0; node < times->nodes->n; node++)
			for (unsigned kind = 0; kind < NLATENCIES; kind++) {
				add_node_window(times, node, kind, LATENCY_MINUTE, t);
				add_node_window(times, node, kind, LATENCY_HOUR, t);
			}
	}
}

/* Copies the keys, all but the last column, and makes figures of that. */
static void derive_figures(struct control *c PGT_UNUSED, const struct table *gathered,
			   struct table *shown)
{
	unsigned nkeys = gathered->layout->n - 1;

	for (unsigned row = 0; row < gathered->nrows; row++) {
		unsigned at = table_add_empty(shown);
		struct histogram h = { 0 };
		int64_t figures[NFIGURES], count;

		for (unsigned i = 0; i < nkeys; i++) {
			if (gathered->layout->columns[i].type == COLUMN_TEXT)
				table_set_text(shown, at, i, table_text(gathered, row, i));
			else
				table_set_number(shown, at, i, table_number(gathered, row, i));
		}
		histogram_take(&h, table_text(gathered, row, nkeys));
		show_figures(&h, figures);
		count = (int64_t)histogram_count(&h);
		table_set_number(shown, at, nkeys, count);
		table_set_number(shown, at, nkeys + 1, histogram_sum(&h) / count);
		for (unsigned i = 0; i < NFIGURES; i++)
			table_set_number(shown, at, nkeys + 2 + i, figures[i]);
	}
}

const struct show show_latencies = { .shown = &node_latency_layout,
				     .gathered = &node_part_layout,
				     .visit = node_parts,
				     .derive = derive_figures };

/* ---- since the start --------------------------------------------------------------------------
 */

#define TOTAL_COLUMNS(X)                                                                           \
	NODE_KEYS(X)                                                                               \
	X(TEXT, KEY, kind, "query, transaction, wait or connect.")                                 \
	X(TEXT, HISTOGRAM, histogram, "All of them.")
LAYOUT_DEFINE(total, TOTAL_COLUMNS);

static void total_parts(struct worker *w, struct table *t)
{
	const struct hmap *all = &w->relay.node_times;
	struct buf room = { 0 };

	for (struct hlink *l = hmap_walk(all, NULL); l; l = hmap_walk(all, l)) {
		const struct node_times *times = container_of(l, struct node_times, link);

		for (unsigned i = 0; i < times->nodes->n * NLATENCIES; i++) {
			unsigned node = i / NLATENCIES, kind = i % NLATENCIES;
			const char *text =
			    show_histogram(&times->at[node], kind, LATENCY_TOTAL, &room);

			if (text)
				table_add(t,
					  &(struct total_row){ .database = times->nodes->database,
							       .node = node,
							       .kind = latency_kind_name(kind),
							       .histogram = text });
		}
	}
	buf_fini(&room);
}

const struct show show_latency_totals = { .shown = &total_layout, .visit = total_parts };

/* ---- tenants ----------------------------------------------------------------------------------
 */

#define TENANT_KEYS(X)            X(TEXT, KEY, tenant, "Name of the tenant.")
#define TENANT_LATENCY_COLUMNS(X) TENANT_KEYS(X) KIND_COLUMNS(X) FIGURE_COLUMNS(X)
LAYOUT_DEFINE(tenant_latency, TENANT_LATENCY_COLUMNS);
#define TENANT_PART_COLUMNS(X) TENANT_KEYS(X) KIND_COLUMNS(X) X(TEXT, HISTOGRAM, histogram, "")
LAYOUT_DEFINE(tenant_part, TENANT_PART_COLUMNS);

static void add_tenant_window(const struct tenant *tenant, enum latency_kind kind,
			      enum latency_window window, struct table *t)
{
	struct buf room = { 0 };
	const char *histogram = show_histogram(&tenant->times, kind, window, &room);

	if (histogram)
		table_add(t, &(struct tenant_part_row){ .tenant = tenant->name,
							.kind = latency_kind_name(kind),
							.period = window_names[window],
							.histogram = histogram });
	buf_fini(&room);
}

/* names: of whom, in their first column; NULL: of all. */
static void tenant_parts_of(struct worker *w, const struct table *names, struct table *t)
{
	const struct hmap *all = &w->relay.tenants.by_name;

	for (struct hlink *l = hmap_walk(all, NULL); l; l = hmap_walk(all, l)) {
		const struct tenant *tenant = container_of(l, struct tenant, link);

		if (names && table_search(names, 0, tenant->name) == names->nrows)
			continue;
		for (unsigned kind = 0; kind < NLATENCIES; kind++) {
			add_tenant_window(tenant, kind, LATENCY_MINUTE, t);
			add_tenant_window(tenant, kind, LATENCY_HOUR, t);
		}
	}
}

static void tenant_parts(struct worker *w, struct table *t)
{
	tenant_parts_of(w, NULL, t);
}

const struct show show_tenant_latencies = { .shown = &tenant_latency_layout,
					    .gathered = &tenant_part_layout,
					    .visit = tenant_parts,
					    .derive = derive_figures };

const struct show show_top_latencies = { .shown = &tenant_latency_layout,
					 .gathered = &tenant_part_layout,
					 .first = &show_top_names,
					 .visit_of = tenant_parts_of,
					 .derive = derive_figures };
