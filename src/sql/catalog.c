/* SPDX-License-Identifier: ISC
 *
 * catalog.c - what a database's own catalog says about functions and relations.
 *
 * Each name is kept twice: in its schema, and under no schema for all schemas together, because a
 * name without a schema may mean any of them.
 */
#include "sql/catalog.h"

#include "base/hash.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

const char sql_catalog_query[] =
    "SELECT n.nspname, p.proname, bool_or(p.provolatile = 'v'"
    " OR coalesce(t.provolatile = 'v', false) OR coalesce(f.provolatile = 'v', false))"
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid"
    " LEFT JOIN pg_catalog.pg_proc t ON t.oid = a.aggtransfn"
    " LEFT JOIN pg_catalog.pg_proc f ON f.oid = a.aggfinalfn"
    " GROUP BY 1, 2";

/* Rules and policies are read as the node trees they are stored as: pg_depend leaves out what
 * comes with the server, and that is where the volatile functions are. */
const char sql_catalog_relations_query[] =
    "WITH RECURSIVE tree(oid, body) AS ("
    " SELECT ev_class, ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_type = '1'"
    " UNION ALL SELECT polrelid, polqual::text FROM pg_catalog.pg_policy"
    " WHERE polqual IS NOT NULL"
    "), reference(oid, what, target) AS MATERIALIZED ("
    " SELECT DISTINCT tree.oid, m[1], m[2]::oid FROM tree, pg_catalog.regexp_matches(body,"
    " ':(funcid|opfuncid|aggfnoid|winfnoid|relid) (\\d+)', 'g') m"
    "), primary_only(oid) AS ("
    " SELECT oid FROM pg_catalog.pg_class"
    " WHERE relkind IN ('f', 'S') OR relpersistence IN ('t', 'u')"
    " UNION SELECT r.oid FROM reference r JOIN pg_catalog.pg_proc p"
    " ON p.oid = r.target AND p.provolatile = 'v' WHERE r.what <> 'relid'"
    " UNION SELECT d.oid FROM primary_only u JOIN ("
    "  SELECT oid, target FROM reference WHERE what = 'relid'"
    "  UNION ALL SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits"
    " ) d ON d.target = u.oid"
    ") SELECT n.nspname, c.relname FROM primary_only JOIN pg_catalog.pg_class c USING (oid)"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind NOT IN ('i', 'I', 't')";

struct entry {
	struct hlink link;
	struct slice schema;
	struct slice name;
	bool is_unsafe;
	char bytes[]; /* of both */
};

struct sql_catalog {
	atomic_uint refs;
	uint64_t id;
	struct hmap functions;
	struct hmap relations; /* all of them unsafe */
};

struct sql_catalog_builder {
	struct sql_catalog *catalog;
};

static uint64_t entry_hash(struct slice schema, struct slice name)
{
	return hash_more(hash_bytes(schema.p, schema.n), name.p, name.n);
}

static struct entry *entry_find(const struct hmap *map, struct slice schema, struct slice name)
{
	struct hlink *l = hmap_first(map, entry_hash(schema, name));

	for (; l; l = hmap_next(l)) {
		struct entry *e = (struct entry *)l;

		if (slice_is_equal(e->schema, schema) && slice_is_equal(e->name, name))
			return e;
	}
	return NULL;
}

static void entry_add(struct hmap *map, struct slice schema, struct slice name, bool is_unsafe)
{
	struct entry *e = entry_find(map, schema, name);

	if (!e) {
		e = xcalloc(1, sizeof(*e) + schema.n + name.n);
		memcpy(e->bytes, schema.p, schema.n);
		memcpy(e->bytes + schema.n, name.p, name.n);
		e->schema = slice_of(e->bytes, schema.n);
		e->name = slice_of(e->bytes + schema.n, name.n);
		hmap_insert(map, &e->link, entry_hash(schema, name));
	}
	e->is_unsafe |= is_unsafe;
}

static void map_free(struct hmap *map)
{
	HMAP_FOREACH_SAFE (l, map)
		free(l);
	hmap_fini(map);
}

