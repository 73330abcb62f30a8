/* SPDX-License-Identifier: ISC
 *
 * monitor.c - asks each node for its role, its lag and its catalog, and tells the node sets.
 *
 * Roles are asked for, never configured.  A node counts as down as soon as it does not answer, and
 * as the primary's replica only while it belongs to the same cluster.  Who is the primary of
 * several that think so is decided in route/primacy; while there is none, all are asked more often.
 *
 * What replicas have of what was written is told by numbers: route/fence.h.
 *
 * How far a replica is behind, in time: not at all when it has replayed what the primary had
 * written when it was last asked.  Else the age of the last transaction it replayed, but no more
 * than the time since it was last known to have everything, which is right on an idle primary too.
 */
#include "worker/monitor.h"

#include "auth/userlist.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/tls.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "route/primacy.h"
#include "server/server.h"
#include "sql/catalog.h"
#include "worker/catalog_read.h"
#include "worker/patroni.h"
#include "worker/sets.h"

#include <stdio.h>
#include <stdlib.h>

/* How often it looks for databases that came into use, and for readings that take too long. */
#define LOOK_PERIOD USEC_PER_SEC
/* No node is given up in less time, however short the interval. */
#define SILENCE_MIN (3 * USEC_PER_SEC)
/* How often nodes are asked while no primary is known, and for how long they are. */
#define URGENT_INTERVAL (100 * USEC_PER_MSEC)
#define URGENT_TIME     (300 * USEC_PER_SEC)
/* A process that was met instead of the one asked counts for so long. */
#define STRANGER_TIME (60 * USEC_PER_SEC)
/* The catalog is read again after this time, or sooner when that failed. */
#define CATALOG_PERIOD   (60 * USEC_PER_SEC)
#define CATALOG_RETRY    (5 * USEC_PER_SEC)

#define APPLICATION_NAME "pgturnstile monitor"

static const char ask_cluster[] =
    "SELECT system_identifier, pg_catalog.has_function_privilege("
    "'pg_catalog.pg_control_checkpoint()', 'EXECUTE') FROM pg_catalog.pg_control_system()";

/* Role; position in bytes, written or replayed; seconds since the last transaction replayed was
 * committed; timeline that is written, or of what is replayed; bytes of a page and of a segment of
 * its log; when the server was started. */
#define ASK_STATE(replayed_timeline)                                                               \
	"SELECT pg_catalog.pg_is_in_recovery(),"                                                   \
	" pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()"                     \
	" THEN pg_catalog.pg_last_wal_replay_lsn()"                                                \
	" ELSE pg_catalog.pg_current_wal_insert_lsn() END, '0/0'),"                                \
	" pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()"                              \
	" OPERATOR(pg_catalog.-) pg_catalog.pg_last_xact_replay_timestamp()),"                     \
	" CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.to_hex(" replayed_timeline      \
	") ELSE pg_catalog.substr(pg_catalog.pg_walfile_name("                                     \
	"pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END,"                                      \
	" pg_catalog.current_setting('wal_block_size'),"                                           \
	" pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),"               \
	" pg_catalog.round(extract(epoch FROM pg_catalog.pg_postmaster_start_time())"              \
	" OPERATOR(pg_catalog.*) 1000000)"
#define STATE_COLUMNS 7

/* What it receives, which pg_read_all_stats may see; else that of its last restartpoint, which
 * comes late; else none. */
#define RECEIVED_TIMELINE "(SELECT received_tli FROM pg_catalog.pg_stat_get_wal_receiver())"
static const char ask_state[] =
    ASK_STATE("coalesce(" RECEIVED_TIMELINE
	      ", (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()))");
static const char ask_state_modestly[] = ASK_STATE(RECEIVED_TIMELINE);

/* Headers of a page of the log (xlog_internal.h): of the first one of a segment, and of others. */
#define LONG_PAGE_HEADER  40
#define SHORT_PAGE_HEADER 24

/* What a node said of itself. */
struct answer {
	bool is_replica;
	uint64_t position;
	usec_t replay_age; /* -1: not known */
	uint32_t timeline; /* 0: not known */
	int64_t process;
};

