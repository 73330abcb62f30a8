/* SPDX-License-Identifier: ISC
 *
 * sets.h - the node set of each database that is in use, by the name that clients say.
 *
 * One registry for the process, under a lock that is taken on cold paths only: a client enters, the
 * configuration changes, the monitor looks around.
 */
#ifndef PGT_WORKER_SETS_H
#define PGT_WORKER_SETS_H

#include "route/nodes.h"

struct node_sets;

struct node_sets *node_sets_new(void);
/* Lets go of its references; others may still hold theirs. */
void node_sets_free(struct node_sets *sets);

/* Is called, by whatever thread, when a set of several nodes has been made: its nodes are to be
 * asked.  Before there is one; without it, whoever asks finds it by itself. */
void node_sets_on_made(struct node_sets *sets, void (*made)(void *arg), void *arg);

/* The set of a database, made when there is none, and made anew when the hosts are others: groups
 * on the old one keep it until they are gone, and what it remembers of primaries goes on in the new
 * one.  edition: of the configuration whose hosts these are; those of one that is older than what
 * the set there is stands for, which a thread may still have, get one that is nobody else's.  A
 * reference for the caller.  Any thread. */
struct node_set *node_sets_get(struct node_sets *sets, const char *database,
			       const struct node_conf *nodes, size_t n, unsigned edition);

/* All of them, a reference each, in an array to be freed.  Any thread. */
struct node_set **node_sets_list(struct node_sets *sets, unsigned *n);

/* Forgets a set when nobody but the registry and `holders` others has it.  Any thread. */
void node_sets_forget(struct node_sets *sets, struct node_set *set, unsigned holders);

#endif
