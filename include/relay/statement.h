/* SPDX-License-Identifier: ISC
 *
 * statement.h - prepared statements: clients' names over texts that servers share.
 *
 * A struct statement is one text with its parameter types, as it is read in one group under one
 * client_encoding and standard_conforming_strings: whatever changes what it means or what is
 * guarded in it makes it another one.  It is counted by the names of clients and the servers that
 * know it.  A client's name stands for one from the moment its Parse is passed on; an error takes
 * that back, in the reverse order of what was asked (undo).
 *
 * In four files: statement.c (texts and names), placed.c (what servers have of them), result.c
 * (results that change) and undo.c.
 *
 * Traps 1 to 3 of the protocol: test/integration/README.md.
 */
#ifndef PGT_RELAY_STATEMENT_H
#define PGT_RELAY_STATEMENT_H

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/slice.h"
#include "client/client.h"
#include "server/server.h"
#include "sql/scan.h"
#include "stats/queries.h"

#include <stdint.h>

struct buf;
struct frame;
struct group;
struct relay;
struct reply;

struct statement {
	struct hlink link; /* of relay.statements */
	struct group *group;
	unsigned refs;
	unsigned nnames, nservers; /* of clients; that have it */
	uint64_t uses;             /* Binds and Describes by name */
	uint64_t id;
	uint64_t env_key;  /* of the clients that mean this by it */
	uint64_t meaning;  /* gate_meaning() when its text was looked at */
	bool tells_moment; /* sql_tells_moment(): found by nobody else */
	bool is_proven;    /* a server of the group has parsed it */
	bool is_guarded;   /* the gate must see it each time */
	bool is_plain;     /* to run it is nothing to anybody but those who choose its server */
	uint32_t effects;
	uint32_t flags; /* enum sql_flag */
	enum sql_kind kind;
	uint64_t fingerprint[2];
	uint64_t proven;        /* the sql_classifier_era() that knows it as a read, or 0 */
	struct query_ref query; /* what it costs, of whoever used it last */
	bool guards_params;     /* a Bind must be looked into */
	uint8_t sequence;       /* enum sql_sequence */
	bool has_names;         /* it names others, see named.h */
	unsigned changes;       /* times that its result was found to have become another */
	uint64_t result;        /* a digest of what it is by now; 0: not known */
	bool is_exact;
	/* COMMIT or ROLLBACK, with which no server finds fault.  As an unnamed one too it is kept
	 * by name there: it has no plan that could grow old, and what is unnamed there stays. */
	bool is_kept_end;
	/* BEGIN or START TRANSACTION, with which no server finds fault when it is parsed. */
	bool is_sure_begin;
	bool begin_read_only, begin_read_write, begin_serializable;
	enum sql_hint hint;
	unsigned nesting, chain;
	bool sets_many, sets_unnamed, sets_path, resets, calls_set_config;
	/* As an unnamed one, repeat.c: */
	bool is_recent;     /* stands in relay.recent */
	uint8_t steadiness; /* enum sql_steadiness */
	uint8_t patience;   /* it has to come so many doublings of auto_prepare_after times */
	unsigned seen;      /* times that a server has parsed it */
	unsigned setbacks;  /* what servers have of it is not what a Parse would make now */
	uint8_t slower;     /* times in a row that it was found to be … */
	usec_t judged_at;
	unsigned nplanned, ngiven; /* times that it ran by a plan made for it; by any other */
	uint64_t planned, given;   /* how long that took, as sums of logarithms */
	unsigned settings_len;     /* sql_facts.settings, behind the body */
	size_t text_len;
	size_t len;
	char body[]; /* of a Parse message from the text on: the text, its NUL, the types */
};

static inline struct slice statement_text(const struct statement *st)
{
	return slice_of(st->body, st->text_len);
}

/* What its text may leave, looked at again where that may have become more: at its Bind. */
void statement_look_again(struct client *c, struct statement *st);
/* The facts, as far as they are kept, for the classifier. */
void statement_facts(const struct statement *st, struct sql_facts *facts);

/* Whether this client's names are mapped: not with max_prepared_statements = 0, and in session
 * pooling only where what a Bind gives the parameters has to be guarded, in a tenant's session. */
static inline bool statement_is_mapped(const struct client *c)
{
	const struct settings *set = &c->group->set;

	return (set->pool_mode != POOL_MODE_SESSION || c->group->has_tenants) &&
	       set->max_prepared_statements > 0;
}

