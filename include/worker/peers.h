/* SPDX-License-Identifier: ISC
 *
 * peers.h - cancel requests that belong to another process, and their way there.
 *
 * As many connections to a peer as its pool_size, one request each; others wait for their turn, in
 * a queue of which one address has half of the places at most.  A request is sent on once: ADR 42.
 * Control thread.
 */
#ifndef PGT_WORKER_PEERS_H
#define PGT_WORKER_PEERS_H

#include "base/clock.h"
#include "base/list.h"
#include "wire/startup.h"

#include <stdint.h>

struct cancel;
struct config;
struct mailbox;
struct net;
struct peer;
struct peers;
struct resolver;
struct tls_context;

struct peer_request {
	struct list link;
	struct peer *peer;
	struct cancel *cancel; /* on its way; NULL: it waits */
	uint64_t origin;       /* whose places it takes */
	usec_t since;
	uint32_t pid;
	uint16_t secret_len;
	uint8_t secret[CANCEL_KEY_MAX];
	void *owner; /* of whoever set over() */
	/* It has been delivered, or cannot be; called once. */
	void (*over)(struct peer_request *r);
};

/* mailbox: of the thread, where the resolver answers. */
struct peers *peers_new(struct net *net, struct mailbox *mailbox, struct resolver *resolver);
void peers_free(struct peers *p);
/* server_tls: for connections to them, or NULL; both are the caller's for as long as it takes until
 * the next call. */
void peers_configure(struct peers *p, const struct config *config, struct tls_context *server_tls);
/* Sends a request on; over() may be called before this returns. */
void peers_forward(struct peers *p, struct peer_request *r);
/* Call now and then: gives up what has waited for cancel_wait_timeout. */
void peers_sweep(struct peers *p, usec_t now);

struct peer_facts {
	unsigned id;
	unsigned waiting;    /* requests in the queue */
	unsigned connecting; /* requests on their way, not sent yet … */
	unsigned sent;       /* … and sent: the peer has not hung up yet */
};

void peers_each(const struct peers *p, void (*visit)(void *arg, const struct peer_facts *facts),
		void *arg);

#endif
