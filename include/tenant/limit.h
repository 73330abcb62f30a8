/* SPDX-License-Identifier: ISC
 *
 * limit.h - a tenant's rate and quota, exact over all threads without a lock.
 *
 * The rate is a token bucket in the form of the generic cell rate algorithm (ITU-T I.371): one
 * 64-bit time, at which the bucket would be full again.  The quota counts in fixed hours or days of
 * UTC.  Time is passed in.
 */
#ifndef PGT_TENANT_LIMIT_H
#define PGT_TENANT_LIMIT_H

#include "base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A zeroed one is a full bucket and an unused quota. */
struct limit_state {
	_Atomic int64_t full_at; /* nanoseconds, monotonic */
	_Atomic uint64_t quota;  /* what is used, and when its period began: limit.c */
};

/* What the tier or the tenant allows; counts of 0: no limit. */
struct limit_rules {
	uint64_t rate_count;
	usec_t rate_per;
	uint64_t burst; /* 0: rate_count */
	uint64_t quota_count;
	usec_t quota_per;
};

struct limit_now {
	usec_t monotonic;
	usec_t wall;
};

/* Takes n tokens if the bucket holds at least one and the quota is not used up; the bucket may go
 * below zero by what n exceeds it.  False: nothing was taken, and *wait tells how long until it
 * would work.  Any thread. */
bool limit_take(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		struct limit_now now, usec_t *wait);

/* Takes n tokens without asking: inside a transaction, or in warning mode.  Any thread. */
void limit_charge(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		  struct limit_now now);

/* Tokens in the bucket, below zero when overdrawn, and what the quota has left; for SHOW. */
int64_t limit_tokens(const struct limit_state *state, const struct limit_rules *rules,
		     struct limit_now now);
uint64_t limit_quota_left(const struct limit_state *state, const struct limit_rules *rules,
			  struct limit_now now);

#endif
