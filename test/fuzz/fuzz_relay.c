/* SPDX-License-Identifier: ISC
 *
 * fuzz_relay.c - whatever two clients and two servers send, in any order, in each state of a login
 * and a session: the relay of one thread between them, with sockets and no clock but its own.
 *
 * The input is a byte that says which configuration, and whether it is known what code leaves; then
 * records that end with a byte 0xfe.  A record's first byte says who speaks and how (enum how), the
 * rest is what it sends.  What comes to a server must be whole messages that a client may send,
 * whoever has sent what before.
 *
 * Client A is on a Unix socket, B is said to come from 10.0.0.1.  What others are asked about a
 * login (a tenant, a secret, a verdict) is answered as a record says, or never.
 *
 * What clients hear is written to the file that $FUZZ_HEARD names, for replay.py.
 */
#include "rig.h"

#include "auth/userlist.h"
#include "base/assert.h"
#include "base/mem.h"
#include "client/client.h"
#include "client/login.h"
#include "client/throttle.h"
#include "config/config.h"
#include "relay/relay.h"
#include "route/nodes.h"
#include "sql/leaving.h"
#include "wire/frame.h"
#include "wire/passport.h"
#include "wire/read.h"
#include "wire/write.h"

#include <netinet/in.h>
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
	HOW_TOLD = 1 << 7,    /* what was asked about a client's login is answered: enum told */
};

/* Bits of the first byte of what is said then. */
enum told {
	TOLD_KIND = 3,            /* which of the answers that there are */
	TOLD_RELOADED = 1 << 2,   /* the next configuration is in force by then … */
	TOLD_READ_AGAIN = 1 << 3, /* … or the same has been read again, other secrets in it */
	TOLD_ARRIVES = 1 << 4,    /* the client is of another process, and this is its passport */
};

#define MANY_YEARS (INT64_C(1) << 50)
/* An input is slow that has more, not wrong. */
#define RECORDS_MAX 64

#define SHARED                                                                                     \
	"pool_mode = transaction\ntenant_by = user_suffix, set\ntenant_pool = shared\n"            \
	"[tiers]\nbasic = weight=1\n[tenants]\nacme = tier=basic business_id=42\n"                 \
	"[users]\napp = tenant_switch=yes"
#define PREPARING                                                                                  \
	"pool_mode = transaction\nauto_prepare = on\nauto_prepare_after = 2\nearly_commit = on\n"  \
	"query_insight = on\nlog_statements = all\nlog_sample = 50"
#define RULES  "auth_hba_file = rules\nauth_ident_file = names\n"
#define TOKENS "jwt_secret_file = secret\njwt_audience = db\n"
#define BARRED "[users]\nbarred = allow_from=192.168.0.0/16"
#define BY_TOKEN                                                                                   \
	TOKENS "tenant_by = token\n[tiers]\nbasic = weight=1\n[tenants]\n"                         \
	       "acme = tier=basic business_id=42"
#define PROMOTING                                                                                  \
	"pool_mode = transaction\npromote = first_write\nread_your_writes = session\n"             \
	"log_statements = mod"
#define THROTTLED                                                                                  \
	"login_failures_max = 1\nlogin_trusted_from = 10.0.0.2/32\nlog_connections = 0\n"          \
	"log_pooler_errors = 0\n" BARRED
#define GUARDED                                                                                    \
	"tenant_by = user_suffix\nunknown_tenant = basic\nrequire_rls = "                          \
	"yes\ncontext_signing_key_file = key\n"                                                    \
	"client_tls_sslmode = require\nclient_tls_key_file = k\nclient_tls_cert_file = c\n"        \
	"[tiers]\nbasic = weight=1 statement_timeout=5s\n"                                         \
	"[tenants]\nacme = tier=basic business_id=42 allow_from=10.0.0.0/8,local\n"                \
	"far = tier=basic business_id=43 allow_from=192.168.0.0/16"
