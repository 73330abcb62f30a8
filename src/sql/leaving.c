/* SPDX-License-Identifier: ISC
 *
 * leaving.c - the names of a database behind which there is code that may leave something in the
 * session, and whether there are functions whose value plans must not keep (suspect.h).
 *
 * What runs what is a graph of functions, relations, operators and types.  The server walks it: its
 * stored expressions tell exactly what they call, sources of functions are searched for words.
 * Names are kept without their schemas, since search_path is not known here.
 */
#include "sql/leaving.h"

#include "base/hash.h"
#include "base/mem.h"
#include "sql/primary.def"
#include "sql/suspect.h"

#include <stdatomic.h>
#include <stdlib.h>

/* What outlives its function, spelled in a source.  \m and \M are the borders of a word. */
#define GAP "(\\s|--[^\\n]*\\n|/\\*([^*]|\\*+[^*/])*\\*+/)"
#define SPELLS                                                                                     \
	"'\\m(pg_temp|execute|dblink_connect|dblink_connect_u" SQL_FUNCTIONS_THAT_LEAVE(SQL_OR)    \
	    SQL_FUNCTIONS_THAT_EXECUTE(SQL_OR_WORD)                                                \
		SQL_FUNCTIONS_THAT_READ(SQL_OR_WORD) ")\\M|\\m(-" SQL_PREFIXES_THAT_EXECUTE(       \
		    SQL_OR) ")"                                                                    \
			    "|\\m(create|replace|local|global|into)" GAP                           \
			    "+temp(orary)?\\M|\\mwith" GAP "+hold\\M"                              \
			    "|(^|;|\\m(begin|then|else|loop))" GAP                                 \
			    "*(reset|listen|discard|load|set(?!\\s+local\\M))\\M'"

/* What of that nothing carries to another server. */
#define SPELLS_LOCK   "'\\mpg_(try_)?advisory_lock(_shared)?\\M'"
#define SPELLS_DBLINK "'\\mdblink_connect(_u)?\\M'"
#define SPELLS_SEED                                                                                \
	"'\\m(setseed|set_config\\s*\\(\\s*''seed|set\\s+((session|local)\\s+)?seed)\\M'"

/* set_config() that ends with its transaction. */
#define STRING "''[^'']*''"
#define SETS_LOCALLY                                                                               \
	"'\\mset_config\\s*\\(([^()'']|" STRING "|\\(([^()'']|" STRING ")*\\))*,\\s*true\\s*\\)'"

/* The same of the server's own, for stored expressions, which name them by OID. */
#define OWN_FUNCTIONS                                                                              \
	"''" SQL_FUNCTIONS_THAT_LEAVE(SQL_LISTED) SQL_FUNCTIONS_THAT_EXECUTE(SQL_LISTED_WORD)      \
	    SQL_FUNCTIONS_THAT_READ(SQL_LISTED_WORD)
/* Those of extensions; a crosstab() may be made under any name. */
#define EXECUTES                                                                                   \
	"(proname IN (''" SQL_FUNCTIONS_THAT_EXECUTE(                                              \
	    SQL_LISTED_WORD) ")"                                                                   \
			     " OR proname ~ '^(-" SQL_PREFIXES_THAT_EXECUTE(                       \
				 SQL_OR) ")' OR prosrc ~ '^crosstab')"

#define IS_RELATED "relkind NOT IN ('i', 'I', 't')"

/* Nodes of the graph are pairs of a kind and an OID: f a function, r a relation that is read, w one
 * that is written, o an operator, t a type that a value is brought into (a domain), c a type that
 * it is cast from or to.  OIDs below 16384 are the server's own.  Columns that not every version
 * has are asked for as JSON.  The string is one transaction, with a search_path in which nobody has
 * operators of their own. */
