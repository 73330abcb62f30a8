/* SPDX-License-Identifier: ISC
 *
 * lives.c - which of the processes before this one still live.
 *
 * Knows pipes and their ends, not who the processes are.
 */
#include "worker/lives.h"

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct life {
	struct list link;
	struct lives *lives;
	struct loop_io io;
	int fd;
};

struct lives {
	struct loop *loop;
	struct list others;
	int own[2]; /* -1: there was no descriptor to be had */
	void (*on_last)(void *arg);
	void *arg;
};

struct lives *lives_new(struct loop *loop, void (*on_last)(void *arg), void *arg)
{
	struct lives *lives = xnew(struct lives);

	*lives = (struct lives){ .loop = loop, .on_last = on_last, .arg = arg };
	list_init(&lives->others);
	if (pipe2(lives->own, O_CLOEXEC | O_NONBLOCK) < 0) {
		log_error("TAKEOVER: no pipe: %s", strerror(errno));
		lives->own[0] = lives->own[1] = -1;
	}
	return lives;
}

static void end(struct life *life)
{
	list_del(&life->link);
	loop_io_stop(life->lives->loop, &life->io);
	close(life->fd);
	free(life);
}

/* Nothing is ever written: it is the end. */
static void on_end(struct loop_io *io, int ready PGT_UNUSED)
{
	struct life *life = container_of(io, struct life, io);
	struct lives *lives = life->lives;

	end(life);
	if (list_is_empty(&lives->others))
		lives->on_last(lives->arg);
}

void lives_add(struct lives *lives, int fd)
{
	struct life *life = xnew(struct life);

	life->lives = lives;
	life->fd = fd;
	list_init(&life->link);
	list_push_back(&lives->others, &life->link);
	loop_io_start(lives->loop, &life->io, fd, LOOP_READ, on_end);
}

bool lives_are_left(const struct lives *lives)
{
	return !list_is_empty(&lives->others);
}

void lives_each(const struct lives *lives, void (*visit)(void *arg, int fd), void *arg)
{
	if (lives->own[0] >= 0)
		visit(arg, lives->own[0]);
	LIST_FOREACH (at, &lives->others)
		visit(arg, container_of(at, struct life, link)->fd);
}

void lives_free(struct lives *lives)
{
	LIST_FOREACH_SAFE (at, &lives->others)
		end(container_of(at, struct life, link));
	/* The other end of our own stays open until there is nothing left of this process. */
	if (lives->own[0] >= 0)
		close(lives->own[0]);
	free(lives);
}
