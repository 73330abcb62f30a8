/* SPDX-License-Identifier: ISC
 *
 * normal.h - a text that may be shown: what was asked, without what it was asked about.
 *
 * Literals of all spellings become question marks, comments go, white space is one blank.  What
 * cannot be read for certain is not shown at all.
 */
#ifndef PGT_SQL_NORMAL_H
#define PGT_SQL_NORMAL_H

#include "base/buf.h"
#include "sql/lex.h"

/* Bytes that are shown of one text. */
#define SQL_NORMAL_MAX 1024
#define SQL_NORMAL_ID  17

/* What is worth knowing of a shape beside its facts. */
struct sql_normal {
	char id[SQL_NORMAL_ID]; /* equal for equal texts, whatever their case and blanks */
	bool is_limited;        /* LIMIT, FETCH, or it locks what it reads */
	bool is_shown;          /* its end and its encoding are certain */
};

/* Appends it. */
void sql_normalise(struct slice text, const struct lex_env *env, struct sql_normal *normal,
		   struct buf *out);

#endif
