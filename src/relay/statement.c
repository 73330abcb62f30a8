/* SPDX-License-Identifier: ISC
 *
 * statement.c - prepared statements: clients' names over texts that servers share.
 *
 * Knows Parse, Close and what becomes of them when the server fails in the middle of a batch.
 * Nothing here waits: what is asked of the server is noted in its queue of replies, and taken back
 * from there.
 */
#include "relay/statement.h"

#include "base/mem.h"
#include "relay/listen.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

/* What the allocator and a table's buckets take besides. */
#define ALLOCATION_EXTRA 24

/* There may be millions. */
struct statement_name {
	struct hlink link;
	struct statement *statement; /* NULL: the server itself has it under this name */
	uint32_t refs;               /* the client's table, and replies that are still owed */
	uint32_t made_in;            /* the batch of its Parse: the lower half of its number */
	uint32_t changes : 30;       /* of the statement when it was prepared */
	uint32_t is_listed : 1;
	uint32_t is_told : 1; /* the client knows its result, and may go by it */
	char name[];
};

struct client_statements {
	struct hmap names;
	size_t bytes;                /* of the names in it, with their texts, shared or not */
	unsigned nmade;              /* names in it that SQL has made */
	struct statement_name *last; /* the one in it that was asked for last, or NULL */
	struct statement *unnamed;
};

/* ---- texts ------------------------------------------------------------------------------------
 */

struct statement *statement_ref(struct statement *st)
{
	st->refs++;
	return st;
}

size_t statement_size(const struct statement *st)
{
	return sizeof(*st) + st->len + st->settings_len + ALLOCATION_EXTRA;
}

void statement_unref(struct statement *st)
{
	struct relay *r;

	if (!st || --st->refs)
		return;
	r = st->group->owner;
	r->statement_bytes -= statement_size(st);
	hmap_remove(&r->statements, &st->link);
	free(st);
}

void statement_leave_server(struct statement *st)
{
	st->nservers--;
	statement_unref(st);
}

static bool facts_guard_params(const struct sql_facts *facts)
{
	for (unsigned i = 0; i < facts->nchanges; i++)
		if (facts->changes[i].what == CHANGE_BY_PARAM ||
		    facts->changes[i].form == VALUE_PARAM)
			return true;
	return false;
}

/* The group, client_encoding and standard_conforming_strings stand in the seed, and in env_key. */
static uint64_t hash_body(struct client *c, struct slice body)
{
	gate_env(c);
	return hash_more(c->env_key, body.p, body.n);
}

/* The statement of this body, borrowed, or NULL; compared in full, never by hash alone. */
static struct statement *lookup(const struct client *c, struct slice body, uint64_t hash)
{
	for (struct hlink *l = hmap_first(&relay_of(c)->statements, hash); l; l = hmap_next(l)) {
		struct statement *st = container_of(l, struct statement, link);

		if (st->env_key == c->env_key && slice_is_equal(slice_of(st->body, st->len), body))
			return st;
	}
	return NULL;
}

struct statement *statement_lookup(struct client *c, struct slice body)
{
	return lookup(c, body, hash_body(c, body));
}

/* The same, made if need be, with a reference. */
static struct statement *intern(struct client *c, struct slice body, const struct sql_facts *facts)
{
	struct relay *r = relay_of(c);
	uint64_t hash = hash_body(c, body);
	struct statement *st = lookup(c, body, hash);

	if (st)
		return statement_ref(st);
	st = xcalloc(1, sizeof(*st) + body.n + facts->settings_len);
	st->group = c->group;
	st->env_key = c->env_key;
	st->meaning = c->env_meaning;
	st->is_guarded = facts->nchanges || facts->flags || facts->kind == SQL_KIND_LISTEN;
	st->refs = 1;
	st->id = ++r->last_statement;
	st->effects = facts->effects;
	st->flags = facts->flags;
	st->kind = facts->kind;
	memcpy(st->fingerprint, facts->fingerprint, sizeof(st->fingerprint));
	st->guards_params = facts_guard_params(facts);
	st->has_names = facts->nnames || facts->too_many_names;
	st->is_exact = facts->is_exact;
	st->begin_read_only = facts->begin_read_only;
	st->begin_serializable = facts->begin_serializable;
	st->hint = facts->hint;
	st->sequence = facts->sequence;
	st->nesting = facts->nesting;
	st->chain = facts->chain;
	st->sets_many = facts->sets_many;
	st->sets_unnamed = facts->sets_unnamed;
	st->sets_path = facts->sets_path;
	st->resets = facts->resets;
	st->settings_len = facts->settings_len;
	st->len = body.n;
	memcpy(st->body, body.p, body.n);
	memcpy(st->body + body.n, facts->settings, facts->settings_len);
	st->text_len = strnlen(st->body, body.n);
	hmap_insert(&r->statements, &st->link, hash);
	r->statement_bytes += statement_size(st);
	return st;
}

