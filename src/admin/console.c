/* SPDX-License-Identifier: ISC
 *
 * console.c - who may talk to the console, and what it owns.
 *
 * Knows nothing of messages and commands.
 */
#include "admin/console.h"

#include "admin/parts.h"
#include "base/mem.h"
#include "client/client.h"

#include <stdlib.h>

/* As PgBouncer's, with our name. */
static const struct {
	const char *name, *value;
} reported[] = {
	{"server_version",               CONSOLE_VERSION "/pgturnstile"},
	{ "client_encoding",             "UTF8"                        },
	{ "server_encoding",             "UTF8"                        },
	{ "DateStyle",                   "ISO"                         },
	{ "TimeZone",                    "GMT"                         },
	{ "standard_conforming_strings", "on"                          },
	{ "is_superuser",                "on"                          },
};

static struct param_set *make_welcome(struct param_sets *sets)
{
	struct param_set *set = param_set_ref(sets->empty);

	for (size_t i = 0; i < PGT_NELEMS(reported); i++) {
		struct param_set *more =
		    param_set_with(set, slice_str(reported[i].name), slice_str(reported[i].value));

		param_set_unref(set);
		set = more;
	}
	return set;
}

void console_start(struct control *control)
{
	struct console *console = xnew(struct console);

	console->control = control;
	list_init(&console->sessions);
	list_init(&console->errands);
	list_init(&console->holds);
	param_sets_init(&console->params);
	console->welcome = make_welcome(&console->params);
	control->console = console;
	stats_start(console);
}

void console_stop(struct control *control)
{
	struct console *console = control->console;

	stats_stop(console);
	while (!list_is_empty(&console->sessions)) {
		struct session *s =
		    container_of(list_first(&console->sessions), struct session, link);

		client_close(s->client, NULL, "the console ends");
	}
	act_stop(console);
	param_set_unref(console->welcome);
	param_sets_fini(&console->params);
	control->console = NULL;
	free(console);
}

bool console_enter(struct control *control, struct client *c, struct err *e)
{
	const struct settings *set = &control->config->global;
	bool is_admin = client_is_ourselves(c) || list_has(set->admin_users, slice_str(c->user));

	if (!is_admin && !list_has(set->stats_users, slice_str(c->user)))
		return err_set(e, "28000", "not allowed");
	/* No newcomer any more: the login's timeout must not end it. */
	list_del(&c->link);
	c->host->nnewcomers--;
	session_start(control->console, c, is_admin);
	client_welcome(c, control->console->welcome);
	return true;
}
