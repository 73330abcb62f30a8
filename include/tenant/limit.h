/* SPDX-License-Identifier: ISC
 *
 * limit.h - what a tenant may use, exact over all threads without a lock.
 *
 * Statements, server time and bytes are token buckets in the form of the generic cell rate
 * algorithm (ITU-T I.371): one 64-bit time each, at which the bucket would be full again.  A
 * statement's token is taken before it runs; time and bytes are known afterwards, so they are
 * charged then, and the bucket goes below zero.  Quotas count in fixed hours and days of UTC.  Time
 * is passed in.
 */
#ifndef PGT_TENANT_LIMIT_H
#define PGT_TENANT_LIMIT_H

#include "base/clock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*     X(enumerator, name): the name is what refusals and SHOW LIMITS say */
#define LIMITS(X)                                                                                  \
	X(RATE, "rate")                                                                            \
	X(HOUR, "quota/h")                                                                         \
	X(DAY, "quota/d")                                                                          \
	X(EXEC, "exec_rate")                                                                       \
	X(BYTES, "bandwidth")                                                                      \
	X(TRANSACTIONS, "max_transactions")                                                        \
	X(SERVERS, "max_server_conn")                                                              \
	X(CLIENTS, "max_client_conn")

enum limit_kind {
#define X(enumerator, name) LIMIT_##enumerator,
	LIMITS(X)
#undef X
	    NLIMITS
};

const char *limit_name(enum limit_kind kind);

enum limit_period { LIMIT_PER_HOUR, LIMIT_PER_DAY, LIMIT_NPERIODS };

/* A zeroed one is full buckets and unused quotas. */
struct limit_state {
	_Atomic int64_t full_at; /* nanoseconds, monotonic: of statements … */
	_Atomic int64_t exec_full_at;
	_Atomic int64_t bytes_full_at;
	_Atomic uint64_t used[LIMIT_NPERIODS]; /* and when the period began: limit.c */
};

/* count tokens come in each per; count 0: no limit. */
struct limit_bucket {
	uint64_t count;
	usec_t per;
	uint64_t size; /* tokens that it holds; 0: count */
};

/* What the tier or the tenant allows; 0: no limit. */
struct limit_rules {
	struct limit_bucket rate;
	struct limit_bucket exec;  /* of microseconds */
	struct limit_bucket bytes; /* to clients */
	uint64_t quota[LIMIT_NPERIODS];
};

struct limit_now {
	usec_t monotonic;
	usec_t wall; /* matters where there is a quota */
};

/* Why not, and how long until it would work. */
struct limit_refusal {
	enum limit_kind kind;
	usec_t wait;
};

bool limit_has_quota(const struct limit_rules *rules);
/* Whether there is any of these limits. */
bool limit_is_any(const struct limit_rules *rules);

/* Takes n tokens if each bucket holds at least one and no quota is used up; the bucket may go below
 * zero by what n exceeds it.  False: nothing was taken, *why.  Any thread. */
bool limit_take(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		struct limit_now now, struct limit_refusal *why);

/* Takes n tokens without asking: inside a transaction, or in warning mode.  Any thread. */
void limit_charge(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		  struct limit_now now);
/* The same for what was used of a server's time and sent to a client. */
void limit_charge_exec(struct limit_state *state, const struct limit_rules *rules, usec_t used,
		       usec_t now);
void limit_charge_bytes(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
			usec_t now);

/* Whether anything was taken that has not come back yet. */
bool limit_owes(const struct limit_state *state, usec_t now);
/* Other rules: what was taken of a bucket stays taken.  Any thread. */
void limit_rescale(struct limit_state *state, const struct limit_rules *old,
		   const struct limit_rules *new, usec_t now);

/* ---- for SHOW --------------------------------------------------------------------------------
 */

/* Tokens in a bucket, whose state is full_at; below zero when overdrawn, INT64_MAX without a limit.
 */
int64_t limit_tokens(int64_t full_at, const struct limit_bucket *bucket, usec_t now);
/* How long until it holds one. */
usec_t limit_wait(int64_t full_at, const struct limit_bucket *bucket, usec_t now);
uint64_t limit_quota_used(const struct limit_state *state, enum limit_period period, usec_t wall);
/* What is left of all quotas. */
uint64_t limit_quota_left(const struct limit_state *state, const struct limit_rules *rules,
			  usec_t wall);
/* Until the next period. */
usec_t limit_period_left(enum limit_period period, usec_t wall);

/* ---- for what outlives the process ------------------------------------------------------------
 */

/* The hour since 1970 in which the present period began. */
uint64_t limit_period_begin(enum limit_period period, usec_t wall);
/* What was used of a period that began then; before anything else is. */
void limit_restore(struct limit_state *state, enum limit_period period, uint64_t begin,
		   uint64_t used);

#endif
