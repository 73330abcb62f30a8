/* SPDX-License-Identifier: ISC
 *
 * group.c - the pools of one database, user and tenant.
 *
 * Knows whom they are for and what settings hold, not who uses them.
 */
#include "pool/pool.h"

#include "base/mem.h"
#include "net/conn.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "sql/catalog.h"
#include "sql/leaving.h"

#include <stdlib.h>

uint64_t group_key_hash(const struct group_key *key)
{
	uint64_t hash = hash_bytes(key->database.p, key->database.n);

	hash = hash_more(hash, key->user.p, key->user.n);
	return hash_more(hash, key->tenant.p, key->tenant.n);
}

bool group_is_for(const struct group *group, const struct group_key *key)
{
	return slice_is_equal(slice_str(group->name), key->database) &&
	       slice_is_equal(slice_str(group->user), key->user) &&
	       slice_is_equal(slice_str(tenant_name(group->tenant)), key->tenant) &&
	       group->replication == key->replication && group->part == key->part;
}

struct group_key group_key(const struct group *group)
{
	return (struct group_key){ slice_str(group->name), slice_str(group->user),
				   slice_str(tenant_name(group->tenant)), group->replication,
				   group->part };
}

static struct shared *login_record(const struct group *group)
{
	struct buf name = { 0 };
	struct shared *s;

	shared_name_login(&name, group->name, group->user);
	s = shared_get(SHARED_LOGIN, buf_peek(&name));
	buf_fini(&name);
	return s;
}

void pool_init(struct pool *pool, struct group *group, unsigned node)
{
	pool->group = group;
	pool->set = &group->set;
	pool->node = node;
	pool->comebacks = group->nodes->nodes[node].comebacks;
	for (unsigned state = 0; state < SLOT_NSTATES; state++)
		list_init(&pool->slots[state]);
	list_init(&pool->waiting);
	list_init(&pool->mates);
	list_init(&pool->holding);
}

void pool_fini(struct pool *pool)
{
	login_wait_leave(&pool->login_wait, loop_now(pool->group->net->loop));
	list_del(&pool->holding);
	turns_free(pool->turns);
}

struct group *group_new(struct net *net, struct config *config,
			const struct database_conf *database, const struct group_key *key,
			struct tenant *tenant, struct node_set *nodes, struct node_times *times)
{
	struct group *group = xnew(struct group);

	group->net = net;
	group->key_hash = group_key_hash(key);
	group->name = xmemdup0(key->database.p, key->database.n);
	group->dbname = xstrdup(*database->dbname ? database->dbname : group->name);
	group->user = xmemdup0(key->user.p, key->user.n);
	group->tenant = tenant_ref(tenant);
	group->replication = key->replication;
	group->part = key->part;
	group->nodes = node_set_ref(nodes);
	group->times = times;
	group->npools = nodes->n;
	group->pools = xcalloc(group->npools, sizeof(*group->pools));
	group->serves = xcalloc(group->npools, sizeof(*group->serves));
	for (unsigned i = 0; i < group->npools; i++)
		pool_init(&group->pools[i], group, i);
	list_init(&group->lanes);
	pool_init(&group->limbo, group, 0);
	group->database_shared = shared_get(SHARED_DATABASE, key->database);
	group->user_shared = shared_get(SHARED_USER, key->user);
	group->login_shared = login_record(group);
	param_sets_init(&group->params);
	list_init(&group->clients);
	group_configure(group, config, database);
	return group;
}

static void drop_password(struct credential *c)
{
	if (c->password)
		mem_wipe(c->password, strlen(c->password));
	free(c->password);
	c->password = NULL;
}

void credential_set_password(struct credential *c, const char *password)
{
	drop_password(c);
	c->password = xstrdup(password);
	c->has_password = true;
}

static void credential_wipe(struct credential *c)
{
	drop_password(c);
	mem_wipe(c, sizeof(*c));
}

static void forget_pinners(struct group *group)
{
	HMAP_FOREACH_SAFE (l, &group->pinners) {
		hmap_remove(&group->pinners, l);
		free(container_of(l, struct pinner, link));
	}
	hmap_fini(&group->pinners);
}

void group_free(struct group *group)
{
	group_part(group);
	lanes_free(group);
	for (unsigned i = 0; i < group->npools; i++)
		pool_fini(&group->pools[i]);
	while (group->nspare_waiters)
		free(group->spare_waiters[--group->nspare_waiters]);
	forget_pinners(group);
	param_sets_fini(&group->params);
	credential_wipe(&group->credential);
	shared_put(group->database_shared);
	shared_put(group->user_shared);
	shared_put(group->login_shared);
	shared_put(group->fence_shared);
	sql_catalog_unref(group->catalog);
	sql_leaving_unref(group->leaving);
	node_set_unref(group->nodes);
	config_unref(group->config);
	free(group->pools);
	free(group->serves);
	free(group->name);
	free(group->dbname);
	free(group->user);
	tenant_unref(group->tenant);
	free(group);
}

