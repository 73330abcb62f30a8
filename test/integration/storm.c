/* SPDX-License-Identifier: ISC
 *
 * storm.c - many more clients than there are places, who all want in at the same time.
 *
 *     storm PORT USER PASSWORD DATABASE CLIENTS ADDRESSES SECONDS QUERIES QUERY
 *
 * Each client connects (from one of ADDRESSES, 127.0.0.1 and up), logs in by SCRAM, asks QUERIES
 * times for QUERY, leaves, and comes again; who is refused comes again within a second.  After
 * SECONDS all let go at once, wherever they are.  Prints "name value" lines: counts, and times in
 * microseconds.  What may not happen is told on stderr as well.
 *
 * Knows nothing of what is good.
 */
#include "../bench/scram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROOM        8192
#define TIMES_MAX   4000000
#define FAULTS_TOLD 20
#define USEC        INT64_C(1000000)

static void check(bool ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * USEC + t.tv_nsec / 1000;
}

/* ---- what is counted --------------------------------------------------------------------------
 */

struct times {
	const char *name;
	uint32_t n;
	uint32_t *us;
};

static struct times admitted = { .name = "admitted" };
static struct times refused = { .name = "refused" }; /* with 53300 */
static struct times served = { .name = "served" };
static struct times unanswered = { .name = "unanswered" }; /* at the end */
static unsigned long turned_off; /* before they were in, with anything but 53300 */
static unsigned long failed;     /* when they were in */
static unsigned most_in, are_in;

static void note(struct times *t, int64_t us)
{
	if (!t->us)
		t->us = malloc(TIMES_MAX * sizeof(*t->us));
	check(t->us && t->n < TIMES_MAX, "room for times");
	t->us[t->n++] = (uint32_t)us;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void print_times(struct times *t)
{
	printf("%s %u\n", t->name, t->n);
	if (!t->n)
		return;
	qsort(t->us, t->n, sizeof(*t->us), compare);
	printf("%s_median %u\n%s_p99 %u\n%s_longest %u\n", t->name, t->us[t->n / 2], t->name,
	       t->us[(uint64_t)t->n * 99 / 100], t->name, t->us[t->n - 1]);
}

/* ---- clients ----------------------------------------------------------------------------------
 */

struct client {
	int fd; /* -1: it pauses */
	int number;
	bool is_in, has_connected;
	unsigned left;    /* queries */
	int64_t since;    /* when it began to connect, or has asked */
	int64_t comes_at; /* when its pause is over */
	size_t n;
	char in[ROOM];
};

static struct {
	uint16_t port;
	const char *user, *password, *database, *query;
	unsigned addresses, queries;
} plan;
static int poll_fd;

static void say(struct client *c, char type, const void *body, size_t n)
{
	char out[2048];
	uint32_t len = htonl((uint32_t)n + 4);
	size_t head = type ? 1 : 0;

	check(n + 5 <= sizeof(out), "a message too long");
	out[0] = type;
	memcpy(out + head, &len, 4);
	memcpy(out + head + 4, body, n);
	/* What is lost is told by the next read. */
	if (send(c->fd, out, head + 4 + n, MSG_NOSIGNAL) < 0)
		return;
}

static void pause_for(struct client *c, int64_t us)
{
	if (c->fd >= 0)
		close(c->fd);
	are_in -= c->is_in;
	c->fd = -1;
	c->is_in = c->has_connected = false;
	c->comes_at = now_us() + us;
}

static int64_t some_time(void)
{
	return 200000 + random() % 800000;
}

static void fault(struct client *c, unsigned long *count, const char *what)
{
	if (++*count <= FAULTS_TOLD)
		fprintf(stderr, "client %d, %s, after %lld us: %s\n", c->number,
			c->is_in ? "let in" : "not let in", (long long)(now_us() - c->since), what);
	pause_for(c, some_time());
}

static void come(struct client *c)
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	check(c->fd >= 0, "socket");
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)c->number % plan.addresses);
	check(!bind(c->fd, (void *)&addr, sizeof(addr)), "bind");
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons(plan.port);
	c->since = now_us();
	c->n = 0;
	c->left = plan.queries;
	if (connect(c->fd, (void *)&addr, sizeof(addr)) < 0 && errno != EINPROGRESS) {
		fault(c, &turned_off, strerror(errno));
		return;
	}
	check(!epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &e), "epoll_ctl");
}

static void begin(struct client *c)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	char packet[512] = { 0, 3, 0, 0 };
	int n, one = 1;

	c->has_connected = true;
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	n = 4 + snprintf(packet + 4, sizeof(packet) - 4, "user%c%s%cdatabase%c%s%c", 0, plan.user,
			 0, 0, plan.database, 0);
	say(c, 0, packet, (size_t)n + 1);
	check(!epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e), "epoll_ctl");
}

