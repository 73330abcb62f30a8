/* SPDX-License-Identifier: ISC
 *
 * write.c - building messages.  Knows formats, not when a message may be sent.
 */
#include "wire/write.h"

#include "wire/frame.h"

#include <arpa/inet.h>

/* The length is put in by msg_end(). */
size_t msg_begin(struct buf *b, uint8_t type)
{
	*buf_reserve(b, FRAME_HEADER_LEN) = (char)type;
	buf_produced(b, FRAME_HEADER_LEN);
	return buf_len(b);
}

void msg_end(struct buf *b, size_t begun)
{
	uint32_t len = htonl((uint32_t)(buf_len(b) - begun + 4));

	memcpy(buf_head(b) + begun - 4, &len, 4);
}

void msg_put_empty(struct buf *b, uint8_t type)
{
	const char message[] = { (char)type, 0, 0, 0, 4 };

	memcpy(buf_reserve(b, sizeof(message)), message, sizeof(message));
	buf_produced(b, sizeof(message));
}

void msg_put_query(struct buf *b, const char *sql)
{
	size_t m = msg_begin(b, MSG_QUERY);

	buf_put_cstr(b, sql);
	msg_end(b, m);
}

void msg_put_parse(struct buf *b, const char *name, const char *sql)
{
	size_t m = msg_begin(b, MSG_PARSE);

	buf_put_cstr(b, name);
	buf_put_cstr(b, sql);
	buf_put_u16(b, 0);
	msg_end(b, m);
}

void msg_put_target(struct buf *b, uint8_t type, char what, const char *name)
{
	size_t m = msg_begin(b, type);

	buf_put_u8(b, (uint8_t)what);
	buf_put_cstr(b, name);
	msg_end(b, m);
}

void msg_put_bind(struct buf *b, const char *portal, const char *name, const char *const *values,
		  unsigned n)
{
	size_t m = msg_begin(b, MSG_BIND);

	buf_put_cstr(b, portal);
	buf_put_cstr(b, name);
	buf_put_u16(b, 0);
	buf_put_u16(b, (uint16_t)n);
	for (unsigned i = 0; i < n; i++) {
		size_t len = values[i] ? strlen(values[i]) : 0;

		buf_put_u32(b, values[i] ? (uint32_t)len : UINT32_MAX);
		buf_put(b, values[i] ? values[i] : "", len);
	}
	buf_put_u16(b, 0);
	msg_end(b, m);
}

void msg_put_execute(struct buf *b, const char *portal)
{
	size_t m = msg_begin(b, MSG_EXECUTE);

	buf_put_cstr(b, portal);
	buf_put_u32(b, 0);
	msg_end(b, m);
}

void msg_put_ready(struct buf *b, char tx_status)
{
	size_t m = msg_begin(b, MSG_READY);

	buf_put_u8(b, (uint8_t)tx_status);
	msg_end(b, m);
}

void msg_put_command_complete(struct buf *b, const char *tag)
{
	size_t m = msg_begin(b, MSG_COMMAND_COMPLETE);

	buf_put_cstr(b, tag);
	msg_end(b, m);
}

void msg_put_parameter_status(struct buf *b, struct slice name, struct slice value)
{
	size_t m = msg_begin(b, MSG_PARAMETER_STATUS);

	buf_put_slice(b, name);
	buf_put_u8(b, 0);
	buf_put_slice(b, value);
	buf_put_u8(b, 0);
	msg_end(b, m);
}

void msg_put_authentication(struct buf *b, uint32_t code)
{
	size_t m = msg_begin(b, MSG_AUTHENTICATION);

	buf_put_u32(b, code);
	msg_end(b, m);
}

static void put_field(struct buf *b, char code, const char *value)
{
	if (!*value)
		return;
	buf_put_u8(b, (uint8_t)code);
	buf_put_cstr(b, value);
}

static void put_report(struct buf *b, uint8_t type, const char *severity, const struct err *e)
{
	size_t m = msg_begin(b, type);

	put_field(b, 'S', severity);
	put_field(b, 'V', severity);
	put_field(b, 'C', e->sqlstate);
	put_field(b, 'M', e->text);
	put_field(b, 'D', e->detail);
	put_field(b, 'H', e->hint);
	put_field(b, 'R', e->routine ? e->routine : "");
	buf_put_u8(b, 0);
	msg_end(b, m);
}

void msg_put_error(struct buf *b, const char *severity, const struct err *e)
{
	put_report(b, MSG_ERROR, severity, e);
}

void msg_put_notice(struct buf *b, const char *severity, const struct err *e)
{
	put_report(b, MSG_NOTICE, severity, e);
}
