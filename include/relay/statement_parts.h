/* SPDX-License-Identifier: ISC
 *
 * statement_parts.h - what the files of prepared statements share: statement.c, placed.c, result.c
 * and undo.c.
 */
#ifndef PGT_RELAY_STATEMENT_PARTS_H
#define PGT_RELAY_STATEMENT_PARTS_H

#include "base/hash.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "server/server.h"

/* ---- statement.c: names of clients --------------------------------------------------------------
 */

/* There may be millions. */
struct statement_name {
	struct hlink link;
	struct statement *statement; /* NULL: the server itself has it under this name */
	uint32_t refs;               /* the client's table, and replies that are still owed */
	uint32_t made_in;            /* the batch of its Parse: the lower half of its number */
	uint32_t described; /* as what its result was asked for last: the lower half of a serial */
	uint32_t changes : 30; /* of the statement when it was prepared */
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
	uint64_t unnamed_server, unnamed_serial; /* where, and as what, it is known; 0: it is not */
};

/* NULL: there is none. */
struct statement_name *statement_name_find(const struct client *c, struct slice name);
/* Into the client's table, which takes a reference; out of it: that goes to the caller. */
void statement_name_list(struct client *c, struct statement_name *n);
void statement_name_take_out(struct client *c, struct statement_name *n);
void statement_name_unref(struct statement_name *n);
/* The one without a name.  set: takes the reference. */
void statement_unnamed_set(struct client *c, struct statement *st);
/* Whether memory is so short that what nobody names has to go. */
bool statement_is_tight(const struct relay *r);

/* ---- placed.c: statements on servers ------------------------------------------------------------
 */

/* What was asked for in this batch has been answered, or stands and falls with what is sent now. */
static inline bool placed_is_settled(const struct server *s, uint64_t batch)
{
	return batch < s->batch || batch == placed_batch(s);
}

/* The number of a batch that is not 2^31 of them away, by its lower half. */
static inline uint64_t placed_whole_batch(const struct server *s, uint32_t half)
{
	return s->batch + (uint64_t)(int64_t)(int32_t)(half - (uint32_t)s->batch);
}

/* What the server has of it, for sessions such as its client's is now, or NULL. */
struct server_statement *placed_find(const struct server *s, const struct statement *st);
/* The newest of all that the server has of it, if it was made in the batch with this half of a
 * number; or NULL. */
struct server_statement *placed_made_in(const struct server *s, const struct statement *st,
					uint32_t half);
/* The unnamed statement that the server has is this one, and of its client. */
bool placed_is_unnamed(const struct server *s, const struct statement *st);
void placed_set_unnamed(struct server *s, const struct statement *st);
/* That the client was told of by the Describe of its name that was sent last, or NULL. */
struct server_statement *placed_described(const struct server *s, const struct statement_name *n);
/* By the number in its name there, or NULL. */
struct server_statement *placed_of_serial(const struct server *s, uint64_t serial);
/* It is what was used last. */
void placed_touch(struct server *s, struct server_statement *ss);
/* Into the server's table, and out of it. */
void placed_put_in(struct server *s, struct server_statement *ss);
void placed_take_out(struct server *s, struct server_statement *ss);
void placed_free(struct server_statement *ss);
/* Notes that the server has it, for its Parse to be sent; max: how many it may have, others are
 * closed. */
struct server_statement *placed_add(struct server *s, struct statement *st, unsigned max);
/* Makes the server have it: sends its Parse, unseen by the client, if need be. */
struct server_statement *placed_require(struct client *c, struct statement *st);
/* Closes it there, unseen. */
void placed_close(struct server *s, struct server_statement *ss);
/* The bare messages; nothing is noted. */
void placed_send_parse(struct server *s, const char *name, const struct statement *st);
void placed_send_close(struct server *s, const char *name);

#endif
