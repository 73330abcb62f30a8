/* SPDX-License-Identifier: ISC
 *
 * fuzz_command.c - any text at the console: a command with words that end, or an error.
 */
#include "admin/command.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct command *cmd)
{
	PGT_ASSERT(cmd->id < NCOMMANDS);
	PGT_ASSERT(cmd->show >= -1 && cmd->show < NSHOWS);
	PGT_ASSERT(cmd->fake >= -1 && cmd->fake < NFAKES);
	PGT_ASSERT(memchr(cmd->name, '\0', sizeof(cmd->name)));
	PGT_ASSERT(memchr(cmd->word, '\0', sizeof(cmd->word)));
	PGT_ASSERT(memchr(cmd->value, '\0', sizeof(cmd->value)));
	/* Who may only look has nothing to change. */
	PGT_ASSERT(command_access(cmd) == ACCESS_ADMIN || cmd->show >= 0 || cmd->fake >= 0 ||
		   command_specs[cmd->id].access == ACCESS_STATS);
}

/* No command, or a statement in it that is too long. */
static bool is_expected(const char *sqlstate)
{
	return !strcmp(sqlstate, "08P01") || !strcmp(sqlstate, "54000");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A block of exactly its size, so that ASan sees a read past its end. */
	char *copy = xmalloc(size ? size : 1);
	struct command cmd;
	struct err e = { 0 };

	memcpy(copy, data, size);
	if (!command_parse(slice_of(copy, size), &cmd, &e))
		PGT_ASSERT(*e.text && is_expected(e.sqlstate));
	else if (cmd.is_empty)
		PGT_ASSERT(command_access(&cmd) == ACCESS_STATS);
	else
		check(&cmd);
	free(copy);
	return 0;
}
