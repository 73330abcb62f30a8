/* SPDX-License-Identifier: ISC
 *
 * load.c - from the text of an ini file to a config.
 *
 * Goes on after every problem, so that all of them are told at once.  Knows sections and what may
 * stand in them; how lines are split is ini.c's, what fits together check.c's business.
 * Fuzzed by test/fuzz/fuzz_config.c.
 */
#include "auth/directory.h"
#include "auth/hba.h"
#include "auth/jwt.h"
#include "auth/scram.h"
#include "auth/sign.h"
#include "auth/userlist.h"
#include "base/mem.h"
#include "config/build.h"
#include "config/ini.h"
#include "config/types.h"
#include "wire/cancel_key.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdlib.h>

#define INCLUDE_DEPTH_MAX 10
/* Characters that a token of http_token_file has at the least. */
#define HTTP_TOKEN_MIN 16
/* Bytes that a scram_salt_file has at the least. */
#define SALT_FILE_MIN 16
/* machine-id(5): 128 bits as hexadecimal digits; before they are drawn, a word. */
#define MACHINE_ID     "/etc/machine-id"
#define MACHINE_ID_LEN 32

/* A file that is being read, and the one that includes it. */
struct source {
	const char *path;
	const struct source *parent;
	unsigned depth;
};

struct loader {
	struct draft draft;
	config_read_file_fn *read;
	void *arg;
	const struct section *section; /* goes on through includes, as in PgBouncer */
	struct place place;
	struct settings defaults;
	bool is_noted[NSETTINGS];
};

/* A section, and what is done with each `name = value` of it. */
struct section {
	const char *name;
	void (*take)(struct loader *l, struct slice name, struct slice value);
};

/* --- settings ------------------------------------------------------------------------------- */

/* Says once that a setting does nothing yet, when it was to do something. */
static void note_later(struct loader *l, const struct setting *setting, const char *text)
{
	struct settings tried = l->defaults;
	bool *is_noted = &l->is_noted[setting - settings_table];

	if (setting->status != LATER || *is_noted || !setting_parse(setting, text, &tried, NULL) ||
	    setting_is_equal(setting, &tried, &l->defaults))
		return;
	problem_note(l->draft.problems, l->place, setting->name, "has no effect in this version");
	*is_noted = true;
}

static void complain_unknown(struct loader *l, const char *owner, struct nearest *nearest)
{
	if (nearest_is_near(nearest))
		problem_add(l->draft.problems, l->place, owner,
			    "unknown setting \"%.*s\", did you mean %.*s?",
			    SLICE_FMT(nearest->wanted), SLICE_FMT(nearest->name));
	else
		problem_add(l->draft.problems, l->place, owner, "unknown setting \"%.*s\"",
			    SLICE_FMT(nearest->wanted));
}

static void take_global(struct loader *l, struct slice name, struct slice value)
{
	const struct setting *setting = settings_find(name, SCOPE_GLOBAL);
	const char *text = config_string(l->draft.config, value);
	struct nearest nearest = { .wanted = name, .distance = UINT_MAX };
	struct err e;

	if (!setting) {
		settings_nearest(&nearest, SCOPE_GLOBAL);
		complain_unknown(l, NULL, &nearest);
		return;
	}
	l->draft.places[setting - settings_table] = l->place;
	if (setting_parse(setting, text, &l->draft.config->global, &e))
		note_later(l, setting, text);
	else
		problem_add(l->draft.problems, l->place, setting->name, "%s", e.text);
}

/* --- entries: name = key=value … ------------------------------------------------------------ */

/* A place beside those of enum setting_scope. */
#define IN_PEERS (1u << 16)

/* What an entry may hold besides settings. */
struct entry {
	const char *host, *port, *weight, *zone, *dbname, *user, *password;
	const char *client_encoding, *datestyle, *timezone, *application_name, *connect_query;
	const char *tier, *business_id, *database;
	const char *pool_size;
	const char *nodes, *reserved;
	struct overrides own;
};

