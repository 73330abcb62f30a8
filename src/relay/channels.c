/* SPDX-License-Identifier: ISC
 *
 * channels.c - pg_listening_channels() in texts of clients that listen through the hub.
 *
 * Knows the tokens around a call, no grammar: a call whose result would get the name of the
 * function gets it here too, as far as what follows tells.
 */
#include "relay/channels.h"

#include "relay/listen.h"
#include "relay/parts.h"
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

/* Whether the result of the call is named by what follows it, or needs no name there. */
static bool takes_no_name(const struct lex_token *t)
{
	static const char *const clauses[] = { "from",  "where", "group", "order",
					       "limit", "union", "cross", "join" };

	if (t->kind == LEX_END || is_sign(t, ';') || is_sign(t, ','))
		return false;
	for (size_t i = 0; i < PGT_NELEMS(clauses); i++)
		if (is_word(t, clauses[i]))
			return false;
	return true;
}

void channels_rewrite(struct client *c, struct slice text, struct buf *out)
{
	struct sql_env env = gate_env(c);
	struct lex_token t, open, close;
	const char *done = text.p, *qualified = NULL;
	struct lex lex;

	lex_init(&lex, text, &(struct lex_env){ env.standard_strings, env.ascii_safe });
	while (lex_next_code(&lex, &t)) {
		struct lex ahead = lex;

		if (is_word(&t, "pg_catalog")) {
			qualified = t.text.p;
			continue;
		}
		if (is_sign(&t, '.') && qualified)
			continue;
		if (is_word(&t, CHANNELS_FUNCTION) && lex_next_code(&ahead, &open) &&
		    is_sign(&open, '(') && lex_next_code(&ahead, &close) && is_sign(&close, ')')) {
			const char *start = qualified ? qualified : t.text.p;

			buf_put(out, done, (size_t)(start - done));
			put_channels(c->listening, out);
			done = close.text.p + close.text.n;
			lex = ahead;
			lex_next_code(&ahead, &t);
			if (!takes_no_name(&t))
				buf_printf(out, "%s", " AS " CHANNELS_FUNCTION);
		}
		qualified = NULL;
	}
	if (done != text.p)
		buf_put(out, done, (size_t)(text.p + text.n - done));
}

bool channels_are_asked(const struct client *c, struct slice text)
{
	return c->listening && c->listening->nsubscriptions &&
	       sql_spells(text, SLICE(CHANNELS_FUNCTION));
}
