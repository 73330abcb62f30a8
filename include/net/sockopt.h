/* SPDX-License-Identifier: ISC
 *
 * sockopt.h - what sockets are told and asked, whoever made them.
 *
 * Any thread.
 */
#ifndef PGT_NET_SOCKOPT_H
#define PGT_NET_SOCKOPT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* The tcp_* settings; 0 leaves the kernel's choice. */
struct sock_options {
	bool keepalive;
	unsigned keep_idle_s, keep_interval_s, keep_count; /* only with keepalive */
	unsigned user_timeout_ms;
	unsigned buffer_bytes; /* of sending and of receiving */
};

/* Of a socket to a peer of this family (AF_…): no effect on Unix sockets; on TCP, TCP_NODELAY too.
 * False: *e names the first option that the kernel refused; the others are set. */
bool sock_apply(int fd, int family, const struct sock_options *options, struct err *e);

/* The user at the other end of a Unix socket.  False: it is no Unix socket. */
bool sock_peer_uid(int fd, uid_t *uid);
/* That user's name; false: it has none that fits, either. */
bool sock_peer_user(int fd, char *name, size_t size);

/* Whether an address of IPv4 (4 bytes) or IPv6 (16) is one of this machine's, or (whole_net) in a
 * network that it has an interface in.  Asks the kernel. */
bool sock_is_near(bool is_ipv6, const uint8_t *ip, bool whole_net);

/* Takes the file of a socket of this type (SOCK_…) away that nobody listens on any more.  False: *e
 * (F0000) tells that somebody does, or why it cannot. */
bool sock_remove_stale(int type, const struct sockaddr_un *addr, socklen_t len, struct err *e);
bool sock_remove_stale_at(int type, const char *path, struct err *e);

#endif
