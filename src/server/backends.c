/* SPDX-License-Identifier: ISC
 *
 * backends.c - which client has which server process, across threads.
 *
 * Knows numbers, not connections.  Nodes are told apart by their address as it is configured.
 */
#include "server/backends.h"

#include "base/mem.h"
#include "route/nodes.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct hmap backends;

static uint64_t hash_of(uint32_t pid)
{
	return hash_bytes(&pid, sizeof(pid));
}

struct backend *backend_new(const struct node *node, uint32_t pid)
{
	struct backend *b = xnew(struct backend);

	b->host = node->host;
	b->port = node->port;
	b->pid = pid;
	pthread_mutex_lock(&lock);
	hmap_insert(&backends, &b->link, hash_of(pid));
	pthread_mutex_unlock(&lock);
	return b;
}

void backend_free(struct backend *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&lock);
	hmap_remove(&backends, &b->link);
	if (!backends.count)
		hmap_fini(&backends);
	pthread_mutex_unlock(&lock);
	free(b);
}

uint32_t backend_client(const struct node *node, uint32_t pid)
{
	uint32_t client = 0;

	pthread_mutex_lock(&lock);
	for (struct hlink *l = hmap_first(&backends, hash_of(pid)); l && !client;
	     l = hmap_next(l)) {
		const struct backend *b = container_of(l, struct backend, link);

		if (b->pid == pid && b->port == node->port && !strcmp(b->host, node->host))
			client = backend_holder(b);
	}
	pthread_mutex_unlock(&lock);
	return client ? client : pid;
}
