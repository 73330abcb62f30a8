/* SPDX-License-Identifier: ISC
 *
 * change.c - what the console has changed of tenants, databases or all.
 *
 * Changes are a part of the config like any other, so that threads get them as they get a reload;
 * each version has a list of its own.  Knows which settings may be changed so, not whether there is
 * such a tenant.
 */
#include "base/mem.h"
#include "config/build.h"

#include <limits.h>
#include <stdlib.h>

static uint64_t owner_hash(enum setting_scope scope, struct slice owner)
{
	return hash_more((uint64_t)scope, owner.p, owner.n);
}

static bool is_of(const struct change *change, enum setting_scope scope, struct slice owner)
{
	return change->scope == scope && slice_is_equal(slice_str(change->owner), owner);
}

/* Room for one more of the owner, behind the others. */
static struct change *add(struct config *c, enum setting_scope scope, struct slice owner)
{
	struct change *change = xnew(struct change);

	change->scope = scope;
	change->owner = config_string(c, owner);
	c->changes = items_grow(c->changes, c->nchanges, sizeof(*c->changes));
	c->changes[c->nchanges++] = change;
	hmap_insert(&c->_changes, &change->by_owner, owner_hash(scope, owner));
	return change;
}

/* The text has been read before, so it can be read again. */
static void set_value(struct config *c, struct change *change, enum setting_id id, const char *text)
{
	const struct setting_type *type = settings_table[id].type;

	change->id = id;
	change->text = config_string(c, slice_str(text));
	PGT_ASSERT(type->parse(type, change->text, &change->value, NULL));
}

void config_keep_changes(struct config *candidate, const struct config *running)
{
	for (size_t i = 0; i < running->nchanges; i++) {
		const struct change *old = running->changes[i];

		set_value(candidate, add(candidate, old->scope, slice_str(old->owner)), old->id,
			  old->text);
	}
}

void config_empty_changes(struct config *c)
{
	for (size_t i = 0; i < c->nchanges; i++)
		free(c->changes[i]);
	free(c->changes);
	hmap_fini(&c->_changes);
}

const struct change *config_change_find(const struct config *c, enum setting_scope scope,
					struct slice owner, enum setting_id id)
{
	struct hlink *l = hmap_first(&c->_changes, owner_hash(scope, owner));

	for (; l; l = hmap_next(l)) {
		const struct change *change = container_of(l, struct change, by_owner);

		if (change->id == id && is_of(change, scope, owner))
			return change;
	}
	return NULL;
}

void config_changes_apply(const struct config *c, enum setting_scope scope, struct slice owner,
			  struct settings *out)
{
	struct hlink *l = hmap_first(&c->_changes, owner_hash(scope, owner));

	for (; l; l = hmap_next(l)) {
		const struct change *change = container_of(l, struct change, by_owner);
		const struct setting *setting = &settings_table[change->id];

		if (is_of(change, scope, owner))
			memcpy(setting_at(setting, out), &change->value, setting->type->size);
	}
}

/* ---- one more ---------------------------------------------------------------------------------
 */

static void take_back(struct config *c, enum setting_scope scope, struct slice owner,
		      const struct setting *setting)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->nchanges; i++) {
		struct change *change = c->changes[i];

		if (is_of(change, scope, owner) &&
		    (!setting || setting == &settings_table[change->id])) {
			hmap_remove(&c->_changes, &change->by_owner);
			free(change);
		} else {
			c->changes[kept++] = change;
		}
	}
	c->nchanges = kept;
}

/* *setting NULL: all. */
static bool find_setting(enum setting_scope scope, struct slice name, bool may_be_all,
			 const struct setting **setting, struct err *e)
{
	struct nearest nearest = { .wanted = name, .distance = UINT_MAX };

	*setting = settings_find(name, scope);
	if (*setting && (*setting)->when == AT_START)
		return err_set(e, "55P02", "%.*s cannot be changed while it runs", SLICE_FMT(name));
	if (*setting || (may_be_all && !name.n))
		return true;
	settings_nearest(&nearest, scope);
	err_set(e, "42704", "unknown setting \"%.*s\"", SLICE_FMT(name));
	return !nearest_is_near(&nearest)
		   ? false
		   : err_hint(e, "Did you mean %.*s?", SLICE_FMT(nearest.name));
}

/* What the change would make of the tenant has to fit together. */
static bool check(const struct config *c, enum setting_scope scope, struct slice owner,
		  struct err *e)
{
	const struct tenant_conf *tenant =
	    scope == SCOPE_TENANT ? config_tenant_by_name(c, owner) : NULL;
	struct settings set;

	settings_resolve(c, NULL, NULL, tenant, tenant ? NULL : c->unknown_tenant_tier, &set);
	config_changes_apply(c, scope, owner, &set);
	return settings_check_limits(&set, e) && config_check_lane(c, set.lane, e);
}

struct config *config_with_change(struct config *c, enum setting_scope scope, struct slice owner,
				  struct slice name, const char *text, struct err *e)
{
	const struct setting *setting;
	union setting_value tried;
	struct config *clone;

	if (!find_setting(scope, name, !text, &setting, e))
		return NULL;
	if (text && !setting->type->parse(setting->type, text, &tried, e))
		return NULL;
	clone = config_clone(c);
	take_back(clone, scope, owner, setting);
	if (text)
		set_value(clone, add(clone, scope, owner),
			  (enum setting_id)(setting - settings_table), text);
	if (check(clone, scope, owner, e))
		return clone;
	config_unref(clone);
	return NULL;
}
