/* SPDX-License-Identifier: ISC
 *
 * scan.c - what the tokens of a text alone tell: kind, effects on the session, guarded settings.
 *
 * head.c reads the beginning of a statement, scan_step() looks at one token of anything else.
 * Neither recurses with the text's nesting; only set_config() in the arguments of set_config()
 * does, a few levels.  A statement also begins after a ';' inside parentheses, so that nothing
 * hides there.  Fuzzed by test/fuzz/fuzz_scan.c.
 */
#include "sql/parts.h"

#include "base/assert.h"
#include "sql/leaving.h"
#include "sql/primary.def"
#include "sql/primary.h"

/* --- names ---------------------------------------------------------------------------------- */
#define X(enumerator, name) name,
static const char *const kind_names[] = { SQL_KINDS(X) };
#undef X

const char *sql_kind_name(enum sql_kind kind)
{
	return kind_names[kind];
}

/* Words after which a statement of a function's body may begin. */
static bool opens_statement(enum word w)
{
	return w == W_SEMICOLON || w == W_BEGIN || w == W_THEN || w == W_ELSE || w == W_LOOP;
}

static void scan_body(struct scan *s, struct slice body)
{
	struct lex lex = s->lex;
	uint32_t effects = s->f->effects;
	unsigned depth = s->depth, atomic = s->atomic;
	struct slice part = setting_last_part(s);

	lex_init(&s->lex, body, &(struct lex_env){ s->env->standard_strings, s->env->ascii_safe });
	s->is_body = true;
	s->w = W_SEMICOLON;
	scan_next(s);
	while (s->w != W_EOT) {
		if (opens_statement(s->prev) && head_counts_in_body(s->w))
			head_take(s);
		if (s->w != W_EOT)
			scan_step(s);
	}
	/* Another language's code may not lex; only one that could name the setting matters. */
	if (s->lex.unclean &&
	    (sql_spells(body, SLICE("set_config")) || (part.n && sql_spells(body, part))))
		setting_mark_undecided(s);
	s->is_body = false;
	s->depth = depth;
	s->atomic = atomic;
	s->lex = lex;
	s->w = W_STRING;
	if (s->stmt != W_DO) /* a function that is only made does nothing yet */
		s->f->effects = effects;
}

/* --- one token of anything ------------------------------------------------------------------ */
static PGT_NOINLINE void step_string(struct scan *s)
{
	bool is_code = !s->is_body && (s->stmt == W_DO || (s->stmt == W_CREATE && s->prev == W_AS));
	bool escapes = s->t.uescape || (s->t.backslash && memchr(s->t.inner.p, '\\', s->t.inner.n));

	if (is_code && escapes) {
		setting_mark_undecided(s);
		s->f->effects |= s->stmt == W_DO ? SQL_EFFECT_SET : 0;
		s->f->sets_unnamed = true;
	} else if (is_code) {
		scan_body(s, s->t.inner);
	} else if (s->env->tenant_setting) {
		setting_see_in_string(s);
	}
}

static bool may_set_catalog(const struct scan *s)
{
	return s->stmt == W_ALTER || s->stmt == W_CREATE || s->is_body;
}

/* A function that runs its argument is current.  Without a call it is the name of something else,
 * but for the one that may be made part of an aggregate. */
static PGT_NOINLINE void see_execution(struct scan *s)
{
	if (s->w != W_TS_REWRITE && !slice_is_equal(scan_peek_token(s).text, SLICE("(")))
		return;
	s->f->flags |= SQL_SETCONFIG_DYNAMIC;
	s->f->effects |= SQL_EFFECT_BLOCK;
	s->f->sets_unnamed = true;
}

/* Whether an argument is over here, but for a cast that changes nothing. */
static bool ends_argument(struct lex *ahead)
{
	struct lex_token t;

	lex_next_code(ahead, &t);
	if (slice_is_equal(t.text, SLICE("::"))) {
		lex_next_code(ahead, &t);
		if (!slice_is_equal_nocase(t.text, SLICE("text")))
			return false;
		lex_next_code(ahead, &t);
	}
	return slice_is_equal(t.text, SLICE(")")) || slice_is_equal(t.text, SLICE(","));
}

/* current_setting() is current.  What it is asked for stands in a string of its own, or is not
 * known.
 */
static PGT_NOINLINE void see_current_setting(struct scan *s)
{
	struct setting_name name = { .n = 0 };
	struct lex ahead = s->lex;
	struct lex_token t;

	lex_next_code(&ahead, &t);
	if (!slice_is_equal(t.text, SLICE("(")))
		return;
	s->f->asks_setting = true;
	lex_next_code(&ahead, &t);
	setting_name_add(&name, &t);
	if (t.kind == LEX_STRING && !name.failed &&
	    sql_setting_is_of_session(slice_of(name.text, name.n)) && ends_argument(&ahead))
		return;
	s->f->effects |= SQL_EFFECT_ASKS_NODE;
}

