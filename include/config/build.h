/* SPDX-License-Identifier: ISC
 *
 * build.h - how a config comes to be; for the files of this folder only.
 *
 * A draft is a config that is still being filled, and what has to be remembered until all of it
 * has been read.  One thread.
 */
#ifndef PGT_CONFIG_BUILD_H
#define PGT_CONFIG_BUILD_H

#include "config/config.h"

/* Where something stands.  file NULL: not in a file; line 0: the file as a whole. */
struct place {
	const char *file;
	unsigned line;
};

/* What [tenants] said and only makes sense when all sections have been read. */
struct tenant_draft {
	struct place place;
	const char *tier; /* "" for none */
};

/* An entry that names a lane, which may stand behind it, or a lane itself. */
struct lane_use {
	struct place place;
	const char *owner;
	const char *lane;
};

struct draft {
	struct config *config;
	struct config_problems *problems;
	struct place places[NSETTINGS]; /* of the global values, or the first file */
	struct place *tier_places;      /* by index of the tier */
	size_t ntier_places;
	struct tenant_draft *tenants; /* by index of the tenant */
	size_t ntenants;
	struct lane_use *lane_uses;
	size_t nlane_uses;
};

void problem_add(struct config_problems *p, struct place where, const char *setting,
		 const char *fmt, ...) PGT_PRINTF(4, 5);
void problem_note(struct config_problems *p, struct place where, const char *setting,
		  const char *fmt, ...) PGT_PRINTF(4, 5);

/* Strings, one behind the other: a hundred thousand tenants have some each. */
struct config_text {
	struct config_text *next;
	size_t used, size;
	char bytes[];
};

/* Every setting at its default, one reference. */
struct config *config_new(void);
/* A copy that lives as long as c. */
const char *config_string(struct config *c, struct slice s);

/* The entry of that name, new or emptied: the last of several counts. */
struct database_conf *config_add_database(struct config *c, struct slice name);
struct user_conf *config_add_user(struct config *c, struct slice name);
struct tier_conf *config_add_tier(struct config *c, struct slice name);
struct tenant_conf *config_add_tenant(struct config *c, struct slice name);
struct lane_conf *config_add_lane(struct config *c, struct slice name);
struct peer_conf *config_add_peer(struct config *c, unsigned id);

/* items with room for one more than n. */
void *items_grow(void *items, size_t n, size_t size);

/* host= and port=, paired as libpq does: a list of each, or one port for all hosts.  d has no nodes
 * yet. */
bool config_set_nodes(struct config *c, struct database_conf *d, const char *hosts,
		      const char *ports, struct err *e);

/* node_weight= and node_zone=, in the same way; of nodes that are set. */
bool config_set_weights(struct database_conf *d, const char *weights, struct err *e);
bool config_set_zones(struct config *c, struct database_conf *d, const char *zones, struct err *e);

/* A lane's list of host:port.  l has no nodes yet. */
bool config_set_lane_nodes(struct config *c, struct lane_conf *l, const char *list, struct err *e);

/* Sets or replaces the value of a setting.  A string borrows text. */
bool overrides_set(struct overrides *own, const struct setting *setting, const char *text,
		   struct err *e);

/* Frees what an entry holds, not the entry. */
void config_empty_database(struct database_conf *d);
void config_empty_user(struct user_conf *u);
void config_empty_tier(struct tier_conf *t);
void config_empty_tenant(struct tenant_conf *t);
void config_empty_lane(struct lane_conf *l);

/* A name that a tenant is found by. */
struct config_alias {
	struct config_alias *next; /* in config._aliases, to be freed */
	const char *name;
	const struct tenant_conf *tenant;
	struct hlink link;
};

/* A config that borrows c's lists and has global values of its own. */
struct config *config_clone(struct config *c);

/* Frees what the console has changed. */
void config_empty_changes(struct config *c);

/* The object whose link (at link_at) is in m and whose string (at key_at) is key, or NULL. */
void *config_find(const struct hmap *m, struct slice key, size_t link_at, size_t key_at);

#define CONFIG_FIND(map, key, type, link, string)                                                  \
	((type *)config_find((map), (key), offsetof(type, link), offsetof(type, string)))

/* The tenant that an index of aliases leads to, or NULL. */
const struct tenant_conf *config_find_alias(const struct hmap *m, struct slice name);

/* Tenants of the file alone. */
const struct tenant_conf *config_file_tenant(const struct config *c, struct slice name);
const struct tenant_conf *config_file_tenant_by_business_id(const struct config *c,
							    struct slice id);

/* Ties tenants to their tiers and makes the tenants' indexes. */
void draft_link(struct draft *d);

/* Says of each database which servers it is on: .cluster and .has_replicas. */
void config_find_clusters(struct config *c);

/* The rules that span settings.  places: of the global values, or NULL. */
void config_check(const struct config *c, const struct place *places, struct config_problems *p);
/* The rules for tiers and tenants. */
void draft_check(const struct draft *d);
/* The same for one tenant's values.  False: *e. */
bool settings_check_limits(const struct settings *s, struct err *e);

#endif