static void ask(struct client *c)
{
	if (!c->left--) {
		say(c, 'X', "", 0);
		pause_for(c, some_time());
		return;
	}
	c->since = now_us();
	say(c, 'Q', plan.query, strlen(plan.query) + 1);
}

static void authenticate(struct client *c, const char *body, size_t n)
{
	char said[512], out[512];
	uint32_t kind;

	check(n >= 4, "an Authentication message");
	memcpy(&kind, body, 4);
	kind = ntohl(kind);
	if (kind == 10) {
		say(c, 'p', scram_first, sizeof(scram_first) - 1);
	} else if (kind == 11) {
		snprintf(said, sizeof(said), "%.*s", (int)(n - 4), body + 4);
		say(c, 'p', out, (size_t)scram_prove(plan.password, said, out, sizeof(out)));
	}
}

static void take_error(struct client *c, const char *body)
{
	char text[400] = "";
	bool is_full = false;

	for (const char *field = body; *field; field += strlen(field) + 1) {
		if (*field == 'C' || *field == 'M')
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s ",
				 field + 1);
		is_full |= !strcmp(field, "C53300");
	}
	if (c->is_in || !is_full) {
		fault(c, c->is_in ? &failed : &turned_off, text);
		return;
	}
	note(&refused, now_us() - c->since);
	pause_for(c, some_time());
}

static void take_ready(struct client *c)
{
	note(c->is_in ? &served : &admitted, now_us() - c->since);
	if (!c->is_in && ++are_in > most_in)
		most_in = are_in;
	c->is_in = true;
	ask(c);
}

static void take(struct client *c, char type, const char *body, size_t n)
{
	if (type == 'R')
		authenticate(c, body, n);
	else if (type == 'E')
		take_error(c, body);
	else if (type == 'Z')
		take_ready(c);
}

static void hear(struct client *c)
{
	ssize_t got = read(c->fd, c->in + c->n, sizeof(c->in) - c->n);
	size_t at = 0;

	if (got <= 0) {
		if (got == 0 || errno != EAGAIN)
			fault(c, c->is_in ? &failed : &turned_off,
			      got ? strerror(errno) : "closed without a word");
		return;
	}
	c->n += (size_t)got;
	while (c->fd >= 0 && c->n - at >= 5) {
		uint32_t len;

		memcpy(&len, c->in + at + 1, 4);
		len = ntohl(len);
		check(len < ROOM - 1, "an answer too long");
		if (c->n - at < len + 1)
			break;
		take(c, c->in[at], c->in + at + 5, len - 4);
		at += len + 1;
	}
	if (c->fd < 0)
		return;
	memmove(c->in, c->in + at, c->n - at);
	c->n -= at;
}

static void storm(struct client *clients, int n, int64_t until)
{
	struct epoll_event events[256];

	while (now_us() < until) {
		int64_t now = now_us();
		int ready;

		for (int i = 0; i < n; i++)
			if (clients[i].fd < 0 && clients[i].comes_at <= now)
				come(&clients[i]);
		ready = epoll_wait(poll_fd, events, 256, 10);
		for (int i = 0; i < ready; i++) {
			struct client *c = events[i].data.ptr;

			if (c->has_connected || !(events[i].events & EPOLLOUT))
				hear(c);
			else
				begin(c);
		}
	}
}

int main(int argc, char **argv)
{
	struct rlimit files;
	struct client *clients;
	int n;

	if (argc != 10) {
		fprintf(stderr, "usage: see storm.c\n");
		return 2;
	}
	plan.port = (uint16_t)atoi(argv[1]);
	plan.user = argv[2];
	plan.password = argv[3];
	plan.database = argv[4];
	n = atoi(argv[5]);
	plan.addresses = (unsigned)atoi(argv[6]);
	plan.queries = (unsigned)atoi(argv[8]);
	plan.query = argv[9];
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	poll_fd = epoll_create1(0);
	clients = calloc((size_t)n, sizeof(*clients));
	check(clients && poll_fd >= 0 && n > 0 && plan.addresses > 0, "clients");
	for (int i = 0; i < n; i++) {
		clients[i].number = i;
		clients[i].fd = -1;
	}
	storm(clients, n, now_us() + atoi(argv[7]) * USEC);
	for (int i = 0; i < n; i++)
		if (clients[i].fd >= 0) {
			note(&unanswered, now_us() - clients[i].since);
			close(clients[i].fd);
		}
	print_times(&admitted);
	print_times(&refused);
	print_times(&served);
	print_times(&unanswered);
	printf("turned_off %lu\nfailed %lu\nmost_in %u\n", turned_off, failed, most_in);
	return 0;
}
