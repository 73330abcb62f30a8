/* SPDX-License-Identifier: ISC
 *
 * activation.c - listening sockets that a supervisor has opened before this process began.
 *
 * Source: sd_listen_fds(3).  The environment is all there is to it, so it needs no library, and any
 * supervisor may do it.  Knows what listeners are called, not what they are for.
 */
#include "main/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIRST_FD 3

/* Of a variable that may not be there; -1: it is no number. */
static long number_of(const char *text)
{
	char *end = NULL;
	long n = text ? strtol(text, &end, 10) : -1;

	return end && *text && !*end ? n : -1;
}

/* -1: it is no socket. */
static int option(int fd, int level, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, level, name, &value, &len) < 0 ? -1 : value;
}

/* An IPv4 address of its own could not be listened on beside it, and clients of IPv4 would have
 * addresses that no rule names. */
static bool is_for_both_families(int fd, const struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(
		   &((const struct sockaddr_in6 *)(const void *)ss)->sin6_addr) &&
	       option(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
}

static bool add(struct activation *a, int fd, struct slice unit, struct err *e)
{
	struct activated *at = &a->at[a->n];
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	int flags = fcntl(fd, F_GETFL);

	snprintf(at->unit, sizeof(at->unit), "%.*s", SLICE_FMT(unit));
	if (flags < 0)
		return err_set(e, "F0000", "socket activation: descriptor %d (%s): %s", fd,
			       at->unit, strerror(errno));
	if (option(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM ||
	    option(fd, SOL_SOCKET, SO_ACCEPTCONN) != 1)
		return err_set(e, "F0000",
			       "socket activation: descriptor %d (%s) is no stream socket that "
			       "listens: the unit needs ListenStream= and Accept=no",
			       fd, at->unit);
	if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0 ||
	    !listener_name((const struct sockaddr *)&ss, len, at->name))
		return err_set(e, "F0000",
			       "socket activation: descriptor %d (%s) is of a family that clients "
			       "cannot come by",
			       fd, at->unit);
	if (is_for_both_families(fd, &ss))
		return err_set(e, "F0000",
			       "socket activation: %s (%s) takes IPv4 too: the unit needs "
			       "BindIPv6Only=ipv6-only, and each address a line of its own",
			       at->name, at->unit);
	if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(e, "F0000", "socket activation: %s (%s): %s", at->name, at->unit,
			       strerror(errno));
	at->fd = fd;
	a->n++;
	return true;
}

/* names: as many as there are, between colons. */
static bool add_all(struct activation *a, long n, const char *names, struct err *e)
{
	bool ok = true;

	if (n < 0 || n > LISTENERS_MAX)
		return err_set(e, "F0000",
			       "socket activation: LISTEN_FDS is no number from 0 to %d",
			       LISTENERS_MAX);
	for (int i = 0; i < (int)n && ok; i++) {
		size_t len = strcspn(names, ":");

		ok = add(a, FIRST_FD + i, len ? slice_of(names, len) : SLICE("unknown"), e);
		names += len + (names[len] == ':');
	}
	return ok;
}

bool activation_begin(struct activation *a, struct err *e)
{
	const char *names = getenv("LISTEN_FDNAMES");
	bool ok = true;

	*a = (struct activation){ 0 };
	/* Another process's may be in the environment that ours was made from. */
	if (number_of(getenv("LISTEN_PID")) == (long)getpid())
		ok = add_all(a, number_of(getenv("LISTEN_FDS")), names ? names : "", e);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return ok;
}

int activation_take(struct activation *a, const char *name)
{
	for (unsigned i = 0; i < a->n; i++) {
		struct activated *at = &a->at[i];
		int fd = at->fd;

		if (fd >= 0 && !strcmp(at->name, name)) {
			at->fd = -1;
			return fd;
		}
	}
	return -1;
}

bool activation_is_used_up(const struct activation *a, struct err *e)
{
	for (unsigned i = 0; i < a->n; i++)
		if (a->at[i].fd >= 0)
			return err_set(
			    e, "F0000",
			    "socket activation: nothing in the configuration is for %s (%s): "
			    "set listen_addr and listen_port, or unix_socket_dir, or take "
			    "it out of the unit",
			    a->at[i].name, a->at[i].unit);
	return true;
}
