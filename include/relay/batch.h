/* SPDX-License-Identifier: ISC
 *
 * batch.h - looking ahead over a batch of extended messages, up to its Sync.
 */
#ifndef PGT_RELAY_BATCH_H
#define PGT_RELAY_BATCH_H

#include "wire/frame.h"

#include <stdbool.h>
#include <string.h>

struct client;

struct batch_view {
	bool complete;        /* its Sync is here */
	bool flushed;         /* the client waits for answers before the Sync, if one comes */
	unsigned executes;    /* seen so far */
	struct slice text;    /* of its first statement; {0}: none was seen */
	bool replica_will_do; /* complete, and everything that it runs is a proven read */
	/* Of promote.h, and only where that is asked: */
	bool is_plain;    /* complete, and all of it is plain */
	bool is_primarys; /* something of it is for the primary alone */
};

/* Looks at the messages in `in`, the first of which starts a batch.  Changes nothing. */
void batch_look(struct client *c, struct slice in, struct batch_view *view);

/* Of Describe, and of Execute with Sync, of a portal without a name. */
#define BATCH_DESCRIBE_LEN     7
#define BATCH_EXECUTE_SYNC_LEN 15

/* How long the batch at the beginning of `in` is if it is as drivers send what they have prepared:
 * Bind, Describe or not, and Execute to the end, of a portal without a name, and Sync; 0: it is
 * another one, or is not here as a whole. */
static inline size_t batch_lone_len(struct slice in)
{
	static const char rest[] = "D\0\0\0\6P\0"
				   "E\0\0\0\11\0\0\0\0\0"
				   "S\0\0\0\4";
	const size_t describe = BATCH_DESCRIBE_LEN, all = describe + BATCH_EXECUTE_SYNC_LEN;
	struct frame f;
	size_t left;

	_Static_assert(sizeof(rest) - 1 == BATCH_DESCRIBE_LEN + BATCH_EXECUTE_SYNC_LEN,
		       "the messages are as long as they are");
	if (frame_peek(in.p, in.n, &f) != FRAME_OK || f.type != MSG_BIND || !frame_is_whole(&f))
		return 0;
	left = in.n - f.len;
	if (left >= all && !memcmp(in.p + f.len, rest, all))
		return f.len + all;
	if (left >= all - describe && !memcmp(in.p + f.len, rest + describe, all - describe))
		return f.len + all - describe;
	return 0;
}

#endif