struct probe {
	struct watch *watch;
	unsigned node;
	struct server *server; /* or NULL */
	bool is_ready;         /* logged in */
	bool has_answered;     /* on this connection */
	bool may_see_control;  /* of its cluster */
	bool was_heard;        /* it has answered, or failed to */
	bool was_refused;      /* it lives, and did not let us in when that was tried last */
	usec_t retry_at;       /* no attempt before: who refuses us is not pestered */
	struct patroni_question *patroni; /* under way, or NULL */
	enum vouch vouch;
	usec_t asked_at;              /* the attempt or question under way; 0: none */
	usec_t silence;               /* how long its answer has been looked for in vain */
	char cluster[CLUSTER_ID_MAX]; /* system identifier, "" while it is not known */
	struct answer answer;
	uint64_t question; /* its number: route/fence.h */
	int64_t stranger;  /* that was known at the node when it was asked */
	usec_t covered_at; /* it has replayed all that was written by then; 0: not known */
};

struct watch {
	struct list link;
	struct monitor *monitor;
	struct node_set *set;
	const struct database_conf *database; /* of the monitor's config */
	struct settings settings;
	const char *user;
	struct credential credential;
	struct loop_timer timer;
	usec_t pace;         /* of the timer */
	usec_t urgent_since; /* 0: it is not */
	struct probe *probes;
	struct claim *claims;   /* what the probes know, whenever that is judged */
	int primary;            /* index, or -1 while none answers */
	struct fence_line line; /* of its log */
	usec_t primary_at;      /* when it was asked for the position in its answer; 0: never */
	struct catalog_read *reading;
	usec_t catalog_due;
	unsigned definitions; /* of the set when .reading began */
	bool catalog_failed;  /* and that was said */
};

struct monitor {
	struct net *net;
	struct mailbox *mailbox;
	struct resolver *resolver;
	struct node_sets *sets;
	struct config *config;
	struct tls_context *tls;
	struct list watches;
	struct loop_timer look;
};

static usec_t now_of(const struct watch *w)
{
	return loop_now(w->monitor->net->loop);
}

static struct node *node_of(const struct probe *p)
{
	return &p->watch->set->nodes[p->node];
}

/* ---- what nodes are ---------------------------------------------------------------------------
 */

/* One name, or address, behind which several servers answer. */
#define IS_SEVERAL "different servers answer here: reads of what was written go to the primary"

static void set_role(struct probe *p, enum node_role role, const char *why)
{
	struct node *node = node_of(p);
	enum node_role before = (enum node_role)atomic_exchange(&node->role, (int)role);
	/* Written by this thread alone, so that it may be read here without the lock. */
	bool is_news = before != role || strncmp(node->error, why, sizeof(node->error) - 1) != 0;

	if (!is_news)
		return;
	node_set_error(p->watch->set, node, why);
	if (*why)
		log_warning("database \"%s\": node %s:%u is %s: %s", p->watch->set->database,
			    node->host, node->port, node_role_name(role), why);
	else
		log_info("database \"%s\": node %s:%u is %s", p->watch->set->database, node->host,
			 node->port, node_role_name(role));
}

static void gather_claims(struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++) {
		const struct probe *p = &w->probes[i];

		w->claims[i] = (struct claim){ .is_open = !p->was_heard || p->was_refused,
					       .has_answered = p->has_answered,
					       .is_primary = !p->answer.is_replica,
					       .vouch = p->vouch,
					       .timeline = p->answer.timeline,
					       .position = p->answer.position,
					       .cluster = p->cluster };
	}
}

/* Nobody can ask any node, and nobody ever could: the configuration is all there is to go by. */
static bool is_blind(const struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++)
		if (!w->probes[i].was_heard || w->set->nodes[i].seen_at)
			return false;
	return true;
}

static void log_primary(const struct watch *w, int primary)
{
	const struct node_set *set = w->set;

	if (primary < 0)
		log_warning("database \"%s\": no primary is known: what needs it waits",
			    set->database);
	else if (set->reign.primary >= 0)
		log_info("database \"%s\": the primary is %s:%u, on timeline %u", set->database,
			 set->nodes[primary].host, set->nodes[primary].port, set->reign.timeline);
}

/* The process that a connection has met was another one, and the one asked then still answers. */
static bool is_several(const struct probe *p)
{
	return p->stranger && p->stranger != p->answer.process &&
	       p->stranger == node_of(p)->stranger;
}

