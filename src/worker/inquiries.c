/* SPDX-License-Identifier: ISC
 *
 * inquiries.c - cancel requests that another process is asked to deliver, in a takeover.
 *
 * Knows packets and numbers; whose keys they are it does not.
 */
#include "worker/inquiries.h"

#include "net/packet.h"
#include "worker/offer.h"
#include "worker/peers.h"

/* As many may be open. */
#define OPEN_MAX 1000

void inquiries_init(struct inquiries *q, struct packets *to)
{
	*q = (struct inquiries){ .to = to };
	list_init(&q->open);
}

void inquiries_add(struct inquiries *q, struct peer_request *r)
{
	struct buf packet = { 0 };

	if (!q->to->loop || !crowd_has_room(&q->crowd, r->origin, OPEN_MAX)) {
		r->over(r);
		return;
	}
	crowd_enter(&q->crowd, r->origin);
	r->since = (usec_t)++q->last;
	list_push_back(&q->open, &r->link);
	takeover_put_number(&packet, WORD_CANCEL, q->last);
	buf_put_u32(&packet, r->pid);
	buf_put(&packet, r->secret, r->secret_len);
	packets_send(q->to, buf_peek(&packet), -1);
	buf_wipe(&packet);
}

static void end(struct inquiries *q, struct peer_request *r)
{
	list_del(&r->link);
	crowd_leave(&q->crowd, r->origin);
	r->over(r);
}

void inquiries_answered(struct inquiries *q, uint64_t number)
{
	LIST_FOREACH_SAFE (at, &q->open) {
		struct peer_request *r = container_of(at, struct peer_request, link);

		if ((uint64_t)r->since == number)
			end(q, r);
	}
}

void inquiries_give_up(struct inquiries *q)
{
	LIST_FOREACH_SAFE (at, &q->open)
		end(q, container_of(at, struct peer_request, link));
}

void inquiries_fini(struct inquiries *q)
{
	inquiries_give_up(q);
	crowd_fini(&q->crowd);
}
