/* SPDX-License-Identifier: ISC
 *
 * floor.c - the least that a transaction pooler on sockets and epoll can do.
 *
 * The yardstick of test/bench: what a pooler costs above this program is what its features
 * cost.  One thread; per readiness one recv and one send of the same bytes; a fixed set of server
 * connections, handed from client to client when an answer ends in ReadyForQuery 'I'; epoll
 * level-triggered, with no epoll_ctl once a connection stands.
 *
 * Does not know messages: a client that sends its next request before the answer to the last one,
 * or an answer of which a recv happens to end in the bytes of ReadyForQuery, would be served
 * wrongly.  Nor cancel, TLS, passwords, session state, or a peer that stops reading (all wait
 * for it).  Clients of a benchmark do none of that.
 */
#define _GNU_SOURCE 1 /* accept4 */

#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
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
#include <unistd.h>

enum {
	PROTOCOL_3_0 = 3 << 16,
	SSL_REQUEST = 80877103,
	GSSENC_REQUEST = 80877104,
};

static const char auth_ok[] = { 'R', 0, 0, 0, 8, 0, 0, 0, 0 };

/* "Z", length 5, idle: the last bytes of an answer that leaves the server free. */
static const char ready_idle[] = { 'Z', 0, 0, 0, 5, 'I' };

/* A client, a server connection, or the listening socket. */
struct peer {
	void (*on_readable)(struct peer *);
	struct peer *link;       /* the other side, while the two share a transaction */
	TAILQ_ENTRY(peer) entry; /* on idle, waiting, dead or spare, or on none */
	int fd;
	bool is_waiting;
	bool is_muted;                /* taken out of epoll: hold is full */
	char tail[sizeof ready_idle]; /* of a server: its latest bytes, across reads */
	size_t held;
	char hold[8192]; /* of a client: its startup packet; its request while it waits for a server
			  */
};

TAILQ_HEAD(peers, peer);

static struct peers idle = TAILQ_HEAD_INITIALIZER(idle);       /* servers, latest used first */
static struct peers waiting = TAILQ_HEAD_INITIALIZER(waiting); /* clients, longest wait first */
static struct peers dead = TAILQ_HEAD_INITIALIZER(dead); /* may still have an event in this batch */
static struct peers spare = TAILQ_HEAD_INITIALIZER(spare);

static int epoll_fd;
static char buf[65536]; /* bytes live here only between one recv and its send */

static struct addrinfo *server_addr;
static const char *server_user, *server_database;
static char greeting[4096]; /* the first server's whole answer to a login, told to every client */
static size_t greeting_len;

static void peer_watch(struct peer *p, int op)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = p };

	if (epoll_ctl(epoll_fd, op, p->fd, &event) < 0)
		err(1, "epoll_ctl");
}

static void peer_set_nodelay(struct peer *p)
{
	if (setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) < 0)
		err(1, "TCP_NODELAY");
}

static struct peer *peer_new(int fd, void (*on_readable)(struct peer *))
{
	struct peer *p = TAILQ_FIRST(&spare);

	if (p)
		TAILQ_REMOVE(&spare, p, entry);
	else if (!(p = malloc(sizeof *p)))
		err(1, "malloc");
	p->on_readable = on_readable;
	p->link = NULL;
	p->fd = fd;
	p->is_waiting = p->is_muted = false;
	p->held = 0;
	return p;
}

static void on_dead(struct peer *p)
{
	(void)p;
}

static void peer_close(struct peer *p)
{
	close(p->fd);
	p->on_readable = on_dead;
	TAILQ_INSERT_TAIL(&dead, p, entry);
}

/* Sends all n bytes, waiting for the peer when its socket is full; false: the peer is gone. */
static bool peer_send(struct peer *p, const char *bytes, size_t n)
{
	for (;;) {
		ssize_t sent = send(p->fd, bytes, n, MSG_NOSIGNAL);

		if (sent == (ssize_t)n)
			return true;
		if (sent > 0) {
			bytes += sent;
			n -= sent;
		} else if (errno != EAGAIN && errno != EINTR) {
			return false;
		}
		poll(&(struct pollfd){ .fd = p->fd, .events = POLLOUT }, 1, -1);
	}
}

static void server_login(struct peer *s);

