/* SPDX-License-Identifier: ISC
 *
 * login.c - from accept to the first ReadyForQuery.
 *
 * A strict sequence: requests for encryption, one startup packet, one way to prove it, done.  The
 * identity is frozen when the startup packet is read; a second one, or any message but the one that
 * is due, ends the connection.
 *
 * Knows what a login comes to; in which way it is proved is way.c's business and proof.c's, and
 * where the client goes then is the host's. Source: PostgreSQL manual, "Message Flow: Start-up".
 */
#include "client/login.h"

#include "auth/networks.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/parts.h"
#include "client/throttle.h"
#include "net/sockopt.h"
#include "net/tls.h"
#include "stats/event.h"
#include "wire/frame.h"
#include "wire/write.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A name in DNS, with its NUL. */
#define HOST_MAX 256

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

void login_forget_given(struct client_login *login)
{
	if (login->given)
		mem_wipe(login->given, strlen(login->given));
	free(login->given);
	login->given = NULL;
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
	login_forget_given(login);
	passport_fini(&login->passport);
	config_unref(login->config);
	mem_wipe(login, sizeof(*login));
	free(login);
}

const struct identity *client_identity(const struct client *c)
{
	return &c->login->id;
}

void client_choose_part(struct client *c, unsigned part)
{
	c->login->id.part = part;
}

/* ---- the end of a login ---------------------------------------------------------------------- */

enum step login_refuse(struct client *c, const struct err *e)
{
	char address[LOG_ADDRESS_MAX];
	const struct log_about about = client_about(c, address);

	if (c->host->config->global.log_pooler_errors)
		log_about(LOG_LEVEL_WARNING, &about, "login of \"%s\" refused: %s",
			  c->user ? c->user : "", e->text);
	event_count(EVENT_logins, &(struct log_about){ .reason = e->text },
		    "%u logins were refused within ten seconds, the last one of \"%s\" from %s: %s",
		    event_specs[EVENT_logins].burst, c->user ? c->user : "", address, e->text);
	login_forget_given(c->login);
	client_close(c, e, e->text);
	return STEP_CLOSED;
}

enum step login_refuse_text(struct client *c, const char *sqlstate, const char *text)
{
	struct err e;

