/* SPDX-License-Identifier: ISC
 *
 * client.h - one connection of an application.
 *
 * From accept to the end of login this folder drives it (startup.c, identity.c, login.c); then the
 * host's handlers do: the relay's, or the console's.
 *
 * Belongs to one thread at a time: it is mailed to its group's home worker once the startup packet
 * has told which that is.
 */
#ifndef PGT_CLIENT_CLIENT_H
#define PGT_CLIENT_CLIENT_H

#include "auth/networks.h"
#include "auth/userlist.h"
#include "base/log.h"
#include "client/identity.h"
#include "client/strangers.h"
#include "net/conn.h"
#include "pool/pool.h"
#include "stats/queries.h"

struct admission;
struct client;
struct client_login;
struct client_statements;
struct directory;
struct listening;
struct session_notes;
struct relay;
struct server;
struct statement;
struct tls_context;
struct whose;

#define CLIENT_PHASES(X)                                                                           \
	X(STARTUP) /* no startup packet yet */                                                     \
	X(AUTH)    /* has to prove who it is */                                                    \
	X(WELCOME) /* waits for a server to tell what to report */                                 \
	X(READY)   /* a session */                                                                 \
	X(CLOSING)

enum client_phase {
#define X(name) CLIENT_##name,
	CLIENT_PHASES(X)
#undef X
	    CLIENT_NPHASES
};

/* What others say of a password that is not ours to judge. */
enum judgement { JUDGED_NOT /* nobody could say */, JUDGED_WRONG, JUDGED_GOOD };

/* Such a password. */
struct client_claim {
	enum auth_type way; /* who judges it */
	const char *user;
	struct slice password;
	struct config *config;             /* of which the next ones are a part */
	const char *service;               /* of PAM */
	const struct directory *directory; /* of LDAP */
};

/* The secret of a client's cancel key: 4 bytes for protocol 3.0, 32 for 3.2, as PostgreSQL's. */
#define CLIENT_KEY_SHORT 4
#define CLIENT_KEY_LONG  32

/* What happens to a session. */
struct client_events {
	void (*readable)(struct client *c);
	void (*drained)(struct client *c);
	/* It hung up, or is being ended (why): let go of what it has; the rest is done here. */
	void (*leaving)(struct client *c);
};

/* What a thread that has clients offers them. */
struct client_host {
	struct net *net;
	void *owner;             /* the worker */
	struct relay *relay;     /* NULL: the control thread's */
	struct config *config;   /* in force */
	struct tls_context *tls; /* of client connections, or NULL */
	struct list newcomers;   /* clients without a group */
	unsigned nnewcomers;
	struct scram_cache *scram_cache;
	/* The startup packet is read: gives the client a home, here or by mail, and calls
	 * client_login_begin() there. */
	void (*find_home)(struct client *c);
	/* A tenant of this name or id is not known: looks it up in the database.
	 * client_tenant_told(), or in a session whose_tenant_told(), is called later on. */
	void (*seek_tenant)(struct client *c, struct slice said);
	/* It is gone while it logged in, and waits no more for that. */
	void (*withdraw_tenant)(struct client *c);
	/* The user that it logs in as is not in auth_file: looks it up in the database.
	 * client_secret_told() is called later on. */
	void (*seek_secret)(struct client *c);
	/* It is gone, and waits no more for what was found there. */
	void (*withdraw_secret)(struct client *c);
	/* It could not prove who it is with what was found there. */
	void (*doubt_secret)(struct client *c);
	/* Others judge its password: client_judged() is called later on. */
	void (*seek_verdict)(struct client *c, const struct client_claim *claim);
	/* It is gone, and waits no more for that. */
	void (*withdraw_verdict)(struct client *c);
	/* A request to cancel what the holder of this key does.  The asker's connection is closed
	 * when it has been passed on, not before: what the holder sends after that close must not
	 * be hit (I7). */
	void (*cancel)(struct client *asker, uint32_t pid, struct slice secret);
	/* It has proved who it is: finds its group, sets c->on and c->group, and calls
	 * client_welcome() once it is known what to report.  False: *e tells why it is refused. */
	bool (*enter)(struct client *c, struct err *e);
	/* Draws a key for it that is unique among the workers. */
	void (*assign_key)(struct client *c);
	/* It has one already, of another process. */
	void (*keep_key)(struct client *c);
	/* It is gone. */
	void (*forget_key)(struct client *c);
};