static const struct field {
	const char *name;
	unsigned scopes;
	size_t offset;
	bool is_secret;
} fields[] = {
	{"host",              SCOPE_DATABASE | IN_PEERS,     offsetof(struct entry, host),             false},
	{ "port",             SCOPE_DATABASE | IN_PEERS,     offsetof(struct entry, port),             false},
	{ "node_weight",      SCOPE_DATABASE,                offsetof(struct entry, weight),           false},
	{ "node_zone",        SCOPE_DATABASE,                offsetof(struct entry, zone),             false},
	{ "dbname",           SCOPE_DATABASE,                offsetof(struct entry, dbname),           false},
	{ "user",             SCOPE_DATABASE | SCOPE_TENANT, offsetof(struct entry, user),             false},
	{ "password",         SCOPE_DATABASE,                offsetof(struct entry, password),         true },
	{ "client_encoding",  SCOPE_DATABASE,                offsetof(struct entry, client_encoding),  false},
	{ "datestyle",        SCOPE_DATABASE,                offsetof(struct entry, datestyle),        false},
	{ "timezone",         SCOPE_DATABASE,                offsetof(struct entry, timezone),         false},
	{ "application_name", SCOPE_DATABASE,                offsetof(struct entry, application_name), false},
	{ "connect_query",    SCOPE_DATABASE,                offsetof(struct entry, connect_query),    false},
	{ "tier",             SCOPE_TENANT,                  offsetof(struct entry, tier),             false},
	{ "business_id",      SCOPE_TENANT,                  offsetof(struct entry, business_id),      false},
	{ "database",         SCOPE_TENANT,                  offsetof(struct entry, database),         false},
	{ "pool_size",        IN_PEERS,                      offsetof(struct entry, pool_size),        false},
	{ "nodes",            SCOPE_LANE,                    offsetof(struct entry, nodes),            false},
	{ "reserved",         SCOPE_LANE,                    offsetof(struct entry, reserved),         false},
};

static const struct field *find_field(struct slice name, unsigned scope)
{
	for (size_t i = 0; i < PGT_NELEMS(fields); i++)
		if (fields[i].scopes & scope && slice_is_equal(slice_str(fields[i].name), name))
			return &fields[i];
	return NULL;
}

/* There may be such a lane when all sections have been read. */
static void note_lane(struct loader *l, const char *owner, const char *lane)
{
	struct draft *d = &l->draft;

	d->lane_uses = items_grow(d->lane_uses, d->nlane_uses, sizeof(*d->lane_uses));
	d->lane_uses[d->nlane_uses++] = (struct lane_use){ l->place, owner, lane };
}

/* One pair of an entry.  Returns whether its value is a secret. */
static bool take_pair(struct loader *l, unsigned scope, const char *owner, struct slice key,
		      struct slice value, struct entry *entry)
{
	const struct field *field = find_field(key, scope);
	const struct setting *setting = settings_find(key, scope);
	const char *text = config_string(l->draft.config, value);
	struct nearest nearest = { .wanted = key, .distance = UINT_MAX };
	struct err e;

	if (field) {
		*(const char **)((char *)entry + field->offset) = text;
		return field->is_secret;
	}
	if (setting == &settings_table[SETTING_lane])
		note_lane(l, owner, text);
	if (setting) {
		if (overrides_set(&entry->own, setting, text, &e))
			note_later(l, setting, text);
		else
			problem_add(l->draft.problems, l->place, owner, "%.*s: %s", SLICE_FMT(key),
				    e.text);
		return setting->type->is_secret;
	}
	for (size_t i = 0; i < PGT_NELEMS(fields); i++)
		if (fields[i].scopes & scope)
			nearest_try(&nearest, slice_str(fields[i].name));
	settings_nearest(&nearest, scope);
	complain_unknown(l, owner, &nearest);
	return false;
}

/* Whether a key may be repeated in a message.  What follows a secret may be a part of it that
 * should have been quoted. */
static bool may_show(struct slice key, unsigned scope, bool is_after_secret)
{
	return !is_after_secret || find_field(key, scope) || settings_find(key, scope);
}

static struct entry take_pairs(struct loader *l, unsigned scope, const char *owner,
			       struct slice pairs)
{
	struct entry entry = { 0 };
	struct slice key, value;
	struct buf room = { 0 };
	bool is_after_secret = false;
	int got;

