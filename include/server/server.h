/* SPDX-License-Identifier: ISC
 *
 * server.h - one connection to a PostgreSQL server.
 *
 * Logs in, answers our own questions, keeps what is known about the session on the other side.
 * Knows nothing of clients: what arrives once it is in use goes to the owner's handlers.
 *
 * All on the thread of its pool.
 */
#ifndef PGT_SERVER_SERVER_H
#define PGT_SERVER_SERVER_H

#include "base/log.h"
#include "net/conn.h"
#include "pool/pool.h"
#include "server/dial.h"
#include "server/replies.h"
#include "wire/report.h"
#include "wire/startup.h"

struct backend;
struct client;
struct cancel;
struct server;
struct server_login;
struct sql_leaving;
struct statement;
struct survey;

struct server_events {
	/* Logged in, and asked all that must be asked first. */
	void (*ready)(struct server *s);
	/* Bytes have come that are no answer to a question of ours. */
	void (*readable)(struct server *s);
	void (*drained)(struct server *s);
	/* The connection is lost, or the login failed (then pool->error tells): the owner lets go
	 * of it with server_drop(). */
	void (*ended)(struct server *s, const char *why);
	/* A NotificationResponse has come among the answers to a question, or while nothing was
	 * asked; its body is borrowed.  May be NULL. */
	void (*notified)(struct server *s, struct slice body);
	/* A cancel that could still have hit this connection is over. */
	void (*cancel_over)(struct server *s);
	/* A statement of statements is gone; may be NULL. */
	void (*statement_gone)(struct server *s, void *subject);
	/* Its slot is free and it will be freed now; may be NULL. */
	void (*freed)(struct server *s);
};

/* A question of our own, whose answer no client sees. */
struct question {
	/* What the columns are called, before the first row; may be NULL. */
	void (*columns)(struct server *s, void *arg, const struct slice *names, unsigned n);
	/* May be NULL.  Columns are borrowed; a NULL value has p == NULL. */
	void (*row)(struct server *s, void *arg, const struct slice *columns, unsigned n);
	/* error: NULL when there was none, else the first one; borrowed. */
	void (*done)(struct server *s, void *arg, const struct report *error);
	void *arg;
};

#define QUESTION_MAX_COLUMNS      32

#define SERVER_STATEMENT_NAME_MAX 28
#define SERVER_TIMEOUT_MAX        32

/* A statement that exists on the server, or will when what was sent has been run, under the name
 * "pgt_SERIAL".  No serial is used twice on a connection. */
struct server_statement {
	struct hlink link;
	struct list lru; /* of server.statements_lru, the last used first */
	uint64_t id;     /* of the statement */
	uint64_t key;    /* of the relay: of the sessions that its plans may tell of; 0: of none */
	uint64_t serial;
	uint64_t made_in;  /* the batch that parses it, counted as server.batch */
	uint64_t used_in;  /* and that used it last */
	void *subject;     /* of the relay: what the statement is */
	bool is_renamed;   /* its text names statements as only this server knows them */
	bool is_seen;      /* what it gives has been compared with what it gives elsewhere */
	bool is_void;      /* its batch failed before it was parsed */
	unsigned changes;  /* of the statement when it was parsed here */
	unsigned setbacks; /* the same */
	unsigned runs;     /* times that it was bound or described */
	uint64_t
	    checked_in; /* the batch in which it was last found to be what a Parse would make */
	usec_t parsed_at;
	uint8_t name_len; /* with its NUL */
	char name[SERVER_STATEMENT_NAME_MAX];
};

/* Of server.unnamed_id. */
#define UNNAMED_NONE    0
#define UNNAMED_UNKNOWN UINT64_MAX
#define UNNAMED_PASSED  (UINT64_MAX - 1) /* its client's, whose text was too long to be kept */

/* What transactions of its session are by default, where the session has not said so itself. */
enum server_isolation { ISOLATION_UNKNOWN, ISOLATION_READ_COMMITTED, ISOLATION_OTHER };

/* tenant_context_check: whether the tenant's id on it is still what it was made. */
#define SERVER_CHECKS(X)                                                                           \
	X(DUE)     /* not known since its last statement */                                        \
	X(ASKED)   /* the server has still to say */                                               \
	X(HOLDS)   /* it is */                                                                     \
	X(CHANGED) /* it is not, or that cannot be known: nobody's server any more */

