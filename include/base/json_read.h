/* SPDX-License-Identifier: ISC
 *
 * json_read.h - values of JSON, RFC 8259, read where they stand.
 *
 * Nothing is built: a value is the text that it has in the document, which json_parse() has looked
 * at as a whole.  A member that an object has twice is no member, since others may read the other
 * one.  Any thread.
 */
#ifndef PGT_BASE_JSON_READ_H
#define PGT_BASE_JSON_READ_H

#include "base/buf.h"

#include <stdbool.h>

enum json_kind {
	JSON_NULL,
	JSON_FALSE,
	JSON_TRUE,
	JSON_NUMBER,
	JSON_STRING,
	JSON_ARRAY,
	JSON_OBJECT,
};

struct json {
	enum json_kind kind;
	struct slice text; /* with its quotes or brackets */
};

/* False: it is not one value, or nested too deep. */
bool json_parse(struct slice text, struct json *out) PGT_MUST_USE;
/* The one member of this name.  False: none, or several, or no object. */
bool json_member(const struct json *object, const char *name, struct json *out) PGT_MUST_USE;
/* Whether it is an object without a member that it has twice. */
bool json_is_distinct(const struct json *object) PGT_MUST_USE;
/* The elements of an array, one after the other; *at, zeroed before the first, counts bytes. */
bool json_next(const struct json *array, size_t *at, struct json *out) PGT_MUST_USE;
/* Appends what a string says.  False: no string, or one with a NUL or half a surrogate in it. */
bool json_string(const struct json *value, struct buf *out) PGT_MUST_USE;
/* Whether it is this string. */
bool json_is(const struct json *value, const char *text) PGT_MUST_USE;
/* A number; what is behind its point is cut off.  False: none, or beyond 2^53. */
bool json_whole(const struct json *value, int64_t *out) PGT_MUST_USE;

#endif
