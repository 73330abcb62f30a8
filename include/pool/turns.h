/* SPDX-License-Identifier: ISC
 *
 * turns.h - whose turn is it at a pool that tenants share (docs/adr/0018-fair-turns.md).
 *
 * Weighted fair queueing by start times (Goyal, Vin, Cheng: "Start-time Fair Queueing"): each
 * tenant pays for the time that it holds servers, divided by its weight, and the one that has paid
 * least is next.  Only time counts during which somebody waits: what nobody else wanted is free.
 * Within a tenant the first to come is the first to be served.
 *
 * Pure: time is passed in.  Knows tenants, not servers or clients.  All on the thread of the pool.
 */
#ifndef PGT_POOL_TURNS_H
#define PGT_POOL_TURNS_H

#include "base/heap.h"
#include "base/list.h"
#include "tenant/tenant.h"

/* What one tenant has of one pool. */
struct share {
	struct list link;      /* of tenant.shares */
	struct list state;     /* of turns.active or turns.resting */
	struct heap_link next; /* of turns.next, by .paid, while one of its waiters may go */
	struct list hold;      /* of turns.holds, while a server is kept for it */
	struct turns *turns;
	struct tenant *tenant; /* a reference */
	struct list waiting;
	unsigned nwaiting;
	unsigned nready; /* of them, as many as it may have servers besides those it has */
	unsigned held;   /* servers */
	int64_t paid;    /* virtual time at which its next turn begins */
	usec_t usual;    /* about how long a turn takes */
	usec_t rests_since;
	usec_t left_at;    /* its last turn ended, and it has not come since; else 0 */
	usec_t away;       /* about how long it stays away then */
	usec_t hold_until; /* of the last hold */
};

struct turns {
	struct heap next;
	struct list active;  /* shares that wait or hold something */
	struct list resting; /* the others, the longest first: what they have paid is remembered */
	struct list holds;   /* shares that a server is kept for, the first to end first … */
	unsigned nholds;     /* … so many */
	unsigned pool_size;  /* 0: no limit */
	unsigned nready;     /* waiters that would take a server now */
	int64_t clock;       /* virtual time: where the last turn began that somebody waited for */
	usec_t wanted;       /* time during which somebody waited, so far … */
	usec_t wanted_since; /* … and since when somebody does */
	usec_t usual;
};

/* Embedded in who waits.  A zeroed one waits for nothing. */
struct turn_wait {
	struct list link;
	struct share *share;
};

/* Embedded in what is taken in turns.  A zeroed one is nobody's. */
struct turn {
	struct share *share;
	usec_t since;
	usec_t wanted; /* turns.wanted then */
	usec_t paid;   /* already, for the time from then on */
};

struct turns *turns_new(void);
/* Nobody waits or holds anything.  NULL is allowed. */
void turns_free(struct turns *turns);
/* After a reload: the pool's size, and what its tenants may do, are others. */
void turns_configure(struct turns *turns, unsigned pool_size, usec_t now);

void turns_wait(struct turns *turns, struct turn_wait *w, struct tenant *tenant, usec_t now);
void turns_leave(struct turn_wait *w, usec_t now);
/* Who is next, or NULL: nobody may go. */
struct turn_wait *turns_next(const struct turns *turns);
/* Whether its tenant may have one more server; of one that does not wait. */
bool turns_has_room(const struct turns *turns, const struct tenant *tenant);
/* The same, of one that waits. */
bool turns_may_go(const struct turn_wait *w);

/* Whether a server is kept for one of this tenant that does not wait. */
bool turns_is_held(const struct turns *turns, const struct tenant *tenant);
/* Ends what has lasted long enough; whether any is left. */
bool turns_end_holds(struct turns *turns, usec_t now);

/* A server is given to a tenant's client; was_next: turns_next() has said so. */
void turns_begin(struct turns *turns, struct turn *turn, struct tenant *tenant, bool was_next,
		 usec_t now);
/* A turn that lasts pays for what it has had so far. */
void turn_pay(struct turn *turn, usec_t now);
/* So many servers as turns.nholds should stay idle from here on, although others wait. */
void turn_end(struct turn *turn, usec_t now);

/* Forgets who has rested for long. */
void turns_sweep(struct turns *turns, usec_t now);

#endif
