/* SPDX-License-Identifier: ISC
 *
 * lives.h - which of the processes before this one still live, as the kernel knows it.
 *
 * A process has a pipe that nobody ever writes to, and keeps the end for writing to itself.  Who
 * has the other end sees when the process is gone, however it went.  The ends for reading go from
 * process to process, so that the third knows of the first when the second has died.
 */
#ifndef PGT_WORKER_LIVES_H
#define PGT_WORKER_LIVES_H

#include "net/loop.h"

#include <stdbool.h>

struct lives;

/* on_last(arg): of those that were added the last one is gone. */
struct lives *lives_new(struct loop *loop, void (*on_last)(void *arg), void *arg);
/* Another process: takes the end for reading of its pipe. */
void lives_add(struct lives *lives, int fd);
/* Of those that were added one lives. */
bool lives_are_left(const struct lives *lives);
/* The ends for reading: our own pipe's, and of all those that live. */
void lives_each(const struct lives *lives, void (*visit)(void *arg, int fd), void *arg);
void lives_free(struct lives *lives);

#endif
