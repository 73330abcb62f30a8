/* SPDX-License-Identifier: ISC
 *
 * prepared_view.c - pg_prepared_statements in a text, without what the protocol has prepared.
 *
 * A server has statements of all clients there, under names of ours.  What remains are those of
 * SQL's PREPARE, which are the client's own.  Knows where a relation may be named, as far as tokens
 * tell; elsewhere the word stays as it is.
 */
#include "relay/parts.h"
#include "sql/lex.h"

#define VIEW "pg_prepared_statements"
#define OWN  "(SELECT * FROM pg_catalog." VIEW " WHERE from_sql)"

static bool is_word(const struct lex_token *t, const char *word)
{
	return t->kind == LEX_WORD && slice_is_equal_nocase(t->text, slice_str(word));
}

static bool is_name(const struct lex_token *t, const char *name)
{
	return is_word(t, name) ||
	       (t->kind == LEX_QUOTED && slice_is_equal(t->inner, slice_str(name)));
}

static bool is_sign(const struct lex_token *t, char sign)
{
	return t->kind == LEX_PUNCT && *t->text.p == sign;
}

static bool is_among(const struct lex_token *t, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (is_word(t, words[i]))
			return true;
	return false;
}

/* Whether the relation is called something else by what stands behind it. */
static bool is_alias(const struct lex_token *t)
{
	static const char *const clauses[] = {
		"where", "group", "having",  "window",    "order", "limit",     "offset", "fetch",
		"for",   "union", "except",  "intersect", "join",  "inner",     "left",   "right",
		"full",  "cross", "natural", "on",        "using", "returning",
	};

	return t->kind == LEX_QUOTED ||
	       (t->kind == LEX_WORD && !is_among(t, clauses, PGT_NELEMS(clauses)));
}

/* Whether a list of relations begins behind the word, or has come to its end. */
static bool follow_from(const struct lex_token *t, bool in_from)
{
	static const char *const ends[] = { "select", "where", "group",  "having",   "order",
					    "limit",  "union", "except", "intersect" };

	if (is_word(t, "from") || is_word(t, "join"))
		return true;
	return in_from && !is_among(t, ends, PGT_NELEMS(ends));
}

void prepared_view_rewrite(struct client *c, struct slice text, struct buf *out)
{
	struct sql_env env = gate_env(c);
	struct lex_token t, prev = { .kind = LEX_END }, next;
	const char *done = text.p, *start = NULL;
	bool in_from = false;
	struct lex lex;

	lex_init(&lex, text, &(struct lex_env){ env.standard_strings, env.ascii_safe });
	while (lex_next_code(&lex, &t)) {
		struct lex ahead = lex;
		bool is_table = is_word(&prev, "table");
		bool is_place = is_table || is_word(&prev, "from") || is_word(&prev, "join") ||
				(in_from && is_sign(&prev, ','));

		lex_next_code(&ahead, &next);
		if (is_place && is_name(&t, "pg_catalog") && is_sign(&next, '.')) {
			start = is_table ? prev.text.p : t.text.p;
			lex = ahead;
			lex_next_code(&lex, &t);
			ahead = lex;
			lex_next_code(&ahead, &next);
		} else {
			start = is_table ? prev.text.p : t.text.p;
		}
		if (is_place && is_name(&t, VIEW) && !is_sign(&next, '.')) {
			buf_put(out, done, (size_t)(start - done));
			buf_printf(out, "%s" OWN "%s", is_table ? "SELECT * FROM " : "",
				   is_alias(&next) ? "" : " AS " VIEW);
			done = t.text.p + t.text.n;
		}
		in_from = follow_from(&t, in_from);
		prev = t;
	}
	if (done != text.p)
		buf_put(out, done, (size_t)(text.p + text.n - done));
}
