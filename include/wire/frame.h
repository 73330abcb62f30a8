/* SPDX-License-Identifier: ISC
 *
 * frame.h - message boundaries in a byte stream.
 *
 * A frame is one byte of type, four bytes of length that count themselves, and the body.  It
 * borrows the caller's bytes.
 */
#ifndef PGT_WIRE_FRAME_H
#define PGT_WIRE_FRAME_H

#include "base/slice.h"
#include "wire/msgs.def"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>

#define X(enumerator, byte, name) enumerator = byte,
enum frontend_message { FRONTEND_MESSAGES(X) };
enum backend_message { BACKEND_MESSAGES(X) };
#undef X

/* "Query", "DataRow" …; "unknown message" for a byte that is none. */
const char *frontend_message_name(uint8_t type);
const char *backend_message_name(uint8_t type);

#define FRAME_HEADER_LEN 5
/* The largest body that PostgreSQL itself sends or takes (1 GiB less one, PQ_LARGE_MESSAGE_LIMIT).
 */
#define FRAME_BODY_MAX 0x3fffffffu

struct frame {
	uint8_t type;
	const char *start; /* of the header */
	size_t len;        /* header and body, however much of it is here */
	size_t have;       /* bytes of it that are here, the header included */
};

enum frame_status {
	FRAME_OK,      /* the header is here; have tells about the body */
	FRAME_PARTIAL, /* less than a header */
	FRAME_INVALID, /* a length below 4 or above FRAME_BODY_MAX */
};

/* Looks at the frame that starts at p; n bytes are there.  Pure. */
static inline enum frame_status frame_peek(const char *p, size_t n, struct frame *f)
{
	uint32_t body;

	if (n < FRAME_HEADER_LEN)
		return FRAME_PARTIAL;
	memcpy(&body, p + 1, 4);
	body = ntohl(body);
	if (body < 4 || body > FRAME_BODY_MAX)
		return FRAME_INVALID;
	f->type = (uint8_t)p[0];
	f->start = p;
	f->len = (size_t)body + 1;
	f->have = n < f->len ? n : f->len;
	return FRAME_OK;
}

static inline bool frame_is_whole(const struct frame *f)
{
	return f->have == f->len;
}

/* The length of the frame at p if all of it is among the n bytes there; else 0.  Pure. */
static inline size_t frame_whole(const char *p, size_t n)
{
	uint32_t body;
	size_t len;

	if (n < FRAME_HEADER_LEN)
		return 0;
	memcpy(&body, p + 1, 4);
	len = (size_t)ntohl(body) + 1;
	return len >= FRAME_HEADER_LEN && len <= n ? len : 0;
}

/* The same of a frame at p that ends at end or before, where at least a header can be read from p
 * on, whatever it is.  Pure. */
static inline size_t frame_whole_before(const char *p, const char *end)
{
	uint32_t body;
	size_t len;

	memcpy(&body, p + 1, sizeof(body));
	len = (size_t)ntohl(body) + 1;
	return len >= FRAME_HEADER_LEN && len <= (size_t)(end - p) ? len : 0;
}

/* How many of the n bytes at p are whole frames of this type, one behind the other.  Pure. */
static inline size_t frame_run(const char *p, size_t n, uint8_t type)
{
	size_t run = 0, len;

	while ((len = frame_whole(p + run, n - run)) && (uint8_t)p[run] == type)
		run += len;
	return run;
}

/* The body of a whole frame. */
static inline struct slice frame_body(const struct frame *f)
{
	return slice_of(f->start + FRAME_HEADER_LEN, f->have - FRAME_HEADER_LEN);
}

#endif
