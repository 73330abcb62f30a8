/* SPDX-License-Identifier: ISC
 *
 * config.h - one version of the configuration: settings, databases, users, tiers, tenants, lanes.
 *
 * A config is built as a candidate, checked as a whole and then never changed; threads share it by
 * reference count, and everything found in it lives as long as the reference.  A reload builds the
 * next one; a candidate with a problem is thrown away and the old one stays (I8).
 *
 * Opens no file itself: the caller's config_read_file_fn does.  Problems never contain a secret.
 */
#ifndef PGT_CONFIG_CONFIG_H
#define PGT_CONFIG_CONFIG_H

#include "auth/scram.h"
#include "base/hash.h"
#include "config/settings.h"

struct hba;
struct ident;
struct directory;
struct jwt_keys;
struct roster;
struct sign_keys;
struct userlist;

/* --- what stands in it ---------------------------------------------------------------------- */

/* A value that a database, user, tier, tenant or lane has of its own. */
struct setting_override {
	enum setting_id id;
	union setting_value value;
};

struct overrides {
	struct setting_override *items;
	size_t n;
};

#define NODE_WEIGHT_MAX 1000u

struct node_conf {
	const char *host; /* name, address, or directory of a Unix socket; "": unix_socket_dir */
	uint16_t port;
	/* Of the nodes of a database: */
	unsigned weight;  /* its share of the reads among others; 0: it gets no new ones */
	const char *zone; /* where it stands; "": not said */
};

/* [databases].  Strings are never NULL; "" is "not given". */
struct database_conf {
	const char *name;        /* "*": for names that have no entry */
	struct node_conf *nodes; /* at least one */
	size_t nnodes;
	const char *cluster; /* a host and port, the same for all entries that are on these servers,
			      * as far as their lists tell */
	bool has_replicas;   /* a list of one of them has several nodes */
	const char *dbname;  /* on the server; of "*" maybe "": the name asked for */
	const char *user;    /* every client's user on the server, if given */
	const char *password;
	const char *client_encoding;
	const char *datestyle;
	const char *timezone;
	const char *application_name;
	const char *connect_query;
	struct overrides own;
	size_t index; /* in the config's list */
	struct hlink by_name;
};

/* [users] */
struct user_conf {
	const char *name;
	struct overrides own;
	size_t index; /* in the config's list */
	struct hlink by_name;
};

/* [tiers] */
struct tier_conf {
	const char *name;
	struct overrides own;
	size_t index; /* in the config's list */
	struct hlink by_name;
};

/* [tenants].  `users` and `databases` are lists; without them the tenant's name stands for both. */
struct tenant_conf {
	const char *name;
	const char *business_id;
	const struct tier_conf *tier; /* or NULL: no tier, its own limits only */
	const char *users;
	const char *databases;
	struct overrides own;
	size_t index; /* in the config's list */
	struct hlink by_name;
	struct hlink by_business_id;
};

/* [lanes] */
struct lane_conf {
	const char *name;
	struct node_conf *nodes; /* none: all of a database; port 0: any of that host */
	size_t nnodes;
	bool reserved; /* reads that are in no lane do not go there */
	struct overrides own;
	size_t index; /* in the config's list */
	struct hlink by_name;
};

/* What the console has changed at run time: wins over what the files say, and outlives a reload. */
struct change {
	enum setting_scope scope; /* of a tenant, of a database, or of all: SCOPE_GLOBAL */
	const char *owner;        /* its name; "" for all */
	enum setting_id id;
	const char *text; /* as it was written */
	union setting_value value;
	struct hlink by_owner;
};

/* [peers]. */
struct peer_conf {
	unsigned id;
	struct node_conf node;
	unsigned pool_size; /* 0: default_pool_size */
};

