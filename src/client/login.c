/* SPDX-License-Identifier: ISC
 *
 * login.c - from accept to the first ReadyForQuery.
 *
 * A strict sequence: requests for encryption, one startup packet, one way to prove it, done.  The
 * identity is frozen when the startup packet is read; a second one, or any message but the one that
 * is due, ends the connection.
 *
 * Knows how a client proves who it is; where it goes then is the host's business.
 * Source: PostgreSQL manual, "Message Flow: Start-up", "SASL Authentication".
 */
#include "client/login.h"

#include "auth/hba.h"
#include "auth/jwt.h"
#include "auth/networks.h"
#include "auth/verify.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/random.h"
#include "client/throttle.h"
#include "net/sockopt.h"
#include "net/tls.h"
#include "stats/event.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>
#include <unistd.h>

/* As PostgreSQL's limit for messages of a login. */
#define LOGIN_MESSAGE_MAX 65535

/* A name in DNS, with its NUL. */
#define HOST_MAX 256

/* Of a certificate, or of the system. */
#define NAME_ELSEWHERE_MAX 256

enum proof { PROOF_NONE, PROOF_PLAIN, PROOF_MD5, PROOF_SCRAM_FIRST, PROOF_SCRAM_FINAL };

/* Strings are the configuration's. */
struct way {
	enum auth_type type;
	const char *service;  /* of PAM; else NULL */
	const char *map;      /* of user names, for tokens, or NULL */
	struct jwt_rules jwt; /* what a token has to be */
};

struct client_login {
	struct identity id;
	bool has_identity;
	bool asked_tls, asked_gss;
	bool asked_cancel; /* it may say nothing more */
	enum proof due;
	bool is_sought;        /* its tenant is being looked up, or its secret */
	bool is_judged;        /* others are asked about its password */
	bool has_shown_token;  /* a good one, which says whose it is */
	struct config *config; /* in force when the proof was asked for */
	struct way way;        /* how it proves who it is, by that */
	const struct userlist_entry *entry;
	bool is_barred; /* whatever it proves: its user, or its tenant, may not come from there */
	bool was_looked_up;           /* in a database, as it is not in auth_file … */
	struct userlist_entry *found; /* … and this was found; NULL: nobody */
	enum password_kind usual;     /* of the secrets that others have there */
	uint8_t md5_salt[MD5_SALT_LEN];
	struct scram_server scram;
	bool has_scram;
	bool has_client_key;
	uint8_t client_key[SCRAM_KEY_LEN];
	char *given;              /* password of PROOF_PLAIN */
	struct passport passport; /* of a session that another process has had; else empty */
};

struct client_login *client_login_new(void)
{
	return xnew(struct client_login);
}

static void forget_found(struct client_login *login)
{
	if (login->found)
		userlist_entry_fini(login->found);
	free(login->found);
	login->found = NULL;
	login->was_looked_up = false;
}

void client_login_free(struct client_login *login)
{
	if (!login)
		return;
	forget_found(login);
	if (login->has_identity)
		identity_fini(&login->id);
	if (login->has_scram)
		scram_server_fini(&login->scram);
	if (login->given)
		mem_wipe(login->given, strlen(login->given));
	free(login->given);
	passport_fini(&login->passport);
	config_unref(login->config);
	mem_wipe(login, sizeof(*login));
	free(login);
}

const struct identity *client_identity(const struct client *c)
{
	return &c->login->id;
}

/* ---- secrets made of plain passwords of auth_file, kept because making one takes a millisecond -
 */

struct scram_cache {
	struct hmap secrets;
};

struct scram_cached {
	struct hlink link;
	const struct userlist_entry *entry;
	struct scram_secret secret;
};

struct scram_cache *scram_cache_new(void)
{
	return xnew(struct scram_cache);
}

void scram_cache_clear(struct scram_cache *cache)
{
	HMAP_FOREACH_SAFE (l, &cache->secrets) {
		struct scram_cached *cached = container_of(l, struct scram_cached, link);

		hmap_remove(&cache->secrets, l);
		mem_wipe(&cached->secret, sizeof(cached->secret));
		free(cached);
	}
}

void scram_cache_free(struct scram_cache *cache)
{
	scram_cache_clear(cache);
	hmap_fini(&cache->secrets);
	free(cache);
}

/* A plain secret that is looked up costs each login of its user the making; who has none must not
 * be told by the time that is saved. */
