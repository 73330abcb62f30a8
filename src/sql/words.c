/* SPDX-License-Identifier: ISC
 *
 * words.c - lookup of the words that scan.c knows: by first letter, then length and second letter.
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

#define LETTER(upper, lower) [lower - 'a'] = { words_##upper, PGT_NELEMS(words_##upper) },
static const struct {
	const struct word_row *rows;
	size_t n;
} words_by_letter[26] = { WORD_LETTERS(LETTER) };
#undef LETTER

const struct word_row *word_find(const char *p, size_t n)
{
	const struct word_row *rows;
	size_t nrows;

	if (n < 2 || p[0] < 'a' || p[0] > 'z')
		return NULL;
	rows = words_by_letter[p[0] - 'a'].rows;
	nrows = words_by_letter[p[0] - 'a'].n;
	for (size_t i = 0; i < nrows; i++)
		if (rows[i].len == n && rows[i].text[1] == p[1] && memcmp(rows[i].text, p, n) == 0)
			return &rows[i];
	return NULL;
}