struct statement *statement_intern(struct client *c, struct slice body)
{
	struct statement *st = statement_lookup(c, body);
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	if (st)
		return statement_ref(st);
	env.wants_fingerprint = true;
	sql_scan(slice_str(body.p), &env, &facts);
	return intern(c, body, &facts);
}

void statement_look_again(struct client *c, struct statement *st)
{
	struct sql_env env = gate_env(c);
	struct sql_facts facts;

	sql_scan(statement_text(st), &env, &facts);
	st->effects = facts.effects;
	st->meaning = c->env_meaning;
}

void statement_facts(const struct statement *st, struct sql_facts *facts)
{
	facts->kind = st->kind;
	facts->statements = 1;
	facts->effects = st->effects;
	facts->flags = st->flags;
	facts->hint = st->hint;
	facts->sequence = st->sequence;
	facts->is_exact = st->is_exact;
	facts->begin_read_only = st->begin_read_only;
	facts->begin_serializable = st->begin_serializable;
	facts->nesting = st->nesting;
	facts->chain = st->chain;
	memcpy(facts->fingerprint, st->fingerprint, sizeof(facts->fingerprint));
	facts->sets_many = st->sets_many;
	facts->sets_unnamed = st->sets_unnamed;
	facts->sets_path = st->sets_path;
	facts->resets = st->resets;
	facts->settings_len = st->settings_len;
	memcpy(facts->settings, st->body + st->len, st->settings_len);
	facts->nchanges = facts->nnames = 0;
	facts->too_many_changes = facts->too_many_names = false;
}

/* ---- names ------------------------------------------------------------------------------------
 */

static struct client_statements *statements_of(struct client *c)
{
	if (!c->statements)
		c->statements = xnew(struct client_statements);
	return c->statements;
}

/* What a server keeps of a name: NAMEDATALEN - 1. */
static struct slice name_cut(struct slice name)
{
	return slice_of(name.p, name.n < 63 ? name.n : 63);
}

static bool name_is(const struct statement_name *n, struct slice name)
{
	return !strncmp(n->name, name.p, name.n) && !n->name[name.n];
}

static struct statement_name *name_find(const struct client *c, struct slice name)
{
	struct statement_name *n;

	if (!c->statements)
		return NULL;
	name = name_cut(name);
	n = c->statements->last;
	if (n && name_is(n, name))
		return n;
	for (struct hlink *l = hmap_first(&c->statements->names, hash_bytes(name.p, name.n)); l;
	     l = hmap_next(l)) {
		n = container_of(l, struct statement_name, link);
		if (name_is(n, name))
			return c->statements->last = n;
	}
	return NULL;
}

static void name_unref(struct statement_name *n)
{
	if (--n->refs)
		return;
	statement_unref(n->statement);
	free(n);
}

static size_t name_own_size(const struct statement_name *n)
{
	return sizeof(*n) + strlen(n->name) + 1 + ALLOCATION_EXTRA;
}

static size_t name_size(const struct statement_name *n)
{
	return name_own_size(n) + (n->statement ? n->statement->len : 0);
}

bool statement_has_room(const struct client *c, size_t n, bool is_known, struct err *e)
{
	const struct relay *r = relay_of(c);
	const char *setting = NULL;

	if (r->statement_bytes + (is_known ? 0 : n) > r->config->global.max_prepared_memory)
		setting = "max_prepared_memory";
	if (c->statements && c->statements->bytes + n > c->group->set.max_client_prepared_memory)
		setting = "max_client_prepared_memory";
	if (!setting)
		return true;
	err_set(e, "53200", "no more room for prepared statements (%s)", setting);
	return err_hint(e,
			"Close those that are not needed any more, and give values as parameters: "
			"texts that differ in a literal are different statements.");
}

/* What nobody names has to go. */
static bool is_tight(const struct relay *r)
{
	return r->statement_bytes > r->config->global.max_prepared_memory / 4 * 3;
}

static void name_list(struct client *c, struct statement_name *n)
{
	if (n->is_listed)
		return;
	hmap_insert(&statements_of(c)->names, &n->link, hash_bytes(n->name, strlen(n->name)));
	c->statements->bytes += name_size(n);
	relay_of(c)->statement_bytes += name_own_size(n);
	c->statements->nmade += !n->statement;
	if (n->statement)
		n->statement->nnames++;
	n->is_listed = true;
	n->refs++;
}

/* The table's reference goes to the caller. */
static void name_take_out(struct client *c, struct statement_name *n)
{
	hmap_remove(&c->statements->names, &n->link);
	c->statements->bytes -= name_size(n);
	relay_of(c)->statement_bytes -= name_own_size(n);
	c->statements->nmade -= !n->statement;
	if (n->statement)
		n->statement->nnames--;
	if (c->statements->last == n)
		c->statements->last = NULL;
	n->is_listed = false;
}

