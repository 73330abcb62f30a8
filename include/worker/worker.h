/* SPDX-License-Identifier: ISC
 *
 * worker.h - one thread that serves clients: a loop, listening sockets, its groups.
 *
 * Workers share nothing but the references they are handed: a configuration, TLS contexts, node
 * sets.  Everything in struct worker belongs to its own thread once it runs; others reach it by
 * worker_post().
 */
#ifndef PGT_WORKER_WORKER_H
#define PGT_WORKER_WORKER_H

#include "client/client.h"
#include "net/conn.h"
#include "net/listen.h"
#include "net/mailbox.h"
#include "relay/relay.h"

#include <pthread.h>

struct control;

/* As many as the cancel key has room for. */
#define WORKERS_MAX 64

struct worker {
	unsigned index;
	struct control *control;
	pthread_t thread;
	struct loop *loop;
	struct net net;
	struct mailbox mailbox;
	struct client_host host;
	struct relay relay;
	struct acceptor *acceptors; /* one for each listening socket */
	unsigned nacceptors;
	struct hmap keys; /* clients by the pid of their cancel key */
	struct loop_timer sweep;
	bool accepts;
};

/* Starts the thread; config and tls are referenced. */
void worker_start(struct worker *w, struct control *control, unsigned index);
/* Any thread; after all sessions are gone or to be closed at once. Joins. */
void worker_stop(struct worker *w);
void worker_post(struct worker *w, struct mail *mail, mail_fn *deliver);

#endif
