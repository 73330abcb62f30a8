/* SPDX-License-Identifier: ISC
 *
 * parts.h - what the parts of the scan share: the text as a stream of tokens, and the facts so far.
 *
 * For src/sql only; sql/scan.h is what others see.  Whoever is called with a token current leaves
 * the first token that it did not look at current.
 */
#ifndef PGT_SQL_PARTS_H
#define PGT_SQL_PARTS_H

#include "sql/fingerprint.h"
#include "sql/lex.h"
#include "sql/scan.h"
#include "sql/stream_guard.h"
#include "sql/words.h"

struct scan {
	struct lex lex;
	struct lex_token t;     /* the current token, never a comment … */
	enum word w;            /* … and what it is */
	enum word prev;         /* what stood before it */
	struct slice around[2]; /* the two tokens before it */

	const char *text;
	const struct sql_env *env;
	struct sql_facts *f;
	struct fingerprint *fingerprint; /* NULL: nobody wants it */

	enum word stmt; /* first word of the statement */
	bool is_query;  /* a dotted name in the statement is a column or a table, never a setting */
	bool is_body;   /* inside the body of DO or CREATE FUNCTION */
	bool has_update, has_pg_settings;
	bool creates_table; /* so that EXECUTE may stand behind its AS */
	unsigned nas;       /* AS, outside of parentheses */
	unsigned depth;     /* of parentheses */
	unsigned atomic;    /* BEGIN ATOMIC and the CASEs in it that wait for their END */
	unsigned calls;     /* set_config() in set_config() */
	unsigned written;   /* what relations leave when they are written: enum sql_leaves */
	bool writes;        /* some command of the text may */
	bool defines;       /* a command that is none of the known ones */
};

/* --- tokens.c: the stream ------------------------------------------------------------------- */
/* The current token becomes the next that is no comment. */
void scan_next(struct scan *s);
/* What the token after the current one is, as far as a setting's name cares: W_DOT, W_TO (also for
 * =), W_FROM or W_OTHER. */
enum word scan_peek(const struct scan *s);
struct lex_token scan_peek_token(const struct scan *s);
/* Whether that token is, or may be, the name of a prepared statement of ours. */
bool scan_peek_is_ours(const struct scan *s);

static inline bool scan_is_at_end(const struct scan *s)
{
	return s->w == W_EOT || s->w == W_SEMICOLON;
}

static inline bool scan_is_name(const struct scan *s)
{
	return s->t.kind == LEX_WORD || s->t.kind == LEX_QUOTED;
}

/* Goes on behind a w; false, and stays, where there is none. */
static inline bool scan_take(struct scan *s, enum word w)
{
	if (s->w != w)
		return false;
	scan_next(s);
	return true;
}

/* Where the current token stands in the text. */
static inline size_t scan_token_start(const struct scan *s)
{
	return (size_t)(s->t.text.p - s->text);
}

static inline size_t scan_token_end(const struct scan *s)
{
	return scan_token_start(s) + s->t.text.n;
}

/* --- scan.c --------------------------------------------------------------------------------- */
/* Looks at the current token by itself and goes on behind it. */
void scan_step(struct scan *s);

/* --- head.c: beginnings of statements ------------------------------------------------------- */
/* The beginning of a statement: leaves any token of it current, or its end. */
void head_take(struct scan *s);
/* Whether a statement that begins so is looked for in the body of a function. */
bool head_counts_in_body(enum word first);
/* EXECUTE is current, and does begin a command. */
void head_see_execute(struct scan *s);

/* --- settings.c: guarded settings, by name and value ---------------------------------------- */
struct setting_name {
	char text[160];
	size_t n;
	bool failed; /* no token tells the name */
};

/* "current_business_id" of the setting that is guarded; empty: none is. */
static inline struct slice setting_last_part(const struct scan *s)
{
	return s->env->tenant_setting ? sql_setting_last_part(s->env->tenant_setting)
				      : slice_of(NULL, 0);
}

/* Adds what a token spells, in lower case: settings' names are the same in any case. */
void setting_name_add(struct setting_name *n, const struct lex_token *t);
/* part { . part } */
struct setting_name setting_name_take(struct scan *s);
/* The change's kind by the setting's name; false: not guarded. */
bool setting_is_guarded(struct scan *s, const struct setting_name *n, struct sql_change *c);
/* The change's value by the token that tells it. */
void setting_value(struct sql_change *c, const struct lex_token *t, bool negative);
/* DEFAULT, or constants with commas between them. */
void setting_value_take(struct scan *s, struct sql_change *c);
void setting_add(struct scan *s, const struct sql_change *c);
/* A setting that decides what names of tables mean is given a value here. */
void setting_see_path(struct scan *s, struct slice name);
/* The session keeps what this setting is given here. */
void setting_note(struct scan *s, struct slice name);
/* The tenant setting, if one is guarded, may be set here or not. */
void setting_mark_undecided(struct scan *s);
/* EXECUTE is current: it must not name a statement of ours. */
void setting_see_execute(struct scan *s);

/* What SET and RESET have behind them; scope: of struct sql_change. */
void setting_take(struct scan *s, int scope);
void setting_take_reset(struct scan *s, int scope);
/* Marks the tenant setting where the current token, a string or a name, spells it. */
void setting_see_in_string(struct scan *s);
void setting_see_in_name(struct scan *s);

/* --- set_config.c --------------------------------------------------------------------------- */
/* From the name of the function on. */
void set_config_take(struct scan *s);

#endif