/* Its connection serves one client for as long as that stays, with whatever it streams. */
static void settle_for_replication(struct settings *set)
{
	set->pool_mode = POOL_MODE_SESSION;
	set->min_pool_size = 0;
	set->server_lifetime = 0; /* one use */
	set->query_timeout = 0;
}

/* What is switched for all and for its database. */
static void take_switches(struct group *group)
{
	struct settings all, own;

	settings_resolve(group->config, NULL, NULL, NULL, NULL, &all);
	config_changes_apply(group->config, SCOPE_GLOBAL, SLICE(""), &all);
	settings_resolve(group->config, group->database_conf, NULL, NULL, NULL, &own);
	config_changes_apply(group->config, SCOPE_DATABASE, slice_str(group->name), &own);
	group->readonly = all.readonly || own.readonly;
	group->maintenance = *all.maintenance ? all.maintenance : own.maintenance;
	group->maintenance_wait = *all.maintenance ? all.maintenance_wait : own.maintenance_wait;
	group->is_gated = group->readonly || *group->maintenance;
}

/* It is that of all entries by which the user comes to its database. */
static void take_fence(struct group *group)
{
	struct buf name = { 0 };
	struct shared *fence;

	shared_name_fence(&name, group->database_conf->cluster, group->dbname, group->user);
	fence = shared_get(SHARED_FENCE, buf_peek(&name));
	buf_fini(&name);
	/* The record may be a new one, and its user not new. */
	if (fence != group->fence_shared)
		fence_raise(&fence->login_fence);
	shared_put(group->fence_shared);
	group->fence_shared = fence;
}

/* A tenant may write to one database what it reads in another, and anybody by one entry what it
 * reads by another. */
static bool has_fence(const struct group *group)
{
	const struct config *config = group->config;
	bool has_replicas = group->nodes->n > 1 || group->database_conf->has_replicas;

	for (size_t i = 0; i < config->ndatabases && group->has_tenants && !has_replicas; i++)
		has_replicas = config->databases[i]->nnodes > 1;
	return has_replicas && group->set.read_your_writes != READ_YOUR_WRITES_OFF;
}

/* What is replicated streams for hours, and would be all that is seen. */
static bool is_measured(const struct group *group)
{
	return group->set.latency_histograms && !group->replication;
}

void pool_configure(struct pool *pool)
{
	const struct group *group = pool->group;

	pool->times = is_measured(group) ? &group->times->at[pool->node] : NULL;
	if (group->is_shared && !group->replication && !pool->turns)
		pool->turns = turns_new();
	if (pool->turns)
		turns_configure(pool->turns, pool_portion(pool), loop_now(group->net->loop));
}

void group_configure(struct group *group, struct config *config,
		     const struct database_conf *database)
{
	const struct group_key key = group_key(group);
	struct config *old = group->config;

	group->config = config_ref(config);
	group->database_conf = database;
	group->has_tenants = config->global.tenant_by.n > 0;
	group->is_shared = group->has_tenants && !group->tenant;
	group_settings(config, database, &key, &group->set);
	group->parts = group_parts(config, database, &key);
	take_switches(group);
	group->usual.pool = NULL;
	take_fence(group);
	group->has_fence = has_fence(group);
	if (group->replication)
		settle_for_replication(&group->set);
	lanes_configure(group);
	GROUP_FOREACH_POOL (pool, group)
		pool_configure(pool);
	config_unref(old);
}

static struct pinner *find_pinner(const struct group *group, const char *tenant)
{
	struct hlink *l = hmap_first(&group->pinners, hash_bytes(tenant, strlen(tenant)));

	for (; l; l = hmap_next(l)) {
		struct pinner *p = container_of(l, struct pinner, link);

		if (!strcmp(p->tenant, tenant))
			return p;
	}
	return NULL;
}

struct pinner *group_pinner(struct group *group, const struct tenant *tenant)
{
	const char *name = tenant_name(tenant);
	struct pinner *p = find_pinner(group, name);

	if (!p && group->pinners.count >= GROUP_PINNERS_MAX) {
		name = "";
		p = find_pinner(group, name);
	}
	if (p)
		return p;
	p = xcalloc(1, sizeof(*p) + strlen(name) + 1);
	strcpy(p->tenant, name);
	hmap_insert(&group->pinners, &p->link, hash_bytes(name, strlen(name)));
	return p;
}

void group_join(struct group *group, struct group *other)
{
	for (unsigned i = 0; i < group->npools; i++)
		list_push_back(&other->pools[i].mates, &group->pools[i].mates);
}

void group_part(struct group *group)
{
	for (unsigned i = 0; i < group->npools; i++)
		list_del(&group->pools[i].mates);
}

bool group_is_unused(const struct group *group)
{
	if (group->nclients)
		return false;
	GROUP_FOREACH_POOL (pool, group)
		if (pool_size(pool) || pool->nwaiting)
			return false;
	return true;
}
