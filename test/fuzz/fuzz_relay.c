/* SPDX-License-Identifier: ISC
 *
 * fuzz_relay.c - whatever two clients and two servers send, in any order, in each state of a
 * session: the relay of one thread between them, with sockets and no clock but its own.
 *
 * The input is a byte that says which configuration, and whether it is known what code leaves; then
 * records that end with a byte 0xfe.  A record's first byte says who speaks and how (enum how), the
 * rest is what it sends.  What comes to a server must be whole messages that a client may send,
 * whoever has sent what before.
 */
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/login.h"
#include "config/config.h"
#include "net/mailbox.h"
#include "net/resolve.h"
#include "relay/relay.h"
#include "route/nodes.h"
#include "sql/leaving.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the servers, a record names the one that was asked last, or the other one. */
enum { CLIENT_A, CLIENT_B, SERVER_A, SERVER_B, NPEERS };

/* How a peer speaks: bits of a record's first byte, above its number. */
enum how {
	HOW_MESSAGE = 1 << 2, /* the first byte is a message's type, the rest its body */
	HOW_AT_ONCE = 1 << 3, /* what comes next comes with it */
	HOW_LAST = 1 << 4,    /* it hangs up behind it */
	HOW_LATER = 1 << 5,   /* time goes by first: every timeout is over */
	HOW_RAW = 1 << 6,     /* of a new client or server: it does not log in by itself */
};
#define RECORD_END 0xfe

#define MANY_YEARS (INT64_C(1) << 50)
/* An input is slow that has more, not wrong. */
#define RECORDS_MAX 64

#define SHARED                                                                                     \
	"pool_mode = transaction\ntenant_by = user_suffix, set\ntenant_pool = shared\n"            \
	"[tiers]\nbasic = weight=1\n[tenants]\nacme = tier=basic business_id=42\n"                 \
	"[users]\napp = tenant_switch=yes"
#define PREPARING                                                                                  \
	"pool_mode = transaction\nauto_prepare = on\nauto_prepare_after = 2\nearly_commit = on\n"  \
	"query_insight = on"
static const char *const ways[] = {
	"pool_mode = transaction",
	"pool_mode = session\nserver_reset_query = DISCARD ALL",
	"pool_mode = statement",
	SHARED,
	PREPARING,
};
#define NWAYS PGT_NELEMS(ways)

struct peer {
	int fd; /* -1: it is not there */
	bool is_raw;
	/* Of what comes to a server. */
	bool has_begun;   /* the startup packet is over, or under way */
	uint8_t type;     /* of the message under way … */
	size_t left;      /* … bytes of its body that are still to come … */
	struct buf head;  /* … what there is of its header … */
	struct buf begin; /* … and of its body, at the beginning */
};

static struct scene {
	struct loop *loop;
	struct mailbox mailbox;
	struct resolver *resolver;
	char dir[32];
	int listener;
	struct config *configs[NWAYS];
	struct config *config; /* of this input */
	struct node_set *nodes;
	struct net net;
	struct client_host host;
	struct relay relay;
	struct client *by_pid[16];
	struct peer peers[NPEERS];
	unsigned asked; /* the server that has heard something last */
	struct mail stop;
} scene;

/* ---- what a worker does for its clients -------------------------------------------------------
 */

static const struct err elsewhere = { "08004", "lives elsewhere", "" };

static void find_home(struct client *c)
{
	if (client_identity(c)->is_console)
		client_close(c, &elsewhere, elsewhere.text);
	else
		client_login_begin(c);
}

static bool enter(struct client *c, struct err *e)
{
	return relay_enter(&scene.relay, c, scene.nodes, e);
}

static void assign_key(struct client *c)
{
	for (uint32_t pid = 1; pid < PGT_NELEMS(scene.by_pid) && !c->pid; pid++)
		if (!scene.by_pid[pid]) {
			scene.by_pid[pid] = c;
			c->pid = pid;
		}
	memset(client_secret(c), 'k', c->secret_len);
}

static void forget_key(struct client *c)
{
	scene.by_pid[c->pid] = NULL;
	c->pid = 0;
}

/* Any secret will do. */
static void cancel(struct client *asker, uint32_t pid, struct slice secret PGT_UNUSED)
{
	struct client *c = pid && pid < PGT_NELEMS(scene.by_pid) ? scene.by_pid[pid] : NULL;

	if (c)
		relay_cancel(c);
	client_close(asker, NULL, "cancel request");
}

