/* SPDX-License-Identifier: ISC
 *
 * addr.c - addresses of sockets: short to keep, to be read, and whose limits they count to.
 *
 * Does not know the sockets, nor what is limited.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

void addr_set(struct addr *out, const struct sockaddr *sa)
{
	*out = (struct addr){ .family = sa->sa_family };
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		out->port = ntohs(in->sin_port);
		memcpy(out->ip, &in->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;

		out->port = ntohs(in6->sin6_port);
		memcpy(out->ip, &in6->sin6_addr, 16);
	}
}

bool addr_is_same_host(const struct addr *a, const struct addr *b)
{
	return a->family == b->family && !memcmp(a->ip, b->ip, sizeof(a->ip));
}

socklen_t addr_get(const struct addr *addr, struct sockaddr_storage *out)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(addr->port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(addr->port) };

	memcpy(&in.sin_addr, addr->ip, sizeof(in.sin_addr));
	memcpy(&in6.sin6_addr, addr->ip, sizeof(in6.sin6_addr));
	if (addr->family == AF_INET) {
		memcpy(out, &in, sizeof(in));
		return sizeof(in);
	}
	/* Which link, struct addr does not have. */
	if (addr->family != AF_INET6 || IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr))
		return 0;
	memcpy(out, &in6, sizeof(in6));
	return sizeof(in6);
}

void addr_text(const struct addr *addr, char *out)
{
	if (addr->family == AF_UNIX || !inet_ntop(addr->family, addr->ip, out, INET6_ADDRSTRLEN))
		strcpy(out, "unix");
}

/* IPv4 takes numbers of ::/32, which is nobody's but ::1's, and Unix sockets one of multicast. */
uint64_t addr_origin(const struct addr *addr)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	bool is_mapped = addr->family == AF_INET6 && !memcmp(addr->ip, mapped, sizeof(mapped));
	const uint8_t *from = is_mapped ? addr->ip + sizeof(mapped) : addr->ip;
	size_t n = is_mapped || addr->family == AF_INET ? 4 : 8;
	uint64_t origin = 0;

	if (addr->family == AF_UNIX)
		return UINT64_MAX;
	for (size_t i = 0; i < n; i++)
		origin = origin << 8 | from[i];
	return origin;
}

void addr_origin_text(uint64_t origin, char out[ADDR_ORIGIN_TEXT_MAX])
{
	bool is_ipv4 = origin && origin <= UINT32_MAX;
	size_t n = is_ipv4 ? 4 : 8;
	uint8_t ip[16] = { 0 };

	if (origin == UINT64_MAX) {
		strcpy(out, "unix");
		return;
	}
	for (size_t i = n; i > 0; i--, origin >>= 8)
		ip[i - 1] = (uint8_t)origin;
	inet_ntop(is_ipv4 ? AF_INET : AF_INET6, ip, out, INET6_ADDRSTRLEN);
	if (!is_ipv4)
		strcat(out, "/64");
}

bool addr_unix_of_port(const char *dir, uint16_t port, struct sockaddr_un *out, socklen_t *len,
		       struct err *e)
{
	int n;

	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(out->sun_path, sizeof(out->sun_path), "%s/.s.PGSQL.%u", dir, port);
	if (n >= (int)sizeof(out->sun_path))
		return err_set(e, "F0000", "Unix socket path \"%s/.s.PGSQL.%u\" is too long", dir,
			       port);
	*len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n);
	if (*dir == '@')
		out->sun_path[0] = '\0';
	else
		++*len;
	return true;
}

bool addr_unix_of_path(struct sockaddr_un *out, const char *path, struct err *e)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(out->sun_path))
		return err_set(e, "F0000", "the path of a Unix socket is too long: %s", path);
	memcpy(out->sun_path, path, strlen(path));
	return true;
}
