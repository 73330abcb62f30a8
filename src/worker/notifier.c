/* SPDX-License-Identifier: ISC
 *
 * notifier.c - events as notifications, one after the other.
 *
 * Knows what a notification looks like and when the next one may go, not what makes events.
 */
#include "worker/notifier.h"

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "route/nodes.h"
#include "server/server.h"
#include "stats/event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* How often it looks whether there is something to tell. */
#define LOOK_PERIOD  (100 * USEC_PER_MSEC)
#define RETRY_PERIOD (5 * USEC_PER_SEC)
/* A server that takes longer has other worries. */
#define ANSWER_MAX (10 * USEC_PER_SEC)
/* Of a name that stands in a notification, so that it never gets too long for one (8000 bytes,
 * where a byte may take six). */
#define NAME_MAX_BYTES 200

struct notifier {
	struct net *net;
	const struct monitor *monitor;
	struct config *config; /* in force; a reference, or NULL */
	struct loop_timer look;
	bool is_on;            /* .look runs */
	struct server *server; /* or NULL */
	const struct node *node;
	const char *user; /* as whom; the monitor's */
	bool is_ready;    /* logged in */
	usec_t asked_at;  /* the connection or the question under way; 0: none */
	usec_t retry_at;
	uint64_t told;     /* the last event that was … */
	uint64_t telling;  /* … and the one that is under way */
	bool has_failed;   /* and that was said */
	char host[64];     /* ours */
	struct buf notice; /* made for the next question */
};

static usec_t now_of(const struct notifier *n)
{
	return loop_now(n->net->loop);
}

static const char *database_of(const struct notifier *n)
{
	return n->config->global.events_notify_database;
}

/* ---- one notification -------------------------------------------------------------------------
 */

static void put_text(struct buf *out, const char *name, const char *text)
{
	char room[NAME_MAX_BYTES];

	if (!*text)
		return;
	snprintf(room, sizeof(room), "%s", text);
	buf_printf(out, ",\"%s\":", name);
	json_put_ascii_string(out, room);
}

static void put_time(struct buf *out, usec_t at)
{
	time_t seconds = (time_t)(at / USEC_PER_SEC);
	struct tm tm;
	char stamp[32];

	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	buf_printf(out, "\"time\":\"%s.%06dZ\"", stamp, (int)(at % USEC_PER_SEC));
}

static void on_event(const struct event *e, void *arg)
{
	struct notifier *n = arg;
	struct buf *out = &n->notice;

	buf_clear(out);
	buf_printf(out, "{\"number\":%" PRIu64 ",", e->number);
	put_time(out, e->first);
	put_text(out, "level", log_level_name(event_specs[e->kind].level));
	put_text(out, "kind", event_specs[e->kind].name);
	put_text(out, "database", e->database);
	put_text(out, "tenant", e->tenant);
	put_text(out, "node", e->node);
	buf_printf(out, ",\"event\":");
	json_put_ascii_string(out, e->text);
	put_text(out, "host", n->host);
	buf_printf(out, ",\"pid\":%d", (int)getpid());
	if (e->number > n->told + 1)
		buf_printf(out, ",\"missed\":%" PRIu64, e->number - n->told - 1);
	buf_put_u8(out, '}');
	n->telling = e->number;
}

/* ---- the connection -----------------------------------------------------------------------------
 */

static void drop_connection(struct notifier *n)
{
	struct server *s = n->server;

	n->server = NULL;
	n->node = NULL;
	n->is_ready = false;
	n->asked_at = 0;
	if (s)
		server_drop(s);
}

/* Said once; the event under way, if there is one, is told again. */
static void fail(struct notifier *n, const char *why)
{
	drop_connection(n);
	n->retry_at = now_of(n) + RETRY_PERIOD;
	if (!n->has_failed)
		log_warning("events are not notified in database \"%s\" now: %s", database_of(n),
			    why);
	n->has_failed = true;
}

static void tell_next(struct notifier *n);

