/* SPDX-License-Identifier: ISC
 *
 * placed.c - prepared statements on the servers that have them.
 *
 * Sends a server what it lacks, ahead of what uses it, and closes what was used longest ago.  Knows
 * no client's names but to look them up.
 */
#include "base/mem.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/repeat.h"
#include "relay/statement_parts.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

/* Our own on the server, so that none of the client's is in the way. */
#define OWN_PORTAL SQL_OWN_STATEMENTS "apart"

/* Sessions have a statement each for themselves where its plan may tell of them (I1); what begins
 * and ends transactions has no plan. */
static uint64_t key_for(const struct server *s, const struct statement *st)
{
	return st->kind == SQL_KIND_BEGIN || st->is_kept_end ? 0 : gate_plan_key(s->client);
}

struct server_statement *placed_find(const struct server *s, const struct statement *st)
{
	uint64_t key = key_for(s, st);

	for (struct hlink *l = hmap_first(&s->statements, st->id); l; l = hmap_next(l)) {
		struct server_statement *ss = container_of(l, struct server_statement, link);

		if (ss->key == key)
			return ss;
	}
	return NULL;
}

struct server_statement *placed_made_in(const struct server *s, const struct statement *st,
					uint32_t half)
{
	struct server_statement *newest = NULL;

	for (struct hlink *l = hmap_first(&s->statements, st->id); l; l = hmap_next(l)) {
		struct server_statement *ss = container_of(l, struct server_statement, link);

		if ((uint32_t)ss->made_in == half && (!newest || ss->serial > newest->serial))
			newest = ss;
	}
	return newest;
}

bool placed_is_unnamed(const struct server *s, const struct statement *st)
{
	return s->unnamed_id == st->id && s->unnamed_key == key_for(s, st);
}

void placed_set_unnamed(struct server *s, const struct statement *st)
{
	s->unnamed_id = st->id;
	s->unnamed_key = key_for(s, st);
}

static void give_name(struct server_statement *ss, uint64_t serial)
{
	ss->serial = serial;
	ss->name_len = (uint8_t)(1 + snprintf(ss->name, sizeof(ss->name), SQL_OWN_STATEMENTS "%llu",
					      (unsigned long long)serial));
}

void placed_touch(struct server *s, struct server_statement *ss)
{
	ss->used_in = placed_batch(s);
	list_del(&ss->lru);
	list_push_front(&s->statements_lru, &ss->lru);
}

void placed_take_out(struct server *s, struct server_statement *ss)
{
	hmap_remove(&s->statements, &ss->link);
	list_del(&ss->lru);
}

void placed_put_in(struct server *s, struct server_statement *ss)
{
	hmap_insert(&s->statements, &ss->link, ss->id);
	list_push_front(&s->statements_lru, &ss->lru);
}

void placed_free(struct server_statement *ss)
{
	statement_leave_server(ss->subject);
	free(ss);
}

void placed_send_close(struct server *s, const char *name)
{
	msg_put_target(conn_output(&s->conn), MSG_CLOSE, 'S', name);
}

void placed_close(struct server *s, struct server_statement *ss)
{
	placed_take_out(s, ss);
	placed_send_close(s, ss->name);
	replies_push(&s->replies, (struct reply){ .kind = REPLY_CLOSE,
						  .way = REPLY_SWALLOW,
						  .note = NOTE_INJECTED,
						  .subject = ss });
}

/* Closes what was used longest ago, but nothing that the batch under way has used and may still
 * use.
 */
static void evict(struct server *s, unsigned max, bool batch_ends)
{
	const struct relay *r = s->pool->group->owner;

	while (s->statements.count) {
		struct server_statement *ss =
		    container_of(list_last(&s->statements_lru), struct server_statement, lru);
		const struct statement *st = ss->subject;

		if ((ss->used_in == placed_batch(s) && !batch_ends) ||
		    (s->statements.count <= max && (st->nnames || !statement_is_tight(r))))
			return;
		placed_close(s, ss);
	}
}

