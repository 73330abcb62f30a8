/* SPDX-License-Identifier: ISC
 *
 * health.c - when a node is out, when it is back, and when its role can be relied on.
 *
 * Counts and compares; knows neither nodes nor how they are asked.
 */
#include "route/health.h"

void health_fail(struct health *h, unsigned needed, bool is_sure)
{
	h->answers = 0;
	h->failures++;
	if (is_sure || !h->is_known || h->failures >= needed)
		h->is_out = true;
}

/* One change is a failover, and counts at once.  Another one soon after it is a name behind which
 * there are several servers, or somebody who cannot decide. */
static void turn(struct health *h, usec_t settle_time, usec_t now)
{
	h->is_wavering = h->turned_at && now - h->turned_at < settle_time;
	h->turned_at = now;
}

void health_answer(struct health *h, bool is_primary, unsigned needed, usec_t settle_time,
		   usec_t now)
{
	if (h->is_known && is_primary != h->is_primary)
		turn(h, settle_time, now);
	h->failures = 0;
	h->answers += h->is_out;
	if (!h->is_known || is_primary || h->answers >= needed)
		h->is_out = false;
	h->is_known = true;
	h->is_primary = is_primary;
}
