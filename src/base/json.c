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

/* Of more than one byte, and well formed. */
static uint32_t decode(const char *p, size_t n)
{
	uint32_t code = (uint8_t)p[0] & (0x7fu >> n);

	for (size_t i = 1; i < n; i++)
		code = code << 6 | ((uint8_t)p[i] & 0x3f);
	return code;
}

/* As a pair where one of them does not hold it. */
static void put_escaped(struct buf *out, uint32_t code)
{
	if (code < 0x10000)
		buf_printf(out, "\\u%04x", (unsigned)code);
	else
		buf_printf(out, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (code >> 10)),
			   (unsigned)(0xdc00 | (code & 0x3ff)));
}

static void put_string(struct buf *out, const char *s, bool as_ascii)
{
	size_t n;

	buf_put_u8(out, '"');
	for (; *s; s += n ? n : 1) {
		n = utf8_len(s);
		if (n == 1)
			put_ascii(out, *s);
		else if (as_ascii)
			put_escaped(out, n ? decode(s, n) : 0xfffd);
		else if (nasty(s, n))
			buf_printf(out, "\\u%04x", nasty(s, n));
		else if (n)
			buf_put(out, s, n);
		else
			buf_put_slice(out, SLICE(REPLACEMENT));
	}
	buf_put_u8(out, '"');
}

void json_put_string(struct buf *out, const char *s)
{
	put_string(out, s, false);
}

void json_put_ascii_string(struct buf *out, const char *s)
{
	put_string(out, s, true);
}
