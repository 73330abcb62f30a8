/* SPDX-License-Identifier: ISC
 *
 * limit.c - rate and quota of a tenant.
 *
 * full_at moves by one interval for each token taken.  A bucket of size B holds a token as long as
 * full_at is at most B - 1 intervals ahead of now.  The interval is kept in nanoseconds, so that
 * 1000/s and 7/m come out exact enough over days.
 *
 * A quota's count and the hour in which its period began stand in one word, so that no thread ever
 * sees the one without the other: at the full hour nothing is lost and nothing counted twice.
 */
#include "tenant/limit.h"

/* Far ahead of any clock, and still far from an overflow. */
#define FAR_NS    (INT64_MAX / 4)

#define HOUR      (3600 * USEC_PER_SEC)
#define USED_BITS 40 /* 10^12 statements; the 24 bits left count hours since 1970 until 3883 */
#define USED_MAX  ((UINT64_C(1) << USED_BITS) - 1)

static int64_t interval_ns(const struct limit_rules *r)
{
	int64_t ns = r->rate_per * 1000 / (int64_t)r->rate_count;

	return ns > 0 ? ns : 1;
}

static uint64_t bucket_size(const struct limit_rules *r)
{
	return r->burst ? r->burst : r->rate_count;
}

static int64_t intervals_ns(const struct limit_rules *r, uint64_t n)
{
	int64_t ns;

	return __builtin_mul_overflow(interval_ns(r), n, &ns) || ns > FAR_NS ? FAR_NS : ns;
}

/* How far full_at may be ahead of now with one token left. */
static int64_t slack_ns(const struct limit_rules *r)
{
	return intervals_ns(r, bucket_size(r) - 1);
}

static bool take_rate(struct limit_state *s, const struct limit_rules *r, uint64_t n, usec_t now,
		      bool ask, usec_t *wait)
{
	int64_t now_ns = now * 1000, step = intervals_ns(r, n);
	int64_t seen = atomic_load_explicit(&s->full_at, memory_order_relaxed), base, next;

	do {
		base = seen > now_ns ? seen : now_ns;
		if (ask && base - now_ns > slack_ns(r)) {
			*wait = (base - now_ns - slack_ns(r) + 999) / 1000;
			return false;
		}
		next = base + step < FAR_NS ? base + step : FAR_NS;
	} while (!atomic_compare_exchange_weak_explicit(
	    &s->full_at, &seen, next, memory_order_relaxed, memory_order_relaxed));
	return true;
}

/* The hour in which the period of this time began. */
static uint64_t period_at(const struct limit_rules *r, usec_t wall)
{
	return (uint64_t)((wall - wall % r->quota_per) / HOUR);
}

static uint64_t period_in(uint64_t word)
{
	return word >> USED_BITS;
}

/* A count of an earlier period is none.  One of a later period is another thread's, whose clock was
 * read later, and counts. */
static uint64_t used_in(uint64_t word, uint64_t period)
{
	return period_in(word) < period ? 0 : word & USED_MAX;
}

static bool take_quota(struct limit_state *s, const struct limit_rules *r, uint64_t n, usec_t wall,
		       bool ask, usec_t *wait)
{
	uint64_t period = period_at(r, wall), seen = atomic_load(&s->quota), used, begun;

	do {
		used = used_in(seen, period);
		if (ask && used >= r->quota_count) {
			*wait = r->quota_per - wall % r->quota_per;
			return false;
		}
		begun = period_in(seen) > period ? period_in(seen) : period;
		used = n < USED_MAX - used ? used + n : USED_MAX;
	} while (!atomic_compare_exchange_weak(&s->quota, &seen, begun << USED_BITS | used));
	return true;
}

/* What was taken and not needed; too late for it in the next period. */
static void give_quota_back(struct limit_state *s, const struct limit_rules *r, uint64_t n,
			    usec_t wall)
{
	uint64_t period = period_at(r, wall), seen = atomic_load(&s->quota);

	while (period_in(seen) == period && (seen & USED_MAX) >= n &&
	       !atomic_compare_exchange_weak(&s->quota, &seen, seen - n))
		;
}

bool limit_take(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		struct limit_now now, usec_t *wait)
{
	*wait = 0;
	if (rules->quota_count && !take_quota(state, rules, n, now.wall, true, wait))
		return false;
	if (rules->rate_count && !take_rate(state, rules, n, now.monotonic, true, wait)) {
		if (rules->quota_count)
			give_quota_back(state, rules, n, now.wall);
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
	used = used_in(atomic_load(&state->quota), period_at(rules, now.wall));
	return used < rules->quota_count ? rules->quota_count - used : 0;
}
