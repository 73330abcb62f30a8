/* SPDX-License-Identifier: ISC
 *
 * activation.h - listening sockets that a supervisor has opened before this process began: socket
 * activation, as sd_listen_fds(3) describes it.
 *
 * They stay open in the supervisor, so that who comes while no process runs waits for the next one.
 * What a socket is told when it is made, and its file, are the supervisor's affair.
 *
 * All of it before threads start.
 */
#ifndef PGT_MAIN_ACTIVATION_H
#define PGT_MAIN_ACTIVATION_H

#include "base/err.h"
#include "net/listen.h"

struct activated {
	int fd; /* -1: it has been taken */
	char name[LISTENER_NAME_MAX];
	char unit[64]; /* what the supervisor calls it */
};

struct activation {
	unsigned n;
	struct activated at[LISTENERS_MAX];
};

/* Takes what was handed over to this process, before it opens anything of its own; its children are
 * not told of it.  False: *e (F0000) says what cannot be listened on. */
bool activation_begin(struct activation *a, struct err *e);
/* The socket that is called as this listener would be, now the caller's; -1: there is none. */
int activation_take(struct activation *a, const char *name);
/* False: *e (F0000) names a socket that nobody has taken. */
bool activation_is_used_up(const struct activation *a, struct err *e);

#endif
