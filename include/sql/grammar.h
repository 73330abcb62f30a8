/* SPDX-License-Identifier: ISC
 *
 * grammar.h - whether PostgreSQL's own grammar proves that a text only reads.
 */
#ifndef PGT_SQL_GRAMMAR_H
#define PGT_SQL_GRAMMAR_H

#include "sql/catalog.h"

#include <stdbool.h>

#define SQL_WHY_MAX 240

/* True: every statement of the text is SELECT, VALUES, TABLE, SHOW, EXPLAIN or COPY … TO STDOUT
 * without a lock, a write in a CTE, INTO, a function that the catalog does not know as safe, or a
 * relation that only the primary may be asked for.  False: anything else, a text that does not
 * parse, or built without libpg_query.
 *
 * The text is NUL-terminated, was lexed cleanly with standard_conforming_strings on, and the
 * caller has bounded its length and nesting: libpg_query recurses with both (32 kB of the worst
 * shape needs less than 2 MB of stack).  Any thread; libpg_query's memory is the thread's own and
 * goes with it.
 *
 * What it cannot see: functions that a function of another language than SQL and PL/pgSQL calls,
 * and those that a text is put together for at run time.
 *
 * why: NULL, or what there is against it in a sentence, when there is. */
bool sql_grammar_proves_read(const char *text, const struct sql_catalog *catalog,
			     char why[SQL_WHY_MAX]);

#endif
