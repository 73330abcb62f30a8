/* SPDX-License-Identifier: ISC
 *
 * jwt.h - JSON Web Tokens as passwords: RFC 7519, signed (RFC 7515), with keys of RFC 7517.
 *
 * The kind of a key says with which algorithms it may be used, never the token: a public key is no
 * secret of HMAC, and "none" is no algorithm.  Keys never change once parsed, so threads may share
 * them.  Takes the time as a number; opens no file.
 */
#ifndef PGT_AUTH_JWT_H
#define PGT_AUTH_JWT_H

#include "base/err.h"
#include "base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Longer ones are none. */
#define JWT_MAX 16384

struct jwt_keys;

struct jwt_keys *jwt_keys_new(void);
void jwt_keys_free(struct jwt_keys *keys); /* wipes; NULL is fine */
/* Adds public keys: PEM, or a set of JSON Web Keys when it begins with a brace.  False: *e; keys of
 * a set that are of no use here are left out, but one there has to be. */
bool jwt_keys_add_public(struct jwt_keys *keys, struct slice text, struct err *e) PGT_MUST_USE;
/* Adds a secret of HMAC; blank space at its end is no part of it. */
bool jwt_keys_add_secret(struct jwt_keys *keys, struct slice text, struct err *e) PGT_MUST_USE;

/* Whether there is such an algorithm. */
bool jwt_knows_algorithm(struct slice name);

/* What a token has to be. */
struct jwt_rules {
	const struct jwt_keys *keys;
	const char *algorithms;   /* a list */
	const char *audience;     /* that it is for: never "" */
	const char *issuer;       /* "": any */
	const char *role_claim;   /* of the users that it is for: a text, or several */
	const char *tenant_claim; /* of the id of a tenant; NULL: not asked for */
	int64_t leeway;           /* seconds that clocks may differ */
};

/* What it says. */
struct jwt {
	char *roles;  /* one after the other, each with its NUL, and one NUL more */
	char *tenant; /* NULL: there is none */
};

void jwt_fini(struct jwt *jwt);

/* Whether it is signed by one of the keys, and holds `now`, in seconds since 1970.  False: *e, for
 * the log, which tells nothing of what it says unless it is signed.  jwt_fini() afterwards,
 * whatever it says. */
bool jwt_check(const struct jwt_rules *rules, struct slice token, int64_t now, struct jwt *out,
	       struct err *e) PGT_MUST_USE;

#endif