	err_set(&e, sqlstate, "%s", text);
	return login_refuse(c, &e);
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
bool login_is_throttled(const struct client *c, struct err *e)
{
	struct throttle_limits limits;
	usec_t wait;

	if (!may_be_throttled(c))
		return false;
	limits = limits_of(c);
	wait = throttle_wait(addr_origin(&c->conn.peer), slice_str(c->login->id.auth_user), &limits,
			     loop_now(c->conn.net->loop));
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
	if (throttle_fail(addr_origin(&c->conn.peer), slice_str(c->login->id.auth_user), &limits,
			  loop_now(c->conn.net->loop)))
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
enum step login_refuse_as_wrong(struct client *c)
{
	struct err e;

	err_set(&e, "28P01", "password authentication failed for user \"%.100s\"", c->user);
	return login_refuse(c, &e);
}

enum step login_refuse_proof(struct client *c)
{
	count_failure(c);
	say_barred(c);
	if (c->login->was_looked_up)
		c->host->doubt_secret(c);
	return login_refuse_as_wrong(c);
}

static bool is_same_secret(const struct userlist_entry *a, const struct userlist_entry *b)
{
	return (!a && !b) || (a && b && !strcmp(a->password, b->password));
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
bool login_is_exempt(const struct client *c)
{
	return c->login->id.is_console && client_is_ourselves(c);
}

static bool is_barred(const struct client *c, const struct config *config)
{
	return !login_is_exempt(c) &&
	       (!is_user_allowed(c, config) || !is_tenant_allowed(c, config));
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
	if (!is_same_user || !way_find(c, now, &way, NULL) || !way_is_same(&way, &login->way) ||
	    !is_same_secret(entry, login->entry))
		return false;
	login->entry = entry;
	login->way = way;
	config_unref(login->config);
	login->config = config_ref(now);
	return true;
}

enum step login_proved(struct client *c)
{
	struct client_login *login = c->login;
	struct err e;

	login->due = PROOF_NONE;
	if (!catch_up(c))
		return login_refuse_text(c, "57P01",
					 "the configuration has changed, please connect again");
	if (!way_is_secured(c, login->config, &e))
		return login_refuse(c, &e);
	if (login->is_barred)
		return login_refuse_proof(c);
	if (login->id.is_refused)
		return login_refuse(c, &login->id.refusal);
	client_vouch(c);
	msg_put_authentication(conn_output(&c->conn), AUTH_OK);
	c->phase = CLIENT_WELCOME;
	if (!c->host->enter(c, &e))
		return login_refuse(c, &e);
	return STEP_CLOSED; /* what comes now is the session's */
}

void login_begin_session(struct client *c)
{
	client_login_free(c->login);
	c->login = NULL;
	c->phase = CLIENT_READY;
	conn_guard(&c->conn, false);
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
	login_begin_session(c);
	if (c->group)
		c->group->counters.client_login_count++;
	if (c->host->config->global.log_connections) {
		char address[LOG_ADDRESS_MAX];
		const struct log_about about = client_about(c, address);

		log_about(LOG_LEVEL_INFO, &about, "login");
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
		credential_set_password(to, password);
	}
	if (!*database->user && login->has_client_key && entry && entry->kind == PASSWORD_SCRAM) {
		memcpy(to->client_key, login->client_key, sizeof(to->client_key));
		memcpy(to->server_key, entry->scram.server_key, sizeof(to->server_key));
		to->has_scram_keys = true;
	}
	if (client_passport(c) && !*database->user)
		brought_lend(&login->passport, to);
}
/* A database may know who is not in auth_file. */
static bool must_look_up(const struct client *c)
{
	const struct client_login *login = c->login;
	const struct database_conf *database =
	    login->id.is_console ? NULL : login->id.database_conf;
	struct settings set;

	return !login->entry && login->way.type != AUTH_TYPE_ANY &&
	       !way_is_for_others(&login->way) && login->way.type != AUTH_TYPE_JWT &&
	       !login_is_exempt(c) && config_asks_secrets(login->config, database, &set);
}

/* It came with what it has proved: what it is was found with another thread's configuration. */
static void go_on_at_home(struct client *c)
{
	struct client_login *login = c->login;

	c->phase = CLIENT_AUTH;
	identity_resolve(&login->id, c->host->config);
	login->is_barred = is_barred(c, c->host->config);
	login_proved(c);
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
		brought_enter(c);
		return;
	}
	c->phase = CLIENT_AUTH;
	if (!login_is_exempt(c) && !way_find(c, login->config, &login->way, &e)) {
		login_refuse(c, &e);
		return;
	}
	if (login_is_throttled(c, &e)) {
		client_close(c, &e, e.text);
		return;
	}
	login->is_sought = must_look_up(c);
	if (login->is_sought)
		c->host->seek_secret(c);
	else
		proof_begin(c);
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
		login_refuse(c, why_not);
	} else {
		login->entry = entry;
		proof_begin(c);
	}
}

void client_came_late(struct client *c)
{
	c->login->came_late = true;
}

unsigned client_count_awaited(const struct client_host *host)
{
	unsigned n = 0;

	LIST_FOREACH (at, &host->newcomers)
		n += !container_of(at, struct client, link)->login->came_late;
	return n;
}

unsigned client_close_awaited(struct client_host *host, const struct err *e)
{
	unsigned n = 0;

	LIST_FOREACH_SAFE (at, &host->newcomers) {
		struct client *c = container_of(at, struct client, link);

		if (c->login->came_late || c->login->asked_cancel)
			continue;
		client_close(c, e, e->text);
		n++;
	}
	return n;
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
		return login_refuse_text(c, "08P01", "SSLRequest received twice");
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
		return login_refuse_text(c, "08P01", "GSSENCRequest received twice");
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
void login_go_home(struct client *c)
{
	struct client_login *login = c->login;

	identity_resolve(&login->id, c->host->config);
	if (login->came_late && !login->id.is_console) {
		login_refuse_text(c, "57P03", "the pooler is shutting down");
		return;
	}
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
	login_go_home(c);
}

static enum step on_session_request(struct client *c, const struct startup *startup)
{
	struct client_login *login = c->login;
	char host[HOST_MAX];
	struct err e;

	login->has_identity = true;
	if (!identity_init(&login->id, startup, &e))
		return login_refuse(c, &e);
	c->user = xstrdup(login->id.user);
	if (c->conn.tls && tls_asked_host(c->conn.tls, host, sizeof(host)))
		identity_set_host(&login->id, host);
	if (!way_is_secured(c, c->host->config, &e))
		return login_refuse(c, &e);
	startup_negotiate(startup, conn_output(&c->conn));
	login_go_home(c);
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
			login_refuse(c, &e);
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
		proof_read(c);
	/* Before and in WELCOME what the client pipelined waits in its buffer, bounded by what one
	 * receive takes; the connection is read on to notice that it hangs up. */
	else if (c->phase != CLIENT_READY && conn_input(&c->conn).n > NET_RECEIVE_MAX)
		conn_pause(&c->conn);
}
