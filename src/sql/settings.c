/* SPDX-License-Identifier: ISC
 *
 * settings.c - guarded settings: their names and values in SET and RESET, and where else they are
 * spelled.
 */
#include "sql/parts.h"

#include "base/assert.h"
#include "sql/ascii.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
	struct slice name;
	int what;
} guarded[] = {
	{{ "statement_timeout", 17 },            CHANGE_STATEMENT_TIMEOUT},
	{ { "standard_conforming_strings", 27 }, CHANGE_STANDARD_STRINGS },
	{ { "client_encoding", 15 },             CHANGE_CLIENT_ENCODING  },
};

static const struct slice read_only_settings[] = {
	{"transaction_read_only",          21},
	{ "default_transaction_read_only", 29},
};

/* Settings' names are the same in any case, quoted or not: parts are joined before they are looked
 * up, so "app.x" is app.x. */
void setting_name_add(struct setting_name *n, const struct lex_token *t)
{
	size_t len = 0;

	if (!lex_decode(t, n->text + n->n, sizeof(n->text) - n->n, &len))
		n->failed = true;
	for (size_t i = n->n; i < n->n + len; i++)
		n->text[i] = ascii_lower(n->text[i]);
	n->n += len;
}

/* part { . part }, leaves the token behind it current. */
struct setting_name setting_name_take(struct scan *s)
{
	struct setting_name n = { .n = 0 };

	for (;;) {
		if (scan_is_name(s))
			setting_name_add(&n, &s->t);
		else
			n.failed = true;
		if (n.failed)
			return n;
		scan_next(s);
		if (s->w != W_DOT)
			return n;
		if (n.n < sizeof(n.text))
			n.text[n.n++] = '.';
		scan_next(s);
	}
}

/* The change's kind by the setting's name; false: not guarded. */
bool setting_is_guarded(struct scan *s, const struct setting_name *n, struct sql_change *c)
{
	struct slice name = slice_of(n->text, n->n);

	for (size_t i = 0; i < PGT_NELEMS(read_only_settings); i++)
		if (slice_is_equal(name, read_only_settings[i]))
			s->f->flags |= SQL_SETS_READ_ONLY;
	for (size_t i = 0; i < PGT_NELEMS(guarded); i++)
		if (slice_is_equal(name, guarded[i].name)) {
			c->what = guarded[i].what;
			return true;
		}
	c->what = CHANGE_TENANT;
	return setting_last_part(s).n && slice_is_equal(name, slice_str(s->env->tenant_setting));
}

void setting_add(struct scan *s, const struct sql_change *c)
{
	if (s->f->nchanges == SQL_CHANGES_MAX)
		s->f->too_many_changes = true;
	else
		s->f->changes[s->f->nchanges++] = *c;
}

const char *const sql_meaning_settings[] = {
	"search_path",
	"role",
	"session_authorization",
	"datestyle",
	"timezone",
	"intervalstyle",
	"bytea_output",
	"extra_float_digits",
	"lc_monetary",
	"array_nulls",
	"xmloption",
	"backslash_quote",
	"transform_null_equals",
	NULL,
};

void setting_see_path(struct scan *s, struct slice name)
{
	for (size_t i = 0; sql_meaning_settings[i]; i++)
		s->f->sets_path |= slice_is_equal(name, slice_str(sql_meaning_settings[i]));
}

void setting_note(struct scan *s, struct slice name)
{
	struct sql_facts *f = s->f;

	if (slice_is_equal(name, SLICE("seed"))) {
		f->effects |= SQL_EFFECT_SEED;
		return;
	}
	/* Those of the transaction are given with SET as well, and are over with it. */
	if (slice_starts_with(name, SLICE("transaction_"))) {
		f->sets_many = true;
		return;
	}
	/* It takes the role with it. */
	f->sets_many |= slice_is_equal(name, SLICE("session_authorization"));
	if (f->settings_len + name.n + 1 > sizeof(f->settings)) {
		f->sets_unnamed = true;
		return;
	}
	memcpy(f->settings + f->settings_len, name.p, name.n);
	f->settings[f->settings_len + name.n] = '\0';
	f->settings_len += (unsigned)name.n + 1;
}

/* The server prints integers, so 042 is 42; a number that is no int4 stays as it is spelled. */
static void set_number(struct sql_change *c, struct slice text, bool negative)
{
	const char *sign = negative ? "-" : "";
	int64_t integer = 0;
	int n;

	for (size_t i = 0; i < text.n && integer <= INT32_MAX; i++) {
		bool is_digit = text.p[i] >= '0' && text.p[i] <= '9';

		integer = is_digit ? integer * 10 + (text.p[i] - '0') : INT64_MAX;
	}
	if (integer <= INT32_MAX)
		n = snprintf(c->value, sizeof(c->value), "%s%" PRId64, sign, integer);
	else if (text.n < sizeof(c->value))
		n = snprintf(c->value, sizeof(c->value), "%s%.*s", sign, SLICE_FMT(text));
	else
		n = sizeof(c->value);
	c->value_fits = (size_t)n < sizeof(c->value);
}

void setting_value(struct sql_change *c, const struct lex_token *t, bool negative)
{
	size_t n = 0;

	c->form = VALUE_LITERAL;
	if (t->kind == LEX_NUMBER) {
		set_number(c, t->text, negative);
	} else {
		c->value_fits = lex_decode(t, c->value, sizeof(c->value) - 1, &n);
		c->value[c->value_fits ? n : 0] = '\0';
	}
}

