/* SPDX-License-Identifier: ISC
 *
 * passport.c - what a session, or a server's connection, takes along to another process, as bytes.
 *
 * Knows the form of each field, not what it means.  Whatever is decoded has been walked through:
 * pairs and statements can be iterated without another look.
 */
#include "wire/passport.h"

#include "base/mem.h"
#include "wire/read.h"

/* ---- writing ----------------------------------------------------------------------------------
 */

static void put_u64(struct buf *out, uint64_t v)
{
	buf_put_u32(out, (uint32_t)(v >> 32));
	buf_put_u32(out, (uint32_t)v);
}

static void put_head(struct buf *out, uint8_t number, size_t n)
{
	buf_put_u8(out, number);
	buf_put_u32(out, (uint32_t)n);
}

static void put_TEXT(struct buf *out, uint8_t number, const char *text)
{
	if (!text || !*text)
		return;
	put_head(out, number, strlen(text) + 1);
	buf_put_cstr(out, text);
}

static void put_NUMBER(struct buf *out, uint8_t number, uint64_t v)
{
	if (!v)
		return;
	put_head(out, number, sizeof(v));
	put_u64(out, v);
}

static void put_BYTES(struct buf *out, uint8_t number, struct slice bytes)
{
	if (!bytes.n)
		return;
	put_head(out, number, bytes.n);
	buf_put_slice(out, bytes);
}

#define put_PAIRS                   put_BYTES
#define put_STATEMENTS              put_BYTES

#define X(number, kind, name, what) put_##kind(out, number, p->name);
void passport_put(struct buf *out, const struct passport *p)
{
	PASSPORT_FIELDS(X)
}

void server_passport_put(struct buf *out, const struct server_passport *p)
{
	SERVER_PASSPORT_FIELDS(X)
}
#undef X

void passport_put_pair(struct buf *out, const char *name, const char *value)
{
	buf_put_cstr(out, name);
	buf_put_cstr(out, value);
}

void passport_put_statement(struct buf *out, const struct passport_statement *st)
{
	buf_put_cstr(out, st->name);
	buf_put_u8(out, (uint8_t)(st->is_told | st->is_outdated << 1));
	put_u64(out, st->result);
	buf_put_u32(out, (uint32_t)st->body.n);
	buf_put_slice(out, st->body);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static uint64_t read_u64(struct reader *r)
{
	uint64_t high = read_u32(r);

	return high << 32 | read_u32(r);
}

/* These say whether the content is as it should be. */
static bool take_TEXT(struct slice content, const char **out)
{
	struct reader r = reader_of(content);

	*out = read_cstr(&r).p;
	return read_is_complete(&r);
}

static bool take_NUMBER(struct slice content, uint64_t *out)
{
	struct reader r = reader_of(content);

	*out = read_u64(&r);
	return read_is_complete(&r);
}

static bool take_BYTES(struct slice content, struct slice *out)
{
	*out = content;
	return true;
}

bool passport_next_pair(struct slice *pairs, const char **name, const char **value)
{
	struct reader r = reader_of(*pairs);

	*name = read_cstr(&r).p;
	*value = read_cstr(&r).p;
	if (r.failed)
		return false;
	*pairs = slice_of(r.p, read_left(&r));
	return true;
}

static bool take_PAIRS(struct slice content, struct slice *out)
{
	struct slice at = content;
	const char *name, *value;

	*out = content;
	while (at.n && passport_next_pair(&at, &name, &value))
		;
	return !at.n;
}

/* A text, and the types of parameters that it declares. */
static bool is_body(struct slice body)
{
	struct reader r = reader_of(body);
	uint16_t n;

	read_cstr(&r);
	n = read_u16(&r);
	read_bytes(&r, (size_t)n * sizeof(uint32_t));
	return read_is_complete(&r);
}

bool passport_next_statement(struct slice *statements, struct passport_statement *st)
{
	struct reader r = reader_of(*statements);
	uint8_t traits;

	st->name = read_cstr(&r).p;
	traits = read_u8(&r);
	st->is_told = traits & 1;
	st->is_outdated = traits >> 1 & 1;
	st->result = read_u64(&r);
	st->body = read_bytes(&r, read_u32(&r));
	if (r.failed || traits > 3 || !is_body(st->body))
		return false;
	*statements = slice_of(r.p, read_left(&r));
	return true;
}

static bool take_STATEMENTS(struct slice content, struct slice *out)
{
	struct passport_statement st;
	struct slice at = content;

	*out = content;
	while (at.n && passport_next_statement(&at, &st))
		;
	return !at.n;
}

#define X(number, kind, name, what)                                                                \
	case number:                                                                               \
		return take_##kind(content, &p->name);
static bool take_field(void *passport, uint8_t number, struct slice content)
{
	struct passport *p = passport;

	switch (number) {
		PASSPORT_FIELDS(X)
	default:
		return false;
	}
}

static bool take_server_field(void *passport, uint8_t number, struct slice content)
{
	struct server_passport *p = passport;

	switch (number) {
		SERVER_PASSPORT_FIELDS(X)
	default:
		return false;
	}
}
#undef X

#define EMPTY_TEXT       ""
#define EMPTY_NUMBER     0
#define EMPTY_BYTES      SLICE("")
#define EMPTY_PAIRS      SLICE("")
#define EMPTY_STATEMENTS SLICE("")

static bool take_fields(struct slice bytes, void *passport,
			bool (*take)(void *passport, uint8_t number, struct slice content),
			struct err *e)
{
	struct reader r = reader_of(bytes);

	while (read_left(&r)) {
		uint8_t number = read_u8(&r);
		struct slice content = read_bytes(&r, read_u32(&r));

		if (r.failed || !take(passport, number, content))
			return err_set(e, "XX001", "field %u makes no sense", number);
	}
	return true;
}

#define X(number, kind, name, what) .name = EMPTY_##kind,
bool passport_take(struct passport *p, struct buf *bytes, struct err *e)
{
	*p = (struct passport){ PASSPORT_FIELDS(X).bytes = *bytes };
	*bytes = (struct buf){ 0 };
	if (!take_fields(buf_peek(&p->bytes), p, take_field, e))
		return false;
	return (*p->database && *p->user && p->secret.n) ||
	       err_set(e, "XX001", "it does not tell whose it is");
}

bool server_passport_take(struct server_passport *p, struct buf *bytes, struct err *e)
{
	*p = (struct server_passport){ SERVER_PASSPORT_FIELDS(X).bytes = *bytes };
	*bytes = (struct buf){ 0 };
	if (!take_fields(buf_peek(&p->bytes), p, take_server_field, e))
		return false;
	return (*p->database && *p->user && p->secret.n) ||
	       err_set(e, "XX001", "it does not tell which pool it is of");
}
#undef X

void passport_fini(struct passport *p)
{
	buf_wipe(&p->bytes);
	*p = (struct passport){ 0 };
}

void server_passport_fini(struct server_passport *p)
{
	buf_wipe(&p->bytes);
	*p = (struct server_passport){ 0 };
}
