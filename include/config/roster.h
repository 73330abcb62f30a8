/* SPDX-License-Identifier: ISC
 *
 * roster.h - the tenants that a database knows: what tenant_query has answered.
 *
 * A part of the config in force, beside those of the file, which win.  One thread fills it, row by
 * row; once it is part of a config, others look tenants up in it without a lock while that thread
 * adds those that are asked for singly.  Nothing ever leaves a roster: the next answer to the whole
 * query makes the next one.
 *
 * Pure: who asks the database is worker/tenant_source.h.
 */
#ifndef PGT_CONFIG_ROSTER_H
#define PGT_CONFIG_ROSTER_H

#include "config/config.h"

struct roster;

/* More than there can be: each only once. */
#define ROSTER_MAX_COLUMNS 32

/* What the columns of the query's answer mean. */
struct roster_columns {
	unsigned n;
	struct roster_column {
		enum { ROSTER_NAME, ROSTER_BUSINESS_ID, ROSTER_TIER, ROSTER_SETTING } what;
		const struct setting *setting;
	} at[ROSTER_MAX_COLUMNS];
};

/* False: *e says which name makes no sense, or is missing. */
bool roster_read_columns(struct roster_columns *columns, const struct slice *names, unsigned n,
			 struct err *e);

enum roster_verdict {
	ROSTER_TAKEN,
	ROSTER_KNOWN, /* it has the same tenant with the same id already */
	ROSTER_IN_FILE,
	ROSTER_REFUSED, /* *e says why */
};

struct roster *roster_new(void);
struct roster *roster_ref(struct roster *r);
/* NULL is allowed. */
void roster_unref(struct roster *r);

/* ---- the thread that fills it -----------------------------------------------------------------
 */

/* Takes one row; a value that is NULL has p == NULL.  config: whose tiers and tenants count; it, or
 * one that shares its lists, must outlive the roster's use. */
enum roster_verdict roster_take(struct roster *r, const struct config *config,
				const struct roster_columns *columns, const struct slice *values,
				struct err *e);

/* The same tenants beside another config: without those that it has in its file, and those whose
 * tier it does not know. */
struct roster *roster_copy(const struct roster *from, const struct config *config);

/* Whether both have the same tenants with the same terms, as answers to the whole query. */
bool roster_is_equal(const struct roster *a, const struct roster *b);

size_t roster_count(const struct roster *r);
const struct tenant_conf *roster_at(const struct roster *r, size_t i);
/* Those that were added one by one. */
size_t roster_singles(const struct roster *r);
/* From here on others may look things up. */
void roster_publish(struct roster *r);

/* ---- any thread: borrowed, NULL when there is none ---------------------------------------------
 */

const struct tenant_conf *roster_by_name(const struct roster *r, struct slice name);
const struct tenant_conf *roster_by_business_id(const struct roster *r, struct slice id);

#endif
