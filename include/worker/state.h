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
	char *dir; /* NULL: nothing is kept */
	struct loop_timer timer;
	struct buf written; /* what the file holds */
	bool has_failed;    /* and has been told of */
};

/* dir "": nothing is kept.  What is wrong is logged; a file that makes no sense is put aside.
 * Before workers start. */
void state_start(struct state *state, struct loop *loop, const char *dir);
/* When nobody counts any more. */
void state_stop(struct state *state);

#endif
