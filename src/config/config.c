/* SPDX-License-Identifier: ISC
 *
 * config.c - a config's life: shared, looked things up in, resolved, replaced, freed.
 *
 * Knows nothing of how it came to be (build.c, load.c).
 */
#include "config/config.h"

#include "auth/directory.h"
#include "auth/hba.h"
#include "auth/jwt.h"
#include "auth/sign.h"
#include "auth/userlist.h"
#include "base/mem.h"
#include "config/build.h"
#include "config/roster.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* --- lifetime ------------------------------------------------------------------------------- */

struct config *config_ref(struct config *c)
{
	__atomic_add_fetch(&c->_refs, 1, __ATOMIC_RELAXED);
	return c;
}

static void free_strings(struct config *c)
{
	for (struct config_text *text = c->_texts, *next; text; text = next) {
		next = text->next;
		mem_wipe(text->bytes, text->used);
		free(text);
	}
}

#define FREE_LIST(c, noun)                                                                         \
	do {                                                                                       \
		for (size_t i = 0; i < (c)->n##noun##s; i++) {                                     \
			config_empty_##noun((c)->noun##s[i]);                                      \
			free((c)->noun##s[i]);                                                     \
		}                                                                                  \
		free((c)->noun##s);                                                                \
	} while (0)

static void free_lists(struct config *c)
{
	FREE_LIST(c, database);
	FREE_LIST(c, user);
	FREE_LIST(c, tier);
	FREE_LIST(c, tenant);
	FREE_LIST(c, lane);
	for (size_t i = 0; i < c->npeers; i++)
		free(c->peers[i]);
	free(c->peers);
}

static void free_indexes(struct config *c)
{
	struct hmap *maps[] = {
		&c->_databases, &c->_users,      &c->_tiers,        &c->_tenants,
		&c->_lanes,     &c->_tenant_ids, &c->_tenant_users, &c->_tenant_dbs
	};

	for (size_t i = 0; i < PGT_NELEMS(maps); i++)
		hmap_fini(maps[i]);
	for (struct config_alias *a = c->_aliases, *next; a; a = next) {
		next = a->next;
		free(a);
	}
}

void config_unref(struct config *c)
{
	if (!c || __atomic_sub_fetch(&c->_refs, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	if (c->_base) {
		config_unref(c->_base);
	} else {
		free_lists(c);
		free_indexes(c);
		userlist_free(c->userlist);
		hba_free(c->hba);
		ident_free(c->ident);
		directory_free(c->directory);
		jwt_keys_free(c->jwt_keys);
		sign_keys_free(c->sign_keys);
	}
	config_empty_changes(c);
	roster_unref(c->roster);
	free_strings(c);
	free(c);
}

/* --- lookup --------------------------------------------------------------------------------- */

void *config_find(const struct hmap *m, struct slice key, size_t link_at, size_t key_at)
{
	struct hlink *l = hmap_first(m, hash_bytes(key.p, key.n));

	for (; l; l = hmap_next(l)) {
		char *object = (char *)l - link_at;

		if (slice_is_equal(slice_str(*(const char **)(object + key_at)), key))
			return object;
	}
	return NULL;
}

const struct database_conf *config_database(const struct config *c, struct slice name)
{
	return CONFIG_FIND(&c->_databases, name, struct database_conf, by_name, name);
}

const struct database_conf *config_database_fallback(const struct config *c)
{
	return config_database(c, SLICE("*"));
}

const struct database_conf *config_database_for(const struct config *c, struct slice name)
{
	const struct database_conf *database = config_database(c, name);

	/* Who says "*" means a database of that name. */
	if (!database || !strcmp(database->name, "*"))
		return config_database_fallback(c);
	return database;
}

const struct user_conf *config_user(const struct config *c, struct slice name)
{
	return CONFIG_FIND(&c->_users, name, struct user_conf, by_name, name);
}

const struct tier_conf *config_tier(const struct config *c, struct slice name)
{
	return CONFIG_FIND(&c->_tiers, name, struct tier_conf, by_name, name);
}

const struct lane_conf *config_lane(const struct config *c, struct slice name)
{
	return CONFIG_FIND(&c->_lanes, name, struct lane_conf, by_name, name);
}

const struct peer_conf *config_peer(const struct config *c, unsigned id)
{
	for (size_t i = 0; i < c->npeers; i++)
		if (c->peers[i]->id == id)
			return c->peers[i];
	return NULL;
}

bool lane_conf_has_node(const struct lane_conf *lane, const char *host, uint16_t port)
{
	for (size_t i = 0; i < lane->nnodes; i++)
		if (!strcmp(lane->nodes[i].host, host) &&
		    (!lane->nodes[i].port || lane->nodes[i].port == port))
			return true;
	return !lane->nnodes;
}

const struct tenant_conf *config_file_tenant(const struct config *c, struct slice name)
{
	return CONFIG_FIND(&c->_tenants, name, struct tenant_conf, by_name, name);
}

const struct tenant_conf *config_file_tenant_by_business_id(const struct config *c, struct slice id)
{
	return CONFIG_FIND(&c->_tenant_ids, id, struct tenant_conf, by_business_id, business_id);
}

const struct tenant_conf *config_tenant_by_name(const struct config *c, struct slice name)
{
	const struct tenant_conf *t = config_file_tenant(c, name);

	return t || !c->roster ? t : roster_by_name(c->roster, name);
}

const struct tenant_conf *config_tenant_by_business_id(const struct config *c, struct slice id)
{
	const struct tenant_conf *t = config_file_tenant_by_business_id(c, id);

	return t || !c->roster ? t : roster_by_business_id(c->roster, id);
}

const struct tenant_conf *config_find_alias(const struct hmap *m, struct slice name)
{
	const struct config_alias *a = CONFIG_FIND(m, name, struct config_alias, link, name);

	return a ? a->tenant : NULL;
}

/* A tenant of the roster has its name only. */
static const struct tenant_conf *find_said(const struct config *c, const struct hmap *aliases,
					   enum tenant_by_way way, struct slice name)
{
	const struct tenant_conf *t = config_find_alias(aliases, name);

	return t || !c->roster || !tenant_by_has(&c->global.tenant_by, way)
		   ? t
		   : roster_by_name(c->roster, name);
}

const struct tenant_conf *config_tenant_by_user(const struct config *c, struct slice user)
{
	return find_said(c, &c->_tenant_users, TENANT_BY_USER, user);
}

const struct tenant_conf *config_tenant_by_database(const struct config *c, struct slice database)
{
	return find_said(c, &c->_tenant_dbs, TENANT_BY_DATABASE, database);
}

bool config_wants_certificates(const struct config *c)
{
	return c->global.client_tls_sslmode >= SSLMODE_VERIFY_CA ||
	       c->global.auth_type == AUTH_TYPE_CERT ||
	       (c->global.auth_type == AUTH_TYPE_HBA && c->hba && hba_wants_certificate(c->hba));
}

bool config_may_look_up(const struct config *c)
{
	return *c->global.tenant_query != '\0';
}

const struct database_conf *config_tenant_database(const struct config *c)
{
	if (*c->global.tenant_database)
		return config_database(c, slice_str(c->global.tenant_database));
	for (size_t i = 0; i < c->ndatabases; i++)
		if (strcmp(c->databases[i]->name, "*") != 0)
			return c->databases[i];
	return NULL;
}

bool config_asks_secrets(const struct config *c, const struct database_conf *database,
			 struct settings *set)
{
	settings_resolve(c, database, NULL, NULL, NULL, set);
	return *set->auth_user && *set->auth_query;
}

const char *config_own_password(const struct config *c, const struct database_conf *database,
				const char *user)
{
	const struct userlist_entry *entry = userlist_find(c->userlist, slice_str(user));

	if (*database->password && !strcmp(user, database->user))
		return database->password;
	return entry && entry->kind != PASSWORD_SCRAM ? entry->password : "";
}

const struct database_conf *config_events_database(const struct config *c)
{
	return config_database(c, slice_str(c->global.events_notify_database));
}

/* --- what holds ----------------------------------------------------------------------------- */

static void apply(const struct overrides *own, struct settings *out)
{
	for (size_t i = 0; i < own->n; i++) {
		const struct setting *setting = &settings_table[own->items[i].id];

		memcpy(setting_at(setting, out), &own->items[i].value, setting->type->size);
	}
}

void settings_resolve(const struct config *c, const struct database_conf *database,
		      const struct user_conf *user, const struct tenant_conf *tenant,
		      const struct tier_conf *tier, struct settings *out)
{
	*out = c->global;
	if (database)
		apply(&database->own, out);
	if (user)
		apply(&user->own, out);
	if (tenant)
		tier = tenant->tier;
	if (tier)
		apply(&tier->own, out);
	if (tenant)
		apply(&tenant->own, out);
}

void lane_conf_apply(const struct lane_conf *lane, struct settings *set)
{
	apply(&lane->own, set);
}

/* NULL: it says nothing of its own. */
static const struct setting_override *find_own(const struct database_conf *database,
					       enum setting_id id)
{
	const struct overrides *own = &database->own;

	for (size_t i = 0; i < own->n; i++)
		if (own->items[i].id == id)
			return &own->items[i];
	return NULL;
}

enum tenant_pool config_tenant_pool(const struct config *c, const struct database_conf *database)
{
	const struct setting_override *own = find_own(database, SETTING_tenant_pool);

	return (enum tenant_pool)(own ? own->value.word : c->global.tenant_pool);
}

unsigned config_pool_workers(const struct config *c, const struct database_conf *database)
{
	const struct setting_override *own = find_own(database, SETTING_pool_workers);

	return own ? own->value.u : c->global.pool_workers;
}

/* --- other configs made of this one --------------------------------------------------------- */

struct config *config_clone(struct config *c)
{
	struct config *clone = xnew(struct config);

	/* All but the count of references, which other threads change meanwhile. */
	memcpy(clone, c, offsetof(struct config, _refs));
	clone->_base = config_ref(c->_base ? c->_base : c);
	clone->_refs = 1;
	clone->_texts = NULL;
	if (clone->roster)
		roster_ref(clone->roster);
	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++)
		if (s->type->is_string) {
			const char **at = setting_at(s, &clone->global);

			*at = config_string(clone, slice_str(*at));
		}
	clone->changes = NULL;
	clone->nchanges = 0;
	clone->_changes = (struct hmap){ 0 };
	config_keep_changes(clone, c);
	return clone;
}

static bool may_set(const struct setting *setting, struct slice name, struct err *e)
{
	if (!setting)
		return err_set(e, "42704", "unrecognized configuration parameter \"%.*s\"",
			       SLICE_FMT(name));
	if (setting->when == AT_START)
		return err_set(e, "55P02", "%s cannot be changed without a restart", setting->name);
	if (setting->scopes & ONLY_IN_FILE)
		return err_set(e, "55P02", "%s is changed in the file, then by RELOAD",
			       setting->name);
	return true;
}

struct config *config_with(struct config *c, struct slice name, const char *text, struct err *e)
{
	const struct setting *setting = settings_find(name, SCOPE_GLOBAL);
	struct config_problems problems = { 0 };
	struct config *clone;
	bool is_good;

	if (!may_set(setting, name, e))
		return NULL;
	clone = config_clone(c);
	is_good = setting_parse(setting, config_string(clone, slice_str(text)), &clone->global, e);
	if (is_good) {
		config_check(clone, NULL, &problems);
		if (problems.nerrors)
			is_good = err_set(e, "22023", "%.*s", (int)buf_len(&problems.errors) - 1,
					  buf_head(&problems.errors));
	}
	config_problems_fini(&problems);
	if (is_good)
		return clone;
	config_unref(clone);
	return NULL;
}

struct config *config_with_roster(struct config *c, struct roster *roster)
{
	struct config *clone = config_clone(c);

	roster_unref(clone->roster);
	clone->roster = roster;
	if (roster)
		roster_publish(roster);
	return clone;
}

struct config *config_inherit_roster(struct config *candidate, const struct config *running)
{
	struct roster *roster = NULL;
	struct config *with;

	if (candidate->roster || !running->roster)
		return candidate;
	if (config_may_look_up(candidate))
		roster = roster_copy(running->roster, candidate);
	with = config_with_roster(candidate, roster);
	config_unref(candidate);
	return with;
}

void config_keep_started(struct config *candidate, const struct config *running,
			 struct config_problems *p)
{
	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++) {
		const void *old = setting_peek(s, &running->global);
		void *at = setting_at(s, &candidate->global);

		if (s->when != AT_START ||
		    setting_is_equal(s, &running->global, &candidate->global))
			continue;
		problem_note(p, (struct place){ 0 }, s->name, "the new value needs a restart");
		if (s->type->is_string)
			*(const char **)at =
			    config_string(candidate, slice_str(*(const char *const *)old));
		else
			memcpy(at, old, s->type->size);
	}
}
