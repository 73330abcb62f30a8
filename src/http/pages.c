/* SPDX-License-Identifier: ISC
 *
 * pages.c - what is served under which path, and of which tables it is made.
 *
 * Knows requests and tables, not HTTP.  Control thread.
 */
#include "base/mem.h"
#include "http/parts.h"

#include <stdlib.h>

const struct show *const source_shows[NSOURCES] = {
#define X(table, labels) &show_##table,
	METRIC_SOURCES(X)
#undef X
};

const char *source_name(enum source source)
{
	static const char *const names[] = {
#define X(table, labels) #table,
		METRIC_SOURCES(X)
#undef X
	};

	return names[source];
}

#define BIT(source) (1u << SOURCE_##source)
#define ALL_SOURCES ((1u << NSOURCES) - 1)
/* Whose texts are no series. */
#define INSIGHTS (BIT(top_queries) | BIT(slow_queries) | BIT(advice))

struct page {
	const char *path;
	bool is_private; /* needs the token, where there is one */
	unsigned sources;
	bool asks_readiness;
	void (*render)(struct request *r, const struct tables *tables, bool is_known);
};

static void render_metrics(struct request *r, const struct tables *tables, bool is_known PGT_UNUSED)
{
	r->type = r->wants_open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
				: "text/plain; version=0.0.4; charset=utf-8";
	metrics_put(&r->body, tables, r->wants_open);
}

static void render_json(struct request *r, const struct tables *tables, bool is_known PGT_UNUSED)
{
	r->type = "application/json";
	json_put(&r->body, tables);
}

static void render_live(struct request *r, const struct tables *tables PGT_UNUSED,
			bool is_known PGT_UNUSED)
{
	r->type = "text/html; charset=utf-8";
	live_put_page(&r->body);
	live_put_policy(&r->policy);
}

static void render_history(struct request *r, const struct tables *tables PGT_UNUSED,
			   bool is_known PGT_UNUSED)
{
	r->type = "application/json";
	history_put(r->history, &r->body);
}

/* All threads have answered, or this would not be said. */
static void render_health(struct request *r, const struct tables *tables PGT_UNUSED,
			  bool is_known PGT_UNUSED)
{
	buf_printf(&r->body, "ok\n");
}

static void render_readiness(struct request *r, const struct tables *tables, bool is_known)
{
	r->status = tables->readiness.nrows ? 503 : 200;
	readiness_put(&r->body, &tables->readiness, is_known);
}

static const struct page pages[] = {
	{.path = "/metrics",
         .is_private = true,
         .sources = ALL_SOURCES & ~(BIT(events) | INSIGHTS),
         .render = render_metrics },
	{ .path = "/stats.json",
         .is_private = true,
         .sources = ALL_SOURCES & ~(BIT(latency_totals) | BIT(top_latencies)),
         .render = render_json },
	{ .path = "/", .render = render_live   },
	{ .path = "/history.json",                    .is_private = true,.render = render_history                               },
	{ .path = "/healthz",                    .sources = BIT(lists),      .render = render_health},
	{ .path = "/readyz",                    .asks_readiness = true,       .render = render_readiness},
};

const struct page *page_find(const char *path)
{
	for (size_t i = 0; i < PGT_NELEMS(pages); i++)
		if (!strcmp(path, pages[i].path))
			return &pages[i];
	return NULL;
}

/* ---- gathering --------------------------------------------------------------------------------
 */

struct serving {
	struct request *request;
	answered_fn *answered;
	unsigned left; /* tables that are still to come, and one while they are being asked for */
	struct tables tables;
};

struct asking {
	struct serving *serving;
	struct table *table;
};

static void finish(struct control *c, struct serving *serving)
{
	struct request *r = serving->request;

	if (--serving->left)
		return;
	r->status = 200;
	r->type = "text/plain; charset=utf-8";
	r->page->render(r, &serving->tables, request_is_known(r, c->config));
	for (unsigned i = 0; i < NSOURCES; i++)
		table_fini(&serving->tables.of[i]);
	table_fini(&serving->tables.readiness);
	serving->answered(r);
	free(serving);
}

static void on_table(struct control *c, struct table *t, void *arg)
{
	struct asking *asking = arg;
	struct serving *serving = asking->serving;

	*asking->table = *t;
	free(asking);
	finish(c, serving);
}

static void ask(struct control *c, struct serving *serving, const struct show *show,
		struct table *table)
{
	struct asking *asking = xnew(struct asking);

	*asking = (struct asking){ serving, table };
	serving->left++;
	show_run(c, show, on_table, asking);
}

void page_serve(struct control *c, struct request *r, answered_fn *answered)
{
	struct serving *serving;

	if (r->page->is_private && !request_is_known(r, c->config)) {
		r->status = 401;
		r->type = "text/plain; charset=utf-8";
		buf_printf(&r->body, "a bearer token is needed: http_token_file\n");
		answered(r);
		return;
	}
	serving = xnew(struct serving);
	serving->request = r;
	serving->answered = answered;
	serving->left = 1;
	for (unsigned i = 0; i < NSOURCES; i++)
		if (r->page->sources >> i & 1)
			ask(c, serving, source_shows[i], &serving->tables.of[i]);
	if (r->page->asks_readiness)
		ask(c, serving, &show_readiness, &serving->tables.readiness);
	finish(c, serving);
}
