/* SPDX-License-Identifier: ISC
 *
 * build.c - filling a config: strings, entries, nodes, overrides, tenants' indexes, problems.
 *
 * Knows neither files and sections (load.c) nor rules between settings (check.c).
 */
#include "config/build.h"

#include "base/mem.h"
#include "config/types.h"

#include <stdlib.h>

/* --- problems ------------------------------------------------------------------------------- */

static void PGT_PRINTF(4, 0) put_problem(struct buf *out, struct place where, const char *setting,
					 const char *fmt, va_list ap)
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

/* --- strings and lists ---------------------------------------------------------------------- */

void *items_grow(void *items, size_t n, size_t size)
{
	if ((n & (n - 1)) != 0)
		return items; /* not a power of two: there is room up to the next one */
	return xrealloc(items, (n ? n * 2 : 1) * size);
}

#define TEXT_BYTES ((size_t)8 << 10)

static struct config_text *add_text(struct config *c, size_t n)
{
	size_t size = n > TEXT_BYTES ? n : TEXT_BYTES;
	struct config_text *text = xmalloc(sizeof(*text) + size);

	text->next = c->_texts;
	text->used = 0;
	text->size = size;
	c->_texts = text;
	return text;
}

const char *config_string(struct config *c, struct slice s)
{
	struct config_text *text = c->_texts;
	char *copy;

	if (!s.n)
		return "";
	if (!text || text->size - text->used <= s.n)
		text = add_text(c, s.n + 1);
	copy = text->bytes + text->used;
	memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	text->used += s.n + 1;
	return copy;
}

struct config *config_new(void)
{
	struct config *c = xnew(struct config);

	settings_defaults(&c->global);
	c->_refs = 1;
	return c;
}

void config_empty_database(struct database_conf *d)
{
	free(d->nodes);
	free(d->own.items);
}

void config_empty_user(struct user_conf *u)
{
	free(u->own.items);
}

void config_empty_tier(struct tier_conf *t)
{
	free(t->own.items);
}

void config_empty_tenant(struct tenant_conf *t)
{
	free(t->own.items);
}

void config_empty_lane(struct lane_conf *l)
{
	free(l->nodes);
	free(l->own.items);
}

/* --- entries -------------------------------------------------------------------------------- */

static void index_by(struct hmap *m, struct hlink *link, const char *key)
{
	hmap_insert(m, link, hash_bytes(key, strlen(key)));
}

/* The kinds of entries differ in what they hold, not in how they are kept.  An entry that
 * comes again is emptied and keeps its place. */
#define DEFINE_ADD(noun)                                                                           \
	struct noun##_conf *config_add_##noun(struct config *c, struct slice name)                 \
	{                                                                                          \
		struct noun##_conf *entry =                                                        \
		    CONFIG_FIND(&c->_##noun##s, name, struct noun##_conf, by_name, name);          \
                                                                                                   \
		if (entry) {                                                                       \
			hmap_remove(&c->_##noun##s, &entry->by_name);                              \
			config_empty_##noun(entry);                                                \
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
DEFINE_ADD(lane)

struct peer_conf *config_add_peer(struct config *c, unsigned id)
{
	struct peer_conf *peer = (struct peer_conf *)config_peer(c, id);

	if (peer)
		return peer;
	peer = xnew(struct peer_conf);
	peer->id = id;
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

/* Whether a list has a word for each node, or one for all. */
static bool is_for_all(const struct database_conf *d, const char *list, const char *what,
		       struct err *e)
{
	size_t n = count_words(list);

	return n == 1 || n == d->nnodes ||
	       err_set(e, "22023",
		       "%zu %ss for %zu hosts: give one %s for each host, "
		       "or one for all",
		       n, what, d->nnodes, what);
}

bool config_set_nodes(struct config *c, struct database_conf *d, const char *hosts,
		      const char *ports, struct err *e)
{
	d->nnodes = count_words(hosts);
	d->nodes = xcalloc(d->nnodes, sizeof(*d->nodes));
	for (size_t i = 0; i < d->nnodes; i++)
		d->nodes[i] = (struct node_conf){ .host = "", .weight = 1, .zone = "" };
	if (!is_for_all(d, ports, "port", e))
		return false;
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

bool config_set_weights(struct database_conf *d, const char *weights, struct err *e)
{
	if (!is_for_all(d, weights, "weight", e))
		return false;
	for (size_t i = 0; i < d->nnodes; i++) {
		struct slice weight = take_word(&weights);
		uint64_t number = 1;

		if (weight.n && !number_parse(weight, NODE_WEIGHT_MAX, &number))
			return err_set(e, "22023", "\"%.*s\" is not a weight from 0 to %u",
				       SLICE_FMT(weight), NODE_WEIGHT_MAX);
		d->nodes[i].weight = (unsigned)number;
	}
	return true;
}

bool config_set_zones(struct config *c, struct database_conf *d, const char *zones, struct err *e)
{
	if (!is_for_all(d, zones, "zone", e))
		return false;
	for (size_t i = 0; i < d->nnodes; i++)
		d->nodes[i].zone = config_string(c, take_word(&zones));
	return true;
}

/* host, host:port, [address]:port. */
static bool read_lane_node(struct config *c, struct slice word, struct node_conf *node,
			   struct err *e)
{
	const char *end = word.p + word.n, *bracket = memchr(word.p, ']', word.n);
	bool is_bracketed = bracket && *word.p == '[';
	const char *colon = memchr(is_bracketed ? bracket : word.p, ':',
				   (size_t)(end - (is_bracketed ? bracket : word.p)));
	struct slice host =
	    is_bracketed ? slice_of(word.p + 1, (size_t)(bracket - word.p - 1)) : word;
	uint64_t port = 0;

	/* An address of IPv6 without brackets has no port. */
	if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
		struct slice number = slice_of(colon + 1, (size_t)(end - colon - 1));

		if (!is_bracketed)
			host.n = (size_t)(colon - word.p);
		if (!number_parse(number, UINT16_MAX, &port) || !port)
			return err_set(e, "22023", "\"%.*s\" is not a port from 1 to 65535",
				       SLICE_FMT(number));
	}
	node->host = config_string(c, host);
	node->port = (uint16_t)port;
	return true;
}

bool config_set_lane_nodes(struct config *c, struct lane_conf *l, const char *list, struct err *e)
{
	struct slice rest = slice_str(list), word;

	while (list_next(&rest, &word)) {
		l->nodes = items_grow(l->nodes, l->nnodes, sizeof(*l->nodes));
		if (!read_lane_node(c, word, &l->nodes[l->nnodes], e))
			return false;
		l->nnodes++;
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

	if (config_find_alias(m, name))
		return config_find_alias(m, name) == tenant;
	a = xnew(struct config_alias);
	*a = (struct config_alias){ c->_aliases, config_string(c, name), tenant, { 0 } };
	c->_aliases = a;
	index_by(m, &a->link, a->name);
	return true;
}

static bool is_tried(const struct config *c, enum tenant_by_way way)
{
	return tenant_by_has(&c->global.tenant_by, way);
}

/* `key = word` leads to the tenant from now on. */
static void link_word(struct draft *d, struct hmap *m, const char *key, struct slice word,
		      const struct tenant_conf *tenant)
{
	if (!add_alias(d->config, m, word, tenant))
		problem_add(d->problems, d->tenants[tenant->index].place, tenant->name,
			    "%s = %.*s leads to tenant %s already", key, SLICE_FMT(word),
			    config_find_alias(m, word)->name);
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
