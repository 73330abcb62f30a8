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

static void check_entry(void *arg, const struct userlist_entry *entry)
{
	const struct userlist *list = arg;

	PGT_ASSERT(userlist_find(list, slice_str(entry->user)) == entry);
	PGT_ASSERT((entry->kind == PASSWORD_NONE) == (entry->password[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int last_line = 0;
	struct userlist *list =
	    userlist_parse(slice_of((const char *)data, size), "fuzz", on_fault, &last_line);

	userlist_each(list, check_entry, list);
	PGT_ASSERT(!userlist_usual(list).is_scram || userlist_usual(list).iterations > 0);
	userlist_free(list);
	return 0;
}
