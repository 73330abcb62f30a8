/* SPDX-License-Identifier: ISC
 *
 * listen.c - LISTEN and UNLISTEN of clients in transaction mode.
 *
 * Knows what each client listens on, what its transaction would change in that, and when it may be
 * told.  The server takes part inside of transactions only: there it runs an UNLISTEN in place of
 * the LISTEN, which does nothing and fails where the LISTEN would, and its answers tell what became
 * of it.  The connection that really listens is the hub's.
 *
 * Source: PostgreSQL manual, LISTEN, NOTIFY, UNLISTEN, and "Asynchronous Operations".
 */
#include "relay/listen.h"

#include "base/log.h"
#include "base/mem.h"
#include "relay/channels.h"
#include "relay/parts.h"
#include "relay/pins.h"
#include "relay/statement.h"
#include "server/backends.h"
#include "sql/control.h"
#include "wire/read.h"
#include "wire/write.h"

#include <stdlib.h>

/* Savepoints and commands of one text that are followed, and of one transaction. */
#define CONTROLS_MAX 64
/* Portals of them that are open at a time. */
#define PORTALS_MAX 256
#define JOURNAL_MAX 10000

/* What one message will do when it is run: its commands that concern savepoints and channels. */
struct controls {
	struct list link; /* of listening.sent */
	unsigned n;
	unsigned next;      /* of items: the first one that has not been run */
	unsigned statement; /* that the next tag belongs to */
	struct sql_control items[];
};

struct portal {
	struct list link;  /* of listening.portals */
	bool is_two_phase; /* else … */
	struct sql_control control;
	char name[];
};

/* ---- who listens ----------------------------------------------------------------------------
 */

static void wake_request(struct hub_wait *w)
{
	struct listening *l = container_of(w, struct listening, request);

	LIST_FOREACH (at, &l->subscriptions) {
		struct subscription *sub = container_of(at, struct subscription, own);

		if (w->state == WAIT_DONE && sub->state == SUBSCRIPTION_ASKED)
			sub->state = SUBSCRIPTION_TENTATIVE;
	}
	relay_go_on(l->client);
	if (l->client->begin_due)
		local_hurry(l->client);
}

static void wake_answer(struct hub_wait *w)
{
	struct client *c = container_of(w, struct listening, answer)->client;

	if (!c->server)
		return;
	conn_resume(&c->server->conn);
	conn_kick(&c->server->conn);
}

static struct listening *listening_of(struct client *c)
{
	struct listening *l = c->rare->listening;

	if (l)
		return l;
	l = client_make_rare(c)->listening = xnew(struct listening);
	l->client = c;
	l->hub = hub_of(c->group);
	l->request.over = wake_request;
	l->answer.over = wake_answer;
	list_init(&l->subscriptions);
	list_init(&l->queue);
	journal_init(&l->journal);
	list_init(&l->sent);
	list_init(&l->portals);
	list_push_back(&l->hub->listeners, &l->link);
	return l;
}

static void listening_free(struct listening *l)
{
	client_make_rare(l->client)->listening = NULL;
	list_del(&l->link);
	free(l);
}

/* From now on it is a client like any other. */
static void free_if_unused(struct listening *l)
{
	if (list_is_empty(&l->subscriptions) && !l->journal.n && list_is_empty(&l->sent) &&
	    list_is_empty(&l->portals) && list_is_empty(&l->queue) &&
	    l->request.state == WAIT_NONE && l->answer.state == WAIT_NONE && !l->is_lost)
		listening_free(l);
}

/* In session mode, or when its own server listens already, everything stays there. */
static bool may_be_virtual(const struct client *c)
{
	return c->group->set.pool_mode != POOL_MODE_SESSION && !(c->pins & PIN_BIT(PIN_LISTEN));
}

/* ---- the end of a transaction -------------------------------------------------------------------
 */

static void commit(struct listening *l)
{
	LIST_FOREACH (at, &l->journal.entries)
		subscription_apply(l, journal_at(at));
	subscription_end_left(l);
	journal_clear(&l->journal);
	subscription_end_tentative(l);
	l->failed = false;
}

