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

#define IDENT_MAX 63 /* NAMEDATALEN - 1 */

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

static inline char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static inline bool is_newline(char c)
{
	return c == '\n' || c == '\r';
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
	while (p < l->end && !is_newline(*p))
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
			newline |= is_newline(*p++);
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

static PGT_NOINLINE void take_number(struct lex *l, struct lex_token *t)
{
	const char *p = skip_class(l, l->p, C_DIGIT), *exponent;

	t->kind = LEX_NUMBER;
	if (at(l, p, '.') && !at(l, p + 1, '.'))
		p = skip_class(l, p + 1, C_DIGIT);
	if (p < l->end && lower(*p) == 'e') {
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
	char prefix = lower(*p);

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

static inline void take_word(struct lex *l, struct lex_token *t)
{
	const char *end = skip_ident(l, l->p + 1);

	/* The quote that makes a letter a prefix ends a word, so only words of one letter ask. */
	if (end == l->p + 1 && take_prefixed(l, t))
		return;
	t->kind = LEX_WORD;
	l->p = end;
}

static PGT_NOINLINE void take_comment(struct lex *l, struct lex_token *t)
{
	t->kind = LEX_COMMENT;
	l->p = *l->p == '-' ? skip_line(l, l->p) : skip_block(l, l->p);
}

static PGT_INLINE void take_token(struct lex *l, struct lex_token *t)
{
	const char *start = skip_class(l, l->p, C_SPACE);

	l->p = start;
	t->backslash = t->dollar = false;
	t->uescape = 0;
	t->inner.p = NULL;
	if (start == l->end) {
		t->kind = LEX_END;
		t->text = t->inner = slice_of(start, 0);
		return;
	}
	switch (class_at(start)) {
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
		t->inner = t->text;
}

static void take_clause(struct lex *l, struct lex_token *t)
{
	do
		take_token(l, t);
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

bool lex_next(struct lex *l, struct lex_token *t)
{
	take_token(l, t);
	if (t->uescape)
		take_uescape(l, t);
	return t->kind != LEX_END;
}

/* --- values ------------------------------------------------------------------------------ */
struct sink {
	char *out;
	size_t n, cap;
	bool failed;
};

static inline void sink_put(struct sink *s, char c)
{
	if (s->n < s->cap)
		s->out[s->n++] = c;
	else
		s->failed = true;
}

static void sink_put_utf8(struct sink *s, unsigned long c)
{
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) {
		s->failed = true;
	} else if (c < 0x80) {
		sink_put(s, (char)c);
	} else if (c < 0x800) {
		sink_put(s, (char)(0xc0 | c >> 6));
		sink_put(s, (char)(0x80 | (c & 0x3f)));
	} else {
		if (c < 0x10000) {
			sink_put(s, (char)(0xe0 | c >> 12));
		} else {
			sink_put(s, (char)(0xf0 | c >> 18));
			sink_put(s, (char)(0x80 | (c >> 12 & 0x3f)));
		}
		sink_put(s, (char)(0x80 | (c >> 6 & 0x3f)));
		sink_put(s, (char)(0x80 | (c & 0x3f)));
	}
}

static int digit_value(char c)
{
	c = lower(c);
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* Reads min … max digits of a base at *p. */
static bool read_digits(const char **p, const char *end, int base, int min, int max,
			unsigned long *value)
{
	int n = 0;

	*value = 0;
	for (; n < max && *p < end && digit_value(**p) < base; (*p)++, n++)
		*value = *value * (unsigned)base + (unsigned)digit_value(**p);
	return n >= min;
}

/* The escape of E'…' whose backslash stands before p; returns what follows it. */
static const char *decode_backslash(struct sink *s, const char *p, const char *end)
{
	unsigned long value;
	const char *named;

	if (p == end) {
		s->failed = true;
		return p;
	}
	if (*p && (named = strchr("bfnrt", *p))) {
		sink_put(s, "\b\f\n\r\t"[named - "bfnrt"]);
		return p + 1;
	}
	if (*p >= '0' && *p <= '7') {
		read_digits(&p, end, 8, 1, 3, &value);
		sink_put(s, (char)value);
		s->failed |= (value & 0xff) == 0;
		return p;
	}
	if (*p == 'x' && p + 1 < end && digit_value(p[1]) < 16) {
		p++;
		read_digits(&p, end, 16, 1, 2, &value);
		sink_put(s, (char)value);
		s->failed |= value == 0;
		return p;
	}
	if (*p == 'u' || *p == 'U') {
		int digits = *p++ == 'u' ? 4 : 8;

		s->failed |= !read_digits(&p, end, 16, digits, digits, &value);
		sink_put_utf8(s, value);
		return p;
	}
	sink_put(s, *p);
	return p + 1;
}

/* The escape of U&'…' whose first byte stands before p: \XXXX, \+XXXXXX, or itself doubled. */
static const char *decode_unicode(struct sink *s, char escape, const char *p, const char *end)
{
	unsigned long value;

	if (p < end && *p == escape) {
		sink_put(s, escape);
		return p + 1;
	}
	if (p < end && *p == '+') {
		p++;
		s->failed |= !read_digits(&p, end, 16, 6, 6, &value);
	} else {
		s->failed |= !read_digits(&p, end, 16, 4, 4, &value);
	}
	sink_put_utf8(s, value);
	return p;
}

/* From a closing quote to behind the quote where the string goes on; comments may stand between. */
static const char *skip_gap(const char *p, const char *end)
{
	bool comment = false;

	for (; p < end && (comment || *p != '\''); p++)
		comment = (comment || *p == '-') && !is_newline(*p);
	return p < end ? p + 1 : end;
}

static void decode_quotes(struct sink *s, const struct lex_token *t, char quote)
{
	const char *p = t->inner.p, *end = p + t->inner.n;

	s->failed |= t->uescape == 1;
	while (p < end && !s->failed) {
		char c = *p++;

		if (c == quote) {
			if (p < end && *p == quote) {
				p++;
				sink_put(s, c);
			} else {
				p = skip_gap(p, end);
			}
		} else if (c == '\\' && t->backslash) {
			p = decode_backslash(s, p, end);
		} else if (c == t->uescape && c) {
			p = decode_unicode(s, c, p, end);
		} else {
			sink_put(s, c);
		}
	}
}

bool lex_decode(const struct lex_token *t, char *out, size_t cap, size_t *n)
{
	struct sink s = { .out = out, .cap = cap };
	size_t word = t->text.n < IDENT_MAX ? t->text.n : IDENT_MAX;
	char name[IDENT_MAX * 4];

	switch (t->kind) {
	case LEX_WORD:
		for (size_t i = 0; i < word; i++)
			sink_put(&s, lower(t->text.p[i]));
		break;
	case LEX_QUOTED:
		s = (struct sink){ .out = name, .cap = sizeof(name) };
		decode_quotes(&s, t, '"');
		if (s.n > IDENT_MAX)
			s.n = IDENT_MAX;
		s.failed |= s.n > cap;
		if (!s.failed)
			memcpy(out, name, s.n);
		break;
	case LEX_STRING:
		if (t->dollar)
			for (size_t i = 0; i < t->inner.n && !s.failed; i++)
				sink_put(&s, t->inner.p[i]);
		else
			decode_quotes(&s, t, '\'');
		break;
	default:
		return false;
	}
	*n = s.n;
	return !s.failed;
}

unsigned lex_param_number(const struct lex_token *t)
{
	unsigned n = 0;

	if (t->kind != LEX_PARAM)
		return 0;
	for (size_t i = 1; i < t->text.n; i++) {
		n = n * 10 + (unsigned)(t->text.p[i] - '0');
		if (n > UINT16_MAX)
			return 0;
	}
	return n;
}
