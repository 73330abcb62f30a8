/* SPDX-License-Identifier: ISC
 *
 * state.h - the file in which quotas outlive the process: state_dir/quotas.
 *
 * Read at start, written every few seconds when something has changed and once more when all
 * workers have ended, always as a whole: a new file, synced, renamed over the old one.  Control
 * thread.
 */
#ifndef PGT_WORKER_STATE_H
#define PGT_WORKER_STATE_H

#include "base/buf.h"
#include "net/loop.h"

struct state {
	struct loop *loop;
	bool is_anothers; /* another process counts, and writes the file */
	char *dir;        /* NULL: nothing is kept */
	struct loop_timer timer;
	struct buf written; /* what the file holds */
	bool has_failed;    /* and has been told of */
};

/* dir "": nothing is kept.  What is wrong is logged; a file that makes no sense is put aside.
 * is_anothers: for the time being.  Before workers start. */
void state_start(struct state *state, struct loop *loop, const char *dir, bool is_anothers);
/* Another process counts from now on: with what is given to it here. */
void state_give(struct state *state, struct buf *ledger);
/* It does no more: goes on with what it has given, or (n is 0) with what stands in the file. */
void state_take(struct state *state, struct slice ledger);
/* … or with what was counted here before. */
void state_go_on(struct state *state);
/* When nobody counts any more. */
void state_stop(struct state *state);

#endif
