/* SPDX-License-Identifier: ISC
 *
 * fuzz_userlist.c - any bytes as userlist.txt.
 */
#include "auth/userlist.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_fault(void *arg, const char *file, int line, const char *text)
{
	PGT_ASSERT(line > *(int *)arg && file && *text);
	*(int *)arg = line;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int last_line = 0;
	struct userlist *list =
	    userlist_parse(slice_of((const char *)data, size), "fuzz", on_fault, &last_line);
	const struct userlist_entry *entry = userlist_find(list, SLICE("u"));

	PGT_ASSERT(!entry || (entry->kind == PASSWORD_NONE) == (entry->password[0] == '\0'));
	userlist_free(list);
	return 0;
}
