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
#include "base/utf8.h"
#include "sql/primary.def"
#include "sql/suspect.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* Source, lower case, or what is deparsed asks current_setting() for more than any node may be
 * asked for: something is left of it when the harmless calls are taken out. */
#define ASKS_NODE(text)                                                                            \
	"pg_catalog.regexp_replace(" text ", '\\mcurrent_setting\"?\\s*\\(\\s*''"                  \
	"([^''.]+\\.[^'']*" SQL_SETTINGS_OF_SESSIONS(SQL_OR) ")''(::text)?\\s*[,)]', '', 'g')"     \
							     " ~ '\\mcurrent_setting\\M'"

/* The bodies that can be read, and their words: whether one is called is told by a parenthesis
 * behind it, or a dot before it, as the function of a row has.  A comment counts, and so does what
 * is put together at run time when it spells a name. */
#define BODIES                                                                                     \
	"own(oid, source) AS MATERIALIZED ("                                                       \
	" SELECT p.oid, lower(p.prosrc) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang"    \
	" WHERE p.provolatile <> 'v' AND p.oid >= 16384 AND l.lanname IN ('sql', 'plpgsql')"       \
	"), word(oid, word, is_called) AS MATERIALIZED ("                                          \
	" SELECT DISTINCT oid, m[2], m[1] <> '' OR m[3] <> '' FROM own, regexp_matches(source,"    \
	"  '(\\.?)\\s*\"?([[:alpha:]_][[:alnum:]_$]*)\"?\\s*(\\(?)', 'g') m"                       \
	" UNION SELECT oid, m[1], true FROM own, regexp_matches(source, " SQL_CALL_WITH_COMMENT    \
	", 'g') m"                                                                                 \
	"), name(kind, oid, name) AS ("                                                            \
	" SELECT 'f', oid, proname FROM pg_proc"                                                   \
	" UNION ALL SELECT 'r', oid, relname FROM pg_class"                                        \
	"  WHERE relkind IN ('r', 'v', 'm', 'p', 'f', 'S')"                                        \
	" UNION ALL SELECT 't', oid, typname FROM pg_type WHERE oid >= 16384"                      \
	" UNION ALL SELECT 'o', oid, oprname FROM pg_operator WHERE oid >= 16384"                  \
	"), odd(kind, oid, name) AS MATERIALIZED ("                                                \
	" SELECT kind, oid, lower(name) FROM name WHERE name !~ " SQL_PLAIN_NAME ")"

/* Rules, policies, defaults of arguments and parsed bodies are read as the node trees they are
 * stored as: pg_depend leaves out what comes with the server. */
#define TREES                                                                                      \
	"tree(kind, oid, body) AS ("                                                               \
	" SELECT 'r', ev_class, ev_action::text FROM pg_rewrite WHERE ev_type = '1'"               \
	"  AND ev_class NOT IN (SELECT oid FROM pg_class WHERE relkind = 'm')"                     \
	" UNION ALL SELECT 'r', polrelid, polqual::text FROM pg_policy WHERE polqual IS NOT NULL"  \
	" UNION ALL SELECT 'f', p.oid, concat(p.proargdefaults::text,"                             \
	"  CASE p.prosrc WHEN '' THEN to_jsonb(p) ->> 'prosqlbody' END) FROM pg_proc p"            \
	"  WHERE p.provolatile <> 'v' AND (p.prosrc = '' OR p.proargdefaults IS NOT NULL) "        \
	"  AND p.oid >= 16384"                                                                     \
	"), reference(kind, oid, what, target) AS MATERIALIZED ("                                  \
	" SELECT DISTINCT kind, oid, m[1], m[2]::oid FROM tree, regexp_matches(body,"              \
	"  ':(funcid|opfuncid|aggfnoid|winfnoid|relid|resulttype) (\\d+)', 'g') m"                 \
	"), asking(kind, oid) AS ("                                                                \
	" SELECT kind, oid FROM reference WHERE what = 'funcid' AND target IN ("                   \
	"  SELECT oid FROM pg_proc WHERE proname = 'current_setting'"                              \
	"  AND pronamespace = 'pg_catalog'::regnamespace)"                                         \
	")"

/* What runs code although no text names that, by the object identifier of a type: the check of a
 * domain, a cast, the reading and writing of values; and what types are made of. */
#define TYPES                                                                                      \
	"code_of(type, code) AS ("                                                                 \
	" SELECT c.contypid, m[1]::oid FROM pg_constraint c, regexp_matches(c.conbin::text,"       \
	"  ':(?:funcid|opfuncid) (\\d+)', 'g') m WHERE c.contypid <> 0"                            \
	" UNION ALL SELECT castsource, castfunc FROM pg_cast"                                      \
	"  WHERE castsource >= 16384 OR casttarget < 16384"                                        \
	" UNION ALL SELECT casttarget, castfunc FROM pg_cast"                                      \
	"  WHERE casttarget >= 16384 OR castsource < 16384"                                        \
	" UNION ALL SELECT oid, unnest(ARRAY[typinput, typoutput, typreceive, typsend]::oid[])"    \
	"  FROM pg_type WHERE oid >= 16384"                                                        \
	"), made_of(type, part) AS ("                                                              \
	" SELECT oid, typbasetype FROM pg_type WHERE typbasetype <> 0"                             \
	" UNION ALL SELECT oid, typelem FROM pg_type WHERE typelem <> 0"                           \
	" UNION ALL SELECT rngtypid, rngsubtype FROM pg_range"                                     \
	" UNION ALL SELECT t.oid, a.atttypid FROM pg_type t"                                       \
	"  JOIN pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0"                        \
	")"

