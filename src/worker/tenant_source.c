/* SPDX-License-Identifier: ISC
 *
 * tenant_source.c - the tenants of tenant_query, kept as fresh as they have to be.
 *
 * Knows when to ask and who waits for it; what rows mean is config/roster.h.
 */
#include "worker/tenant_source.h"

#include "base/log.h"
#include "base/mem.h"
#include "config/roster.h"
#include "route/nodes.h"
#include "server/server.h"
#include "stats/event.h"
#include "wire/read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CHANNEL "pgturnstile_tenants"

/* How often it looks whether something is due. */
#define LOOK_PERIOD (100 * USEC_PER_MSEC)
/* After a failure, and between two readings however often the channel is notified. */
#define RETRY_PERIOD USEC_PER_SEC
/* How long those who wait are left waiting for a primary to be found. */
#define PRIMARY_PATIENCE (2 * USEC_PER_SEC)
/* After a query that was answered by an error. */
#define MENDING_PERIOD (5 * USEC_PER_SEC)
/* A question that takes longer has failed. */
#define QUESTION_MAX (60 * USEC_PER_SEC)

/* Logins and sessions that may wait, and names that are kept because nobody has them. */
#define ASKERS_MAX 10000
#define ABSENT_MAX 10000
/* Longer names are nobody's. */
#define SAID_MAX 1024
/* Added one by one until all are read again. */
#define SINGLES_MAX 4096
/* Rows that are not taken, one log line each. */
#define COMPLAINTS_MAX 20

/* A name or an id that is nobody's. */
struct absent {
	struct hlink link;
	usec_t until;
	char *said;
};

/* What has become of the rows of an answer. */
struct tally {
	uint64_t taken, in_file, refused;
	uint64_t complaints; /* a digest of what was refused and why */
};

enum errand { ERRAND_NONE, ERRAND_LISTEN, ERRAND_ALL, ERRAND_ONE };

struct tenant_source {
	struct net *net;
	const struct monitor *monitor;
	tenant_publish_fn *publish;
	void *arg;
	struct config *config; /* in force; a reference, or NULL */
	struct loop_timer look;
	struct server *server; /* or NULL */
	const struct node *node;
	const char *user;   /* as whom; the monitor's */
	enum errand errand; /* under way */
	usec_t asked_at;    /* or when the connection was begun */
	bool is_ready;      /* logged in */

	/* the answer under way */
	struct roster *coming; /* of ERRAND_ALL */
	struct roster_columns columns;
	struct err nonsense; /* .text empty: the columns are understood */
	struct tally tally;

	usec_t due;        /* for reading all */
	usec_t retry_at;   /* for connecting */
	usec_t begun_at;   /* when it was first without a connection */
	char failure[200]; /* "": all is well, as far as is known */
	struct lookup_crowd crowd;
	struct lookup_queue queue;
	struct hmap absent;

	usec_t read_at, took;
	struct tally told; /* of the last good answer to the whole query */
	uint64_t lookups;
};

static usec_t now_of(const struct tenant_source *ts)
{
	return loop_now(ts->net->loop);
}

static const char *database_of(const struct tenant_source *ts)
{
	const struct database_conf *database = config_tenant_database(ts->config);

	return database ? database->name : "";
}

/* ---- those who wait ---------------------------------------------------------------------------
 */

static void explain(const struct tenant_source *ts, const char *said, const char *why,
		    struct err *e)
{
	err_set(e, "57P03", "tenant \"%.100s\" is not known, and cannot be looked up now: %s", said,
		why);
	err_hint(e, "tenant_query is asked in database \"%.60s\"; try again.", database_of(ts));
}

/* Those for whom the lookup is that is under way. */
static void disappoint(struct tenant_source *ts, const char *why)
{
	struct err e;

	explain(ts, lookup_queue_name(&ts->queue), why, &e);
	lookup_queue_answer(&ts->queue, &e);
}

static void disappoint_all(struct tenant_source *ts, const char *why)
{
	while (lookup_queue_begin(&ts->queue))
		disappoint(ts, why);
}

/* ---- nobody's names -----------------------------------------------------------------------------
 */