	/* Never moved, so that wiping it once is enough. */
	buf_reserve(&room, pairs.n + 1);
	for (size_t i = 0; i < PGT_NELEMS(fields); i++)
		*(const char **)((char *)&entry + fields[i].offset) = "";
	while ((got = pair_next(&pairs, &key, &value, &room)) > 0) {
		if (!may_show(key, scope, is_after_secret)) {
			problem_add(l->draft.problems, l->place, owner,
				    "unknown setting after the password, not shown since it may be "
				    "part of it; a password with spaces stands in single quotes");
			break;
		}
		is_after_secret |= take_pair(l, scope, owner, key, value, &entry);
	}
	if (got < 0)
		problem_add(
		    l->draft.problems, l->place, owner,
		    "expected key=value pairs; a value with spaces stands in single quotes, "
		    "a quote in it is doubled");
	buf_wipe(&room);
	return entry;
}

static void take_database(struct loader *l, struct slice name, struct slice value)
{
	struct config *c = l->draft.config;
	struct database_conf *d;
	struct entry entry;
	struct err e;

	if (slice_is_equal(name, SLICE("pgbouncer")) ||
	    slice_is_equal(name, SLICE("pgturnstile"))) {
		problem_add(l->draft.problems, l->place, NULL,
			    "database \"%.*s\" is the console: choose another name",
			    SLICE_FMT(name));
		return;
	}
	d = config_add_database(c, name);
	entry = take_pairs(l, SCOPE_DATABASE, d->name, value);
	d->dbname = entry.dbname;
	if (!*d->dbname && strcmp(d->name, "*") != 0)
		d->dbname = d->name;
	d->user = entry.user;
	d->password = entry.password;
	d->client_encoding = entry.client_encoding;
	d->datestyle = entry.datestyle;
	d->timezone = entry.timezone;
	d->application_name = entry.application_name;
	d->connect_query = entry.connect_query;
	d->own = entry.own;
	if (!config_set_nodes(c, d, entry.host, entry.port, &e))
		problem_add(l->draft.problems, l->place, d->name, "port: %s", e.text);
	else if (!config_set_weights(d, entry.weight, &e))
		problem_add(l->draft.problems, l->place, d->name, "node_weight: %s", e.text);
	else if (!config_set_zones(c, d, entry.zone, &e))
		problem_add(l->draft.problems, l->place, d->name, "node_zone: %s", e.text);
}

static void take_user(struct loader *l, struct slice name, struct slice value)
{
	struct user_conf *u = config_add_user(l->draft.config, name);

	u->own = take_pairs(l, SCOPE_USER, u->name, value).own;
}

static void take_tier(struct loader *l, struct slice name, struct slice value)
{
	struct tier_conf *t = config_add_tier(l->draft.config, name);
	struct draft *d = &l->draft;

	if (t->index == d->ntier_places)
		d->tier_places =
		    items_grow(d->tier_places, d->ntier_places++, sizeof(*d->tier_places));
	d->tier_places[t->index] = l->place;
	t->own = take_pairs(l, SCOPE_TIER, t->name, value).own;
}

static void take_tenant(struct loader *l, struct slice name, struct slice value)
{
	struct tenant_conf *t = config_add_tenant(l->draft.config, name);
	struct entry entry = take_pairs(l, SCOPE_TENANT, t->name, value);
	struct draft *d = &l->draft;

	t->business_id = entry.business_id;
	t->users = entry.user;
	t->databases = entry.database;
	t->own = entry.own;
	if (t->index == d->ntenants)
		d->tenants = items_grow(d->tenants, d->ntenants++, sizeof(*d->tenants));
	d->tenants[t->index] = (struct tenant_draft){ l->place, entry.tier };
}

static void take_lane(struct loader *l, struct slice name, struct slice value)
{
	struct lane_conf *lane = config_add_lane(l->draft.config, name);
	struct entry entry = take_pairs(l, SCOPE_LANE, lane->name, value);
	struct err e;

	lane->own = entry.own;
	note_lane(l, lane->name, lane->name);
	if (!config_set_lane_nodes(l->draft.config, lane, entry.nodes, &e))
		problem_add(l->draft.problems, l->place, lane->name, "nodes: %s", e.text);
	if (*entry.reserved &&
	    !setting_type_bool.parse(&setting_type_bool, entry.reserved, &lane->reserved, &e))
		problem_add(l->draft.problems, l->place, lane->name, "reserved: %s", e.text);
	if (lane->reserved && !lane->nnodes)
		problem_add(l->draft.problems, l->place, lane->name,
			    "reserved without nodes: say which, in nodes");
}

