/* SPDX-License-Identifier: ISC
 *
 * json.c - a string of JSON, RFC 8259.
 *
 * Knows strings, not what they are members of.
 */
#include "base/json.h"

#include "base/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"

static void put_ascii(struct buf *out, char c)
{
	if ((uint8_t)c < 0x20 || c == 0x7f)
		buf_printf(out, "\\u%04x", (unsigned)c);
	else if (c == '"' || c == '\\')
		buf_printf(out, "\\%c", c);
	else
		buf_put_u8(out, (uint8_t)c);
}

/* Characters that some take for the end of a line, or for orders to a terminal: U+0080 to U+009F,
 * U+2028 and U+2029.  0: it is none. */
static unsigned nasty(const char *p, size_t n)
{
	if (n == 2 && (uint8_t)p[0] == 0xc2 && (uint8_t)p[1] < 0xa0)
		return (uint8_t)p[1];
	if (n == 3 && !memcmp(p, "\xe2\x80", 2) && ((uint8_t)p[2] | 1) == 0xa9)
		return 0x2000 | ((uint8_t)p[2] & 0x3f);
	return 0;
}

void json_put_string(struct buf *out, const char *s)
{
	size_t n;

	buf_put_u8(out, '"');
	for (; *s; s += n ? n : 1) {
		n = utf8_len(s);
		if (n == 1)
			put_ascii(out, *s);
		else if (nasty(s, n))
			buf_printf(out, "\\u%04x", nasty(s, n));
		else if (n)
			buf_put(out, s, n);
		else
			buf_put_slice(out, SLICE(REPLACEMENT));
	}
	buf_put_u8(out, '"');
}
