/* SPDX-License-Identifier: ISC
 *
 * passport.h - what a session, or a server's connection, takes along to another process, as bytes.
 *
 * A field is its number, its length and its content.  A field that is not there is empty; one that
 * is not known may say what must not be lost, so that the whole is refused.  What is decoded points
 * into the bytes that the passport keeps.  Pure.
 */
#ifndef PGT_WIRE_PASSPORT_H
#define PGT_WIRE_PASSPORT_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* All of a session, once.  Numbers are for ever.
 *     X(number, KIND, name, what it is)
 *
 * TEXT        a string
 * NUMBER      64 bits
 * BYTES       any
 * PAIRS       names and values: passport_next_pair()
 * STATEMENTS  passport_next_statement() */
#define PASSPORT_FIELDS(X)                                                                         \
	X(1, TEXT, database, "as the client says it")                                              \
	X(2, TEXT, user, "the same")                                                               \
	X(3, TEXT, server_user, "on the server")                                                   \
	X(4, TEXT, tenant, "that it began with")                                                   \
	X(5, TEXT, tenant_id, "its id")                                                            \
	X(6, TEXT, session_id, "of the tenant that it has chosen")                                 \
	X(7, NUMBER, pid, "of its cancel key")                                                     \
	X(8, BYTES, secret, "the same")                                                            \
	X(9, NUMBER, connected_at, "by the system's monotonic clock")                              \
	X(10, PAIRS, base, "settings that it began with")                                          \
	X(11, PAIRS, wanted, "settings of the session now")                                        \
	X(12, PAIRS, told, "what it knows of the server's parameters")                             \
	X(13, STATEMENTS, statements, "that it has prepared")                                      \
	X(14, NUMBER, traits, "bits PASSPORT_…")                                                   \
	X(15, NUMBER, prepared_effects, "of texts that it gave PREPARE of SQL")                    \
	X(16, NUMBER, prepared_sequence, "the same")                                               \
	X(17, BYTES, client_key, "of SCRAM, for logins to servers")                                \
	X(18, BYTES, server_key, "the same")                                                       \
	X(19, TEXT, password, "the same, where a secret of the configuration will not do")

#define PASSPORT_KEEPS_SEQUENCE  1 /* it has asked for currval() or lastval() */
#define PASSPORT_LEAVES_SEQUENCE 2 /* it has values of sequences on a server */
#define PASSPORT_STAYS           4 /* it has come back, and does not go again */

/* All of a server's connection that nobody uses, the same way. */
#define SERVER_PASSPORT_FIELDS(X)                                                                  \
	X(1, TEXT, database, "of its pool, as clients say it")                                     \
	X(2, TEXT, user, "on the server")                                                          \
	X(3, TEXT, tenant, "whose its pool is")                                                    \
	X(4, TEXT, tenant_id, "its id")                                                            \
	X(5, TEXT, lane, "of its pool")                                                            \
	X(6, TEXT, host, "of its node, or its directory")                                          \
	X(7, NUMBER, port, "the same")                                                             \
	X(8, NUMBER, sslmode, "by which it is in the clear")                                       \
	X(9, NUMBER, startup, "a digest of its startup packet")                                    \
	X(10, NUMBER, traits, "bits SERVER_PASSPORT_…")                                            \
	X(11, NUMBER, default_timeout, "of statements there, by default: milliseconds, and 1")     \
	X(12, NUMBER, made_at, "by the system's monotonic clock")                                  \
	X(13, NUMBER, pid, "of its cancel key")                                                    \
	X(14, BYTES, secret, "the same")                                                           \
	X(15, PAIRS, params, "that it has reported")

#define SERVER_PASSPORT_CAPPED   1 /* its startup packet asks for the tier's statement_timeout */

#define PASSPORT_TYPE_TEXT       const char *
#define PASSPORT_TYPE_NUMBER     uint64_t
#define PASSPORT_TYPE_BYTES      struct slice
#define PASSPORT_TYPE_PAIRS      struct slice
#define PASSPORT_TYPE_STATEMENTS struct slice

struct passport {
#define X(number, kind, name, what) PASSPORT_TYPE_##kind name;
	PASSPORT_FIELDS(X)
#undef X
	struct buf bytes; /* that the fields point into, when it was decoded */
};

struct server_passport {
#define X(number, kind, name, what) PASSPORT_TYPE_##kind name;
	SERVER_PASSPORT_FIELDS(X)
#undef X
	struct buf bytes; /* the same */
};

/* The longest that is taken in: more than max_client_prepared_memory usually allows. */
#define PASSPORT_MAX (256u << 20)

void passport_put(struct buf *out, const struct passport *p);
/* Takes the bytes, also when they make no sense (false, *e). */
bool passport_take(struct passport *p, struct buf *bytes, struct err *e);
/* Wipes what it kept; harmless for a zeroed one. */
void passport_fini(struct passport *p);

/* The same of a server's. */
void server_passport_put(struct buf *out, const struct server_passport *p);
bool server_passport_take(struct server_passport *p, struct buf *bytes, struct err *e);
void server_passport_fini(struct server_passport *p);

void passport_put_pair(struct buf *out, const char *name, const char *value);
bool passport_next_pair(struct slice *pairs, const char **name, const char **value);

struct passport_statement {
	const char *name;  /* "": the unnamed one */
	bool is_outdated;  /* the client knows a result that it has no more … */
	bool is_told;      /* … or its result … */
	uint64_t result;   /* … which has this digest; 0: that is not known */
	struct slice body; /* of its Parse, from the text on */
};

void passport_put_statement(struct buf *out, const struct passport_statement *st);
bool passport_next_statement(struct slice *statements, struct passport_statement *st);

#endif