static void take_peer(struct loader *l, struct slice name, struct slice value)
{
	const char *id = config_string(l->draft.config, name);
	struct entry entry = take_pairs(l, IN_PEERS, id, value);
	uint64_t number = 0, port = 6432, pool_size = 0;
	struct peer_conf *peer;

	if (!number_parse(name, PEER_ID_MAX, &number) || !number)
		problem_add(l->draft.problems, l->place, id, "a peer is a number from 1 to 65535");
	if (*entry.port && (!number_parse(slice_str(entry.port), UINT16_MAX, &port) || !port))
		problem_add(l->draft.problems, l->place, id, "port: not a port from 1 to 65535");
	if (*entry.pool_size && !number_parse(slice_str(entry.pool_size), INT_MAX, &pool_size))
		problem_add(l->draft.problems, l->place, id, "pool_size: not a whole number");
	if (!*entry.host)
		problem_add(l->draft.problems, l->place, id, "host is missing");
	peer = config_add_peer(l->draft.config, (unsigned)number);
	peer->node = (struct node_conf){ .host = entry.host, .port = (uint16_t)port };
	peer->pool_size = (unsigned)pool_size;
}

/* --- sections and files --------------------------------------------------------------------- */

static const struct section sections[] = {
	{"pgturnstile", take_global  },
        { "pgbouncer",  take_global  },
	{ "databases",  take_database},
        { "users",      take_user    },
	{ "tiers",      take_tier    },
        { "tenants",    take_tenant  },
	{ "lanes",      take_lane    },
        { "peers",      take_peer    },
};

/* What an unknown section holds is passed over: one problem is enough. */
static void take_nothing(struct loader *l, struct slice name, struct slice value)
{
}

static const struct section unknown_section = { "", take_nothing };

static void take_section(struct loader *l, struct slice name)
{
	struct nearest nearest = { .wanted = name, .distance = UINT_MAX };

	for (size_t i = 0; i < PGT_NELEMS(sections); i++) {
		if (slice_is_equal(slice_str(sections[i].name), name)) {
			l->section = &sections[i];
			return;
		}
		nearest_try(&nearest, slice_str(sections[i].name));
	}
	l->section = &unknown_section;
	if (nearest_is_near(&nearest))
		problem_add(l->draft.problems, l->place, NULL,
			    "unknown section [%.*s], did you mean [%.*s]?", SLICE_FMT(name),
			    SLICE_FMT(nearest.name));
	else
		problem_add(l->draft.problems, l->place, NULL, "unknown section [%.*s]",
			    SLICE_FMT(name));
}

static void take_setting(struct loader *l, struct slice name, struct slice value)
{
	if (l->section)
		l->section->take(l, name, value);
	else
		problem_add(l->draft.problems, l->place, NULL,
			    "a setting before any section: begin with [pgturnstile]");
}

static void load_file(struct loader *l, const char *path, const struct source *parent);

static void take_include(struct loader *l, struct slice path, const struct source *from)
{
	const char *name = config_string(l->draft.config, path);

	for (const struct source *s = from; s; s = s->parent)
		if (strcmp(s->path, name) == 0) {
			problem_add(l->draft.problems, l->place, "%include", "%s includes itself",
				    name);
			return;
		}
	if (from->depth == INCLUDE_DEPTH_MAX)
		problem_add(l->draft.problems, l->place, "%include", "more than %d files deep",
			    INCLUDE_DEPTH_MAX);
	else
		load_file(l, name, from);
}

static void take_text(struct loader *l, const struct source *from, struct slice text)
{
	struct ini ini;
	struct ini_item item;

	ini_init(&ini, text);
	while ((item = ini_next(&ini)).kind != INI_END) {
		l->place = (struct place){ from->path, item.line };
		switch (item.kind) {
		case INI_SECTION:
			take_section(l, item.name);
			break;
		case INI_SETTING:
			take_setting(l, item.name, item.value);
			break;
		case INI_INCLUDE:
			take_include(l, item.value, from);
			break;
		case INI_BAD:
		case INI_END:
			problem_add(l->draft.problems, l->place, NULL, "%.*s",
				    SLICE_FMT(item.value));
		}
	}
	ini_fini(&ini);
}

static void load_file(struct loader *l, const char *path, const struct source *parent)
{
	struct source source = { path, parent, parent ? parent->depth + 1 : 0 };
	struct place from = l->place;
	struct buf text = { 0 };
	struct err e;

	if (l->read(l->arg, path, false, &text, &e))
		take_text(l, &source, buf_peek(&text));
	else
		problem_add(l->draft.problems, from, NULL, "%s cannot be read: %s", path, e.text);
	buf_wipe(&text);
}

