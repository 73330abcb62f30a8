/* SPDX-License-Identifier: ISC
 *
 * fence.c - the numbered questions, and how far the log was when they were answered.
 */
#include "route/fence.h"

#include <string.h>

_Atomic uint64_t fence_asked;
_Atomic uint64_t fence_floor;

uint64_t fence_ask(void)
{
	return atomic_fetch_add(&fence_asked, 1) + 1;
}

void fence_raise(_Atomic uint64_t *fence)
{
	uint64_t now = fence_now(), seen = atomic_load(fence);

	/* Another thread may have got further, and must not be set back. */
	while (seen < now && !atomic_compare_exchange_weak(fence, &seen, now))
		;
}

static bool is_same_origin(const struct fence_origin *a, const struct fence_origin *b)
{
	return a->node == b->node && a->system == b->system && a->timeline == b->timeline &&
	       a->process == b->process;
}

/* Of two marks the later will do for both: who has reached it has reached the other. */
static void thin_out(struct fence_line *line)
{
	unsigned kept = 0;

	for (unsigned i = 1; i < line->n; i += 2)
		line->marks[kept++] = line->marks[i];
	line->n = kept;
}

bool fence_line_add(struct fence_line *line, const struct fence_origin *origin, uint64_t number,
		    uint64_t position)
{
	struct fence_mark *last = line->n ? &line->marks[line->n - 1] : NULL;
	bool is_another =
	    !is_same_origin(&line->origin, origin) || (last && position < last->position);

	if (is_another) {
		line->origin = *origin;
		line->n = 0;
	} else if (last && position == last->position) {
		last->number = number;
		return false;
	}
	if (line->n == FENCE_MARKS)
		thin_out(line);
	line->marks[line->n++] = (struct fence_mark){ number, position };
	return is_another;
}

uint64_t fence_line_covered(const struct fence_line *line, uint64_t position)
{
	unsigned low = 0, high = line->n;

	/* Marks below low are reached, those from high on are not. */
	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (line->marks[middle].position <= position)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? line->marks[low - 1].number : 0;
}