struct server_statement *placed_add(struct server *s, struct statement *st, unsigned max)
{
	struct server_statement *ss = xnew(struct server_statement);

	ss->id = st->id;
	ss->key = key_for(s, st);
	give_name(ss, ++s->last_serial);
	ss->made_in = ss->used_in = placed_batch(s);
	ss->subject = statement_ref(st);
	st->nservers++;
	ss->changes = st->changes;
	ss->setbacks = st->setbacks;
	ss->parsed_at = loop_now(s->conn.net->loop);
	list_init(&ss->lru);
	placed_put_in(s, ss);
	s->pool->group->counters.server_parse_count++;
	evict(s, max, false);
	return ss;
}

void placed_send_parse(struct server *s, const char *name, const struct statement *st)
{
	struct buf *out = conn_output(&s->conn);
	size_t m = msg_begin(out, MSG_PARSE);

	buf_put_cstr(out, name);
	buf_put(out, st->body, st->len);
	msg_end(out, m);
}

/* The same with another text. */
static void send_renamed(struct server *s, const char *name, const struct statement *st,
			 const struct buf *text)
{
	struct buf *out = conn_output(&s->conn);
	size_t m = msg_begin(out, MSG_PARSE);

	buf_put_cstr(out, name);
	buf_put_slice(out, buf_peek(text));
	buf_put(out, st->body + st->text_len, st->len - st->text_len);
	msg_end(out, m);
}

/* The text of a statement that names others, as it has to be for this client on its server now;
 * empty: as it is. */
static void rename_in_text(struct client *c, const struct statement *st, struct buf *text)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	sql_scan(statement_text(st), &env, &facts);
	named_keep(c, named_rewrite(c, statement_text(st), &facts, text));
}

struct server_statement *placed_require(struct client *c, struct statement *st)
{
	struct server *s = c->server;
	struct server_statement *ss;
	struct buf text = { 0 };

	if (st->has_names)
		rename_in_text(c, st, &text);
	st->uses++;
	ss = placed_find(s, st);
	if (ss && (ss->is_renamed || ss->changes != st->changes || buf_len(&text))) {
		placed_close(s, ss);
		ss = NULL;
	}
	if (ss) {
		placed_touch(s, ss);
		s->reuses |= !st->is_kept_end;
		ss->runs++;
		return ss;
	}
	ss = placed_add(s, st, c->group->set.max_prepared_statements);
	ss->is_renamed = buf_len(&text);
	if (ss->is_renamed)
		send_renamed(s, ss->name, st, &text);
	else
		placed_send_parse(s, ss->name, st);
	buf_fini(&text);
	replies_push(&s->replies, (struct reply){ .kind = REPLY_PARSE,
						  .way = REPLY_SWALLOW,
						  .note = NOTE_INJECTED,
						  .subject = ss });
	return ss;
}

static void inject_unnamed(struct server *s, uint8_t kind, struct statement *st)
{
	if (st)
		placed_set_unnamed(s, st);
	else
		s->unnamed_id = UNNAMED_NONE;
	s->unnamed_in = placed_batch(s);
	replies_push(
	    &s->replies,
	    (struct reply){ .kind = kind, .way = REPLY_SWALLOW, .note = NOTE_INJECTED_UNNAMED });
}

static void require_unnamed_with_names(struct client *c, struct statement *st)
{
	struct buf text = { 0 };

	rename_in_text(c, st, &text);
	if (buf_len(&text)) {
		send_renamed(c->server, "", st, &text);
		inject_unnamed(c->server, REPLY_PARSE, st);
		c->server->unnamed_id = UNNAMED_UNKNOWN;
	} else if (!placed_is_unnamed(c->server, st)) {
		placed_send_parse(c->server, "", st);
		inject_unnamed(c->server, REPLY_PARSE, st);
	}
	buf_fini(&text);
}

