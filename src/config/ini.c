/* SPDX-License-Identifier: ISC
 *
 * ini.c - split the text of an ini file and of a connection string.
 *
 * Knows neither sections nor settings.  Fuzzed by test/fuzz/fuzz_config.c.
 */
#include "config/ini.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("_.*-", c));
}

static struct slice skip(struct slice s, size_t n)
{
	return slice_of(s.p + n, s.n - n);
}

static struct slice skip_blanks(struct slice s)
{
	while (s.n && is_blank(*s.p))
		s = skip(s, 1);
	return s;
}

static struct slice trim(struct slice s)
{
	s = skip_blanks(s);
	while (s.n && is_blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

void ini_init(struct ini *ini, struct slice text)
{
	*ini = (struct ini){ .rest = text, .next_line = 1 };
}

void ini_fini(struct ini *ini)
{
	buf_fini(&ini->unquoted);
}

/* Takes a line that has something in it off the rest, without the blanks around it. */
static bool next_line(struct ini *ini, struct slice *line)
{
	while (ini->rest.n) {
		const char *end = memchr(ini->rest.p, '\n', ini->rest.n);
		size_t n = end ? (size_t)(end - ini->rest.p) : ini->rest.n;

		*line = trim(slice_of(ini->rest.p, n));
		ini->rest = skip(ini->rest, end ? n + 1 : n);
		ini->line = ini->next_line;
		ini->next_line += end != NULL;
		if (line->n && *line->p != ';' && *line->p != '#')
			return true;
	}
	return false;
}

/* Takes text up to a closing quote, doubled quotes being single ones, off s (after the opening
 * one) and appends it to out. */
static bool unquote(struct slice *s, char quote, struct buf *out)
{
	for (; s->n; *s = skip(*s, 1)) {
		if (*s->p == quote) {
			*s = skip(*s, 1);
			if (!s->n || *s->p != quote)
				return true;
		}
		buf_put(out, s->p, 1);
	}
	return false;
}

static bool take_name(struct ini *ini, struct slice *line, struct slice *name)
{
	size_t n = 0;

	if (*line->p == '"') {
		*line = skip(*line, 1);
		buf_clear(&ini->unquoted);
		if (!unquote(line, '"', &ini->unquoted))
			return false;
		*name = buf_peek(&ini->unquoted);
		return name->n > 0;
	}
	while (n < line->n && is_name_char(line->p[n]))
		n++;
	*name = slice_of(line->p, n);
	*line = skip(*line, n);
	return n > 0;
}

static struct ini_item item(struct ini *ini, enum ini_kind kind, struct slice name,
			    struct slice value)
{
	return (struct ini_item){ kind, ini->line, name, value };
}

static struct ini_item bad(struct ini *ini, const char *why)
{
	return item(ini, INI_BAD, SLICE(""), slice_str(why));
}

/* What follows the bracket is read as a line of its own. */
static struct ini_item take_section(struct ini *ini, struct slice line)
{
	const char *end = memchr(line.p, ']', line.n);

	if (!end)
		return bad(ini, "a section is written [name]");
	ini->rest.n += (size_t)(ini->rest.p - (end + 1));
	ini->rest.p = end + 1;
	ini->next_line = ini->line;
	return item(ini, INI_SECTION, slice_of(line.p + 1, (size_t)(end - line.p) - 1), SLICE(""));
}

struct ini_item ini_next(struct ini *ini)
{
	static const struct slice include = SLICE("%include");
	struct slice line, name;

	if (!next_line(ini, &line))
		return item(ini, INI_END, SLICE(""), SLICE(""));
	if (memchr(line.p, '\0', line.n))
		return bad(ini, "a zero byte in the line");
	if (*line.p == '[')
		return take_section(ini, line);
	if (line.n > include.n && memcmp(line.p, include.p, include.n) == 0 &&
	    is_blank(line.p[include.n]))
		return item(ini, INI_INCLUDE, SLICE(""), trim(skip(line, include.n)));
	if (!take_name(ini, &line, &name))
		return bad(ini, "expected name = value (other names than of letters, digits "
				"and _.-* stand in double quotes)");
	line = skip_blanks(line);
	if (!line.n || *line.p != '=')
		return bad(ini, "expected = after the name");
	return item(ini, INI_SETTING, name, trim(skip(line, 1)));
}

int pair_next(struct slice *rest, struct slice *key, struct slice *value, struct buf *room)
{
	size_t n = 0;

	*rest = skip_blanks(*rest);
	if (!rest->n)
		return 0;
	while (n < rest->n && rest->p[n] != '=' && !is_blank(rest->p[n]))
		n++;
	*key = slice_of(rest->p, n);
	*rest = skip_blanks(skip(*rest, n));
	if (!n || !rest->n || *rest->p != '=')
		return -1;
	*rest = skip_blanks(skip(*rest, 1));
	if (!rest->n)
		return -1;
	if (*rest->p == '\'') {
		*rest = skip(*rest, 1);
		buf_clear(room);
		if (!unquote(rest, '\'', room))
			return -1;
		*value = buf_peek(room);
		return 1;
	}
	for (n = 0; n < rest->n && !is_blank(rest->p[n]);)
		n++;
	*value = slice_of(rest->p, n);
	*rest = skip(*rest, n);
	return 1;
}
