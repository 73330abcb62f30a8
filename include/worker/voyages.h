/* SPDX-License-Identifier: ISC
 *
 * voyages.h - sessions and servers that go to another process, and those that come from one.
 *
 * Between the worker where they live and the control thread, which has the takeover's socket.
 */
#ifndef PGT_WORKER_VOYAGES_H
#define PGT_WORKER_VOYAGES_H

#include <stdbool.h>

struct control;
struct passport;
struct server_passport;
struct worker;

/* Another process has the worker's sessions from now on, as they come to rest, and servers if it
 * takes them; and the way back.  The worker's own thread. */
void voyages_give_away(struct worker *w, bool on);

/* A session that another process has had: its socket, and what it takes along.  Takes both.  Any
 * thread. */
void voyages_bring_session(struct worker *w, int fd, struct passport *passport);

/* The same of a connection to a server.  turn: another number for each, so that workers that share
 * a pool get as many.  The control thread. */
void voyages_bring_server(struct control *control, int fd, struct server_passport *p,
			  unsigned turn);

#endif
