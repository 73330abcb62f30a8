/* SPDX-License-Identifier: ISC
 *
 * params.c - immutable, interned sets of parameters.
 */
#include "pool/params.h"

#include "base/list.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdlib.h>

static int compare_names(struct slice a, struct slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n ? strncasecmp(a.p, b.p, n) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

static uint64_t hash_item(uint64_t seed, const struct param *item)
{
	char lower[64];
	size_t n = strlen(item->name);

	n = n < sizeof(lower) ? n : sizeof(lower);
	for (size_t i = 0; i < n; i++)
		lower[i] = (char)tolower((unsigned char)item->name[i]);
	seed = hash_more(seed, lower, n);
	return hash_more(seed, item->value, strlen(item->value));
}

static bool is_same(const struct param_set *a, const struct param_set *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned i = 0; i < a->n; i++)
		if (strcasecmp(a->items[i].name, b->items[i].name) ||
		    strcmp(a->items[i].value, b->items[i].value))
			return false;
	return true;
}

static void set_free(struct param_set *set)
{
	for (unsigned i = 0; i < set->n; i++) {
		free(set->items[i].name);
		free(set->items[i].value);
	}
	free(set);
}

/* Where name is, or would be put; *found tells which. */
static unsigned position(const struct param_set *set, struct slice name, bool *found)
{
	unsigned low = 0, high = set->n;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		int order = compare_names(slice_str(set->items[middle].name), name);

		if (order == 0) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = false;
	return low;
}

/* Takes the fresh set; returns it, or the equal one that was there before. */
static struct param_set *intern(struct param_sets *sets, struct param_set *fresh)
{
	uint64_t hash = fresh->n;

	for (unsigned i = 0; i < fresh->n; i++)
		hash = hash_item(hash, &fresh->items[i]);
	for (struct hlink *l = hmap_first(&sets->all, hash); l; l = hmap_next(l)) {
		struct param_set *set = container_of(l, struct param_set, link);

		if (is_same(set, fresh)) {
			set_free(fresh);
			return param_set_ref(set);
		}
	}
	fresh->home = sets;
	fresh->refs = 1;
	(void)!position(fresh, SLICE("statement_timeout"), &fresh->has_timeout);
	hmap_insert(&sets->all, &fresh->link, hash);
	return fresh;
}

static struct param_set *set_new(unsigned n)
{
	return xcalloc(1, sizeof(struct param_set) + n * sizeof(struct param));
}

void param_sets_init(struct param_sets *sets)
{
	sets->all = (struct hmap){ 0 };
	sets->empty = intern(sets, set_new(0));
}

void param_sets_fini(struct param_sets *sets)
{
	param_sets_forget_welcomes(sets);
	param_set_unref(sets->empty);
	sets->empty = NULL;
	PGT_ASSERT(!sets->all.count);
	hmap_fini(&sets->all);
}

struct param_set *param_set_ref(struct param_set *set)
{
	set->refs++;
	return set;
}

void param_set_unref(struct param_set *set)
{
	if (!set || --set->refs)
		return;
	hmap_remove(&set->home->all, &set->link);
	param_set_unref(set->welcome);
	set_free(set);
}

void param_set_assign(struct param_set **at, struct param_set *set)
{
	struct param_set *old = *at;

	*at = set ? param_set_ref(set) : NULL;
	param_set_unref(old);
}

const char *param_set_get(const struct param_set *set, struct slice name)
{
	bool found;
	unsigned at = position(set, name, &found);

	return found ? set->items[at].value : NULL;
}

struct param_set *param_set_with(struct param_set *set, struct slice name, struct slice value)
{
	bool found;
	unsigned at = position(set, name, &found);
	struct param_set *fresh;
	unsigned n = 0;

	if (found ? value.p && slice_is_equal(slice_str(set->items[at].value), value) : !value.p)
		return param_set_ref(set);
	fresh = set_new(set->n + 1);
	for (unsigned i = 0; i <= set->n; i++) {
		if (i == at && value.p)
			fresh->items[n++] =
			    (struct param){ xmemdup0(name.p, name.n), xmemdup0(value.p, value.n) };
		if (i < set->n && !(found && i == at))
			fresh->items[n++] = (struct param){ xstrdup(set->items[i].name),
							    xstrdup(set->items[i].value) };
	}
	fresh->n = n;
	return intern(set->home, fresh);
}

void param_sets_forget_welcomes(struct param_sets *sets)
{
	struct param_set **had = xcalloc(sets->all.count, sizeof(*had));
	size_t n = 0;

	/* Dropping a welcome may free another set, so they are collected first. */
	for (struct hlink *l = hmap_walk(&sets->all, NULL); l; l = hmap_walk(&sets->all, l)) {
		struct param_set *set = container_of(l, struct param_set, link);

		if (set->welcome)
			had[n++] = param_set_ref(set);
	}
	while (n--) {
		param_set_assign(&had[n]->welcome, NULL);
		param_set_unref(had[n]);
	}
	free(had);
}
