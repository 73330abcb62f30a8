/* SPDX-License-Identifier: ISC
 *
 * parts.h - what the files of admin/ need of each other.  Private to the folder.
 */
#ifndef PGT_ADMIN_PARTS_H
#define PGT_ADMIN_PARTS_H

#include "admin/console.h"
#include "admin/show.h"

/* Counters of all databases at one moment, for averages. */
struct sample {
	struct table counters; /* of show_counters; no layout: none was taken */
	usec_t at;
};

struct console {
	struct control *control;
	struct list sessions;
	unsigned nsessions;
	struct param_sets params;
	struct param_set *welcome; /* what its clients are told of the server */
	struct counters counters;  /* of its own clients */
	struct list errands;       /* that are repeated until they find nothing */
	struct loop_timer errand_timer;
	bool errand_timer_runs;
	struct list holds; /* databases that are paused or disabled */
	bool paused;       /* PAUSE of everything */
	struct loop_timer stats_timer;
	struct sample newer, older; /* one and two periods old, at most */
};

/* ---- session.c: one client's conversation ------------------------------------------------------
 */

struct session;

/* What a client is in the middle of. */
struct portal {
	struct list link; /* of session.portals */
	char *name;
	struct command cmd;
	struct table rows; /* no layout: it has not been run */
	struct show_rest rest;
	unsigned next;   /* row to be sent */
	unsigned wanted; /* rows, for now */
	formats_t formats;
};

struct session {
	struct list link; /* of console.sessions */
	struct console *console;
	struct client *client;
	struct list statements, portals;
	unsigned nstatements, nportals;
	struct portal simple;  /* of a simple Query */
	struct portal *portal; /* a command runs, or its rows are being sent; NULL: none */
	bool sends_rows;
	bool is_admin;
	bool is_simple;            /* the command under way came as a Query */
	bool skips_to_sync;        /* an extended message failed */
	size_t skip;               /* bytes of a message that is too long */
	void (*forget)(void *arg); /* see session_wait() */
	void *forget_arg;
};

/* Takes over a client that may come in. */
void session_start(struct console *console, struct client *c, bool is_admin);

/* Exactly one of these answers a command; it may be called from the command's handler or later. */
void session_complete(struct session *s, const char *tag);
void session_fail(struct session *s, const struct err *e);
/* Between a command and its answer: who is told, once, when the client goes away. */
void session_wait(struct session *s, void (*forget)(void *arg), void *arg);

/* ---- act.c: commands that do something ----------------------------------------------------------
 */

typedef void command_fn(struct session *s, const struct command *cmd);
/* By enum command_id; show and select are session.c's own. */
extern command_fn *const command_handlers[NCOMMANDS];

/* An errand: what each worker does on its own thread before a command is answered. */
enum errand_end {
	ERRAND_ONCE,
	ERRAND_FINDS,      /* fails when no worker found anything */
	ERRAND_UNTIL_NONE, /* repeated until no worker does */
};

struct errand {
	struct list link;        /* of console.errands */
	struct session *session; /* NULL: it is gone */
	const char *tag;
	/* On each worker's thread; returns how much it found. */
	unsigned (*visit)(struct relay *r, const struct errand *errand);
	enum errand_end end;
	/* Nothing is found any more, or it is given up; it may still fail.  NULL: nobody asks. */
	void (*over)(struct control *control, struct errand *errand);
	char name[COMMAND_MAX_WORD]; /* of a database or tenant; "": all */
	uint64_t client_id;
	struct err failure; /* why it is given up, if it is */
	bool is_out;        /* workers are at it */
};

struct errand *run_errand(struct console *console, struct session *s, const char *tag,
			  const char *name, enum errand_end end,
			  unsigned (*visit)(struct relay *r, const struct errand *errand));
/* One that still waits for the database or tenant ("": for any) is ended by RESUME. */
void give_up_errands(struct console *console,
		     unsigned (*visit)(struct relay *r, const struct errand *errand),
		     const char *name);
/* The answer, when all workers know of what was done here. */
void answer_after_workers(struct session *s, const char *tag);
/* Whether a command may be about this database ("": all); what: PgBouncer's verb, for the message.
 * False: it has been answered. */
bool check_database(struct session *s, const char *name, const char *what);

/* ---- set_node.c ---------------------------------------------------------------------------------
 */

void set_node(struct session *s, const struct command *cmd);

/* ---- switch.c: tenants' settings, and switches --------------------------------------------------
 */

void set_tenant(struct session *s, const struct command *cmd);
void pause_tenant(struct session *s, const struct command *cmd);
void resume_tenant(struct session *s, const struct command *cmd);
void kill_tenant(struct session *s, const struct command *cmd);
command_fn command_reset, command_readonly, command_readwrite, command_maintenance;

/* ---- switchover.c -------------------------------------------------------------------------------
 */

command_fn command_switchover;
/* Ends it, of a database or ("") of all.  False: none was under way. */
bool resume_switchover(struct console *console, const char *database);

/* The console ends: nothing is waited for any more. */
void act_stop(struct console *console);
/* Its last client is gone. */
void act_left_alone(struct console *console);

/* ---- describe.c ---------------------------------------------------------------------------------
 */

/* A word of commands.def as it is written. */
void put_upper(struct buf *out, const char *word);
/* The notice that SHOW HELP is.  topic: a command or a table; "": all of them, briefly. */
void help_put_notice(struct buf *out, const char *topic);

/* ---- show_events.c -----------------------------------------------------------------------------
 */

/* A command has been answered, and not with an error. */
void events_note_command(const struct session *s, const struct command *cmd);
/* The kinds there are, for docs/admin.md. */
void events_describe(struct buf *out);

/* ---- show_stats.c ------------------------------------------------------------------------------
 */

void stats_start(struct console *console);
void stats_stop(struct console *console);

#endif
