/* SPDX-License-Identifier: ISC
 *
 * show_databases.c - SHOW DATABASES, SWITCHES, USERS, PEERS, DNS_HOSTS and DNS_ZONES.
 *
 * Made of the configuration and of the records that span threads, so no worker is asked.
 */
#include "admin/parts.h"

#define DATABASE_COLUMNS(X)                                                                        \
	X(TEXT, KEY, name, "Database, as clients say it.")                                         \
	X(TEXT, FIRST, host, "Its hosts, between commas; NULL: the Unix socket.")                  \
	X(INT, FIRST, port, "Port of the first.")                                                  \
	X(TEXT, FIRST, database, "Database on the server.")                                        \
	X(TEXT, FIRST, force_user, "User on the server, when the entry names one.")                \
	X(INT, FIRST, pool_size, "Servers of a pool; 0: no limit.")                                \
	X(INT, FIRST, min_pool_size, "Servers that are kept open.")                                \
	X(INT, FIRST, reserve_pool_size, "Servers beyond that for clients that wait too long.")    \
	X(INT, FIRST, server_lifetime, "Seconds after which an idle server is replaced.")          \
	X(TEXT, FIRST, pool_mode, "Its own pool mode, when it has one.")                           \
	X(TEXT, FIRST, load_balance_hosts, "Of an entry with several hosts.")                      \
	X(INT, FIRST, max_connections, "Servers in all; 0: no limit.")                             \
	X(INT, MAX, current_connections, "Servers now.")                                           \
	X(INT, FIRST, max_client_connections, "Clients; 0: no limit.")                             \
	X(INT, MAX, current_client_connections, "Clients now.")                                    \
	X(INT, MAX, paused, "1: PAUSE or KILL holds it.")                                          \
	X(INT, MAX, disabled, "1: DISABLE refuses its clients.")                                   \
	X(INT, FIRST, reserve_pool, "reserve_pool_size, by its older name.")                       \
	X(INT, MAX, readonly, "For SHOW SWITCHES.")                                                \
	X(TEXT, FIRST, maintenance, "For SHOW SWITCHES.")
LAYOUT_DEFINE(database, DATABASE_COLUMNS);
/* Those of PgBouncer; the same with the one that is for older exporters. */
static const struct layout now_layout = { database_columns, PGT_NELEMS(database_columns) - 3 };
static const struct layout older_layout = { database_columns, PGT_NELEMS(database_columns) - 2 };

/* Names of records are collected first: nothing may be looked up under their lock. */
static void collect_name(void *arg, struct shared *s)
{
	buf_put_cstr(arg, s->name);
}

static void fill_use(enum shared_kind kind, const char *name, int64_t *servers, int64_t *clients)
{
	struct shared *s = shared_find(kind, slice_str(name));

	*servers = s ? (int64_t)s->servers : 0;
	*clients = s ? (int64_t)s->clients : 0;
	shared_put(s);
}

static void fill_flags(const char *name, struct database_row *row)
{
	struct shared *s = shared_find(SHARED_DATABASE, slice_str(name));

	row->paused = s && s->paused;
	row->disabled = s && s->disabled;
	shared_put(s);
}

static const char *hosts_of(const struct database_conf *d, struct buf *room)
{
	for (size_t i = 0; i < d->nnodes; i++)
		buf_printf(room, "%s%s", i ? "," : "", d->nodes[i].host);
	return buf_len(room) ? buf_cstr(room) : NULL;
}

static void database_row(struct control *c, const char *name, const struct database_conf *d,
			 struct table *t)
{
	struct buf hosts = { 0 }, mode = { 0 }, balance = { 0 };
	struct settings set, all;
	struct database_row row = { .name = name };

