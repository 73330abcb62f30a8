/* SPDX-License-Identifier: ISC
 *
 * probe.c - asks one node what it is: its role, how far its log is, whose cluster it belongs to;
 * and now and then what its server waits for.
 *
 * A connection of its own, and a question at each tick.  Knows what a node says of itself; what
 * that makes of it among the others is assess.c's.
 */
#include "base/log.h"
#include "base/mem.h"
#include "net/resolve.h"
#include "route/fence.h"
#include "route/nodes.h"
#include "route/primacy.h"
#include "server/server.h"
#include "worker/patroni.h"
#include "worker/watch.h"

#include <stdio.h>
#include <stdlib.h>

/* No node is given up in less time, however short the interval. */
#define SILENCE_MIN (3 * USEC_PER_SEC)

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

/* At least between two questions for locks and cache, of which there may be many. */
#define LOAD_REST (USEC_PER_SEC / 2)

/* Sessions that wait for a lock, and the longest such wait in seconds, for who may see them; blocks
 * found in the cache, and not; deadlocks.  Locks are listed only when somebody waits, because that
 * holds up whoever takes one meanwhile; and before 15 statistics are read from a file, which has to
 * be written first. */
static const char ask_load[] =
    "SELECT CASE WHEN may.see THEN l.waits END, CASE WHEN may.see THEN l.longest END,"
    " s.hit, s.read, s.deadlocks"
    " FROM (SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')) AS may(see),"
    " (SELECT pg_catalog.count(*), coalesce(pg_catalog.max(pg_catalog.date_part('epoch',"
    " pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) waitstart)), 0)"
    " FROM pg_catalog.pg_locks WHERE NOT granted AND EXISTS (SELECT FROM"
    " pg_catalog.pg_stat_activity WHERE wait_event_type OPERATOR(pg_catalog.=) 'Lock'))"
    " AS l(waits, longest),"
    " (SELECT pg_catalog.sum(blks_hit), pg_catalog.sum(blks_read), pg_catalog.sum(deadlocks)"
    " FROM pg_catalog.pg_stat_database WHERE pg_catalog.current_setting('server_version_num')"
    "::pg_catalog.int4 OPERATOR(pg_catalog.>=) 150000) AS s(hit, read, deadlocks)";
#define LOAD_COLUMNS 5

/* Headers of a page of the log (xlog_internal.h): of the first one of a segment, and of others. */
#define LONG_PAGE_HEADER  40
#define SHORT_PAGE_HEADER 24

/* Whether it is the primary as far as is known, and only we cannot ask it: too many connections,
 * another password. */
static bool is_primary_unasked(const struct probe *p)
{
	const struct node_set *set = p->watch->set;

	return p->was_refused && set->reign.primary == (int)p->node && set->primary == (int)p->node;
}

static void hang_up(struct probe *p)
{
	struct node *node = probe_node(p);
	struct server *s = p->server;

	p->server = NULL;
	p->is_ready = p->has_answered = false;
	/* It may come back with less, even if it is the same postmaster's. */
	node->covers = 0;
	node_set_note_standing(p->watch->set);
	node_forget_load(node);
	p->asked_at = 0;
	if (s)
		server_drop(s);
}

/* is_sure: that says enough. */
static void give_up(struct probe *p, const char *why, bool is_sure)
{
	struct node *node = probe_node(p);

	p->was_heard = true;
	p->was_refused = p->server && p->server->was_refused;
	p->retry_at =
	    p->was_refused ? watch_now(p->watch) + p->watch->settings.monitor_interval / 2 : 0;
	health_fail(&node->health, p->watch->settings.node_failures, is_sure);
	hang_up(p);
	assess_nodes(p->watch);
	if (node->health.is_out)
		assess_set_role(p, is_primary_unasked(p) ? NODE_PRIMARY : NODE_DOWN, why);
	else
		log_info("database \"%s\": node %s:%u is asked again: %s", p->watch->set->database,
			 node->host, node->port, why);
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
			assess_lag(&w->probes[i], now);
}

static void on_primary_told(struct watch *w, usec_t asked_at, usec_t now)
{
	bool is_first = !w->primary_at;

	w->primary_at = asked_at;
	if (!is_first)
		return;
	measure_all(w, now);
	/* Nothing is a read before it is there, so that is not left to the next look. */
	watch_mind_catalog(w);
}

static void publish(const struct probe *p, usec_t asked_at, usec_t now)
{
	struct node *node = probe_node(p);

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
	node_set_note_standing(p->watch->set);
}

