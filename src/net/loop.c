/* SPDX-License-Identifier: ISC
 *
 * loop.c - the event loop, on libev.  The only file that includes ev.h.
 *
 * Knows descriptors and times, not what is read or written.
 */
#include "net/loop.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/sanitizer.h"

#include <ev.h>
#include <stdlib.h>

_Static_assert(sizeof(ev_io) <= sizeof(((struct loop_io *)0)->ev), "loop_io has too little room");
_Static_assert(EV_READ == LOOP_READ && EV_WRITE == LOOP_WRITE, "loop.h has libev's bits");
_Static_assert(sizeof(ev_timer) <= sizeof(((struct loop_timer *)0)->ev),
	       "loop_timer has too little room");

struct signal_hook {
	ev_signal watcher;
	void (*fn)(void *arg, int signum);
	void *arg;
	struct signal_hook *next;
};

struct loop {
	struct loop_times times; /* first: loop_now() */
	struct ev_loop *ev;
	ev_async async;
	loop_fn *end_of_turn;
	void *end_of_turn_arg;
	loop_fn *woken;
	void *woken_arg;
	struct signal_hook *signals;
};

static ev_io *io_of(struct loop_io *io)
{
	return (ev_io *)(void *)&io->ev;
}

static ev_timer *timer_of(struct loop_timer *timer)
{
	return (ev_timer *)(void *)&timer->ev;
}

/* libev's call of what a turn has found to do, in between what else each turn does: watchers that
 * wake with it would cost more than most turns. */
static void on_turn(struct ev_loop *ev)
{
	struct loop *loop = ev_userdata(ev);

	loop->times.now = clock_monotonic();
	loop->times.clock = loop->times.now;
	loop->times.handled = 0;
	ev_invoke_pending(ev);
	if (loop->end_of_turn)
		loop->end_of_turn(loop->end_of_turn_arg);
}

static void on_async(struct ev_loop *ev PGT_UNUSED, ev_async *w, int revents PGT_UNUSED)
{
	struct loop *loop = container_of(w, struct loop, async);

	loop->times.handling = NULL;
	if (loop->woken)
		loop->woken(loop->woken_arg);
}

/* libev would end the process, which has a reserve for that (mem.h). */
static void *allocate(void *p, long n)
{
	if (n)
		return xrealloc(p, (size_t)n);
	free(p);
	return NULL;
}

struct loop *loop_new(void)
{
	struct loop *loop = xnew(struct loop);

	ev_set_allocator(allocate);
	loop->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
	PGT_ASSERT(loop->ev != NULL);
	loop->times.now = clock_monotonic();
	ev_set_userdata(loop->ev, loop);
	ev_set_invoke_pending_cb(loop->ev, on_turn);
	ev_async_init(&loop->async, on_async);
	ev_async_start(loop->ev, &loop->async);
	return loop;
}

void loop_free(struct loop *loop)
{
	while (loop->signals) {
		struct signal_hook *hook = loop->signals;

		loop->signals = hook->next;
		ev_signal_stop(loop->ev, &hook->watcher);
		free(hook);
	}
	ev_loop_destroy(loop->ev);
	free(loop);
}

void loop_run(struct loop *loop)
{
	ev_run(loop->ev, 0);
}

void loop_stop(struct loop *loop)
{
	ev_break(loop->ev, EVBREAK_ALL);
}

usec_t loop_clock_anew(struct loop *loop)
{
	loop->times.clock = clock_monotonic();
	loop->times.handled = 0;
	return loop->times.clock;
}

void loop_on_turn_end(struct loop *loop, loop_fn *end_of_turn, void *arg)
{
	loop->end_of_turn = end_of_turn;
	loop->end_of_turn_arg = arg;
}

void loop_on_wake(struct loop *loop, loop_fn *woken, void *arg)
{
	loop->woken = woken;
	loop->woken_arg = arg;
}

void loop_wake(struct loop *loop)
{
	ev_async_send(loop->ev, &loop->async);
}

static void on_io(struct ev_loop *ev PGT_UNUSED, ev_io *w, int revents)
{
	struct loop_io *io = container_of(w, struct loop_io, ev);
	struct loop *loop = w->data;

	loop->times.handled++;
	loop->times.handling = io;
	io->fn(io, revents & (LOOP_READ | LOOP_WRITE));
}

void loop_io_start(struct loop *loop, struct loop_io *io, int fd, int events, loop_io_fn *fn)
{
	io->fn = fn;
	ev_io_init(io_of(io), on_io, fd, events);
	io_of(io)->data = loop;
	if (events)
		ev_io_start(loop->ev, io_of(io));
}

int loop_io_wanted(const struct loop_io *io)
{
	const ev_io *w = (const ev_io *)(const void *)&io->ev;

	return ev_is_active(w) ? w->events & (LOOP_READ | LOOP_WRITE) : 0;
}

void loop_io_want(struct loop *loop, struct loop_io *io, int events)
{
	ev_io *w = io_of(io);

	if (loop_io_wanted(io) == events)
		return;
	ev_io_stop(loop->ev, w);
	ev_io_set(w, w->fd, events);
	if (events)
		ev_io_start(loop->ev, w);
}

#if PGT_UNDER_TSAN
/* libev takes a stopped descriptor out of epoll only when an event for it comes nevertheless; by
 * then another thread may have it and be closing it.  The kernel sorts that out. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:epoll_ctl\n";
}
#endif

void loop_io_stop(struct loop *loop, struct loop_io *io)
{
	if (loop->times.handling == io)
		loop->times.handling = NULL;
	ev_io_stop(loop->ev, io_of(io));
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int revents PGT_UNUSED)
{
	struct loop_timer *timer = container_of(w, struct loop_timer, ev);

	loop_handle(ev_userdata(ev), NULL);
	timer->fn(timer);
}

void loop_timer_start(struct loop *loop, struct loop_timer *timer, usec_t after, usec_t repeat,
		      loop_timer_fn *fn)
{
	timer->fn = fn;
	ev_timer_init(timer_of(timer), on_timer, (double)after / 1e6, (double)repeat / 1e6);
	ev_timer_start(loop->ev, timer_of(timer));
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	ev_timer_stop(loop->ev, timer_of(timer));
}

static void on_signal(struct ev_loop *ev, ev_signal *w, int revents PGT_UNUSED)
{
	struct signal_hook *hook = container_of(w, struct signal_hook, watcher);

	loop_handle(ev_userdata(ev), NULL);
	hook->fn(hook->arg, w->signum);
}

void loop_on_signal(struct loop *loop, int signum, void (*fn)(void *arg, int signum), void *arg)
{
	struct signal_hook *hook = xnew(struct signal_hook);

	hook->fn = fn;
	hook->arg = arg;
	hook->next = loop->signals;
	loop->signals = hook;
	ev_signal_init(&hook->watcher, on_signal, signum);
	ev_signal_start(loop->ev, &hook->watcher);
}
