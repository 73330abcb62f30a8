/* SPDX-License-Identifier: ISC
 *
 * history.c - the last ten minutes, so that the live page has a picture as soon as it is opened.
 *
 * Every ten seconds the control thread gathers what charts are made of, and keeps it as the text
 * that it will be served as.  Of more databases than fit into a point, charts begin when the page
 * does.
 */
#include "base/mem.h"
#include "http/parts.h"

#include <inttypes.h>
#include <stdlib.h>

#define HISTORY_PERIOD (10 * USEC_PER_SEC)
#define HISTORY_POINTS 60
#define POINT_MAX      16384

struct history {
	struct control *control;
	struct loop_timer timer;
	struct table counters; /* of the point that is being made */
	usec_t at;             /* of it, since 1970 */
	struct buf points[HISTORY_POINTS];
	unsigned next;
};

static const char *const charted_counters[] = { "database", "query_count", "limited_count", NULL };

/* Charts show all nodes together, in the last minute. */
static bool is_charted(const struct table *latencies, unsigned row)
{
	return table_number(latencies, row, 1) == NUMBER_NULL &&
	       !strcmp(table_text(latencies, row, 2), "query") &&
	       !strcmp(table_text(latencies, row, 3), "1m");
}

static void put_charted(struct buf *out, const struct table *latencies)
{
	const char *between = "";

	for (unsigned row = 0; row < latencies->nrows; row++) {
		if (!is_charted(latencies, row))
			continue;
		buf_printf(out, "%s", between);
		json_put_columns(out, latencies, row, NULL);
		between = ",";
	}
}

static void on_latencies(struct control *c PGT_UNUSED, struct table *t, void *arg)
{
	struct history *h = arg;
	struct buf *point = &h->points[h->next];

	h->next = (h->next + 1) % HISTORY_POINTS;
	buf_clear(point);
	buf_printf(point, "{\"at\":%" PRId64 ",\"counters\":[", h->at);
	for (unsigned row = 0; row < h->counters.nrows; row++) {
		buf_printf(point, "%s", row ? "," : "");
		json_put_columns(point, &h->counters, row, charted_counters);
	}
	buf_printf(point, "],\"latencies\":[");
	put_charted(point, t);
	buf_printf(point, "]}");
	if (buf_len(point) > POINT_MAX)
		buf_fini(point);
	table_fini(&h->counters);
	table_fini(t);
}

static void on_counters(struct control *c, struct table *t, void *arg)
{
	struct history *h = arg;

	h->counters = *t;
	h->at = clock_wall();
	show_run(c, &show_latencies, on_latencies, h);
}

static void on_timer(struct loop_timer *timer)
{
	struct history *h = container_of(timer, struct history, timer);

	/* All threads answer within the period, or there is no point for it. */
	if (!h->counters.layout)
		show_run(h->control, &show_counters, on_counters, h);
}

struct history *history_start(struct control *c)
{
	struct history *h = xnew(struct history);

	h->control = c;
	loop_timer_start(c->loop, &h->timer, HISTORY_PERIOD, HISTORY_PERIOD, on_timer);
	return h;
}

void history_stop(struct history *h)
{
	if (!h)
		return;
	loop_timer_stop(h->control->loop, &h->timer);
	for (unsigned i = 0; i < HISTORY_POINTS; i++)
		buf_fini(&h->points[i]);
	table_fini(&h->counters);
	free(h);
}

void history_put(const struct history *h, struct buf *out)
{
	const char *between = "";

	buf_printf(out, "{\"now\":%" PRId64 ",\"points\":[", clock_wall());
	for (unsigned i = 0; h && i < HISTORY_POINTS; i++) {
		struct slice point = buf_peek(&h->points[(h->next + i) % HISTORY_POINTS]);

		if (!point.n)
			continue;
		buf_printf(out, "%s\n", between);
		buf_put_slice(out, point);
		between = ",";
	}
	buf_printf(out, "]}\n");
}
