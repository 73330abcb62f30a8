/* SPDX-License-Identifier: ISC
 *
 * inquiries.h - cancel requests that another process is asked to deliver, in a takeover.
 *
 * Each has a number, with which the other process says that it has done what it could.  So many may
 * be open at once, of which one address has half at most.
 *
 * Control thread.
 */
#ifndef PGT_WORKER_INQUIRIES_H
#define PGT_WORKER_INQUIRIES_H

#include "base/crowd.h"
#include "base/list.h"

#include <stdint.h>

struct packets;
struct peer_request;

struct inquiries {
	struct packets *to;
	struct list open;   /* by peer_request.link, with their numbers in peer_request.since */
	struct crowd crowd; /* of those who wait for them */
	uint64_t last;      /* the highest number */
};

void inquiries_init(struct inquiries *q, struct packets *to);
/* Asks; over() follows, at once where there is no room or nobody to be asked. */
void inquiries_add(struct inquiries *q, struct peer_request *r);
void inquiries_answered(struct inquiries *q, uint64_t number);
/* What has not been answered nobody will answer. */
void inquiries_give_up(struct inquiries *q);
void inquiries_fini(struct inquiries *q);

#endif
