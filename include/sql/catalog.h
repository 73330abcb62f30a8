/* SPDX-License-Identifier: ISC
 *
 * catalog.h - what a database's own catalog says about functions and relations.
 *
 * Built once by whoever asks the primary (the two queries below), never changed after that, shared
 * between threads by counted references.  Knows no connection.
 */
#ifndef PGT_SQL_CATALOG_H
#define PGT_SQL_CATALOG_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Rows (schema, name, volatile: t or f), one for each function's name, for
 * sql_catalog_builder_function().  Aggregates of extensions and users count as volatile when their
 * parts are.  Runs on PostgreSQL 11 and later, for any role. */
extern const char sql_catalog_query[];

/* Rows (schema, name) for sql_catalog_builder_relation(): what only the primary may be asked:
 * temporary, unlogged and foreign tables, sequences, and views and policies that call a volatile
 * function, and whatever rests on one of them. */
extern const char sql_catalog_relations_query[];

enum sql_safety {
	SQL_SAFETY_UNKNOWN, /* the catalog has no such name */
	SQL_SAFETY_SAFE,    /* none of that name is volatile */
	SQL_SAFETY_UNSAFE,
};

struct sql_catalog;
struct sql_catalog_builder;

struct sql_catalog_builder *sql_catalog_builder_new(void);
/* Names are copied.  A name given twice is unsafe when one of the two is. */
void sql_catalog_builder_function(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name, bool is_volatile);
void sql_catalog_builder_relation(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name);
void sql_catalog_builder_free(struct sql_catalog_builder *b);
/* Frees the builder; the catalog comes with one reference, the caller's. */
struct sql_catalog *sql_catalog_builder_finish(struct sql_catalog_builder *b);

/* Whatever the catalog says, functions of this name count as volatile or not; the name is of one
 * schema (`schema.name`) or of all.  Of a catalog that nobody else has yet. */
void sql_catalog_decide(struct sql_catalog *c, struct slice name, bool is_volatile);

/* Any thread; the last unref frees.  NULL is allowed and does nothing. */
const struct sql_catalog *sql_catalog_ref(const struct sql_catalog *c);
void sql_catalog_unref(const struct sql_catalog *c);

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

#endif
