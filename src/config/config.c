/* SPDX-License-Identifier: ISC
 *
 * config.c - a config's life: made, filled, looked things up in, resolved, shared, freed.
 *
 * Knows neither files (load.c) nor rules between settings (check.c).
 */
#include "config/config.h"

#include "auth/userlist.h"
#include "base/mem.h"
#include "config/build.h"
#include "config/types.h"

#include <stdlib.h>

/* A name that a tenant is found by. */
struct config_alias {
	struct config_alias *next; /* in config._aliases, to be freed */
	const char *name;
	const struct tenant_conf *tenant;
	struct hlink link;
};

/* --- problems ------------------------------------------------------------------------------- */

static void put_problem(struct buf *out, struct place where, const char *setting, const char *fmt,
			va_list ap)
{
	if (where.file && where.line)
		buf_printf(out, "%s:%u: ", where.file, where.line);
	else if (where.file)
		buf_printf(out, "%s: ", where.file);
	if (setting)
		buf_printf(out, "%s: ", setting);
	buf_vprintf(out, fmt, ap);
	buf_put_u8(out, '\n');
}

void problem_add(struct config_problems *p, struct place where, const char *setting,
		 const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_problem(&p->errors, where, setting, fmt, ap);
	va_end(ap);
	p->nerrors++;
}

void problem_note(struct config_problems *p, struct place where, const char *setting,
		  const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	put_problem(&p->notes, where, setting, fmt, ap);
	va_end(ap);
	p->nnotes++;
}

void config_problems_fini(struct config_problems *p)
{
	buf_fini(&p->errors);
	buf_fini(&p->notes);
	*p = (struct config_problems){ 0 };
}

/* --- lifetime ------------------------------------------------------------------------------- */

void *items_grow(void *items, size_t n, size_t size)
{
	if ((n & (n - 1)) != 0)
		return items; /* not a power of two: there is room up to the next one */
	return xrealloc(items, (n ? n * 2 : 1) * size);
}

const char *config_string(struct config *c, struct slice s)
{
	char *copy;

	if (!s.n)
		return "";
	copy = xmemdup0(s.p, s.n);
	c->_strings = items_grow(c->_strings, c->_nstrings, sizeof(*c->_strings));
	c->_strings[c->_nstrings++] = copy;
	return copy;
}

struct config *config_new(void)
{
	struct config *c = xnew(struct config);

	settings_defaults(&c->global);
	c->_refs = 1;
	return c;
}

struct config *config_ref(struct config *c)
{
	__atomic_add_fetch(&c->_refs, 1, __ATOMIC_RELAXED);
	return c;
}

static void free_strings(struct config *c)
{
	for (size_t i = 0; i < c->_nstrings; i++) {
		mem_wipe(c->_strings[i], strlen(c->_strings[i]));
		free(c->_strings[i]);
	}
	free(c->_strings);
}

static void database_empty(struct database_conf *d)
{
	free(d->nodes);
	free(d->own.items);
}

static void user_empty(struct user_conf *u)
{
	free(u->own.items);
}

static void tier_empty(struct tier_conf *t)
{
	free(t->own.items);
}

static void tenant_empty(struct tenant_conf *t)
{
	free(t->own.items);
}

#define FREE_LIST(c, noun)                                                                         \
	do {                                                                                       \
		for (size_t i = 0; i < (c)->n##noun##s; i++) {                                     \
			noun##_empty((c)->noun##s[i]);                                             \
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
	for (size_t i = 0; i < c->npeers; i++)
		free(c->peers[i]);
	free(c->peers);
}

static void free_indexes(struct config *c)
{
	struct hmap *maps[] = { &c->_databases,  &c->_users,        &c->_tiers,     &c->_tenants,
				&c->_tenant_ids, &c->_tenant_users, &c->_tenant_dbs };

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
	}
	free_strings(c);
	free(c);
}

/* --- lookup --------------------------------------------------------------------------------- */

/* The object whose link (at link_at) is in m and whose string (at key_at) is key. */
static void *find(const struct hmap *m, struct slice key, size_t link_at, size_t key_at)
{
	struct hlink *l = hmap_first(m, hash_bytes(key.p, key.n));

	for (; l; l = hmap_next(l)) {
		char *object = (char *)l - link_at;

		if (slice_is_equal(slice_str(*(const char **)(object + key_at)), key))
			return object;
	}
	return NULL;
}

#define FIND(map, key, type, link, string)                                                         \
	((type *)find((map), (key), offsetof(type, link), offsetof(type, string)))

const struct database_conf *config_database(const struct config *c, struct slice name)
{
	return FIND(&c->_databases, name, struct database_conf, by_name, name);
}

const struct database_conf *config_database_fallback(const struct config *c)
{
	return config_database(c, SLICE("*"));
}

