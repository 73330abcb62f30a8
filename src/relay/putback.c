/* SPDX-License-Identifier: ISC
 *
 * putback.c - RESET and SET … DEFAULT in the text of a session that began with settings of its own.
 *
 * The server would go back to what its connection began with.  So the text gets the session's own
 * values: in the place of DEFAULT, or in a command of ours behind it, whose answer is swallowed; in
 * the extended protocol, where a text is one command, behind its Execute.  What comes next finds
 * everything in its place.  Where this cannot be done, session_restore() puts things right when the
 * text or batch has ended.
 */
#include "base/mem.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "sql/lex.h"
#include "sql/resets.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <ctype.h>
#include <stdlib.h>

/* Commands of ours in one text. */
#define PUT_MAX 64

/* Portals of a client that take something back, and have not been executed. */
#define PORTALS_MAX 16

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
		buf_printf(out, "SET %s \"%s\" TO %s", is_local ? "LOCAL" : "SESSION", p->name,
			   buf_cstr(&value));
	} else {
		buf_printf(out, "%s", "SELECT WHERE pg_catalog.set_config(");
		session_put_literal(out, p->name);
		buf_put(out, ", ", 2);
		session_put_literal(out, p->value);
		buf_printf(out, ", %s) IS NULL", is_local ? "true" : "false");
	}
	buf_fini(&value);
}

/* Who is the session's user again, has the role again too that it began with. */
static bool takes_role(const struct sql_reset *r)
{
	return !strcmp(r->name, "session_authorization") || !strcmp(r->name, "role");
}

static bool takes(const struct sql_reset *r, const struct param *p)
{
	if (session_is_role(p->name))
		return takes_role(r) && !strcasecmp(p->name, "role");
	return !*r->name || !strcasecmp(p->name, r->name);
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
		buf_put(out, "; ", 2);
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

static bool find(struct client *c, struct slice text, struct sql_reset items[SQL_RESETS_MAX],
		 unsigned *n)
{
	struct sql_env env = gate_env(c);

	return sql_find_resets(text, &(struct lex_env){ env.standard_strings, env.ascii_safe },
			       items, n);
}

static bool rewrite(struct client *c, struct slice text, struct putback *back, struct buf *out)
{
	struct sql_reset items[SQL_RESETS_MAX];
	size_t done = 0;
	unsigned n;

	if (!find(c, text, items, &n))
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (items[i].in_call && !strcmp(items[i].name, "session_authorization"))
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

/* ---- the extended protocol ----------------------------------------------------------------------
 */

struct putback_portal {
	struct putback_portal *next; /* of the client */
	struct statement *statement;
	char name[];
};

/* What the text of one command takes back.  False: nobody knows, or its own words have done it. */
static bool find_one(struct client *c, const struct statement *st, struct sql_reset *r)
{
	struct sql_reset items[SQL_RESETS_MAX];
	unsigned n;

	*r = (struct sql_reset){ .nth = 0 };
	if (st->effects & SQL_EFFECT_DISCARD_ALL)
		return true; /* as RESET ALL */
	if (!find(c, statement_text(st), items, &n) || n != 1 || items[0].in_call)
		return false;
	*r = items[0];
	return true;
}

bool putback_bind(struct client *c, struct slice portal, struct statement *st)
{
	struct putback_portal *p;
	struct sql_reset r;
	unsigned n = 0;

	for (p = c->rare->putbacks; p; p = p->next)
		n++;
	if (n == PORTALS_MAX || !find_one(c, st, &r))
		return false;
	p = xcalloc(1, sizeof(*p) + portal.n + 1);
	memcpy(p->name, portal.p, portal.n);
	p->statement = statement_ref(st);
	p->next = c->rare->putbacks;
	client_make_rare(c)->putbacks = p;
	/* Whether it outlives its batch is known when that has been answered. */
	c->server->will_forget = true;
	return true;
}

struct statement *putback_unbind(struct client *c, struct slice portal)
{
	struct putback_portal **at, *p;
	struct statement *st;

	if (!c->rare->putbacks)
		return NULL;
	at = &client_make_rare(c)->putbacks;
	while (*at && !slice_is_equal(slice_str((*at)->name), portal))
		at = &(*at)->next;
	p = *at;
	if (!p)
		return NULL;
	*at = p->next;
	st = p->statement;
	free(p);
	return st;
}

void putback_forget(struct client *c)
{
	while (c->rare->putbacks)
		statement_unref(putback_unbind(c, slice_str(c->rare->putbacks->name)));
}

void putback_send(struct client *c, struct statement *st)
{
	struct sql_reset r;

	if (find_one(c, st, &r))
		for (unsigned i = 0; i < c->base->n; i++) {
			struct buf command = { 0 };

			if (!takes(&r, &c->base->items[i]))
				continue;
			put_command(c, &c->base->items[i], r.is_local, &command);
			statement_run_apart(c->server, buf_cstr(&command));
			buf_fini(&command);
		}
	statement_unref(st);
}