static void do_the_work_of_others(const struct client_login *login, const struct scram_secret *mock)
{
	bool has_secret = login->entry && (login->entry->kind == PASSWORD_PLAIN ||
					   login->entry->kind == PASSWORD_SCRAM);
	struct scram_secret made;

	if (has_secret || !login->was_looked_up || login->usual != PASSWORD_PLAIN)
		return;
	scram_secret_make(SLICE("nobody's"), login->config->global.scram_iterations, mock->salt,
			  mock->salt_len, &made);
	mem_wipe(&made, sizeof(made));
}

static void scram_secret_of(struct client *c, struct scram_secret *out)
{
	const struct userlist_entry *entry = c->login->entry;
	struct scram_cache *cache = c->host->scram_cache;
	uint64_t hash = hash_bytes(&entry, sizeof(entry));
	/* What was looked up goes with this login, and its address may be another's then. */
	bool is_kept = entry && entry->kind == PASSWORD_PLAIN && entry != c->login->found;
	struct scram_cached *cached;

	if (is_kept)
		for (struct hlink *l = hmap_first(&cache->secrets, hash); l; l = hmap_next(l)) {
			cached = container_of(l, struct scram_cached, link);
			if (cached->entry == entry) {
				*out = cached->secret;
				return;
			}
		}
	password_scram_secret(entry, slice_str(c->login->id.auth_user),
			      c->login->config->global.scram_iterations, out);
	do_the_work_of_others(c->login, out);
	if (!is_kept)
		return;
	cached = xnew(struct scram_cached);
	cached->entry = entry;
	cached->secret = *out;
	hmap_insert(&cache->secrets, &cached->link, hash);
}

/* ---- the end of a login ---------------------------------------------------------------------- */

static enum step refuse(struct client *c, const struct err *e)
{
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(c, address);

	if (c->host->config->global.log_pooler_errors)
		log_about(LOG_LEVEL_WARNING, &about, "login of \"%s\" refused: %s",
			  c->user ? c->user : "", e->text);
	event_count(EVENT_logins, &(struct log_about){ .reason = e->text },
		    "%u logins were refused within ten seconds, the last one of \"%s\" from %s: %s",
		    event_specs[EVENT_logins].burst, c->user ? c->user : "", address, e->text);
	client_close(c, e, e->text);
	return STEP_CLOSED;
}

static enum step refuse_text(struct client *c, const char *sqlstate, const char *text)
{
	struct err e;

	err_set(&e, sqlstate, "%s", text);
	return refuse(c, &e);
}

static bool may_be_throttled(const struct client *c)
{
	return c->login->config->global.login_failures_max && c->conn.peer.family != AF_UNIX;
}

static struct throttle_limits limits_of(const struct client *c)
{
	const struct settings *set = &c->login->config->global;
	const struct net_origin from = client_from(c);

	return (struct throttle_limits){ .failures = set->login_failures_max,
					 .backoff_max = set->login_backoff_max,
					 .spares_address =
					     networks_have(set->login_trusted_from, &from) };
}

/* Whether it has to wait: *e tells.  Not a line for each of them: they may be many. */
static bool is_throttled(const struct client *c, struct err *e)
{
	struct throttle_limits limits;
	usec_t wait;

	if (!may_be_throttled(c))
		return false;
	limits = limits_of(c);
	wait = throttle_wait(conn_addr_origin(&c->conn.peer), slice_str(c->login->id.auth_user),
			     &limits, loop_now(c->conn.net->loop));
	if (!wait)
		return false;
	err_set(e, "57P03", "too many failed logins from this address");
	err_hint(e, "Try again in %lld s.", (long long)((wait + USEC_PER_SEC - 1) / USEC_PER_SEC));
	return true;
}

static void count_failure(struct client *c)
{
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(c, address);
	struct throttle_limits limits;

	if (!may_be_throttled(c))
		return;
	limits = limits_of(c);
	if (throttle_fail(conn_addr_origin(&c->conn.peer), slice_str(c->login->id.auth_user),
			  &limits, loop_now(c->conn.net->loop)))
		event_say(
		    EVENT_throttle, &about,
		    "too many failed logins from %s, the last one of \"%s\": further ones have to "
		    "wait",
		    address, c->user);
}

/* It is not told itself. */
static void say_barred(const struct client *c)
{
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(c, address);

	if (c->login->is_barred && c->host->config->global.log_pooler_errors)
		log_about(
		    LOG_LEVEL_WARNING, &about,
		    "\"%s\" may not come from there: allow_from of the user, or of its tenant",
		    c->user);
}

/* The same words whether the user does not exist, the password is wrong or it comes from where it
 * may not. */
static enum step refuse_as_wrong(struct client *c)
{
	struct err e;

	err_set(&e, "28P01", "password authentication failed for user \"%.100s\"", c->user);
	return refuse(c, &e);
}

