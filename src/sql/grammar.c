/* SPDX-License-Identifier: ISC
 *
 * grammar.c - whether PostgreSQL's own grammar proves that a text only reads.
 *
 * libpg_query gives the parse tree as JSON (which is faster than its protobuf and needs no further
 * library).  In it a key that begins with a capital names a kind of node; all kinds must be on the
 * list below, so what a newer grammar brings is no read until somebody has looked at it.
 */
#include "sql/grammar.h"

#include "base/assert.h"
#include "sql/primary.def"
#include "sql/primary.h"

#include <stdio.h>

#ifndef HAVE_PG_QUERY

bool sql_grammar_proves_read(const char *text PGT_UNUSED,
			     const struct sql_catalog *catalog PGT_UNUSED, char why[SQL_WHY_MAX])
{
	if (why)
		snprintf(why, SQL_WHY_MAX, "this build has no grammar of PostgreSQL in it");
	return false;
}

#else

#include <pg_query.h>
#include <stdarg.h>
#include <stdint.h>

#define LISTS_MAX                      1024 /* arrays in arrays */
#define NAME_PARTS                     3

/* clang-format off */
static const char *const nodes_of_reads[] = {
	"A_ArrayExpr", "A_Const", "A_Expr", "A_Indices", "A_Indirection", "A_Star", "Alias",
	"BitString", "BoolExpr", "Boolean", "BooleanTest", "CTECycleClause", "CTESearchClause",
	"CaseExpr", "CaseWhen", "CoalesceExpr", "CollateClause", "ColumnDef", "ColumnRef", "CommonTableExpr",
	"CopyStmt", "DefElem", "ExplainStmt", "Float", "FuncCall", "GroupingFunc", "GroupingSet",
	"Integer", "JoinExpr", "List", "MinMaxExpr", "NamedArgExpr", "NullTest", "ParamRef",
	"RangeFunction", "RangeSubselect", "RangeTableFunc", "RangeTableFuncCol",
	"RangeTableSample", "RangeVar", "ResTarget", "RowExpr", "SQLValueFunction", "SelectStmt",
	"SortBy", "String", "SubLink", "TypeCast", "TypeName", "VariableShowStmt", "WindowDef",
	"WithClause", "XmlExpr", "XmlSerialize",
};
/* clang-format on */

/* Fields that make a node of the list above no read. */
/* clang-format off */
static const struct {
	const char *name;
	const char *reason;
} fields_of_writes[] = {
	{ "intoClause", "SELECT INTO makes a table" },
	{ "lockingClause", "FOR UPDATE and FOR SHARE lock rows" },
	{ "is_from", "COPY FROM writes" },
	{ "is_program", "COPY runs a program" },
	{ "filename", "COPY writes a file of the server" },
};
/* clang-format on */

#define ROW(name, reason)              { name, reason },
#define EXECUTES(enumerator, name)     { name, "executes its argument" },
#define EXECUTES_BY_PREFIX(prefix)     { prefix, "executes its argument" },
#define READS_UNSEEN(enumerator, name) { name, "reads relations that are not in the text" },
#define ALONE(name)                    name,
/* clang-format off */
static const struct denied {
	const char *name;
	const char *reason;
} denied_functions[] = {
	SQL_FUNCTIONS_THAT_LEAVE(ROW)
	SQL_FUNCTIONS_THAT_EXECUTE(EXECUTES)
	SQL_FUNCTIONS_THAT_READ(READS_UNSEEN)
	SQL_FUNCTIONS_THAT_TELL(ROW)
	SQL_FUNCTIONS_THAT_TELL_IN_TEXTS(ROW)
};
static const struct denied denied_function_prefixes[] = {
	SQL_PREFIXES_THAT_EXECUTE(EXECUTES_BY_PREFIX)
	SQL_PREFIXES_THAT_TELL(ROW)
};
static const char *const denied_relation_prefixes[] = { SQL_RELATIONS_THAT_TELL(ALONE) };
/* clang-format on */
#undef ROW
#undef EXECUTES
#undef EXECUTES_BY_PREFIX
#undef READS_UNSEEN
#undef ALONE

