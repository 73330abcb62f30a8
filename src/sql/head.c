/* SPDX-License-Identifier: ISC
 *
 * head.c - beginnings of statements: BEGIN with its modes, SET, DISCARD …, as far as their form is
 * known here.
 */
#include "sql/parts.h"

#include "base/assert.h"

/* --- transaction control -------------------------------------------------------------------- */
static bool take_isolation(struct scan *s)
{
	if (!scan_take(s, W_LEVEL))
		return false;
	if (scan_take(s, W_SERIALIZABLE)) {
		s->f->begin_serializable = true;
		return true;
	}
	if (scan_take(s, W_REPEATABLE))
		return scan_take(s, W_READ);
	return scan_take(s, W_READ) && (scan_take(s, W_COMMITTED) || scan_take(s, W_UNCOMMITTED));
}

/* The modes of BEGIN up to its end; false when one is not known. */
static bool take_modes(struct scan *s)
{
	bool only = false, write = false, known = true;

	while (known && !scan_is_at_end(s)) {
		if (scan_take(s, W_READ))
			known =
			    scan_take(s, W_ONLY) ? (only = true) : (write = scan_take(s, W_WRITE));
		else if (scan_take(s, W_ISOLATION))
			known = take_isolation(s);
		else if (scan_take(s, W_NOT))
			known = scan_take(s, W_DEFERRABLE);
		else
			known = scan_take(s, W_DEFERRABLE);
		if (known && scan_take(s, W_COMMA))
			known = !scan_is_at_end(s);
	}
	s->f->begin_read_only = known && only && !write;
	s->f->begin_read_write = write;
	return known;
}

static void take_work(struct scan *s)
{
	if (!scan_take(s, W_WORK))
		scan_take(s, W_TRANSACTION);
}

/* Heads of statements: from the first word on, as far as the form is known; *exact says that all of
 * it was.  They return the kind. */
static enum sql_kind head_begin(struct scan *s, bool *exact)
{
	scan_next(s);
	take_work(s);
	*exact = take_modes(s);
	return SQL_KIND_BEGIN;
}

static enum sql_kind head_start(struct scan *s, bool *exact)
{
	scan_next(s);
	if (!scan_take(s, W_TRANSACTION))
		return SQL_KIND_OTHER;
	*exact = take_modes(s);
	return SQL_KIND_BEGIN;
}

/* COMMIT, END, ROLLBACK, ABORT. */
static enum sql_kind head_finish(struct scan *s, bool *exact)
{
	enum sql_kind kind =
	    s->w == W_COMMIT || s->w == W_END ? SQL_KIND_COMMIT : SQL_KIND_ROLLBACK;

	scan_next(s);
	if (s->w == W_PREPARED)
		return SQL_KIND_TWO_PHASE;
	take_work(s);
	if (s->w == W_TO)
		return SQL_KIND_ROLLBACK_TO;
	*exact = !scan_take(s, W_AND) || (scan_take(s, W_NO) && scan_take(s, W_CHAIN));
	return kind;
}

/* --- prepared statements -------------------------------------------------------------------- */
/* A token names a prepared statement; use: of struct sql_name. */
static void see_name(struct scan *s, const struct lex_token *t, int use)
{
	struct sql_facts *f = s->f;
	struct sql_name *name;
	size_t n;

	if (s->is_body || (t->kind != LEX_WORD && t->kind != LEX_QUOTED))
		return;
	if (f->nnames == SQL_NAMES_MAX) {
		f->too_many_names = true;
		return;
	}
	name = &f->names[f->nnames];
	if (!lex_decode(t, name->folded, sizeof(name->folded) - 1, &n))
		return;
	name->folded[n] = '\0';
	name->use = use;
	name->at = (size_t)(t->text.p - s->text);
	name->len = t->text.n;
	f->nnames++;
}

void head_see_execute(struct scan *s)
{
	struct lex_token name = scan_peek_token(s);

	setting_see_execute(s);
	see_name(s, &name, NAME_EXECUTE);
}

