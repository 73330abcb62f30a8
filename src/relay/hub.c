/* SPDX-License-Identifier: ISC
 *
 * hub.c - the one connection that listens for all clients of a group.
 *
 * It has a pool of its own, of one connection: it counts against the limits of the database, the
 * user and the tenant (I5), and not against pool_size, which is for what clients run.
 */
#include "relay/hub.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "route/nodes.h"
#include "server/backends.h"
#include "wire/frame.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdio.h>
#include <stdlib.h>

/* A round that takes longer has been lost with its connection. */
#define ROUND_PATIENCE (15 * USEC_PER_SEC)
/* An idle connection is asked for a sign of life this often. */
#define ROUND_INTERVAL (30 * USEC_PER_SEC)
/* Without listeners it is kept this long for the next one. */
#define KEEP_UNUSED (5 * USEC_PER_SEC)

static usec_t now_of(const struct hub *hub)
{
	return loop_now(hub->group->net->loop);
}

static struct hub *hub_of_server(const struct server *s)
{
	return container_of(s->pool, struct hub, pool);
}

struct hub *hub_of(struct group *group)
{
	struct hub *hub = group->hub;

	if (hub)
		return hub;
	hub = group->hub = xnew(struct hub);
	hub->group = group;
	pool_init(&hub->pool, group, 0);
	list_init(&hub->changed);
	list_init(&hub->waits);
	list_init(&hub->listeners);
	return hub;
}

void hub_free(struct hub *hub)
{
	if (!hub)
		return;
	PGT_ASSERT(!hub_is_used(hub) && !hub->channels.count);
	hmap_fini(&hub->channels);
	pool_fini(&hub->pool);
	hub->group->hub = NULL;
	free(hub);
}

bool hub_is_used(const struct hub *hub)
{
	return hub && (pool_size(&hub->pool) || !list_is_empty(&hub->listeners));
}

/* ---- channels -----------------------------------------------------------------------------------
 */

static struct hub_channel *find_channel(const struct hub *hub, struct slice name)
{
	for (struct hlink *l = hmap_first(&hub->channels, hash_bytes(name.p, name.n)); l;
	     l = hmap_next(l)) {
		struct hub_channel *ch = container_of(l, struct hub_channel, link);

		if (slice_is_equal(slice_str(ch->name), name))
			return ch;
	}
	return NULL;
}

static void mark_changed(struct hub_channel *ch)
{
	if (!list_is_linked(&ch->changed))
		list_push_back(&ch->hub->changed, &ch->changed);
}

static void channel_free(struct hub_channel *ch)
{
	hmap_remove(&ch->hub->channels, &ch->link);
	list_del(&ch->changed);
	free(ch);
}

struct hub_channel *hub_want(struct hub *hub, const char *name)
{
	size_t n = strlen(name);
	struct hub_channel *ch = find_channel(hub, slice_of(name, n));

	if (!ch) {
		ch = xcalloc(1, sizeof(*ch) + n + 1);
		ch->hub = hub;
		memcpy(ch->name, name, n);
		list_init(&ch->subscriptions);
		list_init(&ch->changed);
		hmap_insert(&hub->channels, &ch->link, hash_bytes(name, n));
	}
	ch->refs++;
	if (!ch->is_heard)
		mark_changed(ch);
	return ch;
}

void hub_let_go(struct hub_channel *ch)
{
	if (--ch->refs)
		return;
	if (ch->is_heard)
		mark_changed(ch); /* it is left with the next round, whoever asks for that */
	else
		channel_free(ch);
}

/* ---- rounds -------------------------------------------------------------------------------------
 */