/* Used without being written: by DISTINCT, GROUP BY, ORDER BY, UNION, USING, CASE, BETWEEN. */
static const char *const hidden_operators[] = { "=", "<>", "<", ">", "<=", ">=" };

static bool is_among(struct slice s, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (slice_is_equal(s, slice_str(names[i])))
			return true;
	return false;
}

static bool begins_with(struct slice s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.n >= n && memcmp(s.p, prefix, n) == 0;
}

/* --- the walk ------------------------------------------------------------------------------- */
enum list {
	LIST_OTHER,
	LIST_FUNCTION,    /* parts of a function's name */
	LIST_FIELDS,      /* of a column: a.b may be the function b called with the row a */
	LIST_INDIRECTION, /* (expression).b: the same */
	LIST_OPERATOR,    /* parts of its name */
	LIST_TYPE,        /* the same of a type */
};

static const struct {
	const char *key;
	enum list list;
} lists[] = {
	{"funcname",     LIST_FUNCTION   },
	{ "fields",      LIST_FIELDS     },
	{ "indirection", LIST_INDIRECTION},
	{ "name",        LIST_OPERATOR   },
	{ "operName",    LIST_OPERATOR   },
	{ "useOp",       LIST_OPERATOR   },
	{ "names",       LIST_TYPE       },
};

struct walk {
	const char *p; /* the rest of the JSON */
	const struct sql_catalog *catalog;
	char *why;           /* the proof has failed, as a sentence; NULL: nobody asks */
	struct slice key;    /* that the coming value belongs to */
	struct slice node;   /* the last kind of node that began */
	struct slice schema; /* of the relation whose name comes next */
	struct slice parts[NAME_PARTS];
	size_t nparts;
	size_t depth;
	uint8_t lists[LISTS_MAX];
};

static PGT_PRINTF(2, 3) bool deny(const struct walk *w, const char *format, ...)
{
	va_list args;

	if (w->why) {
		va_start(args, format);
		vsnprintf(w->why, SQL_WHY_MAX, format, args);
		va_end(args);
	}
	return false;
}

/* Nothing is run that the text does not name. */
static bool hides_nothing(const struct walk *w, enum sql_behind kind, struct slice name)
{
	struct slice function;

	return !sql_catalog_behind(w->catalog, kind, name, &function) ||
	       deny(w, "%s %.*s runs %.*s(), which may write",
		    kind == SQL_BEHIND_OPERATOR ? "operator"
		    : kind == SQL_BEHIND_TYPE   ? "type"
						: "a type in the use of",
		    SLICE_FMT(name), SLICE_FMT(function));
}

static bool is_known_function(const struct walk *w, struct slice schema, struct slice name)
{
	switch (sql_catalog_function(w->catalog, schema, name)) {
	case SQL_SAFETY_SAFE:
		return true;
	case SQL_SAFETY_UNSAFE:
		return deny(w,
			    "%.*s() may write or tell of one node: it is volatile, or what it "
			    "runs or reads is the primary's",
			    SLICE_FMT(name));
	default:
		return deny(w, "%.*s() is not known to the catalog", SLICE_FMT(name));
	}
}

static bool is_safe_function(const struct walk *w)
{
	struct slice schema = SLICE(""), name;

	if (w->nparts < 1 || w->nparts > 2)
		return deny(w, "a function's name has more parts than two");
	name = w->parts[w->nparts - 1];
	if (w->nparts == 2)
		schema = w->parts[0];
	for (size_t i = 0; i < PGT_NELEMS(denied_functions); i++)
		if (slice_is_equal(name, slice_str(denied_functions[i].name)))
			return deny(w, "%.*s() %s", SLICE_FMT(name), denied_functions[i].reason);
	for (size_t i = 0; i < PGT_NELEMS(denied_function_prefixes); i++)
		if (begins_with(name, denied_function_prefixes[i].name))
			return deny(w, "%.*s(): %s", SLICE_FMT(name),
				    denied_function_prefixes[i].reason);
	return is_known_function(w, schema, name) && hides_nothing(w, SQL_BEHIND_FUNCTION, name);
}

