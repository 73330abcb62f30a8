/* SPDX-License-Identifier: ISC
 *
 * rig.c - what the fuzzers of whole conversations share: Unix sockets in a folder of their own, a
 * loop that is turned by hand, and inputs in records.
 *
 * Does not know what is fuzzed.
 */
#include "rig.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/random.h"
#include "wire/write.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RECORD_END 0xfe
#define PORTS_MAX  8

/* What is to be removed in the end. */
static const char *folder;
static unsigned ports[PORTS_MAX], nports;

/* In place of the library's: an input does the same each time, and seeds can answer challenges. */
void random_bytes(void *p, size_t n)
{
	memset(p, 'k', n);
}

static void socket_of(unsigned port, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(address->sun_path, sizeof(address->sun_path), "%s/.s.PGSQL.%u", folder, port);
}

static void remove_dir(void)
{
	struct sockaddr_un address;

	for (unsigned i = 0; i < nports; i++) {
		socket_of(ports[i], &address);
		unlink(address.sun_path);
	}
	rmdir(folder);
}

void rig_init(struct rig *rig, const char *name)
{
	signal(SIGPIPE, SIG_IGN);
	atomic_store(&log_threshold, LOG_LEVEL_FATAL);
	snprintf(rig->dir, sizeof(rig->dir), "/tmp/fuzz-%s-XXXXXX", name);
	PGT_ASSERT(mkdtemp(rig->dir));
	folder = rig->dir;
	atexit(remove_dir);
	rig->loop = loop_new();
	mailbox_init(&rig->mailbox, rig->loop, rig);
	rig->resolver = resolver_new("", 0, 0);
}

int rig_listen(const struct rig *rig, unsigned port)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;

	PGT_ASSERT(folder == rig->dir && nports < PORTS_MAX);
	socket_of(port, &address);
	PGT_ASSERT(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	PGT_ASSERT(listen(fd, 16) == 0);
	ports[nports++] = port;
	return fd;
}

struct stop {
	struct mail mail;
	struct loop *loop;
};

static void deliver_stop(struct mail *mail, void *receiver PGT_UNUSED)
{
	loop_stop(container_of(mail, struct stop, mail)->loop);
}

void rig_turn(struct mailbox *box)
{
	struct stop stop = { .loop = box->loop };

	mailbox_post(box, &stop.mail, deliver_stop);
	loop_run(box->loop);
}

struct config *rig_config(config_read_file_fn *read, const void *arg)
{
	struct config_problems problems = { 0 };
	struct config *config = config_load("ini", read, (void *)(uintptr_t)arg, &problems);

	if (!config)
		fprintf(stderr, "%s\n", buf_cstr(&problems.errors));
	PGT_ASSERT(config);
	config_problems_fini(&problems);
	return config;
}

void rig_send(int fd, struct slice s)
{
	if (fd >= 0 && send(fd, s.p, s.n, MSG_DONTWAIT) < 0)
		PGT_ASSERT(errno == EAGAIN || errno == EPIPE || errno == ECONNRESET);
}

void rig_put_message(struct buf *b, struct slice message)
{
	size_t m;

	if (!message.n)
		return;
	m = msg_begin(b, (uint8_t)*message.p);
	buf_put_slice(b, slice_of(message.p + 1, message.n - 1));
	msg_end(b, m);
}

bool rig_next_record(struct slice *rest, struct slice *record)
{
	const char *end = rest->n ? memchr(rest->p, RECORD_END, rest->n) : NULL;
	size_t n = end ? (size_t)(end - rest->p) : rest->n;

	if (!rest->n)
		return false;
	*record = slice_of(rest->p, n);
	n += end != NULL;
	*rest = slice_of(rest->p + n, rest->n - n);
	return true;
}
