/* SPDX-License-Identifier: ISC
 *
 * load.c - clients that cost next to nothing, for what pgbench cannot do.
 *
 * Each client is a thread that asks, waits for ReadyForQuery, and asks again until time is up (-T)
 * or it has asked so often (-t).  It logs in trusted or by SCRAM, whose password costs it its work
 * once; with -C anew for each transaction; with -s over TLS, with -r by the TLS session that it
 * got the last time.  What comes is counted, not kept.  Asked for COPY's data it gives so many
 * bytes of lines (-m).  With -b a transaction is so many extended statements up to one Sync.
 * With -n client i goes to the database NAMEi, of so many.
 *
 * Prints an empty line when all who stay are logged in, waits for one on stdin, and begins; at the
 * end prints "name value" lines.
 *
 * Does not know results.  An ErrorResponse ends the program.
 */
#include "scram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	ROOM = 256 * 1024,
	KEPT_MAX = 8192, /* the longest message of which the body is looked at */
	LINE = 100,      /* bytes of a line given to COPY, its message's header not counted */
	SSL_REQUEST = 80877103,
};

static struct {
	int port, clients, seconds, transactions, batch, databases;
	size_t copy_bytes;
	const char *user, *password, *database, *query;
	bool anew, is_tls, resumes;
} plan = { .clients = 1, .user = "", .password = "", .database = "", .query = "SELECT 2" };

static SSL_CTX *tls;
static char *request; /* what a transaction asks */
static size_t request_len;
static char *copy_data; /* what COPY is given, CopyDone behind it */
static size_t copy_len;
static int64_t begins_at;
static pthread_barrier_t all_in, go;

struct client {
	pthread_t thread;
	int number, fd;
	SSL *ssl;
	SSL_SESSION *session;
	unsigned long transactions, resumed;
	uint64_t bytes;
	uint32_t *us; /* how long each transaction took */
	size_t room_us, at, n;
	char *in;
};

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	ERR_print_errors_fp(stderr);
	perror(what);
	exit(1);
}

static void *allocate(void *old, size_t n)
{
	void *p = realloc(old, n);

	must(p != NULL, "memory");
	return p;
}

static int64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

/* ---- messages ------------------------------------------------------------------------------- */

static char *put_message(char *p, char type, const void *body, size_t n)
{
	uint32_t len = htonl((uint32_t)n + 4);

	if (type)
		*p++ = type;
	memcpy(p, &len, 4);
	if (n)
		memcpy(p + 4, body, n);
	return p + 4 + n;
}

/* Parse, Bind, Describe and Execute of an unnamed statement without parameters. */
static char *put_statement(char *p, const char *query)
{
	size_t n = strlen(query);
	char *body = allocate(NULL, n + 4);

	memset(body, 0, n + 4);
	memcpy(body + 1, query, n);
	p = put_message(p, 'P', body, n + 4);
	p = put_message(p, 'B', "\0\0\0\0\0\0\0", 8);
	p = put_message(p, 'D', "P", 2);
	p = put_message(p, 'E', "\0\0\0\0", 5);
	free(body);
	return p;
}

static void prepare_request(void)
{
	size_t n = strlen(plan.query);
	char *p = request = allocate(NULL, ((size_t)plan.batch + 1) * (n + 64));

	for (int i = 0; i < plan.batch; i++)
		p = put_statement(p, plan.query);
	p = plan.batch ? put_message(p, 'S', NULL, 0) : put_message(p, 'Q', plan.query, n + 1);
	request_len = (size_t)(p - request);
}

