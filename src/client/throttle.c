/* SPDX-License-Identifier: ISC
 *
 * throttle.c - addresses that have failed to prove who they are, and how long they have to wait.
 *
 * Does not know what a proof is, nor who exists.
 */
#include "client/throttle.h"

#include "base/hash.h"

#include <pthread.h>
#include <string.h>

/* Rows are looked for in one set only. */
#define SETS          512
#define WAYS          8

#define BACKOFF_FIRST USEC_PER_SEC
/* Of an address, in those of one user. */
#define ADDRESS_FACTOR 10

struct row {
	struct throttle_facts facts;
	usec_t forget_at; /* it is empty then */
};

static struct {
	pthread_mutex_t lock;
	struct row rows[SETS][WAYS];
} throttle = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Longer names are one if they begin alike. */
static struct slice name_of(struct slice user)
{
	return slice_of(user.p, user.n < THROTTLE_USER_MAX ? user.n : THROTTLE_USER_MAX - 1);
}

static struct row *set_of(uint64_t origin, struct slice user)
{
	uint64_t hash = hash_more(hash_bytes(&origin, sizeof(origin)), user.p, user.n);

	return throttle.rows[hash % SETS];
}

static struct row *find(uint64_t origin, struct slice user, usec_t now)
{
	struct row *set = set_of(origin, user);

	for (unsigned i = 0; i < WAYS; i++)
		if (now < set[i].forget_at && set[i].facts.origin == origin &&
		    slice_is_equal(slice_str(set[i].facts.user), user))
			return &set[i];
	return NULL;
}

/* Whether it makes room before another: the empty one, or who has failed least, and longest ago. */
static bool goes_before(const struct row *a, const struct row *b, usec_t now)
{
	if (now >= a->forget_at || now >= b->forget_at)
		return now >= a->forget_at;
	if (a->facts.failures != b->facts.failures)
		return a->facts.failures < b->facts.failures;
	return a->facts.last < b->facts.last;
}

static struct row *find_or_add(uint64_t origin, struct slice user, usec_t now)
{
	struct row *row = find(origin, user, now);
	struct row *set = set_of(origin, user);

	if (row)
		return row;
	row = set;
	for (unsigned i = 1; i < WAYS; i++)
		if (goes_before(&set[i], row, now))
			row = &set[i];
	*row = (struct row){ .facts = { .origin = origin } };
	memcpy(row->facts.user, user.p, user.n);
	return row;
}

static usec_t backoff(unsigned above, usec_t max)
{
	usec_t wait = BACKOFF_FIRST << (above < 30 ? above : 30);

	return wait < max ? wait : max;
}

/* How often it has, now. */
static unsigned fail(uint64_t origin, struct slice user, unsigned allowed, usec_t backoff_max,
		     usec_t now)
{
	struct row *row = find_or_add(origin, user, now);
	struct throttle_facts *f = &row->facts;

	f->failures++;
	f->last = now;
	if (f->failures >= allowed)
		f->until = now + backoff(f->failures - allowed, backoff_max);
	/* Not sooner than the next one could be made, many times. */
	row->forget_at = now + 2 * (backoff_max > BACKOFF_FIRST ? backoff_max : BACKOFF_FIRST);
	return f->failures;
}

bool throttle_fail(uint64_t origin, struct slice user, const struct throttle_limits *limits,
		   usec_t now)
{
	unsigned of_address_max = ADDRESS_FACTOR * limits->failures;
	unsigned of_user, of_address = 0;

	pthread_mutex_lock(&throttle.lock);
	of_user = fail(origin, name_of(user), limits->failures, limits->backoff_max, now);
	/* Who goes on for ever with one old password keeps no other user out. */
	if (of_user <= limits->failures && !limits->spares_address)
		of_address = fail(origin, SLICE(""), of_address_max, limits->backoff_max, now);
	pthread_mutex_unlock(&throttle.lock);
	return of_user == limits->failures || of_address == of_address_max;
}

static usec_t wait_of(uint64_t origin, struct slice user, usec_t now)
{
	struct row *row = find(origin, user, now);

	if (!row || now >= row->facts.until)
		return 0;
	row->facts.refused++;
	return row->facts.until - now;
}

usec_t throttle_wait(uint64_t origin, struct slice user, const struct throttle_limits *limits,
		     usec_t now)
{
	usec_t of_user, of_address = 0;

	pthread_mutex_lock(&throttle.lock);
	of_user = wait_of(origin, name_of(user), now);
	if (!limits->spares_address)
		of_address = wait_of(origin, SLICE(""), now);
	pthread_mutex_unlock(&throttle.lock);
	return of_user > of_address ? of_user : of_address;
}

void throttle_forget_all(void)
{
	pthread_mutex_lock(&throttle.lock);
	memset(throttle.rows, 0, sizeof(throttle.rows));
	pthread_mutex_unlock(&throttle.lock);
}

void throttle_each(usec_t now, void (*visit)(void *arg, const struct throttle_facts *facts),
		   void *arg)
{
	pthread_mutex_lock(&throttle.lock);
	for (unsigned i = 0; i < SETS * WAYS; i++) {
		const struct row *row = &throttle.rows[i / WAYS][i % WAYS];

		if (now < row->forget_at)
			visit(arg, &row->facts);
	}
	pthread_mutex_unlock(&throttle.lock);
}
