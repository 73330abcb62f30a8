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

static bool digit_value(char c, uint32_t *value)
{
	const char *at = memchr(digits, c, sizeof(digits));

	if (at)
		*value = (uint32_t)(at - digits);
	return at;
}

bool base64_get(struct slice text, uint8_t *out, size_t cap, size_t *n)
{
	size_t pad = 0, len = 0;

	while (pad < 2 && pad < text.n && text.p[text.n - 1 - pad] == '=')
		pad++;
	if (text.n % 4 != 0 || text.n / 4 * 3 - pad > cap)
		return false;
	for (size_t i = 0; i < text.n; i += 4) {
		size_t cut = i + 4 == text.n ? pad : 0;
		uint32_t group = 0, value;

		for (size_t k = 0; k < 4 - cut; k++) {
			if (!digit_value(text.p[i + k], &value))
				return false;
			group |= value << (18 - 6 * k);
		}
		if (group & ((1u << 8 * cut) - 1))
			return false;
		for (size_t k = 0; k < 3 - cut; k++)
			out[len++] = (uint8_t)(group >> (16 - 8 * k));
	}
	*n = len;
	return true;
}