/* A server whose answer nobody is left to read is not clean: a new connection takes its place. */
static void server_replace(struct peer *s)
{
	close(s->fd);
	server_login(s);
}

static void client_close(struct peer *c)
{
	struct peer *s = c->link;

	if (c->is_waiting)
		TAILQ_REMOVE(&waiting, c, entry);
	peer_close(c);
	if (s)
		server_replace(s);
}

static void server_lost(struct peer *s)
{
	if (s->link)
		peer_close(s->link);
	else
		TAILQ_REMOVE(&idle, s, entry);
	server_replace(s);
}

static void server_link(struct peer *s, struct peer *c)
{
	s->link = c;
	c->link = s;
}

/* Gives a server that has nothing to do to the client that waits longest. */
static void server_release(struct peer *s)
{
	struct peer *c = TAILQ_FIRST(&waiting);

	s->link = NULL;
	if (!c) {
		TAILQ_INSERT_HEAD(&idle, s, entry);
		return;
	}
	TAILQ_REMOVE(&waiting, c, entry);
	c->is_waiting = false;
	server_link(s, c);
	if (c->is_muted) {
		c->is_muted = false;
		peer_watch(c, EPOLL_CTL_ADD);
	}
	if (!peer_send(s, c->hold, c->held))
		server_lost(s);
	c->held = 0;
}

/* Does the server's stream, with these n bytes of buf added to it, end in ReadyForQuery 'I'? */
static bool server_is_done(struct peer *s, size_t n)
{
	const size_t len = sizeof s->tail;

	if (n >= len) {
		memcpy(s->tail, buf + n - len, len);
	} else {
		memmove(s->tail, s->tail + n, len - n);
		memcpy(s->tail + len - n, buf, n);
	}
	return memcmp(s->tail, ready_idle, len) == 0;
}

static void on_server(struct peer *s)
{
	ssize_t n = recv(s->fd, buf, sizeof buf, 0);
	struct peer *c = s->link;

	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			server_lost(s);
		return;
	}
	if (!c)
		return; /* a notice to nobody */
	if (!peer_send(c, buf, n)) {
		client_close(c);
		return;
	}
	if (server_is_done(s, n)) {
		c->link = NULL;
		server_release(s);
	}
}

/* Writes "name\0value\0" at p, returns its end. */
static char *put_parameter(char *p, const char *name, const char *value)
{
	p = stpcpy(p, name) + 1;
	return stpcpy(p, value) + 1;
}

static void send_startup(struct peer *s)
{
	char packet[512], *p = packet + 8;
	uint32_t len;

	if (strlen(server_user) + strlen(server_database) > sizeof packet - 64)
		errx(1, "the names are too long");
	p = put_parameter(p, "user", server_user);
	p = put_parameter(p, "database", server_database);
	*p++ = '\0';
	len = htobe32(p - packet);
	memcpy(packet, &len, 4);
	memcpy(packet + 4, &(uint32_t){ htobe32(PROTOCOL_3_0) }, 4);
	if (!peer_send(s, packet, p - packet))
		err(1, "server login");
}

/* Connects s and logs in, blocking; a server that does not want us ends the program. */
static void server_login(struct peer *s)
{
	size_t got = 0;

	s->fd = socket(server_addr->ai_family, SOCK_STREAM, 0);
	if (s->fd < 0 || connect(s->fd, server_addr->ai_addr, server_addr->ai_addrlen) < 0)
		err(1, "server connect");
	peer_set_nodelay(s);
	send_startup(s);
	do {
		ssize_t n = recv(s->fd, buf + got, sizeof greeting - got, 0);

		if (n <= 0)
			err(1, "server login");
		got += n;
		if (memcmp(buf, auth_ok, got < sizeof auth_ok ? got : sizeof auth_ok) != 0)
			errx(1, "the server does not trust us: it answers '%c'", buf[0]);
	} while (got < sizeof ready_idle ||
		 memcmp(buf + got - sizeof ready_idle, ready_idle, sizeof ready_idle) != 0);
	if (!greeting_len)
		memcpy(greeting, buf, greeting_len = got);
	memset(s->tail, 0, sizeof s->tail);
	if (fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0)
		err(1, "O_NONBLOCK");
	peer_watch(s, EPOLL_CTL_ADD);
	server_release(s);
}

