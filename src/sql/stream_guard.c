/* SPDX-License-Identifier: ISC
 *
 * stream_guard.c - whether a text too long to be held could change the tenant setting.
 */
#include "sql/stream_guard.h"

#include "base/assert.h"

/* What could change a setting without spelling its name, or spell it in disguise; and what else is
 * guarded, since a text must not change how we have to read the next one. */
static const struct slice suspects[] = {
	{"set_config",                   10},
	{ "pg_settings",                 11},
	{ "u&",			  2 },
	{ "statement_timeout",           17},
	{ "standard_conforming_strings", 27},
	{ "client_encoding",             15},
};

bool sql_spells(struct slice text, struct slice needle)
{
	const char *p = text.p, *end = text.p + text.n;
	const char both[2] = { needle.p[0], (char)(needle.p[0] & ~0x20) };
	bool letter = both[0] >= 'a' && both[0] <= 'z';

	for (; (size_t)(end - p) >= needle.n; p++)
		if ((*p == both[0] || (letter && *p == both[1])) &&
		    strncasecmp(p, needle.p, needle.n) == 0)
			return true;
	return false;
}

struct slice sql_setting_last_part(const char *setting)
{
	const char *dot = strrchr(setting, '.');

	return slice_str(dot ? dot + 1 : setting);
}

void sql_stream_guard_init(struct sql_stream_guard *g, const char *tenant_setting)
{
	struct slice name = sql_setting_last_part(tenant_setting);

	*g = (struct sql_stream_guard){ 0 };
	/* A long name is looked for by its beginning, which errs the right way. */
	g->nname = name.n < sizeof(g->name) ? name.n : sizeof(g->name);
	memcpy(g->name, name.p, g->nname);
}

static bool is_suspicious(const struct sql_stream_guard *g, struct slice text)
{
	for (size_t i = 0; i < PGT_NELEMS(suspects); i++)
		if (sql_spells(text, suspects[i]))
			return true;
	return sql_spells(text, slice_of(g->name, g->nname));
}

bool sql_stream_guard_feed(struct sql_stream_guard *g, struct slice chunk)
{
	char border[2 * STREAM_GUARD_MAX];
	size_t head = chunk.n < STREAM_GUARD_MAX ? chunk.n : STREAM_GUARD_MAX, n, keep;

	if (g->found || chunk.n == 0)
		return g->found;
	memcpy(border, g->tail, g->ntail);
	memcpy(border + g->ntail, chunk.p, head);
	n = g->ntail + head;
	g->found = is_suspicious(g, slice_of(border, n)) || is_suspicious(g, chunk);
	if (chunk.n >= STREAM_GUARD_MAX) {
		g->ntail = STREAM_GUARD_MAX;
		memcpy(g->tail, chunk.p + chunk.n - STREAM_GUARD_MAX, STREAM_GUARD_MAX);
	} else {
		keep = n < STREAM_GUARD_MAX ? n : STREAM_GUARD_MAX;
		memcpy(g->tail, border + n - keep, keep);
		g->ntail = keep;
	}
	return g->found;
}
