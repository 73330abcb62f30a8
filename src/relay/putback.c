/* SPDX-License-Identifier: ISC
 *
 * putback.c - RESET and SET … DEFAULT in the text of a session that began with settings of its own.
 *
 * The server would go back to what its connection began with.  So the text gets the session's own
 * values: in the place of DEFAULT, or in a command of ours behind it, whose answer is swallowed.
 * What comes behind them in the text finds everything in its place.  Where this cannot be done,
 * session_restore() puts things right when the text has ended.
 */
#include "base/mem.h"
#include "relay/parts.h"
#include "sql/lex.h"
#include "sql/resets.h"

#include <ctype.h>
#include <stdlib.h>

/* Commands of ours in one text. */
#define PUT_MAX 64

/* Which answers of a Query are ours: counted from 0, ascending. */
struct putback {
	unsigned seen; /* answers that have come */
	unsigned n, next;
	unsigned ours[PUT_MAX];
};

/* ---- values -------------------------------------------------------------------------------------
 */

/* Lists of names, which SET takes one by one. */
static bool is_list(const char *name)
{
	static const char *const lists[] = { "search_path", "temp_tablespaces",
					     "local_preload_libraries",
					     "session_preload_libraries" };

	for (size_t i = 0; i < PGT_NELEMS(lists); i++)
		if (!strcasecmp(name, lists[i]))
			return true;
	return false;
}

/* One of a list: *p moves behind it.  False: it would be shown otherwise after a SET than the
 * startup packet has spelled it, or is not seen through. */
static bool put_element(const char **p, struct buf *out)
{
	bool is_quoted = **p == '"', needs_quotes = isdigit((unsigned char)(*p)[is_quoted]);
	const char *start = *p + is_quoted, *end = start;

	for (; *end && *end != (is_quoted ? '"' : ','); end++) {
		if (*end == '\'' || *end == '\\' || *end & 0x80)
			return false;
		needs_quotes |=
		    !(*end >= 'a' && *end <= 'z') && *end != '_' && !isdigit((unsigned char)*end);
	}
	if (end == start || end - start >= 64 || needs_quotes != is_quoted)
		return false;
	buf_printf(out, "'%.*s'", (int)(end - start), start);
	*p = end + is_quoted;
	return !is_quoted || *end == '"';
}

static bool put_list(const char *p, struct buf *out)
{
	while (put_element(&p, out)) {
		if (!*p)
			return true;
		if (p[0] != ',' || p[1] != ' ')
			return false;
		buf_put(out, ", ", 2);
		p += 2;
	}
	return false;
}

static void put_string(const struct client *c, const struct param *p, struct buf *out)
{
	char room[SESSION_CLAMPED_MAX];

	session_put_literal(out, session_clamp(c, p->name, p->value, room));
}

/* As SET takes it; false, and nothing in *out: it cannot be said so. */
static bool put_value(const struct client *c, const struct param *p, struct buf *out)
{
	struct buf list = { 0 };
	bool fits = true;

	if (is_list(p->name)) {
		fits = put_list(p->value, &list);
		if (fits)
			buf_put_slice(out, buf_peek(&list));
		buf_fini(&list);
		return fits;
	}
	put_string(c, p, out);
	return true;
}

/* ---- the text -----------------------------------------------------------------------------------
 */

/* A command of ours that gives the setting its value, without rows in its answer. */
static void put_command(const struct client *c, const struct param *p, bool is_local,
			struct buf *out)
{
	struct buf value = { 0 };

	if (put_value(c, p, &value)) {
		buf_printf(out, "; SET %s \"%s\" TO %s", is_local ? "LOCAL" : "SESSION", p->name,
			   buf_cstr(&value));
	} else {
		buf_printf(out, "%s", "; SELECT WHERE pg_catalog.set_config(");
		session_put_literal(out, p->name);
		buf_put(out, ", ", 2);
		session_put_literal(out, p->value);
		buf_printf(out, ", %s) IS NULL", is_local ? "true" : "false");
	}
	buf_fini(&value);
}

static bool takes(const struct sql_reset *r, const struct param *p)
{
	return *r->name ? !strcasecmp(p->name, r->name) : !session_is_role(p->name);
}

/* For each setting that is taken back. */
static bool put_commands(const struct client *c, const struct sql_reset *r, struct putback *back,
			 struct buf *out)
{
	for (unsigned i = 0; i < c->base->n; i++) {
		const struct param *p = &c->base->items[i];

		if (!takes(r, p))
			continue;
		if (!back || back->n == PUT_MAX || strchr(p->name, '"'))
			return false;
		back->ours[back->n] = r->nth + back->n + 1;
		back->n++;
		put_command(c, p, r->is_local, out);
	}
	return true;
}

/* DEFAULT becomes the value.  False: that is none for this place. */
static bool put_in_place(const struct client *c, const struct sql_reset *r, struct slice text,
			 size_t *done, struct buf *out)
{
	const struct param *p = NULL;
	struct buf value = { 0 };

	for (unsigned i = 0; i < c->base->n && !p; i++)
		if (takes(r, &c->base->items[i]))
			p = &c->base->items[i];
	if (p && r->in_call)
		put_string(c, p, &value);
	else if (p && !put_value(c, p, &value))
		return false;
	if (p) {
		buf_put(out, text.p + *done, r->at - *done);
		buf_printf(out, " %s ", buf_cstr(&value));
		*done = r->at + r->n;
	}
	buf_fini(&value);
	return true;
}

static bool rewrite(struct client *c, struct slice text, struct putback *back, struct buf *out)
{
	struct sql_env env = gate_env(c);
	struct sql_reset items[SQL_RESETS_MAX];
	size_t done = 0;
	unsigned n;

	if (!sql_find_resets(text, &(struct lex_env){ env.standard_strings, env.ascii_safe }, items,
			     &n))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (session_is_role(items[i].name))
			return false;
		if (items[i].by_set && put_in_place(c, &items[i], text, &done, out))
			continue;
		buf_put(out, text.p + done, items[i].end - done);
		done = items[i].end;
		if (!put_commands(c, &items[i], back, out))
			return false;
	}
	buf_put(out, text.p + done, text.n - done);
	return n > 0;
}

bool putback_rewrite(struct client *c, struct slice text, struct putback **back, struct buf *out)
{
	struct putback made = { .n = 0 };
	struct buf rewritten = { 0 };

	if (!rewrite(c, text, back ? &made : NULL, &rewritten)) {
		buf_fini(&rewritten);
		return false;
	}
	buf_fini(out);
	*out = rewritten;
	if (back && made.n) {
		*back = xnew(struct putback);
		**back = made;
	}
	return true;
}

bool putback_is_next(const struct putback *back)
{
	return back->next < back->n && back->ours[back->next] == back->seen;
}

bool putback_takes(struct putback *back)
{
	bool is_ours = putback_is_next(back);

	back->seen++;
	back->next += is_ours;
	return is_ours;
}