static void require_unnamed(struct client *c, struct statement *st)
{
	struct server *s = c->server;

	if (st && st->has_names) {
		require_unnamed_with_names(c, st);
		return;
	}
	if (st ? placed_is_unnamed(s, st)
	       : s->unnamed_id == UNNAMED_NONE || s->unnamed_id == UNNAMED_PASSED)
		return;
	if (st) {
		placed_send_parse(s, "", st);
		inject_unnamed(s, REPLY_PARSE, st);
		return;
	}
	/* Another client's is there, and must not answer for one that this client does not have. */
	placed_send_close(s, "");
	inject_unnamed(s, REPLY_CLOSE, NULL);
}

struct slice statement_require_named(struct client *c, struct statement *st)
{
	const struct server_statement *ss = placed_require(c, st);

	c->server->bound = ss->serial;
	c->server->bound_portal = !ss->is_seen;
	return slice_of(ss->name, ss->name_len);
}

struct slice statement_require(struct client *c, struct slice name, struct buf *odd)
{
	struct statement *st = statement_find(c, name);
	struct server_statement *ss;

	c->server->bound = 0;
	c->server->bound_portal = 0;
	if (!name.n && st && st->is_kept_end) {
		ss = placed_require(c, st);
		return slice_of(ss->name, ss->name_len);
	}
	ss = !name.n && st ? repeat_require(c, st) : NULL;
	if (ss)
		return slice_of(ss->name, ss->name_len);
	if (!name.n) {
		require_unnamed(c, st);
		return slice_of("", 1);
	}
	return st ? statement_require_named(c, st) : statement_escape(name, odd);
}

struct slice statement_require_other(struct client *c, struct statement *st)
{
	const struct server_statement *ss = placed_require(c, st);

	c->server->bound = 0;
	c->server->bound_portal = 0;
	return slice_of(ss->name, ss->name_len);
}

struct slice statement_escape(struct slice name, struct buf *odd)
{
	if (!slice_starts_with(name, SLICE(SQL_OWN_STATEMENTS)))
		return slice_of(name.p, name.n + 1);
	buf_clear(odd);
	buf_put(odd, "?", 1);
	buf_put(odd, name.p, name.n + 1);
	return buf_peek(odd);
}

static void expect_swallowed(struct server *s, enum reply_kind kind)
{
	replies_push(&s->replies, (struct reply){ .kind = (uint8_t)kind, .way = REPLY_SWALLOW });
}

struct slice statement_require_void(struct client *c, unsigned i, struct buf *odd)
{
	struct server *s = c->server;

	buf_clear(odd);
	buf_printf(odd, SQL_OWN_STATEMENTS VOID_STATEMENTS "%u%c", i, '\0');
	/* One may have been left by a text that failed before it came to its end. */
	placed_send_close(s, buf_head(odd));
	expect_swallowed(s, REPLY_CLOSE);
	msg_put_parse(conn_output(&s->conn), buf_head(odd), "");
	expect_swallowed(s, REPLY_PARSE);
	return buf_peek(odd);
}

bool statement_must_know(struct client *c, enum sql_kind kind)
{
	const struct server *s = c->server;

	c->turn_missed |= statement_minds_snapshot(kind) && s && s->replies.ncycles && !s->copy_in;
	return c->turn_missed;
}

/* Not in a failed transaction, where it would fail before what fails anyway. */
void statement_take_snapshot(struct client *c)
{
	c->owes_snapshot = false;
	if (c->server->tx != 'T')
		return;
	c->server->unnamed_id = UNNAMED_UNKNOWN;
	msg_put_parse(conn_output(&c->server->conn), "", "SELECT");
	expect_swallowed(c->server, REPLY_PARSE);
}

void statement_end_batch(struct server *s)
{
	evict(s, s->pool->group->set.max_prepared_statements, true);
}

static void expect_unseen(struct server *s, enum reply_kind kind)
{
	replies_push(
	    &s->replies,
	    (struct reply){ .kind = (uint8_t)kind, .way = REPLY_SWALLOW, .note = NOTE_BEGIN });
}