enum server_check {
#define X(name) CHECK_##name,
	SERVER_CHECKS(X)
#undef X
	    CHECK_NSTATES
};

struct server {
	struct conn conn;
	struct slot slot;
	const struct server_events *on;
	struct pool *pool; /* NULL: the monitor's */
	void *owner;       /* of whoever made it without a pool */
	struct node *node;
	struct dial dial;
	struct server_login *login; /* until it is ready */
	struct question question;   /* done != NULL: one is being answered */
	struct buf question_error;  /* body of the first ErrorResponse */
	struct survey *survey;      /* of the relay: what a session has left here is being asked */
	struct sql_leaving *learning; /* of the relay: what code may leave is being asked */
	unsigned learns;              /* up to which definition */
	unsigned defaults;            /* of the relay: what its session began with, as a count */
	struct resolver *resolver;
	struct mailbox *mailbox;
	struct tls_context *tls_context; /* or NULL; a reference */
	struct param_set *params;        /* what it has reported; NULL for the monitor's */
	struct param_set *applied;       /* what of a session's wishes is set on it */
	struct client *client;           /* who has it */
	struct tenant *context;          /* whose id its session carries; NULL: nobody's */
	struct list context_link;        /* of context->servers */
	unsigned context_version;        /* of the tenants' terms, when it was compared with them */
	struct replies replies;
	struct hmap statements;
	struct list statements_lru;
	uint64_t unnamed_id;  /* of the statement that is its unnamed one, or UNNAMED_… */
	uint64_t unnamed_key; /* as that of a server_statement */
	uint64_t unnamed_in;  /* the batch that changed it last */
	uint64_t closed_in;   /* the batch in which its client closed a name last */
	uint64_t last_serial;
	uint64_t bound;        /* serial of the statement that was asked for last; 0: the unnamed */
	uint64_t bound_portal; /* a digest of its portal's name if it is not seen; 0: it is */
	/* What of statement_timeout a session has that carries a tenant's: text; "": the server's
	 * default. */
	char timeout[SERVER_TIMEOUT_MAX];
	char timeout_after[SERVER_TIMEOUT_MAX]; /* … where .context_is_local, once that ends */
	struct buf *sent; /* the batch under way, if it may have to be sent again */
	/* Of the relay, on a replica: what its client has asked, as that has sent it … */
	struct buf asked;
	/* … with the BEGIN that went ahead of it, and behind which nothing else has run, or NULL …
	 */
	struct statement *asked_begin;
	struct statement *asked_known; /* … and what an unnamed Parse in it was answered with … */
	size_t answer_at;              /* … and where its answer begins in the client's output */
	uint64_t batch; /* counts ReadyForQuery; what is sent now is in batch + replies.ncycles */
	uint64_t id;
	uint64_t sequence_user; /* the client that has used it last */
	uint64_t plans_for;     /* whom plans may tell of that code has kept: relay/session.c */
	uint64_t made_for;      /* the only client that may have it: replication; 0: any */
	uint64_t startup;       /* a digest of what its session has begun with: login_digest() */
	uint32_t pid;
	struct backend *backend; /* who has this process, for all threads; NULL: the monitor's */
	uint64_t started_at;     /* its process, in microseconds since 1970; 0: not asked */
	int64_t process;         /* when the whole server was started, the same; 0: not asked */
	uint64_t signed_by;      /* mark of the keys that its tenant is signed with; 0: it is not */
	/* Of a signature under way: who waits for it. */
	void (*signature_done)(struct server *s, void *arg, const struct report *error);
	uint8_t cancel_key[CANCEL_KEY_MAX];
	uint16_t cancel_key_len;
	struct cancel *cancel;     /* under way */
	size_t stream_left;        /* bytes of the current message that are still to come */
	usec_t request_at;         /* when it was last given out */
	usec_t query_at;           /* when the query under way was sent */
	usec_t overdue_at;         /* when it was cancelled for lasting too long; 0: it was not */
	uint64_t many_until;       /* up to that batch a string may run … */
	uint32_t many;             /* … so many statements; 0: one */
	usec_t xact_at;            /* when the transaction began */
	struct statement *timed;   /* of the relay: what the request under way runs, or NULL */
	usec_t asked_at;           /* when the request under way came … */
	usec_t begun_at;           /* … and the first one of its transaction */
	usec_t split_at;           /* up to when it is known what took the time of a batch */
	usec_t ran_at;             /* when .ran had come to its end; 0: more of its Query may run */
	usec_t idle_from;          /* since when its transaction stood still, the last time … */
	usec_t idle_counted;       /* … and how much of that was counted */
	uint64_t rows;             /* of what ran last … */
	uint64_t bytes;            /* … and of its answer, up to its end … */
	uint64_t answered;         /* … and of what has been said behind that */
	char *kept_text;           /* of its client's last statement, if it is kept, … */
	uint64_t kept_in;          /* … and the batch that it is in */
	uint64_t asked_in;         /* the batch of .asked, when it has begun to be answered */
	struct query_ref ran;      /* the shape of what ran last, if its cost is counted */
	struct query_ref last_ran; /* … after that */
	uint32_t tainted;          /* of the relay: what would reach the next client */
	char refusal[6];           /* SQLSTATE with which it refused the login; "": it did not */
	char tx; /* 'I', 'T', 'E': of the last ReadyForQuery; 'T' from a deferred BEGIN on */
	bool stream_swallow;       /* what of the current message is still to come goes nowhere */
	bool was_refused;          /* the login, by a server that takes others */
	bool said_fatal;           /* its last words were an error that ends the session */
	bool is_brought;           /* by another process, and not ready here yet */
	bool asks_default_timeout; /* after login: connected without a statement_timeout of ours */
	bool caps_timeout;         /* the startup packet asked for the tier's statement_timeout */
	bool has_cut_request; /* it was sent the beginning of a message whose end will not come */
	bool will_forget;     /* so does the batch under way, from its Sync on */
	bool may_rescue;      /* nothing of the answer to .asked has gone out */
	bool asks_primary;    /* … and it is to be asked again only as the client has sent it */
	bool times_plan;      /* .timed runs by a plan made for it */
	bool asked_parsed;    /* behind .asked_begin a query was parsed */
	bool reuses;          /* the batch under way uses a statement parsed before it */
	bool sequence_mixed;  /* currval() and lastval() may tell values of several clients */
	bool writes;          /* its client may have written since it was given to it */
	union {
		struct {
			bool skips_to_sync; /* it ignores everything up to a Sync that is still to
					     * be sent */
			bool is_settling;   /* of the relay: its client's settings are brought, and
					     * nothing of its request has been sent */
			bool copy_in;       /* waits for CopyData */
			bool forgets;       /* a DISCARD ALL or DEALLOCATE ALL is under way */
			bool begins_in_batch;  /* a deferred BEGIN is to be answered, and its batch
						* has its Sync */
			bool has_notified;     /* its client may have, by NOTIFY or pg_notify() */
			bool has_ddl;          /* its transaction has changed what texts mean … */
			bool has_definition;   /* … and what code stands behind names */
			bool has_defaults;     /* … and what sessions begin with */
			bool commits_early;    /* its client has been told of a COMMIT that it has
						* not answered */
			bool context_is_local; /* .context ends with the transaction; then it is
						* nobody's … */
			bool context_is_mixed; /* … or not known, since it was set again for the
						* session too */
			bool carry_due; /* the client's settings go ahead of its next message … */
			bool carried;   /* … have gone, and it is told of the rest when it is
					 * ready */
			bool doubtful;  /* its state is not known for sure: to be closed, not
					 * reused */
			uint8_t check;  /* enum server_check */
			uint8_t carrying;    /* replies that are owed to what carries settings */
			uint8_t loose_syncs; /* Syncs that a COPY may have eaten or not */
			bool holds_ready;    /* what it has said last waits: a ReadyForQuery */
			uint8_t spare[5];
		};
		uint8_t unusual[24]; /* all of these, to be compared with nothing at once */
	};
	bool is_unbound;       /* row-level security does not bind its role, and it has to */
	uint16_t carry_parsed; /* which of its statements the server has: carry.c */
	uint8_t early_run;     /* such COMMITs since its client got it, as far as they count */
	uint8_t isolation;     /* enum server_isolation */
};