/* Without tenant_query and auth_query nobody is looked up. */
static void seek_nobody(struct client *c PGT_UNUSED)
{
	PGT_ASSERT(false);
}

static void seek_tenant(struct client *c PGT_UNUSED, struct slice said PGT_UNUSED)
{
	PGT_ASSERT(false);
}

/* ---- the scene --------------------------------------------------------------------------------
 */

static bool read_file(void *arg, const char *path, bool is_secret PGT_UNUSED, struct buf *text,
		      struct err *e PGT_UNUSED)
{
	if (strcmp(path, "users") == 0)
		buf_put_slice(text, SLICE("\"app\" \"x\"\n\"app.acme\" \"x\"\n"));
	else
		buf_printf(text,
			   "[pgturnstile]\nauth_type = trust\nauth_file = users\n"
			   "server_tls_sslmode = disable\n"
			   "default_pool_size = 2\n%s\n[databases]\nshop = host=%s port=1\n",
			   (const char *)arg, scene.dir);
	return true;
}

static void listen_in_dir(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strcpy(scene.dir, "/tmp/fuzz-relay-XXXXXX");
	PGT_ASSERT(mkdtemp(scene.dir));
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.1", scene.dir);
	scene.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	PGT_ASSERT(bind(scene.listener, (struct sockaddr *)&address, sizeof(address)) == 0);
	PGT_ASSERT(listen(scene.listener, 16) == 0);
}

static void remove_dir(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/.s.PGSQL.1", scene.dir);
	unlink(path);
	rmdir(scene.dir);
}

static void make_scene(void)
{
	struct config_problems problems = { 0 };

	signal(SIGPIPE, SIG_IGN);
	atomic_store(&log_threshold, LOG_LEVEL_FATAL);
	listen_in_dir();
	atexit(remove_dir);
	scene.loop = loop_new();
	mailbox_init(&scene.mailbox, scene.loop, &scene);
	scene.resolver = resolver_new("", 0, 0);
	for (size_t i = 0; i < NWAYS; i++) {
		scene.configs[i] = config_load("ini", read_file, (void *)ways[i], &problems);
		PGT_ASSERT(scene.configs[i]);
	}
}

/* Nothing is behind any name, or that has to be asked first. */
static struct node_set *make_nodes(bool is_learned)
{
	const struct database_conf *shop = config_database(scene.config, SLICE("shop"));
	struct node_set *nodes = node_set_new("shop", shop->nodes, shop->nnodes);

	if (is_learned)
		node_set_publish_leaving(nodes, sql_leaving_new(),
					 atomic_load(&nodes->definitions));
	return nodes;
}

static void begin(unsigned way, bool is_learned)
{
	scene.asked = SERVER_A;
	scene.config = scene.configs[way];
	scene.nodes = make_nodes(is_learned);
	net_init(&scene.net, scene.loop);
	scene.host = (struct client_host){ .net = &scene.net,
					   .owner = &scene,
					   .relay = &scene.relay,
					   .config = scene.config,
					   .scram_cache = scram_cache_new(),
					   .find_home = find_home,
					   .seek_tenant = seek_tenant,
					   .withdraw_tenant = seek_nobody,
					   .seek_secret = seek_nobody,
					   .withdraw_secret = seek_nobody,
					   .doubt_secret = seek_nobody,
					   .cancel = cancel,
					   .enter = enter,
					   .assign_key = assign_key,
					   .forget_key = forget_key };
	list_init(&scene.host.newcomers);
	relay_init(&scene.relay, &scene.net, scene.config, NULL, scene.resolver, &scene.mailbox);
	for (unsigned i = 0; i < NPEERS; i++)
		scene.peers[i] = (struct peer){ .fd = -1 };
}

static void hang_up(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	buf_fini(&p->head);
	buf_fini(&p->begin);
	*p = (struct peer){ .fd = -1 };
}

static void end(void)
{
	for (unsigned i = 0; i < NPEERS; i++)
		hang_up(&scene.peers[i]);
	LIST_FOREACH_SAFE (at, &scene.host.newcomers)
		client_close(container_of(at, struct client, link), NULL, "shutdown");
	relay_fini(&scene.relay);
	net_turn_end(&scene.net);
	net_fini(&scene.net);
	scram_cache_free(scene.host.scram_cache);
	node_set_unref(scene.nodes);
}

/* ---- peers ------------------------------------------------------------------------------------
 */

