/* SPDX-License-Identifier: ISC
 *
 * limit.c - buckets and quotas of a tenant.
 *
 * full_at moves by one interval for each token taken.  A bucket of size B holds a token as long as
 * full_at is at most B - 1 intervals ahead of now.  Intervals are kept in nanoseconds, so that
 * 1000/s and 7/m come out exact enough over days.
 *
 * A quota's count and the hour in which its period began stand in one word, so that no thread ever
 * sees the one without the other: at the full hour nothing is lost and nothing counted twice.  Both
 * periods are counted where there is a quota for one, so that another setting finds the true count.
 */
#include "tenant/limit.h"

/* Far ahead of any clock, and still far from an overflow. */
#define FAR_NS    (INT64_MAX / 4)

#define HOUR      (3600 * USEC_PER_SEC)
#define USED_BITS 40 /* 10^12 statements; the 24 bits left count hours since 1970 until 3883 */
#define USED_MAX  ((UINT64_C(1) << USED_BITS) - 1)

static const usec_t period_len[LIMIT_NPERIODS] = {
	[LIMIT_PER_HOUR] = HOUR, [LIMIT_PER_DAY] = 24 * HOUR
};

const char *limit_name(enum limit_kind kind)
{
	static const char *const names[] = {
#define X(enumerator, name) name,
		LIMITS(X)
#undef X
	};

	return names[kind];
}

/* ---- buckets ----------------------------------------------------------------------------------
 */

/* The time in which n tokens come. */
static int64_t intervals_ns(const struct limit_bucket *b, uint64_t n)
{
	uint64_t per = (uint64_t)b->per * 1000, ns;

	if (__builtin_mul_overflow(n, per, &ns)) {
		if (__builtin_mul_overflow(n, per / b->count, &ns))
			return FAR_NS;
	} else {
		ns /= b->count;
	}
	return ns < FAR_NS ? (int64_t)ns : FAR_NS;
}

static uint64_t bucket_size(const struct limit_bucket *b)
{
	return b->size ? b->size : b->count;
}

/* How far full_at may be ahead of now with one token left. */
static int64_t slack_ns(const struct limit_bucket *b)
{
	return intervals_ns(b, bucket_size(b) - 1);
}

/* How much longer it takes until there is one token; 0: there is. */
static int64_t missing_ns(int64_t full_at, const struct limit_bucket *b, int64_t now_ns)
{
	int64_t ahead = full_at - now_ns, slack = slack_ns(b);

	return ahead > slack ? ahead - slack : 0;
}

static bool take(_Atomic int64_t *full_at, const struct limit_bucket *b, uint64_t n, usec_t now,
		 bool ask, usec_t *wait)
{
	int64_t now_ns = now * 1000, step = intervals_ns(b, n), missing, base, next;
	int64_t seen = atomic_load_explicit(full_at, memory_order_relaxed);

	do {
		missing = ask ? missing_ns(seen, b, now_ns) : 0;
		if (missing) {
			*wait = (missing + 999) / 1000;
			return false;
		}
		base = seen > now_ns ? seen : now_ns;
		next = base + step < FAR_NS ? base + step : FAR_NS;
	} while (!atomic_compare_exchange_weak_explicit(full_at, &seen, next, memory_order_relaxed,
							memory_order_relaxed));
	return true;
}

/* A limit that comes or goes leaves a full bucket. */
static void rescale(_Atomic int64_t *full_at, const struct limit_bucket *old,
		    const struct limit_bucket *new, usec_t now)
{
	int64_t seen = atomic_load(full_at), next;

	if (old->count == new->count && old->per == new->per)
		return;
	do {
		double ahead = (double)(seen - now * 1000);
		double taken = old->count ? ahead * (double)old->count / (double)old->per : 0;
		double then = new->count ? taken *(double)new->per / (double)new->count : 0;

		next = then <= 0                              ? 0
		       : then < (double)(FAR_NS - now * 1000) ? now * 1000 + (int64_t)then
							      : FAR_NS;
	} while (!atomic_compare_exchange_weak(full_at, &seen, next));
}

bool limit_owes(const struct limit_state *state, usec_t now)
{
	return state->full_at > now * 1000 || state->exec_full_at > now * 1000 ||
	       state->bytes_full_at > now * 1000;
}

void limit_rescale(struct limit_state *state, const struct limit_rules *old,
		   const struct limit_rules *new, usec_t now)
{
	rescale(&state->full_at, &old->rate, &new->rate, now);
	rescale(&state->exec_full_at, &old->exec, &new->exec, now);
	rescale(&state->bytes_full_at, &old->bytes, &new->bytes, now);
}

usec_t limit_wait(int64_t full_at, const struct limit_bucket *bucket, usec_t now)
{
	return bucket->count ? (missing_ns(full_at, bucket, now * 1000) + 999) / 1000 : 0;
}

int64_t limit_tokens(int64_t full_at, const struct limit_bucket *bucket, usec_t now)
{
	double ahead = (double)(full_at - now * 1000), missing;
	int64_t whole;

	if (!bucket->count)
		return INT64_MAX;
	if (ahead <= 0)
		return (int64_t)bucket_size(bucket);
	missing = ahead * (double)bucket->count / ((double)bucket->per * 1000);
	whole = (int64_t)missing;
	return (int64_t)bucket_size(bucket) - whole - ((double)whole < missing);
}

/* ---- quotas -----------------------------------------------------------------------------------
 */

uint64_t limit_period_begin(enum limit_period period, usec_t wall)
{
	return (uint64_t)((wall - wall % period_len[period]) / HOUR);
}

usec_t limit_period_left(enum limit_period period, usec_t wall)
{
	return period_len[period] - wall % period_len[period];
}

static uint64_t period_in(uint64_t word)
{
	return word >> USED_BITS;
}

