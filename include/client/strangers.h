/* SPDX-License-Identifier: ISC
 *
 * strangers.h - connections of the process that have not proved who they are: how many there may
 * be.
 *
 * One address has half of the places at most (base/crowd.h).  Who comes by a Unix socket is let try
 * in any case, and takes nobody's place: an operator is there when strangers are many.  Any thread.
 */
#ifndef PGT_CLIENT_STRANGERS_H
#define PGT_CLIENT_STRANGERS_H

#include "config/settings.h"
#include "net/addr.h"

/* How a connection is counted. */
enum stranger {
	STRANGER_NO,          /* it has proved it, or is not counted yet */
	STRANGER_LET_TRY,     /* it may prove it */
	STRANGER_TURNED_AWAY, /* there are too many; it takes room while it is told so … */
	STRANGER_UNHEARD,     /* … and of those, too: it is told in passing, heard or not */
};

/* Of one address as many may try, twice as many of all, and as many are turned away; 0: no limit.
 * Those who have proved it have max_client_conn. */
unsigned strangers_max(const struct settings *set);
/* One more; strangers_leave() gives back what this has returned. */
enum stranger strangers_enter(const struct addr *peer, unsigned max);
void strangers_leave(const struct addr *peer, enum stranger as);

#endif
