/* SPDX-License-Identifier: ISC
 *
 * departures.h - sessions on their way to the process that takes over.
 *
 * Each has a number.  Its socket and its passport are kept here until the other process has said
 * that it has taken it, which it says before it reads anything of the session; until then the
 * session can be taken back.  So many are under way at once, and the others wait their turn.
 *
 * Control thread.
 */
#ifndef PGT_WORKER_DEPARTURES_H
#define PGT_WORKER_DEPARTURES_H

#include "base/buf.h"
#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct packets;

struct departures {
	struct packets *to;
	struct list waiting, sent;
	unsigned nsent;
	uint64_t last; /* the highest number */
};

void departures_init(struct departures *d, struct packets *to);
/* Takes the socket and the bytes of the passport. */
void departures_add(struct departures *d, int fd, struct buf *passport);
/* The other process has it. */
void departures_taken(struct departures *d, uint64_t number);
/* The other process cannot have it: the socket, now the caller's, and the bytes; -1: there is none
 * of that number. */
int departures_take_back(struct departures *d, uint64_t number, struct buf *passport);
/* The same of any; -1: none is left. */
int departures_take_back_any(struct departures *d, struct buf *passport);
bool departures_are_over(const struct departures *d);
/* This process ends: all that wait are sent, and none can be taken back. */
void departures_fini(struct departures *d);

#endif