/* What runs or reads what: pairs of a kind and an OID, f a function, r a relation, t a type, o an
 * operator. */
#define EDGES                                                                                      \
	"edge(kind, oid, runs, target) AS MATERIALIZED ("                                          \
	" SELECT kind, oid, CASE what WHEN 'relid' THEN 'r' WHEN 'resulttype' THEN 't'"            \
	"  ELSE 'f' END, target FROM reference"                                                    \
	" UNION ALL SELECT 'f', w.oid, n.kind, n.oid FROM word w"                                  \
	"  JOIN name n ON lower(n.name) = w.word WHERE n.kind <> 'f' OR w.is_called"               \
	" UNION ALL SELECT 'f', own.oid, n.kind, n.oid FROM own"                                   \
	"  JOIN odd n ON strpos(own.source, n.name) > 0"                                           \
	" UNION ALL SELECT 'f', aggfnoid, 'f', part FROM pg_aggregate,"                            \
	"  unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn,"        \
	"  aggmfinalfn]::oid[]) part WHERE part >= 16384"                                          \
	" UNION ALL SELECT 'o', oid, 'f', oprcode FROM pg_operator WHERE oprcode >= 16384"         \
	" UNION ALL SELECT 'r', inhparent, 'r', inhrelid FROM pg_inherits"                         \
	" UNION ALL SELECT 't', type, 'f', code FROM code_of"                                      \
	" UNION ALL SELECT 't', type, 't', part FROM made_of"                                      \
	")"

/* What may do more than read, or is the primary's to tell (primary.def), and what rests on it. */
/* clang-format off */
#define UNSAFE                                                                                     \
	"unsafe(kind, oid) AS ("                                                                   \
	" SELECT 'f', oid FROM pg_proc WHERE provolatile = 'v' OR proname IN (''"                  \
	SQL_FUNCTIONS_THAT_LEAVE(SQL_LISTED)                                                       \
	SQL_FUNCTIONS_THAT_EXECUTE(SQL_LISTED_WORD)                                                \
	SQL_FUNCTIONS_THAT_READ(SQL_LISTED_WORD)                                                   \
	SQL_FUNCTIONS_THAT_TELL(SQL_LISTED)                                                        \
	") OR proname ~ '^(-"                                                                      \
	SQL_PREFIXES_THAT_EXECUTE(SQL_OR)                                                          \
	SQL_PREFIXES_THAT_TELL(SQL_OR)                                                             \
	")'"                                                                                       \
	" UNION ALL SELECT 'f', oid FROM own WHERE strpos(source, 'u&\"') > 0"                      \
	" UNION ALL SELECT 'f', oid FROM own WHERE strpos(source, 'current_setting') > 0 AND "     \
	ASKS_NODE("source")                                                                        \
	" UNION ALL SELECT 'f', oid FROM asking WHERE kind = 'f' AND "                             \
	ASKS_NODE("lower(pg_get_functiondef(oid))")                                                \
	" UNION ALL SELECT 'r', oid FROM asking WHERE kind = 'r' AND "                             \
	ASKS_NODE("lower(pg_get_viewdef(oid))")                                                    \
	" UNION ALL SELECT 'r', polrelid FROM pg_policy WHERE "                                    \
	ASKS_NODE("lower(pg_get_expr(polqual, polrelid))")                                         \
	" UNION ALL SELECT 'r', oid FROM pg_class WHERE relkind IN ('f', 'S')"                     \
	"  OR relpersistence IN ('t', 'u')"                                                        \
	"  OR relnamespace = 'pg_catalog'::regnamespace"                                           \
	"   AND relname ~ '^(-" SQL_RELATIONS_THAT_TELL(SQL_OR) ")'"                               \
	" UNION SELECT e.kind, e.oid FROM unsafe u"                                                \
	"  JOIN edge e ON e.runs = u.kind AND e.target = u.oid"                                    \
	"), type_code(oid, code) AS ("                                                             \
	" SELECT c.type, c.code FROM code_of c JOIN unsafe u ON u.kind = 'f' AND u.oid = c.code"   \
	" UNION SELECT m.type, c.code FROM type_code c JOIN made_of m ON m.part = c.oid)"
/* clang-format on */

/* The string is one transaction, with a search_path in which nobody has functions or operators of
 * their own.  Columns that not every version has are asked for as JSON. */
