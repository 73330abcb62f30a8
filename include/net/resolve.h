/* SPDX-License-Identifier: ISC
 *
 * resolve.h - from a host's name to addresses, without making a loop wait.
 *
 * Names are looked up by threads of the resolver's own, and what they find, failures included, is
 * kept for a while; docs/adr/0004-getaddrinfo.md says why.  One resolver serves all threads.
 */
#ifndef PGT_NET_RESOLVE_H
#define PGT_NET_RESOLVE_H

#include "base/clock.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct addr;
struct mailbox;
struct resolver;
struct resolve_query;

#define RESOLVED_MAX 8

struct resolved {
	unsigned n; /* 0: error tells why */
	struct sockaddr_storage addrs[RESOLVED_MAX];
	socklen_t lens[RESOLVED_MAX];
	struct err error; /* 08001 */
};

typedef void resolved_fn(void *arg, const struct resolved *found);

/* resolv_conf: the file that names the name servers (net/dns.h), copied; "": getaddrinfo() is
 * asked. max_ttl: how long addresses are kept at most; nxdomain_ttl: how long a failure is. */
struct resolver *resolver_new(const char *resolv_conf, usec_t max_ttl, usec_t nxdomain_ttl);
/* For what is found from now on.  Any thread. */
void resolver_set_ttls(struct resolver *r, usec_t max_ttl, usec_t nxdomain_ttl);
/* Queries without an answer are gone, and nothing is posted any more, when it returns: call it
 * after the last resolve_cancel() and before the askers' mailboxes go.  Does not wait for a lookup
 * that hangs. */
void resolver_free(struct resolver *r);

/* Answers at once when it can: an address, the directory of a Unix socket ("/…", "@…"), a name that
 * was looked up lately.  False: ask with resolve_start().  Any thread. */
bool resolve_now(struct resolver *r, const char *host, uint16_t port, struct resolved *found);

/* Of a name that connections have gone to: it is looked up again when that is due, some times
 * within max_ttl, which nobody waits for; a failure changes nothing.  The number that this returns
 * becomes another when an address is no longer one of the name's; 0: it is no name, or nobody has
 * asked for it lately.  Any thread. */
unsigned resolve_follow(struct resolver *r, const char *host);
/* A connection has gone to this name that another process has looked up: it is one to follow from
 * now on.  Any thread. */
void resolve_learn(struct resolver *r, const char *host);
/* Whether that is one of its addresses, whatever the port; also where nothing is known, or more
 * within max_ttl than are kept.  An address that is missing in an answer was one within max_ttl,
 * and with one answer only, as some names tell one of many servers each time.  Any thread. */
bool resolve_leads_to(struct resolver *r, const char *host, const struct addr *addr);

/* Looks host up; fn is called by a mail to box, on its receiver's thread, never from here.  The
 * query is gone when fn is called.  Call on the receiver's thread. */
struct resolve_query *resolve_start(struct resolver *r, struct mailbox *box, const char *host,
				    uint16_t port, resolved_fn *fn, void *arg);
/* fn will not be called; the query is gone.  On the thread that asked. */
void resolve_cancel(struct resolve_query *q);

#endif
