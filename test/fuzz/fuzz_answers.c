/* SPDX-License-Identifier: ISC
 *
 * fuzz_answers.c - whatever servers answer to what the pooler asks for itself: what a node is, what
 * its catalog says, who its users and tenants are; and what Patroni says of it.
 *
 * The input is a byte that says who asks and under which configuration, then records that end with
 * a byte 0xfe; their first byte is an enum saying.  What is said goes to the connection whose
 * question has waited longest, or to the one that was spoken to last.  Fields of a record end with
 * a byte 0xfd; a field of 0x01 is NULL.  Whoever has asked is answered once, whatever comes.
 */
#include "rig.h"

#include "base/assert.h"
#include "base/mem.h"
#include "config/roster.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"
#include "worker/secret_link.h"
#include "worker/sets.h"
#include "worker/tenant_source.h"
#include "worker/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum asking { ASKS_STATE, ASKS_SECRETS, ASKS_TENANTS, ASKS_PATRONI, NASKING };

enum saying {
	SAYS_COLUMNS = 'T',
	SAYS_ROW = 'D',
	SAYS_DONE = '.',    /* that is all of this answer */
	SAYS_ERROR = 'E',   /* the same: its SQLSTATE, and a message */
	SAYS_MESSAGE = 'M', /* a type and a body */
	SAYS_BYTES = 'R',
	SAYS_GOODBYE = 'X',
	TIME_PASSES = 'L',   /* so many looks */
	ONE_IS_SOUGHT = '?', /* somebody wants to know who this is, of a database before a '/' */
	PRIMARY_IS = 'P',    /* '0', '1': of what is not made up, this node is; else none */
	LOGINS_FAIL = 'G',   /* with a SQLSTATE and a message; of one byte: nothing is said to them;
			      * of   nothing: they do not */
	NOBODY_LISTENS = 'N' /* any more */
};
#define FIELD_END    0xfd

#define NNODES       2
#define LINKS        8 /* that are answered; whoever dials beside them is turned away */
#define RECORDS_MAX  64
#define LOOKS_MAX    64
#define LOOK_SECONDS 1 /* no shorter than from any look to the next */

/* With and without what is remembered for a while; the second has a node that nobody is behind. */
static const char *const ways[] = {
	"patroni_port = 1\n",
	"tenant_refresh = 0\ntenant_unknown_ttl = 0\nauth_query_ttl = 0\nmonitor_interval = 2s\n"
	"monitor_dbname = postgres\npatroni_port = 1\n",
};
#define NWAYS PGT_NELEMS(ways)

/* One connection of the pooler's, on its servers' side. */
struct link {
	int fd; /* -1: there is none */
	unsigned node;
	bool has_begun; /* its startup packet has come */
	struct buf in;
	bool is_asking;   /* it waits for an answer … */
	unsigned long at; /* … since this question */
};

static struct scene {
	struct rig rig;
	char hidden[40]; /* where the folder with the sockets is when nobody listens */
	int listeners[NNODES];
	struct config *configs[NWAYS];
	struct config *plain;  /* in which nobody is looked up */
	struct config *config; /* of this input */
	struct net net;
	struct node_sets *sets;
	struct monitor *monitor;
	struct secret_source *secrets;
	struct tenant_source *tenants;
	struct patroni_question *patroni; /* under way, or NULL */
	enum asking asking;
	struct link links[LINKS];
	struct link *spoken_to;
	unsigned long questions;
	uint8_t primary;     /* as a digit */
	struct buf refusal;  /* of logins; empty: none */
	unsigned long heard; /* connections, and parts of what they say */
	uint64_t sought, answered;
} scene;

/* ---- the clock --------------------------------------------------------------------------------
 */

/* Seconds by which all timers think it later than it is. */
static time_t clock_ahead;

/* In place of the library's, for libev too; libFuzzer goes by the other clock. */
int clock_gettime(clockid_t id, struct timespec *t)
{
	int status = (int)syscall(SYS_clock_gettime, id, t);

	if (id == CLOCK_MONOTONIC)
		t->tv_sec += clock_ahead;
	return status;
}

/* ---- the scene --------------------------------------------------------------------------------
 */

static bool read_file(void *arg, const char *path PGT_UNUSED, bool is_secret PGT_UNUSED,
		      struct buf *text, struct err *e PGT_UNUSED)
{
	const char *way = arg;
	bool is_last = way == ways[NWAYS - 1];