static void put_command(struct buf *sql, const char *command, const char *channel)
{
	buf_printf(sql, "%s \"", command);
	for (const char *p = channel; *p; p++)
		buf_put(sql, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
	buf_printf(sql, "%s", "\"; ");
}

static void put_changes(struct hub *hub, struct buf *sql)
{
	LIST_FOREACH_SAFE (at, &hub->changed) {
		struct hub_channel *ch = container_of(at, struct hub_channel, changed);

		list_del(&ch->changed);
		if (ch->refs && !ch->is_heard)
			put_command(sql, "LISTEN", ch->name);
		else if (!ch->refs)
			put_command(sql, "UNLISTEN", ch->name);
		ch->is_heard = ch->refs > 0;
		if (!ch->refs)
			channel_free(ch);
	}
}

static void on_answered(struct server *s, void *arg, const struct report *error);

/* One at a time; who comes meanwhile shares the next one. */
static void begin_round(struct hub *hub)
{
	struct question q = { .done = on_answered };
	struct buf sql = { 0 };

	hub->round++;
	hub->asked_at = now_of(hub);
	put_changes(hub, &sql);
	server_ask(hub->server, buf_cstr(&sql), &q);
	buf_fini(&sql);
}

static bool may_begin(const struct hub *hub)
{
	return hub->is_ready && !hub->server->question.done;
}

void hub_wait(struct hub *hub, struct hub_wait *w)
{
	usec_t now = now_of(hub);

	PGT_ASSERT(w->state != WAIT_PENDING);
	w->state = WAIT_PENDING;
	w->round = hub->round + 1;
	w->since = now;
	list_push_back(&hub->waits, &w->link);
	if (may_begin(hub))
		begin_round(hub);
	else
		hub_open(hub, now);
}

void hub_wait_end(struct hub_wait *w)
{
	if (w->state == WAIT_PENDING)
		list_del(&w->link);
	w->state = WAIT_NONE;
}

static void finish_wait(struct hub_wait *w, int state)
{
	list_del(&w->link);
	w->state = state;
	w->over(w);
}

static void on_answered(struct server *s, void *arg PGT_UNUSED, const struct report *error)
{
	struct hub *hub = hub_of_server(s);
	char why[256];

	if (error) {
		/* Nothing of what was asked has happened: it is asked for on a new connection. */
		snprintf(why, sizeof(why), "%.*s", SLICE_FMT(error->message));
		hub->pool.retry_at = now_of(hub) + hub->group->set.server_login_retry;
		hub_lose(hub, why);
		return;
	}
	LIST_FOREACH_SAFE (at, &hub->waits) {
		struct hub_wait *w = container_of(at, struct hub_wait, link);

		if (w->round > hub->round)
			break;
		finish_wait(w, WAIT_DONE);
	}
	listen_on_heard(hub);
	if (!list_is_empty(&hub->waits))
		begin_round(hub);
}

/* ---- notifications ------------------------------------------------------------------------------
 */

void note_unref(struct note *note)
{
	if (!--note->refs)
		free(note);
}

static struct note *note_new(uint32_t pid, struct slice channel, struct slice payload)
{
	struct buf message = { 0 };
	size_t m = msg_begin(&message, MSG_NOTIFICATION);
	struct note *note;

	buf_put_u32(&message, pid);
	buf_put_slice(&message, channel);
	buf_put_u8(&message, 0);
	buf_put_slice(&message, payload);
	buf_put_u8(&message, 0);
	msg_end(&message, m);
	note = xcalloc(1, sizeof(*note) + buf_len(&message));
	note->refs = 1;
	note->is_ascii = slice_is_ascii(channel) && slice_is_ascii(payload);
	note->len = buf_len(&message);
	memcpy(note->message, buf_head(&message), note->len);
	buf_fini(&message);
	return note;
}

static void on_notified(struct server *s, struct slice body)
{
	struct hub *hub = hub_of_server(s);
	struct reader r = reader_of(body);
	uint32_t pid = read_u32(&r);
	struct slice name = read_cstr(&r), payload = read_cstr(&r);
	struct hub_channel *ch = r.failed ? NULL : find_channel(hub, name);
	struct note *note;

	if (!ch)
		return;
	note = note_new(backend_client(s->node, pid), name, payload);
	LIST_FOREACH (at, &ch->subscriptions)
		subscription_take(container_of(at, struct subscription, link), note);
	note_unref(note);
	listen_close_doomed(hub);
}

/* ---- the connection -----------------------------------------------------------------------------
 */

/* Before its slot is used it is one of the idle ones, which nobody else can take: the pool is ours.
 */
static void on_ready(struct server *s)
{
	struct hub *hub = hub_of_server(s);

	slot_become(&s->slot, SLOT_IDLE, now_of(hub));
	slot_become(&s->slot, SLOT_ACTIVE, now_of(hub));
	hub->pool.login_failed = false;
	hub->pool.retry_at = 0;
	hub->is_ready = true;
	log_info("S-%llu: %s/%s: listens for clients", (unsigned long long)s->id, hub->group->name,
		 hub->group->user);
	if (!list_is_empty(&hub->waits) || !list_is_empty(&hub->changed))
		begin_round(hub);
}

static void fail_waits(struct hub *hub, bool all)
{
	LIST_FOREACH_SAFE (at, &hub->waits) {
		struct hub_wait *w = container_of(at, struct hub_wait, link);

		if (all)
			finish_wait(w, WAIT_FAILED);
		else if (!w->outlives_loss)
			finish_wait(w, WAIT_DONE);
	}
}

static void drop_connection(struct hub *hub)
{
	struct server *s = hub->server;

	hub->server = NULL;
	hub->is_ready = false;
	if (s)
		server_drop(s);
	HMAP_FOREACH_SAFE (l, &hub->channels) {
		struct hub_channel *ch = container_of(l, struct hub_channel, link);

		ch->is_heard = false;
		if (ch->refs)
			mark_changed(ch);
		else
			channel_free(ch);
	}
	/* What waits is answered by the first round of the next connection. */
	LIST_FOREACH (at, &hub->waits)
		container_of(at, struct hub_wait, link)->round = hub->round + 1;
}

static void on_login_failed(struct hub *hub, struct server *s, const char *why)
{
	drop_connection(hub);
	if (!why) { /* it has told what the next one must ask for */
		hub_open(hub, now_of(hub));
		return;
	}
	log_warning("S-%llu: %s/%s: cannot listen: %s", (unsigned long long)s->id, hub->group->name,
		    hub->group->user, why);
	supply_note_failure(s, why);
	if (hub->pool.login_failed)
		fail_waits(hub, true);
}

void hub_lose(struct hub *hub, const char *why)
{
	if (!hub->server)
		return;
	log_warning("S-%llu: %s/%s: the connection that listens is lost: %s",
		    (unsigned long long)hub->server->id, hub->group->name, hub->group->user, why);
	drop_connection(hub);
	fail_waits(hub, false);
	listen_on_loss(hub);
	if (!list_is_empty(&hub->changed) || !list_is_empty(&hub->waits))
		hub_open(hub, now_of(hub));
}

void hub_end(struct hub *hub)
{
	if (hub->server)
		drop_connection(hub);
}

static void on_ended(struct server *s, const char *why)
{
	struct hub *hub = hub_of_server(s);

	hub->server = s;
	if (s->slot.state == SLOT_LOGIN)
		on_login_failed(hub, s, why);
	else
		hub_lose(hub, why);
}

static void on_readable(struct server *s)
{
	if (!server_on_idle_bytes(s))
		hub_lose(hub_of_server(s), "it said goodbye, or something that makes no sense");
}

static void on_nothing(struct server *s PGT_UNUSED)
{
}

static const struct server_events hub_server_events = { .ready = on_ready,
							.readable = on_readable,
							.drained = on_nothing,
							.ended = on_ended,
							.notified = on_notified,
							.cancel_over = on_nothing };

void hub_open(struct hub *hub, usec_t now)
{
	int primary = node_set_primary(hub->group->nodes);

	if (hub->server || hub->group->gone || primary < 0 || now < hub->pool.retry_at ||
	    hub->group->database_shared->paused)
		return;
	/* What it has waited for is a login to another server. */
	if (hub->pool.node != (unsigned)primary)
		hub->pool.awaits_login = false;
	hub->pool.node = (unsigned)primary;
	supply_open(&hub->pool, NULL, &hub_server_events, &hub->server, now);
}

/* ---- the sweep ----------------------------------------------------------------------------------
 */

static bool is_wanted(const struct hub *hub)
{
	return !list_is_empty(&hub->waits) || !list_is_empty(&hub->listeners);
}

static void sweep_connection(struct hub *hub, usec_t now)
{
	int primary = node_set_primary(hub->group->nodes);
	usec_t age = now - hub->asked_at;

	if (primary >= 0 && hub->pool.node != (unsigned)primary)
		hub_lose(hub, "another node is the primary now");
	else if (hub->server->slot.generation != hub->pool.generation)
		hub_lose(hub, "the primary's name is another address now");
	else if (hub->server->question.done && age >= ROUND_PATIENCE)
		hub_lose(hub, "it does not answer");
	else if (may_begin(hub) && (age >= ROUND_INTERVAL || !list_is_empty(&hub->changed)))
		begin_round(hub);
}

void hub_sweep(struct hub *hub, usec_t now)
{
	if (is_wanted(hub))
		hub->unused_since = 0;
	else if (!hub->unused_since)
		hub->unused_since = now;
	if (hub->is_ready)
		sweep_connection(hub, now);
	if (is_wanted(hub))
		hub_open(hub, now);
	else if (hub->server && (now - hub->unused_since >= KEEP_UNUSED || hub->group->gone))
		drop_connection(hub);
}
