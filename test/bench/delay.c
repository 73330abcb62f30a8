/* SPDX-License-Identifier: ISC
 *
 * delay.c - a relay that is far away: bytes arrive on the other side a fixed time later.
 *
 * For measurements where the kernel has no netem.  `delay LISTEN_PORT PORT MICROSECONDS`, loopback
 * only; half of the time in each direction, so that a round trip takes as long as is said.  One
 * thread; knows no messages.  What was read stands in one queue until it is due.  Connections are
 * as few as a pooler's, and their structs live as long as the process.
 */
#define _GNU_SOURCE 1 /* accept4, epoll_pwait2 */

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct side {
	struct side *other;
	int fd;
	bool is_closed;
};

/* In the order of their due times, since all wait as long. */
struct chunk {
	STAILQ_ENTRY(chunk) next;
	int64_t due_ns;
	struct side *to;
	size_t n; /* 0: the end of the stream */
	char bytes[];
};

static STAILQ_HEAD(, chunk) queue = STAILQ_HEAD_INITIALIZER(queue);
static int64_t delay_ns;
static int epoll_fd;

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static struct side *side_new(int fd)
{
	struct side *side = calloc(1, sizeof(*side));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = side };

	if (!side)
		err(1, "calloc");
	side->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		err(1, "epoll_ctl");
	return side;
}

static void on_connection(int listener, int port)
{
	struct sockaddr_in to = loopback(port);
	int near = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct side *a, *b;

	if (near < 0 || far < 0)
		err(1, "accept");
	if (connect(far, (struct sockaddr *)&to, sizeof(to)) < 0) {
		close(near);
		close(far);
		return;
	}
	a = side_new(near);
	b = side_new(far);
	a->other = b;
	b->other = a;
}

static void put_off(struct side *to, const char *bytes, size_t n)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + n);

	if (!chunk)
		err(1, "malloc");
	chunk->due_ns = now_ns() + delay_ns;
	chunk->to = to;
	chunk->n = n;
	memcpy(chunk->bytes, bytes, n);
	STAILQ_INSERT_TAIL(&queue, chunk, next);
}

static void on_readable(struct side *side)
{
	static char buf[65536];
	ssize_t n = recv(side->fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, side->fd, NULL);
	put_off(side->other, buf, n > 0 ? (size_t)n : 0);
}

static void deliver(const struct chunk *chunk)
{
	struct side *to = chunk->to;

	for (size_t sent = 0; sent < chunk->n && !to->is_closed;) {
		ssize_t n = send(to->fd, chunk->bytes + sent, chunk->n - sent, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			to->is_closed = true;
		sent += n > 0 ? (size_t)n : 0;
	}
	if (!chunk->n) {
		shutdown(to->fd, SHUT_WR);
		to->is_closed = true;
	}
	/* Both have ended, and nothing is queued for either behind its end. */
	if (to->is_closed && to->other && to->other->is_closed) {
		close(to->fd);
		close(to->other->fd);
	}
}

/* Delivers what is due; how long until the next is. */
static struct timespec *deliver_due(struct timespec *wait)
{
	struct chunk *chunk;

	while ((chunk = STAILQ_FIRST(&queue))) {
		int64_t left = chunk->due_ns - now_ns();

		if (left > 0) {
			*wait = (struct timespec){ left / 1000000000, left % 1000000000 };
			return wait;
		}
		STAILQ_REMOVE_HEAD(&queue, next);
		deliver(chunk);
		free(chunk);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at;
	struct epoll_event events[256], event = { .events = EPOLLIN };
	struct timespec wait;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (argc != 4)
		errx(2, "usage: delay LISTEN_PORT PORT MICROSECONDS");
	at = loopback(atoi(argv[1]));
	delay_ns = atoll(argv[3]) * 1000 / 2;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 128) < 0)
		err(1, "port %s", argv[1]);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		int n = epoll_pwait2(epoll_fd, events, 256, deliver_due(&wait), NULL);

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr)
				on_readable(events[i].data.ptr);
			else
				on_connection(listener, atoi(argv[2]));
		}
	}
}
