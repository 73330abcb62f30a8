/* SPDX-License-Identifier: ISC
 *
 * walk.h - a text token by token, comments left out, for those who know a few statements in full.
 */
#ifndef PGT_SQL_WALK_H
#define PGT_SQL_WALK_H

#include "sql/lex.h"
#include "sql/scan.h"

struct walk {
	struct lex lex;
	struct lex_token t; /* the current one, never a comment */
};

static inline void walk_next(struct walk *x)
{
	do
		lex_next(&x->lex, &x->t);
	while (x->t.kind == LEX_COMMENT);
}

/* The first token is current. */
static inline void walk_init(struct walk *x, struct slice text, const struct sql_env *env)
{
	lex_init(&x->lex, text, &(struct lex_env){ env->standard_strings, env->ascii_safe });
	walk_next(x);
}

static inline bool walk_is_word(const struct walk *x, const char *word)
{
	return x->t.kind == LEX_WORD && slice_is_equal_nocase(x->t.text, slice_str(word));
}

static inline bool walk_take_word(struct walk *x, const char *word)
{
	if (!walk_is_word(x, word))
		return false;
	walk_next(x);
	return true;
}

static inline bool walk_is_sign(const struct walk *x, char sign)
{
	return (x->t.kind == LEX_PUNCT || x->t.kind == LEX_OP) && x->t.text.n == 1 &&
	       *x->t.text.p == sign;
}

static inline bool walk_take_sign(struct walk *x, char sign)
{
	if (!walk_is_sign(x, sign))
		return false;
	walk_next(x);
	return true;
}

/* Of the statement. */
static inline bool walk_is_at_end(const struct walk *x)
{
	return x->t.kind == LEX_END || walk_is_sign(x, ';');
}

#endif