static enum sql_kind head_prepare(struct scan *s, bool *exact)
{
	struct lex_token name;

	scan_next(s);
	name = s->t;
	if (scan_take(s, W_TRANSACTION) && s->w == W_STRING) {
		s->f->effects |= SQL_EFFECT_TRANSACTION_CONTROL;
		return SQL_KIND_TWO_PHASE;
	}
	see_name(s, &name, NAME_PREPARE);
	s->f->effects |= SQL_EFFECT_PREPARE;
	return SQL_KIND_PREPARE;
}

static enum sql_kind head_execute(struct scan *s, bool *exact)
{
	head_see_execute(s);
	scan_next(s);
	return SQL_KIND_EXECUTE;
}

static enum sql_kind head_deallocate(struct scan *s, bool *exact)
{
	struct lex_token next;

	scan_next(s);
	next = scan_peek_token(s);
	if (s->w == W_PREPARE && (next.kind == LEX_WORD || next.kind == LEX_QUOTED))
		scan_next(s);
	if (s->w == W_ALL) {
		s->f->effects |= SQL_EFFECT_DEALLOCATE_ALL;
		return SQL_KIND_DEALLOCATE;
	}
	s->f->effects |= SQL_EFFECT_DEALLOCATE;
	see_name(s, &s->t, NAME_DEALLOCATE);
	scan_next(s);
	*exact = scan_is_at_end(s);
	return SQL_KIND_DEALLOCATE;
}

static bool is_explain_option(const struct scan *s)
{
	return slice_is_equal_nocase(s->t.text, SLICE("analyze")) ||
	       slice_is_equal_nocase(s->t.text, SLICE("analyse")) ||
	       slice_is_equal_nocase(s->t.text, SLICE("verbose"));
}

static void see_create(struct scan *s)
{
	if (slice_is_equal_nocase(s->t.text, SLICE("materialized")))
		s->f->effects |= SQL_EFFECT_DEFINES;
	s->creates_table = s->w == W_TABLE || s->w == W_TEMP || s->w == W_TEMPORARY ||
			   s->w == W_LOCAL || s->w == W_GLOBAL ||
			   slice_is_equal_nocase(s->t.text, SLICE("unlogged"));
}

static enum sql_kind head_create(struct scan *s, bool *exact)
{
	scan_next(s);
	see_create(s);
	return SQL_KIND_OTHER;
}

static enum sql_kind head_explain(struct scan *s, bool *exact)
{
	unsigned depth = s->depth;

	scan_next(s);
	if (s->w == W_OPEN) {
		do
			scan_step(s);
		while (s->depth > depth && !scan_is_at_end(s));
	} else {
		while (is_explain_option(s))
			scan_next(s);
	}
	if (s->w == W_EXECUTE) {
		head_see_execute(s);
		scan_next(s);
	} else if (scan_take(s, W_CREATE)) {
		see_create(s);
	}
	return SQL_KIND_EXPLAIN;
}

/* --- the session ---------------------------------------------------------------------------- */
/* Which settings SET changes in its forms without TO or =. */
static void note_special(struct scan *s, int scope)
{
	static const struct {
		const char *word, *setting;
	} forms[] = {
		{"time",           "timezone"             },
		{ "names",         "client_encoding"      },
		{ "schema",        "search_path"          },
		{ "role",          "role"                 },
		{ "session",       "session_authorization"},
		{ "authorization", "session_authorization"},
		{ "xml",           "xmloption"            },
	};

	for (size_t i = 0; i < PGT_NELEMS(forms); i++)
		if (slice_is_equal_nocase(s->t.text, slice_str(forms[i].word))) {
			setting_see_path(s, slice_str(forms[i].setting));
			if (scope == SCOPE_SESSION)
				setting_note(s, slice_str(forms[i].setting));
			return;
		}
	s->f->sets_many |= scope == SCOPE_SESSION;
}

/* SET in a form of its own, without TO or =. */
static enum sql_kind take_special_set(struct scan *s, int scope)
{
	struct sql_change c = { .scope = scope,
				.what = CHANGE_CLIENT_ENCODING,
				.form = VALUE_DEFAULT };

