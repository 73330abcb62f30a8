/* SPDX-License-Identifier: ISC
 *
 * ident.c - which users somebody with another name may be: pg_ident.conf's maps.
 *
 * Knows names, not where they come from.  Fuzzed by test/fuzz/fuzz_hba.c.
 */
#include "auth/ident.h"

#include "auth/fields.h"
#include "base/buf.h"
#include "base/mem.h"

#include <ctype.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

/* Of an expression: its bytes, and how many copies of its parts the C library may have to make. */
#define REGEX_MAX  1024
#define COPIES_MAX 8192

struct mapping {
	char *map, *name, *user;
	bool is_regex;
	bool is_any; /* the user */
	regex_t regex;
};

struct ident {
	struct mapping *items;
	size_t n;
};

static void clear(struct mapping *m)
{
	if (m->is_regex)
		regfree(&m->regex);
	free(m->map);
	free(m->name);
	free(m->user);
}

/* The end of what stands in brackets, or of the expression. */
static const char *skip_brackets(const char *c)
{
	c += c[1] == '^' ? 2 : 1;
	c += *c == ']';
	while (*c && *c != ']')
		c++;
	return c;
}

/* How often {n,m} repeats at most, as far as that matters. */
static unsigned long read_count(const char *c)
{
	unsigned long most = 1;

	while (*++c && (isdigit((unsigned char)*c) || *c == ',')) {
		char *end;
		unsigned long count = strtoul(c, &end, 10);

		most = count > most ? count : most;
		c = end > c ? end - 1 : c;
	}
	return most < COPIES_MAX ? most : COPIES_MAX + 1;
}

/* The C library copies what is repeated, again and again where repetitions are within each other:
 * `a++++++…` would take all memory that there is. */
static bool is_costly(const char *expression)
{
	unsigned long copies = 1;
	char last = '\0';

	if (strlen(expression) > REGEX_MAX)
		return true;
	for (const char *c = expression; *c && copies <= COPIES_MAX; c++) {
		bool repeats = strchr("+*?{", *c) != NULL;

		if (repeats && last && strchr("+*?}", last))
			return true;
		if (*c == '{')
			copies *= read_count(c);
		else if (*c == '+' && last == ')')
			copies *= 4;
		last = *c;
		if (*c == '[')
			c = skip_brackets(c);
		else if (*c == '\\' && c[1])
			c++;
		if (!*c)
			break;
	}
	return copies > COPIES_MAX;
}

/* Whether it would be read in another way than by PostgreSQL: `\d` as a d, and a backslash in
 * brackets as one of the characters. */
static bool is_foreign(const char *expression)
{
	for (const char *c = expression; *c; c++) {
		const char *begin = c;

		if (*c == '[')
			c = skip_brackets(c);
		if (memchr(begin, '\\', (size_t)(c - begin)))
			return true;
		if (*c == '\\' && c[1] && !strchr("wWsS", *++c) &&
		    (isalpha((unsigned char)*c) || strchr("<>`'", *c)))
			return true;
		if (!*c)
			break;
	}
	return false;
}

/* NULL, or what is wrong. */
static const char *compile(struct mapping *m)
{
	if (!*m->name)
		return "the regular expression is empty";
	if (is_costly(m->name))
		return "the regular expression is too long, or repeats too much";
	if (is_foreign(m->name))
		return "the regular expression has an escape that is PostgreSQL's only";
	if (regcomp(&m->regex, m->name, REG_EXTENDED) != 0)
		return "the regular expression makes no sense";
	m->is_regex = true;
	if (strstr(m->user, "\\1") && m->regex.re_nsub == 0)
		return "\\1 without a group in the regular expression";
	return NULL;
}

static const char *read_mapping(const struct fields *f, struct mapping *m)
{
	const struct word *name, *user;

	if (f->n != 3 || f->at[0].n != 1 || f->at[1].n != 1 || f->at[2].n != 1)
		return "a line is: map, system name, user";
	name = &f->at[1].words[0];
	user = &f->at[2].words[0];
	if (!user->is_quoted && user->text[0] == '+')
		return "+group is not supported: who is in a group is known to the server only";
	if (user->text[0] == '/')
		return "a regular expression is for the system name only";
	m->map = xstrdup(f->at[0].words[0].text);
	m->name = xstrdup(name->text + (name->text[0] == '/'));
	m->user = xstrdup(user->text);
	m->is_any = word_is(user, "all");
	return name->text[0] == '/' ? compile(m) : NULL;
}

struct ident *ident_parse(struct slice text, const char *file, ident_complain_fn *complain,
			  void *arg)
{
	struct ident *ident = xnew(struct ident);
	struct fields fields;
	const char *fault;
	int line = 0;

	while (fields_next(&text, &line, &fields, &fault)) {
		struct mapping m = { 0 };

		if (!fault)
			fault = read_mapping(&fields, &m);
		if (fault) {
			complain(arg, file, fields.line, fault);
			clear(&m);
		} else {
			ident->items =
			    xrealloc(ident->items, (ident->n + 1) * sizeof(*ident->items));
			ident->items[ident->n++] = m;
		}
		fields_fini(&fields);
	}
	return ident;
}

void ident_free(struct ident *ident)
{
	if (!ident)
		return;
	for (size_t i = 0; i < ident->n; i++)
		clear(&ident->items[i]);
	free(ident->items);
	free(ident);
}

/* The user of a mapping, with what the first group has found for \1. */
static bool is_user(const struct mapping *m, const char *name, const regmatch_t *group,
		    const char *user)
{
	const char *at = strstr(m->user, "\\1");
	struct buf made = { 0 };
	bool same;

	if (m->is_any)
		return true;
	if (!m->is_regex || !at)
		return !strcmp(m->user, user);
	if (group->rm_so < 0)
		return false;
	buf_put(&made, m->user, (size_t)(at - m->user));
	buf_put(&made, name + group->rm_so, (size_t)(group->rm_eo - group->rm_so));
	buf_put(&made, at + 2, strlen(at + 2));
	same = slice_is_equal(buf_peek(&made), slice_str(user));
	buf_fini(&made);
	return same;
}

static bool is_name(const struct mapping *m, const char *name, regmatch_t groups[2])
{
	return m->is_regex ? regexec(&m->regex, name, 2, groups, 0) == 0 : !strcmp(m->name, name);
}

bool ident_allows(const struct ident *ident, const char *map, const char *name, const char *user)
{
	regmatch_t groups[2];

	if (!map)
		return !strcmp(name, user);
	for (size_t i = 0; ident && i < ident->n; i++) {
		const struct mapping *m = &ident->items[i];

		if (!strcmp(m->map, map) && is_name(m, name, groups) &&
		    is_user(m, name, &groups[1], user))
			return true;
	}
	return false;
}
