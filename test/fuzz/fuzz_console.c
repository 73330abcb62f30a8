/* SPDX-License-Identifier: ISC
 *
 * fuzz_console.c - whatever somebody sends to the console who has logged in to it and may look:
 * messages of both protocols, in any order and any pieces, with tables that are longer than what
 * waits to be read.
 *
 * The input is records that end with a byte 0xfe; their first byte is of enum how, the rest is what
 * is sent.  The loops of the control thread and of its one worker are turned by this thread, so a
 * SHOW goes its way to both and back.  Commands that do something are refused to such a user.
 */
#include "rig.h"

#include "admin/parts.h"
#include "base/assert.h"
#include "client/client.h"
#include "client/login.h"
#include "wire/frame.h"
#include "wire/write.h"
#include "worker/jury.h"
#include "worker/monitor.h"
#include "worker/peers.h"
#include "worker/secret_source.h"
#include "worker/sets.h"
#include "worker/tenant_source.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum how {
	HOW_MESSAGE = 1 << 0, /* the first byte is a message's type, the rest its body */
	HOW_AT_ONCE = 1 << 1, /* what comes next comes with it */
	HOW_DEAF = 1 << 2,    /* what is answered is not read */
};

#define RECORDS_MAX 64
/* Small, so that answers fill it. */
#define SOCKET_ROOM 4096

static struct scene {
	struct rig rig;
	struct control control;
	struct worker worker;
	int fd; /* the client's end; -1: it is closed */
} scene;

/* ---- the host of its clients ------------------------------------------------------------------
 */

static bool enter(struct client *c, struct err *e)
{
	return console_enter(&scene.control, c, e);
}

static void find_home(struct client *c)
{
	PGT_ASSERT(client_identity(c)->is_console);
	client_login_begin(c);
}

static void assign_key(struct client *c)
{
	c->pid = 1;
}

static void forget_key(struct client *c)
{
	c->pid = 0;
}

static void publish(void *arg PGT_UNUSED, struct roster *roster PGT_UNUSED)
{
	PGT_ASSERT(false);
}

/* ---- the scene --------------------------------------------------------------------------------
 */

static bool read_file(void *arg PGT_UNUSED, const char *path PGT_UNUSED, bool is_secret PGT_UNUSED,
		      struct buf *text, struct err *e PGT_UNUSED)
{
	buf_put_slice(text, SLICE("[pgturnstile]\nauth_type = any\nstats_users = looks\n"
				  "tenant_by = user\n[databases]\nshop = host=127.0.0.1\n"
				  "[tiers]\nbasic = weight=1\n[tenants]\n"
				  "acme = tier=basic business_id=42 user=anna\n"));
	return true;
}

/* Its loop is turned by us, and nothing listens. */
static void make_worker(struct worker *w, struct control *c)
{
	w->control = c;
	w->loop = loop_new();
	net_init(&w->net, w->loop);
	mailbox_init(&w->mailbox, w->loop, w);
	list_init(&w->host.newcomers);
	relay_init(&w->relay, &w->net, c->config, NULL, c->resolver, &w->mailbox);
}

static void make_control(struct control *c)
{
	c->loop = scene.rig.loop;
	net_init(&c->net, c->loop);
	mailbox_init(&c->mailbox, c->loop, c);
	c->resolver = scene.rig.resolver;
	c->config = rig_config(read_file, NULL);
	c->host = (struct client_host){ .net = &c->net,
					.owner = c,
					.config = c->config,
					.scram_cache = scram_cache_new(),
					.find_home = find_home,
					.enter = enter,
					.assign_key = assign_key,
					.forget_key = forget_key };
	list_init(&c->host.newcomers);
	c->node_sets = node_sets_new();
	c->monitor = monitor_new(&c->net, &c->mailbox, c->resolver, c->node_sets);
	c->tenant_source = tenant_source_new(&c->net, c->monitor, publish, NULL);
	c->secret_source = secret_source_new(&c->net, &c->mailbox, c->resolver, c->monitor);
	c->jury = jury_new();
	c->peers = peers_new(&c->net, &c->mailbox, c->resolver);
	c->workers = &scene.worker;
	c->nworkers = 1;
}

static void make_scene(void)
{
	rig_init(&scene.rig, "console");
	make_control(&scene.control);
	make_worker(&scene.worker, &scene.control);
	console_start(&scene.control);
}

/* ---- the client -------------------------------------------------------------------------------
 */

/* Whole messages that a server may send, one behind another; the last may be on its way. */
static void check_messages(struct buf *heard)
{
	struct frame f;

	while (frame_peek(buf_head(heard), buf_len(heard), &f) == FRAME_OK && frame_is_whole(&f))
		buf_consume(heard, f.len);
	PGT_ASSERT(frame_peek(buf_head(heard), buf_len(heard), &f) != FRAME_INVALID);
}

/* True: something was there. */
static bool hear(struct buf *heard)
{
	ssize_t n =
	    scene.fd < 0 ? -1 : recv(scene.fd, buf_reserve(heard, 65536), 65536, MSG_DONTWAIT);

	if (n > 0) {
		buf_produced(heard, (size_t)n);
		check_messages(heard);
	} else if (n == 0) {
		close(scene.fd);
		scene.fd = -1;
	}
	return n > 0;
}

/* Until all that is asked is answered: what a SHOW gathers takes some turns. */
static void turn(struct buf *heard, bool is_deaf)
{
	do {
		rig_turn(&scene.control.mailbox);
		rig_turn(&scene.worker.mailbox);
	} while ((!is_deaf && hear(heard)) || scene.control.ngathers);
	rig_turn(&scene.control.mailbox);
}

static void come(void)
{
	static const struct sockaddr_un nowhere = { .sun_family = AF_UNIX };
	static const char packet[] = "\0\0\0\x29\0\3\0\0user\0looks\0database\0pgturnstile\0";
	int ends[2], room = SOCKET_ROOM;
	struct addr address;

	PGT_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	PGT_ASSERT(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0);
	addr_set(&address, (const struct sockaddr *)&nowhere);
	client_new(&scene.control.host, ends[0], &address);
	scene.fd = ends[1];
	rig_send(scene.fd, slice_of(packet, sizeof(packet)));
}

static void leave(struct buf *heard)
{
	if (scene.fd >= 0)
		close(scene.fd);
	scene.fd = -1;
	turn(heard, true);
	net_sweep(&scene.control.net, loop_now(scene.rig.loop) + (INT64_C(1) << 50));
	net_turn_end(&scene.control.net);
	PGT_ASSERT(!scene.control.console->nsessions && !scene.control.ngathers);
}

static void play(struct slice record, struct buf *heard)
{
	unsigned how = record.n ? (uint8_t)*record.p : 0;
	struct slice said = slice_of(record.p + 1, record.n ? record.n - 1 : 0);
	struct buf b = { 0 };

	if (how & HOW_MESSAGE)
		rig_put_message(&b, said);
	else
		buf_put_slice(&b, said);
	rig_send(scene.fd, buf_peek(&b));
	buf_fini(&b);
	if (!(how & HOW_AT_ONCE))
		turn(heard, how & HOW_DEAF);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_of((const char *)data, size), record;
	struct buf heard = { 0 };

	if (!scene.rig.loop)
		make_scene();
	come();
	turn(&heard, false);
	for (int i = 0; i < RECORDS_MAX && rig_next_record(&rest, &record); i++)
		play(record, &heard);
	turn(&heard, false);
	leave(&heard);
	buf_fini(&heard);
	return 0;
}