/* What workers go by.  Of a single node nothing depends on it: everything goes there. */
static void publish_primary(struct watch *w, int primary)
{
	struct node_set *set = w->set;
	int last = set->reign.primary;

	if (set->n < 2)
		return;
	if (primary < 0 && is_blind(w))
		primary = 0;
	else if (primary >= 0 && w->probes[primary].has_answered)
		reign_pass_to(&set->reign, primary, &w->claims[primary]);
	if (primary == set->primary)
		return;
	/* Nothing more may begin on the old one before anything does on the new one. */
	if (primary >= 0 && last >= 0 && last != primary)
		set->nodes[last].service = NODE_DEPOSED;
	if (primary >= 0 && primary != set->retiring) {
		set->retiring = -1;
		set->nodes[primary].service = NODE_SERVES;
	}
	set->primary = primary;
	log_primary(w, primary);
}

static void publish_role(struct watch *w, unsigned node, int primary)
{
	static const enum node_role outcast[] = { [STANDING_DENIED] = NODE_FENCED,
						  [STANDING_FENCED] = NODE_FENCED,
						  [STANDING_FOREIGN] = NODE_DOWN };
	struct probe *p = &w->probes[node];
	char why[160] = "";
	enum standing standing;

	standing = primacy_standing(w->claims, node, primary, &w->set->reign, why, sizeof(why));
	w->set->nodes[node].service = standing == STANDING_FENCED     ? NODE_DEPOSED
				      : (int)node == w->set->retiring ? NODE_RETIRES
								      : NODE_SERVES;
	if (standing != STANDING_MEMBER)
		set_role(p, outcast[standing], why);
	else
		set_role(p, p->answer.is_replica ? NODE_REPLICA : NODE_PRIMARY,
			 is_several(p) ? IS_SEVERAL : "");
}

static void keep_pace(struct watch *w);

static void assess(struct watch *w)
{
	int before = w->primary, primary;

	gather_claims(w);
	primary = primacy_decide(w->claims, w->set->n, &w->set->reign);
	w->primary = primary >= 0 && w->probes[primary].has_answered ? primary : -1;
	if (w->primary != before) {
		w->primary_at = 0;
		w->catalog_due = 0;
	}
	publish_primary(w, primary);
	for (unsigned i = 0; i < w->set->n; i++)
		if (w->probes[i].has_answered)
			publish_role(w, i, primary);
	keep_pace(w);
}

static void measure_lag(struct probe *p, usec_t now)
{
	const struct watch *w = p->watch;
	struct node *node = node_of(p);
	uint64_t written, replayed = p->answer.position;
	usec_t lag = p->answer.replay_age;

	if (!p->answer.is_replica) {
		node->lag_bytes = -1;
		node->lag_time = -1;
		return;
	}
	if (w->primary < 0 || !w->primary_at)
		return;
	written = w->probes[w->primary].answer.position;
	node->lag_bytes = written > replayed ? (int64_t)(written - replayed) : 0;
	if (replayed >= written) {
		p->covered_at = w->primary_at;
		lag = 0;
	} else if (p->covered_at && (lag < 0 || lag > now - p->covered_at)) {
		lag = now - p->covered_at;
	}
	node->lag_time = lag;
}

/* ---- what replicas have of what was written ----------------------------------------------------
 */

static void cover_nothing(struct watch *w)
{
	for (unsigned i = 0; i < w->set->n; i++)
		w->set->nodes[i].covers = 0;
}

/* Where positions in two logs mean the same. */
static bool is_of_line(const struct fence_line *line, const struct node *node)
{
	return line->n && node->system && node->system == line->origin.system && node->timeline &&
	       node->timeline == line->origin.timeline;
}

static void cover(const struct probe *p)
{
	const struct fence_line *line = &p->watch->line;
	struct node *node = node_of(p);
	uint64_t covered;

	if (!p->has_answered || !p->answer.is_replica || !is_of_line(line, node))
		return;
	covered = fence_line_covered(line, p->answer.position);
	if (covered > node->covers)
		node->covers = covered;
}

/* A process met by a connection that nobody has met for a while; or that is the one asked now. */
static void forget_stranger(struct probe *p, usec_t now)
{
	struct node *node = node_of(p);

	if (!node->stranger ||
	    (node->stranger != p->answer.process && now - node->stranger_at < STRANGER_TIME))
		return;
	node->stranger = 0;
	if ((int)p->node == p->watch->primary)
		p->watch->set->unsure = false;
}

static void follow_log(struct probe *p, usec_t now)
{
	struct watch *w = p->watch;
	const struct node *node = node_of(p);
	struct fence_origin origin = { p->node, node->system, node->timeline, node->process };

	if ((int)p->node == w->primary) {
		if (fence_line_add(&w->line, &origin, p->question, p->answer.position))
			cover_nothing(w);
		for (unsigned i = 0; i < w->set->n; i++)
			cover(&w->probes[i]);
	} else {
		cover(p);
	}
	forget_stranger(p, now);
}