static void note_health(const struct probe *p, usec_t now)
{
	const struct settings *set = &p->watch->settings;
	struct node *node = probe_node(p);

	node->comebacks += node->health.failures != 0;
	health_answer(&node->health, !p->answer.is_replica, set->node_answers,
		      set->node_settle_time, now);
}

static int64_t to_count(struct slice text)
{
	return text.p ? (int64_t)to_number(text, 10) : -1;
}

static void on_load(struct server *s PGT_UNUSED, void *arg, const struct slice *columns, unsigned n)
{
	struct node *node = probe_node(arg);

	if (n != LOAD_COLUMNS)
		return;
	node->lock_waits = to_count(columns[0]);
	node->lock_wait = to_usec(columns[1]);
	node->blocks_hit = to_count(columns[2]);
	node->blocks_read = to_count(columns[3]);
	node->deadlocks = to_count(columns[4]);
}

/* A server that cannot say (before 14, or one that only speaks the protocol) is as good as any. */
static void on_load_told(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct probe *p = arg;

	p->asked_at = 0;
	if (!error)
		return;
	p->tells_load = false;
	node_forget_load(probe_node(p));
	log_info("database \"%s\": node %s:%u does not tell of locks and cache: %.*s",
		 p->watch->set->database, probe_node(p)->host, probe_node(p)->port,
		 SLICE_FMT(error->message));
}

/* Behind the question for its state, so that no fence waits for it. */
static void ask_for_load(struct probe *p, usec_t now)
{
	struct question q = { .row = on_load, .done = on_load_told, .arg = p };

	if (!p->tells_load || now - p->load_at < LOAD_REST)
		return;
	p->load_at = p->asked_at = now;
	p->silence = 0;
	server_ask(p->server, ask_load, &q);
}

static void on_state_told(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct probe *p = arg;
	usec_t now = watch_now(p->watch), asked_at = p->asked_at;
	struct err e;

	if (error) {
		err_set(&e, "58000", "%.*s", SLICE_FMT(error->message));
		give_up(p, e.text, false);
		return;
	}
	p->asked_at = 0;
	p->was_heard = true;
	p->was_refused = false;
	note_health(p, now);
	publish(p, asked_at, now);
	assess_nodes(p->watch);
	assess_log(p, now);
	if ((int)p->node == p->watch->primary)
		on_primary_told(p->watch, asked_at, now);
	assess_lag(p, now);
	ask_for_load(p, now);
}

static void ask(struct probe *p)
{
	struct question q = { .row = on_state, .done = on_state_told, .arg = p };

	p->asked_at = watch_now(p->watch);
	p->silence = 0;
	p->stranger = probe_node(p)->stranger;
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
	p->tells_load = true;
	memset(p->cluster, 0, sizeof(p->cluster));
	server_ask(s, ask_cluster, &q);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		give_up(s->owner, "the server says what nobody asked for", false);
}

static void on_ended(struct server *s, const char *why)
{
	give_up(s->owner, why, false);
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events probe_events = { .ready = on_ready,
						   .readable = on_readable,
						   .drained = on_nothing,
						   .ended = on_ended,
						   .cancel_over = on_nothing };

static void connect_probe(struct probe *p)
{
	const struct watch *w = p->watch;
	const char *dbname = w->settings.monitor_dbname;
	struct server_target target =
	    watch_target(w, p->node, *dbname ? dbname : watch_own_dbname(w));

	p->asked_at = watch_now(w);
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
	assess_nodes(p->watch);
}

static void ask_patroni(struct probe *p)
{
	const struct watch *w = p->watch;
	struct dial_target target = watch_target(w, p->node, "").dial;

	target.port = w->settings.patroni_port;
	if (target.port && *target.host != '/' && !p->patroni)
		p->patroni = patroni_ask(w->monitor->net, &target, on_vouched, p);
}

void probe_tick(struct probe *p, usec_t now)
{
	char why[64];

	ask_patroni(p);
	if (!p->server) {
		if (now >= p->retry_at)
			connect_probe(p);
	} else if (is_silent(p)) {
		snprintf(why, sizeof(why), "no answer for %lld s",
			 (long long)((now - p->asked_at) / USEC_PER_SEC));
		give_up(p, why, true);
	} else if (p->is_ready && !p->asked_at) {
		ask(p);
	}
}

void probe_follow(struct probe *p)
{
	const struct monitor *m = p->watch->monitor;

	if (!p->is_ready ||
	    resolve_leads_to(m->resolver, probe_node(p)->host, &p->server->conn.peer))
		return;
	log_info("database \"%s\": node %s:%u is another address now", p->watch->set->database,
		 probe_node(p)->host, probe_node(p)->port);
	hang_up(p);
	probe_tick(p, watch_now(p->watch));
}
