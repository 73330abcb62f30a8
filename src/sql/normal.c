/* SPDX-License-Identifier: ISC
 *
 * normal.c - a text that may be shown: without literals and comments.
 *
 * Tokens are copied one by one, and only those that are known to be no literal: what this file does
 * not think of is left out, not shown.
 */
#include "sql/normal.h"

#include "sql/ascii.h"

#include <inttypes.h>
#include <stdio.h>

#define UNREADABLE "(not shown: its end or its encoding is not certain)"
#define CUT        " ..."

static bool is_word(const struct lex_token *t, const char *word)
{
	return t->kind == LEX_WORD && slice_is_equal_nocase(t->text, slice_str(word));
}

/* SET and ALTER … SET give a value that may be a bare word. */
struct setter {
	bool may_set;   /* its statement may */
	bool has_set;   /* the word was there */
	bool has_value; /* it comes, up to the end of the statement */
};

/* Whether the token is of such a value; is_first: of its statement. */
static bool is_set_value(struct setter *s, const struct lex_token *t, bool is_first)
{
	if (is_first)
		*s = (struct setter){ .may_set = is_word(t, "set") || is_word(t, "alter") ||
						 is_word(t, "create") };
	if (s->has_value)
		return true;
	if (s->may_set && is_word(t, "set"))
		s->has_set = true;
	else if (s->has_set)
		s->has_value = is_word(t, "to") || slice_is_equal(t->text, SLICE("="));
	return false;
}

static bool is_literal(const struct lex_token *t)
{
	return t->kind == LEX_STRING || t->kind == LEX_BITS || t->kind == LEX_NUMBER;
}

/* 0x1F and 1_000, which older servers take for a number and a word. */
static bool goes_on(const struct lex_token *t, const char *number_end)
{
	return t->kind == LEX_WORD && t->text.p == number_end;
}

/* What is shown of a token that is none; of U&"…" not the character behind UESCAPE. */
static struct slice shown(const struct lex_token *t)
{
	if (t->kind != LEX_QUOTED)
		return t->text;
	return slice_of(t->text.p, (size_t)(t->inner.p + t->inner.n + 1 - t->text.p));
}

static bool limits(const struct lex_token *t)
{
	return is_word(t, "limit") || is_word(t, "fetch") || is_word(t, "for");
}

static void put_tokens(struct lex *l, struct sql_normal *normal, struct buf *out)
{
	const char *end = NULL, *number_end = NULL;
	struct setter setter = { 0 };
	bool is_first = true, was_value = false;
	size_t begin = buf_len(out);
	struct lex_token t;

	while (lex_next_code(l, &t)) {
		bool is_semicolon = slice_is_equal(t.text, SLICE(";"));
		bool is_value = !is_semicolon && is_set_value(&setter, &t, is_first);
		struct slice s = is_value || is_literal(&t) ? SLICE("?") : shown(&t);

		is_first = is_semicolon;
		normal->is_limited |= limits(&t);
		if ((is_value && was_value) || goes_on(&t, number_end)) {
			end = t.text.p + t.text.n;
			continue;
		}
		number_end = t.kind == LEX_NUMBER ? t.text.p + t.text.n : NULL;
		was_value = is_value;
		if (buf_len(out) - begin + s.n + 1 + sizeof(CUT) > SQL_NORMAL_MAX) {
			buf_put_slice(out, SLICE(CUT));
			return;
		}
		if (end && t.text.p > end)
			buf_put_u8(out, ' ');
		buf_put_slice(out, s);
		end = t.text.p + t.text.n;
	}
}

/* FNV-1a: the same in each process, and whoever makes two texts equal deceives nobody but himself.
 */
static void name_text(struct slice text, char id[SQL_NORMAL_ID])
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == ' ')
			continue;
		h = (h ^ (uint8_t)ascii_lower(text.p[i])) * UINT64_C(0x100000001b3);
	}
	snprintf(id, SQL_NORMAL_ID, "%016" PRIx64, h);
}

static bool is_readable(struct slice text, const struct lex_env *env)
{
	struct lex_token t;
	struct lex l;

	if (!env->ascii_safe)
		return false;
	lex_init(&l, text, env);
	while (lex_next(&l, &t))
		;
	return !l.unclean;
}

void sql_normalise(struct slice text, const struct lex_env *env, struct sql_normal *normal,
		   struct buf *out)
{
	size_t begin = buf_len(out);
	struct slice all;
	struct lex l;

	*normal = (struct sql_normal){ 0 };
	lex_init(&l, text, env);
	normal->is_shown = is_readable(text, env);
	if (normal->is_shown)
		put_tokens(&l, normal, out);
	else
		buf_put_slice(out, SLICE(UNREADABLE));
	all = buf_peek(out);
	name_text(slice_of(all.p + begin, all.n - begin), normal->id);
}
