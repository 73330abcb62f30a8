/* SPDX-License-Identifier: ISC
 *
 * heap.c - a pairing heap of intrusive links.
 */
#include "base/heap.h"

#include <stddef.h>

static bool is_before(const struct heap_link *a, const struct heap_link *b)
{
	return a->key != b->key ? a->key < b->key : a->order < b->order;
}

/* Makes one heap of two, either of which may be NULL. */
static struct heap_link *meld(struct heap_link *a, struct heap_link *b)
{
	struct heap_link *over = a, *under = b;

	if (!a || !b)
		return a ? a : b;
	if (is_before(b, a)) {
		over = b;
		under = a;
	}
	under->next = over->child;
	if (under->next)
		under->next->prev = under;
	under->prev = over;
	over->child = under;
	over->next = over->prev = NULL;
	return over;
}

/* Makes one heap of a row of siblings: in pairs from the left, these from the right. */
static struct heap_link *meld_row(struct heap_link *row)
{
	struct heap_link *pairs = NULL, *all = NULL;

	while (row) {
		struct heap_link *a = row, *b = row->next;

		row = b ? b->next : NULL;
		a->next = a->prev = NULL;
		if (b)
			b->next = b->prev = NULL;
		a = meld(a, b);
		a->next = pairs;
		pairs = a;
	}
	while (pairs) {
		struct heap_link *a = pairs;

		pairs = a->next;
		a->next = NULL;
		all = meld(all, a);
	}
	return all;
}

void heap_insert(struct heap *heap, struct heap_link *link, int64_t key)
{
	*link = (struct heap_link){ .key = key, .order = heap->inserted++, .is_linked = true };
	heap->root = meld(heap->root, link);
}

void heap_remove(struct heap *heap, struct heap_link *link)
{
	if (!link->is_linked)
		return;
	link->is_linked = false;
	if (link == heap->root) {
		heap->root = meld_row(link->child);
		return;
	}
	if (link->prev->child == link)
		link->prev->child = link->next;
	else
		link->prev->next = link->next;
	if (link->next)
		link->next->prev = link->prev;
	heap->root = meld(heap->root, meld_row(link->child));
}
