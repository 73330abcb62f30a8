/* SPDX-License-Identifier: ISC
 *
 * catalog_read.h - reads the catalog of a database, on a connection of its own.
 *
 * One reading is one connection and three queries, on the control thread.  A large catalog takes a
 * while, and the monitor's question for the role must not stand behind it.
 */
#ifndef PGT_WORKER_CATALOG_READ_H
#define PGT_WORKER_CATALOG_READ_H

#include "server/server.h"

struct catalog_read;
struct sql_catalog;
struct sql_leaving;

/* What a reading gives: references for the callee. */
struct catalogs {
	struct sql_catalog *catalog;
	const struct sql_leaving *leaving;
};

/* Called once, never from catalog_read_start(); the reading is gone then.  catalogs: NULL when it
 * has failed, and why tells. */
typedef void catalog_read_fn(void *arg, const struct catalogs *catalogs, const char *why);

/* Target as server_connect() has it. */
struct catalog_read *catalog_read_start(struct net *net, const struct server_target *target,
					catalog_read_fn *done, void *arg);
/* done() will not be called. */
void catalog_read_stop(struct catalog_read *r);
/* Gives up when it has taken too long; call now and then. */
void catalog_read_sweep(struct catalog_read *r, usec_t now);

#endif