	buf_printf(text,
		   "[pgturnstile]\nauth_type = scram-sha-256\nserver_tls_sslmode = disable\n"
		   "auth_user = asker\nauth_query = SELECT a, b FROM c($1)\n"
		   "monitor_user = m\n%sread_functions = f\nwrite_functions = g\n"
		   "tenant_by = user\ntenant_query = SELECT tenant, business_id FROM t\n"
		   "[databases]\nshop = host=%s,%s%s dbname=shop\n* = host=%s port=2\n"
		   "[tiers]\nbasic = weight=1\n[tenants]\nacme = tier=basic business_id=42\n",
		   way, scene.rig.dir, scene.rig.dir,
		   is_last ? ",127.0.0.1 port=1,2,1" : " port=1,2", scene.rig.dir);
	return true;
}

static bool read_plain_file(void *arg PGT_UNUSED, const char *path PGT_UNUSED,
			    bool is_secret PGT_UNUSED, struct buf *text, struct err *e PGT_UNUSED)
{
	buf_printf(text, "[pgturnstile]\nauth_type = trust\n[databases]\nother = host=%s port=1\n",
		   scene.rig.dir);
	return true;
}

static void come_back(void)
{
	rename(scene.hidden, scene.rig.dir);
}

static void make_scene(void)
{
	rig_init(&scene.rig, "answers");
	snprintf(scene.hidden, sizeof(scene.hidden), "%s.hidden", scene.rig.dir);
	atexit(come_back);
	for (unsigned i = 0; i < NNODES; i++)
		scene.listeners[i] = rig_listen(&scene.rig, i + 1);
	for (size_t i = 0; i < NWAYS; i++)
		scene.configs[i] = rig_config(read_file, ways[i]);
	scene.plain = rig_config(read_plain_file, "");
}

/* ---- links ------------------------------------------------------------------------------------
 */

static void hang_up(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	buf_fini(&l->in);
	*l = (struct link){ .fd = -1 };
	if (scene.spoken_to == l)
		scene.spoken_to = NULL;
}

static struct link *free_link(void)
{
	for (unsigned i = 0; i < LINKS; i++)
		if (scene.links[i].fd < 0)
			return &scene.links[i];
	return NULL;
}

