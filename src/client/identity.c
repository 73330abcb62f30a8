/* SPDX-License-Identifier: ISC
 *
 * identity.c - who a client is.
 *
 * Knows the startup packet and the configuration, no sockets and no secrets.  What a stranger may
 * not learn (an unknown database, an unknown tenant) is kept as a refusal, to be told after proof.
 */
#include "client/identity.h"

#include "base/mem.h"
#include "sql/ascii.h"

#include <stdlib.h>

/* More session settings than a driver could mean. */
#define SETTINGS_MAX 64

static const char *const console_names[] = { "pgturnstile", "pgbouncer" };

static void add_setting(struct identity *id, struct slice name, struct slice value)
{
	id->settings = xrealloc(id->settings, (id->nsettings + 1) * sizeof(*id->settings));
	id->settings[id->nsettings++] =
	    (struct startup_setting){ xmemdup0(name.p, name.n), xmemdup0(value.p, value.n) };
}

static bool split_options(struct identity *id, struct slice options, struct err *e)
{
	struct buf name = { 0 }, value = { 0 };
	enum step step;

	while ((step = options_next(&options, &name, &value, e)) == STEP_DONE &&
	       id->nsettings <= SETTINGS_MAX)
		add_setting(id, buf_peek(&name), buf_peek(&value));
	buf_fini(&name);
	buf_fini(&value);
	return step != STEP_CLOSED;
}

static bool take_replication(struct identity *id, struct slice value, struct err *e)
{
	if (replication_parse(value, &id->replication))
		return true;
	err_set(e, "22023", "invalid value for parameter \"replication\": \"%.*s\"",
		SLICE_FMT(value));
	return err_hint(e, "Valid values are: \"false\", 0, \"true\", 1, \"database\".");
}

static bool take_param(struct identity *id, struct slice name, struct slice value, struct err *e)
{
	if (slice_is_equal(name, SLICE("user"))) {
		free(id->user);
		id->user = xmemdup0(value.p, value.n);
	} else if (slice_is_equal(name, SLICE("database"))) {
		free(id->database);
		id->database = xmemdup0(value.p, value.n);
	} else if (slice_is_equal(name, SLICE("replication"))) {
		return take_replication(id, value, e);
	} else if (!slice_is_equal(name, SLICE("options")) &&
		   !(name.n > 5 && !memcmp(name.p, "_pq_.", 5))) {
		add_setting(id, name, value);
	}
	return true;
}

bool identity_init(struct identity *id, const struct startup *startup, struct err *e)
{
	struct slice at = startup->params, name, value, options = { 0 };

	*id = (struct identity){ .minor = startup->minor };
	while (startup_next_param(&at, &name, &value))
		if (slice_is_equal(name, SLICE("options")))
			options = value;
	/* Before the others, which win over them, wherever in the packet they stand. */
	if (!split_options(id, options, e))
		return false;
	at = startup->params;
	while (startup_next_param(&at, &name, &value))
		if (!take_param(id, name, value, e))
			return false;
	if (id->nsettings > SETTINGS_MAX)
		return err_set(e, "08P01", "more than %d settings in the startup packet",
			       SETTINGS_MAX);
	if (!id->user || !*id->user)
		return err_set(e, "28000", "no PostgreSQL user name specified in startup packet");
	if (!id->database || !*id->database) {
		free(id->database);
		id->database = xstrdup(id->user);
	}
	for (size_t i = 0; i < PGT_NELEMS(console_names); i++)
		id->is_console |= !strcmp(id->database, console_names[i]);
	return true;
}

void identity_bring(struct identity *id, const struct passport *p)
{
	struct slice pairs = p->base;
	const char *name, *value;

	*id = (struct identity){ .user = xstrdup(p->user),
				 .database = xstrdup(p->database),
				 .brought = xstrdup(p->tenant),
				 .brought_id = xstrdup(p->session_id) };
	while (pairs.n && passport_next_pair(&pairs, &name, &value))
		add_setting(id, slice_str(name), slice_str(value));
}

const char *identity_other_name(const struct identity *id)
{
	return id->is_console ? console_names[!strcmp(id->database, console_names[0])] : NULL;
}

