/* SPDX-License-Identifier: ISC
 *
 * steady.h - whether a text does the same each time that it is run, and by whatever plan.
 *
 * An expression of parameters alone is computed when a plan is made for them, where it may fail
 * without a row being looked at (8 / $1).  Decides by tokens, so what it cannot tell is not steady.
 * Knows nothing of what a text means: that goes by the moment when it is parsed (moment.h), by
 * settings and by DDL, which are the caller's.  Pure.
 *
 * Sources: PostgreSQL manual, "PREPARE" (generic and custom plans); what a PostgreSQL 15 server
 * does with the texts of test/unit/test_steady.c.
 */
#ifndef PGT_SQL_STEADY_H
#define PGT_SQL_STEADY_H

#include "base/slice.h"
#include "sql/lex.h"

enum sql_steadiness {
	SQL_STEADINESS_UNKNOWN, /* not asked yet */
	SQL_UNSTEADY,
	SQL_STEADY_BY_PLAN, /* with a plan that is made for the parameters each time */
	SQL_STEADY,
};

/* Of a single SELECT, INSERT, UPDATE, DELETE or MERGE. */
enum sql_steadiness sql_steadiness(struct slice text, const struct lex_env *env);

#endif