	settings_resolve(c->config, d, NULL, NULL, NULL, &set);
	row.host = hosts_of(d, &hosts);
	row.port = d->nodes[0].port;
	row.database = *d->dbname ? d->dbname : name;
	row.force_user = *d->user ? d->user : NULL;
	row.pool_size = set.default_pool_size;
	row.min_pool_size = set.min_pool_size;
	row.reserve_pool_size = row.reserve_pool = set.reserve_pool_size;
	row.server_lifetime = set.server_lifetime / USEC_PER_SEC;
	row.pool_mode = show_override(&d->own, SETTING_pool_mode, &mode);
	if (d->nnodes > 1)
		row.load_balance_hosts = show_setting(SETTING_load_balance_hosts, &set, &balance);
	row.max_connections = set.max_db_connections;
	row.max_client_connections = set.max_db_client_connections;
	fill_use(SHARED_DATABASE, name, &row.current_connections, &row.current_client_connections);
	fill_flags(name, &row);
	settings_resolve(c->config, NULL, NULL, NULL, NULL, &all);
	config_changes_apply(c->config, SCOPE_GLOBAL, SLICE(""), &all);
	config_changes_apply(c->config, SCOPE_DATABASE, slice_str(name), &set);
	row.readonly = all.readonly || set.readonly;
	row.maintenance = *all.maintenance   ? all.maintenance
			  : *set.maintenance ? set.maintenance
					     : NULL;
	table_add(t, &row);
	buf_fini(&hosts);
	buf_fini(&mode);
	buf_fini(&balance);
}

/* Those that came from the entry `*`. */
static void add_automatic(struct control *c, struct table *t)
{
	const struct database_conf *fallback = config_database_fallback(c->config);
	struct buf names = { 0 };
	const char *name;

	if (!fallback)
		return;
	shared_visit(SHARED_DATABASE, collect_name, &names);
	name = buf_peek(&names).p;
	for (size_t left = buf_len(&names), n; left; left -= n, name += n) {
		n = strlen(name) + 1;
		if (!config_database(c->config, slice_of(name, n - 1)))
			database_row(c, name, fallback, t);
	}
	buf_fini(&names);
}

static void databases_local(struct control *c, struct table *t)
{
	for (size_t i = 0; i < c->config->ndatabases; i++) {
		const struct database_conf *d = c->config->databases[i];

		if (strcmp(d->name, "*"))
			database_row(c, d->name, d, t);
	}
	add_automatic(c, t);
	table_add(t, &(struct database_row){ .name = CONSOLE_NAME,
					     .port = c->config->global.listen_port,
					     .database = CONSOLE_NAME,
					     .force_user = CONSOLE_NAME,
					     .pool_size = 2,
					     .pool_mode = "statement",
					     .current_client_connections = c->console->nsessions });
}

#define GATHER_DATABASES .gathered = &database_layout, .local = databases_local
static const struct show older_databases = { .shown = &older_layout,
					     GATHER_DATABASES,
					     .derive = show_first_columns };
const struct show show_databases = { .shown = &now_layout,
				     GATHER_DATABASES,
				     .derive = show_first_columns,
				     .older = &older_databases };

/* ---- switches ---------------------------------------------------------------------------------
 */

#define SWITCH_COLUMNS(X)                                                                          \
	X(TEXT, KEY, database, "Database, as clients say it.")                                     \
	X(INT, MAX, paused, "1: PAUSE or KILL holds it.")                                          \
	X(INT, MAX, disabled, "1: DISABLE refuses its clients.")                                   \
	X(INT, MAX, readonly, "1: READONLY holds, of it or of all.")                               \
	X(TEXT, FIRST, maintenance,                                                                \
	  "The message of its MAINTENANCE, or of that of all; NULL: it is off.")
LAYOUT_DEFINE(switch, SWITCH_COLUMNS);

#define COLUMN_OF(field) (offsetof(struct database_row, field) / 8)

static void switches_derive(struct control *c PGT_UNUSED, const struct table *gathered,
			    struct table *shown)
{
	for (unsigned row = 0; row < gathered->nrows; row++) {
		const char *name = table_text(gathered, row, COLUMN_OF(name));
		struct switch_row switches = {
			.database = name,
			.paused = table_number(gathered, row, COLUMN_OF(paused)),
			.disabled = table_number(gathered, row, COLUMN_OF(disabled)),
			.readonly = table_number(gathered, row, COLUMN_OF(readonly)),
			.maintenance = table_text(gathered, row, COLUMN_OF(maintenance)),
		};

		if (strcmp(name, CONSOLE_NAME))
			table_add(shown, &switches);
	}
}

const struct show show_switches = { .shown = &switch_layout,
				    GATHER_DATABASES,
				    .derive = switches_derive };

/* ---- users ------------------------------------------------------------------------------------
 */

