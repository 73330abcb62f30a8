/* SPDX-License-Identifier: ISC
 *
 * listen.h - LISTEN and UNLISTEN of clients in transaction mode (docs/adr/0010-listen.md).
 *
 * A client that listens has a struct listening: its subscriptions, what its transaction has done to
 * them so far, and the notifications that wait for its end.  Everything here is called for such
 * clients, and for texts that would make one; others have client.listening == NULL.
 */
#ifndef PGT_RELAY_LISTEN_H
#define PGT_RELAY_LISTEN_H

#include "base/err.h"
#include "net/conn.h"
#include "relay/journal.h"
#include "relay/subscription.h"
#include "sql/scan.h"

struct buf;
struct client;
struct reply;
struct statement;

/* Why a request waits for a round of the hub. */
enum listen_purpose {
	LISTEN_FOR_HUB,     /* to be there */
	LISTEN_FOR_SERVER,  /* that the last client of its server is heard out */
	LISTEN_FOR_COMMAND, /* a LISTEN or UNLISTEN outside of a transaction */
	LISTEN_FOR_COMMIT,  /* what may end a transaction with a LISTEN */
};

struct listening {
	struct client *client;
	struct hub *hub;
	struct list link;          /* of hub.listeners */
	struct list subscriptions; /* by subscription.own, in the order of LISTEN */
	unsigned nsubscriptions;
	struct list queue;           /* notifications that wait for the end of a transaction */
	size_t queued;               /* bytes of them */
	struct journal journal;      /* what the transaction under way has done */
	struct list sent;            /* struct controls that the server has still to run */
	struct list portals;         /* of this transaction, that control something */
	struct hub_wait request;     /* its next request waits … */
	enum listen_purpose purpose; /* … for this */
	struct hub_wait answer;      /* a ReadyForQuery for it waits */
	bool failed;                 /* an error came since the last transaction ended */
	bool is_armed; /* what it wants to listen on is heard, should a commit be under way */
	bool is_lost; /* notifications are missing: it is closed when its transaction is over … */
	bool is_warned;   /* … or is told so once the hub listens again */
	const char *doom; /* why it is closed at once, or NULL */
};

enum listen_way {
	LISTEN_PASSES,   /* goes its usual way; *rewritten says in which words, if not empty */
	LISTEN_WAITS,    /* the message stays where it is; the client is woken */
	LISTEN_ANSWERED, /* here */
	LISTEN_REFUSED,  /* *e tells */
};

/* ---- requests: of a client that listens, and LISTEN of any -------------------------------------
 */

/* A Query that can be looked at.  May take effects out of *facts. */
enum listen_way listen_query(struct client *c, struct slice text, struct sql_facts *facts,
			     struct buf *rewritten, struct err *e);
/* It has been sent, with these facts left: its answer will tell what came of it. */
void listen_on_query_sent(struct client *c, struct slice text, const struct sql_facts *facts);
/* A Parse: the text that the server is given instead, in *rewritten. */
enum listen_way listen_parse(struct client *c, struct slice text, struct sql_facts *facts,
			     struct buf *rewritten, struct err *e);
/* Whether a Bind of this statement (NULL: not known) concerns listening. */
bool listen_minds_bind(const struct client *c, const struct statement *st);
/* A Bind that does: before it is sent, with nothing changed; and when it has been. */
enum listen_way listen_bind(struct client *c, const struct statement *st, struct err *e);
void listen_on_bind_sent(struct client *c, struct slice portal, const struct statement *st);
void listen_on_close_sent(struct client *c, struct slice portal);
void listen_before_execute(struct client *c, struct slice portal);
void listen_on_execute_sent(struct client *c, struct slice portal);
/* Sync: what a batch has asked for is heard before it commits. */
enum listen_way listen_sync(struct client *c);
/* The client has just got its server.  STEP_AGAIN: it must not send yet, it is woken. */
enum step listen_take_server(struct client *c) PGT_MUST_USE;

/* ---- answers -----------------------------------------------------------------------------------
 */

/* The tag of a command of a client that listens; what the client is to be told instead, or NULL. */
const char *listen_on_tag(struct client *c, const struct reply *head, struct slice tag);
void listen_on_error(struct client *c);
/* Before a ReadyForQuery that says 'I' is passed on: STEP_AGAIN, and the server is kicked. */
enum step listen_before_ready(struct client *c) PGT_MUST_USE;
/* It is being passed on: what waits for the end of the transaction goes first. */
void listen_on_ready(struct client *c, char tx);
/* It has been.  STEP_CLOSED: the client is gone. */
enum step listen_after_ready(struct client *c) PGT_MUST_USE;
/* Whether a notification of the client's own server came to it through the hub. */
bool listen_hears(const struct client *c, struct slice channel);
/* An entry with has_controls leaves the queue of replies, as they do: from the head on. */
void listen_on_answered(struct client *c);

/* ---- the client at rest ------------------------------------------------------------------------
 */

/* Sends what waits, if the client is between transactions. */
void listen_flush(struct client *c);
/* Its request was cancelled, or refused for its time: waits no more. */
bool listen_is_waiting(const struct client *c);
void listen_stop_waiting(struct client *c);
usec_t listen_waits_since(const struct client *c);
/* Closes it if it has lost notifications and is at rest: true. */
bool listen_end_lost(struct client *c);
/* It leaves. */
void listen_forget(struct client *c);

/* ---- from the hub ------------------------------------------------------------------------------
 */

void listen_close_doomed(struct hub *hub);
/* Its connection is lost. */
void listen_on_loss(struct hub *hub);
/* It hears all channels that are wanted: those who are to be warned of a loss are. */
void listen_on_heard(struct hub *hub);

#endif
