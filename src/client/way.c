/* SPDX-License-Identifier: ISC
 *
 * way.c - in which way a client has to prove who it is.
 *
 * Goes by the configuration and by what the kernel and TLS say of the connection; reads nothing
 * from it.  Knows no secrets.
 */
#include "client/parts.h"

#include "auth/directory.h"
#include "auth/hba.h"
#include "net/sockopt.h"
#include "net/tls.h"

#include <string.h>

/* Of a certificate, or of the system. */
#define NAME_ELSEWHERE_MAX 256

static struct hba_who who_is(const struct client *c)
{
	const struct identity *id = &c->login->id;

	return (struct hba_who){ .from = client_from(c),
				 .is_tls = c->conn.tls != NULL,
				 /* The console replicates nothing, whatever it is asked. */
				 .is_physical =
				     id->replication == REPLICATION_PHYSICAL && !id->is_console,
				 .database = id->database,
				 .user = id->auth_user,
				 .also = identity_other_name(id) };
}

static bool refuse_by_rules(const struct client *c, const struct hba_rule *rule, struct err *e)
{
	const char *why = rule ? "auth_hba_file rejects host" : "no rule of auth_hba_file for host";
	char host[INET6_ADDRSTRLEN];

	addr_text(&c->conn.peer, host);
	return err_set(e, "28000", "%s \"%s\", user \"%.100s\", database \"%.100s\", %s", why, host,
		       c->login->id.auth_user, c->login->id.database,
		       c->conn.tls ? "TLS" : "no TLS");
}

/* One that is vouched for now: a reload may have come since it has shaken hands. */
static bool has_certificate(const struct client *c)
{
	return c->conn.tls && c->host->tls && tls_client_is_verified_by(c->conn.tls, c->host->tls);
}

static bool refuse_without(struct err *e)
{
	return err_set(e, "28000", "connection requires a valid client certificate");
}

bool way_is_secured(const struct client *c, const struct config *config, struct err *e)
{
	unsigned mode = (unsigned)config->global.client_tls_sslmode;

	if (mode < SSLMODE_REQUIRE || c->conn.peer.family == AF_UNIX)
		return true;
	if (!c->conn.tls)
		return err_set(e, "28000", "TLS is required");
	return mode < SSLMODE_VERIFY_CA || has_certificate(c) || refuse_without(e);
}

/* Whether who it is elsewhere may be the user that it says. */
static bool is_named(const struct client *c, const struct config *config,
		     const struct hba_rule *rule)
{
	bool is_peer = rule->method == HBA_PEER;
	char name[NAME_ELSEWHERE_MAX];

	if (is_peer ? !sock_peer_user(c->conn.fd, name, sizeof(name))
		    : !tls_peer_name(c->conn.tls, name, sizeof(name)))
		return false;
	return ident_allows(config->ident, rule->map, name, c->login->id.auth_user);
}

/* What a rule asks besides its method, or instead of a secret. */
static bool is_fit(const struct client *c, const struct config *config, const struct hba_rule *rule,
		   struct err *e)
{
	bool asks_certificate = rule->method == HBA_CERT || rule->clientcert != CLIENTCERT_NO;
	bool asks_name = rule->method == HBA_PEER || rule->method == HBA_CERT ||
			 rule->clientcert == CLIENTCERT_VERIFY_FULL;

	if (asks_certificate && !has_certificate(c))
		return refuse_without(e);
	if (!asks_name || is_named(c, config, rule))
		return true;
	return rule->method == HBA_PEER
		   ? err_set(e, "28000", "peer authentication failed for user \"%.100s\"", c->user)
		   : err_set(e, "28000", "certificate authentication failed for user \"%.100s\"",
			     c->user);
}