static void roll_back(struct listening *l)
{
	journal_clear(&l->journal);
	subscription_end_tentative(l);
	l->failed = false;
}

/* ---- waiting for the hub ------------------------------------------------------------------------
 */

/* Its request has not begun to wait for this. */
static bool is_fresh(const struct listening *l, enum listen_purpose purpose)
{
	return l->request.state == WAIT_NONE || l->purpose != purpose;
}

/* LISTEN_PASSES: a round that began after this was first asked for is over. */
static enum listen_way await(struct listening *l, enum listen_purpose purpose, struct err *e)
{
	if (is_fresh(l, purpose)) {
		hub_wait_end(&l->request);
		l->purpose = purpose;
		l->request.outlives_loss = purpose != LISTEN_FOR_SERVER;
		hub_wait(l->hub, &l->request);
	}
	if (l->request.state == WAIT_PENDING)
		return LISTEN_WAITS;
	if (l->request.state == WAIT_DONE) {
		l->request.state = WAIT_NONE;
		return LISTEN_PASSES;
	}
	l->request.state = WAIT_NONE;
	subscription_end_tentative(l);
	*e = l->hub->pool.error;
	err_hint(e,
		 "The connection that listens for clients of transaction pooling cannot be made.");
	return LISTEN_REFUSED;
}

bool listen_is_waiting(const struct client *c)
{
	return c->rare->listening && c->rare->listening->request.state == WAIT_PENDING;
}

usec_t listen_waits_since(const struct client *c)
{
	return c->rare->listening->request.since;
}

void listen_stop_waiting(struct client *c)
{
	hub_wait_end(&c->rare->listening->request);
	if (!c->rare->listening->journal.n && list_is_empty(&c->rare->listening->sent))
		subscription_end_tentative(c->rare->listening);
	free_if_unused(c->rare->listening);
}

enum step listen_take_server(struct client *c)
{
	struct server *s = c->server;
	struct hub *hub = c->group->hub;
	struct err e;

	if (backend_holder(s->backend) == c->pid)
		return STEP_DONE;
	/* What its last client has sent must not be taken for this one's. */
	if (hub && hub->is_ready && hub->channels.count &&
	    await(listening_of(c), LISTEN_FOR_SERVER, &e) == LISTEN_WAITS)
		return STEP_AGAIN;
	s->has_notified = false;
	backend_hold(s->backend, c->pid);
	return STEP_DONE;
}

/* ---- LISTEN and UNLISTEN ------------------------------------------------------------------------
 */

/* Whether it would be more than one client may have. */
static bool is_full(const struct listening *l, struct err *e)
{
	const struct settings *set = &l->client->group->set;

	if (l->nsubscriptions + l->journal.n < set->max_listen_channels)
		return false;
	err_set(e, "54000", "too many channels to listen on (max_listen_channels = %u)",
		set->max_listen_channels);
	err_hint(e, "UNLISTEN what is not needed any more.");
	return true;
}

static bool journal_is_full(const struct listening *l, struct err *e)
{
	if (l->journal.n < JOURNAL_MAX)
		return false;
	err_set(e, "54000", "too many savepoints and changes of channels in one transaction");
	return true;
}

static bool has_too_many_portals(const struct listening *l, struct err *e)
{
	unsigned n = 0;

	LIST_FOREACH (at, &l->portals)
		n++;
	if (n < PORTALS_MAX)
		return false;
	err_set(e, "54000", "too many open portals of savepoints and channels in one transaction");
	return true;
}

static bool is_in_block(const struct client *c)
{
	return c->in_batch || is_in_transaction(c);
}

/* For the server in place of a LISTEN: what it is told does nothing, since it listens on nothing,
 * and fails where a LISTEN would. */
