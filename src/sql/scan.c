/* SPDX-License-Identifier: ISC
 *
 * scan.c - what the tokens of a text alone tell: kind, effects on the session, guarded settings.
 *
 * head() reads the beginning of a statement whose form is known here (SET, BEGIN …), step() looks
 * at one token of anything else.  Neither recurses with the text's nesting; only set_config() in
 * the arguments of set_config() does, a few levels.  A statement also begins after a ';' inside
 * parentheses, so that nothing hides there.  Fuzzed by test/fuzz/fuzz_scan.c.
 */
#include "sql/scan.h"

#include "base/assert.h"
#include "base/hash.h"
#include "sql/lex.h"
#include "sql/stream_guard.h"
#include "sql/words.h"

#include <inttypes.h>
#include <stdio.h>

#define IDENT_MAX     63 /* what a server keeps of an identifier */
#define NAME_MAX_LEN  160
#define SET_CONFIG_IN 4 /* set_config() inside set_config(): deeper is undecided */

/* --- names ---------------------------------------------------------------------------------- */
#define X(enumerator, name) name,
static const char *const kind_names[] = { SQL_KINDS(X) };
static const char *const effect_names[] = { SQL_EFFECTS(X) };
#undef X

const char *sql_kind_name(enum sql_kind kind)
{
	return kind_names[kind];
}

const char *sql_effect_name(enum sql_effect_bit bit)
{
	return effect_names[bit];
}

/* --- the token stream ----------------------------------------------------------------------- */
struct scan {
	struct lex lex;
	struct lex_token t;     /* the current token, never a comment … */
	enum word w;            /* … and what it is */
	enum word prev;         /* what stood before it */
	struct slice around[2]; /* the two tokens before it */

	const char *text;
	const struct sql_env *env;
	struct lex_env lex_env;
	struct slice last_part; /* of the tenant setting; n = 0: none guarded */
	struct sql_facts *f;

	enum word stmt; /* first word of the statement */
	bool is_body;   /* inside the body of DO or CREATE FUNCTION */
	bool has_update, has_pg_settings;
	unsigned depth;  /* of parentheses */
	unsigned atomic; /* BEGIN ATOMIC and the CASEs in it that wait for their END */
	unsigned calls;  /* set_config() in set_config() */

	size_t nprint;
	char print[256];
};

static void print_flush(struct scan *s)
{
	uint64_t *h = s->f->fingerprint;

	h[0] = hash_more(h[0], s->print, s->nprint);
	h[1] = hash_more(h[1], s->print, s->nprint);
	s->nprint = 0;
}

static inline void print_room(struct scan *s, size_t n)
{
	if (s->nprint + n > sizeof(s->print))
		print_flush(s);
}

static void print_bytes(struct scan *s, const char *p, size_t n)
{
	while (n > 0) {
		size_t part = n < 128 ? n : 128;

		print_room(s, part);
		memcpy(s->print + s->nprint, p, part);
		s->nprint += part;
		p += part;
		n -= part;
	}
}

/* Marks are control characters, which no word or operator has in it, so the sequence of tokens can
 * be told from the bytes; what may hold any byte goes with its length. */
static inline void print_mark(struct scan *s)
{
	print_room(s, 1);
	s->print[s->nprint++] = (char)(s->t.kind + 1);
}

static void see_word(struct scan *s)
{
	size_t n = s->t.text.n < IDENT_MAX ? s->t.text.n : IDENT_MAX;
	const struct word_row *row;
	char *folded;

	print_room(s, n);
	folded = s->print + s->nprint;
	for (size_t i = 0; i < n; i++) {
		char c = s->t.text.p[i];

		folded[i] = (char)(c | (c >= 'A' && c <= 'Z') << 5);
	}
	s->nprint += n;
	row = word_find(folded, n);
	s->w = row ? row->word : W_IDENT;
	s->f->chain++;
}

