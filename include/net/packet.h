/* SPDX-License-Identifier: ISC
 *
 * packet.h - packets between two processes of one user: bytes, and with each a descriptor.
 *
 * A Unix socket that keeps the bounds of what is written to it (SOCK_SEQPACKET).  Only a process of
 * our own user is talked to, whichever side it is on.  The first packets of a start are exchanged
 * before there is a loop, by functions that wait, and nothing else here does; the same socket is
 * then watched.
 */
#ifndef PGT_NET_PACKET_H
#define PGT_NET_PACKET_H

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"

/* The longest packet: less than what a socket takes by default. */
#define PACKET_MAX 65536

/* ---- sockets ----------------------------------------------------------------------------------
 */

/* Listens at a path that only our user can connect to; a stale file is replaced.  -1: *e (F0000).
 */
int packet_listen(const char *path, struct err *e);
/* -1: nobody of our user listens there (*e). */
int packet_connect(const char *path, struct err *e);
/* Somebody has come: the descriptor, or -1 (nobody any more, or another user's, which is logged).
 */
int packet_accept(int fd);

/* Sends one, with a descriptor or -1, which stays the caller's.  False: errno. */
bool packet_put(int fd, struct slice bytes, int passed);
/* Waits for one, until `patience` is over.  *passed: a descriptor, now the caller's, or -1.  False:
 * *e. */
bool packet_wait(int fd, usec_t patience, struct buf *bytes, int *passed, struct err *e);

/* ---- a socket that is watched -------------------------------------------------------------------
 */

struct packets;

struct packet_events {
	/* Takes the descriptor, or -1: there was none, or too many, or no room for it here.  It may
	 * stop the packets. */
	void (*came)(struct packets *p, struct slice bytes, int passed);
	/* The other process has closed its end, or is gone: packets_stop() it. */
	void (*ended)(struct packets *p);
};

enum packet_fate {
	PACKET_SENT,  /* the other process has it, even if this one dies */
	PACKET_LATER, /* the other process does not take more now */
	PACKET_LOST,  /* the other process is gone */
};

struct packets {
	struct loop *loop; /* NULL: it is not watched */
	struct loop_io io;
	const struct packet_events *on;
	struct list unsent; /* the other process does not take more now */
	bool *stopped;      /* while a handler runs: to be set when it stops p */
	int fd;
};

/* Takes the descriptor. */
void packets_start(struct packets *p, struct loop *loop, int fd, const struct packet_events *on);
/* The descriptor, or -1, stays the caller's.  What cannot be sent now is sent later; nothing, when
 * it is not watched. */
void packets_send(struct packets *p, struct slice bytes, int passed);
/* Sends it now or not at all. */
enum packet_fate packets_send_now(struct packets *p, struct slice bytes);
/* Closes it, with what was not sent, which is wiped.  Harmless for one that is not watched. */
void packets_stop(struct packets *p);

#endif