	if (s->w == W_TRANSACTION || s->w == W_CONSTRAINTS)
		return SQL_KIND_SET_TRANSACTION;
	note_special(s, scope);
	if (scan_take(s, W_NAMES)) {
		c.at = scan_token_start(s);
		if (!scan_is_at_end(s))
			setting_value_take(s, &c);
		setting_add(s, &c);
	}
	return scope == SCOPE_LOCAL ? SQL_KIND_SET_LOCAL : SQL_KIND_SET;
}

static enum sql_kind head_set(struct scan *s, bool *exact)
{
	enum sql_kind kind;
	int scope = SCOPE_SESSION;

	scan_next(s);
	if ((s->w == W_LOCAL || s->w == W_SESSION) && scan_peek(s) == W_OTHER) {
		scope = s->w == W_LOCAL ? SCOPE_LOCAL : SCOPE_SESSION;
		scan_next(s);
	}
	if (scan_peek(s) == W_OTHER) {
		kind = take_special_set(s, scope);
	} else {
		setting_take(s, scope);
		kind = scope == SCOPE_LOCAL ? SQL_KIND_SET_LOCAL : SQL_KIND_SET;
	}
	if (kind == SQL_KIND_SET)
		s->f->effects |= SQL_EFFECT_SET;
	return kind;
}

static enum sql_kind head_reset(struct scan *s, bool *exact)
{
	scan_next(s);
	setting_take_reset(s, SCOPE_SESSION);
	return SQL_KIND_RESET;
}

static enum sql_kind head_show(struct scan *s, bool *exact)
{
	scan_next(s);
	setting_name_take(s);
	return SQL_KIND_SHOW;
}

static enum sql_kind head_discard(struct scan *s, bool *exact)
{
	scan_next(s);
	*exact = scan_take(s, W_ALL);
	s->f->effects |= *exact ? SQL_EFFECT_DISCARD_ALL : SQL_EFFECT_DISCARD_PLANS;
	return SQL_KIND_DISCARD;
}

/* --- statements ----------------------------------------------------------------------------- */
#define TC SQL_EFFECT_TRANSACTION_CONTROL

