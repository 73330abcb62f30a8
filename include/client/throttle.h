/* SPDX-License-Identifier: ISC
 *
 * throttle.h - addresses that have failed to prove who they are, and how long they have to wait.
 *
 * Counts wrong proofs by address and user, so that nobody keeps a user out who comes from
 * elsewhere; and ten times as many by address alone, but those of a user who had to wait already.
 * Whether there is such a user plays no part, and neither does a success, which would tell that
 * there is one. A table of fixed size: who has failed least makes room.  Any thread; takes the time
 * as a number.
 */
#ifndef PGT_CLIENT_THROTTLE_H
#define PGT_CLIENT_THROTTLE_H

#include "base/clock.h"
#include "base/slice.h"

#include <stdint.h>

#define THROTTLE_USER_MAX 64

struct throttle_limits {
	unsigned failures; /* of an address and user before further ones have to wait; not 0 */
	usec_t backoff_max;
	bool spares_address; /* only by user: others, too, come from there */
};

/* How long a login has to wait, which is counted as refused then; 0: it may try. */
usec_t throttle_wait(uint64_t origin, struct slice user, const struct throttle_limits *limits,
		     usec_t now);
/* A proof was wrong.  True: from now on further ones have to wait, and did not before. */
bool throttle_fail(uint64_t origin, struct slice user, const struct throttle_limits *limits,
		   usec_t now);
/* For tests. */
void throttle_forget_all(void);

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

struct throttle_facts {
	uint64_t origin;
	char user[THROTTLE_USER_MAX]; /* "": all of the address */
	unsigned failures;            /* in a row */
	unsigned refused;             /* logins, since they began */
	usec_t last;                  /* failure */
	usec_t until;                 /* has to wait */
};

void throttle_each(usec_t now, void (*visit)(void *arg, const struct throttle_facts *facts),
		   void *arg);

#endif
