/* SPDX-License-Identifier: ISC
 *
 * reason.h - why a transaction goes to the primary or to a replica, as far as its tokens say it.
 *
 * Decides for gate.c and tells it for SHOW ROUTE, so that both say the same.  Pure.
 */
#ifndef PGT_RELAY_REASON_H
#define PGT_RELAY_REASON_H

#include "sql/scan.h"

enum route_reason { ROUTED_READ, ROUTED_HINT, ROUTED_WRITE };

/* False: it depends on whether the text is a read (sql/classify.h).  follows_names: a statement
 * with a name, prepared in the transaction, ties its session to no replica. */
static inline bool reason_is_said(const struct sql_facts *facts, bool follows_names,
				  enum route_reason *why)
{
	if (facts->hint == SQL_HINT_PRIMARY)
		*why = ROUTED_HINT;
	else if (facts->begin_read_only && facts->statements == 1 && !facts->begin_serializable)
		*why = follows_names ? ROUTED_READ : ROUTED_WRITE;
	else
		return false;
	return true;
}

#endif
