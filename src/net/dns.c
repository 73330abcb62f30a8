/* SPDX-License-Identifier: ISC
 *
 * dns.c - asks name servers for the addresses of a name, and for how long they hold, by c-ares.
 *
 * The only file that knows c-ares.  A lookup has a channel of its own, which reads resolv.conf:
 * they are rare, and so an edit of the file is seen by the next one.
 */
#include "net/dns.h"

#include "base/mem.h"

#ifdef HAVE_CARES

#include <ares.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Unless resolv.conf says so, a server is waited for so long the first time, and asked so often. */
#define ASK_TIMEOUT_MS 2000
#define ASK_TRIES      2
/* So often c-ares looks at its timeouts when nothing comes. */
#define LOOK_MS 100

struct search {
	struct resolved *out;
	usec_t ttl;
	int status;
	bool is_over;
};

void dns_init(void)
{
	ares_library_init(ARES_LIB_INIT_ALL);
}

static void take(struct search *search, const struct ares_addrinfo *found)
{
	struct resolved *out = search->out;
	int ttl = INT32_MAX;

	for (const struct ares_addrinfo_cname *c = found->cnames; c; c = c->next)
		ttl = c->ttl < ttl ? c->ttl : ttl;
	for (const struct ares_addrinfo_node *n = found->nodes; n && out->n < RESOLVED_MAX;
	     n = n->ai_next) {
		memcpy(&out->addrs[out->n], n->ai_addr, n->ai_addrlen);
		out->lens[out->n++] = n->ai_addrlen;
		ttl = n->ai_ttl < ttl ? n->ai_ttl : ttl;
	}
	search->ttl = (ttl < 0 ? 0 : ttl) * USEC_PER_SEC;
}

static void on_found(void *arg, int status, int timeouts PGT_UNUSED, struct ares_addrinfo *found)
{
	struct search *search = arg;

	search->is_over = true;
	search->status = status;
	if (status == ARES_SUCCESS)
		take(search, found);
	if (found)
		ares_freeaddrinfo(found);
}

/* Waits for something to be read, or for a time that is over, and lets c-ares handle it. */
static void go_on(ares_channel channel)
{
	ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
	/* Unsigned: ARES_GETSOCK_WRITABLE() shifts into the sign. */
	unsigned bits = (unsigned)ares_getsock(channel, sockets, ARES_GETSOCK_MAXNUM);
	struct pollfd fds[ARES_GETSOCK_MAXNUM];
	nfds_t n = 0;

	for (int i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
		short events = 0;

		if (bits >> i & 1)
			events |= POLLIN;
		if (bits >> (i + ARES_GETSOCK_MAXNUM) & 1)
			events |= POLLOUT;
		if (events)
			fds[n++] = (struct pollfd){ .fd = sockets[i], .events = events };
	}
	if (poll(fds, n, LOOK_MS) <= 0) {
		ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
		return;
	}
	for (nfds_t i = 0; i < n; i++) {
		bool may_read = fds[i].revents & (POLLIN | POLLERR | POLLHUP);
		bool may_write = fds[i].revents & (POLLOUT | POLLERR);

		ares_process_fd(channel, may_read ? fds[i].fd : ARES_SOCKET_BAD,
				may_write ? fds[i].fd : ARES_SOCKET_BAD);
	}
}

static int open_channel(const char *resolv_conf, ares_channel *channel)
{
	char *path = xstrdup(resolv_conf);
	struct ares_options options = { .timeout = ASK_TIMEOUT_MS,
					.tries = ASK_TRIES,
					.resolvconf_path = path };
	int status = ares_init_options(channel, &options,
				       ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_RESOLVCONF);

	free(path);
	return status;
}

void dns_find(const char *resolv_conf, const char *host, struct resolved *out, usec_t *ttl)
{
	const struct ares_addrinfo_hints hints = { .ai_family = AF_UNSPEC,
						   .ai_socktype = SOCK_STREAM };
	struct search search = { .out = out };
	ares_channel channel;

	out->n = 0;
	/* Without the file c-ares would ask this machine. */
	if (access(resolv_conf, R_OK) != 0) {
		err_set(&out->error, "08001", "cannot find host \"%s\": resolv_conf %s: %s", host,
			resolv_conf, strerror(errno));
		return;
	}
	search.status = open_channel(resolv_conf, &channel);
	if (search.status == ARES_SUCCESS) {
		ares_getaddrinfo(channel, host, NULL, &hints, on_found, &search);
		while (!search.is_over)
			go_on(channel);
		ares_destroy(channel);
	}
	if (out->n)
		*ttl = search.ttl;
	else
		err_set(&out->error, "08001", "cannot find host \"%s\": %s", host,
			ares_strerror(search.status));
}

#else

void dns_init(void)
{
}

void dns_find(const char *resolv_conf PGT_UNUSED, const char *host, struct resolved *out,
	      usec_t *ttl PGT_UNUSED)
{
	out->n = 0;
	err_set(&out->error, "08001", "cannot find host \"%s\": this build has no c-ares", host);
}

#endif
