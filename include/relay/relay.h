/* SPDX-License-Identifier: ISC
 *
 * relay.h - where a client and a server meet.
 *
 * One struct relay per thread: it owns the thread's groups and drives their sessions.  The way of a
 * request: request.c (may this message come now, what is it) → guard.c, gate.c (what may it do,
 * where does it go) → attach.c (a server for it, or the queue) → the server's socket; and back
 * through answer.c.  statement.c maps names of prepared statements, session.c carries settings.
 *
 * All on the relay's thread, except where a function says otherwise.
 */
#ifndef PGT_RELAY_RELAY_H
#define PGT_RELAY_RELAY_H

#include "base/hash.h"
#include "client/client.h"
#include "net/mailbox.h"
#include "pool/pool.h"
#include "server/server.h"
#include "stats/slow.h"

struct sql_classifier;
struct sql_shapes;

struct said;
struct server_passport;

/* Statements of a worker that are found without a hash; a power of two. */
#define STATEMENTS_FOUND 64

/* Of relay_give_away(): these take the socket and the bytes of a passport. */
struct relay_givers {
	void (*session)(void *arg, int fd, struct buf *passport);
	void (*server)(void *arg, int fd, struct buf *passport); /* NULL: it takes none */
};

struct relay {
	struct net *net;
	struct config *config;          /* in force; a reference */
	struct tls_context *server_tls; /* or NULL; a reference */
	struct resolver *resolver;
	struct mailbox *mailbox; /* of the thread */
	struct login_desk desk;  /* of its pools that wait for their turn to log in … */
	struct mail login_mail;  /* … of which this tells */
	struct sql_classifier *classifier;
	struct sql_shapes *shapes; /* facts of Queries, by client.env_key */
	struct queries queries;    /* what statements of each shape cost, see insight.h … */
	struct slow_log slow_log;  /* … and those that took too long */
	bool has_insight;
	uint32_t audit_turn; /* log_sample: relay/audit.h */
	struct hmap groups;
	struct hmap pasts; /* what groups that are gone have counted, by database: stats/past.h */
	uint32_t last_group;
	struct latency_clock latency_clock; /* of all that is measured here */
	struct hmap node_times;             /* of groups' nodes, see pool/node_times.h */
	struct tenants tenants;
	struct hmap statements; /* texts that prepared statements share, see statement.c */
	struct statement *found[STATEMENTS_FOUND]; /* of these, what was looked for last */
	size_t statement_bytes; /* of them, and of the names that clients have for them */
	uint64_t last_statement;
	struct said *said;         /* what texts say that may choose a tenant, see choose.c */
	struct statement **recent; /* unnamed ones that have come lately, see repeat.c */
	struct list limited;       /* clients that wait for a limit, by client.admission */
	struct loop_timer limit_timer;
	bool limit_timer_runs;
	struct list holding; /* pools that keep servers idle for a moment, by pool.holding */
	struct loop_timer hold_timer;
	bool hold_timer_runs;
	struct list
	    deferred; /* clients whose BEGIN waits, by client.begin_link; the oldest first */
	struct loop_timer defer_timer;
	bool defer_timer_runs;
	bool suspended;  /* SUSPEND: nothing is read from clients */
	bool is_serving; /* who has waited for a server is being given it */
	/* Another process has the sessions: see move.c and handover.c; else NULL. */
	const struct relay_givers *give;
	void *give_arg;
	usec_t reconnected_at; /* RECONNECT: what was connected before is not taken any more */
	struct buf leavers;    /* pointers to clients whose transaction has ended in this turn */
};

void relay_init(struct relay *r, struct net *net, struct config *config,
		struct tls_context *server_tls, struct resolver *resolver, struct mailbox *mailbox);
/* Closes everything; the net's turns must still run until groups are gone. */
void relay_fini(struct relay *r);

/* A client that has proved who it is enters its group, which is made if need be.  nodes is a set
 * for its database.  Fits client_host.enter.  False: *e says why not. */
bool relay_enter(struct relay *r, struct client *c, struct node_set *nodes, struct err *e);

/* Another version of the configuration: groups are resolved anew; the clients of those whose
 * database or tenant is gone, or lives on other nodes, finish their transactions and are closed. */
void relay_reconfigure(struct relay *r, struct config *config, struct tls_context *server_tls);

/* The client that holds a key asks for its request to be cancelled. */
void relay_cancel(struct client *c);

/* Timeouts, waiting clients, idle servers, min_pool_size: some times a second. */
void relay_sweep(struct relay *r, usec_t now);

/* Another process has the sessions from here on: each is given to it, as soon as nothing is under
 * way for it, and leaves; and so is each server that none of those who stay needs.  NULL: no more.
 */
void relay_give_away(struct relay *r, const struct relay_givers *give, void *arg);
/* Now and then: those that have come to rest since. */
void relay_give_on(struct relay *r);
/* At the end of a turn: those whose transaction has ended in it. */
void relay_give_leavers(struct relay *r);
/* A connection to a server that another process has had, for the group's part that this thread has;
 * its database is configured, and nodes is a set for it.  Takes the socket; false: nobody here can
 * use it, and it stays the caller's. */
bool relay_take_server(struct relay *r, int fd, const struct server_passport *p, unsigned part,
		       struct node_set *nodes);

/* SUSPEND: reads nothing from clients; and goes on. */
void relay_suspend(struct relay *r, bool on);

/* ---- what the console does to groups of a database; name NULL: all ----------------------------
 */

/* Lets waiting clients go on after a RESUME. */
void relay_resume(struct relay *r, const char *database);
/* Closes servers as they come free, idle ones now. */
/* A primary retires: those who wait for it wait for another one, its idle connections go.  Returns
 * how many transactions are under way there. */
unsigned relay_retire(struct relay *r, const char *database);
void relay_reconnect(struct relay *r, const char *database);
/* Closes clients and servers at once. */
void relay_kill(struct relay *r, const char *database);
bool relay_kill_client(struct relay *r, uint64_t id);
/* Closes all clients, with text for a reason, and cancels what they run.  Returns how many; *busy:
 * of them, had something under way. */
unsigned relay_dismiss(struct relay *r, const char *text, unsigned *busy);
/* Servers that a client has, or that are being reset; for PAUSE and SHUTDOWN WAIT_FOR_SERVERS. */
unsigned relay_busy_servers(const struct relay *r, const char *database);
unsigned relay_clients(const struct relay *r, const char *database);
/* Servers that RECONNECT still has to close; for WAIT_CLOSE. */
unsigned relay_stale_servers(const struct relay *r, const char *database);
/* Of a tenant: transactions under way; after PAUSE TENANT none begins. */
unsigned relay_busy_of_tenant(const struct relay *r, const char *tenant);
/* Closes its clients, and the servers of its own pools. */
void relay_kill_tenant(struct relay *r, const char *tenant);
/* Closes idle servers, those in use when they come free; PAUSE. */
void relay_close_idle(struct relay *r, const char *database);

#endif