const struct user_conf *config_user(const struct config *c, struct slice name)
{
	return FIND(&c->_users, name, struct user_conf, by_name, name);
}

const struct tier_conf *config_tier(const struct config *c, struct slice name)
{
	return FIND(&c->_tiers, name, struct tier_conf, by_name, name);
}

const struct tenant_conf *config_tenant_by_name(const struct config *c, struct slice name)
{
	return FIND(&c->_tenants, name, struct tenant_conf, by_name, name);
}

const struct tenant_conf *config_tenant_by_business_id(const struct config *c, struct slice id)
{
	return FIND(&c->_tenant_ids, id, struct tenant_conf, by_business_id, business_id);
}

static const struct tenant_conf *find_alias(const struct hmap *m, struct slice name)
{
	const struct config_alias *a = FIND(m, name, struct config_alias, link, name);

	return a ? a->tenant : NULL;
}

const struct tenant_conf *config_tenant_by_user(const struct config *c, struct slice user)
{
	return find_alias(&c->_tenant_users, user);
}

const struct tenant_conf *config_tenant_by_database(const struct config *c, struct slice database)
{
	return find_alias(&c->_tenant_dbs, database);
}

/* --- filling -------------------------------------------------------------------------------- */

static void index_by(struct hmap *m, struct hlink *link, const char *key)
{
	hmap_insert(m, link, hash_bytes(key, strlen(key)));
}

/* The four kinds of entries differ in what they hold, not in how they are kept.  An entry that
 * comes again is emptied and keeps its place. */
