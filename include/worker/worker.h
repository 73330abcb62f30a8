/* SPDX-License-Identifier: ISC
 *
 * worker.h - one thread that serves clients: a loop, listening sockets, its groups.
 *
 * Workers share nothing but the references they are handed: a configuration, TLS contexts, node
 * sets.  Everything in struct worker belongs to its own thread once it runs; others reach it by
 * worker_post().
 *
 * Any worker takes a client from the listening sockets, reads its startup packet and sends it home:
 * to the worker that has the group of its database, user and tenant, or to the control thread when
 * it wants the console.
 */
#ifndef PGT_WORKER_WORKER_H
#define PGT_WORKER_WORKER_H

#include "client/client.h"
#include "net/conn.h"
#include "net/listen.h"
#include "net/mailbox.h"
#include "relay/relay.h"
#include "worker/setup.h"

#include <pthread.h>

struct control;

/* As many as the cancel key has room for: its pid is positive in 31 bits, 25 of them random. */
#define WORKERS_MAX 64

struct worker {
	unsigned index;
	struct control *control;
	pthread_t thread;
	struct loop *loop;
	struct net net;
	struct mailbox mailbox;
	struct setup setup; /* in force; host and relay borrow or reference it */
	struct client_host host;
	struct relay relay;
	struct acceptor acceptors[LISTENERS_MAX]; /* one for each listening socket */
	unsigned nacceptors;                      /* 0: none is watched */
	bool drains;                              /* those of Unix only, and who comes is late */
	struct hmap keys;                         /* clients by the pid of their cancel key */
	struct loop_timer sweep;
	bool is_over; /* who still comes by mail is turned away */
};

/* Of a client that is not the console's. */
static inline struct worker *worker_of(const struct client_host *host)
{
	return host->owner;
}

/* ---- the control thread's part: in this order -------------------------------------------------
 */

/* Makes the worker.  References the control's setup. */
void worker_init(struct worker *w, struct control *control, unsigned index);
/* Starts its thread, which accepts at once and knows its way to the others: all of them must have
 * been made. */
void worker_start(struct worker *w);
/* Ends the thread and waits for it.  From here on the worker is the caller's. */
void worker_join(struct worker *w);
/* Closes its clients and servers.  All workers must have been joined. */
void worker_close(struct worker *w);
/* Frees the rest.  All workers must have been closed, and the resolver freed. */
void worker_free(struct worker *w);

/* ---- any thread -------------------------------------------------------------------------------
 */

/* deliver() runs on the worker's thread with the worker as its receiver. */
void worker_post(struct worker *w, struct mail *mail, mail_fn *deliver);

/* A client that has come before worker_drain() did. */
void worker_take_in(struct worker *w, int fd, const struct addr *peer);
/* Index of the worker that has the group of this key; of a pool that workers share, each has a
 * part. */
unsigned worker_home(const struct control *control, const struct group_key *key);

/* ---- the worker's own thread ------------------------------------------------------------------
 */

/* Starts and stops to take new clients; harmless when it is so already. */
void worker_accept(struct worker *w, bool on);
/* Takes no more new clients, for good: who still comes by a Unix socket may cancel, or be on the
 * console. */
void worker_drain(struct worker *w);
/* Stops and starts to take new clients and to read from those that are there. */
void worker_suspend(struct worker *w, bool on);
/* Another version is in force; takes the references, and gives those that it had. */
struct setup worker_reconfigure(struct worker *w, struct setup setup);

#endif
