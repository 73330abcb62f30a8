/* SPDX-License-Identifier: ISC
 *
 * control.h - what a text does to savepoints and to the channels that its session listens on.
 *
 * Statement by statement, with names as the server reads them, because what a transaction has done
 * to a session is undone by names too.  For the few sessions that need to know; everybody else is
 * served by scan.h.
 */
#ifndef PGT_SQL_CONTROL_H
#define PGT_SQL_CONTROL_H

#include "base/slice.h"
#include "sql/scan.h"

#include <stdbool.h>
#include <stddef.h>

#define SQL_NAME_MAX 63 /* bytes of an identifier: NAMEDATALEN - 1 */

enum sql_control_kind {
	CONTROL_SAVEPOINT,
	CONTROL_RELEASE,
	CONTROL_ROLLBACK_TO,
	CONTROL_LISTEN,
	CONTROL_UNLISTEN,
	CONTROL_UNLISTEN_ALL,
};

struct sql_control {
	enum sql_control_kind kind;
	unsigned statement; /* its place among the statements of the text that are not empty */
	char name[SQL_NAME_MAX + 1];
};

/* The first max of them in a text, in order; *n says how many.  False when the text cannot be told
 * apart into statements, has more, or has one whose form or name is not known for certain: a
 * reserved word, more than 63 bytes, letters outside ASCII that the server may fold. */
bool sql_controls(struct slice text, const struct sql_env *env, struct sql_control *out,
		  unsigned max, unsigned *n);

#endif
