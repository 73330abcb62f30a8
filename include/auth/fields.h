/* SPDX-License-Identifier: ISC
 *
 * fields.h - lines of fields, as in pg_hba.conf and pg_ident.conf.
 *
 * Source: PostgreSQL manual, "The pg_hba.conf File".  Fields stand between blanks, words of a field
 * between commas; in double quotes a word is only a word, and "" is one quote.  # begins a comment,
 * and a backslash at the end of a line joins it with the next.
 */
#ifndef PGT_AUTH_FIELDS_H
#define PGT_AUTH_FIELDS_H

#include "base/assert.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

#define FIELDS_MAX 24

struct word {
	char *text;
	bool is_quoted; /* from its first letter on: no keyword, no @file, no +group */
};

struct field {
	struct word *words; /* at least one */
	size_t n;
};

struct fields {
	struct field at[FIELDS_MAX];
	size_t n;
	int line; /* where they begin, from 1 */
};

/* Reads the next line that has any from *text; *line, 0 before the first, counts.  *fault: what is
 * wrong with it, or NULL.  False: there is none.  fields_fini() afterwards, whatever it says. */
bool fields_next(struct slice *text, int *line, struct fields *out,
		 const char **fault) PGT_MUST_USE;
void fields_fini(struct fields *fields);

/* Whether a field is this one word, not in quotes. */
bool field_is(const struct field *field, const char *keyword);
bool word_is(const struct word *word, const char *keyword);

#endif