/* What few sessions ever have.  It is made with the first of it, and goes with the client. */
struct client_rare {
	struct statement *begun; /* of its transaction, that reads on a replica and may go on on the
				  * primary: its BEGIN; else NULL */
	struct listening *listening;     /* NULL: it listens on nothing */
	struct named_portal *named;      /* that it bound to a text with names, or NULL */
	struct putback_portal *putbacks; /* that will take settings back; NULL: none */
	struct session_notes *notes;     /* of its pins; NULL: it never had any */
	struct sql_stream_guard *guard;  /* watches a text that is too long to be held */
	void *console;                   /* of the admin console */
	uint64_t fence;        /* of its writes, with read_your_writes = session: route/fence.h */
	uint64_t path_changes; /* times that path_unsure was set */
	usec_t lost_at; /* when it last lost a server that had got nothing of its request … */
	usec_t losing_since;            /* … and the first of those in a row … */
	uint8_t losses;                 /* … and how many they are */
	bool was_sent_on;               /* from one queue to wherever it waits next, where … */
	usec_t waited, waited_in_limbo; /* … this counts: for a server, and for a primary */
	uint32_t lost; /* what it has left on a replica, and is to be told of: enum pin_reason */
	bool stays;    /* another process cannot have its session */
	unsigned observed_node;   /* with .is_observed: where it would be … */
	int64_t observed_process; /* … and the process that it was there */
	uint8_t secret[CLIENT_KEY_LONG];
};

/* Thousands of them are idle: what only those have that do something stands elsewhere (.waiter,
 * .admission, .rare), as far as it is not needed by each query. */
