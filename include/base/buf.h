/* SPDX-License-Identifier: ISC
 *
 * buf.h - growable bytes with a consumed prefix.
 *
 *     data            data+start         data+end           data+cap
 *      |   consumed     |     content       |     free room    |
 *
 * A zeroed struct buf is an empty one.  Owned by one thread.  Growth is base/mem.h's, so whoever
 * appends bytes of a peer's choosing bounds them first.
 */
#ifndef PGT_BASE_BUF_H
#define PGT_BASE_BUF_H

#include "base/assert.h"
#include "base/slice.h"

#include <stdarg.h>
#include <stdint.h>

struct buf {
	char *data;
	size_t start;
	size_t end;
	size_t cap;
};

void buf_fini(struct buf *b);
/* The same for one that has held a secret. */
void buf_wipe(struct buf *b);
/* Of one on the heap; NULL is allowed. */
void buf_free(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline char *buf_head(const struct buf *b)
{
	return b->data + b->start;
}

static inline struct slice buf_peek(const struct buf *b)
{
	return slice_of(b->data ? b->data + b->start : "", b->end - b->start);
}

/* For what follows only: where there is no room yet. */
char *buf_grow(struct buf *b, size_t n);

/* Makes room for n more bytes and returns where they go; buf_produced() says how many came. */
static inline char *buf_reserve(struct buf *b, size_t n)
{
	return b->cap - b->end >= n && b->data ? b->data + b->end : buf_grow(b, n);
}

static inline void buf_produced(struct buf *b, size_t n)
{
	b->end += n;
}

/* Drops the first n bytes of the content. */
static inline void buf_consume(struct buf *b, size_t n)
{
	b->start += n;
	if (b->start == b->end)
		b->start = b->end = 0;
}

static inline void buf_clear(struct buf *b)
{
	b->start = b->end = 0;
}

void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_slice(struct buf *b, struct slice s);
/* The string and its NUL. */
void buf_put_cstr(struct buf *b, const char *s);
void buf_put_u8(struct buf *b, uint8_t v);
/* Big-endian, as the Postgres protocol has them. */
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_printf(struct buf *b, const char *fmt, ...) PGT_PRINTF(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) PGT_PRINTF(2, 0);

/* Ends the content with a NUL that is not counted and returns it; valid until the next change. */
const char *buf_cstr(struct buf *b);

#endif