static void drop_absent(struct tenant_source *ts, struct absent *a)
{
	hmap_remove(&ts->absent, &a->link);
	free(a->said);
	free(a);
}

static void forget_absent(struct tenant_source *ts)
{
	HMAP_FOREACH_SAFE (l, &ts->absent)
		drop_absent(ts, container_of(l, struct absent, link));
	hmap_fini(&ts->absent);
}

static bool is_absent(struct tenant_source *ts, struct slice said)
{
	struct hlink *l = hmap_first(&ts->absent, hash_bytes(said.p, said.n));

	for (; l; l = hmap_next(l)) {
		struct absent *a = container_of(l, struct absent, link);

		if (!slice_is_equal(slice_str(a->said), said))
			continue;
		if (now_of(ts) < a->until)
			return true;
		drop_absent(ts, a);
		return false;
	}
	return false;
}

static void note_absent(struct tenant_source *ts, const char *said)
{
	usec_t ttl = ts->config->global.tenant_unknown_ttl;
	struct absent *a;

	if (!ttl)
		return;
	if (ts->absent.count >= ABSENT_MAX)
		forget_absent(ts);
	a = xnew(struct absent);
	a->said = xstrdup(said);
	a->until = now_of(ts) + ttl;
	hmap_insert(&ts->absent, &a->link, hash_bytes(said, strlen(said)));
}

/* ---- failing ----------------------------------------------------------------------------------
 */

static void drop_connection(struct tenant_source *ts)
{
	struct server *s = ts->server;

	roster_unref(ts->coming);
	ts->coming = NULL;
	ts->server = NULL;
	ts->node = NULL;
	ts->is_ready = false;
	ts->errand = ERRAND_NONE;
	ts->begun_at = now_of(ts);
	lookup_queue_put_back(&ts->queue);
	if (s)
		server_drop(s);
}

/* Said once; who is known stays known. */
static void fail(struct tenant_source *ts, const char *why)
{
	bool is_news = !*ts->failure;

	snprintf(ts->failure, sizeof(ts->failure), "%s", why);
	if (is_news)
		event_say(EVENT_tenant_query, &(struct log_about){ .database = database_of(ts) },
			  "tenant_query: %s; the tenants known so far stay", ts->failure);
	disappoint_all(ts, ts->failure);
}

static void fail_connection(struct tenant_source *ts, const char *why)
{
	drop_connection(ts);
	ts->retry_at = now_of(ts) + RETRY_PERIOD;
	fail(ts, why);
}

static void recover(struct tenant_source *ts)
{
	if (*ts->failure)
		event_say(EVENT_tenant_query_up, &(struct log_about){ .database = database_of(ts) },
			  "tenant_query is answered again");
	*ts->failure = '\0';
}

/* ---- rows --------------------------------------------------------------------------------------
 */

static void on_columns(struct server *s PGT_UNUSED, void *arg, const struct slice *names,
		       unsigned n)
{
	struct tenant_source *ts = arg;

	if (roster_read_columns(&ts->columns, names, n, &ts->nonsense))
		ts->nonsense.text[0] = '\0';
}

static struct slice named_in(const struct tenant_source *ts, const struct slice *values)
{
	for (unsigned i = 0; i < ts->columns.n; i++)
		if (ts->columns.at[i].what == ROSTER_NAME)
			return values[i];
	return slice_of("", 0);
}

/* The same complaints as after the last reading are not repeated. */
static void complain(struct tenant_source *ts, struct slice name, const struct err *e)
{
	int n = (int)(name.n < 100 ? name.n : 100);

	ts->tally.refused++;
	ts->tally.complaints += hash_more(hash_bytes(name.p, name.n), e->text, strlen(e->text));
	if (ts->tally.refused <= COMPLAINTS_MAX)
		log_warning("tenant_query: tenant \"%.*s\" is passed over: %s", n,
			    name.p ? name.p : "", e->text);
}

static void take(struct tenant_source *ts, struct roster *roster, const struct slice *values,
		 unsigned n)
{
	struct err e;

	if (ts->nonsense.text[0] || n != ts->columns.n)
		return;
	switch (roster_take(roster, ts->config, &ts->columns, values, &e)) {
	case ROSTER_TAKEN:
	case ROSTER_KNOWN:
		ts->tally.taken++;
		break;
	case ROSTER_IN_FILE:
		ts->tally.in_file++;
		break;
	case ROSTER_REFUSED:
		complain(ts, named_in(ts, values), &e);
		break;
	}
}