static const enum auth_type types[] = {
	[HBA_TRUST] = AUTH_TYPE_TRUST,    [HBA_REJECT] = AUTH_TYPE_HBA, /* no way */
	[HBA_PASSWORD] = AUTH_TYPE_PLAIN, [HBA_MD5] = AUTH_TYPE_MD5,
	[HBA_SCRAM] = AUTH_TYPE_SCRAM,    [HBA_CERT] = AUTH_TYPE_TRUST,
	[HBA_PEER] = AUTH_TYPE_TRUST,     [HBA_PAM] = AUTH_TYPE_PAM,
	[HBA_JWT] = AUTH_TYPE_JWT,        [HBA_LDAP] = AUTH_TYPE_LDAP,
};

static struct jwt_rules jwt_rules_of(const struct config *config)
{
	const struct settings *set = &config->global;

	return (struct jwt_rules){ .keys = config->jwt_keys,
				   .algorithms = set->jwt_algorithms,
				   .audience = set->jwt_audience,
				   .issuer = set->jwt_issuer,
				   .role_claim = set->jwt_role_claim,
				   .tenant_claim = tenant_by_has(&set->tenant_by, TENANT_BY_TOKEN)
						       ? set->jwt_tenant_claim
						       : NULL,
				   .leeway = set->jwt_leeway / USEC_PER_SEC };
}

/* rule: by which it is so, or NULL. */
static struct way way_of(const struct config *config, enum auth_type type,
			 const struct hba_rule *rule)
{
	struct way way = { .type = type };

	if (type == AUTH_TYPE_PAM)
		way.service =
		    rule && rule->pam_service ? rule->pam_service : config->global.auth_pam_service;
	if (type == AUTH_TYPE_LDAP)
		way.directory = rule ? rule->directory : config->directory;
	if (type == AUTH_TYPE_JWT) {
		way.map = rule ? rule->map : NULL;
		way.jwt = jwt_rules_of(config);
	}
	return way;
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

/* A token that was good by the one is good by the other; keys that were read again are others. */
static bool is_same_jwt(const struct jwt_rules *a, const struct jwt_rules *b)
{
	return a->keys == b->keys && is_same_text(a->algorithms, b->algorithms) &&
	       is_same_text(a->audience, b->audience) && is_same_text(a->issuer, b->issuer) &&
	       is_same_text(a->role_claim, b->role_claim) &&
	       is_same_text(a->tenant_claim, b->tenant_claim);
}

bool way_is_same(const struct way *a, const struct way *b)
{
	return a->type == b->type && is_same_text(a->service, b->service) &&
	       is_same_text(a->map, b->map) && directory_is_same(a->directory, b->directory) &&
	       is_same_jwt(&a->jwt, &b->jwt);
}

/* The one rule of an auth_type that goes by the name that somebody has elsewhere; NULL: it does
 * not.
 */
static const struct hba_rule *rule_for_all(const struct config *config, struct hba_rule *rule)
{
	const char *map = config->global.auth_ident_map;

	*rule = (struct hba_rule){ .map = *map ? map : NULL };
	switch (config->global.auth_type) {
	case AUTH_TYPE_CERT:
		rule->method = HBA_CERT;
		rule->clientcert = CLIENTCERT_VERIFY_FULL;
		return rule;
	case AUTH_TYPE_PEER:
		rule->method = HBA_PEER;
		return rule;
	default:
		return NULL;
	}
}

/* How it has to prove who it is.  False: in no way (*e). */
bool way_find(const struct client *c, const struct config *config, struct way *way, struct err *e)
{
	const struct hba_who who = who_is(c);
	const struct hba_rule *rule;
	struct hba_rule named;

	*way = way_of(config, (enum auth_type)config->global.auth_type, NULL);
	rule = rule_for_all(config, &named);
	if (!rule && way->type != AUTH_TYPE_HBA)
		return true;
	if (!rule)
		rule = hba_find(config->hba, &who);
	if (!rule || rule->method == HBA_REJECT)
		return refuse_by_rules(c, rule, e);
	*way = way_of(config, types[rule->method], rule);
	return is_fit(c, config, rule, e);
}

/* Whether others say whether a password is right, and whose; auth_file need not know the user. */
bool way_is_for_others(const struct way *way)
{
	return way->type == AUTH_TYPE_PAM || way->type == AUTH_TYPE_LDAP;
}
