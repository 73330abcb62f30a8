/* SPDX-License-Identifier: ISC
 *
 * words.h - the words that scan.c knows, and their lookup.
 */
#ifndef PGT_SQL_WORDS_H
#define PGT_SQL_WORDS_H

#include "sql/words.def"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a token is to scan.c: its shape, or a known word. */
enum word {
	W_EOT, /* the end of the text */
	W_SEMICOLON,
	W_IDENT, /* an unknown word */
	W_QUOTED,
	W_STRING,
	W_NUMBER,
	W_PARAM,
	W_OPERATOR,
	W_CAST,
	W_EQUAL,
	W_OPEN, /* a parenthesis */
	W_CLOSE_PAREN,
	W_COMMA,
	W_DOT,
	W_OTHER, /* known words have greater numbers */
#define ENUMERATE(enumerator, text) W_##enumerator,
#define LETTER(upper, lower)        WORDS_##upper(ENUMERATE, ENUMERATE)
	WORD_LETTERS(LETTER)
#undef ENUMERATE
#undef LETTER
	    W_COUNT,
};

#define WORD_MAX 29 /* bytes of the longest word, with room; below 32, see words.c */

struct word_row {
	uint8_t len;
	uint8_t word;
	bool is_name;        /* of a function or relation: counts quoted too */
	char text[WORD_MAX]; /* not terminated */
};

/* The row of a word, whatever its case, or NULL.  Of bytes that are no word (a quoted name) the
 * row has to be compared. */
const struct word_row *word_find(const char *p, size_t n);

#endif
