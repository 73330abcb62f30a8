/* SPDX-License-Identifier: ISC
 *
 * neighbour.c - what a flood of one tenant costs another, by the clock of a server that stamps.
 *
 *     neighbour stub SERVICE_US        a server; prints its port
 *     neighbour load PORT NOISY SECONDS  NOISY clients of the tenant `noisy`, one of `quiet`
 *
 * The stub answers "SELECT 2" after SERVICE_US, with the time at which it came.  The quiet client
 * subtracts the time at which it sent: that is how long the request was under way and in the
 * pooler's queue, whatever its own and the stub's turns on a processor take.  load prints how many
 * requests of each tenant were served, and the quiet one's waits in microseconds, one per line.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ROOM     65536
#define MAX_CONN 4096

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* ---- messages ---------------------------------------------------------------------------------
 */

struct out {
	char bytes[4096];
	size_t n;
};

static void put(struct out *o, const void *p, size_t n)
{
	check(o->n + n <= sizeof(o->bytes), "an answer too long");
	memcpy(o->bytes + o->n, p, n);
	o->n += n;
}

static void put_message(struct out *o, char type, const void *body, size_t n)
{
	uint32_t len = htonl((uint32_t)n + 4);

	put(o, &type, 1);
	put(o, &len, 4);
	put(o, body, n);
}

/* One row of one column. */
static void put_row(struct out *o, const char *name, const char *value)
{
	char body[256] = { 0, 1 };
	size_t n = strlen(name) + 1, len = strlen(value);
	uint32_t size = htonl((uint32_t)len);

	memcpy(body + 2, name, n);
	memset(body + 2 + n, 0, 18);
	body[2 + n + 9] = 25; /* text */
	body[2 + n + 11] = body[2 + n + 12] = body[2 + n + 13] = body[2 + n + 14] =
	    body[2 + n + 15] = -1;
	body[2 + n + 10] = -1;
	put_message(o, 'T', body, 2 + n + 18);
	memcpy(body + 2, &size, 4);
	memcpy(body + 6, value, len);
	put_message(o, 'D', body, 6 + len);
}

static void put_done(struct out *o, const char *tag)
{
	put_message(o, 'C', tag, strlen(tag) + 1);
	put_message(o, 'Z', "I", 1);
}

struct conn {
	int fd;
	char in[ROOM];
	size_t n;
	bool is_in;       /* the startup packet has been answered, or the login */
	int64_t due;      /* of the stub: when its answer goes */
	int64_t asked_at; /* of the stub: when the request came */
};

/* The next whole message; false: there is none. */
static bool next_message(struct conn *c, size_t *at, char *type, const char **body, size_t *len)
{
	size_t head = c->is_in ? 5 : 4;
	uint32_t n;

	if (c->n - *at < head)
		return false;
	memcpy(&n, c->in + *at + head - 4, 4);
	n = ntohl(n) + (c->is_in ? 1 : 0);
	if (c->n - *at < n)
		return false;
	*type = c->is_in ? c->in[*at] : 0;
	*body = c->in + *at + head;
	*len = n - head;
	*at += n;
	return true;
}

static void consume(struct conn *c, size_t n)
{
	memmove(c->in, c->in + n, c->n - n);
	c->n -= n;
}

static bool receive(struct conn *c)
{
	ssize_t n = read(c->fd, c->in + c->n, sizeof(c->in) - c->n);

	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->n += (size_t)n;
	return true;
}

static void no_delay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

/* ---- the server -------------------------------------------------------------------------------
 */

static void greet(struct out *o)
{
	static const char *const parameters[][2] = {
		{"server_version",               "15.0"},
		{ "client_encoding",             "UTF8"},
		{ "standard_conforming_strings", "on"  }
	};

	put_message(o, 'R', "\0\0\0\0", 4);
	for (size_t i = 0; i < sizeof(parameters) / sizeof(*parameters); i++) {
		char body[128];
		int n =
		    snprintf(body, sizeof(body), "%s%c%s", parameters[i][0], 0, parameters[i][1]);

		put_message(o, 'S', body, (size_t)n + 1);
	}
	put_message(o, 'K', "\0\0\0\1\0\0\0\2", 8);
	put_message(o, 'Z', "I", 1);
}

