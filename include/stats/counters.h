/* SPDX-License-Identifier: ISC
 *
 * counters.h - plain counters, written by one thread and summed on demand.
 */
#ifndef PGT_STATS_COUNTERS_H
#define PGT_STATS_COUNTERS_H

#include "stats/counters.def"

#include <stddef.h>
#include <stdint.h>

struct counters {
#define X(name, unit, help) uint64_t name;
	COUNTERS(X)
#undef X
};

struct counter {
	const char *name;
	const char *unit;
	const char *help;
	size_t offset;
};

enum {
#define X(name, unit, help) COUNTER_##name,
	COUNTERS(X)
#undef X
	    NCOUNTERS
};

extern const struct counter counters_table[NCOUNTERS];

static inline uint64_t counter_get(const struct counters *c, const struct counter *which)
{
	return *(const uint64_t *)(const void *)((const char *)c + which->offset);
}

#endif