static enum step refuse_proof(struct client *c)
{
	count_failure(c);
	say_barred(c);
	if (c->login->was_looked_up)
		c->host->doubt_secret(c);
	return refuse_as_wrong(c);
}

static bool is_same_secret(const struct userlist_entry *a, const struct userlist_entry *b)
{
	return (!a && !b) || (a && b && !strcmp(a->password, b->password));
}

/* ---- how to prove it ---------------------------------------------------------------------------
 */

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

	conn_addr_text(&c->conn.peer, host);
	return err_set(e, "28000", "%s \"%s\", user \"%.100s\", database \"%.100s\", %s", why, host,
		       c->login->id.auth_user, c->login->id.database,
		       c->conn.tls ? "TLS" : "no TLS");
}

/* Whether who it is elsewhere may be the user that it says. */
static bool is_named(const struct client *c, const struct config *config,
		     const struct hba_rule *rule)
{
	bool is_peer = rule->method == HBA_PEER;
	char name[NAME_ELSEWHERE_MAX];

	if (is_peer ? !sock_peer_user(c->conn.fd, name, sizeof(name))
		    : !c->conn.tls || !tls_peer_name(c->conn.tls, name, sizeof(name)))
		return false;
	return ident_allows(config->ident, rule->map, name, c->login->id.auth_user);
}

/* What a rule asks besides its method, or instead of a secret. */
static bool is_fit(const struct client *c, const struct config *config, const struct hba_rule *rule,
		   struct err *e)
{
	bool asks_name = rule->method == HBA_PEER || rule->method == HBA_CERT ||
			 rule->clientcert == CLIENTCERT_VERIFY_FULL;

