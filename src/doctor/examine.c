/* SPDX-License-Identifier: ISC
 *
 * examine.c - asks a database for all findings.
 *
 * As the monitor's login, on the node that is the primary, in transactions that are read-only.
 * Policies are tried on a row that is made up, not on rows of tables; as a superuser they are not,
 * because a policy may call what its author likes.
 */
#include "auth/userlist.h"
#include "base/mem.h"
#include "doctor/doctor.h"
#include "doctor/findings.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef HAVE_LIBPQ
#include <libpq-fe.h>

#define APPLICATION_NAME "pgturnstile doctor"
#define CONNECT_TIMEOUT  "10"
/* A query that takes longer is not worth it on a database in use. */
#define OPTIONS "-c search_path=pg_catalog -c statement_timeout=30s -c lock_timeout=5s"

/* The OIDs of text, text[] and bigint never change. */
#define TEXT_OID       25
#define TEXT_ARRAY_OID 1009
#define INT8_OID       20

#define NPARAMS        4

struct look {
	const struct config *config;
	const struct database_conf *database;
	struct settings set;
	PGconn *conn;
	bool may_probe;
	struct buf column, roles, sum;
	const char *params[NPARAMS];
	struct examination *e;
};

/* ---- what the configuration says -------------------------------------------------------------
 */

/* Without the setting's prefix, and "current_": business_id of app.current_business_id. */
static void put_column(struct buf *out, const struct settings *set)
{
	static const char current[] = "current_";
	const char *name = strrchr(set->tenant_setting, '.') + 1;

	if (*set->tenant_column)
		name = set->tenant_column;
	else if (strncmp(name, current, strlen(current)) == 0)
		name += strlen(current);
	buf_printf(out, "%s", name);
}

static const char *monitor_of(const struct look *l)
{
	return *l->set.monitor_user ? l->set.monitor_user
	       : *l->set.auth_user  ? l->set.auth_user
				    : l->database->user;
}

static const char *password_of(const struct look *l, const char *user)
{
	const struct userlist_entry *entry;

	if (*l->set.monitor_password)
		return l->set.monitor_password;
	if (strcmp(user, l->database->user) == 0 && *l->database->password)
		return l->database->password;
	entry = userlist_find(l->config->userlist, slice_str(user));
	return entry && entry->kind == PASSWORD_PLAIN ? entry->password : NULL;
}

/* An array's literal. */
static void put_role(struct buf *out, const char *role)
{
	buf_printf(out, "%s\"", buf_len(out) > 1 ? "," : "");
	for (; *role; role++) {
		if (*role == '"' || *role == '\\')
			buf_put_u8(out, '\\');
		buf_put(out, role, 1);
	}
	buf_put_u8(out, '"');
}

struct roles {
	const struct look *look;
	struct buf *out;
	size_t n;
};

static void take_role(void *arg, const struct userlist_entry *entry)
{
	struct roles *roles = arg;
	const struct settings *set = &roles->look->config->global;
	struct slice name = slice_str(entry->user);

	if (list_has(set->admin_users, name) || list_has(set->stats_users, name) ||
	    slice_is_equal(name, slice_str(monitor_of(roles->look))))
		return;
	put_role(roles->out, entry->user);
	roles->n++;
}

/* Who is on the server in clients' names.  Their number. */
static size_t put_roles(const struct look *l, struct buf *out)
{
	struct roles roles = { l, out, 0 };

	buf_put_u8(out, '{');
	if (*l->database->user) {
		put_role(out, l->database->user);
		roles.n = 1;
	} else {
		userlist_each(l->config->userlist, take_role, &roles);
	}
	buf_put_u8(out, '}');
	return roles.n;
}

static bool is_on_node(const struct database_conf *d, const struct node_conf *node)
{
	for (size_t i = 0; i < d->nnodes; i++)
		if (d->nodes[i].port == node->port && strcmp(d->nodes[i].host, node->host) == 0)
			return true;
	return false;
}

/* What a pool may hold on one node, with those of lanes, which may all be on it. */
static uint64_t size_of_pools(const struct config *c, const struct settings *set)
{
	uint64_t sum = set->default_pool_size + set->reserve_pool_size;

	for (size_t i = 0; i < c->nlanes; i++) {
		struct settings in_lane = *set;

		lane_conf_apply(c->lanes[i], &in_lane);
		sum += in_lane.default_pool_size;
	}
	return sum;
}

/* One pool for each tenant, where they have their own. */
static uint64_t pools_of_a_user(const struct config *c, const struct database_conf *d)
{
	struct settings set;
	uint64_t sum = 0;

	settings_resolve(c, d, NULL, NULL, NULL, &set);
	if (!c->ntenants || set.tenant_pool == TENANT_POOL_SHARED)
		return size_of_pools(c, &set);
	for (size_t i = 0; i < c->ntenants; i++) {
		settings_resolve(c, d, NULL, c->tenants[i], NULL, &set);
		sum += size_of_pools(c, &set);
	}
	return sum;
}