/* On the server. */
static const char *server_user(const struct identity *id)
{
	return id->database_conf && *id->database_conf->user ? id->database_conf->user
							     : id->auth_user;
}

static void refuse(struct identity *id)
{
	id->is_refused = true;
}

/* ---- the tenant ----------------------------------------------------------------------------- */

static void set_text(char **at, const char *text)
{
	free(*at);
	*at = xstrdup(text);
}

/* The way gave a name, an id or neither; *said is what it gave, for the message, *sought what can
 * be looked up. */
struct finding {
	const struct tenant_conf *conf;
	const char *said;
	const char *sought;
	bool is_id;
};

static const char *startup_value(const struct identity *id, const char *setting)
{
	const char *value = NULL;

	for (unsigned i = 0; i < id->nsettings; i++)
		if (!strcasecmp(id->settings[i].name, setting))
			value = id->settings[i].value;
	return value;
}

/* `app.acme`: the user is app, the tenant acme. */
static struct finding by_user_suffix(struct identity *id, const struct config *config)
{
	char *dot = strrchr(id->user, '.');

	if (!dot || dot == id->user)
		return (struct finding){ 0 };
	free(id->auth_user);
	id->auth_user = xmemdup0(id->user, (size_t)(dot - id->user));
	return (struct finding){ config_tenant_by_name(config, slice_str(dot + 1)), dot + 1,
				 dot + 1, false };
}

/* `acme.db.example.com`: the tenant is acme, when tenant_sni_suffix is db.example.com.  A name
 * below that of a tenant is nobody's. */
static struct finding by_host(struct identity *id, const struct config *config)
{
	struct slice suffix = slice_str(config->global.tenant_sni_suffix);
	struct slice host = slice_str(id->host ? id->host : "");
	const char *dot = memchr(host.p, '.', host.n);
	struct slice name = slice_of(host.p, dot ? (size_t)(dot - host.p) : 0);

	if (suffix.n && *suffix.p == '.')
		suffix = slice_of(suffix.p + 1, suffix.n - 1);
	if (!name.n || !slice_is_equal_nocase(slice_str(dot + 1), suffix))
		return (struct finding){ 0 };
	free(id->host_tenant);
	id->host_tenant = xmemdup0(name.p, name.n);
	return (struct finding){ config_tenant_by_name(config, name), id->host_tenant,
				 id->host_tenant, false };
}

static struct finding by_way(struct identity *id, const struct config *config,
			     enum tenant_by_way way)
{
	const char *value;

	switch (way) {
	case TENANT_BY_USER:
		return (struct finding){ config_tenant_by_user(config, slice_str(id->user)), NULL,
					 id->user, false };
	case TENANT_BY_DATABASE:
		return (struct finding){ config_tenant_by_database(config, slice_str(id->database)),
					 NULL, id->database, false };
	case TENANT_BY_USER_SUFFIX:
		return by_user_suffix(id, config);
	case TENANT_BY_STARTUP:
		value = startup_value(id, config->global.tenant_setting);
		if (!value)
			return (struct finding){ 0 };
		return (struct finding){ config_tenant_by_business_id(config, slice_str(value)),
					 value, value, true };
	case TENANT_BY_SNI:
		return by_host(id, config);
	case TENANT_BY_TOKEN:
		if (!id->token_tenant)
			return (struct finding){ 0 };
		return (struct finding){ config_tenant_by_business_id(config,
								      slice_str(id->token_tenant)),
					 id->token_tenant, id->token_tenant, true };
	default: /* the session's own to say */
		return (struct finding){ 0 };
	}
}

static const char *const way_names[] = { [TENANT_BY_USER] = "user",
					 [TENANT_BY_DATABASE] = "database",
					 [TENANT_BY_USER_SUFFIX] = "user_suffix",
					 [TENANT_BY_STARTUP] = "startup",
					 [TENANT_BY_SNI] = "sni",
					 [TENANT_BY_TOKEN] = "token" };

/* Whether an unknown tenant is spelled as another's name where that has an id, or the other way
 * round: it would share that one's pools, or its rows. */
