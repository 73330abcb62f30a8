/* SPDX-License-Identifier: ISC
 *
 * stream_guard.h - whether a text too long to be held could change the tenant setting.
 *
 * Knows no lexical rules: it looks for bytes, and errs towards true.
 */
#ifndef PGT_SQL_STREAM_GUARD_H
#define PGT_SQL_STREAM_GUARD_H

#include "base/slice.h"

#include <stdbool.h>

#define STREAM_GUARD_MAX 64

struct sql_stream_guard {
	char name[STREAM_GUARD_MAX]; /* the setting's last part */
	size_t nname;
	char tail[STREAM_GUARD_MAX]; /* the end of what came before, which a border may have cut */
	size_t ntail;
	bool found;
};

/* tenant_setting in lower case, as in struct sql_env, not NULL. */
void sql_stream_guard_init(struct sql_stream_guard *g, const char *tenant_setting);

/* Takes the next bytes of the text.  True, from then on always: the setting's name, set_config,
 * pg_settings, another guarded setting or a Unicode escape (which could spell any of them) stands
 * in it. */
bool sql_stream_guard_feed(struct sql_stream_guard *g, struct slice chunk);

/* Whether needle (lower case, not empty) stands in text in any case. */
bool sql_spells(struct slice text, struct slice needle);

/* "current_business_id" of "app.current_business_id". */
struct slice sql_setting_last_part(const char *setting);

#endif