	/* A session that began before certificates were asked for has none. */
	if ((rule->clientcert == CLIENTCERT_NO ||
	     (c->conn.tls && tls_peer_is_verified(c->conn.tls))) &&
	    (!asks_name || is_named(c, config, rule)))
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
	[HBA_JWT] = AUTH_TYPE_JWT,
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

static bool is_same_way(const struct way *a, const struct way *b)
{
	return a->type == b->type && is_same_text(a->service, b->service) &&
	       is_same_text(a->map, b->map) && is_same_jwt(&a->jwt, &b->jwt);
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
static bool find_way(const struct client *c, const struct config *config, struct way *way,
		     struct err *e)
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

/* ---- from where --------------------------------------------------------------------------------
 */

static bool is_allowed(const char *list, const struct client *c)
{
	const struct net_origin from = client_from(c);

	return !*list || networks_have(list, &from);
}

static bool is_tenant_allowed(const struct client *c, const struct config *config)
{
	const struct identity *id = &c->login->id;
	struct settings set;

	if (!*id->tenant)
		return true;
	settings_resolve(config, NULL, NULL, id->tenant_conf,
			 id->tenant_conf ? NULL : config->unknown_tenant_tier, &set);
	config_changes_apply(config, SCOPE_TENANT, slice_str(id->tenant), &set);
	return is_allowed(set.allow_from, c);
}

static bool is_user_allowed(const struct client *c, const struct config *config)
{
	const struct user_conf *user = config_user(config, slice_str(c->login->id.auth_user));
	struct settings set;

	if (!user)
		return true;
	settings_resolve(config, NULL, user, NULL, NULL, &set);
	return is_allowed(set.allow_from, c);
}

bool client_is_ourselves(const struct client *c)
{
	uid_t uid;

	return c->conn.peer.family == AF_UNIX &&
	       (!strcmp(c->user, "pgturnstile") || !strcmp(c->user, "pgbouncer")) &&
	       sock_peer_uid(c->conn.fd, &uid) && uid == geteuid();
}

/* Neither rules nor lists lock the operator out. */
static bool is_exempt(const struct client *c)
{
	return c->login->id.is_console && client_is_ourselves(c);
}

static bool is_barred(const struct client *c, const struct config *config)
{
	return !is_exempt(c) && (!is_user_allowed(c, config) || !is_tenant_allowed(c, config));
}

/* ---- the end of a login, when it is proved ------------------------------------------------------
 */

/* Whether a secret that was looked up would be looked up in the same place now. */
static bool is_same_source(const struct config *a, const struct config *b, struct slice database)
{
	struct settings x, y;

	return config_asks_secrets(a, config_database_for(a, database), &x) &&
	       config_asks_secrets(b, config_database_for(b, database), &y) &&
	       !strcmp(x.auth_user, y.auth_user) && !strcmp(x.auth_query, y.auth_query) &&
	       !strcmp(x.auth_dbname, y.auth_dbname);
}

/* A reload came between question and answer: what it may do is looked up anew, in the version that
 * its group will live by; what it has proved must be what it would have to prove now. */
static bool catch_up(struct client *c)
{
	struct client_login *login = c->login;
	struct config *now = c->host->config;
	const struct userlist_entry *entry;
	struct way way;
	bool is_same_user;
	char *user;

	if (login->config == now)
		return true;
	user = xstrdup(login->id.auth_user);
	identity_resolve(&login->id, now);
	is_same_user = !strcmp(user, login->id.auth_user);
	free(user);
	entry = userlist_find(now->userlist, slice_str(login->id.auth_user));
	if (!entry && login->was_looked_up &&
	    is_same_source(login->config, now, slice_str(login->id.database)))
		entry = login->found;
	login->is_barred = is_barred(c, now);
	if (!is_same_user || !find_way(c, now, &way, NULL) || !is_same_way(&way, &login->way) ||
	    !is_same_secret(entry, login->entry))
		return false;
	login->entry = entry;
	login->way = way;
	config_unref(login->config);
	login->config = config_ref(now);
	return true;
}

static enum step proved(struct client *c)
{
	struct client_login *login = c->login;
	struct err e;

	login->due = PROOF_NONE;
	if (!catch_up(c))
		return refuse_text(c, "57P01",
				   "the configuration has changed, please connect again");
	if (login->is_barred)
		return refuse_proof(c);
	if (login->id.is_refused)
		return refuse(c, &login->id.refusal);
	client_vouch(c);
	msg_put_authentication(conn_output(&c->conn), AUTH_OK);
	c->phase = CLIENT_WELCOME;
	if (!c->host->enter(c, &e))
		return refuse(c, &e);
	return STEP_CLOSED; /* what comes now is the session's */
}

static void begin_session(struct client *c)
{
	client_login_free(c->login);
	c->login = NULL;
	c->phase = CLIENT_READY;
	conn_resume(&c->conn);
	if (conn_input(&c->conn).n)
		conn_kick(&c->conn);
}

void client_welcome(struct client *c, struct param_set *told)
{
	struct buf *out = conn_output(&c->conn);
	bool is_long = c->login->id.minor >= 2;
	size_t m;

	param_set_assign(&c->told, told);
	for (unsigned i = 0; told && i < told->n; i++)
		msg_put_parameter_status(out, slice_str(told->items[i].name),
					 slice_str(told->items[i].value));
	c->secret_len = is_long ? CLIENT_KEY_LONG : CLIENT_KEY_SHORT;
	c->host->assign_key(c);
	m = msg_begin(out, MSG_BACKEND_KEY);
	buf_put_u32(out, c->pid);
	buf_put(out, client_secret(c), c->secret_len);
	msg_end(out, m);
	msg_put_ready(out, 'I');
	begin_session(c);
	if (c->group)
		c->group->counters.client_login_count++;
	if (c->host->config->global.log_connections) {
		char address[LOG_ADDRESS_MAX];
		const struct log_about about = client_about(c, address);

		log_about(LOG_LEVEL_INFO, &about, "login");
	}
}

/* What it has proved to another process it has to prove to servers here. */
static void lend_brought(const struct passport *p, struct credential *to)
{
	if (*p->password) {
		free(to->password);
		to->password = xstrdup(p->password);
		to->has_password = true;
	}
	if (p->client_key.n == sizeof(to->client_key) &&
	    p->server_key.n == sizeof(to->server_key)) {
		memcpy(to->client_key, p->client_key.p, sizeof(to->client_key));
		memcpy(to->server_key, p->server_key.p, sizeof(to->server_key));
		to->has_scram_keys = true;
	}
}

void client_lend_secret(const struct client *c, struct group *group)
{
	const struct client_login *login = c->login;
	const struct database_conf *database = group->database_conf;
	struct credential *to = &group->credential;
	const struct userlist_entry *entry = login->entry;
	const char *password = NULL;

	if (*database->user) {
		entry = userlist_find(group->config->userlist, slice_str(database->user));
		password = *database->password ? database->password : NULL;
	} else if (login->given) {
		password = login->given;
	}
	if (!password && entry && (entry->kind == PASSWORD_PLAIN || entry->kind == PASSWORD_MD5))
		password = entry->password;
	if (password && (!to->password || strcmp(to->password, password))) {
		free(to->password);
		to->password = xstrdup(password);
		to->has_password = true;
	}
	if (!*database->user && login->has_client_key && entry && entry->kind == PASSWORD_SCRAM) {
		memcpy(to->client_key, login->client_key, sizeof(to->client_key));
		memcpy(to->server_key, entry->scram.server_key, sizeof(to->server_key));
		to->has_scram_keys = true;
	}
	if (client_passport(c) && !*database->user)
		lend_brought(&login->passport, to);
}

/* ---- proof ----------------------------------------------------------------------------------- */

static void ask_md5(struct client *c)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_AUTHENTICATION);