static void see_quoted(struct scan *s)
{
	uint32_t len = (uint32_t)s->t.inner.n;
	const struct word_row *row;
	char name[IDENT_MAX];
	size_t n;

	print_bytes(s, (const char *)&len, sizeof(len));
	print_bytes(s, s->t.text.p, s->t.text.n);
	row = lex_decode(&s->t, name, sizeof(name), &n) ? word_find(name, n) : NULL;
	s->w = row && row->is_name ? row->word : W_QUOTED;
}

static void see_operator(struct scan *s)
{
	print_bytes(s, s->t.text.p, s->t.text.n);
	s->w = W_OPERATOR;
	if (s->t.text.n == 1 && *s->t.text.p == '=')
		s->w = W_EQUAL;
	else if (slice_is_equal(s->t.text, SLICE("::")))
		s->w = W_CAST;
	s->f->chain++;
}

static void see_punct(struct scan *s)
{
	static const uint8_t words[256] = {
		['('] = W_OPEN, [')'] = W_CLOSE_PAREN, [','] = W_COMMA,
		['.'] = W_DOT,  [';'] = W_SEMICOLON,
	};
	uint8_t c = (uint8_t)*s->t.text.p;

	print_bytes(s, s->t.text.p, 1);
	s->w = words[c] ? words[c] : W_OTHER;
}

static void see_comment(struct scan *s)
{
	const char *p = s->t.text.p, *end = p + s->t.text.n;
	struct slice route = SLICE("route:"), primary = SLICE("primary");

	for (; (size_t)(end - p) > route.n; p++) {
		if (strncasecmp(p, route.p, route.n) != 0)
			continue;
		p += route.n;
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if ((size_t)(end - p) >= primary.n && strncasecmp(p, primary.p, primary.n) == 0)
			s->f->hint = SQL_HINT_PRIMARY;
		return;
	}
}

/* The current token becomes the next that is no comment. */
static void next(struct scan *s)
{
	s->prev = s->w;
	s->around[0] = s->around[1];
	s->around[1] = s->t.inner;
	while (lex_next(&s->lex, &s->t) && s->t.kind == LEX_COMMENT)
		see_comment(s);
	if (s->t.kind == LEX_END) {
		s->w = W_EOT;
		return;
	}
	print_mark(s);
	switch (s->t.kind) {
	case LEX_WORD:
		see_word(s);
		break;
	case LEX_QUOTED:
		see_quoted(s);
		break;
	case LEX_STRING:
		s->w = W_STRING;
		if (!s->env->standard_strings && memchr(s->t.inner.p, '\\', s->t.inner.n))
			s->f->flags |= SQL_BACKSLASH;
		break;
	case LEX_OP:
		see_operator(s);
		break;
	case LEX_PUNCT:
		see_punct(s);
		break;
	default:
		s->w = s->t.kind == LEX_PARAM ? W_PARAM : W_NUMBER;
		break;
	}
}

/* What the token after the current one is, as far as a setting's name cares. */
static enum word peek(const struct scan *s)
{
	struct lex ahead = s->lex;
	struct lex_token t;

	while (lex_next(&ahead, &t) && t.kind == LEX_COMMENT)
		;
	if (slice_is_equal(t.text, SLICE(".")))
		return W_DOT;
	if (slice_is_equal(t.text, SLICE("=")) || slice_is_equal_nocase(t.text, SLICE("to")))
		return W_TO;
	return slice_is_equal_nocase(t.text, SLICE("from")) ? W_FROM : W_OTHER;
}

static bool is_at_end(const struct scan *s)
{
	return s->w == W_EOT || s->w == W_SEMICOLON;
}

static bool is_name(const struct scan *s)
{
	return s->t.kind == LEX_WORD || s->t.kind == LEX_QUOTED;
}

static bool take(struct scan *s, enum word w)
{
	if (s->w != w)
		return false;
	next(s);
	return true;
}

static size_t token_start(const struct scan *s)
{
	return (size_t)(s->t.text.p - s->text);
}

static size_t token_end(const struct scan *s)
{
	return token_start(s) + s->t.text.n;
}

