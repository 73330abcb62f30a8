/* SPDX-License-Identifier: ISC
 *
 * switch.c - commands that change a tenant's settings, and switches of tenants, databases or all.
 *
 * All of them make another version of the configuration with one change more or less, which workers
 * get as they get a reload; so they outlive a RELOAD, and are answered when every worker has them.
 */
#include "admin/parts.h"
#include "tenant/shared.h"

/* What MAINTENANCE says when it is given no words. */
#define MAINTENANCE_MESSAGE "the service is under maintenance, please try again later"

static const struct config *config_of(const struct session *s)
{
	return s->console->control->config;
}

static bool fail(struct session *s, const struct err *e)
{
	session_fail(s, e);
	return false;
}

/* One of the configuration, or one that has been seen: with unknown_tenant any name may come. */
static bool check_tenant(struct session *s, const char *name)
{
	struct shared *seen = shared_find(SHARED_TENANT, slice_str(name));
	bool is_known = seen || config_tenant_by_name(config_of(s), slice_str(name));
	struct err e;

	shared_put(seen);
	if (is_known)
		return true;
	err_set(&e, "42704", "no such tenant: %s", name);
	err_hint(&e, "It is not in [tenants], and has not connected since the start.");
	return fail(s, &e);
}

static bool check_owner(struct session *s, const struct command *cmd, const char *what)
{
	return cmd->owner == OWNER_TENANT ? check_tenant(s, cmd->name)
					  : check_database(s, cmd->name, what);
}

static enum setting_scope scope_of(const struct command *cmd)
{
	static const enum setting_scope scopes[] = { [OWNER_ALL] = SCOPE_GLOBAL,
						     [OWNER_DATABASE] = SCOPE_DATABASE,
						     [OWNER_TENANT] = SCOPE_TENANT };

	return scopes[cmd->owner];
}

/* value NULL: takes it back.  False: it has been answered. */
static bool change(struct session *s, const struct command *cmd, const char *setting,
		   const char *value)
{
	struct err e;

	return control_change(s->console->control, scope_of(cmd), cmd->name, setting, value, &e) ||
	       fail(s, &e);
}

/* ---- settings of tenants ----------------------------------------------------------------------
 */

void set_tenant(struct session *s, const struct command *cmd)
{
	if (check_tenant(s, cmd->name) && change(s, cmd, cmd->word, cmd->value))
		answer_after_workers(s, "SET");
}

void command_reset(struct session *s, const struct command *cmd)
{
	if (check_tenant(s, cmd->name) && change(s, cmd, cmd->word, NULL))
		answer_after_workers(s, "RESET");
}

/* ---- switches ---------------------------------------------------------------------------------
 */

/* What the files say of whom the command is about. */
static void resolve_files(struct session *s, const struct command *cmd, struct settings *out)
{
	const struct config *config = config_of(s);
	const struct slice name = slice_str(cmd->name);
	const struct database_conf *database =
	    cmd->owner == OWNER_DATABASE ? config_database(config, name) : NULL;
	const struct tenant_conf *tenant =
	    cmd->owner == OWNER_TENANT ? config_tenant_by_name(config, name) : NULL;
	bool is_unknown = cmd->owner == OWNER_TENANT && !tenant;

	settings_resolve(config, database, NULL, tenant,
			 is_unknown ? config->unknown_tenant_tier : NULL, out);
}

void command_readonly(struct session *s, const struct command *cmd)
{
	if (check_owner(s, cmd, "make read-only") && change(s, cmd, "readonly", "1"))
		answer_after_workers(s, "READONLY");
}

/* What the console has said is taken back; what a file says is overruled. */
void command_readwrite(struct session *s, const struct command *cmd)
{
	struct settings files;

	if (!check_owner(s, cmd, "make writable"))
		return;
	resolve_files(s, cmd, &files);
	if (change(s, cmd, "readonly", files.readonly ? "0" : NULL))
		answer_after_workers(s, "READWRITE");
}

void command_maintenance(struct session *s, const struct command *cmd)
{
	const char *message = *cmd->value ? cmd->value : MAINTENANCE_MESSAGE;
	struct settings files;

	if (!check_owner(s, cmd, "maintain"))
		return;
	resolve_files(s, cmd, &files);
	if (cmd->is_off)
		message = *files.maintenance ? "" : NULL;
	if (change(s, cmd, "maintenance", message))
		answer_after_workers(s, "MAINTENANCE");
}

/* ---- PAUSE, RESUME and KILL of a tenant --------------------------------------------------------
 */

static unsigned visit_pause(struct relay *r, const struct errand *errand)
{
	return relay_busy_of_tenant(r, errand->name);
}

static unsigned visit_kill(struct relay *r, const struct errand *errand)
{
	relay_kill_tenant(r, errand->name);
	return 0;
}

void pause_tenant(struct session *s, const struct command *cmd)
{
	if (check_tenant(s, cmd->name) && change(s, cmd, "paused", "1"))
		run_errand(s->console, s, "PAUSE", cmd->name, ERRAND_UNTIL_NONE, visit_pause);
}

static bool is_paused(struct session *s, const struct command *cmd)
{
	struct settings set;

	resolve_files(s, cmd, &set);
	config_changes_apply(config_of(s), SCOPE_TENANT, slice_str(cmd->name), &set);
	return set.paused;
}

void resume_tenant(struct session *s, const struct command *cmd)
{
	struct settings files;
	struct err e;

	if (!check_tenant(s, cmd->name))
		return;
	if (!is_paused(s, cmd)) {
		err_set(&e, "55000", "tenant %s is not paused", cmd->name);
		session_fail(s, &e);
		return;
	}
	resolve_files(s, cmd, &files);
	if (!change(s, cmd, "paused", files.paused ? "0" : NULL))
		return;
	give_up_errands(s->console, visit_pause, cmd->name);
	answer_after_workers(s, "RESUME");
}

void kill_tenant(struct session *s, const struct command *cmd)
{
	if (check_tenant(s, cmd->name) && change(s, cmd, "paused", "1"))
		run_errand(s->console, s, "KILL", cmd->name, ERRAND_ONCE, visit_kill);
}
