/* SPDX-License-Identifier: ISC
 *
 * lex.h - PostgreSQL's lexical rules: a text into tokens that borrow it.
 *
 * Knows identifiers, strings in all their spellings, dollar quotes, comments, operators; knows no
 * grammar and no keyword.  One pass, no allocation, linear time whatever the text is.
 * Source: PostgreSQL manual, "Lexical Structure", and what a PostgreSQL 15 server does with the
 * texts of test/unit/test_lex.c.
 */
#ifndef PGT_SQL_LEX_H
#define PGT_SQL_LEX_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* What the server knows about a session and a lexer must know too, or they see different texts. */
struct lex_env {
	bool standard_strings; /* standard_conforming_strings: \ is an ordinary byte in '…' */
	bool ascii_safe;       /* client_encoding has no ASCII bytes inside characters */
};

enum lex_kind {
	LEX_END,
	LEX_COMMENT, /* a line's or a block */
	LEX_WORD,    /* identifier or keyword, not quoted */
	LEX_QUOTED,  /* "…" or U&"…" */
	LEX_STRING,  /* '…' with E, N, U& or no prefix, $tag$…$tag$ */
	LEX_BITS,    /* B'…' or X'…' */
	LEX_NUMBER,
	LEX_PARAM, /* $1 */
	LEX_OP,    /* operators, ::, .., := */
	LEX_PUNCT, /* one of ( ) [ ] , ; . : and bytes that start nothing */
};

struct lex_token {
	enum lex_kind kind;
	bool backslash;     /* \ escapes in it */
	char uescape;       /* U&: what escapes in it; 0: it is no U& token */
	bool dollar;        /* nothing escapes in it */
	struct slice text;  /* all of it; a U& token's UESCAPE clause included */
	struct slice inner; /* what stands between the quotes; of others: text */
};

struct lex {
	const char *p;
	const char *end;
	const char *signs_end; /* up to here p is among signs that are tokens each by itself */
	bool standard_strings;
	bool unclean; /* something was not terminated, or the text has a NUL */
};

void lex_init(struct lex *l, struct slice text, const struct lex_env *env);

/* The next token; false and LEX_END at the end, from then on always.  Parts of one string that
 * stand on several lines ('a' newline 'b') are one token. */
bool lex_next(struct lex *l, struct lex_token *t);

/* The same, without comments. */
static inline bool lex_next_code(struct lex *l, struct lex_token *t)
{
	while (lex_next(l, t))
		if (t->kind != LEX_COMMENT)
			return true;
	return false;
}

/* The value of a word (folded to lower case), a quoted identifier (both cut to the server's 63
 * bytes) or a string, into out[cap]; *n says how long, no NUL is added.  False, and *n as it was,
 * when it does not fit, when an escape is wrong or of a kind that we leave to the server (surrogate
 * pairs), and for other kinds of token. */
bool lex_decode(const struct lex_token *t, char *out, size_t cap, size_t *n);

/* The number of a LEX_PARAM; 0 when it is none that a server takes (1 … 65535). */
unsigned lex_param_number(const struct lex_token *t);

#endif
