/* SPDX-License-Identifier: ISC
 *
 * statement.c - prepared statements: clients' names over texts that servers share.
 *
 * Knows texts, names, and what Parse and Close make of them.  What a server has of them is
 * placed.c's; what becomes of it when a server fails in the middle of a batch, undo.c's.  Nothing
 * here waits: what is asked of the server is noted in its queue of replies, and taken back from
 * there.
 */
#include "relay/statement.h"

#include "base/mem.h"
#include "relay/named.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/repeat.h"
#include "relay/statement_parts.h"
#include "sql/moment.h"
#include "wire/frame.h"
#include "wire/passport.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

/* What the allocator and a table's buckets take besides. */
#define ALLOCATION_EXTRA 24

/* ---- texts
 * ---------------------------------------------------------------------------------------
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

/* Where a body would stand among those that were found last: it is compared in full there, so that
 * a few of its bytes will do. */
static struct statement **found_place(struct relay *r, struct slice body)
{
	const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
	uint64_t middle = 0, end = 0;

	if (body.n >= sizeof(end)) {
		memcpy(&middle, body.p + (body.n - sizeof(end)) / 2, sizeof(middle));
		memcpy(&end, body.p + body.n - sizeof(end), sizeof(end));
	}
	return &r->found[((middle + end * 3 + body.n) * odd) >> 32 & (STATEMENTS_FOUND - 1)];
}