/* Takes the reference on the statement; the result has one reference, the caller's. */
static struct statement_name *name_new(struct slice name, struct statement *st)
{
	struct statement_name *n;

	name = name_cut(name);
	n = xcalloc(1, sizeof(*n) + name.n + 1);

	n->refs = 1;
	n->statement = st;
	n->changes = st ? st->changes : 0;
	memcpy(n->name, name.p, name.n);
	return n;
}

bool statement_is_mapped(const struct client *c)
{
	const struct settings *set = &c->group->set;

	return (set->pool_mode != POOL_MODE_SESSION || c->group->has_tenants) &&
	       set->max_prepared_statements > 0;
}

struct statement *statement_find(const struct client *c, struct slice name)
{
	struct statement_name *n;

	if (!name.n)
		return c->statements ? c->statements->unnamed : NULL;
	n = name_find(c, name);
	return n ? n->statement : NULL;
}

unsigned statement_count(const struct client *c)
{
	return c->statements ? (unsigned)c->statements->names.count : 0;
}

static void set_unnamed(struct client *c, struct statement *st)
{
	statements_of(c)->unnamed = st;
}

static void drop_unnamed(struct client *c)
{
	if (!c->statements)
		return;
	statement_unref(c->statements->unnamed);
	c->statements->unnamed = NULL;
}

/* ---- on the server ----------------------------------------------------------------------------
 */

static struct server_statement *on_server(const struct server *s, const struct statement *st)
{
	for (struct hlink *l = hmap_first(&s->statements, st->id); l; l = hmap_next(l))
		return container_of(l, struct server_statement, link);
	return NULL;
}

static void give_name(struct server_statement *ss, uint64_t serial)
{
	ss->serial = serial;
	ss->name_len = (uint8_t)(1 + snprintf(ss->name, sizeof(ss->name), SQL_OWN_STATEMENTS "%llu",
					      (unsigned long long)serial));
}

/* Counts the batches that are sent, as server.batch those that are answered. */
static uint64_t batch_of(const struct server *s)
{
	return s->batch + s->replies.ncycles;
}

/* What was asked for in this batch has been answered, or stands and falls with what is sent now. */
static bool is_settled(const struct server *s, uint64_t batch)
{
	return batch < s->batch || batch == batch_of(s);
}

/* The number of a batch that is not 2^31 of them away, by its lower half. */
static uint64_t whole_batch(const struct server *s, uint32_t half)
{
	return s->batch + (uint64_t)(int64_t)(int32_t)(half - (uint32_t)s->batch);
}

static void touch(struct server *s, struct server_statement *ss)
{
	ss->used_in = batch_of(s);
	list_del(&ss->lru);
	list_push_front(&s->statements_lru, &ss->lru);
}

static void take_out(struct server *s, struct server_statement *ss)
{
	hmap_remove(&s->statements, &ss->link);
	list_del(&ss->lru);
}

static void put_in(struct server *s, struct server_statement *ss)
{
	hmap_insert(&s->statements, &ss->link, ss->id);
	list_push_front(&s->statements_lru, &ss->lru);
}

static void server_statement_free(struct server_statement *ss)
{
	statement_leave_server(ss->subject);
	free(ss);
}

static void send_close(struct server *s, const char *name)
{
	msg_put_target(conn_output(&s->conn), MSG_CLOSE, 'S', name);
}

static void close_on_server(struct server *s, struct server_statement *ss)
{
	take_out(s, ss);
	send_close(s, ss->name);
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

		if ((ss->used_in == batch_of(s) && !batch_ends) ||
		    (s->statements.count <= max && (st->nnames || !is_tight(r))))
			return;
		close_on_server(s, ss);
	}
}

static struct server_statement *add_to_server(struct server *s, struct statement *st, unsigned max)
{
	struct server_statement *ss = xnew(struct server_statement);

	ss->id = st->id;
	give_name(ss, ++s->last_serial);
	ss->made_in = ss->used_in = batch_of(s);
	ss->subject = statement_ref(st);
	st->nservers++;
	ss->changes = st->changes;
	list_init(&ss->lru);
	put_in(s, ss);
	s->pool->group->counters.server_parse_count++;
	evict(s, max, false);
	return ss;
}

static void send_parse(struct server *s, const char *name, const struct statement *st)
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

static struct server_statement *require_named(struct client *c, struct statement *st)
{
	struct server *s = c->server;
	struct server_statement *ss;
	struct buf text = { 0 };

	if (st->has_names)
		rename_in_text(c, st, &text);
	st->uses++;
	ss = on_server(s, st);
	if (ss && (ss->is_renamed || ss->changes != st->changes || buf_len(&text))) {
		close_on_server(s, ss);
		ss = NULL;
	}
	if (ss) {
		touch(s, ss);
		s->reuses = true;
		return ss;
	}
	ss = add_to_server(s, st, c->group->set.max_prepared_statements);
	ss->is_renamed = buf_len(&text);
	if (ss->is_renamed)
		send_renamed(s, ss->name, st, &text);
	else
		send_parse(s, ss->name, st);
	buf_fini(&text);
	replies_push(&s->replies, (struct reply){ .kind = REPLY_PARSE,
						  .way = REPLY_SWALLOW,
						  .note = NOTE_INJECTED,
						  .subject = ss });
	return ss;
}