struct client {
	struct conn conn;
	struct client_host *host;
	const struct client_events *on; /* of a session; NULL before */
	struct list link;               /* of host->newcomers, or group->clients */
	struct list begin_link;         /* of relay.deferred */
	struct hlink by_pid;
	struct client_login *login; /* until it is ready */
	struct group *group;
	struct tenant *tenant;       /* whose statements these are, or NULL */
	struct whose *whose;         /* it may choose its tenant; else NULL */
	struct tenant *claimant;     /* of whose limits it holds .claims; a reference, or NULL */
	struct server *server;       /* it has, or NULL */
	struct waiter *waiter;       /* in a pool's queue, or NULL */
	struct admission *admission; /* it waits to begin a transaction; else NULL */
	struct lane *lane;           /* that its transaction has said in a comment, or NULL */
	struct pool *chosen;         /* where its request goes, or NULL: not decided */
	struct param_set *base;      /* settings that its session began with */
	struct param_set *wanted;    /* settings of its session now */
	struct param_set *told;      /* what it knows of the server's parameters */
	struct client_statements *statements; /* NULL: it never prepared one */
	struct statement *begin; /* of its transaction: answered, but not sent yet; else NULL */
	const struct client_rare *rare; /* never NULL; written by client_make_rare() */
	char *user;                     /* as it said it */
	uint64_t id;
	usec_t connected_at;
	usec_t request_at;
	usec_t begin_at;          /* when .begin was answered */
	uint64_t sequence_server; /* where it has advanced sequences last; 0: nowhere */
	uint64_t env_meaning;     /* of the functions and DDL that env_key is made with */
	uint64_t env_key;      /* equal for clients to whom a text means the same, when env_known */
	int64_t covered_by;    /* the process of the replica that was chosen because it has what was
				* written; 0: any will do */
	uint64_t bound_portal; /* a digest of the portal that .bound is for; 0: the unnamed */
	uint32_t stream_left;  /* bytes of the message under way that are still to come */
	struct query_ref asks; /* the shape of its Query … */
	struct query_ref bound; /* … and of the statement that it bound last */
	uint32_t pid;           /* of its cancel key; 0: none yet */
	uint32_t pins;          /* why it keeps its server: bits of enum pin_reason */
	uint32_t touched; /* what it may have left on the server that it has: the same bits … */
	uint32_t prepared_effects; /* of all texts that it gave PREPARE of SQL: enum sql_effect */
	unsigned prepaid;          /* Executes that were charged when their batch began */
	uint16_t last_shape;       /* of its texts: sql/shape.h */
	uint8_t secret_len;
	union {
		struct {
			uint8_t xact; /* of the transaction under way: bits XACT_… of the relay */
			uint8_t claims; /* of its tenant's limits: bits CLAIM_… of the relay */
			/* Set anew by many queries: a byte takes fewer instructions than a bit. */
			bool skips_to_sync; /* an error was answered here: nothing counts up to its
					     * Sync */
			bool in_batch;      /* extended messages without their Sync yet */
			bool counts_tags;   /* each statement of the Query under way costs a token
					     * when it has run */
			bool turn_missed;   /* has a request that waits for the answers before it */
			/* The others. */
			bool owes_snapshot : 1; /* its transaction has run or parsed a query that
						 * no server knows */
			bool resets : 1;        /* what it began with has to be set again before its
						 * ReadyForQuery */
			bool cancel_asked : 1;  /* to be forwarded as soon as it may */
			bool reads_sequence : 1; /* the transaction under way asks for currval() or
						  * lastval() */
			bool makes_temp : 1;     /* … has made a temporary object */
			bool sets_locally : 1;   /* … may have set something for as long as it
						  * lasts */
			bool defines : 1;        /* … or defines what tags do not tell of */
			bool path_unsure : 1; /* what names of tables mean is being changed in it */
			bool env_unsure : 1;  /* a text that was not read is under way, and may
					       * change how texts are read */
			bool begin_failed : 1;     /* the transaction of .begin has failed here */
			bool begin_due : 1;        /* .begin goes out by itself: there has been no
						    * statement for it */
			bool begin_has_portal : 1; /* the unnamed one is its own: of the
						    * extended protocol */
			bool begin_promotes : 1;   /* it may read on a replica first:
						    * relay/promote.h */
			bool was_rescued : 1;      /* it has come back from there, and goes to the
						    * primary */
			bool is_observed : 1;      /* its transaction would be on a replica, but for
						    * route_mode */
			bool is_serializable : 1;  /* its transactions are, unless they say
						    * otherwise: so no replica runs them */
		};
		uint8_t unusual[8]; /* all of these, to be compared with nothing at once */
	};
	uint8_t phase;    /* enum client_phase */
	uint8_t stranger; /* enum stranger: how it is counted */
	uint8_t reads;    /* whether its request is proven to read only: enum reads of the relay */
	uint8_t prepared_sequence;        /* as prepared_effects: enum sql_sequence */
	uint8_t secret[CLIENT_KEY_SHORT]; /* a long one is in .rare */
	/* As above. */
	bool repeats;   /* its request begins with an unnamed statement that servers may have */
	bool looked_at; /* its request may be sent as it is, when the queue has a server for it */
	bool batch_goes_on; /* its batch may leave a transaction or a COPY under way */
	bool bound_end; /* the last Bind of it was of a COMMIT or ROLLBACK, by the unnamed portal */
	bool batch_ends;     /* … and the last Execute */
	bool has_cut_answer; /* the end of the message that it was being sent will not come */
	bool only_reads;     /* its transaction has, so far: early_commit */
	/* The others. */
	bool stream_discard : 1;  /* the bytes of stream_left go nowhere; else to the server */
	bool unnamed_is_read : 1; /* its unnamed statement, where names are not mapped */
	bool counted : 1;         /* in shared_clients and the shared records */
	bool is_routed : 1;       /* its request goes to a replica, and has not gone yet */
	bool batch_is_plain : 1;  /* so has its batch, and nothing in it has changed what that means
				   */
	bool batch_has_parsed : 1; /* an unnamed statement */
	bool batch_has_bound : 1;  /* any */
	bool said_goodbye : 1;     /* with Terminate, not by hanging up */
	bool has_discarded : 1;    /* .resets, with the role that DISCARD ALL has brought back */
	bool has_reset : 1;        /* … and what takes it back is on its way */
	bool keeps_sequence : 1;   /* it has asked for currval() or lastval() */
	bool may_say_lane : 1;     /* its texts may say in which lane they run */
	bool begin_reads : 1;      /* a replica will do for the transaction of .begin */
	bool begin_stays : 1;      /* it asks for the primary, or has come there */
	bool asks_plainly : 1;     /* its last request there has left nothing that the primary would
				      lack */
	bool env_known : 1;        /* env_key and the two below hold for .told */
	bool env_standard_strings : 1;
	bool env_ascii_safe : 1;
	bool env_is_utf8 : 1;
};

