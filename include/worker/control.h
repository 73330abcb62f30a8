/* SPDX-License-Identifier: ISC
 *
 * control.h - the control thread: configuration, signals, the monitor, the console's clients.
 *
 * Owns what is decided once for all workers.  Console clients are mailed here after their startup
 * packet, so that commands run in one place, one after the other, and gather rows from the workers
 * by mail.
 *
 * Everything here runs on the control thread, which is the process's first one.
 */
#ifndef PGT_WORKER_CONTROL_H
#define PGT_WORKER_CONTROL_H

#include "wire/cancel_key.h"
#include "worker/state.h"
#include "worker/worker.h"

#include <stdatomic.h>

struct console;
struct control;
struct http;
struct jury;
struct monitor;
struct node_sets;
struct notifier;
struct offer;
struct peers;
struct pidfile;
struct secret_source;
struct takeover;
struct tenant_source;

enum shutdown_mode {
	SHUTDOWN_NOT,
	SHUTDOWN_TAKEN_OVER,       /* another process has the listening sockets: as the next */
	SHUTDOWN_WAIT_FOR_CLIENTS, /* no new ones; ends when the last one has left (SIGTERM) */
	SHUTDOWN_WAIT_FOR_SERVERS, /* ends when all transactions have (SIGINT) */
	SHUTDOWN_NOW,              /* SIGQUIT, or a second SIGTERM or SIGINT */
};

enum control_state { CONTROL_IS_READY, CONTROL_RELOADS, CONTROL_STOPS };

/* What stands above this folder and is called from here. */
struct control_hooks {
	/* The console, see admin/console.h. */
	void (*console_start)(struct control *c);
	void (*console_stop)(struct control *c);
	bool (*console_enter)(struct control *c, struct client *client, struct err *e);
	void (*console_pause)(struct control *c);
	void (*console_resume)(struct control *c);
	/* Metrics, see http/http.h. */
	void (*http_start)(struct control *c);
	void (*http_stop)(struct control *c);
	/* For whoever supervises the process. */
	void (*tell)(enum control_state state);
	/* The process that is to be watched, and that the pidfile names, is this one now: ourselves
	 * or who has taken over. */
	void (*hand_on)(struct pidfile *pidfile, pid_t pid);
	/* What http/ listens on, and what http_listen calls it; -1: nothing. */
	int (*http_socket)(const struct http *http, const char **name);
	void (*http_rest)(struct control *c);
};

/* How the process was started; strings and hooks must outlive it. */
struct control_options {
	struct setup_source source;
	unsigned verbosity; /* -v on the command line; `verbose` may ask for more */
	bool log_to_stderr;
	const struct control_hooks *hooks;
	struct http *http;       /* of http/; NULL: it serves nothing */
	struct pidfile *pidfile; /* of main/ */
	const char *pidfile_path;
	int pidfile_lock;    /* its descriptor, or -1 */
	struct offer *offer; /* of the process that is taken over from; NULL: there is none */
};

/* Who logs in takes one, by the hash of its group: two groups rarely share a counter, and may. */
#define CONTROL_NTICKETS 256

struct control {
	struct control_options options;
	struct loop *loop;
	struct net net;
	struct mailbox mailbox;
	struct setup setup;      /* in force */
	struct config *config;   /* the setup's, borrowed */
	struct client_host host; /* of console clients */
	struct resolver *resolver;
	struct listeners listeners;
	struct node_sets *node_sets;
	struct mail newcomers;     /* a set of nodes that is to be watched … */
	atomic_bool has_newcomers; /* … is under way */
	unsigned editions;         /* of the configuration */
	struct worker *workers;
	unsigned nworkers;
	struct monitor *monitor;
	struct tenant_source *tenant_source;
	struct secret_source *secret_source;
	struct jury *jury;
	struct notifier *notifier;
	struct peers *peers;
	struct cancel_keys keys;                    /* from the start on */
	_Atomic unsigned tickets[CONTROL_NTICKETS]; /* logins of pools that workers share */
	struct takeover *takeover;
	atomic_bool has_predecessor; /* it has taken over from another process, which still lives */
	atomic_bool has_successor;   /* one that can be asked for cancel keys has taken over */
	atomic_bool gives_servers;   /* … and takes servers, too */
	_Atomic unsigned nstrays;    /* sessions whose cancel key names another worker */
	struct console *console;     /* of admin/ */
	struct state state;          /* what outlives the process */
	struct loop_timer sweep;
	usec_t swept_at;         /* what is left out of the log and of events was looked at */
	struct loop_timer quiet; /* looks whether a shutdown has nothing left to wait for */
	unsigned ngathers;       /* under way */
	enum shutdown_mode shutdown;
	usec_t drains_since;        /* a shutdown that waits */
	struct loop_timer deadline; /* shutdown_timeout, and after it the end */
	bool is_overdue;            /* shutdown_timeout is over */
	usec_t started_at;
	bool suspended;
	bool is_over; /* console clients that still come by mail are turned away */
};

/* ---- for main ----------------------------------------------------------------------------------
 */

/* Opens the log that a configuration asks for.  False: *e says which file. */
bool control_open_log(const struct control_options *options, const struct config *config,
		      struct err *e);

/* Serves until it is told to stop, and frees everything.  Takes the setup and the open listeners;
 * no other thread may run yet.  Signals that the caller has blocked are handled as soon as they can
 * be. */
void control_run(const struct control_options *options, struct setup *setup,
		 const struct listeners *listeners);

/* ---- gathering ---------------------------------------------------------------------------------
 */

/* Runs on a worker's thread; what it finds goes into slot, which is zeroed and as large as asked
 * for, and is the worker's own until done(). */
typedef void gather_visit_fn(struct worker *w, void *slot, void *arg);
/* Runs on the control thread when all workers have been visited; slots[i] is worker i's.  Both are
 * freed afterwards, what slots point to is the callee's. */
typedef void gather_done_fn(struct control *c, void **slots, unsigned n, void *arg);

/* arg is shared by all visits: read only until done.  done() is never called before this returns,
 * and always before the console is stopped. */
void control_gather(struct control *c, size_t slot_size, gather_visit_fn *visit,
		    gather_done_fn *done, void *arg);

/* ---- what the console and signals ask for ------------------------------------------------------
 */

/* Reads the configuration and certificates again; all or nothing (I8).  False: *e says why, the old
 * one stays in force; the log has all problems. */
bool control_reload(struct control *c, struct err *e);
/* SET on the console: a configuration with one setting changed. */
bool control_set(struct control *c, struct slice name, const char *value, struct err *e);
/* SET TENANT and the like: one more change, or (text NULL) one or all of the owner's less. */
bool control_change(struct control *c, enum setting_scope scope, const char *owner,
		    const char *name, const char *text, struct err *e);
/* Goes as far as mode says; when it is on that way or further already, it ends at once.  Whatever
 * it waits for, it ends when shutdown_timeout is over. */
void control_shutdown(struct control *c, enum shutdown_mode mode);
/* Another process serves from now on: takes no more clients, ends when the last one has left or
 * takeover_timeout is over.  Or it does no more, and this one is back. */
void control_hand_over(struct control *c, bool on);
/* It ends or hands on, and this one will not be back: lets go of the sockets that both have, so
 * that they are closed when nobody serves them. */
void control_let_go(struct control *c);
/* Or it does no more, and this one is not back: whom it still has, it keeps until they leave. */
void control_keep_sessions(struct control *c);
/* Stops accepting and reading from clients; and the way back. */
void control_suspend(struct control *c, bool on);

#endif