static void inject_unnamed(struct server *s, uint8_t kind, struct statement *st)
{
	s->unnamed_id = st ? st->id : UNNAMED_NONE;
	s->unnamed_in = batch_of(s);
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
	} else if (c->server->unnamed_id != st->id) {
		send_parse(c->server, "", st);
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
	if (st ? s->unnamed_id == st->id : s->unnamed_id == UNNAMED_NONE)
		return;
	if (st) {
		send_parse(s, "", st);
		inject_unnamed(s, REPLY_PARSE, st);
		return;
	}
	/* Another client's is there, and must not answer for one that this client does not have. */
	send_close(s, "");
	inject_unnamed(s, REPLY_CLOSE, NULL);
}

struct slice statement_require(struct client *c, struct slice name, struct buf *odd)
{
	struct statement *st = statement_find(c, name);
	const struct server_statement *ss;

	c->server->bound = 0;
	c->server->bound_portal = 0;
	if (!name.n) {
		require_unnamed(c, st);
		return slice_of("", 1);
	}
	if (!st)
		return statement_escape(name, odd);
	ss = require_named(c, st);
	c->server->bound = ss->serial;
	c->server->bound_portal = !ss->is_seen;
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
	send_close(s, buf_head(odd));
	expect_swallowed(s, REPLY_CLOSE);
	msg_put_parse(conn_output(&s->conn), buf_head(odd), "");
	expect_swallowed(s, REPLY_PARSE);
	return buf_peek(odd);
}

void statement_end_batch(struct server *s)
{
	evict(s, s->pool->group->set.max_prepared_statements, true);
}

static void expect_unseen(struct server *s, enum reply_kind kind, struct statement *begin)
{
	replies_push(&s->replies, (struct reply){ .kind = (uint8_t)kind,
						  .way = REPLY_SWALLOW,
						  .note = NOTE_BEGIN,
						  .subject = begin });
}

void statement_begin(struct client *c, struct statement *begin)
{
	struct server *s = c->server;
	struct buf *out;
	size_t m;

	/* The client has none: the Query that its BEGIN was has dropped it. */
	require_unnamed(c, begin);
	s->bound = 0;
	out = conn_output(&s->conn);
	m = msg_begin(out, MSG_BIND);
	buf_put(out, "\0", 2); /* portal and statement without a name */
	buf_put_u16(out, 0);   /* no formats, parameters, formats of results */
	buf_put_u16(out, 0);
	buf_put_u16(out, 0);
	msg_end(out, m);
	expect_unseen(s, REPLY_BIND, NULL);
	msg_put_execute(out);
	expect_unseen(s, REPLY_EXECUTE, statement_ref(begin));
}

void statement_ask_unseen(struct client *c, const char *text)
{
	statement_drop_unnamed(c);
	msg_put_query(conn_output(&c->server->conn), text);
	expect_unseen(c->server, REPLY_QUERY, NULL);
}

void statement_close_unseen(struct client *c)
{
	msg_put_target(conn_output(&c->server->conn), MSG_CLOSE, 'P', "");
	expect_unseen(c->server, REPLY_CLOSE, NULL);
}

/* ---- what clients ask --------------------------------------------------------------------------
 */

/* In a failed transaction the server refuses whatever it is asked to parse. */
static bool may_refuse_all(const struct server *s)
{
	return s->tx == 'E' || s->replies.ncycles;
}

static void parse_unnamed(struct client *c, struct statement *st)
{
	struct server *s = c->server;
	struct statement *before = statements_of(c)->unnamed;
	struct reply r = { .kind = REPLY_PARSE, .note = NOTE_UNNAMED, .subject = before };

	if (s->unnamed_id == st->id && !may_refuse_all(s)) {
		r.way = REPLY_MAKE; /* it is what the server has */
	} else {
		r.way = REPLY_PASS;
		send_parse(s, "", st);
	}
	s->unnamed_id = st->id;
	s->unnamed_in = batch_of(s);
	set_unnamed(c, st);
	replies_push(&s->replies, r);
}

static void parse_named(struct client *c, struct slice name, struct statement *st)
{
	struct server *s = c->server;
	struct statement_name *n = name_new(name, st);
	struct server_statement *ss = on_server(s, st);
	struct reply r = { .kind = REPLY_PARSE, .note = NOTE_NAMED, .subject = n };

	c->group->counters.client_parse_count++;
	n->made_in = (uint32_t)batch_of(s);
	name_list(c, n);
	if (ss && may_refuse_all(s)) {
		/* Only the server can tell, and it parses no name twice. */
		close_on_server(s, ss);
		ss = NULL;
	}
	if (ss) {
		touch(s, ss);
		r.way = REPLY_MAKE;
	} else {
		ss = add_to_server(s, st, c->group->set.max_prepared_statements);
		send_parse(s, ss->name, st);
		r.way = REPLY_PASS;
	}
	replies_push(&s->replies, r);
}

