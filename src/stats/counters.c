/* SPDX-License-Identifier: ISC
 *
 * counters.c - the table of counters and their sum.
 */
#include "stats/counters.h"

const struct counter counters_table[NCOUNTERS] = {
#define X(name, unit, help)                                                                        \
	[COUNTER_##name] = { #name, unit, help, offsetof(struct counters, name) },
	COUNTERS(X)
#undef X
};

void counters_add(struct counters *sum, const struct counters *c)
{
#define X(name, unit, help) sum->name += c->name;
	COUNTERS(X)
#undef X
}
