/* SPDX-License-Identifier: ISC
 *
 * limit.c - rate and quota of a tenant.
 *
 * full_at moves by one interval for each token taken.  A bucket of size B holds a token as long as
 * full_at is at most B - 1 intervals ahead of now.  The interval is kept in nanoseconds, so that
 * 1000/s and 7/m come out exact enough over days.
 */
#include "tenant/limit.h"

static int64_t interval_ns(const struct limit_rules *r)
{
	int64_t ns = r->rate_per * 1000 / (int64_t)r->rate_count;

	return ns > 0 ? ns : 1;
}

static uint64_t bucket_size(const struct limit_rules *r)
{
	return r->burst ? r->burst : r->rate_count;
}

/* How far full_at may be ahead of now with one token left. */
static int64_t slack_ns(const struct limit_rules *r)
{
	return interval_ns(r) * (int64_t)(bucket_size(r) - 1);
}

static bool take_rate(struct limit_state *s, const struct limit_rules *r, uint64_t n, usec_t now,
		      bool ask, usec_t *wait)
{
	int64_t now_ns = now * 1000, step = interval_ns(r) * (int64_t)n;
	int64_t seen = atomic_load_explicit(&s->full_at, memory_order_relaxed), base;

	do {
		base = seen > now_ns ? seen : now_ns;
		if (ask && base - now_ns > slack_ns(r)) {
			*wait = (base - now_ns - slack_ns(r) + 999) / 1000;
			return false;
		}
	} while (!atomic_compare_exchange_weak_explicit(
	    &s->full_at, &seen, base + step, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* The first statement of a new hour or day, on whichever thread, empties the count. */
static void roll_period(struct limit_state *s, const struct limit_rules *r, usec_t wall)
{
	uint64_t period = (uint64_t)(wall / r->quota_per), seen = atomic_load(&s->period);

	if (seen < period && atomic_compare_exchange_strong(&s->period, &seen, period))
		atomic_store(&s->used, 0);
}

static bool take_quota(struct limit_state *s, const struct limit_rules *r, uint64_t n, usec_t wall,
		       bool ask, usec_t *wait)
{
	uint64_t used;

	roll_period(s, r, wall);
	used = atomic_load_explicit(&s->used, memory_order_relaxed);
	do {
		if (ask && used >= r->quota_count) {
			*wait = r->quota_per - wall % r->quota_per;
			return false;
		}
	} while (!atomic_compare_exchange_weak(&s->used, &used, used + n));
	return true;
}

bool limit_take(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		struct limit_now now, usec_t *wait)
{
	*wait = 0;
	if (rules->quota_count && !take_quota(state, rules, n, now.wall, true, wait))
		return false;
	if (rules->rate_count && !take_rate(state, rules, n, now.monotonic, true, wait)) {
		if (rules->quota_count)
			atomic_fetch_sub(&state->used, n);
		return false;
	}
	return true;
}

void limit_charge(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		  struct limit_now now)
{
	usec_t wait;

	if (rules->quota_count)
		take_quota(state, rules, n, now.wall, false, &wait);
	if (rules->rate_count)
		take_rate(state, rules, n, now.monotonic, false, &wait);
}

int64_t limit_tokens(const struct limit_state *state, const struct limit_rules *rules,
		     struct limit_now now)
{
	int64_t ahead;

	if (!rules->rate_count)
		return INT64_MAX;
	ahead = atomic_load(&state->full_at) - now.monotonic * 1000;
	if (ahead < 0)
		ahead = 0;
	return (int64_t)bucket_size(rules) - (ahead + interval_ns(rules) - 1) / interval_ns(rules);
}

uint64_t limit_quota_left(const struct limit_state *state, const struct limit_rules *rules,
			  struct limit_now now)
{
	uint64_t used;

	if (!rules->quota_count)
		return UINT64_MAX;
	if (atomic_load(&state->period) < (uint64_t)(now.wall / rules->quota_per))
		return rules->quota_count;
	used = atomic_load(&state->used);
	return used < rules->quota_count ? rules->quota_count - used : 0;
}