/* What all databases on the node may ask it for, and the monitor's. */
static uint64_t connections_of(const struct look *l, const struct node_conf *node, size_t nroles)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < l->config->ndatabases; i++) {
		const struct database_conf *d = l->config->databases[i];
		struct settings set;
		uint64_t pools;

		if (!is_on_node(d, node))
			continue;
		settings_resolve(l->config, d, NULL, NULL, NULL, &set);
		pools = pools_of_a_user(l->config, d) * (*d->user ? 1 : nroles);
		if (set.max_db_connections && pools > set.max_db_connections)
			pools = set.max_db_connections;
		sum += pools + 1;
	}
	return sum;
}

/* ---- a connection ----------------------------------------------------------------------------
 */

static const char *sslmode_name(int mode)
{
	static const char *const names[] = {
		[SSLMODE_DISABLE] = "disable",     [SSLMODE_ALLOW] = "allow",
		[SSLMODE_PREFER] = "prefer",       [SSLMODE_REQUIRE] = "require",
		[SSLMODE_VERIFY_CA] = "verify-ca", [SSLMODE_VERIFY_FULL] = "verify-full"
	};

	return names[mode];
}

static PGconn *connect_to(const struct look *l, const struct node_conf *node)
{
	const struct settings *set = &l->set;
	const char *user = monitor_of(l);
	char port[8];
	const char *const names[] = { "host",     "port",    "dbname",           "user",
				      "password", "sslmode", "sslrootcert",      "sslcert",
				      "sslkey",   "options", "application_name", "connect_timeout",
				      NULL };
	const char *const values[] = { *node->host ? node->host : set->unix_socket_dir,
				       port,
				       l->database->dbname,
				       user,
				       password_of(l, user),
				       sslmode_name(set->server_tls_sslmode),
				       set->server_tls_ca_file,
				       set->server_tls_cert_file,
				       set->server_tls_key_file,
				       OPTIONS,
				       APPLICATION_NAME,
				       CONNECT_TIMEOUT,
				       NULL };

	snprintf(port, sizeof(port), "%u", node->port);
	return PQconnectdbParams(names, values, 0);
}

static bool is_true(PGconn *conn, const char *sql)
{
	PGresult *r = PQexec(conn, sql);
	bool is = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 &&
		  strcmp(PQgetvalue(r, 0, 0), "t") == 0;

	PQclear(r);
	return is;
}

static bool complain(struct look *l, const char *text)
{
	size_t n = strcspn(text, "\n");

	return err_set(&l->e->error, "08001", "%.*s", (int)n, text);
}

/* The node that is the primary, or why there is none. */
static const struct node_conf *find_primary(struct look *l)
{
	const struct database_conf *d = l->database;

	complain(l, "none of its nodes is a primary");
	for (size_t i = 0; i < d->nnodes; i++) {
		PGconn *conn = connect_to(l, &d->nodes[i]);

		if (PQstatus(conn) == CONNECTION_OK &&
		    !is_true(conn, "SELECT pg_catalog.pg_is_in_recovery()")) {
			*l->e->error.text = '\0';
			l->conn = conn;
			return &d->nodes[i];
		}
		if (PQstatus(conn) != CONNECTION_OK)
			complain(l, PQerrorMessage(conn));
		PQfinish(conn);
	}
	return NULL;
}

/* ---- findings --------------------------------------------------------------------------------
 */

static void add(struct look *l, const struct finding *finding, const char *object, const char *mend)
{
	struct examination *e = l->e;

	e->found = xrealloc(e->found, (e->nfound + 1) * sizeof(*e->found));
	e->found[e->nfound++] = (struct case_found){ finding, xstrdup(object), xstrdup(mend) };
	e->ndangers += finding->severity == SEVERITY_DANGER;
}

static void run(struct look *l, const char *sql)
{
	PQclear(PQexec(l->conn, sql));
}

/* Whether a policy that has been tried does what it must not. */
static bool is_hit(const struct look *l, const struct finding *finding, const char *probe)
{
	PGresult *r = PQexec(l->conn, probe);
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
	bool is_hit;

	if (finding->probe == PROBE_CAST)
		is_hit = state && strncmp(state, "22", 2) == 0;
	else
		is_hit = PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1 &&
			 strcmp(PQgetvalue(r, 0, 0), "t") == 0;
	PQclear(r);
	return is_hit;
}

static bool try_policy(struct look *l, const struct finding *finding, const char *probe,
		       bool is_empty)
{
	const char *setting[] = { l->set.tenant_setting };
	bool hit;

	run(l, "BEGIN READ ONLY");
	if (is_empty)
		PQclear(PQexecParams(l->conn, "SELECT set_config($1, '', true)", 1, NULL, setting,
				     NULL, NULL, 0));
	hit = is_hit(l, finding, probe);
	run(l, "ROLLBACK");
	return hit;
}

