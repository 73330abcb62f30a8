/* SPDX-License-Identifier: ISC
 *
 * logins.h - logins that are under way on a server, and who waits to begin one.
 *
 * When a server comes back, everybody wants to log in at once, and a server that begins hundreds of
 * sessions at the same time finishes none of them.  So there is a place for so many logins on each
 * server, whichever databases, pools and threads they are of.  Databases that wait take turns, and
 * so do their pools: each gets one place and stands at the end again.
 *
 * A login that takes long leaves its place to others, as it is more likely to wait for something
 * than to be worked at; only not to those of its own database, which may be what it waits for.
 *
 * Any thread, under a lock that all share; a wait and a place are used by the thread of their pool
 * only.  Knows nothing of connections.
 */
#ifndef PGT_ROUTE_LOGINS_H
#define PGT_ROUTE_LOGINS_H

#include "base/clock.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct logins;
struct login_line;

/* A login that is under way; zeroed: none. */
struct login_place {
	struct list link; /* of logins.fresh, as long as it does not take long */
	struct login_line *line;
	usec_t since;
};

/* A thread, which is told when a pool of its may log in.  wake() is called under the lock, by any
 * thread, at most once until login_desk_next() has said that nobody is left. */
struct login_desk {
	struct list granted; /* of login_wait.link */
	bool is_told;
	void (*wake)(struct login_desk *desk);
};

/* Where a pool stands in the queue; zeroed: nowhere. */
struct login_wait {
	struct list link; /* of its line, or once it has a place of its desk */
	struct login_line *line;
	struct login_desk *desk;
	struct login_place place; /* that it may use, or has to give back */
};

/* Of the server at this address: made when it is first asked for; a reference. */
struct logins *logins_get(const char *host, uint16_t port);
void logins_put(struct logins *l);

/* How many may be under way to each server; 0, as it is at the start: any number. */
void logins_configure(unsigned max, usec_t now);

/* A login of this database begins.  False: it has to wait, and w stands in the queue; its desk is
 * told. */
bool logins_begin(struct logins *l, struct login_place *place, struct login_wait *w,
		  struct login_desk *desk, const void *database, usec_t now);
/* It is over, however it has ended.  Harmless for none. */
void login_end(struct login_place *place, usec_t now);

void login_desk_init(struct login_desk *desk, void (*wake)(struct login_desk *desk));
/* One of the desk's that has a place now: logins_begin() takes it, login_wait_leave() gives it
 * back. NULL: nobody is left. */
struct login_wait *login_desk_next(struct login_desk *desk);
/* It wants no place any more, and gives back one that it has not used. */
void login_wait_leave(struct login_wait *w, usec_t now);

/* Places that logins have left because they take long go to those who wait: some times a second. */
void logins_sweep(usec_t now);

struct logins_count {
	unsigned under_way; /* also those that take long */
	unsigned waiting;   /* pools */
};
struct logins_count logins_count(struct logins *l);

#endif
