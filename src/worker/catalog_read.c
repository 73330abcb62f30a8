/* SPDX-License-Identifier: ISC
 *
 * catalog_read.c - reads the catalog of a database, on a connection of its own.
 *
 * Knows the queries of sql/catalog.h and sql/leaving.h, not when they are due.
 */
#include "worker/catalog_read.h"

#include "base/mem.h"
#include "sql/catalog.h"
#include "sql/leaving.h"

#include <stdio.h>
#include <stdlib.h>

/* A server that takes longer has other worries. */
#define READ_MAX (60 * USEC_PER_SEC)

struct catalog_read {
	struct server *server;
	struct sql_catalog_builder *builder;
	struct sql_leaving *leaving;
	catalog_read_fn *done;
	void *arg;
	usec_t started_at;
	bool is_starting;
	char failure[200]; /* found while it was being started: told at the first sweep */
};

static void release(struct catalog_read *r)
{
	if (r->server)
		server_drop(r->server);
	if (r->builder)
		sql_catalog_builder_free(r->builder);
	sql_leaving_unref(r->leaving);
	free(r);
}

static void finish(struct catalog_read *r, const struct catalogs *catalogs, const char *why)
{
	catalog_read_fn *done = r->done;
	void *arg = r->arg;

	release(r);
	done(arg, catalogs, why);
}

static void fail(struct catalog_read *r, const char *why)
{
	char text[sizeof(r->failure)];

	snprintf(text, sizeof(text), "%s", why);
	if (!r->is_starting) {
		finish(r, NULL, text);
		return;
	}
	memcpy(r->failure, text, sizeof(text));
	server_drop(r->server);
	r->server = NULL;
}

static void fail_with(struct catalog_read *r, const struct report *error)
{
	struct err e;

	err_set(&e, "58000", "%.*s", SLICE_FMT(error->message));
	fail(r, e.text);
}

static void on_name(struct server *s PGT_UNUSED, void *arg, const struct slice *columns, unsigned n)
{
	struct catalog_read *r = arg;

	if (n == 2)
		sql_leaving_add(r->leaving, columns[0], columns[1]);
}

static void on_names(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct catalog_read *r = arg;
	struct catalogs catalogs;

	if (error) {
		fail_with(r, error);
		return;
	}
	catalogs = (struct catalogs){ sql_catalog_builder_finish(r->builder), r->leaving };
	r->builder = NULL;
	r->leaving = NULL;
	finish(r, &catalogs, NULL);
}

/* A row that has other columns, or none in one, says nothing. */
static void on_row(struct server *s PGT_UNUSED, void *arg, const struct slice *columns, unsigned n)
{
	struct catalog_read *r = arg;

	for (unsigned i = 0; i < n; i++)
		if (!columns[i].p)
			return;
	if (n == 4)
		sql_catalog_builder_add(r->builder, columns);
}

static void on_rows(struct server *s, void *arg, const struct report *error)
{
	struct question q = { .row = on_name, .done = on_names, .arg = arg };

	if (error)
		fail_with(arg, error);
	else
		server_ask(s, sql_leaving_query, &q);
}

/* A server that has no jit says so; that is no reason to stop. */
static void on_set_up(struct server *s, void *arg, const struct report *error PGT_UNUSED)
{
	struct question q = { .row = on_row, .done = on_rows, .arg = arg };

	server_ask(s, sql_catalog_query, &q);
}

/* What the planner thinks of recursive queries would have them compiled, which takes ten times as
 * long as they do. */
static void on_ready(struct server *s)
{
	struct question q = { .done = on_set_up, .arg = s->owner };

	server_ask(s, "SET jit = off", &q);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		fail(s->owner, "the server says what nobody asked for");
}

static void on_ended(struct server *s, const char *why)
{
	fail(s->owner, why);
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events events = { .ready = on_ready,
					     .readable = on_readable,
					     .drained = on_nothing,
					     .ended = on_ended,
					     .cancel_over = on_nothing };

struct catalog_read *catalog_read_start(struct net *net, const struct server_target *target,
					catalog_read_fn *done, void *arg)
{
	struct catalog_read *r = xnew(struct catalog_read);

	r->builder = sql_catalog_builder_new();
	r->leaving = sql_leaving_new();
	r->done = done;
	r->arg = arg;
	r->started_at = loop_now(net->loop);
	r->server = server_new(NULL, net, &events);
	r->server->owner = r;
	r->is_starting = true;
	server_connect(r->server, target);
	r->is_starting = false;
	return r;
}

void catalog_read_stop(struct catalog_read *r)
{
	release(r);
}

void catalog_read_sweep(struct catalog_read *r, usec_t now)
{
	if (*r->failure)
		fail(r, r->failure);
	else if (now - r->started_at >= READ_MAX)
		fail(r, "it took too long");
}
