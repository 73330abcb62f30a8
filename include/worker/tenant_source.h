/* SPDX-License-Identifier: ISC
 *
 * tenant_source.h - asks a database for tenants: all of them now and then, one when it is needed.
 *
 * One connection to the primary of tenant_database, with the monitor's login, on which it also
 * listens for pgturnstile_tenants.  Questions are asked one after the other, so that what a lookup
 * has found is never older than what a refresh brings.  All on the control thread.
 */
#ifndef PGT_WORKER_TENANT_SOURCE_H
#define PGT_WORKER_TENANT_SOURCE_H

#include "worker/lookup_queue.h"
#include "worker/monitor.h"

struct roster;
struct tenant_source;

/* There are other tenants than before: takes the roster.  tenant_source_adopt() follows before it
 * returns. */
typedef void tenant_publish_fn(void *arg, struct roster *roster);

/* Borrows net and monitor until tenant_source_free(). */
struct tenant_source *tenant_source_new(struct net *net, const struct monitor *monitor,
					tenant_publish_fn *publish, void *arg);
/* Lets go of the connection, whose login is the monitor's: before monitor_configure(). */
void tenant_source_stop(struct tenant_source *ts);
/* A configuration is in force, and the monitor has it: asks anew. */
void tenant_source_configure(struct tenant_source *ts, struct config *config);
/* The same configuration with another roster. */
void tenant_source_adopt(struct tenant_source *ts, struct config *config);
/* Whoever waits is told so. */
void tenant_source_free(struct tenant_source *ts);

/* Looks up a name or an id; answer() is called once, with a struct err why nobody could be asked,
 * or NULL when the roster has the tenant now or nobody knows it; maybe before this returns, or
 * never after tenant_source_withdraw(). */
void tenant_source_find(struct tenant_source *ts, struct slice said,
			const struct lookup_asker *who);
/* The asker with this id is gone.  Gives back its arg; NULL: it has been answered. */
void *tenant_source_withdraw(struct tenant_source *ts, uint64_t id);

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

struct tenant_source_facts {
	const char *state;
	const char *error; /* borrowed; NULL: none */
	usec_t read_at;    /* wall clock of the last good answer to the whole query; 0: none */
	usec_t took;       /* for it */
	uint64_t in_file;  /* its rows that the file has too … */
	uint64_t refused;  /* … and those that made no sense */
	uint64_t lookups;  /* single ones, so far */
	uint64_t unknown;  /* names that are known to be nobody's, for now */
	uint64_t waiting;  /* lookups */
};

void tenant_source_tell(const struct tenant_source *ts, struct tenant_source_facts *facts);
void tenant_source_visit(const struct tenant_source *ts, monitor_visit_fn *visit, void *arg);

#endif