/* --- guarded settings ----------------------------------------------------------------------- */
struct name {
	char text[NAME_MAX_LEN];
	size_t n;
	bool failed; /* no token tells the name */
};

static const struct {
	struct slice name;
	int what;
} guarded[] = {
	{{ "statement_timeout", 17 },            CHANGE_STATEMENT_TIMEOUT},
	{ { "standard_conforming_strings", 27 }, CHANGE_STANDARD_STRINGS },
	{ { "client_encoding", 15 },             CHANGE_CLIENT_ENCODING  },
};

static const struct slice read_only_settings[] = {
	{"transaction_read_only",          21},
	{ "default_transaction_read_only", 29},
};

/* Settings' names are the same in any case, quoted or not: parts are joined before they are looked
 * up, so "app.x" is app.x. */
static void name_add(struct name *n, const struct lex_token *t)
{
	size_t len = 0;

	if (!lex_decode(t, n->text + n->n, sizeof(n->text) - n->n, &len))
		n->failed = true;
	for (size_t i = n->n; i < n->n + len; i++)
		if (n->text[i] >= 'A' && n->text[i] <= 'Z')
			n->text[i] |= 0x20;
	n->n += len;
}

/* part { . part }, leaves the token behind it current. */
static struct name take_name(struct scan *s)
{
	struct name n = { .n = 0 };

	for (;;) {
		if (is_name(s))
			name_add(&n, &s->t);
		else
			n.failed = true;
		if (n.failed)
			return n;
		next(s);
		if (s->w != W_DOT)
			return n;
		if (n.n < sizeof(n.text))
			n.text[n.n++] = '.';
		next(s);
	}
}

/* The change's kind by the setting's name; false: not guarded. */
static bool is_guarded(struct scan *s, const struct name *n, struct sql_change *c)
{
	struct slice name = slice_of(n->text, n->n);

	for (size_t i = 0; i < PGT_NELEMS(read_only_settings); i++)
		if (slice_is_equal(name, read_only_settings[i]))
			s->f->flags |= SQL_SETS_READ_ONLY;
	for (size_t i = 0; i < PGT_NELEMS(guarded); i++)
		if (slice_is_equal(name, guarded[i].name)) {
			c->what = guarded[i].what;
			return true;
		}
	c->what = CHANGE_TENANT;
	return s->last_part.n && slice_is_equal(name, slice_str(s->env->tenant_setting));
}

static void add_change(struct scan *s, const struct sql_change *c)
{
	if (s->f->nchanges == SQL_CHANGES_MAX)
		s->f->too_many_changes = true;
	else
		s->f->changes[s->f->nchanges++] = *c;
}

/* The server prints integers, so 042 is 42; a number that is no int4 stays as it is spelled. */
static void set_number(struct sql_change *c, struct slice text, bool negative)
{
	const char *sign = negative ? "-" : "";
	int64_t integer = 0;
	int n;

	for (size_t i = 0; i < text.n && integer <= INT32_MAX; i++) {
		bool is_digit = text.p[i] >= '0' && text.p[i] <= '9';

		integer = is_digit ? integer * 10 + (text.p[i] - '0') : INT64_MAX;
	}
	if (integer <= INT32_MAX)
		n = snprintf(c->value, sizeof(c->value), "%s%" PRId64, sign, integer);
	else if (text.n < sizeof(c->value))
		n = snprintf(c->value, sizeof(c->value), "%s%.*s", sign, SLICE_FMT(text));
	else
		n = sizeof(c->value);
	c->value_fits = (size_t)n < sizeof(c->value);
}

static void set_value(struct sql_change *c, const struct lex_token *t, bool negative)
{
	size_t n = 0;

	c->form = VALUE_LITERAL;
	if (t->kind == LEX_NUMBER) {
		set_number(c, t->text, negative);
	} else {
		c->value_fits = lex_decode(t, c->value, sizeof(c->value) - 1, &n);
		c->value[c->value_fits ? n : 0] = '\0';
	}
}

