/* SPDX-License-Identifier: ISC
 *
 * carry.c - brings a session's settings to its server in the same write as its statement.
 *
 * A transaction of ours goes ahead of the client's request: BEGIN, set_config() of what differs,
 * COMMIT, each as Bind and Execute of a statement that the server keeps, and without a Sync.  When
 * any of it fails, the server ignores everything up to a Sync, a Query too, so the request does not
 * run under other settings than its session's; and since it is committed, neither a failure of the
 * request nor a command that must not be in a transaction comes into touch with it (ADR 5).
 *
 * A tenant that is chosen in a transaction goes with the BEGIN of that instead, and ends with it
 * (ADR 20).
 *
 * Values are parameters, not text, which others may read in pg_stat_activity.  Knows what differs;
 * what it is used for is session.c's, what becomes of it answer.c's.
 */
#include "relay/parts.h"
#include "relay/statement.h"
#include "route/nodes.h"
#include "wire/frame.h"
#include "wire/write.h"

/* A function takes 100 arguments, and is given half of them. */
#define CARRY_MAX 50

/* Texts that a server keeps, by their bits in server.carry_parsed.  A standby refuses other
 * transactions, which the session's defaults might ask for. */
enum {
	CARRY_BEGIN,
	CARRY_BEGIN_READ,
	CARRY_COMMIT,
	CARRY_CHECK,
	CARRY_SET, /* one setting; the next one two … */
	CARRY_SETS = 4,
	CARRY_LOCAL = CARRY_SET + CARRY_SETS, /* the same, up to the end of the transaction */
	CARRY_LOCALS = CONTEXT_MAX,
	CARRY_KEPT = CARRY_LOCAL + CARRY_LOCALS
};
static const struct {
	const char *name, *text;
} kept[CARRY_KEPT] = {
	[CARRY_BEGIN] = {SQL_OWN_STATEMENTS "begin",       "BEGIN"           },
	[CARRY_BEGIN_READ] = { SQL_OWN_STATEMENTS "begin_read",
                         "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY"   },
	[CARRY_COMMIT] = { SQL_OWN_STATEMENTS "commit",     "COMMIT"          },
	[CARRY_CHECK] = { SQL_OWN_STATEMENTS "check",      CONTEXT_CHECK_TEXT},
	[CARRY_SET] = { SQL_OWN_STATEMENTS "set_1",      NULL              },
	[CARRY_SET + 1] = { SQL_OWN_STATEMENTS "set_2",      NULL              },
	[CARRY_SET + 2] = { SQL_OWN_STATEMENTS "set_3",      NULL              },
	[CARRY_SET + 3] = { SQL_OWN_STATEMENTS "set_4",      NULL              },
	[CARRY_LOCAL] = { SQL_OWN_STATEMENTS "local_1",    NULL              },
	[CARRY_LOCAL + 1] = { SQL_OWN_STATEMENTS "local_2",    NULL              },
	[CARRY_LOCAL + 2] = { SQL_OWN_STATEMENTS "local_3",    NULL              },
};

struct differences {
	const char *values[2 * CARRY_MAX]; /* name, value; NULL: what the server began with */
	unsigned n;
	bool too_many, not_ascii;
	char room[SESSION_CLAMPED_MAX];
	struct context context;
};

static void add(struct differences *d, const char *name, const char *value)
{
	for (const char *p = value ? value : ""; *p; p++)
		d->not_ascii |= *p & 0x80;
	if (d->n == CARRY_MAX) {
		d->too_many = true;
		return;
	}
	d->values[2 * d->n] = name;
	d->values[2 * d->n + 1] = value;
	d->n++;
}

/* What is brought with the tenant's id is not looked at by itself. */
static bool is_apart(const struct client *c, const char *name)
{
	return session_is_role(name) || context_brings(c->group, name);
}

