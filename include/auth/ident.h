/* SPDX-License-Identifier: ISC
 *
 * ident.h - which users somebody with another name may be: pg_ident.conf's maps.
 *
 * Source: PostgreSQL manual, "User Name Maps".  A line is `map system-name user`; a system name
 * that begins with / is a regular expression (POSIX extended), of which \1 in the user is the first
 * group; the user `all` is any.  Maps never change once parsed, so threads may share them.
 */
#ifndef PGT_AUTH_IDENT_H
#define PGT_AUTH_IDENT_H

#include "base/assert.h"
#include "base/slice.h"

#include <stdbool.h>

struct ident;

/* Told of each fault: the 1-based line, and what is wrong. */
typedef void ident_complain_fn(void *arg, const char *file, int line, const char *text);

/* Always maps, with all lines without a fault. */
struct ident *ident_parse(struct slice text, const char *file, ident_complain_fn *complain,
			  void *arg);
void ident_free(struct ident *ident); /* NULL is fine */

/* Whether who is `name` elsewhere may be this user.  map NULL: if the names are the same; ident
 * NULL: there are no maps. */
bool ident_allows(const struct ident *ident, const char *map, const char *name,
		  const char *user) PGT_MUST_USE;

#endif