/* What a pooler asks besides is answered at once. */
static void answer(struct conn *c, struct out *o, char type, const char *body, int64_t service)
{
	switch (type) {
	case 0:
		greet(o);
		c->is_in = true;
		break;
	case 'Q':
		if (!strcmp(body, "SELECT 2")) {
			c->asked_at = now_ns();
			c->due = c->asked_at + service;
		} else {
			if (strstr(body, "'statement_timeout'"))
				put_row(o, "setting", "0");
			put_done(o, "SELECT 0");
		}
		break;
	case 'P':
		put_message(o, '1', "", 0);
		break;
	case 'B':
		put_message(o, '2', "", 0);
		break;
	case 'C':
		put_message(o, '3', "", 0);
		break;
	case 'E':
		put_message(o, 'C', "SELECT 0", 9);
		break;
	case 'S':
		put_message(o, 'Z', "I", 1);
		break;
	}
}

static void send_all(int fd, const struct out *o)
{
	if (o->n)
		check(write(fd, o->bytes, o->n) == (ssize_t)o->n, "write");
}

static bool serve(struct conn *c, int64_t service)
{
	struct out o = { .n = 0 };
	const char *body;
	size_t at = 0, len;
	char type;

	if (!receive(c))
		return false;
	while (next_message(c, &at, &type, &body, &len))
		answer(c, &o, type, body, service);
	consume(c, at);
	send_all(c->fd, &o);
	return true;
}

static void answer_due(struct conn *conns[], int64_t *next)
{
	int64_t now = now_ns();

	*next = INT64_MAX;
	for (int fd = 0; fd < MAX_CONN; fd++) {
		struct conn *c = conns[fd];
		struct out o = { .n = 0 };
		char stamp[32];

		if (!c || !c->due)
			continue;
		if (c->due > now) {
			*next = c->due < *next ? c->due : *next;
			continue;
		}
		snprintf(stamp, sizeof(stamp), "%lld", (long long)c->asked_at);
		c->due = 0;
		put_row(&o, "at", stamp);
		put_done(&o, "SELECT 1");
		send_all(c->fd, &o);
	}
}

static void wake_at(int timer, int64_t at)
{
	struct itimerspec when = {
		.it_value = {at / 1000000000, at % 1000000000}
	};

	if (at == INT64_MAX)
		when.it_value = (struct timespec){ 0, 0 };
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

static void watch(int poll, int fd)
{
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	check(!epoll_ctl(poll, EPOLL_CTL_ADD, fd, &e), "epoll_ctl");
}

static int stub(int64_t service)
{
	static struct conn *conns[MAX_CONN];
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int poll = epoll_create1(0), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	check(!bind(listener, (void *)&addr, sizeof(addr)) && !listen(listener, 64), "listen");
	getsockname(listener, (void *)&addr, &len);
	printf("%u\n", ntohs(addr.sin_port));
	fflush(stdout);
	watch(poll, listener);
	watch(poll, timer);
	watch(poll, STDIN_FILENO); /* ends with who started it */
	for (;;) {
		struct epoll_event events[64];
		int n = epoll_wait(poll, events, 64, -1);
		uint64_t ticks;
		int64_t next;

		for (int i = 0; i < n; i++) {
			int fd = events[i].data.fd;

			if (fd == STDIN_FILENO)
				return 0;
			if (fd == timer) {
				if (read(timer, &ticks, sizeof(ticks)) < 0)
					continue;
			} else if (fd == listener) {
				int new = accept(listener, NULL, NULL);

				check(new >= 0 && new < MAX_CONN, "accept");
				no_delay(new);
				conns[new] = calloc(1, sizeof(**conns));
				conns[new]->fd = new;
				watch(poll, new);
			} else if (!serve(conns[fd], service)) {
				close(fd);
				free(conns[fd]);
				conns[fd] = NULL;
			}
		}
		answer_due(conns, &next);
		wake_at(timer, next);
	}
}

/* ---- clients ----------------------------------------------------------------------------------
 */

static void log_in(struct conn *c, uint16_t port, const char *tenant)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	char packet[128] = { 0, 0, 0, 0, 0, 3, 0, 0 };
	int n = 8 + snprintf(packet + 8, sizeof(packet) - 8, "user%capp.%s%cdatabase%cshop%c%c", 0,
			     tenant, 0, 0, 0, 0);
	const char *body;
	char type = 0;
	size_t len;

	packet[3] = (char)n;
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	check(!connect(c->fd, (void *)&addr, sizeof(addr)), "connect");
	no_delay(c->fd);
	check(write(c->fd, packet, (size_t)n) == n, "write");
	c->is_in = true;
	while (type != 'Z') {
		size_t at = 0;

		check(receive(c), "login");
		while (type != 'Z' && next_message(c, &at, &type, &body, &len))
			check(type != 'E', body);
		consume(c, at);
	}
}

