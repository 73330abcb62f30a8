/* SPDX-License-Identifier: ISC
 *
 * err.h - an error for a human: SQLSTATE, text, detail, hint.
 *
 * Last parameter of functions that can fail with something to say.  The owner of the connection or
 * of the command reports it once.
 */
#ifndef PGT_BASE_ERR_H
#define PGT_BASE_ERR_H

#include "base/assert.h"

#include <stdbool.h>

struct err {
	char sqlstate[6];
	char text[512];
	char detail[256];
	char hint[256];
	/* Of the server's source, where drivers tell an error by it; static, or NULL. */
	const char *routine;
};

/* Fills e (when not NULL) and returns false, so that a caller can `return err_set(…)`. */
bool err_set(struct err *e, const char *sqlstate, const char *fmt, ...) PGT_PRINTF(3, 4);
/* These add to one that is set. */
bool err_detail(struct err *e, const char *fmt, ...) PGT_PRINTF(2, 3);
bool err_hint(struct err *e, const char *fmt, ...) PGT_PRINTF(2, 3);

/* A copy to be freed; NULL of NULL. */
struct err *err_copy(const struct err *e);

/* How an event handler ended.  STEP_AGAIN: come back when there is more.  STEP_CLOSED: the
 * connection is marked to be closed; touch nothing of it. */
enum step { STEP_DONE, STEP_AGAIN, STEP_CLOSED };

#endif