/* DEFAULT, or constants with commas between them. */
static void take_value(struct scan *s, struct sql_change *c)
{
	unsigned n = 0;

	c->form = VALUE_UNKNOWN;
	c->at = token_start(s);
	do {
		bool negative = s->w == W_OPERATOR && *s->t.text.p == '-';

		if (s->w == W_OPERATOR)
			next(s);
		if (is_at_end(s) || s->t.kind == LEX_PUNCT)
			break;
		if (s->w == W_DEFAULT)
			c->form = VALUE_DEFAULT;
		else if (s->t.kind != LEX_PARAM && s->t.kind != LEX_OP && s->t.kind != LEX_BITS)
			set_value(c, &s->t, negative);
		c->len = token_end(s) - c->at;
		next(s);
		n++;
	} while (take(s, W_COMMA));
	if (n != 1) {
		c->form = VALUE_UNKNOWN;
		c->value_fits = false;
		c->value[0] = '\0';
	}
}

static void mark_undecided(struct scan *s)
{
	if (s->last_part.n)
		s->f->flags |= SQL_GUARD_UNDECIDED;
}

/* name {TO | =} value, or name FROM CURRENT. */
static void take_setting(struct scan *s, int scope)
{
	struct sql_change c = { .scope = scope };
	struct name name = take_name(s);

	if (name.failed)
		mark_undecided(s);
	else if (!is_guarded(s, &name, &c))
		return;
	if (take(s, W_TO) || take(s, W_EQUAL))
		take_value(s, &c);
	else
		c.form = VALUE_UNKNOWN;
	if (!name.failed)
		add_change(s, &c);
}

/* What RESET names: a setting, or ALL of them. */
static void take_reset(struct scan *s, int scope)
{
	struct sql_change c = { .scope = scope, .form = VALUE_DEFAULT, .at = token_start(s) };
	struct name name;

	if (s->w == W_ALL) {
		for (size_t i = 0; i < PGT_NELEMS(guarded); i++) {
			c.what = guarded[i].what;
			add_change(s, &c);
		}
		c.what = CHANGE_TENANT;
		if (s->last_part.n)
			add_change(s, &c);
		return;
	}
	name = take_name(s);
	if (name.failed)
		mark_undecided(s);
	else if (is_guarded(s, &name, &c))
		add_change(s, &c);
}

/* --- set_config() --------------------------------------------------------------------------- */
static void step(struct scan *s);

struct arg {
	struct lex_token first;
	enum word w;
	bool is_single; /* one token, or one with a cast that changes nothing */
	size_t at, end; /* in the text */
};

/* The argument that begins at the current token; stops at its comma or closing parenthesis. */
static struct arg take_arg(struct scan *s, unsigned depth)
{
	struct arg a = { .first = s->t, .w = s->w, .at = token_start(s), .end = token_start(s) };
	bool cast = false, plain_type = false;
	unsigned n = 0;

	while (!is_at_end(s) &&
	       !(s->depth == depth && (s->w == W_COMMA || s->w == W_CLOSE_PAREN))) {
		if (n == 1)
			cast = s->w == W_CAST;
		else if (n == 2)
			plain_type = slice_is_equal_nocase(s->t.text, SLICE("text")) ||
				     slice_is_equal_nocase(s->t.text, SLICE("boolean")) ||
				     slice_is_equal_nocase(s->t.text, SLICE("bool"));
		a.end = token_end(s);
		step(s);
		n++;
	}
	a.is_single = n == 1 || (n == 3 && cast && plain_type);
	return a;
}