struct config {
	struct settings global;
	struct database_conf **databases; /* in the order of the files, as are the others */
	size_t ndatabases;
	struct user_conf **users;
	size_t nusers;
	struct tier_conf **tiers;
	size_t ntiers;
	struct tenant_conf **tenants;
	size_t ntenants;
	struct lane_conf **lanes;
	size_t nlanes;
	struct peer_conf **peers;
	size_t npeers;
	struct change **changes; /* in the order in which they were made */
	size_t nchanges;
	struct userlist *userlist;   /* of auth_file; empty without one, never NULL */
	struct hba *hba;             /* of auth_hba_file, with auth_type = hba; else NULL */
	struct ident *ident;         /* of auth_ident_file; NULL without one */
	struct directory *directory; /* of auth_ldap_options; NULL without */
	struct jwt_keys *jwt_keys;   /* of jwt_key_file and jwt_secret_file; NULL without both */
	struct sign_keys *sign_keys; /* of context_signing_key_file; NULL without one */
	bool has_http_token;
	bool has_salt_key;
	uint8_t http_token[32];                      /* its SHA-256 */
	struct scram_mac salt_key;                   /* of scram_secret_mock() */
	const struct tier_conf *unknown_tenant_tier; /* NULL: unknown tenants are refused */
	struct roster *roster; /* tenants of tenant_query; NULL: none have been read */
	unsigned edition;      /* of those that came into force: a later one's is higher */

	/* private */
	struct hmap _databases, _users, _tiers, _tenants, _lanes;
	struct hmap _tenant_ids, _tenant_users, _tenant_dbs;
	struct hmap _changes;
	struct config_alias *_aliases;
	struct config_text *_texts;
	struct config *_base; /* of config_with(): whose lists these are */
	unsigned _refs;       /* atomic; the last member */
};

/* --- lifetime: any thread -------------------------------------------------------------------- */

struct config *config_ref(struct config *c);
/* The last one frees, wiping strings first.  NULL is allowed. */
void config_unref(struct config *c);

/* --- lookup: O(1), any thread; borrowed, NULL when there is none ------------------------------ */

/* The entry of exactly this name. */
const struct database_conf *config_database(const struct config *c, struct slice name);
/* The entry of "*". */
const struct database_conf *config_database_fallback(const struct config *c);
/* The one that serves a name that a client says: its own, or that of "*". */
const struct database_conf *config_database_for(const struct config *c, struct slice name);
const struct user_conf *config_user(const struct config *c, struct slice name);
const struct tier_conf *config_tier(const struct config *c, struct slice name);
const struct lane_conf *config_lane(const struct config *c, struct slice name);
const struct peer_conf *config_peer(const struct config *c, unsigned id);
/* Tenants of the file, then of the roster. */
const struct tenant_conf *config_tenant_by_name(const struct config *c, struct slice name);
const struct tenant_conf *config_tenant_by_business_id(const struct config *c, struct slice id);
/* By a tenant's `user=` or `database=` list, or its name when it has none.  Only the ways that
 * tenant_by names are indexed; by another way nobody is found. */
const struct tenant_conf *config_tenant_by_user(const struct config *c, struct slice user);
const struct tenant_conf *config_tenant_by_database(const struct config *c, struct slice database);

/* What holds for a connection: each of the others may be NULL.  A user's own value wins over the
 * database's, as in PgBouncer, and that over the global one; a tenant's wins over its tier's, and
 * that over all others.  `tier` is used when there is no tenant (unknown_tenant = TIER). */
void settings_resolve(const struct config *c, const struct database_conf *database,
		      const struct user_conf *user, const struct tenant_conf *tenant,
		      const struct tier_conf *tier, struct settings *out);

/* Whether a node is one of the lane's. */
bool lane_conf_has_node(const struct lane_conf *lane, const char *host, uint16_t port);
/* Whether there is such a lane, or "".  False: *e, with the name that may be meant. */
bool config_check_lane(const struct config *c, const char *lane, struct err *e);
/* What holds in a lane: its own values over those. */
void lane_conf_apply(const struct lane_conf *lane, struct settings *set);

/* Whether some clients, or all, have to show a certificate to log in. */
bool config_wants_certificates(const struct config *c);

/* Whether a tenant that is not known may be asked for in a database. */
bool config_may_look_up(const struct config *c);
/* That database; NULL: there is none. */
const struct database_conf *config_tenant_database(const struct config *c);
/* The one where events are notified, or NULL. */
const struct database_conf *config_events_database(const struct config *c);

/* Whether secrets of the users of a database (or NULL: an unknown one, or the console) are asked
 * for in a database.  *set has auth_user, auth_query and auth_dbname. */
bool config_asks_secrets(const struct config *c, const struct database_conf *database,
			 struct settings *set);