/* What the server does not take is not told again: the next one may be to its liking. */
static void on_told(struct server *s PGT_UNUSED, void *arg, const struct report *error)
{
	struct notifier *n = arg;

	n->asked_at = 0;
	n->told = n->telling;
	if (error)
		log_warning("event %" PRIu64 " cannot be notified in database \"%s\": %.*s",
			    n->told, database_of(n), SLICE_FMT(error->message));
	else if (n->has_failed)
		log_info("events are notified in database \"%s\" again", database_of(n));
	n->has_failed = error != NULL;
	tell_next(n);
}

static void tell_next(struct notifier *n)
{
	struct question q = { .done = on_told, .arg = n };
	const char *values[2];

	if (!n->is_ready || n->asked_at || !events_next(n->told, on_event, n))
		return;
	values[0] = n->config->global.events_channel;
	values[1] = buf_cstr(&n->notice);
	n->asked_at = now_of(n);
	server_ask_bound(n->server, "SELECT pg_catalog.pg_notify($1, $2)", values, 2, &q);
}

static void on_ready(struct server *s)
{
	struct notifier *n = s->owner;

	n->is_ready = true;
	n->asked_at = 0;
	tell_next(n);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		fail(s->owner, "the server says what nobody asked for");
}

static void on_ended(struct server *s, const char *why)
{
	fail(s->owner, why);
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events notifier_events = { .ready = on_ready,
						      .readable = on_readable,
						      .drained = on_nothing,
						      .ended = on_ended,
						      .cancel_over = on_nothing };

/* Without a primary events wait; the failover is one of them. */
static void connect_to_primary(struct notifier *n)
{
	struct server_target target;
	const struct node *node = monitor_primary(n->monitor, database_of(n), &target);

	if (!node)
		return;
	n->node = node;
	n->user = target.user;
	n->asked_at = now_of(n);
	n->server = server_new(NULL, n->net, &notifier_events);
	n->server->owner = n;
	server_connect(n->server, &target);
}

static bool has_moved(const struct notifier *n)
{
	struct server_target unused;
	const struct node *node = monitor_primary(n->monitor, database_of(n), &unused);

	return node != n->node || server_is_elsewhere(n->server, node->host);
}

static void on_look(struct loop_timer *timer)
{
	struct notifier *n = container_of(timer, struct notifier, look);
	usec_t now = now_of(n);

	if (!n->server) {
		if (now >= n->retry_at)
			connect_to_primary(n);
	} else if (has_moved(n)) {
		fail(n, "its server is not the primary any more");
		n->retry_at = now;
	} else if (n->asked_at && now - n->asked_at >= ANSWER_MAX) {
		fail(n, "no answer");
	} else {
		tell_next(n);
	}
	net_flush(n->net);
}

/* ---- beginning and end --------------------------------------------------------------------------
 */

struct notifier *notifier_new(struct net *net, const struct monitor *monitor)
{
	struct notifier *n = xnew(struct notifier);

	n->net = net;
	n->monitor = monitor;
	gethostname(n->host, sizeof(n->host) - 1);
	return n;
}

void notifier_stop(struct notifier *n)
{
	drop_connection(n);
	if (n->is_on)
		loop_timer_stop(n->net->loop, &n->look);
}

void notifier_configure(struct notifier *n, struct config *config)
{
	bool was_on = n->is_on;

	config_ref(config);
	config_unref(n->config);
	n->config = config;
	n->retry_at = 0;
	n->has_failed = false;
	n->is_on = *database_of(n) != '\0';
	if (!n->is_on)
		return;
	if (!was_on)
		n->told = events_last();
	loop_timer_start(n->net->loop, &n->look, 0, LOOK_PERIOD, on_look);
}

void notifier_free(struct notifier *n)
{
	notifier_stop(n);
	config_unref(n->config);
	buf_fini(&n->notice);
	free(n);
}

void notifier_visit(const struct notifier *n, monitor_visit_fn *visit, void *arg)
{
	if (n->is_ready)
		visit(arg, n->server, database_of(n), n->user);
}