#define LOOKED_UP                                                                                  \
	"auth_user = asker\nauth_query = SELECT a, b FROM c($1)\ntenant_by = user_suffix\n"        \
	"tenant_query = SELECT tenant, business_id FROM t\nmonitor_user = m\n"                     \
	"[tiers]\nbasic = weight=1\n[tenants]\nacme = tier=basic business_id=42"

static const struct way {
	const char *auth, *settings;
	const char *database; /* its settings */
	bool has_replica;
} ways[] = {
	{"trust",          "pool_mode = transaction",                               "",                           false},
	{ "trust",         "pool_mode = session\nserver_reset_query = DISCARD ALL", "",                           false},
	{ "trust",         "pool_mode = statement\nlog_statements = ddl",           "",                           false},
	{ "trust",         SHARED,						  "",                           false},
	{ "trust",         PREPARING,					       "",                           false},
	{ "md5",           THROTTLED,					       "user=plain",                 false},
	{ "md5",           LOOKED_UP,					       "",                           false},
	{ "scram-sha-256", BARRED,						  "connect_query='SELECT 7'",   false},
	{ "plain",         BARRED,						  "user=plain password=secret", false},
	{ "any",           GUARDED,						 "",                           false},
	{ "hba",           RULES TOKENS,					    "",                           false},
	{ "jwt",           BY_TOKEN,						"",                           false},
	{ "trust",         PROMOTING,					       "",                           true },
};
#define NWAYS PGT_NELEMS(ways)

/* Of "secret". */
#define SCRAM_SECRET                                                                               \
	"SCRAM-SHA-256$1:c2FsdA==$wN56iZgRmJc8bLR+mwOwuVJuCvu3CIrVguKdgdp7J6s=:"                   \
	"ywJYVz0nm/y3tcyI3qXB89hBjaX1PJEJLUzrN3+/5aM="

#define APP_USERS   "\"app\" \"x\"\n\"app.acme\" \"x\"\n"
#define SCRAM_USERS "\"scram\" \"" SCRAM_SECRET "\"\n\"barred\" \"" SCRAM_SECRET "\"\n"

#ifdef HAVE_PAM
#define JUDGED "local all judged pam pamservice=x\n"
#else
#define JUDGED ""
#endif

/* By what it is called in the configuration. */
static const struct file {
	const char *name, *text;
	const char *again; /* when it is read again; NULL: the same */
} files[] = {
	{"users",
         APP_USERS SCRAM_USERS
	  "\"plain\" \"secret\"\n\"md\" \"md5739440c5d87b2b8095b909f9d2a1bbf9\"\n\"empty\" \"\"\n", APP_USERS SCRAM_USERS "\"plain\" \"another\"\n\"late\" \"secret\"\n"},
	{ "rules",
         "local all trusted trust\nlocal all rejected reject\nlocal all named peer map=m\n"
	  "local all md md5\nlocal all scram scram-sha-256\nlocal all plain password\n"
	  "local all token jwt map=m\n" JUDGED
#ifdef HAVE_LDAP
	  "local all bound ldap ldapserver=a ldapprefix=x\n"
#endif
	  "host all all 10.0.0.0/8 md5\n",							  JUDGED "local all scram scram-sha-256\nlocal all all reject\n"      },
	{ "names",  "m /^(.*)$ named\nm role token\n",                                              NULL								},
	{ "secret", "0123456789abcdef0123456789abcdef",                                             NULL								},
	{ "key",    "k 000102030405060708090a0b0c0d0e0f\n",                                         NULL								},
};

/* What is not answered here but by others, one thing at a time. */
enum asked { ASKED_NOTHING, ASKED_TENANT, ASKED_SECRET, ASKED_VERDICT };

