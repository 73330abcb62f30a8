/* SPDX-License-Identifier: ISC
 *
 * hub.h - the one connection that listens for all clients of a group (docs/adr/0010-listen.md).
 *
 * Knows channels, who wants them, and rounds.  A round is one question to the server: the LISTEN
 * and UNLISTEN commands that are due, or nothing.  When it has been answered, those have committed,
 * and every notification of a transaction that committed before the round began has been handed
 * over: PostgreSQL signals listeners before it answers whoever notified them.
 *
 * Knows nothing of clients' transactions; that is listen.c.  All on the group's thread.
 */
#ifndef PGT_RELAY_HUB_H
#define PGT_RELAY_HUB_H

#include "pool/pool.h"

struct hub;
struct server;

/* One notification, shared by all who wait for it. */
struct note {
	unsigned refs;
	bool is_ascii;
	size_t len;
	char message[]; /* NotificationResponse, or a NoticeResponse of ours */
};

/* A channel that somebody wants, or that is still to be left. */
struct hub_channel {
	struct hlink link;
	struct list changed; /* of hub.changed */
	struct hub *hub;
	struct list subscriptions; /* by subscription.link, see subscription.h */
	unsigned refs;
	bool is_heard; /* the server has been asked to LISTEN */
	char name[];
};

/* Somebody who waits for a round. */
struct hub_wait {
	struct list link; /* of hub.waits */
	uint64_t round;
	usec_t since;
	enum { WAIT_NONE, WAIT_PENDING, WAIT_DONE, WAIT_FAILED } state;
	bool outlives_loss; /* waits for the next connection too */
	void (*over)(struct hub_wait *w);
};

struct hub {
	struct group *group;
	struct pool pool;      /* of the one connection: outside of pool_size */
	struct server *server; /* or NULL */
	bool is_ready;
	bool has_doomed; /* some listener has a doom … */
	bool has_warned; /* … or is to be warned */
	struct hmap channels;
	struct list changed;   /* channels whose LISTEN or UNLISTEN is still to be sent */
	struct list waits;     /* in the order of their rounds */
	struct list listeners; /* by listening.link */
	uint64_t round;        /* the last one that began */
	usec_t asked_at;       /* when that was */
	usec_t unused_since;   /* without listeners; 0: it has some */
};

/* The group's, made if need be. */
struct hub *hub_of(struct group *group);
/* Its connection is gone, nobody listens. */
void hub_free(struct hub *hub);
/* It has a connection, or clients that listen. */
bool hub_is_used(const struct hub *hub);

/* Makes sure that there is a connection, or will be. */
void hub_open(struct hub *hub, usec_t now);
/* Reconnects, gives up, looks after an idle connection: some times a second. */
void hub_sweep(struct hub *hub, usec_t now);
/* The connection is lost, or not the right one any more: listeners are told as listen_lost says. */
void hub_lose(struct hub *hub, const char *why);
/* Ends it: listeners are being closed. */
void hub_end(struct hub *hub);

/* A reference; the channel is heard after the next round. */
struct hub_channel *hub_want(struct hub *hub, const char *name);
void hub_let_go(struct hub_channel *ch);

/* Waits for a round that begins from now on.  over() is called when it has been answered
 * (WAIT_DONE), or cannot be (WAIT_FAILED: hub->pool.error tells). */
void hub_wait(struct hub *hub, struct hub_wait *w);
/* Waits no more; harmless for one that does not. */
void hub_wait_end(struct hub_wait *w);

void note_unref(struct note *note);

#endif