struct sql_catalog_builder *sql_catalog_builder_new(void)
{
	struct sql_catalog_builder *b = xnew(struct sql_catalog_builder);

	b->catalog = xnew(struct sql_catalog);
	atomic_init(&b->catalog->refs, 1);
	return b;
}

void sql_catalog_builder_function(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name, bool is_volatile)
{
	entry_add(&b->catalog->functions, schema, name, is_volatile);
	entry_add(&b->catalog->functions, SLICE(""), name, is_volatile);
}

void sql_catalog_builder_relation(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name)
{
	entry_add(&b->catalog->relations, schema, name, true);
	entry_add(&b->catalog->relations, SLICE(""), name, true);
}

static bool is_named(const struct entry *e, struct slice schema, struct slice name)
{
	return slice_is_equal(e->name, name) && (!schema.n || slice_is_equal(e->schema, schema));
}

/* Of all schemas together: as the worst of them. */
static void sum_up(struct hmap *functions, struct slice name)
{
	struct entry *sum = entry_find(functions, SLICE(""), name);
	bool is_unsafe = false;

	HMAP_FOREACH_SAFE (l, functions) {
		const struct entry *e = (struct entry *)l;

		is_unsafe |= e != sum && slice_is_equal(e->name, name) && e->is_unsafe;
	}
	if (sum)
		sum->is_unsafe = is_unsafe;
}

void sql_catalog_decide(struct sql_catalog *c, struct slice name, bool is_volatile)
{
	const char *dot = memchr(name.p, '.', name.n);
	struct slice schema = SLICE("");

	if (dot) {
		schema = slice_of(name.p, (size_t)(dot - name.p));
		name = slice_of(dot + 1, name.n - schema.n - 1);
	}
	HMAP_FOREACH_SAFE (l, &c->functions) {
		struct entry *e = (struct entry *)l;

		if (is_named(e, schema, name))
			e->is_unsafe = is_volatile;
	}
	sum_up(&c->functions, name);
}

void sql_catalog_builder_free(struct sql_catalog_builder *b)
{
	sql_catalog_unref(sql_catalog_builder_finish(b));
}

/* An address may come back after a catalog is freed, so it cannot stand for one in a cache. */
static atomic_uint_fast64_t last_id;

struct sql_catalog *sql_catalog_builder_finish(struct sql_catalog_builder *b)
{
	struct sql_catalog *c = b->catalog;

	c->id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1;
	free(b);
	return c;
}

/* The count is the only thing that changes, so readers hold a const catalog. */
const struct sql_catalog *sql_catalog_ref(const struct sql_catalog *c)
{
	if (c)
		atomic_fetch_add_explicit(&((struct sql_catalog *)c)->refs, 1,
					  memory_order_relaxed);
	return c;
}

void sql_catalog_unref(const struct sql_catalog *c)
{
	struct sql_catalog *own = (struct sql_catalog *)c;

	if (!own || atomic_fetch_sub_explicit(&own->refs, 1, memory_order_acq_rel) > 1)
		return;
	map_free(&own->functions);
	map_free(&own->relations);
	free(own);
}

uint64_t sql_catalog_id(const struct sql_catalog *c)
{
	return c ? c->id : 0;
}

enum sql_safety sql_catalog_function(const struct sql_catalog *c, struct slice schema,
				     struct slice name)
{
	struct entry *e = c ? entry_find(&c->functions, schema, name) : NULL;

	if (!e)
		return SQL_SAFETY_UNKNOWN;
	return e->is_unsafe ? SQL_SAFETY_UNSAFE : SQL_SAFETY_SAFE;
}

bool sql_catalog_is_safe_function(const struct sql_catalog *c, struct slice schema,
				  struct slice name)
{
	return sql_catalog_function(c, schema, name) == SQL_SAFETY_SAFE;
}

bool sql_catalog_is_primary_relation(const struct sql_catalog *c, struct slice schema,
				     struct slice name)
{
	return c && entry_find(&c->relations, schema, name);
}