void statement_unref(struct statement *st)
{
	struct statement **found;
	struct relay *r;

	if (!st || --st->refs)
		return;
	r = st->group->owner;
	found = found_place(r, slice_of(st->body, st->len));
	if (*found == st)
		*found = NULL;
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
static uint64_t hash_body(const struct client *c, struct slice body)
{
	return hash_more(c->env_key, body.p, body.n);
}

/* Compared in full, never by hash alone.  One that tells a moment is of its own Parse only. */
static bool is_of(const struct statement *st, const struct client *c, struct slice body)
{
	return !st->tells_moment && st->env_key == c->env_key &&
	       slice_is_equal(slice_of(st->body, st->len), body);
}

/* The statement of this body, borrowed, or NULL. */
static struct statement *lookup(const struct client *c, struct slice body)
{
	struct relay *r = relay_of(c);
	struct statement **found = found_place(r, body);

	if (*found && is_of(*found, c, body))
		return *found;
	for (struct hlink *l = hmap_first(&r->statements, hash_body(c, body)); l;
	     l = hmap_next(l)) {
		struct statement *st = container_of(l, struct statement, link);

		if (is_of(st, c, body))
			return *found = st;
	}
	return NULL;
}

struct statement *statement_lookup(struct client *c, struct slice body)
{
	struct statement *last = c->statements ? c->statements->unnamed : NULL;

	gate_know_env(c);
	/* Those who leave their statements unnamed send the same ones again. */
	if (last && is_of(last, c, body))
		return last;
	return lookup(c, body);
}

/* Of a command whose every word is known. */
static bool is_sure(const struct statement *st, unsigned statements)
{
	struct slice text = statement_text(st);

	return st->is_exact && statements == 1 && slice_is_ascii(text) &&
	       slice_is_equal(slice_of(text.p + text.n, st->len - text.n),
			      slice_of("\0\0", sizeof("\0\0"))); /* it declares no types */
}

static bool is_kept_end(const struct statement *st, unsigned statements)
{
	return (st->kind == SQL_KIND_COMMIT || st->kind == SQL_KIND_ROLLBACK) &&
	       is_sure(st, statements);
}

static bool is_sure_begin(const struct statement *st, unsigned statements)
{
	return st->kind == SQL_KIND_BEGIN && !st->is_guarded && is_sure(st, statements);
}

static bool tells_moment(struct client *c, const struct statement *st)
{
	const struct lex_env env = { .standard_strings = c->env_standard_strings,
				     .ascii_safe = c->env_ascii_safe };

	return sql_tells_moment(statement_text(st), &env);
}

static bool is_plain(const struct statement *st)
{
	const uint64_t kinds = 1ull << SQL_KIND_SELECT | 1ull << SQL_KIND_INSERT |
			       1ull << SQL_KIND_UPDATE | 1ull << SQL_KIND_DELETE;

	return (kinds >> st->kind & 1) && !st->effects && !st->guards_params && !st->sequence &&
	       !st->has_names && !st->sets_path && !st->sets_unnamed && !st->resets &&
	       !st->calls_set_config;
}

/* The same, made if need be, with a reference. */
static struct statement *intern(struct client *c, struct slice body, const struct sql_facts *facts)
{
	struct relay *r = relay_of(c);
	struct statement *st;
	uint64_t hash;

	gate_know_env(c);
	st = lookup(c, body);
	if (st)
		return statement_ref(st);
	hash = hash_body(c, body);
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
	st->begin_read_write = facts->begin_read_write;
	st->begin_serializable = facts->begin_serializable;
	st->hint = facts->hint;
	st->sequence = facts->sequence;
	st->nesting = facts->nesting;
	st->chain = facts->chain;
	st->sets_many = facts->sets_many;
	st->sets_unnamed = facts->sets_unnamed;
	st->sets_path = facts->sets_path;
	st->resets = facts->resets;
	st->calls_set_config = facts->calls_set_config;
	st->settings_len = facts->settings_len;
	st->len = body.n;
	memcpy(st->body, body.p, body.n);
	memcpy(st->body + body.n, facts->settings, facts->settings_len);
	st->text_len = strnlen(st->body, body.n);
	st->is_plain = is_plain(st);
	st->is_kept_end = is_kept_end(st, facts->statements);
	st->is_sure_begin = is_sure_begin(st, facts->statements);
	st->tells_moment = tells_moment(c, st);
	/* Those that nobody is to find are not to make one long chain either. */
	hmap_insert(&r->statements, &st->link,
		    st->tells_moment ? hash_more(hash, &st->id, sizeof(st->id)) : hash);
	r->statement_bytes += statement_size(st);
	return st;
}

struct statement *statement_intern(struct client *c, struct slice body)
{
	struct statement *st = statement_lookup(c, body);
	struct sql_facts facts;
	struct sql_env env;

	if (st)
		return statement_ref(st);
	env = gate_env(c);
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
	st->is_plain = is_plain(st);
	st->meaning = c->env_meaning;
	st->proven = 0;
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
	facts->begin_read_write = st->begin_read_write;
	facts->begin_serializable = st->begin_serializable;
	facts->nesting = st->nesting;
	facts->chain = st->chain;
	memcpy(facts->fingerprint, st->fingerprint, sizeof(facts->fingerprint));
	facts->sets_many = st->sets_many;
	facts->sets_unnamed = st->sets_unnamed;
	facts->sets_path = st->sets_path;
	facts->resets = st->resets;
	facts->calls_set_config = st->calls_set_config;
	facts->settings_len = st->settings_len;
	memcpy(facts->settings, st->body + st->len, st->settings_len);
	facts->nchanges = facts->nnames = 0;
	facts->too_many_changes = facts->too_many_names = false;
}

/* ---- names
 * ---------------------------------------------------------------------------------------
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

struct statement_name *statement_name_find(const struct client *c, struct slice name)
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

void statement_name_unref(struct statement_name *n)
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
bool statement_is_tight(const struct relay *r)
{
	return r->statement_bytes > r->config->global.max_prepared_memory / 4 * 3;
}

void statement_name_list(struct client *c, struct statement_name *n)
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
void statement_name_take_out(struct client *c, struct statement_name *n)
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

struct statement *statement_find(const struct client *c, struct slice name)
{
	struct statement_name *n;

	if (!name.n)
		return c->statements ? c->statements->unnamed : NULL;
	n = statement_name_find(c, name);
	return n ? n->statement : NULL;
}

/* ---- to another process, and from there ---------------------------------------------------------
 */

static void write_one(struct buf *out, const char *name, const struct statement *st, bool is_told,
		      bool is_outdated)
{
	const struct passport_statement one = { .name = name,
						.is_told = is_told,
						.is_outdated = is_outdated,
						.result = st->result,
						.body = slice_of(st->body, st->len) };

	passport_put_statement(out, &one);
}

/* Texts are read anew there, by the settings of then, as on a server that has not met them.  What
 * SQL has made is on a server. */
bool statement_write_all(struct client *c, struct buf *out)
{
	struct client_statements *own = c->statements;

	if (!own)
		return true;
	if (own->nmade)
		return false;
	for (struct hlink *l = hmap_walk(&own->names, NULL); l; l = hmap_walk(&own->names, l)) {
		const struct statement_name *n = container_of(l, struct statement_name, link);

		write_one(out, n->name, n->statement, n->is_told,
			  n->changes != n->statement->changes);
	}
	if (own->unnamed)
		write_one(out, "", own->unnamed, false, false);
	return true;
}

static void read_one(struct client *c, const struct passport_statement *one)
{
	struct statement *st = statement_intern(c, one->body);
	struct statement_name *n;

	if (!*one->name) {
		statement_unnamed_set(c, st);
		return;
	}
	n = name_new(slice_str(one->name), st);
	n->is_told = one->is_told;
	if (one->is_outdated || (st->result && one->result && one->result != st->result))
		n->changes--;
	else if (!st->result)
		st->result = one->result;
	statement_name_list(c, n);
	statement_name_unref(n);
}

void statement_read_all(struct client *c, struct slice statements)
{
	struct passport_statement one;

	while (statements.n && passport_next_statement(&statements, &one))
		read_one(c, &one);
}

unsigned statement_count(const struct client *c)
{
	return c->statements ? (unsigned)c->statements->names.count : 0;
}

void statement_unnamed_set(struct client *c, struct statement *st)
{
	statements_of(c)->unnamed = st;
}

void statement_unnamed_forget(struct client *c)
{
	statement_unref(c->statements->unnamed);
	c->statements->unnamed = NULL;
}

/* ---- what clients ask
 * ----------------------------------------------------------------------------
 */

/* In a failed transaction the server refuses whatever it is asked to parse. */
static bool may_refuse_all(const struct server *s)
{
	return s->tx == 'E' || s->replies.ncycles;
}

/* No server parses it, which would have taken the transaction's snapshot. */
static void note_unparsed(struct client *c, const struct statement *st)
{
	c->owes_snapshot |= is_in_transaction(c) && statement_takes_snapshot(st->kind);
}

static void parse_unnamed(struct client *c, struct statement *st)
{
	struct server *s = c->server;
	struct client_statements *own = statements_of(c);
	struct reply r = { .kind = REPLY_PARSE, .note = NOTE_UNNAMED };

	if (repeat_parse(c, st))
		return;
	own->unnamed_serial = 0;
	r.subject = own->unnamed;
	if (st->is_kept_end && !may_refuse_all(s)) {
		r.way = REPLY_MAKE;
	} else {
		r.way = REPLY_PASS;
		repeat_count(c, st);
		placed_send_parse(s, "", st);
		placed_set_unnamed(s, st);
	}
	s->unnamed_in = placed_batch(s);
	statement_unnamed_set(c, st);
	replies_push(&s->replies, r);
}

static void parse_named(struct client *c, struct slice name, struct statement *st)
{
	struct server *s = c->server;
	struct statement_name *n = name_new(name, st);
	struct server_statement *ss = placed_find(s, st);
	struct reply r = { .kind = REPLY_PARSE, .note = NOTE_NAMED, .subject = n };

	c->group->counters.client_parse_count++;
	n->made_in = (uint32_t)placed_batch(s);
	statement_name_list(c, n);
	if (ss && may_refuse_all(s)) {
		/* Only the server can tell, and it parses no name twice. */
		placed_close(s, ss);
		ss = NULL;
	}
	if (ss) {
		placed_touch(s, ss);
		r.way = REPLY_MAKE;
		note_unparsed(c, st);
	} else {
		ss = placed_add(s, st, c->group->set.max_prepared_statements);
		placed_send_parse(s, ss->name, st);
		r.way = REPLY_PASS;
	}
	replies_push(&s->replies, r);
}

/* A name that there is already.  The server itself refuses, after all that it would find wrong
 * before that: it is asked to parse under a name that is taken there. */
static void parse_again(struct client *c, struct slice name, struct slice body)
{
	struct server *s = c->server;
	struct buf odd = { 0 }, *out;
	struct err *e = xnew(struct err);
	struct slice taken = statement_require_void(c, 0, &odd);
	size_t m;

	out = conn_output(&s->conn);
	m = msg_begin(out, MSG_PARSE);
	buf_put_slice(out, taken);
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
	if (name.n && statement_name_find(c, name)) {
		parse_again(c, name, body);
		return;
	}
	st = st ? statement_ref(st) : intern(c, body, facts);
	if (name.n)
		parse_named(c, name, st);
	else
		parse_unnamed(c, st);
}

void statement_parse_passed(struct client *c)
{
	struct client_statements *own = statements_of(c);
	struct server *s = c->server;

	replies_push(&s->replies, (struct reply){ .kind = REPLY_PARSE,
						  .way = REPLY_PASS,
						  .note = NOTE_UNNAMED,
						  .subject = own->unnamed });
	own->unnamed_serial = 0;
	statement_unnamed_set(c, NULL);
	s->unnamed_id = UNNAMED_PASSED;
	s->unnamed_in = placed_batch(s);
}

bool statement_parse_here(struct client *c, struct slice name, struct statement *st)
{
	struct statement_name *n;

	if (!name.n || !st->is_proven || statement_name_find(c, name))
		return false;
	c->group->counters.client_parse_count++;
	note_unparsed(c, st);
	n = name_new(name, statement_ref(st));
	statement_name_list(c, n);
	statement_name_unref(n);
	msg_put_empty(conn_output(&c->conn), MSG_PARSE_COMPLETE);
	return true;
}

bool statement_parse_unasked(struct client *c, struct slice name, struct slice body,
			     struct statement *st)
{
	struct statement_name *n;
	struct err e;

	if (name.n && (statement_name_find(c, name) || !statement_has_room(c, body.n, false, &e)))
		return false;
	st = st ? statement_ref(st) : statement_intern(c, body);
	if (name.n) {
		c->group->counters.client_parse_count++;
		n = name_new(name, st);
		statement_name_list(c, n);
		statement_name_unref(n);
	} else {
		statement_unnamed_drop(c);
		statement_unnamed_set(c, st);
	}
	msg_put_empty(conn_output(&c->conn), MSG_PARSE_COMPLETE);
	return true;
}

/* The server has it under the client's name. */
static void close_there(struct server *s, struct slice name)
{
	struct buf odd = { 0 };

	placed_send_close(s, statement_escape(name, &odd).p);
	buf_fini(&odd);
}

void statement_close(struct client *c, struct slice name)
{
	struct statement_name *n = name.n ? statement_name_find(c, name) : NULL;
	struct reply r = { .kind = REPLY_CLOSE, .way = REPLY_MAKE };

	if (n) {
		if (!n->statement) {
			close_there(c->server, slice_str(n->name));
			r.way = REPLY_PASS;
		}
		statement_name_take_out(c, n);
		c->server->closed_in = placed_batch(c->server);
		r.note = NOTE_NAMED;
		r.subject = n;
	} else if (!name.n) {
		r.note = NOTE_UNNAMED;
		r.subject = statements_of(c)->unnamed;
		c->server->unnamed_in = placed_batch(c->server);
		if (c->server->unnamed_id == UNNAMED_PASSED)
			c->server->unnamed_id = UNNAMED_UNKNOWN;
		statement_unnamed_set(c, NULL);
	} else if (client_pin(c, PIN_UNMAPPED)) {
		/* Its text was too long to be kept, or it is none. */
		close_there(c->server, name);
		r.way = REPLY_PASS;
	}
	replies_push(&c->server->replies, r);
}

static void drop_names(struct client *c)
{
	if (!c->statements)
		return;
	HMAP_FOREACH_SAFE (l, &c->statements->names) {
		struct statement_name *n = container_of(l, struct statement_name, link);

		statement_name_take_out(c, n);
		statement_name_unref(n);
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
			statement_name_list(s->client, n);
		} else {
			statement_name_take_out(s->client, n);
			n->refs--;
		}
	}
}

