/* SPDX-License-Identifier: ISC
 *
 * networks.h - networks, as rules and lists name them, and who comes from one.
 *
 * A list has words between commas: an address, a network as 10.0.0.0/8, `all`, `samehost`,
 * `samenet`, as in pg_hba.conf, and `local`: Unix sockets.  Names of hosts are refused: a name
 * service would decide.  Pure.
 */
#ifndef PGT_AUTH_NETWORKS_H
#define PGT_AUTH_NETWORKS_H

#include "base/assert.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Where a connection comes from. */
struct net_origin {
	bool is_local; /* by a Unix socket; else */
	bool is_ipv6;
	uint8_t ip[16];
	/* Whether an address is one of this machine's, or (whole_net) in a network that it is in.
	 */
	bool (*is_near)(bool is_ipv6, const uint8_t *ip, bool whole_net);
};

enum network_kind { NETWORK_NET, NETWORK_ALL, NETWORK_SAMEHOST, NETWORK_SAMENET, NETWORK_LOCAL };

struct network {
	enum network_kind kind;
	bool is_ipv6; /* of NETWORK_NET, as is all that follows */
	uint8_t ip[16];
	uint8_t mask[16];
};

/* The words besides addresses.  False: it is none. */
bool network_read_word(struct slice word, struct network *n);
/* An address, with /bits or not: then it has no mask yet.  NULL, or what is wrong. */
const char *network_read_address(struct slice text, struct network *n, bool *has_bits);
/* The mask of one without bits.  False: it is none of the same kind. */
bool network_read_mask(const char *text, struct network *n);
/* IPv4 by a socket for IPv6 is IPv4. */
bool network_has(const struct network *n, const struct net_origin *who);

/* Whether a list makes sense.  False: *e. */
bool networks_check(const char *list, struct err *e) PGT_MUST_USE;
/* Whether somebody comes from one of a list that makes sense; from an empty one nobody does. */
bool networks_have(const char *list, const struct net_origin *who) PGT_MUST_USE;

#endif
