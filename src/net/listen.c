/* SPDX-License-Identifier: ISC
 *
 * listen.c - sockets that wait for clients, and taking the clients from them.
 *
 * Does not know what becomes of a client.
 */
#include "net/listen.h"

#include "base/failpoint.h"
#include "base/log.h"
#include "base/slice.h"
#include "config/settings.h"
#include "net/sockopt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A thread takes few at a time, so that the others get theirs and its own connections go on. */
#define ACCEPT_PER_TURN 8
#define REST_TIME       (100 * USEC_PER_MSEC)
/* Who can have waited when a socket is closed: the kernel's own bound of a queue is far below. */
#define QUEUE_MAX 65536

/* ---- opening -------------------------------------------------------------------------------- */

static bool cannot_listen(struct err *e, const char *name, int error)
{
	return err_set(e, "F0000", "cannot listen on %s: %s", name, strerror(error));
}

/* A place for one more, with its socket: a given one, or a new one.  NULL: errno tells. */
static struct listener *listener_add(struct listeners *l, int family, const char *name,
				     const struct listen_options *o)
{
	struct listener *at = &l->at[l->n];

	if (l->n == LISTENERS_MAX) {
		errno = EMFILE;
		return NULL;
	}
	*at = (struct listener){ 0 };
	at->fd = o->given ? o->given(o->given_arg, name, &at->is_supervised) : -1;
	at->is_lent = at->fd >= 0;
	if (!at->is_lent)
		at->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (at->fd < 0)
		return NULL;
	snprintf(at->name, sizeof(at->name), "%s", name);
	l->n++;
	return at;
}

static void drop_last(struct listeners *l)
{
	struct listener *at = &l->at[--l->n];

	if (at->fd >= 0)
		close(at->fd);
	if (at->has_file && !at->is_lent)
		unlink(at->name);
}

static bool set_tcp_options(int fd, int family, const struct listen_options *o)
{
	const struct {
		int level, option, value;
	} table[] = {
		{SOL_SOCKET,    SO_REUSEADDR,     1                     },
		{ SOL_SOCKET,   SO_REUSEPORT,     o->reuseport          },
		{ IPPROTO_TCP,  TCP_DEFER_ACCEPT, (int)o->defer_accept_s},
 /* 0.0.0.0 has a socket of its own. */
		{ IPPROTO_IPV6, IPV6_V6ONLY,      family == AF_INET6    },
	};

	for (size_t i = 0; i < PGT_NELEMS(table); i++)
		if (table[i].value && setsockopt(fd, table[i].level, table[i].option,
						 &table[i].value, sizeof(int)) < 0)
			return false;
	return true;
}

static void unix_name(const struct sockaddr_un *addr, socklen_t len, char *name)
{
	int n = (int)len - (int)offsetof(struct sockaddr_un, sun_path);

	if (n > 0 && addr->sun_path[0] == '\0')
		snprintf(name, LISTENER_NAME_MAX, "@%.*s", n - 1, addr->sun_path + 1);
	else
		snprintf(name, LISTENER_NAME_MAX, "%.*s", n > 0 ? n : 0, addr->sun_path);
}