/* ---- asking one node --------------------------------------------------------------------------
 */

/* Whether it is the primary as far as is known, and only we cannot ask it: too many connections,
 * another password. */
static bool is_primary_unasked(const struct probe *p)
{
	const struct node_set *set = p->watch->set;

	return p->was_refused && set->reign.primary == (int)p->node && set->primary == (int)p->node;
}

static void give_up(struct probe *p, const char *why)
{
	struct server *s = p->server;

	p->server = NULL;
	p->is_ready = p->has_answered = false;
	p->was_heard = true;
	p->was_refused = s && s->was_refused;
	p->retry_at =
	    p->was_refused ? now_of(p->watch) + p->watch->settings.monitor_interval / 2 : 0;
	/* It may come back with less, even if it is the same postmaster's. */
	node_of(p)->covers = 0;
	p->asked_at = 0;
	if (s)
		server_drop(s);
	assess(p->watch);
	set_role(p, is_primary_unasked(p) ? NODE_PRIMARY : NODE_DOWN,
		 why ? why : "the connection was closed");
}

static uint64_t to_number(struct slice text, int base)
{
	char room[40] = "";

	if (text.p && text.n < sizeof(room))
		memcpy(room, text.p, text.n);
	return strtoull(room, NULL, base);
}

static usec_t to_usec(struct slice seconds)
{
	char room[40] = "";
	double value;

	if (!seconds.p || seconds.n >= sizeof(room))
		return -1;
	memcpy(room, seconds.p, seconds.n);
	value = strtod(room, NULL);
	/* Infinity and NaN are no times, and no replica's last transaction is of the future. */
	return value >= 0 && value < INT32_MAX ? (usec_t)(value * (double)USEC_PER_SEC) : -1;
}

/* An idle primary may stand behind the header of a page that has no record yet.  What is replayed
 * stands before it, and is all there is. */
static uint64_t without_header(uint64_t position, uint64_t page, uint64_t segment)
{
	if (segment && position % segment == LONG_PAGE_HEADER)
		return position - LONG_PAGE_HEADER;
	if (page && position % page == SHORT_PAGE_HEADER)
		return position - SHORT_PAGE_HEADER;
	return position;
}

static void on_state(struct server *s PGT_UNUSED, void *arg, const struct slice *columns,
		     unsigned n)
{
	struct probe *p = arg;

	if (n != STATE_COLUMNS)
		return;
	p->answer = (struct answer){ .is_replica = slice_is_equal(columns[0], SLICE("t")),
				     .position = without_header(to_number(columns[1], 10),
								to_number(columns[4], 10),
								to_number(columns[5], 10)),
				     .replay_age = to_usec(columns[2]),
				     .timeline = (uint32_t)to_number(columns[3], 16),
				     .process = (int64_t)to_number(columns[6], 10) };
	p->has_answered = true;
}

/* A replica that answered before the primary need not be asked again. */
static void measure_all(struct watch *w, usec_t now)
{
	for (unsigned i = 0; i < w->set->n; i++)
		if (w->probes[i].has_answered)
			measure_lag(&w->probes[i], now);
}

static void on_primary_told(struct watch *w, usec_t asked_at, usec_t now)
{
	bool is_first = !w->primary_at;

	w->primary_at = asked_at;
	if (is_first)
		measure_all(w, now);
}

static void publish(const struct probe *p, usec_t asked_at, usec_t now)
{
	struct node *node = node_of(p);

	node->asked_at = asked_at;
	node->seen_at = now;
	node->latency = now - asked_at;
	node->position = p->answer.position;
	node->timeline = p->answer.timeline;
	node->system = to_number(slice_str(p->cluster), 10);
	/* What the one before had replayed, this one may not have. */
	if (node->process != p->answer.process)
		node->covers = 0;
	node->process = p->answer.process;
}

static void on_state_told(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct probe *p = arg;
	usec_t now = now_of(p->watch), asked_at = p->asked_at;
	struct err e;

	if (error) {
		err_set(&e, "58000", "%.*s", SLICE_FMT(error->message));
		give_up(p, e.text);
		return;
	}
	p->asked_at = 0;
	p->was_heard = true;
	p->was_refused = false;
	publish(p, asked_at, now);
	assess(p->watch);
	follow_log(p, now);
	if ((int)p->node == p->watch->primary)
		on_primary_told(p->watch, asked_at, now);
	measure_lag(p, now);
}

