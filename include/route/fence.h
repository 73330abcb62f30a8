/* SPDX-License-Identifier: ISC
 *
 * fence.h - whether a replica has replayed what somebody has written.
 *
 * Questions to nodes are numbered, by one counter for the whole process.  Who has the answer to a
 * write raises its fence to the number of the last question: whatever a primary says to a later one
 * of where its log ends, the write is before that.  So a replica that has replayed as far as the
 * answer to question N has all that is behind a fence below N.  Neither a clock nor a question for
 * each write is needed.
 *
 * The monitor keeps the line of the primary's answers, and tells for each replica the last one that
 * it has reached (node.covers).  Pure but for the counter.
 */
#ifndef PGT_ROUTE_FENCE_H
#define PGT_ROUTE_FENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The number of a question that is about to be sent; never 0. */
uint64_t fence_ask(void);

/* Of the last question.  After the answer of a write was received, before it is passed on. */
extern _Atomic uint64_t fence_asked;
static inline uint64_t fence_now(void)
{
	return atomic_load(&fence_asked);
}

/* What threads share is fenced at least up to here: another process has written for the same
 * tenants, and its fences are not known.  FENCE_ALL: it still may. */
#define FENCE_ALL UINT64_MAX
extern _Atomic uint64_t fence_floor;

/* A fence that threads share is raised to now.  Most often it is there already. */
void fence_raise(_Atomic uint64_t *fence);

/* Whose log it is.  Another process may have less of it, another timeline another one. */
struct fence_origin {
	unsigned node;
	uint64_t system;
	uint32_t timeline;
	int64_t process;
};

struct fence_mark {
	uint64_t number;   /* of the question */
	uint64_t position; /* the answer */
};

#define FENCE_MARKS 512

/* A zeroed one is empty. */
struct fence_line {
	struct fence_origin origin;
	unsigned n;
	struct fence_mark marks[FENCE_MARKS]; /* the older, the sparser */
};

/* The primary has answered.  True: this is another one than before, or not one with all that it
 * had, and what was known of replicas does not count any more. */
bool fence_line_add(struct fence_line *line, const struct fence_origin *origin, uint64_t number,
		    uint64_t position);
/* The last question whose answer is not beyond this position; 0: none. */
uint64_t fence_line_covered(const struct fence_line *line, uint64_t position);

#endif
