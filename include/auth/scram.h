/* SPDX-License-Identifier: ISC
 *
 * scram.h - SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both roles.
 *
 * Sources: RFC 5802 (messages), RFC 7677 (SHA-256), RFC 5929, 4 (what PLUS binds to), PostgreSQL
 * manual, "SASL Authentication".  Each role is a small machine: bytes of a SASL message in, bytes
 * of the next one out.  A message is refused when it comes out of turn, is longer than
 * SCRAM_MAX_MESSAGE, or has an attribute missing, doubled or in another place; after a refusal the
 * exchange is over.  On false *e says why, and nothing was appended to the output.  An exchange
 * belongs to one thread; secrets may be shared.
 *
 * PLUS binds an exchange to the TLS connection that it goes through: both sides say what they see
 * of it, under the proof, so that one who sits between two connections is found out.  What they see
 * is the digest of the server's certificate, "tls-server-end-point"; the caller knows it.
 */
#ifndef PGT_AUTH_SCRAM_H
#define PGT_AUTH_SCRAM_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define SCRAM_MECHANISM      "SCRAM-SHA-256"
#define SCRAM_MECHANISM_PLUS "SCRAM-SHA-256-PLUS"
#define SCRAM_KEY_LEN        32
#define SCRAM_MAX_SALT       64
/* Of a salt that we draw, as PostgreSQL's. */
#define SCRAM_SALT_LEN           16
#define SCRAM_DEFAULT_ITERATIONS 4096
/* A hash costs about 0.3 µs per iteration, on the thread that serves all other connections. */
#define SCRAM_MAX_ITERATIONS 100000
/* What binds: the longest digest that there is. */
#define SCRAM_MAX_BINDING 64
/* Of one side's part. */
#define SCRAM_MAX_NONCE   256
#define SCRAM_MAX_MESSAGE 2048
/* Room for our own part of the nonce and a NUL: 24 characters, tests give others. */
#define SCRAM_NONCE_CAP 64

/* A key of HMAC-SHA-256, hashed as far as that goes without a text (RFC 2104, 4): half of the work
 * for texts as short as those of a login.  As secret as the key. */
struct scram_mac {
	uint32_t inner[8], outer[8];
};

/* What a server stores for one user. */
struct scram_secret {
	uint32_t iterations;
	uint8_t salt[SCRAM_MAX_SALT];
	size_t salt_len;
	uint8_t stored_key[SCRAM_KEY_LEN];
	uint8_t server_key[SCRAM_KEY_LEN];
	struct scram_mac stored_mac, server_mac; /* of the two keys */
};

/* Reads "SCRAM-SHA-256$iterations:salt$stored:server" as in pg_authid; false when it is not that.
 * Any number of iterations up to 2^31-1: the one who logs in computes them. */
bool scram_secret_parse(struct slice text, struct scram_secret *out) PGT_MUST_USE;

/* The secret of a password, which is prepared as in auth/saslprep.h.  Takes the time of
 * `iterations` (1 to 2^31-1) hashes; salt_len is 1 to SCRAM_MAX_SALT. */
void scram_secret_make(struct slice password, uint32_t iterations, const uint8_t *salt,
		       size_t salt_len, struct scram_secret *out);

/* A secret that no password fits, for a user who does not exist or has none: it looks like a stored
 * one and is the same at each try of the same user, as long as salt_key is; NULL: one that is drawn
 * for this process.  Takes about a microsecond, which password_scram_secret() of auth/verify.h
 * spends for known users too. */
void scram_secret_mock(const struct scram_mac *salt_key, struct slice user, uint32_t iterations,
		       struct scram_secret *out);
/* A salt_key, of something that no stranger knows and no guess finds: what is told of it is told to
 * whoever asks. */
void scram_salt_key(struct slice material, struct scram_mac *salt_key);

/* The message that is due. */
enum scram_due { SCRAM_DUE_FIRST, SCRAM_DUE_FINAL, SCRAM_DUE_VERIFY, SCRAM_DUE_NOTHING };

/* --- server role --- */