static bool is_taken(const struct config *config, const struct finding *found)
{
	struct slice said = slice_str(found->said);

	return found->is_id ? config_tenant_by_name(config, said) != NULL
			    : config_tenant_by_business_id(config, said) != NULL;
}

static void take_tenant(struct identity *id, const struct config *config,
			const struct finding *found, enum tenant_by_way way)
{
	if (found->conf) {
		id->tenant_conf = found->conf;
		set_text(&id->tenant, found->conf->name);
		set_text(&id->business_id, found->conf->business_id);
	} else if (!*found->said) {
		err_set(&id->refusal, "42501", "the tenant is empty (tenant_by = %s)",
			way_names[way]);
		refuse(id);
	} else if (id->why_not) {
		id->refusal = *id->why_not;
		refuse(id);
	} else if (!config->unknown_tenant_tier) {
		err_set(&id->refusal, "28000",
			"tenant \"%.100s\" is not known (tenant_by = %s, unknown_tenant = reject)",
			found->said, way_names[way]);
		refuse(id);
	} else if (is_taken(config, found)) {
		err_set(
		    &id->refusal, "28000",
		    "tenant \"%.100s\" is not known (tenant_by = %s), and another has it as its %s",
		    found->said, way_names[way], found->is_id ? "name" : "id");
		refuse(id);
	} else {
		set_text(&id->tenant, found->said);
		set_text(&id->business_id, found->said);
	}
}

static bool may_switch(const struct identity *id, const struct config *config)
{
	const struct tenant_by *by = &config->global.tenant_by;
	struct settings set;

	if (!id->shares_pools ||
	    (!tenant_by_has(by, TENANT_BY_SET) && !tenant_by_has(by, TENANT_BY_COMMENT)))
		return false;
	settings_resolve(config, id->database_conf, config_user(config, slice_str(server_user(id))),
			 NULL, NULL, &set);
	return set.tenant_switch;
}

/* Whether a database has to be asked first. */
static bool must_seek(const struct identity *id, const struct config *config,
		      const struct finding *found, enum tenant_by_way way)
{
	return !found->conf && found->sought && *found->sought && config_may_look_up(config) &&
	       !(id->answered & 1u << way);
}

/* Who gets no chance to be looked up is told to come again. */
static void seek(struct identity *id, const struct finding *found, enum tenant_by_way way)
{
	set_text(&id->sought, found->sought);
	id->sought_way = (uint8_t)way;
	err_set(&id->refusal, "57P01", "the configuration has changed, please connect again");
	refuse(id);
}

/* It has told its tenant to another process, which sends the name. */
static void find_brought(struct identity *id, const struct config *config)
{
	const struct finding found = { config_tenant_by_name(config, slice_str(id->brought)),
				       id->brought, id->brought, false };
	struct finding suffix;

	if (!*id->brought)
		return;
	if (must_seek(id, config, &found, TENANT_BY_USER)) {
		seek(id, &found, TENANT_BY_USER);
		return;
	}
	suffix = tenant_by_has(&config->global.tenant_by, TENANT_BY_USER_SUFFIX)
		     ? by_user_suffix(id, config)
		     : (struct finding){ 0 };
	if (!suffix.said || strcmp(suffix.said, id->brought) != 0)
		set_text(&id->auth_user, id->user);
	take_tenant(id, config, &found, TENANT_BY_USER);
}

/* The one that it has chosen must be known by the time that it has a session here. */
static void seek_chosen(struct identity *id, const struct config *config)
{
	struct slice chosen = slice_str(id->brought_id);
	const struct finding found = { config_tenant_by_business_id(config, chosen), id->brought_id,
				       id->brought_id, true };

	if (!id->is_refused && must_seek(id, config, &found, TENANT_BY_SET))
		seek(id, &found, TENANT_BY_SET);
}

static void find_tenant(struct identity *id, const struct config *config)
{
	const struct tenant_by *by = &config->global.tenant_by;

	if (id->brought) {
		find_brought(id, config);
		seek_chosen(id, config);
		return;
	}

	for (unsigned i = 0; i < by->n; i++) {
		enum tenant_by_way way = by->ways[i];
		struct finding found = by_way(id, config, way);

		if (must_seek(id, config, &found, way)) {
			seek(id, &found, way);
			return;
		}
		if (found.conf || found.said) {
			take_tenant(id, config, &found, way);
			return;
		}
	}
}

