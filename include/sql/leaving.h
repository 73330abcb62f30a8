/* SPDX-License-Identifier: ISC
 *
 * leaving.h - the names of a database behind which there is code that may leave something in the
 * session: functions, and all that runs one without spelling it.
 *
 * Built once by whoever asks a server (the query below), never changed after that, shared between
 * threads by counted references.  Knows no connection.
 */
#ifndef PGT_SQL_LEAVING_H
#define PGT_SQL_LEAVING_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Three commands, the last two of which give rows (how, name) for sql_leaving_add().  A function
 * leaves something when its source spells what outlives it in the session (SET, CREATE TEMP, an
 * advisory lock, dynamic SQL …), when nobody knows what it does (volatile, in C and of no extension
 * that is known, or in another language), or when it runs something that does.  A relation, when a
 * trigger, rule, view, policy, default, check, generated column, index or type of its own does, or
 * what it passes a command on to.  Runs on PostgreSQL 11 and later, for any role. */
extern const char sql_leaving_query[];

/* What in a text makes it run. */
enum sql_leaves {
	SQL_LEAVES_CALLED = 1 << 0,  /* a function */
	SQL_LEAVES_WRITTEN = 1 << 1, /* a relation, where a command writes */
	SQL_LEAVES_NAMED = 1 << 2,   /* a relation that may be read only, an operator, a type */
	/* And what nothing carries, maybe: */
	SQL_LEAVES_LOCKS = 1 << 3,  /* an advisory lock of the session */
	SQL_LEAVES_SEED = 1 << 4,   /* that of random() */
	SQL_LEAVES_DBLINK = 1 << 5, /* a connection of dblink */
};

struct sql_leaving;

/* With one reference, the caller's. */
struct sql_leaving *sql_leaving_new(void);
/* The columns of a row; copied. */
void sql_leaving_add(struct sql_leaving *l, struct slice how, struct slice name);

/* Any thread; the last unref frees.  NULL is allowed and does nothing. */
const struct sql_leaving *sql_leaving_ref(const struct sql_leaving *l);
void sql_leaving_unref(const struct sql_leaving *l);

/* Whether there is nothing of the kind; l may be NULL. */
bool sql_leaving_is_empty(const struct sql_leaving *l);
/* Equal for those that say the same; 0 for NULL. */
uint64_t sql_leaving_id(const struct sql_leaving *l);

/* What the name is, in any schema: bits of enum sql_leaves. */
unsigned sql_leaving_find(const struct sql_leaving *l, struct slice name);
/* Whether a name that begins so, in any case, and is as long may be there: cheap. */
bool sql_leaving_may_have(const struct sql_leaving *l, char first, size_t n);
/* Whether commands that define something do, by an event trigger. */
bool sql_leaving_in_ddl(const struct sql_leaving *l);
/* Whether a function that is declared IMMUTABLE may not be (suspect.h), so that a plan which is
 * kept may tell of the session that it was made for.  NULL, of which nothing is known: yes. */
bool sql_leaving_has_suspects(const struct sql_leaving *l);

#endif
