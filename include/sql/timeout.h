/* SPDX-License-Identifier: ISC
 *
 * timeout.h - values of statement_timeout as the server reads them.
 */
#ifndef PGT_SQL_TIMEOUT_H
#define PGT_SQL_TIMEOUT_H

#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* "15s", " 1.5 min", "0x10", "250" in milliseconds, rounded as the server does; false where the
 * server refuses the value.  One of 64 bytes or more is not read and counts as 0, no limit: it may
 * be just that, behind many zeros or spaces.  Source: PostgreSQL manual, "Parameter Names and
 * Values"; test_scan.c holds values that a PostgreSQL 15 gave. */
bool sql_timeout_parse(struct slice value, int64_t *ms);
/* The other way round: not negative, in milliseconds, and with a NUL. */
#define SQL_TIMEOUT_MAX 20
void sql_timeout_write(int64_t ms, char out[SQL_TIMEOUT_MAX]);

#endif