/* It does nothing but what it was asked last, and that is nothing that anybody would have to know
 * of.  One comparison; pointers and .tainted are not in it. */
static inline bool server_is_usual(const struct server *s)
{
	uint64_t first, second, third; /* an array of them would be made in memory */

	_Static_assert(sizeof(s->unusual) == 3 * sizeof(first), "three words");
	_Static_assert(!CHECK_DUE, "what is usual is zero");
	memcpy(&first, s->unusual, sizeof(first));
	memcpy(&second, s->unusual + sizeof(first), sizeof(second));
	memcpy(&third, s->unusual + 2 * sizeof(first), sizeof(third));
	return !(first | second | third);
}

/* Where and as whom; borrowed for the call, except what dial_target says. */
struct server_target {
	struct config *config; /* whose strings these are; referenced until it is ready or freed */
	struct dial_target dial;
	struct node *node;
	const char *dbname;
	const char *user;
	enum replication replication;
	const struct credential *credential;  /* borrowed until it is ready or has ended */
	const struct database_conf *database; /* or NULL; borrowed until ready */
	const char *options;                  /* for the startup packet, or "" */
	const char *application_name;
};

/* Starts a connection.  pool: slot has been reserved in s->slot; NULL for the monitor, which
 * keeps no slot.  ready() or ended() follows; ended() maybe before server_connect() returns. */
