/* SPDX-License-Identifier: ISC
 *
 * reasons.h - the words for why transactions went where they went, by the counter that has them.
 */
#ifndef PGT_ADMIN_REASONS_H
#define PGT_ADMIN_REASONS_H

struct route_text {
	const char *node;   /* primary or replica */
	const char *reason; /* in one word */
	unsigned counter;   /* of counters_table */
	const char *meaning;
};

/* Of a counter of SHOW ROUTES. */
const struct route_text *route_text_of(unsigned counter);

#endif