/* The password that connections of our own log in with as a user of a database; "": none. */
const char *config_own_password(const struct config *c, const struct database_conf *database,
				const char *user);

/* Whose pools the tenants of a database use. */
enum tenant_pool config_tenant_pool(const struct config *c, const struct database_conf *database);
/* Into how many parts its pools are divided at most. */
unsigned config_pool_workers(const struct config *c, const struct database_conf *database);

/* --- building -------------------------------------------------------------------------------- */

/* What was wrong, one line each, "file:line: setting: what is wrong and what would be right". */
struct config_problems {
	struct buf errors; /* any: there is no config */
	unsigned nerrors;
	struct buf notes; /* to be logged once; settings without effect in this version, mostly */
	unsigned nnotes;
};

void config_problems_fini(struct config_problems *p);

/* Appends the content of the file at path to text.  is_secret: not from one that others than its
 * owner may read.  False: e says why. */
typedef bool config_read_file_fn(void *arg, const char *path, bool is_secret, struct buf *text,
				 struct err *e);

/* Reads path and what it includes, auth_file, auth_hba_file and the like.  NULL: p->errors has all
 * that is wrong.  The caller owns the one reference. */
struct config *config_load(const char *path, config_read_file_fn *read, void *arg,
			   struct config_problems *p) PGT_MUST_USE;

/* What stands instead of a file; strings are borrowed. */
struct upstream {
	const char *uri;    /* postgres://[user[:password]@]host[:port][,…][/db][?sslmode=…] */
	const char *listen; /* "address:port"; NULL: 127.0.0.1:6432 */
	/* Where the URI has no password; NULL or "": there is none either. */
	const char *password; /* PGPASSWORD */
	const char *passfile; /* PGPASSFILE: a path, if that says nothing */
};

/* A config without a file: every database name leads to the nodes of the URI.
 *
 * The database name in it is the monitor's.  Clients log in as `user`: with its password by SCRAM;
 * without one by trust, which is only granted on a loopback address; as anyone else, not at all.
 * It is the console's admin too. */
struct config *config_from_upstream(const struct upstream *upstream, config_read_file_fn *read,
				    void *arg, struct config_problems *p) PGT_MUST_USE;
/* The password in a URI and the colon before it; empty: it has none. */
struct slice config_upstream_secret(const char *uri);

/* The config that `SET setting = text` makes out of c, which stays as it is.  NULL: e says why
 * (unknown, 42704; not now, 55P02; bad value, 22023).  Control thread. */
struct config *config_with(struct config *c, struct slice name, const char *text,
			   struct err *e) PGT_MUST_USE;

/* The config that one more change makes out of c, which stays as it is.  text NULL: takes a change
 * back, or, with an empty name, all of the owner's.  NULL: e says why.  Whether there is such an
 * owner is the caller's to know.  Control thread. */
struct config *config_with_change(struct config *c, enum setting_scope scope, struct slice owner,
				  struct slice name, const char *text, struct err *e) PGT_MUST_USE;
/* The change of that setting, or NULL. */
const struct change *config_change_find(const struct config *c, enum setting_scope scope,
					struct slice owner, enum setting_id id);
/* Lays the changes of an owner over what was resolved for it. */
void config_changes_apply(const struct config *c, enum setting_scope scope, struct slice owner,
			  struct settings *out);
/* Before a candidate is published: gives it the running config's changes. */
void config_keep_changes(struct config *candidate, const struct config *running);

/* The same config with these tenants of a database, or NULL: none.  It takes the reference to the
 * roster; c stays as it is.  Control thread. */
struct config *config_with_roster(struct config *c, struct roster *roster) PGT_MUST_USE;
/* The candidate with the running config's roster, as far as it fits.  Takes the candidate. */
struct config *config_inherit_roster(struct config *candidate,
				     const struct config *running) PGT_MUST_USE;

/* Before a reloaded candidate is published: gives it the running config's values of what only a
 * start can change, with a note for each that differs. */
void config_keep_started(struct config *candidate, const struct config *running,
			 struct config_problems *p);

/* --- description, for `pgturnstile --describe` and `make docs` -------------------------------- */

void config_describe_settings_markdown(struct buf *out);
void config_describe_settings_ini(struct buf *out);

#endif