static void judge_set_config(struct scan *s, const struct arg arg[3])
{
	bool local = arg[2].is_single && arg[2].w == W_TRUE;
	bool params = !s->is_body && s->stmt != W_PREPARE;
	struct sql_change c = { .scope = local ? SCOPE_LOCAL : SCOPE_SESSION,
				.form = VALUE_UNKNOWN,
				.at = arg[1].at,
				.len = arg[1].end - arg[1].at };
	struct name name = { .failed = !arg[0].is_single || arg[0].w != W_STRING };

	if (!local)
		s->f->effects |= SQL_EFFECT_SET;
	if (!name.failed)
		name_add(&name, &arg[0].first);
	if (arg[0].is_single && arg[0].w == W_PARAM && params) {
		s->f->flags |= SQL_SETCONFIG_PARAM;
		c.what = CHANGE_BY_PARAM;
		c.name_param = (int)lex_param_number(&arg[0].first);
	} else if (name.failed) {
		s->f->flags |= SQL_SETCONFIG_DYNAMIC;
		return;
	} else if (!is_guarded(s, &name, &c)) {
		return;
	}
	if (arg[1].is_single && arg[1].w == W_STRING) {
		set_value(&c, &arg[1].first, false);
	} else if (arg[1].is_single && arg[1].w == W_NULL) {
		c.form = VALUE_DEFAULT;
	} else if (arg[1].is_single && arg[1].w == W_PARAM && params) {
		c.form = VALUE_PARAM;
		c.param = (int)lex_param_number(&arg[1].first);
	}
	add_change(s, &c);
}

/* From the name on. */
static void take_set_config(struct scan *s)
{
	struct arg arg[3] = { 0 };
	unsigned depth;
	size_t n = 0;

	next(s);
	if (s->w != W_OPEN || s->calls == SET_CONFIG_IN) {
		/* Named without a call, it may be made part of an aggregate. */
		s->f->flags |= SQL_SETCONFIG_DYNAMIC;
		return;
	}
	s->calls++;
	step(s);
	depth = s->depth;
	do
		arg[n] = take_arg(s, depth);
	while (++n < PGT_NELEMS(arg) && take(s, W_COMMA));
	s->calls--;
	judge_set_config(s, arg);
}

/* --- transaction control -------------------------------------------------------------------- */
static bool take_isolation(struct scan *s)
{
	if (!take(s, W_LEVEL))
		return false;
	if (take(s, W_SERIALIZABLE)) {
		s->f->begin_serializable = true;
		return true;
	}
	if (take(s, W_REPEATABLE))
		return take(s, W_READ);
	return take(s, W_READ) && (take(s, W_COMMITTED) || take(s, W_UNCOMMITTED));
}

/* The modes of BEGIN up to its end; false when one is not known. */
static bool take_modes(struct scan *s)
{
	bool only = false, write = false, known = true;

	while (known && !is_at_end(s)) {
		if (take(s, W_READ))
			known = take(s, W_ONLY) ? (only = true) : (write = take(s, W_WRITE));
		else if (take(s, W_ISOLATION))
			known = take_isolation(s);
		else if (take(s, W_NOT))
			known = take(s, W_DEFERRABLE);
		else
			known = take(s, W_DEFERRABLE);
		if (known && take(s, W_COMMA))
			known = !is_at_end(s);
	}
	s->f->begin_read_only = known && only && !write;
	return known;
}

static void take_work(struct scan *s)
{
	if (!take(s, W_WORK))
		take(s, W_TRANSACTION);
}

/* Heads of statements: from the first word on, as far as the form is known; *exact says that all of
 * it was.  They return the kind. */
static enum sql_kind head_begin(struct scan *s, bool *exact)
{
	next(s);
	take_work(s);
	*exact = take_modes(s);
	return SQL_KIND_BEGIN;
}

static enum sql_kind head_start(struct scan *s, bool *exact)
{
	next(s);
	if (!take(s, W_TRANSACTION))
		return SQL_KIND_OTHER;
	*exact = take_modes(s);
	return SQL_KIND_BEGIN;
}

/* COMMIT, END, ROLLBACK, ABORT. */
static enum sql_kind head_finish(struct scan *s, bool *exact)
{
	enum sql_kind kind =
	    s->w == W_COMMIT || s->w == W_END ? SQL_KIND_COMMIT : SQL_KIND_ROLLBACK;

	next(s);
	if (s->w == W_PREPARED)
		return SQL_KIND_TWO_PHASE;
	take_work(s);
	if (s->w == W_TO)
		return SQL_KIND_ROLLBACK_TO;
	*exact = !take(s, W_AND) || (take(s, W_NO) && take(s, W_CHAIN));
	return kind;
}