/* ---- questions ----------------------------------------------------------------------------------
 */

static void go_on(struct tenant_source *ts);

static void ask(struct tenant_source *ts, enum errand errand)
{
	ts->errand = errand;
	ts->asked_at = now_of(ts);
	ts->tally = (struct tally){ 0 };
	err_set(&ts->nonsense, "42P10", "it gives no rows");
}

/* False: what came was no good, and why stands in *why. */
static bool is_good(const struct tenant_source *ts, const struct report *error, struct err *why)
{
	if (error)
		return err_set(why, "58000", "%.*s", SLICE_FMT(error->message));
	if (ts->nonsense.text[0])
		return err_set(why, "42P10", "%s", ts->nonsense.text);
	return true;
}

static void on_listening(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct tenant_source *ts = arg;

	ts->errand = ERRAND_NONE;
	if (error)
		log_warning("database \"%s\": LISTEN " CHANNEL ": %.*s", database_of(ts),
			    SLICE_FMT(error->message));
	go_on(ts);
}

static void listen_to_changes(struct tenant_source *ts)
{
	struct question q = { .done = on_listening, .arg = ts };

	ask(ts, ERRAND_LISTEN);
	server_ask(ts->server, "LISTEN " CHANNEL, &q);
}

static void on_tenant(struct server *s PGT_UNUSED, void *arg, const struct slice *values,
		      unsigned n)
{
	struct tenant_source *ts = arg;

	take(ts, ts->coming, values, n);
}

static void use_all(struct tenant_source *ts, struct roster *roster)
{
	if (ts->config->roster && roster_is_equal(ts->config->roster, roster))
		roster_unref(roster);
	else
		ts->publish(ts->arg, roster);
}

static void on_all(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct tenant_source *ts = arg;
	struct roster *roster = ts->coming;
	struct err why;

	ts->coming = NULL;
	ts->errand = ERRAND_NONE;
	if (!is_good(ts, error, &why)) {
		roster_unref(roster);
		ts->due = now_of(ts) + MENDING_PERIOD;
		fail(ts, why.text);
		return;
	}
	recover(ts);
	ts->took = now_of(ts) - ts->asked_at;
	ts->read_at = clock_wall();
	if (ts->tally.refused > COMPLAINTS_MAX)
		log_warning("tenant_query: %" PRIu64 " rows are passed over in all",
			    ts->tally.refused);
	ts->told = ts->tally;
	use_all(ts, roster);
	go_on(ts);
}

static void read_all(struct tenant_source *ts)
{
	struct question q = { on_columns, on_tenant, on_all, ts };
	usec_t period = ts->config->global.tenant_refresh, now = now_of(ts);
	struct buf sql = { 0 };

	ask(ts, ERRAND_ALL);
	ts->due = period ? now + (period > RETRY_PERIOD ? period : RETRY_PERIOD) : INT64_MAX;
	ts->coming = roster_new();
	buf_printf(&sql, "SELECT t.* FROM (\n%s\n) AS t", ts->config->global.tenant_query);
	server_ask(ts->server, buf_cstr(&sql), &q);
	buf_fini(&sql);
}

/* ---- one tenant ---------------------------------------------------------------------------------
 */

static void on_single(struct server *s PGT_UNUSED, void *arg, const struct slice *values,
		      unsigned n)
{
	struct tenant_source *ts = arg;

	take(ts, ts->config->roster, values, n);
}

/* A value that the server cannot even read (class 22) is nobody's. */
static void on_one(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct tenant_source *ts = arg;
	bool is_value = error && error->sqlstate.n == 5 && !memcmp(error->sqlstate.p, "22", 2);
	struct err why;

	ts->errand = ERRAND_NONE;
	if (!is_value && !is_good(ts, error, &why)) {
		disappoint(ts, why.text);
	} else {
		if (is_value || !ts->tally.taken)
			note_absent(ts, lookup_queue_name(&ts->queue));
		lookup_queue_answer(&ts->queue, NULL);
	}
	/* What contradicts what is known is newer. */
	if (ts->tally.refused || roster_singles(ts->config->roster) > SINGLES_MAX)
		ts->due = ts->asked_at + RETRY_PERIOD;
	go_on(ts);
}

