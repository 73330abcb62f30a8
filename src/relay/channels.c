/* SPDX-License-Identifier: ISC
 *
 * channels.c - pg_listening_channels() in texts of clients that listen through the hub.
 *
 * Knows the tokens around a call, and what a SELECT's clauses begin with, no grammar: a call whose
 * result would get the name of the function gets it here too.
 */
#include "relay/channels.h"

#include "relay/listen.h"
#include "relay/parts.h"
#include "relay/statement.h"
#include "sql/lex.h"
#include "sql/stream_guard.h"

static void put_quoted(struct buf *out, const char *s)
{
	buf_printf(out, "%s", "E'");
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\' || *s & 0x80)
			buf_printf(out, "\\x%02X", (unsigned char)*s);
		else
			buf_put_u8(out, (uint8_t)*s);
	}
	buf_put_u8(out, '\'');
}

/* A set of what the client listens on, with what its own server does. */
static void put_channels(const struct listening *l, struct buf *out)
{
	bool first = true;

	buf_printf(out, "%s", "pg_catalog.unnest(ARRAY[");
	LIST_FOREACH (at, &l->subscriptions) {
		const struct subscription *sub = container_of(at, struct subscription, own);

		if (sub->state != SUBSCRIPTION_ACTIVE)
			continue;
		buf_printf(out, "%s", first ? "" : ", ");
		put_quoted(out, sub->channel->name);
		first = false;
	}
	buf_printf(out, "%s",
		   "]::pg_catalog.text[] OPERATOR(pg_catalog.||) "
		   "ARRAY(SELECT pg_catalog." CHANNELS_FUNCTION "()))");
}

static bool is_sign(const struct lex_token *t, char sign)
{
	return t->kind == LEX_PUNCT && *t->text.p == sign;
}

static bool is_word(const struct lex_token *t, const char *word)
{
	return t->kind == LEX_WORD && slice_is_equal_nocase(t->text, slice_str(word));
}

static bool is_one_of(const struct lex_token *t, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_word(t, words[i]))
			return true;
	return false;
}

/* ---- where a call stands --------------------------------------------------------------------
 */

/* Parentheses deeper than this are not told apart. */
#define DEPTH_MAX 32

enum clause {
	CLAUSE_OTHER,
	CLAUSE_TARGETS, /* of a SELECT */
	CLAUSE_FROM,
	CLAUSE_ON, /* of a join: a comma goes back to FROM */
};

/* What has been read of the text. */
struct place {
	enum clause clauses[DEPTH_MAX]; /* for each open parenthesis */
	unsigned depth;
	bool begins; /* here an element of the clause begins */
	bool was_distinct, was_dot;
};

static enum clause *clause_of(struct place *at)
{
	return &at->clauses[at->depth < DEPTH_MAX ? at->depth : DEPTH_MAX - 1];
}

/* What the word does to the clause that it stands in; whether an element begins behind it. */
static bool step_word(struct place *at, const struct lex_token *t)
{
	static const char *const ends[] = { "where",  "group",     "having", "order", "limit",
					    "offset", "fetch",     "window", "union", "values",
					    "except", "intersect", "for",    "set" };
	static const char *const heads[] = { "all", "distinct", "lateral" };
	enum clause *clause = clause_of(at);

	if (is_word(t, "select")) {
		*clause = CLAUSE_TARGETS;
	} else if (is_word(t, "from") && !at->was_distinct && *clause == CLAUSE_TARGETS) {
		*clause = CLAUSE_FROM;
	} else if (is_word(t, "join")) {
		*clause = CLAUSE_FROM;
	} else if (is_word(t, "on") || is_word(t, "using")) {
		if (*clause == CLAUSE_FROM)
			*clause = CLAUSE_ON;
		return false;
	} else if (is_one_of(t, ends, PGT_NELEMS(ends))) {
		*clause = CLAUSE_OTHER;
		return false;
	} else {
		return at->begins && is_one_of(t, heads, PGT_NELEMS(heads));
	}
	return true;
}

static void step_sign(struct place *at, char sign)
{
	at->begins = sign == ',';
	if (sign == ',' && *clause_of(at) == CLAUSE_ON)
		*clause_of(at) = CLAUSE_FROM;
	if (sign == '(')
		at->depth++;
	else if (sign == ')' && at->depth)
		at->depth--;
	if (sign == '(' || sign == ';')
		*clause_of(at) = CLAUSE_OTHER;
}

static void step(struct place *at, const struct lex_token *t)
{
	if (t->kind == LEX_PUNCT)
		step_sign(at, *t->text.p);
	else
		at->begins = t->kind == LEX_WORD && !at->was_dot && step_word(at, t);
	at->was_distinct = is_word(t, "distinct");
	at->was_dot = is_sign(t, '.');
}