static enum sql_kind head_prepare(struct scan *s, bool *exact)
{
	next(s);
	if (take(s, W_TRANSACTION) && s->w == W_STRING) {
		s->f->effects |= SQL_EFFECT_TRANSACTION_CONTROL;
		return SQL_KIND_TWO_PHASE;
	}
	s->f->effects |= SQL_EFFECT_PREPARE;
	return SQL_KIND_PREPARE;
}

/* --- the session ---------------------------------------------------------------------------- */
/* SET in a form of its own, without TO or =. */
static enum sql_kind take_special_set(struct scan *s, int scope)
{
	struct sql_change c = { .scope = scope,
				.what = CHANGE_CLIENT_ENCODING,
				.form = VALUE_DEFAULT };

	if (s->w == W_TRANSACTION || s->w == W_CONSTRAINTS)
		return SQL_KIND_SET_TRANSACTION;
	if (take(s, W_NAMES)) {
		c.at = token_start(s);
		if (!is_at_end(s))
			take_value(s, &c);
		add_change(s, &c);
	}
	return scope == SCOPE_LOCAL ? SQL_KIND_SET_LOCAL : SQL_KIND_SET;
}

static enum sql_kind head_set(struct scan *s, bool *exact)
{
	enum sql_kind kind;
	int scope = SCOPE_SESSION;

	next(s);
	if ((s->w == W_LOCAL || s->w == W_SESSION) && peek(s) == W_OTHER) {
		scope = s->w == W_LOCAL ? SCOPE_LOCAL : SCOPE_SESSION;
		next(s);
	}
	if (peek(s) == W_OTHER) {
		kind = take_special_set(s, scope);
	} else {
		take_setting(s, scope);
		kind = scope == SCOPE_LOCAL ? SQL_KIND_SET_LOCAL : SQL_KIND_SET;
	}
	if (kind == SQL_KIND_SET)
		s->f->effects |= SQL_EFFECT_SET;
	return kind;
}

static enum sql_kind head_reset(struct scan *s, bool *exact)
{
	next(s);
	take_reset(s, SCOPE_SESSION);
	return SQL_KIND_RESET;
}

static enum sql_kind head_show(struct scan *s, bool *exact)
{
	next(s);
	take_name(s);
	return SQL_KIND_SHOW;
}

static enum sql_kind head_discard(struct scan *s, bool *exact)
{
	next(s);
	*exact = take(s, W_ALL);
	s->f->effects |= *exact ? SQL_EFFECT_DISCARD_ALL : SQL_EFFECT_DISCARD_PLANS;
	return SQL_KIND_DISCARD;
}

static enum sql_kind head_deallocate(struct scan *s, bool *exact)
{
	next(s);
	take(s, W_PREPARE);
	s->f->effects |= s->w == W_ALL ? SQL_EFFECT_DEALLOCATE_ALL : SQL_EFFECT_DEALLOCATE;
	return SQL_KIND_DEALLOCATE;
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
} statements[W_COUNT] = {
	[W_SELECT]     = { SQL_KIND_SELECT, .is_query = true },
	[W_WITH]       = { SQL_KIND_SELECT, .is_query = true },
	[W_VALUES]     = { SQL_KIND_SELECT, .is_query = true },
	[W_TABLE]      = { SQL_KIND_SELECT, .is_query = true },
	[W_OPEN]       = { SQL_KIND_SELECT, .is_query = true },
	[W_INSERT]     = { SQL_KIND_INSERT, .is_query = true },
	[W_UPDATE]     = { SQL_KIND_UPDATE, .is_query = true },
	[W_DELETE]     = { SQL_KIND_DELETE, .is_query = true },
	[W_MERGE]      = { .is_query = true },
	[W_EXPLAIN]    = { SQL_KIND_EXPLAIN, .is_query = true },
	[W_COPY]       = { SQL_KIND_COPY, SQL_EFFECT_COPY, .is_query = true },
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
	[W_EXECUTE]    = { SQL_KIND_EXECUTE, .is_query = true },
	[W_DEALLOCATE] = { SQL_KIND_DEALLOCATE, 0, head_deallocate, .in_body = true },
	[W_DECLARE]    = { SQL_KIND_DECLARE, .is_query = true },
	[W_FETCH]      = { SQL_KIND_FETCH, .is_query = true },
	[W_MOVE]       = { SQL_KIND_FETCH, .is_query = true },
	[W_CLOSE]      = { SQL_KIND_CLOSE },
	[W_LISTEN]     = { SQL_KIND_LISTEN, SQL_EFFECT_LISTEN, .in_body = true },
	[W_UNLISTEN]   = { SQL_KIND_UNLISTEN },
	[W_NOTIFY]     = { SQL_KIND_NOTIFY },
	[W_LOAD]       = { SQL_KIND_LOAD, SQL_EFFECT_LOAD, .in_body = true },
	[W_LOCK]       = { SQL_KIND_LOCK, .is_query = true },
	[W_CALL]       = { SQL_KIND_CALL, .is_query = true },
	[W_DO]         = { SQL_KIND_DO },
};
/* clang-format on */