static void accept_all(void)
{
	for (unsigned i = 0; i < NNODES; i++) {
		int fd;

		while ((fd = accept4(scene.listeners[i], NULL, NULL,
				     SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
			struct link *l = free_link();

			scene.heard++;
			if (!l) {
				close(fd);
				continue;
			}
			*l = (struct link){ .fd = fd, .node = i };
			/* HTTP has no greeting. */
			if (scene.asking == ASKS_PATRONI) {
				l->is_asking = true;
				l->at = ++scene.questions;
			}
		}
	}
}

static void put_error(struct buf *b, struct slice said)
{
	size_t m = msg_begin(b, MSG_ERROR), n = said.n < 5 ? said.n : 5;

	buf_put_u8(b, 'C');
	buf_put(b, said.p, n);
	buf_put_u8(b, '\0');
	buf_put_u8(b, 'M');
	buf_put(b, said.p + n, said.n - n);
	buf_put_u16(b, 0);
	msg_end(b, m);
}

static void greet(const struct link *l)
{
	struct buf b = { 0 };

	if (buf_len(&scene.refusal) == 1)
		return;
	if (buf_len(&scene.refusal))
		put_error(&b, buf_peek(&scene.refusal));
	msg_put_authentication(&b, AUTH_OK);
	msg_put_parameter_status(&b, SLICE("server_version"), SLICE("15.4"));
	msg_put_parameter_status(&b, SLICE("client_encoding"), SLICE("UTF8"));
	msg_put_ready(&b, 'I');
	rig_send(l->fd, buf_peek(&b));
	buf_fini(&b);
}

static bool take_field(struct slice *rest, struct slice *field)
{
	const char *end = rest->n ? memchr(rest->p, FIELD_END, rest->n) : NULL;
	size_t n = end ? (size_t)(end - rest->p) : rest->n;

	if (!rest->n)
		return false;
	*field = slice_of(rest->p, n);
	*rest = slice_of(rest->p + n, rest->n - n);
	if (end)
		*rest = slice_of(rest->p + 1, rest->n - 1);
	return true;
}

static uint16_t count_fields(struct slice rest)
{
	struct slice field;
	uint16_t n = 0;

	while (take_field(&rest, &field))
		n++;
	return n;
}

static void put_row(struct buf *b, struct slice fields)
{
	size_t m = msg_begin(b, MSG_DATA_ROW);
	struct slice field;

	buf_put_u16(b, count_fields(fields));
	while (take_field(&fields, &field)) {
		bool is_null = slice_is_equal(field, SLICE("\x01"));

		buf_put_u32(b, is_null ? UINT32_MAX : (uint32_t)field.n);
		if (!is_null)
			buf_put_slice(b, field);
	}
	msg_end(b, m);
}

static void put_columns(struct buf *b, struct slice fields)
{
	static const char type[18];
	size_t m = msg_begin(b, MSG_ROW_DESCRIPTION);
	struct slice field;

	buf_put_u16(b, count_fields(fields));
	while (take_field(&fields, &field)) {
		buf_put_slice(b, field);
		buf_put_u8(b, '\0');
		buf_put(b, type, sizeof(type));
	}
	msg_end(b, m);
}

static void put_done(struct buf *b)
{
	msg_put_command_complete(b, "SELECT 0");
	msg_put_ready(b, 'I');
}

/* What is asked on the way to what is made up. */
static const struct own_question {
	const char *beginning;
	const char *row, *row_of_primary; /* or NULL */
} own_questions[] = {
	{"SELECT system_identifier",
         "7\xfd"
	  "f",					 "7\xfd"
	  "f"				},
	{ "SELECT pg_catalog.pg_is_in_recovery",
         "t\xfd"
	  "900\xfd"
	  "0.5\xfd"
	  "1\xfd"
	  "8192\xfd"
	  "9\xfd"
	  "5",					 "f\xfd"
	  "1000\xfd"
	  "\x01\xfd"
	  "1\xfd"
	  "8192\xfd"
	  "9\xfd"
	  "5"				},
	{ "SELECT CASE WHEN may.see",            NULL, NULL},
	{ "SET jit",			     NULL, NULL},
	{ "SELECT pg_catalog.set_config",        NULL, NULL},
	{ "WITH ",			       NULL, NULL},
};

static bool answer_own(const struct link *l, struct slice text)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < PGT_NELEMS(own_questions); i++) {
		const struct own_question *q = &own_questions[i];
		const char *row = l->node + '0' == scene.primary ? q->row_of_primary : q->row;

		if (!slice_starts_with(text, slice_str(q->beginning)))
			continue;
		if (row)
			put_row(&b, slice_str(row));
		put_done(&b);
		rig_send(l->fd, buf_peek(&b));
		buf_fini(&b);
		return true;
	}
	return false;
}

static void on_question(struct link *l, struct slice text)
{
	if (scene.asking != ASKS_STATE && answer_own(l, text))
		return;
	l->is_asking = true;
	l->at = ++scene.questions;
}

/* A question is a Query, or ends with a Sync; all that is said is a message. */
static void hear_messages(struct link *l)
{
	struct frame f;

	while (frame_peek(buf_head(&l->in), buf_len(&l->in), &f) == FRAME_OK &&
	       frame_is_whole(&f)) {
		PGT_ASSERT(strcmp(frontend_message_name(f.type), "unknown message"));
		if (f.type == MSG_QUERY || f.type == MSG_SYNC)
			on_question(l, frame_body(&f));
		buf_consume(&l->in, f.len);
	}
}

static void hear_startup(struct link *l)
{
	struct reader r = reader_of(buf_peek(&l->in));
	uint32_t n = read_u32(&r);

	if (r.failed || buf_len(&l->in) < n)
		return;
	buf_consume(&l->in, n);
	l->has_begun = true;
	greet(l);
}

static void hear(struct link *l)
{
	ssize_t n;

	do {
		n = recv(l->fd, buf_reserve(&l->in, 4096), 4096, MSG_DONTWAIT);
		if (n > 0)
			buf_produced(&l->in, (size_t)n);
		scene.heard += n >= 0;
	} while (n > 0);
	if (n == 0) {
		hang_up(l);
		return;
	}
	if (scene.asking == ASKS_PATRONI)
		return;
	if (!l->has_begun)
		hear_startup(l);
	if (l->has_begun)
		hear_messages(l);
}

/* ---- turns of the loop ------------------------------------------------------------------------
 */

