/* SPDX-License-Identifier: ISC
 *
 * lex.c - PostgreSQL's lexical rules: a text into tokens that borrow it.
 *
 * Knows no grammar and no keyword but UESCAPE.  Where versions of the server differ, the finer cut
 * is made (`1x` is a number and a word): a newer server refuses such a text as a whole.  Fuzzed by
 * test/fuzz/fuzz_lex.c.
 */
#include "sql/lex.h"

#include "base/assert.h"
#include "sql/ascii.h"

/* The order is used: what an operator is made of, and what the rest of an identifier is. */
enum class {
	C_OTHER,
	C_SPACE,
	C_QUOTE,
	C_DQUOTE,
	C_OP,
	C_OP_SPECIAL, /* in no operator of the SQL standard */
	C_IDENT,
	C_DIGIT,
	C_DOLLAR,
};

static const uint8_t class_of[256] = {
	[' '] = C_SPACE,
	['\t' ... '\r'] = C_SPACE,
	['a' ... 'z'] = C_IDENT,
	['A' ... 'Z'] = C_IDENT,
	['_'] = C_IDENT,
	[0x80 ... 0xff] = C_IDENT,
	['0' ... '9'] = C_DIGIT,
	['~'] = C_OP_SPECIAL,
	['!'] = C_OP_SPECIAL,
	['@'] = C_OP_SPECIAL,
	['#'] = C_OP_SPECIAL,
	['^'] = C_OP_SPECIAL,
	['&'] = C_OP_SPECIAL,
	['|'] = C_OP_SPECIAL,
	['`'] = C_OP_SPECIAL,
	['?'] = C_OP_SPECIAL,
	['%'] = C_OP_SPECIAL,
	['+'] = C_OP,
	['-'] = C_OP,
	['*'] = C_OP,
	['/'] = C_OP,
	['<'] = C_OP,
	['>'] = C_OP,
	['='] = C_OP,
	['\''] = C_QUOTE,
	['"'] = C_DQUOTE,
	['$'] = C_DOLLAR,
};

static inline enum class class_at(const char *p) { return class_of[(uint8_t)*p]; }

static inline bool is_operator(enum class class)
{
	return class == C_OP || class == C_OP_SPECIAL;
}

/* Whether c stands at p, before the end. */
static inline bool at(const struct lex *l, const char *p, char c)
{
	return p < l->end && *p == c;
}

static inline bool starts_comment(const struct lex *l, const char *p)
{
	return (*p == '-' && at(l, p + 1, '-')) || (*p == '/' && at(l, p + 1, '*'));
}

static inline const char *skip_class(const struct lex *l, const char *p, enum class class)
{
	while (p < l->end && class_at(p) == class)
		p++;
	return p;
}

static inline const char *skip_ident(const struct lex *l, const char *p)
{
	while (p < l->end && class_at(p) >= C_IDENT)
		p++;
	return p;
}

static const char *skip_line(const struct lex *l, const char *p)
{
	while (p < l->end && !ascii_is_newline(*p))
		p++;
	return p;
}

void lex_init(struct lex *l, struct slice text, const struct lex_env *env)
{
	*l = (struct lex){
		.p = text.p,
		.end = text.p + text.n,
		.signs_end = text.p,
		.standard_strings = env->standard_strings,
		.unclean = !env->ascii_safe || (text.n && memchr(text.p, '\0', text.n)),
	};
}

/* Past the block comment that starts at p; comments nest. */
static const char *skip_block(struct lex *l, const char *p)
{
	size_t depth = 0;

	while (l->end - p >= 2) {
		if (p[0] == '/' && p[1] == '*') {
			depth++;
			p += 2;
		} else if (p[0] == '*' && p[1] == '/') {
			p += 2;
			if (--depth == 0)
				return p;
		} else {
			p++;
		}
	}
	l->unclean = true;
	return l->end;
}

/* Where a string goes on after its closing quote: past the next opening quote when only white space
 * and line comments stand between and a newline is among them, else NULL. */
static const char *continuation(const struct lex *l, const char *p)
{
	bool newline = false;

	while (p < l->end) {
		if (class_at(p) == C_SPACE)
			newline |= ascii_is_newline(*p++);
		else if (at(l, p, '-') && at(l, p + 1, '-'))
			p = skip_line(l, p);
		else
			break;
	}
	return newline && at(l, p, '\'') ? p + 1 : NULL;
}