struct peer {
	int fd; /* -1: it is not there */
	bool is_raw;
	struct client *client; /* of which something is asked, or NULL … */
	enum asked about;      /* … and what */
	/* Of what comes to a server. */
	bool has_begun;   /* the startup packet is over, or under way */
	uint8_t type;     /* of the message under way … */
	size_t left;      /* … bytes of its body that are still to come … */
	struct buf head;  /* … what there is of its header … */
	struct buf begin; /* … and of its body, at the beginning */
};

static struct scene {
	struct rig rig;
	int listeners[2];
	struct config *configs[2][NWAYS]; /* each read twice */
	struct config *config;            /* of this input */
	struct node_set *nodes;
	struct net net;
	struct client_host host;
	struct relay relay;
	struct client *by_pid[16];
	struct peer peers[NPEERS];
	unsigned way, reading; /* of the configuration in force */
	unsigned asked;        /* the server that has heard something last */
} scene;

/* ---- what is heard -----------------------------------------------------------------------------
 */

enum { HEARD_INPUT = NPEERS }; /* the next input begins */

/* Who has heard it, how much it is, and it. */
static void write_down(uint8_t who, struct slice said)
{
	static FILE *heard;
	const char *name = getenv("FUZZ_HEARD");
	struct buf b = { 0 };

	if (!name)
		return;
	if (!heard)
		heard = fopen(name, "wb");
	PGT_ASSERT(heard);
	buf_put_u8(&b, who);
	buf_put_u32(&b, (uint32_t)said.n);
	buf_put_slice(&b, said);
	PGT_ASSERT(fwrite(buf_head(&b), 1, buf_len(&b), heard) == buf_len(&b));
	buf_fini(&b);
}

/* ---- what a worker does for its clients -------------------------------------------------------
 */

static void find_home(struct client *c)
{
	client_login_begin(c);
}

