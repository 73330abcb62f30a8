/* SPDX-License-Identifier: ISC
 *
 * monitor.c - which databases are watched: when their nodes are asked, when the catalog of the
 * primary is read, and what operators ask of them.
 *
 * Roles are asked for, never configured.  While there is no primary, its catalog is not known, or a
 * node is in doubt, all are asked more often.
 */
#include "worker/monitor.h"

#include "auth/userlist.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/resolve.h"
#include "net/tls.h"
#include "route/nodes.h"
#include "route/primacy.h"
#include "server/server.h"
#include "sql/catalog.h"
#include "stats/event.h"
#include "worker/catalog_read.h"
#include "worker/patroni.h"
#include "worker/sets.h"
#include "worker/watch.h"

#include <stdlib.h>

/* How often it looks for databases that came into use, and for readings that take too long. */
#define LOOK_PERIOD USEC_PER_SEC
/* How often nodes are asked while no primary is known, and for how long they are. */
#define URGENT_INTERVAL (100 * USEC_PER_MSEC)
#define URGENT_TIME     (300 * USEC_PER_SEC)
/* … and while the catalog of a primary has not been read, and then for so long: nothing was a read
 * before, so all that was under way raises fences, which wait for answers to later questions. */
#define FRESH_TIME (3 * USEC_PER_SEC)
/* The catalog is read again after this time, or sooner when that failed. */
#define CATALOG_PERIOD (60 * USEC_PER_SEC)
#define CATALOG_RETRY  (5 * USEC_PER_SEC)
/* A row of commands that define something is read behind no more often, and never more than a tenth
 * of the time. */
#define CATALOG_PAUSE    USEC_PER_SEC
#define CATALOG_SHARE    10

#define APPLICATION_NAME "pgturnstile monitor"

const char *watch_own_dbname(const struct watch *w)
{
	return *w->database->dbname ? w->database->dbname : w->set->database;
}

struct server_target watch_target(const struct watch *w, unsigned i, const char *dbname)
{
	const struct monitor *m = w->monitor;
	const struct node *node = &w->set->nodes[i];

	return (struct server_target){
		.config = m->config,
		.dial = {.host = *node->host ? node->host : m->config->global.unix_socket_dir,
                         .port = node->port,
                         .set = &w->settings,
                         .tls = m->tls,
                         .resolver = m->resolver,
                         .mailbox = m->mailbox},
		.dbname = dbname,
		.user = w->user,
		.credential = &w->credential,
		.options = "",
		.application_name = APPLICATION_NAME
	};
}

/* ---- the catalog of the primary ---------------------------------------------------------------
 */

static void decide(struct sql_catalog *catalog, const char *names, bool is_volatile)
{
	struct slice rest = slice_str(names), name;

	while (list_next(&rest, &name))
		sql_catalog_decide(catalog, name, is_volatile);
}

static void on_catalog(void *arg, const struct catalogs *catalogs, const char *why)
{
	struct watch *w = arg;
	usec_t now = watch_now(w), rest = (now - w->reading_since) * (CATALOG_SHARE - 1);

	w->reading = NULL;
	w->catalog_due = now + (catalogs ? CATALOG_PERIOD : CATALOG_RETRY);
	w->catalog_again = now + (rest < CATALOG_PAUSE ? CATALOG_PAUSE : rest);
	if (catalogs) {
		decide(catalogs->catalog, w->settings.read_functions, false);
		decide(catalogs->catalog, w->settings.write_functions, true);
		node_set_publish_catalog(w->set, catalogs->catalog, w->definitions);
		node_set_publish_leaving(w->set, catalogs->leaving, w->definitions);
		w->set->learned_at = now;
		w->catalog_since = w->catalog_since ? w->catalog_since : now;
	} else if (!w->catalog_failed) {
		log_warning("database \"%s\": the catalog cannot be read: %s", w->set->database,
			    why);
	}
	w->catalog_failed = !catalogs;
}

static void read_catalog(struct watch *w)
{
	struct server_target target = watch_target(w, (unsigned)w->primary, watch_own_dbname(w));

	w->definitions = w->set->definitions;
	w->reading_since = watch_now(w);
	w->reading = catalog_read_start(w->monitor->net, &target, on_catalog, w);
}

static bool catalog_is_due(const struct watch *w, usec_t now)
{
	return w->primary >= 0 &&
	       (now >= w->catalog_due ||
		(w->definitions != w->set->definitions && now >= w->catalog_again));
}