/* A name that there is already.  The server itself refuses, after all that it would find wrong
 * before that: it is asked to parse under the name that the statement has there. */
static void parse_again(struct client *c, struct slice name, struct slice body)
{
	struct server *s = c->server;
	struct buf odd = { 0 }, *out;
	struct err *e = xnew(struct err);
	struct slice known = statement_require(c, name, &odd);
	size_t m;

	out = conn_output(&s->conn);
	m = msg_begin(out, MSG_PARSE);
	buf_put_slice(out, known);
	buf_put_slice(out, body);
	msg_end(out, m);
	buf_fini(&odd);
	err_set(e, "42P05", "prepared statement \"%.*s\" already exists", SLICE_FMT(name));
	replies_push(&s->replies, (struct reply){ .kind = REPLY_PARSE,
						  .way = REPLY_PASS,
						  .note = NOTE_REFUSED,
						  .subject = e });
}

void statement_parse(struct client *c, struct slice name, struct slice body, struct statement *st,
		     const struct sql_facts *facts)
{
	if (name.n && name_find(c, name)) {
		parse_again(c, name, body);
		return;
	}
	st = st ? statement_ref(st) : intern(c, body, facts);
	if (name.n)
		parse_named(c, name, st);
	else
		parse_unnamed(c, st);
}

bool statement_parse_here(struct client *c, struct slice name, struct statement *st)
{
	struct statement_name *n;

	if (!name.n || !st->is_proven || name_find(c, name))
		return false;
	c->group->counters.client_parse_count++;
	n = name_new(name, statement_ref(st));
	name_list(c, n);
	name_unref(n);
	msg_put_empty(conn_output(&c->conn), MSG_PARSE_COMPLETE);
	return true;
}

bool statement_parse_unasked(struct client *c, struct slice name, struct slice body)
{
	struct statement_name *n;
	struct err e;

	if (name.n && (name_find(c, name) || !statement_has_room(c, body.n, false, &e)))
		return false;
	if (name.n) {
		c->group->counters.client_parse_count++;
		n = name_new(name, statement_intern(c, body));
		name_list(c, n);
		name_unref(n);
	} else {
		drop_unnamed(c);
		set_unnamed(c, statement_intern(c, body));
	}
	msg_put_empty(conn_output(&c->conn), MSG_PARSE_COMPLETE);
	return true;
}

/* The server has it under the client's name. */
static void close_made(struct server *s, const struct statement_name *n)
{
	struct buf odd = { 0 };

	send_close(s, statement_escape(slice_str(n->name), &odd).p);
	buf_fini(&odd);
}

void statement_close(struct client *c, struct slice name)
{
	struct statement_name *n = name.n ? name_find(c, name) : NULL;
	struct reply r = { .kind = REPLY_CLOSE, .way = REPLY_MAKE };

	if (n) {
		if (!n->statement) {
			close_made(c->server, n);
			r.way = REPLY_PASS;
		}
		name_take_out(c, n);
		c->server->closed_in = batch_of(c->server);
		r.note = NOTE_NAMED;
		r.subject = n;
	} else if (!name.n) {
		r.note = NOTE_UNNAMED;
		r.subject = statements_of(c)->unnamed;
		c->server->unnamed_in = batch_of(c->server);
		set_unnamed(c, NULL);
	}
	replies_push(&c->server->replies, r);
}

void statement_drop_unnamed(struct client *c)
{
	struct server *s = c->server;

	if (s) {
		s->unnamed_id = UNNAMED_NONE;
		s->unnamed_in = batch_of(s);
	}
	drop_unnamed(c);
}

static void drop_names(struct client *c)
{
	if (!c->statements)
		return;
	HMAP_FOREACH_SAFE (l, &c->statements->names) {
		struct statement_name *n = container_of(l, struct statement_name, link);

		name_take_out(c, n);
		name_unref(n);
	}
}

/* Names whose Parse stands behind, in a pipeline, are not among them: takes them out, or lists them
 * again. */
static void set_later_names(struct server *s, bool listed)
{
	for (uint32_t i = 1; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);
		struct statement_name *n = r->note == NOTE_NAMED ? r->subject : NULL;

		if (!n || r->kind != REPLY_PARSE || n->is_listed == listed)
			continue;
		if (listed) {
			name_list(s->client, n);
		} else {
			name_take_out(s->client, n);
			n->refs--;
		}
	}
}

void statement_forget_unnamed(struct client *c)
{
	drop_unnamed(c);
}

