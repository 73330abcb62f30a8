/* SPDX-License-Identifier: ISC
 *
 * patroni.h - asks Patroni's REST API whether a node is its cluster's leader.
 *
 * One short connection for each question, in the clear, as load balancers do.  On the thread of the
 * net.
 */
#ifndef PGT_WORKER_PATRONI_H
#define PGT_WORKER_PATRONI_H

#include "route/primacy.h"
#include "server/dial.h"

struct patroni_question;

/* done() is called once, when this has returned, unless patroni_stop() comes before. */
struct patroni_question *patroni_ask(struct net *net, const struct dial_target *target,
				     void (*done)(void *arg, enum vouch vouch), void *arg);
void patroni_stop(struct patroni_question *q);

#endif
