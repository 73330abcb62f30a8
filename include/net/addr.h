/* SPDX-License-Identifier: ISC
 *
 * addr.h - addresses of sockets: short to keep, to be read, and whose limits they count to.
 *
 * Any thread.  Pure: asks neither the kernel nor a name service; names are net/resolve's, networks
 * auth/networks'.
 */
#ifndef PGT_NET_ADDR_H
#define PGT_NET_ADDR_H

#include "base/err.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

struct addr {
	sa_family_t family; /* AF_INET, AF_INET6 or AF_UNIX */
	uint16_t port;      /* of TCP, host byte order */
	uint8_t ip[16];
};

/* Of what accept(2), getsockname(2) and the like give. */
void addr_set(struct addr *out, const struct sockaddr *sa);
/* Whatever the ports are; all Unix sockets are of this one. */
bool addr_is_same_host(const struct addr *a, const struct addr *b);
/* The way back, of TCP: how long *out is; 0: it cannot be told, as of a Unix socket, or within one
 * link only. */
socklen_t addr_get(const struct addr *addr, struct sockaddr_storage *out);
/* "127.0.0.1", "::1", "unix"; out has room for INET6_ADDRSTRLEN. */
void addr_text(const struct addr *addr, char *out);

/* What is one and the same peer to limits by address: an address of IPv4, a /64 of IPv6, all Unix
 * sockets. */
uint64_t addr_origin(const struct addr *addr);
/* "127.0.0.1", "2001:db8::/64", "unix". */
#define ADDR_ORIGIN_TEXT_MAX (INET6_ADDRSTRLEN + 3)
void addr_origin_text(uint64_t origin, char out[ADDR_ORIGIN_TEXT_MAX]);

/* The address of DIR/.s.PGSQL.PORT; a dir that starts with '@' is a name in the abstract namespace,
 * as in libpq.  False: *e (F0000) tells that the path is too long. */
bool addr_unix_of_port(const char *dir, uint16_t port, struct sockaddr_un *out, socklen_t *len,
		       struct err *e);
/* That of a socket's file.  False: the path is too long (*e). */
bool addr_unix_of_path(struct sockaddr_un *out, const char *path, struct err *e);

#endif
