/* SPDX-License-Identifier: ISC
 *
 * show_listeners.c - SHOW LISTENERS.
 *
 * Clients for which a shared connection listens; what a client's own server listens on is known to
 * that server only.
 */
#include "admin/parts.h"

#include "base/clock.h"
#include "relay/listen.h"
#include "server/server.h"

#include <stdio.h>

#define LISTENER_COLUMNS(X)                                                                        \
	X(BIGINT, KEY, client, "Its id in SHOW CLIENTS.")                                          \
	X(TEXT, FIRST, database, "Its database.")                                                  \
	X(TEXT, FIRST, user, "Its user.")                                                          \
	X(TEXT, FIRST, tenant, "Its tenant, when it has one.")                                     \
	X(TEXT, KEY, channel, "What it listens on.")                                               \
	X(TIME, FIRST, since, "When it said so.")                                                  \
	X(BIGINT, FIRST, delivered, "Notifications of the channel that were sent to it.")          \
	X(BIGINT, FIRST, waiting,                                                                  \
	  "Bytes of notifications that wait for the end of its transaction, "                      \
	  "of all channels.")                                                                      \
	X(TEXT, FIRST, server, "The connection that listens for it, as in SHOW SERVERS.")
LAYOUT_DEFINE(listener, LISTENER_COLUMNS);

static void listener_rows(const struct listening *l, struct table *t)
{
	const struct client *c = l->client;
	usec_t now = loop_now(c->conn.net->loop);
	char server[32] = "";

	if (l->hub->server)
		snprintf(server, sizeof(server), "S-%llu", (unsigned long long)l->hub->server->id);
	LIST_FOREACH (at, &l->subscriptions) {
		const struct subscription *sub = container_of(at, struct subscription, own);

		if (sub->state == SUBSCRIPTION_ACTIVE)
			table_add(
			    t, &(struct listener_row){ .client = (int64_t)c->id,
						       .database = c->group->name,
						       .user = c->user,
						       .tenant = tenant_name(c->tenant),
						       .channel = sub->channel->name,
						       .since = clock_wall() - (now - sub->since),
						       .delivered = (int64_t)sub->delivered,
						       .waiting = (int64_t)l->queued,
						       .server = server });
	}
}

static void group_rows(struct group *group, struct table *t)
{
	if (!group->hub)
		return;
	LIST_FOREACH (at, &group->hub->listeners)
		listener_rows(container_of(at, struct listening, link), t);
}

static void listeners_visit(struct worker *w, struct table *t)
{
	show_each_group(w, group_rows, t);
}

const struct show show_listeners = { .shown = &listener_layout, .visit = listeners_visit };