static void ask(struct probe *p)
{
	struct question q = { .row = on_state, .done = on_state_told, .arg = p };

	p->asked_at = now_of(p->watch);
	p->silence = 0;
	p->stranger = node_of(p)->stranger;
	p->question = fence_ask();
	server_ask(p->server, p->may_see_control ? ask_state : ask_state_modestly, &q);
}

static void on_cluster(struct server *s PGT_UNUSED, void *arg, const struct slice *columns,
		       unsigned n)
{
	struct probe *p = arg;

	if (n != 2 || !columns[0].p || columns[0].n >= sizeof(p->cluster))
		return;
	memcpy(p->cluster, columns[0].p, columns[0].n);
	p->may_see_control = slice_is_equal(columns[1], SLICE("t"));
}

/* Who may not ask goes on without it. */
static void on_cluster_told(struct server *s PGT_UNUSED, void *arg,
			    const struct report *error PGT_UNUSED)
{
	ask(arg);
}

static void on_ready(struct server *s)
{
	struct probe *p = s->owner;
	struct question q = { .row = on_cluster, .done = on_cluster_told, .arg = p };

	p->is_ready = true;
	p->may_see_control = false;
	memset(p->cluster, 0, sizeof(p->cluster));
	server_ask(s, ask_cluster, &q);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		give_up(s->owner, "the server says what nobody asked for");
}

static void on_ended(struct server *s, const char *why)
{
	give_up(s->owner, why);
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events probe_events = { .ready = on_ready,
						   .readable = on_readable,
						   .drained = on_nothing,
						   .ended = on_ended,
						   .cancel_over = on_nothing };

static const char *own_dbname(const struct watch *w)
{
	return *w->database->dbname ? w->database->dbname : w->set->database;
}

static struct server_target target_of(const struct watch *w, unsigned i, const char *dbname)
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

static void connect_probe(struct probe *p)
{
	const struct watch *w = p->watch;
	const char *dbname = w->settings.monitor_dbname;
	struct server_target target = target_of(w, p->node, *dbname ? dbname : own_dbname(w));

	p->asked_at = now_of(w);
	p->silence = 0;
	p->server = server_new(NULL, w->monitor->net, &probe_events);
	p->server->owner = p;
	server_connect(p->server, &target);
}

static usec_t patience(const struct watch *w)
{
	usec_t three = 3 * w->settings.monitor_interval;

	return three > SILENCE_MIN ? three : SILENCE_MIN;
}

/* Counted in looks, not by the clock: what came while this process was not run is still unread. */
static bool is_silent(struct probe *p)
{
	return p->asked_at && (p->silence += p->watch->pace) >= patience(p->watch);
}

static void on_vouched(void *arg, enum vouch vouch)
{
	struct probe *p = arg;

	p->patroni = NULL;
	if (vouch == p->vouch)
		return;
	p->vouch = vouch;
	assess(p->watch);
}

static void ask_patroni(struct probe *p)
{
	const struct watch *w = p->watch;
	struct dial_target target = target_of(w, p->node, "").dial;

	target.port = w->settings.patroni_port;
	if (target.port && *target.host != '/' && !p->patroni)
		p->patroni = patroni_ask(w->monitor->net, &target, on_vouched, p);
}

static void tick(struct probe *p, usec_t now)
{
	char why[64];

	ask_patroni(p);
	if (!p->server) {
		if (now >= p->retry_at)
			connect_probe(p);
	} else if (is_silent(p)) {
		snprintf(why, sizeof(why), "no answer for %lld s",
			 (long long)((now - p->asked_at) / USEC_PER_SEC));
		give_up(p, why);
	} else if (p->is_ready && !p->asked_at) {
		ask(p);
	}
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

	w->reading = NULL;
	w->catalog_due = now_of(w) + (catalogs ? CATALOG_PERIOD : CATALOG_RETRY);
	if (catalogs) {
		decide(catalogs->catalog, w->settings.read_functions, false);
		decide(catalogs->catalog, w->settings.write_functions, true);
		node_set_publish_catalog(w->set, catalogs->catalog);
		node_set_publish_leaving(w->set, catalogs->leaving, w->definitions);
		w->set->learned_at = now_of(w);
	} else if (!w->catalog_failed) {
		log_warning("database \"%s\": the catalog cannot be read: %s", w->set->database,
			    why);
	}
	w->catalog_failed = !catalogs;
}

static void read_catalog(struct watch *w)
{
	struct server_target target = target_of(w, (unsigned)w->primary, own_dbname(w));

	w->definitions = w->set->definitions;
	w->reading = catalog_read_start(w->monitor->net, &target, on_catalog, w);
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
	log_warning("database \"%s\": SWITCHOVER: no other node has become the primary in time",
		    set->database);
}

static void on_tick(struct loop_timer *timer)
{
	struct watch *w = container_of(timer, struct watch, timer);
	usec_t now = now_of(w);

	end_switchover(w, now);
	keep_pace(w);
	for (unsigned i = 0; i < w->set->n; i++)
		tick(&w->probes[i], now);
	if (w->reading)
		catalog_read_sweep(w->reading, now);
	else if (w->primary >= 0 && now >= w->catalog_due)
		read_catalog(w);
	net_flush(w->monitor->net);
}

/* ---- databases --------------------------------------------------------------------------------
 */

/* False: there is no user to log in as. */
static bool find_login(struct watch *w)
{
	const struct settings *set = &w->settings;
	const struct userlist_entry *entry;
	const char *password = set->monitor_password;

	w->user = *set->monitor_user ? set->monitor_user
		  : *set->auth_user  ? set->auth_user
				     : w->database->user;
	if (!*w->user)
		return false;
	if (!*password && !strcmp(w->user, w->database->user))
		password = w->database->password;
	entry = userlist_find(w->monitor->config->userlist, slice_str(w->user));
	if (!*password && entry && entry->kind != PASSWORD_SCRAM)
		password = entry->password;
	w->credential.has_password = *password != '\0';
	w->credential.password = xstrdup(password);
	return true;
}

/* Someone waits for another primary to show. */
static bool is_urgent(struct watch *w)
{
	usec_t now = now_of(w);

	if (w->set->n < 2 || (w->primary >= 0 && w->set->retiring < 0))
		w->urgent_since = 0;
	else if (!w->urgent_since)
		w->urgent_since = now;
	return w->urgent_since && now - w->urgent_since < URGENT_TIME;
}

static void keep_pace(struct watch *w)
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
		return;
	}
	/* As long as nobody has been asked, it is not known which one it is. */
	if (w->set->n > 1 && w->set->reign.primary < 0)
		w->set->primary = -1;
	w->set->monitored = true;
	keep_pace(w);
}

