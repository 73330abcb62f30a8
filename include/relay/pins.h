/* SPDX-License-Identifier: ISC
 *
 * pins.h - what a session leaves on its server: what can be carried is, what cannot keeps the
 * server with its client (a pin).
 *
 * A text tells what it may leave (sql/scan.h); whether it did, and whether it is still there, the
 * server is asked at the end of the transaction (survey.c).  So a pin ends when its reason does.
 *
 * A replica's server is kept by nobody: the session's next write would fail there.  What might need
 * that is run on the primary (promote.c), or refused.
 *
 * All on the thread of the client's group.
 */
#ifndef PGT_RELAY_PINS_H
#define PGT_RELAY_PINS_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct client;
struct err;
struct server;
struct sql_facts;
struct statement;

/* Reasons.
 *     X(enumerator, name, ask, reset, help)
 *
 * ask    whether there is any left: the condition that a survey asks; NULL: nothing tells, the pin
 *        lasts as long as the session, or to its DISCARD ALL
 * reset  what clears the server for another client; "": nothing is there to be cleared; NULL:
 *        nothing clears it, the connection is closed
 */
#define PIN_REASONS(X)                                                                             \
	X(PREPARED, "prepared", "SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql",    \
	  "DEALLOCATE ALL", "PREPARE of SQL.")                                                     \
	X(LISTEN, "listen", "SELECT FROM pg_catalog.pg_listening_channels()", "UNLISTEN *",        \
	  "LISTEN.")                                                                               \
	X(TEMP, "temp",                                                                            \
	  "SELECT FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 2615 AND "     \
	  "refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()",                        \
	  "DISCARD TEMP", "A temporary table, view, sequence, function or type.")                  \
	X(ADVISORY_LOCK, "advisory_lock",                                                          \
	  "SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND "  \
	  "pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",                                \
	  "SELECT pg_catalog.pg_advisory_unlock_all()", "An advisory lock of the session.")        \
	X(CURSOR, "cursor", "SELECT FROM pg_catalog.pg_cursors WHERE is_holdable", "CLOSE ALL",    \
	  "A cursor WITH HOLD.")                                                                   \
	X(SETTING, "setting", NULL, RESET_SETTINGS,                                                \
	  "A setting whose name or value could not be read.")                                      \
	X(SEQUENCE, "sequence", NULL, "DISCARD SEQUENCES",                                         \
	  "currval() or lastval() of the session.")                                                \
	X(LIBRARY, "library", NULL, NULL, "LOAD.")                                                 \
	X(DBLINK, "dblink", NULL, NULL, "A named connection of dblink.")                           \
	X(SEED, "seed", NULL, NULL, "The seed of random().")                                       \
	X(UNMAPPED, "unmapped", NULL, "DEALLOCATE ALL",                                            \
	  "A named statement, with `max_prepared_statements = 0`.")                                \
	X(UNKNOWN, "unknown", NULL, NULL, "What is left could not be asked.")                      \
	X(BACKEND_PID, "backend_pid", NULL, "", "pg_backend_pid(), with `backend_pid = pin`.")     \
	X(REPLICATION, "replication", NULL, NULL, "A replication connection.")

/* Settings as the session began with them, its role too. */
#define RESET_SETTINGS "SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL"

enum pin_reason {
#define X(name, ...) PIN_##name,
	PIN_REASONS(X)
#undef X
	    NPINS
};

#define PIN_BIT(reason) (1u << (reason))

/* What else client.touched and server.tainted tell. */
enum {
	/* Settings by name (session_notes.names), or any. */
	TOUCHED_NAMED = 1 << NPINS,
	TOUCHED_SETTINGS = 1 << (NPINS + 1),
	/* Code has run whose text does not show what it set: DO, CALL, what pins_note_unseen() is
	   for. */
	TAINT_UNSEEN = 1 << (NPINS + 2),
	/* A session of session pooling: server_reset_query. */
	TAINT_SESSION = 1 << (NPINS + 3),
};

struct pin {
	usec_t since;    /* monotonic; 0: it is none yet */
	char *statement; /* the beginning of the text that made it */
};

/* SET of one setting, alone in its text and its transaction. */
struct said {
	char *name;
	char *text;
};

/* As many are remembered, so that the same again needs no server. */
#define SAID_MAX 4

/* What is remembered of a session whose texts have touched something. */
struct session_notes {
	struct buf names; /* of settings touched since the last survey, each with its NUL */
	struct pin pins[NPINS];
	struct said saying;         /* under way */
	struct said said[SAID_MAX]; /* in force as they stand there; the last one first */
};

/* Bytes of them; a client with more is not carried. */
#define SETTING_NAMES_MAX 4096

const char *pin_name(enum pin_reason reason);
const char *pin_help(enum pin_reason reason);
/* The condition of a survey, or NULL. */
const char *pin_question(enum pin_reason reason);
/* Appends what clears a server of all this, as one Query.  False: nothing does. */
bool pins_put_reset(uint32_t mask, struct buf *sql);

/* Why this client keeps its server, or NULL. */
const struct pin *client_pin(const struct client *c, enum pin_reason reason);

/* A text goes to the client's server. */
void pins_note(struct client *c, const struct sql_facts *facts, struct slice text);
/* Something runs that no text tells, as one that is too long to be read. */
void pins_note_unseen(struct client *c);
/* A function is called by its OID. */
void pins_note_call(struct client *c, uint32_t oid);
/* Whether such a one is known to leave nothing behind. */
bool pins_is_harmless_call(uint32_t oid);
/* A named statement that is not followed. */
void pins_note_unmapped(struct client *c, struct slice text);
/* The server has run a DISCARD ALL, or DISCARD SEQUENCES, of its client. */
void pins_discarded(struct client *c, bool all);
/* The client keeps its server from now on for these reasons and no others. */
void pins_set(struct client *c, uint32_t mask);
/* Whether the text may leave what keeps the session at its server, whichever that is. */
bool pins_may_tie(const struct sql_facts *facts);
/* It has, on a replica, where nobody is kept: it is lost, which the client is told instead of an
 * answer to its next request. */
void pins_lose(struct client *c, uint32_t mask);
/* Of a client that is to be told so: what it is told. */
void pins_put_lost(struct client *c, struct err *e);
/* Whether the text may be given to the server that the client has: not what ties the session to a
 * replica, nor what session_state = reject forbids.  False: *e. */
bool pins_allow(const struct client *c, const struct sql_facts *facts, struct err *e);
/* The same of a named statement that is not followed. */
bool pins_allow_unmapped(const struct client *c, struct err *e);
/* A survey has ended: what was being said is in force, or nothing is known of that any more. */
void pins_said(struct client *c, bool is_in_force);
/* Whether this very SET is in force. */
bool pins_has_said(const struct client *c, struct slice text);
/* The client leaves. */
void pins_forget(struct client *c);

#endif
