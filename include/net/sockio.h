/* SPDX-License-Identifier: ISC
 *
 * sockio.h - recv(2) and send(2), as often as queries come.
 *
 * The C library's functions are places where a thread may be cancelled, which costs 45 instructions
 * a call in a process with threads.  None of ours is ever cancelled.  A sanitizer has to see the
 * bytes, so there it is the functions.  Tests can let both fail.
 */
#ifndef PGT_NET_SOCKIO_H
#define PGT_NET_SOCKIO_H

#include "base/failpoint.h"
#include "base/sanitizer.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#if defined(SYS_recvfrom) && defined(SYS_sendto) && !PGT_IS_WATCHED
static inline ssize_t sock_call_recv(int fd, char *p, size_t n)
{
	return syscall(SYS_recvfrom, fd, p, n, 0, NULL, NULL);
}

static inline ssize_t sock_call_send(int fd, const char *p, size_t n)
{
	return syscall(SYS_sendto, fd, p, n, MSG_NOSIGNAL, NULL, 0);
}
#else
static inline ssize_t sock_call_recv(int fd, char *p, size_t n)
{
	return recv(fd, p, n, 0);
}

static inline ssize_t sock_call_send(int fd, const char *p, size_t n)
{
	return send(fd, p, n, MSG_NOSIGNAL);
}
#endif

static inline ssize_t sock_recv(int fd, char *p, size_t n)
{
	if (FAILPOINT_FAILS(recv_again, EAGAIN))
		return -1;
	if (FAILPOINT_FAILS(recv_reset, ECONNRESET))
		return -1;
	return sock_call_recv(fd, p, FAILPOINT_CUT(recv_short, n));
}

static inline ssize_t sock_send(int fd, const char *p, size_t n)
{
	if (FAILPOINT_FAILS(send_again, EAGAIN) || FAILPOINT_FAILS(send_nobufs, ENOBUFS))
		return -1;
	/* As it is then: reading ends too. */
	if (FAILPOINT_FAILS(send_reset, EPIPE)) {
		shutdown(fd, SHUT_RDWR);
		errno = EPIPE;
		return -1;
	}
	return sock_call_send(fd, p, FAILPOINT_CUT(send_short, n));
}

#endif