/* Whether nothing more belongs to what the token stands behind. */
static bool ends_element(const struct lex_token *t)
{
	static const char *const words[] = {
		"from",  "where",   "group",       "having",   "order",  "limit", "offset",
		"fetch", "window",  "union",       "for",      "except", "join",  "intersect",
		"into",  "on",      "using",       "left",     "right",  "full",  "inner",
		"cross", "natural", "tablesample", "returning"
	};

	return t->kind == LEX_END || is_sign(t, ';') || is_sign(t, ',') || is_sign(t, ')') ||
	       is_one_of(t, words, PGT_NELEMS(words));
}

/* ---- the text -----------------------------------------------------------------------------------
 */

static bool is_function(const struct lex_token *t)
{
	return is_word(t, CHANNELS_FUNCTION) ||
	       (t->kind == LEX_QUOTED && slice_is_equal(t->inner, SLICE(CHANNELS_FUNCTION)));
}

/* The parentheses behind the function's name; lex stands behind them then. */
static bool take_call(struct lex *lex, const char **end)
{
	struct lex ahead = *lex;
	struct lex_token t;

	if (!lex_next_code(&ahead, &t) || !is_sign(&t, '(') || !lex_next_code(&ahead, &t) ||
	    !is_sign(&t, ')'))
		return false;
	*end = t.text.p + t.text.n;
	*lex = ahead;
	return true;
}

/* Where the result gets its name of the function, it has to be told: behind the call, or behind
 * casts of it, or WITH ORDINALITY.  Moves *end there, and says whether. */
static bool needs_name(struct lex lex, enum clause clause, const char **end)
{
	struct lex_token t;

	if (clause != CLAUSE_TARGETS && clause != CLAUSE_FROM)
		return false;
	lex_next_code(&lex, &t);
	while (clause == CLAUSE_TARGETS && t.kind == LEX_OP &&
	       slice_is_equal(t.text, SLICE("::")) && lex_next_code(&lex, &t) &&
	       t.kind == LEX_WORD) {
		*end = t.text.p + t.text.n;
		lex_next_code(&lex, &t);
	}
	if (clause == CLAUSE_FROM && is_word(&t, "with") && lex_next_code(&lex, &t)) {
		*end = t.text.p + t.text.n;
		lex_next_code(&lex, &t);
	}
	return ends_element(&t);
}

void channels_rewrite(struct client *c, struct slice text, struct buf *out)
{
	struct sql_env env = gate_env(c);
	const char *done = text.p, *qualified = NULL, *end;
	struct place at = { .depth = 0 };
	bool begins = false;
	struct lex_token t;
	struct lex lex;

	lex_init(&lex, text, &(struct lex_env){ env.standard_strings, env.ascii_safe });
	while (lex_next_code(&lex, &t)) {
		if (!qualified)
			begins = at.begins;
		if (is_function(&t) && take_call(&lex, &end)) {
			const char *start = qualified ? qualified : t.text.p, *name_at = end;

			buf_put(out, done, (size_t)(start - done));
			put_channels(c->rare->listening, out);
			done = end;
			if (begins && needs_name(lex, *clause_of(&at), &name_at)) {
				buf_put(out, done, (size_t)(name_at - done));
				buf_printf(out, "%s", " AS " CHANNELS_FUNCTION);
				done = name_at;
			}
			qualified = NULL;
			at.begins = at.was_distinct = at.was_dot = false;
			continue;
		}
		if (is_word(&t, "pg_catalog"))
			qualified = t.text.p;
		else if (!is_sign(&t, '.'))
			qualified = NULL;
		step(&at, &t);
	}
	if (done != text.p)
		buf_put(out, done, (size_t)(text.p + text.n - done));
}

struct statement *channels_statement(struct client *c, const struct statement *st)
{
	struct statement *now = NULL;
	struct buf body = { 0 };

	if (st->has_names || !channels_are_asked(c, statement_text(st)))
		return NULL;
	channels_rewrite(c, statement_text(st), &body);
	if (buf_len(&body)) {
		/* The text's NUL, and the types of parameters. */
		buf_put(&body, st->body + st->text_len, st->len - st->text_len);
		now = statement_intern(c, buf_peek(&body));
	}
	buf_fini(&body);
	return now;
}

bool channels_are_asked(const struct client *c, struct slice text)
{
	return c->rare->listening && c->rare->listening->nsubscriptions &&
	       sql_spells(text, SLICE(CHANNELS_FUNCTION));
}
