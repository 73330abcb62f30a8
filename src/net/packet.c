/* SPDX-License-Identifier: ISC
 *
 * packet.c - packets with descriptors, between two processes of one user.
 *
 * Knows bytes and descriptors, not what they are for.
 */
#include "net/packet.h"

#include "base/log.h"
#include "base/mem.h"
#include "net/addr.h"
#include "net/sockopt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only one other process ever comes. */
#define BACKLOG 8
/* A handler is given so many in one turn, so that others get theirs. */
#define PACKETS_PER_TURN 64

/* ---- sockets ----------------------------------------------------------------------------------
 */

static int new_socket(int flags)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
}

/* 0, or errno. */
static int try_connect(int fd, const struct sockaddr_un *addr)
{
	return connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ? errno : 0;
}

int packet_listen(const char *path, struct err *e)
{
	struct sockaddr_un addr;
	int fd;

	if (!addr_unix_of_path(&addr, path, e) ||
	    !sock_remove_stale(SOCK_SEQPACKET, &addr, sizeof(addr), e))
		return -1;
	fd = new_socket(SOCK_NONBLOCK);
	/* Nobody can connect before listen(), so rights may be given after bind(). */
	if (fd >= 0 && bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    chmod(path, S_IRUSR | S_IWUSR) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	err_set(e, "F0000", "cannot listen on %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

static bool is_ours(int fd)
{
	uid_t uid;

	return sock_peer_uid(fd, &uid) && uid == geteuid();
}

int packet_connect(const char *path, struct err *e)
{
	struct sockaddr_un addr;
	int fd, error;

	if (!addr_unix_of_path(&addr, path, e))
		return -1;
	fd = new_socket(0);
	error = fd < 0 ? errno : try_connect(fd, &addr);
	if (error)
		err_set(e, "F0000", "cannot connect to %s: %s", path, strerror(error));
	else if (!is_ours(fd))
		err_set(e, "F0000", "%s is another user's", path);
	else
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int packet_accept(int fd)
{
	int came = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (came < 0 || is_ours(came))
		return came;
	log_warning("another user's process has come to our socket for a takeover, and was turned "
		    "away");
	close(came);
	return -1;
}

bool packet_put(int fd, struct slice bytes, int passed)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .room = { 0 } };
	struct iovec part = { .iov_base = (void *)(uintptr_t)bytes.p, .iov_len = bytes.n };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };

	if (passed >= 0) {
		msg.msg_control = control.room;
		msg.msg_controllen = sizeof(control.room);
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
							 .cmsg_type = SCM_RIGHTS,
							 .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &passed, sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

/* One descriptor, and no more: what there is room for beside it would be taken, and not seen. */
#define CONTROL_LEN CMSG_LEN(sizeof(int))

/* How long it is; 0: the end; -1: errno.  A descriptor that did not fit is not there. */
static ssize_t receive(int fd, char *room, int *passed)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { .iov_base = room, .iov_len = PACKET_MAX };
	struct msghdr msg = { .msg_iov = &part,
			      .msg_iovlen = 1,
			      .msg_control = control.room,
			      .msg_controllen = CONTROL_LEN };
	ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	struct cmsghdr *about = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*passed = -1;
	if (about && about->cmsg_level == SOL_SOCKET && about->cmsg_type == SCM_RIGHTS &&
	    about->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(passed, CMSG_DATA(about), sizeof(int));
	if (n > 0 && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return n;
	/* An empty packet looks like the end, and may bring one. */
	if (*passed >= 0)
		close(*passed);
	*passed = -1;
	if (n > 0 && msg.msg_flags & MSG_TRUNC) {
		errno = EMSGSIZE;
		return -1;
	}
	return n;
}

bool packet_wait(int fd, usec_t patience, struct buf *bytes, int *passed, struct err *e)
{
	struct pollfd look = { .fd = fd, .events = POLLIN };
	ssize_t n;

	*passed = -1;
	if (poll(&look, 1, (int)(patience / USEC_PER_MSEC)) <= 0)
		return err_set(e, "F0000", "no answer from the running process");
	buf_clear(bytes);
	n = receive(fd, buf_reserve(bytes, PACKET_MAX), passed);
	if (n < 0)
		return err_set(e, "F0000", "the running process: %s", strerror(errno));
	if (n == 0)
		return err_set(e, "F0000", "the running process has hung up");
	buf_produced(bytes, (size_t)n);
	return true;
}

/* ---- a socket that is watched -------------------------------------------------------------------
 */

struct unsent {
	struct list link;
	int passed;
	size_t n;
	char bytes[];
};

static void unsent_free(struct unsent *u)
{
	list_del(&u->link);
	if (u->passed >= 0)
		close(u->passed);
	mem_wipe(u->bytes, u->n);
	free(u);
}

static struct unsent *first_unsent(const struct packets *p)
{
	struct list *first = list_first(&p->unsent);

	return first ? container_of(first, struct unsent, link) : NULL;
}

/* What is left when the other end is gone, its own handler will hear of.  False: errno says why
 * there is still something. */
static bool send_unsent(struct packets *p)
{
	struct unsent *u;
	int error;

	while ((u = first_unsent(p)) && packet_put(p->fd, slice_of(u->bytes, u->n), u->passed))
		unsent_free(u);
	error = errno;
	loop_io_want(p->loop, &p->io, u ? LOOP_READ | LOOP_WRITE : LOOP_READ);
	errno = error;
	return !u;
}

static void read_packets(struct packets *p)
{
	char *room = xmalloc(PACKET_MAX);
	bool stopped = false;

	p->stopped = &stopped;
	for (int i = 0; i < PACKETS_PER_TURN && !stopped; i++) {
		int passed;
		ssize_t n = receive(p->fd, room, &passed);

		if (n > 0)
			p->on->came(p, slice_of(room, (size_t)n), passed);
		/* Who has hung up without reading all is told of once, ahead of what it has
		 * sent. */
		else if (n < 0 && (errno == EINTR || errno == ECONNRESET))
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		else
			p->on->ended(p);
		mem_wipe(room, n > 0 ? (size_t)n : 0);
		if (n <= 0)
			break;
	}
	if (!stopped)
		p->stopped = NULL;
	free(room);
}

static void on_io(struct loop_io *io, int ready)
{
	struct packets *p = container_of(io, struct packets, io);

	if (ready & LOOP_WRITE)
		send_unsent(p);
	if (ready & LOOP_READ)
		read_packets(p);
}

void packets_start(struct packets *p, struct loop *loop, int fd, const struct packet_events *on)
{
	*p = (struct packets){ .loop = loop, .on = on, .fd = fd };
	list_init(&p->unsent);
	loop_io_start(loop, &p->io, fd, LOOP_READ, on_io);
}

void packets_send(struct packets *p, struct slice bytes, int passed)
{
	struct unsent *u;

	PGT_ASSERT(bytes.n <= PACKET_MAX);
	if (!p->loop || (list_is_empty(&p->unsent) && packet_put(p->fd, bytes, passed)))
		return;
	u = xcalloc(1, sizeof(*u) + bytes.n);
	u->passed = passed < 0 ? -1 : fcntl(passed, F_DUPFD_CLOEXEC, 0);
	u->n = bytes.n;
	memcpy(u->bytes, bytes.p, bytes.n);
	list_push_back(&p->unsent, &u->link);
	loop_io_want(p->loop, &p->io, LOOP_READ | LOOP_WRITE);
}

static bool is_full(int error)
{
	return error == EAGAIN || error == EWOULDBLOCK || error == ENOBUFS || error == ENOMEM ||
	       error == EINTR;
}

enum packet_fate packets_send_now(struct packets *p, struct slice bytes)
{
	if (!p->loop)
		return PACKET_LOST;
	/* What waits goes first; and whether there is still somebody to wait for is known then. */
	if (send_unsent(p) && packet_put(p->fd, bytes, -1))
		return PACKET_SENT;
	return is_full(errno) ? PACKET_LATER : PACKET_LOST;
}

void packets_stop(struct packets *p)
{
	struct unsent *u;

	if (!p->loop)
		return;
	loop_io_stop(p->loop, &p->io);
	close(p->fd);
	while ((u = first_unsent(p)))
		unsent_free(u);
	if (p->stopped)
		*p->stopped = true;
	p->loop = NULL;
}
