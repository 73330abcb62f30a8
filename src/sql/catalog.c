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

/* Functions that may do more than read: those that are volatile, aggregates with such a part, and
 * those that call one of them, as far as that can be seen: their source is read for names before a
 * parenthesis, so a comment counts and what a plpgsql function puts together at run time does too
 * when it spells a name. */
#define UNSAFE                                                                                     \
	"call(oid, name) AS MATERIALIZED ("                                                        \
	" SELECT p.oid, m[1] FROM pg_catalog.pg_proc p"                                            \
	" JOIN pg_catalog.pg_language l ON l.oid = p.prolang, pg_catalog.regexp_matches("          \
	"pg_catalog.lower(p.prosrc), '([[:alnum:]_]+)\"?\\s*\\(', 'g') m"                          \
	" WHERE p.provolatile <> 'v' AND p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql')"       \
	" UNION ALL SELECT p.oid, pg_catalog.lower(q.proname) FROM pg_catalog.pg_proc p,"          \
	" pg_catalog.regexp_matches(pg_catalog.to_jsonb(p) ->> 'prosqlbody',"                      \
	" ':(?:funcid|opfuncid|aggfnoid|winfnoid) (\\d+)', 'g') m"                                 \
	" JOIN pg_catalog.pg_proc q ON q.oid = m[1]::oid"                                          \
	" WHERE p.provolatile <> 'v' AND p.oid >= 16384"                                           \
	" UNION ALL SELECT a.aggfnoid, pg_catalog.lower(q.proname)"                                \
	" FROM pg_catalog.pg_aggregate a JOIN pg_catalog.pg_proc q ON q.oid IN (a.aggtransfn,"     \
	" a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)"           \
	" WHERE q.oid >= 16384"                                                                    \
	"), unsafe(oid) AS ("                                                                      \
	" SELECT oid FROM pg_catalog.pg_proc WHERE provolatile = 'v'"                              \
	" UNION SELECT c.oid FROM unsafe u JOIN pg_catalog.pg_proc p ON p.oid = u.oid"             \
	" JOIN call c ON c.name = pg_catalog.lower(p.proname))"

/* What runs an unsafe function although no text names that, by the object identifier of a type:
 * the check of a domain, a cast, the reading and writing of values; and what is made of such types.
 */
#define TYPE_CODE                                                                                  \
	"type_code(oid, code) AS ("                                                                \
	" SELECT t.oid, f.code FROM (SELECT c.contypid, m[1]::oid FROM pg_catalog.pg_constraint "  \
	"c,"                                                                                       \
	"  pg_catalog.regexp_matches(c.conbin::text, ':(?:funcid|opfuncid) (\\d+)', 'g') m"        \
	"  WHERE c.contypid <> 0"                                                                  \
	"  UNION ALL SELECT castsource, castfunc FROM pg_catalog.pg_cast"                          \
	"  WHERE castsource >= 16384 OR casttarget < 16384"                                        \
	"  UNION ALL SELECT casttarget, castfunc FROM pg_catalog.pg_cast"                          \
	"  WHERE casttarget >= 16384 OR castsource < 16384"                                        \
	"  UNION ALL SELECT oid, pg_catalog.unnest(ARRAY[typinput, typoutput, typreceive,"         \
	"  typsend]::oid[]) FROM pg_catalog.pg_type WHERE oid >= 16384"                            \
	" ) f(type, code) JOIN pg_catalog.pg_type t ON t.oid = f.type"                             \
	" JOIN unsafe u ON u.oid = f.code"                                                         \
	" UNION SELECT d.oid, c.code FROM type_code c JOIN ("                                      \
	"  SELECT oid, typbasetype FROM pg_catalog.pg_type"                                        \
	"  UNION ALL SELECT oid, typelem FROM pg_catalog.pg_type"                                  \
	"  UNION ALL SELECT rngtypid, rngsubtype FROM pg_catalog.pg_range"                         \
	"  UNION ALL SELECT t.oid, a.atttypid FROM pg_catalog.pg_type t"                           \
	"  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0"             \
	" ) d(oid, of) ON d.of = c.oid)"

const char sql_catalog_query[] =
    "WITH RECURSIVE " UNSAFE " SELECT n.nspname, p.proname, pg_catalog.bool_or(u.oid IS NOT NULL)"
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
    " LEFT JOIN unsafe u ON u.oid = p.oid GROUP BY 1, 2";

const char sql_catalog_behind_query[] =
    "WITH RECURSIVE " UNSAFE ", " TYPE_CODE " SELECT b.kind, b.name, n.nspname, p.proname FROM ("
    "  SELECT 'operator', oprname, oprcode FROM pg_catalog.pg_operator WHERE oprcode >= 16384"
    "  OR oprcode IN (SELECT oid FROM unsafe)"
    "  UNION SELECT 'operator', o.oprname, c.code FROM pg_catalog.pg_operator o"
    "  JOIN type_code c ON c.oid IN (o.oprleft, o.oprright, o.oprresult)"
    "  UNION SELECT 'type', t.typname, c.code FROM type_code c"
    "  JOIN pg_catalog.pg_type t USING (oid)"
    "  UNION SELECT 'function', f.proname, c.code FROM pg_catalog.pg_proc f"
    "  JOIN type_code c ON c.oid = f.prorettype OR c.oid = ANY (f.proargtypes)"
    "  UNION SELECT 'relation', r.relname, c.code FROM pg_catalog.pg_class r"
    "  JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid JOIN type_code c ON c.oid = a.atttypid"
    "  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid"
    "  WHERE t.typtype <> 'd' AND a.attnum > 0 AND r.relkind IN ('r', 'v', 'm', 'p', 'f')"
    " ) b(kind, name, code) JOIN pg_catalog.pg_proc p ON p.oid = b.code"
    " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace";

