/* SPDX-License-Identifier: ISC
 *
 * fuzz_setting.c - any text as the value of any setting, a tier's rate and quota among them: taken
 * and shown so that it is taken again, or refused with a reason.
 */
#include "config/settings.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct setting *setting, const char *text)
{
	static const struct settings blank;
	struct settings first = blank, again = blank;
	struct buf shown = { 0 };
	struct err e = { 0 };

	if (!setting_parse(setting, text, &first, &e)) {
		PGT_ASSERT(*e.text && strlen(e.sqlstate) == 5);
	} else if (!setting->type->is_secret) {
		setting_format(setting, &first, &shown);
		PGT_ASSERT(setting_parse(setting, buf_cstr(&shown), &again, &e));
		PGT_ASSERT(setting_is_equal(setting, &first, &again));
	}
	buf_fini(&shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xmemdup0((const char *)data, size);

	for (size_t i = 0; i < NSETTINGS; i++)
		check(&settings_table[i], text);
	free(text);
	return 0;
}