/* Words whose mere place tells: TEMP after CREATE, HOLD after WITH … */
static PGT_NOINLINE void step_word(struct scan *s)
{
	struct sql_facts *f = s->f;

	switch (s->w) {
	case W_TEMP:
	case W_TEMPORARY:
		if (s->prev == W_CREATE || s->prev == W_REPLACE || s->prev == W_LOCAL ||
		    s->prev == W_GLOBAL || (s->prev == W_INTO && s->stmt != W_INSERT))
			f->effects |= SQL_EFFECT_TEMP;
		break;
	case W_PG_TEMP:
		f->effects |= SQL_EFFECT_TEMP;
		break;
	case W_PG_ADVISORY_LOCK:
	case W_PG_ADVISORY_LOCK_SHARED:
	case W_PG_TRY_ADVISORY_LOCK:
	case W_PG_TRY_ADVISORY_LOCK_SHARED:
		f->effects |= SQL_EFFECT_ADVISORY_LOCK;
		break;
	case W_DBLINK_CONNECT:
	case W_DBLINK_CONNECT_U:
		f->effects |= SQL_EFFECT_DBLINK;
		break;
	case W_PG_ADVISORY_UNLOCK:
	case W_PG_ADVISORY_UNLOCK_ALL:
	case W_PG_ADVISORY_UNLOCK_SHARED:
		f->effects |= SQL_EFFECT_RELEASE;
		break;
	case W_NEXTVAL:
	case W_SETVAL:
	case W_INSERT:
	case W_MERGE:
		f->sequence |= SQL_SEQUENCE_ADVANCES;
		break;
	case W_CURRVAL:
		f->sequence |= SQL_SEQUENCE_READS;
		break;
	case W_LASTVAL:
		f->sequence |= SQL_SEQUENCE_READS_LAST;
		break;
	case W_CURRENT_SETTING:
		see_current_setting(s);
		break;
#define X(enumerator, name) case W_##enumerator:
		SQL_FUNCTIONS_THAT_EXECUTE(X)
		see_execution(s);
		break;
		SQL_FUNCTIONS_THAT_READ(X)
		f->effects |= SQL_EFFECT_BLOCK;
		break;
#undef X
	case W_PG_PREPARED_STATEMENTS:
		f->asks_prepared = true;
		break;
	case W_PG_BACKEND_PID:
		f->effects |= SQL_EFFECT_BACKEND_PID;
		break;
	case W_PG_NOTIFY:
		f->effects |= SQL_EFFECT_NOTIFY;
		break;
	case W_SETSEED:
		f->effects |= SQL_EFFECT_SEED;
		break;
	case W_HOLD:
		if (s->prev == W_WITH && (s->stmt == W_DECLARE || s->is_body))
			f->effects |= SQL_EFFECT_HOLD_CURSOR;
		break;
	case W_UPDATE:
	case W_PG_SETTINGS:
		s->has_update |= s->w == W_UPDATE;
		s->has_pg_settings |= s->w == W_PG_SETTINGS;
		if (s->has_update && s->has_pg_settings) {
			f->flags |= SQL_UPDATES_PG_SETTINGS;
			f->effects |= SQL_EFFECT_SET;
			f->sets_many = true;
		}
		break;
	case W_DEFAULT:
	case W_LOCAL:
		f->resets |= s->stmt == W_SET;
		break;
	case W_AS:
		s->nas += s->depth == 0;
		if (s->creates_table && s->depth == 0)
			f->effects |= SQL_EFFECT_DEFINES;
		break;
	case W_INTO:
		if (!s->is_body && s->prev != W_INSERT && s->prev != W_MERGE)
			f->effects |= SQL_EFFECT_DEFINES;
		break;
	case W_CREATE: /* in CREATE SCHEMA, or in a body */
	case W_ALTER:
		if (s->is_body ? s->stmt == W_DO : s->stmt == W_CREATE)
			f->effects |= SQL_EFFECT_DEFINES;
		break;
	case W_EXECUTE:
		if (s->is_body && s->stmt == W_DO)
			f->effects |= SQL_EFFECT_DEFINES;
		if (s->creates_table && s->nas == 1 && s->prev == W_AS)
			head_see_execute(s);
		else
			setting_see_execute(s);
		break;
	case W_ATOMIC:
		s->atomic += s->prev == W_BEGIN && s->stmt == W_CREATE;
		break;
	case W_CASE:
		s->atomic += s->atomic > 0;
		break;
	case W_END:
		s->atomic -= s->atomic > 0;
		break;
	default:
		break;
	}
}

static PGT_NOINLINE void step_set(struct scan *s)
{
	scan_next(s);
	if (may_set_catalog(s) && scan_is_name(s) && scan_peek(s) != W_OTHER)
		setting_take(s, SCOPE_CATALOG);
}