void statement_forget_names(struct client *c)
{
	drop_names(c);
	drop_unnamed(c);
}

void statement_drop_all(struct server *s)
{
	/* What was injected is gone too, so that there is nothing to take back. */
	for (uint32_t i = 0; i < s->replies.n; i++) {
		struct reply *r = replies_at(&s->replies, i);

		if (r->note == NOTE_INJECTED && r->kind == REPLY_PARSE)
			r->note = NOTE_NONE;
	}
	server_forget_statements(s);
	s->unnamed_id = UNNAMED_UNKNOWN;
	set_later_names(s, false);
	drop_names(s->client);
	set_later_names(s, true);
}

/* ---- names that SQL gives and takes ---------------------------------------------------------
 */

void statement_remember(struct client *c, struct slice name)
{
	struct statement_name *n;

	if (name_find(c, name))
		return;
	n = name_new(name, NULL);
	name_list(c, n);
	name_unref(n);
}

void statement_forget(struct client *c, struct slice name)
{
	struct statement_name *n = name.n ? name_find(c, name) : NULL;

	if (n) {
		name_take_out(c, n);
		name_unref(n);
	} else if (!name.n) {
		drop_unnamed(c);
	}
}

static void expect_execute(struct client *c, struct statement_name *n)
{
	struct server *s = c->server;

	s->closed_in = batch_of(s);
	n->made_in = (uint32_t)s->closed_in;
	replies_push(&s->replies, (struct reply){ .kind = REPLY_EXECUTE,
						  .way = REPLY_PASS,
						  .note = NOTE_NAMED,
						  .subject = n });
}

bool statement_expect_made(struct client *c, struct slice name)
{
	struct statement_name *n;

	if (name_find(c, name))
		return false;
	n = name_new(name, NULL);
	name_list(c, n);
	expect_execute(c, n);
	return true;
}

bool statement_expect_gone(struct client *c, struct slice name)
{
	struct statement_name *n = name_find(c, name);

	if (!n)
		return false;
	name_take_out(c, n);
	expect_execute(c, n);
	return true;
}

void statement_leave_made(struct client *c)
{
	if (!c->statements || !c->statements->nmade)
		return;
	HMAP_FOREACH_SAFE (l, &c->statements->names) {
		struct statement_name *n = container_of(l, struct statement_name, link);

		if (n->statement)
			continue;
		name_take_out(c, n);
		name_unref(n);
	}
}

static struct server_statement *of_serial(const struct server *s, uint64_t serial)
{
	LIST_FOREACH (at, &s->statements_lru) {
		struct server_statement *ss = container_of(at, struct server_statement, lru);

		if (ss->serial == serial)
			return ss;
	}
	return NULL;
}