void statement_forget_unnamed(struct client *c)
{
	statement_unnamed_drop(c);
}

void statement_forget_names(struct client *c)
{
	drop_names(c);
	statement_unnamed_drop(c);
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

/* ---- names that SQL gives and takes
 * --------------------------------------------------------------
 */

void statement_remember(struct client *c, struct slice name)
{
	struct statement_name *n;

	if (statement_name_find(c, name))
		return;
	n = name_new(name, NULL);
	statement_name_list(c, n);
	statement_name_unref(n);
}

void statement_forget(struct client *c, struct slice name)
{
	struct statement_name *n = name.n ? statement_name_find(c, name) : NULL;

	if (n) {
		statement_name_take_out(c, n);
		statement_name_unref(n);
	} else if (!name.n) {
		statement_unnamed_drop(c);
	}
}

static void expect_execute(struct client *c, struct statement_name *n)
{
	struct server *s = c->server;

	s->closed_in = placed_batch(s);
	n->made_in = (uint32_t)s->closed_in;
	replies_push(&s->replies, (struct reply){ .kind = REPLY_EXECUTE,
						  .way = REPLY_PASS,
						  .note = NOTE_NAMED,
						  .subject = n });
}

bool statement_expect_made(struct client *c, struct slice name)
{
	struct statement_name *n;

	if (statement_name_find(c, name))
		return false;
	n = name_new(name, NULL);
	statement_name_list(c, n);
	expect_execute(c, n);
	return true;
}

bool statement_expect_gone(struct client *c, struct slice name)
{
	struct statement_name *n = statement_name_find(c, name);

	if (!n)
		return false;
	statement_name_take_out(c, n);
	expect_execute(c, n);
	return true;
}

void statement_leave_made(struct client *c)
{
	if (!c->statements->nmade)
		return;
	HMAP_FOREACH_SAFE (l, &c->statements->names) {
		struct statement_name *n = container_of(l, struct statement_name, link);

		if (n->statement)
			continue;
		statement_name_take_out(c, n);
		statement_name_unref(n);
	}
}

/* ---- what is certain, and the end
 * ----------------------------------------------------------------
 */

static bool names_others(const struct statement *st)
{
	return st && st->has_names;
}

bool statement_is_settled(const struct client *c, struct slice name)
{
	const struct server *s = c->server;
	const struct server_statement *ss;
	const struct statement_name *n;
	const struct statement *st;

	if (!s || !s->replies.ncycles || s->copy_in)
		return true;
	st = statement_find(c, name);
	/* What its text names may be under way too. */
	if (names_others(st))
		return false;
	if (!name.n) {
		ss = st && st->is_kept_end ? placed_find(s, st) : NULL;
		return placed_is_settled(s, s->unnamed_in) &&
		       (!ss || placed_is_settled(s, ss->made_in));
	}
	n = statement_name_find(c, name);
	if (!n)
		return placed_is_settled(s, s->closed_in);
	ss = n->statement ? placed_find(s, n->statement) : NULL;
	/* A name whose Parse has no reply to come may be of another server's batches. */
	return (n->refs == 1 || placed_is_settled(s, placed_whole_batch(s, n->made_in))) &&
	       (!ss || placed_is_settled(s, ss->made_in));
}

void statement_forget_client(struct client *c)
{
	if (!c->statements)
		return; /* and so has never bound one */
	drop_names(c);
	statement_unnamed_drop(c);
	hmap_fini(&c->statements->names);
	free(c->statements);
	c->statements = NULL;
	named_forget(c);
}
