/* SPDX-License-Identifier: ISC
 *
 * fuzz_setting.c - any text as the value of any setting, a tier's rate and quota among them: taken
 * and shown so that it is taken again, or refused with a reason.
 *
 * The first byte says which.
 */
#include "config/settings.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct settings blank;
	const struct setting *setting;
	struct settings first = blank, again = blank;
	struct buf shown = { 0 };
	struct err e = { 0 };
	char *text;

	if (size == 0)
		return 0;
	setting = &settings_table[data[0] % NSETTINGS];
	text = xmemdup0((const char *)data + 1, size - 1);
	if (!setting_parse(setting, text, &first, &e)) {
		PGT_ASSERT(*e.text && strlen(e.sqlstate) == 5);
	} else if (!setting->type->is_secret) {
		setting_format(setting, &first, &shown);
		PGT_ASSERT(setting_parse(setting, buf_cstr(&shown), &again, &e));
		PGT_ASSERT(setting_is_equal(setting, &first, &again));
	}
	buf_fini(&shown);
	free(text);
	return 0;
}