/* The beginning of a statement: leaves any token of it current, or its end. */
static void head(struct scan *s)
{
	const struct statement *st = &statements[s->w];
	enum sql_kind kind = st->kind;
	bool exact = false;
	bool counts = !s->is_body && s->depth == 0 && s->atomic == 0;

	if (s->w == W_END && s->atomic) /* of BEGIN ATOMIC, not of a transaction */
		return;
	if (!s->is_body) {
		s->stmt = s->w;
		s->has_update = s->has_pg_settings = false;
	}
	s->f->statements += counts;
	s->f->effects |= st->effects;
	if (st->head)
		kind = st->head(s, &exact);
	if (counts && s->f->statements == 1) {
		s->f->kind = kind == SQL_KIND_EMPTY ? SQL_KIND_OTHER : kind;
		s->f->is_exact = exact && is_at_end(s);
	} else if (kind == SQL_KIND_BEGIN) {
		/* What only the first statement may say was said by another. */
		s->f->begin_read_only = s->f->begin_serializable = false;
	}
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

	lex_init(&s->lex, body, &s->lex_env);
	s->is_body = true;
	s->w = W_SEMICOLON;
	next(s);
	while (s->w != W_EOT) {
		if (opens_statement(s->prev) && statements[s->w].in_body)
			head(s);
		if (s->w != W_EOT)
			step(s);
	}
	/* Another language's code may not lex; only one that could name the setting matters. */
	if (s->lex.unclean && (sql_spells(body, SLICE("set_config")) ||
			       (s->last_part.n && sql_spells(body, s->last_part))))
		mark_undecided(s);
	s->is_body = false;
	s->depth = depth;
	s->atomic = atomic;
	s->lex = lex;
	s->w = W_STRING;
	if (s->stmt != W_DO) /* a function that is only made does nothing yet */
		s->f->effects = effects;
}

/* --- one token of anything ------------------------------------------------------------------ */
/* A string that spells the tenant setting is data or the argument of current_setting() when it is
 * the name alone; with more around it, it may be a command for somebody to execute. */
static void see_setting_in_string(struct scan *s)
{
	struct name name = { .n = 0 };

	if (!sql_spells(s->t.inner, s->last_part))
		return;
	name_add(&name, &s->t);
	if (!name.failed &&
	    slice_is_equal(slice_of(name.text, name.n), slice_str(s->env->tenant_setting)))
		return;
	if (s->is_body || sql_spells(s->t.inner, SLICE("set")))
		s->f->flags |= SQL_GUARD_UNDECIDED;
}

static void step_string(struct scan *s)
{
	bool is_code = !s->is_body && (s->stmt == W_DO || (s->stmt == W_CREATE && s->prev == W_AS));
	bool escapes = s->t.uescape || (s->t.backslash && memchr(s->t.inner.p, '\\', s->t.inner.n));

	if (is_code && escapes) {
		mark_undecided(s);
		s->f->effects |= s->stmt == W_DO ? SQL_EFFECT_SET : 0;
	} else if (is_code) {
		scan_body(s, s->t.inner);
	} else if (s->last_part.n) {
		see_setting_in_string(s);
	}
}

