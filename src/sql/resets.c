/* SPDX-License-Identifier: ISC
 *
 * resets.c - where a text takes settings back to what the session began with: RESET, SET with
 * DEFAULT or LOCAL for a value, and set_config() with NULL.
 *
 * Commands are split at semicolons, which is certain as long as nothing else is made of commands; a
 * text with BEGIN ATOMIC is left alone.
 */
#include "sql/resets.h"

#include "sql/ascii.h"
#include "sql/lex.h"

#include <string.h>

/* Tokens of a command that are looked at: SET LOCAL a.b.c TO DEFAULT. */
#define TOKENS_MAX 9

struct command {
	struct lex_token t[TOKENS_MAX];
	unsigned n; /* that it has; more than TOKENS_MAX are not kept */
	size_t end; /* in the text */
};

static bool is_word(const struct command *c, unsigned i, const char *word)
{
	return i < c->n && i < TOKENS_MAX && c->t[i].kind == LEX_WORD &&
	       slice_is_equal_nocase(c->t[i].text, slice_str(word));
}

static bool is_sign(const struct command *c, unsigned i, const char *sign)
{
	return i < c->n && i < TOKENS_MAX && slice_is_equal(c->t[i].text, slice_str(sign));
}

static bool is_name(const struct command *c, unsigned i)
{
	return i < c->n && i < TOKENS_MAX &&
	       (c->t[i].kind == LEX_WORD || c->t[i].kind == LEX_QUOTED);
}

/* part { . part } from the i-th token on; which one follows, or 0: it is no name that fits. */
static unsigned take_name(const struct command *c, unsigned i, char name[64])
{
	size_t n = 0, len;

	for (;; i++) {
		if (n > 60 || !is_name(c, i) || !lex_decode(&c->t[i], name + n, 62 - n, &len))
			return 0;
		n += len;
		if (!is_sign(c, ++i, "."))
			break;
		name[n++] = '.';
	}
	for (size_t k = 0; k < n; k++)
		name[k] = ascii_lower(name[k]);
	name[n] = '\0';
	return i;
}

/* RESET …; false: none that a startup packet could have asked for. */
static bool judge_reset(const struct command *c, struct sql_reset *r)
{
	if (is_word(c, 1, "all") && c->n == 2)
		return true;
	if (is_word(c, 1, "time") && is_word(c, 2, "zone")) {
		strcpy(r->name, "timezone");
		return true;
	}
	if (is_word(c, 1, "session") && is_word(c, 2, "authorization")) {
		strcpy(r->name, "session_authorization");
		return true;
	}
	return c->n <= TOKENS_MAX && take_name(c, 1, r->name) == c->n;
}

static void take_place(const struct command *c, unsigned i, const char *text, struct sql_reset *r)
{
	r->by_set = true;
	r->at = i < c->n ? (size_t)(c->t[i].text.p - text) : c->end;
	r->n = i < c->n ? c->t[i].text.n : 0;
}

/* SET …; false: it gives a value. */
static bool judge_set(const struct command *c, const char *text, struct sql_reset *r)
{
	unsigned i = 1;

	if ((is_word(c, 1, "local") || is_word(c, 1, "session")) && is_name(c, 2) &&
	    !is_word(c, 2, "to"))
		i = 2;
	r->is_local = i == 2 && is_word(c, 1, "local");
	if (is_word(c, i, "time") && is_word(c, i + 1, "zone")) {
		strcpy(r->name, "timezone");
		i += 2;
		if (!is_word(c, i, "local") && !is_word(c, i, "default"))
			return false;
	} else if (i == 2 && is_word(c, 2, "authorization") && c->n == 4) {
		strcpy(r->name, "session_authorization");
		return is_word(c, 3, "default"); /* another word for RESET */
	} else if (is_word(c, i, "names")) {
		strcpy(r->name, "client_encoding");
		if (++i < c->n && !is_word(c, i, "default"))
			return false;
	} else {
		i = take_name(c, i, r->name);
		if (!i || !(is_word(c, i, "to") || is_sign(c, i, "=")) ||
		    !is_word(c, i + 1, "default"))
			return false;
		i++;
	}
	take_place(c, i, text, r);
	return true;
}

static bool judge(const struct command *c, const char *text, struct sql_reset *r)
{
	return is_word(c, 0, "reset") ? judge_reset(c, r)
				      : is_word(c, 0, "set") && judge_set(c, text, r);
}

static bool add(struct sql_reset items[SQL_RESETS_MAX], unsigned *n, const struct sql_reset *r)
{
	if (*n == SQL_RESETS_MAX)
		return false;
	items[(*n)++] = *r;
	return true;
}

/* set_config is current, and lex behind it: whether it is called with a name and NULL. */
static bool judge_call(struct lex lex, const char *text, struct sql_reset *r)
{
	struct lex_token t[5];
	size_t n;

	for (size_t i = 0; i < 5; i++)
		if (!lex_next_code(&lex, &t[i]))
			return false;
	if (!slice_is_equal(t[0].text, SLICE("(")) || t[1].kind != LEX_STRING ||
	    !lex_decode(&t[1], r->name, sizeof(r->name) - 1, &n) ||
	    !slice_is_equal(t[2].text, SLICE(",")) ||
	    !slice_is_equal_nocase(t[3].text, SLICE("null")) ||
	    !slice_is_equal(t[4].text, SLICE(",")))
		return false;
	r->name[n] = '\0';
	r->by_set = r->in_call = true;
	r->at = (size_t)(t[3].text.p - text);
	r->n = t[3].text.n;
	return n > 0;
}

bool sql_find_resets(struct slice text, const struct lex_env *env,
		     struct sql_reset items[SQL_RESETS_MAX], unsigned *n)
{
	struct command c = { .n = 0 };
	unsigned nth = 0, depth = 0;
	struct lex_token t;
	struct lex lex;
	bool more = true;

	*n = 0;
	lex_init(&lex, text, env);
	while (more) {
		more = lex_next_code(&lex, &t);
		if (more && !(t.kind == LEX_PUNCT && *t.text.p == ';' && !depth)) {
			struct sql_reset call = { .nth = nth };

			if (slice_is_equal_nocase(t.text, SLICE("atomic")))
				return false;
			if (slice_is_equal_nocase(t.inner, SLICE("set_config")) &&
			    judge_call(lex, text.p, &call) && !add(items, n, &call))
				return false;
			depth += slice_is_equal(t.text, SLICE("("));
			depth -= depth && slice_is_equal(t.text, SLICE(")"));
			if (c.n < TOKENS_MAX)
				c.t[c.n] = t;
			c.n++;
			c.end = (size_t)(t.text.p + t.text.n - text.p);
			continue;
		}
		if (c.n) {
			struct sql_reset r = { .nth = nth++, .end = c.end };

			if (judge(&c, text.p, &r) && !add(items, n, &r))
				return false;
		}
		c.n = 0;
	}
	return !lex.unclean;
}
