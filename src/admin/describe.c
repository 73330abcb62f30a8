/* SPDX-License-Identifier: ISC
 *
 * describe.c - the console's tables as a page and as the answer of SHOW HELP.
 *
 * docs/admin.md is this, verbatim; the unit test compares.
 */
#include "admin/parts.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <ctype.h>
#include <string.h>

void put_upper(struct buf *out, const char *word)
{
	for (; *word; word++)
		buf_put_u8(out, (uint8_t)toupper((unsigned char)*word));
}

/* "PAUSE [<db>]" */
static void put_usage(struct buf *out, const struct command_spec *spec)
{
	const char *usage = argument_usages[spec->argument];

	put_upper(out, spec->verb);
	buf_printf(out, "%s%s", *usage ? " " : "", usage);
}

static void put_help_of(struct buf *out, const char *topic)
{
	for (unsigned i = 0; i < NCOMMANDS; i++) {
		if (strcasecmp(command_specs[i].verb, topic) != 0)
			continue;
		buf_put_u8(out, '\t');
		put_usage(out, &command_specs[i]);
		buf_printf(out, "\n\t%s\n", command_specs[i].help);
	}
	for (unsigned i = 0; i < NSHOWS; i++) {
		const struct layout *layout = shows[i]->shown;

		if (strcasecmp(show_specs[i].name, topic) != 0)
			continue;
		buf_printf(out, "\tSHOW ");
		put_upper(out, show_specs[i].name);
		buf_printf(out, "\n\t%s\n", show_specs[i].help);
		for (unsigned c = 0; layout && c < layout->n; c++)
			buf_printf(out, "\t%-24s %s\n", layout->columns[c].name,
				   layout->columns[c].doc);
	}
}

static void put_help(struct buf *out)
{
	for (unsigned i = 0; i < NSHOWS; i++) {
		buf_printf(out, "\tSHOW ");
		put_upper(out, show_specs[i].name);
		buf_put_u8(out, '\n');
	}
	for (unsigned i = 0; i < NCOMMANDS; i++) {
		if (command_specs[i].argument == ARGUMENT_SHOWN)
			continue;
		buf_put_u8(out, '\t');
		put_usage(out, &command_specs[i]);
		buf_put_u8(out, '\n');
	}
}

/* As PgBouncer: a notice whose detail lists everything. */
void help_put_notice(struct buf *out, const char *topic)
{
	static const char head[] = "SNOTICE\0VNOTICE\0C00000\0MConsole usage\0D\n";
	size_t m = msg_begin(out, MSG_NOTICE);

	buf_put(out, head, sizeof(head) - 1);
	if (*topic)
		put_help_of(out, topic);
	else
		put_help(out);
	buf_put_u8(out, '\0');
	buf_put_u8(out, '\0');
	msg_end(out, m);
}

/* ---- docs/admin.md ----------------------------------------------------------------------------
 */

static const char head[] =
    "# The admin console\n\n"
    "Made by `pgturnstile --describe=admin` from include/admin/commands.def and the tables of "
    "src/admin; do not edit.\n\n"
    "    psql -p 6432 -U ops pgturnstile -c 'SHOW POOLS'\n\n"
    "The console is the virtual database `pgturnstile`; `pgbouncer` is the same. Users in "
    "`admin_users` may do everything, users in `stats_users` what is not marked *admin*. On the "
    "Unix socket, the user `pgturnstile` or `pgbouncer` with the pooler's own system user is an "
    "admin without a password. Nobody else is let in.\n\n"
    "Commands are case-insensitive. In `PAUSE shop` a name is a database, as in PgBouncer; `TENANT "
    "acme` is a tenant, `DATABASE shop` a database, and neither of them is all. A name with other "
    "characters "
    "than letters, digits and the like is written in double quotes. One command is one message: "
    "text behind the semicolon is an error, and nothing of it is run. The extended protocol works "
    "too (no parameters), with rows as text or binary. A message of more than 64 kB is refused. "
    "Rows are "
    "sent as fast as the client reads; until then a table waits in memory, about 300 bytes for "
    "each row.\n\n"
    "Names, columns, their order and types are those of PgBouncer " CONSOLE_VERSION
    ", and no others; `console_old_columns` adds what older exporters ask for (STATS: "
    "total_requests, DATABASES: reserve_pool). Its database and "
    "user `pgbouncer` in the tables are the console itself. Our own data has "
    "commands of its own, such as TENANTS, LIMITS, NODES, QUERIES and EVENTS. `SHOW HELP` lists "
    "all, `SHOW HELP LIMITS` tells of one. Whoever asks in SQL gets an error whose hint names the "
    "command.\n";

static void put_access(struct buf *out, enum access access)
{
	buf_printf(out, "%s", access == ACCESS_ADMIN ? " *(admin)*" : "");
}

static void put_commands(struct buf *out)
{
	buf_printf(out, "\n## Commands\n\n");
	for (unsigned i = 0; i < NCOMMANDS; i++) {
		buf_printf(out, "- `");
		put_usage(out, &command_specs[i]);
		buf_printf(out, "`");
		put_access(out, command_specs[i].access);
		buf_printf(out, ": %s\n", command_specs[i].help);
	}
	buf_printf(out, "\n`SHOW` and `SET` of these do nothing, for drivers that insist:");
	for (unsigned i = 0; i < NFAKES; i++)
		buf_printf(out, "%s `%s`", i ? "," : "", fake_specs[i].name);
	buf_printf(out, ".\n");
}

static void put_show(struct buf *out, unsigned id)
{
	const struct layout *layout = shows[id]->shown;

	buf_printf(out, "\n### SHOW ");
	put_upper(out, show_specs[id].name);
	put_access(out, show_specs[id].access);
	buf_printf(out, "\n\n%s\n", show_specs[id].help);
	if (!layout)
		return;
	buf_printf(out, "\n| column | type | |\n| --- | --- | --- |\n");
	for (unsigned i = 0; i < layout->n; i++)
		buf_printf(out, "| %s | %s | %s |\n", layout->columns[i].name,
			   column_type_name(layout->columns[i].type), layout->columns[i].doc);
	if (id == SHOW_events)
		events_describe(out);
}

void console_describe_markdown(struct buf *out)
{
	buf_put_slice(out, slice_str(head));
	put_commands(out);
	buf_printf(out, "\n## Tables\n");
	for (unsigned i = 0; i < NSHOWS; i++)
		put_show(out, i);
}
