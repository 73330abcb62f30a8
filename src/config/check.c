/* SPDX-License-Identifier: ISC
 *
 * check.c - the rules that span several settings.
 *
 * What one value may be is its type's business (types.c); here is what fits together.
 */
#include "auth/hba.h"
#include "auth/jwt.h"
#include "auth/userlist.h"
#include "config/build.h"
#include "wire/cancel_key.h"

#include <limits.h>
#include <string.h>

/* Of a channel's name, as PostgreSQL has it. */
#define CHANNEL_MAX 63

/* One check of a whole config. */
struct check {
	const struct config *config;
	const struct place *places;
	struct config_problems *problems;
};

#define COMPLAIN(check, name, ...)                                                                 \
	problem_add((check)->problems,                                                             \
		    (check)->places ? (check)->places[SETTING_##name] : (struct place){ 0 },       \
		    #name, __VA_ARGS__)

static void check_listen(const struct check *k)
{
	const struct settings *s = &k->config->global;

	if (!*s->listen_addr && !*s->unix_socket_dir)
		COMPLAIN(k, listen_addr, "nothing to listen on: set it, or unix_socket_dir");
}

/* A key has room for no more. */
static void check_peers(const struct check *k)
{
	unsigned id = k->config->global.peer_id;

	if (id > PEER_ID_MAX)
		COMPLAIN(k, peer_id, "must be a number from 0 to %u", PEER_ID_MAX);
	if (!id && k->config->npeers)
		problem_note(k->problems,
			     k->places ? k->places[SETTING_peer_id] : (struct place){ 0 },
			     "peer_id",
			     "cancel requests are not forwarded to the peers of [peers] "
			     "without it");
}

static bool has_auth_user(const struct config *c)
{
	struct settings s;

	for (size_t i = 0; i < c->ndatabases; i++) {
		settings_resolve(c, c->databases[i], NULL, NULL, NULL, &s);
		if (*s.auth_user)
			return true;
	}
	return *c->global.auth_user;
}

/* Whether somebody else may say who a user is. */
static bool knows_others(const struct config *c)
{
	return c->global.auth_type == AUTH_TYPE_PAM || c->global.auth_type == AUTH_TYPE_LDAP ||
	       c->global.auth_type == AUTH_TYPE_JWT || (c->hba && hba_asks_others(c->hba));
}

static void check_auth(const struct check *k)
{
	const struct settings *s = &k->config->global;
	bool needs_secrets = s->auth_type == AUTH_TYPE_PLAIN || s->auth_type == AUTH_TYPE_MD5 ||
			     s->auth_type == AUTH_TYPE_SCRAM || s->auth_type == AUTH_TYPE_HBA;

	if (needs_secrets && !*s->auth_file && !has_auth_user(k->config) &&
	    !knows_others(k->config))
		COMPLAIN(k, auth_file, "nobody could log in: name a file of users and secrets");
}

static bool is_loopback(struct slice address)
{
	return slice_is_equal(address, SLICE("127.0.0.1")) ||
	       slice_is_equal(address, SLICE("::1")) || slice_is_equal(address, SLICE("localhost"));
}

/* These passwords are good elsewhere, too. */
static void check_clear_passwords(const struct check *k)
{
	const struct settings *s = &k->config->global;
	struct slice rest = slice_str(s->listen_addr), address;

	if (!knows_others(k->config) || s->client_tls_sslmode >= SSLMODE_REQUIRE)
		return;
	while (list_next(&rest, &address))
		if (!is_loopback(address)) {
			problem_note(
			    k->problems,
			    k->places ? k->places[SETTING_client_tls_sslmode] : (struct place){ 0 },
			    "client_tls_sslmode",
			    "passwords for others to judge come in the clear unless clients "
			    "use TLS: set it to require");
			return;
		}
}

static void check_pam(const struct check *k)
{
	const char *service = k->config->global.auth_pam_service;

	if (!*service || strchr(service, '/'))
		COMPLAIN(k, auth_pam_service, "needs the name of a file in /etc/pam.d");
}

static void check_ldap(const struct check *k)
{
	const struct settings *s = &k->config->global;

	if (s->auth_type == AUTH_TYPE_LDAP && !*s->auth_ldap_options)
		COMPLAIN(k, auth_ldap_options, "auth_type = ldap needs it: say which servers");
	if (s->auth_ldap_timeout <= 0)
		COMPLAIN(k, auth_ldap_timeout, "has to be more than 0");
}

static bool takes_tokens(const struct config *c)
{
	return c->global.auth_type == AUTH_TYPE_JWT || (c->hba && hba_has(c->hba, HBA_JWT));
}

static void check_jwt(const struct check *k)
{
	const struct config *c = k->config;
	struct slice rest = slice_str(c->global.jwt_algorithms), name;

	while (list_next(&rest, &name))
		if (!jwt_knows_algorithm(name))
			COMPLAIN(k, jwt_algorithms, "%.*s: there is no such algorithm here",
				 SLICE_FMT(name));
	if (tenant_by_has(&c->global.tenant_by, TENANT_BY_TOKEN) &&
	    (c->global.tenant_by.n > 1 || !takes_tokens(c)))
		COMPLAIN(k, tenant_by,
			 "token goes alone, and with jwt: what else says whose a connection is "
			 "would be believed before its token");
	if (!takes_tokens(c))
		return;
	if (!c->jwt_keys && !k->problems->nerrors)
		COMPLAIN(k, auth_type, "jwt needs keys: set jwt_key_file, or jwt_secret_file");
	if (!*c->global.jwt_audience)
		COMPLAIN(k, jwt_audience,
			 "jwt needs it: a token for something else would open the database");
}

/* Why no client could show one that counts; NULL: one can. */
static const char *why_no_certificates(const struct settings *s)
{
	if (s->client_tls_sslmode == SSLMODE_DISABLE)
		return "nobody can show without TLS: set client_tls_sslmode to allow, say";
	if (!*s->client_tls_ca_file)
		return "nothing could be checked with: set client_tls_ca_file";
	return NULL;
}

static void check_hba(const struct check *k)
{
	const struct config *c = k->config;
	int line = c->hba ? hba_wants_certificate(c->hba) : 0;
	const char *why = why_no_certificates(&c->global);

	if (c->global.auth_type == AUTH_TYPE_HBA && !*c->global.auth_hba_file)
		COMPLAIN(k, auth_type, "hba needs its rules: set auth_hba_file");
	else if (c->global.auth_type == AUTH_TYPE_HBA && !c->hba && !k->problems->nerrors)
		COMPLAIN(k, auth_type, "the rules are read with the file only: write hba there");
	if (c->global.auth_type == AUTH_TYPE_CERT && why)
		COMPLAIN(k, auth_type, "cert wants certificates, which %s", why);
	if (*c->global.auth_ident_map && !c->ident && !k->problems->nerrors)
		COMPLAIN(k, auth_ident_map,
			 "is for auth_type = cert and peer, and needs auth_ident_file");
	if (line && why)
		COMPLAIN(k, auth_hba_file, "%s:%d wants a certificate, which %s",
			 c->global.auth_hba_file, line, why);
}

static void check_auth_dbname(const struct check *k, const struct settings *s)
{
	if (*s->auth_dbname && !config_database_for(k->config, slice_str(s->auth_dbname)))
		COMPLAIN(k, auth_dbname, "there is no database \"%s\" in [databases]",
			 s->auth_dbname);
}

static void check_auth_query(const struct check *k)
{
	const struct config *c = k->config;
	struct settings s;

	check_auth_dbname(k, &c->global);
	for (size_t i = 0; i < c->ndatabases; i++) {
		settings_resolve(c, c->databases[i], NULL, NULL, NULL, &s);
		if (strcmp(s.auth_dbname, c->global.auth_dbname) != 0)
			check_auth_dbname(k, &s);
	}
}

static void check_admins(const struct check *k)
{
	const struct settings *s = &k->config->global;
	struct slice rest = slice_str(s->admin_users), name;
	struct settings asked;

	/* Others may know who is not in the file. */
	if (knows_others(k->config))
		return;
	if (config_asks_secrets(k->config, NULL, &asked) && *asked.auth_dbname)
		return;
	while (*s->auth_file && list_next(&rest, &name))
		if (!slice_is_equal(name, SLICE("*")) && !userlist_find(k->config->userlist, name))
			problem_note(k->problems,
				     k->places ? k->places[SETTING_admin_users]
					       : (struct place){ 0 },
				     "admin_users", "%.*s is not in auth_file and cannot log in",
				     SLICE_FMT(name));
}

static void check_client_tls(const struct check *k)
{
	const struct settings *s = &k->config->global;

	if (s->client_tls_sslmode == SSLMODE_DISABLE)
		return;
	if (!*s->client_tls_key_file)
		COMPLAIN(k, client_tls_sslmode, "needs our private key: set client_tls_key_file");
	if (!*s->client_tls_cert_file)
		COMPLAIN(k, client_tls_sslmode, "needs our certificate: set client_tls_cert_file");
	if (s->client_tls_sslmode >= SSLMODE_VERIFY_CA && !*s->client_tls_ca_file)
		COMPLAIN(k, client_tls_sslmode,
			 "needs what to check client certificates with: set client_tls_ca_file");
}

static void check_server_tls(const struct check *k)
{
	const struct settings *s = &k->config->global;

	if (!*s->server_tls_key_file != !*s->server_tls_cert_file)
		COMPLAIN(k, server_tls_key_file,
			 "server_tls_key_file and server_tls_cert_file go "
			 "together: set both or none");
}

static void check_monitor(const struct check *k)
{
	const struct settings *s = &k->config->global;

	if (*s->monitor_password && !*s->monitor_user)
		COMPLAIN(k, monitor_password, "whose? Set monitor_user too");
	if (!s->monitor_interval)
		COMPLAIN(k, monitor_interval, "must be more than 0: set it to 1s, say");
}

/* A pool of one tenant has nowhere to switch to. */
static void check_shared(const struct check *k, const struct database_conf *database)
{
	if (config_tenant_pool(k->config, database) != TENANT_POOL_SHARED)
		COMPLAIN(k, tenant_by,
			 "set and comment need tenant_pool = shared, which database %s does not "
			 "have: give it that, or take them out",
			 database->name);
}

static void check_switching(const struct check *k)
{
	const struct config *c = k->config;

	if (!tenant_by_has(&c->global.tenant_by, TENANT_BY_SET) &&
	    !tenant_by_has(&c->global.tenant_by, TENANT_BY_COMMENT))
		return;
	for (size_t i = 0; i < c->ndatabases; i++)
		check_shared(k, c->databases[i]);
}

static void check_sni(const struct check *k)
{
	const struct settings *s = &k->config->global;

	if (!tenant_by_has(&s->tenant_by, TENANT_BY_SNI))
		return;
	if (!*s->tenant_sni_suffix)
		COMPLAIN(k, tenant_by,
			 "sni needs tenant_sni_suffix: set it to db.example.com, say");
	if (s->client_tls_sslmode == SSLMODE_DISABLE)
		COMPLAIN(k, tenant_by, "sni needs TLS: set client_tls_sslmode to require, say");
}

static void check_tenant_by(const struct check *k)
{
	const struct config *c = k->config;

	if ((c->ntenants || config_may_look_up(c)) && !c->global.tenant_by.n)
		COMPLAIN(k, tenant_by,
			 "there are tenants, but no way to tell them: set it to user, "
			 "database, user_suffix or startup");
	if (!c->ntenants && c->global.tenant_by.n && !c->unknown_tenant_tier &&
	    !config_may_look_up(c))
		COMPLAIN(k, tenant_by,
			 "everyone would be refused: add [tenants] or tenant_query, or set "
			 "unknown_tenant to a tier");
}

static bool has_login_of_ours(const struct config *c, const struct database_conf *database)
{
	struct settings s;

	settings_resolve(c, database, NULL, NULL, NULL, &s);
	return *s.monitor_user || *s.auth_user || *database->user;
}

static void check_tenant_query(const struct check *k)
{
	const struct config *c = k->config;
	const struct database_conf *database = config_tenant_database(c);

	if (!config_may_look_up(c))
		return;
	if (!database) {
		COMPLAIN(k, tenant_database, "there is no such entry in [databases]");
		return;
	}
	if (!has_login_of_ours(c, database))
		COMPLAIN(k, tenant_query, "nobody to ask as: set monitor_user");
}

static void check_events(const struct check *k)
{
	const struct config *c = k->config;
	const struct database_conf *database = config_events_database(c);
	size_t length = strlen(c->global.events_channel);

	if (!*c->global.events_notify_database)
		return;
	if (!database)
		COMPLAIN(k, events_notify_database, "there is no such entry in [databases]");
	else if (!has_login_of_ours(c, database))
		COMPLAIN(k, events_notify_database, "nobody to log in as: set monitor_user");
	if (!c->global.events_kept)
		COMPLAIN(k, events_notify_database,
			 "events are told from those kept: set events_kept to 1000, say");
	if (!length || length > CHANNEL_MAX)
		COMPLAIN(k, events_channel, "must have 1 to %d bytes", CHANNEL_MAX);
}

/* Only where statements are followed does it show which of them give a session another tenant, and
 * a server that stays with its client is nobody else's. */
static void check_tenant_pool(const struct check *k)
{
	const struct config *c = k->config;
	bool is_shared = false;
	struct settings s;

	for (size_t i = 0; i < c->ndatabases; i++) {
		settings_resolve(c, c->databases[i], NULL, NULL, NULL, &s);
		if (s.tenant_pool != TENANT_POOL_SHARED)
			continue;
		is_shared = true;
		if (s.pool_mode == POOL_MODE_SESSION)
			COMPLAIN(k, pool_mode,
				 "database \"%s\": tenant_pool = shared needs transaction or "
				 "statement",
				 c->databases[i]->name);
	}
	if (is_shared && !c->global.max_prepared_statements)
		COMPLAIN(k, max_prepared_statements,
			 "must be more than 0 where tenant_pool = shared");
}

static void check_stats(const struct check *k)
{
	if (!k->config->global.stats_period)
		COMPLAIN(k, stats_period, "must be more than 0: set it to 60s, say");
}

void config_check(const struct config *c, const struct place *places, struct config_problems *p)
{
	static void (*const checks[])(const struct check *) = {
		check_listen,
		check_auth,
		check_hba,
		check_pam,
		check_ldap,
		check_jwt,
		check_clear_passwords,
		check_auth_query,
		check_admins,
		check_client_tls,
		check_server_tls,
		check_monitor,
		check_tenant_by,
		check_stats,
		check_switching,
		check_sni,
		check_tenant_pool,
		check_tenant_query,
		check_events,
		check_peers,
	};
	const struct check k = { c, places, p };

	for (size_t i = 0; i < PGT_NELEMS(checks); i++)
		checks[i](&k);
}

/* A bucket without a rate would never fill. */
bool settings_check_limits(const struct settings *s, struct err *e)
{
	if (s->burst && !s->rate.count)
		return err_set(e, "22023", "burst without rate: set rate too");
	return true;
}

static void check_limits(const struct draft *d, struct place where, const char *owner,
			 const struct tenant_conf *tenant, const struct tier_conf *tier)
{
	struct settings s;
	struct err e;

	settings_resolve(d->config, NULL, NULL, tenant, tier, &s);
	if (!settings_check_limits(&s, &e))
		problem_add(d->problems, where, owner, "%s", e.text);
}

bool config_check_lane(const struct config *c, const char *lane, struct err *e)
{
	struct nearest nearest = { .wanted = slice_str(lane), .distance = UINT_MAX };

	if (!*lane || config_lane(c, slice_str(lane)))
		return true;
	for (size_t i = 0; i < c->nlanes; i++)
		nearest_try(&nearest, slice_str(c->lanes[i]->name));
	if (nearest_is_near(&nearest))
		return err_set(e, "22023", "there is no lane \"%.100s\", did you mean %.*s?", lane,
			       SLICE_FMT(nearest.name));
	return err_set(e, "22023", "there is no lane \"%.100s\": add it to [lanes]", lane);
}

static bool is_node_of_any(const struct config *c, const struct node_conf *wanted)
{
	for (size_t i = 0; i < c->ndatabases; i++)
		for (size_t n = 0; n < c->databases[i]->nnodes; n++) {
			const struct node_conf *node = &c->databases[i]->nodes[n];

			if (!strcmp(node->host, wanted->host) &&
			    (!wanted->port || node->port == wanted->port))
				return true;
		}
	return false;
}

static void check_lane_nodes(const struct draft *d, const struct lane_conf *lane,
			     struct place where)
{
	for (size_t i = 0; i < lane->nnodes; i++)
		if (!is_node_of_any(d->config, &lane->nodes[i]))
			problem_add(d->problems, where, lane->name,
				    "nodes: no database has a node \"%s:%u\": add it to its hosts",
				    lane->nodes[i].host, lane->nodes[i].port);
}

static void check_lanes(const struct draft *d)
{
	for (size_t i = 0; i < d->nlane_uses; i++) {
		const struct lane_use *use = &d->lane_uses[i];
		const struct lane_conf *lane = config_lane(d->config, slice_str(use->lane));
		struct err e;

		if (!config_check_lane(d->config, use->lane, &e))
			problem_add(d->problems, use->place, use->owner, "lane: %s", e.text);
		else if (lane && use->owner == lane->name)
			check_lane_nodes(d, lane, use->place);
	}
}

void draft_check(const struct draft *d)
{
	const struct config *c = d->config;

	for (size_t i = 0; i < c->ntiers; i++)
		check_limits(d, d->tier_places[i], c->tiers[i]->name, NULL, c->tiers[i]);
	for (size_t i = 0; i < c->ntenants; i++)
		check_limits(d, d->tenants[i].place, c->tenants[i]->name, c->tenants[i], NULL);
	check_lanes(d);
}