/* The statement that a Parse body is, if it is known; borrowed. */
struct statement *statement_lookup(struct client *c, struct slice body);
/* Parse of an unnamed one that is too long to be kept. */
void statement_parse_passed(struct client *c);
/* Parse: body is the message from the text on; st is what statement_lookup() says of it, and facts
 * are needed when that is NULL.  The client has a server. */
void statement_parse(struct client *c, struct slice name, struct slice body, struct statement *st,
		     const struct sql_facts *facts);
/* Parse of a text that a server of the group has parsed before, for a client without a server: it
 * is answered here, and prepared on a server when it is first used.  False: it was not. */
bool statement_parse_here(struct client *c, struct slice name, struct statement *st) PGT_MUST_USE;
/* The same of a text that any server of the group would parse, without a name too; st is what
 * statement_lookup() says of it. */
bool statement_parse_unasked(struct client *c, struct slice name, struct slice body,
			     struct statement *st) PGT_MUST_USE;
/* Whether the client, and its worker, may have one more text of n bytes kept (I6); is_known: the
 * text is there already.  False: *e. */
bool statement_has_room(const struct client *c, size_t n, bool is_known, struct err *e);
/* Those of the client, for its passport.  False: not all of them can go along. */
bool statement_write_all(struct client *c, struct buf *out);
/* Those of its passport are its own. */
void statement_read_all(struct client *c, struct slice statements);
/* What a name stands for; NULL: nothing. */
struct statement *statement_find(const struct client *c, struct slice name);
/* Makes the client's server know the statement that name stands for, and tells the name it has
 * there, with its NUL; good until the event ends.  A name that stands for nothing is told so that
 * the server finds nothing either.  name has its NUL behind it; odd is room for a name, and belongs
 * to the caller. */
struct slice statement_require(struct client *c, struct slice name, struct buf *odd);
/* The same of the statement that a name stands for. */
struct slice statement_require_named(struct client *c, struct statement *st);
/* The same of a statement that is meant in its place. */
struct slice statement_require_other(struct client *c, struct statement *st);
/* The name that the server has for one that stands for none of the client's statements: the same,
 * or one that is none of ours. */
struct slice statement_escape(struct slice name, struct buf *odd);
/* Describe of a portal: if it is the one bound last, the client knows the result of its statement.
 */
void statement_expect_told_portal(struct client *c, struct slice portal);
/* The same of a statement, by name, once it is answered; after statement_require(). */
void statement_expect_told(struct client *c, struct slice name);
/* Bound to this portal, after statement_require(). */
void statement_note_portal(struct client *c, struct slice portal);
/* Whether the client goes by a result that it was told, and its server has not told yet whether it
 * gives the same. */
bool statement_is_unseen(const struct client *c, struct slice name);
/* Asks the server, in the batch under way; until the answer has come nothing more may be sent. */
void statement_ask_result(struct client *c, struct slice name);
/* The RowDescription or NoData that answers a Describe. */
void statement_note_result(struct server *s, const struct reply *r, const struct frame *f);
/* Whether the client goes by a result that it was told and that has changed since: the server's
 * statement may be a newer one, which would not tell it. */
bool statement_is_outdated(const struct client *c, struct slice name);
/* What a Bind or Describe that the server owes an answer for is of, or NULL. */
struct server_statement *statement_of_reply(const struct server *s, const struct reply *r);
/* The server found that its result has changed: it is parsed anew before its next use, on each
 * server. */
void statement_note_changed(struct server *s, const struct reply *r);
/* Parses it anew at once, ahead of what the server owes. */
void statement_renew(struct server *s, struct server_statement *ss);
/* How those go on behind SQL_OWN_STATEMENTS that do nothing; then comes a digit. */
#define VOID_STATEMENTS "void"
/* Makes the server know the i-th (below 10) of them, and tells its name: for a DEALLOCATE to take
 * away, or a PREPARE to find the name taken. */
struct slice statement_require_void(struct client *c, unsigned i, struct buf *odd);

/* ---- names that SQL gives and takes; named.h knows when ----
 * SQL's PREPARE makes a statement on the server, which then keeps its name there.  Nothing of it is
 * known here but that it is there. */
void statement_remember(struct client *c, struct slice name);
void statement_forget(struct client *c, struct slice name);
/* An Execute that is passed on will do the same.  False: it will fail. */
bool statement_expect_made(struct client *c, struct slice name) PGT_MUST_USE;
bool statement_expect_gone(struct client *c, struct slice name) PGT_MUST_USE;
/* The server of a client that has prepared something goes, and with it what SQL has made there. */
void statement_leave_made(struct client *c);