/* The string whose content starts at body.  Quotes are doubled inside. */
static PGT_NOINLINE void take_string(struct lex *l, struct lex_token *t, const char *body)
{
	const char *p = body, *more;

	t->inner.p = body;
	for (; p < l->end; p++) {
		if (*p == '\\' && t->backslash) {
			p++;
		} else if (*p == '\'') {
			if (at(l, p + 1, '\'')) {
				p++;
			} else if ((more = continuation(l, p + 1))) {
				p = more - 1;
			} else {
				t->inner.n = (size_t)(p - body);
				l->p = p + 1;
				return;
			}
		}
	}
	l->unclean = true;
	t->inner.n = (size_t)(l->end - body);
	l->p = l->end;
}

static PGT_NOINLINE void take_quoted(struct lex *l, struct lex_token *t, const char *body)
{
	const char *p = body;

	t->kind = LEX_QUOTED;
	t->inner.p = body;
	while ((p = p < l->end ? memchr(p, '"', (size_t)(l->end - p)) : NULL)) {
		if (!at(l, p + 1, '"')) {
			t->inner.n = (size_t)(p - body);
			l->p = p + 1;
			return;
		}
		p += 2;
	}
	l->unclean = true;
	t->inner.n = (size_t)(l->end - body);
	l->p = l->end;
}

/* A dollar quote or a parameter; a lone dollar is a byte that starts nothing. */
static PGT_NOINLINE void take_dollar(struct lex *l, struct lex_token *t)
{
	const char *start = l->p, *p = start + 1, *close;

	if (p < l->end && class_at(p) == C_DIGIT) {
		t->kind = LEX_PARAM;
		l->p = skip_class(l, p, C_DIGIT);
		return;
	}
	while (p < l->end && (class_at(p) == C_IDENT || class_at(p) == C_DIGIT))
		p++;
	if (!at(l, p, '$')) {
		t->kind = LEX_PUNCT;
		l->p = start + 1;
		return;
	}
	p++;
	t->kind = LEX_STRING;
	t->dollar = true;
	close = memmem(p, (size_t)(l->end - p), start, (size_t)(p - start));
	t->inner = slice_of(p, (size_t)((close ? close : l->end) - p));
	l->p = close ? close + (p - start) : l->end;
	l->unclean |= !close;
}

static void take_number(struct lex *l, struct lex_token *t)
{
	const char *p = skip_class(l, l->p, C_DIGIT), *exponent;

	t->kind = LEX_NUMBER;
	if (at(l, p, '.') && !at(l, p + 1, '.'))
		p = skip_class(l, p + 1, C_DIGIT);
	if (p < l->end && ascii_lower(*p) == 'e') {
		exponent = p + 1;
		if (at(l, exponent, '+') || at(l, exponent, '-'))
			exponent++;
		if (exponent < l->end && class_at(exponent) == C_DIGIT)
			p = skip_class(l, exponent, C_DIGIT);
	}
	l->p = p;
}

/* The longest run of operator bytes that has no comment in it; one that ends in + or - must have a
 * byte that no SQL operator has, or it ends before (so that a=-1 is four tokens).  The signs cut
 * off so are remembered: looking again behind each would take quadratic time. */
static void take_operator(struct lex *l, struct lex_token *t)
{
	const char *p = l->p;
	bool special = false;

	t->kind = LEX_OP;
	if (p < l->signs_end) {
		l->p = p + 1;
		return;
	}
	for (; p < l->end && is_operator(class_at(p)) && !starts_comment(l, p); p++)
		special |= class_at(p) == C_OP_SPECIAL;
	l->signs_end = p;
	while (!special && p - l->p > 1 && (p[-1] == '+' || p[-1] == '-'))
		p--;
	l->p = p;
}

static void take_punct(struct lex *l, struct lex_token *t)
{
	const char *p = l->p;

	if (*p == '.' && l->end - p > 1 && class_at(p + 1) == C_DIGIT) {
		take_number(l, t);
		return;
	}
	t->kind = LEX_PUNCT;
	l->p = p + 1;
	if ((*p == ':' && (at(l, p + 1, ':') || at(l, p + 1, '='))) ||
	    (*p == '.' && at(l, p + 1, '.'))) {
		t->kind = LEX_OP;
		l->p = p + 2;
	}
}

/* A string or an identifier of the one letter that stands at l->p and a quote.  False: it is a word
 * like any other. */