static void look_up(struct tenant_source *ts, const char *said)
{
	struct question q = { on_columns, on_single, on_one, ts };
	struct buf sql = { 0 };

	ask(ts, ERRAND_ONE);
	ts->lookups++;
	buf_printf(&sql,
		   "SELECT t.* FROM (\n%s\n) AS t WHERE t.tenant::pg_catalog.text"
		   " OPERATOR(pg_catalog.=) $1 OR t.business_id::pg_catalog.text"
		   " OPERATOR(pg_catalog.=) $1",
		   ts->config->global.tenant_query);
	server_ask_bound(ts->server, buf_cstr(&sql), &said, 1, &q);
	buf_fini(&sql);
}

/* Whether it need not be asked for. */
static bool is_answered(struct tenant_source *ts, struct slice said)
{
	return !config_may_look_up(ts->config) || said.n > SAID_MAX ||
	       memchr(said.p, '\0', said.n) || config_tenant_by_name(ts->config, said) ||
	       config_tenant_by_business_id(ts->config, said) || is_absent(ts, said);
}

/* ---- what is next -------------------------------------------------------------------------------
 */

static void go_on(struct tenant_source *ts)
{
	if (!ts->is_ready || ts->errand)
		return;
	if (now_of(ts) >= ts->due) {
		read_all(ts);
		return;
	}
	while (!*ts->failure && ts->config->roster && lookup_queue_begin(&ts->queue)) {
		const char *said = lookup_queue_name(&ts->queue);

		if (!is_answered(ts, slice_str(said))) {
			look_up(ts, said);
			return;
		}
		lookup_queue_answer(&ts->queue, NULL);
	}
}

void tenant_source_find(struct tenant_source *ts, struct slice said, const struct lookup_asker *who)
{
	bool has_room = crowd_has_room(&ts->crowd.crowd, who->origin, ASKERS_MAX);
	const char *why = has_room ? ts->failure : "too many others wait";
	struct err e;
	char *text;

	if (is_answered(ts, said)) {
		who->answer(who->arg, NULL);
	} else if (*why) {
		text = xmemdup0(said.p, said.n);
		explain(ts, text, why, &e);
		free(text);
		who->answer(who->arg, &e);
	} else {
		lookup_queue_add(&ts->queue, said, who, now_of(ts));
		go_on(ts);
	}
}

void *tenant_source_withdraw(struct tenant_source *ts, uint64_t id)
{
	return lookup_crowd_withdraw(&ts->crowd, id);
}

/* ---- the connection -----------------------------------------------------------------------------
 */

static void on_ready(struct server *s)
{
	struct tenant_source *ts = s->owner;

	ts->is_ready = true;
	ts->due = 0;
	listen_to_changes(ts);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		fail_connection(s->owner, "the server says what nobody asked for");
}

/* Whoever notifies has changed something: nobody's name may be somebody's now. */
static void on_notified(struct server *s, struct slice body)
{
	struct tenant_source *ts = s->owner;
	struct reader r = reader_of(body);
	usec_t soon = ts->asked_at + RETRY_PERIOD;

	read_u32(&r);
	if (!slice_is_equal(read_cstr(&r), SLICE(CHANNEL)))
		return;
	forget_absent(ts);
	if (soon < ts->due)
		ts->due = soon;
	go_on(ts);
}

