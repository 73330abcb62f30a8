/* SPDX-License-Identifier: ISC
 *
 * utf8.c - which bytes are characters of UTF-8.
 *
 * Knows the encoding, not what is done about bytes that are not of it.
 */
#include "base/utf8.h"

#include <stdint.h>

size_t utf8_len(const char *p)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint8_t lead = (uint8_t)*p;
	size_t n = lead < 0x80       ? 1
		   : lead >> 5 == 6  ? 2
		   : lead >> 4 == 14 ? 3
		   : lead >> 3 == 30 ? 4
				     : 0;
	uint32_t code = n > 1 ? lead & (0x7fu >> n) : lead;

	for (size_t i = 1; i < n; i++) {
		if (((uint8_t)p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | ((uint8_t)p[i] & 0x3f);
	}
	if (n && (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)))
		return 0;
	return n;
}
