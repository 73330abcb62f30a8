/* SPDX-License-Identifier: ISC
 *
 * notifier.h - tells events to whoever listens on a database: NOTIFY, one for each.
 *
 * One connection to the primary of events_notify_database, with the monitor's login.  Whoever says
 * an event does not wait for it: events are read off the ring, where those that nobody could be
 * told are pushed out by others.  All on the control thread.
 */
#ifndef PGT_WORKER_NOTIFIER_H
#define PGT_WORKER_NOTIFIER_H

#include "worker/monitor.h"

struct notifier;

/* Borrows net and monitor until notifier_free(). */
struct notifier *notifier_new(struct net *net, const struct monitor *monitor);
/* Lets go of the connection, whose login is the monitor's: before monitor_configure(). */
void notifier_stop(struct notifier *n);
/* A configuration is in force, and the monitor has it.  Goes on behind the last event that was
 * told; if none was to be told before, begins with the next one. */
void notifier_configure(struct notifier *n, struct config *config);
void notifier_free(struct notifier *n);

/* For SHOW SERVERS. */
void notifier_visit(const struct notifier *n, monitor_visit_fn *visit, void *arg);

#endif
