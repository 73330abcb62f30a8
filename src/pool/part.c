/* SPDX-License-Identifier: ISC
 *
 * part.c - pools that several workers share: into how many parts, and what each may hold.
 *
 * Knows neither threads nor which part a client comes to (worker/worker.c).
 */
#include "pool/pool.h"

void group_settings(const struct config *config, const struct database_conf *database,
		    const struct group_key *key, struct settings *set)
{
	const struct tenant_conf *tenant = config_tenant_by_name(config, key->tenant);

	settings_resolve(config, database, config_user(config, key->user), tenant,
			 tenant || !key->tenant.n ? NULL : config->unknown_tenant_tier, set);
	config_changes_apply(config, SCOPE_TENANT, key->tenant, set);
}

static unsigned at_most(unsigned parts, unsigned pool_size)
{
	return pool_size && pool_size < parts ? pool_size : parts;
}

unsigned group_parts(const struct config *config, const struct database_conf *database,
		     const struct group_key *key)
{
	unsigned parts = config_pool_workers(config, database);
	struct settings set;

	/* Asked twice for each login. */
	if (parts == 1)
		return 1;
	group_settings(config, database, key, &set);
	parts = at_most(parts, set.default_pool_size);
	for (size_t i = 0; i < config->nlanes && parts > 1; i++) {
		struct settings own = { 0 };

		lane_conf_apply(config->lanes[i], &own);
		parts = at_most(parts, own.default_pool_size);
	}
	return parts ? parts : 1;
}

unsigned group_portion(const struct group *group, unsigned whole)
{
	return whole / group->parts + (group->part < whole % group->parts);
}
