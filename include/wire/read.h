/* SPDX-License-Identifier: ISC
 *
 * read.h - a cursor over the body of a message.
 *
 * Reading past the end yields zeros and empty slices and sets ->failed, so a parser reads all its
 * fields and asks once at the end.  Borrows the bytes.
 */
#ifndef PGT_WIRE_READ_H
#define PGT_WIRE_READ_H

#include "base/slice.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>

struct reader {
	const char *p;
	const char *end;
	bool failed;
};

static inline struct reader reader_of(struct slice s)
{
	return (struct reader){ s.p, s.p + s.n, false };
}

static inline size_t read_left(const struct reader *r)
{
	return (size_t)(r->end - r->p);
}

static inline struct slice read_bytes(struct reader *r, size_t n)
{
	struct slice s = { r->p, n };

	if (n > read_left(r)) {
		r->failed = true;
		r->p = r->end;
		return slice_of("", 0);
	}
	r->p += n;
	return s;
}

static inline uint8_t read_u8(struct reader *r)
{
	struct slice s = read_bytes(r, 1);

	return s.n ? (uint8_t)s.p[0] : 0;
}

static inline uint16_t read_u16(struct reader *r)
{
	struct slice s = read_bytes(r, 2);
	uint16_t v = 0;

	if (s.n)
		memcpy(&v, s.p, 2);
	return ntohs(v);
}

static inline uint32_t read_u32(struct reader *r)
{
	struct slice s = read_bytes(r, 4);
	uint32_t v = 0;

	if (s.n)
		memcpy(&v, s.p, 4);
	return ntohl(v);
}

/* A NUL-terminated string, without its NUL. */
static inline struct slice read_cstr(struct reader *r)
{
	const char *nul = read_left(r) ? memchr(r->p, '\0', read_left(r)) : NULL;
	struct slice s = { r->p, 0 };

	if (!nul) {
		r->failed = true;
		r->p = r->end;
		return slice_of("", 0);
	}
	s.n = (size_t)(nul - r->p);
	r->p = nul + 1;
	return s;
}

/* Everything was there and nothing is left over. */
static inline bool read_is_complete(const struct reader *r)
{
	return !r->failed && r->p == r->end;
}

#endif
