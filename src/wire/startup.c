/* SPDX-License-Identifier: ISC
 *
 * startup.c - the packets that open a connection.
 *
 * Parses what a stranger sends before anyone knows who it is, so every length is checked before it
 * is used.  Knows nothing of authentication.  Fuzzed by test/fuzz/fuzz_startup.c.
 */
#include "wire/startup.h"

#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <ctype.h>

/* Request codes: a "protocol version" with major 1234. */
#define CODE_CANCEL 80877102u
#define CODE_SSL    80877103u
#define CODE_GSSENC 80877104u

#define HEADER_LEN  8

static enum step refuse(struct err *e, const char *sqlstate, const char *text)
{
	err_set(e, sqlstate, "%s", text);
	return STEP_CLOSED;
}

/* Pairs of strings, then one empty name, then nothing. */
static bool params_are_wellformed(struct slice params)
{
	struct reader r = reader_of(params);

	while (read_left(&r)) {
		if (!read_cstr(&r).n)
			return read_is_complete(&r);
		read_cstr(&r);
	}
	return false;
}

static enum step parse_session(uint32_t code, struct slice rest, struct startup *out, struct err *e)
{
	if (code >> 16 != PROTOCOL_MAJOR) {
		err_set(e, "0A000",
			"unsupported frontend protocol %u.%u: server supports %u.0 to %u.%u",
			code >> 16, code & 0xffff, PROTOCOL_MAJOR, PROTOCOL_MAJOR,
			PROTOCOL_MINOR_MAX);
		return STEP_CLOSED;
	}
	if (!params_are_wellformed(rest))
		return refuse(e, "08P01",
			      "invalid startup packet layout: expected terminator as last byte");
	out->kind = STARTUP_SESSION;
	out->minor = (uint16_t)(code & 0xffff);
	out->params = rest;
	return STEP_DONE;
}

static enum step parse_cancel(struct slice rest, struct startup *out, struct err *e)
{
	struct reader r = reader_of(rest);

	out->kind = STARTUP_CANCEL;
	out->cancel_pid = read_u32(&r);
	out->cancel_key = read_bytes(&r, read_left(&r));
	if (r.failed || out->cancel_key.n < 4 || out->cancel_key.n > CANCEL_KEY_MAX)
		return refuse(e, "08P01", "invalid length of cancel request");
	return STEP_DONE;
}

enum step startup_parse(const char *p, size_t n, struct startup *out, struct err *e)
{
	struct reader r = reader_of(slice_of(p, n));
	uint32_t len, code;
	struct slice rest;

	if (n < 4)
		return STEP_AGAIN;
	len = read_u32(&r);
	if (len < HEADER_LEN || len > STARTUP_MAX_LEN)
		return refuse(e, "08P01", "invalid length of startup packet");
	if (n < len)
		return STEP_AGAIN;
	code = read_u32(&r);
	rest = slice_of(p + HEADER_LEN, len - HEADER_LEN);
	*out = (struct startup){ .len = len };
	switch (code) {
	case CODE_CANCEL:
		return parse_cancel(rest, out, e);
	case CODE_SSL:
	case CODE_GSSENC:
		if (rest.n)
			return refuse(e, "08P01", "invalid length of encryption request");
		out->kind = code == CODE_SSL ? STARTUP_SSL : STARTUP_GSSENC;
		return STEP_DONE;
	default:
		return parse_session(code, rest, out, e);
	}
}

bool startup_next_param(struct slice *at, struct slice *name, struct slice *value)
{
	struct reader r = reader_of(*at);

	*name = read_cstr(&r);
	if (!name->n)
		return false;
	*value = read_cstr(&r);
	*at = slice_of(r.p, read_left(&r));
	return !r.failed;
}

/* One word of "options": blanks end it, a backslash takes the next byte as it is.  False at the
 * end. */
static bool next_word(struct slice *at, struct buf *word)
{
	const char *p = at->p, *end;

	buf_clear(word);
	if (!at->n)
		return false;
	end = p + at->n;
	while (p < end && isspace((unsigned char)*p))
		p++;
	if (p == end) {
		*at = slice_of(end, 0);
		return false;
	}
	for (; p < end && !isspace((unsigned char)*p); p++) {
		if (*p == '\\' && ++p == end)
			break;
		buf_put_u8(word, (uint8_t)*p);
	}
	*at = slice_of(p, (size_t)(end - p));
	return true;
}