/* Until nothing is said any more. */
static void turn(void)
{
	unsigned long before;

	do {
		before = scene.heard;
		net_flush(&scene.net);
		rig_turn(&scene.rig.mailbox);
		accept_all();
		for (unsigned k = 0; k < LINKS; k++)
			if (scene.links[k].fd >= 0)
				hear(&scene.links[k]);
	} while (scene.heard != before);
	/* What was said last. */
	rig_turn(&scene.rig.mailbox);
}

/* ---- who asks ---------------------------------------------------------------------------------
 */

static void on_secret(void *arg PGT_UNUSED, const void *answer)
{
	const struct secret_found *found = answer;

	PGT_ASSERT(!found->why_not || *found->why_not->text);
	scene.answered++;
}

static void on_tenant(void *arg PGT_UNUSED, const void *answer)
{
	const struct err *why_not = answer;

	PGT_ASSERT(!why_not || *why_not->text);
	scene.answered++;
}

static void on_vouched(void *arg PGT_UNUSED, enum vouch vouch PGT_UNUSED)
{
	scene.patroni = NULL;
	scene.answered++;
}

static void publish(void *arg PGT_UNUSED, struct roster *roster)
{
	struct config *config = config_with_roster(scene.config, roster);

	tenant_source_adopt(scene.tenants, config);
	config_unref(config);
}

static void ask_patroni(void)
{
	const struct dial_target target = { .host = scene.rig.dir,
					    .port = 1,
					    .set = &scene.config->global,
					    .resolver = scene.rig.resolver,
					    .mailbox = &scene.rig.mailbox };

	if (scene.patroni) {
		patroni_stop(scene.patroni);
		scene.sought--;
	}
	scene.sought++;
	scene.patroni = patroni_ask(&scene.net, &target, on_vouched, NULL);
}

/* Patroni is asked anew. */
static void seek(struct slice said)
{
	const char *slash = said.n ? memchr(said.p, '/', said.n) : NULL;
	struct slice database = slash ? slice_of(said.p, (size_t)(slash - said.p)) : SLICE("shop");
	struct slice user = slash ? slice_of(slash + 1, said.n - database.n - 1) : said;
	const struct lookup_asker who = { .id = ++scene.sought,
					  .origin = said.n,
					  .answer = scene.asking == ASKS_SECRETS ? on_secret
										 : on_tenant };

	if (scene.asking == ASKS_SECRETS)
		secret_source_find(scene.secrets, database, user, &who);
	else if (scene.asking == ASKS_TENANTS)
		tenant_source_find(scene.tenants, said, &who);
	else
		scene.sought--;
	if (scene.asking == ASKS_PATRONI)
		ask_patroni();
}

static void begin(enum asking asking, unsigned way)
{
	scene.config = scene.configs[way];
	scene.asking = asking;
	scene.sought = scene.answered = 0;
	scene.spoken_to = NULL;
	for (unsigned i = 0; i < LINKS; i++)
		scene.links[i] = (struct link){ .fd = -1 };
	net_init(&scene.net, scene.rig.loop);
	scene.sets = node_sets_new();
	scene.monitor = monitor_new(&scene.net, &scene.rig.mailbox, scene.rig.resolver, scene.sets);
	scene.primary = '0';
	if (asking != ASKS_PATRONI) {
		monitor_configure(scene.monitor, scene.config, NULL);
		turn();
	}
	if (asking == ASKS_SECRETS) {
		scene.secrets = secret_source_new(&scene.net, &scene.rig.mailbox,
						  scene.rig.resolver, scene.monitor);
		secret_source_configure(scene.secrets, scene.config, NULL);
	} else if (asking == ASKS_TENANTS) {
		scene.tenants = tenant_source_new(&scene.net, scene.monitor, publish, NULL);
		tenant_source_configure(scene.tenants, scene.config);
	} else if (asking == ASKS_PATRONI) {
		ask_patroni();
	}
	turn();
}

static void end(void)
{
	/* Who still waits is told when nobody is looked up any more, or when the pooler stops. */
	if (scene.tenants && scene.sought % 2) {
		tenant_source_stop(scene.tenants);
		tenant_source_configure(scene.tenants, scene.plain);
		PGT_ASSERT(scene.answered == scene.sought);
	}
	if (scene.secrets)
		secret_source_free(scene.secrets);
	if (scene.tenants)
		tenant_source_free(scene.tenants);
	scene.secrets = NULL;
	scene.tenants = NULL;
	monitor_free(scene.monitor);
	rename(scene.hidden, scene.rig.dir);
	for (unsigned i = 0; i < LINKS; i++)
		hang_up(&scene.links[i]);
	if (scene.asking == ASKS_PATRONI)
		turn();
	net_turn_end(&scene.net);
	net_fini(&scene.net);
	node_sets_free(scene.sets);
	buf_fini(&scene.refusal);
	PGT_ASSERT(scene.answered == scene.sought);
}