static void prepare_copy(void)
{
	size_t lines = plan.copy_bytes / LINE;
	char line[LINE], *p = copy_data = allocate(NULL, lines * (LINE + 5) + 5);

	memset(line, 'x', sizeof(line));
	line[LINE - 1] = '\n';
	while (lines--)
		p = put_message(p, 'd', line, LINE);
	p = put_message(p, 'c', NULL, 0);
	copy_len = (size_t)(p - copy_data);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void say(struct client *c, const char *p, size_t n)
{
	while (n) {
		ssize_t sent =
		    c->ssl ? SSL_write(c->ssl, p, (int)n) : send(c->fd, p, n, MSG_NOSIGNAL);

		must(sent > 0, "send");
		p += sent;
		n -= (size_t)sent;
		c->bytes += (size_t)sent;
	}
}

static void say_message(struct client *c, char type, const void *body, size_t n)
{
	char out[2048];

	if (n + 5 > sizeof(out))
		die("a message too long");
	say(c, out, (size_t)(put_message(out, type, body, n) - out));
}

static void hear(struct client *c)
{
	ssize_t got;

	if (c->at == c->n)
		c->at = c->n = 0;
	memmove(c->in, c->in + c->at, c->n - c->at);
	c->n -= c->at;
	c->at = 0;
	got = c->ssl ? SSL_read(c->ssl, c->in + c->n, (int)(ROOM - c->n))
		     : recv(c->fd, c->in + c->n, ROOM - c->n, 0);
	must(got >= 0, "receive");
	if (got == 0)
		die("the connection was closed");
	c->n += (size_t)got;
	c->bytes += (size_t)got;
}

static void skip(struct client *c, size_t n)
{
	while (c->n - c->at < n) {
		n -= c->n - c->at;
		c->at = c->n;
		hear(c);
	}
	c->at += n;
}

static char next_message(struct client *c, size_t *len)
{
	uint32_t n;

	while (c->n - c->at < 5)
		hear(c);
	memcpy(&n, c->in + c->at + 1, 4);
	*len = ntohl(n) - 4;
	c->at += 5;
	return c->in[c->at - 5];
}

/* The next len bytes, as a string that lasts until more is heard. */
static const char *body_of(struct client *c, size_t len, char out[KEPT_MAX])
{
	if (len >= KEPT_MAX)
		die("an answer too long");
	while (c->n - c->at < len)
		hear(c);
	memcpy(out, c->in + c->at, len);
	out[len] = '\0';
	c->at += len;
	return out;
}

static void authenticate(struct client *c, const char *body)
{
	char out[512];
	uint32_t kind;

	memcpy(&kind, body, 4);
	switch (ntohl(kind)) {
	case 10:
		say_message(c, 'p', scram_first, sizeof(scram_first) - 1);
		break;
	case 11:
		say_message(c, 'p', out,
			    (size_t)scram_prove(plan.password, body + 4, out, sizeof(out)));
		break;
	}
}

static void fail(const char *fields, size_t len)
{
	for (size_t i = 0; i < len; i++)
		fputc(fields[i] ? fields[i] : ' ', stderr);
	die("");
}

static void wait_ready(struct client *c)
{
	char body[KEPT_MAX], type;
	size_t len;

	do {
		type = next_message(c, &len);
		if (type == 'R')
			authenticate(c, body_of(c, len, body));
		else if (type == 'E')
			fail(body_of(c, len, body), len);
		else
			skip(c, len);
		if (type == 'G')
			say(c, copy_data, copy_len);
	} while (type != 'Z');
}

/* ---- connections ---------------------------------------------------------------------------- */

static void start_tls(struct client *c)
{
	uint32_t code = htonl(SSL_REQUEST);
	char answer;

	say_message(c, 0, &code, 4);
	if (recv(c->fd, &answer, 1, 0) != 1 || answer != 'S')
		die("no TLS here");
	c->ssl = SSL_new(tls);
	must(c->ssl && SSL_set_fd(c->ssl, c->fd) == 1, "TLS");
	if (plan.resumes && c->session)
		SSL_set_session(c->ssl, c->session);
	must(SSL_connect(c->ssl) == 1, "TLS handshake");
	c->resumed += (unsigned long)SSL_session_reused(c->ssl);
}

static void log_in(struct client *c)
{
	char packet[512] = { 0, 3, 0, 0 }, name[128];
	int n;

	snprintf(name, sizeof(name), plan.databases ? "%s%d" : "%s", plan.database,
		 plan.databases ? c->number % plan.databases : 0);
	n = 4 + snprintf(packet + 4, sizeof(packet) - 4, "user%c%s%cdatabase%c%s%c", 0, plan.user,
			 0, 0, name, 0);
	say_message(c, 0, packet, (size_t)n + 1);
	wait_ready(c);
}

static void come(struct client *c)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)plan.port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	must(c->fd >= 0 && !connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), "connect");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	c->at = c->n = 0;
	if (plan.is_tls)
		start_tls(c);
	log_in(c);
}

/* A ticket comes after the handshake, so the session is taken at the end. */
static void keep_session(struct client *c)
{
	SSL_SESSION_free(c->session);
	c->session = SSL_get1_session(c->ssl);
	SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN);
}

static void leave(struct client *c)
{
	say_message(c, 'X', NULL, 0);
	if (plan.resumes)
		keep_session(c);
	SSL_free(c->ssl);
	c->ssl = NULL;
	close(c->fd);
}

/* ---- the load ------------------------------------------------------------------------------- */

static void note(struct client *c, int64_t us)
{
	if (c->transactions == c->room_us) {
		c->room_us = 2 * c->room_us + 1024;
		c->us = allocate(c->us, c->room_us * sizeof(*c->us));
	}
	c->us[c->transactions++] = (uint32_t)us;
}

