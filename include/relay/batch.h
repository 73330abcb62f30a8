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

/* Of Execute by itself, of the same. */
#define BATCH_EXECUTE_LEN 10

/* What drivers send behind a Bind of a portal without a name: Describe, Execute, Sync. */
#define BATCH_REST                                                                                 \
	"D\0\0\0\6P\0"                                                                             \
	"E\0\0\0\11\0\0\0\0\0"                                                                     \
	"S\0\0\0\4"

/* How long the batch at the beginning of `in` is, of which bind is the first message, if it is as
 * drivers send what they run by itself: Bind, Describe or not, and Execute to the end, of a portal
 * without a name, and Sync; 0: it is another one, or is not here as a whole. */
static inline size_t batch_len_with(struct slice in, const struct frame *bind)
{
	static const char rest[] = BATCH_REST;
	const size_t describe = BATCH_DESCRIBE_LEN, all = describe + BATCH_EXECUTE_SYNC_LEN;
	const char *behind = in.p + bind->len;
	size_t left;

	_Static_assert(sizeof(rest) - 1 == BATCH_DESCRIBE_LEN + BATCH_EXECUTE_SYNC_LEN,
		       "the messages are as long as they are");
	if (bind->type != MSG_BIND || !frame_is_whole(bind))
		return 0;
	left = in.n - bind->len;
	if (left >= all && !memcmp(behind, rest, all))
		return bind->len + all;
	if (left >= all - describe && !memcmp(behind, rest + describe, all - describe))
		return bind->len + all - describe;
	return 0;
}

static inline size_t batch_lone_len(struct slice in)
{
	struct frame f;

	return frame_peek(in.p, in.n, &f) == FRAME_OK ? batch_len_with(in, &f) : 0;
}

/* The same of what stands behind a Parse without a name, which is here, and uses nothing else:
 * *bind. */
static inline size_t batch_len_behind(struct slice in, const struct frame *parse,
				      struct frame *bind)
{
	size_t len;

	in = slice_of(in.p + parse->len, in.n - parse->len);
	len = frame_peek(in.p, in.n, bind) == FRAME_OK ? batch_len_with(in, bind) : 0;
	return len && !bind->start[FRAME_HEADER_LEN] && !bind->start[FRAME_HEADER_LEN + 1] ? len
											   : 0;
}

/* How long the Execute at p is, with a Describe ahead of it or not, if a batch has them behind a
 * Bind without names; 0: something else is there.  By words, which the compiler compares in line:
 * the Describe with the first byte behind it. */
static inline size_t batch_run_len(const char *p, size_t n)
{
	static const char rest[] = BATCH_REST;
	size_t len = 0;

	if (n >= BATCH_DESCRIBE_LEN + 1 && !memcmp(p, rest, BATCH_DESCRIBE_LEN + 1))
		len = BATCH_DESCRIBE_LEN;
	if (n - len < BATCH_EXECUTE_LEN || memcmp(p + len, rest + BATCH_DESCRIBE_LEN, 8) != 0 ||
	    memcmp(p + len + 8, rest + BATCH_DESCRIBE_LEN + 8, BATCH_EXECUTE_LEN - 8) != 0)
		return 0;
	return len + BATCH_EXECUTE_LEN;
}

/* The same from the Bind on; *bind: of which its Bind. */
static inline size_t batch_len_within(const char *p, size_t n, size_t *bind)
{
	size_t len = frame_whole(p, n), run;

	if (len < FRAME_HEADER_LEN + 2 || (uint8_t)*p != MSG_BIND || p[FRAME_HEADER_LEN] ||
	    p[FRAME_HEADER_LEN + 1])
		return 0;
	*bind = len;
	run = batch_run_len(p + len, n - len);
	return run ? len + run : 0;
}

#endif
