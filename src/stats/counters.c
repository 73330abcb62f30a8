/* SPDX-License-Identifier: ISC
 *
 * counters.c - the table of counters.
 */
#include "stats/counters.h"

const struct counter counters_table[NCOUNTERS] = {
#define X(name, unit, help)                                                                        \
	[COUNTER_##name] = { #name, unit, help, offsetof(struct counters, name) },
	COUNTERS(X)
#undef X
};
