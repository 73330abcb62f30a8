/* SPDX-License-Identifier: ISC
 *
 * failpoint.h - places where a test can let something fail that hardly ever does.
 *
 * Only in a build that was configured with --enable-failpoints, and there only where the
 * environment asks for it; in any other build nothing is left of it.  Knows the names of
 * failpoints.def, not what stands at them.
 *
 *     PGT_FAILPOINTS='send_short:3 recv_again:20 seed:7'
 *
 * lets every third send() on average take some of the bytes only, and so on.  At its end the
 * process says on stderr how often each has been passed and has failed.
 */
#ifndef PGT_BASE_FAILPOINT_H
#define PGT_BASE_FAILPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef PGT_FAILPOINTS
#include "base/failpoints.def"

#define FAILPOINT_ENUM(name, text) FAILPOINT_##name,
enum failpoint { FAILPOINTS(FAILPOINT_ENUM) FAILPOINT_COUNT };
#undef FAILPOINT_ENUM

/* Reads the environment.  False: it names what is not there, or no number; says so on stderr. */
bool failpoints_begin(void);
/* Any thread, for all of these.  Whether it fails this time. */
bool failpoint_fails(enum failpoint which);
/* The same, and sets errno then. */
bool failpoint_fails_with(enum failpoint which, int error);
/* n, or when it fails a part of that. */
size_t failpoint_cut(enum failpoint which, size_t n);
/* 1 to n - 1; of 1, that. */
size_t failpoint_part(size_t n);
/* Sleeps for some milliseconds when it fails. */
void failpoint_delay(enum failpoint which);

/* What is to be added to the time of the wall clock, in microseconds: another each time it fails.
 */
int64_t failpoint_shift(enum failpoint which);

/* Behind the version. */
#define FAILPOINTS_NOTE              " with failpoints, not for production"

#define FAILPOINT_FAILS(name, error) failpoint_fails_with(FAILPOINT_##name, error)
#define FAILPOINT_CUT(name, n)       failpoint_cut(FAILPOINT_##name, n)
#define FAILPOINT_PART(n)            failpoint_part(n)
#define FAILPOINT_DELAY(name)        failpoint_delay(FAILPOINT_##name)
#define FAILPOINT_SHIFT(name)        failpoint_shift(FAILPOINT_##name)
#else
static inline bool failpoints_begin(void)
{
	return true;
}

#define FAILPOINTS_NOTE              ""

#define FAILPOINT_FAILS(name, error) false
#define FAILPOINT_CUT(name, n)       (n)
#define FAILPOINT_PART(n)            (n)
#define FAILPOINT_DELAY(name)        ((void)0)
#define FAILPOINT_SHIFT(name)        0
#endif

#endif
