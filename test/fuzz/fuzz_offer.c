/* SPDX-License-Identifier: ISC
 *
 * fuzz_offer.c - whatever packets a running process answers with when it is asked for its sockets:
 * all that was offered is named, no descriptor is lost, and nobody waits for what does not come.
 *
 * The first byte says how the socket's path is configured, and whether the running process is gone
 * when its packets have been sent.  Then come packets that end with a byte 0xfe, those that answer
 * who is ready too; an odd first byte of one: a descriptor comes with it.  A thread is the running
 * process.
 */
#include "base/assert.h"
#include "net/packet.h"
#include "worker/offer.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKET_END 0xfe
/* More than a socket keeps unread, so that its sender would wait for us, is for other tests. */
#define PACKETS_MAX 200

enum way { BY_NAME, BY_PIDFILE, BY_SOCKET_DIR, BY_NOTHING, BY_NOBODY, BY_NO_DIR, NWAYS };

static struct scene {
	char dir[32];
	/* The socket, its other names, and a name that is nobody's. */
	char path[64], pidfile[64], by_pidfile[80], by_dir[80], nowhere[64];
	int listener;
	struct slice packets; /* that the running process will answer with */
	bool hangs_up;        /* behind them */
	bool is_running;      /* its thread */
	pthread_t thread;
} scene;

static void remove_dir(void)
{
	unlink(scene.path);
	unlink(scene.by_pidfile);
	unlink(scene.by_dir);
	rmdir(scene.dir);
}

static void make_scene(void)
{
	struct err e;

	signal(SIGPIPE, SIG_IGN);
	strcpy(scene.dir, "/tmp/fuzz-offer-XXXXXX");
	PGT_ASSERT(mkdtemp(scene.dir));
	snprintf(scene.path, sizeof(scene.path), "%s/socket", scene.dir);
	snprintf(scene.nowhere, sizeof(scene.nowhere), "%s/nowhere", scene.dir);
	snprintf(scene.pidfile, sizeof(scene.pidfile), "%s/pid", scene.dir);
	snprintf(scene.by_pidfile, sizeof(scene.by_pidfile), "%s.takeover", scene.pidfile);
	snprintf(scene.by_dir, sizeof(scene.by_dir), "%s/.s.pgturnstile.6432.takeover", scene.dir);
	scene.listener = packet_listen(scene.path, &e);
	PGT_ASSERT(scene.listener >= 0);
	PGT_ASSERT(symlink(scene.path, scene.by_pidfile) == 0);
	PGT_ASSERT(symlink(scene.path, scene.by_dir) == 0);
	/* The thread waits for who comes. */
	fcntl(scene.listener, F_SETFL, 0);
	atexit(remove_dir);
}

static void answer(int fd, struct slice packet)
{
	int passed = *packet.p & 1 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	packet_put(fd, slice_of(packet.p + 1, packet.n - 1), passed);
	if (passed >= 0)
		close(passed);
}

/* Until it has hung up too. */
static void hear_out(int fd)
{
	struct buf packet = { 0 };
	struct err e;
	int passed;

	while (packet_wait(fd, USEC_PER_SEC * 60, &packet, &passed, &e))
		PGT_ASSERT(passed < 0);
	buf_fini(&packet);
}

/* It says nothing more when it has said all. */
static void *run_process(void *arg PGT_UNUSED)
{
	struct slice rest = scene.packets;
	int fd = packet_accept(scene.listener), passed;
	struct buf hello = { 0 };
	struct err e;

	/* Who hangs up on what it has not read is not heard. */
	PGT_ASSERT(packet_wait(fd, USEC_PER_SEC * 60, &hello, &passed, &e) && passed < 0);
	buf_fini(&hello);
	for (int i = 0; rest.n && i < PACKETS_MAX; i++) {
		const char *end = memchr(rest.p, PACKET_END, rest.n);
		size_t n = end ? (size_t)(end - rest.p) : rest.n;

		if (n)
			answer(fd, slice_of(rest.p, n));
		rest = slice_of(rest.p + n, rest.n - n);
		if (rest.n)
			rest = slice_of(rest.p + 1, rest.n - 1);
	}
	shutdown(fd, SHUT_WR);
	if (!scene.hangs_up)
		hear_out(fd);
	close(fd);
	return NULL;
}