	random_bytes(c->login->md5_salt, sizeof(c->login->md5_salt));
	buf_put_u32(out, AUTH_MD5);
	buf_put(out, c->login->md5_salt, sizeof(c->login->md5_salt));
	msg_end(out, m);
	c->login->due = PROOF_MD5;
}

static void ask_scram(struct client *c)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_AUTHENTICATION);
	struct scram_secret secret;

	buf_put_u32(out, AUTH_SASL);
	buf_put_cstr(out, SCRAM_MECHANISM);
	buf_put_u8(out, 0);
	msg_end(out, m);
	scram_secret_of(c, &secret);
	scram_server_init(&c->login->scram, &secret, NULL);
	mem_wipe(&secret, sizeof(secret));
	c->login->has_scram = true;
	c->login->due = PROOF_SCRAM_FIRST;
}

/* A secret of SCRAM can be asked for in that way only.  Who has none is asked in the way in which
 * others of its place are. */
static bool needs_scram(const struct client_login *login)
{
	enum password_kind kind = login->entry ? login->entry->kind : PASSWORD_NONE;

	if (kind == PASSWORD_NONE && login->was_looked_up)
		kind = login->usual;
	return kind == PASSWORD_SCRAM;
}

static enum step ask_for_proof(struct client *c)
{
	struct client_login *login = c->login;

	if (is_exempt(c))
		return proved(c);
	switch (login->way.type) {
	case AUTH_TYPE_ANY:
		return proved(c);
	case AUTH_TYPE_TRUST:
		return login->entry ? proved(c) : refuse_proof(c);
	case AUTH_TYPE_PLAIN:
	case AUTH_TYPE_PAM:
	case AUTH_TYPE_JWT:
		msg_put_authentication(conn_output(&c->conn), AUTH_CLEARTEXT);
		login->due = PROOF_PLAIN;
		return STEP_DONE;
	case AUTH_TYPE_MD5:
		if (needs_scram(login))
			ask_scram(c);
		else
			ask_md5(c);
		return STEP_DONE;
	case AUTH_TYPE_SCRAM:
		ask_scram(c);
		return STEP_DONE;
	default:
		return refuse_text(c, "28000", "this auth_type is not supported");
	}
}

/* STEP_CLOSED says that the connection is somebody else's business now.  Who has sent the proof
 * already is not asked to send more. */
static void begin_proof(struct client *c)
{
	if (ask_for_proof(c) == STEP_DONE && conn_input(&c->conn).n)
		conn_kick(&c->conn);
}

/* Whether others say whether a password is right, and whose; auth_file need not know the user. */
static bool is_for_others(const struct way *way)
{
	return way->type == AUTH_TYPE_PAM;
}

/* A database may know who is not in auth_file. */
static bool must_look_up(const struct client *c)
{
	const struct client_login *login = c->login;
	const struct database_conf *database =
	    login->id.is_console ? NULL : login->id.database_conf;
	struct settings set;

	return !login->entry && login->way.type != AUTH_TYPE_ANY && !is_for_others(&login->way) &&
	       login->way.type != AUTH_TYPE_JWT && !is_exempt(c) &&
	       config_asks_secrets(login->config, database, &set);
}

/* It came with what it has proved: what it is was found with another thread's configuration. */
static void go_on_at_home(struct client *c)
{
	struct client_login *login = c->login;

	c->phase = CLIENT_AUTH;
	identity_resolve(&login->id, c->host->config);
	login->is_barred = is_barred(c, c->host->config);
	proved(c);
}

/* ---- sessions of another process ----------------------------------------------------------------
 */

static void go_home(struct client *c);

const struct passport *client_passport(const struct client *c)
{
	return c->login && c->login->passport.bytes.data ? &c->login->passport : NULL;
}

/* Whether by the configuration of this process it is who it was by the other's. */
static bool is_still_itself(const struct identity *id, const struct passport *p, struct err *e)
{
	if (id->is_refused)
		*e = id->refusal;
	else if (strcmp(id->server_user, p->server_user) || strcmp(id->tenant, p->tenant) ||
		 strcmp(id->business_id, p->tenant_id))
		err_set(e, "57P01", "the configuration has changed, please connect again");
	else if (p->secret.n != CLIENT_KEY_SHORT && p->secret.n != CLIENT_KEY_LONG)
		err_set(e, "XX001", "the session's cancel key makes no sense");
	else
		return true;
	return false;
}

