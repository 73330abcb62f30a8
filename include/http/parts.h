/* SPDX-License-Identifier: ISC
 *
 * parts.h - what the files of http/ need of each other.  Private to the folder.
 */
#ifndef PGT_HTTP_PARTS_H
#define PGT_HTTP_PARTS_H

#include "admin/show.h"
#include "http/metrics.def"

enum source {
#define X(table, labels) SOURCE_##table,
	METRIC_SOURCES(X)
#undef X
	    NSOURCES
};

extern const struct show *const source_shows[NSOURCES];
const char *source_name(enum source source);

/* Tables by enum source; of those that were not gathered, layout is NULL. */
struct tables {
	struct table of[NSOURCES];
	struct table readiness;
};

/* One row for each reason why clients should not be sent here. */
extern const struct show show_readiness;
void readiness_put(struct buf *out, const struct table *t, bool with_names);

/* As OpenMetrics, or else in Prometheus' own text format, which names counters otherwise. */
void metrics_put(struct buf *out, const struct tables *tables, bool is_open);
/* {"table": [{"column": value …} …] …} of all that were gathered. */
void json_put(struct buf *out, const struct tables *tables);
/* A row as an object: the columns of these names, which end with NULL; names NULL: all. */
void json_put_columns(struct buf *out, const struct table *t, unsigned row,
		      const char *const *names);

/* ---- live.c: the page for people --------------------------------------------------------------
 */

void live_put_page(struct buf *out);
/* Its Content-Security-Policy. */
void live_put_policy(struct buf *out);

/* ---- history.c: what it shows of the time before it was opened --------------------------------
 */

struct history;

struct history *history_start(struct control *c);
/* No gathering may be under way.  NULL is allowed. */
void history_stop(struct history *h);
/* {"now": microseconds, "points": [{"at", "counters", "latencies"} …]}, the oldest first. */
void history_put(const struct history *h, struct buf *out);

/* ---- pages.c: what is served ------------------------------------------------------------------
 */

struct page;

/* What a request wants, and its answer. */
struct request {
	struct list link;
	const struct page *page;
	char *token; /* that it shows, or NULL */
	const struct history *history;
	bool wants_open;
	unsigned status; /* 0: no answer yet */
	const char *type;
	struct buf policy; /* Content-Security-Policy; empty: nothing may run or be loaded */
	struct buf body;
};

/* ---- request.c: what a request says of itself -------------------------------------------------
 */

/* authorization, accept: what stands in the headers of these names, or NULL. */
void request_init(struct request *r, const char *path, const char *authorization,
		  const char *accept);
/* The token is wiped. */
void request_fini(struct request *r);
/* It shows the token that is asked for.  Without one to ask for, everybody is known. */
bool request_is_known(const struct request *r, const struct config *config);

typedef void answered_fn(struct request *r);

/* NULL: there is none. */
const struct page *page_find(const char *path);
/* Answers it, now or later, and then calls answered(). */
void page_serve(struct control *c, struct request *r, answered_fn *answered);

#endif