#define USER_COLUMNS(X)                                                                            \
	X(TEXT, KEY, name, "User on the server.")                                                  \
	X(TEXT, FIRST, pool_size, "Its own pool size, or empty.")                                  \
	X(TEXT, FIRST, reserve_pool_size, "Its own reserve, or empty.")                            \
	X(TEXT, FIRST, pool_mode, "Its own pool mode, when it has one.")                           \
	X(INT, FIRST, max_user_connections, "Servers; 0: no limit.")                               \
	X(INT, MAX, current_connections, "Servers now.")                                           \
	X(INT, FIRST, max_user_client_connections, "Clients; 0: no limit.")                        \
	X(INT, MAX, current_client_connections, "Clients now.")
LAYOUT_DEFINE(user, USER_COLUMNS);

static const char *or_empty(const char *text)
{
	return text ? text : "";
}

static void user_row(struct control *c, const char *name, const struct user_conf *u,
		     struct table *t)
{
	static const struct overrides none;
	const struct overrides *own = u ? &u->own : &none;
	struct buf size = { 0 }, reserve = { 0 }, mode = { 0 };
	struct settings set;
	struct user_row row = { .name = name };

	settings_resolve(c->config, NULL, u, NULL, NULL, &set);
	row.pool_size = or_empty(show_override(own, SETTING_default_pool_size, &size));
	row.reserve_pool_size = or_empty(show_override(own, SETTING_reserve_pool_size, &reserve));
	row.pool_mode = show_override(own, SETTING_pool_mode, &mode);
	row.max_user_connections = set.max_user_connections;
	row.max_user_client_connections = set.max_user_client_connections;
	fill_use(SHARED_USER, name, &row.current_connections, &row.current_client_connections);
	table_add(t, &row);
	buf_fini(&size);
	buf_fini(&reserve);
	buf_fini(&mode);
}

static void users_local(struct control *c, struct table *t)
{
	struct buf names = { 0 };
	const char *name;

	for (size_t i = 0; i < c->config->nusers; i++)
		user_row(c, c->config->users[i]->name, c->config->users[i], t);
	shared_visit(SHARED_USER, collect_name, &names);
	name = buf_peek(&names).p;
	for (size_t left = buf_len(&names), n; left; left -= n, name += n) {
		n = strlen(name) + 1;
		if (!config_user(c->config, slice_of(name, n - 1)))
			user_row(c, name, NULL, t);
	}
	user_row(c, CONSOLE_NAME, NULL, t);
	buf_fini(&names);
}

const struct show show_users = { .shown = &user_layout, .local = users_local };

/* ---- peers and names --------------------------------------------------------------------------
 */

#define PEER_COLUMNS(X)                                                                            \
	X(INT, KEY, peer_id, "Number of the peer.")                                                \
	X(TEXT, FIRST, host, "Its host.")                                                          \
	X(INT, FIRST, port, "Its port.")                                                           \
	X(INT, FIRST, pool_size, "Connections to it.")
LAYOUT_DEFINE(peer, PEER_COLUMNS);

static void peers_local(struct control *c, struct table *t)
{
	for (size_t i = 0; i < c->config->npeers; i++) {
		const struct peer_conf *p = c->config->peers[i];

		table_add(t, &(struct peer_row){ .peer_id = p->id,
						 .host = p->node.host,
						 .port = p->node.port,
						 .pool_size = p->pool_size });
	}
}

const struct show show_peers = { .shown = &peer_layout, .local = peers_local };

#define DNS_HOST_COLUMNS(X)                                                                        \
	X(TEXT, KEY, hostname, "Name.")                                                            \
	X(BIGINT, FIRST, ttl, "Seconds that it is still valid.")                                   \
	X(TEXT, FIRST, addrs, "Addresses.")
LAYOUT_DEFINE(dns_host, DNS_HOST_COLUMNS);
const struct show show_dns_hosts = { .shown = &dns_host_layout };

#define DNS_ZONE_COLUMNS(X)                                                                        \
	X(TEXT, KEY, zonename, "Zone.")                                                            \
	X(BIGINT, FIRST, serial, "Its serial number.")                                             \
	X(INT, FIRST, count, "Names in it.")
LAYOUT_DEFINE(dns_zone, DNS_ZONE_COLUMNS);
const struct show show_dns_zones = { .shown = &dns_zone_layout };