static bool is_replicated_relation(const struct walk *w, struct slice name)
{
	for (size_t i = 0; i < PGT_NELEMS(denied_relation_prefixes); i++)
		if (begins_with(name, denied_relation_prefixes[i]))
			return deny(w, "%.*s tells of one node or one session", SLICE_FMT(name));
	if (sql_catalog_is_primary_relation(w->catalog, w->schema, name))
		return deny(w,
			    "%.*s is the primary's: temporary, unlogged, foreign, a sequence, or "
			    "what it runs or reads is the primary's",
			    SLICE_FMT(name));
	return hides_nothing(w, SQL_BEHIND_RELATION, name);
}

static bool on_key(struct walk *w, struct slice key)
{
	w->key = key;
	if (key.n && key.p[0] >= 'A' && key.p[0] <= 'Z') {
		w->node = key;
		return is_among(key, nodes_of_reads, PGT_NELEMS(nodes_of_reads)) ||
		       deny(w, "%.*s is in no list of what reads", SLICE_FMT(key));
	}
	for (size_t i = 0; i < PGT_NELEMS(fields_of_writes); i++)
		if (slice_is_equal(key, slice_str(fields_of_writes[i].name)))
			return deny(w, "%s", fields_of_writes[i].reason);
	return true;
}

static enum list list_now(const struct walk *w)
{
	return w->depth ? w->lists[w->depth - 1] : LIST_OTHER;
}

/* Operators are escaped where they have one of < > & in them: \u003c. */
static struct slice unescape(struct slice s, char *room, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n && n < size; i++) {
		unsigned code;

		if (s.p[i] != '\\' || i + 1 == s.n) {
			room[n++] = s.p[i];
		} else if (i + 5 < s.n && sscanf(s.p + i, "\\u%4x", &code) == 1) {
			room[n++] = (char)code;
			i += 5;
		} else {
			room[n++] = s.p[++i];
		}
	}
	return slice_of(room, n);
}

static bool is_safe_operator(const struct walk *w, struct slice escaped)
{
	char room[64]; /* that of a name */
	struct slice name = unescape(escaped, room, sizeof(room));

	return hides_nothing(w, SQL_BEHIND_OPERATOR, name);
}

/* A part of a name: of a function, of a column that may be one, … */
static bool on_name_part(struct walk *w, struct slice s)
{
	enum list list = list_now(w);

	switch (list) {
	case LIST_FUNCTION:
		if (w->nparts == NAME_PARTS)
			return deny(w, "a function's name has more parts than two");
		w->parts[w->nparts++] = s;
		return true;
	case LIST_FIELDS:
	case LIST_INDIRECTION:
		if ((list == LIST_FIELDS && w->nparts++ == 0) ||
		    sql_catalog_function(w->catalog, SLICE(""), s) != SQL_SAFETY_UNSAFE)
			return true;
		return deny(w, "%.*s may be the function of that name, which may write",
			    SLICE_FMT(s));
	case LIST_OPERATOR:
		return is_safe_operator(w, s);
	case LIST_TYPE:
		return hides_nothing(w, SQL_BEHIND_TYPE, s);
	default:
		return true;
	}
}

static bool is_name_of_many_meanings(const struct walk *w)
{
	return list_now(w) != LIST_OTHER && list_now(w) != LIST_OPERATOR;
}

