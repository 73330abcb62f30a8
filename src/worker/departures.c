/* SPDX-License-Identifier: ISC
 *
 * departures.c - sessions on their way to the process that takes over.
 *
 * Knows packets, not what a session is.
 */
#include "worker/departures.h"

#include "base/mem.h"
#include "net/packet.h"
#include "worker/offer.h"

#include <stdlib.h>
#include <unistd.h>

/* As many are kept twice, here and in the socket. */
#define SENT_MAX 64

struct departure {
	struct list link;
	uint64_t number;
	int fd;
	struct buf passport;
};

static struct departure *departure_of(struct list *at)
{
	return container_of(at, struct departure, link);
}

void departures_init(struct departures *d, struct packets *to)
{
	*d = (struct departures){ .to = to };
	list_init(&d->waiting);
	list_init(&d->sent);
}

/* In parts: packets have bounds. */
static void send_one(struct departures *d, const struct departure *one)
{
	struct slice rest = buf_peek(&one->passport);
	struct buf packet = { 0 };

	for (; rest.n > TAKEOVER_PART_MAX; rest.p += TAKEOVER_PART_MAX) {
		buf_clear(&packet);
		buf_put_u8(&packet, WORD_SESSION);
		buf_put(&packet, rest.p, TAKEOVER_PART_MAX);
		packets_send(d->to, buf_peek(&packet), -1);
		rest.n -= TAKEOVER_PART_MAX;
	}
	buf_clear(&packet);
	takeover_put_number(&packet, WORD_SESSION_END, one->number);
	buf_put_slice(&packet, rest);
	packets_send(d->to, buf_peek(&packet), one->fd);
	buf_wipe(&packet);
}

static void send_more(struct departures *d, unsigned max)
{
	while (d->nsent < max && !list_is_empty(&d->waiting)) {
		struct departure *one = departure_of(list_first(&d->waiting));

		list_del(&one->link);
		list_push_back(&d->sent, &one->link);
		d->nsent++;
		send_one(d, one);
	}
}

void departures_add(struct departures *d, int fd, struct buf *passport)
{
	struct departure *one = xnew(struct departure);

	one->number = ++d->last;
	one->fd = fd;
	one->passport = *passport;
	*passport = (struct buf){ 0 };
	list_init(&one->link);
	list_push_back(&d->waiting, &one->link);
	send_more(d, SENT_MAX);
}

/* The socket is the caller's. */
static int end(struct departure *one, struct buf *passport)
{
	int fd = one->fd;

	list_del(&one->link);
	*passport = one->passport;
	free(one);
	return fd;
}

int departures_take_back(struct departures *d, uint64_t number, struct buf *passport)
{
	LIST_FOREACH (at, &d->sent) {
		int fd;

		if (departure_of(at)->number != number)
			continue;
		d->nsent--;
		fd = end(departure_of(at), passport);
		send_more(d, SENT_MAX);
		return fd;
	}
	return -1;
}

void departures_taken(struct departures *d, uint64_t number)
{
	struct buf passport = { 0 };
	int fd = departures_take_back(d, number, &passport);

	if (fd >= 0)
		close(fd);
	buf_wipe(&passport);
}

int departures_take_back_any(struct departures *d, struct buf *passport)
{
	struct list *first = list_first(&d->sent);

	if (first)
		d->nsent--;
	else
		first = list_first(&d->waiting);
	return first ? end(departure_of(first), passport) : -1;
}

bool departures_are_over(const struct departures *d)
{
	return list_is_empty(&d->sent) && list_is_empty(&d->waiting);
}

void departures_fini(struct departures *d)
{
	struct buf passport = { 0 };
	int fd;

	send_more(d, UINT32_MAX);
	while ((fd = departures_take_back_any(d, &passport)) >= 0) {
		close(fd);
		buf_wipe(&passport);
	}
}
