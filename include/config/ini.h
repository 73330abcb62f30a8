/* SPDX-License-Identifier: ISC
 *
 * ini.h - split the text of an ini file and of a connection string.
 *
 * Reads what PgBouncer reads: comments only where a line begins, no continuation lines, no limit
 * on a line's length, names of [A-Za-z0-9_.*-] or in double quotes (docs/adr/0003-ini-reader.md).
 * Slices borrow the text.
 */
#ifndef PGT_CONFIG_INI_H
#define PGT_CONFIG_INI_H

#include "base/assert.h"
#include "base/buf.h"
#include "base/slice.h"

#include <stdbool.h>

enum ini_kind {
	INI_END,
	INI_SECTION, /* name */
	INI_SETTING, /* name, value */
	INI_INCLUDE, /* value: the file */
	INI_BAD      /* value: what is wrong; reading can go on */
};

struct ini_item {
	enum ini_kind kind;
	unsigned line;
	struct slice name;
	struct slice value;
};

struct ini {
	struct slice rest;
	unsigned line;       /* of the item last read */
	unsigned next_line;  /* that rest begins in */
	struct buf unquoted; /* the name last read, when it stood in quotes */
};

/* text must outlive the reader. */
void ini_init(struct ini *ini, struct slice text);
void ini_fini(struct ini *ini);
/* The next item; its name is valid until the next call. */
struct ini_item ini_next(struct ini *ini);

/* key = value pairs between spaces, as libpq has them but with '' for a quote.  Returns 1 for a
 * pair, 0 at the end, -1 where the text is wrong.  *value is unquoted into room, which is
 * overwritten by the next call. */
int pair_next(struct slice *rest, struct slice *key, struct slice *value, struct buf *room);

#endif
