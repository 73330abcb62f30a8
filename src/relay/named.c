/* SPDX-License-Identifier: ISC
 *
 * named.c - SQL texts that name prepared statements: PREPARE, EXECUTE, DEALLOCATE.
 *
 * Knows places in texts and in error messages.  Which name stands for what, and what a server has,
 * is statement.c's.
 */
#include "relay/named.h"

#include "base/mem.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

struct place {
	int use;           /* of struct sql_name */
	size_t at;         /* in the text that was sent, in characters from 0 */
	size_t old, fresh; /* characters of the client's token, and of ours */
	char name[64];     /* the client's */
};

struct naming {
	unsigned n;
	unsigned done; /* places of commands that have been run */
	struct place places[SQL_NAMES_MAX];
};

/* ---- what the names of a text mean -------------------------------------------------------------
 */

/* An earlier command of the same text has taken the name away. */
static bool is_gone_by_then(const struct sql_facts *facts, unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (facts->names[k].use == NAME_DEALLOCATE &&
		    !strcmp(facts->names[k].folded, facts->names[i].folded))
			return true;
	return false;
}

/* The statement of the client's that is meant, or NULL: the name is the server's own affair. */
static struct statement *meant_by(const struct client *c, const struct sql_facts *facts, unsigned i)
{
	const char *name = facts->names[i].folded;

	return *name && !is_gone_by_then(facts, i) ? statement_find(c, slice_str(name)) : NULL;
}

bool named_is_ours(const struct client *c, const struct sql_facts *facts)
{
	return facts->kind == SQL_KIND_DEALLOCATE && facts->statements == 1 && facts->is_exact &&
	       facts->nnames == 1 && statement_is_mapped(c) && meant_by(c, facts, 0);
}

void named_deallocate(struct client *c, const struct sql_facts *facts)
{
	statement_forget(c, slice_str(facts->names[0].folded));
	statement_forget(c, slice_of("", 0));
	msg_put_command_complete(conn_output(&c->conn), "DEALLOCATE");
	c->group->counters.deallocate_count++;
	local_ready(c);
}

static bool forbid(struct client *c, struct err *e, const char *sqlstate, const char *why)
{
	guard_count_refused(c);
	return err_set(e, sqlstate, "%s", why);
}

/* What another statement does, as if the text did it. */
static void add_effects(struct sql_facts *facts, const struct statement *st)
{
	facts->effects |= st->effects;
	facts->sets_many |= st->sets_many;
	facts->sets_unnamed |= st->sets_unnamed;
	facts->sets_path |= st->sets_path;
	facts->resets |= st->resets;
	if (facts->settings_len + st->settings_len > sizeof(facts->settings)) {
		facts->sets_unnamed = true;
		return;
	}
	memcpy(facts->settings + facts->settings_len, st->body + st->len, st->settings_len);
	facts->settings_len += st->settings_len;
}

/* What PREPARE of SQL holds happens when it is executed, and there only a name tells of it. */
static void note_prepared(struct client *c, struct sql_facts *facts)
{
	for (unsigned i = 0; i < facts->nnames; i++)
		if (facts->names[i].use == NAME_PREPARE) {
			c->prepared_effects |= facts->effects & ~(uint32_t)SQL_EFFECT_PREPARE;
			c->prepared_sequence |= facts->sequence;
		}
	for (unsigned i = 0; i < facts->nnames; i++)
		if (facts->names[i].use == NAME_EXECUTE) {
			facts->effects |= c->prepared_effects;
			facts->sequence |= c->prepared_sequence;
			facts->sets_unnamed |= (c->prepared_effects & SQL_EFFECT_SET) != 0;
		}
}

void named_add_effects(struct client *c, struct sql_facts *facts)
{
	note_prepared(c, facts);
	if (!statement_is_mapped(c))
		return;
	for (unsigned i = 0; i < facts->nnames; i++) {
		const struct statement *st =
		    facts->names[i].use == NAME_EXECUTE ? meant_by(c, facts, i) : NULL;

		if (st)
			add_effects(facts, st);
	}
}

bool named_may_run(struct client *c, struct sql_facts *facts, struct err *e)
{
	named_add_effects(c, facts);
	if (!statement_is_mapped(c))
		return true;
	if (facts->too_many_names)
		return forbid(c, e, "54000", "one text names too many prepared statements");
	for (unsigned i = 0; i < facts->nnames; i++) {
		const struct statement *st = meant_by(c, facts, i);

		if (facts->names[i].use == NAME_PREPARE && !statement_has_room(c, 0, true, e))
			return false;
		if (facts->names[i].use != NAME_EXECUTE || !st)
			continue;
		if (st->has_names)
			return forbid(
			    c, e, "0A000",
			    "EXECUTE of a statement that names prepared statements is not "
			    "supported");
		/* No Bind shows what EXECUTE gives the parameters. */
		if (st->guards_params && c->group->has_tenants)
			return forbid(
			    c, e, "42501",
			    "permission denied: EXECUTE of a statement whose parameters have to "
			    "be checked");
	}
	return true;
}