static PGT_NOINLINE void step_reset(struct scan *s)
{
	scan_next(s);
	if (may_set_catalog(s) && scan_is_name(s))
		setting_take_reset(s, SCOPE_CATALOG);
}

/* ---- names behind which there is code ----
 */
static bool is_call(const struct scan *s)
{
	/* A row's field may be a function that is given the row. */
	return s->prev == W_DOT || slice_is_equal(scan_peek_token(s).text, SLICE("("));
}

static unsigned find_leaving(const struct scan *s)
{
	const struct sql_leaving *leaving = s->env->leaving;
	struct slice raw = s->t.inner;
	char name[64];
	size_t n;

	if (s->t.kind == LEX_OP)
		return sql_leaving_find(leaving, s->t.text);
	if (s->t.kind == LEX_WORD && !sql_leaving_may_have(leaving, raw.p[0], raw.n) && raw.n < 64)
		return 0;
	/* One that is not known for certain may be any. */
	return lex_decode(&s->t, name, sizeof(name), &n)
		   ? sql_leaving_find(leaving, slice_of(name, n))
		   : SQL_LEAVES_NAMED;
}

/* What nothing carries, and no survey can ask about but the locks. */
static uint32_t effects_of(unsigned how)
{
	return SQL_EFFECT_BLOCK | (how & SQL_LEAVES_LOCKS ? SQL_EFFECT_CODE_LOCKS : 0) |
	       (how & SQL_LEAVES_SEED ? SQL_EFFECT_SEED : 0) |
	       (how & SQL_LEAVES_DBLINK ? SQL_EFFECT_DBLINK : 0);
}

static PGT_NOINLINE void step_leaving(struct scan *s)
{
	unsigned how = 0;

	if (s->w == W_INSERT || s->w == W_UPDATE || s->w == W_DELETE || s->w == W_MERGE ||
	    s->w == W_COPY)
		s->writes = true;
	else if (scan_is_name(s) || s->t.kind == LEX_OP)
		how = find_leaving(s);
	if (how & SQL_LEAVES_WRITTEN)
		s->written |= how;
	if (!(how & SQL_LEAVES_NAMED) && !((how & SQL_LEAVES_CALLED) && is_call(s)))
		return;
	s->f->effects |= effects_of(how);
}

static void judge_leaving(struct scan *s)
{
	if (s->written && (s->writes || s->defines))
		s->f->effects |= effects_of(s->written);
	if (s->defines && sql_leaving_in_ddl(s->env->leaving))
		s->f->effects |= SQL_EFFECT_BLOCK;
}

/* Marks of one byte, literals and words that are not known. */
static inline void step_shape(struct scan *s)
{
	if (s->w == W_OPEN) {
		if (++s->depth > s->f->nesting)
			s->f->nesting = s->depth;
	} else if (s->w == W_CLOSE_PAREN) {
		s->depth -= s->depth > 0;
	} else if (s->w == W_STRING) {
		step_string(s);
	}
}

void scan_step(struct scan *s)
{
	bool may_be_setting = s->env->tenant_setting && (!s->is_query || s->is_body);

	if (s->env->leaving)
		step_leaving(s);
	if (s->w == W_SET_CONFIG) {
		set_config_take(s);
		return;
	}
	if (s->w == W_SET) {
		step_set(s);
		return;
	}
	if (s->w == W_RESET) {
		step_reset(s);
		return;
	}
	if (may_be_setting && scan_is_name(s))
		setting_see_in_name(s);
	if (s->w > W_OTHER)
		step_word(s);
	else
		step_shape(s);
	scan_next(s);
}

void sql_scan(struct slice text, const struct sql_env *env, struct sql_facts *f)
{
	struct fingerprint fingerprint;
	struct scan s = { .text = text.p, .env = env, .f = f };

	memset(f, 0, offsetof(struct sql_facts, changes));
	if (env->wants_fingerprint) {
		s.fingerprint = &fingerprint;
		fingerprint_init(&fingerprint);
	}
	lex_init(&s.lex, text, &(struct lex_env){ env->standard_strings, env->ascii_safe });
	scan_next(&s);
	while (s.w != W_EOT) {
		if (s.w != W_SEMICOLON) {
			f->resets_early |= f->resets && (f->nchanges || f->sets_many);
			head_take(&s);
		}
		while (!scan_is_at_end(&s))
			scan_step(&s);
		if (s.w == W_SEMICOLON)
			scan_next(&s);
	}
	if (env->leaving)
		judge_leaving(&s);
	if (s.lex.unclean)
		f->flags |= SQL_UNCLEAN;
	if (s.fingerprint)
		fingerprint_finish(&fingerprint, f->fingerprint);
}
