/* SPDX-License-Identifier: ISC
 *
 * loop.h - an event loop of one thread: descriptors, a repeating timer, mail from other threads.
 *
 * A thin cover over libev, so that no other file depends on it.  Everything here belongs to the
 * thread that runs the loop, except loop_wake(), which any thread may call.
 */
#ifndef PGT_NET_LOOP_H
#define PGT_NET_LOOP_H

#include "base/clock.h"

#include <stdbool.h>
#include <stddef.h>

struct loop;
struct loop_io;
struct loop_timer;

#define LOOP_READ  1
#define LOOP_WRITE 2

typedef void loop_io_fn(struct loop_io *io, int ready);
typedef void loop_timer_fn(struct loop_timer *timer);
typedef void loop_fn(void *arg);

/* Room for libev's own structs, checked when loop.c is compiled. */
struct loop_io {
	union {
		void *align;
		char room[48];
	} ev;
	loop_io_fn *fn;
};

struct loop_timer {
	union {
		void *align;
		char room[64];
	} ev;
	loop_timer_fn *fn;
};

struct loop *loop_new(void);
void loop_free(struct loop *loop);
/* Returns after loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* How a loop begins: what is read of it for each query. */
struct loop_times {
	usec_t now;
	usec_t clock;     /* the same, or read since then … */
	unsigned handled; /* … which is so many descriptors ago, with the one at hand */
	struct loop_io
	    *handling; /* what is at hand; NULL for mail, timers, and the end of a turn */
};

/* The monotonic time of this turn: read once when the loop woke up. */
static inline usec_t loop_now(const struct loop *loop)
{
	return ((const struct loop_times *)loop)->now;
}

/* The monotonic time of this moment, to some ten microseconds: read anew only where the turn has
 * gone on since. */
usec_t loop_clock_anew(struct loop *loop); /* for what follows only */
/* Descriptors that may be handled before it is read anew: some ten microseconds each.  One reading
 * takes as long as to record four durations. */
#define LOOP_CLOCK_LASTS 4
static inline usec_t loop_clock(struct loop *loop)
{
	const struct loop_times *times = (const struct loop_times *)loop;

	return times->handled > LOOP_CLOCK_LASTS ? loop_clock_anew(loop) : times->clock;
}

/* For whom something is done now, where it is for a descriptor; NULL: for none. */
static inline struct loop_io *loop_handling(const struct loop *loop)
{
	return ((const struct loop_times *)loop)->handling;
}

/* The same of what is done at the end of a turn. */
static inline void loop_handle(struct loop *loop, struct loop_io *io)
{
	((struct loop_times *)loop)->handling = io;
}

/* end_of_turn runs before the loop blocks; woken runs after loop_wake() of any thread, once for any
 * number of wakes. */
void loop_on_turn_end(struct loop *loop, loop_fn *end_of_turn, void *arg);
void loop_on_wake(struct loop *loop, loop_fn *woken, void *arg);
void loop_wake(struct loop *loop);

void loop_io_start(struct loop *loop, struct loop_io *io, int fd, int events, loop_io_fn *fn);
/* Changes what is waited for; 0 stops.  Costs nothing when nothing changes. */
void loop_io_want(struct loop *loop, struct loop_io *io, int events);
void loop_io_stop(struct loop *loop, struct loop_io *io);
/* What is waited for now. */
int loop_io_wanted(const struct loop_io *io);

void loop_timer_start(struct loop *loop, struct loop_timer *timer, usec_t after, usec_t repeat,
		      loop_timer_fn *fn);
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);

/* Calls fn in the loop for each delivery of a Unix signal; the control thread only. */
void loop_on_signal(struct loop *loop, int signum, void (*fn)(void *arg, int signum), void *arg);

#endif
