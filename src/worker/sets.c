/* SPDX-License-Identifier: ISC
 *
 * sets.c - the node set of each database that is in use, by the name that clients say.
 *
 * Knows names and references, not what is known about a node.
 */
#include "worker/sets.h"

#include "base/hash.h"
#include "base/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct node_sets {
	pthread_mutex_t lock;
	struct hmap by_name;
	void (*made)(void *arg);
	void *arg;
};

struct entry {
	struct hlink link;
	struct node_set *set;
	unsigned edition; /* the latest configuration whose hosts these are */
};

struct node_sets *node_sets_new(void)
{
	struct node_sets *sets = xnew(struct node_sets);

	pthread_mutex_init(&sets->lock, NULL);
	return sets;
}

void node_sets_on_made(struct node_sets *sets, void (*made)(void *arg), void *arg)
{
	sets->made = made;
	sets->arg = arg;
}

static struct entry *entry_of(struct hlink *l)
{
	return container_of(l, struct entry, link);
}

static void take_out(struct node_sets *sets, struct entry *entry)
{
	hmap_remove(&sets->by_name, &entry->link);
	node_set_unref(entry->set);
	free(entry);
}

void node_sets_free(struct node_sets *sets)
{
	HMAP_FOREACH_SAFE (l, &sets->by_name)
		take_out(sets, entry_of(l));
	hmap_fini(&sets->by_name);
	pthread_mutex_destroy(&sets->lock);
	free(sets);
}

static struct entry *find_locked(struct node_sets *sets, const char *database, uint64_t hash)
{
	for (struct hlink *l = hmap_first(&sets->by_name, hash); l; l = hmap_next(l))
		if (!strcmp(entry_of(l)->set->database, database))
			return entry_of(l);
	return NULL;
}

static struct entry *add_locked(struct node_sets *sets, struct node_set *set, uint64_t hash)
{
	struct entry *entry = xnew(struct entry);

	entry->set = set;
	hmap_insert(&sets->by_name, &entry->link, hash);
	return entry;
}

static struct node_set *make_heir(const struct entry *entry, const struct node_conf *nodes,
				  size_t n)
{
	struct node_set *set = node_set_new(entry->set->database, nodes, n);

	node_set_inherit(set, entry->set);
	return set;
}

struct node_set *node_sets_get(struct node_sets *sets, const char *database,
			       const struct node_conf *nodes, size_t n, unsigned edition)
{
	uint64_t hash = hash_bytes(database, strlen(database));
	struct node_set *set = NULL;
	struct entry *entry;
	bool is_new, is_late;

	pthread_mutex_lock(&sets->lock);
	entry = find_locked(sets, database, hash);
	is_new = !entry || !node_set_matches(entry->set, nodes, n);
	is_late = entry && edition < entry->edition;
	if (!entry)
		entry = add_locked(sets, node_set_new(database, nodes, n), hash);
	else if (is_new)
		set = make_heir(entry, nodes, n);
	if (set && !is_late) {
		node_set_unref(entry->set);
		entry->set = set;
		set = NULL;
	}
	if (!is_late)
		entry->edition = edition;
	set = set ? set : node_set_ref(entry->set);
	pthread_mutex_unlock(&sets->lock);
	if (is_new && !is_late && n > 1 && sets->made)
		sets->made(sets->arg);
	return set;
}

struct node_set **node_sets_list(struct node_sets *sets, unsigned *n)
{
	struct node_set **list;

	*n = 0;
	pthread_mutex_lock(&sets->lock);
	list = xcalloc(sets->by_name.count + 1, sizeof(struct node_set *));
	for (struct hlink *l = hmap_walk(&sets->by_name, NULL); l; l = hmap_walk(&sets->by_name, l))
		list[(*n)++] = node_set_ref(entry_of(l)->set);
	pthread_mutex_unlock(&sets->lock);
	return list;
}

void node_sets_forget(struct node_sets *sets, struct node_set *set, unsigned holders)
{
	struct entry *entry;

	pthread_mutex_lock(&sets->lock);
	entry = find_locked(sets, set->database, hash_bytes(set->database, strlen(set->database)));
	/* References are handed out under this lock, or by somebody who has one. */
	if (entry && entry->set == set && set->refs == 1 + holders)
		take_out(sets, entry);
	pthread_mutex_unlock(&sets->lock);
}