struct server *server_new(struct pool *pool, struct net *net, const struct server_events *on);
void server_connect(struct server *s, const struct server_target *target);
/* The same with a connection that another process has logged in on: takes its socket.  What that
 * has learned of it (cancel key, parameters, digest, age) is the caller's to set. */
void server_resume(struct server *s, const struct server_target *target, int fd);
/* A goodbye on a socket of such a connection that nobody here can use; closes it. */
void server_dismiss(int fd);

/* Frees one that was never connected and has no slot. */
void server_discard(struct server *s);

/* Asks; no other question may be under way and no client may have the server. */
void server_ask(struct server *s, const char *sql, const struct question *q);

/* The same of one text with parameters, which no other session can read. */
void server_ask_bound(struct server *s, const char *sql, const char *const *values, unsigned n,
		      const struct question *q);

/* The same of two texts with the same parameters, in one trip: rows of both, in that order; an
 * error ends both. */
void server_ask_both(struct server *s, const char *const sql[2], const char *const *values,
		     unsigned n, const struct question *q);

/* What a server that nobody has any more still owes, up to a ReadyForQuery, is awaited as the
 * answer to a question. */
void server_await(struct server *s, const struct question *q);

/* For lines in the log; the node's address goes into *room.  Not of the monitor. */
struct log_about server_about(const struct server *s, char room[LOG_ADDRESS_MAX]);

/* Its session carries this tenant's id from now on. */
void server_set_context(struct server *s, struct tenant *tenant);

/* Says goodbye and lets go of it: the slot counts until the server has hung up, or for a few
 * seconds.  Without goodbye when its state is unknown or it does not answer.  The owner must not
 * touch it any more. */
void server_drop(struct server *s);

/* The same for a server that still runs what it was asked: it may come to its end, and what it
 * answers is thrown away.  Its slot counts until then. */
void server_let_finish(struct server *s);

/* Lets go of one at rest without a word: its socket, which is another process's from here on. */
int server_give_away(struct server *s);

/* Takes a ParameterStatus message into s->params. */
void server_on_parameter(struct server *s, struct slice body);

/* Asks the server to cancel what it is doing.  At most one is under way; a second is the same.
 * Until cancel_over() the server must not run another's statement. */
void server_cancel(struct server *s);

/* It is connected where its host's name does not lead any more (net/resolve.h). */
bool server_is_elsewhere(const struct server *s, const char *host);

/* Its session starts with a statement_timeout within the tier's. */
bool server_is_capped(const struct server *s);

/* Frees what the server knows of prepared statements, when they are gone there. */
void server_forget_statements(struct server *s);

/* What an idle server says: true when it is still good. */
bool server_on_idle_bytes(struct server *s);

#endif