struct scram_server {
	enum scram_due due;
	struct scram_secret secret;
	char nonce[SCRAM_NONCE_CAP]; /* our part */
	bool is_bound;               /* PLUS was selected */
	uint8_t binding[SCRAM_MAX_BINDING];
	size_t binding_len; /* 0: PLUS is not offered */
	const char *header; /* with which the client has begun, as it was read */
	size_t nonce_len;   /* of both parts, which stand in auth at nonce_at */
	size_t nonce_at;
	struct buf auth; /* RFC 5802 AuthMessage, as far as it goes */
};

/* Copies secret and binding, which is empty where there is no TLS, or nothing to bind to.  nonce
 * NULL draws one; tests give theirs, shorter than SCRAM_NONCE_CAP. */
void scram_server_init(struct scram_server *s, const struct scram_secret *secret,
		       struct slice binding, const char *nonce);

/* Appends the mechanisms, best first, each with its NUL. */
void scram_server_offer(const struct scram_server *s, struct buf *out);
/* False: that one was not offered. */
bool scram_server_select(struct scram_server *s, struct slice mechanism) PGT_MUST_USE;

/* Takes the client-first-message, appends the server-first-message.  The user name in it is
 * ignored as in PostgreSQL: who logs in was settled by the startup packet.  28P01 is only given by
 * scram_server_final(); other refusals are 08P01 or 0A000, or 28000 where the binding, or what the
 * client heard of it, is not ours. */
bool scram_server_first(struct scram_server *s, struct slice client_first, struct buf *server_first,
			struct err *e) PGT_MUST_USE;

/* Takes the client-final-message and appends the server-final-message when the client has proved
 * that it knows the password.  client_key then is its ClientKey, with which we can log in as it
 * wherever the same secret is stored; the caller wipes it.  On false it is all zero. */
bool scram_server_final(struct scram_server *s, struct slice client_final, struct buf *server_final,
			uint8_t client_key[SCRAM_KEY_LEN], struct err *e) PGT_MUST_USE;

/* Wipes and frees; s may be initialised again. */
void scram_server_fini(struct scram_server *s);

/* --- client role --- */

struct scram_client {
	enum scram_due due;
	bool has_keys;
	struct buf password; /* prepared */
	char nonce[SCRAM_NONCE_CAP];
	const char *header; /* what it says of bindings */
	uint8_t binding[SCRAM_MAX_BINDING];
	size_t binding_len;
	struct buf auth;
	uint8_t client_key[SCRAM_KEY_LEN];
	uint8_t server_key[SCRAM_KEY_LEN];
	uint8_t server_signature[SCRAM_KEY_LEN];
};

/* Keeps a prepared copy of the password until fini. */
void scram_client_init_password(struct scram_client *c, struct slice password);

/* With keys from the user's own login (scram_server_final(), and server_key of the secret).  They
 * fit only where the server stores the same secret; that its salt and iterations are the same is
 * not checked here, the server just refuses the proof.  Costs no iterations, so none are too many.
 */
void scram_client_init_keys(struct scram_client *c, const uint8_t client_key[SCRAM_KEY_LEN],
			    const uint8_t server_key[SCRAM_KEY_LEN]);

/* Before the first message.  Not called: it can bind to nothing. */
enum scram_binding {
	SCRAM_IS_BOUND,    /* it has selected PLUS */
	SCRAM_NOT_OFFERED, /* it would; a server that has offered PLUS finds out that this was lost
			    */
};
void scram_client_bind(struct scram_client *c, enum scram_binding how, struct slice binding);

/* Appends the client-first-message. */
void scram_client_first(struct scram_client *c, struct buf *out);

/* Takes the server-first-message, appends the client-final-message.  With a password this takes the
 * time of the server's iterations, at most SCRAM_MAX_ITERATIONS.  client_key and server_key are set
 * after it and proved right by scram_client_verify(): a caller may keep them for
 * scram_client_init_keys() to save the time at the next login to the same server. */
bool scram_client_final(struct scram_client *c, struct slice server_first, struct buf *out,
			struct err *e) PGT_MUST_USE;

/* Takes the server-final-message: true only when the server has proved that it knows the secret.
 * Its own refusal (e=…) is reported with 28P01. */
bool scram_client_verify(struct scram_client *c, struct slice server_final,
			 struct err *e) PGT_MUST_USE;

/* Wipes and frees. */
void scram_client_fini(struct scram_client *c);

#endif