/* A setting that was set once is empty, and not unset, ever after: so those go first. */
static void try_policies(struct look *l, const struct finding *finding, const PGresult *rows)
{
	int n = PQntuples(rows);
	bool *hit = xcalloc((size_t)n + 1, sizeof(*hit));

	for (int i = 0; i < n && finding->probe == PROBE_OPEN; i++)
		hit[i] = try_policy(l, finding, PQgetvalue(rows, i, 2), false);
	for (int i = 0; i < n; i++)
		if (hit[i] || try_policy(l, finding, PQgetvalue(rows, i, 2), true))
			add(l, finding, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1));
	free(hit);
}

static bool look_for(struct look *l, const struct finding *finding)
{
	static const Oid types[NPARAMS] = { TEXT_OID, TEXT_OID, TEXT_ARRAY_OID, INT8_OID };
	PGresult *rows;
	bool ok;

	if (finding->probe != PROBE_NONE && !l->may_probe)
		return true;
	run(l, "BEGIN READ ONLY");
	rows = PQexecParams(l->conn, finding->query, NPARAMS, types, l->params, NULL, NULL, 0);
	ok = PQresultStatus(rows) == PGRES_TUPLES_OK;
	if (!ok)
		err_set(&l->e->error, "58000", "%s: %.*s", finding->id,
			(int)strcspn(PQerrorMessage(l->conn), "\n"), PQerrorMessage(l->conn));
	run(l, "ROLLBACK");
	if (ok && finding->probe != PROBE_NONE)
		try_policies(l, finding, rows);
	else
		for (int i = 0; ok && i < PQntuples(rows); i++)
			add(l, finding, PQgetvalue(rows, i, 0), PQgetvalue(rows, i, 1));
	PQclear(rows);
	return ok;
}

static bool look_for_all(struct look *l, const struct node_conf *node)
{
	size_t nroles = put_roles(l, &l->roles);
	bool ok = true;

	put_column(&l->column, &l->set);
	buf_printf(&l->sum, "%llu", (unsigned long long)connections_of(l, node, nroles));
	l->params[0] = l->set.tenant_setting;
	l->params[1] = buf_cstr(&l->column);
	l->params[2] = buf_cstr(&l->roles);
	l->params[3] = buf_cstr(&l->sum);
	l->may_probe = !is_true(
	    l->conn, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user");
	if (!l->may_probe)
		l->e->note =
		    xstrdup("policies were not tried: the monitor's login is a superuser, and "
			    "a policy may call what its author likes");
	for (size_t i = 0; ok && i < nfindings; i++)
		ok = look_for(l, &findings[i]);
	return ok;
}

bool doctor_examine(const struct config *config, const struct database_conf *database,
		    struct examination *e)
{
	struct look l = { .config = config, .database = database, .e = e };
	const struct node_conf *node;
	bool ok;

	*e = (struct examination){ .database = database->name };
	settings_resolve(config, database, NULL, NULL, NULL, &l.set);
	if (!*database->dbname)
		return complain(&l, "it has no dbname of its own");
	if (!*monitor_of(&l))
		return complain(&l, "nobody to ask as: set monitor_user");
	node = find_primary(&l);
	ok = node && look_for_all(&l, node);
	if (l.conn)
		PQfinish(l.conn);
	buf_fini(&l.column);
	buf_fini(&l.roles);
	buf_fini(&l.sum);
	return ok;
}

#else

bool doctor_examine(const struct config *config PGT_UNUSED, const struct database_conf *database,
		    struct examination *e)
{
	*e = (struct examination){ .database = database->name };
	return err_set(&e->error, "0A000", "this program was built without libpq");
}

#endif

void examination_fini(struct examination *e)
{
	for (size_t i = 0; i < e->nfound; i++) {
		free(e->found[i].object);
		free(e->found[i].mend);
	}
	free(e->found);
	free(e->note);
}

int doctor_run(const struct config *config, bool as_json)
{
	struct examination *all = xcalloc(config->ndatabases + 1, sizeof(*all));
	struct buf out = { 0 };
	int status = 0;

	for (size_t i = 0; i < config->ndatabases; i++) {
		if (!doctor_examine(config, config->databases[i], &all[i]))
			status = 2;
		else if (all[i].ndangers && !status)
			status = 1;
	}
	if (as_json)
		doctor_report_json(all, config->ndatabases, &out);
	else
		doctor_report_text(all, config->ndatabases, &out);
	fwrite(buf_head(&out), 1, buf_len(&out), stdout);
	for (size_t i = 0; i < config->ndatabases; i++)
		examination_fini(&all[i]);
	buf_fini(&out);
	free(all);
	return status;
}