bool listener_name(const struct sockaddr *sa, socklen_t len, char name[LISTENER_NAME_MAX])
{
	char host[INET6_ADDRSTRLEN];
	char port[sizeof("65535")];

	if (sa->sa_family == AF_UNIX) {
		unix_name((const void *)sa, len, name);
		return true;
	}
	if (getnameinfo(sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return false;
	snprintf(name, LISTENER_NAME_MAX, sa->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host,
		 port);
	return true;
}

/* 0, or the errno that *e tells of. */
static int open_tcp(struct listeners *l, const struct addrinfo *ai, const struct listen_options *o,
		    struct err *e)
{
	struct listener *at;
	char name[LISTENER_NAME_MAX] = "";
	int error;

	listener_name(ai->ai_addr, ai->ai_addrlen, name);
	at = listener_add(l, ai->ai_family, name, o);
	if (at &&
	    (at->is_lent || (set_tcp_options(at->fd, ai->ai_family, o) &&
			     bind(at->fd, ai->ai_addr, ai->ai_addrlen) == 0)) &&
	    listen(at->fd, (int)o->backlog) == 0)
		return 0;
	error = errno;
	cannot_listen(e, name, error);
	if (at)
		drop_last(l);
	return error;
}

static bool open_word(struct listeners *l, struct slice word, const struct listen_options *o,
		      struct err *e)
{
	const struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *found = NULL;
	char host[NI_MAXHOST];
	char port[sizeof("65535")];
	bool all = slice_is_equal(word, SLICE("*"));
	bool ok = true;
	unsigned before = l->n;
	int rc;

	snprintf(host, sizeof(host), "%.*s", SLICE_FMT(word));
	snprintf(port, sizeof(port), "%u", o->port);
	rc = getaddrinfo(all ? NULL : host, port, &hints, &found);
	if (rc)
		return err_set(e, "F0000", "listen_addr \"%s\": %s", host, gai_strerror(rc));
	/* Of a name's addresses, those of a family that this machine does not have may fail. */
	for (const struct addrinfo *ai = found; ai && ok; ai = ai->ai_next) {
		rc = open_tcp(l, ai, o, e);
		ok = rc == 0 || rc == EAFNOSUPPORT || rc == EADDRNOTAVAIL;
	}
	freeaddrinfo(found);
	return ok && l->n > before;
}

static bool group_id(const char *group, gid_t *gid)
{
	const struct group *known = getgrnam(group);
	char *end;

	*gid = known ? known->gr_gid : (gid_t)strtoul(group, &end, 10);
	return known || (*group && !*end);
}

/* Nobody can connect before listen(), so rights may be given after bind(). */
static bool set_rights(const char *path, const struct listen_options *o, struct err *e)
{
	gid_t gid;

	if (*o->unix_group) {
		if (!group_id(o->unix_group, &gid))
			return err_set(e, "F0000", "unix_socket_group \"%s\": no such group",
				       o->unix_group);
		if (chown(path, (uid_t)-1, gid) < 0)
			return err_set(e, "F0000", "cannot give %s to group \"%s\": %s", path,
				       o->unix_group, strerror(errno));
	}
	if (chmod(path, o->unix_mode) < 0)
		return err_set(e, "F0000", "cannot set the mode of %s: %s", path, strerror(errno));
	return true;
}

static bool open_unix(struct listeners *l, const struct listen_options *o, struct err *e)
{
	bool is_file = *o->unix_dir != '@';
	struct sockaddr_un addr;
	socklen_t len;
	char path[sizeof(addr.sun_path)];
	struct listener *at;

	if (!addr_unix_of_port(o->unix_dir, o->port, &addr, &len, e))
		return false;
	snprintf(path, sizeof(path), "%s/.s.PGSQL.%u", o->unix_dir, o->port);
	at = listener_add(l, AF_UNIX, path, o);
	if (!at)
		return cannot_listen(e, path, errno);
	if (!at->is_lent) {
		if (is_file && !sock_remove_stale(SOCK_STREAM, &addr, len, e))
			return false;
		if (bind(at->fd, (const struct sockaddr *)&addr, len) < 0)
			return cannot_listen(e, path, errno);
	}
	at->has_file = is_file && !at->is_supervised;
	if (at->has_file && !set_rights(path, o, e))
		return false;
	return listen(at->fd, (int)o->backlog) == 0 || cannot_listen(e, path, errno);
}

bool listeners_open(struct listeners *l, const struct listen_options *options, struct err *e)
{
	struct slice rest = slice_str(options->addrs);
	struct slice word;
	bool ok = true;

	l->n = 0;
	while (ok && list_next(&rest, &word))
		ok = open_word(l, word, options, e);
	if (ok && *options->unix_dir)
		ok = open_unix(l, options, e);
	if (!ok)
		listeners_close(l);
	return ok;
}

void listeners_close(struct listeners *l)
{
	while (l->n)
		drop_last(l);
}

void listeners_let_go(struct listeners *l)
{
	for (unsigned i = 0; i < l->n; i++) {
		if (l->at[i].fd >= 0)
			close(l->at[i].fd);
		l->at[i].fd = -1;
	}
}

void listeners_lend(struct listeners *l, bool on)
{
	for (unsigned i = 0; i < l->n; i++)
		l->at[i].is_lent = on;
}

/* ---- accepting ------------------------------------------------------------------------------ */

/* Linux hands out a client's own network errors here; the next client may be fine. */
static bool is_of_one_client(int error)
{
	switch (error) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENETUNREACH:
	case ENONET:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EHOSTDOWN:
	case EHOSTUNREACH:
		return true;
	default:
		return false;
	}
}

static void on_rested(struct loop_timer *timer)
{
	struct acceptor *a = container_of(timer, struct acceptor, rest);

	loop_io_want(a->net->loop, &a->io, LOOP_READ);
}

/* The socket stays readable, so watching it would only burn the processor. */
static void take_rest(struct acceptor *a, int error)
{
	if (!a->resting)
		log_error("cannot accept connections: %s; trying again until it works",
			  strerror(error));
	a->resting = true;
	loop_io_want(a->net->loop, &a->io, 0);
	loop_timer_start(a->net->loop, &a->rest, REST_TIME, 0, on_rested);
}

/* -1: errno says why nobody comes. */
static int accept_client(int listening_fd, struct addr *peer)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	int fd =
	    FAILPOINT_FAILS(accept_full, EMFILE) || FAILPOINT_FAILS(accept_gone, ECONNABORTED)
		? -1
		: accept4(listening_fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		addr_set(peer, (struct sockaddr *)&ss);
	return fd;
}

/* False: there is nobody more, for now. */
static bool accept_one(struct acceptor *a)
{
	struct addr peer;
	int fd = accept_client(a->fd, &peer);

	if (fd >= 0) {
		if (a->resting)
			log_info("connections are accepted again");
		a->resting = false;
		a->fn(a->arg, fd, &peer);
		return true;
	}
	if (is_of_one_client(errno))
		return true;
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		take_rest(a, errno);
	return false;
}

static void on_readable(struct loop_io *io, int ready)
{
	struct acceptor *a = container_of(io, struct acceptor, io);
	struct net *net = a->net;

	for (int i = 0; i < ACCEPT_PER_TURN && loop_io_wanted(io) && accept_one(a); i++)
		;
	net_flush(net);
}

/* Nothing but the end of its queue, or the want of a descriptor, leaves anybody behind; or a flood,
 * of which the queue is never empty. */
static void take_all(int listening_fd, accept_fn *fn, void *arg)
{
	struct addr peer;
	unsigned n = 0;
	int fd;

	do {
		fd = accept_client(listening_fd, &peer);
		if (fd >= 0)
			fn(arg, fd, &peer);
	} while ((fd >= 0 || is_of_one_client(errno)) && ++n < QUEUE_MAX);
	if (n < QUEUE_MAX && errno != EAGAIN && errno != EWOULDBLOCK)
		log_error("who waits for us is not taken in any more: %s", strerror(errno));
}

bool listener_is_unix(const struct listener *l)
{
	return strchr(l->name, '/') != NULL;
}

void listeners_close_tcp(struct listeners *l, accept_fn *fn, void *arg)
{
	for (unsigned i = 0; i < l->n; i++) {
		struct listener *at = &l->at[i];

		if (at->fd < 0 || listener_is_unix(at))
			continue;
		take_all(at->fd, fn, arg);
		close(at->fd);
		at->fd = -1;
	}
}

void listener_watch(struct acceptor *a, struct net *net, int fd, accept_fn *fn, void *arg)
{
	*a = (struct acceptor){ .net = net, .fn = fn, .arg = arg, .fd = fd };
	loop_io_start(net->loop, &a->io, fd, LOOP_READ, on_readable);
}

void listener_unwatch(struct acceptor *a)
{
	loop_io_stop(a->net->loop, &a->io);
	loop_timer_stop(a->net->loop, &a->rest);
}