static void send_all(const struct peer *p, struct slice s)
{
	if (p->fd >= 0 && send(p->fd, s.p, s.n, MSG_DONTWAIT) < 0)
		PGT_ASSERT(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
}

static void send_message(const struct peer *p, struct slice s)
{
	struct buf b = { 0 };
	size_t m;

	if (s.n) {
		m = msg_begin(&b, (uint8_t)*s.p);
		buf_put_slice(&b, slice_of(s.p + 1, s.n - 1));
		msg_end(&b, m);
		send_all(p, buf_peek(&b));
	}
	buf_fini(&b);
}

static void put_startup(struct buf *b, const char *user)
{
	static const char rest[] = "database\0shop\0application_name\0fuzz\0";
	size_t n = 8 + sizeof("user") + strlen(user) + 1 + sizeof(rest);

	buf_put_u32(b, (uint32_t)n);
	buf_put_u32(b, 3u << 16);
	buf_put_cstr(b, "user");
	buf_put_cstr(b, user);
	buf_put(b, rest, sizeof(rest));
}

static void greet(const struct peer *server)
{
	struct buf b = { 0 };
	size_t m;

	msg_put_authentication(&b, AUTH_OK);
	msg_put_parameter_status(&b, SLICE("server_version"), SLICE("15.4"));
	msg_put_parameter_status(&b, SLICE("client_encoding"), SLICE("UTF8"));
	msg_put_parameter_status(&b, SLICE("standard_conforming_strings"), SLICE("on"));
	m = msg_begin(&b, MSG_BACKEND_KEY);
	buf_put_u32(&b, 4711);
	buf_put_u32(&b, 1);
	msg_end(&b, m);
	msg_put_ready(&b, 'I');
	send_all(server, buf_peek(&b));
	buf_fini(&b);
}

static void come_as_client(struct peer *p, const char *user, bool is_raw)
{
	static const struct sockaddr_un nowhere = { .sun_family = AF_UNIX };
	struct conn_addr address;
	struct buf b = { 0 };
	int ends[2];

	PGT_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	conn_addr_set(&address, (const struct sockaddr *)&nowhere);
	client_new(&scene.host, ends[0], &address);
	p->fd = ends[1];
	put_startup(&b, user);
	if (!is_raw)
		send_all(p, buf_peek(&b));
	buf_fini(&b);
}

/* Whoever dials while both servers are taken hears nothing. */
static void accept_servers(void)
{
	int fd;

	while ((fd = accept4(scene.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct peer *p = &scene.peers[SERVER_A];

		if (p->fd >= 0)
			p++;
		if (p->fd >= 0) {
			close(fd);
			continue;
		}
		p->fd = fd;
		if (!p->is_raw)
			greet(p);
	}
}

/* What the pooler asks for itself is answered at once, so that what is made up is the answer to
 * what a client has asked. */
static const struct own_question {
	const char *beginning;
	unsigned tags;     /* commands of the text */
	const char *value; /* in a row of its own, or NULL */
} own_questions[] = {
	{"SELECT pg_catalog.set_config('search_path'", 3, NULL},
	{ "SELECT pg_catalog.",                        1, NULL},
	{ "SELECT setting FROM pg_catalog.",           1, "0" },
	{ "SELECT what, mend FROM (",                  1, NULL},
};
#define BEGINNING_MAX 48

static void put_value(struct buf *b, const char *value)
{
	size_t m = msg_begin(b, MSG_DATA_ROW);

	buf_put_u16(b, 1);
	buf_put_u32(b, (uint32_t)strlen(value));
	buf_put(b, value, strlen(value));
	msg_end(b, m);
}

static void answer(const struct peer *server, const struct own_question *q)
{
	struct buf b = { 0 };

	if (q->value)
		put_value(&b, q->value);
	for (unsigned i = 0; i < q->tags; i++)
		msg_put_command_complete(&b, "SELECT 0");
	msg_put_ready(&b, 'I');
	send_all(server, buf_peek(&b));
	buf_fini(&b);
}

static void answer_own(const struct peer *server)
{
	struct slice text = buf_peek(&server->begin);

	if (server->is_raw || server->type != MSG_QUERY)
		return;
	for (size_t i = 0; i < PGT_NELEMS(own_questions); i++)
		if (slice_starts_with(text, slice_str(own_questions[i].beginning))) {
			answer(server, &own_questions[i]);
			return;
		}
}

/* A part of the message's body: its beginning is kept. */
static size_t take_body(struct peer *p, struct slice s)
{
	size_t n = p->left < s.n ? p->left : s.n, kept = buf_len(&p->begin);

	if (kept < BEGINNING_MAX)
		buf_put(&p->begin, s.p, n < BEGINNING_MAX - kept ? n : BEGINNING_MAX - kept);
	p->left -= n;
	if (!p->left) {
		answer_own(p);
		buf_clear(&p->head);
	}
	return n;
}

/* The bytes before the body: a type, but for the startup packet, and a length. */
static size_t take_header(struct peer *p, struct slice s)
{
	size_t size = p->has_begun ? FRAME_HEADER_LEN : 4;
	size_t n = size - buf_len(&p->head) < s.n ? size - buf_len(&p->head) : s.n;
	struct reader r;
	uint32_t len;

	buf_put(&p->head, s.p, n);
	if (buf_len(&p->head) < size)
		return n;
	r = reader_of(buf_peek(&p->head));
	p->type = p->has_begun ? read_u8(&r) : 0;
	len = read_u32(&r);
	PGT_ASSERT(len >= 4);
	PGT_ASSERT(!p->has_begun || strcmp(frontend_message_name(p->type), "unknown message"));
	p->left = len - 4;
	p->has_begun = true;
	buf_clear(&p->begin);
	if (!p->left)
		buf_clear(&p->head);
	return n;
}

/* Whole messages, one behind another, each of which a client may send; a part of one may be last.
 */
static void check_messages(struct peer *p, struct slice s)
{
	while (s.n) {
		size_t n = p->left ? take_body(p, s) : take_header(p, s);

		s = slice_of(s.p + n, s.n - n);
	}
}

static void hear(void)
{
	static char room[1 << 16];

	for (unsigned i = 0; i < NPEERS; i++) {
		struct peer *p = &scene.peers[i];
		ssize_t n = -1;

		while (p->fd >= 0 && (n = recv(p->fd, room, sizeof(room), MSG_DONTWAIT)) > 0) {
			if (i < SERVER_A)
				continue;
			check_messages(p, slice_of(room, (size_t)n));
			scene.asked = i;
		}
		if (p->fd >= 0 && n == 0)
			hang_up(p);
	}
}

/* ---- turns of the loop ------------------------------------------------------------------------
 */

static void deliver_stop(struct mail *mail PGT_UNUSED, void *receiver PGT_UNUSED)
{
	loop_stop(scene.loop);
}

/* A server that is dialed is heard in the second, and what it answers in the third. */
static void turn(void)
{
	for (int i = 0; i < 3; i++) {
		mailbox_post(&scene.mailbox, &scene.stop, deliver_stop);
		loop_run(scene.loop);
		accept_servers();
		hear();
	}
}

static void pass_time(void)
{
	usec_t later = loop_now(scene.loop) + MANY_YEARS;

	net_sweep(&scene.net, later);
	client_sweep_newcomers(&scene.host, later);
	relay_sweep(&scene.relay, later);
	net_flush(&scene.net);
	turn();
}

static void play(struct slice record)
{
	unsigned how = record.n ? (uint8_t)*record.p : 0, who = how % NPEERS;
	struct slice said = slice_of(record.p + 1, record.n ? record.n - 1 : 0);
	struct peer *p;

	if (!record.n)
		return;
	if (who >= SERVER_A && scene.asked == SERVER_B)
		who = SERVER_A + SERVER_B - who;
	p = &scene.peers[who];
	if (how & HOW_LATER)
		pass_time();
	if (p->fd < 0 && who < SERVER_A)
		come_as_client(p, who == CLIENT_A ? "app.acme" : "app", how & HOW_RAW);
	if (who >= SERVER_A)
		p->is_raw = how & HOW_RAW;
	if (how & HOW_MESSAGE)
		send_message(p, said);
	else
		send_all(p, said);
	if (how & HOW_LAST)
		hang_up(p);
	if (!(how & HOW_AT_ONCE))
		turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest;

	if (size == 0)
		return 0;
	if (!scene.loop)
		make_scene();
	begin(data[0] % 128 % NWAYS, data[0] < 128);
	rest = slice_of((const char *)data + 1, size - 1);
	for (int i = 0; rest.n && i < RECORDS_MAX; i++) {
		const char *stop = memchr(rest.p, RECORD_END, rest.n);
		size_t n = stop ? (size_t)(stop - rest.p) : rest.n;

		play(slice_of(rest.p, n));
		rest = slice_of(rest.p + n, rest.n - n);
		if (rest.n)
			rest = slice_of(rest.p + 1, rest.n - 1);
	}
	turn();
	end();
	return 0;
}