/* ---- the text that a server sees ---------------------------------------------------------------
 */

/* Characters as the server counts them: in UTF-8, and in encodings of one byte. */
static size_t count_chars(const struct client *c, struct slice s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += (s.p[i] & 0xC0) != 0x80;
	return c->env_is_utf8 ? n : s.n;
}

static void put_quoted(struct buf *out, const char *name)
{
	buf_put_u8(out, '"');
	for (; *name; name++)
		buf_put(out, *name == '"' ? "\"\"" : name, *name == '"' ? 2 : 1);
	buf_put_u8(out, '"');
}

/* The name that the server will know it by, with its NUL. */
static struct slice resolve(struct client *c, const struct sql_facts *facts, unsigned i,
			    struct buf *odd)
{
	struct slice name = slice_str(facts->names[i].folded);
	const struct statement *st = meant_by(c, facts, i);

	if (st && facts->names[i].use != NAME_EXECUTE)
		return statement_require_void(c, i, odd); /* to be taken away, or in the way */
	return st && !st->has_names ? statement_require(c, name, odd) : statement_escape(name, odd);
}

static void put_place(struct client *c, const struct sql_name *name, struct slice token,
		      const char *there, struct place *place, struct buf *out)
{
	size_t before = buf_len(out);

	if (strcmp(name->folded, there) != 0)
		put_quoted(out, there);
	else
		buf_put_slice(out, token);
	place->use = name->use;
	place->at = count_chars(c, slice_of(buf_head(out), before));
	place->old = count_chars(c, token);
	place->fresh = count_chars(c, slice_of(buf_head(out) + before, buf_len(out) - before));
	memcpy(place->name, name->folded, sizeof(place->name));
}

struct naming *named_rewrite(struct client *c, struct slice text, const struct sql_facts *facts,
			     struct buf *out)
{
	struct naming *naming = xnew(struct naming);
	struct buf odd = { 0 };
	size_t done = 0;

	gate_env(c);
	/* Another statement of the same text may set something that the plan is made by. */
	c->sets_locally |= facts->statements > 1;
	for (; naming->n < facts->nnames; naming->n++) {
		const struct sql_name *name = &facts->names[naming->n];
		struct slice there = resolve(c, facts, naming->n, &odd);

		buf_put(out, text.p + done, name->at - done);
		put_place(c, name, slice_of(text.p + name->at, name->len), there.p,
			  &naming->places[naming->n], out);
		done = name->at + name->len;
	}
	buf_put(out, text.p + done, text.n - done);
	buf_fini(&odd);
	if (slice_is_equal(buf_peek(out), text))
		buf_fini(out);
	return naming;
}

void named_on_tag(struct server *s, struct naming *naming, struct slice tag)
{
	int use = slice_is_equal(tag, SLICE("PREPARE")) ? NAME_PREPARE : NAME_DEALLOCATE;

	if (use == NAME_DEALLOCATE && !slice_is_equal(tag, SLICE("DEALLOCATE")))
		return;
	while (naming->done < naming->n) {
		const struct place *place = &naming->places[naming->done++];

		if (place->use != use)
			continue;
		if (use == NAME_PREPARE)
			statement_remember(s->client, slice_str(place->name));
		else
			statement_forget(s->client, slice_str(place->name));
		return;
	}
}

/* ---- the extended protocol ---------------------------------------------------------------------
 */

/* The last portal of a text that names a statement. */
struct named_portal {
	int use;
	char name[64];
	struct naming
	    *naming; /* or NULL: the text was sent as it is, or something else was bound */
	char portal[];
};

static void bind_portal(struct client *c, struct slice portal, const struct sql_name *name)
{
	struct named_portal *p = xcalloc(1, sizeof(*p) + portal.n + 1);

	named_forget(c);
	client_make_rare(c)->named = p;
	p->use = name->use;
	memcpy(p->name, name->folded, sizeof(p->name));
	memcpy(p->portal, portal.p, portal.n);
}

void named_forget(struct client *c)
{
	if (!c->rare->named)
		return;
	free(c->rare->named->naming);
	free(c->rare->named);
	client_make_rare(c)->named = NULL;
}

void named_unbind(struct client *c, struct slice portal)
{
	if (slice_is_equal(slice_str(c->rare->named->portal), portal))
		named_forget(c);
}

void named_keep(struct client *c, struct naming *naming)
{
	if (!c->rare->named) {
		free(naming);
		return;
	}
	free(c->rare->named->naming);
	c->rare->named->naming = naming;
}

bool named_on_bind(struct client *c, struct slice portal, const struct statement *st,
		   struct sql_facts *facts, struct err *e)
{
	struct sql_env env = gate_env(c);