/* The entry that a set was made from, or NULL when it has left the configuration. */
static const struct database_conf *entry_of(const struct monitor *m, const struct node_set *set)
{
	const struct database_conf *database = config_database(m->config, slice_str(set->database));

	if (!database || !strcmp(database->name, "*"))
		database = config_database_fallback(m->config);
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
	set->retiring_until = now_of(w) + w->settings.failover_wait;
	set->was_kept = false;
	set->retiring = set->primary;
	set->nodes[set->retiring].service = NODE_RETIRES;
	log_info("database \"%s\": SWITCHOVER: %s:%u starts no more transactions", database,
		 set->nodes[set->retiring].host, set->nodes[set->retiring].port);
	keep_pace(w);
	return true;
}

bool monitor_rest(struct monitor *m, const char *database)
{
	struct watch *w = find_watch_of(m, database);

	if (!w)
		return true;
	w->set->retiring_until = now_of(w) + w->settings.failover_wait;
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
		*target = target_of(w, (unsigned)w->primary, own_dbname(w));
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
	list_push_back(&m->watches, &w->link);
	begin(w);
	return w;
}

/* Of a single node only the catalog is of use, so it is watched where a login says so, or tenants
 * are asked for. */
static bool is_worth_it(const struct monitor *m, const struct node_set *set,
			const struct database_conf *database)
{
	struct settings settings;

	if (set->n > 1 ||
	    (config_may_look_up(m->config) && database == config_tenant_database(m->config)))
		return true;
	settings_resolve(m->config, database, NULL, NULL, NULL, &settings);
	return *settings.monitor_user != '\0';
}

/* Begins to watch what has come into use and lets go of what has gone out of it. */
static void look_at(struct monitor *m, struct node_set *set)
{
	const struct database_conf *database = entry_of(m, set);
	struct watch *w = find_watch(m, set);
	bool has_entry = database && strcmp(database->name, "*");

	if (database && !w && is_worth_it(m, set, database))
		w = watch(m, set, database);
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

static void on_look(struct loop_timer *timer)
{
	struct monitor *m = container_of(timer, struct monitor, look);

	look_around(m);
	net_flush(m->net);
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
			node_set_unref(node_sets_get(m->sets, d->name, d->nodes, d->nnodes));
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