static bool enter(struct client *c, struct err *e)
{
	if (client_identity(c)->is_console)
		return err_set(e, "08004", "there is no console here");
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

/* Of one that another process has drawn, only the secret. */
static void keep_key(struct client *c)
{
	c->pid = 0;
	assign_key(c);
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

/* ---- what is asked about a login --------------------------------------------------------------
 */

static const struct err nobody_knows = { "57P01", "nobody can be asked", "" };

/* Client A's address is that of a Unix socket. */
static void ask(struct client *c, enum asked about)
{
	struct peer *p = &scene.peers[c->conn.peer.family == AF_UNIX ? CLIENT_A : CLIENT_B];

	p->client = c;
	p->about = about;
}

static void withdraw(struct client *c)
{
	for (unsigned i = 0; i < NPEERS; i++)
		if (scene.peers[i].client == c)
			scene.peers[i].client = NULL;
}

static void seek_tenant(struct client *c, struct slice said PGT_UNUSED)
{
	ask(c, ASKED_TENANT);
}

static void seek_secret(struct client *c)
{
	ask(c, ASKED_SECRET);
}

static void doubt_secret(struct client *c)
{
	PGT_ASSERT(c->phase == CLIENT_AUTH);
}

static void seek_verdict(struct client *c, const struct client_claim *claim)
{
	PGT_ASSERT(*claim->user && (claim->service || claim->directory));
	ask(c, ASKED_VERDICT);
}

static void tell_secret(struct client *c, unsigned kind)
{
	static const char *const secrets[] = { NULL, "secret", SCRAM_SECRET, NULL };
	struct userlist_entry *entry = NULL;

	if (secrets[kind]) {
		entry = xnew(struct userlist_entry);
		PGT_ASSERT(userlist_entry_init(entry, SLICE("u"), slice_str(secrets[kind])));
	}
	client_secret_told(c, entry, kind ? PASSWORD_PLAIN : PASSWORD_SCRAM,
			   kind == 3 ? &nobody_knows : NULL);
}

static void tell(struct client *c, enum asked about, unsigned kind)
{
	static const enum judgement verdicts[] = { JUDGED_NOT, JUDGED_WRONG, JUDGED_GOOD,
						   JUDGED_GOOD };

	if (about == ASKED_TENANT)
		client_tenant_told(c, kind % 2 ? &nobody_knows : NULL);
	else if (about == ASKED_SECRET)
		tell_secret(c, kind);
	else
		client_judged(c, verdicts[kind]);
}

/* As RELOAD does. */
static void reload(void)
{
	scene.config = scene.configs[scene.reading][scene.way];
	scene.host.config = scene.config;
	scram_cache_clear(scene.host.scram_cache);
	relay_reconfigure(&scene.relay, scene.config, NULL);
}

static void connect_client(struct peer *p, int ends[2])
{
	PGT_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	p->fd = ends[1];
}

static void arrive(struct peer *p, struct slice said)
{
	struct passport passport;
	struct buf bytes = { 0 };
	struct err e;
	int ends[2];

	buf_put_slice(&bytes, said);
	if (!passport_take(&passport, &bytes, &e)) {
		passport_fini(&passport);
		return;
	}
	connect_client(p, ends);
	client_arrive(&scene.host, ends[0], &passport);
}

/* The first byte is of enum told; the rest is said then. */
static void be_told(struct peer *p, struct slice *said)
{
	unsigned told = said->n ? (uint8_t)*said->p : 0;
	struct client *c = p->client;

	if (said->n)
		*said = slice_of(said->p + 1, said->n - 1);
	if (told & TOLD_RELOADED)
		scene.way = (scene.way + 1) % NWAYS;
	if (told & TOLD_READ_AGAIN)
		scene.reading = !scene.reading;
	if (told & (TOLD_RELOADED | TOLD_READ_AGAIN))
		reload();
	p->client = NULL;
	if (c)
		tell(c, p->about, told & TOLD_KIND);
	if ((told & TOLD_ARRIVES) && p->fd < 0 && p < &scene.peers[SERVER_A]) {
		arrive(p, *said);
		*said = slice_of(said->p, 0);
	}
	net_flush(&scene.net);
}

/* ---- the scene --------------------------------------------------------------------------------
 */

static bool read_file(void *arg, const char *path, bool is_secret PGT_UNUSED, struct buf *text,
		      struct err *e PGT_UNUSED)
{
	const struct way *way = arg;

	for (size_t i = 0; i < PGT_NELEMS(files); i++)
		if (!strcmp(path, files[i].name)) {
			bool is_again = scene.reading && files[i].again;

			buf_put_slice(text, slice_str(is_again ? files[i].again : files[i].text));
			return true;
		}
	buf_printf(text,
		   "[pgturnstile]\nauth_type = %s\nauth_file = users\nscram_iterations = 1\n"
		   "server_tls_sslmode = disable\ndefault_pool_size = 2\n%s\n"
		   "[databases]\nshop = host=%s%s%s port=1%s %s\n",
		   way->auth, way->settings, scene.rig.dir, way->has_replica ? "," : "",
		   way->has_replica ? scene.rig.dir : "", way->has_replica ? ",2" : "",
		   way->database);
	return true;
}

static void make_scene(void)
{
	rig_init(&scene.rig, "relay");
	for (unsigned i = 0; i < 2; i++)
		scene.listeners[i] = rig_listen(&scene.rig, i + 1);
	for (scene.reading = 0; scene.reading < 2; scene.reading++)
		for (size_t i = 0; i < NWAYS; i++)
			scene.configs[scene.reading][i] = rig_config(read_file, &ways[i]);
}

/* Nothing is behind any name, or that has to be asked first. */
static struct node_set *make_nodes(bool is_learned)
{
	const struct database_conf *shop = config_database(scene.config, SLICE("shop"));
	struct node_set *nodes = node_set_new("shop", shop->nodes, shop->nnodes);

	if (nodes->n > 1) {
		nodes->monitored = true;
		nodes->primary = 0;
		nodes->nodes[0].role = NODE_PRIMARY;
		nodes->nodes[1].role = NODE_REPLICA;
		nodes->nodes[1].lag_bytes = nodes->nodes[1].lag_time = 0;
	}
	if (is_learned)
		node_set_publish_leaving(nodes, sql_leaving_new(),
					 atomic_load(&nodes->definitions));
	return nodes;
}

static void begin(unsigned way, bool is_learned)
{
	scene.asked = SERVER_A;
	scene.way = way;
	scene.reading = 0;
	scene.config = scene.configs[0][way];
	scene.nodes = make_nodes(is_learned);
	net_init(&scene.net, scene.rig.loop);
	throttle_forget_all();
	scene.host = (struct client_host){ .net = &scene.net,
					   .owner = &scene,
					   .relay = &scene.relay,
					   .config = scene.config,
					   .scram_cache = scram_cache_new(),
					   .find_home = find_home,
					   .seek_tenant = seek_tenant,
					   .withdraw_tenant = withdraw,
					   .seek_secret = seek_secret,
					   .withdraw_secret = withdraw,
					   .doubt_secret = doubt_secret,
					   .seek_verdict = seek_verdict,
					   .withdraw_verdict = withdraw,
					   .cancel = cancel,
					   .enter = enter,
					   .assign_key = assign_key,
					   .keep_key = keep_key,
					   .forget_key = forget_key };
	list_init(&scene.host.newcomers);
	relay_init(&scene.relay, &scene.net, scene.config, NULL, scene.rig.resolver,
		   &scene.rig.mailbox);
	for (unsigned i = 0; i < NPEERS; i++)
		scene.peers[i] = (struct peer){ .fd = -1 };
}

static void hang_up(struct peer *p)
{
	if (p->fd >= 0)
		close(p->fd);
	buf_fini(&p->head);
	buf_fini(&p->begin);
	*p = (struct peer){ .fd = -1, .client = p->client, .about = p->about };
}

/* ---- peers ------------------------------------------------------------------------------------
 */

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
	rig_send(server->fd, buf_peek(&b));
	buf_fini(&b);
}

static void come_as_client(struct peer *p, bool is_a, bool is_raw)
{
	static const struct sockaddr_un nowhere = { .sun_family = AF_UNIX };
	const struct sockaddr_in elsewhere = { .sin_family = AF_INET,
					       .sin_addr.s_addr = htonl(10u << 24 | 1) };
	struct addr address;
	struct buf b = { 0 };
	int ends[2];

	connect_client(p, ends);
	addr_set(&address,
		 is_a ? (const struct sockaddr *)&nowhere : (const struct sockaddr *)&elsewhere);
	client_new(&scene.host, ends[0], &address);
	put_startup(&b, is_a ? "app.acme" : "app");
	if (!is_raw)
		rig_send(p->fd, buf_peek(&b));
	buf_fini(&b);
}

/* Whoever dials while both servers are taken hears nothing. */
static void take_server(int fd)
{
	struct peer *p = &scene.peers[SERVER_A];

	if (p->fd >= 0)
		p++;
	if (p->fd >= 0) {
		close(fd);
		return;
	}
	p->fd = fd;
	if (!p->is_raw)
		greet(p);
}

static void accept_servers(void)
{
	int fd;

	for (unsigned i = 0; i < 2; i++)
		while ((fd = accept4(scene.listeners[i], NULL, NULL,
				     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
			take_server(fd);
}

/* What the pooler asks for itself is answered at once, so that what is made up is the answer to
 * what a client has asked. */
static const struct own_question {
	const char *beginning;
	unsigned tags;              /* commands of the text */
	const char *value, *second; /* in a row of its own, or NULL */
} own_questions[] = {
	{"SELECT pg_catalog.set_config('search_path'", 3, NULL,   NULL     },
	{ "SELECT pg_catalog.",                        1, NULL,   NULL     },
	{ "SELECT setting FROM pg_catalog.",           1, "0",    NULL     },
	{ "SELECT what, mend FROM (",                  1, NULL,   NULL     },
	{ "SELECT pid, pg_catalog.round(",             1, "4711", "1000000"},
};
#define BEGINNING_MAX 48

static void put_row(struct buf *b, const struct own_question *q)
{
	const char *const values[] = { q->value, q->second };
	size_t m = msg_begin(b, MSG_DATA_ROW);

	buf_put_u16(b, q->second ? 2 : 1);
	for (unsigned i = 0; i < 2 && values[i]; i++) {
		buf_put_u32(b, (uint32_t)strlen(values[i]));
		buf_put(b, values[i], strlen(values[i]));
	}
	msg_end(b, m);
}

static void answer(const struct peer *server, const struct own_question *q)
{
	struct buf b = { 0 };

	if (q->value)
		put_row(&b, q);
	for (unsigned i = 0; i < q->tags; i++)
		msg_put_command_complete(&b, "SELECT 0");
	msg_put_ready(&b, 'I');
	rig_send(server->fd, buf_peek(&b));
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
			if (i < SERVER_A) {
				write_down((uint8_t)i, slice_of(room, (size_t)n));
				continue;
			}
			check_messages(p, slice_of(room, (size_t)n));
			scene.asked = i;
		}
		if (p->fd >= 0 && n == 0)
			hang_up(p);
	}
}

/* ---- turns of the loop ------------------------------------------------------------------------
 */

static void end(void)
{
	for (unsigned i = 0; i < NPEERS; i++)
		hang_up(&scene.peers[i]);
	LIST_FOREACH_SAFE (at, &scene.host.newcomers)
		client_close(container_of(at, struct client, link), NULL, "shutdown");
	relay_fini(&scene.relay);
	net_turn_end(&scene.net);
	net_fini(&scene.net);
	/* Whoever was dialed last is nobody's server in the next input. */
	accept_servers();
	for (unsigned i = 0; i < NPEERS; i++)
		hang_up(&scene.peers[i]);
	scram_cache_free(scene.host.scram_cache);
	node_set_unref(scene.nodes);
}

/* A server that is dialed is heard in the second, and what it answers in the third. */
static void turn(void)
{
	for (int i = 0; i < 3; i++) {
		rig_turn(&scene.rig.mailbox);
		accept_servers();
		hear();
	}
}

static void pass_time(void)
{
	usec_t later = loop_now(scene.rig.loop) + MANY_YEARS;

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
	struct buf b = { 0 };
	struct peer *p;

	if (!record.n)
		return;
	if (who >= SERVER_A && scene.asked == SERVER_B)
		who = SERVER_A + SERVER_B - who;
	p = &scene.peers[who];
	if (how & HOW_LATER)
		pass_time();
	if (how & HOW_TOLD)
		be_told(p, &said);
	if (p->fd < 0 && who < SERVER_A)
		come_as_client(p, who == CLIENT_A, how & HOW_RAW);
	if (who >= SERVER_A)
		p->is_raw = how & HOW_RAW;
	if (how & HOW_MESSAGE)
		rig_put_message(&b, said);
	else
		buf_put_slice(&b, said);
	rig_send(p->fd, buf_peek(&b));
	buf_fini(&b);
	if (how & HOW_LAST)
		hang_up(p);
	if (!(how & HOW_AT_ONCE))
		turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest, record;

	if (size == 0)
		return 0;
	if (!scene.rig.loop)
		make_scene();
	begin(data[0] % 128 % NWAYS, data[0] < 128);
	write_down(HEARD_INPUT, (struct slice){ 0 });
	rest = slice_of((const char *)data + 1, size - 1);
	for (int i = 0; i < RECORDS_MAX && rig_next_record(&rest, &record); i++)
		play(record);
	turn();
	end();
	return 0;
}