/* clang-format off */
static const struct statement {
	enum sql_kind kind; /* 0: SQL_KIND_OTHER */
	uint32_t effects;
	enum sql_kind (*head)(struct scan *s, bool *exact);
	bool in_body;  /* also looked for in the body of a function */
	bool is_query; /* a dotted name in it is a column or a table, never a setting */
	bool advances; /* sequences, maybe */
} statements[W_COUNT] = {
	[W_SELECT]     = { SQL_KIND_SELECT, .is_query = true },
	[W_WITH]       = { SQL_KIND_SELECT, .is_query = true },
	[W_VALUES]     = { SQL_KIND_SELECT, .is_query = true },
	[W_TABLE]      = { SQL_KIND_SELECT, .is_query = true },
	[W_OPEN]       = { SQL_KIND_SELECT, .is_query = true },
	[W_INSERT]     = { SQL_KIND_INSERT, .is_query = true, .advances = true },
	[W_UPDATE]     = { SQL_KIND_UPDATE, .is_query = true },
	[W_DELETE]     = { SQL_KIND_DELETE, .is_query = true },
	[W_MERGE]      = { .is_query = true, .advances = true },
	[W_CREATE]     = { SQL_KIND_OTHER, 0, head_create },
	[W_EXPLAIN]    = { SQL_KIND_EXPLAIN, 0, head_explain, .is_query = true },
	[W_COPY]       = { SQL_KIND_COPY, SQL_EFFECT_COPY, .is_query = true, .advances = true },
	[W_BEGIN]      = { SQL_KIND_BEGIN, TC, head_begin },
	[W_START]      = { SQL_KIND_BEGIN, TC, head_start },
	[W_COMMIT]     = { SQL_KIND_COMMIT, TC, head_finish, .in_body = true },
	[W_END]        = { SQL_KIND_COMMIT, TC, head_finish },
	[W_ABORT]      = { SQL_KIND_ROLLBACK, TC, head_finish },
	[W_ROLLBACK]   = { SQL_KIND_ROLLBACK, TC, head_finish, .in_body = true },
	[W_SAVEPOINT]  = { SQL_KIND_SAVEPOINT, TC },
	[W_RELEASE]    = { SQL_KIND_RELEASE, TC },
	[W_SET]        = { SQL_KIND_SET, 0, head_set, .in_body = true },
	[W_RESET]      = { SQL_KIND_RESET, SQL_EFFECT_SET, head_reset, .in_body = true },
	[W_SHOW]       = { SQL_KIND_SHOW, 0, head_show },
	[W_DISCARD]    = { SQL_KIND_DISCARD, 0, head_discard, .in_body = true },
	[W_PREPARE]    = { SQL_KIND_PREPARE, 0, head_prepare, .is_query = true },
	[W_EXECUTE]    = { SQL_KIND_EXECUTE, 0, head_execute, .is_query = true, .advances = true },
	[W_DEALLOCATE] = { SQL_KIND_DEALLOCATE, 0, head_deallocate, .in_body = true },
	[W_DECLARE]    = { SQL_KIND_DECLARE, .is_query = true },
	[W_FETCH]      = { SQL_KIND_FETCH, .is_query = true },
	[W_MOVE]       = { SQL_KIND_FETCH, .is_query = true },
	[W_CLOSE]      = { SQL_KIND_CLOSE, SQL_EFFECT_RELEASE },
	[W_DROP]       = { 0, SQL_EFFECT_RELEASE },
	[W_LISTEN]     = { SQL_KIND_LISTEN, SQL_EFFECT_LISTEN, .in_body = true },
	[W_UNLISTEN]   = { SQL_KIND_UNLISTEN, SQL_EFFECT_RELEASE },
	[W_NOTIFY]     = { SQL_KIND_NOTIFY, SQL_EFFECT_NOTIFY, .in_body = true },
	[W_LOAD]       = { SQL_KIND_LOAD, SQL_EFFECT_LOAD, .in_body = true },
	[W_LOCK]       = { SQL_KIND_LOCK, .is_query = true },
	[W_CALL]       = { SQL_KIND_CALL, SQL_EFFECT_BLOCK, .is_query = true, .advances = true },
	[W_DO]         = { SQL_KIND_DO, SQL_EFFECT_BLOCK, .advances = true },
};
/* clang-format on */

/* The beginning of a statement: leaves any token of it current, or its end. */
void head_take(struct scan *s)
{
	const struct statement *st = &statements[s->w];
	enum sql_kind kind = st->kind;
	bool exact = false;
	bool counts = !s->is_body && s->depth == 0 && s->atomic == 0;

	if (s->w == W_END && s->atomic) /* of BEGIN ATOMIC, not of a transaction */
		return;
	if (!s->is_body) {
		s->stmt = s->w;
		s->is_query = st->is_query;
		s->has_update = s->has_pg_settings = false;
		s->creates_table = false;
		s->nas = 0;
	}
	s->f->statements += counts;
	s->f->effects |= st->effects;
	s->f->sequence |= st->advances ? SQL_SEQUENCE_ADVANCES : 0;
	if (st->head)
		kind = st->head(s, &exact);
	s->defines |= kind == SQL_KIND_EMPTY || kind == SQL_KIND_OTHER;
	if (s->env->unproven && (st->is_query || s->defines))
		s->f->effects |= SQL_EFFECT_BLOCK;
	if (counts && s->f->statements == 1) {
		s->f->kind = kind == SQL_KIND_EMPTY ? SQL_KIND_OTHER : kind;
		s->f->is_exact = exact && scan_is_at_end(s);
	} else if (kind == SQL_KIND_BEGIN) {
		/* What only the first statement may say was said by another. */
		s->f->begin_read_only = s->f->begin_read_write = false;
		s->f->begin_serializable = false;
	}
}

bool head_counts_in_body(enum word first)
{
	return statements[first].in_body;
}
