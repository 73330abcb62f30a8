/* SPDX-License-Identifier: ISC
 *
 * admission.h - a client that waits until it may begin a transaction.
 *
 * For a limit of its tenant, a switch, or a replica that is late.  Knows that it waits; what it
 * waits for is src/relay/admit.c's.
 */
#ifndef PGT_RELAY_ADMISSION_H
#define PGT_RELAY_ADMISSION_H

#include "client/client.h"

/* It is there for as long as the client waits. */
struct admission {
	struct list link; /* of relay.limited, until it may ask again */
	struct client *client;
	struct tenant *at; /* whose limit it waits for; a reference, or NULL */
	usec_t retry_at;   /* when it may ask again, if not before; 0: now */
	usec_t since;
	uint8_t what;  /* enum limit_kind + 1, or one of admit.c's */
	bool is_woken; /* has left the list, and not asked yet */
};

static inline bool admit_is_waiting(const struct client *c)
{
	return c->admission && c->admission->retry_at;
}

#endif