/* --- auth_file, auth_hba_file and others ------------------------------------------------------ */

static void on_fault(void *arg, const char *file, int line, const char *text)
{
	problem_add(arg, (struct place){ file, (unsigned)line }, NULL, "%s", text);
}

/* As PostgreSQL's .pgpass, but who runs it already with a file that others may read is told so, not
 * stopped. */
static bool read_userlist(struct loader *l, const char *path, struct buf *text, struct err *e)
{
	struct err why = { 0 };

	if (l->read(l->arg, path, true, text, &why))
		return true;
	if (!l->read(l->arg, path, false, text, e))
		return false;
	problem_note(l->draft.problems, (struct place){ path, 0 }, "auth_file", "%s", why.text);
	return true;
}

static void load_userlist(struct loader *l)
{
	struct config *c = l->draft.config;
	const char *path = c->global.auth_file;
	struct buf text = { 0 };
	struct err e;

	if (*path && !read_userlist(l, path, &text, &e))
		problem_add(l->draft.problems, l->draft.places[SETTING_auth_file], "auth_file",
			    "%s cannot be read: %s", path, e.text);
	c->userlist = userlist_parse(buf_peek(&text), path, on_fault, l->draft.problems);
	buf_wipe(&text);
}

static bool read_named(void *arg, const char *path, struct buf *text, struct err *e)
{
	struct loader *l = arg;

	return l->read(l->arg, path, false, text, e);
}

static void on_named_fault(void *arg, const char *file, int line, const char *text)
{
	struct loader *l = arg;

	on_fault(l->draft.problems, file, line, text);
}

/* With another auth_type it says nothing. */
static void load_hba(struct loader *l)
{
	const struct hba_reader reader = { read_named, on_named_fault, l };
	struct config *c = l->draft.config;
	const char *path = c->global.auth_hba_file;
	struct buf text = { 0 };
	struct err e;

	if (c->global.auth_type != AUTH_TYPE_HBA || !*path)
		return;
	if (l->read(l->arg, path, false, &text, &e))
		c->hba = hba_parse(buf_peek(&text), path, &reader);
	else
		problem_add(l->draft.problems, l->draft.places[SETTING_auth_hba_file],
			    "auth_hba_file", "%s cannot be read: %s", path, e.text);
	buf_fini(&text);
}

static void load_directory(struct loader *l)
{
	struct config *c = l->draft.config;
	const char *options = c->global.auth_ldap_options, *fault;

	if (c->global.auth_type != AUTH_TYPE_LDAP || !*options)
		return;
	c->directory = directory_parse(slice_str(options), &fault);
	if (!c->directory)
		problem_add(l->draft.problems, l->draft.places[SETTING_auth_ldap_options],
			    "auth_ldap_options", "%s", fault);
}

static void load_ident(struct loader *l)
{
	struct config *c = l->draft.config;
	const char *path = c->global.auth_ident_file;
	struct buf text = { 0 };
	struct err e;

	if (!*path || (c->global.auth_type != AUTH_TYPE_HBA && !*c->global.auth_ident_map))
		return;
	if (l->read(l->arg, path, false, &text, &e))
		c->ident = ident_parse(buf_peek(&text), path, on_fault, l->draft.problems);
	else
		problem_add(l->draft.problems, l->draft.places[SETTING_auth_ident_file],
			    "auth_ident_file", "%s cannot be read: %s", path, e.text);
	buf_fini(&text);
}

static void load_sign_keys(struct loader *l)
{
	struct config *c = l->draft.config;
	const char *path = c->global.context_signing_key_file;
	struct buf text = { 0 };
	struct err e;

	if (!*path)
		return;
	if (l->read(l->arg, path, true, &text, &e))
		c->sign_keys = sign_keys_parse(buf_peek(&text), path, on_fault, l->draft.problems);
	else
		problem_add(l->draft.problems, l->draft.places[SETTING_context_signing_key_file],
			    "context_signing_key_file", "%s cannot be read: %s", path, e.text);
	buf_wipe(&text);
}

