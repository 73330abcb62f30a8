/* SPDX-License-Identifier: ISC
 *
 * tenant.c - the tenants that one thread has to do with.
 *
 * Knows what the configuration says of them, not how a connection tells which one it is.
 */
#include "tenant/tenant.h"

#include "base/mem.h"

#include <stdlib.h>

static void configure(struct tenant *t, const struct config *config, const struct tenant_conf *conf)
{
	t->gone =
	    conf ? strcmp(conf->business_id, t->business_id) != 0 : !config->unknown_tenant_tier;
	settings_resolve(config, NULL, NULL, conf, conf ? NULL : config->unknown_tenant_tier,
			 &t->set);
	config_changes_apply(config, SCOPE_TENANT, slice_str(t->name), &t->set);
	t->rules = settings_limit_rules(&t->set);
	atomic_store_explicit(&t->shared->is_known, conf != NULL, memory_order_relaxed);
	t->is_gated = limit_is_any(&t->rules) || t->set.max_transactions ||
		      t->set.tenant_max_server_conn || t->set.readonly || *t->set.maintenance ||
		      t->set.paused;
}

void tenants_init(struct tenants *table, struct latency_clock *clock)
{
	*table = (struct tenants){
		.clock = clock, .unclear = {.table = table, .refs = 1}
	};
	list_init(&table->unclear.servers);
	list_init(&table->unclear.shares);
	settings_defaults(&table->unclear.set);
	list_init(&table->unused);
}

static void forget(struct tenant *t)
{
	struct tenants *table = t->table;

	list_del(&t->unused);
	table->nunused--;
	hmap_remove(&table->by_name, &t->link);
	for (unsigned i = 0; i < NTENANT_COUNTS; i++)
		atomic_fetch_add_explicit(&t->shared->counts[i], t->counts[i],
					  memory_order_relaxed);
	shared_put(t->shared);
	latencies_fini(&t->times);
	free(t->name);
	free(t->business_id);
	free(t);
}

static void forget_oldest(struct tenants *table, unsigned kept)
{
	while (table->nunused > kept)
		forget(container_of(list_first(&table->unused), struct tenant, unused));
}

void tenants_fini(struct tenants *table)
{
	forget_oldest(table, 0);
	hmap_fini(&table->by_name);
}

static struct tenant *find(const struct tenants *table, struct slice name, const char *business_id,
			   uint64_t hash)
{
	for (struct hlink *l = hmap_first(&table->by_name, hash); l; l = hmap_next(l)) {
		struct tenant *t = container_of(l, struct tenant, link);

		if (slice_is_equal(slice_str(t->name), name) &&
		    !strcmp(t->business_id, business_id))
			return t;
	}
	return NULL;
}

struct tenant *tenant_get(struct tenants *table, const struct config *config, struct slice name,
			  const char *business_id, const struct tenant_conf *conf)
{
	uint64_t hash = hash_bytes(name.p, name.n);
	struct tenant *t = find(table, name, business_id, hash);

	/* One that had gone may have come back singly, without a reload. */
	if (t && t->gone)
		configure(t, config, conf);
	if (t)
		return tenant_ref(t);
	t = xnew(struct tenant);
	t->table = table;
	t->serial = ++table->last_serial;
	t->refs = 1;
	t->name = xmemdup0(name.p, name.n);
	t->business_id = xstrdup(business_id);
	t->shared = shared_get(SHARED_TENANT, name);
	list_init(&t->servers);
	list_init(&t->unused);
	list_init(&t->shares);
	latencies_init(&t->times, table->clock, false);
	configure(t, config, conf);
	hmap_insert(&table->by_name, &t->link, hash);
	return t;
}

struct tenant *tenant_ref(struct tenant *tenant)
{
	if (!tenant)
		return NULL;
	if (!tenant->refs++) {
		list_del(&tenant->unused);
		tenant->table->nunused--;
	}
	return tenant;
}

void tenant_unref(struct tenant *t)
{
	if (!t || --t->refs)
		return;
	list_push_back(&t->table->unused, &t->unused);
	t->table->nunused++;
	forget_oldest(t->table, TENANTS_KEPT);
}

void tenants_configure(struct tenants *table, const struct config *config)
{
	table->version++;
	for (struct hlink *l = hmap_walk(&table->by_name, NULL); l;
	     l = hmap_walk(&table->by_name, l)) {
		struct tenant *t = container_of(l, struct tenant, link);

		configure(t, config, config_tenant_by_name(config, slice_str(t->name)));
	}
}

static struct limit_rules rules_of(const struct config *config, const char *name)
{
	const struct tenant_conf *conf = config_tenant_by_name(config, slice_str(name));
	struct settings set;

	settings_resolve(config, NULL, NULL, conf, conf ? NULL : config->unknown_tenant_tier, &set);
	config_changes_apply(config, SCOPE_TENANT, slice_str(name), &set);
	return settings_limit_rules(&set);
}

static bool is_in_debt(const void *arg, const struct shared *s)
{
	return limit_owes(&s->limit, *(const usec_t *)arg);
}

void tenants_rescale(const struct config *old, const struct config *new, usec_t now)
{
	size_t n;
	struct shared **debtors = shared_pick(SHARED_TENANT, is_in_debt, &now, &n);

	for (size_t i = 0; i < n; i++) {
		struct shared *s = debtors[i];
		const struct limit_rules before = rules_of(old, s->name),
					 after = rules_of(new, s->name);

		limit_rescale(&s->limit, &before, &after, now);
		shared_put(s);
	}
	free(debtors);
}

const char *tenant_name(const struct tenant *tenant)
{
	return tenant && tenant->name ? tenant->name : "";
}

struct limit_rules settings_limit_rules(const struct settings *set)
{
	return (struct limit_rules){
		.rate = {set->rate.count,     set->rate.per,      set->burst },
		.exec = { set->exec_rate.count,                  set->exec_rate.per,                0 },
		.bytes = { set->bandwidth.count,                  set->bandwidth.per,                    0 },
		.quota = { [LIMIT_PER_HOUR] = set->quota.per_hour,
                         [LIMIT_PER_DAY] = set->quota.per_day}
	};
}
