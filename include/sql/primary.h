/* SPDX-License-Identifier: ISC
 *
 * primary.h - which settings any node may be asked for; what only the primary may be asked for is
 * listed in primary.def.
 */
#ifndef PGT_SQL_PRIMARY_H
#define PGT_SQL_PRIMARY_H

#include "base/slice.h"

#include <stdbool.h>

/* Whether what the setting is belongs to the session, or is the same on all nodes: then it may be
 * asked of any node.  The name in any case. */
bool sql_setting_is_of_session(struct slice name);

#endif