/* The tenant setting spelled as a name, where names may be settings. */
static void see_setting_in_name(struct scan *s)
{
	const char *setting = s->env->tenant_setting;
	struct slice qualifier = slice_of(setting, (size_t)(s->last_part.p - setting));

	if (statements[s->stmt].is_query && !s->is_body)
		return;
	if (slice_is_equal_nocase(s->t.inner, slice_str(setting))) {
		s->f->flags |= SQL_GUARD_UNDECIDED;
		return;
	}
	if (!slice_is_equal_nocase(s->t.inner, s->last_part) || s->prev != W_DOT)
		return;
	qualifier.n -= qualifier.n > 0;
	if (qualifier.n >= s->around[0].n &&
	    slice_is_equal_nocase(
		s->around[0], slice_of(qualifier.p + qualifier.n - s->around[0].n, s->around[0].n)))
		s->f->flags |= SQL_GUARD_UNDECIDED;
}

static bool may_set_catalog(const struct scan *s)
{
	return s->stmt == W_ALTER || s->stmt == W_CREATE || s->is_body;
}

/* Words whose mere place tells: TEMP after CREATE, HOLD after WITH … */
static void step_word(struct scan *s)
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
	case W_SETSEED:
		f->effects |= SQL_EFFECT_SET;
		break;
	case W_HOLD:
		if (s->prev == W_WITH && (s->stmt == W_DECLARE || s->is_body))
			f->effects |= SQL_EFFECT_HOLD_CURSOR;
		break;
	case W_UPDATE:
	case W_PG_SETTINGS:
		s->has_update |= s->w == W_UPDATE;
		s->has_pg_settings |= s->w == W_PG_SETTINGS;
		if (s->has_update && s->has_pg_settings)
			f->flags |= SQL_UPDATES_PG_SETTINGS;
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

/* Looks at the current token by itself and goes on behind it. */
static void step(struct scan *s)
{
	switch (s->w) {
	case W_OPEN:
		if (++s->depth > s->f->nesting)
			s->f->nesting = s->depth;
		break;
	case W_CLOSE_PAREN:
		s->depth -= s->depth > 0;
		break;
	case W_STRING:
		step_string(s);
		break;
	case W_SET_CONFIG:
		take_set_config(s);
		return;
	case W_SET:
		next(s);
		if (may_set_catalog(s) && is_name(s) && peek(s) != W_OTHER)
			take_setting(s, SCOPE_CATALOG);
		return;
	case W_RESET:
		next(s);
		if (may_set_catalog(s) && is_name(s))
			take_reset(s, SCOPE_CATALOG);
		return;
	default:
		if (s->last_part.n && is_name(s))
			see_setting_in_name(s);
		if (s->w > W_OTHER)
			step_word(s);
		break;
	}
	next(s);
}

void sql_scan(struct slice text, const struct sql_env *env, struct sql_facts *f)
{
	struct scan s;

	memset(f, 0, offsetof(struct sql_facts, changes));
	f->fingerprint[1] = UINT64_C(0x9e3779b97f4a7c15);
	memset(&s, 0, offsetof(struct scan, print));
	s.text = text.p;
	s.env = env;
	s.f = f;
	s.lex_env = (struct lex_env){ env->standard_strings, env->ascii_safe };
	if (env->tenant_setting)
		s.last_part = sql_setting_last_part(env->tenant_setting);
	lex_init(&s.lex, text, &s.lex_env);
	next(&s);
	while (s.w != W_EOT) {
		if (s.w != W_SEMICOLON)
			head(&s);
		while (!is_at_end(&s))
			step(&s);
		if (s.w == W_SEMICOLON)
			next(&s);
	}
	if (s.lex.unclean)
		f->flags |= SQL_UNCLEAN;
	print_flush(&s);
}