static void load_jwt_file(struct loader *l, enum setting_id id, const char *path, bool is_secret)
{
	struct config *c = l->draft.config;
	struct buf text = { 0 };
	struct err e;
	bool ok;

	if (!*path)
		return;
	if (!c->jwt_keys)
		c->jwt_keys = jwt_keys_new();
	ok = l->read(l->arg, path, is_secret, &text, &e);
	if (!ok)
		problem_add(l->draft.problems, l->draft.places[id], settings_table[id].name,
			    "%s cannot be read: %s", path, e.text);
	else if (!(is_secret ? jwt_keys_add_secret(c->jwt_keys, buf_peek(&text), &e)
			     : jwt_keys_add_public(c->jwt_keys, buf_peek(&text), &e)))
		problem_add(l->draft.problems, (struct place){ path, 1 }, settings_table[id].name,
			    "%s", e.text);
	buf_wipe(&text);
}

static void load_jwt_keys(struct loader *l)
{
	const struct settings *set = &l->draft.config->global;

	load_jwt_file(l, SETTING_jwt_key_file, set->jwt_key_file, false);
	load_jwt_file(l, SETTING_jwt_secret_file, set->jwt_secret_file, true);
}

/* Kept as its digest only. */
static void load_http_token(struct loader *l)
{
	struct config *c = l->draft.config;
	const char *path = c->global.http_token_file;
	struct buf text = { 0 };
	struct slice token;
	struct err e;

	if (!*path)
		return;
	if (!l->read(l->arg, path, true, &text, &e)) {
		problem_add(l->draft.problems, l->draft.places[SETTING_http_token_file],
			    "http_token_file", "%s cannot be read: %s", path, e.text);
		buf_wipe(&text);
		return;
	}
	token = buf_peek(&text);
	while (token.n && (token.p[token.n - 1] == '\n' || token.p[token.n - 1] == '\r'))
		token.n--;
	c->has_http_token = token.n >= HTTP_TOKEN_MIN && EVP_Digest(token.p, token.n, c->http_token,
								    NULL, EVP_sha256(), NULL) == 1;
	if (!c->has_http_token)
		problem_add(l->draft.problems, (struct place){ path, 1 }, "http_token_file",
			    "a token has %d characters or more", HTTP_TOKEN_MIN);
	buf_wipe(&text);
}

/* Of scram_salt_file, or of what systemd has drawn for this machine, which is for such uses as long
 * as it is not told itself (machine-id(5)).  Else each process draws its own. */
static void load_salt_key(struct loader *l)
{
	struct config *c = l->draft.config;
	const char *path = c->global.scram_salt_file;
	struct buf text = { 0 };
	struct err e;

	if (*path && !l->read(l->arg, path, true, &text, &e))
		problem_add(l->draft.problems, l->draft.places[SETTING_scram_salt_file],
			    "scram_salt_file", "%s cannot be read: %s", path, e.text);
	else if (*path && buf_len(&text) < SALT_FILE_MIN)
		problem_add(l->draft.problems, (struct place){ path, 1 }, "scram_salt_file",
			    "it has %d bytes or more", SALT_FILE_MIN);
	else if (!*path)
		c->has_salt_key = l->read(l->arg, MACHINE_ID, false, &text, &e) &&
				  buf_len(&text) >= MACHINE_ID_LEN;
	else
		c->has_salt_key = true;
	if (c->has_salt_key)
		scram_salt_key(buf_peek(&text), &c->salt_key);
	buf_wipe(&text);
}

struct config *config_load(const char *path, config_read_file_fn *read, void *arg,
			   struct config_problems *p)
{
	struct loader l = {
		.draft = {.config = config_new(), .problems = p},
                  .read = read, .arg = arg
	};

	settings_defaults(&l.defaults);
	for (size_t i = 0; i < NSETTINGS; i++)
		l.draft.places[i].file = path;
	load_file(&l, path, NULL);
	load_userlist(&l);
	load_hba(&l);
	load_directory(&l);
	load_ident(&l);
	load_sign_keys(&l);
	load_jwt_keys(&l);
	load_http_token(&l);
	load_salt_key(&l);
	draft_link(&l.draft);
	config_find_clusters(l.draft.config);
	draft_check(&l.draft);
	config_check(l.draft.config, l.draft.places, p);
	free(l.draft.tier_places);
	free(l.draft.tenants);
	free(l.draft.lane_uses);
	if (!p->nerrors)
		return l.draft.config;
	config_unref(l.draft.config);
	return NULL;
}