/* ---- records ----------------------------------------------------------------------------------
 */

static void check_watch(const struct watch *w)
{
	PGT_ASSERT(w->primary < (int)w->set->n && w->set->primary < (int)w->set->n);
	for (unsigned i = 0; i < w->set->n; i++)
		PGT_ASSERT(w->probes[i].answer.replay_age >= -1);
}

static void on_visited(void *arg PGT_UNUSED, struct server *server, const char *database,
		       const char *user)
{
	PGT_ASSERT(server && *database && *user);
}

static void on_secret_facts(void *arg PGT_UNUSED, const struct secret_facts *facts)
{
	PGT_ASSERT(*facts->state && (!facts->error || *facts->error));
}

/* What SHOW would be told now. */
static void check_all(void)
{
	struct tenant_source_facts facts;

	LIST_FOREACH (at, &scene.monitor->watches)
		check_watch(container_of(at, struct watch, link));
	monitor_visit(scene.monitor, on_visited, NULL);
	if (scene.secrets) {
		secret_source_each(scene.secrets, on_secret_facts, NULL);
		secret_source_visit(scene.secrets, on_visited, NULL);
	}
	if (scene.tenants) {
		tenant_source_tell(scene.tenants, &facts);
		PGT_ASSERT(*facts.state);
		tenant_source_visit(scene.tenants, on_visited, NULL);
	}
}

/* So many looks go by. */
static void pass_time(unsigned looks)
{
	for (unsigned i = 0; i <= looks % LOOKS_MAX; i++) {
		clock_ahead += LOOK_SECONDS;
		net_sweep(&scene.net, loop_now(scene.rig.loop));
		turn();
	}
}

static struct link *next_asked(void)
{
	struct link *first = NULL;

	for (unsigned i = 0; i < LINKS; i++) {
		struct link *l = &scene.links[i];

		if (l->fd >= 0 && l->is_asking && (!first || l->at < first->at))
			first = l;
	}
	return first ? first : scene.spoken_to;
}

static void say(struct link *l, uint8_t kind, struct slice said)
{
	struct buf b = { 0 };

	if (kind == SAYS_COLUMNS)
		put_columns(&b, said);
	else if (kind == SAYS_ROW)
		put_row(&b, said);
	else if (kind == SAYS_MESSAGE)
		rig_put_message(&b, said);
	else if (kind == SAYS_BYTES)
		buf_put_slice(&b, said);
	if (kind == SAYS_ERROR)
		put_error(&b, said);
	if (kind == SAYS_DONE || kind == SAYS_ERROR) {
		put_done(&b);
		l->is_asking = false;
	}
	rig_send(l->fd, buf_peek(&b));
	buf_fini(&b);
	scene.spoken_to = l;
	if (kind == SAYS_GOODBYE)
		hang_up(l);
}

static void play(struct slice record)
{
	uint8_t kind = (uint8_t)*record.p;
	struct slice said = slice_of(record.p + 1, record.n - 1);
	struct link *l;

	if (kind == TIME_PASSES) {
		pass_time(said.n ? (uint8_t)*said.p : 0);
	} else if (kind == ONE_IS_SOUGHT) {
		seek(said);
	} else if (kind == PRIMARY_IS) {
		scene.primary = said.n ? (uint8_t)*said.p : 0;
	} else if (kind == NOBODY_LISTENS) {
		rename(scene.rig.dir, scene.hidden);
	} else if (kind == LOGINS_FAIL) {
		buf_clear(&scene.refusal);
		buf_put_slice(&scene.refusal, said);
	} else {
		l = next_asked();
		if (l)
			say(l, kind, said);
	}
	turn();
	check_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest, record;

	if (size == 0)
		return 0;
	if (!scene.rig.loop)
		make_scene();
	begin(data[0] % NASKING, data[0] / NASKING % NWAYS);
	rest = slice_of((const char *)data + 1, size - 1);
	for (int i = 0; i < RECORDS_MAX && rig_next_record(&rest, &record); i++)
		if (record.n)
			play(record);
	end();
	return 0;
}