const char sql_leaving_query[] =
    "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true);"
    "WITH RECURSIVE own(oid, name, types, is_known, source) AS MATERIALIZED ("
    " SELECT p.oid, p.proname, p.proargtypes::oid[] OPERATOR(pg_catalog.||) p.prorettype,"
    " l.lanname IN ('sql', 'plpgsql') OR p.provolatile <> 'v',"
    " pg_catalog.regexp_replace(p.prosrc, " SETS_LOCALLY ", '', 'gi')"
    " FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
    " WHERE p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')"
    "), word(oid, word, is_called) AS MATERIALIZED ("
    " SELECT DISTINCT oid, pg_catalog.lower(m[1]), m[2] <> '' FROM own,"
    " pg_catalog.regexp_matches(source, '([[:alpha:]_][[:alnum:]_$]*)(\"?\\s*\\(|)', 'g') m"
    " UNION SELECT oid, pg_catalog.lower(m[1]), true FROM own,"
    " pg_catalog.regexp_matches(source, " SQL_CALL_WITH_COMMENT ", 'g') m"
    "), writer(oid) AS MATERIALIZED ("
    " SELECT DISTINCT oid FROM word"
    " WHERE word IN ('insert', 'update', 'delete', 'merge', 'truncate', 'copy')"
    /* Expressions that are stored as trees. */
    "), tree(kind, oid, body) AS ("
    " SELECT CASE ev_type WHEN '1' THEN 'r' ELSE 'w' END, ev_class,"
    "  pg_catalog.concat(ev_action::text, ev_qual::text)"
    "  FROM pg_catalog.pg_rewrite WHERE oid >= 16384"
    " UNION ALL SELECT 'r', polrelid, pg_catalog.concat(polqual::text, polwithcheck::text)"
    "  FROM pg_catalog.pg_policy"
    " UNION ALL SELECT CASE WHEN pg_catalog.to_jsonb(a) ->> 'attgenerated' = 'v' THEN 'r'"
    "  ELSE 'w' END, adrelid, adbin::text FROM pg_catalog.pg_attrdef"
    "  JOIN pg_catalog.pg_attribute a ON attrelid = adrelid AND attnum = adnum"
    " UNION ALL SELECT 'w', tgrelid, tgqual::text FROM pg_catalog.pg_trigger"
    "  WHERE tgqual IS NOT NULL"
    " UNION ALL SELECT 'w', indrelid, pg_catalog.concat(indexprs::text, indpred::text)"
    "  FROM pg_catalog.pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL"
    " UNION ALL SELECT CASE contypid WHEN 0 THEN 'w' ELSE 't' END,"
    "  CASE contypid WHEN 0 THEN conrelid ELSE contypid END, conbin::text"
    "  FROM pg_catalog.pg_constraint WHERE conbin IS NOT NULL AND oid >= 16384"
    " UNION ALL SELECT 't', oid, typdefaultbin::text FROM pg_catalog.pg_type"
    "  WHERE typdefaultbin IS NOT NULL"
    " UNION ALL SELECT 'f', p.oid, pg_catalog.concat(p.proargdefaults::text,"
    "  CASE p.prosrc WHEN '' THEN pg_catalog.to_jsonb(p) ->> 'prosqlbody' END)"
    "  FROM pg_catalog.pg_proc p WHERE p.oid >= 16384"
    "  AND (p.prosrc = '' OR p.proargdefaults IS NOT NULL)"
    "), reference(kind, oid, what, target) AS MATERIALIZED ("
    " SELECT DISTINCT kind, oid, m[1], m[2]::oid FROM tree, pg_catalog.regexp_matches(body,"
    " ':(funcid|opfuncid|aggfnoid|winfnoid|relid|resulttype) (\\d+)', 'g') m"
    "), name(kind, oid, name) AS ("
    " SELECT 'f', oid, proname FROM pg_catalog.pg_proc WHERE oid >= 16384"
    " UNION ALL SELECT 'r', oid, relname FROM pg_catalog.pg_class WHERE " IS_RELATED
    " UNION ALL SELECT 'w', oid, relname FROM pg_catalog.pg_class WHERE " IS_RELATED
    " UNION ALL SELECT 't', oid, typname FROM pg_catalog.pg_type WHERE oid >= 16384"
    " UNION ALL SELECT 'c', oid, typname FROM pg_catalog.pg_type WHERE oid >= 16384"
    " UNION ALL SELECT 'o', oid, oprname FROM pg_catalog.pg_operator WHERE oid >= 16384"
    "), odd(kind, oid, name) AS MATERIALIZED ("
    " SELECT kind, oid, name FROM name WHERE name !~ " SQL_PLAIN_NAME
    "), edge(kind, oid, runs, target) AS MATERIALIZED ("
    " SELECT kind, oid, CASE what WHEN 'relid' THEN 'r' WHEN 'resulttype' THEN 't' ELSE 'f' END,"
    "  target FROM reference"
    /* What is written to a view goes on to its tables; commands of a rule or function may write. */
    " UNION ALL SELECT CASE kind WHEN 'r' THEN 'w' ELSE kind END, oid, 'w', target"
    "  FROM reference WHERE what = 'relid'"
    " UNION ALL SELECT 'w', tgrelid, 'f', tgfoid FROM pg_catalog.pg_trigger"
    "  WHERE tgenabled <> 'D'"
    " UNION ALL SELECT 'w', inhparent, 'w', inhrelid FROM pg_catalog.pg_inherits"
    " UNION ALL SELECT 'w', confrelid, 'w', conrelid FROM pg_catalog.pg_constraint"
    "  WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))"
    " UNION ALL SELECT v.kind, attrelid, v.runs, atttypid FROM pg_catalog.pg_attribute,"
    "  (VALUES ('w', 't'), ('w', 'c'), ('r', 'c')) v(kind, runs)"
    "  WHERE atttypid >= 16384 AND attnum > 0"
    " UNION ALL SELECT 't', oid, 't', CASE typelem WHEN 0 THEN typbasetype ELSE typelem END"
    "  FROM pg_catalog.pg_type WHERE oid >= 16384"
    " UNION ALL SELECT 't', reltype, 'w', oid FROM pg_catalog.pg_class WHERE relkind = 'c'"
    " UNION ALL SELECT 'f', oid, 't', type FROM own, pg_catalog.unnest(types) type"
    "  WHERE type >= 16384"
    " UNION ALL SELECT 'f', w.oid, n.kind, n.oid FROM word w"
    "  JOIN name n ON pg_catalog.lower(n.name) = w.word"
    "  WHERE CASE n.kind WHEN 'f' THEN w.is_called"
    "  WHEN 'w' THEN w.oid IN (SELECT oid FROM writer) ELSE true END"
    " UNION ALL SELECT 'f', own.oid, n.kind, n.oid FROM own"
    "  JOIN odd n ON pg_catalog.strpos(own.source, n.name) > 0"
    " UNION ALL SELECT 'o', oid, 'f', oprcode FROM pg_catalog.pg_operator WHERE oprcode >= 16384"
    " UNION ALL SELECT 'c', type, 'f', castfunc FROM pg_catalog.pg_cast,"
    "  pg_catalog.unnest(ARRAY[castsource, casttarget]) type WHERE castfunc >= 16384"
    " UNION ALL SELECT 'f', aggfnoid, 'f', part FROM pg_catalog.pg_aggregate,"
    "  pg_catalog.unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggmtransfn, aggminvtransfn,"
    "  aggmfinalfn]::oid[]) part WHERE aggfnoid >= 16384"
    "), leaving(kind, oid, what) AS ("
    " SELECT 'f', oid, CASE WHEN proname ~ " SPELLS_LOCK " THEN 'l'"
    "  WHEN proname = 'setseed' THEN 's' ELSE '' END FROM pg_catalog.pg_proc"
    "  WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (" OWN_FUNCTIONS ")"
    "  OR oid >= 16384 AND prolang IN (SELECT oid FROM pg_catalog.pg_language"
    "   WHERE lanname = 'c') AND " EXECUTES
    " UNION ALL SELECT 'w', 'pg_catalog.pg_settings'::regclass, ''"
    " UNION ALL SELECT 'f', oid, what FROM own, (VALUES ('', ''), ('l', " SPELLS_LOCK "),"
    "  ('s', " SPELLS_SEED "), ('d', " SPELLS_DBLINK ")) v(what, spells)"
    "  WHERE (NOT is_known OR source ~* " SPELLS ") AND source ~* spells"
    " UNION ALL SELECT 'f', p.oid, CASE WHEN proname ~ " SPELLS_DBLINK
    " THEN 'd' ELSE '' END FROM pg_catalog.pg_proc p"
    "  JOIN pg_catalog.pg_language l ON l.oid = p.prolang"
    "  WHERE p.oid >= 16384 AND p.provolatile = 'v' AND l.lanname = 'c' AND p.oid NOT IN "
    "(" SQL_KNOWN_MEMBERS ")"
    " UNION SELECT edge.kind, edge.oid, what FROM leaving"
    "  JOIN edge ON edge.runs = leaving.kind AND edge.target = leaving.oid"
    "), how(kind, oid, how) AS ("
    " SELECT kind, oid, kind OPERATOR(pg_catalog.||) what FROM leaving"
    ") SELECT how, proname FROM how JOIN pg_catalog.pg_proc p USING (oid)"
    "  WHERE kind = 'f' AND oid >= 16384"
    " UNION SELECT how, relname FROM how JOIN pg_catalog.pg_class c USING (oid)"
    "  WHERE kind IN ('r', 'w') AND oid >= 16384"
    " UNION SELECT how, typname FROM how JOIN pg_catalog.pg_type t USING (oid)"
    "  WHERE kind IN ('t', 'c') AND oid >= 16384"
    " UNION SELECT how, oprname FROM how JOIN pg_catalog.pg_operator o USING (oid)"
    "  WHERE kind = 'o'"
    " UNION SELECT 'e', '' FROM leaving JOIN pg_catalog.pg_event_trigger ON evtfoid = leaving.oid"
    "  WHERE kind = 'f' AND evtenabled <> 'D';"
    "WITH RECURSIVE " SQL_SUSPECTS " SELECT 'i', '' WHERE EXISTS ("
    " SELECT FROM declared WHERE oid IN (SELECT oid FROM suspect))";