static void put_substitute(const struct sql_control *control, struct buf *out)
{
	buf_printf(out, "%s", "UNLISTEN \"");
	for (const char *p = control->name; *p; p++)
		buf_put(out, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
	buf_printf(out, "%s", "\" /* LISTEN */");
}

/* The one command of the text, if it is LISTEN or UNLISTEN and known in full. */
static bool read_command(struct client *c, struct slice text, const struct sql_facts *facts,
			 struct sql_control *control)
{
	struct sql_env env = gate_env(c);
	unsigned n;

	if (facts->statements != 1 ||
	    (facts->kind != SQL_KIND_LISTEN && facts->kind != SQL_KIND_UNLISTEN))
		return false;
	return sql_controls(text, &env, control, 1, &n) && n == 1;
}

/* The hub must be there to tell whether it will do for this client.  The connection that has been
 * waited for may be gone again in the turn that it came in: then the next one is waited for. */
static enum listen_way make_hub_ready(struct listening *l, struct err *e)
{
	enum listen_way way = LISTEN_PASSES;

	while (!l->hub->is_ready && way == LISTEN_PASSES)
		way = await(l, LISTEN_FOR_HUB, e);
	return way;
}

static enum listen_way answer_here(struct listening *l, const struct sql_control *control,
				   struct err *e)
{
	struct client *c = l->client;
	bool listens = control->kind == CONTROL_LISTEN;
	enum listen_way way;

	if (listens && is_fresh(l, LISTEN_FOR_COMMAND) && !subscription_find(l, control->name)) {
		if (is_full(l, e))
			return LISTEN_REFUSED;
		subscription_add(l, control->name);
	}
	/* UNLISTEN ends with what was sent before it, too. */
	way = listens || l->hub->is_ready ? await(l, LISTEN_FOR_COMMAND, e) : LISTEN_PASSES;
	if (way != LISTEN_PASSES)
		return way;
	listen_flush(c);
	subscription_apply(l, control);
	subscription_end_left(l);
	statement_drop_unnamed(c);
	msg_put_command_complete(conn_output(&c->conn), listens ? "LISTEN" : "UNLISTEN");
	listen_flush(c);
	local_ready(c);
	free_if_unused(l);
	return LISTEN_ANSWERED;
}

static enum listen_way command(struct client *c, const struct sql_control *control,
			       struct sql_facts *facts, struct buf *rewritten, struct err *e)
{
	bool listens = control->kind == CONTROL_LISTEN;
	struct listening *l = listening_of(c);
	enum listen_way way;

	/* In the middle of a pipeline it is not known yet whether there is a transaction. */
	if (c->server && c->server->replies.n && !c->in_batch) {
		c->turn_missed = true;
		return LISTEN_WAITS;
	}
	if (listens) {
		way = make_hub_ready(l, e);
		if (way != LISTEN_PASSES || !subscription_speaks_alike(c, l->hub))
			return way; /* one that spells otherwise has its own server listen */
	}
	if (!is_in_block(c))
		return answer_here(l, control, e);
	if (listens && (is_full(l, e) || journal_is_full(l, e)))
		return LISTEN_REFUSED;
	if (listens) {
		put_substitute(control, rewritten);
		facts->effects &= ~(uint32_t)SQL_EFFECT_LISTEN;
	}
	return LISTEN_PASSES;
}

/* ---- what may commit ----------------------------------------------------------------------------
 */

static void ask_for(struct listening *l, const struct sql_control *control)
{
	struct subscription *sub;

	if (control->kind != CONTROL_LISTEN)
		return;
	sub = subscription_find(l, control->name);
	if (!sub) {
		subscription_add(l, control->name);
		l->is_armed = false;
	} else if (sub->state == SUBSCRIPTION_TENTATIVE && !l->is_armed) {
		/* What has come since an earlier try was sent before this commit. */
		subscription_drop_parcels(sub);
		sub->state = SUBSCRIPTION_ASKED;
	}
}

static bool has_sent_listen(const struct listening *l)
{
	LIST_FOREACH (at, &l->sent) {
		const struct controls *controls = container_of(at, struct controls, link);

		for (unsigned i = controls->next; i < controls->n; i++)
			if (controls->items[i].kind == CONTROL_LISTEN)
				return true;
	}
	return false;
}

/* What the transaction wants to listen on is heard from here on, before the server gets to know of
 * its end: nothing that is sent after the commit is missed, nothing from before is told. */
static enum listen_way arm(struct listening *l, struct err *e)
{
	enum listen_way way;

	if (is_fresh(l, LISTEN_FOR_COMMIT)) {
		if (!journal_has(&l->journal, CONTROL_LISTEN) && !has_sent_listen(l))
			return LISTEN_PASSES;
		LIST_FOREACH (at, &l->journal.entries)
			ask_for(l, journal_at(at));
		LIST_FOREACH (at, &l->sent) {
			struct controls *controls = container_of(at, struct controls, link);

			for (unsigned i = controls->next; i < controls->n; i++)
				ask_for(l, &controls->items[i]);
		}
		if (l->is_armed)
			return LISTEN_PASSES;
	}
	way = await(l, LISTEN_FOR_COMMIT, e);
	l->is_armed = way == LISTEN_PASSES;
	return way;
}

static bool may_commit(const struct sql_facts *facts)
{
	if (!(facts->effects & SQL_EFFECT_TRANSACTION_CONTROL))
		return false;
	return facts->statements != 1 ||
	       (facts->kind != SQL_KIND_SAVEPOINT && facts->kind != SQL_KIND_RELEASE &&
		facts->kind != SQL_KIND_ROLLBACK_TO && facts->kind != SQL_KIND_ROLLBACK);
}

/* A PREPARE TRANSACTION, or another one for which it is too early, behind a LISTEN that the server
 * has not seen. */
static bool is_two_phase(const struct listening *l, enum sql_kind kind)
{
	return kind == SQL_KIND_TWO_PHASE && l->journal.n && l->client->server->tx == 'T';
}

/* In front of it.  The server refuses it too then, and ends the transaction with that as nothing
 * else does. */
#define OWN_NOTIFY "NOTIFY pgturnstile"

/* ---- requests -----------------------------------------------------------------------------------
 */

static enum listen_way look_at_query(struct client *c, struct slice text, struct sql_facts *facts,
				     struct buf *rewritten, struct err *e)
{
	struct listening *l = c->rare->listening;
	struct sql_control control;

	if (!(facts->flags & SQL_UNCLEAN) && may_be_virtual(c) &&
	    read_command(c, text, facts, &control))
		return command(c, &control, facts, rewritten, e);
	if (!l)
		return LISTEN_PASSES;
	if (journal_is_full(l, e))
		return LISTEN_REFUSED;
	if (is_two_phase(l, facts->kind))
		statement_ask_unseen(c, OWN_NOTIFY);
	if (channels_are_asked(c, text) && !buf_len(rewritten))
		channels_rewrite(c, text, rewritten);
	return may_commit(facts) ? arm(l, e) : LISTEN_PASSES;
}

enum listen_way listen_query(struct client *c, struct slice text, struct sql_facts *facts,
			     struct buf *rewritten, struct err *e)
{
	enum listen_way way = look_at_query(c, text, facts, rewritten, e);

	if (way == LISTEN_REFUSED)
		free_if_unused(c->rare->listening);
	return way;
}

/* The answers to what was sent last tell what becomes of these. */
static void expect_controls(struct client *c, const struct sql_control *items, unsigned n)
{
	struct replies *q = &c->server->replies;
	struct controls *controls = xcalloc(1, sizeof(*controls) + n * sizeof(*items));

	controls->n = n;
	memcpy(controls->items, items, n * sizeof(*items));
	list_push_back(&c->rare->listening->sent, &controls->link);
	replies_at(q, q->n - 1)->has_controls = true;
}

static struct controls *first_sent(struct listening *l)
{
	return container_of(l->sent.next, struct controls, link);
}

void listen_on_answered(struct client *c)
{
	struct controls *controls = first_sent(c->rare->listening);

	list_del(&controls->link);
	free(controls);
}

/* A LISTEN that has been replaced has lost its effect. */
static bool is_replaced(enum sql_kind kind, uint32_t effects)
{
	return kind == SQL_KIND_LISTEN && !(effects & SQL_EFFECT_LISTEN);
}

void listen_on_query_sent(struct client *c, struct slice text, const struct sql_facts *facts)
{
	struct sql_control items[CONTROLS_MAX];
	struct sql_env env = gate_env(c);
	unsigned n, kept = 0;

	if (!sql_controls(text, &env, items, CONTROLS_MAX, &n))
		return;
	for (unsigned i = 0; i < n; i++)
		/* What has not been replaced is its own server's. */
		if (items[i].kind != CONTROL_LISTEN || is_replaced(facts->kind, facts->effects))
			items[kept++] = items[i];
	if (kept)
		expect_controls(c, items, kept);
}

enum listen_way listen_parse(struct client *c, struct slice text, struct sql_facts *facts,
			     struct buf *rewritten, struct err *e)
{
	struct sql_control control;
	struct listening *l;
	enum listen_way way;

	if (facts->kind != SQL_KIND_LISTEN || (facts->flags & SQL_UNCLEAN) || !may_be_virtual(c) ||
	    !read_command(c, text, facts, &control))
		return LISTEN_PASSES;
	l = listening_of(c);
	way = make_hub_ready(l, e);
	if (way != LISTEN_PASSES || !subscription_speaks_alike(c, l->hub))
		return way;
	put_substitute(&control, rewritten);
	facts->effects &= ~(uint32_t)SQL_EFFECT_LISTEN;
	return LISTEN_PASSES;
}

static bool is_replacement(const struct statement *st)
{
	return st && is_replaced(st->kind, st->effects);
}

bool listen_minds_bind(const struct client *c, const struct statement *st)
{
	return c->rare->listening || is_replacement(st);
}

enum listen_way listen_bind(struct client *c, const struct statement *st, struct err *e)
{
	struct listening *l = listening_of(c);
	struct sql_facts facts;

	if (journal_is_full(l, e) || has_too_many_portals(l, e) ||
	    (is_replacement(st) && is_full(l, e)))
		return LISTEN_REFUSED;
	if (!st)
		return LISTEN_PASSES;
	statement_facts(st, &facts);
	return may_commit(&facts) ? arm(l, e) : LISTEN_PASSES;
}

static struct portal *find_portal(const struct listening *l, struct slice name)
{
	LIST_FOREACH (at, &l->portals) {
		struct portal *p = container_of(at, struct portal, link);

		if (slice_is_equal(slice_str(p->name), name))
			return p;
	}
	return NULL;
}

static void portal_free(struct portal *p)
{
	list_del(&p->link);
	free(p);
}

void listen_on_bind_sent(struct client *c, struct slice portal, const struct statement *st)
{
	struct listening *l = c->rare->listening;
	struct portal *p = find_portal(l, portal);
	struct sql_env env = gate_env(c);
	struct sql_control control = { .statement = 0 };
	bool is_two_phase = st && st->kind == SQL_KIND_TWO_PHASE;
	unsigned n;

	if (p)
		portal_free(p);
	if (!st ||
	    (!is_two_phase && (!sql_controls(statement_text(st), &env, &control, 1, &n) || n != 1)))
		return;
	if (!is_two_phase && control.kind == CONTROL_LISTEN)
		return; /* its own server's */
	if (is_replacement(st))
		control.kind = CONTROL_LISTEN;
	p = xcalloc(1, sizeof(*p) + portal.n + 1);
	p->is_two_phase = is_two_phase;
	p->control = control;
	memcpy(p->name, portal.p, portal.n);
	list_push_back(&l->portals, &p->link);
}

void listen_on_close_sent(struct client *c, struct slice portal)
{
	struct portal *p = find_portal(c->rare->listening, portal);

	if (p)
		portal_free(p);
}

void listen_before_execute(struct client *c, struct slice portal)
{
	const struct portal *p = find_portal(c->rare->listening, portal);

	if (p && p->is_two_phase && is_two_phase(c->rare->listening, SQL_KIND_TWO_PHASE))
		statement_run_apart(c->server, OWN_NOTIFY);
}

void listen_on_execute_sent(struct client *c, struct slice portal)
{
	struct portal *p = find_portal(c->rare->listening, portal);

	if (p && !p->is_two_phase)
		expect_controls(c, &p->control, 1);
}

enum listen_way listen_sync(struct client *c)
{
	struct err e;
	enum listen_way way = arm(c->rare->listening, &e);

	/* The batch has been run but for its end, which cannot be refused any more: the answer
	 * waits until the hub listens. */
	return way == LISTEN_REFUSED ? LISTEN_PASSES : way;
}

/* ---- answers ------------------------------------------------------------------------------------
 */

static const struct sql_control *control_of_tag(struct controls *controls)
{
	unsigned statement = controls->statement++;

	if (controls->next < controls->n && controls->items[controls->next].statement == statement)
		return &controls->items[controls->next++];
	return NULL;
}

const char *listen_on_tag(struct client *c, const struct reply *head, struct slice tag)
{
	static const struct sql_control unlisten_all = { .kind = CONTROL_UNLISTEN_ALL };
	struct listening *l = c->rare->listening;
	const struct sql_control *control =
	    head->has_controls ? control_of_tag(first_sent(l)) : NULL;

	if (control)
		journal_run(&l->journal, control);
	else if (slice_is_equal(tag, SLICE("COMMIT")))
		commit(l);
	else if (slice_is_equal(tag, SLICE("ROLLBACK")))
		roll_back(l);
	else if (slice_is_equal(tag, SLICE("DISCARD ALL")))
		journal_run(&l->journal, &unlisten_all);
	if (control && control->kind == CONTROL_ROLLBACK_TO)
		l->failed = false;
	return control && control->kind == CONTROL_LISTEN ? "LISTEN" : NULL;
}

void listen_on_error(struct client *c)
{
	c->rare->listening->failed = true;
}

enum step listen_before_ready(struct client *c)
{
	struct listening *l = c->rare->listening;
	bool has_listened = journal_has(&l->journal, CONTROL_LISTEN);

	if (l->answer.state == WAIT_NONE && l->nsubscriptions && !l->is_lost &&
	    (has_listened || l->hub->is_ready))
		hub_wait(l->hub, &l->answer);
	if (l->answer.state == WAIT_PENDING)
		return STEP_AGAIN;
	/* It has been committed, and cannot be kept. */
	l->is_lost |= has_listened && l->answer.state == WAIT_FAILED;
	l->answer.state = WAIT_NONE;
	return STEP_DONE;
}

void listen_on_ready(struct client *c, char tx)
{
	struct listening *l = c->rare->listening;

	l->is_armed = false;
	if (tx != 'I')
		return;
	if (l->failed)
		roll_back(l);
	else
		commit(l);
	LIST_FOREACH_SAFE (at, &l->portals)
		portal_free(container_of(at, struct portal, link));
	subscription_send(l);
}

static void close_lost(struct client *c)
{
	struct err e;

	err_set(&e, "57P01", "terminating connection because notifications may have been missed");
	err_hint(&e, "The connection that listens for this session was lost; connect again, LISTEN "
		     "again, and read again what notifications tell of.");
	client_close(c, &e, e.text);
}

enum step listen_after_ready(struct client *c)
{
	struct listening *l = c->rare->listening;

	if (l->is_lost && c->server->tx == 'I' && !c->server->replies.n) {
		close_lost(c);
		return STEP_CLOSED;
	}
	if (c->server->tx == 'I')
		free_if_unused(l);
	return STEP_DONE;
}

bool listen_hears(const struct client *c, struct slice channel)
{
	LIST_FOREACH (at, &c->rare->listening->subscriptions) {
		const struct subscription *sub = container_of(at, struct subscription, own);

		if (slice_is_equal(slice_str(sub->channel->name), channel))
			return sub->state == SUBSCRIPTION_ACTIVE;
	}
	return false;
}

/* ---- the client at rest -------------------------------------------------------------------------
 */

/* Between transactions, and in the middle of no answer. */
static bool is_at_rest(const struct client *c)
{
	const struct server *s = c->server;

	if (c->phase != CLIENT_READY || c->in_batch || c->skips_to_sync || c->begin)
		return false;
	return !s || (s->tx == 'I' && !s->replies.n && !s->copy_in && !s->stream_left);
}

void listen_flush(struct client *c)
{
	if (!list_is_empty(&c->rare->listening->queue) && is_at_rest(c))
		subscription_send(c->rare->listening);
}

bool listen_end_lost(struct client *c)
{
	if (!c->rare->listening->is_lost || !is_at_rest(c))
		return false;
	close_lost(c);
	return true;
}

void listen_forget(struct client *c)
{
	struct listening *l = c->rare->listening;

	if (!l)
		return;
	hub_wait_end(&l->request);
	hub_wait_end(&l->answer);
	subscription_end_all(l);
	journal_clear(&l->journal);
	LIST_FOREACH_SAFE (at, &l->portals)
		portal_free(container_of(at, struct portal, link));
	/* What its server may still be asked about belongs to nobody now. */
	LIST_FOREACH_SAFE (at, &l->sent)
		list_del(at);
	listening_free(l);
}

/* ---- from the hub -------------------------------------------------------------------------------
 */

/* The first listener for which pick() says so, or NULL.  Closing one may end others. */
static struct listening *find_listener(struct hub *hub, bool (*pick)(const struct listening *l))
{
	LIST_FOREACH (at, &hub->listeners) {
		struct listening *l = container_of(at, struct listening, link);

		if (pick(l))
			return l;
	}
	return NULL;
}

static bool is_doomed(const struct listening *l)
{
	return l->doom != NULL;
}

void listen_close_doomed(struct hub *hub)
{
	struct listening *l;
	struct err e;

	if (!hub->has_doomed)
		return;
	hub->has_doomed = false;
	while ((l = find_listener(hub, is_doomed))) {
		err_set(&e, "54000", "%s", l->doom);
		err_hint(&e, "Notifications would be missed otherwise; read them sooner.");
		client_close(l->client, &e, e.text);
	}
}

static bool is_lost_at_rest(const struct listening *l)
{
	return l->is_lost && is_at_rest(l->client);
}

void listen_on_loss(struct hub *hub)
{
	bool disconnects = hub->group->set.listen_lost == LISTEN_LOST_DISCONNECT;
	struct listening *l;

	LIST_FOREACH (at, &hub->listeners) {
		l = container_of(at, struct listening, link);
		l->is_lost |= disconnects && subscription_has_heard(l);
		l->is_warned |= !disconnects && subscription_has_heard(l);
		hub->has_warned |= l->is_warned;
	}
	while ((l = find_listener(hub, is_lost_at_rest)))
		close_lost(l->client);
}

static bool wants_warning(const struct listening *l)
{
	return l->is_warned;
}

static struct note *make_warning(void)
{
	struct buf message = { 0 };
	struct note *note;
	struct err e;

	err_set(&e, "01000", "notifications may have been missed");
	err_hint(&e, "The connection that listens for this session was lost, and listens again.");
	msg_put_notice(&message, "WARNING", &e);
	note = xcalloc(1, sizeof(*note) + buf_len(&message));
	note->refs = 1;
	note->is_ascii = true;
	note->len = buf_len(&message);
	memcpy(note->message, buf_head(&message), note->len);
	buf_fini(&message);
	return note;
}

void listen_on_heard(struct hub *hub)
{
	struct listening *l;
	struct note *note;

	if (!hub->has_warned)
		return;
	hub->has_warned = false;
	note = make_warning();
	while ((l = find_listener(hub, wants_warning))) {
		l->is_warned = false;
		subscription_enqueue(l, NULL, note);
		listen_flush(l->client);
	}
	note_unref(note);
}
