/* SPDX-License-Identifier: ISC
 *
 * fields.c - lines of fields, as in pg_hba.conf and pg_ident.conf.
 *
 * Knows where words end, not what they mean.  Fuzzed by test/fuzz/fuzz_hba.c.
 */
#include "auth/fields.h"

#include "base/buf.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

static void skip(struct slice *s, size_t n)
{
	*s = slice_of(s->p + n, s->n - n);
}

/* Takes a line off the text, and those that it is joined with. */
static void take_line(struct slice *text, int *line, struct buf *out)
{
	bool goes_on = true;

	while (goes_on && text->n) {
		const char *end = memchr(text->p, '\n', text->n);
		struct slice part = slice_of(text->p, end ? (size_t)(end - text->p) : text->n);

		skip(text, part.n + (end ? 1 : 0));
		++*line;
		if (part.n && part.p[part.n - 1] == '\r')
			part.n--;
		goes_on = part.n && part.p[part.n - 1] == '\\';
		if (goes_on)
			part.n--;
		buf_put_slice(out, part);
	}
}

static void skip_blanks(struct slice *rest)
{
	while (rest->n && is_blank(rest->p[0]))
		skip(rest, 1);
}

/* A word that begins here; false: a quote has no end. */
static bool take_word(struct slice *rest, struct word *word)
{
	bool in_quotes = false, ended_quotes = false;
	struct buf text = { 0 };

	word->is_quoted = rest->p[0] == '"';
	while (rest->n && (in_quotes || (!is_blank(rest->p[0]) && !memchr(",#", rest->p[0], 2)))) {
		char c = rest->p[0];

		if (c != '"') {
			buf_put_u8(&text, (uint8_t)c);
		} else {
			/* Two of them in quotes are one that is meant. */
			if (!in_quotes && ended_quotes)
				buf_put_u8(&text, '"');
			in_quotes = !in_quotes;
		}
		ended_quotes = c == '"' && !in_quotes;
		skip(rest, 1);
	}
	word->text = xmemdup0(buf_peek(&text).p, buf_len(&text));
	buf_fini(&text);
	return !in_quotes;
}

static const char *take_field(struct slice *rest, struct field *field)
{
	bool goes_on = true;

	while (goes_on) {
		skip_blanks(rest);
		if (!rest->n || rest->p[0] == '#' || rest->p[0] == ',')
			return "a comma without a word beside it";
		field->words = xrealloc(field->words, (field->n + 1) * sizeof(*field->words));
		if (!take_word(rest, &field->words[field->n++]))
			return "a quote without its end";
		goes_on = rest->n && rest->p[0] == ',';
		if (goes_on)
			skip(rest, 1);
	}
	return NULL;
}

static const char *take_fields(struct slice rest, struct fields *out)
{
	const char *fault = NULL;

	if (memchr(rest.p, '\0', rest.n))
		return "NUL byte";
	for (skip_blanks(&rest); !fault && rest.n && rest.p[0] != '#'; skip_blanks(&rest)) {
		if (out->n == FIELDS_MAX)
			return "too many fields";
		fault = take_field(&rest, &out->at[out->n++]);
	}
	return fault;
}

bool fields_next(struct slice *text, int *line, struct fields *out, const char **fault)
{
	struct buf room = { 0 };

	*out = (struct fields){ 0 };
	*fault = NULL;
	while (text->n && !out->n && !*fault) {
		out->line = *line + 1;
		buf_clear(&room);
		take_line(text, line, &room);
		if (buf_len(&room))
			*fault = take_fields(buf_peek(&room), out);
	}
	buf_fini(&room);
	return out->n || *fault;
}

void fields_fini(struct fields *fields)
{
	for (size_t i = 0; i < fields->n; i++) {
		for (size_t w = 0; w < fields->at[i].n; w++)
			free(fields->at[i].words[w].text);
		free(fields->at[i].words);
	}
	*fields = (struct fields){ 0 };
}

bool word_is(const struct word *word, const char *keyword)
{
	return !word->is_quoted && !strcmp(word->text, keyword);
}

bool field_is(const struct field *field, const char *keyword)
{
	return field->n == 1 && word_is(&field->words[0], keyword);
}
