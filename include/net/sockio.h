/* SPDX-License-Identifier: ISC
 *
 * sockio.h - recv(2) and send(2), as often as queries come.
 *
 * The C library's functions are places where a thread may be cancelled, which costs 45 instructions
 * a call in a process with threads.  None of ours is ever cancelled.  syscall(2) moves all that it
 * is given from register to register, which costs 15 more where the kernel can be called in line
 * (ADR 45).  A sanitizer has to see the bytes, so there it is the functions.  Tests can let both
 * fail.
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
/* recvfrom(2) and sendto(2), whose address and its length are none. */
static inline ssize_t sock_call(long number, int fd, const char *p, size_t n, int flags)
{
#if defined(__x86_64__) && defined(__LP64__)
	register long flags_at __asm__("r10") = flags;
	register long address_at __asm__("r8") = 0;
	register long len_at __asm__("r9") = 0;
	long got = number;

	__asm__ volatile("syscall"
			 : "+a"(got)
			 : "D"((long)fd), "S"(p), "d"(n), "r"(flags_at), "r"(address_at),
			   "r"(len_at)
			 : "rcx", "r11", "memory");
	if (__builtin_expect((unsigned long)got > -4096UL, 0)) {
		errno = (int)-got;
		return -1;
	}
	return got;
#else
	return syscall(number, fd, p, n, flags, NULL, 0L);
#endif
}

static inline ssize_t sock_call_recv(int fd, char *p, size_t n)
{
	return sock_call(SYS_recvfrom, fd, p, n, 0);
}

static inline ssize_t sock_call_send(int fd, const char *p, size_t n)
{
	return sock_call(SYS_sendto, fd, p, n, MSG_NOSIGNAL);
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

/* A part of what has come, not of what there is room for: most messages are far shorter than that.
 * The rest is announced again. */
static inline ssize_t sock_recv_part(int fd, char *p, size_t n)
{
	ssize_t there = recv(fd, p, n, MSG_PEEK);

	return there > 0 ? sock_call_recv(fd, p, FAILPOINT_PART((size_t)there)) : there;
}

static inline ssize_t sock_recv(int fd, char *p, size_t n)
{
	if (FAILPOINT_FAILS(recv_again, EAGAIN))
		return -1;
	if (FAILPOINT_FAILS(recv_reset, ECONNRESET))
		return -1;
	if (FAILPOINT_FAILS(recv_short, 0))
		return sock_recv_part(fd, p, n);
	return sock_call_recv(fd, p, n);
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