static void ask(struct conn *c)
{
	static const char query[] = "Q\0\0\0\rSELECT 2";

	check(write(c->fd, query, sizeof(query)) == (ssize_t)sizeof(query), "write");
}

/* True: the answer is complete; *stamp is what it says. */
static bool take_answer(struct conn *c, int64_t *stamp)
{
	size_t at = 0, len;
	const char *body;
	bool is_ready = false;
	char type;

	check(receive(c), "a client's connection");
	while (next_message(c, &at, &type, &body, &len)) {
		check(type != 'E', body);
		if (type == 'D')
			*stamp = strtoll(body + 6, NULL, 10);
		is_ready |= type == 'Z';
	}
	consume(c, at);
	return is_ready;
}

struct flood {
	uint16_t port;
	int n;
	volatile bool is_over;
	volatile int ready;
	unsigned long served;
};

static void *flood(void *arg)
{
	struct flood *f = arg;
	struct conn *conns = calloc((size_t)f->n, sizeof(*conns));
	int poll = epoll_create1(0);

	for (int i = 0; i < f->n; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &conns[i] };

		log_in(&conns[i], f->port, "noisy");
		check(!epoll_ctl(poll, EPOLL_CTL_ADD, conns[i].fd, &e), "epoll_ctl");
	}
	for (int i = 0; i < f->n; i++)
		ask(&conns[i]);
	f->ready = 1;
	while (!f->is_over) {
		struct epoll_event events[64];
		int n = epoll_wait(poll, events, 64, 100);

		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			int64_t stamp;

			if (!take_answer(c, &stamp))
				continue;
			f->served++;
			ask(c);
		}
	}
	return NULL;
}

static int load(uint16_t port, int noisy, int seconds)
{
	struct flood f = { .port = port, .n = noisy };
	struct conn *quiet = calloc(1, sizeof(*quiet));
	unsigned long n = 0, size = 1 << 20, before;
	int64_t *waits = calloc(size, sizeof(*waits)), end;
	pthread_t thread;

	log_in(quiet, port, "quiet");
	check(!pthread_create(&thread, NULL, flood, &f), "pthread_create");
	while (!f.ready)
		usleep(1000);
	usleep(300000);
	before = f.served;
	for (end = now_ns() + seconds * INT64_C(1000000000); now_ns() < end && n < size; n++) {
		int64_t sent = now_ns(), stamp = 0;

		ask(quiet);
		while (!take_answer(quiet, &stamp))
			;
		waits[n] = stamp - sent;
	}
	printf("%lu %lu\n", f.served - before, n);
	for (unsigned long i = 0; i < n; i++)
		printf("%lld\n", (long long)waits[i] / 1000);
	fflush(stdout);
	f.is_over = true;
	pthread_join(thread, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "stub"))
		return stub(atoll(argv[2]) * 1000);
	if (argc == 5 && !strcmp(argv[1], "load"))
		return load((uint16_t)atoi(argv[2]), atoi(argv[3]), atoi(argv[4]));
	fprintf(stderr, "usage: %s stub SERVICE_US | load PORT NOISY SECONDS\n", argv[0]);
	return 2;
}
