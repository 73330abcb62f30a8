/* SPDX-License-Identifier: ISC
 *
 * primary.c - which settings any node may be asked for.
 *
 * Knows names, not what a setting is on which node.
 */
#include "sql/primary.h"

#include "base/assert.h"
#include "sql/primary.def"

#include <string.h>

static const char *const settings_of_sessions[] = {
#define X(name) name,
	SQL_SETTINGS_OF_SESSIONS(X)
#undef X
};

bool sql_setting_is_of_session(struct slice name)
{
	/* An application's own, or an extension's. */
	if (memchr(name.p, '.', name.n))
		return true;
	for (size_t i = 0; i < PGT_NELEMS(settings_of_sessions); i++)
		if (slice_is_equal_nocase(name, slice_str(settings_of_sessions[i])))
			return true;
	return false;
}