void watch_mind_catalog(struct watch *w)
{
	usec_t now = watch_now(w);

	if (w->reading)
		catalog_read_sweep(w->reading, now);
	else if (catalog_is_due(w, now))
		read_catalog(w);
}

static void serve_again(struct node_set *set)
{
	if (set->nodes[set->retiring].service == NODE_RETIRES)
		set->nodes[set->retiring].service = NODE_SERVES;
	set->retiring = -1;
}

/* A SWITCHOVER that has waited for another primary long enough. */
static void end_switchover(struct watch *w, usec_t now)
{
	struct node_set *set = w->set;

	if (set->retiring < 0 || now < set->retiring_until)
		return;
	serve_again(set);
	set->was_kept = true;
	event_say(EVENT_switchover_failed, &(struct log_about){ .database = set->database },
		  "SWITCHOVER: no other node has become the primary in time");
}

static void on_tick(struct loop_timer *timer)
{
	struct watch *w = container_of(timer, struct watch, timer);
	usec_t now = watch_now(w);

	end_switchover(w, now);
	assess_awaited(w);
	watch_keep_pace(w);
	for (unsigned i = 0; i < w->set->n; i++)
		probe_tick(&w->probes[i], now);
	watch_mind_catalog(w);
	net_flush(w->monitor->net);
}

/* ---- databases --------------------------------------------------------------------------------
 */

/* False: there is no user to log in as. */
static bool find_login(struct watch *w)
{
	const struct settings *set = &w->settings;
	const char *password = set->monitor_password;

	w->user = *set->monitor_user ? set->monitor_user
		  : *set->auth_user  ? set->auth_user
				     : w->database->user;
	if (!*w->user)
		return false;
	if (!*password)
		password = config_own_password(w->monitor->config, w->database, w->user);
	w->credential.has_password = *password != '\0';
	w->credential.password = xstrdup(password);
	return true;
}

static bool has_doubtful(const struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++)
		if (health_is_doubtful(&w->set->nodes[i].health))
			return true;
	return false;
}

/* Reads are about to go to replicas. */
static bool is_fresh(const struct watch *w, usec_t now)
{
	return w->catalog_since ? now < w->catalog_since + FRESH_TIME : !w->catalog_failed;
}

/* Someone waits for another primary to show, or for a replica, or it is to be known soon whether a
 * node is down. */
static bool is_urgent(struct watch *w)
{
	usec_t now = watch_now(w);

	if (w->set->n < 2 ||
	    (w->primary >= 0 && w->set->retiring < 0 && !has_doubtful(w) && !is_fresh(w, now)))
		w->urgent_since = 0;
	else if (!w->urgent_since)
		w->urgent_since = now;
	return w->is_awaited || (w->urgent_since && now - w->urgent_since < URGENT_TIME);
}

void watch_keep_pace(struct watch *w)
{
	usec_t interval = w->settings.monitor_interval;
	usec_t pace = is_urgent(w) && interval > URGENT_INTERVAL ? URGENT_INTERVAL : interval;
	struct loop *loop = w->monitor->net->loop;

	if (pace == w->pace)
		return;
	if (w->pace)
		loop_timer_stop(loop, &w->timer);
	loop_timer_start(loop, &w->timer, w->pace ? pace : 0, pace, on_tick);
	w->pace = pace;
}

static void free_watch(struct watch *w)
{
	if (w->pace)
		loop_timer_stop(w->monitor->net->loop, &w->timer);
	if (w->reading)
		catalog_read_stop(w->reading);
	for (unsigned i = 0; i < w->set->n; i++) {
		if (w->probes[i].server)
			server_drop(w->probes[i].server);
		if (w->probes[i].patroni)
			patroni_stop(w->probes[i].patroni);
	}
	if (w->credential.password)
		mem_wipe(w->credential.password, strlen(w->credential.password));
	free(w->credential.password);
	free(w->probes);
	free(w->claims);
	list_del(&w->link);
	node_set_unref(w->set);
	free(w);
}

