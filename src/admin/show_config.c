/* SPDX-License-Identifier: ISC
 *
 * show_config.c - SHOW CONFIG, STATE, VERSION and HELP: what the control thread knows by itself.
 */
#include "admin/parts.h"

#define CONFIG_COLUMNS(X)                                                                          \
	X(TEXT, FIRST, key, "Name of the setting.")                                                \
	X(TEXT, FIRST, value, "Value in force; a secret is shown as ****.")                        \
	X(TEXT, FIRST, default, "Value without any configuration.")                                \
	X(TEXT, FIRST, changeable, "yes: RELOAD or SET changes it; no: the next start does.")
/* `default` is a word of C's, so the struct is not made by LAYOUT_DEFINE. */
static const struct column config_columns[] = { CONFIG_COLUMNS(COLUMN_ENTRY) };
static const struct layout config_layout = { config_columns, PGT_NELEMS(config_columns) };

static void config_local(struct control *c, struct table *t)
{
	struct settings defaults;
	struct buf value = { 0 }, dflt = { 0 };

	settings_defaults(&defaults);
	for (unsigned i = 0; i < NSETTINGS; i++) {
		const struct setting *s = &settings_table[i];
		unsigned row;

		if (!(s->scopes & SCOPE_GLOBAL))
			continue;
		row = table_add_empty(t);
		table_set_text(t, row, 0, s->name);
		table_set_text(t, row, 1, show_setting(i, &c->config->global, &value));
		table_set_text(t, row, 2, show_setting(i, &defaults, &dflt));
		table_set_text(t, row, 3, setting_is_changeable(s) ? "yes" : "no");
	}
	buf_fini(&value);
	buf_fini(&dflt);
}

const struct show show_config = { .shown = &config_layout, .local = config_local };

#define STATE_COLUMNS(X)                                                                           \
	X(TEXT, FIRST, key, "active, paused or suspended.")                                        \
	X(TEXT, FIRST, value, "yes or no.")
LAYOUT_DEFINE(state, STATE_COLUMNS);

static void add_state(struct table *t, const char *key, bool yes)
{
	table_add(t, &(struct state_row){ .key = key, .value = yes ? "yes" : "no" });
}

static void state_local(struct control *c, struct table *t)
{
	bool paused = c->console->paused;

	add_state(t, "active", !paused && !c->suspended);
	add_state(t, "paused", paused);
	add_state(t, "suspended", c->suspended);
}

const struct show show_state = { .shown = &state_layout, .local = state_local };

#define VERSION_COLUMNS(X)                                                                         \
	X(TEXT, FIRST, version, "PgBouncer's version whose console this is, and our own.")
LAYOUT_DEFINE(version, VERSION_COLUMNS);

static void version_local(struct control *c PGT_UNUSED, struct table *t)
{
	table_add(t, &(struct version_row){ .version = "PgBouncer " CONSOLE_VERSION
						       " (" PACKAGE_STRING ")" });
}

const struct show show_version = { .shown = &version_layout, .local = version_local };

const struct show show_help = { 0 };
