/* SPDX-License-Identifier: ISC
 *
 * process.h - what the process is to the system: its user, its limits, its pidfile, its supervisor.
 *
 * All of it before threads start or after they have ended, except process_tell().
 */
#ifndef PGT_MAIN_PROCESS_H
#define PGT_MAIN_PROCESS_H

#include "base/err.h"

#include <stdbool.h>

/* Becomes a system user with its groups, for good.  "": stays who it is.  False: *e (F0000). */
bool process_become(const char *user, struct err *e);

/* Raises the limit of open files as far as it goes and warns when it is below what is needed. */
void process_raise_file_limit(unsigned long needed);

/* Memory is full of secrets: no core file, and nobody of the same user may look into it.  A build
 * for debuggers hides nothing. */
void process_hide_memory(void);
/* At the very end: a leak checker that is built in may look. */
void process_show_memory(void);

/* Writing to who has left, or to a file that may grow no more, fails and does nothing else. */
void process_ignore_signals(void);
/* The other signals wait until the control thread handles them. */
void process_hold_signals(void);

/* Goes to the background with a session of its own; the working directory stays, since names of
 * files may depend on it.  False: *e (F0000). */
bool process_daemonise(struct err *e);

struct pidfile {
	const char *path; /* "": none */
	int fd;
	bool is_lent; /* another process has it, under the same lock, and its number in it */
};

/* Takes the file, which no other process may hold; given: the one that it has handed on, or -1.
 * False: *e (F0000) says who holds it. */
bool pidfile_take(struct pidfile *file, const char *path, int given, struct err *e);
/* Writes our number, which daemonising changes: it is ours from then on. */
void pidfile_write(struct pidfile *file);
void pidfile_remove(struct pidfile *file);

/* A word of sd_notify(3) to the supervisor, if there is one that listens. */
void process_tell(const char *state);

#endif
