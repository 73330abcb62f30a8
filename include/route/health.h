/* SPDX-License-Identifier: ISC
 *
 * health.h - when a node is out, when it is back, and when its role can be relied on.
 *
 * Pure: what was heard and how much of it is needed in, a verdict out.  One failure is none, since
 * a connection may end for many reasons; and one answer is none either, of a node that was down.
 */
#ifndef PGT_ROUTE_HEALTH_H
#define PGT_ROUTE_HEALTH_H

#include "base/clock.h"

#include <stdbool.h>

struct health {
	bool is_known;     /* it has answered, ever */
	bool is_out;       /* it has failed often enough, and not answered often enough since */
	bool is_primary;   /* by its last answer */
	bool is_wavering;  /* its last change of role came soon after the one before */
	unsigned failures; /* in a row */
	unsigned answers;  /* in a row, of one that is out */
	usec_t turned_at;  /* when its role changed last; 0: never */
};

/* It has failed to answer; is_sure: that alone will do, however many are needed. */
void health_fail(struct health *h, unsigned needed, bool is_sure);
/* It has answered.  A replica that was out needs so many of these. */
void health_answer(struct health *h, bool is_primary, unsigned needed, usec_t settle_time,
		   usec_t now);

/* It has failed, and may not be down. */
static inline bool health_is_doubtful(const struct health *h)
{
	return h->failures && !h->is_out;
}

/* Its role goes to and fro, and has not been kept for so long. */
static inline bool health_is_unsettled(const struct health *h, usec_t settle_time, usec_t now)
{
	return h->is_wavering && now - h->turned_at < settle_time;
}

#endif