/* A request for which no server is free waits in the client; what no longer fits, in its socket. */
static void client_hold(struct peer *c)
{
	ssize_t n = recv(c->fd, c->hold + c->held, sizeof c->hold - c->held, 0);

	if (n <= 0 || c->hold[0] == 'X') {
		if (n >= 0 || errno != EAGAIN)
			client_close(c);
		return;
	}
	c->held += n;
	if (c->held == sizeof c->hold) {
		c->is_muted = true;
		peer_watch(c, EPOLL_CTL_DEL);
	}
	if (!c->is_waiting) {
		c->is_waiting = true;
		TAILQ_INSERT_TAIL(&waiting, c, entry);
	}
}

static void on_client(struct peer *c)
{
	struct peer *s = c->link;
	ssize_t n;

	if (!s && TAILQ_EMPTY(&idle)) {
		client_hold(c);
		return;
	}
	n = recv(c->fd, buf, sizeof buf, 0);
	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			client_close(c);
		return;
	}
	if (!s) {
		if (buf[0] == 'X') { /* Terminate is for us, not for the server */
			client_close(c);
			return;
		}
		s = TAILQ_FIRST(&idle);
		TAILQ_REMOVE(&idle, s, entry);
		server_link(s, c);
	}
	if (!peer_send(s, buf, n))
		server_lost(s);
}

static void on_startup(struct peer *c)
{
	ssize_t n = recv(c->fd, c->hold + c->held, sizeof c->hold - c->held, 0);
	uint32_t word[2]; /* length, request */

	if (n <= 0) {
		if (n == 0 || errno != EAGAIN)
			peer_close(c);
		return;
	}
	c->held += n;
	if (c->held < sizeof word)
		return;
	memcpy(word, c->hold, sizeof word);
	if (c->held < be32toh(word[0]) && c->held < sizeof c->hold)
		return;
	c->held = 0;
	switch (be32toh(word[1])) {
	case SSL_REQUEST:
	case GSSENC_REQUEST:
		if (!peer_send(c, "N", 1))
			peer_close(c);
		break;
	case PROTOCOL_3_0:
		c->on_readable = on_client;
		if (!peer_send(c, greeting, greeting_len))
			peer_close(c);
		break;
	default:
		peer_close(c);
	}
}

static void on_listener(struct peer *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK);
	struct peer *c;

	if (fd < 0)
		return; /* gone again, or out of descriptors: epoll tells again */
	c = peer_new(fd, on_startup);
	peer_set_nodelay(c);
	peer_watch(c, EPOLL_CTL_ADD);
}

static void listen_on(const char *port)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons(atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(fd, SOMAXCONN) < 0)
		err(1, "port %s", port);
	peer_watch(peer_new(fd, on_listener), EPOLL_CTL_ADD);
}

static void resolve(char *host_port)
{
	char *colon = strrchr(host_port, ':');
	int error;

	if (!colon)
		errx(2, "%s: HOST:PORT is wanted", host_port);
	*colon = '\0';
	error = getaddrinfo(host_port, colon + 1, &(struct addrinfo){ .ai_socktype = SOCK_STREAM },
			    &server_addr);
	if (error)
		errx(1, "%s: %s", host_port, gai_strerror(error));
}

static void serve(void)
{
	struct epoll_event events[256];

	for (;;) {
		int n = epoll_wait(epoll_fd, events, 256, -1);

		for (int i = 0; i < n; i++) {
			struct peer *p = events[i].data.ptr;

			p->on_readable(p);
		}
		TAILQ_CONCAT(&spare, &dead, entry);
	}
}

/* Ends by a signal, SIGTERM say, and has nothing to tidy then. */
int main(int argc, char **argv)
{
	if (argc != 6)
		errx(2, "usage: floor LISTEN_PORT SERVER_HOST:PORT USER DATABASE CONNECTIONS");
	resolve(argv[2]);
	server_user = argv[3];
	server_database = argv[4];
	epoll_fd = epoll_create1(0);
	if (epoll_fd < 0)
		err(1, "epoll_create1");
	for (int n = atoi(argv[5]); n > 0; n--)
		server_login(peer_new(-1, on_server));
	listen_on(argv[1]);
	serve();
}