/* What it has proved was asked for by the other process. */
static void enter_proved(struct client *c)
{
	struct err e;

	client_vouch(c);
	c->phase = CLIENT_WELCOME;
	if (!is_still_itself(&c->login->id, &c->login->passport, &e) || !c->host->enter(c, &e))
		refuse(c, &e);
}

void client_login_bring(struct client *c, struct passport *passport)
{
	struct client_login *login = c->login;

	login->passport = *passport;
	*passport = (struct passport){ 0 };
	login->has_identity = true;
	identity_bring(&login->id, &login->passport);
	c->user = xstrdup(login->id.user);
	go_home(c);
}

void client_go_on(struct client *c)
{
	const struct passport *p = client_passport(c);

	c->connected_at = (usec_t)p->connected_at;
	c->pid = (uint32_t)p->pid;
	c->secret_len = (uint8_t)p->secret.n;
	memcpy(client_secret(c), p->secret.p, p->secret.n);
	c->host->keep_key(c);
	begin_session(c);
}

void client_login_begin(struct client *c)
{
	struct client_login *login = c->login;
	struct err e;

	if (login->has_shown_token) {
		go_on_at_home(c);
		return;
	}
	forget_found(login);
	config_unref(login->config);
	login->config = config_ref(c->host->config);
	identity_resolve(&login->id, login->config);
	login->entry = userlist_find(login->config->userlist, slice_str(login->id.auth_user));
	login->is_barred = is_barred(c, login->config);
	if (client_passport(c)) {
		enter_proved(c);
		return;
	}
	c->phase = CLIENT_AUTH;
	if (!is_exempt(c) && !find_way(c, login->config, &login->way, &e)) {
		refuse(c, &e);
		return;
	}
	if (is_throttled(c, &e)) {
		client_close(c, &e, e.text);
		return;
	}
	login->is_sought = must_look_up(c);
	if (login->is_sought)
		c->host->seek_secret(c);
	else
		begin_proof(c);
}

void client_secret_told(struct client *c, struct userlist_entry *entry, enum password_kind usual,
			const struct err *why_not)
{
	struct client_login *login = c->login;

	forget_found(login);
	login->found = entry;
	login->was_looked_up = true;
	login->usual = usual;
	login->is_sought = false;
	conn_resume(&c->conn);
	if (login->config != c->host->config) {
		client_login_begin(c);
	} else if (why_not) {
		refuse(c, why_not);
	} else {
		login->entry = entry;
		begin_proof(c);
	}
}

/* What it sends meanwhile waits. */
static enum step have_judged(struct client *c, struct slice given)
{
	struct client_login *login = c->login;
	const struct client_claim claim = { .way = login->way.type,
					    .user = login->id.auth_user,
					    .password = given,
					    .config = login->config,
					    .service = login->way.service };

	login->given = xmemdup0(given.p, given.n);
	login->due = PROOF_NONE;
	login->is_judged = true;
	c->host->seek_verdict(c, &claim);
	return STEP_CLOSED;
}

/* Of those that came at once, no more are told what was said than may try. */
void client_judged(struct client *c, enum judgement verdict)
{
	struct err e;

	c->login->is_judged = false;
	conn_resume(&c->conn);
	if (is_throttled(c, &e))
		client_close(c, &e, e.text);
	else if (verdict == JUDGED_GOOD)
		proved(c);
	else if (verdict == JUDGED_WRONG)
		refuse_proof(c);
	else
		refuse_as_wrong(c);
}

/* No guess was wrong, and who is asked about somebody for long must not be told from others. */
void client_login_give_up(struct client *c)
{
	const struct log_about about = { .user = c->user };

	event_say(EVENT_judge, &about, "%s gives no answer within client_login_timeout",
		  c->login->way.service);
	refuse_as_wrong(c);
}

static bool is_for_user(const struct client *c, const char *roles)
{
	const struct client_login *login = c->login;

	for (; *roles; roles += strlen(roles) + 1)
		if (ident_allows(login->config->ident, login->way.map, roles, login->id.auth_user))
			return true;
	return false;
}

/* False: *e is for the log. */
static bool read_token(struct client *c, struct slice token, struct jwt *jwt, struct err *e)
{
	return jwt_check(&c->login->way.jwt, token, clock_wall() / USEC_PER_SEC, jwt, e) &&
	       (is_for_user(c, jwt->roles) ||
		err_set(e, "28P01", "token refused: it is not for this user (jwt_role_claim)"));
}

/* Where a token says whose it is, it is known only now where that one is at home. */
static enum step on_token(struct client *c, struct slice token)
{
	struct client_login *login = c->login;
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(c, address);
	struct jwt jwt;
	struct err e;

