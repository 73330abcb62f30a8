/* SPDX-License-Identifier: ISC
 *
 * ascii.h - bytes as SQL's lexer sees them, whatever the locale.
 */
#ifndef PGT_SQL_ASCII_H
#define PGT_SQL_ASCII_H

#include <stdbool.h>

static inline char ascii_lower(char c)
{
	return (char)(c | (c >= 'A' && c <= 'Z') << 5);
}

static inline bool ascii_is_newline(char c)
{
	return c == '\n' || c == '\r';
}

#endif