/* DEFAULT, or constants with commas between them. */
void setting_value_take(struct scan *s, struct sql_change *c)
{
	unsigned n = 0;

	c->form = VALUE_UNKNOWN;
	c->at = scan_token_start(s);
	do {
		bool negative = s->w == W_OPERATOR && *s->t.text.p == '-';

		if (s->w == W_OPERATOR)
			scan_next(s);
		if (scan_is_at_end(s) || s->t.kind == LEX_PUNCT)
			break;
		s->f->resets |= s->w == W_DEFAULT;
		if (s->w == W_DEFAULT)
			c->form = VALUE_DEFAULT;
		else if (s->t.kind != LEX_PARAM && s->t.kind != LEX_OP && s->t.kind != LEX_BITS)
			setting_value(c, &s->t, negative);
		c->len = scan_token_end(s) - c->at;
		scan_next(s);
		n++;
	} while (scan_take(s, W_COMMA));
	if (n != 1) {
		c->form = VALUE_UNKNOWN;
		c->value_fits = false;
		c->value[0] = '\0';
	}
}

void setting_mark_undecided(struct scan *s)
{
	if (setting_last_part(s).n)
		s->f->flags |= SQL_GUARD_UNDECIDED;
}

void setting_see_execute(struct scan *s)
{
	if (scan_peek_is_ours(s))
		setting_mark_undecided(s);
}

/* name {TO | =} value, or name FROM CURRENT. */
void setting_take(struct scan *s, int scope)
{
	struct sql_change c = { .scope = scope };
	struct setting_name name = setting_name_take(s);

	if (name.failed)
		setting_mark_undecided(s);
	else if (scope != SCOPE_CATALOG)
		setting_see_path(s, slice_of(name.text, name.n));
	if (scope == SCOPE_SESSION && name.failed)
		s->f->sets_unnamed = true;
	else if (scope == SCOPE_SESSION)
		setting_note(s, slice_of(name.text, name.n));
	if (!name.failed && !setting_is_guarded(s, &name, &c))
		return;
	if (scan_take(s, W_TO) || scan_take(s, W_EQUAL))
		setting_value_take(s, &c);
	else
		c.form = VALUE_UNKNOWN;
	if (!name.failed)
		setting_add(s, &c);
}

/* What RESET names: a setting, or ALL of them. */
void setting_take_reset(struct scan *s, int scope)
{
	struct sql_change c = { .scope = scope, .form = VALUE_DEFAULT, .at = scan_token_start(s) };
	struct setting_name name;

	s->f->sets_many = true;
	s->f->resets = true;
	if (s->w == W_ALL) {
		for (size_t i = 0; i < PGT_NELEMS(guarded); i++) {
			c.what = guarded[i].what;
			setting_add(s, &c);
		}
		c.what = CHANGE_TENANT;
		if (setting_last_part(s).n)
			setting_add(s, &c);
		return;
	}
	name = setting_name_take(s);
	if (name.failed)
		setting_mark_undecided(s);
	else if (setting_is_guarded(s, &name, &c))
		setting_add(s, &c);
	if (scope == SCOPE_SESSION && !name.failed)
		setting_note(s, slice_of(name.text, name.n));
}

/* The first argument of current_setting(), or of set_config(), which is judged by itself. */
static bool is_plain_argument(const struct scan *s)
{
	return s->prev == W_OPEN &&
	       (slice_is_equal_nocase(s->around[0], SLICE("current_setting")) ||
		slice_is_equal_nocase(s->around[0], SLICE("set_config")));
}

/* A string that spells the tenant setting is data or the argument of current_setting() when it is
 * the name alone; with more around it, or in code that may put it together with something, it may
 * become a command for somebody to execute. */
void setting_see_in_string(struct scan *s)
{
	struct slice part = setting_last_part(s);
	struct setting_name name = { .n = 0 };

	if (!part.n || !sql_spells(s->t.inner, part))
		return;
	setting_name_add(&name, &s->t);
	if (!name.failed && (!s->is_body || is_plain_argument(s)) &&
	    slice_is_equal(slice_of(name.text, name.n), slice_str(s->env->tenant_setting)))
		return;
	if (s->is_body || sql_spells(s->t.inner, SLICE("set")))
		s->f->flags |= SQL_GUARD_UNDECIDED;
}

/* The tenant setting spelled as a name, where names may be settings. */
void setting_see_in_name(struct scan *s)
{
	const char *setting = s->env->tenant_setting;
	struct slice part = setting_last_part(s);
	struct slice qualifier = slice_of(setting, (size_t)(part.p - setting));
	struct slice before = s->around[0]; /* the dot */

	if (!part.n)
		return;
	if (slice_is_equal_nocase(s->t.inner, slice_str(setting))) {
		s->f->flags |= SQL_GUARD_UNDECIDED;
		return;
	}
	if (!slice_is_equal_nocase(s->t.inner, part) || s->prev != W_DOT)
		return;
	qualifier.n -= qualifier.n > 0;
	if (qualifier.n >= before.n &&
	    slice_is_equal_nocase(before, slice_of(qualifier.p + qualifier.n - before.n, before.n)))
		s->f->flags |= SQL_GUARD_UNDECIDED;
}
