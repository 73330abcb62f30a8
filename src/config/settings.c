/* SPDX-License-Identifier: ISC
 *
 * settings.c - the table of settings, and finding, setting and showing one of them.
 *
 * Knows no type in particular (types.c) and no file (load.c).
 */
#include "config/settings.h"

#include "config/types.h"

#include <ctype.h>
#include <limits.h>

const struct setting settings_table[NSETTINGS] = {
#define GROUP(title, text)
#define X(type, name, aliases, dflt, scopes, when, status, doc)                                    \
	{ #name,  aliases, dflt,  doc, &setting_type_##type, offsetof(struct settings, name),      \
	  scopes, when,    status },
#include "config/settings.def"
#undef X
#undef GROUP
};

/* --- names ---------------------------------------------------------------------------------- */

/* The i-th name of a setting in a scope, or an empty slice. */
static struct slice nth_name(const struct setting *setting, enum setting_scope scope, unsigned i)
{
	const char *p = setting->aliases;

	if (scope == SCOPE_GLOBAL || !*p)
		return i ? SLICE("") : slice_str(setting->name);
	for (; i && *p; i--) {
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	return slice_of(p, strcspn(p, " "));
}

const struct setting *settings_find(struct slice name, enum setting_scope scope)
{
	struct slice known;

	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++) {
		if (!(s->scopes & scope))
			continue;
		for (unsigned i = 0; (known = nth_name(s, scope, i)).n; i++)
			if (slice_is_equal(known, name))
				return s;
	}
	return NULL;
}

struct slice setting_name(const struct setting *setting, enum setting_scope scope)
{
	return nth_name(setting, scope, 0);
}

#define NAME_MAX_LEN 40

/* Levenshtein's distance, without regard to case. */
static unsigned distance(struct slice a, struct slice b)
{
	unsigned row[NAME_MAX_LEN + 1];

	if (a.n > NAME_MAX_LEN || b.n > NAME_MAX_LEN)
		return UINT_MAX;
	for (unsigned j = 0; j <= b.n; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a.n; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= b.n; j++) {
			unsigned same = diagonal + (tolower((unsigned char)a.p[i - 1]) !=
						    tolower((unsigned char)b.p[j - 1]));
			unsigned longer = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = same < longer ? same : longer;
		}
	}
	return row[b.n];
}

void nearest_try(struct nearest *n, struct slice known)
{
	unsigned d = distance(n->wanted, known);

	if (d < n->distance) {
		n->distance = d;
		n->name = known;
	}
}

bool nearest_is_near(const struct nearest *n)
{
	return n->distance <= 1 + n->wanted.n / 4;
}

void settings_nearest(struct nearest *n, enum setting_scope scope)
{
	struct slice known;

	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++)
		for (unsigned i = 0; s->scopes & scope && (known = nth_name(s, scope, i)).n; i++)
			nearest_try(n, known);
}

/* --- values --------------------------------------------------------------------------------- */

void settings_defaults(struct settings *out)
{
	*out = (struct settings){ 0 };
	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++)
		PGT_ASSERT(setting_parse(s, s->dflt, out, NULL));
}

bool setting_parse(const struct setting *setting, const char *text, struct settings *s,
		   struct err *e)
{
	return setting->type->parse(setting->type, text, setting_at(setting, s), e);
}

void setting_format(const struct setting *setting, const struct settings *s, struct buf *out)
{
	setting->type->format(setting->type, setting_peek(setting, s), out);
}

bool setting_is_equal(const struct setting *setting, const struct settings *a,
		      const struct settings *b)
{
	const void *x = setting_peek(setting, a), *y = setting_peek(setting, b);

	if (setting->type->is_string)
		return strcmp(*(const char *const *)x, *(const char *const *)y) == 0;
	return memcmp(x, y, setting->type->size) == 0;
}

/* --- lists ---------------------------------------------------------------------------------- */

static struct slice trim(struct slice s)
{
	while (s.n && isspace((unsigned char)s.p[0]))
		s = slice_of(s.p + 1, s.n - 1);
	while (s.n && isspace((unsigned char)s.p[s.n - 1]))
		s.n--;
	return s;
}

bool list_next(struct slice *rest, struct slice *word)
{
	while (rest->n) {
		const char *comma = memchr(rest->p, ',', rest->n);
		size_t n = comma ? (size_t)(comma - rest->p) : rest->n;
		size_t skip = comma ? n + 1 : n;

		*word = trim(slice_of(rest->p, n));
		*rest = slice_of(rest->p + skip, rest->n - skip);
		if (word->n)
			return true;
	}
	return false;
}

bool list_has(const char *list, struct slice word)
{
	struct slice rest = slice_str(list), known;

	while (list_next(&rest, &known))
		if (slice_is_equal(known, word) || slice_is_equal(known, SLICE("*")))
			return true;
	return false;
}
