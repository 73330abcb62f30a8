/* SPDX-License-Identifier: ISC
 *
 * tokens.c - the text as a stream of tokens, each with the word that it is; comments are read by
 * the way.
 */
#include "sql/parts.h"

#include "base/assert.h"

#define IDENT_MAX 63 /* what a server keeps of an identifier */

static inline enum word see_word(const struct scan *s)
{
	const struct word_row *row = word_find(s->t.text.p, s->t.text.n);

	return row ? row->word : W_IDENT;
}

static PGT_NOINLINE enum word see_quoted(const struct scan *s)
{
	const struct word_row *row;
	char name[IDENT_MAX];
	size_t n;

	if (!lex_decode(&s->t, name, sizeof(name), &n))
		return W_QUOTED;
	row = word_find(name, n);
	return row && row->is_name && memcmp(row->text, name, n) == 0 ? row->word : W_QUOTED;
}

static inline enum word see_operator(const struct scan *s)
{
	const char *p = s->t.text.p;

	if (s->t.text.n == 1 && *p == '=')
		return W_EQUAL;
	return s->t.text.n == 2 && p[0] == ':' && p[1] == ':' ? W_CAST : W_OPERATOR;
}

static inline enum word see_punct(const struct scan *s)
{
	switch (*s->t.text.p) {
	case '(':
		return W_OPEN;
	case ')':
		return W_CLOSE_PAREN;
	case ',':
		return W_COMMA;
	case '.':
		return W_DOT;
	case ';':
		return W_SEMICOLON;
	default:
		return W_OTHER;
	}
}

static PGT_NOINLINE void see_string(struct scan *s)
{
	if (!s->env->standard_strings && memchr(s->t.inner.p, '\\', s->t.inner.n))
		s->f->flags |= SQL_BACKSLASH;
}

static PGT_NOINLINE void see_comment(struct scan *s)
{
	const char *p = s->t.text.p, *end = p + s->t.text.n;
	struct slice route = SLICE("route:"), primary = SLICE("primary");

	for (; (size_t)(end - p) > route.n; p++) {
		if (strncasecmp(p, route.p, route.n) != 0)
			continue;
		p += route.n;
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if ((size_t)(end - p) >= primary.n && strncasecmp(p, primary.p, primary.n) == 0)
			s->f->hint = SQL_HINT_PRIMARY;
		return;
	}
}

static inline enum word see_token(struct scan *s)
{
	switch (s->t.kind) {
	case LEX_WORD:
		s->f->chain++;
		return see_word(s);
	case LEX_QUOTED:
		return see_quoted(s);
	case LEX_STRING:
		see_string(s);
		return W_STRING;
	case LEX_OP:
		s->f->chain++;
		return see_operator(s);
	case LEX_PUNCT:
		return see_punct(s);
	case LEX_PARAM:
		return W_PARAM;
	case LEX_END:
		return W_EOT;
	default:
		return W_NUMBER;
	}
}

void scan_next(struct scan *s)
{
	s->prev = s->w;
	s->around[0] = s->around[1];
	s->around[1] = s->t.inner;
	for (;;) {
		lex_next(&s->lex, &s->t);
		if (s->t.kind != LEX_COMMENT)
			break;
		see_comment(s);
	}
	s->w = see_token(s);
	if (s->fingerprint && s->w != W_EOT)
		fingerprint_add(s->fingerprint, &s->t, s->w);
}

struct lex_token scan_peek_token(const struct scan *s)
{
	struct lex ahead = s->lex;
	struct lex_token t;

	while (lex_next(&ahead, &t) && t.kind == LEX_COMMENT)
		;
	return t;
}

bool scan_peek_is_ours(const struct scan *s)
{
	struct lex_token t = scan_peek_token(s);
	char name[IDENT_MAX];
	size_t n;

	if (t.kind != LEX_WORD && t.kind != LEX_QUOTED)
		return false;
	return !lex_decode(&t, name, sizeof(name), &n) ||
	       slice_starts_with(slice_of(name, n), SLICE(SQL_OWN_STATEMENTS));
}

enum word scan_peek(const struct scan *s)
{
	struct lex_token t = scan_peek_token(s);

	if (slice_is_equal(t.text, SLICE(".")))
		return W_DOT;
	if (slice_is_equal(t.text, SLICE("=")) || slice_is_equal_nocase(t.text, SLICE("to")))
		return W_TO;
	return slice_is_equal_nocase(t.text, SLICE("from")) ? W_FROM : W_OTHER;
}
