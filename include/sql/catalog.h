/* SPDX-License-Identifier: ISC
 *
 * catalog.h - what a database's own catalog says about functions and relations.
 *
 * Built once by whoever asks the primary (the query below), never changed after that, shared
 * between threads by counted references.  Knows no connection.
 */
#ifndef PGT_SQL_CATALOG_H
#define PGT_SQL_CATALOG_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Rows of four columns for sql_catalog_builder_add(), behind one that is none of them: what may be
 * a read and what only the primary may be asked for, and what runs a function without naming it.
 * Runs on PostgreSQL 12 and later, for any role.
 *
 * A function is unsafe when it is volatile, an aggregate with such a part, one of the server's own
 * that tells of one node (primary.def), or when it runs or reads what is unsafe: by its source, in
 * SQL and PL/pgSQL, its parsed body, the defaults of its arguments.  A relation is the primary's
 * when it is temporary, unlogged, foreign or a sequence, tells of one node, or when its view or a
 * policy runs or reads what is unsafe; so are those that rest on it. */
extern const char sql_catalog_query[];

enum sql_safety {
	SQL_SAFETY_UNKNOWN, /* the catalog has no such name */
	SQL_SAFETY_SAFE,    /* none of that name is unsafe */
	SQL_SAFETY_UNSAFE,
};

/* What may have a function behind it: an operator, a type by its casts, checks and values, a
 * function by the types that it takes, a relation by those of its columns. */
#define SQL_BEHINDS(X)                                                                             \
	X(OPERATOR, "operator")                                                                    \
	X(TYPE, "type")                                                                            \
	X(FUNCTION, "function")                                                                    \
	X(RELATION, "relation")
#define X(enumerator, name) SQL_BEHIND_##enumerator,
enum sql_behind { SQL_BEHINDS(X) SQL_NBEHINDS };
#undef X

struct sql_catalog;
struct sql_catalog_builder;

struct sql_catalog_builder *sql_catalog_builder_new(void);
/* Columns of a row of the query; one of a kind that is not known here is left out. */
void sql_catalog_builder_add(struct sql_catalog_builder *b, const struct slice columns[4]);
/* The same one by one.  Names are copied.  A name given twice is unsafe when one of the two is. */
void sql_catalog_builder_function(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name, bool is_unsafe);
void sql_catalog_builder_relation(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name);
/* A kind that is not known here is left out. */
void sql_catalog_builder_behind(struct sql_catalog_builder *b, struct slice kind, struct slice name,
				struct slice schema, struct slice function);
void sql_catalog_builder_free(struct sql_catalog_builder *b);
/* Frees the builder; the catalog comes with one reference, the caller's. */
struct sql_catalog *sql_catalog_builder_finish(struct sql_catalog_builder *b);

/* Whatever the catalog says, functions of this name count as volatile or not; the name is of one
 * schema (`schema.name`) or of all.  Of a catalog that nobody else has yet. */
void sql_catalog_decide(struct sql_catalog *c, struct slice name, bool is_volatile);

/* Any thread; the last unref frees.  NULL is allowed and does nothing. */
const struct sql_catalog *sql_catalog_ref(const struct sql_catalog *c);
void sql_catalog_unref(const struct sql_catalog *c);

/* Whether they say the same of the same names; NULL says nothing. */
bool sql_catalog_is_same(const struct sql_catalog *a, const struct sql_catalog *b);

/* Different for every catalog that this process ever had; 0 for NULL. */
uint64_t sql_catalog_id(const struct sql_catalog *c);

/* Of all functions of the name; schema empty: in any schema, since search_path is not known here.
 * c may be NULL: unknown. */
enum sql_safety sql_catalog_function(const struct sql_catalog *c, struct slice schema,
				     struct slice name);
bool sql_catalog_is_safe_function(const struct sql_catalog *c, struct slice schema,
				  struct slice name);
/* Whether only the primary may be asked for the relation; what the catalog does not list is an
 * ordinary table or view. */
bool sql_catalog_is_primary_relation(const struct sql_catalog *c, struct slice schema,
				     struct slice name);
/* A function behind what is called so that is unsafe, by now: *function, borrowed.  Of any schema,
 * since a schema says little of what is behind a name.  False: there is none. */
bool sql_catalog_behind(const struct sql_catalog *c, enum sql_behind kind, struct slice name,
			struct slice *function);

#endif
