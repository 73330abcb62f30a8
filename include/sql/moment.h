/* SPDX-License-Identifier: ISC
 *
 * moment.h - whether what a text means depends on when it is parsed.
 *
 * A server reads the literals of a text when it parses it: 'now'::timestamptz is a constant from
 * then on.  Pure; knows texts only.
 * Source: PostgreSQL manual, "Date/Time Input", special values; and what a PostgreSQL 15 server
 * does with the texts of test/unit/test_moment.c.
 */
#ifndef PGT_SQL_MOMENT_H
#define PGT_SQL_MOMENT_H

#include "sql/lex.h"

/* Whether a literal may stand for a moment.  True also where only the server can tell, since the
 * literal is spelled with escapes or in several parts. */
bool sql_tells_moment(struct slice text, const struct lex_env *env);

#endif
