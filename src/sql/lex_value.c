/* SPDX-License-Identifier: ISC
 *
 * lex_value.c - what tokens stand for: names folded and cut, strings without their escapes.
 *
 * Knows tokens, not texts.  Fuzzed by test/fuzz/fuzz_lex.c.
 */
#include "sql/ascii.h"
#include "sql/lex.h"

#define IDENT_MAX 63 /* NAMEDATALEN - 1 */

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
	c = ascii_lower(c);
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
		comment = (comment || *p == '-') && !ascii_is_newline(*p);
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
			sink_put(&s, ascii_lower(t->text.p[i]));
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
	if (s.failed)
		return false;
	*n = s.n;
	return true;
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