#define DEFINE_ADD(noun)                                                                           \
	struct noun##_conf *config_add_##noun(struct config *c, struct slice name)                 \
	{                                                                                          \
		struct noun##_conf *entry =                                                        \
		    FIND(&c->_##noun##s, name, struct noun##_conf, by_name, name);                 \
                                                                                                   \
		if (entry) {                                                                       \
			hmap_remove(&c->_##noun##s, &entry->by_name);                              \
			noun##_empty(entry);                                                       \
		} else {                                                                           \
			entry = xnew(struct noun##_conf);                                          \
			c->noun##s = items_grow(c->noun##s, c->n##noun##s, sizeof(*c->noun##s));   \
			entry->index = c->n##noun##s++;                                            \
			c->noun##s[entry->index] = entry;                                          \
		}                                                                                  \
		*entry =                                                                           \
		    (struct noun##_conf){ .name = config_string(c, name), .index = entry->index }; \
		index_by(&c->_##noun##s, &entry->by_name, entry->name);                            \
		return entry;                                                                      \
	}

DEFINE_ADD(database)
DEFINE_ADD(user)
DEFINE_ADD(tier)
DEFINE_ADD(tenant)

struct peer_conf *config_add_peer(struct config *c)
{
	struct peer_conf *peer = xnew(struct peer_conf);

	c->peers = items_grow(c->peers, c->npeers, sizeof(*c->peers));
	c->peers[c->npeers++] = peer;
	return peer;
}

static size_t count_words(const char *list)
{
	size_t n = 1;

	for (; *list; list++)
		n += *list == ',';
	return n;
}

/* Takes the next of several words, empty ones too; the last one stays. */
static struct slice take_word(const char **list)
{
	size_t n = strcspn(*list, ",");
	struct slice word = slice_of(*list, n);

	if ((*list)[n])
		*list += n + 1;
	while (word.n && *word.p == ' ')
		word = slice_of(word.p + 1, word.n - 1);
	while (word.n && word.p[word.n - 1] == ' ')
		word.n--;
	return word;
}

bool config_set_nodes(struct config *c, struct database_conf *d, const char *hosts,
		      const char *ports, struct err *e)
{
	size_t nports = count_words(ports);

	d->nnodes = count_words(hosts);
	d->nodes = xcalloc(d->nnodes, sizeof(*d->nodes));
	if (nports != 1 && nports != d->nnodes)
		return err_set(e, "22023",
			       "%zu ports for %zu hosts: give one port for each host, "
			       "or one for all",
			       nports, d->nnodes);
	for (size_t i = 0; i < d->nnodes; i++) {
		struct slice port = take_word(&ports);
		uint64_t number = 5432;

		if (port.n && (!number_parse(port, UINT16_MAX, &number) || !number))
			return err_set(e, "22023", "\"%.*s\" is not a port from 1 to 65535",
				       SLICE_FMT(port));
		d->nodes[i].host = config_string(c, take_word(&hosts));
		d->nodes[i].port = (uint16_t)number;
	}
	return true;
}

/* Whether a value is all zero, of whatever type. */
static bool is_zero(const struct setting *setting, const union setting_value *value)
{
	static const union setting_value zero;

	return memcmp(value, &zero, setting->type->size) == 0;
}

static void drop_override(struct overrides *own, enum setting_id id)
{
	for (size_t i = 0; i < own->n; i++)
		if (own->items[i].id == id)
			own->items[i--] = own->items[--own->n];
}

bool overrides_set(struct overrides *own, const struct setting *setting, const char *text,
		   struct err *e)
{
	enum setting_id id = (enum setting_id)(setting - settings_table);
	struct setting_override item = { .id = id };

	if (!setting->type->parse(setting->type, text, &item.value, e))
		return false;
	drop_override(own, id);
	if (setting->scopes & ZERO_INHERITS && is_zero(setting, &item.value))
		return true;
	own->items = items_grow(own->items, own->n, sizeof(*own->items));
	own->items[own->n++] = item;
	return true;
}

/* --- indexes of tenants --------------------------------------------------------------------- */

/* False: another tenant has that name already. */
static bool add_alias(struct config *c, struct hmap *m, struct slice name,
		      const struct tenant_conf *tenant)
{
	struct config_alias *a;

	if (find_alias(m, name))
		return find_alias(m, name) == tenant;
	a = xnew(struct config_alias);
	*a = (struct config_alias){ c->_aliases, config_string(c, name), tenant, { 0 } };
	c->_aliases = a;
	index_by(m, &a->link, a->name);
	return true;
}

static bool is_tried(const struct config *c, enum tenant_by_way way)
{
	return memchr(c->global.tenant_by.ways, way, c->global.tenant_by.n) != NULL;
}

/* `key = word` leads to the tenant from now on. */
static void link_word(struct draft *d, struct hmap *m, const char *key, struct slice word,
		      const struct tenant_conf *tenant)
{
	if (!add_alias(d->config, m, word, tenant))
		problem_add(d->problems, d->tenants[tenant->index].place, tenant->name,
			    "%s = %.*s leads to tenant %s already", key, SLICE_FMT(word),
			    find_alias(m, word)->name);
}

static void link_list(struct draft *d, struct hmap *m, const char *key, const char *list,
		      const struct tenant_conf *tenant)
{
	struct slice rest = slice_str(list), word;

	if (!rest.n)
		link_word(d, m, key, slice_str(tenant->name), tenant);
	while (list_next(&rest, &word))
		link_word(d, m, key, word, tenant);
}

static void link_tenant(struct draft *d, struct tenant_conf *tenant)
{
	const struct tenant_draft *draft = &d->tenants[tenant->index];
	struct config *c = d->config;

	if (*draft->tier && !(tenant->tier = config_tier(c, slice_str(draft->tier))))
		problem_add(d->problems, draft->place, tenant->name,
			    "there is no tier \"%s\": add it to [tiers]", draft->tier);
	if (!*tenant->business_id)
		problem_add(d->problems, draft->place, tenant->name,
			    "business_id is missing: give the id that its rows carry");
	else if (config_tenant_by_business_id(c, slice_str(tenant->business_id)))
		problem_add(d->problems, draft->place, tenant->name,
			    "business_id %s belongs to another tenant already",
			    tenant->business_id);
	else
		index_by(&c->_tenant_ids, &tenant->by_business_id, tenant->business_id);
	if (is_tried(c, TENANT_BY_USER))
		link_list(d, &c->_tenant_users, "user", tenant->users, tenant);
	if (is_tried(c, TENANT_BY_DATABASE))
		link_list(d, &c->_tenant_dbs, "database", tenant->databases, tenant);
}

void draft_link(struct draft *d)
{
	struct config *c = d->config;

	for (size_t i = 0; i < c->ntenants; i++)
		link_tenant(d, c->tenants[i]);
	if (strcmp(c->global.unknown_tenant, "reject") == 0)
		return;
	c->unknown_tenant_tier = config_tier(c, slice_str(c->global.unknown_tenant));
	if (!c->unknown_tenant_tier)
		problem_add(d->problems, d->places[SETTING_unknown_tenant], "unknown_tenant",
			    "there is no tier \"%s\": use reject or a name of [tiers]",
			    c->global.unknown_tenant);
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

/* --- other configs made of this one --------------------------------------------------------- */

/* A config that borrows c's lists and has global values of its own. */
static struct config *config_clone(struct config *c)
{
	struct config *clone = xnew(struct config);

	*clone = *c;
	clone->_base = config_ref(c->_base ? c->_base : c);
	clone->_refs = 1;
	clone->_strings = NULL;
	clone->_nstrings = 0;
	for (const struct setting *s = settings_table; s < settings_table + NSETTINGS; s++)
		if (s->type->is_string) {
			const char **at = setting_at(s, &clone->global);

			*at = config_string(clone, slice_str(*at));
		}
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
