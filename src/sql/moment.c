/* SPDX-License-Identifier: ISC
 *
 * moment.c - whether what a text means depends on when it is parsed.
 */
#include "sql/moment.h"

#include "base/assert.h"

#include <string.h>

static bool has_nocase(struct slice text, struct slice word)
{
	for (size_t i = 0; i + word.n <= text.n; i++)
		if (slice_is_equal_nocase(slice_of(text.p + i, word.n), word))
			return true;
	return false;
}

static bool has(struct slice text, char byte)
{
	return text.n && memchr(text.p, byte, text.n);
}

/* What is between the quotes is not what it says. */
static bool is_spelled_otherwise(const struct lex_token *t)
{
	bool has_parts = has(t->inner, '\'') && (has(t->inner, '\n') || has(t->inner, '\r'));

	return (t->backslash && has(t->inner, '\\')) || (t->uescape && has(t->inner, t->uescape)) ||
	       (!t->dollar && has_parts);
}

bool sql_tells_moment(struct slice text, const struct lex_env *env)
{
	static const char *const moments[] = { "now", "today", "tomorrow", "yesterday" };
	struct lex_token t;
	struct lex lex;

	lex_init(&lex, text, env);
	while (lex_next_code(&lex, &t)) {
		if (t.kind != LEX_STRING)
			continue;
		if (is_spelled_otherwise(&t))
			return true;
		for (size_t i = 0; i < PGT_NELEMS(moments); i++)
			if (has_nocase(t.inner, slice_str(moments[i])))
				return true;
	}
	return false;
}
