/* SPDX-License-Identifier: ISC
 *
 * show.h - a SHOW: which columns it has and where its rows come from.
 *
 * Rows go one way: visit() on each worker's thread, local() on the control thread, merge rows with
 * equal keys, derive() the table that is shown.  Each step may be missing.  Where there may be any
 * number of rows, more() makes them of that table, some at a time, as the client takes them; or
 * only some are wanted, which another show finds first.
 */
#ifndef PGT_ADMIN_SHOW_H
#define PGT_ADMIN_SHOW_H

#include "admin/command.h"
#include "admin/table.h"
#include "stats/counters.h"
#include "stats/latency.h"
#include "worker/control.h"

struct show_rest;

/* Takes the table over. */
typedef void show_done_fn(struct control *c, struct table *t, void *arg);

struct show {
	const struct layout *shown;    /* NULL: SHOW HELP, which has no rows */
	const struct layout *gathered; /* NULL: as shown */
	const struct show *older;      /* in its place with console_old_columns; NULL: it stays */
	void (*visit)(struct worker *w, struct table *t);
	/* In place of visit(): told the table of another show, which is made before. */
	const struct show *first;
	void (*visit_of)(struct worker *w, const struct table *first, struct table *t);
	void (*local)(struct control *c, struct table *t);
	void (*derive)(struct control *c, const struct table *gathered, struct table *shown);
	/* Sorts and leaves out rows of what is shown as the command says; the console's only. */
	void (*arrange)(const struct command *cmd, struct table *t);
	/* Of one with arguments, instead of all of these.  False: *e says what is wrong. */
	bool (*ask)(struct control *c, const struct command *cmd, show_done_fn *done, void *arg,
		    struct err *e);
	/* Adds the next rows to *t, which is empty; false: these are the last. */
	bool (*more)(struct control *c, struct show_rest *rest, struct table *t);
};

/* What is still to be made into rows. */
struct show_rest {
	const struct show *show; /* NULL: nothing */
	struct table gathered;   /* merged */
	struct config *config;   /* of the first row; a reference */
	size_t at;               /* of more() */
};

/* By enum show_id. */
extern const struct show *const shows[NSHOWS];
/* By enum fake_id: one column, one row. */
extern const struct show fake_shows[NFAKES];
/* What SHOW STATS and its sisters gather: counters of each database. */
extern const struct show show_counters;
/* For metrics: histograms since the start, as texts in the last column. */
extern const struct show show_latency_totals;
/* The rows of SHOW QUERIES that have taken most time, and of SHOW SLOW without their literals. */
extern const struct show show_top_queries, show_slow_queries;
/* The rows of SHOW TENANTS and TENANT_LATENCIES of those that have sent most statements. */
extern const struct show show_top_tenants, show_top_latencies;
/* Their names and statements, sorted by name. */
extern const struct show show_top_names;

/* Makes the table; done() is called on the control thread, before this returns when no worker has
 * to be asked. */
void show_run(struct control *c, const struct show *show, show_done_fn *done, void *arg);

/* The rest of a show with more(): takes what has been gathered. */
struct show_rest show_rest_of(struct control *c, const struct show *show, struct table *gathered);
/* Makes sure that *t has a row behind the first n, or forgets them and makes others: false when
 * there are none.  *n is where it stands then. */
bool show_rest_has_row(struct control *c, struct show_rest *rest, struct table *t, unsigned *n);
void show_rest_fini(struct show_rest *rest);

#define X(name, ...) extern const struct show show_##name;
SHOWS(X)
#undef X

/* ---- for the files that fill tables -----------------------------------------------------------
 */

/* A derive(): the columns that are shown are the first of those that are gathered. */
void show_first_columns(struct control *c, const struct table *gathered, struct table *shown);

/* Calls visit for each group of a worker. */
void show_each_group(struct worker *w, void (*visit)(struct group *group, struct table *t),
		     struct table *t);

/* Calls add for the counters of each group of a worker, and of those that are gone. */
typedef void show_count_fn(struct table *t, const char *database, const struct counters *counters);
void show_each_count(struct worker *w, show_count_fn *add, struct table *t);

/* Calls add for each tenant, of the configuration and of those that were let in without standing
 * there, with what holds for it now. */
typedef void show_tenant_fn(struct control *c, const char *name, const struct settings *set,
			    struct limit_now now, struct table *t);
void show_each_tenant(struct control *c, show_tenant_fn *add, struct table *t);

/* A window of a kind as a text for MERGE_HISTOGRAM, in *room; NULL: nothing is in it. */
const char *show_histogram(const struct latencies *of, enum latency_kind kind,
			   enum latency_window window, struct buf *room);
/* What latency columns are filled with, in their order; see LATENCY_COLUMNS. */
enum { FIGURE_P50, FIGURE_P95, FIGURE_P99, FIGURE_MAX, NFIGURES };
void show_figures(const struct histogram *h, int64_t figures[NFIGURES]);
/* The histogram in a text, NULL: none, as above. */
void show_figures_of(const char *text, int64_t figures[NFIGURES]);

/* What a client does at the moment, one word for all SHOWs. */
enum client_doing { CLIENT_IS_IDLE, CLIENT_IS_ACTIVE, CLIENT_IS_WAITING };
enum client_doing show_client_doing(const struct client *c);
/* How long it has been waiting; 0: it is not. */
usec_t show_client_wait(const struct client *c, usec_t now);

/* SHOW … TENANT: leaves out rows of others; column: of the tenant's name. */
void show_of_tenant(const struct command *cmd, struct table *t, unsigned column);

/* The value of a setting as it is written in a file. */
const char *show_setting(enum setting_id id, const struct settings *set, struct buf *room);
/* The same when it is an override of a database or user; NULL when it has none of its own. */
const char *show_override(const struct overrides *own, enum setting_id id, struct buf *room);

/* The name under which the console itself is a database and a user in SHOW POOLS …: exporters and
 * dashboards know it and leave it out. */
#define CONSOLE_NAME "pgbouncer"
/* What SHOW VERSION and server_version say: the version whose columns these are. */
#define CONSOLE_VERSION "1.25.2"

#endif
