/* SPDX-License-Identifier: ISC
 *
 * show.c - the way of a table from the workers' threads to the one who asked.
 *
 * Knows the steps of struct show, and no column.
 */
#include "admin/show.h"

#include "base/mem.h"
#include "relay/admission.h"
#include "relay/listen.h"
#include "relay/whose.h"
#include "stats/past.h"

#include <stdlib.h>

const struct show *const shows[NSHOWS] = {
#define X(name, ...) &show_##name,
	SHOWS(X)
#undef X
};

#define X(name, value)                                                                             \
	static const struct column fake_##name##_column = { #name, COLUMN_TEXT, MERGE_FIRST,       \
							    "Always " value "." };                 \
	static const struct layout fake_##name##_layout = { &fake_##name##_column, 1 };            \
	static void fake_##name(struct control *c PGT_UNUSED, struct table *t)                     \
	{                                                                                          \
		table_set_text(t, table_add_empty(t), 0, value);                                   \
	}
FAKES(X)
#undef X

const struct show fake_shows[NFAKES] = {
#define X(name, value) { .shown = &fake_##name##_layout, .local = fake_##name },
	FAKES(X)
#undef X
};

/* ---- running one ------------------------------------------------------------------------------
 */

struct showing {
	const struct show *show;
	show_done_fn *done;
	void *arg;
	struct table first; /* of show->first; threads read it */
};

static const struct layout *gathered_layout(const struct show *show)
{
	return show->gathered ? show->gathered : show->shown;
}

static void on_visit(struct worker *w, void *slot, void *arg)
{
	const struct showing *showing = arg;
	const struct show *show = showing->show;

	table_init(slot, gathered_layout(show));
	if (show->first)
		show->visit_of(w, &showing->first, slot);
	else
		show->visit(w, slot);
}

/* The control thread's part. */
static void assemble(struct control *c, struct showing *showing, struct table *found)
{
	const struct show *show = showing->show;
	struct table shown;

	if (show->local)
		show->local(c, found);
	table_merge(found);
	shown = *found;
	if (show->derive) {
		table_init(&shown, show->shown);
		show->derive(c, found, &shown);
		table_fini(found);
	}
	showing->done(c, &shown, showing->arg);
	table_fini(&showing->first);
	free(showing);
}

static void on_gathered(struct control *c, void **slots, unsigned n, void *arg)
{
	struct showing *showing = arg;
	struct table found;

	table_init(&found, gathered_layout(showing->show));
	for (unsigned i = 0; i < n; i++) {
		table_absorb(&found, slots[i]);
		table_fini(slots[i]);
	}
	assemble(c, showing, &found);
}

static void on_first(struct control *c, struct table *t, void *arg)
{
	struct showing *showing = arg;

	showing->first = *t;
	control_gather(c, sizeof(struct table), on_visit, on_gathered, showing);
}

void show_run(struct control *c, const struct show *show, show_done_fn *done, void *arg)
{
	struct showing *showing = xnew(struct showing);
	struct table found;

	*showing = (struct showing){ .show = show, .done = done, .arg = arg };
	if (show->first) {
		show_run(c, show->first, on_first, showing);
		return;
	}
	if (show->visit) {
		control_gather(c, sizeof(struct table), on_visit, on_gathered, showing);
		return;
	}
	table_init(&found, gathered_layout(show));
	assemble(c, showing, &found);
}

/* ---- row by row -------------------------------------------------------------------------------
 */

struct show_rest show_rest_of(struct control *c, const struct show *show, struct table *gathered)
{
	return (struct show_rest){ .show = show,
				   .gathered = *gathered,
				   .config = config_ref(c->config) };
}

void show_rest_fini(struct show_rest *rest)
{
	table_fini(&rest->gathered);
	config_unref(rest->config);
	*rest = (struct show_rest){ 0 };
}

bool show_rest_has_row(struct control *c, struct show_rest *rest, struct table *t, unsigned *n)
{
	while (*n == t->nrows && rest->show) {
		table_clear(t);
		*n = 0;
		if (!rest->show->more(c, rest, t))
			show_rest_fini(rest);
	}
	return *n < t->nrows;
}

/* ---- helpers ----------------------------------------------------------------------------------
 */

void show_first_columns(struct control *c PGT_UNUSED, const struct table *gathered,
			struct table *shown)
{
	for (unsigned row = 0; row < gathered->nrows; row++)
		table_copy_row(shown, gathered, row);
}

void show_each_group(struct worker *w, void (*visit)(struct group *group, struct table *t),
		     struct table *t)
{
	for (struct hlink *l = hmap_walk(&w->relay.groups, NULL); l;
	     l = hmap_walk(&w->relay.groups, l))
		visit(container_of(l, struct group, link), t);
}

void show_each_count(struct worker *w, show_count_fn *add, struct table *t)
{
	for (struct hlink *l = hmap_walk(&w->relay.groups, NULL); l;
	     l = hmap_walk(&w->relay.groups, l)) {
		const struct group *group = container_of(l, struct group, link);

		add(t, group->name, &group->counters);
	}
	for (struct hlink *l = hmap_walk(&w->relay.pasts, NULL); l;
	     l = hmap_walk(&w->relay.pasts, l)) {
		const struct past *past = container_of(l, struct past, link);

		add(t, past->name, &past->counters);
	}
}

enum client_doing show_client_doing(const struct client *c)
{
	if (c->waiter || admit_is_waiting(c) || listen_is_waiting(c) || whose_is_seeking(c))
		return CLIENT_IS_WAITING;
	return c->server ? CLIENT_IS_ACTIVE : CLIENT_IS_IDLE;
}

void show_of_tenant(const struct command *cmd, struct table *t, unsigned column)
{
	if (cmd->owner == OWNER_TENANT)
		table_keep(t, column, cmd->name);
}

usec_t show_client_wait(const struct client *c, usec_t now)
{
	if (c->waiter)
		return now - c->waiter->since;
	if (listen_is_waiting(c))
		return now - listen_waits_since(c);
	return admit_is_waiting(c) ? now - c->admission->since : 0;
}

const char *show_setting(enum setting_id id, const struct settings *set, struct buf *room)
{
	buf_clear(room);
	setting_format(&settings_table[id], set, room);
	return buf_cstr(room);
}

const char *show_override(const struct overrides *own, enum setting_id id, struct buf *room)
{
	for (size_t i = 0; i < own->n; i++) {
		if (own->items[i].id != id)
			continue;
		buf_clear(room);
		settings_table[id].type->format(settings_table[id].type, &own->items[i].value,
						room);
		return buf_cstr(room);
	}
	return NULL;
}
