/* SPDX-License-Identifier: ISC
 *
 * base64.c - RFC 4648 base64.
 *
 * Decodes what strangers send before login; bounded by the room that the caller has.  Knows
 * nothing of what the bytes mean.
 */
#include "auth/base64.h"

static const char digits[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_put(struct buf *b, const void *p, size_t n)
{
	const uint8_t *in = p;
	char *out = buf_reserve(b, (n + 2) / 3 * 4), *at = out;

	for (size_t i = 0; i < n; i += 3) {
		size_t left = n - i;
		uint32_t group = (uint32_t)in[i] << 16;

		if (left > 1)
			group |= (uint32_t)in[i + 1] << 8;
		if (left > 2)
			group |= in[i + 2];
		*at++ = digits[group >> 18];
		*at++ = digits[group >> 12 & 63];
		*at++ = left > 1 ? digits[group >> 6 & 63] : '=';
		*at++ = left > 2 ? digits[group & 63] : '=';
	}
	buf_produced(b, (size_t)(at - out));
}

/* One more than the digit's value; 0: it is none. */
/* clang-format off */
static const uint8_t values[256] = {
	['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
	['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
	['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
	['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
	['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
	['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
	['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
	['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};
/* clang-format on */

bool base64_get(struct slice text, uint8_t *out, size_t cap, size_t *n)
{
	size_t pad = 0, len = 0;

	while (pad < 2 && pad < text.n && text.p[text.n - 1 - pad] == '=')
		pad++;
	if (text.n % 4 != 0 || text.n / 4 * 3 - pad > cap)
		return false;
	for (size_t i = 0; i < text.n; i += 4) {
		size_t cut = i + 4 == text.n ? pad : 0;
		uint32_t group = 0;

		for (size_t k = 0; k < 4 - cut; k++) {
			uint8_t value = values[(unsigned char)text.p[i + k]];

			if (!value)
				return false;
			group |= (uint32_t)(value - 1) << (18 - 6 * k);
		}
		if (group & ((1u << 8 * cut) - 1))
			return false;
		for (size_t k = 0; k < 3 - cut; k++)
			out[len++] = (uint8_t)(group >> (16 - 8 * k));
	}
	*n = len;
	return true;
}
