/* SPDX-License-Identifier: ISC
 *
 * net_rig.h - a loop with connections whose events a test can look at.
 *
 * Shared by the tests of net.  Does not know what is tested.
 */
#ifndef PGT_TEST_NET_RIG_H
#define PGT_TEST_NET_RIG_H

#include "net/conn.h"

struct rig {
	struct loop *loop;
	struct net net;
	struct loop_timer tick;
};

/* One of our connections and what its handlers saw. */
struct end {
	struct conn conn;
	struct buf got;                    /* what readable() took */
	void (*on_readable)(struct end *); /* instead of taking everything */
	struct end *other;
	char why[512];
	unsigned nreadable, nready, ndrained, nended, nfreed;
	bool stays_open; /* ended() does not close */
};

void rig_init(struct rig *rig);
void rig_fini(struct rig *rig);
/* Runs the loop for a moment. */
void rig_turn(struct rig *rig);

/* Turns until COND holds; a test that waits in vain fails. */
#define UNTIL(rig, cond)                                                                           \
	do {                                                                                       \
		for (int turns = 0; !(cond); turns++) {                                            \
			assert_true(turns < 10000);                                                \
			rig_turn(rig);                                                             \
		}                                                                                  \
	} while (0)

extern const struct conn_events end_events;

/* Our end of a new socket pair; returns the other one, non-blocking. */
int end_open(struct end *end, struct rig *rig);
/* Two ends of ours, connected. */
void ends_open(struct end *a, struct end *b, struct rig *rig);
void end_close(struct end *end, struct rig *rig);

/* Reads what is there of fd into b; false at the end of the stream. */
bool peer_read(int fd, struct buf *b);
/* Bytes that differ by place, so that loss and disorder show. */
void pattern_put(struct buf *b, size_t n);
bool pattern_is_at(const struct buf *b);

#endif
