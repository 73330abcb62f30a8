/* SPDX-License-Identifier: ISC
 *
 * fuzz_sign.c - any bytes as a file of keys that sign tenants' ids, and, behind a NUL, as such an
 * id.
 */
#include "auth/sign.h"

#include "base/assert.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct faults {
	int last_line;
	bool is_over; /* one was told of the file as a whole */
};

static void on_fault(void *arg, const char *file, int line, const char *text)
{
	struct faults *faults = arg;

	PGT_ASSERT(file && *text && !faults->is_over);
	PGT_ASSERT(!line || line > faults->last_line);
	faults->last_line = line;
	faults->is_over = !line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *nul = size ? memchr(text, '\0', size) : NULL;
	size_t n = nul ? (size_t)(nul - text) : size;
	struct slice id = nul ? slice_of(nul + 1, size - n - 1) : SLICE("42");
	struct faults faults = { 0 };
	struct sign_keys *keys = sign_keys_parse(slice_of(text, n), "fuzz", on_fault, &faults);
	char made[SIGN_MAX];

	PGT_ASSERT(!keys == faults.is_over);
	if (keys) {
		PGT_ASSERT(sign_keys_mark(keys));
		PGT_ASSERT(sign_context(keys, id, 1, 1, made) == (id.n <= SIGN_ID_MAX));
	}
	sign_keys_free(keys);
	return 0;
}
