/* SPDX-License-Identifier: ISC
 *
 * subscription.c - what a client listens on, and the notifications that wait for it.
 *
 * Knows states and queues, not transactions; when a client may be told is listen.c's to say.
 */
#include "relay/subscription.h"

#include "base/mem.h"
#include "relay/listen.h"
#include "relay/parts.h"
#include "sql/control.h"

#include <stdlib.h>

/* A notification that waits for its client. */
struct parcel {
	struct list link; /* of listening.queue */
	struct note *note;
	struct subscription *subscription; /* NULL: a warning of ours */
};

struct subscription *subscription_find(const struct listening *l, const char *channel)
{
	LIST_FOREACH (at, &l->subscriptions) {
		struct subscription *sub = container_of(at, struct subscription, own);

		if (!strcmp(sub->channel->name, channel))
			return sub;
	}
	return NULL;
}

struct subscription *subscription_add(struct listening *l, const char *channel)
{
	struct subscription *sub = xnew(struct subscription);

	sub->channel = hub_want(l->hub, channel);
	sub->listening = l;
	sub->since = relay_now(l->client);
	list_push_back(&sub->channel->subscriptions, &sub->link);
	list_push_back(&l->subscriptions, &sub->own);
	l->nsubscriptions++;
	return sub;
}

static void parcel_free(struct listening *l, struct parcel *p)
{
	l->queued -= p->note->len;
	list_del(&p->link);
	note_unref(p->note);
	free(p);
}

void subscription_drop_parcels(struct subscription *sub)
{
	struct listening *l = sub->listening;

	LIST_FOREACH_SAFE (at, &l->queue) {
		struct parcel *p = container_of(at, struct parcel, link);

		if (p->subscription == sub)
			parcel_free(l, p);
	}
}

static void subscription_end(struct subscription *sub)
{
	subscription_drop_parcels(sub);
	list_del(&sub->link);
	list_del(&sub->own);
	sub->listening->nsubscriptions--;
	hub_let_go(sub->channel);
	free(sub);
}

void subscription_end_all(struct listening *l)
{
	LIST_FOREACH_SAFE (at, &l->subscriptions)
		subscription_end(container_of(at, struct subscription, own));
	LIST_FOREACH_SAFE (at, &l->queue)
		parcel_free(l, container_of(at, struct parcel, link));
}

void subscription_end_tentative(struct listening *l)
{
	/* The next transaction is under way, and wants them. */
	if (!list_is_empty(&l->sent))
		return;
	LIST_FOREACH_SAFE (at, &l->subscriptions) {
		struct subscription *sub = container_of(at, struct subscription, own);

		if (sub->state != SUBSCRIPTION_ACTIVE)
			subscription_end(sub);
	}
	l->is_armed = false;
}

static void activate(struct listening *l, const char *channel)
{
	struct subscription *sub = subscription_find(l, channel);

	if (!sub)
		sub = subscription_add(l, channel);
	if (sub->state == SUBSCRIPTION_ACTIVE)
		return;
	sub->state = SUBSCRIPTION_ACTIVE;
	/* pg_listening_channels() has them in this order. */
	list_del(&sub->own);
	list_push_back(&l->subscriptions, &sub->own);
}

static void leave(struct listening *l, const char *channel)
{
	LIST_FOREACH (at, &l->subscriptions) {
		struct subscription *sub = container_of(at, struct subscription, own);

		if (sub->state == SUBSCRIPTION_ACTIVE &&
		    (!channel || !strcmp(sub->channel->name, channel)))
			sub->state = SUBSCRIPTION_LEFT;
	}
}

void subscription_apply(struct listening *l, const struct sql_control *control)
{
	if (control->kind == CONTROL_LISTEN)
		activate(l, control->name);
	else if (control->kind == CONTROL_UNLISTEN)
		leave(l, control->name);
	else if (control->kind == CONTROL_UNLISTEN_ALL)
		leave(l, NULL);
}

void subscription_end_left(struct listening *l)
{
	LIST_FOREACH_SAFE (at, &l->subscriptions) {
		struct subscription *sub = container_of(at, struct subscription, own);

		if (sub->state == SUBSCRIPTION_LEFT)
			subscription_end(sub);
	}
}

bool subscription_has_heard(const struct listening *l)
{
	LIST_FOREACH (at, &l->subscriptions)
		if (container_of(at, struct subscription, own)->state != SUBSCRIPTION_ASKED)
			return true;
	return false;
}

/* ---- notifications that wait --------------------------------------------------------------------
 */

void subscription_enqueue(struct listening *l, struct subscription *sub, struct note *note)
{
	struct parcel *p = xnew(struct parcel);

	p->note = note;
	p->subscription = sub;
	note->refs++;
	l->queued += note->len;
	list_push_back(&l->queue, &p->link);
}

void subscription_send(struct listening *l)
{
	struct client *c = l->client;

	LIST_FOREACH_SAFE (at, &l->queue) {
		struct parcel *p = container_of(at, struct parcel, link);

		if (p->subscription && p->subscription->state != SUBSCRIPTION_ACTIVE)
			continue;
		buf_put(conn_output(&c->conn), p->note->message, p->note->len);
		c->group->counters.bytes_sent += p->note->len;
		if (p->subscription)
			p->subscription->delivered++;
		parcel_free(l, p);
	}
}

static struct slice encoding_of(const struct param_set *params)
{
	const char *encoding = params ? param_set_get(params, SLICE("client_encoding")) : NULL;

	return slice_str(encoding ? encoding : "");
}

bool subscription_speaks_alike(const struct client *c, const struct hub *hub)
{
	return slice_is_equal_nocase(encoding_of(c->told), encoding_of(hub->server->params));
}

void subscription_take(struct subscription *sub, struct note *note)
{
	struct listening *l = sub->listening;
	struct client *c = l->client;

	if (sub->state == SUBSCRIPTION_ASKED || l->doom || l->is_lost)
		return;
	if (!note->is_ascii && !subscription_speaks_alike(c, l->hub))
		l->doom = "a notification cannot be given in the session's client_encoding";
	else if (l->queued + conn_unsent(&c->conn) + note->len > c->group->set.listen_backlog_size)
		l->doom = "too many notifications wait for this session (listen_backlog_size)";
	if (l->doom) {
		l->hub->has_doomed = true;
		return;
	}
	subscription_enqueue(l, sub, note);
	if (sub->state == SUBSCRIPTION_ACTIVE)
		listen_flush(c);
}