static void on_ended(struct server *s, const char *why)
{
	fail_connection(s->owner, why);
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events source_events = { .ready = on_ready,
						    .readable = on_readable,
						    .drained = on_nothing,
						    .ended = on_ended,
						    .notified = on_notified,
						    .cancel_over = on_nothing };

static void connect_to(struct tenant_source *ts, const struct node *node,
		       const struct server_target *target)
{
	ts->node = node;
	ts->user = target->user;
	ts->asked_at = now_of(ts);
	ts->server = server_new(NULL, ts->net, &source_events);
	ts->server->owner = ts;
	server_connect(ts->server, target);
}

static const char no_primary[] = "its primary cannot be reached";

static void look_for_primary(struct tenant_source *ts, usec_t now)
{
	struct server_target target;
	const struct node *node = monitor_primary(ts->monitor, database_of(ts), &target);

	if (node)
		connect_to(ts, node, &target);
	else if (now - ts->begun_at >= PRIMARY_PATIENCE)
		fail(ts, no_primary);
}

/* A demoted one would go on to answer. */
static bool has_moved(const struct tenant_source *ts, const char **why)
{
	struct server_target unused;
	const struct node *node = monitor_primary(ts->monitor, database_of(ts), &unused);

	*why = node ? "another node is the primary now" : no_primary;
	return node != ts->node;
}

static void on_look(struct loop_timer *timer)
{
	struct tenant_source *ts = container_of(timer, struct tenant_source, look);
	usec_t now = now_of(ts);
	const char *why;

	if (!ts->server) {
		if (now >= ts->retry_at)
			look_for_primary(ts, now);
	} else if (has_moved(ts, &why)) {
		fail_connection(ts, why);
	} else if (server_is_elsewhere(ts->server, ts->node->host)) {
		/* Nothing has failed: who waits is looked up there. */
		drop_connection(ts);
		look_for_primary(ts, now);
	} else if ((ts->errand || !ts->is_ready) && now - ts->asked_at >= QUESTION_MAX) {
		fail_connection(ts, "no answer");
	} else {
		go_on(ts);
	}
	net_flush(ts->net);
}

/* ---- beginning and end --------------------------------------------------------------------------
 */

struct tenant_source *tenant_source_new(struct net *net, const struct monitor *monitor,
					tenant_publish_fn *publish, void *arg)
{
	struct tenant_source *ts = xnew(struct tenant_source);

	ts->net = net;
	ts->monitor = monitor;
	ts->publish = publish;
	ts->arg = arg;
	lookup_queue_init(&ts->queue, &ts->crowd);
	return ts;
}

void tenant_source_stop(struct tenant_source *ts)
{
	drop_connection(ts);
	loop_timer_stop(ts->net->loop, &ts->look);
}

void tenant_source_adopt(struct tenant_source *ts, struct config *config)
{
	struct config *old = ts->config;

	ts->config = config_ref(config);
	config_unref(old);
}

void tenant_source_configure(struct tenant_source *ts, struct config *config)
{
	tenant_source_adopt(ts, config);
	forget_absent(ts);
	*ts->failure = '\0';
	ts->retry_at = 0;
	ts->begun_at = now_of(ts);
	if (config_may_look_up(config))
		loop_timer_start(ts->net->loop, &ts->look, 0, LOOK_PERIOD, on_look);
	else
		while (lookup_queue_begin(&ts->queue))
			lookup_queue_answer(&ts->queue, NULL);
}

void tenant_source_free(struct tenant_source *ts)
{
	tenant_source_stop(ts);
	disappoint_all(ts, "the pooler is shutting down");
	lookup_queue_fini(&ts->queue);
	lookup_crowd_fini(&ts->crowd);
	forget_absent(ts);
	config_unref(ts->config);
	free(ts);
}

/* ---- for SHOW ---------------------------------------------------------------------------------
 */

void tenant_source_tell(const struct tenant_source *ts, struct tenant_source_facts *facts)
{
	static const char *const states[] = { [ERRAND_NONE] = "idle",
					      [ERRAND_LISTEN] = "connects",
					      [ERRAND_ALL] = "reads all",
					      [ERRAND_ONE] = "looks one up" };

	*facts = (struct tenant_source_facts){ .state = !ts->server     ? "not connected"
							: !ts->is_ready ? "connects"
									: states[ts->errand],
					       .error = *ts->failure ? ts->failure : NULL,
					       .read_at = ts->read_at,
					       .took = ts->took,
					       .in_file = ts->told.in_file,
					       .refused = ts->told.refused,
					       .lookups = ts->lookups,
					       .unknown = ts->absent.count,
					       .waiting = ts->queue.nwaiting };
}

void tenant_source_visit(const struct tenant_source *ts, monitor_visit_fn *visit, void *arg)
{
	if (ts->is_ready)
		visit(arg, ts->server, database_of(ts), ts->user);
}
