/* SPDX-License-Identifier: ISC
 *
 * json.h - a string of JSON, RFC 8259.
 */
#ifndef PGT_BASE_JSON_H
#define PGT_BASE_JSON_H

#include "base/buf.h"

/* Appends s in quotes.  What is not UTF-8 becomes U+FFFD, so whatever the bytes were, it is one
 * line of valid JSON. */
void json_put_string(struct buf *out, const char *s);
/* The same in ASCII, which is right in all encodings of a database. */
void json_put_ascii_string(struct buf *out, const char *s);

#endif
