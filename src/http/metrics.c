/* SPDX-License-Identifier: ISC
 *
 * metrics.c - tables as metrics, and docs/metrics.md.
 *
 * Sources: OpenMetrics 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec/) and Prometheus'
 * text format 0.0.4.
 */
#include "http/http.h"
#include "http/parts.h"

#include <inttypes.h>

#define PREFIX "pgturnstile_"

/* Powers of two, and one between each two of them: about 0.1 ms to 67 s. */
#define FIRST_POWER 7
#define LAST_POWER  26

enum metric_type { METRIC_GAUGE, METRIC_COUNTER, METRIC_SECONDS, METRIC_STATE };

struct metric {
	enum source source;
	const char *column;
	enum metric_type type;
	const char *name;
};

static const struct metric metrics[] = {
#define X(table, column, type, name) { SOURCE_##table, #column, METRIC_##type, name },
	METRICS(X)
#undef X
};

static const char *const source_labels[NSOURCES] = {
#define X(table, labels) [SOURCE_##table] = labels,
	METRIC_SOURCES(X)
#undef X
};

static unsigned column_of(const struct layout *layout, struct slice name)
{
	unsigned i = 0;

	while (!slice_is_equal(slice_str(layout->columns[i].name), name)) {
		i++;
		PGT_ASSERT(i < layout->n);
	}
	return i;
}

/* ---- labels -----------------------------------------------------------------------------------
 */

static void put_label_value(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			buf_printf(out, "\\n");
		else if (*s == '"' || *s == '\\')
			buf_printf(out, "\\%c", *s);
		else
			buf_put_u8(out, (uint8_t)*s);
	}
}

/* The next word of the list; its column and what it is called. */
static bool next_label(struct slice *rest, struct slice *column, struct slice *label)
{
	const char *space = rest->n ? memchr(rest->p, ' ', rest->n) : NULL;
	struct slice word = slice_of(rest->p, space ? (size_t)(space - rest->p) : rest->n);
	const char *equals = word.n ? memchr(word.p, '=', word.n) : NULL;
	size_t n = equals ? (size_t)(equals - word.p) : word.n;

	if (!word.n)
		return false;
	*column = slice_of(word.p, n);
	*label = equals ? slice_of(equals + 1, word.n - n - 1) : *column;
	*rest = slice_of(word.p + word.n + (space != NULL), rest->n - word.n - (space != NULL));
	return true;
}

/* Without braces. */
static void put_labels(struct buf *out, const struct table *t, unsigned row, enum source source)
{
	struct slice rest = slice_str(source_labels[source]), column, label;
	const char *between = "";

	while (next_label(&rest, &column, &label)) {
		unsigned i = column_of(t->layout, column);

		if (table_number(t, row, i) == NUMBER_NULL)
			continue;
		buf_printf(out, "%s%.*s=\"", between, SLICE_FMT(label));
		if (t->layout->columns[i].type == COLUMN_TEXT)
			put_label_value(out, table_text(t, row, i));
		else
			buf_printf(out, "%" PRId64, table_number(t, row, i));
		buf_put_u8(out, '"');
		between = ",";
	}
}

/* The console's own clients are nobody's load. */
static bool is_console(const struct table *t, unsigned row)
{
	const char *database =
	    t->layout->columns[0].type == COLUMN_TEXT ? table_text(t, row, 0) : NULL;

	return database && !strcmp(database, CONSOLE_NAME);
}

/* ---- one family after the other ---------------------------------------------------------------
 */

struct family {
	const char *name; /* without what its samples end in */
	const char *type;
	const char *help;
	bool is_open;
};

static const char *sample_end(const char *type)
{
	return strcmp(type, "counter") ? "" : "_total";
}

static void put_head(struct buf *out, const struct family *f)
{
	const char *end = f->is_open ? "" : sample_end(f->type);

	buf_printf(out, "# TYPE " PREFIX "%s%s %s\n# HELP " PREFIX "%s%s ", f->name, end, f->type,
		   f->name, end);
	put_label_value(out, f->help);
	buf_put_u8(out, '\n');
}

