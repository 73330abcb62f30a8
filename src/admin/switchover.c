/* SPDX-License-Identifier: ISC
 *
 * switchover.c - SWITCHOVER: the primary of a database comes to rest, so that another node can take
 * its place.
 *
 * The monitor says that the primary retires, and the relay obeys; the command is answered when no
 * transaction is under way there any more.  Both that and the wait for the next primary have a
 * bound, after which the old one goes on.  RESUME ends it before.
 */
#include "admin/parts.h"
#include "worker/monitor.h"

static unsigned visit(struct relay *r, const struct errand *errand)
{
	return relay_retire(r, errand->name);
}

/* No transaction is under way, or none is waited for any more. */
static void on_over(struct control *control, struct errand *errand)
{
	if (*errand->failure.text || monitor_rest(control->monitor, errand->name))
		return;
	err_set(&errand->failure, "57014",
		"SWITCHOVER is given up: transactions are still under way after failover_wait");
	err_hint(&errand->failure, "SHOW CLIENTS tells whose. The primary goes on.");
}

void command_switchover(struct session *s, const struct command *cmd)
{
	struct console *console = s->console;
	struct err e;

	if (!check_database(s, cmd->word, "switch over"))
		return;
	if (!monitor_retire(console->control->monitor, cmd->word, &e)) {
		session_fail(s, &e);
		return;
	}
	run_errand(console, s, "SWITCHOVER", cmd->word, ERRAND_UNTIL_NONE, visit)->over = on_over;
}

bool resume_switchover(struct console *console, const char *database)
{
	give_up_errands(console, visit, database);
	return monitor_keep(console->control->monitor, database);
}
