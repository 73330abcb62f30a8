/* SPDX-License-Identifier: ISC
 *
 * buf.c - growable bytes.  Knows nothing of what they mean.
 */
#include "base/buf.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

void buf_fini(struct buf *b)
{
	free(b->data);
	*b = (struct buf){ 0 };
}

void buf_wipe(struct buf *b)
{
	if (b->data)
		mem_wipe(b->data, b->cap);
	buf_fini(b);
}

void buf_free(struct buf *b)
{
	if (b)
		free(b->data);
	free(b);
}

PGT_NOINLINE char *buf_grow(struct buf *b, size_t n)
{
	size_t len = buf_len(b);

	if (b->start && b->cap - len >= n) {
		memmove(b->data, b->data + b->start, len);
	} else {
		size_t cap = b->cap ? b->cap : 128;

		PGT_ASSERT(n <= SIZE_MAX / 4 && len <= SIZE_MAX / 4);
		while (cap < len + n)
			cap *= 2;
		if (b->start) {
			memmove(b->data, b->data + b->start, len);
			b->start = 0;
		}
		b->data = xrealloc(b->data, cap);
		b->cap = cap;
	}
	b->start = 0;
	b->end = len;
	return b->data + b->end;
}

static inline void put(struct buf *b, const void *p, size_t n)
{
	memcpy(buf_reserve(b, n), p, n);
	b->end += n;
}

void buf_put(struct buf *b, const void *p, size_t n)
{
	if (!n)
		return;
	put(b, p, n);
}

void buf_put_slice(struct buf *b, struct slice s)
{
	buf_put(b, s.p, s.n);
}

void buf_put_cstr(struct buf *b, const char *s)
{
	put(b, s, strlen(s) + 1);
}

void buf_put_u8(struct buf *b, uint8_t v)
{
	put(b, &v, 1);
}

void buf_put_u16(struct buf *b, uint16_t v)
{
	v = htons(v);
	put(b, &v, sizeof(v));
}

void buf_put_u32(struct buf *b, uint32_t v)
{
	v = htonl(v);
	put(b, &v, sizeof(v));
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *room = buf_reserve(b, 64);
	int n;

	va_copy(again, ap);
	n = vsnprintf(room, 64, fmt, ap);
	PGT_ASSERT(n >= 0);
	if (n >= 64)
		vsnprintf(buf_reserve(b, (size_t)n + 1), (size_t)n + 1, fmt, again);
	va_end(again);
	b->end += (size_t)n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

const char *buf_cstr(struct buf *b)
{
	*buf_reserve(b, 1) = '\0';
	return b->data + b->start;
}