	if (!read_token(c, token, &jwt, &e)) {
		if (login->config->global.log_pooler_errors)
			log_about(LOG_LEVEL_INFO, &about, "%s", e.text);
		jwt_fini(&jwt);
		return refuse_proof(c);
	}
	identity_take_token(&login->id, jwt.tenant);
	jwt_fini(&jwt);
	if (!login->way.jwt.tenant_claim || login->id.is_console)
		return proved(c);
	login->has_shown_token = true;
	login->due = PROOF_NONE;
	c->phase = CLIENT_STARTUP;
	go_home(c);
	return STEP_CLOSED;
}

static enum step on_plain(struct client *c, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice given = read_cstr(&r);

	if (!read_is_complete(&r))
		return refuse_text(c, "08P01", "invalid password packet");
	if (is_for_others(&c->login->way))
		return have_judged(c, given);
	if (c->login->way.type == AUTH_TYPE_JWT)
		return on_token(c, given);
	if (!password_verify_plain(c->login->entry, given))
		return refuse_proof(c);
	c->login->given = xmemdup0(given.p, given.n);
	return proved(c);
}

static enum step on_md5(struct client *c, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice given = read_cstr(&r);

	if (!read_is_complete(&r) ||
	    !password_verify_md5(c->login->entry, c->login->md5_salt, given))
		return refuse_proof(c);
	return proved(c);
}

static void put_sasl(struct client *c, uint32_t code, struct slice data)
{
	struct buf *out = conn_output(&c->conn);
	size_t m = msg_begin(out, MSG_AUTHENTICATION);

	buf_put_u32(out, code);
	buf_put_slice(out, data);
	msg_end(out, m);
}

static enum step on_scram_first(struct client *c, struct slice body)
{
	struct reader r = reader_of(body);
	struct slice mechanism = read_cstr(&r);
	uint32_t len = read_u32(&r);
	struct slice first = read_bytes(&r, len);
	struct buf answer = { 0 };
	struct err e;

	if (!read_is_complete(&r) || !slice_is_equal(mechanism, SLICE(SCRAM_MECHANISM)))
		return refuse_text(c, "08P01",
				   "client selected an invalid SASL authentication mechanism");
	if (!scram_server_first(&c->login->scram, first, &answer, &e)) {
		buf_fini(&answer);
		return refuse(c, &e);
	}
	put_sasl(c, AUTH_SASL_CONTINUE, buf_peek(&answer));
	buf_fini(&answer);
	c->login->due = PROOF_SCRAM_FINAL;
	return STEP_DONE;
}

static enum step on_scram_final(struct client *c, struct slice body)
{
	struct client_login *login = c->login;
	struct buf answer = { 0 };
	struct err e;

	if (!scram_server_final(&login->scram, body, &answer, login->client_key, &e)) {
		buf_fini(&answer);
		if (!strcmp(e.sqlstate, "28P01"))
			return refuse_proof(c);
		return refuse(c, &e);
	}
	if (login->is_barred) {
		buf_fini(&answer);
		return refuse_proof(c);
	}
	login->has_client_key = true;
	put_sasl(c, AUTH_SASL_FINAL, buf_peek(&answer));
	buf_fini(&answer);
	return proved(c);
}

static enum step on_proof(struct client *c, const struct frame *f)
{
	struct slice body = frame_body(f);
	struct err e;

	/* While it was asked for, others have tried. */
	if (is_throttled(c, &e)) {
		client_close(c, &e, e.text);
		return STEP_CLOSED;
	}
	switch (c->login->due) {
	case PROOF_PLAIN:
		return on_plain(c, body);
	case PROOF_MD5:
		return on_md5(c, body);
	case PROOF_SCRAM_FIRST:
		return on_scram_first(c, body);
	case PROOF_SCRAM_FINAL:
		return on_scram_final(c, body);
	case PROOF_NONE:
		break;
	}
	return refuse_text(c, "08P01", "unexpected password response");
}

static void read_proof(struct client *c)
{
	struct frame f;
	enum step step = STEP_DONE;

	while (step == STEP_DONE && c->phase == CLIENT_AUTH) {
		struct slice in = conn_input(&c->conn);
		enum frame_status status = frame_peek(in.p, in.n, &f);

		/* Whatever else it is, its length may be no length. */
		if (in.n && in.p[0] != MSG_PASSWORD) {
			refuse_text(c, "08P01", "expected a password response");
			return;
		}
		if (status == FRAME_PARTIAL)
			return;
		if (status == FRAME_INVALID || f.len > LOGIN_MESSAGE_MAX) {
			refuse_text(c, "08P01", "invalid message length in login");
			return;
		}
		if (!frame_is_whole(&f))
			return;
		conn_consume(&c->conn, f.len);
		step = on_proof(c, &f);
	}
}