void statement_begin(struct client *c, struct statement *begin)
{
	struct server *s = c->server;
	struct buf *out;
	size_t m;

	require_unnamed(c, begin);
	out = conn_output(&s->conn);
	m = msg_begin(out, MSG_BIND);
	buf_put(out, "\0", 2); /* portal and statement without a name */
	buf_put_u16(out, 0);   /* no formats, parameters, formats of results */
	buf_put_u16(out, 0);
	buf_put_u16(out, 0);
	msg_end(out, m);
	expect_unseen(s, REPLY_BIND);
	msg_put_execute(out, "");
	expect_unseen(s, REPLY_EXECUTE);
}

void statement_ask_unseen(struct client *c, const char *text)
{
	struct server *s = c->server;

	/* The client has not sent it, and keeps its own. */
	s->unnamed_id = UNNAMED_NONE;
	s->unnamed_in = placed_batch(s);
	msg_put_query(conn_output(&s->conn), text);
	expect_unseen(s, REPLY_QUERY);
}

void statement_close_unseen(struct client *c)
{
	msg_put_target(conn_output(&c->server->conn), MSG_CLOSE, 'P', "");
	expect_unseen(c->server, REPLY_CLOSE);
}

static void expect_apart(struct server *s, enum reply_kind kind)
{
	replies_push(&s->replies, (struct reply){ .kind = (uint8_t)kind, .way = REPLY_SWALLOW });
}

void statement_run_apart(struct server *s, const char *command)
{
	struct buf *out = conn_output(&s->conn);

	s->unnamed_id = UNNAMED_UNKNOWN;
	msg_put_parse(out, "", command);
	expect_apart(s, REPLY_PARSE);
	msg_put_bind(out, OWN_PORTAL, "", NULL, 0);
	expect_apart(s, REPLY_BIND);
	msg_put_execute(out, OWN_PORTAL);
	expect_apart(s, REPLY_EXECUTE);
	msg_put_target(out, MSG_CLOSE, 'P', OWN_PORTAL);
	expect_apart(s, REPLY_CLOSE);
}

/* ---- by what the server calls them
 * ---------------------------------------------------------------
 */

struct server_statement *placed_of_serial(const struct server *s, uint64_t serial)
{
	LIST_FOREACH (at, &s->statements_lru) {
		struct server_statement *ss = container_of(at, struct server_statement, lru);

		if (ss->serial == serial)
			return ss;
	}
	return NULL;
}

struct server_statement *placed_described(const struct server *s, const struct statement_name *n)
{
	for (struct hlink *l = hmap_first(&s->statements, n->statement->id); l; l = hmap_next(l)) {
		struct server_statement *ss = container_of(l, struct server_statement, link);

		if ((uint32_t)ss->serial == n->described)
			return ss;
	}
	return NULL;
}

const struct statement *statement_of_serial(const struct server *s, uint64_t serial)
{
	const struct server_statement *ss = placed_of_serial(s, serial);

	/* It may have had to make room since. */
	for (uint32_t i = 0; !ss && i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);

		if (r->note == NOTE_INJECTED && r->kind == REPLY_CLOSE)
			ss = r->subject;
		if (ss && ss->serial != serial)
			ss = NULL;
	}
	return ss ? ss->subject : NULL;
}

/* A name whose Close is on its way. */
static const char *name_being_closed(const struct server *s, const struct statement *st)
{
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);
		const struct statement_name *n = r->note == NOTE_NAMED ? r->subject : NULL;

		if (n && n->statement == st)
			return n->name;
	}
	return NULL;
}

const char *statement_name_of(const struct server *s, const struct statement *st)
{
	const struct client_statements *statements = s->client->statements;
	const struct hlink *l = NULL;

	while (statements && (l = hmap_walk(&statements->names, l))) {
		const struct statement_name *n = container_of(l, struct statement_name, link);

		if (n->statement == st)
			return n->name;
	}
	return name_being_closed(s, st);
}