/* A string value.  Escapes stand only in names that nobody has: they end the proof. */
static bool on_string(struct walk *w, struct slice s)
{
	static const char odd[] = "a name has a backslash, a quote or a control character in it";
	bool escaped = s.n && memchr(s.p, '\\', s.n);

	if (slice_is_equal(w->key, SLICE("sval")) && slice_is_equal(w->node, SLICE("String"))) {
		if (escaped && is_name_of_many_meanings(w))
			return deny(w, odd);
		return on_name_part(w, s);
	}
	if (slice_is_equal(w->key, SLICE("schemaname"))) {
		w->schema = s;
		return !escaped || deny(w, odd);
	}
	if (slice_is_equal(w->key, SLICE("relname"))) {
		bool ok = escaped ? deny(w, odd) : is_replicated_relation(w, s);

		w->schema = SLICE("");
		return ok;
	}
	if (slice_is_equal(w->key, SLICE("name")) &&
	    slice_is_equal(w->node, SLICE("VariableShowStmt")) && !sql_setting_is_of_session(s))
		return deny(w, "%.*s may be another setting on each node", SLICE_FMT(s));
	return true;
}

static bool on_list(struct walk *w)
{
	enum list list = LIST_OTHER;

	if (w->depth == LISTS_MAX)
		return deny(w, "it is nested too deeply");
	for (size_t i = 0; i < PGT_NELEMS(lists); i++)
		if (slice_is_equal(w->key, slice_str(lists[i].key)))
			list = lists[i].list;
	if (list == LIST_FUNCTION || list == LIST_FIELDS)
		w->nparts = 0;
	w->lists[w->depth++] = (uint8_t)list;
	return true;
}

static bool on_list_end(struct walk *w)
{
	if (w->depth == 0)
		return deny(w, "the grammar's answer cannot be read");
	return w->lists[--w->depth] != LIST_FUNCTION || is_safe_function(w);
}

/* The string that begins at the quote w->p, raw; moves behind it. */
static bool take_json_string(struct walk *w, struct slice *s)
{
	const char *start = ++w->p;

	*s = slice_of(start, 0);
	for (; *w->p && *w->p != '"'; w->p++)
		if (*w->p == '\\' && !*++w->p)
			return deny(w, "the grammar's answer cannot be read");
	*s = slice_of(start, (size_t)(w->p - start));
	return *w->p++ == '"';
}

/* Over the JSON from left to right; what is no string, list or key says nothing. */
static bool walk_proves_read(struct walk *w)
{
	struct slice s;
	bool ok = true;

	while (ok && *w->p) {
		switch (*w->p) {
		case '"':
			ok = take_json_string(w, &s);
			if (ok)
				ok = *w->p == ':' ? on_key(w, s) : on_string(w, s);
			break;
		case '[':
			ok = on_list(w);
			w->p++;
			break;
		case ']':
			ok = on_list_end(w);
			w->p++;
			break;
		default:
			w->p++;
			break;
		}
	}
	return ok && w->depth == 0;
}

static bool hidden_operators_are_safe(const struct walk *w)
{
	for (size_t i = 0; i < PGT_NELEMS(hidden_operators); i++)
		if (!hides_nothing(w, SQL_BEHIND_OPERATOR, slice_str(hidden_operators[i])))
			return false;
	return true;
}

bool sql_grammar_proves_read(const char *text, const struct sql_catalog *catalog,
			     char why[SQL_WHY_MAX])
{
	PgQueryParseResult result = pg_query_parse(text);
	struct walk w;
	bool proven;

	memset(&w, 0, offsetof(struct walk, lists));
	w.p = result.parse_tree;
	w.catalog = catalog;
	w.why = why;
	if (result.error || !result.parse_tree)
		proven = deny(&w, "the grammar does not take it: %s",
			      result.error ? result.error->message : "no tree");
	else
		proven = hidden_operators_are_safe(&w) && walk_proves_read(&w);
	pg_query_free_parse_result(result);
	return proven;
}

#endif