enum step options_next(struct slice *at, struct buf *name, struct buf *value, struct err *e)
{
	struct slice assignment;
	const char *equals;

	buf_clear(name);
	if (!next_word(at, value))
		return STEP_AGAIN;
	assignment = buf_peek(value);
	if (slice_is_equal(assignment, SLICE("-c"))) {
		if (!next_word(at, value))
			return refuse(e, "42601", "\"-c\" in startup options needs an argument");
		assignment = buf_peek(value);
	} else if (assignment.n > 2 &&
		   (!memcmp(assignment.p, "-c", 2) || !memcmp(assignment.p, "--", 2))) {
		assignment = slice_of(assignment.p + 2, assignment.n - 2);
	} else {
		err_set(e, "42601",
			"unsupported startup option \"%.*s\": only \"-c name=value\" and "
			"\"--name=value\" are",
			SLICE_FMT(assignment));
		return STEP_CLOSED;
	}
	equals = memchr(assignment.p, '=', assignment.n);
	if (!equals || equals == assignment.p) {
		err_set(e, "42601", "startup option \"%.*s\" requires a value",
			SLICE_FMT(assignment));
		return STEP_CLOSED;
	}
	for (const char *p = assignment.p; p < equals; p++)
		buf_put_u8(name, *p == '-' ? '_' : (uint8_t)*p);
	buf_consume(value, (size_t)(equals + 1 - buf_head(value)));
	return STEP_DONE;
}

static void put_quoted(struct buf *b, const char *s)
{
	for (; *s; s++) {
		if (isspace((unsigned char)*s) || *s == '\\')
			buf_put_u8(b, '\\');
		buf_put_u8(b, (uint8_t)*s);
	}
}

void options_put(struct buf *b, const char *name, const char *value)
{
	buf_put(b, buf_len(b) ? " -c " : "-c ", buf_len(b) ? 4 : 3);
	put_quoted(b, name);
	buf_put_u8(b, '=');
	put_quoted(b, value);
}

/* Words may be cut short as long as they are no other's; case does not count. */
static bool is_word(struct slice value, struct slice word, size_t least)
{
	return value.n >= least && value.n <= word.n &&
	       slice_is_equal_nocase(value, slice_of(word.p, value.n));
}

bool replication_parse(struct slice value, enum replication *out)
{
	*out = REPLICATION_NONE;
	if (slice_is_equal(value, SLICE("database")))
		*out = REPLICATION_LOGICAL;
	else if (is_word(value, SLICE("true"), 1) || is_word(value, SLICE("yes"), 1) ||
		 is_word(value, SLICE("on"), 2) || slice_is_equal(value, SLICE("1")))
		*out = REPLICATION_PHYSICAL;
	else
		return is_word(value, SLICE("false"), 1) || is_word(value, SLICE("no"), 1) ||
		       is_word(value, SLICE("off"), 2) || slice_is_equal(value, SLICE("0"));
	return true;
}

const char *replication_value(enum replication replication)
{
	static const char *const values[REPLICATION_NKINDS] = { "", "true", "database" };

	return values[replication];
}

bool startup_negotiate(const struct startup *s, struct buf *out)
{
	struct slice at = s->params, name, value;
	uint32_t unknown = 0;
	size_t m;

	while (startup_next_param(&at, &name, &value))
		unknown += name.n > 5 && !memcmp(name.p, "_pq_.", 5);
	if (s->minor <= PROTOCOL_MINOR_MAX && !unknown)
		return false;
	m = msg_begin(out, MSG_NEGOTIATE_VERSION);
	/* The newest minor version that both sides speak, as a whole version number since 3.2's fix
	 * of the manual; libpq reads it so. */
	buf_put_u32(out, (PROTOCOL_MAJOR << 16) |
			     (s->minor < PROTOCOL_MINOR_MAX ? s->minor : PROTOCOL_MINOR_MAX));
	buf_put_u32(out, unknown);
	for (at = s->params; startup_next_param(&at, &name, &value);)
		if (name.n > 5 && !memcmp(name.p, "_pq_.", 5)) {
			buf_put_slice(out, name);
			buf_put_u8(out, 0);
		}
	msg_end(out, m);
	return true;
}
