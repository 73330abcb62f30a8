/* SPDX-License-Identifier: ISC
 *
 * batch.h - looking ahead over a batch of extended messages, up to its Sync.
 */
#ifndef PGT_RELAY_BATCH_H
#define PGT_RELAY_BATCH_H

#include "base/slice.h"

#include <stdbool.h>

struct client;

struct batch_view {
	bool complete;        /* its Sync is here */
	bool flushed;         /* the client waits for answers before the Sync */
	unsigned executes;    /* seen so far */
	struct slice text;    /* of its first statement; {0}: none was seen */
	bool replica_will_do; /* complete, and everything that it runs is a proven read */
	bool is_plain; /* complete, and all of it is plain: promote.h; only where that is asked
			*/
};

/* Looks at the messages in `in`, the first of which starts a batch.  Changes nothing. */
void batch_look(struct client *c, struct slice in, struct batch_view *view);

#endif