const struct statement *statement_of_serial(const struct server *s, uint64_t serial)
{
	const struct server_statement *ss = of_serial(s, serial);

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

/* ---- results that change --------------------------------------------------------------------
 */

/* Never 0. */
static uint64_t portal_key(struct slice name)
{
	return hash_bytes(name.p, name.n) | 1;
}

/* n may be NULL: whose result it is does not matter. */
static void expect_told(struct client *c, struct statement_name *n)
{
	struct reply r = { .kind = REPLY_DESCRIBE, .way = REPLY_PASS };

	if (n && n->statement) {
		n->refs++;
		r.note = NOTE_TOLD;
		r.subject = n;
	}
	replies_push(&c->server->replies, r);
}

void statement_expect_told(struct client *c, struct slice name)
{
	expect_told(c, name.n ? name_find(c, name) : NULL);
}

void statement_expect_told_portal(struct client *c, struct slice portal)
{
	struct server *s = c->server;
	struct statement_name *n = s->bound && c->statements ? c->statements->last : NULL;

	if (n)
		n->is_told = true;
	/* Once it is seen, the server itself refuses when it changes. */
	expect_told(c, s->bound_portal && s->bound_portal == portal_key(portal) ? n : NULL);
}

void statement_note_portal(struct client *c, struct slice portal)
{
	if (c->server->bound_portal)
		c->server->bound_portal = portal_key(portal);
}

bool statement_is_unseen(const struct client *c, struct slice name)
{
	const struct statement_name *n = name.n ? name_find(c, name) : NULL;
	const struct server_statement *ss;

	if (!n || !n->is_told || !n->statement || n->statement->has_names)
		return false;
	ss = on_server(c->server, n->statement);
	return !ss || !ss->is_seen || ss->changes != n->statement->changes;
}

static bool is_asked(const struct replies *q)
{
	const struct reply *last = q->n ? replies_at(q, q->n - 1) : NULL;

	return last && last->kind == REPLY_DESCRIBE && last->way == REPLY_SWALLOW;
}

void statement_ask_result(struct client *c, struct slice name)
{
	struct server *s = c->server;
	struct server_statement *ss;
	struct buf *out;

	if (is_asked(&s->replies))
		return;
	ss = require_named(c, statement_find(c, name));
	out = conn_output(&s->conn);
	msg_put_target(out, MSG_DESCRIBE, 'S', ss->name);
	msg_put_empty(out, MSG_FLUSH);
	replies_push(
	    &s->replies,
	    (struct reply){ .kind = REPLY_DESCRIBE, .way = REPLY_SWALLOW, .serial = ss->serial });
}

/* Names and types of the columns, as the server itself compares them; of a table that was made
 * anew they are the same. */
static uint64_t digest_of_result(struct slice body)
{
	struct reader r = reader_of(body);
	uint64_t digest = 1;

	if (!body.n)
		return digest;
	for (unsigned n = read_u16(&r); n > 0; n--) {
		struct slice name = read_cstr(&r), type;

		read_bytes(&r, 6); /* where it comes from */
		type = read_bytes(&r, 10);
		read_bytes(&r, 2); /* as text or binary */
		digest = hash_more(digest, name.p, name.n + 1);
		digest = hash_more(digest, type.p, type.n);
	}
	return digest;
}

void statement_note_result(struct server *s, const struct reply *r, const struct frame *f)
{
	struct server_statement *ss =
	    r->note == NOTE_TOLD || r->serial ? statement_of_reply(s, r) : NULL;
	struct statement *st;
	uint64_t result;

	if (!ss || ss->is_seen)
		return;
	st = ss->subject;
	ss->is_seen = true;
	/* One that does not come whole is as good as the old one: nobody waits for it again. */
	if (ss->is_renamed || ss->changes != st->changes || !frame_is_whole(f))
		return;
	result = digest_of_result(frame_body(f));
	if (st->result && st->result != result)
		ss->changes = ++st->changes;
	st->result = result;
}

bool statement_is_outdated(const struct client *c, struct slice name)
{
	const struct statement_name *n = name_find(c, name);

	return n && n->is_told && n->statement && n->changes != n->statement->changes;
}

struct server_statement *statement_of_reply(const struct server *s, const struct reply *r)
{
	const struct statement_name *n = r->note == NOTE_TOLD ? r->subject : NULL;

	return n ? on_server(s, n->statement) : of_serial(s, r->serial);
}

void statement_note_changed(struct server *s, const struct reply *r)
{
	const struct server_statement *ss = statement_of_reply(s, r);
	struct statement *st = ss ? ss->subject : NULL;

	if (st && ss->changes == st->changes) {
		st->changes++;
		st->result = 0;
	} else if (r->note == NOTE_NONE && !r->serial) {
		s->unnamed_id = UNNAMED_UNKNOWN;
	}
}

void statement_renew(struct server *s, struct server_statement *ss)
{
	const struct statement *st = ss->subject;

	send_close(s, ss->name);
	send_parse(s, ss->name, st);
	ss->changes = st->changes;
	ss->is_seen = false;
	replies_push_front(&s->replies, (struct reply){ .kind = REPLY_PARSE,
							.way = REPLY_SWALLOW,
							.note = NOTE_INJECTED,
							.subject = ss });
	replies_push_front(&s->replies,
			   (struct reply){ .kind = REPLY_CLOSE, .way = REPLY_SWALLOW });
}

/* ---- what became of it --------------------------------------------------------------------------
 */

void statement_on_reply(struct server *s, const struct reply *r)
{
	struct statement_name *n = r->subject;

	if (r->note == NOTE_NAMED) {
		if (r->kind == REPLY_PARSE)
			n->statement->is_proven = true;
		name_unref(n);
	}
	if (r->note == NOTE_TEXT)
		free(r->subject);
	if (r->note == NOTE_TOLD) {
		n->is_told = true;
		n->changes = n->statement->changes;
		name_unref(n);
	}
	if (r->note == NOTE_UNNAMED || r->note == NOTE_BEGIN)
		statement_unref(r->subject);
	if (r->note == NOTE_BEGIN && r->kind == REPLY_EXECUTE)
		s->begins_in_batch = false;
	if (r->note == NOTE_INJECTED && r->kind == REPLY_CLOSE)
		server_statement_free(r->subject);
}

/* What a later batch closes has never been there. */
static void void_being_closed(struct server *s, const struct statement_name *n)
{
	for (uint32_t i = 0; i < s->replies.n; i++) {
		const struct reply *r = replies_at(&s->replies, i);
		struct server_statement *ss =
		    r->note == NOTE_INJECTED && r->kind == REPLY_CLOSE ? r->subject : NULL;

		if (ss && ss->subject == n->statement && (uint32_t)ss->made_in == n->made_in)
			ss->is_void = true;
	}
}

static void undo_named_parse(struct server *s, const struct reply *r)
{
	struct statement_name *n = r->subject;
	struct server_statement *ss = r->way == REPLY_PASS ? on_server(s, n->statement) : NULL;

	/* A later batch may have closed it, and made it anew. */
	if (ss && (uint32_t)ss->made_in == n->made_in) {
		take_out(s, ss);
		server_statement_free(ss);
	} else if (r->way == REPLY_PASS) {
		void_being_closed(s, n);
	}
	if (n->is_listed) {
		name_take_out(s->client, n);
		n->refs--;
	}
	name_unref(n);
}

/* What was taken away is there again, and what was made is not. */
static void undo_name(struct client *c, struct statement_name *n)
{
	if (n->is_listed) {
		name_take_out(c, n);
		n->refs--;
	} else {
		name_list(c, n);
	}
	name_unref(n);
}

/* later: what changes the unnamed statement next, or NULL: what is there now is of this one. */
static void undo_unnamed(struct server *s, const struct reply *r, struct reply *later, bool failed)
{
	struct statement *before = r->subject;

	s->unnamed_id = UNNAMED_UNKNOWN;
	/* A Parse that failed has dropped the old one before; one that was skipped has not. */
	if (failed || (later && later->note != NOTE_UNNAMED)) {
		statement_unref(before);
		before = NULL;
	}
	if (!later) {
		drop_unnamed(s->client);
		set_unnamed(s->client, before);
	} else if (later->note == NOTE_UNNAMED) {
		statement_unref(later->subject);
		later->subject = before;
	}
}

/* One that a later batch closes goes with the answer to that. */
static void undo_injected_parse(struct server *s, struct server_statement *ss)
{
	ss->is_void = true;
	if (!list_is_linked(&ss->lru))
		return;
	take_out(s, ss);
	server_statement_free(ss);
}

static void undo_injected_close(struct server *s, struct server_statement *ss)
{
	if (ss->is_void)
		server_statement_free(ss);
	else
		put_in(s, ss);
}

static void undo(struct server *s, struct reply *r, struct reply *later, bool failed)
{
	switch (r->note) {
	case NOTE_REFUSED:
		free(r->subject);
		break;
	case NOTE_NAMED:
		if (r->kind == REPLY_PARSE)
			undo_named_parse(s, r);
		else
			undo_name(s->client, r->subject);
		break;
	case NOTE_TOLD:
		name_unref(r->subject);
		break;
	case NOTE_TEXT:
		free(r->subject);
		s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	case NOTE_UNNAMED:
		undo_unnamed(s, r, later, failed);
		break;
	case NOTE_INJECTED:
		if (r->kind == REPLY_CLOSE)
			undo_injected_close(s, r->subject);
		else
			undo_injected_parse(s, r->subject);
		break;
	case NOTE_INJECTED_UNNAMED:
		s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	case NOTE_PUTBACK:
		free(r->subject);
		s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	case NOTE_BEGIN:
		statement_unref(r->subject);
		break;
	default:
		/* A Query that was skipped has not dropped it. */
		if (r->kind == REPLY_QUERY)
			s->unnamed_id = UNNAMED_UNKNOWN;
		break;
	}
}

/* The first entry from the i-th on that changes the client's unnamed statement, or NULL. */
static struct reply *next_unnamed(struct replies *q, uint32_t i)
{
	for (; i < q->n; i++) {
		struct reply *r = replies_at(q, i);

		if (r->note == NOTE_UNNAMED || r->kind == REPLY_QUERY)
			return r;
	}
	return NULL;
}

void statement_void(struct server *s, uint32_t n, bool failed)
{
	struct reply *later = next_unnamed(&s->replies, n);

	for (uint32_t i = n; i-- > 0;) {
		if (replies_at(&s->replies, i)->has_controls)
			listen_on_answered(s->client);
		undo(s, replies_at(&s->replies, i), later, failed && i == 0);
	}
	replies_drop(&s->replies, n);
}

static bool names_others(const struct statement *st)
{
	return st && st->has_names;
}

bool statement_is_settled(const struct client *c, struct slice name)
{
	const struct server *s = c->server;
	const struct server_statement *ss;
	const struct statement_name *n;

	if (!s || !s->replies.ncycles || s->copy_in)
		return true;
	/* What its text names may be under way too. */
	if (names_others(statement_find(c, name)))
		return false;
	if (!name.n)
		return is_settled(s, s->unnamed_in);
	n = name_find(c, name);
	if (!n)
		return is_settled(s, s->closed_in);
	ss = n->statement ? on_server(s, n->statement) : NULL;
	/* A name whose Parse has no reply to come may be of another server's batches. */
	return (n->refs == 1 || is_settled(s, whole_batch(s, n->made_in))) &&
	       (!ss || is_settled(s, ss->made_in));
}

void statement_forget_client(struct client *c)
{
	if (!c->statements)
		return; /* and so has never bound one */
	drop_names(c);
	drop_unnamed(c);
	hmap_fini(&c->statements->names);
	free(c->statements);
	c->statements = NULL;
	named_forget(c);
}