static void start_process(void)
{
	PGT_ASSERT(pthread_create(&scene.thread, NULL, run_process, NULL) == 0);
	scene.is_running = true;
}

static void await_process(void)
{
	if (scene.is_running)
		pthread_join(scene.thread, NULL);
	scene.is_running = false;
}

static struct settings settings_of(enum way way)
{
	return (struct settings){ .takeover_socket = way == BY_NAME     ? scene.path
						     : way == BY_NOBODY ? scene.nowhere
									: "auto",
				  .pidfile = way == BY_PIDFILE ? scene.pidfile : "",
				  .unix_socket_dir = way == BY_SOCKET_DIR ? scene.dir
						     : way == BY_NO_DIR   ? ""
									  : "@abstract",
				  .listen_port = 6432 };
}

/* The lowest number that is free. */
static int next_fd(void)
{
	int fd = dup(scene.listener);

	close(fd);
	return fd;
}

/* By what it is called.  Another one may be called the same. */
static void take_first(struct offer *offer)
{
	const struct offered first = offer->at[0];
	bool is_supervised;
	int fd;

	if (first.kind == OFFER_CLIENTS) {
		fd = offer_take_listener(offer, first.name, &is_supervised);
		PGT_ASSERT(is_supervised == first.is_supervised);
	} else {
		fd = offer_take(offer, first.kind, first.name);
	}
	PGT_ASSERT(fd == first.fd && close(fd) == 0);
	fd = offer_take(offer, first.kind, first.name);
	if (fd >= 0)
		close(fd);
}

/* All that is for clients, behind which nothing of a supervisor's is left of them. */
static void take_listeners(struct offer *offer)
{
	struct err e = { 0 };
	bool are_others = false;
	int fd;

	for (unsigned i = 0; i < offer->n; i++)
		are_others |= offer->at[i].fd >= 0 && offer->at[i].is_supervised &&
			      offer->at[i].kind != OFFER_CLIENTS;
	PGT_ASSERT(offer_is_supervised_used_up(offer, &e) || *e.text);
	while ((fd = offer_take_any(offer, OFFER_CLIENTS)) >= 0)
		close(fd);
	PGT_ASSERT(offer_is_supervised_used_up(offer, &e) == !are_others);
}

static void check_offer(struct offer *offer)
{
	bool is_supervised;
	char nobodys[sizeof(offer->at[0].name) + 1]; /* longer than any */
	struct err e = { 0 };

	memset(nobodys, 'x', sizeof(nobodys) - 1);
	nobodys[sizeof(nobodys) - 1] = '\0';
	PGT_ASSERT(offer->n <= OFFERED_MAX && offer->link >= 0);
	/* Who is gone is told nothing. */
	if (scene.hangs_up)
		await_process();
	PGT_ASSERT(offer_confirm(offer, &e) ? !scene.hangs_up : *e.text);
	for (unsigned i = 0; i < offer->n; i++)
		PGT_ASSERT(memchr(offer->at[i].name, '\0', sizeof(offer->at[i].name)));
	if (offer->n)
		take_first(offer);
	PGT_ASSERT(offer_take_listener(offer, nobodys, &is_supervised) < 0 && !is_supervised);
	take_listeners(offer);
	offer_drop_rest(offer);
	close(offer->link);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings set;
	struct offer offer;
	enum way way;
	struct err e = { 0 };
	int before;

	if (size == 0)
		return 0;
	if (!*scene.dir)
		make_scene();
	way = data[0] % NWAYS;
	scene.hangs_up = data[0] / NWAYS & 1;
	scene.packets = slice_of((const char *)data + 1, size - 1);
	set = settings_of(way);
	before = next_fd();
	if (way < BY_NOTHING)
		start_process();
	if (offer_ask(&offer, &set, &e))
		check_offer(&offer);
	else
		/* Where there is no other process, nobody has to be asked. */
		PGT_ASSERT(*e.text && offer.link < 0 && offer_confirm(&offer, &e));
	await_process();
	PGT_ASSERT(next_fd() == before);
	return 0;
}
