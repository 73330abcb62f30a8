/* SPDX-License-Identifier: ISC
 *
 * backends.h - which client has which server process, across threads.
 *
 * A notification tells the process that sent it.  Clients know each other by the numbers that we
 * gave them with their cancel keys, so the one number has to become the other.  A record is made
 * and dropped with its connection, under a lock; who has it is one atomic store.
 */
#ifndef PGT_SERVER_BACKENDS_H
#define PGT_SERVER_BACKENDS_H

#include "base/hash.h"

#include <stdatomic.h>
#include <stdint.h>

struct node;

struct backend {
	struct hlink link;
	const char *host; /* of its node, which outlives it */
	uint16_t port;
	uint32_t pid;
	_Atomic uint32_t client; /* the number of who has it, or had it last; 0: nobody yet */
};

struct backend *backend_new(const struct node *node, uint32_t pid);
void backend_free(struct backend *b); /* NULL is allowed */

static inline void backend_hold(struct backend *b, uint32_t client)
{
	if (b)
		atomic_store_explicit(&b->client, client, memory_order_relaxed);
}

static inline uint32_t backend_holder(const struct backend *b)
{
	return b ? atomic_load_explicit(&b->client, memory_order_relaxed) : 0;
}

/* The number of the client that has this process of the node, or had it last; pid itself when it is
 * nobody's that we know. */
uint32_t backend_client(const struct node *node, uint32_t pid);

#endif
