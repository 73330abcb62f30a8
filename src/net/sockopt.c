/* SPDX-License-Identifier: ISC
 *
 * sockopt.c - what sockets are told and asked.
 *
 * Does not know who opens sockets, nor what flows through them.
 */
#include "net/sockopt.h"

#include "net/addr.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

bool sock_apply(int fd, int family, const struct sock_options *o, struct err *e)
{
	const struct {
		const char *name;
		int level, option;
		unsigned value;
	} table[] = {
		{"TCP_NODELAY",        IPPROTO_TCP, TCP_NODELAY,      1                                },
		{ "tcp_keepalive",     SOL_SOCKET,  SO_KEEPALIVE,     o->keepalive                     },
		{ "tcp_keepidle",      IPPROTO_TCP, TCP_KEEPIDLE,     o->keepalive ? o->keep_idle_s : 0},
		{ "tcp_keepintvl",     IPPROTO_TCP, TCP_KEEPINTVL,
                 o->keepalive ? o->keep_interval_s : 0                                                 },
		{ "tcp_keepcnt",       IPPROTO_TCP, TCP_KEEPCNT,      o->keepalive ? o->keep_count : 0 },
		{ "tcp_user_timeout",  IPPROTO_TCP, TCP_USER_TIMEOUT, o->user_timeout_ms               },
		{ "tcp_socket_buffer", SOL_SOCKET,  SO_SNDBUF,        o->buffer_bytes                  },
		{ "tcp_socket_buffer", SOL_SOCKET,  SO_RCVBUF,        o->buffer_bytes                  },
	};
	bool ok = true;

	if (family != AF_INET && family != AF_INET6)
		return true;
	for (size_t i = 0; i < PGT_NELEMS(table); i++) {
		int value = (int)table[i].value;

		if (value &&
		    setsockopt(fd, table[i].level, table[i].option, &value, sizeof(value)) < 0 &&
		    ok)
			ok = err_set(e, "F0000", "%s = %d: %s", table[i].name, value,
				     strerror(errno));
	}
	return ok;
}

bool sock_peer_uid(int fd, uid_t *uid)
{
	struct sockaddr_un addr;
	struct ucred cred;
	socklen_t addr_len = sizeof(addr);
	socklen_t len = sizeof(cred);

	/* The kernel answers for TCP too, with an id that belongs to nobody. */
	if (getsockname(fd, (struct sockaddr *)&addr, &addr_len) < 0 || addr.sun_family != AF_UNIX)
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || cred.uid == (uid_t)-1)
		return false;
	*uid = cred.uid;
	return true;
}

bool sock_peer_user(int fd, char *name, size_t size)
{
	char room[4096];
	struct passwd entry, *found = NULL;
	uid_t uid;

	if (!sock_peer_uid(fd, &uid) || getpwuid_r(uid, &entry, room, sizeof(room), &found) != 0 ||
	    !found || strlen(found->pw_name) >= size)
		return false;
	strcpy(name, found->pw_name);
	return true;
}

/* NULL: of another family, or none. */
static const uint8_t *ip_of(const struct sockaddr *sa, bool is_ipv6)
{
	if (!sa || sa->sa_family != (is_ipv6 ? AF_INET6 : AF_INET))
		return NULL;
	return is_ipv6 ? ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr.s6_addr
		       : (const uint8_t *)&((const struct sockaddr_in *)(const void *)sa)->sin_addr;
}

static bool is_of_interface(const struct ifaddrs *i, bool is_ipv6, const uint8_t *ip,
			    bool whole_net)
{
	const uint8_t *own = ip_of(i->ifa_addr, is_ipv6), *mask = ip_of(i->ifa_netmask, is_ipv6);

	if (!own || (whole_net && !mask))
		return false;
	for (unsigned b = 0; b < (is_ipv6 ? 16 : 4); b++)
		if ((own[b] ^ ip[b]) & (whole_net ? mask[b] : 0xff))
			return false;
	return true;
}

bool sock_is_near(bool is_ipv6, const uint8_t *ip, bool whole_net)
{
	struct ifaddrs *all;
	bool is_near = false;

	if (getifaddrs(&all) < 0)
		return false;
	for (const struct ifaddrs *i = all; i && !is_near; i = i->ifa_next)
		is_near = is_of_interface(i, is_ipv6, ip, whole_net);
	freeifaddrs(all);
	return is_near;
}

/* A socket's file outlives its process; whether one lives is seen by knocking. */
bool sock_remove_stale(int type, const struct sockaddr_un *addr, socklen_t len, struct err *e)
{
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = connect(fd, (const struct sockaddr *)addr, len) < 0 ? errno : 0;
	const char *path = addr->sun_path;
	struct stat st;

	close(fd);
	if (error == ENOENT)
		return true;
	if (error == 0 || error == EAGAIN)
		return err_set(e, "F0000", "cannot listen on %s: another process does", path);
	/* What is no socket refuses too. */
	if (error != ECONNREFUSED || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return err_set(e, "F0000", "cannot listen on %s: %s", path,
			       strerror(error == ECONNREFUSED ? EEXIST : error));
	return unlink(path) == 0 ||
	       err_set(e, "F0000", "cannot remove %s: %s", path, strerror(errno));
}

bool sock_remove_stale_at(int type, const char *path, struct err *e)
{
	struct sockaddr_un addr;

	return addr_unix_of_path(&addr, path, e) && sock_remove_stale(type, &addr, sizeof(addr), e);
}
