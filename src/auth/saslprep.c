/* SPDX-License-Identifier: ISC
 *
 * saslprep.c - SASLprep for the characters that keyboards have.
 *
 * The whole of SASLprep needs the normalisation tables of Unicode.  Within the characters of
 * known[] it needs only one small table: none of them combines with a neighbour, is written right
 * to left, is prohibited or was unassigned in Unicode 3.2.  Knows nothing of SCRAM.
 */
#include "auth/saslprep.h"

#include <stdint.h>

/* Version 14 breaks the columns of both tables. */
/* clang-format off */

/* Characters whose preparation is fully told by rewrites[], in order. */
static const struct {
	uint16_t first;
	uint16_t last;
} known[] = {
	{ 0x0020, 0x007e }, /* ASCII */
	{ 0x00a0, 0x0220 }, /* Latin */
	{ 0x0222, 0x0233 },
	{ 0x0388, 0x038a }, /* Greek */
	{ 0x038c, 0x038c },
	{ 0x038e, 0x03a1 },
	{ 0x03a3, 0x03ce },
	{ 0x0400, 0x0482 }, /* Cyrillic */
	{ 0x048a, 0x04ce },
	{ 0x04d0, 0x04f5 },
	{ 0x04f8, 0x04f9 },
	{ 0x2013, 0x2014 }, /* dashes */
	{ 0x2018, 0x201e }, /* quotes */
	{ 0x2020, 0x2022 }, /* dagger, bullet */
	{ 0x2026, 0x2026 }, /* ellipsis */
	{ 0x20ac, 0x20ac }, /* euro */
	{ 0x2122, 0x2122 }, /* trade mark */
	{ 0x3000, 0x3000 }, /* ideographic blank */
	{ 0x3041, 0x3096 }, /* kana */
	{ 0x30a1, 0x30fe },
	{ 0x4e00, 0x9fa5 }, /* Han */
	{ 0xac00, 0xd7a3 }, /* Hangul */
};

/* RFC 3454 B.1 (to nothing), C.1.2 (to a blank) and NFKC; all others of known[] stay. */
static const struct {
	uint16_t from;
	const char *to;
} rewrites[] = {
	{ 0x00a0, " " },
	{ 0x00a8, " \u0308" },
	{ 0x00aa, "a" },
	{ 0x00ad, "" },
	{ 0x00af, " \u0304" },
	{ 0x00b2, "2" },
	{ 0x00b3, "3" },
	{ 0x00b4, " \u0301" },
	{ 0x00b5, "\u03bc" },
	{ 0x00b8, " \u0327" },
	{ 0x00b9, "1" },
	{ 0x00ba, "o" },
	{ 0x00bc, "1\u20444" },
	{ 0x00bd, "1\u20442" },
	{ 0x00be, "3\u20444" },
	{ 0x0132, "IJ" },
	{ 0x0133, "ij" },
	{ 0x013f, "L\u00b7" },
	{ 0x0140, "l\u00b7" },
	{ 0x0149, "\u02bcn" },
	{ 0x017f, "s" },
	{ 0x01c4, "D\u017d" },
	{ 0x01c5, "D\u017e" },
	{ 0x01c6, "d\u017e" },
	{ 0x01c7, "LJ" },
	{ 0x01c8, "Lj" },
	{ 0x01c9, "lj" },
	{ 0x01ca, "NJ" },
	{ 0x01cb, "Nj" },
	{ 0x01cc, "nj" },
	{ 0x01f1, "DZ" },
	{ 0x01f2, "Dz" },
	{ 0x01f3, "dz" },
	{ 0x2026, "..." },
	{ 0x2122, "TM" },
	{ 0x3000, " " },
};
/* clang-format on */

/* No rewrite is longer than this for each byte it replaces. */
#define GROWTH 3

static bool is_known(uint32_t c)
{
	for (size_t i = 0; i < PGT_NELEMS(known); i++)
		if (c >= known[i].first && c <= known[i].last)
			return true;
	return false;
}

static const char *rewrite_of(uint32_t c)
{
	for (size_t i = 0; i < PGT_NELEMS(rewrites); i++)
		if (rewrites[i].from == c)
			return rewrites[i].to;
	return NULL;
}

static bool is_ascii(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((uint8_t)s.p[i] >= 0x80)
			return false;
	return true;
}

/* Length of the character at the front of s, which is not empty; 0 when it is not UTF-8 or beyond
 * U+FFFF, where nothing is known. */
static size_t decode(struct slice s, uint32_t *c)
{
	const uint8_t *p = (const uint8_t *)s.p;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xe0 ? 2 : 3;

	if (n > s.n || (p[0] >= 0x80 && p[0] < 0xc2) || p[0] >= 0xf0)
		return 0;
	*c = n == 1 ? p[0] : n == 2 ? p[0] & 0x1fu : p[0] & 0x0fu;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		*c = *c << 6 | (p[i] & 0x3fu);
	}
	return n == 3 && *c < 0x800 ? 0 : n;
}

/* False at the first character that is not in known[]; out then has a part. */
static bool put_prepared(struct slice s, struct buf *out)
{
	while (s.n) {
		uint32_t c;
		size_t n = decode(s, &c);
		const char *to;

		if (n == 0 || !is_known(c))
			return false;
		to = rewrite_of(c);
		buf_put_slice(out, to ? slice_str(to) : slice_of(s.p, n));
		s = slice_of(s.p + n, s.n - n);
	}
	return true;
}

void saslprep(struct slice password, struct buf *out)
{
	size_t before;

	buf_reserve(out, GROWTH * password.n);
	before = out->end;
	/* A password that becomes empty is refused by SASLprep too. */
	if (!is_ascii(password) && put_prepared(password, out) && out->end > before)
		return;
	out->end = before;
	buf_put_slice(out, password);
}