static void find_context(const struct client *c, const struct server *s, struct differences *d)
{
	context_find(c, s, &d->context);
	for (unsigned i = 0; i < d->context.n; i++)
		add(d, d->context.values[2 * i], d->context.values[2 * i + 1]);
}

/* A role is taken back first and set last, since it may forbid the rest. */
static void find(const struct client *c, const struct server *s, struct differences *d)
{
	const struct param_set *has = s->applied, *wants = c->wanted;
	static const char *const roles[] = { "session_authorization", "role" };

	d->n = 0;
	d->too_many = d->not_ascii = false;
	if (has != wants && session_has_role(has)) {
		add(d, "session_authorization", NULL);
		add(d, "role", "none");
	}
	for (unsigned i = 0; i < has->n; i++)
		if (!is_apart(c, has->items[i].name) &&
		    !param_set_get(wants, slice_str(has->items[i].name)))
			add(d, has->items[i].name, NULL);
	find_context(c, s, d);
	for (unsigned i = 0; i < wants->n; i++) {
		const char *name = wants->items[i].name, *value = wants->items[i].value;
		const char *there = param_set_get(has, slice_str(name));

		if (!is_apart(c, name) && !(there && !strcmp(there, value)))
			add(d, name, session_clamp(c, name, value, d->room));
	}
	for (size_t i = 0; i < PGT_NELEMS(roles); i++) {
		const char *value = param_set_get(wants, slice_str(roles[i]));

		if (value && has != wants)
			add(d, roles[i], value);
	}
}

bool carry_is_possible(const struct client *c, const struct server *s)
{
	struct differences d;

	if ((s->sequence_mixed && sequence_must_clean(c, s)) || session_must_forget_plans(c, s))
		return false;
	if (c->phase != CLIENT_READY || c->group->set.pool_mode == POOL_MODE_SESSION ||
	    !statement_is_mapped(c))
		return false;
	find(c, s, &d);
	return !d.too_many && !d.not_ascii;
}

/* ---- messages -----------------------------------------------------------------------------------
 */

static void expect(struct server *s, enum reply_kind kind, enum reply_note note)
{
	replies_push(
	    &s->replies,
	    (struct reply){ .kind = (uint8_t)kind, .way = REPLY_SWALLOW, .note = (uint8_t)note });
	s->carrying += note == NOTE_CARRY || note == NOTE_EARLY;
}

static void parse(struct server *s, const char *name, const char *text, enum reply_note note)
{
	msg_put_parse(conn_output(&s->conn), name, text);
	expect(s, REPLY_PARSE, note);
}

/* Runs a statement with these parameters, by the unnamed portal. */
static void run(struct server *s, const char *name, const char *const *values, unsigned n,
		enum reply_note note)
{
	struct buf *out = conn_output(&s->conn);

	msg_put_bind(out, "", name, values, n);
	expect(s, REPLY_BIND, note);
	msg_put_execute(out, "");
	expect(s, REPLY_EXECUTE, note);
}

/* Without rows in its answer, which would have to be told from the client's. */
void carry_put_text(struct buf *sql, unsigned n, bool is_local)
{
	buf_printf(sql, "%s", "SELECT WHERE pg_catalog.concat(");
	for (unsigned i = 0; i < n; i++)
		buf_printf(sql, "%spg_catalog.set_config($%u, $%u, %s)", i ? ", " : "", 2 * i + 1,
			   2 * i + 2, is_local ? "true" : "false");
	buf_printf(sql, "%s", ") IS NULL");
}

/* Its own text, or the one that sets n settings. */
static void require_kept(struct server *s, unsigned i, unsigned n, enum reply_note note)
{
	struct buf sql = { 0 };

	if (s->carry_parsed & 1u << i)
		return;
	s->carry_parsed |= (uint16_t)(1u << i);
	if (!kept[i].text)
		carry_put_text(&sql, n, i >= CARRY_LOCAL);
	parse(s, kept[i].name, kept[i].text ? kept[i].text : buf_cstr(&sql), note);
	buf_fini(&sql);
}

