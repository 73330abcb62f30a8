/* SPDX-License-Identifier: ISC
 *
 * journal.c - what a transaction has done to the channels that its session listens on.
 *
 * A savepoint that is not in it was made before its first entry, if it exists at all: what the
 * server has not run is not written down here.
 */
#include "relay/journal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

void journal_init(struct journal *j)
{
	list_init(&j->entries);
}

static bool is_savepoint(const struct journal_entry *entry, const char *name)
{
	return entry->control.kind == CONTROL_SAVEPOINT &&
	       (!name || !strcmp(entry->control.name, name));
}

static void entry_free(struct journal *j, struct list *at)
{
	j->n--;
	list_del(at);
	free(container_of(at, struct journal_entry, link));
}

static void write_down(struct journal *j, const struct sql_control *control)
{
	struct journal_entry *entry;

	/* Savepoints from before its first entry need not be known apart. */
	if (control->kind == CONTROL_SAVEPOINT && list_is_empty(&j->entries))
		return;
	entry = xnew(struct journal_entry);
	entry->control = *control;
	list_push_back(&j->entries, &entry->link);
	j->n++;
}

/* The last savepoint of that name; the head: it is from before the first entry. */
static struct list *find_savepoint(struct journal *j, const char *name)
{
	struct list *at = j->entries.prev;

	while (at != &j->entries &&
	       !is_savepoint(container_of(at, struct journal_entry, link), name))
		at = at->prev;
	return at;
}

static void roll_back_to(struct journal *j, const char *name)
{
	struct list *savepoint = find_savepoint(j, name);

	while (savepoint->next != &j->entries)
		entry_free(j, savepoint->next);
}

/* What was done since then stays; the savepoints made since then go with it. */
static void release(struct journal *j, const char *name)
{
	struct list *at = find_savepoint(j, name), *next;

	if (at == &j->entries)
		at = at->next;
	for (; at != &j->entries; at = next) {
		next = at->next;
		if (is_savepoint(container_of(at, struct journal_entry, link), NULL))
			entry_free(j, at);
	}
}

void journal_clear(struct journal *j)
{
	while (!list_is_empty(&j->entries))
		entry_free(j, j->entries.next);
}

bool journal_has(const struct journal *j, enum sql_control_kind kind)
{
	LIST_FOREACH (at, &j->entries)
		if (journal_at(at)->kind == kind)
			return true;
	return false;
}

void journal_run(struct journal *j, const struct sql_control *control)
{
	switch (control->kind) {
	case CONTROL_RELEASE:
		release(j, control->name);
		break;
	case CONTROL_ROLLBACK_TO:
		roll_back_to(j, control->name);
		break;
	default:
		write_down(j, control);
		break;
	}
}