static bool is_over(const struct client *c, int64_t now)
{
	return plan.transactions ? c->transactions >= (unsigned long)plan.transactions
				 : now >= begins_at + plan.seconds * INT64_C(1000000);
}

static void *run(void *arg)
{
	struct client *c = arg;
	int64_t since, now;

	c->in = allocate(NULL, ROOM);
	if (!plan.anew)
		come(c);
	pthread_barrier_wait(&all_in);
	pthread_barrier_wait(&go);
	for (since = now_us(); !is_over(c, since); since = now) {
		if (plan.anew)
			come(c);
		say(c, request, request_len);
		wait_ready(c);
		if (plan.anew)
			leave(c);
		now = now_us();
		note(c, now - since);
	}
	if (!plan.anew)
		leave(c);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void tell(struct client *clients, int64_t took)
{
	unsigned long transactions = 0, resumed = 0;
	uint64_t bytes = 0;
	uint32_t *us = NULL;

	for (int i = 0; i < plan.clients; i++) {
		struct client *c = &clients[i];

		us = allocate(us, (transactions + c->transactions + 1) * sizeof(*us));
		if (c->transactions)
			memcpy(us + transactions, c->us, c->transactions * sizeof(*us));
		transactions += c->transactions;
		resumed += c->resumed;
		bytes += c->bytes;
	}
	if (!transactions)
		die("no transaction was finished");
	qsort(us, transactions, sizeof(*us), compare);
	printf("transactions %lu\nresumed %lu\nbytes %llu\nmicroseconds %lld\n", transactions,
	       resumed, (unsigned long long)bytes, (long long)took);
	printf("p50 %u\np95 %u\np99 %u\n", us[transactions / 2], us[transactions * 95 / 100],
	       us[transactions * 99 / 100]);
}

static void parse_options(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "p:u:w:d:n:c:T:t:q:b:m:Csr")) != -1) {
		switch (option) {
		case 'p':
			plan.port = atoi(optarg);
			break;
		case 'u':
			plan.user = optarg;
			break;
		case 'w':
			plan.password = optarg;
			break;
		case 'd':
			plan.database = optarg;
			break;
		case 'n':
			plan.databases = atoi(optarg);
			break;
		case 'c':
			plan.clients = atoi(optarg);
			break;
		case 'T':
			plan.seconds = atoi(optarg);
			break;
		case 't':
			plan.transactions = atoi(optarg);
			break;
		case 'q':
			plan.query = optarg;
			break;
		case 'b':
			plan.batch = atoi(optarg);
			break;
		case 'm':
			plan.copy_bytes = strtoul(optarg, NULL, 10);
			break;
		case 'C':
			plan.anew = true;
			break;
		case 'r':
			plan.resumes = true;
			/* fallthrough */
		case 's':
			plan.is_tls = true;
			break;
		default:
			exit(2);
		}
	}
	if (!plan.port || (!plan.seconds && !plan.transactions) || plan.clients < 1)
		die("usage: load -p PORT -u USER -d DATABASE {-T SECONDS | -t TRANSACTIONS} [-c "
		    "CLIENTS] "
		    "[-w PASSWORD] [-q QUERY | -b STATEMENTS] [-m BYTES] [-n DATABASES] [-C] [-s | "
		    "-r]");
}

int main(int argc, char **argv)
{
	struct client *clients;

	parse_options(argc, argv);
	prepare_request();
	prepare_copy();
	if (plan.is_tls) {
		tls = SSL_CTX_new(TLS_client_method());
		must(tls != NULL, "TLS");
		SSL_CTX_set_session_cache_mode(tls,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	}
	clients = calloc((size_t)plan.clients, sizeof(*clients));
	must(clients != NULL, "memory");
	must(!pthread_barrier_init(&all_in, NULL, (unsigned)plan.clients + 1) &&
		 !pthread_barrier_init(&go, NULL, (unsigned)plan.clients + 1),
	     "barrier");
	for (int i = 0; i < plan.clients; i++) {
		clients[i].number = i;
		must(!pthread_create(&clients[i].thread, NULL, run, &clients[i]), "thread");
	}
	pthread_barrier_wait(&all_in);
	puts("");
	fflush(stdout);
	if (getchar() == EOF)
		die("nobody says when to begin");
	begins_at = now_us();
	pthread_barrier_wait(&go);
	for (int i = 0; i < plan.clients; i++)
		pthread_join(clients[i].thread, NULL);
	tell(clients, now_us() - begins_at);
}
