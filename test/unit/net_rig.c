/* SPDX-License-Identifier: ISC
 *
 * net_rig.c - a loop with connections whose events a test can look at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net_rig.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

static void on_tick(struct loop_timer *timer)
{
	loop_stop(container_of(timer, struct rig, tick)->loop);
}

void rig_init(struct rig *rig)
{
	rig->loop = loop_new();
	net_init(&rig->net, rig->loop);
}

void rig_fini(struct rig *rig)
{
	net_fini(&rig->net);
	loop_free(rig->loop);
}

void rig_turn(struct rig *rig)
{
	loop_timer_start(rig->loop, &rig->tick, USEC_PER_MSEC, 0, on_tick);
	loop_run(rig->loop);
}

static struct end *end_of(struct conn *c)
{
	return container_of(c, struct end, conn);
}

static void on_readable(struct conn *c)
{
	struct end *end = end_of(c);
	struct slice in = conn_input(c);

	end->nreadable++;
	if (end->on_readable) {
		end->on_readable(end);
		return;
	}
	buf_put_slice(&end->got, in);
	conn_consume(c, in.n);
}

static void on_drained(struct conn *c)
{
	struct end *end = end_of(c);

	end->ndrained++;
	if (end->other)
		conn_resume(&end->other->conn);
}

static void on_ended(struct conn *c, const char *why)
{
	struct end *end = end_of(c);

	end->nended++;
	snprintf(end->why, sizeof(end->why), "%s", why ? why : "");
	if (!end->stays_open)
		conn_close_soon(c);
}

static void on_ready(struct conn *c)
{
	end_of(c)->nready++;
}

static void on_freed(struct conn *c)
{
	struct end *end = end_of(c);

	end->nfreed++;
	buf_fini(&end->got);
}

const struct conn_events end_events = {
	.readable = on_readable,
	.drained = on_drained,
	.ended = on_ended,
	.ready = on_ready,
	.freed = on_freed,
};

int end_open(struct end *end, struct rig *rig)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	*end = (struct end){ 0 };
	conn_open(&end->conn, &rig->net, fds[0], &end_events);
	return fds[1];
}

void ends_open(struct end *a, struct end *b, struct rig *rig)
{
	int fd = end_open(a, rig);

	*b = (struct end){ 0 };
	conn_open(&b->conn, &rig->net, fd, &end_events);
}

void end_close(struct end *end, struct rig *rig)
{
	conn_close_soon(&end->conn);
	UNTIL(rig, end->nfreed);
}

bool peer_read(int fd, struct buf *b)
{
	for (;;) {
		ssize_t n = recv(fd, buf_reserve(b, 65536), 65536, MSG_DONTWAIT);

		if (n < 0) {
			assert_true(errno == EAGAIN);
			return true;
		}
		if (n == 0)
			return false;
		buf_produced(b, (size_t)n);
	}
}

static char pattern_byte(size_t i)
{
	return (char)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

void pattern_put(struct buf *b, size_t n)
{
	char *p = buf_reserve(b, n);

	for (size_t i = 0; i < n; i++)
		p[i] = pattern_byte(i);
	buf_produced(b, n);
}

bool pattern_is_at(const struct buf *b)
{
	for (size_t i = 0; i < buf_len(b); i++)
		if (buf_head(b)[i] != pattern_byte(i))
			return false;
	return true;
}
