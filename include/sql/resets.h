/* SPDX-License-Identifier: ISC
 *
 * resets.h - where a text takes settings back to what the session began with.
 */
#ifndef PGT_SQL_RESETS_H
#define PGT_SQL_RESETS_H

#include "base/slice.h"

#include <stdbool.h>
#include <stddef.h>

struct lex_env;

struct sql_reset {
	char name[64]; /* of the setting, in lower case; "": all of them */
	unsigned nth;  /* command of the text that is not empty, from 0 */
	size_t at, n;  /* the bytes in whose place the value stands in SET; n 0: none do */
	size_t end;    /* of the command */
	bool by_set;   /* SET … DEFAULT, or .in_call; else RESET */
	bool in_call;  /* set_config(…, NULL, …), whose value is a string */
	bool is_local; /* SET LOCAL */
};

#define SQL_RESETS_MAX 8

/* All of them in the text, in order; not what set_config() does by expressions or parameters.
 * False: there may be more. */
bool sql_find_resets(struct slice text, const struct lex_env *env,
		     struct sql_reset items[SQL_RESETS_MAX], unsigned *n);

#endif