static void begin(struct watch *w)
{
	w->probes = xcalloc(w->set->n, sizeof(*w->probes));
	w->claims = xcalloc(w->set->n, sizeof(*w->claims));
	for (unsigned i = 0; i < w->set->n; i++) {
		w->probes[i].watch = w;
		w->probes[i].node = i;
	}
	w->primary = -1;
	if (!find_login(w)) {
		log_warning("database \"%s\": nobody to ask the nodes as (monitor_user, auth_user "
			    "or the database's user): the first one counts as the primary and "
			    "nothing is routed",
			    w->set->database);
		w->set->monitored = false;
		node_set_note_standing(w->set);
		return;
	}
	/* As long as nobody has been asked, it is not known which one it is. */
	if (w->set->n > 1 && w->set->reign.primary < 0)
		w->set->primary = -1;
	w->set->monitored = true;
	node_set_note_standing(w->set);
	watch_keep_pace(w);
}

/* The entry that a set was made from, or NULL when it has left the configuration. */
static const struct database_conf *entry_of(const struct monitor *m, const struct node_set *set)
{
	const struct database_conf *database =
	    config_database_for(m->config, slice_str(set->database));

	if (database && !node_set_matches(set, database->nodes, database->nnodes))
		return NULL;
	return database;
}

static struct watch *find_watch(const struct monitor *m, const struct node_set *set)
{
	LIST_FOREACH (at, &m->watches) {
		struct watch *w = container_of(at, struct watch, link);

		if (w->set == set)
			return w;
	}
	return NULL;
}

static struct watch *find_watch_of(const struct monitor *m, const char *database)
{
	LIST_FOREACH (at, &m->watches) {
		struct watch *w = container_of(at, struct watch, link);

		if (w->pace && !strcmp(w->set->database, database))
			return w;
	}
	return NULL;
}

static void say_retiring(const struct node_set *set)
{
	char node[LOG_ADDRESS_MAX];
	struct log_about about = { .database = set->database,
				   .node = node_address(&set->nodes[set->retiring], node) };

	event_say(EVENT_switchover, &about, "SWITCHOVER: %s starts no more transactions", node);
}

bool monitor_retire(struct monitor *m, const char *database, struct err *e)
{
	struct watch *w = find_watch_of(m, database);
	struct node_set *set;

	if (!w || w->set->n < 2)
		return err_set(e, "55000", "database \"%s\" has no other node that is asked for",
			       database);
	set = w->set;
	if (set->retiring >= 0)
		return err_set(e, "55000", "a SWITCHOVER of database \"%s\" is under way",
			       database);
	if (set->primary < 0)
		return err_set(e, "55000", "no primary of database \"%s\" is known", database);
	set->retiring_until = watch_now(w) + w->settings.failover_wait;
	set->was_kept = false;
	set->retiring = set->primary;
	set->nodes[set->retiring].service = NODE_RETIRES;
	say_retiring(set);
	watch_keep_pace(w);
	return true;
}

bool monitor_rest(struct monitor *m, const char *database)
{
	struct watch *w = find_watch_of(m, database);

	if (!w)
		return true;
	w->set->retiring_until = watch_now(w) + w->settings.failover_wait;
	return !w->set->was_kept;
}

bool monitor_keep(struct monitor *m, const char *database)
{
	bool was_retiring = false;

	LIST_FOREACH (at, &m->watches) {
		struct watch *w = container_of(at, struct watch, link);

		if (*database && strcmp(w->set->database, database) != 0)
			continue;
		if (w->set->retiring < 0)
			continue;
		was_retiring = true;
		serve_again(w->set);
	}
	return was_retiring;
}

const struct node *monitor_primary(const struct monitor *m, const char *database,
				   struct server_target *target)
{
	LIST_FOREACH (at, &m->watches) {
		const struct watch *w = container_of(at, struct watch, link);

		if (w->primary < 0 || strcmp(w->set->database, database) != 0)
			continue;
		*target = watch_target(w, (unsigned)w->primary, watch_own_dbname(w));
		return &w->set->nodes[w->primary];
	}
	return NULL;
}

static struct watch *watch(struct monitor *m, struct node_set *set,
			   const struct database_conf *database)
{
	struct watch *w = xnew(struct watch);

	w->monitor = m;
	w->set = node_set_ref(set);
	w->database = database;
	settings_resolve(m->config, database, NULL, NULL, NULL, &w->settings);
	node_set_adopt(set, database->nodes, m->config->global.zone);
	list_push_back(&m->watches, &w->link);
	begin(w);
	return w;
}

/* Of a single node only the catalog is of use, so it is watched where a login says so, tenants are
 * asked for or events are told. */
