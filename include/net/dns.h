/* SPDX-License-Identifier: ISC
 *
 * dns.h - the addresses of a name as name servers tell them, and for how long they hold.
 *
 * For operators who name a resolv.conf of their own; all others are served by getaddrinfo().
 */
#ifndef PGT_NET_DNS_H
#define PGT_NET_DNS_H

#include "net/resolve.h"

/* Once, before the first thread. */
void dns_init(void);

/* Asks /etc/hosts and then the name servers of resolv_conf, whose search list and options hold.
 * Waits, up to some seconds: not for a thread with a loop.  *ttl: for how long the least lasting
 * address holds; untouched when none was found, and then out->error says why.  Any thread. */
void dns_find(const char *resolv_conf, const char *host, struct resolved *out, usec_t *ttl);

#endif
