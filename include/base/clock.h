/* SPDX-License-Identifier: ISC
 *
 * clock.h - time as a scalar with a unit.
 *
 * The pure folders take the time as a parameter; only loops, threads and main read it.
 */
#ifndef PGT_BASE_CLOCK_H
#define PGT_BASE_CLOCK_H

#include <stdint.h>

/* Microseconds: of the monotonic clock where it is a point in time, else a duration. */
typedef int64_t usec_t;

#define USEC_PER_SEC  ((usec_t)1000000)
#define USEC_PER_MSEC ((usec_t)1000)

/* Monotonic, never steps. */
usec_t clock_monotonic(void);
/* Since 1970, may step; for what people read and for quotas by calendar hour. */
usec_t clock_wall(void);

#endif
