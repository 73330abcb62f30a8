/* SPDX-License-Identifier: ISC
 *
 * stub.c - a server that knows one answer, to drive a proxy to its own limit without PostgreSQL.
 *
 *     stub PORT
 *
 * Lets everybody in, and answers each message with what PostgreSQL would say to a SELECT of one
 * number without parameters: all messages of a receive by one send.  One thread, on loopback.
 * Ends by a signal.
 *
 * Does not know SQL: to BEGIN it says the same.
 */
#define _GNU_SOURCE 1 /* accept4 */

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	IN_ROOM = 65536,
	OUT_ROOM = 16 * IN_ROOM, /* of a message of five bytes comes an answer of some sixty */
	SSL_REQUEST = 80877103,
	GSSENC_REQUEST = 80877104,
};

/* PostgreSQL's answers, without their last NUL. */
#define ROW_DESCRIPTION  "T\0\0\0\x21\0\1?column?\0\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\0"
#define DATA_ROW         "D\0\0\0\xb\0\1\0\0\0\1\x32"
#define COMMAND_COMPLETE "C\0\0\0\xdSELECT 1\0"
#define READY            "Z\0\0\0\5I"
#define WELCOME                                                                                    \
	"R\0\0\0\x8\0\0\0\0"                                                                       \
	"S\0\0\0\x18server_version\0"                                                              \
	"15.0\0"                                                                                   \
	"S\0\0\0\31server_encoding\0UTF8\0"                                                        \
	"S\0\0\0\31client_encoding\0UTF8\0"                                                        \
	"S\0\0\0\x23standard_conforming_strings\0on\0"                                             \
	"K\0\0\0\xc\0\0\0\1\0\0\0\2" READY

struct answer {
	const char *bytes;
	size_t n;
};

#define ANSWER(text)                                                                               \
	{                                                                                          \
		text, sizeof(text) - 1                                                             \
	}

static const struct answer welcome = ANSWER(WELCOME);
static const struct answer answers[256] = {
	['Q'] = ANSWER(ROW_DESCRIPTION DATA_ROW COMMAND_COMPLETE READY),
	['P'] = ANSWER("1\0\0\0\4"),
	['B'] = ANSWER("2\0\0\0\4"),
	['C'] = ANSWER("3\0\0\0\4"),
	['D'] = ANSWER(ROW_DESCRIPTION),
	['E'] = ANSWER(DATA_ROW COMMAND_COMPLETE),
	['S'] = ANSWER(READY),
};

struct session {
	int fd;
	bool is_in;
	size_t n;
	char in[IN_ROOM]; /* what has come of a message that is not whole */
};

static int epoll_fd;
static char out[OUT_ROOM];
static size_t out_len;

static void put(const struct answer *a)
{
	if (out_len + a->n > sizeof(out))
		errx(1, "too many messages at once");
	memcpy(out + out_len, a->bytes, a->n);
	out_len += a->n;
}

static uint32_t number_at(const char *p)
{
	uint32_t n;

	memcpy(&n, p, 4);
	return ntohl(n);
}

/* A startup packet or a request before it; returns its length, 0: not whole yet. */
static size_t take_startup(struct session *s, const char *p, size_t n)
{
	static const struct answer no = ANSWER("N");
	size_t len = n < 8 ? 0 : number_at(p);

	if (!len || n < len)
		return 0;
	switch (number_at(p + 4)) {
	case SSL_REQUEST:
	case GSSENC_REQUEST:
		put(&no);
		break;
	default:
		put(&welcome);
		s->is_in = true;
	}
	return len;
}

static size_t take_message(const char *p, size_t n)
{
	size_t len = n < 5 ? 0 : number_at(p + 1) + 1;

	if (!len || n < len)
		return 0;
	put(&answers[(unsigned char)*p]);
	return len;
}

static void say(struct session *s)
{
	for (size_t at = 0; at < out_len;) {
		ssize_t sent = send(s->fd, out + at, out_len - at, MSG_NOSIGNAL);

		if (sent > 0)
			at += (size_t)sent;
		else if (errno == EAGAIN)
			poll(&(struct pollfd){ .fd = s->fd, .events = POLLOUT }, 1, -1);
		else if (errno != EINTR)
			break; /* the next receive tells that it is gone */
	}
	out_len = 0;
}

static void hear(struct session *s)
{
	ssize_t got = recv(s->fd, s->in + s->n, IN_ROOM - s->n, 0);
	size_t at = 0, len;

	if (got <= 0) {
		if (got < 0 && errno == EAGAIN)
			return;
		close(s->fd);
		free(s);
		return;
	}
	s->n += (size_t)got;
	do {
		len = s->is_in ? take_message(s->in + at, s->n - at)
			       : take_startup(s, s->in + at, s->n - at);
		at += len;
	} while (len);
	if (at == 0 && s->n == IN_ROOM)
		errx(1, "a message too long");
	memmove(s->in, s->in + at, s->n - at);
	s->n -= at;
	say(s);
}

static void watch(int fd, void *data)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = data };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		err(1, "epoll_ctl");
}

static void take_in(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	struct session *s;

	if (fd < 0)
		return;
	s = calloc(1, sizeof(*s));
	if (!s)
		err(1, "memory");
	s->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	watch(fd, s);
}

static int listen_on(const char *port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, SOMAXCONN) < 0)
		err(1, "port %s", port);
	return fd;
}

int main(int argc, char **argv)
{
	struct epoll_event events[256];
	int listener;

	if (argc != 2)
		errx(2, "usage: stub PORT");
	epoll_fd = epoll_create1(0);
	listener = listen_on(argv[1]);
	watch(listener, NULL);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, 256, -1);

		for (int i = 0; i < n; i++)
			if (events[i].data.ptr)
				hear(events[i].data.ptr);
			else
				take_in(listener);
	}
}