struct entry {
	struct hlink link;
	struct slice name;
	unsigned how;
	char bytes[]; /* of the name */
};

struct sql_leaving {
	atomic_uint refs;
	uint64_t id;
	struct hmap names;
	uint64_t lengths[32]; /* that names have, by their first letter */
	bool in_ddl;
	bool has_suspects;
	bool has_foreign; /* a name with letters outside ASCII, which encodings write differently */
};

struct sql_leaving *sql_leaving_new(void)
{
	struct sql_leaving *l = xnew(struct sql_leaving);

	atomic_init(&l->refs, 1);
	l->id = 1;
	return l;
}

const struct sql_leaving *sql_leaving_ref(const struct sql_leaving *l)
{
	/* The count is the only thing that changes, so readers hold a const one. */
	if (l)
		atomic_fetch_add_explicit(&((struct sql_leaving *)l)->refs, 1,
					  memory_order_relaxed);
	return l;
}

void sql_leaving_unref(const struct sql_leaving *l)
{
	struct sql_leaving *own = (struct sql_leaving *)l;

	if (!own || atomic_fetch_sub_explicit(&own->refs, 1, memory_order_acq_rel) > 1)
		return;
	HMAP_FOREACH_SAFE (link, &own->names)
		free(link);
	hmap_fini(&own->names);
	free(own);
}