const char sql_catalog_query[] =
    "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true);"
    "WITH RECURSIVE " BODIES ", " TREES ", " TYPES ", " EDGES ", " UNSAFE
    " SELECT CASE WHEN bool_or(u.oid IS NOT NULL) THEN 'unsafe' ELSE 'safe' END, n.nspname,"
    "  p.proname, '' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
    "  LEFT JOIN unsafe u ON u.kind = 'f' AND u.oid = p.oid GROUP BY n.nspname, p.proname"
    " UNION ALL SELECT 'primary', n.nspname, c.relname, '' FROM unsafe u"
    "  JOIN pg_class c ON c.oid = u.oid JOIN pg_namespace n ON n.oid = c.relnamespace"
    "  WHERE u.kind = 'r' AND c.relkind NOT IN ('i', 'I', 't')"
    " UNION ALL SELECT b.kind, b.name, n.nspname, p.proname FROM ("
    "  SELECT 'operator', oprname, oprcode FROM pg_operator WHERE oprcode >= 16384"
    "   OR oprcode IN (SELECT oid FROM unsafe WHERE kind = 'f')"
    "  UNION SELECT 'operator', o.oprname, c.code FROM pg_operator o"
    "   JOIN type_code c ON c.oid IN (o.oprleft, o.oprright, o.oprresult)"
    "  UNION SELECT 'type', t.typname, c.code FROM type_code c JOIN pg_type t USING (oid)"
    "  UNION SELECT 'function', f.proname, c.code FROM pg_proc f"
    "   JOIN type_code c ON c.oid = f.prorettype OR c.oid = ANY (f.proargtypes)"
    "  UNION SELECT 'relation', r.relname, c.code FROM pg_class r"
    "   JOIN pg_attribute a ON a.attrelid = r.oid JOIN type_code c ON c.oid = a.atttypid"
    "   JOIN pg_type t ON t.oid = a.atttypid"
    "   WHERE t.typtype <> 'd' AND a.attnum > 0 AND r.relkind IN ('r', 'v', 'm', 'p', 'f')"
    " ) b(kind, name, code) JOIN pg_proc p ON p.oid = b.code"
    " JOIN pg_namespace n ON n.oid = p.pronamespace";

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
	/* A name of what is no read has letters outside ASCII, which encodings write differently;
	 * and is not in UTF-8. */
	bool has_foreign, has_odd;
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

static bool is_utf8(struct slice name)
{
	char text[256]; /* no name is as long */
	size_t n = 1;

	if (name.n >= sizeof(text))
		return false;
	memcpy(text, name.p, name.n);
	text[name.n] = '\0';
	for (name.p = text; *name.p && n; name.p += n)
		n = utf8_len(name.p);
	return name.p == text + name.n;
}

static void note_letters(struct sql_catalog *c, struct slice name)
{
	c->has_foreign |= !slice_is_ascii(name);
	c->has_odd |= !is_utf8(name);
}

void sql_catalog_builder_function(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name, bool is_unsafe)
{
	entry_add(&b->catalog->functions, schema, name, is_unsafe);
	entry_add(&b->catalog->functions, SLICE(""), name, is_unsafe);
	if (is_unsafe)
		note_letters(b->catalog, name);
}

void sql_catalog_builder_relation(struct sql_catalog_builder *b, struct slice schema,
				  struct slice name)
{
	entry_add(&b->catalog->relations, schema, name, true);
	entry_add(&b->catalog->relations, SLICE(""), name, true);
	note_letters(b->catalog, schema);
	note_letters(b->catalog, name);
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
		note_letters(b->catalog, name);
	}
}

void sql_catalog_builder_add(struct sql_catalog_builder *b, const struct slice columns[4])
{
	struct slice kind = columns[0];

	if (slice_is_equal(kind, SLICE("safe")) || slice_is_equal(kind, SLICE("unsafe")))
		sql_catalog_builder_function(b, columns[1], columns[2],
					     slice_is_equal(kind, SLICE("unsafe")));
	else if (slice_is_equal(kind, SLICE("primary")))
		sql_catalog_builder_relation(b, columns[1], columns[2]);
	else
		sql_catalog_builder_behind(b, kind, columns[1], columns[2], columns[3]);
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

/* Whether it may be a name of what is no read in another encoding.  In UTF-8 it would be found. */
static bool is_foreign(const struct sql_catalog *c, struct slice name)
{
	return c && c->has_foreign && !slice_is_ascii(name) && (c->has_odd || !is_utf8(name));
}

enum sql_safety sql_catalog_function(const struct sql_catalog *c, struct slice schema,
				     struct slice name)
{
	struct entry *e = c ? entry_find(&c->functions, schema, name) : NULL;

	if (!e)
		return is_foreign(c, name) ? SQL_SAFETY_UNSAFE : SQL_SAFETY_UNKNOWN;
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
	return c && (entry_find(&c->relations, schema, name) || is_foreign(c, schema) ||
		     is_foreign(c, name));
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
	*function = name;
	return kind != SQL_BEHIND_FUNCTION && is_foreign(c, name);
}