/* ---- the packets that open a connection ------------------------------------------------------ */

static struct tls *tls_of_client(struct client *c, bool direct)
{
	return tls_new(c->host->tls, c->conn.fd, NULL, NULL, direct);
}

void client_login_direct_tls(struct client *c)
{
	conn_start_tls(&c->conn, tls_of_client(c, true));
}

static enum step on_tls_request(struct client *c)
{
	bool possible = c->host->tls && c->conn.peer.family != AF_UNIX;

	if (c->login->asked_tls || c->conn.tls)
		return refuse_text(c, "08P01", "SSLRequest received twice");
	c->login->asked_tls = true;
	conn_send(&c->conn, possible ? "S" : "N", 1);
	if (!possible)
		return STEP_DONE;
	conn_start_tls(&c->conn, tls_of_client(c, false));
	return STEP_CLOSED;
}

static enum step on_gss_request(struct client *c)
{
	if (c->login->asked_gss)
		return refuse_text(c, "08P01", "GSSENCRequest received twice");
	c->login->asked_gss = true;
	conn_send(&c->conn, "N", 1);
	return STEP_DONE;
}

static enum step on_cancel_request(struct client *c, const struct startup *startup)
{
	c->login->asked_cancel = true;
	c->host->cancel(c, startup->cancel_pid, startup->cancel_key);
	return STEP_CLOSED;
}

/* Its home depends on its tenant.  Strangers wait for that too, or they would learn which there
 * are. */
static void go_home(struct client *c)
{
	struct client_login *login = c->login;

	identity_resolve(&login->id, c->host->config);
	login->is_sought = *login->id.sought != '\0';
	if (login->is_sought)
		c->host->seek_tenant(c, slice_str(login->id.sought));
	else
		c->host->find_home(c);
}

void client_tenant_told(struct client *c, const struct err *why_not)
{
	conn_resume(&c->conn);
	identity_answer(&c->login->id, why_not);
	go_home(c);
}

static enum step on_session_request(struct client *c, const struct startup *startup)
{
	const struct settings *set = &c->host->config->global;
	struct client_login *login = c->login;
	char host[HOST_MAX];
	struct err e;

	login->has_identity = true;
	if (!identity_init(&login->id, startup, &e))
		return refuse(c, &e);
	c->user = xstrdup(login->id.user);
	if (c->conn.tls && tls_asked_host(c->conn.tls, host, sizeof(host)))
		identity_set_host(&login->id, host);
	if (set->client_tls_sslmode >= SSLMODE_REQUIRE && !c->conn.tls &&
	    c->conn.peer.family != AF_UNIX)
		return refuse_text(c, "28000", "TLS is required");
	startup_negotiate(startup, conn_output(&c->conn));
	go_home(c);
	return STEP_CLOSED;
}

static void read_startup(struct client *c)
{
	enum step step = STEP_DONE;
	struct startup startup;
	struct err e;

	while (step == STEP_DONE) {
		struct slice in = conn_input(&c->conn);

		step = startup_parse(in.p, in.n, &startup, &e);
		if (step == STEP_CLOSED)
			refuse(c, &e);
		if (step != STEP_DONE)
			return;
		/* The packet stays readable until this event ends. */
		conn_consume(&c->conn, startup.len);
		switch (startup.kind) {
		case STARTUP_SSL:
			step = on_tls_request(c);
			break;
		case STARTUP_GSSENC:
			step = on_gss_request(c);
			break;
		case STARTUP_CANCEL:
			step = on_cancel_request(c, &startup);
			break;
		case STARTUP_SESSION:
			step = on_session_request(c, &startup);
			break;
		}
	}
}

bool client_login_awaits_tenant(const struct client *c)
{
	return c->phase == CLIENT_STARTUP && c->login->is_sought;
}

bool client_login_awaits_secret(const struct client *c)
{
	return c->phase == CLIENT_AUTH && c->login->is_sought;
}

bool client_login_awaits_verdict(const struct client *c)
{
	return c->phase == CLIENT_AUTH && c->login->is_judged;
}

void client_login_on_readable(struct client *c)
{
	if (c->phase == CLIENT_STARTUP && !c->login->is_sought && !c->login->asked_cancel)
		read_startup(c);
	else if (c->phase == CLIENT_AUTH && !c->login->is_sought && !c->login->is_judged)
		read_proof(c);
	/* Before and in WELCOME what the client pipelined waits in its buffer, bounded by what one
	 * receive takes; the connection is read on to notice that it hangs up. */
	else if (c->phase != CLIENT_READY && conn_input(&c->conn).n > NET_RECEIVE_MAX)
		conn_pause(&c->conn);
}