static void resolve_tenant(struct identity *id, const struct config *config)
{
	const struct tenant_by *by = &config->global.tenant_by;
	const char *claimed;

	find_tenant(id, config);
	if (id->is_refused || !by->n)
		return;
	id->may_switch = may_switch(id, config);
	if (!*id->tenant && !id->may_switch && id->why_not) {
		id->refusal = *id->why_not;
		refuse(id);
		return;
	}
	if (!*id->tenant && !id->may_switch) {
		err_set(&id->refusal, "28000",
			"no tenant: none of the ways in tenant_by names one");
		err_hint(
		    &id->refusal,
		    "tenant_by lists how a connection tells its tenant; see docs/settings.md.");
		refuse(id);
		return;
	}
	/* Whoever is one tenant and says another's id in the startup packet is lying or lost. */
	claimed = startup_value(id, config->global.tenant_setting);
	if (claimed && strcmp(claimed, id->business_id)) {
		err_set(&id->refusal, "42501",
			"permission denied to set \"%s\" to another tenant's id",
			config->global.tenant_setting);
		refuse(id);
	}
}

/* What is replicated are the rows of all tenants. */
static void guard_replication(struct identity *id, const struct config *config)
{
	if (!id->replication || !config->global.tenant_by.n || id->is_refused)
		return;
	err_set(&id->refusal, "42501",
		"permission denied: a replication connection sees the rows of all tenants");
	err_hint(&id->refusal, "Connect to the server itself, or to a pooler without tenant_by.");
	refuse(id);
}

void identity_set_host(struct identity *id, const char *host)
{
	id->host = xstrdup(host);
	/* Names of hosts are the same in any case; those of tenants are not. */
	for (char *p = id->host; *p; p++)
		*p = ascii_lower(*p);
}

void identity_take_token(struct identity *id, const char *tenant)
{
	free(id->token_tenant);
	id->token_tenant = tenant ? xstrdup(tenant) : NULL;
}

void identity_resolve(struct identity *id, const struct config *config)
{
	id->is_refused = id->may_switch = false;
	id->tenant_conf = NULL;
	set_text(&id->tenant, "");
	set_text(&id->business_id, "");
	set_text(&id->auth_user, id->user);
	set_text(&id->sought, "");
	if (id->is_console)
		return;
	id->database_conf = config_database_for(config, slice_str(id->database));
	id->shares_pools = id->database_conf &&
			   config_tenant_pool(config, id->database_conf) == TENANT_POOL_SHARED;
	resolve_tenant(id, config);
	guard_replication(id, config);
	if (!id->database_conf && !id->is_refused) {
		err_set(&id->refusal, "3D000", "no such database: %.200s", id->database);
		if (id->replication)
			err_hint(&id->refusal,
				 "Physical replication asks for the database \"replication\": give "
				 "it an entry in [databases].");
		refuse(id);
	}
	set_text(&id->server_user, server_user(id));
}

void identity_answer(struct identity *id, const struct err *why_not)
{
	id->answered |= 1u << id->sought_way;
	if (why_not && !id->why_not)
		id->why_not = err_copy(why_not);
}

struct group_key identity_group_key(const struct identity *id)
{
	return (struct group_key){ slice_str(id->database), slice_str(id->server_user),
				   id->shares_pools ? SLICE("") : slice_str(id->tenant),
				   id->replication, id->part };
}

void identity_fini(struct identity *id)
{
	for (unsigned i = 0; i < id->nsettings; i++) {
		free(id->settings[i].name);
		free(id->settings[i].value);
	}
	free(id->settings);
	free(id->host);
	free(id->host_tenant);
	free(id->token_tenant);
	free(id->user);
	free(id->auth_user);
	free(id->server_user);
	free(id->database);
	free(id->tenant);
	free(id->business_id);
	free(id->sought);
	free(id->why_not);
	free(id->brought);
	free(id->brought_id);
	*id = (struct identity){ 0 };
}