static void put_seconds(struct buf *out, int64_t usec)
{
	buf_printf(out, "%" PRId64 ".%06" PRId64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
}

/* The column's own, which may begin with the unit of that. */
static const char *help_of(const struct metric *m, const struct layout *layout, struct buf *room)
{
	static const char unit[] = "Microseconds";
	const char *doc = layout->columns[column_of(layout, slice_str(m->column))].doc;

	if (m->type != METRIC_SECONDS || strncmp(doc, unit, sizeof(unit) - 1))
		return doc;
	buf_clear(room);
	buf_printf(room, "Seconds%s", doc + sizeof(unit) - 1);
	return buf_cstr(room);
}

static void put_metric(struct buf *out, const struct metric *m, const struct table *t, bool is_open)
{
	unsigned column = column_of(t->layout, slice_str(m->column));
	struct buf room = { 0 };
	struct family f = { .name = m->name,
			    .type = m->type == METRIC_COUNTER ? "counter" : "gauge",
			    .help = help_of(m, t->layout, &room),
			    .is_open = is_open };

	put_head(out, &f);
	buf_fini(&room);
	for (unsigned row = 0; row < t->nrows; row++) {
		if (table_number(t, row, column) == NUMBER_NULL || is_console(t, row))
			continue;
		buf_printf(out, PREFIX "%s%s{", f.name, sample_end(f.type));
		put_labels(out, t, row, m->source);
		if (m->type == METRIC_STATE) {
			buf_printf(out, ",%s=\"", m->column);
			put_label_value(out, table_text(t, row, column));
			buf_printf(out, "\"} 1\n");
			continue;
		}
		buf_printf(out, "} ");
		if (m->type == METRIC_SECONDS)
			put_seconds(out, table_number(t, row, column));
		else
			buf_printf(out, "%" PRId64, table_number(t, row, column));
		buf_put_u8(out, '\n');
	}
}

/* ---- counters ---------------------------------------------------------------------------------
 */

static bool is_time(const struct counter *counter)
{
	return !strcmp(counter->unit, "microseconds");
}

/* xact_count is "xacts" of what is counted: its name without "_count", with its unit if that is a
 * time. */
static void put_counter_name(struct buf *out, const struct counter *counter)
{
	struct slice name = slice_str(counter->name), count = SLICE("_count");

	if (name.n > count.n && slice_is_equal(slice_of(name.p + name.n - count.n, count.n), count))
		name.n -= count.n;
	buf_put_slice(out, name);
	if (is_time(counter))
		buf_printf(out, "_seconds");
}

static void put_counter(struct buf *out, unsigned id, const struct table *t, bool is_open)
{
	const struct counter *counter = &counters_table[id];
	struct buf name = { 0 };
	struct family f = { .type = "counter", .help = counter->help, .is_open = is_open };

	put_counter_name(&name, counter);
	f.name = buf_cstr(&name);
	put_head(out, &f);
	for (unsigned row = 0; row < t->nrows; row++) {
		int64_t value = table_number(t, row, 1 + id);

		if (is_console(t, row))
			continue;
		buf_printf(out, PREFIX "%s_total{", f.name);
		put_labels(out, t, row, SOURCE_counters);
		buf_printf(out, "} ");
		if (is_time(counter))
			put_seconds(out, value);
		else
			buf_printf(out, "%" PRId64, value);
		buf_put_u8(out, '\n');
	}
	buf_fini(&name);
}

/* ---- histograms -------------------------------------------------------------------------------
 */

static void put_bucket(struct buf *out, const struct family *f, struct slice labels,
		       const struct histogram *h, usec_t below)
{
	buf_printf(out, PREFIX "%s_bucket{%.*s,le=\"", f->name, SLICE_FMT(labels));
	put_seconds(out, below);
	/* What took exactly that long is in the next one: a microsecond is all that it is off. */
	buf_printf(out, "\"} %" PRIu64 "\n", histogram_count_below(h, below));
}

static void put_histogram(struct buf *out, const struct family *f, struct slice labels,
			  const struct histogram *h)
{
	uint64_t count = histogram_count(h);

	for (unsigned power = FIRST_POWER; power <= LAST_POWER; power++) {
		put_bucket(out, f, labels, h, (usec_t)1 << power);
		if (power < LAST_POWER)
			put_bucket(out, f, labels, h, (usec_t)3 << (power - 1));
	}
	buf_printf(out, PREFIX "%s_bucket{%.*s,le=\"+Inf\"} %" PRIu64 "\n", f->name,
		   SLICE_FMT(labels), count);
	buf_printf(out, PREFIX "%s_sum{%.*s} ", f->name, SLICE_FMT(labels));
	put_seconds(out, histogram_sum(h));
	buf_printf(out, "\n" PREFIX "%s_count{%.*s} %" PRIu64 "\n", f->name, SLICE_FMT(labels),
		   count);
}

static const char *const latency_help[] = {
#define X(name, help) help,
	LATENCIES(X)
#undef X
};

static const char *const latency_names[] = {
#define X(name, help) #name "_duration_seconds",
	LATENCIES(X)
#undef X
};

static void put_latency(struct buf *out, enum latency_kind kind, const struct table *t,
			bool is_open)
{
	unsigned kind_at = column_of(t->layout, SLICE("kind"));
	struct family f = { .name = latency_names[kind],
			    .type = "histogram",
			    .help = latency_help[kind],
			    .is_open = is_open };
	struct buf labels = { 0 };

	put_head(out, &f);
	for (unsigned row = 0; row < t->nrows; row++) {
		struct histogram h = { 0 };

		if (strcmp(table_text(t, row, kind_at), latency_kind_name(kind)))
			continue;
		buf_clear(&labels);
		put_labels(&labels, t, row, SOURCE_latency_totals);
		histogram_take(&h, table_text(t, row, t->layout->n - 1));
		put_histogram(out, &f, buf_peek(&labels), &h);
	}
	buf_fini(&labels);
}

void metrics_put(struct buf *out, const struct tables *tables, bool is_open)
{
	for (unsigned i = 0; i < NCOUNTERS; i++)
		put_counter(out, i, &tables->of[SOURCE_counters], is_open);
	for (unsigned kind = 0; kind < NLATENCIES; kind++)
		put_latency(out, kind, &tables->of[SOURCE_latency_totals], is_open);
	for (size_t i = 0; i < PGT_NELEMS(metrics); i++)
		put_metric(out, &metrics[i], &tables->of[metrics[i].source], is_open);
	if (is_open)
		buf_printf(out, "# EOF\n");
}

/* ---- docs/metrics.md --------------------------------------------------------------------------
 */

static void put_row(struct buf *out, const char *name, const char *end, const char *type,
		    enum source source, const char *more, const char *help)
{
	struct slice rest = slice_str(source_labels[source]), column, label;
	const char *between = "";

	buf_printf(out, "| `" PREFIX "%s%s` | %s | ", name, end, type);
	while (next_label(&rest, &column, &label)) {
		buf_printf(out, "%s%.*s", between, SLICE_FMT(label));
		between = ", ";
	}
	buf_printf(out, "%s | %s |\n", more, help);
}

static void describe_metric(struct buf *out, const struct metric *m)
{
	const struct layout *layout = source_shows[m->source]->shown;
	const char *type = m->type == METRIC_COUNTER ? "counter" : "gauge";
	struct buf room = { 0 };

	put_row(out, m->name, sample_end(type), type, m->source,
		m->type == METRIC_STATE ? ", role" : "", help_of(m, layout, &room));
	buf_fini(&room);
}

static const char head[] =
    "# Metrics\n"
    "\n"
    "Made by `pgturnstile --describe=metrics` from include/http/metrics.def; do not edit.\n"
    "\n"
    "`http_listen` turns them on: `/metrics` for Prometheus (OpenMetrics where it asks for that), "
    "`/stats.json`, and `/healthz` and `/readyz` for load balancers. How they are set up, alerts "
    "and "
    "a dashboard: [operations](operations.md#metrics).\n"
    "\n"
    "Times are in seconds. Metrics of tenants are those of the `metrics_tenants` that have sent "
    "most "
    "statements, so series come and go with them. Buckets of histograms end at powers of two of a "
    "microsecond and in the middle between them, 0.000128 to 67.108864.\n"
    "\n"
    "| metric | type | labels | |\n"
    "| --- | --- | --- | --- |\n";

void metrics_describe_markdown(struct buf *out)
{
	struct buf name = { 0 };

	buf_put_slice(out, slice_str(head));
	for (unsigned i = 0; i < NCOUNTERS; i++) {
		buf_clear(&name);
		put_counter_name(&name, &counters_table[i]);
		put_row(out, buf_cstr(&name), "_total", "counter", SOURCE_counters, "",
			counters_table[i].help);
	}
	for (unsigned kind = 0; kind < NLATENCIES; kind++)
		put_row(out, latency_names[kind], "", "histogram", SOURCE_latency_totals, "",
			latency_help[kind]);
	for (size_t i = 0; i < PGT_NELEMS(metrics); i++)
		describe_metric(out, &metrics[i]);
	buf_fini(&name);
}
