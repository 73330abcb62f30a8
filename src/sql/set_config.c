/* SPDX-License-Identifier: ISC
 *
 * set_config.c - calls of set_config(): which setting they change, for how long, to what.
 *
 * Arguments that are more than a constant are scanned as any other tokens, so a call inside one is
 * found too, a few levels deep.
 */
#include "sql/parts.h"

#include "base/assert.h"

#define SET_CONFIG_IN 4 /* deeper is undecided */

struct arg {
	struct lex_token first;
	enum word w;
	bool is_single; /* one token, or one with a cast that changes nothing */
	size_t at, end; /* in the text */
};

/* The argument that begins at the current token; stops at its comma or closing parenthesis. */
static struct arg take_arg(struct scan *s, unsigned depth)
{
	struct arg a = {
		.first = s->t, .w = s->w, .at = scan_token_start(s), .end = scan_token_start(s)
	};
	bool cast = false, plain_type = false;
	unsigned n = 0;

	while (!scan_is_at_end(s) &&
	       !(s->depth == depth && (s->w == W_COMMA || s->w == W_CLOSE_PAREN))) {
		if (n == 1)
			cast = s->w == W_CAST;
		else if (n == 2)
			plain_type = slice_is_equal_nocase(s->t.text, SLICE("text")) ||
				     slice_is_equal_nocase(s->t.text, SLICE("boolean")) ||
				     slice_is_equal_nocase(s->t.text, SLICE("bool"));
		a.end = scan_token_end(s);
		scan_step(s);
		n++;
	}
	a.is_single = n == 1 || (n == 3 && cast && plain_type);
	return a;
}

static void note(struct scan *s, const struct setting_name *name)
{
	s->f->effects |= SQL_EFFECT_SET;
	if (name->failed)
		s->f->sets_unnamed = true;
	else
		setting_note(s, slice_of(name->text, name->n));
}

static void judge_set_config(struct scan *s, const struct arg arg[3])
{
	bool local = arg[2].is_single && arg[2].w == W_TRUE;
	bool params = !s->is_body && s->stmt != W_PREPARE;
	struct sql_change c = { .scope = local ? SCOPE_LOCAL : SCOPE_SESSION,
				.form = VALUE_UNKNOWN,
				.at = arg[1].at,
				.len = arg[1].end - arg[1].at };
	struct setting_name name = { .failed = !arg[0].is_single || arg[0].w != W_STRING };

	s->f->calls_set_config = true;
	if (!name.failed)
		setting_name_add(&name, &arg[0].first);
	if (!local)
		note(s, &name);
	if (name.failed)
		s->f->sets_path = true;
	else
		setting_see_path(s, slice_of(name.text, name.n));
	s->f->resets |= arg[1].is_single && arg[1].w == W_NULL;
	if (arg[0].is_single && arg[0].w == W_PARAM && params) {
		s->f->flags |= SQL_SETCONFIG_PARAM;
		c.what = CHANGE_BY_PARAM;
		c.name_param = (int)lex_param_number(&arg[0].first);
	} else if (name.failed) {
		s->f->flags |= SQL_SETCONFIG_DYNAMIC;
		return;
	} else if (!setting_is_guarded(s, &name, &c)) {
		return;
	}
	/* In a view, a default, a function: whoever comes across it runs it. */
	if (c.what == CHANGE_TENANT && (s->stmt == W_CREATE || s->stmt == W_ALTER))
		c.scope = SCOPE_CATALOG;
	if (arg[1].is_single && arg[1].w == W_STRING) {
		setting_value(&c, &arg[1].first, false);
	} else if (arg[1].is_single && arg[1].w == W_NULL) {
		c.form = VALUE_DEFAULT;
	} else if (arg[1].is_single && arg[1].w == W_PARAM && params) {
		c.form = VALUE_PARAM;
		c.param = (int)lex_param_number(&arg[1].first);
	}
	setting_add(s, &c);
}

/* From the name on. */
void set_config_take(struct scan *s)
{
	struct arg arg[3] = { 0 };
	unsigned depth;
	size_t n = 0;

	scan_next(s);
	if (s->w != W_OPEN || s->calls == SET_CONFIG_IN) {
		/* Named without a call, it may be made part of an aggregate. */
		s->f->flags |= SQL_SETCONFIG_DYNAMIC;
		s->f->sets_unnamed = true;
		return;
	}
	s->calls++;
	scan_step(s);
	depth = s->depth;
	do
		arg[n] = take_arg(s, depth);
	while (++n < PGT_NELEMS(arg) && scan_take(s, W_COMMA));
	s->calls--;
	judge_set_config(s, arg);
}
