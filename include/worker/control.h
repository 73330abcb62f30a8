/* SPDX-License-Identifier: ISC
 *
 * control.h - the control thread: configuration, signals, the monitor, the console's clients.
 *
 * Owns what is decided once for all workers.  Console clients are mailed here after login, so that
 * commands run in one place, one after the other, and gather rows from the workers by mail.
 */
#ifndef PGT_WORKER_CONTROL_H
#define PGT_WORKER_CONTROL_H

#include "worker/worker.h"

enum shutdown_mode {
	SHUTDOWN_NOT,
	SHUTDOWN_WAIT_FOR_CLIENTS, /* no new ones; ends when the last one has left (SIGTERM) */
	SHUTDOWN_WAIT_FOR_SERVERS, /* ends when all transactions have (SIGINT) */
	SHUTDOWN_NOW,              /* SIGQUIT, or a second SIGTERM or SIGINT */
};

struct monitor;
struct console;

struct control {
	struct loop *loop;
	struct net net;
	struct mailbox mailbox;
	struct client_host host; /* of console clients */
	struct config *config;   /* in force */
	const char *config_path; /* NULL: made of --upstream */
	struct tls_context *client_tls, *server_tls;
	struct resolver *resolver;
	struct listener *listeners;
	unsigned nlisteners;
	struct worker *workers;
	unsigned nworkers;
	struct monitor *monitor;
	struct console *console; /* of admin/ */
	enum shutdown_mode shutdown;
	usec_t started_at;
	bool suspended;
};

/* ---- gathering: control thread ---------------------------------------------------------------- */

struct gather;
/* Runs on a worker's thread; what it finds goes into slot, which is zeroed and as large as asked
 * for, and is the worker's own until done(). */
typedef void gather_visit_fn(struct worker *w, void *slot, void *arg);
/* Runs on the control thread when all workers have been visited; slots[i] is worker i's.  Both are
 * freed afterwards, what slots point to is the callee's. */
typedef void gather_done_fn(struct control *c, void **slots, unsigned n, void *arg);

/* arg is shared by all visits: read only until done. */
void control_gather(
    struct control *c, size_t slot_size, gather_visit_fn *visit, gather_done_fn *done, void *arg);

/* ---- what the console and signals ask for: control thread --------------------------------------- */

/* Reads the configuration again; all or nothing (I8).  False: *e says why, the old one stays in
 * force; the log has all problems. */
bool control_reload(struct control *c, struct err *e);
/* SET on the console: a configuration with one setting changed. */
bool control_set(struct control *c, struct slice name, const char *value, struct err *e);
/* Goes as far as mode says; a second call goes further. */
void control_shutdown(struct control *c, enum shutdown_mode mode);
/* Stops accepting and reading from clients; and the way back. */
void control_suspend(struct control *c, bool on);

#endif