/* What the server calls SQL_OWN_STATEMENTS serial, and a name that its client has for a statement,
 * or had when it sent what is to be answered; or NULL.  For errors: they are looked for one by one.
 */
const struct statement *statement_of_serial(const struct server *s, uint64_t serial);
const char *statement_name_of(const struct server *s, const struct statement *st);

/* Whether its Parse takes the transaction's snapshot. */
static inline bool statement_takes_snapshot(enum sql_kind kind)
{
	const uint64_t queries = 1ull << SQL_KIND_SELECT | 1ull << SQL_KIND_INSERT |
				 1ull << SQL_KIND_UPDATE | 1ull << SQL_KIND_DELETE |
				 1ull << SQL_KIND_EXPLAIN | 1ull << SQL_KIND_DECLARE;

	return queries >> kind & 1;
}
/* Whether a command may not come behind the snapshot that its transaction owes
 * (client.owes_snapshot): then the server takes it first. */
static inline bool statement_minds_snapshot(enum sql_kind kind)
{
	return kind == SQL_KIND_BEGIN || kind == SQL_KIND_SET_TRANSACTION || kind == SQL_KIND_SET;
}
/* Whether it has to wait until it is known that the transaction has not failed. */
bool statement_must_know(struct client *c, enum sql_kind kind);
void statement_take_snapshot(struct client *c);
/* A batch that has prepared more than a server may keep comes to its Sync. */
void statement_end_batch(struct server *s);
/* The statement of a Parse body of ours, made if need be; a new reference. */
struct statement *statement_intern(struct client *c, struct slice body);
/* Runs a deferred BEGIN on the client's server.  Without a Sync: when it fails, the server ignores
 * what comes behind it, a Query too. */
void statement_begin(struct client *c, struct statement *begin);
/* What may come behind it, unseen too: a Query of ours, and before that the end of its portal,
 * which would be there for an extended message that names it (a Query that runs something drops
 * it). */
void statement_ask_unseen(struct client *c, const char *text);
void statement_close_unseen(struct client *c);
/* Runs a command of ours in the batch at hand, by a portal of our own and the unnamed statement;
 * what it answers is swallowed, but for an error. */
void statement_run_apart(struct server *s, const char *command);
/* Close of a statement. */
void statement_close(struct client *c, struct slice name);
/* Counts the batches that are sent, as server.batch those that are answered. */
static inline uint64_t placed_batch(const struct server *s)
{
	return s->batch + s->replies.ncycles;
}
/* A simple Query drops the unnamed statement, here and on the client's server if it has one. */
void statement_unnamed_forget(struct client *c); /* for what follows only */
static inline void statement_unnamed_drop(struct client *c)
{
	if (c->statements)
		statement_unnamed_forget(c);
}
static inline void statement_drop_unnamed(struct client *c)
{
	struct server *s = c->server;

	if (s) {
		s->unnamed_id = UNNAMED_NONE;
		s->unnamed_in = placed_batch(s);
	}
	statement_unnamed_drop(c);
}
/* The same, for one without a server, or whose server was not asked. */
void statement_forget_unnamed(struct client *c);
/* A DISCARD ALL that no server was asked. */
void statement_forget_names(struct client *c);
/* The server has run a DEALLOCATE ALL or DISCARD ALL of its client. */
void statement_drop_all(struct server *s);

/* An answer about a statement has come, or never will. */
void statement_on_reply(struct server *s, const struct reply *r);
/* Nothing will come of the first n entries that the server owes, but an error for the very first
 * (failed): takes back what was expected of them, the last first, and them out of the queue. */
void statement_void(struct server *s, uint32_t n, bool failed);
/* Whether it is known what this name stands for: not while requests of earlier batches that are
 * still to be answered may change it.  Those are answered without anything else from the client. */
bool statement_is_settled(const struct client *c, struct slice name);

/* The client or the server is gone. */
void statement_forget_client(struct client *c);
/* A server of st does not have it any more. */
void statement_leave_server(struct statement *st);
/* What it takes here. */
size_t statement_size(const struct statement *st);
struct statement *statement_ref(struct statement *st);
void statement_unref(struct statement *st);
unsigned statement_count(const struct client *c);

#endif
