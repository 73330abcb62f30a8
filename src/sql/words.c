/* SPDX-License-Identifier: ISC
 *
 * words.c - lookup of the words that scan.c knows: by first letter, length, second letter.
 */
#include "sql/words.h"

#include "base/assert.h"

#include <string.h>

_Static_assert(W_COUNT <= UINT8_MAX, "a word's number fits its row");

#define KEYWORD(enumerator, text) { sizeof(text) - 1, W_##enumerator, false, text },
#define NAME(enumerator, text)    { sizeof(text) - 1, W_##enumerator, true, text },
#define LETTER(upper, lower)                                                                       \
	static const struct word_row words_##upper[] = { WORDS_##upper(KEYWORD, NAME) };
WORD_LETTERS(LETTER)
#undef KEYWORD
#undef NAME
#undef LETTER

/* A bit for a length, or for a letter or underscore. */
#define LENGTH_BIT(n)            (UINT32_C(1) << (n))
#define LETTER_BIT(c)            (UINT32_C(1) << ((uint8_t)(c)&31))

#define LENGTH(enumerator, text) | LENGTH_BIT(sizeof(text) - 1)
#define SECOND(enumerator, text) | LETTER_BIT((text)[1])
#define LETTER(upper, lower)                                                                       \
	[lower & 31] = { words_##upper, PGT_NELEMS(words_##upper),                                 \
			 0 WORDS_##upper(LENGTH, LENGTH), 0 WORDS_##upper(SECOND, SECOND) },
static const struct letter {
	const struct word_row *rows;
	uint32_t nrows;
	uint32_t lengths, seconds; /* that rows have: most words are told here to be none */
} words_by_letter[32] = { WORD_LETTERS(LETTER) };
#undef LENGTH
#undef SECOND
#undef LETTER

/* Rows have letters, underscores and digits only.  What differs from those in the bit of the case
 * is the other case, a DEL for an underscore or a control character for a digit, which no word has
 * in it. */
static inline bool is_same(const struct word_row *row, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((p[i] ^ row->text[i]) & ~0x20)
			return false;
	return true;
}

const struct word_row *word_find(const char *p, size_t n)
{
	const struct letter *letter;
	const struct word_row *row, *end;

	if (n < 2 || n > WORD_MAX)
		return NULL;
	letter = &words_by_letter[(uint8_t)p[0] & 31];
	if (!(letter->lengths & LENGTH_BIT(n)) || !(letter->seconds & LETTER_BIT(p[1])))
		return NULL;
	for (row = letter->rows, end = row + letter->nrows; row < end; row++)
		if (row->len == n && is_same(row, p, n))
			return row;
	return NULL;
}