/* A session whose request, if it has one, is not part of anything: no batch, no limit, nothing that
 * its transaction or its BEGIN would leave.  One comparison; pointers and .touched, .pins are not
 * in it. */
static inline bool client_is_usual(const struct client *c)
{
	uint64_t unusual;

	_Static_assert(sizeof(c->unusual) == sizeof(unusual), "one word");
	memcpy(&unusual, c->unusual, sizeof(unusual));
	return !unusual && c->phase == CLIENT_READY;
}

/* What few have, to be written. */
struct client_rare *client_make_rare(struct client *c);

/* Where the secret of its cancel key is, .secret_len bytes. */
uint8_t *client_secret(struct client *c);

/* It has proved who it is. */
void client_vouch(struct client *c);

/* A new connection: a stranger, or one too many of them (->stranger). */
struct client *client_new(struct client_host *host, int fd, const struct addr *peer);
/* It has come when the process was about to end: it may cancel, or be on the console. */
void client_came_late(struct client *c);
/* Newcomers that such a process waits for: those that have not come late. */
unsigned client_count_awaited(const struct client_host *host);
/* Closes them with an error, but for cancel requests, which nobody answers; returns how many. */
unsigned client_close_awaited(struct client_host *host, const struct err *e);

/* A session of another process: its socket, and what it takes along, which is taken.  It goes the
 * way of a login that has been proved. */
void client_arrive(struct client_host *host, int fd, struct passport *passport);
/* What it takes along, until it is ready; NULL: it has begun here. */
const struct passport *client_passport(const struct client *c);
/* It has taken it along: the session goes on. */
void client_go_on(struct client *c);

/* For lines in the log; its address goes into *room. */
struct log_about client_about(const struct client *c, char room[LOG_ADDRESS_MAX]);

/* Ends it: an error for the peer (NULL: none), then the goodbye.  Safe in any phase and from any
 * handler; leaving() is called first. */
void client_close(struct client *c, const struct err *error, const char *why);

/* The same for one that there is no room for while it reads the error: it is not waited for. */
void client_dismiss(struct client *c, const struct err *error, const char *why);

/* The same without an error of ours, when it has all that it should hear in what is unsent. */
void client_close_politely(struct client *c, const char *why);

/* What it seeks is known now, if anybody knows it; why_not: nobody could be asked. */
void client_tenant_told(struct client *c, const struct err *why_not);
/* What was found of its user; takes the entry, NULL: nobody.  usual: the kind of secret that others
 * have; why_not: NULL, or nobody could be asked. */
void client_secret_told(struct client *c, struct userlist_entry *entry, enum password_kind usual,
			const struct err *why_not);
/* What was said of its password. */
void client_judged(struct client *c, enum judgement verdict);
/* In the home thread: asks for proof. */
void client_login_begin(struct client *c);
/* Proved, entered, and told what to report: the first ReadyForQuery. */
void client_welcome(struct client *c, struct param_set *told);

/* Moving to another thread: between the two only the mail holds it. */
void client_release(struct client *c);
void client_adopt(struct client *c, struct client_host *host);

/* Of those who have no group yet, by number; NULL: it is gone. */
struct client *client_find_newcomer(const struct client_host *host, uint64_t id);
/* Ends clients that take too long to log in. */
void client_sweep_newcomers(struct client_host *host, usec_t now);

/* For enter(): gives the group what the login has shown, so that its servers can be logged in to.
 */
void client_lend_secret(const struct client *c, struct group *group);

/* Where it comes from, for rules and lists. */
struct net_origin client_from(const struct client *c);

/* What it asked for at startup; until it is ready. */
const struct identity *client_identity(const struct client *c);
/* For find_home: which part of a pool that several workers share it comes to. */
void client_choose_part(struct client *c, unsigned part);

/* The user `pgturnstile` or `pgbouncer` on a Unix socket with our own uid: on the console it needs
 * neither a password nor an entry in admin_users, as PgBouncer's. */
bool client_is_ourselves(const struct client *c);

#endif
