/* SPDX-License-Identifier: ISC
 *
 * show_events.c - SHOW EVENTS: the last changes of state; and what commands leave there.
 *
 * Control thread.
 */
#include "admin/parts.h"
#include "stats/event.h"

#define EVENT_COLUMNS(X)                                                                           \
	X(BIGINT, FIRST, number, "Counts events since the start.")                                 \
	X(TIME, FIRST, time, "When it was seen.")                                                  \
	X(TIME, FIRST, last, "When it was seen the last time, of .count.")                         \
	X(INT, FIRST, count, "How often, within a minute.")                                        \
	X(TEXT, FIRST, level, "As in the log: LOG, WARNING or ERROR.")                             \
	X(TEXT, FIRST, kind, "What kind of event; the list is below.")                             \
	X(TEXT, FIRST, database, "Database; empty: none, or all.")                                 \
	X(TEXT, FIRST, tenant, "Tenant; empty: none, or all.")                                     \
	X(TEXT, FIRST, node, "Node, as host:port; empty: none.")                                   \
	X(TEXT, FIRST, event, "What has happened.")
LAYOUT_DEFINE(event, EVENT_COLUMNS);

static void add(const struct event *e, void *arg)
{
	table_add(arg, &(struct event_row){ .number = (int64_t)e->number,
					    .time = e->first,
					    .last = e->last,
					    .count = e->count,
					    .level = log_level_name(event_specs[e->kind].level),
					    .kind = event_specs[e->kind].name,
					    .database = e->database,
					    .tenant = e->tenant,
					    .node = e->node,
					    .event = e->text });
}

static void events_local(struct control *c PGT_UNUSED, struct table *t)
{
	events_each(0, add, t);
}

const struct show show_events = { .shown = &event_layout, .local = events_local };

void events_describe(struct buf *out)
{
	buf_printf(out, "\n| kind | level | |\n| --- | --- | --- |\n");
	for (unsigned i = 0; i < NEVENTS; i++)
		buf_printf(out, "| %s | %s | %s |\n", event_specs[i].name,
			   log_level_name(event_specs[i].level), event_specs[i].doc);
}

/* ---- commands ---------------------------------------------------------------------------------
 */

/* Others say it where it is done. */
static const struct {
	enum command_id command;
	enum event_kind kind;
} kinds[] = {
	{COMMAND_set,          EVENT_setting    },
	{ COMMAND_reset,       EVENT_setting    },
	{ COMMAND_pause,       EVENT_pause      },
	{ COMMAND_resume,      EVENT_resume     },
	{ COMMAND_readonly,    EVENT_readonly   },
	{ COMMAND_readwrite,   EVENT_readwrite  },
	{ COMMAND_maintenance, EVENT_maintenance},
	{ COMMAND_disable,     EVENT_disable    },
	{ COMMAND_enable,      EVENT_enable     },
	{ COMMAND_reconnect,   EVENT_reconnect  },
	{ COMMAND_kill,        EVENT_kill       },
	{ COMMAND_kill_client, EVENT_kill       },
	{ COMMAND_suspend,     EVENT_suspend    },
};

/* A value may be a secret, and is not told (I9). */
static void say(const struct session *s, const struct command *cmd, enum event_kind kind)
{
	bool is_tenant = cmd->owner == OWNER_TENANT;
	bool is_database = cmd->owner == OWNER_DATABASE ||
			   command_specs[cmd->id].argument == ARGUMENT_DATABASE ||
			   command_specs[cmd->id].argument == ARGUMENT_DATABASE_OR_TENANT ||
			   command_specs[cmd->id].argument == ARGUMENT_OPTIONAL_DATABASE;
	const char *name = *cmd->name ? cmd->name : cmd->word;
	struct log_about about = { .tenant = is_tenant ? cmd->name : NULL,
				   .database = !is_tenant && is_database ? name : NULL };
	bool has_word = !about.database && *cmd->word;
	struct buf verb = { 0 };

	put_upper(&verb, command_specs[cmd->id].verb);
	event_say(kind, &about, "%s%s%s%s, by %s", buf_cstr(&verb), has_word ? " " : "",
		  has_word ? cmd->word : "", cmd->is_off ? " OFF" : "", s->client->user);
	buf_fini(&verb);
}

void events_note_command(const struct session *s, const struct command *cmd)
{
	for (size_t i = 0; i < PGT_NELEMS(kinds); i++)
		if (kinds[i].command == cmd->id && cmd->fake < 0)
			say(s, cmd, kinds[i].kind);
}