static PGT_NOINLINE bool take_prefixed(struct lex *l, struct lex_token *t)
{
	const char *p = l->p;
	char prefix = ascii_lower(*p);

	if (at(l, p + 1, '\'') && strchr("ebxn", prefix)) {
		t->kind = prefix == 'b' || prefix == 'x' ? LEX_BITS : LEX_STRING;
		t->backslash = prefix == 'e' || (prefix == 'n' && !l->standard_strings);
		take_string(l, t, p + 2);
		return true;
	}
	if (prefix != 'u' || !at(l, p + 1, '&') || !(at(l, p + 2, '\'') || at(l, p + 2, '"')))
		return false;
	t->uescape = '\\';
	if (p[2] == '\'') {
		t->kind = LEX_STRING;
		take_string(l, t, p + 3);
	} else {
		take_quoted(l, t, p + 3);
	}
	return true;
}

static void take_word(struct lex *l, struct lex_token *t)
{
	if (take_prefixed(l, t))
		return;
	t->kind = LEX_WORD;
	l->p = skip_ident(l, l->p + 1);
}

static PGT_NOINLINE void take_comment(struct lex *l, struct lex_token *t)
{
	t->kind = LEX_COMMENT;
	l->p = *l->p == '-' ? skip_line(l, l->p) : skip_block(l, l->p);
}

/* The token of a class that starts at l->p; *t is cleared but for kind and slices. */
static PGT_INLINE void take_any(struct lex *l, struct lex_token *t, enum class class)
{
	const char *start = l->p;

	t->inner.p = NULL;
	switch (class) {
	case C_SPACE: /* and nothing behind it */
		t->kind = LEX_END;
		break;
	case C_IDENT:
		take_word(l, t);
		break;
	case C_DIGIT:
		take_number(l, t);
		break;
	case C_QUOTE:
		t->kind = LEX_STRING;
		t->backslash = !l->standard_strings;
		take_string(l, t, start + 1);
		break;
	case C_DQUOTE:
		take_quoted(l, t, start + 1);
		break;
	case C_DOLLAR:
		take_dollar(l, t);
		break;
	case C_OP:
	case C_OP_SPECIAL:
		if (starts_comment(l, start))
			take_comment(l, t);
		else
			take_operator(l, t);
		break;
	default:
		take_punct(l, t);
		break;
	}
	t->text = slice_of(start, (size_t)(l->p - start));
	if (!t->inner.p)
		t->inner = slice_of(start, (size_t)(l->p - start));
}

/* Goes to the next token, tells its class, and takes it (true) when it is a word of several
 * letters: most are, and as the quote that makes a letter a prefix stands right behind it, such a
 * word is nothing else. */
static PGT_INLINE bool take_plain_word(struct lex *l, struct lex_token *t, enum class *class)
{
	const char *start = l->p, *end;

	*class = C_SPACE;
	while (start < l->end && (*class = class_at(start)) == C_SPACE)
		start++;
	l->p = start;
	t->backslash = t->dollar = false;
	t->uescape = 0;
	if (*class != C_IDENT || (end = skip_ident(l, start + 1)) == start + 1)
		return false;
	l->p = end;
	t->kind = LEX_WORD;
	/* Field by field: to copy a slice that was just written would wait for the writes. */
	t->text.p = t->inner.p = start;
	t->text.n = t->inner.n = (size_t)(end - start);
	return true;
}

static void take_clause(struct lex *l, struct lex_token *t)
{
	enum class class;

	do
		if (!take_plain_word(l, t, &class))
			take_any(l, t, class);
	while (t->kind == LEX_COMMENT);
}

/* A U& token takes the clause that may follow it: UESCAPE 'c'. */
static PGT_NOINLINE void take_uescape(struct lex *l, struct lex_token *t)
{
	struct lex ahead = *l;
	struct lex_token clause;
	char c;

	take_clause(&ahead, &clause);
	if (clause.kind != LEX_WORD || !slice_is_equal_nocase(clause.text, SLICE("uescape")))
		return;
	take_clause(&ahead, &clause);
	if (clause.kind != LEX_STRING || clause.inner.n != 1)
		return;
	c = *clause.inner.p;
	/* What the server refuses escapes nothing here: the decoder then fails. */
	t->uescape =
	    class_of[(uint8_t)c] == C_DIGIT || strchr("abcdefABCDEF+'\" \t\n\r\f", c) ? 1 : c;
	t->text.n = (size_t)(ahead.p - t->text.p);
	ahead.unclean |= l->unclean;
	*l = ahead;
}

static PGT_NOINLINE bool next_of_class(struct lex *l, struct lex_token *t, enum class class)
{
	take_any(l, t, class);
	if (t->uescape)
		take_uescape(l, t);
	return t->kind != LEX_END;
}

bool lex_next(struct lex *l, struct lex_token *t)
{
	enum class class;

	return take_plain_word(l, t, &class) || next_of_class(l, t, class);
}
