/* SPDX-License-Identifier: ISC
 *
 * replies.c - what a server still owes.
 */
#include "server/replies.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void replies_fini(struct replies *q)
{
	free(q->ring);
	*q = (struct replies){ 0 };
}

void replies_grow(struct replies *q)
{
	uint32_t cap = q->cap ? q->cap * 2 : 8;
	struct reply *ring = xcalloc(cap, sizeof(*ring));

	for (uint32_t i = 0; i < q->n; i++)
		ring[i] = *replies_at(q, i);
	free(q->ring);
	q->ring = ring;
	q->cap = cap;
	q->head = 0;
}

void replies_drop(struct replies *q, uint32_t n)
{
	while (n--)
		replies_pop(q);
}

void replies_remove(struct replies *q, uint32_t i)
{
	q->ncycles -= reply_ends_cycle(replies_at(q, i));
	for (; i + 1 < q->n; i++)
		*replies_at(q, i) = *replies_at(q, i + 1);
	q->n--;
}

uint32_t replies_until_sync(const struct replies *q, bool *has_sync)
{
	uint32_t i = 0;

	while (i < q->n && replies_at(q, i)->kind != REPLY_SYNC)
		i++;
	*has_sync = i < q->n;
	return i;
}
