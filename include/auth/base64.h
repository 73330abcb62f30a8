/* SPDX-License-Identifier: ISC
 *
 * base64.h - RFC 4648 base64, the strict reading of it.
 */
#ifndef PGT_AUTH_BASE64_H
#define PGT_AUTH_BASE64_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* Appends the text of n bytes, padded. */
void base64_put(struct buf *b, const void *p, size_t n);

/* Decodes text to out, which holds cap bytes, and sets *n.  False, with out in an undefined state:
 * longer than cap, not whole groups of four, a foreign character (blanks too), or bits set that
 * padding cuts off; so one run of bytes has exactly one text.  Any thread. */
bool base64_get(struct slice text, uint8_t *out, size_t cap, size_t *n) PGT_MUST_USE;

#endif
