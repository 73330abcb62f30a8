/* SPDX-License-Identifier: ISC
 *
 * utf8.h - which bytes are characters of UTF-8.
 */
#ifndef PGT_BASE_UTF8_H
#define PGT_BASE_UTF8_H

#include <stddef.h>

/* Bytes of the character at p, which ends at a NUL at the latest; 0: it is none.  RFC 3629. */
size_t utf8_len(const char *p);

#endif
