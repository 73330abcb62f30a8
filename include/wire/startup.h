/* SPDX-License-Identifier: ISC
 *
 * startup.h - the packets that open a connection, which have no type byte.
 *
 * Source: PostgreSQL manual, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest,
 * CancelRequest; limits as in src/backend/tcop/postmaster.c.
 */
#ifndef PGT_WIRE_STARTUP_H
#define PGT_WIRE_STARTUP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* A longer one is refused before it is read (MAX_STARTUP_PACKET_LENGTH of PostgreSQL). */
#define STARTUP_MAX_LEN 10000
/* 3.2 allows cancel keys of 4 to 256 bytes. */
#define CANCEL_KEY_MAX 256

#define PROTOCOL_MAJOR 3
/* The newest minor version that we speak with clients. */
#define PROTOCOL_MINOR_MAX 2

enum startup_kind { STARTUP_SESSION, STARTUP_CANCEL, STARTUP_SSL, STARTUP_GSSENC };

/* What the parameter "replication" makes of a session. */
enum replication {
	REPLICATION_NONE,
	REPLICATION_PHYSICAL, /* of the whole cluster: no database, no SQL */
	REPLICATION_LOGICAL,  /* of a database, with SQL */
	REPLICATION_NKINDS
};

struct startup {
	enum startup_kind kind;
	size_t len;          /* of the whole packet */
	uint16_t minor;      /* of a session: asked for */
	struct slice params; /* of a session: pairs of strings, ended by an empty name */
	uint32_t cancel_pid; /* of a cancel */
	struct slice cancel_key;
};

/* STEP_DONE: *out is filled and borrows p.  STEP_AGAIN: more bytes are needed.  STEP_CLOSED: not a
 * startup packet, *e says why; the connection must be closed. */
enum step startup_parse(const char *p, size_t n, struct startup *out, struct err *e) PGT_MUST_USE;

/* Walks the parameters: set *at to params first; false at the end. */
bool startup_next_param(struct slice *at, struct slice *name, struct slice *value);

/* Walks the value of the parameter "options" as PostgreSQL's pg_split_opts() and
 * process_postgres_switches() do: `-c name=value`, `-cname=value`, `--name=value` (dashes of the
 * name are underscores), blanks end a word, a backslash quotes.  Each setting goes to name and
 * value, which are cleared first and owned by the caller. STEP_DONE: one setting was read;
 * STEP_AGAIN: the end; STEP_CLOSED: a switch that is not a setting, or no '='. */
enum step options_next(struct slice *at, struct buf *name, struct buf *value,
		       struct err *e) PGT_MUST_USE;
/* Appends `-c name=value` with blanks and backslashes quoted, for a startup packet of ours. */
void options_put(struct buf *b, const char *name, const char *value);

/* Reads the value of the parameter "replication" as PostgreSQL does: `database` or a boolean.
 * False: it is neither. */
bool replication_parse(struct slice value, enum replication *out);
/* The value that asks for it; "" for none. */
const char *replication_value(enum replication replication);

/* NegotiateProtocolVersion for a session that asked for more than we speak or for options of the
 * protocol (`_pq_.…`); nothing is written and false returned when it asked for neither. */
bool startup_negotiate(const struct startup *s, struct buf *out);

#endif
