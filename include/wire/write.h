/* SPDX-License-Identifier: ISC
 *
 * write.h - building messages at the end of a buffer.
 *
 * Either the generic pair msg_begin()/msg_end() with the buf_put_… functions between, or one call
 * for the messages that we make often.  Formats: PostgreSQL manual, "Message Formats".
 */
#ifndef PGT_WIRE_WRITE_H
#define PGT_WIRE_WRITE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Starts a message; the result goes to msg_end(), which fills in the length. */
size_t msg_begin(struct buf *b, uint8_t type);
void msg_end(struct buf *b, size_t begun);

/* A message without a body. */
void msg_put_empty(struct buf *b, uint8_t type);
void msg_put_query(struct buf *b, const char *sql);
/* Without types of parameters. */
void msg_put_parse(struct buf *b, const char *name, const char *sql);
/* Describe or Close; what: 'S' statement, 'P' portal. */
void msg_put_target(struct buf *b, uint8_t type, char what, const char *name);
/* Bind of a statement; values as text, NULL for NULL. */
void msg_put_bind(struct buf *b, const char *portal, const char *name, const char *const *values,
		  unsigned n);
/* All rows of a portal. */
void msg_put_execute(struct buf *b, const char *portal);
/* tx_status: 'I', 'T' or 'E'. */
void msg_put_ready(struct buf *b, char tx_status);
void msg_put_command_complete(struct buf *b, const char *tag);
void msg_put_parameter_status(struct buf *b, struct slice name, struct slice value);
/* Authentication request with no data (AuthenticationOk, cleartext password). */
void msg_put_authentication(struct buf *b, uint32_t code);

/* severity: "ERROR", "FATAL" …; the hint is left out when empty. */
void msg_put_error(struct buf *b, const char *severity, const struct err *e);
void msg_put_notice(struct buf *b, const char *severity, const struct err *e);

#define AUTH_OK            0
#define AUTH_CLEARTEXT     3
#define AUTH_MD5           5
#define AUTH_SASL          10
#define AUTH_SASL_CONTINUE 11
#define AUTH_SASL_FINAL    12

#endif
