/* SPDX-License-Identifier: ISC
 *
 * steady.c - whether a text does the same each time that it is run, and by whatever plan.
 */
#include "sql/steady.h"

#include <string.h>

/* Longer names are cut, each time with a notice. */
#define NAME_MAX_LEN 63
/* Parentheses that are followed. */
#define DEPTH_MAX 32

static bool is_among(const struct lex_token *t, const char *const *words)
{
	for (; t->kind == LEX_WORD && *words; words++)
		if (slice_is_equal_nocase(t->text, slice_str(*words)))
			return true;
	return false;
}

static bool is_sign(const struct lex_token *t, const char *sign)
{
	return t->kind == LEX_PUNCT && slice_is_equal(t->text, slice_str(sign));
}

/* ---- what is done each time ---------------------------------------------------------------------
 */

static bool is_steady_token(const struct lex_token *t)
{
	/* What a setting is for the rest of a batch. */
	if (slice_is_equal_nocase(t->inner, SLICE("set_config")))
		return false;
	return t->kind == LEX_STRING || t->text.n <= NAME_MAX_LEN;
}

/* ---- what depends on the plan
 * -------------------------------------------------------------------
 */

/* Where parameters stand. */
struct places {
	bool is_list[DEPTH_MAX]; /* of what a comparison is made with */
	unsigned depth;
	bool behind_param;
	bool all_compared;
};

static bool is_comparison(const struct lex_token *t)
{
	static const char *const signs[] = { "=", "<>", "!=", "<", ">", "<=", ">=" };

	for (size_t i = 0; t->kind == LEX_OP && i < sizeof(signs) / sizeof(*signs); i++)
		if (slice_is_equal(t->text, slice_str(signs[i])))
			return true;
	return false;
}

/* A comparison of a parameter does not fail. */
static bool may_stand_before(const struct places *p, const struct lex_token *t)
{
	static const char *const words[] = { "between", "and", "or",     "where",
					     "limit",   "on",  "offset", NULL };

	if (is_sign(t, "(") || is_sign(t, ","))
		return p->depth < DEPTH_MAX && p->is_list[p->depth];
	return is_comparison(t) || is_among(t, words);
}

static bool may_stand_behind(const struct lex_token *t)
{
	static const char *const words[] = { "at", "collate", "operator", NULL };

	return t->kind != LEX_OP && !is_sign(t, "[") && !is_sign(t, ".") && !is_sign(t, ":") &&
	       !is_among(t, words);
}

static void follow(struct places *p, const struct lex_token *before, const struct lex_token *t)
{
	static const char *const lists[] = { "in", "any", "some", "all", NULL };
	/* A value that is stored is made to fit. */
	static const char *const stores[] = { "set", "insert", "merge", NULL };

	if ((p->behind_param && !may_stand_behind(t)) || is_among(t, stores) ||
	    (t->kind == LEX_PARAM && !may_stand_before(p, before)))
		p->all_compared = false;
	p->behind_param = t->kind == LEX_PARAM;
	if (is_sign(t, "(") && ++p->depth < DEPTH_MAX)
		p->is_list[p->depth] = is_among(before, lists);
	if (is_sign(t, ")") && p->depth)
		p->depth--;
}

/* ---- a text ------------------------------------------------------------------------------------
 */

enum sql_steadiness sql_steadiness(struct slice text, const struct lex_env *env)
{
	static const char *const heads[] = { "select", "insert", "update", "delete", "merge",
					     "with",   "values", "table",  NULL };
	static const char *const stores[] = { "insert", "merge", NULL };
	static const char *const into[] = { "into", NULL };
	struct lex_token t, before = { .kind = LEX_END };
	struct places places = { .all_compared = true };
	bool stores_rows = false, has_params = false;
	struct lex lex;

	lex_init(&lex, text, env);
	while (lex_next_code(&lex, &t)) {
		stores_rows |= is_among(&t, stores);
		if ((before.kind == LEX_END && !is_among(&t, heads)) || !is_steady_token(&t) ||
		    is_sign(&before, ";") || (is_among(&t, into) && !stores_rows))
			return SQL_UNSTEADY;
		has_params |= t.kind == LEX_PARAM;
		follow(&places, &before, &t);
		before = t;
	}
	/* An escape is warned of, each time. */
	if (lex.unclean || before.kind == LEX_END || memchr(text.p, '\\', text.n))
		return SQL_UNSTEADY;
	return places.all_compared || !has_params ? SQL_STEADY : SQL_STEADY_BY_PLAN;
}