/* The period that a count is kept in, for one who is in the period that has this begin: the same,
 * or the next one, where another thread was whose clock was read later.  What was counted further
 * ahead was by a clock that has been put right since. */
static uint64_t period_of(uint64_t word, enum limit_period period, uint64_t begin)
{
	uint64_t next = begin + (uint64_t)(period_len[period] / HOUR);

	return period_in(word) == next ? next : begin;
}

static uint64_t used_in(uint64_t word, enum limit_period period, uint64_t begin)
{
	return period_in(word) == period_of(word, period, begin) ? word & USED_MAX : 0;
}

/* max 0: without asking. */
static bool take_quota(_Atomic uint64_t *word, enum limit_period period, uint64_t begin,
		       uint64_t max, uint64_t n)
{
	uint64_t seen = atomic_load(word), used, begun;

	do {
		used = used_in(seen, period, begin);
		if (max && used >= max)
			return false;
		begun = period_of(seen, period, begin);
		used = n < USED_MAX - used ? used + n : USED_MAX;
	} while (!atomic_compare_exchange_weak(word, &seen, begun << USED_BITS | used));
	return true;
}

/* What was taken and not needed; too late for it in the next period. */
static void give_quota_back(_Atomic uint64_t *word, uint64_t period, uint64_t n)
{
	uint64_t seen = atomic_load(word);

	while (period_in(seen) == period && (seen & USED_MAX) >= n &&
	       !atomic_compare_exchange_weak(word, &seen, seen - n))
		;
}

/* The first n periods. */
static void give_quotas_back(struct limit_state *s, unsigned periods, uint64_t n, usec_t wall)
{
	for (unsigned p = 0; p < periods; p++)
		give_quota_back(&s->used[p], limit_period_begin(p, wall), n);
}

static bool take_quotas(struct limit_state *s, const struct limit_rules *r, uint64_t n, usec_t wall,
			bool ask, struct limit_refusal *why)
{
	for (unsigned p = 0; p < LIMIT_NPERIODS; p++) {
		if (take_quota(&s->used[p], p, limit_period_begin(p, wall), ask ? r->quota[p] : 0,
			       n))
			continue;
		give_quotas_back(s, p, n, wall);
		*why = (struct limit_refusal){ LIMIT_HOUR + p, limit_period_left(p, wall) };
		return false;
	}
	return true;
}

uint64_t limit_quota_used(const struct limit_state *state, enum limit_period period, usec_t wall)
{
	return used_in(atomic_load(&state->used[period]), period, limit_period_begin(period, wall));
}

uint64_t limit_quota_left(const struct limit_state *state, const struct limit_rules *rules,
			  usec_t wall)
{
	uint64_t least = UINT64_MAX;

	for (unsigned p = 0; p < LIMIT_NPERIODS; p++) {
		uint64_t used = limit_quota_used(state, p, wall), max = rules->quota[p];
		uint64_t left = used < max ? max - used : 0;

		if (max && left < least)
			least = left;
	}
	return least;
}

void limit_restore(struct limit_state *state, enum limit_period period, uint64_t begin,
		   uint64_t used)
{
	atomic_store(&state->used[period],
		     begin << USED_BITS | (used < USED_MAX ? used : USED_MAX));
}

/* ---- all of them ------------------------------------------------------------------------------
 */

bool limit_has_quota(const struct limit_rules *rules)
{
	return rules->quota[LIMIT_PER_HOUR] || rules->quota[LIMIT_PER_DAY];
}

bool limit_is_any(const struct limit_rules *rules)
{
	return rules->rate.count || rules->exec.count || rules->bytes.count ||
	       limit_has_quota(rules);
}

/* Of what is charged afterwards. */
static bool is_in_debt(const _Atomic int64_t *full_at, const struct limit_bucket *b, usec_t now,
		       enum limit_kind kind, struct limit_refusal *why)
{
	usec_t wait = limit_wait(atomic_load_explicit(full_at, memory_order_relaxed), b, now);

	if (wait)
		*why = (struct limit_refusal){ kind, wait };
	return wait != 0;
}

bool limit_take(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		struct limit_now now, struct limit_refusal *why)
{
	bool has_quota = limit_has_quota(rules);

	*why = (struct limit_refusal){ .kind = LIMIT_RATE };
	if (is_in_debt(&state->exec_full_at, &rules->exec, now.monotonic, LIMIT_EXEC, why) ||
	    is_in_debt(&state->bytes_full_at, &rules->bytes, now.monotonic, LIMIT_BYTES, why))
		return false;
	if (has_quota && !take_quotas(state, rules, n, now.wall, true, why))
		return false;
	if (!rules->rate.count ||
	    take(&state->full_at, &rules->rate, n, now.monotonic, true, &why->wait))
		return true;
	if (has_quota)
		give_quotas_back(state, LIMIT_NPERIODS, n, now.wall);
	return false;
}

void limit_charge(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
		  struct limit_now now)
{
	struct limit_refusal why;

	if (limit_has_quota(rules))
		take_quotas(state, rules, n, now.wall, false, &why);
	if (rules->rate.count)
		take(&state->full_at, &rules->rate, n, now.monotonic, false, &why.wait);
}

void limit_charge_exec(struct limit_state *state, const struct limit_rules *rules, usec_t used,
		       usec_t now)
{
	usec_t wait;

	if (rules->exec.count && used > 0)
		take(&state->exec_full_at, &rules->exec, (uint64_t)used, now, false, &wait);
}

void limit_charge_bytes(struct limit_state *state, const struct limit_rules *rules, uint64_t n,
			usec_t now)
{
	usec_t wait;

	if (rules->bytes.count && n)
		take(&state->bytes_full_at, &rules->bytes, n, now, false, &wait);
}