	sql_scan(statement_text(st), &env, facts);
	if (!named_may_run(c, facts, e))
		return false;
	if (facts->nnames)
		bind_portal(c, portal, &facts->names[0]);
	return true;
}

/* What was sent instead of the portal's text is kept for what the server says of it. */
static bool expect_named(struct client *c)
{
	struct naming *naming = c->rare->named->naming;

	if (!naming)
		return false;
	c->rare->named->naming = NULL;
	replies_push(&c->server->replies, (struct reply){ .kind = REPLY_EXECUTE,
							  .way = REPLY_PASS,
							  .note = NOTE_TEXT,
							  .subject = naming });
	return true;
}

bool named_on_execute(struct client *c, struct slice portal)
{
	struct slice name = slice_str(c->rare->named->name);

	if (!slice_is_equal(slice_str(c->rare->named->portal), portal))
		return false;
	switch (c->rare->named->use) {
	case NAME_PREPARE:
		return statement_expect_made(c, name) || expect_named(c);
	case NAME_DEALLOCATE:
		return statement_expect_gone(c, name) || expect_named(c);
	default:
		return expect_named(c);
	}
}

/* ---- errors ------------------------------------------------------------------------------------
 */

/* The position in the client's text of one in the text that the server has seen; from 1. */
static long client_position(const struct naming *naming, long position)
{
	long shift = 0;

	for (unsigned i = 0; i < naming->n; i++) {
		const struct place *p = &naming->places[i];

		if (position > (long)(p->at + p->fresh))
			shift += (long)p->fresh - (long)p->old;
	}
	return position - shift;
}

/* The client's name of what the server calls SQL_OWN_STATEMENTS and what stands at p; *behind it,
 * or NULL. */
static const char *client_name(const struct server *s, const struct naming *naming, const char *p,
			       const char **behind)
{
	const struct statement *st;
	char *end;

	if (!strncmp(p, VOID_STATEMENTS, sizeof(VOID_STATEMENTS) - 1)) {
		p += sizeof(VOID_STATEMENTS) - 1;
		*behind = p + 1;
		return naming && (unsigned)(*p - '0') < naming->n ? naming->places[*p - '0'].name
								  : NULL;
	}
	st = statement_of_serial(s, strtoull(p, &end, 10));
	*behind = end;
	for (unsigned i = 0; naming && st && i < naming->n; i++)
		if (statement_find(s->client, slice_str(naming->places[i].name)) == st)
			return naming->places[i].name;
	if (!st)
		return NULL;
	return st == statement_find(s->client, SLICE("")) ? "" : statement_name_of(s, st);
}

/* Copies text with our names of statements turned back into the client's. */
static void put_reworded(const struct server *s, const struct naming *naming, struct slice text,
			 struct buf *out)
{
	static const char own[] = SQL_OWN_STATEMENTS;
	const char *end = text.p + text.n;

	for (const char *p = text.p, *behind; p < end; p = behind) {
		const char *at = memmem(p, (size_t)(end - p), own, sizeof(own) - 1), *name;
		/* What is not ours but begins so has got a mark in front of it. */
		bool is_marked = at && at > p && at[-1] == '?';

		buf_put(out, p, (size_t)((at ? at : end) - p) - is_marked);
		if (!at)
			break;
		behind = at + sizeof(own) - 1;
		name = is_marked ? NULL : client_name(s, naming, behind, &behind);
		buf_put(out, name ? name : at, name ? strlen(name) : (size_t)(behind - at));
	}
	buf_put_u8(out, 0);
}

static bool needs_rewording(const struct naming *naming, struct slice body)
{
	return (naming && naming->n) ||
	       memmem(body.p, body.n, SQL_OWN_STATEMENTS, sizeof(SQL_OWN_STATEMENTS) - 1);
}

/* Of the text that the head of the queue of replies belongs to, or NULL. */
static const struct naming *naming_of_head(const struct server *s)
{
	const struct reply *head = replies_head(&s->replies);

	return head && head->note == NOTE_TEXT ? head->subject : NULL;
}

void named_reword(const struct server *s, const struct frame *f, struct buf *out)
{
	const struct naming *naming = naming_of_head(s);
	struct reader r = reader_of(frame_body(f));
	uint8_t code;
	size_t m;

	if (!needs_rewording(naming, frame_body(f)))
		return;
	m = msg_begin(out, f->type);
	while ((code = read_u8(&r)) && !r.failed) {
		struct slice value = read_cstr(&r);

		buf_put_u8(out, code);
		if (code == 'P' && naming)
			buf_printf(out, "%ld%c", client_position(naming, strtol(value.p, NULL, 10)),
				   '\0');
		else if (code == 'M' || code == 'D' || code == 'H')
			put_reworded(s, naming, value, out);
		else
			buf_put(out, value.p, value.n + 1);
	}
	buf_put_u8(out, 0);
	msg_end(out, m);
}
