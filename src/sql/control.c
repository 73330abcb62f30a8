/* SPDX-License-Identifier: ISC
 *
 * control.c - what a text does to savepoints and to the channels that its session listens on.
 *
 * Knows the five statements that it looks for, in full: what has one more token than they may have
 * is left to the server to refuse.  Of all others it knows where they end.
 *
 * Source: PostgreSQL manual, SAVEPOINT, RELEASE, ROLLBACK TO, LISTEN, UNLISTEN, and appendix C for
 * the words that are no names.
 */
#include "sql/control.h"

#include "base/assert.h"
#include "sql/walk.h"

#include <string.h>

/* Words that PostgreSQL takes for no name: reserved, or for functions and types only. */
static const char *const no_names[] = {
	"all",
	"analyse",
	"analyze",
	"and",
	"any",
	"array",
	"as",
	"asc",
	"asymmetric",
	"authorization",
	"binary",
	"both",
	"case",
	"cast",
	"check",
	"collate",
	"collation",
	"column",
	"concurrently",
	"constraint",
	"create",
	"cross",
	"current_catalog",
	"current_date",
	"current_role",
	"current_schema",
	"current_time",
	"current_timestamp",
	"current_user",
	"default",
	"deferrable",
	"desc",
	"distinct",
	"do",
	"else",
	"end",
	"except",
	"false",
	"fetch",
	"for",
	"foreign",
	"freeze",
	"from",
	"full",
	"grant",
	"group",
	"having",
	"ilike",
	"in",
	"initially",
	"inner",
	"intersect",
	"into",
	"is",
	"isnull",
	"join",
	"lateral",
	"leading",
	"left",
	"like",
	"limit",
	"localtime",
	"localtimestamp",
	"natural",
	"not",
	"notnull",
	"null",
	"offset",
	"on",
	"only",
	"or",
	"order",
	"outer",
	"overlaps",
	"placing",
	"primary",
	"references",
	"returning",
	"right",
	"select",
	"session_user",
	"similar",
	"some",
	"symmetric",
	"system_user",
	"table",
	"tablesample",
	"then",
	"to",
	"trailing",
	"true",
	"union",
	"unique",
	"user",
	"using",
	"variadic",
	"verbose",
	"when",
	"where",
	"window",
	"with",
};

static bool may_be_name(const struct lex_token *t)
{
	if (t->kind == LEX_QUOTED)
		return t->inner.n && t->inner.n <= SQL_NAME_MAX;
	if (t->kind != LEX_WORD || t->text.n > SQL_NAME_MAX || !slice_is_ascii(t->text))
		return false;
	for (size_t i = 0; i < PGT_NELEMS(no_names); i++)
		if (slice_is_equal_nocase(t->text, slice_str(no_names[i])))
			return false;
	return true;
}

static bool take_name(struct walk *x, char name[SQL_NAME_MAX + 1])
{
	size_t n = 0;

	if (!may_be_name(&x->t) || !lex_decode(&x->t, name, SQL_NAME_MAX, &n) || !n)
		return false;
	/* Written in ASCII, and something else in the server's encoding. */
	if (x->t.uescape && !slice_is_ascii(slice_of(name, n)))
		return false;
	name[n] = '\0';
	walk_next(x);
	return true;
}

/* One of the five, from its first word on.  -1: it is none of them; 0: it looks like one, and its
 * form is not known. */
static int take_control(struct walk *x, struct sql_control *c)
{
	if (walk_take_word(x, "savepoint")) {
		c->kind = CONTROL_SAVEPOINT;
	} else if (walk_take_word(x, "release")) {
		c->kind = CONTROL_RELEASE;
		walk_take_word(x, "savepoint");
	} else if (walk_take_word(x, "listen")) {
		c->kind = CONTROL_LISTEN;
	} else if (walk_take_word(x, "unlisten")) {
		c->kind = walk_is_sign(x, '*') ? CONTROL_UNLISTEN_ALL : CONTROL_UNLISTEN;
	} else if (walk_take_word(x, "rollback")) {
		c->kind = CONTROL_ROLLBACK_TO;
		if (!walk_take_word(x, "work"))
			walk_take_word(x, "transaction");
		if (!walk_take_word(x, "to"))
			return -1;
		walk_take_word(x, "savepoint");
	} else {
		return -1;
	}
	if (c->kind == CONTROL_UNLISTEN_ALL)
		walk_next(x);
	else if (!take_name(x, c->name))
		return 0;
	return walk_is_at_end(x);
}

/* Leaves the end of the statement current.  False: its end is not where it seems to be. */
static bool skip_statement(struct walk *x)
{
	unsigned depth = 0;

	while (x->t.kind != LEX_END && (depth || !walk_is_at_end(x))) {
		depth += walk_is_sign(x, '(');
		depth -= depth && walk_is_sign(x, ')');
		if (walk_is_word(x, "atomic")) /* BEGIN ATOMIC has statements in it */
			return false;
		walk_next(x);
	}
	return true;
}

bool sql_controls(struct slice text, const struct sql_env *env, struct sql_control *out,
		  unsigned max, unsigned *n)
{
	struct walk x;
	unsigned statement = 0;

	*n = 0;
	walk_init(&x, text, env);
	while (x.t.kind != LEX_END) {
		struct sql_control c = { .statement = statement };
		int found;

		if (walk_is_sign(&x, ';')) {
			walk_next(&x);
			continue;
		}
		found = take_control(&x, &c);
		if (found == 0 || (found > 0 && *n == max))
			return false;
		if (found > 0)
			out[(*n)++] = c;
		else if (!skip_statement(&x))
			return false;
		statement++;
	}
	return !x.lex.unclean;
}
