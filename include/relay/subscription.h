/* SPDX-License-Identifier: ISC
 *
 * subscription.h - what a client listens on, and the notifications that wait for it.
 */
#ifndef PGT_RELAY_SUBSCRIPTION_H
#define PGT_RELAY_SUBSCRIPTION_H

#include "relay/hub.h"

struct client;
struct listening;
struct sql_control;

enum subscription_state {
	SUBSCRIPTION_ASKED,     /* the channel is wanted, nothing is delivered */
	SUBSCRIPTION_TENTATIVE, /* heard; counts when the transaction under way commits */
	SUBSCRIPTION_ACTIVE,
	SUBSCRIPTION_LEFT, /* by a command of the commit under way; a later one may come back */
};

/* A client's interest in a channel; holds a reference on it. */
struct subscription {
	struct list link; /* of channel.subscriptions */
	struct list own;  /* of listening.subscriptions */
	struct hub_channel *channel;
	struct listening *listening;
	enum subscription_state state;
	usec_t since;
	uint64_t delivered;
};

struct subscription *subscription_find(const struct listening *l, const char *channel);
/* One more, asked for. */
struct subscription *subscription_add(struct listening *l, const char *channel);
/* What waits of it will not be told. */
void subscription_drop_parcels(struct subscription *sub);
/* What was to be heard in case of a commit that has not come. */
void subscription_end_tentative(struct listening *l);
/* The client leaves. */
void subscription_end_all(struct listening *l);

/* A LISTEN or UNLISTEN has been committed.  After all of a commit: subscription_end_left(), so that
 * who leaves a channel and comes back was never gone. */
void subscription_apply(struct listening *l, const struct sql_control *control);
void subscription_end_left(struct listening *l);

/* A notification has come.  Ends no client: listen_close_doomed() does. */
void subscription_take(struct subscription *sub, struct note *note);
/* It waits for the client; sub NULL: a warning of ours. */
void subscription_enqueue(struct listening *l, struct subscription *sub, struct note *note);
/* Gives the client what waits. */
void subscription_send(struct listening *l);
/* The client may have missed something: it was told that it listens, or is about to be. */
bool subscription_has_heard(const struct listening *l);
/* The hub's connection spells names and payloads as this client does. */
bool subscription_speaks_alike(const struct client *c, const struct hub *hub);

#endif
