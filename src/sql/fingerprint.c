/* SPDX-License-Identifier: ISC
 *
 * fingerprint.c - what stays of a text without its literals, comments, case and white space.
 *
 * The tokens are written one behind the other so that they can be told apart again, and the bytes
 * are hashed: each token begins with a mark; what may hold any byte goes with its length.
 */
#include "sql/fingerprint.h"

#include "base/assert.h"
#include "base/hash.h"
#include "sql/ascii.h"

#define IDENT_MAX  63 /* what a server keeps of an identifier */
#define MARK_KNOWN 31 /* a known word: its number follows; other marks are kinds */

_Static_assert(W_COUNT <= UINT8_MAX, "a word's number fits a byte");

void fingerprint_init(struct fingerprint *fp)
{
	fp->hash[0] = fp->hash[1] = 0;
	fp->n = 0;
}

static PGT_NOINLINE void flush(struct fingerprint *fp)
{
	hash_more128(fp->hash, fp->bytes, fp->n);
	fp->n = 0;
}

/* Room for n bytes, fewer than a quarter of all. */
static inline char *room(struct fingerprint *fp, size_t n)
{
	char *at;

	if (fp->n + n > sizeof(fp->bytes))
		flush(fp);
	at = fp->bytes + fp->n;
	fp->n += n;
	return at;
}

static inline void add_mark(struct fingerprint *fp, char mark)
{
	*room(fp, 1) = mark;
}

static void add_bytes(struct fingerprint *fp, const char *p, size_t n)
{
	while (n > 0) {
		size_t part = n < 64 ? n : 64;

		memcpy(room(fp, part), p, part);
		p += part;
		n -= part;
	}
}

/* ascii_lower() of eight bytes at once.  The high bits of the two sums tell whether the low seven
 * bits of a byte are at least 'A', and whether they are beyond 'Z'. */
static inline void fold_eight(char *out, const char *p)
{
	const uint64_t each = UINT64_C(0x0101010101010101), high = each << 7;
	uint64_t x, low, upper;

	memcpy(&x, p, 8);
	low = x & ~high;
	upper = (low + each * (0x80 - 'A')) & ~(low + each * (0x7f - 'Z')) & ~x & high;
	x |= upper >> 2;
	memcpy(out, &x, 8);
}

static inline void add_word(struct fingerprint *fp, struct slice word)
{
	size_t n = word.n < IDENT_MAX ? word.n : IDENT_MAX;
	char *folded = room(fp, n);
	size_t i = 0;

	for (; i + 8 <= n; i += 8)
		fold_eight(folded + i, word.p + i);
	for (; i < n; i++)
		folded[i] = ascii_lower(word.p[i]);
}

static PGT_NOINLINE void add_quoted(struct fingerprint *fp, const struct lex_token *t)
{
	uint32_t n = (uint32_t)t->text.n;

	add_bytes(fp, (const char *)&n, sizeof(n));
	add_bytes(fp, t->text.p, t->text.n);
}

void fingerprint_add(struct fingerprint *fp, const struct lex_token *t, enum word word)
{
	if (t->kind == LEX_WORD && word != W_IDENT) {
		char *known = room(fp, 2);

		known[0] = MARK_KNOWN;
		known[1] = (char)word;
		return;
	}
	add_mark(fp, (char)(t->kind + 1));
	switch (t->kind) {
	case LEX_WORD:
		add_word(fp, t->text);
		break;
	case LEX_QUOTED:
		add_quoted(fp, t);
		break;
	case LEX_OP:
		add_bytes(fp, t->text.p, t->text.n);
		break;
	case LEX_PUNCT:
		add_mark(fp, *t->text.p);
		break;
	default: /* a literal: of what kind is all that counts */
		break;
	}
}

void fingerprint_finish(struct fingerprint *fp, uint64_t out[2])
{
	flush(fp);
	out[0] = fp->hash[0];
	out[1] = fp->hash[1] | !fp->hash[0];
}
