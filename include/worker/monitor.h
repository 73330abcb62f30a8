/* SPDX-License-Identifier: ISC
 *
 * monitor.h - asks each node for its role, its lag and its catalog, and tells the node sets.
 *
 * Watches every database that is in use, or has an entry of its own, and has more than one node:
 * one connection to each node, and a short one now and then to read the primary's catalog.  All on
 * the control thread.
 */
#ifndef PGT_WORKER_MONITOR_H
#define PGT_WORKER_MONITOR_H

#include "config/config.h"

struct mailbox;
struct monitor;
struct net;
struct node_sets;
struct resolver;
struct err;
struct node;
struct server;
struct server_target;
struct tls_context;

/* Borrows all of them until monitor_free(). */
struct monitor *monitor_new(struct net *net, struct mailbox *mailbox, struct resolver *resolver,
			    struct node_sets *sets);
/* A configuration is in force; references it and the TLS context (or NULL).  Starts over, with what
 * the node sets know already. */
void monitor_configure(struct monitor *m, struct config *config, struct tls_context *server_tls);
/* A database has come into use: it is watched now, not when that would be seen by itself. */
void monitor_look(struct monitor *m);
void monitor_free(struct monitor *m);

/* The primary of a database of the configuration, and how the monitor logs in to it; NULL: it is
 * not known.  Borrowed until the next monitor_configure(). */
const struct node *monitor_primary(const struct monitor *m, const char *database,
				   struct server_target *target);

/* SWITCHOVER: transactions that may write begin on no node until another one is the primary, but
 * for no longer than failover_wait.  False: *e. */
bool monitor_retire(struct monitor *m, const char *database, struct err *e);
/* None is under way there any more: the time begins again.  False: it was over. */
bool monitor_rest(struct monitor *m, const char *database);
/* They begin on the primary that there is; database "": of all.  False: none retires. */
bool monitor_keep(struct monitor *m, const char *database);

/* For SHOW SERVERS: a connection of the monitor's that is logged in, and what it is for. */
typedef void monitor_visit_fn(void *arg, struct server *s, const char *database, const char *user);
void monitor_visit(const struct monitor *m, monitor_visit_fn *visit, void *arg);

#endif