static void run_kept(struct server *s, unsigned i, const char *const *values, unsigned n,
		     enum reply_note note)
{
	require_kept(s, i, n / 2, note);
	run(s, kept[i].name, values, n, note);
}

/* More settings at once than are worth a statement that is kept. */
static void set_many(struct server *s, const struct differences *d)
{
	struct buf sql = { 0 };

	carry_put_text(&sql, d->n, false);
	parse(s, "", buf_cstr(&sql), NOTE_CARRY);
	buf_fini(&sql);
	s->unnamed_id = UNNAMED_UNKNOWN;
	run(s, "", d->values, 2 * d->n, NOTE_CARRY);
}

static void set(struct server *s, const struct differences *d)
{
	if (d->n <= CARRY_SETS)
		run_kept(s, CARRY_SET + d->n - 1, d->values, 2 * d->n, NOTE_CARRY);
	else
		set_many(s, d);
}

/* An extended message that names the unnamed portal must not find ours. */
static void close_portal(struct server *s)
{
	msg_put_target(conn_output(&s->conn), MSG_CLOSE, 'P', "");
	expect(s, REPLY_CLOSE, NOTE_CARRY);
}

void carry_commit(struct server *s)
{
	run_kept(s, CARRY_COMMIT, NULL, 0, NOTE_EARLY);
	msg_put_empty(conn_output(&s->conn), MSG_SYNC);
	expect(s, REPLY_SYNC, NOTE_EARLY);
}

void carry_check(struct client *c)
{
	struct server *s = c->server;
	const char *values[2];

	context_put_check(s, values);
	run_kept(s, CARRY_CHECK, values, 2, NOTE_CHECK);
	msg_put_empty(conn_output(&s->conn), MSG_SYNC);
	replies_push(&s->replies, (struct reply){ .kind = REPLY_SYNC, .way = REPLY_SWALLOW });
}

void carry_send(struct client *c)
{
	struct server *s = c->server;
	struct differences d;

	find(c, s, &d);
	if (d.n) {
		context_sign(c, s, &d.context);
		run_kept(s, s->node->role == NODE_REPLICA ? CARRY_BEGIN_READ : CARRY_BEGIN, NULL, 0,
			 NOTE_CARRY);
		set(s, &d);
		run_kept(s, CARRY_COMMIT, NULL, 0, NOTE_CARRY);
		close_portal(s);
		s->carried = true;
	}
	s->carry_due = false;
	context_brought(c, s, &d.context);
	param_set_assign(&s->applied, c->wanted);
}

/* ---- a BEGIN that has waited --------------------------------------------------------------------
 */

/* One without modes, by the words that it was made of. */
static bool is_plain(const struct statement *begin)
{
	static const char *const texts[] = { "begin", "begin transaction", "begin work",
					     "start transaction" };

	for (size_t i = 0; i < PGT_NELEMS(texts); i++)
		if (slice_is_equal(statement_text(begin), slice_str(texts[i])))
			return true;
	return false;
}

void carry_begin(struct client *c, struct statement *begin)
{
	struct server *s = c->server;
	struct context x;

	/* The unnamed portal is of no statement that another client has bound here before. */
	s->bound = s->bound_portal = 0;
	if (is_plain(begin))
		run_kept(s, CARRY_BEGIN, NULL, 0, NOTE_BEGIN);
	else
		statement_begin(c, begin);
	context_find_local(c, s, &x);
	if (x.n) {
		context_sign(c, s, &x);
		run_kept(s, CARRY_LOCAL + x.n - 1, x.values, 2 * x.n, NOTE_BEGIN);
		context_brought_local(c, s, &x);
	}
	/* It has been answered when all that belongs to it has. */
	replies_at(&s->replies, s->replies.n - 1)->subject = statement_ref(begin);
}