static struct entry *find(const struct sql_leaving *l, struct slice name)
{
	struct hlink *link = hmap_first(&l->names, hash_bytes(name.p, name.n));

	for (; link; link = hmap_next(link)) {
		struct entry *e = (struct entry *)link;

		if (slice_is_equal(e->name, name))
			return e;
	}
	return NULL;
}

static struct entry *make(struct sql_leaving *l, struct slice name)
{
	struct entry *e = xcalloc(1, sizeof(*e) + name.n);

	memcpy(e->bytes, name.p, name.n);
	e->name = slice_of(e->bytes, name.n);
	hmap_insert(&l->names, &e->link, hash_bytes(name.p, name.n));
	l->lengths[name.p[0] & 31] |= UINT64_C(1) << (name.n & 63);
	l->has_foreign |= !slice_is_ascii(name);
	return e;
}

static unsigned bits_of(char kind)
{
	switch (kind) {
	case 'f':
		return SQL_LEAVES_CALLED;
	case 'w':
		return SQL_LEAVES_WRITTEN;
	default:
		return SQL_LEAVES_NAMED;
	}
}

static unsigned bits_of_what(char what)
{
	switch (what) {
	case 'l':
		return SQL_LEAVES_LOCKS;
	case 's':
		return SQL_LEAVES_SEED;
	default:
		return SQL_LEAVES_DBLINK;
	}
}

void sql_leaving_add(struct sql_leaving *l, struct slice how, struct slice name)
{
	unsigned bits;
	struct entry *e;

	if (slice_is_equal(how, SLICE("e"))) {
		l->in_ddl = true;
		l->id++;
		return;
	}
	if (slice_is_equal(how, SLICE("i"))) {
		l->has_suspects = true;
		l->id++;
		return;
	}
	if (!how.n || !name.n)
		return;
	bits = bits_of(how.p[0]) | (how.n > 1 ? bits_of_what(how.p[1]) : 0);
	e = find(l, name);
	if (!e)
		e = make(l, name);
	/* A sum of each bit's, since rows come in any order. */
	for (unsigned bit = 1; bit <= bits; bit <<= 1)
		if (bits & ~e->how & bit)
			l->id += hash_more(bit, name.p, name.n);
	e->how |= bits;
}

bool sql_leaving_is_empty(const struct sql_leaving *l)
{
	return !l || (!l->names.count && !l->in_ddl);
}

uint64_t sql_leaving_id(const struct sql_leaving *l)
{
	return l ? l->id : 0;
}

unsigned sql_leaving_find(const struct sql_leaving *l, struct slice name)
{
	const struct entry *e = find(l, name);

	if (!e && l->has_foreign && !slice_is_ascii(name))
		return SQL_LEAVES_NAMED;
	return e ? e->how : 0;
}

bool sql_leaving_may_have(const struct sql_leaving *l, char first, size_t n)
{
	return l->has_foreign || (l->lengths[first & 31] >> (n & 63) & 1);
}

bool sql_leaving_in_ddl(const struct sql_leaving *l)
{
	return l->in_ddl;
}

bool sql_leaving_has_suspects(const struct sql_leaving *l)
{
	return !l || l->has_suspects;
}