static bool is_worth_it(const struct monitor *m, const struct node_set *set,
			const struct database_conf *database)
{
	struct settings settings;

	if (set->n > 1 || database == config_events_database(m->config) ||
	    (config_may_look_up(m->config) && database == config_tenant_database(m->config)))
		return true;
	settings_resolve(m->config, database, NULL, NULL, NULL, &settings);
	return *settings.monitor_user != '\0';
}

/* Names that connections have gone to are looked up as long as there are any. */
static void follow_names(struct monitor *m, struct node_set *set, struct watch *w)
{
	for (unsigned i = 0; i < set->n; i++) {
		struct node *node = &set->nodes[i];
		struct probe *p = w ? &w->probes[i] : NULL;
		unsigned moves;

		if (!node->servers && !(p && p->server))
			continue;
		moves = resolve_follow(m->resolver, node->host);
		if (moves == node->moves)
			continue;
		node->moves = moves;
		if (p)
			probe_follow(p);
	}
}

/* Begins to watch what has come into use and lets go of what has gone out of it. */
static void look_at(struct monitor *m, struct node_set *set)
{
	const struct database_conf *database = entry_of(m, set);
	struct watch *w = find_watch(m, set);
	bool has_entry = database && strcmp(database->name, "*");

	if (database && !w && is_worth_it(m, set, database))
		w = watch(m, set, database);
	follow_names(m, set, w);
	/* The list that we come from holds it, and the watch. */
	if (!has_entry && set->refs == 2 + (w != NULL)) {
		if (w)
			free_watch(w);
		node_sets_forget(m->sets, set, 1);
	}
}

static bool is_listed(struct node_set *const *list, unsigned n, const struct node_set *set)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i] == set)
			return true;
	return false;
}

static void look_around(struct monitor *m)
{
	unsigned n;
	struct node_set **list = node_sets_list(m->sets, &n);

	/* A set whose hosts are others now has left the registry. */
	LIST_FOREACH_SAFE (at, &m->watches) {
		struct watch *w = container_of(at, struct watch, link);

		if (!is_listed(list, n, w->set))
			free_watch(w);
	}
	for (unsigned i = 0; i < n; i++) {
		look_at(m, list[i]);
		node_set_unref(list[i]);
	}
	free(list);
}

void monitor_look(struct monitor *m)
{
	look_around(m);
	net_flush(m->net);
}

static void on_look(struct loop_timer *timer)
{
	monitor_look(container_of(timer, struct monitor, look));
}

static void free_watches(struct monitor *m)
{
	LIST_FOREACH_SAFE (at, &m->watches)
		free_watch(container_of(at, struct watch, link));
}

static void let_go_of_config(struct monitor *m)
{
	config_unref(m->config);
	if (m->tls)
		tls_context_unref(m->tls);
}

struct monitor *monitor_new(struct net *net, struct mailbox *mailbox, struct resolver *resolver,
			    struct node_sets *sets)
{
	struct monitor *m = xnew(struct monitor);

	*m = (struct monitor){ .net = net, .mailbox = mailbox, .resolver = resolver, .sets = sets };
	list_init(&m->watches);
	loop_timer_start(net->loop, &m->look, LOOK_PERIOD, LOOK_PERIOD, on_look);
	return m;
}

void monitor_configure(struct monitor *m, struct config *config, struct tls_context *server_tls)
{
	free_watches(m);
	let_go_of_config(m);
	m->config = config_ref(config);
	m->tls = server_tls ? tls_context_ref(server_tls) : NULL;
	for (size_t i = 0; i < config->ndatabases; i++) {
		const struct database_conf *d = config->databases[i];

		if (strcmp(d->name, "*"))
			node_set_unref(
			    node_sets_get(m->sets, d->name, d->nodes, d->nnodes, config->edition));
	}
	look_around(m);
}

void monitor_free(struct monitor *m)
{
	loop_timer_stop(m->net->loop, &m->look);
	free_watches(m);
	let_go_of_config(m);
	free(m);
}

void monitor_visit(const struct monitor *m, monitor_visit_fn *visit, void *arg)
{
	LIST_FOREACH (at, &m->watches) {
		const struct watch *w = container_of(at, struct watch, link);

		for (unsigned i = 0; i < w->set->n; i++)
			if (w->probes[i].server && w->probes[i].is_ready)
				visit(arg, w->probes[i].server, w->set->database, w->user);
	}
}