/* Rules and policies are read as the node trees they are stored as: pg_depend leaves out what
 * comes with the server, and that is where the volatile functions are. */
const char sql_catalog_relations_query[] =
    "WITH RECURSIVE " UNSAFE ", " TYPE_CODE ", tree(oid, body) AS ("
    " SELECT ev_class, ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_type = '1'"
    " UNION ALL SELECT polrelid, polqual::text FROM pg_catalog.pg_policy"
    " WHERE polqual IS NOT NULL"
    "), reference(oid, what, target) AS MATERIALIZED ("
    " SELECT DISTINCT tree.oid, m[1], m[2]::oid FROM tree, pg_catalog.regexp_matches(body,"
    " ':(funcid|opfuncid|aggfnoid|winfnoid|relid|resulttype) (\\d+)', 'g') m"
    "), primary_only(oid) AS ("
    " SELECT oid FROM pg_catalog.pg_class"
    " WHERE relkind IN ('f', 'S') OR relpersistence IN ('t', 'u')"
    " UNION SELECT r.oid FROM reference r JOIN unsafe u ON u.oid = r.target"
    " WHERE r.what NOT IN ('relid', 'resulttype')"
    " UNION SELECT r.oid FROM reference r JOIN type_code c ON c.oid = r.target"
    " WHERE r.what = 'resulttype'"
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

/* A function that runs where something else is named. */
struct behind {
	struct hlink link;
	struct slice name;
	struct slice schema, function;
	char bytes[]; /* of all three */
};

struct sql_catalog {
	atomic_uint refs;
	uint64_t id;
	struct hmap functions;
	struct hmap relations; /* all of them unsafe */
	struct hmap behind[SQL_NBEHINDS];
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

static struct slice keep_bytes(char **room, struct slice s)
{
	char *kept = *room;

	memcpy(kept, s.p, s.n);
	*room += s.n;
	return slice_of(kept, s.n);
}

void sql_catalog_builder_behind(struct sql_catalog_builder *b, struct slice kind, struct slice name,
				struct slice schema, struct slice function)
{
	static const char *const kinds[] = {
#define X(enumerator, word) word,
		SQL_BEHINDS(X)
#undef X
	};
	struct behind *behind;
	char *room;

	for (size_t i = 0; i < SQL_NBEHINDS; i++) {
		if (!slice_is_equal(kind, slice_str(kinds[i])))
			continue;
		behind = xcalloc(1, sizeof(*behind) + name.n + schema.n + function.n);
		room = behind->bytes;
		behind->name = keep_bytes(&room, name);
		behind->schema = keep_bytes(&room, schema);
		behind->function = keep_bytes(&room, function);
		hmap_insert(&b->catalog->behind[i], &behind->link, hash_bytes(name.p, name.n));
	}
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
	for (size_t i = 0; i < SQL_NBEHINDS; i++)
		map_free(&own->behind[i]);
	free(own);
}

static bool has_entry(const struct hmap *map, const struct entry *e)
{
	const struct entry *other = entry_find(map, e->schema, e->name);

	return other && other->is_unsafe == e->is_unsafe;
}

static bool has_same_entries(const struct hmap *a, const struct hmap *b)
{
	if (a->count != b->count)
		return false;
	for (struct hlink *l = hmap_walk(a, NULL); l; l = hmap_walk(a, l))
		if (!has_entry(b, (struct entry *)l))
			return false;
	return true;
}

static bool has_behind(const struct hmap *map, const struct behind *behind)
{
	for (struct hlink *l = hmap_first(map, behind->link.hash); l; l = hmap_next(l)) {
		const struct behind *other = (struct behind *)l;

		if (slice_is_equal(other->name, behind->name) &&
		    slice_is_equal(other->schema, behind->schema) &&
		    slice_is_equal(other->function, behind->function))
			return true;
	}
	return false;
}

/* None is there twice: a query has told them. */
static bool has_same_behind(const struct hmap *a, const struct hmap *b)
{
	if (a->count != b->count)
		return false;
	for (struct hlink *l = hmap_walk(a, NULL); l; l = hmap_walk(a, l))
		if (!has_behind(b, (struct behind *)l))
			return false;
	return true;
}

bool sql_catalog_is_same(const struct sql_catalog *a, const struct sql_catalog *b)
{
	if (!a || !b)
		return a == b;
	for (size_t i = 0; i < SQL_NBEHINDS; i++)
		if (!has_same_behind(&a->behind[i], &b->behind[i]))
			return false;
	return has_same_entries(&a->functions, &b->functions) &&
	       has_same_entries(&a->relations, &b->relations);
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

bool sql_catalog_behind(const struct sql_catalog *c, enum sql_behind kind, struct slice name,
			struct slice *function)
{
	struct hlink *l = c ? hmap_first(&c->behind[kind], hash_bytes(name.p, name.n)) : NULL;

	for (; l; l = hmap_next(l)) {
		const struct behind *behind = container_of(l, struct behind, link);

		*function = behind->function;
		if (slice_is_equal(behind->name, name) &&
		    sql_catalog_function(c, behind->schema, behind->function) == SQL_SAFETY_UNSAFE)
			return true;
	}
	return false;
}
