/* SPDX-License-Identifier: ISC
 *
 * failpoint.c - places where a test can let something fail, and how often.
 *
 * Written when the process starts and only counted from then on, so that no thread waits for
 * another.  Each thread draws for itself: with one worker, the same seed gives the same failures
 * for the same requests.
 */
#include "base/failpoint.h"

#ifdef PGT_FAILPOINTS
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DELAY_MAX_NSEC 3000000
#define SHIFT_MAX_USEC 7200000000LL

static struct {
	const char *name;
	unsigned one_in; /* 0: never */
	atomic_ullong passed, failed;
} points[] = {
#define FAILPOINT_ROW(word, text) { .name = #word },
	FAILPOINTS(FAILPOINT_ROW)
#undef FAILPOINT_ROW
};

static uint64_t seed = 1;
static atomic_uint threads;

static uint64_t draw(void)
{
	static _Thread_local uint64_t state;

	if (!state)
		state = (seed + 1) * 0x9e3779b97f4a7c15u + atomic_fetch_add(&threads, 1);
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state >> 16;
}

static void report(void)
{
	for (size_t i = 0; i < FAILPOINT_COUNT; i++)
		if (points[i].one_in)
			fprintf(stderr, "failpoint %s: %llu of %llu\n", points[i].name,
				atomic_load(&points[i].failed), atomic_load(&points[i].passed));
}

static bool set(const char *name, unsigned n)
{
	if (!strcmp(name, "seed")) {
		seed = n;
		return true;
	}
	for (size_t i = 0; i < FAILPOINT_COUNT; i++) {
		if (strcmp(name, points[i].name) != 0)
			continue;
		points[i].one_in = n;
		return true;
	}
	return false;
}

bool failpoints_begin(void)
{
	const char *at = getenv("PGT_FAILPOINTS");
	int len;

	if (!at || !*at)
		return true;
	for (; *at; at += len) {
		char name[32];
		unsigned n;

		if (sscanf(at, "%31[a-z_]:%u%n", name, &n, &len) != 2 || !set(name, n)) {
			fprintf(stderr, "PGT_FAILPOINTS: not a failpoint: %s\n", at);
			return false;
		}
		len += (int)strspn(at + len, " ");
	}
	return atexit(report) == 0;
}

bool failpoint_fails(enum failpoint which)
{
	if (!points[which].one_in)
		return false;
	atomic_fetch_add(&points[which].passed, 1);
	if (draw() % points[which].one_in != 0)
		return false;
	atomic_fetch_add(&points[which].failed, 1);
	return true;
}

bool failpoint_fails_with(enum failpoint which, int error)
{
	if (!failpoint_fails(which))
		return false;
	errno = error;
	return true;
}

size_t failpoint_part(size_t n)
{
	return n > 1 ? 1 + draw() % (n - 1) : n;
}

size_t failpoint_cut(enum failpoint which, size_t n)
{
	return n > 1 && failpoint_fails(which) ? failpoint_part(n) : n;
}

void failpoint_delay(enum failpoint which)
{
	if (failpoint_fails(which))
		nanosleep(&(struct timespec){ .tv_nsec = (long)(draw() % DELAY_MAX_NSEC) }, NULL);
}

int64_t failpoint_shift(enum failpoint which)
{
	static atomic_llong shift;

	if (failpoint_fails(which))
		atomic_store(&shift, (long long)(draw() % (2 * SHIFT_MAX_USEC)) - SHIFT_MAX_USEC);
	return atomic_load(&shift);
}
#else
/* A file has to declare something. */
extern int failpoints_are_not_in_this_build;
#endif
